//! Rules of the specification that the tables above do not reach, one line of data each: families, ports, ICMP, named ports.

use crate::gateway::Gateway;

/// A policy for one pod with IPv4 and IPv6 address: these ingress rules and nothing else; and other pods for selectors.
fn pod_with(rules: &str) -> Gateway {
    let policy = format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: p }}\n\
         spec: {{ order: 1, selector: app == 'a', types: [Ingress], ingress: [{rules}] }}\n"
    );
    let pod = |name: &str, v4: &str, v6: &str, ports: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: n, labels: {{ app: {name} }} }}\n\
             spec: {{ containers: [{{ name: c, ports: [{ports}] }}] }}\n\
             status: {{ phase: Running, podIP: {v4}, podIPs: [{{ ip: {v4} }}, {{ ip: '{v6}' }}] }}\n"
        )
    };
    let pods = [
        pod(
            "a",
            "172.30.1.1",
            "fd00::1",
            "{ containerPort: 8080, name: web }, { containerPort: 53, protocol: UDP, name: dns }",
        ),
        pod("b", "172.30.1.2", "fd00::2", "{ containerPort: 9090, name: web }"),
    ]
    .join("");
    Gateway::new("", &[("policy.yaml", &policy), ("pods.yaml", &pods)])
}

const V4: &str = "in tcp 10.0.0.1:1000 > 172.30.1.1:80";
const V6: &str = "in tcp [fd00::9]:1000 > [fd00::1]:80";

fn check(row: &str, rules: &str, cases: &[(&str, bool)]) {
    let mut gateway = pod_with(rules);
    for (packet, is_allowed) in cases {
        gateway.check(
            &format!("{row} {rules}"),
            packet,
            if *is_allowed { "pass p#0" } else { "drop tier-default-deny" },
        );
    }
}

#[test]
fn families_rm_7() {
    check("RM-2", "{ action: Allow }", &[(V4, true), (V6, true)]);
    check("RM-7", "{ action: Allow, ipVersion: 4 }", &[(V4, true), (V6, false)]);
    check("RM-7", "{ action: Allow, ipVersion: 6 }", &[(V4, false), (V6, true)]);
    check("RM-7", "{ action: Allow, source: { nets: [10.0.0.0/8] } }", &[(V4, true), (V6, false)]);
    check("RM-7", "{ action: Allow, source: { nets: ['::/0'] } }", &[(V4, false), (V6, true)]);
    // Without the prefixes of the other family the list is empty, so that the rule does not exist for it.
    check("RM-7", "{ action: Allow, source: { notNets: [192.168.0.0/16] } }", &[(V4, true), (V6, false)]);
    check("RM-7", "{ action: Allow, source: { notNets: [10.0.0.0/8] } }", &[(V4, false), (V6, false)]);
    check("RM-7", "{ action: Allow, destination: { notNets: ['fd01::/16'] } }", &[(V4, false), (V6, true)]);
    check("RM-7", "{ action: Allow, destination: { notNets: ['fd00::/16'] } }", &[(V4, false), (V6, false)]);
    let icmp = ["in icmp 10.0.0.1 > 172.30.1.1", "in icmpv6 fd00::9 > fd00::1"];
    check("RM-7", "{ action: Allow, protocol: ICMP }", &[(icmp[0], true), (icmp[1], false)]);
    check("RM-7", "{ action: Allow, protocol: ICMPv6 }", &[(icmp[0], false), (icmp[1], true)]);
    check("RM-9", "{ action: Allow, protocol: 1 }", &[(icmp[0], true), (icmp[1], false), (V4, false)]);
    check(
        "RM-10",
        "{ action: Allow, notProtocol: TCP }",
        &[(icmp[0], true), (icmp[1], true), (V4, false), (V6, false)],
    );
    // A selector holds for both families through the set (RM-8).
    let from_b = ["in tcp 172.30.1.2:1 > 172.30.1.1:80", "in tcp [fd00::2]:1 > [fd00::1]:80"];
    let selected = "{ action: Allow, source: { selector: app == 'b' } }";
    check("RM-8", selected, &[(from_b[0], true), (from_b[1], true), (V4, false), (V6, false)]);
}

#[test]
fn selectors_and_unknown_addresses_id_6_id_7() {
    let (known, unknown) = ("in tcp 172.30.1.2:1 > 172.30.1.1:80", V4);
    for (source, from_known, from_unknown) in [
        ("selector: '!has(x)'", true, false),
        ("selector: 'app != \"c\"'", true, false),
        ("notSelector: has(x)", true, true),
        ("notSelector: has(app)", false, true),
        ("notSelector: all()", false, true),
        ("selector: has(nothing-has-this)", false, false),
        ("notSelector: has(nothing-has-this)", true, true),
        ("selector: has(app), notSelector: app == 'b'", false, false),
        ("selector: all()", true, false),
        ("selector: has(app), nets: [172.30.1.2/32]", true, false),
        ("selector: has(app), notNets: [172.30.1.2/32]", false, false),
    ] {
        let rule = format!("{{ action: Allow, source: {{ {source} }} }}");
        check("ID-6", &rule, &[(known, from_known), (unknown, from_unknown)]);
    }
}

#[test]
fn ports_rm_3_to_rm_5() {
    let to = |protocol: &str, port: u16| format!("in {protocol} 10.0.0.1:1000 > 172.30.1.1:{port}");
    let table = |row: &str, rules: &str, cases: &[(&str, u16, bool)]| {
        let cases: Vec<(String, bool)> = cases.iter().map(|(p, n, ok)| (to(p, *n), *ok)).collect();
        let cases: Vec<(&str, bool)> = cases.iter().map(|(p, ok)| (p.as_str(), *ok)).collect();
        check(row, rules, &cases);
    };
    table(
        "RM-3",
        "{ action: Allow, protocol: TCP, destination: { ports: [80, '90:92', web] } }",
        &[
            ("tcp", 79, false),
            ("tcp", 80, true),
            ("tcp", 81, false),
            ("tcp", 89, false),
            ("tcp", 90, true),
            ("tcp", 92, true),
            ("tcp", 93, false),
            ("tcp", 8080, true),
            ("tcp", 9090, false),
            ("udp", 80, false),
            ("sctp", 80, false),
        ],
    );
    // Named ports only: the protocol is the one of the endpoint's port.
    table("RM-5", "{ action: Allow, destination: { ports: [dns] } }", &[("udp", 53, true), ("tcp", 53, false)]);
    table(
        "RM-5",
        "{ action: Allow, protocol: TCP, destination: { ports: [dns] } }",
        &[("udp", 53, false), ("tcp", 53, false)],
    );
    table("RM-5", "{ action: Allow, destination: { ports: [nowhere] } }", &[("tcp", 8080, false)]);
    // A selector on the side restricts numbers and names.
    table(
        "RM-5",
        "{ action: Allow, protocol: TCP, destination: { ports: [80, web], selector: app == 'b' } }",
        &[("tcp", 80, false), ("tcp", 8080, false)],
    );
    table(
        "RM-5",
        "{ action: Allow, protocol: TCP, destination: { notPorts: [web, 80] } }",
        &[("tcp", 8080, false), ("tcp", 80, false), ("tcp", 9090, true), ("udp", 9090, false)],
    );
    table(
        "RM-1",
        "{ action: Allow, protocol: TCP, destination: { ports: ['80:90'], notPorts: [85] } }",
        &[("tcp", 80, true), ("tcp", 84, true), ("tcp", 85, false), ("tcp", 86, true), ("tcp", 91, false)],
    );
    table(
        "RM-4",
        "{ action: Allow, protocol: SCTP, destination: { ports: ['1:65535'] } }",
        &[("sctp", 9, true), ("tcp", 9, false)],
    );
}

#[test]
fn icmp_rm_6() {
    let kind = |kind: u8, code: u8| format!("in icmp 10.0.0.1 > 172.30.1.1 type {kind} code {code}");
    let (echo, odd_echo, stamp) = (kind(8, 0), kind(8, 1), kind(13, 0));
    for (rule, expected) in [
        ("icmp: { type: 8 }", [true, true, false]),
        ("icmp: { type: 8, code: 0 }", [true, false, false]),
        ("icmp: {}", [true, true, true]),
        ("notICMP: { type: 8 }", [false, false, true]),
        ("notICMP: { type: 8, code: 0 }", [false, true, true]),
    ] {
        let rule = format!("{{ action: Allow, protocol: ICMP, {rule} }}");
        check("RM-6", &rule, &[(&echo, expected[0]), (&odd_echo, expected[1]), (&stamp, expected[2]), (V4, false)]);
    }
    check("RM-6", "{ action: Allow, notICMP: { type: 8 } }", &[(V4, true), (V6, true), (&echo, false), (&stamp, true)]);
}

/// Things that selectors reach, all labelled `x: y`: pods of two namespaces, a host endpoint, a global set, a set of namespace n.
const REACHABLE: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: n, labels: { team: a } }
---
apiVersion: v1
kind: Namespace
metadata: { name: m, labels: { team: b } }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: robot, namespace: m, labels: { trusted: 'yes' } }
---
apiVersion: v1
kind: Pod
metadata: { name: self, namespace: n, labels: { app: self } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 172.30.1.1 }
---
apiVersion: v1
kind: Pod
metadata: { name: near, namespace: n, labels: { x: y } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 172.30.1.2 }
---
apiVersion: v1
kind: Pod
metadata: { name: far, namespace: m, labels: { x: y } }
spec: { serviceAccountName: robot, containers: [{ name: c }] }
status: { phase: Running, podIP: 172.30.2.2 }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: h, labels: { x: y } }
spec: { node: w, interfaceName: eth0, expectedIPs: [10.0.0.1] }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: { name: g, labels: { x: y } }
spec: { nets: [198.51.100.0/24] }
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: { name: s, namespace: n, labels: { x: y } }
spec: { nets: [203.0.113.0/24] }
";

#[test]
fn what_a_rules_selector_reaches_id_3_id_4() {
    // near, far, host endpoint, global set, set of the namespace, unknown address
    let from = ["172.30.1.2", "172.30.2.2", "10.0.0.1", "198.51.100.9", "203.0.113.9", "9.9.9.9"];
    let table = [
        ("GlobalNetworkPolicy", "", "111111"),
        ("GlobalNetworkPolicy", "selector: x == 'y'", "111110"),
        ("GlobalNetworkPolicy", "selector: all()", "111110"),
        ("GlobalNetworkPolicy", "selector: x == 'y', namespaceSelector: team == 'a'", "100010"),
        ("GlobalNetworkPolicy", "namespaceSelector: team == 'b'", "010000"),
        ("GlobalNetworkPolicy", "namespaceSelector: all()", "110010"),
        ("GlobalNetworkPolicy", "namespaceSelector: global()", "001100"),
        ("GlobalNetworkPolicy", "namespaceSelector: projectcalico.org/name == 'm'", "010000"),
        ("GlobalNetworkPolicy", "namespaceSelector: team != 'a'", "011100"),
        ("GlobalNetworkPolicy", "notSelector: x == 'y'", "000001"),
        ("GlobalNetworkPolicy", "notSelector: has(nothing)", "111111"),
        ("GlobalNetworkPolicy", "serviceAccounts: { names: [robot] }", "010000"),
        ("GlobalNetworkPolicy", "serviceAccounts: { selector: trusted == 'yes' }", "010000"),
        ("GlobalNetworkPolicy", "serviceAccounts: { names: [default] }", "100000"),
        ("NetworkPolicy", "", "111111"),
        ("NetworkPolicy", "selector: x == 'y'", "100010"),
        ("NetworkPolicy", "selector: all()", "100010"),
        ("NetworkPolicy", "notSelector: has(nothing)", "100010"),
        ("NetworkPolicy", "notSelector: x == 'y'", "000000"),
        ("NetworkPolicy", "selector: x == 'y', namespaceSelector: all()", "110010"),
        ("NetworkPolicy", "selector: x == 'y', namespaceSelector: team == 'b'", "010000"),
        ("NetworkPolicy", "selector: x == 'y', namespaceSelector: global()", "001100"),
        ("NetworkPolicy", "serviceAccounts: { names: [robot] }", "000000"),
        ("NetworkPolicy", "nets: [9.9.9.0/24]", "000001"),
        ("NetworkPolicy", "nets: [203.0.113.0/28], selector: all()", "000010"),
    ];
    for (kind, source, expected) in table {
        let namespace = if kind == "NetworkPolicy" { ", namespace: n" } else { "" };
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{ name: p{namespace} }}\n\
             spec: {{ order: 1, selector: app == 'self', types: [Ingress], ingress: [{{ action: Allow, source: {{ {source} }} }}] }}\n"
        );
        let mut gateway = Gateway::new("", &[("p.yaml", &text), ("places.yaml", REACHABLE)]);
        let found: String = from
            .iter()
            .map(|address| gateway.alone(&format!("in tcp {address}:1 > 172.30.1.1:80")).is_allowed)
            .map(|is_allowed| if is_allowed { '1' } else { '0' })
            .collect();
        assert_eq!(found, expected, "ID-4 {kind} {source}");
    }
}

#[test]
fn services_rm_11() {
    let text = "
apiVersion: v1
kind: Service
metadata: { name: s, namespace: n }
spec: { selector: { x: y }, clusterIP: 10.96.0.1, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: { name: p, namespace: n }
spec:
  selector: app == 'self'
  types: [Ingress, Egress]
  ingress: [{ action: Allow, source: { services: { name: s, namespace: n } } }]
  egress: [{ action: Allow, destination: { services: { name: s, namespace: n } } }]
";
    let mut gateway = Gateway::new("", &[("s.yaml", text), ("places.yaml", REACHABLE)]);
    for (packet, expected) in [
        ("out tcp 172.30.1.1:1 > 172.30.1.2:8080", "pass n/p#0"),
        ("out tcp 172.30.1.1:1 > 172.30.1.2:80", "drop"),
        ("out udp 172.30.1.1:1 > 172.30.1.2:8080", "drop"),
        ("out tcp 172.30.1.1:1 > 172.30.2.2:8080", "drop"),
        ("in udp 172.30.1.2:1 > 172.30.1.1:9", "pass n/p#0"),
        ("in tcp 172.30.2.2:1 > 172.30.1.1:9", "drop"),
    ] {
        gateway.check("RM-11", packet, expected);
    }
}
