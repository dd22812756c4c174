//! Packets that keep the state of their flow pass before others that came before them: against the same packets one by one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringwall::base::address::Direction;
use ringwall::base::site::ExistingFlows;
use ringwall::base::time::Now;
use ringwall::engine::{BATCH, FlowSettings, NoTrace, Reason};
use ringwall::packet::{FragmentSpec, PacketSpec, build};

use crate::random::Dice;
use crate::random::traffic::Arrival;
use crate::remembered::{LOGGED, program};
use crate::{Gate, flow_settings};

const SECOND: u64 = 1_000_000_000;
/// Flows that the packets are of. The tables hold fewer, so that new ones take the place of others or are refused (GW-24).
const FLOWS: u64 = 72;
const CAPACITY: usize = 56;

/// The first packet of flow `n`: of TCP, UDP and SCTP, both families.
fn opening(n: u64) -> PacketSpec {
    let ends: [IpAddr; 2] = if n % 9 == 4 {
        let host = |net: u16| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, n as u16).into();
        [host(1), host(0)]
    } else {
        [Ipv4Addr::new(1, 1, 1, n as u8).into(), Ipv4Addr::new(10, 1, 1, 1).into()]
    };
    let protocol = [6, 17, 6, 6, 132, 17][n as usize % 6];
    let spec = PacketSpec::new(ends[0], ends[1], protocol);
    // Segments that carry nothing are in each other's windows.
    PacketSpec { sport: 4_000 + n as u16, dport: 80, tcp_flags: 16, seq: 1, ack: 1, window: Some(60_000), ..spec }
}

/// Packets of these flows: mostly such as keep the state, among those that turn it, in fragments, too, errors about flows, and new
/// flows; now and then time leaps, or a packet is stamped before the ones that came before it.
fn arrivals(dice: &mut Dice, count: usize, time: &mut u64) -> Vec<Arrival> {
    let mut one = |dice: &mut Dice| {
        *time += dice.next() % (SECOND / 100);
        if dice.chance(1) && dice.chance(20) {
            *time += dice.next() % (40 * SECOND);
        }
        let begun = opening(dice.next() % FLOWS);
        let (src, dst, sport, dport) = (begun.dst, begun.src, begun.dport, begun.sport);
        let back = PacketSpec { src, dst, sport, dport, ..begun.clone() };
        let is_back = dice.chance(50);
        let mut spec = if is_back { back.clone() } else { begun.clone() };
        if dice.chance(4) {
            spec.tcp_flags = *dice.pick(&[2, 18, 17, 4, 20]);
            spec.seq -= u32::from(spec.tcp_flags & 2 != 0);
        }
        if dice.chance(3) {
            spec.fragment = Some(FragmentSpec { id: dice.next() as u32 % 8, offset: 0, more: true, len: Some(32) });
            spec.tcp_flags = *dice.pick(&[16, 4, 17]);
        }
        if dice.chance(2) {
            let v6 = spec.src.is_ipv6();
            let quote = Some(Box::new(spec.clone()));
            let (from, protocol, icmp_type) = if v6 { (spec.dst, 58, 1) } else { (spec.dst, 1, 3) };
            spec = PacketSpec { icmp_type, quote, ..PacketSpec::new(from, spec.src, protocol) };
        }
        let direction = if is_back { Direction::Outbound } else { Direction::Inbound };
        let stamp = if dice.chance(3) { time.saturating_sub(dice.next() % (200 * SECOND)) } else { *time };
        Arrival { frame: build(&spec), direction, time: Now(stamp) }
    };
    (0..count).map(|_| one(dice)).collect()
}

/// Every packet meets the decision that it would meet alone, and every flow is left as its packets alone would leave it.
#[test]
fn packets_that_pass_before_their_turn_change_no_decision_and_no_flow_gw_22_gw_24_gw_26() {
    let (mut established, mut full, mut related) = (0, 0, 0);
    for round in 0..60 {
        let dice = &mut Dice::new(round ^ 0xea51);
        let files: &[(&str, &str)] = if round % 3 == 0 { &[("host.yaml", LOGGED)] } else { &[] };
        let settings = FlowSettings { capacity: CAPACITY, ..flow_settings() };
        let gate = || Gate::with(program(files, ExistingFlows::Keep), settings.clone());
        let (mut alone, mut early) = (gate(), gate());
        let burst = [BATCH, 48, 33, 20][round as usize % 4];
        let mut time = 1_000 * SECOND;
        for turn in 0..40 {
            let packets = arrivals(dice, 2 * burst, &mut time);
            alone.judge(&packets, 1, &mut NoTrace);
            early.judge(&packets, burst, &mut NoTrace);
            for (at, (alone, early)) in alone.decisions.iter().zip(&early.decisions).enumerate() {
                assert_eq!(alone, early, "round {round} burst {burst} packet {at}");
            }
            assert_eq!(alone.marks(), early.marks(), "round {round} turn {turn}");
        }
        for decision in &early.decisions {
            established += usize::from(decision.reason() == Reason::Established);
            related += usize::from(decision.reason() == Reason::Related);
            full += usize::from(matches!(decision.reason(), Reason::FlowTableFull | Reason::HalfOpenLimit));
        }
    }
    assert!(
        established > 100_000 && full > 2_000 && related > 500,
        "{established} established, {full} refused, {related} related"
    );
}
