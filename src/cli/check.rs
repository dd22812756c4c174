//! `ringwall check`: validates everything that is to be loaded, without loading it anywhere.

use clap::Args;

use super::arguments::{GatewayArguments, Output, exit};
use super::{findings, print};
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
    let text = match arguments.output {
        Output::Json => findings::json(&outcome.findings) + "\n",
        Output::Table => {
            let found = findings::text(&outcome.findings, &outcome.sources);
            let loaded = outcome.loaded.as_ref().map_or(String::new(), |loaded| {
                let policy = &loaded.policy;
                let policies = policy.rulesets.len();
                format!(
                    "{}: {policies} {}, {}, {}, {}, {} entries in the program; ",
                    counted(outcome.sources.len(), "file"),
                    if policies == 1 { "policy" } else { "policies" },
                    counted(policy.host_endpoints.len(), "host endpoint"),
                    counted(policy.pods.len(), "pod"),
                    counted(policy.services.len(), "service"),
                    loaded.program.entries.len()
                )
            });
            let [errors, warnings, notes] =
                [(errors, "error"), (warnings, "warning"), (notes, "note")].map(|(count, word)| counted(count, word));
            format!("{found}{loaded}{errors}, {warnings}, {notes}\n")
        }
    };
    let code = match (errors, warnings) {
        (0, 0) => exit::DONE,
        (0, _) => exit::DENIED,
        _ => exit::INVALID,
    };
    print::result(&text, code)
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
