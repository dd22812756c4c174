//! A flow in, the 64 bytes that the table keeps of it out, and back.

use bytemuck::{Pod, Zeroable};

use super::key::{Beyond, FlowKey, IS_V6, LOW_ASKS};
use super::state::State;
use super::tcp::{Side, Window, Windows};
use crate::base::address::Direction;
use crate::base::time::Now;
use crate::packet::Key;

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who talks to whom.
    pub key: FlowKey,
    /// When its timer started last.
    pub last: Now,
    /// TCP windows.
    pub windows: Windows,
    /// Bytes of the packets counted below, on the wire, without frame check sequence; a half-open flow counts up to 2^32 - 1.
    pub bytes: u64,
    /// Packets that passed as part of it, the first included; stays at its maximum, which is 65,535 for a half-open flow. ICMP
    /// errors about it are not among them.
    pub packets: u32,
    /// When it was allowed last, in programs adopted by its worker (GW-23).
    pub epoch: u16,
    /// What it is doing.
    pub state: State,
    /// The initiator is the lower end of the key.
    pub is_low_initiator: bool,
    /// Picked up in mid-stream: no window check.
    pub is_picked_up: bool,
    /// Only the groups remember it (GW-12).
    pub is_groups_only: bool,
}

impl Flow {
    /// Counts one packet of it.
    #[inline]
    pub fn count(&mut self, bytes: u32) {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::from(bytes));
    }

    /// The end that sent the first packet, and the other one: address and port.
    pub fn initiator_and_responder(&self) -> [(u128, u16); 2] {
        let [low, high] = self.key.ends();
        if self.is_low_initiator { [low, high] } else { [high, low] }
    }

    /// Which end sent a packet whose sender is the lower end (or not).
    #[inline]
    pub fn side(&self, is_low: bool) -> Side {
        if is_low == self.is_low_initiator { Side::Initiator } else { Side::Responder }
    }
}

/// A flow as the table keeps it: one cache line. IPv6 addresses have a part that lies elsewhere ([`Beyond`]).
///
/// ```text
///  0        8        16    20  21  22  23  24              48     52     56     60      62     64
///  | last   | ends   |ports|pro|bit|doi|sca| windows 2 x 3 |bytes | a    | b    | c    |epoch |
/// ```
/// `a` and `b` are the upper half of the bytes and the packets, and `c` by how much the windows that each side announces are shifted,
/// eight bits each. While the flow is half-open, `a` and `b` are its neighbours in the list of half-open flows, and `c` the packets.
/// All zero is an empty slot.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Entry {
    last: u64,
    ends: u64,
    ports: u32,
    protocol: u8,
    bits: u8,
    /// Lower half: 0 = empty, else state + 1. Upper half: see [`Entry::remember`].
    doing: u8,
    /// Window scale by side, four bits each.
    scales: u8,
    windows: [[u32; 3]; 2],
    bytes: u32,
    a: u32,
    b: u32,
    c: u16,
    epoch: u16,
}

const _: () = assert!(size_of::<Entry>() == 64, "an entry is one cache line");

pub(super) const LOW_INITIATOR: u8 = 4;
pub(super) const PICKED_UP: u8 = 8;
pub(super) const GROUPS_ONLY: u8 = 16;
pub(super) const KEY_BITS: u8 = IS_V6 | LOW_ASKS;

/// Four bits of a window scale; 15 stands for none.
const fn scale_bits(scale: u8) -> u8 {
    if scale < 15 { scale } else { 15 }
}

const fn scale(bits: u8) -> u8 {
    if bits < 15 { bits } else { Key::NO_SCALE }
}

impl Entry {
    /// Becomes the entry of a flow, whatever it was before. Links of a half-open one are not set. In its place: an entry that is put
    /// together elsewhere and moved as a whole is waited for.
    #[inline(always)]
    pub fn begin(&mut self, flow: &Flow) {
        *self = Entry::zeroed();
        (self.ends, self.ports) = (flow.key.ends, flow.key.ports);
        [self.protocol, self.bits] = flow.key.kind.to_le_bytes();
        self.write(flow);
    }

    /// Takes over everything but the key. Links and what was remembered stay unless the flow stops or begins to be half-open.
    #[inline]
    pub fn write(&mut self, flow: &Flow) {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        self.last = flow.last.0;
        self.bits = self.bits & KEY_BITS
            | flag(flow.is_low_initiator, LOW_INITIATOR)
            | flag(flow.is_picked_up, PICKED_UP)
            | flag(flow.is_groups_only, GROUPS_ONLY);
        self.doing = self.doing & 0xf0 | (flow.state.index() as u8 + 1);
        self.set_windows(&flow.windows);
        if flow.state.is_half_open() {
            self.bytes = u32::try_from(flow.bytes).unwrap_or(u32::MAX);
            self.c = u16::try_from(flow.packets).unwrap_or(u16::MAX);
        } else {
            (self.bytes, self.a, self.b) = (flow.bytes as u32, (flow.bytes >> 32) as u32, flow.packets);
            let [first, second] = [Side::Initiator, Side::Responder].map(|side| flow.windows.shift(side) as u16);
            self.c = first | second << 8;
        }
        self.epoch = flow.epoch;
    }

    /// The flow, given what its addresses have beyond 32 bits; `None` for an empty slot.
    #[inline(always)]
    pub fn flow(&self, beyond: impl FnOnce() -> Beyond) -> Option<Flow> {
        let state = self.state()?;
        let [first, second] = self.windows.map(|[end, limit, win]| Window { end, limit, win });
        let (bytes, packets) = if state.is_half_open() {
            (u64::from(self.bytes), u32::from(self.c))
        } else {
            (u64::from(self.a) << 32 | u64::from(self.bytes), self.b)
        };
        Some(Flow {
            key: FlowKey {
                ends: self.ends,
                ports: self.ports,
                kind: self.kind(),
                beyond: if self.bits & IS_V6 != 0 { beyond() } else { [0; 3] },
            },
            last: Now(self.last),
            windows: Windows { ends: [first, second], scales: [scale(self.scales & 15), scale(self.scales >> 4)] },
            bytes,
            packets,
            epoch: self.epoch,
            state,
            is_low_initiator: self.bits & LOW_INITIATOR != 0,
            is_picked_up: self.picked_up() != 0,
            is_groups_only: self.is_groups_only(),
        })
    }

    #[inline]
    fn kind(&self) -> u16 {
        u16::from(self.protocol) | u16::from(self.bits & KEY_BITS) << 8
    }

    /// Whether it holds a flow with this key, as far as 64 bits of the addresses tell; all of an IPv4 key.
    #[inline]
    pub fn resembles(&self, key: &FlowKey) -> bool {
        let is_same = (self.ends == key.ends) & (self.ports == key.ports) & (self.kind() == key.kind);
        is_same & !self.is_empty()
    }

    /// The four words that hold the key, as far as it lies here: the higher and the lower address, the ports, and the protocol with
    /// other things.
    #[inline(always)]
    pub fn key(&self) -> &[u32; 4] {
        let words: &[u32; 16] = bytemuck::cast_ref(self);
        let [_, _, key @ .., _, _, _, _, _, _, _, _, _, _] = words;
        key
    }

    /// The same for an IPv4 key and the low bits of an IPv6 key, by [`FlowKey::ends`] and [`FlowKey::rest`].
    #[inline(always)]
    pub fn is_of(&self, ends: u64, rest: u64) -> bool {
        const REST: u64 = (KEY_BITS as u64) << 40 | 0xff_ffff_ffff;
        let words: &[u64; 8] = bytemuck::cast_ref(self);
        (words[1] == ends) & (words[2] & REST == rest) & !self.is_empty()
    }

    /// Whether the addresses are IPv6.
    #[inline]
    pub fn is_v6(&self) -> bool {
        (self.kind() >> 8) as u8 & IS_V6 != 0
    }

    /// Whether no flow is held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.doing & 0x0f == 0
    }

    /// What the flow is doing.
    #[inline]
    pub fn state(&self) -> Option<State> {
        State::ALL.get(usize::from(self.doing & 0x0f).wrapping_sub(1)).copied()
    }

    /// Position of the state in [`State::ALL`] plus one; 0 for an empty slot. At most 15.
    #[inline]
    pub fn doing(&self) -> usize {
        usize::from(self.doing & 0x0f)
    }

    /// When the timer started last.
    #[inline]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// When it was allowed last.
    #[inline]
    pub fn epoch(&self) -> u16 {
        self.epoch
    }

    /// Notes that it was allowed now. What was remembered of an earlier program is forgotten.
    #[inline]
    pub fn set_epoch(&mut self, epoch: u16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.doing &= 0x0f;
        }
    }

    /// Which end sent a packet whose sender is the lower end (or not).
    #[inline]
    pub fn side(&self, is_low: bool) -> Side {
        if is_low == (self.bits & LOW_INITIATOR != 0) { Side::Initiator } else { Side::Responder }
    }

    /// Picked up in mid-stream: not 0.
    #[inline]
    pub fn picked_up(&self) -> u8 {
        self.bits & PICKED_UP
    }

    /// Only the groups remember it.
    #[inline]
    pub fn is_groups_only(&self) -> bool {
        self.bits & GROUPS_ONLY != 0
    }

    /// By how much the windows that an end announces are shifted; of a flow that is not half-open.
    #[inline]
    pub fn shift(&self, side: Side) -> u32 {
        u32::from(self.c >> (side as usize * 8)) & 0xff
    }

    /// The window record for [`super::tcp::advance`].
    #[inline]
    pub fn windows_mut(&mut self) -> &mut [[u32; 3]; 2] {
        &mut self.windows
    }

    #[inline]
    fn set_windows(&mut self, windows: &Windows) {
        self.windows = windows.ends.map(|window| [window.end, window.limit, window.win]);
        self.scales = scale_bits(windows.scales[0]) | scale_bits(windows.scales[1]) << 4;
    }

    /// Counts a packet of a flow that is not half-open, and starts its timer again. `now` is not before the moment of the last
    /// packet. Bytes do not wrap in the time that machines exist.
    #[inline]
    pub fn refresh(&mut self, now: Now, bytes: u32) {
        self.last = now.0;
        let total = (u64::from(self.a) << 32 | u64::from(self.bytes)).wrapping_add(u64::from(bytes));
        (self.bytes, self.a) = (total as u32, (total >> 32) as u32);
        self.b = self.b.saturating_add(1);
    }

    /// The bit for packets of an end received from a direction.
    #[inline]
    const fn remembered(is_low: bool, direction: Direction) -> u8 {
        0x10 << (is_low as u8 * 2 + direction as u8)
    }

    /// Notes that the stateless layers of the program of this epoch let pass what this end sends, received from this direction.
    #[inline]
    pub fn remember(&mut self, is_low: bool, direction: Direction, epoch: u16) {
        self.set_epoch(epoch);
        self.doing |= Entry::remembered(is_low, direction);
    }

    /// Whether that was noted in this epoch.
    #[inline]
    pub fn remembers(&self, is_low: bool, direction: Direction, epoch: u16) -> bool {
        self.doing & Entry::remembered(is_low, direction) != 0 && self.epoch == epoch
    }

    /// Neighbours in the list of half-open flows: the one used before and the one used after.
    #[inline]
    pub fn links(&mut self) -> (&mut u32, &mut u32) {
        (&mut self.a, &mut self.b)
    }

    /// Gives the epoch another number, the same in all.
    pub fn renumber(&mut self, epoch: u16) {
        self.epoch = epoch;
        self.doing &= 0x0f;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Tuple;

    #[test]
    fn an_entry_gives_back_the_flow_it_was_made_of() {
        for (i, state) in State::ALL.into_iter().enumerate() {
            for is_v6 in [0, 1] {
                let address = |n: u128| if is_v6 == 1 { n << 64 | n << 32 | n } else { n };
                let tuple = Tuple { src: address(9), dst: address(4), sport: 1, dport: 2, protocol: 6, is_v6 };
                let (key, is_low) = FlowKey::of(&tuple).unwrap();
                let window = |n| Window { end: n, limit: n + 1, win: n + 2 };
                let flow = Flow {
                    key,
                    last: Now(u64::MAX - 5),
                    windows: Windows { ends: [window(1), window(u32::MAX - 2)], scales: [14, Key::NO_SCALE] },
                    bytes: if state.is_half_open() { 77 } else { 77 << 32 | 5 },
                    packets: if state.is_half_open() { 3 } else { 100_000 },
                    epoch: 7,
                    state,
                    is_low_initiator: is_low,
                    is_picked_up: i % 2 == 0,
                    is_groups_only: i % 3 == 0,
                };
                let mut entry = Entry { doing: 0xff, a: 7, ..Entry::zeroed() };
                entry.begin(&flow);
                assert_eq!(entry.flow(|| key.beyond), Some(flow));
                assert!(entry.resembles(&key) && !Entry::zeroed().resembles(&key));
            }
        }
        assert_eq!(Entry::zeroed().flow(|| [0; 3]), None);
    }

    #[test]
    fn what_is_remembered_holds_for_one_end_one_direction_and_one_epoch() {
        let mut entry = Entry::zeroed();
        entry.remember(true, Direction::Outbound, 3);
        for (is_low, direction, epoch, expected) in [
            (true, Direction::Outbound, 3, true),
            (true, Direction::Inbound, 3, false),
            (false, Direction::Outbound, 3, false),
            (true, Direction::Outbound, 4, false),
        ] {
            assert_eq!(entry.remembers(is_low, direction, epoch), expected);
        }
        entry.remember(false, Direction::Inbound, 4);
        assert!(!entry.remembers(true, Direction::Outbound, 4), "another program, nothing known");
    }
}
