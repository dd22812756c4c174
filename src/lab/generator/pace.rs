//! A rate and the time since the start in, how many frames are due out.

use std::fmt;
use std::str::FromStr;

/// How many frames are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// This many per second, at least 1, evenly spaced.
    PerSecond(u64),
    /// As many as the sending side takes.
    Max,
}

impl Rate {
    /// How many frames of a run are due in all after this many nanoseconds; without a bound for [`Rate::Max`].
    ///
    /// The first is due at once, the second an interval later. Frames that could not be sent in time stay due.
    #[inline]
    pub fn due(self, nanoseconds: u64) -> u64 {
        match self {
            Rate::Max => u64::MAX,
            Rate::PerSecond(rate) => {
                let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
                seconds.saturating_mul(rate).saturating_add(rest * rate / 1_000_000_000).saturating_add(1)
            }
        }
    }

    /// When a frame of a run becomes due, by its number from 0, in nanoseconds: the earliest time at which [`Rate::due`] counts it.
    #[inline]
    pub fn at(self, number: u64) -> u64 {
        match self {
            Rate::Max => 0,
            Rate::PerSecond(rate) => {
                let rate = rate.max(1);
                let (seconds, rest) = (number / rate, number % rate);
                seconds.saturating_mul(1_000_000_000).saturating_add((rest * 1_000_000_000).div_ceil(rate))
            }
        }
    }

    /// Frames that a run of this many nanoseconds offers, at most.
    pub fn total(self, nanoseconds: u64) -> u64 {
        /// More than any machine sends by sockets, per microsecond.
        const FASTEST: u64 = 100;
        match self {
            Rate::Max => nanoseconds / 1_000 * FASTEST,
            Rate::PerSecond(_) => self.due(nanoseconds).saturating_sub(1).max(1),
        }
    }

    /// Nanoseconds from one frame to the next, 0 for [`Rate::Max`].
    pub fn interval(self) -> u64 {
        match self {
            Rate::Max => 0,
            Rate::PerSecond(rate) => 1_000_000_000 / rate.max(1),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    /// `max`, or frames per second with an optional `k` or `M`: `20k`, `0.8M`, `1500`.
    fn from_str(text: &str) -> Result<Rate, String> {
        let refusal =
            || format!("`{text}` is no rate: expected `max` or frames per second such as `1500`, `20k` or `0.8M`");
        if text == "max" {
            return Ok(Rate::Max);
        }
        let (digits, factor) = match text.chars().last() {
            Some('k') => (text.trim_end_matches('k'), 1e3),
            Some('M') => (text.trim_end_matches('M'), 1e6),
            _ => (text, 1.0),
        };
        let rate = digits.parse::<f64>().map_err(|_| refusal())? * factor;
        // Beyond this no port sends, and products of rate and nanoseconds would not fit.
        match (1.0..=1e9).contains(&rate) {
            true => Ok(Rate::PerSecond(rate as u64)),
            false => Err(refusal()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Max => f.write_str("max"),
            Rate::PerSecond(rate) => write!(f, "{rate}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_people_say_them() {
        let check = |text: &str, expected| assert_eq!(text.parse::<Rate>().ok(), expected, "{text}");
        check("max", Some(Rate::Max));
        check("1500", Some(Rate::PerSecond(1500)));
        check("20k", Some(Rate::PerSecond(20_000)));
        check("0.8M", Some(Rate::PerSecond(800_000)));
        check("0", None);
        check("-5", None);
        check("fast", None);
        check("1e99", None);
        check("NaN", None);
        check("", None);
    }

    #[test]
    fn frames_are_due_at_their_intervals_and_stay_due() {
        let check = |rate, nanoseconds, expected| assert_eq!(Rate::PerSecond(rate).due(nanoseconds), expected);
        check(1000, 0, 1);
        check(1000, 999_999, 1);
        check(1000, 1_000_000, 2);
        check(1000, 10_000_000_000, 10_001);
        check(1_000_000_000, 3_600_000_000_000, 3_600_000_000_001);
        for rate in [1, 3, 1000, 999_983, 1_000_000_000] {
            for number in [0, 1, 2, rate - 1, rate, 7 * rate + 1, u64::from(u32::MAX)] {
                let at = Rate::PerSecond(rate).at(number);
                assert!(Rate::PerSecond(rate).due(at) > number, "{rate}, {number}");
                assert!(at == 0 || Rate::PerSecond(rate).due(at - 1) <= number, "{rate}, {number}");
            }
        }
        assert_eq!(Rate::PerSecond(1000).total(1_000_000_000), 1000);
        assert_eq!(Rate::PerSecond(1).total(1000), 1, "a run sends at least one frame");
    }
}
