//! Addresses and ports in, servers that send back what they get out: TCP and UDP, one thread each.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::{self, JoinHandle};

use super::LabError;

/// Ports that answer on every address of the workers' side: the load balancer's, the node port, the borders of the node port
/// range and both sides of them, a port of the worker itself and one that failsafe keeps open.
pub const PORTS: [u16; 8] = [22, 80, 8080, 29999, 30000, 31024, 32767, 32768];

/// Largest datagram echoed, in bytes.
const DATAGRAM: usize = 65_535;
/// Bytes moved at once by a TCP server.
const CHUNK: usize = 64 * 1024;
/// Stack of a server's thread in bytes: its buffer is on the heap.
const STACK: usize = 128 * 1024;

/// Serves all ports on all addresses until the process ends; calls `ready` when all are open. An address family that the kernel
/// does not have is left out.
///
/// # Errors
/// The first address and port that cannot be opened.
pub fn serve(addresses: &[IpAddr], ports: &[u16], ready: impl FnOnce()) -> Result<(), LabError> {
    let mut servers = Vec::new();
    for address in addresses {
        for port in ports {
            let at = SocketAddr::new(*address, *port);
            match open(at) {
                Ok(opened) => servers.extend(opened),
                Err(e) if address.is_ipv6() && e.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {}
                Err(e) => return Err(LabError::system(format!("opening `{at}`"), e)),
            }
        }
    }
    ready();
    for server in servers {
        // A server's thread ends only with the process; a panic in one must not end the others.
        let _ = server.join();
    }
    Ok(())
}

fn open(at: SocketAddr) -> io::Result<[JoinHandle<()>; 2]> {
    let listener = TcpListener::bind(at)?;
    let socket = UdpSocket::bind(at)?;
    let thread = |name: &str| thread::Builder::new().name(format!("{name} {at}")).stack_size(STACK);
    Ok([thread("tcp").spawn(move || accept_all(&listener))?, thread("udp").spawn(move || return_datagrams(&socket))?])
}

fn accept_all(listener: &TcpListener) {
    for connection in listener.incoming().flatten() {
        // Too many threads: the connection is closed by dropping it, and the client sees that.
        let _ = thread::Builder::new().stack_size(STACK).spawn(move || return_stream(connection));
    }
}

fn return_stream(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = connection.read(&mut buffer)?;
        match buffer.get(..length) {
            Some([]) | None => return Ok(()),
            Some(data) => connection.write_all(data)?,
        }
    }
}

fn return_datagrams(socket: &UdpSocket) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // An error here is an ICMP message about an earlier answer: the client is gone, the server stays.
        if let Ok((length, from)) = socket.recv_from(&mut buffer)
            && let Some(data) = buffer.get(..length)
        {
            let _ = socket.send_to(data, from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_return_what_they_get() {
        let at: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = TcpListener::bind(at).unwrap();
        let tcp = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(at).unwrap();
        let udp = socket.local_addr().unwrap();
        thread::spawn(move || accept_all(&listener));
        thread::spawn(move || return_datagrams(&socket));

        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.write_all(b"over tcp").unwrap();
        let mut buffer = [0; 8];
        stream.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"over tcp");

        let client = UdpSocket::bind(at).unwrap();
        client.send_to(b"over udp", udp).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (8, udp));
        assert_eq!(&buffer, b"over udp");
    }
}
