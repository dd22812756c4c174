//! The positions that a pair of address classes leaves in, row by row; the tables of what they answer by class of ports out, in which
//! equal parts of rows are kept once.

use std::hash::{BuildHasher, RandomState};

use super::product::{Known, Rows, ones};

/// Rows of answers that take less are not cut into chunks: they stay in a second cache beside the other tables, and a load less counts
/// for more than the memory.
const FEW_BYTES: usize = 512 << 10;

/// Answers in a chunk: a cache line.
pub const CHUNK: usize = 32;

/// Classes of ports that one word has a bit for.
const WORD: usize = u64::BITS as usize;

/// Classes of ports in which a triple of ports and protocol holds: 64 of them.
pub struct Held {
    /// Which 64.
    word: u32,
    /// So many that it is quicker to look at each class.
    is_dense: bool,
    bits: u64,
}

/// The row of a pair of address classes while it is filled in: the first position that holds wins.
pub struct Row {
    answers: Vec<[u16; WORD]>,
    /// Classes that have no answer yet.
    missing: Vec<u64>,
    /// Words of these that are not zero.
    open: usize,
    classes: usize,
}

impl Row {
    /// For so many classes of ports; to be cleared first.
    pub fn new(classes: usize) -> Row {
        let words = classes.div_ceil(WORD);
        Row { answers: vec![[0; WORD]; words], missing: vec![0; words], open: 0, classes }
    }

    /// Forgets all answers.
    pub fn clear(&mut self) {
        self.answers.fill([0; WORD]);
        self.missing.fill(u64::MAX);
        if let Some(last) = self.missing.last_mut() {
            *last >>= (WORD - self.classes % WORD) % WORD;
        }
        self.open = self.missing.len();
    }

    /// Writes an answer for the classes that a triple holds in and that have none so far. Returns whether some have none still.
    pub fn write(&mut self, held: &[Held], answer: u16) -> bool {
        for &Held { word, is_dense, bits } in held {
            let missing = &mut self.missing[word as usize];
            let new = bits & *missing;
            if new == 0 {
                continue;
            }
            *missing ^= new;
            self.open -= usize::from(*missing == 0);
            let answers = &mut self.answers[word as usize];
            if is_dense {
                write_each(answers, new, answer);
            } else {
                ones(new).for_each(|at| answers[at] = answer);
            }
        }
        self.open > 0
    }

    /// The answers, zero behind the last class, in so many chunks.
    pub fn chunks(&self, count: usize) -> &[[u16; CHUNK]] {
        &self.answers.as_flattened().as_chunks().0[..count]
    }
}

/// Writes an answer where a bit is set; without branches, so that a compiler makes vectors of it.
fn write_each(row: &mut [u16; WORD], bits: u64, answer: u16) {
    const BITS: [u16; 16] = {
        let (mut bits, mut at) = ([0; 16], 0);
        while at < 16 {
            bits[at] = 1 << at;
            at += 1;
        }
        bits
    };
    for (i, row) in row.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let part = (bits >> (16 * i)) as u16;
        for (slot, bit) in row.iter_mut().zip(BITS) {
            *slot = if part & bit == bit { answer } else { *slot };
        }
    }
}

/// By triple: the classes of ports in which it holds.
pub fn held_by(port_rows: &Rows, triples: usize) -> Vec<Vec<Held>> {
    const DENSE: u32 = 12;
    let mut held: Vec<Vec<Held>> = Vec::new();
    held.resize_with(triples, Vec::new);
    for class in 0..port_rows.count() {
        for (at, &word) in port_rows.row(class).iter().enumerate() {
            for triple in ones(word).map(|bit| at * WORD + bit) {
                let bit = 1 << (class % WORD);
                match held[triple].last_mut() {
                    Some(last) if last.word as usize == class / WORD => last.bits |= bit,
                    _ => held[triple].push(Held { word: (class / WORD) as u32, is_dense: false, bits: bit }),
                }
            }
        }
    }
    held.iter_mut().flatten().for_each(|held| held.is_dense = held.bits.count_ones() > DENSE);
    held
}

/// Rows of answers of one width, each kept once, as chunks, of which equal ones are kept once, too.
pub struct Answers {
    print: Print,
    /// Answers in a row.
    width: usize,
    /// By fingerprint of the chunks' offsets: the number of the row.
    known: Known,
    /// Offsets of chunks, row by row.
    offsets: Vec<u32>,
    /// By fingerprint of the answers: the offset of the chunk.
    known_chunks: Known,
    /// Different chunks.
    chunks: Vec<u16>,
    /// The row that was asked for last, and the offsets of its chunks: most of the next one's are the same.
    last: Vec<[u16; CHUNK]>,
    last_offsets: Vec<u32>,
}

impl Answers {
    /// For rows of this width: a multiple of [`CHUNK`], or a power of two below it.
    pub fn new(width: usize) -> Answers {
        Answers {
            print: Print::new(),
            width,
            known: Known::default(),
            offsets: Vec::new(),
            known_chunks: Known::default(),
            chunks: Vec::new(),
            last: Vec::new(),
            last_offsets: Vec::new(),
        }
    }

    /// Answers of a chunk.
    fn chunk(&self) -> usize {
        self.width.min(CHUNK)
    }

    /// Bytes of the whole rows.
    fn whole_bytes(&self) -> usize {
        self.offsets.len() * self.chunk() * 2
    }

    /// Bytes of the tables so far.
    pub fn bytes(&self) -> usize {
        let whole = self.whole_bytes();
        if whole <= FEW_BYTES { whole } else { self.offsets.len() * 4 + self.chunks.len() * 2 }
    }

    /// The number of a row, which is added if it is another one than those before. Answers behind its end are zero.
    pub fn number(&mut self, row: &[[u16; CHUNK]]) -> u32 {
        let (print, size) = (self.print, self.chunk());
        let is_first = self.last.is_empty();
        if is_first {
            self.last.extend_from_slice(row);
            self.last_offsets.resize(row.len(), 0);
        }
        for at in 0..row.len() {
            if !is_first && row[at] == self.last[at] {
                continue;
            }
            self.last[at] = row[at];
            self.last_offsets[at] = match at.checked_sub(1) {
                Some(before) if row[before] == row[at] => self.last_offsets[before],
                _ => {
                    let chunks = &mut self.chunks;
                    *self.known_chunks.entry(print.of_answers(&row[at])).or_insert_with(|| {
                        chunks.extend_from_slice(&row[at][..size]);
                        (chunks.len() - size) as u32
                    })
                }
            };
        }
        let of_row = self.last_offsets.len();
        let pairs = self.last_offsets.chunks(2).map(|pair| pair.iter().fold(0, |all, &at| all << 32 | u64::from(at)));
        let number = (self.offsets.len() / of_row) as u32;
        let found = *self.known.entry(print.of(pairs.enumerate())).or_insert(number);
        if found == number {
            self.offsets.extend_from_slice(&self.last_offsets);
        }
        found
    }

    /// The table of chunks, which is empty if rows are whole, and the answers.
    pub fn tables(self) -> (Vec<u32>, Vec<u16>) {
        if self.whole_bytes() > FEW_BYTES {
            return (self.offsets, self.chunks);
        }
        let size = self.chunk();
        let answers = self.offsets.iter().flat_map(|&at| &self.chunks[at as usize..][..size]).copied().collect();
        (Vec::new(), answers)
    }
}

/// A fingerprint of words, keyed; two different rows do not meet by chance.
#[derive(Clone, Copy)]
struct Print([u64; 2]);

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of any width against the first position that holds, class by class; few rows stay whole, many are cut.
    #[test]
    fn rows_answer_with_the_first_position_that_holds() {
        let mut dice = 7u64;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        for (classes, width, rows) in
            [(1, 4, 5), (3, 4, 50), (17, 32, 40), (64, 64, 90), (130, 160, 30), (700, 704, 900)]
        {
            // By class: the triples that hold, of which there are 70.
            let words: Vec<u64> =
                (0..classes * 2).map(|i| (roll(1 << 30) * roll(1 << 30) * roll(4)) >> (58 * (i % 2))).collect();
            let port_rows = Rows { width: 2, words };
            let held = held_by(&port_rows, 70);
            let (mut row, mut answers, mut expected) = (Row::new(classes), Answers::new(width), Vec::new());
            for _ in 0..rows {
                let triples: Vec<usize> = (0..1 + roll(12)).map(|_| roll(70) as usize).collect();
                row.clear();
                let _ = triples.iter().zip(1..).all(|(&triple, answer)| row.write(&held[triple], answer));
                let first = |class: usize| {
                    let holds = |&triple: &usize| port_rows.row(class)[triple / 64] >> (triple % 64) & 1 == 1;
                    triples.iter().position(holds).map_or(0, |at| at as u16 + 1)
                };
                expected.push((
                    answers.number(row.chunks(width.div_ceil(CHUNK))),
                    (0..classes).map(first).collect::<Vec<_>>(),
                ));
            }
            let (is_whole, bytes) = (answers.whole_bytes() <= FEW_BYTES, answers.bytes());
            assert_eq!(is_whole, rows < 900, "both forms are met");
            let (chunks, answers) = answers.tables();
            assert_eq!(bytes, chunks.len() * 4 + answers.len() * 2);
            for (number, row) in &expected {
                let found = |class: usize| {
                    let at = *number as usize * width + class;
                    if is_whole { answers[at] } else { answers[chunks[at / CHUNK] as usize + at % CHUNK] }
                };
                assert!(
                    row.iter().enumerate().all(|(class, &answer)| found(class) == answer),
                    "{classes} classes, row {number}"
                );
            }
            let mut distinct: Vec<_> = expected.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert!(
                distinct.windows(2).all(|pair| pair[0].0 != pair[1].0 && pair[0].1 != pair[1].1),
                "each row is kept once"
            );
        }
    }
}
