//! Statements of the documents about what policy does (section A), a case or more for each.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::gateway::{Gateway, read};
use crate::place::{
    GATEWAY, SERVICE, WORKERS, balancer_rule, deny_nodeports, global, kubernetes, namespace, pod, prednat,
};

fn with(texts: &[String]) -> Gateway {
    let text = texts.join("");
    Gateway::new(GATEWAY, &[WORKERS, SERVICE, ("policy.yaml", &text)])
}

/// The service's node port and load balancer, from one address.
const NODE_PORT: &str = "in tcp 1.1.1.1:40000 > 10.1.1.1:31024";
const BALANCER: &str = "in tcp 1.1.1.1:40000 > 169.1.1.1:80";

#[test]
fn a7_what_calico_adds() {
    // An interface, whatever the pod's address.
    let own = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\n\
               metadata: { name: gw-up, labels: { side: up } }\nspec: { node: gw-1, interfaceName: up0 }\n"
        .to_string();
    let deny = global(
        "no-mail",
        "{ order: 1, selector: side == 'up', applyOnForward: true, \
           ingress: [{ action: Deny, protocol: TCP, destination: { ports: [25] } }, { action: Allow }] }",
    );
    let mut gateway = with(&[own, deny]);
    for address in ["172.30.1.10", "172.30.2.20", "172.30.77.77", "10.9.9.77"] {
        gateway.check("A7 interface", &format!("in tcp 1.1.1.1:1 > {address}:25"), "drop no-mail#0 host-forward");
        gateway.check("A7 interface", &format!("in tcp 1.1.1.1:1 > {address}:26"), "pass no-mail#1");
    }
    // The other interface has no endpoint.
    gateway.check("A7 other interface", "out tcp 172.30.1.10:1 > 1.1.1.1:25", "pass");

    // Pods of several namespaces in one policy.
    let across = [
        namespace("red", "team: a"),
        namespace("blue", "team: a"),
        namespace("grey", "team: b"),
        pod("red", "r", "172.30.3.1", "app: x"),
        pod("blue", "b", "172.30.3.2", "app: x"),
        pod("grey", "g", "172.30.3.3", "app: x"),
        global(
            "team-a",
            "{ order: 1, namespaceSelector: team == 'a', ingress: [{ action: Allow, source: { namespaceSelector: team == 'a' } }] }",
        ),
    ];
    let mut gateway = with(&across);
    for (from, to, expected) in [
        ("172.30.3.1", "172.30.3.2", "pass team-a#0"),
        ("172.30.3.2", "172.30.3.1", "pass team-a#0"),
        ("172.30.3.3", "172.30.3.1", "drop tier-default-deny"),
        ("1.1.1.1", "172.30.3.2", "drop tier-default-deny"),
        ("172.30.3.1", "172.30.3.3", "pass profile"),
    ] {
        gateway.check("A7 namespaces", &format!("in tcp {from}:1 > {to}:80"), expected);
    }

    // Load balancer and node port.
    let closed = prednat("closed", 1, "{ action: Deny }");
    let mut gateway = with(&[closed]);
    gateway.check("A7 load balancer", BALANCER, "drop closed#0 prednat");
    gateway.check("A7 node port", NODE_PORT, "drop closed#0 prednat");
}

#[test]
fn a16_services_are_reachable_on_every_interface_by_default() {
    let mut gateway = with(&[]);
    for worker in ["10.1.1.1", "10.1.1.2", "10.9.9.1", "10.9.9.2"] {
        gateway.check("A16", &format!("in tcp 1.1.1.1:1 > {worker}:31024"), "pass profile");
        gateway.check("A16", &format!("in udp 1.1.1.1:1 > {worker}:31024"), "pass profile");
        // Nothing translates this one: it is for the worker itself, which has no policy (PIPE-8).
        gateway.check("A16", &format!("in tcp 1.1.1.1:1 > {worker}:31025"), "drop no-policy-deny");
    }
    gateway.check("A16", BALANCER, "pass profile");
}

#[test]
fn a17_a_load_balancer_is_a_node_port_on_every_node() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: { name: worker-3 }\n\
                status: { addresses: [{ type: InternalIP, address: 10.1.1.3 }, { type: ExternalIP, address: 10.1.1.33 }] }\n";
    let only = |port: u16| {
        kubernetes(
            "default",
            "web",
            &format!(
                "{{ podSelector: {{ matchLabels: {{ run: webserver }} }}, ingress: [{{ ports: [{{ port: {port} }}] }}] }}"
            ),
        )
    };
    // The pod's policy sees the target port (SVC-8).
    for (port, expected) in [(8080, "pass default/knp.default.web#0"), (80, "drop tier-default-deny"), (31024, "drop")]
    {
        let mut gateway = with(&[node.to_string(), only(port)]);
        for to in ["169.1.1.1:80", "10.1.1.1:31024", "10.1.1.2:31024", "10.1.1.3:31024", "10.1.1.33:31024"] {
            gateway.check(&format!("A17 policy for {port}"), &format!("in tcp 1.1.1.1:1 > {to}"), expected);
        }
    }
}

#[test]
fn a18_a19_prednat_sees_the_original_header() {
    let sources = prednat(
        "sources",
        500,
        "{ action: Allow, protocol: TCP, source: { nets: [1.1.0.0/16] }, destination: { ports: ['30000:32767'] } }",
    );
    let mut gateway = with(&[deny_nodeports(), sources]);
    gateway.check("A18 balancer open", BALANCER, "pass profile");
    gateway.check("A18 source in the net", NODE_PORT, "pass sources#0 prednat");
    gateway.check("A18 source outside", "in tcp 1.2.0.0:1 > 10.1.1.1:31024", "drop deny-nodeports#0");

    // Node ports closed on workers that are no edge.
    let edge = global(
        "edge-only",
        "{ order: 1, preDNAT: true, applyOnForward: true, selector: ibm.role == 'worker_public' && edge != 'true', \
           ingress: [{ action: Deny, protocol: TCP, destination: { ports: ['30000:32767'] } }] }",
    );
    let mut gateway = with(&[edge]);
    gateway.check("A19 edge", "in tcp 1.1.1.1:1 > 10.1.1.1:31024", "pass");
    gateway.check("A19 not edge", "in tcp 1.1.1.1:1 > 10.1.1.2:31024", "drop edge-only#0");

    // A private load balancer is a node port on the public interface too, which this closes.
    let private = "apiVersion: v1\nkind: Service\nmetadata: { name: private, namespace: default }\n\
                   spec: { type: LoadBalancer, selector: { run: webserver }, ports: [{ port: 81, targetPort: 8080, nodePort: 31999 }] }\n\
                   status: { loadBalancer: { ingress: [{ ip: 10.9.9.100 }] } }\n";
    let mut gateway = with(&[private.to_string(), deny_nodeports()]);
    gateway.check("A19 private balancer", "in tcp 10.77.0.1:1 > 10.9.9.100:81", "pass");
    gateway.check("A19 its node port, private", "in tcp 10.77.0.1:1 > 10.9.9.1:31999", "pass");
    gateway.check("A19 its node port, public", "in tcp 1.1.1.1:1 > 10.1.1.1:31999", "drop deny-nodeports#0");
}

#[test]
fn a20_a_normal_policy_does_not_see_node_ports() {
    for forward in [false, true] {
        let normal = global(
            "normal",
            &format!(
                "{{ order: 1, applyOnForward: {forward}, selector: ibm.role == 'worker_public', ingress: [\
                 {{ action: Deny, protocol: TCP, destination: {{ ports: ['30000:32767'] }} }}, {{ action: Allow }}] }}"
            ),
        );
        let mut gateway = with(&[normal]);
        gateway.check(&format!("A20 applyOnForward {forward}"), NODE_PORT, "pass");
        gateway.check("A20 untranslated is local", "in tcp 1.1.1.1:1 > 10.1.1.1:31025", "drop normal#0");
    }
}

#[test]
fn a21_a_reload_is_whole() {
    let mut gateway = Gateway::new(GATEWAY, &[WORKERS, SERVICE]);
    gateway.check_next("A21 before", NODE_PORT, "pass");
    let text = deny_nodeports();
    gateway.reload(&[WORKERS, SERVICE, ("p.yaml", &text)]);
    gateway.check_next("A21 after", "in tcp 1.1.1.2:1 > 10.1.1.1:31024", "drop deny-nodeports#0");
    // A set with an error in it is refused whole, so that there is nothing to take over.
    let broken = format!("{text}{}", prednat("broken", 1, "{ action: Denied }"));
    assert!(read(&[WORKERS, SERVICE, ("p.yaml", &broken)]).is_err(), "A21");
}

/// Ranges of a content network that health checks come from.
const CLOUDFLARE: [&str; 15] = [
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "108.162.192.0/18",
    "131.0.72.0/22",
    "141.101.64.0/18",
    "162.158.0.0/15",
    "172.64.0.0/13",
    "173.245.48.0/20",
    "188.114.96.0/20",
    "190.93.240.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
];

fn allow_list(row: &str, nets: &[Ipv4Net]) {
    let listed: Vec<String> = nets.iter().map(ToString::to_string).collect();
    let allow = prednat(
        "health-checks",
        100,
        &format!(
            "{{ action: Allow, protocol: TCP, source: {{ nets: [{}] }}, destination: {{ ports: [80] }} }}",
            listed.join(", ")
        ),
    );
    let deny = prednat("closed", 800, &balancer_rule("Deny", "TCP", ""));
    let mut gateway = with(&[allow, deny]);
    for net in nets {
        let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
        for address in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
            let from = Ipv4Addr::from(address);
            let inside = nets.iter().any(|n| n.contains(&from));
            let expected = if inside { "pass health-checks#0" } else { "drop closed#0" };
            gateway.check(row, &format!("in tcp {from}:1 > 169.1.1.1:80"), expected);
        }
    }
}

#[test]
fn a22_long_allow_lists() {
    let cloudflare: Vec<Ipv4Net> = CLOUDFLARE.iter().map(|net| net.parse().expect("a prefix")).collect();
    allow_list("A22 Cloudflare", &cloudflare);
    // As many as one rule may hold, of every length from 17 to 32.
    let many: Vec<Ipv4Net> = (0..256u32)
        .map(|i| {
            let length = 17 + (i % 16) as u8;
            Ipv4Net::new_assert(Ipv4Addr::from(0x2000_0000 + i * 0x0001_0000 + i * 256), length).trunc()
        })
        .collect();
    allow_list("A22 256 nets", &many);
}

#[test]
fn a23_a24_lower_orders_override() {
    let rule = |action| balancer_rule(action, "TCP", "nets: [1.1.1.1/32]");
    for (orders, expected) in [
        ([500, 800], "pass first#0"),
        ([800, 500], "drop second#0"),
        // The same order: by name (ORD-2).
        ([500, 500], "pass first#0"),
    ] {
        let mut gateway = with(&[
            prednat("second", orders[1], &balancer_rule("Deny", "TCP", "")),
            prednat("first", orders[0], &rule("Allow")),
        ]);
        gateway.check(&format!("A23 {orders:?}"), BALANCER, expected);
    }
    let mut whitelist =
        with(&[prednat("all", 800, &balancer_rule("Deny", "TCP", "")), prednat("some", 500, &rule("Allow"))]);
    let mut blacklist = with(&[prednat("some", 500, &rule("Deny"))]);
    let other = "in tcp 2.2.2.2:1 > 169.1.1.1:80";
    whitelist.check("A24 whitelist", BALANCER, "pass");
    whitelist.check("A24 whitelist", other, "drop");
    blacklist.check("A24 blacklist", BALANCER, "drop");
    blacklist.check("A24 blacklist", other, "pass");
}

#[test]
fn a33_the_selector_decides_which_interface() {
    for (role, expected) in [("worker_public", ["drop", "pass"]), ("worker_private", ["pass", "drop"])] {
        let policy = deny_nodeports().replace("worker_public", role);
        let mut gateway = with(&[policy]);
        gateway.check(&format!("A33 {role} eth1"), "in tcp 1.1.1.1:1 > 10.1.1.1:31024", expected[0]);
        gateway.check(&format!("A33 {role} eth0"), "in tcp 1.1.1.1:1 > 10.9.9.1:31024", expected[1]);
    }
}

#[test]
fn a13_a_policy_may_select_nothing() {
    let policy = global("nothing", "{ order: 1, selector: x == 'y', types: [Ingress, Egress] }");
    let mut gateway = with(&[policy]);
    gateway.check("A13", "in tcp 172.30.2.20:1 > 172.30.1.10:80", "pass profile");
    gateway.check("A13", NODE_PORT, "pass profile");
}

#[test]
fn a34_without_policy_every_pod_reaches_every_pod() {
    let more = [namespace("other", "a: b"), pod("other", "o", "172.30.3.1", "x: y")];
    let mut gateway = with(&more);
    for (from, to) in [("172.30.1.10", "172.30.2.20"), ("172.30.2.20", "172.30.3.1"), ("172.30.3.1", "172.30.1.10")] {
        gateway.check("A34", &format!("in tcp {from}:1 > {to}:80"), "pass profile");
        gateway.check("A34", &format!("out udp {from}:1 > {to}:80"), "pass profile");
        gateway.check("A34", &format!("in icmp {from} > {to}"), "pass profile");
    }
}

#[test]
fn a52_to_a56_kubernetes_policies() {
    let base = [
        namespace("n", "a: b"),
        pod("n", "one", "172.30.4.1", "app: one"),
        pod("n", "two", "172.30.4.2", "app: two"),
        pod("default", "three", "172.30.4.3", "app: one"),
    ];
    let gateway = |policies: &[String]| with(&[base.as_slice(), policies].concat());
    let (one_in, one_out) = ("in tcp 172.30.4.2:1 > 172.30.4.1:80", "out tcp 172.30.4.1:1 > 172.30.4.2:80");

    // A52: the directions are independent, and open by default.
    let ingress = kubernetes("n", "in", "{ podSelector: { matchLabels: { app: one } }, policyTypes: [Ingress] }");
    let egress = kubernetes("n", "out", "{ podSelector: { matchLabels: { app: one } }, policyTypes: [Egress] }");
    for (policies, expected) in [
        (vec![], ["pass", "pass"]),
        (vec![ingress.clone()], ["drop tier-default-deny", "pass"]),
        (vec![egress.clone()], ["pass", "drop tier-default-deny"]),
        (vec![ingress.clone(), egress.clone()], ["drop", "drop"]),
    ] {
        let mut gateway = gateway(&policies);
        gateway.check("A52 ingress", one_in, expected[0]);
        gateway.check("A52 egress", one_out, expected[1]);
        // A53: a pod of the same label in another namespace is not selected.
        gateway.check("A53", "in tcp 172.30.4.2:1 > 172.30.4.3:80", "pass profile");
        gateway.check("A53", "out tcp 172.30.4.3:1 > 172.30.4.2:80", "pass profile");
    }
    let wrong = kubernetes("n", "wrong", "{ podSelector: {}, namespaceSelector: {} }");
    let findings = read(&[("w.yaml", &wrong)]).expect_err("A53 spec.namespaceSelector is no field");
    assert!(
        findings.iter().any(|f| f.contains("namespaceSelector") && f.contains("unknown-field")),
        "A53 {findings:?}"
    );

    // A54: an address block holds for pods as well (KNP-10).
    let to_block = kubernetes(
        "n",
        "block",
        "{ podSelector: { matchLabels: { app: one } }, policyTypes: [Egress], egress: [{ to: [{ ipBlock: { cidr: 172.30.4.2/31 } }] }] }",
    );
    let mut blocks = gateway(&[to_block]);
    blocks.check("A54 a pod in the block", one_out, "pass n/knp.default.block#0");
    blocks.check("A54 outside", "out tcp 172.30.4.1:1 > 172.30.4.4:80", "drop");

    // A55: deny all, and another policy that allows some.
    let deny_all = kubernetes("n", "deny-all", "{ podSelector: {}, policyTypes: [Ingress, Egress] }");
    let allow = kubernetes(
        "n",
        "allow",
        "{ podSelector: { matchLabels: { app: one } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: two } } }] }] }",
    );
    let mut denied = gateway(std::slice::from_ref(&deny_all));
    denied.check("A55 deny all", one_in, "drop");
    let mut allowed = gateway(&[deny_all, allow]);
    allowed.check("A55 allow", one_in, "pass n/knp.default.allow#0");
    allowed.check("A55 others stay closed", "in tcp 172.30.4.3:1 > 172.30.4.1:80", "drop");

    // A56: without the policy everything passes again.
    denied.reload(&[WORKERS, SERVICE, ("policy.yaml", &base.join(""))]);
    denied.check("A56", one_in, "pass profile");
}
