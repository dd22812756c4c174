//! An address in, the number of the interval that holds it out.
//!
//! A direct table for the first 14 bits, then nodes of 6 bits each: exactly three more for IPv4 and nineteen for IPv6.
//! Equal neighbours within a node are stored once.
//!
//! ```text
//! node:   runs: u64   bit i set = entry i differs from entry i-1 (bit 0 always set)
//!         base: u32   position of the node's first value; entry i is values[base + popcount(runs & bits 0..=i) - 1]
//! value:  bit 31 set = node index, else the number looked for
//! ```

const ROOT_BITS: u32 = 14;
const STRIDE: u32 = 6;
const CHILD: u32 = 1 << 31;

#[derive(Clone, Copy, Debug)]
struct Node {
    runs: u64,
    base: u32,
}

/// Maps every address of one family to a number below 2^31.
#[derive(Clone, Debug)]
pub struct Trie {
    width: u32,
    root: Vec<u32>,
    nodes: Vec<Node>,
    values: Vec<u32>,
}

impl Trie {
    /// Builds from the starts of consecutive intervals: ascending, the first at 0, each with the number that holds up to the
    /// next start. `width` is 32 or 128. Control line only.
    pub fn new(width: u8, starts: &[(u128, u32)]) -> Trie {
        let mut trie = Trie { width: u32::from(width), root: Vec::new(), nodes: Vec::new(), values: Vec::new() };
        let shift = trie.width - ROOT_BITS;
        trie.root = Vec::with_capacity(1 << ROOT_BITS);
        let mut from = 0;
        for i in 0..1u128 << ROOT_BITS {
            let first = i << shift;
            while from + 1 < starts.len() && starts[from + 1].0 <= first {
                from += 1;
            }
            let value = trie.subtree(starts, from, first, shift);
            trie.root.push(value);
        }
        trie
    }

    /// The value for the block of 2^`bits` addresses at `first`; `from` is the interval that holds `first`.
    fn subtree(&mut self, starts: &[(u128, u32)], from: usize, first: u128, bits: u32) -> u32 {
        let Some(&(_, number)) = starts.get(from) else { return 0 };
        let last = first | ((1u128 << bits) - 1);
        if starts.get(from + 1).is_none_or(|next| next.0 > last) {
            return number;
        }
        let child_bits = bits - STRIDE;
        let mut entries = [0u32; 1 << STRIDE];
        let mut at = from;
        for (i, entry) in entries.iter_mut().enumerate() {
            let start = first | ((i as u128) << child_bits);
            while at + 1 < starts.len() && starts[at + 1].0 <= start {
                at += 1;
            }
            *entry = self.subtree(starts, at, start, child_bits);
        }
        let base = self.values.len() as u32;
        let mut runs = 0u64;
        let mut previous = None;
        for (i, &entry) in entries.iter().enumerate() {
            if previous != Some(entry) {
                runs |= 1 << i;
                self.values.push(entry);
                previous = Some(entry);
            }
        }
        self.nodes.push(Node { runs, base });
        CHILD | (self.nodes.len() - 1) as u32
    }

    /// The number for an address. Cost: one load, plus two per level below the first 14 bits.
    #[inline]
    pub fn get(&self, address: u128) -> u32 {
        let mut bits = self.width - ROOT_BITS;
        let mut value = self.root.get((address >> bits) as usize & ((1 << ROOT_BITS) - 1)).copied().unwrap_or(0);
        while value & CHILD != 0 {
            let Some(node) = self.nodes.get((value & !CHILD) as usize) else { return 0 };
            bits -= STRIDE;
            let i = (address >> bits) as u32 & ((1 << STRIDE) - 1);
            let upto = node.runs & (u64::MAX >> (63 - i));
            value = self.values.get((node.base + upto.count_ones() - 1) as usize).copied().unwrap_or(0);
        }
        value
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.root.len() * 4 + self.nodes.len() * size_of::<Node>() + self.values.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn linear(starts: &[(u128, u32)], address: u128) -> u32 {
        starts.iter().rev().find(|s| s.0 <= address).unwrap().1
    }

    fn check(width: u8, mut points: Vec<u128>, probes: &[u128]) {
        let max = if width == 32 { u128::from(u32::MAX) } else { u128::MAX };
        points.iter_mut().for_each(|p| *p &= max);
        points.push(0);
        points.sort_unstable();
        points.dedup();
        let starts: Vec<(u128, u32)> = points.iter().enumerate().map(|(i, &p)| (p, (i % 7) as u32)).collect();
        let trie = Trie::new(width, &starts);
        let edges = starts.iter().flat_map(|s| [s.0, s.0.saturating_sub(1), s.0.saturating_add(1)]);
        for address in edges.chain(probes.iter().copied()).map(|a| a & max) {
            assert_eq!(trie.get(address), linear(&starts, address), "{address:#x}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search_v4(points: Vec<u32>, probes: Vec<u32>) {
            check(32, points.into_iter().map(u128::from).collect(), &probes.into_iter().map(u128::from).collect::<Vec<_>>());
        }

        #[test]
        fn agrees_with_a_linear_search_v6(points: Vec<u128>, probes: Vec<u128>) {
            check(128, points, &probes);
        }
    }

    #[test]
    fn edges_of_the_space_belong_to_their_interval() {
        check(32, vec![u128::from(u32::MAX), 1], &[0, u128::from(u32::MAX)]);
        check(128, vec![u128::MAX, 1, 1 << 114], &[0, u128::MAX]);
    }
}
