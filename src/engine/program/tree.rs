//! Edges of IPv6 in, for each address the number of those at or below it out: a search tree that never changes.
//!
//! ```text
//! upper 64 bits    a static tree of nine branches a node, of the same depth for all: eight keys are one cache line, and those at or
//!                  below what is looked for tell the branch; the last level holds the different upper halves of all edges
//! first            by upper half: number of its first edge
//! lower 64 bits    of all edges; those of one upper half, mostly one or two, are compared eight at once
//! ```
//! Keys are kept with their highest bit turned round: signed comparison is what AVX2 has.

use std::hint::select_unpredictable;

use super::arena::{Line, Table};
use super::isa::Isa;
use crate::base::prefetch::prefetch;

/// Keys of a node, and lower halves that are compared at once.
pub(super) const KEYS: usize = 8;
/// Levels of the tree: enough for 2^32 upper halves.
const LEVELS: usize = 12;
/// Nodes, a quarter of a megabyte of them, that a second cache holds beside the other tables.
const NEAR_NODES: usize = (256 << 10) / size_of::<[i64; KEYS]>();

/// Where the edges lie.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tree {
    /// Nodes of all levels, the root first, the different upper halves last.
    keys: Table<[i64; KEYS]>,
    /// First node of each level.
    starts: [u32; LEVELS],
    levels: usize,
    /// Number of different upper halves.
    count: usize,
    /// By upper half: number of its first edge; one more at the end.
    first: Table<u32>,
    /// Lower halves of all edges, behind that of 0, which is always there; and padding.
    lows: Table<i64>,
    /// Number of edges without 0.
    edges: u32,
}

/// A number of 64 bits as a signed one that has the same place among its like.
const fn signed(number: u64) -> i64 {
    (number ^ 1 << 63) as i64
}

impl Tree {
    /// From ascending edges without repeats. The tables go to the end of `lines`. Control line only.
    pub fn new(edges: &[u128], lines: &mut Vec<Line>) -> Tree {
        let mut all: Vec<u128> = Vec::with_capacity(edges.len() + 1);
        all.push(0);
        all.extend(edges.iter().copied().filter(|&edge| edge != 0));
        let mut highs: Vec<i64> = Vec::new();
        let mut first = Vec::new();
        for (i, &edge) in all.iter().enumerate() {
            let high = signed((edge >> 64) as u64);
            if highs.last() != Some(&high) {
                highs.push(high);
                first.push(i as u32);
            }
        }
        first.push(all.len() as u32);
        let line = |keys: &[i64]| {
            let mut line = [i64::MAX; KEYS];
            line.iter_mut().zip(keys).for_each(|(lane, key)| *lane = *key);
            line
        };
        // Node `n` of the last level begins with key 8n. A node above separates nine by the smallest key under each but the first.
        let mut levels: Vec<Vec<[i64; KEYS]>> = vec![highs.chunks(KEYS).map(line).collect()];
        let mut smallest: Vec<i64> = highs.chunks(KEYS).map(|chunk| chunk[0]).collect();
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
        let lows = all.iter().map(|&edge| signed(edge as u64)).chain([i64::MAX; KEYS]);
        Tree {
            keys: Table::put(lines, &keys),
            starts,
            levels: levels.len(),
            count: highs.len(),
            first: Table::put(lines, &first),
            lows: Table::put(lines, &lows.collect::<Vec<i64>>()),
            edges: all.len() as u32 - 1,
        }
    }

    /// Number of edges; 0 is none.
    pub fn edges(&self) -> u32 {
        self.edges
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.first.bytes() + self.lows.bytes()
    }

    /// How many edges lie at or below each address. All addresses go through one level before the next, so that their loads are
    /// independent, and nothing branches on one but where more than eight edges share their upper half. Cost: one cache line for each
    /// level, then two.
    #[inline(always)]
    pub fn counts<I: Isa, const N: usize>(&self, isa: I, lines: &[Line], addresses: &[u128; N]) -> [u32; N] {
        let (keys, first, lows) = (self.keys.view(lines), self.first.view(lines), self.lows.view(lines));
        let (mut places, mut highs) = ([0; N], [0; N]);
        for (high, &address) in highs.iter_mut().zip(addresses) {
            *high = signed((address >> 64) as u64);
        }
        // Places that are not taken hold the highest key of all, which counts only for the highest address of all: its way is the last
        // one, if need be behind the end.
        let last_node = keys.len().saturating_sub(1);
        let levels = self.starts.get(..self.levels).unwrap_or(&self.starts);
        for pair in levels.windows(2) {
            let &[start, next] = pair else { continue };
            for (place, &high) in places.iter_mut().zip(&highs) {
                let Some(node) = keys.get((start as usize + *place).min(last_node)) else { continue };
                *place = *place * (KEYS + 1) + isa.at_most(node, high).count_ones() as usize;
                if keys.len() > NEAR_NODES
                    && let Some(node) = keys.get(next as usize + *place)
                {
                    prefetch(node);
                }
            }
        }
        let start = levels.last().map_or(0, |&start| start as usize);
        let mut lefts = [0; N];
        for (((place, left), high), &address) in places.iter_mut().zip(&mut lefts).zip(&mut highs).zip(addresses) {
            let node = (start + *place).min(last_node);
            let Some(found) = keys.get(node) else { continue };
            let behind = (node - start) * KEYS + isa.at_most(found, *high).count_ones() as usize;
            let index = behind.min(self.count).saturating_sub(1);
            let key = keys.get(start + index / KEYS).map_or(0, |line| line[index % KEYS]);
            // Behind the upper half that was found, all of its edges are below.
            *high = select_unpredictable(key == *high, signed(address as u64), i64::MAX);
            let end = first.get(index + 1).copied().unwrap_or(0) as usize;
            *place = first.get(index).copied().unwrap_or(0) as usize;
            *left = end.saturating_sub(*place);
            if lows.len() > NEAR_NODES * KEYS
                && let Some(low) = lows.get(*place)
            {
                prefetch(low);
            }
        }
        let mut counts = [0; N];
        for (((count, place), mut left), low) in counts.iter_mut().zip(places).zip(lefts).zip(highs) {
            let mut from = place;
            while left > KEYS {
                let half = left / 2;
                let is_below = lows.get(from + half - 1).is_some_and(|&edge| edge <= low);
                from = select_unpredictable(is_below, from + half, from);
                left -= half;
            }
            let Some(window) = lows.get(from..).and_then(|lows| lows.first_chunk()) else { continue };
            let below = isa.at_most(window, low) & ((1 << left) - 1);
            // The first is the edge of 0, which does not count.
            *count = (from as u32 + below.count_ones()).saturating_sub(1);
        }
        counts
    }
}
