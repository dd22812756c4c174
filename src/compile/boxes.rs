//! One rule in, the boxes it covers out: each a product of a source set, a destination set, ports and protocols.
//!
//! Most rules are one box. A named port makes one box per (protocol, port) that endpoints declare; a negated one, and a negated
//! ICMP type without a protocol, split what is left over.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::population::{Declared, Population, both};
use super::ranges::{AddressSet, Ranges};
use crate::base::address::Family;
use crate::policy::ir::{Icmp, Peer, Policy, Port, Protocols, Rule};

const TRANSPORTS: [u8; 3] = [6, 17, 132];

/// A criterion on ports, or on ICMP type and code (`type << 8 | code`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortSet {
    /// None: packets without a transport header match too.
    Any,
    /// Inside these ranges; packets without a transport header do not match (RM-4).
    In(Ranges),
}

impl PortSet {
    fn limit(&self, ranges: &Ranges) -> PortSet {
        match self {
            PortSet::Any => PortSet::In(ranges.clone()),
            PortSet::In(mine) => PortSet::In(mine.intersect(ranges)),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, PortSet::In(ranges) if ranges.is_empty())
    }
}

/// Protocol numbers by family: 256 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolSet([[u64; 4]; 2]);

impl ProtocolSet {
    /// Every protocol of both families.
    pub const ALL: ProtocolSet = ProtocolSet([[u64::MAX; 4]; 2]);
    /// None.
    pub const NONE: ProtocolSet = ProtocolSet([[0; 4]; 2]);

    /// These protocols, in these families.
    pub fn of(families: &[Family], protocols: impl IntoIterator<Item = u8>) -> ProtocolSet {
        let mut set = ProtocolSet::NONE;
        for protocol in protocols {
            for &family in families {
                set.0[family as usize][usize::from(protocol) / 64] |= 1 << (protocol % 64);
            }
        }
        set
    }

    /// Whether a protocol of a family is inside.
    pub fn contains(&self, family: Family, protocol: u8) -> bool {
        self.0[family as usize][usize::from(protocol) / 64] >> (protocol % 64) & 1 == 1
    }

    /// What lies in either.
    pub fn union(&self, other: &ProtocolSet) -> ProtocolSet {
        let mut set = *self;
        set.0.iter_mut().flatten().zip(other.0.iter().flatten()).for_each(|(a, b)| *a |= b);
        set
    }

    /// What lies in both.
    pub fn intersect(&self, other: &ProtocolSet) -> ProtocolSet {
        let mut set = *self;
        set.0.iter_mut().flatten().zip(other.0.iter().flatten()).for_each(|(a, b)| *a &= b);
        set
    }

    /// What lies here but not in `other`.
    pub fn minus(&self, other: &ProtocolSet) -> ProtocolSet {
        let mut set = *self;
        set.0.iter_mut().flatten().zip(other.0.iter().flatten()).for_each(|(a, b)| *a &= !b);
        set
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.0.iter().flatten().all(|&w| w == 0)
    }
}

/// What one entry matches. `None` = any address. Entries share address sets, which may be large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Source addresses.
    pub src: Option<Rc<AddressSet>>,
    /// Destination addresses.
    pub dst: Option<Rc<AddressSet>>,
    /// Source ports.
    pub sport: PortSet,
    /// Destination ports, or ICMP type and code.
    pub dport: PortSet,
    /// Protocols by family.
    pub protocols: ProtocolSet,
}

impl Match {
    /// Every packet.
    pub const EVERYTHING: Match =
        Match { src: None, dst: None, sport: PortSet::Any, dport: PortSet::Any, protocols: ProtocolSet::ALL };

    fn is_empty(&self) -> bool {
        let nowhere = |set: &Option<Rc<AddressSet>>| set.as_ref().is_some_and(|set| set.is_empty());
        nowhere(&self.src)
            || nowhere(&self.dst)
            || self.sport.is_empty()
            || self.dport.is_empty()
            || self.protocols.is_empty()
    }
}

/// One side of a rule in pieces.
#[derive(Clone)]
struct Piece {
    addresses: Option<Rc<AddressSet>>,
    ports: PortSet,
    protocols: ProtocolSet,
}

fn ports_of(ports: &[Port]) -> (Ranges, Vec<&str>) {
    let mut numeric = Vec::new();
    let mut named = Vec::new();
    for port in ports {
        match port {
            Port::Range(first, last) => numeric.push((u128::from(*first), u128::from(*last))),
            Port::Named(name) => named.push(name.as_str()),
        }
    }
    (Ranges::new(numeric), named)
}

fn merge(all: &[Rc<Declared>]) -> Rc<Declared> {
    if let [only] = all {
        return Rc::clone(only);
    }
    let mut merged: BTreeMap<(u8, u16), Vec<&AddressSet>> = BTreeMap::new();
    for (&key, set) in all.iter().flat_map(|declared| declared.iter()) {
        merged.entry(key).or_default().push(set);
    }
    Rc::new(merged.into_iter().map(|(key, sets)| (key, Rc::new(AddressSet::union(sets)))).collect())
}

/// The boxes of a rule; none if it can match nothing.
pub fn boxes<'p>(rule: &'p Rule, policy: &Policy, population: &Population<'p>) -> Vec<Match> {
    let mut protocols = match rule.family {
        Some(family) => ProtocolSet::of(&[family], 0..=255),
        // A protocol that belongs to one family implies it (RM-7).
        None => match rule.protocol {
            Some(1) => ProtocolSet::of(&[Family::V4], 0..=255),
            Some(58) => ProtocolSet::of(&[Family::V6], 0..=255),
            _ => ProtocolSet::ALL,
        },
    };
    let families = [Family::V4, Family::V6];
    if let Some(protocol) = rule.protocol {
        protocols = protocols.intersect(&ProtocolSet::of(&families, [protocol]));
    }
    if let Some(protocol) = rule.not_protocol {
        protocols = protocols.minus(&ProtocolSet::of(&families, [protocol]));
    }
    // A rule whose `notNets` are all of one family does not exist for the other (RM-7).
    for peer in [&rule.source, &rule.destination].into_iter().filter(|peer| !peer.not_nets.is_empty()) {
        let listed = peer.not_nets.iter().map(|net| Family::of(net.network()));
        protocols = protocols.intersect(&ProtocolSet::of(&listed.collect::<Vec<_>>(), 0..=255));
    }
    let sources = pieces(&rule.source, protocols, policy, population, true);
    let destinations = pieces(&rule.destination, protocols, policy, population, false);
    let mut found = Vec::new();
    for source in &sources {
        for destination in &destinations {
            found.push(Match {
                src: source.addresses.clone(),
                dst: destination.addresses.clone(),
                sport: source.ports.clone(),
                dport: destination.ports.clone(),
                protocols: source.protocols.intersect(&destination.protocols),
            });
        }
    }
    let mut found = with_icmp(rule, found);
    found.retain(|m| !m.is_empty());
    found
}

fn pieces<'p>(
    peer: &'p Peer,
    protocols: ProtocolSet,
    policy: &Policy,
    population: &Population<'p>,
    is_source: bool,
) -> Vec<Piece> {
    let addresses = population.addresses(peer);
    let whole = Piece { addresses, ports: PortSet::Any, protocols };
    let declared_piece = |(&(protocol, port), set): (&(u8, u16), &Rc<AddressSet>)| Piece {
        addresses: Some(both(whole.addresses.clone(), set)),
        ports: PortSet::In(Ranges::one(u128::from(port), u128::from(port))),
        protocols: protocols.intersect(&ProtocolSet::of(&[Family::V4, Family::V6], [protocol])),
    };

    let mut found = match (&peer.service, peer.ports.is_empty()) {
        (Some(name), _) => {
            let backends = service(policy, name);
            if is_source {
                let set = Rc::new(AddressSet::union(backends.values().map(Rc::as_ref)));
                vec![Piece { addresses: Some(both(whole.addresses.clone(), &set)), ..whole.clone() }]
            } else {
                backends.iter().map(declared_piece).collect()
            }
        }
        (None, true) => vec![whole.clone()],
        (None, false) => {
            let (numeric, named) = ports_of(&peer.ports);
            let mut found = Vec::new();
            if !numeric.is_empty() {
                found.push(Piece { ports: PortSet::In(numeric), ..whole.clone() });
            }
            let declared: Vec<_> = named.iter().map(|name| population.declared(name, peer.selector.as_ref())).collect();
            found.extend(merge(&declared).iter().map(declared_piece));
            found
        }
    };
    if !peer.not_ports.is_empty() {
        let (numeric, named) = ports_of(&peer.not_ports);
        let declared: Vec<_> = named.iter().map(|name| population.declared(name, None)).collect();
        let declared = merge(&declared);
        found = found.iter().flat_map(|piece| without(piece, &numeric, &declared)).collect();
    }
    found
}

/// A piece less numeric ports and less (address, protocol, port) triples.
fn without(piece: &Piece, numeric: &Ranges, declared: &Declared) -> Vec<Piece> {
    let mut left = Vec::new();
    for transport in TRANSPORTS {
        let protocols = piece.protocols.intersect(&ProtocolSet::of(&[Family::V4, Family::V6], [transport]));
        if protocols.is_empty() {
            continue;
        }
        let mine = declared.iter().filter(|((protocol, _), _)| *protocol == transport);
        let mentioned = mine.clone().map(|(&(_, port), _)| (u128::from(port), u128::from(port)));
        let allowed = numeric.complement(65_535);
        let elsewhere = allowed.minus(&Ranges::new(mentioned.collect()));
        left.push(Piece { ports: piece.ports.limit(&elsewhere), protocols, ..piece.clone() });
        for (&(_, port), set) in mine {
            let port = Ranges::one(u128::from(port), u128::from(port)).intersect(&allowed);
            let addresses = match &piece.addresses {
                Some(addresses) => addresses.minus(set),
                None => AddressSet::all().minus(set),
            };
            let addresses = Some(Rc::new(addresses));
            left.push(Piece { addresses, ports: piece.ports.limit(&port), protocols });
        }
    }
    left
}

/// The backends of a service by (protocol, port) (RM-11); empty if it is not loaded.
fn service(policy: &Policy, name: &(String, String)) -> Declared {
    let service = policy.services.iter().find(|s| (&s.namespace, &s.name) == (&name.0, &name.1));
    let mut found: BTreeMap<(u8, u16), Vec<std::net::IpAddr>> = BTreeMap::new();
    for port in service.iter().flat_map(|s| &s.ports) {
        for &(address, number) in &port.backends {
            found.entry((port.protocol, number)).or_default().push(address);
        }
    }
    found.into_iter().map(|(key, addresses)| (key, Rc::new(AddressSet::of_addresses(&addresses)))).collect()
}

/// ICMP type and code as a range of `type << 8 | code`.
fn icmp_range(icmp: Icmp) -> Ranges {
    let kind = u128::from(icmp.kind) << 8;
    match icmp.code {
        Some(code) => Ranges::one(kind | u128::from(code), kind | u128::from(code)),
        None => Ranges::one(kind, kind | 0xff),
    }
}

fn with_icmp(rule: &Rule, mut found: Vec<Match>) -> Vec<Match> {
    let any_icmp = ProtocolSet::of(&[Family::V4], [1]).union(&ProtocolSet::of(&[Family::V6], [58]));
    if let Some(icmp) = rule.icmp {
        for m in &mut found {
            m.dport = m.dport.limit(&icmp_range(icmp));
        }
    }
    if let Some(not_icmp) = rule.not_icmp {
        let others = icmp_range(not_icmp).complement(65_535);
        found = found
            .into_iter()
            .flat_map(|m| {
                let is =
                    Match { dport: m.dport.limit(&others), protocols: m.protocols.intersect(&any_icmp), ..m.clone() };
                // The negation of a match that is false for whatever is not ICMP (RM-6).
                let is_not = Match { protocols: m.protocols.minus(&any_icmp), ..m };
                [is, is_not]
            })
            .collect();
    }
    found
}

/// The match of a VPC rule: IPv4, prefixes, ports or ICMP (15.3: the full range equals no range).
pub fn vpc(
    protocols: &Protocols,
    source: Option<AddressSet>,
    destination: Option<AddressSet>,
    source_ports: Option<(u16, u16)>,
    destination_ports: Option<(u16, u16)>,
    icmp: Option<Icmp>,
) -> Match {
    let ports = |range: Option<(u16, u16)>| match range {
        None | Some((0 | 1, u16::MAX)) => PortSet::Any,
        Some((first, last)) => PortSet::In(Ranges::one(u128::from(first), u128::from(last))),
    };
    let numbers: Vec<u8> = match protocols {
        Protocols::Any => (0..=255).collect(),
        Protocols::Of(list) => list.clone(),
    };
    let dport = match icmp {
        Some(icmp) => PortSet::In(icmp_range(icmp)),
        None => ports(destination_ports),
    };
    Match {
        src: source.map(Rc::new),
        dst: destination.map(Rc::new),
        sport: ports(source_ports),
        dport,
        protocols: ProtocolSet::of(&[Family::V4], numbers),
    }
}
