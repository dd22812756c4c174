//! Kubernetes objects as far as they have been checked, one type per kind: what the files say, before anything is derived from it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::base::diagnostic::Span;
use crate::policy::ir::{Labels, NamedPort};

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodObject {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels as written.
    pub labels: Labels,
    /// Service account; `default` when the file has none, as the API server fills in.
    pub service_account: String,
    /// Whether it has its node's address instead of one of its own.
    pub is_host_networked: bool,
    /// `status.phase`.
    pub phase: Phase,
    /// No `Ready` condition other than `True`.
    pub is_ready: bool,
    /// `status.podIPs`, else `status.podIP`.
    pub addresses: Vec<IpAddr>,
    /// Container ports that have a name.
    pub ports: Vec<NamedPort>,
    /// Where it is written.
    pub span: Span,
}

/// The phase of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not given; counts as running (GW-8).
    Absent,
    /// Running.
    Running,
    /// Failed or Succeeded: its address is no longer its own (ID-1).
    Finished,
    /// Pending or Unknown.
    Other,
}

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeObject {
    /// Name.
    pub name: String,
    /// `status.addresses` of type InternalIP and ExternalIP.
    pub addresses: Vec<IpAddr>,
    /// Where it is written.
    pub span: Span,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceObject {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `spec.type`.
    pub kind: ServiceKind,
    /// `clusterIP` is `None`: no address of its own.
    pub is_headless: bool,
    /// `spec.clusterIPs`, else `spec.clusterIP`.
    pub cluster_addresses: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` with ipMode absent or VIP, else `spec.loadBalancerIP`.
    pub balancer_addresses: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_addresses: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Vec<IpNet>,
    /// `spec.selector`; empty = no pods are looked up.
    pub selector: Labels,
    /// `spec.publishNotReadyAddresses`.
    pub takes_unready: bool,
    /// Whether backends of IPv4 and of IPv6 are taken (`spec.ipFamilies`; both when absent).
    pub families: [bool; 2],
    /// Ports in the user's order.
    pub ports: Vec<ServicePortObject>,
    /// Where it is written.
    pub span: Span,
}

/// The type of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// An address inside the cluster.
    ClusterIp,
    /// And a port on every node.
    NodePort,
    /// And an address outside.
    LoadBalancer,
    /// A DNS name only.
    ExternalName,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortObject {
    /// Name, empty if absent.
    pub name: String,
    /// Protocol number.
    pub protocol: u8,
    /// Port.
    pub port: u16,
    /// Where backends listen.
    pub target: TargetPort,
    /// `nodePort` when not 0.
    pub node_port: Option<u16>,
    /// Where it is written.
    pub span: Span,
}

/// Where a pod listens for a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// On this port; the service's own when the file names none.
    Number(u16),
    /// On the container port of this name and the service port's protocol.
    Name(String),
}

/// An Endpoints object or an EndpointSlice: backends that somebody has computed already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendsObject {
    /// Namespace.
    pub namespace: String,
    /// Name of the service.
    pub service: String,
    /// Each list of addresses with the ports that hold for all of them.
    pub subsets: Vec<BackendSubset>,
    /// Where it is written.
    pub span: Span,
}

/// Ready addresses and their ports.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BackendSubset {
    /// Ready addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<BackendPort>,
}

/// A port of a backend subset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendPort {
    /// Name of the service port that it serves, empty if absent.
    pub name: String,
    /// Protocol number.
    pub protocol: u8,
    /// Port.
    pub port: u16,
}
