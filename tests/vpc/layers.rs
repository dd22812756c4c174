//! How ACLs, groups and Kubernetes policy stand beside each other: the comparison table (F10, A40, A42, A49 to A51).

use crate::gateway::Gateway;
use crate::place::{WORKER, account, acl, group};

const ATTACH: (&str, &str) = ("z.ibmcloud", "ibmcloud is subnet-update zone-1 --network-acl-id a");

fn tcp(port: u16) -> String {
    format!("in tcp 1.1.1.1:9 > {WORKER}:{port}")
}

/// A42, CMP-3: both must allow; whoever denied is named.
#[test]
fn a42_f10_the_layers_are_anded_and_the_one_that_blocks_is_named() {
    let acls = [acl(
        "a",
        &[],
        &[
            "in allow inbound tcp 0.0.0.0/0 0.0.0.0/0 dport-min=80 dport-max=90",
            "out allow outbound all 0.0.0.0/0 0.0.0.0/0",
        ],
    )];
    let groups = [group("g", &["nic-1"], &["inbound tcp any port-min=85 port-max=95"])];
    let mut gateway = Gateway::new("", &[("account.json", &account(&acls, &groups)), ATTACH]);
    for (port, expected) in [
        (84, "drop sg-no-match sg"),
        (85, "pass sg-allow sg g#0"),
        (90, "pass sg-allow sg g#0"),
        (91, "drop acl-implicit-deny acl"),
        (95, "drop acl-implicit-deny acl"),
        (96, "drop acl-implicit-deny acl"),
    ] {
        gateway.check("A42", &tcp(port), expected);
    }
    gateway.check("A42 outbound: the group first", &format!("out tcp {WORKER}:9 > 1.1.1.1:80"), "drop sg-no-match sg");
    // CMP-8: each layer is optional.
    let mut acl_only = Gateway::new("", &[("account.json", &account(&acls, &[])), ATTACH]);
    acl_only.check("CMP-8", &tcp(84), "pass acl-allow acl a#0");
    let mut group_only = Gateway::new("", &[("account.json", &account(&[], &groups))]);
    group_only.check("CMP-8", &tcp(95), "pass sg-allow sg g#0");
}

/// A39 beside A38: the ACL forgets what the group remembers, and a denied packet leaves nothing behind (GW-10).
#[test]
fn a38_a39_the_group_remembers_and_the_acl_does_not() {
    let acls =
        [acl("a", &[], &["in allow inbound tcp 0.0.0.0/0 0.0.0.0/0", "out allow outbound tcp 0.0.0.0/0 1.1.1.1"])];
    let groups = [group("g", &["nic-1"], &["inbound tcp any"])];
    let mut gateway = Gateway::new("", &[("account.json", &account(&acls, &groups)), ATTACH]);
    for (client, reply) in [("1.1.1.1", "pass established"), ("1.1.1.2", "drop acl-implicit-deny established")] {
        gateway.check_next("A38", &format!("in tcp {client}:9 > {WORKER}:80"), "pass new");
        gateway.check_next("A39", &format!("out tcp {WORKER}:80 > {client}:9 [SA]"), reply);
    }
    assert_eq!(gateway.flows().count(), 2);
    gateway.check_next("GW-10", &format!("out tcp {WORKER}:9 > 1.1.1.1:80"), "drop sg-no-match");
    assert_eq!(gateway.flows().count(), 2, "GW-10: a denied packet leaves no entry");
}

/// A40: a subnet has one ACL, the last it was given; one ACL serves several subnets; one group serves all workers.
#[test]
fn a40_f10_one_acl_per_subnet_and_one_group_for_all_workers() {
    let acls = [acl("a", &[], &[]), acl("b", &[], &["in allow inbound tcp 0.0.0.0/0 0.0.0.0/0"])];
    let groups = [group("g", &["nic-1"], &["inbound tcp any port-min=80 port-max=80"])];
    let script = "
ibmcloud is subnet-update zone-1 --network-acl-id a
ibmcloud is subnet-update zone-1 --network-acl-id b
ibmcloud is subnet-update zone-2 --network-acl-id b
";
    let files = account(&acls, &groups);
    let mut gateway =
        Gateway::new("securityGroupMembers: { g: [10.240.1.5] }", &[("account.json", &files), ("z.ibmcloud", script)]);
    for worker in [WORKER, "10.240.1.5"] {
        gateway.check("A40", &format!("in tcp 1.1.1.1:9 > {worker}:80"), "pass g#0");
        gateway.check("A40", &format!("in tcp 1.1.1.1:9 > {worker}:81"), "drop sg-no-match");
    }
    let acls = &gateway.policy.acls;
    let listed = |name: &str| acls.iter().find(|acl| acl.name == name).map(|acl| acl.subnets.len());
    assert_eq!((listed("a"), listed("b")), (Some(0), Some(2)), "A40");
}

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: square, labels: { shape: square } }
---
apiVersion: v1
kind: Namespace
metadata: { name: round, labels: { shape: round } }
---
apiVersion: v1
kind: Pod
metadata: { name: server, namespace: round, labels: { color: blue } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 172.17.0.1 }
---
apiVersion: v1
kind: Pod
metadata: { name: red-square, namespace: square, labels: { color: red } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 172.17.0.2 }
---
apiVersion: v1
kind: Pod
metadata: { name: green-square, namespace: square, labels: { color: green } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 172.17.0.3 }
---
apiVersion: v1
kind: Pod
metadata: { name: red-round, namespace: round, labels: { color: red } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 172.17.0.4 }
";

const COMBINED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: red-squares, namespace: round }
spec:
  podSelector: { matchLabels: { color: blue } }
  ingress:
    - from: [{ podSelector: { matchLabels: { color: red } }, namespaceSelector: { matchLabels: { shape: square } } }]
";

/// A49, A50: Kubernetes policy is about pods, none exists by default, and the worker's own address is not its business.
#[test]
fn a49_a50_f10_kubernetes_policy_is_for_pods_and_absent_by_default() {
    let files = account(&[], &[]);
    let mut bare = Gateway::new("", &[("account.json", &files), ("pods.yaml", PODS)]);
    let mut policed = Gateway::new("", &[("account.json", &files), ("pods.yaml", PODS), ("policy.yaml", COMBINED)]);
    let to_pod = "in tcp 172.17.0.4:9 > 172.17.0.1:80";
    bare.check("A50", to_pod, "pass profile workload");
    policed.check("A49 pod", to_pod, "drop tier-default-deny workload");
    policed.check("A49 worker", &tcp(80), "pass allow-all-network-acl-v1#0");
    policed.check("A49 other pod", "in tcp 1.1.1.1:9 > 172.17.0.4:80", "pass profile workload");
}

/// A51: both selectors in one peer are combined: the pod and its namespace must fit.
#[test]
fn a51_pod_and_namespace_selectors_combine() {
    let mut gateway = Gateway::new("", &[("pods.yaml", PODS), ("policy.yaml", COMBINED)]);
    for (source, expected) in [
        ("172.17.0.2", "pass round/knp.default.red-squares#0"),
        ("172.17.0.3", "drop tier-default-deny"),
        ("172.17.0.4", "drop tier-default-deny"),
        ("1.1.1.1", "drop tier-default-deny"),
    ] {
        gateway.check("A51", &format!("in tcp {source}:9 > 172.17.0.1:80"), expected);
    }
}
