//! Services, their computed backends and pods in; the service table out (SVC-1, SVC-2, GW-8).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Inventory;
use super::object::{BackendsObject, Phase, PodObject, ServiceKind, ServiceObject, ServicePortObject, TargetPort};
use crate::base::address::Family;
use crate::policy::ir::{Service, ServicePort};

/// Every service with its keys and ready backends, sorted by (namespace, name). Linear in services times pods of
/// their namespace.
pub(super) fn services(inventory: &Inventory) -> Vec<Service> {
    let mut services: Vec<Service> = inventory.services.iter().map(|service| resolve(service, inventory)).collect();
    services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    services
}

fn resolve(service: &ServiceObject, inventory: &Inventory) -> Service {
    let has_keys = service.kind != ServiceKind::ExternalName && !service.is_headless;
    let has_node_ports = has_keys && matches!(service.kind, ServiceKind::NodePort | ServiceKind::LoadBalancer);
    let kept = |keep: bool, list: &[IpAddr]| if keep { list.to_vec() } else { Vec::new() };
    // externalIPs are plain keys: `loadBalancerSourceRanges` does not guard them (SVC-6), so they stand with the ClusterIPs.
    let mut cluster_addresses = kept(has_keys, &service.cluster_addresses);
    cluster_addresses.extend(kept(has_keys, &service.external_addresses));
    let ports = service.ports.iter().map(|port| ServicePort {
        protocol: port.protocol,
        port: port.port,
        node_port: port.node_port.filter(|_| has_node_ports),
        backends: backends(service, port, inventory).into_iter().collect(),
    });
    Service {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        ports: ports.collect(),
        cluster_addresses,
        balancer_addresses: kept(has_keys && service.kind == ServiceKind::LoadBalancer, &service.balancer_addresses),
        source_ranges: service.source_ranges.clone(),
        span: service.span.clone(),
    }
}

/// Backends of one port by (address, port): EndpointSlices if the service has any, else Endpoints, else ready pods.
fn backends(service: &ServiceObject, port: &ServicePortObject, inventory: &Inventory) -> BTreeSet<(IpAddr, u16)> {
    if service.kind == ServiceKind::ExternalName {
        return BTreeSet::new();
    }
    let is_own = |b: &&BackendsObject| b.namespace == service.namespace && b.service == service.name;
    for computed in [&inventory.slices, &inventory.endpoints] {
        let own: Vec<&BackendsObject> = computed.iter().filter(is_own).collect();
        if !own.is_empty() {
            return own.iter().flat_map(|b| computed_backends(b, port)).collect();
        }
    }
    if service.selector.is_empty() {
        return BTreeSet::new();
    }
    (inventory.pods.iter())
        .filter(|pod| pod.namespace == service.namespace && is_selected(service, pod))
        .filter_map(|pod| Some((pod, target(port, pod)?)))
        .flat_map(|(pod, target)| pod.addresses.iter().map(move |address| (*address, target)))
        .filter(|(address, _)| service.families[Family::of(*address) as usize])
        .collect()
}

fn computed_backends<'a>(
    backends: &'a BackendsObject,
    port: &'a ServicePortObject,
) -> impl Iterator<Item = (IpAddr, u16)> + 'a {
    backends.subsets.iter().flat_map(move |subset| {
        (subset.ports.iter())
            .filter(|p| p.name == port.name && p.protocol == port.protocol)
            .flat_map(|p| subset.addresses.iter().map(move |address| (*address, p.port)))
    })
}

fn is_selected(service: &ServiceObject, pod: &PodObject) -> bool {
    let is_serving = match pod.phase {
        Phase::Absent | Phase::Running => pod.is_ready || service.takes_unready,
        Phase::Other => service.takes_unready,
        Phase::Finished => false,
    };
    is_serving && service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

/// The port a pod serves, `None` if it declares no port of the wanted name and protocol.
fn target(port: &ServicePortObject, pod: &PodObject) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            pod.ports.iter().find(|p| p.name == *name && p.protocol == port.protocol).map(|p| p.port)
        }
    }
}
