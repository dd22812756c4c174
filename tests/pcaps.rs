//! The captures in `pcaps/` through `ringwall replay`, against the verdicts written beside them.
//!
//! Those of this file are built from packet objects; `RINGWALL_UPDATE=1 cargo test --test pcaps` writes captures and
//! `NAME.expected.jsonl` anew, and refuses where a verdict is not the one given with the packet here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ringwall::base::diagnostic::Span;
use ringwall::base::time::Now;
use ringwall::cli::packet_object::read_line;
use ringwall::io::pcap::{PcapngWriter, Record, Seen};
use ringwall::packet::build;
use serde_json::Value;

/// Largest file that belongs in a repository's test data.
const LARGEST: u64 = 64 * 1024;

/// A change to a frame that no packet object can say.
type Damage = fn(&mut Vec<u8>);

/// A packet object without `in` and `t`, what is done to its frame, and what must become of it: verdict, reason and flow.
type Packet = (&'static str, Option<Damage>, &'static str);

/// Captures by file name. Times count up by a millisecond; the direction comes from the gateway's segments.
const CAPTURES: [(&str, &[Packet]); 7] = [
    ("lesson-3.pcap", LESSON_3),
    ("vlan.pcap", VLAN),
    ("ipv6.pcapng", IPV6),
    ("fragments.pcap", FRAGMENTS),
    ("icmp-errors.pcapng", ICMP_ERRORS),
    ("malformed.pcap", MALFORMED),
    ("ethertypes.pcap", ETHERTYPES),
];

/// One client may use the load balancer, nobody a node port; state decides about everything that follows.
const LESSON_3: &[Packet] = &[
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":40000,"dport":80,"seq":1000,"win":65535}"#,
        None,
        "allow policy-allow new",
    ),
    (
        r#"{"src":"169.1.1.1","dst":"1.1.1.1","proto":"tcp","sport":80,"dport":40000,"flags":"SA","seq":5000,"ack":1001,"win":65535}"#,
        None,
        "allow established established",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":40000,"dport":80,"flags":"A","seq":1001,"ack":5001,"win":65535}"#,
        None,
        "allow established established",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":40000,"dport":80,"flags":"PA","seq":1001,"ack":5001,"win":65535,"len":100}"#,
        None,
        "allow established established",
    ),
    // Far beyond what the other side announced.
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":40000,"dport":80,"flags":"PA","seq":500000,"ack":5001,"win":65535,"len":100}"#,
        None,
        "deny invalid-state none",
    ),
    (
        r#"{"src":"169.1.1.1","dst":"1.1.1.1","proto":"tcp","sport":80,"dport":40000,"flags":"PA","seq":5001,"ack":1101,"win":65535,"len":900}"#,
        None,
        "allow established established",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":40000,"dport":80,"flags":"FA","seq":1101,"ack":5901,"win":65535}"#,
        None,
        "allow established established",
    ),
    (
        r#"{"src":"169.1.1.1","dst":"1.1.1.1","proto":"tcp","sport":80,"dport":40000,"flags":"FA","seq":5901,"ack":1102,"win":65535}"#,
        None,
        "allow established established",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":40000,"dport":80,"flags":"A","seq":1102,"ack":5902,"win":65535}"#,
        None,
        "allow established established",
    ),
    // Another client; then node ports, which the whitelist does not name.
    (r#"{"src":"1.1.1.2","dst":"169.1.1.1","proto":"tcp","sport":40000,"dport":80}"#, None, "deny policy-deny new"),
    (r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"udp","sport":40000,"dport":80}"#, None, "deny policy-deny new"),
    (r#"{"src":"1.1.1.1","dst":"10.1.1.1","proto":"tcp","sport":40000,"dport":31024}"#, None, "deny policy-deny new"),
    (r#"{"src":"1.1.1.1","dst":"10.1.1.1","proto":"udp","sport":40000,"dport":32767}"#, None, "deny policy-deny new"),
    // A failsafe port; a port of the worker that nobody opened; a port of the load balancer that no service has.
    (r#"{"src":"1.1.1.1","dst":"10.1.1.1","proto":"tcp","sport":40000,"dport":22}"#, None, "allow failsafe new"),
    (r#"{"src":"1.1.1.1","dst":"10.1.1.1","proto":"tcp","sport":40000,"dport":8080}"#, None, "deny no-policy-deny new"),
    (r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":40000,"dport":81}"#, None, "allow no-policy new"),
    // The worker itself starts something: its normal egress stage has no policy, but DNS is a failsafe port.
    (r#"{"src":"10.1.1.1","dst":"8.8.8.8","proto":"tcp","sport":40000,"dport":443}"#, None, "deny no-policy-deny new"),
    (r#"{"src":"10.1.1.1","dst":"8.8.8.8","proto":"udp","sport":40000,"dport":53}"#, None, "allow failsafe new"),
    (
        r#"{"src":"8.8.8.8","dst":"10.1.1.1","proto":"udp","sport":53,"dport":40000}"#,
        None,
        "allow established established",
    ),
];

/// Up to two tags are looked through (GW-28).
const VLAN: &[Packet] = &[
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":41000,"dport":80,"vlan":[100]}"#,
        None,
        "allow policy-allow new",
    ),
    (
        r#"{"src":"169.1.1.1","dst":"1.1.1.1","proto":"tcp","sport":80,"dport":41000,"flags":"SA","ack":1,"vlan":[100]}"#,
        None,
        "allow established established",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"10.1.1.1","proto":"tcp","sport":41000,"dport":31024,"vlan":[100]}"#,
        None,
        "deny policy-deny new",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":41001,"dport":80,"vlan":[100,200]}"#,
        None,
        "allow policy-allow new",
    ),
    (
        r#"{"src":"1.1.1.2","dst":"169.1.1.1","proto":"tcp","sport":41001,"dport":80,"vlan":[100,200]}"#,
        None,
        "deny policy-deny new",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":41002,"dport":80,"vlan":[1,2,3]}"#,
        None,
        "deny vlan-unparsed none",
    ),
    (r#"{"ethertype":2054,"len":28,"vlan":[100]}"#, None, "allow pass-ethertype none"),
];

/// The lab's policies name IPv4 addresses for the load balancer, so IPv6 reaches it; node ports are closed to both families.
const IPV6: &[Packet] = &[
    (
        r#"{"src":"2001:db8:1::1","dst":"2001:db8:169::1","proto":"tcp","sport":42000,"dport":80}"#,
        None,
        "allow profile new",
    ),
    (
        r#"{"src":"2001:db8:169::1","dst":"2001:db8:1::1","proto":"tcp","sport":80,"dport":42000,"flags":"SA","ack":1}"#,
        None,
        "allow established established",
    ),
    (
        r#"{"src":"2001:db8:1::1","dst":"2001:db8:10::1","proto":"tcp","sport":42000,"dport":31024}"#,
        None,
        "deny policy-deny new",
    ),
    (r#"{"src":"2001:db8:1::1","dst":"2001:db8:10::1","proto":"icmp","id":7}"#, None, "deny no-policy-deny new"),
    // Neighbour discovery passes with hop limit 255 only (GW-28).
    (
        r#"{"src":"2001:db8:10::2","dst":"2001:db8:10::1","proto":"icmpv6","type":135,"ttl":255,"len":16}"#,
        None,
        "allow neighbour-discovery none",
    ),
    (
        r#"{"src":"2001:db8:1::1","dst":"2001:db8:10::1","proto":"icmpv6","type":135,"ttl":64,"len":16}"#,
        None,
        "deny no-policy-deny new",
    ),
    (
        r#"{"src":"2001:db8:1::1","dst":"2001:db8:169::1","proto":"udp","sport":42000,"dport":80,"frag":{"id":70000,"offset":0,"more":true,"len":64},"len":56}"#,
        None,
        "allow profile new",
    ),
    (
        r#"{"src":"2001:db8:1::1","dst":"2001:db8:169::1","proto":"udp","frag":{"id":70000,"offset":64,"more":false},"len":40}"#,
        None,
        "allow profile new",
    ),
    (
        r#"{"src":"2001:db8:1::1","dst":"2001:db8:169::1","proto":"udp","frag":{"id":70001,"offset":64,"more":false},"len":40}"#,
        None,
        "deny fragment-no-first none",
    ),
];

/// Later fragments follow their first; overlaps and cut headers are denied (GW-22).
const FRAGMENTS: &[Packet] = &[
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":43000,"dport":80,"len":44,"frag":{"id":9,"offset":0,"more":true}}"#,
        None,
        "allow policy-allow new",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","len":64,"frag":{"id":9,"offset":64,"more":true}}"#,
        None,
        "allow policy-allow new",
    ),
    // An exact duplicate follows too; then the last one.
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","len":64,"frag":{"id":9,"offset":64,"more":true}}"#,
        None,
        "allow policy-allow new",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","len":20,"frag":{"id":9,"offset":128,"more":false}}"#,
        None,
        "allow policy-allow new",
    ),
    // No first fragment with this identification.
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","len":20,"frag":{"id":10,"offset":128,"more":false}}"#,
        None,
        "deny fragment-no-first none",
    ),
    // A real overlap, and the rest of that datagram.
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":43001,"dport":80,"len":44,"frag":{"id":11,"offset":0,"more":true}}"#,
        None,
        "allow policy-allow new",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","len":64,"frag":{"id":11,"offset":56,"more":true}}"#,
        None,
        "deny fragment-overlap none",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","len":20,"frag":{"id":11,"offset":128,"more":false}}"#,
        None,
        "deny fragment-overlap none",
    ),
    // A first fragment without a whole header, and what follows it.
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":43002,"dport":80,"frag":{"id":12,"offset":0,"more":true,"len":8}}"#,
        None,
        "deny fragment-tiny none",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","len":20,"frag":{"id":12,"offset":8,"more":false}}"#,
        None,
        "deny fragment-tiny none",
    ),
    // A denied first fragment takes its later ones along.
    (
        r#"{"src":"1.1.1.1","dst":"10.1.1.1","proto":"udp","sport":43003,"dport":31024,"len":56,"frag":{"id":13,"offset":0,"more":true}}"#,
        None,
        "deny policy-deny new",
    ),
    (
        r#"{"src":"1.1.1.1","dst":"10.1.1.1","proto":"udp","len":20,"frag":{"id":13,"offset":64,"more":false}}"#,
        None,
        "deny policy-deny new",
    ),
];

/// Errors about a live flow follow it; others are judged by policy (GW-27).
const ICMP_ERRORS: &[Packet] = &[
    (r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":44000,"dport":80}"#, None, "allow policy-allow new"),
    // From a router on the way, about the client's own packet.
    (
        r#"{"src":"10.1.1.1","dst":"1.1.1.1","proto":"icmp","type":11,"code":0,"quote":{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":44000,"dport":80}}"#,
        None,
        "allow related related",
    ),
    // From a router outside, about the answer.
    (
        r#"{"src":"9.9.9.9","dst":"169.1.1.1","proto":"icmp","type":3,"code":4,"quote":{"src":"169.1.1.1","dst":"1.1.1.1","proto":"tcp","sport":80,"dport":44000,"flags":"A"}}"#,
        None,
        "allow related related",
    ),
    // About a flow that there is not.
    (
        r#"{"src":"9.9.9.9","dst":"10.1.1.1","proto":"icmp","type":3,"code":1,"quote":{"src":"10.1.1.1","dst":"1.1.1.1","proto":"tcp","sport":80,"dport":44001,"flags":"A"}}"#,
        None,
        "deny no-policy-deny new",
    ),
    // Not to the one who sent the quoted packet.
    (
        r#"{"src":"9.9.9.9","dst":"10.1.1.1","proto":"icmp","type":3,"code":1,"quote":{"src":"169.1.1.1","dst":"1.1.1.1","proto":"tcp","sport":80,"dport":44000,"flags":"A"}}"#,
        None,
        "deny no-policy-deny new",
    ),
    // An answer that nobody asked for.
    (r#"{"src":"1.1.1.1","dst":"10.1.1.1","proto":"icmp","type":0,"id":9}"#, None, "deny invalid-state none"),
];

/// Bytes of an Ethernet header: the IP header starts here.
const IP: usize = 14;

/// The checksum of the IPv4 header after it was changed.
fn mend(frame: &mut [u8]) {
    frame[IP + 10] = 0;
    frame[IP + 11] = 0;
    let sum: u32 = frame[IP..IP + 20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    frame[IP + 10..IP + 12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}

const SYN: &str = r#"{"src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":45000,"dport":80}"#;
const DATAGRAM: &str = r#"{"src":"1.1.1.1","dst":"10.1.1.1","proto":"udp","sport":45000,"dport":53,"len":16}"#;
const SYN_6: &str = r#"{"src":"2001:db8:1::1","dst":"2001:db8:169::1","proto":"tcp","sport":45000,"dport":80}"#;

/// Each with a reason of its own, never passed (GW-29); the first is whole, for comparison.
const MALFORMED: &[Packet] = &[
    (SYN, None, "allow policy-allow new"),
    (SYN, Some(|f| f[IP] = 0x55), "deny bad-ip-header none"),
    (SYN, Some(|f| f[IP] = 0x44), "deny bad-ip-header none"),
    (SYN, Some(|f| f[IP + 8] ^= 0xff), "deny bad-checksum none"),
    (
        SYN,
        Some(|f| {
            f[IP + 3] += 1;
            mend(f)
        }),
        "deny truncated none",
    ),
    (
        SYN,
        Some(|f| {
            f[IP + 3] = 19;
            mend(f)
        }),
        "deny bad-ip-header none",
    ),
    (SYN, Some(|f| f.truncate(IP + 19)), "deny truncated none"),
    (SYN, Some(|f| f.truncate(13)), "deny truncated none"),
    // The TCP header says it is shorter than it can be, and longer than the packet.
    (SYN, Some(|f| f[IP + 32] = 0x40), "deny bad-l4-header none"),
    (SYN, Some(|f| f[IP + 32] = 0xf0), "deny bad-l4-header none"),
    // SYN and FIN together are no valid set of flags.
    (
        SYN,
        Some(|f| {
            f[IP + 21] ^= 1;
            f[IP + 33] = 3
        }),
        "deny invalid-state none",
    ),
    (DATAGRAM, Some(|f| f[IP + 25] = 7), "deny bad-l4-header none"),
    (DATAGRAM, Some(|f| f[IP + 25] = 200), "deny bad-l4-header none"),
    (SYN_6, Some(|f| f[IP] = 0x40), "deny bad-ip-header none"),
    (SYN_6, Some(|f| f.truncate(IP + 39)), "deny truncated none"),
    // A routing header of type 0, an extension header that there is not, and one that ends beyond the packet.
    (
        SYN_6,
        Some(|f| {
            f[IP + 6] = 43;
            f[IP + 40..IP + 48].copy_from_slice(&[6, 0, 0, 1, 0, 0, 0, 0])
        }),
        "deny ext-header-chain none",
    ),
    (
        SYN_6,
        Some(|f| {
            f[IP + 6] = 0;
            f[IP + 40..IP + 48].copy_from_slice(&[6, 9, 0, 0, 0, 0, 0, 0])
        }),
        "deny bad-ip-header none",
    ),
];

/// Not IP: what passes unjudged, and what does not (GW-28).
const ETHERTYPES: &[Packet] = &[
    (r#"{"ethertype":2054,"len":28}"#, None, "allow pass-ethertype none"),
    (r#"{"ethertype":35020,"len":40}"#, None, "allow pass-ethertype none"),
    (r#"{"ethertype":34825,"len":110}"#, None, "allow pass-ethertype none"),
    (r#"{"ethertype":34958,"len":4}"#, None, "allow pass-ethertype none"),
    (r#"{"ethertype":35063,"len":44}"#, None, "deny unknown-ethertype none"),
    (r#"{"ethertype":34887,"len":44}"#, None, "deny unknown-ethertype none"),
    (r#"{"ethertype":4660,"len":46,"vlan":[7]}"#, None, "deny unknown-ethertype none"),
];

fn pcaps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps")
}

fn frame(object: &str, damage: Option<Damage>) -> Vec<u8> {
    let line = object.replacen('{', "{\"in\":\"uplink\",", 1);
    let at = Span { file: Arc::from("packet"), line: 1, column: 1 };
    let object = read_line(&line, &at).unwrap_or_else(|error| panic!("{error}: {line}"));
    let mut frame = build(&object.spec);
    if let Some(damage) = damage {
        damage(&mut frame);
    }
    frame
}

/// The capture file of these frames: classic with microseconds, or pcapng with nanoseconds.
fn capture(name: &str, frames: &[Vec<u8>]) -> Vec<u8> {
    const START: u64 = 1_700_000_000_000_000_000;
    let time = |n: usize| START + n as u64 * 1_000_000;
    if name.ends_with(".pcapng") {
        let mut writer = PcapngWriter::new(Vec::new(), &["wire"]).unwrap();
        for (n, bytes) in frames.iter().enumerate() {
            let record = Record { time: Now(time(n)), bytes, original_length: bytes.len() as u32 };
            writer.write(0, &record, Seen::Received, None).unwrap();
        }
        return writer.finish().unwrap();
    }
    let mut file: Vec<u8> =
        [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 0x40000, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    for (n, bytes) in frames.iter().enumerate() {
        let (seconds, rest) = (time(n) / 1_000_000_000, time(n) % 1_000_000_000);
        let length = bytes.len() as u32;
        let words = [seconds as u32, (rest / 1_000) as u32, length, length];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        file.extend(bytes);
    }
    file
}

/// What `replay` writes as verdicts, with these values of `--in`.
fn verdicts(inputs: &[String]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("verdicts.jsonl");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
    command.arg("replay").arg("--gateway").arg(pcaps().join("gateway.yaml")).arg("--verdicts").arg(&out);
    for input in inputs {
        command.args(["--in", input]);
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{inputs:?}: {}", String::from_utf8_lossy(&done.stderr));
    fs::read_to_string(out).unwrap()
}

fn is_update() -> bool {
    std::env::var_os("RINGWALL_UPDATE").is_some()
}

/// Compares a file with what it must hold, or writes it.
fn settle(path: &Path, content: &[u8]) {
    if is_update() {
        fs::write(path, content).unwrap();
    }
    let there = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let hint = "RINGWALL_UPDATE=1 cargo test --test pcaps";
    assert!(there == content, "{} is not what it must be; to write it anew: {hint}", path.display());
    assert!(there.len() as u64 <= LARGEST, "{} is too large", path.display());
}

#[test]
fn captures_made_from_packet_objects_get_the_verdicts_beside_them() {
    for (name, packets) in CAPTURES {
        let path = pcaps().join(name);
        let frames: Vec<Vec<u8>> = packets.iter().map(|(object, damage, _)| frame(object, *damage)).collect();
        settle(&path, &capture(name, &frames));
        let lines = verdicts(&[path.display().to_string()]);
        let words = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            ["verdict", "reason", "flow"].map(|key| line[key].as_str().unwrap().to_string()).join(" ")
        };
        let found: Vec<String> = lines.lines().map(words).collect();
        let expected: Vec<&str> = packets.iter().map(|packet| packet.2).collect();
        assert_eq!(found, expected, "{name}");
        let stem = name.split('.').next().unwrap_or(name);
        settle(&pcaps().join(format!("{stem}.expected.jsonl")), lines.as_bytes());
    }
}

/// The pair that was captured in the lab; what must become of its packets is one line each: verdict, reason, policy and rule.
#[test]
fn captures_of_the_lab_get_the_verdicts_beside_them() {
    let input = |port: &str| format!("{port}={}", pcaps().join(format!("{port}.pcap")).display());
    let lines = verdicts(&[input("uplink"), input("downlink")]);
    let short = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let word = |key: &str| if line[key].is_null() { "-".into() } else { line[key].to_string().replace('"', "") };
        ["verdict", "reason", "policy", "rule"].map(word).join(" ") + "\n"
    };
    let found: String = lines.lines().map(short).collect();
    settle(&pcaps().join("lab.expected.txt"), found.as_bytes());
}

#[test]
fn captures_stay_small() {
    for entry in fs::read_dir(pcaps()).unwrap() {
        let entry = entry.unwrap();
        let size = entry.metadata().unwrap().len();
        assert!(size <= LARGEST, "{} has {size} bytes", entry.path().display());
    }
}
