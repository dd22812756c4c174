use std::sync::Arc;

use super::*;
use crate::engine::{Counters, FlowState, Reason, Stage};
use crate::io::memory::{MemoryPort, Plugged, Wire, memory};
use crate::packet::Arrival;
use crate::worker::exchange::Bell;

/// Denies what begins with 0; worker n owns what has n as its second byte.
#[derive(Default)]
struct ByFirstBytes {
    frames: Vec<[u8; 2]>,
    counters: Counters,
}

impl Judge for ByFirstBytes {
    type Load = ();

    fn begin(&mut self) {
        self.frames.clear();
    }
    fn add(&mut self, frames: &[Arrival<'_>]) {
        self.frames.extend(frames.iter().map(|frame| [frame.bytes[0], frame.bytes[1]]));
    }
    fn owner(&self, position: usize, _: WorkerId, workers: u32) -> WorkerId {
        WorkerId(u32::from(self.frames[position][1]) % workers)
    }
    fn keep(&mut self, positions: u64) {
        let mut position = 0;
        self.frames.retain(|_| {
            position += 1;
            positions >> (position - 1) & 1 == 1
        });
    }
    fn decide(&mut self) {}
    fn decision(&self, position: usize) -> Decision {
        let verdict = if self.frames[position][0] == 0 { Verdict::Deny } else { Verdict::Allow };
        Decision::new(verdict, Reason::DefaultAllow, Stage::Default, FlowState::None)
    }
    /// One frame of three is left to be asked about, so that runs of all kinds meet; what begins with 1 has no checksum to complete.
    fn clear_cases(&self) -> (u64, u64) {
        let is_told = |position: &usize| position % 3 != 2;
        (0..self.frames.len()).filter(is_told).fold((0, 0), |(clear, denied), position| {
            match self.frames[position][0] {
                0 => (clear, denied | 1 << position),
                1 => (clear | 1 << position, denied),
                _ => (clear, denied),
            }
        })
    }
    fn adopt(&mut self, load: Arc<()>) -> Arc<()> {
        load
    }
    fn idle(&mut self, _: Now) {}
    fn counters(&self) -> &Counters {
        &self.counters
    }
    fn flows(&self) -> usize {
        0
    }
}

type TestLine = Line<MemoryPort, ByFirstBytes>;

fn lines(workers: usize) -> Vec<(TestLine, [Wire; 2])> {
    let bells: Vec<Arc<Bell>> = (0..workers).map(|_| Arc::new(Bell::new().unwrap())).collect();
    let mut ports = memory(2 * workers, 64, 2048).into_iter();
    let mut next = || ports.next().unwrap();
    Exchange::between(&bells, 64)
        .into_iter()
        .map(|exchange| {
            let ((up, outside), (down, inside)): (Plugged, Plugged) = (next(), next());
            (Line::new(up, down, ByFirstBytes::default()).exchanging(exchange), [outside, inside])
        })
        .collect()
}

fn held(lines: &[(TestLine, [Wire; 2])]) -> usize {
    let ports = || lines.iter().flat_map(|(line, _)| line.ports());
    let first = ports().next().unwrap();
    ports().map(MemoryPort::held).sum::<usize>() + first.deposited()
}

fn seen(wire: &mut Wire) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| wire.take()).collect()
}

#[test]
fn allowed_frames_cross_unchanged_in_both_directions_and_denied_ones_do_not() {
    let mut all = lines(1);
    let (line, [outside, inside]) = &mut all[0];
    for bytes in [[1, 0, 7], [0, 0, 8], [2, 0, 9]] {
        assert!(outside.inject(&bytes));
        assert!(inside.inject(&bytes.map(|b| b * 10)));
    }
    assert_eq!(line.turn(Now(1), &mut NoTap), 6);
    assert_eq!(seen(inside), [vec![1, 0, 7], vec![2, 0, 9]]);
    assert_eq!(seen(outside), [vec![10, 0, 70], vec![20, 0, 90]]);
    let expected = Tally { packets: 2, bytes: 6 };
    assert_eq!(*line.fates(), Fates { transmitted: [expected; 2], bursts: 2, ..Fates::default() });
    let chunks = line.ports()[0].chunks();
    assert_eq!(held(&all), chunks, "frames are conserved");
}

#[test]
fn a_transmit_ring_that_stays_full_costs_the_frames_that_do_not_fit_and_nothing_else() {
    let mut all = lines(1);
    let (line, [outside, inside]) = &mut all[0];
    let mut injected = 0;
    for _ in 0..3 {
        while outside.inject(&[1, 0]) {
            injected += 1;
        }
        line.turn(Now(1), &mut NoTap);
    }
    // The wire has taken nothing off: 64 slots.
    assert_eq!(line.fates().transmitted[0].packets, 64);
    assert_eq!(line.fates().ring_full[0].packets, injected - 64);
    assert_eq!(inside.drain(), 64);
    let chunks = line.ports()[0].chunks();
    assert_eq!(held(&all), chunks, "frames are conserved");
}

#[test]
fn a_frame_longer_than_the_other_port_takes_is_dropped_and_counted() {
    let [(up, mut outside), (down, mut inside)]: [Plugged; 2] =
        memory(2, 64, 2048).try_into().unwrap_or_else(|_| unreachable!("two were asked for"));
    let mut line = Line::new(up, down.limited(100), ByFirstBytes::default());
    assert!(outside.inject(&[1; 100]) && outside.inject(&[1; 101]) && inside.inject(&[1; 101]));
    line.turn(Now(1), &mut NoTap);
    assert_eq!((inside.drain(), outside.drain()), (1, 1), "the uplink takes longer ones");
    assert_eq!(line.fates().too_long[0], Tally { packets: 1, bytes: 101 });
}

/// GW-30: golden bytes of a UDP datagram 10.0.0.1:1 > 10.0.0.2:2 with the data `AB`, whose checksum field holds the sum of the
/// pseudo-header: 0a00 + 0001 + 0a00 + 0002 + 0011 + 000a = 141e. The whole sum is 141e + 0001 + 0002 + 000a + 4142 = 556d.
#[test]
fn a_half_made_checksum_is_completed_before_it_leaves_and_counted() {
    let mut all = lines(1);
    let (line, [outside, inside]) = &mut all[0];
    let mut bytes = vec![2u8, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0x08, 0x00];
    bytes.extend([0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0x66, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend([0, 1, 0, 2, 0, 10, 0x14, 0x1e, 0x41, 0x42]);
    assert!(outside.inject(&bytes));
    line.turn(Now(1), &mut NoTap);
    let sent = inside.take().unwrap();
    assert_eq!(sent[40..42], (!0x556du16).to_be_bytes());
    assert_eq!((line.fates().completed, &sent[..40], &sent[42..]), (1, &bytes[..40], &bytes[42..]));
}

#[test]
fn a_frame_goes_to_the_worker_that_owns_its_flow_and_keeps_its_order() {
    let mut all = lines(2);
    for number in 0..20u8 {
        let owner = number % 3 % 2;
        assert!(all[0].1[0].inject(&[1, owner, number]));
    }
    for (line, _) in &mut all {
        line.turn(Now(1), &mut NoTap);
    }
    let mut numbers = |worker: usize| -> Vec<u8> { seen(&mut all[worker].1[1]).iter().map(|bytes| bytes[2]).collect() };
    let (own, other): (Vec<u8>, Vec<u8>) = (0..20).partition(|number| number % 3 % 2 == 0);
    assert_eq!((numbers(0), numbers(1)), (own, other.clone()));
    assert_eq!(all[0].0.fates().handed_over, other.len() as u64);
    let chunks = all[0].0.ports()[0].chunks();
    assert_eq!(held(&all), chunks, "frames are conserved");
}

#[test]
fn a_full_mailbox_costs_the_frame_and_is_counted() {
    let mut all = lines(2);
    let (line, [outside, _]) = &mut all[0];
    for _ in 0..3 {
        while outside.inject(&[1, 1]) {}
        line.turn(Now(1), &mut NoTap);
    }
    // Nobody collects at worker 1: 64 slots.
    assert_eq!((line.fates().handed_over, line.fates().handover_full[0].packets > 0), (64, true));
    let chunks = line.ports()[0].chunks();
    assert_eq!(held(&all) + 64, chunks, "frames are conserved");
}

#[test]
fn a_tap_sees_each_frame_with_its_decision() {
    struct List(Vec<(Vec<u8>, Verdict)>);
    impl Tap for List {
        fn judged(&mut self, seen: Judged<'_>) {
            self.0.push((seen.frame.to_vec(), seen.decision.verdict()));
        }
    }
    let mut all = lines(1);
    let (line, [outside, _]) = &mut all[0];
    assert!(outside.inject(&[1, 2]) && outside.inject(&[0, 3]));
    let mut list = List(Vec::new());
    line.turn(Now(1), &mut list);
    assert_eq!(list.0, [(vec![1, 2], Verdict::Allow), (vec![0, 3], Verdict::Deny)]);
}

#[test]
fn a_starving_uplink_gets_chunks_back_from_the_downlink() {
    let mut all = lines(1);
    let (line, [outside, inside]) = &mut all[0];
    for round in 0..2_000 {
        for _ in 0..40 {
            assert!(outside.inject(&[1, 0]), "round {round}");
        }
        line.turn(Now(round), &mut NoTap);
        assert_eq!(inside.drain(), 40);
    }
    assert_eq!(line.fates().ring_full[0].packets, 0);
}

#[test]
fn a_lone_frame_leaves_in_the_turn_that_takes_it() {
    let mut all = lines(1);
    let (line, [outside, inside]) = &mut all[0];
    for round in 1..100u8 {
        assert!(outside.inject(&[1, 0, round]));
        assert_eq!(line.turn(Now(round.into()), &mut NoTap), 1);
        assert_eq!(inside.take(), Some(vec![1, 0, round]), "it does not wait for a burst to fill");
        assert!(inside.inject(&[2, 0, round]));
        assert_eq!(line.turn(Now(round.into()), &mut NoTap), 1);
        assert_eq!(outside.take(), Some(vec![2, 0, round]));
    }
}
