//! Valid documents with one value replaced by another in, no panic and never a policy beside an error out.

use ringwall::base::diagnostic::Diagnostics;
use ringwall::policy::load::{LoadOptions, load};
use ringwall::policy::source::Source;
use serde_json::{Value, json};

/// What takes the place of a value.
fn replacements() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(70000),
        json!(1.5),
        json!(""),
        json!("x"),
        json!("<placeholder>"),
        json!("10.0.0.0/8"),
        json!([]),
        json!([null]),
        json!([{}]),
        json!({}),
        json!({"": ""}),
    ]
}

/// Pointers to every value inside a document, the document itself included.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_string());
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| pointers(v, &format!("{at}/{i}"), found)),
        Value::Object(map) => map.iter().for_each(|(k, v)| pointers(v, &format!("{at}/{}", escape(k)), found)),
        _ => {}
    }
}

/// Loads every one-value mutation of a document; returns how many were refused and how many loaded.
fn mutate(document: &Value) -> (usize, usize) {
    let mut all = Vec::new();
    pointers(document, "", &mut all);
    let (mut refused, mut loaded) = (0, 0);
    for pointer in &all {
        for replacement in replacements() {
            let mut mutated = document.clone();
            if let Some(place) = mutated.pointer_mut(pointer) {
                *place = replacement;
            }
            for lenient in [false, true] {
                let mut out = Diagnostics::new();
                let source = Source::new("a.json", mutated.to_string());
                let policy = load(&[source], &LoadOptions { lenient, ..LoadOptions::default() }, &mut out);
                assert_eq!(policy.is_none(), out.has_errors(), "{pointer}: {mutated}");
                *(if policy.is_none() { &mut refused } else { &mut loaded }) += 1;
            }
        }
    }
    (refused, loaded)
}

fn check(document: Value) {
    let mut out = Diagnostics::new();
    let whole = load(&[Source::new("a.json", document.to_string())], &LoadOptions::default(), &mut out);
    assert!(whole.is_some(), "{document}: {out:?}");
    let (refused, loaded) = mutate(&document);
    assert!(refused > 20 && loaded > 20, "{refused} {loaded}: {document}");
}

#[test]
fn kubernetes_policies_survive_any_single_mutation() {
    check(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {
            "podSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"podSelector": {}}],
                         "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}, {"port": "http"}]}],
            "egress": [{"to": [{"namespaceSelector": {}, "podSelector": {}}]}]
        }
    }));
}

#[test]
fn inventories_survive_any_single_mutation() {
    check(json!([
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
         "spec": {"serviceAccountName": "s", "hostNetwork": false, "containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
         "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": "True"}]}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
         "spec": {"type": "LoadBalancer", "selector": {"a": "b"}, "clusterIP": "172.21.0.1", "ipFamilies": ["IPv4"],
                  "loadBalancerSourceRanges": ["10.0.0.0/8"], "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}]},
         "status": {"loadBalancer": {"ingress": [{"ip": "169.1.1.1", "ipMode": "VIP"}]}}},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
         "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]}
    ]));
}

#[test]
fn resources_of_calicoctl_1_survive_any_single_mutation() {
    check(json!([
        {"apiVersion": "v1", "kind": "policy", "metadata": {"name": "p"},
         "spec": {"order": 1, "selector": "a == 'b'", "preDNAT": true, "types": ["ingress"],
                  "ingress": [{"action": "deny", "protocol": "tcp", "source": {"net": "10.0.0.0/8", "tag": "t"},
                               "destination": {"ports": [80, "90:99"]}},
                              {"action": "allow", "protocol": "icmp", "icmp": {"type": 8, "code": 0}, "ipVersion": 4}]}},
        {"apiVersion": "v1", "kind": "profile", "metadata": {"name": "f", "tags": ["t"], "labels": {"a": "b"}}, "spec": {"egress": [{"action": "allow"}]}},
        {"apiVersion": "v1", "kind": "hostEndpoint", "metadata": {"name": "e", "node": "n", "labels": {"a": "b"}},
         "spec": {"interfaceName": "eth0", "expectedIPs": ["10.0.0.1"], "profiles": ["f"], "ports": [{"name": "h", "protocol": "tcp", "port": 80}]}}
    ]));
}

#[test]
fn accounts_survive_any_single_mutation() {
    check(json!({
        "network_acls": [{"id": "a", "name": "acl", "vpc": {"id": "v", "name": "vpc"}, "subnets": [{"id": "s", "name": "sub"}], "rules": [
            {"id": "r1", "name": "one", "action": "allow", "direction": "inbound", "ip_version": "ipv4", "protocol": "tcp", "source": "0.0.0.0/0",
             "destination": "10.0.0.0/8", "destination_port_min": 1, "destination_port_max": 80, "before": {"id": "r2", "name": "two"}},
            {"id": "r2", "name": "two", "action": "deny", "direction": "outbound", "protocol": "icmp", "type": 8, "code": 0,
             "source": "0.0.0.0/0", "destination": "0.0.0.0/0"}]}],
        "security_groups": [{"id": "g", "name": "group", "targets": [{"id": "n"}], "rules": [
            {"id": "x", "direction": "inbound", "protocol": "udp", "port_min": 1, "port_max": 2, "remote": {"id": "g", "name": "group"}, "local": {"cidr_block": "0.0.0.0/0"}}]}],
        "subnets": [{"id": "s", "name": "sub", "ipv4_cidr_block": "10.0.0.0/24", "network_acl": {"id": "a", "name": "acl"}}],
        "instances": [{"id": "i", "network_interfaces": [{"id": "n", "primary_ip": {"address": "10.0.0.4"}, "security_groups": [{"id": "g"}]}]}],
        "endpoint_gateways": [{"id": "e", "ips": [{"address": "10.0.0.5"}], "security_groups": [{"name": "group"}]}]
    }));
}
