//! The tutorial from end to end (section G): lessons 1 to 4, TCP and UDP, and a flow that outlives a lesson (CT-5).

use crate::gateway::Gateway;
use crate::place::{GATEWAY, SERVICE, WORKERS, balancer_rule, deny_nodeports, prednat};

const CLIENT: &str = "1.1.1.1";
const OTHER: &str = "2.2.2.2";
const BALANCER: &str = "169.1.1.1:80";
const NODE_PORT: &str = "10.1.1.1:31024";

/// Policies of the tutorial: node ports, load balancer, whitelist, blacklist.
fn policies(names: &[&str]) -> Vec<(String, String)> {
    let from_client = "nets: [1.1.1.1/32]";
    let rules = |action, source, protocols: &[&str]| {
        protocols.iter().map(|p| balancer_rule(action, p, source)).collect::<Vec<_>>().join(", ")
    };
    let text = |name: &str| match name {
        "deny-nodeports" => deny_nodeports(),
        "deny-lb-port-80" => prednat(name, 800, &rules("Deny", "", &["TCP", "UDP"])),
        "whitelist" => prednat(name, 500, &rules("Allow", from_client, &["TCP"])),
        "blacklist" => prednat(name, 500, &rules("Deny", from_client, &["TCP", "UDP"])),
        _ => unreachable!("{name}"),
    };
    names.iter().map(|name| (format!("{name}.yaml"), text(name))).collect()
}

fn lesson(names: &[&str]) -> Gateway {
    let own = policies(names);
    let mut files = vec![WORKERS, SERVICE];
    files.extend(own.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    Gateway::new(GATEWAY, &files)
}

/// One row: client and another one to the load balancer, the same to the node port.
fn check(row: &str, names: &[&str], protocol: &str, expected: [&str; 4]) {
    let mut gateway = lesson(names);
    let cases = [(CLIENT, BALANCER), (OTHER, BALANCER), (CLIENT, NODE_PORT), (OTHER, NODE_PORT)];
    for ((from, to), expected) in cases.into_iter().zip(expected) {
        gateway.check(&format!("G lesson {row} {protocol}"), &format!("in {protocol} {from}:40000 > {to}"), expected);
    }
}

const P: &str = "pass";
const D: &str = "drop";
/// By which policy a packet drops; UDP is the second rule of each pair.
const NODE: &str = "drop policy-deny prednat deny-nodeports#0";

#[test]
fn lessons_for_tcp() {
    check("1", &[], "tcp", [P, P, P, P]);
    check("2", &["deny-nodeports"], "tcp", [P, P, NODE, NODE]);
    check("3 step 3", &["deny-nodeports", "deny-lb-port-80"], "tcp", ["drop deny-lb-port-80#0", D, NODE, NODE]);
    let whitelisted = ["deny-nodeports", "deny-lb-port-80", "whitelist"];
    check("3 end", &whitelisted, "tcp", ["pass whitelist#0", "drop deny-lb-port-80#0", NODE, NODE]);
    check("4 step 1 (A56)", &["deny-nodeports"], "tcp", [P, P, NODE, NODE]);
    check("4 end", &["deny-nodeports", "blacklist"], "tcp", ["drop blacklist#0", P, NODE, NODE]);
    check("4 clean up", &["deny-nodeports"], "tcp", [P, P, NODE, NODE]);
}

#[test]
fn lessons_for_udp() {
    check("1", &[], "udp", [P, P, P, P]);
    check("2", &["deny-nodeports"], "udp", [P, P, "drop deny-nodeports#1", D]);
    check("3 step 3", &["deny-nodeports", "deny-lb-port-80"], "udp", ["drop deny-lb-port-80#1", D, D, D]);
    // The whitelist is TCP only.
    let whitelisted = ["deny-nodeports", "deny-lb-port-80", "whitelist"];
    check("3 end", &whitelisted, "udp", ["drop deny-lb-port-80#1", D, D, D]);
    check("4 end", &["deny-nodeports", "blacklist"], "udp", ["drop blacklist#1", P, D, D]);
}

#[test]
fn a_connection_of_lesson_1_outlives_lesson_2_ct_5() {
    let packets = [
        ("in tcp 1.1.1.1:40000 > 10.1.1.1:31024 [S]", "pass new"),
        ("out tcp 10.1.1.1:31024 > 1.1.1.1:40000 [SA]", "pass established"),
        ("in tcp 1.1.1.1:40000 > 10.1.1.1:31024 [A]", "pass established"),
    ];
    let open = |options: &str| {
        let own = policies(&["deny-nodeports"]);
        let mut gateway = Gateway::new(&format!("{GATEWAY}{options}"), &[WORKERS, SERVICE]);
        for (packet, expected) in packets {
            gateway.check_next("G CT-5 before", packet, expected);
        }
        gateway.reload(&[WORKERS, SERVICE, (&own[0].0, &own[0].1)]);
        gateway
    };
    let mut gateway = open("");
    gateway.check_next("G CT-5 keep", "in tcp 1.1.1.1:40000 > 10.1.1.1:31024 [PA] len 10", "pass established");
    gateway.check_next("G CT-5 keep", "out tcp 10.1.1.1:31024 > 1.1.1.1:40000 [A]", "pass established");
    gateway.check_next("G CT-5 new flow", "in tcp 1.1.1.1:40001 > 10.1.1.1:31024 [S]", NODE);
    let mut gateway = open("existingFlows: flush\n");
    gateway.check_next("G CT-5 flush", "in tcp 1.1.1.1:40000 > 10.1.1.1:31024 [A]", NODE);
    let mut gateway = open("existingFlows: revalidate\n");
    gateway.check_next("G CT-5 revalidate", "out tcp 10.1.1.1:31024 > 1.1.1.1:40000 [A]", NODE);
}

#[test]
fn lesson_5_a_log_rule_just_before_the_deny() {
    let own = policies(&["deny-nodeports"]);
    let log = prednat("log-nodeports", 1099, "{ action: Log, protocol: TCP, destination: { ports: ['30000:32767'] } }");
    let mut gateway = Gateway::new(GATEWAY, &[WORKERS, SERVICE, (&own[0].0, &own[0].1), ("log.yaml", &log)]);
    for (packet, logs, expected) in [
        ("in tcp 1.1.1.1:40000 > 10.1.1.1:31024", 1, NODE),
        ("in udp 1.1.1.1:40000 > 10.1.1.1:31024", 0, D),
        ("in tcp 1.1.1.1:40000 > 169.1.1.1:80", 0, P),
    ] {
        gateway.check("G lesson 5", packet, expected);
        assert_eq!(gateway.alone(packet).logs, logs, "G lesson 5: {packet}");
    }
}

#[test]
fn the_table_holds_for_the_address_of_an_ingress() {
    // An Ingress is served by pods behind a LoadBalancer service of its own; the rows name that address instead.
    let service = SERVICE.1.replace("169.1.1.1", "169.1.1.7").replace("webserver-lb", "public-alb");
    let own: Vec<(String, String)> = policies(&["deny-nodeports", "deny-lb-port-80", "whitelist"])
        .into_iter()
        .map(|(name, text)| (name, text.replace("169.1.1.1/32", "169.1.1.7/32")))
        .collect();
    let mut files = vec![WORKERS, ("service.yaml", service.as_str())];
    files.extend(own.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let mut gateway = Gateway::new(GATEWAY, &files);
    gateway.check("G Ingress", "in tcp 1.1.1.1:40000 > 169.1.1.7:80", "pass whitelist#0");
    gateway.check("G Ingress", "in tcp 2.2.2.2:40000 > 169.1.1.7:80", "drop deny-lb-port-80#0");
    gateway.check("G Ingress", "in tcp 1.1.1.1:40000 > 10.1.1.1:31024", NODE);
}
