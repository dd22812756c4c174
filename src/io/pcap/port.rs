//! Captures in, bursts of frames merged by time out through the same door as from a network card: frames lie in the blocks that were
//! read, nothing is copied or allocated per frame.

use std::cell::Cell;
use std::hint::select_unpredictable;
use std::ops::Range;
use std::rc::Rc;

use super::error::CaptureError;
use super::merge::{Merge, Source};
use super::read::{Located, Reader, Stop};
use crate::base::address::Direction;
use crate::base::time::Now;
use crate::io::frame::{BURST, Frame, Frames};
use crate::io::port::Port;

/// Frames that can be out at a time: two bursts, so that one may be handed out while another is still held.
const ROWS: usize = 2 * BURST;

/// Says of a frame's bytes, given the side of its capture, on which side it counts as received; `None` = it is passed over.
pub type Sorter = Box<dyn Fn(&[u8], Direction) -> Option<Direction>>;

/// A port that replays captures, or the port beside it that takes what is allowed: transmitted frames are counted and come back to
/// the replaying port.
///
/// Nothing that is out is overwritten: blocks are refilled only when no frame is out, and no more than two bursts are out at a
/// time. So [`Port::receive`] may give fewer frames than there is room for, and none while others are held: transmit or
/// recycle them, then ask again until [`CapturePort::is_finished`].
pub struct CapturePort {
    /// Captures that have not ended, in the order given.
    lanes: Vec<Lane>,
    /// Their blocks, and those of captures that have ended.
    memory: Vec<u8>,
    given: Given,
    /// Frames that are out, of both ports.
    out: Rc<Cell<usize>>,
    /// A capture has used up its block.
    is_dry: bool,
    error: Option<CaptureError>,
    transmitted: u64,
    sorter: Option<Sorter>,
}

/// One capture, its block and its next records.
struct Lane {
    reader: Reader,
    /// Where its block begins in the memory, and how long it is.
    base: usize,
    length: usize,
    direction: Direction,
    /// What the addresses of its frames have in common.
    mark: u64,
    /// Records that were located, and which of them come next: `first..count`.
    records: [Located; BURST],
    first: usize,
    count: usize,
    /// Why there are no more after them.
    stop: Stop,
    error: Option<CaptureError>,
}

/// What was given out.
struct Given {
    rows: [Row; ROWS],
    /// Rows taken since all frames were back.
    used: usize,
    numbered: u64,
    /// Added to every timestamp.
    ahead: u64,
    /// First and last moment, without what is added.
    span: Option<(Now, Now)>,
}

/// What is remembered of a frame that is out.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    time: Now,
    number: u64,
}

// The address of a frame:
//
//   63     62 ... 48      47 ... 0
//  | side | row number  | offset in the memory |
const SIDE: u32 = 63;
const ROW: u32 = 48;
const OFFSET: u64 = (1 << ROW) - 1;
const _: () = assert!(ROWS.is_power_of_two());

#[inline]
const fn row(frame: &Frame) -> usize {
    (frame.address >> ROW) as usize % ROWS
}

#[inline]
const fn offset(frame: &Frame) -> usize {
    (frame.address & OFFSET) as usize
}

/// What the addresses of all frames have in common that lie in a block at `base` and came in this direction.
#[inline]
const fn mark(direction: Direction, base: usize) -> u64 {
    (direction as u64) << SIDE | base as u64
}

impl Given {
    /// Gives out a record of the block that the mark speaks of. There must be room for it.
    #[inline(always)]
    fn give(&mut self, located: &Located, mark: u64, into: &mut Frames) {
        self.numbered += 1;
        let time = Now(located.time.0.saturating_add(self.ahead));
        self.rows[self.used % ROWS] = Row { time, number: self.numbered };
        let address = mark + ((self.used as u64) << ROW | u64::from(located.start));
        let is_full = into.push(Frame::new(address, located.length)).is_err();
        debug_assert!(!is_full, "no more than there is room for");
        self.used += 1;
    }

    /// Notes that moments were given out, the first of them and the latest.
    #[inline]
    fn spans(&mut self, first: Option<Now>, last: Now) {
        if let Some(first) = first {
            let (begin, end) = self.span.unwrap_or((first, last));
            self.span = Some((begin, end.at_least(last)));
        }
    }
}

impl Lane {
    fn next(&self) -> Option<&Located> {
        self.records.get(self.first).filter(|_| self.first < self.count)
    }

    /// Locates more records when all were given out; no, when there are none in the block.
    fn locate(&mut self, memory: &mut [u8]) -> bool {
        if self.first < self.count {
            return true;
        }
        (self.first, self.count) = (0, 0);
        if self.error.is_some() || self.stop == Stop::End {
            return false;
        }
        let block = memory.get_mut(self.base..self.base + self.length).unwrap_or(&mut []);
        let mut records = self.records.iter_mut();
        let stop = self.reader.locate_many(block, BURST, |located| {
            if let Some(record) = records.next() {
                *record = located;
            }
        });
        self.count = BURST - records.len();
        match stop {
            Ok(stop) => self.stop = stop,
            Err(error) => self.error = Some(error),
        }
        self.count > 0
    }
}

impl CapturePort {
    /// A port that gives the packets of these captures, and the port beside it that takes them.
    pub fn pair(merge: Merge, sorter: Option<Sorter>) -> [CapturePort; 2] {
        let out = Rc::new(Cell::new(0));
        let port = |merge: Merge, sorter| {
            let mut memory = Vec::new();
            let lane = |Source { capture, direction, pending, is_done }| {
                let (reader, block) = capture.into_parts();
                let (base, length) = (memory.len(), block.len());
                memory.extend(block);
                let mut records = [Located::default(); BURST];
                let count = usize::from(pending.is_some());
                if let (Some(located), [record, ..]) = (pending, &mut records) {
                    *record = located;
                }
                let stop = if is_done { Stop::End } else { Stop::Full };
                let mark = mark(direction, base);
                Lane { reader, base, length, direction, mark, records, first: 0, count, stop, error: None }
            };
            CapturePort {
                lanes: merge.sources.into_iter().map(lane).collect(),
                memory,
                given: Given { rows: [Row::default(); ROWS], used: 0, numbered: 0, ahead: 0, span: None },
                out: Rc::clone(&out),
                is_dry: false,
                error: None,
                transmitted: 0,
                sorter,
            }
        };
        [port(merge, sorter), port(Merge::default(), None)]
    }

    /// Whether every packet was given out, or a capture had an error.
    pub fn is_finished(&self) -> bool {
        self.error.is_some() || self.lanes.is_empty()
    }

    /// The error that ended the replay, once.
    pub fn take_error(&mut self) -> Option<CaptureError> {
        self.error.take()
    }

    /// The same port with this many nanoseconds added to every timestamp, to play captures again after themselves.
    pub fn ahead_by(mut self, nanoseconds: u64) -> CapturePort {
        self.given.ahead = nanoseconds;
        self
    }

    /// First and last moment of what was given out, as captured; equal when nothing was.
    pub fn span(&self) -> (Now, Now) {
        self.given.span.unwrap_or_default()
    }

    /// Packets seen so far, those passed over included.
    pub fn numbered(&self) -> u64 {
        self.given.numbered
    }

    /// Frames transmitted so far.
    pub fn transmitted(&self) -> u64 {
        self.transmitted
    }

    /// Whether a block is used up and no frame is out: [`Port::receive`] will read on first, or [`CapturePort::refill`] before.
    pub fn is_dry(&self) -> bool {
        self.is_dry && self.out.get() == 0
    }

    /// Reads on where a block is used up, unless frames are out; for those who want that apart from the burst.
    pub fn refill(&mut self) {
        if !self.is_dry() {
            return;
        }
        self.is_dry = false;
        for lane in &mut self.lanes {
            if lane.first == lane.count && lane.stop == Stop::Refill && lane.error.is_none() {
                let block = self.memory.get_mut(lane.base..lane.base + lane.length).unwrap_or(&mut []);
                match lane.reader.refill(block) {
                    Ok(()) => lane.stop = Stop::Full,
                    Err(error) => self.error = Some(error),
                }
            }
        }
    }

    /// Gives out what comes next of the only capture left.
    #[inline]
    fn receive_one(&mut self, room: usize, into: &mut Frames) {
        let Some(lane) = self.lanes.first_mut() else { return };
        let (mark, given) = (lane.mark, &mut self.given);
        // What was located while there were others.
        if let Some(&located) = lane.next() {
            lane.first += 1;
            given.spans(Some(located.time), located.time);
            given.give(&located, mark, into);
            return;
        }
        if lane.stop == Stop::End || lane.error.is_some() {
            self.error = lane.error.take();
            self.lanes.clear();
            return;
        }
        let block = self.memory.get_mut(lane.base..lane.base + lane.length).unwrap_or(&mut []);
        let (mut first, mut last) = (None, Now(0));
        let stop = lane.reader.locate_many(block, room, |located| {
            first = first.or(Some(located.time));
            last = last.at_least(located.time);
            given.give(&located, mark, into);
        });
        given.spans(first, last);
        match stop {
            Ok(Stop::Full) => {}
            Ok(Stop::Refill) => (lane.stop, self.is_dry) = (Stop::Refill, true),
            Ok(Stop::End) => self.lanes.clear(),
            Err(error) => self.error = Some(error),
        }
    }

    /// Gives out what comes next of two captures, which is the frequent case: no branch on which of them it is, as that is a toss-up
    /// to a predictor.
    #[inline]
    fn receive_two(&mut self, mut room: usize, into: &mut Frames) {
        let (mut first, mut last) = (None, Now(0));
        while room > 0 && self.has_next_of_all() {
            let [a, b] = self.lanes.as_mut_slice() else { break };
            // Each step takes from one of them.
            let steps = room.min(a.count - a.first).min(b.count - b.first);
            let (mut one, mut other) = (a.first, b.first);
            for _ in 0..steps {
                let (x, y) = (&a.records[one % BURST], &b.records[other % BURST]);
                let is_other = y.time < x.time;
                let located = select_unpredictable(is_other, y, x);
                let mark = select_unpredictable(is_other, b.mark, a.mark);
                one += usize::from(!is_other);
                other += usize::from(is_other);
                first = first.or(Some(located.time));
                last = last.at_least(located.time);
                self.given.give(located, mark, into);
            }
            (a.first, b.first) = (one, other);
            room -= steps;
        }
        self.given.spans(first, last);
    }

    /// Gives out what comes next of any number of captures, or of those whose frames have to be sorted.
    fn receive_any(&mut self, mut room: usize, into: &mut Frames) {
        let (mut first, mut last) = (None, Now(0));
        while room > 0 && self.has_next_of_all() {
            // Of equal times the capture given first.
            let earliest = self.lanes.iter_mut().min_by_key(|lane| lane.next().map(|next| next.time));
            let Some(lane) = earliest else { break };
            let Some(&located) = lane.next() else { break };
            lane.first += 1;
            let mut mark = lane.mark;
            if let Some(sorter) = &self.sorter {
                let start = lane.base + located.start as usize;
                let bytes = self.memory.get(start..start + located.length as usize).unwrap_or(&[]);
                let Some(direction) = sorter(bytes, lane.direction) else {
                    self.given.numbered += 1;
                    continue;
                };
                mark = self::mark(direction, lane.base);
            }
            first = first.or(Some(located.time));
            last = last.at_least(located.time);
            self.given.give(&located, mark, into);
            room -= 1;
        }
        self.given.spans(first, last);
    }

    /// Makes the next record of every capture known; no, when one must be refilled first or is broken. Those that have ended go.
    #[inline]
    fn has_next_of_all(&mut self) -> bool {
        let mut n = 0;
        while let Some(lane) = self.lanes.get_mut(n) {
            if lane.first < lane.count || lane.locate(&mut self.memory) {
                n += 1;
                continue;
            }
            if let Some(error) = lane.error.take() {
                self.error = Some(error);
                return false;
            }
            if lane.stop == Stop::Refill {
                self.is_dry = true;
                return false;
            }
            // The frames that are out lie in the memory, not in the lane.
            self.lanes.remove(n);
        }
        true
    }

    #[inline]
    fn are_back(&self, count: usize) {
        // As many are out as were given; the port beside counts the same.
        self.out.set(self.out.get().saturating_sub(count));
    }
}

impl Port for CapturePort {
    fn receive(&mut self, into: &mut Frames) -> usize {
        let before = into.len();
        let held = self.out.get();
        if held == 0 {
            self.given.used = 0;
            self.refill();
        }
        loop {
            let room = into.room().min(ROWS - self.given.used);
            if room == 0 || self.is_finished() {
                break;
            }
            match (self.lanes.len(), &self.sorter) {
                (1, None) => self.receive_one(room, into),
                (2, None) => self.receive_two(room, into),
                _ => self.receive_any(room, into),
            }
            // A burst ends where a block ends, but none is empty that need not be.
            if self.is_dry && into.len() == before && held == 0 {
                self.refill();
            } else if self.is_dry {
                break;
            }
        }
        let given = into.len() - before;
        self.out.set(held + given);
        given
    }

    #[inline]
    fn captured(&self, frame: &Frame) -> Option<Now> {
        Some(self.given.rows[row(frame)].time)
    }

    #[inline]
    fn side(&self, frame: &Frame) -> Option<Direction> {
        Some(if frame.address >> SIDE == 0 { Direction::Inbound } else { Direction::Outbound })
    }

    #[inline]
    fn number(&self, frame: &Frame) -> u64 {
        self.given.rows[row(frame)].number
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        let start = offset(frame);
        self.memory.get(start..start + frame.len()).unwrap_or(&[])
    }

    #[inline]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        let start = offset(frame);
        self.memory.get_mut(start..start + frame.len()).unwrap_or(&mut [])
    }

    #[inline]
    fn transmit(&mut self, _: Frame) -> Result<(), Frame> {
        self.transmitted += 1;
        self.are_back(1);
        Ok(())
    }

    #[inline]
    fn transmit_run(&mut self, frames: &mut Frames, positions: Range<usize>) -> (usize, u64) {
        let (mut count, mut bytes) = (0, 0);
        for position in positions {
            let Some(frame) = frames.take(position) else { break };
            count += 1;
            bytes += frame.len() as u64;
        }
        self.transmitted += count as u64;
        self.are_back(count);
        (count, bytes)
    }

    #[inline]
    fn recycle(&mut self, _: Frame) {
        self.are_back(1);
    }

    fn flush(&mut self) {}
}
