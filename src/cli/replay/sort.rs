//! A frame of a capture in, the side it counts as received on out, or that another worker owns it.

use std::cell::RefCell;

use super::Side;
use crate::base::address::{Direction, Family, range};
use crate::base::id::WorkerId;
use crate::base::time::Now;
use crate::control::load::Loaded;
use crate::engine::Batch;
use crate::io::pcap::Sorter;
use crate::packet::{Key, Options, Parsed, Tuple, parse};

/// Sides and ownership of the frames of one worker's captures; `None` when each capture has one side and nobody shares them.
pub(in crate::cli) fn sorter(
    sides: &[Side],
    loaded: &Loaded,
    worker: WorkerId,
    workers: u32,
    seed: [u64; 2],
) -> Option<Sorter> {
    if sides.iter().all(|side| *side != Side::BySegment) && workers == 1 {
        return None;
    }
    let by_segment = sides.contains(&Side::BySegment);
    let site = &loaded.plan.site;
    let segments: Vec<(Family, u128, u128)> = site
        .segments
        .iter()
        .flat_map(|segment| segment.cidrs.iter().map(|c| (c.network, c.length)))
        .chain(loaded.policy.subnets.iter().map(|s| (s.cidr.network(), s.cidr.prefix_len())))
        .map(|(network, length)| {
            let (first, last) = range(network, length);
            (Family::of(network), first, last)
        })
        .collect();
    let options = loaded.options();
    let batch = RefCell::new(Batch::new());
    Some(Box::new(move |bytes, side| {
        let mut direction = side;
        if by_segment {
            let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
            let parsed = parse(bytes, side, &options, &mut key, &mut quote);
            let is_inside =
                segments.iter().any(|&(f, first, last)| f == key.family() && (first..=last).contains(&key.src));
            let has_source = !matches!(parsed, Parsed::Pass(_));
            direction = if has_source && is_inside { Direction::Outbound } else { Direction::Inbound };
        }
        if workers > 1 && owner(&mut batch.borrow_mut(), bytes, direction, &options, workers, seed) != worker {
            return None;
        }
        Some(direction)
    }))
}

/// The worker that owns a frame's flow; frames without one belong to the first.
fn owner(
    batch: &mut Batch,
    bytes: &[u8],
    direction: Direction,
    options: &Options,
    workers: u32,
    seed: [u64; 2],
) -> WorkerId {
    batch.clear();
    match batch.add(bytes, direction, Now(0), options) {
        Some(at) => batch.owner(at, WorkerId(0), workers, seed),
        None => WorkerId(0),
    }
}
