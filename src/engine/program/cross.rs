//! Classes of all five fields in, the first of a few broad entries out: cross-product tables.
//!
//! The broad entries of a list are those that a packet can match wherever it comes from and goes to, so that no address files them
//! away. There are few of them, and few ways to combine them: their sets cut each field into few classes, and for every combination
//! the answer is written down beforehand (recursive flow classification: Gupta and McKeown, 1999).
//!
//! ```text
//! pairs[source class * width + destination class]                -> row: offset into `chunks`           u32
//! ports[source port class + destination port class + protocol]   -> port class                          u16
//! chunks[row + port class / 2^shift]                             -> offset into `answers`                u32
//! answers[chunk + port class % 2^shift]                          -> 0 = none, else 1 + number in the list u16
//! ```
//! Where the numbers of the broad entries do not have room in 16 bits, what stands there is 1 + place in `ids`, which has them.
//! Tables of 16-bit elements end with one element of padding. Classes of ports are multiplied by the width of what follows when the tables
//! are built, so that a look-up adds. Rows differ from each other in a few ports only; cut into chunks, of which equal ones are kept
//! once, they take a tenth of the memory.

use super::arena::{Line, Table};
use super::header::{CLASSES, Group};
use super::isa::Isa;

/// Where the tables lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cross {
    /// By class of source port, destination port, protocol: offset into `ports`.
    pub(crate) offsets: [Table<u32>; 3],
    /// Instead of offsets, where `ports` holds every combination of classes: the factor of each.
    pub(crate) factors: [u32; 3],
    pub(crate) ports: Table<u16>,
    /// Classes of destinations.
    pub(crate) width: u32,
    pub(crate) pairs: Table<u32>,
    pub(crate) chunks: Table<u32>,
    pub(crate) shift: u32,
    pub(crate) answers: Table<u16>,
    /// Entries by answer, if answers are not entries themselves; the first is [`NONE`](super::classifier::NONE).
    pub(crate) ids: Table<u32>,
}

/// The tables, ready to be asked.
#[derive(Clone, Copy)]
pub(super) struct CrossTables<'t> {
    offsets: [&'t [u32]; 3],
    factors: [u32; 3],
    ports: &'t [u16],
    width: u32,
    pairs: &'t [u32],
    chunks: &'t [u32],
    shift: u32,
    answers: &'t [u16],
    ids: &'t [u32],
}

impl Cross {
    #[inline(always)]
    pub(super) fn view<'t>(&self, lines: &'t [Line]) -> CrossTables<'t> {
        CrossTables {
            offsets: self.offsets.map(|table| table.view(lines)),
            factors: self.factors,
            ports: self.ports.view(lines),
            width: self.width,
            pairs: self.pairs.view(lines),
            chunks: self.chunks.view(lines),
            shift: self.shift,
            answers: self.answers.view(lines),
            ids: self.ids.view(lines),
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let offsets: usize = self.offsets.iter().map(|table| table.bytes()).sum();
        offsets
            + self.pairs.bytes()
            + self.ids.bytes()
            + self.chunks.bytes()
            + self.ports.bytes()
            + self.answers.bytes()
    }
}

impl CrossTables<'_> {
    /// The entry for one header whose addresses are of these classes.
    #[inline]
    pub(super) fn first_alone(&self, [src, dst]: [u32; 2], transport: [u32; 3]) -> u32 {
        let word = |table: &[u32], at: u32| table.get(at as usize).copied().unwrap_or(0);
        let half = |table: &[u16], at: u32| table.get(at as usize).map_or(0, |&half| u32::from(half));
        let mut at = 0u32;
        for ((class, factor), offsets) in transport.into_iter().zip(self.factors).zip(self.offsets) {
            let offset = if self.offsets[0].is_empty() { class.wrapping_mul(factor) } else { word(offsets, class) };
            at = at.wrapping_add(offset);
        }
        let ports = half(self.ports, at);
        let row = word(self.pairs, src.wrapping_mul(self.width).wrapping_add(dst));
        let answer = if self.chunks.is_empty() {
            row.wrapping_add(ports)
        } else {
            let chunk = word(self.chunks, row.wrapping_add(ports >> (self.shift & 31)));
            chunk.wrapping_add(ports & ((1 << (self.shift & 31)) - 1))
        };
        let answer = half(self.answers, answer);
        // None is one below 0, which is NONE.
        if self.ids.is_empty() { answer.wrapping_sub(1) } else { word(self.ids, answer) }
    }

    /// The classes of ports and protocol of sixteen headers.
    #[inline(always)]
    pub(super) fn port_classes<I: Isa>(&self, isa: I, group: &Group) -> I::V {
        let class = |which: usize| isa.load(&group.0[CLASSES + which]);
        let at = if self.offsets[0].is_empty() {
            let [sport, dport, protocol] = self.factors;
            let ports = isa.add(isa.multiply(class(0), sport), isa.multiply(class(1), dport));
            isa.add(ports, isa.multiply(class(2), protocol))
        } else {
            let [sport, dport, protocol] = self.offsets;
            isa.add(isa.add(isa.words(sport, class(0)), isa.words(dport, class(1))), isa.words(protocol, class(2)))
        };
        isa.halves(self.ports, at)
    }

    /// Pairs of address classes.
    #[inline(always)]
    pub(super) fn pairs<I: Isa>(&self, isa: I, sources: I::V, destinations: I::V) -> I::V {
        isa.add(isa.multiply(sources, self.width), destinations)
    }

    /// Where the chunks of pairs of address classes and of port classes are written.
    #[inline(always)]
    pub(super) fn chunks<I: Isa>(&self, isa: I, pairs: I::V, port_classes: I::V) -> I::V {
        let rows = isa.words(self.pairs, pairs);
        if self.chunks.is_empty() { rows } else { isa.add(rows, isa.shift_right(port_classes, self.shift)) }
    }

    /// The entries that chunks hold for port classes.
    #[inline(always)]
    pub(super) fn ids<I: Isa>(&self, isa: I, chunks: I::V, port_classes: I::V) -> I::V {
        let answers = if self.chunks.is_empty() {
            isa.add(chunks, port_classes)
        } else {
            isa.add(isa.words(self.chunks, chunks), isa.and(port_classes, isa.splat((1 << self.shift) - 1)))
        };
        let answers = isa.halves(self.answers, answers);
        // None is one below 0, which is NONE.
        if self.ids.is_empty() { isa.subtract(answers, isa.splat(1)) } else { isa.words(self.ids, answers) }
    }
}
