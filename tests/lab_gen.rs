//! Generated traffic between the ends of a real lab in, its account out. Needs root, iproute2 and AF_XDP; skips with a printed reason
//! otherwise. Every run is bounded in time and packets.

use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// A lab of its own that is removed whatever happens.
struct TestLab {
    prefix: String,
}

impl TestLab {
    /// A lab that is up; `None` where this machine cannot have one.
    fn up(name: &str, arguments: &[&str]) -> Option<TestLab> {
        let lab = TestLab { prefix: format!("rwg{}-{name}-", std::process::id() % 10_000) };
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

    fn generate(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(&[&["gen", "-o", "json"], arguments].concat());
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {talk}");
        serde_json::from_slice(&output.stdout).unwrap()
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

/// Every packet arrived, once, whole and in order.
fn assert_clean(way: &Value, sent: u64) {
    let names = ["sent", "received", "lost", "duplicated", "reordered", "corrupted"];
    assert_eq!(names.map(|name| number(way, name)), [sent, sent, 0, 0, 0, 0], "{way}");
    assert!(number(&way["delay_ns"], "p50") > 0, "{way}");
}

#[test]
fn traffic_of_all_kinds_crosses_the_gateway_whole() {
    let Some(lab) = TestLab::up("all", &["--queues", "2"]) else { return };
    let done =
        lab.generate(&["--rate", "20k", "--duration", "20", "--count", "20000", "--flows", "100", "--strict"], 0);
    assert_clean(&done["ways"][0], 20_000);
    let every = ["--protocol", "udp,tcp,icmp", "--ip", "both", "--size", "imix", "--flows", "600", "--seed", "9"];
    let done = lab.generate(&[&["--rate", "5k", "--count", "3000", "--both-ways"], &every[..]].concat(), 0);
    assert_eq!(done["ways"].as_array().map(Vec::len), Some(2));
    done["ways"].as_array().unwrap().iter().for_each(|way| assert_clean(way, 3000));
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
                let run = ["--from", from, "--to", to, "--src", &src, "--dst", &dst, "--count", "1", "--strict"];
                assert_clean(&lab.generate(&run, 0)["ways"][0], 1);
            }
        }
        // Half a second lies between one and the next.
        let run = ["--rate", "2", "--duration", "3", "--count", "4", "--flows", "4", "--both-ways", "--strict"];
        for way in lab.generate(&run, 0)["ways"].as_array().unwrap() {
            assert_clean(way, 4);
            assert!(number(&way["delay_ns"], "max") < 500_000_000, "none waits for the next: {way}");
        }
    }
}

#[test]
fn what_a_way_does_to_packets_is_counted_each_by_itself() {
    let Some(lab) = TestLab::up("ills", &["--datapath", "kernel-bridge", "--queues", "1"]) else { return };
    let run = ["--rate", "10k", "--count", "5000"];
    assert_clean(&lab.generate(&run, 0)["ways"][0], 5000);
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
        let way = &lab.generate(&[&run[..], &["--strict"]].concat(), 1)["ways"][0];
        let seen = ["lost", "duplicated", "reordered", "corrupted"].map(|name| number(way, name));
        assert_eq!(seen, ill, "{rules}: {way}");
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
