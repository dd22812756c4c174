//! `ringwall replay`: captures through the packet line, as fast as it goes or as fast as they came, and what became of them.

mod account;
mod recorder;
pub(super) mod sort;
pub(super) mod turn;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use clap::Args;

use self::account::{Share, Summary};
use self::recorder::Recorder;
use self::sort::sorter;
use self::turn::{Meter, Speed, play};
use super::arguments::{GatewayArguments, Output, exit};
use super::flow_view::FlowView;
use super::{findings, print, run as run_verb};
use crate::base::address::Direction;
use crate::base::diagnostic::did_you_mean;
use crate::base::id::WorkerId;
use crate::control::load::{Loaded, load};
use crate::io::pcap::{Capture, CaptureError, CapturePort, Merge, Reading};
use crate::worker::{EngineJudge, Fates, Judge, Line, NoTap};

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
    /// Workers, each on a thread with the flows that it owns; where there are more processors than workers, a thread beside each
    /// reads its captures
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Form of the summary
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
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
pub(super) enum Side {
    Fixed(Direction),
    BySegment,
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
    let mut shares: Vec<Share> = if workers == 1 {
        vec![work(arguments, loaded, captures, WorkerId(0), seed)?]
    } else {
        if arguments.passed.is_some() || arguments.dropped.is_some() {
            let note =
                "with several workers, `--passed` and `--dropped` write one file per worker: drops.0.pcapng, ...";
            print::talk(&format!("note: {note}\n"));
        }
        thread::scope(|scope| {
            let spawn = |w| scope.spawn(move || work(arguments, loaded, captures, WorkerId(w), seed));
            let all: Vec<_> = (0..workers).map(spawn).collect();
            all.into_iter().map(|worker| worker.join().map_err(|_| ReplayError::Defect)?).collect::<Result<_, _>>()
        })?
    };
    if let Some(path) = arguments.verdicts.as_ref().filter(|_| workers > 1) {
        let mut lines: Vec<(u64, String)> = shares.iter_mut().flat_map(|s| s.verdicts.drain(..)).collect();
        lines.sort_unstable_by_key(|line| line.0);
        let mut out = recorder::create(path)?;
        for (_, line) in lines {
            writeln!(out, "{line}").map_err(|e| ReplayError::Write(path.display().to_string(), e))?;
        }
        out.flush().map_err(|e| ReplayError::Write(path.display().to_string(), e))?;
    }
    let summary = Summary::new(&loaded.program, &shares);
    let text = match arguments.output {
        Output::Json => serde_json::to_string(&summary).unwrap_or_default() + "\n",
        Output::Table => summary.text(),
    };
    Ok(print::result(&text, exit::DONE))
}

/// Who reads the captures of each of so many workers. A reader that takes turns with another worker on one processor slows both.
pub(super) fn reading(workers: u32) -> Reading {
    match thread::available_parallelism() {
        Ok(processors) if processors.get() > workers as usize => Reading::Beside,
        _ => Reading::Between,
    }
}

/// Opens the captures; the directions of those that go by segment are found packet by packet.
pub(super) fn merge(captures: &[(Side, PathBuf)]) -> Result<Merge, CaptureError> {
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
) -> Result<Share, ReplayError> {
    let settings = loaded.settings(worker, arguments.workers as usize, seed);
    let mut recorder = Recorder::create(arguments, &loaded.program, worker)?;
    let mut judge = Some(EngineJudge::new(loaded.load(), &settings));
    let sides: Vec<Side> = captures.iter().map(|c| c.0).collect();
    let (mut meter, mut fates) = (Meter::new(), Fates::default());
    let mut reading = reading(arguments.workers);
    // How far the clock of this turn is ahead of the captures' own.
    let mut ahead = 0;
    let started = Instant::now();
    for _ in 0..arguments.repeat {
        let sorter = sorter(&sides, loaded, worker, arguments.workers, seed);
        let [source, beside] = CapturePort::pair(merge(captures)?, sorter, reading);
        let Some(taken) = judge.take() else { break };
        let mut line = Line::new(source.ahead_by(ahead), beside, taken);
        match &mut recorder {
            Some(recorder) => play(&mut line, recorder, arguments.speed, u64::MAX, &mut meter)?,
            None => play(&mut line, &mut NoTap, arguments.speed, u64::MAX, &mut meter)?,
        };
        let source = &line.ports()[0];
        reading = source.reads();
        if let Some(recorder) = &mut recorder {
            if let Some(error) = recorder.error.take() {
                return Err(error);
            }
            recorder.offset += source.numbered();
        }
        let (first, last) = source.span();
        ahead += last.since(first) + 1_000;
        fates.merge(line.fates());
        judge = Some(line.into_judge());
    }
    let elapsed = started.elapsed();
    let (counters, flows) = match &judge {
        Some(judge) => (judge.counters().clone(), FlowView::of(judge.engine().flows().table().iter())),
        None => Default::default(),
    };
    let verdicts = recorder.map_or(Ok(Vec::new()), Recorder::finish)?;
    Ok(Share { counters, fates, meter, reading, elapsed, flows, verdicts })
}
