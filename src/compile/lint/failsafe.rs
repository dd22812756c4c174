//! Deny rules on endpoints with failsafe ports in, a finding for each that such a port never reaches out (GW-20, FS-2).

use ipnet::IpNet;

use super::{Ground, Host, listed, resource};
use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::base::site::FailsafeMode;
use crate::compile::failsafe_ports;
use crate::policy::ir::{Action, FailsafePort, Hook, Peer, PolicyDirection, Port, Rule};

/// Reports every Deny that failsafe ports bypass. It is a warning before translation, where failsafe ports surprise, and where
/// a rule names a failsafe port; a Deny of everything else in the normal stage is a note, since that is what they are for.
pub(super) fn bypasses(ground: &Ground, out: &mut Diagnostics) {
    if ground.site.failsafe == FailsafeMode::None {
        return;
    }
    let [inbound, outbound] = failsafe_ports(ground.policy);
    for (ruleset, selected) in ground.policy.rulesets.iter().zip(&ground.selected) {
        let directions =
            [(PolicyDirection::Ingress, &inbound, &outbound), (PolicyDirection::Egress, &outbound, &inbound)];
        for (direction, ports, mirrored) in directions {
            let hosts: Vec<&Host> = selected.hosts.iter().map(|&i| &ground.hosts[i]).collect();
            let hosts: Vec<&Host> = hosts
                .into_iter()
                .filter(|host| {
                    (host.is_own || ground.site.failsafe == FailsafeMode::Calico)
                        && is_asked(host, ground.hook(ruleset), direction)
                })
                .collect();
            if hosts.is_empty() {
                continue;
            }
            let denies = ruleset.rules(direction).unwrap_or_default().iter().filter(|rule| rule.action == Action::Deny);
            for rule in denies {
                let passing: Vec<&FailsafePort> =
                    ports.iter().filter(|port| would_match(ground, &hosts, rule, port, direction)).collect();
                let answers: Vec<&FailsafePort> = match ruleset.hook {
                    Hook::Untracked => mirrored.iter().filter(|port| names_as_source(rule, port, direction)).collect(),
                    _ => Vec::new(),
                };
                if passing.is_empty() && answers.is_empty() {
                    continue;
                }
                let answers = answers.iter().map(|port| format!("answers from {}", words(port)));
                let words = passing.iter().map(|port| words(port)).chain(answers).collect::<Vec<_>>().join(", ");
                let names = listed(hosts.iter().map(|host| format!("`{}`", host.endpoint.name)));
                let message = format!(
                    "rule {} of policy `{}` does not deny {words}: failsafe ports of host endpoint {names} pass before it is asked",
                    rule.index, ruleset.display
                );
                let is_surprise = matches!(ruleset.hook, Hook::Untracked | Hook::PreDnat);
                let finding = match is_surprise || !rule.destination.ports.is_empty() {
                    true => Diagnostic::warning("failsafe-bypass", message),
                    false => Diagnostic::note("failsafe-bypass", message),
                };
                let list = match direction {
                    PolicyDirection::Ingress => "failsafeInboundHostPorts",
                    PolicyDirection::Egress => "failsafeOutboundHostPorts",
                };
                let mode = if hosts.iter().any(|host| host.is_own) { "none" } else { "own" };
                let help = format!(
                    "set `{list}` in a FelixConfiguration to what shall stay open, or `failsafe: {mode}` in the gateway file"
                );
                out.push(finding.at(&rule.span).about(resource(ruleset)).help(help));
            }
        }
    }
}

/// Whether a stage with failsafe ports asks the endpoint's policies of this kind in this direction (FS-1, GW-4, GW-6).
fn is_asked(host: &Host, hook: Hook, direction: PolicyDirection) -> bool {
    let is_ingress = direction == PolicyDirection::Ingress;
    match hook {
        Hook::Untracked => host.is_active && host.endpoint.interface != "*" && (is_ingress || host.has_local),
        Hook::PreDnat => host.is_active && is_ingress,
        Hook::Normal | Hook::NormalAndForward => host.has_local,
    }
}

/// Whether some packet to the failsafe port would match the rule, were it asked.
fn would_match(
    ground: &Ground,
    hosts: &[&Host],
    rule: &Rule,
    failsafe: &FailsafePort,
    direction: PolicyDirection,
) -> bool {
    let FailsafePort { protocol, port, net } = *failsafe;
    let is_port = |listed: &Port| match listed {
        Port::Range(first, last) => (*first..=*last).contains(&port),
        Port::Named(name) => hosts.iter().any(|host| {
            host.endpoint.ports.iter().any(|p| p.name == *name && p.protocol == protocol && p.port == port)
        }),
    };
    let Peer { ports, not_ports, service, .. } = &rule.destination;
    let serves = |(namespace, name): &(String, String)| {
        let services = ground.policy.services.iter().filter(|s| s.namespace == *namespace && s.name == *name);
        let mut ports = services.flat_map(|s| &s.ports).filter(|p| p.protocol == protocol);
        ports.any(|p| p.backends.iter().any(|backend| backend.1 == port))
    };
    rule.protocol.is_none_or(|number| number == protocol)
        && rule.not_protocol.is_none_or(|number| number != protocol)
        && rule.icmp.is_none()
        && (ports.is_empty() || ports.iter().any(is_port))
        && !not_ports.iter().any(is_port)
        && service.as_ref().is_none_or(serves)
        && net.as_ref().is_none_or(|net| overlaps(far(rule, direction), net))
}

/// Whether a rule of the untracked stage names a failsafe port of the other direction as source port: answers from such ports pass
/// there too (FS-3). A rule that names no source port is not reported for them; it would be said of nearly every rule.
fn names_as_source(rule: &Rule, failsafe: &FailsafePort, direction: PolicyDirection) -> bool {
    let FailsafePort { protocol, port, net } = *failsafe;
    let is_port = |listed: &Port| matches!(listed, Port::Range(first, last) if (*first..=*last).contains(&port));
    rule.protocol.is_none_or(|number| number == protocol)
        && rule.not_protocol.is_none_or(|number| number != protocol)
        && rule.source.ports.iter().any(is_port)
        && !rule.source.not_ports.iter().any(is_port)
        && net.as_ref().is_none_or(|net| overlaps(far(rule, direction), net))
}

/// The other end, as an endpoint sees it.
fn far(rule: &Rule, direction: PolicyDirection) -> &Peer {
    match direction {
        PolicyDirection::Ingress => &rule.source,
        PolicyDirection::Egress => &rule.destination,
    }
}

/// Whether an end of a rule may lie in a prefix.
fn overlaps(peer: &Peer, net: &IpNet) -> bool {
    let touches = |other: &IpNet| net.contains(other) || other.contains(net);
    (peer.nets.is_empty() || peer.nets.iter().any(touches)) && !peer.not_nets.iter().any(|not| not.contains(net))
}

fn words(port: &FailsafePort) -> String {
    let protocol = match port.protocol {
        6 => "tcp".to_string(),
        17 => "udp".to_string(),
        132 => "sctp".to_string(),
        other => format!("protocol {other}"),
    };
    match port.net {
        Some(net) => format!("{protocol} {} of {net}", port.port),
        None => format!("{protocol} {}", port.port),
    }
}
