//! Queues in, three namespaces with a gateway's place between two hosts out; gone when dropped.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ringwall::io::xdp::Mode;

pub const CLIENT: &str = "10.99.7.1";
pub const SERVER: &str = "10.99.7.2";
pub const BOX: &str = "10.99.7.3";
/// Bytes that go each way in a transfer.
pub const TRANSFER: usize = 50 << 20;

/// How long to wait for what must come: only a failure takes so long, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);

static LABS: AtomicU32 = AtomicU32::new(0);
/// One lab at a time: each has workers of its own, and there may be two cores.
static TURN: Mutex<()> = Mutex::new(());

/// Whether this machine can run the tests of this file; says why not, once per test.
pub fn is_possible() -> bool {
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
    // A process of this number that was killed may have left one.
    let _ = Command::new("ip").args(["netns", "del", &name]).output();
    let has_namespaces =
        Command::new("ip").args(["netns", "add", &name]).output().is_ok_and(|out| out.status.success());
    let _ = Command::new("ip").args(["netns", "del", &name]).output();
    (!has_namespaces).then_some("`ip netns add` does not work here")
}

/// Three namespaces and two veth pairs; gone when dropped, with all processes in them.
pub struct Lab {
    prefix: String,
    /// What runs in them.
    pub children: Vec<Child>,
    /// What the latest gateway has said so far.
    talk: Arc<Mutex<String>>,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    pub fn new(queues: u32) -> Lab {
        // A test that failed leaves nothing behind that would disturb the next.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("rw{}-{number}", std::process::id());
        let lab = Lab { prefix, children: Vec::new(), talk: Arc::default(), _turn: turn };
        let queues = queues.to_string();
        // A process of this number that was killed may have left some.
        lab.remove();
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

    fn remove(&self) {
        for role in ["c", "g", "s"] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(role)]).output();
        }
    }

    pub fn namespace(&self, role: &str) -> String {
        format!("{}-{role}", self.prefix)
    }

    pub fn inside(&self, namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(namespace), program]);
        command
    }

    /// This test binary again, in a role.
    pub fn role(&self, namespace: &str, role: &str, words: &[(&str, String)]) -> Command {
        let mut command = self.inside(namespace, env::current_exe().unwrap().to_str().unwrap());
        command.args(["in_a_role", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("RINGWALL_ROLE", role).envs(words.iter().map(|(name, value)| (*name, value.clone())));
        command.stdin(Stdio::null());
        command
    }

    /// Starts a gateway and waits until it forwards; gives its index among the children and what it said.
    pub fn gateway(&mut self, words: &[(&str, String)]) -> (usize, String) {
        self.try_gateway(words).unwrap_or_else(|said| panic!("the gateway ended: {said}"))
    }

    /// The same; what it said if it ends instead.
    pub fn try_gateway(&mut self, words: &[(&str, String)]) -> Result<(usize, String), String> {
        let mut command = self.role("g", "gateway", words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("ready") {
            if talk.read_line(&mut said).unwrap() == 0 {
                child.wait().unwrap();
                return Err(said);
            }
        }
        self.talk = drain(talk);
        self.children.push(child);
        Ok((self.children.len() - 1, said))
    }

    /// What the latest gateway has said since it was ready.
    pub fn said(&self) -> String {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the latest gateway has said these words.
    pub fn await_talk(&self, words: &str) {
        until(|| self.said().contains(words), || format!("no `{words}` in {}", self.said()));
    }

    /// Ends a gateway in order and gives its summary, as text.
    pub fn stop(&mut self, index: usize) -> String {
        let mut child = self.children.remove(index);
        signal(&child, "TERM");
        let mut summary = String::new();
        child.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
        assert!(child.wait().unwrap().success(), "{summary}");
        assert_eq!(figure(&summary, "lost"), 0, "frames are conserved: {summary}");
        summary
    }

    pub fn refused(&self, mode: Mode, queues: u32) -> (i32, String) {
        let Output { status, stderr, .. } = self.role("g", "gateway", &words(mode, queues)).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stderr).unwrap())
    }

    pub fn offloads(&self, namespace: &str, interface: &str, what: &[&str], value: &str) {
        for what in what {
            let done = self.inside(namespace, "ethtool").args(["-K", interface, what, value]).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
    }

    /// Waits until a child says a word on its standard output.
    pub fn await_word(&mut self, index: usize, word: &str) {
        let mut said = String::new();
        let mut told = BufReader::new(self.children[index].stdout.take().unwrap());
        while !said.contains(word) {
            assert_ne!(told.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        // Kept open: a child that writes on must not fail for it.
        thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
    }

    /// A TCP connection through the gateway that carries the transfer each way; panics if any byte differs.
    pub fn transfer(&mut self, bytes: usize) {
        let amount = [("RINGWALL_BYTES", bytes.to_string())];
        let server = self.role("s", "serve", &amount).stdout(Stdio::piped()).spawn().unwrap();
        self.children.push(server);
        self.await_word(self.children.len() - 1, "listening");
        let client = self.role("c", "connect", &amount).output().unwrap();
        let server = self.children.pop().unwrap().wait_with_output().unwrap();
        assert!(client.status.success(), "client: {}", String::from_utf8_lossy(&client.stderr));
        assert!(server.status.success(), "server: {}", String::from_utf8_lossy(&server.stderr));
    }

    /// Datagrams to and fro, small to full-sized, one at a time: nothing is held back, nothing is changed.
    pub fn datagrams(&mut self) {
        self.datagrams_up_to(1472);
    }

    /// The same up to this many bytes.
    pub fn datagrams_up_to(&mut self, longest: usize) {
        let server = self.role("s", "echo", &[]).stdout(Stdio::piped()).spawn().unwrap();
        self.children.push(server);
        self.await_word(self.children.len() - 1, "listening");
        let client = self.role("c", "datagrams", &[("RINGWALL_LONGEST", longest.to_string())]).output().unwrap();
        assert!(client.status.success(), "client: {}", String::from_utf8_lossy(&client.stderr));
        let mut server = self.children.pop().unwrap();
        let _ = server.kill();
        let _ = server.wait();
    }

    /// Takes an interface away from its host's stack, which can still send, and lets a thread of its own take frames off it; gives
    /// the thread's id, or `None` where there is no such thing. Hosts know each other's addresses from then on.
    pub fn threaded_end(&mut self, namespace: &str, interface: &str) -> Option<String> {
        let listed = || {
            let processes =
                std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let is_it = |process: &String| {
                let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
                name.is_ok_and(|name| name.starts_with(&format!("napi/{interface}-")))
            };
            processes.filter(is_it).collect::<Vec<String>>()
        };
        for (near, far) in [("c", SERVER), ("s", CLIENT)] {
            let known = Command::new("ip").args(["-n", &self.namespace(near), "neigh", "show", far]).output().unwrap();
            let known = String::from_utf8(known.stdout).unwrap();
            let mac = known.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap();
            ip(&[
                "-n",
                &self.namespace(near),
                "neigh",
                "replace",
                far,
                "lladdr",
                mac,
                "dev",
                "eth0",
                "nud",
                "permanent",
            ]);
        }
        let before = listed();
        let words = [("RINGWALL_ADDRESS", interface.to_owned())];
        let end = self.role(namespace, "end", &words).stdout(Stdio::piped()).spawn().unwrap();
        self.children.push(end);
        self.await_word(self.children.len() - 1, "bound");
        let switch = format!("echo 1 > /sys/class/net/{interface}/threaded");
        let is_done = self.inside(namespace, "sh").args(["-c", &switch]).output().unwrap().status.success();
        listed().into_iter().find(|process| is_done && !before.contains(process))
    }

    /// Whether a host answers a connection to a port that nobody serves: with a reset, at once.
    pub fn answers(&self, address: &str) -> bool {
        let words = [("RINGWALL_ADDRESS", address.to_string()), ("RINGWALL_ANSWERED", "yes".into())];
        let client = self.role("c", "knock", &words).output().unwrap();
        client.status.success()
    }

    /// Echo requests, if there is a `ping`; whether all came back.
    pub fn ping(&self, address: &str) -> bool {
        match self.inside("c", "ping").args(["-c", "3", "-i", "0.2", "-W", "30", address]).output() {
            Ok(out) if String::from_utf8_lossy(&out.stderr).contains("No such file") => {
                eprintln!("skipped: no `ping` here");
                true
            }
            Ok(out) => out.status.success(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether an offload is on, by the name that `ethtool -k` gives it.
    pub fn has_offload(&self, namespace: &str, interface: &str, name: &str) -> bool {
        let out = self.inside(namespace, "ethtool").args(["-k", interface]).output().unwrap();
        String::from_utf8(out.stdout).unwrap().contains(&format!("{name}: on"))
    }

    pub fn link(&self, port: &str) -> String {
        self.link_in("g", port)
    }

    pub fn link_in(&self, namespace: &str, port: &str) -> String {
        let name = self.namespace(namespace);
        let out = Command::new("ip").args(["-n", &name, "-d", "link", "show", port]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.remove();
    }
}

pub fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().unwrap();
    assert!(done.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

pub fn signal(child: &Child, name: &str) {
    let done = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

/// Takes a child's talk, so that it never blocks; gives what it has said so far.
fn drain(mut talk: BufReader<ChildStderr>) -> Arc<Mutex<String>> {
    let all = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&all);
    thread::spawn(move || {
        let mut line = String::new();
        while talk.read_line(&mut line).is_ok_and(|length| length > 0) {
            eprint!("{line}");
            into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
            line.clear();
        }
    });
    all
}

/// Waits until something is so; otherwise fails with what is told then.
pub fn until(is_so: impl Fn() -> bool, or: impl Fn() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{}", or());
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn words(mode: Mode, queues: u32) -> Vec<(&'static str, String)> {
    vec![("RINGWALL_MODE", mode.name().to_string()), ("RINGWALL_QUEUES", queues.to_string())]
}

/// The number after a name in a summary.
pub fn figure(summary: &str, name: &str) -> u64 {
    let rest = summary.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {summary}")).1;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
