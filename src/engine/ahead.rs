//! The new packets of a burst in, what long lists answer to them out: look-ups made for many packets at once.
//!
//! A look-up by itself waits for its loads one after the other; those of a burst wait together. So the first packet of a burst that
//! needs a header makes those of all packets behind it that will probably begin a flow, and the first that asks a long list asks it
//! for all of them. Whether another packet will ask that list is a guess, and a wrong one costs time only: what a list answers to a
//! header depends on nothing but the program, and that does not change within a burst.

use crate::engine::batch::BATCH;
use crate::engine::program::classifier::{Classifier, Found, NONE};
use crate::engine::program::header::{Header, Headers, LANES};
use crate::packet::Key;

/// Long lists that are asked ahead in one burst; others are asked for each packet.
const LISTS: usize = 4;
/// So few packets ask faster each by itself.
const FEW: u32 = 2;
/// In place of a lane: none.
const NO_LANE: u8 = u8::MAX;

const _: () = assert!(BATCH <= LANES && BATCH < NO_LANE as usize);

/// A header, or where it is found.
#[derive(Clone, Copy, Debug)]
pub enum Located {
    /// It belongs to no burst.
    Alone(Header),
    /// It is in this lane of the headers of a burst.
    Lane(u8),
}

/// Who finds the first entry of a scope.
pub trait LookUps {
    /// The header itself. Cost: of one in a lane, a load for each of its fields.
    fn header(&self, located: &Located) -> Header;

    /// The first entry of a scope that matches a header.
    fn first(&mut self, classifier: &Classifier, located: &Located, scope: u32) -> Option<u32>;
}

/// Asks for each packet by itself.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl LookUps for Alone {
    #[inline]
    fn header(&self, located: &Located) -> Header {
        match located {
            Located::Alone(header) => *header,
            Located::Lane(_) => Header::default(),
        }
    }

    #[inline]
    fn first(&mut self, classifier: &Classifier, located: &Located, scope: u32) -> Option<u32> {
        classifier.first(self.header(located), scope, 0)
    }
}

/// What has been found ahead in one burst. Allocated once.
#[derive(Debug)]
pub struct Ahead {
    keys: Box<[Key; BATCH]>,
    headers: Box<Headers>,
    /// By packet: its lane.
    lanes: [u8; BATCH],
    is_filled: bool,
    /// Scopes asked so far, and the answers for all lanes.
    asked: Box<[(u32, Found); LISTS]>,
    lists: usize,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead {
            keys: Box::new([Key::EMPTY; BATCH]),
            headers: Box::default(),
            lanes: [NO_LANE; BATCH],
            is_filled: false,
            asked: Box::new(std::array::from_fn(|_| (NONE, Found::default()))),
            lists: 0,
        }
    }
}

impl Ahead {
    /// Forgets the last burst.
    #[inline]
    pub fn begin(&mut self) {
        self.is_filled = false;
        self.lists = 0;
    }

    /// The header of the packet at a position of the burst. `others` tells, one bit for each, which packets will probably need theirs.
    #[inline]
    pub fn locate(
        &mut self,
        classifier: &Classifier,
        keys: &[Key],
        at: usize,
        others: impl FnOnce() -> u64,
    ) -> Located {
        if !self.is_filled {
            self.fill(classifier, keys, 1 << (at % BATCH) | others() & u64::MAX << (at % BATCH));
        }
        match self.lanes.get(at) {
            Some(&lane) if lane != NO_LANE => Located::Lane(lane),
            _ => Located::Alone(keys.get(at).map_or(Header::default(), |key| classifier.header(key))),
        }
    }

    fn fill(&mut self, classifier: &Classifier, keys: &[Key], mut wanted: u64) {
        self.is_filled = true;
        self.lanes = [NO_LANE; BATCH];
        if wanted.count_ones() <= FEW {
            return;
        }
        let mut count = 0;
        while wanted != 0 {
            let at = wanted.trailing_zeros() as usize % BATCH;
            wanted &= wanted - 1;
            if let Some(key) = keys.get(at) {
                self.lanes[at] = count as u8;
                self.keys[count % BATCH] = *key;
                count += 1;
            }
        }
        classifier.headers(self.keys.get(..count).unwrap_or(&[]), &mut self.headers);
    }
}

impl LookUps for Ahead {
    #[inline]
    fn header(&self, located: &Located) -> Header {
        match located {
            Located::Alone(header) => *header,
            Located::Lane(lane) => self.headers.get(usize::from(*lane)),
        }
    }

    #[inline]
    fn first(&mut self, classifier: &Classifier, located: &Located, scope: u32) -> Option<u32> {
        let lane = match located {
            Located::Lane(lane) if classifier.is_long(scope) => usize::from(*lane),
            _ => return classifier.first(self.header(located), scope, 0),
        };
        let list = self.asked.iter().take(self.lists).position(|(asked, _)| *asked == scope);
        let list = match list {
            Some(list) => list,
            None if self.lists == LISTS => return classifier.first(self.header(located), scope, 0),
            None => {
                let list = self.lists;
                if let Some((asked, found)) = self.asked.get_mut(list) {
                    *asked = scope;
                    classifier.first_of_each(&self.headers, scope, found);
                }
                self.lists += 1;
                list
            }
        };
        let found = self.asked.get(list)?.1.entries().get(lane).copied()?;
        (found != NONE).then_some(found)
    }
}
