//! Addresses in, the numbers of the intervals that hold them out: the cut that all address sets of one dimension make together.
//!
//! The edges of the sets cut the line of IPv4 addresses, and behind it that of IPv6 addresses, into intervals that are numbered
//! in ascending order. Because the numbers ascend with the addresses, a prefix or a range is again a range of numbers, so that
//! one comparison of two 32-bit numbers tells whether an address of either family lies in it.
//!
//! IPv4: a table for the upper 16 bits; where their block has more edges than a node takes, a table of a part of the lower 16, as many
//! bits as leave no more than a node's edges behind each element; then a node of one cache line.
//!
//! ```text
//! entry, 4 bytes:    | 0 | interval 31 |   or   | 10 | node 30 |   or   | 11 | shift 4 | table 26 |
//! node, 64 bytes:    | base 4 | 30 x u16   edges below this block, each less one, ascending; 0xffff where there is none |
//!
//! root[address >> 16] is an entry. What it says:
//!   interval  that is it
//!   node      interval = the node's base + number of its edges below the address
//!   table     next entry = tables[8 * table + (lower 16 bits of the address >> shift)]
//! ```
//! A table of a part of a block is written down as if it began where one of the whole block would, so that its elements are counted
//! from the block's first, too; the sum has 29 bits. Few blocks have crowds that need a second table behind the first.
//!
//! An edge of 0 is the block's own beginning and needs no place; less one, "at or above the edge" is "above what is stored", and
//! 0xffff is never below anything. Counting is one comparison of 32 lanes and has no branch. An entry with its base in the node is
//! half of one that holds both, so that the roots of both sides stay in the second cache at any size. A table that is as large as its
//! edges need leaves few nodes, and these nearly full: of the same edges over 256 elements most have a node of their own.
//!
//! IPv6: the upper 64 bits of the edges in a static search tree of nine branches a node (eight keys are one cache line), which has
//! the same depth for all; then the lower 64 bits of the edges that share the upper ones, which mostly is one.

use std::hint::select_unpredictable;

use super::arena::{Line, Table};
use super::isa::Isa;
use crate::base::address::Family;

/// Edges of an IPv4 node.
pub(super) const EDGES: usize = 30;
/// Keys of an IPv6 node.
const KEYS: usize = 8;
/// Bits of the smallest table.
const LEAST_BITS: u32 = 3;
/// Share of the edges of a table, one in so many, that may lie behind elements that need a second one.
const CROWDED: usize = 8;

/// A node of the IPv4 part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Node {
    pub(super) base: u32,
    pub(super) edges: [u16; EDGES],
}

const _: () = assert!(size_of::<Node>() == 64);

impl Node {
    pub(super) const EMPTY: Node = Node { base: 0, edges: [u16::MAX; EDGES] };

    fn new(base: u32, edges: &[u16]) -> Node {
        let mut node = Node { base, ..Node::EMPTY };
        for (lane, edge) in node.edges.iter_mut().zip(edges) {
            *lane = edge.wrapping_sub(1);
        }
        node
    }

    /// The base and how many edges lie below.
    #[inline(always)]
    pub(super) fn rank(&self, low: u16) -> u32 {
        // Signed comparison is what the plainest processor has for lanes, so both sides are moved by half the range.
        let low = (low ^ 1 << 15) as i16;
        let below: i16 = self.edges.iter().map(|&edge| i16::from(((edge ^ 1 << 15) as i16) < low)).sum();
        self.base + below as u32
    }
}

/// Where an address leads; see the drawing of the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub(super) struct Entry(pub(super) u32);

impl Entry {
    /// The least of each kind; those below are intervals.
    pub(super) const NODE: u32 = 2 << 30;
    pub(super) const TABLE: u32 = 3 << 30;
    /// Number of a node.
    pub(super) const NUMBER: u32 = (1 << 30) - 1;
    /// Where the shift of a table is.
    pub(super) const SHIFT: u32 = 26;
    /// Elements of a table are counted in 29 bits: two gigabytes, more than any budget.
    pub(super) const POSITION: u32 = (1 << (Entry::SHIFT + LEAST_BITS)) - 1;

    const fn node(number: usize) -> Entry {
        Entry(Entry::NODE | number as u32 & Entry::NUMBER)
    }

    /// A table whose first element is at a position, for addresses from `first` of its block on.
    const fn table(position: usize, first: u16, shift: u32) -> Entry {
        let number = (position as u32).wrapping_sub(first as u32 >> shift) >> LEAST_BITS;
        Entry(Entry::TABLE | shift << Entry::SHIFT | number & ((1 << Entry::SHIFT) - 1))
    }

    /// Where a table says what comes next for an address.
    #[inline(always)]
    pub(super) const fn position(self, address: u32) -> usize {
        let shift = self.0 >> Entry::SHIFT & 15;
        ((self.0 << LEAST_BITS).wrapping_add((address & 0xffff) >> shift) & Entry::POSITION) as usize
    }
}

/// Levels of the search tree over the upper halves of IPv6 edges: enough for 2^32 of them.
const LEVELS: usize = 12;

#[derive(Clone, Copy, Debug, Default)]
struct Upper {
    /// Nodes of all levels, the root first, the different upper halves last.
    keys: Table<[u64; KEYS]>,
    /// First node of each level.
    starts: [u32; LEVELS],
    levels: u32,
    /// Number of different upper halves.
    count: u32,
    /// By upper half: number of its first edge; one more at the end.
    first: Table<u32>,
    /// Lower halves of all edges.
    low: Table<u64>,
}

/// The intervals of one dimension: where its tables lie.
#[derive(Clone, Debug)]
pub struct Partition {
    root: Table<u32>,
    tables: Table<u32>,
    nodes: Table<Node>,
    upper: Upper,
    /// Number of the first IPv6 interval.
    v6: u32,
    intervals: u32,
}

/// The intervals of one dimension, ready to be asked.
#[derive(Clone, Copy)]
pub struct Intervals<'t> {
    pub(super) root: &'t [u32],
    pub(super) tables: &'t [u32],
    pub(super) nodes: &'t [Node],
    /// Where the tables of IPv6 lie, and in what: they are looked for when they are needed.
    upper: &'t Upper,
    lines: &'t [Line],
    v6: u32,
}

/// The IPv4 part under construction.
#[derive(Default)]
struct Builder {
    tables: Vec<u32>,
    nodes: Vec<Node>,
}

impl Partition {
    /// From the edges of each family: where an interval begins; ascending, without repeats, 0 is understood. The tables go to the
    /// end of `lines`. Control line only.
    pub fn new(v4: &[u32], v6: &[u128], lines: &mut Vec<Line>) -> Partition {
        let v4 = v4.strip_prefix(&[0]).unwrap_or(v4);
        let v6_first = v4.len() as u32 + 1;
        let mut builder = Builder::default();
        let mut root = Vec::with_capacity(1 << 16);
        let mut at = 0;
        for block in 0..=u16::MAX {
            let first = at;
            while v4.get(at).is_some_and(|edge| edge >> 16 == u32::from(block)) {
                at += 1;
            }
            let edges: Vec<u16> = v4[first..at].iter().map(|&edge| edge as u16).collect();
            root.push(builder.part(&edges, 0, 16, first as u32).0);
        }
        let upper = Upper::new(v6, lines);
        Partition {
            root: Table::put(lines, &root),
            tables: Table::put(lines, &builder.tables),
            nodes: Table::put(lines, &builder.nodes),
            upper,
            v6: v6_first,
            intervals: v6_first + upper.low.len() as u32,
        }
    }

    /// The tables in the memory they were put into.
    #[inline(always)]
    pub fn view<'t>(&'t self, lines: &'t [Line]) -> Intervals<'t> {
        Intervals {
            root: self.root.view(lines),
            tables: self.tables.view(lines),
            nodes: self.nodes.view(lines),
            upper: &self.upper,
            lines,
            v6: self.v6,
        }
    }

    /// Number of intervals of both families.
    pub fn intervals(&self) -> u32 {
        self.intervals
    }

    /// Number of the first IPv6 interval: those below are IPv4.
    pub fn v6(&self) -> u32 {
        self.v6
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let upper = &self.upper;
        let v6 = upper.keys.bytes() + upper.first.bytes() + upper.low.bytes();
        self.root.bytes() + self.tables.bytes() + self.nodes.bytes() + v6
    }
}

/// The edges without the first, if that is the beginning of their range, and how many those are that were left out: for every
/// address of the range it is behind.
fn begun(edges: &[u16], first: u16) -> (&[u16], u32) {
    edges.strip_prefix(&[first]).map_or((edges, 0), |rest| (rest, 1))
}

/// How many of the upper bits of a range of addresses, of 2^`bits`, its table takes: so many that hardly any edge lies behind an
/// element with more edges than a node has, as long as elements are not more than twice the edges.
fn table_bits(edges: &[u16], bits: u32) -> u32 {
    let crowded = |taken: u32| -> usize {
        let shift = bits - taken;
        let elements = edges.chunk_by(|a, b| a >> shift == b >> shift);
        elements.map(<[u16]>::len).filter(|&count| count > EDGES).sum()
    };
    let is_enough = |taken: u32| crowded(taken) * CROWDED <= edges.len() || edges.len() < 1 << taken;
    (LEAST_BITS..bits).find(|&taken| is_enough(taken)).unwrap_or(bits)
}

impl Builder {
    /// The entry of a part of a block, the 2^`bits` addresses from `first` on, with these edges. `base` is the interval of the address
    /// before its first.
    fn part(&mut self, edges: &[u16], first: u16, bits: u32, base: u32) -> Entry {
        let (inside, more) = begun(edges, first);
        match inside.len() {
            0 => return Entry(base + more),
            1..=EDGES => {
                self.nodes.push(Node::new(base + more, inside));
                return Entry::node(self.nodes.len() - 1);
            }
            _ => {}
        }
        let taken = table_bits(edges, bits);
        let (shift, table) = (bits - taken, self.tables.len());
        self.tables.resize(table + (1 << taken), 0);
        let mut at = 0;
        for element in 0..1u32 << taken {
            let begins = u32::from(first) + (element << shift);
            let from = at;
            at += edges[at..].partition_point(|&edge| u32::from(edge) < begins + (1 << shift));
            let entry = self.part(&edges[from..at], begins as u16, shift, base + from as u32);
            self.tables[table + element as usize] = entry.0;
        }
        Entry::table(table, first, shift)
    }
}

impl Intervals<'_> {
    /// The root's entries of sixteen addresses.
    #[inline(always)]
    pub(super) fn roots<I: Isa>(&self, isa: I, addresses: I::V) -> I::V {
        isa.words(self.root, isa.shift_right(addresses, 16))
    }

    /// The entries behind all tables, from those of the root.
    #[inline(always)]
    pub(super) fn behind_tables<I: Isa>(&self, isa: I, mut entries: I::V, addresses: I::V) -> I::V {
        let low = isa.and(addresses, isa.splat(0xffff));
        // Each table is of fewer bits than the one before.
        for _ in 0..16 {
            let tables = isa.at_least(entries, Entry::TABLE);
            if tables == 0 {
                break;
            }
            let shifts = isa.and(isa.shift_right(entries, Entry::SHIFT), isa.splat(15));
            let from = isa.shift_left(entries, LEAST_BITS);
            let at = isa.and(isa.add(from, isa.shift_right_each(low, shifts)), isa.splat(Entry::POSITION));
            entries = isa.words_where(tables, self.tables, at, entries);
        }
        entries
    }

    /// The interval of an address. Cost: two loads for most IPv4 addresses.
    #[inline]
    pub fn get(&self, family: Family, address: u128) -> u32 {
        match family {
            Family::V4 => {
                let address = address as u32;
                let next = |table: &[u32], at: usize| Entry(table.get(at).copied().unwrap_or(0));
                let mut entry = next(self.root, address as usize >> 16);
                while entry.0 >= Entry::TABLE {
                    entry = next(self.tables, entry.position(address));
                }
                match self.nodes.get((entry.0 & Entry::NUMBER) as usize) {
                    Some(node) if entry.0 >= Entry::NODE => node.rank(address as u16),
                    _ => entry.0,
                }
            }
            Family::V6 => self.v6_interval(address),
        }
    }
}

impl Upper {
    fn new(edges: &[u128], lines: &mut Vec<Line>) -> Upper {
        let mut all: Vec<u128> = Vec::with_capacity(edges.len() + 1);
        all.push(0);
        all.extend(edges.iter().copied().filter(|&edge| edge != 0));
        let mut highs: Vec<u64> = Vec::new();
        let mut first = Vec::new();
        for (i, &edge) in all.iter().enumerate() {
            let high = (edge >> 64) as u64;
            if highs.last() != Some(&high) {
                highs.push(high);
                first.push(i as u32);
            }
        }
        first.push(all.len() as u32);
        let line = |keys: &[u64]| {
            let mut line = [u64::MAX; KEYS];
            line.iter_mut().zip(keys).for_each(|(lane, key)| *lane = *key);
            line
        };
        // Node `n` of the last level begins with key 8n. A node above separates nine by the smallest key under each but the first.
        let mut levels: Vec<Vec<[u64; KEYS]>> = vec![highs.chunks(KEYS).map(line).collect()];
        let mut smallest: Vec<u64> = highs.chunks(KEYS).map(|chunk| chunk[0]).collect();
        while smallest.len() > 1 {
            let groups = smallest.chunks(KEYS + 1);
            levels.push(groups.clone().map(|group| line(&group[1..])).collect());
            smallest = groups.map(|group| group[0]).collect();
        }
        let mut starts = [0; LEVELS];
        let mut keys = Vec::new();
        for (start, level) in starts.iter_mut().zip(levels.iter().rev()) {
            *start = keys.len() as u32;
            keys.extend_from_slice(level);
        }
        let low: Vec<u64> = all.iter().map(|&edge| edge as u64).collect();
        Upper {
            keys: Table::put(lines, &keys),
            starts,
            levels: levels.len() as u32,
            count: highs.len() as u32,
            first: Table::put(lines, &first),
            low: Table::put(lines, &low),
        }
    }
}

impl Intervals<'_> {
    /// The interval of an IPv6 address. Cost: one cache line for each level of nine branches, then one or two.
    #[inline]
    pub(super) fn v6_interval(&self, address: u128) -> u32 {
        let [interval] = self.v6_intervals(&[address]);
        interval
    }

    /// The intervals of IPv6 addresses. All of them go through one level before the next, so that their loads are independent, and
    /// nothing branches on one.
    #[inline(always)]
    pub(super) fn v6_intervals<const N: usize>(&self, addresses: &[u128; N]) -> [u32; N] {
        let Upper { keys, first, low: lows, .. } = *self.upper;
        let (keys, first_edges, lows) = (keys.view(self.lines), first.view(self.lines), lows.view(self.lines));
        let levels = self.upper.levels as usize;
        let (mut places, mut start) = ([0; N], 0);
        for (level, &first) in self.upper.starts.iter().take(levels).enumerate() {
            // Places that are not taken hold the highest key of all, which counts only for the highest address of all: its way is
            // the last one, if need be behind the end.
            start = first as usize;
            for (place, address) in places.iter_mut().zip(addresses) {
                let high = (address >> 64) as u64;
                let node = (start + *place).min(keys.len().saturating_sub(1));
                let under: usize =
                    keys.get(node).map_or(0, |line| line.iter().map(|&key| usize::from(key <= high)).sum());
                *place = if level + 1 == levels { (node - start) * KEYS + under } else { *place * (KEYS + 1) + under };
            }
        }
        let mut intervals = [0; N];
        for ((interval, place), &address) in intervals.iter_mut().zip(places).zip(addresses) {
            let (high, low) = ((address >> 64) as u64, address as u64);
            let index = place.min(self.upper.count as usize).saturating_sub(1);
            let key = keys.get(start + index / KEYS).map_or(0, |line| line[index % KEYS]);
            let first = first_edges.get(index).copied().unwrap_or(0) as usize;
            let end = first_edges.get(index + 1).copied().unwrap_or(0) as usize;
            // Behind the upper half that was found, all of its edges are below.
            let low = select_unpredictable(key == high, low, u64::MAX);
            let (mut from, mut left) = (first, end.saturating_sub(first));
            let is_below = |at: usize| lows.get(at).is_some_and(|&edge| edge <= low);
            while left > 1 {
                let half = left / 2;
                from = select_unpredictable(is_below(from + half - 1), from + half, from);
                left -= half;
            }
            let count = from + usize::from((left == 1) & is_below(from));
            *interval = self.v6 + count.saturating_sub(1) as u32;
        }
        intervals
    }
}
