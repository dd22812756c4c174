//! A packet's key in, its standing towards the flows out; and after the verdict, the change it makes (GW-12, GW-24 to GW-27).
//!
//! A look-up changes nothing, so that a packet that any layer denies changes nothing (GW-10): [`Flows::look`] returns the
//! standing and a [`Plan`], and [`Flows::commit`] carries the plan out for an allowed packet.

mod buckets;
mod burst;
mod entry;
pub mod key;
mod sixteen;
mod state;
pub mod table;
pub mod tcp;
mod timers;

use crate::base::time::Now;
use crate::engine::decision::Reason;
use crate::engine::judge::{Standing, Track};
use crate::packet::{Key, KeyBits, Tuple};
pub use burst::{Packets, Probes};
use key::FlowKey;
use table::{Flow, State, Table, Timeouts};
use tcp::{Segment, Side, TcpState, Transition, Windows};

/// Sizes and times of the flow table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSettings {
    /// Most flows, 1 to 2^28.
    pub capacity: usize,
    /// Whether a mid-stream ACK may start a flow (GW-25).
    pub is_loose: bool,
    /// Timeouts in nanoseconds, by [`State::index`].
    pub timeouts: Timeouts,
}

impl Default for FlowSettings {
    /// GW-26 and `tcp-states.md` 5: 1,048,576 flows, loose.
    fn default() -> FlowSettings {
        let seconds = [120, 120, 60, 432_000, 120, 60, 30, 120, 10, 30, 120, 30, 600];
        FlowSettings { capacity: 1 << 20, is_loose: true, timeouts: seconds.map(|s: u64| s * 1_000_000_000) }
    }
}

/// What an allowed packet will change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plan {
    /// Nothing: no flow, related, invalid.
    Nothing,
    /// The flow in this slot counts the packet and keeps everything else: ignored.
    Count {
        /// Slot.
        slot: u32,
    },
    /// The flow in this slot takes a state and a window record, and its timer starts again.
    Update {
        /// Slot.
        slot: u32,
        /// Next state.
        state: State,
        /// Next window record.
        windows: Windows,
    },
    /// A new flow.
    Insert(Flow),
    /// A new flow in the place of a closed one.
    Replace {
        /// Slot of the closed one.
        slot: u32,
        /// The new one.
        flow: Flow,
    },
}

/// The standing of a packet and what it will change if allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// For the stages.
    pub standing: Standing,
    /// For [`Flows::commit`].
    pub plan: Plan,
    /// The flow must be judged again first (GW-23).
    pub again: Option<Again>,
}

/// A flow that the new program has not judged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// Slot.
    pub slot: u32,
    /// The end that sent this packet.
    pub side: Side,
}

/// What a SYN begins.
const SYN_SENT: Opening = Opening { state: State::Tcp(TcpState::SynSent), is_picked_up: false };

/// What a packet without a flow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// State of the new flow.
    state: State,
    /// It is picked up in mid-stream.
    is_picked_up: bool,
}

/// A packet that every layer has allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Whether and how to remember it.
    pub track: Track,
    /// When it came.
    pub now: Now,
    /// Bytes on the wire, without frame check sequence.
    pub bytes: u32,
}

/// The flows of one worker.
#[derive(Debug)]
pub struct Flows {
    table: Table,
    is_loose: bool,
    /// Programs adopted so far; begins anew where 16 bits end.
    epoch: u16,
    /// Flows allowed last in an earlier epoch are judged again.
    revalidate_before: u16,
}

impl Flows {
    /// An empty table. `seed` keys the hash.
    pub fn new(settings: &FlowSettings, seed: [u64; 2]) -> Flows {
        Flows {
            table: Table::new(settings.capacity, settings.timeouts, seed),
            is_loose: settings.is_loose,
            epoch: 1,
            revalidate_before: 0,
        }
    }

    /// The table, for counting.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Another program allows from now on; with `revalidate` it judges again what earlier ones have allowed. Cost: proportional
    /// to the table once in 65,534 programs.
    pub fn adopt(&mut self, revalidate: bool) {
        if self.epoch == u16::MAX {
            let limit = self.revalidate_before;
            self.table.renumber(|epoch| u16::from(epoch >= limit));
            (self.epoch, self.revalidate_before) = (1, 1);
        }
        self.epoch += 1;
        if revalidate {
            self.revalidate_before = self.epoch;
        }
    }

    /// Forgets every flow.
    pub fn clear(&mut self) {
        self.table.clear();
    }

    /// Reclaims expired flows with bounded work.
    #[inline]
    pub fn expire(&mut self, now: Now, budget: usize) {
        self.table.expire(now, budget);
    }

    /// What the table says of a packet; nothing changes.
    #[inline]
    pub fn look(&self, key: &Key, quote: &Tuple, now: Now) -> Look {
        let nothing = |standing| Look { standing, plan: Plan::Nothing, again: None };
        if key.has(KeyBits::QUOTE) {
            return nothing(self.related(key, quote, now));
        }
        if key.has(KeyBits::LATER_FRAGMENT) {
            // A later fragment judged without ports makes no entry (GW-22).
            return nothing(Standing::New);
        }
        let Some((flow_key, is_low)) = FlowKey::of(&tuple_of(key)) else { return nothing(Standing::New) };
        let slot = self.table.find(&flow_key, now);
        self.look_at(key, flow_key, is_low, slot, now)
    }

    /// What the table says of a packet whose live flow, if any, is in this slot.
    #[inline]
    fn look_at(&self, key: &Key, flow_key: FlowKey, is_low: bool, slot: Option<u32>, now: Now) -> Look {
        let nothing = |standing| Look { standing, plan: Plan::Nothing, again: None };
        let Some((slot, flow)) = slot.and_then(|slot| Some((slot, self.table.read(slot)?))) else {
            return match self.opening_of(key) {
                Some(opening) => {
                    let flow = self.fresh(key, flow_key, is_low, opening, now);
                    Look { plan: Plan::Insert(flow), ..nothing(Standing::New) }
                }
                None => nothing(Standing::Invalid),
            };
        };
        let side = flow.side(is_low);
        let State::Tcp(state) = flow.state else {
            let state = if flow.state == State::Udp && side == Side::Responder { State::UdpStream } else { flow.state };
            return self.belongs(slot, &flow, side, Plan::Update { slot, state, windows: flow.windows });
        };
        let Some(segment) = Segment::of(key.tcp_flags) else { return nothing(Standing::Invalid) };
        match tcp::transition(state, side, segment) {
            Transition::Invalid => nothing(Standing::Invalid),
            Transition::NewFlow => {
                let flow = self.fresh(key, flow_key, is_low, SYN_SENT, now);
                Look { plan: Plan::Replace { slot, flow }, ..nothing(Standing::New) }
            }
            Transition::Ignored => self.belongs(slot, &flow, side, Plan::Count { slot }),
            Transition::To(next) => {
                let is_checked = !flow.is_picked_up && !key.has(KeyBits::NO_WINDOW);
                let windows =
                    if is_checked { tcp::in_window(&flow.windows, state, side, key) } else { Some(flow.windows) };
                match windows {
                    Some(windows) => {
                        self.belongs(slot, &flow, side, Plan::Update { slot, state: State::Tcp(next), windows })
                    }
                    None => nothing(Standing::Invalid),
                }
            }
        }
    }

    /// What a packet without a flow begins if it is allowed; `None`: it is invalid (GW-25, GW-27).
    #[inline]
    fn opening_of(&self, key: &Key) -> Option<Opening> {
        let opening = |state| Some(Opening { state, is_picked_up: false });
        match key.protocol {
            6 => match Segment::of(key.tcp_flags)? {
                Segment::Syn => Some(SYN_SENT),
                Segment::Ack if self.is_loose => {
                    Some(Opening { state: State::Tcp(TcpState::Established), is_picked_up: true })
                }
                _ => None,
            },
            17 => opening(State::Udp),
            // An echo reply that no request asked for (GW-27).
            1 | 58 if (key.protocol == 58) == key.has(KeyBits::V6) && matches!(key.dport >> 8, 0 | 129) => None,
            1 | 58 if (key.protocol == 58) == key.has(KeyBits::V6) => opening(State::Icmp),
            _ => opening(State::Other),
        }
    }

    /// A new flow as its first packet begins it, the packet not counted.
    #[inline]
    fn fresh(&self, key: &Key, flow_key: FlowKey, is_low: bool, opening: Opening, now: Now) -> Flow {
        Flow {
            key: flow_key,
            last: now,
            windows: if opening == SYN_SENT { tcp::opened(key) } else { Windows::UNKNOWN },
            bytes: 0,
            packets: 0,
            epoch: self.epoch,
            state: opening.state,
            is_low_initiator: is_low,
            is_picked_up: opening.is_picked_up,
            is_groups_only: false,
        }
    }

    #[inline]
    fn belongs(&self, slot: u32, flow: &Flow, side: Side, plan: Plan) -> Look {
        let again = if flow.epoch >= self.revalidate_before { None } else { Some(Again { slot, side }) };
        let standing = if flow.is_groups_only { Standing::GroupsOnly } else { Standing::Established };
        Look { standing, plan, again }
    }

    /// An ICMP error that quotes a live flow's packet and goes to the quoted source (GW-27).
    fn related(&self, key: &Key, quote: &Tuple, now: Now) -> Standing {
        if quote.src != key.dst {
            return Standing::New;
        }
        let slot = FlowKey::of(quote).and_then(|(key, _)| self.table.find(&key, now));
        match slot.and_then(|slot| self.table.get(slot)) {
            Some(flow) if flow.is_groups_only => Standing::GroupsOnly,
            Some(_) => Standing::Related,
            None => Standing::New,
        }
    }

    /// Carries out the plan of an allowed packet. The error is the reason to deny it after all (GW-24).
    #[inline]
    pub fn commit(&mut self, plan: Plan, allowed: Allowed) -> Result<(), Reason> {
        let Allowed { track, now, bytes } = allowed;
        match plan {
            Plan::Nothing => Ok(()),
            Plan::Count { slot } => {
                self.table.update(slot, |flow| flow.count(bytes));
                Ok(())
            }
            Plan::Update { slot, state, windows } => {
                let epoch = self.epoch;
                self.table.update(slot, |flow| {
                    flow.count(bytes);
                    flow.state = state;
                    flow.windows = windows;
                    flow.last = flow.last.at_least(now);
                    if track == Track::Full {
                        flow.is_groups_only = false;
                    }
                    if track != Track::None {
                        flow.epoch = epoch;
                    }
                });
                Ok(())
            }
            Plan::Insert(flow) => self.insert(flow, allowed, None),
            Plan::Replace { .. } if track == Track::None => Ok(()),
            Plan::Replace { slot, mut flow } => {
                flow.count(bytes);
                flow.is_groups_only = track == Track::GroupsOnly;
                self.check_half_open(&flow, now)?;
                self.table.remove(slot);
                self.table.insert(flow).map(|_| ()).ok_or(Reason::FlowTableFull)
            }
        }
    }

    /// Puts a new flow in that its first packet begins. `vacancy` is the hash of its key if it is known that no entry has the key.
    #[inline(always)]
    fn insert(&mut self, mut flow: Flow, allowed: Allowed, vacancy: Option<u64>) -> Result<(), Reason> {
        if allowed.track == Track::None {
            return Ok(());
        }
        flow.count(allowed.bytes);
        flow.is_groups_only = allowed.track == Track::GroupsOnly;
        self.check_half_open(&flow, allowed.now)?;
        if self.table.used() >= self.table.capacity() {
            self.make_room(allowed.now)?;
        }
        let slot = match vacancy {
            Some(hash) => self.table.insert_vacant(&flow, hash),
            None => self.table.insert(flow),
        };
        slot.map(|_| ()).ok_or(Reason::FlowTableFull)
    }

    /// Makes room in a full table: of expired flows, or else of the half-open one that was used least recently (GW-24).
    #[cold]
    fn make_room(&mut self, now: Now) -> Result<(), Reason> {
        let has_room = |table: &Table| table.used() < table.capacity();
        self.table.reclaim(now, has_room);
        if !has_room(&self.table) {
            let oldest = self.table.oldest_half_open().ok_or(Reason::FlowTableFull)?;
            self.table.remove(oldest);
        }
        Ok(())
    }

    /// Whether a half-open flow may be made. Expired ones are reclaimed before it is refused (GW-24).
    #[inline]
    fn check_half_open(&mut self, flow: &Flow, now: Now) -> Result<(), Reason> {
        let limit = (self.table.capacity() / 2).max(1);
        if !flow.state.is_half_open() || self.table.half_open() < limit {
            return Ok(());
        }
        self.reclaim_half_open(limit, now)
    }

    #[cold]
    fn reclaim_half_open(&mut self, limit: usize, now: Now) -> Result<(), Reason> {
        let is_below = |table: &Table| table.half_open() < limit;
        self.table.reclaim(now, is_below);
        if is_below(&self.table) { Ok(()) } else { Err(Reason::HalfOpenLimit) }
    }

    /// The current program has allowed this flow.
    pub fn renew(&mut self, slot: u32) {
        let epoch = self.epoch;
        self.table.update(slot, |flow| flow.epoch = epoch);
    }

    /// Ends a flow that a new program denies (GW-23).
    pub fn end(&mut self, slot: u32) {
        self.table.remove(slot);
    }
}

/// The five-tuple of a packet.
#[inline]
pub fn tuple_of(key: &Key) -> Tuple {
    Tuple {
        src: key.src,
        dst: key.dst,
        sport: key.sport,
        dport: key.dport,
        protocol: key.protocol,
        is_v6: u8::from(key.has(KeyBits::V6)),
    }
}
