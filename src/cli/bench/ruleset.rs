//! Five-tuple rules in, boxes for the compiler and a quick linear scan out.

use std::rc::Rc;

use crate::base::address::{Family, address};
use crate::compile::boxes::{Match, PortSet, ProtocolSet};
use crate::compile::dimensions::{self, MEMORY, Refusal};
use crate::compile::list::Block;
use crate::compile::ranges::{AddressSet, Ranges};
use crate::engine::program::classifier::{Classifier, Found};
use crate::engine::program::header::{Headers, LANES};
use crate::packet::{Key, KeyBits};

/// Marks that no rule matches.
pub const MISS: u32 = u32::MAX;

/// A network: the bits of `address` below `length` are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// First address; IPv4 in the low 32 bits.
    pub address: u128,
    /// Bits that count: 0 to 32, or 0 to 128.
    pub length: u8,
}

impl Prefix {
    /// Every address.
    pub const ANY: Prefix = Prefix { address: 0, length: 0 };

    /// The network of this length that an address lies in. A length above the family's width counts as the width.
    pub fn of(family: Family, inside: u128, length: u8) -> Prefix {
        let length = length.min(family.bits());
        Prefix { address: inside & !hosts(family, length), length }
    }

    /// Its last address.
    pub fn last(&self, family: Family) -> u128 {
        self.address | hosts(family, self.length)
    }

    /// Whether an address lies inside.
    pub fn contains(&self, family: Family, inside: u128) -> bool {
        (inside ^ self.address) & !hosts(family, self.length) == 0
    }
}

/// The bits of an address that a prefix of this length leaves open.
fn hosts(family: Family, length: u8) -> u128 {
    family.max().checked_shr(u32::from(length)).unwrap_or(0)
}

/// A criterion on the protocol: the bits of `value` that `mask` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolMask {
    /// Protocol number; bits outside of the mask are 0.
    pub value: u8,
    /// Bits that count.
    pub mask: u8,
}

impl ProtocolMask {
    /// Every protocol.
    pub const ANY: ProtocolMask = ProtocolMask { value: 0, mask: 0 };

    /// One protocol.
    pub const fn one(value: u8) -> ProtocolMask {
        ProtocolMask { value, mask: 0xff }
    }

    /// Whether a protocol is inside.
    pub const fn contains(self, protocol: u8) -> bool {
        (protocol ^ self.value) & self.mask == 0
    }
}

/// First and last port, both included, first not above last.
pub type PortRange = (u16, u16);

/// Every port.
pub const ANY_PORT: PortRange = (0, u16::MAX);

/// One rule of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Source network.
    pub src: Prefix,
    /// Destination network.
    pub dst: Prefix,
    /// Source ports.
    pub sport: PortRange,
    /// Destination ports.
    pub dport: PortRange,
    /// Protocols.
    pub protocol: ProtocolMask,
}

impl Rule {
    /// Every header.
    pub const EVERYTHING: Rule =
        Rule { src: Prefix::ANY, dst: Prefix::ANY, sport: ANY_PORT, dport: ANY_PORT, protocol: ProtocolMask::ANY };

    /// Whether a header matches.
    pub fn contains(&self, family: Family, key: &Key) -> bool {
        self.src.contains(family, key.src)
            && self.dst.contains(family, key.dst)
            && (self.sport.0..=self.sport.1).contains(&key.sport)
            && (self.dport.0..=self.dport.1).contains(&key.dport)
            && self.protocol.contains(key.protocol)
    }
}

/// An ordered list of rules of one family; the first that matches counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// Of all addresses.
    pub family: Family,
    /// In order of priority.
    pub rules: Vec<Rule>,
}

impl RuleSet {
    /// The rules as the compiler takes them from policies.
    pub fn matches(&self) -> Vec<Match> {
        let side = |prefix: &Prefix| {
            let network = address(self.family, prefix.address);
            (prefix.length > 0).then(|| Rc::new(AddressSet::of([(network, prefix.length)])))
        };
        let ports = |range: PortRange| match range {
            ANY_PORT => PortSet::Any,
            (first, last) => PortSet::In(Ranges::one(u128::from(first), u128::from(last))),
        };
        let protocols = |criterion: ProtocolMask| match criterion.mask {
            0 => ProtocolSet::ALL,
            _ => ProtocolSet::of(&[self.family], (0..=u8::MAX).filter(|&number| criterion.contains(number))),
        };
        let rules = self.rules.iter();
        rules
            .map(|rule| Match {
                src: side(&rule.src),
                dst: side(&rule.dst),
                sport: ports(rule.sport),
                dport: ports(rule.dport),
                protocols: protocols(rule.protocol),
            })
            .collect()
    }

    /// The classifier of the data path over these rules, all in scope 0.
    pub fn classifier(&self) -> Result<Classifier, Refusal> {
        build(&self.matches())
    }

    /// A header of this family with ports.
    pub fn key(&self, src: u128, dst: u128, sport: u16, dport: u16, protocol: u8) -> Key {
        let bits = KeyBits(KeyBits::L4 | if self.family == Family::V6 { KeyBits::V6 } else { 0 });
        Key { src, dst, sport, dport, protocol, bits, ..Key::EMPTY }
    }
}

/// The classifier of the data path over boxes, all in scope 0, within the memory that a program has.
pub fn build(matches: &[Match]) -> Result<Classifier, Refusal> {
    let all: Block = 0..matches.len() as u32;
    dimensions::classifier(matches, &[Rc::from([all])], |_| false, MEMORY)
}

/// What looking up a burst writes to: kept, as the packet line keeps its own.
#[derive(Clone, Debug, Default)]
pub struct Burst {
    headers: Headers,
    found: Found,
}

/// Finds the first matching rule of each key, [`MISS`] where there is none; `out` gets as many answers as there are keys, or as it
/// has room for. This is what the packet line runs.
#[inline]
pub fn lookup(classifier: &Classifier, burst: &mut Burst, keys: &[Key], out: &mut [u32]) {
    for (keys, out) in keys.chunks(LANES).zip(out.chunks_mut(LANES)) {
        classifier.headers(keys, &mut burst.headers);
        classifier.first_of_each(&burst.headers, 0, &mut burst.found);
        out.iter_mut().zip(burst.found.entries()).for_each(|(out, found)| *out = *found);
    }
}
