//! The layers of one box together: ACL, groups, untracked and tracked Calico stages (GW-9 to GW-13, GW-33).

use crate::gateway::Gateway;

const GATEWAY: &str = "
segments:
  - { name: workers, cidrs: [10.1.1.0/24], networkACL: acl, securityGroups: [sg] }
";

const VPC: (&str, &str) = (
    "vpc.json",
    r#"{ "network_acls": [ { "id": "a", "name": "acl", "subnets": [], "rules": [
      { "id": "1", "name": "in", "action": "allow", "direction": "inbound", "ip_version": "ipv4", "protocol": "any", "source": "0.0.0.0/0", "destination": "0.0.0.0/0", "before": { "id": "2", "name": "no-answer" } },
      { "id": "2", "name": "no-answer", "action": "deny", "direction": "outbound", "ip_version": "ipv4", "protocol": "tcp", "source": "0.0.0.0/0", "destination": "3.3.3.3/32", "before": { "id": "3", "name": "out" } },
      { "id": "3", "name": "out", "action": "allow", "direction": "outbound", "ip_version": "ipv4", "protocol": "any", "source": "0.0.0.0/0", "destination": "0.0.0.0/0" } ] } ],
    "security_groups": [ { "id": "g", "name": "sg", "targets": [], "rules": [
      { "id": "4", "direction": "inbound", "ip_version": "ipv4", "protocol": "tcp", "port_min": 80, "port_max": 89, "remote": { "cidr_block": "0.0.0.0/0" } } ] } ] }"#,
);

const HOST: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker, labels: { role: worker } }
spec: { node: worker-1, interfaceName: eth1, expectedIPs: [10.1.1.1] }
---
";

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: {name} }}\nspec: {{ selector: role == 'worker', {spec} }}\n---\n"
    )
}

fn tcp(side: &str, client: &str, port: u16, flags: &str) -> String {
    let (src, dst, sport, dport) =
        if side == "uplink" { (client, "10.1.1.1", 40000, port) } else { ("10.1.1.1", client, port, 40000) };
    format!(
        r#"{{"in":"{side}","src":"{src}","dst":"{dst}","proto":"tcp","sport":{sport},"dport":{dport},"flags":"{flags}"}}"#
    )
}

#[test]
fn gw_10_every_layer_must_allow_and_the_first_that_denies_is_told() {
    let host =
        format!("{HOST}{}", policy("web", "ingress: [{ action: Allow, protocol: TCP, destination: { ports: [80] } }]"));
    let mut gateway = Gateway::new(GATEWAY, &[VPC, ("host.yaml", &host)]);
    gateway.check("GW-10 all allow", &tcp("uplink", "1.1.1.1", 80, "S"), "pass web#0 host-normal");
    gateway.check("GW-10 the group denies", &tcp("uplink", "1.1.1.1", 90, "S"), "drop sg-no-match sg");
    gateway.check("GW-10 Calico denies", &tcp("uplink", "1.1.1.1", 81, "S"), "drop tier-default-deny host-normal");
    gateway.check(
        "GW-10 outbound: Calico before the group",
        &tcp("downlink", "1.1.1.1", 80, "S"),
        "drop no-policy-deny host-normal",
    );
}

#[test]
fn gw_9_an_acl_is_asked_for_every_packet_and_state_does_not_help() {
    let host = format!("{HOST}{}", policy("open", "types: [Ingress], ingress: [{ action: Allow }]"));
    let mut gateway = Gateway::new(GATEWAY, &[VPC, ("host.yaml", &host)]);
    gateway.check_next("GW-9", &tcp("uplink", "3.3.3.3", 80, "S"), "pass new");
    gateway.check_next(
        "ACL-2 replies need a rule",
        &tcp("downlink", "3.3.3.3", 80, "SA"),
        "drop acl-deny acl acl#0 established",
    );
    gateway.check_next("SG-2 the group passes replies by state", &tcp("uplink", "1.1.1.1", 80, "S"), "pass new");
    gateway.check_next("SG-2", &tcp("downlink", "1.1.1.1", 80, "SA"), "pass established");
}

#[test]
fn gw_33_ipv6_of_a_segment_with_vpc_layers_matches_no_rule() {
    let gateway_file = "segments: [{ name: w, cidrs: ['2001:db8::/64'], networkACL: acl }, { name: g, cidrs: ['2001:db9::/64'], securityGroups: [sg] }]";
    let mut gateway = Gateway::new(gateway_file, &[VPC]);
    gateway.check("GW-33 ACL", "in tcp [2001:db8:1::1]:4000 > [2001:db8::1]:80", "drop acl-implicit-deny acl");
    gateway.check("GW-33 groups", "in tcp [2001:db8:1::1]:4000 > [2001:db9::1]:80", "drop sg-no-match sg");
}

const UNTRACKED: &str = "doNotTrack: true, applyOnForward: true, types: [Ingress, Egress], \
     ingress: [{ action: Allow, protocol: TCP, destination: { ports: [80] } }, { action: Deny, protocol: TCP, destination: { ports: [666] } }], \
     egress: [{ action: Allow, protocol: TCP, source: { ports: [80] } }]";

#[test]
fn pipe_1_an_untracked_allow_skips_the_host_stages_and_leaves_no_entry() {
    let host = format!("{HOST}{}", policy("raw", UNTRACKED));
    let mut gateway = Gateway::new("", &[("host.yaml", &host)]);
    gateway.check_next("PIPE-1", &tcp("uplink", "1.1.1.1", 80, "S"), "pass raw#0 untracked");
    assert_eq!(gateway.flows().count(), 0, "CT-2");
    gateway.check_next(
        "GW-25 untracked spares an invalid packet",
        &tcp("downlink", "1.1.1.1", 80, "SA"),
        "pass raw#0 untracked",
    );
    gateway.check_next(
        "GW-9 undecided goes on",
        &tcp("uplink", "1.1.1.1", 81, "S"),
        "drop no-policy-deny host-normal new",
    );
    gateway.check_next("PIPE-4", &tcp("uplink", "1.1.1.1", 666, "S"), "drop raw#1 untracked");
}

#[test]
fn gw_9_an_untracked_deny_stops_an_established_flow_and_an_allow_changes_nothing() {
    let open = policy("open", "types: [Ingress, Egress], ingress: [{ action: Allow }], egress: [{ action: Allow }]");
    let mut gateway = Gateway::new("", &[("host.yaml", &format!("{HOST}{open}"))]);
    for port in [80, 666] {
        gateway.check_next("GW-9", &tcp("uplink", "1.1.1.1", port, "S"), "pass new");
    }
    gateway.reload(&[("host.yaml", &format!("{HOST}{open}{}", policy("raw", UNTRACKED)))]);
    gateway.check_next("GW-9 deny", &tcp("uplink", "1.1.1.1", 666, "S"), "drop raw#1 untracked established");
    gateway.check_next("GW-9 allow", &tcp("uplink", "1.1.1.1", 80, "S"), "pass established");
}

#[test]
fn gw_12_groups_remember_what_calico_leaves_untracked() {
    let groups = "segments: [{ name: workers, cidrs: [10.1.1.0/24], securityGroups: [sg] }]";
    let host = format!("{HOST}{}", policy("raw", UNTRACKED));
    let mut gateway = Gateway::new(groups, &[VPC, ("host.yaml", &host)]);
    gateway.check_next("GW-12", &tcp("uplink", "1.1.1.1", 80, "S"), "pass raw#0 untracked");
    assert_eq!(gateway.flows().filter(|flow| flow.is_groups_only).count(), 1);
    gateway.check_next(
        "GW-12 the reply passes the group by state",
        &tcp("downlink", "1.1.1.1", 80, "SA"),
        "pass raw#0 untracked",
    );
    // Without the untracked rules, Calico judges the same flow as new; the group still passes it.
    let open = policy("open", "types: [Ingress, Egress], ingress: [{ action: Allow }], egress: [{ action: Allow }]");
    gateway.reload(&[VPC, ("host.yaml", &format!("{HOST}{open}"))]);
    gateway.check_next("GW-12 becomes a full entry", &tcp("uplink", "1.1.1.1", 80, "A"), "pass open#0 new");
    assert_eq!(gateway.flows().filter(|flow| flow.is_groups_only).count(), 0);
    gateway.check_next("GW-12", &tcp("downlink", "1.1.1.1", 80, "A"), "pass established");
}

#[test]
fn gw_31_the_default_is_for_packets_that_nothing_governs() {
    for (file, expected) in [("", "pass default-allow default"), ("default: deny", "drop default-deny default")] {
        let mut gateway = Gateway::new(file, &[("host.yaml", HOST)]);
        gateway.check("GW-31", "in tcp 1.1.1.1:1 > 10.9.9.9:2", expected);
        gateway.check("GW-31 governed", "in tcp 1.1.1.1:1 > 10.1.1.1:2", "drop no-policy-deny host-normal");
    }
}
