//! [`Policy`](crate::policy::ir::Policy) in, compiled program out; and the slow linear reference that stays forever.
//!
//! Architecture invariant: this room knows no frames and no flows.
