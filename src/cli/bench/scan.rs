//! Rules and headers in, the first match of each header out, found by looking at the rules one by one: the oracle.

use super::ruleset::{MISS, PortRange, Prefix, Rule, RuleSet};
use crate::base::address::Family;
use crate::packet::Key;

/// Rules per block: enough to fill vector registers, small enough to stop soon after the first match.
const BLOCK: usize = 64;

/// One criterion word of all rules, block by block.
type Column = Vec<[u32; BLOCK]>;

/// The criteria of a set as columns of 32 bits, so that the compiler compares many rules at a time.
///
/// A rule matches if every word of `(header ^ value) & mask` is 0 and both ports lie in their ranges.
#[derive(Clone, Debug)]
pub struct LinearScan {
    blocks: usize,
    /// Value and mask of each word of the source, the highest first, then of the destination: 2 or 8.
    addresses: Vec<(Column, Column)>,
    /// Value and mask.
    protocol: (Column, Column),
    /// First port and width: source, then destination.
    ports: [(Column, Column); 2],
}

/// The words of an address, the highest first.
fn words(family: Family, address: u128) -> impl Iterator<Item = u32> {
    let count = u32::from(family.bits()) / 32;
    (0..count).rev().map(move |word| (address >> (word * 32)) as u32)
}

/// Two columns with `pair` of each rule, filled up with `filler`.
fn columns(set: &RuleSet, filler: (u32, u32), pair: impl Fn(&Rule) -> (u32, u32)) -> (Column, Column) {
    let pairs: Vec<(u32, u32)> = set.rules.iter().map(pair).collect();
    let block = |rules: &[(u32, u32)], pick: fn(&(u32, u32)) -> u32| {
        let mut block = [pick(&filler); BLOCK];
        block.iter_mut().zip(rules).for_each(|(word, rule)| *word = pick(rule));
        block
    };
    let column = |pick| pairs.chunks(BLOCK).map(|rules| block(rules, pick)).collect();
    (column(|pair| pair.0), column(|pair| pair.1))
}

/// Adds the bits in which a block's rules do not match a word of the header.
fn compare(misses: &mut [u32; BLOCK], word: u32, column: &(Column, Column), block: usize) {
    let (Some(values), Some(masks)) = (column.0.get(block), column.1.get(block)) else { return };
    for (miss, (value, mask)) in misses.iter_mut().zip(values.iter().zip(masks)) {
        *miss |= (word ^ value) & mask;
    }
}

impl LinearScan {
    /// Lays the rules out in columns.
    pub fn new(set: &RuleSet) -> LinearScan {
        let family = set.family;
        let word = |prefix: Prefix, at: usize| {
            let mask = !(prefix.last(family) ^ prefix.address);
            let pick = |address| words(family, address).nth(at).unwrap_or(0);
            (pick(prefix.address), pick(mask))
        };
        let count = usize::from(family.bits()) / 32;
        let sources = (0..count).map(|at| columns(set, (0, 0), |rule| word(rule.src, at)));
        let destinations = (0..count).map(|at| columns(set, (0, 0), |rule| word(rule.dst, at)));
        let ports = |(first, last): PortRange| (u32::from(first), u32::from(last - first));
        // A filler matches nothing: no header has a port of 2^32 - 1.
        let never = (u32::MAX, 0);
        LinearScan {
            blocks: set.rules.len().div_ceil(BLOCK),
            addresses: sources.chain(destinations).collect(),
            protocol: columns(set, (0, 0), |rule| (u32::from(rule.protocol.value), u32::from(rule.protocol.mask))),
            ports: [columns(set, never, |rule| ports(rule.sport)), columns(set, never, |rule| ports(rule.dport))],
        }
    }

    /// The first rule that matches, [`MISS`] if none does. Cost: the rules before it.
    pub fn first(&self, key: &Key) -> u32 {
        let family = key.family();
        let mut addresses = [0u32; 8];
        for (slot, word) in addresses.iter_mut().zip(words(family, key.src).chain(words(family, key.dst))) {
            *slot = word;
        }
        for block in 0..self.blocks {
            let mut misses = [0u32; BLOCK];
            for (word, column) in addresses.iter().zip(&self.addresses) {
                compare(&mut misses, *word, column, block);
            }
            // Most blocks have no rule for the addresses.
            if !misses.contains(&0) {
                continue;
            }
            compare(&mut misses, u32::from(key.protocol), &self.protocol, block);
            for (port, (firsts, widths)) in [key.sport, key.dport].into_iter().zip(&self.ports) {
                let (Some(firsts), Some(widths)) = (firsts.get(block), widths.get(block)) else { continue };
                for (miss, (first, width)) in misses.iter_mut().zip(firsts.iter().zip(widths)) {
                    *miss |= u32::from(u32::from(port).wrapping_sub(*first) > *width);
                }
            }
            if let Some(at) = misses.iter().position(|miss| *miss == 0) {
                return (block * BLOCK + at) as u32;
            }
        }
        MISS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::wide::Level;
    use crate::cli::bench::generate::{End, Recipe, generate};
    use crate::cli::bench::profile::Kind;
    use crate::cli::bench::ruleset::{Burst, lookup};
    use crate::cli::bench::traffic::{Traffic, headers};

    #[test]
    fn the_scan_and_the_classifier_agree_with_the_rules_as_written() {
        for family in [Family::V4, Family::V6] {
            for kind in [Kind::Acl, Kind::Fw, Kind::Ipc] {
                for end in [End::CatchAll, End::Open] {
                    let set = generate(&Recipe { kind, family, rules: 300, seed: 5, end });
                    let (scan, classifier) = (LinearScan::new(&set), set.classifier().unwrap());
                    let mut misses = 0;
                    for traffic in [Traffic::Uniform, Traffic::Zipf, Traffic::Random, Traffic::Edges] {
                        let keys = headers(&set, traffic, 400, 6);
                        let mut answers = vec![0; keys.len()];
                        lookup(&classifier, &mut Burst::default(), &keys, &mut answers);
                        for (key, answer) in keys.iter().zip(answers) {
                            let first = set.rules.iter().position(|rule| rule.contains(family, key));
                            let expected = first.map_or(MISS, |index| index as u32);
                            assert_eq!((scan.first(key), answer), (expected, expected), "{kind:?} {traffic:?} {key:?}");
                            misses += usize::from(expected == MISS);
                        }
                    }
                    assert_eq!(misses > 0, end == End::Open, "{kind:?} {family:?}");
                }
            }
        }
    }

    #[test]
    fn sets_of_thousands_of_rules_are_searched_right_at_every_level() {
        let recipes = [(Family::V4, 1_000), (Family::V4, 10_000), (Family::V6, 1_000)];
        for kind in [Kind::Acl, Kind::Fw, Kind::Ipc] {
            for ((family, rules), end) in recipes.into_iter().zip([End::Open, End::CatchAll, End::Open]) {
                let set = generate(&Recipe { kind, family, rules, seed: 9, end });
                let (scan, built) = (LinearScan::new(&set), set.classifier().unwrap());
                let traffics = [Traffic::Uniform, Traffic::Random, Traffic::Edges];
                let keys: Vec<Key> = traffics.iter().flat_map(|&traffic| headers(&set, traffic, 300, 6)).collect();
                let expected: Vec<u32> = keys.iter().map(|key| scan.first(key)).collect();
                for level in Level::all() {
                    let mut answers = vec![0; keys.len()];
                    lookup(&built.clone().with_level(level), &mut Burst::default(), &keys, &mut answers);
                    let wrong = (0..keys.len()).find(|&at| answers[at] != expected[at]);
                    let context = |at: usize| (answers[at], expected[at], keys[at]);
                    assert_eq!(wrong.map(context), None, "{kind:?} {family:?} {rules} {}", level.name());
                }
            }
        }
    }

    #[test]
    fn ten_thousand_rules_without_a_catch_all_miss_where_no_rule_holds() {
        for kind in [Kind::Acl, Kind::Fw, Kind::Ipc] {
            let set = generate(&Recipe { kind, family: Family::V4, rules: 10_000, seed: 3, end: End::Open });
            let (scan, classifier) = (LinearScan::new(&set), set.classifier().unwrap());
            let keys = headers(&set, Traffic::Random, 500, 6);
            let mut answers = vec![0; keys.len()];
            lookup(&classifier, &mut Burst::default(), &keys, &mut answers);
            assert!(keys.iter().zip(&answers).all(|(key, answer)| scan.first(key) == *answer), "{kind:?}");
            assert!(answers.contains(&MISS), "{kind:?}");
        }
    }
}
