//! Chance that a seed decides.

use std::time::Duration;

use rouse_core::simulation::chance::Chance;

/// The dice.
#[derive(Clone, Debug)]
pub struct Dice(Chance);

impl Dice {
    /// Dice whose throws the seed decides.
    pub const fn new(seed: u64) -> Self {
        Self(Chance::of(seed))
    }

    /// A number below `bound`, or 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    /// A time between two others.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let range =
            u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_micros(self.0.number() % range)
    }
}
