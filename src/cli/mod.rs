//! One file per verb; rendering for people and JSON types for scripts. Nobody imports this room.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod arguments;
pub mod bench;
pub mod check;
pub mod completion;
pub mod explain;
pub mod findings;
pub mod flow_view;
pub mod lab;
pub mod lab_gen;
pub mod packet_object;
pub mod packet_text;
pub mod print;
pub mod replay;
pub mod run;
pub mod show;
pub mod show_rows;
pub mod show_table;
pub mod show_yaml;
pub mod story;
pub mod summary;
pub mod verdict;

/// A userspace packet filter on AF_XDP rings.
#[derive(Debug, Parser)]
#[command(name = "ringwall", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done (allowed, no findings), 1 denied, findings or failed expectation, 2 wrong usage,
3 invalid policy, gateway file or capture, 5 missing privilege or kernel feature, 6 internal error (a defect)";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Forward and filter between two interfaces until a signal
    Run(run::RunArguments),
    /// Run captures through the packet line
    Replay(replay::ReplayArguments),
    /// Say what becomes of a packet, and why
    Explain(explain::ExplainArguments),
    /// Check gateway file and policies without loading them
    Check(check::CheckArguments),
    /// Print what is loaded, in evaluation order
    Show(show::ShowArguments),
    /// Try the gateway without hardware
    Lab(lab::LabArguments),
    /// Measure the data path, in parts and as a whole
    Bench(bench::BenchArguments),
    /// Print a completion script for a shell
    Completion(completion::CompletionArguments),
}

/// Does what the command line asks for. `allocations` tells how often the process has asked for memory so far.
pub fn main(allocations: fn() -> u64) -> ExitCode {
    let verb = Arguments::parse().verb;
    talk();
    let code = match verb {
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Replay(arguments) => replay::run(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Show(arguments) => show::run(&arguments),
        Verb::Lab(arguments) => lab::run(arguments),
        Verb::Bench(arguments) => bench::run(&arguments, allocations),
        Verb::Completion(arguments) => completion::run::<Arguments>(&arguments),
    };
    ExitCode::from(code)
}

/// Sends talk to standard error; `RINGWALL_LOG` filters it.
fn talk() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("RINGWALL_LOG").unwrap_or_else(|_| "info".into());
    let is_coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured)
        .with_target(false)
        .init();
}
