//! Run, flow, sequence number and time in, 18 bytes of payload out, and back; a checksum over them and the rest of the packet.

/// Bytes of a signature: what UDP over IPv4 leaves of a frame of 64 bytes.
pub const SIGNATURE: usize = 18;

/// What a generated packet says about itself.
///
/// ```text
///  0      2      4          8                14          18
///  | run  | flow | sequence | departure, ns  | checksum  |   big endian
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Tells the packets of one run from those of another.
    pub run: u16,
    /// Number of the flow.
    pub flow: u16,
    /// Number of the packet within the run, over all flows, from 0.
    pub sequence: u32,
    /// Nanoseconds since the start of the run, below 2^48.
    pub departure: u64,
}

/// Largest time that fits, 78 hours.
const LAST_DEPARTURE: u64 = (1 << 48) - 1;

impl Signature {
    /// The bytes. `rest` is the [`digest`] of everything else that must arrive unchanged.
    #[inline]
    pub fn encode(&self, rest: u64) -> [u8; SIGNATURE] {
        let mut bytes = [0; SIGNATURE];
        let words = self.words();
        bytes[..8].copy_from_slice(&words[0].to_be_bytes());
        bytes[8..14].copy_from_slice(&words[1].to_be_bytes()[2..]);
        bytes[14..].copy_from_slice(&seal(words, rest).to_be_bytes());
        bytes
    }

    /// The signature in these bytes, and whether its checksum is right for a packet with the rest as digested; `None` if they are
    /// too few.
    #[inline]
    pub fn decode(bytes: &[u8], rest: u64) -> Option<(Signature, bool)> {
        let bytes: &[u8; SIGNATURE] = bytes.first_chunk()?;
        let [a, b, c, d, e, f, g, h, times @ ..] = *bytes;
        let [i, j, k, l, m, n, seals @ ..] = times;
        let signature = Signature {
            run: u16::from_be_bytes([a, b]),
            flow: u16::from_be_bytes([c, d]),
            sequence: u32::from_be_bytes([e, f, g, h]),
            departure: u64::from_be_bytes([0, 0, i, j, k, l, m, n]),
        };
        Some((signature, seal(signature.words(), rest) == u32::from_be_bytes(seals)))
    }

    #[inline]
    fn words(&self) -> [u64; 2] {
        let first = u64::from(self.run) << 48 | u64::from(self.flow) << 32 | u64::from(self.sequence);
        [first, self.departure.min(LAST_DEPARTURE)]
    }
}

/// An odd constant with evenly spread bits: the golden ratio's fraction.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
const fn mix(state: u64, word: u64) -> u64 {
    (state ^ word).wrapping_mul(SPREAD).rotate_left(29)
}

#[inline]
fn seal([first, second]: [u64; 2], rest: u64) -> u32 {
    let state = mix(mix(mix(SPREAD, first), second), rest);
    (state ^ state >> 32) as u32
}

/// Sixty-four bits that change with every byte, its place and the length. Four words at a time, so that long packets cost little
/// more than reading them.
#[inline]
pub fn digest(bytes: &[u8]) -> u64 {
    let mut lanes = [bytes.len() as u64, 1, 2, 3];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = mix(*lane, u64::from_le_bytes(*word));
        }
    }
    for (at, piece) in blocks.remainder().chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        if let Some(lane) = lanes.get_mut(at) {
            *lane = mix(*lane, u64::from_le_bytes(word));
        }
    }
    lanes.into_iter().fold(0, mix)
}

/// Numbers without a visible order from a seed and a position (the finaliser of SplitMix64).
#[inline]
pub fn scatter(seed: u64, position: u64) -> u64 {
    let mut z = seed.wrapping_add(position.wrapping_add(1).wrapping_mul(SPREAD));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Signature = Signature { run: 0x1234, flow: 7, sequence: 0x0102_0304, departure: 0x0a0b_0c0d_0e0f };

    #[test]
    fn the_bytes_are_those_of_the_drawing() {
        let bytes = ONE.encode(5);
        assert_eq!(bytes[..14], [0x12, 0x34, 0, 7, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15]);
        assert_eq!(Signature::decode(&bytes, 5), Some((ONE, true)));
        assert_eq!(Signature::decode(&bytes[..17], 5), None);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let bytes = ONE.encode(5);
        for bit in 0..SIGNATURE * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!Signature::decode(&changed, 5).unwrap().1, "bit {bit}");
        }
        assert!(!Signature::decode(&bytes, 4).unwrap().1, "the rest counts, too");
    }

    #[test]
    fn a_digest_changes_with_every_bit_and_with_the_length() {
        for length in [0usize, 1, 7, 8, 9, 31, 32, 33, 64, 100] {
            let bytes: Vec<u8> = (0..length as u8).collect();
            let before = digest(&bytes);
            for bit in 0..length * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(digest(&changed), before, "bit {bit} of {length} bytes");
            }
            let longer = [bytes.as_slice(), &[0]].concat();
            assert_ne!(digest(&longer), before, "{length} bytes and a zero");
        }
    }
}
