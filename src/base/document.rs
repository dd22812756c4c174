//! Text in, a tree of values out in which every value and key knows its line and column: YAML 1.2 (core schema) and JSON.
//!
//! The tree is bounded: [`MAX_DEPTH`] levels, and aliases may not add more than [`MAX_ALIAS_NODES`] values to a file.

use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics, Span};
use super::{document_json, document_yaml};

/// Levels of lists and maps that a file may nest.
pub const MAX_DEPTH: usize = 100;

/// Values that all aliases of a file together may add.
pub const MAX_ALIAS_NODES: usize = 100_000;

/// A value and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it starts. An alias stands at the place of the value that it repeats.
    pub span: Span,
}

/// What a value is. Scalars keep their text, so that `112` and `"112"` or `1e3` and `1000` can be told apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `null`, `~` or nothing at all.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer and its text.
    Int(i128, String),
    /// A number with a fraction or exponent, or an integer beyond 128 bits, and its text. Infinite and NaN are possible in YAML.
    Float(f64, String),
    /// A string.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file; keys are unique.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it starts.
    pub span: Span,
}

/// One document of a file that is not empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Position in its file, from 1, empty documents counted.
    pub index: usize,
    /// Its value, never null.
    pub root: Node,
}

impl Node {
    /// What it is, with an article, for messages.
    pub fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "a boolean",
            Kind::Int(..) => "an integer",
            Kind::Float(..) => "a number",
            Kind::String(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a map.
    pub fn as_map(&self) -> Option<&[(Key, Node)]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a key of a map; linear in the number of keys.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.iter().find(|(k, _)| k.text == key).map(|(_, value)| value)
    }

    /// Whether two values say the same, wherever they stand and however their numbers are written. Keys may be in any order.
    pub fn same_content(&self, other: &Node) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::List(a), Kind::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.same_content(y)),
            (Kind::Map(a), Kind::Map(b)) => {
                a.len() == b.len() && a.iter().all(|(key, x)| other.get(&key.text).is_some_and(|y| x.same_content(y)))
            }
            (Kind::Int(a, _), Kind::Int(b, _)) => a == b,
            (Kind::Float(a, _), Kind::Float(b, _)) => a == b,
            (Kind::Int(a, _), Kind::Float(b, _)) | (Kind::Float(b, _), Kind::Int(a, _)) => *a as f64 == *b,
            (a, b) => a == b,
        }
    }

    /// How many values it is made of, itself included.
    pub(super) fn size(&self) -> usize {
        match &self.kind {
            Kind::List(items) => items.iter().fold(1, |sum, item| sum + item.size()),
            Kind::Map(entries) => entries.iter().fold(1, |sum, (_, value)| sum + value.size()),
            _ => 1,
        }
    }

    /// How many levels of lists and maps it has.
    pub(super) fn depth(&self) -> usize {
        match &self.kind {
            Kind::List(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Kind::Map(entries) => 1 + entries.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// Reads all documents of a file. What cannot be read becomes an error in `out`; documents that can be read are returned all the
/// same, so that one run reports the errors of all of them. `file` is the path as shown; a name that ends in `.json` must hold
/// JSON if it starts like JSON.
pub fn parse(file: &Arc<str>, text: &str, out: &mut Diagnostics) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with(['{', '[']) {
        let mut found = Diagnostics::new();
        let documents = document_json::parse(file, text, &mut found);
        // A flow-style YAML document starts like JSON; only a `.json` file promises to be JSON.
        let is_json = !found.iter().any(|d| d.code == document_json::SYNTAX);
        if is_json || file.ends_with(".json") {
            out.extend(found);
            return documents;
        }
    }
    document_yaml::parse(file, text, out)
}

/// Advice about a piece of text that shows a well-known slip: an unfilled placeholder, curly quotes, escaped dashes.
pub fn odd_text_help(text: &str) -> Option<&'static str> {
    let placeholder =
        text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).is_some_and(|(name, _)| !name.is_empty());
    if text.contains("{{") || text.contains("${") || text.contains("<%") {
        Some("looks like an unfilled template: put the value in")
    } else if placeholder {
        Some("looks like an unfilled placeholder: put the value in")
    } else if text.contains(['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}']) {
        Some("curly quotes are not quotes here: use `\"` or `'`")
    } else if text.contains("\\-") || text.contains("\\_") || text.contains("\\*") {
        Some("remove the backslash, probably left over from a formatted page")
    } else if text.contains(['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2014}', '\u{2212}']) {
        Some("contains a typographic dash: use a plain `-`")
    } else if text.contains(['\u{a0}', '\u{200b}', '\u{feff}']) {
        Some("contains an invisible space, probably from a web page: retype it")
    } else {
        None
    }
}

/// Builds the tree from a flat sequence of values; both readers feed it.
pub(super) struct Builder<'a> {
    file: Arc<str>,
    out: &'a mut Diagnostics,
    frames: Vec<Frame>,
    root: Option<Node>,
}

struct Frame {
    span: Span,
    anchor: usize,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: std::collections::HashMap<String, u32>, key: Option<Key>, drop: bool },
}

/// A finished value that carries an anchor.
pub(super) struct Finished<'n> {
    pub(super) anchor: usize,
    pub(super) node: &'n Node,
}

impl<'a> Builder<'a> {
    pub(super) fn new(file: &Arc<str>, out: &'a mut Diagnostics) -> Builder<'a> {
        Builder { file: file.clone(), out, frames: Vec::new(), root: None }
    }

    pub(super) fn span(&self, line: usize, column: usize) -> Span {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { file: self.file.clone(), line: small(line), column: small(column) }
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.out.push(diagnostic);
    }

    /// Levels that are open now.
    pub(super) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Whether the next value is the key of a map.
    pub(super) fn expects_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { open: Open::Map { key: None, .. }, .. }))
    }

    /// The key of the open map; its value follows.
    pub(super) fn key(&mut self, text: String, span: Span) {
        let Some(Frame { open: Open::Map { seen, key, drop, .. }, .. }) = self.frames.last_mut() else { return };
        if let Some(first) = seen.get(&text) {
            let message = format!("key `{text}` is given twice: first on line {first}, again on line {}", span.line);
            self.out.push(Diagnostic::error("duplicate-key", message).at(&span).help("keep one of the two"));
            *drop = true;
        } else {
            seen.insert(text.clone(), span.line);
        }
        *key = Some(Key { text, span });
    }

    /// A whole value.
    pub(super) fn value(&mut self, node: Node) {
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(Frame { open: Open::List(items), .. }) => items.push(node),
            Some(Frame { open: Open::Map { entries, key, drop, .. }, .. }) => {
                if let Some(key) = key.take()
                    && !std::mem::take(drop)
                {
                    entries.push((key, node));
                }
            }
        }
    }

    pub(super) fn open_list(&mut self, span: Span, anchor: usize) {
        self.frames.push(Frame { span, anchor, open: Open::List(Vec::new()) });
    }

    pub(super) fn open_map(&mut self, span: Span, anchor: usize) {
        let open = Open::Map { entries: Vec::new(), seen: Default::default(), key: None, drop: false };
        self.frames.push(Frame { span, anchor, open });
    }

    /// Closes the innermost list or map; `finished` sees it before it takes its place.
    pub(super) fn close(&mut self, finished: impl FnOnce(Finished<'_>)) {
        let Some(frame) = self.frames.pop() else { return };
        let kind = match frame.open {
            Open::List(items) => Kind::List(items),
            Open::Map { entries, .. } => Kind::Map(entries),
        };
        let node = Node { kind, span: frame.span };
        finished(Finished { anchor: frame.anchor, node: &node });
        self.value(node);
    }

    /// The finished document, `None` if it is empty or was cut off.
    pub(super) fn take_root(&mut self) -> Option<Node> {
        self.frames.clear();
        self.root.take().filter(|root| !root.is_null())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> (Vec<Document>, Vec<String>) {
        let mut out = Diagnostics::new();
        let documents = parse(&Arc::from(name), text, &mut out);
        (documents, out.iter().map(ToString::to_string).collect())
    }

    fn show(node: &Node) -> String {
        match &node.kind {
            Kind::Null => "null".into(),
            Kind::Bool(b) => format!("bool {b}"),
            Kind::Int(n, text) => format!("int {n} {text}"),
            Kind::Float(n, text) => format!("float {n} {text}"),
            Kind::String(s) => format!("{s:?}"),
            Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            Kind::Map(entries) => {
                let all: Vec<String> = entries.iter().map(|(k, v)| format!("{}: {}", k.text, show(v))).collect();
                format!("{{{}}}", all.join(", "))
            }
        }
    }

    #[test]
    fn scalars_follow_the_core_schema_in_9() {
        let check = |text: &str, expected: &str| {
            let (documents, errors) = read("a.yaml", &format!("x: {text}\n"));
            assert_eq!(errors, Vec::<String>::new(), "{text}");
            assert_eq!(show(documents[0].root.get("x").unwrap()), expected, "{text}");
        };
        check("30000:32767", r#""30000:32767""#);
        check("22:50", r#""22:50""#);
        check("112", "int 112 112");
        check("\"112\"", r#""112""#);
        check("'112'", r#""112""#);
        check("1e3", "float 1000 1e3");
        check("1000.5", "float 1000.5 1000.5");
        check("-5", "int -5 -5");
        check("0x1F", "int 31 0x1F");
        check("0o17", "int 15 0o17");
        check("017", "int 17 017");
        check("", "null");
        check("~", "null");
        check("null", "null");
        check("true", "bool true");
        check("yes", r#""yes""#);
        check("on", r#""on""#);
        check(".inf", "float inf .inf");
        check("2015-01-01", r#""2015-01-01""#);
        check("1_000", r#""1_000""#);
        check("{}", "{}");
        check("[a, 1]", r#"["a", int 1 1]"#);
        check("!!str 5", r#""5""#);
        check("|\n  a\n  b", r#""a\nb\n""#);
    }

    #[test]
    fn json_is_read_whole() {
        let check = |text: &str, expected: &str| {
            let (documents, errors) = read("a.json", text);
            assert_eq!(errors, Vec::<String>::new(), "{text}");
            assert_eq!(documents.iter().map(|d| show(&d.root)).collect::<Vec<_>>().join(" "), expected, "{text}");
        };
        check(r#"{"a": "\u00e9\ud83d\ude00\/\"\\\b\f\n\r\t"}"#, r#"{a: "é😀/\"\\\u{8}\u{c}\n\r\t"}"#);
        check(
            "{\t\"a\"\t:\t[1,-2.5e3,true,false,null,{}]\t}",
            "{a: [int 1 1, float -2500 -2.5e3, bool true, bool false, null, {}]}",
        );
        check("{\"a\":1}\n{\"a\":2}", "{a: int 1 1} {a: int 2 2}");
        check("\u{feff}[]", "[]");
    }

    #[test]
    fn places_are_those_of_the_text() {
        let (documents, _) =
            read("a.yaml", "a: 1\nb:\n- action: Deny\n  x: é\n- { action: Allow }\n---\n# c\n---\nc: 2\n");
        let first = &documents[0].root;
        let items = first.get("b").unwrap().as_list().unwrap();
        let place = |n: &Node| (n.span.line, n.span.column);
        assert_eq!((place(first), place(&items[0]), place(&items[1])), ((1, 1), (3, 3), (5, 3)));
        assert_eq!((documents[1].index, place(&documents[1].root)), (3, (9, 1)));
        let (documents, _) = read("a.json", "{\n  \"a\": [\n    {\"é\": 1, \"b\": 2}]}");
        let item = &documents[0].root.get("a").unwrap().as_list().unwrap()[0];
        assert_eq!((place(item), place(item.get("b").unwrap())), ((3, 5), (3, 19)));
    }

    #[test]
    fn bad_text_is_reported_with_place_and_advice() {
        let check = |name: &str, text: &str, expected: &[&str]| {
            let (_, errors) = read(name, text);
            assert!(!errors.is_empty(), "{text}");
            for wanted in expected {
                assert!(errors.iter().any(|e| e.contains(wanted)), "{text}\nwanted {wanted}\ngot {errors:?}");
            }
        };
        check(
            "a.yaml",
            "a: 1\nb: 2\na: 3\n",
            &["a.yaml:3:1", "key `a` is given twice: first on line 1, again on line 3"],
        );
        check("a.json", "{\"a\":1,\n\"a\":2}", &["a.json:2:1", "first on line 1, again on line 2"]);
        check("a.yaml", "selector: !has(x)\n", &["a.yaml:1", "quote"]);
        check("a.yaml", "selector: !foo\n", &["a.yaml:1:11", "quote a selector that starts with `!`"]);
        check("a.yaml", "a:\n\tb: 1\n", &["a.yaml:2", "spaces"]);
        check("a.yaml", "a: {{ name }}\n", &["template"]);
        check("a.yaml", "a: *nowhere\n", &["a.yaml:1:4"]);
        check("a.yaml", "<<: {a: 1}\n", &["merge"]);
        check("a.yaml", "a: [1\nb: 2\n---\nc: 1\nc: 2\n", &["a.yaml:2", "key `c` is given twice"]);
        check("a.json", "{\"a\": 1,}", &["a.json:1:9"]);
        check("a.json", "{\"a\": }", &["a.json:1:7"]);
        check("a.json", "{'a': 1}", &["a.json:1:2", "double quotes"]);
        check("a.json", "[1, 2", &["a.json:1"]);
        check("a.json", "[01]", &["a.json:1"]);
        check("a.json", "[\"\\ud800\"]", &["a.json:1"]);
        check("a.json", "[\"a\nb\"]", &["a.json:1"]);
        check("a.json", "[1] x", &["a.json:1:5"]);
    }

    #[test]
    fn trees_are_bounded() {
        let check = |name: &str, text: &str, expected: &str| {
            let (_, errors) = read(name, text);
            assert!(errors.iter().any(|e| e.contains(expected)), "{expected}: {errors:?}");
        };
        check("a.yaml", &"[".repeat(100_000), "nest");
        check("a.json", &"[".repeat(100_000), "nest");
        check("a.json", &"{\"a\":".repeat(100_000), "nest");
        check("a.yaml", &"- ".repeat(100_000), "nest");
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{items}]\n");
        }
        check("a.yaml", &bomb, "aliases");
        let mut tower = String::from("a0: &a0 [x]\n");
        for level in 1..200 {
            tower += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        check("a.yaml", &tower, "nest");
        check("a.yaml", "a: &a [*a]\n", "itself");
    }
}
