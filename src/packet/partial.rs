//! A frame with a half-made checksum in, the same frame with a whole one out (GW-30).
//!
//! A sender with checksum offload writes the folded pseudo-header sum, not inverted, into the checksum field and leaves the rest
//! to its network card. Over veth and virtio there is none, so the receiver gets that.

use super::checksum;
use super::network::{ipv6_addresses, is_extension};
use super::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, link};
use super::plain;
use super::transport::protocol;

/// Completes the TCP or UDP checksum of a whole (not fragmented) IPv4 or IPv6 packet behind at most two VLAN tags, if its field
/// holds exactly the pseudo-header sum and is not right already. Returns whether it wrote.
///
/// Everything else is left as it is: other packets, malformed ones, wrong checksums, IPv6 with extension headers. Most frames
/// cost the pseudo-header sum and one comparison; O(segment) only where the field matches.
#[inline]
pub fn complete_partial(frame: &mut [u8]) -> bool {
    if plain::is_whole(frame) {
        return false;
    }
    let Some(Suspect { start, length, field, pseudo, is_udp }) = suspect(frame) else {
        return false;
    };
    let Some(segment) = frame.get_mut(start..).and_then(|rest| rest.get_mut(..length)) else {
        return false;
    };
    let sum = checksum::sum(segment);
    if checksum::fold(sum + pseudo) == 0xffff {
        return false;
    }
    // The field still holds the pseudo-header sum, so the sum of the segment counts it once, as it must.
    let checksum = match !checksum::fold(sum) {
        0 if is_udp => 0xffff,
        checksum => checksum,
    };
    match segment.get_mut(field..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        Some(bytes) => {
            *bytes = checksum.to_be_bytes();
            true
        }
        None => false,
    }
}

/// A segment whose checksum field equals its pseudo-header sum.
struct Suspect {
    /// Offset of the segment in the frame.
    start: usize,
    /// Bytes of the segment.
    length: usize,
    /// Offset of the checksum field in the segment.
    field: usize,
    /// Unfolded pseudo-header sum.
    pseudo: u64,
    /// UDP writes 0xffff for 0 (RFC 768).
    is_udp: bool,
}

#[inline]
fn suspect(frame: &[u8]) -> Option<Suspect> {
    let (ethertype, packet) = link(frame, &mut [0; 2])?;
    let (src, dst, next, length, segment) = match ethertype {
        ETHERTYPE_IPV4 => {
            let header = packet.first_chunk::<20>()?;
            let header_length = usize::from(header[0] & 0x0f) * 4;
            let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
            if header[0] >> 4 != 4 || header_length < 20 || is_fragment {
                return None;
            }
            let length = usize::from(u16::from_be_bytes([header[2], header[3]])).checked_sub(header_length)?;
            let src = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
            let dst = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
            (u128::from(src), u128::from(dst), header[9], length, packet.get(header_length..)?)
        }
        ETHERTYPE_IPV6 => {
            let (header, rest) = packet.split_first_chunk::<40>()?;
            if header[0] >> 4 != 6 || is_extension(header[6]) {
                return None;
            }
            let (src, dst) = ipv6_addresses(header);
            (src, dst, header[6], usize::from(u16::from_be_bytes([header[4], header[5]])), rest)
        }
        _ => return None,
    };
    let (field, is_udp) = match next {
        protocol::TCP => (16, false),
        protocol::UDP => (6, true),
        _ => return None,
    };
    let bytes = segment.get(..length)?;
    if is_udp && usize::from(u16::from_be_bytes(*bytes.get(4..)?.first_chunk()?)) != length {
        return None;
    }
    let pseudo = checksum::pseudo_header(src, dst, next, length as u64);
    if *bytes.get(field..)?.first_chunk::<2>()? != checksum::fold(pseudo).to_be_bytes() {
        return None;
    }
    Some(Suspect { start: frame.len() - segment.len(), length, field, pseudo, is_udp })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "450000280000400040068ecc01010101a90101019c400050000003e8000000005002faf0";
    const V6_UDP: &str = "60000000000b114020010db800000000000000000000000120010db8000000000000000000000002\
                          03e807d0000b";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().map(|b| (b as char).to_digit(16).unwrap() as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn a_pseudo_header_sum_becomes_a_checksum_gw_30() {
        // Link header, packet up to the checksum field, the field before and after, the bytes behind it.
        let check = |name: &str, link: &str, packet: &str, before: &str, after: &str, rest: &str| {
            let build = |field: &str| bytes(&format!("020000000002020000000001{link}{packet}{field}{rest}"));
            let mut frame = build(before);
            assert_eq!(complete_partial(&mut frame), before != after, "GW-30 {name}");
            assert_eq!(frame, build(after), "GW-30 {name}");
        };
        check("tcp", "0800", TCP, "ac1e", "6875", "0000");
        check("tcp behind a tag", "810000640800", TCP, "ac1e", "6875", "0000");
        check("tcp behind two tags", "88a80064810000650800", TCP, "ac1e", "6875", "0000");
        check("tcp, padded", "0800", TCP, "ac1e", "6875", "0000ffffffffffff");
        check("tcp, right already", "0800", TCP, "6875", "6875", "0000");
        check("tcp, wrong", "0800", TCP, "ac1f", "ac1f", "0000");
        check("tcp, wrong by inversion", "0800", TCP, "53e1", "53e1", "0000");
        check("tcp, cut", "0800", TCP, "ac1e", "ac1e", "");
        check("tcp behind three tags", "81000064810000658100006608000", TCP, "ac1e", "ac1e", "0000");
        check("udp over IPv6", "86dd", V6_UDP, "5b91", "d448", "616263");
        check("udp over IPv6, right already", "86dd", V6_UDP, "d448", "d448", "616263");
        let first_fragment = TCP.replacen("4000", "2000", 1);
        check("first fragment", "0800", &first_fragment, "ac1e", "ac1e", "0000");
    }

    #[test]
    fn a_udp_checksum_of_zero_is_written_as_ones_gw_30() {
        // 1.1.1.1 > 169.1.1.1, ports 5353 > 53, 2 bytes: the payload brings the checksum to 0.
        let header = "4500001e000000004011cecb01010101a9010101";
        let pseudo = checksum::pseudo_header(0x0101_0101, 0xa901_0101, 17, 10);
        let partial = checksum::fold(pseudo);
        let ports_and_length = 0x14e9 + 0x0035 + 0x000a + u64::from(partial);
        let payload = !checksum::fold(ports_and_length);
        let frame =
            |field: u16| bytes(&format!("0200000000020200000000010800{header}14e90035000a{field:04x}{payload:04x}"));
        let mut completed = frame(partial);
        assert!(complete_partial(&mut completed));
        assert_eq!(completed, frame(0xffff));
        assert!(!complete_partial(&mut frame(0)), "no checksum is a choice of the sender");
    }

    #[test]
    fn a_frame_of_any_length_is_left_whole() {
        let whole = bytes(&format!("0200000000020200000000010800{TCP}ac1e0000"));
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            assert!(!complete_partial(&mut cut));
            assert_eq!(cut, whole[..length]);
        }
    }
}
