//! The site and the policy's endpoints in, who governs which address out: own endpoints, stand-ins, segments, members (GW-3 to
//! GW-7, GW-13).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::cut::{Named, cut};
use super::ranges::{AddressSet, Ranges};
use crate::base::address::Family;
use crate::base::diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean};
use crate::base::site::{Cidr, Site};
use crate::policy::ir::{HostEndpoint, Policy};

/// A segment of the gateway file or a loaded subnet, with names resolved.
#[derive(Clone, Debug)]
pub struct Area {
    /// Its prefixes.
    pub cidrs: Vec<Cidr>,
    /// Index into [`Policy::acls`].
    pub acl: Option<usize>,
    /// Indices into [`Policy::groups`], ascending.
    pub groups: Vec<usize>,
    /// Index into [`Policy::host_endpoints`].
    pub host_endpoint: Option<usize>,
    /// Addresses for which it is the longest match.
    pub region: AddressSet,
}

/// Who governs what.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Own endpoint of the uplink, index into [`Policy::host_endpoints`].
    pub uplink: Option<usize>,
    /// Own endpoint of the downlink.
    pub downlink: Option<usize>,
    /// Stand-ins by address.
    pub stand_ins: BTreeMap<IpAddr, usize>,
    /// Segments and subnets.
    pub areas: Vec<Area>,
    /// Members of each group, by index into [`Policy::groups`].
    pub members: Vec<AddressSet>,
    /// Node addresses: of nodes and of stand-ins (GW-8).
    pub nodes: BTreeSet<IpAddr>,
}

/// Whether an endpoint belongs to the box itself (GW-4).
pub fn is_own(endpoint: &HostEndpoint, site: &Site) -> bool {
    site.node.as_ref().is_some_and(|node| *node == endpoint.node)
}

/// Lays out the endpoints; findings go to `out`.
pub fn layout(policy: &Policy, site: &Site, out: &mut Diagnostics) -> Layout {
    let mut layout = Layout::default();
    own_endpoints(policy, site, &mut layout, out);
    stand_ins(policy, site, &mut layout, out);
    areas(policy, site, &mut layout, out);
    members(policy, site, &mut layout, out);
    layout.nodes = policy.node_addresses.iter().copied().collect();
    let stand_ins = policy.host_endpoints.iter().filter(|e| !is_own(e, site));
    layout.nodes.extend(stand_ins.flat_map(|e| &e.addresses).copied());
    layout
}

fn own_endpoints(policy: &Policy, site: &Site, layout: &mut Layout, out: &mut Diagnostics) {
    // Host endpoints are sorted by name, so the first that fits is the active one (HEP-1).
    let own: Vec<usize> =
        (0..policy.host_endpoints.len()).filter(|&i| is_own(&policy.host_endpoints[i], site)).collect();
    for &i in &own {
        let endpoint = &policy.host_endpoints[i];
        if endpoint.interface.is_empty() {
            let message = format!("host endpoint `{}` is on this gateway's node but names no interface", endpoint.name);
            out.push(
                Diagnostic::error("own-endpoint-without-interface", message)
                    .at(&endpoint.span)
                    .about(format!("HostEndpoint {}", endpoint.name))
                    .help("set `spec.interfaceName` to the uplink's or downlink's interface, or to `*`"),
            );
        }
    }
    let pick = |port: &Option<String>| {
        let named = own.iter().find(|&&i| port.as_ref() == Some(&policy.host_endpoints[i].interface));
        named.or_else(|| own.iter().find(|&&i| policy.host_endpoints[i].interface == "*")).copied()
    };
    layout.uplink = pick(&site.uplink);
    layout.downlink = pick(&site.downlink);
    for &i in &own {
        let endpoint = &policy.host_endpoints[i];
        if !endpoint.interface.is_empty() && layout.uplink != Some(i) && layout.downlink != Some(i) {
            let message = format!(
                "host endpoint `{}` governs nothing: no port uses interface `{}`, or another endpoint of it sorts first",
                endpoint.name, endpoint.interface
            );
            out.push(Diagnostic::warning("own-endpoint-unused", message).at(&endpoint.span));
        }
    }
}

fn stand_ins(policy: &Policy, site: &Site, layout: &mut Layout, out: &mut Diagnostics) {
    for (i, endpoint) in policy.host_endpoints.iter().enumerate().filter(|(_, e)| !is_own(e, site)) {
        for &address in &endpoint.addresses {
            match layout.stand_ins.get(&address) {
                None => {
                    layout.stand_ins.insert(address, i);
                }
                Some(&active) if active != i => {
                    let active = &policy.host_endpoints[active].name;
                    let message =
                        format!("host endpoint `{}` claims {address}, which `{active}` has already", endpoint.name);
                    out.push(
                        Diagnostic::warning("duplicate-stand-in-address", message)
                            .at(&endpoint.span)
                            .help("the endpoint whose name sorts first is active for the address"),
                    );
                }
                Some(_) => {}
            }
        }
    }
}

/// An index by name, or by another key, with an error that suggests.
fn find<'a>(
    what: &'static str,
    code: &'static str,
    wanted: &str,
    span: Option<&Span>,
    names: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    out: &mut Diagnostics,
) -> Option<usize> {
    let found = names.clone().position(|(name, id)| name == wanted || (!id.is_empty() && id == wanted));
    if found.is_none() {
        let mut error = Diagnostic::error(code, format!("no {what} `{wanted}` is loaded"));
        error.span = span.cloned();
        let all: Vec<&str> = names.map(|(name, _)| name).collect();
        let near = did_you_mean(wanted, all.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let list = || {
            if all.is_empty() { "load one with `policy:`".to_string() } else { format!("loaded: {}", all.join(", ")) }
        };
        out.push(error.help(near.unwrap_or_else(list)));
    }
    found
}

fn areas(policy: &Policy, site: &Site, layout: &mut Layout, out: &mut Diagnostics) {
    for segment in &site.segments {
        let span = segment.span.as_ref();
        let host_endpoint = segment.host_endpoint.as_ref().and_then(|name| {
            let names = policy.host_endpoints.iter().map(|e| (e.name.as_str(), ""));
            let found = find("host endpoint", "unknown-host-endpoint", name, span, names, out)?;
            if is_own(&policy.host_endpoints[found], site) {
                let message = format!("segment `{}` names host endpoint `{name}` of this gateway itself", segment.name);
                let mut error = Diagnostic::error("own-endpoint-as-segment-default", message);
                error.span = span.cloned();
                out.push(
                    error.help("name the host endpoint of a worker: one whose `spec.node` is not this gateway's node"),
                );
                return None;
            }
            Some(found)
        });
        let acl = segment.network_acl.as_ref().and_then(|name| {
            let names = policy.acls.iter().map(|a| (a.name.as_str(), a.id.as_str()));
            find("network ACL", "unknown-network-acl", name, span, names, out)
        });
        let mut groups: Vec<usize> = segment
            .security_groups
            .iter()
            .filter_map(|name| {
                let names = policy.groups.iter().map(|g| (g.name.as_str(), g.id.as_str()));
                find("security group", "unknown-security-group", name, span, names, out)
            })
            .collect();
        groups.sort_unstable();
        groups.dedup();
        let cidrs = segment.cidrs.clone();
        layout.areas.push(Area { cidrs, acl, groups, host_endpoint, region: AddressSet::default() });
    }
    for (i, subnet) in policy.subnets.iter().enumerate() {
        let cidr = Cidr { network: subnet.cidr.network(), length: subnet.cidr.prefix_len() };
        let shadowing = site.segments.iter().find(|s| s.cidrs.contains(&cidr));
        if let Some(segment) = shadowing {
            let message = format!(
                "segment `{}` takes the place of subnet `{}`, whose ACL has no effect",
                segment.name, subnet.name
            );
            out.push(Diagnostic::warning("segment-shadows-subnet", message).at(&subnet.span));
            continue;
        }
        // Prefixes are unique inside a VPC only. Subnets are sorted by name, so the first one has the prefix.
        if let Some(first) = policy.subnets.iter().take(i).find(|other| other.cidr == subnet.cidr) {
            if first.acl != subnet.acl {
                let message = format!(
                    "subnets `{}` and `{}` both have the prefix {}: ACL `{}` of `{}` has no effect",
                    first.name, subnet.name, subnet.cidr, subnet.acl, subnet.name
                );
                let help = "load only the VPC behind this gateway, or name the ACL in a segment with this prefix";
                out.push(Diagnostic::warning("duplicate-subnet-prefix", message).at(&subnet.span).help(help));
            }
            continue;
        }
        let acl = policy.acls.iter().position(|a| a.name == subnet.acl);
        layout.areas.push(Area {
            cidrs: vec![cidr],
            acl,
            groups: Vec::new(),
            host_endpoint: None,
            region: AddressSet::default(),
        });
    }
    for family in [Family::V4, Family::V6] {
        let cidrs: Vec<(usize, Cidr)> = layout
            .areas
            .iter()
            .enumerate()
            .flat_map(|(i, area)| area.cidrs.iter().map(move |&c| (i, c)))
            .filter(|(_, cidr)| Family::of(cidr.network) == family)
            .collect();
        let ranges: Vec<[(u128, u128); 1]> =
            cidrs.iter().map(|(_, c)| [crate::base::address::range(c.network, c.length)]).collect();
        let named = ranges.iter().enumerate().map(|(i, r)| (i as u32, &r[..]));
        let none = u32::MAX;
        let longest = |names: &BTreeSet<u32>| {
            names.iter().max_by_key(|&&n| cidrs[n as usize].1.length).map_or(none, |&n| cidrs[n as usize].0 as u32)
        };
        let mut areas: Vec<u32> = Vec::new();
        let starts = cut(named, &mut Named::new(|names| areas.push(longest(names)))).unwrap_or_default();
        for (at, &(start, class)) in starts.iter().enumerate() {
            let area = areas[class as usize];
            if let Some(area) = layout.areas.get_mut(area as usize) {
                let last = starts.get(at + 1).map_or(family.max(), |next| next.0 - 1);
                let mut pairs = area.region.families[family as usize].pairs().to_vec();
                pairs.push((start, last));
                area.region.families[family as usize] = Ranges::new(pairs);
            }
        }
    }
}

fn members(policy: &Policy, site: &Site, layout: &mut Layout, out: &mut Diagnostics) {
    let mut listed: Vec<AddressSet> =
        policy.groups.iter().map(|group| AddressSet::of_addresses(&group.members)).collect();
    for (name, addresses) in &site.security_group_members {
        let names = policy.groups.iter().map(|g| (g.name.as_str(), g.id.as_str()));
        if let Some(at) = find("security group", "unknown-security-group", name, None, names, out) {
            listed[at] = AddressSet::union([&listed[at], &AddressSet::of_addresses(addresses)]);
        }
    }
    layout.members = listed
        .into_iter()
        .enumerate()
        .map(|(i, set)| {
            let regions = layout.areas.iter().filter(|a| a.groups.contains(&i)).map(|a| &a.region);
            AddressSet::union(regions.chain([&set]))
        })
        .collect();
}
