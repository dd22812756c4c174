//! What surrounds the running packet line: loading, publishing, signals, statistics, logs.
//!
//! Architecture invariant: this room does not know how packets are parsed.

pub mod cores;

pub mod daemon;
pub mod hardware;

pub mod load;

pub mod log;

pub mod stalls;
