//! HostEndpoint in, [`HostEndpoint`] out (2.6, V-16).

use std::net::IpAddr;

use super::name;
use crate::base::decode::{Decoder, Field};
use crate::policy::ir::{HostEndpoint, NamedPort};
use crate::policy::metadata::is_subdomain;
use crate::policy::resources::{Context, Resource};

/// Decodes a host endpoint.
pub(super) fn decode(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let metadata = name::metadata(&mut resource);
    let span = resource.span.clone();
    let spec = resource.root.require("spec").and_then(|f| f.map());
    resource.root.finish();
    let (Some(mut spec), Some(metadata)) = (spec, metadata) else { return };
    let node = node(&mut spec);
    let interface_field = spec.take("interfaceName");
    let is_named = interface_field.as_ref().is_some_and(|f| f.node.as_str() != Some(""));
    let interface = interface_field.as_ref().and_then(interface).unwrap_or_default();
    let addresses_field = spec.take("expectedIPs");
    let addresses = addresses_field.as_ref().map(addresses).unwrap_or_default();
    let has_addresses = addresses_field.as_ref().and_then(|f| f.node.as_list()).is_some_and(|l| !l.is_empty());
    if !is_named && !has_addresses {
        let help = "add `interfaceName`, or the addresses of the interface as `expectedIPs`";
        spec.error_with_help("missing-field", "`spec` names neither an interface nor addresses", help);
    }
    let profiles = spec.take("profiles").map(|f| profiles(&f)).unwrap_or_default();
    let ports = spec.take("ports").and_then(|f| f.list()).unwrap_or_default();
    let ports = ports.iter().filter_map(named_port).collect();
    spec.finish();
    let Some(node) = node else { return };
    context.resources.host_endpoints.push(HostEndpoint {
        name: metadata.name,
        node,
        interface,
        addresses,
        labels: metadata.labels,
        profiles,
        ports,
        span,
    });
}

fn node(spec: &mut Decoder<'_, '_>) -> Option<String> {
    let field = spec.require("node")?;
    let node = field.nonempty_string()?;
    if !is_subdomain(node) {
        let help = "use lower case letters, digits, `-` and `.`";
        field.error_with_help("bad-name", format!("`{node}` is not the name of a node"), help);
    }
    Some(node.to_string())
}

/// `*`, or at most 15 characters, the longest name that Linux gives an interface.
fn interface(field: &Field<'_, '_>) -> Option<String> {
    let name = field.string()?;
    if name.is_empty() {
        return None;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name != "*" && (name.len() > 15 || !name.chars().all(is_name)) {
        let help = "at most 15 letters, digits, `_`, `.` and `-`, or `*` for every interface";
        field.error_with_help("bad-interface", format!("`{name}` is not the name of an interface"), help);
    }
    Some(name.to_string())
}

fn addresses(field: &Field<'_, '_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for item in field.list().unwrap_or_default() {
        let Some(text) = item.string() else { continue };
        match text.parse() {
            Ok(address) => found.push(address),
            Err(_) => {
                let help = "write an address without a mask, such as `10.1.1.1`";
                item.error_with_help("bad-address", format!("`{text}` is not an address"), help);
            }
        }
    }
    found
}

/// Names of profiles in order.
fn profiles(field: &Field<'_, '_>) -> Vec<String> {
    let mut found = Vec::new();
    for item in field.list().unwrap_or_default() {
        let Some(name) = item.string() else { continue };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || !name.chars().all(is_name) {
            item.error("bad-name", format!("`{name}` is not the name of a profile"));
        }
        found.push(name.to_string());
    }
    found
}

/// A port with a name; names may repeat.
fn named_port(field: &Field<'_, '_>) -> Option<NamedPort> {
    let mut map = field.map()?;
    let name = map.require("name").and_then(|f| {
        let name = f.nonempty_string()?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.len() > 128 || !name.chars().all(is_name) {
            f.error("bad-name", format!("`{name}` is not the name of a port"));
        }
        Some(name.to_string())
    });
    let protocol = map.require("protocol").and_then(|f| {
        let number = super::port::protocol(&f)?;
        if ![6, 17, 132].contains(&number) {
            f.error("bad-protocol", "a named port needs protocol TCP, UDP or SCTP");
        }
        Some(number)
    });
    let port = map.require("port").and_then(|f| f.integer(1..=65535));
    map.finish();
    Some(NamedPort { name: name?, protocol: protocol?, port: port? })
}
