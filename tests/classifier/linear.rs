//! Boxes, scopes and keys in, what a linear search finds out; and the comparison of a classifier with it.

use std::ops::Range;
use std::rc::Rc;

use ringwall::base::address::{Family, address};
use ringwall::base::wide::Level;
use ringwall::compile::boxes::{Match, PortSet, ProtocolSet};
use ringwall::compile::dimensions::{MEMORY, classifier};
use ringwall::compile::ranges::{AddressSet, Ranges};
use ringwall::engine::program::classifier::{Classifier, Found, NONE};
use ringwall::engine::program::header::{Headers, LANES};
use ringwall::packet::{Key, KeyBits};

use crate::random::Dice;

/// Whether a box holds a key.
fn holds(rule: &Match, key: &Key) -> bool {
    let family = key.family();
    let inside = |set: &Option<Rc<AddressSet>>, number: u128| {
        set.as_ref().is_none_or(|set| set.contains(address(family, number)))
    };
    let port = |set: &PortSet, port: u16| match set {
        PortSet::Any => true,
        PortSet::In(ranges) => key.has(KeyBits::L4) && ranges.contains(u128::from(port)),
    };
    inside(&rule.src, key.src)
        && inside(&rule.dst, key.dst)
        && port(&rule.sport, key.sport)
        && port(&rule.dport, key.dport)
        && rule.protocols.contains(family, key.protocol)
}

pub type Scope = Rc<[Range<u32>]>;

/// The first entry of a scope from `from` that holds a key.
pub fn first(rules: &[Match], scope: &Scope, key: &Key, from: u32) -> u32 {
    let mut entries = scope.iter().cloned().flatten().filter(|&entry| entry >= from);
    entries.find(|&entry| holds(&rules[entry as usize], key)).unwrap_or(NONE)
}

pub fn build(rules: &[Match], scopes: &[Scope]) -> Classifier {
    classifier(rules, scopes, |_| false, MEMORY).unwrap()
}

/// What is drawn from: few addresses, so that boxes overlap and packets meet many, or many.
#[derive(Clone, Copy)]
pub struct Universe {
    pub bits: u32,
    pub v6: u64,
}

impl Universe {
    fn family(self, dice: &mut Dice) -> Family {
        if dice.chance(self.v6) { Family::V6 } else { Family::V4 }
    }

    pub fn address(self, family: Family, dice: &mut Dice) -> u128 {
        let low = u128::from(dice.next()) & ((1 << self.bits) - 1);
        match family {
            Family::V4 => 0x0a00_0000 & !((1u128 << self.bits) - 1) | low,
            // Both halves vary.
            Family::V6 => 0xfd00u128 << 112 | (low >> 3) << 64 | low & 7,
        }
    }

    fn net(self, dice: &mut Dice) -> AddressSet {
        let family = self.family(dice);
        let inside = self.address(family, dice);
        let short = u64::from(family.bits()) - u64::from(self.bits);
        let length = if dice.chance(40) {
            family.bits()
        } else if dice.chance(20) {
            dice.below(9) as u8
        } else {
            (short + dice.next() % (u64::from(self.bits) + 1)) as u8
        };
        let hosts = family.max().checked_shr(u32::from(length)).unwrap_or(0);
        AddressSet::of([(address(family, inside & !hosts), length)])
    }

    pub fn side(self, dice: &mut Dice) -> Option<Rc<AddressSet>> {
        match dice.below(10) {
            0..=2 => None,
            3 => {
                let nets: Vec<AddressSet> = (0..1 + dice.below(6)).map(|_| self.net(dice)).collect();
                Some(Rc::new(AddressSet::union(&nets)))
            }
            _ => Some(Rc::new(self.net(dice))),
        }
    }

    pub fn rule(self, dice: &mut Dice) -> Match {
        let ports = |dice: &mut Dice| match dice.below(5) {
            0 | 1 => PortSet::Any,
            2 => PortSet::In(Ranges::new(vec![port_range(dice), port_range(dice), port_range(dice)])),
            _ => PortSet::In(Ranges::new(vec![port_range(dice)])),
        };
        let families = match dice.below(4) {
            0 => vec![Family::V4],
            1 => vec![Family::V6],
            _ => vec![Family::V4, Family::V6],
        };
        let protocols = match dice.below(4) {
            0 => ProtocolSet::ALL,
            1 => ProtocolSet::of(&families, 0..=255),
            _ => ProtocolSet::of(&families, [*dice.pick(&[1, 6, 17, 58, 255])]),
        };
        let (src, dst) = (self.side(dice), self.side(dice));
        Match {
            src,
            dst,
            sport: if dice.chance(70) { PortSet::Any } else { ports(dice) },
            dport: ports(dice),
            protocols,
        }
    }

    pub fn key(self, dice: &mut Dice) -> Key {
        let family = self.family(dice);
        let bits = if family == Family::V6 { KeyBits::V6 } else { 0 } | if dice.chance(90) { KeyBits::L4 } else { 0 };
        Key {
            src: self.address(family, dice),
            dst: self.address(family, dice),
            sport: port(dice),
            dport: port(dice),
            protocol: *dice.pick(&[0, 1, 5, 6, 7, 17, 58, 255]),
            bits: KeyBits(bits),
            ..Key::EMPTY
        }
    }

    /// A key on the edges of a box, in some field one step beside it, half of the time.
    pub fn near(self, rule: &Match, dice: &mut Dice) -> Key {
        let mut key = self.key(dice);
        let family = key.family();
        let mut steps = [0i8; 4];
        if dice.chance(50) {
            steps[dice.below(4)] = if dice.chance(50) { 1 } else { -1 };
        }
        let corner = |ranges: &Ranges, step: i8, max: u128, dice: &mut Dice| {
            let pairs = ranges.pairs();
            let pair = pairs.get(dice.below(pairs.len().max(1)))?;
            Some(match step {
                1 => {
                    if pair.1 == max {
                        pair.1
                    } else {
                        pair.1 + 1
                    }
                }
                -1 => pair.0.saturating_sub(1),
                _ => {
                    if dice.chance(50) {
                        pair.0
                    } else {
                        pair.1
                    }
                }
            })
        };
        let side = |set: &Option<Rc<AddressSet>>, step: i8, dice: &mut Dice| {
            corner(&set.as_ref()?.families[family as usize], step, family.max(), dice)
        };
        let ports = |set: &PortSet, step: i8, dice: &mut Dice| match set {
            PortSet::Any => None,
            PortSet::In(ranges) => corner(ranges, step, 65_535, dice).map(|port| port as u16),
        };
        key.src = side(&rule.src, steps[0], dice).unwrap_or(key.src);
        key.dst = side(&rule.dst, steps[1], dice).unwrap_or(key.dst);
        key.sport = ports(&rule.sport, steps[2], dice).unwrap_or(key.sport);
        key.dport = ports(&rule.dport, steps[3], dice).unwrap_or(key.dport);
        if let Some(protocol) = (0..=255).find(|&p| rule.protocols.contains(family, p)).filter(|_| dice.chance(80)) {
            key.protocol = protocol;
        }
        key
    }
}

fn port(dice: &mut Dice) -> u16 {
    *dice.pick(&[0, 1, 22, 23, 79, 80, 81, 443, 1023, 1024, 8080, 65_534, 65_535])
}

fn port_range(dice: &mut Dice) -> (u128, u128) {
    let (a, b) = (port(dice), port(dice));
    if dice.chance(60) { (u128::from(a), u128::from(a)) } else { (u128::from(a.min(b)), u128::from(a.max(b))) }
}

/// The answers for keys in bursts of at most so many.
pub fn answers(classifier: &Classifier, scope: u32, keys: &[Key], most: usize) -> Vec<u32> {
    let mut found = vec![7; keys.len()];
    let (mut headers, mut burst) = (Headers::default(), Found::default());
    for (keys, found) in keys.chunks(most).zip(found.chunks_mut(most)) {
        classifier.headers(keys, &mut headers);
        classifier.first_of_each(&headers, scope, &mut burst);
        found.copy_from_slice(&burst.entries()[..keys.len()]);
    }
    found
}

/// Compares all levels with the linear search, one by one and in bursts; returns hits and misses.
pub fn compare(name: &str, rules: &[Match], scopes: &[Scope], keys: &[Key], built: &Classifier) -> [usize; 2] {
    let mut outcomes = [0; 2];
    for (number, scope) in scopes.iter().enumerate() {
        let expected: Vec<u32> = keys.iter().map(|key| first(rules, scope, key, 0)).collect();
        for level in Level::all() {
            let classifier = built.clone().with_level(level);
            for most in [1, 31, LANES] {
                let found = answers(&classifier, number as u32, keys, most);
                let differs = (0..keys.len()).find(|&at| found[at] != expected[at]);
                let context = |at: usize| format!("{:?} {:?} {:?}", found[at], expected[at], keys[at]);
                assert_eq!(differs.map(context), None, "{name}: scope {number}, {}, bursts of {most}", level.name());
            }
            for (key, &expected) in keys.iter().zip(&expected) {
                let found = classifier.first(classifier.header(key), number as u32, 0).unwrap_or(NONE);
                assert_eq!(found, expected, "{name}: {} {key:?}", level.name());
            }
        }
        let hits = expected.iter().filter(|found| **found != NONE).count();
        outcomes = [outcomes[0] + hits, outcomes[1] + expected.len() - hits];
    }
    outcomes
}

pub fn part(block: Range<u32>) -> Scope {
    Rc::from(vec![block; 1])
}

pub fn whole(rules: &[Match]) -> Scope {
    part(0..rules.len() as u32)
}

pub fn keys(universe: Universe, rules: &[Match], count: usize, dice: &mut Dice) -> Vec<Key> {
    (0..count).map(|n| if n % 4 == 0 { universe.key(dice) } else { universe.near(dice.pick(rules), dice) }).collect()
}
