//! The lab as a user drives it. Every test here needs root and iproute2, and is skipped with a printed reason without them.

use std::process::{Command, Output};

/// A lab of its own that is removed whatever happens.
struct TestLab {
    prefix: String,
}

impl TestLab {
    fn new(name: &str) -> Option<TestLab> {
        let prefix = format!("rwt{}-{name}-", std::process::id());
        let probe = format!("{prefix}probe");
        let ip = |verb: &str| Command::new("ip").args(["netns", verb, &probe]).output();
        // A process of this number that was killed may have left some.
        let _ = ip("delete");
        let usable = ip("add").is_ok_and(|output| output.status.success());
        if !usable {
            println!("skipped: making network namespaces needs root and iproute2");
            return None;
        }
        ip("delete").unwrap();
        let lab = TestLab { prefix };
        lab.check(&["down"], 0);
        Some(lab)
    }

    /// A lab that is up, with the gateway; `None` where the kernel does not let it attach to interfaces.
    fn with_gateway(name: &str, arguments: &[&str]) -> Option<TestLab> {
        let lab = TestLab::new(name)?;
        let up = lab.run(&[&["up"], arguments].concat());
        if up.status.code() == Some(5) {
            println!("skipped: {}", String::from_utf8_lossy(&up.stderr));
            return None;
        }
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        Some(lab)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
        command.args(["lab", "--prefix", &self.prefix]).args(arguments).output().unwrap()
    }

    fn check(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        let result = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{result}\n{talk}");
        result + &talk
    }

    /// A probe that is answered, however long a busy machine takes for it.
    fn answered(&self, arguments: &[&str], code: i32) -> String {
        self.check(&[&["probe", "--patience", "60"], arguments].concat(), code)
    }

    fn passes(&self, arguments: &[&str]) {
        self.answered(arguments, 0);
    }

    /// The process that the lab has started in a role.
    fn process(&self, role: &str) -> String {
        let record = std::fs::read_to_string(format!("/run/ringwall-lab/{}/{role}.pid", self.prefix)).unwrap();
        record.split(' ').next().unwrap().to_owned()
    }

    fn namespaces(&self) -> usize {
        let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).lines().filter(|line| line.starts_with(&self.prefix)).count()
    }

    fn gateway_rules(&self, rules: &str) {
        let nft = ["shell", "gw", "--", "nft", rules];
        self.check(&nft, 0);
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

const BRIDGE: [&str; 2] = ["--datapath", "kernel-bridge"];

fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        println!("skipped: `{tool}` is not installed");
    }
    found
}

#[test]
fn everybody_reaches_everybody_when_nothing_filters() {
    let Some(lab) = TestLab::new("all") else { return };
    lab.check(&["up", "--queues", "3", BRIDGE[0], BRIDGE[1]], 0);
    for to in ["169.1.1.1:80", "10.1.1.1:31024", "[2001:db8:169::1]:80"] {
        lab.passes(&["tcp", to]);
        lab.passes(&["udp", to]);
    }
    for to in ["169.1.1.1", "2001:db8:10::1"] {
        lab.passes(&["ping", to]);
    }
    lab.passes(&["tcp", "10.1.1.1:22", "--from", "2.2.2.2"]);
    let closed = lab.answered(&["tcp", "10.1.1.1:81"], 1);
    assert!(closed.contains("refused"), "a closed port answers: {closed}");
    let queues = lab.check(&["shell", "gw", "--", "ls", "/sys/class/net/up0/queues"], 0);
    assert_eq!(queues.lines().count(), 6, "three receive and three transmit queues: {queues}");
    let routes = lab.check(&["shell", "gen", "--", "ip", "route", "show", "default"], 0);
    assert_eq!(routes, "", "no way out of the namespace");
}

#[test]
fn a_silent_drop_is_told_from_a_refusal() {
    let Some(lab) = TestLab::new("drop") else { return };
    if !has("nft") {
        return;
    }
    lab.check(&["up", BRIDGE[0], BRIDGE[1]], 0);
    lab.gateway_rules("add table bridge t");
    lab.gateway_rules("add chain bridge t c { type filter hook forward priority 0; }");
    lab.gateway_rules("add rule bridge t c tcp dport 31024 drop");
    lab.gateway_rules("add rule bridge t c udp dport 31024 drop");
    for transport in ["tcp", "udp"] {
        let seen = lab.check(&["probe", transport, "10.1.1.1:31024"], 1);
        assert!(seen.starts_with("drop"), "{seen}");
        lab.passes(&[transport, "169.1.1.1:80"]);
    }
}

#[test]
fn lessons_fail_where_nothing_filters() {
    let Some(lab) = TestLab::new("fail") else { return };
    // Nothing is dropped, so nothing is waited for so long.
    let result = lab.check(&["test", "--patience", "60", "-o", "json", BRIDGE[0], BRIDGE[1]], 1);
    let json: serde_json::Value = serde_json::Deserializer::from_str(&result).into_iter().next().unwrap().unwrap();
    let connections = json["connections"].as_array().unwrap();
    let mismatched = |c: &serde_json::Value| c["expected"] == "drop" && c["seen"] == "pass" && c["result"] == "FAIL";
    let matched = |c: &serde_json::Value| c["expected"] == "pass" && c["seen"] == "pass" && c["result"] == "PASS";
    let all: Vec<_> = connections.iter().filter(|c| !mismatched(c) && !matched(c)).collect();
    assert!(all.is_empty(), "{all:?}");
    assert_eq!(json["failed"], connections.iter().filter(|c| mismatched(c)).count());
    assert_eq!(lab.namespaces(), 0, "the test removed what it made");
}

#[test]
fn down_cleans_up_after_any_accident() {
    let Some(lab) = TestLab::new("down") else { return };
    lab.check(&["down"], 0);

    lab.check(&["up", BRIDGE[0], BRIDGE[1]], 0);
    assert_eq!(lab.namespaces(), 3);
    let up_again = lab.check(&["up", BRIDGE[0], BRIDGE[1]], 0);
    assert!(up_again.contains("already"), "{up_again}");
    lab.check(&["up", "--queues", "7", BRIDGE[0], BRIDGE[1]], 2);

    // The echo servers are killed: the lab is not whole, and `up` builds it anew.
    let pid = lab.process("echo");
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let status = format!("/proc/{pid}/status");
    while std::fs::read_to_string(&status).is_ok_and(|text| !text.contains("State:\tZ")) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    lab.check(&["up", BRIDGE[0], BRIDGE[1]], 0);
    lab.passes(&["tcp", "169.1.1.1:80"]);

    // A namespace is gone: `down` removes the rest.
    let gone = format!("{}gen", lab.prefix);
    assert!(Command::new("ip").args(["netns", "delete", &gone]).status().unwrap().success());
    lab.check(&["down"], 0);
    assert_eq!(lab.namespaces(), 0);
    lab.check(&["down"], 0);
}

#[test]
fn labs_with_different_prefixes_do_not_touch_each_other() {
    let Some(one) = TestLab::new("one") else { return };
    let Some(two) = TestLab::new("one-two") else { return };
    one.check(&["up", BRIDGE[0], BRIDGE[1]], 0);
    two.check(&["up", BRIDGE[0], BRIDGE[1]], 0);
    one.check(&["down"], 0);
    two.passes(&["tcp", "169.1.1.1:80"]);
    assert_eq!(two.namespaces(), 3);
}

#[test]
fn wrong_usage_is_told() {
    let Some(lab) = TestLab::new("usage") else { return };
    let check = |arguments: &[&str], expected: &str| {
        let said = lab.check(arguments, 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    };
    check(&["probe", "tcp", "169.1.1.1:80"], "lab up");
    check(&["reload"], "lab up");
    check(&["shell", "moon"], "`gen`, `gw` or `workers`");
    check(&["up", "--queues", "0"], "--queues");
}

fn check_lessons(arguments: &[&str]) {
    let Some(lab) = TestLab::with_gateway(&arguments.concat().replace("--", ""), arguments) else { return };
    let table = lab.check(&["test"], 0);
    assert!(table.contains(" as expected, 0 not"), "{table}");
    assert_eq!(lab.namespaces(), 3, "a lab that was up stays up");
}

#[test]
fn the_lessons_pass_in_the_best_mode() {
    check_lessons(&["--mode", "auto"]);
}

#[test]
fn the_lessons_pass_with_one_queue_in_copy_mode() {
    check_lessons(&["--mode", "copy", "--queues", "1"]);
}

#[test]
fn the_lessons_pass_in_generic_mode() {
    check_lessons(&["--mode", "generic"]);
}

#[test]
fn what_the_lab_tells_to_try_is_true() {
    let Some(lab) = TestLab::with_gateway("try", &[]) else { return };
    let said = lab.check(&["up"], 0);
    for (word, code) in [("allowed:", 0), ("denied:", 1)] {
        let line = said.lines().find(|line| line.starts_with(word)).unwrap();
        let arguments: Vec<&str> = line.split_whitespace().skip_while(|part| *part != "probe").collect();
        lab.check(&arguments, code);
    }
}

#[test]
fn a_wrong_policy_is_refused_and_the_old_one_stays_gw_21() {
    let Some(lab) = TestLab::with_gateway("refuse", &[]) else { return };
    let policies = format!("/run/ringwall-lab/{}/policies", lab.prefix);
    let deny = format!("{policies}/deny-nodeports.yaml");
    let wrong = format!("{policies}/wrong.yaml");
    std::fs::write(&wrong, "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nspec: { preDnat: true }\n")
        .unwrap();
    std::fs::remove_file(&deny).unwrap();
    let said = lab.check(&["reload"], 3);
    assert!(said.contains("refuse") && said.contains("preDnat"), "{said}");
    lab.check(&["probe", "tcp", "10.1.1.1:31024"], 1);
    lab.passes(&["tcp", "169.1.1.1:80"]);

    std::fs::remove_file(&wrong).unwrap();
    lab.check(&["reload"], 0);
    lab.passes(&["tcp", "10.1.1.1:31024"]);
}

#[test]
fn a_gateway_killed_without_warning_leaves_nothing_attached() {
    let Some(lab) = TestLab::with_gateway("kill", &[]) else { return };
    let pid = lab.process("gateway");
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    // The programs go with the process; the kernel frees the sockets a little later.
    let links = || lab.check(&["shell", "gw", "--", "ip", "link", "show"], 0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while links().contains("xdp") && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(!links().contains("xdp"), "{}", links());
    let gone = lab.check(&["probe", "tcp", "169.1.1.1:80"], 1);
    // A host that nobody finds is given up after a while, which a busy machine may see first.
    let is_silence = gone.starts_with("drop") || gone.contains("No route to host");
    assert!(is_silence, "nothing passes without the gateway: {gone}");
    lab.check(&["reload"], 2);
    lab.check(&["up"], 0);
    lab.passes(&["tcp", "169.1.1.1:80"]);
}
