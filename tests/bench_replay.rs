//! `ringwall bench replay`, ended by a signal: whatever it was doing, it removes its captures and says so. Needs no privilege.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a run leaves below its directory for temporary files.
fn remains(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Whether any file below `directory` has this name and at least this many bytes.
fn has(directory: &Path, name: &str, bytes: u64) -> bool {
    remains(directory)
        .iter()
        .any(|below| std::fs::metadata(directory.join(below).join(name)).is_ok_and(|file| file.len() >= bytes))
}

/// Starts a bench, sends the signal once a capture has so many bytes and some time more has passed, and expects it to end as
/// interrupted with nothing left.
fn interrupted(frames: &str, bytes: u64, more: Duration, signal: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_ringwall"))
        .args(["bench", "replay", "--rules", "100", "--flows", "100", "--seconds", "600", "--frames", frames])
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting = Instant::now();
    while !has(directory.path(), "uplink.pcap", bytes) {
        assert!(run.try_wait().unwrap().is_none(), "it ended before the signal");
        assert!(waiting.elapsed() < Duration::from_secs(120), "no capture of {bytes} bytes");
        thread::sleep(Duration::from_millis(2));
    }
    thread::sleep(more);
    let pid = run.id().to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(remains(directory.path()), Vec::<String>::new(), "{signal}: {said}");
    assert_eq!(output.status.code(), Some(1), "{signal}: {said}");
    assert!(said.ends_with("error: interrupted\n") && output.stdout.is_empty(), "{signal}: {said}");
}

#[test]
fn a_signal_while_captures_are_written_leaves_none_of_them() {
    interrupted("100000000", 1 << 20, Duration::ZERO, "INT");
}

#[test]
fn a_signal_while_captures_are_played_leaves_none_of_them() {
    // By then the few packets are written many times over.
    interrupted("20000", 24, Duration::from_millis(1500), "TERM");
    interrupted("20000", 24, Duration::from_millis(1500), "INT");
}

#[test]
fn a_run_that_ends_by_itself_leaves_nothing_either() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringwall"))
        .args(["bench", "replay", "--rules", "10", "--flows", "10", "--frames", "1000", "--seconds", "0"])
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(remains(directory.path()), Vec::<String>::new());
}
