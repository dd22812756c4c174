//! Sixteen packets of a burst in, the rows of their flows out; and rows with their packets in, the flows that go on out: what `burst`
//! does with one packet, with one lane for each.

use bytemuck::{Zeroable, cast};

use super::buckets::View;
use super::burst::{ACK_KEEPS, APART, OTHERS_KEEP, row_of};
use super::entry::{Entry, GROUPS_ONLY, KEY_BITS, LOW_INITIATOR, PICKED_UP};
use super::key::IS_V6;
use super::table::{NIL, Row, Table};
use super::tcp::{MAX_ACK_LAG, flag};
use crate::base::address::Direction;
use crate::base::time::Now;
use crate::base::wide::{Kernel, LANES, Wide, Words};
use crate::engine::counters::Tally;
use crate::packet::{Key, KeyBits};

const TCP: u32 = 6;
const UDP: u32 = 17;

/// Fills the rows of the first `count` keys and finds their slots. Slices have whole sixteens; bit i of `keyless` says that packet i
/// has no key. Returns the packets, one bit for each, whose sender is the lower end, and those that have no flow.
pub(super) struct Find<'a> {
    pub wide: Wide,
    pub table: &'a mut Table,
    pub keys: &'a [Key],
    pub keyless: u64,
    pub count: usize,
    pub rows: &'a mut [Row],
    pub slots: &'a mut [u32],
}

impl Kernel for Find<'_> {
    type Output = (u64, u64);

    #[inline(always)]
    fn call(self) -> (u64, u64) {
        let Find { wide, table, keys, keyless, count, rows, slots } = self;
        let mut lows = 0;
        for (g, (keys, rows)) in keys.as_chunks().0.iter().zip(rows.as_chunks_mut().0).enumerate() {
            let first = g * LANES;
            let Some(left) = count.checked_sub(first).filter(|&left| left > 0) else { break };
            let (is_low, is_done) = fill(wide, keys, rows);
            lows |= u64::from(is_low) << first;
            let keyless = (keyless >> first) as u16;
            let mut others = (!is_done | keyless) & ((1u32 << left.min(LANES)) - 1) as u16;
            while others != 0 {
                let lane = others.trailing_zeros() as usize % LANES;
                rows[lane] = row_of(&keys[lane], keyless >> lane & 1 == 0);
                lows = lows & !(1 << (first + lane)) | u64::from(rows[lane].is_low()) << (first + lane);
                others &= others - 1;
            }
            let (buckets, seed) = table.hashing();
            for row in rows.iter_mut().take(left) {
                row.hash = row.key().hash(seed);
                buckets.prefetch(row.hash);
            }
        }
        let rows = rows.get_mut(..count).unwrap_or_default();
        let (mut at, mut news) = (0, 0);
        let candidate = |buckets: &View<'_>, hash| buckets.candidate_at_once(wide, hash, NIL);
        table.locate_by(rows, candidate, |row| {
            if let Some(slot) = slots.get_mut(at) {
                *slot = row.slot;
            }
            news |= row.is_new() << at;
            at += 1;
        });
        (lows, news)
    }
}

/// Writes the rows of TCP and UDP packets over IPv4, without hash and slot. Returns the lanes whose sender is the lower end, and those
/// that are such packets.
#[inline(always)]
fn fill(wide: Wide, keys: &[Key; LANES], rows: &mut [Row; LANES]) -> (u16, u16) {
    let [src, dst, ports, facts] = wide.columns_at([0, 4, 8, 9], |i| cast(keys[i]));
    let number = wide.only(facts, 0xff);
    let is_done =
        (wide.is(number, TCP) | wide.is(number, UDP)) & !wide.has(facts, KeyBits::in_word(APART | KeyBits::V6));
    let is_port_low = wide.at_most(wide.only(ports, 0xffff), wide.down::<16>(ports));
    let is_low = wide.below(src, dst) | (wide.equal(src, dst) & is_port_low);
    let (low, high) = (wide.select(is_low, src, dst), wide.select(is_low, dst, src));
    let ports = wide.select(is_low, wide.exchange(ports), ports);
    let kind = wide.add_where(is_low, wide.or(number, wide.splat(1 << 24)), 1 << 16);
    let (zero, nil) = (wide.splat(0), wide.splat(NIL));
    let pairs = wide.rows_of_eight([high, low, ports, kind, zero, zero, nil, zero]);
    let order = |words: [u32; 8]| -> Words {
        let mut order = [0; LANES];
        order[..8].copy_from_slice(&words);
        cast(order)
    };
    for (pair, words) in pairs.into_iter().enumerate() {
        let at = pair / 4 * 8 + pair % 4;
        rows[at] = cast(wide.place(0xff, words, order(Wide::FIRST), zero));
        rows[at + 4] = cast(wide.place(0xff, words, order(Wide::SECOND), zero));
    }
    (is_low, is_done)
}

/// Lets packets pass that keep the state of their flow: of `lanes`, which follow each other, the first ones.
pub(super) struct Pass<'a> {
    pub wide: Wide,
    pub entries: &'a mut [Entry],
    pub timeouts: &'a [u64; 16],
    pub rows: &'a [Row; LANES],
    pub slots: &'a [u32; LANES],
    /// Lanes whose sender is the lower end.
    pub lows: u16,
    pub keys: &'a [Key; LANES],
    pub times: &'a [Now; LANES],
    /// Below 2^28 bytes each.
    pub lengths: &'a [u32; LANES],
    pub lanes: u16,
    /// The moment of the packet before.
    pub now: Now,
    pub epoch: u16,
    /// Flows allowed last in an earlier epoch do not pass.
    pub limit: u16,
    /// Only packets pass that the stateless layers were seen to let pass.
    pub needs_memory: bool,
    /// Whether the slots are right for sure.
    pub is_fresh: bool,
}

/// What [`Pass`] has done.
pub(super) struct Passed {
    /// Packets that have passed.
    pub count: usize,
    /// The packet behind them does not keep the state of its flow; otherwise nothing is known of it.
    pub is_refused: bool,
    /// By direction.
    pub tallies: [Tally; 2],
    /// The moment of the last that passed.
    pub now: Now,
}

/// Fewer packets are passed one by one.
const FEW: u32 = 4;

impl Kernel for Pass<'_> {
    type Output = Passed;

    #[inline(always)]
    fn call(self) -> Passed {
        let Pass { wide, entries, timeouts, rows, slots, keys, times, lengths, lanes, now, .. } = self;
        let nobody = Passed { count: 0, is_refused: false, tallies: [Tally::default(); 2], now };
        // A flow that comes twice, and a time that runs backwards, end the run; the next one begins there.
        let times = times.map(|time| time.0);
        let first = lanes.trailing_zeros() as usize % LANES;
        let is_late = !wide.ascending(times) & !(1 << first);
        let is_double = wide.has(wide.doubles(cast(*slots)), u32::from(lanes));
        let cut = lanes & (is_late | is_double);
        let whole = before(lanes, cut);
        if whole.count_ones() < FEW || times[first] < now.0 {
            return nobody;
        }

        let empty = Entry::zeroed();
        let mut entry = [&empty; LANES];
        for (entry, &slot) in entry.iter_mut().zip(slots) {
            if let Some(found) = entries.get(slot as usize) {
                *entry = found;
            }
        }
        let half = |i: usize, which: usize| -> [u8; 32] {
            let halves: &[[u8; 32]; 2] = bytemuck::cast_ref(entry[i]);
            halves[which]
        };
        let low = wide.columns_of_eight(|i| cast(half(i, 0)));
        let high = wide.columns_of_eight(|i| cast(half(i, 1)));
        let [last_low, last_high, ends_high, ends_low, ports, state, end_0, limit_0] = low;
        let [win_0, end_1, limit_1, win_1, bytes, a, b, c] = high;
        let [facts, seq, ack, rest] = wide.columns_at([9, 11, 12, 13], |i| cast(keys[i]));

        let doing = wide.only(wide.down::<16>(state), 0xf);
        let is_responder = self.lows ^ wide.has(state, u32::from(LOW_INITIATOR) << 8);
        let is_tcp = wide.is(wide.only(facts, 0xff), TCP);
        const FLAGS: u8 = flag::FIN | flag::SYN | flag::RST | flag::ACK;
        let is_ack = wide.is(wide.only(facts, (FLAGS as u32) << 8), u32::from(flag::ACK) << 8);
        let keeps = wide.select(is_tcp, wide.keep(is_ack, wide.splat(ACK_KEEPS)), wide.splat(OTHERS_KEEP));
        let is_kept = wide.has(wide.down_by(keeps, wide.add_where(is_responder, doing, 16)), 1);

        let [now_low, now_high] = wide.split(times);
        let [timeout_low, timeout_high] = wide.split(*timeouts);
        let (timeout_low, timeout_high) = (wide.look_up(timeout_low, doing), wide.look_up(timeout_high, doing));
        let age_low = wide.subtract(now_low, last_low);
        let borrows = wide.below(now_low, last_low);
        let age_high = wide.add_where(borrows, wide.subtract(now_high, last_high), u32::MAX);
        let is_live = wide.below(age_high, timeout_high)
            | (wide.equal(age_high, timeout_high) & wide.below(age_low, timeout_low));

        let epochs = wide.down::<16>(c);
        let is_outbound = wide.has(facts, KeyBits::in_word(KeyBits::OUTBOUND));
        let mut is_allowed =
            wide.at_most(wide.splat(u32::from(self.limit)), epochs) & !wide.has(state, u32::from(GROUPS_ONLY) << 8);
        if self.needs_memory {
            let which = wide.add_where(is_outbound, wide.keep(self.lows, wide.splat(2)), 1);
            let bit = wide.up_by(wide.splat(0x10 << 16), which);
            let is_known = wide.and(state, bit);
            is_allowed &= wide.has(is_known, u32::MAX) & wide.is(epochs, u32::from(self.epoch));
        }
        if !self.is_fresh {
            let [high, low, both, kind] = wide.columns_at([0, 1, 2, 3], |i| cast(rows[i]));
            let kinds = wide.only(state, 0xff | u32::from(KEY_BITS) << 8);
            if lanes & wide.has(kind, u32::from(IS_V6) << 8) != 0 {
                // What IPv6 addresses have beyond is not compared here.
                return nobody;
            }
            is_allowed &= wide.equal(high, ends_high)
                & wide.equal(low, ends_low)
                & wide.equal(both, ports)
                & wide.equal(wide.only(kind, 0xffff), kinds);
        }

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
        let is_outside = wide.is_negative(wide.subtract(s_limit, seq))
            | (has_peer & wide.is_negative(wide.add(wide.subtract(end, s_end), p_win)))
            | wide.is_negative(wide.subtract(p_end, ack))
            | wide.is_negative(wide.add(wide.subtract(ack, p_end), lag))
            | wide.is(s_win, 0);
        let is_unchecked = !is_tcp
            | wide.has(state, u32::from(PICKED_UP) << 8)
            | wide.has(facts, KeyBits::in_word(KeyBits::NO_WINDOW));
        let is_ok = is_kept & is_live & is_allowed & (!is_outside | is_unchecked);
        let run = before(lanes, cut | lanes & !is_ok);
        if run == 0 {
            return Passed { is_refused: true, ..nobody };
        }

        let moves = !is_outside & !is_unchecked;
        let allowed = wide.add(ack, window);
        let new_limit = wide.add_where(wide.is(window, 0), allowed, 1);
        let new_end = wide.select(moves & is_before(wide, s_end, end), end, s_end);
        let new_win = wide.select(moves, wide.max(window, s_win), s_win);
        let is_beyond = moves & is_before(wide, wide.subtract(p_limit, wide.splat(1)), allowed);
        let new_limit = wide.select(is_beyond, new_limit, p_limit);
        let is_more = moves & has_peer & is_before(wide, s_limit, end);
        let peer_win = wide.select(is_more, wide.add(p_win, wide.subtract(end, s_limit)), p_win);
        let sizes: Words = cast(*lengths);
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
            wide.add_where(!is_full, b, 1),
            c,
        ];
        let written = wide.rows_of_sixteen([low, high]);
        for (lane, words) in written.into_iter().enumerate() {
            if run >> lane & 1 == 1
                && let Some(entry) = entries.get_mut(slots[lane] as usize)
            {
                *entry = cast(words);
            }
        }

        let mut tallies = [Tally::default(); 2];
        for (direction, lanes) in [(Direction::Inbound, run & !is_outbound), (Direction::Outbound, run & is_outbound)] {
            let bytes = u64::from(wide.sum(lanes, sizes));
            tallies[direction as usize] = Tally { packets: u64::from(lanes.count_ones()), bytes };
        }
        let last = (LANES - 1).saturating_sub(run.leading_zeros() as usize);
        let end = lanes & !run;
        Passed {
            count: run.count_ones() as usize,
            is_refused: end & end.wrapping_neg() & !is_ok & !cut != 0,
            tallies,
            now: Now(times[last]),
        }
    }
}

/// What belongs to an end, by which end sent a packet.
#[derive(Clone, Copy)]
struct BySide {
    wide: Wide,
    /// Lanes whose sender is not the initiator.
    is_responder: u16,
}

impl BySide {
    #[inline(always)]
    fn select(self, initiator: Words, responder: Words) -> Words {
        self.wide.select(self.is_responder, responder, initiator)
    }
}

/// Sequence numbers that lie before others.
#[inline(always)]
fn is_before(wide: Wide, a: Words, b: Words) -> u16 {
    wide.is_negative(wide.subtract(a, b))
}

/// The lanes before the first of `stops`.
#[inline(always)]
fn before(lanes: u16, stops: u16) -> u16 {
    lanes & (stops & stops.wrapping_neg()).wrapping_sub(1)
}

#[cfg(test)]
mod tests;
