//! Keys of a burst in, decisions out: the code that runs for every packet.
//!
//! Architecture invariant: this room knows no text, files, sockets, clocks or threads; it never allocates, locks, formats or
//! fails while packets pass.

pub mod decision;
