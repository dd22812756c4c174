//! The token for one frame: whoever holds it is its only owner.

use std::num::NonZeroU32;

/// Most frames that travel together through the packet line.
pub const BURST: usize = 64;

/// One frame in the memory of a port: neither `Copy` nor `Clone`, so that it is transmitted, recycled or handed over exactly
/// once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is dropped is lost to its ring"]
pub struct Frame {
    /// Offset of the first byte in the memory of the port (UMEM offset, or offset into a capture block).
    pub(in crate::io) address: u64,
    /// One more than the bytes on the wire, without frame check sequence: an `Option` of it takes no more room.
    above_length: NonZeroU32,
}

const _: () = assert!(size_of::<Option<Frame>>() == 16);

impl Frame {
    /// The frame of so many bytes at an address.
    #[inline]
    pub(in crate::io) const fn new(address: u64, length: u32) -> Frame {
        Frame { address, above_length: NonZeroU32::MIN.saturating_add(length) }
    }

    /// Length in bytes.
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        (self.above_length.get() - 1) as usize
    }
}

/// A burst of frames: a fixed array filled from the front, no heap.
#[derive(Debug)]
pub struct Frames {
    list: [Option<Frame>; BURST],
    count: usize,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames::new()
    }
}

impl Frames {
    /// An empty burst.
    pub const fn new() -> Frames {
        Frames { list: [const { None }; BURST], count: 0 }
    }

    /// Frames held.
    #[inline]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether none is held.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Room left, in frames.
    #[inline]
    pub const fn room(&self) -> usize {
        BURST - self.count
    }

    /// Adds a frame at the end; gives it back when the burst is full.
    #[inline]
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        match self.list.get_mut(self.count) {
            Some(slot) => {
                *slot = Some(frame);
                self.count += 1;
                Ok(())
            }
            None => Err(frame),
        }
    }

    /// The frame at a position.
    #[inline]
    pub fn get(&self, position: usize) -> Option<&Frame> {
        self.list.get(position).and_then(Option::as_ref)
    }

    /// Takes the frame at a position out of the burst without moving the others; [`Frames::clear`] afterwards.
    #[inline]
    pub fn take(&mut self, position: usize) -> Option<Frame> {
        self.list.get_mut(position).and_then(Option::take)
    }

    /// Puts a frame back to the position that it was taken from.
    #[inline]
    pub fn put_back(&mut self, position: usize, frame: Frame) {
        if let Some(slot) = self.list.get_mut(position) {
            *slot = Some(frame);
        }
    }

    /// Takes the last frame.
    #[inline]
    pub fn pop(&mut self) -> Option<Frame> {
        self.count = self.count.checked_sub(1)?;
        self.list[self.count].take()
    }

    /// Forgets the positions after every frame was taken.
    #[inline]
    pub fn clear(&mut self) {
        debug_assert!(self.list.iter().all(Option::is_none), "a frame was lost");
        self.count = 0;
    }
}
