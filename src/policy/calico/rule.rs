//! One rule of a Calico policy in, [`Rule`] out (2.4, section 3).

use super::entity::{self, Entity, Place, Side};
use super::port;
use crate::base::address::Family;
use crate::base::decode::{Decoder, Field};
use crate::policy::ir::{Action, Icmp, Rule};
use crate::policy::metadata;

const ACTIONS: &[(&str, Action)] =
    &[("Allow", Action::Allow), ("Deny", Action::Deny), ("Log", Action::Log), ("Pass", Action::Pass)];

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// TCP, UDP and SCTP: the protocols whose ports can be matched (V-6).
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// Decodes `ingress` or `egress`.
pub(super) fn rules(field: &Field<'_, '_>, place: Place<'_>) -> Vec<Rule> {
    let items = field.list().unwrap_or_default();
    let limit = place.options.limits.rules;
    if items.len() > limit {
        let message = format!("{} rules, at most {limit} are allowed", items.len());
        field.error_with_help("too-many", message, "split the policy");
    }
    let numbered = (0u32..).zip(&items);
    numbered.filter_map(|(index, item)| rule(item, index, place)).collect()
}

fn rule<'n, 'f>(field: &Field<'n, 'f>, index: u32, place: Place<'_>) -> Option<Rule> {
    let mut map = field.map()?;
    let action = map.require("action").and_then(|f| f.word(ACTIONS));
    let version = map.take("ipVersion");
    let family = version.as_ref().and_then(ip_version);
    let protocol_field = map.take("protocol");
    let protocol = protocol_field.as_ref().and_then(port::protocol);
    let not_protocol_field = map.take("notProtocol");
    let not_protocol = not_protocol_field.as_ref().and_then(port::protocol);
    let icmp_field = map.take("icmp");
    let icmp = icmp_field.as_ref().and_then(icmp);
    let not_icmp_field = map.take("notICMP");
    let not_icmp = not_icmp_field.as_ref().and_then(self::icmp);
    let side = |map: &mut Decoder<'n, 'f>, key, side| {
        map.take(key).map(|f| entity::entity(&f, side, place)).unwrap_or_default()
    };
    let source = side(&mut map, "source", Side::Source);
    let destination = side(&mut map, "destination", Side::Destination);
    if let Some(http) = map.take("http") {
        let help = "a packet filter does not see requests; remove the rule or match by port";
        http.error_with_help("layer-7", "layer-7 matches are not supported", help);
    }
    if let Some(mut own) = map.take("metadata").and_then(|f| f.map()) {
        own.take("annotations").iter().for_each(metadata::annotations);
        own.finish();
    }
    map.finish();

    // A protocol that could not be read is reported already.
    let has_protocol = protocol_field.is_some();
    if let Some(icmp) = &icmp_field
        && !matches!(protocol, Some(ICMP | ICMPV6))
        && (protocol.is_some() || !has_protocol)
    {
        icmp.error_with_help("icmp-without-protocol", "needs protocol ICMP or ICMPv6", "add `protocol: ICMP`");
    }
    if let Some(not_icmp) = &not_icmp_field
        && not_icmp.node.as_map().is_some_and(|m| !m.is_empty())
        && !has_protocol
    {
        let message = "without a protocol, every packet that is not ICMP matches as well";
        not_icmp.warning("not-icmp-without-protocol", message);
    }
    for number in [protocol, not_protocol].into_iter().flatten() {
        check_family(number, family, version.as_ref());
    }
    check_ports([&source, &destination], protocol, has_protocol);
    check_one_family([&source, &destination], family);

    Some(Rule {
        action: action?,
        family,
        protocol,
        not_protocol,
        icmp,
        not_icmp,
        source: source.peer,
        destination: destination.peer,
        index,
        span: field.span().clone(),
    })
}

fn ip_version(field: &Field<'_, '_>) -> Option<Family> {
    match field.integer::<u8>(4..=6)? {
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        other => {
            field.error("out-of-range", format!("expected 4 or 6, found `{other}`"));
            None
        }
    }
}

/// Type 0 to 254 and code 0 to 255; a code needs a type (V-10). An empty map says nothing.
fn icmp(field: &Field<'_, '_>) -> Option<Icmp> {
    let mut map = field.map()?;
    let kind = map.take("type");
    let code = map.take("code");
    map.finish();
    if let (None, Some(code)) = (&kind, &code) {
        code.error_with_help("icmp-code-without-type", "a code needs a type", "add `type`");
    }
    let kind = kind.and_then(|f| f.integer(0..=254));
    let code_value = code.as_ref().and_then(|f| f.integer(0..=255));
    Some(Icmp { kind: kind?, code: code_value })
}

/// V-9.
fn check_family(protocol: u8, family: Option<Family>, version: Option<&Field<'_, '_>>) {
    let Some(version) = version else { return };
    match (protocol, family) {
        (ICMP, Some(Family::V6)) => version.error_with_help(
            "icmp-family",
            "protocol ICMP goes with ipVersion 4 only",
            "use protocol ICMPv6 for IPv6",
        ),
        (ICMPV6, Some(Family::V4)) => version.error_with_help(
            "icmp-family",
            "protocol ICMPv6 goes with ipVersion 6 only",
            "use protocol ICMP for IPv4",
        ),
        _ => {}
    }
}

/// V-5 to V-7.
fn check_ports(sides: [&Entity<'_, '_>; 2], protocol: Option<u8>, has_protocol: bool) {
    for side in sides {
        let Some(ports) = &side.port_field else { continue };
        match protocol {
            Some(number) if !WITH_PORTS.contains(&number) => ports.error_with_help(
                "ports-without-protocol",
                format!("protocol {number} has no ports that can be matched"),
                "ports need protocol TCP, UDP or SCTP",
            ),
            None if !has_protocol && side.has_numeric_port() => ports.error_with_help(
                "ports-without-protocol",
                "ports need a protocol",
                "add `protocol: TCP`, `UDP` or `SCTP` to the rule",
            ),
            _ => {}
        }
    }
}

/// V-23: prefixes of one family only, and of the family that the rule names.
fn check_one_family(sides: [&Entity<'_, '_>; 2], family: Option<Family>) {
    let mut wanted = family;
    for (found, field) in sides.iter().flat_map(|side| &side.families) {
        match wanted {
            None => wanted = Some(*found),
            Some(wanted) if wanted != *found => {
                let message = match family {
                    Some(_) => "this prefix is not of the rule's `ipVersion`",
                    None => "a rule cannot hold IPv4 and IPv6 prefixes",
                };
                field.error_with_help("mixed-families", message, "write one rule for each family");
                return;
            }
            Some(_) => {}
        }
    }
}
