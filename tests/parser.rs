//! Golden bytes in, what the parser makes of them out as one line of text.

use std::fmt::Write;

use ringwall::base::address::{Direction, address};
use ringwall::packet::{Fault, Key, KeyBits, Options, Parsed, PassList, Passed, Tuple, parse};

/// Destination and source of every frame here.
const MACS: &str = "0200 0000 0002 0200 0000 0001";
/// 2001:db8::1 to 2001:db8::2.
const V6_PAIR: &str = "2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000 0000 0000 0000 0002";
const V6_BACK: &str = "2001 0db8 0000 0000 0000 0000 0000 0002 2001 0db8 0000 0000 0000 0000 0000 0001";

const TCP_SYN: &str = "4500 003c 0000 4000 4006 8eb8 0101 0101 a901 0101 9c40 0050 0000 03e8 0000 0000 a002 faf0 0092 0000 \
                       0204 05b4 0402 080a 0000 0001 0000 0000 0103 0307";
const TCP_DATA: &str = "4500 002d 0000 4000 4006 8ec7 a901 0101 0101 0101 0050 9c40 0000 1389 0000 03e9 5018 01f6 09f9 0000 \
                        6865 6c6c 6f";
const UDP: &str = "4500 001f 0000 0000 4011 ceca 0101 0101 a901 0101 14e9 0035 000b 7a53 6162 63";
const ECHO: &str = "4500 0020 0000 0000 4001 6dda 0101 0101 0a01 0101 0800 1927 0007 0001 7069 6e67";
const SCTP: &str = "4500 002c 0000 0000 4084 ce4a 0101 0101 a901 0101 0b59 0b5a 0102 0304 db81 3285 \
                    0a00 000c 0001 0008 0102 0304";
const UDP_LITE: &str = "4500 001e 0000 0000 4088 ce54 0101 0101 a901 0101 0007 0009 000a dad5 7879";
const UNREACHABLE: &str = "4500 0038 0000 0000 4001 6dc2 0a01 0101 0101 0101 0304 eb3a 0000 0000 \
                           4500 0028 0000 0000 4006 6dcd 0101 0101 0a01 0101 9c40 7580 0000 0000";
const ROUTER_ADVERTISEMENT: &str = "6000 0000 0010 3aff fe80 0000 0000 0000 0000 0000 0000 0001 \
                                    ff02 0000 0000 0000 0000 0000 0000 0001 8600 7c2f 0000 0000 0000 0000 0000 0000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| (b as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn frame(hex: &str) -> Vec<u8> {
    let ethertype = if hex.starts_with('4') { "0800" } else { "86dd" };
    bytes(&format!("{MACS} {ethertype} {hex}"))
}

fn parsed(frame: &[u8], options: &Options) -> (Parsed, Key, Tuple) {
    let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
    let parsed = parse(frame, Direction::Inbound, options, &mut key, &mut quote);
    (parsed, key, quote)
}

/// Everything that differs from an empty key, in the order of the key.
fn text(frame: &[u8], options: &Options) -> String {
    let (parsed, key, quote) = parsed(frame, options);
    if parsed != Parsed::Key {
        return format!("{parsed:?}");
    }
    let mut text =
        format!("{} > {} protocol {}", address(key.family(), key.src), address(key.family(), key.dst), key.protocol);
    if key.has(KeyBits::L4) {
        write!(text, " ports {} > {}", key.sport, key.dport).unwrap();
    }
    if key.protocol == 6 && key.has(KeyBits::L4) {
        write!(text, " flags {:02x} seq {} ack {} win {}", key.tcp_flags, key.seq, key.ack, key.window).unwrap();
    }
    if key.window_scale != Key::NO_SCALE {
        write!(text, " scale {}", key.window_scale).unwrap();
    }
    write!(text, " len {}", key.payload).unwrap();
    for vlan in key.vlan.iter().filter(|vlan| **vlan != Key::NO_VLAN) {
        write!(text, " vlan {vlan}").unwrap();
    }
    for (bit, word) in [(KeyBits::FIRST_FRAGMENT, "first"), (KeyBits::LATER_FRAGMENT, "later")] {
        if key.has(bit) {
            write!(text, " {word} {:x} {}+{}", key.fragment_id, key.fragment_offset, key.fragment_len).unwrap();
        }
    }
    if key.has(KeyBits::QUOTE) {
        let (src, dst) = (address(key.family(), quote.src), address(key.family(), quote.dst));
        write!(text, " quote {src} {} > {dst} {} protocol {}", quote.sport, quote.dport, quote.protocol).unwrap();
    }
    assert_eq!(quote.is_v6 == 1, key.has(KeyBits::V6) && key.has(KeyBits::QUOTE));
    text
}

#[test]
fn fields_of_whole_packets() {
    let check = |name: &str, hex: &str, expected: &str| {
        let verified = Options { verify_l4_checksum: true, ..Options::default() };
        assert_eq!(text(&frame(hex), &Options::default()), expected, "{name}");
        assert_eq!(text(&frame(hex), &verified), expected, "{name}, checksum verified");
        let mut padded = frame(hex);
        padded.extend([0x55; 7]);
        assert_eq!(text(&padded, &verified), expected, "{name}, padded");
    };
    check(
        "tcp syn",
        TCP_SYN,
        "1.1.1.1 > 169.1.1.1 protocol 6 ports 40000 > 80 flags 02 seq 1000 ack 0 win 64240 scale 7 len 0",
    );
    check(
        "tcp data",
        TCP_DATA,
        "169.1.1.1 > 1.1.1.1 protocol 6 ports 80 > 40000 flags 18 seq 5001 ack 1001 win 502 len 5",
    );
    check("udp", UDP, "1.1.1.1 > 169.1.1.1 protocol 17 ports 5353 > 53 len 3");
    check(
        "ip option",
        "4600 0020 0000 0000 4011 39c5 0101 0101 a901 0101 9404 0000 14e9 0035 0008 3ebc",
        "1.1.1.1 > 169.1.1.1 protocol 17 ports 5353 > 53 len 0",
    );
    check("echo request", ECHO, "1.1.1.1 > 10.1.1.1 protocol 1 ports 7 > 2048 len 4");
    check(
        "timestamp request has no identifier",
        "4500 0028 0000 0000 4001 6dd2 0101 0101 0a01 0101 0d00 f2f7 0007 0001 0000 0000 0000 0000 0000 0000",
        "1.1.1.1 > 10.1.1.1 protocol 1 ports 0 > 3328 len 12",
    );
    check("sctp", SCTP, "1.1.1.1 > 169.1.1.1 protocol 132 ports 2905 > 2906 len 12");
    check("udp-lite", UDP_LITE, "1.1.1.1 > 169.1.1.1 protocol 136 ports 7 > 9 len 2");
    check(
        "vrrp",
        "4500 001c 0000 0000 ff70 d15d 0a00 0002 e000 0012 2101 6401 0001 0a00",
        "10.0.0.2 > 224.0.0.18 protocol 112 len 8",
    );
    check(
        "tcp over IPv6",
        &format!("6000 0000 0014 0640 {V6_PAIR} 9c40 01bb 0000 0001 0000 0000 5002 faf0 bb80 0000"),
        "2001:db8::1 > 2001:db8::2 protocol 6 ports 40000 > 443 flags 02 seq 1 ack 0 win 64240 len 0",
    );
    check(
        "hop-by-hop, routing, destination, authentication, udp",
        &format!(
            "6000 0000 002d 0040 {V6_PAIR} 2b00 0104 0000 0000 3c00 0400 0000 0000 3300 0104 0000 0000 \
             1101 0000 0000 0001 0000 0002 03e8 07d0 0009 1eaf 7a"
        ),
        "2001:db8::1 > 2001:db8::2 protocol 17 ports 1000 > 2000 len 1",
    );
    check(
        "atomic fragment",
        &format!("6000 0000 0010 2c40 {V6_PAIR} 1100 0000 a1b2 c3d4 03e8 07d0 0008 98b1"),
        "2001:db8::1 > 2001:db8::2 protocol 17 ports 1000 > 2000 len 0",
    );
    check(
        "echo request over IPv6",
        &format!("6000 0000 0008 3a40 {V6_PAIR} 8000 241d 002a 0001"),
        "2001:db8::1 > 2001:db8::2 protocol 58 ports 42 > 32768 len 0",
    );
    check(
        "esp ends the chain",
        &format!("6000 0000 0008 3240 {V6_PAIR} 0000 0000 0000 0000"),
        "2001:db8::1 > 2001:db8::2 protocol 50 len 8",
    );
    check(
        "no next header ends the chain",
        &format!("6000 0000 0000 3b40 {V6_PAIR}"),
        "2001:db8::1 > 2001:db8::2 protocol 59 len 0",
    );
    check(
        "mobility before no next header is the protocol",
        &format!("6000 0000 0008 8740 {V6_PAIR} 3b00 0000 0000 0000"),
        "2001:db8::1 > 2001:db8::2 protocol 135 len 8",
    );
    check(
        "shim6 payload is walked through",
        &format!("6000 0000 0010 8c40 {V6_PAIR} 1100 8000 0000 0000 03e8 07d0 0008 98b1"),
        "2001:db8::1 > 2001:db8::2 protocol 17 ports 1000 > 2000 len 0",
    );
}

#[test]
fn fragments_gw_22() {
    let check = |name: &str, hex: &str, expected: &str| {
        let verified = Options { verify_l4_checksum: true, ..Options::default() };
        assert_eq!(text(&frame(hex), &verified), expected, "GW-22 {name}");
    };
    check(
        "first of tcp",
        "4500 0044 0009 2000 4006 aea7 0101 0101 a901 0101 9c41 7581 0000 0000 0000 0000 5002 faf0 f70e 0000 \
         0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000",
        "1.1.1.1 > 169.1.1.1 protocol 6 ports 40001 > 30081 flags 02 seq 0 ack 0 win 64240 len 28 first 9 0+48",
    );
    check(
        "last",
        "4500 001c 0009 0006 4006 cec9 0101 0101 a901 0101 0000 0000 0000 0000",
        "1.1.1.1 > 169.1.1.1 protocol 6 len 8 later 9 48+8",
    );
    check(
        "first of 8 bytes of tcp",
        "4500 001c 000b 2000 4006 aecd 0101 0101 a901 0101 9c41 7581 0000 0000",
        "Malformed(FragmentTiny)",
    );
    check(
        "first of udp over IPv6, longer in all",
        &format!("6000 0000 0018 2c40 {V6_PAIR} 1100 0001 a1b2 c3d4 03e8 07d0 0018 9891 0000 0000 0000 0000"),
        "2001:db8::1 > 2001:db8::2 protocol 17 ports 1000 > 2000 len 8 first a1b2c3d4 0+16",
    );
    check(
        "last of udp over IPv6",
        &format!("6000 0000 0010 2c40 {V6_PAIR} 1100 0010 a1b2 c3d4 0000 0000 0000 0000"),
        "2001:db8::1 > 2001:db8::2 protocol 17 len 8 later a1b2c3d4 16+8",
    );
    check(
        "first without the whole header chain (RFC 7112)",
        &format!("6000 0000 0010 2c40 {V6_PAIR} 3c00 0001 a1b2 c3d4 1101 0104 0000 0000"),
        "Malformed(FragmentTiny)",
    );
    check(
        "later fragment of a destination options header stays unread",
        &format!("6000 0000 0010 2c40 {V6_PAIR} 3c00 0010 a1b2 c3d4 ffff ffff ffff ffff"),
        "2001:db8::1 > 2001:db8::2 protocol 60 len 8 later a1b2c3d4 16+8",
    );
    check(
        "beyond 65535 bytes",
        &format!("6000 0000 0010 2c40 {V6_PAIR} 1100 fff8 a1b2 c3d4 ffff ffff ffff ffff"),
        "Malformed(BadIpHeader)",
    );
}

#[test]
fn a_tiny_first_fragment_names_its_datagram_gw_22() {
    let tiny = frame("4500 001c 000b 2000 4006 aecd 0101 0101 a901 0101 9c41 7581 0000 0000");
    let (outcome, key, _) = parsed(&tiny, &Options::default());
    assert_eq!(outcome, Parsed::Malformed(Fault::FragmentTiny));
    assert_eq!((key.src, key.dst, key.protocol), (0x0101_0101, 0xa901_0101, 6));
    assert_eq!((key.fragment_id, key.fragment_offset, key.fragment_len), (11, 0, 8));
    assert_eq!(key.bits.0, KeyBits::FIRST_FRAGMENT);
}

#[test]
fn quotes_of_icmp_errors_gw_27() {
    let check = |name: &str, hex: &str, expected: &str| {
        assert_eq!(text(&frame(hex), &Options::default()), expected, "GW-27 {name}");
    };
    check(
        "port unreachable with 8 bytes of tcp",
        UNREACHABLE,
        "10.1.1.1 > 1.1.1.1 protocol 1 ports 0 > 772 len 28 quote 1.1.1.1 40000 > 10.1.1.1 30080 protocol 6",
    );
    check(
        "time exceeded about an echo",
        "4500 0038 0000 0000 4001 5db2 0909 0909 0a01 0101 0b00 f4ff 0000 0000 \
         4500 001c 0000 0000 4001 6dde 0a01 0101 0101 0101 0800 f7f7 0007 0001",
        "9.9.9.9 > 10.1.1.1 protocol 1 ports 0 > 2816 len 28 quote 10.1.1.1 7 > 1.1.1.1 2048 protocol 1",
    );
    check(
        "time exceeded about a later fragment",
        "4500 0038 0000 0000 4001 5db2 0909 0909 0a01 0101 0b00 f4ff 0000 0000 \
         4500 001c 0000 0006 4006 6dd3 0a01 0101 0101 0101 0000 0000 0000 0000",
        "9.9.9.9 > 10.1.1.1 protocol 1 ports 0 > 2816 len 28",
    );
    check(
        "packet too big",
        &format!("6000 0000 0038 3a40 {V6_PAIR} 0200 2be9 0000 0500 6000 0000 0008 1140 {V6_BACK} 0035 14e9 0008 8f4b"),
        "2001:db8::1 > 2001:db8::2 protocol 58 ports 0 > 512 len 48 \
         quote 2001:db8::2 53 > 2001:db8::1 5353 protocol 17",
    );
    check(
        "packet too big about a first fragment behind destination options",
        &format!(
            "6000 0000 0048 3a40 {V6_PAIR} 0200 0000 0000 0500 6000 0000 0018 3c40 {V6_BACK} 2c00 0104 0000 0000 \
             1100 0001 a1b2 c3d4 0035 14e9 0010 8f4b"
        ),
        "2001:db8::1 > 2001:db8::2 protocol 58 ports 0 > 512 len 64 \
         quote 2001:db8::2 53 > 2001:db8::1 5353 protocol 17",
    );
    check(
        "not an error: echo reply with an IP packet as data",
        "4500 0038 0000 0000 4001 6dc2 0a01 0101 0101 0101 0000 eb3a 0000 0000 \
         4500 0028 0000 0000 4006 6dcd 0101 0101 0a01 0101 9c40 7580 0000 0000",
        "10.1.1.1 > 1.1.1.1 protocol 1 ports 0 > 0 len 28",
    );
}

#[test]
fn a_quote_needs_its_ports_gw_27() {
    let check = |quoted: usize, expected: bool| {
        let mut cut = frame(UNREACHABLE);
        cut.truncate(14 + 28 + quoted);
        patch_total_length(&mut cut);
        let (outcome, key, quote) = parsed(&cut, &Options::default());
        assert_eq!(outcome, Parsed::Key, "{quoted} quoted bytes");
        assert_eq!(key.has(KeyBits::QUOTE), expected, "GW-27 {quoted} quoted bytes");
        assert_eq!(quote != Tuple::default(), expected, "GW-27 {quoted} quoted bytes");
    };
    for (quoted, expected) in [(0, false), (19, false), (20, false), (23, false), (24, true), (28, true)] {
        check(quoted, expected);
    }
}

/// Writes the IPv4 total length of a frame that was cut or extended, and the header checksum.
fn patch_total_length(frame: &mut [u8]) {
    let length = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    patch_header_checksum(frame);
}

/// Word by word, as RFC 1071 writes it.
fn patch_header_checksum(frame: &mut [u8]) {
    let end = (14 + usize::from(frame[14] & 15) * 4).min(frame.len());
    frame[24..26].fill(0);
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = frame[14..end].chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn ethertypes_and_tags_gw_28() {
    let check = |hex: &str, expected: &str| {
        assert_eq!(text(&bytes(&format!("{MACS} {hex}")), &Options::default()), expected, "GW-28 {hex}");
    };
    check("0806", "Pass(Ethertype(2054))");
    check("88cc 0000", "Pass(Ethertype(35020))");
    check("8809", "Pass(Ethertype(34825))");
    check("888e", "Pass(Ethertype(34958))");
    check("8100 0064 0806", "Pass(Ethertype(2054))");
    check("8137", "Malformed(UnknownEthertype(33079))");
    check("0026 4242 0300", "Malformed(UnknownEthertype(38))");
    check("8100 e064 8137", "Malformed(UnknownEthertype(33079))");
    check("8100 0064", "Malformed(Truncated)");
    check("8100 0064 8100 0065 8100 0066 0800", "Malformed(VlanUnparsed)");
    let udp = "1.1.1.1 > 169.1.1.1 protocol 17 ports 5353 > 53 len 3";
    check(&format!("8100 0064 0800 {UDP}"), &format!("{udp} vlan 100"));
    check(&format!("88a8 efff 8100 e001 0800 {UDP}"), &format!("{udp} vlan 4095 vlan 1"));
    check(&format!("9100 0000 0800 {UDP}"), &format!("{udp} vlan 0"));
}

#[test]
fn the_list_of_passing_ethertypes_replaces_the_default_gw_28() {
    let options = Options { pass_ethertypes: PassList::new(&[0x8137, 0x0800]).unwrap(), ..Options::default() };
    let check = |hex: &str, expected: &str| {
        assert_eq!(text(&bytes(&format!("{MACS} {hex}")), &options), expected, "GW-28 {hex}");
    };
    check("8137", "Pass(Ethertype(33079))");
    check("0806", "Malformed(UnknownEthertype(2054))");
    check(&format!("0800 {UDP}"), "1.1.1.1 > 169.1.1.1 protocol 17 ports 5353 > 53 len 3");
    assert_eq!(PassList::new(&[1; 17]), None);
    assert!(PassList::new(&[1; 16]).is_some_and(|list| list.contains(1) && !list.contains(0)));
}

#[test]
fn neighbour_discovery_passes_gw_28() {
    let check = |name: &str, change: &[(usize, u8)], expected: &str| {
        let mut frame = frame(ROUTER_ADVERTISEMENT);
        for &(at, byte) in change {
            frame[14 + at] = byte;
        }
        assert_eq!(text(&frame, &Options::default()), expected, "GW-28 {name}");
    };
    let key = |kind: u16| format!("fe80::1 > ff02::1 protocol 58 ports 0 > {} len 8", kind << 8);
    check("router advertisement", &[], "Pass(NeighbourDiscovery)");
    check("type 133", &[(40, 133)], "Pass(NeighbourDiscovery)");
    check("type 137", &[(40, 137)], "Pass(NeighbourDiscovery)");
    check("type 138", &[(40, 138)], &key(138));
    check("type 132", &[(40, 132)], &key(132));
    check("hop limit 254", &[(7, 254)], &key(134));
    let fragmented = format!(
        "6000 0000 0018 2cff {} {} 3a00 0000 0000 0001 8600 7c2f 0000 0000 0000 0000 0000 0000",
        "fe80 0000 0000 0000 0000 0000 0000 0001", "ff02 0000 0000 0000 0000 0000 0000 0001"
    );
    assert_eq!(text(&self::frame(&fragmented), &Options::default()), key(134), "RFC 6980");
}

#[test]
fn malformed_frames_gw_29() {
    // A golden packet, cut to a length of IP bytes where given, with bytes replaced at offsets into the IP packet.
    let check = |name: &str, hex: &str, length: Option<usize>, change: &[(usize, u8)], expected: &str| {
        let mut frame = frame(hex);
        frame.truncate(length.map_or(frame.len(), |length| 14 + length));
        for &(at, byte) in change {
            frame[14 + at] = byte;
        }
        // A changed header gets its checksum right, unless the checksum itself is what changed.
        let checksum_changed = change.iter().any(|&(at, _)| at == 10);
        if frame[12] == 0x08 && frame.len() >= 34 && !checksum_changed {
            patch_header_checksum(&mut frame);
        }
        assert_eq!(text(&frame, &Options::default()), format!("Malformed({expected})"), "GW-29 {name}");
    };
    check("no IPv4 header", UDP, Some(0), &[], "Truncated");
    check("19 bytes of IPv4", UDP, Some(19), &[], "Truncated");
    check("version 6 in an IPv4 frame", UDP, None, &[(0, 0x65)], "BadIpHeader");
    check("header length 16", UDP, None, &[(0, 0x44)], "BadIpHeader");
    check("total length below the header", UDP, None, &[(3, 19)], "BadIpHeader");
    check("header beyond the frame", UDP, Some(24), &[(0, 0x4f), (3, 60)], "Truncated");
    check("header beyond the total length", UDP, None, &[(0, 0x4f)], "BadIpHeader");
    check("header checksum", UDP, None, &[(10, 0xcf)], "BadChecksum");
    check("one byte short", UDP, Some(30), &[], "Truncated");
    check("fragment beyond 65535 bytes", UDP, None, &[(6, 0x1f), (7, 0xff)], "BadIpHeader");
    check("tcp of 19 bytes", TCP_SYN, None, &[(3, 39)], "BadL4Header");
    check("tcp data offset 4", TCP_SYN, None, &[(32, 0x40)], "BadL4Header");
    check("tcp options beyond the segment", TCP_SYN, None, &[(32, 0xb0)], "BadL4Header");
    check("tcp options beyond a first fragment", TCP_SYN, None, &[(32, 0xb0), (6, 0x20)], "FragmentTiny");
    check("tcp data offset 4 in a first fragment", TCP_SYN, None, &[(32, 0x40), (6, 0x20)], "BadL4Header");
    check("udp of 7 bytes", UDP, None, &[(3, 27)], "BadL4Header");
    check("udp length 7", UDP, None, &[(25, 7)], "BadL4Header");
    check("udp length beyond the packet", UDP, None, &[(25, 12)], "BadL4Header");
    check("first fragment of 7 bytes of udp", UDP, None, &[(3, 27), (6, 0x20)], "FragmentTiny");
    check("udp-lite coverage 7", UDP_LITE, None, &[(25, 7)], "BadL4Header");
    check("udp-lite coverage beyond the packet", UDP_LITE, None, &[(25, 11)], "BadL4Header");
    check("icmp of 7 bytes", ECHO, None, &[(3, 27)], "BadL4Header");
    check("first fragment of 7 bytes of icmp", ECHO, None, &[(3, 27), (6, 0x20)], "FragmentTiny");
    check("sctp of 11 bytes", SCTP, None, &[(3, 31)], "BadL4Header");
    check("first fragment of 11 bytes of sctp", SCTP, None, &[(3, 31), (6, 0x20)], "FragmentTiny");
    check("39 bytes of IPv6", ROUTER_ADVERTISEMENT, Some(39), &[], "Truncated");
    check("version 4 in an IPv6 frame", ROUTER_ADVERTISEMENT, None, &[(0, 0x40)], "BadIpHeader");
    check("IPv6 one byte short", ROUTER_ADVERTISEMENT, Some(55), &[], "Truncated");
    check("jumbogram", ROUTER_ADVERTISEMENT, None, &[(5, 0), (6, 0)], "BadIpHeader");
    check("icmpv6 of 7 bytes", ROUTER_ADVERTISEMENT, None, &[(5, 7)], "BadL4Header");
}

#[test]
fn short_frames_are_truncated_gw_29() {
    for length in 0..14 {
        assert_eq!(text(&frame(UDP)[..length], &Options::default()), "Malformed(Truncated)", "{length} bytes");
    }
}

#[test]
fn extension_header_chains_gw_29() {
    let check = |name: &str, first: &str, headers: &[&str], expected: &str| {
        let udp = "03e8 07d0 0008 0000";
        let payload = format!("{} {udp}", headers.concat());
        let hex = format!("6000 0000 {:04x} {first}40 {V6_PAIR} {payload}", bytes(&payload).len());
        assert_eq!(text(&frame(&hex), &Options::default()), expected, "GW-29 {name}");
    };
    let good = "2001:db8::1 > 2001:db8::2 protocol 17 ports 1000 > 2000 len 0";
    let (options, last) = ("3c00 0104 0000 0000 ", "1100 0104 0000 0000 ");
    check("8 headers", "3c", &[&[options; 7][..], &[last]].concat(), good);
    check("9 headers", "3c", &[&[options; 8][..], &[last]].concat(), "Malformed(ExtHeaderChain)");
    check("hop-by-hop first", "00", &[last], good);
    check("hop-by-hop second", "3c", &["0000 0104 0000 0000 ", last], "Malformed(ExtHeaderChain)");
    check("routing type 0", "2b", &["1100 0000 0000 0000 "], "Malformed(ExtHeaderChain)");
    check("routing type 2", "2b", &["1102 0201 0000 0000 0000 0000 0000 0000 0000 0000 0000 0001 "], good);
    check("two fragment headers", "2c", &["2c00 0000 0000 0001 ", "1100 0000 0000 0001 "], "Malformed(ExtHeaderChain)");
    check("authentication of 8 bytes", "33", &["1100 0000 0000 0001 "], "Malformed(ExtHeaderChain)");
    check("destination options beyond the packet", "3c", &["1102 0104 0000 0000 "], "Malformed(BadIpHeader)");
    check("hip control", "8b", &["3b00 0104 0000 0000 "], "2001:db8::1 > 2001:db8::2 protocol 139 len 16");
}

#[test]
fn transport_checksums_are_verified_on_demand_gw_29() {
    let udp6 = format!("6000 0000 000b 1140 {V6_PAIR} 03e8 07d0 000b d448 6162 63");
    let tcp = "4500 0028 0000 4000 4006 8ecc 0101 0101 a901 0101 9c40 0050 0000 03e8 0000 0000 5002 faf0 6875 0000";
    // The checksum field at this offset into the IP packet, replaced.
    let check = |name: &str, hex: &str, at: usize, field: [u8; 2], is_good: bool| {
        let mut frame = frame(hex);
        frame[14 + at..16 + at].copy_from_slice(&field);
        let verified = Options { verify_l4_checksum: true, ..Options::default() };
        let outcome = if is_good { Parsed::Key } else { Parsed::Malformed(Fault::BadChecksum) };
        assert_eq!(parsed(&frame, &verified).0, outcome, "GW-29 {name}");
        assert_eq!(parsed(&frame, &Options::default()).0, Parsed::Key, "GW-29 {name}, unverified");
    };
    check("tcp, right", tcp, 36, [0x68, 0x75], true);
    check("tcp, wrong", tcp, 36, [0x68, 0x76], false);
    check("tcp, pseudo-header only", tcp, 36, [0xac, 0x1e], true);
    check("udp over IPv4, none", UDP, 26, [0, 0], true);
    check("udp over IPv4, wrong", UDP, 26, [0x7a, 0x54], false);
    check("udp over IPv6, right", &udp6, 46, [0xd4, 0x48], true);
    check("udp over IPv6, none", &udp6, 46, [0, 0], false);
    check("udp over IPv6, pseudo-header only", &udp6, 46, [0x5b, 0x91], true);
    check("udp-lite, wrong", UDP_LITE, 26, [0xda, 0xd6], false);
    check("udp-lite, none", UDP_LITE, 26, [0, 0], false);
    check("icmp, wrong", ECHO, 22, [0x19, 0x28], false);
    check("sctp, wrong", SCTP, 28, [0xdb, 0x82], false);
}

#[test]
fn neighbour_discovery_with_a_wrong_checksum_fails_where_verified_gw_29() {
    let mut frame = frame(ROUTER_ADVERTISEMENT);
    let verified = Options { verify_l4_checksum: true, ..Options::default() };
    assert_eq!(parsed(&frame, &verified).0, Parsed::Pass(Passed::NeighbourDiscovery));
    frame[14 + 42] ^= 1;
    assert_eq!(parsed(&frame, &verified).0, Parsed::Malformed(Fault::BadChecksum));
    assert_eq!(parsed(&frame, &Options::default()).0, Parsed::Pass(Passed::NeighbourDiscovery));
}

#[test]
fn window_scale_of_a_syn_only() {
    // Twenty bytes of TCP options in the place of those of the golden SYN.
    let check = |name: &str, flags: u8, options: &str, expected: u8| {
        let mut frame = frame(TCP_SYN);
        frame[14 + 33] = flags;
        let options = bytes(options);
        frame[14 + 40..14 + 40 + options.len()].copy_from_slice(&options);
        assert_eq!(parsed(&frame, &Options::default()).1.window_scale, expected, "{name}");
    };
    check("syn", 0x02, "", 7);
    check("syn and ack", 0x12, "", 7);
    check("ack", 0x10, "", Key::NO_SCALE);
    check("more than 14", 0x02, "0303 ff", 14);
    check("after the end of options", 0x02, "00", Key::NO_SCALE);
    check("option of length 0", 0x02, "0500", Key::NO_SCALE);
    check("option of length 1", 0x02, "0501", Key::NO_SCALE);
    check("option beyond the header", 0x02, "05ff", Key::NO_SCALE);
    check("one of a wrong length is skipped", 0x02, "0304 0a00", 7);
}

#[test]
fn direction_is_kept_and_the_key_is_overwritten() {
    let check = |direction, expected: u8| {
        let (mut key, mut quote) = (parsed(&frame(TCP_SYN), &Options::default()).1, Tuple::default());
        key.bits = KeyBits(0xff);
        parse(&frame(UDP), direction, &Options::default(), &mut key, &mut quote);
        assert_eq!((key.bits.0, key.direction()), (expected, direction));
        assert_eq!((key.seq, key.window_scale, key.tcp_flags), (0, Key::NO_SCALE, 0));
    };
    check(Direction::Inbound, KeyBits::L4);
    check(Direction::Outbound, KeyBits::L4 | KeyBits::OUTBOUND);
}
