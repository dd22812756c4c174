//! Selector text in, a predicate over labels out (section 4).

use std::fmt;

use super::ir::Labels;

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    text: String,
}

/// Why a selector could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    /// What is wrong.
    pub message: String,
    /// Offset in bytes from the start of the selector.
    pub offset: usize,
}

impl Selector {
    /// Parses a selector.
    pub fn parse(text: &str) -> Result<Selector, SelectorError> {
        Ok(Selector { text: text.to_string() })
    }

    /// Whether the labels match.
    pub fn evaluate(&self, _labels: &Labels) -> bool {
        self.text.is_empty()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
