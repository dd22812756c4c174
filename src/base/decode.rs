//! Spanned values in, checked fields out: a cursor over maps and lists that reports every fault it meets and goes on.
//!
//! ```
//! use ringwall::base::decode::{Field, Findings};
//! use ringwall::base::{diagnostic::Diagnostics, document};
//!
//! let mut read = Diagnostics::new();
//! let documents = document::parse(&"a.yaml".into(), "port: 99999\ncolour: red\n", &mut read);
//! let findings = Findings::new();
//! for document in &documents {
//!     let Some(mut map) = Field::root(&document.root, &findings).map() else { continue };
//!     let port: Option<u16> = map.take("port").and_then(|port| port.integer(1..=65535));
//!     let name = map.take("name").and_then(|name| name.string());
//!     map.finish();
//!     assert_eq!((port, name), (None, None));
//! }
//! assert_eq!(findings.into_diagnostics().iter().count(), 2);
//! ```

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::diagnostic::{Diagnostic, Diagnostics, Severity, Span, did_you_mean};
use super::document::{Key, Kind, Node, odd_text_help};

/// Collects what all cursors find. Cursors share it, so that decoding one field never ends the decoding of another.
#[derive(Debug, Default)]
pub struct Findings {
    list: RefCell<Diagnostics>,
    about: RefCell<Option<String>>,
    is_lenient: bool,
}

impl Findings {
    /// Strict: an unknown field is an error.
    pub fn new() -> Findings {
        Findings::default()
    }

    /// Lenient: an unknown field is a warning (IN-3). A field of the wrong type stays an error.
    pub fn lenient() -> Findings {
        Findings { is_lenient: true, ..Findings::default() }
    }

    /// Whether unknown fields are only warnings.
    pub fn is_lenient(&self) -> bool {
        self.is_lenient
    }

    /// Names the resource that later findings are about.
    pub fn set_resource(&self, resource: Option<String>) {
        *self.about.borrow_mut() = resource;
    }

    /// Adds a finding; it gets the name of the current resource if it has none.
    pub fn push(&self, mut diagnostic: Diagnostic) {
        if diagnostic.resource.is_none() {
            diagnostic.resource.clone_from(&self.about.borrow());
        }
        self.list.borrow_mut().push(diagnostic);
    }

    /// Adds findings as they are.
    pub fn extend(&self, diagnostics: Diagnostics) {
        self.list.borrow_mut().extend(diagnostics);
    }

    /// Number of errors so far; linear in the number of findings.
    pub fn errors(&self) -> usize {
        self.list.borrow().iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// All findings in order of discovery.
    pub fn into_diagnostics(self) -> Diagnostics {
        self.list.into_inner()
    }
}

/// A value together with the path by which it was reached, such as `spec.ingress[0].source`.
#[derive(Clone, Debug)]
pub struct Field<'n, 'f> {
    /// The value.
    pub node: &'n Node,
    /// Its path; empty for the root.
    pub path: String,
    findings: &'f Findings,
}

impl<'n, 'f> Field<'n, 'f> {
    /// The root of a document.
    pub fn root(node: &'n Node, findings: &'f Findings) -> Field<'n, 'f> {
        Field { node, path: String::new(), findings }
    }

    /// The same value as the root of its own paths, as for a resource inside a list.
    pub fn as_root(&self) -> Field<'n, 'f> {
        Field::root(self.node, self.findings)
    }

    /// Where it stands.
    pub fn span(&self) -> &'n Span {
        &self.node.span
    }

    /// Where its findings go.
    pub fn findings(&self) -> &'f Findings {
        self.findings
    }

    /// Reports a fault of this value. The message gets the path in front, and advice if the text shows a well-known slip.
    pub fn error(&self, code: &'static str, message: impl Display) {
        self.report(Severity::Error, code, message, None);
    }

    /// Reports a fault of this value with advice. Advice about an unfilled placeholder or a curly quote goes before it (IN-6).
    pub fn error_with_help(&self, code: &'static str, message: impl Display, help: impl Into<String>) {
        self.report(Severity::Error, code, message, Some(help.into()));
    }

    /// Reports a warning about this value.
    pub fn warning(&self, code: &'static str, message: impl Display) {
        self.report(Severity::Warning, code, message, None);
    }

    /// Reports a note about this value.
    pub fn note(&self, code: &'static str, message: impl Display) {
        self.report(Severity::Note, code, message, None);
    }

    fn report(&self, severity: Severity, code: &'static str, message: impl Display, help: Option<String>) {
        let message = if self.path.is_empty() { message.to_string() } else { format!("`{}`: {message}", self.path) };
        let mut finding = Diagnostic::new(severity, code, message).at(&self.node.span);
        finding.help = self.node.as_str().and_then(odd_text_help).map(str::to_string).or(help);
        self.findings.push(finding);
    }

    fn wrong_type(&self, expected: &str) {
        let help = match (&self.node.kind, expected) {
            (Kind::Int(..) | Kind::Float(..) | Kind::Bool(_), "a string") => Some("put it in quotes"),
            (Kind::String(text), "an integer" | "a number") if text.trim().parse::<f64>().is_ok() => {
                Some("remove the quotes")
            }
            (Kind::String(text), "a boolean")
                if matches!(text.to_lowercase().as_str(), "yes" | "no" | "on" | "off" | "true" | "false") =>
            {
                Some("write `true` or `false`, without quotes")
            }
            (Kind::Map(_), "a list") => Some("start each item with `- `"),
            (Kind::String(_) | Kind::Int(..), "a list") => {
                Some("write it as a list: `[ ... ]` or items that start with `- `")
            }
            (Kind::List(_), "a map") => Some("remove the `- ` in front of the fields"),
            _ => None,
        };
        let message = format!("expected {expected}, found {}", self.node.describe());
        self.report(Severity::Error, "wrong-type", message, help.map(str::to_string));
    }

    /// A string.
    pub fn string(&self) -> Option<&'n str> {
        let text = self.node.as_str();
        if text.is_none() {
            self.wrong_type("a string");
        }
        text
    }

    /// A string that is not empty.
    pub fn nonempty_string(&self) -> Option<&'n str> {
        let text = self.string()?;
        if text.is_empty() {
            self.error("empty-value", "must not be empty");
            return None;
        }
        Some(text)
    }

    /// A boolean.
    pub fn bool(&self) -> Option<bool> {
        if let Kind::Bool(value) = self.node.kind {
            return Some(value);
        }
        self.wrong_type("a boolean");
        None
    }

    /// An integer within a range.
    pub fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + Display + PartialOrd + TryFrom<i128>,
    {
        let Kind::Int(value, text) = &self.node.kind else {
            self.wrong_type("an integer");
            return None;
        };
        let value = T::try_from(*value).ok().filter(|value| range.contains(value));
        if value.is_none() {
            self.error("out-of-range", format!("expected {} to {}, found `{text}`", range.start(), range.end()));
        }
        value
    }

    /// A finite number, with or without a fraction.
    pub fn float(&self) -> Option<f64> {
        match &self.node.kind {
            Kind::Int(value, _) => Some(*value as f64),
            Kind::Float(value, _) if value.is_finite() => Some(*value),
            Kind::Float(_, text) => {
                self.error("out-of-range", format!("expected a finite number, found `{text}`"));
                None
            }
            _ => {
                self.wrong_type("a number");
                None
            }
        }
    }

    /// The items of a list. A null item is an error (IN-9) and left out.
    pub fn list(&self) -> Option<Vec<Field<'n, 'f>>> {
        let Some(items) = self.node.as_list() else {
            self.wrong_type("a list");
            return None;
        };
        let mut fields = Vec::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            let field = Field { node, path: format!("{}[{index}]", self.path), findings: self.findings };
            if node.is_null() {
                field.error_with_help("null-entry", "the list has an empty entry", "remove it or fill it in");
            } else {
                fields.push(field);
            }
        }
        Some(fields)
    }

    /// The strings of a list; items that are none are reported and left out.
    pub fn strings(&self) -> Option<Vec<&'n str>> {
        Some(self.list()?.iter().filter_map(Field::string).collect())
    }

    /// The fields of a map.
    pub fn map(&self) -> Option<Decoder<'n, 'f>> {
        let Some(entries) = self.node.as_map() else {
            self.wrong_type("a map");
            return None;
        };
        Some(Decoder {
            entries,
            taken: vec![false; entries.len()],
            known: Vec::new(),
            span: &self.node.span,
            path: self.path.clone(),
            findings: self.findings,
        })
    }

    /// The entries of a map whose keys are the user's own, such as labels. Null values are left out.
    pub fn entries(&self) -> Option<Vec<(&'n Key, Field<'n, 'f>)>> {
        let Some(entries) = self.node.as_map() else {
            self.wrong_type("a map");
            return None;
        };
        let field = |(key, node): &'n (Key, Node)| {
            let path = join(&self.path, &key.text);
            (!node.is_null()).then_some((key, Field { node, path, findings: self.findings }))
        };
        Some(entries.iter().filter_map(field).collect())
    }

    /// One of a fixed set of words, in exact case.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let expected = match all.as_slice() {
            [one] => one.clone(),
            many => format!("one of {}", many.join(", ")),
        };
        let message = format!("expected {expected}, found `{text}`");
        match did_you_mean(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => self.error_with_help("unknown-value", message, format!("did you mean `{near}`?")),
            None => self.error("unknown-value", message),
        }
        None
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

/// A map that remembers which of its fields were asked for.
#[derive(Debug)]
#[must_use = "`finish` reports the fields that nobody asked for"]
pub struct Decoder<'n, 'f> {
    entries: &'n [(Key, Node)],
    taken: Vec<bool>,
    known: Vec<&'static str>,
    span: &'n Span,
    path: String,
    findings: &'f Findings,
}

impl<'n, 'f> Decoder<'n, 'f> {
    /// Where the map starts.
    pub fn span(&self) -> &'n Span {
        self.span
    }

    /// Path of the map; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where findings go.
    pub fn findings(&self) -> &'f Findings {
        self.findings
    }

    /// A field; null counts as absent (IN-9).
    pub fn take(&mut self, key: &'static str) -> Option<Field<'n, 'f>> {
        self.known.push(key);
        let at = self.entries.iter().position(|(k, _)| k.text == key)?;
        if let Some(taken) = self.taken.get_mut(at) {
            *taken = true;
        }
        let (_, node) = self.entries.get(at)?;
        (!node.is_null()).then(|| Field { node, path: join(&self.path, key), findings: self.findings })
    }

    /// A field that must be there.
    pub fn require(&mut self, key: &'static str) -> Option<Field<'n, 'f>> {
        let field = self.take(key);
        if field.is_none() {
            // A misspelt name is reported once, as an unknown field with a suggestion; where unknown fields are forgiven, the
            // missing one is not.
            let has_near = self.entries.iter().any(|(k, _)| k.text != key && k.text.eq_ignore_ascii_case(key));
            if !has_near || self.findings.is_lenient {
                self.error("missing-field", format!("`{}` is required", join(&self.path, key)));
            }
        }
        field
    }

    /// Marks fields as accepted without looking at them.
    pub fn ignore(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.take(key);
        }
    }

    /// The keys that nobody asked for so far.
    pub fn rest(&self) -> impl Iterator<Item = &'n Key> {
        self.entries.iter().zip(&self.taken).filter(|(_, taken)| !**taken).map(|((key, _), _)| key)
    }

    /// Whether a field is written and not null; does not take it.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, node)| k.text == key && !node.is_null())
    }

    /// Reports a fault of the whole map.
    pub fn error(&self, code: &'static str, message: impl Display) {
        self.findings.push(Diagnostic::error(code, message.to_string()).at(self.span));
    }

    /// Reports a fault of the whole map with advice.
    pub fn error_with_help(&self, code: &'static str, message: impl Display, help: impl Into<String>) {
        self.findings.push(Diagnostic::error(code, message.to_string()).at(self.span).help(help));
    }

    /// Reports every field that nobody asked for (IN-3, IN-4).
    pub fn finish(self) {
        for ((key, _), taken) in self.entries.iter().zip(&self.taken) {
            if *taken {
                continue;
            }
            let message = format!("unknown field `{}`", join(&self.path, &key.text));
            let mut finding = if self.findings.is_lenient {
                Diagnostic::warning("unknown-field", message)
            } else {
                Diagnostic::error("unknown-field", message)
            };
            finding.help = self.advice(&key.text);
            self.findings.push(finding.at(&key.span));
        }
    }

    fn advice(&self, key: &str) -> Option<String> {
        if let Some(same) = self.known.iter().find(|known| known.eq_ignore_ascii_case(key)) {
            return Some(format!("did you mean `{same}`? field names are case sensitive"));
        }
        if let Some(help) = odd_text_help(key) {
            return Some(help.to_string());
        }
        let near = did_you_mean(key, self.known.iter().copied());
        near.map(|near| format!("did you mean `{near}`?")).or_else(|| {
            let mut all: Vec<String> = self.known.iter().map(|known| format!("`{known}`")).collect();
            all.dedup();
            (!all.is_empty() && all.len() <= 12).then(|| format!("known fields are {}", all.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::document::parse;

    fn decode(text: &str, findings: Findings, read: impl FnOnce(Decoder<'_, '_>)) -> Vec<String> {
        let mut out = Diagnostics::new();
        let documents = parse(&"a.yaml".into(), text, &mut out);
        if let Some(map) = Field::root(&documents[0].root, &findings).map() {
            read(map);
        }
        findings.into_diagnostics().iter().map(ToString::to_string).collect()
    }

    fn errors(text: &str, read: impl FnOnce(Decoder<'_, '_>)) -> Vec<String> {
        decode(text, Findings::new(), read)
    }

    #[test]
    fn wrong_types_name_path_place_and_what_was_found() {
        let check = |text: &str, read: fn(Field<'_, '_>) -> bool, expected: &str| {
            let found = errors(text, |mut map| {
                assert!(read(map.take("x").unwrap()));
                map.finish();
            });
            assert_eq!(found, [expected], "{text}");
        };
        let list: fn(Field<'_, '_>) -> bool = |f| f.list().is_none();
        check("x: {}", list, "error: a.yaml:1:4: `x`: expected a list, found a map (start each item with `- `)");
        check(
            "x: 5",
            |f| f.string().is_none(),
            "error: a.yaml:1:4: `x`: expected a string, found an integer (put it in quotes)",
        );
        check(
            "x: '5'",
            |f| f.float().is_none(),
            "error: a.yaml:1:4: `x`: expected a number, found a string (remove the quotes)",
        );
        check("x: .inf", |f| f.float().is_none(), "error: a.yaml:1:4: `x`: expected a finite number, found `.inf`");
        check(
            "x: yes",
            |f| f.bool().is_none(),
            "error: a.yaml:1:4: `x`: expected a boolean, found a string (write `true` or `false`, without quotes)",
        );
        check(
            "x: 70000",
            |f| f.integer::<u16>(1..=65535).is_none(),
            "error: a.yaml:1:4: `x`: expected 1 to 65535, found `70000`",
        );
        check(
            "x: 256",
            |f| f.integer::<u8>(0..=255).is_none(),
            "error: a.yaml:1:4: `x`: expected 0 to 255, found `256`",
        );
        check(
            "x: [1]",
            |f| f.map().is_none(),
            "error: a.yaml:1:4: `x`: expected a map, found a list (remove the `- ` in front of the fields)",
        );
        check(
            "x: allow",
            |f| f.word(&[("Allow", 1), ("Deny", 2)]).is_none(),
            "error: a.yaml:1:4: `x`: expected one of `Allow`, `Deny`, found `allow` (did you mean `Allow`?)",
        );
        check(
            "x: <ip>/32",
            |f| {
                f.error_with_help("bad-cidr", "not a prefix", "write a.b.c.d/n");
                true
            },
            "error: a.yaml:1:4: `x`: not a prefix (looks like an unfilled placeholder: put the value in)",
        );
    }

    #[test]
    fn null_is_absent_but_an_error_inside_a_list_in_9() {
        let found = errors("x:\ny:\n- 1\n-\n", |mut map| {
            assert!(map.take("x").is_none());
            let items = map.take("y").and_then(|y| y.list()).unwrap();
            assert_eq!(items.len(), 1);
            map.finish();
        });
        assert_eq!(found, ["error: a.yaml:4:2: `y[1]`: the list has an empty entry (remove it or fill it in)"]);
    }

    #[test]
    fn unknown_fields_are_errors_or_lenient_warnings_in_3() {
        let read = |mut map: Decoder<'_, '_>| {
            let mut spec = map.require("spec").and_then(|s| s.map()).unwrap();
            spec.ignore(&["namespace", "preDNAT"]);
            spec.finish();
            map.finish();
        };
        let text = "spec:\n  Namespace: a\n  preDNATs: true\n  \\- x: 1\n";
        let expected = [
            "a.yaml:2:3: unknown field `spec.Namespace` (did you mean `namespace`? field names are case sensitive)",
            "a.yaml:3:3: unknown field `spec.preDNATs` (did you mean `preDNAT`?)",
            "a.yaml:4:3: unknown field `spec.\\- x` (remove the backslash, probably left over from a formatted page)",
        ];
        let with = |word: &str| expected.iter().map(|e| format!("{word}: {e}")).collect::<Vec<_>>();
        assert_eq!(decode(text, Findings::new(), read), with("error"));
        assert_eq!(decode(text, Findings::lenient(), read), with("warning"));
    }

    #[test]
    fn missing_fields_are_reported_once() {
        let found = errors("Name: a\n", |mut map| {
            assert!(map.require("name").is_none());
            assert!(map.require("kind").is_none());
            map.finish();
        });
        assert_eq!(
            found,
            [
                "error: a.yaml:1:1: `kind` is required",
                "error: a.yaml:1:1: unknown field `Name` (did you mean `name`? field names are case sensitive)",
            ]
        );
    }
}
