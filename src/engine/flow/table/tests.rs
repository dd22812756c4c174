use std::cell::Cell;

use super::*;
use crate::engine::flow::tcp::Windows;
use crate::packet::Tuple;
use proptest::prelude::*;

fn flow(n: u32, at: u64, state: State) -> Flow {
    let is_v6 = u8::from(n.is_multiple_of(3));
    let src = if is_v6 == 1 { 0x2001_0db8 << 96 | u128::from(n) << 40 | 7 } else { u128::from(n) };
    let tuple = Tuple { src, dst: 99, sport: 1, dport: 2, protocol: 17, is_v6 };
    let (key, is_low_initiator) = FlowKey::of(&tuple).unwrap();
    Flow {
        packets: 0,
        bytes: 0,
        key,
        last: Now(at),
        windows: Windows::UNKNOWN,
        epoch: 1,
        state,
        is_low_initiator,
        is_picked_up: false,
        is_groups_only: false,
    }
}

fn timeouts() -> Timeouts {
    let mut timeouts = [0; 13];
    for (i, timeout) in timeouts.iter_mut().enumerate() {
        *timeout = (i as u64 + 1) * 10_000_000_000;
    }
    timeouts
}

proptest! {
    /// The table against a plain list: same members, same expiry, same half-open order, whatever happens in whatever order.
    #[test]
    fn agrees_with_a_list(steps in prop::collection::vec((0u8..5, 0u32..24, 0u64..40, 0usize..13), 1..300)) {
        let mut table = Table::new(16, timeouts(), [1, 2]);
        let mut list: Vec<Flow> = Vec::new();
        let mut now = 0;
        for (what, n, seconds, state) in steps {
            let state = State::ALL[state];
            now += seconds * 700_000_000;
            let live = |f: &Flow| now - f.last.0 < timeouts()[f.state.index()];
            let wanted = flow(n, now, state);
            let found = list.iter().position(|f| f.key == wanted.key && live(f));
            prop_assert_eq!(table.find(&wanted.key, Now(now)).is_some(), found.is_some());
            match (what, found) {
                (0 | 1, None) => {
                    list.retain(|f| live(f));
                    table.expire_all(Now(now));
                    let fits = list.len() < 16;
                    prop_assert_eq!(table.insert(wanted).is_some(), fits);
                    if fits {
                        list.push(wanted);
                    }
                }
                (2, Some(i)) => {
                    let mut moved = list.remove(i);
                    (moved.last, moved.state) = (Now(now), state);
                    list.push(moved);
                    let slot = table.find(&wanted.key, Now(now)).unwrap();
                    table.update(slot, |f| (f.last, f.state) = (Now(now), state));
                }
                (3, Some(i)) => {
                    list.remove(i);
                    table.remove(table.find(&wanted.key, Now(now)).unwrap());
                }
                (4, _) => {
                    table.expire(Now(now), 3);
                }
                _ => {}
            }
        }
        table.expire_all(Now(now));
        list.retain(|f| now - f.last.0 < timeouts()[f.state.index()]);
        prop_assert_eq!(table.used(), list.len());
        prop_assert_eq!(table.half_open(), list.iter().filter(|f| f.state.is_half_open()).count());
        let oldest = list.iter().find(|f| f.state.is_half_open()).map(|f| f.key);
        prop_assert_eq!(table.oldest_half_open().and_then(|s| table.get(s)).map(|f| f.key), oldest);
    }
}

/// Slots of the tables below, and their blocks.
const SLOTS: u32 = 4096;
const BLOCKS: usize = SLOTS as usize / BLOCK;
const SECOND: u64 = 1_000_000_000;

/// A full table of flows that started in turn, one each `apart` nanoseconds.
fn full(apart: u64, state: State) -> Table {
    let mut table = Table::new(SLOTS as usize, timeouts(), [1, 2]);
    for n in 0..SLOTS {
        assert!(table.insert(flow(n, u64::from(n) * apart, state)).is_some());
    }
    table
}

/// A flow goes on.
fn refresh(table: &mut Table, n: u32, at: u64) {
    let key = flow(n, 0, State::Udp).key;
    let slot = table.find_by_hash(&key, table.hash(&key)).unwrap();
    table.update(slot, |flow| flow.last = Now(at));
}

/// Blocks that making room looks at, as a new flow asks for it that finds the table full.
fn looks(table: &mut Table, now: u64) -> usize {
    let asked = Cell::new(0usize);
    // Asked before each block, and once more in the end.
    table.reclaim(Now(now), |table| {
        asked.set(asked.get() + 1);
        table.used() < table.capacity()
    });
    asked.get().saturating_sub(1)
}

#[test]
fn a_flood_on_a_full_table_looks_at_each_block_once_and_then_at_none_until_a_flow_could_have_expired() {
    // The timeout of UDP is 100 s here.
    const TIMEOUT: u64 = 100 * SECOND;
    let mut table = full(0, State::Udp);
    for round in 1..=5 {
        // All go on after half of the time. Blocks are due all the same, all at once.
        let refreshed = round * TIMEOUT - TIMEOUT / 2;
        for n in 0..SLOTS {
            refresh(&mut table, n, refreshed);
        }
        let due = if round == 1 { TIMEOUT } else { refreshed };
        assert_eq!(looks(&mut table, due - 1), 0, "round {round}: nothing is due");
        assert_eq!(looks(&mut table, due), BLOCKS, "round {round}: each block once");
        for n in 0..100_000 {
            let now = due + n * (TIMEOUT / 2 - 1) / 100_000;
            assert_eq!(looks(&mut table, now), 0, "round {round}: new flow {n} pays for nothing");
        }
        assert_eq!(table.used(), SLOTS as usize, "none has expired");
    }
}

#[test]
fn blocks_are_looked_at_no_more_often_than_their_flows_could_have_expired() {
    const TIMEOUT: u64 = 100 * SECOND;
    const TURNS: u64 = 6;
    // Flows of a block start far apart, so that another one of them is due each time; each goes on at a moment of its own.
    let mut table = full(TIMEOUT / u64::from(SLOTS) / 2, State::Udp);
    let (mut total, mut most, mut calls) = (0, 0, 0usize);
    let mut dice = 1u64;
    let step = TIMEOUT / u64::from(SLOTS) / 2;
    for n in 0..u64::from(SLOTS) * 2 * TURNS {
        let now = TIMEOUT / 2 + n * step;
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // In order, so that none expires, and some more often.
        refresh(&mut table, n as u32 % SLOTS, now);
        refresh(&mut table, (dice >> 40) as u32 % SLOTS, now);
        let looks = looks(&mut table, now);
        (total, most, calls) = (total + looks, most.max(looks), calls + 1);
        assert_eq!(self::looks(&mut table, now), 0, "the same moment costs nothing twice");
    }
    assert_eq!(table.used(), SLOTS as usize, "none has expired");
    // Each look has one flow that could have expired since it last started its timer, and that takes a timeout.
    let bound = SLOTS as usize * (TURNS as usize + 1);
    assert!(
        total > BLOCKS && total <= bound,
        "{total} blocks looked at by {calls} new flows, at most {bound} expected"
    );
    assert!(most <= BLOCKS / 8, "{most} blocks in one call, although they are due one after the other");
}

#[test]
fn the_one_flow_that_has_expired_gives_its_place_wherever_it_is_gw_24() {
    const TIMEOUT: u64 = 100 * SECOND;
    for expired in [0, 31, 32, 2_000, SLOTS - 1] {
        let mut table = full(0, State::Udp);
        for n in (0..SLOTS).filter(|&n| n != expired) {
            refresh(&mut table, n, TIMEOUT - 1);
        }
        let has_room = |table: &Table| table.used() < table.capacity();
        assert_eq!(table.reclaim(Now(TIMEOUT - 1), has_room), 0, "not a nanosecond too early");
        assert_eq!(table.reclaim(Now(TIMEOUT), has_room), 1, "all that are due are looked at until there is room");
        assert!(table.insert(flow(SLOTS, TIMEOUT, State::Udp)).is_some());
        assert_eq!(table.reclaim(Now(TIMEOUT), has_room), 0, "the others are alive");
    }
}

#[test]
fn expiry_by_packets_looks_at_no_more_than_its_budget_and_comes_to_an_end() {
    let mut table = full(0, State::Udp);
    let mut calls = 0;
    while table.used() > 0 {
        let before = table.used();
        table.expire(Now(100 * SECOND), 64);
        assert!(before - table.used() <= 64, "{} in one call", before - table.used());
        calls += 1;
        assert!(calls <= SLOTS as usize / 64 + 20, "{} left after {calls} calls", table.used());
    }
}
