//! A seed in, a random policy and site out: tiers, policies, profiles, endpoints, services, segments.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use ringwall::base::address::Family;
use ringwall::base::site::{Cidr, DefaultVerdict, FailsafeMode, Segment, Site, V1Forward};
use ringwall::policy::ir::*;
use ringwall::policy::selector::Selector;

use super::vpc::vpc;
use super::{Dice, PORTS, address, icmp, net, span};

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
