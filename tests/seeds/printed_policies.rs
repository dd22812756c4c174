//! The policies that the documents print (section D), loaded as they are printed where the corpus is there.

use crate::gateway::{Gateway, Outcome, read, shared};
use crate::place::{GATEWAY, SERVICE, WORKERS, deny_nodeports, global, namespace, pod};

/// A printed policy with its placeholders filled in.
fn seed(name: &str) -> Option<String> {
    let path = shared()?.join("corpus/seeds").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(text.replace("<loadbalancer_IP>", "169.1.1.1").replace("<client_address>", "1.1.1.1"))
}

fn hosts(texts: &[String]) -> Gateway {
    let text = texts.join("\n---\n");
    Gateway::new(GATEWAY, &[WORKERS, SERVICE, ("policy.yaml", &text)])
}

/// Pods and namespaces, and policies about them.
fn pods(inventory: &[String], texts: &[String]) -> Gateway {
    let (inventory, text) = (inventory.join(""), texts.join("\n---\n"));
    Gateway::new("", &[("inventory.yaml", &inventory), ("policy.yaml", &text)])
}

#[test]
fn d1_edges_of_deny_nodeports() {
    let mut texts = vec![("own".to_string(), deny_nodeports())];
    texts.extend(["000-01.yaml", "001-02.yaml", "002-01.yaml"].iter().filter_map(|n| Some((n.to_string(), seed(n)?))));
    for (name, text) in texts {
        let mut gateway = hosts(&[text]);
        let row = format!("D1 {name}");
        // A worker's own interface has no other policy: what preDNAT lets through must be for a service to pass on.
        for to in ["10.1.1.1", "10.1.1.2", "169.1.1.1"] {
            for (port, protocol, denied) in [
                (29_999, "tcp", false),
                (30_000, "tcp", true),
                (31_024, "tcp", true),
                (32_767, "tcp", true),
                (32_768, "tcp", false),
                (29_999, "udp", false),
                (30_000, "udp", true),
                (32_767, "udp", true),
                (32_768, "udp", false),
                (31_000, "sctp", false),
            ] {
                let outcome = gateway.alone(&format!("in {protocol} 1.1.1.1:40000 > {to}:{port}"));
                let rule = if protocol == "tcp" { 0 } else { 1 };
                let by_it = outcome.policy.as_deref() == Some("deny-nodeports") && outcome.rule == Some(rule);
                assert_eq!(
                    by_it && outcome.stage == "prednat",
                    denied,
                    "{row} {to} {protocol} {port}: {}",
                    outcome.line
                );
                if to == "169.1.1.1" {
                    // Governed through the segment, so forwarded, and no forward policy: the verdict shows it (GW-6).
                    assert_eq!(outcome.is_allowed, !denied, "{row} {protocol} {port}: {}", outcome.line);
                }
            }
        }
        gateway.check(&row, "in tcp 1.1.1.1:40000 > 10.9.9.1:31024", "pass profile");
        gateway.check(&row, "in tcp 1.1.1.1:40000 > 169.1.1.1:80", "pass profile");
        gateway.check(&row, "in icmp 1.1.1.1 > 169.1.1.1", "pass no-policy");
        // An outgoing flow from a port in the range, and its replies.
        gateway.check_next(&row, "out tcp 169.1.1.1:31000 > 9.9.9.9:443 [S]", "pass new");
        gateway.check_next(&row, "in tcp 9.9.9.9:443 > 169.1.1.1:31000 [SA]", "pass established");
        gateway.check_next(&row, "out udp 169.1.1.1:31000 > 9.9.9.9:53", "pass new");
        gateway.check_next(&row, "in udp 9.9.9.9:53 > 169.1.1.1:31000", "pass established");
        // Packets whose *source* port is in the range are not meant.
        gateway.check_next(&row, "in tcp 1.1.1.1:31000 > 169.1.1.1:80 [S]", "pass new");
    }
}

#[test]
fn d1_d2_established_traffic_is_untouched() {
    let mut gateway = Gateway::new(GATEWAY, &[WORKERS, SERVICE]);
    gateway.check_next("D1", "in udp 1.1.1.1:40000 > 10.1.1.1:31024", "pass new");
    let text = deny_nodeports();
    gateway.reload(&[WORKERS, SERVICE, ("p.yaml", &text)]);
    gateway.check_next("D1", "in udp 1.1.1.1:40000 > 10.1.1.1:31024", "pass established");
    gateway.check_next("D1", "in udp 1.1.1.1:40001 > 10.1.1.1:31024", "drop");
}

#[test]
fn d2_the_v1_form() {
    let Some(v1) = seed("000-02.yaml") else { return };
    let master = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\n\
                  metadata: { name: master-1-public, labels: { ibm.role: master_public } }\n\
                  spec: { node: master-1, interfaceName: eth1, expectedIPs: [10.1.1.9] }\n";
    let v3 = deny_nodeports().replace("name: deny-nodeports", "name: z-later-by-name");
    let mut gateway = hosts(&[v1.clone(), master.to_string()]);
    for (port, expected) in
        [(29_999, "drop no-policy-deny"), (30_000, "prednat"), (32_767, "prednat"), (32_768, "drop host-normal")]
    {
        for to in ["10.1.1.1", "10.1.1.9"] {
            let outcome = gateway.alone(&format!("in tcp 1.1.1.1:1 > {to}:{port}"));
            assert!(!outcome.is_allowed, "D2 {to} {port}: {}", outcome.line);
            assert_eq!(outcome.stage == "prednat", expected == "prednat", "D2 {to} {port}: {}", outcome.line);
        }
    }
    gateway.check("D2", "in udp 1.1.1.1:1 > 10.1.1.9:31000", "drop deny-nodeports#1");
    gateway.check("D2", "in sctp 1.1.1.1:1 > 169.1.1.1:31000", "pass");
    gateway.check("D2 not private", "in tcp 1.1.1.1:1 > 10.9.9.1:31024", "pass");
    // Without an order it comes last.
    let mut both = hosts(&[v1, v3, master.to_string()]);
    both.check("D2 after an order", "in tcp 1.1.1.1:1 > 10.1.1.1:31024", "drop z-later-by-name#0");
    both.check("D2 only this one selects the master", "in tcp 1.1.1.1:1 > 10.1.1.9:31024", "drop deny-nodeports#0");
}

/// Three tiers of one application.
fn application(namespace_name: &str) -> Vec<String> {
    ["frontend", "backend", "db"]
        .iter()
        .zip(1..)
        .map(|(tier, i)| pod(namespace_name, tier, &format!("172.30.6.{i}"), &format!("app: Srv1, tier: {tier}")))
        .collect()
}

const FRONTEND_TO_BACKEND: &str = "in tcp 172.30.6.1:1 > 172.30.6.2:80";
const BACKEND_TO_FRONTEND: &str = "in tcp 172.30.6.2:1 > 172.30.6.1:80";
const BACKEND_TO_DB: &str = "in tcp 172.30.6.2:1 > 172.30.6.3:80";
const FRONTEND_TO_DB: &str = "in tcp 172.30.6.1:1 > 172.30.6.3:80";

#[test]
fn d3_d4_label_keys_are_case_sensitive() {
    for (row, written, corrected, allowed, by) in [
        ("D3", "000-03.yaml", "000-03-corrected.yaml", FRONTEND_TO_BACKEND, "backend-allow"),
        ("D3", "003-01.yaml", "000-03-corrected.yaml", FRONTEND_TO_BACKEND, "backend-allow"),
        ("D4", "000-04.yaml", "000-04-corrected.yaml", BACKEND_TO_DB, "db-allow"),
        ("D4", "003-02.yaml", "000-04-corrected.yaml", BACKEND_TO_DB, "db-allow"),
    ] {
        let (Some(written), Some(corrected)) = (seed(written), seed(corrected)) else { return };
        let mut gateway = pods(&application("default"), &[written]);
        gateway.check(&format!("{row} as written"), allowed, "drop tier-default-deny");
        let warned = gateway.warnings.iter().any(|w| w.contains("`Tier`") && w.contains("`tier`"));
        assert!(warned, "{row}: no warning about `Tier`: {:#?}", gateway.warnings);
        let mut gateway = pods(&application("default"), &[corrected]);
        gateway.check(&format!("{row} corrected"), allowed, &format!("pass default/knp.default.{by}#0"));
        gateway.check(&format!("{row} frontend is not isolated"), BACKEND_TO_FRONTEND, "pass profile");
        if row == "D4" {
            gateway.check("D4 frontend to db", FRONTEND_TO_DB, "drop tier-default-deny");
        } else {
            gateway.check("D3 db to backend", "in tcp 172.30.6.3:1 > 172.30.6.2:80", "drop tier-default-deny");
        }
    }
}

#[test]
fn d5_accounts_allow() {
    for name in ["000-05.yaml", "003-03.yaml"] {
        let Some(text) = seed(name) else { return };
        let findings = read(&[("d5.yaml", &text)]).expect_err("D5 as written is refused");
        let has = |word: &str, code: &str| findings.iter().any(|f| f.contains(word) && f.contains(code));
        for (word, code) in [
            ("`metadata.Namespace`", "unknown-field"),
            ("from[0].NamespaceSelector`", "unknown-field"),
            ("from[0].ports`", "misplaced-ports"),
            ("`Tier`", "suspicious-label-key"),
        ] {
            assert!(has(word, code), "D5 {word}: {findings:#?}");
        }
    }
    let Some(text) = seed("000-05-corrected.yaml") else { return };
    let inventory = [
        namespace("accounts", "x: y"),
        namespace("finance", "usage: finance"),
        pod("accounts", "backend", "172.30.7.1", "app: Srv1, tier: backend"),
        pod("accounts", "other", "172.30.7.2", "app: Srv1, tier: frontend"),
        pod("finance", "clerk", "172.30.7.3", "a: b"),
    ];
    let mut gateway = pods(&inventory, &[text]);
    for (packet, expected) in [
        ("in tcp 172.30.7.3:1 > 172.30.7.1:3111", "pass accounts/knp.default.accounts-allow#0"),
        ("in udp 172.30.7.3:1 > 172.30.7.1:3111", "drop"),
        ("in tcp 172.30.7.3:1 > 172.30.7.1:3110", "drop"),
        ("in tcp 172.30.7.3:1 > 172.30.7.1:3112", "drop"),
        ("in tcp 172.30.7.2:1 > 172.30.7.1:3111", "drop tier-default-deny"),
        ("in tcp 172.30.7.3:1 > 172.30.7.2:80", "pass profile"),
    ] {
        gateway.check("D5 corrected", packet, expected);
    }
}

#[test]
fn d6_the_printed_service() {
    let Some(service) = seed("001-01.yaml") else { return };
    // What the API server adds to it.
    let service = service.replace("    targetPort: 8080", "    targetPort: 8080\n    nodePort: 31024")
        + "\nstatus: { loadBalancer: { ingress: [{ ip: 169.1.1.1 }] } }\n";
    let only_8080 = crate::place::kubernetes(
        "default",
        "web",
        "{ podSelector: { matchLabels: { run: webserver } }, ingress: [{ ports: [{ port: 8080 }] }] }",
    );
    let pod = pod("default", "webserver-1", "172.30.1.10", "run: webserver");
    let mut gateway =
        Gateway::new(GATEWAY, &[WORKERS, ("service.yaml", &service), ("pod.yaml", &pod), ("policy.yaml", &only_8080)]);
    for to in ["169.1.1.1:80", "10.1.1.1:31024", "10.1.1.2:31024", "10.9.9.2:31024"] {
        gateway.check("D6", &format!("in tcp 1.1.1.1:1 > {to}"), "pass default/knp.default.web#0");
    }
    gateway.check("D6 TCP only", "in udp 1.1.1.1:1 > 169.1.1.1:80", "pass no-policy");
}

#[test]
fn d7_d8_d9_the_load_balancer_policies() {
    let names = ["001-03.yaml", "001-04.yaml", "002-02.yaml", "001-05.yaml"];
    let texts: Vec<String> = names.iter().filter_map(|name| seed(name)).collect();
    let [deny, whitelist, allowlist, blacklist] = texts.as_slice() else { return };
    let unfilled = std::fs::read_to_string(shared().expect("it was there").join("corpus/seeds/001-03.yaml")).unwrap();
    let findings = read(&[("d7.yaml", &unfilled)]).expect_err("D7 a placeholder is refused");
    assert!(findings.iter().any(|f| f.contains("placeholder")), "D7 {findings:#?}");

    let mut gateway = hosts(std::slice::from_ref(deny));
    for (packet, expected) in [
        ("in tcp 1.1.1.1:1 > 169.1.1.1:80", "drop deny-lb-port-80#0"),
        ("in udp 1.1.1.1:1 > 169.1.1.1:80", "drop deny-lb-port-80#1"),
        ("in tcp 1.1.1.1:1 > 169.1.1.1:79", "pass"),
        ("in tcp 1.1.1.1:1 > 169.1.1.1:81", "pass"),
        ("in tcp 1.1.1.1:1 > 169.1.1.2:80", "pass"),
        ("in tcp 1.1.1.1:1 > 169.1.1.0:80", "pass"),
        ("in tcp 1.1.1.1:1 > 10.1.1.1:31024", "pass"),
    ] {
        gateway.check("D7", packet, expected);
    }
    for (text, name) in [(whitelist, "whitelist"), (allowlist, "allowlist")] {
        let mut gateway = hosts(&[deny.clone(), text.clone(), deny_nodeports()]);
        gateway.check("D8", "in tcp 1.1.1.1:1 > 169.1.1.1:80", &format!("pass prednat {name}#0"));
        gateway.check("D8", "in tcp 1.1.1.2:1 > 169.1.1.1:80", "drop deny-lb-port-80#0");
        gateway.check("D8", "in tcp 1.1.1.0:1 > 169.1.1.1:80", "drop deny-lb-port-80#0");
        gateway.check("D8 UDP", "in udp 1.1.1.1:1 > 169.1.1.1:80", "drop deny-lb-port-80#1");
    }
    // A preDNAT Allow skips the host's forward policy (PIPE-2), a later preDNAT Deny too.
    let forward = global(
        "forward",
        "{ order: 1, applyOnForward: true, selector: ibm.role == 'worker_public', ingress: [{ action: Deny }] }",
    );
    let mut gateway = hosts(&[deny.clone(), whitelist.clone(), forward]);
    gateway.check("D8 PIPE-2", "in tcp 1.1.1.1:1 > 169.1.1.1:80", "pass whitelist#0");
    gateway.check("D8 PIPE-2", "in tcp 1.1.1.1:1 > 169.1.1.1:81", "drop forward#0");

    let mut gateway = hosts(&[blacklist.clone(), deny_nodeports()]);
    for (packet, expected) in [
        ("in tcp 1.1.1.1:1 > 169.1.1.1:80", "drop blacklist#0"),
        ("in udp 1.1.1.1:1 > 169.1.1.1:80", "drop blacklist#1"),
        ("in tcp 1.1.1.2:1 > 169.1.1.1:80", "pass"),
        ("in tcp 1.1.1.1:1 > 10.1.1.1:31024", "drop deny-nodeports#0"),
    ] {
        gateway.check("D9", packet, expected);
    }
}

fn nginx() -> Vec<String> {
    vec![
        namespace("default", "x: y"),
        namespace("far", "x: y"),
        pod("default", "nginx", "172.30.8.1", "run: nginx"),
        pod("default", "access", "172.30.8.2", "run: access"),
        pod("far", "access", "172.30.8.3", "run: access"),
        pod("default", "other", "172.30.8.4", "run: other"),
    ]
}

#[test]
fn d10_d11_access_nginx_in_both_forms() {
    if let Some(raw) = seed("002-03-raw-indentation.txt") {
        let findings = read(&[("raw.yaml", &raw)]).expect_err("D10 the raw text is no YAML");
        assert!(findings.iter().any(|f| f.contains("raw.yaml:2")), "D10 names line 2: {findings:#?}");
    }
    let (Some(written), Some(converted)) = (seed("002-03-corrected.yaml"), seed("002-04.yaml")) else { return };
    // Both forms of the policy judge alike (D11).
    for (row, text, name) in [("D10", written, "access-nginx"), ("D11", converted, "access-nginx")] {
        let mut gateway = pods(&nginx(), &[text]);
        for (packet, expected) in [
            ("in tcp 172.30.8.2:1 > 172.30.8.1:80", true),
            ("in udp 172.30.8.2:1 > 172.30.8.1:53", true),
            ("in icmp 172.30.8.2 > 172.30.8.1", true),
            ("in tcp 172.30.8.3:1 > 172.30.8.1:80", false),
            ("in tcp 172.30.8.4:1 > 172.30.8.1:80", false),
            ("in tcp 1.1.1.1:1 > 172.30.8.1:80", false),
            ("in tcp 172.30.8.3:1 > 172.30.8.4:80", true),
        ] {
            let outcome = gateway.alone(packet);
            assert_eq!(outcome.is_allowed, expected, "{row} {packet}: {}", outcome.line);
            if expected && packet.contains("> 172.30.8.1") {
                assert!(outcome.policy.as_ref().is_some_and(|p| p.ends_with(name)), "{row} {}", outcome.line);
            }
        }
    }
}

#[test]
fn d12_d14_log_what_is_denied() {
    let (Some(access), Some(log)) = (seed("002-03-corrected.yaml"), seed("002-05.yaml")) else { return };
    // D14: another spelling of the selector selects the same pods.
    let other = log.replace(
        "projectcalico.org/orchestrator == 'k8s' && run == 'nginx'",
        "run in {'nginx'} && has(projectcalico.org/orchestrator)",
    );
    for (row, log) in [("D12", log), ("D14", other)] {
        let mut gateway = pods(&nginx(), &[access.clone(), log]);
        let denied: Outcome = gateway.alone("in tcp 172.30.8.4:1 > 172.30.8.1:80");
        assert_eq!((denied.is_allowed, denied.logs), (false, 1), "{row} {}", denied.line);
        assert_eq!(denied.reason, "tier-default-deny", "{row} {}", denied.line);
        let allowed = gateway.alone("in tcp 172.30.8.2:1 > 172.30.8.1:80");
        assert_eq!((allowed.is_allowed, allowed.logs), (true, 0), "{row} {}", allowed.line);
        let elsewhere = gateway.alone("in tcp 172.30.8.4:1 > 172.30.8.2:80");
        assert_eq!((elsewhere.is_allowed, elsewhere.logs), (true, 0), "{row} {}", elsewhere.line);
    }
}

#[test]
fn d12_a_log_policy_alone_closes_the_pod_log_5() {
    let Some(log) = seed("002-05.yaml") else { return };
    let mut gateway = pods(&nginx(), &[log]);
    let outcome = gateway.alone("in tcp 172.30.8.2:1 > 172.30.8.1:80");
    assert_eq!((outcome.is_allowed, outcome.logs, outcome.reason), (false, 1, "tier-default-deny"), "{}", outcome.line);
}

#[test]
fn d20_d21_what_is_no_policy() {
    // Each text by itself, as it would be copied from the page.
    for text in seed("004-raw.txt").iter().flat_map(|raw| raw.split("=====")) {
        let findings = read(&[("raw.yaml", text.trim_start())]).expect_err("D20 escaped dashes are no YAML");
        assert!(findings.iter().any(|f| f.contains("raw.yaml:") && f.contains("[")), "D20: {findings:#?}\n{text}");
    }
    for settings in [
        "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n  datastoreType: etcdv3\n",
        "apiVersion: v1\nkind: calicoApiConfig\nmetadata:\nspec:\n  etcdEndpoints: https://127.0.0.1:2379\n",
    ] {
        let (_, findings) = read(&[("calicoctl.cfg", settings)]).expect("D21 A26 settings of calicoctl are no error");
        assert!(findings.iter().any(|f| f.starts_with("note")), "D21 {findings:#?}");
    }
}

/// Pods by colour in namespaces by shape.
fn colours() -> Vec<String> {
    vec![
        namespace("default", "shape: round"),
        namespace("square", "shape: square"),
        namespace("policy-demo", "a: b"),
        pod("default", "blue", "172.30.9.1", "color: blue"),
        pod("default", "red", "172.30.9.2", "color: red"),
        pod("square", "red", "172.30.9.3", "color: red"),
        pod("square", "blue", "172.30.9.4", "color: blue"),
        pod("policy-demo", "demo", "172.30.9.5", "a: b"),
        pod("policy-demo", "demo2", "172.30.9.6", "a: b"),
    ]
}

#[test]
fn d15_to_d19_policies_of_the_blog() {
    let check = |row: &str, name: &str, cases: &[(&str, &str)]| {
        let Some(text) = seed(name) else { return };
        let mut gateway = pods(&colours(), &[text]);
        for (packet, expected) in cases {
            gateway.check(row, packet, expected);
        }
    };
    check(
        "D15",
        "004-01-corrected.yaml",
        &[
            ("in tcp 172.30.9.2:1 > 172.30.9.1:80", "pass"),
            ("in udp 172.30.9.2:1 > 172.30.9.1:80", "drop"),
            ("in tcp 172.30.9.2:1 > 172.30.9.1:81", "drop"),
            ("in tcp 172.30.9.3:1 > 172.30.9.1:80", "drop"),
            ("in tcp 172.30.9.2:1 > 172.30.9.4:81", "pass"),
            ("out tcp 172.30.9.1:1 > 8.8.8.8:81", "pass"),
        ],
    );
    check(
        "D16",
        "004-02-corrected.yaml",
        &[
            ("in tcp 172.30.9.3:1 > 172.30.9.1:80", "pass"),
            ("in tcp 172.30.9.2:1 > 172.30.9.1:80", "drop"),
            ("in tcp 172.30.9.4:1 > 172.30.9.1:80", "drop"),
        ],
    );
    check(
        "D17",
        "004-03-corrected.yaml",
        &[
            ("out tcp 172.30.9.1:1 > 172.30.9.2:80", "pass"),
            ("out tcp 172.30.9.1:1 > 172.30.9.2:81", "drop"),
            ("out tcp 172.30.9.1:1 > 172.30.9.3:80", "drop"),
            // Easy to miss: Ingress is among the types by default.
            ("in tcp 172.30.9.2:1 > 172.30.9.1:80", "drop tier-default-deny"),
            ("in tcp 1.1.1.1:1 > 172.30.9.2:80", "pass"),
        ],
    );
    check(
        "D18",
        "004-04-corrected.yaml",
        &[
            ("out tcp 172.30.9.2:1 > 172.18.0.255:80", "pass"),
            ("out udp 172.30.9.2:1 > 172.18.0.0:53", "pass"),
            ("out icmp 172.30.9.2 > 172.18.0.7", "pass"),
            ("out 112 172.30.9.2 > 172.18.0.7", "pass"),
            ("out tcp 172.30.9.2:1 > 172.18.1.0:80", "drop"),
            ("out tcp 172.30.9.2:1 > 172.17.255.255:80", "drop"),
            ("in tcp 172.18.0.1:1 > 172.30.9.2:80", "drop tier-default-deny"),
        ],
    );
    check(
        "D19",
        "004-05-corrected.yaml",
        &[
            ("in tcp 172.30.9.6:1 > 172.30.9.5:80", "drop"),
            ("out tcp 172.30.9.5:1 > 172.30.9.6:80", "drop"),
            ("out udp 172.30.9.6:1 > 1.1.1.1:80", "drop"),
            ("in icmp 1.1.1.1 > 172.30.9.6", "drop"),
            ("in tcp 1.1.1.1:1 > 172.30.9.1:80", "pass profile"),
            ("out tcp 172.30.9.1:1 > 172.30.9.2:80", "pass profile"),
        ],
    );
    // Two policies of one name are an error when loaded together (IN-8).
    if let (Some(one), Some(two)) = (seed("004-01-corrected.yaml"), seed("004-02-corrected.yaml")) {
        let findings = read(&[("1.yaml", &one), ("2.yaml", &two)]).expect_err("D16 one name twice");
        assert!(findings.iter().any(|f| f.contains("duplicate-resource")), "D16 {findings:#?}");
    }
}
