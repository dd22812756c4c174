//! Records of a list in, its leaves out; a leaf and a packet in, the first record that holds the packet out.
//!
//! A leaf is one cache line with three records of a list, all that a test needs and the answer; lists are mostly one leaf.
//!
//! ```text
//!  0                       24                      48     52     56     60     64
//!  | lows 0 | lows 1 | lows 2 | spans 0 | 1 | 2    | id 0 | id 1 | id 2 | last |
//!
//! lows, spans, 16 bits each, from the lowest:  other address, source port, destination port, kind
//! kind of a packet:                            family << 9 | protocol << 1 | has no ports
//! other address of a packet:                   its interval on the other side
//! last:                                        the highest id of the leaf if the list goes on behind it, else the highest number
//! ```
//! A record holds a packet if in each of its four lanes `number - low <= span`, without sign and wrapping: one subtraction, one
//! minimum and one comparison test all lanes of all records at once on any vector unit. A packet without ports has ports 0 and its
//! own kind, so that it matches where any port does and nowhere else.
//!
//! Where a side has more than 65,536 intervals, leaves are *wide*:
//!
//! ```text
//! other address of a packet:                   its interval - base, 0xffff if that is more or below 0
//! last:                                        base, the list ends with this leaf 31 (highest)
//! ```
//! 16 bits are enough for millions of intervals, because the records of one list lie close together or hold any address at all:
//! those whose intervals have no place within 65,535 of each other go to different leaves, and what is wider is cut.

use super::arena::{Line, Table};
use super::header::{LANES, WITHOUT_PORTS};

/// Records of a leaf.
pub(super) const RECORDS: usize = 3;

/// Intervals from its base that a leaf tells apart; the one number above stands for all others.
const WINDOW: u32 = 0xffff;

/// Intervals that leaves without a base tell apart.
const NEAR: u32 = 1 << 16;

/// In the last word of a wide leaf: it is the last of its list.
const LAST: u32 = 1 << 31;

/// One entry on a list, or a part of it: inclusive ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Intervals of the other side; `None` holds every address.
    pub address: Option<(u32, u32)>,
    /// Source ports, destination ports; those that reach to [`WITHOUT_PORTS`] are any.
    pub ports: [(u32, u32); 2],
    /// Protocols by family and number.
    pub protocols: (u32, u32),
    /// Number of the entry.
    pub id: u32,
}

/// What a record is in a leaf but for its address: lows and spans of the three upper lanes, the lowest lane empty.
type Lanes = (u64, u64);

impl Record {
    /// How many records of a leaf it takes to hold what this does.
    pub fn parts(&self) -> usize {
        let windows = self.address.map_or(1, |(first, last)| (last - first) / WINDOW + 1) as usize;
        windows * self.kinds().count()
    }

    /// Ranges of kinds. Those of packets without ports lie between those of two protocols: they may be in the range where any port
    /// does, and where ports from 1 on keep them out. With ports from 0 on, each protocol has its own range.
    fn kinds(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let (first, last) = self.protocols;
        let is_one =
            self.ports.iter().all(|ports| ports.1 >= WITHOUT_PORTS) || self.ports.iter().any(|ports| ports.0 > 0);
        let step = if is_one { (last - first) as usize + 1 } else { 1 };
        (first..=last)
            .step_by(step)
            .map(move |from| if is_one { (2 * first, 2 * last + 1) } else { (2 * from, 2 * from) })
    }

    fn lanes(&self) -> impl Iterator<Item = Lanes> + use<> {
        let ports = self.ports.map(|(first, last)| (first, last.min(WITHOUT_PORTS - 1)));
        self.kinds().map(move |kinds| {
            let ranges = [ports[0], ports[1], kinds];
            let lane = |at: usize, number: u32| u64::from(number) << (16 * (at + 1));
            let lows = ranges.iter().enumerate().map(|(at, range)| lane(at, range.0)).sum();
            let spans = ranges.iter().enumerate().map(|(at, range)| lane(at, range.1 - range.0)).sum();
            (lows, spans)
        })
    }

    /// Ranges of intervals that a leaf can hold.
    fn windows(&self) -> impl Iterator<Item = Option<(u32, u32)>> + use<> {
        let (first, last) = self.address.unwrap_or_default();
        let is_any = self.address.is_none();
        (first..=last)
            .step_by(WINDOW as usize)
            .map(move |from| (!is_any).then(|| (from, last.min(from.saturating_add(WINDOW - 1)))))
    }
}

/// Three records, see the drawing of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Leaf([u64; 8]);

const _: () = assert!(size_of::<Leaf>() == 64);

/// Words of 32 bits: the first number of an entry, and the last of all.
const IDS: usize = 12;
const LAST_WORD: usize = IDS + RECORDS;

impl Leaf {
    /// A leaf that holds nobody: no packet has this kind.
    const EMPTY: Leaf = Leaf([u64::MAX, u64::MAX, u64::MAX, 0, 0, 0, u64::MAX, u32::MAX as u64]);

    /// Lanes of 16 bits whose first three words are the lows.
    #[inline(always)]
    pub(super) fn lows(&self) -> &[u64; 4] {
        self.0.first_chunk().unwrap_or(&[0; 4])
    }

    /// Lanes of 16 bits whose first three words are the spans.
    #[inline(always)]
    pub(super) fn spans(&self) -> &[u64; 4] {
        self.0[3..].first_chunk().unwrap_or(&[0; 4])
    }

    #[inline(always)]
    fn words(&self) -> &[u32; 16] {
        bytemuck::cast_ref(&self.0)
    }

    fn words_mut(&mut self) -> &mut [u32; 16] {
        bytemuck::cast_mut(&mut self.0)
    }

    /// The lowest lane of a packet with this interval on the other side, in a wide leaf.
    #[inline(always)]
    pub(super) fn address(&self, interval: u32) -> u64 {
        u64::from(interval.wrapping_sub(self.words()[LAST_WORD] & !LAST).min(WINDOW))
    }

    /// The number of a record's entry; of the one behind the last some number.
    #[inline(always)]
    pub(super) fn id(&self, record: usize) -> u32 {
        self.words()[IDS + record % (RECORDS + 1)]
    }

    /// Whether the list goes on, with entries that may be below this one.
    #[inline(always)]
    pub(super) fn goes_on_below<const IS_WIDE: bool>(&self, entry: u32) -> bool {
        let last = self.words()[LAST_WORD];
        if IS_WIDE { (last & LAST == 0) & (self.id(RECORDS - 1) < entry) } else { last < entry }
    }
}

/// Leaves of many lists under construction. Control line only.
#[derive(Debug)]
pub struct Leaves {
    leaves: Vec<Leaf>,
    records: usize,
    is_wide: bool,
}

/// The leaf that is being filled.
struct Filling {
    leaf: Leaf,
    taken: usize,
    /// The lowest and highest interval of its records that do not hold every address.
    bounds: Option<(u32, u32)>,
    /// Where each record begins, if it does not hold every address.
    firsts: [Option<u32>; RECORDS],
}

impl Filling {
    const EMPTY: Filling = Filling { leaf: Leaf::EMPTY, taken: 0, bounds: None, firsts: [None; RECORDS] };

    fn bounds_with(&self, window: Option<(u32, u32)>) -> Option<(u32, u32)> {
        match (self.bounds, window) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        }
    }

    fn has_room(&self, window: Option<(u32, u32)>, is_wide: bool) -> bool {
        let is_near = |(first, last): (u32, u32)| !is_wide || last - first < WINDOW;
        self.taken < RECORDS && self.bounds_with(window).is_none_or(is_near)
    }

    fn add(&mut self, window: Option<(u32, u32)>, (lows, spans): Lanes, id: u32) {
        let span = window.map_or(WINDOW, |(first, last)| last - first);
        self.bounds = self.bounds_with(window);
        self.firsts[self.taken] = window.map(|window| window.0);
        self.leaf.0[self.taken] = lows;
        self.leaf.0[RECORDS + self.taken] = spans | u64::from(span);
        // What is not taken has the highest number, too.
        self.leaf.words_mut()[IDS + self.taken..LAST_WORD].fill(id);
        self.taken += 1;
    }

    /// The leaf as one behind which its list goes on.
    fn end(mut self, is_wide: bool) -> Leaf {
        let base = if is_wide { self.bounds.map_or(0, |bounds| bounds.0) } else { 0 };
        for (lows, first) in self.leaf.0.iter_mut().zip(self.firsts) {
            *lows |= first.map_or(0, |first| u64::from(first - base));
        }
        let highest = self.leaf.id(RECORDS - 1);
        self.leaf.words_mut()[LAST_WORD] = if is_wide { base } else { highest };
        self.leaf
    }
}

impl Leaves {
    /// Leaves that all lists of one scope may have: a number of them and one more leave seven bits for a packet and its side.
    pub const MOST: usize = ((1 << 32) / (2 * LANES)) - 1;

    /// For lists whose sides have so many intervals.
    pub fn new(intervals: [u32; 2]) -> Leaves {
        Leaves { leaves: Vec::new(), records: 0, is_wide: intervals.iter().any(|&count| count > NEAR) }
    }

    /// Puts a list at the end, its records in ascending order of their entries; returns its first leaf. `None` for a list without
    /// records.
    pub fn list(&mut self, records: impl IntoIterator<Item = Record>) -> Option<u32> {
        let first = self.leaves.len();
        let mut filling = Filling::EMPTY;
        for record in records {
            for window in record.windows() {
                for lanes in record.lanes() {
                    if !filling.has_room(window, self.is_wide) {
                        self.leaves.push(std::mem::replace(&mut filling, Filling::EMPTY).end(self.is_wide));
                    }
                    filling.add(window, lanes, record.id);
                    self.records += 1;
                }
            }
        }
        if filling.taken > 0 {
            self.leaves.push(filling.end(self.is_wide));
        }
        let last = &mut self.leaves.get_mut(first..)?.last_mut()?.words_mut()[LAST_WORD];
        *last = if self.is_wide { *last | LAST } else { u32::MAX };
        Some(first as u32)
    }

    /// Whether leaves have bases.
    pub fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// Leaves so far.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Records so far.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Puts them into memory.
    pub fn put(&self, lines: &mut Vec<Line>) -> Table<Leaf> {
        Table::put(lines, &self.leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::wide::Level;
    use crate::engine::program::isa::{Isa, Scalar};

    /// Interval of the other side, source port, destination port, protocol, whether there are ports.
    type Packet = (u32, u32, u32, u32, bool);

    fn holds(record: &Record, &(interval, sport, dport, protocol, has_ports): &Packet) -> bool {
        let is_in = |(first, last): (u32, u32), number: u32| first <= number && number <= last;
        let ports = [sport, dport].map(|port| if has_ports { port } else { WITHOUT_PORTS });
        record.address.is_none_or(|address| is_in(address, interval))
            && is_in(record.ports[0], ports[0])
            && is_in(record.ports[1], ports[1])
            && is_in(record.protocols, protocol)
    }

    /// Walks a list as a look-up does.
    fn walk(isa: impl Isa, leaves: &Leaves, first: u32, packet: &Packet, bound: u32) -> u32 {
        let &(interval, sport, dport, protocol, has_ports) = packet;
        let kind = u64::from(protocol << 1 | u32::from(!has_ports)) << 48;
        let [sport, dport] = [sport, dport].map(|port| if has_ports { u64::from(port) } else { 0 });
        let mut at = first as usize;
        loop {
            let leaf = &leaves.leaves[at];
            let address = if leaves.is_wide { leaf.address(interval) } else { u64::from(interval) };
            let record = isa.first_record(leaf, address | sport << 16 | dport << 32 | kind);
            let goes_on =
                if leaves.is_wide { leaf.goes_on_below::<true>(bound) } else { leaf.goes_on_below::<false>(bound) };
            match record {
                RECORDS if goes_on => at += 1,
                RECORDS => return u32::MAX,
                record => return leaf.id(record),
            }
        }
    }

    #[test]
    fn lists_say_what_their_records_do_however_far_apart_their_intervals_lie() {
        let mut state = 7u64;
        let mut dice = move |end: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32 % end
        };
        let port = |dice: &mut dyn FnMut(u32) -> u32| match dice(5) {
            0 => (80, 80),
            1 => (0, 1_023),
            2 => (1_024, 65_535),
            3 => (0, 65_535),
            _ => (0, WITHOUT_PORTS),
        };
        for intervals in [200, 65_536, 65_537, 300_000] {
            let mut hits = 0;
            for length in (0..40).chain([100]) {
                let records: Vec<Record> = (0..length)
                    .map(|id| {
                        let first = dice(intervals);
                        let span = match dice(4) {
                            0 => 0,
                            1 => dice(10),
                            2 => dice(70_000),
                            _ => intervals,
                        };
                        let address = (first, first.saturating_add(span).min(intervals - 1));
                        let protocol = [1, 6, 17, 300][dice(4) as usize];
                        let any = [(0, 511), (0, 255), (256, 511)][dice(3) as usize];
                        Record {
                            address: (dice(6) > 0).then_some(address),
                            ports: [port(&mut dice), port(&mut dice)],
                            protocols: if dice(3) > 0 { (protocol, protocol) } else { any },
                            id: 10 + id * 3,
                        }
                    })
                    .collect();
                let mut leaves = Leaves::new([intervals, 1]);
                assert_eq!(leaves.is_wide(), intervals > 65_536);
                // Something before and behind, so that ends are seen.
                let other = Record { address: None, ports: [(0, WITHOUT_PORTS); 2], protocols: (0, 511), id: 1 };
                leaves.list([other]);
                let first = leaves.list(records.iter().copied());
                leaves.list([other]);
                assert_eq!(first.is_none(), records.is_empty());
                let Some(first) = first else { continue };
                let parts: usize = records.iter().map(Record::parts).sum();
                assert!(leaves.records() == parts + 2 || !leaves.is_wide(), "{} {parts}", leaves.records());
                for _ in 0..300 {
                    let edge = records[dice(length) as usize].address.unwrap_or((0, intervals - 1));
                    let near =
                        [edge.0, edge.1, edge.0.saturating_sub(1), edge.1 + 1, dice(intervals)][dice(5) as usize];
                    let packet: Packet = (
                        near.min(intervals - 1),
                        [0, 79, 80, 81, 1_023, 1_024, 65_535][dice(7) as usize],
                        [0, 79, 80, 81, 1_023, 1_024, 65_535][dice(7) as usize],
                        [1, 6, 17, 300, 0, 511][dice(6) as usize],
                        dice(4) > 0,
                    );
                    let expected =
                        records.iter().find(|record| holds(record, &packet)).map_or(u32::MAX, |record| record.id);
                    hits += u32::from(expected != u32::MAX);
                    for level in Level::all() {
                        let found = |bound: u32| match level {
                            Level::Scalar => walk(Scalar, &leaves, first, &packet, bound),
                            Level::Avx2(v3) => walk(v3, &leaves, first, &packet, bound),
                            Level::Avx512(v4) => walk(v4, &leaves, first, &packet, bound),
                        };
                        assert_eq!(found(u32::MAX), expected, "{intervals} {records:?} {packet:?} {}", level.name());
                        // What lies above a bound need not be found, what lies below it must.
                        let bound = 10 + dice(3 * length + 3);
                        let below = |entry: u32| if entry < bound { entry } else { u32::MAX };
                        assert_eq!(below(found(bound)), below(expected), "{intervals} {packet:?} below {bound}");
                    }
                }
            }
            assert!(hits > 2_000, "{hits}");
        }
    }
}
