//! The slow, obvious evaluator: a policy, a site and a packet in, an opinion out, by reading every rule in order.
//!
//! It shares no table and no shortcut with the compiled program and stays forever as its oracle. Each packet looks up every
//! label of everything again; nothing is prepared.

use std::net::IpAddr;

use ipnet::IpNet;

use super::failsafe_ports;
use super::layout::is_own;
use crate::base::address::{Direction, Family, address};
use crate::base::site::{DefaultVerdict, FailsafeMode, Segment, Site, V1Forward};
use crate::engine::decision::{FlowState, Reason, Stage, Verdict};
use crate::engine::judge::{Standing, Track};
use crate::packet::{Key, KeyBits};
use crate::policy::ir::{
    AclRule, Action, FailsafePort, GroupRule, Hook, HostEndpoint, Icmp, Labels, NamedPort, NetworkAcl, Peer, Pod,
    Policy, PolicyDirection, Port, Profile, Protocols, Remote, Rule, SecurityGroup, TierDefault,
};

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

    // ---- who governs -------------------------------------------------------------------------------------------------

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

    // ---- one rule ----------------------------------------------------------------------------------------------------

    /// Whether something with matching labels has the address.
    fn is_selected(&self, address: IpAddr, matches: impl Fn(&Labels) -> bool) -> bool {
        self.policy.pods.iter().any(|p| p.addresses.contains(&address) && matches(&p.labels))
            || self.policy.host_endpoints.iter().any(|e| e.addresses.contains(&address) && matches(&e.labels))
            || self
                .policy
                .network_sets
                .iter()
                .any(|s| s.nets.iter().any(|n| n.contains(&address)) && matches(&s.labels))
    }

    fn declares(
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

    fn rule_matches(&self, rule: &Rule) -> bool {
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

    fn is_icmp(&self) -> bool {
        matches!((self.packet.family, self.packet.protocol), (Family::V4, 1) | (Family::V6, 58))
    }

    fn peer_matches(&self, peer: &Peer, address: IpAddr, port: u16, is_source: bool) -> bool {
        let protocol = self.packet.protocol;
        let in_selector = |labels: &Labels| peer.selector.as_ref().is_none_or(|s| s.evaluate(labels));
        let has_ports = self.packet.has_l4 && matches!(protocol, 6 | 17 | 132);
        let is_port = |listed: &Port, restricted: bool| match listed {
            Port::Range(first, last) => (*first..=*last).contains(&port),
            Port::Named(name) => self.declares(address, name, protocol, port, |l| !restricted || in_selector(l)),
        };
        (peer.nets.is_empty() || peer.nets.iter().any(|n| n.contains(&address)))
            && !peer.not_nets.iter().any(|n| n.contains(&address))
            && peer.selector.as_ref().is_none_or(|s| self.is_selected(address, |l| s.evaluate(l)))
            && !peer.not_selector.as_ref().is_some_and(|s| self.is_selected(address, |l| s.evaluate(l)))
            && (peer.ports.is_empty() || (has_ports && peer.ports.iter().any(|p| is_port(p, true))))
            && (peer.not_ports.is_empty() || (has_ports && !peer.not_ports.iter().any(|p| is_port(p, false))))
            && peer.service.as_ref().is_none_or(|name| self.is_backend(name, address, port, is_source))
    }

    fn is_backend(&self, name: &(String, String), address: IpAddr, port: u16, is_source: bool) -> bool {
        let services = self.policy.services.iter().filter(|s| (&s.namespace, &s.name) == (&name.0, &name.1));
        services.flat_map(|s| &s.ports).any(|p| {
            p.backends.iter().any(|&(a, n)| {
                a == address && (is_source || (self.packet.has_l4 && n == port && p.protocol == self.packet.protocol))
            })
        })
    }

    fn is_failsafe(&self, ports: &[FailsafePort], inbound: bool, is_mirror: bool) -> bool {
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

    // ---- one list ----------------------------------------------------------------------------------------------------

    fn log(&mut self) {
        self.logs = self.logs.saturating_add(1);
    }

    fn hook(&self, i: usize) -> Hook {
        let ruleset = &self.policy.rulesets[i];
        if self.site.v1_forward == V1Forward::Legacy && ruleset.is_v1 && ruleset.hook == Hook::Normal {
            Hook::NormalAndForward
        } else {
            ruleset.hook
        }
    }

    /// Walks the tiers (section 7). `is_host` and `ends` tell whether the legacy default deny and ends of tiers hold.
    fn tiers(
        &mut self,
        stage: Stage,
        labels: &Labels,
        direction: PolicyDirection,
        hooks: &[Hook],
        ends: bool,
        is_host: bool,
    ) -> Outcome<End> {
        let policy = self.policy;
        'tiers: for tier in &policy.tiers {
            let is_legacy = is_host && self.site.v1_forward == V1Forward::Legacy && tier.name == "default";
            let mut governs = ends && is_legacy;
            for (i, ruleset) in policy.rulesets.iter().enumerate() {
                if ruleset.tier != tier.name || !hooks.contains(&self.hook(i)) || !ruleset.selector.evaluate(labels) {
                    continue;
                }
                let Some(rules) = ruleset.rules(direction) else { continue };
                governs = true;
                for rule in rules.iter().filter(|r| self.rule_matches(r)).collect::<Vec<_>>() {
                    match rule.action {
                        Action::Log => self.log(),
                        Action::Pass => continue 'tiers,
                        Action::Allow => {
                            self.named = Some((Reason::PolicyAllow, stage, ruleset.display.clone(), rule.index));
                            return Ok(End::Allowed);
                        }
                        Action::Deny => {
                            return Err(self.deny_by(Reason::PolicyDeny, stage, &ruleset.display, rule.index));
                        }
                    }
                }
            }
            if ends && governs && tier.default_action == TierDefault::Deny {
                let denied = self.deny(Reason::TierDefaultDeny, stage);
                return Err(Box::new(Opinion { tier: Some(tier.name.clone()), ..*denied }));
            }
        }
        Ok(End::Undecided)
    }

    fn profiles(&mut self, stage: Stage, names: &[String], direction: PolicyDirection) -> Outcome<End> {
        let policy = self.policy;
        'profiles: for profile in names.iter().filter_map(|name| policy.profiles.get(name)) {
            for rule in profile_rules(profile, direction) {
                if !self.rule_matches(rule) {
                    continue;
                }
                match rule.action {
                    Action::Log => self.log(),
                    Action::Pass => continue 'profiles,
                    Action::Allow => {
                        self.unnamed = Some((Reason::Profile, stage));
                        return Ok(End::Accepted);
                    }
                    Action::Deny => return Err(self.deny(Reason::Profile, stage)),
                }
            }
        }
        Err(self.deny(Reason::NoPolicyDeny, stage))
    }

    fn failsafe(&mut self, stage: Stage, endpoint: &HostEndpoint, direction: PolicyDirection, mirrored: bool) -> bool {
        let [inbound, outbound] = failsafe_ports(self.policy);
        let hit = self.has_failsafe(endpoint)
            && match direction {
                PolicyDirection::Ingress => {
                    self.is_failsafe(&inbound, true, false) || (mirrored && self.is_failsafe(&outbound, false, true))
                }
                PolicyDirection::Egress => {
                    self.is_failsafe(&outbound, false, false) || (mirrored && self.is_failsafe(&inbound, true, true))
                }
            };
        if hit {
            self.unnamed = Some((Reason::Failsafe, stage));
        }
        hit
    }

    fn has_hook(&self, labels: &Labels, direction: PolicyDirection, hook: Hook) -> bool {
        (0..self.policy.rulesets.len()).any(|i| {
            let ruleset = &self.policy.rulesets[i];
            self.hook(i) == hook && ruleset.rules(direction).is_some() && ruleset.selector.evaluate(labels)
        })
    }

    /// Whether a rule of this endpoint's untracked list allowed.
    fn untracked(&mut self, endpoint: &HostEndpoint, direction: PolicyDirection) -> Outcome<bool> {
        if endpoint.interface == "*" || !self.has_hook(&endpoint.labels, direction, Hook::Untracked) {
            return Ok(false);
        }
        if self.failsafe(Stage::Untracked, endpoint, direction, true) {
            return Ok(false);
        }
        let end = self.tiers(Stage::Untracked, &endpoint.labels, direction, &[Hook::Untracked], false, true)?;
        Ok(matches!(end, End::Allowed))
    }

    fn prednat(&mut self, endpoint: &HostEndpoint) -> Outcome<bool> {
        let direction = PolicyDirection::Ingress;
        if !self.has_hook(&endpoint.labels, direction, Hook::PreDnat)
            || self.failsafe(Stage::PreDnat, endpoint, direction, false)
        {
            return Ok(false);
        }
        let end = self.tiers(Stage::PreDnat, &endpoint.labels, direction, &[Hook::PreDnat], false, true)?;
        Ok(matches!(end, End::Allowed))
    }

    fn normal(&mut self, endpoint: &HostEndpoint, direction: PolicyDirection) -> Outcome<()> {
        if self.failsafe(Stage::HostNormal, endpoint, direction, false) {
            return Ok(());
        }
        let hooks = [Hook::Normal, Hook::NormalAndForward];
        match self.tiers(Stage::HostNormal, &endpoint.labels, direction, &hooks, true, true)? {
            End::Undecided => self.profiles(Stage::HostNormal, &endpoint.profiles, direction).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn forward(&mut self, endpoint: &HostEndpoint, direction: PolicyDirection) -> Outcome<()> {
        let end = self.tiers(Stage::HostForward, &endpoint.labels, direction, &[Hook::NormalAndForward], true, true)?;
        if matches!(end, End::Undecided) {
            self.unnamed = Some((Reason::NoPolicy, Stage::HostForward));
        }
        Ok(())
    }

    fn workload(&mut self, address: IpAddr, direction: PolicyDirection) -> Outcome<()> {
        let Some(pod) = self.pod(address) else { return Ok(()) };
        let hooks = [Hook::Normal, Hook::NormalAndForward];
        match self.tiers(Stage::Workload, &pod.labels, direction, &hooks, true, false)? {
            End::Undecided => self.profiles(Stage::Workload, &pod.profiles, direction).map(|_| ()),
            _ => Ok(()),
        }
    }

    // ---- VPC ---------------------------------------------------------------------------------------------------------

    fn vpc_matches(&self, protocols: &Protocols, ports: [Option<(u16, u16)>; 2], icmp: Option<Icmp>) -> bool {
        let p = &self.packet;
        let protocol = match protocols {
            Protocols::Any => true,
            Protocols::Of(list) => list.contains(&p.protocol),
        };
        let in_range = |range: Option<(u16, u16)>, port: u16| {
            range.is_none_or(|(a, b)| (a <= 1 && b == u16::MAX) || (p.has_l4 && (a..=b).contains(&port)))
        };
        let transport = match icmp {
            Some(icmp) => p.has_l4 && icmp_is(icmp, p.dport),
            None => in_range(ports[1], p.dport),
        };
        p.family == Family::V4 && protocol && in_range(ports[0], p.sport) && transport
    }

    fn ask_acl(&mut self, direction: Direction, local: IpAddr, remote: IpAddr) -> Outcome<()> {
        let Some(acl) = self.acl(local) else { return Ok(()) };
        if let (Some((a, _)), Some((b, _))) = (self.segment(local), self.segment(remote))
            && a == b
        {
            return Ok(());
        }
        let matches = |rule: &&AclRule| {
            rule.direction == direction
                && rule.source.contains(&self.packet.src)
                && rule.destination.contains(&self.packet.dst)
                && self.vpc_matches(&rule.protocols, [rule.source_ports, rule.destination_ports], rule.icmp)
        };
        match acl.rules.iter().find(matches) {
            Some(rule) if rule.allow => {
                self.named = Some((Reason::AclAllow, Stage::Acl, acl.name.clone(), rule.index));
                Ok(())
            }
            Some(rule) => Err(self.deny_by(Reason::AclDeny, Stage::Acl, &acl.name, rule.index)),
            None => Err(self.deny(Reason::AclImplicitDeny, Stage::Acl)),
        }
    }

    fn ask_groups(&mut self, direction: Direction, groups: &[&'a SecurityGroup]) -> Outcome<()> {
        if groups.is_empty() {
            return Ok(());
        }
        let p = self.packet;
        let (local, remote) = if direction == Direction::Inbound { (p.dst, p.src) } else { (p.src, p.dst) };
        let matches = |rule: &&GroupRule| {
            let from = match &rule.remote {
                Remote::Any => true,
                Remote::Net(net) => net.contains(&remote),
                Remote::Group(name) => self.policy.groups.iter().any(|g| g.name == *name && self.is_member(g, remote)),
            };
            rule.direction == direction
                && from
                && rule.local.is_none_or(|net| net.contains(&local))
                && self.vpc_matches(&rule.protocols, [None, rule.ports], rule.icmp)
        };
        for group in groups {
            if let Some(rule) = group.rules.iter().find(matches) {
                self.named = Some((Reason::SgAllow, Stage::Sg, group.name.clone(), rule.index));
                return Ok(());
            }
        }
        Err(self.deny(Reason::SgNoMatch, Stage::Sg))
    }

    // ---- the way of a packet (GW-9) ----------------------------------------------------------------------------------

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

fn profile_rules(profile: &Profile, direction: PolicyDirection) -> &[Rule] {
    match direction {
        PolicyDirection::Ingress => &profile.ingress,
        PolicyDirection::Egress => &profile.egress,
    }
}

fn icmp_is(icmp: Icmp, type_and_code: u16) -> bool {
    u16::from(icmp.kind) == type_and_code >> 8 && icmp.code.is_none_or(|code| u16::from(code) == type_and_code & 0xff)
}
