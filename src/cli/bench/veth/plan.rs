//! What the user wants to know and what is known already in, the steps of the run with their times out; and how far it has come.
//!
//! Times are estimates from the lengths of trials and from how long forwarders take to start. While steps are done, the pace of the
//! run corrects them: a machine with others on it disturbs trials, which are then repeated.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::forwarder::{Kind, Waiting};
use super::measure::Ways;
use super::policy::{Form, State};
use super::result::Results;
use super::{Part, VethArguments};
use crate::lab::generator::Rate;

/// Rounds of costs for each round of rates: they take less time and differ by less.
const COST_ROUNDS: u32 = 2;
/// How many packets are sent together where costs are measured: one, as a lone host does, and as many as come from one that
/// sends segments.
const BURSTS: [u64; 2] = [1, 64];
/// Parts of the zero-loss rate at which delays are measured.
const LOADS: [u32; 2] = [50, 90];

/// Trials of a search: from nothing known, and from a rate that an earlier search has found; failing ones are repeated.
const TRIALS: [f64; 2] = [7.0, 4.0];
/// Seconds of greeting and of starting and ending a forwarder of this program.
const SESSION: f64 = 0.6;
/// Seconds that DPDK's forwarder takes beyond that.
const TESTPMD: f64 = 2.0;
/// Seconds to compile ten thousand rules, once for each policy; and for the kernel to take them, each time.
const COMPILING: f64 = 0.5;
const LOADING: f64 = 0.7;
/// Seconds of a trial beyond its sending.
const ROUNDING: f64 = 0.07;
/// Policy changes of the reload trial take so long each; those that compile take longer, and there are ten of them.
const CHANGE: f64 = 0.061;
const FULL_CHANGES: f64 = 8.0;
/// Times that these are tried: where they share the workers' cores, the first seldom loses nothing.
const FULL_TRIES: f64 = 2.0;
/// Steps after which the run's own pace says more than the estimates.
const LEARNED: f64 = 10.0;

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// How much the generator can send, which bounds every search.
    Flood { ways: Ways, size: u16 },
    /// A zero-loss rate, in a round from 0.
    Rate { kind: Kind, ways: Ways, size: u16, round: u32 },
    /// What a packet costs at the fixed rate.
    Cost { kind: Kind, burst: u64, round: u32 },
    /// What a way of waiting does to rate, cost and delays.
    Waiting { kind: Kind, waiting: Waiting },
    /// Delays at a part of the zero-loss rate.
    Latency { kind: Kind, percent: u32 },
    /// Loss at falling rates.
    Curve { kind: Kind },
    /// Policy changes under load.
    Reload { kind: Kind },
}

/// The steps of a run, each after those whose figures it needs.
#[derive(Debug)]
pub struct Plan<'a> {
    arguments: &'a VethArguments,
    kinds: Vec<Kind>,
    steps: Vec<Step>,
    /// Rates that are known before the next step.
    rates: BTreeSet<(String, &'static str, u16)>,
    floods: BTreeSet<(&'static str, u16)>,
}

/// The steps that these arguments ask for, beyond what is known already.
pub fn steps(arguments: &VethArguments, known: &Results) -> Vec<Step> {
    let mut plan = Plan {
        arguments,
        kinds: arguments.kinds(),
        steps: Vec::new(),
        rates: known.rates.iter().map(|row| (row.forwarder.name(), row.ways.word(), row.size)).collect(),
        floods: BTreeSet::new(),
    };
    for part in Part::value_variants().iter().filter(|part| arguments.wants(**part)) {
        match part {
            Part::Rates => plan.rates(),
            Part::Costs => plan.costs(),
            Part::Waiting => plan.waiting(),
            Part::Latencies => plan.latencies(),
            Part::Curves => plan.curves(),
            Part::Reloads => plan.reloads(),
        }
    }
    plan.steps
}

impl Plan<'_> {
    fn full(&self) -> Kind {
        Kind::Ringwall { rules: self.arguments.most_rules(), state: State::With }
    }

    /// What is measured in several rounds, because it is compared closely.
    fn is_compared(&self, kind: Kind) -> bool {
        [Kind::Bare, Kind::Testpmd, self.full()].contains(&kind)
    }

    /// What runs in a round, from 0: every second one in the opposite order, so that a machine that grows slower favours nobody.
    fn in_round(&self, round: u32, kinds: &[Kind]) -> Vec<Kind> {
        let kinds = kinds.iter().copied().filter(|kind| round == 0 || self.is_compared(*kind));
        if round.is_multiple_of(2) { kinds.collect() } else { kinds.rev().collect() }
    }

    fn flood(&mut self, ways: Ways, size: u16) {
        if self.floods.insert((ways.word(), size)) {
            self.steps.push(Step::Flood { ways, size });
        }
    }

    fn rates_of(&mut self, kinds: &[Kind], ways: Ways, size: u16, rounds: u32) {
        self.flood(ways, size);
        for round in 0..rounds {
            for kind in self.in_round(round, kinds) {
                self.rates.insert((kind.name(), ways.word(), size));
                self.steps.push(Step::Rate { kind, ways, size, round });
            }
        }
    }

    /// A zero-loss rate that another step needs.
    fn need(&mut self, kind: Kind, ways: Ways, size: u16) {
        if !self.rates.contains(&(kind.name(), ways.word(), size)) {
            self.rates_of(&[kind], ways, size, 1);
        }
    }

    fn rates(&mut self) {
        for (number, size) in self.arguments.sizes().into_iter().enumerate() {
            for ways in self.arguments.ways() {
                let is_main = ways == self.arguments.main_ways();
                let is_wanted = |kind: &Kind| match kind {
                    // How the kernel's rate depends on the number of rules shows with one size.
                    Kind::Nftables { rules, .. } => is_main && (number == 0 || *rules == self.arguments.most_rules()),
                    Kind::Testpmd => is_main,
                    _ => is_main || self.is_compared(*kind),
                };
                let kinds: Vec<Kind> = self.kinds.iter().copied().filter(is_wanted).collect();
                let rounds = if is_main || number == 0 { self.arguments.rounds() } else { 1 };
                self.rates_of(&kinds, ways, size, rounds);
            }
        }
    }

    fn costs(&mut self) {
        let (size, ways) = (self.arguments.main_size(), self.arguments.main_ways());
        if self.arguments.fixed_rate == Rate::Max {
            return;
        }
        for burst in BURSTS {
            for round in 0..self.arguments.rounds() * COST_ROUNDS {
                for kind in self.in_round(round, &self.kinds) {
                    if let Kind::Nftables { .. } = kind {
                        // A kernel that cannot keep up is measured at what it can.
                        self.need(kind, ways, size);
                    }
                    self.steps.push(Step::Cost { kind, burst, round });
                }
            }
        }
    }

    fn waiting(&mut self) {
        if self.arguments.fixed_rate == Rate::Max {
            return;
        }
        self.flood(self.arguments.main_ways(), self.arguments.main_size());
        for waiting in Waiting::value_variants() {
            for kind in [Kind::Bare, self.full()].into_iter().filter(|kind| self.kinds.contains(kind)) {
                self.steps.push(Step::Waiting { kind, waiting: *waiting });
            }
        }
    }

    /// The bare forwarder, and this program with most rules.
    fn leading(&self) -> Vec<Kind> {
        let with = |state| Kind::Ringwall { rules: self.arguments.most_rules(), state };
        let leading = [Kind::Bare, with(State::Without), with(State::With)];
        leading.into_iter().filter(|kind| self.kinds.contains(kind)).collect()
    }

    fn latencies(&mut self) {
        for kind in self.leading() {
            self.need(kind, self.arguments.main_ways(), self.arguments.main_size());
            for percent in LOADS {
                self.steps.push(Step::Latency { kind, percent });
            }
        }
    }

    fn curves(&mut self) {
        let rules = self.arguments.most_rules();
        let kernel = Form::ALL.map(|form| Kind::Nftables { rules, state: State::Without, form });
        let kernel = kernel.into_iter().filter(|kind| self.kinds.contains(kind));
        let wanted: Vec<Kind> = self.leading().into_iter().chain(kernel).collect();
        self.flood(self.arguments.main_ways(), self.arguments.main_size());
        self.steps.extend(wanted.into_iter().map(|kind| Step::Curve { kind }));
    }

    fn reloads(&mut self) {
        let kind = Kind::Ringwall { rules: self.arguments.most_rules(), state: State::Without };
        if self.arguments.reloads > 0 && self.kinds.contains(&kind) {
            self.need(kind, Ways::Inbound, self.arguments.main_size());
            self.steps.push(Step::Reload { kind });
        }
    }
}

impl Step {
    /// What is about to be measured.
    pub fn title(&self, arguments: &VethArguments) -> String {
        match *self {
            Step::Flood { ways, size } => format!("{size} bytes, {}: what the generator can send", ways.word()),
            Step::Rate { kind, ways, size, round } => {
                let again = if round == 0 { String::new() } else { format!(", round {}", round + 1) };
                format!("{size} bytes, {}: {}{again}", ways.word(), kind.name())
            }
            Step::Cost { kind, burst, round } => {
                let rate = arguments.fixed_pps();
                format!("costs at {rate} packets per second, {burst} at once, round {}: {}", round + 1, kind.name())
            }
            Step::Waiting { kind, waiting } => format!("{} polling: {}", waiting.word(), kind.name()),
            Step::Latency { kind, percent } => format!("latency at {percent} %: {}", kind.name()),
            Step::Curve { kind } => format!("loss curve: {}", kind.name()),
            Step::Reload { kind } => format!("{} policy changes at 80 %: {}", arguments.reloads, kind.name()),
        }
    }

    /// Seconds that it takes, about. `is_first` says that its forwarder runs for the first time.
    fn seconds(&self, arguments: &VethArguments, is_first: bool) -> f64 {
        let trial = arguments.trial().as_secs_f64() + ROUNDING;
        let session = |kind: Kind| {
            let thousands = |rules: u32| f64::from(rules) / 1e4;
            let more = match kind {
                Kind::Testpmd => TESTPMD,
                Kind::Ringwall { rules, .. } if is_first => COMPILING * thousands(rules),
                Kind::Nftables { rules, .. } => LOADING * thousands(rules),
                _ => 0.0,
            };
            SESSION + more
        };
        let search = |trials: f64| trials * trial;
        match *self {
            Step::Flood { .. } => SESSION + super::parts::FLOODS as f64 * trial,
            Step::Rate { kind, .. } => session(kind) + search(TRIALS[usize::from(!is_first)]),
            Step::Cost { kind, .. } => {
                session(kind) + super::measure::SLICES as f64 * super::parts::slice(arguments).as_secs_f64()
            }
            Step::Waiting { kind, .. } => {
                session(kind) + search(TRIALS[0]) + super::measure::SLICES as f64 * trial / 4.0
            }
            Step::Latency { kind, .. } => session(kind) + trial,
            Step::Curve { kind } => session(kind) + search(5.0),
            Step::Reload { kind } => {
                let plain = session(kind) + f64::from(arguments.reloads) * CHANGE;
                plain + 2.0 * COMPILING + FULL_TRIES * (session(kind) + FULL_CHANGES)
            }
        }
    }

    fn kind(&self) -> Option<Kind> {
        match *self {
            Step::Flood { .. } => None,
            Step::Rate { kind, .. }
            | Step::Cost { kind, .. }
            | Step::Waiting { kind, .. }
            | Step::Latency { kind, .. }
            | Step::Curve { kind }
            | Step::Reload { kind } => Some(kind),
        }
    }
}

/// How far a run has come, and how long the rest takes.
pub struct Progress {
    /// Seconds of each step.
    estimates: Vec<f64>,
    begun: Instant,
    done: usize,
}

impl Progress {
    /// Nothing done yet.
    pub fn new(steps: &[Step], arguments: &VethArguments) -> Progress {
        let mut met = BTreeSet::new();
        let estimates = steps.iter().map(|step| {
            let is_first = step.kind().is_none_or(|kind| met.insert(kind.name()));
            step.seconds(arguments, is_first)
        });
        Progress { estimates: estimates.collect(), begun: Instant::now(), done: 0 }
    }

    /// What is to be done, and how long it takes.
    pub fn outlook(&self) -> String {
        let left = duration(left(&self.estimates, 0, 0.0));
        format!("{} steps, about {left} if nothing else runs on this machine\n", self.estimates.len())
    }

    /// The line that tells of the next step.
    pub fn next(&mut self, title: &str) -> String {
        let left = duration(left(&self.estimates, self.done, self.begun.elapsed().as_secs_f64()));
        self.done += 1;
        let all = self.estimates.len();
        let width = all.to_string().len();
        format!("[{:width$}/{all}, {left} left] {title}\n", self.done)
    }
}

/// Seconds left after so many steps that took so long: what the estimates say, corrected by the pace so far.
fn left(estimates: &[f64], done: usize, elapsed: f64) -> f64 {
    let sum = |estimates: Option<&[f64]>| estimates.unwrap_or_default().iter().sum::<f64>();
    let (before, after) = (sum(estimates.get(..done)), sum(estimates.get(done..)));
    if before <= 0.0 {
        return after;
    }
    let trust = (done as f64 / LEARNED).min(1.0);
    after * (1.0 + trust * (elapsed / before - 1.0))
}

fn duration(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.clamp(0.0, 1e6)).as_secs();
    match whole {
        0..100 => format!("{} s", whole.max(1)),
        _ => format!("{} min", whole.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: VethArguments,
    }

    fn arguments(line: &str) -> VethArguments {
        Line::parse_from(format!("veth {line}").split_whitespace()).arguments
    }

    fn nothing(arguments: &VethArguments) -> Results {
        Results::new(arguments.trial(), arguments.flows, arguments.poll, 2)
    }

    #[test]
    fn every_step_comes_after_those_whose_figures_it_needs() {
        for line in ["", "--quick", "--parts costs,latencies", "--parts curves", "--parts reloads", "--only bare"] {
            let arguments = arguments(line);
            let steps = steps(&arguments, &nothing(&arguments));
            let main = (arguments.main_ways(), arguments.main_size());
            for (at, step) in steps.iter().enumerate() {
                let before = &steps[..at];
                let has_rate = |of: Kind, (ways, size): (Ways, u16)| {
                    before.iter().any(|step| {
                        matches!(step, Step::Rate { kind, ways: w, size: s, .. } if (*kind, *w, *s) == (of, ways, size))
                    })
                };
                let has_flood = |ways: Ways, size: u16| before.contains(&Step::Flood { ways, size });
                assert!(
                    match *step {
                        Step::Flood { .. } => true,
                        Step::Rate { ways, size, .. } => has_flood(ways, size),
                        Step::Cost { kind: kind @ Kind::Nftables { .. }, .. } => has_rate(kind, main),
                        Step::Cost { .. } => true,
                        Step::Waiting { .. } | Step::Curve { .. } => has_flood(main.0, main.1),
                        Step::Latency { kind, .. } => has_rate(kind, main),
                        Step::Reload { kind } => has_rate(kind, (Ways::Inbound, main.1)),
                    },
                    "{line}: {step:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_known_is_not_measured_again_for_others() {
        let arguments = arguments("--quick --parts latencies --only bare");
        let mut known = nothing(&arguments);
        let titles = |known: &Results| {
            let steps = steps(&arguments, known);
            steps.iter().map(|step| step.title(&arguments)).collect::<Vec<String>>()
        };
        assert_eq!(titles(&known).len(), 4, "{:?}", titles(&known));
        known.add_rate((Kind::Bare, Ways::Both, 64), 0, 1000.0, 1000.0);
        assert_eq!(
            titles(&known),
            ["latency at 50 %: bare AF_XDP forwarder", "latency at 90 %: bare AF_XDP forwarder"]
        );
    }

    #[test]
    fn rounds_take_turns_in_both_orders() {
        let arguments = arguments("--parts costs --only ringwall --rules 10 --rounds 1");
        let steps = steps(&arguments, &nothing(&arguments));
        let kinds: Vec<(Kind, u32)> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Cost { kind, burst: 1, round } => Some((*kind, *round)),
                _ => None,
            })
            .collect();
        let own = |state| Kind::Ringwall { rules: 10, state };
        let [first, second, third] = [Kind::Bare, own(State::Without), own(State::With)];
        assert_eq!(kinds, [(first, 0), (second, 0), (third, 0), (third, 1), (first, 1)]);
    }

    #[test]
    fn the_whole_run_takes_a_quarter_of_an_hour() {
        let arguments = arguments("");
        let steps = steps(&arguments, &nothing(&arguments));
        let progress = Progress::new(&steps, &arguments);
        let seconds: f64 = progress.estimates.iter().sum();
        assert!((300.0..1000.0).contains(&seconds), "{seconds}, {}", progress.outlook());
    }

    #[test]
    fn the_time_left_follows_the_pace() {
        let estimates = [1.0; 40];
        for (done, elapsed, expected) in
            [(0, 0.0, 40.0), (0, 5.0, 40.0), (20, 20.0, 20.0), (20, 40.0, 40.0), (1, 3.0, 46.8), (40, 99.0, 0.0)]
        {
            let found = left(&estimates, done, elapsed);
            assert!((found - expected).abs() < 0.01, "{done} {elapsed}: {found}");
        }
        for (seconds, expected) in [(0.0, "1 s"), (59.9, "59 s"), (99.0, "99 s"), (100.0, "2 min"), (901.0, "16 min")] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
