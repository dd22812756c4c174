//! A packet as people describe it in, one Ethernet frame out: for `explain`, the lab and tests, never on the packet line.

use std::net::IpAddr;

use super::checksum;
use super::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::transport::protocol;
use crate::base::address::number;

/// Destination and source of every built frame, locally administered.
const MACS: [u8; 12] = [0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01];

/// Window of a TCP segment that states none.
const WINDOW: u16 = 0xffff;

/// A packet to be built. Fields that its protocol has no place for are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketSpec {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family; an IPv4 address beside an IPv6 one is written as IPv4-mapped.
    pub dst: IpAddr,
    /// Protocol or next-header number.
    pub protocol: u8,
    /// Source port of TCP, UDP, SCTP and UDP-Lite.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// TCP flags as on the wire: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub tcp_flags: u8,
    /// TCP sequence number; the low 16 bits are the sequence number of an echo.
    pub seq: u32,
    /// TCP acknowledgement number.
    pub ack: u32,
    /// TCP window; `None` is written as 65,535 and means that the window shall not be checked.
    pub window: Option<u16>,
    /// Bytes behind the transport header, all 0; of a later fragment, its data.
    pub len: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// VLAN tags from the outside in, identifier in the low 12 bits.
    pub vlan: Vec<u16>,
    /// For a frame that is not IP: it has this ethertype and `len` bytes, and of the other fields only `vlan` counts.
    pub ethertype: Option<u16>,
    /// ICMP or ICMPv6 type.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code.
    pub icmp_code: u8,
    /// Identifier of an echo.
    pub icmp_id: u16,
    /// Makes the packet a fragment.
    pub fragment: Option<FragmentSpec>,
    /// The packet that an ICMP error quotes, whole. `len` beyond it adds zeros.
    pub quote: Option<Box<PacketSpec>>,
}

/// The place of a fragment in its datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentSpec {
    /// Identification; the low 16 bits in IPv4.
    pub id: u32,
    /// Offset in bytes, rounded down to a multiple of 8. A first fragment (0) starts with the transport header.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// Bytes of IP payload in this fragment, transport header included; cuts it or fills it up. `None`: what `len` gives.
    pub len: Option<u16>,
}

impl PacketSpec {
    /// A packet of a protocol between two addresses with the defaults of packet objects: SYN, echo request, ttl 64, no payload.
    pub fn new(src: IpAddr, dst: IpAddr, protocol: u8) -> PacketSpec {
        PacketSpec {
            src,
            dst,
            protocol,
            sport: 0,
            dport: 0,
            tcp_flags: 2,
            seq: 0,
            ack: 0,
            window: None,
            len: 0,
            ttl: 64,
            vlan: Vec::new(),
            ethertype: None,
            icmp_type: if src.is_ipv6() { 128 } else { 8 },
            icmp_code: 0,
            icmp_id: 0,
            fragment: None,
            quote: None,
        }
    }

    fn is_v6(&self) -> bool {
        self.src.is_ipv6() || self.dst.is_ipv6()
    }

    /// Source and destination as numbers of the packet's family.
    fn addresses(&self) -> (u128, u128) {
        let of = |address: IpAddr| match address {
            IpAddr::V4(v4) if self.is_v6() => u128::from(v4.to_ipv6_mapped()),
            other => number(other),
        };
        (of(self.src), of(self.dst))
    }
}

/// Builds the frame, without frame check sequence and without padding, all checksums right.
///
/// Lengths beyond what the IP length field holds are cut to it. O(length).
pub fn build(spec: &PacketSpec) -> Vec<u8> {
    let mut frame = MACS.to_vec();
    for (position, tag) in spec.vlan.iter().enumerate() {
        let is_last = position + 1 == spec.vlan.len();
        push(&mut frame, if is_last { 0x8100 } else { 0x88a8 });
        push(&mut frame, *tag);
    }
    match spec.ethertype {
        Some(ethertype) => {
            push(&mut frame, ethertype);
            frame.resize(frame.len() + usize::from(spec.len), 0);
        }
        None => {
            push(&mut frame, if spec.is_v6() { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 });
            frame.extend(packet(spec));
        }
    }
    frame
}

fn push(bytes: &mut Vec<u8>, word: u16) {
    bytes.extend(word.to_be_bytes());
}

/// Writes a word at an offset; a place outside is left alone.
fn put(bytes: &mut [u8], at: usize, word: u16) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = word.to_be_bytes();
    }
}

/// The IP packet.
fn packet(spec: &PacketSpec) -> Vec<u8> {
    let fragment_header = if spec.is_v6() && spec.fragment.is_some() { 8 } else { 0 };
    let room = if spec.is_v6() { 0xffff - fragment_header } else { 0xffff - 20 };
    let mut payload = match spec.fragment {
        Some(fragment) if fragment.offset >= 8 => vec![0; usize::from(spec.len)],
        _ => transport(spec, room),
    };
    if let Some(length) = spec.fragment.and_then(|fragment| fragment.len) {
        payload.resize(usize::from(length), 0);
    }
    payload.truncate(room);
    if spec.is_v6() { ipv6(spec, &payload) } else { ipv4(spec, &payload) }
}

fn ipv4(spec: &PacketSpec, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = spec.addresses();
    // Without a fragment: do not fragment.
    let (id, place) = spec.fragment.map_or((0, 0x4000), |f| (f.id as u16, f.offset >> 3 | u16::from(f.more) << 13));
    let mut bytes = vec![0x45, 0];
    for word in [20 + payload.len() as u16, id, place, u16::from_be_bytes([spec.ttl, spec.protocol]), 0] {
        push(&mut bytes, word);
    }
    bytes.extend((src as u32).to_be_bytes());
    bytes.extend((dst as u32).to_be_bytes());
    let checksum = checksum::internet_checksum(&bytes);
    put(&mut bytes, 10, checksum);
    bytes.extend(payload);
    bytes
}

fn ipv6(spec: &PacketSpec, payload: &[u8]) -> Vec<u8> {
    const FRAGMENT: u8 = 44;
    let (src, dst) = spec.addresses();
    let mut extension = Vec::new();
    if let Some(fragment) = spec.fragment {
        extension.extend([spec.protocol, 0]);
        push(&mut extension, fragment.offset & 0xfff8 | u16::from(fragment.more));
        extension.extend(fragment.id.to_be_bytes());
    }
    let next = if extension.is_empty() { spec.protocol } else { FRAGMENT };
    let mut bytes = vec![0x60, 0, 0, 0];
    push(&mut bytes, (extension.len() + payload.len()) as u16);
    bytes.extend([next, spec.ttl]);
    bytes.extend(src.to_be_bytes());
    bytes.extend(dst.to_be_bytes());
    bytes.extend(extension);
    bytes.extend(payload);
    bytes
}

/// Transport header and payload of a whole packet or first fragment, at most `room` bytes.
fn transport(spec: &PacketSpec, room: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match spec.protocol {
        protocol::TCP => {
            push(&mut bytes, spec.sport);
            push(&mut bytes, spec.dport);
            bytes.extend(spec.seq.to_be_bytes());
            bytes.extend(spec.ack.to_be_bytes());
            bytes.extend([0x50, spec.tcp_flags]);
            push(&mut bytes, spec.window.unwrap_or(WINDOW));
            bytes.extend([0; 4]);
        }
        protocol::UDP | protocol::UDP_LITE => {
            push(&mut bytes, spec.sport);
            push(&mut bytes, spec.dport);
            bytes.extend([0; 4]);
        }
        protocol::SCTP => {
            push(&mut bytes, spec.sport);
            push(&mut bytes, spec.dport);
            bytes.extend([0; 8]);
        }
        protocol::ICMP | protocol::ICMPV6 => {
            bytes.extend([spec.icmp_type, spec.icmp_code, 0, 0]);
            // Errors have no identifier; what stands there would be read as a length or a gateway.
            let is_echo = matches!(spec.icmp_type, 0 | 8 | 128 | 129);
            push(&mut bytes, if is_echo { spec.icmp_id } else { 0 });
            push(&mut bytes, if is_echo { spec.seq as u16 } else { 0 });
        }
        _ => {}
    }
    let header = bytes.len();
    if let (Some(quote), true) = (&spec.quote, matches!(spec.protocol, protocol::ICMP | protocol::ICMPV6)) {
        bytes.extend(packet(quote));
    }
    bytes.resize(bytes.len().max(header + usize::from(spec.len)).min(room), 0);
    seal(spec, &mut bytes);
    bytes
}

/// Writes lengths and checksums into a transport header.
fn seal(spec: &PacketSpec, bytes: &mut [u8]) {
    let (src, dst) = spec.addresses();
    let length = bytes.len();
    let field = match spec.protocol {
        protocol::TCP => 16,
        protocol::UDP => {
            // The length is that of the datagram, which a first fragment may not hold whole.
            let fragment = spec.fragment.and_then(|fragment| fragment.len).map_or(0, usize::from);
            put(bytes, 4, length.max(fragment) as u16);
            6
        }
        protocol::UDP_LITE => 6,
        protocol::ICMP | protocol::ICMPV6 => 2,
        protocol::SCTP => {
            let crc = !checksum::crc32c(!0, bytes);
            put(bytes, 8, (crc.swap_bytes() >> 16) as u16);
            put(bytes, 10, crc.swap_bytes() as u16);
            return;
        }
        _ => return,
    };
    let pseudo = match spec.protocol {
        protocol::ICMP => 0,
        _ => checksum::pseudo_header(src, dst, spec.protocol, length as u64),
    };
    let checksum = !checksum::fold(pseudo + checksum::sum(bytes));
    let is_udp = matches!(spec.protocol, protocol::UDP | protocol::UDP_LITE);
    put(bytes, field, if checksum == 0 && is_udp { 0xffff } else { checksum });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::Direction;
    use crate::packet::{Fault, Key, KeyBits, Options, Parsed, Tuple, parse};

    fn spec(src: &str, dst: &str, protocol: u8) -> PacketSpec {
        PacketSpec::new(src.parse().unwrap(), dst.parse().unwrap(), protocol)
    }

    fn parsed(frame: &[u8]) -> (Parsed, Key, Tuple) {
        let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
        let options = Options { verify_l4_checksum: true, ..Options::default() };
        let parsed = parse(frame, Direction::Inbound, &options, &mut key, &mut quote);
        (parsed, key, quote)
    }

    #[test]
    fn frames_are_golden() {
        let check = |name: &str, spec: PacketSpec, expected: &str| {
            let hex: String = build(&spec).iter().map(|byte| format!("{byte:02x}")).collect();
            let expected: String = format!("020000000002020000000001{expected}").replace(' ', "");
            assert_eq!(hex, expected, "{name}");
        };
        let tcp =
            PacketSpec { sport: 40000, dport: 80, seq: 1000, window: Some(64240), ..spec("1.1.1.1", "169.1.1.1", 6) };
        check(
            "tcp",
            tcp.clone(),
            "0800 4500 0028 0000 4000 4006 8ecc 0101 0101 a901 0101 9c40 0050 0000 03e8 0000 0000 5002 faf0 6875 0000",
        );
        check(
            "tcp behind two tags",
            PacketSpec { vlan: vec![100, 7], ..tcp },
            "88a8 0064 8100 0007 0800 4500 0028 0000 4000 4006 8ecc 0101 0101 a901 0101 \
             9c40 0050 0000 03e8 0000 0000 5002 faf0 6875 0000",
        );
        let split = PacketSpec { sport: 40001, dport: 30081, window: Some(64240), ..spec("1.1.1.1", "169.1.1.1", 6) };
        let at = |id, offset, more, len| Some(FragmentSpec { id, offset, more, len });
        check(
            "first fragment of tcp, cut below its header",
            PacketSpec { fragment: at(11, 0, true, Some(8)), ..split.clone() },
            "0800 4500 001c 000b 2000 4006 aecd 0101 0101 a901 0101 9c41 7581 0000 0000",
        );
        check(
            "later fragment of tcp",
            PacketSpec { fragment: at(9, 48, false, None), len: 8, ..split },
            "0800 4500 001c 0009 0006 4006 cec9 0101 0101 a901 0101 0000 0000 0000 0000",
        );
        check(
            "later fragment over IPv6",
            PacketSpec { fragment: at(0xa1b2_c3d4, 16, false, None), len: 8, ..spec("2001:db8::1", "2001:db8::2", 17) },
            "86dd 6000 0000 0010 2c40 2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000 0000 0000 0000 0002 \
             1100 0010 a1b2 c3d4 0000 0000 0000 0000",
        );
        check(
            "echo request over IPv6",
            PacketSpec { icmp_id: 42, seq: 1, ..spec("2001:db8::1", "2001:db8::2", 58) },
            "86dd 6000 0000 0008 3a40 2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000 0000 0000 0000 0002 \
             8000 241d 002a 0001",
        );
        check("arp", PacketSpec { ethertype: Some(0x0806), ..spec("::", "::", 0) }, "0806");
    }

    #[test]
    fn every_protocol_parses_back() {
        for (src, dst) in [("1.1.1.1", "10.1.1.1"), ("2001:db8::1", "2001:db8::2")] {
            for protocol in 0..=255 {
                let spec = PacketSpec { sport: 1, dport: 2, len: 5, icmp_id: 7, ..spec(src, dst, protocol) };
                let (outcome, key, _) = parsed(&build(&spec));
                // The numbers of extension headers announce one, and there is none.
                if spec.is_v6() && matches!(protocol, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
                    assert!(matches!(outcome, Parsed::Malformed(_)), "{src} protocol {protocol}: {outcome:?}");
                    continue;
                }
                assert_eq!(outcome, Parsed::Key, "{src} protocol {protocol}");
                // ICMP of the other family is not looked into, so its header counts as payload.
                let payload = if protocol == if spec.is_v6() { 1 } else { 58 } { 13 } else { 5 };
                assert_eq!((key.protocol, key.payload), (protocol, payload), "{src} protocol {protocol}");
                assert_eq!((key.src, key.dst), (number(spec.src), number(spec.dst)));
                let ports = match protocol {
                    6 | 17 | 132 | 136 => (1, 2),
                    1 if !spec.is_v6() => (7, 8 << 8),
                    58 if spec.is_v6() => (7, 128 << 8),
                    _ => (0, 0),
                };
                assert_eq!((key.sport, key.dport), ports, "{src} protocol {protocol}");
            }
        }
    }

    #[test]
    fn an_error_quotes_a_packet() {
        let check = |src: &str, dst: &str, protocol: u8, kind: u8| {
            let quoted = PacketSpec { sport: 40000, dport: 80, ..spec(dst, src, 6) };
            let error = PacketSpec { icmp_type: kind, quote: Some(Box::new(quoted)), ..spec(src, dst, protocol) };
            let (outcome, key, quote) = parsed(&build(&error));
            assert_eq!(outcome, Parsed::Key);
            assert!(key.has(KeyBits::QUOTE), "{src} type {kind}");
            assert_eq!((quote.src, quote.dst), (key.dst, key.src));
            assert_eq!((quote.sport, quote.dport, quote.protocol), (40000, 80, 6));
        };
        check("10.1.1.1", "1.1.1.1", 1, 3);
        check("2001:db8::1", "2001:db8::2", 58, 1);
    }

    #[test]
    fn a_fragment_is_as_long_as_its_length_says() {
        let check = |len: u16, fragment: FragmentSpec, expected: Parsed, bytes: u16| {
            let spec = PacketSpec { len, fragment: Some(fragment), ..spec("1.1.1.1", "10.1.1.1", 17) };
            let (outcome, key, _) = parsed(&build(&spec));
            assert_eq!((outcome, key.fragment_len), (expected, bytes), "len {len} {fragment:?}");
        };
        let first = FragmentSpec { id: 9, offset: 0, more: true, len: None };
        check(0, first, Parsed::Key, 8);
        check(24, first, Parsed::Key, 32);
        check(24, FragmentSpec { len: Some(16), ..first }, Parsed::Key, 16);
        check(0, FragmentSpec { len: Some(16), ..first }, Parsed::Key, 16);
        check(0, FragmentSpec { len: Some(7), ..first }, Parsed::Malformed(Fault::FragmentTiny), 7);
        check(24, FragmentSpec { offset: 8, ..first }, Parsed::Key, 24);
        check(24, FragmentSpec { offset: 8, len: Some(40), ..first }, Parsed::Key, 40);
    }

    #[test]
    fn lengths_end_at_what_ip_can_say() {
        let check = |spec: PacketSpec| {
            let (outcome, key, _) = parsed(&build(&PacketSpec { len: u16::MAX, ..spec.clone() }));
            assert_eq!(outcome, Parsed::Key, "{spec:?}");
            assert!(key.payload > 65_000, "{spec:?}");
        };
        check(spec("1.1.1.1", "10.1.1.1", 6));
        check(spec("2001:db8::1", "2001:db8::2", 17));
        check(PacketSpec { fragment: Some(FragmentSpec::default()), ..spec("2001:db8::1", "2001:db8::2", 17) });
    }
}
