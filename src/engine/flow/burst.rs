//! The keys of a burst in, where their flows lie out; and the packets that change nothing but counters, windows and timers.
//!
//! The flows of a burst are found before the first packet is judged ([`super::table::Table::locate`]). What an earlier packet of
//! the burst has changed since is looked at again, with everything in the cache.

use std::hint::select_unpredictable;

use super::key::FlowKey;
use super::state::State;
use super::table::{NIL, Row};
use super::tcp::{self, Segment, Side, Transition};
use super::{Flows, Look, tuple_of};
use crate::base::time::Now;
use crate::engine::batch::BATCH;
use crate::engine::counters::Tally;
use crate::packet::{Key, KeyBits, Parsed, Tuple};

/// One row per packet of a burst. Allocated once.
#[derive(Debug)]
pub struct Probes {
    rows: Box<[Row; BATCH]>,
    /// Insertions and removals in the table when the rows were filled.
    changes: u64,
}

impl Default for Probes {
    fn default() -> Probes {
        Probes { rows: Box::new([Row::EMPTY; BATCH]), changes: 0 }
    }
}

/// The packets of a burst: one element of each column for each.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    /// What was parsed.
    pub keys: &'a [Key],
    /// When they came.
    pub times: &'a [Now],
    /// Bytes on the wire, without frame check sequence.
    pub lengths: &'a [u32],
}

/// Bits of a key whose packets are looked at one by one.
const APART: u8 = KeyBits::FIRST_FRAGMENT | KeyBits::LATER_FRAGMENT | KeyBits::QUOTE;

/// Instead of a kind of segment.
const NOT_TCP: u8 = 5;

/// By TCP flags: 0 = a plain ACK, or one of the kinds that are left to [`tcp::transition`].
const SEGMENTS: [u8; 256] = {
    let mut segments = [7; 256];
    let mut flags = 0;
    while flags < 256 {
        if matches!(Segment::of(flags as u8), Some(Segment::Ack)) {
            segments[flags] = 0;
        }
        flags += 1;
    }
    segments
};

/// By kind of segment, side and [`super::entry::Entry::doing`]: the flow keeps its state and is not half-open.
const KEEPS: [[[bool; 16]; 2]; 8] = {
    let mut keeps = [[[false; 16]; 2]; 8];
    let mut doing = 1;
    while doing <= State::ALL.len() {
        let state = State::ALL[doing - 1];
        match state {
            State::Tcp(state) => {
                let there = tcp::transition(state, Side::Initiator, Segment::Ack);
                let back = tcp::transition(state, Side::Responder, Segment::Ack);
                let is_open = !state.is_half_open();
                keeps[0][0][doing] = is_open && matches!(there, Transition::To(next) if next as u8 == state as u8);
                keeps[0][1][doing] = is_open && matches!(back, Transition::To(next) if next as u8 == state as u8);
            }
            State::Udp => keeps[NOT_TCP as usize][0][doing] = true,
            State::UdpStream | State::Icmp | State::Other => {
                keeps[NOT_TCP as usize][0][doing] = true;
                keeps[NOT_TCP as usize][1][doing] = true;
            }
        }
        doing += 1;
    }
    keeps
};

impl Probes {
    /// Whether a packet of the burst had no flow when the rows were filled: a guess for later.
    #[inline]
    pub fn is_new(&self, at: usize) -> bool {
        self.rows.get(at).is_some_and(|row| row.has_key && row.slot == NIL)
    }
}

impl Flows {
    /// Finds the flows of a burst. Nothing changes.
    #[inline]
    pub fn probe(&self, keys: &[Key], parsed: &[Parsed], probes: &mut Probes) {
        let count = keys.len().min(BATCH);
        let rows = &mut probes.rows[..count];
        for ((row, key), parsed) in rows.iter_mut().zip(keys).zip(parsed) {
            let is_whole = *parsed == Parsed::Key && !key.has(APART);
            match FlowKey::of(&tuple_of(key)) {
                Some((flow_key, is_low)) if is_whole => {
                    (row.key, row.is_low, row.has_key) = (flow_key, is_low, true);
                }
                _ => (row.key, row.has_key) = (FlowKey::NOBODY, false),
            }
            self.table.aim(row);
        }
        self.table.locate(rows);
        probes.changes = self.table.changes();
    }

    /// The slot of a row, as the packets before it have left the table.
    #[inline]
    fn slot_of(&self, probes: &Probes, row: &Row) -> u32 {
        if probes.changes == self.table.changes() || (row.slot != NIL && self.table.holds(row.slot, &row.key)) {
            return row.slot;
        }
        self.table.find_by_hash(&row.key, row.hash).unwrap_or(NIL)
    }

    /// The hash of a row's key, if no entry has that key, expired or not.
    #[inline]
    pub fn vacancy(&self, at: usize, probes: &Probes) -> Option<u64> {
        let row = probes.rows.get(at).filter(|row| row.has_key)?;
        (self.slot_of(probes, row) == NIL).then_some(row.hash)
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

    /// The most frequent case in one step: packets that keep the state of a flow which all layers have allowed. From row `first`
    /// on they pass as established, until one that does not: each flow counts its packet, takes its window record and starts its
    /// timer again. Returns how many passed, and their number and bytes by direction. Whatever comes next is left to
    /// [`Flows::look_probed`].
    ///
    /// With `needs_memory` only packets pass that the stateless layers were seen to let pass ([`Flows::remember`]). `now` is the
    /// moment of the packet before, and becomes that of the last that passed: time never runs backwards (GW-26).
    #[inline]
    pub fn pass(
        &mut self,
        first: usize,
        probes: &Probes,
        packets: Packets<'_>,
        now: &mut Now,
        needs_memory: bool,
    ) -> (usize, [Tally; 2]) {
        let is_fresh = probes.changes == self.table.changes();
        let (limit, epoch) = (self.revalidate_before, self.epoch);
        let (entries, beyond, timeouts) = self.table.parts();
        // Of one length, so that no position is checked more than once.
        let count = packets.keys.len().min(BATCH);
        let (keys, times, lengths) = (&packets.keys[..count], &packets.times[..count], &packets.lengths[..count]);
        let rows = &probes.rows[..count];
        let (mut at, mut bytes, mut outbound) = (first, 0u64, Tally::default());
        while at < count {
            let (row, key) = (&rows[at], &keys[at]);
            let Some(entry) = entries.get_mut(row.slot as usize) else { break };
            // An earlier packet of the burst may have ended the flow, and another one may be there now.
            let is_it = is_fresh
                || (entry.resembles(&row.key)
                    && (!row.key.is_v6() || beyond.get(row.slot as usize) == Some(&row.key.beyond)));
            if !is_it
                || entry.epoch() < limit
                || entry.is_groups_only()
                || (needs_memory && !entry.remembers(row.is_low, key.direction(), epoch))
            {
                break;
            }
            let (side, doing) = (entry.side(row.is_low), entry.doing() % 16);
            let is_tcp = key.protocol == 6;
            let kind = select_unpredictable(is_tcp, SEGMENTS[usize::from(key.tcp_flags)], NOT_TCP);
            let is_checked = is_tcp & !entry.is_picked_up() & !key.has(KeyBits::NO_WINDOW);
            let keeps = KEEPS[usize::from(kind) % 8][side as usize % 2][doing];
            let moment = now.at_least(times[at]);
            let is_live = moment.since(Now(entry.last())) < timeouts[doing];
            if !(keeps & is_live) {
                break;
            }
            let shift = entry.shift(side);
            if !tcp::advance(entry.windows_mut(), shift, side, key, is_checked) {
                break;
            }
            entry.refresh(moment, lengths[at]);
            *now = moment;
            let (length, is_outbound) = (u64::from(lengths[at]), key.direction() as u64);
            bytes += length;
            outbound.add(Tally { packets: is_outbound, bytes: length & is_outbound.wrapping_neg() });
            at += 1;
        }
        let passed = at - first;
        let inbound = Tally { packets: passed as u64 - outbound.packets, bytes: bytes - outbound.bytes };
        (passed, [inbound, outbound])
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
