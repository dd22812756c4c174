//! The flows held at the end of a replay in, how many are in each state and which carried most out, as text and as JSON.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::base::address::{Family, address};
use crate::engine::flow::table::Flow;

/// Flows that the view names.
const MOST: usize = 10;

/// The flows of a table, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowView {
    /// How many are in each state; states without a flow are left out.
    flows_by_state: BTreeMap<&'static str, usize>,
    /// Those with most packets, at most ten.
    top_flows: Vec<FlowRow>,
}

/// One flow. Sorts by packets, then bytes, most first, then by its ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowRow {
    protocol: String,
    initiator: String,
    responder: String,
    state: &'static str,
    packets: u32,
    bytes: u64,
}

impl FlowRow {
    fn of(flow: &Flow) -> FlowRow {
        let family = if flow.key.is_v6() { Family::V6 } else { Family::V4 };
        let protocol = flow.key.protocol();
        let (name, has_ports) = match protocol {
            6 => ("tcp", true),
            17 => ("udp", true),
            132 => ("sctp", true),
            1 => ("icmp", false),
            58 => ("icmpv6", false),
            _ => ("", false),
        };
        let end = |(number, port)| match has_ports {
            true => SocketAddr::new(address(family, number), port).to_string(),
            false => address(family, number).to_string(),
        };
        let [initiator, responder] = flow.initiator_and_responder().map(end);
        FlowRow {
            protocol: if name.is_empty() { protocol.to_string() } else { name.to_owned() },
            initiator,
            responder,
            state: flow.state.name(),
            packets: flow.packets,
            bytes: flow.bytes,
        }
    }

    fn order(&self) -> impl Ord + '_ {
        (Reverse((self.packets, self.bytes)), &self.protocol, &self.initiator, &self.responder)
    }
}

impl FlowView {
    /// Counts flows and keeps the busiest. Cost: one pass over the flows.
    pub fn of(flows: impl Iterator<Item = Flow>) -> FlowView {
        let mut view = FlowView::default();
        let mut busiest: Vec<Flow> = Vec::with_capacity(4 * MOST);
        let keep = |busiest: &mut Vec<Flow>| {
            busiest.sort_unstable_by_key(|flow| (Reverse((flow.packets, flow.bytes)), flow.key.ends()));
            busiest.truncate(MOST);
        };
        for flow in flows {
            *view.flows_by_state.entry(flow.state.name()).or_default() += 1;
            if busiest.len() == busiest.capacity() {
                keep(&mut busiest);
            }
            busiest.push(flow);
        }
        keep(&mut busiest);
        view.top_flows = busiest.iter().map(FlowRow::of).collect();
        view.top_flows.sort_by(|a, b| a.order().cmp(&b.order()));
        view
    }

    /// Adds another worker's flows.
    pub fn merge(&mut self, other: &FlowView) {
        for (state, count) in &other.flows_by_state {
            *self.flows_by_state.entry(state).or_default() += count;
        }
        self.top_flows.extend_from_slice(&other.top_flows);
        self.top_flows.sort_by(|a, b| a.order().cmp(&b.order()));
        self.top_flows.truncate(MOST);
    }

    /// All flows.
    pub fn count(&self) -> usize {
        self.flows_by_state.values().sum()
    }

    /// The view for people; empty without flows.
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        if self.top_flows.is_empty() {
            return text;
        }
        let states: Vec<String> = self.flows_by_state.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let _ = writeln!(text, "flows at the end: {}", states.join(", "));
        let _ = writeln!(
            text,
            "{:<9} {:<29} {:<29} {:<12}{:>10}{:>14}",
            "TOP FLOWS", "INITIATOR", "RESPONDER", "STATE", "PACKETS", "BYTES"
        );
        for row in &self.top_flows {
            let FlowRow { protocol, initiator, responder, state, packets, bytes } = row;
            let _ = writeln!(text, "{protocol:<9} {initiator:<29} {responder:<29} {state:<12}{packets:>10}{bytes:>14}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::number;
    use crate::base::time::Now;
    use crate::engine::flow::key::FlowKey;
    use crate::engine::flow::table::State;
    use crate::engine::flow::tcp::{TcpState, Windows};
    use crate::packet::Tuple;

    fn flow(protocol: u8, ends: [(&str, u16); 2], state: State, packets: u32) -> Flow {
        let [(src, sport), (dst, dport)] = ends.map(|(text, port)| (text.parse().unwrap(), port));
        let [src, dst] = [src, dst].map(number);
        let is_v6 = u8::from(ends[0].0.contains(':'));
        let (key, is_low_initiator) = FlowKey::of(&Tuple { src, dst, sport, dport, protocol, is_v6 }).unwrap();
        Flow {
            key,
            last: Now(0),
            windows: Windows::UNKNOWN,
            bytes: u64::from(packets) * 100,
            packets,
            epoch: 1,
            state,
            is_low_initiator,
            is_picked_up: false,
            is_groups_only: false,
        }
    }

    fn udp(n: u16) -> Flow {
        flow(17, [("10.0.0.2", n), ("10.0.0.1", 53)], State::Udp, 1 + u32::from(n) % 50)
    }

    #[test]
    fn the_busiest_flows_come_first_whoever_is_the_lower_end() {
        let flows = [
            flow(6, [("9.9.9.9", 4000), ("1.1.1.1", 80)], State::Tcp(TcpState::Established), 7),
            flow(6, [("2001:db8::1", 4000), ("2001:db8::2", 80)], State::Tcp(TcpState::TimeWait), 9),
            flow(1, [("1.1.1.1", 7), ("2.2.2.2", 8 << 8)], State::Icmp, 8),
            flow(47, [("1.1.1.1", 0), ("2.2.2.2", 0)], State::Other, 1),
        ];
        let json = serde_json::to_string(&FlowView::of(flows.iter().copied())).unwrap();
        let row = |protocol, initiator, responder, state, packets: u32| {
            format!(
                r#"{{"protocol":"{protocol}","initiator":"{initiator}","responder":"{responder}","state":"{state}","packets":{packets},"bytes":{}}}"#,
                packets * 100
            )
        };
        let rows = [
            row("tcp", "[2001:db8::1]:4000", "[2001:db8::2]:80", "time-wait", 9),
            row("icmp", "1.1.1.1", "2.2.2.2", "icmp", 8),
            row("tcp", "9.9.9.9:4000", "1.1.1.1:80", "established", 7),
            row("47", "1.1.1.1", "2.2.2.2", "other", 1),
        ];
        let states = r#"{"established":1,"icmp":1,"other":1,"time-wait":1}"#;
        assert_eq!(json, format!(r#"{{"flows_by_state":{states},"top_flows":[{}]}}"#, rows.join(",")));
    }

    #[test]
    fn views_of_workers_make_the_view_of_all() {
        let flows: Vec<Flow> = (0..1000).map(udp).collect();
        let whole = FlowView::of(flows.iter().copied());
        let mut merged = FlowView::default();
        for part in flows.chunks(333) {
            merged.merge(&FlowView::of(part.iter().copied()));
        }
        assert_eq!(whole.count(), 1000);
        assert_eq!(whole.flows_by_state, merged.flows_by_state);
        assert!(whole.top_flows.iter().chain(&merged.top_flows).all(|row| row.packets == 50));
        assert_eq!(merged.top_flows.len(), MOST);
    }
}
