//! The published isolation sets of two regions: first, last and just-outside address of every prefix of every rule, with the
//! verdict worked out from the rules' own prefixes and ports; and the same whatever the order of files and documents.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ringwall::base::address::Direction;
use ringwall::packet::PacketSpec;
use ringwall::policy::ir::{Action, Labels, Peer, Policy, PolicyDirection, Port, Rule, RuleSet};
use ringwall::policy::source::Source;

use crate::gateway::{Gateway, files, read_sources, shared};
use crate::random::Dice;

const GATEWAY: &str = "failsafe: none\n";

const PLACES: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker-1-public, labels: { ibm.role: worker_public } }
spec: { node: worker-1, interfaceName: eth1, expectedIPs: [192.0.2.11] }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker-2-public, labels: { ibm.role: worker_public } }
spec: { node: worker-2, interfaceName: eth1, expectedIPs: [192.0.2.12] }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker-1-private, labels: { ibm.role: worker_private } }
spec: { node: worker-1, interfaceName: eth0, expectedIPs: [10.138.1.11] }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker-2-private, labels: { ibm.role: worker_private } }
spec: { node: worker-2, interfaceName: eth0, expectedIPs: [10.138.1.12] }
";

/// Pods: namespace, name, address, labels.
const PODS: [(&str, &str, &str, &str); 6] = [
    ("shop", "web", "172.30.40.1", "app: web"),
    ("shop", "db", "172.30.40.2", "app: db"),
    ("kube-system", "konnectivity", "172.30.40.3", "app: konnectivity-agent"),
    ("openshift-ingress", "router", "172.30.40.4", "app: router"),
    ("openshift-console", "console", "172.30.40.5", "app: console"),
    ("openshift-operator-lifecycle-manager", "olm", "172.30.40.6", "app: olm"),
];

fn inventory() -> String {
    let mut text = PLACES.to_string();
    for (namespace, name, address, labels) in PODS {
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: {namespace}, labels: {{ {labels} }} }}\n\
             spec: {{ containers: [{{ name: c }}] }}\nstatus: {{ phase: Running, podIP: {address} }}\n"
        );
    }
    text
}

fn sources(side: &str, region: &str) -> Option<Vec<Source>> {
    let folder = shared()?.join("corpus/kube-samples/HEAD/calico-policies").join(format!("{side}-network-isolation"));
    let mut sources = files(&folder, &[region]);
    sources.retain(|s| !s.path.contains("hostendpoint"));
    sources.push(Source::new("inventory.yaml", inventory()));
    Some(sources)
}

fn gateway(sources: &[Source]) -> Gateway {
    let (policy, _) = read_sources(sources).unwrap_or_else(|e| panic!("{e:#?}"));
    Gateway::with_policy(GATEWAY, policy)
}

/// One packet of the tables: the endpoint's address and what it sends or receives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Probe {
    is_egress: bool,
    local: Ipv4Addr,
    remote: Ipv4Addr,
    protocol: u8,
    /// Destination port.
    port: u16,
}

impl Probe {
    fn judge(&self, gateway: &mut Gateway) -> crate::gateway::Outcome {
        let (src, dst) = if self.is_egress { (self.local, self.remote) } else { (self.remote, self.local) };
        let base = PacketSpec::new(src.into(), dst.into(), self.protocol);
        let direction = if self.is_egress { Direction::Outbound } else { Direction::Inbound };
        gateway.alone_spec(&PacketSpec { sport: 40_000, dport: self.port, ..base }, direction)
    }
}

/// Everything with an address and labels.
fn known(policy: &Policy) -> Vec<(IpAddr, &Labels, bool)> {
    let hosts = policy.host_endpoints.iter().flat_map(|e| e.addresses.iter().map(|a| (*a, &e.labels, true)));
    let pods = policy.pods.iter().flat_map(|p| p.addresses.iter().map(|a| (*a, &p.labels, false)));
    hosts.chain(pods).collect()
}

fn first_and_last(net: &ipnet::IpNet) -> (u32, u32) {
    let ipnet::IpNet::V4(net) = net else { panic!("{net}: the sets are IPv4") };
    let size = 1u64 << (32 - u32::from(net.prefix_len()));
    let first = u32::from(net.addr());
    (first, (u64::from(first) + size - 1) as u32)
}

/// Whether a side of a rule holds, from its prefixes as numbers.
fn side_holds(policy: &Policy, side: &Peer, address: Ipv4Addr, port: Option<u16>) -> bool {
    let number = u32::from(address);
    let inside = |net: &ipnet::IpNet| {
        let (first, last) = first_and_last(net);
        first <= number && number <= last
    };
    let has_label = |selector: &ringwall::policy::selector::Selector| {
        known(policy).iter().any(|(a, labels, _)| *a == IpAddr::V4(address) && selector.evaluate(labels))
    };
    assert!(side.service.is_none() && side.not_ports.is_empty() && side.not_selector.is_none(), "not in the sets");
    let port_holds = side.ports.is_empty()
        || side.ports.iter().any(|p| match p {
            Port::Range(first, last) => port.is_some_and(|n| *first <= n && n <= *last),
            Port::Named(name) => panic!("named port {name}"),
        });
    (side.nets.is_empty() || side.nets.iter().any(inside))
        && !side.not_nets.iter().any(inside)
        && side.selector.as_ref().is_none_or(has_label)
        && port_holds
}

fn rules(ruleset: &RuleSet, is_egress: bool) -> Option<&[Rule]> {
    ruleset.rules(if is_egress { PolicyDirection::Egress } else { PolicyDirection::Ingress })
}

/// The verdict by the book: policies of the endpoint by order and name, rules in turn, then the end of the tier.
fn expected(policy: &Policy, probe: &Probe) -> (bool, Option<(String, u32)>) {
    let places = known(policy);
    let (_, labels, is_host) = places.iter().find(|(a, ..)| *a == IpAddr::V4(probe.local)).expect("an endpoint");
    let mut governing: Vec<&RuleSet> =
        policy.rulesets.iter().filter(|r| r.selector.evaluate(labels) && rules(r, probe.is_egress).is_some()).collect();
    let order = |r: &RuleSet| r.order.unwrap_or(f64::INFINITY);
    governing.sort_by(|a, b| {
        order(a)
            .total_cmp(&order(b))
            .then_with(|| (&a.name, &a.namespace, a.kind).cmp(&(&b.name, &b.namespace, b.kind)))
    });
    let ported = matches!(probe.protocol, 6 | 17).then_some(probe.port);
    let (source, destination) = if probe.is_egress { (probe.local, probe.remote) } else { (probe.remote, probe.local) };
    for ruleset in &governing {
        for rule in rules(ruleset, probe.is_egress).unwrap_or_default() {
            let holds = rule.protocol.is_none_or(|p| p == probe.protocol)
                && side_holds(policy, &rule.source, source, ported.map(|_| 40_000))
                && side_holds(policy, &rule.destination, destination, ported);
            if holds {
                return (rule.action == Action::Allow, Some((ruleset.display.clone(), rule.index)));
            }
        }
    }
    (governing.is_empty() && !is_host, None)
}

/// Packets at and next to every edge of one rule, for one endpoint.
fn probe_rule(rule: &Rule, is_egress: bool, local: Ipv4Addr, probes: &mut BTreeSet<Probe>) -> usize {
    let remote = if is_egress { &rule.destination } else { &rule.source };
    let ports = &rule.destination.ports;
    let protocols = rule.protocol.map_or(vec![1, 6, 17, 112], |p| vec![p]);
    let mut edges = BTreeSet::new();
    for port in ports {
        let Port::Range(first, last) = port else { continue };
        edges.extend([*first, *last, first.saturating_sub(1).max(1), last.saturating_add(1)]);
    }
    let one_port = match ports.first() {
        Some(Port::Range(first, _)) => *first,
        _ => 9,
    };
    edges.insert(one_port);
    let nets: Vec<&ipnet::IpNet> = remote.nets.iter().chain(&remote.not_nets).collect();
    let mut add = |address: u32, ports: &[u16], protocols: &[u8]| {
        for protocol in protocols {
            let of_protocol = if matches!(protocol, 6 | 17) { ports } else { &[0] };
            probes.extend(of_protocol.iter().map(|port| Probe {
                is_egress,
                local,
                remote: Ipv4Addr::from(address),
                protocol: *protocol,
                port: *port,
            }));
        }
    };
    let all_edges: Vec<u16> = edges.into_iter().collect();
    for (i, net) in nets.iter().enumerate() {
        let (first, last) = first_and_last(net);
        for address in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
            // Every edge of the ports at some prefixes, one port at all.
            let ports = if i % 16 == 0 { all_edges.as_slice() } else { &[one_port] };
            add(address, ports, &protocols);
        }
    }
    add(u32::from(Ipv4Addr::new(198, 51, 100, 7)), &all_edges, &[1, 6, 17, 112]);
    nets.len()
}

/// Probes of a whole set, and how many prefixes they are about.
fn probes(policy: &Policy) -> (BTreeSet<Probe>, usize) {
    let mut found = BTreeSet::new();
    let mut prefixes = 0;
    for ruleset in &policy.rulesets {
        let governed: Vec<Ipv4Addr> = known(policy)
            .iter()
            .filter(|(_, labels, _)| ruleset.selector.evaluate(labels))
            .filter_map(|(a, ..)| if let IpAddr::V4(a) = a { Some(*a) } else { None })
            .collect();
        for is_egress in [false, true] {
            for rule in rules(ruleset, is_egress).unwrap_or_default() {
                for (i, local) in governed.iter().take(2).enumerate() {
                    let count = probe_rule(rule, is_egress, *local, &mut found);
                    prefixes += if i == 0 { count } else { 0 };
                }
                // Every known address as the other end, for selectors.
                for (other, ..) in known(policy) {
                    let (IpAddr::V4(remote), Some(local)) = (other, governed.first()) else { continue };
                    if remote != *local {
                        found.insert(Probe { is_egress, local: *local, remote, protocol: 6, port: 8443 });
                    }
                }
            }
        }
    }
    (found, prefixes)
}

fn check(side: &str, region: &str, fewest_prefixes: usize) {
    let Some(sources) = sources(side, region) else { return };
    let mut gateway = gateway(&sources);
    let (probes, prefixes) = probes(&gateway.policy);
    let mut outcomes: BTreeMap<bool, usize> = BTreeMap::new();
    for probe in &probes {
        let outcome = probe.judge(&mut gateway);
        let (is_allowed, by) = expected(&gateway.policy, probe);
        assert_eq!(
            outcome.is_allowed, is_allowed,
            "{side} {region} {probe:?}: {} but by the book {by:?}",
            outcome.line
        );
        let named = outcome.policy.clone().zip(outcome.rule);
        assert_eq!(named, by, "{side} {region} {probe:?}: {}", outcome.line);
        *outcomes.entry(is_allowed).or_default() += 1;
    }
    println!("{side} {region}: {prefixes} prefixes, {} packets, allowed {outcomes:?}", probes.len());
    assert!(prefixes >= fewest_prefixes, "{side} {region}: {prefixes} prefixes");
    assert!(outcomes.values().all(|n| *n > 500) && outcomes.len() == 2, "{outcomes:?}");
}

#[test]
fn e10_public_us_south() {
    check("public", "us-south", 250);
}

#[test]
fn e10_public_eu_de() {
    check("public", "eu-de", 150);
}

#[test]
fn e10_private_us_south() {
    check("private", "us-south", 350);
}

#[test]
fn e10_private_eu_de() {
    check("private", "eu-de", 150);
}

#[test]
fn e12_the_order_of_files_and_documents_is_free() {
    for (side, region) in [("public", "us-south"), ("private", "eu-de")] {
        let Some(sources) = sources(side, region) else { return };
        let mut first = gateway(&sources);
        let probes: Vec<Probe> = probes(&first.policy).0.into_iter().step_by(11).collect();
        let verdicts: Vec<bool> = probes.iter().map(|probe| probe.judge(&mut first).is_allowed).collect();
        let mut documents: Vec<String> =
            sources.iter().flat_map(|s| s.text.split("\n---").map(|d| format!("\n{d}\n"))).collect();
        for seed in 0..6 {
            let dice = &mut Dice::new(seed);
            for i in (1..documents.len()).rev() {
                documents.swap(i, dice.below(i + 1));
            }
            // Some files with some documents each.
            let shuffled: Vec<Source> = documents
                .chunks(1 + dice.below(5))
                .enumerate()
                .map(|(i, chunk)| Source::new(format!("{}.yaml", 97 * i % 89), chunk.join("\n---")))
                .collect();
            let mut gateway = gateway(&shuffled);
            for (probe, expected) in probes.iter().zip(&verdicts) {
                let outcome = probe.judge(&mut gateway);
                assert_eq!(outcome.is_allowed, *expected, "E12 {side} {region} {seed} {probe:?}: {}", outcome.line);
            }
        }
    }
}
