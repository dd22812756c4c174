//! The security group tables and commands (F1 to F4, F11, A38, A43, A44, B17 to B19, A9): the same rules from commands and from JSON,
//! every edge, state, and what a deleted rule does to flows that exist.

use crate::gateway::{Gateway, read};
use crate::place::{WORKER, assert_same_group, group, group_of, grouped, policy};

/// The worker's group before anybody touched it: everything out (SG-4).
fn untouched() -> String {
    grouped(&[group("kube-c1", &["nic-1"], &["outbound all any"])])
}

/// Required rules, inbound (F1).
const INBOUND: &str = "
sg=kube-c1
ibmcloud is sgs
ibmcloud is sg $sg
ibmcloud is security-group-rule-add $sg inbound all --remote $sg
ibmcloud is security-group-rule-add $sg inbound icmp --icmp-type 8
ibmcloud is security-group-rule-add $sg inbound tcp --port-min 30000 --port-max 32767
ibmcloud is security-group-rule-add $sg inbound udp --port-min 30000 --port-max 32767
";

/// Required rules, outbound, in place of the default one (F2).
const OUTBOUND: &str = "
ibmcloud is security-group-rule-delete $sg outbound-all-any
ibmcloud is security-group-rule-add $sg outbound all --remote 161.26.0.0/16
ibmcloud is security-group-rule-add $sg outbound all --remote 166.8.0.0/14
";

const TABLES: [&str; 6] = [
    "inbound all kube-c1",
    "inbound icmp any type=8",
    "inbound tcp any port-min=30000 port-max=32767",
    "inbound udp any port-min=30000 port-max=32767",
    "outbound all 161.26.0.0/16",
    "outbound all 166.8.0.0/14",
];

fn both(script: &str) -> Gateway {
    // A second member of the group, elsewhere behind the box.
    Gateway::new(
        "securityGroupMembers: { kube-c1: [10.240.1.7] }",
        &[("account.json", &untouched()), ("sg.ibmcloud", script)],
    )
}

#[test]
fn f1_f2_b18_the_tables_are_the_same_from_commands_and_json() {
    let script = format!("{INBOUND}{OUTBOUND}");
    let typed = policy(&[("account.json", &untouched()), ("sg.ibmcloud", &script)]);
    let documents = policy(&[("account.json", &grouped(&[group("kube-c1", &["nic-1"], &TABLES)]))]);
    assert_same_group("F1 F2", group_of(&typed, "kube-c1"), group_of(&documents, "kube-c1"));
    assert_eq!(group_of(&typed, "kube-c1").rules.len(), 6);
}

#[test]
fn f1_1_a_rule_for_the_group_itself_is_for_its_members() {
    let mut gateway = both(INBOUND);
    for (protocol, port) in [("tcp", ":22"), ("udp", ":53"), ("icmp", " type 13")] {
        let [source, destination] = match protocol {
            "icmp" => ["10.240.1.7".to_string(), format!("{WORKER}{port}")],
            _ => ["10.240.1.7:9".to_string(), format!("{WORKER}{port}")],
        };
        gateway.check("F1.1 member", &format!("in {protocol} {source} > {destination}"), "pass sg-allow kube-c1#0");
        let stranger = source.replace("10.240.1.7", "10.240.1.8");
        gateway.check("F1.1 stranger", &format!("in {protocol} {stranger} > {destination}"), "drop sg-no-match");
    }
    gateway.check("F1.1 15.2", &format!("in 112 10.240.1.7 > {WORKER}"), "drop sg-no-match");
    // The list of members changes: the rule follows.
    let moved = untouched().replace(r#"{"address": "10.240.0.5"}"#, r#"{"address": "10.240.1.8"}"#);
    gateway.reload(&[("account.json", &moved), ("sg.ibmcloud", INBOUND)]);
    gateway.check("F1.1 new member", "in tcp 10.240.1.8:9 > 10.240.1.7:22", "pass kube-c1#0");
    gateway.check("F1.1 no member any more", "in tcp 10.240.0.5:9 > 10.240.1.7:22", "drop sg-no-match");
}

#[test]
fn f1_2_sg_10_pings_come_in_and_replies_by_state() {
    let mut gateway = both(INBOUND);
    for (kind, expected) in [
        (7, "drop sg-no-match"),
        (8, "pass kube-c1#1"),
        (9, "drop sg-no-match"),
        (13, "drop sg-no-match"),
        (0, "drop invalid-state"),
    ] {
        gateway.check("F1.2", &format!("in icmp 1.1.1.1 > {WORKER} type {kind} id 3"), expected);
    }
    gateway.check_next("F1.2 our ping", &format!("out icmp {WORKER} > 1.1.1.1 type 8 id 3"), "pass new kube-c1#0");
    gateway.check_next("F1.2 its reply", &format!("in icmp 1.1.1.1 > {WORKER} type 0 id 3"), "pass established");
    gateway.check_next("F1.2 another's", &format!("in icmp 1.1.1.1 > {WORKER} type 0 id 4"), "drop invalid-state");
    gateway.check("F1.2 code is free", &format!("in icmp 1.1.1.1 > {WORKER} type 8 code 9 id 3"), "pass kube-c1#1");
}

#[test]
fn f1_3_f1_4_node_ports_by_their_edges() {
    let mut gateway = both(INBOUND);
    for (row, protocol, rule) in [("F1.3", "tcp", 2), ("F1.4", "udp", 3)] {
        for (port, is_inside) in [(29999, false), (30000, true), (32767, true), (32768, false)] {
            let expected =
                if is_inside { format!("pass sg-allow kube-c1#{rule}") } else { "drop sg-no-match".to_string() };
            gateway.check(row, &format!("in {protocol} 1.1.1.1:9 > {WORKER}:{port}"), &expected);
            // Ports are destination ports in both directions (SG-5).
            gateway.check(row, &format!("in {protocol} 1.1.1.1:{port} > {WORKER}:9"), "drop sg-no-match");
        }
    }
    gateway.check("F1.3 SCTP", &format!("in sctp 1.1.1.1:9 > {WORKER}:30000"), "drop sg-no-match");
}

#[test]
fn f2_only_the_two_prefixes_are_left_outbound() {
    let mut gateway = both(&format!("{INBOUND}{OUTBOUND}"));
    for (row, address, expected) in [
        ("F2.1", "161.25.255.255", "drop sg-no-match"),
        ("F2.1", "161.26.0.0", "pass kube-c1#0"),
        ("F2.1", "161.26.255.255", "pass kube-c1#0"),
        ("F2.1", "161.27.0.0", "drop sg-no-match"),
        ("F2.2", "166.7.255.255", "drop sg-no-match"),
        ("F2.2", "166.8.0.0", "pass kube-c1#1"),
        ("F2.2", "166.11.255.255", "pass kube-c1#1"),
        ("F2.2", "166.12.0.0", "drop sg-no-match"),
    ] {
        for (protocol, port) in [("tcp", ":9"), ("udp", ":9"), ("icmp", "")] {
            gateway.check(row, &format!("out {protocol} {WORKER}{port} > {address}{port}"), expected);
        }
        gateway.check(row, &format!("out 47 {WORKER} > {address}"), "drop sg-no-match");
    }
}

/// F3, B17: the listing as the API gives it, and typed.
#[test]
fn f3_b17_the_printed_listing() {
    let listing = [
        "outbound all any",
        "inbound all freeload-flavored-surging-repaying",
        "inbound icmp any type=8",
        "inbound tcp any port-min=22 port-max=22",
        "inbound tcp any port-min=30000 port-max=32767",
    ];
    let name = "freeload-flavored-surging-repaying";
    let documents = grouped(&[group(name, &["nic-1"], &listing)]);
    let script = "
ibmcloud is sg freeload-flavored-surging-repaying
ibmcloud is security-group-rule-add $sg outbound all --remote 0.0.0.0/0
ibmcloud is security-group-rule-add $sg inbound all --remote id-freeload-flavored-surging-repaying
ibmcloud is security-group-rule-add $sg inbound icmp --icmp-type 8
ibmcloud is security-group-rule-add $sg inbound tcp --port-min 22 --port-max 22
ibmcloud is security-group-rule-add $sg inbound tcp --port-min=30000 --port-max=32767
";
    let script = format!("sg={name}\n{script}");
    let empty = grouped(&[group(name, &["nic-1"], &[])]);
    let typed = policy(&[("account.json", &empty), ("sg.ibmcloud", &script)]);
    assert_same_group("F3", group_of(&typed, name), group_of(&policy(&[("account.json", &documents)]), name));
    let mut gateway = Gateway::new("", &[("account.json", &documents)]);
    for (port, expected) in
        [(21, "drop sg-no-match"), (22, "pass"), (23, "drop sg-no-match"), (30000, "pass"), (32768, "drop")]
    {
        gateway.check("F3", &format!("in tcp 1.1.1.1:9 > {WORKER}:{port}"), expected);
    }
    gateway.check("F3", &format!("in udp 1.1.1.1:9 > {WORKER}:22"), "drop sg-no-match");
    gateway.check("F3 outbound", &format!("out tcp {WORKER}:9 > 1.1.1.1:1"), "pass");
}

/// Public ranges of the balancer's health checks (F4).
const CHECKERS: [&str; 16] = [
    "173.245.48.0/20",
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "141.101.64.0/18",
    "108.162.192.0/18",
    "190.93.240.0/20",
    "188.114.96.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "162.158.0.0/15",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "172.64.0.0/13",
    "131.0.72.0/22",
    "166.8.0.0/14",
];

#[test]
fn f4_health_checks_are_admitted_on_port_80_by_their_ranges() {
    let nets: Vec<ipnet::Ipv4Net> = CHECKERS.iter().map(|net| net.parse().unwrap()).collect();
    let script: String = CHECKERS
        .iter()
        .map(|net| {
            format!(
                "ibmcloud is security-group-rule-add kube-c1 inbound tcp --remote {net} --port-min 80 --port-max 80\n"
            )
        })
        .collect();
    let rules: Vec<String> = CHECKERS.iter().map(|net| format!("inbound tcp {net} port-min=80 port-max=80")).collect();
    let rules: Vec<&str> = std::iter::once("outbound all any").chain(rules.iter().map(String::as_str)).collect();
    let files = [("account.json", &*untouched()), ("checks.ibmcloud", &*script)];
    let documents = grouped(&[group("kube-c1", &["nic-1"], &rules)]);
    let typed = policy(&files);
    assert_same_group("F4", group_of(&typed, "kube-c1"), group_of(&policy(&[("account.json", &documents)]), "kube-c1"));
    let mut gateway = Gateway::with_policy("", typed);
    let mut dropped = 0;
    for net in &nets {
        let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
        for address in [first - 1, first, last, last + 1].map(std::net::Ipv4Addr::from) {
            let is_inside = nets.iter().any(|net| net.contains(&address));
            dropped += usize::from(!is_inside);
            let expected = if is_inside { "pass sg-allow" } else { "drop sg-no-match" };
            gateway.check("F4", &format!("in tcp {address}:9 > {WORKER}:80"), expected);
            gateway.check("F4", &format!("in tcp {address}:9 > {WORKER}:81"), "drop sg-no-match");
        }
    }
    // All neighbours are strangers, but for the two where 104.16.0.0/13 and 104.24.0.0/14 meet.
    assert_eq!(dropped, 2 * CHECKERS.len() - 2, "F4");
}

/// F11: groups only allow; a rule that says otherwise is refused, in JSON and on the command line.
#[test]
fn f11_a_rule_of_a_group_cannot_deny() {
    let json = untouched().replace(r#""id": "outbound-all-any""#, r#""action": "deny", "id": "outbound-all-any""#);
    let findings = read(&[("account.json", &json)]).expect_err("F11");
    assert!(findings[0].ends_with("[unknown-field]"), "{findings:?}");
    let script = "ibmcloud is security-group-rule-add kube-c1 deny inbound tcp";
    let findings = read(&[("account.json", &untouched()), ("a.ibmcloud", script)]).expect_err("F11");
    assert!(findings[0].ends_with("[bad-command]"), "{findings:?}");
}

/// A38, A44, SG-1, SG-2: the union of all groups of a member, without order, requests only by rule, replies by state.
#[test]
fn a38_a44_groups_add_up_and_remember() {
    let rules = [
        ("web", &["inbound tcp any port-min=80 port-max=80", "outbound udp 9.9.9.9 port-min=53 port-max=53"][..]),
        ("ssh", &["inbound tcp 1.1.1.0/24 port-min=22 port-max=22"][..]),
    ];
    let groups = |order: [usize; 2]| {
        let written = order.map(|i| group(rules[i].0, &["nic-1"], rules[i].1));
        Gateway::new("", &[("account.json", &grouped(&written))])
    };
    for order in [[0, 1], [1, 0]] {
        let mut gateway = groups(order);
        gateway.check("A38 one", &format!("in tcp 1.1.1.1:9 > {WORKER}:80"), "pass web#0");
        gateway.check("A38 the other", &format!("in tcp 1.1.1.1:9 > {WORKER}:22"), "pass ssh#0");
        gateway.check("A44", &format!("in tcp 1.1.2.0:9 > {WORKER}:22"), "drop sg-no-match");
        gateway.check("A44", &format!("in tcp 1.1.1.1:9 > {WORKER}:443"), "drop sg-no-match");
        gateway.check("A44 outbound", &format!("out tcp {WORKER}:9 > 1.1.1.1:80"), "drop sg-no-match");
        gateway.check_next("A38 request in", &format!("in tcp 1.1.1.1:9 > {WORKER}:80"), "pass new");
        gateway.check_next("A38 reply out", &format!("out tcp {WORKER}:80 > 1.1.1.1:9 [SA]"), "pass established");
        gateway.check_next("A38 request out", &format!("out udp {WORKER}:9 > 9.9.9.9:53"), "pass new web#0");
        gateway.check_next("A38 reply in", &format!("in udp 9.9.9.9:53 > {WORKER}:9"), "pass established");
        gateway.check_next("A44 no request", &format!("in udp 9.9.9.9:53 > {WORKER}:10"), "drop sg-no-match");
    }
    let mut empty = Gateway::new("", &[("account.json", &grouped(&[group("none", &["nic-1"], &[])]))]);
    empty.check("SG-4", &format!("in tcp 1.1.1.1:9 > {WORKER}:80"), "drop sg-no-match");
    empty.check("SG-4", &format!("out tcp {WORKER}:9 > 1.1.1.1:80"), "drop sg-no-match");
}

/// A43, SG-11: the default groups of three generations of clusters, as data.
#[test]
fn a43_default_groups_by_generation() {
    let kube = group(
        "kube-c1",
        &["nic-1"],
        &[
            "outbound all any",
            "inbound tcp any port-min=30000 port-max=32767",
            "inbound udp any port-min=30000 port-max=32767",
        ],
    );
    let vpc =
        group("vpc-default", &["nic-1"], &["outbound all any", "inbound icmp any type=8", "inbound all vpc-default"]);
    let older = group("vpc-default", &["nic-1"], &["outbound all any", "inbound all vpc-default"]);
    let first = group("vpc-default", &["nic-1"], &["outbound all any", "inbound all any"]);
    let generations = [
        (
            "A43 generation 2 from 1.19",
            vec![kube, vpc],
            ["pass kube-c1#1", "pass kube-c1#0", "drop sg-no-match", "pass vpc-default#0", "pass vpc-default#1"],
        ),
        (
            "A43 generation 2 before 1.19",
            vec![older],
            ["drop sg-no-match", "drop sg-no-match", "drop sg-no-match", "drop sg-no-match", "pass vpc-default#0"],
        ),
        ("A43 generation 1", vec![first], ["pass vpc-default#0"; 5]),
    ];
    for (row, groups, expected) in generations {
        let files = grouped(&groups);
        let mut gateway =
            Gateway::new("securityGroupMembers: { vpc-default: [10.240.1.7] }", &[("account.json", &files)]);
        let packets = [
            format!("in udp 1.1.1.1:9 > {WORKER}:31000"),
            format!("in tcp 1.1.1.1:9 > {WORKER}:31000"),
            format!("in tcp 1.1.1.1:9 > {WORKER}:22"),
            format!("in icmp 1.1.1.1 > {WORKER} type 8"),
            format!("in tcp 10.240.1.7:9 > {WORKER}:10250"),
        ];
        for (packet, expected) in packets.iter().zip(expected) {
            gateway.check(row, packet, expected);
        }
        gateway.check(row, &format!("out tcp {WORKER}:9 > 1.1.1.1:443"), "pass");
    }
}

/// B19, SG-3: a deleted rule ends nothing that runs, but lets nothing new begin. GW-23 has it otherwise where the user asks.
#[test]
fn b19_sg_3_a_deleted_rule_stops_new_flows_only() {
    let delete = "ibmcloud is security-group-rule-delete kube-c1 outbound-all-any";
    for (mode, later) in
        [("keep", "pass established"), ("revalidate", "drop sg-no-match"), ("flush", "drop sg-no-match")]
    {
        let mut gateway = Gateway::new(&format!("existingFlows: {mode}"), &[("account.json", &untouched())]);
        gateway.check_next("B19", &format!("out tcp {WORKER}:9 > 1.1.1.1:80"), "pass new kube-c1#0");
        gateway.check_next("B19", &format!("in tcp 1.1.1.1:80 > {WORKER}:9 [SA]"), "pass established");
        gateway.check_next("B19", &format!("out tcp {WORKER}:9 > 1.1.1.1:80 [A]"), "pass established");
        gateway.reload(&[("account.json", &untouched()), ("delete.ibmcloud", delete)]);
        gateway.check_next(&format!("B19 {mode}"), &format!("out tcp {WORKER}:9 > 1.1.1.1:80 [A]"), later);
        gateway.check_next("B19 new", &format!("out tcp {WORKER}:10 > 1.1.1.1:80"), "drop sg-no-match");
    }
}

/// A9: VRRP is neither ICMP nor TCP nor UDP: `all` does not pass it, Calico's own rule does where no group is in the way.
#[test]
fn a9_vrrp_needs_a_word_of_its_own() {
    let worker = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker, labels: { ibm.role: worker_public } }
spec: { node: worker-1, interfaceName: eth1, expectedIPs: [10.240.0.5] }
";
    let vrrp = crate::gateway::project_file("policies/defaults/allow-vrrp.yaml");
    let calico = [("worker.yaml", worker), ("allow-vrrp.yaml", vrrp.as_str())];
    let open = grouped(&[group("open", &["nic-1"], &["inbound all any", "outbound all any"])]);
    let packet = format!("in 112 10.240.0.6 > {WORKER}");
    let mut guarded = Gateway::new("", &[("account.json", &*open), calico[0], calico[1]]);
    guarded.check("A9 all", &packet, "drop sg-no-match sg");
    let any = grouped(&[group("open", &["nic-1"], &["inbound vrrp any", "outbound any any"])]);
    let mut named = Gateway::new("", &[("account.json", &*any), calico[0], calico[1]]);
    named.check("A9 vrrp", &packet, "pass allow-vrrp#0");
    let mut bare = Gateway::new("", &calico);
    bare.check("A9 no group", &packet, "pass allow-vrrp#0");
    bare.check("A9 no group", &format!("in 111 10.240.0.6 > {WORKER}"), "drop tier-default-deny");
}
