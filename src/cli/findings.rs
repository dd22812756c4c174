//! Findings in, text with the user's own line, or JSON, out.

use std::fmt::Write;
use std::fs;

use serde::Serialize;

use super::print;
use crate::base::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::policy::source::Source;

/// One finding as JSON.
#[derive(Debug, Serialize)]
struct Finding<'a> {
    code: &'a str,
    message: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    resource: Option<&'a str>,
    help: Option<&'a str>,
}

/// All findings as JSON.
#[derive(Debug, Serialize)]
struct Findings<'a> {
    errors: Vec<Finding<'a>>,
    warnings: Vec<Finding<'a>>,
    notes: Vec<Finding<'a>>,
}

/// The findings as one JSON object.
pub fn json(findings: &Diagnostics) -> String {
    let of = |severity| {
        let some = findings.iter().filter(|f| f.severity == severity);
        some.map(|f| Finding {
            code: f.code,
            message: &f.message,
            file: f.span.as_ref().map(|s| &*s.file),
            line: f.span.as_ref().map(|s| s.line),
            column: f.span.as_ref().map(|s| s.column),
            resource: f.resource.as_deref(),
            help: f.help.as_deref(),
        })
        .collect()
    };
    let all = Findings { errors: of(Severity::Error), warnings: of(Severity::Warning), notes: of(Severity::Note) };
    serde_json::to_string(&all).unwrap_or_default()
}

/// The findings for people: place and message on the first line, then the line of the file, then what to do.
pub fn text(findings: &Diagnostics, sources: &[Source]) -> String {
    let mut text = String::new();
    for finding in findings.iter() {
        let first = Diagnostic { help: None, ..finding.clone() };
        let _ = writeln!(text, "{first}");
        if let Some((number, line, column)) = finding.span.as_ref().and_then(|span| {
            let line = line_of(&span.file, span.line, sources)?;
            Some((span.line, line, span.column))
        }) {
            let margin = " ".repeat(number.to_string().len());
            // Tabs keep their width under the caret.
            let before: String = line
                .chars()
                .take(column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let _ = writeln!(text, " {margin} |\n {number} | {line}\n {margin} | {before}^");
        }
        if let Some(resource) = &finding.resource {
            let _ = writeln!(text, "   = in: {resource}");
        }
        if let Some(help) = &finding.help {
            let _ = writeln!(text, "   = help: {help}");
        }
    }
    text
}

/// Prints the findings to standard error.
pub fn print(findings: &Diagnostics, sources: &[Source]) {
    print::talk(&text(findings, sources));
}

fn line_of(file: &str, line: u32, sources: &[Source]) -> Option<String> {
    const LONGEST: usize = 200;
    let pick =
        |text: &str| text.lines().nth(line.saturating_sub(1) as usize).map(|l| l.chars().take(LONGEST).collect());
    match sources.iter().find(|source| &*source.path == file) {
        Some(source) => pick(&source.text),
        None => pick(&fs::read_to_string(file).ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diagnostic::Span;
    use std::sync::Arc;

    #[test]
    fn a_finding_shows_the_line_that_it_is_about() {
        let mut findings = Diagnostics::new();
        let span = Span { file: Arc::from("p.yaml"), line: 2, column: 3 };
        findings.push(
            Diagnostic::error("unknown-field", "unknown field `preDnat`").at(&span).help("did you mean `preDNAT`?"),
        );
        let source = Source::new("p.yaml", "spec:\n  preDnat: true\n");
        let expected = "error: p.yaml:2:3: unknown field `preDnat`\n   |\n 2 |   preDnat: true\n   |   ^\n   = help: did you mean `preDNAT`?\n";
        assert_eq!(text(&findings, &[source]), expected);
    }
}
