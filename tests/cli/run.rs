//! `run`, as far as it gets without a network of its own, and which cores its threads take; the lab's tests run it for real.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ringwall::control::cores;

use crate::{Done, directory, run_in};

const PORTS: &str = "apiVersion: ringwall/v1
kind: Gateway
ports: { uplink: { interface: rwtest0 }, downlink: { interface: rwtest1 } }
";

#[test]
fn a_gateway_without_ports_cannot_run() {
    let here = directory(&[("gateway.yaml", "apiVersion: ringwall/v1\nkind: Gateway\n")]);
    run_in(here.path(), ["run"]).ended_with(3).said("the gateway file names no `ports`, which `run` needs");
    let same = PORTS.replace("rwtest1", "rwtest0");
    let here = directory(&[("gateway.yaml", &same)]);
    run_in(here.path(), ["run"]).ended_with(3).said("gateway.yaml:3:65: uplink and downlink are the same interface");
}

#[test]
fn a_missing_interface_is_named() {
    let here = directory(&[("gateway.yaml", PORTS)]);
    run_in(here.path(), ["run"]).ended_with(3).said("no interface `rwtest0` in this network namespace");
}

#[test]
fn a_dry_run_says_what_would_run() {
    let here = directory(&[("gateway.yaml", PORTS)]);
    let out = run_in(here.path(), ["run", "--dry-run"]).ended_with(0).out;
    assert!(out.starts_with("would run rwtest0 and rwtest1 with 1 queues"), "{out}");
}

#[test]
fn missing_privileges_end_with_5() {
    let here = directory(&[("gateway.yaml", PORTS)]);
    let shell = |line: &str| {
        let script = format!(
            "ip link add rwtest0 type veth peer name rwtest1 && ip link set rwtest0 up && ip link set rwtest1 up && {line}"
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script]).env("RINGWALL", env!("CARGO_BIN_EXE_ringwall"));
        command.env_remove("RINGWALL_GATEWAY").current_dir(here.path()).output()
    };
    let without = "setpriv --bounding-set=-all --inh-caps=-all";
    match shell(&format!("{without} true")) {
        Ok(output) if output.status.success() => {}
        refused => {
            println!("skipped: no network namespace of our own, or no `setpriv`: {refused:?}");
            return;
        }
    }
    let done = Done::of(shell(&format!("exec {without} \"$RINGWALL\" run")).unwrap()).ended_with(5).said("error: ");
    assert!(!done.err.contains("panicked"), "{done:?}");
    assert_eq!(done.out, "");
}

/// Runs a gateway with this profile in a network namespace of its own until it is ready, and then ends it: what it said, and the
/// cores that each of its threads might use, by the thread's name. `None` where this machine cannot have one.
fn threads_of_a_run(profile: &str) -> Option<(String, BTreeMap<String, String>)> {
    let gateway = format!("{PORTS}profile: hw.yaml\n");
    let profile = format!("apiVersion: ringwall/v1\nkind: HardwareProfile\nname: p\n{profile}");
    let here = directory(&[("gateway.yaml", &gateway), ("hw.yaml", &profile)]);
    let script = "ip link add rwtest0 type veth peer name rwtest1 && ip link set rwtest0 up && ip link set rwtest1 up \
                  && exec \"$RINGWALL\" run";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script]).env("RINGWALL", env!("CARGO_BIN_EXE_ringwall"));
    command.env_remove("RINGWALL_GATEWAY").env_remove("RINGWALL_LOG").current_dir(here.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("ready: ") && talk.read_line(&mut said).unwrap() > 0 {}
    // For those that nobody waits for.
    thread::sleep(Duration::from_millis(100));
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir(Path::new("/proc").join(child.id().to_string()).join("task")).unwrap().flatten() {
        // Those that have ended since are none.
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let status = read("status");
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        let is_first = task.file_name().to_str() == Some(&child.id().to_string());
        let name = if is_first { "control".to_owned() } else { read("comm").trim().to_owned() };
        threads.insert(name, cores.trim().to_owned());
    }
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    while talk.read_line(&mut said).unwrap() > 0 {}
    let code = child.wait().unwrap().code();
    if !said.contains("ready: ") && code != Some(101) {
        println!("skipped: {said}");
        return None;
    }
    assert_eq!(code, Some(0), "{said}");
    Some((said, threads))
}

#[test]
fn a_core_that_is_not_there_is_told_and_the_gateway_runs() {
    let Some((said, threads)) = threads_of_a_run("cores: [1022]\n") else { return };
    for told in ["core 1022 of `cores` is not there", "worker 0 cannot be pinned to core 1022: "] {
        assert!(said.contains(told), "{said}");
    }
    assert_eq!(threads["worker-0"], threads["control"], "wherever the scheduler likes");
    let beyond = "apiVersion: ringwall/v1\nkind: HardwareProfile\nname: p\ncores: [5000]\n";
    let here = directory(&[("gateway.yaml", &format!("{PORTS}profile: hw.yaml\n")), ("hw.yaml", beyond)]);
    run_in(here.path(), ["run"]).ended_with(3).said("hw.yaml:4:9: `cores[0]`: expected 0 to 1023, found `5000`");
}

#[test]
fn compiling_and_logging_leave_the_workers_core_alone() {
    let allowed = cores::allowed();
    let [others @ .., last] = &allowed[..] else { return };
    if others.is_empty() {
        println!("skipped: there is only one core");
        return;
    }
    let Some((said, threads)) = threads_of_a_run(&format!("cores: [{last}]\n")) else { return };
    assert!(!said.contains("of `cores`"), "{said}");
    assert_eq!(threads["worker-0"], last.to_string());
    for name in ["control", "log"] {
        let cores = threads[name].split([',', '-']).map(|core| core.parse::<usize>().unwrap());
        assert!(cores.max() < Some(*last), "{name}: {}", threads[name]);
    }
}
