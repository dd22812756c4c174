//! A seed in, numbers out that are the same on every machine: for traffic and rule sets that anybody can make again.

/// Pseudo-random numbers: Steele, Lea and Flood's SplitMix64, good enough for traffic and of no use for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next 128 bits.
    #[inline]
    pub const fn wide(&mut self) -> u128 {
        (self.word() as u128) << 64 | self.word() as u128
    }

    /// A number below `limit`, or 0 if that is 0. The bias is below `limit / 2^64`.
    #[inline]
    pub const fn below(&mut self, limit: u64) -> u64 {
        ((self.word() as u128 * limit as u128) >> 64) as u64
    }

    /// An index below `limit`, or 0 if that is 0.
    #[inline]
    pub const fn index(&mut self, limit: usize) -> usize {
        self.below(limit as u64) as usize
    }

    /// A number from `first` to `last`, both included.
    #[inline]
    pub const fn between(&mut self, first: u128, last: u128) -> u128 {
        match (last - first).checked_add(1) {
            // The bias of a remainder of 128 bits is nothing for prefixes, which are powers of two, and for ports.
            Some(count) => first + self.wide() % count,
            None => self.wide(),
        }
    }

    /// A fraction from 0 up to, but without, 1.
    #[inline]
    pub fn fraction(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Mixes a slice (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

/// Choices with weights: an index comes out in proportion to its weight.
#[derive(Clone, Debug)]
pub struct Weighted {
    sums: Vec<f64>,
}

impl Weighted {
    /// Choices with these weights.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Weighted {
        let mut sum = 0.0;
        let sums = weights.into_iter().map(|weight| {
            sum += weight;
            sum
        });
        Weighted { sums: sums.collect() }
    }

    /// `count` choices of which the one of rank `r`, from 1, has the weight `r^-skew` (Zipf).
    pub fn zipf(count: usize, skew: f64) -> Weighted {
        Weighted::new((1..=count).map(|rank| (rank as f64).powf(-skew)))
    }

    /// An index; 0 if there is no choice. Cost: the logarithm of the number of choices.
    pub fn draw(&self, random: &mut Random) -> usize {
        let at = random.fraction() * self.sums.last().copied().unwrap_or(0.0);
        self.sums.partition_point(|&sum| sum <= at).min(self.sums.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_out_in_proportion() {
        let weighted = Weighted::new([1.0, 0.0, 3.0]);
        let mut random = Random::new(1);
        let mut seen = [0u32; 3];
        for _ in 0..40_000 {
            seen[weighted.draw(&mut random)] += 1;
        }
        assert!(seen[1] == 0 && seen[0].abs_diff(10_000) < 500, "{seen:?}");
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut random = Random::new(7);
        for _ in 0..1_000 {
            assert!(random.below(3) < 3);
            assert!((5..=9).contains(&random.between(5, 9)));
        }
        assert_eq!(random.between(4, 4), 4);
        assert_eq!(random.index(0), 0);
        random.between(0, u128::MAX);
    }
}
