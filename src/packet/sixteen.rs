//! Sixteen frames in, the keys of those that are plain out: what `plain` does with one frame, with one lane for each.
//!
//! ```text
//!  frame   10      14       18       22       26    30    34    38     42    46      50      54
//!           | link | version| fragm. | proto. | src | dst | port| seq  | ack | flags | sum   |
//!           |      | length |        |        |     |     |     | (UDP length, sum)  |       |
//! ```
//! Words of frames become columns, which go out by themselves and as the rows of keys. All tests are masks with a bit for each frame.

use bytemuck::{cast, cast_mut};

use super::columns::Columns;
use super::key::{Key, KeyBits};
use super::parse::Arrivals;
use super::plain::{HEADERS, LINK, NETWORK};
use super::transport::{SYN, protocol, window_scale};
use crate::base::wide::{Kernel, LANES, Layout, Level, Wide};

/// In the place of a frame that is not there or too short.
const NOTHING: [u8; HEADERS] = [0; HEADERS];

/// Words of a key that differ between plain frames, by column: source, destination, ports, protocol and facts, sequence number,
/// acknowledgement, window and payload.
const PLACES: [usize; 7] = [0, 4, 8, 9, 11, 12, 13];

/// A key as a row.
const LAYOUT: Layout = {
    let mut rest = [0; LANES];
    rest[10] = u32::MAX;
    Layout::new(PLACES, rest)
};

/// Writes the keys of up to sixteen frames, and the columns of those. Returns one bit for each: whether it is plain, and whether its
/// checksum is [`KeyBits::WHOLE`]. What is written and said of others than plain ones means nothing. `None`: no kernels at this level.
#[inline]
pub(super) fn parse(
    level: Level,
    arrivals: Arrivals<'_, '_>,
    keys: &mut [Key; LANES],
    columns: &mut Columns,
) -> Option<(u16, u16)> {
    level.run(Parse { arrivals, keys, columns })
}

struct Parse<'a, 'f> {
    arrivals: Arrivals<'a, 'f>,
    keys: &'a mut [Key; LANES],
    columns: &'a mut Columns,
}

#[inline(always)]
fn piece<const N: usize>(bytes: &[u8; HEADERS], at: usize) -> [u8; N] {
    bytes.split_at(at).1.first_chunk().copied().unwrap_or([0; N])
}

impl Kernel for Parse<'_, '_> {
    type Output = (u16, u16);

    #[inline(always)]
    fn call<W: Wide>(self, wide: W) -> (u16, u16) {
        let Parse { arrivals: Arrivals { frames, lengths, outbound }, keys, columns: written } = self;
        let mut chunks = [&NOTHING; LANES];
        for (chunk, frame) in chunks.iter_mut().zip(frames) {
            if let Some(bytes) = frame.bytes.first_chunk() {
                *chunk = bytes;
            }
        }
        // Bytes from the transport header on; what is too short has no header.
        let rooms = wide.subtract(wide.load(lengths), wide.splat((LINK + NETWORK) as u32));
        let columns = wide.columns_of_eight(|i| cast(piece::<32>(chunks[i], 10)));
        let [link, version, fragment, transport, src, dst, ports, _] = columns;
        let [seq, ack, control, sum] = wide.columns_of_four(|i| cast(piece::<16>(chunks[i], 38)));

        let number = wide.only(wide.down::<8>(transport), 0xff);
        let (is_tcp, is_udp) = (wide.is(number, u32::from(protocol::TCP)), wide.is(number, u32::from(protocol::UDP)));
        // Bytes of the segment; below 0 it is far beyond any frame.
        let length = wide.subtract(wide.only(wide.reverse(version), 0xffff), wide.splat(NETWORK as u32));
        let mut header_sum = wide.halves(version);
        for words in [fragment, transport, src, dst] {
            header_sum = wide.add(header_sum, wide.halves(words));
        }
        let is_ip =
            wide.both(wide.is(wide.only(link, 0xffff_0000), 0x0008_0000), wide.is(wide.only(version, 0xff), 0x45));
        // Ten halves, of which the first is not 0: one carry at most.
        let is_sound = wide.both(wide.at_most(length, rooms), wide.is(wide.halves(header_sum), 0xffff));
        let is_plain = wide.without(wide.both(is_ip, is_sound), wide.has(fragment, 0xff3f_0000));
        let offset = wide.down::<2>(wide.only(control, 0xf0));
        let header_length = wide.select(is_tcp, offset, wide.splat(8));
        let second = wide.reverse(seq);
        let udp_length = wide.down::<16>(second);
        let is_room = wide.both(wide.at_most(wide.splat(20), offset), wide.at_most(offset, length));
        let is_sound_tcp = wide.both(is_tcp, is_room);
        let is_room = wide.both(wide.at_most(wide.splat(8), udp_length), wide.at_most(udp_length, length));
        let is_sound_udp = wide.both(is_udp, is_room);
        let is_plain = wide.both(is_plain, wide.either(is_sound_tcp, is_sound_udp));

        let (src, dst) = (wide.reverse(src), wide.reverse(dst));
        let field = wide.select(is_tcp, wide.down::<16>(wide.reverse(sum)), wide.only(second, 0xffff));
        let addresses = wide.add(wide.halves(src), wide.halves(dst));
        let pseudo = wide.halves(wide.halves(wide.add(addresses, wide.add(number, length))));
        let is_open = wide.equal(field, pseudo);
        let flags = wide.keep(is_tcp, wide.only(control, 0xff00));
        let facts =
            wide.or(wide.or(number, flags), wide.splat(u32::from(Key::NO_SCALE) << 24 | KeyBits::in_word(KeyBits::L4)));
        let whole = wide.select(is_open, wide.splat(0), wide.splat(KeyBits::in_word(KeyBits::WHOLE)));
        let facts = wide.or(facts, whole);
        let facts = wide.or(facts, wide.keep(wide.mask(outbound), wide.splat(KeyBits::in_word(KeyBits::OUTBOUND))));
        let window = wide.keep(is_tcp, wide.only(wide.reverse(control), 0xffff));
        let rest = wide.or(window, wide.up::<16>(wide.subtract(length, header_length)));
        let (seq, ack) = (wide.keep(is_tcp, second), wide.keep(is_tcp, wide.reverse(ack)));
        let ports = wide.reverse_halves(ports);
        *written = Columns {
            src: wide.store(src),
            dst: wide.store(dst),
            ports: wide.store(ports),
            facts: wide.store(facts),
            seq: wide.store(seq),
            ack: wide.store(ack),
            rest: wide.store(rest),
        };
        wide.spread([src, dst, ports, facts, seq, ack, rest, rest], &LAYOUT, cast_mut(keys));
        let mut syns = wide.bits(wide.both(is_plain, wide.has(flags, u32::from(SYN) << 8)));
        while syns != 0 {
            let lane = syns.trailing_zeros() as usize;
            if let (Some(frame), Some(key)) = (frames.get(lane), keys.get_mut(lane)) {
                key.window_scale = scale_of(frame.bytes);
            }
            syns &= syns - 1;
        }
        (wide.bits(is_plain), !wide.bits(is_open))
    }
}

/// The window scale of a plain SYN.
#[inline(never)]
fn scale_of(frame: &[u8]) -> u8 {
    let header_length = frame.get(LINK + NETWORK + 12).map_or(0, |offset| usize::from(offset >> 4) * 4);
    window_scale(frame.get(HEADERS..LINK + NETWORK + header_length).unwrap_or(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::Direction;
    use crate::base::time::Now;
    use crate::packet::parse::{Arrival, Findings, Rows, parse_sixteen};
    use crate::packet::{Options, PacketSpec, Parsed, Tuple, build, parse as parse_one};

    /// Frames of every kind that the parsers tell apart, and each of them with every bit of its headers turned, cut and padded.
    fn frames() -> Vec<Vec<u8>> {
        let spec = |protocol| PacketSpec::new([10, 1, 2, 3].into(), [192, 168, 255, 9].into(), protocol);
        let mut wholes = Vec::new();
        for (protocol, len, tcp_flags) in
            [(6, 0, 0x10), (6, 30, 0x02), (17, 12, 0), (17, 0, 0), (1, 20, 0), (47, 30, 0)]
        {
            let base =
                PacketSpec { sport: 40_000, dport: 443, seq: 1 << 31, ack: 77, window: Some(512), ..spec(protocol) };
            wholes.push(build(&PacketSpec { tcp_flags, len, ..base.clone() }));
            wholes.push(build(&PacketSpec { tcp_flags, len, vlan: vec![7], ..base }));
        }
        // A SYN with options: the scale behind two that do nothing.
        let mut syn = build(&PacketSpec { tcp_flags: 2, len: 8, ..spec(6) });
        syn[46] = 0x70;
        syn[54..59].copy_from_slice(&[1, 1, 3, 3, 7]);
        wholes.push(syn);
        let mut frames = Vec::new();
        for whole in wholes {
            for byte in 12..whole.len().min(58) {
                for bit in 0..8 {
                    let mut frame = whole.clone();
                    frame[byte] ^= 1 << bit;
                    frames.push(frame);
                }
            }
            frames.extend((0..whole.len()).map(|length| whole[..length].to_vec()));
            frames.extend([1, 6, 40].map(|more| [&whole[..], &vec![0xa5; more]].concat()));
        }
        frames
    }

    /// A level with each way to parse.
    fn with_options(level: Level) -> [(Level, Options); 2] {
        [(level, Options::default()), (level, Options { verify_l4_checksum: true, ..Options::default() })]
    }

    #[test]
    fn sixteen_frames_have_the_keys_that_each_has_alone() {
        let frames = frames();
        let (mut plain, mut others) = (0, 0);
        for (level, options) in Level::all().into_iter().flat_map(with_options) {
            for (size, direction) in
                [(16, Direction::Inbound), (16, Direction::Outbound), (5, Direction::Inbound), (2, Direction::Outbound)]
            {
                for group in frames.chunks(size) {
                    let arrivals: Vec<_> =
                        group.iter().map(|bytes| Arrival { bytes, direction, time: Now(0) }).collect();
                    let (mut keys, mut quotes, mut parsed) =
                        ([Key::EMPTY; LANES], [Tuple::default(); LANES], [Parsed::Key; LANES]);
                    let (mut columns, mut expected) = (Columns::EMPTY, Columns::EMPTY);
                    let rows =
                        Rows { keys: &mut keys, quotes: &mut quotes, parsed: &mut parsed, columns: &mut columns };
                    let mut lengths = [7; LANES];
                    lengths.iter_mut().zip(group).for_each(|(length, frame)| *length = frame.len() as u32);
                    let outbound = if direction == Direction::Outbound { u16::MAX } else { 0 };
                    let arrivals = Arrivals { frames: &arrivals, lengths: &lengths, outbound };
                    let Findings { keyless, whole } = parse_sixteen(level, arrivals, &options, rows);
                    for (i, frame) in group.iter().enumerate() {
                        let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
                        let alone = parse_one(frame, direction, &options, &mut key, &mut quote);
                        assert_eq!((parsed[i], keys[i]), (alone, key), "{frame:02x?}");
                        assert_eq!(keyless >> i & 1 == 1, alone != Parsed::Key);
                        assert_eq!(whole >> i & 1 == 1, key.has(KeyBits::WHOLE));
                        expected.set(i, &key);
                        (expected.facts[i], columns.facts[i]) = (expected.facts[i] << 8, columns.facts[i] << 8);
                        let is_plain = alone == Parsed::Key && key.vlan == [Key::NO_VLAN; 2];
                        if is_plain { plain += 1 } else { others += 1 }
                    }
                    let lanes = 0..group.len();
                    let seen = |columns: &Columns| {
                        let Columns { src, dst, ports, facts, seq, ack, rest } = columns;
                        [src, dst, ports, facts, seq, ack, rest].map(|column| column[lanes.clone()].to_vec())
                    };
                    if level.is_wide() {
                        assert_eq!(seen(&columns), seen(&expected));
                    }
                }
            }
        }
        assert!(plain > 1000 && others > 1000, "{plain} plain, {others} others");
    }
}
