//! Selector text in, a predicate over labels out (section 4).
//!
//! ```
//! use ringwall::policy::selector::Selector;
//!
//! let selector = Selector::parse("ibm.role=='worker_public' && ! has(spare)").unwrap();
//! assert_eq!(selector.to_string(), r#"ibm.role == "worker_public" && !has(spare)"#);
//! assert!(selector.evaluate(&[("ibm.role".to_string(), "worker_public".to_string())].into()));
//! ```

mod parse;
mod require;

pub use require::Requirement;

use std::collections::BTreeSet;
use std::fmt;

use super::ir::Labels;

/// A parsed selector. Two selectors are equal if their canonical forms are (SEL-11).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    expression: Expression,
}

/// Why a selector could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    /// What is wrong.
    pub message: String,
    /// Offset in bytes from the start of the selector.
    pub offset: usize,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.message, self.offset)
    }
}

impl std::error::Error for SelectorError {}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Expression {
    All,
    Global,
    Has(String),
    Compare(String, Comparison, String),
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Comparison {
    Equal,
    NotEqual,
    Contains,
    StartsWith,
    EndsWith,
}

impl Selector {
    /// Parses a selector; empty or blank text matches everything.
    pub fn parse(text: &str) -> Result<Selector, SelectorError> {
        Ok(Selector { expression: parse::expression(text)? })
    }

    /// `all()`.
    pub fn all() -> Selector {
        Selector { expression: Expression::All }
    }

    /// `!all()`: matches nothing.
    pub fn none() -> Selector {
        Selector::not(Selector::all())
    }

    /// `has(label)`.
    pub fn has(label: impl Into<String>) -> Selector {
        Selector { expression: Expression::Has(label.into()) }
    }

    /// `label == 'value'`.
    pub fn equals(label: impl Into<String>, value: impl Into<String>) -> Selector {
        Selector { expression: Expression::Compare(label.into(), Comparison::Equal, value.into()) }
    }

    /// `label != 'value'`; true also if the label is missing (SEL-3).
    pub fn not_equals(label: impl Into<String>, value: impl Into<String>) -> Selector {
        Selector { expression: Expression::Compare(label.into(), Comparison::NotEqual, value.into()) }
    }

    /// `label in { ... }`.
    pub fn is_in(label: impl Into<String>, values: impl IntoIterator<Item = impl Into<String>>) -> Selector {
        Selector { expression: Expression::In(label.into(), values.into_iter().map(Into::into).collect()) }
    }

    /// `label not in { ... }`; true also if the label is missing (SEL-3).
    pub fn not_in(label: impl Into<String>, values: impl IntoIterator<Item = impl Into<String>>) -> Selector {
        Selector { expression: Expression::NotIn(label.into(), values.into_iter().map(Into::into).collect()) }
    }

    /// All of them; without any, `all()`. Terms that match everything are left out.
    pub fn and(terms: impl IntoIterator<Item = Selector>) -> Selector {
        let mut all = Vec::new();
        for term in terms {
            match term.expression {
                Expression::All => {}
                Expression::And(inner) => all.extend(inner),
                other => all.push(other),
            }
        }
        let expression = match all.len() {
            0 => Expression::All,
            1 => all.swap_remove(0),
            _ => Expression::And(all),
        };
        Selector { expression }
    }

    /// Any of them; without any, nothing.
    pub fn or(terms: impl IntoIterator<Item = Selector>) -> Selector {
        let mut any = Vec::new();
        for term in terms {
            match term.expression {
                Expression::All => return Selector::all(),
                Expression::Or(inner) => any.extend(inner),
                other => any.push(other),
            }
        }
        match any.len() {
            0 => Selector::none(),
            1 => Selector { expression: any.swap_remove(0) },
            _ => Selector { expression: Expression::Or(any) },
        }
    }

    /// The opposite.
    #[expect(clippy::should_implement_trait, reason = "named like `and` and `or` beside it")]
    pub fn not(term: Selector) -> Selector {
        Selector { expression: negate(term.expression) }
    }

    /// Whether it is `all()`.
    pub fn is_all(&self) -> bool {
        self.expression == Expression::All
    }

    /// Whether it is exactly `global()`.
    pub fn is_global(&self) -> bool {
        self.expression == Expression::Global
    }

    /// Whether the labels match.
    pub fn evaluate(&self, labels: &Labels) -> bool {
        self.expression.evaluate(labels)
    }

    /// Whether something without any label matches; true of selectors that only forbid.
    pub fn matches_no_labels(&self) -> bool {
        self.evaluate(&Labels::new())
    }

    /// Whether it uses only what calicoctl 1.x knew: no `contains`, `starts with`, `ends with` or `global()` (SEL-12).
    pub fn is_of_v1(&self) -> bool {
        self.expression.is_of_v1()
    }

    /// The label names that it looks at.
    pub fn label_names(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.expression.collect_labels(&mut names);
        names
    }

    /// ID-3: every label name with `prefix` in front; `all()` becomes `has(anchor)` and `global()` its opposite, so that what
    /// selects namespaces can be asked of the things inside them.
    pub fn prefixed(&self, prefix: &str, anchor: &str) -> Selector {
        Selector { expression: self.expression.prefixed(prefix, anchor) }
    }
}

/// Two negations cancel out.
fn negate(expression: Expression) -> Expression {
    match expression {
        Expression::Not(inner) => *inner,
        other => Expression::Not(Box::new(other)),
    }
}

impl Expression {
    fn evaluate(&self, labels: &Labels) -> bool {
        match self {
            // SEL-10: what `global()` means comes from where it stands; here it is always true.
            Expression::All | Expression::Global => true,
            Expression::Has(label) => labels.contains_key(label),
            Expression::Compare(label, comparison, value) => {
                let found = labels.get(label);
                match comparison {
                    Comparison::Equal => found.is_some_and(|v| v == value),
                    Comparison::NotEqual => found.is_none_or(|v| v != value),
                    Comparison::Contains => found.is_some_and(|v| v.contains(value.as_str())),
                    Comparison::StartsWith => found.is_some_and(|v| v.starts_with(value.as_str())),
                    Comparison::EndsWith => found.is_some_and(|v| v.ends_with(value.as_str())),
                }
            }
            Expression::In(label, values) => labels.get(label).is_some_and(|v| values.contains(v)),
            Expression::NotIn(label, values) => labels.get(label).is_none_or(|v| !values.contains(v)),
            Expression::Not(inner) => !inner.evaluate(labels),
            Expression::And(terms) => terms.iter().all(|term| term.evaluate(labels)),
            Expression::Or(terms) => terms.iter().any(|term| term.evaluate(labels)),
        }
    }

    fn is_of_v1(&self) -> bool {
        match self {
            Expression::Global => false,
            Expression::Compare(_, comparison, _) => matches!(comparison, Comparison::Equal | Comparison::NotEqual),
            Expression::Not(inner) => inner.is_of_v1(),
            Expression::And(terms) | Expression::Or(terms) => terms.iter().all(Expression::is_of_v1),
            Expression::All | Expression::Has(_) | Expression::In(..) | Expression::NotIn(..) => true,
        }
    }

    fn collect_labels<'s>(&'s self, names: &mut BTreeSet<&'s str>) {
        match self {
            Expression::All | Expression::Global => {}
            Expression::Has(label)
            | Expression::Compare(label, ..)
            | Expression::In(label, _)
            | Expression::NotIn(label, _) => {
                names.insert(label);
            }
            Expression::Not(inner) => inner.collect_labels(names),
            Expression::And(terms) | Expression::Or(terms) => terms.iter().for_each(|t| t.collect_labels(names)),
        }
    }

    fn prefixed(&self, prefix: &str, anchor: &str) -> Expression {
        let name = |label: &String| format!("{prefix}{label}");
        let each = |terms: &[Expression]| terms.iter().map(|term| term.prefixed(prefix, anchor)).collect();
        match self {
            Expression::All => Expression::Has(anchor.to_string()),
            Expression::Global => Expression::Not(Box::new(Expression::Has(anchor.to_string()))),
            Expression::Has(label) => Expression::Has(name(label)),
            Expression::Compare(label, comparison, value) => {
                Expression::Compare(name(label), *comparison, value.clone())
            }
            Expression::In(label, values) => Expression::In(name(label), values.clone()),
            Expression::NotIn(label, values) => Expression::NotIn(name(label), values.clone()),
            Expression::Not(inner) => negate(inner.prefixed(prefix, anchor)),
            Expression::And(terms) => Expression::And(each(terms)),
            Expression::Or(terms) => Expression::Or(each(terms)),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, is_inner: bool) -> fmt::Result {
        match self {
            Expression::All => f.write_str("all()"),
            Expression::Global => f.write_str("global()"),
            Expression::Has(label) => write!(f, "has({label})"),
            Expression::Compare(label, comparison, value) => {
                let word = match comparison {
                    Comparison::Equal => "==",
                    Comparison::NotEqual => "!=",
                    Comparison::Contains => "contains",
                    Comparison::StartsWith => "starts with",
                    Comparison::EndsWith => "ends with",
                };
                write!(f, "{label} {word} {}", Quoted(value))
            }
            Expression::In(label, values) => write!(f, "{label} in {}", Set(values)),
            Expression::NotIn(label, values) => write!(f, "{label} not in {}", Set(values)),
            Expression::Not(inner) => {
                f.write_str("!")?;
                inner.write(f, true)
            }
            Expression::And(terms) => write_terms(f, terms, " && ", is_inner),
            Expression::Or(terms) => write_terms(f, terms, " || ", is_inner),
        }
    }
}

fn write_terms(f: &mut fmt::Formatter<'_>, terms: &[Expression], word: &str, is_inner: bool) -> fmt::Result {
    if is_inner {
        f.write_str("(")?;
    }
    for (index, term) in terms.iter().enumerate() {
        if index > 0 {
            f.write_str(word)?;
        }
        term.write(f, true)?;
    }
    if is_inner { f.write_str(")") } else { Ok(()) }
}

/// A value in double quotes, or in single ones if it contains a double one (SEL-9).
struct Quoted<'s>(&'s str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

struct Set<'s>(&'s BTreeSet<String>);

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, value) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index > 0 { ", " } else { "" }, Quoted(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.write(f, false)
    }
}

#[cfg(test)]
mod tests;
