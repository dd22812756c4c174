//! Rules in the syntax of calicoctl 1.x in, [`Rule`]s out (section 19).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::base::address::Family;
use crate::base::decode::{Decoder, Field};
use crate::base::document::Kind;
use crate::policy::identity::NAMESPACE;
use crate::policy::ir::{Action, Icmp, Peer, Port, Rule};
use crate::policy::selector::Selector;

/// Longest selector, in characters (V-12).
const MAX_SELECTOR: usize = 1024;

/// Protocols by name; lower case only.
pub(super) const PROTOCOLS: [(&str, u8); 6] =
    [("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58), ("sctp", 132), ("udplite", 136)];

/// Reads a list of rules; faulty ones are reported and left out.
pub(super) fn rules(field: Option<Field<'_, '_>>) -> Vec<Rule> {
    let fields = field.and_then(|f| f.list()).unwrap_or_default();
    (0u32..).zip(&fields).filter_map(|(index, field)| rule(field, index)).collect()
}

fn rule(field: &Field<'_, '_>, index: u32) -> Option<Rule> {
    let mut map = field.map()?;
    let actions = [("allow", Action::Allow), ("deny", Action::Deny), ("log", Action::Log), ("pass", Action::Pass)];
    let action = map.require("action").and_then(|f| f.word(&actions));
    let version = map.take("ipVersion");
    let family = version.as_ref().and_then(ip_version);
    let protocol = map.take("protocol").and_then(|f| protocol(&f));
    let not_protocol = map.take("notProtocol").and_then(|f| self::protocol(&f));
    let icmp = map.take("icmp").and_then(|f| icmp(&f, protocol));
    let not_icmp = map.take("notICMP").and_then(|f| self::icmp(&f, protocol));
    for named in [protocol, not_protocol].into_iter().flatten() {
        let is_wrong = matches!((named, family), (1, Some(Family::V6)) | (58, Some(Family::V4)));
        if let Some(version) = version.as_ref().filter(|_| is_wrong) {
            version.error("protocol-family", "the protocol belongs to the other IP version");
        }
    }
    let source = map.take("source").map(|f| peer(&f, protocol)).unwrap_or_default();
    let destination = map.take("destination").map(|f| peer(&f, protocol)).unwrap_or_default();
    check_families(&map, &source, &destination, family);
    map.finish();
    Some(Rule {
        action: action?,
        family,
        protocol,
        not_protocol,
        icmp,
        not_icmp,
        source,
        destination,
        index,
        span: field.span().clone(),
    })
}

fn ip_version(field: &Field<'_, '_>) -> Option<Family> {
    match field.integer::<u8>(0..=255)? {
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        other => {
            field.error("out-of-range", format!("expected 4 or 6, found `{other}`"));
            None
        }
    }
}

fn protocol(field: &Field<'_, '_>) -> Option<u8> {
    match &field.node.kind {
        Kind::String(text) => match text.parse::<u8>() {
            Ok(number) if number > 0 => Some(number),
            Ok(_) => {
                field.error("out-of-range", "expected 1 to 255, found `0`");
                None
            }
            Err(_) => field.word(&PROTOCOLS),
        },
        _ => field.integer::<u8>(1..=255),
    }
}

/// V-9 and V-10. An empty map asks for nothing.
fn icmp(field: &Field<'_, '_>, protocol: Option<u8>) -> Option<Icmp> {
    let mut map = field.map()?;
    let kind = map.take("type");
    let code = map.take("code");
    map.finish();
    if !matches!(protocol, Some(1 | 58)) {
        field.error("icmp-without-protocol", "needs `protocol: icmp` or `protocol: icmpv6` in the same rule");
    }
    if let Some(code) = code.as_ref().filter(|_| kind.is_none()) {
        code.error("icmp-code-without-type", "needs `type` beside it");
    }
    let code = code.and_then(|f| f.integer::<u8>(0..=255));
    let kind = kind?.integer::<u8>(0..=254)?;
    Some(Icmp { kind, code })
}

fn peer(field: &Field<'_, '_>, protocol: Option<u8>) -> Peer {
    let Some(mut map) = field.map() else { return Peer::default() };
    let single = ["net", "notNet"].into_iter().find(|key| map.has(key));
    let many = ["nets", "notNets"].into_iter().find(|key| map.has(key));
    if let (Some(single), Some(many)) = (single, many) {
        field.error("net-and-nets", format!("`{single}` and `{many}` cannot stand together: use `{many}` alone"));
    }
    let nets = nets(&mut map, "net", "nets");
    let not_nets = self::nets(&mut map, "notNet", "notNets");
    // What is required holds all together; what is forbidden is forbidden each by itself.
    let required: Vec<Selector> = selectors(&mut map, "selector", "tag");
    let forbidden: Vec<Selector> = selectors(&mut map, "notSelector", "notTag");
    let forbidden = (!forbidden.is_empty()).then(|| Selector::or(forbidden));
    let (selector, not_selector) = match (required.is_empty(), forbidden) {
        (true, forbidden) => (None, forbidden),
        // ID-6: both together are one set.
        (false, forbidden) => (Some(Selector::and(required.into_iter().chain(forbidden.map(Selector::not)))), None),
    };
    let peer = Peer {
        nets,
        not_nets,
        selector,
        not_selector,
        ports: ports(&mut map, "ports", protocol),
        not_ports: ports(&mut map, "notPorts", protocol),
        service: None,
    };
    map.finish();
    peer
}

fn selectors(map: &mut Decoder<'_, '_>, selector_key: &'static str, tag_key: &'static str) -> Vec<Selector> {
    let selector = map.take(selector_key).and_then(|f| selector(&f)).map(|(selector, _)| selector);
    let tag = map.take(tag_key).and_then(|f| tag(&f)).map(|tag| Selector::equals(tag, ""));
    selector.into_iter().chain(tag).collect()
}

/// A tag; on endpoints it is a label without a value.
pub(super) fn tag(field: &Field<'_, '_>) -> Option<String> {
    let text = field.nonempty_string()?;
    if text.len() > 128 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/')) {
        field.error("bad-tag", format!("`{text}` is not a tag: expected letters, digits, `_`, `.`, `-`"));
        return None;
    }
    Some(text.to_string())
}

/// A selector with the namespace label of today, and its text (V1-1); `None` for an empty one, which asks for nothing.
pub(super) fn selector(field: &Field<'_, '_>) -> Option<(Selector, String)> {
    let written = field.string()?;
    if written.trim().is_empty() {
        return None;
    }
    if written.chars().count() > MAX_SELECTOR {
        field.error("bad-selector", format!("is longer than {MAX_SELECTOR} characters"));
        return None;
    }
    let text = written.replace("calico/k8s_ns", NAMESPACE);
    match Selector::parse(&text) {
        Ok(selector) if selector.is_of_v1() => Some((selector, text)),
        Ok(_) => {
            let message = "`contains`, `starts with`, `ends with` and `global()` do not exist in this syntax";
            field.error_with_help("bad-selector", message, "write the policy with apiVersion `projectcalico.org/v3`");
            None
        }
        Err(fault) => {
            field.error("bad-selector", fault);
            None
        }
    }
}

fn nets(map: &mut Decoder<'_, '_>, single: &'static str, many: &'static str) -> Vec<IpNet> {
    let one = map.take(single);
    let list = map.take(many).and_then(|f| f.list()).unwrap_or_default();
    let is_negated = single == "notNet";
    one.iter().chain(&list).filter_map(|field| net(field, is_negated)).collect()
}

/// A prefix with its host bits cleared, or one address.
fn net(field: &Field<'_, '_>, is_negated: bool) -> Option<IpNet> {
    let text = field.string()?;
    let parsed = text.parse::<IpNet>().map(|net| net.trunc()).or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(net) = parsed else {
        field.error("bad-cidr", format!("`{text}` is not an address prefix: expected `address/length`"));
        return None;
    };
    if is_negated && net.prefix_len() == 0 {
        field.error("contradiction", format!("`{text}` is every address: the rule would match nothing"));
        return None;
    }
    Some(net)
}

/// V-23.
fn check_families(map: &Decoder<'_, '_>, source: &Peer, destination: &Peer, family: Option<Family>) {
    let lists = [&source.nets, &source.not_nets, &destination.nets, &destination.not_nets];
    let mut families = lists.into_iter().flatten().map(|net| Family::of(net.addr()));
    let Some(first) = families.next() else { return };
    if families.any(|other| other != first) {
        map.error("mixed-families", format!("`{}`: a rule cannot have both IPv4 and IPv6 prefixes", map.path()));
    } else if family.is_some_and(|family| family != first) {
        map.error("mixed-families", format!("`{}`: the prefixes are not of the rule's `ipVersion`", map.path()));
    }
}

fn ports(map: &mut Decoder<'_, '_>, key: &'static str, protocol: Option<u8>) -> Vec<Port> {
    let Some(field) = map.take(key) else { return Vec::new() };
    let fields = field.list().unwrap_or_default();
    if !fields.is_empty() && !matches!(protocol, Some(6 | 17)) {
        field.error("ports-without-protocol", "needs `protocol: tcp` or `protocol: udp` in the same rule");
    }
    fields.iter().filter_map(port).collect()
}

fn port(field: &Field<'_, '_>) -> Option<Port> {
    let Kind::String(text) = &field.node.kind else {
        return field.integer::<u16>(1..=65535).map(|port| Port::Range(port, port));
    };
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first > 0 && first <= last => Some(Port::Range(first, last)),
        (Ok(_), Ok(_)) => {
            field.error("bad-port", format!("`{text}` is not a port range: expected `first:last`, from 1 to 65535"));
            None
        }
        _ => {
            let message = format!("`{text}` is not a port: expected a number or `first:last`");
            field.error_with_help("bad-port", message, "port names need apiVersion `projectcalico.org/v3`");
            None
        }
    }
}
