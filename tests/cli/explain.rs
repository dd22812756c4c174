//! `explain`: packets in, verdicts and stories out.

use std::fs;
use std::path::Path;

use crate::{GATEWAY, directory, examples, global, run_in, run_with_input};

const SCENARIOS: [&str; 3] = ["acl-group-prednat", "kubernetes-stand-in", "lesson-3-whitelist"];

#[test]
fn the_worked_examples_come_out_as_written() {
    let Some(examples) = examples() else { return };
    for name in SCENARIOS {
        let scenario = examples.join(name);
        let expected = fs::read_to_string(scenario.join("expected.jsonl")).unwrap();
        let inside = run_in(&scenario, ["explain", "--packets", "packets.jsonl", "-o", "json"]).ended_with(0);
        assert_eq!(inside.out, expected, "{name}");
        assert_eq!(inside.err, "", "{name}");

        // Origins are shown as the gateway file writes the paths, wherever the command runs.
        let [gateway, packets] =
            ["gateway.yaml", "packets.jsonl"].map(|file| scenario.join(file).display().to_string());
        let elsewhere = directory(&[]);
        let arguments = ["explain", "--gateway", &gateway, "--packets", &packets, "-o", "json"];
        assert_eq!(run_in(elsewhere.path(), arguments).ended_with(0).out, expected, "{name}");

        // Standard input, and one object per line as text.
        let packets = fs::read_to_string(scenario.join("packets.jsonl")).unwrap();
        let input = run_with_input(&scenario, ["explain", "--packets", "-", "-o", "json"], &packets).ended_with(0);
        assert_eq!(input.out, expected, "{name}");
        let text = run_with_input(&scenario, ["explain", "--packets", "-"], &packets).ended_with(0);
        assert_eq!(text.out.lines().count(), expected.lines().count(), "{name}");

        run_in(&scenario, ["check"]).ended_with(0);
    }
}

const SYN: &str =
    r#"{"in":"uplink","src":"1.1.1.1","dst":"10.0.0.1","proto":"tcp","sport":40000,"dport":80,"win":1000}"#;
const ANSWER: &str = r#"{"in":"downlink","src":"10.0.0.1","dst":"1.1.1.1","proto":"tcp","sport":80,"dport":40000,"flags":"SA","ack":1,"win":1000,"t":0.1}"#;

fn verdicts(directory: &Path, more: &[&str], packets: &str) -> Vec<String> {
    let mut arguments = vec!["explain", "--packets", "-", "-o", "json"];
    arguments.extend(more);
    let out = run_with_input(directory, arguments, packets).ended_with(0).out;
    let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .map(|line| format!("{} {} {} {}", line["n"], line["verdict"], line["reason"], line["flow"]).replace('"', ""))
        .collect()
}

#[test]
fn independent_packets_know_no_flow() {
    let host = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: w, labels: {role: w}}\n\
                spec: {node: w, interfaceName: eth0, expectedIPs: [10.0.0.1]}\n";
    let allow = global("in", "  selector: role == 'w'\n  types: [Ingress]\n  ingress: [{action: Allow}]");
    let here = directory(&[("gateway.yaml", GATEWAY), ("policies/h.yaml", host), ("policies/in.yaml", &allow)]);
    let packets = format!("{SYN}\n{ANSWER}\n\n{SYN}\n");
    assert_eq!(
        verdicts(here.path(), &[], &packets),
        ["1 allow policy-allow new", "2 allow established established", "3 allow established established"]
    );
    assert_eq!(
        verdicts(here.path(), &["--independent"], &packets),
        ["1 allow policy-allow new", "2 deny invalid-state none", "3 allow policy-allow new"]
    );
}

#[test]
fn every_bad_line_is_named_and_none_is_judged() {
    let here = directory(&[("gateway.yaml", GATEWAY), ("policies/p.yaml", &global("p", "  selector: all()"))]);
    let check = |line: &str, expected: &str| {
        fs::write(here.path().join("p.jsonl"), format!("{SYN}\n\n{line}\n{SYN}\n")).unwrap();
        let done = run_in(here.path(), ["explain", "--packets", "p.jsonl", "-o", "json"]).ended_with(3).said(expected);
        assert_eq!(done.out, "", "{line}");
    };
    check(r#"{"in":"uplink","src":"1.1.1.1","dst":"2.2.2.2","proto":"tcq"}"#, "p.jsonl:3:60: unknown protocol `tcq`");
    check(
        r#"{"in":"uplink","src":"1.1.1.1","dst":"2.2.2.2","proto":"tcp","sprt":1}"#,
        "p.jsonl:3:62: unknown field `sprt`",
    );
    check(r#"{"in":"uplink","src":"1.1.1","dst":"2.2.2.2","proto":"tcp"}"#, "p.jsonl:3:");
    check(r#"{"in":"sideways","src":"1.1.1.1","dst":"2.2.2.2","proto":"tcp"}"#, "p.jsonl:3:");
    check(r#"{"in":"uplink","src":"1.1.1.1","dst":"2.2.2.2","proto":"tcp","dport":70000}"#, "expected 0 to 65535");
    check(r#"{"src":"1.1.1.1","dst":"2.2.2.2","proto":"tcp"}"#, "`in` is missing");
    check(r#"{"in":"uplink" "src":1}"#, "p.jsonl:3:16: expected `,` or `}`");
    check("what", "p.jsonl:3:");
    // All of them at once.
    let two = format!("{{}}\n{SYN}\n[]\n");
    let done = run_with_input(here.path(), ["explain", "--packets", "-"], &two).ended_with(3);
    assert!(done.err.contains("standard input:1:1: ") && done.err.contains("standard input:3:1: "), "{}", done.err);
    fs::write(here.path().join("latin.jsonl"), [SYN.as_bytes(), b"\n\xff\n"].concat()).unwrap();
    run_in(here.path(), ["explain", "--packets", "latin.jsonl"]).ended_with(3).said("latin.jsonl:2:1: cannot read on");
    run_in(here.path(), ["explain", "--packets", "policies"]).ended_with(3).said("policies:1:1: cannot read on");
    run_in(here.path(), ["explain", "--packets", "none.jsonl"]).ended_with(3).said("cannot read `none.jsonl`");
}

#[test]
fn one_packet_is_told_with_every_stage() {
    let Some(examples) = examples() else { return };
    let scenario = examples.join("lesson-3-whitelist");
    let allowed =
        run_in(&scenario, ["explain", "--in", "uplink", "tcp 1.1.1.1:40000 > 169.1.1.1:80 [S]"]).ended_with(0);
    for text in ["prednat", "whitelist rule 0", "policies/whitelist.yaml:", "service", "172.30.1.10:8080", "workload"] {
        assert!(allowed.out.contains(text), "{text}: {}", allowed.out);
    }
    assert!(allowed.out.ends_with("ALLOW: policy-allow (stage prednat, flow new)\n"), "{}", allowed.out);
    let denied = run_in(&scenario, ["explain", "tcp 1.1.1.1:40000 > 10.1.1.1:31024"]).ended_with(1);
    assert!(
        denied.out.contains("deny-nodeports rule 0") && denied.out.contains("\nDENY: policy-deny"),
        "{}",
        denied.out
    );
    let out = run_in(&scenario, ["explain", "--in", "downlink", "udp 10.1.1.1:99 > 1.1.1.1:99"]).ended_with(1);
    assert!(out.out.contains("no-policy-deny"), "{}", out.out);

    let json = run_in(&scenario, ["explain", "tcp 1.1.1.1:40000 > 10.1.1.1:31024", "-o", "json"]).ended_with(1).out;
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.lines().count(), 1);
    assert_eq!(object["verdict"], "deny");
    assert_eq!(object["policy"], "deny-nodeports");
    assert_eq!(object["stages"][0]["stage"], "prednat");

    run_in(&scenario, ["explain", "tcp 1.1.1.1:40000 10.1.1.1:31024"]).ended_with(2).said("expected `>`");
}
