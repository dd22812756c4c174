//! `bench classify`: rules and traces as files, figures as JSON, wrong lines with their place.

use std::fs;

use serde_json::Value;

use super::{Done, run_in};

/// Three rules and a catch-all, tabs and spaces mixed as the published sets have them.
const RULES: &str = "@10.0.0.0/8\t192.168.1.1/32\t0 : 65535\t80 : 80\t0x06/0xFF\t0x0000/0x0200\n\
                     @10.1.0.0/16\t0.0.0.0/0\t0 : 65535\t0 : 1023\t0x11/0xFF\t0x0000/0x0000\n\
                     @0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x00/0x00\t0x0000/0x0000\n";

/// Headers of rules 0, 1 and 2, in both spellings of addresses.
const TRACE: &str = "167772161\t3232235777\t40000\t80\t6\t0\n10.1.2.3\t9.9.9.9\t1\t53\t17\t1\n1\t2\t3\t4\t5\t2\n";

fn object(done: &Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

#[test]
fn a_trace_over_rules_gives_the_promised_figures() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("rules"), RULES).unwrap();
    fs::write(directory.path().join("trace"), TRACE).unwrap();
    let arguments = ["bench", "classify", "--classbench", "rules", "--trace", "trace", "--verify", "-o", "json"];
    let more = ["--save-headers", "found", "--save", "again", "--passes", "1"];
    let done = run_in(directory.path(), arguments.iter().chain(&more)).ended_with(0);
    let figures = object(&done);
    for (key, expected) in [("rules", 3), ("lookups", 3), ("mismatches", 0), ("verified", 3), ("hits", 3)] {
        assert_eq!(figures[key], expected, "{key}");
    }
    for key in ["build_ms", "memory_bytes", "ns_per_lookup", "mlookups_per_s"] {
        assert!(figures[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {figures}");
    }
    // The index of the rule stands last, and the rules come out as they went in but for the flags.
    let found = fs::read_to_string(directory.path().join("found")).unwrap();
    let indices: Vec<&str> = found.lines().filter_map(|line| line.rsplit('\t').next()).collect();
    assert_eq!(indices, ["0", "1", "2"]);
    let again = fs::read_to_string(directory.path().join("again")).unwrap();
    assert_eq!(again.lines().count(), 3);
    let done = run_in(directory.path(), ["bench", "classify", "--classbench", "again", "--trace", "found", "--verify"]);
    assert!(done.ended_with(0).out.contains("0 of 3 answers differ"));
}

#[test]
fn every_kind_of_traffic_is_verified_for_both_families() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ["acl", "fw", "ipc"] {
        for traffic in ["uniform", "zipf", "random", "edges"] {
            for more in [&[][..], &["--ipv6"], &["--open-end", "--batch", "1"]] {
                let arguments = [
                    "bench",
                    "classify",
                    "--generate",
                    kind,
                    "--rules",
                    "500",
                    "--traffic",
                    traffic,
                    "--lookups",
                    "3000",
                ];
                let rest = ["--passes", "1", "--verify", "-o", "json"];
                let done = run_in(directory.path(), arguments.iter().chain(&rest).chain(more)).ended_with(0);
                let figures = object(&done);
                assert_eq!(
                    (&figures["mismatches"], &figures["rules"]),
                    (&0.into(), &500.into()),
                    "{kind} {traffic} {more:?}"
                );
            }
        }
    }
}

/// The search for the best division must not end before it, whatever the set: building takes steps, not time, so this is exact.
#[test]
fn rule_sets_of_a_thousand_prefixes_are_multiplied_out_whole() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ["acl", "ipc"] {
        for seed in ["1", "2", "7", "11"] {
            let arguments = ["bench", "classify", "--generate", kind, "--rules", "1000", "--seed", seed];
            let rest = ["--lookups", "64", "--passes", "1", "-o", "json"];
            let figures = object(&run_in(directory.path(), arguments.iter().chain(&rest)).ended_with(0));
            assert_eq!(figures["structure"], "cross-product", "{kind} {seed}: {figures}");
            assert!(figures["memory_bytes"].as_u64().unwrap() <= 2 << 20, "{kind} {seed}: {figures}");
        }
    }
}

#[test]
fn packed_rules_are_read() {
    let directory = tempfile::tempdir().unwrap();
    // `printf '@0.0.0.0/0 0.0.0.0/0 0 : 65535 0 : 65535 0x00/0x00\n' | gzip -n`
    const PACKED: [u8; 45] = [
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x73, 0x30, 0xd0, 0x03, 0x43, 0x7d, 0x03, 0x05,
        0x24, 0x96, 0x82, 0x95, 0x82, 0x99, 0xa9, 0xa9, 0xb1, 0x29, 0x32, 0xab, 0xc2, 0x00, 0x28, 0x05, 0x24, 0xb8,
        0x00, 0x09, 0x1e, 0x09, 0x3e, 0x33, 0x00, 0x00, 0x00,
    ];
    fs::write(directory.path().join("rules.gz"), PACKED).unwrap();
    let arguments = ["bench", "classify", "--classbench", "rules.gz", "--lookups", "10", "--passes", "1", "-o", "json"];
    let figures = object(&run_in(directory.path(), arguments).ended_with(0));
    assert_eq!((&figures["rules"], &figures["hits"], &figures["mismatches"]), (&1.into(), &10.into(), &Value::Null));
}

#[test]
fn wrong_files_are_told_with_place_and_cure() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("rules"), RULES).unwrap();
    fs::write(directory.path().join("bad"), format!("{RULES}@10.0.0.1/8\t1.1.1.1/32\t0 : 1\t0 : 1\t6/255\nx\n"))
        .unwrap();
    fs::write(directory.path().join("trace"), "1\t2\t3\t4\t5\n1\t2\t70000\t4\t5\n").unwrap();
    run_in(directory.path(), ["bench", "classify", "--classbench", "bad"])
        .ended_with(3)
        .said("bad:4:2: `10.0.0.1/8` has bits behind its length: did you mean `10.0.0.0/8`?")
        .said("bad:5:1: a rule begins with `@`")
        .said("expected `@src/len dst/len");
    run_in(directory.path(), ["bench", "classify", "--classbench", "rules", "--trace", "trace"])
        .ended_with(3)
        .said("trace:2:5: `70000` is not a source port from 0 to 65535");
    run_in(directory.path(), ["bench", "classify", "--classbench", "nowhere"])
        .ended_with(3)
        .said("cannot read `nowhere`");
    run_in(directory.path(), ["bench", "classify"]).ended_with(2);
    run_in(directory.path(), ["bench", "classify", "--classbench", "rules", "--rules", "9"]).ended_with(2);
}

/// Every published set, if it is there, gives the answers of the linear scan.
#[test]
fn published_sets_agree_with_the_linear_scan() {
    let folder = super::project("../shared/classbench");
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("skipped: no {}", folder.display());
        return;
    };
    let mut sets: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "gz")).collect();
    sets.sort();
    for set in sets {
        for traffic in ["uniform", "random", "edges"] {
            let set = set.to_str().unwrap();
            let arguments = ["bench", "classify", "--classbench", set, "--traffic", traffic, "--lookups", "20000"];
            let more = ["--passes", "1", "--verify", "-o", "json"];
            let figures = object(&run_in(&super::project("."), arguments.iter().chain(&more)).ended_with(0));
            assert_eq!(figures["mismatches"], 0, "{set} {traffic}");
        }
    }
}
