//! Slots taken, given back and due in; free slots, and blocks of slots worth looking at out.
//!
//! Slots lie in blocks of 32. A block knows which of its slots are free and the earliest moment at which one of its entries may
//! expire; a timing wheel orders the blocks by that. An entry itself has no timer: a packet that puts its expiry off writes
//! nothing here, and the block is looked at once too early.

use bytemuck::{Pod, Zeroable};

use crate::base::pages::Pages;
use crate::base::time::Now;

/// Slots of a block.
pub(super) const BLOCK: usize = 32;

/// One turn of the wheel is 16,384 ticks of 4.2 ms: 68 s. Blocks that are due later are looked at once a turn.
const WHEEL_SLOTS: usize = 1 << 14;
const TICK: u64 = 1 << 22;

const NIL: u32 = u32::MAX;
/// In place of a neighbour: the block is the first of the list whose number stands in the other bits.
const FIRST: u32 = 1 << 31;
/// A block that is in no list is due never.
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Block {
    /// No entry expires before this moment.
    due: u64,
    /// Neighbours in the list of the wheel.
    previous: u32,
    next: u32,
}

/// The free slots of a block. By itself, since arrays whose elements have a power of two for a size are cheaper to find the end of.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Free {
    /// Bit i: slot i is free.
    slots: u32,
    /// Next block with free slots.
    next: u32,
}

const _: () = assert!(size_of::<Block>().is_power_of_two() && size_of::<Free>().is_power_of_two());

/// Where a walk over what is due stands, and what it may still cost.
#[derive(Debug)]
pub(super) struct Walk {
    /// Blocks and ticks that it may still step over.
    steps: usize,
    at: Option<u32>,
    /// Earliest moment at which something of what it has passed is due.
    due: u64,
}

impl Walk {
    /// A walk of at most this many steps.
    pub fn new(steps: usize) -> Walk {
        Walk { steps, at: None, due: NEVER }
    }
}

/// The blocks of a table and their wheel.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    blocks: Pages<Block>,
    /// By block.
    free: Pages<Free>,
    wheel: Pages<u32>,
    /// First block with free slots.
    first_free: u32,
    /// Blocks in lists of the wheel.
    linked: usize,
    /// First tick not wholly walked over.
    tick: u64,
    /// Nothing expires before this moment.
    due: u64,
}

impl Timers {
    /// All of this many slots are free.
    pub fn new(capacity: usize) -> Timers {
        let mut timers = Timers {
            blocks: Pages::zeroed(capacity.div_ceil(BLOCK)),
            free: Pages::zeroed(capacity.div_ceil(BLOCK)),
            wheel: Pages::zeroed(WHEEL_SLOTS),
            first_free: NIL,
            linked: 0,
            tick: 0,
            due: NEVER,
        };
        timers.clear(capacity);
        timers
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.blocks.bytes() + self.free.bytes() + self.wheel.bytes()
    }

    /// All slots are free again.
    pub fn clear(&mut self, capacity: usize) {
        let count = self.blocks.len();
        self.blocks.fill(Block { due: NEVER, previous: NIL, next: NIL });
        for (i, free) in self.free.iter_mut().enumerate() {
            let slots = (capacity - i * BLOCK).min(BLOCK);
            let slots = if slots == BLOCK { u32::MAX } else { (1 << slots) - 1 };
            *free = Free { slots, next: if i + 1 < count { i as u32 + 1 } else { NIL } };
        }
        self.wheel.fill(NIL);
        (self.first_free, self.linked, self.due) = (0, 0, NEVER);
    }

    /// Takes a free slot, next to the one taken last where possible.
    #[inline]
    pub fn take(&mut self) -> Option<u32> {
        let number = self.first_free;
        let free = self.free.get_mut(number as usize)?;
        let bit = free.slots.trailing_zeros();
        free.slots &= free.slots.wrapping_sub(1);
        if free.slots == 0 {
            self.first_free = free.next;
        }
        Some(number * BLOCK as u32 + bit)
    }

    /// Gives a slot back.
    #[inline]
    pub fn give_back(&mut self, slot: u32) {
        let number = slot / BLOCK as u32;
        let Some(free) = self.free.get_mut(number as usize) else { return };
        if free.slots == 0 {
            free.next = self.first_free;
            self.first_free = number;
        }
        free.slots |= 1 << (slot % BLOCK as u32);
    }

    /// The entry in a slot may expire at this moment, not earlier.
    #[inline]
    pub fn hasten(&mut self, slot: u32, expiry: u64) {
        let number = slot / BLOCK as u32;
        if self.blocks.get(number as usize).is_some_and(|block| expiry < block.due) {
            self.unlink(number);
            self.link(number, expiry, self.tick);
        }
    }

    /// Whether nothing can have expired. Cost: one comparison.
    #[inline]
    pub fn is_quiet(&self, now: Now) -> bool {
        now.0 < self.due
    }

    /// The next block in which something may have expired, taken off the wheel: to be put back by [`Timers::put_back`]. `None`
    /// when there is none or the walk may not go on; then [`Timers::finish`] if there is none.
    pub fn next_due(&mut self, now: Now, walk: &mut Walk) -> Option<u32> {
        let today = now.0 / TICK;
        // After a long silence one turn of the wheel sees every block.
        self.tick = self.tick.max(today.saturating_sub(WHEEL_SLOTS as u64 - 1));
        loop {
            let mut number = match walk.at {
                Some(number) => number,
                None => self.wheel.get(self.tick as usize % WHEEL_SLOTS).copied().unwrap_or(NIL),
            };
            while let Some(Block { due, next, .. }) = self.blocks.get(number as usize).copied() {
                if walk.steps == 0 {
                    return None;
                }
                walk.steps -= 1;
                if due <= now.0 {
                    self.unlink(number);
                    walk.at = Some(next);
                    return Some(number);
                }
                if due / TICK > self.tick {
                    self.unlink(number);
                    self.link(number, due, self.tick + 1);
                } else {
                    walk.due = walk.due.min(due);
                }
                number = next;
            }
            if self.tick >= today {
                // Everything up to today was seen: what is left of today, or else the first moment of the next tick.
                self.due = if self.linked == 0 { NEVER } else { walk.due.min((today + 1) * TICK) };
                return None;
            }
            if walk.steps == 0 {
                return None;
            }
            walk.steps -= 1;
            walk.at = None;
            self.tick += 1;
        }
    }

    /// Puts a block back on the wheel whose entries expire at this moment or later; one without entries stays off.
    pub fn put_back(&mut self, block: u32, due: u64, walk: &mut Walk) {
        walk.due = walk.due.min(due);
        if due != NEVER {
            self.link(block, due, self.tick);
        }
    }

    /// Moves the wheel on while nothing is on it.
    #[inline]
    pub fn rest(&mut self, now: Now) {
        if self.linked == 0 {
            self.tick = self.tick.max(now.0 / TICK);
        }
    }

    /// Puts a block under the tick in which it is due, `first` or later; one beyond the wheel's reach under the last.
    fn link(&mut self, number: u32, due: u64, first: u64) {
        self.due = self.due.min(due);
        let tick = (due / TICK).clamp(first, self.tick + WHEEL_SLOTS as u64 - 1);
        let list = tick as usize % WHEEL_SLOTS;
        let Some(head) = self.wheel.get_mut(list) else { return };
        let next = std::mem::replace(head, number);
        if let Some(block) = self.blocks.get_mut(number as usize) {
            (block.due, block.previous, block.next) = (due, FIRST | list as u32, next);
        }
        if let Some(block) = self.blocks.get_mut(next as usize) {
            block.previous = number;
        }
        self.linked += 1;
    }

    fn unlink(&mut self, number: u32) {
        let Some(block) = self.blocks.get_mut(number as usize) else { return };
        if block.due == NEVER {
            return;
        }
        block.due = NEVER;
        let (previous, next) = (block.previous, block.next);
        match previous & FIRST {
            0 => {
                if let Some(block) = self.blocks.get_mut(previous as usize) {
                    block.next = next;
                }
            }
            _ => {
                if let Some(head) = self.wheel.get_mut((previous & !FIRST) as usize) {
                    *head = next;
                }
            }
        }
        if let Some(block) = self.blocks.get_mut(next as usize) {
            block.previous = previous;
        }
        self.linked -= 1;
    }
}
