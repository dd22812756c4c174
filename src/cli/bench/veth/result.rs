//! Measurements in, a table for people and one JSON object for scripts out, and whether the marks are met.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::forwarder::Kind;
use super::measure::Cost;
use super::policy::{Form, State};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Results {
    schema_version: u32,
    kernel: String,
    cores: usize,
    /// Seconds of a trial.
    pub trial_s: f64,
    flows: u32,
    both_ways: bool,
    /// Zero-loss rates.
    pub rates: Vec<RateRow>,
    /// Costs at a fixed rate.
    pub costs: Vec<CostRow>,
    /// Time inside the box.
    pub latencies: Vec<LatencyRow>,
    /// Loss at falling rates.
    pub curves: Vec<CurveRow>,
    /// Policy changes under load.
    pub reload: Option<ReloadRow>,
    /// Ratios that are to be reached.
    pub marks: Vec<Mark>,
}

/// The zero-loss rate of a forwarder with one frame size.
#[derive(Clone, Debug, Serialize)]
pub struct RateRow {
    #[serde(skip)]
    kind: Kind,
    /// Its name.
    pub forwarder: String,
    /// Frame size with check sequence.
    pub size: u16,
    /// Packets per second.
    pub zero_loss: f64,
    /// Most that was offered: the generator's limit.
    pub offered_most: f64,
    /// Beside the bare forwarder's with the same size.
    pub of_bare: f64,
}

impl RateRow {
    /// A row whose ratio is not known yet.
    pub fn new(kind: Kind, size: u16, zero_loss: f64, offered_most: f64) -> RateRow {
        RateRow { kind, forwarder: kind.name(), size, zero_loss, offered_most, of_bare: 0.0 }
    }
}

/// What a packet costs a forwarder at a fixed rate, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct CostRow {
    #[serde(skip)]
    kind: Kind,
    forwarder: String,
    rate: f64,
    /// CPU time of the gateway's thread, waiting by looking included.
    cpu_ns: Option<f64>,
    /// Time of the gateway's thread in turns that moved frames.
    busy_ns: Option<f64>,
    /// Time of the generator's calls into the kernel.
    sending_ns: f64,
    lost: f64,
}

impl CostRow {
    /// The row of a forwarder.
    pub fn new(kind: Kind, cost: Cost) -> CostRow {
        let Cost { rate, gateway, busy, sending, lost } = cost;
        CostRow { kind, forwarder: kind.name(), rate, cpu_ns: gateway, busy_ns: busy, sending_ns: sending, lost }
    }

    /// All that forwarding takes on both cores, the generator's own part included, which is the same for all.
    fn all_ns(&self) -> f64 {
        self.sending_ns + self.busy_ns.unwrap_or(0.0)
    }
}

/// Delays of one queue at one load.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyRow {
    /// The forwarder's name.
    pub forwarder: String,
    /// Load as a part of the zero-loss rate.
    pub percent: u32,
    /// Packets per second.
    pub rate: f64,
    /// The queue.
    pub queue: u32,
    /// From receive ring to transmit ring.
    pub inside_ns: BTreeMap<&'static str, u64>,
    /// From the generator's sending side to its receiving side, over both links.
    pub one_way_ns: BTreeMap<&'static str, u64>,
    /// Nanoseconds and how many packets took so long.
    pub inside_histogram: Vec<(u64, u64)>,
    /// The same of the whole way.
    pub one_way_histogram: Vec<(u64, u64)>,
}

/// The values of a histogram with their counts.
pub fn histogram(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

/// Loss by offered rate.
#[derive(Clone, Debug, Serialize)]
pub struct CurveRow {
    /// The forwarder's name.
    pub forwarder: String,
    /// Frame size with check sequence.
    pub size: u16,
    /// Packets per second offered, and the part lost.
    pub points: Vec<(f64, f64)>,
}

/// What policy changes under load did.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadRow {
    /// Rules of each policy.
    pub rules: u32,
    /// Changes made.
    pub changes: u32,
    /// Packets per second offered.
    pub rate: f64,
    /// Packets of flows that both policies allow.
    pub sent: u64,
    /// Those of them that were lost.
    pub lost: u64,
    /// Longest time from a change to the last packet judged by the old policy, milliseconds.
    pub follows_ms: f64,
    /// Changes for which the policy was read and compiled while traffic ran.
    pub compiled: u32,
    /// Packets sent meanwhile.
    pub compiling_sent: u64,
    /// Those of them that were lost: where generator and gateway have the only two cores, compiling takes time from one of them.
    pub compiling_lost: u64,
    /// Mean time to read, compile and publish a policy meanwhile, milliseconds.
    pub reload_ms: f64,
}

/// A ratio that is to be reached.
#[derive(Clone, Debug, Serialize)]
pub struct Mark {
    /// What is compared.
    pub name: String,
    /// At least, or at most for costs.
    pub wanted: f64,
    /// As measured.
    pub found: f64,
    /// Whether it is reached.
    pub reached: bool,
}

impl Results {
    /// Nothing measured yet.
    pub fn new(trial: Duration, flows: u32, both_ways: bool, cores: usize) -> Results {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Results {
            schema_version: 1,
            kernel: kernel.trim().to_owned(),
            cores,
            trial_s: trial.as_secs_f64(),
            flows,
            both_ways,
            rates: Vec::new(),
            costs: Vec::new(),
            latencies: Vec::new(),
            curves: Vec::new(),
            reload: None,
            marks: Vec::new(),
        }
    }

    /// The zero-loss rate of a forwarder.
    pub fn rate(&self, kind: Kind, size: u16) -> Option<f64> {
        self.rates.iter().find(|row| row.kind == kind && row.size == size).map(|row| row.zero_loss)
    }

    fn cost(&self, kind: Kind) -> Option<&CostRow> {
        self.costs.iter().find(|row| row.kind == kind)
    }

    /// Fills in the ratios and compares them with the marks.
    pub fn judge(&mut self) {
        let bare: BTreeMap<u16, f64> =
            self.rates.iter().filter(|row| row.kind == Kind::Bare).map(|row| (row.size, row.zero_loss)).collect();
        for row in &mut self.rates {
            row.of_bare = row.zero_loss / bare.get(&row.size).copied().unwrap_or(0.0).max(1.0);
        }
        let sizes: Vec<u16> = bare.keys().copied().collect();
        let rules = self.rates.iter().filter_map(|row| match row.kind {
            Kind::Ringwall { rules, .. } => Some(rules),
            _ => None,
        });
        let Some(rules) = rules.max() else { return };
        let mut marks = Vec::new();
        let mut compare = |name: String, found: Option<f64>, wanted: f64| {
            marks.extend(found.map(|found| Mark { name, wanted, found, reached: found >= wanted }));
        };
        let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?.max(1.0));
        let full = Kind::Ringwall { rules, state: State::With };
        for size in sizes {
            let rate = |kind| self.rate(kind, size);
            compare(format!("{size} bytes: {} / bare", full.name()), ratio(rate(full), rate(Kind::Bare)), 0.95);
            let name = format!("{size} bytes: bare / {}", Kind::Testpmd.name());
            compare(name, ratio(rate(Kind::Bare), rate(Kind::Testpmd)), 1.0);
            for state in [State::Without, State::With] {
                let own = Kind::Ringwall { rules, state };
                let linear = Kind::Nftables { rules, state, form: Form::Linear };
                let set = Kind::Nftables { rules, state, form: Form::Set };
                // Connection tracking spares established flows the walk; the walk is what linear rules cost.
                let wanted = if state == State::Without && rules >= 10_000 { 25.0 } else { 1.0 };
                compare(
                    format!("{size} bytes: {} / {}", own.name(), linear.name()),
                    ratio(rate(own), rate(linear)),
                    wanted,
                );
                compare(format!("{size} bytes: {} / {}", own.name(), set.name()), ratio(rate(own), rate(set)), 1.0);
            }
        }
        let beyond = self.cost(full).zip(self.cost(Kind::Bare)).and_then(|(a, b)| Some(a.busy_ns? - b.busy_ns?));
        if let Some(found) = beyond {
            let name = format!("cost at most, ns beyond the bare forwarder: {}", full.name());
            marks.push(Mark { name, wanted: 45.0, found, reached: found <= 45.0 });
        }
        if let Some(row) = &self.reload {
            let mut at_most = |name: &str, found: f64, wanted: f64| {
                marks.push(Mark { name: name.to_owned(), wanted, found, reached: found <= wanted });
            };
            at_most("reload under load: packets lost at most", row.lost as f64, 0.0);
            at_most("reload under load: verdicts follow within, ms", row.follows_ms, 50.0);
        }
        self.marks = marks;
    }

    /// For scripts.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let ways = if self.both_ways { "half of the packets each way" } else { "one way" };
        let _ = writeln!(
            text,
            "veth, copy mode, kernel {}, {} cores, {} flows, trials of {} s, {ways}: no figures for a network card\n",
            self.kernel, self.cores, self.flows, self.trial_s
        );
        let rows = self.rates.iter().map(|row| {
            let limit = if row.zero_loss >= 0.98 * row.offered_most { " (all offered)" } else { "" };
            [
                row.forwarder.clone(),
                row.size.to_string(),
                format!("{:.0}{limit}", row.zero_loss),
                format!("{:.3}", row.of_bare),
            ]
        });
        text.push_str(&table(["FORWARDER", "BYTES", "ZERO-LOSS PPS", "OF BARE"], rows));
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
        let rows = self.costs.iter().map(|row| {
            [
                row.forwarder.clone(),
                format!("{:.0}", row.rate),
                number(row.cpu_ns),
                number(row.busy_ns),
                format!("{:.0}", row.sending_ns),
                format!("{:.0}", row.all_ns()),
                format!("{:.4} %", row.lost * 100.0),
            ]
        });
        let titles = ["FORWARDER", "PPS", "THREAD CPU NS", "BUSY NS", "SENDING NS", "BUSY + SENDING", "LOST"];
        text.push_str(&table(titles, rows));
        text.push_str(
            "Thread CPU includes looking at empty rings; busy are the turns that moved frames. The kernel forwards inside the\n\
             generator's sending calls, so its cost is in their time; each forwarder's includes the generator's own part.\n\n",
        );
        let us = |value: Option<&u64>| value.map_or("-".to_owned(), |value| format!("{:.1}", *value as f64 / 1e3));
        let rows = self.latencies.iter().flat_map(|row| {
            [("inside the box", &row.inside_ns), ("generator to generator", &row.one_way_ns)].map(|(what, ns)| {
                [
                    row.forwarder.clone(),
                    format!("{} %", row.percent),
                    row.queue.to_string(),
                    what.to_owned(),
                    us(ns.get("p50")),
                    us(ns.get("p99")),
                    us(ns.get("p999")),
                    us(ns.get("max")),
                ]
            })
        });
        let titles = ["FORWARDER", "LOAD", "QUEUE", "DELAY IN US", "P50", "P99", "P99.9", "MAX"];
        text.push_str(&table(titles, rows));
        if let Some(row) = &self.reload {
            let _ = writeln!(
                text,
                "{} changes of {} rules at {:.0} packets per second: {} of {} packets lost, verdicts follow within {:.1} ms\n\
                 {} more, read and compiled under the same load: {} of {} packets lost, {:.0} ms each\n",
                row.changes,
                row.rules,
                row.rate,
                row.lost,
                row.sent,
                row.follows_ms,
                row.compiled,
                row.compiling_lost,
                row.compiling_sent,
                row.reload_ms
            );
        }
        let rows = self.marks.iter().map(|mark| {
            let word = if mark.reached { "reached" } else { "missed" };
            [mark.name.clone(), format!("{:.2}", mark.wanted), format!("{:.2}", mark.found), word.to_owned()]
        });
        text.push_str(&table(["MARK", "WANTED", "FOUND", ""], rows));
        text
    }
}

/// Rows under titles; all but the first column to the right. Nothing without rows.
fn table<const N: usize>(titles: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(titles);
    table.add_rows(rows);
    if table.row_count() == 0 {
        return String::new();
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n\n")
}
