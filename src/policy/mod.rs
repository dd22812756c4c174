//! Text in, [`ir::Policy`] out: one intermediate form for every format that people already have.
//!
//! Architecture invariant: this room does not know the engine or what a compiled program looks like, and no format's file
//! knows another format's file.

pub mod ir;
pub mod selector;
