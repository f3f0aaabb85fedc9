//! How long pods have requests: counts for the scaler, which tell service time and rate whenever
//! they are read.

use std::time::Duration;

use rouse_core::scaling::Traffic;
use tokio::time::Instant;

/// The stays of requests in the pods of one gate.
#[derive(Debug)]
pub(super) struct Stays {
    origin: Instant,
    served: u64,
    served_time: Duration,
    /// When those in flight began, after the origin, all together.
    begun: Duration,
}

impl Stays {
    pub(super) fn new() -> Self {
        let (served_time, begun) = (Duration::ZERO, Duration::ZERO);
        Self { origin: Instant::now(), served: 0, served_time, begun }
    }

    /// A request has a slot from `now` on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun += now.saturating_duration_since(self.origin);
    }

    /// One that has had it since `begun` gives it back `now`.
    pub(super) fn end(&mut self, begun: Instant, now: Instant) {
        self.begun = self.begun.saturating_sub(begun.saturating_duration_since(self.origin));
        self.served += 1;
        self.served_time += now.saturating_duration_since(begun);
    }

    /// The counts, after so many requests came and while so many are in flight.
    pub(super) fn traffic(&self, arrived: u64, in_flight: u32) -> Traffic {
        let ages = (self.origin.elapsed() * in_flight).saturating_sub(self.begun);
        let Self { served, served_time, .. } = *self;
        Traffic { arrived, served, served_time, age: ages }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ages_and_times_add_up() {
        let seconds = Duration::from_secs;
        let mut stays = Stays::new();
        advance(seconds(5)).await;
        let first = Instant::now();
        stays.begin(first);
        advance(seconds(2)).await;
        let second = Instant::now();
        stays.begin(second);
        advance(seconds(1)).await;
        assert_eq!(stays.traffic(2, 2).age, seconds(4));
        stays.end(first, Instant::now());
        advance(seconds(4)).await;
        let traffic = stays.traffic(2, 1);
        assert_eq!((traffic.served, traffic.served_time, traffic.age), (1, seconds(3), seconds(5)));
        stays.end(second, Instant::now());
        assert_eq!(stays.traffic(2, 0).age, Duration::ZERO);
    }
}
