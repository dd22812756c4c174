//! A packet's tuple in, the key of its flow and its keyed hash out: the same for both directions.

use crate::base::wide::Wide;
use crate::packet::{Key, KeyBits, Tuple};

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

    /// Keyed hash: the seed is random, so that nobody outside can aim at one bucket. A universal hash, the NH of UMAC (RFC 4418, 5.2.2),
    /// of the four words that an IPv4 flow has, then every bit brought to every other.
    #[inline]
    pub fn hash(&self, seed: [u64; 2]) -> u64 {
        let rest = u64::from(self.ports) | u64::from(self.kind) << 32;
        let sum = sum_of(self.ends, rest, seed);
        if !self.is_v6() {
            return finish(sum);
        }
        let [low, high, middle] = self.beyond;
        finish(sum ^ mix(mix(low ^ seed[0], high ^ seed[1]) ^ middle, seed[1]))
    }
}

/// The universal hash of the addresses of an IPv4 flow, and of its ports and protocol.
#[inline(always)]
fn sum_of(ends: u64, rest: u64, seed: [u64; 2]) -> u64 {
    let [a, b, c, d] = words_of(seed);
    let product = |x: u32, y: u32| u64::from(x) * u64::from(y);
    let ends = product(((ends >> 32) as u32).wrapping_add(a), (ends as u32).wrapping_add(b));
    ends.wrapping_add(product((rest as u32).wrapping_add(c), ((rest >> 32) as u32).wrapping_add(d)))
}

#[inline(always)]
fn finish(sum: u64) -> u64 {
    let sum = (sum ^ sum >> 32).wrapping_mul(FIRST_FACTOR);
    let sum = (sum ^ sum >> 29).wrapping_mul(SECOND_FACTOR);
    sum ^ sum >> 32
}

/// The key of the flow of a TCP or UDP packet over IPv4, in registers: a [`FlowKey`] in memory would be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    /// [`FlowKey`]'s.
    pub ends: u64,
    /// Ports; the protocol in the upper half.
    pub rest: u64,
    /// Whether the packet's sender is the lower end.
    pub is_low: bool,
}

impl Plain {
    /// `None`: the packet is of another kind. One branch, since a mix of TCP and UDP is a toss-up to a predictor.
    #[inline(always)]
    pub fn of(key: &Key) -> Option<Plain> {
        const PROTOCOLS: u64 = 1 << 6 | 1 << 17;
        let is_either = PROTOCOLS >> (key.protocol & 63) & u64::from(key.protocol < 64);
        if (is_either & u64::from(!key.has(APART | KeyBits::V6))) == 0 {
            return None;
        }
        let (src, dst) = (u64::from(key.src as u32), u64::from(key.dst as u32));
        let (sport, dport) = (u64::from(key.sport), u64::from(key.dport));
        let is_low = (src << 16 | sport) <= (dst << 16 | dport);
        let turn = u32::from(!is_low);
        let ports = ((sport << 16 | dport) as u32).rotate_left(turn * 16);
        let rest = u64::from(ports) | u64::from(key.protocol) << 32;
        Some(Plain { ends: (src << 32 | dst).rotate_left(turn * 32), rest, is_low })
    }

    /// The same in memory.
    #[inline(always)]
    pub fn key(self) -> FlowKey {
        FlowKey { ends: self.ends, ports: self.rest as u32, kind: (self.rest >> 32) as u16, beyond: [0; 3] }
    }

    /// As [`FlowKey::hash`].
    #[inline(always)]
    pub fn hash(self, seed: [u64; 2]) -> u64 {
        finish(sum_of(self.ends, self.rest, seed))
    }
}

/// The key of a packet's flow, and whether its sender is the lower end; `None` if it is looked at by itself or belongs to no flow.
#[inline]
pub(super) fn flow_of(key: &Key) -> Option<(FlowKey, bool)> {
    match Plain::of(key) {
        Some(plain) => Some((plain.key(), plain.is_low)),
        None => flow_of_any(key),
    }
}

#[inline(never)]
fn flow_of_any(key: &Key) -> Option<(FlowKey, bool)> {
    if key.has(APART) {
        return None;
    }
    FlowKey::of(&super::tuple_of(key))
}

/// Bits of a key whose packets are looked at one by one.
pub(super) const APART: u8 = KeyBits::FIRST_FRAGMENT | KeyBits::LATER_FRAGMENT | KeyBits::QUOTE;

const FIRST_FACTOR: u64 = 0xff51_afd7_ed55_8ccd;
const SECOND_FACTOR: u64 = 0xc4ce_b9fe_1a85_ec53;

/// What is added to the words of a key; without a seed no zeros either.
#[inline(always)]
fn words_of(seed: [u64; 2]) -> [u32; 4] {
    let (first, second) = (seed[0] ^ 0x9e37_79b9_7f4a_7c15, seed[1] ^ 0xd1b5_4a32_d192_ed03);
    [(first >> 32) as u32, first as u32, (second >> 32) as u32, second as u32]
}

/// The hashes of sixteen IPv4 flows, those in even lanes and those in odd ones: of the lower address, the higher one, the ports, and
/// the protocol.
#[inline(always)]
pub(super) fn hashes<W: Wide>(wide: W, seed: [u64; 2], [low, high, ports, kind]: [W::Words; 4]) -> [W::Words; 2] {
    let [a, b, c, d] = words_of(seed);
    let (low, high) = (wide.add(low, wide.splat(a)), wide.add(high, wide.splat(b)));
    let (ports, kind) = (wide.add(ports, wide.splat(c)), wide.add(kind, wide.splat(d)));
    let even = wide.add_long(wide.multiply_halves(low, high), wide.multiply_halves(ports, kind));
    let (low, high) = (wide.down_long::<32>(low), wide.down_long::<32>(high));
    let (ports, kind) = (wide.down_long::<32>(ports), wide.down_long::<32>(kind));
    let odd = wide.add_long(wide.multiply_halves(low, high), wide.multiply_halves(ports, kind));
    [finished(wide, even), finished(wide, odd)]
}

#[inline(always)]
fn finished<W: Wide>(wide: W, sum: W::Words) -> W::Words {
    let sum = wide.exclusive_or(sum, wide.down_long::<32>(sum));
    let sum = wide.multiply_long(sum, FIRST_FACTOR);
    let sum = wide.exclusive_or(sum, wide.down_long::<29>(sum));
    let sum = wide.multiply_long(sum, SECOND_FACTOR);
    wide.exclusive_or(sum, wide.down_long::<32>(sum))
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
    use crate::base::wide::{Kernel, Level};

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
    fn a_packet_has_the_same_flow_by_the_short_way() {
        for (src, dst) in [(1u32, 2u32), (2, 1), (7, 7), (u32::MAX, 0), (0xc0a8_0001, 0x0a00_0001)] {
            for (sport, dport) in [(1, 2), (2, 1), (9, 9), (u16::MAX, 0)] {
                for protocol in [6, 17, 132, 47] {
                    let key = Key { src: src.into(), dst: dst.into(), sport, dport, protocol, ..Key::EMPTY };
                    let (flow_key, is_low) = flow_of(&key).unwrap();
                    let rest = u64::from(flow_key.ports) | u64::from(flow_key.kind) << 32;
                    let expected = Plain { ends: flow_key.ends, rest, is_low };
                    assert_eq!(Plain::of(&key), matches!(protocol, 6 | 17).then_some(expected), "{key:?}");
                    assert_eq!(expected.hash([5, 6]), flow_key.hash([5, 6]));
                    for bit in [KeyBits::QUOTE, KeyBits::LATER_FRAGMENT, KeyBits::FIRST_FRAGMENT, KeyBits::V6] {
                        assert_eq!(Plain::of(&Key { bits: KeyBits(bit), ..key }), None);
                    }
                }
            }
        }
    }

    #[test]
    fn sixteen_keys_have_the_hashes_that_each_has_alone() {
        #[derive(Clone, Copy)]
        struct Hashes([u64; 2], [[u32; 16]; 4]);
        impl Kernel for Hashes {
            type Output = [u64; 16];
            #[inline(always)]
            fn call<W: Wide>(self, wide: W) -> [u64; 16] {
                let [low, high, ports, kind] = &self.1;
                let columns = [wide.load(low), wide.load(high), wide.load(ports), wide.load(kind)];
                wide.in_turn(hashes(wide, self.0, columns))
            }
        }
        for seed in [[0, 0], [3, u64::MAX], [0x0123_4567_89ab_cdef, 0x0fed_cba9_8765_4321]] {
            for first in (0..u32::MAX - 100_000).step_by(99_999_989) {
                let column = |by: u32| std::array::from_fn(|i| first.wrapping_add(i as u32).wrapping_mul(by));
                let [low, high, ports, kind] = [column(1), column(0x9e37_79b1), column(77), [6; 16]];
                let expected: [u64; 16] = std::array::from_fn(|i| {
                    let ends = u64::from(low[i]) << 32 | u64::from(high[i]);
                    FlowKey { ends, ports: ports[i], kind: 6, beyond: [0; 3] }.hash(seed)
                });
                let kernel = Hashes(seed, [low, high, ports, kind]);
                for found in Level::all().into_iter().filter_map(|level| level.run(kernel)) {
                    assert_eq!(found, expected);
                }
            }
        }
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
