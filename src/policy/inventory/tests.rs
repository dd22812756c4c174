//! Files with Kubernetes objects in, endpoints and services out: one line per case of sections 5 and 13.

use crate::base::diagnostic::Diagnostics;
use crate::policy::ir::{Labels, Policy, Service};
use crate::policy::load::{LoadOptions, load};
use crate::policy::source::{Source, collect};

/// Loads one file; the findings as `severity code`, in order.
fn load_text(text: &str) -> (Option<Policy>, Vec<String>) {
    let mut out = Diagnostics::new();
    let policy = load(&[Source::new("a.yaml", text)], &LoadOptions::default(), &mut out);
    (policy, out.iter().map(|d| format!("{:?} {}", d.severity, d.code)).collect())
}

fn load_clean(text: &str) -> Policy {
    let (policy, codes) = load_text(text);
    assert_eq!(codes, Vec::<String>::new(), "{text}");
    policy.unwrap()
}

fn pod(name: &str, rest: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!("---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, {rest}}}\n")
}

fn labels(text: &str) -> Labels {
    text.split_whitespace().filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}

#[test]
fn pods_inherit_labels_and_their_own_win_id_1_id_2_knp_8() {
    let long = "s".repeat(64);
    let text = format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {{team: green}}}}}}\n\
         ---\n{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: web, namespace: shop, labels: {{tier: one}}}}}}\n{}{}{}",
        pod(
            "shop/a",
            "labels: {run: nginx, pcns.team: mine}}, spec: {serviceAccountName: web}, status: {podIP: 10.0.0.1}"
        ),
        pod("bare/b", "}, status: {podIP: 10.0.0.2}"),
        pod("bare/c", &format!("}}, spec: {{serviceAccountName: {long}}}, status: {{podIP: 10.0.0.3}}")),
    );
    let policy = load_clean(&text);
    let check = |index: usize, expected: &str| assert_eq!(policy.pods[index].labels, labels(expected), "{index}");
    let bare = "pcns.kubernetes.io/metadata.name=bare pcns.projectcalico.org/name=bare \
                projectcalico.org/namespace=bare projectcalico.org/orchestrator=k8s";
    check(0, &format!("{bare} pcsa.projectcalico.org/name=default projectcalico.org/serviceaccount=default"));
    check(1, &format!("{bare} pcsa.projectcalico.org/name={long}"));
    check(
        2,
        "pcns.kubernetes.io/metadata.name=shop pcns.projectcalico.org/name=shop pcns.team=mine \
         pcsa.projectcalico.org/name=web pcsa.tier=one run=nginx projectcalico.org/namespace=shop \
         projectcalico.org/orchestrator=k8s projectcalico.org/serviceaccount=web",
    );
    assert_eq!(policy.pods[2].profiles, ["kns.shop", "ksa.shop.web"]);
    assert_eq!(policy.profiles["kns.bare"].ingress.len(), 1);
    assert_eq!(policy.profiles["ksa.shop.web"].ingress.len(), 0);
}

#[test]
fn only_running_pods_with_their_own_address_are_endpoints_id_1_gw_7() {
    let check = |spec: &str, status: &str, endpoints: usize, errors: &[&str]| {
        let first = pod("a/p", "}, status: {podIP: 10.0.0.1}");
        let second = pod("a/q", &format!("}}, spec: {{{spec}}}, status: {{{status}}}"));
        let (policy, codes) = load_text(&format!("{first}{second}"));
        assert_eq!(codes, errors, "{status}");
        assert_eq!(policy.map_or(0, |p| p.pods.len()), endpoints, "{status}");
    };
    check("", "podIP: 10.0.0.1", 0, &["Error duplicate-pod-address"]);
    check("", "podIP: 10.0.0.1, phase: Pending", 0, &["Error duplicate-pod-address"]);
    check("", "podIP: 10.0.0.1, phase: Succeeded", 1, &[]);
    check("", "podIP: 10.0.0.1, phase: Failed", 1, &[]);
    check("hostNetwork: true", "podIP: 10.0.0.1", 1, &[]);
    check("", "podIP: 10.0.0.2", 2, &[]);
    check("", "podIP: '', phase: Pending", 2, &[]);
    check("", "podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}, {ip: '2001:db8::1'}]", 2, &[]);
    check("", "podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}, {ip: 10.0.0.1}]", 0, &["Error duplicate-pod-address"]);
    check("", "podIP: 10.0.0.0/24", 0, &["Error bad-address"]);
    check("", "phase: Done", 0, &["Error unknown-value"]);
    check("hostNetwork: 'true'", "", 0, &["Error wrong-type"]);
    check("nodeName: x, tolerations: [{}], anyNewField: {a: [1]}", "qosClass: Burstable, startTime: x", 2, &[]);
}

#[test]
fn nodes_give_internal_and_external_addresses_gw_8() {
    let node = |name: &str, addresses: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, spec: {{podCIDR: x}}, status: {{addresses: [{addresses}]}}}}\n"
        )
    };
    let text = node(
        "b",
        "{type: ExternalIP, address: 169.1.1.1}, {type: Hostname, address: b}, {type: InternalIP, address: 10.0.0.2}",
    ) + &node(
        "a",
        "{type: InternalIP, address: 10.0.0.1}, {type: InternalIP, address: 10.0.0.2}, {type: InternalDNS, address: x}",
    );
    let addresses: Vec<String> = load_clean(&text).node_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "169.1.1.1"]);
}

fn service(spec: &str, rest: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop}}, spec: {{{spec}}}{rest}}}\n"
    )
}

/// `protocol/port/nodePort -> backends` for each port.
fn table(service: &Service) -> Vec<String> {
    let port = |p: &crate::policy::ir::ServicePort| {
        let backends: Vec<String> = p.backends.iter().map(|(a, port)| format!("{a}|{port}")).collect();
        format!("{}/{}/{} -> {}", p.protocol, p.port, p.node_port.unwrap_or(0), backends.join(" "))
    };
    service.ports.iter().map(port).collect()
}

const PODS: &str = "
--- {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop, labels: {run: web}}, spec: {containers: [{ports: [{name: http, containerPort: 8081}, {name: dns, containerPort: 53, protocol: UDP}]}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: '2001:db8::2'}]}}
--- {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {run: web}}, spec: {containers: [{ports: [{name: http, containerPort: 8080}]}]}, status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}}
--- {apiVersion: v1, kind: Pod, metadata: {name: unready, namespace: shop, labels: {run: web}}, status: {phase: Running, podIP: 10.0.0.3, conditions: [{type: Ready, status: 'False'}]}}
--- {apiVersion: v1, kind: Pod, metadata: {name: done, namespace: shop, labels: {run: web}}, status: {phase: Failed, podIP: 10.0.0.4}}
--- {apiVersion: v1, kind: Pod, metadata: {name: host, namespace: shop, labels: {run: web}}, spec: {hostNetwork: true}, status: {podIP: 10.9.0.5}}
--- {apiVersion: v1, kind: Pod, metadata: {name: elsewhere, namespace: other, labels: {run: web}}, status: {podIP: 10.0.0.6}}
--- {apiVersion: v1, kind: Pod, metadata: {name: different, namespace: shop, labels: {run: db}}, status: {podIP: 10.0.0.7}}
";

#[test]
fn backends_come_from_ready_pods_by_selector_svc_1_gw_8() {
    let check = |spec: &str, expected: &[&str]| {
        let policy = load_clean(&format!("{}{PODS}", service(&format!("selector: {{run: web}}, {spec}"), "")));
        assert_eq!(table(&policy.services[0]), expected, "{spec}");
    };
    check("ports: [{port: 80}]", &["6/80/0 -> 10.0.0.1|80 10.0.0.2|80 10.9.0.5|80 2001:db8::2|80"]);
    check("ports: [{port: 80, targetPort: 0}]", &["6/80/0 -> 10.0.0.1|80 10.0.0.2|80 10.9.0.5|80 2001:db8::2|80"]);
    check("ipFamilies: [IPv4], ports: [{port: 80, targetPort: 1}]", &["6/80/0 -> 10.0.0.1|1 10.0.0.2|1 10.9.0.5|1"]);
    check("ipFamilies: [IPv6], ports: [{port: 80, targetPort: 1}]", &["6/80/0 -> 2001:db8::2|1"]);
    check("ports: [{port: 80, targetPort: http}]", &["6/80/0 -> 10.0.0.1|8080 10.0.0.2|8081 2001:db8::2|8081"]);
    check("ports: [{port: 80, targetPort: dns}]", &["6/80/0 -> "]);
    check("ports: [{port: 80, targetPort: dns, protocol: UDP}]", &["17/80/0 -> 10.0.0.2|53 2001:db8::2|53"]);
    check(
        "publishNotReadyAddresses: true, ipFamilies: [IPv4], ports: [{port: 80}]",
        &["6/80/0 -> 10.0.0.1|80 10.0.0.2|80 10.0.0.3|80 10.9.0.5|80"],
    );
    let none = load_clean(&format!("{}{PODS}", service("ports: [{port: 80}]", "")));
    assert_eq!(table(&none.services[0]), ["6/80/0 -> "]);
}

#[test]
fn slices_win_over_endpoints_and_endpoints_over_pods_svc_1_gw_8() {
    let web = service(
        "type: NodePort, selector: {run: web}, ports: [{name: w, port: 80, nodePort: 30080}, {name: d, port: 53, protocol: UDP}]",
        "",
    );
    let endpoints = "
--- {apiVersion: v1, kind: Endpoints, metadata: {name: web, namespace: shop}, subsets: [{addresses: [{ip: 10.1.0.2, nodeName: n}, {ip: 10.1.0.1}], notReadyAddresses: [{ip: 10.1.0.3}], ports: [{name: w, port: 8080}, {name: d, port: 5353, protocol: UDP}]}, {addresses: [{ip: 10.1.0.4}], ports: [{name: w, port: 9090}]}]}
";
    let slices = "
--- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: w, port: 8080, protocol: TCP}, {name: d, port: 53}], endpoints: [{addresses: [10.2.0.2, 10.2.0.9], conditions: {ready: true, serving: true}}, {addresses: [10.2.0.1]}, {addresses: [10.2.0.3], conditions: {ready: false}}]}
--- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-y, namespace: shop, labels: {kubernetes.io/service-name: web}}, addressType: IPv6, ports: [{name: w, port: 8080}], endpoints: [{addresses: ['2001:db8::1'], nodeName: n, zone: z}]}
--- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-z, namespace: other, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: w, port: 8080}], endpoints: [{addresses: [10.2.0.8]}]}
";
    let check = |parts: &[&str], expected: &[&str]| {
        let policy = load_clean(&parts.concat());
        assert_eq!(table(&policy.services[0]), expected);
    };
    check(
        &[&web, PODS, endpoints],
        &["6/80/30080 -> 10.1.0.1|8080 10.1.0.2|8080 10.1.0.4|9090", "17/53/0 -> 10.1.0.1|5353 10.1.0.2|5353"],
    );
    check(
        &[endpoints, slices, PODS, &web],
        &["6/80/30080 -> 10.2.0.1|8080 10.2.0.2|8080 2001:db8::1|8080", "17/53/0 -> "],
    );
}

#[test]
fn keys_follow_the_type_svc_2() {
    let check = |spec: &str, rest: &str, expected: (&str, &str, Option<u16>)| {
        let policy = load_clean(&service(&format!("ports: [{{port: 80, nodePort: 30080}}], {spec}"), rest));
        let found = &policy.services[0];
        let show = |list: &[std::net::IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let seen = (show(&found.cluster_addresses), show(&found.balancer_addresses), found.ports[0].node_port);
        assert_eq!((seen.0.as_str(), seen.1.as_str(), seen.2), expected, "{spec} {rest}");
    };
    let granted = ", status: {loadBalancer: {ingress: [{ip: 169.1.1.1}, {ip: 169.1.1.2, ipMode: VIP, ports: []}, \
                   {ip: 169.1.1.3, ipMode: Proxy}, {hostname: x}]}}";
    check("type: LoadBalancer", granted, ("", "169.1.1.1 169.1.1.2", Some(30080)));
    check("type: LoadBalancer, loadBalancerIP: 169.9.9.9", granted, ("", "169.1.1.1 169.1.1.2", Some(30080)));
    check("type: LoadBalancer, loadBalancerIP: 169.9.9.9", "", ("", "169.9.9.9", Some(30080)));
    check("type: LoadBalancer, externalIPs: [1.2.3.4]", granted, ("1.2.3.4", "169.1.1.1 169.1.1.2", Some(30080)));
    check("type: NodePort, clusterIP: 172.21.0.1", granted, ("172.21.0.1", "", Some(30080)));
    check(
        "type: NodePort, clusterIP: 172.21.0.1, clusterIPs: [172.21.0.1, 'fd00::1']",
        "",
        ("172.21.0.1 fd00::1", "", Some(30080)),
    );
    check("type: LoadBalancer, allocateLoadBalancerNodePorts: false", "", ("", "", Some(30080)));
    let none = load_clean(&service("type: LoadBalancer, ports: [{port: 80, nodePort: 0}]", ""));
    assert_eq!(none.services[0].ports[0].node_port, None);
    let headless = load_clean(&service("clusterIP: None, externalIPs: [1.2.3.4], ports: [{port: 80}]", ""));
    assert!(headless.services[0].cluster_addresses.is_empty());
    let named = load_clean(&service("type: ExternalName, externalName: example.com, ports: [{port: 80}]", ""));
    assert!(named.services[0].cluster_addresses.is_empty());
}

#[test]
fn the_stand_in_example_loads_whole() {
    let beside = std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let found = [Some(beside), std::env::var_os("RINGWALL_SHARED").map(Into::into)];
    let Some(shared) = found.into_iter().flatten().find(|path| path.is_dir()) else {
        return println!("skipped: the shared examples are not there");
    };
    let mut out = Diagnostics::new();
    let folder = shared.join("spec/examples/kubernetes-stand-in");
    let sources = collect(&["policies".into()], &folder, &mut out);
    let policy = load(&sources, &LoadOptions::default(), &mut out).unwrap();
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(table(&policy.services[0]), ["6/80/30080 -> 172.30.1.10|8080"]);
    assert_eq!(policy.pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["client-1", "nginx-1"]);
    let rules = policy.rulesets.iter().find(|rules| rules.display == "shop/knp.default.access-nginx").unwrap();
    assert_eq!(policy.pods.iter().map(|pod| rules.selector.evaluate(&pod.labels)).collect::<Vec<_>>(), [false, true]);
    let source = &rules.ingress.as_deref().unwrap()[0].source;
    let reached = policy.pods.iter().map(|pod| source.selector.as_ref().unwrap().evaluate(&pod.labels));
    assert_eq!(reached.collect::<Vec<_>>(), [true, false]);
    assert!(policy.converted["shop/knp.default.access-nginx"].contains("run == 'access'"));
}

#[test]
fn service_faults_are_reported_svc_4_in_3() {
    let check = |spec: &str, expected: &[&str]| assert_eq!(load_text(&service(spec, "")).1, expected, "{spec}");
    check("ports: [{port: 80}, {name: b, port: 81}]", &["Error missing-port-name"]);
    check("ports: [{name: a, port: 80}, {name: a, port: 81}]", &["Error duplicate-port-name"]);
    check("ports: [{name: a, port: 80}, {name: b, port: 80}]", &["Error duplicate-port"]);
    check("ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]", &[]);
    check("type: NodePort, ports: [{port: 80, nodePort: 8080}]", &["Warning unusual-node-port"]);
    check("ports: [{port: 80, nodePort: 30080}]", &["Warning node-port-unused"]);
    check("ports: [{port: 0}]", &["Error out-of-range"]);
    check("ports: [{port: 80, targetport: 8080}]", &["Error unknown-field"]);
    check("ports: [{port: 80, targetPort: '8080'}]", &["Error bad-port"]);
    check("ports: [{port: 80, protocol: tcp}]", &["Error unknown-value"]);
    check("type: loadbalancer, ports: [{port: 80}]", &["Error unknown-value"]);
    check("Selector: {run: web}, ports: [{port: 80}]", &["Error unknown-field"]);
    check("externalIPs: [10.0.0.0/8], ports: [{port: 80}]", &["Error bad-address"]);
    check("loadBalancerSourceRanges: [10.0.0.1], ports: [{port: 80}]", &["Error bad-cidr"]);
    check("loadBalancerSourceRanges: [10.0.0.1/8], ports: [{port: 80}]", &["Warning host-bits"]);
    check(
        "ports: [{port: 80, appProtocol: http}], sessionAffinity: None, externalTrafficPolicy: Local, \
         internalTrafficPolicy: Cluster, ipFamilyPolicy: SingleStack, healthCheckNodePort: 30000, loadBalancerClass: x, \
         trafficDistribution: PreferClose, sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}",
        &[],
    );
}
