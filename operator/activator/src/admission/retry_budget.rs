//! How often requests that a pod refused may be tried again: a share of all requests and a few more,
//! so that pods which refuse for want of room are not asked ever more. Pure, the clock comes in.

use tokio::time::Instant;

/// For so many requests one may be tried again.
const REQUESTS_PER_RETRY: f64 = 5.0;

/// So many retries in a second are free.
const FREE_PER_SECOND: f64 = 10.0;

/// Most that can be saved up.
const MOST: f64 = 100.0;

/// The budget of one Function.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryBudget {
    saved: f64,
    /// Requests that had come when it was last asked.
    requests: u64,
    asked: Option<Instant>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { saved: FREE_PER_SECOND, requests: 0, asked: None }
    }
}

impl RetryBudget {
    /// Whether another may be tried again, after `requests` in all have come.
    pub fn take(&mut self, requests: u64, now: Instant) -> bool {
        let passed = self.asked.map_or(0.0, |asked| (now - asked).as_secs_f64());
        let came = u32::try_from(requests - self.requests).unwrap_or(u32::MAX);
        let earned = f64::from(came) / REQUESTS_PER_RETRY + passed * FREE_PER_SECOND;
        self.saved = (self.saved + earned).min(MOST);
        (self.requests, self.asked) = (requests, Some(now));
        let enough = self.saved >= 1.0;
        if enough {
            self.saved -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn retries_are_a_share_of_requests_and_a_few_each_second() {
        let mut now = Instant::now();
        let mut budget = RetryBudget::default();
        let mut take_all = |requests, now| {
            let mut taken = 0;
            while budget.take(requests, now) {
                taken += 1;
            }
            taken
        };
        assert_eq!(take_all(0, now), 10);
        assert_eq!(take_all(200, now), 40);
        assert_eq!(take_all(200, now), 0);
        now += Duration::from_secs(1);
        assert_eq!(take_all(200, now), 10);
        now += Duration::from_hours(1);
        assert_eq!(take_all(1_000_000, now), 100);
    }
}
