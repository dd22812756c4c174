//! Sets of values in, the classes that they cut their line into out: how every dimension of a program is numbered.
//!
//! The number of classes is the number of different *combinations* of sets that occur, not of sets times anything.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::rc::Rc;

use super::boxes::PortSet;
use super::ranges::{AddressSet, Ranges};
use crate::base::address::Family;
use crate::engine::program::arena::Line;
use crate::engine::program::header::WITHOUT_PORTS;
use crate::engine::program::partition::Partition;

/// In place of the number of a set: no criterion.
pub const OPEN: u32 = u32::MAX;

/// Inclusive ranges of small numbers, ascending and disjoint.
pub type Spans = Vec<(u32, u32)>;

/// The different sets of a dimension, and which entry has which.
#[derive(Debug)]
pub struct Sets {
    /// By set: the numbers inside.
    pub spans: Vec<Spans>,
    /// By entry: its set, or [`OPEN`].
    pub of: Vec<u32>,
    /// Numbers are below this.
    pub universe: u32,
}

/// Gives equal values one number. Entries share large values, which are then known without looking into them.
fn number<'m, S: Eq + Hash>(values: impl Iterator<Item = Option<&'m S>>) -> (Vec<&'m S>, Vec<u32>) {
    let mut distinct: Vec<&'m S> = Vec::new();
    let mut known: HashMap<&'m S, u32> = HashMap::new();
    let mut by_pointer: HashMap<*const S, u32> = HashMap::new();
    let of = values
        .map(|value| {
            let Some(value) = value else { return OPEN };
            *by_pointer.entry(value).or_insert_with(|| {
                *known.entry(value).or_insert_with(|| {
                    distinct.push(value);
                    distinct.len() as u32 - 1
                })
            })
        })
        .collect();
    (distinct, of)
}

/// Cuts the addresses of one side: the intervals, and the sets as ranges of their numbers.
pub fn addresses<'m>(sets: impl Iterator<Item = Option<&'m AddressSet>>, lines: &mut Vec<Line>) -> (Partition, Sets) {
    let (distinct, of) = number(sets);
    let edges = |family: Family| {
        let pairs = distinct.iter().flat_map(move |set| set.families[family as usize].pairs());
        let mut edges: Vec<u128> = pairs
            .flat_map(|&(first, last)| [Some(first), last.checked_add(1)])
            .flatten()
            .filter(|&e| e <= family.max())
            .collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    };
    let v4: Vec<u32> = edges(Family::V4).into_iter().map(|edge| edge as u32).collect();
    let partition = Partition::new(&v4, &edges(Family::V6), lines);
    let intervals = partition.view(lines);
    let span =
        |family: Family, &(first, last): &(u128, u128)| (intervals.get(family, first), intervals.get(family, last));
    let spans = distinct
        .iter()
        .map(|set| {
            let [v4, v6] = &set.families;
            let v4 = v4.pairs().iter().map(|pair| span(Family::V4, pair));
            join(v4.chain(v6.pairs().iter().map(|pair| span(Family::V6, pair))))
        })
        .collect();
    let universe = partition.intervals();
    (partition, Sets { spans, of, universe })
}

/// Ascending ranges, those that touch as one.
fn join(ranges: impl Iterator<Item = (u32, u32)>) -> Spans {
    let mut spans = Spans::new();
    for (first, last) in ranges {
        match spans.last_mut() {
            Some(open) if open.1 + 1 == first => open.1 = last,
            _ => spans.push((first, last)),
        }
    }
    spans
}

/// The port sets of one side. The last number is that of packets without ports.
pub fn ports<'m>(sets: impl Iterator<Item = &'m PortSet>) -> Sets {
    let (distinct, of) = number(sets.map(|set| match set {
        PortSet::Any => None,
        PortSet::In(ranges) => Some(ranges),
    }));
    let spans =
        distinct.iter().map(|ranges: &&Ranges| ranges.pairs().iter().map(|&(a, b)| (a as u32, b as u32)).collect());
    Sets { spans: spans.collect(), of, universe: WITHOUT_PORTS + 1 }
}

/// The sets of numbers that some values hold.
pub fn numbers<'m, S: Eq + Hash + 'm>(
    values: impl Iterator<Item = Option<&'m S>>,
    universe: u32,
    holds: impl Fn(&S, u32) -> bool,
) -> Sets {
    let (distinct, of) = number(values);
    let spans = distinct.iter().map(|&set| join((0..universe).filter(|&n| holds(set, n)).map(|n| (n, n))));
    Sets { spans: spans.collect(), of, universe }
}

/// A position on a line that is cut.
pub trait Position: Copy + Ord {
    /// The first of all.
    const FIRST: Self;

    /// The next, if there is one.
    fn next(self) -> Option<Self>;
}

impl Position for u32 {
    const FIRST: u32 = 0;

    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }
}

impl Position for u128 {
    const FIRST: u128 = 0;

    fn next(self) -> Option<u128> {
        self.checked_add(1)
    }
}

/// What a cut tells while it goes along the line.
pub trait Cutter {
    /// A set begins to hold, or, if it holds already, ends.
    fn toggle(&mut self, set: u32);

    /// The sets that hold now do so together for the first time: the next class. `None` ends the cut.
    fn class(&mut self) -> Option<()>;
}

/// The numbers of the classes are all that is wanted.
impl Cutter for () {
    fn toggle(&mut self, _: u32) {}

    fn class(&mut self) -> Option<()> {
        Some(())
    }
}

/// A cutter that hands the names that hold in each new class to a function.
pub struct Named<F> {
    here: BTreeSet<u32>,
    each: F,
}

impl<F: FnMut(&BTreeSet<u32>)> Named<F> {
    /// Calls `each` once for each combination of names that comes up, the empty one included, in the order of the classes.
    pub fn new(each: F) -> Named<F> {
        Named { here: BTreeSet::new(), each }
    }
}

impl<F: FnMut(&BTreeSet<u32>)> Cutter for Named<F> {
    fn toggle(&mut self, set: u32) {
        if !self.here.remove(&set) {
            self.here.insert(set);
        }
    }

    fn class(&mut self) -> Option<()> {
        (self.each)(&self.here);
        Some(())
    }
}

/// Cuts a line by named sets of ascending, disjoint, inclusive ranges. Classes are numbered as they first come up, and a combination
/// that comes back keeps its class. Returns where a class begins to hold, ascending, neighbours different; `None` if the cutter
/// ended it. Cost: sorts the ends of the ranges.
pub fn cut<'s, P: Position + 's>(
    sets: impl IntoIterator<Item = (u32, &'s [(P, P)])>,
    cutter: &mut impl Cutter,
) -> Option<Vec<(P, u32)>> {
    let hasher = RandomState::new();
    let mut events: Vec<(P, u32)> = Vec::new();
    let mut tokens: Vec<(u32, u128)> = Vec::new();
    for (name, spans) in sets {
        let set = tokens.len() as u32;
        tokens.push((name, u128::from(hasher.hash_one((name, 1u8))) << 64 | u128::from(hasher.hash_one((name, 2u8)))));
        for &(first, last) in spans {
            events.push((first, set));
            events.extend(last.next().map(|after| (after, set)));
        }
    }
    events.sort_unstable();
    // A combination is known by the XOR of its names' random tokens: 128 bits, so that two do not meet by chance.
    let mut known: HashMap<u128, u32> = HashMap::new();
    let mut signature = 0u128;
    let mut starts: Vec<(P, u32)> = Vec::new();
    let mut events = events.into_iter().peekable();
    let mut position = P::FIRST;
    loop {
        while let Some((_, set)) = events.next_if(|event| event.0 == position) {
            let (name, token) = tokens[set as usize];
            signature ^= token;
            cutter.toggle(name);
        }
        let count = known.len() as u32;
        let class = *known.entry(signature).or_insert(count);
        if class == count {
            cutter.class()?;
        }
        if starts.last().is_none_or(|last| last.1 != class) {
            starts.push((position, class));
        }
        match events.peek() {
            Some(next) => position = next.0,
            None => return Some(starts),
        }
    }
}

/// The classes of a line by number.
#[derive(Debug)]
pub struct Numbering {
    /// Where a class begins to hold, ascending, the first at 0.
    pub starts: Vec<(u32, u32)>,
    /// Classes.
    pub count: usize,
}

impl Numbering {
    /// The classes that all sets of a dimension make.
    pub fn of(sets: &Sets) -> Numbering {
        Numbering::new(cut(sets.named(), &mut ()).unwrap_or_default())
    }

    /// From what [`cut`] returns.
    pub fn new(starts: Vec<(u32, u32)>) -> Numbering {
        let count = starts.iter().map(|start| start.1 as usize + 1).max().unwrap_or(0);
        Numbering { starts, count }
    }

    /// What `of` says of the class of each number below `universe`; there is room for one element behind them.
    pub fn table<T: Clone>(&self, universe: u32, of: impl Fn(u32) -> T) -> Vec<T> {
        let mut table = Vec::with_capacity(universe as usize + 1);
        let ends = self.starts.iter().skip(1).map(|next| next.0).chain([universe]);
        for (&(_, class), end) in self.starts.iter().zip(ends) {
            table.resize(end as usize, of(class));
        }
        table
    }

    /// The class of a number. Cost: a binary search.
    pub fn at(&self, number: u32) -> u32 {
        let after = self.starts.partition_point(|start| start.0 <= number);
        after.checked_sub(1).map_or(0, |at| self.starts[at].1)
    }
}

impl Sets {
    /// The sets with their numbers as names.
    pub fn named(&self) -> impl Iterator<Item = (u32, &[(u32, u32)])> {
        self.spans.iter().enumerate().map(|(set, spans)| (set as u32, spans.as_slice()))
    }
}

/// How many steps building may still take: what keeps the time of a build within bounds whatever the rules, and equal rules with
/// equal outcome, which a clock would not. A step is about a nanosecond.
#[derive(Debug)]
pub struct Effort(u64);

impl Effort {
    /// This many steps.
    pub fn new(steps: u64) -> Effort {
        Effort(steps)
    }

    /// Takes some away; `None` if there were fewer.
    pub fn spend(&mut self, steps: usize) -> Option<()> {
        let left = self.0.checked_sub(steps as u64);
        self.0 = left.unwrap_or(0);
        left.map(|_| ())
    }

    /// Steps that are left.
    pub fn left(&self) -> u64 {
        self.0
    }

    /// Sets a part aside, if there is as much.
    pub fn part(&mut self, most: u64) -> Effort {
        let part = self.0.min(most);
        self.0 -= part;
        Effort(part)
    }

    /// Takes back what is left of a part.
    pub fn give_back(&mut self, part: Effort) {
        self.0 += part.0;
    }
}

/// The classes of a line with what holds in them.
#[derive(Debug)]
pub struct Classes {
    /// Where they are.
    pub numbers: Numbering,
    /// By class: the names of the sets that hold in it, ascending.
    pub members: Vec<Rc<[u32]>>,
}

struct Collect<'e> {
    active: Vec<u32>,
    members: Vec<Rc<[u32]>>,
    effort: &'e mut Effort,
    /// What toggling took since the last class.
    steps: usize,
}

impl Cutter for Collect<'_> {
    fn toggle(&mut self, set: u32) {
        self.steps += 64 + self.active.len() / 16;
        match self.active.binary_search(&set) {
            Ok(place) => {
                self.active.remove(place);
            }
            Err(place) => self.active.insert(place, set),
        }
    }

    fn class(&mut self) -> Option<()> {
        self.effort.spend(std::mem::take(&mut self.steps) + 4 * self.active.len())?;
        self.members.push(self.active.as_slice().into());
        Some(())
    }
}

/// Cuts a line by named sets and lists what holds in each class. `None` if that takes too much.
pub fn classes<'s>(sets: impl IntoIterator<Item = (u32, &'s [(u32, u32)])>, effort: &mut Effort) -> Option<Classes> {
    let mut collect = Collect { active: Vec::new(), members: Vec::new(), effort, steps: 0 };
    let starts = cut(sets, &mut collect)?;
    Some(Classes { numbers: Numbering::new(starts), members: collect.members })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_carry_the_names_that_hold_in_them() {
        let sets: [(u32, &[(u128, u128)]); 3] =
            [(1, &[(0, 9), (20, 29)]), (2, &[(5, 24)]), (3, &[(u128::MAX, u128::MAX)])];
        let mut members: Vec<Vec<u32>> = Vec::new();
        let starts = cut(sets, &mut Named::new(|names| members.push(names.iter().copied().collect()))).unwrap();
        let shown: Vec<(u128, &[u32])> = starts.iter().map(|&(p, c)| (p, members[c as usize].as_slice())).collect();
        let expected: [(u128, &[u32]); 7] =
            [(0, &[1]), (5, &[1, 2]), (10, &[2]), (20, &[1, 2]), (25, &[1]), (30, &[]), (u128::MAX, &[3])];
        assert_eq!(shown, expected);
        assert_eq!(members.len(), 5, "a combination that comes back has one class");
    }

    #[test]
    fn no_sets_make_one_class() {
        assert_eq!(cut::<u128>([], &mut ()), Some(vec![(0, 0)]));
    }

    #[test]
    fn classes_stop_where_the_effort_ends() {
        let spans: Vec<Vec<(u32, u32)>> = (0..100).map(|i| vec![(i, 1_000 - i)]).collect();
        let sets = || spans.iter().enumerate().map(|(i, spans)| (i as u32, spans.as_slice()));
        assert_eq!(classes(sets(), &mut Effort::new(1 << 20)).unwrap().members.len(), 101);
        assert!(classes(sets(), &mut Effort::new(1 << 10)).is_none());
    }
}
