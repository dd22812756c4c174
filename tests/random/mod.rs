//! A seed in, a random policy with a site out, and packets that hit its rules or miss them by one field.

pub mod packets;
pub mod policies;
pub mod traffic;
mod vpc;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use ringwall::base::address::Family;
use ringwall::base::diagnostic::Span;
use ringwall::policy::ir::Icmp;

/// A small deterministic generator (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub fn some<T>(&mut self, percent: u64, make: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        if self.chance(percent) { Some(make(self)) } else { None }
    }

    fn list<T>(&mut self, most: usize, mut make: impl FnMut(&mut Dice) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }
}

fn span(line: u32) -> Span {
    Span { file: Arc::from("random.yaml"), line, column: 1 }
}

/// Few addresses, so that rules and packets meet.
pub fn address(dice: &mut Dice) -> IpAddr {
    if dice.chance(75) {
        IpAddr::V4(Ipv4Addr::new(10, 0, dice.below(3) as u8, dice.below(24) as u8))
    } else {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, dice.below(2) as u16, dice.below(16) as u16))
    }
}

fn net(dice: &mut Dice) -> IpNet {
    let address = address(dice);
    let length = match Family::of(address) {
        Family::V4 => *dice.pick(&[8, 16, 22, 23, 24, 27, 28, 30, 31, 32, 32]),
        Family::V6 => *dice.pick(&[8, 64, 112, 120, 124, 127, 128, 128]),
    };
    IpNet::new_assert(address, length).trunc()
}

fn v4_net(dice: &mut Dice) -> IpNet {
    if dice.chance(25) {
        return "0.0.0.0/0".parse().expect("a prefix");
    }
    loop {
        let net = net(dice);
        if matches!(net, IpNet::V4(_)) {
            return net;
        }
    }
}

pub const PORTS: [u16; 7] = [22, 53, 80, 443, 8080, 30_000, 32_767];

fn icmp(dice: &mut Dice) -> Icmp {
    Icmp { kind: *dice.pick(&[0, 3, 8, 128]), code: dice.some(40, |d| d.below(3) as u8) }
}
