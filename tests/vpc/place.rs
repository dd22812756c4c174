//! The VPC that the tests of this binary speak of, as JSON in short lines, and the comparison of rules whatever they were written in.

use ringwall::policy::ir::{NetworkAcl, Policy, SecurityGroup};

use crate::gateway::read;

/// The worker: in the zone's subnet 10.240.0.0/28 (F9), the only member of the groups of [`account`].
pub const WORKER: &str = "10.240.0.5";

/// A rule of an ACL: `name action direction protocol source destination`, then `key=number` for its ports, type and code.
pub fn acl_rule(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, action, direction, protocol, source, destination, more @ ..] = words.as_slice() else {
        panic!("{line}: six words at least");
    };
    format!(
        r#"{{"id": "id-{name}", "href": "h", "name": "{name}", "created_at": "2020-01-01T00:00:00Z", "action": "{action}",
            "direction": "{direction}", "ip_version": "ipv4", "protocol": "{protocol}", "source": "{source}", "destination": "{destination}"{}}}"#,
        numbers(more)
    )
}

/// A rule of a group: `direction protocol remote`, the remote an address, a prefix, `any` or a group's name, then as [`acl_rule`].
pub fn group_rule(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [direction, protocol, remote, more @ ..] = words.as_slice() else { panic!("{line}: three words at least") };
    let remote = match *remote {
        "any" => r#"{"cidr_block": "0.0.0.0/0"}"#.to_string(),
        net if net.contains('/') => format!(r#"{{"cidr_block": "{net}"}}"#),
        address if address.starts_with(|c: char| c.is_ascii_digit()) => format!(r#"{{"address": "{address}"}}"#),
        name => format!(r#"{{"crn": "c", "href": "h", "id": "id-{name}", "name": "{name}"}}"#),
    };
    let id = line.replace(' ', "-");
    format!(
        r#"{{"id": "{id}", "href": "h", "direction": "{direction}", "ip_version": "ipv4", "protocol": "{protocol}", "remote": {remote}{}}}"#,
        numbers(more)
    )
}

fn numbers(words: &[&str]) -> String {
    let pair = |word: &&str| {
        let (key, number) = word.split_once('=').unwrap_or_else(|| panic!("{word}: `key=number`"));
        let key = match key {
            "sport-min" => "source_port_min",
            "sport-max" => "source_port_max",
            "dport-min" => "destination_port_min",
            "dport-max" => "destination_port_max",
            "port-min" => "port_min",
            "port-max" => "port_max",
            key => key,
        };
        format!(r#", "{key}": {number}"#)
    };
    words.iter().map(pair).collect()
}

/// An ACL; every rule names the next one, whichever its direction, as the API writes them (JSON-1).
pub fn acl(name: &str, subnets: &[&str], rules: &[&str]) -> String {
    let mut written: Vec<String> = rules.iter().map(|line| acl_rule(line)).collect();
    for (rule, next) in written.iter_mut().zip(rules.iter().skip(1)) {
        let next = next.split_whitespace().next().unwrap_or_default();
        let link = format!(r#", "before": {{"id": "id-{next}", "name": "{next}", "href": "h"}}}}"#);
        rule.pop();
        rule.push_str(&link);
    }
    let subnets: Vec<String> = subnets.iter().map(|s| format!(r#"{{"id": "id-{s}", "name": "{s}"}}"#)).collect();
    format!(
        r#"{{"id": "id-{name}", "crn": "c", "name": "{name}", "subnets": [{}], "rules": [{}]}}"#,
        subnets.join(", "),
        written.join(", ")
    )
}

/// A group attached to the interfaces with these ids.
pub fn group(name: &str, targets: &[&str], rules: &[&str]) -> String {
    let rules: Vec<String> = rules.iter().map(|line| group_rule(line)).collect();
    let targets: Vec<String> = targets.iter().map(|t| format!(r#"{{"id": "{t}", "name": "t-{t}"}}"#)).collect();
    format!(
        r#"{{"id": "id-{name}", "crn": "c", "name": "{name}", "targets": [{}], "rules": [{}]}}"#,
        targets.join(", "),
        rules.join(", ")
    )
}

/// What a VPC has when nobody touched it: two subnets with the default ACL that allows all (A45, F9), and one worker.
pub fn account(acls: &[String], groups: &[String]) -> String {
    let default = acl(
        "allow-all-network-acl-v1",
        &[],
        &[
            "allow-all-inbound-rule-v1 allow inbound all 0.0.0.0/0 0.0.0.0/0",
            "allow-all-outbound-rule-v1 allow outbound all 0.0.0.0/0 0.0.0.0/0",
        ],
    );
    let acls: Vec<String> = std::iter::once(default).chain(acls.iter().cloned()).collect();
    format!(
        r#"{{"vpcs": [{{"id": "v1", "name": "vpc"}}],
        "subnets": [
          {{"id": "id-zone-1", "name": "zone-1", "ipv4_cidr_block": "10.240.0.0/28", "network_acl": {{"id": "id-allow-all-network-acl-v1", "name": "allow-all-network-acl-v1"}}}},
          {{"id": "id-zone-2", "name": "zone-2", "ipv4_cidr_block": "10.240.1.0/24", "network_acl": {{"id": "id-allow-all-network-acl-v1", "name": "allow-all-network-acl-v1"}}}}],
        "network_acls": [{}], "security_groups": [{}],
        "instances": [{{"id": "i1", "name": "worker", "network_interfaces": [{{"id": "nic-1", "name": "eth0", "primary_ip": {{"address": "{WORKER}"}}}}]}}]}}"#,
        acls.join(", "),
        groups.join(", ")
    )
}

/// The worker and these groups, no ACL anywhere.
pub fn grouped(groups: &[String]) -> String {
    let text = account(&[], groups);
    let default = r#", "network_acl": {"id": "id-allow-all-network-acl-v1", "name": "allow-all-network-acl-v1"}"#;
    assert_eq!(text.matches(default).count(), 2, "both subnets lose their ACL");
    text.replace(default, "")
}

/// The policy of these files; they must load.
pub fn policy(files: &[(&str, &str)]) -> Policy {
    read(files).unwrap_or_else(|findings| panic!("{findings:#?}")).0
}

/// The ACL with this name.
pub fn acl_of<'p>(policy: &'p Policy, name: &str) -> &'p NetworkAcl {
    policy.acls.iter().find(|acl| acl.name == name).unwrap_or_else(|| panic!("no ACL `{name}`"))
}

/// The group with this name.
pub fn group_of<'p>(policy: &'p Policy, name: &str) -> &'p SecurityGroup {
    policy.groups.iter().find(|group| group.name == name).unwrap_or_else(|| panic!("no group `{name}`"))
}

/// Two ACLs have the same rules in the same order; only ids and places may differ.
pub fn assert_same_acl(row: &str, left: &NetworkAcl, right: &NetworkAcl) {
    assert_eq!(left.rules.len(), right.rules.len(), "{row}: {left:#?} {right:#?}");
    for (a, b) in left.rules.iter().zip(&right.rules) {
        assert_eq!((&a.name, a.index), (&b.name, b.index), "{row}");
        assert_eq!((a.allow, a.direction, &a.protocols), (b.allow, b.direction, &b.protocols), "{row}: {}", a.name);
        assert_eq!((a.source, a.destination), (b.source, b.destination), "{row}: {}", a.name);
        assert_eq!(a.source_ports, b.source_ports, "{row}: {}", a.name);
        assert_eq!(a.destination_ports, b.destination_ports, "{row}: {}", a.name);
        assert_eq!(a.icmp, b.icmp, "{row}: {}", a.name);
    }
}

/// Two groups have the same rules in the same order; only ids and places may differ. A remote net of `0.0.0.0/0` is any address (SG-6).
pub fn assert_same_group(row: &str, left: &SecurityGroup, right: &SecurityGroup) {
    use ringwall::policy::ir::Remote;
    assert_eq!(left.rules.len(), right.rules.len(), "{row}: {left:#?} {right:#?}");
    let remote = |remote: &Remote| match remote {
        Remote::Net(net) if net.prefix_len() == 0 => Remote::Any,
        other => other.clone(),
    };
    for (a, b) in left.rules.iter().zip(&right.rules) {
        assert_eq!((a.direction, a.index, &a.protocols), (b.direction, b.index, &b.protocols), "{row}");
        assert_eq!((remote(&a.remote), a.local), (remote(&b.remote), b.local), "{row}");
        assert_eq!((a.ports, a.icmp), (b.ports, b.icmp), "{row}");
    }
    assert_eq!(left.members, right.members, "{row}");
}
