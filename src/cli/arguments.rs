//! Arguments that several verbs share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::control::load::Request;

/// Where gateway and policy come from.
#[derive(Clone, Debug, Args)]
pub struct GatewayArguments {
    /// Gateway file [default: gateway.yaml]
    #[arg(long, value_name = "FILE", env = "RINGWALL_GATEWAY")]
    pub gateway: Option<PathBuf>,
    /// Policy file or directory, any number of times; replaces the gateway file's `policy:` list
    #[arg(long, value_name = "PATH")]
    pub policy: Vec<PathBuf>,
    /// Value of a variable in `.ibmcloud` files, any number of times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = variable)]
    pub variables: Vec<(String, String)>,
    /// Report unknown fields of policies as warnings instead of errors
    #[arg(long)]
    pub lenient: bool,
}

impl GatewayArguments {
    /// The same as a request.
    pub fn request(&self) -> Request {
        Request {
            gateway: self.gateway.clone(),
            policy: self.policy.clone(),
            lenient: self.lenient,
            variables: self.variables.iter().cloned().collect(),
        }
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() { Err("the name is empty".to_string()) } else { Ok((name.to_string(), value.to_string())) }
}

/// Form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
}

/// Exit codes (interface.md "Commands").
pub mod exit {
    /// Done, allowed, no findings.
    pub const DONE: u8 = 0;
    /// Denied, findings or a failed expectation.
    pub const DENIED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// Invalid policy, gateway file or input.
    pub const INVALID: u8 = 3;
    /// A privilege or kernel feature is missing.
    pub const ENVIRONMENT: u8 = 5;
    /// A defect.
    pub const DEFECT: u8 = 6;
}
