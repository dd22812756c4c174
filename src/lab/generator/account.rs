//! Received frames in, what the way did to the traffic out: loss, duplication, reordering and corruption, each by itself.
//!
//! Terms: a packet is *lost* when no intact copy arrives (RFC 7680), every intact copy after the first is a *duplicate* (RFC 5560),
//! and a packet is *reordered* when a later one of its flow came before it, that is, when its number is below the next expected
//! one (RFC 4737 section 3.3; duplicates do not count). *Corrupted* are frames between the run's addresses whose signature does
//! not vouch for them; everything else that arrives is *foreign*. RFC 5236 asks for the same distinction.

use hdrhistogram::Histogram;

use super::signature::Signature;
use super::template::View;
use super::traffic::{Path, Traffic};
use crate::base::time::Now;

/// Longest delay that is told from longer ones: a minute.
const LONGEST_DELAY: u64 = 60_000_000_000;

/// What arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets of which an intact copy arrived.
    pub received: u64,
    /// Their bytes, without check sequence.
    pub bytes: u64,
    /// Further intact copies.
    pub duplicated: u64,
    /// Packets that came after a later one of their flow.
    pub reordered: u64,
    /// How many numbers before the latest one of its flow a reordered packet was, at most.
    pub latest: u32,
    /// Frames of the run that were changed on the way.
    pub corrupted: u64,
    /// Frames of others.
    pub foreign: u64,
}

impl Tally {
    /// Packets of so many sent that never arrived intact.
    pub fn lost(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.received)
    }
}

/// An intact packet of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What it says about itself.
    pub signature: Signature,
    /// When it was taken off the ring.
    pub at: Now,
}

/// The account of one direction.
pub struct Account {
    run: u16,
    paths: Vec<Path>,
    /// A bit for each number that has arrived.
    seen: Vec<u64>,
    /// Numbers of the run are below this.
    numbers: u64,
    /// The next expected number of each flow.
    expected: Vec<u32>,
    tally: Tally,
    delays: Histogram<u64>,
}

impl Account {
    /// An empty account of a run that sends at most this many packets.
    pub fn new(traffic: &Traffic, run: u16, numbers: u64) -> Account {
        let bounds = Histogram::new_with_bounds(1, LONGEST_DELAY, 2);
        Account {
            run,
            paths: traffic.paths.clone(),
            seen: Vec::new(),
            numbers,
            expected: vec![0; traffic.flows.max(1) as usize],
            tally: Tally::default(),
            delays: bounds.expect("bounds and digits are constants within the histogram's range"),
        }
    }

    /// What arrived so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// One-way delays of intact packets in nanoseconds, from the burst's departure to the burst's arrival; 1 % precision.
    pub fn delays(&self) -> &Histogram<u64> {
        &self.delays
    }

    /// Takes a received frame into account; gives the arrival if it is the first intact copy of a packet.
    #[inline]
    pub fn take(&mut self, frame: &[u8], at: Now) -> Option<Arrival> {
        let Some(view) = View::of(frame) else {
            self.tally.foreign += 1;
            return None;
        };
        match view.signature() {
            Some((signature, true)) if signature.run == self.run => self.intact(signature, frame.len(), at),
            // Whole, but of another run, whose last packets may still be under way.
            Some((_, true)) => {
                self.tally.foreign += 1;
                None
            }
            _ => {
                self.broken(&view);
                None
            }
        }
    }

    #[inline]
    fn intact(&mut self, signature: Signature, bytes: usize, at: Now) -> Option<Arrival> {
        let number = signature.sequence;
        let Some(expected) =
            self.expected.get_mut(usize::from(signature.flow)).filter(|_| u64::from(number) < self.numbers)
        else {
            self.tally.foreign += 1;
            return None;
        };
        let (word, bit) = (number as usize / 64, 1u64 << (number % 64));
        if word >= self.seen.len() {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        let seen = self.seen.get_mut(word)?;
        if *seen & bit != 0 {
            self.tally.duplicated += 1;
            return None;
        }
        *seen |= bit;
        self.tally.received += 1;
        self.tally.bytes += bytes as u64;
        match expected.checked_sub(number) {
            Some(behind @ 1..) => {
                self.tally.reordered += 1;
                self.tally.latest = self.tally.latest.max(behind - 1);
            }
            _ => *expected = number.saturating_add(1),
        }
        self.delays.saturating_record(at.since(Now(signature.departure)).max(1));
        Some(Arrival { signature, at })
    }

    #[cold]
    fn broken(&mut self, view: &View<'_>) {
        let is_ours = view.addresses().is_some_and(|[source, destination]| {
            self.paths.iter().any(|path| path.from.contains(source) && path.to.contains(destination))
        });
        match is_ours {
            true => self.tally.corrupted += 1,
            false => self.tally.foreign += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::generator::template::Templates;

    const RUN: u16 = 77;

    /// What happens to a packet on the way: its number, which bit is turned, from how many copies.
    fn after(arrivals: &[u32], flows: u32, change: impl Fn(usize, &mut Vec<u8>)) -> Tally {
        let traffic = Traffic { flows, ..Traffic::default() };
        let templates = Templates::new(&traffic);
        let mut account = Account::new(&traffic, RUN, 1000);
        for (place, sequence) in arrivals.iter().enumerate() {
            let flow = sequence % flows;
            let signature = Signature { run: RUN, flow: flow as u16, sequence: *sequence, departure: 5 };
            let mut frame = vec![0; templates.length(&signature)];
            templates.write(&signature, &mut frame);
            change(place, &mut frame);
            account.take(&frame, Now(1005));
        }
        account.tally
    }

    fn untouched(_: usize, _: &mut Vec<u8>) {}

    fn of(received: u64) -> Tally {
        Tally { received, bytes: received * 60, ..Tally::default() }
    }

    #[test]
    fn each_fate_is_counted_by_itself() {
        let check = |arrivals: &[u32], expected| assert_eq!(after(arrivals, 1, untouched), expected, "{arrivals:?}");
        check(&[], of(0));
        check(&[0, 1, 2, 3], of(4));
        check(&[0, 3], of(2));
        check(&[0, 1, 1, 2, 0], Tally { duplicated: 2, ..of(3) });
        check(&[1, 0, 2], Tally { reordered: 1, latest: 1, ..of(3) });
        check(&[3, 2, 1, 0], Tally { reordered: 3, latest: 3, ..of(4) });
        // RFC 4737 section 3.3: what comes in order behind a gap is not reordered.
        check(&[0, 5, 6, 7], of(4));
        // A copy of a late packet is a duplicate and not reordered once more.
        check(&[2, 1, 1], Tally { reordered: 1, latest: 1, duplicated: 1, ..of(2) });
        assert_eq!(after(&[0, 3], 1, untouched).lost(4), 2);
    }

    #[test]
    fn flows_are_not_reordered_against_each_other() {
        assert_eq!(after(&[1, 0, 3, 2], 2, untouched), of(4));
        assert_eq!(after(&[3, 0, 1, 2], 2, untouched), Tally { reordered: 1, latest: 2, ..of(4) });
    }

    #[test]
    fn a_changed_frame_is_corrupted_and_its_packet_lost() {
        let tally = after(&[0, 1, 2], 1, |place, frame| frame[59] ^= u8::from(place == 1));
        assert_eq!(tally, Tally { corrupted: 1, ..of(2) });
        assert_eq!(tally.lost(3), 1);
        let cut = after(&[0, 1, 2], 1, |place, frame| frame.truncate(60 - place));
        assert_eq!(cut, Tally { foreign: 2, ..of(1) }, "a packet cut short is none of ours for sure");
    }

    #[test]
    fn frames_of_others_are_foreign() {
        let other_run = after(&[0], 1, |_, frame| {
            let traffic = Traffic::default();
            let signature = Signature { run: RUN + 1, flow: 0, sequence: 0, departure: 0 };
            Templates::new(&traffic).write(&signature, frame);
        });
        assert_eq!(other_run, Tally { foreign: 1, ..of(0) });
        assert_eq!(after(&[0], 1, |_, frame| frame[12] = 9), Tally { foreign: 1, ..of(0) }, "not IP");
        assert_eq!(after(&[0], 1, |_, frame| frame[26] = 9), Tally { foreign: 1, ..of(0) }, "from elsewhere");
        assert_eq!(after(&[1000], 1, untouched), Tally { foreign: 1, ..of(0) }, "a number that was never sent");
    }

    #[test]
    fn delays_are_those_of_first_copies() {
        let traffic = Traffic::default();
        let templates = Templates::new(&traffic);
        let mut account = Account::new(&traffic, RUN, 10);
        let mut frame = vec![0; 60];
        templates.write(&Signature { run: RUN, flow: 0, sequence: 0, departure: 5 }, &mut frame);
        for at in [1005, 9_000_005] {
            account.take(&frame, Now(at));
        }
        assert_eq!(account.delays().len(), 1);
        assert!((990..=1010).contains(&account.delays().max()), "{}", account.delays().max());
    }
}
