//! The one intermediate form: what every format says, with names resolved to labels and every rule carrying its place.
//!
//! Nothing here is specific to a file format. Selectors are already scoped: a rule's `selector` includes the namespace and
//! service-account restrictions of ID-3, ID-4 and ID-6, so whoever evaluates it needs the labels of one thing only.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::selector::Selector;
use crate::base::address::{Direction, Family};
use crate::base::diagnostic::Span;

/// The labels of one endpoint or set, inherited ones included (ID-1, ID-2, ID-8).
pub type Labels = BTreeMap<String, String>;

/// Everything that was loaded.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Tiers in evaluation order (ORD-1), the built-in ones included.
    pub tiers: Vec<Tier>,
    /// Calico and Kubernetes policies in evaluation order (tier, then ORD-2).
    pub rulesets: Vec<RuleSet>,
    /// The Calico policies that Kubernetes policies were converted to, as YAML, by [`RuleSet::display`] (A3, CNV-1).
    pub converted: BTreeMap<String, String>,
    /// Profiles by name, the built-in and the namespaces' ones included (ID-2).
    pub profiles: BTreeMap<String, Profile>,
    /// Host endpoints, sorted by name (HEP-1).
    pub host_endpoints: Vec<HostEndpoint>,
    /// Pods that are endpoints: not host-networked, not finished (ID-1). Sorted by (namespace, name).
    pub pods: Vec<Pod>,
    /// Global and namespaced network sets.
    pub network_sets: Vec<NetworkSet>,
    /// Addresses of nodes (GW-8): InternalIP and ExternalIP of every Node.
    pub node_addresses: Vec<IpAddr>,
    /// Services with their ready backends, sorted by (namespace, name).
    pub services: Vec<Service>,
    /// Network ACLs, sorted by name.
    pub acls: Vec<NetworkAcl>,
    /// Security groups, sorted by name.
    pub groups: Vec<SecurityGroup>,
    /// Loaded VPC subnets that have an ACL; each acts as a segment (GW-3).
    pub subnets: Vec<Subnet>,
    /// Failsafe lists when a FelixConfiguration sets them (FS-5); otherwise the defaults of FS-4 hold.
    pub failsafe_inbound: Option<Vec<FailsafePort>>,
    /// The same for outbound.
    pub failsafe_outbound: Option<Vec<FailsafePort>>,
    /// How Log actions write (LOG-3).
    pub log: LogSettings,
}

/// Settings of the Log action (LOG-1, LOG-3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// `logPrefix`; `None` means `calico-packet`.
    pub prefix: Option<String>,
    /// `logActionRateLimit` as written.
    pub rate_limit: Option<String>,
    /// `logActionRateLimitBurst`.
    pub burst: Option<u32>,
}

/// A tier (ORD-1).
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Unique name.
    pub name: String,
    /// Position; `None` is last.
    pub order: Option<f64>,
    /// What happens to a packet that no policy of the tier decides (ACT-6).
    pub default_action: TierDefault,
}

/// What happens at the end of a tier that governs an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierDefault {
    /// The packet is dropped.
    Deny,
    /// Evaluation goes on with the next tier.
    Pass,
}

/// Which kind of resource a set of rules came from. The order is the tie-break of ORD-2 (bytewise by kind name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Calico GlobalNetworkPolicy, v1-era policies included.
    GlobalNetworkPolicy,
    /// Kubernetes NetworkPolicy.
    KubernetesNetworkPolicy,
    /// Calico NetworkPolicy.
    NetworkPolicy,
}

/// When the rules of a policy are asked (ACT-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// doNotTrack: the untracked stage only.
    Untracked,
    /// preDNAT: the preDNAT stage only.
    PreDnat,
    /// The normal and workload stages.
    Normal,
    /// As `Normal`, and the forward stages too (`applyOnForward`).
    NormalAndForward,
}

/// One policy: a selector for what it governs, and two ordered lists.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// Resource kind.
    pub kind: Kind,
    /// Name as the user wrote it, without the `knp.default.` prefix.
    pub name: String,
    /// Name as it is reported: `name`, `namespace/name` or `namespace/knp.default.name`.
    pub display: String,
    /// Namespace of a namespaced policy.
    pub namespace: Option<String>,
    /// Tier name.
    pub tier: String,
    /// Position in the tier; `None` is last.
    pub order: Option<f64>,
    /// Which endpoints it governs, namespace restriction included (ID-9).
    pub selector: Selector,
    /// The selector as the user wrote it, for display.
    pub selector_text: String,
    /// When it is asked.
    pub hook: Hook,
    /// Whether it governs ingress (`types`), and with which rules.
    pub ingress: Option<Vec<Rule>>,
    /// Whether it governs egress, and with which rules.
    pub egress: Option<Vec<Rule>>,
    /// The v1-era syntax, whose forwarded traffic GW-32 settles.
    pub is_v1: bool,
    /// Where the resource starts.
    pub span: Span,
}

impl RuleSet {
    /// The rules of one direction, `None` where the policy does not govern it (ACT-8).
    pub fn rules(&self, direction: PolicyDirection) -> Option<&[Rule]> {
        match direction {
            PolicyDirection::Ingress => self.ingress.as_deref(),
            PolicyDirection::Egress => self.egress.as_deref(),
        }
    }
}

/// Direction as a policy sees it: relative to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyDirection {
    /// Towards the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// A profile (2.9). Rules only; its labels are already on the endpoints.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Ingress rules.
    pub ingress: Vec<Rule>,
    /// Egress rules.
    pub egress: Vec<Rule>,
    /// Where it is written; `None` for built-in ones.
    pub span: Option<Span>,
}

/// What a rule does (ACT-1 to ACT-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Final for the stage.
    Allow,
    /// The packet is dropped.
    Deny,
    /// Write a record and go on.
    Log,
    /// Leave the tier.
    Pass,
}

/// One rule; all criteria that are present must hold (RM-1).
#[derive(Clone, Debug)]
pub struct Rule {
    /// What to do.
    pub action: Action,
    /// `ipVersion`. The family that protocol 1 or 58 implies (RM-7) is *not* filled in here.
    pub family: Option<Family>,
    /// Protocol number.
    pub protocol: Option<u8>,
    /// Any protocol but this one (RM-10).
    pub not_protocol: Option<u8>,
    /// ICMP type and code; with protocol ICMP or ICMPv6 only.
    pub icmp: Option<Icmp>,
    /// Not this ICMP type and code (RM-6). Without `protocol`, a packet that is not ICMP (v4: 1, v6: 58) matches.
    pub not_icmp: Option<Icmp>,
    /// Where the packet comes from.
    pub source: Peer,
    /// Where it goes.
    pub destination: Peer,
    /// Position in the user's own list, from 0. Several rules of a converted Kubernetes policy share one.
    pub index: u32,
    /// Where the rule starts.
    pub span: Span,
}

/// ICMP type with an optional code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Icmp {
    /// Type; 0 to 254 in Calico.
    pub kind: u8,
    /// Code; absent = any.
    pub code: Option<u8>,
}

/// One side of a rule.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The address lies in one of these; empty = no constraint.
    pub nets: Vec<IpNet>,
    /// The address lies in none of these. A rule with entries of one family only does not match packets of the other (RM-7).
    pub not_nets: Vec<IpNet>,
    /// The address belongs to an endpoint or set whose labels match. `None` = no identity restriction.
    pub selector: Option<Selector>,
    /// The address does not belong to an endpoint or set whose labels match; unknown addresses pass (ID-6).
    pub not_selector: Option<Selector>,
    /// Ports; empty = no constraint (RM-3, RM-4).
    pub ports: Vec<Port>,
    /// Not these ports.
    pub not_ports: Vec<Port>,
    /// A Kubernetes service by (namespace, name) (RM-11).
    pub service: Option<(String, String)>,
}

/// A port criterion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// First and last port, inclusive.
    Range(u16, u16),
    /// A port name that endpoints declare (RM-5).
    Named(String),
}

/// A port that an endpoint declares by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedPort {
    /// Name.
    pub name: String,
    /// Protocol number.
    pub protocol: u8,
    /// Port.
    pub port: u16,
}

/// A host endpoint (2.6).
#[derive(Clone, Debug)]
pub struct HostEndpoint {
    /// Unique name.
    pub name: String,
    /// Node it is on.
    pub node: String,
    /// Interface name or `*`; empty when absent.
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Labels, those of its profiles included.
    pub labels: Labels,
    /// Profile names in order.
    pub profiles: Vec<String>,
    /// Ports it declares by name.
    pub ports: Vec<NamedPort>,
    /// Where it is written.
    pub span: Span,
}

/// A pod that is an endpoint.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
    /// Labels, inherited ones included.
    pub labels: Labels,
    /// Profiles in order: `kns.<namespace>`, then `ksa.<namespace>.<account>`.
    pub profiles: Vec<String>,
    /// Container ports that have a name.
    pub ports: Vec<NamedPort>,
    /// Where it is written.
    pub span: Span,
}

/// A GlobalNetworkSet or NetworkSet (2.8).
#[derive(Clone, Debug)]
pub struct NetworkSet {
    /// Name as shown.
    pub display: String,
    /// Its prefixes.
    pub nets: Vec<IpNet>,
    /// Labels, inherited ones included (ID-8).
    pub labels: Labels,
    /// Where it is written.
    pub span: Span,
}

/// A service as kube-proxy's table sees it (section 13, GW-8).
#[derive(Clone, Debug)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Ports, in the user's order.
    pub ports: Vec<ServicePort>,
    /// Addresses that `ports[].port` serves for any source: ClusterIPs and externalIPs.
    pub cluster_addresses: Vec<IpAddr>,
    /// Load balancer addresses; `source_ranges` guards them (SVC-6).
    pub balancer_addresses: Vec<IpAddr>,
    /// `loadBalancerSourceRanges`; empty = any source.
    pub source_ranges: Vec<IpNet>,
    /// Where it is written.
    pub span: Span,
}

/// One port of a service.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// Protocol number.
    pub protocol: u8,
    /// Port on the ClusterIP and the load balancer.
    pub port: u16,
    /// Port on every node, if any.
    pub node_port: Option<u16>,
    /// Ready backends, sorted by (address, port), without repeats.
    pub backends: Vec<(IpAddr, u16)>,
}

/// A failsafe port (FS-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FailsafePort {
    /// Protocol number.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
    /// Source net of an inbound port, destination net of an outbound one.
    pub net: Option<IpNet>,
}

/// Which protocols a VPC rule matches (15.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Protocols {
    /// Every protocol.
    Any,
    /// Any of these numbers.
    Of(Vec<u8>),
}

/// A network ACL (section 15).
#[derive(Clone, Debug)]
pub struct NetworkAcl {
    /// Id, empty if the source has none.
    pub id: String,
    /// Name.
    pub name: String,
    /// Ids or names of the subnets it is attached to.
    pub subnets: Vec<String>,
    /// Rules of both directions in evaluation order.
    pub rules: Vec<AclRule>,
    /// Where it is written.
    pub span: Span,
}

/// One rule of a network ACL.
#[derive(Clone, Debug)]
pub struct AclRule {
    /// Id, empty if none.
    pub id: String,
    /// Name, empty if none.
    pub name: String,
    /// Allow or deny.
    pub allow: bool,
    /// Towards the subnet (inbound) or leaving it (outbound).
    pub direction: Direction,
    /// Protocols, the asymmetry of `all` already applied.
    pub protocols: Protocols,
    /// Source prefix.
    pub source: IpNet,
    /// Destination prefix.
    pub destination: IpNet,
    /// Source ports; `None` = any, packets without ports included (15.3).
    pub source_ports: Option<(u16, u16)>,
    /// Destination ports.
    pub destination_ports: Option<(u16, u16)>,
    /// ICMP type and code.
    pub icmp: Option<Icmp>,
    /// Position in the ACL's own list of this direction, from 0.
    pub index: u32,
    /// Where it is written.
    pub span: Span,
}

/// A security group (section 16).
#[derive(Clone, Debug)]
pub struct SecurityGroup {
    /// Id, empty if none.
    pub id: String,
    /// Name.
    pub name: String,
    /// Rules of both directions, in the user's order.
    pub rules: Vec<GroupRule>,
    /// Addresses of its members that loaded resources give (GW-13). The gateway file and segments add to them.
    pub members: Vec<IpAddr>,
    /// Where it is written.
    pub span: Span,
}

/// One rule of a security group; it always allows.
#[derive(Clone, Debug)]
pub struct GroupRule {
    /// Inbound or outbound.
    pub direction: Direction,
    /// Protocols.
    pub protocols: Protocols,
    /// The other end.
    pub remote: Remote,
    /// The member's own address; `None` = any.
    pub local: Option<IpNet>,
    /// Destination ports; `None` = any, packets without ports included.
    pub ports: Option<(u16, u16)>,
    /// ICMP type and code.
    pub icmp: Option<Icmp>,
    /// Position in the group's own list of this direction, from 0.
    pub index: u32,
    /// Where it is written.
    pub span: Span,
}

/// The other end of a security group rule (SG-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Any IPv4 address.
    Any,
    /// A prefix.
    Net(IpNet),
    /// The members of a loaded group, by name.
    Group(String),
}

/// A loaded VPC subnet with an ACL (GW-3).
#[derive(Clone, Debug)]
pub struct Subnet {
    /// Id, empty if none.
    pub id: String,
    /// Name.
    pub name: String,
    /// Its prefix.
    pub cidr: IpNet,
    /// Name of its ACL in [`Policy::acls`].
    pub acl: String,
    /// Where it is written.
    pub span: Span,
}
