//! The packet inside an ICMP error in, its five-tuple out (GW-27).

use super::key::Tuple;
use super::network::{Chain, ipv6_addresses};
use super::transport::{icmp_fields, protocol};

/// Reads the quoted packet of the same family as the error. `false`, and `quote` untouched, when it is cut too short, is no IP
/// packet, or is a later fragment: then it names no flow.
///
/// Needed are the IP header and, behind it, the ports (4 bytes) of TCP, UDP, UDP-Lite and SCTP or the 8 bytes of an ICMP header;
/// nothing of other protocols. Lengths and checksums are not checked: routers cut and change what they quote.
pub(super) fn read(bytes: &[u8], is_v6: bool, quote: &mut Tuple) -> bool {
    match if is_v6 { ipv6(bytes) } else { ipv4(bytes) } {
        Some(tuple) => {
            *quote = tuple;
            true
        }
        None => false,
    }
}

fn ipv4(bytes: &[u8]) -> Option<Tuple> {
    let header = bytes.first_chunk::<20>()?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[0] >> 4 != 4 || header_length < 20 || fragment_offset != 0 {
        return None;
    }
    let tuple = Tuple {
        src: u128::from(u32::from_be_bytes([header[12], header[13], header[14], header[15]])),
        dst: u128::from(u32::from_be_bytes([header[16], header[17], header[18], header[19]])),
        protocol: header[9],
        ..Tuple::default()
    };
    with_transport(tuple, bytes.get(header_length..)?)
}

fn ipv6(bytes: &[u8]) -> Option<Tuple> {
    let (header, rest) = bytes.split_first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let mut chain = Chain::new(header[6], rest);
    chain.walk().ok()?;
    if chain.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return None;
    }
    let (src, dst) = ipv6_addresses(header);
    with_transport(Tuple { src, dst, protocol: chain.protocol, is_v6: 1, ..Tuple::default() }, chain.rest)
}

fn with_transport(mut tuple: Tuple, bytes: &[u8]) -> Option<Tuple> {
    match (tuple.protocol, tuple.is_v6) {
        (protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDP_LITE, _) => {
            let ports = bytes.first_chunk::<4>()?;
            tuple.sport = u16::from_be_bytes([ports[0], ports[1]]);
            tuple.dport = u16::from_be_bytes([ports[2], ports[3]]);
        }
        (protocol::ICMP, 0) | (protocol::ICMPV6, 1) => {
            (tuple.sport, tuple.dport) = icmp_fields(bytes.first_chunk()?, tuple.is_v6 == 1);
        }
        _ => {}
    }
    Some(tuple)
}
