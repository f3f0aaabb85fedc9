//! How fast a queue drains, and when it is worth asking again: pure, the clock comes in.

use std::time::Duration;

use tokio::time::Instant;

/// What was seen longer ago counts for less: after this time for a third.
const MEMORY: Duration = Duration::from_secs(10);

/// Shortest and longest time after which somebody is asked to come back.
const RETRY_AFTER: (u64, u64) = (1, 60);

/// Least time over which those who are refused in one moment come back.
const LEAST_SPREAD: f64 = 2.0;

/// The fraction of the golden ratio: its multiples fill the unit interval evenly, however many.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// How many requests left a queue by being served, over the time in which there was a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DrainRate {
    served: f64,
    seconds: f64,
    /// Up to when that is counted; none while nobody waits.
    counted_to: Option<Instant>,
    /// Position in the sequence that spreads those who are refused.
    spread: f64,
}

impl DrainRate {
    /// Takes in that somebody waits from `now` on.
    pub fn begin(&mut self, now: Instant) {
        self.counted_to.get_or_insert(now);
    }

    /// Takes in that `served` left the queue, and whether others are left in it.
    pub fn note_served(&mut self, served: u32, others_wait: bool, now: Instant) {
        self.advance(now);
        self.served += f64::from(served);
        if !others_wait {
            self.counted_to = None;
        }
    }

    /// Takes in that the queue is empty, without anybody having been served.
    pub fn end(&mut self, now: Instant) {
        self.advance(now);
        self.counted_to = None;
    }

    /// When somebody should come back who is refused while `waiting` wait, the first of them since
    /// `oldest`: when these will have been served, spread so that not all come back at once.
    pub fn retry_after(&mut self, waiting: u32, oldest: Option<Instant>, now: Instant) -> Duration {
        self.advance(now);
        let drained = self.seconds_to_drain(waiting).unwrap_or_else(|| {
            // Nobody was served yet: it may well last as long again as it has lasted.
            oldest.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64())
        });
        let (shortest, longest) = RETRY_AFTER;
        let soonest = drained.clamp(0.0, Duration::from_secs(longest).as_secs_f64() / 2.0);
        self.spread = (self.spread + GOLDEN).fract();
        let later = self.spread * soonest.max(LEAST_SPREAD);
        let whole = Duration::from_secs_f64((soonest + later).ceil()).as_secs();
        Duration::from_secs(whole.clamp(shortest, longest))
    }

    /// Time in which as many as `waiting` are served; none where none was served lately.
    fn seconds_to_drain(&self, waiting: u32) -> Option<f64> {
        /// Less than that is the memory of a request long ago.
        const SERVED_LATELY: f64 = 0.05;
        (self.served > SERVED_LATELY && self.seconds > 0.0)
            .then(|| f64::from(waiting) * self.seconds / self.served)
    }

    fn advance(&mut self, now: Instant) {
        let Some(counted_to) = &mut self.counted_to else { return };
        let passed = now.saturating_duration_since(*counted_to).as_secs_f64();
        if passed > 0.0 {
            *counted_to = now;
            let memory = MEMORY.as_secs_f64();
            let kept = (-passed / memory).exp();
            self.served *= kept;
            self.seconds = self.seconds * kept + memory * (1.0 - kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A queue that is never empty, of which one is served every `pause`.
    fn drained(pause: Duration, served: u32, from: Instant) -> (DrainRate, Instant) {
        let mut rate = DrainRate::default();
        rate.begin(from);
        let mut now = from;
        for _ in 0..served {
            now += pause;
            rate.note_served(1, true, now);
        }
        (rate, now)
    }

    #[test]
    fn the_time_until_the_queue_is_served_is_what_a_caller_is_told() {
        let (mut rate, now) = drained(millis(100), 200, Instant::now());
        let told: Vec<u64> = (0..100).map(|_| rate.retry_after(100, None, now).as_secs()).collect();
        assert!(told.iter().all(|told| (10..=21).contains(told)), "{told:?}");
        let mut by_second = BTreeMap::new();
        for told in told {
            *by_second.entry(told).or_insert(0) += 1;
        }
        assert!(by_second.len() >= 9, "they come back at different times: {by_second:?}");
        assert!(by_second.values().all(|count| *count <= 12), "{by_second:?}");
    }

    #[test]
    fn a_queue_that_was_never_served_is_asked_again_after_as_long_as_it_has_waited() {
        let now = Instant::now() + Duration::from_hours(1);
        let mut rate = DrainRate::default();
        rate.begin(now);
        let at = |rate: &mut DrainRate, seconds| {
            let ago = now.checked_sub(Duration::from_secs(seconds));
            rate.retry_after(5, ago, now).as_secs()
        };
        assert!((1..=3).contains(&at(&mut rate, 0)));
        assert!((8..=17).contains(&at(&mut rate, 8)));
        assert!((30..=60).contains(&at(&mut rate, 3000)));
    }

    #[test]
    fn the_time_without_a_queue_does_not_count() {
        let (mut rate, now) = drained(millis(10), 1000, Instant::now());
        rate.note_served(1, false, now);
        let later = now + Duration::from_hours(1);
        rate.begin(later);
        assert!(rate.retry_after(100, None, later).as_secs() <= 4);
    }

    #[test]
    fn a_queue_that_no_longer_drains_is_asked_ever_later() {
        let (mut rate, now) = drained(millis(100), 100, Instant::now());
        let soon = rate.retry_after(10, None, now).as_secs();
        let later = rate.retry_after(10, None, now + Duration::from_secs(20)).as_secs();
        assert!(soon <= 4 && later >= 10, "{soon} {later}");
    }

    proptest! {
        #[test]
        fn a_steady_rate_is_measured(
            pause in 5u64..2000, waiting in 1u32..5000,
        ) {
            let served = u32::try_from(60_000 / pause).unwrap();
            let (rate, _) = drained(millis(pause), served, Instant::now());
            let measured = rate.seconds_to_drain(waiting).unwrap();
            let exact = f64::from(waiting) * millis(pause).as_secs_f64();
            prop_assert!((measured / exact - 1.0).abs() < 0.12, "{measured} for {exact}");
        }

        #[test]
        fn the_answer_is_whole_and_bounded(
            steps in prop::collection::vec((0u64..100_000, 0u32..50, any::<bool>()), 0..50),
            waiting in 0u32..100_000,
        ) {
            let mut now = Instant::now();
            let mut rate = DrainRate::default();
            for (pause, served, others) in steps {
                now += millis(pause);
                rate.begin(now);
                rate.note_served(served, others, now);
                let after = rate.retry_after(waiting, Some(now), now);
                prop_assert!((1..=60).contains(&after.as_secs()) && after.subsec_nanos() == 0);
            }
        }
    }
}
