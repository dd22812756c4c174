//! What was decided about a packet, by which stage and why: eight bytes, no text. The names are those of the command line,
//! JSON, counters and captures.

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

/// The outcome for one packet.
///
/// ```text
///  byte 0..4   rule: RuleId, NONE where no single rule decided; an end of tier has an id of its own
///  byte 4      reason
///  byte 5      stage
///  byte 6      bit 7 = deny, bits 0..3 = flow state
///  byte 7      number of Log actions executed, saturating at 255
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Decision {
    /// Rule that decided.
    pub rule: RuleId,
    /// Why.
    pub reason: Reason,
    /// Where.
    pub stage: Stage,
    state: u8,
    /// Log actions executed.
    pub logs: u8,
}

const _: () = assert!(size_of::<Decision>() == 8);

impl Decision {
    /// A decision without a rule and without Log actions.
    #[inline]
    pub const fn new(verdict: Verdict, reason: Reason, stage: Stage, flow: FlowState) -> Decision {
        let deny = if matches!(verdict, Verdict::Deny) { 0x80 } else { 0 };
        Decision { rule: RuleId::NONE, reason, stage, state: deny | flow as u8, logs: 0 }
    }

    /// The same decision by a rule.
    #[inline]
    pub const fn by(mut self, rule: RuleId) -> Decision {
        self.rule = rule;
        self
    }

    /// The same decision after this many Log actions.
    #[inline]
    pub const fn after_logs(mut self, logs: u8) -> Decision {
        self.logs = logs;
        self
    }

    /// The verdict.
    #[inline]
    pub const fn verdict(self) -> Verdict {
        if self.state & 0x80 != 0 { Verdict::Deny } else { Verdict::Allow }
    }

    /// What the flow table said.
    #[inline]
    pub const fn flow(self) -> FlowState {
        match self.state & 0x7f {
            0 => FlowState::New,
            1 => FlowState::Established,
            2 => FlowState::Related,
            3 => FlowState::Untracked,
            _ => FlowState::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_gives_back_what_it_was_made_of() {
        for &verdict in Verdict::ALL {
            for &flow in FlowState::ALL {
                let decision =
                    Decision::new(verdict, Reason::Established, Stage::Flow, flow).by(RuleId(7)).after_logs(3);
                assert_eq!((decision.verdict(), decision.flow()), (verdict, flow));
                assert_eq!((decision.rule, decision.logs), (RuleId(7), 3));
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
