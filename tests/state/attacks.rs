//! Attacks packet by packet: scans, tiny and overlapping fragments, forged ICMP errors, ports used again in TIME-WAIT. Each line
//! of data is a packet of our own making and what must become of it.

use crate::gateway::Gateway;

/// A host that offers TCP and UDP port 80, nothing else, and may answer anybody.
pub const NARROW: (&str, &str) = (
    "narrow.yaml",
    "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker, labels: { role: worker } }
spec: { node: worker-1, interfaceName: eth1, expectedIPs: [10.1.1.1, \"2001:db8::1\"] }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: narrow }
spec:
  selector: role == 'worker'
  types: [Ingress]
  ingress:
    - { action: Allow, protocol: TCP, destination: { ports: [80] } }
    - { action: Allow, protocol: UDP, destination: { ports: [80] } }
",
);

/// A packet between the client 1.1.1.1 and the host: `>` in, `<` out. `more` are further fields.
fn packet(side: char, proto: &str, ports: (u16, u16), more: &str) -> String {
    let (near, far) = ports;
    let ends = match side {
        '>' => format!(r#""in":"uplink","src":"1.1.1.1","dst":"10.1.1.1","sport":{near},"dport":{far}"#),
        _ => format!(r#""in":"downlink","src":"10.1.1.1","dst":"1.1.1.1","sport":{far},"dport":{near}"#),
    };
    format!(r#"{{{ends},"proto":"{proto}"{more}}}"#)
}

fn tcp(side: char, ports: (u16, u16), flags: &str, more: &str) -> String {
    packet(side, "tcp", ports, &format!(r#","flags":"{flags}"{more}"#))
}

/// Sequence number, acknowledgement and payload of a segment with a window of 1,000.
fn at(seq: u32, ack: u32, len: u16) -> String {
    format!(r#","seq":{seq},"ack":{ack},"win":1000,"len":{len}"#)
}

/// Opens a connection from port 4000 to port 80: the client begins at 100, the host at 500.
fn connect(gateway: &mut Gateway) {
    for (side, flags, more) in [('>', "S", at(100, 0, 0)), ('<', "SA", at(500, 101, 0)), ('>', "A", at(101, 501, 0))] {
        gateway.check_next("handshake", &tcp(side, (4000, 80), flags, &more), "pass");
    }
}

fn states(gateway: &Gateway) -> Vec<&'static str> {
    gateway.flows().map(|flow| flow.state.name()).collect()
}

/// Scans with flags that no connection begins with tell an attacker nothing: open and closed ports meet the same answer.
#[test]
fn scans_find_neither_open_nor_closed_ports_gw_25() {
    let scans = [("FIN", "F"), ("XMAS", "FPU"), ("NULL", ""), ("Maimon", "FA"), ("RST", "R"), ("SYN/ACK", "SA")];
    for loose in [true, false] {
        let mut gateway = Gateway::new(&format!("flows: {{ loose: {loose} }}"), &[NARROW]);
        for (name, flags) in scans {
            for (source, port) in [(4000, 80), (4001, 81), (4002, 22)] {
                let row = format!("{name} scan of port {port}, loose {loose}");
                gateway.check_next(&row, &tcp('>', (source, port), flags, ""), "drop invalid-state flow none");
            }
        }
        assert_eq!(gateway.flows().count(), 0, "scans leave nothing behind");
    }
}

#[test]
fn an_ack_scan_meets_policy_when_loose_and_nothing_when_strict_gw_25() {
    let mut loose = Gateway::new("", &[NARROW]);
    loose.check_next("ACK scan, closed port", &tcp('>', (4000, 81), "A", ""), "drop tier-default-deny new");
    assert_eq!(loose.flows().count(), 0);
    loose.check_next("ACK scan, open port", &tcp('>', (4000, 80), "A", ""), "pass narrow#0 new");
    loose.check_next("the host's reset closes it", &tcp('<', (4000, 80), "R", ""), "pass established");
    assert_eq!(states(&loose), ["close"]);
    let mut strict = Gateway::new("flows: { loose: false }", &[NARROW]);
    for port in [80, 81, 22] {
        strict.check_next("ACK scan, strict", &tcp('>', (4000, port), "A", ""), "drop invalid-state flow none");
    }
}

#[test]
fn a_connection_survives_forged_segments_gw_25() {
    let mut gateway = Gateway::new("", &[NARROW]);
    connect(&mut gateway);
    for (name, flags, place) in [
        ("reset beyond the window", "R", at(900_000, 0, 0)),
        ("reset before the window", "R", at(0x8000_0000, 0, 0)),
        ("FIN beyond the window", "FA", at(900_000, 501, 0)),
        ("data beyond the window", "A", at(5_000, 501, 10)),
        ("acknowledges what was never sent", "A", at(101, 9_000, 0)),
        ("second SYN/ACK from the client's side", "SA", at(101, 501, 0)),
        ("XMAS in the window", "FPU", at(101, 501, 0)),
        ("NULL in the window", "", at(101, 501, 0)),
        ("SYN with FIN", "SF", at(101, 501, 0)),
        ("SYN with RST", "SR", at(101, 501, 0)),
    ] {
        gateway.check_next(name, &tcp('>', (4000, 80), flags, &place), "drop invalid-state flow none");
        assert_eq!(states(&gateway), ["established"], "{name}");
    }
    gateway.check_next("the client goes on", &tcp('>', (4000, 80), "A", &at(101, 501, 100)), "pass established");
    gateway.check_next("the host goes on", &tcp('<', (4000, 80), "A", &at(501, 201, 100)), "pass established");
}

/// A fragment of a datagram to port 80 or 81, cut to `len` bytes behind the IP header.
fn fragment(version: u8, proto: &str, id: u16, place: (u16, u16), more: bool, port: u16) -> String {
    let (offset, len) = place;
    let sport = 1000 + id;
    let (src, dst) = if version == 4 { ("1.1.1.1", "10.1.1.1") } else { ("2001:db8:1::1", "2001:db8::1") };
    format!(
        r#"{{"in":"uplink","src":"{src}","dst":"{dst}","proto":"{proto}","sport":{sport},"dport":{port},"len":{len},"frag":{{"id":{id},"offset":{offset},"more":{more},"len":{len}}}}}"#
    )
}

/// RFC 1858 section 3: a first fragment that leaves ports or flags to the next one. RFC 3128: the same by an overlap.
#[test]
fn tiny_fragments_cannot_hide_a_header_gw_22() {
    for version in [4, 6] {
        let mut gateway = Gateway::new("", &[NARROW]);
        let mut check = |row: &str, proto, id, place, more, expected| {
            let packet = fragment(version, proto, id, place, more, 80);
            gateway.check_next(&format!("{row}, IPv{version}"), &packet, expected);
        };
        check("RFC 1858 ports without flags", "tcp", 1, (0, 8), true, "drop fragment-tiny parse");
        check("RFC 1858 the flags come later", "tcp", 1, (8, 24), false, "drop fragment-tiny parse");
        check("RFC 1858 one byte short of a header", "tcp", 2, (0, 16), true, "drop fragment-tiny parse");
        check("RFC 1858 the rest of it", "tcp", 2, (16, 8), false, "drop fragment-tiny parse");
        check("a whole header passes", "tcp", 3, (0, 24), true, "pass narrow#0");
        check("its second fragment", "tcp", 3, (24, 8), false, "pass narrow#0");
        check("RFC 3128 a second fragment that begins in the header", "tcp", 4, (0, 24), true, "pass narrow#0");
        check("RFC 3128", "tcp", 4, (8, 16), false, "drop fragment-overlap parse");
        check("RFC 3128 what was to come", "tcp", 4, (24, 8), false, "drop fragment-overlap parse");
        check("RFC 3128 offset 8 before any first", "tcp", 5, (8, 16), false, "drop fragment-no-first parse");
        check("the smallest UDP header is whole", "udp", 6, (0, 8), true, "pass narrow#1");
    }
}

/// RFC 5722: a datagram with an overlap is lost as a whole, the fragments that were not received yet included.
#[test]
fn overlapping_fragments_lose_their_datagram_gw_22() {
    for version in [4, 6] {
        for (name, overlap) in [("front", (72, 16)), ("back", (152, 16)), ("within", (88, 8)), ("around", (72, 96))] {
            let mut gateway = Gateway::new("", &[NARROW]);
            let mut check = |place, more, expected: &str| {
                let packet = fragment(version, "udp", 9, place, more, 80);
                gateway.check_next(&format!("RFC 5722 {name}, IPv{version}"), &packet, expected);
            };
            check((0, 80), true, "pass narrow#1");
            check((80, 80), true, "pass narrow#1");
            check(overlap, true, "drop fragment-overlap parse");
            check((240, 8), false, "drop fragment-overlap parse");
            check((0, 80), true, "drop fragment-overlap parse");
        }
        let mut gateway = Gateway::new("", &[NARROW]);
        let mut check = |row: &str, port, place, expected: &str| {
            let packet = fragment(version, "udp", 9, place, true, port);
            gateway.check_next(&format!("{row}, IPv{version}"), &packet, expected);
        };
        check("first to an open port", 80, (0, 80), "pass narrow#1");
        check("the same first to a closed port decides anew", 81, (0, 80), "drop tier-default-deny");
        check("and the rest follows it", 80, (80, 80), "drop tier-default-deny");
    }
}

/// An ICMP error of somebody in the middle: type, who it goes to, and the packet it quotes.
fn error(side: &str, kind: u8, dst: &str, quote: (&str, u16, &str, u16)) -> String {
    let (from, sport, to, dport) = quote;
    format!(
        r#"{{"in":"{side}","src":"7.7.7.7","dst":"{dst}","proto":"icmp","type":{kind},"quote":{{"src":"{from}","dst":"{to}","proto":"tcp","sport":{sport},"dport":{dport}}}}}"#
    )
}

#[test]
fn forged_icmp_errors_are_strangers_gw_27() {
    let mut gateway = Gateway::new("", &[NARROW]);
    connect(&mut gateway);
    let (sent, answered) = (("1.1.1.1", 4000, "10.1.1.1", 80), ("10.1.1.1", 80, "1.1.1.1", 4000));
    for (name, packet, expected) in [
        ("quotes an unknown port", error("uplink", 3, "10.1.1.1", ("10.1.1.1", 80, "1.1.1.1", 4001)), "drop new"),
        ("quotes an unknown host", error("uplink", 3, "10.1.1.1", ("10.1.1.1", 80, "1.1.1.2", 4000)), "drop new"),
        ("quotes the ports crossed", error("uplink", 3, "10.1.1.1", ("10.1.1.1", 4000, "1.1.1.1", 80)), "drop new"),
        ("goes to the quoted destination", error("uplink", 3, "10.1.1.1", sent), "drop tier-default-deny new"),
        ("goes to a third", error("uplink", 3, "10.1.1.1", ("10.1.1.9", 80, "1.1.1.1", 4000)), "drop new"),
        ("is a redirect about nothing", error("uplink", 5, "10.1.1.1", ("10.1.1.1", 80, "8.8.8.8", 53)), "drop new"),
        ("is no error type", error("uplink", 13, "10.1.1.1", answered), "drop tier-default-deny"),
        ("is an echo reply nobody asked for", error("uplink", 0, "10.1.1.1", answered), "drop invalid-state"),
        ("is genuine, to the host", error("uplink", 3, "10.1.1.1", answered), "pass related"),
        ("is genuine, to the client", error("downlink", 11, "1.1.1.1", sent), "pass related"),
    ] {
        gateway.check_next(&format!("GW-27 an error that {name}"), &packet, expected);
        assert_eq!(states(&gateway), ["established"], "{name}");
    }
    gateway.check_next("no error ends it", &tcp('>', (4000, 80), "A", &at(101, 501, 1)), "pass established");
}

#[test]
fn a_port_used_again_in_time_wait_begins_anew_gw_25() {
    let mut gateway = Gateway::new("", &[NARROW]);
    connect(&mut gateway);
    let mut check = |row: &str, side, flags, place: String, expected| {
        gateway.check_next(row, &tcp(side, (4000, 80), flags, &place), expected);
        states(&gateway)[0]
    };
    check("the client ends", '>', "FA", at(101, 501, 0), "pass established");
    check("the host agrees", '<', "A", at(501, 102, 0), "pass established");
    check("the host ends", '<', "FA", at(501, 102, 0), "pass established");
    assert_eq!(check("the client agrees", '>', "A", at(102, 502, 0), "pass established"), "time-wait");
    check("an old duplicate", '>', "FA", at(101, 501, 0), "pass established");
    check("a scan in between", '>', "FPU", at(102, 502, 0), "drop invalid-state");
    assert_eq!(check("SYN/ACK is ignored", '<', "SA", at(500, 101, 0), "pass established"), "time-wait");
    assert_eq!(check("the port is used again", '>', "S", at(70_000, 0, 0), "pass new narrow#0"), "syn-sent");
    check("an old ACK of the host is ignored", '<', "A", at(502, 102, 0), "pass established");
    check("answer", '<', "SA", at(90_000, 70_001, 0), "pass established");
    assert_eq!(check("done", '>', "A", at(70_001, 90_001, 0), "pass established"), "established");
    check("data of the old connection", '>', "A", at(101, 501, 50), "drop invalid-state");
    check("data of the new one", '>', "A", at(70_001, 90_001, 50), "pass established");
}
