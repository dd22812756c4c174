//! A decision in, the line of JSON that `explain --packets` and `replay --verdicts` write out.

use serde::Serialize;

use crate::engine::{Decision, Layer, Program, Reason, Verdict};

/// The verdict on one packet as others read it; the order of fields is the order in the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    n: u64,
    verdict: &'static str,
    reason: &'static str,
    stage: &'static str,
    layer: &'static str,
    policy: Option<String>,
    rule: Option<u32>,
    origin: Option<String>,
    flow: &'static str,
    logs: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
}

/// Whose decision it is: the rule's layer, else the layer that its reason belongs to.
pub fn layer(program: &Program, decision: Decision) -> Layer {
    if let Some(origin) = program.origin(decision.rule()) {
        return origin.layer;
    }
    match decision.reason() {
        Reason::TierDefaultDeny
        | Reason::NoPolicyDeny
        | Reason::Profile
        | Reason::NoPolicy
        | Reason::Failsafe
        | Reason::PolicyAllow
        | Reason::PolicyDeny => Layer::Calico,
        Reason::SourceRange => Layer::Kubernetes,
        Reason::AclAllow | Reason::AclDeny | Reason::AclImplicitDeny => Layer::VpcAcl,
        Reason::SgAllow | Reason::SgNoMatch => Layer::VpcSg,
        _ => Layer::Engine,
    }
}

impl Line {
    /// The line of the packet with number `n`, from 1.
    pub fn new(program: &Program, n: u64, decision: Decision) -> Line {
        let origin = program.origin(decision.rule());
        let rule = origin.filter(|o| o.tier.is_none());
        Line {
            n,
            verdict: decision.verdict().name(),
            reason: decision.reason().name(),
            stage: decision.stage().name(),
            layer: layer(program, decision).name(),
            policy: rule.map(|o| o.policy.clone()),
            rule: rule.map(|o| o.index),
            origin: rule.and_then(|o| o.span.as_ref()).map(|span| format!("{}:{}", span.file, span.line)),
            flow: decision.flow().name(),
            logs: decision.logs(),
            tier: origin.and_then(|o| o.tier.clone()),
        }
    }

    /// The line for people, without line end.
    pub fn text(&self) -> String {
        let by = match (&self.policy, self.rule, &self.tier) {
            (Some(policy), Some(rule), _) => format!(" by {policy} rule {rule}"),
            (_, _, Some(tier)) => format!(" at the end of tier {tier}"),
            _ => String::new(),
        };
        let origin = self.origin.as_ref().map_or(String::new(), |origin| format!("  {origin}"));
        format!(
            "{:>7}  {:<6}{:<20} {:<13} {:<12}{by}{origin}",
            self.n, self.verdict, self.reason, self.stage, self.flow
        )
    }

    /// The comment of a dropped packet in a capture.
    pub fn comment(&self) -> String {
        let policy = self.policy.as_deref().unwrap_or("-");
        let rule = self.rule.map_or("-".to_string(), |rule| rule.to_string());
        format!("reason={} stage={} policy={policy} rule={rule}", self.reason, self.stage)
    }

    /// The line as JSON, without line end.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Exit code of a verdict.
pub fn exit_code(decision: Decision) -> u8 {
    match decision.verdict() {
        Verdict::Allow => super::arguments::exit::DONE,
        Verdict::Deny => super::arguments::exit::DENIED,
    }
}
