//! A TCP segment and the state of its flow in, the next state and window record out: Linux connection tracking as GW-25 fixes it.
//!
//! The two tables are indexed by the state and the kind of a segment; the window check is arithmetic modulo 2^32.

use std::hint::select_unpredictable;

use crate::packet::{Key, KeyBits};

/// TCP flag bits as on the wire.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is valid.
    pub const URG: u8 = 0x20;
}

/// State of a TCP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// The initiator sent a SYN.
    SynSent,
    /// Both ends sent a SYN.
    SynSent2,
    /// The responder answered.
    SynRecv,
    /// The handshake is complete.
    Established,
    /// One end sent a FIN.
    FinWait,
    /// That FIN was acknowledged.
    CloseWait,
    /// Both ends sent a FIN.
    LastAck,
    /// Everything was acknowledged.
    TimeWait,
    /// A reset ended it.
    Close,
}

impl TcpState {
    /// Not established yet: what the half-open limit counts (GW-24).
    #[inline]
    pub const fn is_half_open(self) -> bool {
        matches!(self, TcpState::SynSent | TcpState::SynSent2 | TcpState::SynRecv)
    }
}

/// What a segment is to the tables: the first of RST, SYN/ACK, SYN, FIN, ACK that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Segment {
    /// SYN without ACK.
    Syn,
    /// SYN with ACK.
    SynAck,
    /// None of the others.
    Ack,
    /// FIN.
    Fin,
    /// RST.
    Rst,
}

impl Segment {
    /// The kind of a segment, `None` for flag sets that are invalid in every state. PSH, ECE and CWR never matter.
    #[inline]
    pub const fn of(flags: u8) -> Option<Segment> {
        use flag::{ACK, FIN, RST, SYN, URG};
        const FIN_ACK: u8 = FIN | ACK;
        const FIN_ACK_URG: u8 = FIN | ACK | URG;
        const ACK_URG: u8 = ACK | URG;
        const SYN_URG: u8 = SYN | URG;
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        match flags & (FIN | SYN | RST | ACK | URG) {
            ACK | ACK_URG => Some(Segment::Ack),
            SYN | SYN_URG => Some(Segment::Syn),
            SYN_ACK => Some(Segment::SynAck),
            FIN_ACK | FIN_ACK_URG => Some(Segment::Fin),
            RST | RST_ACK => Some(Segment::Rst),
            _ => None,
        }
    }
}

/// Which end of a flow sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// The sender of the packet that made the entry.
    Initiator = 0,
    /// The other end.
    Responder = 1,
}

/// What a segment means for a live entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The entry takes this state and its timer starts again.
    To(TcpState),
    /// The packet passes as established, the entry keeps everything.
    Ignored,
    /// Refused, the entry keeps everything.
    Invalid,
    /// Judged as the first packet of a new flow in the entry's place.
    NewFlow,
}

/// The tables of the two directions. Columns: SYN, SYN/ACK, ACK, FIN, RST.
#[inline]
pub const fn transition(state: TcpState, side: Side, segment: Segment) -> Transition {
    use TcpState::{Close, CloseWait, Established, FinWait, LastAck, SynRecv, SynSent, SynSent2, TimeWait};
    use Transition::{Ignored as IG, Invalid as IV, NewFlow as NF, To};
    const INITIATOR: [[Transition; 5]; 9] = [
        [To(SynSent), IV, IV, IV, To(Close)],
        [To(SynSent2), To(SynRecv), IV, IV, To(Close)],
        [IG, To(SynRecv), To(Established), To(FinWait), To(Close)],
        [IG, IV, To(Established), To(FinWait), To(Close)],
        [IG, IV, To(CloseWait), To(LastAck), To(Close)],
        [IG, IV, To(CloseWait), To(LastAck), To(Close)],
        [IG, IV, To(TimeWait), To(LastAck), To(Close)],
        [NF, IV, To(TimeWait), To(TimeWait), To(Close)],
        [NF, IV, To(Close), To(Close), To(Close)],
    ];
    const RESPONDER: [[Transition; 5]; 9] = [
        [To(SynSent2), To(SynRecv), IG, IV, To(Close)],
        [To(SynSent2), To(SynRecv), IG, IV, To(Close)],
        [IV, IG, To(SynRecv), To(FinWait), To(Close)],
        [IV, IG, To(Established), To(FinWait), To(Close)],
        [IV, IG, To(CloseWait), To(LastAck), To(Close)],
        [IV, IG, To(CloseWait), To(LastAck), To(Close)],
        [IV, IG, To(TimeWait), To(LastAck), To(Close)],
        [NF, IG, To(TimeWait), To(TimeWait), To(Close)],
        [NF, IG, To(Close), To(Close), To(Close)],
    ];
    let table = match side {
        Side::Initiator => &INITIATOR,
        Side::Responder => &RESPONDER,
    };
    table[state as usize][segment as usize]
}

/// What one end has sent and announced. All zero = nothing known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Highest sequence number it sent, plus one.
    pub end: u32,
    /// The highest `end` its peer has allowed.
    pub limit: u32,
    /// The largest window it announced; 0 = nothing known.
    pub win: u32,
}

/// The record of both ends, by [`Side`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// By side.
    pub ends: [Window; 2],
    /// Window scale option of each SYN, [`Key::NO_SCALE`] when it had none.
    pub scales: [u8; 2],
}

impl Windows {
    /// Nothing known of either end.
    pub const UNKNOWN: Windows = Windows { ends: [Window { end: 0, limit: 0, win: 0 }; 2], scales: [Key::NO_SCALE; 2] };

    /// By how much the windows that an end announces are shifted.
    #[inline]
    pub fn shift(&self, side: Side) -> u32 {
        let is_scaled = self.scales[0] != Key::NO_SCALE && self.scales[1] != Key::NO_SCALE;
        if is_scaled { u32::from(self.scales[side as usize].min(14)) } else { 0 }
    }
}

#[inline]
fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Sequence number after the segment: payload, plus one for SYN and for FIN.
#[inline]
fn end_of(key: &Key) -> u32 {
    let syn = u32::from(key.tcp_flags & flag::SYN != 0);
    let fin = u32::from(key.tcp_flags & flag::FIN != 0);
    key.seq.wrapping_add(u32::from(key.payload)).wrapping_add(syn + fin)
}

/// The record that a first SYN leaves. A packet whose window is not known leaves none.
#[inline]
pub fn opened(key: &Key) -> Windows {
    let mut windows = Windows::UNKNOWN;
    if !key.has(KeyBits::NO_WINDOW) {
        let end = end_of(key);
        windows.ends[Side::Initiator as usize] = Window { end, limit: end, win: u32::from(key.window).max(1) };
        windows.scales[Side::Initiator as usize] = key.window_scale;
    }
    windows
}

/// The oldest acknowledgement that is not too old lies this many bytes behind, or the sender's window if that is larger.
pub(super) const MAX_ACK_LAG: u32 = 66_000;

/// Checks a segment against the record; the record after it if it is in the window, `None` if it is not. `max_ack_lag` of
/// RFC-less practice is 66,000 bytes, as in nf_conntrack_proto_tcp.c.
pub fn in_window(windows: &Windows, state: TcpState, side: Side, key: &Key) -> Option<Windows> {
    let flags = key.tcp_flags;
    let (has_syn, has_ack, is_rst) = (flags & flag::SYN != 0, flags & flag::ACK != 0, flags & flag::RST != 0);
    let (s, p) = (side as usize, 1 - side as usize);
    let mut after = *windows;
    let mut sender = windows.ends[s];
    let mut peer = windows.ends[p];
    let (mut seq, mut end, mut ack) = (key.seq, end_of(key), key.ack);

    if has_syn {
        after.scales[s] = key.window_scale;
    }
    let shift = if has_syn { 0 } else { windows.shift(side) };
    let window = u32::from(key.window) << shift;

    if sender.win == 0 {
        sender.end = end;
        sender.win = window.max(1);
        if has_syn {
            sender.limit = end;
            if !has_ack {
                after.ends[s] = sender;
                return Some(after);
            }
        } else {
            sender.limit = end.wrapping_add(sender.win);
            if peer.win == 0 {
                peer.end = ack;
                peer.limit = ack;
            } else if ack == peer.end.wrapping_add(1) {
                peer.end = ack;
            }
        }
    } else if has_syn && state.is_half_open() && before(sender.end, end) {
        sender = Window { end, limit: end, win: window.max(1) };
    }

    if !has_ack || (is_rst && ack == 0) {
        ack = peer.end;
    }
    if is_rst && seq == 0 && state == TcpState::SynSent {
        seq = sender.end;
        end = sender.end;
    }

    let is_inside = before(seq, sender.limit.wrapping_add(1))
        && (peer.win == 0 || before(sender.end.wrapping_sub(peer.win).wrapping_sub(1), end))
        && before(ack, peer.end.wrapping_add(1))
        && before(peer.end.wrapping_sub(sender.win.max(MAX_ACK_LAG)).wrapping_sub(1), ack);
    if !is_inside {
        return None;
    }

    sender.win = sender.win.max(window);
    if before(sender.end, end) {
        sender.end = end;
    }
    if peer.win != 0 && before(sender.limit, end) {
        peer.win = peer.win.wrapping_add(end.wrapping_sub(sender.limit));
    }
    if before(peer.limit.wrapping_sub(1), ack.wrapping_add(window)) {
        peer.limit = ack.wrapping_add(window).wrapping_add(u32::from(window == 0));
    }
    after.ends[s] = sender;
    after.ends[p] = peer;
    Some(after)
}

/// As [`in_window`] for an ACK of an end that has announced a window, without SYN, FIN and RST, on `[end, limit, win]` by side:
/// changes the record in its place and says yes, or changes nothing and says no. With anything but 0 in `unchecked` it says yes and
/// changes nothing. No branches: what is checked and what is not come in any order.
#[inline(always)]
pub fn advance(ends: &mut [[u32; 3]; 2], shift: u32, side: Side, key: &Key, unchecked: u8) -> bool {
    let (s, p) = (side as usize % 2, 1 - side as usize % 2);
    let ([s_end, s_limit, s_win], [p_end, p_limit, p_win]) = (ends[s], ends[p]);
    let (seq, end, ack) = (key.seq, key.seq.wrapping_add(u32::from(key.payload)), key.ack);
    let window = u32::from(key.window) << shift;
    // Each is negative where the segment is outside, which makes their union negative; the last where no window was announced.
    let below_limit = s_limit.wrapping_sub(seq);
    let not_too_old = end.wrapping_sub(s_end).wrapping_add(p_win);
    let was_sent = p_end.wrapping_sub(ack);
    let not_too_late = ack.wrapping_sub(p_end).wrapping_add(s_win.max(MAX_ACK_LAG));
    let outside = below_limit
        | select_unpredictable(p_win == 0, 0, not_too_old)
        | was_sent
        | not_too_late
        | (s_win.wrapping_sub(1) & !s_win);
    let is_outside = outside >> 31;
    let moves = (is_outside == 0) & (unchecked == 0);
    let allowed = ack.wrapping_add(window);
    let new_limit = allowed.wrapping_add(u32::from(window == 0));
    let is_more = before(s_limit, end);
    ends[s] = [
        select_unpredictable(moves & before(s_end, end), end, s_end),
        s_limit,
        select_unpredictable(moves & (window > s_win), window, s_win),
    ];
    ends[p] = [
        p_end,
        select_unpredictable(moves & before(p_limit.wrapping_sub(1), allowed), new_limit, p_limit),
        select_unpredictable(moves & is_more & (p_win != 0), p_win.wrapping_add(end.wrapping_sub(s_limit)), p_win),
    ];
    // One comparison, which does not fall apart into two branches: outside, and nothing that speaks against checking.
    is_outside <= u32::from(unchecked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_flag_sets_are_those_of_gw_25() {
        let flags = |text: &str| text.chars().fold(0u8, |f, c| f | 1 << "FSRPAUEC".find(c).unwrap());
        let check = |text: &str, expected| {
            for ignored in ["", "P", "E", "C", "PEC"] {
                assert_eq!(Segment::of(flags(text) | flags(ignored)), expected, "{text}+{ignored}");
            }
        };
        for (text, kind) in [
            ("S", Segment::Syn),
            ("SU", Segment::Syn),
            ("SA", Segment::SynAck),
            ("R", Segment::Rst),
            ("RA", Segment::Rst),
            ("A", Segment::Ack),
            ("AU", Segment::Ack),
            ("FA", Segment::Fin),
            ("FAU", Segment::Fin),
        ] {
            check(text, Some(kind));
        }
        for text in ["", "F", "SF", "SR", "SAU", "RU", "RAU", "FSA", "U", "FU", "FRA", "FSRAU"] {
            check(text, None);
        }
    }

    #[test]
    fn the_short_way_for_acks_is_the_long_one() {
        let mut dice = 7u64;
        let mut roll = |limit: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % limit
        };
        let mut inside = 0;
        for _ in 0..200_000 {
            // Close to one another and to where numbers wrap.
            let base = [0u32, u32::MAX - 500, 1 << 31][roll(3) as usize];
            let mut number = || base.wrapping_add(roll(2000) as u32);
            let (mut ends, seq, ack) = ([Window::default(); 2], number(), number());
            for window in &mut ends {
                (window.end, window.limit) = (number(), number());
            }
            for window in &mut ends {
                window.win = [0, 1, 900, 70_000][roll(4) as usize];
            }
            let scales = [[7, Key::NO_SCALE][roll(2) as usize], 2];
            let key = segment(seq, ack, [0, 1000][roll(2) as usize], roll(300) as u16, flag::ACK);
            let side = [Side::Initiator, Side::Responder][roll(2) as usize];
            let before = Windows { ends, scales };
            let expected = in_window(&before, TcpState::Established, side, &key);
            let mut short = ends.map(|w| [w.end, w.limit, w.win]);
            let found = advance(&mut short, before.shift(side), side, &key, 0);
            if ends[side as usize].win == 0 {
                assert!(!found, "left to the long way");
                continue;
            }
            inside += u32::from(found);
            assert_eq!(found, expected.is_some(), "{before:?} {key:?}");
            let after = expected.unwrap_or(before).ends.map(|w| [w.end, w.limit, w.win]);
            assert_eq!(short, after, "{before:?} {key:?}");
            assert!(advance(&mut short, before.shift(side), side, &key, 8), "what is not checked passes");
            assert_eq!(short, after, "and changes nothing");
        }
        assert!(inside > 1000, "{inside}");
    }

    fn segment(seq: u32, ack: u32, window: u16, payload: u16, tcp_flags: u8) -> Key {
        Key { seq, ack, window, payload, tcp_flags, protocol: 6, ..Key::EMPTY }
    }

    #[test]
    fn a_handshake_with_data_stays_in_the_window_and_a_stray_segment_does_not() {
        use flag::{ACK, SYN};
        let syn = segment(1000, 0, 64240, 0, SYN);
        let mut windows = opened(&syn);
        let mut step = |state, side, key: Key, expected: bool| {
            let after = in_window(&windows, state, side, &key);
            assert_eq!(after.is_some(), expected, "{key:?}");
            windows = after.unwrap_or(windows);
        };
        step(TcpState::SynSent, Side::Responder, segment(5000, 1001, 65160, 0, SYN | ACK), true);
        step(TcpState::SynRecv, Side::Initiator, segment(1001, 5001, 502, 0, ACK), true);
        step(TcpState::Established, Side::Initiator, segment(1001, 5001, 502, 1000, ACK), true);
        step(TcpState::Established, Side::Responder, segment(5001, 2001, 501, 0, ACK), true);
        // Beyond what the responder allowed.
        step(TcpState::Established, Side::Initiator, segment(900_000, 5001, 502, 100, ACK), false);
        // Acknowledges what was never sent.
        step(TcpState::Established, Side::Initiator, segment(2001, 6000, 502, 0, ACK), false);
    }

    #[test]
    fn window_scale_counts_only_when_both_ends_sent_it() {
        use flag::{ACK, SYN};
        let check = |initiator, responder, far, expected| {
            let mut windows = opened(&Key { window_scale: initiator, ..segment(0, 0, 1000, 0, SYN) });
            let syn_ack = Key { window_scale: responder, ..segment(0, 1, 1000, 0, SYN | ACK) };
            windows = in_window(&windows, TcpState::SynSent, Side::Responder, &syn_ack).unwrap();
            windows = in_window(&windows, TcpState::SynRecv, Side::Initiator, &segment(1, 1, 1000, 0, ACK)).unwrap();
            windows =
                in_window(&windows, TcpState::Established, Side::Responder, &segment(1, 1, 1000, 0, ACK)).unwrap();
            let late = segment(far, 1, 1000, 10, ACK);
            assert_eq!(in_window(&windows, TcpState::Established, Side::Initiator, &late).is_some(), expected);
        };
        check(7, 7, 100_000, true);
        check(7, Key::NO_SCALE, 100_000, false);
        check(Key::NO_SCALE, 7, 100_000, false);
        check(7, 7, 200_000, false);
    }
}
