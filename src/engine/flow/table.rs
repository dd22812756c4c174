//! A flow key in, the slot of its entry out: a chained hash table of fixed size, with a timing wheel for expiry and a list of
//! half-open entries by last use. All memory is taken at construction.

use super::tcp::{Side, TcpState, Windows};
use crate::base::time::Now;
use crate::packet::Tuple;

/// No slot.
pub const NIL: u32 = u32::MAX;

/// One turn of the wheel is 16,384 ticks of 4.2 ms: 68 s. Entries that live longer are looked at once a turn.
const WHEEL_SLOTS: usize = 1 << 14;
const WHEEL_TICK: u64 = 1 << 22;
/// Empty ticks that one call with a budget may step over.
const TICKS_PER_CALL: usize = 1024;

/// Identifies a flow whichever way its packets go: the two ends ordered, ports included where the protocol has them.
///
/// For an ICMP echo the identifier stands in `low_port`, and `bits` tells which end asks, so that two hosts that ping each
/// other with one identifier have two flows (GW-27).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    low: [u64; 2],
    high: [u64; 2],
    low_port: u16,
    high_port: u16,
    protocol: u8,
    bits: u8,
}

const IS_V6: u8 = 1;
const LOW_ASKS: u8 = 2;

const fn halves(address: u128) -> [u64; 2] {
    [(address >> 64) as u64, address as u64]
}

const fn whole(halves: [u64; 2]) -> u128 {
    (halves[0] as u128) << 64 | halves[1] as u128
}

impl FlowKey {
    /// The key of a packet by its tuple, and whether its sender is the lower end. `None`: the packet belongs to no flow
    /// (ICMP other than echo).
    #[inline]
    pub fn of(tuple: &Tuple) -> Option<(FlowKey, bool)> {
        let is_v6 = tuple.is_v6 & IS_V6;
        let (from, to, mut bits) = match (tuple.protocol, is_v6, tuple.dport >> 8) {
            (6 | 17 | 132, _, _) => ((tuple.src, tuple.sport), (tuple.dst, tuple.dport), is_v6),
            (1, 0, kind) | (58, 1, kind) => {
                let (request, reply) = if is_v6 == 0 { (8, 0) } else { (128, 129) };
                if kind != request && kind != reply {
                    return None;
                }
                let low_asks = (tuple.src <= tuple.dst) == (kind == request) || tuple.src == tuple.dst;
                let bits = is_v6 | if low_asks { LOW_ASKS } else { 0 };
                ((tuple.src, tuple.sport), (tuple.dst, tuple.sport), bits)
            }
            _ => ((tuple.src, 0), (tuple.dst, 0), is_v6),
        };
        bits &= IS_V6 | LOW_ASKS;
        let is_low = from <= to;
        let (low, high) = if is_low { (from, to) } else { (to, from) };
        let key = FlowKey {
            low: halves(low.0),
            high: halves(high.0),
            low_port: low.1,
            high_port: high.1,
            protocol: tuple.protocol,
            bits,
        };
        Some((key, is_low))
    }

    /// Protocol number.
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The two ends, lower first: address and port.
    pub const fn ends(&self) -> [(u128, u16); 2] {
        [(whole(self.low), self.low_port), (whole(self.high), self.high_port)]
    }

    /// Whether the addresses are IPv6.
    pub const fn is_v6(&self) -> bool {
        self.bits & IS_V6 != 0
    }

    /// Keyed hash: the seed is random, so that nobody outside can aim at one chain.
    #[inline]
    pub fn hash(&self, seed: [u64; 2]) -> u64 {
        let ports = u64::from(self.low_port) << 32
            | u64::from(self.high_port) << 16
            | u64::from(self.protocol) << 8
            | u64::from(self.bits);
        let a = mix(self.low[0] ^ seed[0], self.low[1] ^ seed[1]);
        let b = mix(self.high[0] ^ seed[1] ^ a, self.high[1] ^ seed[0]);
        mix(a ^ ports ^ seed[0], b ^ seed[1])
    }
}

/// Multiplies to 128 bits and folds: every input bit reaches every output bit.
#[inline]
pub fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd1b5_4a32_d192_ed03);
    (product >> 64) as u64 ^ product as u64
}

/// What a flow is doing; each has its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// TCP.
    Tcp(TcpState),
    /// UDP, one way so far.
    Udp,
    /// UDP, both ways.
    UdpStream,
    /// ICMP echo.
    Icmp,
    /// Any other protocol.
    Other,
}

impl State {
    /// Every state, in the order of [`State::index`].
    pub const ALL: [State; 13] = [
        State::Tcp(TcpState::SynSent),
        State::Tcp(TcpState::SynSent2),
        State::Tcp(TcpState::SynRecv),
        State::Tcp(TcpState::Established),
        State::Tcp(TcpState::FinWait),
        State::Tcp(TcpState::CloseWait),
        State::Tcp(TcpState::LastAck),
        State::Tcp(TcpState::TimeWait),
        State::Tcp(TcpState::Close),
        State::Udp,
        State::UdpStream,
        State::Icmp,
        State::Other,
    ];

    /// Position in [`State::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        match self {
            State::Tcp(state) => state as usize,
            State::Udp => 9,
            State::UdpStream => 10,
            State::Icmp => 11,
            State::Other => 12,
        }
    }

    /// The name used in output and settings.
    pub const fn name(self) -> &'static str {
        [
            "syn-sent",
            "syn-sent-2",
            "syn-recv",
            "established",
            "fin-wait",
            "close-wait",
            "last-ack",
            "time-wait",
            "close",
            "udp",
            "udp-stream",
            "icmp",
            "other",
        ][self.index()]
    }

    /// Whether the half-open limit counts it.
    #[inline]
    pub const fn is_half_open(self) -> bool {
        matches!(self, State::Tcp(state) if state.is_half_open())
    }
}

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who talks to whom.
    pub key: FlowKey,
    /// When its timer started last.
    pub last: Now,
    /// TCP windows.
    pub windows: Windows,
    /// Bytes of the packets counted below, on the wire, without frame check sequence.
    pub bytes: u64,
    /// Packets that passed as part of it, the first included; stays at its maximum. ICMP errors about it are not among them.
    pub packets: u32,
    /// Generation of the program that allowed it.
    pub generation: u32,
    /// What it is doing.
    pub state: State,
    /// The initiator is the lower end of the key.
    pub is_low_initiator: bool,
    /// Picked up in mid-stream: no window check.
    pub is_picked_up: bool,
    /// Only the groups remember it (GW-12).
    pub is_groups_only: bool,
}

const _: () = assert!(size_of::<Option<Flow>>() == 96, "an entry is one and a half cache lines");

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

#[derive(Clone, Copy, Debug)]
struct Links {
    chain: u32,
    wheel_previous: u32,
    wheel_next: u32,
    wheel_slot: u32,
    open_previous: u32,
    open_next: u32,
}

const UNLINKED: Links =
    Links { chain: NIL, wheel_previous: NIL, wheel_next: NIL, wheel_slot: NIL, open_previous: NIL, open_next: NIL };

/// Seconds after which an entry of each state has expired, by [`State::index`].
pub type Timeouts = [u64; 13];

/// The table.
#[derive(Debug)]
pub struct Table {
    flows: Vec<Option<Flow>>,
    links: Vec<Links>,
    buckets: Vec<u32>,
    wheel: Vec<u32>,
    free: u32,
    used: usize,
    half_open: usize,
    /// Least and most recently used half-open entry.
    open_ends: [u32; 2],
    /// First tick of the wheel not wholly processed.
    tick: u64,
    /// No entry expires before this moment.
    due: Now,
    seed: [u64; 2],
    timeouts: Timeouts,
}

impl Table {
    /// A table for `capacity` flows (at least 1). `timeouts` in nanoseconds by state.
    pub fn new(capacity: usize, timeouts: Timeouts, seed: [u64; 2]) -> Table {
        let capacity = capacity.clamp(1, 1 << 28);
        let mut table = Table {
            flows: vec![None; capacity],
            links: vec![UNLINKED; capacity],
            buckets: vec![NIL; capacity.next_power_of_two()],
            wheel: vec![NIL; WHEEL_SLOTS],
            free: NIL,
            used: 0,
            half_open: 0,
            open_ends: [NIL; 2],
            tick: 0,
            due: Now(u64::MAX),
            seed,
            timeouts,
        };
        table.rebuild_free_list();
        table
    }

    fn rebuild_free_list(&mut self) {
        let last = self.links.len() as u32 - 1;
        for (i, links) in self.links.iter_mut().enumerate() {
            *links = Links { chain: if i as u32 == last { NIL } else { i as u32 + 1 }, ..UNLINKED };
        }
        self.free = 0;
    }

    /// Forgets every flow. Cost: proportional to the capacity; not for the packet line.
    pub fn clear(&mut self) {
        if self.used == 0 {
            return;
        }
        self.flows.fill(None);
        self.buckets.fill(NIL);
        self.wheel.fill(NIL);
        self.rebuild_free_list();
        (self.used, self.half_open, self.open_ends) = (0, 0, [NIL; 2]);
    }

    /// Live and not yet reclaimed entries.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Entries that are half-open.
    pub fn half_open(&self) -> usize {
        self.half_open
    }

    /// Most entries that fit.
    pub fn capacity(&self) -> usize {
        self.flows.len()
    }

    /// The flows that are held, expired but unreclaimed ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().flatten()
    }

    /// The flow in a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Flow> {
        self.flows.get(slot as usize).and_then(Option::as_ref)
    }

    #[inline]
    fn bucket(&self, key: &FlowKey) -> usize {
        key.hash(self.seed) as usize & (self.buckets.len() - 1)
    }

    #[inline]
    fn is_expired(&self, flow: &Flow, now: Now) -> bool {
        now.since(flow.last) >= self.timeouts[flow.state.index()]
    }

    /// The slot of a live flow (GW-26). Cost: one bucket, one entry per link of the chain.
    #[inline]
    pub fn find(&self, key: &FlowKey, now: Now) -> Option<u32> {
        let mut slot = *self.buckets.get(self.bucket(key))?;
        while let Some(flow) = self.get(slot) {
            if flow.key == *key {
                return if self.is_expired(flow, now) { None } else { Some(slot) };
            }
            slot = self.links.get(slot as usize)?.chain;
        }
        None
    }

    /// Puts a flow in, in the place of an expired one with its key if there is one. `None`: no room.
    pub fn insert(&mut self, flow: Flow) -> Option<u32> {
        if let Some(old) = self.find_any(&flow.key) {
            self.remove(old);
        }
        let slot = self.free;
        self.free = self.links.get(slot as usize)?.chain;
        let bucket = self.bucket(&flow.key);
        self.links[slot as usize] = Links { chain: self.buckets[bucket], ..UNLINKED };
        self.buckets[bucket] = slot;
        self.flows[slot as usize] = Some(flow);
        self.used += 1;
        if flow.state.is_half_open() {
            self.link_open(slot);
        }
        self.link_wheel(slot, &flow, self.tick);
        Some(slot)
    }

    fn find_any(&self, key: &FlowKey) -> Option<u32> {
        let mut slot = *self.buckets.get(self.bucket(key))?;
        while let Some(flow) = self.get(slot) {
            if flow.key == *key {
                return Some(slot);
            }
            slot = self.links.get(slot as usize)?.chain;
        }
        None
    }

    /// Changes a flow in its place; its key must stay. The timer and the half-open list follow.
    #[inline]
    pub fn update(&mut self, slot: u32, change: impl FnOnce(&mut Flow)) {
        let Some(Some(flow)) = self.flows.get_mut(slot as usize) else { return };
        let before = (flow.state, flow.last);
        change(flow);
        let after = *flow;
        if before == (after.state, after.last) {
            return;
        }
        if before.0.is_half_open() {
            self.unlink_open(slot);
        }
        if after.state.is_half_open() {
            self.link_open(slot);
        }
        // The wheel may find an entry too early and put it back, but never too late: a shorter timeout moves it now.
        let expiry = |(state, last): (State, Now)| last.0.saturating_add(self.timeouts[state.index()]);
        if expiry((after.state, after.last)) < expiry(before) {
            self.unlink_wheel(slot);
            self.link_wheel(slot, &after, self.tick);
        }
    }

    /// Takes a flow out.
    pub fn remove(&mut self, slot: u32) {
        let Some(flow) = self.flows.get_mut(slot as usize).and_then(Option::take) else { return };
        let bucket = self.bucket(&flow.key);
        let next = self.links[slot as usize].chain;
        if self.buckets[bucket] == slot {
            self.buckets[bucket] = next;
        } else {
            let mut at = self.buckets[bucket];
            while let Some(links) = self.links.get_mut(at as usize) {
                if links.chain == slot {
                    links.chain = next;
                    break;
                }
                at = links.chain;
            }
        }
        if flow.state.is_half_open() {
            self.unlink_open(slot);
        }
        self.unlink_wheel(slot);
        self.links[slot as usize] = Links { chain: self.free, ..UNLINKED };
        self.free = slot;
        self.used -= 1;
    }

    /// The least recently used half-open entry.
    pub fn oldest_half_open(&self) -> Option<u32> {
        (self.open_ends[0] != NIL).then_some(self.open_ends[0])
    }

    fn link_open(&mut self, slot: u32) {
        let newest = std::mem::replace(&mut self.open_ends[1], slot);
        self.links[slot as usize].open_previous = newest;
        self.links[slot as usize].open_next = NIL;
        match self.links.get_mut(newest as usize) {
            Some(links) => links.open_next = slot,
            None => self.open_ends[0] = slot,
        }
        self.half_open += 1;
    }

    fn unlink_open(&mut self, slot: u32) {
        let Links { open_previous, open_next, .. } = self.links[slot as usize];
        match self.links.get_mut(open_previous as usize) {
            Some(links) => links.open_next = open_next,
            None => self.open_ends[0] = open_next,
        }
        match self.links.get_mut(open_next as usize) {
            Some(links) => links.open_previous = open_previous,
            None => self.open_ends[1] = open_previous,
        }
        self.half_open -= 1;
    }

    #[inline]
    fn expiry(&self, flow: &Flow) -> u64 {
        flow.last.0.saturating_add(self.timeouts[flow.state.index()])
    }

    /// Puts an entry under the tick in which it can expire at the earliest, `first` or later; one beyond the wheel's reach
    /// under the last.
    fn link_wheel(&mut self, slot: u32, flow: &Flow, first: u64) {
        let expiry = self.expiry(flow);
        self.due = Now(self.due.0.min(expiry));
        let tick = (expiry / WHEEL_TICK).clamp(first, self.tick + WHEEL_SLOTS as u64 - 1);
        let at = tick as usize % WHEEL_SLOTS;
        let next = std::mem::replace(&mut self.wheel[at], slot);
        let links = &mut self.links[slot as usize];
        (links.wheel_previous, links.wheel_next, links.wheel_slot) = (NIL, next, at as u32);
        if let Some(links) = self.links.get_mut(next as usize) {
            links.wheel_previous = slot;
        }
    }

    fn unlink_wheel(&mut self, slot: u32) {
        let Links { wheel_previous, wheel_next, wheel_slot, .. } = self.links[slot as usize];
        match self.links.get_mut(wheel_previous as usize) {
            Some(links) => links.wheel_next = wheel_next,
            None => {
                if let Some(head) = self.wheel.get_mut(wheel_slot as usize) {
                    *head = wheel_next;
                }
            }
        }
        if let Some(links) = self.links.get_mut(wheel_next as usize) {
            links.wheel_previous = wheel_previous;
        }
    }

    /// Reclaims every entry that has expired; returns how many. Cost: nothing while none is due.
    pub fn expire_all(&mut self, now: Now) -> usize {
        if now < self.due { 0 } else { self.expire(now, usize::MAX) }
    }

    /// Reclaims entries that have expired, looking at no more than `budget` of them; returns how many were reclaimed.
    pub fn expire(&mut self, now: Now, mut budget: usize) -> usize {
        let today = now.0 / WHEEL_TICK;
        if self.used == 0 {
            self.tick = self.tick.max(today);
            return 0;
        }
        if now < self.due {
            return 0;
        }
        let mut ticks = if budget == usize::MAX { usize::MAX } else { TICKS_PER_CALL };
        let mut reclaimed = 0;
        let mut due = u64::MAX;
        // After a long silence one turn of the wheel sees every entry.
        self.tick = self.tick.max(today.saturating_sub(WHEEL_SLOTS as u64 - 1));
        loop {
            let mut slot = self.wheel[self.tick as usize % WHEEL_SLOTS];
            while budget > 0 && slot != NIL {
                let next = self.links[slot as usize].wheel_next;
                budget -= 1;
                if let Some(flow) = self.get(slot).copied() {
                    if self.is_expired(&flow, now) {
                        self.remove(slot);
                        reclaimed += 1;
                    } else if self.expiry(&flow) / WHEEL_TICK > self.tick {
                        self.unlink_wheel(slot);
                        self.link_wheel(slot, &flow, self.tick + 1);
                    } else {
                        due = due.min(self.expiry(&flow));
                    }
                }
                slot = next;
            }
            if slot != NIL || ticks == 0 {
                return reclaimed;
            }
            if self.tick >= today {
                break;
            }
            self.tick += 1;
            ticks -= 1;
        }
        // Everything up to today was seen: what is left of today, or else the first moment of the next tick.
        self.due = Now(due.min((today + 1) * WHEEL_TICK));
        reclaimed
    }
}

#[cfg(test)]
mod tests;
