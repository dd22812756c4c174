//! A packet's way through a program in, the loaded policies that had no part in it out, each with the reason.
//!
//! Every policy of Calico or Kubernetes in whose list no rule matched is named once, with what kept it away at the endpoint where
//! it came closest: those that govern an endpoint on the way first, those that select something else last.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use crate::base::address::{Direction, address};
use crate::base::id::RuleId;
use crate::base::site::{Site, V1Forward};
use crate::engine::decision::{Decision, Stage};
use crate::engine::program::{Effect, Program, StandIn};
use crate::engine::trace::{Event, Subject};
use crate::packet::Key;
use crate::policy::ir::{Hook, HostEndpoint, Labels, Policy, PolicyDirection, RuleSet};

/// A policy that had no part in a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotApplied {
    /// Name as it is reported.
    pub policy: String,
    /// What kept it away.
    pub cause: Cause,
}

/// What kept a policy away, the closest miss first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its rules were asked and none matches.
    NoRuleMatches(String),
    /// It does not act on forwarded traffic, and the packet is forwarded for this endpoint (PIPE-7).
    NotOnForward(String),
    /// An Allow of this stage spares the packet the policy's stage (PIPE-1, PIPE-2).
    StageSkipped(Stage, String),
    /// Its list was asked, but this decided before its turn (ACT-1, ACT-4, ACT-6).
    DecidedBefore(String),
    /// The packet's fate was settled at this stage, before the policy's stage.
    StageNotReached(Stage),
    /// doNotTrack policies do not work on `*` (HEP-2).
    Wildcard(String),
    /// doNotTrack Egress rules are asked for locally generated packets only (PIPE-6).
    UntrackedEgress(String),
    /// preDNAT and doNotTrack policies never govern pods (WL-4).
    HostOnly(String),
    /// It governs the endpoint in the other direction only (ACT-8).
    OtherDirection(PolicyDirection, String),
    /// Its selector matches none of these.
    Selector(Vec<String>),
    /// Neither host endpoint nor pod has the address.
    NoEndpoint(IpAddr),
}

impl Cause {
    /// A word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Cause::NoRuleMatches(_) => "no-rule-matches",
            Cause::NotOnForward(_) => "not-on-forward",
            Cause::StageSkipped(..) => "stage-skipped",
            Cause::DecidedBefore(_) => "decided-before",
            Cause::StageNotReached(_) => "stage-not-reached",
            Cause::Wildcard(_) => "wildcard-endpoint",
            Cause::UntrackedEgress(_) => "untracked-egress",
            Cause::HostOnly(_) => "host-only",
            Cause::OtherDirection(..) => "other-direction",
            Cause::Selector(_) => "selector",
            Cause::NoEndpoint(_) => "no-endpoint",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NoRuleMatches(of) => write!(f, "governs {of}, but none of its rules matches the packet"),
            Cause::NotOnForward(of) => {
                write!(f, "lacks `applyOnForward: true`, and the packet is forwarded for {of}")
            }
            Cause::StageSkipped(stage, of) => write!(f, "skipped: the {} stage of {of} allowed", stage.name()),
            Cause::DecidedBefore(by) => write!(f, "its turn did not come: {by} decided before"),
            Cause::StageNotReached(stage) => write!(f, "its stage was not reached: stage {} decided", stage.name()),
            Cause::Wildcard(of) => write!(f, "`doNotTrack` does not work on {of}, which stands for all interfaces"),
            Cause::UntrackedEgress(of) => {
                write!(f, "`doNotTrack` egress rules are not asked for packets forwarded by {of}")
            }
            Cause::HostOnly(of) => write!(f, "`preDNAT` and `doNotTrack` policies do not govern {of}"),
            Cause::OtherDirection(wanted, of) => {
                let wanted = match wanted {
                    PolicyDirection::Ingress => "Ingress",
                    PolicyDirection::Egress => "Egress",
                };
                write!(f, "its `types` lack {wanted}, the direction of the packet at {of}")
            }
            Cause::Selector(of) => write!(f, "its selector does not match {}", of.join(", ")),
            Cause::NoEndpoint(address) => write!(f, "no host endpoint governs {address}, and no pod has it"),
        }
    }
}

/// An endpoint on the packet's way, with the side on which the packet meets it.
struct Seat<'p> {
    name: String,
    labels: &'p Labels,
    subject: Subject,
    direction: PolicyDirection,
    is_forwarded: bool,
    is_wildcard: bool,
}

/// Why policies had no part in the decision on a packet; `events` are those of its trace. Cost: linear in the policies.
pub fn not_applied(
    policy: &Policy,
    site: &Site,
    program: &Program,
    key: &Key,
    events: &[Event],
    decision: Decision,
) -> Vec<NotApplied> {
    let numbers: HashMap<&str, usize> =
        policy.rulesets.iter().enumerate().map(|(i, r)| (r.display.as_str(), i)).collect();
    let way = Way {
        policy,
        program,
        events,
        decision,
        numbers,
        is_legacy: site.v1_forward == V1Forward::Legacy,
        seats: seats(policy, program, key, events),
        local: match key.direction() {
            Direction::Inbound => address(key.family(), key.dst),
            Direction::Outbound => address(key.family(), key.src),
        },
    };
    let causes = (0..policy.rulesets.len()).filter_map(|i| Some((i, way.cause(i)?)));
    let mut found: Vec<(usize, Cause)> = causes.collect();
    found.sort_by_key(|(i, cause)| (cause.distance(), *i));
    let name = |i: usize| policy.rulesets.get(i).map(|r| r.display.clone()).unwrap_or_default();
    found.into_iter().map(|(i, cause)| NotApplied { policy: name(i), cause }).collect()
}

impl Cause {
    /// How far from having a part: governing, then of the endpoint but not this way, then of others.
    fn distance(&self) -> u8 {
        match self {
            Cause::OtherDirection(..) => 1,
            Cause::Selector(_) | Cause::NoEndpoint(_) => 2,
            _ => 0,
        }
    }
}

/// Who governs the packet, in the order in which they are asked (GW-9).
fn seats<'p>(policy: &'p Policy, program: &Program, key: &Key, events: &[Event]) -> Vec<Seat<'p>> {
    let backends: Vec<u128> = events
        .iter()
        .filter_map(|event| match event {
            Event::Translated { address, .. } => Some(*address),
            _ => None,
        })
        .collect();
    let (local, entered, left, at_local) = match key.direction() {
        Direction::Inbound => (key.dst, program.uplink, program.downlink, PolicyDirection::Ingress),
        Direction::Outbound => (key.src, program.downlink, program.uplink, PolicyDirection::Egress),
    };
    let host = |index: u32, direction: PolicyDirection, is_forwarded: bool| {
        let name = program.endpoint_names.get(index as usize)?;
        let endpoint: &'p HostEndpoint = policy.host_endpoints.iter().find(|e| e.name == *name)?;
        Some(Seat {
            name: format!("host endpoint {name}"),
            labels: &endpoint.labels,
            subject: Subject::Endpoint(index),
            direction,
            is_forwarded,
            is_wildcard: endpoint.interface == "*",
        })
    };
    let mut seats = Vec::new();
    seats.extend(entered.and_then(|index| host(index, PolicyDirection::Ingress, true)));
    match program.place(key.family(), local).stand_in {
        StandIn::None => {}
        StandIn::Own(index) => seats.extend(host(index, at_local, !backends.is_empty())),
        StandIn::Segment(index) => seats.extend(host(index, at_local, true)),
    }
    let addresses = if backends.is_empty() { vec![local] } else { backends };
    for at in addresses.into_iter().map(|at| address(key.family(), at)) {
        seats.extend(policy.pods.iter().find(|pod| pod.addresses.contains(&at)).map(|pod| Seat {
            name: format!("pod {}/{}", pod.namespace, pod.name),
            labels: &pod.labels,
            subject: Subject::Pod,
            direction: at_local,
            is_forwarded: true,
            is_wildcard: false,
        }));
    }
    seats.extend(left.and_then(|index| host(index, PolicyDirection::Egress, true)));
    seats
}

/// Everything that is known about the packet's way.
struct Way<'a> {
    policy: &'a Policy,
    program: &'a Program,
    events: &'a [Event],
    decision: Decision,
    /// Position of each policy in evaluation order by its reported name.
    numbers: HashMap<&'a str, usize>,
    is_legacy: bool,
    seats: Vec<Seat<'a>>,
    local: IpAddr,
}

impl Way<'_> {
    /// The closest miss of a policy over all endpoints; `None` if one of its rules matched.
    fn cause(&self, i: usize) -> Option<Cause> {
        let ruleset = self.policy.rulesets.get(i)?;
        if self.matched().any(|(_, _, _, number)| number == Some(i)) {
            return None;
        }
        if self.seats.is_empty() {
            return Some(Cause::NoEndpoint(self.local));
        }
        let selected = self.seats.iter().filter(|seat| ruleset.selector.evaluate(seat.labels));
        let closest = selected.map(|seat| self.at_seat(i, ruleset, seat)).min();
        Some(closest.unwrap_or_else(|| Cause::Selector(self.seats.iter().map(|seat| seat.name.clone()).collect())))
    }

    /// Entries that matched: stage, endpoint, effect and the policy they belong to.
    fn matched(&self) -> impl Iterator<Item = (Stage, Subject, Effect, Option<usize>)> {
        self.events.iter().filter_map(|event| match *event {
            Event::Matched { stage, subject, rule, effect } => {
                let origin = self.program.origin(rule).filter(|origin| origin.tier.is_none());
                let number = origin.and_then(|origin| self.numbers.get(origin.policy.as_str()).copied());
                Some((stage, subject, effect, number))
            }
            _ => None,
        })
    }

    /// What kept a policy away from an endpoint that it selects.
    fn at_seat(&self, i: usize, ruleset: &RuleSet, seat: &Seat<'_>) -> Cause {
        let name = || seat.name.clone();
        if ruleset.rules(seat.direction).is_none() {
            return Cause::OtherDirection(seat.direction, name());
        }
        let is_on_forward = self.is_legacy && ruleset.is_v1;
        let stage = match (seat.subject, ruleset.hook) {
            (Subject::Pod, Hook::Untracked | Hook::PreDnat) => return Cause::HostOnly(name()),
            (Subject::Pod, _) => Stage::Workload,
            (_, Hook::Untracked) if seat.is_wildcard => return Cause::Wildcard(name()),
            (_, Hook::Untracked) if seat.is_forwarded && seat.direction == PolicyDirection::Egress => {
                return Cause::UntrackedEgress(name());
            }
            (_, Hook::Untracked) => Stage::Untracked,
            (_, Hook::PreDnat) => Stage::PreDnat,
            (_, Hook::Normal) if seat.is_forwarded && !is_on_forward => return Cause::NotOnForward(name()),
            _ if seat.is_forwarded => Stage::HostForward,
            _ => Stage::HostNormal,
        };
        let here = |at: Stage, of: Subject| at == stage && of == seat.subject;
        let was_asked = self.events.iter().any(|event| match *event {
            Event::Matched { stage, subject, .. } | Event::Undecided { stage, subject } => here(stage, subject),
            _ => false,
        });
        if !was_asked {
            let allowed = self.matched().find(|&(at, of, effect, _)| {
                matches!(at, Stage::Untracked | Stage::PreDnat) && of == seat.subject && effect == Effect::Allow
            });
            return match allowed {
                Some((at, ..)) if seat.subject != Subject::Pod => Cause::StageSkipped(at, name()),
                _ => Cause::StageNotReached(self.decision.stage()),
            };
        }
        let before = self.events.iter().find_map(|event| match *event {
            Event::Matched { stage, subject, rule, effect } if here(stage, subject) => self.before(i, rule, effect),
            _ => None,
        });
        before.map_or_else(|| Cause::NoRuleMatches(name()), Cause::DecidedBefore)
    }

    /// What ended a list, or a tier of it, before the turn of a policy came.
    fn before(&self, i: usize, rule: RuleId, effect: Effect) -> Option<String> {
        let tier_of = |i: usize| self.policy.rulesets.get(i).map(|r| r.tier.as_str());
        let tier_at = |name: Option<&str>| self.policy.tiers.iter().position(|t| Some(t.name.as_str()) == name);
        let origin = self.program.origin(rule);
        match effect {
            Effect::Failsafe => Some("a failsafe port".to_string()),
            Effect::TierDeny => {
                let ended = origin.and_then(|origin| origin.tier.as_deref());
                (tier_at(tier_of(i)) > tier_at(ended)).then(|| format!("the end of tier {}", ended.unwrap_or("?")))
            }
            Effect::Allow | Effect::Deny | Effect::Pass => {
                let origin = origin?;
                let number = *self.numbers.get(origin.policy.as_str())?;
                let is_left = effect != Effect::Pass || tier_of(number) == tier_of(i);
                (i > number && is_left).then(|| format!("rule {} of {}", origin.index, origin.policy))
            }
            _ => None,
        }
    }
}
