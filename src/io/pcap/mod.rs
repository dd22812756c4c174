//! Capture files in, frames out, and the reverse: pcap and pcapng, read block by block and merged by timestamp.

pub mod error;

mod format;

pub mod read;

pub mod merge;

pub mod port;

pub mod write;

pub use error::CaptureError;
pub use merge::Merge;
pub use port::{CapturePort, Sorter};
pub use read::{Capture, Record};
pub use write::{PcapngWriter, Seen};
