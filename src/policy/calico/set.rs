//! GlobalNetworkSet and NetworkSet in, [`NetworkSet`] out (2.8).

use ipnet::IpNet;
use std::net::IpAddr;

use super::name;
use crate::base::decode::Field;
use crate::policy::identity::NAMESPACE;
use crate::policy::ir::NetworkSet;
use crate::policy::resources::{Context, NamespacedSet, Resource};

/// Decodes a set of either kind.
pub(super) fn decode(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let metadata = name::metadata(&mut resource);
    let span = resource.span.clone();
    let spec = resource.root.take("spec").and_then(|f| f.map());
    let nets = spec.map(|mut spec| {
        let nets = spec.take("nets").map(|f| nets(&f)).unwrap_or_default();
        spec.finish();
        nets
    });
    if metadata.as_ref().is_some_and(|m| m.labels.contains_key(NAMESPACE)) {
        let help = "remove the label: a NetworkSet gets it from its namespace";
        resource.root.error_with_help("reserved-label", format!("the label `{NAMESPACE}` is reserved"), help);
    }
    resource.root.finish();
    let Some(metadata) = metadata else { return };
    let display = match &metadata.namespace {
        Some(namespace) => format!("{namespace}/{}", metadata.name),
        None => metadata.name,
    };
    let set = NetworkSet { display, nets: nets.unwrap_or_default(), labels: metadata.labels, span };
    context.resources.network_sets.push(NamespacedSet { set, namespace: metadata.namespace });
}

/// Prefixes or bare addresses; bits behind the mask are dropped, unlike in a rule.
fn nets(field: &Field<'_, '_>) -> Vec<IpNet> {
    let mut found = Vec::new();
    for item in field.list().unwrap_or_default() {
        let Some(text) = item.string() else { continue };
        let net = text.parse::<IpNet>().map(|net| net.trunc());
        match net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(net) => found.push(net),
            Err(_) => {
                let help = "write an address or a prefix, such as `10.0.0.0/8`";
                item.error_with_help("bad-prefix", format!("`{text}` is not an address prefix"), help);
            }
        }
    }
    found
}
