//! Random conversations as frames: handshakes, answers, errors about flows, fragments, and noise between them.

use std::net::IpAddr;

use ringwall::base::address::{Direction, Family};
use ringwall::base::time::Now;
use ringwall::packet::{FragmentSpec, PacketSpec, build};

use super::{Dice, PORTS, address};

/// A frame with the side and the moment of its reception.
pub struct Arrival {
    pub frame: Vec<u8>,
    pub direction: Direction,
    pub time: Now,
}

fn pair(dice: &mut Dice) -> (IpAddr, IpAddr) {
    loop {
        let (a, b) = (address(dice), address(dice));
        if Family::of(a) == Family::of(b) && a != b {
            return (a, b);
        }
    }
}

fn spec(dice: &mut Dice, src: IpAddr, dst: IpAddr) -> PacketSpec {
    let v6 = src.is_ipv6();
    let protocol = *dice.pick(&[6, 6, 6, 17, 17, 132, 47, if v6 { 58 } else { 1 }]);
    let mut spec = PacketSpec::new(src, dst, protocol);
    (spec.sport, spec.dport) = (1024 + dice.below(3) as u16, *dice.pick(&PORTS));
    spec.icmp_id = dice.below(3) as u16;
    spec.tcp_flags = *dice.pick(&[2, 2, 18, 16, 16, 17, 4, 20, 1]);
    spec.window = Some(60_000);
    spec.len = dice.below(64) as u16;
    spec
}

/// The answer to a packet.
fn reply(dice: &mut Dice, to: &PacketSpec) -> PacketSpec {
    let mut spec = PacketSpec { src: to.dst, dst: to.src, sport: to.dport, dport: to.sport, ..to.clone() };
    spec.tcp_flags = *dice.pick(&[18, 16, 17, 4]);
    spec.ack = to.seq.wrapping_add(1);
    spec.icmp_type = if to.src.is_ipv6() { 129 } else { 0 };
    spec
}

/// An ICMP error about a packet.
fn error(dice: &mut Dice, about: &PacketSpec) -> PacketSpec {
    let v6 = about.src.is_ipv6();
    let mut spec = PacketSpec::new(about.dst, about.src, if v6 { 58 } else { 1 });
    spec.icmp_type = if v6 { 1 } else { *dice.pick(&[3, 11]) };
    spec.quote = Some(Box::new(PacketSpec { fragment: None, quote: None, ..about.clone() }));
    spec
}

/// A random conversation of many.
pub fn arrivals(dice: &mut Dice, count: usize) -> Vec<Arrival> {
    let mut sent: Vec<(PacketSpec, Direction)> = Vec::new();
    let mut time = 1_000_000_000u64;
    let mut arrivals = Vec::new();
    for _ in 0..count {
        time += dice.next() % 2_000_000_000;
        let side = if dice.chance(50) { Direction::Inbound } else { Direction::Outbound };
        let what = dice.below(10);
        let (mut spec, direction) = match (what, sent.is_empty()) {
            (0..4, false) => {
                let (last, side) = dice.pick(&sent).clone();
                (reply(dice, &last), side.reverse())
            }
            (4, false) => {
                let (last, side) = dice.pick(&sent).clone();
                (error(dice, &last), side.reverse())
            }
            (5, false) => dice.pick(&sent).clone(),
            (6 | 7, false) => sent[sent.len() - 1].clone(),
            _ => {
                let (src, dst) = pair(dice);
                (spec(dice, src, dst), side)
            }
        };
        // Mostly further fragments of what came just before, so that they meet.
        if spec.quote.is_none() && dice.chance(if matches!(what, 6 | 7) { 80 } else { 5 }) {
            let offset = *dice.pick(&[0, 0, 24, 32, 40]);
            spec.fragment = Some(FragmentSpec { id: dice.below(2) as u32, offset, more: offset != 40, len: Some(32) });
        }
        let frame = build(&spec);
        spec.fragment = None;
        if spec.quote.is_none() {
            sent.push((spec, direction));
        }
        arrivals.push(Arrival { frame, direction, time: Now(time) });
    }
    arrivals
}
