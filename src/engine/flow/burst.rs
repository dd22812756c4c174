//! The keys of a burst in, where their flows lie out; and the packets that change nothing but counters, windows and timers.
//!
//! The flows of a burst are found before the first packet is judged ([`Flows::probe`]). What an earlier packet of the burst has
//! changed since is looked at again, with everything in the cache.

use std::hint::select_unpredictable;

use super::entry::Entry;
use super::key::{Beyond, FlowKey, Plain, flow_of};
use super::sixteen::{Compare, Ends, Find, Pass};
use super::state::State;
use super::table::NIL;
use super::tcp::{self, Segment, Side, Transition, flag};
use super::{Allowed, Flows, Look, Opening};
use crate::base::time::Now;
use crate::base::wide::{LANES, Level};
use crate::engine::batch::BATCH;
use crate::engine::counters::Tally;
use crate::engine::decision::Reason;
use crate::packet::{Columns, Key, KeyBits, Tuple};

/// Groups of packets that are worked on at once.
pub(super) const GROUPS: usize = BATCH / LANES;

/// Where the flows of a burst are: what is found of each packet. Allocated once.
#[derive(Debug)]
pub struct Probes {
    /// The keys of the flows, where they are found sixteen at once.
    pub(super) ends: Box<[Ends; GROUPS]>,
    /// Where the flow is likely to be, expired or not: one with its tag. Or [`NIL`], then there is none.
    pub(super) slots: Box<[[u32; LANES]; GROUPS]>,
    pub(super) hashes: Box<[u64; BATCH]>,
    /// One bit per packet: the sender is the lower end.
    pub(super) lows: u64,
    /// One bit per packet: it can belong to a flow by its own key.
    pub(super) keyed: u64,
    /// One bit per packet: it belongs to no flow that was there.
    pub(super) news: u64,
    /// One bit per packet: it may keep the state of a flow that was there, by its flags.
    pub(super) steady: u64,
    /// The times of the packets are known not to run backwards.
    pub(super) is_in_time: bool,
    /// Insertions and removals in the table when all this was filled in.
    changes: u64,
}

impl Default for Probes {
    fn default() -> Probes {
        Probes {
            ends: Box::new([Ends::NONE; GROUPS]),
            slots: Box::new([[NIL; LANES]; GROUPS]),
            hashes: Box::new([0; BATCH]),
            lows: 0,
            keyed: 0,
            news: 0,
            steady: 0,
            is_in_time: false,
            changes: 0,
        }
    }
}

/// The packets of a burst: one element of each column for each.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    /// By which instructions they are looked at; at [`Level::Scalar`] one by one.
    pub level: Level,
    /// What was parsed.
    pub keys: &'a [Key],
    /// The same by sixteen, the last ones with anything in the lanes that are left; or nothing, then packets are looked at one by
    /// one.
    pub columns: &'a [Columns],
    /// When they came.
    pub times: &'a [Now],
    /// Bytes on the wire, without frame check sequence.
    pub lengths: &'a [u32],
}

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

/// Flags that tell a segment that is nothing but an ACK from others: of these it has ACK alone.
pub(super) const ACK_OR_NOT: u8 = flag::FIN | flag::SYN | flag::RST | flag::ACK;

/// Whether flags are those of a segment that is nothing but an ACK ([`Segment::Ack`]).
#[inline(always)]
const fn is_ack(flags: u8) -> bool {
    flags & ACK_OR_NOT == flag::ACK
}

/// The hash of the flow of a packet of any kind, and whether its sender is the lower end.
#[inline(never)]
fn hash_of_any(key: &Key, seed: [u64; 2]) -> Option<(u64, bool)> {
    flow_of(key).map(|(flow_key, is_low)| (flow_key.hash(seed), is_low))
}

/// Whether an entry is the flow of a packet.
#[inline(always)]
fn is_of(entry: &Entry, beyond: Option<&Beyond>, key: &Key) -> bool {
    match Plain::of(key) {
        Some(plain) => entry.is_of(plain.ends, plain.rest),
        None => is_of_any(entry, beyond, key),
    }
}

/// Whether an entry is the flow of a packet of any kind.
#[inline(never)]
fn is_of_any(entry: &Entry, beyond: Option<&Beyond>, key: &Key) -> bool {
    flow_of(key).is_some_and(|(flow_key, _)| {
        entry.resembles(&flow_key) && (!flow_key.is_v6() || beyond == Some(&flow_key.beyond))
    })
}

/// Most flows that [`Stuck`] tells apart: more are not worth the comparisons.
const MOST_STUCK: usize = 12;

/// The slots of packets that have not passed: no later packet of their flows may, before they have had their turn.
#[derive(Default)]
struct Stuck {
    slots: [u32; MOST_STUCK],
    count: usize,
}

impl Stuck {
    /// Lanes whose slot is one of these.
    #[inline(always)]
    fn of(&self, slots: &[u32; LANES]) -> u16 {
        self.slots.iter().take(self.count).fold(0, |lanes, &slot| lanes | same(slots, slot))
    }

    /// Adds the slots of some lanes; new flows have none yet. Returns whether there was room.
    #[inline(always)]
    fn add(&mut self, slots: &[u32; LANES], mut lanes: u16) -> bool {
        while lanes != 0 {
            let slot = slots[lanes.trailing_zeros() as usize % LANES];
            lanes &= !same(slots, slot);
            if slot != NIL {
                let Some(place) = self.slots.get_mut(self.count) else { return false };
                (*place, self.count) = (slot, self.count + 1);
            }
        }
        true
    }
}

/// Lanes that hold a number.
#[inline(always)]
fn same(lanes: &[u32; LANES], number: u32) -> u16 {
    lanes.iter().enumerate().fold(0, |same, (lane, &other)| same | u16::from(other == number) << lane)
}

impl Probes {
    /// Whether a packet had no flow when the burst began.
    #[cfg(test)]
    pub(super) fn is_new(&self, at: usize) -> bool {
        self.news >> (at % BATCH) & 1 == 1
    }

    /// One bit per packet that [`Flows::pass`] may let pass: it keeps the state of a flow that was there, by its flags.
    #[inline]
    pub fn steady(&self) -> u64 {
        self.steady
    }

    /// Whether the times of the packets are known not to run backwards.
    #[inline]
    pub fn is_in_time(&self) -> bool {
        self.is_in_time
    }

    /// One bit per packet that belongs to no flow by its own key.
    #[inline]
    pub fn flowless(&self) -> u64 {
        !self.keyed
    }

    #[inline]
    fn has_key(&self, at: usize) -> bool {
        at < BATCH && self.keyed >> at & 1 == 1
    }

    /// Where the flow of a packet was when the burst began, expired or not, or [`NIL`].
    #[inline]
    pub fn slot(&self, at: usize) -> u32 {
        self.slots.as_flattened().get(at).copied().unwrap_or(NIL)
    }
}

impl Flows {
    /// Finds the flows of the first `count` packets of a burst, [`BATCH`] at most. Nothing changes. Bit i of `keyless` says that
    /// packet i has no key.
    #[inline]
    pub fn probe(&mut self, packets: Packets<'_>, count: usize, keyless: u64, probes: &mut Probes) {
        let Packets { keys, columns, times, .. } = packets;
        let count = count.min(keys.len()).min(BATCH);
        probes.changes = self.table.changes();
        self.table.begin();
        let find = Find { table: &self.table, keys, columns, times, keyless, count, probes: &mut *probes };
        let found = if count <= LANES * columns.len() { packets.level.run(find) } else { None };
        if found.is_none() {
            self.find_one_by_one(keys, count, keyless, probes);
        }
    }

    /// One phase per load, over all packets, so that the cache misses of a burst overlap.
    #[inline(always)]
    fn find_one_by_one(&mut self, keys: &[Key], count: usize, keyless: u64, probes: &mut Probes) {
        let (buckets, seed) = self.table.hashing();
        let (mut lows, mut keyed, mut news, mut turning) = (0u64, 0u64, 0u64, 0u64);
        for (at, (key, hash)) in keys.iter().zip(probes.hashes.iter_mut()).enumerate().take(count) {
            let found = match Plain::of(key) {
                Some(plain) => Some((plain.hash(seed), plain.is_low)),
                None => hash_of_any(key, seed),
            };
            if let Some((found, is_low)) = found.filter(|_| keyless >> at & 1 == 0) {
                *hash = found;
                buckets.prefetch(found);
                lows |= u64::from(is_low) << at;
                keyed |= 1 << at;
                turning |= u64::from(key.protocol == 6 && !is_ack(key.tcp_flags)) << at;
            }
        }
        // The words of the buckets first, then the slots.
        let slots = probes.slots.as_flattened_mut();
        for (at, (slot, &hash)) in slots.iter_mut().zip(probes.hashes.iter()).enumerate().take(count) {
            *slot = 0;
            if keyed >> at & 1 == 1 {
                *slot = buckets.first(hash);
                self.table.fetch(buckets.slot(*slot), keys.get(at).is_some_and(|key| key.has(KeyBits::V6)));
            }
        }
        for (at, (slot, key)) in slots.iter_mut().zip(keys).enumerate().take(count) {
            let word = std::mem::replace(slot, NIL);
            let found = buckets.slot(word);
            if word == 0 {
                news |= keyed & 1 << at;
            } else if word != found {
                *slot = found;
            } else {
                // Nobody at home has the tag, but somebody lives elsewhere.
                let own = flow_of(key).and_then(|(own, _)| self.table.find_by_hash(&own, probes.hashes[at % BATCH]));
                *slot = own.unwrap_or(NIL);
                news |= u64::from(own.is_none()) << at;
            }
        }
        probes.is_in_time = false;
        (probes.lows, probes.keyed, probes.news, probes.steady) = (lows, keyed, news, keyed & !news & !turning);
    }

    /// Compares the keys of the first `count` packets of a burst, which [`Flows::probe`] was called for, with those of the flows found,
    /// and looks on where they differ: then each slot is that of the packet's own flow. For whoever wants the slots themselves;
    /// [`Flows::pass`] and [`Flows::look_probed`] compare what they use.
    #[inline]
    pub fn confirm(&self, packets: Packets<'_>, count: usize, probes: &mut Probes) {
        let (keys, count) = (packets.keys, count.min(packets.keys.len()).min(BATCH));
        let all = u64::MAX >> (BATCH - count.max(1));
        let compare = Compare { entries: self.table.entries(), ends: &probes.ends, slots: &probes.slots, count };
        let differing = if count <= LANES * packets.columns.len() { packets.level.run(compare) } else { None };
        let mut open = differing.unwrap_or(all) & probes.keyed;
        while open != 0 {
            let at = open.trailing_zeros() as usize % BATCH;
            if let Some((own, _)) = keys.get(at).and_then(flow_of)
                && !self.table.holds(probes.slot(at), &own)
            {
                let found = self.table.find_by_hash(&own, probes.hashes[at]).unwrap_or(NIL);
                probes.slots.as_flattened_mut()[at] = found;
                probes.news |= u64::from(found == NIL) << at;
            }
            open &= open - 1;
        }
    }

    /// The slot of a packet's flow, as the packets before it have left the table.
    #[inline]
    fn slot_of(&self, at: usize, probes: &Probes, flow_key: &FlowKey) -> u32 {
        let (slot, hash) = (probes.slot(at), probes.hashes.get(at).copied().unwrap_or(0));
        let is_fresh = probes.changes == self.table.changes();
        let is_right = match slot {
            NIL => is_fresh || !self.table.is_recent(hash, probes.changes),
            _ => self.table.holds(slot, flow_key),
        };
        if is_right {
            return slot;
        }
        self.table.find_by_hash(flow_key, hash).unwrap_or(NIL)
    }

    /// What a packet begins if it is allowed, where it was found to belong to no flow, dead or alive; `None` leaves it to
    /// [`Flows::look_probed`].
    #[inline]
    pub fn opening(&self, at: usize, probes: &Probes, key: &Key) -> Option<Opening> {
        if !probes.has_key(at) || probes.slot(at) != NIL {
            return None;
        }
        let (opening, hash) = (self.opening_of(key)?, *probes.hashes.get(at)?);
        let is_fresh = probes.changes == self.table.changes();
        if is_fresh || !self.table.is_recent(hash, probes.changes) {
            return Some(opening);
        }
        let (flow_key, _) = flow_of(key)?;
        if self.table.find_by_hash(&flow_key, hash).is_none() { Some(opening) } else { None }
    }

    /// One bit per packet that will probably begin a flow: it had none when the burst began, could begin one, and is not of the same
    /// flow as the last such packet before it.
    #[inline]
    pub fn openings(&self, probes: &Probes, keys: &[Key]) -> u64 {
        let (mut left, mut openings, mut last) = (probes.news, 0, None);
        while left != 0 {
            let at = left.trailing_zeros() as usize % BATCH;
            let hash = Some(probes.hashes[at]);
            if hash != last && keys.get(at).is_some_and(|key| self.opening_of(key).is_some()) {
                openings |= 1 << at;
                last = hash;
            }
            left &= left - 1;
        }
        openings
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
        let (Some((flow_key, is_low)), Some(&hash)) = (flow_of(key), probes.hashes.get(at)) else { return Ok(()) };
        let flow = self.fresh(key, flow_key, is_low, opening, allowed.now);
        self.insert(flow, allowed, Some(hash))
    }

    /// As [`Flows::look`], for a packet of the burst.
    #[inline]
    pub fn look_probed(&self, at: usize, probes: &Probes, key: &Key, quote: &Tuple, now: Now) -> Look {
        match flow_of(key) {
            Some((flow_key, is_low)) if probes.has_key(at) => {
                let slot = self.slot_of(at, probes, &flow_key);
                self.look_at(key, flow_key, is_low, self.table.live(slot, now), now)
            }
            _ => self.look(key, quote, now),
        }
    }

    /// The most frequent case in one step: packets that keep the state of a flow which all layers have allowed. They pass as
    /// established: each flow counts its packet, takes its window record and starts its timer again. Of the packets that `wanted` has a
    /// bit for those pass, sixteen at once, whose flow no other packet of them has before. Returns which have passed, one bit for each.
    ///
    /// They pass before packets that came before them, which no verdict can tell: a flow is changed by its own packets alone, in
    /// their order, as long as `wanted` has a bit for each packet that could be one; a flow that keeps its state is live already when an
    /// earlier packet asks for its place, and not half-open, so that it would not have been given away (GW-24).
    ///
    /// With `needs_memory` only packets pass that the stateless layers were seen to let pass ([`Flows::remember`]). The times of the
    /// packets must not run backwards.
    #[inline]
    pub fn pass_early(
        &mut self,
        wanted: u64,
        probes: &Probes,
        packets: Packets<'_>,
        needs_memory: bool,
        tallies: &mut [Tally; 2],
    ) -> u64 {
        let (mut passed, mut stuck) = (0, Stuck::default());
        let least = packets.level.least();
        for (group, slots) in probes.slots.iter().enumerate().take(packets.columns.len()) {
            let first = group * LANES;
            let wanted = (wanted >> first) as u16;
            let mut lanes = wanted & (probes.steady >> first) as u16;
            // Packets that begin a flow have no slot, and nobody waits for them.
            let wanted = wanted & !(probes.news >> first) as u16;
            if lanes.count_ones() >= least {
                lanes &= !stuck.of(slots);
                let mut turning = wanted & !lanes;
                while turning != 0 {
                    let lane = turning.trailing_zeros() as usize % LANES;
                    lanes &= !(same(slots, slots[lane]) & u16::MAX << lane);
                    turning &= turning - 1;
                }
            }
            let mut done = 0;
            if lanes.count_ones() >= least
                && let Some((lanes, sums)) = self.pass_sixteen(group, lanes, least, probes, packets, needs_memory)
            {
                tallies.iter_mut().zip(sums).for_each(|(sum, tally)| sum.add(tally));
                done = lanes;
            }
            passed |= u64::from(done) << first;
            if !stuck.add(slots, wanted & !done) {
                break;
            }
        }
        passed
    }

    /// Lets packets of one group of sixteen pass, if this processor can work on so many.
    #[inline]
    fn pass_sixteen(
        &mut self,
        group: usize,
        lanes: u16,
        least: u32,
        probes: &Probes,
        packets: Packets<'_>,
        needs_memory: bool,
    ) -> Option<(u16, [Tally; 2])> {
        let is_fresh = probes.changes == self.table.changes();
        let (limit, epoch) = (self.revalidate_before, self.epoch);
        let (entries, _, timeouts) = self.table.parts();
        let pass = Pass {
            entries,
            timeouts,
            ends: probes.ends.get(group)?,
            slots: probes.slots.get(group)?,
            lows: (probes.lows >> (group * LANES)) as u16,
            columns: packets.columns.get(group)?,
            times: packets.times.as_chunks().0.get(group)?,
            lengths: packets.lengths.as_chunks().0.get(group)?,
            lanes,
            least,
            epoch,
            limit,
            needs_memory,
            is_fresh,
        };
        packets.level.run(pass)
    }

    /// The same one by one and in order, from row `first` on to `count`, up to a packet that does not pass. Returns how many have
    /// passed. Whatever comes next is left to [`Flows::look_probed`].
    #[inline(always)]
    pub fn pass(
        &mut self,
        first: usize,
        count: usize,
        probes: &Probes,
        packets: Packets<'_>,
        needs_memory: bool,
        tallies: &mut [Tally; 2],
    ) -> usize {
        let (limit, epoch) = (self.revalidate_before, self.epoch);
        let (entries, beyond, timeouts) = self.table.parts();
        // Of one length, so that no position is checked more than once.
        let count = count.min(packets.keys.len()).min(BATCH);
        let (keys, times, lengths) = (&packets.keys[..count], &packets.times[..count], &packets.lengths[..count]);
        let slots = &probes.slots.as_flattened()[..count];
        let mut at = first;
        while at < count {
            let (slot, key, is_low) = (slots[at] as usize, &keys[at], probes.lows >> at & 1 == 1);
            let Some(entry) = entries.get_mut(slot) else { break };
            // The flow in the slot is the packet's own.
            if !is_of(entry, beyond.get(slot), key)
                || entry.epoch() < limit
                || entry.is_groups_only()
                || (needs_memory && !entry.remembers(is_low, key.direction(), epoch))
            {
                break;
            }
            let (side, doing) = (entry.side(is_low), entry.doing() % 16);
            let is_tcp = key.protocol == 6;
            let acks = if is_ack(key.tcp_flags) { ACK_KEEPS } else { 0 };
            let keeps = select_unpredictable(is_tcp, acks, OTHERS_KEEP) >> (side as usize * 16 + doing) & 1;
            let moment = times[at];
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
            tallies[key.direction() as usize].add(Tally { packets: 1, bytes: u64::from(lengths[at]) });
            at += 1;
        }
        at - first
    }

    /// Notes that the stateless layers of the program in force had nothing against a packet of an established flow and nothing
    /// to log, so that the next ones like it need not be asked about. Only where the flow's key holds all that rules look at.
    #[inline]
    pub fn remember(&mut self, at: usize, probes: &Probes, key: &Key) {
        if !probes.has_key(at) || !matches!(key.protocol, 6 | 17 | 132) {
            return;
        }
        let Some((flow_key, is_low)) = flow_of(key) else { return };
        let (slot, epoch) = (self.slot_of(at, probes, &flow_key), self.epoch);
        if let Some(entry) = self.table.entry_mut(slot) {
            entry.remember(is_low, key.direction(), epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::FlowSettings;

    #[test]
    fn gw_25_a_segment_is_nothing_but_an_ack_by_its_flags() {
        for flags in 0..=u8::MAX {
            assert_eq!(is_ack(flags), Segment::of(flags) == Some(Segment::Ack), "{flags:#x}");
        }
    }

    #[test]
    fn of_the_new_packets_of_one_flow_the_first_will_probably_begin_it() {
        let mut flows = Flows::new(&FlowSettings { capacity: 16, ..FlowSettings::default() }, [1, 2]);
        let packet = |src, dst, protocol, tcp_flags| Key {
            src,
            dst,
            sport: 1000 + src as u16,
            dport: 1000 + dst as u16,
            protocol,
            tcp_flags,
            bits: KeyBits(KeyBits::L4),
            ..Key::EMPTY
        };
        let handshake = [(1, 2, flag::SYN), (2, 1, flag::SYN | flag::ACK), (1, 2, flag::ACK)];
        let datagrams = [(3, 4), (4, 3), (3, 4), (5, 6)];
        let keys: Vec<Key> = (handshake.iter().map(|&(src, dst, flags)| packet(src, dst, 6, flags)))
            .chain(datagrams.iter().map(|&(src, dst)| packet(src, dst, 17, 0)))
            .chain([packet(7, 8, 6, flag::FIN)])
            .collect();
        let mut probes = Probes::default();
        let packets = Packets { level: Level::Scalar, keys: &keys, columns: &[], times: &[], lengths: &[] };
        flows.probe(packets, keys.len(), 0, &mut probes);
        assert!((0..keys.len()).all(|at| probes.is_new(at)) && probes.steady() == 0);
        assert_eq!(flows.openings(&probes, &keys), 0b0100_1001, "the SYN, and the first datagram of each flow");
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
