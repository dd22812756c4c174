//! Bytes of a burst in, decisions out: the engine in production, a judge that allows everything to measure the rest against.

use std::sync::Arc;

use crate::base::id::WorkerId;
use crate::base::time::Now;
use crate::engine::{BATCH, Batch, Counters, Decision, Engine, FlowState, NoTrace, Reason, Stage, Trace, Verdict};
use crate::packet::{Arrival, KeyBits, Options};

/// Decides about the frames of one worker. Called once per burst in this order: [`Judge::begin`], [`Judge::add`] until all frames
/// are taken in, [`Judge::strangers`] and [`Judge::keep`] where other workers may own some, [`Judge::decide`], then
/// [`Judge::clear_cases`], and [`Judge::decision`] for each position that it leaves open.
pub trait Judge {
    /// What it judges by; shared by all workers and replaced as a whole.
    type Load: Send + Sync + 'static;

    /// Forgets the last burst.
    fn begin(&mut self);

    /// Takes in the next frames; the fastest is a whole burst at once.
    fn add(&mut self, frames: &[Arrival<'_>]);

    /// The worker that owns the flow of the frame at a position.
    fn owner(&self, position: usize, here: WorkerId, workers: u32) -> WorkerId;

    /// One bit for each of the first `count` positions: frames of flows that another worker than `here` owns.
    #[inline]
    fn strangers(&self, count: usize, here: WorkerId, workers: u32) -> u64 {
        let is_one = |position: usize| u64::from(self.owner(position, here, workers) != here) << position;
        (0..count.min(BATCH)).map(is_one).fold(0, |all, one| all | one)
    }

    /// Keeps the frames at the positions whose bits are set; they move up, in their order.
    fn keep(&mut self, positions: u64);

    /// Decides about all frames taken in.
    fn decide(&mut self);

    /// The decision about the frame at a position.
    fn decision(&self, position: usize) -> Decision;

    /// One bit for each position: frames that are allowed and need no completion, and frames that are denied. Those of neither kind
    /// are asked about one by one.
    #[inline]
    fn clear_cases(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Whether the checksum of the frame at a position needs no completion (GW-30); `false` where nobody has looked.
    #[inline]
    fn is_whole(&self, _position: usize) -> bool {
        false
    }

    /// Judges by something else from the next burst on; returns the old one, not to be dropped on the packet line.
    fn adopt(&mut self, load: Arc<Self::Load>) -> Arc<Self::Load>;

    /// Number of what it judges by; 0 where there is none.
    #[inline]
    fn generation(&self) -> u64 {
        0
    }

    /// Uses the time while no frames come.
    fn idle(&mut self, now: Now);

    /// Decisions so far.
    fn counters(&self) -> &Counters;

    /// Flows remembered now.
    fn flows(&self) -> usize;
}

/// What is published together: a program, and what the parser must know.
#[derive(Debug)]
pub struct Load {
    /// The compiled policy.
    pub program: Arc<crate::engine::Program>,
    /// What the gateway file says about parsing.
    pub options: Options,
}

/// The engine with its batch.
#[derive(Debug)]
pub struct EngineJudge<T: Trace = NoTrace> {
    engine: Engine,
    batch: Batch,
    load: Arc<Load>,
    seed: [u64; 2],
    trace: T,
}

impl EngineJudge {
    /// An engine with empty tables, without a trace. All memory is taken here. All workers of a run must get the same seed:
    /// it decides who owns a flow.
    pub fn new(load: Arc<Load>, settings: &crate::engine::Settings) -> EngineJudge {
        EngineJudge::traced(load, settings, NoTrace)
    }
}

impl<T: Trace> EngineJudge<T> {
    /// The same with somebody who is told what happens.
    pub fn traced(load: Arc<Load>, settings: &crate::engine::Settings, trace: T) -> EngineJudge<T> {
        let engine = Engine::new(Arc::clone(&load.program), settings);
        EngineJudge { engine, batch: Batch::at_level(settings.level), load, seed: settings.seed, trace }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Takes the memory of all tables from the kernel now, so that no packet waits for a page. Cost: writes it once.
    pub fn populate(&self) {
        self.engine.flows().table().populate();
    }

    /// The burst judged last.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Marks the TCP window of the frame added last as unknown.
    pub fn forget_window(&mut self) {
        if let Some(last) = self.batch.len().checked_sub(1) {
            self.batch.forget_window(last);
        }
    }

    /// Forgets all flows and fragments. Not for the packet line.
    pub fn forget(&mut self) {
        self.engine.forget();
    }

    /// Who is told what happens.
    pub fn trace_mut(&mut self) -> &mut T {
        &mut self.trace
    }
}

impl<T: Trace> Judge for EngineJudge<T> {
    type Load = Load;

    #[inline]
    fn begin(&mut self) {
        self.batch.clear();
    }

    #[inline]
    fn add(&mut self, frames: &[Arrival<'_>]) {
        debug_assert!(self.batch.len() + frames.len() <= BATCH, "a burst of frames fits a batch");
        self.batch.extend(frames, &self.load.options);
    }

    #[inline]
    fn owner(&self, position: usize, here: WorkerId, workers: u32) -> WorkerId {
        self.batch.owner(position, here, workers, self.seed)
    }

    #[inline]
    fn strangers(&self, _: usize, here: WorkerId, workers: u32) -> u64 {
        self.batch.strangers(here, workers, self.seed)
    }

    fn keep(&mut self, positions: u64) {
        self.batch.keep(positions);
    }

    #[inline]
    fn decide(&mut self) {
        self.engine.process(&mut self.batch, &mut self.trace);
    }

    #[inline]
    fn decision(&self, position: usize) -> Decision {
        self.batch.decision(position)
    }

    #[inline]
    fn clear_cases(&self) -> (u64, u64) {
        let (allowed, whole) = self.batch.outcomes();
        (allowed & whole, !allowed)
    }

    #[inline]
    fn is_whole(&self, position: usize) -> bool {
        self.batch.key(position).has(KeyBits::WHOLE)
    }

    fn adopt(&mut self, load: Arc<Load>) -> Arc<Load> {
        // The engine's own reference to the old program is not the last one: the old load holds another.
        let _ = self.engine.adopt(Arc::clone(&load.program));
        std::mem::replace(&mut self.load, load)
    }

    #[inline]
    fn generation(&self) -> u64 {
        self.load.program.generation
    }

    fn idle(&mut self, now: Now) {
        self.engine.idle(now);
    }

    fn counters(&self) -> &Counters {
        self.engine.counters()
    }

    fn flows(&self) -> usize {
        self.engine.flows().table().used()
    }
}

/// Allows every frame unseen: what the loop, the rings and the kernel cost without a policy.
#[derive(Debug, Default)]
pub struct PassAll {
    counters: Counters,
}

impl PassAll {
    const DECISION: Decision = Decision::new(Verdict::Allow, Reason::DefaultAllow, Stage::Default, FlowState::None);
}

impl Judge for PassAll {
    type Load = ();

    #[inline]
    fn begin(&mut self) {}

    #[inline]
    fn add(&mut self, frames: &[Arrival<'_>]) {
        for frame in frames {
            self.counters.count(frame.direction, PassAll::DECISION, frame.bytes.len());
        }
    }

    #[inline]
    fn owner(&self, _: usize, here: WorkerId, _: u32) -> WorkerId {
        here
    }

    fn keep(&mut self, _: u64) {}

    #[inline]
    fn decide(&mut self) {}

    #[inline]
    fn decision(&self, _: usize) -> Decision {
        PassAll::DECISION
    }

    fn adopt(&mut self, load: Arc<()>) -> Arc<()> {
        load
    }

    fn idle(&mut self, _: Now) {}

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn flows(&self) -> usize {
        0
    }
}
