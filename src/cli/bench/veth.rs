//! `ringwall bench veth`: forwarders between two veth pairs in, their zero-loss rates, costs and delays beside each other out.
//!
//! The lab is built with one queue per interface. The generator sends and receives on one core, the forwarder's thread has another.
//! It keeps the rate: what it was held up for is left out, not sent in a burst afterwards.
//! A virtual link always copies, so the kernel's part dominates: figures say how forwarders compare, not what a network card does.

mod forwarder;
mod marks;
mod measure;
mod page;
mod parts;
mod plan;
mod plot;
mod policy;
mod reload;
mod result;
mod search;
mod testpmd;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU16;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::forwarder::{Compiled, Kind, Site, Waiting};
use self::measure::{Generator, Ways};
use self::parts::Bench;
use self::policy::{Form, State};
use self::result::Results;
use crate::cli::arguments::{Output, exit};
use crate::cli::lab::stop_flag;
use crate::cli::print;
use crate::control::cores;
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

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Zero-loss rates
    Rates,
    /// Nanoseconds of a packet at a fixed rate
    Costs,
    /// Rates, costs and delays by how the gateway's thread waits
    Waiting,
    /// Delays at half and at nine tenths of the zero-loss rate
    Latencies,
    /// Loss at falling rates
    Curves,
    /// Policy changes under load
    Reloads,
}

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
    /// What to measure [default: everything]
    #[arg(long, value_name = "PART", value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Forwarders whose name contains one of these words, `bare` always among them
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    only: Vec<String>,
    /// Directions of the traffic, half of the packets each for `both`; beyond the first, only the bare forwarder and this program
    /// with most rules [default: all; both with --quick]
    #[arg(long, value_name = "WAYS", value_enum, value_delimiter = ',')]
    ways: Vec<Ways>,
    /// Rounds of what is compared with the bare forwarder, in turn, of which medians are taken; one for further sizes and ways
    /// [default: 3; 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: Option<u32>,
    /// Seconds of a trial [default: 0.4; 0.3 with --quick]
    #[arg(long, value_name = "SECONDS", value_parser = trial_seconds)]
    trial: Option<f64>,
    /// The search ends when the interval is smaller than this part of its upper end
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
    /// How the thread of the bare forwarder and of this program waits
    #[arg(long, value_name = "WAY", value_enum, default_value_t = Waiting::Adaptive)]
    poll: Waiting,
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
    /// Add to the figures that earlier runs have left in a file, and print all of them: a long run in pieces
    #[arg(long, value_name = "FILE")]
    collect: Option<PathBuf>,
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
        Duration::from_secs_f64(self.trial.unwrap_or(if self.quick { 0.3 } else { 0.4 }))
    }

    fn ways(&self) -> Vec<Ways> {
        match (self.ways.is_empty(), self.quick) {
            (false, _) => self.ways.clone(),
            (true, true) => vec![Ways::Both],
            (true, false) => vec![Ways::Both, Ways::Inbound, Ways::Outbound],
        }
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// Directions of all parts that need one kind of traffic only.
    fn main_ways(&self) -> Ways {
        self.ways().first().copied().unwrap_or(Ways::Both)
    }

    /// Frame size of all parts that need one only.
    fn main_size(&self) -> u16 {
        self.sizes().first().copied().unwrap_or(RFC_2544[0])
    }

    fn most_rules(&self) -> u32 {
        self.rules().into_iter().max().unwrap_or(0)
    }

    /// Packets per second at which costs are measured; 0 where there is no such rate.
    fn fixed_pps(&self) -> u64 {
        match self.fixed_rate {
            Rate::PerSecond(rate) => rate,
            Rate::Max => 0,
        }
    }

    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// The forwarders, the bare one first.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Bare, Kind::Testpmd];
        for rules in self.rules() {
            for state in State::ALL {
                kinds.push(Kind::Ringwall { rules, state });
            }
        }
        for rules in self.rules() {
            let forms = if rules == 0 { &[Form::Linear][..] } else { &Form::ALL };
            for form in forms {
                for state in State::ALL {
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

fn measure(arguments: &VethArguments) -> Result<Results, LabError> {
    let cores = cores::allowed();
    let results = Results::new(arguments.trial(), arguments.flows, arguments.poll, cores.len());
    let results = match &arguments.collect {
        None => results,
        Some(path) => {
            let text = match fs::read_to_string(path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(LabError::file(path, error)),
            };
            let refusal = |message| LabError::Usage(format!("`{}` is not to be added to: {message}", path.display()));
            results.going_on(text.as_deref()).map_err(refusal)?
        }
    };
    let stop = stop_flag()?;
    let built = Built::new(arguments.prefix.clone())?;
    let lab = built.0.lab();
    let core = |number: usize| cores.get(number).copied().filter(|_| cores.len() > 1);
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
    let compiled = Compiled::default();
    let site = Site { lab, ring: arguments.ring, core: core(1), waiting: arguments.poll, compiled: &compiled };
    if !testpmd::Testpmd::is_installed() {
        print::talk("left out, because it is not installed: DPDK's testpmd (`make peers` installs it)\n");
    }
    let mut bench = Bench { arguments, site, generator, results, most: Vec::new(), costs: Vec::new() };
    let done = bench.run();
    let mut results = bench.results;
    results.judge();
    if let Some(path) = &arguments.collect {
        // What was measured before an interrupt stays measured.
        fs::write(path, results.json()).map_err(|e| LabError::file(path, e))?;
    }
    done.map(|()| results)
}
