//! What a flow is doing: its states, their names and their timeouts. Nothing comes in.

use super::tcp::TcpState;

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

/// Nanoseconds after which an entry of each state has expired, by [`State::index`].
pub type Timeouts = [u64; State::ALL.len()];
