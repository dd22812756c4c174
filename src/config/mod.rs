//! Gateway file and hardware profile in, a validated plan out; what is written and what is valid are two types.
//!
//! Architecture invariant: this room does not know the contents of policy.
