use super::*;
use crate::base::wide::Level;
use crate::engine::flow::tcp::Segment;
use crate::engine::flow::{Allowed, FlowSettings, Flows, Packets, Probes};
use crate::engine::judge::Track;
use crate::packet::Tuple;

const BURST: usize = 64;

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// A packet of one of some flows: TCP, UDP, SCTP, ICMP, both families; mostly such as keeps the state of its flow.
fn packet(dice: &mut Dice, flows: u64) -> Key {
    let n = dice.below(flows);
    let is_back = dice.one_in(2);
    let protocol = [6, 6, 17, 6, 17, 132, 1, 6, 17, 47][n as usize % 10];
    let is_v6 = n % 7 == 3 && protocol != 1;
    let address = |end: u128| {
        if is_v6 { 0x2001_0db8 << 96 | end << 70 | u128::from(n) << 40 | end } else { u128::from(n) << 8 | end }
    };
    let (mut src, mut dst, mut sport, mut dport) =
        (address(12 - u128::from(n % 3) * 5), address(6), 1000 + n as u16, 80);
    if is_back {
        (src, dst, sport, dport) = (dst, src, dport, sport);
    }
    let is_tcp = protocol == 6;
    let mut bits = KeyBits::L4 | if is_back { KeyBits::OUTBOUND } else { 0 } | if is_v6 { KeyBits::V6 } else { 0 };
    if dice.one_in(40) {
        bits |= [KeyBits::NO_WINDOW, KeyBits::OUTBOUND, KeyBits::FIRST_FRAGMENT, KeyBits::LATER_FRAGMENT]
            [dice.below(4) as usize];
    }
    let tcp_flags = if dice.one_in(30) { dice.below(256) as u8 } else { flag::ACK | [0, 8][dice.below(2) as usize] };
    let near = |dice: &mut Dice, base: u32| match dice.below(40) {
        0 => dice.below(1 << 32) as u32,
        1 => base.wrapping_sub(dice.below(70_000) as u32),
        _ => base.wrapping_add(dice.below(300) as u32),
    };
    let (seq, ack) = if is_back { (2_000, u32::MAX - 100) } else { (u32::MAX - 100, 2_000) };
    let (sport, dport) = if protocol == 1 { (7, if is_back { 0 } else { 8 << 8 }) } else { (sport, dport) };
    Key {
        src,
        dst,
        sport,
        dport,
        protocol,
        tcp_flags: if is_tcp { tcp_flags } else { 0 },
        bits: KeyBits(bits),
        seq: if is_tcp { near(dice, seq) } else { 0 },
        ack: if is_tcp { near(dice, ack) } else { 0 },
        window: if is_tcp { dice.below(1 << 16) as u16 >> dice.below(16) } else { 0 },
        payload: dice.below(200) as u16,
        ..Key::EMPTY
    }
}

struct Two {
    flows: Flows,
    probes: Probes,
    now: Now,
}

impl Two {
    fn new() -> Two {
        let settings = FlowSettings { capacity: 200, ..FlowSettings::default() };
        Two { flows: Flows::new(&settings, [3, 4]), probes: Probes::default(), now: Now(0) }
    }

    /// A packet has its turn: it passes, or else its plan is carried out. Returns whether it has passed.
    fn turn(&mut self, at: usize, packets: Packets<'_>, needs_memory: bool, tallies: &mut [Tally; 2]) -> bool {
        if self.probes.steady() >> at & 1 == 1
            && self.flows.pass(at, at + 1, &self.probes, packets, needs_memory, tallies) == 1
        {
            return true;
        }
        let (key, bytes) = (&packets.keys[at], packets.lengths[at]);
        self.now = packets.times[at];
        let look = self.flows.look_probed(at, &self.probes, key, &Tuple::default(), self.now);
        let allowed = Allowed { track: Track::Full, now: self.now, bytes };
        let _ = self.flows.commit(look.plan, allowed);
        self.flows.remember(at, &self.probes, key);
        false
    }
}

/// One table gets its packets sixteen at once where they pass so, before the others have their turn; another one gets the same
/// packets one by one.
#[test]
fn sixteen_packets_change_what_each_changes_alone() {
    Level::all().into_iter().for_each(change_the_same);
}

fn change_the_same(level: Level) {
    let (mut dice, mut together, mut alone) = (Dice(7), Two::new(), Two::new());
    let (mut passed, mut refused, mut clock, mut most, mut overtaken) = (0, 0, 1_000_000_000u64, 0, 0);
    for burst in 0..4_000 {
        let flows = [150, 20, 60][burst % 3];
        // Every number of packets, and most often nearly whole bursts.
        let count_of = if burst % 2 == 0 { 61 } else { burst / 2 % (BURST + 1) };
        let mut keys = [Key::EMPTY; BURST];
        keys.fill_with(|| packet(&mut dice, flows));
        let mut times = [Now(0); BURST];
        times.fill_with(|| {
            clock += if dice.one_in(20) { dice.below(1 << 20) } else { 0 };
            Now(clock)
        });
        clock += if dice.one_in(50) { dice.below(200_000_000_000) } else { 1 << 20 };
        let lengths: [u32; BURST] = std::array::from_fn(|_| 60 + dice.below(1 << 27) as u32);
        let keyless = if dice.one_in(4) { 1 << dice.below(64) } else { 0 };
        let needs_memory = dice.one_in(3);
        let mut columns = [Columns::EMPTY; GROUPS];
        for (at, key) in keys.iter().enumerate() {
            columns[at / LANES].set(at % LANES, key);
        }
        let packets = Packets { level, keys: &keys, columns: &columns, times: &times, lengths: &lengths };
        let singles = Packets { keys: &keys[..count_of], columns: &[], level: Level::Scalar, ..packets };
        together.flows.probe(packets, count_of, keyless, &mut together.probes);
        alone.flows.probe(singles, count_of, keyless, &mut alone.probes);
        let news = |probes: &Probes| (0..count_of).map(|at| probes.is_new(at)).collect::<Vec<_>>();
        assert_eq!(news(&together.probes), news(&alone.probes));
        for (at, key) in keys.iter().enumerate().take(count_of) {
            let has_key = keyless >> at & 1 == 0 && flow_of(key).is_some();
            let turns = key.protocol == 6 && Segment::of(key.tcp_flags) != Some(Segment::Ack);
            let may_pass = has_key && !together.probes.is_new(at) && !turns;
            let is_steady = |two: &Two| two.probes.steady() >> at & 1 == 1;
            assert_eq!([is_steady(&together), is_steady(&alone)], [may_pass; 2], "{key:?}");
        }
        let apart = together.probes.flowless() & !keyless;
        let (mut first, mut tallies) = (0, [[Tally::default(); 2]; 2]);
        while first < count_of {
            let end = (first + 1 + (apart >> first).trailing_zeros() as usize).min(count_of);
            let window = (u128::MAX << first & !(u128::MAX << end)) as u64;
            let early = together.flows.pass_early(window, &together.probes, packets, needs_memory, &mut tallies[0]);
            assert_eq!(early & !(window & together.probes.steady()), 0);
            most = most.max(early.count_ones());
            for at in first..end {
                let is_early = early >> at & 1 == 1;
                let has_passed = is_early || together.turn(at, packets, needs_memory, &mut tallies[0]);
                let is_alike = has_passed == alone.turn(at, singles, needs_memory, &mut tallies[1]);
                assert!(is_alike, "{level:?} burst {burst} packet {at} has passed early: {is_early}");
                (passed, refused) = (passed + u32::from(has_passed), refused + u32::from(!has_passed));
                overtaken += u32::from(!has_passed && early >> at != 0);
            }
            first = end;
        }
        assert_eq!(tallies[0], tallies[1], "{level:?} burst {burst}");
        assert!(together.flows.table().iter().eq(alone.flows.table().iter()), "burst {burst}");
        let revalidates = dice.one_in(100).then(|| dice.one_in(2));
        for two in [&mut together, &mut alone] {
            two.flows.expire(two.now, 200);
            if let Some(revalidates) = revalidates {
                two.flows.adopt(revalidates);
            }
        }
    }
    assert!(passed > 20_000 && refused > 20_000, "{passed} passed, {refused} did not");
    if level.is_wide() {
        // Packets that may not pass early do not keep their group from it: else fewer than half as many are overtaken.
        assert!(most > 40 && overtaken > 20_000, "{most} passed early, {overtaken} packets saw later ones pass");
    }
}

/// So many flows that their tags are ambiguous and some live away from home.
#[test]
fn a_look_up_tells_the_slot_of_the_packet_s_own_flow_and_of_no_other() {
    let capacity = 1 << 16;
    let settings = FlowSettings { capacity, ..FlowSettings::default() };
    let mut flows = Flows::new(&settings, [3, 4]);
    let is_v6 = |n: u64| n.is_multiple_of(9);
    let key = |n: u64| Key {
        src: if is_v6(n) { 0x2001_0db8 << 96 | u128::from(n % 27) << 40 | u128::from(n) } else { u128::from(n) },
        dst: if is_v6(n) { 0x2001_0db8 << 96 | 7 } else { 7 },
        sport: n as u16,
        dport: 80,
        protocol: if n % 4 < 1 { 132 } else { 17 },
        bits: KeyBits(KeyBits::L4 | if is_v6(n) { KeyBits::V6 } else { 0 }),
        ..Key::EMPTY
    };
    let allowed = Allowed { track: Track::Full, now: Now(0), bytes: 60 };
    for n in 0..capacity as u64 {
        let look = flows.look(&key(n), &Tuple::default(), Now(0));
        flows.commit(look.plan, allowed).unwrap();
    }
    let (mut dice, mut probes, mut found, mut lost, mut doubtful) = (Dice(5), Probes::default(), 0, 0, 0);
    // Of two entries with one tag the first alone is likely where packets are looked at one by one; sixteen at once look at both.
    let mut misled = [0; 2];
    for burst in 0..4_000 {
        let mut keys = [Key::EMPTY; BURST];
        keys.fill_with(|| key(dice.below(2 * capacity as u64)));
        let mut columns = [Columns::EMPTY; GROUPS];
        for (at, key) in keys.iter().enumerate() {
            columns[at / LANES].set(at % LANES, key);
        }
        let count = if burst % 4 < 1 { burst % BURST + 1 } else { BURST };
        let singles = Packets { level: Level::Scalar, keys: &keys, columns: &[], times: &[], lengths: &[] };
        let at_once = Level::all().into_iter().map(|level| Packets { level, columns: &columns, ..singles });
        for packets in at_once.chain([singles]) {
            flows.probe(packets, count, 0, &mut probes);
            let likely: Vec<u32> = (0..count).map(|at| probes.slot(at)).collect();
            flows.confirm(packets, count, &mut probes);
            for (at, key) in keys.iter().enumerate().take(count) {
                let own = flow_of(key).and_then(|(own, _)| flows.table().find(&own, Now(0))).unwrap_or(NIL);
                assert_eq!(probes.slot(at), own, "burst {burst} packet {at}");
                assert_eq!(probes.is_new(at), own == NIL);
                (found, lost) = (found + usize::from(own != NIL), lost + usize::from(own == NIL));
                doubtful += usize::from(likely[at] != own);
                let is_wide = packets.level.is_wide() && !packets.columns.is_empty();
                misled[usize::from(is_wide)] += usize::from(own != NIL && likely[at] != own);
            }
        }
    }
    assert!(found > 100_000 && lost > 100_000 && doubtful > 10, "{found} found, {lost} not, {doubtful} after a doubt");
    assert!(misled[0] > 0 && misled[1] == 0, "{misled:?}");
}
