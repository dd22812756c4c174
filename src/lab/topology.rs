//! A lab and its settings in, namespaces joined by veth pairs out; and their removal.
//!
//! Both pairs are made inside the namespaces, so nothing ever appears among the machine's own interfaces, and no namespace has a
//! route to the outside. The gateway's two ports have no addresses: it is a transparent bridge, and ARP and neighbour discovery
//! of both sides pass through it.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use crate::base::address::{Family, address, range};

use super::LabError;
use super::error::AtPath;
use super::namespace;
use super::place::{CLIENTS, Lab, Place, SERVERS, on_link_length};
use super::process::tool;

/// The uplink port of the gateway.
pub const UPLINK: &str = "up0";
/// The downlink port of the gateway.
pub const DOWNLINK: &str = "dn0";
/// The clients' interface.
pub const CLIENT_INTERFACE: &str = "gen0";
/// The workers' interface.
pub const WORKER_INTERFACE: &str = "wk0";
/// The stand-in for the gateway that forwards everything.
const BRIDGE: &str = "br0";

/// Whether the peers may send super-frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// As the kernel sets them.
    Default,
    /// TCP segmentation and generic segmentation are off: generic XDP hands whole super-frames to AF_XDP, which cannot take them.
    NoSegmentation,
}

/// Builds all namespaces and links. Fails if they exist.
///
/// # Errors
/// [`LabError::Privilege`] without the right to make namespaces or without `ip`, [`LabError::Tool`] with what `ip` said.
pub fn build(lab: &Lab, queues: u32, offloads: Offloads) -> Result<(), LabError> {
    let [generator, gateway, workers] = Place::ALL.map(|place| lab.namespace(place));
    let names = [&generator, &gateway, &workers];
    ip(None, &names.map(|name| format!("netns add {name}")))?;
    for (name, has_addresses) in [(&generator, true), (&gateway, false), (&workers, true)] {
        namespace::inside(name, || configure_stack(has_addresses))??;
    }
    ip(
        None,
        &[
            veth(&generator, CLIENT_INTERFACE, &gateway, UPLINK, queues),
            veth(&workers, WORKER_INTERFACE, &gateway, DOWNLINK, queues),
        ],
    )?;
    ip(Some(&gateway), &["lo", UPLINK, DOWNLINK].map(|name| format!("link set {name} up")))?;
    ip(Some(&generator), &side(CLIENT_INTERFACE, &CLIENTS, &SERVERS))?;
    ip(Some(&workers), &side(WORKER_INTERFACE, &SERVERS, &CLIENTS))?;
    if offloads == Offloads::NoSegmentation {
        for (name, interface) in [(&generator, CLIENT_INTERFACE), (&workers, WORKER_INTERFACE)] {
            let arguments = ["-K", interface, "tso", "off", "gso", "off"];
            namespace::inside(name, || tool("ethtool", "ethtool", &arguments, ""))??;
        }
    }
    Ok(())
}

/// Joins the two ports by a bridge of the kernel, which lets everything pass: the lab without a gateway.
pub fn bridge_ports(lab: &Lab) -> Result<(), LabError> {
    ip(
        Some(&lab.namespace(Place::Gateway)),
        &[
            format!("link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0"),
            format!("link set {UPLINK} master {BRIDGE}"),
            format!("link set {DOWNLINK} master {BRIDGE}"),
            format!("link set {BRIDGE} up"),
        ],
    )?;
    Ok(())
}

/// Removes the lab's namespaces, and with them all links. Returns how many there were; none is fine.
pub fn remove(lab: &Lab) -> Result<usize, LabError> {
    let mut removed = 0;
    for name in Place::ALL.map(|place| lab.namespace(place)).iter().filter(|name| namespace::exists(name)) {
        if ip(None, &[format!("netns delete {name}")]).is_err() {
            // A name without a mount behind it is what an interrupted `netns add` or a reboot of a container leaves.
            let path = namespace::path(name);
            fs::remove_file(&path).at(path)?;
        }
        removed += 1;
    }
    Ok(removed)
}

/// How many of the lab's namespaces exist.
pub fn present(lab: &Lab) -> usize {
    Place::ALL.into_iter().filter(|place| namespace::exists(&lab.namespace(*place))).count()
}

fn veth(left: &str, left_interface: &str, right: &str, right_interface: &str, queues: u32) -> String {
    let count = format!("numrxqueues {queues} numtxqueues {queues}");
    format!(
        "link add name {left_interface} netns {left} mtu 1500 {count} type veth \
         peer name {right_interface} netns {right} mtu 1500 {count}"
    )
}

/// Addresses of one side and the way to the other, which is taken to be on the link.
fn side(interface: &str, own: &[IpAddr], other: &[IpAddr]) -> Vec<String> {
    let mut commands = vec!["link set lo up".to_owned(), format!("link set {interface} up")];
    let usable = |host: &&IpAddr| host.is_ipv4() || has_ipv6();
    for host in own.iter().filter(usable) {
        // Without duplicate address detection, which even switched off ends a moment later: until then nobody can bind to it.
        let at_once = if host.is_ipv6() { " nodad" } else { "" };
        commands.push(format!("address add {host}/{} dev {interface}{at_once}", Family::of(*host).bits()));
    }
    for host in other.iter().filter(usable) {
        let length = on_link_length(*host);
        let (first, _) = range(*host, length);
        let network = address(Family::of(*host), first);
        commands.push(format!("route add {network}/{length} dev {interface}"));
    }
    commands
}

/// Whether this kernel speaks IPv6; without it the lab has IPv4 only.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Settings of the namespace that the calling thread lives in.
fn configure_stack(has_addresses: bool) -> Result<(), LabError> {
    let conf = Path::new("/proc/sys/net");
    let set = |name: &str, value: &str| {
        let path = conf.join(name);
        if !path.exists() {
            return Ok(()); // a kernel without IPv6
        }
        fs::write(&path, value).at(path)
    };
    for scope in ["all", "default"] {
        // The gateway's ports stay without link-local addresses, so that it never speaks for itself.
        set(&format!("ipv6/conf/{scope}/disable_ipv6"), if has_addresses { "0" } else { "1" })?;
        set(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        set(&format!("ipv6/conf/{scope}/accept_ra"), "0")?;
        set(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
    }
    // Lets the probe of ping use a socket for which the kernel fills in identifier and checksum, both families.
    set("ipv4/ping_group_range", "0 2147483647")
}

/// Runs commands of `ip`, one per line, in one process; the first that fails ends it.
pub(super) fn ip<S: AsRef<str>>(inside: Option<&str>, commands: &[S]) -> Result<String, LabError> {
    let mut arguments = vec!["-batch", "-"];
    if let Some(name) = inside {
        arguments.splice(0..0, ["-netns", name]);
    }
    let input: String = commands.iter().map(|c| format!("{}\n", c.as_ref())).collect();
    tool("ip", "iproute2", &arguments, &input).map_err(|error| match error {
        LabError::Tool { message, .. }
            if message.contains("Operation not permitted") || message.contains("Permission") =>
        {
            LabError::Privilege(format!(
                "the lab needs root to make network namespaces: run it with `sudo` ({message})"
            ))
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_can_be_bound_as_soon_as_they_are_there() {
        let own = ["10.1.1.1", "2001:db8::1"].map(|host| host.parse().unwrap());
        let commands = side("eth", &own, &[]);
        let is_any = |start: &str, end: &str| commands.iter().any(|c| c.starts_with(start) && c.ends_with(end));
        assert!(is_any("address add 10.1.1.1/32", " dev eth"), "{commands:?}");
        assert_eq!(is_any("address add 2001:db8::1/128", " nodad"), has_ipv6(), "{commands:?}");
    }
}
