//! The ACL tables and commands (F5 to F9, A39, A41, A45 to A48, B20 to B24): the same rules from commands and from JSON, every edge of
//! every prefix and port, requests with their replies.

use crate::gateway::{Gateway, read, shared};
use crate::place::{WORKER, account, acl, acl_of, assert_same_acl, policy};

/// The console's inbound and outbound tables (F5, F6), the deny rules at the bottom.
const CONSOLE: [&str; 16] = [
    "services-in allow inbound all 161.26.0.0/16 0.0.0.0/0",
    "endpoints-in allow inbound all 166.8.0.0/14 0.0.0.0/0",
    "zone-2-in allow inbound all 10.240.1.0/24 0.0.0.0/0",
    "balancer-in allow inbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=56501 dport-max=56501",
    "https-in allow inbound tcp 0.0.0.0/0 0.0.0.0/0 sport-min=443 sport-max=443",
    "port-8834-in allow inbound tcp 0.0.0.0/0 0.0.0.0/0 sport-min=8834 sport-max=8834",
    "port-10514-in allow inbound tcp 0.0.0.0/0 0.0.0.0/0 sport-min=10514 sport-max=10514",
    "deny-in deny inbound all 0.0.0.0/0 0.0.0.0/0",
    "services-out allow outbound all 0.0.0.0/0 161.26.0.0/16",
    "endpoints-out allow outbound all 0.0.0.0/0 166.8.0.0/14",
    "zone-2-out allow outbound all 0.0.0.0/0 10.240.1.0/24",
    "balancer-out allow outbound tcp 0.0.0.0/0 0.0.0.0/0 sport-min=56501 sport-max=56501",
    "https-out allow outbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=443 dport-max=443",
    "port-8834-out allow outbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=8834 dport-max=8834",
    "port-10514-out allow outbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=10514 dport-max=10514",
    "deny-out deny outbound all 0.0.0.0/0 0.0.0.0/0",
];

/// The same, typed: first the rules for the bottom, then each of the others in front of them.
const CONSOLE_SCRIPT: &str = "
acl_id=console
ibmcloud is network-acl-create console
ibmcloud is network-acl-rule-delete $acl_id allow-all-inbound-rule-console -f
ibmcloud is network-acl-rule-delete $acl_id allow-all-outbound-rule-console -f
ibmcloud is network-acl-rule-add $acl_id deny inbound all 0.0.0.0/0 0.0.0.0/0 --name deny-in
ibmcloud is network-acl-rule-add $acl_id deny outbound all 0.0.0.0/0 0.0.0.0/0 --name deny-out
ibmcloud is network-acl-rule-add $acl_id allow inbound all 161.26.0.0/16 0.0.0.0/0 --name services-in --before-rule-name deny-in
ibmcloud is network-acl-rule-add $acl_id allow inbound all 166.8.0.0/14 0.0.0.0/0 --name endpoints-in --before-rule-name deny-in
ibmcloud is network-acl-rule-add $acl_id allow inbound all 10.240.1.0/24 0.0.0.0/0 --name zone-2-in --before-rule-name deny-in
ibmcloud is network-acl-rule-add $acl_id allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name balancer-in --destination-port-min 56501 --destination-port-max 56501 --before-rule-name deny-in
ibmcloud is network-acl-rule-add $acl_id allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name https-in --source-port-min 443 --source-port-max 443 --before-rule-name deny-in
ibmcloud is network-acl-rule-add $acl_id allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name port-8834-in --source-port-min 8834 --source-port-max 8834 --before-rule deny-in
ibmcloud is network-acl-rule-add $acl_id allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name port-10514-in --source-port-min 10514 --source-port-max 10514 --before-rule deny-in
ibmcloud is network-acl-rule-add $acl_id allow outbound all 0.0.0.0/0 161.26.0.0/16 --name services-out --before-rule-name deny-out
ibmcloud is network-acl-rule-add $acl_id allow outbound all 0.0.0.0/0 166.8.0.0/14 --name endpoints-out --before-rule-name deny-out
ibmcloud is network-acl-rule-add $acl_id allow outbound all 0.0.0.0/0 10.240.1.0/24 --name zone-2-out --before-rule-name deny-out
ibmcloud is network-acl-rule-add $acl_id allow outbound tcp 0.0.0.0/0 0.0.0.0/0 --name balancer-out --source-port-min 56501 --source-port-max 56501 --before-rule-name deny-out
ibmcloud is network-acl-rule-add $acl_id allow outbound tcp 0.0.0.0/0 0.0.0.0/0 --name https-out --destination-port-min 443 --destination-port-max 443 --before-rule-name deny-out
ibmcloud is network-acl-rule-add $acl_id allow outbound tcp 0.0.0.0/0 0.0.0.0/0 --name port-8834-out --destination-port-min 8834 --destination-port-max 8834 --before-rule-name deny-out
ibmcloud is network-acl-rule-add $acl_id allow outbound tcp 0.0.0.0/0 0.0.0.0/0 --name port-10514-out --destination-port-min 10514 --destination-port-max 10514 --before-rule-name deny-out
ibmcloud is subnet-update id-zone-1 --network-acl-id $acl_id
";

/// The commands' table (F7) as JSON.
const COMMANDS: [&str; 18] = [
    "workers-out allow outbound all 0.0.0.0/0 10.240.1.0/24",
    "workers-in allow inbound all 10.240.1.0/24 0.0.0.0/0",
    "private-out-1 allow outbound all 0.0.0.0/0 161.26.0.0/16",
    "private-out-2 allow outbound all 0.0.0.0/0 166.8.0.0/14",
    "private-in-1 allow inbound all 161.26.0.0/16 0.0.0.0/0",
    "private-in-2 allow inbound all 166.8.0.0/14 0.0.0.0/0",
    "lb-out-1 allow outbound tcp 0.0.0.0/0 0.0.0.0/0 sport-min=56501 sport-max=56501",
    "lb-out-2 allow outbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=443 dport-max=443",
    "lb-out-3 allow outbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=8834 dport-max=8834",
    "lb-out-4 allow outbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=10514 dport-max=10514",
    "lb-in-1 allow inbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=56501 dport-max=56501",
    "lb-in-2 allow inbound tcp 0.0.0.0/0 0.0.0.0/0 sport-min=443 sport-max=443",
    "lb-in-3 allow inbound tcp 0.0.0.0/0 0.0.0.0/0 sport-min=8834 sport-max=8834",
    "lb-in-4 allow inbound tcp 0.0.0.0/0 0.0.0.0/0 sport-min=10514 sport-max=10514",
    "corporate-out allow outbound all 0.0.0.0/0 207.42.8.0/24",
    "corporate-in allow inbound all 207.42.8.0/24 0.0.0.0/0",
    "deny-all-outbound deny outbound all 0.0.0.0/0 0.0.0.0/0",
    "deny-all-inbound deny inbound all 0.0.0.0/0 0.0.0.0/0",
];

/// The commands (B20), in the page's order.
const COMMANDS_SCRIPT: &str = "
ibmcloud is target --gen 2
ibmcloud is subnets
ibmcloud is network-acl-create c1-zone-1-acl
export acl_id=c1-zone-1-acl
ibmcloud is network-acl-rule-delete $acl_id allow-all-inbound-rule-c1-zone-1-acl -f
ibmcloud is network-acl-rule-delete $acl_id allow-all-outbound-rule-c1-zone-1-acl -f
ibmcloud is network-acl-rule-add $acl_id allow outbound all 0.0.0.0/0 10.240.1.0/24 --name workers-out
ibmcloud is network-acl-rule-add $acl_id allow inbound all 10.240.1.0/24 0.0.0.0/0 --name workers-in
ibmcloud is network-acl-rule-add $acl_id allow outbound all 0.0.0.0/0 161.26.0.0/16 --name private-out-1
ibmcloud is network-acl-rule-add $acl_id allow outbound all 0.0.0.0/0 166.8.0.0/14 --name private-out-2
ibmcloud is network-acl-rule-add $acl_id allow inbound all 161.26.0.0/16 0.0.0.0/0 --name private-in-1
ibmcloud is network-acl-rule-add $acl_id allow inbound all 166.8.0.0/14 0.0.0.0/0 --name private-in-2
ibmcloud is network-acl-rule-add $acl_id allow outbound tcp 0.0.0.0/0 0.0.0.0/0 --name lb-out-1 --source-port-min 56501 --source-port-max 56501
ibmcloud is network-acl-rule-add $acl_id allow outbound tcp 0.0.0.0/0 0.0.0.0/0 --name lb-out-2 --destination-port-min 443 --destination-port-max 443
ibmcloud is network-acl-rule-add $acl_id allow outbound tcp 0.0.0.0/0 0.0.0.0/0 --name lb-out-3 --destination-port-min 8834 --destination-port-max 8834
ibmcloud is network-acl-rule-add $acl_id allow outbound tcp 0.0.0.0/0 0.0.0.0/0 --name lb-out-4 --destination-port-min 10514 --destination-port-max 10514
ibmcloud is network-acl-rule-add $acl_id allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name lb-in-1 --destination-port-min 56501 --destination-port-max 56501
ibmcloud is network-acl-rule-add $acl_id allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name lb-in-2 --source-port-min 443 --source-port-max 443
ibmcloud is network-acl-rule-add $acl_id allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name lb-in-3 --source-port-min 8834 --source-port-max 8834
ibmcloud is network-acl-rule-add $acl_id allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name lb-in-4 --source-port-min 10514 --source-port-max 10514
ibmcloud is network-acl-rule-add $acl_id allow outbound all 0.0.0.0/0 207.42.8.0/24 --name corporate-out
ibmcloud is network-acl-rule-add $acl_id allow inbound all 207.42.8.0/24 0.0.0.0/0 --name corporate-in
ibmcloud is network-acl-rule-add $acl_id deny outbound all 0.0.0.0/0 0.0.0.0/0 --name deny-all-outbound
ibmcloud is network-acl-rule-add $acl_id deny inbound all 0.0.0.0/0 0.0.0.0/0 --name deny-all-inbound
ibmcloud is subnet-update id-zone-1 --network-acl-id $acl_id
";

/// A gateway whose zone 1 has the ACL that a script makes.
fn scripted(script: &str) -> Gateway {
    Gateway::new("", &[("account.json", &account(&[], &[])), ("acl.ibmcloud", script)])
}

/// A gateway whose zone 1 has an ACL `a` with these rules, inbound and outbound in one list.
fn ruled(rules: &[&str]) -> Gateway {
    let account = account(&[acl("a", &[], rules)], &[]);
    Gateway::new(
        "",
        &[("account.json", &account), ("z.ibmcloud", "ibmcloud is subnet-update zone-1 --network-acl-id a")],
    )
}

#[test]
fn f5_f6_b24_the_console_tables_are_the_same_from_commands_and_json() {
    let documents = policy(&[("account.json", &account(&[acl("console", &[], &CONSOLE)], &[]))]);
    let typed = policy(&[("account.json", &account(&[], &[])), ("console.ibmcloud", CONSOLE_SCRIPT)]);
    assert_same_acl("F5 F6", acl_of(&documents, "console"), acl_of(&typed, "console"));
}

#[test]
fn f7_b20_the_commands_give_the_eighteen_rules_of_the_json() {
    let documents = policy(&[("account.json", &account(&[acl("c1-zone-1-acl", &[], &COMMANDS)], &[]))]);
    let typed = policy(&[("account.json", &account(&[], &[])), ("acl.ibmcloud", COMMANDS_SCRIPT)]);
    assert_eq!(acl_of(&typed, "c1-zone-1-acl").rules.len(), 18, "F7");
    assert_same_acl("F7", acl_of(&documents, "c1-zone-1-acl"), acl_of(&typed, "c1-zone-1-acl"));
}

/// The page's own lines, its placeholders filled in as its text says, make the same rules; only their names are the page's.
#[test]
fn f7_b20_the_printed_lines_give_the_same_rules() {
    let Some(shared) = shared() else { return };
    let printed = shared.join("corpus/seeds/003-ibmcloud-is-commands.txt");
    let printed = std::fs::read_to_string(printed).expect("the corpus has the page's commands");
    let filled = [
        ("<cluster>-<subnet>-acl", "c1-zone-1-acl\nacl_id=c1-zone-1-acl"),
        ("<default_inbound_rule_ID>", "allow-all-inbound-rule-c1-zone-1-acl"),
        ("<default_outbound_rule_ID>", "allow-all-outbound-rule-c1-zone-1-acl"),
        ("<other_zone_subnet_CIDR>", "10.240.1.0/24"),
        ("<subnet_ID>", "id-zone-1"),
    ];
    let script = filled.iter().fold(printed, |text, (from, to)| text.replace(from, to));
    // What is left with `<` shows the form of a command; what has `$sg` is about groups.
    let script: Vec<&str> = script.lines().filter(|line| !line.contains('<') && !line.contains("$sg")).collect();
    let script: Vec<&str> = script.into_iter().filter(|line| !line.contains("(1|2)")).collect();
    let typed = policy(&[("account.json", &account(&[], &[])), ("printed.ibmcloud", &script.join("\n"))]);
    let documents = policy(&[("account.json", &account(&[acl("c1-zone-1-acl", &[], &COMMANDS)], &[]))]);
    let mut found = acl_of(&typed, "c1-zone-1-acl").clone();
    let expected = acl_of(&documents, "c1-zone-1-acl");
    for (rule, own) in found.rules.iter_mut().zip(&expected.rules) {
        rule.name.clone_from(&own.name);
    }
    assert_same_acl("F7 printed", &found, expected);
    let attached: Vec<&str> = typed.subnets.iter().map(|subnet| subnet.acl.as_str()).collect();
    assert_eq!(attached, ["c1-zone-1-acl", "allow-all-network-acl-v1"], "F9");
}

#[test]
fn f8_a45_a_new_acl_has_two_rules_that_allow_all() {
    let typed = policy(&[("account.json", &account(&[], &[])), ("a.ibmcloud", "ibmcloud is network-acl-create new")]);
    let rules = [
        "allow-all-inbound-rule-new allow inbound all 0.0.0.0/0 0.0.0.0/0",
        "allow-all-outbound-rule-new allow outbound all 0.0.0.0/0 0.0.0.0/0",
    ];
    let documents = policy(&[("account.json", &account(&[acl("new", &[], &rules)], &[]))]);
    assert_same_acl("F8", acl_of(&documents, "new"), acl_of(&typed, "new"));
    assert!(typed.subnets.iter().all(|subnet| subnet.acl == "allow-all-network-acl-v1"), "A45: subnets start with it");
    let mut gateway = Gateway::with_policy("", typed);
    for packet in
        ["tcp 1.1.1.1:9 > 10.240.0.5:22", "udp 1.1.1.1:9 > 10.240.1.5:22", "icmp 1.1.1.1 > 10.240.0.5 type 13"]
    {
        gateway.check("A45 F8", &format!("in {packet}"), "pass acl-allow allow-all-network-acl-v1#0");
    }
    gateway.check("15.2 all", "in 112 10.240.1.6 > 10.240.0.5", "drop acl-implicit-deny");
}

/// First, last and neighbouring addresses of every prefix, both ways, three protocols; `rule` is the number by direction.
#[test]
fn f5_f6_edges_of_every_prefix() {
    let mut gateway = scripted(CONSOLE_SCRIPT);
    let edges = [
        ("F5.1", "161.25.255.255", "161.26.0.0", "161.26.255.255", "161.27.0.0", 0),
        ("F5.2", "166.7.255.255", "166.8.0.0", "166.11.255.255", "166.12.0.0", 1),
        ("F5.3", "10.240.0.255", "10.240.1.0", "10.240.1.255", "10.240.2.0", 2),
    ];
    for (row, before, first, last, after, rule) in edges {
        for (address, inside) in [(before, false), (first, true), (last, true), (after, false)] {
            let number = if inside { rule } else { 7 };
            let expected = if inside {
                format!("pass acl-allow console#{number}")
            } else {
                format!("drop acl-deny console#{number}")
            };
            for (protocol, port) in [("tcp", ":5000"), ("udp", ":5000"), ("icmp", "")] {
                let inbound = format!("in {protocol} {address}{port} > {WORKER}{port}");
                gateway.check(&format!("{row} inbound"), &inbound, &expected);
                let outbound = format!("out {protocol} {WORKER}{port} > {address}{port}");
                gateway.check(&format!("{} outbound", row.replace('5', "6")), &outbound, &expected);
            }
            // `all` allows ICMP, TCP and UDP; `all` denies everything (15.2).
            gateway.check(&format!("{row} 15.2"), &format!("in 50 {address} > {WORKER}"), "drop acl-deny console#7");
        }
    }
    for protocol in [112, 50, 132, 2] {
        gateway.check("F5.8", &format!("in {protocol} 1.1.1.1 > {WORKER}"), "drop acl-deny console#7");
        gateway.check("F6", &format!("out {protocol} {WORKER} > 1.1.1.1"), "drop acl-deny console#7");
    }
}

#[test]
fn f5_f6_edges_of_every_port() {
    let mut gateway = scripted(CONSOLE_SCRIPT);
    let drop = "drop acl-deny console#7";
    for (row, port, number, is_destination) in
        [("F5.4", 56501u16, 3, true), ("F5.5", 443, 4, false), ("F5.6", 8834, 5, false), ("F5.7", 10514, 6, false)]
    {
        let pass = format!("pass acl-allow console#{number}");
        for at in [port - 1, port, port + 1] {
            let expected = if at == port { pass.as_str() } else { drop };
            let (sport, dport) = if is_destination { (9, at) } else { (at, 9) };
            gateway.check(row, &format!("in tcp 1.1.1.1:{sport} > {WORKER}:{dport}"), expected);
            gateway.check(&format!("{row}: TCP only"), &format!("in udp 1.1.1.1:{sport} > {WORKER}:{dport}"), drop);
            // The mirror: outbound with the port on the other side (F6).
            let mirror = format!("out tcp {WORKER}:{dport} > 1.1.1.1:{sport}");
            gateway.check(&format!("{row} F6"), &mirror, expected);
            gateway.check(
                &format!("{row}: not the other side"),
                &format!("in tcp 1.1.1.1:{dport} > {WORKER}:{sport}"),
                drop,
            );
        }
    }
    // Stateless by design: who chooses source port 443 reaches every port.
    gateway.check("F5.5", &format!("in tcp 1.1.1.1:443 > {WORKER}:22"), "pass acl-allow console#4");
}

/// F6: each pair of mirrored rules as request and reply; A39, ACL-2: without the mirror the reply is forgotten.
#[test]
fn f6_a39_mirrored_pairs_carry_requests_and_replies() {
    let client = "1.1.1.1:40000";
    let pairs = [
        (
            "F5.4",
            format!("in tcp {client} > {WORKER}:56501"),
            format!("out tcp {WORKER}:56501 > {client} [SA]"),
            "balancer-out",
        ),
        (
            "F5.5",
            format!("out tcp {WORKER}:40000 > 1.1.1.1:443"),
            format!("in tcp 1.1.1.1:443 > {WORKER}:40000 [SA]"),
            "https-in",
        ),
        (
            "F5.6",
            format!("out tcp {WORKER}:40000 > 1.1.1.1:8834"),
            format!("in tcp 1.1.1.1:8834 > {WORKER}:40000 [SA]"),
            "port-8834-in",
        ),
        (
            "F5.7",
            format!("out tcp {WORKER}:40000 > 1.1.1.1:10514"),
            format!("in tcp 1.1.1.1:10514 > {WORKER}:40000 [SA]"),
            "port-10514-in",
        ),
        (
            "F5.1",
            format!("out udp {WORKER}:40000 > 161.26.0.7:53"),
            format!("in udp 161.26.0.7:53 > {WORKER}:40000"),
            "services-in",
        ),
        (
            "F5.2",
            format!("out icmp {WORKER} > 166.8.0.7 type 8 id 5"),
            format!("in icmp 166.8.0.7 > {WORKER} type 0 id 5"),
            "endpoints-in",
        ),
        (
            "F5.3",
            format!("out tcp {WORKER}:40000 > 10.240.1.9:7"),
            format!("in tcp 10.240.1.9:7 > {WORKER}:40000 [SA]"),
            "zone-2-in",
        ),
    ];
    for (row, request, reply, mirror) in pairs {
        let mut gateway = scripted(CONSOLE_SCRIPT);
        gateway.check_next(row, &request, "pass acl-allow new");
        gateway.check_next(row, &reply, "pass established");
        let forgetful = format!("{CONSOLE_SCRIPT}\nibmcloud is network-acl-rule-delete console {mirror} -f");
        let mut gateway = scripted(&forgetful);
        gateway.check_next(&format!("{row} A39"), &request, "pass acl-allow new");
        gateway.check_next(&format!("{row} A39"), &reply, "drop acl-deny acl");
    }
}

#[test]
fn f7_edges_of_the_commands() {
    let mut gateway = scripted(COMMANDS_SCRIPT);
    for (address, expected) in [
        ("207.42.7.255", "drop acl-deny c1-zone-1-acl#8"),
        ("207.42.8.0", "pass acl-allow c1-zone-1-acl#7"),
        ("207.42.8.255", "pass acl-allow c1-zone-1-acl#7"),
        ("207.42.9.0", "drop acl-deny c1-zone-1-acl#8"),
        ("10.240.1.0", "pass acl-allow c1-zone-1-acl#0"),
        ("10.240.1.255", "pass acl-allow c1-zone-1-acl#0"),
        ("161.26.255.255", "pass acl-allow c1-zone-1-acl#1"),
        ("166.8.0.0", "pass acl-allow c1-zone-1-acl#2"),
        ("166.11.255.255", "pass acl-allow c1-zone-1-acl#2"),
        ("166.12.0.0", "drop acl-deny c1-zone-1-acl#8"),
    ] {
        gateway.check("F7 inbound", &format!("in udp {address}:7 > {WORKER}:7"), expected);
        gateway.check("F7 outbound", &format!("out udp {WORKER}:7 > {address}:7"), expected);
    }
    for (port, number) in [(56501, 3), (443, 4), (8834, 5), (10514, 6)] {
        let pass = format!("pass c1-zone-1-acl#{number}");
        let (inbound, outbound) = if port == 56501 { ((9, port), (port, 9)) } else { ((port, 9), (9, port)) };
        gateway.check("F7 lb in", &format!("in tcp 1.1.1.1:{} > {WORKER}:{}", inbound.0, inbound.1), &pass);
        gateway.check("F7 lb out", &format!("out tcp {WORKER}:{} > 1.1.1.1:{}", outbound.0, outbound.1), &pass);
    }
}

/// F9, ACL-8: attached, the rules hold at once, for flows that exist too.
#[test]
fn f9_acl_8_subnet_update_takes_effect_at_once() {
    let start = account(&[], &[]);
    let mut gateway = Gateway::new("", &[("account.json", &start)]);
    gateway.check_next("F9 before", &format!("in tcp 1.1.1.1:9 > {WORKER}:22"), "pass new allow-all-network-acl-v1#0");
    gateway.check_next("F9 before", &format!("out tcp {WORKER}:22 > 1.1.1.1:9 [SA]"), "pass established");
    gateway.reload(&[("account.json", &start), ("acl.ibmcloud", COMMANDS_SCRIPT)]);
    gateway.check_next("F9 ACL-8", &format!("in tcp 1.1.1.1:9 > {WORKER}:22 [A]"), "drop acl-deny c1-zone-1-acl#8");
    gateway.check_next("F9 ACL-8", &format!("out tcp {WORKER}:22 > 1.1.1.1:9 [A]"), "drop acl-deny established");
    // The other subnet kept its ACL.
    gateway.check_next("F9", "in tcp 1.1.1.1:9 > 10.240.1.5:22", "pass allow-all-network-acl-v1#0");
    // The subnet is a /28: its last address is governed, the next one is nobody's.
    gateway.check("F9", "in tcp 1.1.1.1:9 > 10.240.0.15:22", "drop c1-zone-1-acl#8");
    gateway.check("F9", "in tcp 1.1.1.1:9 > 10.240.0.16:22", "pass default-allow");
}

#[test]
fn f9_what_goes_through_a_public_gateway_needs_rules_of_its_own() {
    let mut closed = scripted(COMMANDS_SCRIPT);
    closed.check("F9", &format!("out tcp {WORKER}:9 > 8.8.8.8:80"), "drop acl-deny c1-zone-1-acl#8");
    let extra = format!(
        "{COMMANDS_SCRIPT}
ibmcloud is network-acl-rule-add $acl_id allow outbound tcp 0.0.0.0/0 0.0.0.0/0 --name web-out --destination-port-min 80 --destination-port-max 80 --before-rule-name deny-all-outbound
ibmcloud is network-acl-rule-add $acl_id allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name web-in --source-port-min 80 --source-port-max 80 --before-rule-name deny-all-inbound"
    );
    let mut open = scripted(&extra);
    open.check_next("F9", &format!("out tcp {WORKER}:9 > 8.8.8.8:80"), "pass c1-zone-1-acl#8");
    open.check_next("F9", &format!("in tcp 8.8.8.8:80 > {WORKER}:9 [SA]"), "pass established");
}

/// A46, ACL-4, CLI-5: whatever is not listed is blocked; an ACL without rules blocks everything.
#[test]
fn a46_what_no_rule_lists_is_denied() {
    let mut gateway = ruled(&["web allow inbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=80 dport-max=80"]);
    gateway.check("A46", &format!("in tcp 1.1.1.1:9 > {WORKER}:80"), "pass a#0");
    gateway.check("A46", &format!("in tcp 1.1.1.1:9 > {WORKER}:81"), "drop acl-implicit-deny");
    gateway.check("A46", &format!("out tcp {WORKER}:80 > 1.1.1.1:9 [A]"), "drop acl-implicit-deny");
    let emptied = "
ibmcloud is network-acl-create e
ibmcloud is network-acl-rule-delete e allow-all-inbound-rule-e allow-all-outbound-rule-e -f
ibmcloud is subnet-update zone-1 --network-acl-id e";
    let mut gateway = scripted(emptied);
    gateway.check("A46 CLI-5", &format!("in tcp 1.1.1.1:9 > {WORKER}:80"), "drop acl-implicit-deny");
    gateway.check("A46 CLI-5", &format!("out icmp {WORKER} > 1.1.1.1"), "drop acl-implicit-deny");
}

/// A47, B21, CLI-3: a rule behind the deny is never reached; the same rule in front of it is.
#[test]
fn a47_b21_a_rule_behind_the_deny_is_ignored_unless_it_is_put_before() {
    let add = "ibmcloud is network-acl-rule-add c1-zone-1-acl allow inbound tcp 0.0.0.0/0 0.0.0.0/0 --name ssh --destination-port-min 22 --destination-port-max 22";
    let packet = format!("in tcp 1.1.1.1:9 > {WORKER}:22");
    let mut late = scripted(&format!("{COMMANDS_SCRIPT}\n{add}"));
    late.check("A47", &packet, "drop acl-deny c1-zone-1-acl#8");
    for before in ["--before-rule-name deny-all-inbound", "--before-rule deny-all-inbound"] {
        let mut early = scripted(&format!("{COMMANDS_SCRIPT}\n{add} {before}"));
        early.check("B21", &packet, "pass acl-allow c1-zone-1-acl#8");
        early.check("B21", &format!("in tcp 1.1.1.1:9 > {WORKER}:23"), "drop acl-deny c1-zone-1-acl#9");
    }
    // By id, of an ACL that has ids.
    let documents = account(&[acl("c1-zone-1-acl", &[], &COMMANDS)], &[]);
    let script = format!(
        "ibmcloud is subnet-update zone-1 --network-acl-id id-c1-zone-1-acl\n{add} --before-rule-id id-deny-all-inbound"
    );
    let mut by_id = Gateway::new("", &[("account.json", &documents), ("a.ibmcloud", &script)]);
    by_id.check("B21 by id", &packet, "pass acl-allow c1-zone-1-acl#8");
}

/// A48, ACL-6: the subnet's own side written as 0.0.0.0/0 means its hosts; its own prefix does so too.
#[test]
fn a48_the_subnets_own_side_may_be_everything() {
    for own in ["0.0.0.0/0", "10.240.0.0/28"] {
        let inbound = format!("in allow inbound tcp 1.1.1.0/24 {own}");
        let outbound = format!("out allow outbound tcp {own} 1.1.1.0/24");
        let mut gateway = ruled(&[&inbound, &outbound]);
        for host in ["10.240.0.0", "10.240.0.15"] {
            gateway.check("A48", &format!("in tcp 1.1.1.1:9 > {host}:80"), "pass a#0");
            gateway.check("A48", &format!("out tcp {host}:9 > 1.1.1.255:80"), "pass a#0");
            gateway.check("A48", &format!("out tcp {host}:9 > 1.1.2.0:80"), "drop acl-implicit-deny");
        }
    }
}

/// 15.2: what a protocol word allows and denies; A9: VRRP does not pass an ACL that allows `all`.
#[test]
fn a9_15_2_all_is_less_where_it_allows_than_where_it_denies() {
    let check = |word: &str, allows: &[u8], denies: &[u8]| {
        let inbound =
            |action: &str, word: &str, name: &str| format!("{name} {action} inbound {word} 0.0.0.0/0 0.0.0.0/0");
        let mut allow = ruled(&[&inbound("allow", word, "r")]);
        let mut deny =
            (!denies.is_empty()).then(|| ruled(&[&inbound("deny", word, "r"), &inbound("allow", "any", "rest")]));
        for protocol in [1u8, 2, 4, 6, 17, 46, 47, 50, 51, 99, 112, 115, 132, 255] {
            let packet = format!("in {protocol} 1.1.1.1 > {WORKER} len 8");
            let expected = if allows.contains(&protocol) { "pass a#0" } else { "drop acl-implicit-deny" };
            allow.check(&format!("15.2 allow {word}"), &packet, expected);
            let expected = if denies.contains(&protocol) { "drop acl-deny a#0" } else { "pass a#1" };
            deny.iter_mut().for_each(|gateway| gateway.check(&format!("15.2 deny {word}"), &packet, expected));
        }
    };
    let every = [1u8, 2, 4, 6, 17, 46, 47, 50, 51, 99, 112, 115, 132, 255];
    check("all", &[1, 6, 17], &every);
    check("any", &every, &every);
    check("icmp_tcp_udp", &[1, 6, 17], &[]);
    check("vrrp", &[112], &[112]);
    check("esp", &[50], &[50]);
    check("ip_in_ip", &[4], &[4]);
    check("number_99", &[99], &[99]);
    check("udp", &[17], &[17]);
}

/// B23, H9: the page exports ACL_ID and goes on with $acl_id: no rule may end up in an ACL without a name.
#[test]
fn b23_another_variable_than_the_exported_one_is_an_error() {
    let documents = account(&[acl("acl-1", &[], &[])], &[]);
    let script =
        "export ACL_ID=acl-1\nibmcloud is network-acl-rule-add $acl_id deny inbound all 0.0.0.0/0 0.0.0.0/0 --name d\n";
    let findings = read(&[("account.json", &documents), ("a.ibmcloud", script)]).expect_err("B23");
    assert!(findings.iter().any(|f| f.contains("$acl_id") && f.contains("a.ibmcloud:2:")), "{findings:?}");
    assert!(findings.iter().all(|f| f.ends_with("[undefined-variable]")), "{findings:?}");
}

/// B16, B17, B22: commands that log in, choose a place or print change nothing; a command that would change something unknown is refused.
#[test]
fn b16_b22_commands_that_only_look_are_passed_over() {
    let documents = account(&[acl("acl-1", &[], &["r allow inbound tcp 0.0.0.0/0 0.0.0.0/0"])], &[]);
    let script = "
#!/bin/sh
ibmcloud login
ibmcloud plugin install vpc-infrastructure
ibmcloud target -r us-south
ibmcloud is target --gen 1
ibmcloud is subnets
ibmcloud is network-acls --json
ibmcloud is network-acl acl-1
ibmcloud is sgs
ibmcloud ks worker get -c c1 -w w1
";
    let with = policy(&[("account.json", &documents), ("look.ibmcloud", script)]);
    let without = policy(&[("account.json", &documents)]);
    assert_eq!(format!("{:?} {:?}", with.acls, with.subnets), format!("{:?} {:?}", without.acls, without.subnets));
    for unknown in ["ibmcloud is network-acl-delete acl-1", "kubectl delete ns x", "ibmcloud is subnet-delete zone-1"] {
        let findings = read(&[("account.json", &documents), ("a.ibmcloud", unknown)]).expect_err(unknown);
        assert!(findings[0].ends_with("[unknown-command]"), "{findings:?}");
    }
}

/// A41, ACL-7: hosts of one subnet, whichever side of the box they are on, are not kept apart.
#[test]
fn a41_acl_7_an_acl_does_not_separate_hosts_of_one_subnet() {
    let mut gateway =
        ruled(&["deny-in deny inbound all 0.0.0.0/0 0.0.0.0/0", "deny-out deny outbound all 0.0.0.0/0 0.0.0.0/0"]);
    for protocol in ["tcp", "udp", "icmp", "112"] {
        gateway.check("A41", &format!("in {protocol} 10.240.0.6 > {WORKER}"), "pass");
        gateway.check("A41", &format!("out {protocol} {WORKER} > 10.240.0.6"), "pass");
    }
    gateway.check("A41 other subnet", &format!("in tcp 10.240.1.6:9 > {WORKER}:80"), "drop acl-deny a#0");
    gateway.check("A41 other subnet", &format!("out tcp {WORKER}:9 > 10.240.1.6:80"), "drop acl-deny a#0");
    gateway.check("A41 past the end", &format!("in tcp 10.240.0.16:9 > {WORKER}:80"), "drop acl-deny a#0");
}
