//! Everything that has labels and addresses in, sets of addresses by selector out (ID-5).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use ipnet::IpNet;

use super::label_index::LabelIndex;
use super::ranges::AddressSet;
use crate::policy::ir::{Labels, NamedPort, Peer, Policy};
use crate::policy::selector::Selector;

/// Addresses that declare a named port, by (protocol, port).
pub type Declared = BTreeMap<(u8, u16), Rc<AddressSet>>;

/// What a peer says of addresses, for finding out that another says the same.
type Criteria<'p> = (&'p [IpNet], &'p [IpNet], Option<&'p Selector>, Option<&'p Selector>);

/// Name of a port, and among which endpoints to look for it.
type PortQuestion<'p> = (&'p str, Option<&'p Selector>);

/// Things with equal labels: a selector is evaluated once for all of them.
#[derive(Debug, Default)]
struct Kin<'p> {
    addresses: Vec<AddressSet>,
    ports: Vec<(&'p NamedPort, AddressSet)>,
}

/// Pods, host endpoints and network sets, grouped by their labels. Sets that were asked for once are kept and shared: many
/// policies ask for the same.
#[derive(Debug)]
pub struct Population<'p> {
    kin: Vec<Kin<'p>>,
    index: LabelIndex<'p>,
    sets: RefCell<HashMap<Selector, Rc<AddressSet>>>,
    peers: RefCell<HashMap<Criteria<'p>, Option<Rc<AddressSet>>>>,
    declared: RefCell<HashMap<PortQuestion<'p>, Rc<Declared>>>,
}

impl<'p> Population<'p> {
    /// Groups what the policy knows.
    pub fn new(policy: &'p Policy) -> Population<'p> {
        let mut numbers: HashMap<&'p Labels, usize> = HashMap::new();
        let mut labels: Vec<&'p Labels> = Vec::new();
        let mut kin: Vec<Kin<'p>> = Vec::new();
        let mut add = |of: &'p Labels, addresses: AddressSet, ports: &'p [NamedPort]| {
            let number = *numbers.entry(of).or_insert_with(|| {
                labels.push(of);
                kin.push(Kin::default());
                kin.len() - 1
            });
            if let Some(kin) = kin.get_mut(number) {
                kin.ports.extend(ports.iter().map(|port| (port, addresses.clone())));
                kin.addresses.push(addresses);
            }
        };
        for pod in &policy.pods {
            add(&pod.labels, AddressSet::of_addresses(&pod.addresses), &pod.ports);
        }
        for endpoint in &policy.host_endpoints {
            add(&endpoint.labels, AddressSet::of_addresses(&endpoint.addresses), &endpoint.ports);
        }
        for set in &policy.network_sets {
            add(&set.labels, AddressSet::of_nets(&set.nets), &[]);
        }
        for kin in &mut kin {
            kin.addresses = vec![AddressSet::union(&kin.addresses)];
        }
        Population {
            kin,
            index: LabelIndex::new(labels),
            sets: RefCell::default(),
            peers: RefCell::default(),
            declared: RefCell::default(),
        }
    }

    /// The things whose labels match; all without a selector.
    fn matching(&self, selector: Option<&Selector>) -> impl Iterator<Item = &Kin<'p>> {
        let numbers = match selector {
            Some(selector) => self.index.matching(selector),
            None => (0..self.kin.len() as u32).collect(),
        };
        numbers.into_iter().filter_map(|number| self.kin.get(number as usize))
    }

    /// The addresses of everything whose labels match; empty if nothing does (ID-7).
    pub fn select(&self, selector: &Selector) -> Rc<AddressSet> {
        if let Some(known) = self.sets.borrow().get(selector) {
            return Rc::clone(known);
        }
        let set = Rc::new(AddressSet::union(self.matching(Some(selector)).flat_map(|kin| &kin.addresses)));
        self.sets.borrow_mut().insert(selector.clone(), Rc::clone(&set));
        set
    }

    /// The addresses that a peer's prefixes and selectors leave; `None` if it has neither.
    pub fn addresses(&self, peer: &'p Peer) -> Option<Rc<AddressSet>> {
        let key: Criteria<'p> = (&peer.nets, &peer.not_nets, peer.selector.as_ref(), peer.not_selector.as_ref());
        if let Some(known) = self.peers.borrow().get(&key) {
            return known.clone();
        }
        let mut addresses = peer.selector.as_ref().map(|selector| self.select(selector));
        if !peer.nets.is_empty() {
            addresses = Some(both(addresses, &Rc::new(AddressSet::of_nets(&peer.nets))));
        }
        let excluded = [
            (!peer.not_nets.is_empty()).then(|| Rc::new(AddressSet::of_nets(&peer.not_nets))),
            peer.not_selector.as_ref().map(|selector| self.select(selector)),
        ];
        for excluded in excluded.into_iter().flatten() {
            addresses = Some(Rc::new(match addresses {
                Some(addresses) => addresses.minus(&excluded),
                None => AddressSet::all().minus(&excluded),
            }));
        }
        self.peers.borrow_mut().insert(key, addresses.clone());
        addresses
    }

    /// Where a named port is, among the endpoints that match (RM-5).
    pub fn declared(&self, name: &'p str, selector: Option<&'p Selector>) -> Rc<Declared> {
        if let Some(known) = self.declared.borrow().get(&(name, selector)) {
            return Rc::clone(known);
        }
        let mut found: BTreeMap<(u8, u16), Vec<&AddressSet>> = BTreeMap::new();
        for kin in self.matching(selector) {
            for (port, addresses) in kin.ports.iter().filter(|(port, _)| port.name == name) {
                found.entry((port.protocol, port.port)).or_default().push(addresses);
            }
        }
        let unions = found.into_iter().map(|(key, sets)| (key, Rc::new(AddressSet::union(sets))));
        let declared: Rc<Declared> = Rc::new(unions.collect());
        self.declared.borrow_mut().insert((name, selector), Rc::clone(&declared));
        declared
    }
}

/// What lies in both, where no set at all stands for every address.
pub fn both(a: Option<Rc<AddressSet>>, b: &Rc<AddressSet>) -> Rc<AddressSet> {
    match a {
        Some(a) if !Rc::ptr_eq(&a, b) => Rc::new(a.intersect(b)),
        _ => Rc::clone(b),
    }
}
