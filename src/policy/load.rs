//! Files in, [`Policy`] out: finds the resources in every document, gives each to the module of its format and resolves them all.
//!
//! A load is atomic (IN-7, GW-21): with one error nothing is returned, and all errors of all files are reported.

use std::collections::HashMap;

use super::ir::Policy;
use super::resources::{Context, Resource, ResourceKind, Resources};
use super::source::Source;
use super::vpc::{self, Variables};
use super::{calico, inventory, kubernetes, label_lint, resolve, v1};
use crate::base::decode::{Decoder, Field, Findings};
use crate::base::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use crate::base::document::{self, Document, Kind, Node};

/// How to read policy files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Unknown fields are warnings and prefixes in rules may lack their mask (IN-3, V-22).
    pub lenient: bool,
    /// How much one policy may hold (V-25).
    pub limits: Limits,
    /// This box's node name, whose FelixConfiguration overrides the default one (GW-20).
    pub node: Option<String>,
    /// Values of variables in `.ibmcloud` files, from `--set name=value` (GW-34).
    pub variables: Variables,
}

/// How much one policy may hold (V-25). The defaults are upstream's; nothing here depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one `nets` or `notNets`.
    pub nets: usize,
    /// Entries in one `ports` or `notPorts`.
    pub ports: usize,
    /// Rules in one `ingress` or `egress`.
    pub rules: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { nets: 256, ports: 50, rules: 1024 }
    }
}

/// Every kind that can be loaded (IN-2).
fn kinds() -> impl Iterator<Item = &'static ResourceKind> {
    [calico::KINDS, kubernetes::KINDS, inventory::KINDS, v1::KINDS].into_iter().flatten()
}

/// Reads all sources. `None` if there is an error, or if `out` held one before: a file that could not be read must not weaken
/// the rest (IN-7). Findings of every severity go to `out`.
pub fn load(sources: &[Source], options: &LoadOptions, out: &mut Diagnostics) -> Option<Policy> {
    let mut syntax = Diagnostics::new();
    let mut documents: Vec<Document> = Vec::new();
    for source in sources {
        if source.is_script() {
            continue;
        }
        let mut faults = Diagnostics::new();
        let found = document::parse(&source.path, &source.text, &mut faults);
        if found.is_empty() && faults.is_empty() {
            let finding = Diagnostic::warning("empty-file", format!("`{}` holds no resource", source.path));
            faults.push(finding.help("remove the file, or write down what it should say"));
        }
        documents.extend(found);
        syntax.extend(faults);
    }
    let findings = if options.lenient { Findings::lenient() } else { Findings::new() };
    let is_readable = !syntax.has_errors() && !out.has_errors();
    findings.extend(syntax);
    let context = Context { options, resources: Resources::default() };
    let mut loader = Loader { context, findings: &findings, seen: HashMap::new() };
    for document in &documents {
        loader.value(Field::root(&document.root, &findings), None);
    }
    let mut resources = loader.context.resources;
    let scripts: Vec<&Source> = sources.iter().filter(|source| source.is_script()).collect();
    vpc::run_scripts(&scripts, &options.variables, &mut resources, &findings);
    // Before anything is resolved: a misspelt label is worth knowing beside the errors of the same file.
    findings.extend(label_lint::report(&resources));
    // Names are resolved even if a resource is in error, so that one run reports everything; but what hides in a text that
    // cannot be read would make others look as if they named something unknown.
    let policy = is_readable.then(|| resolve::resolve(resources, options, &findings));
    let mut found = findings.into_diagnostics();
    found.sort();
    out.extend(found);
    policy.filter(|_| !out.has_errors())
}

/// What makes two resources the same (IN-8): kind, namespace, node of a v1-era host endpoint, name.
type Identity<'n> = (&'static str, &'n str, &'n str, &'n str);

struct Loader<'n, 'f, 'a> {
    context: Context<'a>,
    findings: &'f Findings,
    seen: HashMap<Identity<'n>, &'n Node>,
}

impl<'n> Loader<'n, '_, '_> {
    /// A document, an entry of a sequence of resources or an item of a list object (IN-1). `typed` is the (apiVersion, kind) of
    /// items that do not say it themselves.
    fn value(&mut self, field: Field<'n, '_>, typed: Option<(&'n str, &'n str)>) {
        match &field.node.kind {
            Kind::List(_) if field.path.is_empty() => {
                for item in field.list().unwrap_or_default() {
                    self.value(item.as_root(), None);
                }
            }
            Kind::Map(_) => self.object(field, typed),
            _ => field.error("not-a-resource", format!("expected a resource, found {}", field.node.describe())),
        }
    }

    fn object(&mut self, field: Field<'n, '_>, typed: Option<(&'n str, &'n str)>) {
        self.findings.set_resource(None);
        let Some(mut root) = field.map() else { return };
        if !root.has("apiVersion") && !root.has("kind") && typed.is_none() {
            if vpc::is_vpc_object(field.node) {
                return vpc::read(&field, &mut self.context.resources);
            }
            root.error_with_help(
                "not-a-resource",
                "this is no resource: `apiVersion` and `kind` are missing",
                "Calico and Kubernetes resources start with `apiVersion` and `kind`; of VPC objects, `rules` with `subnets` or \
                 `targets` beside them tell what they are",
            );
            return;
        }
        let version = root.take("apiVersion").map(|f| f.string());
        let kind_field = root.take("kind");
        let kind = kind_field.as_ref().map(|f| f.string());
        let (version, kind) = match (version, kind, typed) {
            (Some(version), Some(kind), _) => (version, kind),
            (None, None, Some((version, kind))) => (Some(version), Some(kind)),
            (None, _, _) => return missing(&field, "apiVersion"),
            (_, None, _) => return missing(&field, "kind"),
        };
        let (Some(version), Some(kind)) = (version, kind) else { return };
        if let Some(base) = kind.strip_suffix("List").filter(|_| root.has("items")) {
            return self.list(root, version, base);
        }
        if is_configuration(version, kind) {
            let message = format!("`{kind}` says how to reach a data store and is ignored");
            return self.findings.push(Diagnostic::note("ignored-resource", message).at(root.span()));
        }
        let Some(resource_kind) = find(version, kind) else {
            let at = kind_field.as_ref().unwrap_or(&field);
            return unknown_kind(at, version, kind);
        };
        if self.is_repeated(field.node, resource_kind, kind) {
            return;
        }
        self.findings.set_resource(Some(resource_name(field.node, kind)));
        let span = field.node.span.clone();
        (resource_kind.decode)(Resource { kind: resource_kind, root, span }, &mut self.context);
        self.findings.set_resource(None);
    }

    /// A `List`, or a list of one kind such as `GlobalNetworkPolicyList`.
    fn list(&mut self, mut root: Decoder<'n, '_>, version: &'n str, kind: &'n str) {
        root.ignore(&["metadata", "status"]);
        let items = root.take("items").and_then(|items| items.list()).unwrap_or_default();
        root.finish();
        let typed = (!kind.is_empty()).then_some((version, kind));
        for item in items {
            self.value(item.as_root(), typed);
        }
    }

    /// IN-8: the same resource twice is an error, with the same content a warning; the second is left out either way.
    fn is_repeated(&mut self, node: &'n Node, kind: &'static ResourceKind, shown: &str) -> bool {
        let text = |key| node.get("metadata").and_then(|m| m.get(key)).and_then(Node::as_str);
        let Some(name) = text("name") else { return false };
        let namespace = if kind.is_namespaced { text("namespace").unwrap_or("default") } else { "" };
        let node_name = if kind.is_any_case { text("node").unwrap_or("") } else { "" };
        // Two formats may have a kind of the same name; the address of the entry tells them apart.
        let group = kind.api_versions.first().copied().unwrap_or("");
        let unique = if group == "networking.k8s.io/v1" { "KubernetesNetworkPolicy" } else { kind.kind };
        let Some(first) = self.seen.get(&(unique, namespace, node_name, name)) else {
            self.seen.insert((unique, namespace, node_name, name), node);
            return false;
        };
        let about = resource_name(node, shown);
        let finding = if is_same_resource(first, node) {
            Diagnostic::warning("duplicate-resource", format!("{about} is given twice with the same content"))
        } else {
            Diagnostic::error("duplicate-resource", format!("{about} is given twice with different content"))
        };
        let help = format!("it is also at {}; keep one of the two", first.span);
        self.findings.push(finding.at(&node.span).about(about).help(help));
        true
    }
}

/// Settings of tools that people keep beside their policies (IN-2, checklist A26), and our own gateway file.
fn is_configuration(version: &str, kind: &str) -> bool {
    match version {
        "projectcalico.org/v3" => kind == "CalicoAPIConfig",
        "v1" => kind.eq_ignore_ascii_case("calicoApiConfig"),
        "ringwall/v1" => kind == "Gateway",
        _ => false,
    }
}

fn find(version: &str, kind: &str) -> Option<&'static ResourceKind> {
    let same = |k: &&ResourceKind| {
        k.api_versions.contains(&version)
            && if k.is_any_case { k.kind.eq_ignore_ascii_case(kind) } else { k.kind == kind }
    };
    kinds().find(same)
}

fn missing(resource: &Field<'_, '_>, wanted: &str) {
    let keys = || resource.node.as_map().unwrap_or_default().iter().map(|(key, _)| key.text.as_str());
    let help = match keys().find(|key| key.eq_ignore_ascii_case(wanted)) {
        Some(near) => Some(format!("`{near}` is written `{wanted}`: field names are case sensitive")),
        None => keys().find_map(document::odd_text_help).map(str::to_string),
    };
    let mut finding = Diagnostic::error("missing-field", format!("`{wanted}` is required")).at(resource.span());
    finding.help = help;
    resource.findings().push(finding);
}

fn unknown_kind(at: &Field<'_, '_>, version: &str, kind: &str) {
    let of_version: Vec<&str> = kinds().filter(|k| k.api_versions.contains(&version)).map(|k| k.kind).collect();
    if of_version.is_empty() {
        let mut versions: Vec<&str> = kinds().flat_map(|k| k.api_versions).copied().collect();
        versions.sort_unstable();
        versions.dedup();
        let help = match kinds().find(|k| k.kind == kind) {
            Some(k) => format!("`{kind}` is accepted with apiVersion {}", quoted(k.api_versions)),
            None => format!("accepted are {}", quoted(&versions)),
        };
        let message = format!("apiVersion `{version}` of kind `{kind}` is not supported");
        return at.findings().push(Diagnostic::error("unknown-kind", message).at(at.span()).help(help));
    }
    let help = match did_you_mean(kind, of_version.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? kinds are case sensitive"),
        None => format!("accepted kinds are {}", quoted(&of_version)),
    };
    let message = format!("kind `{kind}` of apiVersion `{version}` is not supported");
    at.findings().push(Diagnostic::error("unknown-kind", message).at(at.span()).help(help));
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// How a resource is called in messages, such as `NetworkPolicy shop/web`.
fn resource_name(node: &Node, kind: &str) -> String {
    let text = |key| node.get("metadata").and_then(|m| m.get(key)).and_then(Node::as_str);
    match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        _ => kind.to_string(),
    }
}

/// Whether two resources say the same, apart from what servers write (IN-5).
fn is_same_resource(a: &Node, b: &Node) -> bool {
    let strip = |node: &Node, ignored: &[&str]| match &node.kind {
        Kind::Map(entries) => {
            let kept = entries.iter().filter(|(k, v)| !ignored.contains(&k.text.as_str()) && !v.is_null());
            Node { kind: Kind::Map(kept.cloned().collect()), span: node.span.clone() }
        }
        _ => node.clone(),
    };
    let written_by_servers = [super::metadata::SERVER_FIELDS, &["annotations"]].concat();
    let metadata = |node: &Node| node.get("metadata").map(|m| strip(m, &written_by_servers));
    let same_metadata = match (metadata(a), metadata(b)) {
        (Some(x), Some(y)) => x.same_content(&y),
        (x, y) => x.is_none() && y.is_none(),
    };
    // The same kind goes by several versions.
    let ignored = ["metadata", "status", "apiVersion", "kind"];
    same_metadata && strip(a, &ignored).same_content(&strip(b, &ignored))
}
