//! What control wants of workers in, what workers give back out: new loads, requests for figures, the order to stop.
//!
//! A worker looks at one flag of its desk per turn; whatever else there is lies behind that flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::worker::exchange::Bell;
use crate::worker::thread::Report;

/// Old loads that wait to be dropped, at most, per desk.
const RETIRED: usize = 16;

/// Where control and one worker meet.
#[derive(Debug)]
pub struct Desk<L> {
    /// Set after anything below has changed.
    attention: CachePadded<AtomicBool>,
    is_stopping: AtomicBool,
    publisher: Arc<Publisher<L>>,
    /// Old loads, on their way to whoever may drop them.
    retired: ArrayQueue<Arc<L>>,
    /// Empty reports that wait to be filled, and filled ones.
    requests: ArrayQueue<Box<Report>>,
    answers: ArrayQueue<Box<Report>>,
    bell: Arc<Bell>,
}

/// The load in force, for all workers.
#[derive(Debug)]
pub struct Publisher<L> {
    current: ArcSwap<L>,
    /// Counts publications.
    generation: CachePadded<AtomicU64>,
}

impl<L> Publisher<L> {
    /// A publisher of the first load, generation 1.
    pub fn new(load: Arc<L>) -> Arc<Publisher<L>> {
        Arc::new(Publisher { current: ArcSwap::new(load), generation: CachePadded::new(AtomicU64::new(1)) })
    }

    /// The load in force.
    pub fn current(&self) -> Arc<L> {
        self.current.load_full()
    }

    /// Publications so far.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts another load in force: each worker adopts it before its next burst.
    pub fn publish(&self, load: Arc<L>, desks: &[Arc<Desk<L>>]) {
        self.current.store(load);
        self.generation.fetch_add(1, Ordering::Release);
        for desk in desks {
            desk.collect_retired();
            desk.call();
        }
    }
}

impl<L> Desk<L> {
    /// A desk with nothing on it.
    pub fn new(publisher: Arc<Publisher<L>>, bell: Arc<Bell>) -> Arc<Desk<L>> {
        Arc::new(Desk {
            attention: CachePadded::new(AtomicBool::new(false)),
            is_stopping: AtomicBool::new(false),
            publisher,
            retired: ArrayQueue::new(RETIRED),
            requests: ArrayQueue::new(1),
            answers: ArrayQueue::new(1),
            bell,
        })
    }

    fn call(&self) {
        self.attention.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Tells the worker to stop after its turn.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.call();
    }

    /// Asks for a report; [`Desk::answer`] gives it when the worker has come to it.
    pub fn request(&self) {
        // Full = the last request waits still.
        let _ = self.requests.push(Box::default());
        self.call();
    }

    /// The report asked for, once it is there.
    pub fn answer(&self) -> Option<Report> {
        self.answers.pop().map(|report| *report)
    }

    /// Drops the loads that the worker has let go of; for control only.
    pub fn collect_retired(&self) {
        while self.retired.pop().is_some() {}
    }

    /// Whether there is something for the worker: one load.
    #[inline]
    pub(super) fn has_attention(&self) -> bool {
        self.attention.load(Ordering::Acquire)
    }

    /// Clears the flag; before looking at what it stands for.
    pub(super) fn attend(&self) {
        self.attention.store(false, Ordering::Release);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// The load in force if it is another than the one of this generation, and room for the old one.
    pub(super) fn newer_than(&self, generation: &mut u64) -> Option<Arc<L>> {
        let current = self.publisher.generation();
        if current == *generation {
            return None;
        }
        if self.retired.is_full() {
            // The old load must not be dropped on the packet line: wait until control has collected.
            self.attention.store(true, Ordering::Release);
            return None;
        }
        *generation = current;
        Some(self.publisher.current.load_full())
    }

    pub(super) fn retire(&self, load: Arc<L>) {
        // There was room, and only this worker puts in.
        if let Err(load) = self.retired.push(load) {
            drop(load);
        }
    }

    pub(super) fn requested(&self) -> Option<Box<Report>> {
        self.requests.pop()
    }

    pub(super) fn give(&self, report: Box<Report>) {
        // An answer that nobody has fetched gives way.
        self.answers.force_push(report);
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }
}
