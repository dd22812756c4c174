//! The one door through which frames come and go.

use super::frame::{Frame, Frames};
use crate::base::time::Now;

/// One queue of one port. All ports of a packet line share the memory that frames point into, so a frame received on one
/// may be transmitted on or recycled to any other.
pub trait Port {
    /// Moves received frames to the end of `into`, as many as there is room; returns how many. Refills the fill ring first.
    fn receive(&mut self, into: &mut Frames) -> usize;

    /// When a frame was captured, for ports that replay; `None` = ask the clock.
    fn captured(&self, frame: &Frame) -> Option<Now>;

    /// The bytes of a frame.
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8];

    /// The bytes of a frame, to complete a checksum in place.
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8];

    /// Queues a frame for transmission; gives it back when the transmit ring is full even after reclaiming completions.
    fn transmit(&mut self, frame: Frame) -> Result<(), Frame>;

    /// Returns a frame that will not be transmitted to the pool of free chunks.
    fn recycle(&mut self, frame: Frame);

    /// Tells the kernel about queued frames where it needs to be told (need-wakeup); once per burst.
    fn flush(&mut self);
}
