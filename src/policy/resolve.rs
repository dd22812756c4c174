//! Decoded resources in, [`Policy`] out: inherits labels (ID-2, ID-8), checks tiers (ORD-1) and puts everything in order (ORD-2).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::ir::{Action, Peer, Policy, Profile, Rule, RuleSet, Tier, TierDefault};
use super::load::LoadOptions;
use super::resources::{FelixSettings, Resources, TierReference};
use super::{identity, vpc};
use crate::base::decode::Findings;
use crate::base::diagnostic::{Diagnostic, Span, did_you_mean};

/// Name of the built-in profile that allows everything (2.9).
pub const ALLOW_PROFILE: &str = "projectcalico-default-allow";

/// Tiers that always exist: name, order, default action (2.7).
pub const BUILT_IN_TIERS: [(&str, f64, TierDefault); 3] = [
    ("kube-admin", 1_000.0, TierDefault::Pass),
    ("default", 1_000_000.0, TierDefault::Deny),
    ("kube-baseline", 10_000_000.0, TierDefault::Pass),
];

/// Resolves names. Faults go to `findings`; the result is of use only if there is none.
pub fn resolve(mut resources: Resources, options: &LoadOptions, findings: &Findings) -> Policy {
    let mut policy = Policy::default();
    let inventory = std::mem::take(&mut resources.inventory);
    inventory.resolve(&resources, &mut policy, findings);
    vpc::resolve(&mut resources, &mut policy, findings);
    policy.tiers = tiers(&mut resources);
    host_endpoints(&mut resources, &mut policy, findings);
    network_sets(&mut resources, &mut policy);
    profiles(&mut resources, &mut policy);
    felix(&resources.felix, options, &mut policy);
    policy.rulesets = std::mem::take(&mut resources.rulesets);
    policy.converted = std::mem::take(&mut resources.converted);
    for reference in &resources.tier_references {
        if !policy.tiers.iter().any(|tier| tier.name == reference.tier) {
            findings.push(unknown_tier(reference, &policy.tiers));
        }
    }
    order_rulesets(&mut policy.rulesets, &policy.tiers);
    policy
}

/// ORD-1: by order, absent last, then by name.
fn tiers(resources: &mut Resources) -> Vec<Tier> {
    let mut tiers = std::mem::take(&mut resources.tiers);
    for (name, order, default_action) in BUILT_IN_TIERS {
        if !tiers.iter().any(|tier| tier.name == name) {
            tiers.push(Tier { name: name.to_string(), order: Some(order), default_action });
        }
    }
    tiers.sort_by(|a, b| compare_order(a.order, b.order).then_with(|| a.name.cmp(&b.name)));
    tiers
}

/// ORD-2: by tier, order, name, namespace and kind.
fn order_rulesets(rulesets: &mut [RuleSet], tiers: &[Tier]) {
    let tier = |ruleset: &RuleSet| tiers.iter().position(|tier| tier.name == ruleset.tier);
    rulesets.sort_by(|a, b| {
        tier(a)
            .cmp(&tier(b))
            .then_with(|| compare_order(a.order, b.order))
            .then_with(|| (&a.name, &a.namespace, a.kind).cmp(&(&b.name, &b.namespace, b.kind)))
    });
}

/// Orders ascending; an absent order is last.
fn compare_order(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

fn unknown_tier(reference: &TierReference, tiers: &[Tier]) -> Diagnostic {
    let names = || tiers.iter().map(|tier| tier.name.as_str());
    let help = match did_you_mean(&reference.tier, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add a Tier of that name; known are {}", names().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("policy `{}` names the tier `{}`, which is not defined", reference.policy, reference.tier);
    Diagnostic::error("unknown-tier", message).at(&reference.span).about(reference.policy.clone()).help(help)
}

/// 2.9: the endpoint's own labels win over its profiles', an earlier profile over a later one.
fn host_endpoints(resources: &mut Resources, policy: &mut Policy, findings: &Findings) {
    policy.host_endpoints = std::mem::take(&mut resources.host_endpoints);
    policy.host_endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    for endpoint in &mut policy.host_endpoints {
        for name in &endpoint.profiles {
            if let Some(found) = resources.profiles.get(name) {
                identity::inherit(&mut endpoint.labels, &found.labels);
            } else if let Some(namespace) = name.strip_prefix("kns.") {
                let labels = identity::namespace_labels(resources, namespace);
                identity::inherit(&mut endpoint.labels, &labels);
            } else if name != ALLOW_PROFILE {
                let message =
                    format!("host endpoint `{}` names the profile `{name}`, which is not loaded", endpoint.name);
                let finding = Diagnostic::warning("unknown-profile", message).at(&endpoint.span);
                findings.push(finding.help("a profile that is missing allows nothing"));
            }
        }
    }
}

/// ID-8.
fn network_sets(resources: &mut Resources, policy: &mut Policy) {
    for mut item in std::mem::take(&mut resources.network_sets) {
        if let Some(namespace) = &item.namespace {
            item.set.labels.insert(identity::NAMESPACE.to_string(), namespace.clone());
            identity::inherit(&mut item.set.labels, &identity::namespace_labels(resources, namespace));
        }
        policy.network_sets.push(item.set);
    }
    policy.network_sets.sort_by(|a, b| a.display.cmp(&b.display));
}

/// ID-2: every namespace is a profile that allows all, every service account one without rules.
fn profiles(resources: &mut Resources, policy: &mut Policy) {
    let written = std::mem::take(&mut resources.profiles);
    policy.profiles = written.into_iter().map(|(name, found)| (name, found.profile)).collect();
    let mut namespaces: BTreeSet<String> = resources.namespaces.keys().cloned().collect();
    namespaces.extend(policy.pods.iter().map(|pod| pod.namespace.clone()));
    let names = namespaces.iter().map(|namespace| identity::namespace_profile(namespace));
    for name in names.chain([ALLOW_PROFILE.to_string()]) {
        policy.profiles.entry(name).or_insert_with(allow_all);
    }
    let others = policy.pods.iter().flat_map(|pod| &pod.profiles).cloned().collect::<BTreeSet<String>>();
    for name in others {
        policy.profiles.entry(name).or_default();
    }
}

fn allow_all() -> Profile {
    let rule = Rule {
        action: Action::Allow,
        family: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: Peer::default(),
        destination: Peer::default(),
        index: 0,
        span: Span { file: "built-in".into(), line: 1, column: 1 },
    };
    Profile { ingress: vec![rule.clone()], egress: vec![rule], span: None }
}

/// GW-20: `default` first, then `node.<this node>`.
fn felix(settings: &[FelixSettings], options: &LoadOptions, policy: &mut Policy) {
    let own = options.node.as_ref().map(|node| format!("node.{node}"));
    let named = |name: &str| settings.iter().filter(move |s| s.name == name).collect::<Vec<_>>();
    let mut chosen = named("default");
    chosen.extend(own.map(|own| named(&own)).unwrap_or_default());
    for found in chosen {
        let or = |new: &Option<Vec<_>>, old: Option<Vec<_>>| new.clone().or(old);
        policy.failsafe_inbound = or(&found.failsafe_inbound, policy.failsafe_inbound.take());
        policy.failsafe_outbound = or(&found.failsafe_outbound, policy.failsafe_outbound.take());
        policy.log.prefix = found.log.prefix.clone().or(policy.log.prefix.take());
        policy.log.rate_limit = found.log.rate_limit.clone().or(policy.log.rate_limit.take());
        policy.log.burst = found.log.burst.or(policy.log.burst);
    }
}
