//! Policies, profiles and host endpoints of calicoctl 1.x in, entries of [`super::super::resources::Resources`] out (V1-1, V1-2).

use std::net::IpAddr;

use super::name;
use super::rule::{PROTOCOLS, rules, selector, tag};
use crate::base::decode::{Decoder, Field};
use crate::policy::ir::{Hook, HostEndpoint, Kind, Labels, NamedPort, Profile, RuleSet};
use crate::policy::metadata::{SERVER_FIELDS, labels};
use crate::policy::resources::{Context, LabelledProfile, Resource};
use crate::policy::selector::Selector;

pub(super) fn read_policy(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let findings = resource.root.findings();
    let errors_before = findings.errors();
    let mut policy_name = String::new();
    if let Some(mut metadata) = metadata(&mut resource.root) {
        policy_name = metadata.require("name").and_then(|f| checked_name(&f, "/")).unwrap_or_default();
        metadata.finish();
    }
    let spec = resource.root.require("spec").and_then(|f| f.map());
    resource.root.ignore(&["status"]);
    resource.root.finish();
    let Some(mut spec) = spec else { return };
    let order = spec.take("order").and_then(|f| f.float());
    let selected = spec.take("selector").and_then(|f| selector(&f));
    let (selector, selector_text) = selected.unwrap_or_else(|| (Selector::all(), String::new()));
    let ingress = rules(spec.take("ingress"));
    let egress_field = spec.take("egress");
    let egress = rules(egress_field.clone());
    let types_field = spec.take("types");
    let types = types_field.as_ref().map(types).unwrap_or_default();
    let untracked_field = spec.take("doNotTrack");
    let is_untracked = untracked_field.as_ref().and_then(|f| f.bool()).unwrap_or_default();
    let is_pre_dnat = spec.take("preDNAT").and_then(|f| f.bool()).unwrap_or_default();
    spec.finish();
    if is_pre_dnat {
        if let Some(field) = untracked_field.as_ref().filter(|_| is_untracked) {
            field.error("prednat-and-untracked", "a policy cannot be both `preDNAT` and `doNotTrack`");
        }
        if let Some(field) = egress_field.as_ref().filter(|_| !egress.is_empty()) {
            field.error("prednat-egress", "a `preDNAT` policy cannot have egress rules");
        }
        if let Some(field) = types_field.as_ref().filter(|_| types.contains(&false)) {
            field.error("prednat-egress", "a `preDNAT` policy cannot be of type `egress`");
        }
    }
    // POL-T: without types, the directions that have rules; without rules, ingress.
    let (governs_ingress, governs_egress) = match types.as_slice() {
        [] => (!ingress.is_empty() || egress.is_empty(), !egress.is_empty()),
        some => (some.contains(&true), some.contains(&false)),
    };
    if findings.errors() > errors_before {
        return;
    }
    context.resources.rulesets.push(RuleSet {
        kind: Kind::GlobalNetworkPolicy,
        name: name::policy_name(&policy_name),
        display: policy_name,
        namespace: None,
        tier: "default".to_string(),
        order,
        selector,
        selector_text,
        // `applyOnForward` is implied by the other two (V1-2); it adds nothing to their stages.
        hook: match (is_untracked, is_pre_dnat) {
            (true, _) => Hook::Untracked,
            (false, true) => Hook::PreDnat,
            (false, false) => Hook::Normal,
        },
        ingress: governs_ingress.then_some(ingress),
        egress: governs_egress.then_some(egress),
        is_v1: true,
        span: resource.span,
    });
}

/// V-4; `true` is ingress.
fn types(field: &Field<'_, '_>) -> Vec<bool> {
    let mut found = Vec::new();
    for item in field.list().unwrap_or_default() {
        let Some(is_ingress) = item.word(&[("ingress", true), ("egress", false)]) else { continue };
        if found.contains(&is_ingress) {
            item.error("repeated-type", "is given twice");
        }
        found.push(is_ingress);
    }
    found
}

pub(super) fn read_profile(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let mut profile_name = String::new();
    let mut applied = Labels::new();
    if let Some(mut metadata) = metadata(&mut resource.root) {
        profile_name = metadata.require("name").and_then(|f| checked_name(&f, "/")).unwrap_or_default();
        applied = metadata.take("labels").map(|f| labels(&f)).unwrap_or_default();
        for field in metadata.take("tags").and_then(|f| f.list()).unwrap_or_default() {
            let Some(tag) = tag(&field) else { continue };
            if applied.get(&tag).is_some_and(|value| !value.is_empty()) {
                field.error("tag-and-label", format!("`{tag}` is both a tag and a label of this profile"));
            }
            applied.insert(tag, String::new());
        }
        metadata.finish();
    }
    let mut profile = Profile { span: Some(resource.span), ..Profile::default() };
    if let Some(mut spec) = resource.root.take("spec").and_then(|f| f.map()) {
        profile.ingress = rules(spec.take("ingress"));
        profile.egress = rules(spec.take("egress"));
        spec.finish();
    }
    resource.root.ignore(&["status"]);
    resource.root.finish();
    // Also when it is in error: whoever names it should not be told that it is missing.
    let name = name::profile_name(&profile_name);
    context.resources.profiles.insert(name, LabelledProfile { profile, labels: applied });
}

pub(super) fn read_host_endpoint(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let findings = resource.root.findings();
    let errors_before = findings.errors();
    let (mut endpoint_name, mut node, mut own) = (String::new(), String::new(), Labels::new());
    if let Some(mut metadata) = metadata(&mut resource.root) {
        endpoint_name = metadata.require("name").and_then(|f| checked_name(&f, "")).unwrap_or_default();
        node = metadata.require("node").and_then(|f| checked_name(&f, "")).unwrap_or_default();
        own = metadata.take("labels").map(|f| labels(&f)).unwrap_or_default();
        metadata.finish();
    }
    let spec_field = resource.root.require("spec");
    resource.root.ignore(&["status"]);
    resource.root.finish();
    let Some(spec_field) = spec_field else { return };
    let Some(mut spec) = spec_field.map() else { return };
    let interface = spec.take("interfaceName").and_then(|f| interface(&f)).unwrap_or_default();
    let addresses = spec.take("expectedIPs").and_then(|f| f.list()).unwrap_or_default();
    let addresses: Vec<IpAddr> = addresses.iter().filter_map(address).collect();
    let profiles = spec.take("profiles").and_then(|f| f.list()).unwrap_or_default();
    let profiles = profiles.iter().filter_map(|f| checked_name(f, "/")).map(|p| name::profile_name(&p)).collect();
    let ports = spec.take("ports").and_then(|f| f.list()).unwrap_or_default();
    let ports = ports.iter().filter_map(port).collect();
    spec.finish();
    if findings.errors() > errors_before {
        return;
    }
    if interface.is_empty() && addresses.is_empty() {
        return spec_field.error("endpoint-without-place", "needs `interfaceName` or `expectedIPs`");
    }
    context.resources.host_endpoints.push(HostEndpoint {
        name: name::host_endpoint_name(&node, &endpoint_name),
        node: name::node_name(&node),
        interface,
        addresses,
        labels: own,
        profiles,
        ports,
        span: resource.span,
    });
}

fn metadata<'n, 'f>(root: &mut Decoder<'n, 'f>) -> Option<Decoder<'n, 'f>> {
    let mut map = root.require("metadata")?.map()?;
    map.ignore(SERVER_FIELDS);
    Some(map)
}

/// Letters, digits, `_`, `.`, `-` and those of `more`, up to 128.
fn checked_name(field: &Field<'_, '_>, more: &str) -> Option<String> {
    let text = field.nonempty_string()?;
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') || more.contains(c);
    if text.len() > 128 || !text.chars().all(is_good) {
        field.error("bad-name", format!("`{text}` is not a name: expected letters, digits, `_`, `.`, `-`"));
        return None;
    }
    Some(text.to_string())
}

fn interface(field: &Field<'_, '_>) -> Option<String> {
    let text = field.string()?;
    if text.len() > 15 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        let message = format!("`{text}` is not an interface name: expected up to 15 letters, digits, `_`, `.`, `-`");
        field.error("bad-interface-name", message);
        return None;
    }
    Some(text.to_string())
}

fn address(field: &Field<'_, '_>) -> Option<IpAddr> {
    let text = field.string()?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        field.error("bad-address", format!("`{text}` is not an IP address"));
    }
    parsed
}

fn port(field: &Field<'_, '_>) -> Option<NamedPort> {
    let mut map = field.map()?;
    let name = map.require("name").and_then(|f| checked_name(&f, ""));
    let protocol = map.require("protocol").and_then(|f| f.word(&PROTOCOLS));
    let port = map.require("port").and_then(|f| f.integer::<u16>(1..=65535));
    map.finish();
    Some(NamedPort { name: name?, protocol: protocol?, port: port? })
}
