//! Numbers of rules and flows in, a policy of so many rules and the frames of those flows out. The same numbers give the same.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use crate::base::address::Direction;
use crate::packet::{PacketSpec, build};

/// The uplink's name, which the policy's host endpoint has, too.
pub const UPLINK: &str = "uplink";
/// The node's name.
pub const NODE: &str = "gateway";

/// Pseudo-random numbers, the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    #[inline]
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`, which must not be 0.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(limit)) >> 64) as u64
    }
}

/// Rule `n` allows its own network of 256 addresses to one of a thousand ports, over UDP or TCP.
fn network(rule: u32) -> u32 {
    0x1000_0000 + (rule << 8)
}

fn port(rule: u32) -> u16 {
    1000 + (rule % 1000) as u16
}

const fn is_tcp(rule: u32) -> bool {
    rule % 2 == 1
}

/// Rules of one policy; more than 1024 are not allowed.
const RULES: u32 = 1000;

/// preDNAT policies of so many Allow rules in all and a last one that denies, on a host endpoint of the uplink.
pub fn policy(rules: u32) -> String {
    let mut text = format!(
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{ name: uplink, labels: {{ side: up }} }}\nspec: {{ \
         node: {NODE}, interfaceName: {UPLINK} }}\n"
    );
    let begin = |text: &mut String, order: u32| {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: part-{order} }}\nspec:\n  \
             order: {order}\n  selector: side == 'up'\n  preDNAT: true\n  applyOnForward: true\n  types: [Ingress]\n  \
             ingress:\n"
        );
    };
    for rule in 0..rules {
        if rule % RULES == 0 {
            begin(&mut text, rule / RULES);
        }
        let protocol = if is_tcp(rule) { "TCP" } else { "UDP" };
        let net = Ipv4Addr::from(network(rule));
        let _ = writeln!(
            text,
            "  - {{ action: Allow, protocol: {protocol}, source: {{ nets: [{net}/24] }}, destination: {{ ports: [{}] }} }}",
            port(rule)
        );
    }
    begin(&mut text, rules.div_ceil(RULES));
    text.push_str("  - { action: Deny }\n");
    text
}

/// A packet in the life of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A datagram or a SYN.
    First,
    /// The answer to it.
    Answer,
    /// The ACK that completes a TCP handshake; another datagram.
    Third,
    /// What goes on for ever, from the initiator.
    There,
    /// The same from the responder.
    Back,
}

impl Step {
    /// Steps that make a flow what it stays.
    pub const OPENING: [Step; 3] = [Step::First, Step::Answer, Step::Third];

    /// The side it is received on.
    pub const fn direction(self) -> Direction {
        match self {
            Step::First | Step::Third | Step::There => Direction::Inbound,
            Step::Answer | Step::Back => Direction::Outbound,
        }
    }

    const ALL: [Step; 5] = [Step::First, Step::Answer, Step::Third, Step::There, Step::Back];
}

/// Frames of flows, made of a template for each step.
#[derive(Clone, Debug)]
pub struct Traffic {
    rules: u32,
    /// By protocol (UDP, TCP) and step.
    templates: [[Vec<u8>; Step::ALL.len()]; 2],
}

/// Bytes of the frame check sequence, which frames in memory do not have.
const CHECK_SEQUENCE: usize = 4;
/// Offset of the IPv4 header checksum.
const CHECKSUM: usize = 24;

impl Traffic {
    /// Flows that so many rules allow (at least 1), in frames of `size` bytes on the wire, frame check sequence included (64 to
    /// 1518).
    pub fn new(rules: u32, size: usize) -> Traffic {
        let template = |protocol: u8, step: Step| {
            let bytes = size.clamp(64, 1518) - CHECK_SEQUENCE;
            let headers = 14 + 20 + if protocol == 6 { 20 } else { 8 };
            let (src, dst) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let (tcp_flags, seq, ack, len) = match step {
                Step::First => (0x02, 100, 0, 0),
                Step::Answer => (0x12, 500, 101, 0),
                Step::Third => (0x10, 101, 501, 0),
                Step::There => (0x10, 101, 501, bytes - headers),
                Step::Back => (0x10, 501, 101, bytes - headers),
            };
            let len = if protocol == 6 { len } else { bytes - headers } as u16;
            let window = Some(60_000);
            let mut frame =
                build(&PacketSpec { tcp_flags, seq, ack, len, window, ..PacketSpec::new(src, dst, protocol) });
            // Ethernet pads what is too short; the sum counts the addresses as 0.
            frame.resize(bytes, 0);
            frame
        };
        Traffic {
            rules: rules.max(1),
            templates: [17, 6].map(|protocol| Step::ALL.map(|step| template(protocol, step))),
        }
    }

    /// Writes the frame of a flow into `frame`, which becomes as long.
    pub fn frame(&self, flow: u32, step: Step, frame: &mut Vec<u8>) {
        let (rule, member) = (flow % self.rules, flow / self.rules);
        let client = network(rule) + (member & 0xff);
        let server = 0x0a40_0000 | (flow & 0xffff);
        let (client_port, server_port) = (1024 + (member >> 8) as u16, port(rule));
        let [udp, tcp] = &self.templates;
        let [first, answer, third, there, back] = if is_tcp(rule) { tcp } else { udp };
        frame.clear();
        frame.extend_from_slice(match step {
            Step::First => first,
            Step::Answer => answer,
            Step::Third => third,
            Step::There => there,
            Step::Back => back,
        });
        let is_there = step.direction() == Direction::Inbound;
        let (src, dst) = if is_there { (client, server) } else { (server, client) };
        let (sport, dport) = if is_there { (client_port, server_port) } else { (server_port, client_port) };
        let Some(headers) = frame.first_chunk_mut::<38>() else { return };
        let sum = u32::from(!u16::from_be_bytes([headers[CHECKSUM], headers[CHECKSUM + 1]]));
        let sum = sum + (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        headers[CHECKSUM..CHECKSUM + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        headers[26..30].copy_from_slice(&src.to_be_bytes());
        headers[30..34].copy_from_slice(&dst.to_be_bytes());
        headers[34..36].copy_from_slice(&sport.to_be_bytes());
        headers[36..38].copy_from_slice(&dport.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Key, Options, Parsed, Tuple, parse};
    use std::collections::HashSet;

    #[test]
    fn every_flow_is_another_one_and_its_frames_are_sound() {
        let traffic = Traffic::new(10, 64);
        let (mut frame, mut key, mut quote) = (Vec::new(), Key::EMPTY, Tuple::default());
        let mut seen = HashSet::new();
        for flow in 0..20_000 {
            for step in Step::ALL {
                traffic.frame(flow, step, &mut frame);
                assert_eq!(frame.len(), 60);
                let parsed = parse(&frame, step.direction(), &Options::default(), &mut key, &mut quote);
                assert_eq!(parsed, Parsed::Key, "{flow} {step:?}");
                let ends = [(key.src, key.sport), (key.dst, key.dport)];
                let ordered = if step.direction() == Direction::Inbound { ends } else { [ends[1], ends[0]] };
                assert_eq!(seen.insert((key.protocol, ordered)), step == Step::First, "{flow} {step:?}");
            }
        }
    }
}
