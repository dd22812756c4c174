//! A Kubernetes NetworkPolicy as far as it has been checked (12.1): nothing in here can be wrong any more.

use ipnet::IpNet;

use super::label_selector::LabelSelector;
use crate::base::diagnostic::Span;

/// A NetworkPolicy with its defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkPolicy {
    /// Name.
    pub name: String,
    /// Namespace; `default` when the file has none.
    pub namespace: String,
    /// Which pods of the namespace it governs.
    pub pods: LabelSelector,
    /// Ingress rules; `None` when the policy does not govern ingress (KNP-1).
    pub ingress: Option<Vec<PolicyRule>>,
    /// Egress rules; `None` when the policy does not govern egress.
    pub egress: Option<Vec<PolicyRule>>,
    /// Where it starts.
    pub span: Span,
}

/// One item of `ingress` or `egress`.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRule {
    /// Any of these peers; empty = any address.
    pub peers: Vec<PolicyPeer>,
    /// Any of these ports; empty = any packet.
    pub ports: Vec<PolicyPort>,
    /// Where it starts.
    pub span: Span,
}

/// One item of `from` or `to`.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyPeer {
    /// An address in `net` and in none of `except`.
    Block {
        /// Host bits are zero.
        net: IpNet,
        /// Strict subsets of `net`, host bits zero.
        except: Vec<IpNet>,
    },
    /// Pods by label; at least one selector is given.
    Pods {
        /// Labels of the pod.
        pods: Option<LabelSelector>,
        /// Labels of its namespace; `None` = the policy's own namespace.
        namespaces: Option<LabelSelector>,
    },
}

/// One item of `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPort {
    /// Protocol.
    pub protocol: Protocol,
    /// Which ports of it.
    pub port: PortMatch,
}

/// The protocols that a NetworkPolicy can name. The order is that of their names (CNV-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// 132.
    Sctp,
    /// 6.
    Tcp,
    /// 17.
    Udp,
}

impl Protocol {
    /// The protocol of this name, exactly as the API spells it.
    pub fn named(name: &str) -> Option<Protocol> {
        match name {
            "SCTP" => Some(Protocol::Sctp),
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            _ => None,
        }
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Sctp => "SCTP",
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        }
    }

    /// The protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Sctp => 132,
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

/// Which ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortMatch {
    /// All of them.
    All,
    /// First and last, inclusive, at least 1.
    Range(u16, u16),
    /// The container port of this name.
    Named(String),
}
