//! One Ethernet frame in, one [`Key`] out, or the reason why there is none: the only entry to the bytes of a packet.
//!
//! Link layer here, IP in `network`, ports and ICMP in `transport`, packets inside ICMP errors in `quote`. Total: every byte
//! string has an outcome, nothing allocates and nothing panics. Fixed-size headers are taken as arrays, so that each field
//! access is checked when this file is compiled.

use super::columns::Columns;
use super::key::{Key, KeyBits, Tuple};
use super::{network, plain, sixteen, transport};
use crate::base::address::Direction;
use crate::base::time::Now;
use crate::base::wide::{LANES, Level};

/// Ethertype of IPv4.
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of IPv6.
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Whether the ethertype announces a VLAN tag: 802.1Q, 802.1ad, or the older 0x9100 of stacked tags.
#[inline]
const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// Ethertypes that pass unjudged (GW-28): at most [`PassList::CAPACITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassList {
    list: [u16; PassList::CAPACITY],
    count: u8,
}

impl PassList {
    /// Most ethertypes a list holds.
    pub const CAPACITY: usize = 16;

    /// A list of these ethertypes; `None` when there are more than [`PassList::CAPACITY`]. IP and VLAN ethertypes in it have no
    /// effect: such frames are always parsed.
    pub fn new(ethertypes: &[u16]) -> Option<PassList> {
        let mut list = [0; PassList::CAPACITY];
        list.get_mut(..ethertypes.len())?.copy_from_slice(ethertypes);
        Some(PassList { list, count: ethertypes.len() as u8 })
    }

    /// Whether the ethertype is listed.
    #[inline]
    pub fn contains(&self, ethertype: u16) -> bool {
        self.list.iter().take(usize::from(self.count)).any(|&listed| listed == ethertype)
    }
}

impl Default for PassList {
    /// ARP, LLDP, LACP and EAPOL.
    fn default() -> PassList {
        let mut list = [0; PassList::CAPACITY];
        let [arp, lldp, lacp, eapol, ..] = &mut list;
        (*arp, *lldp, *lacp, *eapol) = (0x0806, 0x88cc, 0x8809, 0x888e);
        PassList { list, count: 4 }
    }
}

/// What the parser is told by the gateway file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Ethertypes that pass unjudged.
    pub pass_ethertypes: PassList,
    /// Whether the checksums of TCP, UDP, UDP-Lite, SCTP, ICMP and ICMPv6 must be right (GW-29). One that holds only the
    /// pseudo-header sum (GW-30) counts as right. Fragments, and IPv6 packets with routing segments left, are not verified.
    pub verify_l4_checksum: bool,
}

/// The outcome for one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The key is filled.
    Key,
    /// The frame passes unjudged.
    Pass(Passed),
    /// The frame is denied.
    Malformed(Fault),
}

/// Why a frame passes unjudged (GW-28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Its ethertype, behind at most two VLAN tags, is listed.
    Ethertype(u16),
    /// ICMPv6 types 133 to 137 with hop limit 255 and without a fragment header (RFC 4861, RFC 6980).
    NeighbourDiscovery,
}

/// Why a frame has no key (GW-22, GW-28, GW-29).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Wrong version, header or total length; a fragment beyond 65,535 bytes; a jumbogram; IPv6 extension headers that the
    /// payload length cuts off.
    BadIpHeader,
    /// The transport header contradicts the IP length or itself.
    BadL4Header,
    /// IPv4 header checksum, or the transport checksum where it is verified.
    BadChecksum,
    /// The frame ends before its headers or before the length that its IP header gives.
    Truncated,
    /// More than 8 IPv6 extension headers, hop-by-hop options not in first place, two fragment headers, routing type 0.
    ExtHeaderChain,
    /// Not IP and not listed.
    UnknownEthertype(u16),
    /// More than two VLAN tags.
    VlanUnparsed,
    /// A first fragment without a whole transport header. The key's addresses, protocol, VLAN and fragment fields are filled.
    FragmentTiny,
}

/// Parses one Ethernet frame, without frame check sequence; padding behind the IP packet is ignored.
///
/// `key` is overwritten in every case: complete for [`Parsed::Key`], otherwise as far as the frame was understood. `quote` is
/// written exactly if the key has [`KeyBits::QUOTE`]. O(headers), or O(frame) with `verify_l4_checksum`.
#[inline]
pub fn parse(frame: &[u8], direction: Direction, options: &Options, key: &mut Key, quote: &mut Tuple) -> Parsed {
    if !options.verify_l4_checksum && plain::parse(frame, direction, key) {
        return Parsed::Key;
    }
    parse_any(frame, direction, options, key, quote)
}

/// A frame as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its bytes, without frame check sequence.
    pub bytes: &'a [u8],
    /// The side it was received on.
    pub direction: Direction,
    /// When.
    pub time: Now,
}

impl Arrival<'_> {
    /// No frame.
    pub const NOTHING: Arrival<'static> = Arrival { bytes: &[], direction: Direction::Inbound, time: Now(0) };
}

/// Up to sixteen frames.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals<'a, 'f> {
    /// Each by itself.
    pub frames: &'a [Arrival<'f>],
    /// Their bytes, in lanes. Written long before: a vector of words that were written just now is waited for.
    pub lengths: &'a [u32; LANES],
    /// Bit i: frame i was received on the downlink.
    pub outbound: u16,
}

/// What was found of sixteen frames, one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// It has another outcome than [`Parsed::Key`].
    pub keyless: u16,
    /// Its key has [`KeyBits::WHOLE`].
    pub whole: u16,
}

/// What sixteen frames are parsed into.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Keys, as [`parse()`] writes them.
    pub keys: &'a mut [Key; LANES],
    /// Tuples that ICMP errors quote.
    pub quotes: &'a mut [Tuple; LANES],
    /// Outcomes.
    pub parsed: &'a mut [Parsed; LANES],
    /// The columns of the keys, where kernels run; elsewhere nobody looks at them.
    pub columns: &'a mut Columns,
}

/// Parses up to sixteen frames, each as [`parse()`] does. Rows behind the last frame mean nothing afterwards. Cost: the plain ones are
/// parsed at once where kernels run; the others O(headers) each.
#[inline]
pub fn parse_sixteen(level: Level, arrivals: Arrivals<'_, '_>, options: &Options, rows: Rows<'_>) -> Findings {
    let Rows { keys, quotes, parsed, columns } = rows;
    let frames = arrivals.frames;
    let all = if frames.len() < LANES { (1 << frames.len()) - 1 } else { u16::MAX };
    let at_once = if options.verify_l4_checksum { None } else { sixteen::parse(level, arrivals, keys, columns) };
    let (plain, whole) = at_once.unwrap_or((0, 0));
    let mut others = all & !plain;
    parsed.fill(Parsed::Key);
    let mut found = Findings { keyless: 0, whole: whole & plain };
    while others != 0 {
        let lane = others.trailing_zeros() as usize % LANES;
        if let Some(&Arrival { bytes, direction, .. }) = frames.get(lane) {
            let (key, quote) = (&mut keys[lane], &mut quotes[lane]);
            parsed[lane] = match at_once {
                Some(_) => parse_any(bytes, direction, options, key, quote),
                None => parse(bytes, direction, options, key, quote),
            };
            found.keyless |= u16::from(parsed[lane] != Parsed::Key) << lane;
            found.whole |= u16::from(key.has(KeyBits::WHOLE)) << lane;
            if level.is_wide() {
                columns.set(lane, key);
            }
        }
        others &= others - 1;
    }
    found
}

/// Parses a frame of any kind. Stands apart so that the loop around the plain ones stays small.
#[inline(never)]
fn parse_any(frame: &[u8], direction: Direction, options: &Options, key: &mut Key, quote: &mut Tuple) -> Parsed {
    *key = Key::EMPTY;
    if let Direction::Outbound = direction {
        key.bits.0 = KeyBits::OUTBOUND;
    }
    let Some((ethertype, rest)) = link(frame, &mut key.vlan) else {
        return Parsed::Malformed(Fault::Truncated);
    };
    let network = match ethertype {
        ETHERTYPE_IPV4 => network::ipv4(rest, key),
        ETHERTYPE_IPV6 => network::ipv6(rest, key),
        tag if is_vlan(tag) => Err(Fault::VlanUnparsed),
        other if options.pass_ethertypes.contains(other) => return Parsed::Pass(Passed::Ethertype(other)),
        other => Err(Fault::UnknownEthertype(other)),
    };
    match network {
        Ok(network) => transport::transport(&network, options, key, quote),
        Err(fault) => Parsed::Malformed(fault),
    }
}

/// The ethertype behind at most two VLAN tags, whose identifiers are noted, and the bytes that follow it; `None` when the frame
/// ends before.
#[inline]
pub(super) fn link<'a>(frame: &'a [u8], vlan: &mut [u16; 2]) -> Option<(u16, &'a [u8])> {
    let (ethernet, mut rest) = frame.split_first_chunk::<14>()?;
    let mut ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    for vlan in vlan {
        if !is_vlan(ethertype) {
            break;
        }
        let (tag, inner) = rest.split_first_chunk::<4>()?;
        *vlan = u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff;
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        rest = inner;
    }
    Some((ethertype, rest))
}
