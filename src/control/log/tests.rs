use std::net::IpAddr;

use super::*;
use crate::base::diagnostic::Diagnostics;
use crate::base::site::Site;
use crate::compile::{self, compile};
use crate::engine::{Batch, Engine, NoTrace, Settings};
use crate::packet::{PacketSpec, build};
use crate::policy::load::{LoadOptions, load};
use crate::policy::source::Source;

const POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker, labels: { role: worker } }
spec: { node: worker-1, interfaceName: eth1, expectedIPs: [10.1.1.1] }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: node-ports }
spec:
  selector: role == 'worker'
  preDNAT: true
  applyOnForward: true
  ingress:
    - { action: Log, protocol: TCP }
    - { action: Deny, protocol: TCP, destination: { ports: [30081] } }
---
apiVersion: v1
kind: Pod
metadata: { name: nginx, namespace: shop, labels: { run: nginx } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 172.30.1.10 }
---
apiVersion: v1
kind: Service
metadata: { name: nginx, namespace: shop }
spec: { type: NodePort, selector: { run: nginx }, ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }] }
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: { name: log-all, namespace: shop }
spec: { selector: run == 'nginx', ingress: [{ action: Log }] }
";

fn program() -> (Arc<Program>, LogSettings) {
    let mut found = Diagnostics::new();
    let policy = load(&[Source::new("p.yaml", POLICY)], &LoadOptions::default(), &mut found);
    let policy = policy.unwrap_or_else(|| panic!("{found:?}"));
    let program = compile(&policy, &Site::default(), &compile::Options::default(), &mut found);
    (Arc::new(program.unwrap_or_else(|| panic!("{found:?}"))), policy.log)
}

/// Judges a packet, taps it and gives the lines: stage, policy and the kernel's text.
fn lines(destination_port: u16) -> Vec<(Stage, String, String)> {
    let (program, settings) = program();
    let mut engine = Engine::new(Arc::clone(&program), &Settings::default());
    let [src, dst]: [IpAddr; 2] = ["1.1.1.1", "10.1.1.1"].map(|a| a.parse().unwrap());
    let spec =
        PacketSpec { sport: 40_000, dport: destination_port, window: Some(29_200), ..PacketSpec::new(src, dst, 6) };
    let frame = build(&spec);
    let mut batch = Batch::new();
    batch.add(&frame, Direction::Inbound, crate::base::time::Now(0), &Options::default());
    engine.process(&mut batch, &mut NoTrace);
    let queue = Arc::new(LogQueue::default());
    queue.knows(Arc::clone(&program), settings);
    LogTap(Arc::clone(&queue)).judged(Judged {
        position: 0,
        number: 0,
        frame: &frame,
        direction: Direction::Inbound,
        now: crate::base::time::Now(0),
        decision: batch.decision(0),
        generation: program.generation,
    });
    let Some(record) = queue.records.pop() else { return Vec::new() };
    let found = logged(&program, &record, &Options::default());
    assert_eq!(found.len(), usize::from(batch.decision(0).logs()), "as many lines as actions were executed");
    let ports: Ports = ["up0".to_string(), "dn0".to_string()];
    let entry = |(stage, rule, destination)| {
        let origin = program.origin(rule);
        let entry = Entry {
            frame: &frame,
            length: frame.len() as u32,
            direction: Direction::Inbound,
            stage,
            origin,
            destination,
            decision: batch.decision(0),
        };
        (stage, origin.unwrap().policy.clone(), line::kernel(&entry, &ports))
    };
    found.into_iter().map(entry).collect()
}

#[test]
fn log_2_a_line_reads_as_the_kernel_writes_it() {
    let lines = lines(30_081);
    let (stage, policy, text) = &lines[0];
    assert_eq!((*stage, policy.as_str(), lines.len()), (Stage::PreDnat, "node-ports", 1));
    let (before, after) = text.split_once("MAC=").unwrap();
    assert_eq!(before, "IN=up0 OUT= ");
    let (mac, after) = after.split_once(' ').unwrap();
    assert_eq!(mac.split(':').count(), 14);
    assert!(mac.ends_with(":08:00"));
    let (id, after) = after.split_once("ID=").unwrap();
    assert_eq!(id, "SRC=1.1.1.1 DST=10.1.1.1 LEN=40 TOS=0x00 PREC=0x00 TTL=64 ");
    let rest = after.split_once("PROTO=").unwrap().1;
    assert_eq!(rest, "TCP SPT=40000 DPT=30081 WINDOW=29200 RES=0x00 SYN URGP=0");
}

#[test]
fn a_36_each_stage_logs_the_header_that_it_sees() {
    let seen: Vec<(Stage, bool)> = lines(30_080)
        .into_iter()
        .map(|(stage, _, text)| (stage, text.contains("DST=172.30.1.10 ") && text.contains("DPT=8080 ")))
        .collect();
    assert_eq!(seen, [(Stage::PreDnat, false), (Stage::Workload, true)]);
}

#[test]
fn log_3_placeholders_of_the_prefix_are_filled() {
    let (program, _) = program();
    let origin = |policy: &str| program.origins.iter().find(|o| o.policy == policy);
    let check = |written: Option<&str>, policy, expected: &str| {
        let settings = LogSettings { prefix: written.map(str::to_string), ..LogSettings::default() };
        assert_eq!(line::prefix(&settings, origin(policy)), expected);
    };
    check(None, "node-ports", "calico-packet: ");
    check(Some("%t/%k/%n"), "node-ports", "default/GlobalNetworkPolicy/node-ports: ");
    check(Some("%p %n %% %"), "shop/log-all", "shop/log-all log-all %% %: ");
}

#[test]
fn log_1_the_rate_limit_holds_back_beyond_the_burst() {
    let settings = LogSettings { rate_limit: Some("60/minute".to_string()), burst: Some(3), ..LogSettings::default() };
    let mut limit = Limit::new(&settings);
    let start = Instant::now();
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    let passed = |limit: &mut Limit, seconds, n: usize| (0..n).filter(|_| limit.allows(RuleId(1), at(seconds))).count();
    assert_eq!(passed(&mut limit, 0.0, 10), 3);
    assert!(limit.allows(RuleId(2), at(0.0)), "each rule has its own");
    assert_eq!(passed(&mut limit, 2.0, 10), 2);
    assert_eq!(passed(&mut limit, 100.0, 10), 3);
}

#[test]
fn a_full_queue_counts_what_it_drops() {
    let queue = Arc::new(LogQueue::default());
    let mut tap = LogTap(Arc::clone(&queue));
    let decision =
        Decision::new(Verdict::Deny, crate::engine::Reason::PolicyDeny, Stage::PreDnat, FlowState::New).after_logs(1);
    let seen = Judged {
        position: 0,
        number: 0,
        frame: &[0; 60],
        direction: Direction::Inbound,
        now: crate::base::time::Now(0),
        decision,
        generation: 1,
    };
    for _ in 0..SLOTS + 10 {
        tap.judged(seen);
    }
    tap.judged(Judged { decision: decision.after_logs(0), ..seen });
    assert_eq!((queue.records.len(), queue.lost()), (SLOTS, 10));
}

#[test]
fn log_3_a_reload_brings_its_own_prefix_and_rate_limit() {
    let (program, _) = program();
    let queue = LogQueue::default();
    let with = |prefix: &str, rate: &str| LogSettings {
        prefix: Some(prefix.to_string()),
        rate_limit: Some(rate.to_string()),
        burst: Some(1),
    };
    queue.knows(Arc::clone(&program), with("old", "1/day"));
    let known = queue.known(program.generation).unwrap();
    assert_eq!(line::prefix(&known.settings, None), "old: ");
    assert!(queue.known(program.generation + 1).is_none());
    let now = Instant::now();
    let mut limits = Limits::default();
    let (old, new) = (with("old", "1/day"), with("new", "1/day"));
    assert!(limits.of(1, &old).allows(RuleId(0), now));
    assert!(!limits.of(1, &old).allows(RuleId(0), now), "the same generation shares its bucket");
    assert!(limits.of(2, &new).allows(RuleId(0), now), "rule 0 of another generation is another rule");
}
