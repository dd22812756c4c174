//! Captures in, bursts of frames merged by time out through the same door as from a network card: frames lie in the blocks that were
//! read, nothing is copied or allocated per frame.

use std::cell::Cell;
use std::mem;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::error::CaptureError;
use super::merge::Merge;
use super::parcel::{Block, Packer, Parcel, Sorter, place, row, side};
use super::supply::{Reading, Supply};
use crate::base::address::Direction;
use crate::base::time::Now;
use crate::io::frame::{Frame, Frames};
use crate::io::port::Port;

/// A port that replays captures, or the port beside it that takes what is allowed: transmitted frames are counted and come back to
/// the replaying port.
///
/// Nothing that is out is overwritten: memory goes back to be read into only when no frame is out. So [`Port::receive`] may give
/// fewer frames than there is room for, and none while others are held: transmit or recycle them, then ask again until
/// [`CapturePort::is_finished`].
pub struct CapturePort {
    /// Where the next parcel comes from; of the port beside, nothing does.
    supply: Option<Supply>,
    /// The parcel at hand, and which of its rows comes next.
    parcel: Parcel,
    next: usize,
    /// Memory that rows of this parcel or later ones lie in, by number; what is elsewhere is empty.
    blocks: Vec<Vec<u8>>,
    /// Frames that are out, of both ports.
    out: Rc<Cell<usize>>,
    /// Added to every timestamp.
    ahead: u64,
    /// First and last moment of what was given out, without what is added.
    span: Option<(Now, Now)>,
    /// How long it took to read all parcels so far.
    reading: Duration,
    transmitted: u64,
}

impl CapturePort {
    /// A port that gives the packets of these captures, and the port beside it that takes them. Both stay on the thread that calls.
    pub fn pair(merge: Merge, sorter: Option<Sorter>, reading: Reading) -> [CapturePort; 2] {
        let packer = Packer::new(merge, sorter);
        let (parcel, blocks) = (packer.parcel(), packer.blocks());
        let mut source = CapturePort::new(Rc::default(), parcel, blocks);
        let beside = CapturePort::new(Rc::clone(&source.out), Parcel::end(), 0);
        source.supply = Some(Supply::new(packer, reading));
        [source, beside]
    }

    fn new(out: Rc<Cell<usize>>, parcel: Parcel, blocks: usize) -> CapturePort {
        CapturePort {
            supply: None,
            parcel,
            next: 0,
            blocks: (0..blocks).map(|_| Vec::new()).collect(),
            out,
            ahead: 0,
            span: None,
            reading: Duration::ZERO,
            transmitted: 0,
        }
    }

    /// Whether every packet was given out, or all in front of an error.
    pub fn is_finished(&self) -> bool {
        self.parcel.is_last && self.is_used_up()
    }

    /// The error that ended the replay, once.
    pub fn take_error(&mut self) -> Option<CaptureError> {
        if self.is_used_up() { self.parcel.error.take() } else { None }
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
        let rows = self.parcel.rows();
        let last = self.next.checked_sub(1).and_then(|last| rows.get(last));
        let seen = if self.is_used_up() { self.parcel.numbered } else { last.map_or(0, |row| row.number.into()) };
        self.parcel.before + seen
    }

    /// Frames transmitted so far.
    pub fn transmitted(&self) -> u64 {
        self.transmitted
    }

    /// How long it took to read, sort and merge what was fetched so far, on whatever thread.
    pub fn reading(&self) -> Duration {
        self.reading
    }

    /// Which thread that is.
    pub fn reads(&self) -> Reading {
        self.supply.as_ref().map_or(Reading::Between, Supply::reading)
    }

    /// Whether everything at hand was given out and no frame is out: [`Port::receive`] will fetch more first, or
    /// [`CapturePort::refill`] before.
    pub fn is_dry(&self) -> bool {
        self.is_used_up() && !self.parcel.is_last && self.out.get() == 0
    }

    /// Fetches more where everything at hand was given out, unless frames are out; for those who want that apart from the burst.
    /// Waits for the thread that reads, or reads.
    pub fn refill(&mut self) {
        while self.is_dry() {
            let Some(supply) = &mut self.supply else { return };
            let mut used = mem::replace(&mut self.parcel, Parcel::end());
            for number in used.leaving.drain(..) {
                if let Some(bytes) = self.blocks.get_mut(number as usize) {
                    used.blocks.push(Block { number, bytes: mem::take(bytes) });
                }
            }
            let mut parcel = supply.exchange(used);
            for block in parcel.blocks.drain(..) {
                if let Some(bytes) = self.blocks.get_mut(block.number as usize) {
                    *bytes = block.bytes;
                }
            }
            self.reading += parcel.took;
            (self.parcel, self.next) = (parcel, 0);
        }
    }

    #[inline]
    fn is_used_up(&self) -> bool {
        self.next == self.parcel.rows().len()
    }

    #[inline]
    fn are_back(&self, count: usize) {
        // As many are out as were given; the port beside counts the same.
        self.out.set(self.out.get().saturating_sub(count));
    }
}

impl Port for CapturePort {
    fn receive(&mut self, into: &mut Frames) -> usize {
        self.refill();
        let rows = self.parcel.rows().get(self.next..).unwrap_or(&[]);
        let rows = rows.get(..into.room()).unwrap_or(rows);
        let mut last = Now(0);
        for row in rows {
            last = last.at_least(row.time);
            let is_full = into.push(Frame::new(row.address, row.length)).is_err();
            debug_assert!(!is_full, "no more than there is room for");
        }
        if let Some(row) = rows.first() {
            let (first, before) = self.span.unwrap_or((row.time, last));
            self.span = Some((first, before.at_least(last)));
        }
        let given = rows.len();
        self.next += given;
        self.out.set(self.out.get() + given);
        given
    }

    #[inline]
    fn captured(&self, frame: &Frame) -> Option<Now> {
        self.parcel.rows().get(row(frame.address)).map(|row| Now(row.time.0.saturating_add(self.ahead)))
    }

    #[inline]
    fn side(&self, frame: &Frame) -> Option<Direction> {
        Some(side(frame.address))
    }

    #[inline]
    fn number(&self, frame: &Frame) -> u64 {
        self.parcel.rows().get(row(frame.address)).map_or(0, |row| self.parcel.before + u64::from(row.number))
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        let (block, start) = place(frame.address);
        self.blocks.get(block).and_then(|bytes| bytes.get(start..start + frame.len())).unwrap_or(&[])
    }

    #[inline]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        let (block, start) = place(frame.address);
        self.blocks.get_mut(block).and_then(|bytes| bytes.get_mut(start..start + frame.len())).unwrap_or(&mut [])
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
