//! The slow, obvious evaluator: a policy, a site and a packet in, an opinion out, by reading every rule in order.
//!
//! It shares no table and no shortcut with the compiled program and stays forever as its oracle. Each packet looks up every
//! label of everything again; nothing is prepared.

mod lists;
mod rules;

use std::net::IpAddr;

use ipnet::IpNet;

use super::layout::is_own;
use crate::base::address::{Direction, Family, address};
use crate::base::site::{DefaultVerdict, FailsafeMode, Segment, Site};
use crate::engine::decision::{FlowState, Reason, Stage, Verdict};
use crate::engine::judge::{Standing, Track};
use crate::packet::{Key, KeyBits};
use crate::policy::ir::{HostEndpoint, NetworkAcl, Pod, Policy, PolicyDirection, SecurityGroup};

/// What the reference thinks of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Allow or deny.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Where.
    pub stage: Stage,
    /// Policy and index of the rule that decided.
    pub rule: Option<(String, u32)>,
    /// The tier that ended.
    pub tier: Option<String>,
    /// Log actions executed.
    pub logs: u8,
    /// What the flow table is told.
    pub flow: FlowState,
    /// What is to be remembered.
    pub track: Track,
}

#[derive(Clone, Copy)]
struct Packet {
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
    protocol: u8,
    has_l4: bool,
    family: Family,
}

/// What a list of rules came to.
enum End {
    Allowed,
    Accepted,
    Undecided,
}

type Outcome<T> = Result<T, Box<Opinion>>;

struct Reference<'a> {
    policy: &'a Policy,
    site: &'a Site,
    packet: Packet,
    flow: FlowState,
    logs: u8,
    named: Option<(Reason, Stage, String, u32)>,
    unnamed: Option<(Reason, Stage)>,
}

/// The opinion on one packet. Cost: proportional to everything that is loaded.
pub fn judge(policy: &Policy, site: &Site, key: &Key, standing: Standing) -> Opinion {
    let family = key.family();
    let packet = Packet {
        src: address(family, key.src),
        dst: address(family, key.dst),
        sport: key.sport,
        dport: key.dport,
        protocol: key.protocol,
        has_l4: key.has(KeyBits::L4),
        family,
    };
    let flow = match standing {
        Standing::New | Standing::GroupsOnly => FlowState::New,
        Standing::Established => FlowState::Established,
        Standing::Related => FlowState::Related,
        Standing::Invalid => FlowState::None,
    };
    let mut reference = Reference { policy, site, packet, flow, logs: 0, named: None, unnamed: None };
    let result = match key.direction() {
        Direction::Inbound => reference.inbound(standing),
        Direction::Outbound => reference.outbound(standing),
    };
    result.unwrap_or_else(|denied| *denied)
}

impl<'a> Reference<'a> {
    fn opinion(&self, verdict: Verdict, reason: Reason, stage: Stage) -> Opinion {
        Opinion { verdict, reason, stage, rule: None, tier: None, logs: self.logs, flow: self.flow, track: Track::None }
    }

    fn deny(&self, reason: Reason, stage: Stage) -> Box<Opinion> {
        Box::new(self.opinion(Verdict::Deny, reason, stage))
    }

    fn deny_by(&self, reason: Reason, stage: Stage, policy: &str, index: u32) -> Box<Opinion> {
        Box::new(Opinion { rule: Some((policy.to_string(), index)), ..self.opinion(Verdict::Deny, reason, stage) })
    }

    fn invalid(&mut self) -> Box<Opinion> {
        self.flow = FlowState::None;
        self.deny(Reason::InvalidState, Stage::Flow)
    }

    fn own(&self, port: &Option<String>) -> Option<&'a HostEndpoint> {
        let mut own: Vec<&HostEndpoint> = self.policy.host_endpoints.iter().filter(|e| is_own(e, self.site)).collect();
        own.sort_by(|a, b| a.name.cmp(&b.name));
        let named = own.iter().find(|e| Some(&e.interface) == port.as_ref());
        named.or_else(|| own.iter().find(|e| e.interface == "*")).copied()
    }

    /// The segment or subnet with the longest prefix that holds an address.
    fn segment(&self, address: IpAddr) -> Option<(IpNet, Area<'a>)> {
        let mut best: Option<(IpNet, Area)> = None;
        let mut offer = |net: IpNet, area: Area<'a>| {
            if net.contains(&address) && best.as_ref().is_none_or(|(b, _)| net.prefix_len() > b.prefix_len()) {
                best = Some((net, area));
            }
        };
        for segment in &self.site.segments {
            for cidr in &segment.cidrs {
                offer(IpNet::new_assert(cidr.network, cidr.length), Area::Segment(segment));
            }
        }
        for subnet in &self.policy.subnets {
            offer(subnet.cidr.trunc(), Area::Subnet(&subnet.acl));
        }
        best
    }

    /// The stand-in of an address, and whether only its segment names it.
    fn stand_in(&self, address: IpAddr) -> Option<(&'a HostEndpoint, bool)> {
        let mut claiming: Vec<&HostEndpoint> = self
            .policy
            .host_endpoints
            .iter()
            .filter(|e| !is_own(e, self.site) && e.addresses.contains(&address))
            .collect();
        claiming.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(first) = claiming.first() {
            return Some((first, false));
        }
        let Some((_, Area::Segment(segment))) = self.segment(address) else { return None };
        let name = segment.host_endpoint.as_ref()?;
        Some((self.policy.host_endpoints.iter().find(|e| e.name == *name)?, true))
    }

    fn pod(&self, address: IpAddr) -> Option<&'a Pod> {
        self.policy.pods.iter().find(|p| p.addresses.contains(&address))
    }

    fn acl(&self, local: IpAddr) -> Option<&'a NetworkAcl> {
        let name = match self.segment(local)?.1 {
            Area::Segment(segment) => segment.network_acl.as_ref()?,
            Area::Subnet(acl) => acl,
        };
        self.policy.acls.iter().find(|a| a.name == *name || a.id == *name)
    }

    fn is_member(&self, group: &SecurityGroup, address: IpAddr) -> bool {
        let names = |listed: &String| *listed == group.name || (!group.id.is_empty() && *listed == group.id);
        let by_segment = match self.segment(address) {
            Some((_, Area::Segment(segment))) => segment.security_groups.iter().any(names),
            _ => false,
        };
        let by_list = self.site.security_group_members.iter().any(|(n, list)| names(n) && list.contains(&address));
        group.members.contains(&address) || by_segment || by_list
    }

    fn groups(&self, local: IpAddr) -> Vec<&'a SecurityGroup> {
        let mut groups: Vec<&SecurityGroup> = self.policy.groups.iter().filter(|g| self.is_member(g, local)).collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups
    }

    fn has_failsafe(&self, endpoint: &HostEndpoint) -> bool {
        match self.site.failsafe {
            FailsafeMode::Calico => true,
            FailsafeMode::Own => is_own(endpoint, self.site),
            FailsafeMode::None => false,
        }
    }

    /// The first service that has the destination as received as one of its keys: its backends of the packet's family, and
    /// whether its source ranges refuse the packet.
    fn service(&self) -> Option<(Vec<(IpAddr, u16)>, bool)> {
        let p = &self.packet;
        let stand_in = |e: &&HostEndpoint| !is_own(e, self.site);
        let is_node = self.policy.node_addresses.contains(&p.dst)
            || self.policy.host_endpoints.iter().filter(stand_in).any(|e| e.addresses.contains(&p.dst));
        for service in &self.policy.services {
            for port in service.ports.iter().filter(|port| p.has_l4 && port.protocol == p.protocol) {
                let by_cluster = service.cluster_addresses.contains(&p.dst) && port.port == p.dport;
                let by_balancer = service.balancer_addresses.contains(&p.dst) && port.port == p.dport;
                let by_node = is_node && port.node_port == Some(p.dport);
                if !(by_cluster || by_balancer || by_node) {
                    continue;
                }
                let is_refused = by_balancer
                    && !by_cluster
                    && !service.source_ranges.is_empty()
                    && !service.source_ranges.iter().any(|n| n.contains(&p.src));
                let backends = port.backends.iter().filter(|(a, _)| Family::of(*a) == p.family).copied().collect();
                return Some((backends, is_refused));
            }
        }
        None
    }

    fn inbound(&mut self, standing: Standing) -> Outcome<Opinion> {
        let received = self.packet;
        let (local, remote) = (received.dst, received.src);
        let flow = std::mem::replace(&mut self.flow, FlowState::None);
        self.ask_acl(Direction::Inbound, local, remote)?;
        self.flow = flow;
        let groups = self.groups(local);
        if !groups.is_empty() && standing == Standing::Invalid {
            return Err(self.invalid());
        }
        if standing == Standing::New {
            self.ask_groups(Direction::Inbound, &groups)?;
        }
        let own = self.own(&self.site.uplink);
        let leaving = self.own(&self.site.downlink);
        let stand_in = self.stand_in(local);
        let own_untracked = own.map_or(Ok(false), |e| self.untracked(e, PolicyDirection::Ingress))?;
        let stand_in_untracked = stand_in.map_or(Ok(false), |(e, _)| self.untracked(e, PolicyDirection::Ingress))?;
        if let Some(opinion) = self.by_state(standing) {
            return Ok(opinion);
        }
        let has_governor = own.is_some() || stand_in.is_some();
        let is_untracked =
            has_governor && (own.is_none() || own_untracked) && (stand_in.is_none() || stand_in_untracked);
        if is_untracked {
            self.flow = FlowState::Untracked;
        }
        let service = if is_untracked { None } else { self.service() };
        let backends = service.as_ref().map_or(Vec::new(), |s| s.0.clone());
        if standing == Standing::Invalid && !is_untracked {
            let pod_governs = match backends.is_empty() {
                true => self.pod(local).is_some(),
                false => backends.iter().any(|b| self.pod(b.0).is_some()),
            };
            if has_governor || leaving.is_some() || pod_governs {
                return Err(self.invalid());
            }
        }
        let mut own_skips = own_untracked;
        let mut stand_in_skips = stand_in_untracked;
        if !is_untracked {
            if let Some(own) = own.filter(|_| !own_untracked) {
                own_skips = self.prednat(own)?;
            }
            if let Some((stand_in, _)) = stand_in.filter(|_| !stand_in_untracked) {
                stand_in_skips = self.prednat(stand_in)?;
            }
        }
        if service.is_some_and(|s| s.1) {
            return Err(self.deny(Reason::SourceRange, Stage::Service));
        }
        let is_forwarded = !backends.is_empty() || stand_in.is_some_and(|(_, by_segment)| by_segment);
        let ways = if backends.is_empty() { vec![(local, received.dport)] } else { backends };
        let before = (self.logs, self.named.clone(), self.unnamed);
        let mut first = None;
        for (address, port) in ways {
            (self.logs, self.named, self.unnamed) = before.clone();
            self.packet = Packet { dst: address, dport: port, ..received };
            if let Some(own) = own.filter(|_| !own_skips) {
                self.forward(own, PolicyDirection::Ingress)?;
            }
            if let Some((stand_in, _)) = stand_in.filter(|_| !stand_in_skips) {
                if is_forwarded {
                    self.forward(stand_in, PolicyDirection::Ingress)?;
                } else {
                    self.normal(stand_in, PolicyDirection::Ingress)?;
                }
            }
            self.workload(address, PolicyDirection::Ingress)?;
            if let Some(leaving) = leaving {
                self.forward(leaving, PolicyDirection::Egress)?;
            }
            let governed = has_governor
                || leaving.is_some()
                || self.pod(address).is_some()
                || self.acl(local).is_some()
                || !groups.is_empty();
            let opinion = self.finish(standing, is_untracked, !groups.is_empty(), governed)?;
            first.get_or_insert(opinion);
        }
        first.ok_or_else(|| self.deny(Reason::DefaultDeny, Stage::Default))
    }

    fn outbound(&mut self, standing: Standing) -> Outcome<Opinion> {
        let (local, remote) = (self.packet.src, self.packet.dst);
        let own = self.own(&self.site.downlink);
        let leaving = self.own(&self.site.uplink);
        let stand_in = self.stand_in(local);
        let flow = std::mem::replace(&mut self.flow, FlowState::None);
        let own_untracked = own.map_or(Ok(false), |e| self.untracked(e, PolicyDirection::Ingress))?;
        let stand_in_untracked = match stand_in {
            Some((stand_in, false)) => self.untracked(stand_in, PolicyDirection::Egress)?,
            _ => false,
        };
        self.flow = flow;
        if let Some(opinion) = self.by_state(standing) {
            self.ask_acl(Direction::Outbound, local, remote)?;
            return Ok(opinion);
        }
        let has_governor = own.is_some() || stand_in.is_some();
        let is_untracked =
            has_governor && (own.is_none() || own_untracked) && (stand_in.is_none() || stand_in_untracked);
        let groups = self.groups(local);
        let is_stateful = has_governor || leaving.is_some() || self.pod(local).is_some();
        if is_untracked {
            self.flow = FlowState::Untracked;
        } else if standing == Standing::Invalid && is_stateful {
            return Err(self.invalid());
        }
        if let Some(own) = own.filter(|_| !own_untracked)
            && !self.prednat(own)?
        {
            self.forward(own, PolicyDirection::Ingress)?;
        }
        self.workload(local, PolicyDirection::Egress)?;
        match stand_in.filter(|_| !stand_in_untracked) {
            Some((stand_in, true)) => self.forward(stand_in, PolicyDirection::Egress)?,
            Some((stand_in, false)) => self.normal(stand_in, PolicyDirection::Egress)?,
            None => {}
        }
        if let Some(leaving) = leaving {
            self.forward(leaving, PolicyDirection::Egress)?;
        }
        if !groups.is_empty() && standing == Standing::Invalid {
            return Err(self.invalid());
        }
        if standing == Standing::New {
            self.ask_groups(Direction::Outbound, &groups)?;
        }
        self.ask_acl(Direction::Outbound, local, remote)?;
        let governed = is_stateful || !groups.is_empty() || self.acl(local).is_some();
        self.finish(standing, is_untracked, !groups.is_empty(), governed)
    }

    fn by_state(&self, standing: Standing) -> Option<Opinion> {
        let reason = match standing {
            Standing::Established => Reason::Established,
            Standing::Related => Reason::Related,
            _ => return None,
        };
        Some(self.opinion(Verdict::Allow, reason, Stage::Flow))
    }

    fn finish(&self, standing: Standing, is_untracked: bool, has_groups: bool, governed: bool) -> Outcome<Opinion> {
        let mut opinion = match (&self.named, self.unnamed) {
            (Some((reason, stage, policy, index)), _) => {
                Opinion { rule: Some((policy.clone(), *index)), ..self.opinion(Verdict::Allow, *reason, *stage) }
            }
            (None, Some((reason, stage))) => self.opinion(Verdict::Allow, reason, stage),
            (None, None) if governed || self.site.default == DefaultVerdict::Allow => {
                self.opinion(Verdict::Allow, Reason::DefaultAllow, Stage::Default)
            }
            (None, None) => return Err(self.deny(Reason::DefaultDeny, Stage::Default)),
        };
        opinion.track = match (standing, is_untracked, has_groups) {
            (Standing::Invalid, _, _) => Track::None,
            (_, false, _) => Track::Full,
            (_, true, true) => Track::GroupsOnly,
            (_, true, false) => Track::None,
        };
        Ok(opinion)
    }
}
/// What holds an address.
#[derive(Clone, Copy)]
enum Area<'a> {
    Segment(&'a Segment),
    Subnet(&'a String),
}
