//! Input that must be refused, each with a message of its own.

use crate::{GATEWAY, directory, global, run_in};

#[test]
fn bad_policies_are_refused_with_their_place() {
    let check = |name: &str, text: &str, expected: &[&str]| {
        let good = global("good", "  selector: all()");
        let here =
            directory(&[("gateway.yaml", GATEWAY), ("policies/good.yaml", &good), (&format!("policies/{name}"), text)]);
        // Every verb that needs policies says the same.
        let told = run_in(here.path(), ["check"]).ended_with(3).out;
        let explained = run_in(here.path(), ["explain", "udp 1.1.1.1:1 > 2.2.2.2:2"]).ended_with(3);
        assert_eq!(explained.out, "", "{name}");
        for text in expected {
            assert!(told.contains(text), "{name}: expected `{text}` in {told}");
            assert!(explained.err.contains(text), "{name}: expected `{text}` in {}", explained.err);
        }
    };
    check("unknown.yaml", &global("p", "  colour: red"), &["policies/unknown.yaml:6:3: unknown field `spec.colour`"]);
    check("case.yaml", &global("p", "  preDnat: true"), &["policies/case.yaml:6:3: ", "did you mean `preDNAT`?"]);
    check(
        "value.yaml",
        &global("p", "  ingress:\n  - action: deny"),
        &["policies/value.yaml:7:13: ", "did you mean `Deny`?"],
    );
    let source = |net: &str| global("p", &format!("  ingress:\n  - action: Deny\n    source: {{nets: [{net}]}}"));
    check(
        "bits.yaml",
        &source("10.1.1.1/8"),
        &["policies/bits.yaml:8:21: ", "`10.1.1.1/8` has bits set", "did you mean `10.0.0.0/8`"],
    );
    check("hole.yaml", &source("<client-ip>/32"), &["policies/hole.yaml:8:21: ", "unfilled placeholder"]);
    check(
        "twice.yaml",
        &global("p", "  order: 1\n  order: 2"),
        &["policies/twice.yaml:7:3: key `order` is given twice"],
    );
    check("again.yaml", &global("good", "  order: 1"), &["GlobalNetworkPolicy good is given twice"]);
    check("syntax.yaml", "a: [1, 2\nb: 3\n", &["policies/syntax.yaml:"]);
    check("syntax.json", "{\"a\": 1,}", &["policies/syntax.json:1:9: "]);
    check("kind.yaml", "apiVersion: v1\nkind: Teapot\n", &["policies/kind.yaml:2:", "Teapot"]);

    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for pair in ["ab", "bc", "cd", "de", "ef", "fg", "gh"] {
        let (from, to) = pair.split_at(1);
        bomb.push_str(&format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 10].join(", ")));
    }
    check("bomb.yaml", &bomb, &["aliases expand to too many values"]);
    check("deep.json", &"[".repeat(100_000), &["policies/deep.json:1:"]);
}

#[test]
fn an_empty_policy_file_is_a_warning() {
    for (name, text) in [("empty.yaml", ""), ("comment.yaml", "# later\n"), ("marks.yaml", "---\n---\n")] {
        let here = directory(&[("gateway.yaml", GATEWAY), (&format!("policies/{name}"), text)]);
        let told = run_in(here.path(), ["check"]).ended_with(1).out;
        assert!(told.contains(&format!("warning: `policies/{name}` holds no resource")), "{told}");
    }
}

#[test]
fn missing_files_are_named() {
    let here = directory(&[("gateway.yaml", GATEWAY)]);
    let check = |arguments: &[&str], expected: &str| {
        let done = run_in(here.path(), arguments).ended_with(3);
        assert!(format!("{}{}", done.out, done.err).contains(expected), "{arguments:?}: {done:?}");
    };
    check(&["check", "--gateway", "none.yaml"], "cannot read `none.yaml`");
    check(&["run", "--gateway", "none.yaml"], "cannot read `none.yaml`");
    check(&["check"], "policies");
    check(&["check", "--policy", "nowhere.yaml"], "nowhere.yaml");
}

#[test]
fn a_gateway_file_with_several_errors_tells_them_all() {
    let gateway = "apiVersion: ringwall/v1
kind: Gateway
node: 5
failsafe: maybe
default: Allow
segments: [{name: a, cidrs: [10.0.0.1/8]}]
flows: {capacity: 0}
colour: red
";
    let here = directory(&[("gateway.yaml", gateway)]);
    let told = run_in(here.path(), ["check"]).ended_with(3).out;
    for text in [
        "gateway.yaml:3:7: `node`: expected a string",
        "gateway.yaml:4:11: `failsafe`: expected one of `calico`, `own`, `none`, found `maybe`",
        "gateway.yaml:5:10: `default`: ",
        "gateway.yaml:6:30: `10.0.0.1/8` has bits set",
        "gateway.yaml:7:19: `flows.capacity`: expected 1 to ",
        "gateway.yaml:8:1: unknown field `colour`",
        "6 errors, ",
    ] {
        assert!(told.contains(text), "expected `{text}` in {told}");
    }
}

#[test]
fn names_that_a_gateway_file_gets_wrong_are_told_with_the_near_ones() {
    let gateway = |segment: &str| format!("{GATEWAY}segments: [{{name: a, cidrs: [10.0.0.0/8], {segment}}}]\n");
    let host = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: worker}\n\
                spec: {node: w, interfaceName: eth0, expectedIPs: [10.0.0.1]}\n";
    let check = |segment: &str, expected: &str| {
        let here = directory(&[("gateway.yaml", &gateway(segment)), ("policies/h.yaml", host)]);
        let told = run_in(here.path(), ["check"]).ended_with(3).out;
        assert!(told.contains(expected), "expected `{expected}` in {told}");
    };
    check("hostEndpoint: wrker", "did you mean `worker`?");
    check("networkACL: none", "none");
    check("securityGroups: [none]", "none");
}

#[test]
fn a_bad_hardware_profile_is_told_with_all_its_errors() {
    let profile = "apiVersion: ringwall/v1\nkind: HardwareProfile\nqueues: 0\nmode: warp\nspeed: 9\n";
    let here = directory(&[
        ("gateway.yaml", "apiVersion: ringwall/v1\nkind: Gateway\nprofile: hw/p.yaml\n"),
        ("hw/p.yaml", profile),
    ]);
    let told = run_in(here.path(), ["check"]).ended_with(3).out;
    for text in [
        "hw/p.yaml:3:9: `queues`: expected 1 to 256, found `0`",
        "hw/p.yaml:4:7: `mode`: expected one of ",
        "hw/p.yaml:5:1: unknown field `speed`",
    ] {
        assert!(told.contains(text), "expected `{text}` in {told}");
    }
    std::fs::remove_file(here.path().join("hw/p.yaml")).unwrap();
    let told = run_in(here.path(), ["check"]).ended_with(3).out;
    assert!(told.contains("hw/p.yaml"), "{told}");
}
