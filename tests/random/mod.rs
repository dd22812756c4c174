//! A seed in, a random policy with a site out, and packets that hit its rules or miss them by one field.

pub mod traffic;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use ringwall::base::address::{Direction, Family, number};
use ringwall::base::diagnostic::Span;
use ringwall::base::site::{Cidr, DefaultVerdict, FailsafeMode, Segment, Site, V1Forward};
use ringwall::packet::{Key, KeyBits};
use ringwall::policy::ir::*;
use ringwall::policy::selector::Selector;

/// A small deterministic generator (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub fn some<T>(&mut self, percent: u64, make: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        if self.chance(percent) { Some(make(self)) } else { None }
    }

    fn list<T>(&mut self, most: usize, mut make: impl FnMut(&mut Dice) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }
}

fn span(line: u32) -> Span {
    Span { file: Arc::from("random.yaml"), line, column: 1 }
}

/// Few addresses, so that rules and packets meet.
pub fn address(dice: &mut Dice) -> IpAddr {
    if dice.chance(75) {
        IpAddr::V4(Ipv4Addr::new(10, 0, dice.below(3) as u8, dice.below(24) as u8))
    } else {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, dice.below(2) as u16, dice.below(16) as u16))
    }
}

fn net(dice: &mut Dice) -> IpNet {
    let address = address(dice);
    let length = match Family::of(address) {
        Family::V4 => *dice.pick(&[8, 16, 22, 23, 24, 27, 28, 30, 31, 32, 32]),
        Family::V6 => *dice.pick(&[8, 64, 112, 120, 124, 127, 128, 128]),
    };
    IpNet::new_assert(address, length).trunc()
}

fn v4_net(dice: &mut Dice) -> IpNet {
    if dice.chance(25) {
        return "0.0.0.0/0".parse().expect("a prefix");
    }
    loop {
        let net = net(dice);
        if matches!(net, IpNet::V4(_)) {
            return net;
        }
    }
}

const LABELS: [&str; 3] = ["a", "b", "role"];
const VALUES: [&str; 3] = ["x", "y", "z"];

fn labels(dice: &mut Dice, kind: &str) -> Labels {
    let mut labels = BTreeMap::from([("kind".to_string(), kind.to_string())]);
    for label in LABELS {
        if dice.chance(60) {
            labels.insert(label.to_string(), dice.pick(&VALUES).to_string());
        }
    }
    labels
}

fn selector(dice: &mut Dice) -> Selector {
    let term = |dice: &mut Dice| {
        let (label, value) = (*dice.pick(&LABELS), *dice.pick(&VALUES));
        match dice.below(7) {
            0 => format!("has({label})"),
            1 => format!("!has({label})"),
            2 => format!("{label} != '{value}'"),
            3 => format!("{label} in {{'x', '{value}'}}"),
            4 => "kind == 'pod'".to_string(),
            5 => "all()".to_string(),
            _ => format!("{label} == '{value}'"),
        }
    };
    let text = match dice.below(4) {
        0 => format!("{} && {}", term(dice), term(dice)),
        1 => format!("{} || {}", term(dice), term(dice)),
        _ => term(dice),
    };
    Selector::parse(&text).expect("a selector of the grammar")
}

pub const PORTS: [u16; 7] = [22, 53, 80, 443, 8080, 30_000, 32_767];
const NAMES: [&str; 3] = ["http", "dns", "nowhere"];

fn port(dice: &mut Dice) -> Port {
    if dice.chance(25) {
        return Port::Named(dice.pick(&NAMES).to_string());
    }
    let first = *dice.pick(&PORTS);
    let last = if dice.chance(60) { first } else { first.saturating_add(dice.below(3000) as u16) };
    Port::Range(first, last)
}

fn peer(dice: &mut Dice, with_ports: bool) -> Peer {
    let mut peer = Peer::default();
    if dice.chance(35) {
        peer.nets = dice.list(3, net);
    }
    if dice.chance(15) {
        peer.not_nets = dice.list(2, net);
    }
    peer.selector = dice.some(30, selector);
    peer.not_selector = dice.some(12, selector);
    if with_ports && dice.chance(50) {
        peer.ports = dice.list(3, port);
    }
    if with_ports && dice.chance(15) {
        peer.not_ports = dice.list(2, port);
    }
    peer
}

fn icmp(dice: &mut Dice) -> Icmp {
    Icmp { kind: *dice.pick(&[0, 3, 8, 128]), code: dice.some(40, |d| d.below(3) as u8) }
}

fn rule(dice: &mut Dice, index: u32) -> Rule {
    let action = *dice.pick(&[Action::Allow, Action::Allow, Action::Deny, Action::Deny, Action::Log, Action::Pass]);
    let protocol = dice.some(65, |d| *d.pick(&[1, 6, 6, 6, 17, 17, 58, 112, 132]));
    let has_ports = protocol.is_some_and(|p| matches!(p, 6 | 17 | 132));
    let is_icmp = protocol.is_some_and(|p| matches!(p, 1 | 58));
    let mut rule = Rule {
        action,
        family: dice.some(10, |d| *d.pick(&[Family::V4, Family::V6])),
        protocol,
        not_protocol: dice.some(8, |d| *d.pick(&[1, 6, 17, 112])),
        icmp: if is_icmp { dice.some(60, icmp) } else { None },
        not_icmp: if is_icmp || protocol.is_none() { dice.some(15, icmp) } else { None },
        source: peer(dice, has_ports && index.is_multiple_of(3)),
        destination: peer(dice, has_ports),
        index,
        span: span(index + 1),
    };
    if protocol.is_none() && dice.chance(10) {
        rule.destination.ports = vec![Port::Named(dice.pick(&NAMES).to_string())];
    }
    if dice.chance(4) {
        rule.destination = Peer { service: Some(("ns".to_string(), "s0".to_string())), ..Peer::default() };
    }
    rule
}

fn rules(dice: &mut Dice) -> Vec<Rule> {
    let count = dice.below(5);
    (0..count as u32).map(|i| rule(dice, i)).collect()
}

/// More rules than short lists have, most of which hold few packets.
fn long_rules(dice: &mut Dice) -> Vec<Rule> {
    let count = 260 + dice.below(60) as u32;
    let host = |dice: &mut Dice| {
        let v4 = IpAddr::V4(Ipv4Addr::new(10, 0, dice.below(3) as u8, dice.below(256) as u8));
        vec![IpNet::from(if dice.chance(75) { v4 } else { address(dice) })]
    };
    let narrow = |dice: &mut Dice, index: u32| {
        let mut rule = rule(dice, index);
        if dice.chance(90) {
            for peer in [&mut rule.source, &mut rule.destination] {
                *peer = Peer { nets: std::mem::take(&mut peer.nets), ..Peer::default() };
            }
        }
        if dice.chance(60) {
            rule.source.nets = host(dice);
        }
        if dice.chance(90) || rule.source.nets.is_empty() {
            rule.destination.nets = host(dice);
        }
        rule
    };
    (0..count).map(|index| narrow(dice, index)).collect()
}

fn named_ports(dice: &mut Dice) -> Vec<NamedPort> {
    dice.list(2, |d| NamedPort { name: d.pick(&NAMES).to_string(), protocol: *d.pick(&[6, 17]), port: *d.pick(&PORTS) })
}

fn ruleset(dice: &mut Dice, i: usize, tiers: &[Tier]) -> RuleSet {
    let hook = *dice.pick(&[
        Hook::Untracked,
        Hook::PreDnat,
        Hook::PreDnat,
        Hook::Normal,
        Hook::Normal,
        Hook::NormalAndForward,
    ]);
    let kind =
        if hook == Hook::Normal && dice.chance(40) { Kind::KubernetesNetworkPolicy } else { Kind::GlobalNetworkPolicy };
    let rules = if dice.chance(1) { long_rules } else { rules };
    let ingress = dice.some(75, rules);
    RuleSet {
        kind,
        name: format!("p{i}"),
        display: format!("p{i}"),
        namespace: None,
        tier: dice.pick(tiers).name.clone(),
        order: Some(i as f64),
        selector: selector(dice),
        selector_text: String::new(),
        hook,
        egress: if ingress.is_none() || dice.chance(40) && hook != Hook::PreDnat { Some(rules(dice)) } else { None },
        ingress,
        is_v1: hook == Hook::Normal && dice.chance(20),
        span: span(1),
    }
}

/// A random policy and site; sometimes with VPC layers.
pub fn policy(seed: u64) -> (Policy, Site) {
    let dice = &mut Dice::new(seed);
    let tier = |name: &str, default_action| Tier { name: name.to_string(), order: None, default_action };
    let pass_or_deny = |dice: &mut Dice| *dice.pick(&[TierDefault::Deny, TierDefault::Pass]);
    let mut tiers = vec![tier("first", pass_or_deny(dice)), tier("second", pass_or_deny(dice))];
    tiers.push(tier("default", TierDefault::Deny));
    let count = dice.below(9);
    let mut rulesets: Vec<RuleSet> = (0..count).map(|i| ruleset(dice, i, &tiers)).collect();
    let position = |name: &str| tiers.iter().position(|t| t.name == name);
    rulesets.sort_by_key(|r| position(&r.tier));

    let allow = Rule {
        action: Action::Allow,
        family: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: Peer::default(),
        destination: Peer::default(),
        index: 0,
        span: span(1),
    };
    let open = Profile { ingress: vec![allow.clone()], egress: vec![allow], span: None };
    let profiles = BTreeMap::from([
        ("kns.ns".to_string(), open),
        ("odd".to_string(), Profile { ingress: rules(dice), egress: rules(dice), span: Some(span(1)) }),
    ]);
    let profile_list = |dice: &mut Dice| match dice.below(3) {
        0 => vec!["kns.ns".to_string()],
        1 => vec!["odd".to_string(), "kns.ns".to_string()],
        _ => vec!["odd".to_string()],
    };
    let mut taken = Vec::new();
    let mut pods = Vec::new();
    for i in 0..dice.below(6) {
        let at = address(dice);
        if taken.contains(&at) {
            continue;
        }
        taken.push(at);
        pods.push(Pod {
            namespace: "ns".to_string(),
            name: format!("pod{i}"),
            addresses: vec![at],
            labels: labels(dice, "pod"),
            profiles: profile_list(dice),
            ports: named_ports(dice),
            span: span(1),
        });
    }
    let mut host_endpoints: Vec<HostEndpoint> = (0..dice.below(6))
        .map(|i| {
            let is_own = dice.chance(30);
            HostEndpoint {
                name: format!("hep{i}"),
                node: if is_own { "gw".to_string() } else { "worker".to_string() },
                interface: dice.pick(&["up0", "dn0", "*"]).to_string(),
                addresses: dice.list(2, address),
                labels: labels(dice, "host"),
                profiles: if dice.chance(30) { profile_list(dice) } else { Vec::new() },
                ports: named_ports(dice),
                span: span(1),
            }
        })
        .collect();
    host_endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    let network_sets = dice.list(3, |d| NetworkSet {
        display: "set".to_string(),
        nets: d.list(3, net),
        labels: labels(d, "set"),
        span: span(1),
    });
    let services = (0..dice.below(4))
        .map(|i| Service {
            namespace: "ns".to_string(),
            name: format!("s{i}"),
            ports: dice.list(2, |d| {
                let mut backends = d.list(3, |d| (address(d), *d.pick(&PORTS)));
                backends.sort_unstable();
                backends.dedup();
                ServicePort {
                    protocol: *d.pick(&[6, 17]),
                    port: *d.pick(&PORTS),
                    node_port: d.some(60, |d| *d.pick(&[30_000, 30_001, 32_767])),
                    backends,
                }
            }),
            cluster_addresses: dice.list(1, address),
            balancer_addresses: dice.list(1, address),
            source_ranges: if dice.chance(25) { dice.list(2, net) } else { Vec::new() },
            span: span(1),
        })
        .collect();
    let mut policy = Policy {
        tiers,
        rulesets,
        profiles,
        host_endpoints,
        pods,
        network_sets,
        node_addresses: dice.list(2, address),
        services,
        ..Policy::default()
    };
    let mut site = Site {
        node: Some("gw".to_string()),
        uplink: Some("up0".to_string()),
        downlink: Some("dn0".to_string()),
        failsafe: *dice.pick(&[FailsafeMode::Calico, FailsafeMode::Own, FailsafeMode::None, FailsafeMode::None]),
        default: *dice.pick(&[DefaultVerdict::Allow, DefaultVerdict::Deny]),
        v1_forward: *dice.pick(&[V1Forward::V3, V1Forward::Legacy]),
        ..Site::default()
    };
    if dice.chance(40) {
        vpc(dice, &mut policy);
    }
    segments(dice, &policy, &mut site);
    (policy, site)
}

fn vpc(dice: &mut Dice, policy: &mut Policy) {
    let protocols = |dice: &mut Dice| match dice.below(4) {
        0 => Protocols::Any,
        1 => Protocols::Of(vec![1, 6, 17]),
        2 => Protocols::Of(vec![1]),
        _ => Protocols::Of(vec![*dice.pick(&[6, 17])]),
    };
    let range = |dice: &mut Dice| {
        let first = *dice.pick(&PORTS);
        (first, first.saturating_add(dice.below(2000) as u16))
    };
    let directions = [Direction::Inbound, Direction::Outbound];
    for a in 0..1 + dice.below(2) {
        let mut counts = [0; 2];
        let rules = dice.list(6, |d| {
            let protocols = protocols(d);
            let is_ported = matches!(&protocols, Protocols::Of(p) if p.len() == 1 && p[0] != 1);
            let is_icmp = protocols == Protocols::Of(vec![1]);
            let direction = *d.pick(&directions);
            let index = counts[direction as usize];
            counts[direction as usize] += 1;
            AclRule {
                id: String::new(),
                name: String::new(),
                allow: d.chance(70),
                direction,
                protocols,
                source: v4_net(d),
                destination: v4_net(d),
                source_ports: if is_ported { d.some(20, range) } else { None },
                destination_ports: if is_ported { d.some(60, range) } else { None },
                icmp: if is_icmp { d.some(60, icmp) } else { None },
                index,
                span: span(index + 1),
            }
        });
        policy.acls.push(NetworkAcl {
            id: format!("acl-{a}"),
            name: format!("acl{a}"),
            subnets: Vec::new(),
            rules,
            span: span(1),
        });
    }
    for g in 0..dice.below(3) {
        let mut counts = [0; 2];
        let rules = dice.list(5, |d| {
            let protocols = protocols(d);
            let is_ported = matches!(&protocols, Protocols::Of(p) if p.len() == 1 && p[0] != 1);
            let is_icmp = protocols == Protocols::Of(vec![1]);
            let direction = *d.pick(&directions);
            let index = counts[direction as usize];
            counts[direction as usize] += 1;
            let remote = match d.below(3) {
                0 => Remote::Any,
                1 => Remote::Net(v4_net(d)),
                _ => Remote::Group("sg0".to_string()),
            };
            GroupRule {
                direction,
                protocols,
                remote,
                local: d.some(20, v4_net),
                ports: if is_ported { d.some(60, range) } else { None },
                icmp: if is_icmp { d.some(50, icmp) } else { None },
                index,
                span: span(index + 1),
            }
        });
        let members = dice.list(3, address);
        policy.groups.push(SecurityGroup {
            id: format!("sg-{g}"),
            name: format!("sg{g}"),
            rules,
            members,
            span: span(1),
        });
    }
    if dice.chance(40) {
        policy.subnets.push(Subnet {
            id: "subnet-0".to_string(),
            name: "subnet0".to_string(),
            cidr: v4_net(dice),
            acl: "acl0".to_string(),
            span: span(1),
        });
    }
}

fn segments(dice: &mut Dice, policy: &Policy, site: &mut Site) {
    let mut cidrs: Vec<Cidr> = Vec::new();
    for i in 0..dice.below(3) {
        let net = net(dice);
        let cidr = Cidr { network: net.network(), length: net.prefix_len() };
        if cidrs.contains(&cidr) {
            continue;
        }
        cidrs.push(cidr);
        let stand_ins: Vec<&HostEndpoint> = policy.host_endpoints.iter().filter(|e| e.node != "gw").collect();
        site.segments.push(Segment {
            name: format!("segment{i}"),
            cidrs: vec![cidr],
            host_endpoint: if stand_ins.is_empty() { None } else { dice.some(60, |d| d.pick(&stand_ins).name.clone()) },
            network_acl: if policy.acls.is_empty() {
                None
            } else {
                dice.some(60, |d| d.pick(&policy.acls).name.clone())
            },
            security_groups: policy.groups.iter().filter(|_| dice.chance(30)).map(|g| g.name.clone()).collect(),
            span: None,
        });
    }
}

/// A random packet: from the small universe, or steered towards one rule and then off it by one field.
pub fn packet(dice: &mut Dice, policy: &Policy) -> Key {
    let src = address(dice);
    let dst = loop {
        let dst = address(dice);
        if Family::of(dst) == Family::of(src) {
            break dst;
        }
    };
    let v6 = Family::of(src) == Family::V6;
    let mut key = Key { src: number(src), dst: number(dst), ..Key::EMPTY };
    key.bits.0 |= if v6 { KeyBits::V6 } else { 0 } | if dice.chance(50) { KeyBits::OUTBOUND } else { 0 };
    let known =
        policy.host_endpoints.iter().flat_map(|e| &e.addresses).chain(policy.pods.iter().flat_map(|p| &p.addresses));
    let known: Vec<&IpAddr> = known.filter(|a| Family::of(**a) == key.family()).collect();
    if !known.is_empty() && dice.chance(60) {
        let local = number(**dice.pick(&known));
        if key.has(KeyBits::OUTBOUND) { key.src = local } else { key.dst = local }
    }
    key.protocol = *dice.pick(&[6, 6, 6, 17, 17, 132, 112, 0, if v6 { 58 } else { 1 }, if v6 { 1 } else { 58 }]);
    let has_l4 = !dice.chance(6);
    let any_port = |dice: &mut Dice| match dice.below(4) {
        0 => dice.pick(&PORTS).wrapping_sub(1),
        1 => dice.pick(&PORTS).wrapping_add(1),
        _ => *dice.pick(&PORTS),
    };
    match key.protocol {
        6 | 17 | 132 if has_l4 => {
            key.bits.0 |= KeyBits::L4;
            (key.sport, key.dport) = (any_port(dice), any_port(dice));
        }
        1 | 58 if has_l4 => {
            key.bits.0 |= KeyBits::L4;
            key.dport = u16::from(*dice.pick(&[0u8, 3, 8, 9, 128])) << 8 | dice.below(3) as u16;
        }
        _ => {}
    }
    if !policy.services.is_empty() && dice.chance(15) {
        towards_service(dice, policy, &mut key);
    }
    key
}

/// What a steered packet is to the rule that it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Every field of the rule that can be met is met.
    Hit,
    /// One field is just outside.
    NearMiss,
}

/// Moves a packet off its rule in one field; the prefixes are those that it was aimed at.
type Miss = fn(&mut Key, &Rule, Option<IpNet>, Option<IpNet>);

/// A packet for one rule's own fields, and then, half of the time, off it by one field: an address one step outside a
/// prefix, a port one step outside a range, another protocol, another ICMP type. `None` where the rule names no field.
pub fn near_rule(dice: &mut Dice, policy: &Policy) -> Option<(Key, Aim)> {
    let lists = policy.rulesets.iter().flat_map(|r| [&r.ingress, &r.egress]).flatten();
    let rules: Vec<&Rule> = lists.flatten().collect();
    if rules.is_empty() {
        return None;
    }
    let rule = *dice.pick(&rules);
    let mut key = packet(dice, policy);
    let v6 = key.has(KeyBits::V6);
    let inside = |dice: &mut Dice, nets: &[IpNet]| {
        let same: Vec<&IpNet> = nets.iter().filter(|n| matches!(n, IpNet::V6(_)) == v6).collect();
        if same.is_empty() { None } else { Some(**dice.pick(&same)) }
    };
    let (source, destination) = (inside(dice, &rule.source.nets), inside(dice, &rule.destination.nets));
    let mut fields: Vec<Miss> = Vec::new();
    if let Some(net) = source {
        key.src = number(if dice.chance(50) { net.network() } else { net.broadcast() });
        fields.push(|key, _, source, _| key.src = source.map_or(key.src, beyond));
    }
    if let Some(net) = destination {
        key.dst = number(if dice.chance(50) { net.network() } else { net.broadcast() });
        fields.push(|key, _, _, destination| key.dst = destination.map_or(key.dst, beyond));
    }
    if let Some(protocol) = rule.protocol {
        key.protocol = protocol;
        key.bits.0 |= KeyBits::L4;
        fields.push(|key, rule, _, _| key.protocol = rule.protocol.map_or(0, |p| p ^ 1));
    }
    if let Some(Port::Range(first, last)) = rule.destination.ports.first() {
        key.dport = if dice.chance(50) { *first } else { *last };
        fields.push(|key, rule, _, _| {
            if let Some(Port::Range(_, last)) = rule.destination.ports.first() {
                key.dport = last.wrapping_add(1);
            }
        });
    }
    if let Some(icmp) = rule.icmp {
        key.dport = u16::from(icmp.kind) << 8 | u16::from(icmp.code.unwrap_or(1));
        fields.push(|key, _, _, _| key.dport ^= 0x0100);
    }
    if fields.is_empty() {
        return None;
    }
    if dice.chance(50) {
        return Some((key, Aim::Hit));
    }
    let miss = *dice.pick(&fields);
    miss(&mut key, rule, source, destination);
    Some((key, Aim::NearMiss))
}

/// The first address behind a prefix.
fn beyond(net: IpNet) -> u128 {
    number(net.broadcast()).wrapping_add(1) & Family::of(net.network()).max()
}

/// Steers a packet to a key of some service, mostly.
fn towards_service(dice: &mut Dice, policy: &Policy, key: &mut Key) {
    let service = dice.pick(&policy.services);
    let Some(port) = service.ports.first() else { return };
    let (listed, number_of) = match dice.below(3) {
        0 => (&service.cluster_addresses, Some(port.port)),
        1 => (&service.balancer_addresses, Some(port.port)),
        _ => (&policy.node_addresses, port.node_port),
    };
    let same: Vec<&IpAddr> = listed.iter().filter(|a| Family::of(**a) == key.family()).collect();
    let Some(number_of) = number_of.filter(|_| !same.is_empty()) else { return };
    key.dst = number(**dice.pick(&same));
    key.dport = number_of;
    key.protocol = port.protocol;
    key.bits.0 |= KeyBits::L4;
    key.bits.0 &= !KeyBits::OUTBOUND;
}
