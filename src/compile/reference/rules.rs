//! One packet and one rule in, whether it matches out, criterion by criterion (section 6, 15.2).

use std::net::IpAddr;

use ipnet::IpNet;

use super::Reference;
use crate::base::address::Family;
use crate::policy::ir::{FailsafePort, Icmp, Labels, NamedPort, Peer, Port, Rule};

impl Reference<'_> {
    /// Whether something with matching labels has the address.
    pub(super) fn is_selected(&self, address: IpAddr, matches: impl Fn(&Labels) -> bool) -> bool {
        self.policy.pods.iter().any(|p| p.addresses.contains(&address) && matches(&p.labels))
            || self.policy.host_endpoints.iter().any(|e| e.addresses.contains(&address) && matches(&e.labels))
            || self
                .policy
                .network_sets
                .iter()
                .any(|s| s.nets.iter().any(|n| n.contains(&address)) && matches(&s.labels))
    }

    pub(super) fn declares(
        &self,
        address: IpAddr,
        name: &str,
        protocol: u8,
        port: u16,
        matches: impl Fn(&Labels) -> bool,
    ) -> bool {
        let has =
            |ports: &[NamedPort]| ports.iter().any(|p| p.name == name && p.protocol == protocol && p.port == port);
        self.policy.pods.iter().any(|p| p.addresses.contains(&address) && has(&p.ports) && matches(&p.labels))
            || self
                .policy
                .host_endpoints
                .iter()
                .any(|e| e.addresses.contains(&address) && has(&e.ports) && matches(&e.labels))
    }

    pub(super) fn rule_matches(&self, rule: &Rule) -> bool {
        let p = &self.packet;
        let implied = match rule.protocol {
            Some(1) => Some(Family::V4),
            Some(58) => Some(Family::V6),
            _ => None,
        };
        rule.family.or(implied).is_none_or(|f| f == p.family)
            && rule.protocol.is_none_or(|n| n == p.protocol)
            && rule.not_protocol.is_none_or(|n| n != p.protocol)
            && rule.icmp.is_none_or(|i| p.has_l4 && icmp_is(i, p.dport))
            && rule.not_icmp.is_none_or(|i| !self.is_icmp() || (p.has_l4 && !icmp_is(i, p.dport)))
            && self.peer_matches(&rule.source, p.src, p.sport, true)
            && self.peer_matches(&rule.destination, p.dst, p.dport, false)
    }

    pub(super) fn is_icmp(&self) -> bool {
        matches!((self.packet.family, self.packet.protocol), (Family::V4, 1) | (Family::V6, 58))
    }

    pub(super) fn peer_matches(&self, peer: &Peer, address: IpAddr, port: u16, is_source: bool) -> bool {
        let protocol = self.packet.protocol;
        let in_selector = |labels: &Labels| peer.selector.as_ref().is_none_or(|s| s.evaluate(labels));
        let has_ports = self.packet.has_l4 && matches!(protocol, 6 | 17 | 132);
        let is_port = |listed: &Port, restricted: bool| match listed {
            Port::Range(first, last) => (*first..=*last).contains(&port),
            Port::Named(name) => self.declares(address, name, protocol, port, |l| !restricted || in_selector(l)),
        };
        let is_of_family = |n: &IpNet| Family::of(n.network()) == self.packet.family;
        (peer.nets.is_empty() || peer.nets.iter().any(|n| n.contains(&address)))
            && (peer.not_nets.is_empty() || peer.not_nets.iter().any(is_of_family))
            && !peer.not_nets.iter().any(|n| n.contains(&address))
            && peer.selector.as_ref().is_none_or(|s| self.is_selected(address, |l| s.evaluate(l)))
            && !peer.not_selector.as_ref().is_some_and(|s| self.is_selected(address, |l| s.evaluate(l)))
            && (peer.ports.is_empty() || (has_ports && peer.ports.iter().any(|p| is_port(p, true))))
            && (peer.not_ports.is_empty() || (has_ports && !peer.not_ports.iter().any(|p| is_port(p, false))))
            && peer.service.as_ref().is_none_or(|name| self.is_backend(name, address, port, is_source))
    }

    pub(super) fn is_backend(&self, name: &(String, String), address: IpAddr, port: u16, is_source: bool) -> bool {
        let services = self.policy.services.iter().filter(|s| (&s.namespace, &s.name) == (&name.0, &name.1));
        services.flat_map(|s| &s.ports).any(|p| {
            p.backends.iter().any(|&(a, n)| {
                a == address && (is_source || (self.packet.has_l4 && n == port && p.protocol == self.packet.protocol))
            })
        })
    }

    pub(super) fn is_failsafe(&self, ports: &[FailsafePort], inbound: bool, is_mirror: bool) -> bool {
        let p = &self.packet;
        let (net_side, port) = match (inbound, is_mirror) {
            (true, false) => (p.src, p.dport),
            (true, true) => (p.dst, p.sport),
            (false, false) => (p.dst, p.dport),
            (false, true) => (p.src, p.sport),
        };
        p.has_l4
            && ports
                .iter()
                .any(|f| f.protocol == p.protocol && f.port == port && f.net.is_none_or(|n| n.contains(&net_side)))
    }
}

pub(super) fn icmp_is(icmp: Icmp, type_and_code: u16) -> bool {
    u16::from(icmp.kind) == type_and_code >> 8 && icmp.code.is_none_or(|code| u16::from(code) == type_and_code & 0xff)
}
