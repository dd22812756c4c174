//! Bytes in, [`Key`] out, by one entry [`parse()`]; and the reverse for building test packets.
//!
//! Architecture invariant: this room knows no frames, policy or flows.

pub mod key;

pub mod columns;

pub mod parse;

mod network;

mod plain;

mod sixteen;

mod transport;

mod quote;

pub mod checksum;

pub mod partial;

pub mod build;

pub use build::{FragmentSpec, PacketSpec, build};
pub use checksum::internet_checksum;
pub use columns::Columns;
pub use key::{Key, KeyBits, Tuple};
pub use parse::{Arrival, Arrivals, Fault, Findings, Options, Parsed, PassList, Passed, Rows, parse, parse_sixteen};
pub use partial::complete_partial;
