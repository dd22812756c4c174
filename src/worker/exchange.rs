//! Frames of other workers' flows in, the same frames at their owners out: bounded queues and a bell for who sleeps.
//!
//! A frame waits in the queue of its direction, so the order of a flow's packets, which all come by one queue, is kept.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::base::address::Direction;
use crate::base::id::WorkerId;
use crate::io::{Frame, Frames};

/// Wakes up a worker that sleeps; costs a load when it does not.
///
/// INVARIANT: whoever leaves something for the worker does so before [`Bell::ring`]; the worker looks after
/// [`Bell::about_to_sleep`] and before it sleeps. One of the two sees the other.
#[derive(Debug)]
pub struct Bell {
    is_sleeping: CachePadded<AtomicBool>,
    rings: UnixDatagram,
    hears: UnixDatagram,
}

impl Bell {
    /// A silent bell.
    ///
    /// # Errors
    /// The kernel's, when descriptors run out.
    pub fn new() -> io::Result<Bell> {
        let (rings, hears) = UnixDatagram::pair()?;
        rings.set_nonblocking(true)?;
        hears.set_nonblocking(true)?;
        Ok(Bell { is_sleeping: CachePadded::new(AtomicBool::new(false)), rings, hears })
    }

    /// Wakes the worker up if it sleeps.
    #[inline]
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.is_sleeping.load(Ordering::Relaxed) && self.is_sleeping.swap(false, Ordering::Relaxed) {
            // Full = it has been rung before and not heard yet.
            let _ = self.rings.send(&[1]);
        }
    }

    /// The worker says that it will sleep; then it looks once more whether there is something to do.
    pub fn about_to_sleep(&self) {
        self.is_sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker says that it is awake.
    pub fn awake(&self) {
        self.is_sleeping.store(false, Ordering::Relaxed);
        while self.hears.recv(&mut [0; 8]).is_ok() {}
    }

    /// What to sleep on.
    pub fn descriptor(&self) -> RawFd {
        self.hears.as_raw_fd()
    }
}

/// What the other workers leave for one worker.
#[derive(Debug)]
struct Mailbox {
    /// By direction.
    queues: [ArrayQueue<Frame>; 2],
    bell: Arc<Bell>,
}

/// One worker's view of all mailboxes.
#[derive(Debug)]
pub struct Exchange {
    mailboxes: Arc<[Mailbox]>,
    here: WorkerId,
    /// Workers that got a frame in this burst, by number.
    to_ring: Vec<bool>,
}

impl Exchange {
    /// The views of as many workers as there are bells; `slots` frames per direction may wait for each.
    pub fn between(bells: &[Arc<Bell>], slots: usize) -> Vec<Exchange> {
        let mailbox = |bell: &Arc<Bell>| Mailbox {
            queues: [ArrayQueue::new(slots.max(1)), ArrayQueue::new(slots.max(1))],
            bell: Arc::clone(bell),
        };
        let mailboxes: Arc<[Mailbox]> = bells.iter().map(mailbox).collect();
        (0..bells.len() as u32)
            .map(|worker| Exchange {
                mailboxes: Arc::clone(&mailboxes),
                here: WorkerId(worker),
                to_ring: vec![false; bells.len()],
            })
            .collect()
    }

    /// Whose view this is.
    pub fn here(&self) -> WorkerId {
        self.here
    }

    /// Workers that exchange frames.
    #[inline]
    pub fn workers(&self) -> u32 {
        self.mailboxes.len() as u32
    }

    /// Leaves a frame for its owner; gives it back when the owner's queue is full.
    #[inline]
    pub fn hand_over(&mut self, owner: WorkerId, direction: Direction, frame: Frame) -> Result<(), Frame> {
        match (self.mailboxes.get(owner.index()), self.to_ring.get_mut(owner.index())) {
            (Some(mailbox), Some(to_ring)) => {
                *to_ring = true;
                mailbox.queues[direction as usize].push(frame)
            }
            _ => Err(frame),
        }
    }

    /// Wakes up the owners of what was handed over since the last call.
    #[inline]
    pub fn ring(&mut self) {
        for (to_ring, mailbox) in self.to_ring.iter_mut().zip(self.mailboxes.iter()) {
            if std::mem::take(to_ring) {
                mailbox.bell.ring();
            }
        }
    }

    /// Moves what others have left here to the end of a burst; returns how many.
    #[inline]
    pub fn collect(&self, direction: Direction, into: &mut Frames) -> usize {
        let Some(mailbox) = self.mailboxes.get(self.here.index()) else { return 0 };
        let queue = &mailbox.queues[direction as usize];
        let mut count = 0;
        while into.room() > 0 {
            let Some(frame) = queue.pop() else { break };
            if into.push(frame).is_ok() {
                count += 1;
            }
        }
        count
    }

    /// Frames that wait here, both directions.
    pub fn len(&self) -> usize {
        let queues = self.mailboxes.get(self.here.index()).map(|mailbox| &mailbox.queues);
        queues.map_or(0, |queues| queues.iter().map(ArrayQueue::len).sum())
    }

    /// Whether nobody has left anything here.
    pub fn is_empty(&self) -> bool {
        self.mailboxes.get(self.here.index()).is_none_or(|mailbox| mailbox.queues.iter().all(ArrayQueue::is_empty))
    }
}
