//! A gateway file, policy files and packets in text in, verdicts of the compiled engine out; the linear reference is asked about
//! every packet that has a key, and must agree.

// Each test binary uses its own part of this module.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringwall::base::address::Direction;
use ringwall::base::diagnostic::{Diagnostics, Span};
use ringwall::base::id::RuleId;
use ringwall::base::site::{ExistingFlows, Site};
use ringwall::base::time::Now;
use ringwall::cli::{packet_object, packet_text, verdict};
use ringwall::compile::{self, compile, reference};
use ringwall::config;
use ringwall::engine::flow::table::Flow;
use ringwall::engine::{Batch, Decision, Engine, FlowSettings, NoTrace, Settings, Verdict};
use ringwall::packet::{KeyBits, Options, PacketSpec, Parsed, build};
use ringwall::policy::ir::Policy;
use ringwall::policy::load::{LoadOptions, load};
use ringwall::policy::source::{Source, collect};

/// What became of a packet, in the words of `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub is_allowed: bool,
    pub reason: &'static str,
    pub stage: &'static str,
    pub policy: Option<String>,
    pub rule: Option<u32>,
    pub tier: Option<String>,
    pub flow: &'static str,
    pub logs: u8,
    /// The whole line of `explain --packets -o json`.
    pub line: String,
}

/// Flows that fit a gateway under test which says nothing else.
const FLOWS: usize = 512;

/// A gateway under test: one engine with one flow table.
pub struct Gateway {
    pub policy: Policy,
    pub site: Site,
    pub warnings: Vec<String>,
    existing_flows: ExistingFlows,
    engine: Engine,
    batch: Batch,
    generation: u64,
    judged: u64,
}

/// Reads policy files; errors are those of `check`.
pub fn read(files: &[(&str, &str)]) -> Result<(Policy, Vec<String>), Vec<String>> {
    let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
    read_sources(&sources)
}

/// As [`read`], from files that were collected.
pub fn read_sources(sources: &[Source]) -> Result<(Policy, Vec<String>), Vec<String>> {
    let mut out = Diagnostics::new();
    let policy = load(sources, &LoadOptions::default(), &mut out);
    let findings: Vec<String> = out.iter().map(|d| format!("{} [{}]", d, d.code)).collect();
    policy.map(|policy| (policy, findings.clone())).ok_or(findings)
}

/// Where the shared material lies; prints why when it does not.
pub fn shared() -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let root = if beside.is_dir() { Some(beside) } else { std::env::var_os("RINGWALL_SHARED").map(PathBuf::from) };
    if root.is_none() {
        println!("skipped: the shared corpus is not there");
    }
    root
}

/// Files and directories below `base`, which must be readable.
pub fn files(base: &Path, paths: &[&str]) -> Vec<Source> {
    let mut out = Diagnostics::new();
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let sources = collect(&paths, base, &mut out);
    assert!(!out.has_errors(), "{out:?}");
    sources
}

/// A file of the project.
pub fn project_file(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

impl Gateway {
    /// Loads as the binary does. The gateway text may leave out `apiVersion` and `kind`.
    pub fn new(gateway: &str, files: &[(&str, &str)]) -> Gateway {
        let (policy, warnings) = read(files).unwrap_or_else(|findings| panic!("{findings:#?}"));
        Gateway { warnings, ..Gateway::with_policy(gateway, policy) }
    }

    /// With a policy that was read before.
    pub fn with_policy(gateway: &str, policy: Policy) -> Gateway {
        let text = format!("apiVersion: ringwall/v1\nkind: Gateway\n{gateway}");
        let plan = config::parse(Path::new("gateway.yaml"), &text).unwrap_or_else(|found| panic!("{found:#?}"));
        let capacity = if text.contains("capacity") { plan.flows.capacity as usize } else { FLOWS };
        let flows = FlowSettings { capacity, is_loose: plan.flows.is_loose, ..FlowSettings::default() };
        let mut gateway = Gateway::sized(policy, plan.site, flows);
        gateway.existing_flows = plan.existing_flows;
        gateway
    }

    /// From the intermediate form.
    pub fn of(policy: Policy, site: Site) -> Gateway {
        Gateway::sized(policy, site, FlowSettings { capacity: FLOWS, ..FlowSettings::default() })
    }

    /// The flows that are remembered, expired but unreclaimed ones included.
    pub fn flows(&self) -> impl Iterator<Item = Flow> {
        self.engine.flows().table().iter()
    }

    fn sized(policy: Policy, site: Site, flows: FlowSettings) -> Gateway {
        let program = program(&policy, &site, 1, ExistingFlows::Keep);
        let engine = Engine::new(Arc::new(program), &Settings { flows, datagrams: 16, ..Settings::default() });
        Gateway {
            policy,
            site,
            warnings: Vec::new(),
            existing_flows: ExistingFlows::Keep,
            engine,
            batch: Batch::new(),
            generation: 1,
            judged: 0,
        }
    }

    /// Takes other policy files while the flows live on.
    pub fn reload(&mut self, files: &[(&str, &str)]) {
        let (policy, warnings) = read(files).unwrap_or_else(|findings| panic!("{findings:#?}"));
        self.generation += 1;
        let program = program(&policy, &self.site, self.generation, self.existing_flows);
        self.engine.adopt(Arc::new(program));
        (self.policy, self.warnings) = (policy, warnings);
    }

    /// Judges one packet after those before it: a JSON packet object, or `in` or `out` and the text form of `explain`.
    pub fn packet(&mut self, line: &str) -> Outcome {
        if line.trim_start().starts_with('{') {
            let at = Span { file: "packets".into(), line: 1, column: 1 };
            let object = packet_object::read_line(line, &at).unwrap_or_else(|e| panic!("{line}: {e}"));
            return self.judge(&object.spec, object.direction, object.time, line);
        }
        let (side, text) = line.split_once(' ').unwrap_or_else(|| panic!("{line}: `in` or `out` and a packet"));
        let direction = match side {
            "in" => Direction::Inbound,
            "out" => Direction::Outbound,
            _ => panic!("{line}: begin with `in` or `out`"),
        };
        let spec = packet_text::read_text(text.trim()).unwrap_or_else(|e| panic!("{line}: {e}"));
        self.judge(&spec, direction, Now(0), line)
    }

    /// Judges one packet as the first one ever.
    pub fn alone(&mut self, line: &str) -> Outcome {
        self.engine.forget();
        self.packet(line)
    }

    /// As [`Gateway::alone`], of a packet that is not text.
    pub fn alone_spec(&mut self, spec: &PacketSpec, direction: Direction) -> Outcome {
        if self.engine.flows().table().used() > 0 {
            self.engine.forget();
        }
        self.judge(spec, direction, Now(0), "")
    }

    /// Packets judged so far.
    pub fn judged(&self) -> u64 {
        self.judged
    }

    fn judge(&mut self, spec: &PacketSpec, direction: Direction, time: Now, line: &str) -> Outcome {
        self.judged += 1;
        self.batch.clear();
        let frame = build(spec);
        self.batch.add(&frame, direction, time, &Options::default()).expect("an empty batch has room");
        if spec.window.is_none() {
            self.batch.forget_window(0);
        }
        let key = *self.batch.key(0);
        let is_whole = !key.has(KeyBits::FIRST_FRAGMENT | KeyBits::LATER_FRAGMENT);
        let expected = (self.batch.parsed(0) == Parsed::Key && is_whole).then(|| {
            let look = self.engine.flows().look(&key, self.batch.quote(0), time);
            (look.again.is_none()).then(|| reference::judge(&self.policy, &self.site, &key, look.standing))
        });
        self.engine.process(&mut self.batch, &mut NoTrace);
        let outcome = self.outcome(self.batch.decision(0));
        // The limits of the flow table come after all layers (GW-24); the reference knows no table.
        let is_limit = matches!(outcome.reason, "half-open-limit" | "flow-table-full");
        if let Some(expected) = expected.flatten().filter(|_| !is_limit) {
            let opinion = (expected.verdict == Verdict::Allow, expected.reason.name(), expected.stage.name());
            let ours = (outcome.is_allowed, outcome.reason, outcome.stage);
            assert_eq!(ours, opinion, "the reference thinks otherwise of {line} {spec:?}: {expected:?}");
            let rule = outcome.policy.clone().zip(outcome.rule);
            assert_eq!(rule, expected.rule, "the reference names another rule for {line} {spec:?}");
            assert_eq!((&outcome.tier, outcome.logs), (&expected.tier, expected.logs), "{line} {spec:?}");
        }
        outcome
    }

    fn outcome(&self, decision: Decision) -> Outcome {
        let program = self.engine.program();
        let origin = if decision.rule() == RuleId::NONE { None } else { program.origin(decision.rule()) };
        let rule = origin.filter(|o| o.tier.is_none());
        Outcome {
            is_allowed: decision.verdict() == Verdict::Allow,
            reason: decision.reason().name(),
            stage: decision.stage().name(),
            policy: rule.map(|o| o.policy.clone()),
            rule: rule.map(|o| o.index),
            tier: origin.and_then(|o| o.tier.clone()),
            flow: decision.flow().name(),
            logs: decision.logs(),
            line: verdict::Line::new(program, self.judged, decision).json(),
        }
    }

    /// One line of data: a row's name, a packet judged alone, and `pass` or `drop`, with words that the outcome must hold:
    /// a reason, a stage, or `policy#rule`.
    pub fn check(&mut self, row: &str, packet: &str, expected: &str) {
        let outcome = self.alone(packet);
        verify(row, packet, expected, &outcome);
    }

    /// As [`Gateway::check`], after the packets before.
    pub fn check_next(&mut self, row: &str, packet: &str, expected: &str) {
        let outcome = self.packet(packet);
        verify(row, packet, expected, &outcome);
    }
}

fn verify(row: &str, packet: &str, expected: &str, outcome: &Outcome) {
    let mut words = expected.split_whitespace();
    let verdict = words.next().expect("`pass` or `drop`");
    assert!(verdict == "pass" || verdict == "drop", "{row}: `{verdict}` is neither `pass` nor `drop`");
    assert_eq!(outcome.is_allowed, verdict == "pass", "{row}: {packet}: {}", outcome.line);
    let by = match (&outcome.policy, outcome.rule) {
        (Some(policy), Some(rule)) => format!("{policy}#{rule}"),
        _ => String::new(),
    };
    for word in words {
        let known = [outcome.reason, outcome.stage, outcome.flow, by.as_str()];
        assert!(known.contains(&word), "{row}: {packet}: expected {word}: {}", outcome.line);
    }
}

fn program(policy: &Policy, site: &Site, generation: u64, existing_flows: ExistingFlows) -> ringwall::engine::Program {
    let mut findings = Diagnostics::new();
    let options = compile::Options { generation, existing_flows, ..compile::Options::default() };
    compile(policy, site, &options, &mut findings).unwrap_or_else(|| panic!("{findings:#?}"))
}
