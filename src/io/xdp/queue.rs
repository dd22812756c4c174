//! One queue of one port: the four rings of an AF_XDP socket in, frames of the shared UMEM out.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use xsk_rs::umem::frame::FrameDesc;
use xsk_rs::{CompQueue, FillQueue, RxQueue, TxQueue};

use super::region::Region;
use crate::base::time::Now;
use crate::io::frame::{BURST, Frame, Frames};
use crate::io::ledger::Holder;
use crate::io::pool::Pool;
use crate::io::port::{Port, QueueFigures};

/// Most times that one flush wakes the kernel up: in copy mode it sends 32 frames per wake-up before Linux 6.17.
const WAKE_UPS: u32 = (BURST / 32 + 1) as u32;

/// Chunks that are given to the fill ring together: its ends lie in cache lines that another core reads for every frame. The
/// smallest fill ring has four times as many slots.
const REFILL: u32 = BURST as u32 / 2;

/// One queue of one port.
pub struct Queue {
    region: Arc<Region>,
    receive: RxQueue,
    transmit: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    pool: Pool,
    /// Room to exchange descriptors with the rings.
    scratch: [FrameDesc; BURST],
    /// Frames for the transmit ring, submitted together.
    staged: [FrameDesc; BURST],
    staged_len: usize,
    /// Slots of the transmit ring.
    transmit_slots: u32,
    /// Chunks on the receive side.
    receiving: u32,
    /// Chunks taken off the receive ring and not made up for in the fill ring yet.
    owed: u32,
    /// Chunks on the transmit side.
    transmitting: u32,
    /// Whether the kernel was woken up for a full transmit ring since the last flush.
    has_kicked: bool,
    /// Longest frame that the interface takes.
    longest: usize,
    /// Whether this end runs the device (busy polling).
    runs_device: bool,
    figures: QueueFigures,
}

impl Queue {
    /// A queue over a socket that was bound, with these chunks to start from, as many of them in the fill ring as it takes.
    pub(super) fn new(
        region: Arc<Region>,
        (transmit, receive, fill, completion): (TxQueue, RxQueue, FillQueue, CompQueue),
        chunks: impl Iterator<Item = u32>,
        transmit_slots: u32,
        longest: usize,
    ) -> Queue {
        let pool = Pool::new(chunks, region.depot());
        let mut queue = Queue {
            region,
            receive,
            transmit,
            fill,
            completion,
            pool,
            scratch: [FrameDesc::default(); BURST],
            staged: [FrameDesc::default(); BURST],
            staged_len: 0,
            transmit_slots,
            receiving: 0,
            owed: 0,
            transmitting: 0,
            has_kicked: false,
            longest,
            runs_device: false,
            figures: QueueFigures::default(),
        };
        while queue.refill() > 0 {}
        queue.pool.spill();
        queue
    }

    /// The socket's descriptor.
    pub(super) fn socket(&self) -> &impl AsRawFd {
        self.receive.fd()
    }

    /// Makes every look for frames run the device first.
    ///
    /// # Errors
    /// `ENOPROTOOPT` before Linux 5.11, `EPERM` without `CAP_NET_ADMIN`; interrupts run the device then.
    pub(super) fn prefer_busy_poll(&mut self, microseconds: u32, budget: u32) -> io::Result<()> {
        super::sys::prefer_busy_poll(self.receive.fd(), microseconds, budget)?;
        self.runs_device = true;
        Ok(())
    }

    /// Chunks in the pool and on both sides of the kernel.
    pub fn held(&self) -> u64 {
        u64::from(self.receiving) + u64::from(self.transmitting) + self.pool.len() as u64
    }

    /// Moves free chunks to the fill ring, a burst at most; returns how many.
    #[inline]
    fn refill(&mut self) -> usize {
        let room = (self.fill.nb_free(BURST as u32) as usize).min(BURST);
        if room == 0 {
            return 0;
        }
        let mut count = 0;
        for slot in &mut self.scratch[..room] {
            let Some(chunk) = self.pool.take() else { break };
            let Some(descriptor) = self.region.empty(chunk) else { continue };
            self.region.pass(chunk, Holder::Pool, Holder::Receive);
            *slot = descriptor;
            count += 1;
        }
        // SAFETY: every descriptor is of this region's UMEM, and its chunk comes from the pool, so nobody else holds it
        // (INVARIANT of Region).
        let given = unsafe { self.fill.produce(&self.scratch[..count]) };
        debug_assert_eq!(given, count, "the ring has told that it has room");
        self.receiving += given as u32;
        given
    }

    /// Takes chunks back whose frames were sent; returns how many.
    #[inline]
    fn reclaim(&mut self) -> usize {
        if self.transmitting == 0 {
            return 0;
        }
        // SAFETY: this completion ring belongs to the same UMEM as the scratch descriptors, which it only writes.
        let done = unsafe { self.completion.consume(&mut self.scratch) };
        for descriptor in &self.scratch[..done] {
            match self.region.chunk_of(descriptor.addr()) {
                Some(chunk) => {
                    self.region.pass(chunk, Holder::Transmit, Holder::Pool);
                    self.pool.put(chunk);
                }
                None => self.figures.bad_descriptors += 1,
            }
        }
        self.transmitting = self.transmitting.saturating_sub(done as u32);
        self.figures.chunks_returned += done as u64;
        done
    }

    /// Moves staged frames to the transmit ring.
    #[inline]
    fn submit(&mut self) {
        if self.staged_len == 0 {
            return;
        }
        // SAFETY: every staged descriptor is of this region's UMEM, and its token was taken by value, so nobody else holds
        // the chunk (INVARIANT of Region).
        let sent = unsafe { self.transmit.produce(&self.staged[..self.staged_len]) };
        debug_assert_eq!(sent, self.staged_len, "room was made sure of when each was staged");
        self.figures.frames_given += sent as u64;
        self.staged_len = 0;
    }

    /// Frames in the transmit ring that the kernel has not taken yet.
    #[inline]
    fn waiting(&mut self) -> u32 {
        let waiting = self.transmit_slots.saturating_sub(self.transmit.nb_free_exact());
        self.figures.frames_waiting = waiting.into();
        waiting
    }

    /// Wakes the kernel up to send, if it asks for that.
    #[inline]
    fn kick(&mut self) {
        if self.transmit.needs_wakeup() {
            self.figures.transmit_wake_ups += 1;
            // Errors are those of a device that cannot send now; the ring shows what is left, and the next flush tries again.
            if self.transmit.wakeup().is_err() {
                self.figures.transmit_errors += 1;
            }
        }
    }

    /// What the socket counts itself; zeros if it cannot be asked.
    pub fn figures(&self) -> QueueFigures {
        let mut figures = self.figures;
        figures.frames_waiting = if self.transmitting == 0 { 0 } else { self.figures.frames_waiting };
        if let Ok(kernel) = self.receive.fd().xdp_statistics() {
            figures.receive_dropped = kernel.rx_dropped();
            figures.receive_ring_full = kernel.rx_ring_full();
            figures.fill_ring_empty = kernel.rx_fill_ring_empty_descs();
            figures.invalid_fill_descriptors = kernel.rx_invalid_descs();
            figures.invalid_transmit_descriptors = kernel.tx_invalid_descs();
            figures.transmit_ring_empty = kernel.tx_ring_empty_descs();
        }
        figures
    }
}

impl Port for Queue {
    #[inline]
    fn receive(&mut self, into: &mut Frames) -> usize {
        while self.reclaim() == BURST {}
        if self.owed >= REFILL {
            self.owed = self.owed.saturating_sub(self.refill() as u32);
        }
        if self.runs_device {
            self.figures.device_polls += 1;
            super::sys::poll_device(self.descriptor_number());
        } else if self.fill.needs_wakeup() {
            self.figures.receive_wake_ups += 1;
            super::sys::wait([self.descriptor_number()], 0);
        }
        let wanted = into.room();
        // SAFETY: this receive ring belongs to the same UMEM as the scratch descriptors, which it only writes.
        let count = unsafe { self.receive.consume(&mut self.scratch[..wanted]) };
        self.receiving = self.receiving.saturating_sub(count as u32);
        self.owed += count as u32;
        for position in 0..count {
            let descriptor = self.scratch[position];
            match self.region.admit(&descriptor) {
                Some(frame) => {
                    if let Err(frame) = into.push(frame) {
                        self.recycle(frame);
                    }
                }
                None => {
                    self.figures.bad_descriptors += 1;
                    if let Some(chunk) = self.region.chunk_of(descriptor.addr()) {
                        self.region.pass(chunk, Holder::Receive, Holder::Pool);
                        self.pool.put(chunk);
                    }
                }
            }
        }
        count
    }

    #[inline]
    fn captured(&self, _: &Frame) -> Option<Now> {
        None
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
        if self.pool.len() == 0 {
            while self.reclaim() == BURST {}
        }
        let chunk = self.pool.take()?;
        let frame = self.region.blank(chunk, length);
        if frame.is_none() {
            self.pool.put(chunk);
        }
        frame
    }

    #[inline]
    fn transmit(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.staged_len == BURST {
            self.submit();
        }
        let wanted = self.staged_len as u32 + 1;
        if self.transmit.nb_free(wanted) < wanted {
            self.submit();
            if !self.has_kicked {
                self.has_kicked = true;
                self.kick();
            }
            while self.reclaim() == BURST {}
            if self.transmit.nb_free(1) < 1 {
                return Err(frame);
            }
        }
        let Some((chunk, descriptor)) = self.region.describe(frame) else {
            // Not a frame of this region: there is nothing to send and no chunk to lose.
            self.figures.bad_descriptors += 1;
            return Ok(());
        };
        self.region.pass(chunk, Holder::Hand, Holder::Transmit);
        self.staged[self.staged_len] = descriptor;
        self.staged_len += 1;
        self.transmitting += 1;
        Ok(())
    }

    #[inline]
    fn recycle(&mut self, frame: Frame) {
        match self.region.chunk_of(frame.address as usize) {
            Some(chunk) => {
                self.region.pass(chunk, Holder::Hand, Holder::Pool);
                self.pool.put(chunk);
            }
            None => self.figures.bad_descriptors += 1,
        }
    }

    #[inline]
    fn flush(&mut self) {
        self.has_kicked = false;
        self.submit();
        if self.transmitting == 0 {
            return;
        }
        let mut waiting = self.waiting();
        for _ in 0..WAKE_UPS {
            if waiting == 0 || !self.transmit.needs_wakeup() {
                return;
            }
            self.kick();
            let left = self.waiting();
            if left == waiting {
                // The device takes nothing now; the next flush tries again.
                return;
            }
            waiting = left;
        }
    }

    #[inline]
    fn is_sending(&mut self) -> bool {
        self.transmitting > 0 && self.waiting() > 0
    }

    #[inline]
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.descriptor_number())
    }

    #[inline]
    fn longest(&self) -> usize {
        self.longest
    }

    fn figures(&self) -> QueueFigures {
        Queue::figures(self)
    }
}

impl Queue {
    #[inline]
    fn descriptor_number(&self) -> RawFd {
        self.receive.fd().as_raw_fd()
    }
}
