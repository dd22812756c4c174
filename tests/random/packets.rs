//! A random policy in, keys of packets out: anywhere, at a rule, or beside a rule by one field.

use std::net::IpAddr;

use ipnet::IpNet;
use ringwall::base::address::{Family, number};
use ringwall::packet::{Key, KeyBits};
use ringwall::policy::ir::*;

use super::{Dice, PORTS, address};

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
