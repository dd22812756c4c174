//! A logged frame in, the line that the kernel's LOG target would write out (LOG-2), and the same as JSON.

use std::fmt::Write;

use etherparse::{LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};
use serde::Serialize;

use crate::base::address::{Direction, Family, address};
use crate::engine::program::Origin;
use crate::engine::{Decision, Stage};
use crate::policy::ir::LogSettings;

/// Interface names by direction of reception: uplink, downlink.
pub type Ports = [String; 2];

/// What one line is about.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// The start of the frame as received.
    pub frame: &'a [u8],
    /// Its whole length in bytes.
    pub length: u32,
    /// The side it was received on.
    pub direction: Direction,
    /// The stage whose Log rule it met.
    pub stage: Stage,
    /// The Log rule.
    pub origin: Option<&'a Origin>,
    /// The backend that stands for its destination in this stage (A36).
    pub destination: Option<(u128, u16)>,
    /// What was decided in the end.
    pub decision: Decision,
}

/// The prefix of LOG-3 with its placeholders filled; the separator `: ` is added.
pub fn prefix(settings: &LogSettings, origin: Option<&Origin>) -> String {
    let written = settings.prefix.as_deref().unwrap_or("calico-packet");
    let mut text = String::new();
    let mut rest = written.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let policy = origin.map_or("", |o| o.policy.as_str());
        match rest.next() {
            Some('t') => text.push_str(origin.map_or("", |o| o.home_tier.as_str())),
            Some('k') => text.push_str(origin.map_or("", |o| o.kind)),
            Some('n') => text.push_str(policy.rsplit('/').next().unwrap_or(policy)),
            Some('p') => text.push_str(policy),
            Some(other) => {
                text.push('%');
                text.push(other);
            }
            None => text.push('%'),
        }
    }
    text + ": "
}

/// From `IN=` to the end of the line.
pub fn kernel(entry: &Entry<'_>, ports: &Ports) -> String {
    let mut text = String::new();
    let input = &ports[entry.direction as usize];
    // Hooks before the routing decision know no output interface.
    let has_output = match entry.stage {
        Stage::Untracked | Stage::PreDnat => false,
        Stage::HostNormal => entry.direction == Direction::Outbound,
        _ => true,
    };
    let output = if has_output { ports[entry.direction.reverse() as usize].as_str() } else { "" };
    let _ = write!(text, "IN={input} OUT={output} ");
    let Ok(packet) = LaxSlicedPacket::from_ethernet(entry.frame) else { return text.trim_end().to_string() };
    if let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link {
        let ether_type = ethernet.ether_type().0.to_be_bytes();
        let bytes = ethernet.destination().into_iter().chain(ethernet.source()).chain(ether_type);
        let mac: Vec<String> = bytes.map(|b| format!("{b:02x}")).collect();
        let _ = write!(text, "MAC={} ", mac.join(":"));
    }
    network(&mut text, &packet, entry);
    transport(&mut text, &packet, entry);
    text.trim_end().to_string()
}

fn network(text: &mut String, packet: &LaxSlicedPacket<'_>, entry: &Entry<'_>) {
    let translated = |family| entry.destination.map(|(to, _)| address(family, to));
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let destination = translated(Family::V4).unwrap_or(header.destination_addr().into());
            let tos = header.dcp().value() << 2 | header.ecn().value();
            let _ = write!(
                text,
                "SRC={} DST={destination} LEN={} TOS=0x{:02X} PREC=0x{:02X} TTL={} ID={} ",
                header.source_addr(),
                header.total_len(),
                tos & 0x1e,
                tos & 0xe0,
                header.ttl(),
                header.identification()
            );
            if header.dont_fragment() {
                text.push_str("DF ");
            }
            if header.more_fragments() {
                text.push_str("MF ");
            }
            if header.fragments_offset().value() > 0 {
                let _ = write!(text, "FRAG:{} ", header.fragments_offset().value());
            }
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let destination = translated(Family::V6).unwrap_or(header.destination_addr().into());
            let _ = write!(
                text,
                "SRC={} DST={destination} LEN={} TC={} HOPLIMIT={} FLOWLBL={} ",
                header.source_addr(),
                u32::from(header.payload_length()) + 40,
                header.traffic_class(),
                header.hop_limit(),
                header.flow_label().value()
            );
        }
        _ => {}
    }
}

fn protocol(packet: &LaxSlicedPacket<'_>) -> Option<u8> {
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => Some(ip.payload().ip_number.0),
        Some(LaxNetSlice::Ipv6(ip)) => Some(ip.payload().ip_number.0),
        _ => None,
    }
}

fn transport(text: &mut String, packet: &LaxSlicedPacket<'_>, entry: &Entry<'_>) {
    let port = |port: u16| entry.destination.map_or(port, |(_, translated)| translated);
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let _ = write!(
                text,
                "PROTO=TCP SPT={} DPT={} WINDOW={} RES=0x{:02x} ",
                tcp.source_port(),
                port(tcp.destination_port()),
                tcp.window_size(),
                tcp.slice().get(12).copied().unwrap_or(0) & 0x0f
            );
            let flags = [
                (tcp.cwr(), "CWR "),
                (tcp.ece(), "ECE "),
                (tcp.urg(), "URG "),
                (tcp.ack(), "ACK "),
                (tcp.psh(), "PSH "),
                (tcp.rst(), "RST "),
                (tcp.syn(), "SYN "),
                (tcp.fin(), "FIN "),
            ];
            flags.iter().filter(|(is_set, _)| *is_set).for_each(|(_, name)| text.push_str(name));
            let _ = write!(text, "URGP={} ", tcp.urgent_pointer());
        }
        Some(TransportSlice::Udp(udp)) => {
            let (from, to) = (udp.source_port(), port(udp.destination_port()));
            let _ = write!(text, "PROTO=UDP SPT={from} DPT={to} LEN={} ", udp.length());
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let _ = write!(text, "PROTO=ICMP TYPE={} CODE={} ", icmp.type_u8(), icmp.code_u8());
            icmp_rest(text, icmp.slice(), matches!(icmp.type_u8(), 0 | 8));
            if matches!(icmp.type_u8(), 3 | 4 | 5 | 11 | 12) {
                quoted(text, icmp.payload());
            }
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let _ = write!(text, "PROTO=ICMPv6 TYPE={} CODE={} ", icmp.type_u8(), icmp.code_u8());
            icmp_rest(text, icmp.slice(), matches!(icmp.type_u8(), 128 | 129));
        }
        _ => {
            if let Some(protocol) = protocol(packet) {
                let _ = write!(text, "PROTO={protocol} ");
            }
        }
    }
}

fn icmp_rest(text: &mut String, message: &[u8], is_echo: bool) {
    if let (true, Some(&[a, b, c, d])) = (is_echo, message.get(4..8)) {
        let _ = write!(text, "ID={} SEQ={} ", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    }
}

/// The header that an ICMP error quotes, in brackets.
fn quoted(text: &mut String, bytes: &[u8]) {
    let Ok(packet) = LaxSlicedPacket::from_ip(bytes) else { return };
    let entry = Entry {
        frame: bytes,
        length: bytes.len() as u32,
        direction: Direction::Inbound,
        stage: Stage::Flow,
        origin: None,
        destination: None,
        decision: Decision::new(
            crate::engine::Verdict::Allow,
            crate::engine::Reason::Related,
            Stage::Flow,
            crate::engine::FlowState::None,
        ),
    };
    let mut inner = String::new();
    network(&mut inner, &packet, &entry);
    transport(&mut inner, &packet, &entry);
    let _ = write!(text, "[{}] ", inner.trim_end());
}

/// The same as JSON.
#[derive(Debug, Serialize)]
struct Json<'a> {
    time: String,
    policy: Option<&'a str>,
    rule: Option<u32>,
    origin: Option<String>,
    stage: &'a str,
    verdict: &'a str,
    reason: &'a str,
    flow: &'a str,
    r#in: &'a str,
    length: u32,
    packet: String,
}

/// One JSON object without line end; `time` is RFC 3339.
pub fn json(entry: &Entry<'_>, ports: &Ports, time: String) -> String {
    let line = Json {
        time,
        policy: entry.origin.map(|o| o.policy.as_str()),
        rule: entry.origin.map(|o| o.index),
        origin: entry.origin.and_then(|o| o.span.as_ref()).map(|s| format!("{}:{}", s.file, s.line)),
        stage: entry.stage.name(),
        verdict: entry.decision.verdict().name(),
        reason: entry.decision.reason().name(),
        flow: entry.decision.flow().name(),
        r#in: &ports[entry.direction as usize],
        length: entry.length,
        packet: kernel(entry, ports),
    };
    serde_json::to_string(&line).unwrap_or_default()
}
