//! The outcomes of trials in, the zero-loss rate out, by the search of RFC 2544 section 26.1; and the loss curve of section 26.3.

/// What one trial at an offered rate showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// Packets sent per second: what was asked for, or what the generator could do.
    pub sent: f64,
    /// The part of them that was lost, from 0 to 1.
    pub lost: f64,
    /// Whether others had the cores meanwhile: a loss then says nothing about the forwarder.
    pub was_disturbed: bool,
    /// Whether notably less was sent than asked for because others had the cores: that nothing was lost then says nothing about the
    /// rate that was asked for.
    pub was_held_up: bool,
}

impl Shown {
    /// Whether others had the cores for what was seen: a loss, or a rate that was not kept.
    fn says_nothing(&self, tolerance: f64) -> bool {
        if self.lost > tolerance { self.was_disturbed } else { self.was_held_up }
    }
}

/// A part that nothing loses by accident if nobody disturbed it: it is not tried again.
const HICCUP: f64 = 0.3;
/// Trials of a rate that others disturbed or held up and that are not counted, at most.
const DISTURBED: u32 = 8;

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    /// Most packets per second to offer.
    pub most: f64,
    /// Ends when the interval is smaller than this part of its upper end.
    pub resolution: f64,
    /// Loss that counts as none.
    pub tolerance: f64,
    /// Trials of a rate that may fail before it counts as too fast: losses that others on a shared machine cause are not repeated
    /// by every trial.
    pub attempts: u32,
}

impl Search {
    /// The highest rate at which a trial lost nothing, in packets per second; 0 if there was none. `trial` is asked to offer a rate;
    /// `None` ends the search, as an interrupt does.
    ///
    /// Which rate is tried next decides only how long it takes. The first is the guess, or the most; what came through of one that
    /// was too fast is the second; from a rate that passed on upwards, and from one that failed on downwards, steps double until the
    /// two meet.
    pub fn zero_loss(&self, guess: Option<f64>, trial: &mut dyn FnMut(f64) -> Option<Shown>) -> Option<f64> {
        let (mut best, mut low, mut high) = (0.0, 0.0, self.most);
        let mut next = guess.filter(|guess| (1.0..self.most).contains(guess)).unwrap_or(self.most);
        let mut step = self.resolution;
        // Whether the upper end is a rate that failed, and not one that nobody can offer.
        let mut is_bounded = false;
        let mut before = None;
        loop {
            let (passed, shown) = self.passes(next, trial)?;
            step = if before == Some(passed) { 2.0 * step } else { self.resolution };
            before = Some(passed);
            let wish = if passed {
                (best, low) = (shown.sent.min(next).max(best), next);
                low * (1.0 + step)
            } else {
                (high, is_bounded) = (next, true);
                let through = shown.sent * (1.0 - shown.lost) * (1.0 - self.resolution / 2.0);
                through.min(high * (1.0 - step))
            };
            // Less than a packet per second cannot be offered.
            if low >= self.most || high - low <= self.resolution * high || high < 1.0 {
                return Some(best);
            }
            next = match wish {
                wish if wish > low && wish < high => wish,
                _ if is_bounded => (low + high) / 2.0,
                _ => high,
            };
        }
    }

    /// Whether a rate passes, and what its last trial showed.
    fn passes(&self, rate: f64, trial: &mut dyn FnMut(f64) -> Option<Shown>) -> Option<(bool, Shown)> {
        let (mut attempt, mut disturbed) = (1, 0);
        loop {
            let shown = trial(rate)?;
            if shown.says_nothing(self.tolerance) && disturbed < DISTURBED {
                disturbed += 1;
                continue;
            }
            let passed = shown.lost <= self.tolerance;
            if passed || (shown.lost > HICCUP && !shown.was_disturbed) || attempt >= self.attempts {
                return Some((passed, shown));
            }
            attempt += 1;
        }
    }

    /// Loss at 100 %, 90 %, 80 % ... of the most, until two rates in a row lost nothing: the offered rate and the part lost.
    pub fn loss_curve(&self, trial: &mut dyn FnMut(f64) -> Option<Shown>) -> Option<Vec<(f64, f64)>> {
        let mut curve = Vec::new();
        let mut clean = 0;
        for tenths in (1..=10).rev() {
            let rate = self.most * f64::from(tenths) / 10.0;
            let mut shown = trial(rate)?;
            for _ in 0..DISTURBED {
                if !shown.says_nothing(self.tolerance) {
                    break;
                }
                shown = trial(rate)?;
            }
            curve.push((shown.sent, shown.lost));
            clean = if shown.lost <= self.tolerance { clean + 1 } else { 0 };
            if clean == 2 {
                break;
            }
        }
        Some(curve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search = Search { most: 1000.0, resolution: 0.01, tolerance: 0.0, attempts: 1 };

    /// A forwarder that passes so many packets per second and loses what is beyond.
    fn forwarder(capacity: f64) -> impl FnMut(f64) -> Option<Shown> {
        move |rate| {
            Some(Shown {
                sent: rate,
                lost: ((rate - capacity) / rate).max(0.0),
                was_disturbed: false,
                was_held_up: false,
            })
        }
    }

    #[test]
    fn the_rate_is_found_to_the_resolution_from_below() {
        for capacity in [3.0, 77.0, 500.0, 501.0, 999.0] {
            let found = SEARCH.zero_loss(None, &mut forwarder(capacity)).unwrap();
            assert!(found <= capacity && capacity - found <= 0.01 * capacity + 1e-9, "{capacity}: {found}");
        }
        assert_eq!(SEARCH.zero_loss(None, &mut forwarder(1000.0)), Some(1000.0));
        assert_eq!(SEARCH.zero_loss(None, &mut forwarder(0.0)), Some(0.0));
    }

    #[test]
    fn a_guess_saves_trials_and_changes_nothing_else() {
        for capacity in [77.0, 500.0, 985.0, 2000.0] {
            for guess in [1.0, 70.0, 0.99 * capacity, 1.01 * capacity, 900.0, 1000.0, 5000.0, f64::NAN] {
                let mut trials = 0;
                let mut forward = forwarder(capacity);
                let mut trial = |rate| {
                    trials += 1;
                    forward(rate)
                };
                let found = SEARCH.zero_loss(Some(guess), &mut trial).unwrap();
                let expected: f64 = capacity.min(1000.0);
                assert!(
                    found <= expected && expected - found <= 0.01 * expected + 1e-9,
                    "{capacity}, {guess}: {found}"
                );
                let is_near = (guess / expected - 1.0).abs() < 0.011;
                assert!(trials <= if is_near { 4 } else { 20 }, "{capacity}, {guess}: {trials}");
            }
        }
    }

    #[test]
    fn a_rate_that_the_generator_does_not_reach_is_not_claimed() {
        let limited =
            |rate: f64| Some(Shown { sent: rate.min(800.0), lost: 0.0, was_disturbed: false, was_held_up: false });
        assert_eq!(SEARCH.zero_loss(None, &mut { limited }), Some(800.0));
    }

    #[test]
    fn a_loss_that_is_not_repeated_does_not_count() {
        let hiccup = |every: u32| {
            let mut number = 0;
            move |rate: f64| {
                number += 1;
                let capacity = if number % every == 1 { 0.8 * rate } else { 600.0 };
                forwarder(capacity)(rate)
            }
        };
        let patient = Search { attempts: 3, ..SEARCH };
        assert!(patient.zero_loss(None, &mut hiccup(3)).unwrap() > 590.0);
        assert!(SEARCH.zero_loss(None, &mut hiccup(2)).unwrap() < 590.0);
    }

    #[test]
    fn a_loss_while_others_had_the_cores_is_no_attempt() {
        let mut number = 0;
        let mut trial = |rate: f64| {
            number += 1;
            let was_disturbed = number % 4 != 0;
            let shown = forwarder(if was_disturbed { 0.8 * rate.min(600.0) } else { 600.0 })(rate)?;
            Some(Shown { was_disturbed, ..shown })
        };
        assert!(SEARCH.zero_loss(None, &mut trial).unwrap() > 590.0);
        // Nor is one of most packets.
        let mut number = 0;
        let mut trial = |rate: f64| {
            number += 1;
            let was_disturbed = number % 4 != 0;
            let shown = forwarder(if was_disturbed { 0.2 * rate } else { 600.0 })(rate)?;
            Some(Shown { was_disturbed, ..shown })
        };
        assert!(SEARCH.zero_loss(None, &mut trial).unwrap() > 590.0);
        // Nor is it tried for ever.
        let shown = Shown { sent: 1000.0, lost: 0.01, was_disturbed: true, was_held_up: false };
        assert_eq!(SEARCH.zero_loss(None, &mut |_| Some(shown)), Some(0.0));
    }

    #[test]
    fn a_rate_that_was_not_kept_is_tried_again() {
        let held_up = |sometimes: u32| {
            let mut number = 0;
            move |rate: f64| {
                number += 1;
                let was_held_up = number % sometimes != 0;
                let shown = forwarder(600.0)(if was_held_up { 0.8 * rate } else { rate })?;
                Some(Shown { was_disturbed: was_held_up, was_held_up, ..shown })
            }
        };
        let found = SEARCH.zero_loss(None, &mut held_up(4)).unwrap();
        assert!((590.0..=600.0).contains(&found), "{found}");
        let curve = SEARCH.loss_curve(&mut held_up(4)).unwrap();
        assert!(
            curve.iter().zip([1000.0, 900.0, 800.0, 700.0, 600.0]).all(|(point, rate)| point.0 == rate),
            "{curve:?}"
        );
        // Not for ever, and what was not sent is not claimed; nor is what was sent before given up.
        let found = SEARCH.zero_loss(None, &mut held_up(u32::MAX)).unwrap();
        assert!((590.0..=600.0).contains(&found), "{found}");
        let mut trial = |rate: f64| {
            let sent = if rate > 500.0 { 100.0 } else { rate };
            Some(Shown { sent, lost: 0.0, was_disturbed: true, was_held_up: sent < rate })
        };
        assert_eq!(SEARCH.zero_loss(Some(500.0), &mut trial), Some(500.0));
    }

    #[test]
    fn an_interrupt_ends_everything() {
        assert_eq!(SEARCH.zero_loss(None, &mut |_| None), None);
        assert_eq!(SEARCH.loss_curve(&mut |_| None), None);
    }

    #[test]
    fn the_curve_ends_after_two_rates_without_loss() {
        let curve = SEARCH.loss_curve(&mut forwarder(850.0)).unwrap();
        let rates: Vec<f64> = curve.iter().map(|point| point.0).collect();
        assert_eq!(rates, [1000.0, 900.0, 800.0, 700.0]);
        assert!((curve[0].1 - 0.15).abs() < 1e-9 && curve[3].1 == 0.0);
    }
}
