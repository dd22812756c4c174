//! An interface and the sockets of its queues in, our XDP program attached to it out, by a link that ends with the process.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use aya::maps::{HashMap, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};

use super::netlink::Interface;
use super::sys;
use crate::io::error::OpenError;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.bpf.o"));

/// Index into the program's counters.
const WITHOUT_SOCKET: u32 = 0;
const TO_THE_BOX: u32 = 1;
/// Own addresses of one family that the program has room for.
const ADDRESSES: usize = 256;

/// Frames that the XDP program of one port left to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftToKernel {
    /// They came on a queue without a socket.
    pub without_socket: u64,
    /// They were addressed to the box itself.
    pub to_the_box: u64,
}

/// Our program on one interface; dropping it takes the program off.
pub struct Attachment {
    loaded: Ebpf,
    link: Option<FdLink>,
    /// Closing it ends promiscuous mode.
    _promiscuous: OwnedFd,
}

/// Why the program could not be attached in one mode.
pub(super) enum AttachError {
    /// Another mode may work.
    Mode(io::Error),
    /// No mode will.
    Final(OpenError),
}

impl Attachment {
    /// Loads the program for this interface and these sockets, in order of their queue, and attaches it.
    pub(super) fn new(interface: &Interface, sockets: &[i32], mode: XdpMode) -> Result<Attachment, AttachError> {
        let mut loaded = load(interface).map_err(AttachError::Final)?;
        fill_maps(&mut loaded, interface, sockets).map_err(|error| {
            AttachError::Final(OpenError::Program(format!(
                "its maps cannot be filled for `{}`: {error}",
                interface.name
            )))
        })?;
        let promiscuous = sys::promiscuous(interface.index)
            .map_err(|source| AttachError::Final(refused("promiscuous mode", interface, source)))?;
        let link = attach(&mut loaded, interface, mode)?;
        Ok(Attachment { loaded, link: Some(link), _promiscuous: promiscuous })
    }

    /// Takes the program off the interface: from now on frames go to the kernel.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// What the program left to the kernel so far; zeros if the kernel does not tell.
    pub fn left_to_kernel(&self) -> LeftToKernel {
        let read = |index: u32| -> Option<u64> {
            let counters = PerCpuArray::<_, u64>::try_from(self.loaded.map("COUNTERS")?).ok()?;
            Some(counters.get(&index, 0).ok()?.iter().sum())
        };
        LeftToKernel { without_socket: read(WITHOUT_SOCKET).unwrap_or(0), to_the_box: read(TO_THE_BOX).unwrap_or(0) }
    }
}

fn load(interface: &Interface) -> Result<Ebpf, OpenError> {
    let has_addresses = u8::from(!interface.addresses.is_empty());
    let mut loader = EbpfLoader::new();
    loader
        .override_global("HAS_ADDRESSES", &has_addresses, true)
        .override_global("OWN_MAC", &interface.mac, true)
        .map_max_entries("SOCKETS", interface.receive_queues.max(1));
    let failed = |error: &(dyn std::error::Error + 'static)| match os_error(error) {
        Some(source) if is_permission(&source) => refused("loading an XDP program", interface, source),
        _ => OpenError::Program(chain(error)),
    };
    let mut loaded = loader.load(OBJECT).map_err(|error| failed(&error))?;
    program(&mut loaded)?.load().map_err(|error| failed(&error))?;
    Ok(loaded)
}

fn program(loaded: &mut Ebpf) -> Result<&mut Xdp, OpenError> {
    let missing = || OpenError::Program("the embedded object holds no XDP program `redirect`".into());
    loaded.program_mut("redirect").ok_or_else(missing)?.try_into().map_err(|_| missing())
}

fn fill_maps(loaded: &mut Ebpf, interface: &Interface, sockets: &[i32]) -> Result<(), MapError> {
    if let Some(map) = loaded.map_mut("SOCKETS") {
        let mut map = XskMap::try_from(map)?;
        for (queue, socket) in (0u32..).zip(sockets) {
            map.set(queue, Descriptor(*socket), 0)?;
        }
    }
    let own = || interface.addresses.iter().take(ADDRESSES);
    if let Some(map) = loaded.map_mut("OWN4") {
        let mut map = HashMap::<_, u32, u8>::try_from(map)?;
        for address in own() {
            if let IpAddr::V4(address) = address {
                map.insert(u32::from_ne_bytes(address.octets()), 1, 0)?;
            }
        }
    }
    if let Some(map) = loaded.map_mut("OWN6") {
        let mut map = HashMap::<_, [u8; 16], u8>::try_from(map)?;
        for address in own() {
            if let IpAddr::V6(address) = address {
                map.insert(address.octets(), 1, 0)?;
            }
        }
    }
    Ok(())
}

/// A socket descriptor as the map wants it named.
struct Descriptor(i32);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> i32 {
        self.0
    }
}

fn attach(loaded: &mut Ebpf, interface: &Interface, mode: XdpMode) -> Result<FdLink, AttachError> {
    let no_link = || {
        AttachError::Final(OpenError::Feature {
            feature: "the BPF link for XDP",
            interface: Some(interface.name.clone()),
            source: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
            cure: "use Linux 5.11 or later",
        })
    };
    // Without links (before Linux 5.9) the program would outlive a process that is killed, so it is not even tried.
    if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 11, 0)) {
        return Err(no_link());
    }
    let program = program(loaded).map_err(AttachError::Final)?;
    let id = program.attach_to_if_index(interface.index, mode).map_err(|error| {
        let Some(source) = os_error(&error) else {
            return AttachError::Final(OpenError::Program(chain(&error)));
        };
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                AttachError::Final(refused("attaching an XDP program", interface, source))
            }
            Some(libc::EBUSY | libc::EEXIST) => AttachError::Final(occupied(interface, source)),
            _ => AttachError::Mode(source),
        }
    })?;
    let link = program.take_link(id).map_err(|error| AttachError::Final(OpenError::Program(chain(&error))))?;
    FdLink::try_from(link).map_err(|_| no_link())
}

/// Which program it is that occupies the interface.
pub(super) fn occupied(interface: &Interface, source: io::Error) -> OpenError {
    let now = Interface::query(&interface.name).map(|found| found.programs).unwrap_or_default();
    match now.first().or(interface.programs.first()) {
        Some(program) => {
            OpenError::ProgramAttached { interface: interface.name.clone(), program: program.id, how: program.how }
        }
        None => OpenError::System {
            action: "attach the XDP program".into(),
            interface: Some(interface.name.clone()),
            source,
        },
    }
}

fn is_permission(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

fn refused(action: &'static str, interface: &Interface, source: io::Error) -> OpenError {
    if is_permission(&source) {
        let capabilities = "CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF";
        return OpenError::Privilege { action, interface: interface.name.clone(), capabilities };
    }
    OpenError::System { action: format!("get {action}"), interface: Some(interface.name.clone()), source }
}

/// The system error at the bottom of a chain of errors.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(code) = current.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(io::Error::from_raw_os_error(code));
        }
        next = current.source();
    }
    None
}

/// The messages of a chain of errors, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(current) = next {
        text.push_str(": ");
        text.push_str(&current.to_string());
        next = current.source();
    }
    text
}
