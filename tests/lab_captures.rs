//! The captures that come with the project, replayed: what was live once is judged alike.

use std::path::Path;
use std::process::Command;

#[test]
fn replay_judges_the_captures_as_the_gateway_did_when_they_were_made() {
    let pcaps = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    let path = |name: &str| pcaps.join(name).display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_ringwall"))
        .args(["replay", "-o", "json", "--gateway", &path("gateway.yaml")])
        .args(["--in", &format!("uplink={}", path("uplink.pcap"))])
        .args(["--in", &format!("downlink={}", path("downlink.pcap"))])
        .output()
        .unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{talk}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["packets"], &summary["denied"]), (&619.into(), &96.into()), "{summary}");
    let reasons = summary["reasons"].as_array().unwrap();
    let denied: Vec<_> =
        reasons.iter().filter(|r| r["verdict"] == "deny").map(|r| r["reason"].as_str().unwrap()).collect();
    assert_eq!(denied, ["policy-deny", "no-policy-deny"], "the workers answered only what had passed");
    let states = summary["flows_by_state"].as_object().unwrap();
    let flows: u64 = states.values().map(|count| count.as_u64().unwrap()).sum();
    assert!(flows > 0 && summary["flows"] == flows, "{states:?}");
    let top = summary["top_flows"].as_array().unwrap();
    let packets: Vec<u64> = top.iter().map(|flow| flow["packets"].as_u64().unwrap()).collect();
    assert!(packets.is_sorted_by(|a, b| a >= b) && packets.first() > Some(&2), "{top:?}");
    assert!(top.iter().all(|flow| flow["responder"].as_str().unwrap().starts_with(['1', '['])), "{top:?}");
    assert!(summary["checksums_completed"].as_u64().unwrap() > 0, "GW-30");
}
