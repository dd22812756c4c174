//! Named sets of ranges in, consecutive intervals out, each with the class of names that hold in it.
//!
//! The number of classes is the number of different *combinations* of sets that occur, not of sets times anything.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

/// Sweeps over `sets` (a name and its ascending, disjoint, inclusive ranges). `class` is called once for each combination of
/// names that occurs, the empty one included, and gives it a number. Returns the starts of the intervals with their
/// numbers, the first at 0, neighbours with equal numbers joined.
pub fn sweep<'a>(
    sets: impl IntoIterator<Item = (u32, &'a [(u128, u128)])>,
    mut class: impl FnMut(&BTreeSet<u32>) -> u32,
) -> Vec<(u128, u32)> {
    let hasher = RandomState::new();
    let token = |name: u32| u128::from(hasher.hash_one((name, 1u8))) << 64 | u128::from(hasher.hash_one((name, 2u8)));
    let mut named: Vec<(u32, u128)> = Vec::new();
    let mut events: Vec<(u128, bool, u32)> = Vec::new();
    for (name, ranges) in sets {
        let set = named.len() as u32;
        named.push((name, token(name)));
        for &(first, last) in ranges {
            events.push((first, true, set));
            if let Some(after) = last.checked_add(1) {
                events.push((after, false, set));
            }
        }
    }
    events.sort_unstable();
    // A combination is known by the XOR of its names' random tokens: 128 bits, so that two do not meet by chance.
    let mut known: HashMap<u128, u32> = HashMap::new();
    let mut active = BTreeSet::new();
    let mut signature = 0u128;
    let mut starts: Vec<(u128, u32)> = Vec::new();
    let mut at = 0;
    let mut position = 0;
    loop {
        while let Some(&(_, opens, set)) = events.get(at).filter(|e| e.0 == position) {
            let (name, token) = named[set as usize];
            signature ^= token;
            if opens {
                active.insert(name)
            } else {
                active.remove(&name)
            };
            at += 1;
        }
        let number = *known.entry(signature).or_insert_with(|| class(&active));
        if starts.last().is_none_or(|last| last.1 != number) {
            starts.push((position, number));
        }
        match events.get(at) {
            Some(next) => position = next.0,
            None => return starts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_carry_the_names_that_hold_in_them() {
        let sets: [(u32, &[(u128, u128)]); 3] =
            [(1, &[(0, 9), (20, 29)]), (2, &[(5, 24)]), (3, &[(u128::MAX, u128::MAX)])];
        let mut classes = Vec::new();
        let starts = sweep(sets, |names| {
            classes.push(names.iter().copied().collect::<Vec<_>>());
            classes.len() as u32 - 1
        });
        let shown: Vec<(u128, &[u32])> = starts.iter().map(|&(p, c)| (p, classes[c as usize].as_slice())).collect();
        let expected: [(u128, &[u32]); 7] =
            [(0, &[1]), (5, &[1, 2]), (10, &[2]), (20, &[1, 2]), (25, &[1]), (30, &[]), (u128::MAX, &[3])];
        assert_eq!(shown, expected);
        assert_eq!(classes.len(), 5, "a combination that comes back has one class");
    }

    #[test]
    fn no_sets_make_one_interval() {
        assert_eq!(sweep([], |_| 7), [(0, 7)]);
    }
}
