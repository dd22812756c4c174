//! Generated traffic between the ends of a real lab in, its account out. Needs root, iproute2 and AF_XDP; skips with a printed reason
//! otherwise. Every run is bounded in time and packets.

use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Runs of the same traffic, at most.
const ATTEMPTS: usize = 8;
/// Longest time that a run sends for; what it has to send takes far less.
const LONGEST: [&str; 2] = ["--duration", "60"];

/// A lab of its own that is removed whatever happens.
struct TestLab {
    prefix: String,
}

impl TestLab {
    /// A lab that is up; `None` where this machine cannot have one.
    fn up(name: &str, arguments: &[&str]) -> Option<TestLab> {
        let lab = TestLab { prefix: format!("rwg{}-{name}-", std::process::id()) };
        // A process of this number that was killed may have left one.
        lab.run(&["down"]);
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

    /// The ways of a run, whose exit code says whether all of them are clean.
    fn generate(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["gen", "-o", "json", "--strict"], arguments].concat());
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?} {talk}");
        let done: Value = serde_json::from_slice(&output.stdout).unwrap();
        let ways = done["ways"].as_array().unwrap();
        let is_clean = ways.iter().all(|way| ills(way) == [0; 4]);
        assert_eq!(output.status.code() == Some(0), is_clean, "{arguments:?} {done}");
        ways.clone()
    }

    /// Runs until each way has sent so many packets and is as expected. Where the machine gives the cores to others for longer than
    /// rings hold frames, frames are lost, late or never sent, so a run is repeated, but not for ever: what the box itself does to
    /// packets it does each time.
    fn until(&self, arguments: &[&str], sent: u64, is_expected: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut runs = Vec::new();
        for _ in 0..ATTEMPTS {
            let ways = self.generate(arguments);
            if ways.iter().all(|way| number(way, "sent") == sent && is_expected(way)) {
                return ways;
            }
            println!("not as expected, once more: {arguments:?} {ways:?}");
            runs.push(ways);
            thread::sleep(Duration::from_millis(500));
        }
        panic!("{arguments:?}: not once in {ATTEMPTS} runs as expected: {runs:#?}");
    }

    /// Every packet arrives, once, whole and in order.
    fn crosses_whole(&self, arguments: &[&str], sent: u64) -> Vec<Value> {
        let is_whole =
            |way: &Value| (number(way, "received"), ills(way)) == (sent, [0; 4]) && number(&way["delay_ns"], "p50") > 0;
        self.until(arguments, sent, is_whole)
    }

    fn inside(&self, place: &str, command: &[&str]) -> bool {
        self.run(&[&["shell", place, "--"], command].concat()).status.success()
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

fn number(way: &Value, name: &str) -> u64 {
    way[name].as_u64().unwrap_or_else(|| panic!("no `{name}` in {way}"))
}

const ILLS: [&str; 4] = ["lost", "duplicated", "reordered", "corrupted"];

fn ills(way: &Value) -> [u64; 4] {
    ILLS.map(|name| number(way, name))
}

#[test]
fn traffic_of_all_kinds_crosses_the_gateway_whole() {
    let Some(lab) = TestLab::up("all", &["--queues", "2"]) else { return };
    lab.crosses_whole(&[&["--rate", "20k", "--count", "20000", "--flows", "100"], &LONGEST[..]].concat(), 20_000);
    let every = ["--protocol", "udp,tcp,icmp", "--ip", "both", "--size", "imix", "--flows", "600", "--seed", "9"];
    let both = ["--rate", "5k", "--count", "3000", "--both-ways"];
    assert_eq!(lab.crosses_whole(&[&both[..], &every, &LONGEST].concat(), 3000).len(), 2);
    let text = lab.run(&["gen", "--count", "1"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("received 1, lost 0, duplicated 0, reordered 0"), "{text}");
}

/// A packet that waited for a burst to fill would come when the next one does, or never.
#[test]
fn a_lone_packet_crosses_an_idle_box_and_waits_for_no_other() {
    for queues in ["1", "2"] {
        let Some(lab) = TestLab::up("lone", &["--queues", queues]) else { return };
        let sides = [("gen/gen0", "198.18.0"), ("workers/wk0", "198.19.0")];
        for [(from, near), (to, far)] in [sides, [sides[1], sides[0]]] {
            // With two workers some of the pairs belong to the one that does not receive them.
            for host in 1..=4 {
                // The box sleeps by then.
                thread::sleep(Duration::from_millis(200));
                let (src, dst) = (format!("{near}.{host}"), format!("{far}.{host}"));
                let run = ["--from", from, "--to", to, "--src", &src, "--dst", &dst, "--count", "1"];
                let way = &lab.generate(&run)[0];
                assert_eq!((number(way, "sent"), number(way, "received"), ills(way)), (1, 1, [0; 4]), "{way}");
                assert!(number(&way["delay_ns"], "p50") > 0, "{way}");
            }
        }
        // Half a second lies between one and the next.
        let run = ["--rate", "2", "--count", "4", "--flows", "4", "--both-ways"];
        let waits_for_none = |way: &Value| {
            assert_eq!(ills(way), [0; 4], "no ring is too small for four: {way}");
            number(&way["delay_ns"], "max") < 500_000_000
        };
        assert_eq!(lab.until(&[&run[..], &LONGEST].concat(), 4, waits_for_none).len(), 2);
    }
}

#[test]
fn what_a_way_does_to_packets_is_counted_each_by_itself() {
    let Some(lab) = TestLab::up("ills", &["--datapath", "kernel-bridge", "--queues", "1"]) else { return };
    let run = ["--rate", "10k", "--count", "5000", LONGEST[0], LONGEST[1]];
    lab.crosses_whole(&run, 5000);
    // Ten per cent each, by rules of the kernel in the gateway's place.
    let every_tenth = "numgen inc mod 10 0";
    let bridge =
        |what: &str| format!("table bridge t {{ chain c {{ type filter hook forward priority 0; {what}; }}; }}");
    let ingress = |what: &str| {
        format!("table netdev t {{ chain c {{ type filter hook ingress device up0 priority 0; {what}; }}; }}")
    };
    for (rules, ill) in [
        (bridge(&format!("{every_tenth} drop")), [500, 0, 0, 0]),
        (ingress(&format!("{every_tenth} dup to dn0")), [0, 500, 0, 0]),
        // Two bytes of the payload, behind the UDP header.
        (bridge(&format!("{every_tenth} @th,128,16 set 0x5555")), [500, 0, 0, 500]),
    ] {
        if !lab.inside("gw", &["nft", &rules]) {
            println!("skipped: `nft` or the kernel does not know `{rules}`");
            return;
        }
        println!("{rules}: {ill:?} of {ILLS:?}");
        lab.until(&run, 5000, |way| ills(way) == ill);
        assert!(lab.inside("gw", &["nft", "flush ruleset"]));
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let Some(lab) = TestLab::up("not", &["--datapath", "kernel-bridge"]) else { return };
    let check = |arguments: &[&str], code, expected: &str| {
        let output = lab.run(&[&["gen"], arguments].concat());
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && talk.contains(expected), "{arguments:?} {talk}");
    };
    check(&["--to", "nowhere/x0"], 2, "there is no namespace `nowhere`");
    check(&["--to", "workers/x0"], 2, "no interface `x0`");
    check(&["--size", "63"], 2, "frame size 63: expected 64 to 1518 bytes");
    check(&["--duration", "0"], 2, "expected more than 0");
    check(&["--src", "::1"], 2, "--dst");
    check(&["--src", "::1", "--dst", "10.1.1.1"], 2, "different families");
}
