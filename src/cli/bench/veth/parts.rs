//! What all parts of a run share in, their figures out: rates, costs, delays, loss curves and policy changes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::VethArguments;
use super::forwarder::{Kind, Site, Waiting};
use super::measure::{self, Cost, Generator, Offer, Trial, Ways, cost};
use super::plan::{self, Progress, Step};
use super::reload;
use super::result::{CostRow, CurveRow, LatencyRow, Results, WaitingRow, histogram};
use super::search::{Search, Shown};
use crate::cli::print;
use crate::lab::LabError;
use crate::worker::Report;

/// Times that delays are measured if others disturb it.
const UNDISTURBED: u32 = 6;
/// Trials that tell how much the generator can send: the best of them, because others on the machine slow it down.
pub const FLOODS: usize = 3;

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
    /// What the generator can send, by ways and size.
    pub most: Vec<((Ways, u16), f64)>,
    /// The costs of the forwarder and burst of each step, round by round.
    pub costs: Vec<((Kind, u64), Vec<Cost>)>,
}

/// How long each of the slices is in which costs are measured.
pub fn slice(arguments: &VethArguments) -> Duration {
    (arguments.trial() / 4).max(Duration::from_millis(50))
}

impl Bench<'_> {
    /// Measures what the user wants, step by step.
    ///
    /// # Errors
    /// What kept a forwarder or the generator from working, or that the user stopped it; what was measured before is kept.
    pub fn run(&mut self) -> Result<(), LabError> {
        let steps = plan::steps(self.arguments, &self.results);
        let mut progress = Progress::new(&steps, self.arguments);
        print::talk(&progress.outlook());
        for step in steps {
            self.go_on()?;
            print::talk(&progress.next(&step.title(self.arguments)));
            match step {
                Step::Flood { ways, size } => self.flood(ways, size)?,
                Step::Rate { kind, ways, size, round } => self.rate(kind, ways, size, round)?,
                Step::Cost { kind, burst, .. } => self.cost(kind, burst)?,
                Step::Waiting { kind, waiting } => self.waiting(kind, waiting)?,
                Step::Latency { kind, percent } => self.latency(kind, percent)?,
                Step::Curve { kind } => self.curve(kind)?,
                Step::Reload { kind } => self.reload(kind)?,
            }
        }
        Ok(())
    }

    fn offer(&self, rate: f64, ways: Ways, size: u16) -> Offer {
        Offer { rate, size, duration: self.arguments.trial(), ways, burst: 1 }
    }

    /// The traffic of all parts that need one kind only.
    fn main(&self) -> (Ways, u16) {
        (self.arguments.main_ways(), self.arguments.main_size())
    }

    fn search(&self, most: f64) -> Search {
        let VethArguments { resolution, tolerance, attempts, .. } = *self.arguments;
        Search { most, resolution: resolution.max(0.001), tolerance, attempts }
    }

    fn go_on(&self) -> Result<(), LabError> {
        if self.generator.stop.load(Ordering::Relaxed) { Err(LabError::Interrupted) } else { Ok(()) }
    }

    /// What the generator can send decides how far to search.
    fn flood(&mut self, ways: Ways, size: u16) -> Result<(), LabError> {
        let flood = self.offer(0.0, ways, size);
        let (site, generator) = (self.site, &mut self.generator);
        let floods = site.with(Kind::Bare, |_| {
            let trials = (0..FLOODS).map(|_| generator.trial(flood, |_, _| ()));
            trials.collect::<Result<Option<Vec<Trial>>, LabError>>()
        })??;
        let sent = floods.ok_or(LabError::Interrupted)?.iter().map(|trial| trial.shown().sent).fold(0.0, f64::max);
        self.most.push(((ways, size), sent));
        Ok(())
    }

    fn most(&self, of: (Ways, u16)) -> f64 {
        self.most.iter().rev().find(|(known, _)| *known == of).map_or(1.0, |(_, most)| *most)
    }

    /// A rate near which a forwarder's is likely to be: that of an earlier round, or of another size.
    fn guess(&self, kind: Kind, ways: Ways, size: u16) -> Option<f64> {
        let rows = self.results.rates.iter().filter(|row| (row.forwarder, row.ways) == (kind, ways));
        rows.min_by_key(|row| row.size.abs_diff(size)).map(|row| row.zero_loss)
    }

    /// A zero-loss rate of a forwarder.
    fn rate(&mut self, kind: Kind, ways: Ways, size: u16, round: u32) -> Result<(), LabError> {
        let search = self.search(self.most((ways, size)));
        let guess = self.guess(kind, ways, size);
        let (site, mut asked) = (self.site, self.asking(ways, size));
        let zero_loss = site.with(kind, |_| asked.greeted(|trial| search.zero_loss(guess, trial)))?;
        asked.failed()?;
        let zero_loss = zero_loss.ok_or(LabError::Interrupted)?;
        self.results.add_rate((kind, ways, size), round, zero_loss, search.most);
        Ok(())
    }

    /// Costs of a packet at the fixed rate, in the smallest frames.
    fn cost(&mut self, kind: Kind, burst: u64) -> Result<(), LabError> {
        let (ways, size) = self.main();
        let wanted = self.arguments.fixed_pps() as f64;
        // A kernel that cannot keep up is measured at what it can; the others keep up with any rate that suits here.
        let rate = match kind {
            Kind::Nftables { .. } => wanted.min(0.9 * self.results.rate(kind, ways, size).unwrap_or(0.0)).max(1.0),
            _ => wanted,
        };
        let offer = Offer { burst, duration: slice(self.arguments), ..self.offer(rate, ways, size) };
        let (site, generator) = (self.site, &mut self.generator);
        let (cost, account) = site.with_account(kind, |watch| match generator.greet()? {
            Some(()) => cost(generator, watch, offer),
            None => Ok(None),
        })?;
        let cost: Cost = cost?.ok_or(LabError::Interrupted)?;
        let cost = Cost { busy: cost.busy.or(account), ..cost };
        let rounds = match self.costs.iter_mut().find(|(known, _)| *known == (kind, burst)) {
            Some((_, rounds)) => {
                rounds.push(cost);
                rounds
            }
            None => {
                self.costs.push(((kind, burst), vec![cost]));
                &mut self.costs.last_mut().expect("it was pushed before").1
            }
        };
        if let Some(row) = CostRow::new(kind, burst, rounds) {
            self.results.add_costs(row);
        }
        Ok(())
    }

    /// Rate, cost and delays with one way of waiting.
    fn waiting(&mut self, kind: Kind, waiting: Waiting) -> Result<(), LabError> {
        let (ways, size) = self.main();
        let site = Site { waiting, ..self.site };
        let offer =
            Offer { duration: slice(self.arguments), ..self.offer(self.arguments.fixed_pps() as f64, ways, size) };
        let generator = &mut self.generator;
        let (cost, _) = site.with_account(kind, |watch| match generator.greet()? {
            Some(()) => cost(generator, watch, offer),
            None => Ok(None),
        })?;
        let cost: Cost = cost?.ok_or(LabError::Interrupted)?;
        let search = self.search(self.most((ways, size)));
        let guess = self.guess(kind, ways, size);
        let mut asked = self.asking(ways, size);
        let zero_loss = site.with(kind, |_| asked.greeted(|trial| search.zero_loss(guess, trial)))?;
        asked.failed()?;
        let row = WaitingRow::new(kind, waiting, zero_loss.ok_or(LabError::Interrupted)?, &cost);
        self.results.waiting.retain(|known| (known.forwarder, known.waiting) != (kind, waiting));
        self.results.waiting.push(row);
        Ok(())
    }

    /// A trial that nobody disturbed, with what the gateway's thread says after it; when the patience for that is at its end, the one
    /// that was disturbed least.
    fn undisturbed(&mut self, kind: Kind, offer: Offer) -> Result<(Trial, Vec<Report>), LabError> {
        let mut best: Option<(Trial, Vec<Report>)> = None;
        for _ in 0..UNDISTURBED {
            let generator = &mut self.generator;
            let seen = self.site.with(kind, |watch| {
                let trial = generator.trial(offer, |_, _| ())?;
                Ok::<_, LabError>(trial.map(|trial| (trial, watch.reports())))
            })??;
            let seen = seen.ok_or(LabError::Interrupted)?;
            // A thread that gives no answer has had no core, either.
            let (without_answer, without_core) = (seen.1.is_empty(), seen.0.without_core);
            let was_disturbed = without_answer || seen.0.shown().was_disturbed;
            let order = |(trial, reports): &(Trial, Vec<Report>)| (reports.is_empty(), trial.without_core);
            if best.as_ref().is_none_or(|best| (without_answer, without_core) < order(best)) {
                best = Some(seen);
            }
            if !was_disturbed {
                break;
            }
        }
        best.ok_or(LabError::Interrupted)
    }

    /// Time inside the box at a part of the zero-loss rate.
    fn latency(&mut self, kind: Kind, percent: u32) -> Result<(), LabError> {
        let (ways, size) = self.main();
        let rate = self.results.rate(kind, ways, size).unwrap_or(0.0) * f64::from(percent) / 100.0;
        if rate < 1.0 {
            return Ok(());
        }
        let offer = self.offer(rate, ways, size);
        let (trial, reports) = self.undisturbed(kind, offer)?;
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
        Ok(())
    }

    /// Loss at falling rates.
    fn curve(&mut self, kind: Kind) -> Result<(), LabError> {
        let (ways, size) = self.main();
        let search = self.search(self.most((ways, size)));
        let (site, mut asked) = (self.site, self.asking(ways, size));
        let points = site.with(kind, |_| asked.greeted(|trial| search.loss_curve(trial)))?;
        asked.failed()?;
        let points = points.ok_or(LabError::Interrupted)?;
        self.results.curves.retain(|row| row.forwarder != kind);
        self.results.curves.push(CurveRow { forwarder: kind, ways, size, points });
        Ok(())
    }

    /// Policy changes under load.
    fn reload(&mut self, kind: Kind) -> Result<(), LabError> {
        let (rules, size) = (self.arguments.most_rules(), self.arguments.main_size());
        let zero_loss = self.results.rate(kind, Ways::Inbound, size).unwrap_or(0.0);
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
