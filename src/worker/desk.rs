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
    ///
    /// INVARIANT: written by swaps alone, so that whoever clears it has seen what the last call was about. A store could
    /// overwrite a call unseen, which the memory model allows, and the worker would sleep on it.
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
        self.attention.swap(true, Ordering::AcqRel);
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
        self.attention.swap(false, Ordering::AcqRel);
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
            self.attention.swap(true, Ordering::AcqRel);
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

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use super::*;
    use crate::base::id::WorkerId;
    use crate::base::time::Now;
    use crate::engine::{Counters, Decision};
    use crate::io::memory::{Plugged, memory};
    use crate::packet::Arrival;
    use crate::worker::judge::{Judge, PassAll};
    use crate::worker::line::{Line, NoTap};
    use crate::worker::thread::{Clock, Pace, run};

    /// Says which thread drops it.
    struct Traced(std::sync::mpsc::Sender<ThreadId>);

    impl Drop for Traced {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    /// Passes everything and holds a load.
    struct Holds(PassAll, Arc<Traced>);

    impl Judge for Holds {
        type Load = Traced;
        fn begin(&mut self) {
            self.0.begin();
        }
        fn add(&mut self, frames: &[Arrival<'_>]) {
            self.0.add(frames);
        }
        fn owner(&self, _: usize, here: WorkerId, _: u32) -> WorkerId {
            here
        }
        fn keep(&mut self, _: u64) {}
        fn decide(&mut self) {}
        fn decision(&self, position: usize) -> Decision {
            self.0.decision(position)
        }
        fn adopt(&mut self, load: Arc<Traced>) -> Arc<Traced> {
            std::mem::replace(&mut self.1, load)
        }
        fn idle(&mut self, _: Now) {}
        fn counters(&self) -> &Counters {
            self.0.counters()
        }
        fn flows(&self) -> usize {
            0
        }
    }

    #[test]
    fn a_worker_adopts_what_is_published_answers_and_never_drops_the_old_load_itself() {
        let (dropped, drops) = std::sync::mpsc::channel();
        let first = Arc::new(Traced(dropped.clone()));
        let publisher = Publisher::new(Arc::clone(&first));
        let bell = Arc::new(Bell::new().unwrap());
        let desk = Desk::new(Arc::clone(&publisher), bell);
        let [(up, mut outside), (down, mut inside)]: [Plugged; 2] =
            memory(2, 64, 256).try_into().unwrap_or_else(|_| unreachable!("two were asked for"));
        let mut line = Line::new(up, down, Holds(PassAll::default(), first));
        let here = Arc::clone(&desk);
        let pace = Pace { spin: Duration::ZERO, sleep: Duration::from_millis(5) };
        let worker = thread::spawn(move || run(&mut line, &here, Clock::start(), pace, &mut NoTap));
        let its_thread = worker.thread().id();
        for generation in 2..40 {
            publisher.publish(Arc::new(Traced(dropped.clone())), std::slice::from_ref(&desk));
            assert!(outside.inject(&[generation as u8; 60]));
            while inside.take().is_none() {
                thread::yield_now();
            }
            desk.request();
            let report = loop {
                match desk.answer() {
                    Some(report) => break report,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(report.generation, generation, "adopted before the next burst");
            assert_eq!(report.fates.transmitted[0].packets, generation - 1);
        }
        desk.stop();
        let report = worker.join().unwrap();
        assert!(report.fates.sleeps > 0, "it slept between frames");
        desk.collect_retired();
        drop(publisher);
        drop(desk);
        drop(dropped);
        let by: Vec<ThreadId> = drops.iter().collect();
        assert!(by.len() >= 38, "{}", by.len());
        // The last load is dropped with the judge, after the loop.
        assert!(by[..by.len() - 1].iter().filter(|id| **id == its_thread).count() <= 1);
    }
}
