//! Senders and receivers in, a bounded run of traffic through what lies between them out.
//!
//! One thread sends and receives in turn, so that a test needs one core beside that of what is tested.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::account::{Account, Arrival};
use super::pace::Rate;
use super::signature::Signature;
use super::template::Templates;
use super::traffic::Traffic;
use crate::base::time::Now;
use crate::io::{BURST, Frames, Port};

/// Longest interval between frames that is spent looking instead of sleeping.
const LOOKING: u64 = 200_000;
/// How long to sleep at a time when less is to be sent.
const NAP: Duration = Duration::from_micros(50);
/// Most numbers of a run: they are 32 bits wide.
pub const MOST_PACKETS: u64 = u32::MAX as u64;

/// The sending side of one direction.
pub struct Sender {
    templates: Templates,
    rate: Rate,
    run: u16,
    /// Packets to send in all.
    total: u64,
    /// Packets that become due together.
    burst: u64,
    /// Most nanoseconds that are made up for.
    making_up: u64,
    /// By how many nanoseconds the schedule was moved on.
    late: u64,
    sent: u64,
    bytes: u64,
    /// Spent in the kernel's hands, forwarding by the kernel on this core included.
    handing_over: Duration,
}

impl Sender {
    /// A sender of at most this many packets.
    pub fn new(traffic: &Traffic, rate: Rate, run: u16, total: u64) -> Sender {
        let templates = Templates::new(traffic);
        let total = total.min(MOST_PACKETS);
        Sender {
            templates,
            rate,
            run,
            total,
            burst: 1,
            making_up: u64::MAX,
            late: 0,
            sent: 0,
            bytes: 0,
            handing_over: Duration::ZERO,
        }
    }

    /// The same with packets sent so many at a time, at the same rate over all.
    pub fn in_bursts(mut self, of: u64) -> Sender {
        self.burst = of.max(1);
        self
    }

    /// The same making up for no more than what was due within the last so much time: RFC 2544 wants a constant rate, and a sender
    /// that was held up and then sends all that is overdue at once has a rate of its own. What is overdue for longer is left out: the
    /// rest of the schedule moves on, and fewer packets are sent in the same time. Without a limit, all are sent.
    pub fn making_up(mut self, limit: Duration) -> Self {
        self.making_up = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Their bytes, without check sequence.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Time spent in calls that hand frames to the kernel. On a veth pair they include everything up to the next socket: what the
    /// kernel forwards, it forwards in here.
    pub fn handing_over(&self) -> Duration {
        self.handing_over
    }

    /// Whether all packets were sent.
    pub fn is_done(&self) -> bool {
        self.sent >= self.whole(self.total)
    }

    /// Packets that were due by this time of a run and were not sent: because the sender was held up, or because the interface took
    /// no more. None at a rate that is only bounded by what the interface takes.
    pub fn left_out(&self, now: Now) -> u64 {
        match self.rate {
            Rate::Max => 0,
            rate => self.whole(rate.due(now.0).min(self.total)).saturating_sub(self.sent),
        }
    }

    /// Packets of the whole bursts among these: a burst is due when its last packet would be.
    fn whole(&self, packets: u64) -> u64 {
        packets / self.burst * self.burst
    }

    /// Packets that are due in all, once the schedule has moved on over those that are overdue for too long.
    fn due(&mut self, now: Now) -> u64 {
        if self.making_up < u64::MAX {
            let next = self.whole(self.sent) + self.burst - 1;
            let overdue = now.0.saturating_sub(self.late).saturating_sub(self.rate.at(next));
            self.late += overdue.saturating_sub(self.making_up);
        }
        self.whole(self.rate.due(now.0.saturating_sub(self.late)).min(self.total))
    }

    /// Sends what is due, a burst at most, over the queues of an interface; returns how many packets. Frames of a flow stay on one
    /// queue.
    pub fn step<P: Port>(&mut self, ports: &mut [P], now: Now) -> usize {
        let due = self.due(now).saturating_sub(self.sent);
        let mut count = 0;
        while count < due.min(BURST as u64) {
            let Ok(sequence) = u32::try_from(self.sent) else { break };
            let flow = self.templates.flow_of(sequence);
            let signature = Signature { run: self.run, flow: flow as u16, sequence, departure: now.0 };
            let queue = flow as usize % ports.len().max(1);
            let Some(port) = ports.get_mut(queue) else { break };
            let length = self.templates.length(&signature);
            let Some(mut frame) = port.blank(length) else { break };
            self.templates.write(&signature, port.bytes_mut(&mut frame));
            if let Err(frame) = port.transmit(frame) {
                port.recycle(frame);
                break;
            }
            self.sent += 1;
            self.bytes += length as u64;
            count += 1;
        }
        if count > 0 || ports.iter_mut().any(Port::is_sending) {
            let start = Instant::now();
            ports.iter_mut().for_each(Port::flush);
            self.handing_over += start.elapsed();
        }
        count as usize
    }
}

/// The receiving side of one direction.
pub struct Receiver {
    frames: Frames,
    account: Account,
}

impl Receiver {
    /// A receiver that keeps this account.
    pub fn new(account: Account) -> Receiver {
        Receiver { frames: Frames::new(), account }
    }

    /// What arrived so far.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Takes a burst off each queue; `arrived` is told of the first intact copy of each packet. Returns how many frames.
    pub fn step<P: Port>(&mut self, ports: &mut [P], now: Now, arrived: &mut impl FnMut(Arrival)) -> usize {
        let mut count = 0;
        for port in ports {
            count += port.receive(&mut self.frames);
            for position in 0..self.frames.len() {
                let Some(frame) = self.frames.take(position) else { continue };
                if let Some(arrival) = self.account.take(port.bytes(&frame), now) {
                    arrived(arrival);
                }
                port.recycle(frame);
            }
            self.frames.clear();
        }
        count
    }
}

/// One direction of traffic between two interfaces.
pub struct Way {
    /// Sends on the interface with the way's number.
    pub sender: Sender,
    /// Receives on the other one.
    pub receiver: Receiver,
}

impl Way {
    /// A way for a traffic of at most this many packets; `run` tells it from others.
    pub fn new(traffic: &Traffic, rate: Rate, run: u16, total: u64) -> Way {
        let sender = Sender::new(traffic, rate, run, total);
        let receiver = Receiver::new(Account::new(traffic, run, sender.total));
        Way { sender, receiver }
    }

    /// Packets that have been sent and have not arrived.
    fn missing(&self) -> u64 {
        self.receiver.account().tally().lost(self.sender.sent())
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    /// From the first packet to the last one sent.
    pub sending: Duration,
    /// Whether it was stopped before all was sent.
    pub was_stopped: bool,
}

/// Sends everything that is due while receiving, then waits for what is under way until nothing came for as long as `patience`.
/// No more is sent once `stop` is set or `longest` has passed. The first way goes from the first interface's queues to the second's, a
/// second one back. `arrived` is told the way's number and each first intact copy.
pub fn drive<P: Port>(
    ends: &mut [Vec<P>; 2],
    ways: &mut [Way],
    [longest, patience]: [Duration; 2],
    stop: &AtomicBool,
    mut arrived: impl FnMut(usize, Arrival),
) -> Elapsed {
    let start = Instant::now();
    let now = || Now(start.elapsed().as_nanos() as u64);
    let interval = ways.iter().map(|way| way.sender.rate.interval()).min().unwrap_or(0);
    let mut was_stopped = false;
    while ways.iter().any(|way| !way.sender.is_done()) {
        was_stopped = stop.load(Ordering::Relaxed);
        if was_stopped || start.elapsed() >= longest {
            break;
        }
        let mut moved = 0;
        for (number, way) in ways.iter_mut().enumerate() {
            let [near, far] = facing(ends, number);
            moved += way.sender.step(near, now());
            moved += way.receiver.step(far, now(), &mut |arrival| arrived(number, arrival));
        }
        if moved == 0 && interval > LOOKING {
            thread::sleep(NAP);
        }
    }
    let sending = start.elapsed();
    let mut last = Instant::now();
    while ways.iter().any(|way| way.missing() > 0) && last.elapsed() < patience {
        let mut moved = 0;
        for (number, way) in ways.iter_mut().enumerate() {
            let [near, far] = facing(ends, number);
            near.iter_mut().for_each(Port::flush);
            moved += way.receiver.step(far, now(), &mut |arrival| arrived(number, arrival));
        }
        match moved {
            0 => thread::sleep(NAP),
            _ => last = Instant::now(),
        }
    }
    Elapsed { sending, was_stopped }
}

/// The end that a way starts from, and the other one.
fn facing<P>([first, second]: &mut [Vec<P>; 2], number: usize) -> [&mut Vec<P>; 2] {
    match number % 2 {
        0 => [first, second],
        _ => [second, first],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::memory::{MemoryPort, Wire, memory};
    use crate::lab::generator::account::Tally;

    const RUN: u16 = 3;

    type Ends = [Vec<MemoryPort>; 2];

    fn way(traffic: &Traffic, rate: Rate, total: u64) -> (Way, Ends, [Wire; 2]) {
        let mut ports = memory(2, 256, 2048).into_iter();
        let mut next = || ports.next().expect("two were asked for");
        let ((from, near), (to, far)) = (next(), next());
        (Way::new(traffic, rate, RUN, total), [vec![from], vec![to]], [near, far])
    }

    /// Sends 1,000 packets over a way that does something to each.
    fn over(change: impl Fn(usize, Vec<u8>) -> Vec<Vec<u8>>) -> Tally {
        let traffic = Traffic { flows: 5, sizes: "imix".parse().unwrap(), ..Traffic::default() };
        let (mut way, mut ends, [mut near, mut far]) = way(&traffic, Rate::Max, 1000);
        let (mut number, mut clock) = (0, 0);
        while !way.sender.is_done() {
            clock += 1000;
            way.sender.step(&mut ends[0], Now(clock));
            while let Some(frame) = near.take() {
                for copy in change(number, frame) {
                    assert!(far.inject(&copy));
                }
                number += 1;
            }
            while way.receiver.step(&mut ends[1], Now(clock), &mut |_| ()) > 0 {}
        }
        assert_eq!((number, way.sender.sent()), (1000, 1000));
        *way.receiver.account().tally()
    }

    #[test]
    fn what_a_way_does_is_what_is_counted() {
        let whole = over(|_, frame| vec![frame]);
        assert_eq!(whole, Tally { received: 1000, bytes: whole.bytes, ..Tally::default() });
        let lossy = over(|number, frame| if number % 10 == 0 { vec![] } else { vec![frame] });
        assert_eq!(lossy, Tally { received: 900, bytes: lossy.bytes, ..Tally::default() });
        assert_eq!(lossy.lost(1000), 100);
        let doubled = over(|number, frame| vec![frame; 1 + usize::from(number % 10 == 0)]);
        assert_eq!(doubled, Tally { duplicated: 100, ..whole });
        let corrupt = over(|number, mut frame| {
            let last = frame.len() - 1;
            frame[last] ^= u8::from(number % 10 == 0);
            vec![frame]
        });
        assert_eq!(corrupt, Tally { corrupted: 100, received: 900, bytes: corrupt.bytes, ..Tally::default() });
    }

    #[test]
    fn a_way_that_turns_the_order_round_reorders_and_loses_nothing() {
        let (mut way, mut ends, [mut near, mut far]) = way(&Traffic::default(), Rate::Max, 64);
        way.sender.step(&mut ends[0], Now(1));
        let mut frames: Vec<Vec<u8>> = std::iter::from_fn(|| near.take()).collect();
        frames.reverse();
        frames.iter().for_each(|frame| assert!(far.inject(frame)));
        let mut arrivals = Vec::new();
        way.receiver.step(&mut ends[1], Now(2), &mut |arrival| arrivals.push(arrival.signature.sequence));
        assert_eq!(arrivals, (0..64).rev().collect::<Vec<u32>>());
        let expected = Tally { received: 64, bytes: 64 * 60, reordered: 63, latest: 63, ..Tally::default() };
        assert_eq!(*way.receiver.account().tally(), expected);
    }

    #[test]
    fn a_paced_sender_sends_what_is_due_and_no_more() {
        let (mut way, mut ends, _wires) = way(&Traffic::default(), Rate::PerSecond(1000), 100);
        let steps = [0, 500_000, 1_000_000, 4_200_000].map(|now| way.sender.step(&mut ends[0], Now(now)));
        assert_eq!(steps, [1, 0, 1, 3]);
    }

    #[test]
    fn a_sender_in_bursts_keeps_the_rate_over_all() {
        let (mut way, mut ends, _wires) = way(&Traffic::default(), Rate::PerSecond(1000), 100);
        way.sender = way.sender.in_bursts(32);
        let at = |millisecond: u64| Now(millisecond * 1_000_000);
        let steps = [0, 30, 31, 32, 62, 63, 95, 999].map(|now| way.sender.step(&mut ends[0], at(now)));
        assert_eq!((steps, way.sender.is_done()), ([0, 0, 32, 0, 0, 32, 32, 0], true));
    }

    /// Packets that a sender of 10,000 per second sends at each of these microseconds, its interface's ring emptied before.
    fn sent_at<const N: usize>(change: impl Fn(Sender) -> Sender, times: [u64; N]) -> ([usize; N], Sender) {
        let (mut way, mut ends, [mut near, _far]) = way(&Traffic::default(), Rate::PerSecond(10_000), 1000);
        way.sender = change(way.sender);
        let counts = times.map(|time| {
            while near.take().is_some() {}
            way.sender.step(&mut ends[0], Now(time * 1000))
        });
        (counts, way.sender)
    }

    #[test]
    fn a_sender_that_was_held_up_makes_up_for_no_more_than_asked() {
        let millisecond = |sender: Sender| sender.making_up(Duration::from_millis(1));
        // On time, and as late as is made up for, nothing is left out: with a limit as without.
        let times = [0, 100, 1100, 1150, 2200, 2300];
        let (counts, sender) = sent_at(millisecond, times);
        assert_eq!((counts, sender.left_out(Now(2_300_000))), ([1, 1, 10, 0, 11, 1], 0));
        assert_eq!(sent_at(|sender| sender, times).0, counts);
        // Ten milliseconds late: a millisecond of it comes at once, and the rest of the schedule is kept from there on.
        let times = [0, 10_000, 10_050, 10_100, 10_200, 11_000, 21_000, 21_100];
        let (counts, sender) = sent_at(millisecond, times);
        assert_eq!(counts, [1, 11, 0, 1, 1, 8, 11, 1]);
        assert_eq!((sender.sent(), sender.left_out(Now(21_100_000)), sender.is_done()), (34, 212 - 34, false));
        // Without a limit all are made up for, and the count is exact in the end.
        let (counts, sender) = sent_at(|sender| sender, [0, 10_000, 10_001, 10_002, 10_100]);
        assert_eq!((counts, sender.left_out(Now(10_100_000))), ([1, 64, 36, 0, 1], 0));
        // All of them are sent with a limit, too, if there is time.
        let (_, sender) = sent_at(millisecond, std::array::from_fn::<u64, 130, _>(|step| step as u64 * 2000));
        assert!(sender.is_done() && sender.left_out(Now(u64::MAX)) == 0, "{}", sender.sent());
    }

    #[test]
    fn bursts_are_made_up_for_as_wholes() {
        let limited = |sender: Sender| sender.in_bursts(8).making_up(Duration::from_millis(1));
        // Due at 700, 1500, 2300, ...; the one that is due when the sender comes back, and the one within the millisecond before.
        let (counts, sender) = sent_at(limited, [600, 700, 1500, 20_000, 20_100, 20_700, 20_800, 21_500]);
        assert_eq!(counts, [0, 8, 8, 16, 0, 8, 0, 8]);
        assert_eq!(sender.left_out(Now(21_500_000)), 216 - 48);
    }

    #[test]
    fn a_sender_without_a_rate_is_never_late() {
        let (mut way, mut ends, _wires) = way(&Traffic::default(), Rate::Max, 100);
        way.sender = way.sender.making_up(Duration::ZERO);
        let steps = [0, 1_000_000_000].map(|now| way.sender.step(&mut ends[0], Now(now)));
        assert_eq!((steps, way.sender.left_out(Now(u64::MAX))), ([64, 36], 0));
    }

    #[test]
    fn a_run_ends_by_itself_when_nothing_arrives_and_at_once_when_told_to() {
        let times = [Duration::from_secs(60), Duration::from_millis(5)];
        let stop = AtomicBool::new(false);
        let (one, mut ends, _wires) = way(&Traffic::default(), Rate::Max, 10);
        let mut ways = [one];
        let ended = drive(&mut ends, &mut ways, times, &stop, |_, _| ());
        assert!(!ended.was_stopped && ways[0].sender.is_done());
        stop.store(true, Ordering::Relaxed);
        let (one, mut ends, _wires) = way(&Traffic::default(), Rate::Max, 10);
        let mut ways = [one];
        assert!(drive(&mut ends, &mut ways, [times[0]; 2], &stop, |_, _| ()).was_stopped);
        assert_eq!(ways[0].sender.sent(), 0);
    }
}
