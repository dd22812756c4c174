//! A forwarder, a rate and a frame size in, what a trial showed out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::forwarder::{Watch, thread_time, worker_time};
use super::policy::PORT;
use super::search::Shown;
use crate::base::time::Now;
use crate::control::cores;
use crate::io::xdp::Queue;
use crate::lab::LabError;
use crate::lab::generator::account::Arrival;
use crate::lab::generator::traffic::FRAME_SIZES;
use crate::lab::generator::{Rate, Sizes, Traffic, Way, drive};
use crate::lab::place::Place;

/// How long nothing may come before a trial ends; on a pair of virtual links nothing is under way for longer.
const PATIENCE: Duration = Duration::from_millis(100);

/// Nanoseconds without a core that rings make up for: a thousand frames wait meanwhile.
const UNDISTURBED: u64 = 1_000_000;

/// The longest that a sender is held up for which it makes up: the frames of a millisecond fit the rings, and those of more sent at
/// once would be lost to the generator's rate and not to the one asked for.
const MAKING_UP: Duration = Duration::from_millis(1);

/// The part of the packets that may be left out of a trial before it says nothing about its rate.
const NOTABLE: f64 = 0.01;

/// How long greetings take: so slow that every forwarder that remembers flows manages those of a thousand.
const GREETING: Duration = Duration::from_millis(250);
/// Packets of each flow and direction in a greeting, on average: one flow in three thousand gets none.
const GREETINGS: f64 = 8.0;

/// Directions of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Ways {
    /// Half of the packets each way
    Both,
    /// From the uplink to the downlink
    Inbound,
    /// From the downlink to the uplink
    Outbound,
}

impl Ways {
    /// The word in tables, JSON and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Ways::Both => "both",
            Ways::Inbound => "inbound",
            Ways::Outbound => "outbound",
        }
    }
}

/// The generator between its two interfaces.
pub struct Generator<'a> {
    /// Queues of the clients' and of the workers' interface.
    pub ends: [Vec<Queue>; 2],
    /// Hardware addresses of the gateway's two ports, which a router asks for.
    pub macs: [[u8; 6]; 2],
    /// Flows per direction.
    pub flows: u32,
    /// Core of the generator's thread.
    pub core: Option<usize>,
    /// Set when the user wants to stop.
    pub stop: &'a AtomicBool,
    /// Tells the packets of one trial from those of the next.
    pub run: AtomicU16,
}

/// What is offered in a trial.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Packets per second, all directions together; 0 = as many as the generator can.
    pub rate: f64,
    /// Bytes of the frames with check sequence.
    pub size: u16,
    /// How long.
    pub duration: Duration,
    /// Which way.
    pub ways: Ways,
    /// Packets of a direction that are sent together, at the same rate over all.
    pub burst: u64,
}

/// What a trial showed.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Packets sent.
    pub sent: u64,
    /// Packets that were due and were not sent.
    pub left_out: u64,
    /// Packets that arrived.
    pub received: u64,
    /// Duplicates, reordered and corrupted ones.
    pub spoilt: u64,
    /// Seconds of sending.
    pub seconds: f64,
    /// Nanoseconds per packet that the generator's calls took.
    pub sending: f64,
    /// One-way delays in nanoseconds.
    pub delays: Histogram<u64>,
    /// Nanoseconds that others had a core which the generator's or the gateway's thread wanted.
    pub without_core: u64,
}

impl Trial {
    /// For the search.
    pub fn shown(&self) -> Shown {
        let lost = self.sent.saturating_sub(self.received) + self.spoilt;
        Shown {
            sent: self.sent as f64 / self.seconds,
            lost: lost as f64 / self.sent.max(1) as f64,
            was_disturbed: self.without_core > UNDISTURBED,
            was_held_up: self.was_held_up(),
        }
    }

    /// Whether notably less was sent than asked for, and others had the cores for at least half of the time that is missing: what
    /// is missing otherwise is more than the generator can send.
    fn was_held_up(&self) -> bool {
        let missing = self.left_out as f64 / (self.sent + self.left_out).max(1) as f64;
        missing > NOTABLE && self.without_core as f64 >= missing * self.seconds * 1e9 / 2.0
    }
}

impl Generator<'_> {
    /// Lets every flow be known to the forwarder in both directions, as established ones are, before trials begin; `None` when the
    /// user stopped it. What is lost meanwhile does not count.
    ///
    /// # Errors
    /// As [`Generator::trial`].
    pub fn greet(&mut self) -> Result<Option<()>, LabError> {
        let rate = 2.0 * GREETINGS * f64::from(self.flows) / GREETING.as_secs_f64();
        let offer = Offer { rate, size: FRAME_SIZES[0], duration: GREETING, ways: Ways::Both, burst: 1 };
        Ok(self.trial(offer, |_, _| ())?.map(|_| ()))
    }

    /// Runs a trial; `None` when the user stopped it. `arrived` is told of each first intact copy with its direction.
    ///
    /// # Errors
    /// A frame size that there is not.
    pub fn trial(
        &mut self,
        offer: Offer,
        arrived: impl FnMut(usize, Arrival) + Send,
    ) -> Result<Option<Trial>, LabError> {
        let stop = self.stop;
        self.trial_until(offer, stop, arrived)
    }

    /// The same; what is to be sent ends when `done` is set.
    ///
    /// # Errors
    /// As [`Generator::trial`].
    pub fn trial_until(
        &mut self,
        offer: Offer,
        done: &AtomicBool,
        arrived: impl FnMut(usize, Arrival) + Send,
    ) -> Result<Option<Trial>, LabError> {
        let count: u32 = if offer.ways == Ways::Both { 2 } else { 1 };
        let rate = match offer.rate / f64::from(count) {
            rate if rate >= 1.0 => Rate::PerSecond(rate as u64),
            _ => Rate::Max,
        };
        let total = rate.total(offer.duration.as_nanos() as u64);
        let sizes = Sizes::one(offer.size).map_err(LabError::Usage)?;
        let forth = Traffic { sizes, flows: self.flows, port: PORT, ..Traffic::default() };
        let back = forth.answers();
        let [near, far] = self.macs;
        let traffic = match offer.ways {
            Ways::Both => vec![(&forth, near), (&back, far)],
            Ways::Inbound => vec![(&forth, near)],
            Ways::Outbound => vec![(&back, far)],
        };
        let way = |(traffic, to_mac): (&Traffic, [u8; 6])| {
            let traffic = Traffic { to_mac, ..traffic.clone() };
            let way = Way::new(&traffic, rate, self.run.fetch_add(1, Ordering::Relaxed), total);
            Way { sender: way.sender.in_bursts(offer.burst).making_up(MAKING_UP), ..way }
        };
        let mut ways: Vec<Way> = traffic.into_iter().map(way).collect();
        // The first way starts at the first end.
        if offer.ways == Ways::Outbound {
            self.ends.swap(0, 1);
        }
        let (ends, core) = (&mut self.ends, self.core);
        let before = without_core(Place::Gateway);
        let (elapsed, waited) = thread::scope(|scope| {
            let sending = scope.spawn(|| {
                // Where that is refused, it runs where the scheduler likes.
                let _ = core.map(cores::pin);
                let before = without_core(Place::Generator);
                let elapsed = drive(ends, &mut ways, [offer.duration, PATIENCE], done, arrived);
                (elapsed, without_core(Place::Generator).saturating_sub(before))
            });
            sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        if offer.ways == Ways::Outbound {
            self.ends.swap(0, 1);
        }
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let ended = Now(elapsed.sending.as_nanos() as u64);
        let mut trial = Trial {
            sent: 0,
            left_out: 0,
            received: 0,
            spoilt: 0,
            seconds: elapsed.sending.as_secs_f64().max(1e-9),
            sending: 0.0,
            without_core: without_core(Place::Gateway).saturating_sub(before) + waited,
            delays: Histogram::new_from(ways[0].receiver.account().delays()),
        };
        for way in &ways {
            let account = way.receiver.account();
            let tally = account.tally();
            trial.sent += way.sender.sent();
            trial.left_out += way.sender.left_out(ended);
            trial.received += tally.received;
            trial.spoilt += tally.duplicated + tally.reordered + tally.corrupted;
            trial.sending += way.sender.handing_over().as_nanos() as f64;
            // Of the same bounds.
            let _ = trial.delays.add(account.delays());
        }
        trial.sending /= trial.sent.max(1) as f64;
        Ok(Some(trial))
    }
}

/// Nanoseconds that the thread at this place has waited for a core so far: the worker's, and what a hypervisor took from all cores;
/// or the calling thread's own.
fn without_core(of: Place) -> u64 {
    match of {
        Place::Gateway => worker_time().map_or(0, |time| time.1) + stolen(),
        _ => thread_time(Path::new("/proc/thread-self")).map_or(0, |time| time.1),
    }
}

/// Nanoseconds that the hypervisor gave to others, all cores together, in its steps of ten milliseconds (`/proc/stat`).
fn stolen() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let steal = text.lines().next().and_then(|line| line.split_ascii_whitespace().nth(8)?.parse::<u64>().ok());
    steal.unwrap_or(0) * 10_000_000
}

/// What a packet costs at a fixed rate, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Packets per second at which it was measured.
    pub rate: f64,
    /// CPU time of the gateway's thread; `None` where the kernel forwards.
    pub gateway: Option<f64>,
    /// Time of the gateway's thread in turns that moved frames.
    pub busy: Option<f64>,
    /// Frames that the gateway's thread took off a ring at once, on average.
    pub at_once: Option<f64>,
    /// Times that the gateway's thread went to sleep, for each packet.
    pub sleeps: Option<f64>,
    /// Time of the generator's calls into the kernel, in which the kernel also forwards.
    pub sending: f64,
    /// Part of the packets that was lost meanwhile.
    pub lost: f64,
    /// One-way delays in nanoseconds, of all slices.
    pub delays: Histogram<u64>,
}

/// Slices that a cost is the median of: others on the machine disturb some of them.
pub const SLICES: usize = 6;
/// Most slices that are measured until so many of them were not disturbed.
const MOST_SLICES: usize = 18;

/// The part of a slice that others may have had a core for.
const DISTURBED: f64 = 0.01;

/// Measures the cost of a packet in slices of the offer's duration; `None` when the user stopped it. The figures are those of the
/// slice in the middle.
///
/// # Errors
/// As [`Generator::trial`].
pub fn cost(generator: &mut Generator<'_>, watch: &Watch<'_>, offer: Offer) -> Result<Option<Cost>, LabError> {
    let (mut slices, mut disturbed) = (Vec::new(), Vec::new());
    while slices.len() < SLICES && slices.len() + disturbed.len() < MOST_SLICES {
        let Some((slice, was_disturbed)) = slice(generator, watch, offer)? else { return Ok(None) };
        if was_disturbed {
            disturbed.push(slice)
        } else {
            slices.push(slice)
        };
    }
    if slices.is_empty() {
        slices = disturbed;
    }
    let of = |slice: &Cost| slice.busy.unwrap_or(slice.sending);
    slices.sort_by(|a, b| of(a).total_cmp(&of(b)));
    let mut delays: Option<Histogram<u64>> = None;
    for slice in &slices {
        match &mut delays {
            // Of the same bounds.
            Some(delays) => drop(delays.add(&slice.delays)),
            None => delays = Some(slice.delays.clone()),
        }
    }
    let middle = (slices.len() - 1) / 2;
    let Some(found) = slices.into_iter().nth(middle) else { return Ok(None) };
    Ok(Some(Cost { delays: delays.unwrap_or_else(|| found.delays.clone()), ..found }))
}

/// One slice, and whether others had the cores meanwhile.
fn slice(generator: &mut Generator<'_>, watch: &Watch<'_>, offer: Offer) -> Result<Option<(Cost, bool)>, LabError> {
    let before = watch.figures();
    let Some(trial) = generator.trial(offer, |_, _| ())? else { return Ok(None) };
    let after = watch.figures();
    let packets = trial.received.max(1) as f64;
    let per_packet = |of: fn(&super::forwarder::Figures) -> u64| {
        let (before, after) = (before.as_ref()?, after.as_ref()?);
        Some(of(after).saturating_sub(of(before)) as f64 / packets)
    };
    let shown = trial.shown();
    let cost = Cost {
        rate: shown.sent,
        gateway: per_packet(|figures| figures.on_core),
        busy: per_packet(|figures| figures.busy),
        at_once: per_packet(|figures| figures.bursts).map(|bursts| 1.0 / bursts.max(1e-9)),
        sleeps: per_packet(|figures| figures.sleeps),
        sending: trial.sending,
        lost: shown.lost,
        delays: trial.delays,
    };
    Ok(Some((cost, trial.without_core as f64 > DISTURBED * trial.seconds * 1e9)))
}

/// Percentiles of a histogram by name, in nanoseconds.
pub fn percentiles(histogram: &Histogram<u64>) -> BTreeMap<String, u64> {
    let at = |quantile| histogram.value_at_quantile(quantile);
    let named = [("p50", at(0.5)), ("p99", at(0.99)), ("p999", at(0.999)), ("max", histogram.max())];
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_others_held_up_is_told_from_one_beyond_the_generator() {
        let check = |left_out, without_core, expected| {
            let trial = Trial {
                sent: 1000 - left_out,
                left_out,
                received: 1000 - left_out,
                spoilt: 0,
                seconds: 0.5,
                sending: 0.0,
                delays: Histogram::new_with_bounds(1, 1000, 1).unwrap(),
                without_core,
            };
            let shown = trial.shown();
            assert_eq!((shown.was_disturbed, shown.was_held_up), expected, "{left_out}, {without_core}");
            assert_eq!(
                (shown.sent, shown.lost),
                (2.0 * (1000 - left_out) as f64, 0.0),
                "what was sent is what is told"
            );
        };
        check(0, 0, (false, false));
        check(0, 50_000_000, (true, false));
        // A tenth is missing, which are 50 ms.
        check(100, 0, (false, false));
        check(100, 24_000_000, (true, false));
        check(100, 25_000_000, (true, true));
        // A hundredth is nothing.
        check(10, 50_000_000, (true, false));
        check(11, 50_000_000, (true, true));
    }
}
