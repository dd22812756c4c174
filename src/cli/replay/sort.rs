//! A frame of a capture in, the side it counts as received on out, or that another worker owns it.

use super::Side;
use crate::base::address::{Direction, Family, range};
use crate::base::id::WorkerId;
use crate::control::load::Loaded;
use crate::engine::batch::owner_of;
use crate::io::pcap::Sorter;
use crate::packet::{Key, KeyBits, Options, Parsed, Tuple, parse};

/// Sides and ownership of the frames of one worker's captures; `None` when each capture has one side and nobody shares them.
pub(in crate::cli) fn sorter(
    sides: &[Side],
    loaded: &Loaded,
    worker: WorkerId,
    workers: u32,
    seed: [u64; 2],
) -> Option<Sorter> {
    let by_segment = sides.contains(&Side::BySegment);
    if !by_segment && workers == 1 {
        return None;
    }
    let site = &loaded.plan.site;
    let of_site = site.segments.iter().flat_map(|segment| segment.cidrs.iter().map(|c| (c.network, c.length)));
    let of_policy = loaded.policy.subnets.iter().map(|s| (s.cidr.network(), s.cidr.prefix_len()));
    let inside = Inside::new(of_site.chain(of_policy).map(|(network, length)| {
        let (first, last) = range(network, length);
        (Family::of(network), first, last)
    }));
    let options = loaded.options();
    Some(Box::new(move |bytes, side| {
        let ends = Ends::of(bytes, &options);
        let direction = match by_segment {
            true if ends.source.is_some_and(|(family, source)| inside.has(family, source)) => Direction::Outbound,
            true => Direction::Inbound,
            false => side,
        };
        (workers == 1 || ends.owner(workers, seed) == worker).then_some(direction)
    }))
}

/// The addresses of all segments, by family: intervals in order, none of which touch.
#[derive(Debug, Default)]
struct Inside {
    intervals: [Vec<(u128, u128)>; 2],
}

impl Inside {
    fn new(ranges: impl Iterator<Item = (Family, u128, u128)>) -> Inside {
        let mut all: Vec<_> = ranges.collect();
        all.sort_unstable();
        let mut inside = Inside::default();
        for (family, first, last) in all {
            let intervals = &mut inside.intervals[family as usize];
            match intervals.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => intervals.push((first, last)),
            }
        }
        inside
    }

    /// O(log intervals).
    fn has(&self, family: Family, address: u128) -> bool {
        let intervals = &self.intervals[family as usize];
        let behind = intervals.partition_point(|interval| interval.0 <= address);
        behind.checked_sub(1).and_then(|n| intervals.get(n)).is_some_and(|interval| address <= interval.1)
    }
}

/// What a frame says of where it comes from and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    /// Where the packet comes from; of a malformed one, as far as it says so.
    source: Option<(Family, u128)>,
    /// The addresses of the flow; `None` if it is of none.
    pair: Option<(u128, u128)>,
}

impl Ends {
    /// By the parser, or in front of it where it could not say anything else.
    #[inline]
    fn of(frame: &[u8], options: &Options) -> Ends {
        Ends::at_a_glance(frame).unwrap_or_else(|| Ends::by_parser(frame, options))
    }

    /// Of an untagged IPv4 or IPv6 packet that is visibly no ICMP error, which would belong to the flow that it quotes. A malformed
    /// one has no flow, but whoever judges it denies it.
    #[inline]
    fn at_a_glance(frame: &[u8]) -> Option<Ends> {
        let (ethernet, packet) = frame.split_first_chunk::<14>()?;
        match [ethernet[12], ethernet[13]] {
            [0x08, 0x00] => {
                let header = packet.first_chunk::<20>().filter(|header| !matches!(header[9], 1 | 58))?;
                let [.., a, b, c, d, e, f, g, h] = *header;
                let (source, to) = (u32::from_be_bytes([a, b, c, d]).into(), u32::from_be_bytes([e, f, g, h]).into());
                Some(Ends { source: Some((Family::V4, source)), pair: Some((source, to)) })
            }
            [0x86, 0xdd] => {
                // TCP or UDP; everything else may turn out to be an extension header.
                let header = packet.first_chunk::<40>().filter(|header| matches!(header[6], 6 | 17))?;
                let (_, addresses) = header.split_first_chunk::<8>()?;
                let (source, rest) = addresses.split_first_chunk::<16>()?;
                let source = u128::from_be_bytes(*source);
                let to = rest.first_chunk::<16>().map(|to| u128::from_be_bytes(*to))?;
                Some(Ends { source: Some((Family::V6, source)), pair: Some((source, to)) })
            }
            _ => None,
        }
    }

    fn by_parser(frame: &[u8], options: &Options) -> Ends {
        let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
        // The side is not in what is asked for.
        let parsed = parse(frame, Direction::Inbound, options, &mut key, &mut quote);
        let source = (!matches!(parsed, Parsed::Pass(_))).then(|| (key.family(), key.src));
        let pair = match parsed {
            Parsed::Key if key.has(KeyBits::QUOTE) => Some((quote.src, quote.dst)),
            Parsed::Key => Some((key.src, key.dst)),
            Parsed::Pass(_) | Parsed::Malformed(_) => None,
        };
        Ends { source, pair }
    }

    /// The worker that judges the frame. Frames without a flow belong to the first.
    #[inline]
    fn owner(&self, workers: u32, seed: [u64; 2]) -> WorkerId {
        self.pair.map_or(WorkerId(0), |(a, b)| owner_of(a, b, workers, seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Now;
    use crate::engine::Batch;
    use crate::packet::{PacketSpec, build};

    /// TCP, UDP, ICMP and others over IPv4 and IPv6, tagged and not, whole and cut, and with each bit of the headers wrong.
    fn frames() -> Vec<Vec<u8>> {
        let v4 = ([10, 1, 2, 3].into(), [192, 168, 255, 9].into());
        let v6 = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), [0x2001, 0xdb8, 1, 0, 0, 0, 0, 2].into());
        let mut frames = Vec::new();
        for (src, dst) in [v4, v6] {
            for protocol in [1, 6, 17, 44, 47, 58, 132] {
                for vlan in [vec![], vec![7]] {
                    frames.push(build(&PacketSpec { vlan, len: 30, ..PacketSpec::new(src, dst, protocol) }));
                }
            }
        }
        for whole in frames.clone() {
            frames.extend((0..whole.len().min(64)).map(|length| whole[..length].to_vec()));
            for bit in 12 * 8..(54 * 8).min(whole.len() * 8) {
                let mut wrong = whole.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                frames.push(wrong);
            }
        }
        frames
    }

    #[test]
    fn a_glance_says_what_the_parser_says() {
        let options = Options::default();
        let (mut glanced, mut malformed) = (0, 0);
        for frame in frames() {
            let Some(ends) = Ends::at_a_glance(&frame) else { continue };
            let parsed = Ends::by_parser(&frame, &options);
            assert_eq!(ends.source, parsed.source, "{frame:02x?}");
            match parsed.pair {
                Some(_) => assert_eq!(ends, parsed, "{frame:02x?}"),
                None => malformed += 1,
            }
            glanced += 1;
        }
        assert!(malformed > 100 && glanced > malformed + 100, "{malformed} of {glanced}");
    }

    #[test]
    fn a_frame_of_a_flow_belongs_to_the_worker_that_a_batch_names() {
        let (options, seed) = (Options::default(), [3, 5]);
        for frame in frames() {
            let ends = Ends::of(&frame, &options);
            let mut batch = Batch::new();
            batch.add(&frame, Direction::Inbound, Now(0), &options);
            if batch.parsed(0) == Parsed::Key {
                assert_eq!(ends.owner(7, seed), batch.owner(0, WorkerId(0), 7, seed), "{frame:02x?}");
            }
        }
    }

    #[test]
    fn segments_that_overlap_or_touch_are_one_interval() {
        let v4 = |first, last| (Family::V4, first, last);
        let inside =
            Inside::new([v4(20, 29), v4(5, 9), v4(22, 24), v4(30, 31), (Family::V6, 0, u128::MAX)].into_iter());
        assert_eq!(inside.intervals, [vec![(5, 9), (20, 31)], vec![(0, u128::MAX)]]);
        for (address, expected) in [(4, false), (5, true), (9, true), (10, false), (20, true), (31, true), (32, false)]
        {
            assert_eq!(inside.has(Family::V4, address), expected, "{address}");
        }
        assert!(inside.has(Family::V6, u128::MAX) && !Inside::default().has(Family::V6, 0));
    }
}
