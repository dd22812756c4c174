//! The gateway between real interfaces: namespaces and veth pairs of its own in, traffic through AF_XDP sockets out.
//!
//! Needs root and AF_XDP; skips with a printed reason otherwise. Each test makes three namespaces, `client - gateway - server`,
//! with unique names, and removes them again whatever happens. Everything that has to run inside a namespace is this test
//! binary again, started by `ip netns exec` in one of the roles at the end of this file.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ringwall::base::address::Direction;
use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::id::WorkerId;
use ringwall::base::site::Site;
use ringwall::base::time::Now;
use ringwall::compile;
use ringwall::control::daemon::{self, Reload, RunSettings, Summary};
use ringwall::engine::{self, Counters, Decision, Reason, Verdict};
use ringwall::io::ErrorClass;
use ringwall::io::xdp::{Mode, Settings};
use ringwall::packet;
use ringwall::policy::ir::Policy;
use ringwall::worker::{EngineJudge, Judge, Load, NoTap, PassAll};

const CLIENT: &str = "10.99.7.1";
const SERVER: &str = "10.99.7.2";
const BOX: &str = "10.99.7.3";
/// Bytes that go each way in a transfer.
const TRANSFER: usize = 50 << 20;

static LABS: AtomicU32 = AtomicU32::new(0);
/// One lab at a time: each has workers of its own, and there may be two cores.
static TURN: Mutex<()> = Mutex::new(());

/// Whether this machine can run the tests of this file; says why not, once per test.
fn is_possible() -> bool {
    static WHY_NOT: OnceLock<Option<&str>> = OnceLock::new();
    let why_not = WHY_NOT.get_or_init(obstacle);
    if let Some(reason) = why_not {
        eprintln!("skipped: {reason}");
    }
    why_not.is_none()
}

fn obstacle() -> Option<&'static str> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n");
    if !is_root {
        return Some("needs root for namespaces and AF_XDP");
    }
    let name = format!("rw{}-probe", std::process::id());
    let has_namespaces =
        Command::new("ip").args(["netns", "add", &name]).output().is_ok_and(|out| out.status.success());
    let _ = Command::new("ip").args(["netns", "del", &name]).output();
    (!has_namespaces).then_some("`ip netns add` does not work here")
}

/// Three namespaces and two veth pairs; gone when dropped, with all processes in them.
struct Lab {
    prefix: String,
    children: Vec<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    fn new(queues: u32) -> Lab {
        // A test that failed leaves nothing behind that would disturb the next.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("rw{}-{number}", std::process::id());
        let lab = Lab { prefix, children: Vec::new(), _turn: turn };
        let queues = queues.to_string();
        for role in ["c", "g", "s"] {
            ip(&["netns", "add", &lab.namespace(role)]);
        }
        for (far, port, address) in [("c", "up0", CLIENT), ("s", "dn0", SERVER)] {
            let (far_namespace, gateway) = (lab.namespace(far), lab.namespace("g"));
            ip(&[
                "link",
                "add",
                "eth0",
                "netns",
                &far_namespace,
                "numrxqueues",
                &queues,
                "numtxqueues",
                &queues,
                "type",
                "veth",
                "peer",
                "name",
                port,
                "netns",
                &gateway,
                "numrxqueues",
                &queues,
                "numtxqueues",
                &queues,
            ]);
            ip(&["-n", &far_namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
            ip(&["-n", &far_namespace, "link", "set", "eth0", "up"]);
            ip(&["-n", &gateway, "link", "set", port, "up"]);
        }
        lab
    }

    fn namespace(&self, role: &str) -> String {
        format!("{}-{role}", self.prefix)
    }

    fn inside(&self, namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(namespace), program]);
        command
    }

    /// This test binary again, in a role.
    fn role(&self, namespace: &str, role: &str, words: &[(&str, String)]) -> Command {
        let mut command = self.inside(namespace, env::current_exe().unwrap().to_str().unwrap());
        command.args(["in_a_role", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("RINGWALL_ROLE", role).envs(words.iter().map(|(name, value)| (*name, value.clone())));
        command.stdin(Stdio::null());
        command
    }

    /// Starts a gateway and waits until it forwards; gives its index among the children and what it said.
    fn gateway(&mut self, words: &[(&str, String)]) -> (usize, String) {
        let mut command = self.role("g", "gateway", words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("ready") {
            if talk.read_line(&mut said).unwrap() == 0 {
                panic!("the gateway ended: {said}");
            }
        }
        drain(talk);
        self.children.push(child);
        (self.children.len() - 1, said)
    }

    /// Ends a gateway in order and gives its summary, as text.
    fn stop(&mut self, index: usize) -> String {
        let mut child = self.children.remove(index);
        signal(&child, "TERM");
        let mut summary = String::new();
        child.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
        assert!(child.wait().unwrap().success(), "{summary}");
        assert_eq!(figure(&summary, "lost"), 0, "frames are conserved: {summary}");
        summary
    }

    fn refused(&self, mode: Mode, queues: u32) -> (i32, String) {
        let Output { status, stderr, .. } = self.role("g", "gateway", &words(mode, queues)).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn offloads(&self, namespace: &str, interface: &str, what: &[&str], value: &str) {
        for what in what {
            let done = self.inside(namespace, "ethtool").args(["-K", interface, what, value]).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
    }

    /// A TCP connection through the gateway that carries the transfer each way; panics if any byte differs.
    fn transfer(&mut self, bytes: usize) {
        let amount = [("RINGWALL_BYTES", bytes.to_string())];
        let mut server = self.role("s", "serve", &amount).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(server.stdout.take().unwrap());
        while !line.contains("listening") {
            assert_ne!(told.read_line(&mut line).unwrap(), 0, "the server ended: {line}");
        }
        self.children.push(server);
        let client = self.role("c", "connect", &amount).output().unwrap();
        let server = self.children.pop().unwrap().wait_with_output().unwrap();
        assert!(client.status.success(), "client: {}", String::from_utf8_lossy(&client.stderr));
        assert!(server.status.success(), "server: {}", String::from_utf8_lossy(&server.stderr));
    }

    /// Datagrams to and fro, small to full-sized, one at a time: nothing is held back, nothing is changed.
    fn datagrams(&mut self) {
        let mut server = self.role("s", "echo", &[]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(server.stdout.take().unwrap());
        while !line.contains("listening") {
            assert_ne!(told.read_line(&mut line).unwrap(), 0, "the server ended: {line}");
        }
        self.children.push(server);
        let client = self.role("c", "datagrams", &[]).output().unwrap();
        assert!(client.status.success(), "client: {}", String::from_utf8_lossy(&client.stderr));
        let mut server = self.children.pop().unwrap();
        let _ = server.kill();
        let _ = server.wait();
    }

    /// Whether a host answers a connection to a port that nobody serves: with a reset, at once.
    fn answers(&self, address: &str) -> bool {
        let client = self.role("c", "knock", &[("RINGWALL_ADDRESS", address.to_string())]).output().unwrap();
        client.status.success()
    }

    /// Echo requests, if there is a `ping`; whether all came back.
    fn ping(&self, address: &str) -> bool {
        match self.inside("c", "ping").args(["-c", "3", "-i", "0.2", "-W", "2", address]).output() {
            Ok(out) if String::from_utf8_lossy(&out.stderr).contains("No such file") => {
                eprintln!("skipped: no `ping` here");
                true
            }
            Ok(out) => out.status.success(),
            Err(error) => panic!("{error}"),
        }
    }

    fn strips_tags(&self, port: &str) -> bool {
        let out = self.inside("g", "ethtool").args(["-k", port]).output().unwrap();
        String::from_utf8(out.stdout).unwrap().contains("rx-vlan-offload: on")
    }

    fn link(&self, port: &str) -> String {
        let out = Command::new("ip").args(["-n", &self.namespace("g"), "-d", "link", "show", port]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for role in ["c", "g", "s"] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(role)]).output();
        }
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().unwrap();
    assert!(done.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn signal(child: &Child, name: &str) {
    let done = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

/// Passes a child's talk on, so that it never blocks.
fn drain(mut talk: BufReader<ChildStderr>) {
    thread::spawn(move || {
        let mut rest = String::new();
        let _ = talk.read_to_string(&mut rest);
        eprint!("{rest}");
    });
}

fn words(mode: Mode, queues: u32) -> Vec<(&'static str, String)> {
    vec![("RINGWALL_MODE", mode.name().to_string()), ("RINGWALL_QUEUES", queues.to_string())]
}

/// The number after a name in a summary.
fn figure(summary: &str, name: &str) -> u64 {
    let rest = summary.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {summary}")).1;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

fn forwards(mode: Mode, queues: u32, expected: &str) {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(queues);
    if mode == Mode::Generic {
        // The kernel's generic path hands over super-frames, which fit no chunk.
        for namespace in ["c", "s"] {
            lab.offloads(namespace, "eth0", &["tso", "gso"], "off");
        }
    }
    let (gateway, said) = lab.gateway(&words(mode, queues));
    assert!(said.contains(&format!("uplink up0 ({expected}), downlink dn0 ({expected})")), "{said}");
    assert!(lab.ping(SERVER), "echo requests cross");
    lab.datagrams();
    lab.transfer(TRANSFER);
    let summary = lab.stop(gateway);
    eprintln!("{summary}");
    // GW-30: with offloads on, senders leave TCP checksums half done.
    assert!(figure(&summary, "completed") > 1000, "checksums are completed: {summary}");
    assert!(figure(&summary, "inbound") > 10_000 && figure(&summary, "outbound") > 10_000, "{summary}");
    assert_eq!((figure(&summary, "bad"), figure(&summary, "without_socket")), (0, 0), "{summary}");
    assert_eq!(figure(&summary, "workers"), u64::from(queues), "{summary}");
    assert!(!lab.link("up0").contains("xdp"), "the program is off: {}", lab.link("up0"));
}

#[test]
fn tcp_crosses_native_copy_with_one_queue() {
    forwards(Mode::Copy, 1, "copy");
}

#[test]
fn tcp_crosses_native_copy_with_two_queues() {
    forwards(Mode::Copy, 2, "copy");
}

#[test]
fn tcp_crosses_generic_mode_with_one_queue() {
    forwards(Mode::Generic, 1, "generic");
}

#[test]
fn tcp_crosses_generic_mode_with_two_queues() {
    forwards(Mode::Generic, 2, "generic");
}

#[test]
fn automatic_mode_takes_copy_on_veth_and_says_why() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let before = lab.strips_tags("up0");
    let (gateway, said) = lab.gateway(&words(Mode::Auto, 1));
    assert!(!lab.strips_tags("up0") && !lab.strips_tags("dn0"), "frames keep their VLAN tags");
    assert!(said.contains("uplink up0 (copy)"), "{said}");
    assert!(said.contains("mode `copy` is used: `up0` refuses zero-copy"), "{said}");
    lab.datagrams();
    lab.stop(gateway);
    assert_eq!(lab.strips_tags("up0"), before, "as found");
}

#[test]
fn what_cannot_be_is_refused_with_object_and_cure() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let gateway = lab.namespace("g");
    let check = |mode, queues, code, expected: &str| {
        let (status, said) = lab.refused(mode, queues);
        assert!(status == code && said.contains(expected), "{status} {said}");
    };
    check(Mode::ZeroCopy, 1, 5, "mode `zero-copy` is not available on `up0`");
    check(Mode::Copy, 2, 3, "interface `up0` has 1 receive and 1 transmit queues, the profile asks for 2");
    ip(&["-n", &gateway, "link", "set", "dn0", "down"]);
    check(Mode::Auto, 1, 3, "interface `dn0` is down; `ip link set dn0 up`");
    ip(&["-n", &gateway, "link", "set", "dn0", "up", "mtu", "4000"]);
    check(Mode::Auto, 1, 3, "has MTU 4000, so frames of up to 4022 bytes; a chunk of 2048 bytes holds 1792");
    ip(&["-n", &gateway, "link", "set", "dn0", "name", "else0"]);
    check(Mode::Auto, 1, 3, "no interface `dn0`");
}

#[test]
fn huge_pages_are_taken_when_there_are_any_and_missed_with_a_warning() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let mut words = words(Mode::Copy, 1);
    words.push(("RINGWALL_HUGE", "yes".into()));
    let free = || {
        let facts = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = facts.lines().find(|line| line.starts_with("HugePages_Free:")).unwrap().to_string();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = free();
    let (gateway, said) = lab.gateway(&words);
    // 2 queues of 3 * 2048 + 2 * 2048 + 256 + 128 chunks of 2048 bytes.
    let needed = 2 * (5 * 2048 + 384) * 2048 / (2 << 20) + 1;
    let warned = said.contains(&format!("no huge pages for the frames; `sysctl vm.nr_hugepages={needed}`"));
    assert_eq!(warned, before < needed, "{before} free, {said}");
    assert_eq!(free(), if warned { before } else { before - needed }, "{said}");
    lab.datagrams();
    lab.stop(gateway);
    assert_eq!(free(), before, "given back");
}

#[test]
fn without_privileges_it_names_the_capabilities() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(1);
    let binary = env::current_exe().unwrap();
    let mut command = lab.inside("g", "setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]).arg(binary);
    command.args(["in_a_role", "--exact", "--ignored", "--nocapture"]);
    command.env("RINGWALL_ROLE", "gateway").envs(words(Mode::Auto, 1));
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    if said.contains("setpriv") || said.contains("Permission denied") {
        eprintln!("skipped: no `setpriv`, or nobody may read the test: {said}");
        return;
    }
    assert!(
        said.contains("is not permitted; run as root or with CAP_NET_ADMIN") || said.contains("CAP_NET_RAW"),
        "{said}"
    );
    assert_eq!(out.status.code(), Some(5), "{said}");
}

#[test]
fn an_interface_that_goes_ends_the_gateway() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let (index, _) = lab.gateway(&words(Mode::Copy, 1));
    ip(&["-n", &lab.namespace("g"), "link", "del", "dn0"]);
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = lab.children[index].try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it goes on");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(5));
    assert!(!lab.link("up0").contains("xdp"), "{}", lab.link("up0"));
}

#[test]
fn a_port_that_carries_a_program_is_left_alone_and_its_program_named() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
    let link = lab.link("up0");
    let id = link.split("prog/xdp id ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_string();
    let (status, said) = lab.refused(Mode::Copy, 1);
    assert_eq!(status, 5, "{said}");
    assert!(said.contains(&format!("interface `up0` already carries XDP program {id} (native)")), "{said}");
    assert!(lab.link("up0").contains(&format!("id {id} ")), "it is still there");
    lab.datagrams();
    lab.stop(gateway);
}

#[test]
fn a_killed_gateway_leaves_no_program_and_its_successor_starts_at_once() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    for _ in 0..3 {
        let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
        assert!(
            lab.link("up0").contains("prog/xdp") && lab.link("up0").contains("promiscuity 1"),
            "{}",
            lab.link("up0")
        );
        let mut child = lab.children.remove(gateway);
        signal(&child, "KILL");
        child.wait().unwrap();
    }
    let gone = Instant::now() + Duration::from_secs(2);
    while lab.link("up0").contains("xdp") || lab.link("dn0").contains("xdp") {
        assert!(Instant::now() < gone, "{} {}", lab.link("up0"), lab.link("dn0"));
        thread::sleep(Duration::from_millis(20));
    }
    assert!(lab.link("up0").contains("promiscuity 0"), "{}", lab.link("up0"));
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
    lab.datagrams();
    lab.stop(gateway);
}

#[test]
fn the_box_answers_at_its_own_address_while_it_forwards() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    ip(&["-n", &lab.namespace("g"), "addr", "add", &format!("{BOX}/24"), "dev", "up0"]);
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 1));
    assert!(lab.ping(BOX) && lab.answers(BOX), "the box answers");
    assert!(lab.ping(SERVER) && lab.answers(SERVER), "the server answers");
    lab.datagrams();
    let summary = lab.stop(gateway);
    assert!(figure(&summary, "to_the_box") >= 2, "{summary}");
}

#[test]
fn a_reload_changes_the_generation_and_no_packet_is_lost() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(2);
    let (gateway, _) = lab.gateway(&words(Mode::Copy, 2));
    for _ in 0..5 {
        signal(&lab.children[gateway], "HUP");
        lab.datagrams();
    }
    let summary = lab.stop(gateway);
    assert_eq!(figure(&summary, "generation"), 6, "{summary}");
}

#[test]
fn with_an_engine_both_directions_of_a_flow_meet_at_the_worker_that_owns_it() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(2);
    let mut words = words(Mode::Copy, 2);
    words.push(("RINGWALL_ENGINE", "yes".into()));
    words.push(("RINGWALL_CHUNK", "4096".into()));
    let (gateway, _) = lab.gateway(&words);
    for _ in 0..3 {
        lab.datagrams();
    }
    lab.transfer(TRANSFER);
    let summary = lab.stop(gateway);
    // One pair of addresses has one owner, but its flows come by both queues.
    assert!(figure(&summary, "handed_over") > 100, "{summary}");
    assert!(figure(&summary, "established") > 10_000, "{summary}");
    // A flow whose directions did not meet would be judged invalid.
    assert_eq!((figure(&summary, "invalid"), figure(&summary, "full")), (0, 0), "{summary}");
}

#[test]
fn a_worker_with_a_defect_ends_the_gateway_and_says_so() {
    if !is_possible() {
        return;
    }
    let mut lab = Lab::new(1);
    let mut words = words(Mode::Copy, 1);
    words.push(("RINGWALL_DEFECT", "yes".into()));
    let gateway = lab.role("g", "gateway", &words).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    lab.children.push(gateway);
    let deadline = Instant::now() + Duration::from_secs(10);
    while lab.children[0].try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it goes on");
        // Any frame will do; nobody answers.
        let _ = lab.role("c", "knock", &[("RINGWALL_ADDRESS", SERVER.to_string())]).output();
    }
    let out = lab.children.pop().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(6), "{said}");
    assert!(said.contains("worker 0 stopped by a defect: made to fail"), "{said}");
    assert!(!lab.link("up0").contains("xdp"), "{}", lab.link("up0"));
}

// Roles: what runs inside a namespace.

#[test]
#[ignore = "a role that other tests start"]
fn in_a_role() {
    let word = |name: &str| env::var(name).unwrap_or_default();
    let bytes = || word("RINGWALL_BYTES").parse().unwrap();
    match word("RINGWALL_ROLE").as_str() {
        "gateway" => gateway(&word("RINGWALL_MODE"), word("RINGWALL_QUEUES").parse().unwrap()),
        "serve" => serve(bytes()),
        "connect" => connect(bytes()),
        "echo" => echo(),
        "datagrams" => datagrams(),
        "knock" => knock(&word("RINGWALL_ADDRESS")),
        _ => eprintln!("skipped: no role given"),
    }
}

fn gateway(mode: &str, queues: u32) {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let modes = [Mode::Auto, Mode::ZeroCopy, Mode::Copy, Mode::Generic];
    let mode = modes.into_iter().find(|m| m.name() == mode).unwrap();
    let ports = Settings {
        uplink: "up0".into(),
        downlink: "dn0".into(),
        queues,
        mode,
        frame_size: env::var("RINGWALL_CHUNK").map_or(2048, |size| size.parse().unwrap()),
        huge_pages: env::var("RINGWALL_HUGE").is_ok(),
        ..Settings::default()
    };
    let settings = RunSettings::new(ports);
    let reload = || Reload::Publish(().into());
    let outcome = if env::var("RINGWALL_ENGINE").is_ok() {
        let load = allow_all();
        let again = Arc::clone(&load);
        daemon::run(
            &settings,
            load,
            |worker, load| {
                let settings = engine::Settings { worker, ..engine::Settings::default() };
                (EngineJudge::new(load, &settings), NoTap)
            },
            |_| (),
            || Reload::Publish(again.clone()),
        )
    } else {
        let judge = |_, _| (Defective(PassAll::default(), env::var("RINGWALL_DEFECT").is_ok()), NoTap);
        daemon::run(&settings, ().into(), judge, |_| (), reload)
    };
    match outcome {
        Ok(summary) => println!("{}", describe(&summary)),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(match error.class() {
                ErrorClass::Configuration => 3,
                ErrorClass::Environment => 5,
                ErrorClass::Defect => 6,
            });
        }
    }
}

/// What an empty policy compiles to.
fn allow_all() -> Arc<Load> {
    let options = compile::Options { workers: 2, ..compile::Options::default() };
    let program = compile::compile(&Policy::default(), &Site::default(), &options, &mut Diagnostics::new());
    Arc::new(Load { program: Arc::new(program.unwrap()), options: packet::Options::default() })
}

/// Passes everything, or fails at the first frame.
struct Defective(PassAll, bool);

impl Judge for Defective {
    type Load = ();
    fn begin(&mut self) {
        self.0.begin();
    }
    fn add(&mut self, frame: &[u8], direction: Direction, now: Now) {
        assert!(!self.1, "made to fail");
        self.0.add(frame, direction, now);
    }
    fn owner(&self, here: WorkerId, _: u32) -> WorkerId {
        here
    }
    fn remove_last(&mut self) {
        self.0.remove_last();
    }
    fn decide(&mut self) {
        self.0.decide();
    }
    fn decision(&self, position: usize) -> Decision {
        self.0.decision(position)
    }
    fn adopt(&mut self, load: Arc<()>) -> Arc<()> {
        self.0.adopt(load)
    }
    fn idle(&mut self, now: Now) {
        self.0.idle(now);
    }
    fn counters(&self) -> &Counters {
        self.0.counters()
    }
    fn flows(&self) -> usize {
        self.0.flows()
    }
}

fn describe(summary: &Summary) -> String {
    let [inbound, outbound] = summary.fates.transmitted.map(|tally| tally.packets);
    let bad: u64 =
        summary.workers.iter().flat_map(|w| w.queues).map(|q| q.bad_descriptors + q.invalid_descriptors).sum();
    let [up, down] = summary.left_to_kernel;
    let count = |verdict, reason| summary.counters.total(verdict, reason).packets;
    format!(
        "inbound={inbound} outbound={outbound} completed={} bad={bad} without_socket={} to_the_box={} workers={} \
         generation={} lost={} handed_over={} established={} invalid={} full={} {:?} {:?}",
        summary.fates.completed,
        up.without_socket + down.without_socket,
        up.to_the_box + down.to_the_box,
        summary.workers.len(),
        summary.generation,
        summary.lost_frames,
        summary.fates.handed_over,
        count(Verdict::Allow, Reason::Established),
        count(Verdict::Deny, Reason::InvalidState),
        summary.fates.handover_full.iter().chain(&summary.fates.ring_full).map(|tally| tally.packets).sum::<u64>(),
        summary.fates,
        summary.workers.iter().map(|w| w.queues).collect::<Vec<_>>(),
    )
}

/// Bytes that repeat after no power of two.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn exchange(mut stream: TcpStream, bytes: usize) {
    let sent = pattern(bytes);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let expected = sent.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut received = Vec::with_capacity(bytes);
    stream.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert_eq!(received.len(), bytes);
    assert!(received == expected, "bytes differ from {:?}", received.iter().zip(&expected).position(|(a, b)| a != b));
}

fn serve(bytes: usize) {
    let listener = TcpListener::bind((SERVER, 7000)).unwrap();
    println!("listening");
    exchange(listener.accept().unwrap().0, bytes);
}

fn connect(bytes: usize) {
    exchange(TcpStream::connect((SERVER, 7000)).unwrap(), bytes);
}

fn knock(address: &str) {
    let at = format!("{address}:9").parse().unwrap();
    let error = TcpStream::connect_timeout(&at, Duration::from_secs(3)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
}

fn echo() {
    let socket = UdpSocket::bind((SERVER, 7001)).unwrap();
    println!("listening");
    let mut room = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut room) {
        socket.send_to(&room[..length], from).unwrap();
    }
}

fn datagrams() {
    let all = pattern(1472);
    let mut room = [0; 2048];
    // A socket per length, so that the flows spread over the queues.
    for length in [1, 2, 3, 17, 18, 63, 64, 65, 127, 128, 129, 511, 1000, 1470, 1471, 1472] {
        let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
        socket.connect((SERVER, 7001)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        for _ in 0..10 {
            socket.send(&all[..length]).unwrap();
            let got = socket.recv(&mut room).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
            assert!(room[..got] == all[..length], "{length} bytes came back as {got}");
        }
    }
}
