//! Addresses as plain numbers: an IPv4 address is the low 32 bits of a `u128`, and the family travels beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The Internet protocol version of a packet, prefix or rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The highest address of the family as a number.
    pub const fn max(self) -> u128 {
        match self {
            Family::V4 => u32::MAX as u128,
            Family::V6 => u128::MAX,
        }
    }

    /// Length of an address in bits: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// The numeric value of an address.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address with this number in this family; bits above the family's width are dropped.
pub fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// First and last address of a prefix as numbers. `length` above the family's width counts as the full width.
pub fn range(network: IpAddr, length: u8) -> (u128, u128) {
    let family = Family::of(network);
    let host_bits = u32::from(family.bits().saturating_sub(length));
    let hosts = if host_bits >= 128 { u128::MAX } else { (1u128 << host_bits) - 1 };
    let first = number(network) & !hosts;
    (first, first | (hosts & family.max()))
}

/// Which side of the box a packet was received on (GW-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// Received on the uplink: the destination is the local address (GW-2).
    Inbound = 0,
    /// Received on the downlink: the source is the local address (GW-2).
    Outbound = 1,
}

impl Direction {
    /// The other direction.
    #[inline]
    pub const fn reverse(self) -> Direction {
        match self {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_range_covers_exactly_its_addresses() {
        let check = |text: &str, length, first: &str, last: &str| {
            let parse = |t: &str| number(t.parse().unwrap());
            assert_eq!(range(text.parse().unwrap(), length), (parse(first), parse(last)), "{text}/{length}");
        };
        check("10.1.2.3", 8, "10.0.0.0", "10.255.255.255");
        check("0.0.0.0", 0, "0.0.0.0", "255.255.255.255");
        check("1.1.1.1", 32, "1.1.1.1", "1.1.1.1");
        check("::", 0, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        check("2001:db8::1", 64, "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff");
    }
}
