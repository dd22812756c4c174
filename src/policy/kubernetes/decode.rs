//! A `networking.k8s.io/v1` NetworkPolicy document in, a checked [`NetworkPolicy`] out, or every fault of it (12.1, 12.2).

use ipnet::IpNet;

use super::label_selector::{EqualLabel, LabelSelector, Operator, Requirement};
use super::object::{NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule, PortMatch, Protocol};
use crate::base::decode::{Decoder, Field};
use crate::base::diagnostic::{Diagnostic, Span};
use crate::base::document::{Kind, odd_text_help};
use crate::policy::ir::PolicyDirection;
use crate::policy::label_lint::{LabelOwner, LabelUse};
use crate::policy::metadata::{Metadata, is_label_name, is_label_value, is_qualified_name, is_subdomain};

/// What a document gave.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// The policy, if nothing is wrong with it.
    pub policy: Option<NetworkPolicy>,
    /// Label keys that its selectors ask for, also when the policy was refused.
    pub label_uses: Vec<LabelUse>,
}

/// Decodes a NetworkPolicy whose `apiVersion` and `kind` are taken. Faults go to the findings of `root`.
pub fn decode(root: Decoder<'_, '_>, span: &Span) -> Decoded {
    let findings = root.findings();
    let errors_before = findings.errors();
    let mut reader = Reader::default();
    let policy = reader.policy(root, span);
    Decoded { policy: policy.filter(|_| findings.errors() == errors_before), label_uses: reader.label_uses }
}

#[derive(Default)]
struct Reader {
    label_uses: Vec<LabelUse>,
    resource: String,
}

impl Reader {
    fn policy(&mut self, mut root: Decoder<'_, '_>, span: &Span) -> Option<NetworkPolicy> {
        let metadata = Metadata::decode(&mut root, true);
        let spec = root.require("spec").and_then(|field| field.map());
        if let Some(found) = metadata.as_ref().filter(|found| !is_subdomain(&found.name)) {
            let message =
                format!("`{}` is no policy name: expected lower-case letters, digits, `-` and `.`", found.name);
            let finding = Diagnostic::error("bad-name", message).at(&found.name_span);
            root.findings().push(match odd_text_help(&found.name) {
                Some(help) => finding.help(help),
                None => finding,
            });
        }
        root.finish();
        let (name, namespace) = match metadata {
            Some(found) => (found.name, found.namespace.unwrap_or_else(|| "default".to_string())),
            None => (String::new(), "default".to_string()),
        };
        self.resource = format!("NetworkPolicy {namespace}/{name}");
        let mut spec = spec?;
        let pods = spec.take("podSelector").map(|f| self.selector(&f, LabelOwner::Pod)).unwrap_or_default();
        let ingress = self.rules(&mut spec, "ingress", PolicyDirection::Ingress);
        let egress = self.rules(&mut spec, "egress", PolicyDirection::Egress);
        let types = spec.take("policyTypes").map(|f| policy_types(&f)).unwrap_or_default();
        spec.finish();
        // Without types the API server fills in Ingress, and Egress if there is an egress rule.
        let (governs_ingress, governs_egress) = match types.as_slice() {
            [] => (true, !egress.is_empty()),
            some => (some.contains(&PolicyDirection::Ingress), some.contains(&PolicyDirection::Egress)),
        };
        Some(NetworkPolicy {
            name,
            namespace,
            pods,
            ingress: governs_ingress.then_some(ingress),
            egress: governs_egress.then_some(egress),
            span: span.clone(),
        })
    }

    fn rules(&mut self, spec: &mut Decoder<'_, '_>, key: &'static str, direction: PolicyDirection) -> Vec<PolicyRule> {
        let peers_key = match direction {
            PolicyDirection::Ingress => "from",
            PolicyDirection::Egress => "to",
        };
        let fields = spec.take(key).and_then(|field| field.list()).unwrap_or_default();
        fields.iter().filter_map(|field| self.rule(field, peers_key)).collect()
    }

    fn rule(&mut self, field: &Field<'_, '_>, peers_key: &'static str) -> Option<PolicyRule> {
        let mut map = field.map()?;
        let peers = map.take(peers_key).and_then(|f| f.list()).unwrap_or_default();
        let peers = peers.iter().filter_map(|peer| self.peer(peer)).collect();
        let ports = map.take("ports").and_then(|f| f.list()).unwrap_or_default();
        let ports = ports.iter().filter_map(port).collect();
        map.finish();
        Some(PolicyRule { peers, ports, span: field.span().clone() })
    }

    fn peer(&mut self, field: &Field<'_, '_>) -> Option<PolicyPeer> {
        let mut map = field.map()?;
        let block = map.take("ipBlock");
        let pods = map.take("podSelector").map(|f| self.selector(&f, LabelOwner::Pod));
        let namespaces = map.take("namespaceSelector").map(|f| self.selector(&f, LabelOwner::Namespace));
        if let Some(ports) = map.take("ports") {
            let found = ports.node.describe();
            let message = format!("expected as a list of the rule, beside `from` or `to`; found {found} inside a peer");
            let help = "move it one level up and start each item with `- `";
            ports.error_with_help("misplaced-ports", message, help);
        }
        map.finish();
        match (block, pods, namespaces) {
            (Some(block), None, None) => ip_block(&block),
            (Some(block), ..) => {
                let help = "make them two items of the list: either of them then matches";
                block.error_with_help("peer-conflict", "`ipBlock` cannot stand beside a selector", help);
                None
            }
            (None, None, None) => {
                // A field of another name is an error already, unless it is forgiven. Leaving the peer out would not be: a list
                // without peers means any address.
                let is_empty = field.node.as_map().is_some_and(|entries| entries.iter().all(|(_, v)| v.is_null()));
                if is_empty || field.findings().is_lenient() {
                    let help = "for all pods of the namespace write `podSelector: {}`";
                    field.error_with_help("empty-peer", "must specify a peer", help);
                }
                None
            }
            (None, pods, namespaces) => Some(PolicyPeer::Pods { pods, namespaces }),
        }
    }

    fn selector(&mut self, field: &Field<'_, '_>, owner: LabelOwner) -> LabelSelector {
        let mut found = LabelSelector::default();
        let Some(mut map) = field.map() else { return found };
        for (key, value) in map.take("matchLabels").and_then(|f| f.entries()).unwrap_or_default() {
            let is_key = check_key(&value, &key.text);
            let Some(text) = value.string().filter(|text| check_value(&value, text)) else { continue };
            if is_key {
                let span = key.span.clone();
                found.equal.push(EqualLabel { key: key.text.clone(), value: text.to_string(), span });
            }
        }
        found.equal.sort_by(|a, b| a.key.cmp(&b.key));
        let requirements = map.take("matchExpressions").and_then(|f| f.list()).unwrap_or_default();
        found.requirements = requirements.iter().filter_map(requirement).collect();
        map.finish();
        self.note_uses(&found, owner);
        found
    }

    fn note_uses(&mut self, selector: &LabelSelector, owner: LabelOwner) {
        let positive =
            selector.requirements.iter().filter(|r| matches!(r.operator, Operator::In(_) | Operator::Exists));
        let all = (selector.equal.iter().map(|l| (&l.key, &l.span))).chain(positive.map(|r| (&r.key, &r.span)));
        let resource = &self.resource;
        let new = |(key, span): (&String, &Span)| LabelUse {
            owner,
            key: key.clone(),
            span: span.clone(),
            resource: resource.clone(),
        };
        self.label_uses.extend(all.map(new));
    }
}

fn policy_types(field: &Field<'_, '_>) -> Vec<PolicyDirection> {
    let items = field.list().unwrap_or_default();
    if items.len() > 2 {
        field.error("too-many-types", format!("expected at most 2 entries, found {}", items.len()));
    }
    let words = [("Ingress", PolicyDirection::Ingress), ("Egress", PolicyDirection::Egress)];
    items.iter().filter_map(|item| item.word(&words)).collect()
}

fn requirement(field: &Field<'_, '_>) -> Option<Requirement> {
    let mut map = field.map()?;
    let key = map.require("key");
    let operator = map.require("operator");
    let values_field = map.take("values");
    map.finish();
    let key_text = key.as_ref().and_then(|k| k.string().filter(|text| check_key(k, text)));
    let mut values = Vec::new();
    for item in values_field.as_ref().and_then(Field::list).unwrap_or_default() {
        if let Some(text) = item.string().filter(|text| check_value(&item, text)) {
            values.push(text.to_string());
        }
    }
    let operator_field = operator?;
    let words = [("In", 0), ("NotIn", 1), ("Exists", 2), ("DoesNotExist", 3)];
    let word = operator_field.word(&words)?;
    let has_values = values_field.as_ref().and_then(|f| f.node.as_list()).is_some_and(|list| !list.is_empty());
    if word < 2 && !has_values && values_field.as_ref().is_none_or(|f| f.node.as_list().is_some()) {
        operator_field.error("bad-requirement", "`In` and `NotIn` need at least one entry in `values`");
    }
    if word >= 2 && has_values {
        operator_field.error("bad-requirement", "`Exists` and `DoesNotExist` take no `values`");
    }
    let operator = match word {
        0 => Operator::In(values),
        1 => Operator::NotIn(values),
        2 => Operator::Exists,
        _ => Operator::DoesNotExist,
    };
    let key = key?;
    Some(Requirement { key: key_text?.to_string(), operator, span: key.span().clone() })
}

fn check_key(field: &Field<'_, '_>, key: &str) -> bool {
    let is_good = is_qualified_name(key);
    if !is_good {
        let help = "up to 63 letters, digits, `-`, `_`, `.`, optionally after a `domain/` prefix";
        field.error_with_help("bad-label", format!("`{key}` is not a label name"), help);
    }
    is_good
}

fn check_value(field: &Field<'_, '_>, value: &str) -> bool {
    let is_good = is_label_value(value);
    if !is_good {
        let help = "up to 63 letters, digits, `-`, `_`, `.`, starting and ending with a letter or digit";
        field.error_with_help("bad-label", format!("`{value}` is not a label value"), help);
    }
    is_good
}

fn port(field: &Field<'_, '_>) -> Option<PolicyPort> {
    let mut map = field.map()?;
    let words = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|p| (p.name(), p));
    let protocol = match map.take("protocol") {
        Some(protocol) => protocol.word(&words),
        None => Some(Protocol::Tcp),
    };
    let port = map.take("port");
    let end_field = map.take("endPort");
    map.finish();
    let end = end_field.as_ref().and_then(|end| end.integer::<u16>(1..=65535));
    let port = match &port {
        None => {
            if let Some(end) = &end_field {
                end.error("bad-end-port", "`endPort` needs a numeric `port` beside it");
            }
            PortMatch::All
        }
        Some(port) => match &port.node.kind {
            Kind::String(name) => {
                let name = port_name(port, name);
                if let Some(end) = &end_field {
                    end.error("bad-end-port", "`endPort` cannot stand beside a port name");
                }
                PortMatch::Named(name?)
            }
            _ => {
                let first = port.integer::<u16>(1..=65535)?;
                let last = end.unwrap_or(first);
                if let Some(end) = end_field.as_ref().filter(|_| last < first) {
                    end.error("bad-end-port", format!("must not be less than `port`, which is {first}"));
                    return None;
                }
                PortMatch::Range(first, last)
            }
        },
    };
    Some(PolicyPort { protocol: protocol?, port })
}

fn port_name(field: &Field<'_, '_>, name: &str) -> Option<String> {
    if is_port_name(name) {
        return Some(name.to_string());
    }
    let message =
        format!("`{name}` is no port: expected a number, or a name of up to 15 of `a-z`, `0-9`, `-` with a letter");
    let is_range =
        name.split_once(['-', ':']).is_some_and(|(a, b)| a.parse::<u16>().is_ok() && b.parse::<u16>().is_ok());
    if name.parse::<u16>().is_ok() {
        field.error_with_help("bad-port", message, "remove the quotes");
    } else if is_range {
        field.error_with_help("bad-port", message, "give the first port as `port` and the last one as `endPort`");
    } else {
        field.error("bad-port", message);
    }
    None
}

/// A port name: up to 15 lower-case letters, digits and single inner `-`, with at least one letter.
fn is_port_name(text: &str) -> bool {
    is_label_name(text) && text.len() <= 15 && !text.contains("--") && text.bytes().any(|b| b.is_ascii_lowercase())
}

fn ip_block(field: &Field<'_, '_>) -> Option<PolicyPeer> {
    let mut map = field.map()?;
    let cidr = map.require("cidr").and_then(|cidr| prefix(&cidr));
    let except = map.take("except").and_then(|except| except.list()).unwrap_or_default();
    let except: Vec<(Field<'_, '_>, IpNet)> =
        except.into_iter().filter_map(|entry| prefix(&entry).map(|net| (entry, net))).collect();
    map.finish();
    let net = cidr?;
    for (entry, inner) in &except {
        let is_inside = net.contains(inner) && inner.prefix_len() > net.prefix_len();
        if !is_inside {
            entry.error("bad-except", format!("`{inner}` must be a strict subset of `{net}`"));
        }
    }
    Some(PolicyPeer::Block { net, except: except.into_iter().map(|(_, inner)| inner).collect() })
}

/// A prefix with its host bits cleared; set host bits are a warning.
fn prefix(field: &Field<'_, '_>) -> Option<IpNet> {
    let text = field.string()?;
    let Ok(net) = text.parse::<IpNet>() else {
        let message = format!("`{text}` is no address prefix: expected `address/length`");
        match text.parse::<std::net::IpAddr>() {
            Ok(address) => {
                let length = if address.is_ipv4() { 32 } else { 128 };
                field.error_with_help("bad-cidr", message, format!("for this one address write `{address}/{length}`"));
            }
            Err(_) => field.error("bad-cidr", message),
        }
        return None;
    };
    let masked = net.trunc();
    if masked != net {
        field.warning("host-bits", format!("`{text}` has bits set beyond its length: taken as `{masked}`"));
    }
    Some(masked)
}
