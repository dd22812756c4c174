//! TCP connection tracking (GW-25, `tcp-states.md`): both tables, the look-up without an entry, timeouts.

use crate::gateway::Gateway;

/// A host endpoint that lets everything in by policy, so that every packet is governed.
pub const WORKER: (&str, &str) = (
    "worker.yaml",
    "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker, labels: { role: worker } }
spec: { node: worker-1, interfaceName: eth1, expectedIPs: [10.1.1.1] }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: open }
spec: { selector: role == 'worker', types: [Ingress, Egress], ingress: [{ action: Allow }], egress: [{ action: Allow }] }
",
);

/// A packet of the connection: `>` from the initiator, `<` from the responder.
fn segment(side: char, flags: &str, seconds: f64) -> String {
    let flow = match side {
        '>' => r#""in":"uplink","src":"1.1.1.1","dst":"10.1.1.1","sport":40000,"dport":80"#,
        _ => r#""in":"downlink","src":"10.1.1.1","dst":"1.1.1.1","sport":80,"dport":40000"#,
    };
    format!(r#"{{{flow},"proto":"tcp","flags":"{flags}","t":{seconds:.3}}}"#)
}

/// Packets that lead a new table to a state, all allowed.
fn path(state: &str) -> Vec<(char, &'static str)> {
    let open = vec![('>', "S"), ('<', "SA"), ('>', "A")];
    let with = |more: &[(char, &'static str)]| open.iter().chain(more).copied().collect();
    match state {
        "syn-sent" => vec![('>', "S")],
        "syn-sent-2" => vec![('>', "S"), ('<', "S")],
        "syn-recv" => vec![('>', "S"), ('<', "SA")],
        "established" => open,
        "fin-wait" => with(&[('>', "FA")]),
        "close-wait" => with(&[('>', "FA"), ('<', "A")]),
        "last-ack" => with(&[('>', "FA"), ('<', "A"), ('<', "FA")]),
        "time-wait" => with(&[('>', "FA"), ('<', "A"), ('<', "FA"), ('>', "A")]),
        "close" => with(&[('<', "R")]),
        _ => unreachable!("{state}"),
    }
}

fn state_of(gateway: &Gateway) -> &'static str {
    gateway.flows().next().map_or("none", |flow| flow.state.name())
}

/// One row of a table: what each kind of segment does in a state. `ignored` and `invalid` leave the state, `new` is judged.
fn check(side: char, state: &'static str, outcomes: [&'static str; 5]) {
    for (flags, outcome) in ["S", "SA", "A", "FA", "R"].into_iter().zip(outcomes) {
        let mut gateway = Gateway::new("", &[WORKER]);
        for (i, (side, flags)) in path(state).into_iter().enumerate() {
            gateway.check_next("GW-25", &segment(side, flags, i as f64 * 0.001), "pass");
        }
        assert_eq!(state_of(&gateway), state, "the path to {state}");
        let row = format!("GW-25 {state} {side} {flags}");
        let packet = segment(side, flags, 1.0);
        let (expected, after) = match outcome {
            "ignored" => ("pass established", state),
            "invalid" => ("drop invalid-state flow none", state),
            "new" => ("pass new", "syn-sent"),
            "stays" => ("pass established", state),
            next => ("pass established", next),
        };
        gateway.check_next(&row, &packet, expected);
        assert_eq!(state_of(&gateway), after, "{row}");
    }
}

#[test]
fn segments_from_the_initiator_follow_table_3() {
    check('>', "syn-sent", ["stays", "invalid", "invalid", "invalid", "close"]);
    check('>', "syn-sent-2", ["stays", "syn-recv", "invalid", "invalid", "close"]);
    check('>', "syn-recv", ["ignored", "stays", "established", "fin-wait", "close"]);
    check('>', "established", ["ignored", "invalid", "stays", "fin-wait", "close"]);
    check('>', "fin-wait", ["ignored", "invalid", "close-wait", "last-ack", "close"]);
    check('>', "close-wait", ["ignored", "invalid", "stays", "last-ack", "close"]);
    check('>', "last-ack", ["ignored", "invalid", "time-wait", "stays", "close"]);
    check('>', "time-wait", ["new", "invalid", "stays", "stays", "close"]);
    check('>', "close", ["new", "invalid", "stays", "stays", "stays"]);
}

#[test]
fn segments_from_the_responder_follow_table_4() {
    check('<', "syn-sent", ["syn-sent-2", "syn-recv", "ignored", "invalid", "close"]);
    check('<', "syn-sent-2", ["stays", "syn-recv", "ignored", "invalid", "close"]);
    check('<', "syn-recv", ["invalid", "ignored", "stays", "fin-wait", "close"]);
    check('<', "established", ["invalid", "ignored", "stays", "fin-wait", "close"]);
    check('<', "fin-wait", ["invalid", "ignored", "close-wait", "last-ack", "close"]);
    check('<', "close-wait", ["invalid", "ignored", "stays", "last-ack", "close"]);
    check('<', "last-ack", ["invalid", "ignored", "time-wait", "stays", "close"]);
    check('<', "time-wait", ["new", "ignored", "stays", "stays", "close"]);
    check('<', "close", ["new", "ignored", "stays", "stays", "stays"]);
}

#[test]
fn without_an_entry_only_a_syn_and_a_loose_ack_start_a_flow() {
    let check = |gateway: &str, flags, expected| {
        let mut gateway = Gateway::new(gateway, &[WORKER]);
        gateway.check("GW-25 no entry", &segment('>', flags, 0.0), expected);
    };
    check("", "S", "pass new open#0");
    check("", "A", "pass new open#0");
    check("flows: { loose: false }", "A", "drop invalid-state flow none");
    for flags in ["SA", "FA", "R", "RA", "", "F", "SF", "SR", "SAU"] {
        check("", flags, "drop invalid-state flow none");
    }
    for flags in ["SU", "SP", "SEC", "AU", "AP"] {
        check("", flags, "pass new");
    }
}

#[test]
fn an_ungoverned_packet_is_never_invalid_gw_25() {
    let mut gateway = Gateway::new("", &[WORKER]);
    let elsewhere =
        r#"{"in":"uplink","src":"1.1.1.1","dst":"10.9.9.9","proto":"tcp","sport":1,"dport":2,"flags":"SA"}"#;
    gateway.check("GW-25 ungoverned", elsewhere, "pass default-allow none");
    assert_eq!(gateway.flows().count(), 0, "and it starts no flow");
}

#[test]
fn a_denied_segment_changes_nothing_gw_10() {
    let closed = WORKER.1.replace("ingress: [{ action: Allow }]", "ingress: [{ action: Deny }]");
    let mut gateway = Gateway::new("", &[WORKER]);
    for (i, (side, flags)) in path("time-wait").into_iter().enumerate() {
        gateway.check_next("GW-10", &segment(side, flags, i as f64 * 0.001), "pass");
    }
    gateway.reload(&[(WORKER.0, &closed)]);
    gateway.check_next("GW-25 reopening SYN is judged", &segment('>', "S", 1.0), "drop policy-deny new open#0");
    assert_eq!(state_of(&gateway), "time-wait", "the old entry stays");
    gateway.check_next("GW-25 the old flow goes on", &segment('>', "A", 2.0), "pass established");
}

#[test]
fn entries_expire_after_their_timeout_gw_26() {
    let check = |state: &'static str, seconds: f64| {
        for (after, alive) in [(seconds - 0.01, true), (seconds, false)] {
            let mut gateway = Gateway::new("", &[WORKER]);
            let steps = path(state);
            for &(side, flags) in &steps {
                gateway.check_next("GW-26", &segment(side, flags, 100.0), "pass");
            }
            // A segment that is invalid without an entry tells whether there is one; RST belongs to every state.
            let expected = if alive { "pass established" } else { "drop invalid-state" };
            gateway.check_next(&format!("GW-26 {state} after {after}"), &segment('>', "R", 100.0 + after), expected);
        }
    };
    check("syn-sent", 120.0);
    check("syn-sent-2", 120.0);
    check("syn-recv", 60.0);
    check("established", 432_000.0);
    check("fin-wait", 120.0);
    check("close-wait", 60.0);
    check("last-ack", 30.0);
    check("time-wait", 120.0);
    check("close", 10.0);
}
