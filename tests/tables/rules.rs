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
