//! All figures of a run in, what they are to reach and whether they do out.

use serde::{Deserialize, Serialize};

use super::forwarder::Kind;
use super::measure::Ways;
use super::policy::{Form, State};
use super::result::{Results, median};

/// A figure that is to be reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// What is compared.
    pub name: String,
    /// At least, or at most where the name says so.
    pub wanted: f64,
    /// As measured.
    pub found: f64,
    /// Whether it is reached.
    pub reached: bool,
}

/// The least part of the bare forwarder's rate.
const OF_BARE: f64 = 0.95;
/// Times the kernel's rate with so many linear rules or more.
const LINEAR: (u32, f64) = (10_000, 25.0);
/// Two that are equal differ by the search's resolution, and by what the machine does from round to round.
const ALIKE: f64 = 0.98;
/// Nanoseconds of a packet beyond the bare forwarder, for parsing, flow and verdict together.
const BEYOND_BARE: f64 = 45.0;

/// The marks of what was measured, for the largest number of rules.
pub fn marks(results: &Results) -> Vec<Mark> {
    let rules = results.rates.iter().map(|row| row.forwarder).chain(results.costs.iter().map(|row| row.forwarder));
    let rules = rules.filter_map(|kind| match kind {
        Kind::Ringwall { rules, .. } => Some(rules),
        _ => None,
    });
    let Some(rules) = rules.max() else { return Vec::new() };
    let mut marks = Vec::new();
    let full = Kind::Ringwall { rules, state: State::With };
    let bare: Vec<(Ways, u16)> =
        results.rates.iter().filter(|row| row.forwarder == Kind::Bare).map(|row| (row.ways, row.size)).collect();
    for (ways, size) in bare {
        let mut compare = |pair: [Kind; 2], wanted: f64| {
            let [above, below] = pair;
            marks.extend(results.ratio(pair, ways, size).map(|found| Mark {
                name: format!("{size} bytes, {}: {} / {}", ways.word(), above.name(), below.name()),
                wanted,
                found,
                reached: found >= wanted,
            }));
        };
        compare([full, Kind::Bare], OF_BARE);
        compare([Kind::Bare, Kind::Testpmd], ALIKE);
        for state in State::ALL {
            let own = Kind::Ringwall { rules, state };
            let kernel = |form| Kind::Nftables { rules, state, form };
            // Connection tracking spares established flows the walk; the walk is what linear rules cost.
            let wanted = if state == State::Without && rules >= LINEAR.0 { LINEAR.1 } else { 1.0 };
            compare([own, kernel(Form::Linear)], wanted);
            for form in [Form::Set, Form::Map] {
                // No more is asked than what the bare forwarder leaves.
                let left = results.ratio([Kind::Bare, kernel(form)], ways, size).unwrap_or(1.0);
                compare([own, kernel(form)], OF_BARE * left.min(1.0));
            }
        }
    }
    for burst in results.costs.iter().filter(|row| row.forwarder == Kind::Bare).map(|row| row.burst) {
        let of = |kind| results.costs.iter().find(|row| (row.forwarder, row.burst) == (kind, burst));
        let rounds = of(full).zip(of(Kind::Bare)).map(|(full, bare)| full.busy_rounds.iter().zip(&bare.busy_rounds));
        let beyond = rounds.and_then(|rounds| median(rounds.map(|(full, bare)| full - bare)));
        let peer = of(Kind::Bare).zip(of(Kind::Testpmd)).and_then(|(bare, peer)| Some((bare.busy_ns?, peer.busy_ns?)));
        let mut at_most = |what: String, found: f64, wanted: f64| {
            let name = format!("{burst} sent at once, ns at most: {what}");
            marks.push(Mark { name, wanted, found, reached: found <= wanted });
        };
        if let Some(found) = beyond {
            at_most(format!("{} beyond the bare forwarder", full.name()), found, BEYOND_BARE);
        }
        if let Some((bare, peer)) = peer {
            at_most(format!("bare forwarder, as {}", Kind::Testpmd.name()), bare, peer / ALIKE);
        }
    }
    if let Some(row) = &results.reload {
        let mut at_most = |name: &str, found: f64, wanted: f64| {
            marks.push(Mark { name: name.to_owned(), wanted, found, reached: found <= wanted });
        };
        let unchanged = row.unchanged_lost.unwrap_or(0);
        at_most("reload under load: packets lost at most, as without changes", row.lost as f64, unchanged as f64);
        at_most("reload under load: verdicts follow within, ms", row.follows_ms, 50.0);
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::super::forwarder::Waiting;
    use super::super::result::{RateRow, ReloadRow};
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_the_machine_loses_without_a_change_is_not_lost_to_changes() {
        let rate = RateRow {
            forwarder: Kind::Ringwall { rules: 10, state: State::Without },
            ways: Ways::Inbound,
            size: 64,
            zero_loss: 1000.0,
            rounds: vec![1000.0],
            offered_most: 1000.0,
            of_bare: None,
        };
        let check = |lost, unchanged_lost, reached, said| {
            let mut results = Results::new(Duration::from_secs(1), 10, Waiting::Adaptive, 2);
            results.rates.push(rate.clone());
            results.reload = Some(ReloadRow {
                rules: 10,
                changes: 2,
                rate: 800.0,
                sent: 100,
                lost,
                unchanged_lost,
                follows_ms: 1.0,
                compiled: 1,
                compiling_sent: 10,
                compiling_lost: 0,
                compiling_rate: 800.0,
                reload_ms: 5.0,
            });
            let found =
                marks(&results).into_iter().find(|mark| mark.name.starts_with("reload under load: packets lost"));
            let found = found.map(|mark| (mark.reached, mark.found, mark.wanted));
            assert_eq!(found, Some((reached, lost as f64, unchanged_lost.unwrap_or(0) as f64)));
            assert!(results.text().contains(said), "{}", results.text());
        };
        check(0, None, true, "0 of 100 packets lost, verdicts follow");
        check(3, Some(0), false, "3 of 100 packets lost, 0 without any change, verdicts follow");
        check(3, Some(5), true, "3 of 100 packets lost, 5 without any change, verdicts follow");
    }
}
