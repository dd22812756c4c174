//! Headers of a burst and one long list in, the first entry that matches each out: entries filed under their rarer address.
//!
//! Hardly any two entries of a long list have the same rare address, so an entry is filed under that side, source or destination,
//! where fewer packets meet it; the few that are broad on both sides go into a cross product ([`super::cross`]). A packet then
//! asks three places, and the lowest number wins:
//!
//! ```text
//! source interval      ──▶ Side { class, first, len } ──▶ records [first .. first + len]: destination, ports, protocol
//! destination interval ──▶ Side { class, first, len } ──▶ records [first .. first + len]: source, ports, protocol
//! both classes, classes of ports and protocol ──▶ cross product
//! ```
//! Records under one interval ascend by number, so a list ends early at the first that is not below what was found already.
//!
//! The order of cases: all packets of a burst go through one phase before the next begins, so that the loads of a phase are
//! independent and overlap. Nothing branches on an answer. Lists are walked in rounds: round `k` tests record `k` of those lists
//! that have one, and writes the next round's work list without a branch; most lists end after one round.

use bytemuck::cast_slice;

use super::arena::{Line, Table};
use super::cross::Cross;
use super::header::{DST, Group, LANES, PROTOCOL, SPORT, SRC, WITHOUT_PORTS};
use super::isa::{Isa, WIDTH};
use crate::base::prefetch::prefetch;

/// What a source or destination interval leads to.
///
/// ```text
///  0        4        8        12       16
///  | class  | first  | len    | 0      |
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(16))]
pub struct Side {
    /// Offset of its class in the cross product.
    pub class: u32,
    /// First record filed under it.
    pub first: u32,
    /// Number of records.
    pub len: u32,
    pub(crate) _rest: u32,
}

/// A filed entry: half a cache line, with all that a test needs.
///
/// ```text
///  0        4        8             12            16             20      24
///  | lo     | span   | sports      | dports      | protocol     | id    | 0, 0
///  other address's    first, last   first, last   lo 9, span 9,
///  interval           16 bits each  16 bits each  any sport 30, any dport 31
/// ```
/// A packet without ports matches only where any port does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(32))]
pub struct Record([u32; 8]);

const _: () = assert!(size_of::<Record>() == 32 && size_of::<Side>() == 16);

const ANY_SPORT: u32 = 1 << 30;
const ANY_DPORT: u32 = 1 << 31;
const PROTOCOL_BITS: u32 = 9;

impl Record {
    /// From inclusive ranges; ports that reach to [`WITHOUT_PORTS`] are any.
    pub fn new(address: (u32, u32), ports: [(u32, u32); 2], protocol: (u32, u32), id: u32) -> Record {
        let pair = |(first, last): (u32, u32)| first | last.min(WITHOUT_PORTS - 1) << 16;
        let any = |(_, last): (u32, u32), flag: u32| if last >= WITHOUT_PORTS { flag } else { 0 };
        let protocols = protocol.0 | (protocol.1 - protocol.0) << PROTOCOL_BITS;
        let flags = any(ports[0], ANY_SPORT) | any(ports[1], ANY_DPORT);
        Record([address.0, address.1 - address.0, pair(ports[0]), pair(ports[1]), protocols | flags, id, 0, 0])
    }
}

/// The lists of one side that go on, one behind the other.
struct List {
    /// Positions of their packets.
    lanes: [u32; LANES + WIDTH],
    /// The record to test next.
    next: [u32; LANES + WIDTH],
    /// The one behind the last.
    ends: [u32; LANES + WIDTH],
    len: usize,
}

impl Default for List {
    fn default() -> List {
        List { lanes: [0; LANES + WIDTH], next: [0; LANES + WIDTH], ends: [0; LANES + WIDTH], len: 0 }
    }
}

impl List {
    /// Puts the lists of a mask at the end.
    #[inline(always)]
    fn push<I: Isa>(&mut self, isa: I, mask: u16, lanes: I::V, next: I::V, ends: I::V) {
        let at = self.len.min(LANES);
        for (to, from) in [(&mut self.lanes, lanes), (&mut self.next, next), (&mut self.ends, ends)] {
            if let Some(to) = to[at..].first_chunk_mut() {
                isa.pack(mask, from, to);
            }
        }
        self.len = at + mask.count_ones() as usize;
    }

    /// Tests the next record of each list, sixteen at once, and keeps those lists that go on. A packet has one list here, so that no
    /// two lanes write to one answer. `columns` are those of the groups, `address` the one that records of this side compare.
    #[inline(always)]
    fn round<I: Isa>(&mut self, isa: I, records: &[u32], columns: &[u32], address: usize, found: &mut [u32]) {
        let len = std::mem::take(&mut self.len).min(LANES);
        let low16 = isa.splat(0xffff);
        let nine = isa.splat((1 << PROTOCOL_BITS) - 1);
        for from in (0..len).step_by(WIDTH) {
            let load = |of: &[u32; LANES + WIDTH]| isa.load(of[from..].first_chunk().unwrap_or(&[0; WIDTH]));
            let (lanes, next, ends) = (load(&self.lanes), load(&self.next), load(&self.ends));
            // Lane l of group g is word 128 g + l of its first column.
            let group = isa.shift_left(isa.shift_right(lanes, 4), 7);
            let word = isa.add(group, isa.and(lanes, isa.splat(15)));
            let column = |column: usize| isa.words(columns, isa.add(word, isa.splat((column * WIDTH) as u32)));
            let at = isa.shift_left(next, 3);
            let field = |field: u32| isa.words(records, isa.add(at, isa.splat(field)));
            let outside = |value: I::V, lo: I::V, span: I::V| isa.above(isa.subtract(value, lo), span);
            let mut live = ((1u32 << (len - from).min(WIDTH)) - 1) as u16;
            let mut holds = live & !outside(column(address), field(0), field(1));
            let protocols = field(4);
            let span = isa.and(isa.shift_right(protocols, PROTOCOL_BITS), nine);
            holds &= !outside(column(PROTOCOL), isa.and(protocols, nine), span);
            for (which, flag) in [(0, ANY_SPORT), (1, ANY_DPORT)] {
                let pair = field(2 + which as u32);
                let first = isa.and(pair, low16);
                let span = isa.subtract(isa.shift_right(pair, 16), first);
                let is_any = isa.at_least(isa.and(protocols, isa.splat(flag)), 1);
                holds &= is_any | !outside(column(SPORT + which), first, span);
            }
            let (id, best) = (field(5), isa.words(found, lanes));
            let is_lower = isa.above(best, id);
            let best = isa.store(isa.select(holds & is_lower, id, best));
            let places = isa.store(lanes);
            for (&best, &lane) in best.iter().zip(&places).take(len - from) {
                if let Some(found) = found.get_mut(lane as usize) {
                    *found = best;
                }
            }
            let next = isa.add(next, isa.splat(1));
            live &= is_lower & !holds & isa.above(ends, next);
            self.push(isa, live, lanes, next, ends);
        }
    }
}

/// One long list: where its tables lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    /// By interval of the source, of the destination.
    pub(crate) sides: [Table<Side>; 2],
    pub(crate) records: Table<Record>,
    pub(crate) cross: Cross,
}

impl Split {
    /// The first entry for each header, in place of what `found` holds; as many as the shorter slice has groups.
    #[inline(always)]
    pub(super) fn first<I: Isa>(&self, isa: I, lines: &[Line], groups: &[Group], found: &mut [[u32; WIDTH]]) {
        const GROUPS: usize = LANES / WIDTH;
        let sides = self.sides.map(|side| cast_slice::<Side, u32>(side.view(lines)));
        let cross = self.cross.view(lines);
        let records = self.records.view(lines);
        let mut pairs = [[0u32; WIDTH]; GROUPS];
        let mut lists = [List::default(), List::default()];
        let order = isa.load(&std::array::from_fn(|lane| lane as u32));
        for (g, group) in groups.iter().enumerate().take(GROUPS) {
            // No closures here: the compiler does not look through them for what the processor can do.
            let at = [isa.shift_left(isa.load(&group.0[SRC]), 2), isa.shift_left(isa.load(&group.0[DST]), 2)];
            pairs[g] = isa.store(isa.add(isa.words(sides[0], at[0]), isa.words(sides[1], at[1])));
            if records.is_empty() {
                continue;
            }
            for side in 0..2 {
                let first = isa.words(sides[side], isa.add(at[side], isa.splat(1)));
                let len = isa.words(sides[side], isa.add(at[side], isa.splat(2)));
                let lanes = isa.add(order, isa.splat((g * WIDTH) as u32));
                lists[side].push(isa, isa.at_least(len, 1), lanes, first, isa.add(first, len));
            }
        }
        for list in &lists {
            for &at in list.next.iter().take(list.len) {
                if let Some(record) = records.get(at as usize) {
                    prefetch(record);
                }
            }
        }
        let mut port_classes = [[0u32; WIDTH]; GROUPS];
        for (g, group) in groups.iter().enumerate().take(GROUPS) {
            let classes = cross.port_classes(isa, group);
            port_classes[g] = isa.store(classes);
            pairs[g] = isa.store(cross.chunks(isa, isa.load(&pairs[g]), classes));
        }
        for (g, found) in found.iter_mut().enumerate().take(GROUPS) {
            *found = isa.store(cross.ids(isa, isa.load(&pairs[g]), isa.load(&port_classes[g])));
        }
        let records = cast_slice::<Record, u32>(records);
        let (columns, found) = (cast_slice::<Group, u32>(groups), found.as_flattened_mut());
        for (address, list) in [DST, SRC].into_iter().zip(&mut lists) {
            while list.len > 0 {
                list.round(isa, records, columns, address, found);
            }
        }
    }

    /// Records on all lists.
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let sides: usize = self.sides.iter().map(|side| side.bytes()).sum();
        sides + self.records.bytes() + self.cross.bytes()
    }
}
