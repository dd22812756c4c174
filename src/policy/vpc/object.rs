//! What a VPC account holds as far as policy needs it: objects that were checked one by one, references not yet resolved.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::base::address::Direction;
use crate::base::diagnostic::Span;
use crate::base::document::Node;
use crate::policy::ir::{AclRule, Icmp, Protocols};

/// Everything that was loaded, in the order of the files.
#[derive(Debug, Default)]
pub struct Account {
    /// Network ACLs.
    pub acls: Vec<Acl>,
    /// Security groups.
    pub groups: Vec<Group>,
    /// Subnets.
    pub subnets: Vec<SubnetObject>,
    /// Whatever has addresses and belongs to groups: network interfaces of instances, virtual ones, endpoint gateways.
    pub interfaces: Vec<Interface>,
    /// Every ACL, group and subnet as it was written, by kind and id, or by kind, VPC and name (IN-8).
    pub written: BTreeMap<(&'static str, String), Node>,
}

/// How one object names another. Either part may be empty; both are only where an object names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
}

impl Reference {
    /// Whether the object with this id and name is meant: ids decide where both have one.
    pub fn is(&self, other: &Reference) -> bool {
        if !self.id.is_empty() && !other.id.is_empty() {
            return self.id == other.id;
        }
        !self.name.is_empty() && self.name == other.name
    }

    /// Whether `word` is the id or the name.
    pub fn is_called(&self, word: &str) -> bool {
        !word.is_empty() && (self.id == word || self.name == word)
    }

    /// Whether nothing is named.
    pub fn is_absent(&self) -> bool {
        self.id.is_empty() && self.name.is_empty()
    }

    /// The name, or the id where there is none.
    pub fn shown(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }
}

/// A network ACL.
#[derive(Clone, Debug)]
pub struct Acl {
    /// Its id and name.
    pub own: Reference,
    /// Its VPC, [`Reference::is_absent`] if unknown.
    pub vpc: Reference,
    /// Subnets it says it is attached to.
    pub subnets: Vec<Reference>,
    /// Rules of both directions in evaluation order; their indexes are set when the ACL is resolved.
    pub rules: Vec<AclRule>,
    /// Where it is written.
    pub span: Span,
}

/// A security group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its id and name.
    pub own: Reference,
    /// Its VPC, [`Reference::is_absent`] if unknown.
    pub vpc: Reference,
    /// What it is attached to.
    pub targets: Vec<Reference>,
    /// Rules of both directions in the user's order.
    pub rules: Vec<GroupRuleObject>,
    /// Where it is written.
    pub span: Span,
}

/// A rule of a security group.
#[derive(Clone, Debug)]
pub struct GroupRuleObject {
    /// Its id and name; both may be empty.
    pub own: Reference,
    /// Inbound or outbound.
    pub direction: Direction,
    /// Protocols.
    pub protocols: Protocols,
    /// The other end.
    pub remote: RemoteObject,
    /// The member's own address.
    pub local: Option<IpNet>,
    /// Destination ports.
    pub ports: Option<(u16, u16)>,
    /// ICMP type and code.
    pub icmp: Option<Icmp>,
    /// Where it is written.
    pub span: Span,
}

/// The other end of a rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteObject {
    /// Any IPv4 address.
    Any,
    /// A prefix.
    Net(IpNet),
    /// Members of a group.
    Group(Reference),
}

/// A subnet.
#[derive(Clone, Debug)]
pub struct SubnetObject {
    /// Its id and name.
    pub own: Reference,
    /// Its VPC, [`Reference::is_absent`] if unknown.
    pub vpc: Reference,
    /// Its prefix.
    pub cidr: IpNet,
    /// Its own word on which ACL it has.
    pub acl: Option<Reference>,
    /// Where it is written.
    pub span: Span,
}

/// Something with addresses that groups guard (GW-13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its id, by which groups list it among their targets.
    pub own: Reference,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Groups that it says it belongs to.
    pub groups: Vec<Reference>,
}

/// Values of `--set name=value` for scripts.
pub type Variables = BTreeMap<String, String>;
