//! Pods, nodes, services and namespaces in, endpoints and service tables out.

use super::ir::Policy;
use super::resources::{ResourceKind, Resources};
use crate::base::decode::Findings;

/// The kinds of this format.
pub const KINDS: &[ResourceKind] = &[];

/// What a cluster holds, before its parts are put together.
#[derive(Debug, Default)]
pub struct Inventory {}

impl Inventory {
    /// Fills pods, services and node addresses of the policy; labels of namespaces and accounts are in `resources`.
    pub fn resolve(self, _resources: &Resources, _policy: &mut Policy, _findings: &Findings) {}
}
