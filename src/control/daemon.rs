//! Settings and a load in, a running gateway until a signal comes, a summary out.
//!
//! Starts ports and workers, publishes what a reload gives, and stops in order: programs off, rings drained, sockets closed.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::base::diagnostic::Diagnostics;
use crate::base::id::WorkerId;
use crate::config::profile::{Poll, Profile, XdpMode};
use crate::control::cores;
use crate::control::stalls::{Change, QueueWatch};
use crate::engine::Counters;
use crate::io::xdp::{self, LeftToKernel, Opened, PortReport, Queue};
use crate::io::{ErrorClass, OpenError};
use crate::worker::exchange::Bell;
use crate::worker::thread::run as run_line;
use crate::worker::{Clock, Desk, Exchange, Fates, Judge, Line, Pace, Publisher, Report, Tap};

/// How long workers go on after the programs came off, for what is still in the rings.
const DRAIN: Duration = Duration::from_millis(20);
/// How often control looks around when nothing happens.
const ROUND: Duration = Duration::from_secs(1);
/// How long control waits for a worker's report.
const ANSWER: Duration = Duration::from_millis(500);

/// What the plan says about running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSettings {
    /// Both ports and their rings; as many workers as queues.
    pub ports: xdp::Settings,
    /// Core of each worker in turn; empty = wherever the scheduler likes.
    pub cores: Vec<usize>,
    /// How workers wait.
    pub pace: Pace,
    /// Frames per direction that may wait for a worker which owns their flow.
    pub handover_slots: usize,
}

impl RunSettings {
    /// What a validated profile says, for these two interfaces.
    pub fn of(profile: &Profile, uplink: &str, downlink: &str) -> RunSettings {
        let ports = xdp::Settings {
            uplink: uplink.to_string(),
            downlink: downlink.to_string(),
            queues: profile.queues,
            receive_ring: profile.receive_ring,
            transmit_ring: profile.transmit_ring,
            frame_size: profile.frame_size,
            frame_count: profile.frame_count,
            mode: match profile.mode {
                XdpMode::Auto => xdp::Mode::Auto,
                XdpMode::ZeroCopy => xdp::Mode::ZeroCopy,
                XdpMode::Copy => xdp::Mode::Copy,
                XdpMode::Generic => xdp::Mode::Generic,
            },
            huge_pages: profile.huge_pages,
            numa_node: profile.numa_node,
            busy_poll: profile.busy_poll.map(|busy| xdp::BusyPoll {
                microseconds: busy.microseconds,
                budget: busy.budget,
                napi_defer_hard_irqs: busy.napi_defer_hard_irqs,
                gro_flush_timeout: busy.gro_flush_timeout,
            }),
        };
        let cores = profile.cores.iter().map(|core| *core as usize).collect();
        RunSettings { cores, pace: pace(profile.poll), ..RunSettings::new(ports) }
    }

    /// Settings for these ports, everything else by default: a worker may fall behind with what others hand over as far as
    /// with what its port receives.
    pub fn new(ports: xdp::Settings) -> RunSettings {
        let handover_slots = ports.receive_ring as usize;
        RunSettings { ports, cores: Vec::new(), pace: Pace::default(), handover_slots }
    }
}

/// What a way of polling means for a worker.
pub fn pace(poll: Poll) -> Pace {
    match poll {
        Poll::Adaptive => Pace::default(),
        Poll::Busy => Pace { spin: Duration::MAX, ..Pace::default() },
        Poll::Interrupt => Pace { spin: Duration::ZERO, ..Pace::default() },
    }
}

/// Why a run could not start or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The ports cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Signals or descriptors are not to be had.
    #[error("cannot prepare for running: {0}")]
    System(#[from] io::Error),
    /// An interface was removed while running; its sockets are dead.
    #[error("interface `{interface}` has gone; forwarding has ended")]
    InterfaceGone {
        /// Its name.
        interface: String,
    },
    /// A worker stopped by a defect.
    #[error("worker {worker} stopped by a defect: {message}; forwarding has ended")]
    Worker {
        /// Its number.
        worker: u32,
        /// What it said.
        message: String,
    },
}

impl RunError {
    /// Whose turn it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            RunError::Open(error) => error.class(),
            RunError::System(_) | RunError::InterfaceGone { .. } => ErrorClass::Environment,
            RunError::Worker { .. } => ErrorClass::Defect,
        }
    }
}

/// What a reload gives.
pub enum Reload<L> {
    /// Put this in force.
    Publish(Arc<L>),
    /// Nothing changes; these are the reasons.
    Refuse(Diagnostics),
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What uplink and downlink got.
    pub ports: [PortReport; 2],
    /// Figures of each worker and its queues.
    pub workers: Vec<Report>,
    /// Times that the uplink's and the downlink's queue of each worker stood still although frames waited.
    pub stalls: Vec<[u64; 2]>,
    /// Decisions by reason, all workers.
    pub counters: Counters,
    /// What became of frames, all workers.
    pub fates: Fates,
    /// What the XDP programs of uplink and downlink left to the kernel.
    pub left_to_kernel: [LeftToKernel; 2],
    /// Loads published, the first one included.
    pub generation: u64,
    /// From ready to stop.
    pub elapsed: Duration,
    /// Chunks of the frame memory that nobody held in the end: 0, or the program has a defect.
    pub lost_frames: u64,
}

enum Event {
    Ready,
    Stop(&'static str),
    Reload,
    /// A worker's loop has ended without being told to.
    Gone,
}

/// A handle on a running gateway for those who serve requests about it; cheap to clone.
pub struct Control<L> {
    publisher: Arc<Publisher<L>>,
    desks: Arc<[Arc<Desk<L>>]>,
    events: Sender<Event>,
    /// Held by who asks for reports: there is one answer to each question.
    asking: Arc<Mutex<()>>,
}

impl<L> Clone for Control<L> {
    fn clone(&self) -> Control<L> {
        Control {
            publisher: Arc::clone(&self.publisher),
            desks: Arc::clone(&self.desks),
            events: self.events.clone(),
            asking: Arc::clone(&self.asking),
        }
    }
}

impl<L> Control<L> {
    /// Puts another load in force: each worker adopts it before its next burst.
    pub fn publish(&self, load: Arc<L>) {
        self.publisher.publish(load, &self.desks);
    }

    /// The load in force.
    pub fn current(&self) -> Arc<L> {
        self.publisher.current()
    }

    /// Loads published so far.
    pub fn generation(&self) -> u64 {
        self.publisher.generation()
    }

    /// Ends the run in order.
    pub fn stop(&self) {
        // Nobody listens = it has ended.
        let _ = self.events.send(Event::Stop("control"));
    }

    /// Calls the reload given to [`run`].
    pub fn reload(&self) {
        let _ = self.events.send(Event::Reload);
    }

    /// The figures of every worker that answers within half a second, in order.
    pub fn reports(&self) -> Vec<Report> {
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer that came too late for its question is none to this one.
        self.desks.iter().for_each(|desk| while desk.answer().is_some() {});
        self.desks.iter().for_each(|desk| desk.request());
        let patience = Instant::now() + ANSWER;
        let mut reports = Vec::new();
        for desk in self.desks.iter() {
            loop {
                if let Some(report) = desk.answer() {
                    reports.push(report);
                    break;
                }
                if Instant::now() >= patience {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        reports
    }
}

/// Runs a gateway until SIGTERM, SIGINT or [`Control::stop`]. `judge` makes each worker's judge and tap on its own thread, pinned;
/// `started` gets the handle once forwarding has begun; `reload` answers SIGHUP.
///
/// # Errors
/// [`RunError`]; the ports are closed again then.
pub fn run<J: Judge, T: Tap>(
    settings: &RunSettings,
    first: Arc<J::Load>,
    judge: impl Fn(WorkerId, Arc<J::Load>) -> (J, T) + Sync,
    started: impl FnOnce(Control<J::Load>),
    mut reload: impl FnMut() -> Reload<J::Load>,
) -> Result<Summary, RunError> {
    let (events, inbox) = mpsc::channel();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let Opened { mut programs, uplink, downlink, reports: ports, warnings, region } = xdp::open(&settings.ports)?;
    let allowed = cores::allowed();
    let unsuitable = cores::warnings(settings.ports.queues as usize, &settings.cores, &allowed);
    for warning in warnings.iter().chain(&unsuitable) {
        tracing::warn!("{warning}");
    }
    let bells = (0..uplink.len()).map(|_| Bell::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
    let publisher = Publisher::new(first);
    let desks: Arc<[_]> = bells.iter().map(|bell| Desk::new(Arc::clone(&publisher), Arc::clone(bell))).collect();
    let exchanges = Exchange::between(&bells, settings.handover_slots);
    let control = Control { publisher, desks, events, asking: Arc::default() };
    let mut watches = vec![[QueueWatch::default(); 2]; uplink.len()];
    let closer = signals.handle();

    let outcome = thread::scope(|scope| {
        let _ending = Ending { control: &control, signals: &closer };
        let forward = control.clone();
        scope.spawn(move || {
            for signal in signals.forever() {
                let event = match signal {
                    SIGHUP => Event::Reload,
                    SIGINT => Event::Stop("SIGINT"),
                    _ => Event::Stop("SIGTERM"),
                };
                if forward.events.send(event).is_err() {
                    break;
                }
            }
        });
        let clock = Clock::start();
        let queues = uplink.into_iter().zip(downlink).zip(exchanges);
        let workers: Vec<_> = (0u32..)
            .zip(queues)
            .map(|(number, ((up, down), exchange))| {
                let (control, judge) = (control.clone(), &judge);
                let core = settings.cores.get(number as usize % settings.cores.len().max(1)).copied();
                let pace = settings.pace;
                thread::Builder::new()
                    .name(format!("worker-{number}"))
                    .spawn_scoped(scope, move || work(&control, (up, down), exchange, judge, core, clock, pace))
            })
            .collect();
        let mut spawned = Vec::new();
        let mut failed = None;
        for worker in workers {
            match worker {
                Ok(worker) => spawned.push(worker),
                Err(error) => failed = Some(RunError::System(error)),
            }
        }
        let start = Instant::now();
        if failed.is_none() && wait_until_ready(&inbox, spawned.len()) {
            // Not before: workers that are pinned nowhere stay where their starter was.
            cores::stand_aside(&allowed, &settings.cores);
            tracing::info!("ready: {}", describe(&ports, spawned.len()));
            started(control.clone());
            failed = attend(&inbox, &control, &mut reload, &ports, &mut watches).err();
        }
        let elapsed = start.elapsed();
        programs.detach();
        thread::sleep(DRAIN);
        let left_to_kernel = programs.left_to_kernel();
        control.desks.iter().for_each(|desk| desk.stop());
        let mut reports = Vec::new();
        let mut held = region.deposited();
        for (number, worker) in (0u32..).zip(spawned) {
            match worker.join() {
                Ok((report, chunks)) => {
                    reports.push(report);
                    held += chunks;
                }
                Err(panic) => failed = Some(RunError::Worker { worker: number, message: said(panic) }),
            }
        }
        control.desks.iter().for_each(|desk| desk.collect_retired());
        match failed {
            Some(error) => Err(error),
            None => Ok((reports, left_to_kernel, elapsed, u64::from(region.chunks()).saturating_sub(held))),
        }
    });
    // The caller's thread may have been moved. Its priority stays: going up needs a privilege.
    let _ = cores::keep_to(&allowed);
    let (workers, left_to_kernel, elapsed, lost_frames) = outcome?;
    let mut counters = Counters::default();
    let mut fates = Fates::default();
    for report in &workers {
        counters.merge(&report.counters);
        fates.merge(&report.fates);
    }
    let generation = control.generation();
    let stalls = watches.iter().map(|queues| queues.each_ref().map(QueueWatch::stalls)).collect();
    Ok(Summary { stalls, ports, workers, counters, fates, left_to_kernel, generation, elapsed, lost_frames })
}

/// Ends all threads when control leaves, even by a defect in a callback: the scope waits for them.
struct Ending<'a, L> {
    control: &'a Control<L>,
    signals: &'a Handle,
}

impl<L> Drop for Ending<'_, L> {
    fn drop(&mut self) {
        self.control.desks.iter().for_each(|desk| desk.stop());
        self.signals.close();
    }
}

/// One worker's thread.
fn work<J: Judge, T: Tap>(
    control: &Control<J::Load>,
    (uplink, downlink): (Queue, Queue),
    exchange: Exchange,
    judge: &(impl Fn(WorkerId, Arc<J::Load>) -> (J, T) + Sync),
    core: Option<usize>,
    clock: Clock,
    pace: Pace,
) -> (Report, u64) {
    /// Tells control that the thread ends, however it does.
    struct Leaving(Sender<Event>);
    impl Drop for Leaving {
        fn drop(&mut self) {
            let _ = self.0.send(Event::Gone);
        }
    }
    let _leaving = Leaving(control.events.clone());
    let here = exchange.here();
    if let Some(core) = core
        && let Err(error) = cores::pin(core)
    {
        tracing::warn!("worker {} cannot be pinned to core {core}: {error}; it runs where the scheduler likes", here.0);
    }
    let (judge, mut tap) = judge(here, control.current());
    let mut line = Line::new(uplink, downlink, judge).exchanging(exchange);
    let _ = control.events.send(Event::Ready);
    let Some(desk) = control.desks.get(here.index()) else { return Default::default() };
    let report = run_line(&mut line, desk, clock, pace, &mut tap);
    let held = line.ports().iter().map(Queue::held).sum::<u64>() + line.mail() as u64;
    (report, held)
}

/// Whether all workers have come to their loop; false when one has gone or the run is to stop already.
fn wait_until_ready(inbox: &Receiver<Event>, workers: usize) -> bool {
    let mut ready = 0;
    while ready < workers {
        match inbox.recv() {
            Ok(Event::Ready) => ready += 1,
            Ok(Event::Reload) => {}
            Ok(Event::Stop(_) | Event::Gone) | Err(_) => return false,
        }
    }
    true
}

/// Serves events until the run is to stop.
fn attend<L>(
    inbox: &Receiver<Event>,
    control: &Control<L>,
    reload: &mut impl FnMut() -> Reload<L>,
    ports: &[PortReport; 2],
    watches: &mut [[QueueWatch; 2]],
) -> Result<(), RunError> {
    loop {
        match inbox.recv_timeout(ROUND) {
            Ok(Event::Ready) => {}
            Ok(Event::Stop(who)) => {
                tracing::info!("stopping: {who}");
                return Ok(());
            }
            Ok(Event::Reload) => match reload() {
                Reload::Publish(load) => {
                    control.publish(load);
                    tracing::info!("reloaded: generation {} is in force", control.generation());
                }
                Reload::Refuse(findings) => {
                    findings.iter().for_each(|finding| tracing::error!("{finding}"));
                    tracing::error!("reload refused: generation {} stays in force", control.generation());
                }
            },
            Ok(Event::Gone) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                control.desks.iter().for_each(|desk| desk.collect_retired());
                if let Some(port) = ports.iter().find(|port| port.is_gone()) {
                    return Err(RunError::InterfaceGone { interface: port.interface.clone() });
                }
                look_for_stalls(&control.reports(), ports, watches);
            }
        }
    }
}

/// Names queues that stand still, and those that move again.
fn look_for_stalls(reports: &[Report], ports: &[PortReport; 2], watches: &mut [[QueueWatch; 2]]) {
    for report in reports {
        let Some(watches) = watches.get_mut(report.worker.index()) else { continue };
        for ((watch, figures), port) in watches.iter_mut().zip(&report.queues).zip(ports) {
            let (interface, queue) = (&port.interface, report.worker.0);
            match watch.look(figures) {
                Some(Change::Began(stall)) => tracing::warn!("{}", stall.describe(interface, queue)),
                Some(Change::Ended) => tracing::info!("queue {queue} of `{interface}` moves again"),
                None => {}
            }
        }
    }
}

fn describe(ports: &[PortReport; 2], workers: usize) -> String {
    let [uplink, downlink] = ports.each_ref().map(|port| {
        let busy = if port.busy_poll.contains(&true) { ", busy polling" } else { "" };
        format!("{} ({}{busy})", port.interface, port.mode.name())
    });
    let plural = if workers == 1 { "worker" } else { "workers" };
    format!("uplink {uplink}, downlink {downlink}, {workers} {plural}")
}

fn said(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
