//! Random frames in; the parser must agree with etherparse on them, and have an outcome for every byte string.
//!
//! `RINGWALL_FUZZ_INPUTS=N` raises the number of random and mutated inputs (use a release build from a million on).

use etherparse::{
    EtherType, IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader,
    Ipv6RoutingExtensions, LinkExtSlice, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader,
    TransportSlice, VlanHeader, VlanId, ip_number,
};
use proptest::prelude::*;
use ringwall::base::address::Direction;
use ringwall::packet::{Fault, Key, KeyBits, Options, Parsed, Passed, Tuple, complete_partial, parse};

fn parsed(frame: &[u8], options: &Options) -> (Parsed, Key, Tuple) {
    let (mut key, mut quote) = (Key::EMPTY, Tuple::default());
    let parsed = parse(frame, Direction::Inbound, options, &mut key, &mut quote);
    (parsed, key, quote)
}

/// Which transport the generator puts on top.
#[derive(Clone, Debug)]
enum Top {
    Tcp { flags: u8, seq: u32, ack: u32, window: u16, options: Vec<u8> },
    Udp,
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Other(u8),
}

#[derive(Clone, Debug)]
struct Packet {
    is_v6: bool,
    src: u128,
    dst: u128,
    ports: (u16, u16),
    top: Top,
    payload: Vec<u8>,
    vlan: Vec<u16>,
    ip_options: usize,
    extensions: [bool; 5],
    fragment: Option<(u32, u16, bool)>,
    padding: usize,
    hop_limit: u8,
}

fn top() -> impl Strategy<Value = Top> {
    prop_oneof![
        4 => (any::<u8>(), any::<u32>(), any::<u32>(), any::<u16>(), prop::collection::vec(0usize..6, 0..=4)).prop_map(
            |(flags, seq, ack, window, chosen)| {
                let known: [&[u8]; 6] =
                    [&[2, 4, 5, 180], &[1, 3, 3, 7], &[4, 2, 1, 1], &[1, 1, 3, 3, 15, 0, 0, 0], &[3, 3, 0, 1], &[0; 4]];
                let options = chosen.iter().flat_map(|&option| known[option]).copied().collect();
                Top::Tcp { flags, seq, ack, window, options }
            }
        ),
        2 => Just(Top::Udp),
        2 => (any::<u8>(), any::<u8>(), any::<[u8; 4]>()).prop_map(|(kind, code, rest)| Top::Icmp { kind, code, rest }),
        1 => prop_oneof![Just(47u8), Just(50), Just(59), Just(89), Just(112), Just(253)].prop_map(Top::Other),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    (
        (any::<bool>(), any::<u128>(), any::<u128>(), any::<(u16, u16)>(), top()),
        // From 1 on: to etherparse an IPv6 payload length of 0 means a jumbogram.
        (prop::collection::vec(any::<u8>(), 1..64), prop::collection::vec(0u16..4096, 0..=2), 0usize..=10),
        (
            any::<[bool; 5]>(),
            prop::option::weighted(0.3, (any::<u32>(), prop_oneof![Just(0u16), 0u16..0x1000], any::<bool>())),
        ),
        (0usize..30, any::<u8>()),
    )
        .prop_map(|((is_v6, src, dst, ports, top), (payload, vlan, ip_options), (extensions, fragment), last)| {
            Packet {
                is_v6,
                src: if is_v6 { src } else { src & 0xffff_ffff },
                dst: if is_v6 { dst } else { dst & 0xffff_ffff },
                ports,
                top,
                payload,
                vlan,
                ip_options,
                extensions,
                fragment,
                padding: last.0,
                hop_limit: last.1,
            }
        })
}

/// The frame as etherparse writes it.
fn written(packet: &Packet) -> Vec<u8> {
    let ip = if packet.is_v6 { ipv6(packet) } else { ipv4(packet) };
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let id = |tag: u16| VlanId::try_new(tag).unwrap();
    let step = match packet.vlan[..] {
        [] => link.ip(ip),
        [one] => link
            .vlan(VlanHeader::Single(etherparse::SingleVlanHeader {
                pcp: etherparse::VlanPcp::ZERO,
                drop_eligible_indicator: false,
                vlan_id: id(one),
                ether_type: EtherType(0),
            }))
            .ip(ip),
        [outer, inner, ..] => link.double_vlan(id(outer), id(inner)).ip(ip),
    };
    let mut bytes = Vec::new();
    write_top(step, packet, &mut bytes);
    bytes.extend(vec![0xee; packet.padding]);
    bytes
}

fn ipv4(packet: &Packet) -> IpHeaders {
    let source = (packet.src as u32).to_be_bytes();
    let destination = (packet.dst as u32).to_be_bytes();
    let mut header = Ipv4Header::new(0, packet.hop_limit, ip_number::UDP, source, destination).unwrap();
    header.options = vec![1u8; packet.ip_options * 4].as_slice().try_into().unwrap();
    if let Some((id, offset, more)) = packet.fragment {
        header.identification = id as u16;
        header.fragment_offset = offset.try_into().unwrap();
        header.more_fragments = more;
        header.dont_fragment = false;
    }
    IpHeaders::Ipv4(header, Default::default())
}

fn ipv6(packet: &Packet) -> IpHeaders {
    let header = Ipv6Header {
        hop_limit: packet.hop_limit,
        source: packet.src.to_be_bytes(),
        destination: packet.dst.to_be_bytes(),
        ..Default::default()
    };
    let [hop, destination, routing, authentication, last] = packet.extensions;
    // Pad options, or a routing header of type 2.
    let raw = |is_there: bool| is_there.then(|| Ipv6RawExtHeader::new_raw(IpNumber(0), &[1, 4, 0, 0, 0, 0]).unwrap());
    let route = Ipv6RawExtHeader::new_raw(IpNumber(0), &[2, 0, 0, 0, 0, 0]).unwrap();
    let extensions = Ipv6Extensions {
        hop_by_hop_options: raw(hop),
        destination_options: raw(destination),
        routing: routing.then(|| Ipv6RoutingExtensions { routing: route, final_destination_options: raw(last) }),
        fragment: packet
            .fragment
            .map(|(id, offset, more)| Ipv6FragmentHeader::new(IpNumber(0), offset.try_into().unwrap(), more, id)),
        auth: authentication.then(|| etherparse::IpAuthHeader::new(IpNumber(0), 7, 8, &[1, 2, 3, 4]).unwrap()),
    };
    IpHeaders::Ipv6(header, extensions)
}

fn write_top(step: PacketBuilderStep<IpHeaders>, packet: &Packet, bytes: &mut Vec<u8>) {
    let (source, destination) = packet.ports;
    let payload = &packet.payload;
    match &packet.top {
        Top::Tcp { flags, seq, ack, window, options } => {
            let mut header = TcpHeader::new(source, destination, *seq, *window);
            header.acknowledgment_number = *ack;
            let bit = |shift: u8| flags >> shift & 1 == 1;
            (header.fin, header.syn, header.rst, header.psh) = (bit(0), bit(1), bit(2), bit(3));
            (header.ack, header.urg, header.ece, header.cwr) = (bit(4), bit(5), bit(6), bit(7));
            header.set_options_raw(options).unwrap();
            step.tcp_header(header).write(bytes, payload).unwrap();
        }
        Top::Udp => step.udp(source, destination).write(bytes, payload).unwrap(),
        Top::Icmp { kind, code, rest } if packet.is_v6 => {
            step.icmpv6_raw(*kind, *code, *rest).write(bytes, payload).unwrap()
        }
        Top::Icmp { kind, code, rest } => step.icmpv4_raw(*kind, *code, *rest).write(bytes, payload).unwrap(),
        Top::Other(protocol) => step.write(bytes, IpNumber(*protocol), payload).unwrap(),
    }
}

/// What etherparse reads in a frame, as far as it and the key speak of the same things.
fn oracle(frame: &[u8]) -> Option<Key> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let mut key = Key::EMPTY;
    for (place, tag) in key.vlan.iter_mut().zip(&sliced.link_exts) {
        if let LinkExtSlice::Vlan(vlan) = tag {
            *place = vlan.vlan_identifier().value();
        }
    }
    let payload = match sliced.net.as_ref()? {
        // Here the authentication header of IPv4 is a protocol, and a payload length of 0 is no jumbogram.
        NetSlice::Ipv4(v4) if !v4.extensions().is_empty() => return None,
        NetSlice::Ipv6(v6) if v6.header().payload_length() == 0 => return None,
        NetSlice::Ipv4(v4) => {
            let header = v4.header();
            key.src = u32::from_be_bytes(header.source()).into();
            key.dst = u32::from_be_bytes(header.destination()).into();
            if v4.is_payload_fragmented() {
                let place = (header.fragments_offset().byte_offset(), header.more_fragments());
                mark(&mut key, header.identification().into(), place, v4.payload().payload.len());
            }
            v4.payload()
        }
        NetSlice::Ipv6(v6) => {
            key.bits.0 |= KeyBits::V6;
            key.src = u128::from_be_bytes(v6.header().source());
            key.dst = u128::from_be_bytes(v6.header().destination());
            let mut behind = 0;
            for extension in v6.extensions().clone() {
                use etherparse::Ipv6ExtensionSlice::*;
                behind += match &extension {
                    HopByHop(raw) | Routing(raw) | DestinationOptions(raw) => raw.slice().len(),
                    Authentication(header) => header.slice().len(),
                    Fragment(_) => 0,
                };
                if let Fragment(fragment) = extension
                    && fragment.is_fragmenting_payload()
                {
                    let place = (fragment.fragment_offset().byte_offset(), fragment.more_fragments());
                    behind = 0;
                    mark(&mut key, fragment.identification(), place, v6.payload().payload.len());
                    if place.0 != 0 {
                        break;
                    }
                }
            }
            if key.has(KeyBits::FIRST_FRAGMENT) {
                key.fragment_len += behind as u16;
            }
            v6.payload()
        }
        NetSlice::Arp(_) => return None,
    };
    // Mobility, HIP and Shim6 headers are walked through here only.
    if key.has(KeyBits::V6) && matches!(payload.ip_number.0, 135 | 139 | 140) {
        return None;
    }
    key.protocol = payload.ip_number.0;
    key.payload = payload.payload.len() as u16;
    let is_v6 = key.has(KeyBits::V6);
    match sliced.transport {
        // ICMP of the other family is not looked into here.
        Some(TransportSlice::Icmpv4(_)) if is_v6 => {}
        Some(TransportSlice::Icmpv6(_)) if !is_v6 => {}
        Some(TransportSlice::Tcp(tcp)) => {
            (key.sport, key.dport) = (tcp.source_port(), tcp.destination_port());
            (key.seq, key.ack, key.window) = (tcp.sequence_number(), tcp.acknowledgment_number(), tcp.window_size());
            key.tcp_flags = tcp.slice()[13];
            key.payload = tcp.payload().len() as u16;
            key.bits.0 |= KeyBits::L4;
            if tcp.syn() {
                key.window_scale = window_scale(tcp.options_iterator());
            }
        }
        Some(TransportSlice::Udp(udp)) => {
            (key.sport, key.dport) = (udp.source_port(), udp.destination_port());
            key.payload -= 8;
            key.bits.0 |= KeyBits::L4;
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let is_echo = matches!(icmp.type_u8(), 0 | 8);
            let bytes = icmp.bytes5to8();
            key.sport = if is_echo { u16::from_be_bytes([bytes[0], bytes[1]]) } else { 0 };
            key.dport = u16::from_be_bytes([icmp.type_u8(), icmp.code_u8()]);
            key.payload -= 8;
            key.bits.0 |= KeyBits::L4;
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let is_echo = matches!(icmp.type_u8(), 128 | 129);
            let bytes = icmp.bytes5to8();
            key.sport = if is_echo { u16::from_be_bytes([bytes[0], bytes[1]]) } else { 0 };
            key.dport = u16::from_be_bytes([icmp.type_u8(), icmp.code_u8()]);
            key.payload -= 8;
            key.bits.0 |= KeyBits::L4;
        }
        None => {}
    }
    Some(key)
}

/// Etherparse gives up at the first option it finds odd, where the parser goes on like Linux.
const UNKNOWN_SCALE: u8 = 0xfe;

fn window_scale(options: etherparse::TcpOptionsIterator<'_>) -> u8 {
    for option in options {
        match option {
            Ok(etherparse::TcpOptionElement::WindowScale(shift)) => return shift.min(14),
            Ok(_) => {}
            Err(_) => return UNKNOWN_SCALE,
        }
    }
    Key::NO_SCALE
}

fn mark(key: &mut Key, id: u32, (offset, more): (u16, bool), length: usize) {
    if offset == 0 && !more {
        return;
    }
    key.bits.0 |= if offset == 0 { KeyBits::FIRST_FRAGMENT } else { KeyBits::LATER_FRAGMENT };
    (key.fragment_id, key.fragment_offset, key.fragment_len) = (id, offset, length as u16);
}

/// Drops from a key what etherparse does not say, the transport of fragments, SCTP and UDP-Lite, and quotes, and where it errs: it walks on behind
/// the fragment header of a later fragment, whose bytes are no headers.
fn comparable(mut key: Key) -> Key {
    key.bits.0 &= !(KeyBits::QUOTE | KeyBits::WHOLE);
    if key.has(KeyBits::LATER_FRAGMENT) && key.has(KeyBits::V6) {
        key = Key { protocol: 0, payload: 0, fragment_len: 0, ..key };
    }
    if key.has(KeyBits::FIRST_FRAGMENT) || matches!(key.protocol, 132 | 136) {
        key = Key { sport: 0, dport: 0, tcp_flags: 0, seq: 0, ack: 0, window: 0, payload: 0, ..key };
        key.window_scale = Key::NO_SCALE;
        key.bits.0 &= !KeyBits::L4;
    }
    key
}

/// Compares wherever both have read a whole packet.
fn agree(frame: &[u8]) -> Result<(Parsed, bool), String> {
    let (outcome, mut key, _) = parsed(frame, &Options::default());
    let oracle = oracle(frame);
    if oracle.is_some_and(|oracle| oracle.window_scale == UNKNOWN_SCALE) {
        key.window_scale = UNKNOWN_SCALE;
    }
    let is_read = matches!(outcome, Parsed::Key | Parsed::Pass(Passed::NeighbourDiscovery));
    if let (true, Some(oracle)) = (is_read, oracle)
        && comparable(key) != comparable(oracle)
    {
        return Err(format!(
            "ringwall  {:?}\netherparse {:?}\nframe {frame:02x?}",
            comparable(key),
            comparable(oracle)
        ));
    }
    Ok((outcome, oracle.is_some()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn well_formed_packets_are_read_like_etherparse_reads_them(packet in packet()) {
        let frame = written(&packet);
        let (outcome, is_read) = agree(&frame).map_err(TestCaseError::fail)?;
        prop_assert!(is_read, "etherparse reads what it wrote");
        let is_first = matches!(packet.fragment, Some((_, 0, true)));
        let is_later = matches!(packet.fragment, Some((_, 1.., _)));
        match outcome {
            Parsed::Key | Parsed::Pass(Passed::NeighbourDiscovery) => {}
            // A later fragment's bytes are taken for what they are not: nothing else may fail.
            other => prop_assert!(false, "{other:?} first {is_first} later {is_later}"),
        }
        // With the transport checksum verified, as the writer made it right.
        let verified = Options { verify_l4_checksum: true, ..Options::default() };
        prop_assert_eq!(parsed(&frame, &verified).0, outcome);
    }
}

/// The folded sum of the pseudo-header, word by word as RFC 9293 3.1 and RFC 8200 8.1 write it.
fn pseudo_header_sum(packet: &Packet, protocol: u8, length: usize) -> u16 {
    let mut words: Vec<u32> = vec![protocol.into(), length as u32 >> 16, length as u32 & 0xffff];
    for address in [packet.src, packet.dst] {
        words.extend((0..8).map(|word| (address >> (16 * word)) as u32 & 0xffff));
    }
    match words.iter().sum::<u32>() % 0xffff {
        // The sum is never 0, and 0 and 0xffff are one number in this arithmetic.
        0 => 0xffff,
        sum => sum as u16,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pseudo_header_sum_is_completed_to_what_etherparse_writes_gw_30(packet in packet()) {
        let packet = Packet { extensions: [false; 5], fragment: None, ..packet };
        let (protocol, field) = match packet.top {
            Top::Tcp { .. } => (6, 16),
            Top::Udp => (17, 6),
            _ => return Ok(()),
        };
        let whole = written(&packet);
        let start = 14 + 4 * packet.vlan.len() + if packet.is_v6 { 40 } else { 20 + 4 * packet.ip_options };
        let length = whole.len() - packet.padding - start;
        let mut partial = whole.clone();
        let sum = pseudo_header_sum(&packet, protocol, length);
        partial[start + field..start + field + 2].copy_from_slice(&sum.to_be_bytes());
        // One in 65,536 is right already.
        prop_assume!(partial != whole);
        let verified = Options { verify_l4_checksum: true, ..Options::default() };
        prop_assert_eq!(parsed(&partial, &verified).0, Parsed::Key, "a partial checksum counts as right");
        let key = parsed(&partial, &Options::default()).1;
        prop_assert!(!key.has(KeyBits::WHOLE), "it needs completion, and nobody says that it does not");
        prop_assert!(complete_partial(&mut partial));
        prop_assert_eq!(&partial, &whole);
        prop_assert!(!complete_partial(&mut partial), "once is enough");
    }
}

/// A small generator of pseudo-random numbers (splitmix64), fast enough for millions of inputs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Well-formed frames to mutate: one of each kind that matters.
fn seeds() -> Vec<Vec<u8>> {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = packet();
    (0..512).map(|_| written(&strategy.new_tree(&mut runner).unwrap().current())).collect()
}

/// Either random bytes behind a plausible ethertype, or a seed with some bytes changed, cut or extended.
fn input(seeds: &[Vec<u8>], random: &mut Random, frame: &mut Vec<u8>) {
    frame.clear();
    if random.below(4) == 0 {
        let length = random.below(128);
        frame.extend((0..length).map(|_| random.next() as u8));
        let [high, low] = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x08, 0x06]][random.below(4)];
        if let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, rest @ ..] = frame.as_mut_slice() {
            (*a, *b) = (high, low);
            if let Some(version) = rest.first_mut() {
                *version = if high == 0x08 { 0x45 } else { 0x60 };
            }
        }
        return;
    }
    frame.extend(&seeds[random.below(seeds.len())]);
    for _ in 0..random.below(4) {
        let at = 12 + random.below(frame.len() - 12);
        frame[at] = [random.next() as u8, 0, 0xff, frame[at] ^ 1 << random.below(8)][random.below(4)];
    }
    match random.below(8) {
        0 => frame.truncate(random.below(frame.len())),
        1 => frame.extend((0..random.below(16)).map(|n| n as u8)),
        _ => {}
    }
    // Half of the changed IPv4 headers get their checksum right, so that what lies behind is reached.
    if random.below(2) == 0 && frame.get(12..14) == Some(&[8, 0]) && frame.len() >= 34 {
        let end = (14 + usize::from(frame[14] & 15) * 4).min(frame.len());
        frame[24..26].fill(0);
        // Some are made whole packets that end inside their transport header.
        if end >= 34 && random.below(4) == 0 {
            frame.truncate(end + random.below(24));
            let length = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&length.to_be_bytes());
        }
        if end > 26 {
            let checksum = ringwall::packet::internet_checksum(&frame[14..end]);
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

/// What must hold for every byte string.
fn examine(frame: &[u8]) -> Result<Parsed, String> {
    let (outcome, key, quote) = parsed(frame, &Options::default());
    let verified = parsed(frame, &Options { verify_l4_checksum: true, ..Options::default() });
    let fail = |what: &str| Err(format!("{what}: {outcome:?} {key:?} {quote:?} {verified:?} frame {frame:02x?}"));
    if verified.0 != outcome && verified.0 != Parsed::Malformed(Fault::BadChecksum) {
        return fail("verifying the checksum changed more than the checksum's verdict");
    }
    if key.has(KeyBits::QUOTE) == (quote == Tuple::default()) && outcome == Parsed::Key && quote.src | quote.dst != 0 {
        return fail("quote without its bit");
    }
    if key.has(KeyBits::WHOLE) && complete_partial(&mut frame.to_vec()) {
        return fail("a checksum that was said to be whole was completed (GW-30)");
    }
    if key.has(KeyBits::FIRST_FRAGMENT) && key.has(KeyBits::LATER_FRAGMENT) {
        return fail("both first and later fragment");
    }
    if key.has(KeyBits::LATER_FRAGMENT) && (key.has(KeyBits::L4) || key.sport | key.dport != 0) {
        return fail("later fragment with ports");
    }
    if outcome == Parsed::Key && usize::from(key.payload) > frame.len() {
        return fail("more payload than bytes");
    }
    // A frame is judged by its own bytes: neither padding nor what the key held before counts.
    let mut padded = frame.to_vec();
    padded.extend([0xaa; 3]);
    let again = parsed(&padded, &Options::default());
    if outcome != Parsed::Malformed(Fault::Truncated) && again != (outcome, key, quote) {
        return fail("padding changed the outcome");
    }
    let mut completed = frame.to_vec();
    if complete_partial(&mut completed) {
        let after = parsed(&completed, &Options { verify_l4_checksum: true, ..Options::default() });
        let is_whole = matches!(outcome, Parsed::Key);
        if is_whole && after != (outcome, key, quote) {
            return fail("a completed checksum is not right");
        }
    } else if completed != frame {
        return fail("a frame was written without need");
    }
    agree(frame).map(|_| outcome)
}

#[test]
fn every_byte_string_has_an_outcome() {
    let inputs: u64 = std::env::var("RINGWALL_FUZZ_INPUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let seeds = seeds();
    let (mut random, mut frame) = (Random(0x5eed), Vec::new());
    let (mut keys, mut malformed) = (0u64, [0u64; 7]);
    for number in 0..inputs {
        input(&seeds, &mut random, &mut frame);
        let outcome = std::panic::catch_unwind(|| examine(&frame))
            .unwrap_or_else(|_| panic!("panic on input {number}: {frame:02x?}"))
            .unwrap_or_else(|message| panic!("input {number}: {message}"));
        match outcome {
            Parsed::Key => keys += 1,
            Parsed::Pass(_) => {}
            Parsed::Malformed(Fault::BadIpHeader) => malformed[0] += 1,
            Parsed::Malformed(Fault::BadL4Header) => malformed[1] += 1,
            Parsed::Malformed(Fault::BadChecksum) => malformed[2] += 1,
            Parsed::Malformed(Fault::Truncated) => malformed[3] += 1,
            Parsed::Malformed(Fault::ExtHeaderChain) => malformed[4] += 1,
            Parsed::Malformed(Fault::FragmentTiny) => malformed[5] += 1,
            Parsed::Malformed(Fault::UnknownEthertype(_) | Fault::VlanUnparsed) => malformed[6] += 1,
        }
    }
    println!("{inputs} inputs: {keys} keys, {malformed:?} malformed");
    let floor = inputs / 10_000;
    assert!(
        keys > inputs / 20 && malformed.iter().all(|&count| count >= floor),
        "too few of a kind: {keys} {malformed:?}"
    );
}
