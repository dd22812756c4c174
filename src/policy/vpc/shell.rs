//! The text of an `.ibmcloud` file in, its commands as lists of words with all variables filled in out (CLI-4).
//!
//! One command per line, as a shell would split it: quotes, `\` at the end of a line, `#` comments, `$name`, `${name}` and
//! assignments. Everything else of a shell is refused, for this is not one.

use std::sync::Arc;

use super::object::Variables;
use crate::base::decode::Findings;
use crate::base::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::base::document::odd_text_help;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its words, the program's name first.
    pub words: Vec<String>,
    /// Where its first word stands.
    pub span: Span,
}

/// Splits a script into commands. Lines with a fault are reported and left out.
pub fn commands(file: &Arc<str>, text: &str, variables: &Variables, findings: &Findings) -> Vec<Command> {
    let mut defined = variables.clone();
    let mut found = Vec::new();
    let mut lines = (1u32..).zip(text.lines());
    while let Some((line, first)) = lines.next() {
        let mut joined = first.to_string();
        while let Some(rest) = joined.strip_suffix('\\') {
            let Some((_, next)) = lines.next() else {
                joined.truncate(rest.len());
                break;
            };
            joined = format!("{rest} {}", next.trim_start());
        }
        let column = 1 + joined.chars().take_while(|c| c.is_whitespace()).count() as u32;
        let span = Span { file: file.clone(), line, column };
        let words = match split(&joined, &defined) {
            Ok(words) => words,
            Err(fault) => {
                findings.push(fault.at(&span));
                continue;
            }
        };
        if let Some((name, value)) = assignment(&words) {
            defined.insert(name.to_string(), value.to_string());
        } else if !words.is_empty() {
            found.push(Command { words, span });
        }
    }
    found
}

/// `NAME=value`, with or without `export` before it.
fn assignment(words: &[String]) -> Option<(&str, &str)> {
    let word = match words {
        [word] => word,
        [export, word] if export == "export" => word,
        _ => return None,
    };
    let (name, value) = word.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((name, value))
}

fn split(line: &str, variables: &Variables) -> Result<Vec<String>, Diagnostic> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '$') => {
                let value = variable(&mut rest, variables, line)?;
                word.get_or_insert_default().push_str(value);
            }
            (Some('\''), other) => word.get_or_insert_default().push(other),
            (None | Some('"'), '\\') => {
                // A backslash takes the meaning from the next character; inside quotes from few of them.
                let next = rest.next_if(|next| quote.is_none() || matches!(next, '"' | '\\' | '$' | '`'));
                word.get_or_insert_default().push(next.unwrap_or('\\'));
            }
            (Some(_), '`') => return Err(unsupported(line, "`")),
            (Some(_), other) => word.get_or_insert_default().push(other),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '<' | '>' | '|' | '&' | ';' | '`' | '(' | ')') => {
                return Err(unsupported(line, &character.to_string()));
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (None, other) => word.get_or_insert_default().push(other),
        }
    }
    if let Some(open) = quote {
        return Err(Diagnostic::error("script-syntax", format!("the quote {open} is not closed")));
    }
    words.extend(word);
    Ok(words)
}

fn variable<'v>(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    variables: &'v Variables,
    line: &str,
) -> Result<&'v str, Diagnostic> {
    let is_braced = rest.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(character) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(character);
    }
    if name.is_empty() || (is_braced && rest.next_if_eq(&'}').is_none()) {
        return Err(unsupported(line, "$"));
    }
    if let Some(value) = variables.get(&name) {
        return Ok(value);
    }
    let finding = Diagnostic::error("undefined-variable", format!("variable `${name}` is not defined"));
    Err(match did_you_mean(&name, variables.keys().map(String::as_str)) {
        Some(near) => finding.help(format!("did you mean `${near}`? names are case sensitive")),
        None => finding.help(format!("give its value with `--set {name}=...`")),
    })
}

fn unsupported(line: &str, what: &str) -> Diagnostic {
    let message = format!("`{what}` has a meaning of its own in a shell, which is not supported here");
    let finding = Diagnostic::error("script-syntax", message);
    finding.help(odd_text_help(line).unwrap_or("put it in quotes, or give the value with `--set name=value`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_as_a_shell_splits_them_cli_4() {
        let check = |text: &str, expected: &[(u32, &[&str])], faults: &[&str]| {
            let findings = Findings::new();
            let variables = Variables::from([("a".to_string(), "x y".to_string())]);
            let found = commands(&"s".into(), text, &variables, &findings);
            let found: Vec<(u32, Vec<&str>)> =
                found.iter().map(|c| (c.span.line, c.words.iter().map(String::as_str).collect())).collect();
            let expected: Vec<(u32, Vec<&str>)> =
                expected.iter().map(|(line, words)| (*line, words.to_vec())).collect();
            assert_eq!(found, expected, "{text}");
            let codes: Vec<&str> = findings.into_diagnostics().iter().map(|d| d.code).collect();
            assert_eq!(codes, faults, "{text}");
        };
        check("", &[], &[]);
        check("# only\n\n  a b # c\nd#e", &[(3, &["a", "b"]), (4, &["d#e"])], &[]);
        check("a \\\n  b\nc", &[(1, &["a", "b"]), (3, &["c"])], &[]);
        check("$a ${a}z '$a' \"q $a\" \\$a", &[(1, &["x y", "x yz", "$a", "q x y", "$a"])], &[]);
        check("a '' \"b c\"d", &[(1, &["a", "", "b cd"])], &[]);
        check("export B=1\nC=$B\nr $B $C", &[(3, &["r", "1", "1"])], &[]);
        check("r $A", &[], &["undefined-variable"]);
        check("r ${a", &[], &["script-syntax"]);
        check("r 'a", &[], &["script-syntax"]);
        check("r $(id)", &[], &["script-syntax"]);
        check("r <acl>\ns", &[(2, &["s"])], &["script-syntax"]);
        check("r a | b", &[], &["script-syntax"]);
    }

    #[test]
    fn a_variable_of_another_case_is_pointed_at_b23() {
        let findings = Findings::new();
        commands(&"s".into(), "export ACL_ID=1\nx $acl_id", &Variables::new(), &findings);
        let texts: Vec<String> = findings.into_diagnostics().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["error: s:2:1: variable `$acl_id` is not defined (did you mean `$ACL_ID`? names are case sensitive)"]
        );
    }
}
