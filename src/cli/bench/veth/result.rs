//! Measurements in, a table for people and one JSON object for scripts out; and in again, to go on where an earlier run ended.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::forwarder::{Kind, Waiting};
use super::marks::Mark;
use super::measure::{Cost, Ways, percentiles};

/// Number of the form of the JSON object.
const SCHEMA: u32 = 1;

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    schema_version: u32,
    kernel: String,
    cores: usize,
    /// Seconds of a trial.
    pub trial_s: f64,
    flows: u32,
    poll: Waiting,
    /// Zero-loss rates.
    pub rates: Vec<RateRow>,
    /// Costs at a fixed rate.
    pub costs: Vec<CostRow>,
    /// Rates, costs and delays by how the gateway's thread waits.
    #[serde(default)]
    pub waiting: Vec<WaitingRow>,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RateRow {
    /// Which one.
    pub forwarder: Kind,
    /// Directions of the traffic.
    pub ways: Ways,
    /// Frame size with check sequence.
    pub size: u16,
    /// Packets per second: the median of all rounds.
    pub zero_loss: f64,
    /// Of each round.
    pub rounds: Vec<f64>,
    /// Most that was offered: the generator's limit.
    pub offered_most: f64,
    /// Beside the bare forwarder's with the same size and ways: the median over rounds.
    pub of_bare: Option<f64>,
}

/// What a packet costs a forwarder at a fixed rate, in nanoseconds: medians of all rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CostRow {
    /// Which one.
    pub forwarder: Kind,
    /// Packets of a direction that were sent together.
    pub burst: u64,
    /// Packets per second.
    pub rate: f64,
    /// Frames that the gateway's thread took off a ring at once, on average.
    pub at_once: Option<f64>,
    /// CPU time of the gateway's thread, waiting by looking included.
    pub cpu_ns: Option<f64>,
    /// Time of the gateway's thread in turns that moved frames.
    pub busy_ns: Option<f64>,
    /// The same of each round.
    pub busy_rounds: Vec<f64>,
    /// Time of the generator's calls into the kernel.
    pub sending_ns: f64,
    /// Part of the packets that was lost meanwhile.
    pub lost: f64,
}

impl CostRow {
    /// The row of a forwarder; `None` without a round.
    pub fn new(forwarder: Kind, burst: u64, rounds: &[Cost]) -> Option<CostRow> {
        let median = |of: fn(&Cost) -> Option<f64>| median(rounds.iter().filter_map(of));
        Some(CostRow {
            forwarder,
            burst,
            rate: median(|cost| Some(cost.rate))?,
            at_once: median(|cost| cost.at_once),
            cpu_ns: median(|cost| cost.gateway),
            busy_ns: median(|cost| cost.busy),
            busy_rounds: rounds.iter().filter_map(|cost| cost.busy).collect(),
            sending_ns: median(|cost| Some(cost.sending))?,
            lost: median(|cost| Some(cost.lost))?,
        })
    }

    /// All that forwarding takes on both cores, the generator's own part included, which is the same for all.
    fn all_ns(&self) -> f64 {
        self.sending_ns + self.busy_ns.unwrap_or(0.0)
    }
}

/// The one in the middle, the upper one of two; `None` of none.
pub fn median(figures: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

/// What a way of waiting does to a forwarder: its zero-loss rate, and costs and delays at the fixed rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WaitingRow {
    /// Which one.
    pub forwarder: Kind,
    /// How its thread waits.
    pub waiting: Waiting,
    /// Packets per second without loss.
    pub zero_loss: f64,
    /// Packets per second at which the rest was measured, one sent at a time.
    pub rate: f64,
    /// Frames that the gateway's thread took off a ring at once, on average.
    pub at_once: Option<f64>,
    /// CPU time of the gateway's thread for each packet, nanoseconds.
    pub cpu_ns: Option<f64>,
    /// Time of the gateway's thread in turns that moved frames, for each packet, nanoseconds.
    pub busy_ns: Option<f64>,
    /// Times that the gateway's thread went to sleep in a second.
    pub sleeps: Option<f64>,
    /// Time of the generator's calls into the kernel for each packet, nanoseconds: interrupts do the gateway's work there.
    pub sending_ns: f64,
    /// From the generator's sending side to its receiving side, over both links.
    pub one_way_ns: BTreeMap<String, u64>,
}

impl WaitingRow {
    /// The row of a forwarder.
    pub fn new(forwarder: Kind, waiting: Waiting, zero_loss: f64, cost: &Cost) -> WaitingRow {
        WaitingRow {
            forwarder,
            waiting,
            zero_loss,
            rate: cost.rate,
            at_once: cost.at_once,
            cpu_ns: cost.gateway,
            busy_ns: cost.busy,
            sleeps: cost.sleeps.map(|sleeps| sleeps * cost.rate),
            sending_ns: cost.sending,
            one_way_ns: percentiles(&cost.delays),
        }
    }
}

/// Delays of one queue at one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatencyRow {
    /// Which one.
    pub forwarder: Kind,
    /// Directions of the traffic.
    pub ways: Ways,
    /// Load as a part of the zero-loss rate.
    pub percent: u32,
    /// Packets per second.
    pub rate: f64,
    /// The queue.
    pub queue: u32,
    /// From receive ring to transmit ring.
    pub inside_ns: BTreeMap<String, u64>,
    /// From the generator's sending side to its receiving side, over both links.
    pub one_way_ns: BTreeMap<String, u64>,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CurveRow {
    /// Which one.
    pub forwarder: Kind,
    /// Directions of the traffic.
    pub ways: Ways,
    /// Frame size with check sequence.
    pub size: u16,
    /// Packets per second offered, and the part lost.
    pub points: Vec<(f64, f64)>,
}

/// What policy changes under load did.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Packets lost in a run as long without any change; there is one where others were lost.
    #[serde(default)]
    pub unchanged_lost: Option<u64>,
    /// Longest time from a change to the last packet judged by the old policy, milliseconds.
    pub follows_ms: f64,
    /// Changes for which the policy was read and compiled while traffic ran.
    pub compiled: u32,
    /// Packets sent meanwhile.
    pub compiling_sent: u64,
    /// Those of them that were lost.
    pub compiling_lost: u64,
    /// Packets per second sent meanwhile: where generator and gateway have the only two cores, compiling takes time from the generator.
    #[serde(default)]
    pub compiling_rate: f64,
    /// Mean time to read, compile and publish a policy meanwhile, milliseconds.
    pub reload_ms: f64,
}

impl Results {
    /// Nothing measured yet.
    pub fn new(trial: Duration, flows: u32, poll: Waiting, cores: usize) -> Results {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Results {
            schema_version: SCHEMA,
            kernel: kernel.trim().to_owned(),
            cores,
            trial_s: trial.as_secs_f64(),
            flows,
            poll,
            rates: Vec::new(),
            costs: Vec::new(),
            waiting: Vec::new(),
            latencies: Vec::new(),
            curves: Vec::new(),
            reload: None,
            marks: Vec::new(),
        }
    }

    /// What an earlier run has written, to be added to; nothing yet without one.
    ///
    /// # Errors
    /// What is wrong with the text, or what differs between the two runs so that their figures do not belong into one table.
    pub fn going_on(self, text: Option<&str>) -> Result<Results, String> {
        let Some(text) = text else { return Ok(self) };
        let earlier: Results = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let of = |results: &Results| {
            (results.schema_version, results.kernel.clone(), results.cores, results.flows, results.poll)
        };
        match (of(&earlier), of(&self)) {
            (a, b) if a == b => Ok(Results { trial_s: self.trial_s, ..earlier }),
            (a, b) => Err(format!("its form, kernel, cores, flows and polling are {a:?}, and those of this run {b:?}")),
        }
    }

    /// The zero-loss rates of a forwarder.
    pub fn rates_of(&self, kind: Kind, ways: Ways, size: u16) -> Option<&RateRow> {
        self.rates.iter().find(|row| (row.forwarder, row.ways, row.size) == (kind, ways, size))
    }

    /// The zero-loss rate of a forwarder.
    pub fn rate(&self, kind: Kind, ways: Ways, size: u16) -> Option<f64> {
        self.rates_of(kind, ways, size).map(|row| row.zero_loss)
    }

    /// Takes the rate that a round has found; the first round takes the place of what was known before.
    pub fn add_rate(
        &mut self,
        (forwarder, ways, size): (Kind, Ways, u16),
        round: u32,
        zero_loss: f64,
        offered_most: f64,
    ) {
        let is_it = |known: &&mut RateRow| (known.forwarder, known.ways, known.size) == (forwarder, ways, size);
        let known = self.rates.iter_mut().find(is_it);
        let mut rounds = known.as_ref().filter(|_| round > 0).map_or(Vec::new(), |known| known.rounds.clone());
        rounds.push(zero_loss);
        let zero_loss = median(rounds.iter().copied()).unwrap_or(zero_loss);
        let row = RateRow { forwarder, ways, size, zero_loss, rounds, offered_most, of_bare: None };
        match known {
            Some(known) => *known = row,
            None => self.rates.push(row),
        }
    }

    /// Takes the costs of a forwarder in the place of what was known before.
    pub fn add_costs(&mut self, row: CostRow) {
        match self.costs.iter_mut().find(|known| (known.forwarder, known.burst) == (row.forwarder, row.burst)) {
            Some(known) => *known = row,
            None => self.costs.push(row),
        }
    }

    /// Medians over rounds of the ratios of two forwarders, measured one after the other in each: what slows the machine down
    /// for a while slows down both.
    pub fn ratio(&self, [above, below]: [Kind; 2], ways: Ways, size: u16) -> Option<f64> {
        let (above, below) = (self.rates_of(above, ways, size)?, self.rates_of(below, ways, size)?);
        if above.rounds.len() != below.rounds.len() {
            return Some(above.zero_loss / below.zero_loss.max(1.0));
        }
        median(above.rounds.iter().zip(&below.rounds).map(|(above, below)| above / below.max(1.0)))
    }

    /// Puts rows in the order of the table, whatever order they were measured in, and fills in what follows from the figures.
    pub fn judge(&mut self) {
        self.rates.sort_by_key(|row| (row.ways, row.size, row.forwarder));
        self.costs.sort_by_key(|row| (row.burst, row.forwarder));
        self.waiting.sort_by_key(|row| (row.waiting, row.forwarder));
        self.latencies.sort_by_key(|row| (row.forwarder, row.percent, row.queue));
        self.curves.sort_by_key(|row| row.forwarder);
        let ratios: Vec<Option<f64>> =
            self.rates.iter().map(|row| self.ratio([row.forwarder, Kind::Bare], row.ways, row.size)).collect();
        for (row, ratio) in self.rates.iter_mut().zip(ratios) {
            row.of_bare = ratio;
        }
        self.marks = super::marks::marks(self);
    }

    /// For scripts.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "veth, copy mode, kernel {}, {} cores, {} flows, {} polling, trials of {} s: no figures for a network card\n",
            self.kernel,
            self.cores,
            self.flows,
            self.poll.word(),
            self.trial_s
        );
        let rows = self.rates.iter().map(|row| {
            let limit = if row.zero_loss >= 0.98 * row.offered_most { " (all offered)" } else { "" };
            [
                row.forwarder.name(),
                row.ways.word().to_owned(),
                row.size.to_string(),
                format!("{:.0}{limit}", row.zero_loss),
                spread(&row.rounds),
                row.of_bare.map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
            ]
        });
        text.push_str(&table(["FORWARDER", "WAYS", "BYTES", "ZERO-LOSS PPS", "ROUNDS", "OF BARE"], rows));
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
        let rows = self.costs.iter().map(|row| {
            [
                row.forwarder.name(),
                format!("{:.0}", row.rate),
                row.burst.to_string(),
                row.at_once.map_or("-".to_owned(), |frames| format!("{frames:.1}")),
                number(row.cpu_ns),
                number(row.busy_ns),
                spread(&row.busy_rounds),
                format!("{:.0}", row.sending_ns),
                format!("{:.0}", row.all_ns()),
                format!("{:.4} %", row.lost * 100.0),
            ]
        });
        let titles = [
            "FORWARDER",
            "PPS",
            "SENT AT ONCE",
            "TAKEN AT ONCE",
            "THREAD CPU NS",
            "BUSY NS",
            "ROUNDS",
            "SENDING NS",
            "BUSY + SENDING",
            "LOST",
        ];
        text.push_str(&table(titles, rows));
        text.push_str(
            "Thread CPU includes looking at empty rings; busy are the turns that moved frames. The kernel forwards inside the\n\
             generator's sending calls, so its cost is in their time; each forwarder's includes the generator's own part.\n\n",
        );
        text.push_str(&self.waiting_text());
        let us = |value: Option<&u64>| value.map_or("-".to_owned(), |value| format!("{:.1}", *value as f64 / 1e3));
        let rows = self.latencies.iter().flat_map(|row| {
            [("inside the box", &row.inside_ns), ("generator to generator", &row.one_way_ns)].map(|(what, ns)| {
                [
                    row.forwarder.name(),
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
            let unchanged = row.unchanged_lost.map(|lost| format!(", {lost} without any change")).unwrap_or_default();
            let _ = writeln!(
                text,
                "{} changes of {} rules at {:.0} packets per second: {} of {} packets lost{unchanged}, verdicts follow within {:.1} ms\n\
                 {} more, read and compiled at {:.0} packets per second: {} of {} packets lost, {:.0} ms each\n",
                row.changes,
                row.rules,
                row.rate,
                row.lost,
                row.sent,
                row.follows_ms,
                row.compiled,
                row.compiling_rate,
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

impl Results {
    /// What ways of waiting do.
    fn waiting_text(&self) -> String {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
        let us = |row: &WaitingRow, name| {
            row.one_way_ns.get(name).map_or("-".to_owned(), |value| format!("{:.1}", *value as f64 / 1e3))
        };
        let rows = self.waiting.iter().map(|row| {
            [
                row.forwarder.name(),
                row.waiting.word().to_owned(),
                format!("{:.0}", row.zero_loss),
                format!("{:.0}", row.rate),
                row.at_once.map_or("-".to_owned(), |frames| format!("{frames:.1}")),
                number(row.cpu_ns),
                number(row.busy_ns),
                format!("{:.0}", row.sending_ns),
                number(row.sleeps),
                us(row, "p50"),
                us(row, "p99"),
            ]
        });
        let titles = [
            "FORWARDER",
            "POLLING",
            "ZERO-LOSS PPS",
            "AT PPS",
            "TAKEN AT ONCE",
            "THREAD CPU NS",
            "BUSY NS",
            "SENDING NS",
            "SLEEPS/S",
            "P50 US",
            "P99 US",
        ];
        match table(titles, rows) {
            text if text.is_empty() => text,
            text => format!(
                "{text}Costs and delays by how the thread waits, one packet sent at a time; delays are from generator to generator.\n\n"
            ),
        }
    }
}

/// The least and the most of several rounds.
fn spread(rounds: &[f64]) -> String {
    let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rounds.iter().copied().fold(0.0, f64::max);
    match rounds.len() {
        0 | 1 => "-".to_owned(),
        count => format!("{count}: {least:.0}-{most:.0}"),
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
