//! Keys of a burst in, headers out: each field as a number that ascends with it, and as the class that the sets of the program make.
//!
//! A header is computed once for a packet and serves every list that its stages ask.

use super::arena::{Line, Table};
use super::isa::{Isa, RANKED, WIDTH};
use super::partition::{Entry, Intervals, Node, Partition};
use crate::base::address::Family;
use crate::base::prefetch::prefetch;
use crate::packet::{Key, KeyBits};

/// Headers that one call takes. Each phase begins by waiting for the one before; what that costs, some 140 ns a call, is shared by all
/// headers. More than these, with all that is written down for them, would not leave room in a first cache.
pub const LANES: usize = 256;

/// The port of a packet without a transport header: no range of ports holds it.
pub const WITHOUT_PORTS: u32 = 1 << 16;

/// Numbers of protocols: 256 of IPv4, then 256 of IPv6.
pub const PROTOCOLS: u32 = 512;

/// Columns of a [`Group`].
pub(super) const DST: usize = 0;
pub(super) const SPORT: usize = 1;
pub(super) const DPORT: usize = 2;
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

    /// Ports and protocol as leaves compare them, with room for the interval of an address below: source port << 16, destination
    /// port << 32, kind << 48 (see [`super::leaf`]).
    #[inline(always)]
    pub(super) const fn transport(&self) -> u64 {
        // Above 16 bits a source port says that there is none.
        let kind = self.0[PROTOCOL] << 1 | self.0[SPORT] >> 16;
        (self.0[SPORT] as u64 & 0xffff) << 16 | (self.0[DPORT] as u64 & 0xffff) << 32 | (kind as u64 & 0xffff) << 48
    }
}

/// The headers of a burst, and where the searches for its addresses stand while they are made.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    groups: [Group; LANES / WIDTH],
    len: usize,
    searches: [Searches; 2],
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
        let of = |group: &Group| Header(group.0.each_ref().map(|column| column[at % WIDTH]));
        self.groups.get(at / WIDTH).map_or(Header::default(), of)
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
    pub fn view<'t>(&'t self, lines: &'t [Line]) -> FieldTables<'t> {
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

    /// The headers of a burst, [`LANES`] at most. Phases: fields, and roots of both addresses; tables behind them, of those that have
    /// one; classes, and nodes; IPv6 addresses. Asking nodes is arithmetic, all else waits for loads, so the two go side by side.
    /// Nothing branches on an address.
    #[inline(always)]
    pub(super) fn headers<I: Isa>(&self, isa: I, keys: &[Key], headers: &mut Headers) {
        let Headers { groups, len, searches } = headers;
        *len = keys.len().min(LANES);
        let groups = &mut groups[..len.div_ceil(WIDTH)];
        searches.iter_mut().for_each(|searches| searches.len = 0);
        // By group, the lanes that are IPv6.
        let mut wide = [0u16; GROUPS];
        let low16 = isa.splat(0xffff);
        let [src_side, dst_side] = searches;
        let [sources, destinations] = &self.addresses;
        for (g, ((keys, group), wide)) in keys.chunks(WIDTH).zip(&mut *groups).zip(&mut wide).enumerate() {
            let [mut src, mut dst, ports, facts] = isa.columns(keys);
            let has_ports = isa.at_least(isa.and(facts, isa.splat(KeyBits::in_word(KeyBits::L4))), 1);
            *wide = isa.at_least(isa.and(facts, isa.splat(KeyBits::in_word(KeyBits::V6))), 1);
            if *wide != 0 {
                // Not to go through tables that say nothing about them.
                let nothing = isa.splat(0);
                (src, dst) = (isa.select(*wide, nothing, src), isa.select(*wide, nothing, dst));
            }
            let without = isa.splat(WITHOUT_PORTS);
            group.0[SPORT] = isa.store(isa.select(has_ports, isa.and(ports, low16), without));
            group.0[DPORT] = isa.store(isa.select(has_ports, isa.shift_right(ports, 16), without));
            // The family is the lowest of the facts.
            let family = isa.and(isa.shift_right(facts, 8), isa.splat(1 << 8));
            group.0[PROTOCOL] = isa.store(isa.add(isa.and(facts, isa.splat(0xff)), family));
            group.0[SRC] = isa.store(sources.roots(isa, src));
            group.0[DST] = isa.store(destinations.roots(isa, dst));
            src_side.lows[g] = isa.store(src);
            dst_side.lows[g] = isa.store(dst);
        }
        for (g, group) in groups.iter_mut().enumerate() {
            group.0[SRC] = isa.store(src_side.push(isa, sources, isa.load(&group.0[SRC]), g));
            group.0[DST] = isa.store(dst_side.push(isa, destinations, isa.load(&group.0[DST]), g));
        }
        for part in 0..AHEAD {
            src_side.fetch(sources.nodes, part);
            dst_side.fetch(destinations.nodes, part);
        }
        for (g, group) in groups.iter_mut().enumerate() {
            for which in 0..3 {
                let class = isa.halves(self.classes[which], isa.load(&group.0[SPORT + which]));
                group.0[CLASSES + which] = isa.store(class);
            }
            src_side.rank(isa, sources.nodes, g);
            dst_side.rank(isa, destinations.nodes, g);
        }
        for (g, group) in groups.iter_mut().enumerate() {
            group.0[SRC] = isa.store(src_side.end(isa, isa.load(&group.0[SRC]), g));
            group.0[DST] = isa.store(dst_side.end(isa, isa.load(&group.0[DST]), g));
        }
        for ((keys, group), wide) in keys.chunks(WIDTH).zip(groups).zip(wide).filter(|of| of.1 != 0) {
            for (column, intervals) in [SRC, DST].into_iter().zip(&self.addresses) {
                let mut addresses = [0; WIDTH];
                for (address, key) in addresses.iter_mut().zip(keys) {
                    *address = if column == SRC { key.src } else { key.dst };
                }
                let found = isa.load(&intervals.v6_intervals(isa, &addresses));
                group.0[column] = isa.store(isa.select(wide, found, isa.load(&group.0[column])));
            }
        }
    }
}

/// How many parts ahead nodes are asked for.
const AHEAD: usize = 2;
/// Nodes, a quarter of a megabyte of them, that a second cache holds beside the other tables.
const NEAR_NODES: usize = (256 << 10) / size_of::<Node>();

/// Groups of a burst, and parts of a list of its addresses.
const GROUPS: usize = LANES / WIDTH;

/// The addresses of one side whose search goes on in a node, one behind the other.
#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
struct Searches {
    /// Numbers of the nodes, then what the nodes say.
    nodes: [[u32; WIDTH]; GROUPS],
    /// All addresses of a group until it is pushed; then of those on the list the lower halves, twice.
    lows: [[u32; WIDTH]; GROUPS],
    len: usize,
    /// By group: the lanes that have a node.
    lanes: [u16; GROUPS],
    /// By group: where its lanes begin.
    starts: [usize; GROUPS],
}

impl Searches {
    /// Goes through the tables behind the roots of group `g` and puts the lanes that come to a node behind the list. Returns the
    /// entries, which are intervals where no node is asked. Groups come in order.
    #[inline(always)]
    fn push<I: Isa>(&mut self, isa: I, intervals: &Intervals<'_>, roots: I::V, g: usize) -> I::V {
        let addresses = isa.load(&self.lows[g]);
        let entries = intervals.behind_tables(isa, roots, addresses);
        let lanes = isa.at_least(entries, Entry::NODE);
        self.lanes[g] = lanes;
        // What is on the list is not more than the lanes of the groups before: those behind have not been pushed.
        let at = self.len.min(LANES - WIDTH);
        self.starts[g] = at;
        let numbers = isa.and(entries, isa.splat(Entry::NUMBER));
        let low = isa.and(addresses, isa.splat(0xffff));
        let lows = isa.add(low, isa.shift_left(low, 16));
        for (to, from) in [(&mut self.nodes, numbers), (&mut self.lows, lows)] {
            if let Some(to) = to.as_flattened_mut()[at..].first_chunk_mut() {
                isa.pack(lanes, from, to);
            }
        }
        self.len = at + lanes.count_ones() as usize;
        entries
    }

    /// Asks for the nodes of part `part` of the list ahead of time, where they do not lie in the second cache anyway.
    #[inline(always)]
    fn fetch(&self, nodes: &[Node], part: usize) {
        if nodes.len() > NEAR_NODES {
            for &number in self.nodes.as_flattened()[..self.len.min(LANES)].iter().skip(part * WIDTH).take(WIDTH) {
                if let Some(node) = nodes.get(number as usize) {
                    prefetch(node);
                }
            }
        }
    }

    /// Asks the nodes of part `part`, sixteen, of the list.
    #[inline(always)]
    fn rank<I: Isa>(&mut self, isa: I, nodes: &[Node], part: usize) {
        self.fetch(nodes, part + AHEAD);
        let part = part.min(GROUPS - 1);
        let from = part * WIDTH;
        let count = self.len.clamp(from, from + WIDTH).next_multiple_of(RANKED) - from;
        isa.ranks(nodes, &self.lows[part][..count], &mut self.nodes[part][..count]);
    }

    /// What the nodes of a group said, in the place of what stood for them.
    #[inline(always)]
    fn end<I: Isa>(&self, isa: I, before: I::V, g: usize) -> I::V {
        let ranks = self.nodes.as_flattened()[self.starts[g].min(LANES - WIDTH)..].first_chunk();
        isa.unpack(self.lanes[g], ranks.unwrap_or(&[0; WIDTH]), before)
    }
}
