//! The keys of a burst in, where their flows lie out; and the packets that change nothing but counters, windows and timers.
//!
//! One phase per load, over the whole burst: hash all keys, read all buckets, read all entries. The loads of a phase do not
//! depend on each other, so that their cache misses overlap; taken one packet at a time each would be waited for.

use super::key::FlowKey;
use super::state::State;
use super::table::NIL;
use super::tcp::{self, Segment, Transition};
use super::{Flows, Look, tuple_of};
use crate::base::time::Now;
use crate::engine::batch::BATCH;
use crate::packet::{Key, KeyBits, Parsed, Tuple};

/// What was found out about one packet before the burst is judged.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Probe {
    key: FlowKey,
    hash: u64,
    /// Where the flow is, expired or not, or [`NIL`].
    slot: u32,
    is_low: bool,
    /// Whether the packet can belong to a flow by its own key.
    has_key: bool,
}

/// One row per packet of a burst. Allocated once.
#[derive(Debug)]
pub struct Probes {
    rows: Vec<Probe>,
    /// Insertions and removals in the table when the rows were filled.
    changes: u64,
}

impl Default for Probes {
    fn default() -> Probes {
        let empty = Probe { key: FlowKey::default(), hash: 0, slot: NIL, is_low: false, has_key: false };
        Probes { rows: vec![empty; BATCH], changes: 0 }
    }
}

/// What a packet of a known flow may skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: look and judge.
    No,
    /// Everything: it passes as established, and the flow has taken it into account.
    Passed,
}

/// Bits of a key whose packets are looked at one by one.
const APART: u8 = KeyBits::FIRST_FRAGMENT | KeyBits::LATER_FRAGMENT | KeyBits::QUOTE;

impl Flows {
    /// Finds the flows of a burst. Nothing changes.
    #[inline]
    pub fn probe(&self, keys: &[Key], parsed: &[Parsed], probes: &mut Probes) {
        let rows = &mut probes.rows[..keys.len().min(BATCH)];
        for ((row, key), parsed) in rows.iter_mut().zip(keys).zip(parsed) {
            let is_whole = *parsed == Parsed::Key && !key.has(APART);
            row.slot = NIL;
            row.has_key = false;
            if is_whole && let Some((flow_key, is_low)) = FlowKey::of(&tuple_of(key)) {
                (row.key, row.is_low, row.has_key) = (flow_key, is_low, true);
                row.hash = self.table.hash(&flow_key);
            }
        }
        let mut slots = [NIL; BATCH];
        let mut to = slots.iter_mut();
        self.table.candidates(rows.iter().map(|row| row.hash), |slot| {
            if let Some(to) = to.next() {
                *to = slot;
            }
        });
        for (row, slot) in rows.iter_mut().zip(slots) {
            row.slot = if row.has_key && self.table.holds(slot, &row.key) { slot } else { NIL };
        }
        // A candidate may be another flow with the same tag, and a flow may live away from home.
        for row in rows.iter_mut().filter(|row| row.slot == NIL && row.has_key) {
            row.slot = self.table.find_by_hash(&row.key, row.hash).unwrap_or(NIL);
        }
        probes.changes = self.table.changes();
    }

    /// The slot of a row, as the packets before it have left the table.
    #[inline]
    fn slot_of(&self, probes: &Probes, row: &Probe) -> u32 {
        if probes.changes == self.table.changes() || (row.slot != NIL && self.table.holds(row.slot, &row.key)) {
            return row.slot;
        }
        self.table.find_by_hash(&row.key, row.hash).unwrap_or(NIL)
    }

    /// As [`Flows::look`], for the packet in a row of the burst.
    #[inline]
    pub fn look_probed(&self, at: usize, probes: &Probes, key: &Key, quote: &Tuple, now: Now) -> Look {
        match probes.rows.get(at) {
            Some(row) if row.has_key => {
                let slot = self.slot_of(probes, row);
                self.look_at(key, row.key, row.is_low, self.table.live(slot, now), now)
            }
            _ => self.look(key, quote, now),
        }
    }

    /// The most frequent case in one step: a packet that keeps the state of a flow which all layers have allowed passes, and the
    /// flow counts it, takes its window record and starts its timer again. Everything else is left to [`Flows::look`].
    ///
    /// With `needs_memory` only if the stateless layers were seen to let such a packet pass ([`Flows::remember`]).
    #[inline]
    pub fn pass(&mut self, at: usize, probes: &Probes, key: &Key, now: Now, bytes: u32, needs_memory: bool) -> Known {
        let Some(row) = probes.rows.get(at) else { return Known::No };
        if !row.has_key {
            return Known::No;
        }
        let slot = self.slot_of(probes, row);
        let (epoch, revalidate_before) = (self.epoch, self.revalidate_before);
        let Some(entry) = self.table.entry_mut(slot) else { return Known::No };
        if entry.epoch() < revalidate_before
            || entry.is_groups_only()
            || (needs_memory && !entry.remembers(row.is_low, key.direction(), epoch))
        {
            return Known::No;
        }
        let Some(state) = entry.state() else { return Known::No };
        let side = entry.side(row.is_low);
        let windows = match state {
            State::Tcp(state) => {
                let Some(segment) = Segment::of(key.tcp_flags) else { return Known::No };
                if state.is_half_open() || tcp::transition(state, side, segment) != Transition::To(state) {
                    return Known::No;
                }
                match entry.is_picked_up() || key.has(KeyBits::NO_WINDOW) {
                    true => None,
                    false => match tcp::in_window(&entry.windows(), state, side, key) {
                        Some(windows) => Some(windows),
                        None => return Known::No,
                    },
                }
            }
            State::Udp if side == tcp::Side::Responder => return Known::No,
            _ => None,
        };
        let (last, index) = (entry.last(), state.index());
        if now.since(Now(last)) >= self.table.timeout(index) {
            return Known::No;
        }
        let Some(entry) = self.table.entry_mut(slot) else { return Known::No };
        if let Some(windows) = windows {
            entry.set_windows(&windows);
        }
        entry.refresh(now, bytes);
        Known::Passed
    }

    /// Notes that the stateless layers of the program in force had nothing against a packet of an established flow and nothing
    /// to log, so that the next ones like it need not be asked about. Only where the flow's key holds all that rules look at.
    #[inline]
    pub fn remember(&mut self, at: usize, probes: &Probes, key: &Key) {
        let Some(row) = probes.rows.get(at).filter(|row| row.has_key) else { return };
        if !matches!(key.protocol, 6 | 17 | 132) {
            return;
        }
        let (slot, epoch) = (self.slot_of(probes, row), self.epoch);
        if let Some(entry) = self.table.entry_mut(slot) {
            entry.remember(row.is_low, key.direction(), epoch);
        }
    }
}
