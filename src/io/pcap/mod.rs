//! Capture files in, frames out, and the reverse: pcap and pcapng, read block by block and merged by timestamp.

pub mod error;

mod format;

pub mod read;

pub mod merge;

mod parcel;

mod supply;

pub mod port;

pub mod write;

pub use error::CaptureError;
pub use merge::Merge;
pub use parcel::Sorter;
pub use port::CapturePort;
pub use read::{Capture, Record};
pub use supply::Reading;
pub use write::{PcapngWriter, Seen};
