//! A checked NetworkPolicy comes in, the Calico policy that upstream makes of it goes out (12.3), and from that the rules we evaluate.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::label_selector::{namespace_selector, pod_selector, scoped_selector};
use super::object::{NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule, PortMatch, Protocol};
use crate::base::diagnostic::{Diagnostic, Span};
use crate::policy::identity::NAMESPACE;
use crate::policy::ir::{Action, Hook, Kind, Peer, PolicyDirection, Port, Rule, RuleSet};
use crate::policy::selector::Selector;

/// Order of every converted policy in tier `default` (ORD-3).
pub const ORDER: f64 = 1000.0;

/// What precedes the name of a converted policy (CNV-1).
pub const NAME_PREFIX: &str = "knp.default.";

/// The Calico policy that stands for a Kubernetes one.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertedPolicy {
    /// Name without [`NAME_PREFIX`].
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Policy selector as it is printed, without the namespace restriction (CNV-2).
    pub selector: String,
    /// Ingress rules if `types` has Ingress.
    pub ingress: Option<Vec<ConvertedRule>>,
    /// Egress rules if `types` has Egress.
    pub egress: Option<Vec<ConvertedRule>>,
    /// Where the Kubernetes policy starts.
    pub span: Span,
}

/// One Allow rule.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertedRule {
    /// `None` = any protocol.
    pub protocol: Option<Protocol>,
    /// Destination ports; empty = all.
    pub ports: Vec<Port>,
    /// The other end: source of an ingress rule, destination of an egress rule.
    pub peer: ConvertedPeer,
    /// Position in the user's list.
    pub index: u32,
    /// Where the user's rule starts.
    pub span: Span,
}

/// The other end of a converted rule.
#[derive(Clone, Debug, PartialEq)]
pub enum ConvertedPeer {
    /// Any address.
    Any,
    /// Addresses.
    Block {
        /// In this prefix,
        net: IpNet,
        /// and in none of these.
        except: Vec<IpNet>,
    },
    /// Pods.
    Pods {
        /// `selector` as it is printed (CNV-3).
        selector: String,
        /// `namespaceSelector` as it is printed.
        namespace_selector: Option<String>,
        /// Both in one, for evaluation on one set of labels (ID-3, ID-4).
        scoped: String,
    },
}

/// Converts a policy (CNV-1 to CNV-5).
pub fn convert(policy: &NetworkPolicy) -> ConvertedPolicy {
    let rules = |list: &Option<Vec<PolicyRule>>| list.as_ref().map(|rules| convert_rules(rules, &policy.namespace));
    ConvertedPolicy {
        name: policy.name.clone(),
        namespace: policy.namespace.clone(),
        selector: pod_selector(Some(&policy.pods)),
        ingress: rules(&policy.ingress),
        egress: rules(&policy.egress),
        span: policy.span.clone(),
    }
}

fn convert_rules(rules: &[PolicyRule], namespace: &str) -> Vec<ConvertedRule> {
    let mut converted = Vec::new();
    for (index, rule) in (0u32..).zip(rules) {
        let peers = match rule.peers.as_slice() {
            [] => vec![ConvertedPeer::Any],
            some => some.iter().map(|peer| convert_peer(peer, namespace)).collect(),
        };
        for (protocol, ports) in ports_by_protocol(&rule.ports) {
            converted.extend(peers.iter().map(|peer| ConvertedRule {
                protocol,
                ports: ports.clone(),
                peer: peer.clone(),
                index,
                span: rule.span.clone(),
            }));
        }
    }
    converted
}

fn convert_peer(peer: &PolicyPeer, namespace: &str) -> ConvertedPeer {
    match peer {
        PolicyPeer::Block { net, except } => ConvertedPeer::Block { net: *net, except: except.clone() },
        PolicyPeer::Pods { pods, namespaces } => ConvertedPeer::Pods {
            selector: pod_selector(pods.as_ref()),
            namespace_selector: namespace_selector(namespaces.as_ref()),
            scoped: scoped_selector(pods.as_ref(), namespaces.as_ref(), namespace),
        },
    }
}

/// Protocols by name, each with its ports; no ports at all is one entry without protocol (CNV-4).
fn ports_by_protocol(ports: &[PolicyPort]) -> Vec<(Option<Protocol>, Vec<Port>)> {
    if ports.is_empty() {
        return vec![(None, Vec::new())];
    }
    let mut by_protocol: BTreeMap<Protocol, Vec<&PortMatch>> = BTreeMap::new();
    for port in ports {
        by_protocol.entry(port.protocol).or_default().push(&port.port);
    }
    by_protocol.into_iter().map(|(protocol, list)| (Some(protocol), merge_ports(&list))).collect()
}

/// Numeric ports as minimal ranges in ascending order, then names in the user's order. One port item that means all
/// ports makes the list empty.
fn merge_ports(ports: &[&PortMatch]) -> Vec<Port> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    let mut names: Vec<Port> = Vec::new();
    for port in ports {
        match port {
            PortMatch::All => return Vec::new(),
            PortMatch::Range(first, last) => ranges.push((*first, *last)),
            PortMatch::Named(name) => {
                let named = Port::Named(name.clone());
                if !names.contains(&named) {
                    names.push(named);
                }
            }
        }
    }
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.into_iter().map(|(first, last)| Port::Range(first, last)).chain(names).collect()
}

impl ConvertedPolicy {
    /// The policy in the form that is compiled.
    ///
    /// # Errors
    /// A finding if a selector is longer than the selector language allows.
    pub fn rule_set(&self) -> Result<RuleSet, Diagnostic> {
        let governed = format!("{} && {NAMESPACE} == '{}'", self.selector, self.namespace);
        let rules = |list: &Option<Vec<ConvertedRule>>, direction| {
            list.as_ref()
                .map(|rules| rules.iter().map(|rule| self.rule(rule, direction)).collect::<Result<Vec<Rule>, _>>())
                .transpose()
        };
        Ok(RuleSet {
            kind: Kind::KubernetesNetworkPolicy,
            name: self.name.clone(),
            display: format!("{}/{NAME_PREFIX}{}", self.namespace, self.name),
            namespace: Some(self.namespace.clone()),
            tier: "default".to_string(),
            order: Some(ORDER),
            selector: self.parse(&governed, &self.span)?,
            selector_text: self.selector.clone(),
            hook: Hook::Normal,
            ingress: rules(&self.ingress, PolicyDirection::Ingress)?,
            egress: rules(&self.egress, PolicyDirection::Egress)?,
            is_v1: false,
            span: self.span.clone(),
        })
    }

    fn rule(&self, rule: &ConvertedRule, direction: PolicyDirection) -> Result<Rule, Diagnostic> {
        let mut peer = Peer::default();
        match &rule.peer {
            ConvertedPeer::Any => {}
            ConvertedPeer::Block { net, except } => {
                peer.nets = vec![*net];
                peer.not_nets = except.clone();
            }
            ConvertedPeer::Pods { scoped, .. } => peer.selector = Some(self.parse(scoped, &rule.span)?),
        }
        let (source, mut destination) = match direction {
            PolicyDirection::Ingress => (peer, Peer::default()),
            PolicyDirection::Egress => (Peer::default(), peer),
        };
        destination.ports = rule.ports.clone();
        Ok(Rule {
            action: Action::Allow,
            family: None,
            protocol: rule.protocol.map(Protocol::number),
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source,
            destination,
            index: rule.index,
            span: rule.span.clone(),
        })
    }

    fn parse(&self, text: &str, span: &Span) -> Result<Selector, Diagnostic> {
        Selector::parse(text).map_err(|fault| {
            Diagnostic::error("bad-selector", format!("the converted selector `{text}` is refused: {}", fault.message))
                .at(span)
                .about(format!("NetworkPolicy {}/{}", self.namespace, self.name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: Protocol, port: PortMatch) -> PolicyPort {
        PolicyPort { protocol, port }
    }

    #[test]
    fn ports_merge_by_protocol_cnv_4() {
        use PortMatch::{All, Named, Range};
        use Protocol::{Sctp, Tcp, Udp};
        let check = |ports: Vec<PolicyPort>, expected: Vec<(Option<Protocol>, Vec<Port>)>| {
            assert_eq!(ports_by_protocol(&ports), expected, "{ports:?}");
        };
        check(vec![], vec![(None, vec![])]);
        check(
            vec![port(Udp, Range(53, 53)), port(Tcp, Range(53, 53))],
            vec![(Some(Tcp), vec![Port::Range(53, 53)]), (Some(Udp), vec![Port::Range(53, 53)])],
        );
        check(
            vec![
                port(Tcp, Range(82, 90)),
                port(Tcp, Range(80, 80)),
                port(Tcp, Range(81, 81)),
                port(Tcp, Range(85, 99)),
            ],
            vec![(Some(Tcp), vec![Port::Range(80, 99)])],
        );
        check(
            vec![port(Tcp, Named("web".into())), port(Tcp, Range(65535, 65535)), port(Tcp, Range(1, 65535))],
            vec![(Some(Tcp), vec![Port::Range(1, 65535), Port::Named("web".into())])],
        );
        check(
            vec![port(Sctp, Range(7, 7)), port(Sctp, All), port(Tcp, Range(1, 1))],
            vec![(Some(Sctp), vec![]), (Some(Tcp), vec![Port::Range(1, 1)])],
        );
    }
}
