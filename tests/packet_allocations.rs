//! Frames through the parser, the checksum and the capture port in, allocations out: none (the packet line takes its memory at
//! start).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;

use ringwall::base::address::Direction;
use ringwall::io::pcap::{Capture, CapturePort, Merge, Reading};
use ringwall::io::{Frames, Port};
use ringwall::packet::{Key, Options, PacketSpec, Tuple, build, complete_partial, parse};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting by thread.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    run();
    ALLOCATIONS.with(Cell::get) - before
}

/// One frame of each kind that takes another way through the parser.
fn frames() -> Vec<Vec<u8>> {
    let spec = |src: &str, dst: &str, protocol| PacketSpec::new(src.parse().unwrap(), dst.parse().unwrap(), protocol);
    let mut specs = Vec::new();
    for protocol in [1, 6, 17, 58, 112, 132, 136] {
        specs.push(spec("1.1.1.1", "2.2.2.2", protocol));
        specs.push(PacketSpec { vlan: vec![1, 2], len: 100, ..spec("::1", "::2", protocol) });
    }
    let quote = Some(Box::new(spec("2.2.2.2", "1.1.1.1", 6)));
    specs.push(PacketSpec { icmp_type: 3, quote, ..spec("1.1.1.1", "2.2.2.2", 1) });
    specs.push(PacketSpec { ethertype: Some(0x0806), ..spec("::", "::", 0) });
    let mut frames: Vec<_> = specs.iter().map(build).collect();
    frames.push(vec![0; 13]);
    frames
}

#[test]
fn parsing_and_completing_allocate_nothing() {
    let options = Options { verify_l4_checksum: true, ..Options::default() };
    let mut frames = frames();
    let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
    let count = allocations(|| {
        for frame in &mut frames {
            parse(frame, Direction::Inbound, &options, &mut key, &mut quote);
            complete_partial(frame);
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn replaying_a_capture_allocates_nothing_after_the_start() {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for frame in frames().iter().cycle().take(30_000) {
        file.extend([0; 8]);
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(frame);
    }
    // Packing the parcels counts where it is done on this thread.
    for reading in [Reading::Between, Reading::Beside] {
        let capture = Capture::from_reader("x.pcap", Cursor::new(file.clone())).unwrap();
        let [mut port, _beside] = CapturePort::pair(Merge::new(vec![(capture, Direction::Inbound)]), None, reading);
        let mut frames = Frames::new();
        let mut total = 0;
        let count = allocations(|| {
            while !port.is_finished() {
                total += port.receive(&mut frames);
                while let Some(frame) = frames.pop() {
                    port.recycle(frame);
                }
            }
        });
        assert_eq!((total, count), (30_000, 0), "{reading:?}");
    }
}
