//! Time as an argument: nanoseconds since an arbitrary start, never read from a clock here.

use std::time::Duration;

use bytemuck::{Pod, Zeroable};

/// A moment in nanoseconds since the start of the run (monotonic clock) or since the epoch (capture timestamps).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Now(pub u64);

impl Now {
    /// A moment given in seconds, to the nearest nanosecond: 30.001 lies exactly 30 s after 0.001. Negative or non-finite values
    /// become 0, values beyond 584 years saturate.
    pub fn from_seconds(seconds: f64) -> Now {
        Now((seconds * 1e9).round() as u64)
    }

    /// Nanoseconds since `earlier`, 0 when `earlier` lies in the future.
    #[inline]
    pub const fn since(self, earlier: Now) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The later of two moments: time never runs backwards (GW-26).
    #[inline]
    pub fn at_least(self, other: Now) -> Now {
        Now(self.0.max(other.0))
    }

    /// The moment as a duration since the start.
    pub const fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_the_nearest_nanosecond() {
        let check = |seconds: f64, expected: u64| assert_eq!(Now::from_seconds(seconds).0, expected, "{seconds}");
        check(0.0, 0);
        check(1.001, 1_001_000_000);
        check(30.001, 30_001_000_000);
        check(432_000.7, 432_000_700_000_000);
        check(-1.0, 0);
        check(f64::NAN, 0);
        check(f64::INFINITY, u64::MAX);
    }
}
