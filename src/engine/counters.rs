//! Decisions in, numbers out: plain arrays that one worker owns.

use crate::base::address::Direction;
use crate::engine::decision::{Decision, FlowState, Reason, Verdict};

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes on the wire, without frame check sequence.
    pub bytes: u64,
}

impl Tally {
    /// Adds another count.
    #[inline]
    pub fn add(&mut self, other: Tally) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// What one worker has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// By direction, verdict (allow, deny) and reason.
    pub reasons: [[[Tally; Reason::ALL.len()]; 2]; 2],
    /// By what the flow table said.
    pub flows: [u64; FlowState::ALL.len()],
    /// Log actions executed.
    pub logs: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { reasons: [[[Tally::default(); Reason::ALL.len()]; 2]; 2], flows: [0; FlowState::ALL.len()], logs: 0 }
    }
}

impl Counters {
    /// Counts one decision.
    #[inline]
    pub fn count(&mut self, direction: Direction, decision: Decision, bytes: usize) {
        self.reasons[direction as usize][decision.verdict().index()][decision.reason().index()]
            .add(Tally { packets: 1, bytes: bytes as u64 });
        self.flows[decision.flow().index()] += 1;
        self.logs += u64::from(decision.logs());
    }

    /// Counts a decision about so many packets without Log actions.
    #[inline]
    pub fn count_many(&mut self, direction: Direction, decision: Decision, packets: Tally) {
        self.reasons[direction as usize][decision.verdict().index()][decision.reason().index()].add(packets);
        self.flows[decision.flow().index()] += packets.packets;
    }

    /// Adds another worker's numbers.
    pub fn merge(&mut self, other: &Counters) {
        let mine = self.reasons.iter_mut().flatten().flatten();
        mine.zip(other.reasons.iter().flatten().flatten()).for_each(|(mine, theirs)| mine.add(*theirs));
        for (mine, theirs) in self.flows.iter_mut().zip(other.flows) {
            *mine += theirs;
        }
        self.logs += other.logs;
    }

    /// Packets and bytes with this verdict and reason, both directions.
    pub fn total(&self, verdict: Verdict, reason: Reason) -> Tally {
        let mut sum = Tally::default();
        for direction in &self.reasons {
            sum.add(direction[verdict.index()][reason.index()]);
        }
        sum
    }
}
