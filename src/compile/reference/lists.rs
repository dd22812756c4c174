//! One packet and one list of rules in, what the list comes to out: tiers, profiles, failsafe ports, ACLs, groups.

use std::net::IpAddr;

use super::rules::icmp_is;
use super::{End, Opinion, Outcome, Reference};
use crate::base::address::{Direction, Family};
use crate::base::site::V1Forward;
use crate::compile::failsafe_ports;
use crate::engine::decision::{Reason, Stage};
use crate::policy::ir::{
    AclRule, Action, GroupRule, Hook, HostEndpoint, Icmp, Labels, PolicyDirection, Profile, Protocols, Remote, Rule,
    SecurityGroup, TierDefault,
};

impl<'a> Reference<'a> {
    pub(super) fn log(&mut self) {
        self.logs = self.logs.saturating_add(1);
    }

    pub(super) fn hook(&self, i: usize) -> Hook {
        let ruleset = &self.policy.rulesets[i];
        if self.site.v1_forward == V1Forward::Legacy && ruleset.is_v1 && ruleset.hook == Hook::Normal {
            Hook::NormalAndForward
        } else {
            ruleset.hook
        }
    }

    /// Walks the tiers (section 7). `is_host` and `ends` tell whether the legacy default deny and ends of tiers hold.
    pub(super) fn tiers(
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

    pub(super) fn profiles(&mut self, stage: Stage, names: &[String], direction: PolicyDirection) -> Outcome<End> {
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

    pub(super) fn failsafe(
        &mut self,
        stage: Stage,
        endpoint: &HostEndpoint,
        direction: PolicyDirection,
        mirrored: bool,
    ) -> bool {
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

    pub(super) fn has_hook(&self, labels: &Labels, direction: PolicyDirection, hook: Hook) -> bool {
        (0..self.policy.rulesets.len()).any(|i| {
            let ruleset = &self.policy.rulesets[i];
            self.hook(i) == hook && ruleset.rules(direction).is_some() && ruleset.selector.evaluate(labels)
        })
    }

    /// Whether a rule of this endpoint's untracked list allowed.
    pub(super) fn untracked(&mut self, endpoint: &HostEndpoint, direction: PolicyDirection) -> Outcome<bool> {
        if endpoint.interface == "*" || !self.has_hook(&endpoint.labels, direction, Hook::Untracked) {
            return Ok(false);
        }
        if self.failsafe(Stage::Untracked, endpoint, direction, true) {
            return Ok(false);
        }
        let end = self.tiers(Stage::Untracked, &endpoint.labels, direction, &[Hook::Untracked], false, true)?;
        Ok(matches!(end, End::Allowed))
    }

    pub(super) fn prednat(&mut self, endpoint: &HostEndpoint) -> Outcome<bool> {
        let direction = PolicyDirection::Ingress;
        if !self.has_hook(&endpoint.labels, direction, Hook::PreDnat)
            || self.failsafe(Stage::PreDnat, endpoint, direction, false)
        {
            return Ok(false);
        }
        let end = self.tiers(Stage::PreDnat, &endpoint.labels, direction, &[Hook::PreDnat], false, true)?;
        Ok(matches!(end, End::Allowed))
    }

    pub(super) fn normal(&mut self, endpoint: &HostEndpoint, direction: PolicyDirection) -> Outcome<()> {
        if self.failsafe(Stage::HostNormal, endpoint, direction, false) {
            return Ok(());
        }
        let hooks = [Hook::Normal, Hook::NormalAndForward];
        match self.tiers(Stage::HostNormal, &endpoint.labels, direction, &hooks, true, true)? {
            End::Undecided => self.profiles(Stage::HostNormal, &endpoint.profiles, direction).map(|_| ()),
            _ => Ok(()),
        }
    }

    pub(super) fn forward(&mut self, endpoint: &HostEndpoint, direction: PolicyDirection) -> Outcome<()> {
        let end = self.tiers(Stage::HostForward, &endpoint.labels, direction, &[Hook::NormalAndForward], true, true)?;
        if matches!(end, End::Undecided) {
            self.unnamed = Some((Reason::NoPolicy, Stage::HostForward));
        }
        Ok(())
    }

    pub(super) fn workload(&mut self, address: IpAddr, direction: PolicyDirection) -> Outcome<()> {
        let Some(pod) = self.pod(address) else { return Ok(()) };
        let hooks = [Hook::Normal, Hook::NormalAndForward];
        match self.tiers(Stage::Workload, &pod.labels, direction, &hooks, true, false)? {
            End::Undecided => self.profiles(Stage::Workload, &pod.profiles, direction).map(|_| ()),
            _ => Ok(()),
        }
    }

    pub(super) fn vpc_matches(
        &self,
        protocols: &Protocols,
        ports: [Option<(u16, u16)>; 2],
        icmp: Option<Icmp>,
    ) -> bool {
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

    pub(super) fn ask_acl(&mut self, direction: Direction, local: IpAddr, remote: IpAddr) -> Outcome<()> {
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

    pub(super) fn ask_groups(&mut self, direction: Direction, groups: &[&'a SecurityGroup]) -> Outcome<()> {
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
}

fn profile_rules(profile: &Profile, direction: PolicyDirection) -> &[Rule] {
    match direction {
        PolicyDirection::Ingress => &profile.ingress,
        PolicyDirection::Egress => &profile.egress,
    }
}
