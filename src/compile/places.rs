//! Layout, pods and services in, the [`Place`] of every address and the service table out.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::cut::{Named, cut};
use super::layout::Layout;
use super::list::Blocks;
use super::ranges::AddressSet;
use super::scopes::{Governance, Scopes};
use crate::base::address::{Family, number};
use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::engine::program::classifier::NONE;
use crate::engine::program::places::Places;
use crate::engine::program::{Backend, Place, ServiceKey, ServiceView, StandIn};
use crate::policy::ir::{Policy, Service};

/// Something that holds for a set of addresses.
#[derive(Clone, Copy, Debug)]
enum Fact {
    /// Area and length of the prefix.
    Area { area: usize, net: u32, length: u8 },
    /// Stand-in, index into the program's endpoints.
    StandIn(u32),
    /// Pod scopes.
    Pod([u32; 2]),
    /// Group member.
    Group(usize),
    /// Address of a service.
    Service,
    /// Address of a node.
    Node,
}

/// Builds the places. `endpoint` gives the program's number of a host endpoint by its index in the policy.
pub fn places<'p>(
    policy: &'p Policy,
    layout: &Layout,
    blocks: &Blocks<'p>,
    services: &Table,
    endpoint: &HashMap<usize, u32>,
    governance: &mut Governance<'p>,
    scopes: &mut Scopes,
) -> Places {
    let mut facts: Vec<(Fact, AddressSet)> = Vec::new();
    let mut net = 0;
    for (i, area) in layout.areas.iter().enumerate() {
        for cidr in &area.cidrs {
            let set = AddressSet::of([(cidr.network, cidr.length)]);
            facts.push((Fact::Area { area: i, net, length: cidr.length }, set));
            net += 1;
        }
    }
    for (&address, i) in &layout.stand_ins {
        if let Some(&number) = endpoint.get(i) {
            facts.push((Fact::StandIn(number), AddressSet::of_addresses([&address])));
        }
    }
    for pod in &policy.pods {
        let scopes = governance.pod(&pod.labels, &pod.profiles, scopes);
        facts.push((Fact::Pod(scopes), AddressSet::of_addresses(&pod.addresses)));
    }
    for (i, members) in layout.members.iter().enumerate() {
        facts.push((Fact::Group(i), members.clone()));
    }
    facts.push((Fact::Service, AddressSet::of_addresses(services.addresses.iter())));
    facts.push((Fact::Node, AddressSet::of_addresses(layout.nodes.iter())));

    let mut places = vec![Place::UNKNOWN];
    let mut known = HashMap::from([(Place::UNKNOWN, 0)]);
    let starts = [Family::V4, Family::V6].map(|family| {
        let named = facts.iter().enumerate().map(|(i, (_, set))| (i as u32, set.families[family as usize].pairs()));
        let mut of_class: Vec<u32> = Vec::new();
        let mut each = Named::new(|names: &BTreeSet<u32>| {
            let place = place(names, &facts, layout, blocks, endpoint, scopes);
            of_class.push(*known.entry(place).or_insert_with(|| {
                places.push(place);
                places.len() as u32 - 1
            }));
        });
        let mut starts = cut(named, &mut each).unwrap_or_default();
        starts.iter_mut().for_each(|start| start.1 = of_class[start.1 as usize]);
        starts.dedup_by_key(|start| start.1);
        starts
    });
    Places::new(&starts, places)
}

fn place(
    names: &BTreeSet<u32>,
    facts: &[(Fact, AddressSet)],
    layout: &Layout,
    blocks: &Blocks<'_>,
    endpoint: &HashMap<usize, u32>,
    scopes: &mut Scopes,
) -> Place {
    let mut place = Place::UNKNOWN;
    let mut longest: Option<(u8, usize, u32)> = None;
    let mut groups = Vec::new();
    for &name in names {
        match facts[name as usize].0 {
            Fact::Area { area, net, length } => {
                if longest.is_none_or(|l| length > l.0) {
                    longest = Some((length, area, net));
                }
            }
            Fact::StandIn(number) => place.stand_in = StandIn::Own(number),
            Fact::Pod(scopes) => place.pod = scopes,
            Fact::Group(group) => groups.push(group),
            Fact::Service => place.is_service = true,
            Fact::Node => place.is_node = true,
        }
    }
    if let Some((_, area, net)) = longest {
        let area = &layout.areas[area];
        place.net = net;
        if let Some(acl) = area.acl {
            place.acl = [0, 1].map(|d| scopes.of([blocks.acls[acl][d].clone(), blocks.acl_end.clone()]));
        }
        if let (StandIn::None, Some(i)) = (place.stand_in, area.host_endpoint)
            && let Some(&number) = endpoint.get(&i)
        {
            place.stand_in = StandIn::Segment(number);
        }
    }
    if !groups.is_empty() {
        place.groups = [0, 1].map(|d| {
            let rules = groups.iter().map(|&g| blocks.groups[g][d].clone());
            scopes.of(rules.chain([blocks.group_end.clone()]))
        });
    }
    place
}

/// The service table.
#[derive(Debug, Default)]
pub struct Table {
    /// By key; node ports under [`ServiceKey::node`].
    pub views: HashMap<ServiceKey, ServiceView>,
    /// Backends by key.
    pub backends: Vec<Backend>,
    /// Source ranges.
    pub source_ranges: Vec<Vec<(Family, u128, u128)>>,
    /// Addresses that some key names.
    pub addresses: BTreeSet<IpAddr>,
}

/// Builds the service table (GW-8); services are sorted by (namespace, name), so the first has a key that two claim.
pub fn services(policy: &Policy, layout: &Layout, out: &mut Diagnostics) -> Table {
    let mut table = Table::default();
    let mut owners: HashMap<ServiceKey, &Service> = HashMap::new();
    let families = [Family::V4, Family::V6];
    for service in &policy.services {
        let ranges = AddressSet::of_nets(&service.source_ranges);
        let sources = if service.source_ranges.is_empty() {
            NONE
        } else {
            let pairs =
                families.iter().flat_map(|&f| ranges.families[f as usize].pairs().iter().map(move |p| (f, p.0, p.1)));
            table.source_ranges.push(pairs.collect());
            table.source_ranges.len() as u32 - 1
        };
        for port in &service.ports {
            let mut first_of = [None; 2];
            let mut keys: Vec<(ServiceKey, u32)> = Vec::new();
            let addresses = service.cluster_addresses.iter().map(|a| (a, NONE));
            for (&address, sources) in addresses.chain(service.balancer_addresses.iter().map(|a| (a, sources))) {
                let key = ServiceKey {
                    family: Family::of(address),
                    protocol: port.protocol,
                    port: port.port,
                    address: number(address),
                };
                // A node port that an earlier service, or an earlier port of this one, has on the address stays its own.
                let node_owner = layout.nodes.contains(&address).then(|| owners.get(&ServiceKey::node(key))).flatten();
                match node_owner {
                    Some(owner) if !std::ptr::eq(*owner, service) => clash(service, owner, &key, out),
                    Some(_) => {}
                    None => keys.push((key, sources)),
                }
                table.addresses.insert(address);
            }
            if let Some(node_port) = port.node_port {
                let node = |family| {
                    ServiceKey::node(ServiceKey { family, protocol: port.protocol, port: node_port, address: 0 })
                };
                keys.extend(families.map(|family| (node(family), NONE)));
            }
            for (key, sources) in keys {
                match owners.get(&key) {
                    Some(owner) if !std::ptr::eq(*owner, service) => {
                        if key.family == Family::V4 || !key.is_node() {
                            clash(service, owner, &key, out);
                        }
                        continue;
                    }
                    Some(_) => continue,
                    None => owners.insert(key, service),
                };
                let first = *first_of[key.family as usize].get_or_insert_with(|| {
                    let start = table.backends.len() as u32;
                    let mine = port.backends.iter().filter(|(a, _)| Family::of(*a) == key.family);
                    table.backends.extend(mine.map(|&(a, port)| Backend { address: number(a), port }));
                    (start, table.backends.len() as u32 - start)
                });
                table.views.insert(key, ServiceView { first: first.0, count: first.1, sources });
            }
        }
    }
    table
}

fn clash(service: &Service, owner: &Service, key: &ServiceKey, out: &mut Diagnostics) {
    let place = if key.is_node() {
        format!("node port {}", key.port)
    } else {
        format!("{} port {}", crate::base::address::address(key.family, key.address), key.port)
    };
    let message = format!(
        "service `{}/{}` and service `{}/{}` both claim {place} of protocol {}",
        owner.namespace, owner.name, service.namespace, service.name, key.protocol
    );
    out.push(
        Diagnostic::warning("service-key-clash", message)
            .at(&service.span)
            .about(format!("Service {}/{}", service.namespace, service.name))
            .help(format!("`{}/{}` has it: it is the first by namespace and name", owner.namespace, owner.name)),
    );
}
