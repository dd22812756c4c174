//! A gateway file as written and a profile in, the validated [`Plan`] that all other rooms rely on out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::base::address::{Family, address, number, range};
use crate::base::decode::Findings;
use crate::base::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::base::site::{Cidr, ExistingFlows, Segment, Site};

use super::Written;
use super::gateway::{FlowsFile, GatewayFile, SegmentFile};
use super::profile::Profile;

/// Longest name of an interface: `IFNAMSIZ` of the kernel, less the final zero.
const LONGEST_INTERFACE: usize = 15;
/// Most ethertypes of the pass list: what the parser compares for every frame that is not IP.
pub const MOST_PASS_ETHERTYPES: usize = 16;

/// What the gateway does, all checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What policy needs to know about the place.
    pub site: Site,
    /// The hardware.
    pub profile: Profile,
    /// Policy files and directories in the order of the file.
    pub policy: Vec<PolicyPath>,
    /// The flow table.
    pub flows: FlowLimits,
    /// Flows that exist at a reload (GW-23).
    pub existing_flows: ExistingFlows,
    /// Ethertypes that pass unjudged (GW-28); at most [`MOST_PASS_ETHERTYPES`].
    pub pass_ethertypes: Vec<u16>,
    /// Whether checksums beyond the IPv4 header's are verified (GW-29).
    pub verify_l4_checksum: bool,
    /// Where the gateway file lies: what relative paths start from.
    pub directory: PathBuf,
    /// Findings that are no errors.
    pub warnings: Diagnostics,
}

/// Where policy is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPath {
    /// File or directory as written, which is how findings show it; a relative one starts at [`Plan::directory`].
    pub path: PathBuf,
    /// Where the gateway file names it; `None` when the command line does.
    pub span: Option<Span>,
}

/// The interfaces of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports<'a> {
    /// Towards the outside.
    pub uplink: &'a str,
    /// Towards the workers.
    pub downlink: &'a str,
}

/// Limits of the flow table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Most flows, 1 to 2^28.
    pub capacity: u32,
    /// Whether a mid-stream ACK may start a flow (GW-25).
    pub is_loose: bool,
    /// Timeouts by state.
    pub timeouts: Timeouts,
}

/// Seconds after which a flow in each state has expired (GW-26), at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// syn-sent and syn-sent-2.
    pub tcp_syn_sent: u32,
    /// syn-recv.
    pub tcp_syn_recv: u32,
    /// established.
    pub tcp_established: u32,
    /// fin-wait.
    pub tcp_fin_wait: u32,
    /// close-wait.
    pub tcp_close_wait: u32,
    /// last-ack.
    pub tcp_last_ack: u32,
    /// time-wait.
    pub tcp_time_wait: u32,
    /// close.
    pub tcp_close: u32,
    /// UDP seen one way.
    pub udp: u32,
    /// UDP seen both ways.
    pub udp_stream: u32,
    /// ICMP echo.
    pub icmp: u32,
    /// Any other protocol.
    pub other: u32,
}

impl Default for Timeouts {
    /// GW-26.
    fn default() -> Timeouts {
        Timeouts {
            tcp_syn_sent: 120,
            tcp_syn_recv: 60,
            tcp_established: 432_000,
            tcp_fin_wait: 120,
            tcp_close_wait: 60,
            tcp_last_ack: 30,
            tcp_time_wait: 120,
            tcp_close: 10,
            udp: 30,
            udp_stream: 120,
            icmp: 30,
            other: 600,
        }
    }
}

impl Timeouts {
    /// The timeout with this name in the gateway file.
    fn named(&mut self, name: &str) -> Option<&mut u32> {
        Some(match name {
            "tcpSynSent" => &mut self.tcp_syn_sent,
            "tcpSynRecv" => &mut self.tcp_syn_recv,
            "tcpEstablished" => &mut self.tcp_established,
            "tcpFinWait" => &mut self.tcp_fin_wait,
            "tcpCloseWait" => &mut self.tcp_close_wait,
            "tcpLastAck" => &mut self.tcp_last_ack,
            "tcpTimeWait" => &mut self.tcp_time_wait,
            "tcpClose" => &mut self.tcp_close,
            "udp" => &mut self.udp,
            "udpStream" => &mut self.udp_stream,
            "icmp" => &mut self.icmp,
            "other" => &mut self.other,
            _ => return None,
        })
    }
}

impl Default for FlowLimits {
    /// GW-26: 1,048,576 flows, loose.
    fn default() -> FlowLimits {
        FlowLimits { capacity: 1 << 20, is_loose: true, timeouts: Timeouts::default() }
    }
}

impl Default for Plan {
    /// What a gateway file with nothing but its kind says: no ports, no policy, everything passes.
    fn default() -> Plan {
        Plan {
            site: Site::default(),
            profile: Profile::default(),
            policy: Vec::new(),
            flows: FlowLimits::default(),
            existing_flows: ExistingFlows::default(),
            pass_ethertypes: vec![0x0806, 0x88cc, 0x8809, 0x888e],
            verify_l4_checksum: false,
            directory: PathBuf::new(),
            warnings: Diagnostics::new(),
        }
    }
}

impl Plan {
    /// The interfaces, without which there is nothing to run.
    ///
    /// # Errors
    /// One error when the gateway file names no ports.
    pub fn for_run(&self) -> Result<Ports<'_>, Diagnostic> {
        match (&self.site.uplink, &self.site.downlink) {
            (Some(uplink), Some(downlink)) => Ok(Ports { uplink, downlink }),
            _ => Err(Diagnostic::error("no-ports", "the gateway file names no `ports`, which `run` needs")
                .help("add `ports: { uplink: { interface: ... }, downlink: { interface: ... } }`")),
        }
    }
}

/// Checks what the fields mean and how they fit together. `None` if something is wrong.
pub(super) fn validate(file: GatewayFile, profile: Profile, directory: &Path, findings: &Findings) -> Option<Plan> {
    let errors_before = findings.errors();
    let ports = [&file.uplink, &file.downlink];
    ports.into_iter().flatten().for_each(|interface| check_interface(interface, findings));
    if let [Some(uplink), Some(downlink)] = ports
        && uplink.value == downlink.value
    {
        let message = format!("uplink and downlink are the same interface `{}`: expected two", uplink.value);
        findings.push(Diagnostic::error("same-interface", message).at(&downlink.span));
    }
    let members = file.security_group_members.iter();
    let members = members.map(|(group, list)| (group.clone(), list.iter().filter_map(|m| host(m, findings)).collect()));
    let site = Site {
        node: file.node,
        uplink: file.uplink.map(|interface| interface.value),
        downlink: file.downlink.map(|interface| interface.value),
        segments: segments(&file.segments, findings),
        security_group_members: members.collect::<BTreeMap<_, Vec<IpAddr>>>(),
        failsafe: file.failsafe,
        fragments: file.fragments,
        default: file.default,
        v1_forward: file.v1_forward,
    };
    let policy_path = |written: Written<String>| PolicyPath { path: written.value.into(), span: Some(written.span) };
    let usual = Plan::default();
    let plan = Plan {
        site,
        profile,
        policy: file.policy.into_iter().map(policy_path).collect(),
        flows: flows(&file.flows),
        existing_flows: file.existing_flows,
        pass_ethertypes: match &file.pass_ethertypes {
            Some(list) => ethertypes(list, file.pass_ethertypes_span.as_ref(), findings),
            None => usual.pass_ethertypes,
        },
        verify_l4_checksum: file.verify_l4_checksum,
        directory: directory.to_owned(),
        warnings: Diagnostics::new(),
    };
    (findings.errors() == errors_before).then_some(plan)
}

fn check_interface(written: &Written<String>, findings: &Findings) {
    let Written { value, span } = written;
    let is_legal = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    if value.len() <= LONGEST_INTERFACE && value.chars().all(is_legal) && value != "." && value != ".." {
        return;
    }
    let message = format!(
        "`{value}` is not the name of an interface: expected 1 to {LONGEST_INTERFACE} characters without blanks, `/` and `:`"
    );
    findings.push(Diagnostic::error("bad-interface", message).at(span).help("`ip link` lists the interfaces"));
}

fn flows(file: &FlowsFile) -> FlowLimits {
    let mut limits = FlowLimits::default();
    limits.capacity = file.capacity.unwrap_or(limits.capacity);
    limits.is_loose = file.loose.unwrap_or(limits.is_loose);
    for (name, seconds) in &file.timeouts {
        if let Some(timeout) = limits.timeouts.named(name) {
            *timeout = *seconds;
        }
    }
    limits
}

fn ethertypes(list: &[Written<u16>], span: Option<&Span>, findings: &Findings) -> Vec<u16> {
    // IPv4, IPv6 and the VLAN tags of IEEE 802.1Q and 802.1ad.
    const ALWAYS_PARSED: [u16; 4] = [0x0800, 0x86dd, 0x8100, 0x88a8];
    for Written { value, span } in list {
        if ALWAYS_PARSED.contains(value) {
            let message = format!("`passEthertypes`: {value:#06x} has no effect: IP and VLAN frames are always judged");
            findings.push(Diagnostic::warning("pass-ethertype-without-effect", message).at(span));
        }
    }
    let mut distinct: Vec<u16> = list.iter().map(|written| written.value).collect();
    distinct.sort_unstable();
    distinct.dedup();
    if let Some(span) = span
        && distinct.len() > MOST_PASS_ETHERTYPES
    {
        let count = distinct.len();
        let message = format!("`passEthertypes`: {count} ethertypes: expected {MOST_PASS_ETHERTYPES} at most");
        findings.push(Diagnostic::error("too-many-ethertypes", message).at(span));
    }
    distinct
}

fn host(written: &Written<String>, findings: &Findings) -> Option<IpAddr> {
    let Written { value, span } = written;
    let parsed = value.parse().ok();
    if parsed.is_none() {
        let error = Diagnostic::error("bad-address", format!("expected an IP address, found `{value}`")).at(span);
        findings.push(match value.split_once('/') {
            Some(_) => error.help("members are single addresses; a segment's `securityGroups` covers a prefix"),
            None => error,
        });
    }
    parsed
}

fn segments(files: &[SegmentFile], findings: &Findings) -> Vec<Segment> {
    let mut names: BTreeMap<&str, &Span> = BTreeMap::new();
    let mut prefixes: BTreeMap<(u128, u8, bool), (&str, &Span)> = BTreeMap::new();
    let mut segments = Vec::with_capacity(files.len());
    for file in files {
        let name = file.name.as_ref().map_or("", |name| name.value.as_str());
        if let Some(written) = &file.name
            && let Some(earlier) = names.insert(name, &written.span)
        {
            let message = format!("segment `{name}` is defined twice, first in line {}", earlier.line);
            findings.push(Diagnostic::error("duplicate-segment", message).at(&written.span));
        }
        if let (Some(written), true) = (&file.name, file.cidrs.is_empty()) {
            let message = format!("segment `{name}` covers nothing: expected at least one prefix in `cidrs`");
            findings.push(Diagnostic::error("empty-segment", message).at(&written.span));
        }
        let mut cidrs = Vec::with_capacity(file.cidrs.len());
        for written in &file.cidrs {
            let Some(cidr) = cidr(written, findings) else { continue };
            let key = (number(cidr.network), cidr.length, cidr.network.is_ipv6());
            if let Some((owner, earlier)) = prefixes.insert(key, (name, &written.span)) {
                let message =
                    format!("`{}` is a prefix of segment `{owner}` already, in line {}", written.value, earlier.line);
                findings.push(Diagnostic::error("duplicate-cidr", message).at(&written.span));
            }
            cidrs.push(cidr);
        }
        segments.push(Segment {
            name: name.to_owned(),
            cidrs,
            host_endpoint: file.host_endpoint.clone(),
            network_acl: file.network_acl.clone(),
            security_groups: file.security_groups.clone(),
            span: Some(file.span.clone()),
        });
    }
    segments
}

fn cidr(written: &Written<String>, findings: &Findings) -> Option<Cidr> {
    let Written { value, span } = written;
    let error = |message: String, help: Option<String>| {
        let error = Diagnostic::error("bad-cidr", message).at(span);
        findings.push(match help {
            Some(help) => error.help(help),
            None => error,
        });
    };
    let Some((network, length)) = value.split_once('/') else {
        let is_address = value.parse::<IpAddr>();
        let help = is_address.ok().map(|ip| format!("for one address write `{ip}/{}`", Family::of(ip).bits()));
        error(format!("expected a prefix such as `10.0.0.0/24`, found `{value}`"), help);
        return None;
    };
    let Ok(network) = network.parse::<IpAddr>() else {
        error(format!("expected a prefix such as `10.0.0.0/24`, found `{value}`"), None);
        return None;
    };
    let family = Family::of(network);
    let digits = length.bytes().all(|b| b.is_ascii_digit()) && length.len() <= 3;
    let length = length.parse::<u8>().ok().filter(|length| digits && *length <= family.bits());
    let Some(length) = length else {
        error(format!("`{value}`: expected a prefix length from 0 to {}", family.bits()), None);
        return None;
    };
    let (first, _) = range(network, length);
    if first != number(network) {
        let help = format!("did you mean `{}/{length}` or `{network}/{}`?", address(family, first), family.bits());
        error(format!("`{value}` has bits set beyond its prefix length"), Some(help));
        return None;
    }
    Some(Cidr { network, length })
}
