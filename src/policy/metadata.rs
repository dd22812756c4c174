//! `metadata` of a resource in, its name, namespace and labels out (2.1, IN-5).

use super::ir::Labels;
use crate::base::decode::{Decoder, Field};
use crate::base::diagnostic::Span;

/// Fields of `metadata` that servers write; accepted and ignored (IN-5).
pub const SERVER_FIELDS: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "ownerReferences",
    "finalizers",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Name, namespace and labels of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Name; not empty.
    pub name: String,
    /// Where the name stands.
    pub name_span: Span,
    /// Namespace of a namespaced kind, `default` if the file does not say (2.1).
    pub namespace: Option<String>,
    /// Labels.
    pub labels: Labels,
}

impl Metadata {
    /// Takes `metadata` from a resource. The name's syntax is the caller's to check: kinds differ. Labels and the namespace are
    /// checked here. `None` if there is no name.
    pub fn decode(root: &mut Decoder<'_, '_>, is_namespaced: bool) -> Option<Metadata> {
        root.ignore(&["status"]);
        let mut map = root.require("metadata")?.map()?;
        map.ignore(SERVER_FIELDS);
        map.take("annotations").iter().for_each(annotations);
        let name = map.require("name").and_then(|f| Some((f.nonempty_string()?.to_string(), f.span().clone())));
        let namespace = map.take("namespace");
        let namespace = match namespace {
            None => is_namespaced.then(|| "default".to_string()),
            Some(field) if is_namespaced => {
                // Empty counts as absent, as it does for calicoctl.
                let text = field.string().map(|text| if text.is_empty() { "default" } else { text });
                if let Some(text) = text.filter(|text| !is_label_name(text)) {
                    let help = "lower case letters, digits and `-`, at most 63 characters";
                    field.error_with_help("bad-name", format!("`{text}` is not a namespace name"), help);
                }
                text.map(str::to_string)
            }
            Some(field) => {
                // calicoctl and kubectl print an empty namespace for global kinds.
                if field.string().is_some_and(|text| !text.is_empty()) {
                    field.error_with_help("unexpected-namespace", "this kind has no namespace", "remove the field");
                }
                None
            }
        };
        let labels = map.take("labels").map(|f| labels(&f)).unwrap_or_default();
        map.finish();
        let (name, name_span) = name?;
        Some(Metadata { name, name_span, namespace, labels })
    }
}

/// A map of labels: keys are qualified names, values label values (2.1).
pub fn labels(field: &Field<'_, '_>) -> Labels {
    let mut labels = Labels::new();
    for (key, value) in field.entries().unwrap_or_default() {
        if !is_qualified_name(&key.text) {
            let help = "letters, digits, `-`, `_`, `.`, optionally after a `domain/` prefix; at most 63 characters";
            value.error_with_help("bad-label", format!("`{}` is not a label name", key.text), help);
        }
        let Some(text) = value.string() else { continue };
        if !is_label_value(text) {
            let help =
                "letters, digits, `-`, `_`, `.`, at most 63 characters, starting and ending with a letter or digit";
            value.error_with_help("bad-label", format!("`{text}` is not a label value"), help);
        }
        labels.insert(key.text.clone(), text.to_string());
    }
    labels
}

/// Annotations have no effect, but must be ones that a server would take: qualified names in any case, 256 KiB in all (2.1).
pub fn annotations(field: &Field<'_, '_>) {
    let mut size = 0;
    for (key, value) in field.entries().unwrap_or_default() {
        if !is_qualified_name(&key.text.to_lowercase()) {
            value.error("bad-annotation", format!("`{}` is not the name of an annotation", key.text));
        }
        size += key.text.len() + value.string().map_or(0, str::len);
    }
    if size > 256 << 10 {
        field.error("too-many", "annotations are larger than 256 KiB");
    }
}

/// An RFC 1123 label: lower case letters, digits and `-`, at most 63 characters.
pub fn is_label_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// An RFC 1123 subdomain: labels joined by dots, at most 253 characters.
pub fn is_subdomain(text: &str) -> bool {
    // Upstream limits the whole, not each label.
    let is_part = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().next_back())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// A Kubernetes qualified name: an optional domain and `/`, then at most 63 characters.
pub fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

/// A Kubernetes label value: empty, or at most 63 letters, digits, `-`, `_`, `.` that start and end with a letter or digit.
pub fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.is_empty()
        || text.len() <= 63
            && edge(text.chars().next())
            && edge(text.chars().next_back())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
