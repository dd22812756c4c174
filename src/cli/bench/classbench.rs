//! Rule sets and traces in the format of ClassBench (Taylor and Turner, 2007) in, rules and headers out; and rules back to text.
//!
//! A rule: `@src/len dst/len sport : sport dport : dport proto/mask [flags]`, the first line first. The flags are read over, as
//! headers of a trace have none to compare with. A header: source, destination, source port, destination port and protocol as
//! numbers or addresses, between tabs; more columns (flags, the rule it was made from) are read over. Empty lines and lines that
//! begin with `#` are comments.

use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use flate2::read::GzDecoder;

use super::ruleset::{PortRange, Prefix, ProtocolMask, Rule, RuleSet};
use crate::base::address::{Family, address, number};
use crate::base::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::packet::Key;

const RULE_FORM: &str = "`@src/len dst/len sport : sport dport : dport proto/mask`, such as `@10.0.0.0/8 192.168.1.1/32 0 : 65535 80 : 80 \
                         0x06/0xFF`";
const HEADER_FORM: &str = "`src dst sport dport proto` between tabs, such as `167772161 3232235777 40000 80 6`";

/// Findings of one file that are told; a file of something else has one per line.
const MOST_FINDINGS: usize = 50;

/// The text of a file, unpacked if it is gzip.
pub fn read(path: &Path, out: &mut Diagnostics) -> Option<String> {
    let failed = |error: std::io::Error| {
        let help = "name a file in the format of ClassBench, plain or packed with gzip";
        Diagnostic::error("unreadable", format!("cannot read `{}`: {error}", path.display())).help(help)
    };
    let bytes = fs::read(path).and_then(|bytes| {
        let mut unpacked = Vec::new();
        match bytes.starts_with(&[0x1f, 0x8b]) {
            true => GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).map(|_| unpacked),
            false => Ok(bytes),
        }
    });
    match bytes.and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other)) {
        Ok(text) => Some(text),
        Err(error) => {
            out.push(failed(error));
            None
        }
    }
}

/// What is wrong with a word: where it begins in the line, and what was expected.
struct Wrong {
    column: usize,
    message: String,
}

/// The words of a line, from left to right.
struct Words<'t> {
    line: &'t str,
    at: usize,
}

impl<'t> Words<'t> {
    fn rest(&self) -> &'t str {
        self.line.get(self.at..).unwrap_or_default()
    }

    /// The next word with its place; it ends before white space or one of `ends`.
    fn next(&mut self, ends: &[char]) -> Option<(usize, &'t str)> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let word = self.rest();
        let length = word.find(|c: char| c.is_whitespace() || ends.contains(&c)).unwrap_or(word.len());
        let (start, word) = (self.at, word.get(..length)?);
        self.at += length;
        (!word.is_empty()).then_some((start, word))
    }

    fn expect(&mut self, ends: &[char], what: &str) -> Result<(usize, &'t str), Wrong> {
        let found = self.next(ends);
        found.ok_or_else(|| match self.rest().chars().next() {
            Some(other) => Wrong { column: self.at, message: format!("expected {what}, found `{other}`") },
            None => Wrong { column: self.at, message: format!("expected {what}, but the line ends here") },
        })
    }

    fn colon(&mut self) -> Result<(), Wrong> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        if self.rest().starts_with(':') {
            self.at += 1;
            return Ok(());
        }
        let found = self.rest().split_whitespace().next().map_or("the end".to_string(), |word| format!("`{word}`"));
        Err(Wrong { column: self.at, message: format!("expected `:` between first and last port, found {found}") })
    }

    fn number<T: FromStr>(&mut self, ends: &[char], what: &str) -> Result<T, Wrong> {
        let (column, word) = self.expect(ends, what)?;
        word.parse().map_err(|_| Wrong { column, message: format!("`{word}` is not {what}") })
    }
}

/// A prefix with the family of its address. Bits behind its length are an error: the rule would not say what it shows.
fn prefix(words: &mut Words<'_>, what: &str) -> Result<(usize, Family, Prefix), Wrong> {
    let (column, word) = words.expect(&[], what)?;
    let wrong = |message: String| Wrong { column, message };
    let Some((network, length)) = word.split_once('/') else {
        return Err(wrong(format!("`{word}` is not {what}: expected an address, `/` and a length")));
    };
    let Ok(ip) = network.parse::<IpAddr>() else {
        return Err(wrong(format!("`{network}` is not an IPv4 or IPv6 address")));
    };
    let family = Family::of(ip);
    let bits = length.parse::<u8>().ok().filter(|length| *length <= family.bits());
    let Some(bits) = bits else {
        return Err(wrong(format!("`{length}` is not a length from 0 to {}", family.bits())));
    };
    let prefix = Prefix::of(family, number(ip), bits);
    if prefix.address != number(ip) {
        let meant = address(family, prefix.address);
        return Err(wrong(format!("`{word}` has bits behind its length: did you mean `{meant}/{bits}`?")));
    }
    Ok((column, family, prefix))
}

fn ports(words: &mut Words<'_>, what: &str) -> Result<PortRange, Wrong> {
    let first = words.number(&[':'], what)?;
    words.colon()?;
    let column = words.at + 1;
    let last = words.number(&[':'], what)?;
    if first > last {
        return Err(Wrong { column, message: format!("the range {first} : {last} ends before it begins") });
    }
    Ok((first, last))
}

/// A number of eight bits, hexadecimal behind `0x`.
fn byte(word: &str) -> Option<u8> {
    let lower = word.to_ascii_lowercase();
    match lower.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => lower.parse().ok(),
    }
}

fn protocol(words: &mut Words<'_>) -> Result<ProtocolMask, Wrong> {
    let what = "a protocol and its mask such as `0x06/0xFF`";
    let (column, word) = words.expect(&[], what)?;
    let pair = word.split_once('/').and_then(|(value, mask)| Some((byte(value)?, byte(mask)?)));
    match pair {
        Some((value, mask)) => Ok(ProtocolMask { value: value & mask, mask }),
        None => Err(Wrong { column, message: format!("`{word}` is not {what}") }),
    }
}

fn rule(line: &str, expected: Option<Family>) -> Result<(Family, Rule), Wrong> {
    let mut words = Words { line, at: 0 };
    let rest = line.trim_start();
    words.at = line.len() - rest.len();
    if !rest.starts_with('@') {
        return Err(Wrong { column: words.at, message: "a rule begins with `@`".to_string() });
    }
    words.at += 1;
    let mut family = expected;
    let mut side = |what| {
        let (column, mine, prefix) = prefix(&mut words, what)?;
        let known = *family.get_or_insert(mine);
        if known == mine {
            return Ok(prefix);
        }
        let message = format!("{} in a set that began with {}: one set has one family", name(mine), name(known));
        Err(Wrong { column, message })
    };
    let (src, dst) = (side("a source prefix")?, side("a destination prefix")?);
    let sport = ports(&mut words, "a source port from 0 to 65535")?;
    let dport = ports(&mut words, "a destination port from 0 to 65535")?;
    let protocol = protocol(&mut words)?;
    Ok((family.unwrap_or(Family::V4), Rule { src, dst, sport, dport, protocol }))
}

const fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// Reads every line; findings have the place of the word that is wrong.
fn lines(
    path: &str,
    text: &str,
    (code, form): (&'static str, &str),
    out: &mut Diagnostics,
    mut read: impl FnMut(&str) -> Result<(), Wrong>,
) {
    let file: Arc<str> = path.into();
    let mut wrong_lines = 0;
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let Err(wrong) = read(line) else { continue };
        wrong_lines += 1;
        if wrong_lines <= MOST_FINDINGS {
            let before = line.get(..wrong.column).unwrap_or(line);
            let column = before.chars().count() as u32 + 1;
            let span = Span { file: file.clone(), line: number as u32 + 1, column };
            out.push(Diagnostic::error(code, wrong.message).at(&span).help(format!("expected {form}")));
        }
    }
    if wrong_lines > MOST_FINDINGS {
        let more = wrong_lines - MOST_FINDINGS;
        out.push(
            Diagnostic::error(code, format!("{more} more lines of `{path}` are wrong"))
                .help(format!("is it the right file? expected {form}")),
        );
    }
}

/// The rules of a text. With errors in `out`, what could be read.
pub fn rules(path: &str, text: &str, out: &mut Diagnostics) -> RuleSet {
    let mut family = None;
    let mut rules = Vec::new();
    lines(path, text, ("bad-rule", RULE_FORM), out, |line| {
        let (found, rule) = rule(line, family)?;
        family = Some(found);
        rules.push(rule);
        Ok(())
    });
    if rules.is_empty() && !out.has_errors() {
        out.push(Diagnostic::error("no-rules", format!("`{path}` has no rule")).help(format!("expected {RULE_FORM}")));
    }
    RuleSet { family: family.unwrap_or(Family::V4), rules }
}

/// An address as a number or in its usual form.
fn header_address(words: &mut Words<'_>, family: Family, what: &str) -> Result<u128, Wrong> {
    let (column, word) = words.expect(&[], what)?;
    let numeric = word.parse::<u128>().ok().filter(|number| *number <= family.max());
    let written = || word.parse::<IpAddr>().ok().filter(|ip| Family::of(*ip) == family).map(number);
    let message = || format!("`{word}` is not {what} of {}, the family of the rules", name(family));
    numeric.or_else(written).ok_or_else(|| Wrong { column, message: message() })
}

/// The headers of a trace for a set.
pub fn trace(path: &str, text: &str, set: &RuleSet, out: &mut Diagnostics) -> Vec<Key> {
    let mut keys = Vec::new();
    lines(path, text, ("bad-header", HEADER_FORM), out, |line| {
        let mut words = Words { line, at: 0 };
        let src = header_address(&mut words, set.family, "a source address")?;
        let dst = header_address(&mut words, set.family, "a destination address")?;
        let sport = words.number(&[], "a source port from 0 to 65535")?;
        let dport = words.number(&[], "a destination port from 0 to 65535")?;
        let protocol = words.number(&[], "a protocol from 0 to 255")?;
        keys.push(set.key(src, dst, sport, dport, protocol));
        Ok(())
    });
    if keys.is_empty() && !out.has_errors() {
        out.push(
            Diagnostic::error("no-headers", format!("`{path}` has no header")).help(format!("expected {HEADER_FORM}")),
        );
    }
    keys
}

/// The set as text that [`rules`] reads back.
pub fn write(set: &RuleSet) -> String {
    let mut text = String::new();
    let show = |prefix: &Prefix| format!("{}/{}", address(set.family, prefix.address), prefix.length);
    for rule in &set.rules {
        let _ = writeln!(
            text,
            "@{}\t{}\t{} : {}\t{} : {}\t0x{:02x}/0x{:02X}\t0x0000/0x0000",
            show(&rule.src),
            show(&rule.dst),
            rule.sport.0,
            rule.sport.1,
            rule.dport.0,
            rule.dport.1,
            rule.protocol.value,
            rule.protocol.mask
        );
    }
    text
}

#[cfg(test)]
mod tests;
