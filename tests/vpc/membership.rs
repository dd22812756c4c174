//! Who is a member of a group, and which ACL an address has (GW-3, GW-13, GW-33, GW-34, ACL-7).

use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::site::Site;
use ringwall::compile::{Options, compile};

use crate::gateway::{Gateway, read};
use crate::place::{account, acl, group, policy};

/// Codes of the warnings that compiling these files for this site gives, with their text.
fn warnings(files: &[(&str, &str)], site: &Site) -> Vec<String> {
    let mut findings = Diagnostics::new();
    compile(&policy(files), site, &Options::default(), &mut findings).expect("it compiles");
    findings.iter().map(|d| format!("{d} [{}]", d.code)).collect()
}

/// Every way to belong to a group: each address is guarded by it, and a rule that refers to it matches each.
#[test]
fn gw_13_every_way_to_be_a_member() {
    let listed = |id: &str| format!(r#""security_groups": [{{"id": "id-{id}", "name": "{id}"}}]"#);
    let clan = listed("clan");
    let text = format!(
        r#"{{"security_groups": [{}, {}],
        "instances": [{{"id": "i", "name": "i",
          "network_interfaces": [
            {{"id": "n1", "name": "eth0", "primary_ip": {{"address": "10.0.0.1"}}, {clan}}},
            {{"id": "n2", "name": "eth1", "primary_ipv4_address": "10.0.0.2", "security_groups": []}},
            {{"id": "n3", "name": "eth2", "primary_ip": {{"address": "10.0.0.3"}}}}],
          "network_attachments": [{{"id": "at", "name": "at", "primary_ip": {{"address": "10.0.0.4"}}, "virtual_network_interface": {{"id": "v4", "name": "v4"}}}}]}}],
        "virtual_network_interfaces": [
          {{"id": "v5", "name": "v5", "resource_type": "virtual_network_interface", "ips": [{{"address": "10.0.0.5"}}, {{"address": "10.0.0.6"}}], {clan}}},
          {{"id": "v7", "name": "v7", "resource_type": "virtual_network_interface", "primary_ip": {{"address": "10.0.0.7"}}}}],
        "endpoint_gateways": [
          {{"id": "e8", "name": "e8", "resource_type": "endpoint_gateway", "ips": [{{"id": "x", "name": "x", "address": "10.0.0.8"}}], {clan}}},
          {{"id": "e9", "name": "e9", "resource_type": "endpoint_gateway", "ips": [{{"address": "10.0.0.9"}}]}}]}}"#,
        // n2, v4 and e9 are members because the group lists them; n3 and v7 are not.
        group("clan", &["n2", "v4", "e9"], &["inbound all clan", "outbound all any"]),
        group("probe", &[], &["inbound tcp clan port-min=7 port-max=7"]),
    );
    let gateway_file = "
segments: [{ name: flat, cidrs: [10.9.0.0/24], securityGroups: [clan] }, { name: by-id, cidrs: [10.9.1.0/24], securityGroups: [id-clan] }]
securityGroupMembers: { clan: [10.0.0.10], id-clan: [10.0.0.11], probe: [10.0.0.99] }
";
    let mut gateway = Gateway::new(gateway_file, &[("account.json", &text)]);
    let members =
        (1..=11).map(|n| format!("10.0.0.{n}")).chain(["10.9.0.0".into(), "10.9.0.255".into(), "10.9.1.3".into()]);
    for address in members {
        let is_member = !["10.0.0.3", "10.0.0.7"].contains(&address.as_str());
        let (guarded, matched) = if is_member {
            ("drop sg-no-match", "pass sg-allow probe#0")
        } else {
            ("pass default-allow", "drop sg-no-match")
        };
        gateway.check("GW-13 is guarded", &format!("in tcp 1.1.1.1:9 > {address}:7"), guarded);
        gateway.check("GW-13 is matched", &format!("in tcp {address}:9 > 10.0.0.99:7"), matched);
        if is_member {
            gateway.check("GW-13 among themselves", &format!("in udp {address}:9 > 10.9.1.7:7"), "pass clan#0");
        }
    }
    gateway.check("GW-13 next to a segment", "in tcp 1.1.1.1:9 > 10.9.2.0:7", "pass default-allow");
}

/// A member in two groups has both; a segment's group does not hold in a longer prefix of another segment (GW-3).
#[test]
fn gw_3_the_longest_prefix_decides_for_acl_and_groups() {
    let acls = [
        acl("wide", &[], &["in allow inbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=1 dport-max=99"]),
        acl("narrow", &[], &["in allow inbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=50 dport-max=150"]),
    ];
    let files = account(&acls, &[group("g", &[], &["inbound tcp any"])]);
    let gateway_file = "
segments:
  - { name: wide, cidrs: [10.7.0.0/16], networkACL: wide, securityGroups: [g] }
  - { name: narrow, cidrs: [10.7.1.0/24, 10.7.3.0/24], networkACL: id-narrow }
  - { name: bare, cidrs: [10.7.1.128/25] }
";
    let mut gateway = Gateway::new(gateway_file, &[("account.json", &files)]);
    for (address, port, expected) in [
        ("10.7.0.255", 49, "pass g#0"),
        ("10.7.0.255", 100, "drop acl-implicit-deny"),
        ("10.7.1.0", 49, "drop acl-implicit-deny"),
        ("10.7.1.0", 100, "pass narrow#0"),
        ("10.7.1.127", 150, "pass narrow#0"),
        ("10.7.1.128", 151, "pass default-allow"),
        ("10.7.1.255", 151, "pass default-allow"),
        ("10.7.2.0", 49, "pass g#0"),
        ("10.8.0.0", 9999, "pass default-allow"),
    ] {
        gateway.check("GW-3", &format!("in tcp 1.1.1.1:9 > {address}:{port}"), expected);
    }
    // ACL-7 goes by prefix, not by segment: two prefixes of one segment are two subnets.
    gateway.check("ACL-7", "in tcp 10.7.3.1:9 > 10.7.3.2:7", "pass default-allow");
    gateway.check("ACL-7", "in tcp 10.7.1.1:9 > 10.7.3.2:7", "drop acl-implicit-deny");
    gateway.check("ACL-7", "in tcp 10.7.1.200:9 > 10.7.1.2:7", "drop acl-implicit-deny");
    gateway.check("ACL-7", "in udp 10.7.2.200:9 > 10.7.0.2:7", "drop sg-no-match");
}

#[test]
fn gw_3_a_segment_shadows_a_subnet_of_its_prefix_whole() {
    let acls = [acl("closed", &[], &[])];
    let files = account(&acls, &[]);
    let shadowing = "segments: [{ name: mine, cidrs: [10.240.1.0/24], networkACL: closed }, { name: near, cidrs: [10.240.0.0/24] }]";
    let mut gateway = Gateway::new(shadowing, &[("account.json", &files)]);
    gateway.check("GW-3 the segment's ACL", "in tcp 1.1.1.1:9 > 10.240.1.5:7", "drop acl-implicit-deny");
    // 10.240.0.0/28 is longer than the segment: the subnet decides.
    gateway.check("GW-3 the subnet's ACL", "in tcp 1.1.1.1:9 > 10.240.0.5:7", "pass allow-all-network-acl-v1#0");
    let mut bare = Gateway::new("segments: [{ name: mine, cidrs: [10.240.1.0/24] }]", &[("account.json", &files)]);
    bare.check("GW-3 whole: no ACL", "in tcp 1.1.1.1:9 > 10.240.1.5:7", "pass default-allow");
    let found = warnings(&[("account.json", &files)], &gateway.site);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("warning: account.json:") && found[0].contains("`zone-2`"), "{found:?}");
    assert!(found[0].ends_with("[segment-shadows-subnet]"), "{found:?}");
    assert_eq!(warnings(&[("account.json", &files)], &Site::default()), Vec::<String>::new());
}

/// GW-33: rules are for IPv4; IPv6 of whatever has an ACL or a group matches none.
#[test]
fn gw_33_ipv6_matches_no_rule() {
    let acls =
        [acl("any", &[], &["in allow inbound any 0.0.0.0/0 0.0.0.0/0", "out allow outbound any 0.0.0.0/0 0.0.0.0/0"])];
    let files = account(&acls, &[group("open", &[], &["inbound any any", "outbound any any", "inbound all open"])]);
    let gateway_file = "
segments:
  - { name: dual, cidrs: [10.7.0.0/24, '2001:db8:7::/64'], networkACL: any }
  - { name: grouped, cidrs: ['2001:db8:8::/64'], securityGroups: [open] }
securityGroupMembers: { open: ['2001:db8:9::1'] }
";
    let mut gateway = Gateway::new(gateway_file, &[("account.json", &files)]);
    for protocol in ["tcp", "udp", "icmpv6", "58", "112"] {
        let with = |side: &str, from: &str, to: &str| format!("{side} {protocol} {from} > {to}");
        gateway.check("GW-33 in", &with("in", "2001:db8:1::1", "2001:db8:7::1"), "drop acl-implicit-deny");
        gateway.check("GW-33 out", &with("out", "2001:db8:7::1", "2001:db8:1::1"), "drop acl-implicit-deny");
        gateway.check("GW-33 in", &with("in", "2001:db8:1::1", "2001:db8:8::1"), "drop sg-no-match");
        gateway.check("GW-33 out", &with("out", "2001:db8:8::1", "2001:db8:1::1"), "drop sg-no-match");
        gateway.check("GW-33 member", &with("in", "2001:db8:8::1", "2001:db8:9::1"), "drop sg-no-match");
        gateway.check("GW-33 elsewhere", &with("in", "2001:db8:1::1", "2001:db8:6::1"), "pass default-allow");
    }
    // GW-28: neighbour discovery passes unjudged.
    gateway.check("GW-28", "in icmpv6 2001:db8:1::1 > 2001:db8:7::1 type 135 ttl 255", "pass");
    gateway.check("GW-33 IPv4", "in 112 1.1.1.1 > 10.7.0.1", "pass any#0");
}

/// GW-34: scripts run after all documents, in path order; `subnet-update` beats the subnet's own word and every list.
#[test]
fn gw_34_subnet_update_wins() {
    let acls = [acl("listed", &["zone-2"], &[]), acl("asked", &[], &["in allow inbound tcp 0.0.0.0/0 0.0.0.0/0"])];
    let files = account(&acls, &[]);
    let of = |scripts: &[(&str, &str)]| {
        let mut all = scripts.to_vec();
        all.push(("z-account.json", &files));
        let policy = policy(&all);
        let acl = |name: &str| policy.subnets.iter().find(|s| s.name == name).map(|s| s.acl.clone()).unwrap();
        [acl("zone-1"), acl("zone-2")]
    };
    let default = "allow-all-network-acl-v1".to_string();
    let update = |subnet: &str, acl: &str| format!("ibmcloud is subnet-update {subnet} --network-acl-id {acl}");
    assert_eq!(of(&[]), [default.clone(), default.clone()], "GW-3: the subnet's own word beats an ACL's list");
    assert_eq!(of(&[("a.ibmcloud", &update("zone-2", "asked"))]), [default.clone(), "asked".into()], "by name");
    assert_eq!(of(&[("a.ibmcloud", &update("id-zone-2", "id-asked"))]), [default.clone(), "asked".into()], "by id");
    let (first, second) = (update("zone-2", "asked"), update("id-zone-2", "listed"));
    let twice = of(&[("b.ibmcloud", &second), ("a.ibmcloud", &first)]);
    assert_eq!(twice, [default.clone(), "listed".into()], "path order, not the order given");
    let twice = of(&[("b.ibmcloud", &first), ("a.ibmcloud", &second)]);
    assert_eq!(twice, [default.clone(), "asked".into()], "path order");
    // A subnet that is not loaded is kept in the ACL's list without effect.
    let elsewhere = policy(&[("account.json", &files), ("a.ibmcloud", &update("elsewhere", "asked"))]);
    assert_eq!(elsewhere.acls.iter().find(|a| a.name == "asked").unwrap().subnets, ["elsewhere"]);
    assert_eq!(elsewhere.subnets.len(), 2);
    let findings = read(&[("account.json", &files), ("a.ibmcloud", &update("zone-1", "askd"))]).expect_err("GW-34");
    assert!(findings[0].ends_with("[unknown-reference]"), "{findings:?}");
}

/// A subnet name that two VPCs have says nothing, unless the VPC is named too.
#[test]
fn gw_34_a_name_that_two_vpcs_have_is_refused() {
    let text = |id: &str, vpc: &str, cidr: &str| {
        format!(
            r#"{{"id": "{id}", "name": "zone", "vpc": {{"id": "id-{vpc}", "name": "{vpc}"}}, "ipv4_cidr_block": "{cidr}"}}"#
        )
    };
    let files = format!(
        r#"{{"subnets": [{}, {}], "network_acls": [{}]}}"#,
        text("s1", "one", "10.1.0.0/24"),
        text("s2", "two", "10.2.0.0/24"),
        acl("closed", &[], &[])
    );
    let run = |script: &str| read(&[("account.json", &files), ("a.ibmcloud", script)]);
    let findings = run("ibmcloud is subnet-update zone --network-acl-id closed").expect_err("two subnets `zone`");
    assert!(findings[0].ends_with("[ambiguous-reference]"), "{findings:?}");
    for (script, cidr) in [
        ("ibmcloud is subnet-update zone --vpc two --network-acl-id closed", "10.2.0.0/24"),
        ("ibmcloud is subnet-update zone --vpc id-two --network-acl-id closed", "10.2.0.0/24"),
        (
            "ibmcloud is network-acl-create new id-two\nibmcloud is subnet-update zone --vpc two --network-acl-id new",
            "10.2.0.0/24",
        ),
        ("ibmcloud is subnet-update s1 --network-acl-id closed", "10.1.0.0/24"),
    ] {
        let (policy, _) = run(script).unwrap_or_else(|findings| panic!("{script}: {findings:?}"));
        let attached: Vec<String> = policy.subnets.iter().map(|s| s.cidr.to_string()).collect();
        assert_eq!(attached, [cidr], "{script}");
    }
    // The new ACL is of the VPC that was named by id, so its name is taken there and nowhere else.
    let create =
        |vpc: &str| format!("ibmcloud is network-acl-create new id-two\nibmcloud is network-acl-create new {vpc}");
    assert!(run(&create("two")).expect_err("there is one")[0].ends_with("[duplicate-resource]"));
    let (policy, _) = run(&create("one")).unwrap_or_else(|findings| panic!("{findings:?}"));
    assert_eq!(policy.acls.iter().map(|acl| acl.name.as_str()).collect::<Vec<_>>(), ["closed", "one/new", "two/new"]);
}

/// Addresses and prefixes are unique inside a VPC only; where two loaded VPCs share some, the user is told what holds.
#[test]
fn gw_3_gw_13_two_vpcs_with_the_same_addresses_are_told() {
    let of = |vpc: &str, acl_rules: &[&str], cidr: &str, address: &str| {
        let in_vpc = |object: String| object.replacen('{', &format!(r#"{{"vpc": {{"name": "{vpc}"}}, "#), 1);
        let acl_name = format!("acl-{vpc}");
        format!(
            r#"{{"subnets": [{{"id": "s-{vpc}", "name": "zone-{vpc}", "vpc": {{"name": "{vpc}"}}, "ipv4_cidr_block": "{cidr}", "network_acl": {{"id": "id-{acl_name}", "name": "{acl_name}"}}}}],
                "network_acls": [{}], "security_groups": [{}],
                "instances": [{{"id": "i-{vpc}", "name": "i", "network_interfaces": [{{"id": "nic-{vpc}", "name": "eth0", "primary_ip": {{"address": "{address}"}}}}]}}]}}"#,
            in_vpc(acl(&acl_name, &[], acl_rules)),
            in_vpc(group(&format!("group-{vpc}"), &[&format!("nic-{vpc}")], &["inbound tcp any"]))
        )
    };
    let open = ["in allow inbound tcp 0.0.0.0/0 0.0.0.0/0"];
    let one = of("one", &open, "10.240.0.0/24", "10.240.0.4");
    let check = |two: &str, compiled: &[&str], loaded: &[&str]| {
        let files = [("one.json", &*one), ("two.json", two)];
        let codes = |findings: Vec<String>| -> Vec<String> {
            findings.iter().filter_map(|f| Some(f.rsplit_once('[')?.1.trim_end_matches(']').to_string())).collect()
        };
        assert_eq!(codes(warnings(&files, &Site::default())), compiled, "{two}");
        assert_eq!(codes(read(&files).expect("it loads").1), loaded, "{two}");
        // The first subnet by name has the prefix, and compiled engine and reference agree on it.
        let mut gateway = Gateway::new("", &files);
        gateway.check("GW-3", "in tcp 1.1.1.1:9 > 10.240.0.4:80", "pass sg-allow group-one#0");
    };
    check(&of("two", &[], "10.240.0.0/24", "10.240.0.4"), &["duplicate-subnet-prefix"], &["address-in-two-vpcs"]);
    check(&of("two", &[], "10.241.0.0/24", "10.240.0.4"), &[], &["address-in-two-vpcs"]);
    check(&of("two", &[], "10.240.0.0/24", "10.240.0.5"), &["duplicate-subnet-prefix"], &[]);
    check(&of("two", &[], "10.241.0.0/24", "10.241.0.4"), &[], &[]);
    let mut shadowed = Gateway::new(
        "segments: [{ name: mine, cidrs: [10.240.0.0/24], networkACL: acl-two }]",
        &[("one.json", &*one), ("two.json", &*of("two", &[], "10.240.0.0/24", "10.240.0.5"))],
    );
    shadowed.check("GW-3", "in tcp 1.1.1.1:9 > 10.240.0.4:80", "drop acl-implicit-deny");
}
