//! Upstream's table of policy programs with the packets each allows and drops, on every way that rules are asked here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ringwall::base::address::Direction;
use ringwall::base::diagnostic::Span;
use ringwall::base::site::{FailsafeMode, Site};
use ringwall::packet::PacketSpec;
use ringwall::policy::ir::*;
use ringwall::policy::selector::Selector;
use serde_json::Value;

use crate::gateway::{Gateway, shared};

/// The table, `None` where it is not at hand.
pub fn table(key: &str) -> Option<Vec<Value>> {
    let path = shared()?.join("corpus/calico-fixtures/felix-policy-program-cases.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let all: Value = serde_json::from_str(&text).expect("the table is JSON");
    Some(all[key].as_array().expect("a list of programs").clone())
}

pub fn span() -> Span {
    Span { file: Arc::from("program.json"), line: 1, column: 1 }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn texts<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    list(value, key).iter().map(|v| v.as_str().expect("a text")).collect()
}

/// `addr`, `addr:port`, `[addr]` or `[addr]:port`.
pub fn place(text: &str) -> (IpAddr, u16) {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return (socket.ip(), socket.port());
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    (bare.parse().unwrap_or_else(|_| panic!("{text}: no address")), 0)
}

fn protocol(value: &Value) -> Option<u8> {
    if let Some(number) = value["Number"].as_u64() {
        return Some(number as u8);
    }
    value["Name"].as_str().map(|name| match name {
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        "sctp" => 132,
        other => panic!("protocol {other}"),
    })
}

fn peer(rule: &Value, side: &str) -> Peer {
    let nets = |key: String| texts(rule, &key).iter().map(|n| n.parse().expect("a prefix")).collect();
    let ranges = |key: String| {
        let number = |v: &Value, end: &str| v[end].as_u64().unwrap_or(0) as u16;
        list(rule, &key).iter().map(|v| Port::Range(number(v, "First"), number(v, "Last"))).collect::<Vec<_>>()
    };
    let set = |key: String| {
        let ids = texts(rule, &key);
        assert!(ids.len() <= 1, "two sets must both hold the address, which no selector says: {rule}");
        ids.first().map(|id| Selector::has(*id))
    };
    let mut ports = ranges(format!("{side}Ports"));
    ports.extend(texts(rule, &format!("{side}NamedPortIpSetIds")).iter().map(|id| Port::Named(id.to_string())));
    Peer {
        nets: nets(format!("{side}Net")),
        not_nets: nets(format!("Not{side}Net")),
        selector: set(format!("{side}IpSetIds")),
        not_selector: set(format!("Not{side}IpSetIds")),
        ports,
        not_ports: ranges(format!("Not{side}Ports")),
        service: None,
    }
}

fn rule(value: &Value, index: u32, is_v6: bool) -> Rule {
    const KNOWN: [&str; 18] = [
        "Action",
        "Protocol",
        "NotProtocol",
        "Icmp",
        "SrcNet",
        "DstNet",
        "NotSrcNet",
        "NotDstNet",
        "SrcPorts",
        "DstPorts",
        "NotSrcPorts",
        "NotDstPorts",
        "SrcIpSetIds",
        "DstIpSetIds",
        "NotSrcIpSetIds",
        "NotDstIpSetIds",
        "SrcNamedPortIpSetIds",
        "DstNamedPortIpSetIds",
    ];
    let value = &value["Rule"];
    for field in value.as_object().expect("a rule").keys() {
        assert!(KNOWN.contains(&field.as_str()), "{field} has no translation");
    }
    let icmp = value["Icmp"]["Type"]
        .as_u64()
        .map(|kind| Icmp { kind: kind as u8, code: value["Icmp"]["Code"].as_u64().map(|code| code as u8) });
    // A type without a protocol is no rule here; it means ICMP.
    let implied = icmp.map(|_| if is_v6 { 58 } else { 1 });
    Rule {
        action: match value["Action"].as_str().expect("an action").to_lowercase().as_str() {
            "allow" => Action::Allow,
            "deny" => Action::Deny,
            "pass" | "next-tier" => Action::Pass,
            "log" => Action::Log,
            other => panic!("action {other}"),
        },
        family: None,
        protocol: protocol(&value["Protocol"]).or(implied),
        not_protocol: protocol(&value["NotProtocol"]),
        icmp,
        not_icmp: None,
        source: peer(value, "Src"),
        destination: peer(value, "Dst"),
        index,
        span: span(),
    }
}

/// Tiers of a program as policies that `selector` governs with.
pub fn tiers(
    policy: &mut Policy,
    tiers: &[Value],
    prefix: &str,
    selector: &Selector,
    hook: Hook,
    directions: &[PolicyDirection],
    is_v6: bool,
) {
    for (t, tier) in tiers.iter().enumerate() {
        let name = format!("{prefix}{t}");
        let end = tier["EndAction"].as_str().unwrap_or("deny").to_lowercase();
        let default_action = if end.ends_with("pass") { TierDefault::Pass } else { TierDefault::Deny };
        policy.tiers.push(Tier { name: name.clone(), order: None, default_action });
        for (p, written) in list(tier, "Policies").iter().enumerate() {
            let rules: Vec<Rule> =
                list(written, "Rules").iter().zip(0..).map(|(value, i)| rule(value, i, is_v6)).collect();
            let of = |direction| directions.contains(&direction).then(|| rules.clone());
            policy.rulesets.push(RuleSet {
                kind: Kind::GlobalNetworkPolicy,
                name: format!("{name}.{p}"),
                display: format!("{name}.{p}"),
                namespace: None,
                tier: name.clone(),
                order: Some(p as f64),
                selector: selector.clone(),
                selector_text: String::new(),
                hook,
                ingress: of(PolicyDirection::Ingress),
                egress: of(PolicyDirection::Egress),
                is_v1: false,
                span: span(),
            });
        }
    }
}

/// A pod at an address; governed ones have no profile, so that what no policy decides is dropped.
pub fn pod(address: IpAddr, is_governed: bool, ports: Vec<NamedPort>) -> Pod {
    let mut labels = Labels::new();
    if is_governed {
        labels.insert("governed".to_string(), "pod".to_string());
    }
    Pod {
        namespace: "n".to_string(),
        name: format!("pod-{address}"),
        addresses: vec![address],
        labels,
        profiles: if is_governed { Vec::new() } else { vec!["open".to_string()] },
        ports,
        span: span(),
    }
}

pub fn open_profile() -> Profile {
    let allow: Value = serde_json::json!({"Rule": {"Action": "Allow"}});
    Profile { ingress: vec![rule(&allow, 0, false)], egress: vec![rule(&allow, 0, false)], span: None }
}

pub fn host_endpoint(name: &str, node: &str, interface: &str, addresses: Vec<IpAddr>) -> HostEndpoint {
    HostEndpoint {
        name: name.to_string(),
        node: node.to_string(),
        interface: interface.to_string(),
        addresses,
        labels: Labels::from([("governed".to_string(), name.to_string())]),
        profiles: Vec::new(),
        ports: Vec::new(),
        span: span(),
    }
}

pub fn site() -> Site {
    Site {
        node: Some("gw".to_string()),
        uplink: Some("up0".to_string()),
        downlink: Some("dn0".to_string()),
        failsafe: FailsafeMode::None,
        ..Site::default()
    }
}

pub fn spec(packet: &Value) -> PacketSpec {
    let (src, sport) = place(packet["src"].as_str().expect("a source"));
    let (dst, dport) = place(packet["dst"].as_str().expect("a destination"));
    let base = PacketSpec::new(src, dst, packet["proto"].as_u64().expect("a protocol") as u8);
    let byte = |key: &str| packet[key].as_u64().map(|n| n as u8);
    PacketSpec {
        sport,
        dport,
        icmp_type: byte("icmp_type").unwrap_or(base.icmp_type),
        icmp_code: byte("icmp_code").unwrap_or(0),
        ..base
    }
}

/// Packets of a case with what becomes of each.
pub fn packets(case: &Value) -> Vec<(&Value, &'static str)> {
    ["AllowedPackets", "DroppedPackets", "UnmatchedPackets"]
        .into_iter()
        .flat_map(|key| list(case, key).iter().map(move |p| (p, key)))
        .collect()
}

/// Where rules are asked.
#[derive(Clone, Copy, Debug)]
enum Way {
    ForwardIn,
    ForwardOut,
    HostNormal,
    HostEgress,
    PodIngress,
    PodEgress,
}

impl Way {
    const ALL: [Way; 6] =
        [Way::ForwardIn, Way::ForwardOut, Way::HostNormal, Way::HostEgress, Way::PodIngress, Way::PodEgress];

    fn direction(self) -> Direction {
        match self {
            Way::HostEgress | Way::PodEgress => Direction::Outbound,
            _ => Direction::Inbound,
        }
    }
}

/// A program as the policy of one way.
fn program(case: &Value, way: Way) -> Gateway {
    let is_v6 = case["ForIPv6"].as_bool().unwrap_or(false);
    let ends = |end: &str| -> Vec<IpAddr> {
        let set: BTreeSet<IpAddr> =
            packets(case).iter().map(|(p, _)| place(p[end].as_str().expect("an address")).0).collect();
        set.into_iter().collect()
    };
    let mut named: BTreeMap<IpAddr, Vec<NamedPort>> = BTreeMap::new();
    let mut policy = Policy { profiles: BTreeMap::from([("open".to_string(), open_profile())]), ..Policy::default() };
    for (set, members) in case["IPSets"].as_object().into_iter().flatten() {
        let mut nets = Vec::new();
        for member in members.as_array().into_iter().flatten().map(|m| m.as_str().expect("a member")) {
            let Some((address, port)) = member.split_once(',') else {
                nets.push(member.parse().expect("a prefix"));
                continue;
            };
            let (protocol, port) = port.split_once(':').expect("protocol and port");
            let protocol = if protocol == "tcp" { 6 } else { 17 };
            let address = place(address.split('/').next().expect("an address")).0;
            let port = port.parse().expect("a port");
            named.entry(address).or_default().push(NamedPort { name: set.clone(), protocol, port });
        }
        let labels = Labels::from([(set.clone(), String::new())]);
        policy.network_sets.push(NetworkSet { display: set.clone(), nets, labels, span: span() });
    }
    let (hook, governed) = match way {
        Way::ForwardIn => (Hook::NormalAndForward, "uplink"),
        Way::ForwardOut => (Hook::NormalAndForward, "downlink"),
        Way::HostNormal | Way::HostEgress => (Hook::Normal, "worker"),
        Way::PodIngress | Way::PodEgress => (Hook::Normal, "pod"),
    };
    policy.host_endpoints = match way {
        Way::ForwardIn => vec![host_endpoint("uplink", "gw", "up0", Vec::new())],
        Way::ForwardOut => vec![host_endpoint("downlink", "gw", "dn0", Vec::new())],
        Way::HostNormal => vec![host_endpoint("worker", "worker-1", "eth0", ends("dst"))],
        Way::HostEgress => vec![host_endpoint("worker", "worker-1", "eth0", ends("src"))],
        _ => Vec::new(),
    };
    let directions = match way {
        Way::ForwardIn | Way::HostNormal | Way::PodIngress => [PolicyDirection::Ingress],
        _ => [PolicyDirection::Egress],
    };
    let governed_pods = match way {
        Way::PodIngress => ends("dst"),
        Way::PodEgress => ends("src"),
        _ => Vec::new(),
    };
    for address in governed_pods.iter().chain(named.keys()).collect::<BTreeSet<_>>() {
        let ports = named.get(address).cloned().unwrap_or_default();
        policy.pods.push(pod(*address, governed_pods.contains(address), ports));
    }
    let selector = Selector::equals("governed", governed);
    tiers(&mut policy, list(&case["Policy"], "Tiers"), "t", &selector, hook, &directions, is_v6);
    Gateway::of(policy, site())
}

#[test]
fn upstream_policy_programs() {
    let Some(cases) = table("polProgramTests") else { return };
    let (mut judged, mut artefacts, mut wrong) = (0, Vec::new(), Vec::new());
    for case in &cases {
        let name = case["PolicyName"].as_str().expect("a name");
        for way in Way::ALL {
            let mut gateway = program(case, way);
            for (packet, list) in packets(case) {
                if packet["family_mismatch"].as_bool() == Some(true) {
                    // An IPv6 packet given to a program for IPv4: here one program judges both families.
                    artefacts.push(format!("{name}: {packet}"));
                    continue;
                }
                let outcome = gateway.alone_spec(&spec(packet), way.direction());
                judged += 1;
                if outcome.is_allowed != (list == "AllowedPackets") {
                    wrong.push(format!("{name} {way:?} {list} {packet}: {}", outcome.line));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {judged} verdicts differ:\n{}", wrong.len(), wrong.join("\n"));
    artefacts.sort();
    artefacts.dedup();
    println!("{} programs, {judged} verdicts on {} ways; left out {artefacts:#?}", cases.len(), Way::ALL.len());
    assert!(artefacts.len() <= 4 && judged >= 270 * Way::ALL.len(), "{judged} {artefacts:?}");
}
