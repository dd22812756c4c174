//! JSON of the VPC API in, entries of an [`Account`] out: single objects, lists of them, and the whole account (15.4, section 16, GW-13).
//!
//! ACLs, groups and their rules are read strictly. Subnets, instances and interfaces are inventory: of them only the fields that
//! are used are looked at.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::chain;
use super::object::{Account, Acl, Group, GroupRuleObject, Interface, Reference, RemoteObject, SubnetObject};
use super::value::{self, Detail, Effect, Ends};
use crate::base::address::Direction;
use crate::base::decode::{Decoder, Field};
use crate::base::diagnostic::Diagnostic;
use crate::base::document::{Kind, Node};
use crate::policy::ir::{AclRule, Icmp, Protocols};

/// Quota of rules per ACL.
const RULE_QUOTA: usize = 200;

/// Collections of an account that are read.
const COLLECTIONS: [&str; 6] =
    ["subnets", "network_acls", "security_groups", "instances", "virtual_network_interfaces", "endpoint_gateways"];

/// What an object is. The API writes no kind; its fields tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Account,
    Acl,
    Group,
    Subnet,
    Instance,
    VirtualInterface,
    EndpointGateway,
}

fn shape(node: &Node) -> Option<Shape> {
    let has = |key: &str| node.get(key).is_some();
    let is_list = |key: &str| node.get(key).is_some_and(|value| value.as_list().is_some());
    let resource_type = node.get("resource_type").and_then(Node::as_str);
    if has("rules") && has("targets") {
        Some(Shape::Group)
    } else if has("rules") && has("subnets") {
        Some(Shape::Acl)
    } else if has("ipv4_cidr_block") {
        Some(Shape::Subnet)
    } else if resource_type == Some("virtual_network_interface") {
        Some(Shape::VirtualInterface)
    } else if resource_type == Some("endpoint_gateway") {
        Some(Shape::EndpointGateway)
    } else if ["primary_network_interface", "network_interfaces", "network_attachments"].iter().any(|key| has(key)) {
        Some(Shape::Instance)
    } else if COLLECTIONS.iter().any(|key| is_list(key)) || is_list("vpcs") {
        Some(Shape::Account)
    } else {
        None
    }
}

/// Whether an object without `apiVersion` and `kind` is one of the VPC API.
pub fn is_vpc_object(node: &Node) -> bool {
    shape(node).is_some()
}

/// Reads an object for which [`is_vpc_object`] holds.
pub fn read(field: &Field<'_, '_>, account: &mut Account) {
    match shape(field.node) {
        Some(Shape::Account) => read_account(field, account),
        Some(Shape::Acl) => add_acl(field, account),
        Some(Shape::Group) => add_group(field, account),
        Some(Shape::Subnet) => add_subnet(field, account),
        Some(Shape::Instance) => instance(field, account),
        Some(Shape::VirtualInterface | Shape::EndpointGateway) => account.interfaces.extend(interface(field)),
        None => {}
    }
}

fn read_account(field: &Field<'_, '_>, account: &mut Account) {
    let Some(mut map) = field.map() else { return };
    let mut each = |key: &'static str, read: &mut dyn FnMut(&Field<'_, '_>)| {
        map.take(key).and_then(|f| f.list()).unwrap_or_default().iter().for_each(read);
    };
    each("network_acls", &mut |f| add_acl(f, account));
    each("security_groups", &mut |f| add_group(f, account));
    each("subnets", &mut |f| add_subnet(f, account));
    each("instances", &mut |f| instance(f, account));
    each("virtual_network_interfaces", &mut |f| account.interfaces.extend(interface(f)));
    each("endpoint_gateways", &mut |f| account.interfaces.extend(interface(f)));
    if let Some(next) = map.take("next") {
        next.warning("incomplete-list", "the list has more pages, which are not in this file");
    }
    // Paging, and who wrote the file.
    let known = ["first", "limit", "total_count", "collector_version", "provider", "vpcs"];
    for (key, value) in field.node.as_map().unwrap_or_default() {
        let is_known =
            COLLECTIONS.contains(&key.text.as_str()) || known.contains(&key.text.as_str()) || key.text == "next";
        let is_empty = value.is_null() || value.as_list().is_some_and(<[Node]>::is_empty);
        if !is_known && !is_empty {
            let message = format!("`{}` says nothing about policy and is ignored", key.text);
            let note = Diagnostic::note("ignored-collection", message);
            field.findings().push(note.at(&key.span));
        }
    }
}

fn add_acl(field: &Field<'_, '_>, account: &mut Account) {
    if let Some(acl) = acl(field)
        && is_new(field, "network ACL", &acl.own, &acl.vpc, account)
    {
        account.acls.push(acl);
    }
}

fn add_group(field: &Field<'_, '_>, account: &mut Account) {
    if let Some(group) = group(field)
        && is_new(field, "security group", &group.own, &group.vpc, account)
    {
        account.groups.push(group);
    }
}

fn add_subnet(field: &Field<'_, '_>, account: &mut Account) {
    if let Some(subnet) = subnet(field)
        && is_new(field, "subnet", &subnet.own, &subnet.vpc, account)
    {
        account.subnets.push(subnet);
    }
}

/// IN-8: the same object twice is an error, with the same content a warning; the second is left out either way.
fn is_new(field: &Field<'_, '_>, what: &'static str, own: &Reference, vpc: &Reference, account: &mut Account) -> bool {
    let identity = if own.id.is_empty() { format!("{}/{}", vpc.shown(), own.name) } else { own.id.clone() };
    let Some(first) = account.written.get(&(what, identity.clone())) else {
        account.written.insert((what, identity), field.node.clone());
        return true;
    };
    let shown = own.shown();
    let finding = if first.same_content(field.node) {
        Diagnostic::warning("duplicate-resource", format!("{what} `{shown}` is given twice with the same content"))
    } else {
        Diagnostic::error("duplicate-resource", format!("{what} `{shown}` is given twice with different content"))
    };
    let help = format!("it is also at {}; keep one of the two", first.span);
    field.findings().push(finding.at(field.span()).help(help));
    false
}

/// Sets the resource that findings are about until it is dropped.
fn named<T>(field: &Field<'_, '_>, what: &str, read: impl FnOnce() -> T) -> T {
    let text = |key| field.node.get(key).and_then(Node::as_str).filter(|text| !text.is_empty());
    let name = text("name").or_else(|| text("id")).unwrap_or("without name");
    field.findings().set_resource(Some(format!("{what} {name}")));
    let result = read();
    field.findings().set_resource(None);
    result
}

/// Takes `id` and `name`; one of them must be there.
fn own(map: &mut Decoder<'_, '_>) -> Option<Reference> {
    let own = maybe_own(map);
    if own == Reference::default() {
        map.error("missing-field", "`name` or `id` is required");
        return None;
    }
    Some(own)
}

fn maybe_own(map: &mut Decoder<'_, '_>) -> Reference {
    let mut text = |key| map.take(key).and_then(|f| f.string()).unwrap_or_default().to_string();
    Reference { id: text("id"), name: text("name") }
}

fn reference(field: &Field<'_, '_>) -> Option<Reference> {
    let mut map = field.map()?;
    own(&mut map)
}

fn references(map: &mut Decoder<'_, '_>, key: &'static str) -> Vec<Reference> {
    map.take(key).and_then(|f| f.list()).unwrap_or_default().iter().filter_map(reference).collect()
}

fn vpc(map: &mut Decoder<'_, '_>) -> Reference {
    map.take("vpc").and_then(|f| reference(&f)).unwrap_or_default()
}

fn acl(field: &Field<'_, '_>) -> Option<Acl> {
    named(field, "NetworkACL", || {
        let mut map = field.map()?;
        let own = own(&mut map);
        let vpc = vpc(&mut map);
        let subnets = references(&mut map, "subnets");
        let rules_field = map.require("rules");
        map.ignore(&["created_at", "crn", "href", "resource_group", "tags", "access_tags", "is_default"]);
        map.finish();
        let fields = rules_field.as_ref()?.list()?;
        let rules = acl_rules(&fields, chain::Next::Named);
        if rules.len() > RULE_QUOTA {
            let message = format!("has {} rules; the quota is {RULE_QUOTA}", rules.len());
            field.warning("acl-quota", message);
        }
        Some(Acl { own: own?, vpc, subnets, rules, span: field.span().clone() })
    })
}

/// Rules in evaluation order; with [`chain::Next::Ignored`] the order of the list (JSON-2).
pub(super) fn acl_rules(fields: &[Field<'_, '_>], next: chain::Next) -> Vec<AclRule> {
    let distinct = chain::without_repeats(fields);
    let order = chain::order(&distinct, next);
    let rules: Vec<AclRule> = order.into_iter().filter_map(|field| acl_rule(&field)).collect();
    let mut names = BTreeSet::new();
    for rule in &rules {
        if !rule.name.is_empty() && !names.insert(rule.name.as_str()) {
            let message = format!("two rules of the ACL are named `{}`", rule.name);
            let finding = Diagnostic::warning("duplicate-rule-name", message);
            if let Some(field) = fields.first() {
                field.findings().push(finding.at(&rule.span));
            }
        }
    }
    rules
}

fn acl_rule(field: &Field<'_, '_>) -> Option<AclRule> {
    let mut map = field.map()?;
    let own = maybe_own(&mut map);
    let effect = map.require("action").and_then(|f| f.word(&[("allow", Effect::Allow), ("deny", Effect::Deny)]));
    let common = Common::take(&mut map, effect);
    let source = map.require("source").and_then(|f| prefix(&f));
    let destination = map.require("destination").and_then(|f| prefix(&f));
    let detail = common.detail();
    let source_ports = ports(&mut map, ["source_port_min", "source_port_max"], detail, Ends::Optional);
    let ports_keys = ["destination_port_min", "destination_port_max"];
    let destination_ports = ports(&mut map, ports_keys, detail, Ends::Optional);
    map.ignore(&["before", "created_at", "href"]);
    if map.has("port_min") || map.has("port_max") {
        let help = "write `destination_port_min` and `destination_port_max`";
        field.error_with_help("unknown-field", "an ACL rule has no `port_min` and `port_max`", help);
        map.ignore(&["port_min", "port_max"]);
    }
    map.finish();
    Some(AclRule {
        id: own.id,
        name: own.name,
        allow: effect? == Effect::Allow,
        direction: common.direction?,
        protocols: common.protocols?.0,
        source: source?,
        destination: destination?,
        source_ports: source_ports?,
        destination_ports: destination_ports?,
        icmp: common.icmp?,
        index: 0,
        span: field.span().clone(),
    })
}

/// What rules of ACLs and groups have in common. `None` stands for a fault that was reported.
struct Common {
    direction: Option<Direction>,
    protocols: Option<(Protocols, Detail)>,
    icmp: Option<Option<Icmp>>,
}

impl Common {
    fn take(map: &mut Decoder<'_, '_>, effect: Option<Effect>) -> Common {
        let words = [("inbound", Direction::Inbound), ("outbound", Direction::Outbound)];
        let direction = map.require("direction").and_then(|f| f.word(&words));
        if let Some(version) = map.take("ip_version") {
            version.word(&[("ipv4", ())]);
        }
        let protocols = map.require("protocol").and_then(|f| {
            let word = f.string()?;
            let found = value::protocols(word, effect.unwrap_or(Effect::Allow));
            found.map_err(|fault| f.error("bad-protocol", fault)).ok()
        });
        let detail = protocols.as_ref().map(|(_, detail)| *detail);
        let icmp = icmp(map, detail);
        Common { direction, protocols, icmp }
    }

    fn detail(&self) -> Option<Detail> {
        self.protocols.as_ref().map(|(_, detail)| *detail)
    }
}

fn icmp(map: &mut Decoder<'_, '_>, detail: Option<Detail>) -> Option<Option<Icmp>> {
    let kind = map.take("type");
    let code = map.take("code");
    let any = kind.as_ref().or(code.as_ref());
    if let Some(field) = any.filter(|_| detail.is_some_and(|detail| detail != Detail::Icmp)) {
        field.error("icmp-without-protocol", "needs the protocol `icmp`");
        return None;
    }
    let Some(kind) = kind else {
        return match code {
            Some(code) => {
                code.error("icmp-code-without-type", "needs `type` beside it");
                None
            }
            None => Some(None),
        };
    };
    let code = match code {
        Some(code) => Some(code.integer::<u8>(0..=255)?),
        None => None,
    };
    Some(Some(Icmp { kind: kind.integer::<u8>(0..=254)?, code }))
}

fn ports(
    map: &mut Decoder<'_, '_>,
    keys: [&'static str; 2],
    detail: Option<Detail>,
    ends: Ends,
) -> Option<Option<(u16, u16)>> {
    let fields = keys.map(|key| map.take(key));
    let Some(first_field) = fields.iter().flatten().next().cloned() else { return Some(None) };
    if detail.is_some_and(|detail| detail != Detail::Ports) {
        first_field.error("ports-without-protocol", "ports need the protocol `tcp` or `udp`");
        return None;
    }
    let mut numbers = [None, None];
    for (number, field) in numbers.iter_mut().zip(fields.iter()) {
        if let Some(field) = field {
            *number = Some(field.integer::<u16>(1..=65535)?);
        }
    }
    value::port_range(numbers[0], numbers[1], ends).map_err(|fault| first_field.error("bad-port", fault)).ok()
}

fn prefix(field: &Field<'_, '_>) -> Option<ipnet::IpNet> {
    let text = field.string()?;
    match value::prefix(text) {
        Ok((net, is_masked)) => {
            if is_masked {
                field.warning("host-bits", format!("`{text}` has bits set beyond its length: taken as `{net}`"));
            }
            Some(net)
        }
        Err(fault) => {
            field.error("bad-cidr", fault);
            None
        }
    }
}

fn group(field: &Field<'_, '_>) -> Option<Group> {
    named(field, "SecurityGroup", || {
        let mut map = field.map()?;
        let own = own(&mut map);
        let vpc = vpc(&mut map);
        let mut targets = references(&mut map, "targets");
        // Older answers list the interfaces apart.
        targets.extend(references(&mut map, "network_interfaces"));
        let rules = map.require("rules");
        map.ignore(&["created_at", "crn", "href", "resource_group", "tags", "access_tags", "is_default"]);
        map.finish();
        let rules = rules?.list()?.iter().filter_map(group_rule).collect();
        Some(Group { own: own?, vpc, targets, rules, span: field.span().clone() })
    })
}

fn group_rule(field: &Field<'_, '_>) -> Option<GroupRuleObject> {
    let mut map = field.map()?;
    let own = maybe_own(&mut map);
    let common = Common::take(&mut map, Some(Effect::Allow));
    let ports = ports(&mut map, ["port_min", "port_max"], common.detail(), Ends::Both);
    let remote = map.take("remote").map_or(Some(RemoteObject::Any), |f| remote(&f));
    let local = map.take("local").map_or(Some(RemoteObject::Any), |f| self::remote(&f));
    map.ignore(&["created_at", "href"]);
    map.finish();
    let local = match local? {
        RemoteObject::Any => None,
        RemoteObject::Net(net) => Some(net),
        RemoteObject::Group(_) => {
            field.error("bad-local", "`local` must be an address or a prefix");
            return None;
        }
    };
    Some(GroupRuleObject {
        own,
        direction: common.direction?,
        protocols: common.protocols?.0,
        remote: remote?,
        local,
        ports: ports?,
        icmp: common.icmp?,
        span: field.span().clone(),
    })
}

/// SG-6: an address, a prefix, a group, or nothing, which is any address.
fn remote(field: &Field<'_, '_>) -> Option<RemoteObject> {
    let mut map = field.map()?;
    let address = map.take("address");
    let block = map.take("cidr_block");
    let group = maybe_own(&mut map);
    map.ignore(&["crn", "href"]);
    map.finish();
    let is_group = group != Reference::default();
    match (address.or(block), is_group) {
        (Some(net), false) => prefix(&net).map(RemoteObject::Net),
        (None, true) => Some(RemoteObject::Group(group)),
        (None, false) if field.node.as_map().is_some_and(|entries| entries.iter().all(|(_, v)| v.is_null())) => {
            Some(RemoteObject::Any)
        }
        (None, false) => {
            let help = "write `address`, `cidr_block` or the `id` of a group; `{}` means any address";
            field.error_with_help("empty-remote", "names no address and no group", help);
            None
        }
        (Some(net), true) => {
            net.error("remote-conflict", "names both an address and a group");
            None
        }
    }
}

fn subnet(field: &Field<'_, '_>) -> Option<SubnetObject> {
    named(field, "Subnet", || {
        let mut map = field.map()?;
        let own = own(&mut map);
        let vpc = vpc(&mut map);
        let cidr = map.require("ipv4_cidr_block").and_then(|f| prefix(&f));
        let acl = map.take("network_acl").and_then(|f| reference(&f));
        Some(SubnetObject { own: own?, vpc, cidr: cidr?, acl, span: field.span().clone() })
    })
}

/// All interfaces of an instance. An interface may be there twice, as the primary one and in the list.
fn instance(field: &Field<'_, '_>, account: &mut Account) {
    named(field, "Instance", || {
        let Some(mut map) = field.map() else { return };
        let primary = map.take("primary_network_interface");
        let more = map.take("network_interfaces").and_then(|f| f.list()).unwrap_or_default();
        account.interfaces.extend(primary.iter().chain(&more).filter_map(interface));
        let primary = map.take("primary_network_attachment");
        let more = map.take("network_attachments").and_then(|f| f.list()).unwrap_or_default();
        for attachment in primary.iter().chain(&more) {
            let Some(mut map) = attachment.map() else { continue };
            let address = map.take("primary_ip").and_then(|f| address_in(&f));
            // Groups name the virtual interface, not the attachment.
            let virtual_interface = map.take("virtual_network_interface").and_then(|f| reference(&f));
            account.interfaces.push(Interface {
                own: virtual_interface.unwrap_or_default(),
                addresses: address.into_iter().collect(),
                groups: Vec::new(),
            });
        }
    });
}

/// An interface of an instance, a virtual one or an endpoint gateway.
fn interface(field: &Field<'_, '_>) -> Option<Interface> {
    let mut map = field.map()?;
    let own = maybe_own(&mut map);
    let mut addresses: Vec<IpAddr> = Vec::new();
    addresses.extend(map.take("primary_ip").and_then(|f| address_in(&f)));
    // Older answers have the address as a text.
    addresses.extend(map.take("primary_ipv4_address").and_then(|f| address(&f)));
    for ip in map.take("ips").and_then(|f| f.list()).unwrap_or_default() {
        addresses.extend(address_in(&ip));
    }
    let groups = references(&mut map, "security_groups");
    Some(Interface { own, addresses, groups })
}

fn address_in(field: &Field<'_, '_>) -> Option<IpAddr> {
    match field.node.kind {
        Kind::Map(_) => field.map()?.take("address").and_then(|f| address(&f)),
        _ => address(field),
    }
}

fn address(field: &Field<'_, '_>) -> Option<IpAddr> {
    let text = field.string()?;
    let parsed: Option<IpAddr> = text.parse().ok();
    if parsed.is_none() {
        field.error("bad-address", format!("`{text}` is not an IP address"));
    }
    // A reserved address that is not assigned yet reads 0.0.0.0.
    parsed.filter(|address| !address.is_unspecified())
}
