//! Resources of `projectcalico.org/v3` in, entries of [`Resources`](super::resources::Resources) out (section 2).

mod endpoint;
mod entity;
mod felix;
mod name;
mod policy;
mod port;
mod profile;
mod rule;
mod selection;
mod set;
mod tier;

use super::resources::{Context, Resource, ResourceKind};

/// `crd.projectcalico.org/v1` is how the same resources look in a cluster's own store.
const API_VERSIONS: &[&str] = &["projectcalico.org/v3", "crd.projectcalico.org/v1"];

const fn global(kind: &'static str, decode: fn(Resource<'_, '_>, &mut Context<'_>)) -> ResourceKind {
    ResourceKind { api_versions: API_VERSIONS, kind, is_any_case: false, is_namespaced: false, decode }
}

const fn namespaced(kind: &'static str, decode: fn(Resource<'_, '_>, &mut Context<'_>)) -> ResourceKind {
    ResourceKind { api_versions: API_VERSIONS, kind, is_any_case: false, is_namespaced: true, decode }
}

/// The kinds of this format.
pub const KINDS: &[ResourceKind] = &[
    global("GlobalNetworkPolicy", policy::decode),
    namespaced("NetworkPolicy", policy::decode),
    global("HostEndpoint", endpoint::decode),
    global("Tier", tier::decode),
    global("GlobalNetworkSet", set::decode),
    namespaced("NetworkSet", set::decode),
    global("Profile", profile::decode),
    global("FelixConfiguration", felix::decode),
];
