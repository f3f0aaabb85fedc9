//! What a cold start is worth in memory: the one choice that the learned policy leaves to the user.

use std::time::Duration;

use serde::Serialize;

/// Euler's constant; see [`Economy::chance_per_second`].
const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;
/// A pod costs more than its memory (an address, a sandbox, a place on the node), and memory alone
/// shall not decide: no Function counts for less or more than this.
const WEIGHTS: (f64, f64) = (0.25, 4.0);
const THOUSAND: f64 = 1000.0;

/// How dear warm memory is held against cold starts, from cheap to warm.
///
/// Each level is named by the fixed idle time with whose memory it does, as long as requests come
/// without any pattern and their rate may be of any order of magnitude. What patterns there are
/// then saves memory, cold starts or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Economy {
    /// As a fixed time of 5 minutes.
    Cheap,
    /// As a fixed time of 15 minutes: the middle (median) of what is published of large
    /// platforms: 1 minute (Huawei, Knative), 10 (AWS), 20 (Azure), 25 to 60 (AWS before), hours
    /// (Google).
    #[default]
    Balanced,
    /// As a fixed time of an hour.
    Warm,
}

impl Economy {
    /// The fixed idle time that needs as much memory.
    pub const fn fixed_time(self) -> Duration {
        match self {
            Self::Cheap => Duration::from_mins(5),
            Self::Balanced => Duration::from_mins(15),
            Self::Warm => Duration::from_hours(1),
        }
    }

    /// How long a Function of which nothing is known is kept: as long as is usual, 10 minutes, but
    /// for those who want less or much more.
    pub const fn first_time(self) -> Duration {
        match self {
            Self::Cheap => Duration::from_mins(5),
            Self::Balanced => Duration::from_mins(10),
            Self::Warm => Duration::from_hours(1),
        }
    }

    /// The chance of a request in the next second from which on a pod of usual size is kept.
    ///
    /// A Function with requests at rate r and no pattern is either always worth keeping or never,
    /// as r is above this chance or below. A fixed time T keeps it for the share 1 - exp(-rT) of
    /// the time. Over all orders of magnitude of r, both need as much memory if the integral of
    /// (exp(-rT) - [r below chance]) / r vanishes, which it does at chance = exp(-gamma) / T.
    pub fn chance_per_second(self) -> f64 {
        (-EULER_GAMMA).exp() / self.fixed_time().as_secs_f64()
    }
}

/// What is at stake for one Function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stakes {
    economy: Economy,
    /// Its memory, in thousandths of the usual.
    weight: u16,
}

impl Stakes {
    /// The stakes of a Function with `memory` per pod where the mean of all is `usual`.
    pub fn new(economy: Economy, memory: f64, usual: f64) -> Self {
        let weight = if usual > 0.0 { memory / usual } else { 1.0 };
        let weight = if weight.is_finite() { weight.clamp(WEIGHTS.0, WEIGHTS.1) } else { 1.0 };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 250 to 4000"
        )]
        let weight = (weight * THOUSAND).round() as u16;
        Self { economy, weight }
    }

    /// The same economy for a Function with `memory` per pod where the mean of all is `usual`.
    #[must_use]
    pub fn weighed(self, memory: f64, usual: f64) -> Self {
        Self::new(self.economy, memory, usual)
    }

    /// The stakes of a Function that needs as much memory as is usual.
    pub const fn usual(economy: Economy) -> Self {
        Self { economy, weight: 1000 }
    }

    /// Chance of a request per second from which on the pod is kept.
    pub(super) fn chance(self) -> f64 {
        self.economy.chance_per_second() * f64::from(self.weight) / THOUSAND
    }

    /// How long the pod is kept while nothing is known.
    pub(crate) const fn first_time(self) -> Duration {
        self.economy.first_time()
    }

    /// The same, in seconds.
    pub(super) fn unknown(self) -> f64 {
        self.first_time().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_needs_the_memory_of_its_fixed_time_over_all_orders_of_magnitude() {
        let fixed = Economy::Balanced.fixed_time().as_secs_f64();
        let chance = Economy::Balanced.chance_per_second();
        // Rates from once in 30 years to a billion a second, a hundred to a decade.
        let balance: f64 = (-900..=900)
            .map(|step| 10_f64.powf(f64::from(step) / 100.0))
            .map(|rate| (-rate * fixed).exp() - f64::from(u8::from(rate < chance)))
            .sum();
        assert!(balance.abs() < 1.0, "{balance}");
    }

    #[test]
    fn levels_rank_from_cheap_to_warm_and_a_larger_pod_needs_a_better_chance() {
        let chances =
            [Economy::Warm, Economy::Balanced, Economy::Cheap].map(Economy::chance_per_second);
        assert!(chances.is_sorted());
        let chance = |memory, usual| Stakes::new(Economy::Balanced, memory, usual).chance();
        assert!(chance(200.0, 100.0) > chance(100.0, 100.0));
        assert!((chance(1e9, 1.0) / chance(1.0, 1.0) - WEIGHTS.1).abs() < 1e-9);
        for odd in [0.0, f64::NAN, f64::INFINITY] {
            assert!(chance(odd, 1.0).is_finite() && chance(1.0, odd).is_finite());
        }
    }
}
