//! `ringwall bench classify`: rules and headers in, what a look-up of the first match costs out.
//!
//! What is timed: headers are copied, 256 at a time, into one buffer, as they are after a burst was parsed; the clock runs only
//! while their first matches are looked up, in bursts of `--batch`. A pass goes over all headers once. The figure is the best pass,
//! which other work on the machine disturbed least; the median of the passes stands beside it.

use std::fmt::Write;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::super::arguments::{Output, exit};
use super::super::{findings, print};
use super::classbench;
use super::generate::{End, Recipe, generate};
use super::instructions::Instructions;
use super::profile::Kind;
use super::ruleset::{Burst, MISS, RuleSet, build, lookup};
use super::scan::LinearScan;
use super::traffic::{Traffic, headers};
use crate::base::address::{Family, address};
use crate::base::diagnostic::Diagnostics;
use crate::engine::program::classifier::Classifier;
use crate::engine::program::header::LANES;
use crate::packet::{Key, KeyBits};
use crate::policy::source::Source;

/// Headers that are prepared before the clock starts.
const CHUNK: usize = 256;

/// Arguments of `ringwall bench classify`.
#[derive(Debug, Args)]
pub struct ClassifyArguments {
    /// Rules in the format of ClassBench, plain or packed with gzip; the flags column is not matched
    #[arg(long, value_name = "RULES", required_unless_present = "generate", conflicts_with = "generate")]
    classbench: Option<PathBuf>,
    /// Generate rules of this kind instead
    #[arg(long, value_enum, value_name = "KIND")]
    generate: Option<Kind>,
    /// How many rules to generate
    #[arg(long, value_name = "N", default_value_t = 10_000, conflicts_with = "classbench", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rules: u32,
    /// Generate rules for IPv6
    #[arg(long, conflicts_with = "classbench")]
    ipv6: bool,
    /// Generate no catch-all: no rule joins two prefixes of up to eight bits with all ports
    #[arg(long, conflicts_with = "classbench")]
    open_end: bool,
    /// Write the rules, in the format of ClassBench
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Headers: source, destination, source port, destination port and protocol between tabs; further columns are not used
    #[arg(long, value_name = "TRACE", conflicts_with = "traffic")]
    trace: Option<PathBuf>,
    /// Which headers to make without a trace
    #[arg(long, value_enum, default_value_t)]
    traffic: Traffic,
    /// Headers per pass [default: those of the trace, else 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    lookups: Option<u32>,
    /// Headers per burst
    #[arg(long, value_name = "N", default_value_t = LANES as u16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Instructions to use [default: the best that this processor has]
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<Instructions>,
    /// Passes over the headers
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    passes: u16,
    /// Begin of the random numbers for rules and headers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Compare every answer with that of a linear scan
    #[arg(long)]
    verify: bool,
    /// Write the headers as a trace, each with the index of the rule that was found, from 0, or -1
    #[arg(long, value_name = "FILE")]
    save_headers: Option<PathBuf>,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The result as JSON.
#[derive(Debug, Serialize)]
struct Report {
    rules: usize,
    build_ms: f64,
    memory_bytes: usize,
    /// Headers per pass.
    lookups: usize,
    /// Of the best pass.
    ns_per_lookup: f64,
    mlookups_per_s: f64,
    /// `None` if nothing was verified.
    mismatches: Option<usize>,
    verified: usize,
    ns_per_lookup_median: f64,
    hits: usize,
    passes: u16,
    batch: u16,
    family: &'static str,
    source: String,
    traffic: &'static str,
    structure: &'static str,
    /// Entries in the cross product.
    broad: usize,
    estimated_ns: f64,
    /// Instructions that are used.
    level: &'static str,
}

/// Measures; returns the exit code: 0, 3 for files that cannot be used, 6 if an answer was wrong.
pub fn run(arguments: &ClassifyArguments) -> u8 {
    let mut found = Diagnostics::new();
    let mut sources = Vec::new();
    let Some((set, source)) = rules(arguments, &mut sources, &mut found) else {
        findings::print(&found, &sources);
        return exit::INVALID;
    };
    let Some(keys) = keys(arguments, &set, &mut sources, &mut found) else {
        findings::print(&found, &sources);
        return exit::INVALID;
    };
    drop(sources);

    let matches = set.matches();
    let start = Instant::now();
    let classifier = build(&matches);
    let build = start.elapsed();
    drop(matches);
    let classifier = match classifier {
        Ok(classifier) => classifier,
        Err(refusal) => {
            found.push(refusal.diagnostic());
            findings::print(&found, &[]);
            return exit::INVALID;
        }
    };

    let classifier = match Instructions::level(arguments.level) {
        Ok(level) => classifier.with_level(level),
        Err(said) => {
            print::talk(said);
            return exit::ENVIRONMENT;
        }
    };

    let (answers, mut passes) = measure(&classifier, set.family, &keys, arguments);
    passes.sort();
    let per_lookup = |pass: Option<&Duration>| pass.map_or(0.0, |p| p.as_secs_f64() * 1e9 / keys.len() as f64);
    let (best, median) = (per_lookup(passes.first()), per_lookup(passes.get(passes.len() / 2)));
    let wrong = arguments.verify.then(|| verify(&set, &keys, &answers));
    if let Some(Some(first)) = wrong.as_ref().map(|wrong| wrong.first()) {
        print::talk(&format!("error: {first}\n"));
    }
    for (path, text) in [
        (&arguments.save, arguments.save.as_ref().map(|_| classbench::write(&set))),
        (&arguments.save_headers, arguments.save_headers.as_ref().map(|_| headers_text(&set, &keys, &answers))),
    ] {
        if let (Some(path), Some(text)) = (path, text)
            && let Err(error) = fs::write(path, text)
        {
            print::talk(&format!("error: cannot write `{}`: {error}\n", path.display()));
            return exit::ENVIRONMENT;
        }
    }
    let report = Report {
        rules: set.rules.len(),
        build_ms: build.as_secs_f64() * 1e3,
        memory_bytes: classifier.bytes(),
        lookups: keys.len(),
        ns_per_lookup: best,
        mlookups_per_s: if best > 0.0 { 1e3 / best } else { 0.0 },
        mismatches: wrong.as_ref().map(Vec::len),
        verified: wrong.as_ref().map_or(0, |_| keys.len()),
        ns_per_lookup_median: median,
        hits: answers.iter().filter(|answer| **answer != MISS).count(),
        passes: arguments.passes,
        batch: arguments.batch,
        family: if set.family == Family::V4 { "ipv4" } else { "ipv6" },
        source,
        traffic: if arguments.trace.is_some() { "trace" } else { arguments.traffic.name() },
        structure: classifier.shapes().first().map_or("none", |shape| shape.structure),
        broad: classifier.shapes().first().map_or(0, |shape| shape.broad),
        estimated_ns: classifier.shapes().first().map_or(0.0, |shape| (shape.ns * 10.0).round() / 10.0),
        level: classifier.level().name(),
    };
    let text = match arguments.output {
        Output::Json => serde_json::to_string(&report).unwrap_or_default() + "\n",
        Output::Table => report.text(),
    };
    let code = if wrong.is_some_and(|wrong| !wrong.is_empty()) { exit::DEFECT } else { exit::DONE };
    print::result(&text, code)
}

/// Reads a file and keeps its text for findings.
fn read(path: &Path, sources: &mut Vec<Source>, found: &mut Diagnostics) -> Option<(String, String)> {
    let name = path.display().to_string();
    let text = classbench::read(path, found)?;
    sources.push(Source::new(name.as_str(), text.as_str()));
    Some((name, text))
}

/// The rules, and where they come from.
fn rules(
    arguments: &ClassifyArguments,
    sources: &mut Vec<Source>,
    found: &mut Diagnostics,
) -> Option<(RuleSet, String)> {
    if let Some(kind) = arguments.generate {
        let recipe = Recipe {
            kind,
            family: if arguments.ipv6 { Family::V6 } else { Family::V4 },
            rules: arguments.rules as usize,
            seed: arguments.seed,
            end: if arguments.open_end { End::Open } else { End::CatchAll },
        };
        return Some((generate(&recipe), format!("{}-{}", kind.name(), arguments.seed)));
    }
    let (name, text) = read(arguments.classbench.as_ref()?, sources, found)?;
    let set = classbench::rules(&name, &text, found);
    (!found.has_errors()).then_some((set, name))
}

/// The headers: those of the trace, again and again if more are wanted, or generated ones.
fn keys(
    arguments: &ClassifyArguments,
    set: &RuleSet,
    sources: &mut Vec<Source>,
    found: &mut Diagnostics,
) -> Option<Vec<Key>> {
    let wanted = arguments.lookups.map(|count| count as usize);
    let Some(trace) = &arguments.trace else {
        return Some(headers(set, arguments.traffic, wanted.unwrap_or(1_000_000), arguments.seed));
    };
    let (name, text) = read(trace, sources, found)?;
    let keys = classbench::trace(&name, &text, set, found);
    if found.has_errors() {
        return None;
    }
    let count = wanted.unwrap_or(keys.len());
    Some(keys.into_iter().cycle().take(count).collect())
}

/// The answers, and how long each pass took.
fn measure(
    classifier: &Classifier,
    family: Family,
    keys: &[Key],
    arguments: &ClassifyArguments,
) -> (Vec<u32>, Vec<Duration>) {
    let mut answers = vec![MISS; keys.len()];
    let mut buffer = vec![Key::EMPTY; CHUNK];
    let packed: Vec<Packed> = keys.iter().map(Packed::of).collect();
    let batch = usize::from(arguments.batch.max(1));
    let mut scratch = Burst::default();
    let mut pass = || {
        let mut spent = Duration::ZERO;
        for ((chunk, packed), out) in keys.chunks(CHUNK).zip(packed.chunks(CHUNK)).zip(answers.chunks_mut(CHUNK)) {
            buffer.clear();
            match family {
                Family::V4 => buffer.extend(packed.iter().map(Packed::key)),
                Family::V6 => buffer.extend_from_slice(chunk),
            }
            let start = Instant::now();
            for (burst, out) in buffer.chunks(batch).zip(out.chunks_mut(batch)) {
                lookup(classifier, &mut scratch, burst, out);
            }
            spent += start.elapsed();
        }
        spent
    };
    let passes = (0..arguments.passes).map(|_| pass()).collect();
    (answers, passes)
}

/// An IPv4 header as it waits for its turn: small, so that what is measured does not compete with it for the caches.
#[derive(Clone, Copy)]
struct Packed {
    src: u32,
    dst: u32,
    ports: [u16; 2],
    protocol: u8,
    bits: KeyBits,
}

impl Packed {
    fn of(key: &Key) -> Packed {
        let (src, dst) = (key.src as u32, key.dst as u32);
        Packed { src, dst, ports: [key.sport, key.dport], protocol: key.protocol, bits: key.bits }
    }

    fn key(&self) -> Key {
        let [sport, dport] = self.ports;
        let (src, dst) = (u128::from(self.src), u128::from(self.dst));
        Key { src, dst, sport, dport, protocol: self.protocol, bits: self.bits, ..Key::EMPTY }
    }
}

/// One line per wrong answer. Works on all processors; the cost is that of the linear scan.
fn verify(set: &RuleSet, keys: &[Key], answers: &[u32]) -> Vec<String> {
    let scan = LinearScan::new(set);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = keys.len().div_ceil(workers).max(1);
    let check = |keys: &[Key], answers: &[u32]| -> Vec<String> {
        let pairs = keys.iter().zip(answers).map(|(key, answer)| (key, *answer, scan.first(key)));
        let wrong = pairs.filter(|(_, answer, expected)| answer != expected);
        wrong.map(|(key, answer, expected)| mismatch(set, key, answer, expected)).collect()
    };
    thread::scope(|scope| {
        let parts = keys.chunks(share).zip(answers.chunks(share));
        let threads: Vec<_> = parts.map(|(keys, answers)| scope.spawn(move || check(keys, answers))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// What is wrong about an answer.
fn mismatch(set: &RuleSet, key: &Key, answer: u32, expected: u32) -> String {
    let rule = |index: u32| if index == MISS { "no rule".to_string() } else { format!("rule {index}") };
    format!(
        "{}:{} > {}:{} protocol {}: the classifier finds {}, the linear scan {}",
        address(set.family, key.src),
        key.sport,
        address(set.family, key.dst),
        key.dport,
        key.protocol,
        rule(answer),
        rule(expected)
    )
}

/// A trace with the answers behind.
fn headers_text(set: &RuleSet, keys: &[Key], answers: &[u32]) -> String {
    let mut text = String::with_capacity(keys.len() * 48);
    let show = |number: u128| match set.family {
        Family::V4 => number.to_string(),
        Family::V6 => address(Family::V6, number).to_string(),
    };
    for (key, answer) in keys.iter().zip(answers) {
        let found = if *answer == MISS { -1 } else { i64::from(*answer) };
        let (src, dst) = (show(key.src), show(key.dst));
        let _ = writeln!(text, "{src}\t{dst}\t{}\t{}\t{}\t{found}", key.sport, key.dport, key.protocol);
    }
    text
}

impl Report {
    fn text(&self) -> String {
        let verified = match self.mismatches {
            Some(wrong) => format!("{wrong} of {} answers differ from the linear scan", self.verified),
            None => "answers not verified (--verify compares them with a linear scan)".to_string(),
        };
        format!(
            "rules      {} ({}, {})\nstructure  {} ({} broad entries, {}), {:.2} MB, built in {:.1} ms, estimated {:.1} ns\nlook-up    {:.1} ns, {:.1} M/s: best of {} passes \
             over {} headers ({}), bursts of {}; median {:.1} ns\nhits       {:.1} %\n{verified}\n",
            self.rules,
            self.family,
            self.source,
            self.structure,
            self.broad,
            self.level,
            self.memory_bytes as f64 / 1e6,
            self.build_ms,
            self.estimated_ns,
            self.ns_per_lookup,
            self.mlookups_per_s,
            self.passes,
            self.lookups,
            self.traffic,
            self.batch,
            self.ns_per_lookup_median,
            self.hits as f64 * 100.0 / self.lookups.max(1) as f64,
        )
    }
}
