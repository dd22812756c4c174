//! Words of the command line in, a checked description of traffic out: sizes, flows, protocols, addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::base::address::{Family, address, number, range};

/// Bytes of the frame check sequence, which frame sizes count and sockets do not see (RFC 2544 section 9.1).
pub const CHECK_SEQUENCE: u16 = 4;
/// Smallest and largest frame with its check sequence, untagged.
pub const FRAME_SIZES: [u16; 2] = [64, 1518];
/// Most flows of a run.
pub const MOST_FLOWS: u32 = 65_536;

/// The frame sizes of RFC 2544 section 9.1.
pub const RFC_2544: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];
/// The simple internet mix, 7 : 4 : 1 (RFC 6985 writes it as `7a 4d 1z` or the like), as a cycle of twelve that spreads the sizes.
const INTERNET_MIX: [u16; 12] = [64, 570, 64, 570, 64, 64, 1518, 64, 570, 64, 570, 64];

/// Frame sizes with check sequence; they follow each other in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(Vec<u16>);

impl Sizes {
    /// One size.
    ///
    /// # Errors
    /// When it is no size of an untagged Ethernet frame.
    pub fn one(size: u16) -> Result<Sizes, String> {
        Sizes::checked(vec![size])
    }

    /// The cycle; never empty.
    pub fn cycle(&self) -> &[u16] {
        &self.0
    }

    fn checked(sizes: Vec<u16>) -> Result<Sizes, String> {
        let [smallest, largest] = FRAME_SIZES;
        match sizes.iter().find(|size| !(smallest..=largest).contains(size)) {
            Some(size) => {
                Err(format!("frame size {size}: expected {smallest} to {largest} bytes, check sequence included"))
            }
            None if sizes.is_empty() => Err("expected at least one frame size".to_owned()),
            None => Ok(Sizes(sizes)),
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    /// `imix`, or sizes with commas: `64`, `64,512,1518`.
    fn from_str(text: &str) -> Result<Sizes, String> {
        if text == "imix" {
            return Ok(Sizes(INTERNET_MIX.to_vec()));
        }
        let parse = |word: &str| {
            let refusal = || format!("`{word}` is no frame size: expected `imix` or numbers such as `64,512,1518`");
            word.trim().parse::<u16>().map_err(|_| refusal())
        };
        Sizes::checked(text.split(',').map(parse).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == INTERNET_MIX {
            return f.write_str("imix");
        }
        let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(","))
    }
}

/// What the packets of a flow are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Segments with ACK set, as of a connection that has been there before.
    Tcp,
    /// Echo requests, of ICMP or ICMPv6.
    Icmp,
}

impl Protocol {
    /// The word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
            Protocol::Icmp => "icmp",
        }
    }
}

/// A prefix from which the addresses of flows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosts {
    first: u128,
    last: u128,
    family: Family,
}

impl Hosts {
    /// The addresses of a prefix.
    pub fn new(network: IpAddr, length: u8) -> Hosts {
        let (first, last) = range(network, length);
        Hosts { first, last, family: Family::of(network) }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// An address by number; they repeat after the last. The first and the last address of a prefix of several are left out.
    pub fn host(&self, position: u64) -> IpAddr {
        let (first, last) = match self.last - self.first {
            0 | 1 => (self.first, self.last),
            _ => (self.first + 1, self.last - 1),
        };
        address(self.family, first + u128::from(position) % (last - first + 1))
    }

    /// How many different addresses there are, at most 2^32.
    pub fn count(&self) -> u64 {
        let width = self.last - self.first;
        let count = if width <= 1 { width + 1 } else { width - 1 };
        count.min(1 << 32) as u64
    }

    /// Whether an address is one of them.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family && (self.first..=self.last).contains(&number(address))
    }
}

impl FromStr for Hosts {
    type Err = String;

    /// An address, or a prefix such as `198.18.0.0/24`.
    fn from_str(text: &str) -> Result<Hosts, String> {
        let refusal = || format!("`{text}` is no prefix: expected an address or a prefix such as `198.18.0.0/24`");
        let (network, length) = text.split_once('/').map_or((text, None), |(network, length)| (network, Some(length)));
        let network: IpAddr = network.parse().map_err(|_| refusal())?;
        let bits = Family::of(network).bits();
        let length = length.map_or(Ok(bits), str::parse::<u8>).map_err(|_| refusal())?;
        if length > bits { Err(refusal()) } else { Ok(Hosts::new(network, length)) }
    }
}

/// From where to where; both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Sources.
    pub from: Hosts,
    /// Destinations.
    pub to: Hosts,
}

impl Path {
    /// The addresses set aside for tests of forwarders (RFC 2544 appendix C.2.2): 198.18.0.0/24 to 198.19.0.0/24.
    pub fn ipv4() -> Path {
        let network = |second| Hosts::new(IpAddr::V4(Ipv4Addr::new(198, second, 0, 0)), 24);
        Path { from: network(18), to: network(19) }
    }

    /// The same of IPv6 (RFC 5180 section 8): 2001:2:0:1::/64 to 2001:2:0:2::/64.
    pub fn ipv6() -> Path {
        let network = |subnet| Hosts::new(IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, subnet, 0, 0, 0, 0)), 64);
        Path { from: network(1), to: network(2) }
    }

    /// The way back.
    fn reversed(self) -> Path {
        Path { from: self.to, to: self.from }
    }
}

/// Traffic in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Frame sizes.
    pub sizes: Sizes,
    /// Different flows, from 1 to [`MOST_FLOWS`]. Each packet is of a flow drawn by the seed.
    pub flows: u32,
    /// Protocols; flows take them in turn. Not empty.
    pub protocols: Vec<Protocol>,
    /// Addresses; flows take them in turn. Not empty.
    pub paths: Vec<Path>,
    /// Port of UDP and TCP at the destination; of traffic that answers, at the source.
    pub port: u16,
    /// Whether the packets are answers to the same traffic on the reversed paths.
    pub is_answering: bool,
    /// Draws flows and content.
    pub seed: u64,
    /// Hardware address that frames are sent to.
    pub to_mac: [u8; 6],
}

impl Traffic {
    /// The answers to it: every flow the other way.
    pub fn answers(&self) -> Traffic {
        let paths = self.paths.iter().map(|path| path.reversed()).collect();
        Traffic { paths, is_answering: !self.is_answering, ..self.clone() }
    }
}

/// A hardware address of nobody, locally administered: a bridge forwards it and a host ignores it.
pub const NOBODY: [u8; 6] = [0x02, 0, 0, 0, 0x18, 0x02];

impl Default for Traffic {
    /// UDP over IPv4 in frames of 64 bytes, one flow, to the echo port.
    fn default() -> Traffic {
        let [smallest, _] = FRAME_SIZES;
        Traffic {
            sizes: Sizes(vec![smallest]),
            flows: 1,
            protocols: vec![Protocol::Udp],
            paths: vec![Path::ipv4()],
            port: 7,
            is_answering: false,
            seed: 0,
            to_mac: NOBODY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_ethernet() {
        let check = |text: &str, expected: Option<&[u16]>| {
            assert_eq!(text.parse::<Sizes>().ok().as_ref().map(Sizes::cycle), expected, "{text}");
        };
        check("64", Some(&[64]));
        check("64, 1518", Some(&[64, 1518]));
        check("imix", Some(&INTERNET_MIX));
        check("63", None);
        check("1519", None);
        check("", None);
        check("64,", None);
        assert_eq!("imix".parse::<Sizes>().unwrap().to_string(), "imix");
    }

    #[test]
    fn hosts_are_inside_their_prefix_and_repeat() {
        let hosts: Hosts = "198.18.0.0/30".parse().unwrap();
        let all: Vec<String> = (0..3).map(|n| hosts.host(n).to_string()).collect();
        assert_eq!((all, hosts.count()), (["198.18.0.1", "198.18.0.2", "198.18.0.1"].map(str::to_owned).to_vec(), 2));
        let one: Hosts = "10.1.1.1".parse().unwrap();
        assert_eq!((one.host(5).to_string(), one.count()), ("10.1.1.1".to_owned(), 1));
        assert!(hosts.contains(hosts.host(1)) && !hosts.contains(one.host(0)));
        let all: Hosts = "::/0".parse().unwrap();
        assert_eq!(all.count(), 1 << 32);
        for wrong in ["198.18.0.0/33", "198.18.0/24", "x", ""] {
            assert!(wrong.parse::<Hosts>().is_err(), "{wrong}");
        }
    }
}
