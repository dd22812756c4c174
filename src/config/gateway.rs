//! The map of a gateway file in, what is written in it out: types and words are checked here, meaning in [`super::plan`].

use crate::base::decode::{Decoder, Field};
use crate::base::diagnostic::Span;
use crate::base::site::{DefaultVerdict, ExistingFlows, FailsafeMode, FragmentMode, V1Forward};

use super::Written;

/// A gateway file as written. What is absent has its default only in [`super::Plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayFile {
    /// This box's node name.
    pub node: Option<String>,
    /// Path of the hardware profile.
    pub profile: Option<Written<String>>,
    /// Interface of the uplink port.
    pub uplink: Option<Written<String>>,
    /// Interface of the downlink port.
    pub downlink: Option<Written<String>>,
    /// Files and directories of policy.
    pub policy: Vec<Written<String>>,
    /// Segments in the order of the file.
    pub segments: Vec<SegmentFile>,
    /// Addresses behind security groups.
    pub security_group_members: Vec<(String, Vec<Written<String>>)>,
    /// Failsafe ports.
    pub failsafe: FailsafeMode,
    /// Fragments.
    pub fragments: FragmentMode,
    /// Flows that exist at a reload.
    pub existing_flows: ExistingFlows,
    /// Packets that nothing governs.
    pub default: DefaultVerdict,
    /// Policies of the v1 era.
    pub v1_forward: V1Forward,
    /// The flow table.
    pub flows: FlowsFile,
    /// Ethertypes that pass unjudged.
    pub pass_ethertypes: Option<Vec<Written<u16>>>,
    /// Where the list of ethertypes stands.
    pub pass_ethertypes_span: Option<Span>,
    /// Whether checksums beyond the IPv4 header's are verified.
    pub verify_l4_checksum: bool,
}

/// A segment as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its name.
    pub name: Option<Written<String>>,
    /// Its prefixes.
    pub cidrs: Vec<Written<String>>,
    /// Name of the host endpoint that governs it.
    pub host_endpoint: Option<String>,
    /// Name or id of its network ACL.
    pub network_acl: Option<String>,
    /// Names or ids of its security groups.
    pub security_groups: Vec<String>,
    /// Where it starts.
    pub span: Span,
}

/// The flow table as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowsFile {
    /// Most flows.
    pub capacity: Option<u32>,
    /// Whether a mid-stream ACK may start a flow.
    pub loose: Option<bool>,
    /// Seconds by name, as in [`TIMEOUTS`].
    pub timeouts: Vec<(&'static str, u32)>,
}

/// The names of timeouts (`tcp-states.md` 5).
pub const TIMEOUTS: [&str; 12] = [
    "tcpSynSent",
    "tcpSynRecv",
    "tcpEstablished",
    "tcpFinWait",
    "tcpCloseWait",
    "tcpLastAck",
    "tcpTimeWait",
    "tcpClose",
    "udp",
    "udpStream",
    "icmp",
    "other",
];

/// Most flows of a table.
pub const MOST_FLOWS: u32 = 1 << 28;
/// Longest timeout: ten years, in seconds.
const LONGEST_TIMEOUT: u32 = 315_360_000;
/// Below this, the field of an Ethernet frame is a length and no ethertype (IEEE 802.3).
const FIRST_ETHERTYPE: u16 = 0x0600;

/// Reads the fields of a gateway file, after `apiVersion` and `kind`.
pub(super) fn decode(map: &mut Decoder<'_, '_>) -> GatewayFile {
    let mut file = GatewayFile {
        node: map.take("node").and_then(|node| node.nonempty_string()).map(str::to_owned),
        profile: text(map.take("profile")),
        policy: map.take("policy").map(|policy| texts(&policy)).unwrap_or_default(),
        ..GatewayFile::default()
    };
    if let Some(mut ports) = map.take("ports").and_then(|ports| ports.map()) {
        file.uplink = port(&mut ports, "uplink");
        file.downlink = port(&mut ports, "downlink");
        ports.finish();
    }
    let segments = map.take("segments").and_then(|segments| segments.list()).unwrap_or_default();
    file.segments = segments.iter().filter_map(segment).collect();
    if let Some(groups) = map.take("securityGroupMembers").and_then(|groups| groups.entries()) {
        file.security_group_members =
            groups.iter().map(|(group, members)| (group.text.clone(), texts(members))).collect();
    }
    const FAILSAFE: [(&str, FailsafeMode); 3] =
        [("calico", FailsafeMode::Calico), ("own", FailsafeMode::Own), ("none", FailsafeMode::None)];
    const FRAGMENTS: [(&str, FragmentMode); 3] =
        [("track", FragmentMode::Track), ("drop", FragmentMode::Drop), ("portless", FragmentMode::Portless)];
    const EXISTING: [(&str, ExistingFlows); 3] =
        [("keep", ExistingFlows::Keep), ("revalidate", ExistingFlows::Revalidate), ("flush", ExistingFlows::Flush)];
    const DEFAULT: [(&str, DefaultVerdict); 2] = [("allow", DefaultVerdict::Allow), ("deny", DefaultVerdict::Deny)];
    const V1: [(&str, V1Forward); 2] = [("v3", V1Forward::V3), ("legacy", V1Forward::Legacy)];
    file.failsafe = word(map, "failsafe", &FAILSAFE);
    file.fragments = word(map, "fragments", &FRAGMENTS);
    file.existing_flows = word(map, "existingFlows", &EXISTING);
    file.default = word(map, "default", &DEFAULT);
    file.v1_forward = word(map, "v1_forward", &V1);
    if let Some(mut flows) = map.take("flows").and_then(|flows| flows.map()) {
        file.flows.capacity = flows.take("capacity").and_then(|capacity| capacity.integer(1..=MOST_FLOWS));
        file.flows.loose = flows.take("loose").and_then(|loose| loose.bool());
        if let Some(mut timeouts) = flows.take("timeouts").and_then(|timeouts| timeouts.map()) {
            for name in TIMEOUTS {
                let seconds = timeouts.take(name).and_then(|seconds| seconds.integer(1..=LONGEST_TIMEOUT));
                file.flows.timeouts.extend(seconds.map(|seconds| (name, seconds)));
            }
            timeouts.finish();
        }
        flows.finish();
    }
    if let Some(list) = map.take("passEthertypes") {
        file.pass_ethertypes_span = Some(list.span().clone());
        file.pass_ethertypes = list.list().map(|items| items.iter().filter_map(ethertype).collect());
    }
    file.verify_l4_checksum = map.take("verifyL4Checksum").and_then(|verify| verify.bool()).unwrap_or(false);
    file
}

/// A number, or, for JSON, which has no hexadecimal numbers, a text such as `"0x0806"`.
fn ethertype(field: &Field<'_, '_>) -> Option<Written<u16>> {
    let Some(text) = field.node.as_str() else {
        return field.integer(FIRST_ETHERTYPE..=u16::MAX).map(|value| Written::at(field, value));
    };
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let value = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let value = value.filter(|value| *value >= FIRST_ETHERTYPE);
    if value.is_none() {
        let message = format!("expected an ethertype, 0x0600 to 0xffff, found `{text}`");
        field.error_with_help("out-of-range", message, "write it as a number such as `0x88cc`");
    }
    value.map(|value| Written::at(field, value))
}

fn text(field: Option<Field<'_, '_>>) -> Option<Written<String>> {
    let field = field?;
    field.nonempty_string().map(|text| Written::at(&field, text.to_owned()))
}

fn texts(field: &Field<'_, '_>) -> Vec<Written<String>> {
    field.list().unwrap_or_default().into_iter().filter_map(|item| text(Some(item))).collect()
}

fn port(ports: &mut Decoder<'_, '_>, name: &'static str) -> Option<Written<String>> {
    let mut port = ports.require(name)?.map()?;
    let interface = text(port.require("interface"));
    port.finish();
    interface
}

fn segment(field: &Field<'_, '_>) -> Option<SegmentFile> {
    let mut map = field.map()?;
    let strings = |field: Option<Field<'_, '_>>| field.map(|f| texts(&f)).unwrap_or_default();
    let segment = SegmentFile {
        name: text(map.require("name")),
        cidrs: strings(map.require("cidrs")),
        host_endpoint: text(map.take("hostEndpoint")).map(|name| name.value),
        network_acl: text(map.take("networkACL")).map(|name| name.value),
        security_groups: strings(map.take("securityGroups")).into_iter().map(|name| name.value).collect(),
        span: field.span().clone(),
    };
    map.finish();
    Some(segment)
}

fn word<T: Copy + Default>(map: &mut Decoder<'_, '_>, name: &'static str, words: &[(&str, T)]) -> T {
    map.take(name).and_then(|field| field.word(words)).unwrap_or_default()
}
