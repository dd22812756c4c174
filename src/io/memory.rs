//! Bytes injected at a wire in, frames of in-memory ports out, and back: the rings of AF_XDP without a kernel.
//!
//! Tests, benchmarks and `explain` drive the packet line through these. Each port has the four rings of a socket; its [`Wire`]
//! plays the kernel and the peer. Ports of one [`memory`] share one region, so that frames may go from any to any.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use memmap2::{Advice, MmapMut, MmapOptions};

use super::frame::{BURST, Frame, Frames};
use super::ledger::{Holder, Ledger};
use super::pool::{Depot, MAGAZINE, POOL, Pool, depot};
use super::port::Port;
use crate::base::time::Now;

/// Size and alignment of a huge page (x86-64 and ARM64 with 4 KiB pages).
const HUGE: usize = 2 << 20;

/// Stands where a frame has no time of its own.
const NO_TIME: u64 = u64::MAX;

/// The memory that frames live in, in chunks of one size.
///
/// INVARIANT: each chunk is held by exactly one of: a pool, the depot, a ring, a [`Frame`] token, or a wire during one call. Debug
/// builds check every change.
struct Region {
    /// Owns the bytes; touched only through `first`.
    _map: MmapMut,
    /// The first chunk, at the beginning of a huge page.
    first: NonNull<u8>,
    chunks: usize,
    /// Bytes from one chunk to the next: an odd number of cache lines, so that frames spread over all sets of a cache.
    stride: usize,
    /// When the frame in a chunk was captured, or [`NO_TIME`].
    times: Box<[AtomicU64]>,
    /// Whether any frame ever had a time of its own.
    has_times: AtomicBool,
    frame_size: usize,
    depot: Depot,
    ledger: Ledger,
}

// SAFETY: bytes of a chunk are touched only by who holds it (INVARIANT of Region), and chunks change threads only through rings
// and queues, which order memory.
unsafe impl Sync for Region {}
// SAFETY: the pointer goes into the mapping that the region owns and takes along.
unsafe impl Send for Region {}

impl Region {
    /// A region of so many chunks, on huge pages where there are any.
    fn new(chunks: usize, frame_size: usize) -> io::Result<Region> {
        let stride = (frame_size.div_ceil(64) | 1) * 64;
        let length = chunks * stride;
        let mut map = MmapOptions::new().len(length + HUGE).map_anon()?;
        let skip = (map.as_ptr() as usize).wrapping_neg() % HUGE;
        // Without huge pages it works as well.
        let _ = map.advise_range(Advice::HugePage, skip, length);
        let first = map.get_mut(skip..).and_then(|bytes| NonNull::new(bytes.as_mut_ptr()));
        Ok(Region {
            _map: map,
            first: first.ok_or(io::ErrorKind::OutOfMemory)?,
            chunks,
            stride,
            times: (0..chunks).map(|_| AtomicU64::new(NO_TIME)).collect(),
            has_times: AtomicBool::new(false),
            frame_size,
            depot: depot(chunks),
            ledger: Ledger::new(chunks),
        })
    }

    /// Where the bytes of a frame begin, if they lie within one chunk; the address of a frame is the number of its chunk.
    #[inline]
    fn start(&self, frame: &Frame) -> Option<*mut u8> {
        let chunk = usize::try_from(frame.address).ok()?;
        if chunk >= self.chunks || frame.len() > self.stride {
            return None;
        }
        // SAFETY: chunk * stride < chunks * stride, which is the length of the mapping behind `first`.
        Some(unsafe { self.first.as_ptr().add(chunk * self.stride) })
    }

    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        let Some(start) = self.start(frame) else { return &[] };
        // SAFETY: `start` has checked the range; the borrowed token proves that nobody else touches these bytes.
        unsafe { slice::from_raw_parts(start, frame.len()) }
    }

    fn bytes_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        let Some(start) = self.start(frame) else { return &mut [] };
        // SAFETY: as in `bytes`, and the token is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(start, frame.len()) }
    }

    fn chunk(frame: &Frame) -> u32 {
        frame.address as u32
    }

    fn frame(chunk: u32, length: usize) -> Frame {
        Frame::new(chunk.into(), length as u32)
    }
}

/// A ring for one producer and one consumer, after the kernel's: entries are written first and published together.
///
/// Positions run freely and wrap; their difference is the number of entries, in [0, slots].
struct Ring {
    slots: Box<[AtomicU64]>,
    produced: CachePadded<AtomicU32>,
    consumed: CachePadded<AtomicU32>,
}

impl Ring {
    fn new(slots: usize) -> Arc<Ring> {
        Arc::new(Ring {
            slots: (0..slots.next_power_of_two()).map(|_| AtomicU64::new(0)).collect(),
            produced: CachePadded::new(AtomicU32::new(0)),
            consumed: CachePadded::new(AtomicU32::new(0)),
        })
    }

    fn slot(&self, position: u32) -> &AtomicU64 {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    fn len(&self) -> usize {
        self.produced.load(Ordering::Acquire).wrapping_sub(self.consumed.load(Ordering::Acquire)) as usize
    }
}

/// The producing end of a ring.
struct Producer {
    ring: Arc<Ring>,
    /// Where the next entry goes; entries before it and after `produced` are not published yet.
    next: u32,
    /// Last seen position of the consumer.
    consumed: u32,
}

impl Producer {
    fn new(ring: &Arc<Ring>) -> Producer {
        Producer { ring: Arc::clone(ring), next: 0, consumed: 0 }
    }

    fn has_room(&mut self) -> bool {
        let slots = self.ring.slots.len() as u32;
        if self.next.wrapping_sub(self.consumed) < slots {
            return true;
        }
        self.consumed = self.ring.consumed.load(Ordering::Acquire);
        self.next.wrapping_sub(self.consumed) < slots
    }

    /// Whether there was room for so many entries when it was looked at last.
    fn has_rooms(&self, count: usize) -> bool {
        self.next.wrapping_sub(self.consumed) as usize + count <= self.ring.slots.len()
    }

    /// Entries that there is room for.
    fn room(&mut self) -> usize {
        self.consumed = self.ring.consumed.load(Ordering::Acquire);
        self.ring.slots.len() - self.next.wrapping_sub(self.consumed) as usize
    }

    /// Adds an entry where there is room.
    fn write(&mut self, entry: u64) {
        self.ring.slot(self.next).store(entry, Ordering::Relaxed);
        self.next = self.next.wrapping_add(1);
    }

    fn push(&mut self, entry: u64) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.write(entry);
        }
        has_room
    }

    fn publish(&mut self) {
        self.ring.produced.store(self.next, Ordering::Release);
    }
}

/// The consuming end of a ring.
struct Consumer {
    ring: Arc<Ring>,
    next: u32,
    /// Last seen position of the producer.
    produced: u32,
}

impl Consumer {
    fn new(ring: &Arc<Ring>) -> Consumer {
        Consumer { ring: Arc::clone(ring), next: 0, produced: 0 }
    }

    fn pop(&mut self) -> Option<u64> {
        if self.next == self.produced {
            self.produced = self.ring.produced.load(Ordering::Acquire);
            if self.next == self.produced {
                return None;
            }
        }
        let entry = self.ring.slot(self.next).load(Ordering::Relaxed);
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Takes as many entries as there are, `most` at most; returns how many.
    fn take(&mut self, most: usize, mut each: impl FnMut(u64)) -> usize {
        if (self.produced.wrapping_sub(self.next) as usize) < most {
            self.produced = self.ring.produced.load(Ordering::Acquire);
        }
        let count = (self.produced.wrapping_sub(self.next) as usize).min(most);
        let slots = &*self.ring.slots;
        for position in 0..count as u32 {
            let place = self.next.wrapping_add(position) as usize & (slots.len() - 1);
            each(slots[place].load(Ordering::Relaxed));
        }
        self.next = self.next.wrapping_add(count as u32);
        count
    }

    /// Shows the producer what was taken. Nobody else writes there; what has not changed is not written.
    fn release(&mut self) {
        if self.ring.consumed.load(Ordering::Relaxed) != self.next {
            self.ring.consumed.store(self.next, Ordering::Release);
        }
    }
}

/// Chunk and length share an entry, so that both ends exchange one word.
fn pack(chunk: u32, length: usize) -> u64 {
    u64::from(chunk) << 32 | length as u64
}

fn unpack(entry: u64) -> (u32, usize) {
    ((entry >> 32) as u32, (entry & 0xffff_ffff) as usize)
}

/// One in-memory queue of one port.
pub struct MemoryPort {
    region: Arc<Region>,
    fill: Producer,
    receive: Consumer,
    transmit: Producer,
    completion: Consumer,
    pool: Pool,
    longest: usize,
    /// Most frames that one call receives.
    most: usize,
}

/// The far end of an in-memory port: what it injects the port receives, what the port transmits it takes.
pub struct Wire {
    region: Arc<Region>,
    fill: Consumer,
    receive: Producer,
    transmit: Consumer,
    completion: Producer,
}

/// A port and its far end.
pub type Plugged = (MemoryPort, Wire);

/// This many in-memory ports over one region, with rings of this many slots (rounded up to a power of two) and chunks for
/// frames of up to `frame_size` bytes.
pub fn memory(ports: usize, slots: usize, frame_size: usize) -> Vec<Plugged> {
    let slots = slots.max(BURST).next_power_of_two();
    let each = 4 * slots + POOL + 2 * BURST;
    let chunks = ports * each;
    // There is no answer to a lack of memory here; a vector would not give one either.
    let region = Arc::new(Region::new(chunks, frame_size).expect("memory for the frames"));
    let plug = |position: usize| {
        let [fill, receive, transmit, completion] = [slots, slots, slots, slots].map(Ring::new);
        let first = (position * each) as u32;
        let mut port = MemoryPort {
            region: Arc::clone(&region),
            fill: Producer::new(&fill),
            receive: Consumer::new(&receive),
            transmit: Producer::new(&transmit),
            completion: Consumer::new(&completion),
            pool: Pool::new(first..first + each as u32, Depot::clone(&region.depot)),
            longest: frame_size,
            most: BURST,
        };
        port.refill();
        port.pool.spill();
        let wire = Wire {
            region: Arc::clone(&region),
            fill: Consumer::new(&fill),
            receive: Producer::new(&receive),
            transmit: Consumer::new(&transmit),
            completion: Producer::new(&completion),
        };
        (port, wire)
    };
    (0..ports).map(plug).collect()
}

impl MemoryPort {
    /// Fills the fill ring up: with chunks that come back from the transmit ring, then with those of the pool.
    fn refill(&mut self) {
        let room = self.fill.room();
        let (fill, ledger) = (&mut self.fill, &self.region.ledger);
        let mut left = room
            - self.completion.take(room, |entry| {
                let (chunk, _) = unpack(entry);
                ledger.pass(chunk, Holder::Transmit, Holder::Receive);
                fill.write(pack(chunk, 0));
            });
        while left > 0 {
            let Some(chunk) = self.pool.take() else { break };
            ledger.pass(chunk, Holder::Pool, Holder::Receive);
            fill.write(pack(chunk, 0));
            left -= 1;
        }
        if left < room {
            fill.publish();
        }
        self.reclaim();
    }

    /// Takes chunks that come back from the transmit ring into the pool.
    fn reclaim(&mut self) {
        let (pool, ledger) = (&mut self.pool, &self.region.ledger);
        self.completion.take(usize::MAX, |entry| {
            let (chunk, _) = unpack(entry);
            ledger.pass(chunk, Holder::Transmit, Holder::Pool);
            pool.put(chunk);
        });
        self.completion.release();
    }

    /// The same port for frames of at most this many bytes.
    pub fn limited(mut self, longest: usize) -> MemoryPort {
        self.longest = longest;
        self
    }

    /// The same port, receiving at most this many frames at a time.
    pub fn in_bursts(mut self, most: usize) -> MemoryPort {
        self.most = most;
        self
    }

    /// Chunks in the pool and the rings of this port, seen from this end; wires must rest meanwhile.
    pub fn held(&self) -> usize {
        let rings = [&self.fill.ring, &self.receive.ring, &self.transmit.ring, &self.completion.ring];
        self.pool.len() + rings.iter().map(|ring| ring.len()).sum::<usize>()
    }

    /// Chunks in the depot that all ports of the region share.
    pub fn deposited(&self) -> usize {
        self.region.depot.len() * MAGAZINE
    }

    /// Chunks in the region.
    pub fn chunks(&self) -> usize {
        self.region.times.len()
    }
}

impl Port for MemoryPort {
    #[inline]
    fn receive(&mut self, into: &mut Frames) -> usize {
        self.refill();
        let (pool, ledger) = (&mut self.pool, &self.region.ledger);
        let count = self.receive.take(into.room().min(self.most), |entry| {
            let (chunk, length) = unpack(entry);
            ledger.pass(chunk, Holder::Receive, Holder::Hand);
            if into.push(Region::frame(chunk, length)).is_err() {
                ledger.pass(chunk, Holder::Hand, Holder::Pool);
                pool.put(chunk);
            }
        });
        self.receive.release();
        count
    }

    #[inline]
    fn captured(&self, frame: &Frame) -> Option<Now> {
        if !self.region.has_times.load(Ordering::Relaxed) {
            return None;
        }
        let time = self.region.times.get(Region::chunk(frame) as usize)?.load(Ordering::Relaxed);
        (time != NO_TIME).then_some(Now(time))
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.region.bytes(frame)
    }

    #[inline]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.region.bytes_mut(frame)
    }

    #[inline]
    fn blank(&mut self, length: usize) -> Option<Frame> {
        if length > self.region.frame_size {
            return None;
        }
        self.reclaim();
        let chunk = self.pool.take()?;
        self.region.ledger.pass(chunk, Holder::Pool, Holder::Hand);
        Some(Region::frame(chunk, length))
    }

    #[inline]
    fn transmit(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.transmit.push(pack(Region::chunk(&frame), frame.len())) {
            self.region.ledger.pass(Region::chunk(&frame), Holder::Hand, Holder::Transmit);
            return Ok(());
        }
        self.transmit.publish();
        Err(frame)
    }

    #[inline]
    fn transmit_run(&mut self, frames: &mut Frames, positions: Range<usize>) -> (usize, u64) {
        let room = if self.transmit.has_rooms(positions.len()) { positions.len() } else { self.transmit.room() };
        let (mut count, mut bytes) = (0, 0);
        for position in positions.take(room) {
            let Some(frame) = frames.get(position).filter(|frame| frame.len() <= self.longest) else { break };
            self.region.ledger.pass(Region::chunk(frame), Holder::Hand, Holder::Transmit);
            self.transmit.write(pack(Region::chunk(frame), frame.len()));
            bytes += frame.len() as u64;
            count += 1;
            let _in_the_ring = frames.take(position);
        }
        (count, bytes)
    }

    #[inline]
    fn recycle(&mut self, frame: Frame) {
        self.region.ledger.pass(Region::chunk(&frame), Holder::Hand, Holder::Pool);
        self.pool.put(Region::chunk(&frame));
    }

    #[inline]
    fn flush(&mut self) {
        self.transmit.publish();
    }

    #[inline]
    fn longest(&self) -> usize {
        self.longest
    }
}

impl Wire {
    /// Lets the port receive these bytes; false if they are too long, or if the port has no room or chunk for them now.
    pub fn inject(&mut self, bytes: &[u8]) -> bool {
        self.place(bytes, NO_TIME)
    }

    /// The same with the time at which the frame was captured.
    pub fn inject_at(&mut self, bytes: &[u8], time: Now) -> bool {
        self.region.has_times.store(true, Ordering::Relaxed);
        self.place(bytes, time.0)
    }

    fn place(&mut self, bytes: &[u8], time: u64) -> bool {
        if bytes.len() > self.region.frame_size || !self.receive.has_room() {
            return false;
        }
        let Some(entry) = self.fill.pop() else { return false };
        self.fill.release();
        let chunk = unpack(entry).0;
        let mut frame = Region::frame(chunk, bytes.len());
        self.region.bytes_mut(&mut frame).copy_from_slice(bytes);
        self.region.times[chunk as usize].store(time, Ordering::Relaxed);
        self.receive.push(pack(chunk, bytes.len()));
        self.receive.publish();
        true
    }

    /// Shows the next frame that the port transmitted and takes it off; `None` = there is none.
    pub fn take_with<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        if !self.completion.has_room() {
            return None;
        }
        let (chunk, length) = unpack(self.transmit.pop()?);
        let seen = look(self.region.bytes(&Region::frame(chunk, length)));
        self.transmit.release();
        self.completion.push(pack(chunk, 0));
        self.completion.publish();
        Some(seen)
    }

    /// The bytes of the next frame that the port transmitted; `None` = there is none.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.take_with(<[u8]>::to_vec)
    }

    /// Takes all frames off that the port transmitted, unseen; returns how many.
    pub fn drain(&mut self) -> usize {
        let mut count = 0;
        while self.completion.has_room() {
            let Some(entry) = self.transmit.pop() else { break };
            self.completion.push(entry);
            count += 1;
        }
        self.transmit.release();
        self.completion.publish();
        count
    }
}

#[cfg(test)]
mod tests;
