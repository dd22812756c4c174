//! Network ACLs and security groups of an IBM Cloud VPC in, as JSON of the API or as `ibmcloud is` commands; the policy's `acls`,
//! `groups` and `subnets` out (sections 15 to 17).
//!
//! ```text
//!  JSON ─► read ─► Account ◄─ command ◄─ shell ◄─ .ibmcloud file
//!                     └─► resolve ─► NetworkAcl, SecurityGroup, Subnet
//! ```

pub mod object;

pub mod value;

pub mod chain;

mod read;

pub mod shell;

mod command;

mod resolve;

#[cfg(test)]
mod tests;

use super::ir::Policy;
use super::resources::Resources;
use super::source::Source;
use crate::base::decode::{Field, Findings};

pub use object::{Account, Variables};
pub use read::is_vpc_object;

/// Reads an object for which [`is_vpc_object`] holds.
pub fn read(field: &Field<'_, '_>, resources: &mut Resources) {
    read::read(field, &mut resources.vpc);
}

/// Runs scripts in the order of their paths (GW-34). Faults of the text are found in any case; the commands run only if there
/// is no error yet.
pub fn run_scripts(scripts: &[&Source], variables: &Variables, resources: &mut Resources, findings: &Findings) {
    let mut ordered = scripts.to_vec();
    ordered.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    let parsed: Vec<_> =
        ordered.iter().map(|source| shell::commands(&source.path, &source.text, variables, findings)).collect();
    if findings.errors() > 0 {
        return;
    }
    for (source, commands) in ordered.iter().zip(parsed) {
        for command in &commands {
            command::run(command, source.directory.as_deref(), &mut resources.vpc, findings);
        }
    }
}

/// Fills ACLs, groups and subnets of the policy.
pub fn resolve(resources: &mut Resources, policy: &mut Policy, findings: &Findings) {
    resolve::resolve(std::mem::take(&mut resources.vpc), policy, findings);
}
