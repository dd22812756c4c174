//! Rows of bits and the classes of a field in, a number for each of their conjunctions out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use crate::compile::cut::{Classes, Effort, OPEN};

/// Steps of a product: for each combination of classes, for each run of classes that begins and ends, and for looking up a
/// conjunction.
const STEPS_OF_CELL: usize = 2;
const STEPS_OF_RUN: usize = 2;
const STEPS_OF_LOOKUP: usize = 12;

/// Rows of bits of one width.
pub struct Rows {
    /// Words of a row.
    pub width: usize,
    /// Row by row.
    pub words: Vec<u64>,
}

impl Rows {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.words.len() / self.width
    }

    /// One of them.
    pub fn row(&self, at: usize) -> &[u64] {
        &self.words[at * self.width..][..self.width]
    }
}

/// A dimension of the broad entries: what holds in each of its classes, by class and by position.
pub struct Field {
    /// By class: which positions leave the field open or have a set that holds in the class.
    pub rows: Rows,
    /// By set: the runs of classes that it holds in, the end excluded.
    runs: Vec<Vec<(u32, u32)>>,
    /// By position: its set, or [`OPEN`].
    of: Vec<u32>,
}

impl Field {
    /// From the classes that the sets of the positions make, the set of each position, and the number of sets.
    pub fn new(classes: &Classes, of: Vec<u32>, sets: usize) -> Field {
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
        let mut runs: Vec<Vec<(u32, u32)>> = vec![Vec::new(); sets];
        for (class, members) in (0..).zip(&classes.members) {
            let start = words.len();
            words.extend_from_slice(&open);
            for &set in members.iter() {
                match runs[set as usize].last_mut() {
                    Some(run) if run.1 == class => run.1 += 1,
                    _ => runs[set as usize].push((class, class + 1)),
                }
                for &at in &having[set as usize] {
                    words[start + at as usize / 64] |= 1 << (at % 64);
                }
            }
        }
        Field { rows: Rows { width, words }, runs, of }
    }

    /// The runs of classes that a position holds in.
    fn runs(&self, at: usize) -> &[(u32, u32)] {
        const ALL: &[(u32, u32)] = &[(0, u32::MAX)];
        match self.of[at] {
            OPEN => ALL,
            set => &self.runs[set as usize],
        }
    }
}

/// Numbers by fingerprint.
pub type Known = HashMap<u128, u32, BuildHasherDefault<AsItIs>>;

/// Takes the lower half of a fingerprint, which is random already, as its hash.
#[derive(Default)]
pub struct AsItIs(u64);

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

/// What is left of a row where another one must hold, too.
pub struct Both<'r> {
    /// Words that are not zero, with their places.
    here: &'r [(usize, u64)],
    other: &'r [u64],
}

impl<'r> Both<'r> {
    /// The words that are not zero, with their places.
    pub fn words(&self) -> impl Iterator<Item = (usize, u64)> + 'r {
        let other = self.other;
        self.here.iter().map(move |&(at, word)| (at, word & other[at])).filter(|word| word.1 != 0)
    }

    /// The positions, ascending.
    pub fn positions(&self) -> impl Iterator<Item = usize> + 'r {
        self.words().flat_map(|(at, word)| ones(word).map(move |bit| at * 64 + bit))
    }
}

/// Numbers for what is left when a row of one lot and a class of another must hold, row by row. `number` is asked once for each
/// different conjunction, and adds the steps that it takes.
///
/// A conjunction is known by the XOR of its positions' tokens: going from one class to the next costs only the positions that
/// begin or end to hold there.
pub fn product(
    tokens: &[u128],
    a: &Rows,
    b: &Field,
    effort: &mut Effort,
    mut number: impl FnMut(&Both, &mut usize) -> Option<u32>,
) -> Option<Vec<u32>> {
    let count = b.rows.count();
    let mut numbers = Vec::with_capacity(a.count() * count);
    let mut known = Known::default();
    let mut changes = vec![0u128; count + 1];
    let mut here: Vec<(usize, u64)> = Vec::new();
    for i in 0..a.count() {
        here.clear();
        here.extend(a.row(i).iter().copied().enumerate().filter(|word| word.1 != 0));
        let mut steps = a.width + STEPS_OF_CELL * count;
        for at in (Both { here: &here, other: a.row(i) }).positions() {
            let runs = b.runs(at);
            for &(first, end) in runs {
                changes[first as usize] ^= tokens[at];
                changes[count.min(end as usize)] ^= tokens[at];
            }
            steps += STEPS_OF_RUN * (1 + runs.len());
        }
        let (mut print, mut last) = (0, None);
        for (j, change) in changes.iter_mut().map(std::mem::take).take(count).enumerate() {
            print ^= change;
            let found = match last {
                Some(last) if change == 0 => last,
                _ => {
                    steps += STEPS_OF_LOOKUP;
                    match known.entry(print) {
                        Entry::Occupied(known) => *known.get(),
                        Entry::Vacant(place) => {
                            *place.insert(number(&Both { here: &here, other: b.rows.row(j) }, &mut steps)?)
                        }
                    }
                }
            };
            last = Some(found);
            numbers.push(found);
        }
        changes[count] = 0;
        effort.spend(steps)?;
    }
    Some(numbers)
}

/// As [`product`], with the different conjunctions as rows.
pub fn conjunctions(tokens: &[u128], a: &Rows, b: &Field, effort: &mut Effort) -> Option<(Vec<u32>, Rows)> {
    let mut found = Rows { width: a.width, words: Vec::new() };
    let numbers = product(tokens, a, b, effort, |both, steps| {
        let start = found.words.len();
        found.words.resize(start + found.width, 0);
        both.words().for_each(|(at, word)| found.words[start + at] = word);
        *steps += 2 * found.width;
        Some((start / found.width) as u32)
    })?;
    Some((numbers, found))
}

/// Random tokens for this many positions: 128 bits, so that different conjunctions do not meet by chance.
pub fn tokens(count: usize) -> Vec<u128> {
    let random = RandomState::new();
    let half = |at: usize, which: u8| u128::from(random.hash_one((at, which)));
    (0..count).map(|at| half(at, 0) << 64 | half(at, 1)).collect()
}

/// The places of the ones in a word.
pub fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = word.trailing_zeros() as usize;
        (word != 0).then(|| {
            word &= word - 1;
            at
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::cut::classes;

    /// Sets of several ranges, so that a set holds in several runs of classes, and positions that leave a field open.
    #[test]
    fn conjunctions_are_numbered_by_what_is_left() {
        let mut dice = 3u64;
        let mut roll = |sides: u32| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as u32 % sides
        };
        for positions in [1usize, 5, 64, 150] {
            let mut effort = Effort::new(1 << 30);
            let mut field = || {
                let sets: Vec<Vec<(u32, u32)>> = (0..12)
                    .map(|_| (0..1 + roll(3)).map(|i| (100 * i + roll(40), 100 * i + 40 + roll(40))).collect())
                    .collect();
                let of = (0..positions).map(|_| if roll(5) == 0 { OPEN } else { roll(12) }).collect();
                let named = sets.iter().enumerate().map(|(at, spans)| (at as u32, spans.as_slice()));
                Field::new(&classes(named, &mut effort).unwrap(), of, sets.len())
            };
            let (a, b) = (field(), field());
            let (numbers, found) = conjunctions(&tokens(positions), &a.rows, &b, &mut effort).unwrap();
            for (i, of_row) in numbers.chunks(b.rows.count()).enumerate() {
                for (j, &number) in of_row.iter().enumerate() {
                    let both: Vec<u64> = a.rows.row(i).iter().zip(b.rows.row(j)).map(|(a, b)| a & b).collect();
                    assert_eq!(found.row(number as usize), both, "{positions} positions, {i} and {j}");
                }
            }
            let mut distinct: Vec<&[u64]> = (0..found.count()).map(|at| found.row(at)).collect();
            distinct.sort_unstable();
            assert!(distinct.windows(2).all(|pair| pair[0] != pair[1]), "each has one number");
        }
    }

    #[test]
    fn products_stop_where_the_effort_ends() {
        let spans: Vec<Vec<(u32, u32)>> = (0..100).map(|i| vec![(i, 1_000 - i)]).collect();
        let named = spans.iter().enumerate().map(|(at, spans)| (at as u32, spans.as_slice()));
        let field = Field::new(&classes(named, &mut Effort::new(1 << 30)).unwrap(), (0..100).collect(), 100);
        assert!(conjunctions(&tokens(100), &field.rows, &field, &mut Effort::new(1 << 30)).is_some());
        assert!(conjunctions(&tokens(100), &field.rows, &field, &mut Effort::new(1 << 10)).is_none());
    }
}
