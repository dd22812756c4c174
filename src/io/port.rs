//! The one door through which frames come and go.

use std::ops::Range;
use std::os::fd::RawFd;

use super::frame::{Frame, Frames};
use crate::base::address::Direction;
use crate::base::time::Now;

/// What one queue counts about itself; all zero for ports without a kernel behind them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Times that the device was run by a call of ours (busy polling).
    pub device_polls: u64,
    /// Wake-ups because the fill ring asked for one.
    pub receive_wake_ups: u64,
    /// Wake-ups because the transmit ring asked for one.
    pub transmit_wake_ups: u64,
    /// Wake-ups that the kernel refused.
    pub transmit_errors: u64,
    /// Descriptors of the kernel that name no chunk or leave theirs.
    pub bad_descriptors: u64,
    /// Frames put into the transmit ring.
    pub frames_given: u64,
    /// Chunks that came back by the completion ring; what was given beyond them is on its way.
    pub chunks_returned: u64,
    /// Frames in the transmit ring that the kernel had not taken when it was looked at last.
    pub frames_waiting: u64,
    /// Frames that the kernel dropped for another reason than the next two (`rx_dropped`).
    pub receive_dropped: u64,
    /// Frames that the kernel dropped because the receive ring was full (`rx_ring_full`).
    pub receive_ring_full: u64,
    /// Times that the kernel found the fill ring empty (`rx_fill_ring_empty_descs`).
    pub fill_ring_empty: u64,
    /// Descriptors of the fill ring that the kernel refused (`rx_invalid_descs`).
    pub invalid_fill_descriptors: u64,
    /// Descriptors of the transmit ring that the kernel refused (`tx_invalid_descs`).
    pub invalid_transmit_descriptors: u64,
    /// Times that the kernel was told to send and found the transmit ring empty (`tx_ring_empty_descs`).
    pub transmit_ring_empty: u64,
}

/// One queue of one port. All ports of a packet line share the memory that frames point into, so a frame received on one
/// may be transmitted on or recycled to any other.
pub trait Port {
    /// Moves received frames to the end of `into`, as many as there is room; returns how many. Refills the fill ring first.
    fn receive(&mut self, into: &mut Frames) -> usize;

    /// When a frame was captured, for ports that replay; `None` = ask the clock.
    fn captured(&self, frame: &Frame) -> Option<Now>;

    /// The side a frame counts as received on, for ports that replay both; `None` = the side of this port.
    #[inline]
    fn side(&self, _frame: &Frame) -> Option<Direction> {
        None
    }

    /// Position of a frame in what is replayed, from 1; 0 for ports that do not replay.
    #[inline]
    fn number(&self, _frame: &Frame) -> u64 {
        0
    }

    /// The bytes of a frame.
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8];

    /// The bytes of a frame, to complete a checksum in place.
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8];

    /// A free chunk as a frame of this many bytes, of any content, to be filled and transmitted; `None` = no chunk is free, the
    /// frame would not fit one, or this port sends only what it received.
    #[inline]
    fn blank(&mut self, _length: usize) -> Option<Frame> {
        None
    }

    /// Queues a frame for transmission; gives it back when the transmit ring is full even after reclaiming completions.
    fn transmit(&mut self, frame: Frame) -> Result<(), Frame>;

    /// Queues the frames at these positions for transmission, up to one that is not there, is too long or finds the transmit ring
    /// full; returns how many, and their bytes. What is left stays where it is.
    #[inline]
    fn transmit_run(&mut self, frames: &mut Frames, positions: Range<usize>) -> (usize, u64) {
        let (mut count, mut bytes, longest) = (0, 0, self.longest());
        for position in positions {
            let Some(length) = frames.get(position).map(Frame::len).filter(|&length| length <= longest) else { break };
            let Some(frame) = frames.take(position) else { break };
            if let Err(frame) = self.transmit(frame) {
                frames.put_back(position, frame);
                break;
            }
            count += 1;
            bytes += length as u64;
        }
        (count, bytes)
    }

    /// Returns the frames at these positions that will not be transmitted to the pool of free chunks.
    #[inline]
    fn recycle_run(&mut self, frames: &mut Frames, positions: Range<usize>) {
        for position in positions {
            if let Some(frame) = frames.take(position) {
                self.recycle(frame);
            }
        }
    }

    /// Returns a frame that will not be transmitted to the pool of free chunks.
    fn recycle(&mut self, frame: Frame);

    /// Tells the kernel about queued frames where it needs to be told (need-wakeup); once per burst.
    fn flush(&mut self);

    /// Whether frames wait that the kernel has not taken although it was told; then [`Port::flush`] again, soon.
    fn is_sending(&mut self) -> bool {
        false
    }

    /// What to sleep on until there is something to receive; `None` = there is nothing to wait for.
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    /// Bytes of the longest frame that may be transmitted here, two VLAN tags included.
    fn longest(&self) -> usize {
        usize::MAX
    }

    /// What the queue counts about itself. Not for the packet line: it may ask the kernel.
    fn figures(&self) -> QueueFigures {
        QueueFigures::default()
    }
}
