//! What each worker did in, the summary of a replay out, as text and as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::turn::{Meter, histogram};
use crate::cli::flow_view::FlowView;
use crate::cli::summary::{self, Row, RuleRow};
use crate::engine::{Counters, Program, Verdict};
use crate::io::pcap::Reading;
use crate::worker::Fates;

/// What one worker did.
pub(super) struct Share {
    pub counters: Counters,
    pub fates: Fates,
    pub meter: Meter,
    /// Whether its captures were read beside it.
    pub reading: Reading,
    /// From the first capture opened to the last verdict.
    pub elapsed: Duration,
    pub flows: FlowView,
    /// Lines of verdicts that were kept, with the numbers of their packets.
    pub verdicts: Vec<(u64, String)>,
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

/// The summary of a replay; its JSON is an interface.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    packets: u64,
    bytes: u64,
    allowed: u64,
    denied: u64,
    seconds: f64,
    packets_per_second: f64,
    nanoseconds_per_packet: f64,
    reading_seconds: f64,
    waiting_seconds: f64,
    reader_threads: usize,
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
    pub fn new(program: &Program, shares: &[Share]) -> Summary {
        let (mut counters, mut fates) = (Counters::default(), Fates::default());
        let mut latency = histogram();
        let mut flows = FlowView::default();
        for share in shares {
            flows.merge(&share.flows);
            counters.merge(&share.counters);
            fates.merge(&share.fates);
            // Both histograms have the same bounds.
            let _ = latency.add(&share.meter.latency);
        }
        let sum = |verdict: Verdict, of: fn(&crate::engine::counters::Tally) -> u64| -> u64 {
            counters.reasons.iter().flat_map(|d| &d[verdict.index()]).map(of).sum()
        };
        let allowed = sum(Verdict::Allow, |t| t.packets);
        let denied = sum(Verdict::Deny, |t| t.packets);
        let packets = allowed + denied;
        let seconds = shares.iter().map(|s| s.elapsed).max().unwrap_or_default().as_secs_f64();
        let busy: f64 = shares.iter().map(|s| s.meter.busy.as_secs_f64()).sum();
        let at = |quantile| latency.value_at_quantile(quantile);
        let row = |(worker, share): (usize, &Share)| WorkerRow {
            worker,
            packets: share.counters.reasons.iter().flatten().flatten().map(|t| t.packets).sum(),
            flows: share.flows.count(),
            seconds: share.meter.busy.as_secs_f64(),
        };
        Summary {
            packets,
            bytes: sum(Verdict::Allow, |t| t.bytes) + sum(Verdict::Deny, |t| t.bytes),
            allowed,
            denied,
            seconds,
            packets_per_second: if seconds > 0.0 { packets as f64 / seconds } else { 0.0 },
            nanoseconds_per_packet: if packets > 0 { busy * 1e9 / packets as f64 } else { 0.0 },
            reading_seconds: shares.iter().map(|s| s.meter.reading).max().unwrap_or_default().as_secs_f64(),
            waiting_seconds: shares.iter().map(|s| s.meter.waiting).max().unwrap_or_default().as_secs_f64(),
            reader_threads: shares.iter().filter(|s| s.reading == Reading::Beside).count(),
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

    pub fn text(&self) -> String {
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
        let _ = match self.reader_threads {
            0 => writeln!(text, "{:.3} s of that reading captures, between bursts", self.reading_seconds),
            _ => writeln!(
                text,
                "reading captures took {:.3} s on a thread beside each worker, which waited for it {:.3} s",
                self.reading_seconds, self.waiting_seconds
            ),
        };
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
