//! Changes of a random policy that must not change a verdict.

use std::collections::BTreeMap;

use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::site::Site;
use ringwall::compile::{Options, compile};
use ringwall::engine::ahead::{Alone, Located};
use ringwall::engine::judge::{Standing, Track, judge};
use ringwall::engine::{FlowState, NoTrace, Program, Verdict};
use ringwall::packet::Key;
use ringwall::policy::ir::*;
use ringwall::policy::selector::Selector;

use crate::random::{self, Dice};

/// What a packet comes to, without the names and numbers of rules.
type Result = (Verdict, FlowState, Track);

fn program(policy: &Policy, site: &Site) -> Option<Program> {
    compile(policy, site, &Options::default(), &mut Diagnostics::new())
}

fn result(program: &Program, key: &Key) -> (Result, u8) {
    let header = Located::Alone(program.classifier.header(key));
    let judgement = judge(program, key, header, Standing::New, &mut Alone, &mut NoTrace);
    let decision = judgement.decision;
    ((decision.verdict(), decision.flow(), judgement.track), decision.logs())
}

/// Every rule list of policies and profiles.
fn lists(policy: &mut Policy) -> Vec<&mut Vec<Rule>> {
    let sets = policy.rulesets.iter_mut().flat_map(|r| [r.ingress.as_mut(), r.egress.as_mut()]).flatten();
    let profiles = policy.profiles.values_mut().flat_map(|p| [&mut p.ingress, &mut p.egress]);
    sets.chain(profiles).collect()
}

/// Applies a change to a policy; says how often it did something.
type Change = fn(&mut Dice, &mut Policy, &mut Site) -> usize;

/// Runs a change over many random policies and packets; `logs` compares the number of Log actions before and after.
fn check(name: &str, change: Change, logs: fn(u8, u8) -> bool) {
    let (mut changed, mut verdicts) = (0, BTreeMap::new());
    for seed in 0..700 {
        let (before, site) = random::policies::policy(seed);
        let dice = &mut Dice::new(seed ^ 0x77);
        let (mut after, mut site_after) = (before.clone(), site.clone());
        let count = change(dice, &mut after, &mut site_after);
        let (Some(first), Some(second)) = (program(&before, &site), program(&after, &site_after)) else { continue };
        changed += count;
        for n in 0..40 {
            let key = random::packets::packet(dice, &before);
            let ((one, one_logs), (two, two_logs)) = (result(&first, &key), result(&second, &key));
            assert_eq!(one, two, "{name}: seed {seed} packet {n} {key:?}\n{before:#?}\n{after:#?}");
            assert!(
                logs(one_logs, two_logs),
                "{name}: seed {seed} packet {n}: {one_logs} Log actions, then {two_logs}"
            );
            *verdicts.entry(one.0.name()).or_insert(0) += 1;
        }
    }
    println!("{name}: {changed} changes, {verdicts:?}");
    assert!(
        changed > 100 && verdicts.len() == 2 && verdicts.values().all(|n| *n > 1000),
        "{name}: {changed} {verdicts:?}"
    );
}

fn same(before: u8, after: u8) -> bool {
    before == after
}

fn no_fewer(before: u8, after: u8) -> bool {
    before <= after
}

#[test]
fn nets_split_over_two_rules() {
    let change: Change = |_, policy, _| {
        let mut count = 0;
        for list in lists(policy) {
            let mut split = Vec::new();
            for rule in list.drain(..) {
                let is_source = rule.source.nets.len() > 1;
                if !is_source && rule.destination.nets.len() < 2 {
                    split.push(rule);
                    continue;
                }
                count += 1;
                let (mut one, mut two) = (rule.clone(), rule);
                let part = |rule: &mut Rule, is_first: bool| {
                    let nets = if is_source { &mut rule.source.nets } else { &mut rule.destination.nets };
                    let rest = nets.split_off(1);
                    if !is_first {
                        *nets = rest;
                    }
                };
                part(&mut one, true);
                part(&mut two, false);
                split.extend([one, two]);
            }
            *list = split;
        }
        count
    };
    // An address in both halves is logged twice.
    check("split nets", change, no_fewer);
}

#[test]
fn a_rule_that_is_never_reached() {
    let change: Change = |dice, policy, _| {
        let mut count = 0;
        for list in lists(policy) {
            let Some(at) = list.iter().position(|r| r.action != Action::Log) else { continue };
            // The same criteria again behind a rule that decides.
            let mut twin = list[at].clone();
            twin.action = *dice.pick(&[Action::Allow, Action::Deny, Action::Pass, Action::Log]);
            let place = at + 1 + dice.below(list.len() - at);
            list.insert(place, twin);
            count += 1;
        }
        count
    };
    check("unreachable rule", change, same);
}

#[test]
fn a_log_rule() {
    let change: Change = |dice, policy, _| {
        let mut count = 0;
        for list in lists(policy).into_iter().filter(|list| !list.is_empty()) {
            let mut log = dice.pick(list).clone();
            log.action = Action::Log;
            let place = dice.below(list.len() + 1);
            list.insert(place, log);
            count += 1;
        }
        count
    };
    check("Log rule", change, no_fewer);
}

#[test]
fn a_policy_that_never_matches() {
    let change: Change = |dice, policy, _| {
        let Some(model) = policy.rulesets.first().cloned() else { return 0 };
        // It governs nobody.
        let mut nobody = model.clone();
        nobody.name = "nobody".to_string();
        nobody.selector = Selector::parse("has(nobody-has-this)").expect("a selector");
        // It governs whom another one governs already, by rules that no packet meets.
        let mut nothing = model;
        nothing.name = "nothing".to_string();
        for rule in [&mut nothing.ingress, &mut nothing.egress].into_iter().flatten().flatten() {
            rule.source.nets = vec!["203.0.113.0/24".parse().expect("a prefix")];
        }
        let tier = policy.rulesets.iter().take_while(|r| r.tier == nobody.tier).count();
        for added in [nobody, nothing] {
            policy.rulesets.insert(dice.below(tier + 1), added);
        }
        1
    };
    check("policy that never matches", change, same);
}

#[test]
fn labels_renamed() {
    let change: Change = |_, policy, _| {
        let rename = |labels: &mut Labels| {
            *labels = std::mem::take(labels).into_iter().map(|(k, v)| (format!("new-{k}"), v)).collect();
        };
        policy.pods.iter_mut().for_each(|p| rename(&mut p.labels));
        policy.host_endpoints.iter_mut().for_each(|e| rename(&mut e.labels));
        policy.network_sets.iter_mut().for_each(|s| rename(&mut s.labels));
        // Everything has a `kind`.
        let selector = |s: &mut Selector| *s = s.prefixed("new-", "new-kind");
        policy.rulesets.iter_mut().for_each(|r| selector(&mut r.selector));
        for rule in lists(policy).into_iter().flatten() {
            for peer in [&mut rule.source, &mut rule.destination] {
                [&mut peer.selector, &mut peer.not_selector].into_iter().flatten().for_each(selector);
            }
        }
        1
    };
    check("labels renamed", change, same);
}

#[test]
fn policies_of_a_tier_renamed_and_rules_given_new_numbers() {
    let change: Change = |dice, policy, _| {
        for ruleset in &mut policy.rulesets {
            ruleset.name = format!("q{}", dice.next());
            ruleset.display = ruleset.name.clone();
        }
        policy.rulesets.len()
    };
    check("policies renamed", change, same);
}
