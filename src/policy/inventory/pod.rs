//! Namespace, ServiceAccount, Pod and Node documents in, labels and checked objects out.
//!
//! These come from `kubectl get -o yaml` with hundreds of fields that say nothing about policy. Only the fields that are used are
//! looked at; the rest is accepted whatever it is.

use std::net::IpAddr;

use super::object::{NodeObject, Phase, PodObject};
use crate::base::decode::{Decoder, Field};
use crate::policy::ir::NamedPort;
use crate::policy::metadata::Metadata;
use crate::policy::resources::{Context, Resource};

/// Protocols of container and service ports, by the names of the API.
pub(super) const PROTOCOLS: [(&str, u8); 3] = [("TCP", 6), ("UDP", 17), ("SCTP", 132)];

pub(super) fn read_namespace(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    if let Some(metadata) = Metadata::decode(&mut resource.root, false) {
        context.resources.namespaces.insert(metadata.name, metadata.labels);
    }
}

pub(super) fn read_service_account(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    if let Some(metadata) = Metadata::decode(&mut resource.root, true) {
        let namespace = metadata.namespace.unwrap_or_else(|| "default".to_string());
        context.resources.service_accounts.insert((namespace, metadata.name), metadata.labels);
    }
}

pub(super) fn read_pod(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let status = resource.root.take("status").and_then(|f| f.map());
    let Some(metadata) = Metadata::decode(&mut resource.root, true) else { return };
    let mut pod = PodObject {
        namespace: metadata.namespace.unwrap_or_else(|| "default".to_string()),
        name: metadata.name,
        labels: metadata.labels,
        service_account: "default".to_string(),
        is_host_networked: false,
        phase: Phase::Absent,
        is_ready: true,
        addresses: Vec::new(),
        ports: Vec::new(),
        span: resource.span,
    };
    if let Some(mut spec) = resource.root.take("spec").and_then(|f| f.map()) {
        // `serviceAccount` is the old name of the same field.
        let account = spec.take("serviceAccount");
        if let Some(field) = spec.take("serviceAccountName").or(account)
            && let Some(name) = field.string().filter(|name| !name.is_empty())
        {
            pod.service_account = name.to_string();
        }
        pod.is_host_networked = spec.take("hostNetwork").and_then(|f| f.bool()).unwrap_or_default();
        pod.ports = named_ports(&mut spec);
    }
    if let Some(mut status) = status {
        pod.phase = status.take("phase").map_or(Phase::Absent, |f| phase(&f));
        pod.is_ready = status.take("conditions").is_none_or(|f| is_ready(&f));
        pod.addresses = pod_addresses(&mut status);
    }
    context.resources.inventory.pods.push(pod);
}

fn phase(field: &Field<'_, '_>) -> Phase {
    let words = [
        ("Running", Phase::Running),
        ("Succeeded", Phase::Finished),
        ("Failed", Phase::Finished),
        ("Pending", Phase::Other),
        ("Unknown", Phase::Other),
    ];
    field.word(&words).unwrap_or(Phase::Other)
}

/// No `Ready` condition other than `True` (GW-8).
fn is_ready(field: &Field<'_, '_>) -> bool {
    let is_unready = |item: &Field<'_, '_>| {
        let Some(mut condition) = item.map() else { return false };
        let kind = condition.take("type").and_then(|f| f.string());
        let status = condition.take("status").and_then(|f| f.string());
        kind == Some("Ready") && status != Some("True")
    };
    !field.list().unwrap_or_default().iter().any(is_unready)
}

/// `podIPs`, else `podIP`; an empty text is what a pod without an address has.
fn pod_addresses(status: &mut Decoder<'_, '_>) -> Vec<IpAddr> {
    let single = status.take("podIP");
    let many = status.take("podIPs").and_then(|f| f.list()).unwrap_or_default();
    let mut fields: Vec<Field<'_, '_>> =
        many.iter().filter_map(|item| item.map().and_then(|mut map| map.take("ip"))).collect();
    if fields.is_empty() {
        fields.extend(single);
    }
    fields.retain(|field| field.node.as_str() != Some(""));
    fields.iter().filter_map(address).collect()
}

fn named_ports(spec: &mut Decoder<'_, '_>) -> Vec<NamedPort> {
    let mut found = Vec::new();
    // Init containers that keep running (sidecars) serve ports like any other container.
    for key in ["containers", "initContainers"] {
        for container in spec.take(key).and_then(|f| f.list()).unwrap_or_default() {
            let Some(mut container) = container.map() else { continue };
            let is_sidecar = container.take("restartPolicy").and_then(|f| f.string()) == Some("Always");
            if key == "initContainers" && !is_sidecar {
                continue;
            }
            let ports = container.take("ports").and_then(|f| f.list());
            for port in ports.unwrap_or_default() {
                let Some(mut map) = port.map() else { continue };
                let name = map.take("name").and_then(|f| f.string()).filter(|name| !name.is_empty());
                let protocol = map.take("protocol").map_or(Some(6), |f| f.word(&PROTOCOLS));
                let number = map.require("containerPort").and_then(|f| f.integer::<u16>(1..=65535));
                if let (Some(name), Some(protocol), Some(port)) = (name, protocol, number) {
                    found.push(NamedPort { name: name.to_string(), protocol, port });
                }
            }
        }
    }
    found
}

pub(super) fn read_node(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let status = resource.root.take("status").and_then(|f| f.map());
    let Some(metadata) = Metadata::decode(&mut resource.root, false) else { return };
    let mut addresses = Vec::new();
    for item in status.and_then(|mut s| s.take("addresses")).and_then(|f| f.list()).unwrap_or_default() {
        let Some(mut map) = item.map() else { continue };
        let kind = map.require("type").and_then(|f| f.string());
        let value = map.require("address");
        // Host names are no addresses; DNS is not asked.
        if matches!(kind, Some("InternalIP" | "ExternalIP")) {
            addresses.extend(value.as_ref().and_then(address));
        }
    }
    context.resources.inventory.nodes.push(NodeObject { name: metadata.name, addresses, span: resource.span });
}

/// An address without a mask.
pub(super) fn address(field: &Field<'_, '_>) -> Option<IpAddr> {
    let text = field.string()?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        field.error("bad-address", format!("`{text}` is not an IP address"));
    }
    parsed
}
