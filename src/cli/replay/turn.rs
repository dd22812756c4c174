//! A line whose uplink replays captures in, all that they hold through it and the times that took out.

use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::base::address::Direction;
use crate::base::time::Now;
use crate::io::pcap::{CaptureError, CapturePort};
use crate::worker::{Judge, Line, Tap};

/// How fast captures are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Speed {
    /// As fast as it goes.
    Max,
    /// As fast as the packets were captured.
    Original,
}

/// Where the time went.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Nanoseconds per packet of each burst, once for each of its packets.
    pub latency: Histogram<u64>,
    /// In bursts.
    pub busy: Duration,
    /// Reading the captures, sorting and merging their packets, on whatever thread.
    pub reading: Duration,
    /// Without packets, until they were read.
    pub waiting: Duration,
}

impl Meter {
    /// Nothing measured.
    pub fn new() -> Meter {
        Meter { latency: histogram(), busy: Duration::ZERO, reading: Duration::ZERO, waiting: Duration::ZERO }
    }

    fn note(&mut self, spent: Duration, packets: u64) {
        self.busy += spent;
        self.latency.saturating_record_n(spent.as_nanos() as u64 / packets, packets);
    }
}

impl Default for Meter {
    fn default() -> Meter {
        Meter::new()
    }
}

/// An empty histogram from 1 ns to 100 s; longer times count as 100 s.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds and digits are constant"))
}

/// Takes what the captures still hold through the line, or the bursts that make at least `most` packets; returns how many packets
/// that were. The clock is read once per burst, and once each time that packets are fetched.
pub fn play<J: Judge, T: Tap>(
    line: &mut Line<CapturePort, J>,
    tap: &mut T,
    speed: Speed,
    most: u64,
    meter: &mut Meter,
) -> Result<u64, CaptureError> {
    let started = Instant::now();
    let mut before = started;
    let already = line.ports()[0].reading();
    let mut packets = 0;
    while packets < most {
        let source = &mut line.ports_mut()[0];
        if source.is_dry() {
            source.refill();
            let after = Instant::now();
            meter.waiting += after - before;
            before = after;
        }
        let moved = line.burst(Direction::Inbound, Now(0), tap) as u64;
        let after = Instant::now();
        if moved > 0 {
            meter.note(after - before, moved);
            packets += moved;
        } else if line.ports()[0].is_finished() {
            break;
        }
        before = after;
        if speed == Speed::Original {
            let (first, last) = line.ports()[0].span();
            let due = Duration::from_nanos(last.since(first));
            thread::sleep(due.saturating_sub(started.elapsed()));
            before = Instant::now();
        }
    }
    let source = &mut line.ports_mut()[0];
    meter.reading += source.reading() - already;
    source.take_error().map_or(Ok(packets), Err)
}
