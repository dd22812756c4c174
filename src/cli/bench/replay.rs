//! `ringwall bench replay`: numbers of rules, flows and packets in, packets per second of captures from the page cache out.
//!
//! The captures are written to a directory that is removed afterwards, and played again and again by the code that `ringwall replay`
//! runs, each time with empty tables. The clock starts when the packets that open the flows are through; a reader beside the worker is
//! some thousand packets ahead of it then, as at any other time. In turn with it run the two parts that are no packet line: finding
//! and merging the packets without judging them, and reading the blocks alone. An interrupt ends it between two parts of a turn, and
//! removes the directory as well.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::captures::{Place, Sides, Size, Wish, Written, write};
use crate::base::address::Direction;
use crate::base::id::WorkerId;
use crate::cli::arguments::{Output, exit};
use crate::cli::lab::stop_flag;
use crate::cli::replay::sort::sorter;
use crate::cli::replay::turn::{Meter, Speed, play};
use crate::cli::replay::{Side, merge, reading};
use crate::cli::{findings, print};
use crate::control::load::{Loaded, Request, load};
use crate::engine::{Counters, Verdict};
use crate::io::pcap::{CapturePort, Reading};
use crate::io::{Frames, Port};
use crate::lab::LabError;
use crate::worker::{EngineJudge, Judge, Line, NoTap};

/// Bytes before each packet in a pcap file.
const RECORD_HEADER: u64 = 16;
/// Bytes that are read at once where reading alone is measured.
const BLOCK: usize = 1 << 20;
/// Packets between two looks whether the user wants to stop: some ten milliseconds.
const PIECE: u64 = 1 << 20;

/// Arguments of `ringwall bench replay`.
///
/// Every packet passes all stages of the data path: found in its capture, parsed, looked up among the flows, judged by the whole
/// policy where it begins a flow, its verdict carried out. Where a processor is free, a thread beside the worker reads and merges.
#[derive(Clone, Debug, Args)]
pub struct ReplayArguments {
    /// Rules of the policy
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rules: u32,
    /// Flows that are active at any time; the captures begin with the packets that open them, which are not measured
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    flows: u32,
    /// Packets of the captures that are measured: of random flows, in random directions
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    frames: u32,
    /// Of a thousand of those, how many begin a new flow in the place of another one
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    new: u32,
    /// Bytes of a frame on the wire, frame check sequence included (64 to 1518), or `imix`: 64, 594 and 1518 bytes as 7:4:1
    #[arg(long, value_name = "BYTES|imix", default_value = "64")]
    size: Size,
    /// What is captured where
    #[arg(long, value_enum, default_value_t = Sides::Both)]
    captures: Sides,
    /// Seconds to measure
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Write the gateway file, the policy and the captures to this directory and leave them there, for `ringwall replay`
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The result; figures are medians over all turns.
#[derive(Clone, Debug, Serialize)]
struct Report {
    rules: u32,
    flows: u32,
    new: u32,
    size: String,
    packets: u64,
    capture_bytes: u64,
    turns: usize,
    mpps: f64,
    gigabits_per_s: f64,
    ns_per_packet: f64,
    stages_ns: Stages,
    reader_threads: u32,
    reader_ns: f64,
    waiting_ns: f64,
    floor_mpps: f64,
    best_mpps: f64,
    allocations_per_packet: f64,
}

/// Nanoseconds per packet: the first two of the thread that reads, the third of the worker's.
#[derive(Clone, Copy, Debug, Serialize)]
struct Stages {
    /// Moving the blocks out of the page cache.
    read: f64,
    /// Finding the packets in them and merging the captures by time.
    find: f64,
    /// The packet line: parse, flow, verdict, fate.
    line: f64,
}

/// Measures and prints.
pub fn run(arguments: &ReplayArguments, allocations: fn() -> u64) -> u8 {
    let report = match measure(arguments, allocations) {
        Ok(report) => report,
        Err(Fault::Files(error)) => {
            print::talk(&format!("error: cannot write the captures: {error}\n"));
            return exit::ENVIRONMENT;
        }
        Err(Fault::Defect(defect)) => {
            print::talk(&format!("error: {defect}\n"));
            return exit::DEFECT;
        }
        Err(Fault::Ended(error)) => {
            print::talk(&format!("error: {error}\n"));
            return error.exit_code();
        }
    };
    let text = match arguments.output {
        Output::Table => table(arguments, &report),
        Output::Json => serde_json::to_string(&report).map_or_else(|error| error.to_string(), |json| json + "\n"),
    };
    print::result(&text, exit::DONE)
}

/// Why there is no result.
#[derive(Debug)]
enum Fault {
    Files(io::Error),
    Defect(String),
    /// By the user, or because it could not be told of the user's wish to end it.
    Ended(LabError),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Files(error)
    }
}

fn defect(error: impl std::fmt::Display) -> Fault {
    Fault::Defect(error.to_string())
}

fn measure(arguments: &ReplayArguments, allocations: fn() -> u64) -> Result<Report, Fault> {
    let interrupted = || Fault::Ended(LabError::Interrupted);
    let stop = stop_flag().map_err(Fault::Ended)?;
    let place = match &arguments.keep {
        Some(path) => Place::kept(path)?,
        None => Place::temporary()?,
    };
    let ReplayArguments { rules, flows, frames, new, size, captures: sides, .. } = *arguments;
    let written = write(&place, &Wish { rules, flows, frames, new, size, sides }, &stop)?.ok_or_else(interrupted)?;
    let request = Request { gateway: Some(written.gateway.clone()), ..Request::default() };
    let outcome = load(&request, 1, Some(1));
    let loaded = outcome.loaded.ok_or_else(|| defect(findings::text(&outcome.findings, &outcome.sources)))?;
    let mut bench = Bench::new(&loaded, &written, sides, &stop);
    let (mut whole, mut found, mut read) = (Vec::new(), Vec::new(), Vec::new());
    let (mut line, mut reader, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    let mut counted = 0;
    let end = Instant::now() + Duration::from_secs_f64(arguments.seconds);
    // The first turn of each brings the files into the page cache and the memory of the tables from the kernel.
    for turn in 0.. {
        let Whole { packets, spent, asked, meter } = bench.whole(allocations)?;
        let each = |time: Duration, packets: u64| time.as_secs_f64() * 1e9 / packets.max(1) as f64;
        let without = bench.without_line()?;
        let reading = bench.reading()?;
        if turn > 0 {
            counted += asked;
            whole.push(each(spent, packets));
            line.push(each(meter.busy, packets));
            reader.push(each(meter.reading, packets));
            waiting.push(each(meter.waiting, packets));
            found.push(each(without.1, without.0));
            // Of all bytes, the share of those packets that the other two are measured over.
            let share = (bench.bytes + RECORD_HEADER * written.rest) as f64 / written.bytes.max(1) as f64;
            read.push(each(reading.mul_f64(share), written.rest));
            if Instant::now() >= end {
                break;
            }
        }
    }
    let turns = whole.len();
    let best = whole.iter().copied().fold(f64::INFINITY, f64::min);
    let [whole, found, read, line, reader, waiting] =
        [whole, found, read, line, reader, waiting].map(|mut figures| median(&mut figures));
    let packets = written.rest;
    Ok(Report {
        rules,
        flows,
        new,
        size: size.to_string(),
        packets,
        capture_bytes: written.bytes,
        turns,
        mpps: 1e3 / whole,
        gigabits_per_s: bench.bytes as f64 * 8.0 / (whole * packets as f64),
        ns_per_packet: whole,
        stages_ns: Stages { read, find: reader - read, line },
        reader_threads: u32::from(reading(1) == Reading::Beside),
        reader_ns: reader,
        waiting_ns: waiting,
        floor_mpps: 1e3 / found,
        best_mpps: 1e3 / best,
        allocations_per_packet: counted as f64 / (turns as u64 * packets).max(1) as f64,
    })
}

/// The one in the middle; 0 of none.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

/// What one turn through the whole data path took.
struct Whole {
    packets: u64,
    spent: Duration,
    /// How often memory was asked for, by all threads.
    asked: u64,
    /// Where the time went.
    meter: Meter,
}

/// The captures, and what they are judged by.
struct Bench<'a> {
    loaded: &'a Loaded,
    written: &'a Written,
    captures: Vec<(Side, PathBuf)>,
    judge: Option<EngineJudge>,
    seed: [u64; 2],
    block: Vec<u8>,
    /// Bytes of the frames of one turn.
    bytes: u64,
    /// Set when the user wants to stop.
    stop: &'a AtomicBool,
}

impl<'a> Bench<'a> {
    fn new(loaded: &'a Loaded, written: &'a Written, sides: Sides, stop: &'a AtomicBool) -> Bench<'a> {
        let sides: &[Side] = match sides {
            Sides::Both => &[Side::Fixed(Direction::Inbound), Side::Fixed(Direction::Outbound)],
            Sides::Uplink => &[Side::Fixed(Direction::Inbound)],
            Sides::Mixed => &[Side::BySegment],
        };
        let seed = [0x5eed_0f0a_bead_5eed, 0x0123_4567_89ab_cdef];
        let judge = EngineJudge::new(loaded.load(), &loaded.settings(WorkerId(0), 1, seed));
        judge.populate();
        let captures = sides.iter().copied().zip(written.captures.iter().cloned()).collect();
        Bench { loaded, written, captures, judge: Some(judge), seed, block: vec![0; BLOCK], bytes: 0, stop }
    }

    fn go_on(&self) -> Result<(), Fault> {
        if self.stop.load(Ordering::Relaxed) { Err(Fault::Ended(LabError::Interrupted)) } else { Ok(()) }
    }

    /// Takes packets piece by piece until there are none; returns how many.
    fn pieces(&self, mut take: impl FnMut(u64) -> Result<u64, Fault>) -> Result<u64, Fault> {
        let mut packets = 0;
        loop {
            self.go_on()?;
            match take(PIECE)? {
                0 => return Ok(packets),
                some => packets += some,
            }
        }
    }

    fn ports(&self) -> Result<[CapturePort; 2], Fault> {
        let sides: Vec<Side> = self.captures.iter().map(|capture| capture.0).collect();
        let sorter = sorter(&sides, self.loaded, WorkerId(0), 1, self.seed);
        Ok(CapturePort::pair(merge(&self.captures).map_err(defect)?, sorter, reading(1)))
    }

    /// All that `ringwall replay` does.
    fn whole(&mut self, allocations: fn() -> u64) -> Result<Whole, Fault> {
        let [source, beside] = self.ports()?;
        let Some(mut judge) = self.judge.take() else { return Err(defect("the engine was lost")) };
        judge.forget();
        let before = allowed(judge.counters());
        let mut line = Line::new(source, beside, judge);
        let mut meter = Meter::new();
        let opening =
            play(&mut line, &mut NoTap, Speed::Max, self.written.opening, &mut Meter::new()).map_err(defect)?;
        let bytes = allowed(line.judge().counters()).1;
        let asked = allocations();
        let start = Instant::now();
        let packets = self.pieces(|most| play(&mut line, &mut NoTap, Speed::Max, most, &mut meter).map_err(defect))?;
        let (spent, asked) = (start.elapsed(), allocations() - asked);
        let judge = line.into_judge();
        let after = allowed(judge.counters());
        self.bytes = after.1 - bytes;
        self.judge = Some(judge);
        let (all, passed) = (self.written.opening + self.written.rest, after.0 - before.0);
        if (opening + packets, passed) != (all, all) {
            return Err(defect(format!("{all} packets were written, {} played, {passed} allowed", opening + packets)));
        }
        Ok(Whole { packets, spent, asked, meter })
    }

    /// The same without the packet line: packets and the time they took.
    fn without_line(&self) -> Result<(u64, Duration), Fault> {
        let [mut source, _beside] = self.ports()?;
        let opening = drain(&mut source, self.written.opening);
        let start = Instant::now();
        let packets = self.pieces(|most| Ok(drain(&mut source, most)))?;
        let spent = start.elapsed();
        match source.take_error() {
            Some(error) => Err(defect(error)),
            None if opening + packets == self.written.opening + self.written.rest => Ok((packets, spent)),
            None => Err(defect("packets were lost on the way out of the captures")),
        }
    }

    /// Reading all blocks and looking at nothing.
    fn reading(&mut self) -> Result<Duration, Fault> {
        let files: Vec<File> =
            self.written.captures.iter().map(File::open).collect::<io::Result<_>>().map_err(defect)?;
        let start = Instant::now();
        for mut file in files {
            while file.read(&mut self.block).map_err(defect)? > 0 {
                self.go_on()?;
            }
        }
        Ok(start.elapsed())
    }
}

/// Takes frames and gives them back, at least `most` if there are so many.
fn drain(source: &mut CapturePort, most: u64) -> u64 {
    let mut frames = Frames::new();
    let mut packets = 0;
    while packets < most && !source.is_finished() {
        packets += source.receive(&mut frames) as u64;
        while let Some(frame) = frames.pop() {
            source.recycle(frame);
        }
    }
    packets
}

/// Packets and bytes that were allowed so far.
fn allowed(counters: &Counters) -> (u64, u64) {
    let tallies = counters.reasons.iter().flat_map(|direction| &direction[Verdict::Allow.index()]);
    tallies.fold((0, 0), |sum, tally| (sum.0 + tally.packets, sum.1 + tally.bytes))
}

fn table(arguments: &ReplayArguments, report: &Report) -> String {
    let Stages { read, find, line } = report.stages_ns;
    let Report { reader_ns, waiting_ns, .. } = report;
    let thread = match report.reader_threads {
        0 => "the same thread, between bursts",
        _ => "a thread beside",
    };
    let of = match arguments.captures {
        Sides::Both => "captures of uplink and downlink",
        Sides::Uplink => "a capture of the uplink",
        Sides::Mixed => "a capture of both directions",
    };
    let size = match arguments.size {
        Size::Fixed(bytes) => format!("frames of {bytes} bytes"),
        Size::Imix => "frames of 64, 594 and 1518 bytes as 7:4:1".to_owned(),
    };
    format!(
        "{} rules, {} active flows, {} new ones per 1000 packets, {size}, {of} from the page cache\n\n\
         {:>10.2} million packets per second ({:.2} at best of {} turns of {} packets), {:.2} Gbit/s\n\
         {:>10.2} of the same found in their captures and not judged\n\
         {:>10.1} ns per packet\n{line:>10.1}   packet line\n{waiting_ns:>10.1}   until packets were read\n\
         {reader_ns:>10.1} ns per packet on {thread}\n{read:>10.1}   read\n{find:>10.1}   find and merge\n\
         {:>10.3} allocations per packet\n",
        report.rules,
        report.flows,
        report.new,
        report.mpps,
        report.best_mpps,
        report.turns,
        report.packets,
        report.gigabits_per_s,
        report.floor_mpps,
        report.ns_per_packet,
        report.allocations_per_packet,
    )
}
