//! Resources of this format in, entries of [`super::resources::Resources`] out.

use super::resources::ResourceKind;

/// The kinds of this format.
pub const KINDS: &[ResourceKind] = &[];
