//! The name of an interface in, what the kernel says about it out: index, MTU, address, queues, own addresses, XDP programs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::sys;
use crate::io::error::OpenError;

const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const FLAG_REQUEST: u16 = 1;
const FLAG_MULTI: u16 = 2;
const FLAG_DUMP: u16 = 0x300;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Type and nesting flag share a field; this is the type.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// An XDP program that an interface carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// Kernel id.
    pub id: u32,
    /// `native`, `generic` or `offloaded`.
    pub how: &'static str,
}

/// What the kernel says about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Whether it is administratively up.
    pub is_up: bool,
    /// Bytes that a packet may have.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Receive queues in use.
    pub receive_queues: u32,
    /// Transmit queues in use.
    pub transmit_queues: u32,
    /// Addresses of this network namespace on it.
    pub addresses: Vec<IpAddr>,
    /// XDP programs that it carries now.
    pub programs: Vec<AttachedProgram>,
}

impl Interface {
    /// Asks the kernel.
    ///
    /// # Errors
    /// [`OpenError::NoInterface`], or what the kernel says.
    pub fn query(name: &str) -> Result<Interface, OpenError> {
        let missing = || OpenError::NoInterface { interface: name.to_string() };
        // The kernel's limit, IFNAMSIZ with its end mark.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.bytes().any(|b| b == 0) {
            return Err(missing());
        }
        let system = |source: io::Error| match source.raw_os_error() {
            Some(libc::ENODEV) => missing(),
            _ => OpenError::System { action: "ask for its properties".into(), interface: Some(name.into()), source },
        };
        let mut attribute = name.as_bytes().to_vec();
        attribute.push(0);
        let request = message(RTM_GETLINK, FLAG_REQUEST, &[0; LINK_HEADER], &[(IFLA_IFNAME, &attribute)]);
        let answer = sys::route_request(&request).map_err(system)?;
        let mut interface = None;
        for (kind, body) in messages(&answer) {
            match kind {
                NLMSG_ERROR => return Err(system(error_of(body))),
                RTM_NEWLINK => interface = parse_link(body),
                _ => {}
            }
        }
        let mut interface = interface.ok_or_else(missing)?;
        let request = message(RTM_GETADDR, FLAG_REQUEST | FLAG_DUMP, &[0; ADDRESS_HEADER], &[]);
        let answer = sys::route_request(&request).map_err(system)?;
        interface.addresses = messages(&answer)
            .filter(|(kind, _)| *kind == RTM_NEWADDR)
            .filter_map(|(_, body)| parse_address(body, interface.index))
            .collect();
        // What the driver says is in use; netlink tells only what was allocated.
        if let Ok((receive, transmit)) = sys::channels(name) {
            interface.receive_queues = receive;
            interface.transmit_queues = transmit;
        }
        Ok(interface)
    }
}

/// Whether a part of an answer is the last one.
pub(super) fn is_last(part: &[u8]) -> bool {
    let single = half(part, 6).is_none_or(|flags| flags & FLAG_MULTI == 0);
    single || messages(part).any(|(kind, _)| kind == NLMSG_DONE)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn message(kind: u16, flags: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = header.to_vec();
    for (kind, value) in attributes {
        body.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
        body.extend_from_slice(&kind.to_ne_bytes());
        body.extend_from_slice(value);
        body.resize(padded(body.len()), 0);
    }
    let mut whole = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    whole.extend_from_slice(&kind.to_ne_bytes());
    whole.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and sender: one request per socket needs neither.
    whole.extend_from_slice(&[0; 8]);
    whole.extend_from_slice(&body);
    whole
}

/// Type and body of each message.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = word(rest, 0)? as usize;
        let kind = half(rest, 4)?;
        let body = rest.get(HEADER..length)?;
        rest = rest.get(padded(length)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// Type and value of each attribute.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = half(rest, 0)? as usize;
        let kind = half(rest, 2)? & ATTRIBUTE_TYPE;
        let value = rest.get(4..length)?;
        rest = rest.get(padded(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn error_of(body: &[u8]) -> io::Error {
    io::Error::from_raw_os_error(word(body, 0).map_or(libc::EPROTO, |code| (code as i32).wrapping_neg()))
}

fn parse_link(body: &[u8]) -> Option<Interface> {
    let mut interface = Interface {
        name: String::new(),
        index: word(body, 4)?,
        is_up: word(body, 8)? & libc::IFF_UP as u32 != 0,
        mtu: 0,
        mac: [0; 6],
        receive_queues: 1,
        transmit_queues: 1,
        addresses: Vec::new(),
        programs: Vec::new(),
    };
    for (kind, value) in attributes(body.get(LINK_HEADER..)?) {
        match kind {
            IFLA_IFNAME => {
                let text = value.split(|b| *b == 0).next().unwrap_or_default();
                interface.name = String::from_utf8_lossy(text).into_owned();
            }
            IFLA_MTU => interface.mtu = word(value, 0)?,
            IFLA_ADDRESS => interface.mac = value.try_into().unwrap_or_default(),
            IFLA_NUM_TX_QUEUES => interface.transmit_queues = word(value, 0)?,
            IFLA_NUM_RX_QUEUES => interface.receive_queues = word(value, 0)?,
            IFLA_XDP => interface.programs = parse_programs(value),
            _ => {}
        }
    }
    Some(interface)
}

fn parse_programs(nested: &[u8]) -> Vec<AttachedProgram> {
    let mut found: Vec<AttachedProgram> = Vec::new();
    let mut any = None;
    for (kind, value) in attributes(nested) {
        let how = match kind {
            IFLA_XDP_DRV_PROG_ID => "native",
            IFLA_XDP_SKB_PROG_ID => "generic",
            IFLA_XDP_HW_PROG_ID => "offloaded",
            IFLA_XDP_PROG_ID => {
                any = word(value, 0);
                continue;
            }
            _ => continue,
        };
        if let Some(id) = word(value, 0).filter(|id| *id != 0) {
            found.push(AttachedProgram { id, how });
        }
    }
    if let (Some(id), true) = (any.filter(|id| *id != 0), found.is_empty()) {
        found.push(AttachedProgram { id, how: "attached" });
    }
    found
}

fn parse_address(body: &[u8], index: u32) -> Option<IpAddr> {
    if word(body, 4)? != index {
        return None;
    }
    let mut address = None;
    for (kind, value) in attributes(body.get(ADDRESS_HEADER..)?) {
        // Of a point-to-point link the address is the peer's and the local one is own.
        if kind == IFA_LOCAL || (kind == IFA_ADDRESS && address.is_none()) {
            address = match value.len() {
                4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
                16 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?))),
                _ => None,
            };
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_described_as_everyone_knows_it() {
        let loopback = Interface::query("lo").unwrap();
        assert_eq!((loopback.index, loopback.mtu, loopback.mac), (1, 65536, [0; 6]));
        assert_eq!((loopback.name.as_str(), loopback.programs.len()), ("lo", 0));
    }

    #[test]
    fn names_that_are_no_interface_are_refused_with_the_name() {
        let check = |name: &str| match Interface::query(name) {
            Err(OpenError::NoInterface { interface }) => assert_eq!(interface, name),
            other => panic!("{name}: {other:?}"),
        };
        for name in ["nowhere0", "", "a-name-longer-than-the-kernel-allows", "nul\0byte"] {
            check(name);
        }
    }

    #[test]
    fn broken_messages_end_the_list_instead_of_the_program() {
        let whole = message(RTM_GETLINK, FLAG_REQUEST, &[0; LINK_HEADER], &[(IFLA_MTU, &1500u32.to_ne_bytes())]);
        assert_eq!(messages(&whole).count(), 1);
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0, "{length}");
            for (_, body) in messages(&whole) {
                parse_link(&body[..length.min(body.len())]);
            }
        }
    }
}
