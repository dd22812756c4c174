//! [`Policy`] in, compiled [`Program`] out; and the slow linear reference that stays forever.
//!
//! The path: [`layout`] says who governs which address, [`list`] puts every rule in one order as [`boxes`], [`scopes`] says which
//! parts of the list each endpoint's stages ask, [`dimensions`] builds the tables that find the first match, [`places`] the
//! tables that find the endpoint.
//!
//! Architecture invariant: this room knows no frames and no flows.

pub mod applies;
pub mod boxes;
pub mod cross;
pub mod cut;
pub mod dimensions;
pub mod label_index;
pub mod layout;
pub mod lint;
pub mod list;
pub mod places;
pub mod population;
pub mod ranges;
pub mod reference;
pub mod scopes;
pub mod split;

use std::collections::{BTreeSet, HashMap};

use crate::base::diagnostic::Diagnostics;
use crate::base::site::{ExistingFlows, FailsafeMode, Site, V1Forward};
use crate::engine::program::classifier::NONE;
use crate::engine::program::{Effect, Hits, Program};
use crate::policy::ir::{FailsafePort, Policy};
pub use dimensions::MEMORY;
use layout::{Layout, is_own};
use scopes::{Governance, HostTraits, Scopes};

/// What a program is compiled with besides policy and site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Number of the program, from 1.
    pub generation: u64,
    /// Workers that will count with it.
    pub workers: usize,
    /// What it does to flows that exist.
    pub existing_flows: ExistingFlows,
    /// Bytes that the look-up tables of rules may take; policies that need more are refused. [`MEMORY`] by default.
    pub memory: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { generation: 1, workers: 1, existing_flows: ExistingFlows::Keep, memory: MEMORY }
    }
}

/// Failsafe ports by default (FS-4): protocol and port, inbound and outbound.
const FAILSAFE_INBOUND: [(u8, u16); 9] =
    [(6, 22), (17, 68), (6, 179), (6, 2379), (6, 2380), (6, 5473), (6, 6443), (6, 6666), (6, 6667)];
const FAILSAFE_OUTBOUND: [(u8, u16); 9] =
    [(17, 53), (17, 67), (6, 179), (6, 2379), (6, 2380), (6, 5473), (6, 6443), (6, 6666), (6, 6667)];

/// The failsafe ports in force, inbound and outbound (FS-4, FS-5).
pub fn failsafe_ports(policy: &Policy) -> [Vec<FailsafePort>; 2] {
    let defaults = |ports: &[(u8, u16)]| {
        ports.iter().map(|&(protocol, port)| FailsafePort { protocol, port, net: None }).collect()
    };
    [
        policy.failsafe_inbound.clone().unwrap_or_else(|| defaults(&FAILSAFE_INBOUND)),
        policy.failsafe_outbound.clone().unwrap_or_else(|| defaults(&FAILSAFE_OUTBOUND)),
    ]
}

/// Compiles. `None` if there are errors in `out`; warnings alone do not stop it.
///
/// Cost: rules × classes they fall in; off the packet line, allocates.
pub fn compile(policy: &Policy, site: &Site, options: &Options, out: &mut Diagnostics) -> Option<Program> {
    let mut findings = Diagnostics::new();
    let layout = layout::layout(policy, site, &mut findings);
    let services = places::services(policy, &layout, &mut findings);
    let has_errors = findings.has_errors();
    out.extend(findings);
    if has_errors {
        return None;
    }

    let [inbound, outbound] = failsafe_ports(policy);
    let (list, blocks) = list::list(policy, &layout.members, [&inbound, &outbound]);

    let mut scopes = Scopes::default();
    let is_legacy = site.v1_forward == V1Forward::Legacy;
    let mut governance = Governance::new(policy, &blocks, is_legacy);
    let mut endpoints = Vec::new();
    let mut endpoint_names = Vec::new();
    let mut numbers = HashMap::new();
    for i in governing_endpoints(&layout) {
        let endpoint = &policy.host_endpoints[i];
        let has_failsafe = match site.failsafe {
            FailsafeMode::Calico => true,
            FailsafeMode::Own => is_own(endpoint, site),
            FailsafeMode::None => false,
        };
        let host = HostTraits {
            labels: &endpoint.labels,
            profiles: &endpoint.profiles,
            has_failsafe,
            is_wildcard: endpoint.interface == "*",
        };
        numbers.insert(i, endpoints.len() as u32);
        endpoints.push(governance.host(host, &mut scopes));
        endpoint_names.push(endpoint.name.clone());
    }
    let places = places::places(policy, &layout, &blocks, &services, &numbers, &mut governance, &mut scopes);
    let has_untracked = endpoints.iter().any(|e| e.untracked_in != NONE || e.untracked_out != NONE);
    let has_acl = places.all().iter().any(|p| p.acl != [NONE; 2]);
    let resumes = |entry: u32| matches!(list.entries[entry as usize].effect, Effect::Log | Effect::Pass);
    let classifier = match dimensions::classifier(&list.matches, &scopes.rows, resumes, options.memory) {
        Ok(classifier) => classifier,
        Err(refusal) => {
            out.push(refusal.diagnostic());
            return None;
        }
    };
    Some(Program {
        generation: options.generation,
        classifier,
        places,
        endpoints,
        endpoint_names,
        uplink: layout.uplink.and_then(|i| numbers.get(&i).copied()),
        downlink: layout.downlink.and_then(|i| numbers.get(&i).copied()),
        services: services.views,
        backends: services.backends,
        source_ranges: services.source_ranges,
        default: site.default,
        fragments: site.fragments,
        has_stateless: has_untracked || has_acl,
        hits: Hits::new(options.workers, list.origins.len()),
        existing_flows: options.existing_flows,
        entries: list.entries,
        origins: list.origins,
    })
}

/// Host endpoints that govern any packet, ascending.
fn governing_endpoints(layout: &Layout) -> BTreeSet<usize> {
    let by_area = layout.areas.iter().filter_map(|a| a.host_endpoint);
    layout.uplink.into_iter().chain(layout.downlink).chain(layout.stand_ins.values().copied()).chain(by_area).collect()
}
