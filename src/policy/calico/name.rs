//! Names in, whether each kind accepts them out (2.1, V-18).

use crate::base::diagnostic::Diagnostic;
use crate::base::document::odd_text_help;
use crate::policy::metadata::{Metadata, is_label_name, is_subdomain};
use crate::policy::resources::Resource;

/// Prefixes under which policies converted from other systems appear; stripped before ordering (ORD-2).
const CONVERTED: [&str; 2] = ["knp.default.", "ossg.default."];

/// Prefix of policies converted from Kubernetes.
pub(super) const KUBERNETES_PREFIX: &str = "knp.default.";

/// Takes the metadata of a resource and checks its name. `None` if there is no usable name; the fault is reported.
pub(super) fn metadata(resource: &mut Resource<'_, '_>) -> Option<Metadata> {
    let metadata = Metadata::decode(&mut resource.root, resource.kind.is_namespaced)?;
    let name = metadata.name.as_str();
    let (is_valid, wanted) = match resource.kind.kind {
        "GlobalNetworkPolicy" => (is_policy_name(name), "lower case letters, digits and `-`, with at most one dot"),
        "NetworkPolicy" => (
            is_policy_name(name) || CONVERTED.iter().any(|p| name.strip_prefix(p).is_some_and(is_subdomain)),
            "lower case letters, digits and `-`, with at most one dot or after `knp.default.`",
        ),
        "Tier" => (is_label_name(name), "lower case letters, digits and `-`, without a dot, at most 63 characters"),
        _ => (is_subdomain(name), "lower case letters, digits, `-` and `.`, at most 253 characters"),
    };
    if !is_valid {
        let message = format!("`metadata.name`: `{name}` is not a valid name");
        let help = odd_text_help(name).map_or_else(|| format!("use {wanted}"), str::to_string);
        resource.root.findings().push(Diagnostic::error("bad-name", message).at(&metadata.name_span).help(help));
    }
    Some(metadata)
}

/// One part, or `tier.name`.
fn is_policy_name(name: &str) -> bool {
    is_subdomain(name) && name.matches('.').count() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_names_have_one_dot_at_most_v_18() {
        let check = |name: &str, expected: bool| assert_eq!(is_policy_name(name), expected, "{name}");
        check("thing", true);
        check("perimeter.bad-nets", true);
        check("t.h.ing", false);
        check("tHing", false);
        check("a_b", false);
        check("-a", false);
        check("a-", false);
        check("", false);
        check(&"a".repeat(253), true);
        check(&"a".repeat(254), false);
    }
}
