use std::collections::VecDeque;

use super::*;

fn two() -> [Plugged; 2] {
    memory(2, BURST, 256).try_into().unwrap_or_else(|_| unreachable!("two were asked for"))
}

fn conserved(ports: &[&MemoryPort]) {
    let held: usize = ports.iter().map(|port| port.held()).sum();
    assert_eq!(held + ports[0].deposited(), ports[0].chunks(), "every chunk in one place");
}

#[test]
fn bytes_cross_from_one_wire_to_the_other_unchanged() {
    let [(mut up, mut outside), (mut down, mut inside)] = two();
    let mut frames = Frames::new();
    for length in [0usize, 1, 64, 255, 256] {
        let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
        assert!(outside.inject(&bytes));
        assert_eq!(up.receive(&mut frames), 1);
        let frame = frames.pop().unwrap();
        assert_eq!(up.bytes(&frame), bytes);
        down.transmit(frame).unwrap();
        down.flush();
        assert_eq!(inside.take(), Some(bytes));
    }
    assert!(!outside.inject(&[0; 257]), "longer than a chunk");
    down.reclaim();
    conserved(&[&up, &down]);
}

#[test]
fn a_full_transmit_ring_gives_the_frame_back() {
    let [(mut up, mut outside), (mut down, mut inside)] = two();
    let mut frames = Frames::new();
    let (mut sent, mut refused) = (0, 0);
    for _ in 0..2 * BURST {
        assert!(outside.inject(&[1, 2, 3]));
        up.receive(&mut frames);
        match down.transmit(frames.pop().unwrap()) {
            Ok(()) => sent += 1,
            Err(frame) => {
                refused += 1;
                up.recycle(frame);
            }
        }
    }
    down.flush();
    assert_eq!((sent, refused, inside.drain()), (BURST, BURST, BURST));
    down.reclaim();
    conserved(&[&up, &down]);
}

#[test]
fn one_way_traffic_for_ever_starves_nobody() {
    let [(mut up, mut outside), (mut down, mut inside)] = two();
    let mut frames = Frames::new();
    for round in 0..5_000 {
        for _ in 0..BURST / 2 {
            assert!(outside.inject(&[0; 60]), "round {round}");
        }
        assert_eq!(up.receive(&mut frames), BURST / 2);
        while let Some(frame) = frames.pop() {
            down.transmit(frame).unwrap();
        }
        down.flush();
        assert_eq!(inside.drain(), BURST / 2);
        down.reclaim();
        up.refill();
    }
    conserved(&[&up, &down]);
}

/// A ring against the obvious queue, whatever is done in whatever order: what was published comes out, in order, once.
#[test]
fn a_ring_is_a_queue_of_what_was_published() {
    for seed in 1..200u64 {
        let ring = Ring::new(8);
        let (mut producer, mut consumer) = (Producer::new(&ring), Consumer::new(&ring));
        // Positions wrap; start near the end of their range.
        for position in [&mut producer.next, &mut producer.consumed, &mut consumer.next, &mut consumer.produced] {
            *position = u32::MAX - 20;
        }
        ring.produced.store(u32::MAX - 20, Ordering::Relaxed);
        ring.consumed.store(u32::MAX - 20, Ordering::Relaxed);
        let (mut staged, mut published, mut unreleased) = (Vec::new(), VecDeque::new(), 0);
        let (mut dice, mut next) = (seed, 0u64);
        for step in 0..500 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match dice >> 62 {
                0 => {
                    let has_room = staged.len() + published.len() + unreleased < 8;
                    assert_eq!(producer.push(next), has_room, "seed {seed} step {step}");
                    if has_room {
                        staged.push(next);
                        next += 1;
                    }
                }
                1 => {
                    producer.publish();
                    published.extend(staged.drain(..));
                }
                2 => {
                    let expected: Option<u64> = published.pop_front();
                    assert_eq!(consumer.pop(), expected, "seed {seed} step {step}");
                    unreleased += usize::from(expected.is_some());
                }
                _ => {
                    consumer.release();
                    unreleased = 0;
                }
            }
        }
    }
}

#[test]
fn a_frame_keeps_the_time_it_was_captured() {
    let [(mut up, mut outside), _] = two();
    let mut frames = Frames::new();
    assert!(outside.inject_at(&[1], Now(7)) && outside.inject(&[2]));
    up.receive(&mut frames);
    let times: Vec<Option<Now>> = (0..2).map(|i| up.captured(frames.get(i).unwrap())).collect();
    assert_eq!(times, [Some(Now(7)), None]);
    while let Some(frame) = frames.pop() {
        up.recycle(frame);
    }
}
