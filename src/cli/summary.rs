//! Counters in, the summary of a run or a replay out, as text and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::control::daemon::Summary;
use crate::engine::counters::Tally;
use crate::engine::{Counters, Program, Reason, Verdict};
use crate::worker::{Fates, Latency};

/// Packets and bytes with one verdict and reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    verdict: &'static str,
    reason: &'static str,
    packets: u64,
    bytes: u64,
}

/// How often a rule decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleRow {
    /// Policy as it is reported.
    pub policy: String,
    /// Position in its list.
    pub rule: u32,
    /// File and line.
    pub origin: Option<String>,
    /// Packets it decided.
    pub packets: u64,
}

/// Rows for every verdict and reason that occurred, most packets first. Frames that were allowed and then could not be
/// transmitted have the verdict `lost` beside their `allow`.
pub fn rows(counters: &Counters, fates: &Fates) -> Vec<Row> {
    let mut rows = Vec::new();
    for &verdict in Verdict::ALL {
        for &reason in Reason::ALL {
            let Tally { packets, bytes } = counters.total(verdict, reason);
            rows.push(Row { verdict: verdict.name(), reason: reason.name(), packets, bytes });
        }
    }
    let lost = |reason: Reason, tallies: &[&[Tally; 2]]| {
        let sum = |of: fn(&Tally) -> u64| tallies.iter().flat_map(|t| t.iter()).map(of).sum();
        Row { verdict: "lost", reason: reason.name(), packets: sum(|t| t.packets), bytes: sum(|t| t.bytes) }
    };
    rows.push(lost(Reason::TxRingFull, &[&fates.ring_full, &fates.handover_full]));
    rows.push(lost(Reason::MtuExceeded, &[&fates.too_long]));
    rows.retain(|row| row.packets > 0);
    rows.sort_by_key(|row| std::cmp::Reverse(row.packets));
    rows
}

/// The rules that denied most, with their counts.
pub fn top_denied(program: &Program, most: usize) -> Vec<RuleRow> {
    use crate::base::id::RuleId;
    use crate::engine::program::Effect;
    let mut rules: Vec<RuleId> = program
        .entries
        .iter()
        .filter(|entry| matches!(entry.effect, Effect::Deny) && entry.rule.is_some())
        .map(|entry| entry.rule)
        .collect();
    rules.sort_unstable();
    rules.dedup();
    let mut rows: Vec<RuleRow> = rules
        .into_iter()
        .filter_map(|rule| {
            let (origin, packets) = (program.origin(rule)?, program.hits.total(rule));
            let at = origin.span.as_ref().map(|span| format!("{}:{}", span.file, span.line));
            Some(RuleRow { policy: origin.policy.clone(), rule: origin.index, origin: at, packets })
        })
        .filter(|row| row.packets > 0)
        .collect();
    rows.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| (&a.policy, a.rule).cmp(&(&b.policy, b.rule))));
    rows.truncate(most);
    rows
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{:<8}{:<22}{:>14}{:>18}", "VERDICT", "REASON", "PACKETS", "BYTES");
    for row in rows {
        let _ = writeln!(text, "{:<8}{:<22}{:>14}{:>18}", row.verdict, row.reason, row.packets, row.bytes);
    }
    text
}

/// One queue of one port in the summary of a run.
#[derive(Debug, Serialize)]
struct QueueRow {
    port: String,
    mode: &'static str,
    queue: u32,
    receive_wake_ups: u64,
    transmit_wake_ups: u64,
    fill_ring_empty: u64,
    receive_ring_full: u64,
    receive_dropped: u64,
    invalid_descriptors: u64,
}

/// How long the frames of one queue that were sent spent inside the box, from receive ring to transmit ring, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyRow {
    queue: u32,
    packets: u64,
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
}

impl LatencyRow {
    /// The figures of a queue.
    pub fn of(queue: u32, latency: &Latency) -> LatencyRow {
        let seen = latency.histogram();
        let [p50_ns, p99_ns, p999_ns] = [0.5, 0.99, 0.999].map(|quantile| seen.value_at_quantile(quantile));
        LatencyRow { queue, packets: seen.len(), p50_ns, p99_ns, p999_ns, max_ns: seen.max() }
    }
}

/// What became of Log actions.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Log {
    /// Lines written.
    pub written: u64,
    /// Lines that the rate limit held back.
    pub held_back: u64,
    /// Logged packets that found the queue full.
    pub lost: u64,
}

#[derive(Debug, Serialize)]
struct RunSummary {
    seconds: f64,
    generation: u64,
    packets: u64,
    bytes: u64,
    transmitted: u64,
    checksums_completed: u64,
    handed_over: u64,
    left_to_kernel: u64,
    without_socket: u64,
    lost_frames: u64,
    flows: usize,
    log: Log,
    reasons: Vec<Row>,
    queues: Vec<QueueRow>,
    latency: Vec<LatencyRow>,
}

fn run_summary(done: &Summary, log: Log) -> RunSummary {
    let reasons = rows(&done.counters, &done.fates);
    let received: Vec<Tally> = done.counters.reasons.iter().flatten().flatten().copied().collect();
    let queues = done.workers.iter().flat_map(|report| {
        done.ports.iter().zip(&report.queues).map(|(port, figures)| QueueRow {
            port: port.interface.clone(),
            mode: port.mode.name(),
            queue: report.worker.0,
            receive_wake_ups: figures.receive_wake_ups,
            transmit_wake_ups: figures.transmit_wake_ups,
            fill_ring_empty: figures.fill_ring_empty,
            receive_ring_full: figures.receive_ring_full,
            receive_dropped: figures.receive_dropped,
            invalid_descriptors: figures.invalid_descriptors + figures.bad_descriptors,
        })
    });
    RunSummary {
        seconds: done.elapsed.as_secs_f64(),
        generation: done.generation,
        packets: received.iter().map(|t| t.packets).sum(),
        bytes: received.iter().map(|t| t.bytes).sum(),
        transmitted: done.fates.transmitted.iter().map(|t| t.packets).sum(),
        checksums_completed: done.fates.completed,
        handed_over: done.fates.handed_over,
        left_to_kernel: done.left_to_kernel.iter().map(|l| l.to_the_box).sum(),
        without_socket: done.left_to_kernel.iter().map(|l| l.without_socket).sum(),
        lost_frames: done.lost_frames,
        flows: done.workers.iter().map(|report| report.flows).sum(),
        log,
        reasons,
        queues: queues.collect(),
        latency: done.workers.iter().map(|report| LatencyRow::of(report.worker.0, &report.latency)).collect(),
    }
}

/// The summary of a run as one JSON object.
pub fn run_json(done: &Summary, log: Log) -> String {
    serde_json::to_string(&run_summary(done, log)).unwrap_or_default()
}

/// The summary of a run for people.
pub fn run_text(done: &Summary, log: Log) -> String {
    let s = run_summary(done, log);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} packets, {} bytes in {:.1} s; {} transmitted, {} flows, policy generation {}",
        s.packets, s.bytes, s.seconds, s.transmitted, s.flows, s.generation
    );
    let _ = writeln!(
        text,
        "checksum-completed {}, handed over {}, left to the kernel {}, on queues without a socket {}",
        s.checksums_completed, s.handed_over, s.left_to_kernel, s.without_socket
    );
    if s.log.written + s.log.held_back + s.log.lost > 0 {
        let Log { written, held_back, lost } = s.log;
        let _ = writeln!(
            text,
            "log actions: {written} lines written, {held_back} held back by the rate limit, {lost} lost"
        );
    }
    if s.lost_frames > 0 {
        let _ = writeln!(text, "defect: {} chunks of the frame memory are unaccounted for", s.lost_frames);
    }
    text.push_str(&table(&s.reasons));
    let _ = writeln!(
        text,
        "{:<10}{:<12}{:>6}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "PORT", "MODE", "QUEUE", "RX WAKES", "TX WAKES", "FILL EMPTY", "RING FULL", "DROPPED"
    );
    for q in &s.queues {
        let _ = writeln!(
            text,
            "{:<10}{:<12}{:>6}{:>12}{:>12}{:>12}{:>12}{:>12}",
            q.port,
            q.mode,
            q.queue,
            q.receive_wake_ups,
            q.transmit_wake_ups,
            q.fill_ring_empty,
            q.receive_ring_full,
            q.receive_dropped
        );
    }
    for l in s.latency.iter().filter(|l| l.packets > 0) {
        let [p50, p99, p999, max] =
            [l.p50_ns, l.p99_ns, l.p999_ns, l.max_ns].map(|nanoseconds| nanoseconds as f64 / 1e3);
        let _ = writeln!(
            text,
            "queue {}: {} packets inside for p50 {p50:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1} us",
            l.queue, l.packets
        );
    }
    text
}
