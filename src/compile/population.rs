//! Everything that has labels and addresses in, sets of addresses by selector out (ID-5).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::ranges::AddressSet;
use crate::policy::ir::{Labels, NamedPort, Policy};
use crate::policy::selector::Selector;

/// Addresses that declare a named port, by (protocol, port).
pub type Declared = BTreeMap<(u8, u16), AddressSet>;

/// Things with equal labels: a selector is evaluated once for all of them.
#[derive(Debug, Default)]
struct Kin<'p> {
    addresses: Vec<AddressSet>,
    ports: Vec<(&'p NamedPort, AddressSet)>,
}

/// Pods, host endpoints and network sets, grouped by their labels.
#[derive(Debug)]
pub struct Population<'p> {
    kin: Vec<(&'p Labels, Kin<'p>)>,
    sets: RefCell<HashMap<Selector, Rc<AddressSet>>>,
}

impl<'p> Population<'p> {
    /// Groups what the policy knows.
    pub fn new(policy: &'p Policy) -> Population<'p> {
        let mut kin: BTreeMap<&'p Labels, Kin<'p>> = BTreeMap::new();
        let mut add = |labels: &'p Labels, addresses: AddressSet, ports: &'p [NamedPort]| {
            let kin = kin.entry(labels).or_default();
            kin.ports.extend(ports.iter().map(|port| (port, addresses.clone())));
            kin.addresses.push(addresses);
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
        let kin = kin.into_iter().map(|(labels, mut kin)| {
            kin.addresses = vec![AddressSet::union(&kin.addresses)];
            (labels, kin)
        });
        Population { kin: kin.collect(), sets: RefCell::default() }
    }

    /// The addresses of everything whose labels match; empty if nothing does (ID-7). Kept for the next rule that asks.
    pub fn select(&self, selector: &Selector) -> Rc<AddressSet> {
        if let Some(known) = self.sets.borrow().get(selector) {
            return Rc::clone(known);
        }
        let matching = self.kin.iter().filter(|(labels, _)| selector.evaluate(labels));
        let set = Rc::new(AddressSet::union(matching.flat_map(|(_, kin)| &kin.addresses)));
        self.sets.borrow_mut().insert(selector.clone(), Rc::clone(&set));
        set
    }

    /// Where a named port is, among the endpoints that match (RM-5).
    pub fn declared(&self, name: &str, selector: Option<&Selector>) -> Declared {
        let mut found: BTreeMap<(u8, u16), Vec<&AddressSet>> = BTreeMap::new();
        for (labels, kin) in &self.kin {
            if kin.ports.is_empty() || selector.is_some_and(|s| !s.evaluate(labels)) {
                continue;
            }
            for (port, addresses) in kin.ports.iter().filter(|(port, _)| port.name == name) {
                found.entry((port.protocol, port.port)).or_default().push(addresses);
            }
        }
        found.into_iter().map(|(key, sets)| (key, AddressSet::union(sets))).collect()
    }
}
