//! The length of each turn and the frames sent in it in, a histogram of the time that frames spent inside the box out.
//!
//! A frame's time runs from the look at the receive rings that began the turn in which it was taken off, to the end of that turn,
//! when it lies in the transmit ring and the kernel has been told: two readings of the clock per turn, which the loop takes anyway,
//! and none per packet. It bounds the true time from above, because a turn also serves the other direction. Waiting in the receive
//! ring before the look is not in it.

use hdrhistogram::Histogram;

/// Longest time that is told from longer ones: ten seconds.
const LONGEST: u64 = 10_000_000_000;

/// Times inside the box in nanoseconds, 1 % precision.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Latency {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 2);
        Latency(histogram.expect("bounds and digits are constants within the histogram's range"))
    }
}

impl Latency {
    /// Notes that this many frames spent this long; takes no memory.
    #[inline]
    pub fn record(&mut self, nanoseconds: u64, frames: u64) {
        self.0.saturating_record_n(nanoseconds.max(1), frames);
    }

    /// Becomes equal to another one; takes no memory.
    pub fn copy_from(&mut self, other: &Latency) {
        self.0.reset();
        self.merge(other);
    }

    /// Adds what another worker saw.
    pub fn merge(&mut self, other: &Latency) {
        // Fails only for histograms of other bounds, of which there are none.
        let _ = self.0.add(&other.0);
    }

    /// The histogram.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_count_one_by_one_and_long_times_are_kept() {
        let mut latency = Latency::default();
        latency.record(1_000, 99);
        latency.record(u64::MAX, 1);
        latency.record(0, 0);
        let seen = latency.histogram();
        assert_eq!((seen.len(), seen.value_at_quantile(0.5)), (100, 1_003));
        assert!(seen.max() >= LONGEST, "{}", seen.max());
        let mut copy = Latency::default();
        copy.record(5, 5);
        copy.copy_from(&latency);
        assert_eq!(copy.histogram(), seen);
        copy.merge(&latency);
        assert_eq!(copy.histogram().len(), 200);
    }
}
