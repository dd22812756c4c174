//! What packs parcels in, full parcels out: from a thread beside, or packed between two bursts on the thread that asks.

use std::hint::spin_loop;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::parcel::{PARCELS, Packer, Parcel};

/// How long a reader that is far enough ahead rests at first, and at most. It looks by itself whether parcels came back: to be woken
/// for them would cost the packet line a system call.
const REST: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(10)];

/// How often who waits looks before it sleeps: some ten microseconds, less than it takes to be woken.
const LOOKS: u32 = 500;

/// Who reads captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A thread of its own, ahead of who takes the frames: for a processor that is free.
    Beside,
    /// The thread that takes the frames, between two bursts.
    Between,
}

/// Where full parcels come from.
pub(super) enum Supply {
    Beside(Beside),
    Between(Box<Packer>),
}

/// A thread that packs.
pub(super) struct Beside {
    hatch: Arc<Hatch>,
    thread: Option<JoinHandle<()>>,
}

/// What the two threads share. Each queue has room for all parcels.
struct Hatch {
    full: ArrayQueue<Parcel>,
    empty: ArrayQueue<Parcel>,
    /// One of the two has ended.
    is_over: AtomicBool,
    taker: Thread,
}

/// However the thread ends, the taker must not wait for it.
struct Leaving<'a>(&'a Hatch);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.taker.unpark();
    }
}

/// Fills a parcel and notes how long that took.
fn fill(packer: &mut Packer, parcel: &mut Parcel) {
    let start = Instant::now();
    packer.fill(parcel);
    parcel.took = start.elapsed();
}

impl Supply {
    /// For the thread that calls, which must be the one that asks later. If the system has no more threads, there is none beside.
    pub fn new(packer: Packer, reading: Reading) -> Supply {
        match reading {
            Reading::Beside => Beside::new(packer),
            Reading::Between => Supply::Between(Box::new(packer)),
        }
    }

    /// The next parcel for one whose frames are all back.
    pub fn exchange(&mut self, mut used: Parcel) -> Parcel {
        match self {
            Supply::Beside(beside) => beside.exchange(used),
            Supply::Between(packer) => {
                fill(packer, &mut used);
                used
            }
        }
    }

    /// Whether a thread beside reads.
    pub fn reading(&self) -> Reading {
        match self {
            Supply::Beside(_) => Reading::Beside,
            Supply::Between(_) => Reading::Between,
        }
    }
}

impl Beside {
    #[allow(clippy::new_ret_no_self)] // there may be none beside
    fn new(packer: Packer) -> Supply {
        let (full, empty) = (ArrayQueue::new(PARCELS), ArrayQueue::new(PARCELS));
        // The taker has the first one.
        for _ in 1..PARCELS {
            let _ = empty.push(packer.parcel());
        }
        let hatch = Arc::new(Hatch { full, empty, is_over: AtomicBool::new(false), taker: thread::current() });
        let (give, take) = channel::<Packer>();
        let shared = Arc::clone(&hatch);
        let spawned = thread::Builder::new().name("reader".to_owned()).spawn(move || {
            let _leaving = Leaving(&shared);
            if let Ok(packer) = take.recv() {
                read(packer, &shared);
            }
        });
        let Ok(thread) = spawned else { return Supply::Between(Box::new(packer)) };
        match give.send(packer) {
            Ok(()) => Supply::Beside(Beside { hatch, thread: Some(thread) }),
            Err(packer) => Supply::Between(Box::new(packer.0)),
        }
    }

    fn exchange(&mut self, used: Parcel) -> Parcel {
        let Hatch { full, empty, is_over, .. } = &*self.hatch;
        let is_full = empty.push(used).is_err();
        debug_assert!(!is_full, "there is room for all parcels");
        let mut looked: u32 = 0;
        loop {
            // Looked at first: who ends has put everything there before.
            let was_over = is_over.load(Ordering::Acquire);
            if let Some(parcel) = full.pop() {
                return parcel;
            }
            if was_over {
                // It hands over an end before it ends, unless by a defect, which is not for here to hide.
                match self.thread.take().map(JoinHandle::join) {
                    Some(Err(defect)) => resume_unwind(defect),
                    _ => return Parcel::end(),
                }
            }
            match (looked, &self.thread) {
                (0, Some(thread)) => thread.thread().unpark(),
                (..LOOKS, _) => spin_loop(),
                _ => thread::park(),
            }
            looked = looked.saturating_add(1);
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.hatch.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Its defect, if any, was of no consequence.
            let _ = thread.join();
        }
    }
}

/// Fills parcels as they come back, up to the last or until the taker is gone.
fn read(mut packer: Packer, hatch: &Hatch) {
    let [shortest, longest] = REST;
    let mut rest = shortest;
    while !hatch.is_over.load(Ordering::Acquire) {
        let Some(mut parcel) = hatch.empty.pop() else {
            thread::park_timeout(rest);
            rest = longest.min(rest * 2);
            continue;
        };
        rest = shortest;
        fill(&mut packer, &mut parcel);
        let is_last = parcel.is_last;
        let is_full = hatch.full.push(parcel).is_err();
        debug_assert!(!is_full, "there is room for all parcels");
        hatch.taker.unpark();
        if is_last {
            return;
        }
    }
}
