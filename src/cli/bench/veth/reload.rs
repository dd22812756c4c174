//! A running forwarder and a number of changes in, what the changes did to traffic at a fixed rate out.
//!
//! Two policies take turns: the deny list, and the deny list that also refuses one of the traffic's sources. What both allow must not
//! suffer; what one refuses shows when it is in force. The changes are made twice: with both programs at hand, which shows what a
//! change itself costs, and reading and compiling each time, which shows what that costs where no core is left for it: what compiles
//! leaves the gateway's core alone, as in `run`, and with two cores takes time from the generator. Where packets were lost, the same
//! traffic runs as long without any change: what the machine loses by itself is not lost to a change.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::forwarder::{Kind, Site, Watch};
use super::measure::{Generator, Offer};
use super::policy::State;
use super::result::ReloadRow;
use crate::control::cores;
use crate::lab::LabError;
use crate::lab::generator::account::Arrival;
use crate::lab::generator::template::flow_of;
use crate::lab::generator::traffic::Traffic;
use crate::worker::Load;

/// Source hosts of the traffic, which flows take in turn; the first one is refused now and then.
const HOSTS: u32 = 254;
const REFUSED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Longest traffic.
const LONGEST: Duration = Duration::from_secs(120);
/// How long to wait for the first packet.
const BEGINNING: Duration = Duration::from_secs(20);
/// Time between two changes: more than verdicts may take to follow one, or none that takes longer would show.
const PAUSE: Duration = Duration::from_millis(60);

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

/// Where the next program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It was compiled before the traffic began.
    Before,
    /// It is read and compiled while traffic runs.
    Meanwhile,
    /// From nowhere: time passes, and nothing changes.
    Never,
}

/// Full reloads are fewer: each takes a core for a while.
const FULL_RELOADS: u32 = 10;
/// Runs that may lose packets for reasons of the machine before the loss counts.
const ATTEMPTS: usize = 3;

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
    let mut tried = |changes, reading| best(|| changed(site, generator, (rules, changes, reading), offer));
    let Some(plain) = tried(changes, Reading::Before)? else { return Ok(None) };
    let mut unchanged_lost = None;
    if plain.lost > 0 {
        let Some(unchanged) = tried(changes, Reading::Never)? else { return Ok(None) };
        unchanged_lost = Some(unchanged.lost);
    }
    let Some(full) = tried(changes.min(FULL_RELOADS), Reading::Meanwhile)? else { return Ok(None) };
    let took: f64 = full.made.iter().map(|change| change.took.as_secs_f64()).sum();
    Ok(Some(ReloadRow {
        rules,
        changes: plain.made.len() as u32,
        rate: plain.rate,
        sent: plain.sent,
        lost: plain.lost,
        unchanged_lost,
        follows_ms: follows(&plain.made, &plain.passed) as f64 / 1e6,
        compiled: full.made.len() as u32,
        compiling_sent: full.sent,
        compiling_lost: full.lost,
        compiling_rate: full.rate,
        reload_ms: took * 1e3 / full.made.len().max(1) as f64,
    }))
}

/// The run that lost least of several, until one lost nothing; `None` when the user stopped one.
fn best(mut run: impl FnMut() -> Result<Option<Outcome>, LabError>) -> Result<Option<Outcome>, LabError> {
    let mut best: Option<Outcome> = None;
    for _ in 0..ATTEMPTS {
        let Some(outcome) = run()? else { return Ok(None) };
        let is_whole = outcome.lost == 0;
        if best.as_ref().is_none_or(|best| outcome.lost < best.lost) {
            best = Some(outcome);
        }
        if is_whole {
            break;
        }
    }
    Ok(best)
}

/// What one run showed.
struct Outcome {
    rate: f64,
    /// Packets of the hosts that both policies allow.
    sent: u64,
    lost: u64,
    made: Vec<Change>,
    /// Departures and arrivals of the first host's packets that arrived.
    passed: Vec<(u64, u64)>,
}

fn changed(
    site: &Site<'_>,
    generator: &mut Generator<'_>,
    (rules, changes, reading): (u32, u32, Reading),
    offer: Offer,
) -> Result<Option<Outcome>, LabError> {
    // Far longer than the changes need: they end the traffic.
    let offer = Offer { duration: LONGEST, ..offer };
    let is_done = AtomicBool::new(false);
    let (flows, stop) = (generator.flows, generator.stop);
    let start: OnceLock<Instant> = OnceLock::new();
    let (mut passed, mut others) = (Vec::new(), 0);
    let arrived = |_, arrival: Arrival| {
        start.get_or_init(|| Instant::now().checked_sub(arrival.at.as_duration()).unwrap_or_else(Instant::now));
        match u32::from(arrival.signature.flow) % HOSTS {
            0 => passed.push((arrival.signature.departure, arrival.at.0)),
            _ => others += 1,
        }
    };
    let load = |refuses: bool, generation| {
        let loaded = site.load(rules, State::Without, refuses.then_some(REFUSED), generation)?;
        Ok::<_, LabError>(loaded.load())
    };
    let prepared = match reading {
        Reading::Before => Some([load(false, 3)?, load(true, 2)?]),
        Reading::Meanwhile | Reading::Never => None,
    };
    let next = |number: u32| match &prepared {
        Some(loads) => Ok(Some(Arc::clone(&loads[usize::from(is_refusing(number))]))),
        None if reading == Reading::Never => Ok(None),
        None => load(is_refusing(number), u64::from(number) + 2).map(Some),
    };
    let done = site.with(Kind::Ringwall { rules, state: State::Without }, |watch| {
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                // As control does.
                cores::stand_aside(&cores::allowed(), site.core.as_slice());
                let made = change(watch, changes, (&start, stop), next);
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
    Ok(Some(Outcome { rate: trial.shown().sent, sent, lost: sent.saturating_sub(others), made, passed }))
}

/// Whether a change, from 0, puts the policy in force that refuses the first host.
fn is_refusing(number: u32) -> bool {
    number.is_multiple_of(2)
}

/// Makes the changes one after the other, from when traffic runs until the user wants to stop. Where there is no next program, it
/// takes as long and changes nothing.
fn change(
    watch: &Watch<'_>,
    changes: u32,
    (start, stop): (&OnceLock<Instant>, &AtomicBool),
    next: impl Fn(u32) -> Result<Option<Arc<Load>>, LabError>,
) -> Result<Vec<Change>, LabError> {
    let mut made = Vec::with_capacity(changes as usize);
    let waiting = Instant::now();
    let is_stopped = || stop.load(Ordering::Relaxed);
    while start.get().is_none() && !is_stopped() && waiting.elapsed() < BEGINNING {
        thread::sleep(Duration::from_millis(1));
    }
    let Some(start) = start.get() else { return Ok(made) };
    for number in (0..changes).take_while(|_| !is_stopped()) {
        thread::sleep(PAUSE);
        let begun = Instant::now();
        let Some(load) = next(number)? else { continue };
        let before = start.elapsed().as_nanos() as u64;
        watch.publish(load);
        let published = start.elapsed().as_nanos() as u64;
        made.push(Change { refuses: is_refusing(number), before, published, took: begun.elapsed() });
    }
    thread::sleep(PAUSE);
    Ok(made)
}

/// Longest time in nanoseconds from a change that refuses to the departure of the last packet that still passed. Of changes that
/// allow, only packets that are not there could tell. A packet that arrived after the next change, which allows, was perhaps judged by
/// that: it tells nothing.
fn follows(made: &[Change], passed: &[(u64, u64)]) -> u64 {
    let ends = made.iter().skip(1).map(|next| next.before).chain([u64::MAX]);
    let late = made.iter().zip(ends).filter(|(change, _)| change.refuses).filter_map(|(change, end)| {
        let is_late = |&&(departure, arrival): &&(u64, u64)| departure >= change.published && arrival < end;
        passed.iter().filter(is_late).map(|(departure, _)| departure - change.published).max()
    });
    late.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_three_runs_counts_and_one_without_loss_ends_it() {
        let check = |losses: &[u64], expected, runs| {
            let mut number = 0;
            let found = best(|| {
                number += 1;
                let lost = losses.get(number - 1).copied();
                Ok(lost.map(|lost| Outcome { rate: 1.0, sent: 10, lost, made: Vec::new(), passed: Vec::new() }))
            });
            assert_eq!((found.unwrap().map(|best| best.lost), number), (expected, runs), "{losses:?}");
        };
        check(&[0], Some(0), 1);
        check(&[5, 0], Some(0), 2);
        check(&[5, 3, 4], Some(3), 3);
        check(&[5, 3, 4, 0], Some(3), 3);
        // Stopped.
        check(&[5], None, 2);
        assert!(best(|| Err(LabError::Interrupted)).is_err());
    }

    #[test]
    fn the_last_packet_of_the_old_policy_says_how_long_a_change_took() {
        let change = |refuses, published| Change { refuses, before: published - 10, published, took: Duration::ZERO };
        let made = [change(true, 1000), change(false, 2000), change(true, 3000)];
        let check = |passed: &[(u64, u64)], expected| assert_eq!(follows(&made, passed), expected, "{passed:?}");
        let at_once = |departures: &[u64]| departures.iter().map(|at| (*at, *at)).collect::<Vec<_>>();
        check(&[], 0);
        check(&at_once(&[10, 500, 999]), 0);
        check(&at_once(&[10, 1040, 1980, 2001, 2980]), 980);
        check(&at_once(&[2300, 2400]), 0);
        check(&at_once(&[1040, 2300, 3500]), 500);
        // What was under way when the next change came was judged by that.
        check(&[(10, 20), (1040, 1060), (1980, 2010), (2980, 3100)], 40);
    }
}
