//! Merged captures in, bursts of frames out through the same door as from a network card: frames lie in the blocks that were
//! read, nothing is copied or allocated per frame.

use std::cell::RefCell;
use std::rc::Rc;

use super::error::CaptureError;
use super::merge::Merge;
use crate::base::address::Direction;
use crate::base::time::Now;
use crate::io::frame::{BURST, Frame, Frames};
use crate::io::port::Port;

/// Frames that can be out at a time: two bursts, so that one may be handed out while another is still held.
const SLOTS: usize = 2 * BURST;

/// Where a frame that is out lies.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    source: usize,
    start: usize,
    time: Now,
    number: u64,
    direction: Option<Direction>,
}

/// Says of a frame's bytes, given the side of its capture, on which side it counts as received; `None` = it is passed over.
pub type Sorter = Box<dyn Fn(&[u8], Direction) -> Option<Direction>>;

/// A port that replays captures, or the port beside it that takes what is allowed: transmitted frames are counted and go back
/// to the replaying port's slots.
///
/// A block is refilled only when none of its frames is out, so [`Port::receive`] may give fewer frames than there is room for, and
/// gives none while frames of an exhausted block are held: transmit or recycle them, then ask again until
/// [`CapturePort::is_finished`].
pub struct CapturePort {
    merge: Merge,
    slots: [Slot; SLOTS],
    free: Vec<usize>,
    /// Frames out, by capture.
    out: Vec<usize>,
    error: Option<CaptureError>,
    transmitted: u64,
    numbered: u64,
    /// Added to every timestamp.
    ahead: u64,
    /// First and last moment given out, without what is added.
    span: Option<(Now, Now)>,
    sorter: Option<Sorter>,
    returned: Rc<RefCell<Vec<Frame>>>,
}

impl CapturePort {
    /// A port that gives the packets of these captures, and the port beside it that takes them.
    pub fn pair(merge: Merge, sorter: Option<Sorter>) -> [CapturePort; 2] {
        let returned = Rc::new(RefCell::new(Vec::with_capacity(SLOTS)));
        let port = |merge: Merge, sorter| CapturePort {
            out: vec![0; merge.sources.len()],
            merge,
            slots: [Slot::default(); SLOTS],
            free: (0..SLOTS).rev().collect(),
            error: None,
            transmitted: 0,
            numbered: 0,
            ahead: 0,
            span: None,
            sorter,
            returned: Rc::clone(&returned),
        };
        [port(merge, sorter), port(Merge::default(), None)]
    }

    /// Whether every packet was given out, or a capture had an error.
    pub fn is_finished(&self) -> bool {
        self.error.is_some() || self.merge.sources.iter().all(|source| source.is_done && source.pending.is_none())
    }

    /// The error that ended the replay, once.
    pub fn take_error(&mut self) -> Option<CaptureError> {
        self.error.take()
    }

    /// The same port with this many nanoseconds added to every timestamp, to play captures again after themselves.
    pub fn ahead_by(mut self, nanoseconds: u64) -> CapturePort {
        self.ahead = nanoseconds;
        self
    }

    /// First and last moment of what was given out, as captured; equal when nothing was.
    pub fn span(&self) -> (Now, Now) {
        self.span.unwrap_or_default()
    }

    /// Packets seen so far, those passed over included.
    pub fn numbered(&self) -> u64 {
        self.numbered
    }

    /// Frames transmitted so far.
    pub fn transmitted(&self) -> u64 {
        self.transmitted
    }

    #[inline]
    fn slot(&self, frame: &Frame) -> Slot {
        usize::try_from(frame.address).ok().and_then(|slot| self.slots.get(slot)).copied().unwrap_or_default()
    }

    /// Makes every capture's next record known; `false` when one of them has to wait for frames to come back.
    #[inline]
    fn look_ahead(&mut self) -> Result<bool, CaptureError> {
        for (source, out) in self.merge.sources.iter_mut().zip(&self.out) {
            while !source.locate_in_block()? {
                if *out > 0 {
                    return Ok(false);
                }
                source.capture.refill()?;
            }
        }
        Ok(true)
    }

    fn release(&mut self, frame: Frame) {
        let source = self.slot(&frame).source;
        if let Some(out) = self.out.get_mut(source) {
            *out = out.saturating_sub(1);
        }
        // As many slots as frames that are out: there is room.
        self.free.push(frame.address as usize);
    }
}

impl Port for CapturePort {
    fn receive(&mut self, into: &mut Frames) -> usize {
        let before = into.len();
        while let Some(frame) = { self.returned.borrow_mut().pop() } {
            self.release(frame);
        }
        while into.room() > 0 && self.error.is_none() {
            match self.look_ahead() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
            let Some((position, located)) = self.merge.earliest() else {
                break;
            };
            let Some(source) = self.merge.sources.get_mut(position) else { break };
            let direction = match &self.sorter {
                Some(sorter) => sorter(source.capture.bytes(located.start, located.length), source.direction),
                None => Some(source.direction),
            };
            if direction.is_none() {
                source.pending = None;
                self.numbered += 1;
                continue;
            }
            let Some(place) = self.free.pop() else { break };
            source.pending = None;
            self.numbered += 1;
            let start = located.start;
            let time = Now(located.time.0.saturating_add(self.ahead));
            let (first, last) = self.span.unwrap_or((located.time, located.time));
            self.span = Some((first, last.at_least(located.time)));
            if let (Some(slot), Some(out)) = (self.slots.get_mut(place), self.out.get_mut(position)) {
                *slot = Slot { source: position, start, time, number: self.numbered, direction };
                *out += 1;
            }
            if let Err(frame) = into.push(Frame { address: place as u64, length: located.length as u32 }) {
                self.release(frame);
            }
        }
        into.len() - before
    }

    fn captured(&self, frame: &Frame) -> Option<Now> {
        Some(self.slot(frame).time)
    }

    fn side(&self, frame: &Frame) -> Option<Direction> {
        self.slot(frame).direction
    }

    fn number(&self, frame: &Frame) -> u64 {
        self.slot(frame).number
    }

    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        let slot = self.slot(frame);
        self.merge.sources.get(slot.source).map_or(&[], |source| source.capture.bytes(slot.start, frame.len()))
    }

    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        let slot = self.slot(frame);
        match self.merge.sources.get_mut(slot.source) {
            Some(source) => source.capture.bytes_mut(slot.start, frame.len()),
            None => &mut [],
        }
    }

    fn transmit(&mut self, frame: Frame) -> Result<(), Frame> {
        self.transmitted += 1;
        self.returned.borrow_mut().push(frame);
        Ok(())
    }

    fn recycle(&mut self, frame: Frame) {
        self.release(frame);
    }

    fn flush(&mut self) {}
}
