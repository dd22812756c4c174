//! Keys of a burst in, headers out: each field as a number that ascends with it, and as the class that the sets of the program make.
//!
//! A header is computed once for a packet and serves every list that its stages ask.

use super::arena::{Line, Table};
use super::isa::{Isa, WIDTH};
use super::partition::{Entry, Intervals, Partition};
use crate::base::address::Family;
use crate::packet::{Key, KeyBits};

/// Headers that one call takes.
pub const LANES: usize = 64;

/// The port of a packet without a transport header: no range of ports holds it.
pub const WITHOUT_PORTS: u32 = 1 << 16;

/// Numbers of protocols: 256 of IPv4, then 256 of IPv6.
pub const PROTOCOLS: u32 = 512;

/// Columns of a [`Group`].
pub(super) const DST: usize = 0;
pub(super) const SPORT: usize = 1;
const DPORT: usize = 2;
pub(super) const PROTOCOL: usize = 3;
pub(super) const SRC: usize = 4;
/// Three columns: classes of source port, destination port, protocol.
pub(super) const CLASSES: usize = 5;
const COLUMNS: usize = 8;

/// Sixteen headers by column.
///
/// ```text
///         lane 0 … 15
/// DST     interval of the destination
/// SPORT   source port, 65,536 = none
/// DPORT   destination port, or ICMP type and code
/// PROTOCOL  family << 8 | protocol
/// SRC     interval of the source
/// CLASSES   class of the source port, of the destination port, of the protocol
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Group(pub(super) [[u32; WIDTH]; COLUMNS]);

/// The header of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header([u32; COLUMNS]);

impl Header {
    /// Number of the source's interval.
    #[inline(always)]
    pub const fn src(&self) -> u32 {
        self.0[SRC]
    }

    /// Number of the destination's interval.
    #[inline(always)]
    pub const fn dst(&self) -> u32 {
        self.0[DST]
    }

    /// Classes of source port, destination port and protocol.
    #[inline(always)]
    pub(super) const fn classes(&self) -> [u32; 3] {
        [self.0[CLASSES], self.0[CLASSES + 1], self.0[CLASSES + 2]]
    }

    /// A group with this header in its first lane.
    #[inline(always)]
    pub(super) fn group(&self) -> Group {
        let mut group = Group::default();
        group.0.iter_mut().zip(self.0).for_each(|(column, field)| column[0] = field);
        group
    }
}

/// The headers of a burst.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    groups: [Group; LANES / WIDTH],
    len: usize,
}

impl Headers {
    /// Headers held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The header of a packet.
    #[inline]
    pub fn get(&self, at: usize) -> Header {
        self.groups.get(at / WIDTH).map_or(Header::default(), |group| Header(group.0.map(|column| column[at % WIDTH])))
    }

    /// The groups that hold anything.
    #[inline(always)]
    pub(super) fn groups(&self) -> &[Group] {
        self.groups.get(..self.len.div_ceil(WIDTH)).unwrap_or(&self.groups)
    }
}

/// What cuts the fields of a packet: where its tables lie.
#[derive(Clone, Debug)]
pub struct Fields {
    /// Sources, destinations.
    pub(crate) addresses: [Partition; 2],
    /// Class by source port, by destination port; that of packets without ports comes behind 65,536, and padding.
    pub(crate) ports: [Table<u16>; 2],
    /// Class by family and protocol, and padding.
    pub(crate) protocols: Table<u16>,
}

impl Fields {
    /// The tables in the memory they were put into.
    #[inline(always)]
    pub fn view<'t>(&self, lines: &'t [Line]) -> FieldTables<'t> {
        let [src, dst] = &self.addresses;
        FieldTables {
            addresses: [src.view(lines), dst.view(lines)],
            classes: [self.ports[0].view(lines), self.ports[1].view(lines), self.protocols.view(lines)],
        }
    }

    /// Bytes of memory: sources, destinations, source ports, destination ports, protocols.
    pub fn bytes(&self) -> [usize; 5] {
        let [src, dst] = &self.addresses;
        [src.bytes(), dst.bytes(), self.ports[0].bytes(), self.ports[1].bytes(), self.protocols.bytes()]
    }
}

/// What cuts the fields of a packet, ready to be asked.
#[derive(Clone, Copy)]
pub struct FieldTables<'t> {
    /// Sources, destinations.
    addresses: [Intervals<'t>; 2],
    /// By source port, destination port, protocol.
    classes: [&'t [u16]; 3],
}

impl FieldTables<'_> {
    #[inline(always)]
    fn class(&self, which: usize, number: u32) -> u32 {
        self.classes[which].get(number as usize).copied().map_or(0, u32::from)
    }

    /// The header of one key.
    #[inline]
    pub fn header(&self, key: &Key) -> Header {
        let ([src, dst], family) = (&self.addresses, key.family());
        let has = key.has(KeyBits::L4);
        let [sport, dport] = [key.sport, key.dport].map(|port| if has { u32::from(port) } else { WITHOUT_PORTS });
        let protocol = (family as u32) << 8 | u32::from(key.protocol);
        let (src, dst) = (src.get(family, key.src), dst.get(family, key.dst));
        let classes = [self.class(0, sport), self.class(1, dport), self.class(2, protocol)];
        Header([dst, sport, dport, protocol, src, classes[0], classes[1], classes[2]])
    }

    /// The same header with another destination, as a service translates it.
    #[inline]
    pub fn translated(&self, header: Header, family: Family, address: u128, port: u16) -> Header {
        let mut translated = header;
        translated.0[DST] = self.addresses[1].get(family, address);
        translated.0[DPORT] = u32::from(port);
        translated.0[CLASSES + 1] = self.class(1, u32::from(port));
        translated
    }

    /// The headers of a burst, [`LANES`] at most. Phases: roots of all; tables of the addresses that have one; nodes of all; deeper
    /// nodes, in rounds, of the few that have them; IPv6 addresses. Nothing branches on an address.
    #[inline(always)]
    pub(super) fn headers<I: Isa>(&self, isa: I, keys: &[Key], headers: &mut Headers) {
        const GROUPS: usize = LANES / WIDTH;
        headers.len = keys.len().min(LANES);
        // By group and side: the address, and the two halves of the entry where its search stands.
        let mut addresses = [[[0u32; WIDTH]; 2]; GROUPS];
        let mut nodes = [[[0u32; WIDTH]; 2]; GROUPS];
        let mut bases = [[[0u32; WIDTH]; 2]; GROUPS];
        // Lanes whose search goes on: group, side and lane in seven bits.
        let mut work = [0u32; 2 * LANES + WIDTH];
        let mut open = 0;
        let mut is_wide = false;
        let lanes: [u32; WIDTH] = std::array::from_fn(|lane| lane as u32);
        let low16 = isa.splat(0xffff);
        for (g, (keys, group)) in keys.chunks(WIDTH).zip(&mut headers.groups).enumerate() {
            let mut ports = [0u32; WIDTH];
            let mut facts = [0u32; WIDTH];
            let [src, dst] = &mut addresses[g];
            for (i, key) in keys.iter().enumerate().take(WIDTH) {
                src[i] = key.src as u32;
                dst[i] = key.dst as u32;
                ports[i] = u32::from(key.sport) | u32::from(key.dport) << 16;
                facts[i] = u32::from(key.protocol) | u32::from(key.bits.0) << 8;
            }
            let (ports, facts) = (isa.load(&ports), isa.load(&facts));
            let has_ports = isa.at_least(isa.and(facts, isa.splat(u32::from(KeyBits::L4) << 8)), 1);
            is_wide |= isa.at_least(isa.and(facts, isa.splat(u32::from(KeyBits::V6) << 8)), 1) != 0;
            let without = isa.splat(WITHOUT_PORTS);
            // The family is the lowest of the bits, so that family and protocol are the lowest nine here.
            let fields = [
                isa.select(has_ports, isa.and(ports, low16), without),
                isa.select(has_ports, isa.shift_right(ports, 16), without),
                isa.and(facts, isa.splat(PROTOCOLS - 1)),
            ];
            for (which, field) in fields.into_iter().enumerate() {
                group.0[SPORT + which] = isa.store(field);
                group.0[CLASSES + which] = isa.store(isa.halves(self.classes[which], field));
            }
            for side in 0..2 {
                let (node, base) = self.addresses[side].roots(isa, isa.load(&addresses[g][side]));
                nodes[g][side] = isa.store(node);
                bases[g][side] = isa.store(base);
                let tables = isa.at_least(node, Entry::TABLE);
                if tables != 0 {
                    open = append(
                        isa,
                        tables,
                        isa.add(isa.load(&lanes), isa.splat((2 * g + side) as u32 * 16)),
                        &mut work,
                        open,
                    );
                }
            }
        }
        for &lane in work.iter().take(open) {
            let (g, side, i) = place(lane);
            let entry = self.addresses[side].behind_table(bases[g][side][i], addresses[g][side][i]);
            (nodes[g][side][i], bases[g][side][i]) = entry.halves();
        }
        open = 0;
        for (g, group) in headers.groups.iter_mut().enumerate().take(keys.len().div_ceil(WIDTH)) {
            for (side, column) in [SRC, DST].into_iter().enumerate() {
                let intervals = &self.addresses[side];
                for i in 0..WIDTH {
                    let below = intervals.below(isa, nodes[g][side][i], addresses[g][side][i]);
                    group.0[column][i] = bases[g][side][i] + below;
                }
                let inner = isa.at_least(isa.load(&nodes[g][side]), Entry::INNER);
                if inner != 0 {
                    open = append(
                        isa,
                        inner,
                        isa.add(isa.load(&lanes), isa.splat((2 * g + side) as u32 * 16)),
                        &mut work,
                        open,
                    );
                }
            }
        }
        while open > 0 {
            let mut next = 0;
            for w in 0..open.min(2 * LANES) {
                let (g, side, i) = place(work[w]);
                let Some(group) = headers.groups.get_mut(g) else { break };
                let (intervals, found) = (&self.addresses[side], &mut group.0[if side == 0 { SRC } else { DST }][i]);
                let (node, base) = intervals.entry(*found).halves();
                *found = base + intervals.below(isa, node, addresses[g][side][i]);
                work[next % (2 * LANES)] = work[w];
                next += usize::from(node >= Entry::INNER);
            }
            open = next;
        }
        if is_wide {
            for (i, key) in keys.iter().enumerate().take(LANES).filter(|(_, key)| key.has(KeyBits::V6)) {
                let Some(group) = headers.groups.get_mut(i / WIDTH) else { break };
                let [src, dst] = &self.addresses;
                group.0[SRC][i % WIDTH] = src.v6_interval(key.src);
                group.0[DST][i % WIDTH] = dst.v6_interval(key.dst);
            }
        }
    }
}

/// Group, side and lane of an element of a work list.
#[inline(always)]
fn place(lane: u32) -> (usize, usize, usize) {
    let lane = lane as usize;
    (lane / (2 * WIDTH) % (LANES / WIDTH), lane / WIDTH % 2, lane % WIDTH)
}

/// Puts the lanes of a mask behind a work list; returns its new length. The list must have [`WIDTH`] places to spare.
#[inline(always)]
fn append<I: Isa>(isa: I, mask: u16, lanes: I::V, work: &mut [u32], open: usize) -> usize {
    if let Some(to) = work.get_mut(open..open + WIDTH).and_then(|to| to.try_into().ok()) {
        isa.pack(mask, lanes, to);
    }
    open + mask.count_ones() as usize
}
