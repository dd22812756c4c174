//! `ringwall show` and the policies that `explain` finds to have no part in a decision, as a user runs them.

use assert_cmd::Command;
use serde_json::Value;

const POLICIES: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: access-nginx}
spec:
  podSelector: {matchLabels: {app: nginx}}
  ingress: [{from: [{podSelector: {matchLabels: {run: access}}}]}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: normal}
spec:
  order: 10
  selector: role == 'worker'
  ingress: [{action: Deny, protocol: TCP, destination: {ports: [81]}}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: forward}
spec:
  order: 20
  selector: role == 'worker'
  applyOnForward: true
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [80, 443]}}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web-first}
spec:
  order: 5
  selector: role == 'worker'
  applyOnForward: true
  preDNAT: true
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Deny, protocol: UDP}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: outgoing}
spec:
  order: 500.5
  selector: role == 'worker'
  applyOnForward: true
  types: [Egress]
  egress: [{action: Allow}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: late}
spec:
  selector: role == 'worker'
  applyOnForward: true
  ingress: [{action: Allow}]
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: worker-1, labels: {role: worker}}
spec: {node: worker-1, interfaceName: eth1, expectedIPs: [10.0.0.5]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: feed, labels: {threat: high}}
spec: {nets: [1.2.3.0/24, 5.0.0.0/8]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: nginx}}
status: {podIP: 10.1.1.1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  clusterIP: 172.21.0.9
  loadBalancerSourceRanges: [9.0.0.0/8]
  selector: {app: nginx}
  ports: [{port: 80, targetPort: 8080, nodePort: 31024}]
status: {loadBalancer: {ingress: [{ip: 169.1.1.1}]}}
"#;

const GATEWAY: &str = r#"
apiVersion: ringwall/v1
kind: Gateway
node: gw-1
policy: [policies.yaml]
segments:
- {name: balancers, cidrs: [169.1.1.0/24], hostEndpoint: worker-1}
"#;

/// What a command prints on standard output and error, and its exit code.
fn ringwall(arguments: &[&str]) -> (String, String, i32) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("policies.yaml"), POLICIES).unwrap();
    std::fs::write(directory.path().join("gateway.yaml"), GATEWAY).unwrap();
    let mut command = Command::cargo_bin("ringwall").unwrap();
    let output = command.current_dir(directory.path()).env("RINGWALL_LOG", "off").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn show(arguments: &[&str]) -> String {
    let (out, error, code) = ringwall(&[&["show"], arguments].concat());
    assert_eq!((code, error.as_str()), (0, ""), "{arguments:?}");
    out
}

#[test]
fn policies_stand_in_evaluation_order() {
    let expected = "\
NAMESPACE   NAME                       ORDER    SELECTOR
<none>      web-first                  5        role == 'worker'
<none>      normal                     10       role == 'worker'
<none>      forward                    20       role == 'worker'
<none>      outgoing                   500.5    role == 'worker'
default     knp.default.access-nginx   1000     projectcalico.org/orchestrator == 'k8s' && app == 'nginx'
<none>      late                       <none>   role == 'worker'
";
    assert_eq!(show(&["policies"]), expected);
    let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(words(&show(&["policies", "--no-headers"])), words(expected.split_once('\n').unwrap().1));
    let wide = show(&["policies", "-o", "wide"]);
    let first = wide.lines().nth(1).unwrap();
    for cell in ["GlobalNetworkPolicy", "default", "preDNAT", "Ingress", "policies.yaml:"] {
        assert!(first.contains(cell), "{cell} in {first}");
    }
}

#[test]
fn kinds_are_known_in_singular_plural_and_any_case_b7_b8() {
    let check = |kind: &str, expected: &[&str]| {
        let names = show(&[kind, "-o", "name"]);
        assert_eq!(names.lines().collect::<Vec<_>>(), expected, "{kind}");
    };
    let global = ["web-first", "normal", "forward", "outgoing", "late"];
    for kind in ["GlobalNetworkPolicy", "GlobalNetworkPolicies", "globalnetworkpolicies", "GNP"] {
        check(kind, &global);
    }
    for kind in ["NetworkPolicy", "networkpolicies", "np"] {
        check(kind, &["default/knp.default.access-nginx"]);
    }
    let all = ["web-first", "normal", "forward", "outgoing", "default/knp.default.access-nginx", "late"];
    for kind in ["policy", "policies", "Policy"] {
        check(kind, &all);
    }
    check("endpoints", &["worker-1", "balancers", "default/web"]);
    check("HostEndpoint", &["worker-1"]);
    check("pods", &["default/web"]);
    check("svc", &["default/web"]);
    check("GlobalNetworkSet", &["feed"]);
}

#[test]
fn a_kubernetes_policy_is_shown_as_converted_by_each_of_its_names_b9() {
    let converted = show(&["policy", "knp.default.access-nginx", "-o", "yaml"]);
    assert!(converted.starts_with("apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\n"), "{converted}");
    assert!(converted.contains("\n  name: knp.default.access-nginx\n  namespace: default\n"), "{converted}");
    assert!(converted.contains("\n  order: 1000\n"), "{converted}");
    for name in ["access-nginx", "default/access-nginx", "default/knp.default.access-nginx"] {
        assert_eq!(show(&["NetworkPolicy", name, "-o", "yaml"]), converted, "{name}");
    }
    assert_eq!(show(&["policy", "access-nginx", "--namespace", "default", "-o", "yaml"]), converted);
}

#[test]
fn a_calico_resource_is_shown_as_written() {
    let policy: Value = serde_json::from_str(&show(&["policy", "outgoing", "-o", "json"])).unwrap();
    assert_eq!(policy["spec"]["order"], 500.5);
    assert_eq!(policy["spec"]["egress"][0]["action"], "Allow");
    let text = show(&["hostendpoint", "worker-1", "-o", "yaml"]);
    assert!(text.contains("spec:\n  expectedIPs:\n  - 10.0.0.5\n  interfaceName: eth1\n"), "{text}");
}

#[test]
fn an_unknown_name_is_answered_with_the_closest() {
    let check = |arguments: &[&str], expected: &str| {
        let (out, error, code) = ringwall(&[&["show"], arguments].concat());
        assert_eq!((out.as_str(), code), ("", 1), "{arguments:?}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    };
    check(&["policy", "acces-nginx"], "did you mean `default/knp.default.access-nginx`?");
    check(&["policy", "web-frist"], "no policy `web-frist` is loaded\n   = help: did you mean `web-first`?");
    check(&["policy", "access-nginx", "-n", "shop"], "no policy `access-nginx` is loaded in namespace `shop`");
    check(&["hostendpoint", "worker-2"], "did you mean `worker-1`?");
    check(&["pod", "worker-1"], "no pod `worker-1` is loaded");
    let (_, error, code) = ringwall(&["show", "bananas"]);
    assert_eq!(code, 2, "{error}");
}

#[test]
fn endpoints_services_and_sets_say_what_they_stand_for() {
    let row = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.split_whitespace().any(|word| word == name));
        line.unwrap_or_else(|| panic!("{name} in\n{text}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let endpoints = show(&["endpoints"]);
    assert_eq!(
        row(&endpoints, "worker-1"),
        "<none> worker-1 stand-in 10.0.0.5 worker-1 eth1 role=worker web-first,normal,forward,outgoing,late"
    );
    assert_eq!(
        row(&endpoints, "balancers"),
        "<none> balancers segment 169.1.1.0/24 <none> <none> <none> web-first,forward,outgoing,late"
    );
    assert_eq!(
        row(&endpoints, "web"),
        "default web pod 10.1.1.1 <none> <none> app=nginx default/knp.default.access-nginx"
    );
    let services = show(&["services"]);
    assert_eq!(row(&services, "172.21.0.9:80"), "default web TCP 172.21.0.9:80 10.1.1.1:8080 <none>");
    assert_eq!(row(&services, "169.1.1.1:80"), "default web TCP 169.1.1.1:80 10.1.1.1:8080 9.0.0.0/8");
    assert_eq!(row(&services, "31024"), "default web TCP node port 31024 10.1.1.1:8080 <none>");
    assert_eq!(row(&show(&["sets"]), "feed"), "feed 2 threat=high");
}

#[test]
fn the_program_tells_its_sizes() {
    let program: Value = serde_json::from_str(&show(&["program", "-o", "json"])).unwrap();
    assert_eq!((&program["generation"], &program["endpoints"]), (&1.into(), &1.into()));
    let tables = program["tables"].as_array().unwrap();
    let sum: u64 = tables.iter().map(|table| table["bytes"].as_u64().unwrap()).sum();
    assert_eq!(program["bytes"], sum);
    let names: Vec<&str> = tables.iter().map(|table| table["name"].as_str().unwrap()).collect();
    for name in ["entries", "vectors", "source", "destination", "source-port", "destination-port", "protocol", "places"]
    {
        assert!(names.contains(&name), "{name}");
    }
    assert!(show(&["program"]).starts_with("generation 1, "));
}

#[test]
fn the_program_tells_how_its_lists_are_kept() {
    let program: Value = serde_json::from_str(&show(&["program", "-o", "json"])).unwrap();
    let level = program["instructions"].as_str().unwrap();
    assert!(["scalar", "avx2", "avx512"].contains(&level), "{level}");
    let structures = program["structures"].as_array().unwrap();
    assert!(!structures.is_empty());
    let mut lists = 0;
    for structure in structures {
        let name = structure["structure"].as_str().unwrap();
        assert!(["filed+cross-product", "filed", "cross-product", "bit-vectors"].contains(&name), "{name}");
        for key in ["entries", "broad", "records", "classes", "bytes"] {
            assert!(structure[key].is_u64(), "{key} of {structure}");
        }
        assert!(structure["estimatedNs"].as_f64().unwrap() > 0.0, "{structure}");
        lists += structure["lists"].as_u64().unwrap();
    }
    // What short lists are kept in is one row, whatever their number.
    let text = show(&["program"]);
    let short = structures.iter().find(|structure| structure["structure"] == "bit-vectors").unwrap();
    assert!(short["lists"].as_u64().unwrap() > 1 && lists >= short["lists"].as_u64().unwrap());
    let row = text.lines().find(|line| line.starts_with("bit-vectors")).unwrap_or_else(|| panic!("{text}"));
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1], short["lists"].to_string(), "{row}");
    assert!(text.contains("STRUCTURE   ") && text.contains(level), "{text}");
}

/// Policies and codes of `notApplied` of a packet.
fn not_applied(arguments: &[&str]) -> Vec<(String, String)> {
    let (out, error, code) = ringwall(&[&["explain", "-o", "json"], arguments].concat());
    assert!(code <= 1, "{error}");
    let story: Value = serde_json::from_str(&out).unwrap();
    let absent = story["notApplied"].as_array().unwrap().iter();
    absent.map(|a| (a["policy"].as_str().unwrap().to_string(), a["code"].as_str().unwrap().to_string())).collect()
}

#[test]
fn explain_says_why_policies_had_no_part() {
    let nginx = "default/knp.default.access-nginx";
    let check = |arguments: &[&str], expected: &[(&str, &str)]| {
        let found = not_applied(arguments);
        let found: Vec<(&str, &str)> = found.iter().map(|(policy, code)| (policy.as_str(), code.as_str())).collect();
        assert_eq!(found, expected, "{arguments:?}");
    };
    // PIPE-2: the Allow before the translation spares the packet the endpoint's later rules.
    check(
        &["tcp 9.9.9.9:1000 > 10.0.0.5:80 [S]"],
        &[
            ("normal", "stage-skipped"),
            ("forward", "stage-skipped"),
            ("late", "stage-skipped"),
            ("outgoing", "other-direction"),
            (nginx, "selector"),
        ],
    );
    // ACT-1: the first that decides ends the list.
    check(
        &["tcp 9.9.9.9:1000 > 10.0.0.5:443 [S]"],
        &[
            ("web-first", "no-rule-matches"),
            ("normal", "no-rule-matches"),
            ("late", "decided-before"),
            ("outgoing", "other-direction"),
            (nginx, "selector"),
        ],
    );
    // PIPE-7, GW-6: what the segment's endpoint governs is forwarded.
    check(
        &["tcp 9.9.9.9:1000 > 169.1.1.9:443 [S]"],
        &[
            ("web-first", "no-rule-matches"),
            ("normal", "not-on-forward"),
            ("late", "decided-before"),
            ("outgoing", "other-direction"),
            (nginx, "selector"),
        ],
    );
    // GW-10: after a Deny no stage runs.
    check(
        &["udp 9.9.9.9:1000 > 10.0.0.5:443"],
        &[
            ("normal", "stage-not-reached"),
            ("forward", "stage-not-reached"),
            ("late", "stage-not-reached"),
            ("outgoing", "other-direction"),
            (nginx, "selector"),
        ],
    );
    // ACT-8: an outbound packet meets Egress lists only.
    check(
        &["--in", "downlink", "tcp 10.0.0.5:1000 > 9.9.9.9:443 [S]"],
        &[
            ("web-first", "other-direction"),
            ("normal", "other-direction"),
            ("forward", "other-direction"),
            ("late", "other-direction"),
            (nginx, "selector"),
        ],
    );
    // HEP-3: nobody governs the address.
    let nobody = not_applied(&["tcp 9.9.9.9:1000 > 10.7.7.7:443 [S]"]);
    assert!(nobody.len() == 6 && nobody.iter().all(|(_, code)| code == "no-endpoint"), "{nobody:?}");
    // ACT-6: the pod's policy governs it and allows somebody else.
    check(
        &["tcp 9.9.9.9:1000 > 10.1.1.1:443 [S]"],
        &[
            (nginx, "no-rule-matches"),
            ("web-first", "selector"),
            ("normal", "selector"),
            ("forward", "selector"),
            ("outgoing", "selector"),
            ("late", "selector"),
        ],
    );
}
