//! `ringwall run`: the gateway between two interfaces, until a signal.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use clap::Args;

use super::arguments::{GatewayArguments, Output, exit};
use super::{findings, print, summary};
use crate::base::diagnostic::Diagnostics;
use crate::config::Plan;
use crate::control::cores;
use crate::control::daemon::{self, Reload, RunSettings};
use crate::control::hardware;
use crate::control::load::{Loaded, load};
use crate::control::log::sink::{SYSLOG, Sink, Target};
use crate::control::log::{self, LogQueue, LogTap, Writing};
use crate::io::ErrorClass;
use crate::worker::EngineJudge;

/// Arguments of `ringwall run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    gateway: GatewayArguments,
    /// Load and check everything, say what would run, and stop
    #[arg(long)]
    dry_run: bool,
    /// Where Log actions write: `syslog`, `file:PATH` or `json:PATH`, any number of times [default: syslog where it runs]
    #[arg(long, value_name = "TARGET")]
    log: Vec<Target>,
    /// Form of the summary at the end
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Runs; returns the exit code.
pub fn run(arguments: &RunArguments) -> u8 {
    let request = arguments.gateway.request();
    let outcome = load(&request, 1, None);
    findings::print(&outcome.findings, &outcome.sources);
    let Some(first) = outcome.loaded else { return exit::INVALID };
    let settings = match settings(&first.plan) {
        Ok(settings) => settings,
        Err(found) => {
            findings::print(&found, &[]);
            return exit::INVALID;
        }
    };
    let interfaces = [settings.ports.uplink.as_str(), settings.ports.downlink.as_str()];
    findings::print(&hardware::compare(&first.plan.profile, interfaces, Path::new("/sys")), &[]);
    let workers = settings.ports.queues as usize;
    if arguments.dry_run {
        let text = format!(
            "would run {} and {} with {workers} queues, mode {}, {} policies\n",
            settings.ports.uplink,
            settings.ports.downlink,
            settings.ports.mode.name(),
            first.policy.rulesets.len()
        );
        return print::result(&text, exit::DONE);
    }
    let sinks = match sinks(&arguments.log) {
        Ok(sinks) => sinks,
        Err(error) => {
            eprintln!("error: {error}");
            return exit::INVALID;
        }
    };
    let queue = Arc::new(LogQueue::default());
    queue.knows(Arc::clone(&first.program), first.policy.log.clone());
    let writing = Writing {
        ports: [settings.ports.uplink.clone(), settings.ports.downlink.clone()],
        options: first.options(),
        sinks,
    };
    let seed = seed();
    let mut generation = 1;
    let reload = || {
        let outcome = load(&request, generation + 1, Some(workers));
        match outcome.loaded {
            Some(loaded) if settings_agree(&loaded, &first) => {
                generation += 1;
                outcome.findings.iter().for_each(|finding| tracing::warn!("{finding}"));
                queue.knows(Arc::clone(&loaded.program), loaded.policy.log.clone());
                Reload::Publish(loaded.load())
            }
            Some(_) => Reload::Refuse(needs_restart()),
            None => Reload::Refuse(outcome.findings),
        }
    };
    let judge = |worker, load| {
        let judge = EngineJudge::new(load, &first.settings(worker, workers, seed));
        judge.populate();
        (judge, LogTap(Arc::clone(&queue)))
    };
    let done = thread::scope(|scope| {
        let writer = thread::Builder::new().name("log".to_owned()).spawn_scoped(scope, || {
            cores::stand_aside(&cores::allowed(), &settings.cores);
            log::write(&queue, writing)
        })?;
        let done = daemon::run(&settings, first.load(), judge, |_| {}, reload);
        queue.stop();
        let logged = writer.join().unwrap_or_default();
        done.map(|done| (done, logged))
    });
    match done {
        Ok((done, (written, held_back))) => {
            let log = summary::Log { written, held_back, lost: queue.lost() };
            let text = match arguments.output {
                Output::Json => summary::run_json(&done, log) + "\n",
                Output::Table => summary::run_text(&done, log),
            };
            print::result(&text, exit::DONE)
        }
        Err(error) => {
            eprintln!("error: {error}");
            match error.class() {
                ErrorClass::Configuration => exit::INVALID,
                ErrorClass::Environment => exit::ENVIRONMENT,
                ErrorClass::Defect => exit::DEFECT,
            }
        }
    }
}

/// Opens the targets; without any, syslog where a daemon listens.
fn sinks(targets: &[Target]) -> Result<Vec<Sink>, String> {
    if targets.is_empty() && Path::new(SYSLOG).exists() {
        return Ok(Sink::open(&Target::Syslog).into_iter().collect());
    }
    targets.iter().map(Sink::open).collect()
}

/// A random seed for hashes of fields that senders choose: the standard library's hasher takes its keys from the system.
pub fn seed() -> [u64; 2] {
    [RandomState::new().hash_one(1u64), RandomState::new().hash_one(2u64)]
}

/// What a reload cannot change: rings and tables are taken at start.
fn settings_agree(loaded: &Loaded, first: &Loaded) -> bool {
    let fixed =
        |plan: &Plan| (plan.profile.clone(), plan.site.uplink.clone(), plan.site.downlink.clone(), plan.flows.clone());
    fixed(&loaded.plan) == fixed(&first.plan)
}

fn needs_restart() -> Diagnostics {
    use crate::base::diagnostic::Diagnostic;
    let mut found = Diagnostics::new();
    let message = "ports, hardware profile or flow table settings have changed, which a reload cannot do";
    found.push(Diagnostic::error("needs-restart", message).help("change them back, or stop and start the gateway"));
    found
}

fn settings(plan: &Plan) -> Result<RunSettings, Diagnostics> {
    let ports = plan.for_run().map_err(|error| {
        let mut found = Diagnostics::new();
        found.push(error);
        found
    })?;
    Ok(RunSettings::of(&plan.profile, ports.uplink, ports.downlink))
}
