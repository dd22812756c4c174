//! Words that every room shares: addresses, identifiers, time, diagnostics and the facts of the site. Nothing comes in, types go out.
//!
//! Architecture invariant: `base` knows no other room.

pub mod address;
pub mod decode;
pub mod diagnostic;
pub mod document;
mod document_json;
mod document_yaml;
pub mod id;
pub mod pages;
pub mod prefetch;
pub mod site;
pub mod time;
pub mod wide;
