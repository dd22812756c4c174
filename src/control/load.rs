//! A gateway file and policy files in, a compiled program with all findings out: one load, atomic (GW-21).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::base::id::WorkerId;
use crate::base::site::V1Forward;
use crate::compile;
use crate::config::{self, Plan, Timeouts};
use crate::engine::flow::table::Timeouts as FlowTimeouts;
use crate::engine::{FlowSettings, Program, Settings};
use crate::packet::{Options, PassList};
use crate::policy::ir::Policy;
use crate::policy::load::{LoadOptions, load as load_policy};
use crate::policy::source::{Source, collect};
use crate::policy::v1;
use crate::worker::Load;

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The gateway file; `None` = `gateway.yaml` where it exists, else a gateway without ports when `policy` is given.
    pub gateway: Option<PathBuf>,
    /// Takes the place of the gateway file's `policy:` list when not empty.
    pub policy: Vec<PathBuf>,
    /// Unknown fields are warnings (IN-3).
    pub lenient: bool,
    /// Values of variables in `.ibmcloud` files.
    pub variables: BTreeMap<String, String>,
}

/// The file that is read when none is named.
pub const DEFAULT_GATEWAY: &str = "gateway.yaml";

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The box.
    pub plan: Plan,
    /// The policy.
    pub policy: Policy,
    /// The program.
    pub program: Arc<Program>,
}

/// A load with everything that was found on the way.
#[derive(Debug)]
pub struct Outcome {
    /// What was loaded; `None` when there are errors.
    pub loaded: Option<Loaded>,
    /// Errors, warnings and notes, in order.
    pub findings: Diagnostics,
    /// The policy files that were read, for showing places.
    pub sources: Vec<Source>,
}

/// Loads and compiles for this many workers. Everything that is wrong in all files is reported at once.
pub fn load(request: &Request, generation: u64, workers: Option<usize>) -> Outcome {
    let mut findings = Diagnostics::new();
    let refused = |mut findings: Diagnostics, sources| {
        findings.sort();
        Outcome { loaded: None, findings, sources }
    };
    let plan = match gateway(request) {
        Ok(plan) => {
            findings.extend(plan.warnings.clone());
            Some(plan)
        }
        Err(found) => {
            findings.extend(found);
            None
        }
    };
    // A broken gateway file does not hide what is wrong with policies that the command line names.
    let directory = plan.as_ref().map_or(PathBuf::new(), |plan| plan.directory.clone());
    let (paths, base) = match (&plan, request.policy.is_empty()) {
        (_, false) => (request.policy.clone(), PathBuf::new()),
        (Some(plan), true) => (plan.policy.iter().map(|p| p.path.clone()).collect(), directory),
        (None, true) => return refused(findings, Vec::new()),
    };
    let sources = collect(&paths, &base, &mut findings);
    let node = plan.as_ref().and_then(|plan| plan.site.node.clone());
    let options =
        LoadOptions { lenient: request.lenient, node, variables: request.variables.clone(), ..LoadOptions::default() };
    let policy = load_policy(&sources, &options, &mut findings);
    let (Some(plan), Some(policy)) = (plan, policy) else { return refused(findings, sources) };
    if findings.has_errors() {
        return refused(findings, sources);
    }
    let options = compile::Options {
        generation,
        workers: workers.unwrap_or(plan.profile.queues as usize),
        existing_flows: plan.existing_flows,
        ..compile::Options::default()
    };
    let Some(program) = compile::compile(&policy, &plan.site, &options, &mut findings) else {
        return refused(findings, sources);
    };
    if plan.site.v1_forward == V1Forward::V3 {
        findings.extend(v1::forward_warnings(&policy));
    }
    findings.sort();
    let loaded = Loaded { plan, policy, program: Arc::new(program) };
    Outcome { loaded: Some(loaded), findings, sources }
}

fn gateway(request: &Request) -> Result<Plan, Diagnostics> {
    match &request.gateway {
        Some(path) => config::load(path),
        None if Path::new(DEFAULT_GATEWAY).exists() => config::load(Path::new(DEFAULT_GATEWAY)),
        None if !request.policy.is_empty() => Ok(Plan::default()),
        None => {
            let mut findings = Diagnostics::new();
            let error = Diagnostic::error("no-gateway-file", format!("there is no `{DEFAULT_GATEWAY}` here"));
            findings.push(error.help("name one with `--gateway FILE`, or policies with `--policy PATH`"));
            Err(findings)
        }
    }
}

impl Loaded {
    /// What the parser is told.
    pub fn options(&self) -> Options {
        Options {
            // The plan holds no more ethertypes than a list does.
            pass_ethertypes: PassList::new(&self.plan.pass_ethertypes).unwrap_or_default(),
            verify_l4_checksum: self.plan.verify_l4_checksum,
        }
    }

    /// What workers are given to judge by.
    pub fn load(&self) -> Arc<Load> {
        Arc::new(Load { program: Arc::clone(&self.program), options: self.options() })
    }

    /// The engine settings of one of several workers, which share the flow table's capacity. `seed` keys their hashes.
    pub fn settings(&self, worker: WorkerId, workers: usize, seed: [u64; 2]) -> Settings {
        let limits = &self.plan.flows;
        let capacity = (limits.capacity as usize).div_ceil(workers.max(1)).max(1);
        let flows = FlowSettings { capacity, is_loose: limits.is_loose, timeouts: timeouts(&limits.timeouts) };
        Settings { worker, flows, seed, ..Settings::default() }
    }
}

/// Timeouts in nanoseconds, in the order of the engine's states.
fn timeouts(seconds: &Timeouts) -> FlowTimeouts {
    [
        seconds.tcp_syn_sent,
        seconds.tcp_syn_sent,
        seconds.tcp_syn_recv,
        seconds.tcp_established,
        seconds.tcp_fin_wait,
        seconds.tcp_close_wait,
        seconds.tcp_last_ack,
        seconds.tcp_time_wait,
        seconds.tcp_close,
        seconds.udp,
        seconds.udp_stream,
        seconds.icmp,
        seconds.other,
    ]
    .map(|seconds| u64::from(seconds) * 1_000_000_000)
}
