//! `ringwall bench`: that it measures what it says; how fast is for people to judge.

use ringwall::base::wide::Level;

use crate::ringwall;

#[test]
fn pipeline_reports_every_field_and_no_allocation() {
    for more in [&[][..], &["--new"], &["--workers", "2", "--size", "128"], &["--burst", "1"], &["--level", "scalar"]] {
        let arguments = ["bench", "pipeline", "--rules", "20", "--flows", "2000", "--seconds", "0.02", "-o", "json"];
        let output = ringwall().args(arguments).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        for field in ["packets_per_s", "mpps", "ns_per_packet", "bytes_per_flow"] {
            assert!(report[field].as_f64().unwrap() > 0.0, "{field}: {report}");
        }
        for stage in ["rings", "parse", "flow", "verdict", "transmit"] {
            assert!(report["stages_ns"][stage].is_f64(), "{stage}: {report}");
        }
        assert!(report["packets"].as_u64().unwrap() >= 1000, "{report}");
        assert_eq!(report["burst"], if more.contains(&"--burst") { 1 } else { 64 }, "{report}");
        let level = if more.contains(&"--level") { "scalar" } else { Level::best().name() };
        assert_eq!(report["level"], level, "{report}");
        assert_eq!(report["allocations_per_packet"], 0.0, "{report}");
    }
}

#[test]
fn instructions_that_the_processor_does_not_have_are_refused() {
    let here: Vec<&str> = Level::all().into_iter().map(Level::name).collect();
    for level in ["avx2", "avx512"].into_iter().filter(|level| !here.contains(level)) {
        for arguments in [["pipeline", "--rules", "20"], ["classify", "--generate", "acl"]] {
            let output = ringwall().arg("bench").args(arguments).args(["--level", level]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("does not have the instructions that `--level` names"), "{said}");
            assert_eq!(output.status.code(), Some(5));
        }
    }
}
