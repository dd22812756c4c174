//! Policies, profiles, failsafe ports, ACLs and groups in, the one ordered list of entries out, with the blocks that scopes are
//! made of.
//!
//! Order: network ACLs · security groups · failsafe ports · tiers in order, each with its policies in order and its end · profiles ·
//! the ends of the host and workload stages. An endpoint's chain is a subset of this list, so one order serves all of them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

use super::boxes::{Match, boxes, vpc};
use super::population::Population;
use super::ranges::AddressSet;
use crate::base::address::{Direction, Family};
use crate::base::id::RuleId;
use crate::engine::decision::Layer;
use crate::engine::program::{Effect, Entry, Origin};
use crate::policy::ir::{
    Action, FailsafePort, Kind, NetworkAcl, Policy, PolicyDirection, Remote, Rule, RuleSet, SecurityGroup, TierDefault,
};

/// Consecutive entries of the list.
pub type Block = Range<u32>;

/// The list under construction.
#[derive(Debug, Default)]
pub struct List {
    /// Entries in order.
    pub entries: Vec<Entry>,
    /// What each entry matches.
    pub matches: Vec<Match>,
    /// Where each rule is written.
    pub origins: Vec<Origin>,
}

/// Where everything is in the list.
#[derive(Debug)]
pub struct Blocks<'p> {
    /// By ACL and direction.
    pub acls: Vec<[Block; 2]>,
    /// Implicit deny of ACLs.
    pub acl_end: Block,
    /// By group and direction.
    pub groups: Vec<[Block; 2]>,
    /// No group rule matched.
    pub group_end: Block,
    /// Failsafe ports by direction (ingress, egress).
    pub failsafe: [Block; 2],
    /// The mirror image of each: by source port.
    pub failsafe_mirror: [Block; 2],
    /// By ruleset and direction (ingress, egress); `None` where it does not govern the direction.
    pub rulesets: Vec<[Option<Block>; 2]>,
    /// The end of each tier, by tier; empty for tiers that pass.
    pub tier_ends: Vec<Block>,
    /// By the names that [`with_rules`] gives and direction.
    pub profiles: HashMap<Vec<&'p str>, [Block; 2]>,
    /// End of the normal and workload stages.
    pub deny_end: Block,
    /// End of the forward stages.
    pub pass_end: Block,
}

impl List {
    fn at(&self) -> u32 {
        self.entries.len() as u32
    }

    fn push(&mut self, entry: Entry, matched: Match) {
        self.entries.push(entry);
        self.matches.push(matched);
    }

    fn end(&mut self, effect: Effect, rule: RuleId) -> Block {
        let start = self.at();
        self.push(Entry { rule, effect, resume: start + 1 }, Match::EVERYTHING);
        start..self.at()
    }

    fn origin(&mut self, origin: Origin) -> RuleId {
        let same = self.origins.last().is_some_and(|last| {
            (last.layer, &last.policy, last.index, &last.tier)
                == (origin.layer, &origin.policy, origin.index, &origin.tier)
                && last.span == origin.span
        });
        if !same {
            self.origins.push(origin);
        }
        RuleId(self.origins.len() as u32 - 1)
    }

    /// Sets where the entries from `start` with this effect go on.
    fn resume_from(&mut self, start: u32, effect: Effect, resume: u32) {
        for entry in self.entries[start as usize..].iter_mut().filter(|e| e.effect == effect) {
            entry.resume = resume;
        }
    }
}

fn effect(action: Action, in_profile: bool) -> Effect {
    match (action, in_profile) {
        (Action::Allow, false) => Effect::Allow,
        (Action::Deny, false) => Effect::Deny,
        (Action::Allow, true) => Effect::ProfileAllow,
        (Action::Deny, true) => Effect::ProfileDeny,
        (Action::Log, _) => Effect::Log,
        (Action::Pass, _) => Effect::Pass,
    }
}

/// The group members that rules refer to, by index into [`Policy::groups`].
pub type Members = Vec<AddressSet>;

/// Those of an endpoint's profiles that have rules, in order: what profiles without rules say is said by any other too.
pub fn with_rules<'p>(policy: &Policy, names: &'p [String]) -> Vec<&'p str> {
    let has_rules =
        |name: &&str| policy.profiles.get(*name).is_some_and(|p| !p.ingress.is_empty() || !p.egress.is_empty());
    names.iter().map(String::as_str).filter(has_rules).collect()
}

/// Builds the list; `failsafe` are the ports by direction.
pub fn list<'p>(policy: &'p Policy, members: &Members, failsafe: [&[FailsafePort]; 2]) -> (List, Blocks<'p>) {
    let population = Population::new(policy);
    let mut list = List::default();
    let acls = policy.acls.iter().map(|acl| acl_blocks(&mut list, acl)).collect();
    let acl_end = list.end(Effect::AclImplicitDeny, RuleId::NONE);
    let groups = policy.groups.iter().map(|group| group_blocks(&mut list, policy, members, group)).collect();
    let group_end = list.end(Effect::SgNoMatch, RuleId::NONE);
    let [ingress, egress] = failsafe;
    let by_port = [failsafe_block(&mut list, ingress, true, false), failsafe_block(&mut list, egress, false, false)];
    let mirror = [failsafe_block(&mut list, ingress, false, true), failsafe_block(&mut list, egress, true, true)];

    let mut rulesets: Vec<[Option<Block>; 2]> = vec![[None, None]; policy.rulesets.len()];
    let mut tier_ends = Vec::new();
    for tier in &policy.tiers {
        let start = list.at();
        for (i, ruleset) in policy.rulesets.iter().enumerate().filter(|(_, r)| r.tier == tier.name) {
            rulesets[i] = [PolicyDirection::Ingress, PolicyDirection::Egress].map(|direction| {
                Some(ruleset_block(&mut list, policy, &population, ruleset, ruleset.rules(direction)?))
            });
        }
        let end = list.at();
        let block = if tier.default_action == TierDefault::Deny {
            let rule = list.origin(Origin {
                layer: Layer::Calico,
                policy: String::new(),
                index: 0,
                kind: "",
                home_tier: String::new(),
                tier: Some(tier.name.clone()),
                span: None,
            });
            list.end(Effect::TierDeny, rule)
        } else {
            end..end
        };
        let next = list.at();
        list.resume_from(start, Effect::Pass, next);
        tier_ends.push(block);
    }

    let mut profiles = HashMap::new();
    let by_pods = policy.pods.iter().map(|pod| &pod.profiles);
    let by_endpoints = policy.host_endpoints.iter().map(|endpoint| &endpoint.profiles);
    let profile_lists: BTreeSet<Vec<&str>> = by_pods.chain(by_endpoints).map(|p| with_rules(policy, p)).collect();
    for names in profile_lists {
        let blocks = [PolicyDirection::Ingress, PolicyDirection::Egress]
            .map(|direction| profile_block(&mut list, policy, &population, &names, direction));
        profiles.insert(names, blocks);
    }
    let deny_end = list.end(Effect::NoPolicyDeny, RuleId::NONE);
    let pass_end = list.end(Effect::NoPolicy, RuleId::NONE);
    let blocks = Blocks {
        acls,
        acl_end,
        groups,
        group_end,
        failsafe: by_port,
        failsafe_mirror: mirror,
        rulesets,
        tier_ends,
        profiles,
        deny_end,
        pass_end,
    };
    (list, blocks)
}

fn layer(kind: Kind) -> Layer {
    match kind {
        Kind::KubernetesNetworkPolicy => Layer::Kubernetes,
        Kind::GlobalNetworkPolicy | Kind::NetworkPolicy => Layer::Calico,
    }
}

/// The word for a kind in the prefix of a log line (LOG-3, `%k`).
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::GlobalNetworkPolicy => "GlobalNetworkPolicy",
        Kind::KubernetesNetworkPolicy => "KubernetesNetworkPolicy",
        Kind::NetworkPolicy => "NetworkPolicy",
    }
}

fn push_rule<'p>(
    list: &mut List,
    policy: &'p Policy,
    population: &Population<'p>,
    rule: &'p Rule,
    origin: Origin,
    in_profile: bool,
) {
    let id = list.origin(origin);
    let start = list.at();
    for matched in boxes(rule, policy, population) {
        list.push(Entry { rule: id, effect: effect(rule.action, in_profile), resume: start }, matched);
    }
    // A packet in two boxes of one Log rule is logged once.
    let next = list.at();
    list.resume_from(start, Effect::Log, next);
}

fn ruleset_block<'p>(
    list: &mut List,
    policy: &'p Policy,
    population: &Population<'p>,
    ruleset: &RuleSet,
    rules: &'p [Rule],
) -> Block {
    let start = list.at();
    for rule in rules {
        let origin = Origin {
            layer: layer(ruleset.kind),
            policy: ruleset.display.clone(),
            index: rule.index,
            kind: kind(ruleset.kind),
            home_tier: ruleset.tier.clone(),
            tier: None,
            span: Some(rule.span.clone()),
        };
        push_rule(list, policy, population, rule, origin, false);
    }
    start..list.at()
}

fn profile_block<'p>(
    list: &mut List,
    policy: &'p Policy,
    population: &Population<'p>,
    names: &[&'p str],
    direction: PolicyDirection,
) -> Block {
    let start = list.at();
    for (name, profile) in names.iter().filter_map(|&name| Some((name, policy.profiles.get(name)?))) {
        let first = list.at();
        let rules = match direction {
            PolicyDirection::Ingress => &profile.ingress,
            PolicyDirection::Egress => &profile.egress,
        };
        for rule in rules {
            let span = profile.span.as_ref().map(|_| rule.span.clone());
            let origin = Origin {
                layer: Layer::Calico,
                policy: name.to_string(),
                index: rule.index,
                kind: "Profile",
                home_tier: String::new(),
                tier: None,
                span,
            };
            push_rule(list, policy, population, rule, origin, true);
        }
        let next = list.at();
        list.resume_from(first, Effect::Pass, next);
    }
    start..list.at()
}

/// Failsafe ports: `net_is_source` says which address the port's net limits; a mirror looks at source ports (FS-3).
fn failsafe_block(list: &mut List, ports: &[FailsafePort], net_is_source: bool, is_mirror: bool) -> Block {
    let start = list.at();
    for port in ports {
        let net = port.net.as_ref().map(|net| Rc::new(AddressSet::of_nets([net])));
        let (src, dst) = if net_is_source { (net, None) } else { (None, net) };
        let range = super::boxes::PortSet::In(super::ranges::Ranges::one(u128::from(port.port), u128::from(port.port)));
        let mut matched = Match { src, dst, ..Match::EVERYTHING };
        if is_mirror {
            matched.sport = range
        } else {
            matched.dport = range
        }
        matched.protocols = super::boxes::ProtocolSet::of(&[Family::V4, Family::V6], [port.protocol]);
        let resume = list.at() + 1;
        list.push(Entry { rule: RuleId::NONE, effect: Effect::Failsafe, resume }, matched);
    }
    start..list.at()
}

fn acl_blocks(list: &mut List, acl: &NetworkAcl) -> [Block; 2] {
    [Direction::Inbound, Direction::Outbound].map(|direction| {
        let start = list.at();
        for rule in acl.rules.iter().filter(|r| r.direction == direction) {
            let origin = Origin {
                layer: Layer::VpcAcl,
                policy: acl.name.clone(),
                index: rule.index,
                kind: "network ACL",
                home_tier: String::new(),
                tier: None,
                span: Some(rule.span.clone()),
            };
            let id = list.origin(origin);
            let [source, destination] = [rule.source, rule.destination].map(|net| Some(AddressSet::of_nets([&net])));
            let matched =
                vpc(&rule.protocols, source, destination, rule.source_ports, rule.destination_ports, rule.icmp);
            let effect = if rule.allow { Effect::Allow } else { Effect::Deny };
            let resume = list.at() + 1;
            list.push(Entry { rule: id, effect, resume }, matched);
        }
        start..list.at()
    })
}

fn group_blocks(list: &mut List, policy: &Policy, members: &Members, group: &SecurityGroup) -> [Block; 2] {
    [Direction::Inbound, Direction::Outbound].map(|direction| {
        let start = list.at();
        for rule in group.rules.iter().filter(|r| r.direction == direction) {
            let origin = Origin {
                layer: Layer::VpcSg,
                policy: group.name.clone(),
                index: rule.index,
                kind: "security group",
                home_tier: String::new(),
                tier: None,
                span: Some(rule.span.clone()),
            };
            let id = list.origin(origin);
            let remote = match &rule.remote {
                Remote::Any => None,
                Remote::Net(net) => Some(AddressSet::of_nets([net])),
                Remote::Group(name) => {
                    let at = policy.groups.iter().position(|g| g.name == *name);
                    Some(at.and_then(|at| members.get(at)).cloned().unwrap_or_default())
                }
            };
            let local = rule.local.as_ref().map(|net| AddressSet::of_nets([net]));
            let (source, destination) = match direction {
                Direction::Inbound => (remote, local),
                Direction::Outbound => (local, remote),
            };
            let matched = vpc(&rule.protocols, source, destination, None, rule.ports, rule.icmp);
            let resume = list.at() + 1;
            list.push(Entry { rule: id, effect: Effect::Allow, resume }, matched);
        }
        start..list.at()
    })
}
