//! Edges of addresses and lists of records in, what every level answers compared with a linear search out: each layout, forced.

use super::arena::{Line, Table};
use super::classifier::{Classifier, Found, NONE};
use super::cross::Cross;
use super::header::{Fields, Headers, LANES, WITHOUT_PORTS};
use super::isa::WIDTH;
use super::leaf::{Leaves, Record};
use super::partition::{EDGES, Entry, Intervals, Partition};
use super::split::{List, Side, Split};
use super::vectors::Vectors;
use crate::base::address::Family;
use crate::base::pages::Pages;
use crate::base::wide::Level;
use crate::packet::{Key, KeyBits};
use std::collections::BTreeMap;

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'v, V>(&mut self, of: &'v [V]) -> &'v V {
        &of[self.below(of.len())]
    }
}

/// A classifier of these partitions and lists, without classes of ports.
fn classifier(lines: Vec<Line>, addresses: [Partition; 2], splits: Vec<Split>) -> Classifier {
    Classifier {
        plans: (0..splits.len() as u32).collect(),
        memory: Pages::from(lines),
        fields: Fields { addresses, ports: Default::default(), protocols: Table::default() },
        vectors: Vectors::default(),
        splits,
        classes: [1; 3],
        shapes: Vec::new(),
        level: Level::Scalar,
    }
}

/// The edges of the sides of a partition, ascending, without repeats and without 0.
struct Edges {
    v4: Vec<u32>,
    v6: Vec<u128>,
}

impl Edges {
    fn new(mut v4: Vec<u32>, v6: Vec<u128>) -> Edges {
        v4.sort_unstable();
        v4.dedup();
        Edges { v4, v6 }
    }

    fn interval(&self, family: Family, address: u128) -> u32 {
        let behind_zero = self.v4.strip_prefix(&[0]).unwrap_or(&self.v4);
        let below = match family {
            Family::V4 => behind_zero.partition_point(|&edge| u128::from(edge) <= address),
            Family::V6 => 1 + behind_zero.len() + self.v6.partition_point(|&edge| edge <= address),
        };
        below as u32
    }

    /// Each edge and its neighbours, the ends of their blocks of 256 and 65,536 addresses, and of the whole space.
    fn probes(&self) -> Vec<u32> {
        let around = |&edge: &u32| {
            [edge.wrapping_sub(1), edge, edge.wrapping_add(1), edge & !255, edge | 255, edge & !0xffff, edge | 0xffff]
        };
        let mut probes: Vec<u32> = self.v4.iter().flat_map(around).chain([0, u32::MAX]).collect();
        probes.sort_unstable();
        probes.dedup();
        probes
    }
}

fn key(family: Family, src: u128, dst: u128) -> Key {
    let v6 = if family == Family::V6 { KeyBits::V6 } else { 0 };
    Key { src, dst, protocol: 6, bits: KeyBits(v6 | KeyBits::L4), ..Key::EMPTY }
}

/// Compares the intervals of keys at every level, alone and in bursts of at most so many.
fn check_intervals(name: &str, edges: [&Edges; 2], built: &Classifier, keys: &[Key], bursts: &[usize]) {
    let expected: Vec<[u32; 2]> = keys
        .iter()
        .map(|key| [edges[0].interval(key.family(), key.src), edges[1].interval(key.family(), key.dst)])
        .collect();
    for (key, &expected) in keys.iter().zip(&expected) {
        let header = built.header(key);
        assert_eq!([header.src(), header.dst()], expected, "{name}: {:#x} {:#x}", key.src, key.dst);
    }
    for level in Level::all() {
        let built = built.clone().with_level(level);
        // Kept from burst to burst, as the packet line does.
        let mut headers = Headers::default();
        for &most in bursts {
            for (keys, expected) in keys.chunks(most).zip(expected.chunks(most)) {
                built.headers(keys, &mut headers);
                for (at, (key, &expected)) in keys.iter().zip(expected).enumerate() {
                    let found = [headers.get(at).src(), headers.get(at).dst()];
                    let context = || format!("{name}: {} {most} {at} {:#x} {:#x}", level.name(), key.src, key.dst);
                    assert_eq!(found, expected, "{}", context());
                }
            }
        }
    }
}

/// What an address goes through behind the root.
fn way(intervals: &Intervals<'_>, address: u32) -> &'static str {
    let mut entry = intervals.root[(address >> 16) as usize];
    let mut tables = 0;
    while entry >= Entry::TABLE {
        tables += 1;
        entry = intervals.tables[Entry(entry).position(address)];
    }
    match (tables, entry >= Entry::NODE) {
        (0, false) => "interval",
        (0, true) => "node",
        (1, false) => "table, interval",
        (1, true) => "table, node",
        (2, false) => "two tables, interval",
        (2, true) => "two tables, node",
        _ => "more tables",
    }
}

/// Blocks of 65,536 addresses with so many edges, from a low part and every so many addresses.
fn block(high: u32, first: u32, count: u32, step: u32) -> impl Iterator<Item = u32> {
    (0..count).map(move |at| high << 16 | (first + at * step) & 0xffff)
}

/// Edges that lead addresses through everything there is: blocks of few edges, of many, and of many with a crowd; crowds close
/// together, and among others.
fn every_way() -> Edges {
    let nodes = (0..60).flat_map(|n| block(0x0c00 + n, n * 300, n % 31, 1 + n));
    let tables = (0..90).flat_map(|n| block(0x0d00 + 2 * n, n * 64, EDGES as u32 + 1 + n * 5, 1 + n * 10));
    let crowds = (0..30).flat_map(|n| block(0x0a00 + n, n % 3 * 7, 300, 200).chain(block(0x0a00 + n, n * 500, 40, 1)));
    let heaps = [0, 17, 3_000, 65_472].into_iter().zip(0..).flat_map(|(first, n)| {
        let far = block(0x0b00 + n, 5, 5_000, 13);
        far.chain(block(0x0b00 + n, first, 64, 1)).chain(block(0x0b00 + n, first & 0xf000, 300, 3))
    });
    // Networks with one edge, with as many as are compared at once, and with more; the highest addresses.
    let hosts = |net: u128, count: u128, step: u128| (0..count).map(move |n| (net << 64) + n * step);
    let crowds_v6 =
        hosts(41, 7, 1).chain(hosts(42, 8, 3)).chain(hosts(43, 9, 1 << 60)).chain(hosts(1 << 63, 40, 1 << 58));
    let v6 = (1..40u128).map(|n| (n << 64) + n % 3).chain(crowds_v6).chain([u128::MAX - 1, u128::MAX]).collect();
    Edges::new(nodes.chain(tables).chain(crowds).chain(heaps).chain([0, 1, u32::MAX]).collect(), v6)
}

/// Masks of sixteen lanes: none, all, each alone, all but each, every other, halves.
fn masks() -> Vec<u16> {
    let alone = (0..WIDTH).map(|lane| 1u16 << lane);
    alone.clone().chain(alone.map(|mask| !mask)).chain([0, u16::MAX, 0x5555, 0xaaaa, 0x00ff, 0xff00]).collect()
}

#[test]
fn every_way_to_an_interval_is_found_whatever_the_other_lanes_need() {
    let dice = &mut Dice(1);
    let edges = every_way();
    let mut lines = Vec::new();
    let addresses = [0, 1].map(|_| Partition::new(&edges.v4, &edges.v6, &mut lines));
    let mut pools: BTreeMap<&str, Vec<u128>> = BTreeMap::new();
    let intervals = addresses[0].view(&lines);
    for probe in edges.probes() {
        pools.entry(way(&intervals, probe)).or_default().push(u128::from(probe));
    }
    assert_eq!(pools.len(), 6, "{:?}", pools.keys());
    let built = classifier(lines, addresses, Vec::new());
    let v4: Vec<u128> = pools.values().flatten().copied().collect();
    pools.insert("IPv6", edges.v6.iter().flat_map(|edge| [edge - 1, *edge, edge.saturating_add(1)]).collect());
    let all: Vec<Key> = v4.iter().map(|&src| key(Family::V4, src, *dice.pick(&v4))).collect();
    check_intervals("all edges", [&edges; 2], &built, &all, &[LANES, 17]);

    for having in pools.keys() {
        for others in pools.keys() {
            let mut keys = Vec::new();
            for mask in masks() {
                for lane in 0..WIDTH {
                    let ways = if mask >> lane & 1 == 1 { [having, others] } else { [others, having] };
                    // Both ends have the family of the source; where it has none of the other way, they go the same way.
                    let is_v6 = ways.map(|way| *way == "IPv6");
                    let [src, dst] = if is_v6[0] == is_v6[1] { ways } else { [ways[0]; 2] };
                    let family = if is_v6[0] { Family::V6 } else { Family::V4 };
                    keys.push(key(family, *dice.pick(&pools[src]), *dice.pick(&pools[dst])));
                }
            }
            check_intervals(&format!("{having} among {others}"), [&edges; 2], &built, &keys, &[LANES, WIDTH, 1]);
        }
    }
}

#[test]
fn nodes_of_every_count_of_edges_agree_wherever_their_edges_lie() {
    let counts = [0, 1, 2, 29, 30, 31, 32, 60, 61, 62, 90, 91, 92, 93, 119, 120, 121, 122, 256];
    // From the first address of a block, from the second, up to the last; close and far apart; of 256 addresses and of a block.
    let placed = |n: u32, count: u32| -> Vec<u32> {
        let [close, part, far] = [1, 255 / count.max(1), 65_535 / count.max(1)].map(|step| step.max(1));
        let up_to = |last: u32, step: u32| last - count.saturating_sub(1) * step;
        let placings = [
            (0, close),
            (1, close),
            (0, part),
            (0, far),
            (1, far),
            (up_to(0xffff, close), close),
            (up_to(0xffff, part), part),
            (up_to(0xffff, far), far),
            (0x1200, part),
            (0x12ff, close),
        ];
        placings
            .iter()
            .zip(0..)
            .flat_map(|(&(first, step), at)| block(n * 32 + at * 2 + 1, first, count, step))
            .collect()
    };
    let blocks: Vec<u32> = counts.iter().zip(0..).flat_map(|(&count, n)| placed(n, count)).collect();
    let edges = Edges::new(blocks.into_iter().chain([0, 1, u32::MAX - 1, u32::MAX]).collect(), Vec::new());
    let mut lines = Vec::new();
    let addresses = [0, 1].map(|_| Partition::new(&edges.v4, &[], &mut lines));
    let probes = edges.probes();
    let built = classifier(lines, addresses, Vec::new());
    let pairs = probes.iter().zip(probes.iter().rev());
    let keys: Vec<Key> = pairs.map(|(&src, &dst)| key(Family::V4, src.into(), dst.into())).collect();
    check_intervals("placed", [&edges; 2], &built, &keys, &[LANES]);
}

#[test]
fn tables_of_every_size_agree() {
    for (name, count, step, crowd) in [
        ("a node", 30, 2_000, 0),
        ("the smallest table", 31, 2_000, 0),
        ("a few hundred elements", 1_000, 60, 0),
        ("a table behind it", 1_000, 60, 100),
        ("three tables", 100, 600, 31),
        ("thousands of elements", 5_000, 13, 64),
        ("an edge for every other address", 32_768, 2, 64),
        ("every address", 65_536, 1, 0),
    ] {
        let deep = block(0x0a01, 0, count, step).chain(block(0x0a01, 0x3ff0, crowd, 1));
        let all = deep.chain(block(0x0a00, 0xfff0, 10, 1)).chain(block(0x0a02, 0, 40, 1)).chain([7, u32::MAX]);
        let edges = Edges::new(all.collect(), Vec::new());
        let shallow = Edges::new(edges.v4.iter().copied().step_by(100).collect(), Vec::new());
        let mut lines = Vec::new();
        let addresses = [&edges, &shallow].map(|edges| Partition::new(&edges.v4, &[], &mut lines));
        let built = classifier(lines, addresses, Vec::new());
        let dice = &mut Dice(u64::from(count));
        let probes = edges.probes();
        let some = probes.iter().step_by(1 + probes.len() / 5_000);
        let keys: Vec<Key> = some.map(|&src| key(Family::V4, src.into(), u128::from(*dice.pick(&probes)))).collect();
        check_intervals(name, [&edges, &shallow], &built, &keys, &[LANES, 33]);
    }
}

/// Intervals of each side: the upper eight bits of an address.
const INTERVALS: u32 = 256;

/// An entry that is filed under one interval of a side: ranges of the other side's intervals, of ports and of protocols.
#[derive(Clone)]
struct Filed {
    id: u32,
    under: (usize, u32),
    other: (u32, u32),
    ports: [(u32, u32); 2],
    protocols: (u32, u32),
}

impl Filed {
    fn record(&self) -> Record {
        let address = (self.other != (0, INTERVALS - 1)).then_some(self.other);
        Record { address, ports: self.ports, protocols: self.protocols, id: self.id }
    }

    fn holds(&self, key: &Key) -> bool {
        let ends = [key.src, key.dst].map(|address| address as u32 >> 24);
        let (side, interval) = self.under;
        let is_in = |(first, last): (u32, u32), number: u32| first <= number && number <= last;
        let ports =
            [key.sport, key.dport].map(|port| if key.has(KeyBits::L4) { u32::from(port) } else { WITHOUT_PORTS });
        ends[side] == interval
            && is_in(self.other, ends[1 - side])
            && is_in(self.ports[0], ports[0])
            && is_in(self.ports[1], ports[1])
            && is_in(self.protocols, u32::from(key.protocol))
    }
}

const ANY_PORT: (u32, u32) = (0, WITHOUT_PORTS);

/// Lists of these lengths in turn under the intervals of a side, entries of both sides shuffled into each other.
fn filed(lengths: [&[usize]; 2], least_id: u32, dice: &mut Dice) -> Vec<Filed> {
    let mut all = Vec::new();
    for (side, lengths) in lengths.iter().enumerate() {
        for (interval, &length) in (0..INTERVALS).zip(lengths.iter().cycle()) {
            for at in 0..length {
                let first = dice.below(256) as u32;
                let narrow = [(first, first), (first, (first + 60).min(255)), (first, 255)];
                // The last of a long list holds much, the others little, so that lists are walked to their ends.
                let is_last = at + 1 == length && length > 1;
                let other = if is_last { *dice.pick(&[(0, 255), (0, 127)]) } else { *dice.pick(&narrow) };
                let port =
                    |dice: &mut Dice| *dice.pick(&[ANY_PORT, (80, 80), (0, 1_023), (1_024, 65_535), (0, 65_535)]);
                let protocols = *dice.pick(&[(0, 511), (6, 6), (17, 17), (0, 6)]);
                let ports = if is_last { [ANY_PORT, port(dice)] } else { [port(dice), port(dice)] };
                let shuffled = dice.next();
                all.push((shuffled, Filed { id: 0, under: (side, interval), other, ports, protocols }));
            }
        }
    }
    all.sort_by_key(|(shuffled, _)| *shuffled);
    let numbered = all.into_iter().zip(least_id..);
    numbered.map(|((_, filed), id)| Filed { id, ..filed }).collect()
}

/// Broad entries by pair of classes, [`NONE`] where there is none: the class of an interval is its lowest bit.
type Broad = [u32; 4];

/// Puts a list into memory. Answers are entries themselves, or places in `ids`; leaves have bases if there may be so many intervals.
fn list(lines: &mut Vec<Line>, filed: &[Filed], broad: Broad, by_ids: bool, intervals: u32) -> Split {
    let mut leaves = Leaves::new([INTERVALS, intervals]);
    let sides = [0, 1].map(|side| {
        let intervals: Vec<(u32, Option<List>)> = (0..INTERVALS)
            .map(|interval| {
                let here = || filed.iter().filter(|filed| filed.under == (side, interval));
                let parts = here().fold(0, |parts, filed| parts | List::parts(filed.other, INTERVALS));
                (interval & 1, leaves.list(here().map(Filed::record)).map(|first| List { first, parts }))
            })
            .collect();
        Side::put(lines, &intervals, INTERVALS).unwrap()
    });
    let answer = |at: u32| match (by_ids, broad[at as usize]) {
        (_, NONE) => 0,
        (true, _) => at as u16 + 1,
        (false, id) => id as u16 + 1,
    };
    let answers: Vec<u16> = (0..4).map(answer).chain([0]).collect();
    let ids: Vec<u32> = [NONE].into_iter().chain(broad).collect();
    let cross = Cross {
        width: 2,
        pairs: Table::put(lines, &[0u32, 1, 2, 3]),
        answers: Table::put(lines, &answers),
        ids: Table::put(lines, if by_ids { &ids } else { &[] }),
        ..Cross::default()
    };
    Split { sides, leaves: leaves.put(lines), is_wide: leaves.is_wide(), records: leaves.records(), cross }
}

fn linear(filed: &[Filed], broad: Broad, key: &Key) -> u32 {
    let [src, dst] = [key.src, key.dst].map(|address| address as u32 >> 24 & 1);
    let found = filed.iter().find(|filed| filed.holds(key)).map_or(NONE, |filed| filed.id);
    found.min(broad[(src << 1 | dst) as usize])
}

/// Lengths of lists: none, one, two, and one less and more than a vector has lanes and twice as many.
const LENGTHS: &[usize] = &[0, 1, 2, 15, 16, 17, 33, 1, 0, 3];

/// Name, lengths of lists by side, least number of a filed entry, broad entries, whether answers are places.
type Case = (&'static str, [&'static [usize]; 2], u32, Broad, bool);

/// One list, under the last interval.
const ONE: &[usize] = &{
    let mut lengths = [0; INTERVALS as usize];
    lengths[INTERVALS as usize - 1] = 17;
    lengths
};

#[test]
fn lists_of_every_length_end_with_their_last_record_on_sides_with_and_without() {
    let dice = &mut Dice(3);
    let none = [NONE; 4];
    let cases: [Case; 9] = [
        ("both sides", [LENGTHS, LENGTHS], 1, [NONE, 0, 700, 2_000], false),
        ("sources", [LENGTHS, &[0]], 0, none, false),
        ("destinations", [&[0], LENGTHS], 0, [NONE, 65_534, 9, NONE], false),
        ("one each", [&[1], &[1]], 0, [NONE, NONE, 100, 65_534], false),
        ("long", [&[33], &[0, 33]], 60_000, none, false),
        ("one in all", [ONE, &[0]], 5, none, false),
        ("beyond 16 bits", [LENGTHS, LENGTHS], 65_000, [65_535, 66_000, NONE, 1 << 31], true),
        ("by place", [&[0, 2], &[2, 0]], 70_000, [70_100, NONE, 0, 70_000], true),
        ("no lists", [&[0], &[0]], 0, [0, 1, 65_534, NONE], false),
    ];
    let mut lines = Vec::new();
    let edges = Edges::new((1..INTERVALS).map(|interval| interval << 24).collect(), Vec::new());
    let addresses = [0, 1].map(|_| Partition::new(&edges.v4, &[], &mut lines));
    let all: Vec<Vec<Filed>> = cases.iter().map(|case| filed(case.1, case.2, dice)).collect();
    // Each case twice: with leaves that have no bases, and with wide ones.
    let cases = [cases.as_slice(), &cases].concat();
    let all = [all.as_slice(), &all].concat();
    let put = |(at, (case, filed)): (usize, (&Case, &Vec<Filed>))| {
        let intervals = if at < cases.len() / 2 { 1 << 16 } else { (1 << 16) + 1 };
        list(&mut lines, filed, case.3, case.4, intervals)
    };
    let splits: Vec<Split> = cases.iter().zip(&all).enumerate().map(put).collect();
    assert_eq!(splits.iter().filter(|split| split.is_wide).count(), cases.len() / 2);
    let built = classifier(lines, addresses, splits);
    let mut keys: Vec<Key> = (0..3_000)
        .map(|_| {
            let end = |dice: &mut Dice| u128::from(dice.next() as u32);
            let port = |dice: &mut Dice| *dice.pick(&[0, 79, 80, 81, 1_023, 1_024, 65_535]);
            Key {
                sport: port(dice),
                dport: port(dice),
                protocol: *dice.pick(&[6, 6, 17, 7, 255]),
                bits: KeyBits(*dice.pick(&[KeyBits::L4, KeyBits::L4, KeyBits::L4, 0])),
                ..key(Family::V4, end(dice), end(dice))
            }
        })
        .collect();
    // The same packet in all lanes: all lists go on for as long.
    keys.extend((0..INTERVALS).rev().take(40).flat_map(|interval| {
        let address = u128::from(interval << 24);
        [key(Family::V4, address, address); 17]
    }));
    let expected = |(case, filed): (&Case, &Vec<Filed>)| -> Vec<u32> {
        keys.iter().map(|key| linear(filed, case.3, key)).collect()
    };
    let expected: Vec<Vec<u32>> = cases.iter().zip(&all).map(expected).collect();
    for level in Level::all() {
        let built = built.clone().with_level(level);
        // Kept over all lists, as the packet line does: what one leaves means nothing to the next.
        let (mut headers, mut found) = (Headers::default(), Found::default());
        for most in [LANES, 1, 15, 16, 17, 33] {
            for ((scope, case), expected) in (0..).zip(&cases).zip(&expected) {
                for (keys, expected) in keys.chunks(most).zip(expected.chunks(most)) {
                    built.headers(keys, &mut headers);
                    built.first_of_each(&headers, scope, &mut found);
                    let context = || format!("{}: {}, bursts of {most}", case.0, level.name());
                    assert_eq!(&found.entries()[..keys.len()], expected, "{}", context());
                }
            }
        }
        for ((scope, case), expected) in (0..).zip(&cases).zip(&expected) {
            for (key, &expected) in keys.iter().zip(expected) {
                let alone = built.first(built.header(key), scope, 0).unwrap_or(NONE);
                assert_eq!(alone, expected, "{}: {} alone {key:?}", case.0, level.name());
            }
        }
    }
    let hits = expected.iter().flatten().filter(|found| **found != NONE).count();
    let misses = expected.len() * keys.len() - hits;
    assert!(hits > 5_000 && misses > 5_000, "{hits} hits, {misses} misses");
}
