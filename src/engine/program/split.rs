//! Headers of a burst and one long list in, the first entry that matches each out: entries filed under their rarer address.
//!
//! Hardly any two entries of a long list have the same rare address, so an entry is filed under that side, source or destination,
//! where fewer packets meet it; the few that are broad on both sides go into a cross product ([`super::cross`]). A packet then
//! asks three places, and the lowest number wins:
//!
//! ```text
//! source interval      ──▶ class, first leaf ──▶ leaves from there to the last of the list: destination, ports, protocol
//! destination interval ──▶ class, first leaf ──▶ leaves from there to the last of the list: source, ports, protocol
//! both classes, classes of ports and protocol ──▶ cross product
//! ```
//! An interval also knows in which parts of the other side the records of its list lie, as far as its word has room, and most lists
//! that do not hold a packet are not asked for it.
//!
//! Records under one interval ascend by number, so a list ends early behind the first leaf ([`super::leaf`]) that is not below what
//! was found already.
//!
//! The order of cases: all packets of a burst go through one phase before the next begins, so that the loads of a phase are
//! independent and overlap. Nothing branches on an answer. Lists are walked in rounds: round `k` asks leaf `k` of those lists
//! that have one, and writes the next round's work list without a branch; most lists end after one round. A leaf tests its three
//! records at once, so lists are asked one by one, and what differs between packets does not wait in half-empty vectors.

use std::hint::select_unpredictable;

use super::arena::{Line, Table};
use super::cross::Cross;
use super::header::{DPORT, DST, Group, Header, LANES, PROTOCOL, SPORT, SRC};
use super::isa::{Isa, Scalar, WIDTH};
use super::leaf::{Leaf, Leaves, RECORDS};
use crate::base::prefetch::prefetch;

/// What the intervals of one side lead to: a word each, of which a list takes as many bits as its first leaf needs. A million leaves
/// leave room for 4,096 classes; where both do not have room, the scope is not taken apart. The parts are there if there is room for
/// them, else four pairs of parts or none.
///
/// ```text
///  32           leaf_bits + part_bits    leaf_bits                             0
///  | class in the cross product | 8, 4, 0 parts | 0 = no list, else 1 + first leaf |
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Side {
    words: Table<u32>,
    leaf_bits: u32,
    part_bits: u32,
    /// What an interval of the other side is multiplied with to have its part above [`PART_SHIFT`].
    scale: u32,
}

/// Parts into which the intervals of a side are divided, of about the same size.
const PARTS: u32 = 8;
const PART_SHIFT: u32 = 24;

/// A list under an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// The first leaf.
    pub first: u32,
    /// The parts of the other side in which a record lies, a bit for each, from the lowest.
    pub parts: u8,
}

impl List {
    /// The parts in which a range lies, both ends in it, of a side with so many intervals.
    pub fn parts((first, last): (u32, u32), intervals: u32) -> u8 {
        let part = |interval: u32| (interval * scale(intervals)) >> PART_SHIFT;
        (part(first)..=part(last).min(PARTS - 1)).fold(0, |parts, part| parts | 1 << part)
    }
}

/// See [`Side`].
const fn scale(intervals: u32) -> u32 {
    match (PARTS << PART_SHIFT).checked_div(intervals) {
        Some(scale) => scale,
        None => 0,
    }
}

/// So many of the lowest bits.
#[inline(always)]
const fn mask(bits: u32) -> u32 {
    ((1u64 << (bits & 63)) - 1) as u32
}

impl Side {
    /// From the class in the cross product and the list, if there is any, of each interval; `others` is the number of intervals on
    /// the other side. `None` if class and leaf do not have room in a word. Control line only.
    pub fn put(lines: &mut Vec<Line>, intervals: &[(u32, Option<List>)], others: u32) -> Option<Side> {
        let leaf = |list: Option<List>| list.map_or(0, |list| list.first + 1);
        let most = |numbers: &mut dyn Iterator<Item = u32>| numbers.max().unwrap_or(0);
        let leaf_bits = 32 - most(&mut intervals.iter().map(|of| leaf(of.1))).leading_zeros();
        let class_bits = 32 - most(&mut intervals.iter().map(|of| of.0)).leading_zeros();
        let room = 32u32.checked_sub(leaf_bits + class_bits)?;
        let part_bits = [PARTS, PARTS / 2].into_iter().find(|&bits| leaf_bits > 0 && bits <= room).unwrap_or(0);
        let parts = |list: List| match part_bits {
            0 => 0,
            bits => {
                (0..PARTS).fold(0, |parts, part| parts | u32::from(list.parts >> part & 1) << (part * bits / PARTS))
            }
        };
        let word = |&(class, list): &(u32, Option<List>)| {
            let lower = list.map_or(0, parts).checked_shl(leaf_bits).unwrap_or(0) | leaf(list);
            class.checked_shl(leaf_bits + part_bits).unwrap_or(0) | lower
        };
        let words: Vec<u32> = intervals.iter().map(word).collect();
        Some(Side { words: Table::put(lines, &words), leaf_bits, part_bits, scale: scale(others) })
    }

    /// Those of sixteen packets that have a list which may hold them, by their words on this side and intervals on the other.
    #[inline(always)]
    fn listed<I: Isa>(&self, isa: I, words: I::V, others: I::V) -> u16 {
        let listed = isa.at_least(isa.and(words, isa.splat(mask(self.leaf_bits))), 1);
        if self.part_bits == 0 {
            return listed;
        }
        let shift = PART_SHIFT + PARTS.ilog2() - self.part_bits.ilog2();
        let parts = isa.shift_right(isa.multiply(others, self.scale), shift);
        listed & isa.has_bit(words, isa.add(parts, isa.splat(self.leaf_bits)))
    }

    /// The first leaf of the list of one packet, if it has one that may hold it; and its class.
    #[inline]
    fn alone(&self, lines: &[Line], interval: u32, other: u32) -> (Option<u32>, u32) {
        let word = self.words.view(lines).get(interval as usize).copied().unwrap_or(0);
        let shift = PART_SHIFT + PARTS.ilog2() - self.part_bits.max(1).ilog2();
        let part = other.wrapping_mul(self.scale) >> (shift & 31);
        let may_hold = self.part_bits == 0 || word >> ((part + self.leaf_bits) & 31) & 1 == 1;
        let class = word.checked_shr(self.leaf_bits + self.part_bits).unwrap_or(0);
        ((word & mask(self.leaf_bits)).checked_sub(1).filter(|_| may_hold), class)
    }

    /// Classes of sixteen packets by their words.
    #[inline(always)]
    fn classes<I: Isa>(&self, isa: I, words: I::V) -> I::V {
        isa.shift_right(words, self.leaf_bits + self.part_bits)
    }

    /// Bytes for so many intervals.
    pub const fn most_bytes(intervals: usize) -> usize {
        intervals * 4
    }
}

/// Lists of a burst: each packet may have one of either side.
const LISTS: usize = 2 * LANES;
/// How far ahead leaves are asked for.
const AHEAD: usize = 24;
/// Places for them, of which sixteen are written at once.
const PLACES: usize = LISTS + 2 * WIDTH;

const _: () = assert!(LISTS + AHEAD <= PLACES);
const _: () = assert!((Leaves::MOST as u64 + 1) * LISTS as u64 <= 1 << 32);

/// The lists that go on, one behind the other, and what the packets of the burst are compared with.
///
/// ```text
/// items      the leaf to ask next << 7 | side 6 | position of the packet
///
/// by side of the list and position of the packet:
/// packets    interval of the other side | source port << 16 | destination port << 32 | kind << 48 (see super::leaf)
/// addresses  interval of the other side, if intervals do not have room in 16 bits; then `packets` has 0 in its place
/// ```
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Lists {
    items: [u32; PLACES],
    len: usize,
    packets: [[[u64; WIDTH]; GROUPS]; 2],
    addresses: [[[u32; WIDTH]; GROUPS]; 2],
}

/// Groups of a burst.
const GROUPS: usize = LANES / WIDTH;

const _: () = assert!(LISTS.is_power_of_two());

impl Default for Lists {
    fn default() -> Lists {
        let groups = [[0; WIDTH]; GROUPS];
        Lists { items: [0; PLACES], len: 0, packets: [[[0; WIDTH]; GROUPS]; 2], addresses: [groups; 2] }
    }
}

impl Lists {
    /// Puts the lists of a mask at the end.
    #[inline(always)]
    fn push<I: Isa>(&mut self, isa: I, mask: u16, items: I::V) {
        if let Some(to) = self.items[self.len.min(LISTS)..].first_chunk_mut() {
            isa.pack(mask, items, to);
        }
        self.len += mask.count_ones() as usize;
    }

    /// Asks the next leaf of each list and keeps those lists that go on.
    #[inline(always)]
    fn round<I: Isa, const IS_WIDE: bool>(&mut self, isa: I, leaves: &[Leaf], found: &mut [[u32; WIDTH]; GROUPS]) {
        let mut kept = 0;
        let is_far = leaves.len() > NEAR_LEAVES;
        let packets = self.packets.as_flattened().as_flattened();
        let addresses = self.addresses.as_flattened().as_flattened();
        let found = found.as_flattened_mut();
        for at in 0..self.len.min(LISTS) {
            let item = self.items[at];
            if is_far && let Some(leaf) = leaves.get(self.items[at + AHEAD] as usize / LISTS) {
                prefetch(leaf);
            }
            let Some(leaf) = leaves.get(item as usize / LISTS) else { continue };
            let (place, packet) = (item as usize % LISTS, item as usize % LANES);
            let address = if IS_WIDE { leaf.address(addresses[place]) } else { 0 };
            let record = isa.first_record(leaf, packets[place] | address);
            let is_open = record == RECORDS;
            let before = found[packet];
            let answer = leaf.id(record);
            let least = select_unpredictable(is_open | (answer > before), before, answer);
            found[packet] = least;
            let goes_on = is_open & leaf.goes_on_below::<IS_WIDE>(least);
            // What is written lies before what is still to be read.
            let Some(next) = self.items.get_mut(kept) else { break };
            *next = item.wrapping_add(LISTS as u32);
            kept += usize::from(goes_on);
        }
        self.len = kept;
    }
}

/// Leaves, half a megabyte of them, that a second cache holds beside the other tables.
const NEAR_LEAVES: usize = (512 << 10) / size_of::<Leaf>();

/// One long list: where its tables lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    /// By interval of the source, of the destination.
    pub(crate) sides: [Side; 2],
    pub(crate) leaves: Table<Leaf>,
    /// Whether leaves have bases.
    pub(crate) is_wide: bool,
    /// Records in the leaves.
    pub(crate) records: usize,
    pub(crate) cross: Cross,
}

impl Split {
    /// The first entry for each header, in place of what `found` holds; as many as the shorter slice has groups.
    #[inline(always)]
    pub(super) fn first<I: Isa>(
        &self,
        isa: I,
        lines: &[Line],
        groups: &[Group],
        lists: &mut Lists,
        found: &mut [[u32; WIDTH]; GROUPS],
    ) {
        let [sources, destinations] = self.sides;
        let sides = [sources.words.view(lines), destinations.words.view(lines)];
        let cross = self.cross.view(lines);
        let leaves = self.leaves.view(lines);
        let mut pairs = [[0u32; WIDTH]; GROUPS];
        let mut port_classes = [[0u32; WIDTH]; GROUPS];
        // The classes of ports come first: they do not wait for the intervals.
        for (classes, group) in port_classes.iter_mut().zip(groups) {
            *classes = isa.store(cross.port_classes(isa, group));
        }
        lists.len = 0;
        let masks = [isa.splat(mask(sources.leaf_bits)), isa.splat(mask(destinations.leaf_bits))];
        let order = isa.load(&std::array::from_fn(|lane| lane as u32));
        for (g, group) in groups.iter().enumerate().take(GROUPS) {
            // No closures here: the compiler does not look through them for what the processor can do.
            let intervals = [isa.load(&group.0[SRC]), isa.load(&group.0[DST])];
            let words = [isa.words(sides[0], intervals[0]), isa.words(sides[1], intervals[1])];
            let rows = sources.classes(isa, words[0]);
            pairs[g] = isa.store(cross.pairs(isa, rows, destinations.classes(isa, words[1])));
            let lists_of = [isa.and(words[0], masks[0]), isa.and(words[1], masks[1])];
            let listed =
                [sources.listed(isa, words[0], intervals[1]), destinations.listed(isa, words[1], intervals[0])];
            if listed[0] | listed[1] == 0 {
                continue;
            }
            let places = isa.add(order, isa.splat((g * WIDTH) as u32));
            // Above 16 bits a source port says that there is none.
            let sports = isa.load(&group.0[SPORT]);
            let kinds = isa.add(isa.shift_left(isa.load(&group.0[PROTOCOL]), 1), isa.shift_right(sports, 16));
            let dports = isa.and(isa.load(&group.0[DPORT]), isa.splat(0xffff));
            let upper = isa.add(dports, isa.shift_left(kinds, 16));
            let sports = isa.shift_left(sports, 16);
            for side in 0..2 {
                if listed[side] == 0 {
                    continue;
                }
                let other = intervals[1 - side];
                if self.is_wide {
                    lists.addresses[side][g] = isa.store(other);
                    isa.interleave(sports, upper, &mut lists.packets[side][g]);
                } else {
                    isa.interleave(isa.add(sports, other), upper, &mut lists.packets[side][g]);
                }
                // One less than what stands there is the leaf.
                let from = isa.splat(((side * LANES) as u32).wrapping_sub(LISTS as u32));
                let items = isa.add(isa.shift_left(lists_of[side], LISTS.ilog2()), from);
                lists.push(isa, listed[side], isa.add(items, places));
            }
        }
        // What is in the second cache anyway comes in time without being asked for.
        if leaves.len() > NEAR_LEAVES {
            for &item in lists.items.iter().take(lists.len.min(AHEAD)) {
                if let Some(leaf) = leaves.get(item as usize / LISTS) {
                    prefetch(leaf);
                }
            }
        }
        for (pairs, classes) in pairs.iter_mut().zip(&port_classes).take(groups.len()) {
            *pairs = isa.store(cross.chunks(isa, isa.load(pairs), isa.load(classes)));
        }
        for (g, found) in found.iter_mut().enumerate().take(groups.len().min(GROUPS)) {
            *found = isa.store(cross.ids(isa, isa.load(&pairs[g]), isa.load(&port_classes[g])));
        }
        while lists.len > 0 {
            if self.is_wide {
                lists.round::<I, true>(isa, leaves, found);
            } else {
                lists.round::<I, false>(isa, leaves, found);
            }
        }
    }

    /// The first entry for one header, where there are not enough of them to fill vectors. Cost: its loads, one after the other.
    #[inline]
    pub(super) fn first_alone(&self, lines: &[Line], header: &Header) -> u32 {
        let (src, dst) = (header.src(), header.dst());
        let [(sources, src_class), (destinations, dst_class)] =
            [self.sides[0].alone(lines, src, dst), self.sides[1].alone(lines, dst, src)];
        let mut found = self.cross.view(lines).first_alone([src_class, dst_class], header.classes());
        let leaves = self.leaves.view(lines);
        let packet = header.transport();
        for (list, other) in [(sources, dst), (destinations, src)] {
            let rest = list.and_then(|first| leaves.get(first as usize..)).unwrap_or(&[]);
            for leaf in rest {
                let address = if self.is_wide { leaf.address(other) } else { u64::from(other) };
                let record = Scalar.first_record(leaf, packet | address);
                if record < RECORDS {
                    found = found.min(leaf.id(record));
                    break;
                }
                let goes_on =
                    if self.is_wide { leaf.goes_on_below::<true>(found) } else { leaf.goes_on_below::<false>(found) };
                if !goes_on {
                    break;
                }
            }
        }
        found
    }

    /// Records on all lists.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let sides: usize = self.sides.iter().map(|side| side.words.bytes()).sum();
        sides + self.leaves.bytes() + self.cross.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_parts_and_list_share_a_word_up_to_its_last_bit() {
        let word = |class: u32, first: Option<u32>| {
            let mut lines = Vec::new();
            let list = first.map(|first| List { first, parts: 0b1000_0001 });
            let side = Side::put(&mut lines, &[(class, list), (0, None)], 2)?;
            let &[word, none] = side.words.view(&lines) else { panic!("two intervals") };
            assert_eq!(none, 0);
            Some((word >> side.leaf_bits, word & mask(side.leaf_bits)))
        };
        assert_eq!(word(0, None), Some((0, 0)));
        assert_eq!(word(u32::MAX, None), Some((u32::MAX, 0)), "no lists take no bits");
        assert_eq!(word((1 << 12) - 1, Some((1 << 20) - 2)), Some(((1 << 12) - 1, (1 << 20) - 1)));
        assert_eq!(word(0xff, Some(0xfffe)), Some((0xff81, 0xffff)), "room for all parts");
        assert_eq!(word(0x1ff, Some(0xfffe)), Some((0x1ff9, 0xffff)), "for pairs");
        assert_eq!(word(0x1fff, Some(0xfffe)), Some((0x1fff, 0xffff)), "for none");
        assert_eq!(word(1 << 12, Some((1 << 20) - 2)), None, "a bit too many");
        assert_eq!(word((1 << 12) - 1, Some((1 << 20) - 1)), None, "a bit too many");
    }
    #[test]
    fn a_range_lies_in_the_parts_of_its_ends_and_all_between() {
        for intervals in [1, 2, 7, 8, 9, 256, 65_537, 1_000_000] {
            let part = |at: u32| List::parts((at, at), intervals);
            assert_eq!(part(0), 1);
            assert!(part(intervals - 1).is_power_of_two());
            assert_eq!(List::parts((0, intervals - 1), intervals), (part(intervals - 1) - 1) | part(intervals - 1));
            let ascending =
                (1..intervals).all(|at| part(at) == part(at - 1) || part(at) == part(at - 1) << 1 || intervals < PARTS);
            assert!(ascending, "{intervals}");
        }
        assert_eq!(List::parts((0, 255), 256), u8::MAX);
        assert_eq!(List::parts((32, 95), 256), 0b110);
    }
}
