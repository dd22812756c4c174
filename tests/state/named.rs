//! Rules of the specification that other tests cover in passing, each by a line of its own.

use crate::gateway::{Gateway, read};
use crate::tcp::WORKER;

const POD: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { run: web } }
spec: { containers: [{ name: c, ports: [{ name: http, containerPort: 8080 }] }] }
status: { phase: Running, podIP: 172.30.1.10 }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker, labels: { role: worker } }
spec: { node: worker-1, interfaceName: eth1, expectedIPs: [10.1.1.1] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { type: NodePort, selector: { run: web }, ports: [{ port: 80, targetPort: http, nodePort: 31024 }] }
---
";

fn global(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n---\n"
    )
}

fn kubernetes(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ podSelector: {{}}, {spec} }}\n---\n"
    )
}

/// Packets judged one after the other over one set of policies.
fn check(policies: &str, lines: &[(&str, &str, &str)]) {
    let mut gateway = Gateway::new("", &[("all.yaml", &format!("{POD}{policies}"))]);
    for (row, packet, expected) in lines {
        gateway.check_next(row, packet, expected);
    }
}

#[test]
fn rules_run_in_list_order_and_log_never_decides() {
    let rules = "order: 1, selector: role == 'worker', ingress: [{ action: Log }, { action: Log, protocol: TCP }, \
        { action: Deny, protocol: UDP }, { action: Allow }, { action: Deny }]";
    let mut gateway = Gateway::new("", &[("all.yaml", &format!("{POD}{}", global("p", rules)))]);
    gateway.check("ORD-4 the first that decides", "in udp 1.1.1.1:1 > 10.1.1.1:9", "drop p#2");
    gateway.check("ORD-4 later ones are not asked", "in tcp 1.1.1.1:1 > 10.1.1.1:9", "pass p#3");
    assert_eq!(gateway.alone("in tcp 1.1.1.1:1 > 10.1.1.1:9").logs, 2, "ACT-3, GW-11: every Log before the decision");
    assert_eq!(gateway.alone("in udp 1.1.1.1:1 > 10.1.1.1:9").logs, 1, "ACT-3: only those that match");
}

#[test]
fn state_passes_replies_and_only_first_packets_are_judged_ct_1_ct_7() {
    let logged = "selector: role == 'worker', ingress: [{ action: Log }, { action: Allow, protocol: TCP, destination: { ports: [9] } }]";
    let mut gateway = Gateway::new("", &[("all.yaml", &format!("{POD}{}", global("p", logged)))]);
    let first = gateway.packet("in tcp 1.1.1.1:1 > 10.1.1.1:9 [S]");
    let second = gateway.packet("out tcp 10.1.1.1:9 > 1.1.1.1:1 [SA]");
    assert_eq!((first.logs, second.logs, second.reason), (1, 0, "established"), "CT-1");
    for attempt in 0..2 {
        let denied = gateway.packet("in tcp 1.1.1.1:2 > 10.1.1.1:10 [S]");
        assert_eq!((denied.is_allowed, denied.logs), (false, 1), "CT-7: a record for each attempt, {attempt}");
    }
    assert_eq!(gateway.flows().count(), 1, "CT-7: a denied SYN leaves no entry");
    gateway.check_next("CT-4 no SYN and no flow", "out tcp 10.1.1.1:9 > 1.1.1.1:7 [SA]", "drop invalid-state");
}

#[test]
fn stages_see_their_own_destination_rm_12() {
    let before = "selector: role == 'worker', preDNAT: true, applyOnForward: true, ingress: [{ action: Deny, protocol: TCP, destination: { ports: [8080] } }]";
    check(
        &global("pre", before),
        &[("RM-12 preDNAT sees the node port", "in tcp 1.1.1.1:1 > 10.1.1.1:31024", "pass profile workload")],
    );
    let after = "selector: role == 'worker', applyOnForward: true, ingress: [{ action: Deny, protocol: TCP, destination: { ports: [8080] } }, { action: Allow }]";
    check(
        &global("fwd", after),
        &[(
            "RM-12, SVC-9 forward policy sees the pod's port",
            "in tcp 1.1.1.1:1 > 10.1.1.1:31024",
            "drop fwd#0 host-forward",
        )],
    );
}

#[test]
fn kubernetes_policies_add_up_and_isolate() {
    let open = "in tcp 1.1.1.1:1 > 172.30.1.10:8080";
    check("", &[("WL-2 an ungoverned pod accepts everything", open, "pass profile workload")]);
    check(&kubernetes("deny", "policyTypes: [Ingress]"), &[("KNP-2 no rule isolates", open, "drop tier-default-deny")]);
    check(
        &kubernetes("all", "ingress: [{}]"),
        &[("KNP-2 an empty rule allows all", open, "pass shop/knp.default.all#0")],
    );
    let two = kubernetes("a", "ingress: [{ ports: [{ port: 1 }] }]")
        + &kubernetes("b", "ingress: [{ ports: [{ port: http }] }]");
    check(
        &two,
        &[
            ("KNP-3 the union allows", open, "pass shop/knp.default.b#0"),
            ("KNP-4 the reply needs no rule", "out tcp 172.30.1.10:8080 > 1.1.1.1:1 [SA]", "pass established"),
            ("KNP-5 a rule with ports matches no ICMP", "in icmp 1.1.1.1 > 172.30.1.10", "drop tier-default-deny"),
            (
                "KNP-9 the rule sees the pod's port behind the service",
                "in tcp 1.1.1.1:2 > 10.1.1.1:31024",
                "pass shop/knp.default.b#0",
            ),
        ],
    );
    check(
        &kubernetes("any", "ingress: [{ from: [{ ipBlock: { cidr: 1.0.0.0/8 } }] }]"),
        &[("KNP-5 a rule without ports does", "in icmp 1.1.1.1 > 172.30.1.10", "pass shop/knp.default.any#0")],
    );
    let both = kubernetes("in", "ingress: [{}]") + &kubernetes("out", "policyTypes: [Egress]");
    check(
        &both,
        &[
            ("WL-3 ingress of the destination", "in tcp 172.30.9.9:1 > 172.30.1.10:2", "pass shop/knp.default.in#0"),
            ("WL-3 egress of the source", "out tcp 172.30.1.10:2 > 172.30.9.9:3", "drop tier-default-deny"),
        ],
    );
}

#[test]
fn host_profiles_count_in_the_normal_stage_only_wl_5() {
    let endpoint =
        WORKER.1.split("---").next().unwrap_or_default().replace("expectedIPs", "profiles: [open], expectedIPs");
    let profile = "---\napiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: { name: open }\nspec: { ingress: [{ action: Allow }] }\n";
    let mut gateway = Gateway::new("", &[("all.yaml", &format!("{endpoint}{profile}"))]);
    gateway.check("WL-5", "in tcp 1.1.1.1:1 > 10.1.1.1:9", "pass profile host-normal");
    gateway.check("WL-5 no egress rule", "out tcp 10.1.1.1:9 > 1.1.1.1:1", "drop no-policy-deny host-normal");
}

#[test]
fn acl_lists_are_ordered_by_direction_and_layers_are_anded() {
    let rule = |id: &str, action: &str, direction: &str, more: &str, next: &str| {
        let before =
            if next.is_empty() { String::new() } else { format!(r#","before":{{"id":"{next}","name":"{next}"}}"#) };
        format!(
            r#"{{"id":"{id}","name":"{id}","action":"{action}","direction":"{direction}","ip_version":"ipv4","source":"0.0.0.0/0","destination":"0.0.0.0/0",{more}{before}}}"#
        )
    };
    let rules = [
        rule("a", "deny", "inbound", r#""protocol":"icmp","type":8"#, "b"),
        rule("b", "allow", "outbound", r#""protocol":"any""#, "c"),
        rule(
            "c",
            "allow",
            "inbound",
            r#""protocol":"tcp","source_port_min":1000,"source_port_max":2000,"destination_port_min":80,"destination_port_max":80"#,
            "d",
        ),
        rule("d", "allow", "inbound", r#""protocol":"icmp""#, ""),
    ];
    let acl = format!(r#"{{"network_acls":[{{"id":"x","name":"acl","subnets":[],"rules":[{}]}}]}}"#, rules.join(","));
    let segment = "segments: [{ name: w, cidrs: [10.1.1.0/24], networkACL: acl }]";
    let mut gateway = Gateway::new(segment, &[("acl.json", &acl)]);
    gateway.check("ACL-3 first match, inbound list", "in icmp 1.1.1.1 > 10.1.1.9 type 8", "drop acl-deny acl#0");
    gateway.check("ACL-3 the outbound list is another", "out icmp 10.1.1.9 > 1.1.1.1 type 8", "pass acl#0");
    gateway.check("ACL-5 both ports and the protocol", "in tcp 1.1.1.1:1500 > 10.1.1.9:80", "pass acl#1");
    gateway.check("ACL-5 source port outside", "in tcp 1.1.1.1:999 > 10.1.1.9:80", "drop acl-implicit-deny");
    gateway.check("ACL-5 another type", "in icmp 1.1.1.1 > 10.1.1.9 type 13", "pass acl#2");

    let with_host = format!("{}{}", POD, global("p", "selector: role == 'worker', ingress: [{ action: Allow }]"));
    let mut gateway = Gateway::new(segment, &[("acl.json", &acl), ("all.yaml", &with_host)]);
    gateway.check_next(
        "CMP-3 no Allow of Calico skips the ACL",
        "in tcp 1.1.1.1:1 > 10.1.1.1:31024",
        "drop acl-implicit-deny acl",
    );
    assert_eq!(gateway.flows().count(), 0, "CMP-6: a packet that the ACL denies leaves no state");
    gateway.check_next("CMP-1 the ACL sees the wire, not the backend", "in tcp 1.1.1.1:1500 > 10.1.1.1:80", "pass p#0");
    gateway.check_next("CMP-4 state and ACL both pass", "in tcp 1.1.1.1:1500 > 10.1.1.1:80", "pass established");
    let closed = acl.replacen("\"allow\"", "\"deny\"", 1);
    gateway.reload(&[("acl.json", &closed), ("all.yaml", &with_host)]);
    gateway.check_next(
        "CMP-7, ACL-8 applies at once to what exists",
        "out tcp 10.1.1.1:80 > 1.1.1.1:1500 [SA]",
        "drop acl-deny acl#0",
    );
    let mut elsewhere = Gateway::new(segment, &[("acl.json", &acl)]);
    elsewhere.check("CMP-2, CMP-8 no ACL for the address", "in tcp 1.1.1.1:1 > 10.2.1.1:31024", "pass default-allow");
}

#[test]
fn an_icmp_error_about_an_allowed_flow_passes_the_group_sg_10_ct_3() {
    let group = r#"{"security_groups":[{"id":"g","name":"sg","targets":[],"rules":[{"id":"1","direction":"inbound","ip_version":"ipv4","protocol":"udp","remote":{"cidr_block":"0.0.0.0/0"}}]}]}"#;
    let mut gateway =
        Gateway::new("segments: [{ name: w, cidrs: [10.1.1.0/24], securityGroups: [sg] }]", &[("sg.json", group)]);
    let error = r#"{"in":"downlink","src":"10.1.1.9","dst":"1.1.1.1","proto":"icmp","type":3,"code":3,"quote":{"src":"1.1.1.1","dst":"10.1.1.9","proto":"udp","sport":1,"dport":9}}"#;
    gateway.check_next("SG-10 no flow", error, "drop sg-no-match sg");
    gateway.check_next("SG-10", "in udp 1.1.1.1:1 > 10.1.1.9:9", "pass sg-allow");
    gateway.check_next("SG-10, CT-3 related", error, "pass related flow");
}

#[test]
fn syntax_of_the_v1_era_stays_apart_v1_4_v1_5() {
    let v1 = "apiVersion: v1\nkind: policy\nmetadata: { name: deny }\nspec: { preDNAT: true, selector: role == 'worker', ingress: [{ action: deny, protocol: tcp, destination: { ports: [30000:32767] } }] }\n";
    let early = global(
        "early",
        "order: 1, selector: role == 'worker', preDNAT: true, applyOnForward: true, ingress: [{ action: Allow, source: { nets: [1.1.1.1/32] } }]",
    );
    check(
        &format!("{v1}---\n{early}"),
        &[
            ("V1-4 without an order it is the last", "in tcp 1.1.1.1:1 > 10.1.1.1:31024", "pass early#0"),
            ("V1-4", "in tcp 1.1.1.2:1 > 10.1.1.1:31024", "drop deny#0 prednat"),
        ],
    );
    for (row, text) in [
        ("V1-5 v3 words in v1", v1.replace("deny,", "Deny,")),
        ("V1-5 v1 words in v3", early.replace("Allow", "allow")),
    ] {
        let findings = read(&[("mixed.yaml", &text)]).expect_err(row);
        assert!(
            findings.iter().any(|f| f.contains("mixed.yaml:") && f.contains("llow") || f.contains("eny")),
            "{row}: {findings:?}"
        );
    }
}

#[test]
fn what_is_no_selector_is_an_error_sel_7() {
    for selector in ["a = 'b'", "a == 'b' & c == 'd'", "a == 'b' and c == 'd'", "a", "'b' == a", "a == b"] {
        let policy = format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: p }}\nspec: {{ selector: \"{selector}\" }}\n"
        );
        assert!(read(&[("p.yaml", &policy)]).is_err(), "SEL-7: {selector}");
    }
}
