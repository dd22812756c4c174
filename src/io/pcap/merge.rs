//! Several captures in, their packets in the order of time out.

use super::error::CaptureError;
use super::read::{Capture, Located, Record};
use crate::base::address::Direction;

/// Captures merged by timestamp. Each keeps its own order; of equal times the capture given first comes first.
#[derive(Debug, Default)]
pub struct Merge {
    pub(super) sources: Vec<Source>,
}

/// One capture and its next record.
#[derive(Debug)]
pub(super) struct Source {
    pub capture: Capture,
    pub direction: Direction,
    pub pending: Option<Located>,
    pub is_done: bool,
}

impl Merge {
    /// Merges captures; the direction is that of the port where the capture was taken.
    pub fn new(captures: Vec<(Capture, Direction)>) -> Merge {
        let source = |(capture, direction)| Source { capture, direction, pending: None, is_done: false };
        Merge { sources: captures.into_iter().map(source).collect() }
    }

    /// The next packet with its direction; `None` when all captures have ended. A capture with an error is reported once and
    /// counts as ended; the others go on. O(captures).
    #[allow(clippy::should_implement_trait)] // lends from a block, which `Iterator` cannot express
    pub fn next(&mut self) -> Option<Result<(Record<'_>, Direction), CaptureError>> {
        for source in &mut self.sources {
            if source.pending.is_none() && !source.is_done {
                match source.capture.locate() {
                    Ok(located) => {
                        source.is_done = located.is_none();
                        source.pending = located;
                    }
                    Err(error) => {
                        source.is_done = true;
                        return Some(Err(error));
                    }
                }
            }
        }
        let (position, located) = self.earliest()?;
        let source = self.sources.get_mut(position)?;
        source.pending = None;
        Some(Ok((source.capture.record(located), source.direction)))
    }

    /// The capture whose pending record is the earliest.
    #[inline]
    pub(super) fn earliest(&self) -> Option<(usize, Located)> {
        let pending =
            self.sources.iter().enumerate().filter_map(|(n, source)| source.pending.map(|located| (n, located)));
        pending.min_by_key(|(_, located)| located.time)
    }
}
