//! Namespaces, veth pairs, echo servers and probes, for trying the gateway without hardware.
//!
//! Architecture invariant: this room knows no policy.
