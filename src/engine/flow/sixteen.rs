//! Sixteen packets of a burst in, the slots of their flows out; and slots with their packets in, the flows that go on out: what `burst`
//! does with one packet, with one lane for each.

use bytemuck::Zeroable;

use super::burst::{ACK_KEEPS, ACK_OR_NOT, GROUPS, OTHERS_KEEP, Probes};
use super::entry::{Entry, GROUPS_ONLY, KEY_BITS, LOW_INITIATOR, PICKED_UP};
use super::key::{APART, FlowKey, IS_V6, flow_of, hashes};
use super::table::{NIL, Table};
use super::tcp::{MAX_ACK_LAG, flag};
use crate::base::address::Direction;
use crate::base::prefetch::prefetch;
use crate::base::time::Now;
use crate::base::wide::{Kernel, LANES, Wide};
use crate::engine::batch::BATCH;
use crate::engine::counters::Tally;
use crate::packet::{Columns, Key, KeyBits};

const TCP: u32 = 6;
const UDP: u32 = 17;

/// The keys of the flows of sixteen packets, one lane for each: what an entry begins with.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Ends {
    /// Low 32 bits of the lower and of the higher address.
    low: [u32; LANES],
    high: [u32; LANES],
    /// Port of the lower end in the upper half, and that of the higher one.
    ports: [u32; LANES],
    /// Protocol; bits of the key shifted by 8.
    kind: [u32; LANES],
}

impl Ends {
    /// No packets.
    pub const NONE: Ends = Ends { low: [0; LANES], high: [0; LANES], ports: [0; LANES], kind: [0; LANES] };

    /// Lanes whose flow an entry has, by the words of [`Entry::key`]; of IPv6, as far as they tell.
    #[inline(always)]
    fn are<W: Wide>(&self, wide: W, [high, low, ports, state]: [W::Words; 4]) -> W::Mask {
        let kind = wide.only(state, 0xff | u32::from(KEY_BITS) << 8);
        let is_pair = wide.both(wide.equal(low, wide.load(&self.low)), wide.equal(high, wide.load(&self.high)));
        let is_kind = wide.both(wide.equal(ports, wide.load(&self.ports)), wide.equal(kind, wide.load(&self.kind)));
        wide.both(is_pair, is_kind)
    }

    fn set(&mut self, lane: usize, key: &FlowKey) {
        (self.low[lane], self.high[lane]) = ((key.ends >> 32) as u32, key.ends as u32);
        (self.ports[lane], self.kind[lane]) = (key.ports, u32::from(key.kind));
    }
}

/// Finds the flows of the first `count` packets; bit i of `keyless` says that packet i has no key. The flows in the slots are likely
/// ones: their tags are the same, and no other entry of the bucket has the tag. Those over IPv6 were compared.
pub(super) struct Find<'a> {
    pub table: &'a Table,
    pub keys: &'a [Key],
    pub columns: &'a [Columns],
    pub times: &'a [Now],
    pub keyless: u64,
    pub count: usize,
    pub probes: &'a mut Probes,
}

impl Kernel for Find<'_> {
    type Output = ();

    #[inline(always)]
    fn call<W: Wide>(self, wide: W) {
        let Find { table, keys, columns, times, keyless, count, probes } = self;
        let times: &[u64] = bytemuck::cast_slice(times);
        let (times, mut latest, mut late) = (times.as_chunks::<LANES>().0, 0, 0);
        let ((buckets, seed), entries) = (table.hashing(), table.entries());
        let (mut lows, mut keyed, mut unsure, mut news, mut turning) = (0u64, 0u64, 0u64, 0u64, 0u64);
        // Packets whose addresses have a part beyond.
        let mut longer = 0u64;
        // By packet: its home bucket and its tag.
        let (mut homes, mut tags) = ([[0; LANES]; GROUPS], [[0; LANES]; GROUPS]);
        let groups = probes.ends.iter_mut().zip(probes.hashes.as_chunks_mut().0).zip(columns);
        for (g, (((ends, hashed), columns), (homes, tags))) in groups.zip(homes.iter_mut().zip(&mut tags)).enumerate() {
            let first = g * LANES;
            let Some(left) = count.checked_sub(first).filter(|&left| left > 0) else { break };
            let here = ((1u32 << left.min(LANES)) - 1) as u16;
            if let Some(times) = times.get(g) {
                late |= u16::from(times[0] < latest) | !wide.ascending(times) & here;
                latest = times[LANES - 1];
            }
            let keyless = (keyless >> first) as u16;
            let (is_low, is_plain, turns) = fill(wide, columns, ends);
            turning |= u64::from(turns) << first;
            let Ends { low, high, ports, kind } = *ends;
            let columns = [wide.load(&low), wide.load(&high), wide.load(&ports), wide.load(&kind)];
            let halves = hashes(wide, seed, columns);
            *hashed = wide.in_turn(halves);
            (*homes, *tags) = (wide.store(buckets.homes(wide, halves)), wide.store(buckets.tags(wide, halves)));
            lows |= u64::from(is_low) << first;
            keyed |= u64::from(is_plain & here & !keyless) << first;
            let mut others = here & !is_plain & !keyless;
            while others != 0 {
                let lane = others.trailing_zeros() as usize % LANES;
                let at = (first + lane) % BATCH;
                if let Some((flow_key, is_low)) = keys.get(at).and_then(flow_of) {
                    ends.set(lane, &flow_key);
                    hashed[lane] = flow_key.hash(seed);
                    (homes[lane], tags[lane]) = buckets.place(hashed[lane]);
                    keyed |= 1 << at;
                    longer |= u64::from(flow_key.is_v6()) << at;
                    lows = lows & !(1 << at) | u64::from(is_low) << at;
                }
                others &= others - 1;
            }
            for &home in homes.iter().take(left) {
                buckets.prefetch_at(home);
            }
        }
        // The words of the buckets first, then the slots.
        for (g, (words, (homes, tags))) in probes.slots.iter_mut().zip(homes.iter().zip(&mut tags)).enumerate() {
            let first = g * LANES;
            let Some(left) = count.checked_sub(first).filter(|&left| left > 0) else { break };
            let here = left.min(LANES);
            // The fewer instructions, the more buckets are waited for together. What is left of a tag is whether others have it.
            for (word, (&home, tag)) in words[..here].iter_mut().zip(homes[..here].iter().zip(&mut tags[..here])) {
                (*word, *tag) = buckets.first_at(wide, home, *tag);
                if let Some(entry) = entries.get(buckets.slot(*word) as usize) {
                    prefetch(entry);
                }
            }
            let mut longer = (longer >> first) as u16;
            while longer != 0 {
                let lane = longer.trailing_zeros() as usize % LANES;
                table.fetch(buckets.slot(words[lane]), true);
                longer &= longer - 1;
            }
            words.iter_mut().skip(left).for_each(|word| *word = 0);
        }
        // Nobody at home has the tag, but somebody lives elsewhere: mostly in the next bucket.
        let mut astray = 0;
        for (g, (words, others)) in probes.slots.iter().zip(&tags).enumerate().take(count.div_ceil(LANES)) {
            let (words, others) = (wide.load(words), wide.load(others));
            let is_count = wide.without(wide.has(words, u32::MAX), wide.has(words, buckets.tags));
            astray |= u64::from(wide.bits(is_count)) << (g * LANES);
            unsure |= u64::from(wide.bits(wide.has(others, u32::MAX))) << (g * LANES);
        }
        let (homes, words) = (homes.as_flattened(), probes.slots.as_flattened_mut());
        let mut left = astray;
        while left != 0 {
            buckets.prefetch_at(buckets.next(homes[left.trailing_zeros() as usize % BATCH]));
            left &= left - 1;
        }
        while astray != 0 {
            let at = astray.trailing_zeros() as usize % BATCH;
            let (home, tag) = buckets.place(probes.hashes[at]);
            let (word, others) = buckets.first_at(wide, buckets.next(home), tag);
            words[at] = word;
            unsure |= u64::from(others != 0) << at;
            table.fetch(buckets.slot(words[at]), longer >> at & 1 == 1);
            astray &= astray - 1;
        }
        for (g, words) in probes.slots.iter_mut().enumerate().take(count.div_ceil(LANES)) {
            let (first, found) = (g * LANES, wide.load(words));
            let (is_some, is_tag) = (wide.has(found, u32::MAX), wide.has(found, buckets.tags));
            let keyed = wide.mask((keyed >> first) as u16);
            unsure |= u64::from(wide.bits(wide.without(is_some, is_tag))) << first;
            news |= u64::from(wide.bits(wide.without(keyed, is_some))) << first;
            let found = wide.select(wide.both(is_tag, keyed), wide.only(found, !buckets.tags), wide.splat(NIL));
            *words = wide.store(found);
        }
        unsure &= keyed;
        let slots = probes.slots.as_flattened_mut();
        let mut left = unsure;
        while left != 0 {
            let at = left.trailing_zeros() as usize % BATCH;
            buckets.fetch_all(probes.hashes[at], |slot| table.fetch(slot, longer >> at & 1 == 1));
            left &= left - 1;
        }
        // What addresses have beyond is compared here alone.
        unsure |= longer & !news;
        while unsure != 0 {
            let at = unsure.trailing_zeros() as usize % BATCH;
            if let Some((own, _)) = keys.get(at).and_then(flow_of)
                && !table.holds(slots[at], &own)
            {
                slots[at] = table.find_by_hash(&own, probes.hashes[at]).unwrap_or(NIL);
                news |= u64::from(slots[at] == NIL) << at;
            }
            unsure &= unsure - 1;
        }
        (probes.lows, probes.keyed, probes.news, probes.steady) = (lows, keyed, news, keyed & !news & !turning);
        probes.is_in_time = late == 0 && count <= LANES * times.len();
    }
}

/// Compares the keys of packets with those of the flows in their slots, and tells which have others.
pub(super) struct Compare<'a> {
    pub entries: &'a [Entry],
    pub ends: &'a [Ends; GROUPS],
    pub slots: &'a [[u32; LANES]; GROUPS],
    pub count: usize,
}

impl Kernel for Compare<'_> {
    type Output = u64;

    #[inline(always)]
    fn call<W: Wide>(self, wide: W) -> u64 {
        let Compare { entries, ends, slots, count } = self;
        let (empty, mut differing) = (Entry::zeroed(), 0);
        for (g, (slots, ends)) in slots.iter().zip(ends).enumerate().take(count.div_ceil(LANES)) {
            let mut found = [&empty; LANES];
            for (found, &slot) in found.iter_mut().zip(slots) {
                if let Some(entry) = entries.get(slot as usize) {
                    *found = entry;
                }
            }
            let key = wide.columns_of_four(|i| *found[i].key());
            // An empty entry does nothing, and is nobody's.
            let is_it = wide.both(ends.are(wide, key), wide.has(key[3], 0xf << 16));
            let is_fine = wide.either(is_it, wide.is(wide.load(slots), NIL));
            differing |= u64::from(!wide.bits(is_fine)) << (g * LANES);
        }
        differing & u64::MAX >> (BATCH - count.clamp(1, BATCH))
    }
}

/// Lanes whose flags are those of a segment that is nothing but an ACK.
#[inline(always)]
fn is_ack<W: Wide>(wide: W, facts: W::Words) -> W::Mask {
    wide.is(wide.only(facts, u32::from(ACK_OR_NOT) << 8), u32::from(flag::ACK) << 8)
}

/// Writes the keys of TCP and UDP packets over IPv4. Returns the lanes whose sender is the lower end, those that are such packets, and
/// those of any kind that do not keep the state of their flow, by their flags.
#[inline(always)]
fn fill<W: Wide>(wide: W, columns: &Columns, ends: &mut Ends) -> (u16, u16, u16) {
    let Columns { src, dst, ports, facts, .. } = columns;
    let (src, dst, ports, facts) = (wide.load(src), wide.load(dst), wide.load(ports), wide.load(facts));
    let number = wide.only(facts, 0xff);
    let is_tcp = wide.is(number, TCP);
    let is_either = wide.either(is_tcp, wide.is(number, UDP));
    let is_plain = wide.without(is_either, wide.has(facts, KeyBits::in_word(APART | KeyBits::V6)));
    let is_port_low = wide.at_most(wide.only(ports, 0xffff), wide.down::<16>(ports));
    let is_low = wide.either(wide.below(src, dst), wide.both(wide.equal(src, dst), is_port_low));
    *ends = Ends {
        low: wide.store(wide.select(is_low, src, dst)),
        high: wide.store(wide.select(is_low, dst, src)),
        ports: wide.store(wide.select(is_low, wide.exchange(ports), ports)),
        kind: wide.store(number),
    };
    (wide.bits(is_low), wide.bits(is_plain), wide.bits(wide.without(is_tcp, is_ack(wide, facts))))
}

/// Lets packets pass that keep the state of their flow: those of `lanes` whose flow no earlier one of them has.
pub(super) struct Pass<'a> {
    pub entries: &'a mut [Entry],
    pub timeouts: &'a [u64; 16],
    pub ends: &'a Ends,
    /// The flow of a packet, if it has one, is in this slot. Flows over IPv6 were in theirs once.
    pub slots: &'a [u32; LANES],
    /// Lanes whose sender is the lower end.
    pub lows: u16,
    pub columns: &'a Columns,
    /// Never before those of earlier packets.
    pub times: &'a [Now; LANES],
    /// Below 2^28 bytes each.
    pub lengths: &'a [u32; LANES],
    pub lanes: u16,
    /// Fewer packets are left to be passed one by one.
    pub least: u32,
    pub epoch: u16,
    /// Flows allowed last in an earlier epoch do not pass.
    pub limit: u16,
    /// Only packets pass that the stateless layers were seen to let pass.
    pub needs_memory: bool,
    /// Whether the flows over IPv6 are in their slots still.
    pub is_fresh: bool,
}

/// Slots of packets that are not asked about: no other lane has them.
const NOBODY: [u32; LANES] = {
    let (mut slots, mut lane) = ([NIL; LANES], 0);
    while lane < LANES {
        slots[lane] -= lane as u32;
        lane += 1;
    }
    slots
};

impl Kernel for Pass<'_> {
    /// Lanes that have passed, and their packets and bytes by direction.
    type Output = (u16, [Tally; 2]);

    #[inline(always)]
    fn call<W: Wide>(self, wide: W) -> Self::Output {
        let Pass { entries, timeouts, ends, slots, columns, times, lengths, lanes, .. } = self;
        let nobody = (0, [Tally::default(); 2]);
        let asked = wide.mask(lanes);
        let slots = wide.select(asked, wide.load(slots), wide.load(&NOBODY));
        let lanes = lanes & !wide.repeats(lanes, slots);
        if lanes.count_ones() < self.least {
            return nobody;
        }

        let slots = &wide.store(wide.keep(asked, slots));
        let Some(first) = entries.first() else { return nobody };
        let mut entry = [first; LANES];
        for (entry, &slot) in entry.iter_mut().zip(slots) {
            // A branch that is never taken costs less than a choice.
            let Some(found) = entries.get(slot as usize) else { return nobody };
            *entry = found;
        }
        let half = |i: usize, which: usize| -> [u32; 8] {
            let halves: &[[u32; 8]; 2] = bytemuck::cast_ref(entry[i]);
            halves[which]
        };
        let low = wide.columns_of_eight(|i| half(i, 0));
        let high = wide.columns_of_eight(|i| half(i, 1));
        let [last_low, last_high, ends_high, ends_low, ports, state, end_0, limit_0] = low;
        let [win_0, end_1, limit_1, win_1, bytes, a, b, c] = high;
        let Columns { facts, seq, ack, rest, .. } = columns;
        let (facts, seq, ack, rest) = (wide.load(facts), wide.load(seq), wide.load(ack), wide.load(rest));

        let doing = wide.only(wide.down::<16>(state), 0xf);
        let lows = wide.mask(self.lows);
        let is_responder = wide.differ(lows, wide.has(state, u32::from(LOW_INITIATOR) << 8));
        let is_tcp = wide.is(wide.only(facts, 0xff), TCP);
        let is_ack = is_ack(wide, facts);
        let keeps = wide.select(is_tcp, wide.keep(is_ack, wide.splat(ACK_KEEPS)), wide.splat(OTHERS_KEEP));
        let is_kept = wide.has(wide.down_by(keeps, wide.add_where(is_responder, doing, 16)), 1);

        let [now_low, now_high] = wide.split(bytemuck::cast_ref(times));
        let [timeout_low, timeout_high] = wide.split(timeouts);
        let (timeout_low, timeout_high) = (wide.look_up(timeout_low, doing), wide.look_up(timeout_high, doing));
        let age_low = wide.subtract(now_low, last_low);
        let borrows = wide.below(now_low, last_low);
        let age_high = wide.add_where(borrows, wide.subtract(now_high, last_high), u32::MAX);
        let is_live = wide.either(
            wide.below(age_high, timeout_high),
            wide.both(wide.equal(age_high, timeout_high), wide.below(age_low, timeout_low)),
        );

        let epochs = wide.down::<16>(c);
        let is_outbound = wide.has(facts, KeyBits::in_word(KeyBits::OUTBOUND));
        let is_current = wide.at_most(wide.splat(u32::from(self.limit)), epochs);
        let mut is_allowed = wide.without(is_current, wide.has(state, u32::from(GROUPS_ONLY) << 8));
        if self.needs_memory {
            let which = wide.add_where(is_outbound, wide.keep(lows, wide.splat(2)), 1);
            let bit = wide.up_by(wide.splat(0x10 << 16), which);
            let is_known = wide.has(wide.and(state, bit), u32::MAX);
            is_allowed = wide.both(is_allowed, wide.both(is_known, wide.is(epochs, u32::from(self.epoch))));
        }
        // The flow in the slot is the packet's own.
        if !self.is_fresh && lanes & wide.bits(wide.has(wide.load(&ends.kind), u32::from(IS_V6) << 8)) != 0 {
            // What IPv6 addresses have beyond is not compared here.
            return nobody;
        }
        is_allowed = wide.both(is_allowed, ends.are(wide, [ends_high, ends_low, ports, state]));

        // As `tcp::advance`, by sides.
        let sides = BySide { wide, is_responder };
        let shift = wide.only(sides.select(c, wide.down::<8>(c)), 0xff);
        let window = wide.up_by(wide.only(rest, 0xffff), shift);
        let end = wide.add(seq, wide.down::<16>(rest));
        let (s_end, p_end) = (sides.select(end_0, end_1), sides.select(end_1, end_0));
        let (s_limit, p_limit) = (sides.select(limit_0, limit_1), sides.select(limit_1, limit_0));
        let (s_win, p_win) = (sides.select(win_0, win_1), sides.select(win_1, win_0));
        let has_peer = wide.has(p_win, u32::MAX);
        let lag = wide.max(s_win, wide.splat(MAX_ACK_LAG));
        let is_early = wide.both(has_peer, wide.is_negative(wide.add(wide.subtract(end, s_end), p_win)));
        let is_beyond = wide.either(wide.is_negative(wide.subtract(s_limit, seq)), is_early);
        let is_stray = wide.either(
            wide.is_negative(wide.subtract(p_end, ack)),
            wide.is_negative(wide.add(wide.subtract(ack, p_end), lag)),
        );
        let is_outside = wide.either(wide.either(is_beyond, is_stray), wide.is(s_win, 0));
        let is_unknown = wide
            .either(wide.has(state, u32::from(PICKED_UP) << 8), wide.has(facts, KeyBits::in_word(KeyBits::NO_WINDOW)));
        let is_checked = wide.without(is_tcp, is_unknown);
        let is_ok = wide.without(wide.both(wide.both(is_kept, is_live), is_allowed), wide.both(is_outside, is_checked));
        let lanes = lanes & wide.bits(is_ok);
        if lanes == 0 {
            return nobody;
        }

        let moves = wide.without(is_checked, is_outside);
        let allowed = wide.add(ack, window);
        let new_limit = wide.add_where(wide.is(window, 0), allowed, 1);
        let new_end = wide.select(wide.both(moves, is_before(wide, s_end, end)), end, s_end);
        let new_win = wide.select(moves, wide.max(window, s_win), s_win);
        let is_beyond = wide.both(moves, is_before(wide, wide.subtract(p_limit, wide.splat(1)), allowed));
        let new_limit = wide.select(is_beyond, new_limit, p_limit);
        let is_more = wide.both(wide.both(moves, has_peer), is_before(wide, s_limit, end));
        let peer_win = wide.select(is_more, wide.add(p_win, wide.subtract(end, s_limit)), p_win);
        let sizes = wide.load(lengths);
        let total = wide.add(bytes, sizes);
        let carries = wide.below(total, sizes);
        let is_full = wide.is(b, u32::MAX);
        let low = [
            now_low,
            now_high,
            ends_high,
            ends_low,
            ports,
            state,
            sides.select(new_end, end_0),
            sides.select(limit_0, new_limit),
        ];
        let high = [
            sides.select(new_win, peer_win),
            sides.select(end_1, new_end),
            sides.select(new_limit, limit_1),
            sides.select(peer_win, new_win),
            total,
            wide.add_where(carries, a, 1),
            wide.select(is_full, b, wide.add(b, wide.splat(1))),
            c,
        ];
        let written = wide.rows_of_sixteen([low, high]);
        for (lane, words) in written.iter().enumerate() {
            if lanes >> lane & 1 == 1
                && let Some(entry) = entries.get_mut(slots[lane] as usize)
            {
                *entry = bytemuck::cast(wide.store(*words));
            }
        }

        let mut tallies = [Tally::default(); 2];
        let out = wide.bits(is_outbound);
        for (direction, lanes) in [(Direction::Inbound, lanes & !out), (Direction::Outbound, lanes & out)] {
            let bytes = u64::from(wide.sum(wide.mask(lanes), sizes));
            tallies[direction as usize] = Tally { packets: u64::from(lanes.count_ones()), bytes };
        }
        (lanes, tallies)
    }
}

/// What belongs to an end, by which end sent a packet.
#[derive(Clone, Copy)]
struct BySide<W: Wide> {
    wide: W,
    /// Lanes whose sender is not the initiator.
    is_responder: W::Mask,
}

impl<W: Wide> BySide<W> {
    #[inline(always)]
    fn select(self, initiator: W::Words, responder: W::Words) -> W::Words {
        self.wide.select(self.is_responder, responder, initiator)
    }
}

/// Sequence numbers that lie before others.
#[inline(always)]
fn is_before<W: Wide>(wide: W, a: W::Words, b: W::Words) -> W::Mask {
    wide.is_negative(wide.subtract(a, b))
}

#[cfg(test)]
mod tests;
