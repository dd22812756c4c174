//! Bytes in, [`Key`] out, by one entry; and the reverse for building test packets.
//!
//! Architecture invariant: this room knows no frames, policy or flows.

pub mod key;

pub use key::{Key, KeyBits, Tuple};
