//! Two ports and a judge in, forwarded and recycled frames out: one pinned thread per queue runs one loop.
//!
//! ```text
//!  publish ──▶ desk ─┐                      ┌──▶ transmit on the other port
//!  receive a burst ──┴─▶ judge ─▶ fate ─────┼──▶ recycle
//!        └─▶ exchange (frames of another worker's flows) ──▶ that worker's burst
//! ```
//!
//! Architecture invariant: this room knows no policy and no text.

pub mod desk;
pub mod exchange;
pub mod judge;
pub mod latency;
pub mod line;
pub mod thread;

pub use desk::{Desk, Publisher};
pub use exchange::Exchange;
pub use judge::{EngineJudge, Judge, Load, PassAll};
pub use latency::Latency;
pub use line::{Fates, Judged, Line, NoTap, Tap};
pub use thread::{Clock, Pace, Report};
