//! The stateless verdict that a flow remembers: what is asked, when it is forgotten, and that it changes no decision.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ringwall::base::address::{Direction, Family};
use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::site::{ExistingFlows, Site};
use ringwall::base::time::Now;
use ringwall::compile::{Options, compile};
use ringwall::config;
use ringwall::engine::trace::Event;
use ringwall::engine::{BATCH, Decision, NoTrace, Program, Reason, Recorder, Trace, Verdict};
use ringwall::packet::{FragmentSpec, PacketSpec, build};
use ringwall::policy::ir::Policy;

use crate::random::policies;
use crate::random::traffic::Arrival;
use crate::random::{Dice, PORTS, address};
use crate::{Gate, gateway};

const SECOND: u64 = 1_000_000_000;
const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

/// Hears what is asked without being one who listens, so that what is remembered is used.
#[derive(Default)]
struct Ear {
    asked: usize,
}

impl Trace for Ear {
    const LISTENS: bool = false;

    fn begin(&mut self, _packet: usize) {}

    fn event(&mut self, event: Event) {
        self.asked += usize::from(matches!(event, Event::Matched { .. } | Event::Undecided { .. }));
    }
}

/// Both ends have the ACL, if there is one.
const GATEWAY: &str = "apiVersion: ringwall/v1
kind: Gateway
segments:
  - { name: workers, cidrs: [10.1.1.0/24], networkACL: acl }
  - { name: clients, cidrs: [1.1.1.0/24], networkACL: acl }
";

fn site() -> Site {
    config::parse(Path::new("gateway.yaml"), GATEWAY).unwrap_or_else(|found| panic!("{found:#?}")).site
}

/// An ACL that denies UDP to port 666 and, if told so, all that leaves for 1.1.1.1; the rest may pass.
fn acl(is_answer_denied: bool) -> String {
    let rule = |name: &str, action: &str, direction: &str, more: &str| {
        format!(
            r#"{{"id": "{name}", "name": "{name}", "action": "{action}", "direction": "{direction}", "ip_version": "ipv4", {more}}}"#
        )
    };
    let any = r#""protocol": "any", "source": "0.0.0.0/0", "destination": "0.0.0.0/0""#;
    let closed = r#""protocol": "udp", "source": "0.0.0.0/0", "destination": "0.0.0.0/0", "destination_port_min": 666, "destination_port_max": 666"#;
    let client = r#""protocol": "any", "source": "0.0.0.0/0", "destination": "1.1.1.1/32""#;
    let mut rules = vec![rule("closed", "deny", "inbound", closed), rule("in", "allow", "inbound", any)];
    if is_answer_denied {
        rules.push(rule("no-answer", "deny", "outbound", client));
    }
    rules.push(rule("out", "allow", "outbound", any));
    let mut chained = String::new();
    for (n, rule) in rules.iter().enumerate() {
        let next = rules.get(n + 1).and_then(|next| next.split('"').nth(3));
        let before = next.map_or(String::new(), |id| format!(r#", "before": {{"id": "{id}", "name": "{id}"}}"#));
        let comma = if n == 0 { "" } else { ", " };
        let _ = write!(chained, "{comma}{}{before}}}", rule.trim_end_matches('}'));
    }
    format!(r#"{{"network_acls": [{{"id": "a", "name": "acl", "subnets": [], "rules": [{chained}]}}]}}"#)
}

/// A host whose untracked rules log what is sent to port 7 and decide nothing else.
pub const LOGGED: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker, labels: { role: worker } }
spec: { node: worker-1, interfaceName: eth1, expectedIPs: [10.1.1.1, '2001:db8::1'] }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: raw }
spec:
  selector: role == 'worker'
  doNotTrack: true
  applyOnForward: true
  types: [Ingress, Egress]
  ingress:
    - { action: Log, protocol: UDP, destination: { ports: [7] } }
    - { action: Deny, protocol: UDP, destination: { ports: [9] } }
  egress:
    - { action: Deny, protocol: UDP, source: { ports: [9] } }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: open }
spec:
  selector: role == 'worker'
  types: [Ingress, Egress]
  ingress: [{ action: Allow }]
  egress: [{ action: Allow }]
";

fn compiled(policy: &Policy, site: &Site, existing_flows: ExistingFlows) -> Program {
    let mut findings = Diagnostics::new();
    let options = Options { existing_flows, ..Options::default() };
    compile(policy, site, &options, &mut findings).unwrap_or_else(|| panic!("{findings:#?}"))
}

pub fn program(files: &[(&str, &str)], existing_flows: ExistingFlows) -> Program {
    let (policy, _) = gateway::read(files).unwrap_or_else(|findings| panic!("{findings:#?}"));
    let site = if policy.acls.is_empty() { Site::default() } else { site() };
    compiled(&policy, &site, existing_flows)
}

/// Who sends a packet of the flow from the client to port 80 of the host: the client or the host, of one family.
#[derive(Clone, Copy, PartialEq)]
enum Sender {
    Client,
    Host,
}

fn packet(sender: Sender, received: Direction, protocol: u8, port: u16, v6: bool) -> Arrival {
    let client: IpAddr = if v6 { "2001:db8:1::1" } else { "1.1.1.1" }.parse().unwrap();
    let host: IpAddr = if v6 { "2001:db8::1" } else { "10.1.1.1" }.parse().unwrap();
    let (src, dst, sport, dport) =
        if sender == Sender::Client { (client, host, 40_000, port) } else { (host, client, port, 40_000) };
    // Flows are picked up in mid-stream, so that any segment keeps the state.
    let spec = PacketSpec {
        sport,
        dport,
        tcp_flags: 16,
        icmp_type: match (sender, v6) {
            (Sender::Client, false) => 8,
            (Sender::Client, true) => 128,
            (Sender::Host, false) => 0,
            (Sender::Host, true) => 129,
        },
        ..PacketSpec::new(src, dst, protocol)
    };
    Arrival { frame: build(&spec), direction: received, time: Now(SECOND) }
}

/// Judges one packet; tells the decision and how many lists were asked.
fn ask(gate: &mut Gate, packet: Arrival) -> (Decision, usize) {
    let mut ear = Ear::default();
    gate.judge(&[packet], 1, &mut ear);
    (*gate.decisions.last().unwrap(), ear.asked)
}

#[test]
fn the_stateless_layers_are_asked_once_for_each_end_and_direction_of_a_flow() {
    let acl = acl(false);
    let files = [("acl.json", acl.as_str()), ("host.yaml", LOGGED)];
    for (name, protocol, v6) in
        [("TCP", 6, false), ("UDP", 17, false), ("SCTP", 132, false), ("UDP over IPv6", 17, true)]
    {
        let mut gate = Gate::new(program(&files, ExistingFlows::Keep));
        let mut next = |sender, direction| ask(&mut gate, packet(sender, direction, protocol, 80, v6));
        let (first, asked) = next(Sender::Client, IN);
        assert!(first.verdict() == Verdict::Allow && asked > 0, "{name}: {first:?}");
        // The state settles with the answer; from then on each way in is asked once.
        next(Sender::Host, OUT);
        next(Sender::Client, IN);
        next(Sender::Host, OUT);
        for (row, sender, direction) in [("client", Sender::Client, IN), ("host", Sender::Host, OUT)] {
            for _ in 0..3 {
                let (decision, asked) = next(sender, direction);
                assert_eq!((decision.reason(), asked), (Reason::Established, 0), "{name}: {row} is remembered");
            }
        }
        // What comes in at the other port, or from the other end at this one, is somebody else's packet until it is asked about.
        for (row, sender, direction) in
            [("the client at the downlink", Sender::Client, OUT), ("the host at the uplink", Sender::Host, IN)]
        {
            let (_, asked) = next(sender, direction);
            assert!(asked > 0 || v6, "{name}: {row} is asked about");
        }
        let (decision, asked) = next(Sender::Client, IN);
        assert_eq!((decision.reason(), asked), (Reason::Established, 0), "{name}: nothing is forgotten by that");
    }
}

/// Rules of ICMP look at its type, which is no part of a flow's key.
#[test]
fn an_echo_is_asked_about_each_time() {
    let acl = acl(false);
    let mut gate = Gate::new(program(&[("acl.json", &acl)], ExistingFlows::Keep));
    for n in 0..4 {
        let (request, asked) = ask(&mut gate, packet(Sender::Client, IN, 1, 0, false));
        assert!(request.verdict() == Verdict::Allow && asked == 1, "request {n}: {request:?}, {asked} lists");
        let (reply, asked) = ask(&mut gate, packet(Sender::Host, OUT, 1, 0, false));
        assert!(reply.reason() == Reason::Established && asked == 1, "reply {n}: {reply:?}, {asked} lists");
    }
}

#[test]
fn log_rules_hear_every_packet_of_an_established_flow() {
    let mut gate = Gate::new(program(&[("host.yaml", LOGGED)], ExistingFlows::Keep));
    for n in 1..=5u64 {
        let (decision, asked) = ask(&mut gate, packet(Sender::Client, IN, 17, 7, false));
        assert_eq!((decision.verdict(), decision.logs()), (Verdict::Allow, 1), "packet {n}");
        assert!(asked > 0, "packet {n}");
        assert_eq!(gate.engine.counters().logs, n);
        let (answer, _) = ask(&mut gate, packet(Sender::Host, OUT, 17, 7, false));
        assert_eq!((answer.reason(), answer.logs()), (Reason::Established, 0), "answer {n}");
    }
    // In one burst, too.
    let burst = |_| packet(Sender::Client, IN, 17, 7, false);
    gate.judge(&(0..40).map(burst).collect::<Vec<_>>(), BATCH, &mut NoTrace);
    assert_eq!(gate.engine.counters().logs, 45);
}

#[test]
fn what_is_remembered_does_not_outlive_its_program_gw_23() {
    let (open, closed) = (acl(false), acl(true));
    for existing_flows in [ExistingFlows::Keep, ExistingFlows::Revalidate, ExistingFlows::Flush] {
        let mut gate = Gate::new(program(&[("acl.json", &open)], existing_flows));
        let next = |gate: &mut Gate, sender, direction| ask(gate, packet(sender, direction, 17, 80, false));
        for _ in 0..4 {
            next(&mut gate, Sender::Client, IN);
            next(&mut gate, Sender::Host, OUT);
        }
        assert_eq!(next(&mut gate, Sender::Host, OUT).1, 0, "{existing_flows:?}: remembered");

        // The same again: asked about once.
        gate.engine.adopt(Arc::new(program(&[("acl.json", &open)], existing_flows)));
        assert!(next(&mut gate, Sender::Client, IN).1 > 0, "{existing_flows:?}: another program is asked");
        for _ in 0..3 {
            next(&mut gate, Sender::Client, IN);
            next(&mut gate, Sender::Host, OUT);
        }
        assert_eq!(next(&mut gate, Sender::Host, OUT).1, 0, "{existing_flows:?}: remembered again");

        // Denied from the first packet on, whatever was remembered; and the other end as before.
        gate.engine.adopt(Arc::new(program(&[("acl.json", &closed)], existing_flows)));
        for n in 0..3 {
            let (decision, _) = next(&mut gate, Sender::Host, OUT);
            assert_eq!(decision.reason(), Reason::AclDeny, "{existing_flows:?}: answer {n} after the change");
            let (decision, _) = next(&mut gate, Sender::Client, IN);
            assert_eq!(decision.verdict(), Verdict::Allow, "{existing_flows:?}: packet {n} after the change");
        }

        // And allowed again from the first on.
        gate.engine.adopt(Arc::new(program(&[("acl.json", &open)], existing_flows)));
        next(&mut gate, Sender::Client, IN);
        let (decision, asked) = next(&mut gate, Sender::Host, OUT);
        assert_eq!((decision.reason(), asked), (Reason::Established, 1), "{existing_flows:?}: allowed again");
    }
}

/// A program without stateless layers asks nothing; the next one that has them must not take silence for consent.
#[test]
fn a_program_without_stateless_layers_leaves_nothing_remembered() {
    let closed = acl(true);
    // Nothing governs, and what is allowed is a flow.
    let mut gate = Gate::new(program(&[], ExistingFlows::Keep));
    for _ in 0..4 {
        ask(&mut gate, packet(Sender::Client, IN, 17, 80, false));
        ask(&mut gate, packet(Sender::Host, OUT, 17, 80, false));
    }
    gate.engine.adopt(Arc::new(program(&[("acl.json", &closed)], ExistingFlows::Keep)));
    let (decision, asked) = ask(&mut gate, packet(Sender::Host, OUT, 17, 80, false));
    assert_eq!((decision.reason(), asked), (Reason::AclDeny, 1));
}

/// The first packet of a flow and where it comes from.
type Opening = (PacketSpec, Direction);

/// Flows between the addresses of the small universe.
fn openings(dice: &mut Dice) -> Vec<Opening> {
    let opening = |dice: &mut Dice| loop {
        let (src, dst) = (address(dice), address(dice));
        if Family::of(src) == Family::of(dst) && src != dst {
            let v6 = src.is_ipv6();
            let protocol = *dice.pick(&[6, 6, 17, 17, 132, if v6 { 58 } else { 1 }, 47]);
            let spec = PacketSpec { sport: 2_000, dport: *dice.pick(&PORTS), ..PacketSpec::new(src, dst, protocol) };
            return (PacketSpec { tcp_flags: 16, window: Some(60_000), ..spec }, *dice.pick(&[IN, OUT]));
        }
    };
    (0..30).map(|_| opening(dice)).collect()
}

/// Packets of flows that go on and on, some of which come from the wrong side or in fragments.
fn conversation(dice: &mut Dice, flows: &[Opening], count: usize, time: &mut u64) -> Vec<Arrival> {
    let mut one = |dice: &mut Dice| {
        *time += dice.next() % (SECOND / 10);
        let (opening, side) = dice.pick(flows).clone();
        let (mut spec, mut direction) = (opening.clone(), side);
        if dice.chance(50) {
            let echo = if opening.src.is_ipv6() { 129 } else { 0 };
            let (src, dst, sport, dport) = (opening.dst, opening.src, opening.dport, opening.sport);
            (spec, direction) = (PacketSpec { src, dst, sport, dport, icmp_type: echo, ..opening }, side.reverse());
        }
        if dice.chance(3) {
            direction = direction.reverse();
        }
        if dice.chance(2) {
            spec.tcp_flags = *dice.pick(&[2, 4, 17]);
        }
        if dice.chance(3) {
            let offset = *dice.pick(&[0, 32]);
            spec.fragment = Some(FragmentSpec { id: 1, offset, more: offset == 0, len: Some(32) });
        }
        Arrival { frame: build(&spec), direction, time: Now(*time) }
    };
    (0..count).map(|_| one(dice)).collect()
}

/// Random programs with stateless layers, each followed by others: who listens has nothing remembered for him.
#[test]
fn with_and_without_memory_every_packet_meets_the_same_decision_gw_9() {
    let ways = [ExistingFlows::Keep, ExistingFlows::Keep, ExistingFlows::Revalidate, ExistingFlows::Flush];
    let (mut established, mut refused, mut asked_less) = (0, 0, 0);
    let mut seed = 0;
    for round in 0..100 {
        let dice = &mut Dice::new(round ^ 0xfeed);
        let mut remembering: Option<Gate> = None;
        let mut asking: Option<Gate> = None;
        let mut alone: Option<Gate> = None;
        let (flows, mut time) = (openings(dice), SECOND);
        for turn in 0..3 {
            // The next policy that has stateless layers, or, now and then, one without.
            let (policy, site, way) = loop {
                seed += 1;
                let (policy, site) = policies::policy(seed);
                let way = *dice.pick(&ways);
                let Some(program) = compile(&policy, &site, &Options::default(), &mut Diagnostics::new()) else {
                    continue;
                };
                if program.has_stateless || dice.chance(5) {
                    break (policy, site, way);
                }
            };
            for gate in [&mut remembering, &mut asking, &mut alone] {
                let program = compiled(&policy, &site, way);
                match gate {
                    Some(gate) => drop(gate.engine.adopt(Arc::new(program))),
                    None => *gate = Some(Gate::new(program)),
                }
            }
            let gates = (remembering.as_mut(), asking.as_mut(), alone.as_mut());
            let (Some(remembering), Some(asking), Some(alone)) = gates else { unreachable!() };
            let arrivals = conversation(dice, &flows, 400, &mut time);
            let first = remembering.decisions.len();
            let (mut ear, mut recorder) = (Ear::default(), Recorder::default());
            remembering.judge(&arrivals, 1 + dice.below(BATCH), &mut ear);
            asking.judge(&arrivals, 1 + dice.below(BATCH), &mut recorder);
            alone.judge(&arrivals, 1, &mut NoTrace);
            let context = || format!("round {round}, turn {turn}, seed {seed}, {way:?}");
            assert_eq!(remembering.decisions[first..], asking.decisions[first..], "{}", context());
            assert_eq!(remembering.decisions[first..], alone.decisions[first..], "{}", context());
            assert_eq!(remembering.marks(), asking.marks(), "{}", context());
            assert_eq!(remembering.marks(), alone.marks(), "{}", context());
            if remembering.engine.program().has_stateless {
                let is_known = |d: &&Decision| d.flow() == ringwall::engine::FlowState::Established;
                established += remembering.decisions[first..].iter().filter(is_known).count();
            }
            let is_stateless = |d: &&Decision| matches!(d.reason(), Reason::AclDeny | Reason::AclImplicitDeny);
            refused += remembering.decisions[first..].iter().filter(is_stateless).count();
            asked_less += recorder.events.len().saturating_sub(ear.asked);
        }
    }
    assert!(established > 7_000 && refused > 700, "{established} established, {refused} refused");
    assert!(asked_less > 2_000, "only {asked_less} questions were spared");
}
