//! A thousand TCP connections through the gateway as it is installed, over links that lose 2 % of the frames in front of it: none
//! breaks, and none is remembered afterwards. Each direction comes in by a queue of its own, so that flows meet at their owners
//! only by hand-over. Needs root and AF_XDP; skips with a printed reason otherwise.

use std::env;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

#[path = "af_xdp/lab.rs"]
#[allow(dead_code)]
mod lab;

use lab::{Lab, PATIENCE, SERVER, ip, is_possible, signal, until};

const CONNECTIONS: u32 = 1000;
/// Connections at a time.
const ABREAST: u32 = 64;
/// Client addresses: the pair of addresses decides which worker owns a flow.
const CLIENTS: u32 = 16;
const PORT: u16 = 7000;
/// How long the server waits for a reset that may be lost.
const RESET_PATIENCE: Duration = Duration::from_secs(3);
/// The longest timeout in the gateway file, and what a worker may take on a busy machine to get to it.
const FORGOTTEN: Duration = Duration::from_secs(7 + 5);

const GATEWAY: &str = "
apiVersion: ringwall/v1
kind: Gateway
node: lab-gateway
profile: profile.yaml
ports: { uplink: { interface: up0 }, downlink: { interface: dn0 } }
policy: [policy.yaml]
flows:
  capacity: 8192
  loose: false
  timeouts: { tcpSynSent: 7, tcpSynRecv: 7, tcpEstablished: 7, tcpFinWait: 7, tcpCloseWait: 7, tcpLastAck: 7, tcpTimeWait: 3, tcpClose: 5 }
";

const PROFILE: &str = "
apiVersion: ringwall/v1
kind: HardwareProfile
name: two-queues
driver: veth
tested: true
mode: copy
queues: 2
rings: { receive: 2048, transmit: 2048 }
frames: { size: 2048 }
poll: adaptive
";

/// The server may be asked, and says nothing on its own: what it sends passes as an answer or not at all.
const POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: server, labels: { role: server } }
spec: { node: server, interfaceName: eth0, expectedIPs: [10.99.7.2] }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: answers-only }
spec:
  selector: role == 'server'
  types: [Ingress, Egress]
  ingress: [{ action: Allow, protocol: TCP, destination: { ports: [7000] } }]
";

/// Drops 2 % of what a host sends; says why not where the kernel has neither way.
fn lose_frames(lab: &Lab, namespace: &str) -> Result<(), String> {
    let run = |program: &str, arguments: &[&str]| {
        let done = lab.inside(namespace, program).args(arguments).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        if done.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
    };
    let rules = "add table netdev loss; \
        add chain netdev loss sent { type filter hook egress device eth0 priority 0; }; \
        add rule netdev loss sent numgen random mod 100 < 2 drop";
    run("tc", &["qdisc", "add", "dev", "eth0", "root", "netem", "loss", "2%"])
        .or_else(|tc| run("nft", &[rules]).map_err(|nft| format!("{tc}; {nft}")))
}

/// Has a host send everything by one of its two queues (transmit packet steering), which the gateway's port receives by the queue
/// of the same number.
fn send_by_queue(lab: &Lab, namespace: &str, queue: u32) -> bool {
    // A mask longer than the machine's cores is refused.
    let mut script = "all=$(printf %x $(( (1 << $(nproc --all)) - 1 )))".to_owned();
    for number in 0..2 {
        let cores = if number == queue { "$all" } else { "0" };
        let _ = write!(script, " && echo {cores} > /sys/class/net/eth0/queues/tx-{number}/xps_cpus");
    }
    lab.inside(namespace, "sh").args(["-c", &script]).output().is_ok_and(|done| done.status.success())
}

/// Segments that a host has sent again so far (RFC 1213, tcpRetransSegs).
fn retransmitted(lab: &Lab, namespace: &str) -> u64 {
    let read = lab.inside(namespace, "cat").arg("/proc/net/snmp").output().unwrap();
    let text = String::from_utf8(read.stdout).unwrap();
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(|line| line.split(' '));
    let (mut names, mut numbers) = (rows.next().unwrap(), rows.next().unwrap());
    let at = names.position(|name| name == "RetransSegs").unwrap();
    numbers.nth(at).unwrap().parse().unwrap()
}

/// Connections that a host may yet send something about: all but those that wait in TIME-WAIT, and the listener (the states of
/// `/proc/net/tcp` are 6 and 10).
fn open_connections(lab: &Lab, namespace: &str) -> usize {
    let read = lab.inside(namespace, "cat").arg("/proc/net/tcp").output().unwrap();
    let text = String::from_utf8(read.stdout).unwrap();
    let states = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
    states.filter(|state| !["06", "0A"].contains(state)).count()
}

#[test]
fn a_thousand_connections_over_lossy_links_survive_and_are_forgotten() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(2);
    for namespace in ["c", "s"] {
        if let Err(reason) = lose_frames(&lab, namespace) {
            println!("skipped: no way to lose frames: {reason}");
            return;
        }
    }
    if !(send_by_queue(&lab, "c", 0) && send_by_queue(&lab, "s", 1)) {
        println!("skipped: the kernel does not let a sender choose its queue");
        return;
    }
    for client in 0..CLIENTS {
        ip(&["-n", &lab.namespace("c"), "addr", "add", &format!("{}/24", client_address(client)), "dev", "eth0"]);
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("gateway.yaml", GATEWAY), ("profile.yaml", PROFILE), ("policy.yaml", POLICY)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let mut gateway = lab.inside("g", env!("CARGO_BIN_EXE_ringwall"));
    gateway.args(["run", "-o", "json", "--gateway"]).arg(directory.path().join("gateway.yaml"));
    let Some((index, port)) = start(&mut lab, gateway, "ready") else { return };

    let began = Instant::now();
    let mut server = lab.role("s", "serve", &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(server.stdout.take().unwrap());
    lab.children.push(server);
    let mut said = String::new();
    while !said.contains("listening") {
        assert_ne!(told.read_line(&mut said).unwrap(), 0, "the server ended: {said}");
    }
    let listener = thread::spawn(move || {
        let mut rest = String::new();
        let _ = told.read_to_string(&mut rest);
        rest
    });
    let client = lab.role("c", "connect", &[]).output().unwrap();
    let complaint = String::from_utf8_lossy(&client.stderr).into_owned() + &String::from_utf8_lossy(&client.stdout);
    assert!(client.status.success(), "clients: {complaint}");
    let busy = began.elapsed();
    let again = retransmitted(&lab, "c") + retransmitted(&lab, "s");
    assert!(again > 20, "the links lose frames: {again} were sent again");
    // The hosts send what was lost again for a while; after the last packet every flow's time runs out.
    let is_over = || ["c", "s"].iter().all(|namespace| open_connections(&lab, namespace) == 0);
    until(is_over, || format!("{:?} connections are still open", ["c", "s"].map(|n| open_connections(&lab, n))));
    thread::sleep(FORGOTTEN);

    let summary = stop(lab.children.remove(index), port);
    let mut server = lab.children.pop().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let served = listener.join().unwrap();
    println!("{CONNECTIONS} connections in {busy:.1?}, {again} segments sent again: {summary}");
    let broken: Vec<&str> = served.lines().filter(|line| line.starts_with("broken")).collect();
    assert!(broken.is_empty(), "{broken:?}");
    assert_eq!(served.lines().filter(|line| line.starts_with("done")).count(), CONNECTIONS as usize, "{served}");

    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let number = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!((number("flows"), number("lost_frames")), (0, 0), "{summary}");
    // One direction of each flow comes in by a queue of another worker, whoever owns it.
    assert!(number("handed_over") * 10 > number("packets") * 3, "{summary}");
    let of = |verdict: &str, reason: &str| {
        let rows = summary["reasons"].as_array().unwrap();
        let row = rows.iter().find(|row| row["verdict"] == verdict && row["reason"] == reason);
        row.map_or(0, |row| row["packets"].as_u64().unwrap())
    };
    assert!(of("allow", "policy-allow") >= u64::from(CONNECTIONS), "{summary}");
    assert!(of("allow", "established") > 10 * u64::from(CONNECTIONS), "{summary}");
    let limits: u64 = ["half-open-limit", "flow-table-full", "no-policy-deny"].iter().map(|r| of("deny", r)).sum();
    assert_eq!(limits, 0, "{summary}");
}

/// Starts a process in the lab and waits until it says a word on standard error; its place among the children, and what it will
/// print. `None`, with the reason printed, where it lacks a privilege.
fn start(lab: &mut Lab, mut command: std::process::Command, word: &str) -> Option<(usize, impl Read + use<>)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(word) {
        if talk.read_line(&mut said).unwrap() == 0 {
            let code = child.wait().unwrap().code();
            assert_eq!(code, Some(5), "{said}");
            println!("skipped: {said}");
            return None;
        }
    }
    thread::spawn(move || std::io::copy(&mut talk, &mut std::io::sink()));
    let output = child.stdout.take().unwrap();
    lab.children.push(child);
    Some((lab.children.len() - 1, output))
}

fn stop(mut gateway: Child, mut output: impl Read) -> String {
    signal(&gateway, "TERM");
    let mut summary = String::new();
    output.read_to_string(&mut summary).unwrap();
    assert!(gateway.wait().unwrap().success(), "{summary}");
    summary
}

#[test]
#[ignore = "a role that the other test starts"]
fn in_a_role() {
    match env::var("RINGWALL_ROLE").unwrap_or_default().as_str() {
        "serve" => serve(),
        "connect" => connect_all(),
        _ => println!("skipped: no role given"),
    }
}

fn client_address(client: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 7, 101 + (client % CLIENTS) as u8)
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closes its half, then reads what it sent.
    ClientFirst,
    /// The server closes its half behind the answer; the client sends on, then closes.
    ServerFirst,
    /// The client resets after the answer.
    ClientResets,
    /// The server resets after one byte more.
    ServerResets,
}

impl End {
    fn of(number: u8) -> End {
        [End::ClientFirst, End::ServerFirst, End::ClientResets, End::ServerResets][usize::from(number % 4)]
    }
}

/// What connection `n` carries each way: 1 to 24,000 bytes.
fn payload(n: u32) -> Vec<u8> {
    (0..1 + n * 7919 % 24_000).map(|i| (i * 31 + n) as u8).collect()
}

const TAIL: usize = 3_000;

type Outcome = Result<(), String>;

fn talk<T>(what: &str, result: std::io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn serve() {
    let listener = TcpListener::bind((SERVER, PORT)).unwrap();
    println!("listening");
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        thread::spawn(move || match answer(stream) {
            Ok(()) => println!("done"),
            Err(error) => println!("broken {error}"),
        });
    }
}

fn answer(mut stream: TcpStream) -> Outcome {
    talk("timeout", stream.set_read_timeout(Some(PATIENCE)))?;
    let mut head = [0; 5];
    talk("head", stream.read_exact(&mut head))?;
    let [end, n @ ..] = head;
    let (end, n) = (End::of(end), u32::from_be_bytes(n));
    let expected = payload(n);
    let mut data = vec![0; expected.len()];
    talk(&format!("request {n} {end:?}"), stream.read_exact(&mut data))?;
    if data != expected {
        return Err(format!("request {n} differs"));
    }
    talk(&format!("answer {n} {end:?}"), stream.write_all(&data))?;
    let mut rest = Vec::new();
    match end {
        End::ClientFirst => {
            talk(&format!("end {n} {end:?}"), stream.read_to_end(&mut rest))?;
            if rest.is_empty() { Ok(()) } else { Err(format!("connection {n}: more than was sent")) }
        }
        End::ServerFirst => {
            talk("half-close", stream.shutdown(std::net::Shutdown::Write))?;
            talk(&format!("tail {n}"), stream.read_to_end(&mut rest))?;
            if rest == [7; TAIL] { Ok(()) } else { Err(format!("tail of {n} differs: {}", rest.len())) }
        }
        End::ClientResets => {
            talk("timeout", stream.set_read_timeout(Some(RESET_PATIENCE)))?;
            match stream.read(&mut [0; 1]) {
                // The reset itself may be among what the link loses.
                Err(error) if is_reset(&error) || is_timeout(&error) => Ok(()),
                other => Err(format!("connection {n}: {other:?} in place of a reset")),
            }
        }
        End::ServerResets => {
            talk(&format!("last byte of {n}"), stream.read_exact(&mut [0; 1]))?;
            talk("linger", Socket::from(stream).set_linger(Some(Duration::ZERO)))
        }
    }
}

fn is_reset(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn connect_all() {
    let next = AtomicU32::new(0);
    let broken = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..ABREAST {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= CONNECTIONS {
                        break;
                    }
                    if let Err(error) = ask(n) {
                        broken.fetch_add(1, Ordering::Relaxed);
                        println!("connection {n}: {error}");
                    }
                }
            });
        }
    });
    assert_eq!(broken.into_inner(), 0, "connections broke");
}

fn ask(n: u32) -> Outcome {
    let socket = talk("socket", Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)))?;
    talk("bind", socket.bind(&SocketAddr::from((client_address(n / 4), 0)).into()))?;
    let server: Ipv4Addr = SERVER.parse().map_err(|error| format!("{error}"))?;
    talk("connect", socket.connect(&SocketAddr::from((server, PORT)).into()))?;
    let mut stream = TcpStream::from(socket);
    talk("timeout", stream.set_read_timeout(Some(PATIENCE)))?;
    let (end, data) = (End::of(n as u8), payload(n));
    let mut head = vec![n as u8];
    head.extend_from_slice(&n.to_be_bytes());
    talk("head", stream.write_all(&head))?;
    talk("request", stream.write_all(&data))?;
    if end == End::ClientFirst {
        talk("half-close", stream.shutdown(std::net::Shutdown::Write))?;
    }
    let mut answer = vec![0; data.len()];
    talk("answer", stream.read_exact(&mut answer))?;
    if answer != data {
        return Err(format!("{end:?}: the answer differs"));
    }
    let at_end = |stream: &mut TcpStream| match talk("end", stream.read(&mut [0; 1]))? {
        0 => Ok(()),
        _ => Err(format!("{end:?}: more than was asked for")),
    };
    match end {
        End::ClientFirst => at_end(&mut stream),
        End::ServerFirst => {
            at_end(&mut stream)?;
            talk("tail", stream.write_all(&[7; TAIL]))
        }
        End::ClientResets => talk("linger", Socket::from(stream).set_linger(Some(Duration::ZERO))),
        End::ServerResets => {
            talk("last byte", stream.write_all(&[1]))?;
            talk("timeout", stream.set_read_timeout(Some(Duration::from_millis(300))))?;
            let until = Instant::now() + PATIENCE;
            loop {
                // A reset that was lost comes again as the answer to more data.
                match stream.read(&mut [0; 1]) {
                    Err(error) if is_reset(&error) => return Ok(()),
                    Err(error) if is_timeout(&error) && Instant::now() < until => {}
                    other => return Err(format!("{other:?} in place of a reset")),
                }
                match stream.write(&[1]) {
                    Err(error) if is_reset(&error) => return Ok(()),
                    other => talk("more", other)?,
                };
            }
        }
    }
}
