//! An interface in, the promise that frames keep their VLAN tags out, until it is dropped.

use super::netlink::Interface;
use super::sys;

/// `ETH_FLAG_RXVLAN` of `linux/ethtool.h`: the device strips tags and tells them apart from the frame, where AF_XDP loses them.
const STRIP: u32 = 1 << 8;

/// Stripping of VLAN tags, switched off until dropped.
pub(super) struct Tags {
    interface: String,
    /// The offloads to put back.
    flags: u32,
}

impl Tags {
    /// Switches stripping off if it is on; what cannot be switched is a warning.
    pub(super) fn keep(interface: &Interface, warnings: &mut Vec<String>) -> Option<Tags> {
        let flags = sys::offloads(&interface.name).ok()?;
        if flags & STRIP == 0 {
            return None;
        }
        match sys::set_offloads(&interface.name, flags & !STRIP) {
            Ok(()) => Some(Tags { interface: interface.name.clone(), flags }),
            Err(error) => {
                warnings.push(format!(
                    "interface `{0}` strips VLAN tags and cannot be told not to ({error}): tagged frames are seen untagged; \
                     `ethtool -k {0}` shows `rx-vlan-offload`",
                    interface.name
                ));
                None
            }
        }
    }
}

impl Drop for Tags {
    fn drop(&mut self) {
        // The interface may be gone, or its driver refuse; then there is nothing to put back.
        let _ = sys::set_offloads(&self.interface, self.flags);
    }
}
