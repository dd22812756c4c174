//! Time as an argument: nanoseconds since an arbitrary start, never read from a clock here.

use std::time::Duration;

/// A moment in nanoseconds since the start of the run (monotonic clock) or since the epoch (capture timestamps).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub u64);

impl Now {
    /// A moment given in seconds; negative or non-finite values become 0, values beyond 584 years saturate.
    pub fn from_seconds(seconds: f64) -> Now {
        Now((seconds * 1e9) as u64)
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
