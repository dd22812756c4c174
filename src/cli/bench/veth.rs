//! `ringwall bench veth`: forwarders between two veth pairs in, their zero-loss rates, costs and delays beside each other out.
//!
//! The lab is built with one queue per interface. The generator sends and receives on one core, the forwarder's thread has another.
//! A virtual link always copies, so the kernel's part dominates: figures say how forwarders compare, not what a network card does.

mod forwarder;
mod measure;
mod page;
mod plot;
mod policy;
mod reload;
mod result;
mod search;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16};
use std::time::Duration;

use clap::Args;

use self::forwarder::{Kind, Site};
use self::measure::{Cost, Generator, Offer, Ways, cost};
use self::policy::{Form, State};
use self::result::{CostRow, CurveRow, LatencyRow, RateRow, Results, histogram};
use self::search::{Search, Shown};
use crate::cli::arguments::{Output, exit};
use crate::cli::lab::stop_flag;
use crate::cli::print;
use crate::io::xdp::Interface;
use crate::lab::generator::Rate;
use crate::lab::generator::ends::EndName;
use crate::lab::generator::traffic::{FRAME_SIZES, MOST_FLOWS, RFC_2544};
use crate::lab::place::{Lab, Place, Prefix};
use crate::lab::session::Session;
use crate::lab::topology::{self, CLIENT_INTERFACE, DOWNLINK, Offloads, UPLINK, WORKER_INTERFACE};
use crate::lab::{LabError, namespace};

/// Slots of the generator's rings.
const GENERATOR_RING: u32 = 8192;
/// Rounds of the costs, forwarders in turn; the least of each is taken.
const ROUNDS: usize = 3;

/// Arguments of `ringwall bench veth`.
#[derive(Debug, Args)]
pub struct VethArguments {
    /// Beginning of all names of the bench's lab
    #[arg(long, default_value = "rwbench-")]
    prefix: Prefix,
    /// Frame sizes with check sequence [default: 64,128,256,512,1024,1280,1518; 64 with --quick]
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(i64::from(FRAME_SIZES[0])..=i64::from(FRAME_SIZES[1])))]
    sizes: Vec<u16>,
    /// Numbers of rules [default: 0,1000,10000; 10000 with --quick]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(..=policy::MOST_RULES))]
    rules: Vec<u32>,
    /// Forwarders whose name contains one of these words, `bare` always among them
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds of a trial [default: 1; 0.3 with --quick]
    #[arg(long, value_name = "SECONDS", value_parser = trial_seconds)]
    trial: Option<f64>,
    /// The search ends when the interval is smaller than this part of the highest rate
    #[arg(long, value_name = "PART", default_value_t = 0.02, value_parser = part)]
    resolution: f64,
    /// Part of the packets that may be lost in a trial
    #[arg(long, value_name = "PART", default_value_t = 0.0, value_parser = part)]
    tolerance: f64,
    /// Trials of a rate that may fail before it counts as too fast
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    attempts: u32,
    /// Flows per direction
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_FLOWS)))]
    flows: u32,
    /// Half of the packets each way instead of all one way
    #[arg(long)]
    both_ways: bool,
    /// Slots of the gateway's rings, a power of two
    #[arg(long, value_name = "N", default_value_t = 4096)]
    ring: u32,
    /// Packets per second at which costs are measured
    #[arg(long, value_name = "PPS", default_value = "200k")]
    fixed_rate: Rate,
    /// Policy changes in the reload trial; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=1000))]
    reloads: u32,
    /// One size and one number of rules, short trials
    #[arg(long)]
    quick: bool,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn trial_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    if (0.05..=60.0).contains(&seconds) { Ok(seconds) } else { Err("expected 0.05 to 60 seconds".to_owned()) }
}

fn part(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| format!("`{text}` is no part"))?;
    if (0.0..=0.5).contains(&part) { Ok(part) } else { Err("expected 0 to 0.5".to_owned()) }
}

impl VethArguments {
    fn sizes(&self) -> Vec<u16> {
        match (self.sizes.is_empty(), self.quick) {
            (false, _) => self.sizes.clone(),
            (true, true) => vec![RFC_2544[0]],
            (true, false) => RFC_2544.to_vec(),
        }
    }

    fn rules(&self) -> Vec<u32> {
        match (self.rules.is_empty(), self.quick) {
            (false, _) => self.rules.clone(),
            (true, true) => vec![10_000],
            (true, false) => vec![0, 1_000, 10_000],
        }
    }

    fn trial(&self) -> Duration {
        Duration::from_secs_f64(self.trial.unwrap_or(if self.quick { 0.3 } else { 1.0 }))
    }

    fn ways(&self) -> Ways {
        if self.both_ways { Ways::Both } else { Ways::One }
    }

    /// The forwarders, the bare one first.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Bare, Kind::Testpmd];
        for rules in self.rules() {
            for state in [State::Without, State::With] {
                kinds.push(Kind::Ringwall { rules, state });
            }
        }
        for rules in self.rules() {
            let forms = if rules == 0 { &[Form::Linear][..] } else { &[Form::Linear, Form::Set] };
            for form in forms {
                for state in [State::Without, State::With] {
                    kinds.push(Kind::Nftables { rules, state, form: *form });
                }
            }
        }
        let is_wanted = |kind: &Kind| {
            let name = kind.name();
            *kind == Kind::Bare || self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
        };
        kinds.retain(|kind| kind.is_there() && is_wanted(kind));
        kinds
    }
}

/// Measures; returns the exit code.
pub fn run(arguments: &VethArguments) -> u8 {
    match measure(arguments) {
        Ok(results) => {
            if let Some(path) = &arguments.report
                && let Err(error) = fs::write(path, page::page(&results))
            {
                print::talk(&format!("error: cannot write `{}`: {error}\n", path.display()));
                return exit::ENVIRONMENT;
            }
            let text = match arguments.output {
                Output::Table => results.text(),
                Output::Json => results.json(),
            };
            print::result(&text, exit::DONE)
        }
        Err(error) => {
            print::talk(&format!("error: {error}\n"));
            error.exit_code()
        }
    }
}

/// A lab that is removed when dropped.
struct Built(Session);

impl Built {
    fn new(prefix: Prefix) -> Result<Built, LabError> {
        let session = Session::open(Lab::new(prefix, std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)))?;
        session.down()?;
        let built = Built(session);
        let directory = built.0.lab().directory();
        fs::create_dir_all(directory).map_err(|e| LabError::file(directory, e))?;
        topology::build(built.0.lab(), 1, Offloads::Default)?;
        Ok(built)
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            print::talk(&format!("error: the lab is not removed whole: {error}\n"));
        }
    }
}

/// What all parts of a run use.
struct Bench<'a> {
    arguments: &'a VethArguments,
    site: Site<'a>,
    generator: Generator<'a>,
    results: Results,
}

fn measure(arguments: &VethArguments) -> Result<Results, LabError> {
    let stop = stop_flag()?;
    let built = Built::new(arguments.prefix.clone())?;
    let lab = built.0.lab();
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let core = |number: usize| cores.get(number).filter(|_| cores.len() > 1).map(|core| core.id);
    let end = |place, interface: &str| {
        let name = EndName { namespace: Some(lab.namespace(place)), interface: interface.to_owned() };
        name.open(GENERATOR_RING)
    };
    let mut near = end(Place::Generator, CLIENT_INTERFACE)?;
    let mut far = end(Place::Workers, WORKER_INTERFACE)?;
    let mac = |port| Interface::query(port).map_or([0; 6], |interface| interface.mac);
    let macs = namespace::inside(&lab.namespace(Place::Gateway), || [UPLINK, DOWNLINK].map(mac))?;
    let generator = Generator {
        ends: [std::mem::take(&mut near.queues), std::mem::take(&mut far.queues)],
        macs,
        flows: arguments.flows,
        core: core(0),
        stop: &stop,
        run: AtomicU16::new(1),
    };
    let site = Site { lab, ring: arguments.ring, core: core(1) };
    let results = Results::new(arguments.trial(), arguments.flows, arguments.both_ways, cores.len());
    let mut bench = Bench { arguments, site, generator, results };
    bench.rates(&stop)?;
    bench.costs()?;
    bench.latencies()?;
    bench.curves()?;
    if arguments.reloads > 0 {
        bench.reloads()?;
    }
    let mut results = bench.results;
    results.judge();
    Ok(results)
}

impl Bench<'_> {
    fn offer(&self, rate: f64, size: u16) -> Offer {
        Offer { rate, size, duration: self.arguments.trial(), ways: self.arguments.ways() }
    }

    fn search(&self, most: f64) -> Search {
        let VethArguments { resolution, tolerance, attempts, .. } = *self.arguments;
        Search { most, resolution: resolution.max(0.001), tolerance, attempts }
    }

    /// Zero-loss rates, size by size, all forwarders in turn.
    fn rates(&mut self, stop: &AtomicBool) -> Result<(), LabError> {
        for size in self.arguments.sizes() {
            // What the generator can do decides how far to search.
            let flood = self.offer(0.0, size);
            let (site, generator) = (self.site, &mut self.generator);
            let most = site.with(Kind::Bare, |_| generator.trial(flood, |_, _| ()))??.ok_or(LabError::Interrupted)?;
            let search = self.search(most.shown().sent);
            for kind in self.arguments.kinds() {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return Err(LabError::Interrupted);
                }
                print::talk(&format!("{size} bytes: {}\n", kind.name()));
                let mut asked = asking(&mut self.generator, self.arguments, size);
                let found = self.site.with(kind, |_| asked.greeted(|trial| search.zero_loss(trial)))?;
                asked.failed()?;
                let zero_loss = found.ok_or(LabError::Interrupted)?;
                self.results.rates.push(RateRow::new(kind, size, zero_loss, search.most));
            }
        }
        Ok(())
    }

    /// Costs of a packet at a fixed rate in the smallest frames, in rounds.
    fn costs(&mut self) -> Result<(), LabError> {
        let Some(size) = self.arguments.sizes().first().copied() else { return Ok(()) };
        let Rate::PerSecond(wanted) = self.arguments.fixed_rate else { return Ok(()) };
        let kinds = self.arguments.kinds();
        let mut found: Vec<Vec<Cost>> = vec![Vec::new(); kinds.len()];
        for round in 1..=ROUNDS {
            print::talk(&format!("costs at {wanted} packets per second, round {round} of {ROUNDS}\n"));
            for (kind, costs) in kinds.iter().zip(&mut found) {
                // A forwarder that cannot keep up is measured at what it can.
                let most = self.results.rate(*kind, size).unwrap_or(0.0);
                let offer = self.offer((wanted as f64).min(0.9 * most).max(1.0), size);
                let generator = &mut self.generator;
                let cost = self.site.with(*kind, |watch| match generator.greet()? {
                    Some(()) => cost(generator, watch, offer),
                    None => Ok(None),
                })??;
                costs.push(cost.ok_or(LabError::Interrupted)?);
            }
        }
        for (kind, costs) in kinds.into_iter().zip(found) {
            self.results.costs.extend(Cost::least(costs).map(|cost| CostRow::new(kind, cost)));
        }
        Ok(())
    }

    /// The bare forwarder, and this program with most rules.
    fn leading(&self) -> Vec<Kind> {
        let rules = self.arguments.rules().into_iter().max().unwrap_or(0);
        let with = |state| Kind::Ringwall { rules, state };
        let kinds = self.arguments.kinds();
        [Kind::Bare, with(State::Without), with(State::With)].into_iter().filter(|kind| kinds.contains(kind)).collect()
    }

    /// Time inside the box at half and at nine tenths of the zero-loss rate.
    fn latencies(&mut self) -> Result<(), LabError> {
        let Some(size) = self.arguments.sizes().first().copied() else { return Ok(()) };
        for kind in self.leading() {
            for percent in [50, 90] {
                let rate = self.results.rate(kind, size).unwrap_or(0.0) * f64::from(percent) / 100.0;
                if rate < 1.0 {
                    continue;
                }
                print::talk(&format!("latency at {percent} %: {}\n", kind.name()));
                let (offer, generator) = (self.offer(rate, size), &mut self.generator);
                let seen = self.site.with(kind, |watch| {
                    let trial = generator.trial(offer, |_, _| ())?;
                    Ok::<_, LabError>(trial.map(|trial| (trial, watch.reports())))
                })??;
                let (trial, reports) = seen.ok_or(LabError::Interrupted)?;
                for report in reports {
                    let inside = report.latency.histogram();
                    self.results.latencies.push(LatencyRow {
                        forwarder: kind.name(),
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
        let rules = self.arguments.rules().into_iter().max().unwrap_or(0);
        let kinds = self.arguments.kinds();
        let kernel = [Form::Linear, Form::Set].map(|form| Kind::Nftables { rules, state: State::Without, form });
        let wanted = self.leading().into_iter().chain(kernel.into_iter().filter(|kind| kinds.contains(kind)));
        for kind in wanted.collect::<Vec<_>>() {
            let most = self.results.rates.iter().find(|row| row.size == size).map_or(0.0, |row| row.offered_most);
            print::talk(&format!("loss curve: {}\n", kind.name()));
            let search = self.search(most);
            let mut asked = asking(&mut self.generator, self.arguments, size);
            let points = self.site.with(kind, |_| asked.greeted(|trial| search.loss_curve(trial)))?;
            asked.failed()?;
            let points = points.ok_or(LabError::Interrupted)?;
            self.results.curves.push(CurveRow { forwarder: kind.name(), size, points });
        }
        Ok(())
    }

    /// Policy changes under load.
    fn reloads(&mut self) -> Result<(), LabError> {
        let Some(size) = self.arguments.sizes().first().copied() else { return Ok(()) };
        let rules = self.arguments.rules().into_iter().max().unwrap_or(0);
        let kind = Kind::Ringwall { rules, state: State::Without };
        let Some(zero_loss) = self.results.rate(kind, size) else { return Ok(()) };
        print::talk(&format!("{} policy changes at 80 %: {}\n", self.arguments.reloads, kind.name()));
        let offer = Offer { rate: 0.8 * zero_loss, ways: Ways::One, ..self.offer(1.0, size) };
        let row = reload::under_load(&self.site, &mut self.generator, rules, self.arguments.reloads, offer)?;
        self.results.reload = Some(row.ok_or(LabError::Interrupted)?);
        Ok(())
    }
}

/// Trials for a search, which knows no errors; the first one is kept.
struct Asking<'a, 'g> {
    generator: &'a mut Generator<'g>,
    arguments: &'a VethArguments,
    size: u16,
    error: Option<LabError>,
}

fn asking<'a, 'g>(generator: &'a mut Generator<'g>, arguments: &'a VethArguments, size: u16) -> Asking<'a, 'g> {
    Asking { generator, arguments, size, error: None }
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
            let arguments = self.arguments;
            let offer = Offer { rate, size: self.size, duration: arguments.trial(), ways: arguments.ways() };
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
