//! `ringwall completion`: a shell in, its completion script out.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::arguments::exit;

/// Arguments of `ringwall completion`.
#[derive(Debug, Args)]
pub struct CompletionArguments {
    /// Shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script for the command line `C`.
pub fn run<C: CommandFactory>(arguments: &CompletionArguments) -> u8 {
    clap_complete::generate(arguments.shell, &mut C::command(), "ringwall", &mut std::io::stdout());
    exit::DONE
}
