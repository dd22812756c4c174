//! Stage `flow`: keys of flows in bursts of 32 in, nanoseconds per key out: hits, misses, insertion and expiry by number of
//! flows. Run with `cargo bench --bench flow`; an argument names the largest number of flows. `--flows N` measures that number
//! alone and prints one JSON object, for `bench/peers/run`, which compares it with DPDK's hash table.
//!
//! The keys of hits are random flows of the table, so that nothing helps but overlapping the misses of a burst: the shape in
//! which bulk look-ups of hash tables are measured. Each figure is the best of several passes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ringwall::base::address::Direction;
use ringwall::base::time::Now;
use ringwall::base::wide::{LANES, Level};
use ringwall::engine::counters::Tally;
use ringwall::engine::flow::key::FlowKey;
use ringwall::engine::flow::table::{Flow, NIL, State, Table};
use ringwall::engine::flow::tcp::Windows;
use ringwall::engine::flow::{Allowed, FlowSettings, Flows, Packets, Probes};
use ringwall::engine::judge::Track;
use ringwall::packet::{Columns, Key, KeyBits, Tuple};

const BURST: usize = 32;
const LOOK_UPS: usize = 1 << 22;
/// Keys between two looks at the clock: short, so that some passes have the processor to themselves.
const PART: usize = 1 << 15;
const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0x0fed_cba9_8765_4321];

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// The packet of flow number n; another one for each n.
fn packet(n: u64, is_v6: bool) -> Key {
    let mixed = (n as u32).wrapping_mul(0x9e37_79b1);
    let spread = |address: u128| if is_v6 { 0x2001_0db8 << 96 | address << 64 | address } else { address };
    Key {
        src: spread(u128::from(0x0a00_0000 | mixed >> 8)),
        dst: spread(u128::from(0xc0a8_0000 | mixed & 0xff)),
        sport: 1024 + (n % 50_000) as u16,
        dport: 443,
        protocol: 17,
        bits: KeyBits(KeyBits::L4 | if is_v6 { KeyBits::V6 } else { 0 }),
        ..Key::EMPTY
    }
}

fn tuple(key: &Key) -> Tuple {
    let is_v6 = u8::from(key.has(KeyBits::V6));
    Tuple { src: key.src, dst: key.dst, sport: key.sport, dport: key.dport, protocol: key.protocol, is_v6 }
}

fn flow(key: &Key) -> Option<Flow> {
    let (key, is_low_initiator) = FlowKey::of(&tuple(key))?;
    Some(Flow {
        key,
        last: Now(0),
        windows: Windows::UNKNOWN,
        bytes: 0,
        packets: 0,
        epoch: 1,
        state: State::Udp,
        is_low_initiator,
        is_picked_up: false,
        is_groups_only: false,
    })
}

/// The columns of keys, which parsing leaves beside them.
fn fill(columns: &mut [Columns; BURST / LANES], keys: &[Key; BURST]) {
    for (at, key) in keys.iter().enumerate() {
        columns[at / LANES].set(at % LANES, key);
    }
}

/// Nanoseconds per item of the best pass.
fn best(items: usize, passes: usize, mut pass: impl FnMut(usize)) -> f64 {
    let mut once = |number: usize| {
        let start = Instant::now();
        pass(number);
        start.elapsed().as_secs_f64() * 1e9 / items as f64
    };
    (0..passes).map(&mut once).fold(f64::INFINITY, f64::min)
}

/// Keys that lie ready in the cache, as a packet's do when its flow is looked up: `bench/peers/hash.c` does the same.
const CHUNK: usize = 1024;
/// Times that all keys are looked up; the least is taken.
const PASSES: usize = 5;

/// The look-up of the packet line with the comparison of whole keys, which the line makes where it uses what was found: packets as
/// parsing leaves them in, the slots of their flows out. All of them are found, or none.
fn look_ups(flows: &mut Flows, numbers: &[u64], is_v6: bool, is_known: bool) -> f64 {
    let mut probes = Probes::default();
    let (mut keys, mut columns) = ([Key::EMPTY; CHUNK], [Columns::EMPTY; CHUNK / LANES]);
    let mut pass = |number: usize| {
        let mut spent = Duration::ZERO;
        for chunk in numbers.chunks_exact(CHUNK) {
            for (at, (key, n)) in keys.iter_mut().zip(chunk).enumerate() {
                *key = packet(*n, is_v6);
                columns[at / LANES].set(at % LANES, key);
            }
            let start = Instant::now();
            for (keys, columns) in black_box(&keys).chunks_exact(BURST).zip(columns.chunks_exact(BURST / LANES)) {
                let packets = Packets { level: Level::best(), keys, columns, times: &[], lengths: &[] };
                flows.probe(packets, BURST, 0, &mut probes);
                flows.confirm(packets, BURST, black_box(&mut probes));
            }
            spent += start.elapsed();
            let last = &keys[CHUNK - BURST..];
            for (at, key) in last.iter().enumerate().filter(|_| number == 0) {
                let found = flows.table().get(probes.slot(at)).map(|flow| flow.key);
                let own = FlowKey::of(&tuple(key)).map(|found| found.0);
                assert_eq!(found, own.filter(|_| is_known), "a packet has its own flow or none");
            }
        }
        spent.as_secs_f64() * 1e9 / numbers.len() as f64
    };
    (0..PASSES).map(&mut pass).fold(f64::INFINITY, f64::min)
}

/// Takes flows out at random and puts them back: what a table is like after a day.
fn age(flows: &mut Flows, numbers: &[u64], is_v6: bool) {
    for numbers in numbers.chunks(PART) {
        let keys = numbers.iter().map(|&n| packet(n, is_v6));
        for key in keys.clone() {
            let slot = FlowKey::of(&tuple(&key)).and_then(|(own, _)| flows.table().find(&own, Now(0)));
            flows.end(slot.unwrap_or(NIL));
        }
        for key in keys {
            let look = flows.look(&key, &Tuple::default(), Now(0));
            let _ = flows.commit(look.plan, Allowed { track: Track::Full, now: Now(0), bytes: 60 });
        }
    }
}

/// Bursts of packets through the table with all that an established flow costs.
fn passes(flows: &mut Flows, numbers: &[u64], is_v6: bool) -> f64 {
    let (mut probes, now) = (Probes::default(), Now(1));
    let (times, lengths) = ([now; BURST], [60; BURST]);
    let (mut keys, mut columns) = ([Key::EMPTY; BURST], [Columns::EMPTY; BURST / LANES]);
    let mut run = |is_whole: bool| {
        best(PART, numbers.len() / PART, |part| {
            let mut passed = 0usize;
            for burst in numbers[part * PART..][..PART].chunks_exact(BURST) {
                for (key, n) in keys.iter_mut().zip(burst) {
                    *key = packet(*n, is_v6);
                }
                fill(&mut columns, &keys);
                black_box((&keys, &columns));
                if !is_whole {
                    continue;
                }
                let packets =
                    Packets { level: Level::best(), keys: &keys, columns: &columns, times: &times, lengths: &lengths };
                flows.probe(packets, BURST, 0, &mut probes);
                let mut tallies = [Tally::default(); 2];
                let all = u64::MAX >> (64 - BURST);
                let mut left = all & !flows.pass_early(all, &probes, packets, false, &mut tallies);
                while left != 0 {
                    let at = left.trailing_zeros() as usize;
                    // Where another flow's tag stands before that of a displaced one, the packet goes the long way.
                    if flows.pass(at, at + 1, &probes, packets, false, &mut tallies) == 0 {
                        let look = flows.look_probed(at, &probes, &keys[at], &Tuple::default(), now);
                        let _ = flows.commit(look.plan, Allowed { track: Track::None, now, bytes: 60 });
                    }
                    left &= left - 1;
                }
                black_box(tallies);
                passed += BURST;
            }
            assert_eq!(passed, if is_whole { PART } else { 0 });
        })
    };
    run(true) - run(false)
}

/// Bursts of packets that begin a flow each, from number 0 up to `count`: finding that there is none, and making it. Only whole
/// bursts; the rest is made and not measured.
fn openings(flows: &mut Flows, count: usize, is_v6: bool) -> f64 {
    flows.table().populate();
    let mut probes = Probes::default();
    let (mut keys, mut columns) = ([Key::EMPTY; BURST], [Columns::EMPTY; BURST / LANES]);
    let allowed = Allowed { track: Track::Full, now: Now(0), bytes: 60 };
    let part = PART.min(count);
    let mut run = |is_whole: bool| {
        best(part / BURST * BURST, count / part, |number| {
            for burst in 0..part / BURST {
                for (at, key) in keys.iter_mut().enumerate() {
                    *key = packet((number * part + burst * BURST + at) as u64, is_v6);
                }
                fill(&mut columns, &keys);
                black_box((&keys, &columns));
                if !is_whole {
                    continue;
                }
                let packets =
                    Packets { level: Level::best(), keys: &keys, columns: &columns, times: &[], lengths: &[] };
                flows.probe(packets, BURST, 0, &mut probes);
                for (at, key) in keys.iter().enumerate() {
                    if let Some(opening) = flows.opening(at, &probes, key) {
                        let _ = flows.open(at, &probes, key, opening, allowed);
                    }
                }
            }
        })
    };
    let (empty, whole) = (run(false), run(true));
    for n in 0..count as u64 {
        let look = flows.look(&packet(n, is_v6), &Tuple::default(), Now(0));
        let _ = flows.commit(look.plan, allowed);
    }
    whole - empty
}

/// Nanoseconds per item, and bytes per flow.
struct Figures {
    hit: f64,
    miss: f64,
    established: f64,
    opened: f64,
    fill: f64,
    churn: f64,
    expiry: f64,
    bytes: f64,
}

fn measure(count: usize, is_v6: bool) -> Figures {
    let settings = FlowSettings { capacity: count, ..FlowSettings::default() };
    let mut table = Table::new(count, settings.timeouts, SEED);
    let flows: Vec<Flow> = (0..count as u64).filter_map(|n| flow(&packet(n, is_v6))).collect();
    // Every slot is written once before, so that no page is taken from the kernel meanwhile.
    for flow in &flows {
        table.insert(*flow);
    }
    table.clear();
    let part = PART.min(count);
    let fresh = best(part, count / part, |number| {
        for flow in &flows[number * part..][..part] {
            black_box(table.insert(*flow));
        }
    });
    for flow in &flows[count / part * part..] {
        table.insert(*flow);
    }
    // Taken out at random and put back: what a table is like after a day.
    let mut dice = Dice(1);
    let churn = best(2 * part, 16, |_| {
        let mut taken = Vec::with_capacity(part);
        for _ in 0..part {
            let flow = flows[dice.roll() as usize % count];
            if let Some(slot) = table.find(&flow.key, Now(0)) {
                table.remove(slot);
                taken.push(flow);
            }
        }
        for flow in taken {
            table.insert(flow);
        }
    });
    let mut random =
        |from: usize| -> Vec<u64> { (0..LOOK_UPS).map(|_| (from + dice.roll() as usize % count) as u64).collect() };
    let (known, unknown) = (random(0), random(count));
    let bytes = table.bytes() as f64 / table.capacity() as f64;
    let later = Now(settings.timeouts[State::Udp.index()]);
    let start = Instant::now();
    let mut expired = 0;
    while table.used() > 0 {
        expired += table.expire(later, 4 * BURST);
    }
    let expiry = start.elapsed().as_secs_f64() * 1e9 / expired.max(1) as f64;
    drop(table);

    let mut engine = Flows::new(&settings, SEED);
    let opened = openings(&mut engine, count, is_v6);
    assert_eq!(engine.table().used(), count, "each packet begins a flow");
    for n in 0..count as u64 {
        // The responder's packet makes it a stream.
        let there = packet(n, is_v6);
        let back = Key { src: there.dst, dst: there.src, sport: there.dport, dport: there.sport, ..there };
        let look = engine.look(&back, &Tuple::default(), Now(0));
        let _ = engine.commit(look.plan, Allowed { track: Track::None, now: Now(0), bytes: 60 });
    }
    age(&mut engine, &known[..count.min(LOOK_UPS / 4)], is_v6);
    let hit = look_ups(&mut engine, &known, is_v6, true);
    let miss = look_ups(&mut engine, &unknown, is_v6, false);
    let established = passes(&mut engine, &known, is_v6);
    Figures { hit, miss, established, opened, fill: fresh, churn, expiry, bytes }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    assert_eq!(Direction::Inbound as u8, 0, "packets of a direction have keys without a bit for it");
    let only = arguments.iter().position(|argument| argument == "--flows");
    if let Some(count) = only.and_then(|at| arguments.get(at + 1)?.parse().ok()) {
        let Figures { hit, miss, established, opened, fill, churn, expiry, bytes } = measure(count, false);
        println!(
            "{{\"flows\":{count},\"hit_ns\":{hit:.2},\"miss_ns\":{miss:.2},\"established_ns\":{established:.2},\
             \"opened_ns\":{opened:.2},\"fill_ns\":{fill:.2},\"churn_ns\":{churn:.2},\"expiry_ns\":{expiry:.2},\
             \"bytes_per_flow\":{bytes:.1}}}"
        );
        return;
    }
    let most: usize = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1 << 20);
    println!("nanoseconds per item, best of several passes; bursts of {BURST} random keys");
    println!(
        "{:>9} {:>4} {:>8} {:>8} {:>12} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "flows", "", "hit", "miss", "established", "opened", "fill", "churn", "expiry", "bytes"
    );
    let row = |count: usize, is_v6: bool| {
        let Figures { hit, miss, established, opened, fill, churn, expiry, bytes } = measure(count, is_v6);
        println!(
            "{count:>9} {:>4} {hit:>8.1} {miss:>8.1} {established:>12.1} {opened:>8.1} {fill:>8.1} {churn:>8.1} {expiry:>8.1} \
             {bytes:>8.1}",
            if is_v6 { "v6" } else { "v4" }
        );
    };
    for count in [10_000, 100_000, 1 << 20, 8 << 20] {
        if count <= most {
            row(count, false);
        }
    }
    row(1 << 17, true);
}
