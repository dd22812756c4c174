//! What happened on the way to a decision, for those who ask: a type parameter, so that the packet line pays nothing.

use crate::base::id::RuleId;
use crate::engine::decision::Stage;
use crate::engine::program::Effect;

/// Whose list a stage asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A host endpoint, index into the program's endpoints.
    Endpoint(u32),
    /// The pod with the destination (inbound) or source (outbound) address.
    Pod,
    /// The network ACL of the local address.
    Acl,
    /// The security groups of the local address.
    Groups,
    /// The service table.
    Service,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A list was asked and the entry with this rule and effect matched; Log and Pass are followed by more.
    Matched {
        /// Stage that asked.
        stage: Stage,
        /// Whose list.
        subject: Subject,
        /// The rule; NONE for the ends of lists without one.
        rule: RuleId,
        /// What the entry does.
        effect: Effect,
    },
    /// A list was asked and nothing in it matched.
    Undecided {
        /// Stage that asked.
        stage: Stage,
        /// Whose list.
        subject: Subject,
    },
    /// From here on the packet counts as translated to this backend (GW-8).
    Translated {
        /// Backend address.
        address: u128,
        /// Backend port.
        port: u16,
    },
    /// The source is outside the service's ranges.
    SourceRefused,
}

/// Receives events; a packet's events come between its `begin` and the next one's.
pub trait Trace {
    /// Whether anybody wants the events; if not, what leads to none but established packets may be skipped.
    const LISTENS: bool = true;

    /// The events of this packet of the burst follow.
    fn begin(&mut self, packet: usize);
    /// Something happened.
    fn event(&mut self, event: Event);
}

/// Nobody asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    const LISTENS: bool = false;

    #[inline(always)]
    fn begin(&mut self, _packet: usize) {}
    #[inline(always)]
    fn event(&mut self, _event: Event) {}
}

/// Keeps all events with the packet they belong to. Allocates: not for the packet line.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    packet: usize,
    /// Position in the burst and event, in order.
    pub events: Vec<(usize, Event)>,
}

impl Trace for Recorder {
    fn begin(&mut self, packet: usize) {
        self.packet = packet;
    }
    fn event(&mut self, event: Event) {
        self.events.push((self.packet, event));
    }
}
