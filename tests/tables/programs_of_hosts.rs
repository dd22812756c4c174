//! Upstream's table of host endpoint programs: preDNAT, forward, normal and untracked rules before those of workloads, with
//! translated destinations and traffic of the host itself.

use std::collections::BTreeMap;

use ringwall::base::address::{Direction, Family};
use ringwall::base::site::{Cidr, Segment};
use ringwall::packet::PacketSpec;
use ringwall::policy::ir::*;
use ringwall::policy::selector::Selector;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Outcome};
use crate::programs::{host_endpoint, open_profile, packets, place, pod, site, span, spec, table, tiers};

/// Whose traffic a packet is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Traffic {
    Forwarded,
    ToHost,
    FromHost,
}

/// One packet on a gateway that stands before the host: its program governs a stand-in, and the workload's program a pod at the
/// packet's own end.
fn judge(case: &Value, packet: &Value) -> Outcome {
    let is = |key: &str| packet[key].as_bool().unwrap_or(false);
    let traffic = match (is("to_host"), is("from_host")) {
        (true, _) => Traffic::ToHost,
        (_, true) => Traffic::FromHost,
        _ => Traffic::Forwarded,
    };
    let translated: PacketSpec = spec(packet);
    let program = &case["Policy"];
    let part = |key: &str| program[key].as_array().map_or(&[][..], Vec::as_slice);
    let mut policy = Policy { profiles: BTreeMap::from([("open".to_string(), open_profile())]), ..Policy::default() };
    let host = Selector::equals("governed", "worker");
    let both = [PolicyDirection::Ingress, PolicyDirection::Egress];
    let ingress = [PolicyDirection::Ingress];
    if program["SuppressNormalHostPolicy"].as_bool() == Some(true) {
        let allow = json!([{"Policies": [{"Rules": [{"Rule": {"Action": "Allow"}}]}]}]);
        tiers(&mut policy, allow.as_array().expect("a list"), "suppress", &host, Hook::Normal, &both, false);
    }
    tiers(&mut policy, part("HostPreDnatTiers"), "prednat", &host, Hook::PreDnat, &ingress, false);
    tiers(&mut policy, part("HostForwardTiers"), "forward", &host, Hook::NormalAndForward, &both, false);
    tiers(&mut policy, part("HostNormalTiers"), "normal", &host, Hook::Normal, &both, false);
    tiers(&mut policy, part("Tiers"), "pod", &Selector::equals("governed", "pod"), Hook::Normal, &both, false);

    let own_end = if traffic == Traffic::FromHost { translated.src } else { translated.dst };
    let is_local = traffic != Traffic::Forwarded;
    let addresses = if is_local { vec![own_end] } else { Vec::new() };
    policy.host_endpoints = vec![host_endpoint("worker", "worker-1", "eth0", addresses)];
    if !part("Tiers").is_empty() {
        policy.pods = vec![pod(own_end, true, Vec::new())];
    }
    let mut site = site();
    if !is_local {
        let everything = Cidr { network: "0.0.0.0".parse().expect("an address"), length: 0 };
        site.segments = vec![Segment {
            name: "all".to_string(),
            cidrs: vec![everything],
            host_endpoint: Some("worker".to_string()),
            network_acl: None,
            security_groups: Vec::new(),
            span: None,
        }];
    }
    let mut on_the_wire = translated.clone();
    // What the host sends is translated before it reaches the gateway.
    if let (Some(before), true) = (packet["pre_nat_dst"].as_str(), traffic != Traffic::FromHost) {
        (on_the_wire.dst, on_the_wire.dport) = place(before);
        assert_eq!(Family::of(on_the_wire.dst), Family::V4);
        policy.services = vec![Service {
            namespace: "n".to_string(),
            name: "s".to_string(),
            ports: vec![ServicePort {
                protocol: translated.protocol,
                port: on_the_wire.dport,
                node_port: None,
                backends: vec![(translated.dst, translated.dport)],
            }],
            cluster_addresses: vec![on_the_wire.dst],
            balancer_addresses: Vec::new(),
            source_ranges: Vec::new(),
            span: span(),
        }];
    }
    let direction = if traffic == Traffic::FromHost { Direction::Outbound } else { Direction::Inbound };
    Gateway::of(policy, site).alone_spec(&on_the_wire, direction)
}

#[test]
fn upstream_host_programs() {
    let Some(cases) = table("hostPolProgramTests") else { return };
    let (mut judged, mut left_out) = (0, Vec::new());
    for case in &cases {
        let name = case["PolicyName"].as_str().expect("a name");
        for (packet, list) in packets(case) {
            if packet["to_host"].as_bool() == Some(true) && packet["pre_nat_dst"].is_string() {
                // A service whose backend is the host itself: on a gateway what is translated is forwarded (GW-6).
                left_out.push(format!("{name}: {packet}"));
                continue;
            }
            let outcome = judge(case, packet);
            judged += 1;
            assert_eq!(outcome.is_allowed, list == "AllowedPackets", "{name} {list} {packet}: {}", outcome.line);
        }
    }
    println!("{} programs, {judged} verdicts; left out {left_out:#?}", cases.len());
    assert!(judged >= 32, "{judged}");
}

#[test]
fn upstream_untracked_programs() {
    let Some(cases) = table("xdpPolProgramTests") else { return };
    for case in &cases {
        let host_endpoints = vec![host_endpoint("uplink", "gw", "up0", Vec::new())];
        let mut policy = Policy { host_endpoints, ..Policy::default() };
        let written = case["Policy"]["HostNormalTiers"].as_array().expect("tiers");
        let selector = Selector::equals("governed", "uplink");
        tiers(&mut policy, written, "t", &selector, Hook::Untracked, &[PolicyDirection::Ingress], false);
        let mut gateway = Gateway::of(policy, site());
        for (packet, list) in packets(case) {
            let outcome = gateway.alone_spec(&spec(packet), Direction::Inbound);
            let expected = match list {
                "AllowedPackets" => (true, true, "untracked"),
                "DroppedPackets" => (false, true, outcome.flow),
                // Nothing decided: the packet goes on, tracked.
                _ => (true, false, "new"),
            };
            let found = (outcome.is_allowed, outcome.policy.is_some(), outcome.flow);
            assert_eq!(found, expected, "{} {list} {packet}: {}", case["PolicyName"], outcome.line);
        }
    }
}
