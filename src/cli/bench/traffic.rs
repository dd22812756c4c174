//! A rule set in, headers of one kind of traffic out.

use clap::ValueEnum;

use super::random::{Random, Weighted};
use super::ruleset::{PortRange, Prefix, ProtocolMask, Rule, RuleSet};
use crate::base::address::Family;
use crate::packet::Key;

/// Kinds of traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Traffic {
    /// Each header is a fresh one inside of a rule; all rules alike
    #[default]
    Uniform,
    /// 100,000 flows, each inside of a rule, of which few are frequent (Zipf, exponent 1.1)
    Zipf,
    /// Each header is any at all, half of them TCP
    Random,
    /// Each header is inside of a rule but for one field, which is one step outside
    Edges,
}

impl Traffic {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Traffic::Uniform => "uniform",
            Traffic::Zipf => "zipf",
            Traffic::Random => "random",
            Traffic::Edges => "edges",
        }
    }
}

/// Flows of [`Traffic::Zipf`], and its exponent.
const FLOWS: usize = 100_000;
const SKEW: f64 = 1.1;

fn inside(family: Family, prefix: Prefix, random: &mut Random) -> u128 {
    random.between(prefix.address, prefix.last(family))
}

fn port(range: PortRange, random: &mut Random) -> u16 {
    random.between(u128::from(range.0), u128::from(range.1)) as u16
}

/// A protocol of the kind that packets have.
fn protocol(random: &mut Random) -> u8 {
    match random.below(8) {
        0..=3 => 6,
        4..=5 => 17,
        6 => 1,
        _ => random.below(256) as u8,
    }
}

fn protocol_inside(criterion: ProtocolMask, random: &mut Random) -> u8 {
    match criterion.mask {
        0 => protocol(random),
        mask => criterion.value | (random.below(256) as u8 & !mask),
    }
}

/// A header inside of a rule.
fn hit(set: &RuleSet, rule: &Rule, random: &mut Random) -> Key {
    set.key(
        inside(set.family, rule.src, random),
        inside(set.family, rule.dst, random),
        port(rule.sport, random),
        port(rule.dport, random),
        protocol_inside(rule.protocol, random),
    )
}

/// The neighbours of a range within 0 to `max`: below its first and above its last number.
fn beside(first: u128, last: u128, max: u128) -> [Option<u128>; 2] {
    [first.checked_sub(1), last.checked_add(1).filter(|next| *next <= max)]
}

/// A header that misses a rule in one field by one, and sits on an edge of it in the others; inside if the rule is all there is.
fn edge(set: &RuleSet, rule: &Rule, random: &mut Random) -> Key {
    let corner = |first: u128, last: u128, random: &mut Random| if random.below(2) == 0 { first } else { last };
    let ranges = [
        (rule.src.address, rule.src.last(set.family), set.family.max()),
        (rule.dst.address, rule.dst.last(set.family), set.family.max()),
        (u128::from(rule.sport.0), u128::from(rule.sport.1), u128::from(u16::MAX)),
        (u128::from(rule.dport.0), u128::from(rule.dport.1), u128::from(u16::MAX)),
    ];
    let mut values = ranges.map(|(first, last, _)| corner(first, last, random));
    let mut number = protocol_inside(rule.protocol, random);
    let mut steps: Vec<(usize, u128)> = Vec::with_capacity(10);
    for (field, (first, last, max)) in ranges.into_iter().enumerate() {
        steps.extend(beside(first, last, max).into_iter().flatten().map(|value| (field, value)));
    }
    if rule.protocol.mask == u8::MAX {
        let near = beside(u128::from(number), u128::from(number), u128::from(u8::MAX));
        steps.extend(near.into_iter().flatten().map(|value| (ranges.len(), value)));
    }
    if let Some(&(field, value)) = steps.get(random.index(steps.len())) {
        match values.get_mut(field) {
            Some(slot) => *slot = value,
            None => number = value as u8,
        }
    }
    let [src, dst, sport, dport] = values;
    set.key(src, dst, sport as u16, dport as u16, number)
}

/// Makes `count` headers. Equal arguments make equal headers; a set without rules gets random ones.
pub fn headers(set: &RuleSet, traffic: Traffic, count: usize, seed: u64) -> Vec<Key> {
    let mut random = Random::new(seed ^ (traffic as u64 + 1) << 40);
    let any = |random: &mut Random| {
        let max = set.family.max();
        let sport = random.word() as u16;
        set.key(random.wide() & max, random.wide() & max, sport, random.word() as u16, protocol(random))
    };
    let of_rule = |random: &mut Random, make: fn(&RuleSet, &Rule, &mut Random) -> Key| match set
        .rules
        .get(random.index(set.rules.len()))
    {
        Some(rule) => make(set, rule, random),
        None => any(random),
    };
    match traffic {
        Traffic::Uniform => (0..count).map(|_| of_rule(&mut random, hit)).collect(),
        Traffic::Edges => (0..count).map(|_| of_rule(&mut random, edge)).collect(),
        Traffic::Random => (0..count).map(|_| any(&mut random)).collect(),
        Traffic::Zipf => {
            let flows: Vec<Key> = (0..FLOWS).map(|_| of_rule(&mut random, hit)).collect();
            let ranks = Weighted::zipf(FLOWS, SKEW);
            (0..count).filter_map(|_| flows.get(ranks.draw(&mut random)).copied()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::ruleset::ANY_PORT;

    fn set() -> RuleSet {
        let rule = Rule {
            src: Prefix { address: 0x0a00_0000, length: 8 },
            dst: Prefix { address: 0xffff_ffff, length: 32 },
            sport: ANY_PORT,
            dport: (0, 80),
            protocol: ProtocolMask::one(6),
        };
        RuleSet { family: Family::V4, rules: vec![rule] }
    }

    #[test]
    fn hits_are_inside_of_a_rule_and_edges_one_step_outside() {
        let set = set();
        let inside = |key: &Key| set.rules.iter().any(|rule| rule.contains(set.family, key));
        assert!(headers(&set, Traffic::Uniform, 1_000, 1).iter().all(inside));
        assert!(headers(&set, Traffic::Zipf, 1_000, 1).iter().all(inside));
        let edges = headers(&set, Traffic::Edges, 1_000, 1);
        assert!(!edges.iter().any(inside));
        // Source below and above, destination below, destination port above, protocol below and above.
        let mut kinds: Vec<_> = edges.iter().map(|k| (k.src >> 24, k.dst, k.dport > 80, k.protocol)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let is_step = |kind: &(u128, u128, bool, u8)| {
            let steps = [kind.0 != 10, kind.1 != 0xffff_ffff, kind.2, kind.3 != 6];
            steps.iter().filter(|is_outside| **is_outside).count() == 1
        };
        assert!(kinds.iter().all(is_step), "{kinds:?}");
        assert_eq!(kinds.len(), 6, "{kinds:?}");
    }

    #[test]
    fn a_set_without_rules_gets_headers_too() {
        let empty = RuleSet { family: Family::V6, rules: Vec::new() };
        for traffic in [Traffic::Uniform, Traffic::Zipf, Traffic::Random, Traffic::Edges] {
            assert_eq!(headers(&empty, traffic, 10, 1).len(), 10);
        }
    }
}
