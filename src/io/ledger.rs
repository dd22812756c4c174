//! Who holds each chunk, noted and checked in debug builds; in release builds nothing comes in or out.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU8, Ordering};

/// Who holds a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Holder {
    /// The pool of a queue, or the depot.
    Pool,
    /// Fill ring, kernel or receive ring.
    Receive,
    /// Transmit ring, kernel or completion ring.
    Transmit,
    /// A frame token.
    Hand,
}

/// One entry per chunk.
pub struct Ledger {
    #[cfg(debug_assertions)]
    holders: Box<[AtomicU8]>,
}

impl Ledger {
    /// A ledger in which pools hold every chunk.
    pub fn new(chunks: usize) -> Ledger {
        #[cfg(debug_assertions)]
        return Ledger { holders: (0..chunks).map(|_| AtomicU8::new(Holder::Pool as u8)).collect() };
        #[cfg(not(debug_assertions))]
        {
            let _ = chunks;
            Ledger {}
        }
    }

    /// Notes that a chunk changes hands; a debug build stops if somebody else holds it.
    #[inline]
    pub fn pass(&self, chunk: u32, from: Holder, to: Holder) {
        #[cfg(debug_assertions)]
        {
            let before = self.holders[chunk as usize].swap(to as u8, Ordering::Relaxed);
            assert_eq!(before, from as u8, "chunk {chunk} goes from {from:?} to {to:?}, but holder {before} has it");
        }
        #[cfg(not(debug_assertions))]
        let _ = (chunk, from, to);
    }
}
