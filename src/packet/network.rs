//! An IPv4 or IPv6 packet in, the network fields of the key and the bytes of its transport out.

use super::checksum;
use super::key::{Key, KeyBits};
use super::parse::Fault;

/// Next-header values of the extension headers that are walked, and the two that end a chain (IANA protocol numbers).
mod next_header {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const NONE: u8 = 59;
    pub const DESTINATION: u8 = 60;
    pub const MOBILITY: u8 = 135;
    pub const HOST_IDENTITY: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// Extension headers that are walked at most (GW-29).
const MAX_EXTENSION_HEADERS: usize = 8;

/// What lies above IP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'a> {
    /// Bytes of the transport header and payload, as many as the IP header says; nothing of them is present in a later fragment.
    pub transport: &'a [u8],
    /// Hop limit or time to live.
    pub hop_limit: u8,
    /// Whether an IPv6 fragment header is present, atomic fragments included.
    pub has_fragment_header: bool,
    /// Whether a routing header has segments left, so that the checksum counts another destination than the header shows.
    pub is_routed: bool,
}

/// Reads an IPv4 header (RFC 791), which must be whole, consistent and have the right checksum. Options are not looked at.
#[inline]
pub(super) fn ipv4<'a>(bytes: &'a [u8], key: &mut Key) -> Result<Network<'a>, Fault> {
    let Some(header) = bytes.first_chunk::<20>() else {
        return Err(Fault::Truncated);
    };
    key.src = u128::from(u32::from_be_bytes([header[12], header[13], header[14], header[15]]));
    key.dst = u128::from(u32::from_be_bytes([header[16], header[17], header[18], header[19]]));
    key.protocol = header[9];
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_length < 20 || total_length < header_length {
        return Err(Fault::BadIpHeader);
    }
    let is_good = match header_length {
        20 => checksum::is_header_good(header),
        length => checksum::fold(checksum::sum(bytes.get(..length).ok_or(Fault::Truncated)?)) == 0xffff,
    };
    if !is_good {
        return Err(Fault::BadChecksum);
    }
    let transport = bytes.get(header_length..total_length).ok_or(Fault::Truncated)?;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if fragment != 0 {
        let id = u32::from(u16::from_be_bytes([header[4], header[5]]));
        mark_fragment(key, id, (fragment & 0x1fff) << 3, fragment & 0x2000 != 0, transport.len())?;
    }
    Ok(Network { transport, hop_limit: header[8], has_fragment_header: false, is_routed: false })
}

/// Reads an IPv6 header and its extension headers (RFC 8200).
///
/// A payload length of 0 is what it says, so a jumbogram (RFC 2675) fails: its hop-by-hop header does not fit into 0 bytes.
#[inline]
pub(super) fn ipv6<'a>(bytes: &'a [u8], key: &mut Key) -> Result<Network<'a>, Fault> {
    key.bits.0 |= KeyBits::V6;
    let Some((header, rest)) = bytes.split_first_chunk::<40>() else {
        return Err(Fault::Truncated);
    };
    let (src, dst) = ipv6_addresses(header);
    key.src = src;
    key.dst = dst;
    key.protocol = header[6];
    if header[0] >> 4 != 6 {
        return Err(Fault::BadIpHeader);
    }
    let payload_length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = rest.get(..payload_length).ok_or(Fault::Truncated)?;
    if !is_extension(header[6]) {
        let hop_limit = header[7];
        return Ok(Network { transport: payload, hop_limit, has_fragment_header: false, is_routed: false });
    }
    let mut chain = Chain::new(header[6], payload);
    let walked = chain.walk();
    key.protocol = chain.protocol;
    if let Some(fragment) = chain.fragment {
        mark_fragment(key, fragment.id, fragment.offset, fragment.more, fragment.length)?;
    }
    match walked {
        Ok(()) => Ok(Network {
            transport: chain.rest,
            hop_limit: header[7],
            has_fragment_header: chain.fragment.is_some(),
            is_routed: chain.is_routed,
        }),
        // RFC 7112: the first fragment holds the whole header chain.
        Err(ChainFault::Short) if key.has(KeyBits::FIRST_FRAGMENT) => Err(Fault::FragmentTiny),
        Err(ChainFault::Short) => Err(Fault::BadIpHeader),
        Err(ChainFault::Forbidden) => Err(Fault::ExtHeaderChain),
    }
}

/// Source and destination of an IPv6 header.
#[inline]
pub(super) fn ipv6_addresses(header: &[u8; 40]) -> (u128, u128) {
    let at = |address: Option<&[u8; 16]>| address.map_or(0, |bytes| u128::from_be_bytes(*bytes));
    let (_, addresses) = header.split_at(8);
    (at(addresses.first_chunk()), at(addresses.last_chunk()))
}

/// Notes the place of a fragment in the key. An atomic fragment (offset 0, no more; RFC 6946) is a whole packet.
///
/// Data of a fragment that is not the last should be a multiple of 8 bytes; where it is not, Linux rounds it down and so its
/// receiver decides, not this box.
fn mark_fragment(key: &mut Key, id: u32, offset: u16, more: bool, length: usize) -> Result<(), Fault> {
    if offset == 0 && !more {
        return Ok(());
    }
    let length = u16::try_from(length).map_err(|_| Fault::BadIpHeader)?;
    key.fragment_id = id;
    key.fragment_offset = offset;
    key.fragment_len = length;
    key.bits.0 |= if offset == 0 { KeyBits::FIRST_FRAGMENT } else { KeyBits::LATER_FRAGMENT };
    match offset.checked_add(length) {
        Some(_) => Ok(()),
        None => Err(Fault::BadIpHeader),
    }
}

/// Whether a next-header value announces an extension header that is walked.
#[inline]
pub(super) const fn is_extension(header: u8) -> bool {
    use next_header::*;
    matches!(header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6)
}

/// An IPv6 fragment header.
#[derive(Clone, Copy, Debug)]
pub(super) struct FragmentHeader {
    /// Identification.
    pub id: u32,
    /// Offset in bytes.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// Bytes behind the fragment header.
    pub length: usize,
}

/// Why a chain could not be walked to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainFault {
    /// A header runs past the bytes at hand.
    Short,
    /// Too many headers, a header in the wrong place, or routing type 0 (RFC 5095).
    Forbidden,
}

/// A chain of IPv6 extension headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain<'a> {
    /// The header that comes next; after [`Chain::walk`] the protocol.
    pub protocol: u8,
    /// Bytes from that header on.
    pub rest: &'a [u8],
    /// The fragment header, if one was met.
    pub fragment: Option<FragmentHeader>,
    /// Whether a routing header has segments left.
    pub is_routed: bool,
}

impl<'a> Chain<'a> {
    /// A chain that starts with the header `first` at the first of the bytes.
    pub fn new(first: u8, bytes: &'a [u8]) -> Chain<'a> {
        Chain { protocol: first, rest: bytes, fragment: None, is_routed: false }
    }

    /// Walks to the protocol, or to the fragment header of a later fragment. ESP (50) and No Next Header (59) are protocols.
    ///
    /// Mobility, HIP and Shim6 headers are walked through when something follows them; followed by No Next Header, as their
    /// RFCs demand of control messages, they are the protocol themselves, as for Linux.
    pub fn walk(&mut self) -> Result<(), ChainFault> {
        use next_header::*;
        for count in 0.. {
            let header = self.protocol;
            if !is_extension(header) {
                return Ok(());
            }
            if count == MAX_EXTENSION_HEADERS || (header == HOP_BY_HOP && count != 0) {
                return Err(ChainFault::Forbidden);
            }
            let Some(fixed) = self.rest.first_chunk::<8>() else {
                return Err(ChainFault::Short);
            };
            let length = match header {
                FRAGMENT if self.fragment.is_some() => return Err(ChainFault::Forbidden),
                FRAGMENT => 8,
                // RFC 4302 2.2: in 4-byte units minus 2, and the fixed part alone is 12 bytes.
                AUTHENTICATION if fixed[1] == 0 => return Err(ChainFault::Forbidden),
                AUTHENTICATION => (usize::from(fixed[1]) + 2) * 4,
                _ => (usize::from(fixed[1]) + 1) * 8,
            };
            let rest = self.rest.get(length..).ok_or(ChainFault::Short)?;
            match header {
                ROUTING if fixed[2] == 0 => return Err(ChainFault::Forbidden),
                ROUTING => self.is_routed |= fixed[3] != 0,
                MOBILITY | HOST_IDENTITY | SHIM6 if fixed[0] == NONE => return Ok(()),
                _ => {}
            }
            self.protocol = fixed[0];
            self.rest = rest;
            if header == FRAGMENT {
                let place = u16::from_be_bytes([fixed[2], fixed[3]]);
                let fragment = FragmentHeader {
                    id: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
                    offset: place & 0xfff8,
                    more: place & 1 != 0,
                    length: rest.len(),
                };
                self.fragment = Some(fragment);
                if fragment.offset != 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
