//! Two interfaces, or one, in, [`Queue`]s that receive and transmit frames out: AF_XDP sockets over one UMEM, under our own program.
//!
//! `open` validates and climbs down the modes, `bind` makes sockets, `region` is the memory, `queue` the four rings, `program` what runs in the kernel, `netlink`
//! what the kernel says about interfaces, `sys` the system calls that no dependency wraps.

mod bind;
mod deferral;
mod netlink;
mod open;
mod program;
mod queue;
mod region;
mod sys;
mod tags;

pub use netlink::{AttachedProgram, Interface};
pub use open::{BusyPoll, End, Mode, Opened, PortReport, Programs, Settings, open, open_end};
pub use program::LeftToKernel;
pub use queue::Queue;
pub use region::Region;
pub use sys::wait;

use bind::cause;
