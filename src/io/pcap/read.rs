//! One capture file in, its packets as Ethernet frames out, in the order of the file.
//!
//! The file is read in blocks and packets are handed out where they lie. Raw IP and cooked packets get their Ethernet
//! header written over the 14 bytes before the IP header, which belonged to the record header and are no longer needed.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::CaptureError;
use super::format::{Format, Item, LONGEST_BLOCK, Link, Packet, Problem};
use crate::base::time::Now;

/// Bytes of a block.
pub(super) const BLOCK: usize = 1 << 19;

/// Most bytes that are read at once: what was read last is still in the second-level cache when its packets are located.
const READ: usize = 1 << 18;

/// Most records that can lie in a block: each has a header of at least 16 bytes.
pub(super) const MOST_RECORDS: usize = BLOCK / 16;

/// Bytes kept free before the first record, so that an Ethernet header fits before the shortest record header.
const HEADROOM: usize = 16;

// INVARIANT: a block has room for every record that `Format` accepts, so a refill always makes progress.
const _: () = assert!(BLOCK - HEADROOM > LONGEST_BLOCK);

/// A packet of a capture, as an Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was captured, since the epoch.
    pub time: Now,
    /// The frame, as far as it was captured.
    pub bytes: &'a [u8],
    /// Length of the frame before the capture cut it.
    pub original_length: u32,
}

/// The place of a record in the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Located {
    /// When it was captured.
    pub time: Now,
    /// Offset of its first byte in the block.
    pub start: u32,
    /// Length in bytes.
    pub length: u32,
    /// Length before the capture cut it.
    pub original_length: u32,
}

/// What comes next in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A record.
    Record(Located),
    /// The rest of the block is no whole record.
    Refill,
    /// The file ended.
    End,
}

/// Why no more records were located.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The rest of the block is no whole record: [`Reader::carry`] it into the next one.
    Cut,
    /// The file ended.
    End,
}

/// An open capture file: pcap or pcapng, either byte order, any resolution.
pub struct Capture {
    reader: Reader,
    block: Vec<u8>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Reader { file, .. } = &self.reader;
        f.debug_struct("Capture").field("file", file).field("offset", &self.reader.position()).finish()
    }
}

impl Capture {
    /// Opens a file and reads its header. Errors: it cannot be read, is no capture, or its packets cannot be judged.
    pub fn open(path: &Path) -> Result<Capture, CaptureError> {
        let file = path.display().to_string();
        match File::open(path) {
            Ok(source) => Capture::from_reader(file, source),
            Err(source) => Err(CaptureError::Read { file, source }),
        }
    }

    /// Reads a capture from any stream; `file` names it in errors.
    pub fn from_reader(file: impl Into<String>, source: impl Read + Send + 'static) -> Result<Capture, CaptureError> {
        let reader = Reader {
            file: file.into(),
            source: Box::new(source),
            format: Format::Unseen,
            filled: HEADROOM,
            at: HEADROOM,
            skip: 0,
            offset: 0,
            item: 0,
            needs: (1, "file header"),
            is_at_end: false,
            is_failed: false,
            is_short: false,
        };
        let mut capture = Capture { reader, block: vec![0; BLOCK] };
        while matches!(capture.reader.format, Format::Unseen) {
            capture.reader.refill(&mut capture.block)?;
            capture.reader.look(&mut capture.block)?;
        }
        Ok(capture)
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        &self.reader.file
    }

    /// The next packet; `None` at the end of the file, and after an error. No allocation.
    #[allow(clippy::should_implement_trait)] // lends from the block, which `Iterator` cannot express
    pub fn next(&mut self) -> Option<Result<Record<'_>, CaptureError>> {
        match self.locate() {
            Ok(Some(located)) => Some(Ok(self.record(located))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// The place of the next packet. Records located before are gone.
    pub(super) fn locate(&mut self) -> Result<Option<Located>, CaptureError> {
        loop {
            match self.reader.step(&mut self.block)? {
                Step::Record(located) => return Ok(Some(located)),
                Step::Refill => self.reader.refill(&mut self.block)?,
                Step::End => return Ok(None),
            }
        }
    }

    /// The record at a place of the current block.
    #[inline]
    pub(super) fn record(&self, located: Located) -> Record<'_> {
        let Located { time, start, length, original_length } = located;
        let bytes = self.block.get(start as usize..start as usize + length as usize).unwrap_or(&[]);
        Record { time, bytes, original_length }
    }

    /// The file and its block, for whoever gives blocks away.
    pub(super) fn into_parts(self) -> (Reader, Vec<u8>) {
        (self.reader, self.block)
    }
}

/// An open file and what is known of the block that it is read into.
pub(super) struct Reader {
    file: String,
    source: Box<dyn Read + Send>,
    format: Format,
    /// Where the filled part of the block ends.
    filled: usize,
    /// Offset of the next record in the block.
    at: usize,
    /// Bytes still to be skipped that lie behind the block.
    skip: u64,
    /// Offset in the file of what lies behind the headroom.
    offset: u64,
    /// Offset in the file of the header, record or block looked at last.
    item: u64,
    /// What the next record would need; the name of what is cut if the file ends before.
    needs: (usize, &'static str),
    is_at_end: bool,
    is_failed: bool,
    /// The last read gave less than it might have.
    is_short: bool,
}

impl Reader {
    /// Locates all records that lie in the block as a whole, and hands out their places. After an error comes the end.
    #[inline]
    pub(super) fn locate_all(&mut self, block: &mut [u8], mut take: impl FnMut(Located)) -> Result<Stop, CaptureError> {
        loop {
            if !self.is_failed && self.skip == 0 {
                let filled = block.get(..self.filled).unwrap_or(&[]);
                self.format.locate_many(filled, &mut self.at, &mut take);
            }
            // The last record of a block, what is less frequent, and what is wrong.
            match self.step(block)? {
                Step::Record(located) => take(located),
                Step::Refill => return Ok(Stop::Cut),
                Step::End => return Ok(Stop::End),
            }
        }
    }

    /// What comes next, without moving what lies in the block.
    #[inline]
    fn step(&mut self, block: &mut [u8]) -> Result<Step, CaptureError> {
        if self.is_failed {
            return Ok(Step::End);
        }
        while self.skip == 0 {
            match self.look(block)? {
                Some(located) => return Ok(Step::Record(located)),
                None if self.skip == 0 && self.at + self.needs.0 > self.filled => break,
                None => {}
            }
        }
        // A file may end between records only.
        if self.is_at_end {
            return if self.at == self.filled && self.skip == 0 { Ok(Step::End) } else { Err(self.truncated()) };
        }
        Ok(Step::Refill)
    }

    /// Looks at the next item once: a packet, or a header that is noted and stepped over, or a need for more bytes.
    #[inline]
    fn look(&mut self, block: &mut [u8]) -> Result<Option<Located>, CaptureError> {
        self.item = self.position();
        let bytes = block.get(self.at..self.filled).unwrap_or(&[]);
        match self.format.next(bytes) {
            Ok(Item::Packet(packet, record)) => {
                let located = self.as_ethernet(block, packet);
                self.at += record;
                self.needs = (1, "record");
                Ok(Some(located))
            }
            Ok(Item::Skip(length)) => {
                let here = usize::try_from(length).map_or(self.filled - self.at, |n| n.min(self.filled - self.at));
                self.at += here;
                self.skip = length - here as u64;
                self.needs = (0, "block");
                Ok(None)
            }
            Ok(Item::Needs { length, what }) => {
                self.needs = (length, what);
                Ok(None)
            }
            Err(problem) => Err(self.failed(block, problem)),
        }
    }

    /// Moves the rest of the block to its front and reads on. Records located before are gone.
    fn refill(&mut self, block: &mut [u8]) -> Result<(), CaptureError> {
        block.copy_within(self.at..self.filled, HEADROOM);
        self.begin_block();
        self.read(block)
    }

    /// Begins the next block with the rest of this one, which is not needed any more. The next thing to do is [`Reader::read`].
    pub(super) fn carry(&mut self, block: &[u8], next: &mut [u8]) {
        let rest = block.get(self.at..self.filled).unwrap_or(&[]);
        if let Some(front) = next.get_mut(HEADROOM..HEADROOM + rest.len()) {
            front.copy_from_slice(rest);
        }
        self.begin_block();
    }

    /// Notes that the rest of the block before lies at the front.
    fn begin_block(&mut self) {
        self.offset = self.position();
        self.filled -= self.at - HEADROOM;
        self.at = HEADROOM;
    }

    /// Reads on behind what lies in the block.
    pub(super) fn read(&mut self, block: &mut [u8]) -> Result<(), CaptureError> {
        while !self.is_at_end && (self.filled < HEADROOM + self.needs.0.max(1) || self.skip > 0) {
            let end = block.len().min(self.filled + READ);
            let room = block.get_mut(self.filled..end).unwrap_or(&mut []);
            match self.source.read(room) {
                Ok(0) => self.is_at_end = true,
                Ok(count) => {
                    self.is_short = count < room.len();
                    let skipped = usize::try_from(self.skip).map_or(count, |skip| skip.min(count));
                    // Bytes are skipped only once everything in the block was: what stays moves to its front.
                    block.copy_within(self.filled + skipped..self.filled + count, self.filled);
                    self.skip -= skipped as u64;
                    self.offset += skipped as u64;
                    self.filled += count - skipped;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    self.is_failed = true;
                    return Err(CaptureError::Read { file: self.file.clone(), source });
                }
            }
        }
        if self.is_at_end && self.filled < HEADROOM + self.needs.0 && matches!(self.format, Format::Unseen) {
            return Err(self.truncated());
        }
        Ok(())
    }

    /// Whether reading on may have to wait: this is no file, but a pipe that gives what it has, or the end is near.
    pub(super) fn may_wait(&self) -> bool {
        self.is_short
    }

    /// Offset in the file of the next record.
    fn position(&self) -> u64 {
        self.offset + (self.at - HEADROOM) as u64
    }

    fn truncated(&mut self) -> CaptureError {
        self.is_failed = true;
        CaptureError::Truncated { file: self.file.clone(), offset: self.item, what: self.needs.1 }
    }

    fn failed(&mut self, block: &[u8], problem: Problem) -> CaptureError {
        self.is_failed = true;
        let (file, offset) = (self.file.clone(), self.item);
        match problem {
            Problem::Unknown(hint) => {
                let start = block.iter().take(self.filled).skip(self.at).take(4);
                let start = start.map(|byte| format!("{byte:02x}")).collect();
                CaptureError::Unknown { file, start, hint }
            }
            Problem::Damaged(what) => CaptureError::Damaged { file, offset, what },
            Problem::LinkType(link_type) => CaptureError::LinkType { file, link_type },
        }
    }

    /// The place of a packet as an Ethernet frame, whose header is written into the block if the packet has none.
    #[inline]
    fn as_ethernet(&self, block: &mut [u8], packet: Packet) -> Located {
        let Packet { start, length, original_length, time, link } = packet;
        let begin = self.at + start;
        // A block is far shorter than 4 GiB.
        let whole = Located { start: begin as u32, length: length as u32, time, original_length };
        if link == Link::Ethernet {
            return whole;
        }
        let cooked = match link {
            Link::Raw => 0,
            Link::Cooked => 16,
            Link::Cooked2 | Link::Ethernet => 20,
        };
        // Record headers have at least 12 bytes and the packet before ends with its length, which is done with, or there is the
        // headroom: 14 bytes before the IP header are free. A packet cut inside its cooked header is nothing.
        let (first, end) = (begin, begin + length);
        let Some(begin) = (begin + cooked).checked_sub(14).filter(|_| cooked <= length) else {
            return Located { length: 0, ..whole };
        };
        let packet = block.get(first..end).unwrap_or(&[]);
        let (source, ethertype) = link_header(link, packet);
        if let Some(header) = block.get_mut(begin..).and_then(|rest| rest.first_chunk_mut::<14>()) {
            let [a, b, c, d, e, f] = source;
            let [high, low] = ethertype;
            *header = [0, 0, 0, 0, 0, 0, a, b, c, d, e, f, high, low];
        }
        let original_length = original_length.saturating_sub(cooked as u32).saturating_add(14);
        Located { start: begin as u32, length: (length - cooked + 14) as u32, original_length, time }
    }
}

/// Source address and ethertype for a packet without an Ethernet header.
fn link_header(link: Link, packet: &[u8]) -> ([u8; 6], [u8; 2]) {
    match (link, packet) {
        // LINKTYPE_LINUX_SLL: kind, address type, address length, 8 bytes of address, protocol.
        (Link::Cooked, &[_, _, _, _, _, _, a, b, c, d, e, f, _, _, high, low, ..]) => ([a, b, c, d, e, f], [high, low]),
        // LINKTYPE_LINUX_SLL2: protocol, 2 reserved, interface index, address type, kind, address length, 8 bytes of address.
        (Link::Cooked2, &[high, low, _, _, _, _, _, _, _, _, _, _, a, b, c, d, e, f, ..]) => {
            ([a, b, c, d, e, f], [high, low])
        }
        // The version says which, and the IP header is checked later.
        (_, &[first, ..]) if first >> 4 == 6 => ([0; 6], [0x86, 0xdd]),
        _ => ([0; 6], [0x08, 0x00]),
    }
}
