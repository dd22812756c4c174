//! A lab in, the kernel as its gateway out: a router between the two ports for generated traffic, filtered by nftables.
//!
//! The next hops are made up, with fixed hardware addresses, so that nothing has to be resolved and nobody answers.

use std::fs;

use super::LabError;
use super::error::AtPath;
use super::generator::traffic::NOBODY;
use super::namespace;
use super::place::{Lab, Place};
use super::process::tool;
use super::topology::{DOWNLINK, UPLINK, ip};

/// The prefixes that lie behind the uplink and the downlink.
pub const NETWORKS: [(&str, &str, &str); 2] =
    [("198.18.0.0/24", UPLINK, "169.254.18.2"), ("198.19.0.0/24", DOWNLINK, "169.254.19.2")];

/// Makes the gateway's namespace a router.
///
/// # Errors
/// What `ip` says.
pub fn start(lab: &Lab) -> Result<(), LabError> {
    let gateway = lab.namespace(Place::Gateway);
    namespace::inside(&gateway, || {
        let path = "/proc/sys/net/ipv4/ip_forward";
        fs::write(path, "1").at(path)
    })??;
    let mac: Vec<String> = NOBODY.iter().map(|byte| format!("{byte:02x}")).collect();
    let mac = mac.join(":");
    let commands: Vec<String> = NETWORKS
        .iter()
        .flat_map(|(network, port, hop)| {
            [
                format!("neighbour replace {hop} lladdr {mac} dev {port} nud permanent"),
                format!("route replace {network} via {hop} dev {port} onlink"),
            ]
        })
        .collect();
    ip(Some(&gateway), &commands).map(|_| ())
}

/// Takes routes and rules away again.
///
/// # Errors
/// What `ip` or `nft` says.
pub fn stop(lab: &Lab) -> Result<(), LabError> {
    rules(lab, "flush ruleset\n")?;
    let commands = NETWORKS.map(|(network, port, _)| format!("route del {network} dev {port}"));
    ip(Some(&lab.namespace(Place::Gateway)), &commands).map(|_| ())
}

/// Loads rules as `nft -f` reads them, all or none.
///
/// # Errors
/// What `nft` says, or that it is not installed.
pub fn rules(lab: &Lab, text: &str) -> Result<(), LabError> {
    namespace::inside(&lab.namespace(Place::Gateway), || tool("nft", "nftables", &["-f", "-"], text))?.map(|_| ())
}
