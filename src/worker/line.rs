//! Received frames in, each one's fate out: transmitted on the other port, recycled, or handed over to the worker that owns
//! its flow.

use crate::base::address::Direction;
use crate::base::id::WorkerId;
use crate::base::prefetch::prefetch;
use crate::base::time::Now;
use crate::base::wide::{FEW, LANES};
use crate::engine::{Decision, Verdict};
use crate::io::{BURST, Frames, Port};
use crate::packet::{Arrival, complete_partial};
use crate::worker::exchange::Exchange;
use crate::worker::judge::Judge;

/// Packets and bytes.
pub use crate::engine::counters::Tally;

/// Sees every frame with its decision, before its fate: captures of what was dropped, lines of verdicts.
pub trait Tap {
    /// Whether it looks at all; if not, it is not called.
    const LOOKS: bool = true;

    /// A frame of the burst was judged.
    fn judged(&mut self, seen: Judged<'_>);
}

/// A frame with its decision.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// Position within the burst of the judge.
    pub position: usize,
    /// Position in what is replayed, from 1; else 0.
    pub number: u64,
    /// Its bytes as received.
    pub frame: &'a [u8],
    /// The side it counts as received on.
    pub direction: Direction,
    /// When.
    pub now: Now,
    /// The decision.
    pub decision: Decision,
    /// Generation of what it was judged by.
    pub generation: u64,
}

/// Nobody looks; costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {
    const LOOKS: bool = false;

    #[inline(always)]
    fn judged(&mut self, _: Judged<'_>) {}
}

/// What became of frames beside the verdict. Fields by direction count frames by the side they were received on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Transmitted, by direction.
    pub transmitted: [Tally; 2],
    /// Allowed, but the transmit ring stayed full for a burst (`tx-ring-full`), by direction.
    pub ring_full: [Tally; 2],
    /// Allowed, but longer than the other port takes (`mtu-exceeded`), by direction.
    pub too_long: [Tally; 2],
    /// Checksums completed (GW-30).
    pub completed: u64,
    /// Handed over to the worker that owns the flow.
    pub handed_over: u64,
    /// Not handed over because the owner's queue was full (`tx-ring-full`), by direction.
    pub handover_full: [Tally; 2],
    /// Bursts with at least one frame.
    pub bursts: u64,
    /// Times that the worker went to sleep.
    pub sleeps: u64,
    /// Sleeps that a frame, a hand-over or control ended before their time.
    pub woken: u64,
}

impl Fates {
    /// Adds another worker's numbers.
    pub fn merge(&mut self, other: &Fates) {
        let add = |mine: &mut [Tally; 2], theirs: &[Tally; 2]| {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| mine.add(*theirs));
        };
        add(&mut self.transmitted, &other.transmitted);
        add(&mut self.ring_full, &other.ring_full);
        add(&mut self.too_long, &other.too_long);
        add(&mut self.handover_full, &other.handover_full);
        self.completed += other.completed;
        self.handed_over += other.handed_over;
        self.bursts += other.bursts;
        self.sleeps += other.sleeps;
        self.woken += other.woken;
    }
}

#[inline]
fn count(tally: &mut [Tally; 2], direction: Direction, bytes: usize) {
    tally[direction as usize].add(Tally { packets: 1, bytes: bytes as u64 });
}

/// Has a judge take in the frames at hand, which are at most so many. Their first lines are fetched before any is looked at: the device
/// has left them in a far cache, or in memory.
#[inline(always)]
fn take_in<const MOST: usize, P: Port, J: Judge>(
    judge: &mut J,
    from: &P,
    frames: &Frames,
    direction: Direction,
    now: Now,
) {
    let mut arrivals = [Arrival::NOTHING; MOST];
    for (position, arrival) in arrivals.iter_mut().enumerate().take(frames.len()) {
        let Some(frame) = frames.get(position) else { break };
        let bytes = from.bytes(frame);
        if let Some(first) = bytes.first() {
            prefetch(first);
        }
        let (side, time) = (from.side(frame).unwrap_or(direction), from.captured(frame).unwrap_or(now));
        *arrival = Arrival { bytes, direction: side, time };
    }
    judge.add(arrivals.get(..frames.len()).unwrap_or(&arrivals));
}

/// Whether frames may belong to another worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sorting {
    /// Fresh from a port: ask the judge who owns each.
    ByOwner,
    /// Handed over by another worker: all belong here.
    AllHere,
}

/// One worker's queue of the uplink, its queue of the downlink, and its judge. Both ports share the memory of frames.
pub struct Line<P, J> {
    /// Uplink and downlink: frames of a direction are received on the port with its number.
    ports: [P; 2],
    judge: J,
    frames: Frames,
    here: WorkerId,
    exchange: Option<Exchange>,
    fates: Fates,
}

impl<P: Port, J: Judge> Line<P, J> {
    /// A line that owns all flows of its ports.
    pub fn new(uplink: P, downlink: P, judge: J) -> Line<P, J> {
        Line {
            ports: [uplink, downlink],
            judge,
            frames: Frames::new(),
            here: WorkerId(0),
            exchange: None,
            fates: Fates::default(),
        }
    }

    /// The same as one of several workers; with an exchange of one there is nothing to exchange.
    pub fn exchanging(mut self, exchange: Exchange) -> Line<P, J> {
        self.here = exchange.here();
        self.exchange = (exchange.workers() > 1).then_some(exchange);
        self
    }

    /// The ports, uplink first.
    pub fn ports(&self) -> &[P; 2] {
        &self.ports
    }

    /// The ports, uplink first.
    pub fn ports_mut(&mut self) -> &mut [P; 2] {
        &mut self.ports
    }

    /// The judge.
    pub fn judge(&self) -> &J {
        &self.judge
    }

    /// The judge, with its state, when the ports have nothing more.
    pub fn into_judge(self) -> J {
        self.judge
    }

    /// The judge.
    pub fn judge_mut(&mut self) -> &mut J {
        &mut self.judge
    }

    /// What became of frames so far.
    pub fn fates(&self) -> &Fates {
        &self.fates
    }

    /// Which worker runs the line.
    pub fn here(&self) -> WorkerId {
        self.here
    }

    /// Notes a sleep, and whether something ended it before its time.
    pub(super) fn slept(&mut self, was_woken: bool) {
        self.fates.sleeps += 1;
        self.fates.woken += u64::from(was_woken);
    }

    /// Frames that other workers have left here.
    pub fn mail(&self) -> usize {
        self.exchange.as_ref().map_or(0, Exchange::len)
    }

    /// Whether other workers have left nothing here.
    pub(super) fn has_no_mail(&self) -> bool {
        self.exchange.as_ref().is_none_or(Exchange::is_empty)
    }

    /// One burst of each direction, and one of each that others have left here; returns frames moved.
    #[inline]
    pub fn turn<T: Tap>(&mut self, now: Now, tap: &mut T) -> usize {
        let mut moved = 0;
        for direction in [Direction::Inbound, Direction::Outbound] {
            if let Some(exchange) = &self.exchange {
                let collected = exchange.collect(direction, &mut self.frames);
                if collected > 0 {
                    self.settle(direction, Sorting::AllHere, now, tap);
                    moved += collected;
                }
            }
            moved += self.burst(direction, now, tap);
        }
        moved
    }

    /// One burst of one direction, from its port to its fate; returns frames received.
    #[inline]
    pub fn burst<T: Tap>(&mut self, direction: Direction, now: Now, tap: &mut T) -> usize {
        let received = self.ports[direction as usize].receive(&mut self.frames);
        if received > 0 {
            self.settle(direction, Sorting::ByOwner, now, tap);
        } else {
            // Nothing new, but frames of an earlier burst may wait for a device that was busy.
            self.ports[direction.reverse() as usize].flush();
        }
        received
    }

    /// Takes the frames at hand to their fate.
    fn settle<T: Tap>(&mut self, direction: Direction, sorting: Sorting, now: Now, tap: &mut T) {
        let [uplink, downlink] = &mut self.ports;
        let (from, to) = match direction {
            Direction::Inbound => (uplink, downlink),
            Direction::Outbound => (downlink, uplink),
        };
        let (frames, judge, fates) = (&mut self.frames, &mut self.judge, &mut self.fates);
        fates.bursts += 1;
        judge.begin();
        if frames.len() <= FEW {
            take_in::<FEW, _, _>(judge, from, frames, direction, now);
        } else if frames.len() <= LANES {
            take_in::<LANES, _, _>(judge, from, frames, direction, now);
        } else {
            take_in::<BURST, _, _>(judge, from, frames, direction, now);
        }
        let mut is_whole_burst = true;
        if let Some(exchange) = self.exchange.as_mut().filter(|_| sorting == Sorting::ByOwner) {
            let strangers = judge.strangers(frames.len(), self.here, exchange.workers());
            let mut left = strangers;
            while left != 0 {
                let position = left.trailing_zeros() as usize;
                left &= left - 1;
                let owner = judge.owner(position, self.here, exchange.workers());
                let Some(frame) = frames.take(position) else { continue };
                match exchange.hand_over(owner, direction, frame) {
                    Ok(()) => fates.handed_over += 1,
                    Err(frame) => {
                        count(&mut fates.handover_full, direction, frame.len());
                        from.recycle(frame);
                    }
                }
            }
            if strangers != 0 {
                judge.keep(!strangers);
                is_whole_burst = false;
            }
            exchange.ring();
        }
        judge.decide();
        let (longest, generation) = (to.longest(), judge.generation());
        let (mut judged, mut sent) = (0, Tally::default());
        // Runs of frames with the same fate, where nobody looks at each and positions are those of the judge.
        let (clear, denied) = if T::LOOKS || !is_whole_burst { (0, 0) } else { judge.clear_cases() };
        let (count_of, mut position) = (frames.len(), 0);
        while position < count_of {
            let run = |bits: u64| ((bits >> position).trailing_ones() as usize).min(count_of - position);
            let (clear, denied) = (run(clear), run(denied));
            if clear > 0 {
                let (packets, bytes) = to.transmit_run(frames, position..position + clear);
                sent.add(Tally { packets: packets as u64, bytes });
                (position, judged) = (position + packets, judged + packets);
                if packets == clear {
                    continue;
                }
            }
            if denied > 0 {
                from.recycle_run(frames, position..position + denied);
                (position, judged) = (position + denied, judged + denied);
                continue;
            }
            let taken = frames.take(position);
            position += 1;
            let Some(mut frame) = taken else { continue };
            let (decision, is_whole) = (judge.decision(judged), judge.is_whole(judged));
            if T::LOOKS {
                tap.judged(Judged {
                    position: judged,
                    number: from.number(&frame),
                    frame: from.bytes(&frame),
                    direction: from.side(&frame).unwrap_or(direction),
                    now: from.captured(&frame).unwrap_or(now),
                    decision,
                    generation,
                });
            }
            judged += 1;
            let length = frame.len();
            if decision.verdict() == Verdict::Deny {
                from.recycle(frame);
                continue;
            }
            if length > longest {
                count(&mut fates.too_long, direction, length);
                from.recycle(frame);
                continue;
            }
            if !is_whole {
                fates.completed += u64::from(complete_partial(from.bytes_mut(&mut frame)));
            }
            match to.transmit(frame) {
                Ok(()) => {
                    sent.packets += 1;
                    sent.bytes += length as u64;
                }
                Err(frame) => {
                    count(&mut fates.ring_full, direction, length);
                    from.recycle(frame);
                }
            }
        }
        fates.transmitted[direction as usize].add(sent);
        frames.clear();
        to.flush();
    }
}

#[cfg(test)]
mod tests;
