//! `ringwall bench`: what to measure in, figures out; one file per subject, and what makes rules and traffic for them.

use clap::{Args, Subcommand};

pub mod captures;
pub mod classbench;
pub mod classify;
pub mod generate;
mod instructions;
pub mod pipeline;
mod policy_and_frames;
pub mod profile;
pub mod random;
pub mod replay;
pub mod ruleset;
pub mod scan;
pub mod traffic;
pub mod veth;

/// Arguments of `ringwall bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Time look-ups of the first matching rule
    Classify(classify::ClassifyArguments),
    /// The whole packet path between two in-memory ring ports
    Pipeline(pipeline::PipelineArguments),
    /// Captures from the page cache through the packet path, as `ringwall replay` plays them
    Replay(replay::ReplayArguments),
    /// Forward between veth pairs: a bare forwarder, this program and the kernel's nftables in turn
    Veth(veth::VethArguments),
}

/// Measures; returns the exit code. `allocations` tells how often the process has asked for memory so far.
pub fn run(arguments: &BenchArguments, allocations: fn() -> u64) -> u8 {
    match &arguments.subject {
        Subject::Classify(arguments) => classify::run(arguments),
        Subject::Pipeline(arguments) => pipeline::run(arguments, allocations),
        Subject::Replay(arguments) => replay::run(arguments, allocations),
        Subject::Veth(arguments) => veth::run(arguments),
    }
}
