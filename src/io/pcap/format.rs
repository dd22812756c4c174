//! Bytes of a pcap or pcapng file in, the place of the next packet among them out. Sources: draft-ietf-opsawg-pcap and
//! draft-ietf-opsawg-pcapng.

use super::read::Located;
use crate::base::prefetch::prefetch;
use crate::base::time::Now;

/// Longest packet that is accepted, the largest snapshot length of libpcap. A longer one is damage, and blocks of memory are
/// made so that a packet of this length fits.
pub(super) const MAX_PACKET: usize = 262_144;

/// How the bytes of a packet start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Raw,
    /// 16 bytes of Linux cooked header, version 1.
    Cooked,
    /// 20 bytes of Linux cooked header, version 2.
    Cooked2,
}

impl Link {
    /// The link types of the tcpdump registry that can be judged.
    fn of(number: u16) -> Result<Link, u16> {
        match number {
            1 => Ok(Link::Ethernet),
            12 | 14 | 101 | 228 | 229 => Ok(Link::Raw),
            113 => Ok(Link::Cooked),
            276 => Ok(Link::Cooked2),
            other => Err(other),
        }
    }
}

/// Order of the bytes in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        }
    }

    #[inline]
    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        }
    }

    /// The `N`-th 32-bit word of a header.
    #[inline]
    fn word<const N: usize, const LENGTH: usize>(self, header: &[u8; LENGTH]) -> u32 {
        const { assert!(N * 4 + 4 <= LENGTH) };
        self.u32([header[N * 4], header[N * 4 + 1], header[N * 4 + 2], header[N * 4 + 3]])
    }
}

/// How ticks become nanoseconds (`if_tsresol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// So many nanoseconds each.
    Times(u64),
    /// So many to the nanosecond; 0 = more than can be counted.
    Per(u64),
    /// This power of two to the second.
    Binary(u8),
}

impl Resolution {
    const MICROSECONDS: Resolution = Resolution::Times(1_000);
    const NANOSECONDS: Resolution = Resolution::Times(1);

    /// Ticks of this power of ten to the second.
    fn decimal(digits: u8) -> Resolution {
        match digits {
            0..=9 => Resolution::Times(10u64.pow(9 - u32::from(digits))),
            _ => Resolution::Per(10u64.checked_pow(u32::from(digits) - 9).unwrap_or(0)),
        }
    }

    #[inline]
    fn nanoseconds(self, ticks: u64) -> u64 {
        match self {
            Resolution::Times(nanoseconds) => ticks.saturating_mul(nanoseconds),
            Resolution::Per(ticks_each) => ticks.checked_div(ticks_each).unwrap_or(0),
            Resolution::Binary(bits) => {
                u64::try_from((u128::from(ticks) * 1_000_000_000) >> bits.min(127)).unwrap_or(u64::MAX)
            }
        }
    }
}

/// A packet among the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Offset of its first byte.
    pub start: usize,
    /// Bytes that were captured.
    pub length: usize,
    /// Bytes that were on the wire.
    pub original_length: u32,
    /// When.
    pub time: Now,
    /// How it starts.
    pub link: Link,
}

/// What lies at the start of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// This many bytes are needed to say; `what` they are.
    Needs { length: usize, what: &'static str },
    /// Nothing of interest for this many bytes, which need not be at hand.
    Skip(u64),
    /// A packet, and the length of its whole record.
    Packet(Packet, usize),
}

/// What is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The file is no capture.
    Unknown(&'static str),
    /// It contradicts the format.
    Damaged(String),
    /// Its packets cannot be judged.
    LinkType(u16),
}

/// One interface of a pcapng section.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Result<Link, u16>,
    resolution: Resolution,
    /// Nanoseconds that are added to each timestamp.
    offset: i64,
    snapshot_length: u32,
}

/// The format of a file, known from its first bytes, and what its headers said so far.
#[derive(Debug)]
pub(super) enum Format {
    /// The first bytes were not seen yet.
    Unseen,
    /// A pcap file behind its header.
    Pcap(Pcap),
    /// A pcapng file.
    Pcapng(Pcapng),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pcap {
    order: Order,
    resolution: Resolution,
    link: Link,
}

#[derive(Debug)]
pub(super) struct Pcapng {
    order: Order,
    interfaces: Vec<Interface>,
    /// Time of the packet before, for packets without one.
    last: Now,
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const ENHANCED_PACKET: u32 = 6;
/// Bytes of an enhanced packet block without data.
const EMPTY_PACKET: usize = 32;
/// Longest block of one packet or interface. Options may follow a packet; more of them is no capture that a tool wrote.
pub(super) const LONGEST_BLOCK: usize = MAX_PACKET + 0x2_0000;

impl Format {
    /// What lies at the start of `bytes`; headers that it meets are remembered.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Item, Problem> {
        match self {
            Format::Pcap(pcap) => pcap.next(bytes),
            Format::Pcapng(pcapng) => pcapng.next(bytes),
            Format::Unseen => self.recognise(bytes),
        }
    }

    /// Finds the frequent kind of packets from `at` on, as long as they are whole and nothing is wrong: Ethernet frames of pcap
    /// files, and of enhanced packet blocks. Moves `at` behind them; what it leaves, [`Format::next`] explains.
    #[inline]
    pub fn locate_many(&mut self, bytes: &[u8], at: &mut usize, take: impl FnMut(Located)) {
        match self {
            Format::Pcap(pcap) if pcap.link == Link::Ethernet => match pcap.order {
                Order::Little => pcap.locate_many(u32::from_le_bytes, bytes, at, take),
                Order::Big => pcap.locate_many(u32::from_be_bytes, bytes, at, take),
            },
            Format::Pcapng(pcapng) => match pcapng.order {
                Order::Little => pcapng.locate_many(u32::from_le_bytes, bytes, at, take),
                Order::Big => pcapng.locate_many(u32::from_be_bytes, bytes, at, take),
            },
            Format::Pcap(_) | Format::Unseen => {}
        }
    }

    fn recognise(&mut self, bytes: &[u8]) -> Result<Item, Problem> {
        let Some(magic) = bytes.first_chunk::<4>() else {
            return Ok(Item::Needs { length: 4, what: "file header" });
        };
        let (order, resolution) = match u32::from_be_bytes(*magic) {
            0xa1b2_c3d4 => (Order::Big, Resolution::MICROSECONDS),
            0xa1b2_3c4d => (Order::Big, Resolution::NANOSECONDS),
            0xd4c3_b2a1 => (Order::Little, Resolution::MICROSECONDS),
            0x4d3c_b2a1 => (Order::Little, Resolution::NANOSECONDS),
            SECTION_HEADER => {
                *self = Format::Pcapng(Pcapng { order: Order::Little, interfaces: Vec::new(), last: Now(0) });
                return Ok(Item::Skip(0));
            }
            number if number >> 16 == 0x1f8b => {
                return Err(Problem::Unknown("; it is compressed with gzip, unpack it first"));
            }
            0x28b5_2ffd => return Err(Problem::Unknown("; it is compressed with zstd, unpack it first")),
            0xa1b2_cd34 | 0x34cd_b2a1 => {
                return Err(Problem::Unknown("; it is a variant of pcap that only patched tools write, convert it"));
            }
            _ => return Err(Problem::Unknown("")),
        };
        let Some(header) = bytes.first_chunk::<24>() else {
            return Ok(Item::Needs { length: 24, what: "file header" });
        };
        // The high half holds the length of a frame check sequence, which counts as padding.
        let link = Link::of(order.word::<5, 24>(header) as u16).map_err(Problem::LinkType)?;
        *self = Format::Pcap(Pcap { order, resolution, link });
        Ok(Item::Skip(24))
    }
}

impl Pcap {
    #[inline]
    fn next(&self, bytes: &[u8]) -> Result<Item, Problem> {
        let Some(header) = bytes.first_chunk::<16>() else {
            return Ok(Item::Needs { length: 16, what: "record" });
        };
        let length = checked_length(self.order.word::<2, 16>(header))?;
        let record = 16 + length;
        if bytes.len() < record {
            return Ok(Item::Needs { length: record, what: "record" });
        }
        let seconds = u64::from(self.order.word::<0, 16>(header));
        let time = seconds * 1_000_000_000 + self.resolution.nanoseconds(self.order.word::<1, 16>(header).into());
        let original_length = self.order.word::<3, 16>(header);
        Ok(Item::Packet(Packet { start: 16, length, original_length, time: Now(time), link: self.link }, record))
    }
}

/// So many bytes ahead of the record at hand the block is fetched into the first-level cache.
const FETCHED: usize = 512;

#[inline(always)]
fn fetch_ahead(rest: &[u8]) {
    if let Some(ahead) = rest.get(FETCHED) {
        prefetch(ahead);
    }
}

impl Pcap {
    /// [`Format::locate_many`], in an order of bytes that the compiler knows.
    #[inline(always)]
    fn locate_many(&self, word: impl Fn([u8; 4]) -> u32, bytes: &[u8], at: &mut usize, mut take: impl FnMut(Located)) {
        let nanoseconds = self.resolution.nanoseconds(1);
        let mut start = *at;
        while let Some(rest) = bytes.get(start..)
            && let Some((header, data)) = rest.split_first_chunk::<16>()
        {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *header;
            let (length, original_length) = (word([i, j, k, l]), word([m, n, o, p]));
            if length as usize > data.len().min(MAX_PACKET) {
                break;
            }
            fetch_ahead(data);
            // Less than 2^32 seconds and 2^32 milliseconds: no overflow.
            let time = u64::from(word([a, b, c, d])) * 1_000_000_000 + u64::from(word([e, f, g, h])) * nanoseconds;
            take(Located { time: Now(time), start: (start + 16) as u32, length, original_length });
            start += 16 + length as usize;
        }
        *at = start;
    }
}

/// A captured length that can be believed.
#[inline]
fn checked_length(length: u32) -> Result<usize, Problem> {
    match usize::try_from(length) {
        Ok(length) if length <= MAX_PACKET => Ok(length),
        _ => Err(Problem::Damaged(format!("a packet of {length} bytes, expected at most {MAX_PACKET}"))),
    }
}

impl Pcapng {
    /// [`Format::locate_many`], in an order of bytes that the compiler knows.
    #[inline(always)]
    fn locate_many(
        &mut self,
        word: impl Fn([u8; 4]) -> u32,
        bytes: &[u8],
        at: &mut usize,
        mut take: impl FnMut(Located),
    ) {
        let mut start = *at;
        while let Some(rest) = bytes.get(start..)
            && let Some((header, data)) = rest.split_first_chunk::<28>()
        {
            let field = |n: usize| match header.as_chunks::<4>().0.get(n) {
                Some(bytes) => word(*bytes),
                None => 0,
            };
            let (total, length) = (field(1) as usize, field(5));
            let is_whole = field(0) == ENHANCED_PACKET
                && total.is_multiple_of(4)
                && (EMPTY_PACKET..=LONGEST_BLOCK).contains(&total)
                && length as usize <= (total - EMPTY_PACKET).min(MAX_PACKET)
                && rest.get(..total).and_then(|block| block.last_chunk::<4>()).is_some_and(|b| word(*b) == field(1));
            let Some(interface) = self.interfaces.get(field(2) as usize).filter(|_| is_whole) else { break };
            if interface.link != Ok(Link::Ethernet) {
                break;
            }
            fetch_ahead(data);
            let ticks = u64::from(field(3)) << 32 | u64::from(field(4));
            self.last = Now(interface.resolution.nanoseconds(ticks).saturating_add_signed(interface.offset));
            take(Located { time: self.last, start: (start + 28) as u32, length, original_length: field(6) });
            start += total;
        }
        *at = start;
    }

    fn next(&mut self, bytes: &[u8]) -> Result<Item, Problem> {
        const INTERFACE: u32 = 1;
        const PACKET: u32 = 2;
        const SIMPLE_PACKET: u32 = 3;
        let Some(start) = bytes.first_chunk::<12>() else {
            return Ok(Item::Needs { length: 12, what: "block" });
        };
        let kind = self.order.word::<0, 12>(start);
        if kind == SECTION_HEADER {
            // The order of this section's bytes, its own length included, is told by its third word.
            self.order = match u32::from_be_bytes([start[8], start[9], start[10], start[11]]) {
                0x1a2b_3c4d => Order::Big,
                0x4d3c_2b1a => Order::Little,
                other => return Err(Problem::Damaged(format!("byte-order magic {other:#010x} of a section"))),
            };
            self.interfaces.clear();
        }
        let total = self.order.word::<1, 12>(start) as usize;
        if total < 12 || !total.is_multiple_of(4) {
            return Err(Problem::Damaged(format!("a block of {total} bytes, expected a multiple of 4 from 12 on")));
        }
        if !matches!(kind, INTERFACE | PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
            return Ok(Item::Skip(total as u64));
        }
        if total > LONGEST_BLOCK {
            return Err(Problem::Damaged(format!("a block of {total} bytes for one packet or interface")));
        }
        let Some(block) = bytes.get(..total) else {
            return Ok(Item::Needs { length: total, what: "block" });
        };
        let (Some(trailer), Some(body)) = (block.last_chunk::<4>(), block.get(8..total - 4)) else {
            return Err(Problem::Damaged("a block without room for its length".to_owned()));
        };
        if self.order.u32(*trailer) as usize != total {
            let at_end = self.order.u32(*trailer);
            return Err(Problem::Damaged(format!("a block of {total} bytes that ends with the length {at_end}")));
        }
        match kind {
            INTERFACE => {
                self.interfaces.push(interface(self.order, body)?);
                Ok(Item::Skip(total as u64))
            }
            _ => Ok(Item::Packet(self.packet(kind == SIMPLE_PACKET, kind == PACKET, body)?, total)),
        }
    }

    /// Enhanced, simple, and the obsolete first form of a packet block.
    fn packet(&mut self, is_simple: bool, is_old: bool, body: &[u8]) -> Result<Packet, Problem> {
        let short = || Problem::Damaged("a packet block shorter than its fields".to_owned());
        if is_simple {
            let (header, data) = body.split_first_chunk::<4>().ok_or_else(short)?;
            let interface = self.interface(0)?;
            let original_length = self.order.u32(*header);
            let limit = if interface.snapshot_length == 0 { u32::MAX } else { interface.snapshot_length };
            let length = checked_length(original_length.min(limit).min(data.len() as u32))?;
            let link = interface.link.map_err(Problem::LinkType)?;
            return Ok(Packet { start: 12, length, original_length, time: self.last, link });
        }
        let (header, data) = body.split_first_chunk::<20>().ok_or_else(short)?;
        let interface = match is_old {
            true => u32::from(self.order.u16([header[0], header[1]])),
            false => self.order.word::<0, 20>(header),
        };
        let interface = self.interface(interface)?;
        let link = interface.link.map_err(Problem::LinkType)?;
        let ticks = u64::from(self.order.word::<1, 20>(header)) << 32 | u64::from(self.order.word::<2, 20>(header));
        let length = checked_length(self.order.word::<3, 20>(header))?;
        if length > data.len() {
            return Err(Problem::Damaged(format!(
                "a packet of {length} bytes in a block with room for {}",
                data.len()
            )));
        }
        self.last = Now(interface.resolution.nanoseconds(ticks).saturating_add_signed(interface.offset));
        let original_length = self.order.word::<4, 20>(header);
        Ok(Packet { start: 28, length, original_length, time: self.last, link })
    }

    fn interface(&self, number: u32) -> Result<Interface, Problem> {
        self.interfaces.get(number as usize).copied().ok_or_else(|| {
            let known = self.interfaces.len();
            Problem::Damaged(format!("a packet of interface {number}, but the section describes {known}"))
        })
    }
}

/// An interface description block.
fn interface(order: Order, body: &[u8]) -> Result<Interface, Problem> {
    const RESOLUTION: u16 = 9;
    const OFFSET: u16 = 14;
    let Some((header, mut options)) = body.split_first_chunk::<8>() else {
        return Err(Problem::Damaged("an interface block shorter than its fields".to_owned()));
    };
    let mut interface = Interface {
        link: Link::of(order.u16([header[0], header[1]])),
        resolution: Resolution::MICROSECONDS,
        offset: 0,
        snapshot_length: order.word::<1, 8>(header),
    };
    while let Some((option, rest)) = options.split_first_chunk::<4>() {
        let (code, length) = (order.u16([option[0], option[1]]), usize::from(order.u16([option[2], option[3]])));
        let Some(value) = rest.get(..length) else {
            return Err(Problem::Damaged(format!("an option of {length} bytes beyond its interface block")));
        };
        match (code, value) {
            (0, _) => break,
            (RESOLUTION, [power]) if power & 0x80 != 0 => interface.resolution = Resolution::Binary(power & 0x7f),
            (RESOLUTION, [power]) => interface.resolution = Resolution::decimal(*power),
            (OFFSET, &[a, b, c, d, e, f, g, h]) => {
                let bytes = [a, b, c, d, e, f, g, h];
                let seconds = match order {
                    Order::Little => i64::from_le_bytes(bytes),
                    Order::Big => i64::from_be_bytes(bytes),
                };
                interface.offset = seconds.saturating_mul(1_000_000_000);
            }
            _ => {}
        }
        options = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(interface)
}
