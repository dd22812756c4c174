//! The compiled form of everything that was loaded: built off the packet line by `compile`, read-only on it.
//!
//! A [`Program`] answers three questions: *where* is an address (its [`Place`]: host endpoint, pod, segment), *which* backends
//! does a service key have, and which entry of a scope matches a header first ([`classifier`]). What the stages make of the
//! answers is in [`mod@crate::engine::judge`].

pub mod arena;
pub mod bits;
pub mod classifier;
pub mod cross;
mod gather;
pub mod header;
pub mod isa;
#[cfg(test)]
mod kernel_tests;
pub mod leaf;
pub mod partition;
#[cfg(test)]
mod partition_tests;
pub mod places;
pub mod split;
mod tree;
pub mod vectors;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::base::address::Family;
use crate::base::diagnostic::Span;
use crate::base::id::{RuleId, WorkerId};
use crate::base::site::{DefaultVerdict, ExistingFlows, FragmentMode};
use crate::engine::decision::Layer;
use classifier::{Classifier, NONE, TableSize};
use places::Places;

/// What an entry does when it is the first to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A rule that allows: policy, ACL or group.
    Allow,
    /// A rule that denies: policy or ACL.
    Deny,
    /// A rule that writes a record; evaluation goes on with [`Entry::resume`], behind the rule.
    Log,
    /// A rule that leaves its tier or profile; evaluation goes on with [`Entry::resume`].
    Pass,
    /// A failsafe port: ends the stage with accept (FS-2).
    Failsafe,
    /// The end of a tier that denies (ACT-6).
    TierDeny,
    /// A profile that allows.
    ProfileAllow,
    /// A profile that denies.
    ProfileDeny,
    /// The end of the normal and workload stages (8.1 row 6a).
    NoPolicyDeny,
    /// The end of the forward stages (8.1 row 6b).
    NoPolicy,
    /// The end of an ACL (ACL-4).
    AclImplicitDeny,
    /// The end of a set of groups (SG-1).
    SgNoMatch,
}

/// One element of the ordered list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is written; `NONE` for pseudo-rules except the ends of tiers.
    pub rule: RuleId,
    /// What it does.
    pub effect: Effect,
    /// Where evaluation goes on after a Log or Pass.
    pub resume: u32,
}

/// The scopes of a host endpoint: which entries each of its stages asks. [`NONE`] = the stage does not exist for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointScopes {
    /// doNotTrack, ingress.
    pub untracked_in: u32,
    /// doNotTrack, egress.
    pub untracked_out: u32,
    /// preDNAT.
    pub prednat: u32,
    /// Normal, ingress.
    pub normal_in: u32,
    /// Normal, egress.
    pub normal_out: u32,
    /// applyOnForward, ingress.
    pub forward_in: u32,
    /// applyOnForward, egress.
    pub forward_out: u32,
}

impl EndpointScopes {
    /// Those of an endpoint that is not there: nothing is asked.
    pub const NONE: EndpointScopes = EndpointScopes {
        untracked_in: NONE,
        untracked_out: NONE,
        prednat: NONE,
        normal_in: NONE,
        normal_out: NONE,
        forward_in: NONE,
        forward_out: NONE,
    };
}

/// The stand-in that governs an address, if any (GW-4, GW-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StandIn {
    /// None.
    None,
    /// The address is one of its `expectedIPs`.
    Own(u32),
    /// The address belongs to a segment that names it.
    Segment(u32),
}

/// What holds for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Stand-in, index into [`Program::endpoints`].
    pub stand_in: StandIn,
    /// Number of the segment prefix that is the longest match; [`NONE`] = none (ACL-7).
    pub net: u32,
    /// Scope of the network ACL by direction (inbound, outbound).
    pub acl: [u32; 2],
    /// Scope of the security groups by direction.
    pub groups: [u32; 2],
    /// Scope of the pod's ingress and egress.
    pub pod: [u32; 2],
    /// Whether some service has it as cluster or load balancer address.
    pub is_service: bool,
    /// Whether node ports exist on it.
    pub is_node: bool,
}

impl Place {
    /// An address that nothing is known about.
    pub const UNKNOWN: Place = Place {
        stand_in: StandIn::None,
        net: NONE,
        acl: [NONE; 2],
        groups: [NONE; 2],
        pod: [NONE; 2],
        is_service: false,
        is_node: false,
    };
}

/// Key of the service table: destination as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// Family.
    pub family: Family,
    /// Protocol number.
    pub protocol: u8,
    /// Port.
    pub port: u16,
    /// Address.
    pub address: u128,
}

impl ServiceKey {
    /// The key of the same port on every node: no address of its own.
    pub const fn node(self) -> ServiceKey {
        ServiceKey { address: u128::MAX, family: self.family, protocol: self.protocol, port: self.port }
    }

    /// Whether it is a node port.
    pub const fn is_node(&self) -> bool {
        self.address == u128::MAX
    }
}

/// What a service key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// First of its backends in [`Program::backends`]; those of the key's family only.
    pub first: u32,
    /// Number of backends; 0 = not translated.
    pub count: u32,
    /// Index into [`Program::source_ranges`]; [`NONE`] = any source.
    pub sources: u32,
}

/// A backend of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Address, of the family of the key that led here.
    pub address: u128,
    /// Port.
    pub port: u16,
}

/// Where a rule is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whose rule it is.
    pub layer: Layer,
    /// Name as it is reported; empty for the end of a tier.
    pub policy: String,
    /// Position in the policy's own list of its direction.
    pub index: u32,
    /// Kind of the resource, for prefixes of logs; empty for the end of a tier.
    pub kind: &'static str,
    /// The tier that the policy is in; empty where there are no tiers.
    pub home_tier: String,
    /// The tier that ended, for the end of a tier.
    pub tier: Option<String>,
    /// File and line.
    pub span: Option<Span>,
}

/// How often each rule decided, by worker: one writer each, readable by anybody at any time.
#[derive(Debug, Default)]
pub struct Hits {
    workers: Vec<Box<[AtomicU64]>>,
}

impl Hits {
    /// Zeroes for this many workers and rules.
    pub fn new(workers: usize, rules: usize) -> Hits {
        Hits { workers: (0..workers).map(|_| (0..rules).map(|_| AtomicU64::new(0)).collect()).collect() }
    }

    /// Counts a decision by a rule; only worker `worker` may call this. A load and a store, no locked instruction.
    #[inline]
    pub fn add(&self, worker: WorkerId, rule: RuleId) {
        if let Some(hits) = self.workers.get(worker.index()).and_then(|w| w.get(rule.index())) {
            hits.store(hits.load(Relaxed) + 1, Relaxed);
        }
    }

    /// Packets that a rule decided, all workers.
    pub fn total(&self, rule: RuleId) -> u64 {
        self.workers.iter().filter_map(|w| w.get(rule.index())).map(|hits| hits.load(Relaxed)).sum()
    }
}

/// Everything that is loaded, ready to judge packets.
#[derive(Debug)]
pub struct Program {
    /// Number of this program; 1 for the first of a run.
    pub generation: u64,
    /// The ordered list.
    pub entries: Vec<Entry>,
    /// Which entry matches first.
    pub classifier: Classifier,
    /// Place of each address.
    pub places: Places,
    /// Host endpoints that govern something.
    pub endpoints: Vec<EndpointScopes>,
    /// Names of the endpoints.
    pub endpoint_names: Vec<String>,
    /// The own endpoint of the uplink.
    pub uplink: Option<u32>,
    /// The own endpoint of the downlink.
    pub downlink: Option<u32>,
    /// Service table.
    pub services: HashMap<ServiceKey, ServiceView>,
    /// Backends, grouped by key, ascending by (address, port).
    pub backends: Vec<Backend>,
    /// `loadBalancerSourceRanges`: first and last address by family.
    pub source_ranges: Vec<Vec<(Family, u128, u128)>>,
    /// Where each rule is written.
    pub origins: Vec<Origin>,
    /// GW-31.
    pub default: DefaultVerdict,
    /// GW-22.
    pub fragments: FragmentMode,
    /// Whether any address has a network ACL or any endpoint untracked rules: what is asked for every packet (GW-9).
    pub has_stateless: bool,
    /// How often each rule decided.
    pub hits: Hits,
    /// GW-23: what adopting this program does to flows that exist.
    pub existing_flows: ExistingFlows,
}

impl Program {
    /// The place of an address. Cost: three loads for most IPv4 addresses.
    #[inline]
    pub fn place(&self, family: Family, address: u128) -> &Place {
        self.places.get(family, address)
    }

    /// The scopes of an endpoint.
    #[inline]
    pub fn endpoint(&self, index: u32) -> Option<&EndpointScopes> {
        self.endpoints.get(index as usize)
    }

    /// Where a rule is written.
    pub fn origin(&self, rule: RuleId) -> Option<&Origin> {
        self.origins.get(rule.index())
    }

    /// Rows and bytes of each table that lookups touch.
    pub fn sizes(&self) -> Vec<TableSize> {
        let flat = |name, rows: usize, bytes: usize| TableSize { name, rows, bytes };
        let mut sizes = vec![flat("entries", self.entries.len(), self.entries.len() * size_of::<Entry>())];
        sizes.extend(self.classifier.sizes());
        sizes.push(flat("places", self.places.all().len(), self.places.bytes()));
        let services = self.services.len() * (size_of::<ServiceKey>() + size_of::<ServiceView>());
        sizes.push(flat("services", self.services.len(), services));
        sizes.push(flat("backends", self.backends.len(), self.backends.len() * size_of::<Backend>()));
        sizes
    }

    /// Bytes of memory of the tables that lookups touch.
    pub fn bytes(&self) -> usize {
        self.sizes().iter().map(|table| table.bytes).sum()
    }
}
