//! `ringwall bench`: rule sets and traffic in, what the parts of the data path cost out.

use clap::{Args, Subcommand};

pub mod classbench;
pub mod classify;
pub mod generate;
pub mod profile;
pub mod random;
pub mod ruleset;
pub mod scan;
pub mod traffic;

/// Arguments of `ringwall bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Time look-ups of the first matching rule
    Classify(classify::ClassifyArguments),
}

/// Measures; returns the exit code.
pub fn run(arguments: &BenchArguments) -> u8 {
    match &arguments.part {
        Part::Classify(arguments) => classify::run(arguments),
    }
}
