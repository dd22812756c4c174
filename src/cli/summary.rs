//! Counters in, the summary of a run or a replay out, as text and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::control::daemon::Summary;
use crate::engine::counters::Tally;
use crate::engine::{Counters, Program, Reason, Verdict};
use crate::worker::{Fates, Latency, Report};

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
    device_polls: u64,
    receive_wake_ups: u64,
    transmit_wake_ups: u64,
    transmit_errors: u64,
    fill_ring_empty: u64,
    receive_ring_full: u64,
    receive_dropped: u64,
    invalid_fill_descriptors: u64,
    invalid_transmit_descriptors: u64,
    transmit_ring_empty: u64,
    bad_descriptors: u64,
    stalls: u64,
}

/// How one worker waited in a run.
#[derive(Debug, Serialize)]
struct WorkerRow {
    worker: u32,
    bursts: u64,
    sleeps: u64,
    woken: u64,
    busy_ns: u64,
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
    workers: Vec<WorkerRow>,
    latency: Vec<LatencyRow>,
}

fn run_summary(done: &Summary, log: Log) -> RunSummary {
    let reasons = rows(&done.counters, &done.fates);
    let received: Vec<Tally> = done.counters.reasons.iter().flatten().flatten().copied().collect();
    let queues = done.workers.iter().flat_map(|report| {
        let stalls = done.stalls.get(report.worker.index()).unwrap_or(&[0; 2]);
        done.ports.iter().zip(&report.queues).zip(stalls).map(|((port, figures), stalls)| QueueRow {
            port: port.interface.clone(),
            mode: port.mode.name(),
            queue: report.worker.0,
            device_polls: figures.device_polls,
            receive_wake_ups: figures.receive_wake_ups,
            transmit_wake_ups: figures.transmit_wake_ups,
            transmit_errors: figures.transmit_errors,
            fill_ring_empty: figures.fill_ring_empty,
            receive_ring_full: figures.receive_ring_full,
            receive_dropped: figures.receive_dropped,
            invalid_fill_descriptors: figures.invalid_fill_descriptors,
            invalid_transmit_descriptors: figures.invalid_transmit_descriptors,
            transmit_ring_empty: figures.transmit_ring_empty,
            bad_descriptors: figures.bad_descriptors,
            stalls: *stalls,
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
        workers: done.workers.iter().map(worker_row).collect(),
        latency: done.workers.iter().map(|report| LatencyRow::of(report.worker.0, &report.latency)).collect(),
    }
}

fn worker_row(report: &Report) -> WorkerRow {
    let Fates { bursts, sleeps, woken, .. } = report.fates;
    WorkerRow { worker: report.worker.0, bursts, sleeps, woken, busy_ns: report.busy }
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
    text.push_str(&queue_table(&s.queues));
    for WorkerRow { worker, bursts, sleeps, woken, busy_ns } in &s.workers {
        let busy = *busy_ns as f64 / 1e9;
        let _ = writeln!(
            text,
            "worker {worker}: {bursts} bursts in {busy:.3} s of work; {sleeps} sleeps, {woken} of them ended by a wake-up"
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

/// Wake-ups and what the kernel counts, one line per queue of a port; what may not happen follows in words if it did.
fn queue_table(queues: &[QueueRow]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<10}{:<12}{:>6}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "PORT", "MODE", "QUEUE", "POLLS", "RX WAKES", "TX WAKES", "FILL EMPTY", "RING FULL", "DROPPED", "TX EMPTY"
    );
    for q in queues {
        let _ = writeln!(
            text,
            "{:<10}{:<12}{:>6}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            q.port,
            q.mode,
            q.queue,
            q.device_polls,
            q.receive_wake_ups,
            q.transmit_wake_ups,
            q.fill_ring_empty,
            q.receive_ring_full,
            q.receive_dropped,
            q.transmit_ring_empty
        );
    }
    for q in queues {
        let told = [
            (q.invalid_fill_descriptors, "descriptors of the fill ring refused by the kernel"),
            (q.invalid_transmit_descriptors, "descriptors of the transmit ring refused by the kernel"),
            (q.bad_descriptors, "descriptors of the kernel that name no chunk"),
            (q.transmit_errors, "wake-ups to send refused by the kernel"),
            (q.stalls, "stalls"),
        ];
        for (count, what) in told.iter().filter(|(count, _)| *count > 0) {
            let _ = writeln!(text, "queue {} of {}: {count} {what}", q.queue, q.port);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::WorkerId;
    use crate::io::QueueFigures;
    use crate::io::xdp::{LeftToKernel, Mode, PortReport};
    use std::time::Duration;

    #[test]
    fn every_queue_tells_its_wake_ups_its_drops_and_its_stalls() {
        let port = |interface: &str| PortReport {
            interface: interface.to_owned(),
            index: 7,
            mode: Mode::Copy,
            zero_copy: vec![false],
            busy_poll: vec![false],
        };
        let up = QueueFigures {
            device_polls: 11,
            receive_wake_ups: 12,
            transmit_wake_ups: 13,
            fill_ring_empty: 14,
            receive_ring_full: 15,
            receive_dropped: 16,
            transmit_ring_empty: 17,
            ..QueueFigures::default()
        };
        let down = QueueFigures { bad_descriptors: 18, transmit_errors: 19, ..QueueFigures::default() };
        let fates = Fates { sleeps: 21, woken: 20, bursts: 22, ..Fates::default() };
        let worker =
            Report { worker: WorkerId(0), queues: [up, down], fates, busy: 2_500_000_000, ..Report::default() };
        let done = Summary {
            ports: [port("up0"), port("dn0")],
            workers: vec![worker],
            stalls: vec![[0, 3]],
            counters: Counters::default(),
            fates,
            left_to_kernel: [LeftToKernel::default(); 2],
            generation: 1,
            elapsed: Duration::from_secs(5),
            lost_frames: 0,
        };
        let text = run_text(&done, Log::default());
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
        let line = |start: &str| words(text.lines().find(|line| line.starts_with(start)).unwrap_or_default());
        assert_eq!(line("up0"), ["up0", "copy", "0", "11", "12", "13", "14", "15", "16", "17"], "{text}");
        for expected in [
            "queue 0 of dn0: 18 descriptors of the kernel that name no chunk",
            "queue 0 of dn0: 19 wake-ups to send refused by the kernel",
            "queue 0 of dn0: 3 stalls",
            "worker 0: 22 bursts in 2.500 s of work; 21 sleeps, 20 of them ended by a wake-up",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("queue 0 of up0: "), "{text}");
        let told: serde_json::Value = serde_json::from_str(&run_json(&done, Log::default())).unwrap();
        let number = |queue: usize, name: &str| told["queues"][queue][name].as_u64();
        assert_eq!((number(0, "transmit_wake_ups"), number(1, "stalls")), (Some(13), Some(3)), "{told}");
        assert_eq!(told["workers"][0]["woken"], 20, "{told}");
    }
}
