//! Frames through the whole packet line between in-memory ports in, not one allocation out.
//!
//! The allocator of this test counts per thread, so that the harness does not disturb.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use std::sync::Arc;

use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::site::Site;
use ringwall::base::time::Now;
use ringwall::compile::{self, compile};
use ringwall::engine::{FlowSettings, Reason, Settings, Verdict};
use ringwall::io::memory::memory;
use ringwall::packet;
use ringwall::policy::ir::Policy;
use ringwall::worker::{EngineJudge, Judge, Line, Load, NoTap, PassAll};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is being torn down counts no more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A UDP datagram from and to addresses that the number gives.
fn frame(number: u32) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
    frame[26..30].copy_from_slice(&[10, 1, (number >> 8) as u8, number as u8]);
    frame[30..34].copy_from_slice(&[10, 2, (number >> 8) as u8, number as u8]);
    frame[34..38].copy_from_slice(&[4, 0, 0, 53]);
    frame[38..40].copy_from_slice(&26u16.to_be_bytes());
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!folded as u16).to_be_bytes());
    frame
}

fn check<J: Judge>(name: &str, judge: J, expected: impl Fn(&Line<ringwall::io::memory::MemoryPort, J>) -> bool) {
    let mut ports = memory(2, 256, 2048);
    let ((down, mut inside), (up, mut outside)) = (ports.pop().unwrap(), ports.pop().unwrap());
    let mut line = Line::new(up, down, judge);
    let frames: Vec<[u8; 60]> = (0..4096).map(frame).collect();
    let before = ALLOCATIONS.get();
    for round in 0..2_000usize {
        for number in 0..1 + round % 64 {
            let frame = &frames[(round * 31 + number) % frames.len()];
            assert!(outside.inject(frame) && inside.inject(frame));
        }
        line.turn(Now(round as u64 * 1_000_000), &mut NoTap);
        inside.drain();
        outside.drain();
    }
    let allocations = ALLOCATIONS.get() - before;
    assert_eq!(allocations, 0, "{name}");
    assert!(expected(&line), "{name}: {:?}", line.fates());
}

#[test]
fn the_loop_and_its_rings_never_allocate() {
    check("pass all", PassAll::default(), |line| line.fates().transmitted.iter().all(|tally| tally.packets > 60_000));
}

#[test]
fn the_engine_never_allocates_for_new_flows_known_flows_and_expiry() {
    let program = compile(&Policy::default(), &Site::default(), &compile::Options::default(), &mut Diagnostics::new());
    let load = Arc::new(Load { program: Arc::new(program.unwrap()), options: packet::Options::default() });
    // 4,096 datagrams each way are 2,048 flows of 30 s; a round is 1 ms of time, so that flows expire and come again.
    let flows = FlowSettings { capacity: 1024, ..FlowSettings::default() };
    let judge = EngineJudge::new(load, &Settings { flows, ..Settings::default() });
    check("engine", judge, |line| {
        let counters = line.judge().counters();
        [
            (Verdict::Allow, Reason::DefaultAllow),
            (Verdict::Allow, Reason::Established),
            (Verdict::Deny, Reason::FlowTableFull),
        ]
        .iter()
        .all(|(verdict, reason)| counters.total(*verdict, *reason).packets > 100)
    });
}
