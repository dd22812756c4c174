//! Selectors of a policy or rule in, one selector over the labels of one thing out (ID-3, ID-4, ID-6, ID-9).

use crate::base::decode::Field;
use crate::policy::identity::{ACCOUNT_PREFIX, NAMESPACE, NAMESPACE_PREFIX, SERVICE_ACCOUNT};
use crate::policy::selector::Selector;

/// Longest selector in characters (V-12).
const MAX_LENGTH: usize = 1024;

/// A selector; an empty text counts as absent. `global()` is refused (V-13).
pub(super) fn selector(field: &Field<'_, '_>) -> Option<Selector> {
    let parsed = parse(field)?;
    // Upstream tests the text, so a value that contains `global(` is refused too.
    if field.node.as_str().is_some_and(|text| text.contains("global(")) {
        let message = "`global()` is allowed only in the `namespaceSelector` of a rule";
        field.error_with_help("global-selector", message, "to select host endpoints, use a label that they have");
        return None;
    }
    Some(parsed)
}

/// A rule's `namespaceSelector`, which may be exactly `global()`.
pub(super) fn rule_namespace_selector(field: &Field<'_, '_>) -> Option<Selector> {
    let parsed = parse(field)?;
    if !parsed.is_global() && field.node.as_str().is_some_and(|text| text.contains("global(")) {
        let message = "`global()` cannot be combined with anything else";
        field.error_with_help("global-selector", message, "write two rules");
        return None;
    }
    Some(parsed)
}

fn parse(field: &Field<'_, '_>) -> Option<Selector> {
    let text = field.string()?;
    if text.is_empty() {
        return None;
    }
    if text.chars().count() > MAX_LENGTH {
        let message = format!("the selector is longer than {MAX_LENGTH} characters");
        field.error_with_help("bad-selector", message, "split the policy or use a label of its own");
        return None;
    }
    match Selector::parse(text) {
        Ok(selector) => Some(selector),
        Err(error) => {
            let position = text.get(..error.offset).unwrap_or(text).chars().count() + 1;
            field.error("bad-selector", format!("{} at character {position} of the selector", error.message));
            None
        }
    }
}

/// ID-3: what selects namespaces, asked of the things inside them.
pub(super) fn of_namespaces(selector: &Selector) -> Selector {
    selector.prefixed(NAMESPACE_PREFIX, NAMESPACE)
}

/// ID-3: what selects service accounts, asked of the pods that use them.
pub(super) fn of_accounts(selector: &Selector) -> Selector {
    selector.prefixed(ACCOUNT_PREFIX, SERVICE_ACCOUNT)
}

/// Warns of a `namespaceSelector` that things without a namespace match as well (2.2).
pub(super) fn warn_if_negative(field: &Field<'_, '_>, selector: &Selector) {
    if !selector.is_global() && of_namespaces(selector).matches_no_labels() {
        field.warning(
            "negative-namespace-selector",
            "only forbids labels, so host endpoints and global sets, which have no namespace, match as well",
        );
    }
}

/// The selectors of one side of a rule.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) selector: Option<Selector>,
    pub(super) not_selector: Option<Selector>,
    pub(super) namespaces: Option<Selector>,
    /// Names and selector of service accounts, already over the labels of pods.
    pub(super) accounts: Option<Selector>,
}

impl Identity {
    /// The positive and the negated selector of one side. `namespace` is that of a NetworkPolicy.
    pub(super) fn fold(self, namespace: Option<&str>) -> (Option<Selector>, Option<Selector>) {
        let is_scoped = self.selector.is_some() || self.accounts.is_some();
        // ID-4: a lone negation switches the restriction on in a NetworkPolicy, but not in a GlobalNetworkPolicy.
        let is_scoped = is_scoped || self.namespaces.is_some() || (namespace.is_some() && self.not_selector.is_some());
        if !is_scoped {
            return (None, self.not_selector);
        }
        let place = match (&self.namespaces, namespace) {
            (Some(namespaces), _) => of_namespaces(namespaces),
            (None, Some(namespace)) => Selector::equals(NAMESPACE, namespace),
            (None, None) => Selector::all(),
        };
        // ID-6: a positive and a negated selector fold into one set.
        let terms = [Some(place), self.selector, self.accounts, self.not_selector.map(Selector::not)];
        (Some(Selector::and(terms.into_iter().flatten())), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rules_selectors_fold_into_one() {
        let check = |id: &str, namespace: Option<&str>, parts: [&str; 4], expected: [&str; 2]| {
            let part = |text: &str| (!text.is_empty()).then(|| Selector::parse(text).unwrap());
            let [selector, not_selector, namespaces, accounts] = parts;
            let identity = Identity {
                selector: part(selector),
                not_selector: part(not_selector),
                namespaces: part(namespaces),
                accounts: part(accounts),
            };
            let (positive, negative) = identity.fold(namespace);
            let show = |s: Option<Selector>| s.map(|s| s.to_string()).unwrap_or_default();
            assert_eq!([show(positive), show(negative)], expected, "{id} {parts:?}");
        };
        let ns = "projectcalico.org/namespace";
        check("ID-4", None, ["", "", "", ""], ["", ""]);
        check("ID-4", Some("n"), ["", "", "", ""], ["", ""]);
        check("ID-4", None, ["a == 'b'", "", "", ""], [r#"a == "b""#, ""]);
        check("ID-4", None, ["all()", "", "", ""], ["all()", ""]);
        check("ID-4", None, ["has(a)", "", "has(b)", ""], ["has(pcns.b) && has(a)", ""]);
        check("ID-4", None, ["", "", "global()", ""], [&format!("!has({ns})"), ""]);
        check("ID-3", None, ["", "", "all()", ""], [&format!("has({ns})"), ""]);
        check("ID-4", Some("n"), ["has(a)", "", "", ""], [&format!(r#"{ns} == "n" && has(a)"#), ""]);
        check("ID-4", Some("n"), ["", "", "", "has(pcsa.x)"], [&format!(r#"{ns} == "n" && has(pcsa.x)"#), ""]);
        check("ID-4", Some("n"), ["has(a)", "", "global()", ""], [&format!("!has({ns}) && has(a)"), ""]);
        check("ID-4", Some("n"), ["", "has(a)", "", ""], [&format!(r#"{ns} == "n" && !has(a)"#), ""]);
        check("ID-6", None, ["", "has(a)", "", ""], ["", "has(a)"]);
        check("ID-6", None, ["has(b)", "has(a)", "", ""], ["has(b) && !has(a)", ""]);
    }
}
