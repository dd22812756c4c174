//! Keys of a burst in, the first entry of an ordered list that matches each out.
//!
//! Every rule of every policy is an *entry* of one list in evaluation order, and the chain that an endpoint's stage and direction
//! asks is a subset of it, a *scope*. The parts, in the order in which a packet meets them:
//!
//! 1. [`super::header`]: the fields of a packet as intervals and classes, once for all its stages.
//! 2. A long scope is taken apart ([`super::split`], with [`super::cross`] for its broad entries).
//! 3. All others share bit vectors ([`super::vectors`]).
//!
//! Address sets stay sets: a set of 100,000 addresses costs intervals, not entries.

use super::arena::Line;
use super::header::{Fields, Group, Header, Headers, LANES};
use super::isa::{Isa, Scalar, WIDTH};
use super::split::{Lists, Split};
use super::vectors::Vectors;
use crate::base::address::Family;
use crate::base::pages::Pages;
use crate::base::wide::Level;
use crate::packet::Key;
use pulp::NullaryFnOnce;

/// Marks the absence of a scope or entry.
pub const NONE: u32 = u32::MAX;

/// How large a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// What it holds.
    pub name: &'static str,
    /// Its rows; those of a dimension are its classes.
    pub rows: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

/// How some lists are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// `filed+cross-product`, `filed`, `cross-product` (see [`super::split`]) or `bit-vectors` (see [`super::vectors`]).
    pub structure: &'static str,
    /// Lists: one, or all that share bit vectors.
    pub lists: usize,
    /// Entries of the lists.
    pub entries: usize,
    /// Entries in the cross product.
    pub broad: usize,
    /// Records of the filed entries.
    pub records: usize,
    /// Classes: pairs of address classes in a cross product, rows of all fields in bit vectors.
    pub classes: usize,
    /// Bytes of memory.
    pub bytes: usize,
    /// Nanoseconds of a look-up, estimated, with the header; of bit vectors the longest list.
    pub ns: f64,
}

/// The ordered list with its dimensions.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// What look-ups touch, but for the vectors.
    pub(crate) memory: Pages<Line>,
    pub(crate) fields: Fields,
    pub(crate) vectors: Vectors,
    pub(crate) splits: Vec<Split>,
    /// By scope: the long list it is, or [`NONE`].
    pub(crate) plans: Vec<u32>,
    /// Classes of source ports, destination ports, protocols.
    pub(crate) classes: [usize; 3],
    /// What was built: each list that was taken apart, in the order of `splits`; then the bit vectors, if any list has them.
    pub(crate) shapes: Vec<Shape>,
    /// What runs.
    pub(crate) level: Level,
}

/// The entries found for a burst, and the lists that are open while they are looked for.
#[derive(Clone, Debug)]
pub struct Found {
    entries: [[u32; WIDTH]; LANES / WIDTH],
    lists: Lists,
}

impl Default for Found {
    fn default() -> Found {
        Found { entries: [[NONE; WIDTH]; LANES / WIDTH], lists: Lists::default() }
    }
}

impl Found {
    /// By position in the burst; [`NONE`] where no entry matches. What lies behind the last packet means nothing.
    #[inline]
    pub fn entries(&self) -> &[u32] {
        self.entries.as_flattened()
    }
}

/// Headers of keys, compiled for one level.
struct Fill<'a, I>(I, &'a Classifier, &'a [Key], &'a mut Headers);

impl<I: Isa> NullaryFnOnce for Fill<'_, I> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.1.fields.view(&self.1.memory).headers(self.0, self.2, self.3);
    }
}

/// Entries of headers, compiled for one level.
struct First<'a, I>(I, &'a Split, &'a [Line], &'a [Group], &'a mut Found);

impl<I: Isa> NullaryFnOnce for First<'_, I> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.1.first(self.0, self.2, self.3, &mut self.4.lists, &mut self.4.entries);
    }
}

impl Classifier {
    /// The header of a packet as received.
    #[inline]
    pub fn header(&self, key: &Key) -> Header {
        self.fields.view(&self.memory).header(key)
    }

    /// The headers of a burst, [`LANES`] at most.
    #[inline]
    pub fn headers(&self, keys: &[Key], headers: &mut Headers) {
        match self.level {
            Level::Scalar => Fill(Scalar, self, keys, headers).call(),
            Level::Avx2(v3) => v3.vectorize(Fill(v3, self, keys, headers)),
            Level::Avx512(v4) => v4.vectorize(Fill(v4, self, keys, headers)),
        }
    }

    /// The same header with another destination, as a service translates it.
    #[inline]
    pub fn translated(&self, header: Header, family: Family, address: u128, port: u16) -> Header {
        self.fields.view(&self.memory).translated(header, family, address, port)
    }

    #[inline]
    fn ask(&self, split: &Split, groups: &[Group], found: &mut Found) {
        match self.level {
            Level::Scalar => First(Scalar, split, &self.memory, groups, found).call(),
            Level::Avx2(v3) => v3.vectorize(First(v3, split, &self.memory, groups, found)),
            Level::Avx512(v4) => v4.vectorize(First(v4, split, &self.memory, groups, found)),
        }
    }

    #[inline]
    fn split(&self, scope: u32) -> Option<&Split> {
        let plan = self.plans.get(scope as usize).copied().unwrap_or(NONE);
        self.splits.get(plan as usize)
    }

    /// Whether a scope is a long list, so that asking for many headers at once pays.
    #[inline]
    pub fn is_long(&self, scope: u32) -> bool {
        self.split(scope).is_some()
    }

    /// The first entry at or after `from` that is in the scope and matches the header.
    #[inline]
    pub fn first(&self, header: Header, scope: u32, from: u32) -> Option<u32> {
        if from == 0
            && let Some(split) = self.split(scope)
        {
            let found = split.first_alone(&self.memory, &header);
            return (found != NONE).then_some(found);
        }
        self.vectors.first(header, scope, from)
    }

    /// The first entry of one scope for each header of a burst, [`NONE`] where there is none.
    #[inline]
    pub fn first_of_each(&self, headers: &Headers, scope: u32, found: &mut Found) {
        match self.split(scope) {
            Some(split) => self.ask(split, headers.groups(), found),
            None => {
                for (at, found) in found.entries.as_flattened_mut().iter_mut().enumerate().take(headers.len()) {
                    *found = self.vectors.first(headers.get(at), scope, 0).unwrap_or(NONE);
                }
            }
        }
    }

    /// The same classifier, run at another level than the best of this processor.
    pub fn with_level(mut self, level: Level) -> Classifier {
        self.level = level;
        self
    }

    /// What runs.
    pub fn level(&self) -> Level {
        self.level
    }

    /// How the lists are kept: each that was taken apart, the longest first; then the bit vectors, if any list has them.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// Rows and bytes of each table.
    pub fn sizes(&self) -> Vec<TableSize> {
        let size = |name, rows, bytes| TableSize { name, rows, bytes };
        let [src, dst, sport, dport, protocol] = self.fields.bytes();
        let [sources, destinations] = &self.fields.addresses;
        let [sports, dports, protocols] = self.classes;
        let mut sizes = vec![
            size("source", sources.intervals() as usize, src),
            size("destination", destinations.intervals() as usize, dst),
            size("source-port", sports, sport),
            size("destination-port", dports, dport),
            size("protocol", protocols, protocol),
            size("vectors", self.vectors.scopes.rows(), self.vectors.bytes()),
        ];
        sizes.extend(self.splits.iter().map(|split| size("list", split.records(), split.bytes())));
        sizes
    }

    /// Bytes of memory of all tables.
    pub fn bytes(&self) -> usize {
        self.sizes().iter().map(|table| table.bytes).sum()
    }
}
