//! A selector in, labels that whatever it matches must have out: what an index by label needs to ask few label sets only.

use super::{Comparison, Expression, Selector};

/// Something that labels must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Requirement<'s> {
    /// A label of this name.
    Name(&'s str),
    /// A label of this name with this value.
    Pair(&'s str, &'s str),
}

impl Selector {
    /// Requirements of which labels meet at least one whenever the selector matches them; `None` if labels may match that have
    /// nothing of what it names. Where several sets of requirements hold, the one whose sum of `cost` is least.
    pub fn requirements(&self, cost: &impl Fn(Requirement<'_>) -> usize) -> Option<Vec<Requirement<'_>>> {
        require(&self.expression, cost).map(|(_, found)| found)
    }
}

fn require<'s>(
    expression: &'s Expression,
    cost: &impl Fn(Requirement<'_>) -> usize,
) -> Option<(usize, Vec<Requirement<'s>>)> {
    let one = |requirement| Some((cost(requirement), vec![requirement]));
    match expression {
        Expression::Has(label) => one(Requirement::Name(label)),
        Expression::Compare(label, comparison, value) => match comparison {
            Comparison::Equal => one(Requirement::Pair(label, value)),
            Comparison::NotEqual => None,
            Comparison::Contains | Comparison::StartsWith | Comparison::EndsWith => one(Requirement::Name(label)),
        },
        Expression::In(label, values) => {
            let found: Vec<Requirement<'s>> = values.iter().map(|value| Requirement::Pair(label, value)).collect();
            Some((found.iter().map(|&requirement| cost(requirement)).sum(), found))
        }
        Expression::And(terms) => terms.iter().filter_map(|term| require(term, cost)).min_by_key(|found| found.0),
        Expression::Or(terms) => terms.iter().try_fold((0, Vec::new()), |(sum, mut all), term| {
            let (cost, found) = require(term, cost)?;
            all.extend(found);
            Some((sum + cost, all))
        }),
        Expression::All | Expression::Global | Expression::NotIn(..) | Expression::Not(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_labels_that_a_match_must_have() {
        let cost = |requirement: Requirement<'_>| match requirement {
            Requirement::Name(_) => 100,
            Requirement::Pair(_, value) => value.len(),
        };
        let check = |text: &str, expected: Option<&str>| {
            let selector = Selector::parse(text).unwrap();
            let show = |found: Vec<Requirement<'_>>| {
                let words = found.into_iter().map(|requirement| match requirement {
                    Requirement::Name(name) => name.to_string(),
                    Requirement::Pair(name, value) => format!("{name}={value}"),
                });
                words.collect::<Vec<_>>().join(" ")
            };
            assert_eq!(selector.requirements(&cost).map(show).as_deref(), expected, "{text}");
        };
        check("all()", None);
        check("a == 'x'", Some("a=x"));
        check("a != 'x'", None);
        check("a not in {'x'}", None);
        check("!has(a)", None);
        check("!(a == 'x')", None);
        check("has(a)", Some("a"));
        check("a starts with 'x'", Some("a"));
        check("a in {'x', 'y'}", Some("a=x a=y"));
        check("has(a) && b == 'xxx' && c == 'x' && d != 'q'", Some("c=x"));
        check("a == 'x' || has(b)", Some("a=x b"));
        check("a == 'x' || !has(b)", None);
        check("(a == 'x' || !has(b)) && c in {'xx', 'yy'}", Some("c=xx c=yy"));
    }
}
