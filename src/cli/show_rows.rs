//! Policy and site in, the rows and objects of one kind out: policies, endpoints, services or sets, in evaluation order.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::show_table::{NOTHING, Table};
use crate::base::diagnostic::{Diagnostics, Span};
use crate::base::site::Site;
use crate::compile::label_index::{LabelIndex, SelectorIndex};
use crate::compile::layout::{Layout, is_own, layout};
use crate::policy::ir::{Hook, Kind, Labels, Policy, RuleSet, Service, ServicePort};

/// What of a kind is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Name as reported, or without its namespace or `knp.default.`; `None` = any.
    pub name: Option<&'a str>,
    /// Namespace; `None` = any, those of no namespace included.
    pub namespace: Option<&'a str>,
}

impl Wanted<'_> {
    fn is(&self, namespace: Option<&str>, name: &str) -> bool {
        if self.namespace.is_some() && self.namespace != namespace {
            return false;
        }
        let Some(wanted) = self.name else { return true };
        let inner = match (namespace, wanted.split_once('/')) {
            (Some(namespace), Some((before, inner))) if before == namespace => inner,
            _ => wanted,
        };
        inner == name
    }
}

/// One thing that is shown.
#[derive(Clone, Debug)]
pub struct Item {
    /// Name as it is reported.
    pub name: String,
    /// Where it is written.
    pub span: Option<Span>,
    /// The row for scripts.
    pub object: Value,
}

/// The things of one kind.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// For people.
    pub table: Table,
    /// For scripts.
    pub items: Vec<Item>,
}

/// How resources of this kind are called where they are written.
fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::GlobalNetworkPolicy => "GlobalNetworkPolicy",
        Kind::NetworkPolicy => "NetworkPolicy",
        Kind::KubernetesNetworkPolicy => "KubernetesNetworkPolicy",
    }
}

fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Untracked => "doNotTrack",
        Hook::PreDnat => "preDNAT",
        Hook::Normal => "normal",
        Hook::NormalAndForward => "applyOnForward",
    }
}

fn types(ruleset: &RuleSet) -> Vec<&'static str> {
    let of = |is: bool, name| is.then_some(name);
    [of(ruleset.ingress.is_some(), "Ingress"), of(ruleset.egress.is_some(), "Egress")].into_iter().flatten().collect()
}

/// The last part of the name as it is reported: `knp.default.` included.
fn own_name(ruleset: &RuleSet) -> &str {
    ruleset.display.rsplit('/').next().unwrap_or(&ruleset.display)
}

fn at(span: &Span) -> String {
    format!("{}:{}", span.file, span.line)
}

/// Policies of some kinds.
pub fn policies(policy: &Policy, wanted: &Wanted<'_>, is_kind: impl Fn(Kind) -> bool) -> Listing {
    let mut table = Table::new(&[
        ("NAMESPACE", false),
        ("NAME", false),
        ("KIND", true),
        ("TIER", true),
        ("ORDER", false),
        ("HOOK", true),
        ("TYPES", true),
        ("SELECTOR", false),
        ("ORIGIN", true),
    ]);
    let mut items = Vec::new();
    let is_wanted = |r: &&RuleSet| {
        let namespace = r.namespace.as_deref();
        is_kind(r.kind) && (wanted.is(namespace, &r.name) || wanted.is(namespace, own_name(r)))
    };
    for r in policy.rulesets.iter().filter(is_wanted) {
        let selector = if r.selector_text.is_empty() { "all()" } else { &r.selector_text };
        let order = r.order.map_or(String::new(), |order| order.to_string());
        let namespace = r.namespace.clone().unwrap_or_default();
        table.push([
            namespace,
            own_name(r).to_string(),
            kind_name(r.kind).to_string(),
            r.tier.clone(),
            order,
            hook_name(r.hook).to_string(),
            types(r).join(","),
            selector.to_string(),
            at(&r.span),
        ]);
        let object = json!({
            "name": own_name(r),
            "namespace": r.namespace,
            "kind": kind_name(r.kind),
            "tier": r.tier,
            "order": r.order,
            "hook": hook_name(r.hook),
            "types": types(r),
            "selector": selector,
            "ingressRules": r.ingress.as_ref().map(Vec::len),
            "egressRules": r.egress.as_ref().map(Vec::len),
            "origin": at(&r.span),
        });
        items.push(Item { name: r.display.clone(), span: Some(r.span.clone()), object });
    }
    if items.iter().all(|item| item.object["namespace"].is_null()) {
        table.remove("NAMESPACE");
    }
    Listing { table, items }
}

/// Labels that endpoints inherit are no help in a narrow table.
fn is_inherited(label: &str) -> bool {
    ["pcns.", "pcsa.", "projectcalico.org/"].iter().any(|prefix| label.starts_with(prefix))
}

fn label_text(labels: &Labels, is_shown: impl Fn(&str) -> bool) -> String {
    let shown = labels.iter().filter(|(name, _)| is_shown(name));
    shown.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// An endpoint's row before it is written.
struct Endpoint<'a> {
    namespace: Option<&'a str>,
    name: &'a str,
    kind: &'static str,
    addresses: Vec<String>,
    node: &'a str,
    interface: &'a str,
    labels: &'a Labels,
    profiles: &'a [String],
    policies: Vec<&'a str>,
    span: Option<&'a Span>,
}

/// Which policies govern some labels.
struct Governance<'p> {
    policy: &'p Policy,
    index: SelectorIndex<'p>,
}

impl<'p> Governance<'p> {
    fn new(policy: &'p Policy) -> Governance<'p> {
        let labels = policy.pods.iter().map(|p| &p.labels).chain(policy.host_endpoints.iter().map(|e| &e.labels));
        let selectors = policy.rulesets.iter().map(|r| &r.selector).collect();
        Governance { policy, index: SelectorIndex::new(selectors, &LabelIndex::new(labels.collect())) }
    }

    /// Names in evaluation order of the policies with these hooks.
    fn names(&self, labels: &Labels, is_asked: impl Fn(Hook) -> bool) -> Vec<&'p str> {
        let found = self.index.matching(labels);
        let rulesets = found.iter().filter_map(|&i| self.policy.rulesets.get(i as usize));
        rulesets.filter(|r| is_asked(r.hook)).map(|r| r.display.as_str()).collect()
    }
}

/// Host endpoints, segments and pods of some kinds.
pub fn endpoints(policy: &Policy, site: &Site, wanted: &Wanted<'_>, is_kind: impl Fn(&str) -> bool) -> Listing {
    let layout = layout(policy, site, &mut Diagnostics::new());
    let governance = Governance::new(policy);
    let no_labels = Labels::new();
    let mut found: Vec<Endpoint<'_>> = Vec::new();
    for (i, e) in policy.host_endpoints.iter().enumerate() {
        // doNotTrack policies do not work on `*` (HEP-2).
        let is_asked = |hook| hook != Hook::Untracked || e.interface != "*";
        found.push(Endpoint {
            namespace: None,
            name: &e.name,
            kind: host_kind(policy, site, &layout, i),
            addresses: e.addresses.iter().map(IpAddr::to_string).collect(),
            node: &e.node,
            interface: &e.interface,
            labels: &e.labels,
            profiles: &e.profiles,
            policies: governance.names(&e.labels, is_asked),
            span: Some(&e.span),
        });
    }
    let by_name: HashMap<&str, &Labels> = policy.host_endpoints.iter().map(|e| (e.name.as_str(), &e.labels)).collect();
    for segment in &site.segments {
        let endpoint = segment.host_endpoint.as_deref();
        let asked = endpoint.and_then(|name| by_name.get(name));
        let forward = |hook| hook != Hook::Normal;
        let acl_and_groups = segment.network_acl.iter().chain(&segment.security_groups).map(String::as_str);
        found.push(Endpoint {
            namespace: None,
            name: &segment.name,
            kind: "segment",
            addresses: segment.cidrs.iter().map(|c| format!("{}/{}", c.network, c.length)).collect(),
            node: "",
            interface: "",
            labels: &no_labels,
            profiles: &[],
            policies: acl_and_groups.chain(asked.map(|l| governance.names(l, forward)).unwrap_or_default()).collect(),
            span: segment.span.as_ref(),
        });
    }
    for pod in policy.pods.iter().filter(|_| is_kind("pod")) {
        // preDNAT and doNotTrack policies never govern pods (WL-4).
        let is_asked = |hook| matches!(hook, Hook::Normal | Hook::NormalAndForward);
        if !wanted.is(Some(&pod.namespace), &pod.name) {
            continue;
        }
        found.push(Endpoint {
            namespace: Some(&pod.namespace),
            name: &pod.name,
            kind: "pod",
            addresses: pod.addresses.iter().map(IpAddr::to_string).collect(),
            node: "",
            interface: "",
            labels: &pod.labels,
            profiles: &pod.profiles,
            policies: governance.names(&pod.labels, is_asked),
            span: Some(&pod.span),
        });
    }
    found.retain(|e| is_kind(e.kind) && wanted.is(e.namespace, e.name));
    endpoint_listing(&found)
}

/// What a host endpoint governs (GW-4).
fn host_kind(policy: &Policy, site: &Site, layout: &Layout, i: usize) -> &'static str {
    let is_own = policy.host_endpoints.get(i).is_some_and(|endpoint| is_own(endpoint, site));
    match (layout.uplink == Some(i), layout.downlink == Some(i)) {
        (true, true) => "own uplink and downlink",
        (true, false) => "own uplink",
        (false, true) => "own downlink",
        (false, false) if is_own => "own, unused",
        (false, false) if layout.stand_ins.values().any(|&active| active == i) => "stand-in",
        (false, false) if layout.areas.iter().any(|area| area.host_endpoint == Some(i)) => "stand-in of a segment",
        (false, false) => "stand-in, unused",
    }
}

fn endpoint_listing(found: &[Endpoint<'_>]) -> Listing {
    let mut listing = Listing {
        table: Table::new(&[
            ("NAMESPACE", false),
            ("NAME", false),
            ("KIND", false),
            ("ADDRESSES", false),
            ("NODE", false),
            ("INTERFACE", false),
            ("LABELS", false),
            ("ALL LABELS", true),
            ("PROFILES", true),
            ("POLICIES", false),
            ("ORIGIN", true),
        ]),
        items: Vec::new(),
    };
    for e in found {
        listing.table.push([
            e.namespace.unwrap_or_default().to_string(),
            e.name.to_string(),
            e.kind.to_string(),
            joined(&e.addresses),
            e.node.to_string(),
            e.interface.to_string(),
            label_text(e.labels, |name| !is_inherited(name)),
            label_text(e.labels, |_| true),
            joined(e.profiles),
            joined(&e.policies),
            e.span.map(at).unwrap_or_default(),
        ]);
        let name = e.namespace.map_or(e.name.to_string(), |namespace| format!("{namespace}/{}", e.name));
        let object = json!({
            "name": e.name,
            "namespace": e.namespace,
            "kind": e.kind,
            "addresses": e.addresses,
            "node": e.node,
            "interface": e.interface,
            "labels": e.labels,
            "profiles": e.profiles,
            "policies": e.policies,
            "origin": e.span.map(at),
        });
        listing.items.push(Item { name, span: e.span.cloned(), object });
    }
    if found.iter().all(|e| e.namespace.is_none()) {
        listing.table.remove("NAMESPACE");
    }
    listing
}

/// Protocol by the name that policies give it.
fn protocol(number: u8) -> String {
    match number {
        6 => "TCP".to_string(),
        17 => "UDP".to_string(),
        132 => "SCTP".to_string(),
        other => other.to_string(),
    }
}

/// The keys of one port of a service, and whether its source ranges guard each.
fn keys(service: &Service, port: &ServicePort) -> Vec<(String, bool)> {
    let name = protocol(port.protocol);
    let key = |&address: &IpAddr| format!("{name} {}", SocketAddr::new(address, port.port));
    let mut keys: Vec<(String, bool)> = service.cluster_addresses.iter().map(|a| (key(a), false)).collect();
    keys.extend(service.balancer_addresses.iter().map(|a| (key(a), true)));
    keys.extend(port.node_port.map(|number| (format!("{name} node port {number}"), false)));
    keys
}

/// The service table (GW-8): a row for each key.
pub fn services(policy: &Policy, wanted: &Wanted<'_>) -> Listing {
    let mut table = Table::new(&[
        ("NAMESPACE", false),
        ("NAME", false),
        ("KEY", false),
        ("BACKENDS", false),
        ("SOURCE-RANGES", false),
        ("ORIGIN", true),
    ]);
    let mut items = Vec::new();
    for service in policy.services.iter().filter(|s| wanted.is(Some(&s.namespace), &s.name)) {
        let mut shown = Vec::new();
        for port in &service.ports {
            let backends: Vec<String> =
                port.backends.iter().map(|&(address, port)| SocketAddr::new(address, port).to_string()).collect();
            for (key, is_guarded) in keys(service, port) {
                let ranges: Vec<String> =
                    service.source_ranges.iter().filter(|_| is_guarded).map(ToString::to_string).collect();
                table.push([
                    service.namespace.clone(),
                    service.name.clone(),
                    key.clone(),
                    joined(&backends),
                    joined(&ranges),
                    at(&service.span),
                ]);
                shown.push(json!({ "key": key, "backends": backends, "sourceRanges": ranges }));
            }
        }
        if shown.is_empty() {
            let nothing = || NOTHING.to_string();
            let (namespace, name) = (service.namespace.clone(), service.name.clone());
            table.push([namespace, name, nothing(), nothing(), nothing(), at(&service.span)]);
        }
        let object = json!({
            "name": service.name,
            "namespace": service.namespace,
            "keys": shown,
            "origin": at(&service.span),
        });
        let name = format!("{}/{}", service.namespace, service.name);
        items.push(Item { name, span: Some(service.span.clone()), object });
    }
    Listing { table, items }
}

/// Network sets.
pub fn sets(policy: &Policy, wanted: &Wanted<'_>) -> Listing {
    let mut table = Table::new(&[
        ("NAMESPACE", false),
        ("NAME", false),
        ("NETS", false),
        ("LABELS", false),
        ("ALL LABELS", true),
        ("ORIGIN", true),
    ]);
    let mut items = Vec::new();
    for set in &policy.network_sets {
        let (namespace, name) = match set.display.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, set.display.as_str()),
        };
        if !wanted.is(namespace, name) {
            continue;
        }
        table.push([
            namespace.unwrap_or_default().to_string(),
            name.to_string(),
            set.nets.len().to_string(),
            label_text(&set.labels, |name| !is_inherited(name)),
            label_text(&set.labels, |_| true),
            at(&set.span),
        ]);
        let object = json!({
            "name": name,
            "namespace": namespace,
            "nets": set.nets.len(),
            "labels": set.labels,
            "origin": at(&set.span),
        });
        items.push(Item { name: set.display.clone(), span: Some(set.span.clone()), object });
    }
    if items.iter().all(|item| item.object["namespace"].is_null()) {
        table.remove("NAMESPACE");
    }
    Listing { table, items }
}
