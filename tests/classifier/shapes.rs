//! Rule sets of the shapes that force each form of the tables in, the answers of a linear search out.
//!
//! Which form was taken cannot be asked; each test asserts what is seen of the shape from outside, sizes and structures, and says
//! which form that leaves.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use ringwall::base::address::{Family, address};
use ringwall::compile::boxes::{Match, PortSet, ProtocolSet};
use ringwall::compile::dimensions::{MEMORY, Refusal, classifier};
use ringwall::compile::ranges::{AddressSet, Ranges};
use ringwall::engine::program::classifier::{Classifier, NONE, Shape};
use ringwall::packet::{Key, KeyBits};

use crate::linear::{Scope, Universe, answers, build, compare, first, keys, part, whole};
use crate::random::Dice;

/// Rows of a table by name.
fn rows(built: &Classifier, name: &str) -> usize {
    built.sizes().iter().find(|table| table.name == name).unwrap().rows
}

fn hosts(numbers: impl Iterator<Item = u32>) -> Vec<IpAddr> {
    numbers.map(|number| address(Family::V4, u128::from(number))).collect()
}

fn one_port(port: u32) -> PortSet {
    PortSet::In(Ranges::one(u128::from(port), u128::from(port)))
}

/// A thousand keys whose ends are members of sets or their neighbours.
fn beside(sides: [&[IpAddr]; 2], dice: &mut Dice) -> Vec<Key> {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(_) => 0,
    };
    let end = |members: &[IpAddr], dice: &mut Dice| {
        let member = number(*dice.pick(members));
        u128::from(*dice.pick(&[member, member, member.wrapping_add(1), member.wrapping_sub(1), 0, u32::MAX]))
    };
    let key = |dice: &mut Dice| Key {
        src: end(sides[0], dice),
        dst: end(sides[1], dice),
        sport: 1,
        dport: *dice.pick(&[22, 80, 443]),
        protocol: 6,
        bits: KeyBits(KeyBits::L4),
        ..Key::EMPTY
    };
    (0..1_000).map(|_| key(dice)).collect()
}

#[test]
fn more_intervals_or_nodes_than_sixteen_bits_number_are_told_apart() {
    let dice = &mut Dice::new(21);
    let universe = Universe { bits: 24, v6: 20 };
    // Neighbours in few blocks of 65,536 addresses; in so many that each is a tree; one host in each of many blocks.
    let few_blocks = hosts((0..40_000).map(|n| 0x0a00_0000 + 3 * n));
    let many_blocks = hosts((0..36_000).map(|n| 0x0b00_0000 + ((n / 60) << 16) + n % 60 * 900));
    let lonely = hosts((0..20_000).map(|n| 0x1000_0000 + (n << 16) + n % 7));
    for (name, src, dst, least) in [
        ("dense and scattered", &few_blocks, &many_blocks, [1 << 16, 1 << 16]),
        ("scattered and lonely", &many_blocks, &lonely, [1 << 16, 40_000]),
        ("lonely and dense", &lonely, &few_blocks, [40_000, 1 << 16]),
    ] {
        let odd = |members: &[IpAddr]| -> Vec<IpAddr> { members.iter().copied().step_by(2).collect() };
        let set = |members: &[IpAddr]| Some(Rc::new(AddressSet::of_addresses(members)));
        let mut rules: Vec<Match> = vec![
            Match { src: set(&odd(src)), dst: set(&odd(dst)), dport: one_port(22), ..Match::EVERYTHING },
            Match { src: set(src), dst: set(&odd(dst)), dport: one_port(80), ..Match::EVERYTHING },
            Match { src: set(src), dst: set(dst), dport: one_port(443), ..Match::EVERYTHING },
            Match { dst: set(&odd(dst)), ..Match::EVERYTHING },
        ];
        rules.extend((0..300).map(|_| universe.rule(dice)));
        let built = build(&rules, &[whole(&rules), part(0..4)]);
        // Numbers of intervals of more than 16 bits.
        assert!(rows(&built, "source") > least[0], "{name}: {:?}", built.sizes());
        assert!(rows(&built, "destination") > least[1], "{name}: {:?}", built.sizes());
        let mut all = keys(universe, &rules, 400, dice);
        all.extend(beside([src, dst], dice));
        let [hits, misses] = compare(name, &rules, &[whole(&rules), part(0..4)], &all, &built);
        assert!(hits > 500 && misses > 100, "{name}: {hits} hits, {misses} misses");
    }
}

/// Sets of scattered hosts on both sides and ranges of ports of their own: nothing that an address could file away.
fn broad(entries: u32, members: u32, dice: &mut Dice) -> Vec<Match> {
    let set = |dice: &mut Dice| {
        let some = (0..members).filter(|_| dice.chance(50)).map(|n| 0x0a00_0000 + 2 * n);
        Some(Rc::new(AddressSet::of_addresses(&hosts(some))))
    };
    let entry = |n: u32, dice: &mut Dice| Match {
        src: set(dice),
        dst: set(dice),
        dport: PortSet::In(Ranges::one(u128::from(n * 400), u128::from(n * 400 + 100 + n % 500))),
        ..Match::EVERYTHING
    };
    (0..entries).map(|n| entry(n, dice)).collect()
}

/// Keys between the members of [`broad`] sets and beside them, on the edges of its ranges.
fn broad_keys(rules: &[Match], members: u32, dice: &mut Dice) -> Vec<Key> {
    let end = |dice: &mut Dice| 0x0a00_0000 + dice.below(2 * members as usize + 1) as u128;
    let port = |dice: &mut Dice| match &dice.pick(rules).dport {
        PortSet::In(ranges) => {
            let (low, high) = ranges.pairs()[0];
            *dice.pick(&[low, high, high + 1, low.saturating_sub(1)]) as u16
        }
        PortSet::Any => dice.next() as u16,
    };
    let key = |dice: &mut Dice| Key {
        src: end(dice) & !1,
        dst: if dice.chance(90) { end(dice) & !1 } else { end(dice) },
        sport: dice.next() as u16,
        dport: port(dice),
        protocol: *dice.pick(&[6, 17]),
        bits: KeyBits(if dice.chance(95) { KeyBits::L4 } else { 0 }),
        ..Key::EMPTY
    };
    (0..2_000).map(|_| key(dice)).collect()
}

/// Entries that no list of this file holds but the second one: each has a source port, a destination port and a protocol to itself.
fn crowd(entries: u32) -> Vec<Match> {
    let protocol = |n: u32| ProtocolSet::of(&[Family::V4, Family::V6], [(n % 4 + 6) as u8]);
    let entry = |n: u32| Match {
        sport: one_port(20_000 + 7 * n),
        dport: one_port(30_000 + 11 * n),
        protocols: protocol(n),
        ..Match::EVERYTHING
    };
    (0..entries).map(entry).collect()
}

/// Combinations of the classes of ports and protocols.
fn combinations(built: &Classifier) -> usize {
    ["source-port", "destination-port", "protocol"].map(|name| rows(built, name)).iter().product()
}

/// How the first list is kept, which has so many entries and no other list as many.
fn first_list(built: &Classifier, entries: usize) -> Shape {
    assert!(built.is_long(0), "{:?}", built.shapes());
    *built.shapes().iter().find(|shape| shape.entries == entries).unwrap()
}

#[test]
fn a_cross_product_answers_alike_however_many_classes_of_ports_other_lists_make() {
    let dice = &mut Dice::new(22);
    let universe = Universe { bits: 10, v6: 20 };
    let mut rules: Vec<Match> = broad(40, 30, dice);
    // Rules that leave an address open would hold every packet.
    let is_narrow = |rule: &Match| rule.src.is_some() && rule.dst.is_some();
    rules.extend((0..900).map(|_| universe.rule(dice)).filter(is_narrow).take(300));
    let own = whole(&rules);
    let alone = build(&rules, std::slice::from_ref(&own));
    let mut all = rules.clone();
    all.extend(crowd(310));
    let scopes: [Scope; 2] = [own.clone(), part(own[0].end..all.len() as u32)];
    let beside = build(&all, &scopes);
    // Up to 65,536 combinations stand in one table, so that a position is a sum of products; beyond them each class has an offset.
    assert!(
        combinations(&alone) <= 1 << 16 && combinations(&beside) > 1 << 16,
        "{:?} {:?}",
        alone.sizes(),
        beside.sizes()
    );
    for built in [&alone, &beside] {
        let shape = first_list(built, rules.len());
        assert!(shape.broad >= 40 && shape.structure.ends_with("cross-product"), "{shape:?}");
    }
    let mut keys = keys(universe, &all, 1_000, dice);
    keys.extend(broad_keys(&rules[..40], 30, dice));
    let [hits, misses] = compare("few classes", &rules, &[own], &keys, &alone);
    assert!(hits > 500 && misses > 100, "{hits} hits, {misses} misses");
    compare("many classes", &all, &scopes, &keys, &beside);
}

#[test]
fn rows_of_answers_that_differ_in_a_few_ports_are_cut_into_chunks_and_answer_alike() {
    let dice = &mut Dice::new(23);
    const MEMBERS: u32 = 60;
    for (name, others) in [("written out", 0), ("by offsets", 300)] {
        let own = broad(45, MEMBERS, dice);
        let mut rules = own.clone();
        rules.extend(crowd(others));
        let scopes: [Scope; 2] = [whole(&own), part(own.len() as u32..rules.len() as u32)];
        let built = build(&rules, &scopes);
        let shape = first_list(&built, own.len());
        assert_eq!((shape.structure, shape.broad), ("cross-product", own.len()), "{name}");
        // What the tables before them leave of the bytes is chunks and answers. Rows that are not cut take 256 KiB at most.
        let sides = 16 * (rows(&built, "source") + rows(&built, "destination"));
        let ports = if others == 0 { 2 * combinations(&built) } else { 16 << 10 };
        let rest = shape.bytes - sides - 4 * (shape.classes + shape.broad) - ports;
        assert!(rest > 256 << 10, "{name}: {rest} bytes of answers: {shape:?} {:?}", built.sizes());
        let keys = broad_keys(&own, MEMBERS, dice);
        let [hits, misses] = compare(name, &rules, &scopes, &keys, &built);
        assert!(hits > 150 && misses > 500, "{name}: {hits} hits, {misses} misses");
    }
}

/// Sets of ports, one for each bit of a port's number: together they tell every port from every other.
fn bits_of_ports() -> Vec<PortSet> {
    let having = |bit: u32| {
        let width = 1u128 << bit;
        (0..(1u128 << 16) / (2 * width)).map(move |block| (block * 2 * width + width, (block + 1) * 2 * width - 1))
    };
    (0..16).map(|bit| PortSet::In(Ranges::new(having(bit).collect()))).collect()
}

#[test]
fn as_many_classes_of_ports_as_sixteen_bits_number_are_told_apart_and_one_more_is_refused() {
    let dice = &mut Dice::new(24);
    let by_bit = |field: usize| {
        let rule = |ports: PortSet| match field {
            0 => Match { sport: ports, ..Match::EVERYTHING },
            _ => Match { dport: ports, ..Match::EVERYTHING },
        };
        bits_of_ports().into_iter().map(rule).collect::<Vec<Match>>()
    };
    for (field, table) in [(0, "source-port"), (1, "destination-port")] {
        // Port 0 and packets without ports, which no set holds, are one class.
        let rules = by_bit(field);
        // By itself each set is a list, so that an answer tells every bit.
        let scopes: Vec<Scope> = (0..16).map(|bit| part(bit..bit + 1)).chain([whole(&rules)]).collect();
        let built = build(&rules, &scopes);
        assert_eq!(rows(&built, table), 1 << 16);
        let port = |dice: &mut Dice| match dice.chance(50) {
            true => *dice.pick(&[0, 1, 255, 256, 32_767, 32_768, 65_534, 65_535]),
            false => dice.next() as u16,
        };
        let key = |dice: &mut Dice| Key {
            sport: port(dice),
            dport: port(dice),
            protocol: 17,
            bits: KeyBits(if dice.chance(90) { KeyBits::L4 } else { 0 }),
            ..Key::EMPTY
        };
        let keys: Vec<Key> = (0..500).map(|_| key(dice)).collect();
        compare(table, &rules, &scopes, &keys, &built);

        // A set of all ports tells port 0 from none.
        let mut more = by_bit(field);
        let all = PortSet::In(Ranges::one(0, 65_535));
        more.push(if field == 0 {
            Match { sport: all, ..Match::EVERYTHING }
        } else {
            Match { dport: all, ..Match::EVERYTHING }
        });
        let refusal = classifier(&more, &[whole(&more)], |_| false, MEMORY).unwrap_err();
        assert_eq!(refusal, Refusal::PortClasses);
        let finding = refusal.diagnostic();
        assert_eq!(finding.code, "program-too-large");
        assert!(finding.message.contains("every single port"), "{finding}");
        assert!(finding.help.as_ref().is_some_and(|help| help.contains("join neighbouring ports")), "{finding}");
    }
}

#[test]
fn a_list_whose_sets_take_too_long_to_multiply_out_is_filed() {
    let dice = &mut Dice::new(25);
    // Eight sources of 13,000 scattered hosts each, a few of them in all eight; each goes to a host of its own. Filing them under
    // their sources takes two thirds of the steps of a cross product of the eight, and a list of 308 has steps for the one only.
    const SETS: u32 = 8;
    const MEMBERS: u32 = 13_000;
    const SINGLES: u32 = 300;
    let set = |numbers: Vec<u32>| Some(Rc::new(AddressSet::of_addresses(&hosts(numbers.into_iter()))));
    let source = |n: u32| match n {
        0..SETS => (0..MEMBERS)
            .map(|m| 0x0a00_0000 + 2 * (SETS * m + n))
            .chain((0..100).map(|shared| 0x0d00_0000 + 2 * shared))
            .collect(),
        _ => vec![0x0b00_0000 + 2 * n],
    };
    let pair = |n: u32| Match {
        src: set(source(n)),
        dst: set(vec![0x0c00_0000 + 2 * n]),
        dport: if n.is_multiple_of(3) { one_port(80) } else { PortSet::Any },
        ..Match::EVERYTHING
    };
    let rules: Vec<Match> = (0..SETS + SINGLES).map(pair).collect();
    let built = build(&rules, &[whole(&rules)]);
    let shape = first_list(&built, rules.len());
    assert_eq!((shape.structure, shape.broad), ("filed", 0), "{shape:?}");
    let key = |dice: &mut Dice| {
        let n = dice.below((SETS + SINGLES) as usize) as u32;
        Key {
            src: u128::from(*dice.pick(&source(n))) + u128::from(dice.chance(20)),
            dst: u128::from(0x0c00_0000 + 2 * n) + u128::from(dice.chance(20)),
            dport: *dice.pick(&[80, 80, 81]),
            protocol: 6,
            bits: KeyBits(KeyBits::L4),
            ..Key::EMPTY
        }
    };
    let keys: Vec<Key> = (0..500).map(|_| key(dice)).collect();
    let [hits, misses] = compare("filed", &rules, &[whole(&rules)], &keys, &built);
    assert!(hits > 200 && misses > 100, "{hits} hits, {misses} misses");
}

#[test]
fn a_list_is_taken_apart_however_many_broad_entries_that_takes() {
    let dice = &mut Dice::new(26);
    // A hundred entries hold everywhere: bit vectors are faster than lists with most of them on every one.
    const BROAD: u32 = 100;
    const PAIRS: u32 = 500;
    let set = |n: u32| Some(Rc::new(AddressSet::of_addresses(&hosts([n].into_iter()))));
    let broad = (0..BROAD).map(|n| Match { dport: one_port(1_000 + n), ..Match::EVERYTHING });
    let pair = |n: u32| Match { src: set(0x0a00_0000 + 2 * n), dst: set(0x0c00_0000 + 2 * n), ..Match::EVERYTHING };
    let rules: Vec<Match> = broad.chain((0..PAIRS).map(pair)).collect();
    let built = build(&rules, &[whole(&rules)]);
    let shape = first_list(&built, rules.len());
    assert_eq!((shape.structure, shape.broad), ("filed+cross-product", BROAD as usize), "{shape:?}");
    let key = |dice: &mut Dice| {
        let n = dice.below(PAIRS as usize) as u32;
        Key {
            src: u128::from(0x0a00_0000 + 2 * n) + u128::from(dice.chance(30)),
            dst: u128::from(0x0c00_0000 + 2 * n) + u128::from(dice.chance(30)),
            dport: 1_000 + dice.below(2 * BROAD as usize) as u16,
            protocol: 6,
            bits: KeyBits(KeyBits::L4),
            ..Key::EMPTY
        }
    };
    let keys: Vec<Key> = (0..500).map(|_| key(dice)).collect();
    let [hits, misses] = compare("broad", &rules, &[whole(&rules)], &keys, &built);
    assert!(hits > 200 && misses > 50, "{hits} hits, {misses} misses");
}

#[test]
fn one_look_up_of_a_burst_is_that_of_the_packet_alone_in_every_structure() {
    let dice = &mut Dice::new(26);
    let universe = Universe { bits: 12, v6: 30 };
    let narrow: Vec<Match> = (0..400).map(|_| universe.rule(dice)).collect();
    let wide = broad(45, 60, dice);
    let short: Vec<Match> = (0..20).map(|_| universe.rule(dice)).collect();
    let rules: Vec<Match> = narrow.iter().chain(&wide).chain(&short).cloned().collect();
    let ends = [0, 400, 445, 465];
    let scopes: Vec<Scope> = ends.windows(2).map(|ends| part(ends[0]..ends[1])).collect();
    let built = build(&rules, &scopes);
    let structures: BTreeSet<&str> = built.shapes().iter().map(|shape| shape.structure).collect();
    assert_eq!(structures, BTreeSet::from(["bit-vectors", "cross-product", "filed+cross-product"]));
    for length in 1..=64 {
        let keys = keys(universe, &rules, length, dice);
        for (number, scope) in scopes.iter().enumerate() {
            let expected: Vec<u32> = keys.iter().map(|key| first(&rules, scope, key, 0)).collect();
            assert_eq!(answers(&built, number as u32, &keys, 64), expected, "{length} packets, list {number}");
            let single = |key: &Key| built.first(built.header(key), number as u32, 0).unwrap_or(NONE);
            assert_eq!(keys.iter().map(single).collect::<Vec<u32>>(), expected, "{length} packets, list {number}");
        }
    }
}

#[test]
fn entries_beyond_sixteen_bits_answer_as_those_before_do() {
    let dice = &mut Dice::new(27);
    let universe = Universe { bits: 12, v6: 30 };
    let is_narrow = |rule: &Match| rule.src.is_some() && rule.dst.is_some();
    let narrow: Vec<Match> = (0..1_200).map(|_| universe.rule(dice)).filter(is_narrow).take(300).collect();
    // Answers of up to 256 KiB are one table, larger ones are cut into chunks.
    for (name, wide, members, others) in [("one table", 33, 12, 0), ("chunks", 45, 60, 0), ("with lists", 40, 30, 300)]
    {
        let own: Vec<Match> =
            broad(wide, members, dice).into_iter().chain(narrow.iter().take(others).cloned()).collect();
        let mut keys = keys(universe, &own, 300, dice);
        keys.extend(broad_keys(&own[..wide as usize], members, dice));
        let mut bytes = Vec::new();
        // The number of the last broad entry, at least: answers are numbers as long as one more than it has room in 16 bits.
        for last in [40_000, 65_533, 65_534, 65_535, 65_536, 90_000] {
            let before = last + 1 - wide;
            let rules: Vec<Match> = (0..before).map(|_| Match::EVERYTHING).chain(own.iter().cloned()).collect();
            let scopes: [Scope; 1] = [part(before..rules.len() as u32)];
            let built = build(&rules, &scopes);
            let shape = first_list(&built, own.len());
            assert!(shape.broad >= wide as usize && shape.structure.ends_with("cross-product"), "{name}: {shape:?}");
            let [hits, misses] = compare(&format!("{name} to {last}"), &rules, &scopes, &keys, &built);
            assert!(hits > 100 && misses > 40, "{name}: {hits} hits, {misses} misses");
            bytes.push((shape.broad, shape.bytes));
        }
        if others == 0 {
            let numbers = 4 * (wide as usize + 1);
            assert!(bytes[..3].iter().all(|sizes| *sizes == bytes[0]), "{name}: {bytes:?}");
            let with = bytes[0].1 + numbers.next_multiple_of(64);
            assert!(bytes[3..].iter().all(|sizes| sizes.1 == with), "{name}: {bytes:?}");
        }
    }
}
