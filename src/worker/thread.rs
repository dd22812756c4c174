//! A line and its desk in, the loop that runs until told to stop; the line comes back out for the last figures.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use crate::base::id::WorkerId;
use crate::base::time::Now;
use crate::engine::Counters;
use crate::io::{Port, QueueFigures};
use crate::worker::desk::Desk;
use crate::worker::judge::Judge;
use crate::worker::latency::Latency;
use crate::worker::line::{Fates, Line, Tap};

/// The monotonic clock as nanoseconds since its start; all workers of a run share one.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// The time since the start.
    #[inline]
    pub fn now(&self) -> Now {
        Now(self.0.elapsed().as_nanos() as u64)
    }
}

/// How a worker waits for frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long to go on looking after the last frame before sleeping; zero = sleep at once, [`Duration::MAX`] = never.
    pub spin: Duration,
    /// How long to sleep at most.
    pub sleep: Duration,
}

impl Default for Pace {
    /// 50 µs of looking, 10 ms of sleep.
    fn default() -> Pace {
        Pace { spin: Duration::from_micros(50), sleep: Duration::from_millis(10) }
    }
}

/// The figures of one worker at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which worker; its queue has the same number.
    pub worker: WorkerId,
    /// Decisions by reason.
    pub counters: Counters,
    /// What became of frames.
    pub fates: Fates,
    /// Figures of the uplink's and the downlink's queue.
    pub queues: [QueueFigures; 2],
    /// Flows remembered.
    pub flows: usize,
    /// Loads adopted, the first one included.
    pub generation: u64,
    /// How long frames that were sent spent inside the box.
    pub latency: Latency,
    /// Nanoseconds spent in turns that moved frames; looking at empty rings and sleeping are not in it.
    pub busy: u64,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            worker: WorkerId(0),
            counters: Counters::default(),
            fates: Fates::default(),
            queues: [QueueFigures::default(); 2],
            flows: 0,
            generation: 0,
            latency: Latency::default(),
            busy: 0,
        }
    }
}

impl Report {
    /// The figures of a line; may ask the kernel.
    pub fn fill<P: Port, J: Judge>(&mut self, line: &Line<P, J>, times: &Times, generation: u64) {
        self.worker = line.here();
        self.counters.clone_from(line.judge().counters());
        self.fates = *line.fates();
        self.queues = line.ports().each_ref().map(Port::figures);
        self.flows = line.judge().flows();
        self.latency.copy_from(&times.latency);
        self.busy = times.busy;
        self.generation = generation;
    }
}

/// What a loop notes about its turns.
#[derive(Debug, Default)]
pub struct Times {
    latency: Latency,
    busy: u64,
    /// Frames sent up to the last turn noted.
    sent: u64,
}

impl Times {
    /// Notes a turn that moved frames and ended with so many sent in all.
    #[inline]
    fn note(&mut self, nanoseconds: u64, sent: u64) {
        self.busy += nanoseconds;
        self.latency.record(nanoseconds, sent.saturating_sub(self.sent));
        self.sent = sent;
    }
}

/// Runs a line until its desk says stop; returns its last report. Between frames it looks for a while, then sleeps until a
/// frame, a hand-over or control comes.
pub fn run<P: Port, J: Judge, T: Tap>(
    line: &mut Line<P, J>,
    desk: &Desk<J::Load>,
    clock: Clock,
    pace: Pace,
    tap: &mut T,
) -> Report {
    let spin = u64::try_from(pace.spin.as_nanos()).unwrap_or(u64::MAX);
    let mut now = clock.now();
    let mut last = now;
    let mut generation = 1;
    let mut times = Times { sent: sent_by(line), ..Times::default() };
    loop {
        if desk.has_attention() {
            desk.attend();
            if let Some(load) = desk.newer_than(&mut generation) {
                desk.retire(line.judge_mut().adopt(load));
            }
            if let Some(mut report) = desk.requested() {
                report.fill(line, &times, generation);
                desk.give(report);
            }
            if desk.is_stopping() {
                break;
            }
            now = clock.now();
        }
        let begun = now;
        let moved = line.turn(begun, tap);
        now = clock.now();
        if moved > 0 {
            last = begun;
            times.note(now.since(begun), sent_by(line));
            continue;
        }
        line.judge_mut().idle(now);
        if now.since(last) < spin {
            std::hint::spin_loop();
            continue;
        }
        sleep(line, desk, pace.sleep);
        now = clock.now();
    }
    // What other workers have handed over still goes its way.
    while line.turn(clock.now(), tap) > 0 && !line.has_no_mail() {}
    let mut report = Report::default();
    report.fill(line, &times, generation);
    report
}

/// Frames that a line has transmitted so far.
#[inline]
fn sent_by<P: Port, J: Judge>(line: &Line<P, J>) -> u64 {
    line.fates().transmitted.iter().map(|tally| tally.packets).sum()
}

/// Sleeps until there may be something to do.
fn sleep<P: Port, J: Judge>(line: &mut Line<P, J>, desk: &Desk<J::Load>, longest: Duration) {
    let is_sending = line.ports_mut().iter_mut().fold(false, |any, port| port.is_sending() | any);
    let milliseconds = if is_sending { 1 } else { i32::try_from(longest.as_millis()).unwrap_or(i32::MAX) };
    desk.bell().about_to_sleep();
    // relies on INVARIANT of Bell
    if line.has_no_mail() && !desk.has_attention() {
        let [uplink, downlink] = line.ports().each_ref().map(|port| port.descriptor().unwrap_or(-1));
        let descriptors: [RawFd; 3] = [uplink, downlink, desk.bell().descriptor()];
        let was_woken = crate::io::xdp::wait(descriptors, milliseconds);
        line.slept(was_woken);
    }
    desk.bell().awake();
}
