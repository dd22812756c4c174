//! Headers of a burst and one long list in, the first entry that matches each out: entries filed under their rarer address.
//!
//! Hardly any two entries of a long list have the same rare address, so an entry is filed under that side, source or destination,
//! where fewer packets meet it; the few that are broad on both sides go into a cross product ([`super::cross`]). A packet then
//! asks three places, and the lowest number wins:
//!
//! ```text
//! source interval      ──▶ class, first record ──▶ records from there to the last of the list: destination, ports, protocol
//! destination interval ──▶ class, first record ──▶ records from there to the last of the list: source, ports, protocol
//! both classes, classes of ports and protocol ──▶ cross product
//! ```
//! Records under one interval ascend by number, so a list ends early at the first that is not below what was found already.
//!
//! The order of cases: all packets of a burst go through one phase before the next begins, so that the loads of a phase are
//! independent and overlap. Nothing branches on an answer. Lists are walked in rounds: round `k` tests record `k` of those lists
//! that have one, and writes the next round's work list without a branch; most lists end after one round.

use super::arena::{Line, Table};
use super::cross::Cross;
use super::header::{DPORT, DST, Group, LANES, PROTOCOL, SPORT, SRC, WITHOUT_PORTS};
use super::isa::{Isa, WIDTH};
use crate::base::prefetch::prefetch;

/// What the intervals of one side lead to.
///
/// ```text
///  0                                      4
///  | class 31, has records 1 (highest)    | first record |     the second word only if some interval of the side has records
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Side {
    words: Table<u32>,
    /// Binary logarithm of the words of an interval.
    shift: u32,
}

/// In the first word of an interval: it has records.
const LISTED: u32 = 1 << 31;

impl Side {
    /// From the offset of the class in the cross product and the first record, if there is any, of each interval. Control line only.
    pub fn put(lines: &mut Vec<Line>, intervals: &[(u32, Option<u32>)]) -> Side {
        let shift = u32::from(intervals.iter().any(|(_, first)| first.is_some()));
        let word = |&(class, first): &(u32, Option<u32>)| class | first.map_or(0, |_| LISTED);
        let words: Vec<u32> = match shift {
            0 => intervals.iter().map(word).collect(),
            _ => intervals.iter().flat_map(|of| [word(of), of.1.unwrap_or(0)]).collect(),
        };
        Side { words: Table::put(lines, &words), shift }
    }

    /// Bytes for so many intervals at most.
    pub const fn most_bytes(intervals: usize) -> usize {
        intervals * 8
    }
}

/// A filed entry: half a cache line, with all that a test needs.
///
/// ```text
///  0        4        8             12            16             20      24
///  | lo     | span   | sports      | dports      | protocol     | id    | 0, 0
///  other address's    first, last   first, last   lo 9, span 9,
///  interval           16 bits each  16 bits each  last of its list 29, any sport 30, any dport 31
/// ```
/// A packet without ports matches only where any port does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(32))]
pub struct Record(pub(super) [u32; 8]);

const _: () = assert!(size_of::<Record>() == 32);

const LAST: u32 = 1 << 29;
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

    /// Makes it the last of its list.
    pub fn end_list(&mut self) {
        self.0[4] |= LAST;
    }
}

/// Lists of a burst: each packet may have one of either side.
const LISTS: usize = 2 * LANES;
/// Places for them, of which sixteen are read and written at once.
const PLACES: usize = LISTS + WIDTH;

/// The lists that go on, one behind the other, with what their records are compared with.
///
/// ```text
/// places     destination port << 8 | position of the packet
/// kinds      source port << 9 | family and protocol
/// addresses  interval of the other side
/// bounds     what the cross product found: from here on, entries do not count
/// next       the record to test next
/// ```
/// A list ends at its first record that matches, so the answers of all lists have room, too:
///
/// ```text
/// hits       places, entries
/// ```
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Lists {
    places: [u32; PLACES],
    kinds: [u32; PLACES],
    addresses: [u32; PLACES],
    bounds: [u32; PLACES],
    next: [u32; PLACES],
    hits: [[u32; PLACES]; 2],
    len: usize,
    hit: usize,
}

/// Bits of a position in [`Lists::places`].
const PLACE_BITS: u32 = 8;

const _: () = assert!(LANES <= 1 << PLACE_BITS);

impl Default for Lists {
    fn default() -> Lists {
        let none = [0; PLACES];
        let hits = [none; 2];
        Lists { places: none, kinds: none, addresses: none, bounds: none, next: none, hits, len: 0, hit: 0 }
    }
}

/// Sixteen elements from a position, that of a list.
#[inline(always)]
fn chunk(of: &[u32; PLACES], from: usize) -> &[u32; WIDTH] {
    of[from.min(LISTS)..].first_chunk().unwrap_or(&[0; WIDTH])
}

/// Writes the lanes of a mask behind a position, and what lies behind them is lost.
#[inline(always)]
fn pack<I: Isa>(isa: I, mask: u16, lanes: I::V, to: &mut [u32; PLACES], at: usize) {
    if let Some(to) = to[at.min(LISTS)..].first_chunk_mut() {
        isa.pack(mask, lanes, to);
    }
}

impl Lists {
    /// Puts the lists of a mask at the end; their bounds are not known yet.
    #[inline(always)]
    fn push<I: Isa>(&mut self, isa: I, mask: u16, [places, kinds, addresses, next]: [I::V; 4]) {
        pack(isa, mask, places, &mut self.places, self.len);
        pack(isa, mask, kinds, &mut self.kinds, self.len);
        pack(isa, mask, addresses, &mut self.addresses, self.len);
        pack(isa, mask, next, &mut self.next, self.len);
        self.len += mask.count_ones() as usize;
    }

    /// Takes what was found so far for bounds.
    #[inline(always)]
    fn bind<I: Isa>(&mut self, isa: I, found: &[u32]) {
        for from in (0..self.len.min(LISTS)).step_by(WIDTH) {
            let places = isa.and(isa.load(chunk(&self.places, from)), isa.splat((1 << PLACE_BITS) - 1));
            let bounds = isa.words(found, places);
            pack(isa, u16::MAX, bounds, &mut self.bounds, from);
        }
    }

    /// Tests the next record of each list, sixteen at once, and keeps those lists that go on.
    #[inline(always)]
    fn round<I: Isa>(&mut self, isa: I, records: &[Record]) {
        let len = std::mem::take(&mut self.len).min(LISTS);
        // Lanes without a list read the first record: what other lists left there may lie behind the end of these.
        pack(isa, u16::MAX, isa.splat(0), &mut self.next, len);
        let low16 = isa.splat(0xffff);
        let nine = isa.splat((1 << PROTOCOL_BITS) - 1);
        for from in (0..len).step_by(WIDTH) {
            let places = isa.load(chunk(&self.places, from));
            let kinds = isa.load(chunk(&self.kinds, from));
            let addresses = isa.load(chunk(&self.addresses, from));
            let bounds = isa.load(chunk(&self.bounds, from));
            let next = isa.add(isa.load(chunk(&self.next, from)), isa.splat(1));
            let [lo, span, sports, dports, protocols, ids] = isa.records(records, chunk(&self.next, from));
            let protocol_span = isa.and(isa.shift_right(protocols, PROTOCOL_BITS), nine);
            let protocol = isa.subtract(isa.and(kinds, nine), isa.and(protocols, nine));
            let mut misses = isa.above(isa.subtract(addresses, lo), span) | isa.above(protocol, protocol_span);
            let ports = [
                (isa.shift_right(kinds, PROTOCOL_BITS), sports, ANY_SPORT),
                (isa.shift_right(places, PLACE_BITS), dports, ANY_DPORT),
            ];
            for (port, pair, flag) in ports {
                let first = isa.and(pair, low16);
                let span = isa.subtract(isa.shift_right(pair, 16), first);
                misses |= isa.above(isa.subtract(port, first), span) & !isa.has(protocols, flag);
            }
            let live = ((1u32 << (len - from).min(WIDTH)) - 1) as u16 & isa.above(bounds, ids);
            let hits = live & !misses;
            let [hit_places, hit_entries] = &mut self.hits;
            pack(isa, hits, places, hit_places, self.hit);
            pack(isa, hits, ids, hit_entries, self.hit);
            self.hit += hits.count_ones() as usize;
            let live = live & misses & !isa.has(protocols, LAST);
            // What is written lies before what is still to be read.
            pack(isa, live, bounds, &mut self.bounds, self.len);
            self.push(isa, live, [places, kinds, addresses, next]);
        }
    }

    /// Puts the answers of the lists where they are lower than what was found.
    #[inline(always)]
    fn end(&self, found: &mut [u32]) {
        let [places, entries] = &self.hits;
        for (&place, &entry) in places.iter().zip(entries).take(self.hit) {
            if let Some(found) = found.get_mut(place as usize & ((1 << PLACE_BITS) - 1)) {
                *found = entry.min(*found);
            }
        }
    }
}

/// One long list: where its tables lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    /// By interval of the source, of the destination.
    pub(crate) sides: [Side; 2],
    pub(crate) records: Table<Record>,
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
        found: &mut [[u32; WIDTH]],
    ) {
        const GROUPS: usize = LANES / WIDTH;
        let [sources, destinations] = self.sides;
        let sides = [sources.words.view(lines), destinations.words.view(lines)];
        let cross = self.cross.view(lines);
        let records = self.records.view(lines);
        let mut pairs = [[0u32; WIDTH]; GROUPS];
        (lists.len, lists.hit) = (0, 0);
        let order = isa.load(&std::array::from_fn(|lane| lane as u32));
        for (g, group) in groups.iter().enumerate().take(GROUPS) {
            // No closures here: the compiler does not look through them for what the processor can do.
            let intervals = [isa.load(&group.0[SRC]), isa.load(&group.0[DST])];
            let at = [isa.shift_left(intervals[0], sources.shift), isa.shift_left(intervals[1], destinations.shift)];
            let words = [isa.words(sides[0], at[0]), isa.words(sides[1], at[1])];
            pairs[g] = isa.store(isa.and(isa.add(words[0], words[1]), isa.splat(LISTED - 1)));
            let listed = [isa.has(words[0], LISTED), isa.has(words[1], LISTED)];
            if listed[0] | listed[1] == 0 {
                continue;
            }
            let places = isa.add(order, isa.splat((g * WIDTH) as u32));
            let places = isa.add(places, isa.shift_left(isa.load(&group.0[DPORT]), PLACE_BITS));
            let kinds = isa.shift_left(isa.load(&group.0[SPORT]), PROTOCOL_BITS);
            let kinds = isa.add(kinds, isa.load(&group.0[PROTOCOL]));
            for side in 0..2 {
                if listed[side] != 0 {
                    let first = isa.words_where(listed[side], sides[side], isa.add(at[side], isa.splat(1)), at[side]);
                    lists.push(isa, listed[side], [places, kinds, intervals[1 - side], first]);
                }
            }
        }
        for &at in lists.next.iter().take(lists.len) {
            if let Some(record) = records.get(at as usize) {
                prefetch(record);
            }
        }
        let mut port_classes = [[0u32; WIDTH]; GROUPS];
        for (g, group) in groups.iter().enumerate().take(GROUPS) {
            let classes = cross.port_classes(isa, group);
            port_classes[g] = isa.store(classes);
            pairs[g] = isa.store(cross.chunks(isa, isa.load(&pairs[g]), classes));
        }
        for (g, found) in found.iter_mut().enumerate().take(groups.len().min(GROUPS)) {
            *found = isa.store(cross.ids(isa, isa.load(&pairs[g]), isa.load(&port_classes[g])));
        }
        if lists.len > 0 {
            lists.bind(isa, found.as_flattened());
            while lists.len > 0 {
                lists.round(isa, records);
            }
            lists.end(found.as_flattened_mut());
        }
    }

    /// Records on all lists.
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let sides: usize = self.sides.iter().map(|side| side.words.bytes()).sum();
        sides + self.records.bytes() + self.cross.bytes()
    }
}
