//! GlobalNetworkPolicy and NetworkPolicy in, [`RuleSet`] out (2.2, 2.3).

use super::entity::Place;
use super::name::{self, KUBERNETES_PREFIX};
use super::{rule, selection};
use crate::base::decode::{Decoder, Field};
use crate::base::diagnostic::Span;
use crate::policy::identity::NAMESPACE;
use crate::policy::ir::{Hook, Kind, PolicyDirection, Rule, RuleSet};
use crate::policy::metadata::Metadata;
use crate::policy::resources::{Context, Resource, TierReference};
use crate::policy::selector::Selector;

const TYPES: &[(&str, PolicyDirection)] = &[("Ingress", PolicyDirection::Ingress), ("Egress", PolicyDirection::Egress)];

/// Decodes a policy of either kind.
pub(super) fn decode(mut resource: Resource<'_, '_>, context: &mut Context<'_>) {
    let metadata = name::metadata(&mut resource);
    let spec = resource.root.take("spec").map(|f| f.map());
    let span = resource.span.clone();
    let is_namespaced = resource.kind.is_namespaced;
    let findings = resource.root.findings();
    resource.root.finish();
    // Rules of a nameless policy are checked all the same.
    let metadata = metadata.unwrap_or_else(|| Metadata {
        name: String::new(),
        name_span: span.clone(),
        namespace: is_namespaced.then(|| "default".to_string()),
        labels: Default::default(),
    });
    let before = findings.errors();
    let body = match spec {
        None => Body::default(),
        Some(None) => return,
        Some(Some(spec)) => body(spec, metadata.namespace.as_deref(), context),
    };
    if findings.errors() > before {
        return;
    }
    let tier_span = body.tier_span.clone();
    let ruleset = ruleset(metadata, body, span);
    if let Some(span) = tier_span {
        let reference = TierReference { tier: ruleset.tier.clone(), policy: ruleset.display.clone(), span };
        context.resources.tier_references.push(reference);
    }
    context.resources.rulesets.push(ruleset);
}

struct Body {
    tier: String,
    tier_span: Option<Span>,
    order: Option<f64>,
    selector: Selector,
    selector_text: String,
    hook: Hook,
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
}

impl Default for Body {
    fn default() -> Body {
        Body {
            tier: "default".to_string(),
            tier_span: None,
            order: None,
            selector: Selector::all(),
            selector_text: String::new(),
            hook: Hook::Normal,
            ingress: Some(Vec::new()),
            egress: None,
        }
    }
}

fn ruleset(metadata: Metadata, body: Body, span: Span) -> RuleSet {
    let display = match &metadata.namespace {
        Some(namespace) => format!("{namespace}/{}", metadata.name),
        None => metadata.name.clone(),
    };
    // ID-9
    let place = metadata.namespace.as_ref().map(|namespace| Selector::equals(NAMESPACE, namespace));
    RuleSet {
        kind: if metadata.namespace.is_some() { Kind::NetworkPolicy } else { Kind::GlobalNetworkPolicy },
        name: metadata.name.strip_prefix(KUBERNETES_PREFIX).unwrap_or(&metadata.name).to_string(),
        display,
        selector: Selector::and(place.into_iter().chain([body.selector])),
        namespace: metadata.namespace,
        tier: body.tier,
        order: body.order,
        selector_text: body.selector_text,
        hook: body.hook,
        ingress: body.ingress,
        egress: body.egress,
        is_v1: false,
        span,
    }
}

fn body<'n, 'f>(mut spec: Decoder<'n, 'f>, namespace: Option<&str>, context: &Context<'_>) -> Body {
    let is_global = namespace.is_none();
    let tier_field = spec.take("tier");
    let tier = tier_field.as_ref().and_then(|f| f.string()).filter(|tier| !tier.is_empty());
    let order = spec.take("order").and_then(|f| f.float());
    let selector_field = spec.take("selector");
    let accounts = spec.take("serviceAccountSelector").as_ref().and_then(selection::selector);
    let namespaces = if is_global { spec.take("namespaceSelector") } else { None };
    let namespaces = namespaces.and_then(|f| {
        let selector = selection::selector(&f)?;
        selection::warn_if_negative(&f, &selector);
        Some(selection::of_namespaces(&selector))
    });
    let types_field = spec.take("types");
    let types = types_field.as_ref().map(types);
    let rules = |spec: &mut Decoder<'n, 'f>, key, direction| {
        let field = spec.take(key);
        let place = Place { namespace, direction, options: context.options };
        let rules = field.as_ref().map(|f| rule::rules(f, place)).unwrap_or_default();
        // Rules that could not be decoded still count as written.
        let is_written = field.as_ref().is_some_and(|f| !is_empty_list(f));
        (field, rules, is_written)
    };
    let (ingress_field, ingress, has_ingress) = rules(&mut spec, "ingress", PolicyDirection::Ingress);
    let (egress_field, egress, has_egress) = rules(&mut spec, "egress", PolicyDirection::Egress);
    for (field, direction) in [(&ingress_field, PolicyDirection::Ingress), (&egress_field, PolicyDirection::Egress)] {
        let is_without_effect = types.as_ref().is_some_and(|types| !types.is_empty() && !types.contains(&direction));
        if let Some(field) = field.as_ref().filter(|f| is_without_effect && !is_empty_list(f)) {
            field.warning(
                "rules-without-effect",
                format!("these rules have no effect: `types` does not name `{direction:?}`"),
            );
        }
    }
    let hook = if is_global {
        let egress_field = egress_field.filter(|_| has_egress);
        hook(&mut spec, egress_field.as_ref(), types_field.as_ref(), types.as_deref())
    } else {
        Hook::Normal
    };
    performance_hints(&mut spec);
    spec.finish();

    // POL-T
    let governs = |direction| match &types {
        Some(types) => types.contains(&direction),
        None if direction == PolicyDirection::Ingress => has_ingress || !has_egress,
        None => has_egress,
    };
    let selector = selector_field.as_ref().and_then(selection::selector);
    let terms = [namespaces, selector, accounts.as_ref().map(selection::of_accounts)];
    Body {
        tier: tier.unwrap_or("default").to_string(),
        tier_span: tier.and(tier_field).map(|f| f.span().clone()),
        order,
        selector: Selector::and(terms.into_iter().flatten()),
        selector_text: selector_field.and_then(|f| f.node.as_str().map(str::to_string)).unwrap_or_default(),
        hook,
        ingress: governs(PolicyDirection::Ingress).then_some(ingress),
        egress: governs(PolicyDirection::Egress).then_some(egress),
    }
}

fn is_empty_list(field: &Field<'_, '_>) -> bool {
    field.node.as_list().is_none_or(<[_]>::is_empty)
}

/// One or two directions, each once (V-4).
fn types(field: &Field<'_, '_>) -> Vec<PolicyDirection> {
    let mut found = Vec::new();
    let items = field.list().unwrap_or_default();
    if field.node.as_list().is_some_and(<[_]>::is_empty) {
        field.error_with_help("empty-value", "names no direction", "remove the field, or name `Ingress` or `Egress`");
    }
    for item in items {
        let Some(direction) = item.word(TYPES) else { continue };
        if found.contains(&direction) {
            item.error_with_help("duplicate-entry", "this direction is listed twice", "remove one of the two");
        }
        found.push(direction);
    }
    found
}

/// doNotTrack, preDNAT and applyOnForward (V-1 to V-3).
fn hook(
    spec: &mut Decoder<'_, '_>,
    egress: Option<&Field<'_, '_>>,
    types_field: Option<&Field<'_, '_>>,
    types: Option<&[PolicyDirection]>,
) -> Hook {
    let untracked = spec.take("doNotTrack");
    let pre_dnat = spec.take("preDNAT");
    let forward = spec.take("applyOnForward");
    let is_set = |field: &Option<Field<'_, '_>>| field.as_ref().and_then(|f| f.bool()).unwrap_or(false);
    let (is_untracked, is_pre_dnat, is_forward) = (is_set(&untracked), is_set(&pre_dnat), is_set(&forward));
    if let (Some(field), true, true) = (&pre_dnat, is_pre_dnat, is_untracked) {
        field.error_with_help("hook-conflict", "cannot be true together with `doNotTrack`", "write two policies");
    }
    if is_pre_dnat {
        let help = "preDNAT policies judge incoming packets only";
        if let Some(egress) = egress {
            egress.error_with_help("hook-conflict", "a preDNAT policy cannot have egress rules", help);
        }
        if let (Some(field), Some(types)) = (types_field, types)
            && types.contains(&PolicyDirection::Egress)
        {
            field.error_with_help("hook-conflict", "a preDNAT policy cannot have the type `Egress`", help);
        }
    }
    for (field, is_true) in [(&untracked, is_untracked), (&pre_dnat, is_pre_dnat)] {
        if let (Some(field), true, false) = (field, is_true, is_forward) {
            field.error_with_help("hook-conflict", "needs `applyOnForward: true`", "add it to the spec");
        }
    }
    match (is_untracked, is_pre_dnat, is_forward) {
        (true, ..) => Hook::Untracked,
        (_, true, _) => Hook::PreDnat,
        (_, _, true) => Hook::NormalAndForward,
        _ => Hook::Normal,
    }
}

/// Accepted without effect.
fn performance_hints(spec: &mut Decoder<'_, '_>) {
    let Some(field) = spec.take("performanceHints") else { return };
    let mut seen = 0;
    for item in field.list().unwrap_or_default() {
        if item.word(&[("AssumeNeededOnEveryNode", ())]).is_some() {
            seen += 1;
            if seen == 2 {
                item.error_with_help("duplicate-entry", "this hint is listed twice", "remove one of the two");
            }
        }
    }
}
