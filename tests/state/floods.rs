//! Attacks by volume: two million forged SYNs, datagrams that never complete. The tables keep their size, what is established
//! goes on, and what is forgotten is denied.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use ringwall::base::address::Direction;
use ringwall::base::diagnostic::{Diagnostics, Span};
use ringwall::base::time::Now;
use ringwall::cli::packet_object::read_line;
use ringwall::compile::{self, compile};
use ringwall::config;
use ringwall::engine::{Batch, Engine, FlowSettings, NoTrace, Reason, Settings, Verdict};
use ringwall::packet::{Options, build};

use crate::attacks::NARROW;
use crate::gateway;

const SECOND: u64 = 1_000_000_000;
/// Flows in the table under attack; half as many may be half-open.
const CAPACITY: usize = 1 << 16;
/// Connections that were there before.
const CONNECTIONS: u32 = 1000;
const SOURCES: u32 = 2_000_000;

type Outcome = (Verdict, Reason);
const NEW: Outcome = (Verdict::Allow, Reason::PolicyAllow);
const KNOWN: Outcome = (Verdict::Allow, Reason::Established);
const FAILSAFE: Outcome = (Verdict::Allow, Reason::Failsafe);
const LIMIT: Outcome = (Verdict::Deny, Reason::HalfOpenLimit);
const FULL: Outcome = (Verdict::Deny, Reason::FlowTableFull);
const NO_FIRST: Outcome = (Verdict::Deny, Reason::FragmentNoFirst);

/// An engine that is attacked, one packet at a time.
struct Target {
    engine: Engine,
    batch: Batch,
}

impl Target {
    fn new(settings: Settings) -> Target {
        let (policy, _) = gateway::read(&[NARROW]).unwrap();
        let plan = config::parse(Path::new("gateway.yaml"), "apiVersion: ringwall/v1\nkind: Gateway\n").unwrap();
        let mut findings = Diagnostics::new();
        let program = compile(&policy, &plan.site, &compile::Options::default(), &mut findings).unwrap();
        Target { engine: Engine::new(Arc::new(program), &settings), batch: Batch::new() }
    }

    fn judge(&mut self, frame: &[u8], direction: Direction, now: Now) -> Outcome {
        self.batch.clear();
        self.batch.add(frame, direction, now, &Options::default());
        self.engine.process(&mut self.batch, &mut NoTrace);
        let decision = self.batch.decision(0);
        (decision.verdict(), decision.reason())
    }

    /// Judges a packet and compares.
    fn check(&mut self, row: &str, frame: &[u8], direction: Direction, now: Now, expected: Outcome) {
        let found = self.judge(frame, direction, now);
        assert!(found == expected, "{row}: {found:?}, expected {expected:?}");
    }
}

/// A frame that a packet object describes.
fn frame(object: &str) -> Vec<u8> {
    let at = Span { file: "packets".into(), line: 1, column: 1 };
    build(&read_line(object, &at).unwrap().spec)
}

/// A TCP segment of the client 1.1.1.1 with a port of the host, in either direction.
fn segment(direction: Direction, flags: &str, port: u16, seq: u32, ack: u32) -> Vec<u8> {
    let (ends, ports) = match direction {
        Direction::Inbound => (r#""src":"1.1.1.1","dst":"10.1.1.1""#, (4000, port)),
        Direction::Outbound => (r#""src":"10.1.1.1","dst":"1.1.1.1""#, (port, 4000)),
    };
    frame(&format!(
        r#"{{"in":"uplink",{ends},"proto":"tcp","sport":{},"dport":{},"flags":"{flags}","seq":{seq},"ack":{ack},"win":1000}}"#,
        ports.0, ports.1
    ))
}

/// Puts another client into an IPv4 frame, at the end that the direction says.
fn set_client(frame: &mut [u8], direction: Direction, client: u32) {
    let at = if direction == Direction::Inbound { 26 } else { 30 };
    frame[at..at + 4].copy_from_slice(&Ipv4Addr::from(client).octets());
    frame[24..26].fill(0);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    frame[24..26].copy_from_slice(&(!folded as u16).to_be_bytes());
}

/// Bytes that the process has in memory; `None` where the kernel does not tell.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;
const FIRST_CLIENT: u32 = 0x0200_0000;
const FIRST_FORGED: u32 = 0x3000_0000;

fn connect(target: &mut Target, client: u32, port: u16, opening: Outcome, now: Now) {
    for (direction, flags, seq, ack, expected) in
        [(IN, "S", 100, 0, opening), (OUT, "SA", 500, 101, KNOWN), (IN, "A", 101, 501, KNOWN)]
    {
        let mut frame = segment(direction, flags, port, seq, ack);
        set_client(&mut frame, direction, client);
        target.check("handshake", &frame, direction, now, expected);
    }
}

#[test]
fn gw_24_a_flood_of_two_million_syns_leaves_connections_alone() {
    let flows = FlowSettings { capacity: CAPACITY, ..FlowSettings::default() };
    let mut target = Target::new(Settings { flows, seed: [7, 8], ..Settings::default() });
    for client in 0..CONNECTIONS {
        connect(&mut target, FIRST_CLIENT + client, 80, NEW, Now(0));
    }
    let administrator = FIRST_CLIENT + CONNECTIONS;
    connect(&mut target, administrator, 22, FAILSAFE, Now(0));
    let before = resident();

    let mut syn = segment(IN, "S", 80, 100, 0);
    let mut failsafe_syn = segment(IN, "S", 22, 100, 0);
    let mut data = [segment(IN, "A", 80, 101, 501), segment(OUT, "A", 80, 501, 101)];
    let mut session = segment(IN, "A", 22, 101, 501);
    set_client(&mut session, IN, administrator);
    let half = CAPACITY as u32 / 2;
    // Two million a second for one second.
    let moment = |source: u32| Now(SECOND + u64::from(source) * 500);
    for source in 0..SOURCES {
        set_client(&mut syn, IN, FIRST_FORGED + source);
        target.check("forged SYN", &syn, IN, moment(source), if source < half { NEW } else { LIMIT });
        if source % 500 == 0 {
            for (frame, direction) in data.iter_mut().zip([IN, OUT]) {
                set_client(frame, direction, FIRST_CLIENT + source / 500 % CONNECTIONS);
                target.check("a connection goes on", frame, direction, moment(source), KNOWN);
            }
            target.check("so does the administrator's", &session, IN, moment(source), KNOWN);
            let table = target.engine.flows().table();
            assert!(table.half_open() <= CAPACITY / 2 && table.used() <= table.capacity());
            assert_eq!(table.capacity(), CAPACITY, "the table keeps its size");
            // Failsafe ports are a matter of policy; the limits come after all layers.
            if source > half {
                set_client(&mut failsafe_syn, IN, FIRST_CLIENT + 0x10_0000 + source);
                target.check("new failsafe connection", &failsafe_syn, IN, moment(source), LIMIT);
            }
        }
    }
    assert_eq!(target.engine.flows().table().used(), (CONNECTIONS + 1 + half) as usize);
    if let (Some(before), Some(after)) = (before, resident()) {
        // Two million entries would be 190 MB; the other tests of this program need some, too.
        assert!(after.saturating_sub(before) < 64 << 20, "{before} bytes before the flood, {after} after it");
    }

    // The forged entries expire 120 s after their SYN, then there is room.
    let later = Now(moment(SOURCES).0 + 120 * SECOND);
    set_client(&mut syn, IN, FIRST_CLIENT + 0x20_0000);
    target.check("after the flood", &syn, IN, later, NEW);
    target.check("a failsafe connection, too", &failsafe_syn, IN, later, FAILSAFE);
    target.check("the administrator is still there", &session, IN, later, KNOWN);
    // Room is made for whoever needs it; the rest goes in bounded steps, so that no burst waits for 32,768 of them.
    assert!(target.engine.flows().table().half_open() < CAPACITY / 2, "expired entries are reclaimed first");
    for _ in 0..CAPACITY / 64 {
        target.engine.idle(later);
    }
    assert_eq!(target.engine.flows().table().used(), CONNECTIONS as usize + 3, "in the end all of them");
}

#[test]
fn gw_24_a_flood_of_datagrams_takes_half_open_entries_and_never_established_ones() {
    const SMALL: usize = 4096;
    let flows = FlowSettings { capacity: SMALL, ..FlowSettings::default() };
    let mut target = Target::new(Settings { flows, seed: [7, 8], ..Settings::default() });
    for client in 0..CONNECTIONS {
        connect(&mut target, FIRST_CLIENT + client, 80, NEW, Now(0));
    }
    let mut syn = segment(IN, "S", 80, 100, 0);
    for source in 0..SMALL as u32 {
        set_client(&mut syn, IN, FIRST_FORGED + source);
        target.check("forged SYN", &syn, IN, Now(1), if source < SMALL as u32 / 2 { NEW } else { LIMIT });
    }
    let object = r#"{"in":"uplink","src":"1.1.1.1","dst":"10.1.1.1","proto":"udp","sport":4000,"dport":80}"#;
    let mut datagram = frame(object);
    let mut data = segment(IN, "A", 80, 101, 501);
    let room = SMALL as u32 - CONNECTIONS;
    for source in 0..100_000 {
        set_client(&mut datagram, IN, FIRST_FORGED + source);
        target.check("datagram", &datagram, IN, Now(2), if source < room { NEW } else { FULL });
        if source % 10 == 0 {
            set_client(&mut data, IN, FIRST_CLIENT + source / 10 % CONNECTIONS);
            target.check("a connection goes on", &data, IN, Now(2), KNOWN);
        }
    }
    assert_eq!(target.engine.flows().table().used(), SMALL);
    assert_eq!(target.engine.flows().table().half_open(), 0);
}

#[test]
fn gw_22_a_flood_of_first_fragments_fails_closed() {
    const DATAGRAMS: u32 = 100_000;
    const REMEMBERED: usize = 4096;
    let flows = FlowSettings { capacity: CAPACITY, ..FlowSettings::default() };
    let mut target = Target::new(Settings { flows, datagrams: REMEMBERED, seed: [7, 8], ..Settings::default() });
    let part = |offset: u16, port: u16| {
        frame(&format!(
            r#"{{"in":"uplink","src":"1.1.1.1","dst":"10.1.1.1","proto":"udp","sport":4000,"dport":{port},"len":80,"frag":{{"id":9,"offset":{offset},"more":true,"len":80}}}}"#
        ))
    };
    let (mut first, mut later) = (part(0, 80), part(80, 80));
    let victim = FIRST_CLIENT;
    // Ten identifications for each of ten thousand sources; all fields that tell datagrams apart are the sender's to choose.
    let datagram = |target: &mut Target, frame: &mut [u8], n: u32, now: u64| {
        frame[18..20].copy_from_slice(&((n % 10) as u16).to_be_bytes());
        set_client(frame, IN, victim + n / 10);
        target.judge(frame, IN, Now(now))
    };
    assert_eq!(datagram(&mut target, &mut first, 0, 0), NEW);
    assert_eq!(datagram(&mut target, &mut later, 0, 0), NEW, "a later fragment follows its first");
    for n in 1..DATAGRAMS {
        let expected = if n % 10 == 0 { NEW } else { KNOWN };
        let found = datagram(&mut target, &mut first, n, u64::from(n));
        assert_eq!(found, expected, "first fragment of datagram {n}");
    }
    assert_eq!(datagram(&mut target, &mut later, 0, SECOND), NO_FIRST, "the victim's datagram is forgotten: denied");
    let mut followed = 0;
    for n in 1..DATAGRAMS {
        match datagram(&mut target, &mut later, n, SECOND) {
            NO_FIRST => {}
            NEW | KNOWN => followed += 1,
            other => panic!("later fragment of datagram {n}: {other:?}"),
        }
    }
    assert!((REMEMBERED / 2..=REMEMBERED).contains(&followed), "{followed} datagrams are remembered");
    // Whatever was denied first stays denied when its memory is gone.
    let denied = (Verdict::Deny, Reason::TierDefaultDeny);
    let closed = [part(0, 81), part(80, 81)];
    for frame in &closed {
        assert_eq!(target.judge(frame, IN, Now(2 * SECOND)), denied);
    }
    for n in 0..DATAGRAMS {
        datagram(&mut target, &mut first, n, 3 * SECOND);
    }
    assert_eq!(target.judge(&closed[1], IN, Now(4 * SECOND)), NO_FIRST);
}
