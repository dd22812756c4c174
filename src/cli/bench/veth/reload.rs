//! A running forwarder and a number of changes in, what the changes did to traffic at a fixed rate out.
//!
//! Two policies take turns: the deny list, and the deny list that also refuses one of the traffic's sources. Every change reads,
//! compiles and publishes as a reload does. What both allow must not suffer; what one refuses shows when it is in force.

use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::forwarder::{Kind, Site, Watch};
use super::measure::{Generator, Offer, Trial};
use super::policy::State;
use super::result::ReloadRow;
use crate::control::daemon::give_way;
use crate::lab::LabError;
use crate::lab::generator::template::flow_of;
use crate::lab::generator::traffic::Traffic;

/// Source hosts of the traffic, which flows take in turn; the first one is refused now and then.
const HOSTS: u32 = 254;
const REFUSED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Longest traffic.
const LONGEST: Duration = Duration::from_secs(120);
/// Shortest time between two changes.
const SHORTEST: Duration = Duration::from_millis(20);

/// A change that is in force.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// Whether the first host is refused from now on.
    refuses: bool,
    /// When it was about to be published, in nanoseconds since the traffic began.
    before: u64,
    /// When it was published.
    published: u64,
    /// How long reading, compiling and publishing took.
    took: Duration,
}

/// Changes the policy under load; `None` when the user stopped it.
///
/// # Errors
/// What keeps the forwarder or a policy from starting.
pub fn under_load(
    site: &Site<'_>,
    generator: &mut Generator<'_>,
    rules: u32,
    changes: u32,
    offer: Offer,
) -> Result<Option<ReloadRow>, LabError> {
    let begun = Instant::now();
    site.load(rules, State::Without, None, 1)?;
    let pause = SHORTEST.max(2 * begun.elapsed());
    // Far longer than the changes need: they end the traffic.
    let offer = Offer { duration: LONGEST.max(pause * changes), ..offer };
    let is_done = AtomicBool::new(false);
    let kind = Kind::Ringwall { rules, state: State::Without };
    let flows = generator.flows;
    let start: OnceLock<Instant> = OnceLock::new();
    // Departures of the first host's packets that arrived, and how many packets of the others.
    let (mut passed, mut others): (Vec<u64>, u64) = (Vec::new(), 0);
    let arrived = |_, arrival: crate::lab::generator::account::Arrival| {
        start.get_or_init(|| Instant::now().checked_sub(arrival.at.as_duration()).unwrap_or_else(Instant::now));
        match u32::from(arrival.signature.flow) % HOSTS {
            0 => passed.push(arrival.signature.departure),
            _ => others += 1,
        }
    };
    let done = site.with(kind, |watch| {
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let made = change(site, watch, rules, changes, pause, &start);
                is_done.store(true, Ordering::Relaxed);
                made
            });
            let trial = generator.trial_until(offer, &is_done, arrived);
            let made = changing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, LabError>((trial?, made?))
        })
    })??;
    let (Some(trial), made) = done else { return Ok(None) };
    let is_other = |sequence: u64| !flow_of(Traffic::default().seed, flows, sequence as u32).is_multiple_of(HOSTS);
    let sent = (0..trial.sent).filter(|sequence| is_other(*sequence)).count() as u64;
    Ok(Some(row(rules, &made, &passed, (sent, others), &trial)))
}

fn row(rules: u32, made: &[Change], passed: &[u64], (sent, received): (u64, u64), trial: &Trial) -> ReloadRow {
    let took: f64 = made.iter().map(|change| change.took.as_secs_f64()).sum();
    ReloadRow {
        rules,
        changes: made.len() as u32,
        rate: trial.shown().sent,
        sent,
        lost: sent.saturating_sub(received),
        follows_ms: follows(made, passed) as f64 / 1e6,
        reload_ms: took * 1e3 / made.len().max(1) as f64,
    }
}

/// Makes the changes one after the other, from when traffic runs.
fn change(
    site: &Site<'_>,
    watch: &Watch<'_>,
    rules: u32,
    changes: u32,
    pause: Duration,
    start: &OnceLock<Instant>,
) -> Result<Vec<Change>, LabError> {
    give_way();
    let mut made = Vec::with_capacity(changes as usize);
    let waiting = Instant::now();
    while start.get().is_none() && waiting.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(1));
    }
    let Some(start) = start.get() else { return Ok(made) };
    for number in 0..changes {
        let due = *start + pause * (number + 1);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        let refuses = number % 2 == 0;
        let loaded = site.load(rules, State::Without, refuses.then_some(REFUSED), u64::from(number) + 2)?;
        let before = start.elapsed().as_nanos() as u64;
        watch.publish(loaded.load());
        made.push(Change { refuses, before, published: start.elapsed().as_nanos() as u64, took: begun.elapsed() });
    }
    Ok(made)
}

/// Longest time in nanoseconds from a change to the departure of the last packet that was judged by the policy before it. For a
/// change that allows, the first packet that passes bounds it from above.
fn follows(made: &[Change], passed: &[u64]) -> u64 {
    let mut departures = passed.to_vec();
    departures.sort_unstable();
    let ends = made.iter().skip(1).map(|next| next.before).chain([u64::MAX]);
    let late = made.iter().zip(ends).filter_map(|(change, end)| {
        let first = departures.partition_point(|departure| *departure < change.published);
        let last = departures.partition_point(|departure| *departure < end);
        let within = departures.get(first..last)?;
        let late = if change.refuses { within.last()? } else { within.first()? };
        Some(late - change.published)
    });
    late.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_packet_of_the_old_policy_says_how_long_a_change_took() {
        let change = |refuses, published| Change { refuses, before: published - 10, published, took: Duration::ZERO };
        let made = [change(true, 1000), change(false, 2000), change(true, 3000)];
        let check = |passed: &[u64], expected| assert_eq!(follows(&made, passed), expected, "{passed:?}");
        check(&[], 0);
        check(&[10, 500, 999], 0);
        check(&[10, 1040, 1995, 2001, 2980], 40);
        check(&[2300, 2400], 300);
        check(&[2300, 3500], 500);
    }
}
