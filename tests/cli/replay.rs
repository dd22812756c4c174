//! `replay`: captures in, verdicts, captures and a summary out.

use std::fs;
use std::path::Path;

use ringwall::io::pcap::Capture;
use serde_json::Value;

use crate::{directory, project, run_in};

/// The captures of the lab, judged by the gateway file beside them.
fn arguments<'a>(more: &[&'a str]) -> Vec<String> {
    let file = |name: &str| project("pcaps").join(name).display().to_string();
    let mut all = vec!["replay".to_string(), "--gateway".into(), file("gateway.yaml")];
    for port in ["uplink", "downlink"] {
        all.extend(["--in".to_string(), format!("{port}={}", file(&format!("{port}.pcap")))]);
    }
    all.extend(more.iter().map(|word: &&'a str| word.to_string()));
    all
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Number of records in a capture, by our own reader.
fn count(path: &Path) -> usize {
    let mut capture = Capture::open(path).unwrap();
    let mut count = 0;
    while let Some(record) = capture.next() {
        record.unwrap();
        count += 1;
    }
    count
}

/// The comments of the packets of a little-endian pcapng file, by walking its blocks.
fn comments(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let short = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let (kind, length) = (number(at), number(at + 4));
        if kind == 6 {
            let mut option = at + 28 + number(at + 20).next_multiple_of(4);
            while option + 4 <= at + length - 4 && short(option) != 0 {
                let (code, size) = (short(option), short(option + 2));
                if code == 1 {
                    found.push(String::from_utf8(bytes[option + 4..option + 4 + size].to_vec()).unwrap());
                }
                option += 4 + size.next_multiple_of(4);
            }
        }
        at += length;
    }
    found
}

#[test]
fn packets_come_out_on_one_side_or_the_other() {
    let here = directory(&[]);
    let more = ["--verdicts", "v.jsonl", "--passed", "p.pcapng", "--dropped", "d.pcapng", "-o", "json"];
    let done = run_in(here.path(), arguments(&more)).ended_with(0);
    assert_eq!(done.err, "");
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    let verdicts = lines(&here.path().join("v.jsonl"));
    let denied: Vec<&Value> = verdicts.iter().filter(|line| line["verdict"] == "deny").collect();
    assert_eq!(verdicts.len(), 619);
    assert_eq!(summary["packets"], 619);
    assert_eq!(summary["denied"], denied.len());
    assert_eq!(summary["allowed"], 619 - denied.len());
    assert_eq!(count(&here.path().join("d.pcapng")), denied.len());
    assert_eq!(count(&here.path().join("p.pcapng")), 619 - denied.len());
    // Numbers count up from 1, and each dropped packet carries its verdict, in order.
    assert!(verdicts.iter().zip(1..).all(|(line, n)| line["n"] == n));
    let expected: Vec<String> = denied
        .iter()
        .map(|line| {
            let or_dash = |value: &Value| if value.is_null() { "-".into() } else { value.to_string().replace('"', "") };
            let [reason, stage] = ["reason", "stage"].map(|key| line[key].as_str().unwrap());
            format!("reason={reason} stage={stage} policy={} rule={}", or_dash(&line["policy"]), or_dash(&line["rule"]))
        })
        .collect();
    assert_eq!(comments(&here.path().join("d.pcapng")), expected);
    assert!(
        expected.iter().any(|c| c == "reason=policy-deny stage=prednat policy=deny-nodeports rule=0"),
        "{expected:?}"
    );
    assert!(comments(&here.path().join("p.pcapng")).is_empty());
}

#[test]
fn the_summary_has_stable_keys_and_adds_up() {
    let here = directory(&[]);
    let summary: Value =
        serde_json::from_str(&run_in(here.path(), arguments(&["-o", "json"])).ended_with(0).out).unwrap();
    for key in [
        "packets",
        "bytes",
        "allowed",
        "denied",
        "packets_per_second",
        "nanoseconds_per_packet",
        "reading_seconds",
        "waiting_seconds",
        "reader_threads",
        "flows",
        "logs",
    ] {
        assert!(summary[key].is_number(), "{key}: {summary}");
    }
    for key in ["p50", "p90", "p99", "p99.9", "max"] {
        assert!(summary["latency_ns"][key].is_u64(), "{key}: {summary}");
    }
    let of = |list: &str, key: &str| -> u64 {
        summary[list].as_array().unwrap().iter().map(|row| row[key].as_u64().unwrap()).sum()
    };
    assert_eq!(of("reasons", "packets"), 619);
    assert_eq!(of("workers", "packets"), 619);
    assert!(summary["top_denied"].as_array().unwrap().iter().any(|row| row["policy"] == "deny-nodeports"));
    let text = run_in(here.path(), arguments(&[])).ended_with(0).out;
    for word in ["policy-deny", "TOP DENIED", "deny-nodeports", "ns per packet: p50"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn workers_and_segments_change_no_verdict() {
    let here = directory(&[]);
    let file = |name: &str| here.path().join(name);
    let verdicts = |name: &str, arguments: Vec<String>| {
        let mut arguments = arguments;
        arguments.extend(["--verdicts".to_string(), name.to_string()]);
        run_in(here.path(), arguments).ended_with(0);
        fs::read_to_string(file(name)).unwrap()
    };
    let one = verdicts("1.jsonl", arguments(&[]));
    for workers in ["2", "3"] {
        assert_eq!(verdicts("n.jsonl", arguments(&["--workers", workers])), one, "{workers} workers");
    }
    let plain: Vec<String> =
        arguments(&[]).into_iter().map(|word| word.replace("uplink=", "").replace("downlink=", "")).collect();
    assert_eq!(verdicts("s.jsonl", plain), one, "by segment");

    run_in(here.path(), arguments(&["--workers", "2", "--dropped", "d.pcapng"]))
        .ended_with(0)
        .said("one file per worker");
    let denied = one.lines().filter(|line| line.contains("\"deny\"")).count();
    assert_eq!(count(&file("d.0.pcapng")) + count(&file("d.1.pcapng")), denied);
}

#[test]
fn each_turn_goes_on_where_the_last_ended() {
    let here = directory(&[]);
    let more = ["--repeat", "3", "--verdicts", "v.jsonl", "-o", "json"];
    let summary: Value = serde_json::from_str(&run_in(here.path(), arguments(&more)).ended_with(0).out).unwrap();
    assert_eq!(summary["packets"], 3 * 619);
    let verdicts = lines(&here.path().join("v.jsonl"));
    assert!(verdicts.iter().zip(1..).all(|(line, n)| line["n"] == n));
    assert_eq!(verdicts.len(), 3 * 619);
    // What policy denies is denied each time.
    let denied = |turn: usize| {
        let turn = verdicts.iter().skip(turn * 619).take(619);
        turn.filter(|line| line["reason"] == "policy-deny").count()
    };
    assert_eq!((denied(1), denied(2)), (denied(0), denied(0)));
}

#[test]
fn captures_that_cannot_be_read_are_named_with_the_place() {
    let here = directory(&[("not.pcap", "hello there"), ("empty.pcap", "")]);
    let whole = fs::read(project("pcaps/uplink.pcap")).unwrap();
    fs::write(here.path().join("cut.pcap"), &whole[..50]).unwrap();
    let gateway = project("pcaps/gateway.yaml").display().to_string();
    let check = |name: &str, expected: &str| {
        let capture = format!("uplink={name}");
        let done =
            run_in(here.path(), ["replay", "--gateway", &gateway, "--in", &capture]).ended_with(3).said(expected);
        assert_eq!(done.out, "", "{name}");
    };
    check("cut.pcap", "truncated capture: `cut.pcap` ends inside the record that starts at byte 24");
    check("not.pcap", "`not.pcap` is no capture");
    check("empty.pcap", "truncated capture: `empty.pcap` ends inside the file header that starts at byte 0");
    check("none.pcap", "cannot read capture `none.pcap`");
    run_in(here.path(), arguments(&["--passed", "no/such/directory.pcapng"])).ended_with(3).said("cannot write");
}

/// The same packets as classic captures of both resolutions and as pcapng.
#[test]
fn the_form_of_a_capture_changes_no_verdict() {
    let here = directory(&[]);
    let first = run_in(here.path(), arguments(&["--passed", "all.pcapng", "--verdicts", "0.jsonl"]));
    first.ended_with(0);
    let mut capture = Capture::open(&here.path().join("all.pcapng")).unwrap();
    let header = |magic: u32| {
        let words = [magic, 0x0004_0002, 0, 0, 0x40000, 1];
        words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()
    };
    let (mut micro, mut nano) = (header(0xa1b2_c3d4), header(0xa1b2_3c4d));
    while let Some(record) = capture.next() {
        let record = record.unwrap();
        let (seconds, rest) = ((record.time.0 / 1_000_000_000) as u32, (record.time.0 % 1_000_000_000) as u32);
        let length = record.bytes.len() as u32;
        for (file, part) in [(&mut micro, rest / 1_000), (&mut nano, rest)] {
            let words = [seconds, part, length, record.original_length];
            file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            file.extend(record.bytes);
        }
    }
    fs::write(here.path().join("micro.pcap"), micro).unwrap();
    fs::write(here.path().join("nano.pcap"), nano).unwrap();
    let gateway = project("pcaps/gateway.yaml").display().to_string();
    let verdicts = |name: &str| {
        let arguments = ["replay", "--gateway", &gateway, "--in", name, "--verdicts", "v.jsonl"];
        run_in(here.path(), arguments).ended_with(0);
        fs::read_to_string(here.path().join("v.jsonl")).unwrap()
    };
    let expected = verdicts("all.pcapng");
    assert!(expected.lines().count() > 400, "{}", expected.lines().count());
    assert_eq!(verdicts("micro.pcap"), expected);
    assert_eq!(verdicts("nano.pcap"), expected);
}
