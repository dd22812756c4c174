//! The default policies in `policies/defaults`, expectation by expectation (section C).

use crate::gateway::{Gateway, project_file};
use crate::place::{GATEWAY, SERVICE, WORKERS, global, namespace, pod};

const NAMES: [&str; 8] = [
    "allow-all-outbound",
    "allow-all-private-default",
    "allow-bigfix-port",
    "allow-icmp",
    "allow-node-port-dnat",
    "allow-sys-mgmt",
    "allow-vrrp",
    "kubernetes-dashboard",
];

/// The whole default set, less `without`, with `more`.
fn defaults(without: &[&str], more: &[String]) -> Gateway {
    let mut texts: Vec<(String, String)> = NAMES
        .iter()
        .filter(|name| !without.contains(name))
        .map(|name| (format!("{name}.yaml"), project_file(&format!("policies/defaults/{name}.yaml"))))
        .collect();
    texts.extend(more.iter().enumerate().map(|(i, text)| (format!("more{i}.yaml"), text.clone())));
    let mut files = vec![WORKERS, SERVICE];
    files.extend(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    Gateway::new(GATEWAY, &files)
}

#[test]
fn c1_all_outbound() {
    let mut gateway = defaults(&[], &[]);
    gateway.check("C1", "out tcp 10.1.1.1:40000 > 9.9.9.9:443", "pass allow-all-outbound#0");
    gateway.check("C1", "out udp 10.1.1.1:40000 > 9.9.9.9:12345", "pass allow-all-outbound#0");
    gateway.check("C1", "out 99 10.1.1.1 > 9.9.9.9", "pass allow-all-outbound#0");
    gateway.check("C1 not inbound", "in tcp 9.9.9.9:443 > 10.1.1.1:40000", "drop tier-default-deny");
    // The reply of an outbound flow comes back by state.
    gateway.check_next("C1 reply", "out tcp 10.1.1.1:40001 > 9.9.9.9:443 [S]", "pass new");
    gateway.check_next("C1 reply", "in tcp 9.9.9.9:443 > 10.1.1.1:40001 [SA]", "pass established");

    let deny = global(
        "deny-all-outbound-public",
        "{ order: 1850, selector: ibm.role == 'worker_public', types: [Egress], egress: [{ action: Deny }] }",
    );
    let mut gateway = defaults(&[], &[deny]);
    gateway.check("C1 1850 wins", "out tcp 10.1.1.1:40000 > 9.9.9.9:443", "drop deny-all-outbound-public#0");

    let mut gateway = defaults(&["allow-all-outbound"], &[]);
    gateway.check("C1 removed", "out tcp 10.1.1.1:40000 > 9.9.9.9:443", "drop no-policy-deny");
}

#[test]
fn c2_private_default() {
    let mut gateway = defaults(&[], &[]);
    for packet in
        ["in tcp 10.77.0.1:1 > 10.9.9.1:8081", "out udp 10.9.9.2:1 > 10.77.0.1:9", "in 112 10.77.0.1 > 10.9.9.2"]
    {
        gateway.check("C2", packet, "pass allow-all-private-default#0");
    }
    gateway.check("C2 not public", "in tcp 10.77.0.1:1 > 10.1.1.1:8081", "drop tier-default-deny");
    let deny = global(
        "deny-all-private-default",
        "{ order: 99900, selector: ibm.role == 'worker_private', types: [Egress, Ingress], \
           ingress: [{ action: Deny }], egress: [{ action: Deny }] }",
    );
    let mut gateway = defaults(&[], &[deny]);
    gateway.check("C2 99900", "in tcp 10.77.0.1:1 > 10.9.9.1:8081", "drop deny-all-private-default#0");
    gateway.check("C2 99900", "out tcp 10.9.9.1:1 > 10.77.0.1:8081", "drop deny-all-private-default#0");
}

#[test]
fn c3_bigfix() {
    let mut gateway = defaults(&[], &[]);
    for (packet, expected) in [
        ("in tcp 9.9.9.9:1 > 10.1.1.1:52311", "pass allow-bigfix-port#0"),
        ("in udp 9.9.9.9:1 > 10.1.1.2:52311", "pass allow-bigfix-port#1"),
        ("in sctp 9.9.9.9:1 > 10.1.1.1:52311", "drop"),
        ("in tcp 9.9.9.9:1 > 10.1.1.1:52310", "drop"),
        ("in tcp 9.9.9.9:1 > 10.1.1.1:52312", "drop"),
        ("in udp 9.9.9.9:1 > 10.1.1.1:52310", "drop"),
        ("in udp 9.9.9.9:1 > 10.1.1.1:52312", "drop"),
        ("in tcp 9.9.9.9:52311 > 10.1.1.1:1", "drop"),
    ] {
        gateway.check("C3", packet, expected);
    }
}

#[test]
fn c4_icmp() {
    let mut gateway = defaults(&[], &[]);
    for kind in [3, 5, 8, 11, 13, 17] {
        gateway.check("C4", &format!("in icmp 9.9.9.9 > 10.1.1.1 type {kind}"), "pass allow-icmp#0");
    }
    gateway.check("C4 TCP not affected", "in tcp 9.9.9.9:1 > 10.1.1.1:7", "drop tier-default-deny");
    let mut gateway = defaults(&["allow-icmp"], &[]);
    gateway.check("C4 A14 removed", "in icmp 9.9.9.9 > 10.1.1.1", "drop tier-default-deny");
}

#[test]
fn c5_node_port_dnat() {
    let mut gateway = defaults(&[], &[]);
    for packet in [
        "in tcp 9.9.9.9:1 > 10.1.1.1:31024",
        "in udp 9.9.9.9:1 > 10.1.1.2:31024",
        "in tcp 9.9.9.9:1 > 169.1.1.1:80",
        "in udp 9.9.9.9:1 > 169.1.1.1:80",
    ] {
        let outcome = gateway.alone(packet);
        assert_eq!(outcome.policy.as_deref(), Some("allow-node-port-dnat"), "C5 {packet}: {}", outcome.line);
        assert!(outcome.is_allowed && outcome.stage == "host-forward", "C5 {packet}: {}", outcome.line);
    }
    gateway.check("C5 not translated, own port", "in tcp 9.9.9.9:1 > 10.1.1.1:8080", "drop tier-default-deny");
    gateway.check("C5 not translated, node port", "in tcp 9.9.9.9:1 > 10.1.1.1:31025", "drop host-normal");
    gateway.check("C5 not translated, balancer", "in tcp 9.9.9.9:1 > 169.1.1.1:81", "drop host-forward");
    // The same as preDNAT policy: it must list ports, and its Allow skips the host stages.
    let prednat = global(
        "allow-node-port-dnat",
        "{ order: 1500, preDNAT: true, applyOnForward: true, selector: ibm.role == 'worker_public', \
           ingress: [{ action: Allow, protocol: TCP, destination: { ports: ['30000:32767'] } }] }",
    );
    let mut gateway = defaults(&["allow-node-port-dnat"], &[prednat]);
    gateway.check("C5 preDNAT form", "in tcp 9.9.9.9:1 > 10.1.1.1:31024", "pass prednat allow-node-port-dnat#0");
    gateway.check("C5 preDNAT form opens own ports too", "in tcp 9.9.9.9:1 > 10.1.1.1:31025", "pass prednat");
    // Nothing else applies on forward, so forwarded traffic is not denied either (PIPE-9).
    gateway.check("C5 preDNAT form, no AoF", "in tcp 9.9.9.9:1 > 169.1.1.1:80", "pass");
}

#[test]
fn c6_system_management() {
    let mut gateway = defaults(&[], &[]);
    for (first, last, before, after) in [
        ("10.0.64.0", "10.0.95.255", "10.0.63.255", "10.0.96.0"),
        ("10.200.80.0", "10.200.95.255", "10.200.79.255", "10.200.96.0"),
        ("10.3.160.0", "10.3.175.255", "10.3.159.255", "10.3.176.0"),
        ("10.201.0.0", "10.201.15.255", "10.200.255.255", "10.201.16.0"),
    ] {
        for (from, expected) in
            [(first, "pass allow-sys-mgmt#0"), (last, "pass allow-sys-mgmt#0"), (before, "drop"), (after, "drop")]
        {
            gateway.check("C6", &format!("in tcp {from}:1 > 10.1.1.1:8081"), expected);
            gateway.check("C6", &format!("in udp {from}:1 > 10.1.1.2:7"), expected);
        }
    }
}

#[test]
fn c7_vrrp() {
    let mut gateway = defaults(&[], &[]);
    gateway.check("C7", "in 112 10.1.1.9 > 10.1.1.1", "pass allow-vrrp#0");
    gateway.check("C7", "in 111 10.1.1.9 > 10.1.1.1", "drop tier-default-deny");
    gateway.check("C7", "in 113 10.1.1.9 > 10.1.1.1", "drop tier-default-deny");
}

#[test]
fn c8_dashboard() {
    let more = [
        namespace("kube-system", "x: y"),
        namespace("ops", "kubernetes-dashboard-policy: allow"),
        namespace("shop", "x: y"),
        pod("kube-system", "dash", "172.30.5.1", "k8s-app: kubernetes-dashboard"),
        pod("ops", "admin", "172.30.5.2", "a: b"),
        pod("shop", "labelled", "172.30.5.3", "kubernetes-dashboard-policy: allow"),
        pod("kube-system", "neighbour", "172.30.5.4", "a: b"),
    ];
    let mut gateway = defaults(&[], &more);
    for (packet, expected) in [
        ("in tcp 172.30.5.2:1 > 172.30.5.1:8443", "pass kube-system/knp.default.kubernetes-dashboard#0"),
        ("in udp 172.30.5.2:1 > 172.30.5.1:53", "pass"),
        ("in tcp 172.30.5.3:1 > 172.30.5.1:8443", "drop tier-default-deny"),
        ("in tcp 172.30.5.4:1 > 172.30.5.1:8443", "drop tier-default-deny"),
        ("in tcp 9.9.9.9:1 > 172.30.5.1:8443", "drop tier-default-deny"),
        ("in tcp 172.30.5.3:1 > 172.30.5.2:8443", "pass profile"),
    ] {
        gateway.check("C8", packet, expected);
    }
    // Without a public interface the policy holds as well.
    let dashboard = project_file("policies/defaults/kubernetes-dashboard.yaml");
    let mut alone = Gateway::new("", &[("d.yaml", &dashboard), ("i.yaml", &more.join(""))]);
    alone.check("C8 no host endpoint", "in tcp 172.30.5.2:1 > 172.30.5.1:8443", "pass");
    alone.check("C8 no host endpoint", "in tcp 172.30.5.3:1 > 172.30.5.1:8443", "drop");
}

#[test]
fn c9_everything_else_is_blocked() {
    let mut gateway = defaults(&[], &[]);
    for packet in
        ["in tcp 9.9.9.9:1 > 10.1.1.1:10250", "in tcp 9.9.9.9:1 > 10.1.1.1:8081", "in udp 9.9.9.9:1 > 10.1.1.1:53"]
    {
        gateway.check("C9", packet, "drop tier-default-deny host-normal");
    }
    gateway.check("C9 FS-2 ssh is a failsafe port", "in tcp 9.9.9.9:1 > 10.1.1.1:22", "pass failsafe");
    gateway.check("A12 pod to pod", "in tcp 172.30.2.20:1 > 172.30.1.10:9", "pass profile");
    gateway.check("A12 pod to pod", "out tcp 172.30.1.10:9 > 172.30.2.20:1", "pass profile");
}

#[test]
fn c10_ties_do_not_matter() {
    // The three policies of order 1500 renamed so that they sort every way.
    let tied = ["allow-icmp", "allow-node-port-dnat", "allow-vrrp"];
    let packets = [
        "in icmp 9.9.9.9 > 10.1.1.1",
        "in 112 9.9.9.9 > 10.1.1.1",
        "in tcp 9.9.9.9:1 > 10.1.1.1:31024",
        "in tcp 9.9.9.9:1 > 169.1.1.1:80",
        "in tcp 9.9.9.9:1 > 10.1.1.1:8080",
    ];
    let mut verdicts = Vec::new();
    for prefixes in
        [["a", "b", "c"], ["a", "c", "b"], ["b", "a", "c"], ["b", "c", "a"], ["c", "a", "b"], ["c", "b", "a"]]
    {
        let renamed: Vec<String> = tied
            .iter()
            .zip(prefixes)
            .map(|(name, prefix)| {
                let text = project_file(&format!("policies/defaults/{name}.yaml"));
                text.replace(&format!("name: {name}"), &format!("name: {prefix}-{name}"))
            })
            .collect();
        let mut gateway = defaults(&tied, &renamed);
        verdicts.push(packets.map(|packet| gateway.alone(packet).is_allowed));
    }
    assert_eq!(verdicts[0], [true, true, true, true, false], "C10");
    assert!(verdicts.iter().all(|v| *v == verdicts[0]), "C10 {verdicts:?}");
}
