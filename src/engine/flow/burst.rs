//! The keys of a burst in, where their flows lie out; and the packets that change nothing but counters, windows and timers.
//!
//! The flows of a burst are found before the first packet is judged ([`super::table::Table::locate`]). What an earlier packet of
//! the burst has changed since is looked at again, with everything in the cache.

use std::hint::select_unpredictable;

use super::key::FlowKey;
use super::sixteen::{Find, Pass, Passed};
use super::state::State;
use super::table::{NIL, Row};
use super::tcp::{self, Segment, Side, Transition, flag};
use super::{Allowed, Flows, Look, Opening, tuple_of};
use crate::base::time::Now;
use crate::base::wide::{LANES, Wide};
use crate::engine::batch::BATCH;
use crate::engine::counters::Tally;
use crate::engine::decision::Reason;
use crate::packet::{Key, KeyBits, Tuple};

/// One row per packet of a burst. Allocated once.
#[derive(Debug)]
pub struct Probes {
    rows: Box<[Row; BATCH]>,
    /// The slots of the rows.
    slots: [u32; BATCH],
    /// One bit per row: the sender is the lower end.
    lows: u64,
    /// One bit per row: the packet belongs to no flow that was there.
    news: u64,
    /// Insertions and removals in the table when the rows were filled.
    changes: u64,
}

impl Default for Probes {
    fn default() -> Probes {
        Probes { rows: Box::new([Row::EMPTY; BATCH]), slots: [NIL; BATCH], lows: 0, news: 0, changes: 0 }
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
pub(super) const APART: u8 = KeyBits::FIRST_FRAGMENT | KeyBits::LATER_FRAGMENT | KeyBits::QUOTE;

/// Bit 16 x side + [`super::entry::Entry::doing`]: a segment that is nothing but an ACK keeps the state of a flow that does this, and
/// the flow is not half-open.
pub(super) const ACK_KEEPS: u32 = {
    let (mut keeps, mut doing) = (0, 1);
    while doing <= State::ALL.len() {
        if let State::Tcp(state) = State::ALL[doing - 1]
            && !state.is_half_open()
        {
            let there = tcp::transition(state, Side::Initiator, Segment::Ack);
            let back = tcp::transition(state, Side::Responder, Segment::Ack);
            keeps |= (matches!(there, Transition::To(next) if next as u8 == state as u8) as u32) << doing;
            keeps |= (matches!(back, Transition::To(next) if next as u8 == state as u8) as u32) << (16 + doing);
        }
        doing += 1;
    }
    keeps
};

/// The same for packets of other protocols than TCP.
pub(super) const OTHERS_KEEP: u32 = {
    let (mut keeps, mut doing) = (0, 1);
    while doing <= State::ALL.len() {
        keeps |= match State::ALL[doing - 1] {
            State::Tcp(_) => 0,
            State::Udp => 1 << doing,
            State::UdpStream | State::Icmp | State::Other => 0x1_0001 << doing,
        };
        doing += 1;
    }
    keeps
};

/// Whether flags are those of a segment that is nothing but an ACK ([`Segment::Ack`]).
#[inline(always)]
const fn is_ack(flags: u8) -> bool {
    flags & (flag::FIN | flag::SYN | flag::RST | flag::ACK) == flag::ACK
}

/// So few packets are looked at one by one.
const FEW: usize = 3;

/// The row of a packet, not aimed yet.
#[inline(always)]
pub(super) fn row_of(key: &Key, has_key: bool) -> Row {
    match FlowKey::of(&tuple_of(key)) {
        Some((flow_key, is_low)) if has_key && !key.has(APART) => Row::of(flow_key, is_low),
        _ => Row::EMPTY,
    }
}

impl Probes {
    /// Whether a packet of the burst had no flow when the rows were filled: a guess for later.
    #[inline]
    pub fn is_new(&self, at: usize) -> bool {
        self.news >> (at % BATCH) & 1 == 1
    }
}

impl Flows {
    /// Finds the flows of the first `count` packets of a burst, [`BATCH`] at most. Nothing changes. Bit i of `keyless` says that
    /// packet i has no key. Keys behind those may be anything; they are there so that sixteen can be worked on at once.
    #[inline]
    pub fn probe(&mut self, keys: &[Key], count: usize, keyless: u64, probes: &mut Probes) {
        let count = count.min(keys.len()).min(BATCH);
        let Probes { rows, slots, lows, news, changes } = probes;
        *changes = self.table.changes();
        match Wide::of_this_processor() {
            Some(wide) if count > FEW && keys.len().is_multiple_of(LANES) => {
                let (table, rows, slots) = (&mut self.table, &mut rows[..], &mut slots[..]);
                (*lows, *news) = wide.run(Find { wide, table, keys, keyless, count, rows, slots });
            }
            _ => {
                (*lows, *news) = (0, 0);
                for (at, (row, key)) in rows.iter_mut().zip(keys).enumerate().take(count) {
                    *row = row_of(key, keyless >> at & 1 == 0);
                    *lows |= u64::from(row.is_low()) << at;
                    self.table.aim(row);
                }
                self.table.locate(&mut rows[..count]);
                for (at, (row, slot)) in rows.iter().zip(slots).enumerate().take(count) {
                    *slot = row.slot;
                    *news |= row.is_new() << at;
                }
            }
        }
    }

    /// The slot of a row, as the packets before it have left the table.
    #[inline]
    fn slot_of(&self, probes: &Probes, row: &Row) -> u32 {
        let is_right = match row.slot {
            _ if probes.changes == self.table.changes() => true,
            NIL => !self.table.is_recent(row.hash, probes.changes),
            slot => self.table.holds(slot, &row.key()),
        };
        if is_right {
            return row.slot;
        }
        self.table.find_by_hash(&row.key(), row.hash).unwrap_or(NIL)
    }

    /// What a packet begins if it is allowed, where its row says that it belongs to no flow, dead or alive; `None` leaves it to
    /// [`Flows::look_probed`].
    #[inline]
    pub fn opening(&self, at: usize, probes: &Probes, key: &Key) -> Option<Opening> {
        let row = probes.rows.get(at).filter(|row| row.has_key() && row.slot == NIL)?;
        if self.slot_of(probes, row) == NIL { self.opening_of(key) } else { None }
    }

    /// Makes the flow that [`Flows::opening`] has told of. The error is the reason to deny its packet after all (GW-24).
    #[inline]
    pub fn open(
        &mut self,
        at: usize,
        probes: &Probes,
        key: &Key,
        opening: Opening,
        allowed: Allowed,
    ) -> Result<(), Reason> {
        let Some(row) = probes.rows.get(at) else { return Ok(()) };
        let flow = self.fresh(key, row.key(), row.is_low(), opening, allowed.now);
        self.insert(flow, allowed, Some(row.hash))
    }

    /// As [`Flows::look`], for the packet in a row of the burst.
    #[inline]
    pub fn look_probed(&self, at: usize, probes: &Probes, key: &Key, quote: &Tuple, now: Now) -> Look {
        match probes.rows.get(at) {
            Some(row) if row.has_key() => {
                let slot = self.slot_of(probes, row);
                self.look_at(key, row.key(), row.is_low(), self.table.live(slot, now), now)
            }
            _ => self.look(key, quote, now),
        }
    }

    /// The most frequent case in one step: packets that keep the state of a flow which all layers have allowed. Of the first `count`
    /// packets they pass as established from row `first` on, until one that does not: each flow counts its packet, takes its window
    /// record and starts its timer again. Returns how many passed, and their number and bytes by direction. Whatever comes next is left to
    /// [`Flows::look_probed`].
    ///
    /// With `needs_memory` only packets pass that the stateless layers were seen to let pass ([`Flows::remember`]). `now` is the
    /// moment of the packet before, and becomes that of the last that passed: time never runs backwards (GW-26).
    #[inline]
    pub fn pass(
        &mut self,
        first: usize,
        count: usize,
        probes: &Probes,
        packets: Packets<'_>,
        now: &mut Now,
        needs_memory: bool,
    ) -> (usize, [Tally; 2]) {
        let count = count.min(packets.keys.len());
        let is_fresh = probes.changes == self.table.changes();
        let (mut at, mut tallies) = (first, [Tally::default(); 2]);
        while at < count {
            let mut end = count;
            if count - at > FEW
                && let Some((wide, passed)) = self.pass_at_once(at, count, probes, packets, *now, needs_memory)
            {
                tallies.iter_mut().zip(passed.tallies).for_each(|(sum, tally)| sum.add(tally));
                (at, *now) = (at + passed.count, passed.now);
                if passed.is_refused {
                    break;
                }
                if passed.count > 0 {
                    continue;
                }
                end = count.min(at + wide);
            }
            let passed = if is_fresh {
                self.pass_while::<true>(at, end, probes, packets, now, needs_memory)
            } else {
                self.pass_while::<false>(at, end, probes, packets, now, needs_memory)
            };
            tallies.iter_mut().zip(passed.1).for_each(|(sum, tally)| sum.add(tally));
            at += passed.0;
            if at < end {
                break;
            }
        }
        (at - first, tallies)
    }

    /// Lets up to sixteen packets pass from row `at` on, if this processor can work on so many, and returns how many that might have
    /// been.
    #[inline]
    fn pass_at_once(
        &mut self,
        at: usize,
        count: usize,
        probes: &Probes,
        packets: Packets<'_>,
        now: Now,
        needs_memory: bool,
    ) -> Option<(usize, Passed)> {
        let wide = Wide::of_this_processor()?;
        let base = at.min(packets.keys.len().checked_sub(LANES)?);
        let end = count.min(base + LANES);
        let lanes = (u32::MAX << (at - base) & !(u32::MAX << (end - base))) as u16;
        let is_fresh = probes.changes == self.table.changes();
        let (limit, epoch) = (self.revalidate_before, self.epoch);
        let (entries, _, timeouts) = self.table.parts();
        let pass = Pass {
            wide,
            entries,
            timeouts,
            rows: probes.rows.get(base..)?.first_chunk()?,
            slots: probes.slots.get(base..)?.first_chunk()?,
            lows: (probes.lows >> base) as u16,
            keys: packets.keys.get(base..)?.first_chunk()?,
            times: packets.times.get(base..)?.first_chunk()?,
            lengths: packets.lengths.get(base..)?.first_chunk()?,
            lanes,
            now,
            epoch,
            limit,
            needs_memory,
            is_fresh,
        };
        Some((end - at, wide.run(pass)))
    }

    /// With `FRESH` the slots of all rows are right; otherwise an earlier packet of the burst may have ended a flow, and another one
    /// may be in its slot.
    fn pass_while<const FRESH: bool>(
        &mut self,
        first: usize,
        count: usize,
        probes: &Probes,
        packets: Packets<'_>,
        now: &mut Now,
        needs_memory: bool,
    ) -> (usize, [Tally; 2]) {
        let (limit, epoch) = (self.revalidate_before, self.epoch);
        let (entries, beyond, timeouts) = self.table.parts();
        // Of one length, so that no position is checked more than once.
        let count = count.min(packets.keys.len()).min(BATCH);
        let (keys, times, lengths) = (&packets.keys[..count], &packets.times[..count], &packets.lengths[..count]);
        let rows = &probes.rows[..count];
        let (mut at, mut latest, mut tallies) = (first, *now, [Tally::default(); 2]);
        while at < count {
            let (row, key) = (&rows[at], &keys[at]);
            let Some(entry) = entries.get_mut(row.slot as usize) else { break };
            let is_it = FRESH
                || (entry.resembles(&row.key())
                    && (!row.key().is_v6() || beyond.get(row.slot as usize) == Some(&row.key().beyond)));
            if !is_it
                || entry.epoch() < limit
                || entry.is_groups_only()
                || (needs_memory && !entry.remembers(row.is_low(), key.direction(), epoch))
            {
                break;
            }
            let (side, doing) = (entry.side(row.is_low()), entry.doing() % 16);
            let is_tcp = key.protocol == 6;
            let acks = if is_ack(key.tcp_flags) { ACK_KEEPS } else { 0 };
            let keeps = select_unpredictable(is_tcp, acks, OTHERS_KEEP) >> (side as usize * 16 + doing) & 1;
            let moment = latest.at_least(times[at]);
            // A moment in the future counts as long ago, and the packet is left to the long way.
            let is_live = moment.0.wrapping_sub(entry.last()) < timeouts[doing];
            if (keeps == 0) | !is_live {
                break;
            }
            let unchecked = (key.protocol ^ 6) | entry.picked_up() | (key.bits.0 & KeyBits::NO_WINDOW);
            let shift = entry.shift(side);
            if !tcp::advance(entry.windows_mut(), shift, side, key, unchecked) {
                break;
            }
            entry.refresh(moment, lengths[at]);
            latest = moment;
            tallies[key.direction() as usize].add(Tally { packets: 1, bytes: u64::from(lengths[at]) });
            at += 1;
        }
        *now = latest;
        (at - first, tallies)
    }

    /// Notes that the stateless layers of the program in force had nothing against a packet of an established flow and nothing
    /// to log, so that the next ones like it need not be asked about. Only where the flow's key holds all that rules look at.
    #[inline]
    pub fn remember(&mut self, at: usize, probes: &Probes, key: &Key) {
        let Some(row) = probes.rows.get(at).filter(|row| row.has_key()) else { return };
        if !matches!(key.protocol, 6 | 17 | 132) {
            return;
        }
        let (slot, epoch) = (self.slot_of(probes, row), self.epoch);
        if let Some(entry) = self.table.entry_mut(slot) {
            entry.remember(row.is_low(), key.direction(), epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gw_25_a_segment_is_nothing_but_an_ack_by_its_flags() {
        for flags in 0..=u8::MAX {
            assert_eq!(is_ack(flags), Segment::of(flags) == Some(Segment::Ack), "{flags:#x}");
        }
    }

    #[test]
    fn gw_25_packets_that_keep_the_state_are_those_of_the_table_of_transitions() {
        for (i, state) in State::ALL.into_iter().enumerate() {
            for (which, side) in [Side::Initiator, Side::Responder].into_iter().enumerate() {
                let is_kept = |keeps: u32| keeps >> (16 * which + i + 1) & 1 == 1;
                let State::Tcp(tcp) = state else {
                    assert!(!is_kept(ACK_KEEPS));
                    let becomes_stream = state == State::Udp && side == Side::Responder;
                    assert_eq!(is_kept(OTHERS_KEEP), !becomes_stream, "{state:?} {side:?}");
                    continue;
                };
                let stays = tcp::transition(tcp, side, Segment::Ack) == Transition::To(tcp);
                assert_eq!(is_kept(ACK_KEEPS), stays && !tcp.is_half_open(), "{state:?} {side:?}");
                assert!(!is_kept(OTHERS_KEEP));
            }
        }
    }
}
