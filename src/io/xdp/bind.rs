//! One queue of one interface in, the rings of a socket bound to it out.

#![allow(unsafe_code)]

use std::io;

use xsk_rs::Socket;
use xsk_rs::config::{BindFlags, Interface as InterfaceName, LibxdpFlags, QueueSize, SocketConfig};

use super::netlink::Interface;
use super::open::{Mode, Settings};
use super::program::os_error;
use super::region::Region;
use super::sys;
use crate::io::error::OpenError;
use crate::io::frame::BURST;

/// Why one step of the ladder failed.
pub(super) enum Step {
    /// The next step may work.
    Next { interface: String, source: io::Error },
    /// No step will.
    Final(OpenError),
}

impl From<OpenError> for Step {
    fn from(error: OpenError) -> Step {
        Step::Final(error)
    }
}

/// The four rings of a socket.
pub(super) type Rings = (xsk_rs::TxQueue, xsk_rs::RxQueue, xsk_rs::FillQueue, xsk_rs::CompQueue);

/// Binds a socket to one queue.
pub(super) fn bind(
    settings: &Settings,
    region: &Region,
    interface: &Interface,
    queue: u32,
    mode: Mode,
) -> Result<Rings, Step> {
    let size = |slots: u32| {
        QueueSize::new(slots).map_err(|_| OpenError::Setting {
            what: "ring",
            value: slots.into(),
            expected: "expected a power of two".into(),
        })
    };
    let copy = if mode == Mode::ZeroCopy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
    let config = SocketConfig::builder()
        .rx_queue_size(size(settings.receive_ring)?)
        .tx_queue_size(size(settings.transmit_ring)?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(copy | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let name: InterfaceName =
        interface.name.parse().map_err(|_| OpenError::NoInterface { interface: interface.name.clone() })?;
    // SAFETY: libxdp's own program is inhibited, which is what sharing a UMEM asks for.
    let made = unsafe { Socket::new(config, region.umem(), &name, queue) };
    let error = match made {
        Ok((transmit, receive, Some((fill, completion)))) => {
            // Before Linux 6.17 a flush takes several wake-ups instead.
            let _ = sys::set_transmit_budget(receive.fd(), (BURST as u32).min(settings.transmit_ring));
            return Ok((transmit, receive, fill, completion));
        }
        Ok((_, _, None)) => {
            return Err(OpenError::Busy { interface: interface.name.clone(), queue, waited_ms: 0 }.into());
        }
        Err(error) => super::cause(&error),
    };
    let interface = interface.name.clone();
    Err(match error.raw_os_error() {
        Some(libc::EBUSY) => OpenError::Busy { interface, queue, waited_ms: 0 }.into(),
        Some(libc::EPERM | libc::EACCES) => OpenError::Privilege {
            action: "an AF_XDP socket",
            interface,
            capabilities: "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF",
        }
        .into(),
        Some(libc::ENETDOWN) => OpenError::InterfaceDown { interface }.into(),
        Some(libc::EAFNOSUPPORT) => OpenError::Feature {
            feature: "AF_XDP",
            interface: Some(interface),
            source: error,
            cure: "use a kernel built with CONFIG_XDP_SOCKETS=y",
        }
        .into(),
        // Drivers refuse zero-copy in many ways: no support, no memory, not for this queue, not for a UMEM of two devices.
        _ if mode == Mode::ZeroCopy => Step::Next { interface, source: error },
        _ => {
            let action = format!("bind a socket to queue {queue}");
            OpenError::System { action, interface: Some(interface), source: error }.into()
        }
    })
}

/// The system error of a binding's refusal.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> io::Error {
    os_error(error).unwrap_or_else(|| io::Error::other(error.to_string()))
}
