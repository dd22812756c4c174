//! The compiled program against the linear reference: random policies, packets that hit and miss, every standing.

mod random;

use std::collections::BTreeMap;

use random::Dice;
use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::id::RuleId;
use ringwall::compile::reference::{self, Opinion};
use ringwall::compile::{Options, compile};
use ringwall::engine::judge::{Judgement, Standing, judge};
use ringwall::engine::{NoTrace, Program, Recorder};

fn opinion_of(program: &Program, judgement: Judgement) -> Opinion {
    let decision = judgement.decision;
    let origin = if decision.rule == RuleId::NONE { None } else { program.origin(decision.rule) };
    let tier = origin.and_then(|o| o.tier.clone());
    Opinion {
        verdict: decision.verdict(),
        reason: decision.reason,
        stage: decision.stage,
        rule: origin.filter(|o| o.tier.is_none()).map(|o| (o.policy.clone(), o.index)),
        tier,
        logs: decision.logs,
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
    for seed in 0..seeds() {
        let (policy, site) = random::policy(seed);
        let mut findings = Diagnostics::new();
        let Some(program) = compile(&policy, &site, &Options::default(), &mut findings) else {
            let only_known = findings.iter().all(|d| d.code != "internal");
            assert!(only_known, "seed {seed}: {findings:?}");
            *seen.entry("refused").or_default() += 1;
            continue;
        };
        let dice = &mut Dice::new(seed ^ 0xabcd);
        for n in 0..60 {
            let key = random::packet(dice, &policy);
            let standing = *dice.pick(&STANDINGS);
            let expected = reference::judge(&policy, &site, &key, standing);
            let compiled = opinion_of(&program, judge(&program, &key, standing, &mut NoTrace));
            let context = || format!("seed {seed} packet {n} {standing:?} {key:?}\n{policy:#?}\n{site:#?}");
            assert_eq!(compiled, expected, "{}", context());
            let traced = opinion_of(&program, judge(&program, &key, standing, &mut Recorder::default()));
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
    ] {
        assert!(seen.get(reason).is_some_and(|&n| n >= 20), "too few packets ended as {reason}: {seen:?}");
    }
    println!("{seen:?}");
}
