//! A description of traffic in, frames with signatures on one port out, and the account of what came of them on another.
//!
//! ```text
//!  Traffic ── templates ──▶ Sender ── signature ──▶ port ≈≈ what is tested ≈≈ port ──▶ Receiver ──▶ Account
//! ```
//!
//! Every frame carries a [`signature::Signature`]: run, flow, sequence number, time of departure and a checksum over all that a
//! forwarder must not change. So the receiving side tells loss, duplication, reordering and corruption apart, each in the terms of
//! its RFC ([`account`]), and the one-way delay, without anything kept between the two sides but the run's number.
//!
//! [`traffic`] says what is sent, [`template`] prepares it, [`signature`] marks it, [`pace`] says when, [`drive`](mod@drive) sends
//! and receives, [`account`] counts, [`ends`] opens the interfaces.

pub mod account;
pub mod drive;
pub mod ends;
pub mod pace;
pub mod signature;
pub mod template;
pub mod traffic;

pub use account::{Account, Tally};
pub use drive::{Elapsed, Receiver, Sender, Way, drive};
pub use ends::EndName;
pub use pace::Rate;
pub use traffic::{Protocol, Sizes, Traffic};
