//! Selectors in, their meaning, canonical form and faults out.

use super::parse::MAX_NESTING;
use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn rules_of_the_grammar() {
    let check = |id: &str, text: &str, pairs: &[(&str, &str)], expected: bool| {
        let selector = Selector::parse(text).unwrap_or_else(|e| panic!("{id} {text}: {e}"));
        assert_eq!(selector.evaluate(&labels(pairs)), expected, "{id} {text}");
    };
    check("SEL-1", "!a == 'b'", &[("a", "c")], true);
    check("SEL-1", "has(a) || has(b) && has(c)", &[("a", "")], true);
    check("SEL-2", "a contains 'x' || a starts with '' || a ends with ''", &[], false);
    check("SEL-3", "a != 'b' && a not in {'b'}", &[], true);
    check("SEL-4", "a in {}", &[("a", "")], false);
    check("SEL-4", "a notin {}", &[], true);
    check("SEL-5", "in in {'in'} && not notin {} && all == 'x'", &[("in", "in"), ("all", "x")], true);
    check("SEL-6", "has( a )", &[("a", "")], true);
    check("SEL-8", "a contains ''", &[("a", "b")], true);
    check("SEL-8", "a == 'B'", &[("a", "b")], false);
    check("SEL-9", "a == \"it's\"", &[("a", "it's")], true);
    check("SEL-10", "global()", &[], true);
    check("SEL-12", "a startswith 'b' && a endswith'c' && a starts \t with 'bc'", &[("a", "bc")], true);
    check("SEL-1", "!!!has(a)", &[], true);
}

#[test]
fn faults_are_located_and_explained() {
    let check = |text: &str, offset: usize, expected: &str| {
        let error = Selector::parse(text).expect_err(text);
        assert_eq!(error.offset, offset, "{text}: {error}");
        assert!(error.message.contains(expected), "{text}: {error}");
    };
    check("a = 'b'", 2, "equality is written `==`");
    check("a == 'b' and c == 'd'", 9, "`and` is written `&&`");
    check("a == 'b' & c == 'd'", 9, "`and` is written `&&`");
    check("a", 1, "use `has(a)`");
    check("a == b", 5, "a value in quotes");
    check("a == 'b", 5, "no closing quote");
    check("a == 'b'\n", 8, "line break");
    check("a == \u{201c}b\u{201d}", 5, "curly quotes");
    check("a in {'b' 'c'}", 10, "`,` or `}`");
    check("a in {'b',,}", 10, "a value in quotes");
    check("a inx {}", 2, "operator");
    check("has()", 4, "a label name");
    check("(a == 'b'", 9, "`)`");
    check(&"(".repeat(100_000), MAX_NESTING + 1, "parentheses");
    check(&format!("has({})", "a".repeat(513)), 4, "512");
    assert!(Selector::parse(&format!("has({})", "a".repeat(512))).is_ok(), "V-12");
    assert!(Selector::parse(&format!("{}has(a)", "!".repeat(100_000))).is_ok());
}

#[test]
fn canonical_form_reads_back_as_itself_sel_11() {
    let check = |text: &str, expected: &str| {
        let selector = Selector::parse(text).unwrap();
        assert_eq!(selector.to_string(), expected, "{text}");
        assert_eq!(Selector::parse(expected).unwrap(), selector, "{text}");
    };
    check("a=='b'||c!='d'&&has(e)", r#"a == "b" || (c != "d" && has(e))"#);
    check("!(a notin {'c','b'} || global())", r#"!(a not in {"b", "c"} || global())"#);
    check("!!has(a)", "has(a)");
}

#[test]
fn namespace_selectors_are_asked_of_what_is_inside_id_3() {
    let check = |text: &str, expected: &str| {
        let selector = Selector::parse(text).unwrap().prefixed("pcns.", "projectcalico.org/namespace");
        assert_eq!(selector.to_string(), expected, "{text}");
    };
    check("all()", "has(projectcalico.org/namespace)");
    check("global()", "!has(projectcalico.org/namespace)");
    check("!global()", "has(projectcalico.org/namespace)");
    check("a == 'b' && !has(c)", r#"pcns.a == "b" && !has(pcns.c)"#);
}

#[test]
fn selectors_combine() {
    let and = Selector::and([Selector::all(), Selector::has("a"), Selector::equals("b", "c")]);
    assert_eq!(and.to_string(), r#"has(a) && b == "c""#);
    assert_eq!(Selector::and([]).to_string(), "all()");
    assert_eq!(Selector::or([]), Selector::none());
    assert!(!Selector::none().evaluate(&labels(&[])));
    assert_eq!(Selector::not(Selector::not(Selector::has("a"))), Selector::has("a"));
    assert_eq!(Selector::or([Selector::has("a"), and]).to_string(), r#"has(a) || (has(a) && b == "c")"#);
    assert_eq!(Selector::is_in("a", ["c", "b"]).label_names().into_iter().collect::<Vec<_>>(), ["a"]);
}
