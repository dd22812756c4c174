//! Chunk size and number in, the one UMEM out that all queues of both ports share, and the depot that balances their pools.

#![allow(unsafe_code)]

use std::num::NonZeroU32;
use std::slice;

use xsk_rs::Umem;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::umem::frame::FrameDesc;

use crate::base::prefetch::prefetch;
use crate::io::error::OpenError;
use crate::io::frame::Frame;
use crate::io::ledger::{Holder, Ledger};
use crate::io::pool::{Depot, MAGAZINE, depot};

/// The memory that frames live in.
///
/// ```text
///  chunk n:  | headroom of the XDP program, 256 | frame ... | unused |
///            ^ n * frame_size                   ^ address            ^ (n + 1) * frame_size
/// ```
/// INVARIANT: each chunk is held by exactly one of: the pool of a queue, the depot, a receive side (fill ring, kernel, receive
/// ring), a transmit side (transmit ring, kernel, completion ring), or a [`Frame`] token. Debug builds check every change.
pub struct Region {
    umem: Umem,
    /// How a chunk is described to the kernel, by its number.
    descriptors: Box<[Described]>,
    shift: u32,
    /// First byte of the region, as an address whose provenance was exposed.
    base: usize,
    depot: Depot,
    ledger: Ledger,
    /// Whether it lies on huge pages.
    is_huge: bool,
}

/// A chunk's description within one cache line: the table is larger than what stays in a near cache from one frame to the next, so
/// that each line of it is fetched ahead.
#[repr(align(32))]
struct Described(FrameDesc);

const _: () = assert!(size_of::<Described>() == 32);

/// Bytes of a chunk that the kernel keeps before the frame.
pub const HEADROOM: u32 = 256;

impl Region {
    /// Takes the memory, on huge pages if asked to and there are any.
    ///
    /// # Errors
    /// What the kernel says, the memory lock limit above all.
    pub fn new(frame_size: u32, frames: u32, ring: u32, transmit: u32, huge_pages: bool) -> Result<Region, OpenError> {
        let setting = |what, value: u32| OpenError::Setting {
            what,
            value: value.into(),
            expected: "expected a power of two, a chunk of 2048 or 4096".into(),
        };
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(frame_size).map_err(|_| setting("frame_size", frame_size))?)
            .fill_queue_size(QueueSize::new(2 * ring).map_err(|_| setting("receive ring", ring))?)
            .comp_queue_size(QueueSize::new(transmit).map_err(|_| setting("transmit ring", transmit))?)
            .build()
            .map_err(|_| setting("frame_size", frame_size))?;
        let number = NonZeroU32::new(frames).ok_or_else(|| setting("frame_count", frames))?;
        let (made, is_huge) = match huge_pages.then(|| Umem::new(config, number, true)) {
            Some(Ok(made)) => (Ok(made), true),
            _ => (Umem::new(config, number, false), false),
        };
        let (umem, mut descriptors) = made.map_err(|error| refusal(&error))?;
        let base = Region::expose(&umem, &mut descriptors);
        Ok(Region {
            umem,
            shift: frame_size.trailing_zeros(),
            base,
            depot: depot(descriptors.len()),
            ledger: Ledger::new(descriptors.len()),
            descriptors: descriptors.into_iter().map(Described).collect(),
            is_huge,
        })
    }

    /// Makes every chunk reachable by number and returns where the region begins.
    fn expose(umem: &Umem, descriptors: &mut [FrameDesc]) -> usize {
        let mut base = 0;
        for descriptor in descriptors {
            let offset = descriptor.addr();
            // SAFETY: the descriptor is one of those made with this UMEM, and the kernel has not been given any chunk yet.
            let mut data = unsafe { umem.data_mut(descriptor) };
            data.cursor().set_pos(usize::MAX);
            base = data.contents_mut().as_mut_ptr().expose_provenance().wrapping_sub(offset);
            data.cursor().set_pos(0);
        }
        base
    }

    /// Chunks in the region.
    pub fn chunks(&self) -> u32 {
        self.descriptors.len() as u32
    }

    /// Whether the region lies on huge pages.
    pub fn is_huge(&self) -> bool {
        self.is_huge
    }

    pub(super) fn umem(&self) -> &Umem {
        &self.umem
    }

    /// The chunk that an offset lies in, if there is one: offsets come from the kernel.
    #[inline]
    pub(super) fn chunk_of(&self, address: usize) -> Option<u32> {
        let chunk = address >> self.shift;
        (chunk < self.descriptors.len()).then_some(chunk as u32)
    }

    /// How to name an empty chunk to the kernel; `None` for a number that is no chunk.
    #[inline]
    pub(super) fn empty(&self, chunk: u32) -> Option<FrameDesc> {
        self.descriptors.get(chunk as usize).map(|described| described.0)
    }

    /// The frame that the kernel says it has received, if it lies within one chunk, behind the headroom.
    #[inline]
    pub(super) fn admit(&self, descriptor: &FrameDesc) -> Option<Frame> {
        let (address, length) = (descriptor.addr(), descriptor.lengths().data());
        let chunk = chunk_holding(address, length, self.shift, self.descriptors.len())?;
        self.ledger.pass(chunk, Holder::Receive, Holder::Hand);
        // Transmitting will ask for it.
        if let Some(described) = self.descriptors.get(chunk as usize) {
            prefetch(described);
        }
        Some(Frame::new(address as u64, length as u32))
    }

    /// A chunk of a pool as a frame of this many bytes; `None` if they do not fit it.
    #[inline]
    pub(super) fn blank(&self, chunk: u32, length: usize) -> Option<Frame> {
        let address = self.empty(chunk)?.addr();
        chunk_holding(address, length, self.shift, self.descriptors.len())?;
        self.ledger.pass(chunk, Holder::Pool, Holder::Hand);
        Some(Frame::new(address as u64, length as u32))
    }

    /// How to name a frame to the kernel for transmission; its chunk, too.
    #[inline]
    pub(super) fn describe(&self, frame: Frame) -> Option<(u32, FrameDesc)> {
        let chunk = self.chunk_of(frame.address as usize)?;
        let mut descriptor = self.empty(chunk)?;
        debug_assert_eq!(descriptor.addr() as u64, frame.address, "no XDP program of ours moves the start of a frame");
        // SAFETY: the chunk belongs to this UMEM, and the token, taken by value, was the only way to its bytes.
        unsafe { self.umem.data_mut(&mut descriptor) }.cursor().set_pos(frame.len());
        Some((chunk, descriptor))
    }

    /// Whether all bytes of a frame lie in this region.
    #[inline]
    fn holds(&self, frame: &Frame) -> bool {
        let end = (self.descriptors.len() as u64) << self.shift;
        frame.address.checked_add(frame.len() as u64).is_some_and(|last| last <= end)
    }

    /// The bytes of a frame; none if it is of another region.
    #[inline]
    pub(super) fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        if !self.holds(frame) {
            return &[];
        }
        let start = std::ptr::with_exposed_provenance::<u8>(self.base + frame.address as usize);
        // SAFETY: the range lies in the region (checked above), which lives as long as `self`; the token proves that neither
        // kernel nor any other thread holds the chunk, and is borrowed, so nobody writes it meanwhile.
        unsafe { slice::from_raw_parts(start, frame.len()) }
    }

    /// The bytes of a frame, to change them in place; none if it is of another region.
    #[inline]
    pub(super) fn bytes_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        if !self.holds(frame) {
            return &mut [];
        }
        let start = std::ptr::with_exposed_provenance_mut::<u8>(self.base + frame.address as usize);
        // SAFETY: as in `bytes`; the token is borrowed exclusively, so this is the only reference to these bytes.
        unsafe { slice::from_raw_parts_mut(start, frame.len()) }
    }

    /// Notes that a chunk changes hands; free of cost in release builds.
    #[inline]
    pub(super) fn pass(&self, chunk: u32, from: Holder, to: Holder) {
        self.ledger.pass(chunk, from, to);
    }

    pub(super) fn depot(&self) -> Depot {
        Depot::clone(&self.depot)
    }

    /// Free chunks in the depot.
    pub fn deposited(&self) -> u64 {
        (self.depot.len() * MAGAZINE) as u64
    }
}

/// The chunk that these bytes lie in, behind its headroom; `None` if they leave it or there is no such chunk. Chunks have
/// `1 << shift` bytes.
#[inline]
fn chunk_holding(address: usize, length: usize, shift: u32, chunks: usize) -> Option<u32> {
    let chunk = address >> shift;
    let within = address & ((1 << shift) - 1);
    let fits = within >= HEADROOM as usize && length <= (1 << shift) - within;
    (chunk < chunks && fits).then_some(chunk as u32)
}

fn refusal(error: &xsk_rs::umem::UmemCreateError) -> OpenError {
    let source = super::cause(error);
    match source.raw_os_error() {
        Some(libc::EPERM) => OpenError::Privilege {
            action: "an AF_XDP socket",
            interface: "any interface".into(),
            capabilities: "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF",
        },
        Some(libc::EAFNOSUPPORT) => OpenError::Feature {
            feature: "AF_XDP",
            interface: None,
            source,
            cure: "use a kernel built with CONFIG_XDP_SOCKETS=y",
        },
        Some(libc::ENOBUFS) => OpenError::Feature {
            feature: "lockable memory for the frames",
            interface: None,
            source,
            cure: "raise `ulimit -l` (LimitMEMLOCK=infinity) or run with CAP_IPC_LOCK",
        },
        Some(libc::ENOMEM) => OpenError::Feature {
            feature: "memory for the frames",
            interface: None,
            source,
            cure: "lower `frame_count` or the ring sizes",
        },
        _ => OpenError::System { action: "register the frame memory".into(), interface: None, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_of_the_kernel_is_taken_only_if_it_lies_within_one_chunk() {
        let check = |address, length, expected| {
            assert_eq!(chunk_holding(address, length, 11, 4), expected, "{address} {length}");
        };
        check(256, 60, Some(0));
        check(256, 1792, Some(0));
        check(256, 1793, None);
        check(255, 60, None);
        check(2047, 1, Some(0));
        check(2047, 2, None);
        check(2048 + 256, 0, Some(1));
        check(3 * 2048 + 256, 1792, Some(3));
        check(4 * 2048 + 256, 60, None);
        check(usize::MAX, 1, None);
        check(usize::MAX - 1000, usize::MAX, None);
        check(256, usize::MAX, None);
    }
}
