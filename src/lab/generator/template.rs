//! Traffic in, one prepared frame for each flow and size out; and of a received frame, the parts that its signature is about.

use std::net::IpAddr;

use super::signature::{SIGNATURE, Signature, digest, scatter};
use super::traffic::{CHECK_SEQUENCE, Protocol, Traffic};
use crate::packet::{PacketSpec, build};

/// Most bytes before the payload: Ethernet, IPv6 and TCP, rounded up.
const HEAD: usize = 80;
const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Source ports of flows begin here: registered ports, below those that hosts draw for themselves.
const FIRST_PORT: u16 = 10_000;
const ACK: u8 = 16;
const ECHO_IDENTIFIER: u16 = 0x5257;

/// A frame of one flow and size up to its signature.
struct Template {
    head: [u8; HEAD],
    /// Where the payload begins.
    payload: u8,
    /// Where the transport checksum lies.
    checksum: u8,
    /// The checksum's sum over the packet with a signature of zeros, folded to 16 bits.
    sum: u32,
    /// Bytes of the frame without check sequence.
    length: u16,
    /// Digest of what the signature vouches for.
    rest: u64,
}

/// Prepared frames of a traffic.
pub struct Templates {
    /// By flow, then by place in the cycle of sizes.
    list: Vec<Template>,
    sizes: usize,
    flows: u32,
    seed: u64,
    /// What follows the signature, as much of it as fits.
    filler: Vec<u8>,
}

impl Templates {
    /// Prepares a traffic. Sizes that a packet of some protocol does not fit are raised to the smallest that it fits.
    pub fn new(traffic: &Traffic) -> Templates {
        let filler: Vec<u8> = (0..200).flat_map(|word| scatter(!traffic.seed, word).to_le_bytes()).collect();
        let sizes = traffic.sizes.cycle();
        let make = |flow| sizes.iter().map(move |size| (flow, *size));
        let list: Vec<Template> = (0..traffic.flows.max(1))
            .flat_map(make)
            .map(|(flow, size)| template(traffic, flow, size - CHECK_SEQUENCE, &filler))
            .collect();
        Templates { list, sizes: sizes.len(), flows: traffic.flows.max(1), seed: traffic.seed, filler }
    }

    /// The flow of a packet.
    #[inline]
    pub fn flow_of(&self, sequence: u32) -> u32 {
        flow_of(self.seed, self.flows, sequence)
    }

    #[inline]
    fn template(&self, signature: &Signature) -> Option<&Template> {
        let size = signature.sequence as usize % self.sizes;
        self.list.get(usize::from(signature.flow) * self.sizes + size)
    }

    /// Bytes of the frame that bears this signature, without check sequence; 0 for a flow that is not there.
    #[inline]
    pub fn length(&self, signature: &Signature) -> usize {
        self.template(signature).map_or(0, |template| template.length.into())
    }

    /// Writes the frame. Bytes beyond its length are left alone; does nothing in too short a room.
    #[inline]
    pub fn write(&self, signature: &Signature, frame: &mut [u8]) {
        let Some(template) = self.template(signature) else { return };
        let (payload, checksum) = (usize::from(template.payload), usize::from(template.checksum));
        let bytes = signature.encode(template.rest);
        let marked = bytes.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair)));
        let sum = match !fold(template.sum + marked.sum::<u32>()) {
            // No checksum is written as 0, and 0 as all ones, which means the same (RFC 768).
            0 => 0xffff,
            sum => sum,
        };
        let Some(frame) = frame.get_mut(..template.length.into()) else { return };
        let Some((head, rest)) = frame.split_at_mut_checked(payload) else { return };
        let Some((mark, rest)) = rest.split_at_mut_checked(SIGNATURE) else { return };
        head.iter_mut().zip(&template.head).for_each(|(to, from)| *to = *from);
        if let Some(field) = head.get_mut(checksum..).and_then(|field| field.first_chunk_mut()) {
            *field = sum.to_be_bytes();
        }
        mark.copy_from_slice(&bytes);
        if let Some(filler) = self.filler.get(..rest.len()) {
            rest.copy_from_slice(filler);
        }
    }

    /// Shortest and longest frame, without check sequence.
    pub fn lengths(&self) -> [usize; 2] {
        let lengths = || self.list.iter().map(|template| usize::from(template.length));
        [lengths().min().unwrap_or(0), lengths().max().unwrap_or(0)]
    }
}

/// The flow that a packet of a traffic with this seed and so many flows, at least 1, belongs to.
#[inline]
pub fn flow_of(seed: u64, flows: u32, sequence: u32) -> u32 {
    (scatter(seed, sequence.into()) % u64::from(flows.max(1))) as u32
}

fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The packet of a flow: protocols and paths take turns, then the hosts of the path, then the ports.
fn spec(traffic: &Traffic, flow: u32) -> PacketSpec {
    let [protocols, paths] = [traffic.protocols.len().max(1), traffic.paths.len().max(1)];
    let turn = flow as usize;
    let protocol = traffic.protocols.get(turn % protocols).copied().unwrap_or(Protocol::Udp);
    let path = traffic.paths.get(turn / protocols % paths).copied().unwrap_or_else(super::traffic::Path::ipv4);
    let host = (turn / protocols / paths) as u64;
    let (source, destination) = (path.from.host(host), path.to.host(host));
    let number = match (protocol, source.is_ipv6()) {
        (Protocol::Udp, _) => UDP,
        (Protocol::Tcp, _) => TCP,
        (Protocol::Icmp, false) => ICMP,
        (Protocol::Icmp, true) => ICMPV6,
    };
    // The asking side counts through its hosts and then through its ports, whichever side this is.
    let asking = if traffic.is_answering { path.to } else { path.from };
    let round = (host / asking.count()) as u16;
    let (own, other) = (FIRST_PORT.wrapping_add(round), traffic.port);
    let (sport, dport) = if traffic.is_answering { (other, own) } else { (own, other) };
    let echo = PacketSpec::new(source, destination, number).icmp_type;
    PacketSpec {
        sport,
        dport,
        // An echo reply is 0 for a request of 8 (RFC 792), 129 for one of 128 (RFC 4443).
        icmp_type: match (traffic.is_answering, source.is_ipv6()) {
            (false, _) => echo,
            (true, false) => 0,
            (true, true) => 129,
        },
        tcp_flags: ACK,
        seq: 1,
        ack: 1,
        icmp_id: ECHO_IDENTIFIER.wrapping_add(round),
        ..PacketSpec::new(source, destination, number)
    }
}

fn template(traffic: &Traffic, flow: u32, wanted: u16, filler: &[u8]) -> Template {
    let spec = spec(traffic, flow);
    let bare = build(&PacketSpec { len: SIGNATURE as u16, ..spec.clone() });
    let padding = usize::from(wanted).saturating_sub(bare.len());
    let mut frame = build(&PacketSpec { len: (SIGNATURE + padding) as u16, ..spec });
    frame.iter_mut().zip(traffic.to_mac).for_each(|(to, from)| *to = from);
    let payload = bare.len() - SIGNATURE;
    let checksum = payload
        - match View::of(&frame).map(|view| view.protocol) {
            Some(TCP) => 4,
            Some(UDP) => 2,
            _ => 6,
        };
    let field = frame.get(checksum..).and_then(|field| field.first_chunk()).map_or(0, |f| u16::from_be_bytes(*f));
    if let Some(room) = frame.get_mut(payload + SIGNATURE..) {
        room.iter_mut().zip(filler).for_each(|(to, from)| *to = *from);
    }
    let filled = frame.get(payload + SIGNATURE..).unwrap_or_default();
    let words = filled.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let sum = u32::from(fold(u32::from(!field) + words.sum::<u32>()));
    let rest = View::of(&frame).map_or(0, |view| view.rest());
    let mut head = [0; HEAD];
    head.iter_mut().zip(frame.iter().take(payload)).for_each(|(to, from)| *to = *from);
    Template { head, payload: payload as u8, checksum: checksum as u8, sum, length: frame.len() as u16, rest }
}

/// The parts of a received frame that a signature vouches for.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Source and destination address, as on the wire.
    addresses: &'a [u8],
    protocol: u8,
    /// The ports, or the identifier and sequence number of an echo.
    ports: [u8; 4],
    payload: &'a [u8],
}

impl<'a> View<'a> {
    /// The view of a frame; `None` for what no generator here sends: other protocols, options, fragments, lengths that do not fit.
    #[inline]
    pub fn of(frame: &'a [u8]) -> Option<View<'a>> {
        let ethertype = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
        let packet = frame.get(ETHERNET..)?;
        let half = |at: usize| packet.get(at..)?.first_chunk().map(|half| usize::from(u16::from_be_bytes(*half)));
        let (protocol, addresses, transport) = match ethertype {
            IPV4 if packet.first() == Some(&0x45) => (*packet.get(9)?, packet.get(12..20)?, packet.get(20..half(2)?)?),
            IPV6 => (*packet.get(6)?, packet.get(8..40)?, packet.get(40..)?.get(..half(4)?)?),
            _ => return None,
        };
        let (ports, header) = match protocol {
            UDP => (0, 8),
            TCP => (0, 20),
            ICMP | ICMPV6 => (4, 8),
            _ => return None,
        };
        Some(View {
            addresses,
            protocol,
            ports: *transport.get(ports..)?.first_chunk()?,
            payload: transport.get(header..)?,
        })
    }

    /// Digest of everything but the signature.
    #[inline]
    fn rest(&self) -> u64 {
        let ports = u64::from(u32::from_be_bytes(self.ports)) << 8 | u64::from(self.protocol);
        let words = [digest(self.addresses), ports, digest(self.payload.get(SIGNATURE..).unwrap_or_default())];
        words.into_iter().fold(0, |state: u64, word| scatter(state, word))
    }

    /// The signature and whether its checksum is right; `None` without room for one.
    #[inline]
    pub fn signature(&self) -> Option<(Signature, bool)> {
        Signature::decode(self.payload, self.rest())
    }

    /// Source and destination.
    pub fn addresses(&self) -> Option<[IpAddr; 2]> {
        let (source, destination) = self.addresses.split_at_checked(self.addresses.len() / 2)?;
        let address = |bytes: &[u8]| match bytes.len() {
            4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
            _ => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        };
        Some([address(source)?, address(destination)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::Direction;
    use crate::lab::generator::traffic::{MOST_FLOWS, Path};
    use crate::packet::{Key, Options, Parsed, Tuple, parse};

    fn traffic(protocol: Protocol, path: Path) -> Traffic {
        let sizes = "64,65,127,570,1518".parse().unwrap();
        Traffic { protocols: vec![protocol], paths: vec![path], sizes, flows: 10, ..Traffic::default() }
    }

    fn frame(templates: &Templates, signature: &Signature) -> Vec<u8> {
        let mut frame = vec![0xee; templates.length(signature)];
        templates.write(signature, &mut frame);
        frame
    }

    fn signature(templates: &Templates, sequence: u32) -> Signature {
        let flow = templates.flow_of(sequence) as u16;
        Signature { run: 9, flow, sequence, departure: u64::from(sequence) * 1_000_003 }
    }

    #[test]
    fn frames_are_well_formed_with_right_checksums_and_their_size() {
        for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Icmp] {
            for (path, smallest) in [(Path::ipv4(), 60), (Path::ipv6(), 80)] {
                let templates = Templates::new(&traffic(protocol, path));
                let least = smallest + if protocol == Protocol::Tcp { 12 } else { 0 };
                for sequence in 0..500u32 {
                    let signature = signature(&templates, sequence);
                    let frame = frame(&templates, &signature);
                    let wanted = [60usize, 61, 123, 566, 1514][sequence as usize % 5];
                    assert_eq!(frame.len(), wanted.max(least), "{protocol:?}");
                    let options = Options { verify_l4_checksum: true, ..Options::default() };
                    let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
                    let parsed = parse(&frame, Direction::Inbound, &options, &mut key, &mut quote);
                    assert_eq!(parsed, Parsed::Key, "{protocol:?} {sequence}");
                    let (found, is_right) = View::of(&frame).unwrap().signature().unwrap();
                    assert_eq!((found, is_right), (signature, true));
                }
            }
        }
    }

    #[test]
    fn a_changed_bit_that_matters_is_noticed_and_the_hop_count_is_not() {
        let templates = Templates::new(&traffic(Protocol::Udp, Path::ipv4()));
        let whole = frame(&templates, &signature(&templates, 2));
        let is_right =
            |frame: &[u8]| View::of(frame).and_then(|view| view.signature()).is_some_and(|(_, is_right)| is_right);
        // Addresses, ports, payload; a router changes hardware addresses, time to live and the header's checksum.
        for byte in (26..38).chain(42..whole.len()) {
            let mut changed = whole.clone();
            changed[byte] ^= 0x10;
            assert!(!is_right(&changed), "byte {byte}");
        }
        for byte in (0..12).chain([22, 24, 25]) {
            let mut changed = whole.clone();
            changed[byte] ^= 0x10;
            assert!(is_right(&changed), "byte {byte}");
        }
        assert!(!is_right(&whole[..whole.len() - 1]), "a byte is missing");
    }

    #[test]
    fn answers_are_the_same_flows_the_other_way() {
        let traffic = Traffic {
            protocols: vec![Protocol::Udp, Protocol::Tcp, Protocol::Icmp],
            paths: vec![Path::ipv4(), Path::ipv6()],
            flows: 4000,
            ..Traffic::default()
        };
        let answers = traffic.answers();
        for flow in 0..traffic.flows {
            let (asked, answered) = (spec(&traffic, flow), spec(&answers, flow));
            assert_eq!((asked.src, asked.dst), (answered.dst, answered.src));
            assert_eq!((asked.sport, asked.dport, asked.icmp_id), (answered.dport, answered.sport, answered.icmp_id));
            assert_ne!(asked.icmp_type, answered.icmp_type);
        }
        assert_eq!(answers.answers(), traffic);
    }

    #[test]
    fn flows_differ_from_each_other() {
        let traffic = Traffic {
            protocols: vec![Protocol::Udp, Protocol::Tcp, Protocol::Icmp],
            paths: vec![Path::ipv4(), Path::ipv6()],
            flows: MOST_FLOWS,
            ..Traffic::default()
        };
        let key = |flow| {
            let spec = spec(&traffic, flow);
            (spec.src, spec.dst, spec.protocol, spec.sport, spec.icmp_id)
        };
        let mut keys: Vec<_> = (0..MOST_FLOWS).map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), MOST_FLOWS as usize);
    }
}
