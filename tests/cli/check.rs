//! `check`: everything that is wrong, at once and in place.

use serde_json::Value;

use crate::{GATEWAY, directory, global, project, run_in};

const KEYS: [&str; 6] = ["code", "message", "file", "line", "column", "resource"];

fn json(directory: &std::path::Path, code: i32) -> Value {
    let out = run_in(directory, ["check", "-o", "json"]).ended_with(code).out;
    assert_eq!(out.lines().count(), 1, "{out}");
    let value: Value = serde_json::from_str(&out).unwrap();
    for list in ["errors", "warnings", "notes"] {
        for finding in value[list].as_array().unwrap() {
            assert!(KEYS.iter().all(|key| finding.get(key).is_some()), "{finding}");
        }
    }
    value
}

fn codes(list: &Value) -> Vec<String> {
    let shown =
        |finding: &Value| format!("{} {}:{}", finding["code"], finding["file"], finding["line"]).replace('"', "");
    list.as_array().unwrap().iter().map(shown).collect()
}

#[test]
fn sound_policies_end_with_0_and_notes_do_not_change_that() {
    let here = directory(&[("gateway.yaml", GATEWAY), ("policies/p.yaml", &global("p", "  selector: x == 'y'"))]);
    let found = json(here.path(), 0);
    assert_eq!(codes(&found["notes"]), ["selects-nothing policies/p.yaml:1"]);
    assert_eq!(found["notes"][0]["resource"], "GlobalNetworkPolicy p");
    assert_eq!((codes(&found["errors"]).len(), codes(&found["warnings"]).len()), (0, 0));
    let text = run_in(here.path(), ["check"]).ended_with(0).out;
    assert!(text.ends_with("; 0 errors, 0 warnings, 1 note\n"), "{text}");
}

#[test]
fn the_projects_own_policies_raise_nothing() {
    let lesson = |name: &str| project("src/lab/policies").join(name).display().to_string();
    let check = |arguments: &[&str]| {
        let mut command = vec!["check", "-o", "json"];
        command.extend(arguments);
        let out = run_in(&project("."), command).ended_with(0).out;
        assert_eq!(out, "{\"errors\":[],\"warnings\":[],\"notes\":[]}\n", "{arguments:?}");
    };
    check(&["--gateway", "pcaps/gateway.yaml"]);
    let inventory = lesson("inventory.yaml");
    for policy in ["deny-nodeports.yaml", "deny-lb-port-80.yaml", "blacklist.yaml"] {
        check(&["--policy", &inventory, "--policy", &lesson(policy)]);
    }
    check(&["--policy", &inventory, "--policy", &lesson("deny-nodeports.yaml"), "--policy", &lesson("whitelist.yaml")]);
}

#[test]
fn v1_3_policies_that_no_longer_act_on_forwarded_traffic_are_warned_about() {
    let host = "apiVersion: v1\nkind: hostEndpoint\nmetadata: {name: h, node: n, labels: {role: h}}\n\
                spec: {interfaceName: eth0, expectedIPs: [10.0.0.1]}\n";
    let policy = "apiVersion: v1\nkind: policy\nmetadata: {name: p}\nspec: {selector: \"role == 'h'\", ingress: [{action: allow}]}\n";
    let here = directory(&[("gateway.yaml", GATEWAY), ("policies/h.yaml", host), ("policies/p.yaml", policy)]);
    assert_eq!(codes(&json(here.path(), 1)["warnings"]), ["v1-not-forwarded policies/p.yaml:1"]);
    std::fs::write(here.path().join("gateway.yaml"), format!("{GATEWAY}v1_forward: legacy\n")).unwrap();
    assert_eq!(codes(&json(here.path(), 0)["warnings"]).len(), 0, "GW-32");
}

#[test]
fn warnings_end_with_1() {
    let host = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: w, labels: {role: w}}\n\
                spec: {node: w, interfaceName: eth0, expectedIPs: [10.0.0.1]}\n";
    let deny = global(
        "no-ssh",
        "  selector: role == 'w'\n  preDNAT: true\n  applyOnForward: true\n  types: [Ingress]\n  ingress:\n  - action: Deny\n    protocol: TCP\n    destination: {ports: [22]}",
    );
    let here = directory(&[("gateway.yaml", GATEWAY), ("policies/h.yaml", host), ("policies/ssh.yaml", &deny)]);
    let found = json(here.path(), 1);
    assert_eq!(codes(&found["warnings"]), ["failsafe-bypass policies/ssh.yaml:11"]);
    let text = run_in(here.path(), ["check"]).ended_with(1).out;
    assert!(text.contains("does not deny tcp 22") && text.contains(" 11 |   - action: Deny\n"), "{text}");
}

#[test]
fn errors_of_all_files_are_told_in_one_run() {
    let here = directory(&[
        ("gateway.yaml", GATEWAY),
        ("policies/a.yaml", &global("a", "  preDnat: true\n  order: first")),
        (
            "policies/b.yaml",
            &global("b", "  ingress:\n  - action: deny\n  - action: Deny\n    source: {nets: [10.1.1.1/8]}"),
        ),
        ("policies/c.json", "{\"apiVersion\": \"projectcalico.org/v3\", \"kind\": \"GlobalNetworkPolicies\"}"),
        ("policies/good.yaml", &global("good", "  selector: all()")),
    ]);
    let found = json(here.path(), 3);
    assert_eq!(
        codes(&found["errors"]),
        [
            "unknown-field policies/a.yaml:6",
            "wrong-type policies/a.yaml:7",
            "unknown-value policies/b.yaml:7",
            "host-bits policies/b.yaml:9",
            "unknown-kind policies/c.json:1",
        ]
    );
    assert_eq!(found["errors"][0]["column"], 3);
    // Nothing is applied by halves: what needs a policy does not run.
    let packet = "udp 1.1.1.1:1 > 2.2.2.2:2";
    let refused = run_in(here.path(), ["explain", packet]).ended_with(3).said("policies/a.yaml:6:3: unknown field");
    assert_eq!(refused.out, "");
    // A note or warning for an unknown field when asked, and the other errors remain.
    let lenient = run_in(here.path(), ["check", "--lenient", "-o", "json"]).ended_with(3).out;
    let lenient: Value = serde_json::from_str(&lenient).unwrap();
    assert_eq!(codes(&lenient["warnings"])[0], "unknown-field policies/a.yaml:6");
}

#[test]
fn policies_on_the_command_line_replace_those_of_the_gateway_file() {
    let here = directory(&[
        ("gateway.yaml", GATEWAY),
        ("policies/bad.yaml", "nonsense"),
        ("other/p.yaml", &global("p", "  selector: all()")),
    ]);
    run_in(here.path(), ["check"]).ended_with(3);
    run_in(here.path(), ["check", "--policy", "other"]).ended_with(0);
    run_in(here.path(), ["check", "--policy", "other", "--policy", "policies/bad.yaml"]).ended_with(3);
    std::fs::remove_file(here.path().join("gateway.yaml")).unwrap();
    run_in(here.path(), ["check", "--policy", "other"]).ended_with(0);
    run_in(here.path(), ["check"]).ended_with(3);
}
