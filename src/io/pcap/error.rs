//! What can be wrong with a capture file, in words that name the file, the place and what was expected.

use std::io;

/// Why a capture cannot be opened or read on. Offsets count bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The operating system refuses.
    #[error("cannot read capture `{file}`: {source}")]
    Read {
        /// The file as it was named.
        file: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file starts like no capture.
    #[error("`{file}` is no capture: it starts with {start}, expected pcap or pcapng{hint}")]
    Unknown {
        /// The file as it was named.
        file: String,
        /// First bytes in hexadecimal.
        start: String,
        /// What it probably is and what to do, behind a semicolon; may be empty.
        hint: &'static str,
    },
    /// The file ends inside a header or record.
    #[error("truncated capture: `{file}` ends inside the {what} that starts at byte {offset}")]
    Truncated {
        /// The file as it was named.
        file: String,
        /// Where the cut header or record starts.
        offset: u64,
        /// What is cut.
        what: &'static str,
    },
    /// A header or record contradicts the format.
    #[error("damaged capture: `{file}`, byte {offset}: {what}")]
    Damaged {
        /// The file as it was named.
        file: String,
        /// Where the header or record starts.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Packets of a kind that cannot be judged.
    #[error(
        "`{file}` has packets of link type {link_type}, expected Ethernet (1), raw IP (12, 14, 101, 228, 229) or Linux \
         cooked (113, 276)"
    )]
    LinkType {
        /// The file as it was named.
        file: String,
        /// The number that the file gives.
        link_type: u16,
    },
}
