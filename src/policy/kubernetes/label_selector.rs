//! A Kubernetes LabelSelector comes in, Calico selector text goes out (CNV-2, CNV-3, KNP-6).

use crate::base::diagnostic::Span;
use crate::policy::identity::{NAMESPACE, NAMESPACE_PREFIX, ORCHESTRATOR};

/// Conditions on labels; all must hold. Without any it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels`, sorted by key.
    pub equal: Vec<EqualLabel>,
    /// `matchExpressions` in the user's order.
    pub requirements: Vec<Requirement>,
}

/// One entry of `matchLabels`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EqualLabel {
    /// Label key.
    pub key: String,
    /// Required value.
    pub value: String,
    /// Where the key is written.
    pub span: Span,
}

/// One entry of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// What is required of it.
    pub operator: Operator,
    /// Where the key is written.
    pub span: Span,
}

/// What a requirement asks of its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Present, with one of these values (at least one).
    In(Vec<String>),
    /// Absent, or with none of these values (at least one).
    NotIn(Vec<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether it has no condition at all.
    pub fn is_empty(&self) -> bool {
        self.equal.is_empty() && self.requirements.is_empty()
    }

    /// The conditions in the order of CNV-2, each label key preceded by `prefix`.
    pub fn terms(&self, prefix: &str) -> Vec<String> {
        let equal = self.equal.iter().map(|l| format!("{prefix}{} == '{}'", l.key, l.value));
        let requirements = self.requirements.iter().map(|r| match &r.operator {
            Operator::In(values) => format!("{prefix}{} in {{ '{}' }}", r.key, values.join("', '")),
            Operator::NotIn(values) => format!("{prefix}{} not in {{ '{}' }}", r.key, values.join("', '")),
            Operator::Exists => format!("has({prefix}{})", r.key),
            Operator::DoesNotExist => format!("! has({prefix}{})", r.key),
        });
        equal.chain(requirements).collect()
    }
}

/// The Calico selector of a podSelector: the orchestrator restriction, then the conditions (CNV-2).
pub fn pod_selector(selector: Option<&LabelSelector>) -> String {
    let mut terms = vec![format!("{ORCHESTRATOR} == 'k8s'")];
    terms.extend(selector.map(|s| s.terms("")).unwrap_or_default());
    terms.join(" && ")
}

/// The Calico namespaceSelector of a peer: `None` without one, `all()` for an empty one (CNV-3).
pub fn namespace_selector(selector: Option<&LabelSelector>) -> Option<String> {
    selector.map(|s| if s.is_empty() { "all()".to_string() } else { s.terms("").join(" && ") })
}

/// Both selectors of a peer in one, to be evaluated on the labels of an endpoint or set (ID-3, ID-4): without a
/// namespaceSelector only `namespace` is reached, with one the namespaces whose labels match.
pub fn scoped_selector(pods: Option<&LabelSelector>, namespaces: Option<&LabelSelector>, namespace: &str) -> String {
    let mut terms = vec![pod_selector(pods)];
    match namespaces {
        None => terms.push(format!("{NAMESPACE} == '{namespace}'")),
        Some(all) if all.is_empty() => terms.push(format!("has({NAMESPACE})")),
        Some(some) => terms.extend(some.terms(NAMESPACE_PREFIX)),
    }
    terms.join(" && ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::identity::{self, inherit};
    use crate::policy::ir::Labels;
    use crate::policy::resources::Resources;
    use crate::policy::selector::Selector;

    fn span() -> Span {
        Span { file: "test".into(), line: 1, column: 1 }
    }

    fn equal(pairs: &[(&str, &str)]) -> LabelSelector {
        let equal = pairs.iter().map(|(k, v)| EqualLabel { key: k.to_string(), value: v.to_string(), span: span() });
        LabelSelector { equal: equal.collect(), requirements: Vec::new() }
    }

    fn required(key: &str, operator: Operator) -> LabelSelector {
        LabelSelector { equal: Vec::new(), requirements: vec![Requirement { key: key.into(), operator, span: span() }] }
    }

    #[test]
    fn peers_reach_their_namespaces_only_cnv_3_id_3_id_4() {
        let check = |pods: Option<LabelSelector>, namespaces: Option<LabelSelector>, expected: &str| {
            let text = scoped_selector(pods.as_ref(), namespaces.as_ref(), "shop");
            let rest = text.strip_prefix("projectcalico.org/orchestrator == 'k8s' && ");
            assert_eq!(rest, Some(expected));
        };
        check(Some(equal(&[("a", "b")])), None, "a == 'b' && projectcalico.org/namespace == 'shop'");
        check(Some(LabelSelector::default()), None, "projectcalico.org/namespace == 'shop'");
        check(None, Some(LabelSelector::default()), "has(projectcalico.org/namespace)");
        check(None, Some(equal(&[("x/y", "1"), ("z", "")])), "pcns.x/y == '1' && pcns.z == ''");
        let not_in = required("x", Operator::NotIn(vec!["p".into(), "q".into()]));
        check(Some(equal(&[("a", "b")])), Some(not_in), "a == 'b' && pcns.x not in { 'p', 'q' }");
        check(None, Some(required("x", Operator::DoesNotExist)), "! has(pcns.x)");
    }

    /// KNP-6: what a LabelSelector means, straight from the API's words.
    fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
        selector.equal.iter().all(|l| labels.get(&l.key) == Some(&l.value))
            && selector.requirements.iter().all(|r| match (&r.operator, labels.get(&r.key)) {
                (Operator::In(values), found) => found.is_some_and(|found| values.contains(found)),
                (Operator::NotIn(values), found) => found.is_none_or(|found| !values.contains(found)),
                (Operator::Exists, found) => found.is_some(),
                (Operator::DoesNotExist, found) => found.is_none(),
            })
    }

    #[test]
    fn converted_peers_reach_exactly_the_pods_that_the_api_means_knp_6_id_3_id_4() {
        let labels =
            |pairs: &[(&str, &str)]| -> Labels { pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect() };
        let values = |list: &[&str]| list.iter().map(|v| v.to_string()).collect();
        let both = LabelSelector { requirements: required("b", Operator::Exists).requirements, ..equal(&[("a", "x")]) };
        let selectors = [
            LabelSelector::default(),
            equal(&[("a", "x")]),
            equal(&[("a", "")]),
            equal(&[("a", "x"), ("b", "y")]),
            required("a", Operator::In(values(&["x", "y"]))),
            required("a", Operator::NotIn(values(&["x", "y"]))),
            required("a", Operator::Exists),
            required("a", Operator::DoesNotExist),
            required("kubernetes.io/metadata.name", Operator::In(values(&["shop"]))),
            both,
        ];
        let label_sets = [
            labels(&[]),
            labels(&[("a", "x")]),
            labels(&[("a", "")]),
            labels(&[("a", "z"), ("b", "y")]),
            labels(&[("a", "x"), ("b", "y")]),
        ];
        let (mut hits, mut misses) = (0, 0);
        for own in &label_sets {
            for (namespace, namespace_labels) in
                ["shop", "other"].into_iter().flat_map(|n| label_sets.iter().map(move |l| (n, l)))
            {
                let mut resources = Resources::default();
                resources.namespaces.insert(namespace.to_string(), namespace_labels.clone());
                let mut endpoint = own.clone();
                endpoint.insert(NAMESPACE.to_string(), namespace.to_string());
                endpoint.insert(ORCHESTRATOR.to_string(), "k8s".to_string());
                inherit(&mut endpoint, &identity::namespace_labels(&resources, namespace));
                let mut in_api = namespace_labels.clone();
                in_api.insert("kubernetes.io/metadata.name".to_string(), namespace.to_string());
                for pods in [None].into_iter().chain(selectors.iter().map(Some)) {
                    for namespaces in [None].into_iter().chain(selectors.iter().map(Some)) {
                        let expected = pods.is_none_or(|s| matches(s, own))
                            && namespaces.map_or(namespace == "shop", |s| matches(s, &in_api));
                        let text = scoped_selector(pods, namespaces, "shop");
                        let found = Selector::parse(&text).unwrap().evaluate(&endpoint);
                        assert_eq!(found, expected, "{text} on {endpoint:?}");
                        // Neither a host endpoint nor a network set is ever reached.
                        assert!(!Selector::parse(&text).unwrap().evaluate(own), "{text}");
                        *(if expected { &mut hits } else { &mut misses }) += 1;
                    }
                }
            }
        }
        assert!(hits > 500 && misses > 500, "{hits} {misses}");
    }
}
