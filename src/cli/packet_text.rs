//! A packet written in one readable line in, its description out: what `ringwall explain` takes as argument.
//!
//! ```text
//! packet   = protocol endpoint ">" endpoint { item } | "ethertype" number { item }
//! protocol = tcp | udp | icmp | icmpv6 | sctp | udplite | 0..255
//! endpoint = address [ ":" port ]           an IPv6 address stands in brackets when a port follows: [2001:db8::1]:443
//! item     = "[" flags "]"                  TCP flags FSRPAUEC as in packet objects, "." for A as tcpdump writes it
//!          | "type" n | "code" n | "id" n   ICMP
//!          | "seq" n | "ack" n | "win" n    TCP
//!          | "len" n | "ttl" n
//!          | "vlan" n { "," n }             from the outside in
//!          | "frag" id [ ":" len ] "@" offset [ "+" ]      as tcpdump writes it: "+" means more fragments
//!          | "quote" "(" packet ")"         the packet that an ICMP error quotes
//! ```
//! `tcp 1.1.1.1:40000 > 169.1.1.1:80 [S]` · `icmp 1.1.1.1 > 10.1.1.1 type 8 id 7` · `udp [2001:db8::1]:53 > [2001:db8::2]:5353` ·
//! `icmp 10.1.1.1 > 1.1.1.1 type 3 code 1 quote (tcp 1.1.1.1:40000 > 10.1.1.1:80)` · `ethertype 0x0806 vlan 100`. Numbers are
//! decimal, or hexadecimal behind `0x`. Defaults are those of packet objects.

use std::net::{IpAddr, Ipv4Addr};

use super::packet_object::{Finding, column_of, flags, protocol, validated};
use crate::base::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::packet::{FragmentSpec, PacketSpec};

/// Words that start an item.
const ITEMS: [&str; 11] = ["type", "code", "id", "seq", "ack", "win", "len", "ttl", "vlan", "frag", "quote"];

/// Reads a packet in text form. A finding's place is the column in `text`, under the file name `packet`.
pub fn read_text(text: &str) -> Result<PacketSpec, Diagnostic> {
    let mut words = Words::of(text);
    let read = packet(&mut words).and_then(|spec| match words.next() {
        None => Ok(spec),
        Some(word) => Err(unknown_item(word)),
    });
    read.map_err(|finding| {
        let span = Span { file: "packet".into(), line: 1, column: column_of(text, words.place) as u32 };
        finding.diagnostic().at(&span)
    })
}

/// The words of a text; `>`, `(` and `)` are words of their own.
struct Words<'a> {
    text: &'a str,
    /// Byte from which on nothing was taken yet.
    rest: usize,
    /// Byte at which the word taken last begins.
    place: usize,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Words<'a> {
        Words { text, rest: 0, place: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.rest..).unwrap_or("")
    }

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let trimmed = rest.trim_start();
        self.rest += rest.len() - trimmed.len();
        self.place = self.rest;
        let is_single = |c: char| matches!(c, '>' | '(' | ')');
        let end = match trimmed.find(|c: char| c.is_whitespace() || is_single(c)) {
            Some(0) => 1,
            Some(end) => end,
            None => trimmed.len(),
        };
        self.rest += end;
        trimmed.get(..end).filter(|word| !word.is_empty())
    }

    /// Takes the next word if it is this one; otherwise it stays, and the place points to it.
    fn takes(&mut self, expected: &str) -> bool {
        let before = self.rest;
        let is_it = self.next() == Some(expected);
        if !is_it {
            self.rest = before;
        }
        is_it
    }

    fn expects(&mut self, what: &'static str) -> Result<&'a str, Finding> {
        self.next().ok_or_else(|| Finding::new(what, format!("the packet ends here, expected {what}")))
    }

    fn number<T: TryFrom<u64>>(&mut self, what: &'static str, most: u64) -> Result<T, Finding> {
        let word = self.expects(what)?;
        number(word, what, most)
    }
}

fn number<T: TryFrom<u64>>(word: &str, what: &'static str, most: u64) -> Result<T, Finding> {
    let value = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    value
        .ok()
        .filter(|&value| value <= most)
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| Finding::new(what, format!("`{word}` is no {what}, expected 0 to {most}")))
}

fn packet(words: &mut Words<'_>) -> Result<PacketSpec, Finding> {
    let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut spec = if words.takes("ethertype") {
        let ethertype = words.number("ethertype", 0xffff)?;
        PacketSpec { ethertype: Some(ethertype), ..PacketSpec::new(unspecified, unspecified, 0) }
    } else {
        let protocol = protocol(words.expects("a protocol")?)?;
        let (src, sport) = endpoint(words.expects("a source address")?)?;
        match words.expects("`>`")? {
            ">" => {}
            word => return Err(Finding::new("`>`", format!("`{word}` after the source, expected `>`"))),
        }
        let (dst, dport) = endpoint(words.expects("a destination address")?)?;
        PacketSpec { sport, dport, ..PacketSpec::new(src, dst, protocol.number(src)) }
    };
    while !words.rest().trim_start().is_empty() && !words.rest().trim_start().starts_with(')') {
        let word = words.expects("an item")?;
        item(word, words, &mut spec)?;
    }
    validated(spec)
}

fn item(word: &str, words: &mut Words<'_>, spec: &mut PacketSpec) -> Result<(), Finding> {
    match word {
        "type" => spec.icmp_type = words.number("ICMP type", 0xff)?,
        "code" => spec.icmp_code = words.number("ICMP code", 0xff)?,
        "id" => spec.icmp_id = words.number("identifier", 0xffff)?,
        "seq" => spec.seq = words.number("sequence number", u64::from(u32::MAX))?,
        "ack" => spec.ack = words.number("acknowledgement number", u64::from(u32::MAX))?,
        "win" => spec.window = Some(words.number("window", 0xffff)?),
        "len" => spec.len = words.number("length", 0xffff)?,
        "ttl" => spec.ttl = words.number("time to live", 0xff)?,
        "vlan" => {
            let tags = words.expects("VLAN tags")?;
            spec.vlan = tags.split(',').map(|tag| number(tag, "VLAN tag", 4095)).collect::<Result<_, _>>()?;
        }
        "frag" => spec.fragment = Some(fragment(words.expects("a fragment such as `9@0+`")?)?),
        "quote" => {
            if !words.takes("(") {
                return Err(Finding::new("quote", "no `(` behind `quote`, expected `quote (tcp … > …)`"));
            }
            spec.quote = Some(Box::new(packet(words)?));
            if !words.takes(")") {
                return Err(Finding::new("quote", "the quoted packet has no end, expected `)`"));
            }
        }
        _ => match word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(letters) => spec.tcp_flags = flags(&letters.replace('.', "A"))?,
            None => return Err(unknown_item(word)),
        },
    }
    Ok(())
}

fn unknown_item(word: &str) -> Finding {
    let finding = Finding::new(
        "item",
        format!("`{word}` is not known here, expected `[flags]` or one of `{}`", ITEMS.join("`, `")),
    );
    match did_you_mean(word, ITEMS) {
        Some(item) => finding.help(format!("did you mean `{item}`?")),
        None => finding,
    }
}

/// An address with an optional port.
fn endpoint(word: &str) -> Result<(IpAddr, u16), Finding> {
    let fail = || {
        Finding::new(
            "address",
            format!("`{word}` is no address, expected `1.2.3.4:80`, `1.2.3.4`, `[2001:db8::1]:80` or `2001:db8::1`"),
        )
    };
    let (address, port) = match word.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(fail)?;
            (address, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(fail)?) })
        }
        None if word.matches(':').count() == 1 => {
            let (address, port) = word.split_once(':').ok_or_else(fail)?;
            (address, Some(port))
        }
        None => (word, None),
    };
    let port = port.map_or(Ok(0), |port| number(port, "port", 0xffff))?;
    Ok((address.parse().map_err(|_| fail())?, port))
}

/// `id[:len]@offset[+]`.
fn fragment(word: &str) -> Result<FragmentSpec, Finding> {
    let (place, more) = word.strip_suffix('+').map_or((word, false), |place| (place, true));
    let Some((id, offset)) = place.split_once('@') else {
        return Err(Finding::new(
            "frag",
            format!("`{word}` is no fragment, expected `id@offset`, `id@offset+` or `id:len@offset+`"),
        ));
    };
    let (id, len) = match id.split_once(':') {
        Some((id, len)) => (id, Some(number(len, "fragment length", 0xffff)?)),
        None => (id, None),
    };
    let offset = number(offset, "fragment offset", 0xfff8)?;
    Ok(FragmentSpec { id: number(id, "fragment id", u64::from(u32::MAX))?, offset, more, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(src: &str, dst: &str, protocol: u8) -> PacketSpec {
        PacketSpec::new(src.parse().unwrap(), dst.parse().unwrap(), protocol)
    }

    #[test]
    fn packets_in_one_line() {
        let check = |text: &str, expected: PacketSpec| match read_text(text) {
            Ok(read) => assert_eq!(read, expected, "{text}"),
            Err(diagnostic) => panic!("{text}: {diagnostic}"),
        };
        let syn = PacketSpec { sport: 40000, dport: 80, ..spec("1.1.1.1", "169.1.1.1", 6) };
        check("tcp 1.1.1.1:40000 > 169.1.1.1:80 [S]", syn.clone());
        check("tcp 1.1.1.1:40000>169.1.1.1:80", syn.clone());
        check("6 1.1.1.1:40000 > 169.1.1.1:80", syn.clone());
        check(
            "tcp 1.1.1.1:40000 > 169.1.1.1:80 [S.] seq 5 ack 0x10 win 9 len 3 ttl 1 vlan 100,7",
            PacketSpec {
                tcp_flags: 0x12,
                seq: 5,
                ack: 16,
                window: Some(9),
                len: 3,
                ttl: 1,
                vlan: vec![100, 7],
                ..syn.clone()
            },
        );
        check("tcp 1.1.1.1:40000 > 169.1.1.1:80 []", PacketSpec { tcp_flags: 0, ..syn.clone() });
        check(
            "icmp 1.1.1.1 > 10.1.1.1 type 13 code 0 id 7",
            PacketSpec { icmp_type: 13, icmp_id: 7, ..spec("1.1.1.1", "10.1.1.1", 1) },
        );
        check(
            "udp [2001:db8::1]:53 > [2001:db8::2]:5353",
            PacketSpec { sport: 53, dport: 5353, ..spec("2001:db8::1", "2001:db8::2", 17) },
        );
        check(
            "icmp fe80::1 > [ff02::1] type 134 ttl 255",
            PacketSpec { icmp_type: 134, ttl: 255, ..spec("fe80::1", "ff02::1", 58) },
        );
        check("112 10.0.0.2 > 224.0.0.18 len 8", PacketSpec { len: 8, ..spec("10.0.0.2", "224.0.0.18", 112) });
        check(
            "tcp 1.1.1.1 > 2.2.2.2 frag 9:8@48+",
            PacketSpec {
                fragment: Some(FragmentSpec { id: 9, offset: 48, more: true, len: Some(8) }),
                ..spec("1.1.1.1", "2.2.2.2", 6)
            },
        );
        check(
            "icmp 169.1.1.1 > 1.1.1.1 type 3 code 4 quote (tcp 1.1.1.1:40000 > 169.1.1.1:80) ttl 9",
            PacketSpec {
                icmp_type: 3,
                icmp_code: 4,
                ttl: 9,
                quote: Some(Box::new(syn)),
                ..spec("169.1.1.1", "1.1.1.1", 1)
            },
        );
        check(
            "ethertype 0x0806 vlan 100",
            PacketSpec { ethertype: Some(0x0806), vlan: vec![100], ..spec("0.0.0.0", "0.0.0.0", 0) },
        );
    }

    #[test]
    fn errors_name_the_column_and_what_was_expected() {
        let check = |text: &str, expected: &str| match read_text(text) {
            Ok(read) => panic!("{text}: {read:?}"),
            Err(diagnostic) => assert_eq!(diagnostic.to_string(), format!("error: packet:1:{expected}"), "{text}"),
        };
        check("", "1: the packet ends here, expected a protocol");
        check("tcp", "4: the packet ends here, expected a source address");
        check(
            "tcpp 1.1.1.1 > 2.2.2.2",
            "1: unknown protocol `tcpp`, expected one of `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, `udplite` or 0 to 255 \
             (did you mean `tcp`?)",
        );
        check("tcp 1.1.1.1 2.2.2.2", "13: `2.2.2.2` after the source, expected `>`");
        check(
            "tcp 1.1.1:80 > 2.2.2.2",
            "5: `1.1.1:80` is no address, expected `1.2.3.4:80`, `1.2.3.4`, `[2001:db8::1]:80` or `2001:db8::1`",
        );
        check("tcp 1.1.1.1:80 > 2.2.2.2:65536", "18: `65536` is no port, expected 0 to 65535");
        check("icmp 1.1.1.1 > 2.2.2.2 type 256", "29: `256` is no ICMP type, expected 0 to 255");
        check(
            "tcp 1.1.1.1 > 2.2.2.2 tttl 3",
            "23: `tttl` is not known here, expected `[flags]` or one of `type`, `code`, `id`, `seq`, `ack`, `win`, \
             `len`, `ttl`, `vlan`, `frag`, `quote` (did you mean `ttl`?)",
        );
        check("icmp 1.1.1.1 > 2.2.2.2 quote (udp 1.1.1.1 > 2.2.2.2", "52: the quoted packet has no end, expected `)`");
        check(
            "udp 1.1.1.1 > 2.2.2.2 frag 9",
            "28: `9` is no fragment, expected `id@offset`, `id@offset+` or `id:len@offset+`",
        );
    }
}
