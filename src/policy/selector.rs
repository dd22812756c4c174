//! Selector text in, a predicate over labels out (section 4).
//!
//! ```
//! use ringwall::policy::selector::Selector;
//!
//! let selector = Selector::parse("ibm.role=='worker_public' && ! has(spare)").unwrap();
//! assert_eq!(selector.to_string(), r#"ibm.role == "worker_public" && !has(spare)"#);
//! assert!(selector.evaluate(&[("ibm.role".to_string(), "worker_public".to_string())].into()));
//! ```

use std::collections::BTreeSet;
use std::fmt;

use super::ir::Labels;

/// Longest label name in characters (V-12).
pub const MAX_IDENTIFIER: usize = 512;

/// Parentheses that may be open at once; deeper text is an error instead of an exhausted stack.
pub const MAX_NESTING: usize = 200;

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
        let mut parser = Parser { text, at: 0, nesting: 0 };
        parser.skip_space();
        if parser.rest().is_empty() {
            return Ok(Selector::all());
        }
        let expression = parser.or()?;
        if !parser.rest().is_empty() {
            return Err(parser.unexpected("`&&`, `||` or the end"));
        }
        Ok(Selector { expression })
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

struct Parser<'t> {
    text: &'t str,
    at: usize,
    nesting: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Space and tab only; a line break is an error.
    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    /// Takes `token` and the space after it.
    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
            self.skip_space();
        }
        found
    }

    fn error(&self, message: impl Into<String>) -> SelectorError {
        SelectorError { message: message.into(), offset: self.at }
    }

    fn unexpected(&self, wanted: &str) -> SelectorError {
        let rest = self.rest();
        let word: String = rest.chars().take_while(|c| is_identifier(*c)).take(32).collect();
        let advice = match rest.chars().next() {
            None => return self.error(format!("expected {wanted}, found the end of the selector")),
            Some('=') => "; equality is written `==`",
            Some('&') => "; `and` is written `&&`",
            Some('|') => "; `or` is written `||`",
            Some('\n' | '\r') => return self.error("a selector cannot contain a line break"),
            Some('\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}') => "; curly quotes are not quotes here",
            Some(_) if word.eq_ignore_ascii_case("and") => "; `and` is written `&&`",
            Some(_) if word.eq_ignore_ascii_case("or") => "; `or` is written `||`",
            Some(_) => "",
        };
        let found = if word.is_empty() { rest.chars().take(1).collect() } else { word };
        self.error(format!("expected {wanted}, found `{found}`{advice}"))
    }

    fn or(&mut self) -> Result<Expression, SelectorError> {
        let first = self.and()?;
        let mut terms = vec![first];
        while self.take("||") {
            terms.push(self.and()?);
        }
        Ok(if terms.len() == 1 { terms.swap_remove(0) } else { Expression::Or(terms) })
    }

    fn and(&mut self) -> Result<Expression, SelectorError> {
        let first = self.unary()?;
        let mut terms = vec![first];
        while self.take("&&") {
            terms.push(self.unary()?);
        }
        Ok(if terms.len() == 1 { terms.swap_remove(0) } else { Expression::And(terms) })
    }

    fn unary(&mut self) -> Result<Expression, SelectorError> {
        let mut is_negated = false;
        while self.take("!") {
            is_negated = !is_negated;
        }
        let primary = self.primary()?;
        Ok(if is_negated { negate(primary) } else { primary })
    }

    fn primary(&mut self) -> Result<Expression, SelectorError> {
        if self.take("(") {
            self.nesting += 1;
            if self.nesting > MAX_NESTING {
                return Err(self.error(format!("more than {MAX_NESTING} parentheses are open")));
            }
            let inner = self.or()?;
            self.close("`&&`, `||` or `)`")?;
            self.nesting -= 1;
            return Ok(inner);
        }
        // SEL-6: no space before these parentheses.
        if self.take("all(") {
            return self.close("`)`").map(|()| Expression::All);
        }
        if self.take("global(") {
            return self.close("`)`").map(|()| Expression::Global);
        }
        if self.take("has(") {
            let label = self.identifier("a label name")?;
            return self.close("`)`").map(|()| Expression::Has(label));
        }
        let label = self.identifier("a label name, `has(`, `all(`, `!` or `(`")?;
        self.comparison(label)
    }

    fn close(&mut self, wanted: &str) -> Result<(), SelectorError> {
        if self.take(")") { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    fn identifier(&mut self, wanted: &str) -> Result<String, SelectorError> {
        let rest = self.rest();
        let end = rest.find(|c| !is_identifier(c)).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or("");
        if name.is_empty() {
            return Err(self.unexpected(wanted));
        }
        if name.len() > MAX_IDENTIFIER {
            return Err(self.error(format!("a label name is longer than {MAX_IDENTIFIER} characters")));
        }
        self.at += end;
        self.skip_space();
        Ok(name.to_string())
    }

    fn comparison(&mut self, label: String) -> Result<Expression, SelectorError> {
        let compare = |this: &mut Self, comparison| {
            let value = this.string()?;
            Ok(Expression::Compare(label.clone(), comparison, value))
        };
        if self.take("==") {
            compare(self, Comparison::Equal)
        } else if self.take("!=") {
            compare(self, Comparison::NotEqual)
        } else if self.words(&["contains"]) {
            compare(self, Comparison::Contains)
        } else if self.words(&["starts", "with"]) {
            compare(self, Comparison::StartsWith)
        } else if self.words(&["ends", "with"]) {
            compare(self, Comparison::EndsWith)
        } else if self.words(&["in"]) {
            Ok(Expression::In(label, self.set()?))
        } else if self.words(&["not", "in"]) {
            Ok(Expression::NotIn(label, self.set()?))
        } else {
            let bare = self.rest().is_empty() || self.rest().starts_with([')', '&', '|']);
            let help = if bare { format!("; use `has({label})` to ask whether a label exists") } else { String::new() };
            let mut error = self.unexpected("an operator such as `==`, `in` or `contains` after the label name");
            error.message.push_str(&help);
            Err(error)
        }
    }

    /// An operator made of words, with or without space between them, and a word boundary behind (SEL-5).
    fn words(&mut self, words: &[&str]) -> bool {
        let mut rest = self.rest();
        for (index, word) in words.iter().enumerate() {
            let from = if index == 0 { rest } else { rest.trim_start_matches([' ', '\t']) };
            let Some(after) = from.strip_prefix(word) else { return false };
            rest = after;
        }
        if rest.starts_with(is_identifier) {
            return false;
        }
        self.at = self.text.len() - rest.len();
        self.skip_space();
        true
    }

    fn string(&mut self) -> Result<String, SelectorError> {
        let rest = self.rest();
        let quote = match rest.chars().next() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Err(self.unexpected("a value in quotes")),
        };
        let inner = rest.get(1..).unwrap_or("");
        let Some(end) = inner.find(quote) else {
            return Err(self.error(format!("the value that starts with `{quote}` has no closing quote")));
        };
        let value = inner.get(..end).unwrap_or("").to_string();
        self.at += end + 2;
        self.skip_space();
        Ok(value)
    }

    fn set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if !self.take("{") {
            return Err(self.unexpected("`{` and a list of values"));
        }
        let mut values = BTreeSet::new();
        while !self.take("}") {
            values.insert(self.string()?);
            if !self.take(",") {
                if self.take("}") {
                    break;
                }
                return Err(self.unexpected("`,` or `}`"));
            }
        }
        Ok(values)
    }
}

fn is_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn rules_of_the_grammar() {
        let check = |id: &str, text: &str, pairs: &[(&str, &str)], expected: bool| {
            let selector = Selector::parse(text).unwrap_or_else(|e| panic!("{id} {text}: {e}"));
            assert_eq!(selector.evaluate(&labels(pairs)), expected, "{id} {text}");
        };
        check("SEL-1", "!a == 'b'", &[("a", "c")], true);
        check("SEL-1", "has(a) || has(b) && has(c)", &[("a", "")], true);
        check("SEL-2", "a contains 'x' || a starts with '' || a ends with ''", &[], false);
        check("SEL-3", "a != 'b' && a not in {'b'}", &[], true);
        check("SEL-4", "a in {}", &[("a", "")], false);
        check("SEL-4", "a notin {}", &[], true);
        check("SEL-5", "in in {'in'} && not notin {} && all == 'x'", &[("in", "in"), ("all", "x")], true);
        check("SEL-6", "has( a )", &[("a", "")], true);
        check("SEL-8", "a contains ''", &[("a", "b")], true);
        check("SEL-8", "a == 'B'", &[("a", "b")], false);
        check("SEL-9", "a == \"it's\"", &[("a", "it's")], true);
        check("SEL-10", "global()", &[], true);
        check("SEL-12", "a startswith 'b' && a endswith'c' && a starts \t with 'bc'", &[("a", "bc")], true);
        check("SEL-1", "!!!has(a)", &[], true);
    }

    #[test]
    fn faults_are_located_and_explained() {
        let check = |text: &str, offset: usize, expected: &str| {
            let error = Selector::parse(text).expect_err(text);
            assert_eq!(error.offset, offset, "{text}: {error}");
            assert!(error.message.contains(expected), "{text}: {error}");
        };
        check("a = 'b'", 2, "equality is written `==`");
        check("a == 'b' and c == 'd'", 9, "`and` is written `&&`");
        check("a == 'b' & c == 'd'", 9, "`and` is written `&&`");
        check("a", 1, "use `has(a)`");
        check("a == b", 5, "a value in quotes");
        check("a == 'b", 5, "no closing quote");
        check("a == 'b'\n", 8, "line break");
        check("a == \u{201c}b\u{201d}", 5, "curly quotes");
        check("a in {'b' 'c'}", 10, "`,` or `}`");
        check("a in {'b',,}", 10, "a value in quotes");
        check("a inx {}", 2, "operator");
        check("has()", 4, "a label name");
        check("(a == 'b'", 9, "`)`");
        check(&"(".repeat(100_000), MAX_NESTING + 1, "parentheses");
        check(&format!("has({})", "a".repeat(513)), 4, "512");
        assert!(Selector::parse(&format!("has({})", "a".repeat(512))).is_ok(), "V-12");
        assert!(Selector::parse(&format!("{}has(a)", "!".repeat(100_000))).is_ok());
    }

    #[test]
    fn canonical_form_reads_back_as_itself_sel_11() {
        let check = |text: &str, expected: &str| {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.to_string(), expected, "{text}");
            assert_eq!(Selector::parse(expected).unwrap(), selector, "{text}");
        };
        check("a=='b'||c!='d'&&has(e)", r#"a == "b" || (c != "d" && has(e))"#);
        check("!(a notin {'c','b'} || global())", r#"!(a not in {"b", "c"} || global())"#);
        check("!!has(a)", "has(a)");
    }

    #[test]
    fn namespace_selectors_are_asked_of_what_is_inside_id_3() {
        let check = |text: &str, expected: &str| {
            let selector = Selector::parse(text).unwrap().prefixed("pcns.", "projectcalico.org/namespace");
            assert_eq!(selector.to_string(), expected, "{text}");
        };
        check("all()", "has(projectcalico.org/namespace)");
        check("global()", "!has(projectcalico.org/namespace)");
        check("!global()", "has(projectcalico.org/namespace)");
        check("a == 'b' && !has(c)", r#"pcns.a == "b" && !has(pcns.c)"#);
    }

    #[test]
    fn selectors_combine() {
        let and = Selector::and([Selector::all(), Selector::has("a"), Selector::equals("b", "c")]);
        assert_eq!(and.to_string(), r#"has(a) && b == "c""#);
        assert_eq!(Selector::and([]).to_string(), "all()");
        assert_eq!(Selector::or([]), Selector::none());
        assert!(!Selector::none().evaluate(&labels(&[])));
        assert_eq!(Selector::not(Selector::not(Selector::has("a"))), Selector::has("a"));
        assert_eq!(Selector::or([Selector::has("a"), and]).to_string(), r#"has(a) || (has(a) && b == "c")"#);
        assert_eq!(Selector::is_in("a", ["c", "b"]).label_names().into_iter().collect::<Vec<_>>(), ["a"]);
    }
}
