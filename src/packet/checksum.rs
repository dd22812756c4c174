//! Bytes in, Internet checksums (RFC 1071) and CRC32c out.

use super::key::{Key, KeyBits};
use super::transport::protocol;

/// The one's-complement sum of big-endian 16-bit words, an odd last byte padded with 0; not folded.
///
/// Sums may be added before [`fold`] as long as each part but the last has an even length. One 8-byte step per word pair:
/// the sum of 32-bit halves in a `u64` overflows only beyond 16 GiB.
#[inline]
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<8>();
    let mut total: u64 = 0;
    for block in blocks {
        let word = u64::from_be_bytes(*block);
        total += (word >> 32) + (word & 0xffff_ffff);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let word = u64::from_be_bytes(last);
    total + (word >> 32) + (word & 0xffff_ffff)
}

/// Whether the checksum of an IPv4 header without options is right. The order of bytes in a word does not matter to that
/// (RFC 1071 2B), so the words are taken as they lie.
#[inline]
pub(super) fn is_header_good(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    fold(words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum()) == 0xffff
}

/// Folds a sum to 16 bits with end-around carry. A packet whose checksum is right folds to 0xffff.
#[inline]
pub(super) const fn fold(sum: u64) -> u16 {
    // The upper half of a number and the same with its halves exchanged is the sum of the halves, the carry added.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The Internet checksum of the bytes (RFC 1071), ready to be written where a zero stood.
#[inline]
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The unfolded pseudo-header sum of TCP, UDP and ICMPv6 (RFC 9293 3.1, RFC 8200 8.1). IPv4 addresses have only low bits set, so
/// one formula serves both families.
#[inline]
pub(super) const fn pseudo_header(src: u128, dst: u128, protocol: u8, length: u64) -> u64 {
    halves(src) + halves(dst) + protocol as u64 + length
}

#[inline]
const fn halves(address: u128) -> u64 {
    let (high, low) = ((address >> 64) as u64, address as u64);
    (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
}

/// Whether the transport checksum of a whole, well-formed packet is right, or holds only the pseudo-header sum that a sender with
/// checksum offload leaves (GW-30). UDP over IPv4 may have none (0).
pub(super) fn is_transport_good(bytes: &[u8], key: &Key) -> bool {
    let is_v6 = key.has(KeyBits::V6);
    let pseudo = |length: usize| pseudo_header(key.src, key.dst, key.protocol, length as u64);
    let field = |at: usize| {
        bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |field: &[u8; 2]| u16::from_be_bytes(*field))
    };
    match key.protocol {
        protocol::TCP => fold(pseudo(bytes.len()) + sum(bytes)) == 0xffff || field(16) == fold(pseudo(bytes.len())),
        protocol::UDP => {
            let covered = bytes.get(..usize::from(field(4))).unwrap_or(bytes);
            match field(6) {
                0 => !is_v6,
                partial if partial == fold(pseudo(covered.len())) => true,
                _ => fold(pseudo(covered.len()) + sum(covered)) == 0xffff,
            }
        }
        protocol::UDP_LITE => {
            let covered = match field(4) {
                0 => bytes,
                coverage => bytes.get(..usize::from(coverage)).unwrap_or(bytes),
            };
            field(6) != 0 && fold(pseudo(bytes.len()) + sum(covered)) == 0xffff
        }
        protocol::ICMP => fold(sum(bytes)) == 0xffff,
        protocol::ICMPV6 => fold(pseudo(bytes.len()) + sum(bytes)) == 0xffff,
        protocol::SCTP => match bytes.split_first_chunk::<12>() {
            Some((header, chunks)) => {
                // The CRC is taken with its own field as 0 (RFC 9260 6.8) and travels least significant byte first.
                let [ports @ .., crc0, crc1, crc2, crc3] = *header;
                let crc = crc32c(crc32c(crc32c(!0, &ports), &[0; 4]), chunks);
                !crc == u32::from_le_bytes([crc0, crc1, crc2, crc3])
            }
            None => false,
        },
        _ => true,
    }
}

/// Continues a CRC32c (Castagnoli, reflected) over more bytes; start with all ones and invert the result.
pub(super) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        let [low, ..] = (crc ^ u32::from(*byte)).to_le_bytes();
        // relies on: a u8 indexes a table of 256 entries.
        CRC32C[usize::from(low)] ^ (crc >> 8)
    })
}

/// Remainders of all bytes by the reflected polynomial 0x82f63b78.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_checksum_of_known_bytes() {
        let check = |bytes: &[u8], expected: u16| assert_eq!(internet_checksum(bytes), expected, "{bytes:02x?}");
        // RFC 1071 section 3.
        check(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], !0xddf2);
        check(&[], 0xffff);
        check(&[0x01], 0xfeff);
        check(&[0xff; 64], 0);
    }

    #[test]
    fn crc32c_of_known_bytes() {
        let check = |bytes: &[u8], expected: u32| assert_eq!(!crc32c(!0, bytes), expected, "{bytes:02x?}");
        // RFC 3720 B.4.
        check(&[0; 32], 0x8a91_36aa);
        check(&[0xff; 32], 0x62a8_ab43);
        check(b"123456789", 0xe306_9283);
    }
}
