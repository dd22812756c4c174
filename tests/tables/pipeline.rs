//! What an Allow skips, where a tier ends, who governs whom: rules of the pipeline, one packet each.

use crate::gateway::Gateway;

/// Own endpoints of both ports, a stand-in, a segment with a default endpoint, two pods, a service.
const PLACES: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: gw-up, labels: { side: up } }
spec: { node: gw-1, interfaceName: up0 }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: gw-down, labels: { side: down } }
spec: { node: gw-1, interfaceName: dn0 }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker-1, labels: { side: worker } }
spec: { node: worker-1, interfaceName: eth0, expectedIPs: [10.0.0.1] }
---
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: n, labels: { app: web } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 172.30.0.1 }
---
apiVersion: v1
kind: Service
metadata: { name: s, namespace: n }
spec: { type: LoadBalancer, selector: { app: web }, ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }] }
status: { loadBalancer: { ingress: [{ ip: 10.0.1.1 }] } }
";

const OWN: &str = "node: gw-1\nports: { uplink: { interface: up0 }, downlink: { interface: dn0 } }\n\
                   segments: [{ name: s, cidrs: [10.0.1.0/24], hostEndpoint: worker-1 }]\n";
/// Without a node the box has no endpoint of its own; the two are stand-ins without addresses.
const STAND_INS: &str = "segments: [{ name: s, cidrs: [10.0.1.0/24], hostEndpoint: worker-1 }]\n";

/// A policy: name and spec.
type Written<'a> = (&'a str, &'a str);

fn gateway(place: &str, policies: &[Written<'_>]) -> Gateway {
    let mut text = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: { name: first }\nspec: { order: 1 }\n---\n\
                    apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: { name: open }\nspec: { order: 2, defaultAction: Pass }\n"
        .to_string();
    for (name, spec) in policies {
        let api = "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n";
        text += &format!("{api}metadata: {{ name: {name} }}\nspec: {{ {spec} }}\n");
    }
    Gateway::new(place, &[("places.yaml", PLACES), ("policies.yaml", &text)])
}

fn check(row: &str, place: &str, policies: &[Written<'_>], cases: &[(&str, &str)]) {
    let mut gateway = gateway(place, policies);
    for (packet, expected) in cases {
        gateway.check(&format!("{row} {policies:?}"), packet, expected);
    }
}

const UNTRACKED: Written =
    ("u", "order: 1, selector: side == 'up', doNotTrack: true, applyOnForward: true, ingress: [{ action: Allow }]");
const PREDNAT_ALLOW: Written =
    ("a", "order: 1, selector: side == 'up', preDNAT: true, applyOnForward: true, ingress: [{ action: Allow }]");
const PREDNAT_DENY: Written =
    ("d", "order: 2, selector: side == 'up', preDNAT: true, applyOnForward: true, ingress: [{ action: Deny }]");
const FORWARD_ALLOW: Written =
    ("fa", "order: 3, selector: side == 'up', applyOnForward: true, ingress: [{ action: Allow }]");
const FORWARD_DENY: Written =
    ("f", "order: 4, selector: side == 'up', applyOnForward: true, ingress: [{ action: Deny }]");
const LEAVING_DENY: Written =
    ("e", "order: 5, selector: side == 'down', applyOnForward: true, types: [Egress], egress: [{ action: Deny }]");
const POD_DENY: Written = ("p", "order: 6, selector: app == 'web', ingress: [{ action: Deny }]");

const TO_POD: &str = "in tcp 9.9.9.9:1 > 172.30.0.1:8080";
const TO_ELSEWHERE: &str = "in tcp 9.9.9.9:1 > 172.30.9.9:8080";
const TO_BALANCER: &str = "in tcp 9.9.9.9:1 > 10.0.1.1:80";
const TO_WORKER: &str = "in tcp 9.9.9.9:1 > 10.0.0.1:81";

#[test]
fn what_an_allow_skips() {
    check(
        "PIPE-1",
        OWN,
        &[UNTRACKED, PREDNAT_DENY, FORWARD_DENY],
        &[(TO_POD, "pass u#0 untracked"), (TO_ELSEWHERE, "pass")],
    );
    check("PIPE-1", OWN, &[UNTRACKED, POD_DENY], &[(TO_POD, "drop p#0 workload"), (TO_ELSEWHERE, "pass")]);
    check("PIPE-1", OWN, &[UNTRACKED, LEAVING_DENY], &[(TO_POD, "drop e#0 host-forward"), (TO_ELSEWHERE, "drop e#0")]);
    check(
        "PIPE-2",
        OWN,
        &[PREDNAT_ALLOW, PREDNAT_DENY, FORWARD_DENY],
        &[(TO_POD, "pass a#0 prednat"), (TO_ELSEWHERE, "pass")],
    );
    check(
        "PIPE-2",
        OWN,
        &[PREDNAT_ALLOW, POD_DENY],
        &[(TO_POD, "drop p#0"), (TO_BALANCER, "drop p#0"), (TO_ELSEWHERE, "pass")],
    );
    check("PIPE-2", OWN, &[PREDNAT_ALLOW, LEAVING_DENY], &[(TO_POD, "drop e#0")]);
    check(
        "PIPE-3",
        OWN,
        &[FORWARD_ALLOW, FORWARD_DENY, POD_DENY],
        &[(TO_POD, "drop p#0"), (TO_ELSEWHERE, "pass fa#0")],
    );
    check("PIPE-3", OWN, &[FORWARD_ALLOW, LEAVING_DENY], &[(TO_ELSEWHERE, "drop e#0")]);
    check("PIPE-4", OWN, &[PREDNAT_DENY], &[(TO_POD, "drop d#0 prednat"), (TO_BALANCER, "drop d#0")]);
    // What one endpoint allows, another may still deny (GW-4).
    let worker_deny =
        ("w", "order: 1, selector: side == 'worker', preDNAT: true, applyOnForward: true, ingress: [{ action: Deny }]");
    check(
        "GW-4",
        OWN,
        &[PREDNAT_ALLOW, worker_deny],
        &[(TO_WORKER, "drop w#0"), (TO_BALANCER, "drop w#0"), (TO_POD, "pass a#0")],
    );
}

#[test]
fn untracked_traffic_is_not_translated_pipe_5_pipe_6() {
    // As long as the worker behind the segment is governed untracked too.
    let both =
        ("u", "order: 1, selector: has(side), doNotTrack: true, applyOnForward: true, ingress: [{ action: Allow }]");
    check("PIPE-5", OWN, &[both, POD_DENY], &[(TO_BALANCER, "pass u#0 untracked"), (TO_POD, "drop p#0")]);
    check("PIPE-5 tracked", OWN, &[UNTRACKED, POD_DENY], &[(TO_BALANCER, "drop p#0")]);
    // Outbound packets of forwarded flows meet the ingress rules of the downlink's endpoint, never untracked egress rules.
    let down = (
        "b",
        "order: 1, selector: side == 'down', doNotTrack: true, applyOnForward: true, types: [Ingress, Egress], \
                      ingress: [{ action: Deny, protocol: UDP }], egress: [{ action: Deny, protocol: TCP }]",
    );
    check(
        "PIPE-6",
        OWN,
        &[down],
        &[
            ("out udp 172.30.0.1:1 > 9.9.9.9:1", "drop b#0 untracked"),
            ("out tcp 172.30.0.1:1 > 9.9.9.9:1", "pass"),
            (TO_POD, "pass"),
        ],
    );
}

#[test]
fn local_and_forwarded_pipe_7_to_pipe_9() {
    let normal = ("n", "order: 1, selector: has(side), ingress: [{ action: Deny }]");
    check(
        "PIPE-7",
        OWN,
        &[normal],
        &[(TO_POD, "pass"), (TO_ELSEWHERE, "pass"), (TO_BALANCER, "pass"), (TO_WORKER, "drop n#0 host-normal")],
    );
    check(
        "PIPE-8",
        OWN,
        &[],
        &[
            (TO_POD, "pass"),
            (TO_BALANCER, "pass"),
            (TO_WORKER, "drop no-policy-deny"),
            ("out tcp 10.0.0.1:1 > 9.9.9.9:1", "drop no-policy-deny"),
            ("out tcp 10.0.1.9:1 > 9.9.9.9:1", "pass no-policy"),
        ],
    );
    let egress = (
        "e",
        "order: 1, selector: has(side), applyOnForward: true, types: [Egress], egress: [{ action: Allow, protocol: TCP }]",
    );
    check(
        "PIPE-9",
        STAND_INS,
        &[egress],
        &[
            (TO_BALANCER, "pass"),
            ("out tcp 10.0.1.9:1 > 9.9.9.9:1", "pass e#0"),
            ("out udp 10.0.1.9:1 > 9.9.9.9:1", "drop tier-default-deny"),
            (TO_WORKER, "drop no-policy-deny"),
        ],
    );
    // HEP-3: no endpoint, no host policy.
    check("HEP-3", STAND_INS, &[normal], &[("in tcp 9.9.9.9:1 > 10.0.0.2:81", "pass default-allow")]);
    // ACT-8: egress policy does not close ingress.
    let pod_egress = ("pe", "order: 1, selector: app == 'web', types: [Egress]");
    check(
        "ACT-8",
        STAND_INS,
        &[pod_egress],
        &[(TO_POD, "pass profile"), ("out tcp 172.30.0.1:1 > 9.9.9.9:1", "drop tier-default-deny")],
    );
}

#[test]
fn tiers_act_4_to_act_7() {
    let pass = (
        "first.p",
        "tier: first, order: 1, selector: app == 'web', ingress: [{ action: Pass, protocol: TCP }, { action: Log }, { action: Allow }]",
    );
    check(
        "ACT-4 profiles",
        STAND_INS,
        &[pass],
        &[(TO_POD, "pass profile"), ("in udp 9.9.9.9:1 > 172.30.0.1:8080", "pass first.p#2")],
    );
    check("ACT-4 next tier", STAND_INS, &[pass, POD_DENY], &[(TO_POD, "drop p#0")]);
    let more = ("first.q", "tier: first, order: 2, selector: app == 'web', ingress: [{ action: Deny }]");
    check("ACT-4 leaves the tier", STAND_INS, &[pass, more], &[(TO_POD, "pass profile")]);
    let some =
        ("first.s", "tier: first, order: 1, selector: app == 'web', ingress: [{ action: Allow, protocol: UDP }]");
    check("ACT-6 end of a tier", STAND_INS, &[some], &[(TO_POD, "drop tier-default-deny")]);
    let open = ("open.s", "tier: open, order: 1, selector: app == 'web', ingress: [{ action: Allow, protocol: UDP }]");
    check(
        "ACT-6 defaultAction Pass",
        STAND_INS,
        &[open],
        &[(TO_POD, "pass profile"), ("in udp 9.9.9.9:1 > 172.30.0.1:1", "pass open.s#0")],
    );
    check("ACT-6 defaultAction Pass", STAND_INS, &[open, POD_DENY], &[(TO_POD, "drop p#0")]);
    check(
        "ACT-5 next policy",
        STAND_INS,
        &[
            ("a", "order: 1, selector: all(), ingress: [{ action: Allow, protocol: UDP }]"),
            ("b", "order: 2, selector: all(), ingress: [{ action: Allow, protocol: TCP }]"),
        ],
        &[(TO_POD, "pass b#0")],
    );
    // Untracked and preDNAT stages have no end of tier, whatever the tier says.
    let prednat = (
        "first.n",
        "tier: first, order: 1, selector: has(side), preDNAT: true, applyOnForward: true, ingress: [{ action: Allow, protocol: UDP }]",
    );
    check("ACT-6 preDNAT", OWN, &[prednat], &[(TO_POD, "pass"), (TO_BALANCER, "pass"), (TO_ELSEWHERE, "pass")]);
    let untracked = (
        "first.u",
        "tier: first, order: 1, selector: has(side), doNotTrack: true, applyOnForward: true, ingress: [{ action: Allow, protocol: UDP }]",
    );
    check("ACT-6 untracked", OWN, &[untracked], &[(TO_POD, "pass new"), (TO_ELSEWHERE, "pass new")]);
    // ACT-7: a tier that holds a preDNAT policy only is not seen by the normal stage.
    let normal = ("n", "order: 1, selector: side == 'worker', ingress: [{ action: Allow, protocol: TCP }]");
    check(
        "ACT-7",
        STAND_INS,
        &[prednat, normal],
        &[(TO_WORKER, "pass n#0"), ("in sctp 9.9.9.9:1 > 10.0.0.1:81", "drop tier-default-deny")],
    );
    // Pass in one stage jumps within it.
    let jump = (
        "first.j",
        "tier: first, order: 1, selector: side == 'up', preDNAT: true, applyOnForward: true, ingress: [{ action: Pass }]",
    );
    check("ACT-7 Pass", OWN, &[jump, PREDNAT_DENY], &[(TO_POD, "drop d#0")]);
    check("ACT-7 Pass", OWN, &[jump, FORWARD_DENY], &[(TO_POD, "drop f#0")]);
}

#[test]
fn failsafe_ports_fs_1_to_fs_3() {
    let prednat =
        ("d", "order: 1, selector: has(side), preDNAT: true, applyOnForward: true, ingress: [{ action: Deny }]");
    let forward = (
        "f",
        "order: 1, selector: has(side), applyOnForward: true, ingress: [{ action: Deny }], egress: [{ action: Deny }]",
    );
    let ssh = "in tcp 9.9.9.9:1 > 10.0.0.1:22";
    let ssh_vip = "in tcp 9.9.9.9:1 > 10.0.1.9:22";
    let ssh_pod = "in tcp 9.9.9.9:1 > 172.30.0.1:22";
    check(
        "FS-2",
        OWN,
        &[prednat],
        &[
            (ssh, "pass"),
            (ssh_vip, "pass"),
            (ssh_pod, "pass"),
            (TO_POD, "drop d#0"),
            ("in udp 9.9.9.9:1 > 10.0.0.1:22", "drop d#0"),
        ],
    );
    check(
        "FS-1 not in forward",
        STAND_INS,
        &[forward],
        &[(ssh, "pass failsafe"), (ssh_vip, "drop f#0"), (TO_WORKER, "drop f#0")],
    );
    let mode = |mode: &str| format!("{OWN}failsafe: {mode}\n");
    check("GW-20 none", &mode("none"), &[prednat], &[(ssh, "drop d#0"), (ssh_pod, "drop d#0")]);
    // The own endpoint spares the packet, the stand-in does not.
    check("GW-20 own", &mode("own"), &[prednat], &[(ssh, "drop d#0"), (ssh_pod, "pass")]);
    let dns = "out udp 10.0.0.1:1 > 9.9.9.9:53";
    check(
        "FS-3 outbound",
        STAND_INS,
        &[forward],
        &[
            (dns, "pass failsafe"),
            ("out udp 10.0.0.1:1 > 9.9.9.9:54", "drop f#0"),
            ("out tcp 10.0.0.1:1 > 9.9.9.9:53", "drop f#0"),
        ],
    );
    // In the untracked stage the mirror image too: replies of failsafe flows are not untracked.
    let untracked = (
        "u",
        "order: 1, selector: side == 'worker', doNotTrack: true, applyOnForward: true, ingress: [{ action: Deny }]",
    );
    check(
        "FS-3 mirror",
        STAND_INS,
        &[untracked],
        &[
            ("in udp 9.9.9.9:53 > 10.0.0.1:5000", "drop no-policy-deny"),
            ("in udp 9.9.9.9:54 > 10.0.0.1:5000", "drop u#0 untracked"),
            (ssh, "pass failsafe"),
        ],
    );
}

#[test]
fn who_governs_hep_1_hep_2_wl_4() {
    // Policies of early stages do not hold for pods, even where they select them.
    let early =
        ("u", "order: 1, selector: app == 'web', doNotTrack: true, applyOnForward: true, ingress: [{ action: Deny }]");
    let prednat =
        ("d", "order: 1, selector: app == 'web', preDNAT: true, applyOnForward: true, ingress: [{ action: Deny }]");
    check("WL-4", OWN, &[early, prednat], &[(TO_POD, "pass"), (TO_BALANCER, "pass")]);
    let endpoint = |name: &str, side: &str, interface: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{ name: {name}, labels: {{ side: {side} }} }}\n\
                 spec: {{ node: worker-9, interfaceName: {interface}, expectedIPs: [10.0.0.9] }}\n---\n"
        )
    };
    let rule = |name: &str, spec: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n---\n"
        )
    };
    let open = rule("open", "order: 1, selector: side == 'a', ingress: [{ action: Allow }]");
    let shut = rule("shut", "order: 1, selector: side == 'b', ingress: [{ action: Deny }]");
    for (names, expected) in [
        (["a", "b"], "pass open#0"),
        (["b", "a"], "drop shut#0"),
        (["ab", "a"], "drop shut#0"),
        (["a-1", "a.0"], "pass open#0"),
    ] {
        let text =
            [endpoint(names[0], "a", "eth0"), endpoint(names[1], "b", "eth0"), open.clone(), shut.clone()].concat();
        let mut gateway = Gateway::new("", &[("p.yaml", text.trim_end_matches("---\n"))]);
        gateway.check(&format!("HEP-1 {names:?}"), "in tcp 9.9.9.9:1 > 10.0.0.9:80", expected);
    }
    // doNotTrack does not work on `*`.
    let untracked = rule(
        "u",
        "order: 1, selector: side == 'a', doNotTrack: true, applyOnForward: true, ingress: [{ action: Deny }]",
    );
    for (interface, expected) in [("'*'", "pass open#0"), ("eth0", "drop u#0 untracked")] {
        let text = [endpoint("a", "a", interface), open.clone(), untracked.clone()].concat();
        let mut gateway = Gateway::new("", &[("p.yaml", text.trim_end_matches("---\n"))]);
        gateway.check(&format!("HEP-2 {interface}"), "in tcp 9.9.9.9:1 > 10.0.0.9:80", expected);
    }
}
