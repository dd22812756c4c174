//! Whole accounts (the np-guard inputs of the corpus): each loads or is refused for a known reason, and between pairs of addresses the
//! first packet and its reply are judged on both ports: compiled engine, linear reference and an oracle that reads only the JSON agree.
//!
//! The analysis results that were published beside these inputs are not part of the corpus; the oracle stands in for them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ringwall::policy::ir::{Protocols, Remote};

use crate::gateway::{Gateway, Outcome, files, read, read_sources, shared};
use crate::oracle::{Account, Content, Packet};

/// Accounts that must not load, with what is said about them.
const REFUSED: [(&str, &str); 1] = [
    // SG-9: a rule for ports 0 to 22.
    ("input_sg_testing1_diff_ports_2nd.json", "[out-of-range]"),
];

/// Most pairs of one account.
const PAIRS: usize = 300;

/// What became of the packets of one account or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    allowed: u32,
    by_acl: u32,
    by_group: u32,
    replies: u32,
    /// Replies of flows that exist which a stateless ACL denies.
    forgotten: u32,
    /// Pairs that both ends' layers allow in one protocol at least, request and reply.
    connected: u32,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.allowed += other.allowed;
        self.by_acl += other.by_acl;
        self.by_group += other.by_group;
        self.replies += other.replies;
        self.forgotten += other.forgotten;
        self.connected += other.connected;
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

fn neighbours(low: u64, high: u64) -> [u16; 4] {
    [low.saturating_sub(1), low, high, high + 1].map(|port| port.clamp(1, 65535) as u16)
}

/// Ports at the edges of every range that a rule names, and some others.
fn ports(account: &Account) -> Vec<u16> {
    let mut found = BTreeSet::from([1, 80, 40000, 65535]);
    for rule in account.rules() {
        for [low, high] in [
            ["port_min", "port_max"],
            ["source_port_min", "source_port_max"],
            ["destination_port_min", "destination_port_max"],
        ] {
            if let (Some(low), Some(high)) = (rule[low].as_u64(), rule[high].as_u64()) {
                found.extend(neighbours(low, high));
            }
        }
    }
    found.into_iter().collect()
}

/// Types and codes that rules name, but no echo reply; and echo requests.
fn messages(account: &Account) -> Vec<(u8, u8)> {
    let mut found = BTreeSet::from([(8, 0), (8, 1), (13, 0)]);
    for rule in account.rules() {
        if let Some(kind) = rule["type"].as_u64().filter(|kind| *kind != 0) {
            found.insert((kind as u8, rule["code"].as_u64().unwrap_or(0) as u8));
            found.insert((kind as u8, rule["code"].as_u64().map_or(7, |code| code + 1) as u8));
        }
    }
    found.into_iter().collect()
}

/// Pairs to ask about: all pairs of interfaces, then others with the ends of subnets and of the prefixes that rules name, and with
/// the outside.
fn pairs(account: &Account, dice: &mut Dice) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let interfaces: BTreeSet<Ipv4Addr> = account.interfaces().into_iter().map(|(address, _)| address).collect();
    let mut others = BTreeSet::from([Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(161, 26, 0, 10)]);
    others.extend(account.subnets().iter().flat_map(|net| [net.network(), net.broadcast()]));
    for rule in account.rules() {
        for value in [&rule["source"], &rule["destination"], &rule["remote"]["cidr_block"], &rule["remote"]["address"]]
        {
            if let Some(net) = value.as_str().and_then(|text| text.parse::<ipnet::Ipv4Net>().ok())
                && net.prefix_len() > 0
            {
                others.extend([net.network(), net.broadcast()]);
                others.insert(Ipv4Addr::from(u32::from(net.broadcast()).wrapping_add(1)));
            }
            others.extend(value.as_str().and_then(|text| text.parse::<Ipv4Addr>().ok()));
        }
    }
    let every: Vec<Ipv4Addr> = interfaces.union(&others).copied().collect();
    let all = |list: &[Ipv4Addr]| -> Vec<(Ipv4Addr, Ipv4Addr)> {
        list.iter().flat_map(|a| list.iter().filter(move |b| a != *b).map(move |b| (*a, *b))).collect()
    };
    let mut found = all(&interfaces.iter().copied().collect::<Vec<_>>());
    let mut rest: Vec<_> = all(&every).into_iter().filter(|pair| !found.contains(pair)).collect();
    while found.len() < PAIRS && !rest.is_empty() {
        let at = dice.below(rest.len());
        found.push(rest.swap_remove(at));
    }
    found
}

fn line(is_inbound: bool, packet: &Packet, is_reply: bool) -> String {
    let side = if is_inbound { "in" } else { "out" };
    let (src, dst) = (packet.src, packet.dst);
    match packet.content {
        Content::Tcp { sport, dport } => {
            format!("{side} tcp {src}:{sport} > {dst}:{dport} [{}]", if is_reply { "SA" } else { "S" })
        }
        Content::Udp { sport, dport } => format!("{side} udp {src}:{sport} > {dst}:{dport}"),
        Content::Icmp { kind, code } => format!("{side} icmp {src} > {dst} type {kind} code {code} id 5"),
    }
}

/// The answer, if the protocol has one.
fn answer(packet: &Packet) -> Option<Packet> {
    let content = match packet.content {
        Content::Tcp { sport, dport } => Content::Tcp { sport: dport, dport: sport },
        Content::Udp { sport, dport } => Content::Udp { sport: dport, dport: sport },
        Content::Icmp { kind: 8, .. } => Content::Icmp { kind: 0, code: 0 },
        Content::Icmp { .. } => return None,
    };
    Some(Packet { src: packet.dst, dst: packet.src, content })
}

fn assert_as_expected(is_expected: bool, outcome: &Outcome, line: &str) {
    assert_eq!(outcome.is_allowed, is_expected, "the oracle thinks otherwise of {line}: {}", outcome.line);
}

/// The first packet on one port and its reply on the other. Whether both passed.
fn check(gateway: &mut Gateway, account: &Account, is_inbound: bool, packet: &Packet, tally: &mut Tally) -> bool {
    let text = line(is_inbound, packet, false);
    let (acl, groups) = (account.acl_allows(is_inbound, packet), account.groups_allow(is_inbound, packet));
    let first = gateway.alone(&text);
    assert_as_expected(acl && groups, &first, &text);
    match first.stage {
        "acl" if !first.is_allowed => tally.by_acl += 1,
        "sg" if !first.is_allowed => tally.by_group += 1,
        _ => tally.allowed += 1,
    }
    let Some(reply) = answer(packet) else { return first.is_allowed };
    let text = line(!is_inbound, &reply, true);
    let acl = account.acl_allows(!is_inbound, &reply);
    // Without a flow, a reply in UDP is a packet like any other; one in TCP or ICMP is invalid wherever groups look at state.
    let local = if is_inbound { reply.src } else { reply.dst };
    let groups = match packet.content {
        _ if first.is_allowed => true,
        Content::Udp { .. } => account.groups_allow(!is_inbound, &reply),
        _ => !account.is_guarded(local),
    };
    let second = gateway.packet(&text);
    assert_as_expected(acl && groups, &second, &text);
    if first.is_allowed {
        tally.replies += u32::from(second.is_allowed);
        if !second.is_allowed {
            assert_eq!(second.stage, "acl", "{text}: {}", second.line);
            tally.forgotten += 1;
        }
    }
    first.is_allowed && second.is_allowed
}

fn exercise(gateway: &mut Gateway, account: &Account) -> Tally {
    let mut dice = Dice(7);
    let mut tally = Tally::default();
    let (ports, messages) = (ports(account), messages(account));
    for (src, dst) in pairs(account, &mut dice) {
        let (low, high) = (dice.of(&ports), dice.of(&ports));
        let (kind, code) = dice.of(&messages);
        let contents = [
            Content::Tcp { sport: 40000, dport: low },
            Content::Tcp { sport: low, dport: high },
            Content::Udp { sport: 40000, dport: high },
            Content::Udp { sport: low, dport: high },
            Content::Icmp { kind: 8, code: 0 },
            Content::Icmp { kind, code },
        ];
        let mut is_connected = false;
        for content in contents {
            let packet = Packet { src, dst, content };
            let leaves = check(gateway, account, false, &packet, &mut tally);
            let arrives = check(gateway, account, true, &packet, &mut tally);
            is_connected |= leaves && arrives;
        }
        tally.connected += u32::from(is_connected);
    }
    tally
}

#[test]
fn accounts_are_judged_as_their_json_says() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("corpus/vpc/np-guard/input");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("the corpus has accounts")
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("a name in UTF-8"))
        .collect();
    names.sort();
    let (mut loaded, mut all) = (0, Tally::default());
    for name in &names {
        let result = read_sources(&files(&folder, &[name]));
        if let Some((_, code)) = REFUSED.iter().find(|(refused, _)| refused == name) {
            let findings = result.expect_err(name);
            assert!(findings.iter().any(|f| f.starts_with("error: ") && f.ends_with(code)), "{name}: {findings:#?}");
            continue;
        }
        let (policy, _) = result.unwrap_or_else(|findings| panic!("{name}: {findings:#?}"));
        let account = Account::new(&std::fs::read_to_string(folder.join(name)).expect(name));
        let mut gateway = Gateway::with_policy("", policy);
        let tally = exercise(&mut gateway, &account);
        println!("{name}: {tally:?}");
        assert!(tally.allowed > 0 && tally.by_acl + tally.by_group > 0, "{name}: {tally:?}");
        loaded += 1;
        all.add(tally);
    }
    println!("all: {all:?}");
    assert_eq!(loaded + REFUSED.len(), names.len());
    assert!(loaded >= 17, "{loaded}");
    let rare = [all.allowed, all.by_acl, all.by_group, all.replies, all.forgotten, all.connected];
    assert!(rare.iter().all(|count| *count >= 100), "too few of one kind: {all:?}");
}

/// Rule objects in the words of the API's own client: each is one rule of an ACL or a group, field by field.
#[test]
fn rule_objects_keep_every_field() {
    let Some(shared) = shared() else { return };
    let path = shared.join("corpus/vpc/vpc-go-sdk-rule-fragments.json");
    let text = std::fs::read_to_string(path).expect("the corpus has rule objects");
    let fragments: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a list");
    assert_eq!(fragments.len(), 10);
    for fragment in &fragments {
        let rule = &fragment["value"];
        let is_acl = !rule["action"].is_null();
        let owner = if is_acl { r#""subnets": []"# } else { r#""targets": []"# };
        let file = format!(r#"{{"id": "o", "name": "owner", {owner}, "rules": [{rule}]}}"#);
        let result = read(&[("rule.json", &file)]);
        if !rule["before"].is_null() {
            // JSON-1: the rule that it names as the next one is not there.
            let findings = result.expect_err("a broken chain");
            assert!(findings[0].ends_with("[broken-chain]") && findings[0].contains("before-rule-id"), "{findings:?}");
            continue;
        }
        let (policy, _) = result.unwrap_or_else(|findings| panic!("{rule}: {findings:?}"));
        let number = |key: &str| rule[key].as_u64().map(|n| n as u16);
        let protocols = Protocols::Of(match rule["protocol"].as_str() {
            Some("all") => vec![1, 6, 17],
            Some("tcp") => vec![6],
            Some("udp") => vec![17],
            Some("icmp") => vec![1],
            other => panic!("{other:?}"),
        });
        if is_acl {
            let found = &policy.acls[0].rules[0];
            assert_eq!((&found.protocols, found.icmp.is_some()), (&protocols, !rule["type"].is_null()), "{rule}");
            assert_eq!(found.source.to_string(), rule["source"].as_str().expect("a prefix"), "{rule}");
            assert_eq!(found.destination.to_string(), rule["destination"].as_str().expect("a prefix"), "{rule}");
            let ports = number("destination_port_min").zip(number("destination_port_max"));
            assert_eq!((found.destination_ports, found.source_ports), (ports, None), "{rule}");
            assert!(found.allow && rule["action"] == "allow", "{rule}");
        } else {
            let found = &policy.groups[0].rules[0];
            assert_eq!(
                (&found.protocols, found.ports),
                (&protocols, number("port_min").zip(number("port_max"))),
                "{rule}"
            );
            assert_eq!(found.remote, Remote::Net("0.0.0.0/0".parse().expect("a prefix")), "{rule}");
        }
    }
}
