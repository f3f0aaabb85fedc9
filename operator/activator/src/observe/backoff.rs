//! How long a watch that broke waits before it begins anew: hardly at first, for an API server that
//! ends a watch is mostly there; longer and longer while it is not. It only counts, and waits not.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// Longest first wait. The API server ends the watches of a kind a few seconds after it learned of
/// it, when Functions are being applied already.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait, for an API server that is down: an activator has five watches, so that ten
/// activators make two attempts a second.
const MOST: Duration = Duration::from_secs(30);
/// Time without an error after which a watch is taken to be well again. The API server lets no
/// attempt take longer.
const STEADY: Duration = Duration::from_mins(1);

/// The waits of one watch. Half of each is left to chance, so that activators and watches that
/// broke together do not come back in step.
#[derive(Debug, Default)]
pub(super) struct WatchBackoff {
    failures: u32,
    /// When the last wait was over.
    waited: Option<Instant>,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.waited.is_some_and(|waited| now > waited + STEADY) {
            self.failures = 0;
        }
        let doubled = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let wait = FIRST.saturating_mul(doubled).min(MOST).mul_f64(0.5 + 0.5 * chance());
        self.waited = Some(now + wait);
        Some(wait)
    }
}

impl Backoff for WatchBackoff {
    /// Does nothing: it is called for each event, and the first event of a new attempt comes
    /// before the API server is even asked.
    fn reset(&mut self) {}
}

/// From 0 to 1, another each time: the keys of a `RandomState` are.
fn chance() -> f64 {
    let hash = RandomState::new().hash_one(());
    f64::from(u32::try_from(hash >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_is_soon_and_the_waits_grow_whatever_events_come() {
        let mut backoff = WatchBackoff::default();
        let mut most = FIRST;
        for _ in 0..40 {
            let wait = backoff.next().unwrap();
            assert!((most / 2..=most).contains(&wait), "{wait:?} of {most:?}");
            advance(wait).await;
            backoff.reset();
            most = (most * 2).min(MOST);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_was_well_for_a_while_begins_with_the_first_wait() {
        let mut backoff = WatchBackoff::default();
        let waited: Duration = backoff.by_ref().take(5).sum();
        advance(waited + STEADY).await;
        assert!(backoff.next().unwrap() <= FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_broke_together_do_not_come_back_in_step() {
        let waits: std::collections::BTreeSet<_> =
            (0..100).filter_map(|_| WatchBackoff::default().next()).collect();
        assert!(waits.len() > 90);
    }
}
