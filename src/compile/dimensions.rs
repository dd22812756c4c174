//! The boxes of an ordered list and the scopes over it in, the [`Classifier`] out.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::rc::Rc;

use super::boxes::{Match, PortSet, ProtocolSet};
use super::list::Block;
use super::ranges::{AddressSet, Ranges};
use super::sweep::sweep;
use crate::base::address::Family;
use crate::engine::program::bits::{BitTable, WORD};
use crate::engine::program::classifier::{AddressDimension, Classifier, Dimension, PortDimension, ProtocolDimension};
use crate::engine::program::trie::Trie;

/// The distinct values of one dimension, and which entries have each.
struct Distinct<'m, S> {
    values: Vec<&'m S>,
    /// By value: the words of entries that are not zero, ascending.
    entries: Vec<Vec<(u32, u64)>>,
    open: Vec<u32>,
}

/// Sets the bit of an entry in ascending words.
fn set(words: &mut Vec<(u32, u64)>, entry: u32) {
    let (word, bit) = (entry / WORD as u32, 1u64 << (entry % WORD as u32));
    match words.last_mut() {
        Some(last) if last.0 == word => last.1 |= bit,
        _ => words.push((word, bit)),
    }
}

impl<'m, S: Eq + Hash> Distinct<'m, S> {
    fn new(values: impl Iterator<Item = Option<&'m S>>) -> Distinct<'m, S> {
        let mut distinct = Distinct { values: Vec::new(), entries: Vec::new(), open: Vec::new() };
        let mut known: HashMap<&'m S, usize> = HashMap::new();
        // Entries share large values, which are then known without looking into them.
        let mut by_pointer: HashMap<*const S, usize> = HashMap::new();
        for (entry, value) in values.enumerate() {
            let entry = entry as u32;
            let Some(value) = value else {
                distinct.open.push(entry);
                continue;
            };
            let at = *by_pointer.entry(value).or_insert_with(|| {
                *known.entry(value).or_insert_with(|| {
                    distinct.values.push(value);
                    distinct.entries.push(Vec::new());
                    distinct.values.len() - 1
                })
            });
            set(&mut distinct.entries[at], entry);
        }
        distinct
    }

    /// A row for the entries of these values.
    fn row(&self, classes: &mut BitTable, values: &BTreeSet<u32>) -> u32 {
        let mut words: Vec<(u32, u64)> = values.iter().flat_map(|&v| &self.entries[v as usize]).copied().collect();
        words.sort_unstable_by_key(|word| word.0);
        words.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 |= next.1;
            }
            is_same
        });
        classes.push_words(words)
    }

    fn dimension(&self, count: usize, classes: BitTable) -> Dimension {
        let mut open = vec![0u64; count.div_ceil(WORD)];
        for &entry in &self.open {
            open[entry as usize / WORD] |= 1 << (entry as usize % WORD);
        }
        let mut open_summary = vec![0u64; open.len().div_ceil(WORD)];
        for (w, _) in open.iter().enumerate().filter(|(_, word)| **word != 0) {
            open_summary[w / WORD] |= 1 << (w % WORD);
        }
        Dimension { open_summary, open, classes }
    }
}

/// Builds the classifier. `scopes` are ascending blocks of entries, in the order of their scope numbers.
pub fn classifier(matches: &[Match], scopes: &[Rc<[Block]>]) -> Classifier {
    let entries = matches.len();
    let mut scope_table = BitTable::new(entries);
    for scope in scopes {
        scope_table.push(scope.iter().cloned().flatten());
    }
    Classifier {
        entries,
        src: addresses(entries, matches.iter().map(|m| m.src.as_deref())),
        dst: addresses(entries, matches.iter().map(|m| m.dst.as_deref())),
        sport: ports(entries, matches.iter().map(|m| ranges_of(&m.sport))),
        dport: ports(entries, matches.iter().map(|m| ranges_of(&m.dport))),
        protocol: protocols(entries, matches),
        scopes: scope_table,
    }
}

fn ranges_of(ports: &PortSet) -> Option<&Ranges> {
    match ports {
        PortSet::Any => None,
        PortSet::In(ranges) => Some(ranges),
    }
}

fn addresses<'m>(entries: usize, sets: impl Iterator<Item = Option<&'m AddressSet>>) -> AddressDimension {
    let distinct = Distinct::new(sets);
    let mut classes = BitTable::new(entries);
    let tries = [Family::V4, Family::V6].map(|family| {
        let named = distinct.values.iter().enumerate();
        let ranges = named.map(|(i, set)| (i as u32, set.families[family as usize].pairs()));
        let starts = sweep(ranges, |values| distinct.row(&mut classes, values));
        Trie::new(family.bits(), &starts)
    });
    AddressDimension { tries, dimension: distinct.dimension(entries, classes) }
}

fn ports<'m>(entries: usize, sets: impl Iterator<Item = Option<&'m Ranges>>) -> PortDimension {
    let distinct = Distinct::new(sets);
    let mut classes = BitTable::new(entries);
    // At most 65,536 combinations occur over 65,536 ports, so that a class fits 16 bits; the class of packets without a
    // transport header comes behind them.
    let named = distinct.values.iter().enumerate().map(|(i, ranges)| (i as u32, ranges.pairs()));
    let starts = sweep(named, |values| distinct.row(&mut classes, values));
    let mut table = Vec::with_capacity(1 << 16);
    for (i, &(start, class)) in starts.iter().enumerate() {
        let end = starts.get(i + 1).map_or(1 << 16, |next| next.0).min(1 << 16);
        table.extend((start..end).map(|_| class as u16));
    }
    let without = classes.push([]);
    PortDimension { table, without, dimension: distinct.dimension(entries, classes) }
}

fn protocols(entries: usize, matches: &[Match]) -> ProtocolDimension {
    let all = |set: &ProtocolSet| *set == ProtocolSet::ALL;
    let distinct = Distinct::new(matches.iter().map(|m| (!all(&m.protocols)).then_some(&m.protocols)));
    let mut classes = BitTable::new(entries);
    let mut known: HashMap<BTreeSet<u32>, u32> = HashMap::new();
    let mut table = Vec::with_capacity(512);
    for family in [Family::V4, Family::V6] {
        for protocol in 0..=255 {
            let inside = distinct.values.iter().enumerate().filter(|(_, set)| set.contains(family, protocol));
            let values: BTreeSet<u32> = inside.map(|(i, _)| i as u32).collect();
            let class = *known.entry(values.clone()).or_insert_with(|| distinct.row(&mut classes, &values));
            table.push(class as u16);
        }
    }
    ProtocolDimension { table, dimension: distinct.dimension(entries, classes) }
}
