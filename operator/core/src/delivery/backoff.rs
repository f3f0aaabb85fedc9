//! How long an event waits before it is sent again.

use std::time::Duration;

use crate::simulation::chance::Chance;

/// Doubles with each failure, between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row: half of it is fixed and half left to chance, so
    /// that what failed together does not come back together.
    pub fn delay(&self, failures: u32, chance: &mut Chance) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.min.saturating_mul(doubled).min(self.max);
        whole.mul_f64(0.5 + chance.share() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_are_spread() {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_mins(5) };
        let mut chance = Chance::new(7, 0);
        for (failures, whole) in [(0, 1), (1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (99, 300)] {
            let whole = Duration::from_secs(whole);
            let delays: Vec<_> = (0..50).map(|_| backoff.delay(failures, &mut chance)).collect();
            assert!(delays.iter().all(|delay| *delay >= whole / 2 && *delay <= whole));
            assert!(delays.iter().max() > delays.iter().min().map(|least| *least * 3 / 2).as_ref());
        }
    }
}
