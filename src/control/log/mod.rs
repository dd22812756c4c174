//! Logged packets in, lines in files and at syslog out (section 14), off the packet line.
//!
//! The packet line only copies the start of a logged frame into a bounded queue ([`LogTap`]); a full queue counts what it drops.
//! A thread of its own judges the packet again with a trace to learn which Log rules it met (the program is the same and judging
//! changes nothing), and writes a line for each, limited in rate.

pub mod line;
pub mod sink;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use crate::base::address::Direction;
use crate::base::id::RuleId;
use crate::engine::ahead::{Alone, Located};
use crate::engine::judge::{Standing, judge};
use crate::engine::program::Effect;
use crate::engine::trace::{Event, Recorder};
use crate::engine::{Decision, FlowState, Program, Stage, Verdict};
use crate::packet::{Key, Options, Parsed, Tuple, parse};
use crate::policy::ir::LogSettings;
use crate::worker::{Judged, Tap};
use line::{Entry, Ports};
use sink::Sink;

/// Bytes of a frame that are kept: both VLAN tags, the longest IPv4 header or some IPv6 extension headers, TCP with options.
const KEPT: usize = 256;
/// Records that may wait.
const SLOTS: usize = 4096;
/// How often the writer looks for records.
const ROUND: Duration = Duration::from_millis(10);
/// Programs kept for records that were made under them.
const PROGRAMS: usize = 8;

/// A logged packet.
#[derive(Clone, Copy)]
struct Record {
    frame: [u8; KEPT],
    kept: u16,
    length: u32,
    direction: Direction,
    decision: Decision,
    generation: u64,
}

/// A program with the log settings that were loaded with it.
#[derive(Clone)]
struct Known {
    program: Arc<Program>,
    settings: LogSettings,
}

/// The queue between the packet line and the writer.
pub struct LogQueue {
    records: ArrayQueue<Record>,
    lost: AtomicU64,
    programs: Mutex<Vec<Known>>,
    is_stopping: AtomicBool,
}

impl Default for LogQueue {
    fn default() -> LogQueue {
        LogQueue {
            records: ArrayQueue::new(SLOTS),
            lost: AtomicU64::new(0),
            programs: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        }
    }
}

impl LogQueue {
    /// Makes a program known before it is published, with its prefix and rate limit.
    pub fn knows(&self, program: Arc<Program>, settings: LogSettings) {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if programs.len() == PROGRAMS {
            programs.remove(0);
        }
        programs.push(Known { program, settings });
    }

    fn known(&self, generation: u64) -> Option<Known> {
        let programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.iter().find(|known| known.program.generation == generation).cloned()
    }

    /// Logged packets that found the queue full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Lets the writer end once the queue is empty.
    pub fn stop(&self) {
        self.is_stopping.store(true, Relaxed);
    }
}

/// Copies logged packets into the queue; never waits.
#[derive(Clone)]
pub struct LogTap(pub Arc<LogQueue>);

impl Tap for LogTap {
    #[inline]
    fn judged(&mut self, seen: Judged<'_>) {
        if seen.decision.logs() == 0 {
            return;
        }
        let kept = seen.frame.len().min(KEPT);
        let mut frame = [0; KEPT];
        if let (Some(to), Some(from)) = (frame.get_mut(..kept), seen.frame.get(..kept)) {
            to.copy_from_slice(from);
        }
        let record = Record {
            frame,
            kept: kept as u16,
            length: seen.frame.len() as u32,
            direction: seen.direction,
            decision: seen.decision,
            generation: seen.generation,
        };
        if self.0.records.push(record).is_err() {
            self.0.lost.fetch_add(1, Relaxed);
        }
    }
}

/// What the writer needs besides the queue.
pub struct Writing {
    /// Interface names of uplink and downlink.
    pub ports: Ports,
    /// How frames are parsed.
    pub options: Options,
    /// Where lines go.
    pub sinks: Vec<Sink>,
}

/// Writes until the queue is stopped and empty. Returns lines written, and lines that the rate limit held back.
pub fn write(queue: &LogQueue, mut writing: Writing) -> (u64, u64) {
    let mut limits = Limits::default();
    let (mut written, mut held_back) = (0, 0);
    loop {
        let Some(record) = queue.records.pop() else {
            writing.sinks.iter_mut().for_each(Sink::flush);
            if queue.is_stopping.load(Relaxed) {
                return (written, held_back);
            }
            thread::sleep(ROUND);
            continue;
        };
        let Some(Known { program, settings }) = queue.known(record.generation) else { continue };
        let limit = limits.of(record.generation, &settings);
        for (stage, rule, destination) in logged(&program, &record, &writing.options) {
            if !limit.allows(rule, Instant::now()) {
                held_back += 1;
                continue;
            }
            let bytes = record.frame.get(..usize::from(record.kept)).unwrap_or(&[]);
            let entry = Entry {
                frame: bytes,
                length: record.length,
                direction: record.direction,
                stage,
                origin: program.origin(rule),
                destination,
                decision: record.decision,
            };
            for sink in &mut writing.sinks {
                sink.write(&entry, &settings, &writing.ports);
            }
            written += 1;
        }
    }
}

/// Stage, rule and translated destination of one line.
type Logged = (Stage, RuleId, Option<(u128, u16)>);

/// The Log rules that a packet met, each with its stage and, behind the service view, the backend that stands for its
/// destination.
fn logged(program: &Program, record: &Record, options: &Options) -> Vec<Logged> {
    let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
    let bytes = record.frame.get(..usize::from(record.kept)).unwrap_or(&[]);
    // The frame may be cut: its checksums were verified where that was asked, and lengths are told by the record.
    let options = Options { verify_l4_checksum: false, ..*options };
    let whole;
    let bytes = if record.length as usize > bytes.len() {
        let mut filled = bytes.to_vec();
        filled.resize(record.length as usize, 0);
        whole = filled;
        &whole[..]
    } else {
        bytes
    };
    if parse(bytes, record.direction, &options, &mut key, &mut quote) != Parsed::Key {
        return Vec::new();
    }
    let standing = match record.decision.flow() {
        FlowState::Established => Standing::Established,
        FlowState::Related => Standing::Related,
        FlowState::None => Standing::Invalid,
        FlowState::New | FlowState::Untracked => Standing::New,
    };
    let mut recorder = Recorder::default();
    let header = Located::Alone(program.classifier.header(&key));
    let judgement = judge(program, &key, header, standing, &mut Alone, &mut recorder);
    let events: Vec<Event> = recorder.events.into_iter().map(|(_, event)| event).collect();
    // Of several backends, the one that denied was reported, or the first if all allowed (GW-8).
    let turns: Vec<usize> =
        events.iter().enumerate().filter(|(_, e)| matches!(e, Event::Translated { .. })).map(|(i, _)| i).collect();
    let turn = match judgement.decision.verdict() {
        Verdict::Deny => turns.len().saturating_sub(1),
        Verdict::Allow => 0,
    };
    let start = turns.first().copied().unwrap_or(events.len());
    let (from, to) = match turns.get(turn) {
        Some(&from) => (from, turns.get(turn + 1).copied().unwrap_or(events.len())),
        None => (events.len(), events.len()),
    };
    let mut destination = None;
    let mut found = Vec::new();
    for event in events[..start].iter().chain(&events[from..to]) {
        match *event {
            Event::Translated { address, port } => destination = Some((address, port)),
            Event::Matched { stage, rule, effect: Effect::Log, .. } => found.push((stage, rule, destination)),
            _ => {}
        }
    }
    found
}

/// The rate limit of the generation that is written about: rules have other numbers and limits after a reload.
#[derive(Default)]
struct Limits {
    current: Option<(u64, Limit)>,
}

impl Limits {
    fn of(&mut self, generation: u64, settings: &LogSettings) -> &mut Limit {
        if self.current.as_ref().is_none_or(|(known, _)| *known != generation) {
            self.current = None;
        }
        &mut self.current.get_or_insert_with(|| (generation, Limit::new(settings))).1
    }
}

/// A token bucket per rule (LOG-1).
struct Limit {
    /// Seconds between tokens; `None` = no limit.
    interval: Option<f64>,
    burst: f64,
    buckets: HashMap<RuleId, (f64, Instant)>,
}

impl Limit {
    fn new(settings: &LogSettings) -> Limit {
        let interval = settings.rate_limit.as_deref().and_then(interval);
        Limit { interval, burst: f64::from(settings.burst.unwrap_or(5)).max(1.0), buckets: HashMap::new() }
    }

    fn allows(&mut self, rule: RuleId, now: Instant) -> bool {
        let Some(interval) = self.interval else { return true };
        let (tokens, last) = self.buckets.entry(rule).or_insert((self.burst, now));
        *tokens = (*tokens + now.duration_since(*last).as_secs_f64() / interval).min(self.burst);
        *last = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

/// Seconds per record of a rate such as `10/second`; `None` for no limit.
fn interval(rate: &str) -> Option<f64> {
    let (number, unit) = rate.split_once('/')?;
    let unit = match unit.trim() {
        "second" => 1.0,
        "minute" => 60.0,
        "hour" => 3600.0,
        "day" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    (number > 0.0).then(|| unit / number)
}

#[cfg(test)]
mod tests;
