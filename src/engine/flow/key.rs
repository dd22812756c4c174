//! A packet's tuple in, the key of its flow and its keyed hash out: the same for both directions.

use crate::packet::Tuple;

/// Identifies a flow whichever way its packets go: the two ends ordered, ports included where the protocol has them.
///
/// For an ICMP echo the identifier stands in the port of the lower end, and a bit tells which end asks, so that two hosts that
/// ping each other with one identifier have two flows (GW-27).
///
/// The low 32 bits of the addresses, which are all of an IPv4 address, stand apart from the rest: a look-up of an IPv4 flow
/// compares two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Low 32 bits of the lower and of the higher address.
    pub(super) ends: u64,
    /// Port of the lower and of the higher end.
    pub(super) ports: u32,
    /// Protocol, and the bits below shifted by 8.
    pub(super) kind: u16,
    /// The upper 96 bits of both IPv6 addresses; zero for IPv4.
    pub(super) beyond: Beyond,
}

/// What an IPv6 address pair has beyond its low 32 bits: the upper halves, and bits 32 to 63 of both.
pub(super) type Beyond = [u64; 3];

/// The addresses are IPv6.
pub(super) const IS_V6: u8 = 1;
/// The lower end of an ICMP echo asks.
pub(super) const LOW_ASKS: u8 = 2;

/// What a protocol has for ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    /// Nothing.
    None,
    /// One at each end.
    Both,
    /// The identifier of an echo, in the family whose protocol it is.
    Echo,
}

/// By protocol. A table, since a mix of TCP and UDP is a toss-up to a branch predictor.
const PORTS: [Ports; 256] = {
    let mut ports = [Ports::None; 256];
    (ports[6], ports[17], ports[132]) = (Ports::Both, Ports::Both, Ports::Both);
    (ports[1], ports[58]) = (Ports::Echo, Ports::Echo);
    ports
};

const fn low_word(address: u128) -> u64 {
    address as u32 as u64
}

const fn middle_word(address: u128) -> u64 {
    (address >> 32) as u32 as u64
}

const fn upper_half(address: u128) -> u64 {
    (address >> 64) as u64
}

impl FlowKey {
    /// A key that no packet has: protocol 0 with ports.
    pub const NOBODY: FlowKey = FlowKey { ends: 0, ports: u32::MAX, kind: 0, beyond: [0; 3] };

    /// The key of a packet by its tuple, and whether its sender is the lower end. `None`: the packet belongs to no flow
    /// (ICMP other than echo).
    #[inline]
    pub fn of(tuple: &Tuple) -> Option<(FlowKey, bool)> {
        let is_v6 = tuple.is_v6 & IS_V6;
        let (sport, dport, bits) = match PORTS[usize::from(tuple.protocol)] {
            Ports::Both => (tuple.sport, tuple.dport, is_v6),
            Ports::Echo if (tuple.protocol == 58) == (is_v6 != 0) => {
                let kind = tuple.dport >> 8;
                let (request, reply) = if is_v6 == 0 { (8, 0) } else { (128, 129) };
                if kind != request && kind != reply {
                    return None;
                }
                let low_asks = (tuple.src <= tuple.dst) == (kind == request) || tuple.src == tuple.dst;
                (tuple.sport, tuple.sport, is_v6 | if low_asks { LOW_ASKS } else { 0 })
            }
            _ => (0, 0, is_v6),
        };
        // Which end is the lower one is a toss-up to a branch predictor: rotate instead.
        let forward = (low_word(tuple.src) << 32 | low_word(tuple.dst), u32::from(sport) << 16 | u32::from(dport));
        let mut beyond = [0; 3];
        let is_low = if is_v6 == 0 {
            low_word(tuple.src) << 16 | u64::from(sport) <= low_word(tuple.dst) << 16 | u64::from(dport)
        } else {
            (tuple.src, sport) <= (tuple.dst, dport)
        };
        if is_v6 != 0 {
            let (low, high) = if is_low { (tuple.src, tuple.dst) } else { (tuple.dst, tuple.src) };
            beyond = [upper_half(low), upper_half(high), middle_word(low) << 32 | middle_word(high)];
        }
        let turn = u32::from(!is_low);
        let key = FlowKey {
            ends: forward.0.rotate_left(turn * 32),
            ports: forward.1.rotate_left(turn * 16),
            kind: u16::from(tuple.protocol) | u16::from(bits) << 8,
            beyond,
        };
        Some((key, is_low))
    }

    /// Protocol number.
    pub const fn protocol(&self) -> u8 {
        self.kind as u8
    }

    /// The two ends, lower first: address and port.
    pub const fn ends(&self) -> [(u128, u16); 2] {
        let [upper_low, upper_high, middle] = self.beyond;
        let low = (upper_low as u128) << 64 | ((middle >> 32) as u128) << 32 | (self.ends >> 32) as u128;
        let high = (upper_high as u128) << 64 | (middle as u32 as u128) << 32 | self.ends as u32 as u128;
        [(low, (self.ports >> 16) as u16), (high, self.ports as u16)]
    }

    /// Whether the addresses are IPv6.
    #[inline]
    pub const fn is_v6(&self) -> bool {
        (self.kind >> 8) as u8 & IS_V6 != 0
    }

    /// Keyed hash: the seed is random, so that nobody outside can aim at one bucket.
    #[inline]
    pub fn hash(&self, seed: [u64; 2]) -> u64 {
        let mut key = seed[0];
        if self.is_v6() {
            let [low, high, middle] = self.beyond;
            key = mix(mix(low ^ seed[0], high ^ seed[1]) ^ middle, seed[1]);
        }
        let rest = u64::from(self.ports) | u64::from(self.kind) << 32;
        mix(mix(self.ends ^ key, rest ^ seed[1]), seed[0])
    }
}

/// Multiplies to 128 bits and folds: every input bit reaches every output bit.
#[inline]
pub fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd1b5_4a32_d192_ed03);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gw_27_two_hosts_that_ping_each_other_with_one_identifier_have_two_flows() {
        let echo = |src, dst, kind: u16| Tuple { src, dst, sport: 7, dport: kind << 8, protocol: 1, is_v6: 0 };
        let key = |t| FlowKey::of(&t).map(|k| k.0);
        assert_eq!(key(echo(1, 2, 8)), key(echo(2, 1, 0)), "a reply belongs to its request");
        assert_eq!(key(echo(2, 1, 8)), key(echo(1, 2, 0)), "a reply belongs to its request");
        assert_ne!(key(echo(1, 2, 8)), key(echo(2, 1, 8)), "each request has a flow of its own");
        assert_eq!(key(echo(1, 2, 3)), None, "other ICMP has no flow");
    }

    #[test]
    fn a_key_gives_back_its_ends_and_is_the_same_for_both_directions() {
        let v6 = |n: u128| 0x2001_0db8_1111_2222_3333_4444_5555_0000 + (n << 96 | n << 40 | n);
        let pairs = [(1u128, 2u128, 0u8), (0xffff_ffff, 0, 0), (v6(1), v6(2), 1), (v6(9), v6(3), 1), (7, 7, 0)];
        for (src, dst, is_v6) in pairs {
            for (sport, dport) in [(1u16, 2u16), (2, 1), (5, 5)] {
                let there = Tuple { src, dst, sport, dport, protocol: 6, is_v6 };
                let back = Tuple { src: dst, dst: src, sport: dport, dport: sport, ..there };
                let ((key, is_low), (same, is_low_back)) = (FlowKey::of(&there).unwrap(), FlowKey::of(&back).unwrap());
                assert_eq!(key, same);
                assert_eq!(key.hash([3, 4]), same.hash([3, 4]));
                let mut ends = [(src, sport), (dst, dport)];
                assert_eq!(is_low, ends[0] <= ends[1]);
                assert!(is_low != is_low_back || ends[0] == ends[1]);
                ends.sort_unstable();
                assert_eq!((key.ends(), key.protocol(), key.is_v6()), (ends, 6, is_v6 == 1));
            }
        }
    }

    #[test]
    fn every_field_reaches_the_hash() {
        let base = Tuple { src: 1 << 100, dst: 2, sport: 3, dport: 4, protocol: 6, is_v6: 1 };
        let variants = [
            Tuple { src: 1 << 101, ..base },
            Tuple { src: 1 << 50, ..base },
            Tuple { src: 1, ..base },
            Tuple { dst: 2 | 1 << 90, ..base },
            Tuple { dst: 2 | 1 << 40, ..base },
            Tuple { sport: 9, ..base },
            Tuple { dport: 9, ..base },
            Tuple { protocol: 17, ..base },
        ];
        let hash = |tuple: &Tuple| FlowKey::of(tuple).unwrap().0.hash([5, 6]);
        assert!(variants.iter().all(|variant| hash(variant) != hash(&base)));
        assert_ne!(hash(&base), FlowKey::of(&base).unwrap().0.hash([6, 5]), "and so does the seed");
    }
}
