//! JSON text in (RFC 8259, one or more values), spanned documents out. Strict: no comments, no trailing commas.

use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Builder, Document, Kind, MAX_DEPTH, Node};

/// Code of findings about text that is not JSON.
pub(super) const SYNTAX: &str = "json-syntax";

/// Reads all values of a text. The first syntax error ends the reading.
pub(super) fn parse(file: &Arc<str>, text: &str, out: &mut Diagnostics) -> Vec<Document> {
    let mut reader = Reader { rest: text.chars().peekable(), line: 1, column: 1, builder: Builder::new(file, out) };
    let mut documents = Vec::new();
    loop {
        reader.skip_space();
        if reader.peek().is_none() {
            return documents;
        }
        match reader.document() {
            Ok(()) => {
                if let Some(root) = reader.builder.take_root() {
                    documents.push(Document { index: documents.len() + 1, root });
                }
            }
            Err(fault) => {
                let span = reader.builder.span(fault.line, fault.column);
                let mut finding = Diagnostic::error(fault.code, fault.message).at(&span);
                finding.help = fault.help.map(str::to_string);
                reader.builder.report(finding);
                return documents;
            }
        }
    }
}

struct Fault {
    code: &'static str,
    message: String,
    help: Option<&'static str>,
    line: usize,
    column: usize,
}

/// What may come next.
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    CommaOrEnd,
}

struct Reader<'t, 'd> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: usize,
    column: usize,
    builder: Builder<'d>,
}

impl Reader<'_, '_> {
    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn skip_space(&mut self) {
        while let Some(' ' | '\t' | '\n' | '\r') = self.peek() {
            self.next();
        }
    }

    fn fault(&self, message: impl Into<String>, help: Option<&'static str>) -> Fault {
        Fault { code: SYNTAX, message: message.into(), help, line: self.line, column: self.column }
    }

    fn unexpected(&mut self, wanted: &str) -> Fault {
        match self.peek() {
            None => self.fault(format!("expected {wanted}, found the end of the file"), None),
            Some(c) => {
                let help = match c {
                    '\'' => Some("strings are written in double quotes in JSON"),
                    '#' | '/' => Some("JSON has no comments"),
                    '\u{201c}' | '\u{201d}' => Some("curly quotes are not quotes here: use `\"`"),
                    '}' | ']' => Some("remove the comma before it, or add what is missing"),
                    _ => None,
                };
                self.fault(format!("expected {wanted}, found `{c}`"), help)
            }
        }
    }

    /// One value with all it holds; a loop, so that no input can exhaust the stack.
    fn document(&mut self) -> Result<(), Fault> {
        // `}` or `]` for every open list or map.
        let mut closers: Vec<char> = Vec::new();
        let mut expect = Expect::Value;
        loop {
            self.skip_space();
            let closer = closers.last().copied();
            let ends = matches!(expect, Expect::ValueOrEnd | Expect::KeyOrEnd | Expect::CommaOrEnd);
            if ends && closer.is_some() && self.peek() == closer {
                self.next();
                closers.pop();
                self.builder.close(|_| {});
                expect = Expect::CommaOrEnd;
            } else {
                expect = match expect {
                    Expect::CommaOrEnd if self.peek() == Some(',') => {
                        self.next();
                        if closer == Some('}') { Expect::Key } else { Expect::Value }
                    }
                    Expect::CommaOrEnd => {
                        let wanted = if closer == Some('}') { "`,` or `}`" } else { "`,` or `]`" };
                        return Err(self.unexpected(wanted));
                    }
                    Expect::Key | Expect::KeyOrEnd => {
                        let span = self.builder.span(self.line, self.column);
                        if self.peek() != Some('"') {
                            return Err(self.unexpected("a key in double quotes"));
                        }
                        let key = self.string()?;
                        self.builder.key(key, span);
                        self.skip_space();
                        if self.peek() != Some(':') {
                            return Err(self.unexpected("`:`"));
                        }
                        self.next();
                        Expect::Value
                    }
                    Expect::Value | Expect::ValueOrEnd => self.value(&mut closers)?,
                };
            }
            if closers.is_empty() {
                return Ok(());
            }
        }
    }

    /// A scalar, or the opening of a list or map.
    fn value(&mut self, closers: &mut Vec<char>) -> Result<Expect, Fault> {
        let span = self.builder.span(self.line, self.column);
        let kind = match self.peek() {
            Some(open @ ('{' | '[')) => {
                if closers.len() >= MAX_DEPTH {
                    let fault = self.fault(format!("lists and maps nest more than {MAX_DEPTH} levels deep"), None);
                    return Err(Fault { code: "too-deep", ..fault });
                }
                self.next();
                return Ok(if open == '{' {
                    closers.push('}');
                    self.builder.open_map(span, 0);
                    Expect::KeyOrEnd
                } else {
                    closers.push(']');
                    self.builder.open_list(span, 0);
                    Expect::ValueOrEnd
                });
            }
            Some('"') => Kind::String(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some('a'..='z' | 'A'..='Z') => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        self.builder.value(Node { kind, span });
        Ok(Expect::CommaOrEnd)
    }

    fn word(&mut self) -> Result<Kind, Fault> {
        let start = self.fault("", None);
        let mut word = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric()) {
            word.push(c);
            self.next();
        }
        match word.as_str() {
            "true" => Ok(Kind::Bool(true)),
            "false" => Ok(Kind::Bool(false)),
            "null" => Ok(Kind::Null),
            _ => {
                let message = format!("expected a value, found `{word}`");
                Err(Fault { message, help: Some("strings are written in double quotes in JSON"), ..start })
            }
        }
    }

    fn number(&mut self) -> Result<Kind, Fault> {
        let start = self.fault("", None);
        let mut text = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
            text.push(c);
            self.next();
        }
        if !is_json_number(&text) {
            return Err(Fault { message: format!("`{text}` is not a number"), ..start });
        }
        if !text.contains(['.', 'e', 'E'])
            && let Ok(number) = text.parse()
        {
            return Ok(Kind::Int(number, text));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Kind::Float(number, text)),
            _ => Err(Fault { message: format!("`{text}` is too large a number"), ..start }),
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(self.fault("a string is not closed before the end of the file", None)),
                Some('"') => {
                    self.next();
                    return Ok(text);
                }
                Some('\\') => text.push(self.escape()?),
                Some(c) if c < ' ' => {
                    return Err(self.fault(
                        "a string contains a line break or control character",
                        Some("write it as `\\n` or `\\u....`"),
                    ));
                }
                Some(c) => {
                    text.push(c);
                    self.next();
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.fault("", None);
        self.next();
        let c = self.next();
        Ok(match c {
            Some('"' | '\\' | '/') => c.unwrap_or('/'),
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let first = self.hex()?;
                let code = if (0xd800..0xdc00).contains(&first) && self.peek() == Some('\\') {
                    self.next();
                    if self.next() != Some('u') {
                        return Err(Fault { message: "half of a surrogate pair stands alone".into(), ..start });
                    }
                    let second = self.hex()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(Fault { message: "half of a surrogate pair stands alone".into(), ..start });
                    }
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                char::from_u32(code)
                    .ok_or(Fault { message: "half of a surrogate pair stands alone".into(), ..start })?
            }
            Some(other) => return Err(Fault { message: format!("unknown escape `\\{other}`"), ..start }),
            None => return Err(Fault { message: "a string is not closed before the end of the file".into(), ..start }),
        })
    }

    fn hex(&mut self) -> Result<u32, Fault> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|c| c.to_digit(16));
            value =
                value * 16 + digit.ok_or_else(|| self.fault("expected four hexadecimal digits after `\\u`", None))?;
            self.next();
        }
        Ok(value)
    }
}

/// RFC 8259 section 6.
fn is_json_number(text: &str) -> bool {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, Some(e.strip_prefix(['+', '-']).unwrap_or(e))),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((w, f)) => (w, Some(f)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}
