//! One side of a rule in, a [`Peer`] out (2.5).

use ipnet::IpNet;
use std::net::IpAddr;

use super::port;
use super::selection::{self, Identity};
use crate::base::address::Family;
use crate::base::decode::Field;
use crate::policy::identity::SERVICE_ACCOUNT;
use crate::policy::ir::{Peer, PolicyDirection, Port};
use crate::policy::load::LoadOptions;
use crate::policy::metadata::is_subdomain;
use crate::policy::selector::Selector;

/// Where a rule stands, as far as its sides are concerned.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Namespace of a NetworkPolicy.
    pub(super) namespace: Option<&'a str>,
    /// Which of the policy's lists the rule is in.
    pub(super) direction: PolicyDirection,
    /// How strictly to read.
    pub(super) options: &'a LoadOptions,
}

/// Which side of a rule.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// A side and where its prefixes and ports stand, for checks that span the rule.
#[derive(Default)]
pub(super) struct Entity<'n, 'f> {
    pub(super) peer: Peer,
    /// The first item of each family (V-23).
    pub(super) families: Vec<(Family, Field<'n, 'f>)>,
    /// `ports` or `notPorts` that hold something (V-5, V-6).
    pub(super) port_field: Option<Field<'n, 'f>>,
}

impl Entity<'_, '_> {
    /// Whether there is a port that is a number or range (V-5).
    pub(super) fn has_numeric_port(&self) -> bool {
        self.peer.ports.iter().chain(&self.peer.not_ports).any(|port| matches!(port, Port::Range(..)))
    }
}

/// Decodes `source` or `destination`.
pub(super) fn entity<'n, 'f>(field: &Field<'n, 'f>, side: Side, place: Place<'_>) -> Entity<'n, 'f> {
    let mut entity = Entity::default();
    let Some(mut map) = field.map() else { return entity };
    let limits = place.options.limits;

    let nets = map.take("nets");
    let not_nets = map.take("notNets");
    for (list, is_negated) in [(&nets, false), (&not_nets, true)] {
        let Some(list) = list else { continue };
        let found = prefixes(list, is_negated, place.options, &mut entity.families);
        if found.len() > limits.nets {
            let message = format!("{} prefixes, at most {} are allowed", found.len(), limits.nets);
            list.error_with_help("too-many", message, "use a GlobalNetworkSet and select it by a label");
        }
        if is_negated { entity.peer.not_nets = found } else { entity.peer.nets = found }
    }

    for key in ["ports", "notPorts"] {
        let Some(list) = map.take(key) else { continue };
        let found = port::ports(&list, limits.ports);
        if list.node.as_list().is_some_and(|items| !items.is_empty()) && entity.port_field.is_none() {
            entity.port_field = Some(list);
        }
        if key == "ports" { entity.peer.ports = found } else { entity.peer.not_ports = found }
    }

    let selector = map.take("selector");
    let not_selector = map.take("notSelector");
    let namespaces = map.take("namespaceSelector");
    let accounts = map.take("serviceAccounts");
    let services = map.take("services");
    map.finish();

    if let Some(services) = &services {
        // V-17
        let with = [&selector, &not_selector, &namespaces, &nets, &not_nets, &accounts];
        for other in with.into_iter().flatten().filter(|other| !is_empty(other)) {
            other.error_with_help("service-conflict", "cannot stand beside `services`", "write two rules");
        }
        if let Some(ports) = entity.port_field.as_ref().filter(|_| side == Side::Destination) {
            let help = "the ports are those of the service: remove the field";
            ports.error_with_help("service-conflict", "cannot stand beside `destination.services`", help);
        }
        entity.peer.service = service(services, side, place);
    }
    let namespaces = namespaces.and_then(|f| {
        let selector = selection::rule_namespace_selector(&f)?;
        selection::warn_if_negative(&f, &selector);
        Some(selector)
    });
    let identity = Identity {
        selector: selector.as_ref().and_then(selection::selector),
        not_selector: not_selector.as_ref().and_then(selection::selector),
        namespaces,
        accounts: accounts.as_ref().and_then(service_accounts),
    };
    (entity.peer.selector, entity.peer.not_selector) = identity.fold(place.namespace);
    entity
}

/// Whether a field says as much as an absent one.
fn is_empty(field: &Field<'_, '_>) -> bool {
    field.node.as_list().is_some_and(<[_]>::is_empty) || field.node.as_str() == Some("")
}

/// `serviceAccounts`: names and selector, both of which must hold (2.5). Empty means no restriction.
fn service_accounts(field: &Field<'_, '_>) -> Option<Selector> {
    let mut map = field.map()?;
    let mut names = Vec::new();
    for item in map.take("names").and_then(|f| f.list()).unwrap_or_default() {
        let Some(name) = item.string() else { continue };
        if !is_subdomain(name) {
            item.error("bad-name", format!("`{name}` is not the name of a service account"));
        }
        names.push(name);
    }
    let selector = map.take("selector").as_ref().and_then(selection::selector);
    map.finish();
    let names = (!names.is_empty()).then(|| Selector::is_in(SERVICE_ACCOUNT, names));
    let selector = selector.as_ref().map(selection::of_accounts);
    if names.is_none() && selector.is_none() {
        return None;
    }
    Some(Selector::and(names.into_iter().chain(selector)))
}

/// `services`: a Kubernetes service by namespace and name (2.5, V-17).
fn service(field: &Field<'_, '_>, side: Side, place: Place<'_>) -> Option<(String, String)> {
    let wanted = match place.direction {
        PolicyDirection::Ingress => Side::Source,
        PolicyDirection::Egress => Side::Destination,
    };
    if side != wanted {
        let message = match wanted {
            Side::Source => "in an ingress rule, `services` is allowed only in `source`",
            Side::Destination => "in an egress rule, `services` is allowed only in `destination`",
        };
        field.error("service-conflict", message);
    }
    let mut map = field.map()?;
    let name = map.require("name").and_then(|f| f.nonempty_string());
    let namespace = map.take("namespace").and_then(|f| f.string()).filter(|text| !text.is_empty()).or(place.namespace);
    if namespace.is_none() {
        let help = "add the namespace of the service";
        map.error_with_help("missing-field", format!("`{}.namespace` is required here", field.path), help);
    }
    map.finish();
    Some((namespace?.to_string(), name?.to_string()))
}

/// Prefixes of a rule: exact networks without repeats (V-20 to V-22, V-24, V-25).
fn prefixes<'n, 'f>(
    list: &Field<'n, 'f>,
    is_negated: bool,
    options: &LoadOptions,
    families: &mut Vec<(Family, Field<'n, 'f>)>,
) -> Vec<IpNet> {
    let mut found: Vec<IpNet> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for item in list.list().unwrap_or_default() {
        let Some(net) = prefix(&item, options) else { continue };
        if is_negated && net.prefix_len() == 0 {
            let message = format!("`{net}` excludes every address, so the rule could never match");
            item.error_with_help("contradiction", message, "remove the rule or the entry");
        }
        if !seen.insert(net) {
            item.error_with_help("duplicate-entry", format!("`{net}` is listed twice"), "remove one of the two");
        }
        let family = Family::of(net.addr());
        if !families.iter().any(|(known, _)| *known == family) {
            families.push((family, item));
        }
        found.push(net);
    }
    found
}

fn prefix(field: &Field<'_, '_>, options: &LoadOptions) -> Option<IpNet> {
    let text = field.string()?;
    if let Ok(net) = text.parse::<IpNet>() {
        if net.trunc() != net {
            let help = format!("did you mean `{}`, or `{}/{}`?", net.trunc(), net.addr(), net.max_prefix_len());
            field.error_with_help("host-bits", format!("`{text}` has bits set behind its mask"), help);
            return None;
        }
        return Some(net);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let net = IpNet::from(address);
        if options.lenient {
            field.warning("missing-mask", format!("`{text}` has no mask and is read as `{net}`"));
            return Some(net);
        }
        field.error_with_help("missing-mask", format!("`{text}` has no mask"), format!("write `{net}`"));
        return None;
    }
    let help = "write a network and its length, such as `10.0.0.0/8` or `2001:db8::/32`";
    field.error_with_help("bad-prefix", format!("`{text}` is not an address prefix"), help);
    None
}
