//! A source, a destination and a protocol in, what became of one real connection out.
//!
//! A denied packet is dropped in silence (ACT-2), so *drop* is a time-out. A reset or an ICMP error is neither pass nor drop and
//! meets no expectation. Probes run in the namespace of the calling thread.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// How long silence lasts until it counts as a drop. Longer than the second after which a lost SYN is sent again.
pub const TIMEOUT: Duration = Duration::from_millis(1500);
/// How long to wait for what must come: a machine that is busy with something else may take a while, and only a failure takes this long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before a datagram is sent again.
const PAUSE: Duration = Duration::from_millis(500);
const PAYLOAD: &[u8] = b"ringwall lab";

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A connection and one echoed message.
    Tcp,
    /// One echoed datagram.
    Udp,
    /// An ICMP or ICMPv6 echo request.
    Ping,
}

impl Transport {
    /// The word used on the command line and in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Ping => "ping",
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The echo came back after this time.
    Pass(Duration),
    /// Nothing came back.
    Drop,
    /// Somebody answered, but not with the echo.
    Refused(String),
}

impl Seen {
    /// `pass`, `drop` or `refused`.
    pub const fn word(&self) -> &'static str {
        match self {
            Seen::Pass(_) => "pass",
            Seen::Drop => "drop",
            Seen::Refused(_) => "refused",
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Refused(why) => write!(f, "refused: {why}"),
            other => f.write_str(other.word()),
        }
    }
}

/// Tries once; nothing for as long as `patience` is a drop. `source_port` 0 lets the kernel choose; ping has no ports.
pub fn probe(transport: Transport, from: IpAddr, source_port: u16, to: SocketAddr, patience: Duration) -> Seen {
    let started = Instant::now();
    let from = SocketAddr::new(from, source_port);
    let outcome = match transport {
        Transport::Tcp => tcp(from, to, patience),
        Transport::Udp => udp(from, to, patience),
        Transport::Ping => ping(from, to, patience),
    };
    match outcome {
        Ok(()) => Seen::Pass(started.elapsed()),
        Err(e) => seen_of(&e),
    }
}

/// What an error of a socket says: silence, or somebody's refusal.
pub fn seen_of(error: &io::Error) -> Seen {
    if is_silence(error) { Seen::Drop } else { Seen::Refused(error.to_string()) }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

fn tcp(from: SocketAddr, to: SocketAddr, patience: Duration) -> io::Result<()> {
    connect(from, to, patience)?.echo()
}

/// An open TCP connection to an echo server.
#[derive(Debug)]
pub struct Connection(TcpStream);

/// Opens a TCP connection from an address and port, or from a port that the kernel chooses if that one is taken. It waits for the other
/// side for as long as `patience`, now and later.
///
/// # Errors
/// `TimedOut` when nothing came back, whatever the kernel says otherwise.
pub fn connect(from: SocketAddr, to: SocketAddr, patience: Duration) -> io::Result<Connection> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    bind(&socket, from)?;
    socket.connect_timeout(&to.into(), patience)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    Ok(Connection(socket.into()))
}

impl Connection {
    /// Sends a message and waits for it to come back.
    pub fn echo(&mut self) -> io::Result<()> {
        self.0.write_all(PAYLOAD)?;
        let mut answer = [0; PAYLOAD.len()];
        self.0.read_exact(&mut answer)?;
        require_payload(&answer)
    }

    /// Sends `length` pseudo-random bytes, reads them back at the same time and compares every one. Returns the time it took.
    pub fn transfer(mut self, length: u64) -> io::Result<Duration> {
        let started = Instant::now();
        let mut sender = self.0.try_clone()?;
        let sending = thread::spawn(move || {
            let mut pattern = Pattern::default();
            for_each_chunk(length, |chunk| {
                pattern.fill(chunk);
                sender.write_all(chunk)
            })
        });
        let mut expected = Pattern::default();
        let received = for_each_chunk(length, |chunk| {
            self.0.read_exact(chunk)?;
            if expected.matches(chunk) { Ok(()) } else { Err(io::Error::other("bytes came back changed")) }
        });
        if received.is_err() {
            // Lets the sender end, too.
            self.0.shutdown(std::net::Shutdown::Both)?;
        }
        let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        received.and(sent)?;
        Ok(started.elapsed())
    }
}

fn for_each_chunk(length: u64, mut work: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
    const CHUNK: usize = 64 * 1024;
    let mut buffer = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let size = left.min(CHUNK as u64) as usize;
        work(&mut buffer[..size])?;
        left -= size as u64;
    }
    Ok(())
}

/// The same bytes on both ends: a 64-bit xorshift, one byte of each step.
#[derive(Clone, Debug)]
struct Pattern(u64);

impl Default for Pattern {
    fn default() -> Pattern {
        Pattern(0x9e37_79b9_7f4a_7c15)
    }
}

impl Pattern {
    fn next(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u8
    }

    fn fill(&mut self, chunk: &mut [u8]) {
        chunk.iter_mut().for_each(|byte| *byte = self.next());
    }

    fn matches(&mut self, chunk: &[u8]) -> bool {
        chunk.iter().fold(true, |same, byte| (self.next() == *byte) & same)
    }
}

fn udp(from: SocketAddr, to: SocketAddr, patience: Duration) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    bind(&socket, from)?;
    socket.connect(&to.into())?;
    let mut answer = [0; PAYLOAD.len()];
    let length = ask(&socket, PAYLOAD, &mut answer, patience)?;
    require_payload(answer.get(..length).unwrap_or_default())
}

/// A socket of the kernel's own ping: it fills in checksum and identifier and delivers only the answers to them.
fn ping(from: SocketAddr, to: SocketAddr, patience: Duration) -> io::Result<()> {
    let (domain, protocol, request, reply) = match to {
        SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.bind(&SocketAddr::new(from.ip(), 0).into())?;
    socket.connect(&SocketAddr::new(to.ip(), 0).into())?;
    // Type, code, checksum, identifier, sequence number (RFC 792, RFC 4443 section 4.1).
    let mut message = [request, 0, 0, 0, 0, 0, 0, 1].to_vec();
    message.extend_from_slice(PAYLOAD);
    let mut answer = [0; 8 + PAYLOAD.len()];
    let length = ask(&socket, &message, &mut answer, patience)?;
    match answer.get(..length) {
        Some([kind, _, _, _, _, _, _, _, payload @ ..]) if *kind == reply => require_payload(payload),
        _ => Err(io::Error::other("not an echo reply")),
    }
}

fn bind(socket: &Socket, from: SocketAddr) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    match socket.bind(&from.into()) {
        Err(e) if e.kind() == ErrorKind::AddrInUse => socket.bind(&SocketAddr::new(from.ip(), 0).into()),
        other => other,
    }
}

/// Sends a datagram again and again until there is an answer, for as long as `patience`.
fn ask(socket: &Socket, message: &[u8], answer: &mut [u8], patience: Duration) -> io::Result<usize> {
    socket.set_read_timeout(Some(PAUSE))?;
    let mut socket: &Socket = socket;
    let started = Instant::now();
    loop {
        socket.send(message)?;
        match socket.read(answer) {
            Err(e) if is_silence(&e) => {}
            other => return other,
        }
        if started.elapsed() >= patience {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

fn require_payload(answer: &[u8]) -> io::Result<()> {
    if answer == PAYLOAD { Ok(()) } else { Err(io::Error::other("the echo is not what was sent")) }
}

#[cfg(test)]
mod tests {
    use super::super::echo;
    use super::*;
    use std::net::{Ipv4Addr, UdpSocket};

    /// An address of one test: the ports that it finds free stay so, whatever tests run beside it.
    const fn host(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 77, 0, number))
    }

    /// An echo server on a port that was free a moment ago.
    fn server(here: IpAddr) -> SocketAddr {
        let port = UdpSocket::bind((here, 0)).unwrap().local_addr().unwrap().port();
        let (ready, is_ready) = std::sync::mpsc::channel();
        thread::spawn(move || echo::serve(&[here], &[port], || ready.send(()).unwrap()));
        is_ready.recv().unwrap();
        SocketAddr::new(here, port)
    }

    #[test]
    fn an_echo_is_a_pass() {
        let to = server(host(1));
        for transport in [Transport::Tcp, Transport::Udp] {
            assert_eq!(probe(transport, host(1), 0, to, PATIENCE).word(), "pass", "{transport:?}");
        }
    }

    #[test]
    fn a_closed_port_is_refused_and_not_dropped() {
        let closed = UdpSocket::bind((host(2), 0)).unwrap().local_addr().unwrap();
        for transport in [Transport::Tcp, Transport::Udp] {
            assert_eq!(probe(transport, host(2), 0, closed, PATIENCE).word(), "refused", "{transport:?}");
        }
    }

    #[test]
    fn silence_is_a_drop() {
        let silent = UdpSocket::bind((host(3), 0)).unwrap();
        let seen = probe(Transport::Udp, host(3), 0, silent.local_addr().unwrap(), TIMEOUT);
        assert_eq!(seen, Seen::Drop, "ACT-2");
    }

    #[test]
    fn a_transfer_compares_every_byte() {
        connect(SocketAddr::new(host(4), 0), server(host(4)), PATIENCE).unwrap().transfer(300_001).unwrap();
        let mut pattern = Pattern::default();
        let mut bytes = [0; 32];
        pattern.fill(&mut bytes);
        assert!(Pattern::default().matches(&bytes));
        bytes[31] ^= 1;
        assert!(!Pattern::default().matches(&bytes));
    }
}
