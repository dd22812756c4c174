//! `ringwall bench pipeline`: numbers of rules, flows and workers in, packets per second and nanoseconds by stage out.
//!
//! Each worker has a line between two in-memory ring ports and plays the far ends itself: it fills the receive rings with frames,
//! reads the clock, lets the line run until the rings are empty, and reads the clock again. So neither the making of frames nor a
//! clock per packet is in the figures. Stages are measured by difference: the same frames through lines that do less, all lines in
//! turn and again and again, since a processor may be faster in one second than in the next.

use std::fmt::Write;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::instructions::Instructions;
use super::policy_and_frames::{Dice, NODE, Step, Traffic, UPLINK, policy};
use crate::base::address::Direction;
use crate::base::diagnostic::Diagnostics;
use crate::base::id::WorkerId;
use crate::base::site::Site;
use crate::base::time::Now;
use crate::base::wide::Level;
use crate::cli::arguments::{Output, exit};
use crate::cli::{findings, print};
use crate::compile::{self, compile};
use crate::control::cores;
use crate::engine::{
    BATCH, Batch, Counters, Decision, FlowSettings, FlowState, Program, Reason, Settings, Stage, Verdict,
};
use crate::io::memory::{MemoryPort, Plugged, Wire, memory};
use crate::packet::{self, Arrival};
use crate::policy::load::{LoadOptions, load};
use crate::policy::source::Source;
use crate::worker::exchange::{Bell, Exchange};
use crate::worker::{Clock, EngineJudge, Judge, Line, Load, NoTap};

/// Frames that wait in each ring when the clock starts.
const WAITING: usize = 512;
const SLOTS: usize = 1024;
/// Most fillings of the rings that are measured. The figure is their median, so that one during which the thread had to wait for
/// a processor does not count.
const FILLINGS: usize = 1 << 20;
/// How long a line runs before the next one has its turn, in seconds.
const TURN: f64 = 0.05;

/// Arguments of `ringwall bench pipeline`.
#[derive(Clone, Debug, Args)]
pub struct PipelineArguments {
    /// Rules of the policy
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rules: u32,
    /// Active flows, all workers together
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    flows: u32,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Bytes of a frame on the wire, frame check sequence included
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(64..=1518))]
    size: u32,
    /// Frames that the line receives at a time: few where frames come one by one and must not wait
    #[arg(long, default_value_t = BATCH as u32, value_parser = clap::value_parser!(u32).range(1..=BATCH as i64))]
    burst: u32,
    /// Instructions to use [default: the best that this processor has]
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<Instructions>,
    /// Let every packet begin a new flow
    #[arg(long)]
    new: bool,
    /// Seconds to measure, per stage
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
struct Report {
    rules: u32,
    flows: u32,
    workers: u32,
    size: u32,
    burst: u32,
    level: &'static str,
    new: bool,
    packets: u64,
    packets_per_s: f64,
    mpps: f64,
    ns_per_packet: f64,
    stages_ns: Stages,
    allocations_per_packet: f64,
    bytes_per_flow: f64,
    huge_pages: bool,
}

/// Nanoseconds per packet of one worker.
#[derive(Clone, Copy, Debug, Serialize)]
struct Stages {
    /// Taking frames from the receive ring and recycling them.
    rings: f64,
    parse: f64,
    flow: f64,
    verdict: f64,
    transmit: f64,
}

/// Measures and prints.
pub fn run(arguments: &PipelineArguments, allocations: fn() -> u64) -> u8 {
    let level = match Instructions::level(arguments.level) {
        Ok(level) => level,
        Err(said) => {
            print::talk(said);
            return exit::ENVIRONMENT;
        }
    };
    let programs = program(&policy(arguments.rules), level).and_then(|whole| Ok([whole, program("", level)?]));
    let report = match programs.and_then(|programs| measure(arguments, level, programs, allocations)) {
        Ok(report) => report,
        Err(defect) => {
            print::talk(&format!("error: {defect}\n"));
            return exit::DEFECT;
        }
    };
    let text = match arguments.output {
        Output::Table => table(&report),
        Output::Json => serde_json::to_string(&report).map_or_else(|error| error.to_string(), |json| json + "\n"),
    };
    print::result(&text, exit::DONE)
}

fn program(text: &str, level: Level) -> Result<Arc<Program>, String> {
    let mut diagnostics = Diagnostics::new();
    let policy = load(&[Source::new("bench.yaml", text.to_owned())], &LoadOptions::default(), &mut diagnostics);
    let site = Site { node: Some(NODE.to_owned()), uplink: Some(UPLINK.to_owned()), ..Site::default() };
    let program = policy.and_then(|policy| compile(&policy, &site, &compile::Options::default(), &mut diagnostics));
    let program = program.map(|mut program| {
        program.classifier = program.classifier.with_level(level);
        Arc::new(program)
    });
    program.ok_or_else(|| findings::text(&diagnostics, &[]))
}

/// Judges that do less than all, to tell stages apart.
struct Partial {
    /// `None`: frames are not even parsed.
    batch: Option<Batch>,
    decision: Decision,
    counters: Counters,
}

impl Judge for Partial {
    type Load = ();
    #[inline]
    fn begin(&mut self) {
        if let Some(batch) = &mut self.batch {
            batch.clear();
        }
    }
    #[inline]
    fn add(&mut self, frames: &[Arrival<'_>]) {
        if let Some(batch) = &mut self.batch {
            batch.extend(frames, &packet::Options::default());
        }
    }
    fn owner(&self, _: usize, here: WorkerId, _: u32) -> WorkerId {
        here
    }
    fn keep(&mut self, _: u64) {}
    fn decide(&mut self) {}
    #[inline]
    fn decision(&self, _: usize) -> Decision {
        self.decision
    }
    #[inline]
    fn clear_cases(&self) -> (u64, u64) {
        if self.decision.verdict() == Verdict::Allow { (u64::MAX, 0) } else { (0, u64::MAX) }
    }
    #[inline]
    fn is_whole(&self, _: usize) -> bool {
        true
    }
    fn adopt(&mut self, load: Arc<()>) -> Arc<()> {
        load
    }
    fn idle(&mut self, _: Now) {}
    fn counters(&self) -> &Counters {
        &self.counters
    }
    fn flows(&self) -> usize {
        0
    }
}

/// A line with its far ends.
struct Rig<J> {
    line: Line<MemoryPort, J>,
    wires: [Wire; 2],
    clock: Clock,
    spent: Duration,
    packets: u64,
}

impl<J: Judge> Rig<J> {
    fn new(judge: J, exchange: Option<Exchange>, burst: u32) -> Result<Rig<J>, String> {
        let ports: Result<[Plugged; 2], _> = memory(2, SLOTS, 1600).try_into();
        let Ok([(up, outside), (down, inside)]) = ports else { return Err("two ports were asked for".into()) };
        let [up, down] = [up, down].map(|port| port.in_bursts(burst as usize));
        let mut line = Line::new(up, down, judge);
        if let Some(exchange) = exchange {
            line = line.exchanging(exchange);
        }
        let wires = [outside, inside];
        Ok(Rig { line, wires, clock: Clock::start(), spent: Duration::ZERO, packets: 0 })
    }

    /// Lets the line take these flows' frames; returns how many came out.
    fn go(&mut self, traffic: &Traffic, flows: impl Iterator<Item = (u32, Step)>, frame: &mut Vec<u8>) -> u64 {
        let [outside, inside] = &mut self.wires;
        for (flow, step) in flows {
            traffic.frame(flow, step, frame);
            let wire = if step.direction() == Direction::Inbound { &mut *outside } else { &mut *inside };
            self.packets += u64::from(wire.inject(frame));
        }
        let start = Instant::now();
        while self.line.turn(self.clock.now(), &mut NoTap) > 0 {}
        self.spent += start.elapsed();
        (outside.drain() + inside.drain()) as u64
    }
}

/// What one worker's flows are, and the frames they send.
struct Feed<'a> {
    traffic: &'a Traffic,
    mine: &'a [u32],
    dice: Dice,
    is_new: bool,
    at: usize,
}

impl Feed<'_> {
    /// Chooses the frames of the next filling of the rings.
    fn fill(&mut self, chosen: &mut Vec<(u32, Step)>) {
        chosen.clear();
        if self.is_new {
            let end = (self.at + WAITING).min(self.mine.len());
            chosen.extend(self.mine.get(self.at..end).unwrap_or(&[]).iter().map(|&flow| (flow, Step::First)));
            self.at = if end == self.mine.len() { 0 } else { end };
            return;
        }
        for i in 0..2 * WAITING {
            let flow = self.mine.get(self.dice.below(self.mine.len() as u64) as usize).copied().unwrap_or(0);
            chosen.push((flow, if i % 2 == 0 { Step::There } else { Step::Back }));
        }
    }
}

/// Nanoseconds per packet in the middle of all fillings, and packets of all.
struct Figure {
    nanoseconds: f64,
    packets: u64,
    allocations: u64,
}

/// A rig that runs again and again, and what it has measured.
struct Course<'a, J> {
    rig: Rig<J>,
    source: Feed<'a>,
    /// Of the packets, so many come out.
    expected: f64,
    allocations: fn() -> u64,
    /// What a filling needs, taken once: allocations are those of the whole process, other workers' among them.
    frame: Vec<u8>,
    chosen: Vec<(u32, Step)>,
    /// Nanoseconds per packet.
    fillings: Vec<f64>,
    packets: u64,
    out: u64,
    allocated: u64,
}

impl<'a, J: Judge> Course<'a, J> {
    fn new(rig: Rig<J>, source: Feed<'a>, expected: f64, allocations: fn() -> u64) -> Course<'a, J> {
        let (frame, chosen) = (Vec::with_capacity(2048), Vec::with_capacity(2 * WAITING));
        let fillings = Vec::with_capacity(FILLINGS);
        Course { rig, source, expected, allocations, frame, chosen, fillings, packets: 0, out: 0, allocated: 0 }
    }

    /// Runs for some time. `again` is called when every new flow has been there once.
    fn run(&mut self, seconds: f64, again: impl Fn(&mut J)) {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while self.fillings.is_empty() || (Instant::now() < end && self.fillings.len() < FILLINGS) {
            self.source.fill(&mut self.chosen);
            let rig = &mut self.rig;
            (rig.spent, rig.packets) = (Duration::ZERO, 0);
            let before = (self.allocations)();
            self.out += rig.go(self.source.traffic, self.chosen.iter().copied(), &mut self.frame);
            self.allocated += (self.allocations)() - before;
            self.fillings.push(rig.spent.as_secs_f64() * 1e9 / rig.packets.max(1) as f64);
            self.packets += rig.packets;
            if self.source.is_new && self.source.at == 0 {
                again(rig.line.judge_mut());
            }
        }
    }

    fn figure(&mut self) -> Result<Figure, String> {
        let (packets, out) = (self.packets, self.out);
        if out != (packets as f64 * self.expected) as u64 {
            return Err(format!("{packets} frames went in and {out} came out: {:?}", self.rig.line.fates()));
        }
        let middle = self.fillings.len() / 2;
        let (_, nanoseconds, _) = self.fillings.select_nth_unstable_by(middle, f64::total_cmp);
        Ok(Figure { nanoseconds: *nanoseconds, packets, allocations: self.allocated })
    }
}

/// Which flows belong to which worker, as a network card that spreads by the same hash would have it.
fn shares(arguments: &PipelineArguments, traffic: &Traffic, seed: [u64; 2]) -> Vec<Vec<u32>> {
    let mut shares = vec![Vec::new(); arguments.workers as usize];
    let (mut batch, mut frame) = (Batch::new(), Vec::new());
    for flow in 0..arguments.flows {
        traffic.frame(flow, Step::First, &mut frame);
        batch.clear();
        batch.add(&frame, Direction::Inbound, Now(0), &packet::Options::default());
        let owner = batch.owner(0, WorkerId(0), arguments.workers, seed);
        if let Some(share) = shares.get_mut(owner.index()) {
            share.push(flow);
        }
    }
    shares
}

/// What one worker found.
struct Found {
    whole: Figure,
    stages: Stages,
    bytes_per_flow: f64,
    is_huge: bool,
}

fn measure(
    arguments: &PipelineArguments,
    level: Level,
    [program, empty]: [Arc<Program>; 2],
    allocations: fn() -> u64,
) -> Result<Report, String> {
    let seed = [0x5eed_0f0a_bead_5eed, 0x0123_4567_89ab_cdef];
    let traffic = Traffic::new(arguments.rules, arguments.size as usize);
    let shares = shares(arguments, &traffic, seed);
    let bells: Result<Vec<_>, _> = shares.iter().map(|_| Bell::new().map(Arc::new)).collect();
    let exchanges = Exchange::between(&bells.map_err(|error| error.to_string())?, SLOTS);
    let barrier = Barrier::new(shares.len());
    let allowed = cores::allowed();
    let found: Vec<Result<Found, String>> = std::thread::scope(|scope| {
        let workers: Vec<_> = shares
            .iter()
            .zip(exchanges)
            .enumerate()
            .map(|(number, (mine, exchange))| {
                let (traffic, barrier, program, empty) = (&traffic, &barrier, &program, &empty);
                let core = allowed.get(number % allowed.len().max(1)).copied();
                scope.spawn(move || {
                    // Where that is refused, it runs where the scheduler likes.
                    let _ = core.map(cores::pin);
                    let job = Job { arguments, level, traffic, mine, seed, number: number as u32, allocations };
                    job.measure(program, empty, exchange, barrier)
                })
            })
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.map(|found| found.unwrap_or_else(|_| Err("a worker ended early".into()))).collect()
    });
    let found: Vec<Found> = found.into_iter().collect::<Result<_, _>>()?;
    let count = found.len() as f64;
    let mean = |of: fn(&Found) -> f64| found.iter().map(of).sum::<f64>() / count;
    let packets: u64 = found.iter().map(|found| found.whole.packets).sum();
    let packets_per_s: f64 = found.iter().map(|found| 1e9 / found.whole.nanoseconds).sum();
    Ok(Report {
        rules: arguments.rules,
        flows: arguments.flows,
        workers: arguments.workers,
        size: arguments.size,
        burst: arguments.burst,
        level: level.name(),
        new: arguments.new,
        packets,
        packets_per_s,
        mpps: packets_per_s / 1e6,
        ns_per_packet: mean(|found| found.whole.nanoseconds),
        stages_ns: Stages {
            rings: mean(|found| found.stages.rings),
            parse: mean(|found| found.stages.parse),
            flow: mean(|found| found.stages.flow),
            verdict: mean(|found| found.stages.verdict),
            transmit: mean(|found| found.stages.transmit),
        },
        allocations_per_packet: found.iter().map(|found| found.whole.allocations).sum::<u64>() as f64
            / packets.max(1) as f64,
        bytes_per_flow: mean(|found| found.bytes_per_flow),
        huge_pages: found.iter().all(|found| found.is_huge),
    })
}

/// The work of one worker.
struct Job<'a> {
    arguments: &'a PipelineArguments,
    level: Level,
    traffic: &'a Traffic,
    mine: &'a [u32],
    seed: [u64; 2],
    number: u32,
    allocations: fn() -> u64,
}

impl Job<'_> {
    fn source(&self) -> Feed<'_> {
        let dice = Dice(u64::from(self.number) + 1);
        Feed { traffic: self.traffic, mine: self.mine, dice, is_new: self.arguments.new, at: 0 }
    }

    fn partial(&self, parses: bool, verdict: Verdict) -> Result<Course<'_, Partial>, String> {
        let decision = Decision::new(verdict, Reason::DefaultAllow, Stage::Default, FlowState::None);
        let batch = parses.then(|| Batch::at_level(self.level));
        let judge = Partial { batch, decision, counters: Counters::default() };
        let rig = Rig::new(judge, None, self.arguments.burst)?;
        let expected = if verdict == Verdict::Allow { 1.0 } else { 0.0 };
        Ok(Course::new(rig, self.source(), expected, self.allocations))
    }

    /// An engine that knows the flows already, unless all shall be new.
    fn rig(&self, program: &Arc<Program>, exchange: Option<Exchange>) -> Result<Rig<EngineJudge>, String> {
        let load = Load { program: Arc::clone(program), options: packet::Options::default() };
        // Half of the flows begin with a SYN, and only half of a table may be half-open.
        let capacity = (if self.arguments.new { 2 * self.mine.len() } else { self.mine.len() }).max(1);
        let flows = FlowSettings { capacity, ..FlowSettings::default() };
        let settings = Settings { flows, level: self.level, seed: self.seed, ..Settings::default() };
        let judge = EngineJudge::new(Arc::new(load), &settings);
        judge.populate();
        let mut rig = Rig::new(judge, exchange, self.arguments.burst)?;
        if self.arguments.new {
            return Ok(rig);
        }
        let mut frame = Vec::with_capacity(2048);
        for part in self.mine.chunks(WAITING) {
            for step in Step::OPENING {
                let out = rig.go(self.traffic, part.iter().map(|&flow| (flow, step)), &mut frame);
                if out != part.len() as u64 {
                    return Err(format!("{step:?} of {} flows: {out} came out", part.len()));
                }
            }
        }
        Ok(rig)
    }

    fn engine(&self, program: &Arc<Program>, exchange: Option<Exchange>) -> Result<Course<'_, EngineJudge>, String> {
        Ok(Course::new(self.rig(program, exchange)?, self.source(), 1.0, self.allocations))
    }

    fn measure(
        &self,
        program: &Arc<Program>,
        empty: &Arc<Program>,
        exchange: Exchange,
        barrier: &Barrier,
    ) -> Result<Found, String> {
        let mut engines = [self.engine(program, Some(exchange))?, self.engine(empty, None)?];
        let mut partials = [
            self.partial(false, Verdict::Deny)?,
            self.partial(false, Verdict::Allow)?,
            self.partial(true, Verdict::Allow)?,
        ];
        let turns = (self.arguments.seconds / TURN).ceil().max(1.0);
        let seconds = self.arguments.seconds / turns;
        for _ in 0..turns as u64 {
            for course in &mut engines {
                barrier.wait();
                course.run(seconds, EngineJudge::forget);
            }
            for course in &mut partials {
                barrier.wait();
                course.run(seconds, |_| {});
            }
        }
        let table = engines[0].rig.line.judge().engine().flows().table();
        let (bytes_per_flow, is_huge) = (table.bytes() as f64 / table.capacity() as f64, table.is_on_huge_pages());
        let [whole, flowed] = &mut engines;
        let (whole, flowed) = (whole.figure()?, flowed.figure()?.nanoseconds);
        let [rings, passed, parsed] = &mut partials;
        let [rings, passed, parsed] =
            [rings.figure()?, passed.figure()?, parsed.figure()?].map(|found| found.nanoseconds);
        let stages = Stages {
            rings,
            parse: parsed - passed,
            flow: flowed - parsed,
            verdict: whole.nanoseconds - flowed,
            transmit: passed - rings,
        };
        Ok(Found { whole, stages, bytes_per_flow, is_huge })
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let kind = if report.new { "new flows, one packet each" } else { "active flows" };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{} rules, {} {kind}, {} workers, frames of {} bytes in bursts of {}, {}\n\n{:>10.2} million packets per second\n{:>10.1} ns per packet",
        report.rules,
        report.flows,
        report.workers,
        report.size,
        report.burst,
        report.level,
        report.mpps,
        report.ns_per_packet
    );
    let stages = report.stages_ns;
    for (name, nanoseconds) in [
        ("rings", stages.rings),
        ("parse", stages.parse),
        ("flow", stages.flow),
        ("verdict", stages.verdict),
        ("transmit", stages.transmit),
    ] {
        let _ = writeln!(text, "{nanoseconds:>10.1}   {name}");
    }
    let _ = writeln!(
        text,
        "{:>10.3} allocations per packet\n{:>10.1} bytes per flow\n{:>10} huge pages",
        report.allocations_per_packet,
        report.bytes_per_flow,
        if report.huge_pages { "with" } else { "no" }
    );
    text
}
