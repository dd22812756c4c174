//! One line of JSON that describes a packet in, the packet with its port and time out: what `explain --packets` and `test` read.

use std::net::IpAddr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::base::address::Direction;
use crate::base::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::base::time::Now;
use crate::packet::{FragmentSpec, PacketSpec};

/// A packet, where it is received and when.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketObject {
    /// `in`: the uplink is inbound, the downlink outbound (GW-1).
    pub direction: Direction,
    /// `t`.
    pub time: Now,
    /// The packet to be built.
    pub spec: PacketSpec,
}

/// Names of protocols in packet objects and in the text form, with their numbers.
const PROTOCOLS: [(&str, u8); 6] =
    [("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58), ("sctp", 132), ("udplite", 136)];

/// TCP flags in the order of their bits, as `flags` spells them.
const FLAGS: &str = "FSRPAUEC";

/// Reads one line. `at` names the file and the line; the column of the finding is that of the place in the line.
///
/// Defaults: `t` 0, `flags` `S`, `type` echo request, `ttl` 64, everything else 0 or absent. Fields that the protocol has no
/// place for are accepted without effect; unknown fields are errors.
pub fn read_line(line: &str, at: &Span) -> Result<PacketObject, Diagnostic> {
    let place = |column: usize| Span { column: column.max(1) as u32, ..at.clone() };
    let fail = |finding: Finding| {
        let column = line.find(&format!("\"{}\"", finding.field)).map_or(1, |byte| column_of(line, byte));
        finding.diagnostic().at(&place(column))
    };
    // The reader would take a list of values for an object.
    if line.trim_start().starts_with('[') {
        let column = column_of(line, line.len() - line.trim_start().len());
        return Err(Diagnostic::error("packet-object", "a list, expected a packet object").at(&place(column)));
    }
    let written: Written = serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        // The position is in the diagnostic already.
        let message = plain(text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message));
        // The reader's column counts bytes, up to the end of what it did not like; an unknown field is pointed at itself.
        let unknown = unknown_field(&text);
        let start = unknown.and_then(|(field, _)| line.find(&format!("\"{field}\"")));
        let column = column_of(line, start.unwrap_or(error.column().saturating_sub(1)));
        let diagnostic = Diagnostic::error("packet-object", message).at(&place(column));
        match unknown {
            Some((_, Some(word))) => diagnostic.help(format!("did you mean `{word}`?")),
            _ => diagnostic,
        }
    })?;
    let direction = match written.port {
        Some(PortName::Uplink) => Direction::Inbound,
        Some(PortName::Downlink) => Direction::Outbound,
        None => {
            return Err(fail(
                Finding::new("in", "`in` is missing").help("say `\"in\":\"uplink\"` or `\"in\":\"downlink\"`"),
            ));
        }
    };
    let time = Now::from_seconds(written.time);
    Ok(PacketObject { direction, time, spec: written.into_spec().map_err(fail)? })
}

/// Column in characters, from 1, of a byte of the line.
pub(super) fn column_of(line: &str, byte: usize) -> usize {
    line.char_indices().take_while(|&(at, _)| at < byte).count() + 1
}

/// The JSON reader's message in words of the packet object instead of names of types.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("expected u8", "expected 0 to 255"),
        ("expected u16", "expected 0 to 65535"),
        ("expected u32", "expected 0 to 4294967295"),
        ("expected f64", "expected a number of seconds"),
        ("expected struct WrittenFragment", "expected an object such as `{\"id\":9,\"offset\":0,\"more\":true}`"),
        ("expected struct Written", "expected a packet object"),
        ("expected a sequence", "expected a list"),
        ("EOF while parsing", "the line ends inside"),
    ];
    WORDS.iter().fold(message.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The field in the error that the JSON reader has about one it does not know, and the known one that is most like it.
fn unknown_field(message: &str) -> Option<(&str, Option<&str>)> {
    let field = message.strip_prefix("unknown field `")?.split_once('`')?.0;
    let known = message.split_once("expected one of ")?.1;
    let candidates = known.split('`').filter(|word| !word.is_empty() && word.chars().all(char::is_alphabetic));
    Some((field, did_you_mean(field, candidates)))
}

/// What is wrong with a field.
pub(super) struct Finding {
    /// The field it is about.
    pub field: &'static str,
    message: String,
    help: Option<String>,
}

impl Finding {
    /// A finding about a field.
    pub fn new(field: &'static str, message: impl Into<String>) -> Finding {
        Finding { field, message: message.into(), help: None }
    }

    /// The same with advice.
    pub fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }

    /// As a diagnostic without a place.
    pub fn diagnostic(self) -> Diagnostic {
        let diagnostic = Diagnostic::error("packet-object", self.message);
        match self.help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }
}

/// A protocol by name or number, the one place where both spellings are read.
pub(super) fn protocol(text: &str) -> Result<Protocol, Finding> {
    if let Some((name, number)) = PROTOCOLS.iter().find(|(name, _)| *name == text) {
        return Ok(Protocol { number: *number, is_icmp_by_name: *name == "icmp" });
    }
    if let Ok(number) = text.parse::<u8>() {
        return Ok(Protocol { number, is_icmp_by_name: false });
    }
    let names: Vec<String> = PROTOCOLS.iter().map(|(name, _)| format!("`{name}`")).collect();
    let finding =
        Finding::new("proto", format!("unknown protocol `{text}`, expected one of {} or 0 to 255", names.join(", ")));
    match did_you_mean(&text.to_lowercase(), PROTOCOLS.iter().map(|(name, _)| *name)) {
        Some(name) => Err(finding.help(format!("did you mean `{name}`?"))),
        None => Err(finding),
    }
}

/// TCP flags by their letters.
pub(super) fn flags(text: &str) -> Result<u8, Finding> {
    text.chars().try_fold(0, |flags, letter| match FLAGS.find(letter) {
        Some(bit) => Ok(flags | 1 << bit),
        None => Err(Finding::new("flags", format!("unknown TCP flag `{letter}`, expected any of `{FLAGS}`"))
            .help("FIN SYN RST PSH ACK URG ECE CWR by their first letters, in upper case")),
    })
}

/// Checks what a packet object or text says as a whole; the same for both forms.
pub(super) fn validated(spec: PacketSpec) -> Result<PacketSpec, Finding> {
    if spec.ethertype.is_none() && spec.src.is_ipv4() != spec.dst.is_ipv4() {
        return Err(Finding::new("dst", format!("`{}` and `{}` are not of one family", spec.src, spec.dst)));
    }
    if let Some(tag) = spec.vlan.iter().find(|tag| **tag > 4095) {
        return Err(Finding::new("vlan", format!("VLAN tag {tag}, expected 0 to 4095")));
    }
    if let Some(fragment) = spec.fragment {
        if fragment.offset % 8 != 0 {
            return Err(Finding::new(
                "offset",
                format!("fragment offset {}, expected a multiple of 8", fragment.offset),
            ));
        }
        if spec.src.is_ipv4() && fragment.id > 0xffff {
            return Err(Finding::new("id", format!("fragment id {}, expected 0 to 65535 for IPv4", fragment.id)));
        }
    }
    let (header, ip) = (transport_header(&spec), if spec.src.is_ipv4() { 20 } else { 0 });
    let most = 0xffff - header - ip - if spec.fragment.is_some() { 8 } else { 0 };
    let longest = spec.fragment.and_then(|fragment| fragment.len).unwrap_or(0).saturating_sub(header).max(spec.len);
    if spec.ethertype.is_none() && longest > most {
        return Err(Finding::new(
            "len",
            format!("{longest} bytes do not fit into one IP packet, expected at most {most}"),
        ));
    }
    Ok(spec)
}

fn transport_header(spec: &PacketSpec) -> u16 {
    match spec.protocol {
        6 => 20,
        17 | 136 | 1 | 58 => 8,
        132 => 12,
        _ => 0,
    }
}

/// A protocol number, and whether it was written `icmp`, which means ICMPv6 between IPv6 addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Protocol {
    number: u8,
    is_icmp_by_name: bool,
}

impl Protocol {
    /// The number between these addresses.
    pub fn number(self, src: IpAddr) -> u8 {
        if self.is_icmp_by_name && src.is_ipv6() { 58 } else { self.number }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
        struct Names;
        impl Visitor<'_> for Names {
            type Value = Protocol;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a protocol name such as `tcp` or a number from 0 to 255")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Protocol, E> {
                protocol(text).map_err(|finding| E::custom(sentence(finding)))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Protocol, E> {
                let number =
                    u8::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))?;
                Ok(Protocol { number, is_icmp_by_name: false })
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// Message and advice in one, where the reader knows the place.
fn sentence(finding: Finding) -> String {
    match finding.help {
        Some(help) => format!("{} ({help})", finding.message),
        None => finding.message,
    }
}

/// TCP flags as a set of letters.
#[derive(Clone, Copy, Debug)]
struct Flags(u8);

impl<'de> Deserialize<'de> for Flags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flags, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        flags(&text).map(Flags).map_err(|finding| de::Error::custom(sentence(finding)))
    }
}

/// The name of a port in packet objects.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum PortName {
    Uplink,
    Downlink,
}

/// A packet object as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "in")]
    port: Option<PortName>,
    #[serde(rename = "t", default)]
    time: f64,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    proto: Option<Protocol>,
    #[serde(default)]
    sport: u16,
    #[serde(default)]
    dport: u16,
    flags: Option<Flags>,
    #[serde(default)]
    seq: u32,
    #[serde(default)]
    ack: u32,
    win: Option<u16>,
    #[serde(default)]
    len: u16,
    ttl: Option<u8>,
    #[serde(default)]
    vlan: Vec<u16>,
    ethertype: Option<u16>,
    #[serde(rename = "type")]
    icmp_type: Option<u8>,
    #[serde(default)]
    code: u8,
    #[serde(default)]
    id: u16,
    frag: Option<WrittenFragment>,
    quote: Option<Box<Written>>,
}

/// The place of a fragment as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFragment {
    #[serde(default)]
    id: u32,
    #[serde(default)]
    offset: u16,
    #[serde(default)]
    more: bool,
    len: Option<u16>,
}

impl Written {
    fn into_spec(self) -> Result<PacketSpec, Finding> {
        let missing = |field: &'static str| {
            Finding::new(field, format!("`{field}` is missing")).help("a frame that is not IP has `ethertype` instead")
        };
        let unspecified = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let (src, dst, number) = match (self.src, self.dst, self.proto) {
            (src, dst, _) if self.ethertype.is_some() => (src.unwrap_or(unspecified), dst.unwrap_or(unspecified), 0),
            (None, ..) => return Err(missing("src")),
            (_, None, _) => return Err(missing("dst")),
            (.., None) => return Err(missing("proto")),
            (Some(src), Some(dst), Some(protocol)) => (src, dst, protocol.number(src)),
        };
        let base = PacketSpec::new(src, dst, number);
        validated(PacketSpec {
            sport: self.sport,
            dport: self.dport,
            tcp_flags: self.flags.map_or(base.tcp_flags, |flags| flags.0),
            seq: self.seq,
            ack: self.ack,
            window: self.win,
            len: self.len,
            ttl: self.ttl.unwrap_or(base.ttl),
            vlan: self.vlan,
            ethertype: self.ethertype,
            icmp_type: self.icmp_type.unwrap_or(base.icmp_type),
            icmp_code: self.code,
            icmp_id: self.id,
            fragment: self.frag.map(|WrittenFragment { id, offset, more, len }| FragmentSpec { id, offset, more, len }),
            quote: self.quote.map(|quote| quote.into_spec().map(Box::new)).transpose()?,
            ..base
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span { file: "packets.jsonl".into(), line: 3, column: 1 }
    }

    fn spec(src: &str, dst: &str, protocol: u8) -> PacketSpec {
        PacketSpec::new(src.parse().unwrap(), dst.parse().unwrap(), protocol)
    }

    #[test]
    fn objects_with_their_defaults() {
        let check = |line: &str, direction: Direction, time: u64, expected: PacketSpec| {
            let object = read_line(line, &span()).unwrap_or_else(|diagnostic| panic!("{line}: {diagnostic}"));
            assert_eq!(object, PacketObject { direction, time: Now(time), spec: expected }, "{line}");
        };
        check(
            r#"{"in":"uplink","src":"1.1.1.1","dst":"169.1.1.1","proto":"tcp","sport":40000,"dport":80,"t":0.1}"#,
            Direction::Inbound,
            100_000_000,
            PacketSpec { sport: 40000, dport: 80, ..spec("1.1.1.1", "169.1.1.1", 6) },
        );
        check(
            r#"{"in":"downlink","src":"1.1.1.1","dst":"169.1.1.1","proto":6,"flags":"PA","seq":7,"ack":8,"win":9,"len":10,"ttl":1}"#,
            Direction::Outbound,
            0,
            PacketSpec {
                tcp_flags: 0x18,
                seq: 7,
                ack: 8,
                window: Some(9),
                len: 10,
                ttl: 1,
                ..spec("1.1.1.1", "169.1.1.1", 6)
            },
        );
        check(
            r#"{"in":"uplink","src":"::1","dst":"::2","proto":"icmp","id":7}"#,
            Direction::Inbound,
            0,
            PacketSpec { icmp_id: 7, icmp_type: 128, ..spec("::1", "::2", 58) },
        );
        check(
            r#"{"in":"uplink","src":"1.1.1.1","dst":"2.2.2.2","proto":"udp","frag":{"id":9,"offset":8,"more":true,"len":16},"vlan":[1,2]}"#,
            Direction::Inbound,
            0,
            PacketSpec {
                fragment: Some(FragmentSpec { id: 9, offset: 8, more: true, len: Some(16) }),
                vlan: vec![1, 2],
                ..spec("1.1.1.1", "2.2.2.2", 17)
            },
        );
        check(
            r#"{"in":"downlink","src":"2.2.2.2","dst":"1.1.1.1","proto":"icmp","type":3,"code":4,"quote":{"src":"1.1.1.1","dst":"2.2.2.2","proto":"sctp","dport":5}}"#,
            Direction::Outbound,
            0,
            PacketSpec {
                icmp_type: 3,
                icmp_code: 4,
                quote: Some(Box::new(PacketSpec { dport: 5, ..spec("1.1.1.1", "2.2.2.2", 132) })),
                ..spec("2.2.2.2", "1.1.1.1", 1)
            },
        );
        check(
            r#"{"in":"downlink","ethertype":2054,"t":1.4}"#,
            Direction::Outbound,
            1_400_000_000,
            PacketSpec { ethertype: Some(2054), ..spec("0.0.0.0", "0.0.0.0", 0) },
        );
    }

    #[test]
    fn errors_name_the_place_and_what_was_expected() {
        let check = |line: &str, expected: &str| match read_line(line, &span()) {
            Ok(object) => panic!("{line}: {object:?}"),
            Err(diagnostic) => {
                assert_eq!(diagnostic.to_string(), format!("error: packets.jsonl:3:{expected}"), "{line}")
            }
        };
        check(
            r#"{"src":"1.1.1.1","dst":"2.2.2.2","proto":"tcp"}"#,
            "1: `in` is missing (say `\"in\":\"uplink\"` or `\"in\":\"downlink\"`)",
        );
        check(
            r#"{"in":"uplink","dst":"2.2.2.2","proto":"tcp"}"#,
            "1: `src` is missing (a frame that is not IP has `ethertype` instead)",
        );
        check(
            r#"{"in":"up","src":"1.1.1.1","dst":"2.2.2.2","proto":"tcp"}"#,
            "10: unknown variant `up`, expected `uplink` or `downlink`",
        );
        check(
            r#"{"in":"uplink","src":"1.1.1.1","dst":"2.2.2.2","proto":"TCP"}"#,
            "60: unknown protocol `TCP`, expected one of `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, `udplite` or 0 to 255 \
             (did you mean `tcp`?)",
        );
        check(
            r#"{"in":"uplink","src":"1.1.1.1","dst":"2.2.2.2","proto":"tcp","flags":"SX"}"#,
            "74: unknown TCP flag `X`, expected any of `FSRPAUEC` (FIN SYN RST PSH ACK URG ECE CWR by their first \
             letters, in upper case)",
        );
        check(
            r#"{"in":"uplink","src":"1.1.1.1","dst":"::2","proto":"tcp"}"#,
            "32: `1.1.1.1` and `::2` are not of one family",
        );
        check(
            r#"{"in":"uplink","src":"1.1.1.1","dst":"2.2.2.2","proto":"udp","frag":{"offset":9}}"#,
            "70: fragment offset 9, expected a multiple of 8",
        );
        check(
            r#"{"in":"uplink","src":"1.1.1.1","dst":"2.2.2.2","proto":"udp","len":65508}"#,
            "62: 65508 bytes do not fit into one IP packet, expected at most 65507",
        );
        check(
            r#"{"in":"uplink","src":"1.1.1.1","dst":"2.2.2.2","proto":"udp","vlan":[4096]}"#,
            "62: VLAN tag 4096, expected 0 to 4095",
        );
        for (line, place, start) in [
            (r#"{"in":"uplink","prot":"tcp"}"#, "16: ", "unknown field `prot`, expected one of `in`, `t`"),
            (r#"{"in":"uplink","src":"1.1.1"}"#, "28: ", "invalid IP address syntax"),
            (r#"{"in":"uplink","dport":65536}"#, "28: ", "invalid value: integer `65536`, expected 0 to 65535"),
            (r#"{"in":"uplink","vlan":7}"#, "23: ", "invalid type: integer `7`, expected a list"),
            (r#"{"in":"uplink","frag":7}"#, "23: ", "invalid type: integer `7`, expected an object such as"),
            ("7", "1: ", "invalid type: integer `7`, expected a packet object"),
            (r#"{"in":"uplink""#, "14: ", "the line ends inside an object"),
        ] {
            let message = read_line(line, &span()).unwrap_err().to_string();
            assert!(message.starts_with(&format!("error: packets.jsonl:3:{place}{start}")), "{message}");
        }
        let message = read_line(r#"{"in":"uplink","prot":"tcp"}"#, &span()).unwrap_err().to_string();
        assert!(message.ends_with("(did you mean `proto`?)"), "{message}");
    }

    #[test]
    fn the_examples_of_the_interface_are_read() {
        let root = std::env::var("RINGWALL_SHARED")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").to_owned());
        let examples = std::path::Path::new(&root).join("spec/examples");
        let Ok(folders) = std::fs::read_dir(&examples) else {
            println!("skipped: no {}", examples.display());
            return;
        };
        let mut count = 0;
        for folder in folders.flatten() {
            let text = std::fs::read_to_string(folder.path().join("packets.jsonl")).unwrap();
            for line in text.lines().filter(|line| !line.is_empty()) {
                read_line(line, &span()).unwrap_or_else(|diagnostic| panic!("{line}: {diagnostic}"));
                count += 1;
            }
        }
        assert!(count > 40, "{count} packets read");
    }
}
