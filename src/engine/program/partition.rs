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
//! IPv6: a search tree ([`super::tree`]).

use super::arena::{Line, Table};
use super::isa::{Isa, Scalar};
use super::tree::Tree;
use crate::base::address::Family;

/// Edges of an IPv4 node.
pub(super) const EDGES: usize = 30;
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

/// The intervals of one dimension: where its tables lie.
#[derive(Clone, Debug)]
pub struct Partition {
    root: Table<u32>,
    tables: Table<u32>,
    nodes: Table<Node>,
    tree: Tree,
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
    tree: &'t Tree,
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
        // Blocks without edges lie in the interval of the address before them.
        let mut root = Vec::with_capacity(1 << 16);
        let mut behind = 0;
        for edges in v4.chunk_by(|a, b| a >> 16 == b >> 16) {
            root.resize((edges[0] >> 16) as usize, behind);
            let low: Vec<u16> = edges.iter().map(|&edge| edge as u16).collect();
            root.push(builder.part(&low, 0, 16, behind).0);
            behind += edges.len() as u32;
        }
        root.resize(1 << 16, behind);
        let tree = Tree::new(v6, lines);
        Partition {
            root: Table::put(lines, &root),
            tables: Table::put(lines, &builder.tables),
            nodes: Table::put(lines, &builder.nodes),
            v6: v6_first,
            intervals: v6_first + 1 + tree.edges(),
            tree,
        }
    }

    /// The tables in the memory they were put into.
    #[inline(always)]
    pub fn view<'t>(&'t self, lines: &'t [Line]) -> Intervals<'t> {
        Intervals {
            root: self.root.view(lines),
            tables: self.tables.view(lines),
            nodes: self.nodes.view(lines),
            tree: &self.tree,
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
        self.root.bytes() + self.tables.bytes() + self.nodes.bytes() + self.tree.bytes()
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
            Family::V6 => {
                let [interval] = self.v6_intervals(Scalar, &[address]);
                interval
            }
        }
    }
}

impl Intervals<'_> {
    /// The intervals of IPv6 addresses. Cost: see [`Tree::counts`].
    #[inline(always)]
    pub(super) fn v6_intervals<I: Isa, const N: usize>(&self, isa: I, addresses: &[u128; N]) -> [u32; N] {
        let mut intervals = self.tree.counts(isa, self.lines, addresses);
        intervals.iter_mut().for_each(|interval| *interval += self.v6);
        intervals
    }
}
