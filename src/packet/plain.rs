//! A frame of the most frequent kind in, its key out: TCP or UDP over IPv4, no VLAN tag, no IP options, not a fragment, nothing
//! wrong. Every other frame is left to the parser that knows them all, which gives these the same key.

use std::hint::select_unpredictable;

use super::checksum;
use super::key::{Key, KeyBits};
use super::parse::ETHERTYPE_IPV4;
use super::transport::{SYN, protocol, window_scale};
use crate::base::address::Direction;

/// Bytes of the link header and of an IPv4 header without options.
pub(super) const LINK: usize = 14;
pub(super) const NETWORK: usize = 20;
/// Bytes looked at: those headers, and as much as a TCP header has at least.
pub(super) const HEADERS: usize = LINK + NETWORK + 20;

/// The headers of a frame of this kind.
struct Headers<'a>(&'a [u8; HEADERS]);

impl Headers<'_> {
    #[inline(always)]
    fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.0[LINK + 9]
    }

    /// What stands where TCP or UDP have their checksum.
    #[inline(always)]
    fn checksum(&self, is_tcp: bool) -> u16 {
        let segment = LINK + NETWORK;
        select_unpredictable(is_tcp, self.half(segment + 16), self.half(segment + 6))
    }

    /// The sum of the pseudo-header of a segment of this many bytes, as a sender with checksum offload leaves it (GW-30).
    #[inline(always)]
    fn pseudo_header(&self, length: u16) -> u16 {
        let addresses = u64::from(self.word(LINK + 12)) + u64::from(self.word(LINK + 16));
        checksum::fold(addresses + u64::from(self.protocol()) + u64::from(length))
    }
}

/// Writes the key of a plain frame; says no, and writes nothing, to every other one. No branch between TCP and UDP: which comes
/// next is a toss-up to a predictor.
#[inline(always)]
pub(super) fn parse(frame: &[u8], direction: Direction, key: &mut Key) -> bool {
    let Some(bytes) = frame.first_chunk::<HEADERS>() else { return false };
    let headers = Headers(bytes);
    let (ip, segment) = (LINK, LINK + NETWORK);
    let Some((network, _)) = bytes.split_at(ip).1.split_first_chunk::<NETWORK>() else { return false };
    let protocol = headers.protocol();
    let (is_tcp, is_udp) = (protocol == protocol::TCP, protocol == protocol::UDP);
    // Bytes of the segment; below 0 it is far beyond any frame.
    let length = usize::from(headers.half(ip + 2)).wrapping_sub(NETWORK);
    let is_plain = (headers.half(12) == ETHERTYPE_IPV4)
        & (bytes[ip] == 0x45)
        & (headers.half(ip + 6) & 0x3fff == 0)
        & (length <= frame.len() - segment)
        & checksum::is_header_good(network);
    let flags = bytes[segment + 13];
    let header_length = select_unpredictable(is_tcp, usize::from(bytes[segment + 12] >> 4) * 4, 8);
    let udp_length = usize::from(headers.half(segment + 4));
    let is_sound_tcp = is_tcp & (header_length >= 20) & (header_length <= length);
    let is_sound_udp = is_udp & (udp_length >= 8) & (udp_length <= length);
    if !(is_plain & (is_sound_tcp | is_sound_udp)) {
        return false;
    }
    let of_tcp = u32::from(is_tcp).wrapping_neg();
    let is_whole = headers.checksum(is_tcp) != headers.pseudo_header(length as u16);
    let of_outbound = direction as u8 * KeyBits::OUTBOUND;
    let of_whole = u8::from(is_whole) * KeyBits::WHOLE;
    *key = Key {
        src: u128::from(headers.word(ip + 12)),
        dst: u128::from(headers.word(ip + 16)),
        sport: headers.half(segment),
        dport: headers.half(segment + 2),
        protocol,
        tcp_flags: flags & of_tcp as u8,
        bits: KeyBits(KeyBits::L4 | of_outbound | of_whole),
        seq: headers.word(segment + 4) & of_tcp,
        ack: headers.word(segment + 8) & of_tcp,
        window: headers.half(segment + 14) & of_tcp as u16,
        payload: (length - header_length) as u16,
        ..Key::EMPTY
    };
    if key.tcp_flags & SYN != 0 {
        key.window_scale = window_scale(frame.get(HEADERS..segment + header_length).unwrap_or(&[]));
    }
    true
}

/// Whether a frame is TCP or UDP over IPv4 without VLAN tags and options, and has anything but its pseudo-header sum in the
/// checksum field. Says no of every other frame.
#[inline]
pub(super) fn is_whole(frame: &[u8]) -> bool {
    let Some(bytes) = frame.first_chunk::<HEADERS>() else { return false };
    let headers = Headers(bytes);
    let protocol = headers.protocol();
    let (is_tcp, is_udp) = (protocol == protocol::TCP, protocol == protocol::UDP);
    let Some(length) = headers.half(LINK + 2).checked_sub(NETWORK as u16) else { return false };
    let is_known = (headers.half(12) == ETHERTYPE_IPV4) & (bytes[LINK] == 0x45) & (is_tcp | is_udp);
    is_known & (headers.checksum(is_tcp) != headers.pseudo_header(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Options, PacketSpec, Parsed, Tuple, build, parse as parse_all};

    /// The other way is taken with a VLAN tag, which alone must differ.
    #[test]
    fn a_plain_frame_has_the_key_that_the_whole_parser_gives_it() {
        let spec = |protocol| PacketSpec::new([10, 1, 2, 3].into(), [192, 168, 255, 9].into(), protocol);
        for protocol in [6, 17] {
            for (len, tcp_flags) in [(0, 0x10), (6, 0x18), (12, 0x11), (1400, 0x04), (30, 0x12), (20, 0xff)] {
                let base = spec(protocol);
                let ends = PacketSpec { sport: 40_000, dport: 443, seq: 1 << 31, ack: 77, ..base };
                let untagged = PacketSpec { tcp_flags, len, window: Some(512), ..ends };
                let tagged = build(&PacketSpec { vlan: vec![7], ..untagged.clone() });
                let frame = build(&untagged);
                for direction in [Direction::Inbound, Direction::Outbound] {
                    let (mut plain, mut whole, mut quote) = (Key::EMPTY, Key::EMPTY, Tuple::default());
                    let is_plain = parse(&frame, direction, &mut plain);
                    assert_eq!(is_plain, protocol == 6 || len >= 12, "{protocol} {len} {tcp_flags}");
                    let parsed = parse_all(&tagged, direction, &Options::default(), &mut whole, &mut quote);
                    assert_eq!(parsed, Parsed::Key);
                    whole.vlan = [Key::NO_VLAN; 2];
                    whole.bits.0 |= plain.bits.0 & KeyBits::WHOLE;
                    assert!(!is_plain || plain == whole, "{plain:?} {whole:?}");
                }
            }
        }
    }

    #[test]
    fn a_frame_with_anything_wrong_is_not_plain() {
        let base = PacketSpec::new([10, 1, 2, 3].into(), [192, 168, 255, 9].into(), 6);
        let good = build(&PacketSpec { tcp_flags: 0x10, len: 20, ..base });
        assert!(parse(&good, Direction::Inbound, &mut { Key::EMPTY }));
        // Every bit of the headers that say what follows; not addresses alone, which the checksum covers as well.
        for byte in (12..34).chain([46]) {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[byte] ^= 1 << bit;
                let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
                let is_plain = parse(&bad, Direction::Inbound, &mut key);
                let whole = parse_all(&bad, Direction::Inbound, &Options::default(), &mut key, &mut quote);
                assert!(!is_plain || whole == Parsed::Key, "byte {byte} bit {bit}");
            }
        }
        for length in 0..good.len() {
            assert!(!parse(&good[..length], Direction::Inbound, &mut { Key::EMPTY }), "{length}");
        }
    }
}
