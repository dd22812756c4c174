//! Words of ACL and group rules in, protocols, prefixes and port ranges out (15.2, 15.3); the same for JSON and for commands.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::base::address::Direction;
use crate::policy::ir::Protocols;

/// Protocols with a name of their own, and their numbers.
const NAMED: [(&str, u8); 11] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("ah", 51),
    ("esp", 50),
    ("gre", 47),
    ("ip_in_ip", 4),
    ("l2tp", 115),
    ("rsvp", 46),
    ("sctp", 132),
    ("vrrp", 112),
];

/// ICMP, TCP and UDP: what `all` means where it allows.
const ICMP_TCP_UDP: [u8; 3] = [1, 6, 17];

/// Whether a rule lets packets through; `all` means more where it denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Allow.
    Allow,
    /// Deny.
    Deny,
}

/// What a protocol word says about other fields of its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Ports may be given.
    Ports,
    /// ICMP type and code may be given.
    Icmp,
    /// Neither.
    Nothing,
}

/// The protocols of a word (15.2).
///
/// # Errors
/// What is wrong with it.
pub fn protocols(word: &str, effect: Effect) -> Result<(Protocols, Detail), String> {
    let detail = match word {
        "tcp" | "udp" => Detail::Ports,
        "icmp" => Detail::Icmp,
        _ => Detail::Nothing,
    };
    let found = match (word, effect) {
        ("all", Effect::Allow) | ("icmp_tcp_udp", Effect::Allow) => Protocols::Of(ICMP_TCP_UDP.to_vec()),
        ("all", Effect::Deny) | ("any", _) => Protocols::Any,
        ("icmp_tcp_udp", Effect::Deny) => {
            return Err("`icmp_tcp_udp` is for allow rules only: to deny, name each protocol or `any`".to_string());
        }
        _ => Protocols::Of(vec![number(word)?]),
    };
    Ok((found, detail))
}

fn number(word: &str) -> Result<u8, String> {
    if let Some((_, number)) = NAMED.iter().find(|(name, _)| *name == word) {
        return Ok(*number);
    }
    let Some(text) = word.strip_prefix("number_") else {
        let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "`{word}` is not a protocol: expected `all`, `any`, `icmp_tcp_udp`, {} or `number_N`",
            names.join(", ")
        ));
    };
    let number = text.parse::<u8>().ok().filter(|n| n.to_string() == text);
    let number = number.ok_or_else(|| format!("`{word}` is not a protocol: N goes from 0 to 255"))?;
    match NAMED.iter().find(|(_, named)| *named == number) {
        Some((name, _)) => Err(format!("`{word}` has a name: write `{name}`")),
        None => Ok(number),
    }
}

/// A prefix or address of IPv4, and whether host bits were cleared.
///
/// # Errors
/// What is wrong with it.
pub fn prefix(text: &str) -> Result<(IpNet, bool), String> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = parsed.map_err(|_| format!("`{text}` is not an IPv4 address or prefix"))?;
    if net.addr().is_ipv6() {
        return Err(format!("`{text}` is of IPv6: rules are for IPv4 only"));
    }
    Ok((net.trunc(), net.trunc() != net))
}

/// Inbound or outbound.
pub fn direction(word: &str) -> Option<Direction> {
    match word {
        "inbound" => Some(Direction::Inbound),
        "outbound" => Some(Direction::Outbound),
        _ => None,
    }
}

/// Whether a rule has to give both ends of a port range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// A missing end is 1 or 65535 (15.3).
    Optional,
    /// Both or neither (SG-8).
    Both,
}

/// A port range; `None` for the full one, which also matches packets without ports (15.3).
///
/// # Errors
/// What is wrong with it.
pub fn port_range(first: Option<u16>, last: Option<u16>, ends: Ends) -> Result<Option<(u16, u16)>, String> {
    if ends == Ends::Both && first.is_some() != last.is_some() {
        return Err("needs both the lowest and the highest port, or neither".to_string());
    }
    let (first, last) = (first.unwrap_or(1), last.unwrap_or(u16::MAX));
    if first > last {
        return Err(format!("the lowest port {first} is above the highest port {last}"));
    }
    Ok(((first, last) != (1, u16::MAX)).then_some((first, last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_words_follow_15_2() {
        let check = |word: &str, effect, expected: Option<Protocols>| {
            assert_eq!(protocols(word, effect).ok().map(|(found, _)| found), expected, "{word} {effect:?}");
        };
        let of = |list: &[u8]| Some(Protocols::Of(list.to_vec()));
        use Effect::{Allow, Deny};
        check("all", Allow, of(&[1, 6, 17]));
        check("all", Deny, Some(Protocols::Any));
        check("any", Allow, Some(Protocols::Any));
        check("any", Deny, Some(Protocols::Any));
        check("icmp_tcp_udp", Allow, of(&[1, 6, 17]));
        check("icmp_tcp_udp", Deny, None);
        check("tcp", Deny, of(&[6]));
        check("vrrp", Allow, of(&[112]));
        check("ip_in_ip", Allow, of(&[4]));
        check("number_99", Allow, of(&[99]));
        check("number_0", Allow, of(&[0]));
        check("number_6", Allow, None);
        check("number_112", Allow, None);
        check("number_256", Allow, None);
        check("number_099", Allow, None);
        check("TCP", Allow, None);
        check("6", Allow, None);
    }

    #[test]
    fn port_ranges_follow_15_3_and_sg_8() {
        let check = |first, last, ends, expected: Option<Option<(u16, u16)>>| {
            assert_eq!(port_range(first, last, ends).ok(), expected, "{first:?} {last:?} {ends:?}");
        };
        check(None, None, Ends::Optional, Some(None));
        check(Some(1), Some(65535), Ends::Optional, Some(None));
        check(Some(80), None, Ends::Optional, Some(Some((80, 65535))));
        check(None, Some(80), Ends::Optional, Some(Some((1, 80))));
        check(Some(81), Some(80), Ends::Optional, None);
        check(Some(80), None, Ends::Both, None);
        check(Some(80), Some(80), Ends::Both, Some(Some((80, 80))));
    }

    #[test]
    fn prefixes_are_masked_15_3() {
        let check = |text: &str, expected: Option<(&str, bool)>| {
            let found = prefix(text).ok().map(|(net, masked)| (net.to_string(), masked));
            assert_eq!(found, expected.map(|(net, masked)| (net.to_string(), masked)), "{text}");
        };
        check("10.0.0.0/8", Some(("10.0.0.0/8", false)));
        check("10.0.0.1/8", Some(("10.0.0.0/8", true)));
        check("10.0.0.1", Some(("10.0.0.1/32", false)));
        check("0.0.0.0/0", Some(("0.0.0.0/0", false)));
        check("::/0", None);
        check("any", None);
    }
}
