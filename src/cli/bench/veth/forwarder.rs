//! The name of a forwarder in, the same running between the lab's two veth pairs while some work is done.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::policy::{Form, State, calico, gateway_file, nftables};
use crate::base::diagnostic::Diagnostics;
use crate::base::id::WorkerId;
use crate::control::daemon::{self, Control, Reload, RunSettings};
use crate::control::load::{Loaded, Request, load};
use crate::io::xdp::{Interface, Mode, Settings as PortSettings};
use crate::lab::place::{Lab, Place};
use crate::lab::topology::{DOWNLINK, UPLINK};
use crate::lab::{LabError, namespace, router};
use crate::worker::{EngineJudge, Judge, Load, NoTap, PassAll, Report};

/// A forwarder with its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This program's ports and loop with the verdict fixed to pass.
    Bare,
    /// This program.
    Ringwall {
        /// Rules of the deny list.
        rules: u32,
        /// Whether flows are remembered.
        state: State,
    },
    /// DPDK's forwarder over its own AF_XDP driver, if it is installed.
    Testpmd,
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
            Kind::Bare => "bare AF_XDP forwarder".to_owned(),
            Kind::Testpmd => "DPDK testpmd, net_af_xdp".to_owned(),
            Kind::Ringwall { rules, state } => format!("ringwall, {rules} rules, {}", state.word()),
            Kind::Nftables { rules, state, form } => {
                let form = match form {
                    Form::Linear => "linear",
                    Form::Set => "set",
                };
                format!("nftables {form}, {rules} rules, {}", state.word())
            }
        }
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
}

impl Watch<'_> {
    /// The figures of the forwarder's thread; `None` where the kernel forwards.
    pub fn figures(&self) -> Option<Figures> {
        let busy = self.reports().iter().map(|report| report.busy).sum();
        Some(Figures { on_core: worker_time()?, busy })
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

/// Nanoseconds that the first worker of this process has been on a core: first field of its `schedstat`.
fn worker_time() -> Option<u64> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let is_worker =
        |path: &std::path::Path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "worker-0");
    let path = tasks.filter_map(|task| Some(task.ok()?.path())).find(|path| is_worker(path))?;
    fs::read_to_string(path.join("schedstat")).ok()?.split_ascii_whitespace().next()?.parse().ok()
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
}

impl Site<'_> {
    /// Runs the forwarder, does the work, ends the forwarder.
    ///
    /// # Errors
    /// What kept it from starting, or from ending in order.
    pub fn with<R: Send>(&self, kind: Kind, work: impl FnOnce(&Watch<'_>) -> R + Send) -> Result<R, LabError> {
        match kind {
            Kind::Bare => {
                let judge = |_, _| PassAll::default();
                self.run(Arc::new(()), judge, |control| {
                    work(&Watch { reports: Box::new(|| control.reports()), publish: None })
                })
            }
            Kind::Ringwall { rules, state } => {
                let loaded = self.load(rules, state, None, 1)?;
                let judge = |worker, load: Arc<Load>| EngineJudge::new(load, &loaded.settings(worker, 1, [1, 2]));
                let first = loaded.load();
                self.run(first, judge, |control| {
                    let publish = |load| control.publish(load);
                    work(&Watch { reports: Box::new(|| control.reports()), publish: Some(Box::new(publish)) })
                })
            }
            Kind::Testpmd => {
                let _running = Testpmd::start(self.lab, self.core)?;
                Ok(work(&Watch { reports: Box::new(Vec::new), publish: None }))
            }
            Kind::Nftables { rules, state, form } => {
                router::start(self.lab)?;
                let loaded = router::rules(self.lab, &nftables(rules, state, form));
                let done = loaded.map(|()| work(&Watch { reports: Box::new(Vec::new), publish: None }));
                router::stop(self.lab)?;
                done
            }
        }
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
            ..PortSettings::default()
        };
        let settings = RunSettings { cores: self.core.into_iter().collect(), ..RunSettings::new(ports) };
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

/// The name under which Debian installs it.
const TESTPMD: &str = "dpdk-testpmd";
/// How long it may take until it forwards, or ends.
const PATIENCE: Duration = Duration::from_secs(15);

/// From its programs on both ports to its loop.
const SETTLING: Duration = Duration::from_secs(1);

/// DPDK's forwarder as a process; ends when dropped.
struct Testpmd(Child);

impl Testpmd {
    /// Whether it is installed.
    fn is_installed() -> bool {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|directory| directory.join(TESTPMD).is_file())
    }

    /// Starts it in the gateway's namespace and waits until it forwards.
    fn start(lab: &Lab, core: Option<usize>) -> Result<Testpmd, LabError> {
        // The first core is for its talk, the second forwards.
        let cores = format!("0,{}", core.unwrap_or(0).max(1));
        let ports = [UPLINK, DOWNLINK].into_iter().enumerate();
        let devices = ports.map(|(number, port)| format!("--vdev=net_af_xdp{number},iface={port},force_copy=1"));
        let prefix = format!("--file-prefix={}", lab.prefix());
        let child = Command::new("ip")
            .args(["netns", "exec", &lab.namespace(Place::Gateway), TESTPMD])
            .args(["--no-pci", "--no-huge", "--no-shconf", "-m", "512", "-l", &cores, &prefix])
            .args(devices)
            .args(["--", "--forward-mode=io", "--auto-start", "--nb-cores=1", "--total-num-mbufs=65536"])
            .args(["--rxd=2048", "--txd=2048", "--burst=64"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| LabError::system(format!("starting `{TESTPMD}`"), e))?;
        let mut running = Testpmd(child);
        let gateway = lab.namespace(Place::Gateway);
        let has_program = |port| Interface::query(port).is_ok_and(|interface| !interface.programs.is_empty());
        let begun = Instant::now();
        while matches!(running.0.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            if namespace::inside(&gateway, || [UPLINK, DOWNLINK].into_iter().all(has_program))? {
                // What it says goes to a pipe only when it ends, so that it forwards must be guessed.
                thread::sleep(SETTLING);
                return Ok(running);
            }
            thread::sleep(Duration::from_millis(50));
        }
        let message = format!("`{TESTPMD}` does not forward: try it in `ip netns exec {gateway}`");
        Err(LabError::Gateway { message, exit: Some(5) })
    }
}

impl Drop for Testpmd {
    /// It ends in order when somebody presses enter; otherwise it is ended.
    fn drop(&mut self) {
        if let Some(mut input) = self.0.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        let begun = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
