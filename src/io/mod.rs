//! Frames in and frames out, behind one trait [`Port`]: AF_XDP, captures and in-memory rings.
//!
//! Architecture invariant: this room knows no keys, reasons or policy. Its submodules that own rings and memory are the only
//! places of the crate that may use `unsafe`.

pub mod error;
pub mod frame;
mod ledger;
pub mod memory;
pub mod pcap;
mod pool;
pub mod port;
pub mod xdp;

pub use error::{ErrorClass, OpenError};
pub use frame::{BURST, Frame, Frames};
pub use port::{Port, QueueFigures};
