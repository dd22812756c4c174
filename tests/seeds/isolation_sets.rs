//! The published isolation sets of one region with two workers and some pods (section E, and A28, A32).

use crate::gateway::{Gateway, files, shared};
use crate::place::{GATEWAY, SERVICE, WORKERS, namespace, pod};
use ringwall::policy::source::Source;

fn inventory() -> String {
    [
        namespace("kube-system", "a: b"),
        namespace("openshift-ingress", "a: b"),
        namespace("openshift-console", "a: b"),
        namespace("openshift-monitoring", "a: b"),
        namespace("openshift-operator-lifecycle-manager", "a: b"),
        namespace("shop", "a: b"),
        pod("shop", "web", "172.30.20.1", "app: web"),
        pod("kube-system", "vpn", "172.30.20.2", "app: vpn"),
        pod("kube-system", "konnectivity", "172.30.20.3", "app: konnectivity-agent"),
        pod("openshift-operator-lifecycle-manager", "olm", "172.30.20.4", "app: olm"),
        pod("openshift-ingress", "router", "172.30.20.5", "app: router"),
        pod("openshift-console", "console", "172.30.20.6", "app: console"),
        pod("openshift-console", "other", "172.30.20.7", "app: other"),
        pod("openshift-monitoring", "prometheus", "172.30.20.8", "app: prometheus"),
        pod("kube-system", "agent", "172.30.20.9", "kubernetes-dashboard-policy: allow"),
        pod("kube-system", "dashboard", "172.30.20.10", "k8s-app: kubernetes-dashboard"),
    ]
    .join("")
}

/// Files of a set, less those whose names hold one of these words, and the default policies.
fn set(side: &str, region: &str, without: &[&str]) -> Option<Gateway> {
    let folder = shared()?.join("corpus/kube-samples/HEAD/calico-policies").join(format!("{side}-network-isolation"));
    let mut sources = files(&folder, &[region]);
    sources.retain(|s| !s.path.contains("hostendpoint") && !without.iter().any(|word| s.path.contains(word)));
    let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    sources.extend(files(project, &["policies/defaults"]));
    sources.extend([WORKERS, SERVICE].map(|(name, text)| Source::new(name, text)));
    sources.push(Source::new("inventory.yaml", inventory()));
    let (policy, _) = crate::gateway::read_sources(&sources).unwrap_or_else(|e| panic!("{e:#?}"));
    Some(Gateway::with_policy(GATEWAY, policy))
}

fn check(row: &str, gateway: &mut Gateway, cases: &[(&str, &str)]) {
    for (packet, expected) in cases {
        gateway.check(row, packet, expected);
    }
}

#[test]
fn e1_a28_egress_of_pods() {
    let Some(mut public) = set("public", "us-south", &["services"]) else { return };
    let by = "pass allow-egress-pods-public";
    check(
        "E1 public (A28)",
        &mut public,
        &[
            ("out udp 172.30.20.1:1 > 8.8.8.8:53", &format!("{by}#0")),
            ("out tcp 172.30.20.1:1 > 8.8.8.8:53", &format!("{by}#1")),
            ("out tcp 172.30.20.1:1 > 8.8.8.8:4443", &format!("{by}#1")),
            ("out tcp 172.30.20.1:1 > 8.8.8.8:6443", &format!("{by}#1")),
            ("out udp 172.30.20.1:1 > 8.8.8.8:4443", "drop"),
            ("out udp 172.30.20.1:1 > 8.8.8.8:6443", "drop"),
            ("out tcp 172.30.20.1:1 > 8.8.8.8:80", "drop tier-default-deny"),
            ("out udp 172.30.20.1:1 > 172.20.0.5:2040", &format!("{by}#2")),
            ("out tcp 172.30.20.1:1 > 172.20.0.5:2040", &format!("{by}#3")),
            ("out tcp 172.30.20.1:1 > 172.20.0.255:2041", &format!("{by}#3")),
            ("out tcp 172.30.20.1:1 > 172.20.1.0:2040", "drop"),
            ("out tcp 172.30.20.1:1 > 172.20.0.5:2039", "drop"),
            ("out tcp 172.30.20.1:1 > 172.20.0.5:2042", "drop"),
            ("out tcp 172.30.20.1:1 > 50.22.129.34:20000", "pass"),
            ("out udp 172.30.20.1:1 > 50.22.129.34:32767", "pass"),
            ("out tcp 172.30.20.1:1 > 50.22.129.34:19999", "drop"),
            ("out tcp 172.30.20.1:1 > 50.22.129.34:32768", "drop"),
            ("out tcp 172.30.20.1:1 > 50.22.129.33:20000", "drop"),
            ("out tcp 172.30.20.1:1 > 50.22.129.35:20000", "drop"),
            // Pods of all namespaces, and egress only.
            ("out tcp 172.30.20.10:1 > 8.8.8.8:80", "drop"),
            ("in tcp 8.8.8.8:1 > 172.30.20.1:80", "pass profile"),
        ],
    );
    let Some(mut private) = set("private", "us-south", &["services"]) else { return };
    let by = "pass allow-egress-pods-private";
    check(
        "E1 private",
        &mut private,
        &[
            ("out tcp 172.30.20.1:1 > 172.30.20.10:9999", &format!("{by}#4")),
            ("out tcp 172.30.20.1:1 > 8.8.8.8:80", &format!("{by}#5")),
            ("out tcp 172.30.20.1:1 > 9.255.255.255:80", &format!("{by}#5")),
            ("out tcp 172.30.20.1:1 > 10.0.0.0:80", "drop"),
            ("out tcp 172.30.20.1:1 > 10.255.255.255:80", "drop"),
            ("out tcp 172.30.20.1:1 > 11.0.0.0:80", &format!("{by}#5")),
            ("out tcp 172.30.20.1:1 > 172.15.255.255:80", &format!("{by}#5")),
            ("out tcp 172.30.20.1:1 > 172.16.0.0:80", "drop"),
            ("out tcp 172.30.20.1:1 > 172.31.255.255:80", "drop"),
            ("out tcp 172.30.20.1:1 > 172.32.0.0:80", &format!("{by}#5")),
            ("out tcp 172.30.20.1:1 > 192.167.255.255:80", &format!("{by}#5")),
            ("out tcp 172.30.20.1:1 > 192.168.0.0:80", "drop"),
            ("out tcp 172.30.20.1:1 > 192.168.255.255:80", "drop"),
            ("out tcp 172.30.20.1:1 > 192.169.0.0:80", &format!("{by}#5")),
        ],
    );
}

#[test]
fn e2_e4_e13_ports_of_workers() {
    let Some(mut public) = set("public", "us-south", &["services"]) else { return };
    let by = "pass allow-ibm-ports-public";
    check(
        "E2 public",
        &mut public,
        &[
            ("in udp 9.9.9.9:1 > 10.1.1.1:53", &format!("{by}#0")),
            ("in tcp 9.9.9.9:1 > 10.1.1.1:5353", &format!("{by}#1")),
            ("in tcp 9.9.9.9:1 > 10.1.1.1:52311", &format!("{by}#1")),
            ("in tcp 9.9.9.9:1 > 10.1.1.1:10250", "drop"),
            ("out tcp 10.1.1.1:1 > 9.9.9.9:443", &format!("{by}#1")),
            ("out tcp 10.1.1.1:1 > 172.20.0.9:2041", &format!("{by}#5")),
            ("out tcp 10.1.1.1:1 > 172.20.1.0:2041", "drop deny-all-outbound-public#0"),
            // E13: after translation the destination is a pod.
            ("out tcp 10.1.1.1:1 > 172.30.0.0:9999", &format!("{by}#6")),
            ("out 99 10.1.1.1 > 172.30.255.255", &format!("{by}#6")),
            ("out tcp 10.1.1.1:1 > 172.29.255.255:9999", "drop deny-all-outbound-public#0"),
            ("out tcp 10.1.1.1:1 > 172.31.0.0:9999", "drop deny-all-outbound-public#0"),
        ],
    );
    check(
        "E4",
        &mut public,
        &[
            // After the allows (1500), before the default allow of everything (1900).
            ("out tcp 10.1.1.1:1 > 9.9.9.9:80", "drop deny-all-outbound-public#0"),
            ("out icmp 10.1.1.1 > 9.9.9.9", "drop deny-all-outbound-public#0"),
            ("out tcp 10.9.9.1:1 > 9.9.9.9:80", "pass allow-all-private-default#0"),
        ],
    );
    let Some(mut private) = set("private", "us-south", &["services"]) else { return };
    let by = "pass allow-ibm-ports-private";
    check(
        "E2 private",
        &mut private,
        &[
            ("in tcp 10.77.0.1:1 > 10.9.9.1:10250", &format!("{by}#1")),
            ("in udp 10.77.0.1:1 > 10.9.9.1:52311", &format!("{by}#0")),
            ("out tcp 10.9.9.1:1 > 172.21.0.1:443", &format!("{by}#5")),
            ("out udp 10.9.9.1:1 > 10.10.10.1:443", &format!("{by}#4")),
            ("out tcp 10.9.9.1:1 > 172.21.0.0:443", "drop deny-all-private-default#0"),
            ("out tcp 10.9.9.1:1 > 172.21.0.2:443", "drop deny-all-private-default#0"),
            ("out tcp 10.9.9.1:1 > 10.10.10.1:442", "drop deny-all-private-default#0"),
        ],
    );
}

#[test]
fn e3_e6_service_endpoints_and_services() {
    let Some(mut public) = set("public", "us-south", &[]) else { return };
    check(
        "E3",
        &mut public,
        &[
            ("out tcp 10.1.1.1:1 > 50.22.129.34:20000", "pass"),
            ("out udp 10.1.1.1:1 > 50.22.129.34:443", "pass"),
            ("out tcp 10.1.1.1:1 > 50.22.129.34:19999", "drop deny-all-outbound-public#0"),
            ("out tcp 10.1.1.1:1 > 50.22.129.35:20000", "drop deny-all-outbound-public#0"),
        ],
    );
    check(
        "E6",
        &mut public,
        &[
            // 1800 comes before the deny of 1850.
            ("out tcp 10.1.1.1:1 > 169.60.98.80:4443", "pass allow-public-services#0"),
            ("out tcp 10.1.1.1:1 > 169.60.98.87:4443", "pass allow-public-services#0"),
            ("out tcp 10.1.1.1:1 > 169.60.98.79:4443", "drop deny-all-outbound-public#0"),
            ("out tcp 10.1.1.1:1 > 169.60.98.88:4443", "drop deny-all-outbound-public#0"),
            ("out tcp 172.30.20.1:1 > 169.60.151.174:6443", "pass"),
            ("out udp 172.30.20.1:1 > 169.60.98.80:4443", "drop tier-default-deny"),
        ],
    );
}

#[test]
fn e5_policies_of_cluster_services() {
    let Some(mut gateway) = set("public", "us-south", &["services"]) else { return };
    let olm = "kube-system/allow-kube-system-to-olm";
    check(
        "E5",
        &mut gateway,
        &[
            ("out tcp 172.30.20.2:1 > 172.30.20.4:5443", &format!("pass {olm}#0")),
            ("out tcp 172.30.20.2:1 > 172.30.20.4:8081", &format!("pass {olm}#0")),
            ("out tcp 172.30.20.2:1 > 172.30.20.4:8082", "drop"),
            ("out udp 172.30.20.2:1 > 172.30.20.4:5443", "drop"),
            ("out tcp 172.30.20.2:1 > 172.30.20.6:5443", "drop"),
            ("out tcp 172.30.20.10:1 > 172.30.20.4:5443", "drop"),
            ("out tcp 172.30.20.5:1 > 172.30.20.6:8443", "pass openshift-ingress/allow-openshift-console#0"),
            ("out tcp 172.30.20.5:1 > 172.30.20.7:8444", "drop"),
            // `source: { }` is no restriction, and any protocol and destination is meant.
            ("out 99 172.30.20.3 > 9.9.9.9", "pass kube-system/allow-konnectivity#0"),
            ("out tcp 172.30.20.8:1 > 9.9.9.9:7", "pass openshift-monitoring/allow-openshift-metrics#0"),
            ("out tcp 172.30.20.9:1 > 172.30.20.10:8443", "pass"),
            ("out tcp 172.30.20.9:1 > 172.30.20.10:8444", "drop"),
        ],
    );
}

#[test]
fn e7_e8_a32_the_private_side() {
    let Some(mut gateway) = set("private", "us-south", &["services"]) else { return };
    check(
        "E7",
        &mut gateway,
        &[
            ("in tcp 10.9.9.2:1 > 10.9.9.1:8081", "pass allow-all-workers-private#0"),
            ("out tcp 10.9.9.1:1 > 10.9.9.2:8081", "pass allow-all-workers-private#0"),
            ("out tcp 10.9.9.1:1 > 172.30.0.1:8081", "pass allow-all-workers-private#1"),
            ("in tcp 10.9.9.3:1 > 10.9.9.1:8081", "drop deny-all-private-default#0"),
            // The public address of a worker is another endpoint's.
            ("in tcp 10.1.1.2:1 > 10.9.9.1:8081", "drop deny-all-private-default#0"),
        ],
    );
    check(
        "E8",
        &mut gateway,
        &[
            ("in icmp 10.77.0.1 > 10.9.9.1", "pass allow-icmp-private#0"),
            ("out icmp 10.9.9.1 > 10.77.0.1", "drop deny-all-private-default#0"),
            ("in 112 10.77.0.1 > 10.9.9.1", "pass allow-vrrp-private#0"),
            ("out 112 10.9.9.1 > 10.77.0.1", "pass allow-vrrp-private#0"),
            ("in 111 10.77.0.1 > 10.9.9.1", "drop deny-all-private-default#0"),
            ("in tcp 10.0.64.0:1 > 10.9.9.1:9", "pass allow-sys-mgmt-private#0"),
            ("in tcp 10.0.95.255:1 > 10.9.9.1:9", "pass allow-sys-mgmt-private#0"),
            ("in tcp 10.0.96.0:1 > 10.9.9.1:9", "drop deny-all-private-default#0"),
            ("out tcp 10.9.9.1:1 > 10.201.95.255:9", "pass allow-sys-mgmt-private#0"),
            ("out tcp 10.9.9.1:1 > 10.201.96.0:9", "drop deny-all-private-default#0"),
        ],
    );
    // A32: another instance in the same private network.
    gateway.check("A32", "in tcp 10.200.1.1:1 > 10.9.9.2:445", "pass allow-sys-mgmt-private#0");
    gateway.check("A32", "in tcp 10.77.0.1:1 > 10.9.9.2:445", "drop deny-all-private-default#0");
    gateway.check("A32 node ports are not covered", "in tcp 10.77.0.1:1 > 10.9.9.2:31024", "pass profile");
}
