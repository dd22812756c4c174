//! Pod objects in; pods that are endpoints, with all the labels they inherit, out (ID-1, ID-2, GW-7).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::object::{Phase, PodObject};
use crate::base::decode::Findings;
use crate::base::diagnostic::Diagnostic;
use crate::policy::identity;
use crate::policy::ir::{Labels, Pod};
use crate::policy::resources::Resources;

/// Longest value of a label, in characters; a longer account name is no label (ID-1).
const MAX_LABEL_VALUE: usize = 63;

/// The endpoints: pods with an address of their own that are not finished (ID-1), sorted by (namespace, name).
pub(super) fn pods(objects: &[PodObject], resources: &Resources, findings: &Findings) -> Vec<Pod> {
    let mut pods: Vec<Pod> = (objects.iter())
        .filter(|pod| !pod.is_host_networked && pod.phase != Phase::Finished)
        .map(|pod| Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            addresses: pod.addresses.clone(),
            labels: labels(pod, resources),
            profiles: vec![
                identity::namespace_profile(&pod.namespace),
                identity::account_profile(&pod.namespace, &pod.service_account),
            ],
            ports: pod.ports.clone(),
            span: pod.span.clone(),
        })
        .collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    report_shared_addresses(&pods, findings);
    pods
}

/// What the orchestrator sets wins over the pod's own labels, and those over inherited ones.
fn labels(pod: &PodObject, resources: &Resources) -> Labels {
    let mut labels = pod.labels.clone();
    labels.insert(identity::NAMESPACE.to_string(), pod.namespace.clone());
    labels.insert(identity::ORCHESTRATOR.to_string(), "k8s".to_string());
    if pod.service_account.len() <= MAX_LABEL_VALUE {
        labels.insert(identity::SERVICE_ACCOUNT.to_string(), pod.service_account.clone());
    }
    identity::inherit(&mut labels, &identity::namespace_labels(resources, &pod.namespace));
    identity::inherit(&mut labels, &identity::account_labels(resources, &pod.namespace, &pod.service_account));
    labels
}

fn report_shared_addresses(pods: &[Pod], findings: &Findings) {
    let mut owners: BTreeMap<IpAddr, &Pod> = BTreeMap::new();
    for pod in pods {
        for address in &pod.addresses {
            let Some(first) = owners.insert(*address, pod) else { continue };
            if std::ptr::eq(first, pod) {
                continue;
            }
            let message = format!(
                "pods `{}/{}` and `{}/{}` both have the address `{address}`",
                first.namespace, first.name, pod.namespace, pod.name
            );
            findings.push(
                Diagnostic::error("duplicate-pod-address", message)
                    .at(&pod.span)
                    .about(format!("Pod {}/{}", pod.namespace, pod.name))
                    .help(format!(
                        "the other is at {}; remove the one that no longer runs, or give its `status.phase`",
                        first.span
                    )),
            );
        }
    }
}
