//! YAML 1.2 text in, spanned documents out: anchors are expanded within bounds, tags are refused, plain scalars follow the core
//! schema, so that `22:50` and `yes` are strings.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Builder, Document, Finished, Kind, MAX_ALIAS_NODES, MAX_DEPTH, Node, odd_text_help};

/// Why the reading of a document stops; what is wrong is already reported.
struct Stop;

/// Reads all documents of a text; after a fault it goes on with the next document.
pub(super) fn parse(file: &Arc<str>, text: &str, out: &mut Diagnostics) -> Vec<Document> {
    let options = granit_parser::options! {
        emit_comments: false,
        emit_anchor_events: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { builder: Builder::new(file, out), anchors: HashMap::new(), alias_nodes: 0 };
    let mut documents = Vec::new();
    let mut index = 0;
    loop {
        let stopped = match parser.next_event() {
            None => return documents,
            Some(Ok((Event::DocumentStart(..), _))) => {
                index += 1;
                reader.anchors.clear();
                false
            }
            Some(Ok((Event::DocumentEnd, _))) => {
                if let Some(root) = reader.builder.take_root() {
                    documents.push(Document { index, root });
                }
                false
            }
            Some(Ok((event, span))) => {
                let start = span.tag_start.unwrap_or(span.start);
                reader.event(event, start.line(), start.col() + 1).is_err()
            }
            Some(Err(error)) => {
                if *error.kind() == ErrorKind::ExpectedDocumentStart {
                    // What looked like a whole document goes on below.
                    documents.pop();
                }
                reader.syntax(&error, text);
                true
            }
        };
        if stopped {
            reader.builder.take_root();
            if !matches!(parser.proceed_next_document(), Ok(true)) {
                return documents;
            }
        }
    }
}

/// A finished anchor: the value and how many values it is made of.
struct Anchored {
    node: Node,
    size: usize,
}

struct Reader<'d> {
    builder: Builder<'d>,
    anchors: HashMap<usize, Anchored>,
    alias_nodes: usize,
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, line: usize, column: usize) -> Result<(), Stop> {
        let span = self.builder.span(line, column);
        let report = |this: &mut Self, code, message: String, help: &str| {
            this.builder.report(Diagnostic::error(code, message).at(&span).help(help));
            Err(Stop)
        };
        if self.builder.expects_key() && !matches!(event, Event::MappingEnd) {
            let text = match &event {
                Event::Scalar(text, ..) => text.to_string(),
                Event::Alias(id) => match self.anchors.get(id).and_then(|a| a.node.as_str()) {
                    Some(text) => text.to_string(),
                    None => return report(self, "bad-key", "this alias cannot be a key".into(), "write the key out"),
                },
                _ => {
                    let message = "a list or map cannot be a key".into();
                    return report(
                        self,
                        "bad-key",
                        message,
                        "an unfilled template? quote values that start with `{` or `[`",
                    );
                }
            };
            if text == "<<" {
                let message = "merge keys (`<<`) are not part of YAML 1.2".into();
                return report(self, "merge-key", message, "write the fields out");
            }
            if let Event::Scalar(text, style, anchor, _) = event
                && anchor != 0
            {
                let kind = if style == ScalarStyle::Plain { plain(&text) } else { Kind::String(text.into_owned()) };
                self.anchors.insert(anchor, Anchored { node: Node { kind, span: span.clone() }, size: 1 });
            }
            self.builder.key(text, span);
            return Ok(());
        }
        let opens = matches!(event, Event::SequenceStart(..) | Event::MappingStart(..));
        if opens && self.builder.depth() >= MAX_DEPTH {
            let message = format!("lists and maps nest more than {MAX_DEPTH} levels deep");
            return report(self, "too-deep", message, "no resource needs this: look for an unclosed bracket");
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = match self.scalar(&text, style, tag.as_deref()) {
                    Ok(kind) => kind,
                    Err(message) => return report(self, "yaml-tag", message, TAG_HELP),
                };
                let node = Node { kind, span };
                if anchor != 0 {
                    self.anchors.insert(anchor, Anchored { node: node.clone(), size: 1 });
                }
                self.builder.value(node);
            }
            Event::SequenceStart(_, anchor, tag) => {
                if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema_tag("seq")) {
                    return report(self, "yaml-tag", format!("`{}` is a YAML tag", tag.original()), TAG_HELP);
                }
                self.builder.open_list(span, anchor);
            }
            Event::MappingStart(_, anchor, tag) => {
                if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema_tag("map")) {
                    return report(self, "yaml-tag", format!("`{}` is a YAML tag", tag.original()), TAG_HELP);
                }
                self.builder.open_map(span, anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let anchors = &mut self.anchors;
                let used = &mut self.alias_nodes;
                self.builder.close(|Finished { anchor, node }| {
                    if anchor != 0 {
                        let size = node.size();
                        // A copy is kept for every anchor, so the copies count too; past the bound none is kept.
                        *used = used.saturating_add(size);
                        if *used <= MAX_ALIAS_NODES {
                            anchors.insert(anchor, Anchored { node: node.clone(), size });
                        }
                    }
                });
                if self.alias_nodes > MAX_ALIAS_NODES {
                    return report(self, "alias-expansion", TOO_MANY.into(), "write the values out");
                }
            }
            Event::Alias(id) => {
                let Some(found) = self.anchors.get(&id) else {
                    let message = "this alias stands inside the value it names, which would contain itself".into();
                    return report(self, "alias-expansion", message, "write the values out");
                };
                self.alias_nodes = self.alias_nodes.saturating_add(found.size);
                if self.alias_nodes > MAX_ALIAS_NODES {
                    return report(self, "alias-expansion", TOO_MANY.into(), "write the values out");
                }
                if self.builder.depth() + found.node.depth() > MAX_DEPTH {
                    let message = format!("with this alias, lists and maps nest more than {MAX_DEPTH} levels deep");
                    return report(self, "too-deep", message, "write the values out");
                }
                let node = found.node.clone();
                self.builder.value(node);
            }
            _ => {}
        }
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, String> {
        let string = || Kind::String(text.to_string());
        let Some(tag) = tag else {
            return Ok(if style == ScalarStyle::Plain { plain(text) } else { string() });
        };
        let wrong = || format!("`{text}` is not what the tag `{}` says", tag.original());
        match (tag.core_suffix(), plain(text)) {
            (Some("str"), _) => Ok(string()),
            (Some("null"), kind @ Kind::Null)
            | (Some("bool"), kind @ Kind::Bool(_))
            | (Some("int"), kind @ Kind::Int(..))
            | (Some("float"), kind @ (Kind::Float(..) | Kind::Int(..))) => Ok(kind),
            (Some(_), _) => Err(wrong()),
            (None, _) => Err(format!("`{}` is a YAML tag", tag.original())),
        }
    }

    fn syntax(&mut self, error: &ScanError, text: &str) {
        let marker = error.marker();
        let span = self.builder.span(marker.line(), marker.col() + 1);
        let (code, message, usual_help) = explain(error.kind());
        let mut finding = Diagnostic::error(code, message).at(&span);
        // The parser often stops on the line after the slip.
        let lines: Vec<&str> = text.lines().skip(marker.line().saturating_sub(2)).take(2).collect();
        let help = lines.iter().rev().find_map(|line| line_help(line)).or(usual_help);
        finding.help = help.map(str::to_string);
        self.builder.report(finding);
    }
}

const TAG_HELP: &str = "quote a selector that starts with `!`";
const TOO_MANY: &str = "aliases expand to too many values";

/// Advice about a line of YAML that cannot be read.
fn line_help(line: &str) -> Option<&'static str> {
    let indent = line.len() - line.trim_start().len();
    let value = line.split_once(": ").map_or("", |(_, value)| value.trim_start());
    if line.get(..indent).is_some_and(|i| i.contains('\t')) {
        Some("indent with spaces, not with tabs")
    } else if value.starts_with('!') {
        Some(TAG_HELP)
    } else if value.starts_with(['*', '&', '%', '@', '`', '|', '>']) {
        Some("quote a value that starts with a special character")
    } else if let Some(help) = odd_text_help(line) {
        Some(help)
    } else if value.contains(": ") && !value.starts_with(['{', '[', '"', '\'']) {
        Some("quote a value that contains `: `")
    } else {
        None
    }
}

/// Code, message and usual advice for a fault that the parser found.
fn explain(kind: &ErrorKind) -> (&'static str, String, Option<&'static str>) {
    let indent = Some("check the indentation: fields of one map, and items of one list, start in the same column");
    let (message, help) = match kind {
        ErrorKind::RecursionLimitExceeded => {
            return ("too-deep", format!("lists and maps nest more than {MAX_DEPTH} levels deep"), None);
        }
        ErrorKind::UnknownAnchor => ("this alias names nothing", Some("quote a value that starts with `*`")),
        ErrorKind::SimpleKeyExpected => ("expected `key: value`, found text without a colon", indent),
        ErrorKind::MappingValueNotAllowed => ("a `key:` is not expected here", indent),
        ErrorKind::MappingKeyNotAllowed => ("a key is not expected here", indent),
        ErrorKind::BlockSequenceEntryNotAllowed => ("a list item is not expected here", indent),
        ErrorKind::ExpectedBlockMappingKey => ("expected a key", indent),
        ErrorKind::ExpectedBlockSequenceEntry => ("expected a list item that starts with `- `", indent),
        ErrorKind::InvalidIndentation => ("the indentation does not fit the lines above", indent),
        ErrorKind::ExpectedDocumentStart => ("this line does not belong to the document above", indent),
        ErrorKind::ExpectedNodeContent => ("expected a value", None),
        ErrorKind::InvalidColonPlacement => {
            ("a `:` is not expected here", Some("look for a bracket or quote above that is not closed"))
        }
        ErrorKind::ExpectedFlowMappingSeparator => ("expected `,` or `}`", Some("close the `{` or add a comma")),
        ErrorKind::ExpectedFlowSequenceSeparator => ("expected `,` or `]`", Some("close the `[` or add a comma")),
        ErrorKind::UnclosedQuotedScalar => ("a quote is not closed", Some("add the closing quote")),
        ErrorKind::InvalidBlockEntryWhitespace => ("a `-` needs a space behind it", None),
        ErrorKind::InvalidMappingValueWhitespace => ("a `:` needs a space behind it", None),
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            ("a tab is not allowed here", Some("indent with spaces, not with tabs"))
        }
        other => return ("yaml-syntax", lower_first(&other.to_string()), None),
    };
    ("yaml-syntax", message.to_string(), help)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// A plain scalar by the core schema (YAML 1.2.2 section 10.3.2).
fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Kind::Float(f64::NAN, text.to_string()),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let radix = |prefix: &str, base: u32| {
        text.strip_prefix(prefix)
            .and_then(|t| if t.starts_with(['+', '-']) { None } else { i128::from_str_radix(t, base).ok() })
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Kind::Int(number, text.to_string());
    }
    if digits(unsigned) {
        return match text.parse::<i128>() {
            Ok(number) => Kind::Int(number, text.to_string()),
            Err(_) => Kind::Float(text.parse().unwrap_or(f64::INFINITY), text.to_string()),
        };
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let infinity = if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
        return Kind::Float(infinity, text.to_string());
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((m, e)) => (m, Some(e.strip_prefix(['+', '-']).unwrap_or(e))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_float = (digits(whole) || whole.is_empty())
        && (digits(fraction) || fraction.is_empty())
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(digits);
    match text.parse::<f64>() {
        Ok(number) if is_float => Kind::Float(number, text.to_string()),
        _ => Kind::String(text.to_string()),
    }
}
