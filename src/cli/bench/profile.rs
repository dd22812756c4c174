//! What access lists, firewalls and IP chains look like in figures: nothing in, tables for the generator out.
//!
//! The figures are those that rule sets of each kind show when they are counted: shares of protocols and port classes, lengths of
//! prefixes, how many different prefixes there are and in how many sites they lie, at 1,000, 10,000 and 100,000 rules.

use clap::ValueEnum;

/// The kinds of rule sets, by the names of the literature (Taylor and Turner, ClassBench, 2007).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Access control list: pairs of hosts, destination ports.
    Acl,
    /// Firewall: one side is nearly always a wildcard.
    Fw,
    /// IP chain: prefixes of every length on both sides.
    Ipc,
}

impl Kind {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Acl => "acl",
            Kind::Fw => "fw",
            Kind::Ipc => "ipc",
        }
    }

    /// Its figures.
    pub const fn profile(self) -> &'static Profile {
        match self {
            Kind::Acl => &ACL,
            Kind::Fw => &FW,
            Kind::Ipc => &IPC,
        }
    }
}

/// A figure at 1,000, 10,000 and 100,000 rules. In between it follows the logarithm of the number of rules, outside it stays.
#[derive(Clone, Copy, Debug)]
pub struct Growth(pub [f64; 3]);

impl Growth {
    const fn constant(value: f64) -> Growth {
        Growth([value; 3])
    }

    /// The figure for this many rules.
    pub fn at(&self, rules: usize) -> f64 {
        let Growth([small, middle, large]) = self;
        let decades = (rules.max(1) as f64 / 1_000.0).log10().clamp(0.0, 2.0);
        if decades < 1.0 { small + (middle - small) * decades } else { middle + (large - middle) * (decades - 1.0) }
    }
}

/// A class of port ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// 0 to 65535.
    Any,
    /// 1024 to 65535.
    High,
    /// One port.
    One,
    /// Some other range.
    Range,
}

/// Rules of one protocol and port classes.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Share of the rules, in percent.
    pub share: f64,
    /// Protocol number, `None` for all.
    pub protocol: Option<u8>,
    /// Class of the source ports.
    pub sport: Ports,
    /// Class of the destination ports.
    pub dport: Ports,
    /// How many pairs of port ranges occur.
    pub pairs: Growth,
}

/// Lengths of prefixes with their shares.
pub type Lengths = &'static [(u8, f64)];

/// Rules whose addresses have lengths of two tables.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Share of the rules.
    pub share: Growth,
    /// Lengths of the source.
    pub src: Lengths,
    /// Lengths of the destination.
    pub dst: Lengths,
}

/// How the prefixes of one side lie in the address space.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// Different prefixes per rule that has a prefix of more than eight bits here.
    pub distinct: Growth,
    /// Zipf exponent of how often a prefix comes again.
    pub skew: Growth,
    /// Sites (networks of 24 bits) that the longer prefixes lie in.
    pub sites: Growth,
    /// Networks of 16 bits per site.
    pub networks: f64,
    /// Share of the shorter prefixes that hold a site of longer ones.
    pub nested: f64,
}

/// The figures of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Protocols and ports.
    pub services: &'static [Service],
    /// Lengths.
    pub shapes: &'static [Shape],
    /// Source.
    pub src: Side,
    /// Destination.
    pub dst: Side,
    /// Share of the rules that have the addresses of another rule and another service.
    pub repeated: f64,
}

const TCP: Option<u8> = Some(6);
const UDP: Option<u8> = Some(17);

const fn service(share: f64, protocol: Option<u8>, sport: Ports, dport: Ports, pairs: [f64; 3]) -> Service {
    Service { share, protocol, sport, dport, pairs: Growth(pairs) }
}

const fn shape(share: [f64; 3], src: Lengths, dst: Lengths) -> Shape {
    Shape { share: Growth(share), src, dst }
}

const HOST: Lengths = &[(32, 1.0)];

const ACL: Profile = Profile {
    services: &[
        service(53.2, TCP, Ports::Any, Ports::One, [62.0, 73.0, 90.0]),
        service(20.5, TCP, Ports::Any, Ports::Any, [1.0; 3]),
        service(13.0, TCP, Ports::Any, Ports::Range, [31.0, 34.0, 40.0]),
        service(9.0, None, Ports::Any, Ports::Any, [1.0; 3]),
        service(3.2, Some(1), Ports::Any, Ports::Any, [1.0; 3]),
        service(0.8, UDP, Ports::Any, Ports::One, [4.0, 37.0, 60.0]),
        service(0.2, UDP, Ports::Any, Ports::Range, [2.0, 15.0, 30.0]),
    ],
    shapes: &[shape([0.004, 0.0028, 0.001], SHORT_ACL, SHORT_ACL), shape([0.996, 0.9972, 0.999], ACL_SRC, ACL_DST)],
    src: Side {
        distinct: Growth([0.085, 0.46, 0.6]),
        skew: Growth([1.0, 0.45, 0.4]),
        sites: Growth([5.0, 234.0, 4_000.0]),
        networks: 0.55,
        nested: 0.95,
    },
    dst: Side {
        distinct: Growth([0.4, 0.12, 0.2]),
        skew: Growth([0.7, 1.0, 0.8]),
        sites: Growth([184.0, 454.0, 5_000.0]),
        networks: 0.8,
        nested: 0.05,
    },
    repeated: 0.2,
};

const SHORT_ACL: Lengths = &[(0, 30.0), (1, 25.0), (2, 15.0), (6, 15.0), (7, 15.0)];

const ACL_SRC: Lengths =
    &[(0, 0.1), (8, 0.05), (22, 1.0), (23, 4.2), (24, 2.1), (25, 0.8), (29, 0.5), (30, 2.6), (31, 19.5), (32, 68.7)];

const ACL_DST: Lengths = &[
    (0, 0.1),
    (1, 0.1),
    (15, 0.3),
    (16, 0.5),
    (17, 0.3),
    (21, 1.0),
    (22, 2.8),
    (23, 1.9),
    (24, 2.4),
    (25, 2.2),
    (26, 0.5),
    (28, 0.3),
    (30, 2.3),
    (31, 15.0),
    (32, 68.5),
];

const FW: Profile = Profile {
    services: &[
        service(39.0, TCP, Ports::Any, Ports::One, [37.0, 40.0, 45.0]),
        service(12.6, TCP, Ports::Any, Ports::Any, [1.0; 3]),
        service(13.7, UDP, Ports::Any, Ports::One, [30.0, 40.0, 45.0]),
        service(9.0, UDP, Ports::One, Ports::Any, [10.0, 10.0, 12.0]),
        service(6.4, Some(47), Ports::Any, Ports::Any, [1.0; 3]),
        service(4.3, Some(1), Ports::Any, Ports::Any, [1.0; 3]),
        service(4.5, TCP, Ports::High, Ports::High, [1.0; 3]),
        service(2.4, UDP, Ports::High, Ports::High, [1.0; 3]),
        service(2.0, None, Ports::Any, Ports::Any, [1.0; 3]),
        service(2.0, UDP, Ports::High, Ports::One, [14.0, 31.0, 40.0]),
        service(2.0, UDP, Ports::One, Ports::One, [16.0, 102.0, 160.0]),
        service(1.9, UDP, Ports::One, Ports::High, [9.0, 10.0, 12.0]),
        service(0.1, UDP, Ports::High, Ports::Range, [1.0; 3]),
        service(0.1, UDP, Ports::Range, Ports::High, [1.0; 3]),
    ],
    shapes: &[
        shape([0.03, 0.018, 0.004], FW_SHORT_SRC, FW_SHORT_DST),
        shape([0.48, 0.555, 0.57], FW_SHORT_SRC, FW_LONG_DST),
        shape([0.25, 0.23, 0.23], FW_LONG_SRC, FW_SHORT_DST),
        shape([0.24, 0.197, 0.196], FW_LONG_SRC, FW_LONG_DST),
    ],
    src: Side {
        distinct: Growth([0.35, 1.0, 1.0]),
        skew: Growth::constant(0.5),
        sites: Growth([18.0, 4_000.0, 40_000.0]),
        networks: 1.0,
        nested: 0.0,
    },
    dst: Side {
        distinct: Growth([0.26, 1.0, 1.0]),
        skew: Growth::constant(0.7),
        sites: Growth([44.0, 7_200.0, 70_000.0]),
        networks: 1.0,
        nested: 0.0,
    },
    repeated: 0.012,
};

const FW_SHORT_SRC: Lengths = &[(0, 27.0), (1, 22.0), (2, 6.0)];
const FW_SHORT_DST: Lengths = &[(0, 14.0), (1, 10.0), (2, 1.8)];

const FW_LONG_SRC: Lengths = &[
    (20, 0.6),
    (21, 0.5),
    (22, 0.6),
    (23, 0.6),
    (24, 0.4),
    (25, 0.7),
    (26, 1.2),
    (27, 1.6),
    (28, 2.2),
    (29, 2.4),
    (30, 3.2),
    (31, 9.7),
    (32, 19.8),
];

const FW_LONG_DST: Lengths =
    &[(20, 0.6), (21, 1.2), (22, 1.3), (27, 0.5), (28, 1.3), (29, 1.4), (30, 3.8), (31, 20.5), (32, 43.8)];

const IPC: Profile = Profile {
    services: &[
        service(34.0, None, Ports::Any, Ports::Any, [1.0; 3]),
        service(21.4, UDP, Ports::Any, Ports::One, [31.0, 44.0, 70.0]),
        service(13.5, TCP, Ports::Any, Ports::One, [26.0, 43.0, 70.0]),
        service(7.4, TCP, Ports::One, Ports::Any, [16.0, 26.0, 40.0]),
        service(7.0, UDP, Ports::One, Ports::Any, [15.0, 25.0, 40.0]),
        service(6.5, UDP, Ports::Any, Ports::High, [1.0; 3]),
        service(2.6, TCP, Ports::Any, Ports::Any, [1.0; 3]),
        service(2.0, TCP, Ports::Any, Ports::Range, [6.0, 7.0, 10.0]),
        service(1.4, TCP, Ports::Range, Ports::Any, [4.0, 5.0, 8.0]),
        service(1.1, Some(1), Ports::Any, Ports::Any, [1.0; 3]),
        service(0.9, UDP, Ports::Any, Ports::Range, [4.0, 6.0, 8.0]),
        service(0.5, UDP, Ports::Any, Ports::Any, [1.0; 3]),
        service(0.4, UDP, Ports::Range, Ports::Any, [2.0, 4.0, 6.0]),
        service(0.35, UDP, Ports::High, Ports::Any, [1.0; 3]),
        service(0.3, UDP, Ports::One, Ports::One, [2.0, 27.0, 50.0]),
        service(0.25, Some(47), Ports::Any, Ports::Any, [1.0; 3]),
        service(0.1, TCP, Ports::One, Ports::Range, [1.0, 12.0, 20.0]),
        service(0.1, Some(50), Ports::Any, Ports::Any, [1.0; 3]),
        service(0.05, Some(51), Ports::Any, Ports::Any, [1.0; 3]),
    ],
    shapes: &[shape([0.12, 0.12, 0.12], HOST, HOST), shape([0.88, 0.88, 0.88], IPC_SRC, IPC_DST)],
    src: Side {
        distinct: Growth([0.19, 0.165, 0.3]),
        skew: Growth([0.8, 0.7, 0.6]),
        sites: Growth([50.0, 316.0, 3_000.0]),
        networks: 0.5,
        nested: 0.0,
    },
    dst: Side {
        distinct: Growth([0.5, 0.3, 0.5]),
        skew: Growth([0.7, 0.7, 0.6]),
        sites: Growth([132.0, 665.0, 8_000.0]),
        networks: 0.45,
        nested: 0.8,
    },
    repeated: 0.1,
};

const IPC_SRC: Lengths = &[
    (0, 4.2),
    (1, 2.4),
    (2, 0.3),
    (15, 0.9),
    (16, 1.8),
    (17, 2.2),
    (18, 0.7),
    (21, 0.7),
    (22, 5.2),
    (23, 12.6),
    (24, 17.0),
    (25, 10.1),
    (26, 6.6),
    (27, 2.5),
    (28, 2.2),
    (29, 1.1),
    (30, 1.8),
    (31, 10.4),
    (32, 16.7),
];

const IPC_DST: Lengths = &[
    (0, 2.5),
    (1, 1.6),
    (14, 0.2),
    (15, 1.3),
    (16, 2.9),
    (17, 1.7),
    (18, 0.2),
    (21, 0.3),
    (22, 1.4),
    (23, 7.0),
    (24, 14.6),
    (25, 11.6),
    (26, 7.3),
    (27, 4.5),
    (28, 3.2),
    (29, 2.2),
    (30, 0.9),
    (31, 11.4),
    (32, 24.5),
];
