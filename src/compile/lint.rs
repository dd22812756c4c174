//! A policy that loads and its site in, warnings and notes about what it will not do that its author may expect out.
//!
//! Nothing here changes a verdict: `check` asks for it, the packet line and a reload do not.

mod backends;
mod failsafe;

use std::collections::{BTreeMap, BTreeSet};

use super::layout::{Layout, is_own, layout};
use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::base::site::{Site, V1Forward};
use crate::policy::ir::{
    Action, Hook, HostEndpoint, Kind, Labels, Pod, Policy, PolicyDirection, Rule, RuleSet, TierDefault,
};

/// Looks for traps.
///
/// Cost: policies × distinct label sets, plus rules × failsafe ports, plus what `backends` says.
pub fn lint(policy: &Policy, site: &Site) -> Diagnostics {
    let ground = Ground::new(policy, site);
    let mut out = Diagnostics::new();
    failsafe::bypasses(&ground, &mut out);
    backends::differing(&ground, &mut out);
    for (ruleset, selected) in policy.rulesets.iter().zip(&ground.selected) {
        selects_nothing(ruleset, selected, &mut out);
        lacks_apply_on_forward(&ground, ruleset, selected, &mut out);
    }
    for number in 0..policy.rulesets.len() {
        default_deny_applies(&ground, number, &mut out);
    }
    prednat_without_deny(&ground, &mut out);
    out
}

/// A host endpoint and what it is for on this box.
#[derive(Clone, Copy, Debug)]
struct Host<'p> {
    endpoint: &'p HostEndpoint,
    /// It is the box's own (GW-4): all packets count as forwarded for it.
    is_own: bool,
    /// It is active for a port, an address or a segment.
    is_active: bool,
    /// It is the active stand-in of one of its own addresses, so that packets can be local for it (GW-6).
    has_local: bool,
}

/// What one policy selects.
#[derive(Clone, Debug, Default)]
struct Selected {
    /// Indices into [`Ground::hosts`], ascending.
    hosts: BTreeSet<usize>,
    /// Indices into [`Ground::pods`], ascending.
    pods: BTreeSet<usize>,
}

/// Who is there to be governed, and by which policies.
struct Ground<'p> {
    policy: &'p Policy,
    site: &'p Site,
    layout: Layout,
    hosts: Vec<Host<'p>>,
    /// Pods by their labels: those with the same are governed by the same.
    pods: Vec<(&'p Labels, Vec<&'p Pod>)>,
    /// For each policy, in the policies' order.
    selected: Vec<Selected>,
}

impl<'p> Ground<'p> {
    fn new(policy: &'p Policy, site: &'p Site) -> Ground<'p> {
        // Its findings were told when the policy was compiled.
        let layout = layout(policy, site, &mut Diagnostics::new());
        let locals: BTreeSet<usize> = layout.stand_ins.values().copied().collect();
        let segments: BTreeSet<usize> = layout.areas.iter().filter_map(|area| area.host_endpoint).collect();
        let host = |(i, endpoint): (usize, &'p HostEndpoint)| Host {
            endpoint,
            is_own: is_own(endpoint, site),
            is_active: [layout.uplink, layout.downlink].contains(&Some(i))
                || locals.contains(&i)
                || segments.contains(&i),
            has_local: locals.contains(&i),
        };
        let hosts: Vec<Host> = policy.host_endpoints.iter().enumerate().map(host).collect();
        let mut by_labels: BTreeMap<&Labels, Vec<&Pod>> = BTreeMap::new();
        for pod in &policy.pods {
            by_labels.entry(&pod.labels).or_default().push(pod);
        }
        let pods: Vec<_> = by_labels.into_iter().collect();
        let select = |ruleset: &RuleSet| Selected {
            hosts: (0..hosts.len()).filter(|&i| ruleset.selector.evaluate(&hosts[i].endpoint.labels)).collect(),
            pods: match ruleset.hook {
                Hook::Untracked | Hook::PreDnat => BTreeSet::new(),
                _ => (0..pods.len()).filter(|&i| ruleset.selector.evaluate(pods[i].0)).collect(),
            },
        };
        let selected = policy.rulesets.iter().map(select).collect();
        Ground { policy, site, layout, hosts, pods, selected }
    }

    /// When the rules of a policy are asked, with the legacy treatment of v1 policies applied (GW-32).
    fn hook(&self, ruleset: &RuleSet) -> Hook {
        match ruleset.hook {
            Hook::Normal if ruleset.is_v1 && self.site.v1_forward == V1Forward::Legacy => Hook::NormalAndForward,
            hook => hook,
        }
    }
}

/// The policy as people name it.
fn resource(ruleset: &RuleSet) -> String {
    match ruleset.kind {
        Kind::GlobalNetworkPolicy => format!("GlobalNetworkPolicy {}", ruleset.name),
        Kind::KubernetesNetworkPolicy | Kind::NetworkPolicy => {
            format!("NetworkPolicy {}/{}", ruleset.namespace.as_deref().unwrap_or("default"), ruleset.name)
        }
    }
}

/// Up to three names, and how many more there are.
fn listed(names: impl IntoIterator<Item = String>) -> String {
    const MOST: usize = 3;
    let all: Vec<String> = names.into_iter().collect();
    let shown = all.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > MOST { format!("{shown} and {} more", all.len() - MOST) } else { shown }
}

/// A policy whose selector matches no endpoint that its rules are asked for (A13).
fn selects_nothing(ruleset: &RuleSet, selected: &Selected, out: &mut Diagnostics) {
    if !selected.hosts.is_empty() || !selected.pods.is_empty() {
        return;
    }
    let what = match ruleset.hook {
        Hook::Untracked | Hook::PreDnat => "host endpoints",
        Hook::Normal | Hook::NormalAndForward => "endpoints",
    };
    let message = format!(
        "policy `{}` has no effect: its selector `{}` selects 0 {what}",
        ruleset.display, ruleset.selector_text
    );
    out.push(
        Diagnostic::note("selects-nothing", message)
            .at(&ruleset.span)
            .about(resource(ruleset))
            .help("compare the selector with the labels of the loaded host endpoints and pods"),
    );
}

/// A normal policy that governs host endpoints for which every packet is forwarded: it is never asked (PIPE-7, GW-4, GW-6).
fn lacks_apply_on_forward(ground: &Ground, ruleset: &RuleSet, selected: &Selected, out: &mut Diagnostics) {
    // Those of the v1 era cannot say `applyOnForward` and have a warning of their own (V1-3).
    if ruleset.hook != Hook::Normal || ruleset.is_v1 || selected.hosts.is_empty() || !selected.pods.is_empty() {
        return;
    }
    let hosts: Vec<&Host> = selected.hosts.iter().map(|&i| &ground.hosts[i]).collect();
    if hosts.iter().any(|host| host.has_local) || !hosts.iter().any(|host| host.is_active) {
        return;
    }
    let names = listed(hosts.iter().map(|host| format!("`{}`", host.endpoint.name)));
    let message = format!(
        "policy `{}` has no effect: all traffic through host endpoint {names} is forwarded, and the policy lacks `applyOnForward`",
        ruleset.display
    );
    out.push(
        Diagnostic::note("lacks-apply-on-forward", message)
            .at(&ruleset.span)
            .about(resource(ruleset))
            .help("add `applyOnForward: true`"),
    );
}

/// A policy with nothing but Log rules: governing an endpoint is enough to deny what no rule of the tier allows (LOG-5, ACT-6).
fn default_deny_applies(ground: &Ground, number: usize, out: &mut Diagnostics) {
    let ruleset = &ground.policy.rulesets[number];
    let tier = ground.policy.tiers.iter().find(|tier| tier.name == ruleset.tier);
    if tier.is_none_or(|tier| tier.default_action != TierDefault::Deny) {
        return;
    }
    for direction in [PolicyDirection::Ingress, PolicyDirection::Egress] {
        let is_log_only = |rules: &[Rule]| !rules.is_empty() && rules.iter().all(|rule| rule.action == Action::Log);
        if !ruleset.rules(direction).is_some_and(is_log_only) {
            continue;
        }
        let mine = &ground.selected[number];
        // What else turns the default deny on, by stage: forwarded traffic, and all other.
        let others = |stage: &[Hook]| -> Vec<&Selected> {
            let is_other = |(i, other): &(usize, &RuleSet)| {
                *i != number
                    && other.tier == ruleset.tier
                    && other.rules(direction).is_some()
                    && stage.contains(&ground.hook(other))
            };
            let numbers = ground.policy.rulesets.iter().enumerate().filter(is_other).map(|(i, _)| i);
            numbers.map(|i| &ground.selected[i]).collect()
        };
        let hook = ground.hook(ruleset);
        let normal = others(&[Hook::Normal, Hook::NormalAndForward]);
        let forward = others(&[Hook::NormalAndForward]);
        let is_alone_on_host = |i: usize| {
            let alone = |others: &[&Selected]| !others.iter().any(|other| other.hosts.contains(&i));
            let host = &ground.hosts[i];
            host.is_active
                && match hook {
                    Hook::Normal => host.has_local && alone(&normal),
                    Hook::NormalAndForward => (host.has_local && alone(&normal)) || alone(&forward),
                    Hook::Untracked | Hook::PreDnat => false,
                }
        };
        let is_alone_on_pods = |i: usize| !normal.iter().any(|other| other.pods.contains(&i));
        let hosts = mine.hosts.iter().filter(|&&i| is_alone_on_host(i));
        let hosts = hosts.map(|&i| format!("host endpoint `{}`", ground.hosts[i].endpoint.name));
        let pods = mine.pods.iter().filter(|&&i| is_alone_on_pods(i)).flat_map(|&i| &ground.pods[i].1);
        let pods = pods.map(|pod| format!("pod `{}/{}`", pod.namespace, pod.name));
        let alone = listed(hosts.chain(pods));
        if alone.is_empty() {
            continue;
        }
        let word = match direction {
            PolicyDirection::Ingress => "ingress",
            PolicyDirection::Egress => "egress",
        };
        let message = format!(
            "policy `{}` has only Log rules for {word}, and no other policy of tier `{}` governs {alone}: all {word} traffic that \
             reaches the end of the tier is denied",
            ruleset.display, ruleset.tier
        );
        out.push(
            Diagnostic::note("default-deny-applies", message)
                .at(&ruleset.span)
                .about(resource(ruleset))
                .help("a policy that governs an endpoint turns on the tier's default deny; allow what shall pass"),
        );
    }
}

/// preDNAT policies that allow on a host endpoint where none denies: before translation there is no default deny, so
/// they keep nothing out.
fn prednat_without_deny(ground: &Ground, out: &mut Diagnostics) {
    let mut chains: BTreeMap<Vec<usize>, Vec<&Host>> = BTreeMap::new();
    for (i, host) in ground.hosts.iter().enumerate().filter(|(_, host)| host.is_active) {
        let asks = |n: &usize| {
            let ruleset = &ground.policy.rulesets[*n];
            ruleset.hook == Hook::PreDnat && ruleset.ingress.is_some() && ground.selected[*n].hosts.contains(&i)
        };
        chains.entry((0..ground.policy.rulesets.len()).filter(asks).collect()).or_default().push(host);
    }
    for (chain, hosts) in chains {
        let has = |n: usize, action| {
            ground.policy.rulesets[n].ingress.iter().flatten().any(|rule: &Rule| rule.action == action)
        };
        let allowing = chain.iter().copied().find(|&n| has(n, Action::Allow));
        let Some(allowing) = allowing.filter(|_| !chain.iter().any(|&n| has(n, Action::Deny))) else { continue };
        let ruleset = &ground.policy.rulesets[allowing];
        let names = listed(hosts.iter().map(|host| format!("`{}`", host.endpoint.name)));
        let message = format!(
            "preDNAT policy `{}` allows, but no preDNAT policy of host endpoint {names} denies: what it does not allow goes on \
             untouched",
            ruleset.display
        );
        out.push(
            Diagnostic::warning("prednat-without-deny", message)
                .at(&ruleset.span)
                .about(resource(ruleset))
                .help("preDNAT policies have no default deny: add one with a higher `order` that denies the rest"),
        );
    }
}
