//! The flow table as a whole: limits (GW-24), ICMP (GW-27), other protocols (GW-12, GW-26), reload (GW-23).

use crate::gateway::Gateway;
use crate::tcp::WORKER;

fn tcp(client: u32, flags: &str, seconds: f64) -> String {
    let [_, a, b, c] = client.to_be_bytes();
    format!(
        r#"{{"in":"uplink","src":"1.{a}.{b}.{c}","dst":"10.1.1.1","proto":"tcp","sport":4000,"dport":80,"flags":"{flags}","t":{seconds}}}"#
    )
}

fn answer(client: u32, flags: &str, seconds: f64) -> String {
    let [_, a, b, c] = client.to_be_bytes();
    format!(
        r#"{{"in":"downlink","src":"10.1.1.1","dst":"1.{a}.{b}.{c}","proto":"tcp","sport":80,"dport":4000,"flags":"{flags}","t":{seconds}}}"#
    )
}

fn udp(client: u32, seconds: f64) -> String {
    tcp(client, "", seconds).replace("tcp", "udp").replace(r#""flags":"","#, "")
}

#[test]
fn gw_24_a_syn_that_finds_half_the_table_half_open_is_denied() {
    let mut gateway = Gateway::new("flows: { capacity: 9 }", &[WORKER]);
    for client in 0..4 {
        gateway.check_next("GW-24 below half", &tcp(client, "S", 0.0), "pass new");
    }
    gateway.check_next("GW-24 half, rounded down", &tcp(4, "S", 0.1), "drop half-open-limit flow");
    gateway.check_next("GW-24 other protocols are not limited", &udp(4, 0.1), "pass new");
    gateway.check_next("GW-24 retransmission belongs to its flow", &tcp(0, "S", 0.2), "pass established");
    gateway.check_next("GW-24 one more established", &answer(0, "SA", 0.2), "pass established");
    gateway.check_next("GW-24", &tcp(0, "A", 0.2), "pass established");
    gateway.check_next("GW-24 makes room for one half-open", &tcp(5, "S", 0.3), "pass new");
    gateway.check_next("GW-24 and no more", &tcp(6, "S", 0.3), "drop half-open-limit");
    gateway.check_next("GW-24 expired ones are reclaimed first", &tcp(6, "S", 121.0), "pass new");
}

#[test]
fn gw_24_half_of_one_is_one() {
    let mut gateway = Gateway::new("flows: { capacity: 1 }", &[WORKER]);
    gateway.check_next("GW-24", &tcp(0, "S", 0.0), "pass new");
    gateway.check_next("GW-24", &tcp(1, "S", 0.0), "drop half-open-limit");
}

#[test]
fn gw_24_a_full_table_gives_up_its_least_recently_used_half_open_entry() {
    let mut gateway = Gateway::new("flows: { capacity: 4 }", &[WORKER]);
    gateway.check_next("GW-24", &tcp(0, "S", 0.0), "pass new");
    gateway.check_next("GW-24", &tcp(1, "S", 0.1), "pass new");
    gateway.check_next("GW-24 used again", &tcp(0, "S", 0.2), "pass established");
    gateway.check_next("GW-24", &udp(2, 0.3), "pass new");
    gateway.check_next("GW-24", &udp(3, 0.3), "pass new");
    gateway.check_next("GW-24 takes the place of client 1", &udp(4, 0.4), "pass new");
    gateway.check_next("GW-24 client 0 is still there", &answer(0, "SA", 0.5), "pass established");
    gateway.check_next("GW-24 client 1 is not", &answer(1, "SA", 0.5), "drop invalid-state");
    gateway.check_next("GW-24 client 0's place", &udp(5, 0.6), "pass new");
    gateway.check_next("GW-24 no half-open entry is left", &udp(6, 0.6), "drop flow-table-full flow");
    gateway.check_next("GW-24 those there go on", &udp(2, 0.7), "pass established");
    assert_eq!(gateway.flows().count(), 4);
}

#[test]
fn gw_24_a_reopening_syn_meets_the_half_open_limit_and_not_the_full_table() {
    let mut gateway = Gateway::new("flows: { capacity: 2 }", &[WORKER]);
    for packet in [tcp(0, "S", 0.0), answer(0, "R", 0.1)] {
        gateway.check_next("GW-24", &packet, "pass");
    }
    gateway.check_next("GW-24", &udp(1, 0.2), "pass new");
    gateway.check_next("GW-24 full, yet reopened in its own place", &tcp(0, "S", 0.3), "pass new");
    let mut gateway = Gateway::new("flows: { capacity: 2 }", &[WORKER]);
    for packet in [tcp(0, "S", 0.0), answer(0, "R", 0.1), tcp(1, "S", 0.2)] {
        gateway.check_next("GW-24", &packet, "pass");
    }
    gateway.check_next("GW-24 at the half-open limit", &tcp(0, "S", 0.3), "drop half-open-limit");
}

#[test]
fn gw_26_udp_lives_longer_once_it_was_answered() {
    let answered = |seconds| answer(0, "", seconds).replace("tcp", "udp").replace(r#""flags":"","#, "");
    let closed = WORKER.1.replace("egress: [{ action: Allow }]", "egress: [{ action: Deny }]");
    let check = |packets: &[(String, &str)]| {
        let mut gateway = Gateway::new("", &[(WORKER.0, &closed)]);
        for (packet, expected) in packets {
            gateway.check_next("GW-26 udp", packet, expected);
        }
    };
    check(&[(udp(0, 0.0), "pass new"), (answered(29.9), "pass established")]);
    check(&[(udp(0, 0.0), "pass new"), (answered(30.0), "drop policy-deny")]);
    check(&[(udp(0, 0.0), "pass new"), (answered(1.0), "pass established"), (answered(120.9), "pass established")]);
    check(&[(udp(0, 0.0), "pass new"), (answered(1.0), "pass established"), (answered(121.0), "drop policy-deny")]);
}

#[test]
fn gw_26_time_never_runs_backwards() {
    let mut gateway = Gateway::new("", &[WORKER]);
    gateway.check_next("GW-26", &udp(0, 100.0), "pass new");
    gateway.check_next("GW-26 an earlier stamp counts as now", &udp(1, 50.0), "pass new");
    gateway.check_next("GW-26 so it has not expired", &udp(1, 129.0), "pass established");
}

fn icmp(side: &str, kind: u8, id: u16, more: &str) -> String {
    let (src, dst) = if side == "uplink" { ("1.1.1.1", "10.1.1.1") } else { ("10.1.1.1", "1.1.1.1") };
    format!(r#"{{"in":"{side}","src":"{src}","dst":"{dst}","proto":"icmp","type":{kind},"id":{id}{more}}}"#)
}

#[test]
fn gw_27_an_echo_reply_needs_its_request() {
    let mut gateway = Gateway::new("", &[WORKER]);
    gateway.check_next("GW-27 unsolicited", &icmp("downlink", 0, 7, ""), "drop invalid-state none");
    gateway.check_next("GW-27 request", &icmp("uplink", 8, 7, ""), "pass new");
    gateway.check_next("GW-27 reply", &icmp("downlink", 0, 7, ""), "pass established");
    gateway.check_next("GW-27 another identifier", &icmp("downlink", 0, 8, ""), "drop invalid-state");
    gateway.check_next("GW-27 the requester's own direction", &icmp("uplink", 0, 7, ""), "drop invalid-state");
    gateway.check_next("GW-27 the other end asks too", &icmp("downlink", 8, 7, ""), "pass new");
    assert_eq!(gateway.flows().count(), 2);
}

#[test]
fn gw_27_an_error_follows_the_flow_that_it_quotes() {
    let quote = r#","quote":{"src":"1.1.1.1","dst":"10.1.1.1","proto":"udp","sport":4000,"dport":80}"#;
    let reply = r#","quote":{"src":"10.1.1.1","dst":"1.1.1.1","proto":"udp","sport":80,"dport":4000}"#;
    let request = r#"{"in":"uplink","src":"1.1.1.1","dst":"10.1.1.1","proto":"udp","sport":4000,"dport":80,"t":0}"#;
    let quiet = WORKER.1.replace("{ action: Allow }", "{ action: Allow, protocol: UDP }");
    let mut gateway = Gateway::new("", &[(WORKER.0, &quiet)]);
    gateway.check_next("GW-27 no flow", &icmp("downlink", 3, 0, quote), "drop tier-default-deny new");
    gateway.check_next("GW-27", request, "pass new");
    gateway.check_next("GW-27 quotes the request", &icmp("downlink", 3, 0, quote), "pass related flow");
    gateway.check_next("GW-27 quotes the reply", &icmp("uplink", 11, 0, reply), "pass related flow");
    gateway.check_next(
        "GW-27 does not go to the quoted source",
        &icmp("uplink", 3, 0, quote),
        "drop tier-default-deny new",
    );
    gateway.check_next("GW-27 no error type", &icmp("downlink", 13, 0, quote), "drop tier-default-deny");
    assert_eq!(gateway.flows().count(), 1, "an error makes no entry");
    let late = icmp("downlink", 3, 0, &format!(r#","t":29.0{quote}"#));
    gateway.check_next("GW-27 still there", &late, "pass related");
    let later = icmp("downlink", 3, 0, &format!(r#","t":30.0{quote}"#));
    gateway.check_next("GW-27 an error does not refresh", &later, "drop tier-default-deny");
}

#[test]
fn gw_12_icmp_other_than_echo_is_judged_each_time() {
    let mut gateway = Gateway::new("", &[WORKER]);
    gateway.check_next("GW-12", &icmp("uplink", 13, 0, ""), "pass new");
    gateway.check_next("GW-12", &icmp("uplink", 13, 0, ""), "pass new");
    assert_eq!(gateway.flows().count(), 0);
}

#[test]
fn gw_27_other_protocols_are_flows_of_two_addresses() {
    let packet = |side, src, dst, proto| format!(r#"{{"in":"{side}","src":"{src}","dst":"{dst}","proto":{proto}}}"#);
    let mut gateway = Gateway::new("", &[WORKER]);
    gateway.check_next("GW-27", &packet("uplink", "1.1.1.1", "10.1.1.1", 47), "pass new");
    gateway.check_next("GW-27 back", &packet("downlink", "10.1.1.1", "1.1.1.1", 47), "pass established");
    gateway.check_next("GW-27 another protocol", &packet("downlink", "10.1.1.1", "1.1.1.1", 50), "pass new");
    let sctp = |side, src, dst, sport, dport| {
        format!(r#"{{"in":"{side}","src":"{src}","dst":"{dst}","proto":"sctp","sport":{sport},"dport":{dport}}}"#)
    };
    gateway.check_next("GW-27 SCTP has ports", &sctp("uplink", "1.1.1.1", "10.1.1.1", 5, 6), "pass new");
    gateway.check_next("GW-27 SCTP back", &sctp("downlink", "10.1.1.1", "1.1.1.1", 6, 5), "pass established");
    gateway.check_next("GW-27 SCTP other ports", &sctp("downlink", "10.1.1.1", "1.1.1.1", 7, 5), "pass new");
}

/// What packets of a TCP flow and a UDP flow meet after a reload that denies everything in.
fn check_reload(mode: &str, tcp_after: &str, udp_after: &str, left: usize) {
    let closed = WORKER.1.replace("ingress: [{ action: Allow }]", "ingress: [{ action: Deny }]");
    let mut gateway = Gateway::new(&format!("existingFlows: {mode}"), &[WORKER]);
    for packet in [tcp(0, "S", 0.0), answer(0, "SA", 0.1), tcp(0, "A", 0.2), udp(1, 0.3)] {
        gateway.check_next("GW-23", &packet, "pass");
    }
    gateway.reload(&[(WORKER.0, &closed)]);
    // The answer of the responder is judged as the direction that started the flow: inbound, which is denied now.
    gateway.check_next(&format!("GW-23 {mode} tcp"), &answer(0, "A", 1.0), tcp_after);
    gateway.check_next(&format!("GW-23 {mode} udp"), &udp(1, 1.0), udp_after);
    assert_eq!(gateway.flows().count(), left, "GW-23 {mode}");
    gateway.check_next(&format!("GW-23 {mode} new"), &udp(2, 1.0), "drop policy-deny open#0");
}

#[test]
fn gw_23_reload_treats_existing_flows_as_told() {
    check_reload("keep", "pass established", "pass established", 2);
    check_reload("revalidate", "drop policy-deny open#0", "drop policy-deny open#0", 0);
    // Egress is still allowed, and a mid-stream ACK is picked up.
    check_reload("flush", "pass new open#0", "drop policy-deny open#0", 1);
}

#[test]
fn gw_23_a_flow_that_the_new_policy_allows_goes_on_without_being_judged_twice() {
    let logging = WORKER.1.replace("ingress: [{ action: Allow }]", "ingress: [{ action: Log }, { action: Allow }]");
    let mut gateway = Gateway::new("existingFlows: revalidate", &[WORKER]);
    gateway.check_next("GW-23", &udp(0, 0.0), "pass new");
    gateway.reload(&[(WORKER.0, &logging)]);
    gateway.check_next("GW-23", &udp(0, 1.0), "pass established");
    gateway.check_next("GW-23", &udp(0, 2.0), "pass established");
}
