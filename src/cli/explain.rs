//! `ringwall explain`: one packet with every stage, or a file of packets with a verdict each, through the packet line itself.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::arguments::{GatewayArguments, Output, exit};
use super::packet_object::{PacketObject, read_line};
use super::packet_text::read_text;
use super::story::story;
use super::verdict::{self, Line as VerdictLine};
use super::{findings, print, run};
use crate::base::address::Direction;
use crate::base::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::base::id::WorkerId;
use crate::base::time::Now;
use crate::compile::applies::not_applied;
use crate::control::load::{Loaded, load};
use crate::engine::{BATCH, Counters, Decision, NoTrace, Recorder, Settings, Trace};
use crate::io::memory::{MemoryPort, Wire, memory};
use crate::packet::{Arrival, Parsed, build};
use crate::worker::{EngineJudge, Judge, Judged, Line, Load, NoTap, Tap};

/// Arguments of `ringwall explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    #[command(flatten)]
    gateway: GatewayArguments,
    /// Side on which the packet is received
    #[arg(long = "in", value_enum, value_name = "PORT", default_value = "uplink", conflicts_with = "packets")]
    side: Side,
    /// The packet, such as 'tcp 1.1.1.1:40000 > 169.1.1.1:80 [S]'
    #[arg(required_unless_present = "packets", conflicts_with = "packets")]
    packet: Option<String>,
    /// File of packets, one JSON object per line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    packets: Option<PathBuf>,
    /// Start with an empty flow table for each packet of the file
    #[arg(long, requires = "packets", conflicts_with = "packet")]
    independent: bool,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Uplink,
    Downlink,
}

/// Explains; returns the exit code.
pub fn run(arguments: &ExplainArguments) -> u8 {
    let outcome = load(&arguments.gateway.request(), 1, Some(1));
    let Some(loaded) = outcome.loaded else {
        findings::print(&outcome.findings, &outcome.sources);
        return exit::INVALID;
    };
    match (&arguments.packet, &arguments.packets) {
        (Some(text), _) => one(&loaded, text, arguments),
        (None, Some(path)) => match batch(&loaded, path, arguments) {
            Ok(code) => code,
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::DONE,
            Err(error) => {
                print::talk(&format!("error: {error}\n"));
                exit::INVALID
            }
        },
        (None, None) => exit::USAGE,
    }
}

/// A judge of packet objects: the engine, with the window of a packet without `win` unknown.
struct ObjectJudge<T: Trace> {
    inner: EngineJudge<T>,
    /// Whether the window of the next packet is known; in the order of injection, emptied by each burst.
    has_window: std::collections::VecDeque<bool>,
}

impl<T: Trace> Judge for ObjectJudge<T> {
    type Load = Load;

    fn begin(&mut self) {
        self.inner.begin();
    }
    fn add(&mut self, frames: &[Arrival<'_>]) {
        for frame in frames {
            self.inner.add(std::slice::from_ref(frame));
            if self.has_window.pop_front() == Some(false) {
                self.inner.forget_window();
            }
        }
    }
    fn owner(&self, position: usize, here: WorkerId, workers: u32) -> WorkerId {
        self.inner.owner(position, here, workers)
    }
    fn keep(&mut self, positions: u64) {
        self.inner.keep(positions);
    }
    fn decide(&mut self) {
        self.inner.decide();
    }
    fn decision(&self, position: usize) -> Decision {
        self.inner.decision(position)
    }
    fn adopt(&mut self, load: Arc<Load>) -> Arc<Load> {
        self.inner.adopt(load)
    }
    fn idle(&mut self, now: Now) {
        self.inner.idle(now);
    }
    fn counters(&self) -> &Counters {
        self.inner.counters()
    }
    fn flows(&self) -> usize {
        self.inner.flows()
    }
}

/// The packet line over in-memory ports.
struct Bench<T: Trace> {
    line: Line<MemoryPort, ObjectJudge<T>>,
    wires: [Wire; 2],
}

impl<T: Trace> Bench<T> {
    /// `longest` is the length of the longest frame that will come.
    fn new(loaded: &Loaded, settings: &Settings, trace: T, longest: usize) -> Bench<T> {
        let mut ports = memory(2, BATCH, longest.max(2048)).into_iter();
        let (Some((uplink, outside)), Some((downlink, inside))) = (ports.next(), ports.next()) else {
            unreachable!("two ports were asked for")
        };
        let judge =
            ObjectJudge { inner: EngineJudge::traced(loaded.load(), settings, trace), has_window: Default::default() };
        Bench { line: Line::new(uplink, downlink, judge), wires: [outside, inside] }
    }

    /// Puts a packet before its port; `false` when a burst is full.
    fn inject(&mut self, object: &PacketObject, frame: &[u8]) -> bool {
        let judge = self.line.judge_mut();
        if judge.has_window.len() == BATCH || !self.wires[object.direction as usize].inject_at(frame, object.time) {
            return false;
        }
        judge.has_window.push_back(object.spec.window.is_some());
        true
    }

    /// Judges what was injected on one side.
    fn burst(&mut self, direction: Direction, tap: &mut impl Tap) {
        self.line.burst(direction, Now(0), tap);
        self.wires[direction.reverse() as usize].drain();
    }
}

/// Collects decisions in order.
#[derive(Default)]
struct Decisions(Vec<Decision>);

impl Tap for Decisions {
    fn judged(&mut self, seen: Judged<'_>) {
        self.0.push(seen.decision);
    }
}

fn one(loaded: &Loaded, text: &str, arguments: &ExplainArguments) -> u8 {
    let direction = match arguments.side {
        Side::Uplink => Direction::Inbound,
        Side::Downlink => Direction::Outbound,
    };
    let spec = match read_text(text) {
        Ok(spec) => spec,
        Err(error) => {
            let mut found = Diagnostics::new();
            found.push(error);
            findings::print(&found, &[]);
            return exit::USAGE;
        }
    };
    let object = PacketObject { direction, time: Now(0), spec };
    let frame = build(&object.spec);
    let settings = loaded.settings(WorkerId(0), 1, run::seed());
    let mut bench = Bench::new(loaded, &small(settings), Recorder::default(), frame.len());
    bench.inject(&object, &frame);
    bench.burst(direction, &mut NoTap);
    let judge = &mut bench.line.judge_mut().inner;
    let (key, parsed, decision) = (*judge.batch().key(0), judge.batch().parsed(0), judge.batch().decision(0));
    let events: Vec<_> = judge.trace_mut().events.iter().map(|(_, event)| *event).collect();
    let mut story = story(&loaded.program, text, &key, parsed, &events, decision);
    if parsed == Parsed::Key {
        let (policy, site) = (&loaded.policy, &loaded.plan.site);
        story = story.with_not_applied(not_applied(policy, site, &loaded.program, &key, &events, decision));
    }
    let text = match arguments.output {
        Output::Json => story.json() + "\n",
        Output::Table => story.text(decision),
    };
    print::result(&text, verdict::exit_code(decision))
}

/// Tables for a packet or two.
fn small(mut settings: Settings) -> Settings {
    settings.flows.capacity = settings.flows.capacity.min(16);
    settings.datagrams = 4;
    settings
}

fn batch(loaded: &Loaded, path: &Path, arguments: &ExplainArguments) -> io::Result<u8> {
    let mut found = Diagnostics::new();
    let objects = read_objects(path, &mut found);
    if found.has_errors() {
        findings::print(&found, &[]);
        return Ok(exit::INVALID);
    }
    let frames: Vec<Vec<u8>> = objects.iter().map(|object| build(&object.spec)).collect();
    let longest = frames.iter().map(Vec::len).max().unwrap_or(0);
    let settings = loaded.settings(WorkerId(0), 1, run::seed());
    let settings = if arguments.independent { small(settings) } else { settings };
    let mut bench = Bench::new(loaded, &settings, NoTrace, longest);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut decisions = Decisions::default();
    let mut n = 0;
    let mut at = 0;
    while at < objects.len() {
        let direction = objects[at].direction;
        let most = if arguments.independent { 1 } else { BATCH };
        let first = at;
        while at < objects.len() && at - first < most && objects[at].direction == direction {
            if !bench.inject(&objects[at], &frames[at]) {
                break;
            }
            at += 1;
        }
        while decisions.0.len() < at - first {
            let before = decisions.0.len();
            bench.burst(direction, &mut decisions);
            if decisions.0.len() == before {
                return Err(io::Error::other("the packet line took no packet, which is a defect"));
            }
        }
        for decision in decisions.0.drain(..) {
            n += 1;
            let line = VerdictLine::new(&loaded.program, n, decision);
            match arguments.output {
                Output::Json => writeln!(out, "{}", line.json())?,
                Output::Table => writeln!(out, "{}", line.text())?,
            }
        }
        if arguments.independent {
            bench.line.judge_mut().inner.forget();
        }
    }
    out.flush()?;
    Ok(exit::DONE)
}

fn read_objects(path: &Path, found: &mut Diagnostics) -> Vec<PacketObject> {
    let is_input = path == Path::new("-");
    let name: Arc<str> = if is_input { "standard input".into() } else { path.display().to_string().into() };
    let reader: Box<dyn BufRead> = if is_input {
        Box::new(io::stdin().lock())
    } else {
        match File::open(path) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(error) => {
                found.push(Diagnostic::error("unreadable-file", format!("cannot read `{name}`: {error}")));
                return Vec::new();
            }
        }
    };
    let mut objects = Vec::new();
    for (number, line) in (1u32..).zip(reader.lines()) {
        let at = Span { file: Arc::clone(&name), line: number, column: 1 };
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                found.push(Diagnostic::error("unreadable-file", format!("cannot read on: {error}")).at(&at));
                break;
            }
        };
        if line.trim().is_empty() {
            continue;
        }
        match read_line(&line, &at) {
            Ok(object) => objects.push(object),
            Err(error) => found.push(error),
        }
    }
    objects
}
