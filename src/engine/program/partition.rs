//! Addresses in, the numbers of the intervals that hold them out: the cut that all address sets of one dimension make together.
//!
//! The edges of the sets cut the line of IPv4 addresses, and behind it that of IPv6 addresses, into intervals that are numbered
//! in ascending order. Because the numbers ascend with the addresses, a prefix or a range is again a range of numbers, so that
//! one comparison of two 32-bit numbers tells whether an address of either family lies in it.
//!
//! IPv4: one table for the upper 16 bits, then nodes of one cache line over the lower 16, hardly ever more than one.
//!
//! ```text
//! entry, 8 bytes:    | kind, node (4 + 28 bits) | base (32 bits) |
//! node, 64 bytes:    32 x u16   edges below this block, each less one, ascending; 0xffff where there is none
//!
//! root[address >> 16] is an entry. What its kind says:
//!   LAST    interval = base + number of edges of the node below the address; without edges the node is the empty one, 0
//!   INNER   next entry = inner[base + that number]
//!   TABLE   next entry = inner[base + next eight bits of the address]
//! ```
//! Where all entries of the root have room in half the bits (| base 16 | kind 2 | node 14 |), they are kept so.
//! An edge of 0 is the block's own beginning and needs no place; less one, "at or above the edge" is "above what is stored", and
//! 0xffff is never below anything. Counting is one comparison of 32 lanes and has no branch, and neither has "no edges at all".
//!
//! IPv6: the upper 64 bits of the edges in a static search tree of nine branches a node (eight keys are one cache line), which has
//! the same depth for all; then the lower 64 bits of the edges that share the upper ones, which mostly is one.

use super::arena::{Line, Table};
use super::isa::{Isa, Scalar};
use crate::base::address::Family;

/// Edges of an IPv4 node.
const EDGES: usize = 32;
/// Keys of an IPv6 node.
const KEYS: usize = 8;
/// Blocks that may begin with a table of 2 KiB as soon as their edges need more than one node; where there are more such blocks,
/// only those do that have more than [`MANY`] edges.
const FEW_TABLES: usize = 256;
/// Edges of a block that need a table in any case.
const MANY: usize = 4 * EDGES;

/// A node of the IPv4 part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Node(pub(super) [u16; EDGES]);

const _: () = assert!(size_of::<Node>() == 64);

impl Node {
    const EMPTY: Node = Node([u16::MAX; EDGES]);

    fn new(edges: &[u16]) -> Node {
        let mut node = Node::EMPTY;
        for (lane, edge) in node.0.iter_mut().zip(edges) {
            *lane = edge.wrapping_sub(1);
        }
        node
    }
}

/// Where an address leads; see the drawing of the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub(super) struct Entry(u64);

impl Entry {
    const LAST: u32 = 0;
    pub(super) const INNER: u32 = 1 << 28;
    pub(super) const TABLE: u32 = 2 << 28;
    const NODE: u32 = Entry::INNER - 1;

    const fn new(kind: u32, node: u32, base: u32) -> Entry {
        Entry((kind | node & Entry::NODE) as u64 | (base as u64) << 32)
    }

    /// Kind and node in the lower 16 bits, base in the upper, if they have room there.
    const SMALL_NODE: u32 = (1 << 14) - 1;
    const SMALL_KIND: u32 = 3 << 14;
    const SMALL_SHIFT: u32 = 14;

    fn small(self) -> Option<u32> {
        let (node, base) = self.halves();
        let number = node & Entry::NODE;
        let fits = number <= Entry::SMALL_NODE && base <= u32::from(u16::MAX);
        fits.then_some((node & !Entry::NODE) >> Entry::SMALL_SHIFT | number | base << 16)
    }

    /// Kind and node, base.
    #[inline(always)]
    pub(super) const fn halves(self) -> (u32, u32) {
        (self.0 as u32, (self.0 >> 32) as u32)
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
    root: Table<Entry>,
    /// The same in half the bytes, if they have room.
    small_root: Table<u32>,
    inner: Table<Entry>,
    nodes: Table<Node>,
    upper: Upper,
    /// Number of the first IPv6 interval.
    v6: u32,
    intervals: u32,
}

/// The intervals of one dimension, ready to be asked.
#[derive(Clone, Copy)]
pub struct Intervals<'t> {
    root: &'t [Entry],
    small_root: &'t [u32],
    inner: &'t [Entry],
    nodes: &'t [Node],
    upper: Upper,
    keys: &'t [[u64; KEYS]],
    first: &'t [u32],
    low: &'t [u64],
    v6: u32,
}

/// The IPv4 part under construction.
struct Builder {
    inner: Vec<Entry>,
    nodes: Vec<Node>,
    /// Most edges of a block that begins without a table.
    without_table: usize,
}

impl Partition {
    /// From the edges of each family: where an interval begins; ascending, without repeats, 0 is understood. The tables go to the
    /// end of `lines`. Control line only.
    pub fn new(v4: &[u32], v6: &[u128], lines: &mut Vec<Line>) -> Partition {
        let v4 = v4.strip_prefix(&[0]).unwrap_or(v4);
        let v6_first = v4.len() as u32 + 1;
        let dense = v4.chunk_by(|a, b| a >> 16 == b >> 16).filter(|block| block.len() > EDGES).count();
        let without_table = if dense <= FEW_TABLES { EDGES } else { MANY };
        let mut builder = Builder { inner: Vec::new(), nodes: vec![Node::EMPTY], without_table };
        let mut root = Vec::with_capacity(1 << 16);
        let mut at = 0;
        for block in 0..=u16::MAX {
            let first = at;
            while v4.get(at).is_some_and(|edge| edge >> 16 == u32::from(block)) {
                at += 1;
            }
            let edges: Vec<u16> = v4[first..at].iter().map(|&edge| edge as u16).collect();
            root.push(builder.block(&edges, first as u32));
        }
        let upper = Upper::new(v6, lines);
        let small_root: Option<Vec<u32>> = root.iter().map(|entry| entry.small()).collect();
        Partition {
            root: if small_root.is_some() { Table::default() } else { Table::put(lines, &root) },
            small_root: small_root.map_or(Table::default(), |root| Table::put(lines, &root)),
            inner: Table::put(lines, &builder.inner),
            nodes: Table::put(lines, &builder.nodes),
            upper,
            v6: v6_first,
            intervals: v6_first + upper.low.len() as u32,
        }
    }

    /// The tables in the memory they were put into.
    #[inline(always)]
    pub fn view<'t>(&self, lines: &'t [Line]) -> Intervals<'t> {
        Intervals {
            root: self.root.view(lines),
            small_root: self.small_root.view(lines),
            inner: self.inner.view(lines),
            nodes: self.nodes.view(lines),
            upper: self.upper,
            keys: self.upper.keys.view(lines),
            first: self.upper.first.view(lines),
            low: self.upper.low.view(lines),
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
        self.root.bytes() + self.small_root.bytes() + self.inner.bytes() + self.nodes.bytes() + v6
    }
}

impl Builder {
    /// The entry of one block of 65,536 addresses. `base` is the interval of the address before its first.
    fn block(&mut self, edges: &[u16], base: u32) -> Entry {
        // The edge at the block's beginning, if there is one, is behind for every address of the block.
        let starts = |edges: &[u16], first: u16| usize::from(edges.first() == Some(&first));
        if edges.len() <= self.without_table {
            let begun = starts(edges, 0);
            return self.tree(&edges[begun..], base + begun as u32);
        }
        let table = self.inner.len();
        self.inner.resize(table + 256, Entry(0));
        let mut at = 0;
        for part in 0..256u16 {
            let first = at;
            while edges.get(at).is_some_and(|edge| edge >> 8 == part) {
                at += 1;
            }
            let begun = first + starts(&edges[first..at], part << 8);
            self.inner[table + usize::from(part)] = self.tree(&edges[begun..at], base + begun as u32);
        }
        Entry::new(Entry::TABLE, 0, table as u32)
    }

    /// The entry of a range of addresses with these edges; `base` is the interval of its first.
    fn tree(&mut self, edges: &[u16], base: u32) -> Entry {
        if edges.is_empty() {
            return Entry::new(Entry::LAST, 0, base);
        }
        let node = self.nodes.len();
        if edges.len() <= EDGES {
            self.nodes.push(Node::new(edges));
            return Entry::new(Entry::LAST, node as u32, base);
        }
        // Equal shares; between two lies the edge that separates them, and the share behind it begins with that edge counted.
        let first = self.inner.len();
        self.inner.resize(first + EDGES + 1, Entry(0));
        self.nodes.push(Node::EMPTY);
        let from = |share: usize| edges.len() * share / (EDGES + 1);
        let mut separators = Vec::with_capacity(EDGES);
        for share in 0..=EDGES {
            let begins = from(share) + usize::from(share > 0);
            if share > 0 {
                separators.push(edges[from(share)]);
            }
            self.inner[first + share] = self.tree(&edges[begins..from(share + 1)], base + begins as u32);
        }
        self.nodes[node] = Node::new(&separators);
        Entry::new(Entry::INNER, node as u32, first as u32)
    }
}

impl<'t> Intervals<'t> {
    /// The entries of the root, two words each: kind and node, base.
    #[inline(always)]
    fn root_words(&self) -> &'t [u32] {
        bytemuck::cast_slice(self.root)
    }

    /// The entries of sixteen addresses in the root: kind and node, base.
    #[inline(always)]
    pub(super) fn roots<I: Isa>(&self, isa: I, addresses: I::V) -> (I::V, I::V) {
        let block = isa.shift_right(addresses, 16);
        if self.small_root.is_empty() {
            let at = isa.shift_left(block, 1);
            (isa.words(self.root_words(), at), isa.words(self.root_words(), isa.add(at, isa.splat(1))))
        } else {
            let small = isa.words(self.small_root, block);
            let kind = isa.shift_left(isa.and(small, isa.splat(Entry::SMALL_KIND)), Entry::SMALL_SHIFT);
            (isa.add(kind, isa.and(small, isa.splat(Entry::SMALL_NODE))), isa.shift_right(small, 16))
        }
    }

    /// The entry of one address in the root.
    #[inline(always)]
    fn root(&self, address: u32) -> (u32, u32) {
        let block = (address >> 16) as usize;
        match self.small_root.get(block) {
            Some(&small) => {
                let kind = (small & Entry::SMALL_KIND) << Entry::SMALL_SHIFT;
                (kind | small & Entry::SMALL_NODE, small >> 16)
            }
            None => self.root.get(block).copied().unwrap_or_default().halves(),
        }
    }

    /// The entry where a table goes on.
    #[inline(always)]
    pub(super) fn behind_table(&self, base: u32, address: u32) -> Entry {
        self.entry(base + (address >> 8 & 255))
    }

    /// How many edges of an entry's node lie below an address.
    #[inline(always)]
    pub(super) fn below<I: Isa>(&self, isa: I, node: u32, address: u32) -> u32 {
        const EMPTY: &Node = &Node::EMPTY;
        isa.below(self.nodes.get((node & Entry::NODE) as usize).unwrap_or(EMPTY), address as u16)
    }

    /// The entry where an inner one goes on.
    #[inline(always)]
    pub(super) fn entry(&self, at: u32) -> Entry {
        self.inner.get(at as usize).copied().unwrap_or(Entry(0))
    }

    /// The interval of an address. Cost: two loads for most IPv4 addresses.
    #[inline]
    pub fn get(&self, family: Family, address: u128) -> u32 {
        match family {
            Family::V4 => {
                let address = address as u32;
                let (mut node, mut base) = self.root(address);
                if node >= Entry::TABLE {
                    (node, base) = self.behind_table(base, address).halves();
                }
                loop {
                    let found = base + self.below(Scalar, node, address);
                    if node < Entry::INNER {
                        return found;
                    }
                    (node, base) = self.entry(found).halves();
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
        let (high, low) = ((address >> 64) as u64, address as u64);
        let levels = self.upper.levels as usize;
        let (mut place, mut start) = (0, 0);
        for (level, &first) in self.upper.starts.iter().take(levels).enumerate() {
            // Places that are not taken hold the highest key of all, which counts only for the highest address of all: its way is
            // the last one, if need be behind the end.
            start = first as usize;
            let node = (start + place).min(self.keys.len().saturating_sub(1));
            let under: usize =
                self.keys.get(node).map_or(0, |line| line.iter().map(|&key| usize::from(key <= high)).sum());
            place = if level + 1 == levels { (node - start) * KEYS + under } else { place * (KEYS + 1) + under };
        }
        let index = place.min(self.upper.count as usize).saturating_sub(1);
        let key = self.keys.get(start + index / KEYS).map_or(0, |line| line[index % KEYS]);
        let first = self.first.get(index).copied().unwrap_or(0) as usize;
        let end = self.first.get(index + 1).copied().unwrap_or(0) as usize;
        let group = self.low.get(first..end).unwrap_or(&[]);
        let count = if key != high { group.len() } else { group.partition_point(|&edge| edge <= low) };
        self.v6 + (first + count).saturating_sub(1) as u32
    }
}
