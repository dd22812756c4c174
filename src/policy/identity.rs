//! Names of namespaces and service accounts in, the labels that endpoints and sets inherit from them out (ID-1, ID-2, ID-8).

use super::ir::Labels;
use super::resources::Resources;

/// Label that holds the namespace of a pod or NetworkSet.
pub const NAMESPACE: &str = "projectcalico.org/namespace";
/// Label that holds the orchestrator of a pod.
pub const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// Label that holds the service account of a pod.
pub const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// Prefix of the labels inherited from a namespace.
pub const NAMESPACE_PREFIX: &str = "pcns.";
/// Prefix of the labels inherited from a service account.
pub const ACCOUNT_PREFIX: &str = "pcsa.";
/// Label under which a namespace or service account carries its own name; inherited with its prefix.
pub const NAME: &str = "projectcalico.org/name";
/// Label that every namespace has since Kubernetes 1.21 (KNP-8).
pub const METADATA_NAME: &str = "kubernetes.io/metadata.name";

/// Name of the profile of a namespace (ID-2).
pub fn namespace_profile(namespace: &str) -> String {
    format!("kns.{namespace}")
}

/// Name of the profile of a service account (ID-2).
pub fn account_profile(namespace: &str, account: &str) -> String {
    format!("ksa.{namespace}.{account}")
}

/// What everything in a namespace inherits: `pcns.<label>` for each label of the namespace and for its name (ID-2, KNP-8), and
/// what a loaded Profile `kns.<namespace>` applies. A namespace that is not loaded has no labels of its own.
pub fn namespace_labels(resources: &Resources, namespace: &str) -> Labels {
    let own = resources.namespaces.get(namespace);
    let mut labels = Labels::new();
    labels.insert(format!("{NAMESPACE_PREFIX}{METADATA_NAME}"), namespace.to_string());
    labels.extend(own.into_iter().flatten().map(|(k, v)| (format!("{NAMESPACE_PREFIX}{k}"), v.clone())));
    labels.insert(format!("{NAMESPACE_PREFIX}{NAME}"), namespace.to_string());
    inherit_profile(&mut labels, resources, &namespace_profile(namespace));
    labels
}

/// What a pod inherits from its service account: `pcsa.<label>` (ID-2).
pub fn account_labels(resources: &Resources, namespace: &str, account: &str) -> Labels {
    let own = resources.service_accounts.get(&(namespace.to_string(), account.to_string()));
    let mut labels: Labels =
        own.into_iter().flatten().map(|(k, v)| (format!("{ACCOUNT_PREFIX}{k}"), v.clone())).collect();
    labels.insert(format!("{ACCOUNT_PREFIX}{NAME}"), account.to_string());
    inherit_profile(&mut labels, resources, &account_profile(namespace, account));
    labels
}

fn inherit_profile(labels: &mut Labels, resources: &Resources, profile: &str) {
    if let Some(found) = resources.profiles.get(profile) {
        inherit(labels, &found.labels);
    }
}

/// Adds inherited labels; labels that are there already win.
pub fn inherit(labels: &mut Labels, inherited: &Labels) {
    for (key, value) in inherited {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
}
