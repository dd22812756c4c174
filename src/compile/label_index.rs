//! Label sets and selectors in, which matches which out, without asking every selector of every label set.
//!
//! Most selectors can match only what has one of a few labels ([`Selector::requirements`]), and those that have them are looked
//! up; only what is found is evaluated.

use std::collections::HashMap;

use crate::policy::ir::Labels;
use crate::policy::selector::{Requirement, Selector};

/// Numbers by requirement.
type Postings<'a> = HashMap<Requirement<'a>, Vec<u32>>;

/// Label sets, numbered from 0, by the labels that they have.
#[derive(Debug, Default)]
pub struct LabelIndex<'p> {
    sets: Vec<&'p Labels>,
    postings: Postings<'p>,
}

impl<'p> LabelIndex<'p> {
    /// Over these label sets.
    pub fn new(sets: Vec<&'p Labels>) -> LabelIndex<'p> {
        let mut postings = Postings::new();
        for (number, labels) in (0u32..).zip(&sets) {
            for (name, value) in *labels {
                postings.entry(Requirement::Name(name)).or_default().push(number);
                postings.entry(Requirement::Pair(name, value)).or_default().push(number);
            }
        }
        LabelIndex { sets, postings }
    }

    /// How many label sets meet a requirement.
    fn count(&self, requirement: Requirement<'_>) -> usize {
        self.postings.get(&requirement).map_or(0, Vec::len)
    }

    /// The numbers of the label sets that match, ascending. Cost: the label sets that have its rarest required label.
    pub fn matching(&self, selector: &Selector) -> Vec<u32> {
        let mut found: Vec<u32> = match selector.requirements(&|requirement| self.count(requirement)) {
            None => (0..self.sets.len() as u32).collect(),
            Some(any) => any.into_iter().filter_map(|r| self.postings.get(&r)).flatten().copied().collect(),
        };
        found.sort_unstable();
        found.dedup();
        found.retain(|&number| self.sets.get(number as usize).is_some_and(|labels| selector.evaluate(labels)));
        found
    }
}

/// Selectors, numbered from 0, by the labels that they require.
#[derive(Debug, Default)]
pub struct SelectorIndex<'p> {
    selectors: Vec<&'p Selector>,
    postings: Postings<'p>,
    /// Those that require no label.
    open: Vec<u32>,
}

impl<'p> SelectorIndex<'p> {
    /// Over these selectors; `sets` tells which labels are rare.
    pub fn new(selectors: Vec<&'p Selector>, sets: &LabelIndex<'_>) -> SelectorIndex<'p> {
        let mut index = SelectorIndex { selectors, ..SelectorIndex::default() };
        for (number, selector) in (0u32..).zip(&index.selectors) {
            match selector.requirements(&|requirement| sets.count(requirement)) {
                None => index.open.push(number),
                Some(any) => any.into_iter().for_each(|r| index.postings.entry(r).or_default().push(number)),
            }
        }
        index
    }

    /// The numbers of the selectors that match, ascending. Cost: the selectors whose rarest required label is among these.
    pub fn matching(&self, labels: &Labels) -> Vec<u32> {
        let keys = labels.iter().flat_map(|(name, value)| [Requirement::Name(name), Requirement::Pair(name, value)]);
        let mut found = self.open.clone();
        found.extend(keys.filter_map(|key| self.postings.get(&key)).flatten());
        found.sort_unstable();
        found.dedup();
        found.retain(|&number| self.selectors.get(number as usize).is_some_and(|s| s.evaluate(labels)));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Selectors of every shape, over few names and values so that they match often.
    fn selector() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("all()".to_string()),
            "[abc]".prop_map(|l| format!("has({l})")),
            ("[abc]", "(==|!=|contains|starts with)", "[xy]").prop_map(|(l, c, v)| format!("{l} {c} '{v}'")),
            ("[abc]", "(in|not in)", "[xy]", "[xyz]").prop_map(|(l, c, v, w)| format!("{l} {c} {{'{v}', '{w}'}}")),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let many = prop::collection::vec(inner.clone(), 1..4);
            let joined = |word: &'static str| move |terms: Vec<String>| format!("({})", terms.join(word));
            prop_oneof![
                inner.prop_map(|term| format!("!({term})")),
                many.clone().prop_map(joined(" && ")),
                many.prop_map(joined(" || ")),
            ]
        })
    }

    fn labels() -> impl Strategy<Value = Labels> {
        prop::collection::btree_map("[abc]", "[xyz]", 0..4)
    }

    proptest! {
        #[test]
        fn both_indices_agree_with_asking_everything(
            texts in prop::collection::vec(selector(), 1..12),
            sets in prop::collection::vec(labels(), 0..20),
        ) {
            let selectors: Vec<Selector> = texts.iter().map(|text| Selector::parse(text).unwrap()).collect();
            let by_labels = LabelIndex::new(sets.iter().collect());
            let by_selectors = SelectorIndex::new(selectors.iter().collect(), &by_labels);
            for selector in &selectors {
                let slow: Vec<u32> = (0..).zip(&sets).filter(|(_, l)| selector.evaluate(l)).map(|(n, _)| n).collect();
                prop_assert_eq!(by_labels.matching(selector), slow, "{}", selector);
            }
            for labels in &sets {
                let slow: Vec<u32> = (0..).zip(&selectors).filter(|(_, s)| s.evaluate(labels)).map(|(n, _)| n).collect();
                prop_assert_eq!(by_selectors.matching(labels), slow, "{:?}", labels);
            }
        }
    }
}
