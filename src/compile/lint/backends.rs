//! Services with several backends in, a warning for each whose backends get different verdicts out (GW-8).
//!
//! A backend is described by the rules that may be asked about a packet translated to it and whose destination side holds: the
//! rules of the policies that govern its pod, and those of all policies that act on forwarded traffic. Backends of which the
//! descriptions and profiles are equal get equal verdicts for every packet. Where descriptions differ, the linear reference is
//! asked for a packet from an address that no rule names, and from both ends of what the differing rules name as source. So a
//! reported difference is one that packets meet; one that only shows for other sources or source ports is not found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Ground;
use crate::base::address::{Family, number, range};
use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::compile::population::Population;
use crate::compile::reference::{self, Opinion};
use crate::engine::decision::Verdict;
use crate::engine::judge::Standing;
use crate::packet::{Key, KeyBits};
use crate::policy::ir::{Hook, Peer, Policy, PolicyDirection, Port, Rule, Service};

/// Most sources that are tried for one port of a service.
const MOST_SOURCES: usize = 24;

/// Most packets that the reference is asked about in one run; it reads everything that is loaded for each.
const MOST_QUESTIONS: usize = 2_000;

/// A port of a source that no policy is likely to name.
const SOURCE_PORT: u16 = 49_999;

/// An address and a port behind a service.
type Backend = (IpAddr, u16);

/// What decides about packets translated to a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Description {
    /// Numbers of the policies that govern the pod in ingress, and the pod's profiles; `None` without a pod.
    pod: Option<(Vec<usize>, Vec<String>)>,
    /// Policy, direction and position of the rules whose destination side holds.
    rules: BTreeSet<(usize, PolicyDirection, usize)>,
}

/// Warns about services whose backends would get different verdicts.
///
/// Cost: backends × rules that may be asked about them, and up to 2,000 questions to the reference.
pub(super) fn differing(ground: &Ground, out: &mut Diagnostics) {
    let policy = ground.policy;
    let mut view = View::new(ground);
    // One service at a time has a single backend in here.
    let mut trial: Option<Policy> = None;
    let mut questions = 0;
    let mut skipped = 0;
    for (s, service) in policy.services.iter().enumerate() {
        for (p, port) in service.ports.iter().enumerate() {
            for family in [Family::V4, Family::V6] {
                let mine = port.backends.iter().copied().filter(|backend| Family::of(backend.0) == family);
                let mut kinds: BTreeMap<Description, Backend> = BTreeMap::new();
                for backend in mine {
                    kinds.entry(view.description(backend, port.protocol)).or_insert(backend);
                }
                if kinds.len() < 2 {
                    continue;
                }
                let destinations = destinations(ground, service, p, family);
                let sources = view.sources(kinds.keys(), family);
                let trial = trial.get_or_insert_with(|| policy.clone());
                let mut found = None;
                'asking: for &(address, to) in &destinations {
                    for &source in &sources {
                        if questions + kinds.len() > MOST_QUESTIONS {
                            skipped += 1;
                            break 'asking;
                        }
                        questions += kinds.len();
                        let key = Key {
                            src: number(source),
                            dst: number(address),
                            sport: SOURCE_PORT,
                            dport: to,
                            protocol: port.protocol,
                            tcp_flags: 2,
                            bits: KeyBits(KeyBits::L4 | if family == Family::V6 { KeyBits::V6 } else { 0 }),
                            ..Key::EMPTY
                        };
                        let opinions = kinds.values().map(|&backend| {
                            trial.services[s].ports[p].backends = vec![backend];
                            (backend, reference::judge(trial, ground.site, &key, Standing::New))
                        });
                        let opinions: Vec<(Backend, Opinion)> = opinions.collect();
                        let of = |verdict| opinions.iter().find(|opinion| opinion.1.verdict == verdict);
                        if let (Some(allowed), Some(denied)) = (of(Verdict::Allow), of(Verdict::Deny)) {
                            found = Some(report(service, (address, to), source, allowed.0, denied));
                            break 'asking;
                        }
                    }
                }
                trial.services[s].ports[p].backends.clone_from(&port.backends);
                if let Some(finding) = found {
                    out.push(finding);
                }
            }
        }
    }
    if skipped > 0 {
        let message = format!("{skipped} ports of services were not searched for backends with different verdicts");
        out.push(
            Diagnostic::note("backends-not-compared", message).help("too many policies tell their backends apart"),
        );
    }
}

fn report(
    service: &Service,
    destination: Backend,
    source: IpAddr,
    allowed: Backend,
    (denied, opinion): &(Backend, Opinion),
) -> Diagnostic {
    let shown = |(address, port): Backend| match address {
        IpAddr::V4(_) => format!("{address}:{port}"),
        IpAddr::V6(_) => format!("[{address}]:{port}"),
    };
    let by = match (&opinion.rule, &opinion.tier) {
        (Some((policy, rule)), _) => format!("{} by {policy} rule {rule}", opinion.reason.name()),
        (None, Some(tier)) => format!("{} of tier {tier}", opinion.reason.name()),
        (None, None) => opinion.reason.name().to_string(),
    };
    let message = format!(
        "backends of service `{}/{}` get different verdicts: from {source} to {}, {} is allowed and {} denied ({by})",
        service.namespace,
        service.name,
        shown(destination),
        shown(allowed),
        shown(*denied)
    );
    Diagnostic::warning("backend-verdicts-differ", message)
        .at(&service.span)
        .about(format!("Service {}/{}", service.namespace, service.name))
        .help("a new connection passes only if every backend would get it: let policies select all pods of the service alike")
}

/// One address and port of each kind by which the service is reached: load balancer, cluster, node.
fn destinations(ground: &Ground, service: &Service, port: usize, family: Family) -> Vec<Backend> {
    let Some(port) = service.ports.get(port) else { return Vec::new() };
    let is_mine = |address: &&IpAddr| Family::of(**address) == family;
    let balancer = service.balancer_addresses.iter().find(is_mine).map(|&a| (a, port.port));
    let cluster = service.cluster_addresses.iter().find(is_mine).map(|&a| (a, port.port));
    let node = ground.layout.nodes.iter().find(is_mine).zip(port.node_port).map(|(&a, n)| (a, n));
    [balancer, cluster, node].into_iter().flatten().collect()
}

/// Pods by address and the policies that govern them.
struct View<'g, 'p> {
    ground: &'g Ground<'p>,
    population: Population<'p>,
    /// Index into [`Ground::pods`], and the pod's profiles.
    pods: BTreeMap<IpAddr, (usize, &'p [String])>,
    /// Numbers of governing policies, by index into [`Ground::pods`].
    governing: Vec<Vec<usize>>,
    /// Numbers of the policies that act on forwarded traffic.
    forward: Vec<usize>,
    /// Services, for rules that name one.
    backends: BTreeMap<(&'p str, &'p str), BTreeSet<(u8, Backend)>>,
}

impl<'g, 'p> View<'g, 'p> {
    fn new(ground: &'g Ground<'p>) -> View<'g, 'p> {
        let policy = ground.policy;
        let all = ground.pods.iter().enumerate().flat_map(|(i, (_, pods))| pods.iter().map(move |pod| (i, *pod)));
        let pods =
            all.flat_map(|(i, pod)| pod.addresses.iter().map(move |&a| (a, (i, pod.profiles.as_slice())))).collect();
        let hook = |n: usize| ground.hook(&policy.rulesets[n]);
        let governs = |n: usize, pod: usize| {
            matches!(hook(n), Hook::Normal | Hook::NormalAndForward)
                && policy.rulesets[n].ingress.is_some()
                && ground.selected[n].pods.contains(&pod)
        };
        let numbers = 0..policy.rulesets.len();
        let governing =
            (0..ground.pods.len()).map(|pod| numbers.clone().filter(|&n| governs(n, pod)).collect()).collect();
        let forward = numbers.filter(|&n| hook(n) == Hook::NormalAndForward).collect();
        let mut backends: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for service in &policy.services {
            let known = backends.entry((service.namespace.as_str(), service.name.as_str())).or_default();
            known.extend(service.ports.iter().flat_map(|p| p.backends.iter().map(|&backend| (p.protocol, backend))));
        }
        View { ground, population: Population::new(policy), pods, governing, forward, backends }
    }

    fn description(&mut self, backend: Backend, protocol: u8) -> Description {
        let pod = self.pods.get(&backend.0).copied();
        let workload: &[usize] = pod.map_or(&[], |(kind, _)| &self.governing[kind]);
        let asked = workload.iter().map(|&n| (n, PolicyDirection::Ingress));
        let both = [PolicyDirection::Ingress, PolicyDirection::Egress];
        let forward = self.forward.iter().flat_map(|&n| both.map(|direction| (n, direction)));
        let rules = asked.chain(forward).flat_map(|(n, direction)| {
            let list = self.ground.policy.rulesets[n].rules(direction).unwrap_or_default();
            list.iter().enumerate().map(move |(at, rule)| (n, direction, at, rule))
        });
        let holding = rules.filter(|(_, _, _, rule)| self.holds(rule, backend, protocol));
        Description {
            pod: pod.map(|(_, profiles)| (workload.to_vec(), profiles.to_vec())),
            rules: holding.map(|(n, direction, at, _)| (n, direction, at)).collect(),
        }
    }

    /// Whether the protocol and the destination side of a rule hold for packets to a backend.
    fn holds(&self, rule: &'p Rule, backend: Backend, protocol: u8) -> bool {
        let (address, port) = backend;
        let family = Family::of(address);
        let Peer { nets, not_nets, selector, not_selector, ports, not_ports, service } = &rule.destination;
        let is_in = |selector| self.population.select(selector).families[family as usize].contains(number(address));
        let is_port = |listed: &'p Port, selector| match listed {
            Port::Range(first, last) => (*first..=*last).contains(&port),
            Port::Named(name) => {
                let declared = self.population.declared(name, selector);
                declared.get(&(protocol, port)).is_some_and(|s| s.families[family as usize].contains(number(address)))
            }
        };
        let serves = |(namespace, name): &(String, String)| {
            let known = self.backends.get(&(namespace.as_str(), name.as_str()));
            known.is_some_and(|known| known.contains(&(protocol, backend)))
        };
        rule.family.is_none_or(|f| f == family)
            && rule.protocol.is_none_or(|n| n == protocol)
            && rule.not_protocol.is_none_or(|n| n != protocol)
            && (nets.is_empty() || nets.iter().any(|net| net.contains(&address)))
            && !not_nets.iter().any(|net| net.contains(&address))
            && selector.as_ref().is_none_or(is_in)
            && !not_selector.as_ref().is_some_and(is_in)
            && (ports.is_empty() || ports.iter().any(|listed| is_port(listed, selector.as_ref())))
            && !not_ports.iter().any(|listed| is_port(listed, None))
            && service.as_ref().is_none_or(serves)
    }

    /// Sources that the backends may be told apart by: an address that hardly any rule names, and both ends of what the rules
    /// that hold for some of the backends only name.
    fn sources<'k>(&self, kinds: impl Iterator<Item = &'k Description> + Clone, family: Family) -> Vec<IpAddr> {
        let unknown = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x77)),
        };
        let mut sources = vec![unknown];
        let all: BTreeSet<_> = kinds.clone().flat_map(|kind| kind.rules.iter().copied()).collect();
        let differing = all.into_iter().filter(|rule| !kinds.clone().all(|kind| kind.rules.contains(rule)));
        let mut add = |first: u128, last: u128| {
            for number in [first, last] {
                let source = crate::base::address::address(family, number);
                if sources.len() < MOST_SOURCES && !sources.contains(&source) {
                    sources.push(source);
                }
            }
        };
        for (n, direction, at) in differing {
            let rules = self.ground.policy.rulesets[n].rules(direction).unwrap_or_default();
            let Some(rule) = rules.get(at) else { continue };
            for net in rule.source.nets.iter().chain(&rule.source.not_nets).filter(|n| Family::of(n.addr()) == family) {
                let (first, last) = range(net.addr(), net.prefix_len());
                add(first, last);
            }
            for selector in rule.source.selector.iter().chain(&rule.source.not_selector) {
                for &(first, last) in self.population.select(selector).families[family as usize].pairs().iter().take(4)
                {
                    add(first, last);
                }
            }
        }
        sources
    }
}
