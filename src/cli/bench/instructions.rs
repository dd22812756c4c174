//! The name of a kind of instructions in, what the processor can do with them out.

use clap::ValueEnum;

use crate::base::wide::Level;

/// Instructions that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Instructions {
    /// Those of any processor.
    Scalar,
    /// AVX2.
    Avx2,
    /// AVX-512.
    Avx512,
}

impl Instructions {
    /// The level of these instructions, or the best of this processor.
    ///
    /// # Errors
    /// This processor does not have them; the text says so.
    pub fn level(chosen: Option<Instructions>) -> Result<Level, &'static str> {
        let Some(chosen) = chosen else { return Ok(Level::best()) };
        let is_it = |level: &Level| match level {
            Level::Scalar => chosen == Instructions::Scalar,
            Level::Avx2(_) => chosen == Instructions::Avx2,
            Level::Avx512(_) => chosen == Instructions::Avx512,
        };
        Level::all()
            .into_iter()
            .find(is_it)
            .ok_or("error: this processor does not have the instructions that `--level` names\n")
    }
}
