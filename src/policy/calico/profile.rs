//! Profile in, rules and inherited labels out (2.9).

use super::entity::Place;
use super::{name, rule};
use crate::base::decode::Decoder;
use crate::policy::ir::{PolicyDirection, Profile};
use crate::policy::metadata;
use crate::policy::resources::{Context, LabelledProfile, Resource};

/// Decodes a profile.
pub(super) fn decode(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let metadata = name::metadata(&mut resource);
    let mut found = LabelledProfile::default();
    if let Some(mut spec) = resource.root.take("spec").and_then(|f| f.map()) {
        let rules = |spec: &mut Decoder<'_, '_>, key, direction| {
            let place = Place { namespace: None, direction, options: context.options };
            spec.take(key).map(|f| rule::rules(&f, place)).unwrap_or_default()
        };
        let ingress = rules(&mut spec, "ingress", PolicyDirection::Ingress);
        let egress = rules(&mut spec, "egress", PolicyDirection::Egress);
        found.profile = Profile { ingress, egress, span: None };
        found.labels = spec.take("labelsToApply").map(|f| metadata::labels(&f)).unwrap_or_default();
        spec.finish();
    }
    found.profile.span = Some(resource.span.clone());
    resource.root.finish();
    let Some(metadata) = metadata else { return };
    context.resources.profiles.insert(metadata.name, found);
}
