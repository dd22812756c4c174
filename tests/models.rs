//! The protocols between threads as models, run by `loom` in every order with a bounded number of preemptions that the C11 memory
//! model allows: hand-over with its bell, and publishing with its desk. The real queues and `ArcSwap` cannot be run so; each model
//! keeps the atomic operations of ours one by one, in order and with their orderings, and stands in for those of others:
//!
//! | model | real |
//! |---|---|
//! | `Bell` | `worker::exchange::Bell`; `Socket` is the pair of datagram sockets that the sleeper waits on, without the time limit |
//! | `Mailbox::push`, `pop`, `is_empty` | `ArrayQueue` of a mailbox: the slot is written before a release, read after an acquire |
//! | `Desk` | `worker::desk::Desk` and the first lines of the loop in `worker::thread::run` |
//! | `Publisher` | `worker::desk::Publisher`; its `current` is the `ArcSwap` |
//!
//! A wake-up that is lost leaves the sleeper asleep, which `loom` reports as a deadlock.

use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// A datagram socket that holds one datagram at most.
struct Socket {
    is_readable: Mutex<bool>,
    arrival: Condvar,
}

impl Socket {
    fn new() -> Socket {
        Socket { is_readable: Mutex::new(false), arrival: Condvar::new() }
    }

    fn send(&self) {
        *self.is_readable.lock().unwrap() = true;
        self.arrival.notify_one();
    }

    fn drain(&self) {
        *self.is_readable.lock().unwrap() = false;
    }

    fn wait(&self) {
        let mut is_readable = self.is_readable.lock().unwrap();
        while !*is_readable {
            is_readable = self.arrival.wait(is_readable).unwrap();
        }
    }
}

struct Bell {
    is_sleeping: AtomicBool,
    socket: Socket,
}

impl Bell {
    fn new() -> Bell {
        Bell { is_sleeping: AtomicBool::new(false), socket: Socket::new() }
    }

    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.is_sleeping.load(Ordering::Relaxed) && self.is_sleeping.swap(false, Ordering::Relaxed) {
            self.socket.send();
        }
    }

    fn about_to_sleep(&self) {
        self.is_sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn awake(&self) {
        self.is_sleeping.store(false, Ordering::Relaxed);
        self.socket.drain();
    }
}

/// A queue with as many slots as frames are ever left, and one taker.
struct Mailbox {
    frames: [AtomicUsize; 2],
    tail: AtomicUsize,
    head: AtomicUsize,
}

impl Mailbox {
    fn new() -> Mailbox {
        Mailbox {
            frames: [AtomicUsize::new(0), AtomicUsize::new(0)],
            tail: AtomicUsize::new(0),
            head: AtomicUsize::new(0),
        }
    }

    fn push(&self, frame: usize) {
        let slot = self.tail.fetch_add(1, Ordering::Relaxed);
        self.frames[slot].store(frame, Ordering::Release);
    }

    fn pop(&self) -> Option<usize> {
        let head = self.head.load(Ordering::Relaxed);
        let frame = self.frames.get(head)?.load(Ordering::Acquire);
        if frame == 0 {
            return None;
        }
        self.head.store(head + 1, Ordering::Relaxed);
        Some(frame)
    }

    fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        self.frames.get(head).is_none_or(|frame| frame.load(Ordering::Acquire) == 0)
    }
}

fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// The owner's loop: takes what is there, sleeps when there is nothing, until it has as many frames as were left.
fn take(mailbox: &Mailbox, bell: &Bell, frames: usize) -> Vec<usize> {
    let mut taken = Vec::new();
    loop {
        while let Some(frame) = mailbox.pop() {
            taken.push(frame);
        }
        if taken.len() == frames {
            return taken;
        }
        bell.about_to_sleep();
        if mailbox.is_empty() {
            bell.socket.wait();
        }
        bell.awake();
    }
}

#[test]
fn a_frame_left_for_a_worker_that_falls_asleep_wakes_it() {
    check(4, || {
        let shared = Arc::new((Mailbox::new(), Bell::new()));
        let other = Arc::clone(&shared);
        let giver = thread::spawn(move || {
            other.0.push(1);
            other.1.ring();
        });
        assert_eq!(take(&shared.0, &shared.1, 1), [1]);
        giver.join().unwrap();
    });
}

#[test]
fn frames_of_one_giver_come_in_their_order_and_none_is_left() {
    check(3, || {
        let shared = Arc::new((Mailbox::new(), Bell::new()));
        let other = Arc::clone(&shared);
        let giver = thread::spawn(move || {
            for frame in [1, 2] {
                other.0.push(frame);
                other.1.ring();
            }
        });
        assert_eq!(take(&shared.0, &shared.1, 2), [1, 2]);
        giver.join().unwrap();
    });
}

#[test]
fn two_givers_that_share_a_bell_lose_no_frame() {
    check(2, || {
        let shared = Arc::new((Mailbox::new(), Bell::new()));
        let givers = [1, 2].map(|frame| {
            let other = Arc::clone(&shared);
            thread::spawn(move || {
                other.0.push(frame);
                other.1.ring();
            })
        });
        let mut taken = take(&shared.0, &shared.1, 2);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        for giver in givers {
            giver.join().unwrap();
        }
    });
}

struct Publisher {
    current: AtomicUsize,
    generation: AtomicUsize,
}

struct Desk {
    attention: AtomicBool,
    is_stopping: AtomicBool,
    publisher: Publisher,
    bell: Bell,
}

impl Desk {
    /// The first load has number 1, as has its generation.
    fn new() -> Desk {
        Desk {
            attention: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            publisher: Publisher { current: AtomicUsize::new(1), generation: AtomicUsize::new(1) },
            bell: Bell::new(),
        }
    }

    fn publish(&self, load: usize) {
        self.publisher.current.swap(load, Ordering::SeqCst);
        self.publisher.generation.fetch_add(1, Ordering::Release);
        self.call();
    }

    fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.call();
    }

    fn call(&self) {
        self.attention.swap(true, Ordering::AcqRel);
        self.bell.ring();
    }

    fn has_attention(&self) -> bool {
        self.attention.load(Ordering::Acquire)
    }

    fn attend(&self) {
        self.attention.swap(false, Ordering::AcqRel);
    }

    fn newer_than(&self, generation: &mut usize) -> Option<usize> {
        let current = self.publisher.generation.load(Ordering::Acquire);
        if current == *generation {
            return None;
        }
        *generation = current;
        Some(self.publisher.current.load(Ordering::Acquire))
    }

    fn sleep(&self) {
        self.bell.about_to_sleep();
        if !self.has_attention() {
            self.bell.socket.wait();
        }
        self.bell.awake();
    }
}

/// The worker's loop until it is told to stop, or has the load `last`; the loads it adopted.
fn work(desk: &Desk, last: Option<usize>) -> Vec<usize> {
    let (mut generation, mut adopted) = (1, vec![1]);
    loop {
        if desk.has_attention() {
            desk.attend();
            if let Some(load) = desk.newer_than(&mut generation) {
                assert!(load >= generation, "generation {generation} is not older than load {load}");
                assert!(Some(&load) >= adopted.last(), "load {load} after {adopted:?}");
                adopted.push(load);
            }
            if desk.is_stopping.load(Ordering::Acquire) || adopted.last() == last.as_ref() {
                return adopted;
            }
        }
        desk.sleep();
    }
}

#[test]
fn a_worker_adopts_the_last_load_published_awake_or_asleep() {
    check(3, || {
        let desk = Arc::new(Desk::new());
        let there = Arc::clone(&desk);
        let control = thread::spawn(move || {
            there.publish(2);
            there.publish(3);
        });
        // Loads may be skipped, the last one never: without it the worker would sleep for ever.
        let adopted = work(&desk, Some(3));
        assert!(adopted == [1, 2, 3] || adopted == [1, 3] || adopted == [1, 3, 3], "{adopted:?}");
        control.join().unwrap();
    });
}

#[test]
fn a_worker_stops_when_told_and_has_adopted_what_was_published_before() {
    check(3, || {
        let desk = Arc::new(Desk::new());
        let there = Arc::clone(&desk);
        let control = thread::spawn(move || {
            there.publish(2);
            there.stop();
        });
        let adopted = work(&desk, None);
        assert_eq!(adopted.last(), Some(&2), "published before the order to stop");
        control.join().unwrap();
    });
}

/// Whether any order leaves a worker asleep beside a frame that nobody rings for; each side with its fence or without.
fn may_oversleep(giver_has_fence: bool, sleeper_has_fence: bool) -> bool {
    let found = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let note = std::sync::Arc::clone(&found);
    check(4, move || {
        let shared = Arc::new((Mailbox::new(), AtomicBool::new(false)));
        let other = Arc::clone(&shared);
        let giver = thread::spawn(move || {
            other.0.push(1);
            if giver_has_fence {
                fence(Ordering::SeqCst);
            }
            other.1.load(Ordering::Relaxed)
        });
        shared.1.store(true, Ordering::Relaxed);
        if sleeper_has_fence {
            fence(Ordering::SeqCst);
        }
        let sleeps = shared.0.is_empty();
        if sleeps && !giver.join().unwrap() {
            note.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    found.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn the_bell_needs_both_of_its_fences() {
    assert_eq!([(true, true), (true, false), (false, true)].map(|(g, s)| may_oversleep(g, s)), [false, true, true]);
}
