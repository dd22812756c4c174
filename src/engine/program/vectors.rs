//! A header and a scope in, the first entry of the scope that matches it out: aggregated bit vectors.
//!
//! A dimension (source, destination, source port, destination port, protocol and family) splits its values into classes, and each
//! class knows the set of entries it can match, as bits. One more dimension, the *scope*, holds the entries that an endpoint's stage
//! and direction asks. A look-up ANDs six rows by their summaries first, and takes the lowest bit (Baboescu and Varghese, 2001).
//!
//! Entries that leave a dimension open are the same for all its classes, so they are kept once per dimension (`open`) and a class
//! stores only the entries that constrain it. The structure takes any list and serves short ones best: a scope of a hundred entries
//! is two words.

use super::bits::{BitTable, WORD};
use super::header::Header;

/// One dimension: which entries leave it open, and which each class matches besides.
#[derive(Clone, Debug, Default)]
pub struct Dimension {
    pub(crate) open_summary: Vec<u64>,
    pub(crate) open: Vec<u64>,
    pub(crate) classes: BitTable,
}

impl Dimension {
    #[inline]
    fn summary(&self, class: u32, s: usize) -> u64 {
        self.open_summary.get(s).copied().unwrap_or(0) | self.classes.summary(class, s)
    }

    #[inline]
    fn word(&self, class: u32, w: usize) -> u64 {
        self.open.get(w).copied().unwrap_or(0) | self.classes.word(class, w)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        (self.open_summary.len() + self.open.len()) * 8 + self.classes.bytes()
    }
}

/// All lists that are not taken apart.
#[derive(Clone, Debug, Default)]
pub struct Vectors {
    pub(crate) entries: usize,
    /// Row of each source interval, of each destination interval.
    pub(crate) rows: [Vec<u32>; 2],
    /// Source, destination, source port, destination port, protocol.
    pub(crate) dimensions: [Dimension; 5],
    pub(crate) scopes: BitTable,
}

impl Vectors {
    /// The first entry at or after `from` that is in the scope and matches the header. Cost: six words per summary word that
    /// survives the AND of the summaries.
    #[inline]
    pub fn first(&self, header: Header, scope: u32, from: u32) -> Option<u32> {
        let row = |side: usize, interval: u32| {
            self.rows.get(side).and_then(|rows| rows.get(interval as usize)).copied().unwrap_or(0)
        };
        let [sport, dport, protocol] = header.classes();
        let classes = [row(0, header.src()), row(1, header.dst()), sport, dport, protocol];
        let both = |summaries: bool, at: usize| {
            let of = |i: usize| {
                let dimension = &self.dimensions[i];
                if summaries { dimension.summary(classes[i], at) } else { dimension.word(classes[i], at) }
            };
            of(0) & of(1) & of(3) & of(2) & of(4)
        };
        let first_word = from as usize / WORD;
        let summary_len = self.entries.div_ceil(WORD).div_ceil(WORD);
        for s in first_word / WORD..summary_len {
            let mut live = self.scopes.summary(scope, s);
            if live == 0 {
                continue;
            }
            live &= both(true, s);
            if s == first_word / WORD {
                live &= u64::MAX << (first_word % WORD);
            }
            while live != 0 {
                let w = s * WORD + live.trailing_zeros() as usize;
                live &= live - 1;
                let mut bits = self.scopes.word(scope, w) & both(false, w);
                if w == first_word {
                    bits &= u64::MAX << (from as usize % WORD);
                }
                if bits != 0 {
                    return Some((w * WORD) as u32 + bits.trailing_zeros());
                }
            }
        }
        None
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let dimensions: usize = self.dimensions.iter().map(Dimension::bytes).sum();
        dimensions + self.rows.iter().map(|rows| rows.len() * 4).sum::<usize>() + self.scopes.bytes()
    }
}
