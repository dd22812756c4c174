//! The system calls that no dependency wraps, in: plain values; out: plain values or the kernel's error.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// `ETHTOOL_GCHANNELS` of `linux/ethtool.h`.
const ETHTOOL_GCHANNELS: u32 = 0x3c;
/// `ETHTOOL_GFLAGS` and `ETHTOOL_SFLAGS` of `linux/ethtool.h`.
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
/// `XDP_MAX_TX_SKB_BUDGET` of `linux/if_xdp.h`, since 6.17.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// `XDP_OPTIONS_ZEROCOPY` of `linux/if_xdp.h`.
const XDP_OPTIONS_ZEROCOPY: u32 = 1;

fn check(value: libc::c_int) -> io::Result<libc::c_int> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn socket(domain: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer.
    let descriptor = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the call above has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Sends one rtnetlink request and returns all messages of the answer, up to the kernel's end mark.
///
/// # Errors
/// The kernel's, those that the answer itself carries aside: they are messages of type `NLMSG_ERROR`.
pub fn route_request(request: &[u8]) -> io::Result<Vec<u8>> {
    let socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    // SAFETY: pointer and length are those of one live slice, which the call only reads.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = Vec::new();
    let mut part = vec![0u8; 64 * 1024];
    loop {
        // SAFETY: pointer and length are those of one live buffer, written by nobody else during the call.
        let received = unsafe { libc::recv(socket.as_raw_fd(), part.as_mut_ptr().cast(), part.len(), 0) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let part = part.get(..received).unwrap_or_default();
        answer.extend_from_slice(part);
        if super::netlink::is_last(part) {
            return Ok(answer);
        }
    }
}

/// Receive and transmit queues that an interface has in use, combined ones counted for both (`ethtool -l`).
///
/// # Errors
/// `EOPNOTSUPP` where the driver does not tell.
pub fn channels(interface: &str) -> io::Result<(u32, u32)> {
    #[repr(C)]
    #[derive(Default)]
    struct Channels {
        command: u32,
        max_receive: u32,
        max_transmit: u32,
        max_other: u32,
        max_combined: u32,
        receive: u32,
        transmit: u32,
        other: u32,
        combined: u32,
    }
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    ethtool(interface, &mut channels)?;
    Ok((channels.receive + channels.combined, channels.transmit + channels.combined))
}

/// The offloads of an interface that have a flag (`linux/ethtool.h`).
///
/// # Errors
/// `EOPNOTSUPP` where the driver does not tell.
pub fn offloads(interface: &str) -> io::Result<u32> {
    let mut value = [ETHTOOL_GFLAGS, 0];
    ethtool(interface, &mut value)?;
    Ok(value[1])
}

/// Switches offloads of an interface.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`; `EINVAL` or `EOPNOTSUPP` where the driver cannot.
pub fn set_offloads(interface: &str, flags: u32) -> io::Result<()> {
    ethtool(interface, &mut [ETHTOOL_SFLAGS, flags])
}

/// One ethtool command; `T` is the structure that its first word, the command, stands for.
fn ethtool<T>(interface: &str, structure: &mut T) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: all zeros is a value of this C structure of integers and a union of such.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays 0, the end of the string.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(structure).cast();
    // SAFETY: the request names a structure of the size that its command writes, alive and unshared until the call returns.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, ptr::from_mut(&mut request)) })?;
    Ok(())
}

/// Makes an interface take in all frames until the returned descriptor is closed, at the latest when the process ends.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`.
pub fn promiscuous(index: u32) -> io::Result<OwnedFd> {
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    // SAFETY: all zeros is a value of this C structure of integers.
    let mut membership: libc::packet_mreq = unsafe { mem::zeroed() };
    membership.mr_ifindex = index as libc::c_int;
    membership.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
    Ok(socket)
}

/// Memory comes from one NUMA node as long as it has any, for what this thread takes until this is dropped.
pub struct NearNode(());

/// `MPOL_DEFAULT` and `MPOL_PREFERRED` of `linux/mempolicy.h`.
const MPOL_DEFAULT: libc::c_int = 0;
const MPOL_PREFERRED: libc::c_int = 1;
/// Words of a set of nodes: the kernel is built for 1024 at most.
const NODE_WORDS: usize = 1024 / 64;

impl NearNode {
    /// Prefers a node's memory.
    ///
    /// # Errors
    /// `EINVAL` if there is no such node, `EPERM` or `ENOSYS` where the call is not allowed or not built in.
    pub fn prefer(node: u32) -> io::Result<NearNode> {
        let mut nodes = [0u64; NODE_WORDS];
        let word = nodes.get_mut(node as usize / 64).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        *word = 1 << (node % 64);
        // The kernel looks at one bit less than it is told.
        let bits = NODE_WORDS * 64 + 1;
        // SAFETY: the pointer is to a live set of that many bits but the one never looked at, which the call only reads.
        let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_PREFERRED, nodes.as_ptr(), bits) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(NearNode(())) }
    }
}

impl Drop for NearNode {
    fn drop(&mut self) {
        // SAFETY: the default takes no set of nodes; a null pointer says so.
        unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_DEFAULT, ptr::null::<u64>(), 0usize) };
    }
}

fn set_option<T>(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length are those of one live value, which the call only reads.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(value).cast(), length) })?;
    Ok(())
}

/// Whether a bound AF_XDP socket got zero-copy, as the kernel says (`XDP_OPTIONS`).
///
/// # Errors
/// The kernel's.
pub fn is_zero_copy(socket: &impl AsRawFd) -> io::Result<bool> {
    Ok(integer_option(socket, libc::SOL_XDP, libc::XDP_OPTIONS)? & XDP_OPTIONS_ZEROCOPY != 0)
}

fn integer_option(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int) -> io::Result<u32> {
    let mut value = 0u32;
    let mut length = mem::size_of::<u32>() as libc::socklen_t;
    let descriptor = socket.as_raw_fd();
    let (to, length) = (ptr::from_mut(&mut value).cast(), ptr::from_mut(&mut length));
    // SAFETY: the pointers are to live integers, the second the length of the first, unshared until the call returns.
    check(unsafe { libc::getsockopt(descriptor, level, name, to, length) })?;
    Ok(value)
}

/// Asks the kernel to send up to this many frames per wake-up in copy mode, instead of 32.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.17, where a burst takes several wake-ups.
pub fn set_transmit_budget(socket: &impl AsRawFd, frames: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &frames)
}

/// Lets the calls that this socket's owner makes do the work of its device, at most `budget` frames each, rather than interrupts.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 5.11, `EPERM` without `CAP_NET_ADMIN`; nothing is changed for good then.
pub fn prefer_busy_poll(socket: &impl AsRawFd, microseconds: u32, budget: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, &1)?;
    let rest = set_option(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &microseconds)
        .and_then(|()| set_option(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, &budget));
    if rest.is_err() {
        // Without all three, calls would be made that do nothing while interrupts are held back.
        let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &0);
        let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, &0);
    }
    rest
}

/// What the kernel says about busy polling of a socket: whether it is preferred, and microseconds. The budget
/// can be set but not asked for.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 5.11.
pub fn busy_poll(socket: &impl AsRawFd) -> io::Result<[u32; 2]> {
    let option = |name| integer_option(socket, libc::SOL_SOCKET, name);
    Ok([option(libc::SO_PREFER_BUSY_POLL)?, option(libc::SO_BUSY_POLL)?])
}

/// Runs the device behind a busy-polling socket once: its frames come to the receive ring, those of the transmit ring leave.
/// One system call, which never waits.
#[inline]
pub fn poll_device(socket: RawFd) {
    // Errors are those of a device that cannot be polled now; the rings show what there is.
    // SAFETY: no buffer and no address are given, so the call writes no memory of ours.
    unsafe { libc::recvfrom(socket, ptr::null_mut(), 0, libc::MSG_DONTWAIT, ptr::null_mut(), ptr::null_mut()) };
}

/// Sleeps until one of the descriptors can be read, at most this many milliseconds, and returns whether one can; negative
/// descriptors are passed over. For an AF_XDP socket this is at the same time the wake-up that the fill ring may ask for.
pub fn wait<const N: usize>(descriptors: [RawFd; N], milliseconds: i32) -> bool {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // A failure (a signal, for one) counts as having waited: the caller looks at its rings in any case.
    // SAFETY: pointer and length are those of one live array, unshared until the call returns.
    unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, milliseconds) > 0 }
}
