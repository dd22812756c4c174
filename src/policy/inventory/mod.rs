//! Kubernetes objects in; the endpoints, labels, node addresses and services they stand for out (sections 5 and 13).
//!
//! Each object is read by itself; [`Inventory::resolve`] then derives everything that needs more than one of them.

pub mod object;

mod pod;

mod service;

mod endpoint;

mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use self::object::{BackendsObject, NodeObject, PodObject, ServiceObject};
use super::ir::Policy;
use super::resources::{Context, Resource, ResourceKind, Resources};
use crate::base::decode::Findings;

const CORE: &[&str] = &["v1"];

/// The kinds of this format.
pub const KINDS: &[ResourceKind] = &[
    global(CORE, "Namespace", pod::read_namespace),
    namespaced(CORE, "ServiceAccount", pod::read_service_account),
    namespaced(CORE, "Pod", pod::read_pod),
    global(CORE, "Node", pod::read_node),
    namespaced(CORE, "Service", service::read_service),
    namespaced(CORE, "Endpoints", service::read_endpoints),
    namespaced(&["discovery.k8s.io/v1"], "EndpointSlice", service::read_endpoint_slice),
];

type Decode = fn(Resource<'_, '_>, &mut Context<'_>);

const fn namespaced(api_versions: &'static [&'static str], kind: &'static str, decode: Decode) -> ResourceKind {
    ResourceKind { api_versions, kind, is_any_case: false, is_namespaced: true, decode }
}

const fn global(api_versions: &'static [&'static str], kind: &'static str, decode: Decode) -> ResourceKind {
    ResourceKind { api_versions, kind, is_any_case: false, is_namespaced: false, decode }
}

/// All objects that were read, in the order of the files. Labels of namespaces and service accounts are in [`Resources`].
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Pods, host-networked and finished ones included.
    pub pods: Vec<PodObject>,
    /// Nodes.
    pub nodes: Vec<NodeObject>,
    /// Services.
    pub services: Vec<ServiceObject>,
    /// Endpoints.
    pub endpoints: Vec<BackendsObject>,
    /// EndpointSlices.
    pub slices: Vec<BackendsObject>,
}

impl Inventory {
    /// Fills pods, services and node addresses of the policy; labels of namespaces and accounts are in `resources`.
    pub fn resolve(self, resources: &Resources, policy: &mut Policy, findings: &Findings) {
        policy.pods = endpoint::pods(&self.pods, resources, findings);
        policy.services = table::services(&self);
        let addresses: BTreeSet<IpAddr> = self.nodes.iter().flat_map(|node| node.addresses.iter().copied()).collect();
        policy.node_addresses = addresses.into_iter().collect();
    }
}
