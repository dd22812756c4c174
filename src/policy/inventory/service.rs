//! Service, Endpoints and EndpointSlice documents in, checked objects out (SVC-1, SVC-2, SVC-4).
//!
//! All fields of the API are known here; one that is not is reported, since a misspelt field would silently change the table.

use std::net::IpAddr;

use ipnet::IpNet;

use super::object::{
    BackendPort, BackendSubset, BackendsObject, ServiceKind, ServiceObject, ServicePortObject, TargetPort,
};
use super::pod::{PROTOCOLS, address};
use crate::base::decode::{Decoder, Field};
use crate::base::diagnostic::Diagnostic;
use crate::base::document::Kind;
use crate::policy::metadata::{Metadata, is_label_name, labels};
use crate::policy::resources::{Context, Resource};

/// Label of an EndpointSlice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Node ports of a cluster with default settings.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// Fields of `spec` that change nothing on this box (GW-8).
const IGNORED: [&str; 10] = [
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamily",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "sessionAffinity",
    "sessionAffinityConfig",
    "topologyKeys",
    "trafficDistribution",
];

pub(super) fn read_service(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let findings = resource.root.findings();
    let status = resource.root.take("status").and_then(|f| f.map());
    let metadata = Metadata::decode(&mut resource.root, true);
    let spec = resource.root.require("spec").and_then(|f| f.map());
    resource.root.finish();
    let (Some(metadata), Some(mut spec)) = (metadata, spec) else { return };
    let errors_before = findings.errors();
    let kinds = [
        ("ClusterIP", ServiceKind::ClusterIp),
        ("NodePort", ServiceKind::NodePort),
        ("LoadBalancer", ServiceKind::LoadBalancer),
        ("ExternalName", ServiceKind::ExternalName),
    ];
    let kind = spec.take("type").map_or(Some(ServiceKind::ClusterIp), |f| f.word(&kinds));
    spec.ignore(&["externalName"]);
    let (is_headless, cluster_addresses) = cluster_addresses(&mut spec);
    let requested = spec.take("loadBalancerIP").filter(|f| f.node.as_str() != Some("")).and_then(|f| address(&f));
    let granted = status.map(balancer_addresses).unwrap_or_default();
    let service = ServiceObject {
        namespace: metadata.namespace.unwrap_or_else(|| "default".to_string()),
        name: metadata.name,
        kind: kind.unwrap_or(ServiceKind::ClusterIp),
        is_headless,
        cluster_addresses,
        balancer_addresses: if granted.is_empty() { requested.into_iter().collect() } else { granted },
        external_addresses: addresses(&mut spec, "externalIPs"),
        source_ranges: source_ranges(&mut spec),
        selector: spec.take("selector").map(|f| labels(&f)).unwrap_or_default(),
        takes_unready: spec.take("publishNotReadyAddresses").and_then(|f| f.bool()).unwrap_or_default(),
        families: families(&mut spec),
        ports: ports(&mut spec, kind),
        span: resource.span,
    };
    spec.take("allocateLoadBalancerNodePorts").and_then(|f| f.bool());
    spec.ignore(&IGNORED);
    spec.finish();
    if findings.errors() == errors_before {
        context.resources.inventory.services.push(service);
    }
}

/// Whether the service is headless, and its ClusterIPs.
fn cluster_addresses(spec: &mut Decoder<'_, '_>) -> (bool, Vec<IpAddr>) {
    let single = spec.take("clusterIP");
    let mut fields = spec.take("clusterIPs").and_then(|f| f.list()).unwrap_or_default();
    if fields.is_empty() {
        fields.extend(single);
    }
    let is_headless = fields.iter().any(|f| f.node.as_str() == Some("None"));
    fields.retain(|f| !matches!(f.node.as_str(), Some("" | "None")));
    (is_headless, fields.iter().filter_map(address).collect())
}

fn addresses(spec: &mut Decoder<'_, '_>, key: &'static str) -> Vec<IpAddr> {
    let fields = spec.take(key).and_then(|f| f.list()).unwrap_or_default();
    fields.iter().filter_map(address).collect()
}

/// `status.loadBalancer.ingress[].ip` where the nodes see that address: ipMode absent or VIP.
fn balancer_addresses(mut status: Decoder<'_, '_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let balancer = status.take("loadBalancer").and_then(|f| f.map());
    status.ignore(&["conditions"]);
    status.finish();
    let Some(mut balancer) = balancer else { return found };
    for item in balancer.take("ingress").and_then(|f| f.list()).unwrap_or_default() {
        let Some(mut map) = item.map() else { continue };
        let ip = map.take("ip").filter(|f| f.node.as_str() != Some(""));
        let mode = map.take("ipMode").map_or(Some(true), |f| f.word(&[("VIP", true), ("Proxy", false)]));
        map.ignore(&["hostname", "ports"]);
        map.finish();
        if mode == Some(true) {
            found.extend(ip.as_ref().and_then(address));
        }
    }
    balancer.finish();
    found
}

fn source_ranges(spec: &mut Decoder<'_, '_>) -> Vec<IpNet> {
    let fields = spec.take("loadBalancerSourceRanges").and_then(|f| f.list()).unwrap_or_default();
    let range = |field: &Field<'_, '_>| {
        // The API server accepts blanks around a range.
        let text = field.string()?.trim();
        let Ok(net) = text.parse::<IpNet>() else {
            let help = "write one address as `address/32` (IPv6: `/128`)";
            field.error_with_help("bad-cidr", format!("`{text}` is not an address prefix"), help);
            return None;
        };
        if net.trunc() != net {
            let message = format!("`{text}` has bits set beyond its length: taken as `{}`", net.trunc());
            field.warning("host-bits", message);
        }
        Some(net.trunc())
    };
    fields.iter().filter_map(range).collect()
}

fn families(spec: &mut Decoder<'_, '_>) -> [bool; 2] {
    let fields = spec.take("ipFamilies").and_then(|f| f.list()).unwrap_or_default();
    let named: Vec<usize> = fields.iter().filter_map(|f| f.word(&[("IPv4", 0), ("IPv6", 1)])).collect();
    if named.is_empty() { [true, true] } else { [named.contains(&0), named.contains(&1)] }
}

fn ports(spec: &mut Decoder<'_, '_>, kind: Option<ServiceKind>) -> Vec<ServicePortObject> {
    let Some(list) = spec.take("ports") else { return Vec::new() };
    let fields = list.list().unwrap_or_default();
    let mut ports: Vec<ServicePortObject> = Vec::new();
    for field in &fields {
        let Some(port) = port(field, kind) else { continue };
        if fields.len() > 1 && port.name.is_empty() {
            field.error_with_help("missing-port-name", "`name` is required when there are several ports", "add a name");
        } else if ports.iter().any(|p| p.name == port.name) {
            field.error("duplicate-port-name", format!("two ports are named `{}`", port.name));
        }
        if ports.iter().any(|p| (p.protocol, p.port) == (port.protocol, port.port)) {
            field.error("duplicate-port", format!("port {} is given twice for one protocol", port.port));
        }
        ports.push(port);
    }
    ports
}

fn port(field: &Field<'_, '_>, kind: Option<ServiceKind>) -> Option<ServicePortObject> {
    let mut map = field.map()?;
    let name = map.take("name").and_then(|f| port_label(&f)).unwrap_or_default();
    let protocol = map.take("protocol").map_or(Some(6), |f| f.word(&PROTOCOLS));
    let number = map.require("port").and_then(|f| f.integer::<u16>(1..=65535));
    let target = map.take("targetPort").map(|f| target(&f, number));
    let node_port = map.take("nodePort");
    map.ignore(&["appProtocol"]);
    map.finish();
    let number = number?;
    Some(ServicePortObject {
        name,
        protocol: protocol?,
        port: number,
        target: target.unwrap_or(Some(TargetPort::Number(number)))?,
        node_port: node_port.and_then(|f| node_port_number(&f, kind)),
        span: field.span().clone(),
    })
}

fn port_label(field: &Field<'_, '_>) -> Option<String> {
    let text = field.string()?;
    if !text.is_empty() && !is_label_name(text) {
        field.error(
            "bad-port-name",
            format!("`{text}` is not a port name: expected lower-case letters, digits and `-`"),
        );
        return None;
    }
    Some(text.to_string())
}

/// A number, or the name of a container port; 0 and nothing mean the service's own port.
fn target(field: &Field<'_, '_>, own: Option<u16>) -> Option<TargetPort> {
    match &field.node.kind {
        Kind::String(name) if name.parse::<u16>().is_ok() => {
            field.error_with_help("bad-port", format!("`{name}` in quotes is a port name"), "remove the quotes");
            None
        }
        Kind::String(name) => Some(TargetPort::Name(name.clone())),
        _ => match field.integer::<u16>(0..=65535)? {
            0 => own.map(TargetPort::Number),
            number => Some(TargetPort::Number(number)),
        },
    }
}

fn node_port_number(field: &Field<'_, '_>, kind: Option<ServiceKind>) -> Option<u16> {
    let number = field.integer::<u16>(0..=65535).filter(|number| *number != 0)?;
    if !matches!(kind, None | Some(ServiceKind::NodePort | ServiceKind::LoadBalancer)) {
        field.warning("node-port-unused", "has no effect unless the type is `NodePort` or `LoadBalancer`");
    } else if !NODE_PORTS.contains(&number) {
        let message = format!("{number} lies outside {} to {}", NODE_PORTS.start(), NODE_PORTS.end());
        field.warning("unusual-node-port", format!("{message}, where policies expect node ports"));
    }
    Some(number)
}

pub(super) fn read_endpoints(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let metadata = Metadata::decode(&mut resource.root, true);
    let mut subsets = Vec::new();
    for field in resource.root.take("subsets").and_then(|f| f.list()).unwrap_or_default() {
        let Some(mut map) = field.map() else { continue };
        let mut subset = BackendSubset::default();
        for item in map.take("addresses").and_then(|f| f.list()).unwrap_or_default() {
            let Some(mut entry) = item.map() else { continue };
            subset.addresses.extend(entry.require("ip").as_ref().and_then(address));
            entry.ignore(&["hostname", "nodeName", "targetRef"]);
            entry.finish();
        }
        subset.ports = backend_ports(&mut map);
        map.ignore(&["notReadyAddresses"]);
        map.finish();
        subsets.push(subset);
    }
    resource.root.finish();
    let Some(metadata) = metadata else { return };
    context.resources.inventory.endpoints.push(BackendsObject {
        namespace: metadata.namespace.unwrap_or_else(|| "default".to_string()),
        service: metadata.name,
        subsets,
        span: resource.span,
    });
}

pub(super) fn read_endpoint_slice(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let findings = resource.root.findings();
    let metadata = Metadata::decode(&mut resource.root, true);
    let kinds = [("IPv4", true), ("IPv6", true), ("FQDN", false)];
    let has_addresses = resource.root.require("addressType").and_then(|f| f.word(&kinds)).unwrap_or(false);
    let ports = backend_ports(&mut resource.root);
    let mut found = BackendSubset { addresses: Vec::new(), ports };
    for field in resource.root.take("endpoints").and_then(|f| f.list()).unwrap_or_default() {
        let Some(mut map) = field.map() else { continue };
        let listed = map.require("addresses").and_then(|f| f.list()).unwrap_or_default();
        let is_ready = map.take("conditions").is_none_or(|f| is_endpoint_ready(&f));
        map.ignore(&["deprecatedTopology", "hints", "hostname", "nodeName", "targetRef", "zone"]);
        map.finish();
        // The first address stands for the endpoint; kube-proxy does not look at others.
        if let Some(first) = listed.first().filter(|_| is_ready && has_addresses) {
            found.addresses.extend(address(first));
        }
    }
    resource.root.finish();
    let Some(metadata) = metadata else { return };
    let Some(service) = metadata.labels.get(SERVICE_NAME) else {
        let message = format!("without the label `{SERVICE_NAME}` it belongs to no service and is ignored");
        return findings.push(Diagnostic::note("slice-without-service", message).at(&resource.span));
    };
    context.resources.inventory.slices.push(BackendsObject {
        namespace: metadata.namespace.unwrap_or_else(|| "default".to_string()),
        service: service.clone(),
        subsets: vec![found],
        span: resource.span,
    });
}

fn is_endpoint_ready(field: &Field<'_, '_>) -> bool {
    let Some(mut map) = field.map() else { return false };
    let ready = map.take("ready").map_or(Some(true), |f| f.bool());
    map.ignore(&["serving", "terminating"]);
    map.finish();
    ready == Some(true)
}

/// Ports of Endpoints and slices; one without a number is skipped, as kube-proxy does.
fn backend_ports(map: &mut Decoder<'_, '_>) -> Vec<BackendPort> {
    let mut found = Vec::new();
    for field in map.take("ports").and_then(|f| f.list()).unwrap_or_default() {
        let Some(mut map) = field.map() else { continue };
        let name = map.take("name").map_or(Some(""), |f| f.string());
        let protocol = map.take("protocol").map_or(Some(6), |f| f.word(&PROTOCOLS));
        let port = map.take("port").and_then(|f| f.integer::<u16>(1..=65535));
        map.ignore(&["appProtocol"]);
        map.finish();
        if let (Some(name), Some(protocol), Some(port)) = (name, protocol, port) {
            found.push(BackendPort { name: name.to_string(), protocol, port });
        }
    }
    found
}
