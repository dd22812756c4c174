//! Random text in, no crash and no contradiction out: the readers are total, selectors keep their meaning when printed.

use proptest::prelude::*;

use ringwall::base::diagnostic::{Diagnostics, Severity};
use ringwall::policy::ir::Labels;
use ringwall::policy::load::{LoadOptions, load};
use ringwall::policy::selector::Selector;
use ringwall::policy::source::Source;

/// Loads a text; an error always has a message in lower case and a place inside the file.
fn check(name: &str, text: &str) -> Result<(), TestCaseError> {
    let mut out = Diagnostics::new();
    let policy = load(&[Source::new(name, text)], &LoadOptions::default(), &mut out);
    prop_assert_eq!(policy.is_none(), out.has_errors());
    let lines = text.split('\n').count() + 1;
    for finding in out.iter() {
        prop_assert!(!finding.message.is_empty());
        prop_assert!(finding.severity != Severity::Error || finding.span.is_some(), "{}", finding);
        if let Some(span) = &finding.span {
            prop_assert!(span.line >= 1 && span.line as usize <= lines && span.column >= 1, "{}", finding);
        }
    }
    Ok(())
}

const POLICY: &str = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: a\nspec:\n  order: 1\n  \
     selector: a == 'b'\n  types: [Ingress, Egress]\n  ingress:\n  - action: Deny\n    protocol: TCP\n    source:\n      nets:\n      \
     - 10.0.0.0/8\n      notSelector: has(c)\n    destination: { ports: [1, '2:3', http] }\n  egress:\n  - { action: Allow, protocol: ICMP, \
     icmp: { type: 8 } }\n---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: { name: h, labels: { a: b } }\nspec: { node: n, \
     interfaceName: '*', expectedIPs: [1.1.1.1], profiles: [x] }\n";

fn label() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "in", "not", "has", "c.d/e"]).prop_map(str::to_string)
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "x", "xy", "y", "it's", "in {"]).prop_map(str::to_string)
}

fn selector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("all()".to_string()),
        label().prop_map(|l| format!("has({l})")),
        (label(), prop::sample::select(vec!["==", "!=", "contains", "starts with", "endswith"]), value())
            .prop_map(|(l, word, v)| format!("{l} {word} \"{v}\"")),
        (label(), prop::sample::select(vec!["in", "not in", "notin"]), prop::collection::vec(value(), 0..4)).prop_map(
            |(l, word, values)| {
                let all: Vec<String> = values.iter().map(|v| format!("\"{v}\"")).collect();
                format!("{l} {word} {{{}}}", all.join(","))
            }
        ),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|s| format!("!({s})")),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|all| format!("({})", all.join(" && "))),
            prop::collection::vec(inner, 1..4).prop_map(|all| all.join("||")),
        ]
    })
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map(label(), value(), 0..5)
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_crash(text in "\\PC{0,200}", name in prop::sample::select(vec!["a.yaml", "a.json"])) {
        check(name, &text)?;
    }

    #[test]
    fn any_mixture_of_marks_is_read_without_a_crash(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", "- ", ": ", "a", "\n", "  ", "\t", "&x ", "*x", "!t ", "\"", "'", "|\n", ">", "#", "---\n", "\\u12", "1e9", "?", ",", "%Y ", "<<",
        ]), 0..60),
        name in prop::sample::select(vec!["a.yaml", "a.json"]),
    ) {
        check(name, &parts.concat())?;
    }

    #[test]
    fn a_policy_with_a_slip_is_read_without_a_crash(at in 0usize..POLICY.len(), cut in 0usize..12, put in "[\\PC\n\t]{0,6}") {
        let end = (at + cut).min(POLICY.len());
        check("a.yaml", &format!("{}{put}{}", &POLICY[..at], &POLICY[end..]))?;
    }

    #[test]
    fn any_text_is_a_selector_or_a_located_fault(text in "[a-c =!&|(){}'\"\\.in\\PC]{0,60}") {
        match Selector::parse(&text) {
            Ok(selector) => prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector)),
            Err(error) => prop_assert!(text.get(..error.offset).is_some(), "{}: {}", text, error),
        }
    }

    #[test]
    fn selectors_keep_their_meaning_when_printed_sel_11(text in selector(), labels in labels()) {
        let first = Selector::parse(&text).unwrap();
        let second = Selector::parse(&first.to_string()).unwrap();
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(first.evaluate(&labels), second.evaluate(&labels));
        prop_assert_eq!(Selector::not(first.clone()).evaluate(&labels), !first.evaluate(&labels));
        // Only the names that it lists can matter.
        let names: Vec<String> = first.label_names().into_iter().map(str::to_string).collect();
        let seen: Labels = labels.iter().filter(|(k, _)| names.contains(k)).map(|(k, v)| (k.clone(), v.clone())).collect();
        prop_assert_eq!(first.evaluate(&seen), first.evaluate(&labels));
        // ID-3: the same question about prefixed labels has the same answer.
        let prefixed: Labels = labels.iter().map(|(k, v)| (format!("p.{k}"), v.clone())).chain([("n".into(), String::new())]).collect();
        prop_assert_eq!(first.prefixed("p.", "n").evaluate(&prefixed), first.evaluate(&labels));
    }
}
