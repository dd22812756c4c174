//! `ringwall replay`: captures through the packet line, as fast as it goes or as fast as they came, and what became of them.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::arguments::{GatewayArguments, Output, exit};
use super::flow_view::FlowView;
use super::summary::{self, Row, RuleRow};
use super::verdict::Line as VerdictLine;
use super::{findings, print, run as run_verb};
use crate::base::address::{Direction, Family, range};
use crate::base::diagnostic::did_you_mean;
use crate::base::id::WorkerId;
use crate::base::site::Site;
use crate::base::time::Now;
use crate::control::load::{Loaded, load};
use crate::engine::{Batch, Counters, Program, Verdict};
use crate::io::pcap::{Capture, CaptureError, CapturePort, Merge, PcapngWriter, Record, Seen, Sorter};
use crate::packet::{Key, Options, Parsed, Tuple, parse};
use crate::worker::{EngineJudge, Fates, Judge, Judged, Line, Tap};

/// Arguments of `ringwall replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    #[command(flatten)]
    gateway: GatewayArguments,
    /// Capture: `uplink=FILE`, `downlink=FILE`, or FILE alone, whose packets are outbound if their source lies in a segment
    #[arg(long = "in", value_name = "[PORT=]FILE", required = true, value_parser = capture_argument)]
    captures: Vec<(Side, PathBuf)>,
    /// Write a verdict per packet, as JSON lines
    #[arg(long, value_name = "FILE")]
    verdicts: Option<PathBuf>,
    /// Write the packets that passed, as pcapng
    #[arg(long, value_name = "FILE")]
    passed: Option<PathBuf>,
    /// Write the packets that were dropped, as pcapng with the reason in a comment
    #[arg(long, value_name = "FILE")]
    dropped: Option<PathBuf>,
    /// As fast as it goes, or as fast as the packets were captured
    #[arg(long, value_enum, default_value = "max")]
    speed: Speed,
    /// Play the captures this many times; each time continues where the last one ended
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Workers, each on a thread with the flows that it owns
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Form of the summary
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Speed {
    Max,
    Original,
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("cannot write `{0}`: {1}")]
    Write(String, std::io::Error),
    #[error("a worker stopped by a defect")]
    Defect,
}

/// Which side the packets of a capture count as received on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Fixed(Direction),
    BySegment,
}

/// What one worker did.
struct Share {
    counters: Counters,
    fates: Fates,
    latency: Histogram<u64>,
    flows: FlowView,
    busy: Duration,
    verdicts: Vec<(u64, String)>,
}

/// Replays; returns the exit code.
pub fn run(arguments: &ReplayArguments) -> u8 {
    let outcome = load(&arguments.gateway.request(), 1, Some(arguments.workers as usize));
    let Some(loaded) = outcome.loaded else {
        findings::print(&outcome.findings, &outcome.sources);
        return exit::INVALID;
    };
    let captures = &arguments.captures;
    if captures.iter().any(|c| c.0 == Side::BySegment)
        && loaded.plan.site.segments.is_empty()
        && loaded.policy.subnets.is_empty()
    {
        let note =
            "the gateway has no segments, so every packet counts as inbound; say `--in uplink=FILE` to be explicit";
        print::talk(&format!("note: {note}\n"));
    }
    match replay(arguments, &loaded, captures) {
        Ok(code) => code,
        Err(error) => {
            print::talk(&format!("error: {error}\n"));
            if matches!(error, ReplayError::Defect) { exit::DEFECT } else { exit::INVALID }
        }
    }
}

fn capture_argument(text: &str) -> Result<(Side, PathBuf), String> {
    match text.split_once('=') {
        Some(("uplink", file)) => Ok((Side::Fixed(Direction::Inbound), file.into())),
        Some(("downlink", file)) => Ok((Side::Fixed(Direction::Outbound), file.into())),
        // A file may have a `=` in its name.
        Some((port, _)) if !Path::new(text).exists() => match did_you_mean(port, ["uplink", "downlink"]) {
            Some(near) => Err(format!("unknown port `{port}`, did you mean `{near}`?")),
            None => Err(format!("unknown port `{port}`, expected `uplink` or `downlink`")),
        },
        _ => Ok((Side::BySegment, text.into())),
    }
}

fn replay(arguments: &ReplayArguments, loaded: &Loaded, captures: &[(Side, PathBuf)]) -> Result<u8, ReplayError> {
    let workers = arguments.workers;
    let seed = run_verb::seed();
    let start = Instant::now();
    let mut shares: Vec<Share> = if workers == 1 {
        vec![work(arguments, loaded, captures, WorkerId(0), seed, true)?]
    } else {
        if arguments.passed.is_some() || arguments.dropped.is_some() {
            let note =
                "with several workers, `--passed` and `--dropped` write one file per worker: drops.0.pcapng, ...";
            print::talk(&format!("note: {note}\n"));
        }
        thread::scope(|scope| {
            let spawn = |w| scope.spawn(move || work(arguments, loaded, captures, WorkerId(w), seed, false));
            let all: Vec<_> = (0..workers).map(spawn).collect();
            all.into_iter().map(|worker| worker.join().map_err(|_| ReplayError::Defect)?).collect::<Result<_, _>>()
        })?
    };
    let elapsed = start.elapsed();
    if let Some(path) = arguments.verdicts.as_ref().filter(|_| workers > 1) {
        let mut lines: Vec<(u64, String)> = shares.iter_mut().flat_map(|s| s.verdicts.drain(..)).collect();
        lines.sort_unstable_by_key(|line| line.0);
        let mut out = create(path)?;
        for (_, line) in lines {
            writeln!(out, "{line}").map_err(|e| ReplayError::Write(path.display().to_string(), e))?;
        }
        out.flush().map_err(|e| ReplayError::Write(path.display().to_string(), e))?;
    }
    let summary = Summary::new(&loaded.program, &shares, elapsed);
    let text = match arguments.output {
        Output::Json => serde_json::to_string(&summary).unwrap_or_default() + "\n",
        Output::Table => summary.text(),
    };
    Ok(print::result(&text, exit::DONE))
}

fn create(path: &Path) -> Result<BufWriter<File>, ReplayError> {
    File::create(path)
        .map(|file| BufWriter::with_capacity(1 << 18, file))
        .map_err(|e| ReplayError::Write(path.display().to_string(), e))
}

/// Where frames and verdicts are written on the way.
struct Recorder<'a> {
    program: &'a Program,
    verdicts: Verdicts,
    passed: Option<(String, PcapngWriter<BufWriter<File>>)>,
    dropped: Option<(String, PcapngWriter<BufWriter<File>>)>,
    offset: u64,
    error: Option<ReplayError>,
}

enum Verdicts {
    None,
    File(String, BufWriter<File>),
    Kept(Vec<(u64, String)>),
}

impl Recorder<'_> {
    fn write(&mut self, seen: &Judged<'_>) -> Result<(), ReplayError> {
        let n = seen.number + self.offset;
        let line = |program| VerdictLine::new(program, n, seen.decision);
        match &mut self.verdicts {
            Verdicts::None => {}
            Verdicts::File(name, out) => {
                writeln!(out, "{}", line(self.program).json()).map_err(|e| ReplayError::Write(name.clone(), e))?;
            }
            Verdicts::Kept(lines) => lines.push((n, line(self.program).json())),
        }
        let (target, comment) = match seen.decision.verdict() {
            Verdict::Allow => (&mut self.passed, None),
            Verdict::Deny => (&mut self.dropped, Some(line(self.program).comment())),
        };
        if let Some((name, writer)) = target {
            let record = Record { time: seen.now, bytes: seen.frame, original_length: seen.frame.len() as u32 };
            writer
                .write(seen.direction as usize, &record, Seen::Received, comment.as_deref())
                .map_err(|e| ReplayError::Write(name.clone(), e))?;
        }
        Ok(())
    }
}

impl Tap for Recorder<'_> {
    fn judged(&mut self, seen: Judged<'_>) {
        if self.error.is_none() {
            self.error = self.write(&seen).err();
        }
    }
}

/// Sides, ownership and the clock of one worker's captures.
fn sorter(
    sides: Vec<Side>,
    site: &Site,
    loaded: &Loaded,
    worker: WorkerId,
    workers: u32,
    seed: [u64; 2],
) -> Option<Sorter> {
    if sides.iter().all(|side| *side != Side::BySegment) && workers == 1 {
        return None;
    }
    let by_segment = sides.contains(&Side::BySegment);
    let segments: Vec<(Family, u128, u128)> = site
        .segments
        .iter()
        .flat_map(|segment| segment.cidrs.iter().map(|c| (c.network, c.length)))
        .chain(loaded.policy.subnets.iter().map(|s| (s.cidr.network(), s.cidr.prefix_len())))
        .map(|(network, length)| {
            let (first, last) = range(network, length);
            (Family::of(network), first, last)
        })
        .collect();
    let options = loaded.options();
    let batch = RefCell::new(Batch::new());
    Some(Box::new(move |bytes, side| {
        let mut direction = side;
        if by_segment {
            let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
            let parsed = parse(bytes, side, &options, &mut key, &mut quote);
            let is_inside =
                segments.iter().any(|&(f, first, last)| f == key.family() && (first..=last).contains(&key.src));
            let has_source = !matches!(parsed, Parsed::Pass(_));
            direction = if has_source && is_inside { Direction::Outbound } else { Direction::Inbound };
        }
        if workers > 1 && owner(&mut batch.borrow_mut(), bytes, direction, &options, workers, seed) != worker {
            return None;
        }
        Some(direction)
    }))
}

/// The worker that owns a frame's flow; frames without one belong to the first.
fn owner(
    batch: &mut Batch,
    bytes: &[u8],
    direction: Direction,
    options: &Options,
    workers: u32,
    seed: [u64; 2],
) -> WorkerId {
    batch.clear();
    match batch.add(bytes, direction, Now(0), options) {
        Some(at) => batch.owner(at, WorkerId(0), workers, seed),
        None => WorkerId(0),
    }
}

/// Opens the captures; the directions of those that go by segment are found packet by packet.
fn merge(captures: &[(Side, PathBuf)]) -> Result<Merge, CaptureError> {
    let open = |(side, path): &(Side, PathBuf)| {
        let direction = match side {
            Side::Fixed(direction) => *direction,
            Side::BySegment => Direction::Inbound,
        };
        Ok((Capture::open(path)?, direction))
    };
    captures.iter().map(open).collect::<Result<Vec<_>, CaptureError>>().map(Merge::new)
}

/// One worker: its share of every capture, as often as asked.
fn work(
    arguments: &ReplayArguments,
    loaded: &Loaded,
    captures: &[(Side, PathBuf)],
    worker: WorkerId,
    seed: [u64; 2],
    is_alone: bool,
) -> Result<Share, ReplayError> {
    let settings = loaded.settings(worker, arguments.workers as usize, seed);
    let ports = ["uplink", "downlink"];
    let name = |path: &Path| if is_alone { path.to_path_buf() } else { numbered(path, worker) };
    let pcapng = |path: &Option<PathBuf>| match path {
        Some(path) => {
            let path = name(path);
            let shown = path.display().to_string();
            let writer = PcapngWriter::create(&path, &ports).map_err(|e| ReplayError::Write(shown.clone(), e))?;
            Ok::<_, ReplayError>(Some((shown, writer)))
        }
        None => Ok(None),
    };
    let verdicts = match &arguments.verdicts {
        Some(path) if is_alone => Verdicts::File(path.display().to_string(), create(path)?),
        Some(_) => Verdicts::Kept(Vec::new()),
        None => Verdicts::None,
    };
    let mut recorder = Recorder {
        program: &loaded.program,
        verdicts,
        passed: pcapng(&arguments.passed)?,
        dropped: pcapng(&arguments.dropped)?,
        offset: 0,
        error: None,
    };
    let mut judge = Some(EngineJudge::new(loaded.load(), &settings));
    let mut share = Share {
        counters: Counters::default(),
        fates: Fates::default(),
        latency: histogram(),
        flows: FlowView::default(),
        busy: Duration::ZERO,
        verdicts: Vec::new(),
    };
    // How far the clock of this turn is ahead of the captures' own.
    let mut ahead = 0;
    for _ in 0..arguments.repeat {
        let sides = captures.iter().map(|c| c.0).collect();
        let sorter = sorter(sides, &loaded.plan.site, loaded, worker, arguments.workers, seed);
        let [source, beside] = CapturePort::pair(merge(captures)?, sorter);
        let source = source.ahead_by(ahead);
        let Some(taken) = judge.take() else { break };
        let mut line = Line::new(source, beside, taken);
        let started = Instant::now();
        loop {
            let before = Instant::now();
            let moved = line.burst(Direction::Inbound, Now(0), &mut recorder);
            let elapsed = before.elapsed();
            if moved > 0 {
                share.busy += elapsed;
                let each = elapsed.as_nanos() as u64 / moved as u64;
                share.latency.saturating_record(each);
                share.latency.saturating_record_n(each, moved as u64 - 1);
                if arguments.speed == Speed::Original {
                    let (first, last) = line.ports()[0].span();
                    let due = Duration::from_nanos(last.0.saturating_sub(first.0));
                    thread::sleep(due.saturating_sub(started.elapsed()));
                }
            } else if line.ports()[0].is_finished() {
                break;
            }
        }
        if let Some(error) = line.ports_mut()[0].take_error() {
            return Err(error.into());
        }
        if let Some(error) = recorder.error.take() {
            return Err(error);
        }
        let source = &line.ports()[0];
        recorder.offset += source.numbered();
        let (first, last) = source.span();
        ahead += last.since(first) + 1_000;
        share.fates.merge(line.fates());
        judge = Some(line.into_judge());
    }
    if let Some(judge) = &judge {
        share.counters = judge.counters().clone();
        share.flows = FlowView::of(judge.engine().flows().table().iter());
    }
    finish(recorder, &mut share)?;
    Ok(share)
}

fn finish(recorder: Recorder<'_>, share: &mut Share) -> Result<(), ReplayError> {
    match recorder.verdicts {
        Verdicts::None => {}
        Verdicts::File(name, mut out) => out.flush().map_err(|e| ReplayError::Write(name, e))?,
        Verdicts::Kept(lines) => share.verdicts = lines,
    }
    for (name, writer) in [recorder.passed, recorder.dropped].into_iter().flatten() {
        let flushed = writer.finish().and_then(|mut out| out.flush());
        flushed.map_err(|e| ReplayError::Write(name, e))?;
    }
    Ok(())
}

/// `drops.pcapng` of worker 1 is `drops.1.pcapng`.
fn numbered(path: &Path, worker: WorkerId) -> PathBuf {
    let ending = path.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
    path.with_extension(format!("{}{ending}", worker.0))
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p999: u64,
    max: u64,
}

#[derive(Debug, Serialize)]
struct WorkerRow {
    worker: usize,
    packets: u64,
    flows: usize,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Summary {
    packets: u64,
    bytes: u64,
    allowed: u64,
    denied: u64,
    seconds: f64,
    packets_per_second: f64,
    nanoseconds_per_packet: f64,
    latency_ns: Latency,
    reasons: Vec<Row>,
    top_denied: Vec<RuleRow>,
    flows: usize,
    #[serde(flatten)]
    flows_view: FlowView,
    logs: u64,
    checksums_completed: u64,
    workers: Vec<WorkerRow>,
    #[serde(skip)]
    histogram: String,
}

impl Summary {
    fn new(program: &Program, shares: &[Share], elapsed: Duration) -> Summary {
        let (mut counters, mut fates) = (Counters::default(), Fates::default());
        let mut latency = histogram();
        let mut flows = FlowView::default();
        for share in shares {
            flows.merge(&share.flows);
            counters.merge(&share.counters);
            fates.merge(&share.fates);
            // Both histograms have the same bounds.
            let _ = latency.add(&share.latency);
        }
        let sum = |verdict: Verdict, of: fn(&crate::engine::counters::Tally) -> u64| -> u64 {
            counters.reasons.iter().flat_map(|d| &d[verdict.index()]).map(of).sum()
        };
        let allowed = sum(Verdict::Allow, |t| t.packets);
        let denied = sum(Verdict::Deny, |t| t.packets);
        let packets = allowed + denied;
        let seconds = elapsed.as_secs_f64();
        let busy: f64 = shares.iter().map(|s| s.busy.as_secs_f64()).sum();
        let at = |quantile| latency.value_at_quantile(quantile);
        let row = |(worker, share): (usize, &Share)| WorkerRow {
            worker,
            packets: share.counters.reasons.iter().flatten().flatten().map(|t| t.packets).sum(),
            flows: share.flows.count(),
            seconds: share.busy.as_secs_f64(),
        };
        Summary {
            packets,
            bytes: sum(Verdict::Allow, |t| t.bytes) + sum(Verdict::Deny, |t| t.bytes),
            allowed,
            denied,
            seconds,
            packets_per_second: if seconds > 0.0 { packets as f64 / seconds } else { 0.0 },
            nanoseconds_per_packet: if packets > 0 { busy * 1e9 / packets as f64 } else { 0.0 },
            latency_ns: Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: latency.max() },
            reasons: summary::rows(&counters, &fates),
            top_denied: summary::top_denied(program, 10),
            flows: flows.count(),
            flows_view: flows,
            logs: counters.logs,
            checksums_completed: fates.completed,
            workers: shares.iter().enumerate().map(row).collect(),
            histogram: bars(&latency),
        }
    }

    fn text(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} packets, {} bytes: {} allowed, {} denied; {} flows, {} log actions, checksum-completed {}",
            self.packets, self.bytes, self.allowed, self.denied, self.flows, self.logs, self.checksums_completed
        );
        let _ = writeln!(
            text,
            "{:.3} s, {:.0} packets/s, {:.1} ns per packet in the packet line",
            self.seconds, self.packets_per_second, self.nanoseconds_per_packet
        );
        text.push_str(&summary::table(&self.reasons));
        if !self.top_denied.is_empty() {
            let _ = writeln!(text, "{:<40}{:>6}{:>14}  ORIGIN", "TOP DENIED", "RULE", "PACKETS");
            for row in &self.top_denied {
                let origin = row.origin.as_deref().unwrap_or("");
                let _ = writeln!(text, "{:<40}{:>6}{:>14}  {origin}", row.policy, row.rule, row.packets);
            }
        }
        text.push_str(&self.flows_view.text());
        let Latency { p50, p90, p99, p999, max } = &self.latency_ns;
        let _ = writeln!(text, "ns per packet: p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}");
        text.push_str(&self.histogram);
        if self.workers.len() > 1 {
            for w in &self.workers {
                let _ =
                    writeln!(text, "worker {}: {} packets, {} flows, {:.3} s", w.worker, w.packets, w.flows, w.seconds);
            }
        }
        text
    }
}

/// An empty histogram from 1 ns to 100 s; longer times count as 100 s.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds and digits are constant"))
}

/// The histogram as bars, by powers of two.
fn bars(latency: &Histogram<u64>) -> String {
    use std::fmt::Write;
    const WIDTH: u64 = 50;
    let mut buckets: Vec<(u64, u64)> = Vec::new();
    for value in latency.iter_recorded() {
        let upper = value.value_iterated_to().max(1).next_power_of_two();
        match buckets.last_mut() {
            Some(last) if last.0 == upper => last.1 += value.count_at_value(),
            _ => buckets.push((upper, value.count_at_value())),
        }
    }
    let most = buckets.iter().map(|b| b.1).max().unwrap_or(1).max(1);
    let mut text = String::new();
    for (upper, count) in buckets {
        let bar = "#".repeat((count * WIDTH).div_ceil(most) as usize);
        let _ = writeln!(text, "  <= {upper:>9} ns {count:>12} {bar}");
    }
    text
}
