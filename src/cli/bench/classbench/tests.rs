use super::*;
use crate::cli::bench::generate::{End, Recipe, generate};
use crate::cli::bench::profile::Kind;

fn findings(text: &str) -> Vec<String> {
    let mut out = Diagnostics::new();
    rules("r", text, &mut out);
    out.iter().map(ToString::to_string).collect()
}

const GOOD: &str = "@10.0.0.0/8\t192.168.1.1/32\t0 : 65535\t80 : 80\t0x06/0xFF\t0x0000/0x0200\n";

#[test]
fn a_rule_has_the_fields_that_it_shows() {
    let mut out = Diagnostics::new();
    let text = format!("# a comment\n{GOOD}\n@0.0.0.0/0 0.0.0.0/0 1024:65535 53 :53 0x00/0x00");
    let set = rules("r", &text, &mut out);
    assert!(out.is_empty(), "{out:?}");
    let first = Rule {
        src: Prefix { address: 0x0a00_0000, length: 8 },
        dst: Prefix { address: 0xc0a8_0101, length: 32 },
        sport: (0, 65_535),
        dport: (80, 80),
        protocol: ProtocolMask { value: 6, mask: 255 },
    };
    let second = Rule { sport: (1024, 65_535), dport: (53, 53), ..Rule::EVERYTHING };
    assert_eq!(set, RuleSet { family: Family::V4, rules: vec![first, second] });
}

#[test]
fn what_is_written_is_read_back() {
    for family in [Family::V4, Family::V6] {
        for kind in [Kind::Acl, Kind::Fw, Kind::Ipc] {
            let set = generate(&Recipe { kind, family, rules: 500, seed: 9, end: End::CatchAll });
            let mut out = Diagnostics::new();
            assert_eq!(rules("r", &write(&set), &mut out), set);
            assert!(out.is_empty(), "{out:?}");
        }
    }
}

#[test]
fn every_wrong_line_is_told_with_place_and_form() {
    let check = |line: &str, column: usize, message: &str| {
        let found = findings(&format!("{GOOD}{line}\n"));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        let expected = format!("error: r:2:{column}: {message}");
        assert!(found[0].starts_with(&expected), "{line}:\n{}\n{expected}", found[0]);
    };
    check("10.0.0.0/8 1.1.1.1/32 0 : 1 0 : 1 0x06/0xFF", 1, "a rule begins with `@`");
    check("@10.0.0.0 1.1.1.1/32 0 : 1 0 : 1 0x06/0xFF", 2, "`10.0.0.0` is not a source prefix");
    check("@10.0.0.0/33 1.1.1.1/32 0 : 1 0 : 1 0x06/0xFF", 2, "`33` is not a length from 0 to 32");
    check(
        "@10.0.0.1/8 1.1.1.1/32 0 : 1 0 : 1 0x06/0xFF",
        2,
        "`10.0.0.1/8` has bits behind its length: did you mean `10.0.0.0/8`?",
    );
    check("@10.0.0.0/8 1.1.1.x/32 0 : 1 0 : 1 0x06/0xFF", 13, "`1.1.1.x` is not an IPv4 or IPv6 address");
    check("@10.0.0.0/8 ::/0 0 : 1 0 : 1 0x06/0xFF", 13, "IPv6 in a set that began with IPv4");
    check("@10.0.0.0/8 1.1.1.1/32 0 : 65536 0 : 1 0x06/0xFF", 28, "`65536` is not a source port from 0 to 65535");
    check("@10.0.0.0/8 1.1.1.1/32 5 : 4 0 : 1 0x06/0xFF", 28, "the range 5 : 4 ends before it begins");
    check("@10.0.0.0/8 1.1.1.1/32 0 - 1 0 : 1 0x06/0xFF", 26, "expected `:` between first and last port, found `-`");
    check("@10.0.0.0/8 1.1.1.1/32 0 : 1 0 : 1 tcp", 36, "`tcp` is not a protocol and its mask");
    check("@10.0.0.0/8 1.1.1.1/32 0 : 1", 29, "expected a destination port from 0 to 65535, but the line ends here");
}

#[test]
fn findings_come_all_at_once_up_to_a_number() {
    assert_eq!(findings("x\ny\nz\n").len(), 3);
    let found = findings(&"x\n".repeat(200));
    assert_eq!(found.len(), MOST_FINDINGS + 1);
    assert!(found.iter().any(|finding| finding.contains("150 more lines of `r` are wrong")), "{found:?}");
    assert!(findings("\n")[0].contains("`r` has no rule"));
}

#[test]
fn a_trace_may_have_numbers_or_addresses_and_more_columns() {
    let mut out = Diagnostics::new();
    let set = rules("r", GOOD, &mut out);
    let keys =
        trace("t", "167772161\t3232235777\t40000\t80\t6\n10.0.0.1\t192.168.1.1\t40000\t80\t6\t0\t12\n", &set, &mut out);
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(keys, [set.key(0x0a00_0001, 0xc0a8_0101, 40_000, 80, 6); 2]);
    assert!(set.rules[0].contains(Family::V4, &keys[0]));

    let mut out = Diagnostics::new();
    trace("t", "1\t2\t3\t4\n1\t::1\t3\t4\t5\n1\t4294967296\t3\t4\t6\n1\t2\t3\t4\t256\n", &set, &mut out);
    let found: Vec<String> = out.iter().map(|finding| finding.span.as_ref().unwrap().to_string()).collect();
    assert_eq!(found, ["t:1:8", "t:2:3", "t:3:3", "t:4:9"]);
}
