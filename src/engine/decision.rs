//! What was decided about a packet, by which stage and why: eight bytes, no text. The names are those of the command line,
//! JSON, counters and captures.

use std::fmt;

use crate::base::id::RuleId;

/// Declares an enum whose variants have one stable name each.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in order of its number.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The value as an index into [`Self::ALL`].
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

named!(
    /// Whether a packet goes on.
    Verdict {
        /// It is transmitted on the other port.
        Allow = "allow",
        /// It is dropped silently (ACT-2).
        Deny = "deny",
    }
);

named!(
    /// Why. Each reason has a counter.
    Reason {
        /// A rule of a Calico or Kubernetes policy allowed.
        PolicyAllow = "policy-allow",
        /// A rule of a Calico or Kubernetes policy denied.
        PolicyDeny = "policy-deny",
        /// A tier that governs the endpoint ended without a decision (ACT-6).
        TierDefaultDeny = "tier-default-deny",
        /// The normal host stage ended and nothing allowed.
        NoPolicyDeny = "no-policy-deny",
        /// A profile allowed.
        Profile = "profile",
        /// No forward policy applies (PIPE-8).
        NoPolicy = "no-policy",
        /// A failsafe port (FS-1).
        Failsafe = "failsafe",
        /// The packet belongs to a flow.
        Established = "established",
        /// An ICMP error about a flow.
        Related = "related",
        /// An ACL rule allowed.
        AclAllow = "acl-allow",
        /// An ACL rule denied.
        AclDeny = "acl-deny",
        /// No ACL rule matched (ACL-4).
        AclImplicitDeny = "acl-implicit-deny",
        /// A security group rule allowed.
        SgAllow = "sg-allow",
        /// No security group rule matched (SG-1).
        SgNoMatch = "sg-no-match",
        /// The source is outside `loadBalancerSourceRanges` (GW-8).
        SourceRange = "source-range",
        /// Connection tracking finds the packet invalid (GW-25).
        InvalidState = "invalid-state",
        /// The flow table has no room (GW-24).
        FlowTableFull = "flow-table-full",
        /// Half the flow table is half-open (GW-24).
        HalfOpenLimit = "half-open-limit",
        /// A later fragment whose first is unknown (GW-22).
        FragmentNoFirst = "fragment-no-first",
        /// Fragments that overlap.
        FragmentOverlap = "fragment-overlap",
        /// A first fragment without a whole transport header.
        FragmentTiny = "fragment-tiny",
        /// Fragments are not accepted (`fragments: drop`).
        FragmentsRefused = "fragments-refused",
        /// The IP header is malformed.
        BadIpHeader = "bad-ip-header",
        /// The transport header is malformed.
        BadL4Header = "bad-l4-header",
        /// A checksum is wrong.
        BadChecksum = "bad-checksum",
        /// The frame ends before its headers do.
        Truncated = "truncated",
        /// An IPv6 extension header chain that is too long, unknown or forbidden.
        ExtHeaderChain = "ext-header-chain",
        /// An ethertype that is neither IP nor listed.
        UnknownEthertype = "unknown-ethertype",
        /// More than two VLAN tags.
        VlanUnparsed = "vlan-unparsed",
        /// A listed ethertype, ARP for one.
        PassEthertype = "pass-ethertype",
        /// IPv6 neighbour discovery.
        NeighbourDiscovery = "neighbour-discovery",
        /// Nothing governs the packet and the default allows.
        DefaultAllow = "default-allow",
        /// Nothing governs the packet and the default denies.
        DefaultDeny = "default-deny",
        /// The transmit ring stayed full for a burst.
        TxRingFull = "tx-ring-full",
        /// The frame is longer than the other port takes.
        MtuExceeded = "mtu-exceeded",
    }
);

named!(
    /// Where in GW-9's order the decision fell.
    Stage {
        /// Parsing.
        Parse = "parse",
        /// Network ACL.
        Acl = "acl",
        /// Flow table.
        Flow = "flow",
        /// Security groups.
        Sg = "sg",
        /// doNotTrack policies.
        Untracked = "untracked",
        /// preDNAT policies.
        PreDnat = "prednat",
        /// The service table's own check.
        Service = "service",
        /// Normal host policy.
        HostNormal = "host-normal",
        /// Host policy on forwarded traffic.
        HostForward = "host-forward",
        /// Policy of pods.
        Workload = "workload",
        /// The default for ungoverned packets.
        Default = "default",
    }
);

named!(
    /// Whose rule it was.
    Layer {
        /// Calico.
        Calico = "calico",
        /// Kubernetes.
        Kubernetes = "kubernetes",
        /// VPC network ACL.
        VpcAcl = "vpc-acl",
        /// VPC security group.
        VpcSg = "vpc-sg",
        /// The gateway itself.
        Engine = "engine",
    }
);

named!(
    /// What the flow table said.
    FlowState {
        /// No flow: judged as the first packet of one.
        New = "new",
        /// Part of a flow.
        Established = "established",
        /// An ICMP error about a flow.
        Related = "related",
        /// An untracked Allow decided or spared an invalid packet.
        Untracked = "untracked",
        /// No look-up was made, or the state is invalid.
        None = "none",
    }
);

/// The outcome for one packet, as one word: written in parts and read as a whole, it would be waited for.
///
/// ```text
///  bits  0..32   rule: RuleId, NONE where no single rule decided; an end of tier has an id of its own
///  bits 32..40   reason
///  bits 40..48   stage
///  bits 48..56   the highest = deny, the lowest four = flow state
///  bits 56..64   number of Log actions executed, saturating at 255
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Decision(u64);

const _: () = assert!(size_of::<Decision>() == 8);

impl Decision {
    const REASON: u32 = 32;
    const STAGE: u32 = 40;
    const FLOW: u32 = 48;
    const DENY: u32 = 55;
    const LOGS: u32 = 56;

    /// A decision without a rule and without Log actions.
    #[inline]
    pub const fn new(verdict: Verdict, reason: Reason, stage: Stage, flow: FlowState) -> Decision {
        let what = (reason as u64) << Decision::REASON | (stage as u64) << Decision::STAGE;
        let how = (flow as u64) << Decision::FLOW | (verdict as u64) << Decision::DENY;
        Decision(RuleId::NONE.0 as u64 | what | how)
    }

    /// The same decision by a rule, or by none.
    #[inline]
    pub const fn by(self, rule: RuleId) -> Decision {
        Decision(self.0 & !(u32::MAX as u64) | rule.0 as u64)
    }

    /// The same decision where the flow table said this.
    #[inline]
    pub const fn in_flow(self, flow: FlowState) -> Decision {
        Decision(self.0 & !(0xf << Decision::FLOW) | (flow as u64) << Decision::FLOW)
    }

    /// The same decision after this many Log actions.
    #[inline]
    pub const fn after_logs(self, logs: u8) -> Decision {
        Decision(self.0 & !(0xff << Decision::LOGS) | (logs as u64) << Decision::LOGS)
    }

    /// Rule that decided.
    #[inline]
    pub const fn rule(self) -> RuleId {
        RuleId(self.0 as u32)
    }

    /// Why.
    #[inline]
    pub const fn reason(self) -> Reason {
        Reason::ALL[self.part(Decision::REASON, Reason::ALL.len())]
    }

    /// Where.
    #[inline]
    pub const fn stage(self) -> Stage {
        Stage::ALL[self.part(Decision::STAGE, Stage::ALL.len())]
    }

    /// Log actions executed.
    #[inline]
    pub const fn logs(self) -> u8 {
        (self.0 >> Decision::LOGS) as u8
    }

    /// The verdict.
    #[inline]
    pub const fn verdict(self) -> Verdict {
        if self.0 >> Decision::DENY & 1 == 1 { Verdict::Deny } else { Verdict::Allow }
    }

    /// What the flow table said.
    #[inline]
    pub const fn flow(self) -> FlowState {
        FlowState::ALL[(self.0 >> Decision::FLOW & 0xf) as usize % FlowState::ALL.len()]
    }

    /// The number in one byte, of so many that there are.
    #[inline]
    const fn part(self, bit: u32, count: usize) -> usize {
        let number = (self.0 >> bit & 0xff) as usize;
        if number < count { number } else { 0 }
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision")
            .field("verdict", &self.verdict())
            .field("reason", &self.reason())
            .field("stage", &self.stage())
            .field("flow", &self.flow())
            .field("rule", &self.rule())
            .field("logs", &self.logs())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_gives_back_what_it_was_made_of() {
        for &verdict in Verdict::ALL {
            for &flow in FlowState::ALL {
                for (&reason, &stage) in Reason::ALL.iter().zip(Stage::ALL.iter().cycle()) {
                    let bare = Decision::new(verdict, reason, stage, flow);
                    let decision = bare.by(RuleId(7)).after_logs(3);
                    assert_eq!((decision.verdict(), decision.flow()), (verdict, flow));
                    assert_eq!((decision.reason(), decision.stage()), (reason, stage));
                    assert_eq!((decision.rule(), decision.logs()), (RuleId(7), 3));
                    assert_eq!((bare.rule(), bare.logs()), (RuleId::NONE, 0));
                    assert_eq!(decision.by(RuleId::NONE).after_logs(0), bare);
                    assert_eq!(Decision::new(verdict, reason, stage, FlowState::New).in_flow(flow), bare);
                }
            }
        }
    }

    #[test]
    fn reason_names_are_the_fixed_list() {
        let names: Vec<&str> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(
            names.join(" "),
            "policy-allow policy-deny tier-default-deny no-policy-deny profile no-policy failsafe established related \
             acl-allow acl-deny acl-implicit-deny sg-allow sg-no-match source-range invalid-state flow-table-full \
             half-open-limit fragment-no-first fragment-overlap fragment-tiny fragments-refused bad-ip-header bad-l4-header \
             bad-checksum truncated ext-header-chain unknown-ethertype vlan-unparsed pass-ethertype neighbour-discovery \
             default-allow default-deny tx-ring-full mtu-exceeded"
        );
    }
}
