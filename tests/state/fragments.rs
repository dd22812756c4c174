//! Fragments through the whole engine (GW-22), in the three modes.

use crate::gateway::Gateway;
use crate::tcp::WORKER;

fn fragment(id: u32, offset: u16, more: bool, len: u16, dport: u16) -> String {
    let cut = if offset == 0 { format!(r#","len":{}"#, len - 8) } else { format!(r#","len":{len}"#) };
    format!(
        r#"{{"in":"uplink","src":"1.1.1.1","dst":"10.1.1.1","proto":"udp","sport":5,"dport":{dport}{cut},"frag":{{"id":{id},"offset":{offset},"more":{more}}}}}"#
    )
}

/// Port 80 in, nothing else.
fn narrow() -> String {
    WORKER.1.replace(
        "ingress: [{ action: Allow }]",
        "ingress: [{ action: Allow, protocol: UDP, destination: { ports: [80] } }]",
    )
}

#[test]
fn gw_22_track_later_fragments_follow_the_first_whatever_it_met() {
    let mut gateway = Gateway::new("", &[(WORKER.0, &narrow())]);
    gateway.check_next("GW-22 no first", &fragment(1, 80, false, 8, 80), "drop fragment-no-first parse");
    gateway.check_next("GW-22 first", &fragment(1, 0, true, 80, 80), "pass open#0 new");
    gateway.check_next("GW-22 later", &fragment(1, 80, false, 8, 80), "pass open#0 new");
    gateway.check_next("GW-22 denied first", &fragment(2, 0, true, 80, 81), "drop tier-default-deny");
    gateway.check_next("GW-22 later of it", &fragment(2, 80, false, 8, 81), "drop tier-default-deny");
    gateway.check_next("GW-22 overlap", &fragment(1, 72, false, 16, 80), "drop fragment-overlap parse");
    gateway.check_next("GW-22 the rest of that datagram", &fragment(1, 88, false, 8, 80), "drop fragment-overlap");
    gateway.check_next("GW-22 its first again", &fragment(1, 0, true, 80, 80), "drop fragment-overlap");
}

#[test]
fn gw_22_a_tiny_first_fragment_is_remembered_as_denied() {
    let tiny = r#"{"in":"uplink","src":"1.1.1.1","dst":"10.1.1.1","proto":"tcp","sport":5,"dport":80,"frag":{"id":3,"offset":0,"more":true,"len":8}}"#;
    let later = r#"{"in":"uplink","src":"1.1.1.1","dst":"10.1.1.1","proto":"tcp","len":16,"frag":{"id":3,"offset":8,"more":false}}"#;
    let mut gateway = Gateway::new("", &[WORKER]);
    gateway.check_next("GW-22 tiny", tiny, "drop fragment-tiny parse none");
    gateway.check_next("GW-22 later of it", later, "drop fragment-tiny parse none");
}

#[test]
fn gw_22_drop_refuses_every_fragment() {
    let mut gateway = Gateway::new("fragments: drop", &[WORKER]);
    gateway.check_next("GW-22 drop", &fragment(1, 0, true, 80, 80), "drop fragments-refused parse");
    gateway.check_next("GW-22 drop", &fragment(1, 80, false, 8, 80), "drop fragments-refused");
    assert_eq!(gateway.flows().count(), 0);
}

#[test]
fn gw_22_portless_judges_without_ports_where_the_first_is_unknown() {
    let mut gateway = Gateway::new("fragments: portless", &[(WORKER.0, &narrow())]);
    gateway.check_next(
        "GW-22 RM-4 a rule with ports does not match",
        &fragment(1, 80, false, 8, 80),
        "drop tier-default-deny",
    );
    gateway.check_next("GW-22 a known first decides", &fragment(1, 0, true, 80, 80), "pass open#0");
    gateway.check_next("GW-22 a known first decides", &fragment(1, 80, false, 8, 80), "pass open#0");
    let mut gateway = Gateway::new("fragments: portless", &[WORKER]);
    gateway.check_next("GW-22 a rule without ports matches", &fragment(1, 80, false, 8, 80), "pass open#0 new");
    assert_eq!(gateway.flows().count(), 0, "no entry is made");
}

#[test]
fn gw_23_a_reload_keeps_the_verdict_of_a_first_fragment_and_not_its_rule() {
    let check = |mode: &str, later: &str| {
        let mut gateway = Gateway::new(&format!("existingFlows: {mode}"), &[(WORKER.0, &narrow())]);
        gateway.check_next("GW-23", &fragment(1, 0, true, 80, 80), "pass open#0 new");
        let other = "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: another }\nspec: { order: 1, selector: role == 'worker', ingress: [{ action: Deny, protocol: 47 }] }\n";
        gateway.reload(&[(WORKER.0, &format!("{}{other}", narrow()))]);
        let outcome = gateway.packet(&fragment(1, 80, false, 8, 80));
        assert_eq!(outcome.policy, None, "GW-23 {mode}: the new program has other rules: {}", outcome.line);
        assert_eq!(outcome.reason, later, "GW-23 {mode}: {}", outcome.line);
    };
    check("keep", "policy-allow");
    check("flush", "fragment-no-first");
}
