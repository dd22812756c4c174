//! Resources of calicoctl 1.x (`apiVersion: v1`) in, the same entries as for the current syntax out (section 19).
//!
//! `workloadEndpoint` is refused like any unknown kind: pods say the same. Nodes, address pools and BGP peers say nothing about
//! policy; they are ignored with a note.

mod name;

mod rule;

mod resource;

#[cfg(test)]
mod tests;

use super::ir::{Hook, Policy};
use super::resources::{Context, Resource, ResourceKind};
use crate::base::diagnostic::{Diagnostic, Diagnostics};

/// The kinds of this format.
pub const KINDS: &[ResourceKind] = &[
    kind("policy", resource::read_policy),
    kind("profile", resource::read_profile),
    kind("hostEndpoint", resource::read_host_endpoint),
    kind("node", ignore),
    kind("ipPool", ignore),
    kind("bgpPeer", ignore),
];

const fn kind(kind: &'static str, decode: fn(Resource<'_, '_>, &mut Context<'_>)) -> ResourceKind {
    ResourceKind { api_versions: &["v1"], kind, is_any_case: true, is_namespaced: false, decode }
}

fn ignore(resource: Resource<'_, '_>, _context: &mut Context<'_>) {
    let message = format!("`{}` says nothing about policy and is ignored", resource.kind.kind);
    resource.root.findings().push(Diagnostic::note("ignored-resource", message).at(&resource.span));
}

/// Warnings about policies that used to act on forwarded traffic and no longer do (V1-3). They hold while `v1_forward` is `v3`
/// (GW-32).
pub fn forward_warnings(policy: &Policy) -> Diagnostics {
    let mut out = Diagnostics::new();
    for rules in policy.rulesets.iter().filter(|rules| rules.is_v1 && rules.hook == Hook::Normal) {
        let Some(endpoint) = policy.host_endpoints.iter().find(|e| rules.selector.evaluate(&e.labels)) else {
            continue;
        };
        let message = format!(
            "policy `{}` selects host endpoint `{}`, but does not act on forwarded traffic as it did before Calico 3.0",
            rules.display, endpoint.name
        );
        let help = "set `v1_forward: legacy`, or write it for `projectcalico.org/v3` with `applyOnForward: true`";
        out.push(Diagnostic::warning("v1-not-forwarded", message).at(&rules.span).about(&rules.display).help(help));
    }
    out
}
