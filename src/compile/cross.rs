//! The broad entries of a list in, their cross-product tables out.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::cut::{Classes, Effort, Numbering, OPEN, Sets, classes};
use super::split::Dimensions;
use crate::engine::program::arena::{Line, Table};
use crate::engine::program::classifier::NONE;
use crate::engine::program::cross::Cross;

/// The tables, and by interval of source and destination its class.
pub struct Built {
    /// Tables.
    pub tables: Tables,
    /// By side: where a class begins to hold.
    pub sides: [Vec<(u32, u32)>; 2],
}

/// The tables of a cross product before they have a place in memory.
pub struct Tables {
    offsets: [Vec<u32>; 3],
    factors: [u32; 3],
    ports: Vec<u16>,
    width: u32,
    pairs: Vec<u32>,
    chunks: Vec<u32>,
    shift: u32,
    answers: Vec<u16>,
    ids: Vec<u32>,
}

impl Tables {
    /// Puts them into memory.
    pub fn put(self, lines: &mut Vec<Line>) -> Cross {
        Cross {
            offsets: self.offsets.each_ref().map(|offsets| Table::put(lines, offsets)),
            factors: self.factors,
            ports: Table::put(lines, &padded(self.ports)),
            width: self.width,
            pairs: Table::put(lines, &self.pairs),
            chunks: Table::put(lines, &self.chunks),
            shift: self.shift,
            answers: Table::put(lines, &padded(self.answers)),
            ids: Table::put(lines, &self.ids),
        }
    }

    /// Bytes of the tables that a look-up loads from in turn.
    pub fn bytes(&self) -> [usize; 4] {
        let ports = self.offsets.iter().map(Vec::len).sum::<usize>() * 4 + self.ports.len() * 2;
        [ports, self.pairs.len() * 4, self.chunks.len() * 4, self.answers.len() * 2 + self.ids.len() * 4]
    }

    /// Pairs of address classes.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }
}

/// With the element behind the end that loads of pairs of elements touch.
fn padded(mut halves: Vec<u16>) -> Vec<u16> {
    halves.push(0);
    halves
}

/// Combinations of all classes of ports and protocol that are written out; where there are more, each field is narrowed to the
/// classes that the broad entries make first.
const MOST_PORTS: usize = 1 << 16;

/// Rows of answers that take less are not cut into chunks.
const FEW_BYTES: usize = 256 << 10;

/// Answers in a chunk: a cache line.
const CHUNK: usize = 32;

/// The table of port classes over all combinations of the program's classes, if they are not too many.
fn written_out(offsets: [Vec<u32>; 3], ports: Vec<u16>) -> ([Vec<u32>; 3], [u32; 3], Vec<u16>) {
    let [sport, dport, protocol] = &offsets;
    if sport.len() * dport.len() * protocol.len() > MOST_PORTS {
        return (offsets, [0; 3], ports);
    }
    let factors = [1, sport.len() as u32, (sport.len() * dport.len()) as u32];
    let outer = protocol.iter().flat_map(|p| dport.iter().map(move |d| p + d));
    let all = outer.flat_map(|outer| sport.iter().map(move |s| outer + s)).map(|at| ports[at as usize]).collect();
    (Default::default(), factors, all)
}

/// Rows of answers of one width, each kept once; once they take too much, equal chunks of them are kept once, too.
struct Answers {
    /// Answers in a row: a multiple of [`CHUNK`] if it is larger.
    width: usize,
    rows: u32,
    known: Known,
    /// Offsets of chunks in the answers, row by row; none while rows are whole.
    offsets: Vec<u32>,
    known_chunks: Known,
    answers: Vec<u16>,
    /// Fingerprints of the chunks of a row.
    prints: Vec<u128>,
}

impl Answers {
    fn new(width: usize) -> Answers {
        Answers {
            width,
            rows: 0,
            known: Known::default(),
            offsets: Vec::new(),
            known_chunks: Known::default(),
            answers: Vec::new(),
            prints: Vec::with_capacity(width.div_ceil(CHUNK)),
        }
    }

    /// Bytes so far.
    fn bytes(&self) -> usize {
        self.offsets.len() * 4 + self.answers.len() * 2
    }

    /// The number of a row, which is added if it is another one than those before.
    fn number(&mut self, print: &Print, row: &[u16]) -> u32 {
        self.prints.clear();
        self.prints.extend(row.chunks(CHUNK).map(|chunk| print.of_answers(chunk)));
        let halves = self.prints.iter().flat_map(|&print| [print as u64, (print >> 64) as u64]);
        let number = *self.known.entry(print.of(halves.enumerate())).or_insert(self.rows);
        if number == self.rows {
            self.rows += 1;
            if self.offsets.is_empty() {
                self.answers.extend_from_slice(row);
                if self.answers.len() * 2 > FEW_BYTES {
                    self.cut(print);
                }
            } else {
                for (chunk, &print) in row.chunks(CHUNK).zip(&self.prints) {
                    let offset = chunk_offset(&mut self.known_chunks, &mut self.answers, print, chunk);
                    self.offsets.push(offset);
                }
            }
        }
        number
    }

    /// Cuts whole rows into chunks.
    fn cut(&mut self, print: &Print) {
        let rows = std::mem::take(&mut self.answers);
        let (known, answers) = (&mut self.known_chunks, &mut self.answers);
        let offset = |chunk| chunk_offset(known, answers, print.of_answers(chunk), chunk);
        self.offsets = rows.chunks(self.width.min(CHUNK)).map(offset).collect();
    }
}

/// Where an equal chunk lies among the answers; it is added if there is none.
fn chunk_offset(known: &mut Known, answers: &mut Vec<u16>, print: u128, chunk: &[u16]) -> u32 {
    *known.entry(print).or_insert_with(|| {
        answers.extend_from_slice(chunk);
        (answers.len() - chunk.len()) as u32
    })
}

/// Rows of bits of one width.
struct Rows {
    width: usize,
    words: Vec<u64>,
}

impl Rows {
    fn count(&self) -> usize {
        self.words.len() / self.width
    }

    fn row(&self, at: usize) -> &[u64] {
        &self.words[at * self.width..][..self.width]
    }
}

/// Bits `0..of.len()`: for each class, which positions leave the field open or have a set that holds in the class.
fn rows(classes: &Classes, of: &[u32], sets: usize) -> Rows {
    let width = of.len().div_ceil(64).max(1);
    let mut open = vec![0u64; width];
    let mut having: Vec<Vec<u32>> = vec![Vec::new(); sets];
    for (at, &set) in of.iter().enumerate() {
        match set {
            OPEN => open[at / 64] |= 1 << (at % 64),
            set => having[set as usize].push(at as u32),
        }
    }
    let mut words = Vec::with_capacity(width * classes.members.len());
    for members in &classes.members {
        let start = words.len();
        words.extend_from_slice(&open);
        for &at in members.iter().flat_map(|&set| &having[set as usize]) {
            words[start + at as usize / 64] |= 1 << (at % 64);
        }
    }
    Rows { width, words }
}

/// A fingerprint of words, keyed; two different rows do not meet by chance.
struct Print([u64; 2]);

/// Numbers by fingerprint.
type Known = HashMap<u128, u32, BuildHasherDefault<AsItIs>>;

/// Takes the lower half of a fingerprint, which is random already, as its hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| hash.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u128(&mut self, print: u128) {
        self.0 = print as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Print {
    fn new() -> Print {
        let state = RandomState::new();
        Print([state.hash_one(1) | 1, state.hash_one(2) | 1])
    }

    /// Of words and their places; those that are zero may be left out or not.
    #[inline]
    fn of(&self, words: impl Iterator<Item = (usize, u64)>) -> u128 {
        // Two multilinear sums: each place has its own odd factor, made from the key by a product.
        let (mut a, mut b) = (0u128, 0u64);
        for (at, word) in words {
            let place = self.0[0].wrapping_mul(2 * at as u64 + 1) ^ self.0[1];
            let product = u128::from(word) * u128::from(place | 1);
            a = a.wrapping_add(product ^ product >> 64);
            b = b.wrapping_add((word ^ word >> 29).wrapping_mul(place.rotate_left(32) | 1));
        }
        let a = (a >> 64) as u64 ^ (a as u64).wrapping_mul(self.0[1]);
        u128::from(b.wrapping_mul(self.0[0])) << 64 | u128::from(a ^ a >> 32)
    }

    /// Of numbers of 16 bits, whose count is a multiple of four.
    fn of_answers(&self, answers: &[u16]) -> u128 {
        self.of(answers.as_chunks::<4>().0.iter().map(|&four| bytemuck::cast(four)).enumerate())
    }
}

/// The sets that some entries use, renumbered; the classes that they make.
fn narrowed(sets: &Sets, entries: &[u32], effort: &mut Effort) -> Option<(Classes, Vec<u32>, usize)> {
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let mut used: Vec<&[(u32, u32)]> = Vec::new();
    let of = entries
        .iter()
        .map(|&entry| match sets.of[entry as usize] {
            OPEN => OPEN,
            set => *numbers.entry(set).or_insert_with(|| {
                used.push(&sets.spans[set as usize]);
                used.len() as u32 - 1
            }),
        })
        .collect();
    let count = used.len();
    let ends: usize = used.iter().map(|spans| spans.len()).sum();
    effort.spend(64 * (entries.len() + ends))?;
    Some((classes(used.into_iter().enumerate().map(|(i, spans)| (i as u32, spans)), effort)?, of, count))
}

/// Combines two lots of rows: the number of each pair's conjunction, row by row, and the different conjunctions.
fn product(print: &Print, a: &Rows, b: &Rows, effort: &mut Effort) -> Option<(Vec<u32>, Rows)> {
    effort.spend(a.count() * b.count() * (STEPS_OF_CELL + 2 * a.width))?;
    let mut numbers = Vec::with_capacity(a.count() * b.count());
    let mut known = Known::default();
    let mut found = Rows { width: a.width, words: Vec::new() };
    for i in 0..a.count() {
        for j in 0..b.count() {
            let both = || a.row(i).iter().zip(b.row(j)).map(|(a, b)| a & b);
            let number = *known.entry(print.of(both().enumerate())).or_insert_with(|| {
                found.words.extend(both());
                found.count() as u32 - 1
            });
            numbers.push(number);
        }
    }
    Some((numbers, found))
}

/// The places of the ones in a word.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = word.trailing_zeros() as usize;
        (word != 0).then(|| {
            word &= word - 1;
            at
        })
    })
}

/// Writes an answer for the classes that it holds in and that have none so far. Returns how many these were.
fn first_of(held: &[u64], missing: &mut [u64], answer: u16, row: &mut [u16]) -> usize {
    let mut count = 0;
    for ((&held, missing), row) in held.iter().zip(missing).zip(row.chunks_mut(64)) {
        let new = held & *missing;
        *missing &= !held;
        count += new.count_ones() as usize;
        if new == u64::MAX {
            row.fill(answer);
        } else {
            ones(new).for_each(|at| row[at] = answer);
        }
    }
    count
}

/// Steps that looking up a fingerprint takes.
const STEPS_OF_CELL: usize = 40;

/// Builds the tables for `broad` entries, ascending. `None` if they take more bytes than `room`, or more steps to build than
/// there are.
pub fn cross(dims: &Dimensions, broad: &[u32], room: usize, effort: &mut Effort) -> Option<Built> {
    if broad.len() >= usize::from(u16::MAX) {
        return None;
    }
    let print = Print::new();
    let (src, src_of, src_sets) = narrowed(&dims.src, broad, effort)?;
    let (dst, dst_of, dst_sets) = narrowed(&dims.dst, broad, effort)?;
    let width = broad.len().div_ceil(64).max(1);
    let pairs = src.members.len() * dst.members.len();
    if pairs * 4 > room {
        return None;
    }
    effort.spend((src.members.len() + dst.members.len()) * width)?;

    // Ports and protocol: the different triples, as bits.
    let mut triples: HashMap<[u32; 3], u32> = HashMap::new();
    let mut examples: Vec<u32> = Vec::new();
    let triple_of: Vec<u32> = broad
        .iter()
        .map(|&entry| {
            let e = entry as usize;
            *triples.entry([dims.sport.of[e], dims.dport.of[e], dims.protocol.of[e]]).or_insert_with(|| {
                examples.push(entry);
                examples.len() as u32 - 1
            })
        })
        .collect();
    let mut field = |sets: &Sets| {
        let (classes, of, count) = narrowed(sets, &examples, effort)?;
        effort.spend(classes.members.len() * examples.len().div_ceil(64))?;
        let rows = rows(&classes, &of, count);
        Some((classes, rows))
    };
    let (sport, dport, protocol) = (field(&dims.sport)?, field(&dims.dport)?, field(&dims.protocol)?);
    let counts = [&sport, &dport, &protocol].map(|(classes, _)| classes.members.len());
    if counts[0] * counts[1] * counts[2] * 2 > room {
        return None;
    }
    let (outer, transports) = product(&print, &protocol.1, &dport.1, effort)?;
    let (inner, port_rows) = product(&print, &transports, &sport.1, effort)?;
    let port_classes = port_rows.count();
    u16::try_from(port_classes).ok()?;
    let ports: Vec<u16> =
        outer.iter().flat_map(|&o| &inner[o as usize * counts[0]..][..counts[0]]).map(|&class| class as u16).collect();
    let offsets = |global: &Numbering, own: &Classes, factor: usize| -> Vec<u32> {
        let mut offsets = vec![0; global.count];
        for &(start, class) in &global.starts {
            offsets[class as usize] = own.numbers.at(start) * factor as u32;
        }
        offsets
    };
    effort.spend(port_classes * examples.len())?;
    // By triple: the classes of ports in which it holds, as bits.
    let words = port_classes.div_ceil(64);
    let mut held = vec![0u64; words * examples.len()];
    for class in 0..port_classes {
        let row = port_rows.row(class);
        for (triple, held) in held.chunks_mut(words).enumerate() {
            held[class / 64] |= (row[triple / 64] >> (triple % 64) & 1) << (class % 64);
        }
    }
    let held = |triple: u32| &held[triple as usize * words..][..words];

    // Addresses: the entries that each pair of classes leaves, and what they answer. A row of answers is as wide as whole chunks.
    let wide = if port_classes > CHUNK {
        port_classes.next_multiple_of(CHUNK)
    } else {
        port_classes.next_power_of_two().max(4)
    };
    let (src_rows, dst_rows) = (rows(&src, &src_of, src_sets), rows(&dst, &dst_of, dst_sets));
    let mut leaves = Known::default();
    let mut answers = Answers::new(wide);
    let mut row = vec![0u16; wide];
    let mut missing = vec![0u64; words];
    let mut table = Vec::with_capacity(pairs);
    let mut left: Vec<(usize, u64)> = Vec::new();
    for s in 0..src_rows.count() {
        let s_words: Vec<(usize, u64)> =
            src_rows.row(s).iter().copied().enumerate().filter(|word| word.1 != 0).collect();
        let mut steps = dst_rows.count() * (STEPS_OF_CELL + s_words.len());
        for d in 0..dst_rows.count() {
            let d_row = dst_rows.row(d);
            left.clear();
            left.extend(s_words.iter().map(|&(w, word)| (w, word & d_row[w])).filter(|word| word.1 != 0));
            let row_number = *leaves.entry(print.of(left.iter().copied())).or_insert_with(|| {
                row.fill(0);
                missing.fill(u64::MAX);
                let positions = left.iter().flat_map(|&(w, word)| ones(word).map(move |bit| w * 64 + bit));
                let mut are_missing = port_classes;
                for at in positions {
                    are_missing -= first_of(held(triple_of[at]), &mut missing, at as u16 + 1, &mut row);
                    steps += 3 + words / 2;
                    if are_missing == 0 {
                        break;
                    }
                }
                steps += STEPS_OF_CELL + 2 * wide;
                answers.number(&print, &row)
            });
            table.push(row_number);
        }
        effort.spend(steps)?;
        if answers.bytes() > room {
            return None;
        }
    }
    let Answers { offsets: chunks, mut answers, .. } = answers;
    let width = dst.members.len() as u32;
    // Answers are 1 + the position among the broad entries so far, or, if that has room, come to be 1 + the entry's own number.
    let is_small = broad.last().is_none_or(|&last| last < u32::from(u16::MAX));
    let ids = if is_small { Vec::new() } else { [NONE].into_iter().chain(broad.iter().copied()).collect() };
    if is_small {
        for answer in answers.iter_mut().filter(|answer| **answer != 0) {
            *answer = broad[usize::from(*answer) - 1] as u16 + 1;
        }
    }
    let shift = wide.min(CHUNK).trailing_zeros();
    let of_row = if chunks.is_empty() { wide as u32 } else { (wide >> shift) as u32 };
    let offsets = [
        offsets(&dims.port_classes[0], &sport.0, 1),
        offsets(&dims.port_classes[1], &dport.0, counts[0]),
        offsets(&dims.protocol_classes, &protocol.0, counts[0] * counts[1]),
    ];
    let (offsets, factors, ports) = written_out(offsets, ports);
    let built = Built {
        tables: Tables {
            offsets,
            factors,
            ports,
            width,
            pairs: table.into_iter().map(|row| row * of_row).collect(),
            chunks,
            shift,
            answers,
            ids,
        },
        sides: [src.numbers.starts, dst.numbers.starts],
    };
    (built.tables.bytes().iter().sum::<usize>() <= room).then_some(built)
}
