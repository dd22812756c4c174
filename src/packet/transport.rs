//! The bytes above IP in, ports, flags and ICMP fields of the key out.

use super::checksum;
use super::key::{Key, KeyBits, Tuple};
use super::network::Network;
use super::parse::{Fault, Options, Parsed, Passed};
use super::quote;

/// Protocol numbers that have a transport header known here (IANA).
pub(super) mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
    pub const UDP_LITE: u8 = 136;
}

pub(super) const SYN: u8 = 2;

/// Fills the rest of the key. Other protocols than those above, and later fragments, have no transport fields.
#[inline]
pub(super) fn transport(network: &Network<'_>, options: &Options, key: &mut Key, quote: &mut Tuple) -> Parsed {
    let bytes = network.transport;
    // The IP length field has 16 bits.
    key.payload = bytes.len() as u16;
    if key.has(KeyBits::LATER_FRAGMENT) {
        return Parsed::Key;
    }
    let is_first = key.has(KeyBits::FIRST_FRAGMENT);
    let fault = match (key.protocol, key.has(KeyBits::V6)) {
        (protocol::TCP, _) => tcp(bytes, key),
        (protocol::UDP, _) => udp(bytes, is_first, key),
        (protocol::ICMP, false) | (protocol::ICMPV6, true) => icmp(bytes, key, quote),
        (protocol::SCTP, _) => sctp(bytes, key),
        (protocol::UDP_LITE, _) => udp_lite(bytes, is_first, key),
        _ => return Parsed::Key,
    };
    match fault {
        None => {}
        Some(Shape::Short) if is_first => return Parsed::Malformed(Fault::FragmentTiny),
        Some(_) => return Parsed::Malformed(Fault::BadL4Header),
    }
    key.bits.0 |= KeyBits::L4;
    if options.verify_l4_checksum && !is_first && !network.is_routed && !checksum::is_transport_good(bytes, key) {
        return Parsed::Malformed(Fault::BadChecksum);
    }
    if key.protocol == protocol::ICMPV6
        && matches!(key.dport >> 8, 133..=137)
        && key.has(KeyBits::V6)
        && network.hop_limit == 255
        && !network.has_fragment_header
        && !is_first
    {
        return Parsed::Pass(Passed::NeighbourDiscovery);
    }
    Parsed::Key
}

/// What is wrong with a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Shorter than it must be: tiny in a first fragment.
    Short,
    /// Wrong in any packet.
    Contradiction,
}

/// TCP (RFC 9293 3.1): flags raw, window raw, the window scale of a SYN.
#[inline]
fn tcp(bytes: &[u8], key: &mut Key) -> Option<Shape> {
    let Some((header, rest)) = bytes.split_first_chunk::<20>() else {
        return Some(Shape::Short);
    };
    key.sport = u16::from_be_bytes([header[0], header[1]]);
    key.dport = u16::from_be_bytes([header[2], header[3]]);
    key.seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    key.ack = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    key.tcp_flags = header[13];
    key.window = u16::from_be_bytes([header[14], header[15]]);
    let Some(options_length) = (usize::from(header[12] >> 4) * 4).checked_sub(20) else {
        return Some(Shape::Contradiction);
    };
    let Some((options, payload)) = rest.split_at_checked(options_length) else {
        return Some(Shape::Short);
    };
    key.payload = payload.len() as u16;
    if key.tcp_flags & SYN != 0 {
        key.window_scale = window_scale(options);
    }
    None
}

/// The window scale option (RFC 7323 2.2), at most 14; options that make no sense end the search.
pub(super) fn window_scale(mut options: &[u8]) -> u8 {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const WINDOW_SCALE: u8 = 3;
    loop {
        match *options {
            [NO_OPERATION, ref rest @ ..] => options = rest,
            [WINDOW_SCALE, 3, shift, ..] => return shift.min(14),
            [END, ..] | [_] | [] => return Key::NO_SCALE,
            [_, length, ..] => match options.get(usize::from(length)..) {
                Some(rest) if length >= 2 => options = rest,
                _ => return Key::NO_SCALE,
            },
        }
    }
}

/// UDP (RFC 768). Its length may leave bytes of the IP packet over, as Linux accepts; in a first fragment it may go beyond.
#[inline]
fn udp(bytes: &[u8], is_first: bool, key: &mut Key) -> Option<Shape> {
    let Some((header, payload)) = bytes.split_first_chunk::<8>() else {
        return Some(Shape::Short);
    };
    key.sport = u16::from_be_bytes([header[0], header[1]]);
    key.dport = u16::from_be_bytes([header[2], header[3]]);
    key.payload = payload.len() as u16;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    (length < 8 || (length > bytes.len() && !is_first)).then_some(Shape::Contradiction)
}

/// UDP-Lite (RFC 3828 3.1): coverage 0 means everything, else at least the header.
fn udp_lite(bytes: &[u8], is_first: bool, key: &mut Key) -> Option<Shape> {
    let Some((header, payload)) = bytes.split_first_chunk::<8>() else {
        return Some(Shape::Short);
    };
    key.sport = u16::from_be_bytes([header[0], header[1]]);
    key.dport = u16::from_be_bytes([header[2], header[3]]);
    key.payload = payload.len() as u16;
    let coverage = usize::from(u16::from_be_bytes([header[4], header[5]]));
    (matches!(coverage, 1..=7) || (coverage > bytes.len() && !is_first)).then_some(Shape::Contradiction)
}

/// SCTP common header (RFC 9260 3.1).
fn sctp(bytes: &[u8], key: &mut Key) -> Option<Shape> {
    let Some((header, payload)) = bytes.split_first_chunk::<12>() else {
        return Some(Shape::Short);
    };
    key.sport = u16::from_be_bytes([header[0], header[1]]);
    key.dport = u16::from_be_bytes([header[2], header[3]]);
    key.payload = payload.len() as u16;
    None
}

/// ICMP (RFC 792) and ICMPv6 (RFC 4443) of the key's family.
fn icmp(bytes: &[u8], key: &mut Key, quote: &mut Tuple) -> Option<Shape> {
    let Some((header, payload)) = bytes.split_first_chunk::<8>() else {
        return Some(Shape::Short);
    };
    let is_v6 = key.has(KeyBits::V6);
    (key.sport, key.dport) = icmp_fields(header, is_v6);
    key.payload = payload.len() as u16;
    let is_error = match is_v6 {
        false => matches!(header[0], 3 | 4 | 5 | 11 | 12),
        true => matches!(header[0], 1..=4),
    };
    if is_error && quote::read(payload, is_v6, quote) {
        key.bits.0 |= KeyBits::QUOTE;
    }
    None
}

/// Identifier of an echo (0 for others), and type and code.
#[inline]
pub(super) fn icmp_fields(header: &[u8; 8], is_v6: bool) -> (u16, u16) {
    let is_echo = match is_v6 {
        false => matches!(header[0], 0 | 8),
        true => matches!(header[0], 128 | 129),
    };
    let identifier = if is_echo { u16::from_be_bytes([header[4], header[5]]) } else { 0 };
    (identifier, u16::from_be_bytes([header[0], header[1]]))
}
