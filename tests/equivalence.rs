//! The compiled program against the linear reference: random policies, packets that hit and miss, every standing.

mod random;

use std::collections::BTreeMap;
use std::sync::Arc;

use random::Dice;
use random::traffic::{Arrival, arrivals};
use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::id::{RuleId, WorkerId};
use ringwall::base::wide::Level;
use ringwall::compile::reference::{self, Opinion};
use ringwall::compile::{Options, compile};
use ringwall::engine::ahead::{Alone, Located};
use ringwall::engine::judge::{Judgement, Standing, judge};
use ringwall::engine::program::classifier::Shape;
use ringwall::engine::{BATCH, Batch, Decision, Engine, FlowSettings, NoTrace, Program, Recorder, Settings, Verdict};
use ringwall::packet::{Arrival as Received, KeyBits, Options as ParseOptions};

fn opinion_of(program: &Program, judgement: Judgement) -> Opinion {
    let decision = judgement.decision;
    let origin = if decision.rule() == RuleId::NONE { None } else { program.origin(decision.rule()) };
    let tier = origin.and_then(|o| o.tier.clone());
    Opinion {
        verdict: decision.verdict(),
        reason: decision.reason(),
        stage: decision.stage(),
        rule: origin.filter(|o| o.tier.is_none()).map(|o| (o.policy.clone(), o.index)),
        tier,
        logs: decision.logs(),
        flow: decision.flow(),
        track: judgement.track,
    }
}

fn seeds() -> u64 {
    std::env::var("RINGWALL_RANDOM_POLICIES").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000)
}

#[test]
fn compiled_equals_reference_equals_traced() {
    const STANDINGS: [Standing; 8] = [
        Standing::New,
        Standing::New,
        Standing::New,
        Standing::New,
        Standing::Established,
        Standing::Related,
        Standing::GroupsOnly,
        Standing::Invalid,
    ];
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut aims: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..seeds() {
        let (policy, site) = random::policies::policy(seed);
        let mut findings = Diagnostics::new();
        let Some(program) = compile(&policy, &site, &Options::default(), &mut findings) else {
            let only_known = findings.iter().all(|d| d.code != "internal");
            assert!(only_known, "seed {seed}: {findings:?}");
            *seen.entry("refused").or_default() += 1;
            continue;
        };
        let is_long = |shape: &Shape| shape.structure != "bit-vectors" && shape.entries > 256;
        *seen.entry("long list").or_default() += u32::from(program.classifier.shapes().iter().any(is_long));
        let dice = &mut Dice::new(seed ^ 0xabcd);
        for n in 0..60 {
            let key = match random::packets::near_rule(dice, &policy).filter(|_| n % 2 == 0) {
                Some((key, aim)) => {
                    *aims.entry(format!("{aim:?}")).or_default() += 1;
                    key
                }
                None => random::packets::packet(dice, &policy),
            };
            let standing = *dice.pick(&STANDINGS);
            let expected = reference::judge(&policy, &site, &key, standing);
            let header = Located::Alone(program.classifier.header(&key));
            let compiled = opinion_of(&program, judge(&program, &key, header, standing, &mut Alone, &mut NoTrace));
            let context = || format!("seed {seed} packet {n} {standing:?} {key:?}\n{policy:#?}\n{site:#?}");
            assert_eq!(compiled, expected, "{}", context());
            let traced =
                opinion_of(&program, judge(&program, &key, header, standing, &mut Alone, &mut Recorder::default()));
            assert_eq!(traced, expected, "{}", context());
            *seen.entry(expected.reason.name()).or_default() += 1;
        }
    }
    // The test proves nothing about outcomes that it did not produce.
    for reason in [
        "policy-allow",
        "policy-deny",
        "tier-default-deny",
        "no-policy-deny",
        "profile",
        "no-policy",
        "failsafe",
        "established",
        "related",
        "acl-allow",
        "acl-deny",
        "acl-implicit-deny",
        "sg-allow",
        "sg-no-match",
        "source-range",
        "invalid-state",
        "default-allow",
        "default-deny",
        "long list",
    ] {
        assert!(seen.get(reason).is_some_and(|&n| n >= 20), "too few packets ended as {reason}: {seen:?}");
    }
    assert!(aims.len() == 2 && aims.values().all(|&n| n >= 10_000), "too few packets aimed at a rule: {aims:?}");
}

fn engine(program: &Arc<Program>, worker: u32) -> Engine {
    let flows = FlowSettings { capacity: 4096, ..FlowSettings::default() };
    let settings = Settings { worker: WorkerId(worker), flows, datagrams: 256, seed: [7, 9], ..Settings::default() };
    Engine::new(Arc::clone(program), &settings)
}

fn add(batch: &mut Batch, arrival: &Arrival) -> usize {
    batch.add(&arrival.frame, arrival.direction, arrival.time, &ParseOptions::default()).expect("the batch has room")
}

/// Takes a burst in: packet by packet, or in one or two pieces as the packet line does; now and then with packets of other owners
/// between them, which are taken back.
fn take_in(batch: &mut Batch, burst: &[Arrival], arrivals: &[Arrival], dice: &mut Dice) {
    batch.clear();
    let mut kept = vec![true; burst.len()];
    let mut all: Vec<&Arrival> = burst.iter().collect();
    while all.len() < BATCH && dice.chance(30) {
        let at = dice.below(all.len() + 1);
        all.insert(at, dice.pick(arrivals));
        kept.insert(at, false);
    }
    if dice.chance(40) {
        all.iter().for_each(|arrival| {
            add(batch, arrival);
        });
    } else {
        let frames: Vec<Received> = all
            .iter()
            .map(|&Arrival { frame, direction, time }| Received { bytes: frame, direction: *direction, time: *time })
            .collect();
        let (first, second) =
            frames.split_at(if dice.chance(50) { frames.len() } else { dice.below(frames.len() + 1) });
        batch.extend(first, &ParseOptions::default());
        batch.extend(second, &ParseOptions::default());
    }
    assert_eq!(batch.len(), all.len());
    if kept.contains(&false) {
        batch.keep(kept.iter().enumerate().map(|(at, &kept)| u64::from(kept) << at).sum());
    }
    assert_eq!(batch.len(), burst.len());
}

/// The bits by which the packet line sends and drops frames in runs are those of the decisions and of the keys.
fn has_its_outcomes(batch: &Batch, seen: &mut [[u32; 2]; 2]) {
    let (allowed, whole) = batch.outcomes();
    for at in 0..batch.len() {
        let [is_allowed, is_whole] = [allowed, whole].map(|bits| bits >> at & 1 == 1);
        assert_eq!(is_allowed, batch.decision(at).verdict() == Verdict::Allow, "packet {at}: {:?}", batch.decision(at));
        assert_eq!(is_whole, batch.key(at).has(KeyBits::WHOLE), "packet {at}: {:?}", batch.key(at));
        seen[usize::from(is_allowed)][usize::from(is_whole)] += 1;
    }
}

/// Decisions of one engine that takes the packets in bursts of random sizes up to `most`.
fn in_bursts(
    program: &Arc<Program>,
    arrivals: &[Arrival],
    dice: &mut Dice,
    most: usize,
    seen: &mut [[u32; 2]; 2],
) -> Vec<Decision> {
    let mut engine = engine(program, 0);
    // What is decided does not depend on the instructions.
    let mut batch = Batch::at_level(*dice.pick(&Level::all()));
    let mut decisions = Vec::new();
    let mut rest = arrivals;
    while !rest.is_empty() {
        let (burst, after) = rest.split_at(rest.len().min(1 + dice.below(most)));
        rest = after;
        take_in(&mut batch, burst, arrivals, dice);
        for (here, workers) in [(0, 1), (0, 2), (3, 5)].map(|(here, workers)| (WorkerId(here), workers)) {
            let is_one = |at: usize| u64::from(batch.owner(at, here, workers, [7, 9]) != here) << at;
            let strangers = (0..batch.len()).map(is_one).sum::<u64>();
            assert_eq!(batch.strangers(here, workers, [7, 9]), strangers, "{here:?} of {workers}");
        }
        if dice.chance(50) {
            engine.process(&mut batch, &mut NoTrace);
        } else {
            engine.process(&mut batch, &mut Recorder::default());
        }
        has_its_outcomes(&batch, seen);
        decisions.extend((0..batch.len()).map(|at| batch.decision(at)));
    }
    decisions
}

/// Decisions of several workers, each taking the packets that it owns one by one.
fn by_owners(program: &Arc<Program>, arrivals: &[Arrival], workers: u32) -> Vec<Decision> {
    let mut engines: Vec<Engine> = (0..workers).map(|w| engine(program, w)).collect();
    let mut batch = Batch::new();
    let mut decide = |(n, arrival): (usize, &Arrival)| {
        batch.clear();
        let at = add(&mut batch, arrival);
        // Whoever receives a frame finds the same owner.
        let receiver = WorkerId(n as u32 % workers);
        let owner = batch.owner(at, receiver, workers, [7, 9]);
        engines[owner.index()].process(&mut batch, &mut NoTrace);
        batch.decision(at)
    };
    arrivals.iter().enumerate().map(&mut decide).collect()
}

#[test]
fn any_burst_split_and_any_number_of_workers_decide_alike() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut outcomes = [[0; 2]; 2];
    for seed in 0..seeds() / 10 {
        let (policy, site) = random::policies::policy(seed);
        let options = Options { workers: 5, ..Options::default() };
        let Some(program) = compile(&policy, &site, &options, &mut Diagnostics::new()) else { continue };
        let program = Arc::new(program);
        let dice = &mut Dice::new(seed ^ 0x5eed);
        let arrivals = arrivals(dice, 200);
        let one_by_one = in_bursts(&program, &arrivals, dice, 1, &mut outcomes);
        for most in [2, 7, BATCH] {
            let bursts = in_bursts(&program, &arrivals, dice, most, &mut outcomes);
            let differs = bursts.iter().zip(&one_by_one).position(|(a, b)| a != b);
            assert_eq!(differs, None, "seed {seed}, bursts of up to {most}");
        }
        for workers in [2, 5] {
            let shared = by_owners(&program, &arrivals, workers);
            let differs = shared.iter().zip(&one_by_one).position(|(a, b)| a != b);
            assert_eq!(differs, None, "seed {seed}, {workers} workers");
        }
        for decision in one_by_one {
            *seen.entry(decision.reason().name()).or_default() += 1;
        }
    }
    for reason in [
        "established",
        "related",
        "invalid-state",
        "fragment-no-first",
        "fragment-overlap",
        "policy-allow",
        "policy-deny",
    ] {
        assert!(seen.get(reason).is_some_and(|&n| n >= 20), "too few packets ended as {reason}: {seen:?}");
    }
    assert!(
        outcomes.as_flattened().iter().all(|&n| n >= 100),
        "too few denied or allowed, half-made or whole: {outcomes:?}"
    );
}
