//! Random operations on workers over in-memory ports in, the account of every chunk and every frame out: nothing is lost, nothing
//! comes twice, and a port that stands still stops nothing but itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use ringwall::base::id::WorkerId;
use ringwall::base::time::Now;
use ringwall::engine::{Counters, Decision, FlowState, Reason, Stage, Verdict};
use ringwall::io::memory::{MemoryPort, Wire, memory};
use ringwall::packet::Arrival;
use ringwall::worker::exchange::Bell;
use ringwall::worker::{Exchange, Judge, Line, NoTap};

/// Slots of every ring, and of every queue between workers: few, so that they fill up.
const SLOTS: usize = 64;
const FRAME: usize = 64;

/// Reads its decision from the frame: `[verdict, owner, direction, 0, serial; 4]`.
#[derive(Default)]
struct AsWritten {
    frames: Vec<[u8; 2]>,
    counters: Counters,
    denied: u64,
}

impl Judge for AsWritten {
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
    fn decide(&mut self) {
        self.denied += self.frames.iter().filter(|frame| frame[0] == 0).count() as u64;
    }
    fn decision(&self, position: usize) -> Decision {
        let verdict = if self.frames[position][0] == 0 { Verdict::Deny } else { Verdict::Allow };
        Decision::new(verdict, Reason::DefaultAllow, Stage::Default, FlowState::None)
    }
    /// One frame of three is left to be asked about, so that runs of all kinds meet.
    fn clear_cases(&self) -> (u64, u64) {
        let is_told = |position: &usize| position % 3 != 2;
        (0..self.frames.len()).filter(is_told).fold((0, 0), |(clear, denied), position| {
            match self.frames[position][0] {
                0 => (clear, denied | 1 << position),
                _ => (clear | 1 << position, denied),
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

/// Workers with the wires of their ports, and what went in and came out.
struct Bench {
    lines: Vec<Line<MemoryPort, AsWritten>>,
    /// By worker and side.
    wires: Vec<[Wire; 2]>,
    /// Wires that take nothing off.
    stalled: BTreeSet<(usize, usize)>,
    injected: u32,
    delivered: BTreeSet<u32>,
    /// Last serial seen of a flow: where it came in and who owns it.
    last: BTreeMap<(u8, u8, u8), u32>,
}

impl Bench {
    fn new(workers: usize) -> Bench {
        let bells: Vec<Arc<Bell>> = (0..workers).map(|_| Arc::new(Bell::new().unwrap())).collect();
        let mut ports = memory(2 * workers, SLOTS, FRAME).into_iter();
        let (mut lines, mut wires) = (Vec::new(), Vec::new());
        for exchange in Exchange::between(&bells, SLOTS) {
            let ((up, outside), (down, inside)) = (ports.next().unwrap(), ports.next().unwrap());
            lines.push(Line::new(up, down, AsWritten::default()).exchanging(exchange));
            wires.push([outside, inside]);
        }
        let (stalled, delivered, last) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Bench { lines, wires, stalled, injected: 0, delivered, last }
    }

    /// Lets a port receive a frame, if it has room and chunk for it.
    fn inject(&mut self, worker: usize, side: usize, is_allowed: bool, owner: u8) {
        let mut frame = [0; FRAME];
        frame[..4].copy_from_slice(&[is_allowed.into(), owner, side as u8, worker as u8]);
        frame[4..8].copy_from_slice(&self.injected.to_le_bytes());
        self.injected += u32::from(self.wires[worker][side].inject(&frame));
    }

    fn turn(&mut self, worker: usize) -> usize {
        self.lines[worker].turn(Now(1), &mut NoTap)
    }

    /// Takes frames off a port, `most` at most.
    fn take(&mut self, worker: usize, side: usize, most: usize) -> usize {
        if self.stalled.contains(&(worker, side)) {
            return 0;
        }
        let wire = &mut self.wires[worker][side];
        let frames: Vec<Vec<u8>> = std::iter::from_fn(|| wire.take()).take(most).collect();
        for frame in &frames {
            let serial = u32::from_le_bytes(frame[4..8].try_into().unwrap());
            assert_eq!(frame[0], 1, "frame {serial} was denied");
            assert_ne!(usize::from(frame[2]), side, "frame {serial} goes back where it came from");
            assert!(self.delivered.insert(serial), "frame {serial} comes twice");
            let before = self.last.insert((frame[3], frame[2], frame[1]), serial);
            assert!(before.is_none_or(|before| before < serial), "frame {serial} comes before its turn");
        }
        frames.len()
    }

    /// Every chunk is in exactly one pool, ring or queue between workers: tokens are in nobody's hand between turns.
    fn check_chunks(&self) {
        let ports = || self.lines.iter().flat_map(|line| line.ports());
        let first = &self.lines[0].ports()[0];
        let held: usize = ports().map(MemoryPort::held).sum();
        let mail: usize = self.lines.iter().map(Line::mail).sum();
        assert_eq!(held + mail + first.deposited(), first.chunks(), "{mail} between workers");
    }

    /// Lets everything out, then compares what came out or was dropped for a reason with what went in.
    fn settle(mut self) {
        self.stalled.clear();
        loop {
            let mut moved = 0;
            for worker in 0..self.lines.len() {
                moved += self.turn(worker);
                moved += self.take(worker, 0, usize::MAX) + self.take(worker, 1, usize::MAX);
            }
            self.check_chunks();
            if moved == 0 {
                break;
            }
        }
        let (mut dropped, mut transmitted) = (0, 0);
        for line in &self.lines {
            let fates = line.fates();
            let lost = fates.ring_full.iter().chain(&fates.too_long).chain(&fates.handover_full);
            dropped += lost.map(|tally| tally.packets).sum::<u64>() + line.judge().denied;
            transmitted += fates.transmitted.iter().map(|tally| tally.packets).sum::<u64>();
        }
        assert_eq!(transmitted, self.delivered.len() as u64);
        assert_eq!(dropped + transmitted, u64::from(self.injected), "every frame has one fate");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Frames come in: worker, side, how many, for which owner.
    Inject(usize, usize, usize, u8),
    /// Frames come in that are denied.
    InjectDenied(usize, usize, usize),
    Turn(usize),
    Take(usize, usize, usize),
    Stall(usize, usize),
    Resume(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, side) = (0..3usize, 0..2usize);
    prop_oneof![
        4 => (worker.clone(), side.clone(), 1..100usize, 0..3u8).prop_map(|(w, s, n, o)| Step::Inject(w, s, n, o)),
        1 => (worker.clone(), side.clone(), 1..100usize).prop_map(|(w, s, n)| Step::InjectDenied(w, s, n)),
        8 => worker.clone().prop_map(Step::Turn),
        4 => (worker.clone(), side.clone(), 1..100usize).prop_map(|(w, s, n)| Step::Take(w, s, n)),
        1 => (worker.clone(), side.clone()).prop_map(|(w, s)| Step::Stall(w, s)),
        1 => (worker, side).prop_map(|(w, s)| Step::Resume(w, s)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_whatever_order_every_chunk_and_every_frame_is_accounted_for(
        workers in 1..=3usize,
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let mut bench = Bench::new(workers);
        for step in steps {
            match step {
                Step::Inject(w, side, count, owner) => (0..count).for_each(|_| bench.inject(w % workers, side, true, owner)),
                Step::InjectDenied(w, side, count) => (0..count).for_each(|_| bench.inject(w % workers, side, false, 0)),
                Step::Turn(w) => drop(bench.turn(w % workers)),
                Step::Take(w, side, most) => drop(bench.take(w % workers, side, most)),
                Step::Stall(w, side) => drop(bench.stalled.insert((w % workers, side))),
                Step::Resume(w, side) => drop(bench.stalled.remove(&(w % workers, side))),
            }
            bench.check_chunks();
        }
        bench.settle();
    }
}

#[test]
fn a_port_that_sends_nothing_for_ever_does_not_stop_the_other_direction() {
    const ROUNDS: usize = 1000;
    const EACH: usize = 16;
    for workers in 1..=3 {
        let mut bench = Bench::new(workers);
        // The downlink of worker 0 stands still.
        bench.stalled.insert((0, 1));
        for _ in 0..ROUNDS {
            for worker in 0..workers {
                for side in 0..2 {
                    let before = bench.injected;
                    (0..EACH).for_each(|_| bench.inject(worker, side, true, worker as u8));
                    assert_eq!(bench.injected - before, EACH as u32, "there is always a chunk to receive into");
                }
                bench.turn(worker);
                let [up, down] = [0, 1].map(|side| bench.take(worker, side, usize::MAX));
                assert_eq!((up, down), (EACH, if worker == 0 { 0 } else { EACH }), "worker {worker}");
            }
            bench.check_chunks();
        }
        let fates = *bench.lines[0].fates();
        let (all, slots) = ((ROUNDS * EACH) as u64, SLOTS as u64);
        assert_eq!(fates.transmitted.map(|tally| tally.packets), [slots, all], "a ring full, and all the others");
        assert_eq!(fates.ring_full.map(|tally| tally.packets), [all - slots, 0], "`tx-ring-full`");
        bench.settle();
    }
}

#[test]
fn a_worker_that_sleeps_for_ever_costs_only_its_own_frames() {
    let mut bench = Bench::new(2);
    for _ in 0..100 {
        // Every second frame belongs to worker 1, which never takes a turn.
        (0..16).for_each(|n| bench.inject(0, 0, true, n % 2));
        bench.turn(0);
        assert_eq!(bench.take(0, 1, usize::MAX), 8);
        bench.check_chunks();
    }
    let fates = *bench.lines[0].fates();
    assert_eq!((fates.handed_over, fates.handover_full[0].packets), (SLOTS as u64, 800 - SLOTS as u64));
    bench.settle();
}
