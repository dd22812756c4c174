//! The events of one packet in, the stages it went through as text or JSON out.

use std::fmt::Write;

use serde::Serialize;

use super::verdict::Line;
use crate::base::address::{Family, address};
use crate::compile::applies::NotApplied;
use crate::engine::program::Effect;
use crate::engine::trace::{Event, Subject};
use crate::engine::{Decision, Program, Stage, Verdict};
use crate::packet::{Key, Parsed, Passed};

/// One step on the way of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    stage: &'static str,
    /// Whose list was asked.
    of: String,
    /// What came of it.
    outcome: String,
    policy: Option<String>,
    rule: Option<u32>,
    origin: Option<String>,
}

/// A packet's way and verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Story {
    packet: String,
    stages: Vec<Step>,
    #[serde(flatten)]
    verdict: Line,
    #[serde(rename = "notApplied")]
    not_applied: Vec<Absent>,
}

/// A policy that had no part in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Absent {
    policy: String,
    code: &'static str,
    reason: String,
}

/// Policies without a part in it that the text names.
const MOST_ABSENT: usize = 8;

fn subject(program: &Program, subject: Subject) -> String {
    match subject {
        Subject::Endpoint(index) => {
            let name = program.endpoint_names.get(index as usize).map_or("?", String::as_str);
            let whose =
                if program.uplink == Some(index) || program.downlink == Some(index) { "own" } else { "stand-in" };
            format!("host endpoint {name} ({whose})")
        }
        Subject::Pod => "pod".to_string(),
        Subject::Acl => "network ACL".to_string(),
        Subject::Groups => "security groups".to_string(),
        Subject::Service => "service table".to_string(),
    }
}

fn outcome(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::Log => "log, go on",
        Effect::Pass => "pass to the next tier",
        Effect::Failsafe => "failsafe port: accepted, the stage ends",
        Effect::TierDeny => "deny: the tier ends and one of its policies governs the endpoint",
        Effect::ProfileAllow => "allow by profile",
        Effect::ProfileDeny => "deny by profile",
        Effect::NoPolicyDeny => "deny: no policy and no profile allows",
        Effect::NoPolicy => "pass: no forward policy decides",
        Effect::AclImplicitDeny => "deny: no rule of the ACL matches",
        Effect::SgNoMatch => "deny: no rule of the groups matches",
    }
}

fn step(program: &Program, family: Family, event: &Event) -> Step {
    let plain = |stage: &'static str, of: String, outcome: String| Step {
        stage,
        of,
        outcome,
        policy: None,
        rule: None,
        origin: None,
    };
    match *event {
        Event::Matched { stage, subject: of, rule, effect } => {
            let origin = program.origin(rule);
            let named = origin.filter(|o| o.tier.is_none());
            let tier = origin.and_then(|o| o.tier.as_ref()).map_or(String::new(), |tier| format!(" (tier {tier})"));
            Step {
                stage: stage.name(),
                of: subject(program, of),
                outcome: format!("{}{tier}", outcome(effect)),
                policy: named.map(|o| o.policy.clone()),
                rule: named.map(|o| o.index),
                origin: named.and_then(|o| o.span.as_ref()).map(|s| format!("{}:{}", s.file, s.line)),
            }
        }
        Event::Undecided { stage, subject: of } => {
            plain(stage.name(), subject(program, of), "no rule matches, go on".to_string())
        }
        Event::Translated { address: to, port } => {
            let to = std::net::SocketAddr::new(address(family, to), port);
            plain(
                Stage::Service.name(),
                subject(program, Subject::Service),
                format!("counts as sent to {to} from here on"),
            )
        }
        Event::SourceRefused => plain(
            Stage::Service.name(),
            subject(program, Subject::Service),
            "deny: the source is outside loadBalancerSourceRanges".to_string(),
        ),
    }
}

/// Tells a packet's way. `packet` is how the user wrote it.
pub fn story(
    program: &Program,
    packet: &str,
    key: &Key,
    parsed: Parsed,
    events: &[Event],
    decision: Decision,
) -> Story {
    let mut stages: Vec<Step> = events.iter().map(|event| step(program, key.family(), event)).collect();
    let about = match parsed {
        Parsed::Key if decision.stage() == Stage::Flow && decision.verdict() == Verdict::Deny => {
            Some(("flow", "flow table", format!("deny: {}", decision.reason().name())))
        }
        Parsed::Key if stages.is_empty() => Some(("default", "gateway", "nothing governs the packet".to_string())),
        Parsed::Key => None,
        Parsed::Pass(Passed::Ethertype(ethertype)) => {
            Some(("parse", "parser", format!("ethertype {ethertype:#06x} passes unjudged")))
        }
        Parsed::Pass(Passed::NeighbourDiscovery) => {
            Some(("parse", "parser", "neighbour discovery passes unjudged".to_string()))
        }
        Parsed::Malformed(fault) => Some(("parse", "parser", format!("malformed: {fault:?}"))),
    };
    if let Some((stage, of, outcome)) = about {
        stages.push(Step { stage, of: of.to_string(), outcome, policy: None, rule: None, origin: None });
    }
    Story { packet: packet.to_string(), stages, verdict: Line::new(program, 1, decision), not_applied: Vec::new() }
}

impl Story {
    /// The same, with the policies that had no part in it.
    pub fn with_not_applied(mut self, found: Vec<NotApplied>) -> Story {
        let absent = |found: NotApplied| Absent {
            policy: found.policy,
            code: found.cause.code(),
            reason: found.cause.to_string(),
        };
        self.not_applied = found.into_iter().map(absent).collect();
        self
    }

    /// The story as one JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The story for people: a line a stage, the verdict last.
    pub fn text(&self, decision: Decision) -> String {
        let mut text = format!("{}\n", self.packet);
        for step in &self.stages {
            let by = match (&step.policy, step.rule, &step.origin) {
                (Some(policy), Some(rule), Some(origin)) => format!(" by {policy} rule {rule}  {origin}"),
                (Some(policy), Some(rule), None) => format!(" by {policy} rule {rule}"),
                _ => String::new(),
            };
            let _ = writeln!(text, "  {:<13} {:<40} {}{by}", step.stage, step.of, step.outcome);
        }
        for absent in self.not_applied.iter().take(MOST_ABSENT) {
            let _ = writeln!(text, "  not applied: {}: {}", absent.policy, absent.reason);
        }
        if self.not_applied.len() > MOST_ABSENT {
            let rest = self.not_applied.len() - MOST_ABSENT;
            let _ = writeln!(text, "  not applied: {rest} more, all in `-o json`");
        }
        let _ = writeln!(
            text,
            "{}: {} (stage {}, flow {})",
            decision.verdict().name().to_uppercase(),
            decision.reason().name(),
            decision.stage().name(),
            decision.flow().name()
        );
        text
    }
}
