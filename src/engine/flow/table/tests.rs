use super::*;
use crate::engine::flow::tcp::Windows;
use crate::packet::Tuple;
use proptest::prelude::*;

fn flow(n: u32, at: u64, state: State) -> Flow {
    let tuple = Tuple { src: u128::from(n), dst: 99, sport: 1, dport: 2, protocol: 17, is_v6: 0 };
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
