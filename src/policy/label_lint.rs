//! The label keys that selectors ask for and the labels that are known in, warnings about keys that nothing carries out (D3, H1).

use std::collections::BTreeSet;

use super::identity::{
    ACCOUNT_PREFIX, METADATA_NAME, NAME, NAMESPACE, NAMESPACE_PREFIX, ORCHESTRATOR, SERVICE_ACCOUNT,
};
use super::resources::Resources;
use crate::base::diagnostic::{Diagnostic, Diagnostics, Severity, Span, did_you_mean};

/// Whose labels a selector looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabelOwner {
    /// Pods.
    Pod,
    /// Namespaces.
    Namespace,
}

/// A label key that has to be present for a selector to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelUse {
    /// Whose label.
    pub owner: LabelOwner,
    /// The key.
    pub key: String,
    /// Where it is written.
    pub span: Span,
    /// The policy that asks, such as `NetworkPolicy shop/web`.
    pub resource: String,
}

/// Label keys that loaded pods and namespaces carry. An empty set means that none was loaded, and nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownKeys {
    /// On pods.
    pub pods: BTreeSet<String>,
    /// On namespaces.
    pub namespaces: BTreeSet<String>,
}

/// Judges every label key that was read against the loaded pods and namespaces.
pub fn report(resources: &Resources) -> Diagnostics {
    let mut known = KnownKeys::default();
    for pod in &resources.inventory.pods {
        known.pods.extend(pod.labels.keys().cloned());
    }
    if !resources.inventory.pods.is_empty() {
        known.pods.extend([NAMESPACE, ORCHESTRATOR, SERVICE_ACCOUNT].map(str::to_string));
        known.pods.extend([NAME, METADATA_NAME].map(|name| format!("{NAMESPACE_PREFIX}{name}")));
        known.pods.insert(format!("{ACCOUNT_PREFIX}{NAME}"));
    }
    for labels in resources.namespaces.values() {
        known.namespaces.extend(labels.keys().cloned());
    }
    if !resources.namespaces.is_empty() {
        known.namespaces.extend([NAME, METADATA_NAME].map(str::to_string));
    }
    lint(&resources.label_uses, &known)
}

/// Warns about keys that nothing known carries. Where nothing is known, a key that starts with a capital is still
/// suspicious: label keys are case sensitive (IN-4).
pub fn lint(uses: &[LabelUse], known: &KnownKeys) -> Diagnostics {
    let mut out = Diagnostics::new();
    for label in uses {
        let (keys, owner) = match label.owner {
            LabelOwner::Pod => (&known.pods, "pod"),
            LabelOwner::Namespace => (&known.namespaces, "namespace"),
        };
        if let Some(finding) = judge(&label.key, keys, owner) {
            out.push(finding.at(&label.span).about(&label.resource));
        }
    }
    out
}

fn judge(key: &str, keys: &BTreeSet<String>, owner: &str) -> Option<Diagnostic> {
    if keys.contains(key) {
        return None;
    }
    if keys.is_empty() {
        let lower = key.to_lowercase();
        return key.starts_with(|c: char| c.is_ascii_uppercase()).then(|| {
            Diagnostic::warning("suspicious-label-key", format!("label key `{key}` starts with a capital letter"))
                .help(format!("label keys are case sensitive: `{lower}` would be another label"))
        });
    }
    let finding = Diagnostic::warning("unknown-label-key", format!("label key `{key}` is used by no known {owner}"));
    Some(match did_you_mean(key, keys.iter().map(String::as_str)) {
        Some(near) if near.eq_ignore_ascii_case(key) => {
            finding.help(format!("did you mean `{near}`? label keys are case sensitive"))
        }
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None => Diagnostic { severity: Severity::Note, ..finding },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_nothing_carries_are_reported_d3_h1_in_4() {
        let set = |keys: &[&str]| keys.iter().map(|k| k.to_string()).collect();
        let check = |owner, key: &str, pods: &[&str], namespaces: &[&str], expected: Option<&str>| {
            let known = KnownKeys { pods: set(pods), namespaces: set(namespaces) };
            let span = Span { file: "a".into(), line: 1, column: 1 };
            let uses = [LabelUse { owner, key: key.into(), span, resource: "NetworkPolicy x".into() }];
            let found = lint(&uses, &known);
            let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(texts.first().map(String::as_str), expected, "{key}");
        };
        use LabelOwner::{Namespace, Pod};
        check(Pod, "tier", &["app", "tier"], &[], None);
        check(
            Pod,
            "Tier",
            &["app", "tier"],
            &[],
            Some(
                "warning: a:1:1: label key `Tier` is used by no known pod (did you mean `tier`? label keys are case sensitive)",
            ),
        );
        check(
            Pod,
            "Tier",
            &[],
            &[],
            Some(
                "warning: a:1:1: label key `Tier` starts with a capital letter \
                 (label keys are case sensitive: `tier` would be another label)",
            ),
        );
        check(Pod, "tier", &[], &[], None);
        check(Pod, "colour", &["shape"], &[], Some("note: a:1:1: label key `colour` is used by no known pod"));
        check(
            Namespace,
            "usge",
            &["usge"],
            &["usage"],
            Some("warning: a:1:1: label key `usge` is used by no known namespace (did you mean `usage`?)"),
        );
    }
}
