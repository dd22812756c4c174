//! Resources of `projectcalico.org/v3` in, entries of [`super::resources::Resources`] out (section 2).

use super::resources::ResourceKind;

/// The kinds of this format.
pub const KINDS: &[ResourceKind] = &[];
