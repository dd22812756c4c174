//! One pinned thread per queue: receive a burst, ask the engine, transmit.
//!
//! Architecture invariant: this room knows no policy and no text.
