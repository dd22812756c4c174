//! What the gateway file says about where the box stands, as far as policy needs it: validated by `config`, used by `compile`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::diagnostic::Span;

/// A prefix: any address inside it and its length in bits; the host bits of a validated prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    /// The network address.
    pub network: IpAddr,
    /// Prefix length, 0 to 32 or 128.
    pub length: u8,
}

/// A named part of what lies behind the downlink (GW-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Unique name.
    pub name: String,
    /// What it covers; the longest matching prefix over all segments decides.
    pub cidrs: Vec<Cidr>,
    /// Name of the host endpoint that governs addresses no stand-in claims (GW-5).
    pub host_endpoint: Option<String>,
    /// Name or id of the network ACL.
    pub network_acl: Option<String>,
    /// Names or ids of the security groups that hold for every address.
    pub security_groups: Vec<String>,
    /// Where it is written.
    pub span: Option<Span>,
}

/// Which endpoints failsafe ports hold for (GW-20).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailsafeMode {
    /// Own endpoints and stand-ins, as upstream does.
    #[default]
    Calico,
    /// Own endpoints only.
    Own,
    /// Switched off.
    None,
}

/// What happens to fragments (GW-22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FragmentMode {
    /// Later fragments follow the first.
    #[default]
    Track,
    /// All fragments are denied.
    Drop,
    /// A known first decides, else judged without ports.
    Portless,
}

/// What a reload does to flows that exist (GW-23).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExistingFlows {
    /// They keep their verdict.
    #[default]
    Keep,
    /// Each is judged again on its next packet.
    Revalidate,
    /// All are forgotten.
    Flush,
}

/// How policies in the syntax of calicoctl 1.x act on forwarded traffic (GW-32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum V1Forward {
    /// As converted: only preDNAT and doNotTrack policies.
    #[default]
    V3,
    /// All of them, with a default deny at the end.
    Legacy,
}

/// The verdict for packets that nothing governs (GW-31).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultVerdict {
    /// They pass.
    #[default]
    Allow,
    /// They are denied.
    Deny,
}

/// Where the box stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// This box's node name (GW-4); without it every host endpoint is a stand-in.
    pub node: Option<String>,
    /// Interface name of the uplink port.
    pub uplink: Option<String>,
    /// Interface name of the downlink port.
    pub downlink: Option<String>,
    /// Segments of the gateway file.
    pub segments: Vec<Segment>,
    /// Addresses behind a security group, by group name or id (GW-13).
    pub security_group_members: BTreeMap<String, Vec<IpAddr>>,
    /// Failsafe ports.
    pub failsafe: FailsafeMode,
    /// Fragments.
    pub fragments: FragmentMode,
    /// Packets that nothing governs.
    pub default: DefaultVerdict,
    /// Policies of the v1 era.
    pub v1_forward: V1Forward,
}
