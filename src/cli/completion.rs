//! `ringwall completion`: a shell in, its completion script out.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::arguments::exit;
use super::print;

/// Arguments of `ringwall completion`.
#[derive(Debug, Args)]
pub struct CompletionArguments {
    /// Shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script for the command line `C`.
pub fn run<C: CommandFactory>(arguments: &CompletionArguments) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut C::command(), "ringwall", &mut script);
    print::result(&String::from_utf8_lossy(&script), exit::DONE)
}
