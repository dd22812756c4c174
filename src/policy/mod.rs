//! Text in, [`ir::Policy`] out: one intermediate form for every format that people already have.
//!
//! ```text
//!  source ─► base::document ─► load ─► calico, kubernetes, inventory, v1, vpc ─► resources ─► resolve ─► ir::Policy
//! ```
//! Architecture invariant: this room does not know the engine or what a compiled program looks like, and no format's file
//! knows another format's file.

pub mod source;

pub mod load;

pub mod metadata;

pub mod calico;

pub mod kubernetes;

pub mod inventory;

pub mod v1;

pub mod vpc;

pub mod selector;

pub mod resources;

pub mod label_lint;

pub mod identity;

pub mod resolve;

pub mod ir;
