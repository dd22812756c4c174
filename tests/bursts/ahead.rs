//! Bursts that ask many long lists, and packets that nobody expected to need a header.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use ringwall::base::address::{Direction, Family, number};
use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::site::Site;
use ringwall::base::time::Now;
use ringwall::compile::{Options, compile};
use ringwall::engine::{BATCH, NoTrace, Program, Reason, Recorder, Verdict};
use ringwall::packet::{PacketSpec, build};
use ringwall::policy::ir::Policy;

use crate::random::traffic::{Arrival, arrivals};
use crate::random::{Dice, PORTS};
use crate::{Gate, gateway};

const SECOND: u64 = 1_000_000_000;

/// Pods with a long list in each direction; more than a burst asks ahead.
const PODS: u8 = 12;

fn pod(n: u8) -> [IpAddr; 2] {
    [IpAddr::from([10, 0, 0, n]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)])]
}

/// Twelve pods, each with a policy of 280 rules of its own for each direction, between few hosts and ports.
fn policy() -> Policy {
    let dice = &mut Dice::new(31);
    let mut text = String::new();
    for n in 0..PODS {
        let [v4, v6] = pod(n);
        let _ = writeln!(
            text,
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{n}, labels: {{own: p{n}}}}}\n\
             status: {{podIP: {v4}, podIPs: [{{ip: {v4}}}, {{ip: '{v6}'}}]}}\n---\n\
             apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: policy-{n}}}\n\
             spec:\n  selector: own == 'p{n}'\n  types: [Ingress, Egress]"
        );
        for (list, side) in [("ingress", "source"), ("egress", "destination")] {
            let _ = writeln!(text, "  {list}:");
            for _ in 0..280 {
                let host = match dice.chance(75) {
                    true => format!("10.0.{}.{}/32", dice.below(3), dice.below(24)),
                    false => format!("fd00::{:x}:{:x}/128", dice.below(2), dice.below(16)),
                };
                let action = if dice.chance(75) { "Allow" } else { "Deny" };
                let protocol = dice.pick(&["TCP", "UDP", "SCTP"]);
                let ports = match side {
                    "destination" => format!("destination: {{nets: ['{host}'], ports: [{}]}}", dice.pick(&PORTS)),
                    _ => format!("source: {{nets: ['{host}']}}, destination: {{ports: [{}]}}", dice.pick(&PORTS)),
                };
                let _ = writeln!(text, "  - {{action: {action}, protocol: {protocol}, {ports}}}");
            }
            let _ = writeln!(text, "  - {{action: Allow, protocol: TCP, destination: {{ports: [22, 443]}}}}");
        }
        text.push_str("---\n");
    }
    gateway::read(&[("pods.yaml", &text)]).unwrap_or_else(|findings| panic!("{findings:#?}")).0
}

fn program(policy: &Policy) -> Program {
    let mut findings = Diagnostics::new();
    let program = compile(policy, &Site::default(), &Options::default(), &mut findings);
    program.unwrap_or_else(|| panic!("{findings:#?}"))
}

/// The long lists that the new packets of a burst ask first.
fn lists(program: &Program, gate: &Gate, from: usize) -> usize {
    let mut lists = BTreeSet::new();
    for (at, decision) in gate.decisions.iter().enumerate().skip(from) {
        let key = gate.batch.key(at - from);
        let [src, dst] = [key.src, key.dst].map(|address| program.place(key.family(), address).pod);
        let scope = if key.direction() == Direction::Inbound { dst[0] } else { src[1] };
        if matches!(decision.reason(), Reason::PolicyAllow | Reason::PolicyDeny | Reason::TierDefaultDeny) {
            assert!(program.classifier.is_long(scope), "list {scope}: {:?}", program.classifier.shapes());
            lists.insert(scope);
        }
    }
    lists.len()
}

#[test]
fn every_pod_has_two_long_lists() {
    let program = program(&policy());
    for n in 0..PODS {
        for (family, address) in [Family::V4, Family::V6].into_iter().zip(pod(n)) {
            let scopes = program.place(family, number(address)).pod;
            assert!(scopes.iter().all(|&scope| program.classifier.is_long(scope)), "{:?}", program.classifier.shapes());
        }
    }
}

#[test]
fn bursts_of_every_length_equal_their_packets_one_by_one() {
    let policy = policy();
    let lookup = program(&policy);
    let [mut bursts, mut traced, mut alone] = [(); 3].map(|()| Gate::new(program(&policy)));
    let (mut most_lists, mut beyond) = (0, 0);
    for burst in 1..=BATCH {
        let dice = &mut Dice::new(burst as u64);
        let arrivals = arrivals(dice, 12 * burst.max(16));
        [&mut bursts, &mut traced, &mut alone].into_iter().for_each(Gate::forget);
        for part in arrivals.chunks(burst) {
            let from = bursts.decisions.len();
            bursts.judge(part, burst, &mut NoTrace);
            let lists = lists(&lookup, &bursts, from);
            most_lists = most_lists.max(lists);
            beyond += usize::from(lists > 4);
        }
        traced.judge(&arrivals, burst, &mut Recorder::default());
        alone.judge(&arrivals, 1, &mut NoTrace);
        let differs = (0..arrivals.len()).find(|&at| bursts.decisions[at] != alone.decisions[at]);
        let shown = |at: usize| (at, bursts.decisions[at], alone.decisions[at]);
        assert_eq!(differs.map(shown), None, "bursts of {burst}");
        assert_eq!(bursts.decisions, traced.decisions, "bursts of {burst}, traced");
        assert_eq!(bursts.marks(), alone.marks(), "bursts of {burst}");
        assert_eq!(traced.marks(), alone.marks(), "bursts of {burst}, traced");
    }
    assert!(most_lists > 8 && beyond > 50, "at most {most_lists} lists in a burst, more than four in {beyond}");
}

/// A datagram to a pod, or from it.
fn datagram(from: u8, pod_number: u8, port: u16, direction: Direction, time: u64) -> Arrival {
    let (host, [own, _]) = (IpAddr::from([10, 0, 1, from]), pod(pod_number));
    let (src, dst) = if direction == Direction::Inbound { (host, own) } else { (own, host) };
    let spec = PacketSpec { sport: 5_000, dport: port, ..PacketSpec::new(src, dst, 17) };
    Arrival { frame: build(&spec), direction, time: Now(time) }
}

/// Flows that have expired are held until they are reclaimed, so that a burst takes their packets for those of flows; each needs a
/// header all the same.
#[test]
fn packets_of_expired_flows_are_judged_as_new_with_headers_that_nobody_guessed() {
    let policy = policy();
    let mut packets = Vec::new();
    for from in 0..24 {
        for pod_number in 0..PODS {
            for port in PORTS {
                for direction in [Direction::Inbound, Direction::Outbound] {
                    packets.push((from, pod_number, port, direction));
                }
            }
        }
    }
    let at = |time: u64, skip: usize| -> Vec<Arrival> {
        let chosen = packets.iter().skip(skip).step_by(7);
        chosen.map(|&(from, pod, port, direction)| datagram(from, pod, port, direction, time)).collect()
    };
    let [mut bursts, mut alone] = [(); 2].map(|()| Gate::new(program(&policy)));
    for burst in [2, 17, BATCH] {
        [&mut bursts, &mut alone].into_iter().for_each(Gate::forget);
        let mut allowed = 0;
        // Every flow expires 30 s after its one packet; others begin meanwhile, so that a burst has both.
        for (time, skip) in [(1, 0), (31, 0), (31, 1), (61, 1), (62, 0), (62, 2)] {
            let arrivals = at(time * SECOND, skip);
            let first = bursts.decisions.len();
            bursts.judge(&arrivals, burst, &mut NoTrace);
            alone.judge(&arrivals, 1, &mut NoTrace);
            assert_eq!(bursts.decisions[first..], alone.decisions[first..], "{time} s, bursts of {burst}");
            let is_new = |reason| matches!(reason, Reason::PolicyAllow | Reason::PolicyDeny | Reason::TierDefaultDeny);
            assert!(bursts.decisions[first..].iter().all(|d| is_new(d.reason())), "{time} s, bursts of {burst}");
            allowed += bursts.decisions[first..].iter().filter(|d| d.verdict() == Verdict::Allow).count();
        }
        assert_eq!(bursts.marks(), alone.marks(), "bursts of {burst}");
        assert!(allowed > 200, "{allowed} allowed");
    }
}
