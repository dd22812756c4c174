//! Protocols and ports as people write them in, numbers out (2.4, 2.5).

use crate::base::decode::Field;
use crate::base::diagnostic::did_you_mean;
use crate::base::document::Kind;
use crate::policy::ir::Port;

/// Names of protocols in exact case, and their numbers.
pub(super) const PROTOCOLS: &[(&str, u8)] =
    &[("TCP", 6), ("UDP", 17), ("ICMP", 1), ("ICMPv6", 58), ("SCTP", 132), ("UDPLite", 136)];

/// A protocol by name or number, 1 to 255; a number may be in quotes (V-11).
pub(super) fn protocol(field: &Field<'_, '_>) -> Option<u8> {
    let text = match &field.node.kind {
        Kind::Int(..) => return field.integer(1..=255),
        Kind::String(text) => text.as_str(),
        _ => {
            field.error(
                "wrong-type",
                format!("expected the name or number of a protocol, found {}", field.node.describe()),
            );
            return None;
        }
    };
    if let Some((_, number)) = PROTOCOLS.iter().find(|(name, _)| *name == text) {
        return Some(*number);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let number = text.parse().ok().filter(|number| *number != 0);
        if number.is_none() {
            field.error("bad-protocol", format!("expected a protocol number from 1 to 255, found `{text}`"));
        }
        return number;
    }
    let message = format!("`{text}` is not a protocol");
    let help = match did_you_mean(text, PROTOCOLS.iter().map(|(name, _)| *name)) {
        Some(near) => format!("did you mean `{near}`? protocol names are case sensitive"),
        None => "use TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255".to_string(),
    };
    field.error_with_help("bad-protocol", message, help);
    None
}

/// A list of ports (V-8).
pub(super) fn ports(field: &Field<'_, '_>, limit: usize) -> Vec<Port> {
    let items = field.list().unwrap_or_default();
    if items.len() > limit {
        let message = format!("{} ports, at most {limit} are allowed", items.len());
        field.error_with_help("too-many", message, "split the rule");
    }
    items.iter().filter_map(port).collect()
}

/// A number, `"first:last"` or a name.
fn port(field: &Field<'_, '_>) -> Option<Port> {
    let text = match &field.node.kind {
        Kind::Int(..) => return field.integer(1..=65535).map(|port| Port::Range(port, port)),
        Kind::String(text) => text.as_str(),
        _ => {
            field.error("wrong-type", format!("expected a port, range or port name, found {}", field.node.describe()));
            return None;
        }
    };
    let is_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let number = |t: &str| t.parse::<u16>().ok().filter(|port| *port != 0);
    if is_digits(text) {
        let port = number(text);
        if port.is_none() {
            field.error("bad-port", format!("expected a port from 1 to 65535, found `{text}`"));
        }
        return port.map(|port| Port::Range(port, port));
    }
    if let Some((first, last)) = text.split_once(':') {
        let range = is_digits(first) && is_digits(last);
        let range = range.then(|| number(first).zip(number(last))).flatten();
        return match range {
            Some((first, last)) if first <= last => Some(Port::Range(first, last)),
            Some(_) => {
                field.error_with_help("bad-port", format!("the range `{text}` ends before it starts"), "swap the ends");
                None
            }
            None => {
                let help = "write a range as `\"first:last\"` with ports from 1 to 65535";
                field.error_with_help("bad-port", format!("`{text}` is not a port range"), help);
                None
            }
        };
    }
    if is_port_name(text) {
        return Some(Port::Named(text.to_string()));
    }
    let help = if text.contains('-') && text.split('-').all(is_digits) {
        format!("write a range as `\"{}\"`", text.replace('-', ":"))
    } else if text.contains(',') {
        "write each port as an item of the list".to_string()
    } else {
        "use a number, a range such as `\"80:90\"`, or a port name of at most 15 lower case letters, digits and `-`"
            .into()
    };
    field.error_with_help("bad-port", format!("`{text}` is not a port"), help);
    None
}

/// An IANA service name, the only kind of port name that a container can have.
fn is_port_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=15).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::decode::Findings;
    use crate::base::diagnostic::Diagnostics;
    use crate::base::document;

    fn read<T>(text: &str, decode: impl Fn(&Field<'_, '_>) -> Option<T>) -> (Option<T>, Vec<String>) {
        let documents = document::parse(&"a.yaml".into(), &format!("[{text}]"), &mut Diagnostics::new());
        let findings = Findings::new();
        let items = Field::root(&documents[0].root, &findings).list().unwrap();
        let value = items.first().and_then(decode);
        (value, findings.into_diagnostics().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn ports_are_numbers_ranges_or_names_v_8() {
        let good = |text: &str, expected: Port| assert_eq!(read(text, port), (Some(expected), vec![]), "{text}");
        good("1", Port::Range(1, 1));
        good("\"65535\"", Port::Range(65535, 65535));
        good("30000:32767", Port::Range(30000, 32767));
        good("'22:22'", Port::Range(22, 22));
        good("http-8080", Port::Named("http-8080".into()));
        let bad = |text: &str, expected: &str| {
            let (value, errors) = read(text, port);
            assert!(value.is_none() && errors.len() == 1 && errors[0].contains(expected), "{text}: {errors:?}");
        };
        bad("0", "1 to 65535");
        bad("65536", "1 to 65535");
        bad("-1", "1 to 65535");
        bad("\"0:10\"", "not a port range");
        bad("\"20:10\"", "ends before it starts");
        bad("\"10:\"", "not a port range");
        bad("\"1:65536\"", "not a port range");
        bad("10-20", "`\"10:20\"`");
        bad("\"80,443\"", "each port as an item");
        bad("HTTP", "lower case");
        bad("a-name-longer-than-15", "at most 15");
        bad("1.5", "expected a port, range or port name, found a number");
    }

    #[test]
    fn protocols_are_exact_names_or_numbers_v_11() {
        let good = |text: &str, expected: u8| assert_eq!(read(text, protocol), (Some(expected), vec![]), "{text}");
        good("TCP", 6);
        good("UDPLite", 136);
        good("112", 112);
        good("\"112\"", 112);
        good("255", 255);
        let bad = |text: &str, expected: &str| {
            let (value, errors) = read(text, protocol);
            assert!(value.is_none() && errors.len() == 1 && errors[0].contains(expected), "{text}: {errors:?}");
        };
        bad("tcp", "did you mean `TCP`?");
        bad("0", "1 to 255");
        bad("256", "1 to 255");
        bad("\"256\"", "1 to 255");
        bad("\"0\"", "1 to 255");
        bad("IGMP", "not a protocol");
    }
}
