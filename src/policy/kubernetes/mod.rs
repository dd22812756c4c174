//! Kubernetes NetworkPolicy documents in, Calico rules out (section 12), by way of the Calico policy that upstream converts them to.

pub mod decode;

pub mod object;

pub mod label_selector;

pub mod convert;

pub mod yaml;

#[cfg(test)]
mod tests;

use super::resources::{Context, Resource, ResourceKind};

/// The kinds of this format.
pub const KINDS: &[ResourceKind] = &[ResourceKind {
    api_versions: &["networking.k8s.io/v1"],
    kind: "NetworkPolicy",
    is_any_case: false,
    is_namespaced: true,
    decode: read,
}];

fn read(resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let findings = resource.root.findings();
    let decoded = decode::decode(resource.root, &resource.span);
    context.resources.label_uses.extend(decoded.label_uses);
    let Some(policy) = decoded.policy else { return };
    let converted = convert::convert(&policy);
    match converted.rule_set() {
        Ok(rules) => {
            context.resources.converted.insert(rules.display.clone(), yaml::yaml(&converted));
            context.resources.rulesets.push(rules);
        }
        Err(fault) => findings.push(fault),
    }
}
