//! A prefix in, the names and addresses of everything that the lab owns out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use super::LabError;

/// The prefix of a lab that is not named otherwise.
pub const DEFAULT_PREFIX: &str = "rwlab-";

/// The client of the lessons.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));
/// Any other client.
pub const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(2, 2, 2, 2));
/// The worker whose node ports are tried.
pub const WORKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 1));
/// The address of the load balancer.
pub const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 1, 1, 1));
/// The client's IPv6 address.
pub const CLIENT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
/// The other client's IPv6 address.
pub const OTHER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2));
/// The worker's IPv6 address.
pub const WORKER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 1));
/// The load balancer's IPv6 address.
pub const BALANCER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x169, 0, 0, 0, 0, 1));

/// Addresses of the clients' side.
pub const CLIENTS: [IpAddr; 4] = [CLIENT, OTHER, CLIENT_V6, OTHER_V6];
/// Addresses of the workers' side.
pub const SERVERS: [IpAddr; 4] = [WORKER, BALANCER, WORKER_V6, BALANCER_V6];

/// Prefix length that the other side takes to be on the link, around each address.
pub const fn on_link_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 64,
    }
}

/// The beginning of every name that one lab owns; labs with different prefixes do not touch each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Prefix, String> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        if text.len() < 2 || text.len() > 32 || !starts_well || !text.chars().all(legal) {
            return Err(format!(
                "`{text}` is not a lab prefix: expected 2 to 32 lower case letters, digits and dashes, a letter first"
            ));
        }
        Ok(Prefix(text.to_owned()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the three namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Clients.
    Generator,
    /// The box between the two.
    Gateway,
    /// Workers and the load balancer.
    Workers,
}

impl Place {
    /// All of them, from the outside in.
    pub const ALL: [Place; 3] = [Place::Generator, Place::Gateway, Place::Workers];

    /// The word used on the command line and in the namespace's name.
    pub const fn word(self) -> &'static str {
        match self {
            Place::Generator => "gen",
            Place::Gateway => "gw",
            Place::Workers => "workers",
        }
    }
}

/// One lab: its names and the directory with its state.
#[derive(Clone, Debug)]
pub struct Lab {
    prefix: Prefix,
    directory: PathBuf,
}

impl Lab {
    /// The lab with this prefix. Its state is kept in `/run/ringwall-lab/<prefix>`, or below `$XDG_RUNTIME_DIR` (given as an
    /// argument) for users other than root.
    pub fn new(prefix: Prefix, runtime_directory: Option<PathBuf>) -> Lab {
        let base = match runtime_directory {
            Some(path) if !nix::unistd::geteuid().is_root() => path,
            _ => PathBuf::from("/run"),
        };
        let directory = base.join("ringwall-lab").join(&prefix.0);
        Lab { prefix, directory }
    }

    /// Its prefix.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Name of a namespace.
    pub fn namespace(&self, place: Place) -> String {
        format!("{}{}", self.prefix, place.word())
    }

    /// Where all state is kept.
    pub fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// The gateway file.
    pub fn gateway_file(&self) -> PathBuf {
        self.directory.join("gateway.yaml")
    }

    /// The hardware profile that the gateway file names.
    pub fn profile_file(&self) -> PathBuf {
        self.directory.join("hw-profile.yaml")
    }

    /// The directory of policy files.
    pub fn policies(&self) -> PathBuf {
        self.directory.join("policies")
    }

    /// How the lab was built; present while it is up.
    pub fn settings_file(&self) -> PathBuf {
        self.directory.join("lab.json")
    }

    /// What a process of the lab writes to its standard output and error.
    pub fn log(&self, role: &str) -> PathBuf {
        self.directory.join(format!("{role}.log"))
    }

    /// Process id and start time of a process of the lab.
    pub fn record(&self, role: &str) -> PathBuf {
        self.directory.join(format!("{role}.pid"))
    }

    /// Whoever changes the lab holds a lock on this file, which lies beside the state so that it outlives it.
    pub fn lock_file(&self) -> PathBuf {
        self.directory.with_extension("lock")
    }

    /// The namespace behind a word such as `gen`.
    pub fn place(word: &str) -> Result<Place, LabError> {
        Place::ALL
            .into_iter()
            .find(|place| place.word() == word)
            .ok_or_else(|| LabError::Usage(format!("no namespace `{word}`: expected `gen`, `gw` or `workers`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_short_names() {
        let check = |text: &str, legal| assert_eq!(text.parse::<Prefix>().is_ok(), legal, "{text}");
        check("rwlab-", true);
        check("rw2-", true);
        check("", false);
        check("r", false);
        check("-x", false);
        check("../x", false);
        check("a b", false);
        check("Rw-", false);
    }

    #[test]
    fn two_labs_share_no_name() {
        let name = |prefix: &str| Lab::new(prefix.parse().unwrap(), None).namespace(Place::Gateway);
        assert_eq!(name("rwlab-"), "rwlab-gw");
        assert_ne!(name("rwlab-"), name("rwlab-2-"));
    }
}
