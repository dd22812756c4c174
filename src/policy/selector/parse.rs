//! Selector text in, its expression or the place of the first fault out.

use std::collections::BTreeSet;

use super::{Comparison, Expression, SelectorError, negate};

/// Longest label name in characters (V-12).
const MAX_IDENTIFIER: usize = 512;

/// Parentheses that may be open at once; deeper text is an error instead of an exhausted stack.
pub(super) const MAX_NESTING: usize = 200;

/// Parses a whole text; empty or blank text matches everything.
pub(super) fn expression(text: &str) -> Result<Expression, SelectorError> {
    let mut parser = Parser { text, at: 0, nesting: 0 };
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(Expression::All);
    }
    let expression = parser.or()?;
    if parser.rest().is_empty() { Ok(expression) } else { Err(parser.unexpected("`&&`, `||` or the end")) }
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
