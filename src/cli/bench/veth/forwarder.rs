//! The name of a forwarder in, the same running between the lab's two veth pairs while some work is done.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::policy::{Form, State, calico, gateway_file, nftables};
use super::testpmd::Testpmd;
use crate::base::diagnostic::Diagnostics;
use crate::base::id::WorkerId;
use crate::config::profile::Poll;
use crate::control::daemon::{self, Control, Reload, RunSettings, pace};
use crate::control::load::{Loaded, Request, load};
use crate::io::xdp::{BusyPoll, Mode, Settings as PortSettings};
use crate::lab::place::{Lab, Place};
use crate::lab::topology::{DOWNLINK, UPLINK};
use crate::lab::{LabError, namespace, router};
use crate::worker::{EngineJudge, Judge, Load, NoTap, PassAll, Report};

/// A forwarder with its policy, in the order of tables; in JSON its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Kind {
    /// This program's ports and loop with the verdict fixed to pass.
    Bare,
    /// DPDK's forwarder over its own AF_XDP driver, if it is installed.
    Testpmd,
    /// This program.
    Ringwall {
        /// Rules of the deny list.
        rules: u32,
        /// Whether flows are remembered.
        state: State,
    },
    /// The kernel as a router.
    Nftables {
        /// Rules of the deny list.
        rules: u32,
        /// Whether connections are tracked.
        state: State,
        /// How the rules are held.
        form: Form,
    },
}

impl Kind {
    /// Whether this machine has it.
    pub fn is_there(self) -> bool {
        self != Kind::Testpmd || Testpmd::is_installed()
    }

    /// The name in tables and JSON.
    pub fn name(self) -> String {
        match self {
            Kind::Bare => BARE.to_owned(),
            Kind::Testpmd => TESTPMD.to_owned(),
            Kind::Ringwall { rules, state } => format!("ringwall, {rules} rules, {}", state.word()),
            Kind::Nftables { rules, state, form } => {
                format!("nftables {}, {rules} rules, {}", form.word(), state.word())
            }
        }
    }
}

const BARE: &str = "bare AF_XDP forwarder";
const TESTPMD: &str = "DPDK testpmd, net_af_xdp";

impl From<Kind> for String {
    fn from(kind: Kind) -> String {
        kind.name()
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(name: String) -> Result<Kind, String> {
        let unknown = || format!("`{name}` is no forwarder");
        if let Some(kind) = [Kind::Bare, Kind::Testpmd].into_iter().find(|kind| kind.name() == name) {
            return Ok(kind);
        }
        let (program, rest) = name.split_once(", ").ok_or_else(unknown)?;
        let (rules, state) = rest.split_once(" rules, ").ok_or_else(unknown)?;
        let rules = rules.parse().map_err(|_| unknown())?;
        let state = State::ALL.into_iter().find(|known| known.word() == state).ok_or_else(unknown)?;
        match program.strip_prefix("nftables ") {
            None if program == "ringwall" => Ok(Kind::Ringwall { rules, state }),
            None => Err(unknown()),
            Some(form) => {
                let form = Form::ALL.into_iter().find(|known| known.word() == form).ok_or_else(unknown)?;
                Ok(Kind::Nftables { rules, state, form })
            }
        }
    }
}

/// How the gateway's thread waits, as a profile says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Waiting {
    /// Looks for 50 microseconds, then sleeps
    Adaptive,
    /// Never sleeps
    Busy,
    /// Sleeps whenever there is nothing to do
    Interrupt,
    /// Never sleeps, and runs the devices itself (`busyPoll`), with their interrupts deferred
    Device,
}

impl Waiting {
    /// The word in tables, JSON and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Waiting::Adaptive => "adaptive",
            Waiting::Busy => "busy",
            Waiting::Interrupt => "interrupt",
            Waiting::Device => "device",
        }
    }

    fn poll(self) -> Poll {
        match self {
            Waiting::Adaptive => Poll::Adaptive,
            Waiting::Busy | Waiting::Device => Poll::Busy,
            Waiting::Interrupt => Poll::Interrupt,
        }
    }

    /// The values that the manual names.
    fn busy_poll(self) -> Option<BusyPoll> {
        let deferred =
            BusyPoll { napi_defer_hard_irqs: Some(2), gro_flush_timeout: Some(200_000), ..BusyPoll::default() };
        (self == Waiting::Device).then_some(deferred)
    }
}

/// What is known about a running forwarder.
pub struct Watch<'a> {
    reports: Box<dyn Fn() -> Vec<Report> + Sync + 'a>,
    publish: Option<Box<dyn Fn(Arc<Load>) + Sync + 'a>>,
}

/// CPU time that a forwarder's thread has used, and what the thread says about itself.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Nanoseconds on a core, by the scheduler's account; the kernel's work in the thread's calls is in it.
    pub on_core: u64,
    /// Nanoseconds in turns that moved frames.
    pub busy: u64,
    /// Times that frames were taken off a ring.
    pub bursts: u64,
    /// Times that it went to sleep.
    pub sleeps: u64,
}

impl Watch<'_> {
    /// The figures of the forwarder's thread; `None` where the kernel forwards.
    pub fn figures(&self) -> Option<Figures> {
        let reports = self.reports();
        let busy = reports.iter().map(|report| report.busy).sum();
        let bursts = reports.iter().map(|report| report.fates.bursts).sum();
        let sleeps = reports.iter().map(|report| report.fates.sleeps).sum();
        Some(Figures { on_core: worker_time()?.0, busy, bursts, sleeps })
    }

    /// The workers' figures; none where the kernel forwards.
    pub fn reports(&self) -> Vec<Report> {
        (self.reports)()
    }

    /// Puts another policy in force; false where there is none.
    pub fn publish(&self, load: Arc<Load>) -> bool {
        self.publish.as_ref().map(|publish| publish(load)).is_some()
    }
}

/// Nanoseconds that the first worker of this process has been on a core, and that it has waited for one.
pub fn worker_time() -> Option<(u64, u64)> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let is_worker = |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "worker-0");
    let path = tasks.filter_map(|task| Some(task.ok()?.path())).find(|path| is_worker(path))?;
    thread_time(&path)
}

/// Nanoseconds that a thread has been on a core, and that it was ready and waited for one: the first fields of its `schedstat`.
pub fn thread_time(task: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// Where forwarders run.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The lab, built.
    pub lab: &'a Lab,
    /// Slots of the gateway's rings.
    pub ring: u32,
    /// Core of the gateway's thread.
    pub core: Option<usize>,
    /// How this program's thread waits.
    pub waiting: Waiting,
    /// Policies that were compiled before.
    pub compiled: &'a Compiled,
}

/// Policies by their number of rules and whether flows are remembered: each is compiled once.
#[derive(Debug, Default)]
pub struct Compiled(Mutex<Vec<Policy>>);

/// Rules, whether flows are remembered, and what they were compiled to.
type Policy = (u32, State, Arc<Loaded>);

impl Site<'_> {
    /// Runs the forwarder, does the work, ends the forwarder.
    ///
    /// # Errors
    /// What kept it from starting, or from ending in order.
    pub fn with<R: Send>(&self, kind: Kind, work: impl FnOnce(&Watch<'_>) -> R + Send) -> Result<R, LabError> {
        self.with_account(kind, work).map(|done| done.0)
    }

    /// The same with what the forwarder says at its end about a packet's cost, in nanoseconds of turns that moved frames; `None`
    /// where it does not.
    ///
    /// # Errors
    /// As [`Site::with`].
    pub fn with_account<R: Send>(
        &self,
        kind: Kind,
        work: impl FnOnce(&Watch<'_>) -> R + Send,
    ) -> Result<(R, Option<f64>), LabError> {
        let without = |done| (done, None);
        match kind {
            Kind::Bare => {
                let judge = |_, _| PassAll::default();
                self.run(Arc::new(()), judge, |control| {
                    work(&Watch { reports: Box::new(|| control.reports()), publish: None })
                })
                .map(without)
            }
            Kind::Ringwall { rules, state } => {
                let loaded = self.compiled(rules, state)?;
                let judge = |worker, load: Arc<Load>| {
                    let judge = EngineJudge::new(load, &loaded.settings(worker, 1, [1, 2]));
                    judge.populate();
                    judge
                };
                let first = loaded.load();
                self.run(first, judge, |control| {
                    let publish = |load| control.publish(load);
                    work(&Watch { reports: Box::new(|| control.reports()), publish: Some(Box::new(publish)) })
                })
                .map(without)
            }
            Kind::Testpmd => {
                let running = Testpmd::start(self.lab, self.core)?;
                let done = work(&Watch { reports: Box::new(Vec::new), publish: None });
                Ok((done, running.end()))
            }
            Kind::Nftables { rules, state, form } => {
                router::start(self.lab)?;
                let loaded = router::rules(self.lab, &nftables(rules, state, form));
                let done = loaded.map(|()| work(&Watch { reports: Box::new(Vec::new), publish: None }));
                router::stop(self.lab)?;
                done.map(without)
            }
        }
    }

    fn compiled(&self, rules: u32, state: State) -> Result<Arc<Loaded>, LabError> {
        let mut known = self.compiled.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., loaded)) = known.iter().find(|known| (known.0, known.1) == (rules, state)) {
            return Ok(Arc::clone(loaded));
        }
        let loaded = Arc::new(self.load(rules, state, None, 1)?);
        known.push((rules, state, Arc::clone(&loaded)));
        Ok(loaded)
    }

    /// Loads a policy the way `run` does, from files in the lab's directory; it also refuses a source, if there is one.
    pub fn load(
        &self,
        rules: u32,
        state: State,
        refused: Option<Ipv4Addr>,
        generation: u64,
    ) -> Result<Loaded, LabError> {
        let directory = self.lab.directory();
        let write = |path: std::path::PathBuf, text: &str| fs::write(&path, text).map_err(|e| LabError::file(&path, e));
        fs::create_dir_all(self.lab.policies()).map_err(|e| LabError::file(directory, e))?;
        for (name, text) in gateway_file(self.ring) {
            write(directory.join(name), &text)?;
        }
        write(self.lab.policies().join("policy.yaml"), &calico(rules, state, refused))?;
        let request = Request { gateway: Some(self.lab.gateway_file()), ..Request::default() };
        let outcome = load(&request, generation, Some(1));
        outcome.loaded.ok_or_else(|| {
            let findings: Vec<String> = outcome.findings.iter().take(3).map(ToString::to_string).collect();
            LabError::Gateway {
                message: format!("the bench's policy is refused: {}", findings.join("; ")),
                exit: Some(6),
            }
        })
    }

    /// Runs a gateway of this process in the lab, as `ringwall run` does.
    fn run<J: Judge, R: Send>(
        &self,
        first: Arc<J::Load>,
        judge: impl Fn(WorkerId, Arc<J::Load>) -> J + Sync + Send,
        work: impl FnOnce(&Control<J::Load>) -> R + Send,
    ) -> Result<R, LabError> {
        let ports = PortSettings {
            uplink: UPLINK.to_owned(),
            downlink: DOWNLINK.to_owned(),
            receive_ring: self.ring,
            transmit_ring: self.ring,
            mode: Mode::Copy,
            busy_poll: self.waiting.busy_poll(),
            ..PortSettings::default()
        };
        let cores = self.core.into_iter().collect();
        let settings = RunSettings { cores, pace: pace(self.waiting.poll()), ..RunSettings::new(ports) };
        let (started, starts) = mpsc::channel();
        let name = self.lab.namespace(Place::Gateway);
        thread::scope(|scope| {
            let gateway = scope.spawn(move || {
                let quiet = tracing::subscriber::NoSubscriber::default();
                let run = || {
                    let judge = |worker, load| (judge(worker, load), NoTap);
                    let started = move |control| drop(started.send(control));
                    daemon::run(&settings, first, judge, started, || Reload::Refuse(Diagnostics::new()))
                };
                namespace::inside(&name, || tracing::subscriber::with_default(quiet, run))
            });
            // Without a control the gateway did not start, and says why.
            let done = starts.recv().ok().map(|control| {
                let _ending = Ending(&control);
                work(&control)
            });
            let ended = gateway.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            match (ended, done) {
                (Ok(_), Some(done)) => Ok(done),
                // Ended in order before it began: by a signal, which is for the whole run.
                (Ok(_), None) => Err(LabError::Interrupted),
                (Err(error), _) => Err(LabError::Gateway { message: error.to_string(), exit: Some(5) }),
            }
        })
    }
}

/// Ends the gateway when the work is over, however it ends.
struct Ending<'a, L>(&'a Control<L>);

impl<L> Drop for Ending<'_, L> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forwarder_is_known_by_its_name() {
        let mut kinds = vec![Kind::Bare, Kind::Testpmd];
        for state in State::ALL {
            kinds.push(Kind::Ringwall { rules: 10_000, state });
            kinds.extend(Form::ALL.map(|form| Kind::Nftables { rules: 7, state, form }));
        }
        for kind in kinds {
            assert_eq!(Kind::try_from(kind.name()), Ok(kind));
        }
        for name in ["", "ringwall", "ringwall, x rules, stateful", "nftables tree, 1 rules, stateful"] {
            assert!(Kind::try_from(name.to_owned()).is_err(), "{name}");
        }
    }
}
