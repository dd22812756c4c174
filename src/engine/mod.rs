//! Keys of a burst in, decisions out: the code that runs for every packet.
//!
//! Architecture invariant: this room knows no text, files, sockets, clocks or threads; it never allocates, locks, formats or
//! fails while packets pass.

pub mod ahead;
pub mod batch;
pub mod counters;
pub mod decision;
pub mod flow;
pub mod fragments;
pub mod judge;
pub mod program;
pub mod trace;

use std::sync::Arc;

use ahead::{Ahead, Alone, Located};
pub use batch::{BATCH, Batch};

use counters::Tally;

pub use counters::Counters;
pub use decision::{Decision, FlowState, Layer, Reason, Stage, Verdict};
pub use flow::FlowSettings;
pub use program::Program;
pub use trace::{NoTrace, Recorder, Trace};

use crate::base::address::Direction;
use crate::base::id::WorkerId;
use crate::base::site::{ExistingFlows, FragmentMode};
use crate::base::time::Now;
use crate::base::wide::Level;
use crate::packet::{Fault, Key, KeyBits, Parsed, Passed};
use flow::tcp::Side;
use flow::{Again, Allowed, Flows, Probes};
use fragments::{Fate, Fragments, refused};
use judge::{Judgement, Standing, Track, judge};

/// Entries of the timing wheel that one packet pays for.
const EXPIRE_PER_PACKET: usize = 4;

/// What an engine needs besides a program.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which worker this is, for the counters by rule.
    pub worker: WorkerId,
    /// Flow table of this worker.
    pub flows: FlowSettings,
    /// Fragmented datagrams remembered at a time.
    pub datagrams: usize,
    /// Keys every hash of fields that a sender chooses.
    pub seed: [u64; 2],
    /// By which instructions packets are parsed and find their flows, for whoever makes the engine's batches
    /// ([`Batch::at_level`]); what is decided does not depend on it.
    pub level: Level,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            worker: WorkerId(0),
            flows: FlowSettings::default(),
            datagrams: 4096,
            seed: [0, 0],
            level: Level::best(),
        }
    }
}

/// The state of one worker: a program, its flows, its fragments, its counters.
#[derive(Debug)]
pub struct Engine {
    program: Arc<Program>,
    flows: Flows,
    fragments: Fragments,
    counters: Counters,
    probes: Probes,
    ahead: Ahead,
    worker: WorkerId,
    /// The latest moment seen: time never runs backwards (GW-26).
    now: Now,
}

impl Engine {
    /// An engine with empty tables. All memory is taken here.
    pub fn new(program: Arc<Program>, settings: &Settings) -> Engine {
        Engine {
            program,
            flows: Flows::new(&settings.flows, settings.seed),
            fragments: Fragments::new(settings.datagrams, settings.seed),
            counters: Counters::default(),
            probes: Probes::default(),
            ahead: Ahead::default(),
            worker: settings.worker,
            now: Now(0),
        }
    }

    /// The program in force.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The flows.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// What has been decided so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Judges by another program from now on, and treats the flows as it says (GW-23). Returns the old one, to be dropped off
    /// the packet line.
    pub fn adopt(&mut self, program: Arc<Program>) -> Arc<Program> {
        match program.existing_flows {
            ExistingFlows::Keep => self.flows.adopt(false),
            ExistingFlows::Revalidate => self.flows.adopt(true),
            ExistingFlows::Flush => {
                self.flows.adopt(false);
                self.flows.clear();
                self.fragments.clear();
            }
        }
        self.fragments.forget_rules();
        std::mem::replace(&mut self.program, program)
    }

    /// Forgets flows and fragments, as if no packet had come. Cost: proportional to the tables.
    pub fn forget(&mut self) {
        self.flows.clear();
        self.fragments.clear();
        self.now = Now(0);
    }

    /// Decides every packet of the batch, as if they came one by one.
    ///
    /// The flows of all packets are found first ([`flow::Probes`]). Packets that keep the state of their flow pass, with nothing else
    /// asked, and where it pays sixteen at once and before their turn ([`Flows::pass_early`]). Then the others are decided in their
    /// order, and what new ones ask of long lists is found for all of them at once ([`ahead`]). Cases by frequency: packets that keep
    /// the state of their flow, other packets of a flow, new packets (all stages), fragments, packets without a key (their parse
    /// outcome is the decision). A packet sees its flow as the ones before it left it, so that a batch equals the same packets one by
    /// one.
    pub fn process<T: Trace>(&mut self, batch: &mut Batch, trace: &mut T) {
        let count = batch.len();
        batch.complete();
        self.flows.probe(batch.packets(), count, batch.keyless, &mut self.probes);
        if !self.probes.is_in_time() || batch.times[0] < self.now {
            batch.settle(self.now);
        }
        self.ahead.begin();
        batch.decisions[..count].fill(ESTABLISHED);
        batch.allowed = 0;
        // Whoever listens wants to hear what the stateless layers say of every packet.
        let may_pass = !T::LISTENS || !self.program.has_stateless;
        let steady = if may_pass { self.probes.steady() } else { 0 };
        // A fragment is part of a flow that is not looked for beforehand, and an ICMP error asks about another one: each has its turn
        // before a later packet passes.
        let apart = self.probes.flowless() & !batch.keyless;
        let (mut at, mut tallies) = (0, [Tally::default(); 2]);
        while at < count {
            let end = (at + 1 + (apart >> at).trailing_zeros() as usize).min(count);
            let these = rows(at, end);
            let mut left = these;
            if steady & these != 0 {
                let (packets, needs_memory) = (batch.packets(), self.program.has_stateless);
                left &= !self.flows.pass_early(these, &self.probes, packets, needs_memory, &mut tallies);
            }
            batch.allowed |= these & !left;
            while left != 0 {
                let first = left.trailing_zeros() as usize;
                let run = ((left & steady) >> first).trailing_ones() as usize;
                let passed = if run > 0 { self.pass(batch, first, first + run, &mut tallies) } else { 0 };
                let next = first + passed;
                batch.allowed |= rows(first, next);
                left &= !rows(first, next);
                if left >> (next % BATCH) & 1 == 1 {
                    self.decide_next(batch, next, trace);
                    left &= !(1 << next);
                }
            }
            at = end;
        }
        self.counters.count_many(Direction::Inbound, ESTABLISHED, tallies[0]);
        self.counters.count_many(Direction::Outbound, ESTABLISHED, tallies[1]);
        if let Some(last) = count.checked_sub(1) {
            self.now = batch.times[last];
        }
        self.flows.expire(self.now, EXPIRE_PER_PACKET * count);
    }

    /// Lets packets pass that keep the state of their flow, one by one from `first` on; returns how many.
    #[inline]
    fn pass(&mut self, batch: &Batch, first: usize, end: usize, tallies: &mut [Tally; 2]) -> usize {
        let needs_memory = self.program.has_stateless;
        self.flows.pass(first, end, &self.probes, batch.packets(), needs_memory, tallies)
    }

    /// Decides a packet whose turn it is.
    #[inline(always)]
    fn decide_next<T: Trace>(&mut self, batch: &mut Batch, at: usize, trace: &mut T) {
        trace.begin(at);
        self.now = batch.times[at];
        let decision = self.decide_one(batch, at, trace);
        batch.decisions[at] = decision;
        batch.allowed |= u64::from(decision.verdict() == Verdict::Allow) << at;
        self.counters.count(batch.keys[at].direction(), decision, batch.lengths[at] as usize);
        self.program.hits.add(self.worker, decision.rule());
    }

    fn decide_one<T: Trace>(&mut self, batch: &Batch, at: usize, trace: &mut T) -> Decision {
        let key = &batch.keys[at];
        match batch.parsed[at] {
            Parsed::Key if !key.has(KeyBits::FIRST_FRAGMENT | KeyBits::LATER_FRAGMENT) => {
                self.decide(batch, at, key, trace)
            }
            Parsed::Key => self.fragment(batch, at, key, trace),
            Parsed::Pass(passed) => {
                let reason = match passed {
                    Passed::Ethertype(_) => Reason::PassEthertype,
                    Passed::NeighbourDiscovery => Reason::NeighbourDiscovery,
                };
                Decision::new(Verdict::Allow, reason, Stage::Parse, FlowState::None)
            }
            Parsed::Malformed(fault) => self.malformed(key, fault),
        }
    }

    /// Reclaims expired flows while no packets come; `now` is the monotonic clock.
    pub fn idle(&mut self, now: Now) {
        self.now = self.now.at_least(now);
        self.flows.expire(self.now, EXPIRE_PER_PACKET * BATCH);
    }

    fn malformed(&mut self, key: &Key, fault: Fault) -> Decision {
        refused(match fault {
            Fault::FragmentTiny if self.program.fragments == FragmentMode::Drop => Reason::FragmentsRefused,
            Fault::FragmentTiny => {
                let fate = self.fragments.look(key, self.now);
                let reason = if fate == Fate::Overlap { Reason::FragmentOverlap } else { Reason::FragmentTiny };
                if fate == Fate::Judge {
                    self.fragments.remember(key, self.now, refused(reason));
                }
                reason
            }
            Fault::BadIpHeader => Reason::BadIpHeader,
            Fault::BadL4Header => Reason::BadL4Header,
            Fault::BadChecksum => Reason::BadChecksum,
            Fault::Truncated => Reason::Truncated,
            Fault::ExtHeaderChain => Reason::ExtHeaderChain,
            Fault::UnknownEthertype(_) => Reason::UnknownEthertype,
            Fault::VlanUnparsed => Reason::VlanUnparsed,
        })
    }

    fn fragment<T: Trace>(&mut self, batch: &Batch, at: usize, key: &Key, trace: &mut T) -> Decision {
        let mode = self.program.fragments;
        if mode == FragmentMode::Drop {
            return refused(Reason::FragmentsRefused);
        }
        match self.fragments.look(key, self.now) {
            Fate::Judge => {
                let decision = self.decide(batch, at, key, trace);
                self.fragments.remember(key, self.now, decision);
                decision
            }
            Fate::Follow(decision) => decision,
            Fate::NoFirst if mode == FragmentMode::Portless => self.decide(batch, at, key, trace),
            Fate::NoFirst => refused(Reason::FragmentNoFirst),
            Fate::Overlap => refused(Reason::FragmentOverlap),
        }
    }

    fn decide<T: Trace>(&mut self, batch: &Batch, at: usize, key: &Key, trace: &mut T) -> Decision {
        let (now, bytes) = (self.now, batch.lengths[at]);
        let allowed = |track| Allowed { track, now, bytes };
        if let Some(opening) = self.flows.opening(at, &self.probes, key) {
            let judgement = self.ask(batch, at, key, Standing::New, trace);
            if judgement.decision.verdict() == Verdict::Deny {
                return judgement.decision;
            }
            return match self.flows.open(at, &self.probes, key, opening, allowed(judgement.track)) {
                Ok(()) => judgement.decision,
                Err(reason) => refuse_flow(judgement.decision, reason),
            };
        }
        let quote = batch.quote(at);
        let mut look = self.flows.look_probed(at, &self.probes, key, quote, self.now);
        if let Some(again) = look.again {
            match self.judge_again(key, again) {
                Ok(()) => look = self.flows.look_probed(at, &self.probes, key, quote, self.now),
                Err(decision) => return decision,
            }
        }
        if look.standing == Standing::Established && !self.program.has_stateless {
            return match self.flows.commit(look.plan, allowed(Track::None)) {
                Ok(()) => ESTABLISHED,
                Err(reason) => refuse_flow(ESTABLISHED, reason),
            };
        }
        let judgement = self.ask(batch, at, key, look.standing, trace);
        if judgement.decision.verdict() == Verdict::Deny {
            return judgement.decision;
        }
        let is_plain = judgement.decision == ESTABLISHED && look.standing == Standing::Established;
        match self.flows.commit(look.plan, allowed(judgement.track)) {
            Ok(()) => {
                if is_plain {
                    self.flows.remember(at, &self.probes, key);
                }
                judgement.decision
            }
            Err(reason) => refuse_flow(judgement.decision, reason),
        }
    }

    /// Asks every stage about a packet of the batch.
    #[inline]
    fn ask<T: Trace>(&mut self, batch: &Batch, at: usize, key: &Key, standing: Standing, trace: &mut T) -> Judgement {
        let (flows, probes) = (&self.flows, &self.probes);
        let keys = &batch.keys[..batch.len()];
        let located = self.ahead.locate(&self.program.classifier, keys, at, || flows.openings(probes, keys));
        judge(&self.program, key, located, standing, &mut self.ahead, trace)
    }

    /// Judges a flow by a program that has not seen it, as the direction that started it (GW-23). A flow that is denied ends.
    fn judge_again(&mut self, key: &Key, again: Again) -> Result<(), Decision> {
        let opening = if again.side == Side::Responder { reversed(key) } else { *key };
        let located = Located::Alone(self.program.classifier.header(&opening));
        let judgement = judge(&self.program, &opening, located, Standing::New, &mut Alone, &mut NoTrace);
        if judgement.decision.verdict() == Verdict::Deny {
            self.flows.end(again.slot);
            return Err(judgement.decision);
        }
        self.flows.renew(again.slot);
        Ok(())
    }
}

/// One bit for each row from one to before another, which is at most [`BATCH`].
#[inline(always)]
const fn rows(first: usize, end: usize) -> u64 {
    if first >= end { 0 } else { u64::MAX >> (BATCH - (end - first)) << first }
}

/// A packet of a flow that nobody had anything to say about.
const ESTABLISHED: Decision = Decision::new(Verdict::Allow, Reason::Established, Stage::Flow, FlowState::Established);

/// A packet that every layer allowed and the flow table has no room for.
fn refuse_flow(decision: Decision, reason: Reason) -> Decision {
    Decision::new(Verdict::Deny, reason, Stage::Flow, decision.flow()).after_logs(decision.logs())
}

/// The packet that the other end would have sent to start the same flow.
fn reversed(key: &Key) -> Key {
    let mut opening = Key { src: key.dst, dst: key.src, sport: key.dport, dport: key.sport, ..*key };
    opening.bits.0 ^= KeyBits::OUTBOUND;
    let echo_request = match (key.protocol, key.has(KeyBits::V6)) {
        (1, false) => Some(8u16),
        (58, true) => Some(128),
        _ => None,
    };
    if let Some(request) = echo_request {
        (opening.sport, opening.dport) = (key.sport, request << 8);
    }
    opening
}
