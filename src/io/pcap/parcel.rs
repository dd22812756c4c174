//! Located packets of several captures in, parcels out: rows in the order of time, and the blocks that they lie in.
//!
//! A parcel goes from who reads to who judges with the blocks that its rows are the first to lie in. Blocks stay there while later
//! rows lie in them, and come back in the parcel that was the last to need them. There is a fixed number of blocks and parcels.

use std::hint::select_unpredictable;
use std::time::Duration;

use super::error::CaptureError;
use super::merge::{Merge, Source};
use super::read::{BLOCK, Located, MOST_RECORDS, Reader, Stop};
use crate::base::address::Direction;
use crate::base::time::Now;
use crate::io::frame::BURST;

/// Most rows of a parcel: some tens of microseconds of judging.
pub(super) const ROWS: usize = 16 * BURST;

/// Most blocks that come with a parcel, so that long packets do not fill the memory.
pub(super) const ARRIVALS: usize = 4;

/// Parcels that there are.
pub(super) const PARCELS: usize = 8;

/// Says of a frame's bytes, given the side of its capture, on which side it counts as received; `None` = it is passed over.
pub type Sorter = Box<dyn Fn(&[u8], Direction) -> Option<Direction> + Send>;

// The address of a frame:
//
//   63     62 ... 48             47 ... 24      23 ... 0
//  | side | row in its parcel | block number | offset in the block |
const SIDE: u32 = 63;
const ROW: u32 = 48;
const BLOCK_NUMBER: u32 = 24;
const _: () = assert!(ROWS <= 1 << (SIDE - ROW) && BLOCK <= 1 << BLOCK_NUMBER);

/// The side that a frame counts as received on.
#[inline]
pub(super) const fn side(address: u64) -> Direction {
    if address >> SIDE == 0 { Direction::Inbound } else { Direction::Outbound }
}

/// The row of a frame in its parcel.
#[inline]
pub(super) const fn row(address: u64) -> usize {
    (address >> ROW) as usize % (1 << (SIDE - ROW))
}

/// The block that a frame lies in, and where.
#[inline]
pub(super) const fn place(address: u64) -> (usize, usize) {
    ((address >> BLOCK_NUMBER) as usize % (1 << (ROW - BLOCK_NUMBER)), address as usize % (1 << BLOCK_NUMBER))
}

/// One packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// When it was captured.
    pub time: Now,
    /// The address of its frame.
    pub address: u64,
    /// Length in bytes, or [`PASSED_OVER`].
    pub length: u32,
    /// Position in what is replayed, counted from the start of its parcel, from 1.
    pub number: u32,
}

/// The length of who is counted, but not given out.
const PASSED_OVER: u32 = u32::MAX;

/// Memory for a piece of a capture. Who owns it may write to it.
pub(super) struct Block {
    pub number: u32,
    /// Empty until it is used for the first time, with room for [`BLOCK`] bytes.
    pub bytes: Vec<u8>,
}

/// What is handed over at once.
pub(super) struct Parcel {
    rows: Box<[Row]>,
    count: usize,
    /// Those that come with it; on the way back, those that are not needed any more.
    pub blocks: Vec<Block>,
    /// Numbers of the blocks in which no row of a later parcel lies.
    pub leaving: Vec<u32>,
    /// Packets of all parcels before it, those passed over included.
    pub before: u64,
    /// Packets in it, those passed over included.
    pub numbered: u64,
    /// Whether none comes after it.
    pub is_last: bool,
    /// What is wrong behind its rows.
    pub error: Option<CaptureError>,
    /// How long it took to read and fill it.
    pub took: Duration,
}

impl Parcel {
    /// An empty one, behind which nothing comes.
    pub fn end() -> Parcel {
        Parcel {
            rows: Box::default(),
            count: 0,
            blocks: Vec::new(),
            leaving: Vec::new(),
            before: 0,
            numbered: 0,
            is_last: true,
            error: None,
            took: Duration::ZERO,
        }
    }

    /// Its rows, in order.
    #[inline]
    pub fn rows(&self) -> &[Row] {
        self.rows.get(..self.count).unwrap_or(&self.rows)
    }

    #[inline]
    fn room(&self) -> usize {
        self.rows.len() - self.count
    }

    /// Adds a row for which there is room.
    #[inline(always)]
    fn add(&mut self, row: Row) {
        self.numbered += 1;
        if let Some(slot) = self.rows.get_mut(self.count) {
            let address = row.address | (self.count as u64) << ROW;
            *slot = Row { address, number: self.numbered as u32, ..row };
        }
        self.count += usize::from(row.length != PASSED_OVER);
    }
}

/// One capture.
struct Lane {
    reader: Reader,
    /// What is read into next, with the beginning of a record in front that was cut off.
    next: Block,
    /// Whether there is something in it to be looked at before reading on.
    is_begun: bool,
    /// Number of the block in which the located records lie.
    current: Option<u32>,
    direction: Direction,
    /// The records of the current block, and which of them come next.
    records: Vec<Row>,
    first: usize,
    /// Why there are no more after them.
    stop: Result<Stop, CaptureError>,
}

/// What is left of captures, and the memory to read it into.
pub(super) struct Packer {
    /// Captures that have not ended, in the order given.
    lanes: Vec<Lane>,
    free: Vec<Block>,
    sorter: Option<Sorter>,
    numbered: u64,
    blocks: usize,
}

impl Lane {
    /// The places of records that lie in a block of this number, as rows.
    #[inline]
    fn row(number: u32, direction: Direction) -> impl Fn(Located) -> Row {
        let mark = (direction as u64) << SIDE | u64::from(number) << BLOCK_NUMBER;
        move |located| Row {
            time: located.time,
            address: mark | u64::from(located.start),
            length: located.length,
            number: 0,
        }
    }

    /// Reads the next block, locates all its records, and gives it away with the parcel. What is cut off begins the empty one.
    fn load(&mut self, mut empty: Block, sorter: Option<&Sorter>, parcel: &mut Parcel) {
        self.first = 0;
        if !self.is_begun {
            self.records.clear();
            if let Err(error) = self.reader.read(&mut self.next.bytes) {
                self.stop = Err(error);
                return;
            }
        }
        self.is_begun = false;
        let (row, records) = (Lane::row(self.next.number, self.direction), &mut self.records);
        self.stop = self.reader.locate_all(&mut self.next.bytes, |located| records.push(row(located)));
        if let Some(sorter) = sorter {
            for row in &mut self.records {
                let (_, start) = place(row.address);
                let bytes = self.next.bytes.get(start..start + row.length as usize).unwrap_or(&[]);
                match sorter(bytes, self.direction) {
                    Some(side) => row.address = row.address & !(1 << SIDE) | (side as u64) << SIDE,
                    None => row.length = PASSED_OVER,
                }
            }
        }
        if empty.bytes.is_empty() {
            empty.bytes.resize(BLOCK, 0);
        }
        self.reader.carry(&self.next.bytes, &mut empty.bytes);
        let full = std::mem::replace(&mut self.next, empty);
        parcel.leaving.extend(self.current.replace(full.number));
        parcel.blocks.push(full);
    }
}

impl Packer {
    /// What packs the packets of these captures.
    pub fn new(merge: Merge, sorter: Option<Sorter>) -> Packer {
        let mut number = 0..;
        let mut block = |bytes: Vec<u8>| Block { number: number.next().unwrap_or_default(), bytes };
        let mut lane = |source: Source| {
            let Source { capture, direction, pending, is_done } = source;
            let (reader, bytes) = capture.into_parts();
            let next = block(bytes);
            let mut records = Vec::with_capacity(MOST_RECORDS);
            records.extend(pending.map(Lane::row(next.number, direction)));
            let stop = Ok(if is_done && pending.is_none() { Stop::End } else { Stop::Cut });
            Lane { reader, next, is_begun: true, current: None, direction, records, first: 0, stop }
        };
        let mut lanes: Vec<Lane> = merge.sources.into_iter().map(&mut lane).collect();
        // Nothing was handed out yet: a record that is pending is located with the rest.
        lanes.iter_mut().for_each(|lane| lane.first = lane.records.len());
        // INVARIANT: of all blocks one of each lane is the next, one of each is the current, and less than `ARRIVALS` of each parcel are
        // leaving when a lane is loaded: one more is free.
        let blocks = 2 * lanes.len() + PARCELS * ARRIVALS;
        let mut free = Vec::with_capacity(blocks);
        free.extend((lanes.len()..blocks).map(|_| block(Vec::with_capacity(BLOCK))));
        Packer { lanes, free, sorter, numbered: 0, blocks }
    }

    /// Numbers of blocks are below this.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// A parcel to be filled. There may be [`PARCELS`].
    pub fn parcel(&self) -> Parcel {
        Parcel {
            rows: vec![Row::default(); ROWS].into_boxed_slice(),
            blocks: Vec::with_capacity(ARRIVALS + 2 * self.lanes.len()),
            leaving: Vec::with_capacity(ARRIVALS + 2 * self.lanes.len()),
            is_last: false,
            ..Parcel::end()
        }
    }

    /// Empties a parcel and fills it with what comes next.
    pub fn fill(&mut self, parcel: &mut Parcel) {
        self.free.append(&mut parcel.blocks);
        parcel.leaving.clear();
        (parcel.count, parcel.before, parcel.numbered) = (0, self.numbered, 0);
        while parcel.room() > 0 && self.has_next_of_all(parcel) {
            match self.lanes.as_mut_slice() {
                [one] => take_of_one(one, parcel),
                [a, b] => take_of_two(a, b, parcel),
                all => take_of_any(all, parcel),
            }
        }
        self.numbered += parcel.numbered;
    }

    /// Makes the next record of every capture known; no, when the parcel ends before. Captures that have ended go.
    fn has_next_of_all(&mut self, parcel: &mut Parcel) -> bool {
        let mut n = 0;
        while let Some(lane) = self.lanes.get_mut(n) {
            if lane.first < lane.records.len() {
                n += 1;
                continue;
            }
            match std::mem::replace(&mut lane.stop, Ok(Stop::End)) {
                Ok(Stop::Cut) => {
                    // What is there does not wait for what a pipe has not given yet.
                    let is_ready = parcel.count > 0 && lane.reader.may_wait();
                    let has_room = parcel.blocks.len() < ARRIVALS && !is_ready;
                    let empty = if has_room { self.free.pop() } else { None };
                    let Some(empty) = empty else {
                        lane.stop = Ok(Stop::Cut);
                        return false;
                    };
                    lane.load(empty, self.sorter.as_ref(), parcel);
                }
                Ok(Stop::End) => {
                    let lane = self.lanes.remove(n);
                    parcel.leaving.extend(lane.current);
                    self.free.push(lane.next);
                }
                Err(error) => {
                    (parcel.error, parcel.is_last) = (Some(error), true);
                    return false;
                }
            }
        }
        parcel.is_last = self.lanes.is_empty();
        !parcel.is_last
    }
}

/// Takes what comes next of the only capture left.
fn take_of_one(lane: &mut Lane, parcel: &mut Parcel) {
    let rows = lane.records.get(lane.first..).unwrap_or(&[]);
    let rows = rows.get(..parcel.room()).unwrap_or(rows);
    lane.first += rows.len();
    for row in rows {
        parcel.add(*row);
    }
}

/// Takes what comes next of two captures, which is the frequent case: no branch on which of them it is, as that is a toss-up to a
/// predictor.
fn take_of_two(a: &mut Lane, b: &mut Lane, parcel: &mut Parcel) {
    let (xs, ys) = (a.records.as_slice(), b.records.as_slice());
    let (mut one, mut other) = (a.first, b.first);
    for _ in 0..parcel.room() {
        let (Some(x), Some(y)) = (xs.get(one), ys.get(other)) else { break };
        // Of equal times the capture given first.
        let is_other = y.time < x.time;
        parcel.add(*select_unpredictable(is_other, y, x));
        one += usize::from(!is_other);
        other += usize::from(is_other);
    }
    (a.first, b.first) = (one, other);
}

/// Takes the next record of any number of captures.
fn take_of_any(lanes: &mut [Lane], parcel: &mut Parcel) {
    let next = |lane: &Lane| lane.records.get(lane.first).map(|row| row.time);
    // Of equal times the capture given first.
    let Some(lane) = lanes.iter_mut().min_by_key(|lane| next(lane)) else { return };
    if let Some(row) = lane.records.get(lane.first) {
        lane.first += 1;
        parcel.add(*row);
    }
}
