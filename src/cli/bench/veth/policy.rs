//! A number of rules in, the same policy as Calico YAML and as nftables rules out.
//!
//! The policy is a deny list: every rule refuses one network's datagrams to one port, and what no rule refuses passes. So every
//! packet that passes has been compared with all rules, in whatever way a forwarder does that; the traffic of the bench matches
//! none. Half of the rules name the traffic's own source network with another port, the other half other networks.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// Port of the traffic, which no rule names.
pub const PORT: u16 = 7;

/// Ports that rules name begin here, beyond those of the traffic at both of its ends.
const FIRST_REFUSED: u16 = 20_000;
/// Most rules of which no two are equal.
pub const MOST_RULES: i64 = 90_000;

/// Rules of one policy: longer lists are refused, as by the original.
const POLICY_RULES: usize = 1000;

/// Whether flows are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Each packet is judged by itself.
    Without,
    /// The first packet of a flow is judged, the others follow.
    With,
}

impl State {
    /// Both.
    pub const ALL: [State; 2] = [State::Without, State::With];

    /// The word in tables and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            State::Without => "stateless",
            State::With => "stateful",
        }
    }
}

/// How nftables holds the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// One rule after the other.
    Linear,
    /// One set of concatenated ranges, looked up once: what anybody writes whose networks are of different lengths.
    Set,
    /// One hash of networks of one length with a verdict each, looked up once: the best that this policy allows.
    Map,
}

impl Form {
    /// All three.
    pub const ALL: [Form; 3] = [Form::Linear, Form::Set, Form::Map];

    /// The word in tables and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Form::Linear => "linear",
            Form::Set => "set",
            Form::Map => "map",
        }
    }
}

/// One refusal.
struct Refusal {
    /// A /24.
    source: Ipv4Addr,
    port: u16,
}

/// The far network, behind the downlink.
const FAR: &str = "198.19.0.0/24";

fn refusals(rules: u32) -> impl Iterator<Item = Refusal> {
    (0..rules).map(|number| {
        let port = FIRST_REFUSED + (number / 2 % 45_000) as u16;
        let source = match number % 2 {
            0 => Ipv4Addr::new(198, 18, 0, 0),
            _ => {
                let [_, a, b, c] = (number / 2).to_be_bytes();
                Ipv4Addr::new(10 + a, b, c, 0)
            }
        };
        Refusal { source, port }
    })
}

/// The gateway file, for policies in `policies/` beside it.
pub fn gateway_file(ring: u32) -> [(&'static str, String); 2] {
    let gateway = format!(
        "apiVersion: ringwall/v1
kind: Gateway
node: bench-gateway
profile: hw-profile.yaml
ports: {{ uplink: {{ interface: up0 }}, downlink: {{ interface: dn0 }} }}
policy: [policies/]
segments: [{{ name: far, cidrs: [{FAR}], hostEndpoint: far }}]
flows: {{ capacity: 262144 }}
"
    );
    let profile = format!(
        "apiVersion: ringwall/v1
kind: HardwareProfile
name: veth-bench
driver: veth
tested: true
mode: copy
queues: 1
rings: {{ receive: {ring}, transmit: {ring} }}
"
    );
    [("gateway.yaml", gateway), ("hw-profile.yaml", profile)]
}

/// The policy as this program reads it: both directions are filtered by the same rules. It also refuses a near host, if one is
/// given.
pub fn calico(rules: u32, state: State, refused: Option<Ipv4Addr>) -> String {
    let mut text = "apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: far, labels: { side: far } }
spec: { node: far, interfaceName: eth0, expectedIPs: [198.19.0.1] }
"
    .to_owned();
    let all: Vec<Refusal> = refusals(rules).collect();
    let pieces: Vec<&[Refusal]> = if all.is_empty() { vec![&[]] } else { all.chunks(POLICY_RULES).collect() };
    for (number, piece) in pieces.iter().enumerate() {
        let untracked = if state == State::Without { "\n  doNotTrack: true" } else { "" };
        let _ = writeln!(
            text,
            "---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{ name: deny-list-{number} }}
spec:
  order: {number}
  selector: side == 'far'
  applyOnForward: true{untracked}
  types: [Ingress, Egress]"
        );
        // The endpoint is the far end: what comes from the near network is ingress, what goes there is egress.
        for (direction, near) in [("ingress", "source"), ("egress", "destination")] {
            let _ = writeln!(text, "  {direction}:");
            if let Some(host) = refused.filter(|_| number == 0) {
                let _ = writeln!(text, "  - {{ action: Deny, {near}: {{ nets: [{host}/32] }} }}");
            }
            for Refusal { source, port } in *piece {
                let (nets, ports) = (format!("nets: [{source}/24]"), format!("ports: [{port}]"));
                let sides = match near {
                    "source" => format!("source: {{ {nets} }}, destination: {{ {ports} }}"),
                    _ => format!("destination: {{ {nets}, {ports} }}"),
                };
                let _ = writeln!(text, "  - {{ action: Deny, protocol: UDP, {sides} }}");
            }
            if number + 1 == pieces.len() {
                text.push_str("  - { action: Allow }\n");
            }
        }
    }
    text
}

/// The policy as nftables reads it, for packets forwarded from the uplink to the downlink and back.
pub fn nftables(rules: u32, state: State, form: Form) -> String {
    let mut text = "flush ruleset\ntable ip bench {\n".to_owned();
    if form == Form::Set && rules > 0 {
        let _ =
            writeln!(text, "  set denied {{\n    type ipv4_addr . inet_service\n    flags interval\n    elements = {{");
        for Refusal { source, port } in refusals(rules) {
            let _ = writeln!(text, "      {source}/24 . {port},");
        }
        text.push_str("    }\n  }\n");
    }
    if form == Form::Map && rules > 0 {
        text.push_str("  map verdicts {\n    type ipv4_addr . inet_service : verdict\n    elements = {\n");
        for Refusal { source, port } in refusals(rules) {
            let _ = writeln!(text, "      {source} . {port} : drop,");
        }
        text.push_str("    }\n  }\n");
    }
    text.push_str("  chain forward {\n    type filter hook forward priority 0; policy accept;\n");
    if state == State::With {
        text.push_str("    ct state established,related accept\n    ct state invalid drop\n");
    }
    for (far, network) in [("ip daddr", "ip saddr"), ("ip saddr", "ip daddr")] {
        match form {
            _ if rules == 0 => {}
            Form::Set => {
                let _ = writeln!(text, "    {far} {FAR} {network} . udp dport @denied drop");
            }
            Form::Map => {
                let _ = writeln!(text, "    {far} {FAR} {network} & 255.255.255.0 . udp dport vmap @verdicts");
            }
            Form::Linear => {
                // A chain for each direction, so that a packet is compared with the rules of its own only.
                let chain = if network == "ip saddr" { "inbound" } else { "outbound" };
                let _ = writeln!(text, "    {far} {FAR} jump {chain}");
            }
        }
    }
    text.push_str("  }\n");
    if form == Form::Linear {
        // Chains must be there before they are named.
        let mut chains = String::new();
        for (chain, network) in [("inbound", "ip saddr"), ("outbound", "ip daddr")] {
            let _ = writeln!(chains, "  chain {chain} {{");
            for Refusal { source, port } in refusals(rules) {
                let _ = writeln!(chains, "    {network} {source}/24 udp dport {port} drop");
            }
            chains.push_str("  }\n");
        }
        let at = text.find("  chain forward").unwrap_or(text.len());
        text.insert_str(at, &chains);
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_hold_as_many_rules_and_none_names_the_traffic() {
        for rules in [1, 10, 1000] {
            let yaml = calico(rules, State::Without, None);
            assert_eq!(yaml.matches("action: Deny").count(), 2 * rules as usize);
            assert!(yaml.contains("doNotTrack: true"));
            let linear = nftables(rules, State::With, Form::Linear);
            assert_eq!(linear.matches(" drop\n").count(), 2 * rules as usize + 1);
            let set = nftables(rules, State::Without, Form::Set);
            assert_eq!(set.matches("/24 . ").count(), rules as usize);
            let map = nftables(rules, State::Without, Form::Map);
            assert_eq!(map.matches(" : drop,").count(), rules as usize);
            for text in [yaml, linear, set, map] {
                assert!(!text.contains("[7]") && !text.contains("dport 7 ") && !text.contains(". 7,"), "{text}");
            }
        }
    }

    #[test]
    fn rules_differ_from_each_other() {
        let mut all: Vec<_> = refusals(MOST_RULES as u32).map(|refusal| (refusal.source, refusal.port)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), MOST_RULES as usize);
    }
}
