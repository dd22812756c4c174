//! `ringwall check`: validates everything that is to be loaded, without loading it anywhere.

use clap::Args;

use super::arguments::{GatewayArguments, Output, exit};
use super::findings;
use crate::base::diagnostic::Severity;
use crate::compile::lint::lint;
use crate::control::load::load;

/// Arguments of `ringwall check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    gateway: GatewayArguments,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Checks; returns the exit code: 3 with errors, 1 with warnings, else 0.
pub fn run(arguments: &CheckArguments) -> u8 {
    let mut outcome = load(&arguments.gateway.request(), 1, None);
    if let Some(loaded) = &outcome.loaded {
        outcome.findings.extend(lint(&loaded.policy, &loaded.plan.site));
        outcome.findings.sort();
    }
    let count = |severity| outcome.findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
    match arguments.output {
        Output::Json => println!("{}", findings::json(&outcome.findings)),
        Output::Table => {
            print!("{}", findings::text(&outcome.findings, &outcome.sources));
            let loaded = outcome.loaded.as_ref().map_or(String::new(), |loaded| {
                let policy = &loaded.policy;
                format!(
                    "{} files: {} policies, {} host endpoints, {} pods, {} services, {} entries in the program; ",
                    outcome.sources.len(),
                    policy.rulesets.len(),
                    policy.host_endpoints.len(),
                    policy.pods.len(),
                    policy.services.len(),
                    loaded.program.entries.len()
                )
            });
            println!("{loaded}{errors} errors, {warnings} warnings, {notes} notes");
        }
    }
    match (errors, warnings) {
        (0, 0) => exit::DONE,
        (0, _) => exit::DENIED,
        _ => exit::INVALID,
    }
}
