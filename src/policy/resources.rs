//! What the formats' modules hand in, resource by resource: everything decoded and checked by itself, but no name resolved yet.

use std::collections::BTreeMap;

use super::inventory::Inventory;
use super::ir::{FailsafePort, HostEndpoint, Labels, LogSettings, NetworkSet, Profile, RuleSet, Tier};
use super::label_lint::LabelUse;
use super::load::LoadOptions;
use super::vpc::Account;
use crate::base::decode::Decoder;
use crate::base::diagnostic::Span;

/// A kind of resource that a format's module understands.
pub struct ResourceKind {
    /// The `apiVersion`s under which it appears (IN-2).
    pub api_versions: &'static [&'static str],
    /// Its `kind`.
    pub kind: &'static str,
    /// Whether `kind` is compared without regard to case, as calicoctl 1.x did.
    pub is_any_case: bool,
    /// Whether it lives in a namespace.
    pub is_namespaced: bool,
    /// Decodes one resource and adds it to [`Context::resources`]. Faults go to the findings of the decoder. Must call
    /// [`Decoder::finish`] unless unknown fields are of no concern, as in the kinds of a cluster's inventory.
    pub decode: fn(Resource<'_, '_>, &mut Context<'_>),
}

/// One resource of a document.
pub struct Resource<'n, 'f> {
    /// What it is.
    pub kind: &'static ResourceKind,
    /// Its fields; `apiVersion` and `kind` are already taken.
    pub root: Decoder<'n, 'f>,
    /// Where it starts.
    pub span: Span,
}

/// What decoders see besides the resource.
pub struct Context<'a> {
    /// How strictly to read.
    pub options: &'a LoadOptions,
    /// Where decoded resources go.
    pub resources: Resources,
}

/// Everything decoded so far.
#[derive(Debug, Default)]
pub struct Resources {
    /// Calico and Kubernetes policies; selectors already scoped (ID-3 to ID-6).
    pub rulesets: Vec<RuleSet>,
    /// The Calico policies that Kubernetes policies were converted to, as YAML, by [`RuleSet::display`] (A3, CNV-1).
    pub converted: BTreeMap<String, String>,
    /// Label keys that Kubernetes policies ask for, those of refused policies included.
    pub label_uses: Vec<LabelUse>,
    /// Tiers that are written down, without the built-in ones.
    pub tiers: Vec<Tier>,
    /// Every tier that a policy names, for the check that it exists (ORD-1).
    pub tier_references: Vec<TierReference>,
    /// Profiles that are written down, by name.
    pub profiles: BTreeMap<String, LabelledProfile>,
    /// Host endpoints with their own labels only.
    pub host_endpoints: Vec<HostEndpoint>,
    /// Network sets with their own labels only.
    pub network_sets: Vec<NamespacedSet>,
    /// FelixConfigurations.
    pub felix: Vec<FelixSettings>,
    /// Own labels of every Namespace object, by name.
    pub namespaces: BTreeMap<String, Labels>,
    /// Own labels of every ServiceAccount object, by (namespace, name).
    pub service_accounts: BTreeMap<(String, String), Labels>,
    /// Network ACLs, security groups and what they are attached to.
    pub vpc: Account,
    /// Pods, nodes, services and their endpoints.
    pub inventory: Inventory,
}

/// A policy names a tier.
#[derive(Debug)]
pub struct TierReference {
    /// The tier's name.
    pub tier: String,
    /// The policy as reported.
    pub policy: String,
    /// Where the tier is named.
    pub span: Span,
}

/// A profile with the labels that its endpoints inherit (2.9).
#[derive(Debug, Default)]
pub struct LabelledProfile {
    /// Its rules.
    pub profile: Profile,
    /// `labelsToApply`.
    pub labels: Labels,
}

/// A network set and the namespace it lives in; `None` for a GlobalNetworkSet.
#[derive(Debug)]
pub struct NamespacedSet {
    /// The set with its own labels.
    pub set: NetworkSet,
    /// Its namespace.
    pub namespace: Option<String>,
}

/// What a FelixConfiguration says about failsafe ports and logging (FS-5, LOG-3); fields that are absent are not set.
#[derive(Debug)]
pub struct FelixSettings {
    /// `default` or `node.<name>`.
    pub name: String,
    /// `failsafeInboundHostPorts`.
    pub failsafe_inbound: Option<Vec<FailsafePort>>,
    /// `failsafeOutboundHostPorts`.
    pub failsafe_outbound: Option<Vec<FailsafePort>>,
    /// Log fields.
    pub log: LogSettings,
}
