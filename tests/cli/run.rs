//! `run`, as far as it gets without a network of its own; the lab's tests run it for real.

use std::process::Command;

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
