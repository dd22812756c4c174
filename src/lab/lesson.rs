//! The lessons of the tutorial as data: which policy files are loaded, and what becomes of each connection then.

use std::net::{IpAddr, SocketAddr};

use super::place::{BALANCER, BALANCER_V6, CLIENT, CLIENT_V6, OTHER, WORKER, WORKER_V6};
use super::probe::Transport;

/// A policy file that the lab writes. It is copied, never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// File name in the lab's policy directory.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// Loaded in every lesson: endpoints and services, no policy.
pub const INVENTORY: PolicyFile = PolicyFile { name: "inventory.yaml", text: include_str!("policies/inventory.yaml") };
const DENY_NODEPORTS: PolicyFile =
    PolicyFile { name: "deny-nodeports.yaml", text: include_str!("policies/deny-nodeports.yaml") };
const DENY_BALANCER: PolicyFile =
    PolicyFile { name: "deny-lb-port-80.yaml", text: include_str!("policies/deny-lb-port-80.yaml") };
const WHITELIST: PolicyFile = PolicyFile { name: "whitelist.yaml", text: include_str!("policies/whitelist.yaml") };
const BLACKLIST: PolicyFile = PolicyFile { name: "blacklist.yaml", text: include_str!("policies/blacklist.yaml") };

/// What must become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The echo comes back.
    Pass,
    /// Nothing comes back.
    Drop,
}

impl Expected {
    /// `pass` or `drop`.
    pub const fn word(self) -> &'static str {
        match self {
            Expected::Pass => "pass",
            Expected::Drop => "drop",
        }
    }
}

/// Where the four columns of the table go from and to.
pub const COLUMNS: [(&str, IpAddr, SocketAddr); 4] = [
    ("client -> LB:80", CLIENT, SocketAddr::new(BALANCER, 80)),
    ("other -> LB:80", OTHER, SocketAddr::new(BALANCER, 80)),
    ("client -> node:31024", CLIENT, SocketAddr::new(WORKER, 31024)),
    ("other -> node:31024", OTHER, SocketAddr::new(WORKER, 31024)),
];

/// What the connection that is opened in lesson 1 goes to; later lessons deny this to new connections.
pub const HELD: (IpAddr, SocketAddr) = (CLIENT, SocketAddr::new(WORKER, 31024));

/// What the bulk transfer at the end goes to.
pub const BULK: (IpAddr, SocketAddr) = (CLIENT, SocketAddr::new(BALANCER, 80));

/// One more connection to try in a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extra {
    /// What it shows.
    pub what: &'static str,
    /// Protocol.
    pub transport: Transport,
    /// Source.
    pub from: IpAddr,
    /// Destination; ping ignores the port.
    pub to: SocketAddr,
    /// What must become of it.
    pub expected: Expected,
}

/// One row of the tutorial's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// Its name in the table.
    pub name: &'static str,
    /// What changed since the lesson before.
    pub change: &'static str,
    /// The policy files that are loaded, beside the inventory.
    pub policies: &'static [PolicyFile],
    /// Expected per column over TCP.
    pub tcp: [Expected; 4],
    /// Expected per column over UDP.
    pub udp: [Expected; 4],
    /// What else is tried.
    pub extras: &'static [Extra],
}

use Expected::{Drop, Pass};

/// The lessons in the order in which they are played.
pub const LESSONS: [Lesson; 7] = [
    Lesson {
        name: "1",
        change: "no policy",
        policies: &[],
        tcp: [Pass, Pass, Pass, Pass],
        udp: [Pass, Pass, Pass, Pass],
        extras: &[
            extra("ping of the load balancer", Transport::Ping, CLIENT, BALANCER, 0, Pass),
            extra("load balancer over IPv6", Transport::Tcp, CLIENT_V6, BALANCER_V6, 80, Pass),
            extra("ping over IPv6", Transport::Ping, CLIENT_V6, BALANCER_V6, 0, Pass),
            extra("node port over IPv6", Transport::Tcp, CLIENT_V6, WORKER_V6, 31024, Pass),
            extra("failsafe port of the worker", Transport::Tcp, OTHER, WORKER, 22, Pass),
            extra("unlisted port of the worker", Transport::Tcp, CLIENT, WORKER, 8080, Drop),
        ],
    },
    Lesson {
        name: "2",
        change: "+ deny-nodeports",
        policies: &[DENY_NODEPORTS],
        tcp: [Pass, Pass, Drop, Drop],
        udp: [Pass, Pass, Drop, Drop],
        extras: &[
            extra("below the node port range", Transport::Tcp, OTHER, BALANCER, 29999, Pass),
            extra("first node port", Transport::Tcp, OTHER, BALANCER, 30000, Drop),
            extra("last node port", Transport::Udp, OTHER, BALANCER, 32767, Drop),
            extra("above the node port range", Transport::Udp, OTHER, BALANCER, 32768, Pass),
            extra("ping of the load balancer", Transport::Ping, CLIENT, BALANCER, 0, Pass),
            extra("load balancer over IPv6", Transport::Tcp, CLIENT_V6, BALANCER_V6, 80, Pass),
            extra("node port over IPv6", Transport::Tcp, CLIENT_V6, WORKER_V6, 31024, Drop),
        ],
    },
    Lesson {
        name: "3, step 3",
        change: "+ deny-lb-port-80",
        policies: &[DENY_NODEPORTS, DENY_BALANCER],
        tcp: [Drop, Drop, Drop, Drop],
        udp: [Drop, Drop, Drop, Drop],
        extras: &[],
    },
    Lesson {
        name: "3, end",
        change: "+ whitelist (tcp)",
        policies: &[DENY_NODEPORTS, DENY_BALANCER, WHITELIST],
        tcp: [Pass, Drop, Drop, Drop],
        udp: [Drop, Drop, Drop, Drop],
        extras: &[],
    },
    Lesson {
        name: "4, step 1",
        change: "- deny-lb-port-80, - whitelist",
        policies: &[DENY_NODEPORTS],
        tcp: [Pass, Pass, Drop, Drop],
        udp: [Pass, Pass, Drop, Drop],
        extras: &[],
    },
    Lesson {
        name: "4, end",
        change: "+ blacklist",
        policies: &[DENY_NODEPORTS, BLACKLIST],
        tcp: [Drop, Pass, Drop, Drop],
        udp: [Drop, Pass, Drop, Drop],
        extras: &[],
    },
    Lesson {
        name: "4, clean up",
        change: "- blacklist",
        policies: &[DENY_NODEPORTS],
        tcp: [Pass, Pass, Drop, Drop],
        udp: [Pass, Pass, Drop, Drop],
        extras: &[],
    },
];

/// The lesson that a lab starts with: the first in which something is denied, so that there is something to explain.
pub const FIRST_SHOWN: &Lesson = &LESSONS[1];

const fn extra(
    what: &'static str,
    transport: Transport,
    from: IpAddr,
    to: IpAddr,
    port: u16,
    expected: Expected,
) -> Extra {
    Extra { what, transport, from, to: SocketAddr::new(to, port), expected }
}

#[cfg(test)]
mod tests {
    use super::super::echo::PORTS;
    use super::super::place::{CLIENTS, SERVERS};
    use super::*;

    #[test]
    fn every_connection_has_somebody_to_answer() {
        let check = |what: &str, from: IpAddr, to: SocketAddr, has_port: bool| {
            assert!(CLIENTS.contains(&from) && SERVERS.contains(&to.ip()), "{what}");
            assert!(!has_port || PORTS.contains(&to.port()), "{what}");
        };
        for (what, from, to) in COLUMNS {
            check(what, from, to, true);
        }
        for lesson in LESSONS {
            for extra in lesson.extras {
                check(extra.what, extra.from, extra.to, extra.transport != Transport::Ping);
            }
        }
    }

    #[test]
    fn neighbouring_lessons_load_different_files() {
        for pair in LESSONS.windows(2) {
            assert_ne!(pair[0].policies, pair[1].policies, "{} and {}", pair[0].name, pair[1].name);
        }
    }
}
