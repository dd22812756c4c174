//! A kind, a size and a seed in, a rule set with the statistics of that kind out.
//!
//! Order of the steps: port pairs of each service; sites and, inside of them, the prefixes of each side; rules that draw shape,
//! prefixes and service; order from narrow to wide. IPv6 sets have the same structure with longer prefixes.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::profile::{Kind, Lengths, Ports, Profile, Service, Side};
use super::random::{Random, Weighted};
use super::ruleset::{ANY_PORT, PortRange, Prefix, ProtocolMask, Rule, RuleSet};
use crate::base::address::Family;

/// The end of a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The last rule matches everything.
    CatchAll,
    /// No rule joins two short prefixes (up to eight bits) with all ports, so that many headers match none.
    Open,
}

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Which statistics.
    pub kind: Kind,
    /// IPv4 or IPv6.
    pub family: Family,
    /// Rules, the catch-all included. Sets are smaller only if the kind has no more different rules.
    pub rules: usize,
    /// Equal recipes make equal sets.
    pub seed: u64,
    /// With or without a catch-all.
    pub end: End,
}

/// Lengths up to which a prefix counts as short.
pub const SHORT: u8 = 8;
/// Length of a site in the IPv4 figures, and of the network around it.
const SITE: u8 = 24;
const NETWORK: u8 = 16;
/// Draws for something new before it is given up.
const DRAWS: usize = 16;

/// Ports that people write into rules, the most frequent first.
const WELL_KNOWN: [u16; 44] = [
    80, 443, 53, 22, 25, 123, 161, 21, 23, 110, 143, 993, 995, 389, 636, 445, 139, 137, 138, 135, 88, 111, 514, 162,
    179, 3306, 5432, 1433, 1521, 3389, 8080, 8443, 6379, 9092, 2049, 69, 113, 119, 465, 587, 1723, 5060, 6443, 27017,
];

/// The length that a length in the IPv4 figures stands for: networks of 16 bits are sites of 48, sites of 24 are subnets of 64.
fn length(family: Family, v4: u8) -> u8 {
    match (family, v4) {
        (Family::V4, _) | (_, 0..=SHORT) => v4,
        (Family::V6, ..=SITE) => 32 + (v4 - SHORT) * 2,
        (Family::V6, _) => 64 + (v4 - SITE) * 8,
    }
}

/// The prefixes of one side by length in the IPv4 figures, each with how often it comes again.
struct Pool {
    prefixes: Vec<Vec<Prefix>>,
    again: Vec<Weighted>,
    /// How many of each length have been drawn once.
    drawn: Vec<usize>,
}

impl Pool {
    fn new(recipe: &Recipe, side: &Side, expected: &[f64; 33], random: &mut Random) -> Pool {
        let distinct = side.distinct.at(recipe.rules);
        let skew = side.skew.at(recipe.rules);
        let mut ground = Ground::new(recipe, side, random);
        let mut pool = Pool { prefixes: vec![Vec::new(); 33], again: Vec::new(), drawn: vec![0; 33] };
        // Long ones first: the shorter ones know which sites are in use.
        for v4 in (0..=32u8).rev() {
            let count = expected[usize::from(v4)];
            let prefixes = match v4 {
                0..=SHORT => every(recipe.family, v4),
                _ if count == 0.0 => Vec::new(),
                _ => ground.prefixes(v4, (count * distinct).ceil() as usize, side.nested, random),
            };
            pool.prefixes[usize::from(v4)] = prefixes;
        }
        pool.again = pool.prefixes.iter().map(|of| Weighted::zipf(of.len(), skew)).collect();
        pool
    }

    /// A prefix: first each once, then as often as its rank says.
    fn draw(&mut self, v4: u8, random: &mut Random) -> Prefix {
        let at = usize::from(v4);
        let (Some(prefixes), Some(again), Some(drawn)) =
            (self.prefixes.get(at), self.again.get(at), self.drawn.get_mut(at))
        else {
            return Prefix::ANY;
        };
        let rank = if v4 > SHORT && *drawn < prefixes.len() { *drawn } else { again.draw(random) };
        *drawn += 1;
        prefixes.get(rank).copied().unwrap_or(Prefix::ANY)
    }
}

/// All prefixes of a short length.
fn every(family: Family, length: u8) -> Vec<Prefix> {
    let shift = family.bits() - length;
    let numbers = 0..1u128 << length;
    numbers.map(|n| Prefix { address: n.checked_shl(u32::from(shift)).unwrap_or(0), length }).collect()
}

/// Where the prefixes of one side lie.
struct Ground {
    family: Family,
    sites: Vec<u128>,
    /// The site that is next: they take turns, so that all are in use before one comes again.
    turn: usize,
    used: HashSet<Prefix>,
    /// What holds a used prefix.
    above: HashSet<Prefix>,
}

impl Ground {
    fn new(recipe: &Recipe, side: &Side, random: &mut Random) -> Ground {
        let family = recipe.family;
        let count = (side.sites.at(recipe.rules) as usize).max(1);
        let networks = distinct((count as f64 * side.networks).ceil() as usize, || network(family, random));
        // Every network once before any comes again.
        let mut turn = 0;
        let sites = distinct(count, || {
            turn += 1;
            let inside = networks.get(turn - 1).unwrap_or(&networks[random.index(networks.len())]);
            Prefix::of(family, inside | below(family, NETWORK, random), length(family, SITE)).address
        });
        Ground { family, sites, turn: 0, used: HashSet::new(), above: HashSet::new() }
    }

    /// `count` different prefixes of a length, or nearly. Those that are longer than a site lie in one and hold no other; of the
    /// others, this share holds a site and what is in it, and the rest lies elsewhere.
    fn prefixes(&mut self, v4: u8, count: usize, nested: f64, random: &mut Random) -> Vec<Prefix> {
        let family = self.family;
        let bits = length(family, v4);
        let may_hold = v4 <= SITE;
        distinct(count, || {
            let is_at_site = !may_hold || random.fraction() < nested;
            let mut prefix = Prefix::ANY;
            for _ in 0..DRAWS {
                let inside = if is_at_site {
                    self.turn = (self.turn + 1) % self.sites.len();
                    self.sites[self.turn] | below(family, SITE, random)
                } else {
                    network(family, random) | below(family, NETWORK, random)
                };
                prefix = Prefix::of(family, inside, bits);
                let holds = self.above.contains(&prefix) || self.used.contains(&prefix);
                if !holds || (may_hold && is_at_site) {
                    break;
                }
            }
            if self.used.insert(prefix) {
                let shorter = (length(family, SHORT + 1)..bits).rev();
                for above in shorter.map(|shorter| Prefix::of(family, prefix.address, shorter)) {
                    if !self.above.insert(above) {
                        break;
                    }
                }
            }
            prefix
        })
    }
}

/// `count` different values, or fewer if new ones have become too rare.
fn distinct<T: Copy + Eq + Hash>(count: usize, mut draw: impl FnMut() -> T) -> Vec<T> {
    let mut known = HashSet::with_capacity(count);
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        if let Some(value) = (0..DRAWS).map(|_| draw()).find(|value| known.insert(*value)) {
            values.push(value);
        }
    }
    values
}

/// Random bits behind a length of the IPv4 figures.
fn below(family: Family, v4: u8, random: &mut Random) -> u128 {
    let open = family.max().checked_shr(u32::from(length(family, v4))).unwrap_or(0);
    random.wide() & open
}

/// A network of unicast addresses: IPv4 1.0.0.0 to 223.255.0.0, IPv6 2000::/3.
fn network(family: Family, random: &mut Random) -> u128 {
    match family {
        Family::V4 => random.between(0x0100, 0xdfff) << 16,
        Family::V6 => random.between(0x2000_0000_0000, 0x3fff_ffff_ffff) << 80,
    }
}

/// The port pairs of a service with their weights.
struct Catalogue {
    protocol: ProtocolMask,
    pairs: Vec<(PortRange, PortRange)>,
    weights: Weighted,
}

impl Catalogue {
    fn new(service: &Service, rules: usize, random: &mut Random) -> Catalogue {
        let wanted = service.pairs.at(rules).round().max(1.0) as usize;
        let mut known = HashSet::new();
        let mut pairs = Vec::new();
        for rank in 0..wanted {
            for draw in 0..DRAWS {
                let pair = (ports(service.sport, rank + draw, random), ports(service.dport, rank + draw, random));
                if known.insert(pair) {
                    pairs.push(pair);
                    break;
                }
            }
        }
        Catalogue {
            protocol: service.protocol.map_or(ProtocolMask::ANY, ProtocolMask::one),
            weights: Weighted::zipf(pairs.len(), 0.9),
            pairs,
        }
    }
}

/// A range of a class. Frequent single ports are well known, others anywhere.
fn ports(class: Ports, rank: usize, random: &mut Random) -> PortRange {
    match class {
        Ports::Any => ANY_PORT,
        Ports::High => (1024, u16::MAX),
        Ports::One => {
            let anywhere = random.between(1, 65_534) as u16;
            let is_known = rank < 4 || random.fraction() < 0.6;
            let known = WELL_KNOWN[(rank + random.index(4)) % WELL_KNOWN.len()];
            let port = if is_known { known } else { anywhere };
            (port, port)
        }
        Ports::Range => {
            let first = random.between(1, 60_000) as u16;
            match random.below(8) {
                0 => (first, u16::MAX),
                1 | 2 => (first, first + 49 + random.below(3) as u16),
                _ => (first, first + 1 + random.below(110) as u16),
            }
        }
    }
}

/// Rules that are expected with each length on a side.
fn expected(profile: &Profile, rules: usize, pick: impl Fn(usize) -> Lengths) -> [f64; 33] {
    let mut expected = [0.0; 33];
    let new = 1.0 - profile.repeated;
    for (at, shape) in profile.shapes.iter().enumerate() {
        let lengths = pick(at);
        let sum: f64 = lengths.iter().map(|(_, share)| share).sum();
        for &(length, share) in lengths {
            expected[usize::from(length)] += rules as f64 * new * shape.share.at(rules) * share / sum;
        }
    }
    expected
}

/// Lengths of one side with the weights to draw them by.
fn draw_length(lengths: Lengths, random: &mut Random) -> u8 {
    let at = Weighted::new(lengths.iter().map(|(_, share)| *share)).draw(random);
    lengths.get(at).map_or(0, |(length, _)| *length)
}

/// Makes the set. Cost: the number of rules.
pub fn generate(recipe: &Recipe) -> RuleSet {
    let profile = recipe.kind.profile();
    let mut random = Random::new(recipe.seed ^ (recipe.kind as u64) << 56 ^ (recipe.family as u64) << 48);
    let services = Weighted::new(profile.services.iter().map(|service| service.share));
    let catalogues: Vec<Catalogue> =
        profile.services.iter().map(|service| Catalogue::new(service, recipe.rules, &mut random)).collect();
    let shapes = Weighted::new(profile.shapes.iter().map(|shape| shape.share.at(recipe.rules)));
    let lengths = expected(profile, recipe.rules, |at| profile.shapes[at].src);
    let mut src = Pool::new(recipe, &profile.src, &lengths, &mut random);
    let lengths = expected(profile, recipe.rules, |at| profile.shapes[at].dst);
    let mut dst = Pool::new(recipe, &profile.dst, &lengths, &mut random);

    let wanted = recipe.rules - usize::from(recipe.end == End::CatchAll && recipe.rules > 0);
    let mut rules: Vec<Rule> = Vec::with_capacity(recipe.rules);
    let mut known = HashSet::from([Rule::EVERYTHING]);
    let mut draws = 0;
    while rules.len() < wanted && draws < wanted * DRAWS {
        let (from, to) = if random.fraction() < profile.repeated && !rules.is_empty() {
            let earlier = &rules[random.index(rules.len())];
            (earlier.src, earlier.dst)
        } else {
            let shape = &profile.shapes[shapes.draw(&mut random)];
            let (from, to) = (draw_length(shape.src, &mut random), draw_length(shape.dst, &mut random));
            (src.draw(from, &mut random), dst.draw(to, &mut random))
        };
        // Where the addresses are few, another service makes the rule another one.
        for _ in 0..4 {
            draws += 1;
            let catalogue = &catalogues[services.draw(&mut random)];
            let (sport, dport) = catalogue.pairs[catalogue.weights.draw(&mut random)];
            let rule = Rule { src: from, dst: to, sport, dport, protocol: catalogue.protocol };
            let is_wide = from.length <= SHORT && to.length <= SHORT && sport == ANY_PORT && dport == ANY_PORT;
            if !(is_wide && recipe.end == End::Open) && known.insert(rule) {
                rules.push(rule);
                break;
            }
        }
    }
    order(recipe.family, &mut rules, &mut random);
    if recipe.end == End::CatchAll && recipe.rules > 0 {
        rules.push(Rule::EVERYTHING);
    }
    RuleSet { family: recipe.family, rules }
}

/// Narrow rules before wide ones, as people write them, with exceptions to it; rules of equal lengths stand together.
fn order(family: Family, rules: &mut [Rule], random: &mut Random) {
    let step = usize::from(family.bits() / 32);
    let mut places: HashMap<(u8, u8), usize> = HashMap::new();
    rules.sort_by_cached_key(|rule| {
        let lengths = (rule.src.length, rule.dst.length);
        let width = 2 * usize::from(family.bits()) - usize::from(lengths.0) - usize::from(lengths.1);
        (*places.entry(lengths).or_insert_with(|| width + random.index(6 * step)), lengths)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(kind: Kind, family: Family, rules: usize, end: End) -> Recipe {
        Recipe { kind, family, rules, seed: 3, end }
    }

    const KINDS: [Kind; 3] = [Kind::Acl, Kind::Fw, Kind::Ipc];

    fn share(set: &RuleSet, is_so: impl Fn(&Rule) -> bool) -> f64 {
        set.rules.iter().filter(|rule| is_so(rule)).count() as f64 / set.rules.len() as f64
    }

    #[test]
    fn sets_have_the_size_that_was_asked_for_and_no_rule_twice() {
        for family in [Family::V4, Family::V6] {
            for kind in KINDS {
                for size in [0, 1, 2, 50, 1_000, 30_000] {
                    let set = generate(&recipe(kind, family, size, End::CatchAll));
                    assert_eq!(set.rules.len(), size, "{kind:?} {family:?}");
                    assert_eq!(set.rules.iter().collect::<HashSet<_>>().len(), size, "{kind:?} {family:?}");
                    assert_eq!(set.rules.last().is_some_and(|last| *last == Rule::EVERYTHING), size > 0);
                }
            }
        }
    }

    #[test]
    fn equal_recipes_make_equal_sets_and_other_seeds_others() {
        for kind in KINDS {
            let first = recipe(kind, Family::V4, 1_000, End::CatchAll);
            assert_eq!(generate(&first), generate(&first));
            assert_ne!(generate(&first), generate(&Recipe { seed: 4, ..first }));
        }
    }

    #[test]
    fn ports_and_protocols_have_few_combinations() {
        for kind in KINDS {
            for (size, least, most) in [(1_000, 80, 150), (10_000, 130, 260), (100_000, 180, 512)] {
                let set = generate(&recipe(kind, Family::V4, size, End::CatchAll));
                let triples: HashSet<_> = set.rules.iter().map(|r| (r.sport, r.dport, r.protocol)).collect();
                assert!((least..most).contains(&triples.len()), "{kind:?} {size}: {}", triples.len());
            }
        }
    }

    #[test]
    fn each_kind_has_its_wildcards() {
        let wide = |prefix: Prefix| prefix.length <= SHORT;
        for (kind, src, dst) in [(Kind::Acl, 0.004, 0.005), (Kind::Fw, 0.57, 0.25), (Kind::Ipc, 0.061, 0.036)] {
            let set = generate(&recipe(kind, Family::V4, 10_000, End::CatchAll));
            let near = |found: f64, expected: f64| (found - expected).abs() < 0.15 * expected + 0.005;
            let (from, to) = (share(&set, |rule| wide(rule.src)), share(&set, |rule| wide(rule.dst)));
            assert!(near(from, src) && near(to, dst), "{kind:?}: {from} {to}");
            assert!(share(&set, |rule| wide(rule.src) && wide(rule.dst)) < 0.03, "{kind:?}");
        }
    }

    #[test]
    fn an_open_end_leaves_headers_without_a_rule() {
        for kind in KINDS {
            let set = generate(&recipe(kind, Family::V4, 2_000, End::Open));
            let is_wide = |rule: &Rule| {
                rule.src.length <= SHORT && rule.dst.length <= SHORT && rule.sport == ANY_PORT && rule.dport == ANY_PORT
            };
            assert_eq!(set.rules.len(), 2_000);
            assert_eq!(share(&set, is_wide), 0.0, "{kind:?}");
        }
    }

    #[test]
    fn prefixes_have_no_bits_behind_their_length() {
        for family in [Family::V4, Family::V6] {
            let set = generate(&recipe(Kind::Ipc, family, 5_000, End::CatchAll));
            for prefix in set.rules.iter().flat_map(|rule| [rule.src, rule.dst]) {
                assert_eq!(Prefix::of(family, prefix.address, prefix.length), prefix);
                assert!(prefix.address <= family.max());
            }
        }
    }
}
