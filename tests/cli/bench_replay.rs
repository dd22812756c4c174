//! `ringwall bench replay`: that it measures what it says and leaves nothing behind; how fast is for people to judge.

use serde_json::Value;

use crate::{directory, ringwall, run_in};

const FEW: [&str; 11] =
    ["bench", "replay", "--rules", "20", "--flows", "300", "--frames", "3000", "--seconds", "0.02", "-o"];

#[test]
fn it_reports_every_field_and_leaves_nothing_behind() {
    for more in [&[][..], &["--captures", "uplink"], &["--captures", "mixed", "--new", "0"], &["--size", "imix"]] {
        let temporary = directory(&[]);
        let output = ringwall().args(FEW).arg("json").args(more).env("TMPDIR", temporary.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for field in ["mpps", "best_mpps", "floor_mpps", "ns_per_packet", "gigabits_per_s", "capture_bytes"] {
            assert!(report[field].as_f64().unwrap() > 0.0, "{field}: {report}");
        }
        for stage in ["read", "find", "line"] {
            assert!(report["stages_ns"][stage].is_f64(), "{stage}: {report}");
        }
        for key in ["reader_ns", "waiting_ns", "reader_threads"] {
            assert!(report[key].is_number(), "{key}: {report}");
        }
        assert!(report["packets"].as_u64().unwrap() >= 3000, "{report}");
        assert_eq!(report["allocations_per_packet"], 0.0, "{report}");
        assert_eq!(temporary.path().read_dir().unwrap().count(), 0, "{more:?}");
    }
}

#[test]
fn captures_that_are_kept_are_for_replay() {
    let here = directory(&[]);
    for (captures, inputs) in [
        ("both", &["--in", "uplink=d/uplink.pcap", "--in", "downlink=d/downlink.pcap"][..]),
        ("uplink", &["--in", "uplink=d/uplink.pcap"]),
        ("mixed", &["--in", "d/mixed.pcap"]),
    ] {
        let more = ["json", "--keep", "d", "--size", "imix", "--captures", captures];
        let measure = FEW.iter().chain(&more);
        let report: Value = serde_json::from_str(&run_in(here.path(), measure).ended_with(0).out).unwrap();
        let mut totals = Vec::new();
        for workers in ["1", "2"] {
            let replay = ["replay", "--gateway", "d/gateway.yaml", "--workers", workers, "-o", "json"];
            let done = run_in(here.path(), replay.iter().chain(inputs)).ended_with(0);
            let summary: Value = serde_json::from_str(&done.out).unwrap();
            assert_eq!(summary["denied"], 0, "{captures}: {summary}");
            assert!(summary["packets"].as_u64() > report["packets"].as_u64(), "{captures}: {summary}");
            totals.push(["packets", "bytes", "flows"].map(|key| summary[key].as_u64()));
        }
        assert_eq!(totals[0], totals[1], "{captures}");
    }
}

#[test]
fn what_it_cannot_do_is_said() {
    let here = directory(&[("file", "")]);
    run_in(here.path(), ["bench", "replay", "--size", "63"])
        .ended_with(2)
        .said("expected `imix` or a number from 64 to 1518");
    run_in(here.path(), FEW.iter().chain(&["json", "--keep", "file"])).ended_with(5).said("cannot write the captures");
}
