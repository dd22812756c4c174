//! The classifier against a linear search over the same boxes: every instruction level, every batch length, lists of every shape.

mod linear;
#[allow(dead_code)] // The policies of the generator are hardly used here.
#[path = "../random/mod.rs"]
mod random;
mod shapes;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linear::{Scope, Universe, answers, build, compare, first, keys, part, whole};
use random::Dice;
use ringwall::base::address::{Family, address};
use ringwall::base::diagnostic::Diagnostics;
use ringwall::base::wide::Level;
use ringwall::compile::boxes::{Match, PortSet, ProtocolSet};
use ringwall::compile::dimensions::{MEMORY, Refusal, classifier};
use ringwall::compile::ranges::{AddressSet, Ranges};
use ringwall::compile::{Options, compile};
use ringwall::engine::program::classifier::{Classifier, Found, NONE};
use ringwall::engine::program::header::{Header, Headers, LANES};
use ringwall::packet::Key;

#[test]
fn every_level_finds_what_a_linear_search_finds() {
    let mut structures = BTreeSet::new();
    let mut outcomes = [0; 2];
    for (seed, (rules, bits, v6)) in [
        (1, 4, 0),
        (40, 6, 30),
        (100, 10, 100),
        (300, 5, 50),
        (300, 16, 0),
        (300, 20, 40),
        (900, 12, 20),
        (2_000, 24, 10),
    ]
    .into_iter()
    .enumerate()
    {
        let dice = &mut Dice::new(seed as u64);
        let universe = Universe { bits, v6 };
        let rules: Vec<Match> = (0..rules).map(|_| universe.rule(dice)).collect();
        let len = rules.len() as u32;
        // The whole, a part, and one of many pieces.
        let pieces = (0..len / 3).map(|at| 3 * at..3 * at + 1 + at % 2).collect::<Vec<_>>();
        let scopes: Vec<Scope> = vec![whole(&rules), part(len / 4..len - len / 4), Rc::from(pieces), Rc::from([])];
        let built = build(&rules, &scopes);
        structures.extend(built.shapes().iter().map(|shape| shape.structure));
        let keys = keys(universe, &rules, 400, dice);
        let [hits, misses] = compare(&format!("set {seed}"), &rules, &scopes, &keys, &built);
        outcomes = [outcomes[0] + hits, outcomes[1] + misses];
    }
    assert!(outcomes.iter().all(|&n| n > 1_000), "hits and misses: {outcomes:?}");
    assert!(structures.contains("bit-vectors") && structures.len() >= 3, "{structures:?}");
}

#[test]
fn bursts_of_every_length_and_mixed_families_are_answered() {
    let dice = &mut Dice::new(77);
    let universe = Universe { bits: 10, v6: 50 };
    let rules: Vec<Match> = (0..400).map(|_| universe.rule(dice)).collect();
    let built = build(&rules, &[whole(&rules)]);
    for length in 0..=LANES {
        let keys = keys(universe, &rules, length, dice);
        let expected: Vec<u32> = keys.iter().map(|key| first(&rules, &whole(&rules), key, 0)).collect();
        for level in Level::all() {
            let classifier = built.clone().with_level(level);
            let (mut headers, mut found) = (Headers::default(), Found::default());
            classifier.headers(&keys, &mut headers);
            assert_eq!(headers.len(), length);
            let burst: Vec<Header> = (0..length).map(|at| headers.get(at)).collect();
            let alone: Vec<Header> = keys.iter().map(|key| classifier.header(key)).collect();
            assert_eq!(burst, alone, "{length} {}", level.name());
            classifier.first_of_each(&headers, 0, &mut found);
            assert_eq!(found.entries()[..length], expected, "{length} {}", level.name());
        }
    }
}

/// Sets that no prefix describes, as selectors give them: each entry its own random part of many hosts.
fn selectors(entries: usize, hosts: u32, share: u64, dice: &mut Dice) -> Vec<Match> {
    let set = |dice: &mut Dice| {
        let members: Vec<_> = (0..hosts)
            .filter(|_| dice.chance(share))
            .map(|h| address(Family::V4, 0x0a00_0000 + 2 * u128::from(h)))
            .collect();
        Some(Rc::new(AddressSet::of_addresses(&members)))
    };
    (0..entries).map(|_| Match { src: set(dice), dst: set(dice), ..Match::EVERYTHING }).collect()
}

#[test]
fn sets_of_thousands_of_addresses_stay_sets() {
    let dice = &mut Dice::new(5);
    let universe = Universe { bits: 14, v6: 0 };
    let mut rules = selectors(40, 5_000, 30, dice);
    rules.extend((0..300).map(|_| universe.rule(dice)));
    let built = build(&rules, &[whole(&rules)]);
    let keys = keys(universe, &rules, 600, dice);
    compare("selectors", &rules, &[whole(&rules)], &keys, &built);
}

#[test]
fn lists_whose_entries_all_overlap_keep_within_bounds() {
    let dice = &mut Dice::new(6);
    let rules = selectors(500, 600, 50, dice);
    let built = build(&rules, &[whole(&rules)]);
    assert!(built.bytes() < 24 << 20, "{:?}", built.shapes());
    let keys = keys(Universe { bits: 11, v6: 0 }, &rules, 400, dice);
    compare("overlapping sets", &rules, &[whole(&rules)], &keys, &built);

    // Each range of ports holds the next, and so do the prefixes, as far as prefixes go.
    let nested: Vec<Match> = (0..1_000u32)
        .map(|i| {
            let net = |i: u32| Some(Rc::new(AddressSet::of([(address(Family::V4, 0), (32 - i % 32) as u8)])));
            let range = PortSet::In(Ranges::one(u128::from(20_000 - 20 * i.min(999)), u128::from(30_000 + 20 * i)));
            Match { src: net(i), dst: net(i / 32), sport: range.clone(), dport: range, ..Match::EVERYTHING }
        })
        .collect();
    let built = build(&nested, &[whole(&nested)]);
    let keys: Vec<Key> = (0..400).map(|_| Universe { bits: 11, v6: 0 }.near(dice.pick(&nested), dice)).collect();
    compare("nested", &nested, &[whole(&nested)], &keys, &built);
}

#[test]
fn more_than_512_combinations_of_ports_are_told_apart() {
    let dice = &mut Dice::new(8);
    let universe = Universe { bits: 12, v6: 10 };
    let mut rules: Vec<Match> = Vec::new();
    for n in 0..3_000u32 {
        let range = |n: u32| PortSet::In(Ranges::one(u128::from(n % 60_000), u128::from(n % 60_000 + n % 97)));
        let (sport, dport) = (range(n * 37), range(n * 101));
        let (src, dst) = if n % 5 == 0 { (None, None) } else { (universe.side(dice), universe.side(dice)) };
        let protocols = ProtocolSet::of(&[Family::V4, Family::V6], [if n % 2 == 0 { 6 } else { 17 }]);
        rules.push(Match { src, dst, sport, dport, protocols });
    }
    let built = build(&rules, &[whole(&rules)]);
    let keys = keys(universe, &rules, 800, dice);
    let [hits, _] = compare("ports", &rules, &[whole(&rules)], &keys, &built);
    assert!(hits > 100, "{hits}");
}

#[test]
fn evaluation_goes_on_behind_any_entry_of_a_long_list() {
    let dice = &mut Dice::new(9);
    let universe = Universe { bits: 20, v6: 30 };
    let rules: Vec<Match> = (0..700).map(|_| universe.rule(dice)).collect();
    let scopes = [whole(&rules), part(10..600)];
    let built = classifier(&rules, &scopes, |entry| entry % 5 == 0, MEMORY).unwrap();
    let names: Vec<&str> = built.shapes().iter().map(|shape| shape.structure).collect();
    assert!(names.len() > 1 && names.last() == Some(&"bit-vectors"), "taken apart and in bit vectors: {names:?}");
    let keys = keys(universe, &rules, 200, dice);
    compare("resuming", &rules, &scopes, &keys, &built);
    for key in &keys {
        let header = built.header(key);
        for (number, scope) in scopes.iter().enumerate() {
            // As evaluation does: behind each entry that is found.
            let mut from = 0;
            loop {
                let found = built.first(header, number as u32, from);
                assert_eq!(found.unwrap_or(NONE), first(&rules, scope, key, from), "from {from} {key:?}");
                let Some(found) = found else { break };
                from = found + 1;
            }
        }
    }
}

#[test]
fn what_does_not_fit_the_memory_falls_back_and_then_is_refused() {
    let dice = &mut Dice::new(10);
    let universe = Universe { bits: 24, v6: 0 };
    let host = |dice: &mut Dice| AddressSet::of([(address(Family::V4, universe.address(Family::V4, dice)), 32)]);
    let of_host = |dice: &mut Dice| Match { src: Some(Rc::new(host(dice))), ..universe.rule(dice) };
    let rules: Vec<Match> = (0..1_500).map(|_| of_host(dice)).collect();
    let scopes = [whole(&rules)];
    let keys = keys(universe, &rules, 200, dice);
    let structures = |built: &Classifier| built.shapes().iter().map(|shape| shape.structure).collect::<Vec<_>>();
    let roomy = build(&rules, &scopes);
    assert_ne!(structures(&roomy), ["bit-vectors"]);

    // The smallest budget with an answer, by halves.
    let (mut refused, mut enough) = (0, roomy.bytes() + (64 << 20));
    while enough - refused > 4_096 {
        let middle = refused + (enough - refused) / 2;
        match classifier(&rules, &scopes, |_| false, middle) {
            Ok(built) => {
                assert!(built.bytes() <= middle, "{} of {middle}", built.bytes());
                enough = middle;
            }
            Err(_) => refused = middle,
        }
    }
    let least = classifier(&rules, &scopes, |_| false, enough).unwrap();
    compare("least memory", &rules, &scopes, &keys, &least);

    let refusal = classifier(&rules, &scopes, |_| false, refused).unwrap_err();
    let Refusal::Lists { entries, lists, .. } = refusal else { panic!("{refusal:?}") };
    assert_eq!((entries, lists), (rules.len(), 1));
    let text = refusal.diagnostic().to_string();
    for part in ["1500 entries in 1 lists", "MiB"] {
        assert!(text.contains(part), "{text}");
    }
    let none = classifier(&rules, &scopes, |_| false, 1_000).unwrap_err();
    assert!(matches!(none, Refusal::Fields { memory: 1_000, .. }), "{none:?}");

    // Broad sets on both sides, where bit vectors are the smaller structure.
    let rules = selectors(400, 500, 50, dice);
    let built = build(&rules, &[whole(&rules)]);
    assert_eq!(structures(&built), ["bit-vectors"]);
}

#[test]
fn policies_that_do_not_fit_are_refused_with_the_sizes_and_a_cure() {
    let (policy, site) = random::policies::policy(1);
    let mut findings = Diagnostics::new();
    let options = Options { memory: 100_000, ..Options::default() };
    assert!(compile(&policy, &site, &options, &mut findings).is_none());
    let refusal = findings.iter().find(|finding| finding.code == "program-too-large").unwrap();
    assert!(refusal.message.contains("MiB") && refusal.message.contains("0.1 MiB is all it may take"), "{refusal}");
    assert!(refusal.help.as_ref().is_some_and(|help| help.contains("fewer different selectors")), "{refusal}");
    assert!(compile(&policy, &site, &Options::default(), &mut Diagnostics::new()).is_some());
}

#[test]
fn lists_that_share_most_entries_do_not_multiply_the_memory_beyond_the_budget() {
    let dice = &mut Dice::new(11);
    let universe = Universe { bits: 16, v6: 0 };
    let rules: Vec<Match> = (0..3_000).map(|_| universe.rule(dice)).collect();
    // Fifty endpoints, each with the same long policy and an entry of its own before it.
    let scopes: Vec<Scope> = (0..50).map(|i| Rc::from([i..i + 1, 50..3_000])).collect();
    let one = build(&rules, &scopes[..1]).bytes();
    let memory = 4 * one;
    let built = classifier(&rules, &scopes, |_| false, memory).unwrap();
    assert!(built.bytes() <= memory);
    let keys = keys(universe, &rules, 60, dice);
    compare("shared", &rules, &scopes, &keys, &built);
}

#[test]
fn a_rebuild_beside_look_ups_disturbs_no_answer() {
    let dice = &mut Dice::new(12);
    let universe = Universe { bits: 20, v6: 10 };
    let rules: Vec<Match> = (0..10_000).map(|_| universe.rule(dice)).collect();
    let scope = whole(&rules);
    let keys = keys(universe, &rules, 64, dice);
    let built = Arc::new(build(&rules, std::slice::from_ref(&scope)));
    let expected = answers(&built, 0, &keys, LANES);
    let is_over = Arc::new(AtomicBool::new(false));
    let looking = {
        let (built, is_over, keys) = (Arc::clone(&built), Arc::clone(&is_over), keys.clone());
        std::thread::spawn(move || {
            let mut bursts = 0u64;
            while !is_over.load(Ordering::Relaxed) || bursts == 0 {
                assert_eq!(answers(&built, 0, &keys, LANES), expected);
                bursts += 1;
            }
        })
    };
    // One rule changes; the new classifier knows it, the old one goes on as before.
    let mut changed = rules.clone();
    changed[0] = Match::EVERYTHING;
    let rebuilt = build(&changed, &[scope]);
    is_over.store(true, Ordering::Relaxed);
    looking.join().unwrap();
    assert_eq!(answers(&rebuilt, 0, &keys, LANES), vec![0; keys.len()]);
}
