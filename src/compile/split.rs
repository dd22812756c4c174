//! One long list in, its entries filed under their rarer address out.
//!
//! Which entries are broad, so that they go into the cross product instead, is tried out: entries are ordered by the share of the
//! packets that would meet them where they would be filed, and ever more of them, from the top, are taken to be broad. More broad
//! entries mean fewer records to test and larger tables to miss the cache in; the estimate in nanoseconds decides. After a few
//! small tries the growth of tables and steps foretells what more entries would come to: tried next is what promises the fastest
//! look-up for steps that are left, which may be all entries at once. Where that had no room, fewer are tried. Trying ends when
//! nothing promises enough.

use super::cross::{Built, cross};
use super::cut::{Effort, Numbering, OPEN, Sets, Spans, classes};
use crate::engine::program::arena::Line;
use crate::engine::program::classifier::Shape;
use crate::engine::program::leaf::{Leaf, Leaves, Record};
use crate::engine::program::split::{List, Side, Split};

/// Every dimension of every entry.
#[derive(Debug)]
pub struct Dimensions {
    /// Sources by interval.
    pub src: Sets,
    /// Destinations by interval.
    pub dst: Sets,
    /// Source ports.
    pub sport: Sets,
    /// Destination ports.
    pub dport: Sets,
    /// Protocols by family and number.
    pub protocol: Sets,
    /// Classes of source and destination ports over all entries.
    pub port_classes: [Numbering; 2],
    /// Classes of protocols.
    pub protocol_classes: Numbering,
    /// First IPv6 interval of sources, of destinations.
    pub v6: [u32; 2],
}

/// Most records that one entry may take on a list.
const MOST_RECORDS: usize = 16;

/// What a look-up costs, measured on a machine with AVX-512 and 2 MiB of second-level cache, in nanoseconds: the header with the
/// loads of both sides, the additions of the cross product, lists at all, and each test of a record.
const HEADER_NS: f64 = 3.3;
const CROSS_NS: f64 = 1.5;
const LISTS_NS: f64 = 2.2;
const TEST_NS: f64 = 0.8;

/// What a try must promise at least, unless it takes no more than one part in so many of the steps that are left.
const LEAST_GAIN_NS: f64 = 0.1;
const CHEAP: f64 = 12.0;

/// What a load that is asked for in time costs from a table of so many bytes: nothing beyond the instruction from the first cache,
/// then a little more with each doubling of the table, more beyond the second cache, and much more beyond the last.
fn load_ns(bytes: f64) -> f64 {
    const FIRST: f64 = (16 << 10) as f64;
    const SECOND: f64 = (1 << 20) as f64;
    const LAST: f64 = (16 << 20) as f64;
    let cached = (bytes.min(SECOND) / FIRST).max(1.0).log2() * 0.25;
    let shared = (bytes.min(LAST) / SECOND).max(1.0).log2() * 0.75;
    let beyond = (bytes / LAST).max(1.0).log2() * 2.0;
    cached + shared + beyond.min(7.0)
}

/// Bytes that the cross product of a list may take: half a kilobyte an entry, which is what more broad entries are worth.
fn room(entries: usize) -> usize {
    (entries * 512).clamp(1280 << 10, 6 << 20)
}

/// Steps that building one list may take: some ten milliseconds for a thousand entries, some tens for ten thousand, and no more
/// than a quarter of a second.
fn steps(entries: usize) -> u64 {
    ((14 << 20) + entries as u64 * 4_600).min(220 << 20)
}

/// Steps that filing the entries of one list may take: it must not fail for a division that is found to be best.
const FILING_STEPS: u64 = 24 << 20;

/// What one try has shown: so many broad entries took so many steps to tables of these bytes.
#[derive(Clone, Copy)]
struct Try {
    entries: f64,
    steps: f64,
    bytes: [f64; 4],
}

impl Try {
    /// What a look-up in the tables costs.
    fn ns(&self) -> f64 {
        CROSS_NS + self.bytes.iter().map(|&bytes| load_ns(bytes)).sum::<f64>()
    }
}

/// How steps and tables of a cross product grow with its entries: about as a power of their number, that of the last two tries.
#[derive(Default)]
struct Growth {
    last: Option<Try>,
    before: Option<Try>,
}

impl Growth {
    /// How far a power is trusted: to so many times the entries of the last try, and farther while entries are few. Where it was
    /// won within that reach, it is trusted twice as far for all entries.
    const REACH: f64 = 2.1;
    const FEW: f64 = 256.0;
    /// Steps may come to be so many times those foreseen; from farther away.
    const CAUTION: f64 = 1.4;
    const MORE_CAUTION: f64 = 2.0;
    /// Answers grow at least by this power in the end: it is less at first, where rows begin to be cut into chunks.
    const LEAST_OF_ANSWERS: f64 = 1.5;

    fn add(&mut self, tried: Try) {
        self.before = self.last.replace(tried);
    }

    /// Whether so many entries are so near to the last try that a power is trusted.
    fn reaches(&self, entries: usize) -> bool {
        self.last.is_some_and(|last| entries as f64 <= (last.entries * Growth::REACH).max(Growth::FEW))
    }

    /// Whether so many entries, which are all, are near enough.
    fn reaches_all(&self, entries: usize) -> bool {
        let within = |from: Option<Try>, to: f64, reach: f64| from.is_some_and(|from| to <= from.entries * reach);
        let was_near = self.last.is_some_and(|last| within(self.before, last.entries, Growth::REACH));
        was_near && within(self.last, entries as f64, 2.0 * Growth::REACH)
    }

    /// The steps that there should be before a try that is foreseen to take `steps` is begun.
    fn with_caution(&self, entries: usize, steps: f64) -> f64 {
        steps * if self.reaches(entries) { Growth::CAUTION } else { Growth::MORE_CAUTION }
    }

    /// What trying so many entries should show; `None` if there is nothing to judge by.
    fn foresee(&self, entries: usize) -> Option<Try> {
        let (last, before) = (self.last?, self.before.filter(|before| before.entries >= 1.0)?);
        let entries = entries as f64;
        let grown = |now: f64, then: f64, least: f64| {
            let power = ((now.max(1.0) / then.max(1.0)).ln() / (last.entries / before.entries).ln()).max(least);
            (entries / last.entries).powf(power)
        };
        let [ports, pairs, chunks, answers] = last.bytes;
        let answers_grown = grown(chunks + answers, before.bytes[2] + before.bytes[3], Growth::LEAST_OF_ANSWERS);
        let pairs_grown = grown(pairs, before.bytes[1], 1.0);
        let bytes = [ports, pairs * pairs_grown, chunks * answers_grown, answers * answers_grown];
        Some(Try { entries, steps: last.steps * grown(last.steps, before.steps, 1.0), bytes })
    }
}

/// How much of a list's traffic meets each set of one side, if every entry gets as much as any other.
struct Traffic {
    by_set: Vec<f64>,
    open: f64,
}

fn traffic(sets: &Sets, entries: &[u32]) -> Traffic {
    let universe = sets.universe as usize;
    let mut users = vec![0u32; sets.spans.len()];
    let mut open = 0u32;
    for &entry in entries {
        match sets.of[entry as usize] {
            OPEN => open += 1,
            set => users[set as usize] += 1,
        }
    }
    let breadth = |spans: &Spans| spans.iter().map(|s| f64::from(s.1 - s.0 + 1)).sum::<f64>();
    let mut density = vec![0f64; universe + 1];
    density[0] = f64::from(open) / universe as f64;
    for (spans, &users) in sets.spans.iter().zip(&users).filter(|(_, users)| **users > 0) {
        let share = f64::from(users) / breadth(spans);
        for &(first, last) in spans {
            density[first as usize] += share;
            density[last as usize + 1] -= share;
        }
    }
    // The sum up to and without each interval.
    let mut below = Vec::with_capacity(universe + 1);
    let (mut here, mut sum) = (0f64, 0f64);
    for change in density {
        below.push(sum);
        here += change;
        sum += here;
    }
    let total = below.last().copied().unwrap_or(0.0);
    let met = |spans: &Spans| spans.iter().map(|s| below[s.1 as usize + 1] - below[s.0 as usize]).sum();
    Traffic { by_set: sets.spans.iter().map(met).collect(), open: total }
}

impl Traffic {
    fn of(&self, set: u32) -> f64 {
        if set == OPEN { self.open } else { self.by_set[set as usize] }
    }
}

/// The ranges of a set; all there are for an open one.
fn spans_of<'s>(sets: &'s Sets, entry: u32, all: &'s [(u32, u32)]) -> &'s [(u32, u32)] {
    match sets.of[entry as usize] {
        OPEN => all,
        set => &sets.spans[set as usize],
    }
}

impl Dimensions {
    fn everything(&self) -> [[(u32, u32); 1]; 5] {
        [&self.src, &self.dst, &self.sport, &self.dport, &self.protocol].map(|sets| [(0, sets.universe - 1)])
    }

    /// Calls `each` with the records of an entry filed under a side.
    fn records(&self, entry: u32, under: usize, mut each: impl FnMut(Record)) {
        let [all_src, all_dst, all_sport, all_dport, all_protocol] = &self.everything();
        let addresses = [spans_of(&self.src, entry, all_src), spans_of(&self.dst, entry, all_dst)];
        let other = 1 - under;
        // A family in which either address has no member has no packets.
        let has = |side: usize| {
            let v6 = self.v6[side];
            [addresses[side].iter().any(|s| s.0 < v6), addresses[side].iter().any(|s| s.1 >= v6)]
        };
        let both = [has(0)[0] && has(1)[0], has(0)[1] && has(1)[1]];
        let [v4, v6] = self.families(other);
        for &protocols in spans_of(&self.protocol, entry, all_protocol) {
            let families = [protocols.0 < 256 && both[0], protocols.1 >= 256 && both[1]];
            for &(first, last) in addresses[other] {
                let holds = |family: (u32, u32)| first <= family.0 && last >= family.1;
                // The whole of a family is every address, where there are packets of that family only.
                let address = match families {
                    [false, false] => continue,
                    [true, false] if holds(v4) => None,
                    [false, true] if holds(v6) => None,
                    [true, true] if holds(v4) && holds(v6) => None,
                    _ => Some((first, last)),
                };
                for &sport in spans_of(&self.sport, entry, all_sport) {
                    for &dport in spans_of(&self.dport, entry, all_dport) {
                        each(Record { address, ports: [sport, dport], protocols, id: entry });
                    }
                }
            }
        }
    }

    /// The intervals of each family on a side.
    fn families(&self, side: usize) -> [(u32, u32); 2] {
        let universe = if side == 0 { self.src.universe } else { self.dst.universe };
        [(0, self.v6[side] - 1), (self.v6[side], universe - 1)]
    }

    /// How many records an entry takes under a side.
    fn record_count(&self, entry: u32, under: usize) -> usize {
        let mut count = 0;
        if self.spans_count(entry, under) > MOST_RECORDS {
            return MOST_RECORDS + 1;
        }
        self.records(entry, under, |record| count += record.parts());
        count
    }

    /// How many ways there are to combine the ranges of an entry filed under a side.
    fn spans_count(&self, entry: u32, under: usize) -> usize {
        let of = |sets: &Sets| match sets.of[entry as usize] {
            OPEN => 1,
            set => sets.spans[set as usize].len(),
        };
        let other = if under == 0 { &self.dst } else { &self.src };
        of(other) * of(&self.sport) * of(&self.dport) * of(&self.protocol)
    }
}

/// Where an entry is filed, and what share of the packets meets it there, times its records.
#[derive(Clone, Copy)]
struct Filing {
    under: usize,
    cost: f64,
}

/// One way to divide a list.
struct Division {
    broad: usize,
    built: Built,
    ns: f64,
}

/// Builds the structure for `entries`, ascending, within `memory` bytes, if a look-up in it takes less than `bound` nanoseconds by
/// the estimate. `None` if there is no such structure.
pub fn split(
    dims: &Dimensions,
    entries: &[u32],
    bound: f64,
    memory: usize,
    effort: &mut Effort,
    lines: &mut Vec<Line>,
) -> Option<(Split, Shape)> {
    let intervals = (dims.src.universe + dims.dst.universe) as usize;
    let sides = Side::most_bytes(intervals);
    let least = sides + entries.len().saturating_sub(usize::from(u16::MAX)) * size_of::<Leaf>();
    if least > memory {
        return None;
    }
    effort.spend(8 * (intervals + entries.len()))?;
    let mut part = effort.part(steps(entries.len()));
    let found = divided(dims, entries, bound, memory - sides, &mut part);
    effort.give_back(part);
    let (filings, best) = found?;

    let (broad, filed) = filings.split_at(best.broad);
    let mut part = effort.part(FILING_STEPS.max(steps(entries.len())));
    let mut leaves = Leaves::new([dims.src.universe, dims.dst.universe]);
    let most = ((memory - sides) / size_of::<Leaf>()).min(Leaves::MOST);
    let tables = [0, 1].map(|under| {
        let mut filed: Vec<u32> = filed.iter().filter(|(_, f)| f.under == under).map(|(entry, _)| *entry).collect();
        filed.sort_unstable();
        file(dims, &filed, under, &best.built.sides[under], &mut leaves, most, &mut part)
    });
    effort.give_back(part);
    let [Some(sources), Some(destinations)] = tables else { return None };
    let used = lines.len();
    let pairs = best.built.tables.pairs();
    let [src, dst] = [dims.src.universe, dims.dst.universe];
    let [Some(sources), Some(destinations)] =
        [(sources, dst), (destinations, src)].map(|(side, others)| Side::put(lines, &side, others))
    else {
        lines.truncate(used);
        return None;
    };
    let split = Split {
        sides: [sources, destinations],
        leaves: leaves.put(lines),
        is_wide: leaves.is_wide(),
        records: leaves.records(),
        cross: best.built.tables.put(lines),
    };
    let structure = match (broad.is_empty(), filed.is_empty()) {
        (_, true) => "cross-product",
        (true, false) => "filed",
        (false, false) => "filed+cross-product",
    };
    let shape = Shape {
        structure,
        lists: 1,
        entries: entries.len(),
        broad: broad.len(),
        records: leaves.records(),
        classes: pairs,
        bytes: split.bytes(),
        ns: best.ns,
    };
    if shape.bytes > memory {
        lines.truncate(used);
        return None;
    }
    Some((split, shape))
}

/// Tries how many entries to take for broad. Returns the entries, the broadest first, and the best division.
fn divided(
    dims: &Dimensions,
    entries: &[u32],
    bound: f64,
    memory: usize,
    effort: &mut Effort,
) -> Option<(Vec<(u32, Filing)>, Division)> {
    let traffics = [traffic(&dims.src, entries), traffic(&dims.dst, entries)];
    let mut filings: Vec<(u32, Filing)> = entries
        .iter()
        .map(|&entry| {
            let filing = |under: usize| {
                let sets = if under == 0 { &dims.src } else { &dims.dst };
                let met = traffics[under].of(sets.of[entry as usize]) / entries.len() as f64;
                let records = dims.record_count(entry, under);
                Filing { under, cost: if records > MOST_RECORDS { f64::INFINITY } else { met * records as f64 } }
            };
            let (src, dst) = (filing(0), filing(1));
            (entry, if src.cost <= dst.cost { src } else { dst })
        })
        .collect();
    filings.sort_by(|a, b| b.1.cost.total_cmp(&a.1.cost).then(a.0.cmp(&b.0)));
    // What is left to test when the first so many are broad.
    let mut tests = vec![0.0; filings.len() + 1];
    for (at, (_, filing)) in filings.iter().enumerate().rev() {
        tests[at] = tests[at + 1] + filing.cost;
    }
    let unlisted = filings.partition_point(|(_, filing)| filing.cost.is_infinite());
    let sides: usize = [&dims.src, &dims.dst].iter().map(|sets| Side::most_bytes(sets.universe as usize)).sum();
    let room = room(entries.len()).min(memory);
    let leaves_bytes = |broad: usize| (filings.len() - broad) * size_of::<Leaf>();
    // What a look-up costs with so many broad entries, where one in their cross product costs so much.
    let ns_with = |broad: usize, cross_ns: f64| {
        let lists_ns = if broad == filings.len() { 0.0 } else { LISTS_NS };
        let test_ns = TEST_NS + load_ns(leaves_bytes(broad) as f64);
        HEADER_NS + 2.0 * load_ns(sides as f64 / 2.0) + cross_ns + lists_ns + tests[broad] * test_ns
    };
    let mut best: Option<Division> = None;
    let mut growth = Growth::default();
    let (mut broad, mut most) = (unlisted, filings.len());
    loop {
        let left = effort.left();
        let ascending = {
            let mut ascending: Vec<u32> = filings[..broad].iter().map(|(entry, _)| *entry).collect();
            ascending.sort_unstable();
            ascending
        };
        let reached = match cross(dims, &ascending, room, effort) {
            Some(built) => {
                let bytes = built.tables.bytes();
                let steps = (left - effort.left()) as f64;
                let tried = Try { entries: broad as f64, steps, bytes: bytes.map(|bytes| bytes as f64) };
                growth.add(tried);
                let ns = ns_with(broad, tried.ns());
                if ns < best.as_ref().map_or(bound, |best| best.ns)
                    && bytes.iter().sum::<usize>() + leaves_bytes(broad) <= memory
                {
                    best = Some(Division { broad, built, ns });
                }
                broad
            }
            None => {
                // More would take more. Fewer are tried again from the last number that had room.
                let Some(last) = growth.last else { break };
                most = broad - 1;
                last.entries as usize
            }
        };
        let Some(last) = growth.last else { break };
        let most_ns = best.as_ref().map_or(bound, |best| best.ns);
        let (mut next, mut wanted, mut any) = (reached, None, None);
        while next < most && tests[next] > 0.0 {
            next = next_broad(&filings, next);
            if next > most {
                break;
            }
            let foreseen = growth.foresee(next);
            let steps = foreseen.map_or(0.0, |foreseen| growth.with_caution(next, foreseen.steps));
            // Tables do not shrink: what is not better with these is not better.
            if any.is_none() && ns_with(next, last.ns()) < most_ns && steps * CHEAP <= effort.left() as f64 {
                any = Some(next);
            }
            let Some(foreseen) = foreseen else {
                if any.is_some() {
                    break;
                }
                continue;
            };
            // All entries need no lists: that is worth a try from afar.
            if !growth.reaches(next) && (next < filings.len() || !growth.reaches_all(next)) {
                continue;
            }
            let ns = ns_with(next, foreseen.ns());
            if ns < wanted.map_or(most_ns, |(_, ns)| ns) - LEAST_GAIN_NS && steps <= effort.left() as f64 {
                wanted = Some((next, ns));
            }
        }
        match wanted.map(|(wanted, _)| wanted).or(any) {
            Some(next) => broad = next,
            None => break,
        }
    }
    best.map(|best| (filings, best))
}

/// How many broad entries to try after so many: three quarters as many again, and all that are as broad as the last of them; all,
/// if that is nearly all.
fn next_broad(filings: &[(u32, Filing)], broad: usize) -> usize {
    let wanted = broad + broad * 3 / 4 + 8;
    let wanted = if wanted >= filings.len() / 4 * 3 { filings.len() } else { wanted };
    let last = filings[wanted - 1].1.cost;
    let equal = filings.partition_point(|(_, filing)| filing.cost >= last);
    // Equal entries are many: a bound on the entries of a cross product applies to them too.
    if equal > 2 * wanted && wanted < filings.len() { wanted } else { equal }
}

/// Files entries, ascending, under one side; returns class and list of each interval. `cross` tells where the classes of the
/// cross product begin to hold. `None` if it takes more than so many leaves.
fn file(
    dims: &Dimensions,
    filed: &[u32],
    under: usize,
    cross: &[(u32, u32)],
    leaves: &mut Leaves,
    most: usize,
    effort: &mut Effort,
) -> Option<Vec<(u32, Option<List>)>> {
    let (sets, others) = if under == 0 { (&dims.src, &dims.dst) } else { (&dims.dst, &dims.src) };
    let others = others.universe;
    let mut having: Vec<Vec<u32>> = vec![Vec::new(); sets.spans.len()];
    let mut everywhere = Vec::new();
    for &entry in filed {
        match sets.of[entry as usize] {
            OPEN => everywhere.push(entry),
            set => having[set as usize].push(entry),
        }
    }
    let used = sets.named().filter(|(set, _)| !having[*set as usize].is_empty());
    let classes = classes(used, effort)?;
    let mut lists: Vec<Option<List>> = Vec::with_capacity(classes.members.len());
    for members in &classes.members {
        let all = members.iter().flat_map(|&set| &having[set as usize]).chain(&everywhere);
        let mut list: Vec<u32> = all.copied().collect();
        list.sort_unstable();
        let mut records = Vec::with_capacity(list.len());
        list.iter().for_each(|&entry| dims.records(entry, under, |record| records.push(record)));
        let parts = |record: &Record| record.address.map_or(u8::MAX, |address| List::parts(address, others));
        let parts = records.iter().fold(0, |all, record| all | parts(record));
        lists.push(leaves.list(records).map(|first| List { first, parts }));
        if leaves.len() > most {
            return None;
        }
    }
    let mut sides = Vec::with_capacity(sets.universe as usize);
    let mut at = 0;
    for (interval, class) in classes.numbers.table(sets.universe, |class| class).into_iter().enumerate() {
        while cross.get(at + 1).is_some_and(|next| next.0 as usize <= interval) {
            at += 1;
        }
        sides.push((cross[at].1, lists[class as usize]));
    }
    Some(sides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(entries: f64) -> Try {
        Try { entries, steps: 3.0 * entries.powi(2), bytes: [500.0, entries.powi(2), 0.0, 2.0 * entries.powf(2.5)] }
    }

    #[test]
    fn what_grows_as_a_power_is_foreseen_exactly() {
        let mut growth = Growth::default();
        assert!(growth.foresee(8).is_none());
        growth.add(tried(0.0));
        assert!(growth.foresee(8).is_none(), "nothing has grown yet");
        growth.add(tried(100.0));
        assert!(growth.foresee(175).is_none(), "from nothing there is no power");
        growth.add(tried(200.0));
        let (foreseen, expected) = (growth.foresee(700).unwrap(), tried(700.0));
        let is_near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.max(1.0);
        assert!(is_near(foreseen.steps, expected.steps), "{} steps", foreseen.steps);
        assert!(foreseen.bytes.iter().zip(expected.bytes).all(|(&a, b)| is_near(a, b)), "{:?}", foreseen.bytes);
        assert!(growth.reaches(420) && !growth.reaches(700));
        assert!(growth.reaches_all(800) && !growth.reaches_all(900));
        assert!(growth.with_caution(700, 1.0) > growth.with_caution(420, 1.0));
    }

    #[test]
    fn rows_that_were_cut_into_chunks_are_foreseen_to_grow_again() {
        let mut growth = Growth::default();
        growth.add(Try { bytes: [0.0, 1.0, 0.0, 200_000.0], ..tried(100.0) });
        growth.add(Try { bytes: [0.0, 1.0, 30_000.0, 50_000.0], ..tried(200.0) });
        let [.., chunks, answers] = growth.foresee(400).unwrap().bytes;
        assert!(chunks > 80_000.0 && answers > 140_000.0, "{chunks} {answers}");
    }
}
