//! What all parts of a run share in, their figures out: rates, costs, delays, loss curves and policy changes.

use std::sync::atomic::Ordering;

use clap::ValueEnum;

use super::forwarder::{Kind, Site};
use super::measure::{self, Cost, Generator, Offer, Trial, Ways, cost};
use super::policy::{Form, State};
use super::reload;
use super::result::{CostRow, CurveRow, LatencyRow, Results, histogram};
use super::search::{Search, Shown};
use super::{Part, VethArguments};
use crate::cli::print;
use crate::lab::LabError;
use crate::lab::generator::Rate;

/// How many packets are sent together where costs are measured: one, as a lone host does, and as many as come from one that
/// sends segments.
const BURSTS: [u64; 2] = [1, 64];
/// Times that delays and costs are measured if others disturb it.
const UNDISTURBED: u32 = 4;
/// Trials that tell how much the generator can send: the best of them, because others on the machine slow it down.
const FLOODS: usize = 3;
/// Rounds of costs for each round of rates: they take less time and differ by less.
const COST_ROUNDS: u32 = 3;

/// What all parts of a run use.
pub struct Bench<'a> {
    /// What the user wants.
    pub arguments: &'a VethArguments,
    /// Where forwarders run.
    pub site: Site<'a>,
    /// The generator.
    pub generator: Generator<'a>,
    /// What has been measured.
    pub results: Results,
}

impl Bench<'_> {
    /// Measures what the user wants, part by part.
    ///
    /// # Errors
    /// What kept a forwarder or the generator from working, or that the user stopped it; what was measured before is kept.
    pub fn run(&mut self) -> Result<(), LabError> {
        let arguments = self.arguments;
        for part in Part::value_variants().iter().filter(|part| arguments.wants(**part)) {
            match part {
                Part::Rates => self.rates()?,
                Part::Costs => self.costs()?,
                Part::Latencies => self.latencies()?,
                Part::Curves => self.curves()?,
                Part::Reloads => self.reloads()?,
            }
        }
        Ok(())
    }

    fn offer(&self, rate: f64, ways: Ways, size: u16) -> Offer {
        Offer { rate, size, duration: self.arguments.trial(), ways, burst: 1 }
    }

    /// Directions of all parts that need one kind of traffic only.
    fn main_ways(&self) -> Ways {
        self.arguments.ways().first().copied().unwrap_or(Ways::Both)
    }

    fn search(&self, most: f64) -> Search {
        let VethArguments { resolution, tolerance, attempts, .. } = *self.arguments;
        Search { most, resolution: resolution.max(0.001), tolerance, attempts }
    }

    fn go_on(&self) -> Result<(), LabError> {
        if self.generator.stop.load(Ordering::Relaxed) { Err(LabError::Interrupted) } else { Ok(()) }
    }

    fn most_rules(&self) -> u32 {
        self.arguments.rules().into_iter().max().unwrap_or(0)
    }

    /// What is measured in several rounds, because it is compared closely.
    fn is_compared(&self, kind: Kind) -> bool {
        [Kind::Bare, Kind::Testpmd, Kind::Ringwall { rules: self.most_rules(), state: State::With }].contains(&kind)
    }

    /// What runs in a round, from 0: every second one in the opposite order, so that a machine that grows slower favours nobody.
    fn in_round(&self, round: u32, kinds: &[Kind]) -> Vec<Kind> {
        let kinds = kinds.iter().copied().filter(|kind| round == 0 || self.is_compared(*kind));
        if round.is_multiple_of(2) { kinds.collect() } else { kinds.rev().collect() }
    }

    /// Zero-loss rates, size by size, all forwarders in turn.
    fn rates(&mut self) -> Result<(), LabError> {
        let all = self.arguments.kinds();
        for (number, size) in self.arguments.sizes().into_iter().enumerate() {
            for ways in self.arguments.ways() {
                let is_main = ways == self.main_ways();
                let is_wanted = |kind: &Kind| match kind {
                    // How the kernel's rate depends on the number of rules shows with one size.
                    Kind::Nftables { rules, .. } => is_main && (number == 0 || *rules == self.most_rules()),
                    Kind::Testpmd => is_main,
                    _ => is_main || self.is_compared(*kind),
                };
                let kinds: Vec<Kind> = all.iter().copied().filter(is_wanted).collect();
                let rounds = if is_main || number == 0 { self.arguments.rounds() } else { 1 };
                self.rates_of(&kinds, ways, size, rounds)?;
            }
        }
        Ok(())
    }

    fn rates_of(&mut self, kinds: &[Kind], ways: Ways, size: u16, rounds: u32) -> Result<(), LabError> {
        // What the generator can do decides how far to search.
        let flood = self.offer(0.0, ways, size);
        let (site, generator) = (self.site, &mut self.generator);
        let floods = site.with(Kind::Bare, |_| {
            let trials = (0..FLOODS).map(|_| generator.trial(flood, |_, _| ()));
            trials.collect::<Result<Option<Vec<Trial>>, LabError>>()
        })??;
        let sent = floods.ok_or(LabError::Interrupted)?.iter().map(|trial| trial.shown().sent).fold(0.0, f64::max);
        let search = self.search(sent);
        let mut found: Vec<Vec<f64>> = vec![Vec::new(); kinds.len()];
        for round in 0..rounds {
            for kind in self.in_round(round, kinds) {
                self.go_on()?;
                print::talk(&format!("{size} bytes, {}: {}\n", ways.word(), kind.name()));
                let (site, mut asked) = (self.site, self.asking(ways, size));
                let zero_loss = site.with(kind, |_| asked.greeted(|trial| search.zero_loss(trial)))?;
                asked.failed()?;
                let zero_loss = zero_loss.ok_or(LabError::Interrupted)?;
                if let Some(rounds) = kinds.iter().position(|known| *known == kind).and_then(|at| found.get_mut(at)) {
                    rounds.push(zero_loss);
                }
            }
        }
        for (kind, rounds) in kinds.iter().zip(found) {
            self.results.add_rates((*kind, ways, size), rounds, search.most);
        }
        Ok(())
    }

    /// The zero-loss rate of a forwarder, which is measured if it is not known.
    fn rate(&mut self, kind: Kind, ways: Ways, size: u16) -> Result<f64, LabError> {
        if self.results.rate(kind, ways, size).is_none() {
            self.rates_of(&[kind], ways, size, 1)?;
        }
        Ok(self.results.rate(kind, ways, size).unwrap_or(0.0))
    }

    /// Costs of a packet at a fixed rate in the smallest frames, in rounds.
    fn costs(&mut self) -> Result<(), LabError> {
        let Some(size) = self.arguments.sizes().first().copied() else { return Ok(()) };
        let Rate::PerSecond(wanted) = self.arguments.fixed_rate else { return Ok(()) };
        let kinds = self.arguments.kinds();
        for burst in BURSTS {
            let mut found: Vec<Vec<Cost>> = vec![Vec::new(); kinds.len()];
            let rounds = self.arguments.rounds() * COST_ROUNDS;
            for round in 0..rounds {
                let number = round + 1;
                print::talk(&format!(
                    "costs at {wanted} packets per second, {burst} at once, round {number} of {rounds}\n"
                ));
                for kind in self.in_round(round, &kinds) {
                    self.go_on()?;
                    let cost = self.cost(kind, wanted as f64, burst, size)?;
                    if let Some(costs) = kinds.iter().position(|known| *known == kind).and_then(|at| found.get_mut(at))
                    {
                        costs.push(cost);
                    }
                }
            }
            for (kind, costs) in kinds.iter().zip(&found) {
                if let Some(row) = CostRow::new(*kind, burst, costs) {
                    self.results.add_costs(row);
                }
            }
        }
        Ok(())
    }

    fn cost(&mut self, kind: Kind, wanted: f64, burst: u64, size: u16) -> Result<Cost, LabError> {
        let ways = self.main_ways();
        // A kernel that cannot keep up is measured at what it can; the others keep up with any rate that suits here.
        let rate = match kind {
            Kind::Nftables { .. } => wanted.min(0.9 * self.rate(kind, ways, size)?).max(1.0),
            _ => wanted,
        };
        let offer = Offer { burst, ..self.offer(rate, ways, size) };
        self.undisturbed(|bench| {
            let generator = &mut bench.generator;
            let (cost, account) = bench.site.with_account(kind, |watch| match generator.greet()? {
                Some(()) => cost(generator, watch, offer),
                None => Ok(None),
            })?;
            let cost: Cost = cost?.ok_or(LabError::Interrupted)?;
            Ok((Cost { busy: cost.busy.or(account), ..cost }, cost.was_disturbed))
        })
    }

    /// Measures until nobody else had the cores meanwhile, which `measure` tells, or the patience for that is at its end.
    fn undisturbed<R>(
        &mut self,
        mut measure: impl FnMut(&mut Self) -> Result<(R, bool), LabError>,
    ) -> Result<R, LabError> {
        let mut attempt = 1;
        loop {
            let (found, was_disturbed) = measure(self)?;
            if !was_disturbed || attempt == UNDISTURBED {
                return Ok(found);
            }
            attempt += 1;
        }
    }

    /// The bare forwarder, and this program with most rules.
    fn leading(&self) -> Vec<Kind> {
        let rules = self.most_rules();
        let with = |state| Kind::Ringwall { rules, state };
        let kinds = self.arguments.kinds();
        [Kind::Bare, with(State::Without), with(State::With)].into_iter().filter(|kind| kinds.contains(kind)).collect()
    }

    /// Time inside the box at half and at nine tenths of the zero-loss rate.
    fn latencies(&mut self) -> Result<(), LabError> {
        let Some(size) = self.arguments.sizes().first().copied() else { return Ok(()) };
        let ways = self.main_ways();
        for kind in self.leading() {
            for percent in [50, 90] {
                let rate = self.rate(kind, ways, size)? * f64::from(percent) / 100.0;
                if rate < 1.0 {
                    continue;
                }
                print::talk(&format!("latency at {percent} %: {}\n", kind.name()));
                let offer = self.offer(rate, ways, size);
                let (trial, reports) = self.undisturbed(|bench| {
                    let generator = &mut bench.generator;
                    let seen = bench.site.with(kind, |watch| {
                        let trial = generator.trial(offer, |_, _| ())?;
                        Ok::<_, LabError>(trial.map(|trial| (trial, watch.reports())))
                    })??;
                    let (trial, reports) = seen.ok_or(LabError::Interrupted)?;
                    let was_disturbed = trial.shown().was_disturbed;
                    Ok(((trial, reports), was_disturbed))
                })?;
                self.results.latencies.retain(|row| (row.forwarder, row.percent) != (kind, percent));
                for report in reports {
                    let inside = report.latency.histogram();
                    self.results.latencies.push(LatencyRow {
                        forwarder: kind,
                        ways,
                        percent,
                        rate: trial.shown().sent,
                        queue: report.worker.0,
                        inside_ns: measure::percentiles(inside),
                        one_way_ns: measure::percentiles(&trial.delays),
                        inside_histogram: histogram(inside),
                        one_way_histogram: histogram(&trial.delays),
                    });
                }
            }
        }
        Ok(())
    }

    /// Loss at falling rates.
    fn curves(&mut self) -> Result<(), LabError> {
        let Some(size) = self.arguments.sizes().first().copied() else { return Ok(()) };
        let (ways, rules) = (self.main_ways(), self.most_rules());
        let kinds = self.arguments.kinds();
        let kernel = Form::ALL.map(|form| Kind::Nftables { rules, state: State::Without, form });
        let wanted = self.leading().into_iter().chain(kernel.into_iter().filter(|kind| kinds.contains(kind)));
        self.rate(Kind::Bare, ways, size)?;
        let most = self.results.rates_of(Kind::Bare, ways, size).map_or(0.0, |row| row.offered_most);
        for kind in wanted.collect::<Vec<_>>() {
            self.go_on()?;
            print::talk(&format!("loss curve: {}\n", kind.name()));
            let search = self.search(most);
            let (site, mut asked) = (self.site, self.asking(ways, size));
            let points = site.with(kind, |_| asked.greeted(|trial| search.loss_curve(trial)))?;
            asked.failed()?;
            let points = points.ok_or(LabError::Interrupted)?;
            self.results.curves.retain(|row| row.forwarder != kind);
            self.results.curves.push(CurveRow { forwarder: kind, ways, size, points });
        }
        Ok(())
    }

    /// Policy changes under load.
    fn reloads(&mut self) -> Result<(), LabError> {
        let Some(size) = self.arguments.sizes().first().copied() else { return Ok(()) };
        let rules = self.most_rules();
        let kind = Kind::Ringwall { rules, state: State::Without };
        if self.arguments.reloads == 0 || !self.arguments.kinds().contains(&kind) {
            return Ok(());
        }
        let zero_loss = self.rate(kind, Ways::Inbound, size)?;
        print::talk(&format!("{} policy changes at 80 %: {}\n", self.arguments.reloads, kind.name()));
        let offer = self.offer(0.8 * zero_loss, Ways::Inbound, size);
        let row = reload::under_load(&self.site, &mut self.generator, rules, self.arguments.reloads, offer)?;
        self.results.reload = Some(row.ok_or(LabError::Interrupted)?);
        Ok(())
    }
}

impl<'g> Bench<'g> {
    fn asking(&mut self, ways: Ways, size: u16) -> Asking<'_, 'g> {
        let offer = self.offer(0.0, ways, size);
        Asking { generator: &mut self.generator, offer, error: None }
    }
}

/// Trials for a search, which knows no errors; the first one is kept.
struct Asking<'a, 'g> {
    generator: &'a mut Generator<'g>,
    /// At every rate.
    offer: Offer,
    error: Option<LabError>,
}

impl Asking<'_, '_> {
    /// Greets the forwarder, then searches.
    fn greeted<R>(&mut self, search: impl FnOnce(&mut dyn FnMut(f64) -> Option<Shown>) -> Option<R>) -> Option<R> {
        match self.generator.greet() {
            Ok(greeted) => greeted?,
            Err(error) => {
                self.error = Some(error);
                return None;
            }
        }
        search(&mut |rate| {
            let offer = Offer { rate, ..self.offer };
            match self.generator.trial(offer, |_, _| ()) {
                Ok(trial) => trial.map(|trial| trial.shown()),
                Err(error) => {
                    self.error = Some(error);
                    None
                }
            }
        })
    }

    fn failed(self) -> Result<(), LabError> {
        self.error.map_or(Ok(()), Err)
    }
}
