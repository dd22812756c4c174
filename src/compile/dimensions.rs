//! The boxes of an ordered list and the scopes over it in, the [`Classifier`] out.
//!
//! Scopes are taken apart ([`super::split`]), the longest first, as long as the memory and the steps of the build last and it is
//! worth while by the estimate; all others get bit vectors, which share their rows. So do scopes with a rule behind which
//! evaluation goes on, besides: only bit vectors answer from the middle of a list. What does not fit even then is refused.

use std::rc::Rc;

use super::boxes::{Match, ProtocolSet};
use super::cut::{self, Cutter, Effort, Numbering, OPEN, Sets, cut};
use super::list::Block;
use super::split::{Dimensions, split};
use crate::base::address::Family;
use crate::base::diagnostic::Diagnostic;
use crate::base::pages::Pages;
use crate::base::wide::Level;
use crate::engine::program::arena::{Line, Table};
use crate::engine::program::bits::{BitTable, WORD};
use crate::engine::program::classifier::{Classifier, NONE, Shape};
use crate::engine::program::header::{Fields, PROTOCOLS, WITHOUT_PORTS};
use crate::engine::program::split::Split;
use crate::engine::program::vectors::{Dimension, Vectors};

/// Bytes that a program's look-up tables may take unless another budget is given.
pub const MEMORY: usize = 256 << 20;

/// Scopes with fewer entries are never taken apart: there is nothing to gain.
const SHORT: usize = 32;

/// Scopes with fewer entries are taken apart within a share of the budget only: every list that is costs bytes for each interval of
/// the program, and there may be thousands of such scopes.
const LONG: usize = 256;
/// The share: one part in so many.
const SHARE_OF_SHORT: usize = 16;

/// Steps that taking scopes apart may take in one program, see [`Effort`]: about a second.
const STEPS: u64 = 1 << 30;

/// What a look-up in bit vectors costs, in nanoseconds: the rows' first words, and each further word of the list.
const ROWS_NS: f64 = 30.0;
const WORD_NS: f64 = 1.5;

/// Why there is no classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The tables that cut addresses and ports do not fit alone.
    Fields {
        /// Bytes that they take.
        bytes: usize,
        /// Bytes there are.
        memory: usize,
    },
    /// Bit vectors of all lists, the smallest structure there is, do not fit.
    Lists {
        /// Entries of all lists, each counted once.
        entries: usize,
        /// Lists.
        lists: usize,
        /// Bytes that the tables before them take.
        fields: usize,
        /// Bytes there are.
        memory: usize,
    },
    /// Port sets cut the ports into more classes than a table of 16 bits can number.
    PortClasses,
}

impl Refusal {
    /// For people.
    pub fn diagnostic(&self) -> Diagnostic {
        let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let message = match *self {
            Refusal::Fields { bytes, memory } => format!(
                "the program does not fit: its tables of addresses and ports take {}, and {} is all it may take",
                mib(bytes),
                mib(memory)
            ),
            Refusal::Lists { entries, lists, fields, memory } => format!(
                "the program does not fit: besides {} for addresses and ports, {entries} entries in {lists} lists need more than \
                 the {} that are left of {}",
                mib(fields),
                mib(memory.saturating_sub(fields)),
                mib(memory)
            ),
            Refusal::PortClasses => {
                "the rules tell every single port from every other, and packets without ports, too".to_string()
            }
        };
        let help = match self {
            Refusal::PortClasses => "join neighbouring ports to ranges",
            _ => "use fewer different selectors and address sets, or divide the policies among several gateways",
        };
        Diagnostic::error("program-too-large", message).help(help)
    }
}

/// One scope on its way to a structure.
struct Scope {
    entries: Vec<u32>,
    /// Whether evaluation goes on behind some entry.
    resumes: bool,
    /// Number of its structure, if it was taken apart.
    plan: u32,
}

impl Scope {
    /// What bit vectors would cost, in nanoseconds.
    fn vectors_ns(&self) -> f64 {
        let mut words = 0;
        let mut last = usize::MAX;
        for &entry in &self.entries {
            words += usize::from(entry as usize / WORD != last);
            last = entry as usize / WORD;
        }
        ROWS_NS + words as f64 * WORD_NS
    }
}

/// Builds the classifier, within `memory` bytes. `scopes` are ascending blocks of entries, in the order of their scope numbers;
/// `resumes` tells whether evaluation goes on behind an entry.
pub fn classifier(
    matches: &[Match],
    scopes: &[Rc<[Block]>],
    resumes: impl Fn(u32) -> bool,
    memory: usize,
) -> Result<Classifier, Refusal> {
    let mut lines = Vec::new();
    let (fields, dims) = dimensions(matches, &mut lines)?;
    let used = size_of_val(lines.as_slice());
    let left = memory.checked_sub(used).ok_or(Refusal::Fields { bytes: used, memory })?;

    let mut scopes: Vec<Scope> = scopes
        .iter()
        .map(|scope| {
            let entries: Vec<u32> = scope.iter().cloned().flatten().collect();
            let resumes = entries.iter().any(|&entry| resumes(entry));
            Scope { entries, resumes, plan: NONE }
        })
        .collect();
    // What must be in bit vectors has its memory first.
    let must = |scope: &Scope| scope.resumes || scope.entries.len() < SHORT;
    let mut vectors =
        self::vectors(&dims, &scopes, must, left).ok_or_else(|| refusal(&scopes, matches.len(), used, memory))?;
    let fields_end = lines.len();
    let (mut splits, mut shapes) = take_apart(&dims, &mut scopes, left - vectors.bytes(), &mut lines);
    let has_vectors = |scope: &Scope| scope.resumes || scope.plan == NONE;
    if scopes.iter().any(|scope| has_vectors(scope) && !must(scope)) {
        let left_now = memory.saturating_sub(size_of_val(lines.as_slice()));
        vectors = match self::vectors(&dims, &scopes, has_vectors, left_now) {
            Some(vectors) => vectors,
            None => {
                lines.truncate(fields_end);
                (splits, shapes) = (Vec::new(), Vec::new());
                scopes.iter_mut().for_each(|scope| scope.plan = NONE);
                self::vectors(&dims, &scopes, |_| true, left)
                    .ok_or_else(|| refusal(&scopes, matches.len(), used, memory))?
            }
        };
    }
    shapes.extend(shape_of_vectors(&vectors, &scopes));
    Ok(Classifier {
        memory: Pages::from(lines),
        fields,
        vectors,
        splits,
        plans: scopes.iter().map(|scope| scope.plan).collect(),
        classes: [dims.port_classes[0].count, dims.port_classes[1].count, dims.protocol_classes.count],
        shapes,
        level: Level::best(),
    })
}

fn refusal(scopes: &[Scope], entries: usize, fields: usize, memory: usize) -> Refusal {
    let mut is_used = vec![false; entries];
    scopes.iter().flat_map(|scope| &scope.entries).for_each(|&entry| is_used[entry as usize] = true);
    let entries = is_used.iter().filter(|used| **used).count();
    Refusal::Lists { entries, lists: scopes.len(), fields, memory }
}

/// Cuts all dimensions.
fn dimensions(matches: &[Match], lines: &mut Vec<Line>) -> Result<(Fields, Dimensions), Refusal> {
    let (sources, src) = cut::addresses(matches.iter().map(|m| m.src.as_deref()), lines);
    let (destinations, dst) = cut::addresses(matches.iter().map(|m| m.dst.as_deref()), lines);
    let sport = cut::ports(matches.iter().map(|m| &m.sport));
    let dport = cut::ports(matches.iter().map(|m| &m.dport));
    let holds =
        |set: &ProtocolSet, number: u32| set.contains(if number < 256 { Family::V4 } else { Family::V6 }, number as u8);
    let limited = matches.iter().map(|m| (m.protocols != ProtocolSet::ALL).then_some(&m.protocols));
    let protocol = cut::numbers(limited, PROTOCOLS, holds);
    let port_classes = [&sport, &dport].map(Numbering::of);
    let protocol_classes = Numbering::of(&protocol);
    if port_classes.iter().any(|classes| classes.count > 1 << 16) {
        return Err(Refusal::PortClasses);
    }
    let v6 = [sources.v6(), destinations.v6()];
    // Without a table all is of class 0.
    let mut table = |classes: &Numbering, universe: u32| match classes.count {
        1 => Table::default(),
        _ => {
            let mut numbers = classes.table(universe, |class| class as u16);
            numbers.push(0);
            Table::put(lines, &numbers)
        }
    };
    let fields = Fields {
        addresses: [sources, destinations],
        ports: [0, 1].map(|side| table(&port_classes[side], WITHOUT_PORTS + 1)),
        protocols: table(&protocol_classes, PROTOCOLS),
    };
    Ok((fields, Dimensions { src, dst, sport, dport, protocol, port_classes, protocol_classes, v6 }))
}

/// Takes scopes apart, the longest first, while it is worth while and there is room.
fn take_apart(
    dims: &Dimensions,
    scopes: &mut [Scope],
    memory: usize,
    lines: &mut Vec<Line>,
) -> (Vec<Split>, Vec<Shape>) {
    let mut order: Vec<usize> = (0..scopes.len()).filter(|&at| scopes[at].entries.len() >= SHORT).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(scopes[at].entries.len()));
    let (mut splits, mut shapes) = (Vec::new(), Vec::new());
    let mut effort = Effort::new(STEPS);
    let mut left = memory;
    let mut left_of_short = memory / SHARE_OF_SHORT;
    for at in order {
        let scope = &mut scopes[at];
        let is_short = scope.entries.len() < LONG;
        let most = if is_short { left.min(left_of_short) } else { left };
        let Some((split, shape)) = split(dims, &scope.entries, scope.vectors_ns(), most, &mut effort, lines) else {
            continue;
        };
        left -= shape.bytes.min(left);
        if is_short {
            left_of_short -= shape.bytes.min(left_of_short);
        }
        scope.plan = splits.len() as u32;
        splits.push(split);
        shapes.push(shape);
    }
    (splits, shapes)
}

fn shape_of_vectors(vectors: &Vectors, scopes: &[Scope]) -> Option<Shape> {
    let kept = || scopes.iter().filter(|scope| scope.resumes || scope.plan == NONE);
    let mut entries: Vec<u32> = kept().flat_map(|scope| &scope.entries).copied().collect();
    entries.sort_unstable();
    entries.dedup();
    let slowest = kept().map(Scope::vectors_ns).max_by(f64::total_cmp)?;
    Some(Shape {
        structure: "bit-vectors",
        lists: kept().count(),
        entries: entries.len(),
        broad: 0,
        records: 0,
        classes: vectors.dimensions.iter().map(|dimension| dimension.classes.rows()).sum(),
        bytes: vectors.bytes(),
        ns: slowest,
    })
}

/// Bit vectors over the scopes that are found by them, within so many bytes.
fn vectors(dims: &Dimensions, scopes: &[Scope], is_found: impl Fn(&Scope) -> bool, memory: usize) -> Option<Vectors> {
    let count = dims.src.of.len();
    let mut used = vec![false; count];
    let mut table = BitTable::new(count);
    let mut is_empty = true;
    for scope in scopes {
        let entries: &[u32] = if is_found(scope) { &scope.entries } else { &[] };
        entries.iter().for_each(|&entry| used[entry as usize] = true);
        is_empty &= entries.is_empty();
        table.push(entries.iter().copied());
        if table.bytes() > memory {
            return None;
        }
    }
    if is_empty {
        return Some(Vectors::default());
    }
    let mut left = memory - table.bytes();
    let mut address = |sets: &Sets| {
        let having = Having::new(sets, &used);
        let named = sets.named().filter(|(set, _)| !having.words[*set as usize].is_empty());
        left = left.checked_sub(sets.universe as usize * 4)?;
        let (dimension, starts) = having.dimension(count, named, &mut left)?;
        Some((Numbering::new(starts).table(sets.universe, |class| class), dimension))
    };
    let ((src_rows, src), (dst_rows, dst)) = (address(&dims.src)?, address(&dims.dst)?);
    // The classes of ports and protocol are those of the header: cut by all sets, in the same order, they get the same numbers.
    let mut field = |sets: &Sets| Some(Having::new(sets, &used).dimension(count, sets.named(), &mut left)?.0);
    let dimensions = [src, dst, field(&dims.sport)?, field(&dims.dport)?, field(&dims.protocol)?];
    Some(Vectors { entries: count, rows: [src_rows, dst_rows], dimensions, scopes: table })
}

/// Which of the used entries have each set of a dimension.
struct Having {
    /// By set: the words of entries that are not zero, ascending.
    words: Vec<Vec<(u32, u64)>>,
    open: Vec<u32>,
}

/// The entries that the sets here leave, as bits, and a row of them for each class. An entry has one set, so no two sets share a bit.
struct RowCutter<'h> {
    having: &'h Having,
    here: Vec<u64>,
    rows: BitTable,
    memory: usize,
}

impl Cutter for RowCutter<'_> {
    fn toggle(&mut self, set: u32) {
        for &(word, bits) in &self.having.words[set as usize] {
            self.here[word as usize] ^= bits;
        }
    }

    fn class(&mut self) -> Option<()> {
        let words = self.here.iter().enumerate().filter(|(_, word)| **word != 0);
        self.rows.push_words(words.map(|(at, word)| (at as u32, *word)));
        (self.rows.bytes() <= self.memory).then_some(())
    }
}

impl Having {
    fn new(sets: &Sets, used: &[bool]) -> Having {
        let mut having = Having { words: vec![Vec::new(); sets.spans.len()], open: Vec::new() };
        for (entry, _) in used.iter().enumerate().filter(|(_, used)| **used) {
            let (word, bit) = ((entry / WORD) as u32, 1u64 << (entry % WORD));
            match sets.of[entry] {
                OPEN => having.open.push(entry as u32),
                set => match having.words[set as usize].last_mut() {
                    Some(last) if last.0 == word => last.1 |= bit,
                    _ => having.words[set as usize].push((word, bit)),
                },
            }
        }
        having
    }

    /// The dimension with a row for each class that the sets make, and where the classes begin to hold. Takes its bytes from `left`.
    fn dimension<'s>(
        &self,
        count: usize,
        sets: impl Iterator<Item = (u32, &'s [(u32, u32)])>,
        left: &mut usize,
    ) -> Option<(Dimension, Vec<(u32, u32)>)> {
        let here = vec![0; count.div_ceil(WORD)];
        let mut cutter = RowCutter { having: self, here, rows: BitTable::new(count), memory: *left };
        let starts = cut(sets, &mut cutter)?;
        let mut open = vec![0u64; count.div_ceil(WORD)];
        for &entry in &self.open {
            open[entry as usize / WORD] |= 1 << (entry as usize % WORD);
        }
        let mut open_summary = vec![0u64; open.len().div_ceil(WORD)];
        for (w, _) in open.iter().enumerate().filter(|(_, word)| **word != 0) {
            open_summary[w / WORD] |= 1 << (w % WORD);
        }
        let dimension = Dimension { open_summary, open, classes: cutter.rows };
        *left = left.checked_sub(dimension.bytes())?;
        Some((dimension, starts))
    }
}
