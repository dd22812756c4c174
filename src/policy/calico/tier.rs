//! Tier in, [`Tier`] out (2.7, V-15).

use super::name;
use crate::policy::ir::{Tier, TierDefault};
use crate::policy::resolve::BUILT_IN_TIERS;
use crate::policy::resources::{Context, Resource};

const ACTIONS: &[(&str, TierDefault)] = &[("Deny", TierDefault::Deny), ("Pass", TierDefault::Pass)];

/// Decodes a tier. The built-in ones may be written down, but only as they are.
pub(super) fn decode(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let metadata = name::metadata(&mut resource);
    let spec_field = resource.root.take("spec");
    resource.root.finish();
    let (mut order, mut action) = (None, None);
    if let Some(mut spec) = spec_field.and_then(|f| f.map()) {
        order = spec.take("order").and_then(|f| f.float());
        action = spec.take("defaultAction").and_then(|f| f.word(ACTIONS));
        if let Some(metadata) = &metadata {
            for (name, fixed_order, fixed_action) in BUILT_IN_TIERS {
                if metadata.name != name {
                    continue;
                }
                if order != Some(fixed_order) {
                    spec.error("built-in-tier", format!("the built-in tier `{name}` has order {fixed_order}"));
                }
                if action.unwrap_or(TierDefault::Deny) != fixed_action {
                    let message = format!("the built-in tier `{name}` has the default action `{fixed_action:?}`");
                    spec.error("built-in-tier", message);
                }
            }
        }
        spec.finish();
    }
    let Some(metadata) = metadata else { return };
    let default_action = action.unwrap_or(TierDefault::Deny);
    context.resources.tiers.push(Tier { name: metadata.name, order, default_action });
}
