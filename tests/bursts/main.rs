//! What an engine does for many packets at once or remembers from one to the next, against the same packets one by one with
//! nothing remembered: look-ups made ahead, stateless verdicts kept in flows, packets that pass before their turn.

#[path = "../gateway/mod.rs"]
mod gateway;
#[path = "../random/mod.rs"]
#[allow(dead_code)]
mod random;

mod ahead;
mod early;
mod remembered;

use std::sync::Arc;

use ringwall::base::id::RuleId;
use ringwall::base::time::Now;
use ringwall::engine::flow::table::Flow;
use ringwall::engine::{Batch, Counters, Decision, Engine, FlowSettings, Program, Settings, Trace};
use ringwall::packet::Options;

use random::traffic::Arrival;

/// An engine, its columns, and what it has decided so far. Its program is its own, with the counters in it.
struct Gate {
    engine: Engine,
    batch: Batch,
    decisions: Vec<Decision>,
    now: Now,
}

/// All that packets change: counters, how often each rule decided, flows in the order of their keys.
#[derive(Debug, PartialEq)]
struct Marks {
    counters: Counters,
    hits: Vec<u64>,
    flows: Vec<Flow>,
}

fn flow_settings() -> FlowSettings {
    FlowSettings { capacity: 2048, ..FlowSettings::default() }
}

impl Gate {
    fn new(program: Program) -> Gate {
        Gate::with(program, flow_settings())
    }

    /// The same with a flow table of another size.
    fn with(program: Program, flows: FlowSettings) -> Gate {
        let settings = Settings { flows, datagrams: 256, seed: [7, 9], ..Settings::default() };
        let engine = Engine::new(Arc::new(program), &settings);
        Gate { engine, batch: Batch::new(), decisions: Vec::new(), now: Now(0) }
    }

    /// Forgets flows, fragments and decisions; the counters go on.
    fn forget(&mut self) {
        self.engine.forget();
        self.decisions.clear();
        self.now = Now(0);
    }

    /// Judges packets in bursts of so many, the last one shorter.
    fn judge<T: Trace>(&mut self, arrivals: &[Arrival], burst: usize, trace: &mut T) {
        for burst in arrivals.chunks(burst) {
            self.batch.clear();
            for arrival in burst {
                self.batch.add(&arrival.frame, arrival.direction, arrival.time, &Options::default()).unwrap();
            }
            self.engine.process(&mut self.batch, trace);
            self.now = burst.iter().fold(self.now, |now, arrival| now.at_least(arrival.time));
            self.decisions.extend((0..burst.len()).map(|at| self.batch.decision(at)));
        }
    }

    /// What the packets so far have changed. Expired flows are none; when they are reclaimed is another matter.
    fn marks(&self) -> Marks {
        let program = self.engine.program();
        let timeouts = flow_settings().timeouts;
        let is_live = |flow: &Flow| self.now.since(flow.last) < timeouts[flow.state.index()];
        let mut flows: Vec<Flow> = self.engine.flows().table().iter().filter(is_live).collect();
        flows.sort_by_key(|flow| format!("{:?}", flow.key));
        Marks {
            counters: self.engine.counters().clone(),
            hits: (0..program.origins.len() as u32).map(|rule| program.hits.total(RuleId(rule))).collect(),
            flows,
        }
    }
}
