//! Chance for simulations: numbers that follow from a seed and nothing else.

/// A small generator (`SplitMix64`; Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of a seed. Those of another `stream` have nothing to do with them.
    pub const fn new(seed: u64, stream: u64) -> Self {
        Self::of(
            seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        )
    }

    /// The numbers that come after the state `state`.
    pub const fn of(state: u64) -> Self {
        Self(state)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.number() % bound).unwrap_or_default()
    }

    /// From 0 to 1, without 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A pause between two events that come independently, `mean` apart on average.
    pub fn pause(&mut self, mean: f64) -> f64 {
        -(1.0 - self.share()).ln() * mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_the_seed_and_are_spread_evenly() {
        let shares = |seed| {
            let mut chance = Chance::new(seed, 1);
            std::iter::repeat_with(move || chance.share()).take(10_000)
        };
        assert!(shares(1).eq(shares(1)) && !shares(1).eq(shares(2)));
        let mean = shares(3).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02 && shares(3).all(|share| (0.0..1.0).contains(&share)));
    }
}
