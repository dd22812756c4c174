//! A header in, the first entry of an ordered list that matches it out.
//!
//! Every rule of every policy is an *entry* of one list in evaluation order. A dimension (source, destination, source port,
//! destination port, protocol and family) splits its values into classes, and each class knows the set of entries it can match, as
//! bits. One more dimension, the *scope*, holds the entries that an endpoint's stage and direction asks: it is what turns one list
//! into the rule chain of any endpoint. A lookup ANDs six rows, sparse ones first by their summaries, and takes the lowest
//! bit.
//!
//! Entries that leave a dimension open are the same for all its classes, so they are kept once per dimension (`open`) and a class
//! stores only the entries that constrain it. Address sets stay sets: a set of 100,000 addresses costs classes, not entries.

use super::bits::{BitTable, WORD};
use super::trie::Trie;
use crate::base::address::Family;
use crate::packet::{Key, KeyBits};

/// Marks the absence of a scope or entry.
pub const NONE: u32 = u32::MAX;

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

    fn bytes(&self) -> usize {
        (self.open_summary.len() + self.open.len()) * 8 + self.classes.bytes()
    }
}

/// An address dimension: one trie per family gives the class.
#[derive(Clone, Debug)]
pub struct AddressDimension {
    pub(crate) tries: [Trie; 2],
    pub(crate) dimension: Dimension,
}

/// A port dimension: a table of 65,536 classes, and one class for packets without a transport header.
#[derive(Clone, Debug)]
pub struct PortDimension {
    pub(crate) table: Vec<u16>,
    pub(crate) without: u32,
    pub(crate) dimension: Dimension,
}

/// The protocol dimension, by family and number.
#[derive(Clone, Debug)]
pub struct ProtocolDimension {
    pub(crate) table: Vec<u16>,
    pub(crate) dimension: Dimension,
}

/// The classes of one header: computed once, good for every scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    src: u32,
    dst: u32,
    sport: u32,
    dport: u32,
    protocol: u32,
}

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

/// The ordered list with its dimensions.
#[derive(Clone, Debug)]
pub struct Classifier {
    pub(crate) entries: usize,
    pub(crate) src: AddressDimension,
    pub(crate) dst: AddressDimension,
    pub(crate) sport: PortDimension,
    pub(crate) dport: PortDimension,
    pub(crate) protocol: ProtocolDimension,
    pub(crate) scopes: BitTable,
}

impl AddressDimension {
    #[inline]
    fn class(&self, family: Family, address: u128) -> u32 {
        self.tries[family as usize].get(address)
    }
}

impl PortDimension {
    #[inline]
    fn class(&self, has_ports: bool, port: u16) -> u32 {
        if has_ports { self.table.get(usize::from(port)).copied().map_or(0, u32::from) } else { self.without }
    }
}

impl Classifier {
    /// The classes of a packet's header as received.
    #[inline]
    pub fn header(&self, key: &Key) -> Header {
        let family = key.family();
        let l4 = key.has(KeyBits::L4);
        Header {
            src: self.src.class(family, key.src),
            dst: self.dst.class(family, key.dst),
            sport: self.sport.class(l4, key.sport),
            dport: self.dport.class(l4, key.dport),
            protocol: self
                .protocol
                .table
                .get((family as usize) << 8 | usize::from(key.protocol))
                .copied()
                .map_or(0, u32::from),
        }
    }

    /// The same header with another destination, as a service translates it.
    #[inline]
    pub fn translated(&self, header: Header, family: Family, address: u128, port: u16) -> Header {
        Header { dst: self.dst.class(family, address), dport: self.dport.class(true, port), ..header }
    }

    /// The first entry at or after `from` that is in the scope and matches the header. Cost: six words per summary word that
    /// survives the AND of the summaries.
    #[inline]
    pub fn first(&self, header: Header, scope: u32, from: u32) -> Option<u32> {
        let first_word = from as usize / WORD;
        let summary_len = self.entries.div_ceil(WORD).div_ceil(WORD);
        for s in first_word / WORD..summary_len {
            let mut live = self.scopes.summary(scope, s);
            if live == 0 {
                continue;
            }
            live &= self.src.dimension.summary(header.src, s) & self.dst.dimension.summary(header.dst, s);
            live &= self.dport.dimension.summary(header.dport, s) & self.sport.dimension.summary(header.sport, s);
            live &= self.protocol.dimension.summary(header.protocol, s);
            if s == first_word / WORD {
                live &= u64::MAX << (first_word % WORD);
            }
            while live != 0 {
                let w = s * WORD + live.trailing_zeros() as usize;
                live &= live - 1;
                let mut bits = self.scopes.word(scope, w)
                    & self.src.dimension.word(header.src, w)
                    & self.dst.dimension.word(header.dst, w)
                    & self.dport.dimension.word(header.dport, w)
                    & self.sport.dimension.word(header.sport, w)
                    & self.protocol.dimension.word(header.protocol, w);
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

    /// What finds the first match: aggregated bit vectors (Baboescu and Varghese, 2001) over tries.
    pub const STRUCTURE: &str = "aggregated-bit-vector";

    /// Rows and bytes of each table.
    pub fn sizes(&self) -> [TableSize; 6] {
        let size = |name, dimension: &Dimension, index: usize| TableSize {
            name,
            rows: dimension.classes.rows(),
            bytes: dimension.bytes() + index,
        };
        let tries = |of: &AddressDimension| of.tries.iter().map(Trie::bytes).sum();
        [
            TableSize { name: "scopes", rows: self.scopes.rows(), bytes: self.scopes.bytes() },
            size("source", &self.src.dimension, tries(&self.src)),
            size("destination", &self.dst.dimension, tries(&self.dst)),
            size("source-port", &self.sport.dimension, self.sport.table.len() * size_of::<u16>()),
            size("destination-port", &self.dport.dimension, self.dport.table.len() * size_of::<u16>()),
            size("protocol", &self.protocol.dimension, self.protocol.table.len() * size_of::<u16>()),
        ]
    }

    /// Bytes of memory of all tables.
    pub fn bytes(&self) -> usize {
        self.sizes().iter().map(|table| table.bytes).sum()
    }
}
