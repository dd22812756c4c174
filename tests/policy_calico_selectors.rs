//! Tables of selectors in, agreement with every row out (SEL-1 to SEL-12).

use std::path::PathBuf;

use ringwall::policy::ir::Labels;
use ringwall::policy::selector::Selector;

fn table(name: &str) -> Option<String> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let root = if beside.is_dir() { Some(beside) } else { std::env::var_os("RINGWALL_SHARED").map(PathBuf::from) };
    let text = root.and_then(|root| std::fs::read_to_string(root.join("corpus/calico-fixtures").join(name)).ok());
    if text.is_none() {
        println!("skipped: {name} is not there");
    }
    text
}

fn unescape(text: &str) -> String {
    text.replace("\\\\", "\u{0}").replace("\\t", "\t").replace("\\n", "\n").replace('\u{0}', "\\")
}

#[test]
fn every_row_of_the_selector_table_holds() {
    let Some(text) = table("selectors.tsv") else { return };
    let mut rows = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [selector, labels, expected, ..] = columns.as_slice() else { panic!("odd row: {line}") };
        let parsed = Selector::parse(&unescape(selector));
        rows += 1;
        if *expected == "invalid" {
            assert!(parsed.is_err(), "should be invalid: {line}");
            continue;
        }
        let parsed = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
        let labels: Labels = serde_json::from_str(labels).unwrap();
        assert_eq!(parsed.evaluate(&labels).to_string(), *expected, "{line}");
        assert_eq!(Selector::parse(&parsed.to_string()).unwrap(), parsed, "canonical form of {line}");
    }
    assert!(rows > 80, "{rows} rows");
}

#[test]
fn every_row_of_the_canonical_table_holds_sel_11() {
    let Some(text) = table("selectors-canonical.tsv") else { return };
    let mut rows = 0;
    for line in text.lines().skip(1) {
        let mut columns = line.split('\t');
        let (Some(input), Some(canonical)) = (columns.next(), columns.next()) else { panic!("odd row: {line}") };
        assert_eq!(Selector::parse(input).unwrap().to_string(), canonical, "{line}");
        rows += 1;
    }
    assert!(rows >= 17, "{rows} rows");
}
