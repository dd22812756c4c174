//! One file per verb; rendering for people and JSON types for scripts. Nobody imports this room.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod lab;
pub mod packet_object;
pub mod packet_text;

/// A userspace packet filter on AF_XDP rings.
#[derive(Debug, Parser)]
#[command(name = "ringwall", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Try the gateway without hardware
    Lab(lab::LabArguments),
}

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    let code = match Arguments::parse().verb {
        Verb::Lab(arguments) => lab::run(arguments),
    };
    ExitCode::from(code)
}
