//! What the owner of a Function knows of the time ahead: when the clock calls it next, and how long
//! before that a pod must be woken. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use rouse_core::scaling::idle::EARLY;

use crate::observe::objects::Ticks;

/// The newest start counts so much in the mean of starts, and in how far they are off it.
const NEWEST: (f64, f64) = (0.3, 0.25);
/// How many times as far as usual a start may be off, to be in time still; as retransmission timers
/// have it (RFC 6298).
const CAUTION: u32 = 4;

/// How long starts take, as measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartTime(Option<(Duration, Duration)>);

impl StartTime {
    /// Takes in one more.
    pub fn note(&mut self, took: Duration) {
        let (mean, off) = self.0.unwrap_or((took, took / 2));
        let newest_off = took.abs_diff(mean);
        self.0 = Some((mix(mean, took, NEWEST.0), mix(off, newest_off, NEWEST.1)));
    }

    /// Their mean.
    pub fn mean(self) -> Option<Duration> {
        self.0.map(|(mean, _)| mean)
    }

    /// What almost none takes longer than.
    pub fn cautious(self) -> Option<Duration> {
        self.0.map(|(mean, off)| mean + off * CAUTION)
    }
}

fn mix(before: Duration, newest: Duration, share: f64) -> Duration {
    before.mul_f64(1.0 - share) + newest.mul_f64(share)
}

/// The next tick of a Function, kept since finding it may take a while.
#[derive(Clone, Debug, Default)]
pub struct NextTick {
    ticks: Vec<Arc<Ticks>>,
    /// From when on there is none before, and which comes then.
    found: Option<(Timestamp, Option<Timestamp>)>,
}

impl NextTick {
    /// The first tick of `ticks` that a request has not come for, at `now`: the last request was
    /// there at `busy`, and one that does not come is waited for so long.
    pub fn find(
        &mut self,
        ticks: &[Arc<Ticks>],
        busy: Option<Timestamp>,
        (now, late): (Timestamp, Duration),
    ) -> Option<Timestamp> {
        if ticks.is_empty() && self.ticks.is_empty() {
            return None;
        }
        if self.ticks != ticks {
            *self = Self { ticks: ticks.to_vec(), found: None };
        }
        let late = SignedDuration::try_from(late).unwrap_or_default();
        let given_up = now.checked_sub(late).unwrap_or(now);
        let early = SignedDuration::try_from(EARLY).unwrap_or_default();
        let met = busy.and_then(|busy| busy.checked_add(early).ok());
        let after = met.map_or(given_up, |met| met.max(given_up));
        if let Some((from, next)) = self.found
            && from <= after
            && next.is_none_or(|next| next > after)
        {
            return next;
        }
        let next = ticks.iter().filter_map(|ticks| ticks.schedule.next(after)).min();
        self.found = Some((after, next));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::ticks::ticks;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_tick_is_expected_until_a_request_comes_or_it_is_too_late() {
        let (minutes, late) = ([ticks("f", "@every 1m")], Duration::from_secs(5));
        let mut next = NextTick::default();
        let mut find = |busy: Option<i64>, now: i64| {
            let tick = next.find(&minutes, busy.map(at), (at(now), late)).unwrap();
            tick.as_second()
        };
        assert_eq!(find(None, 30), 60);
        assert_eq!(find(None, 60), 60);
        assert_eq!(find(None, 64), 60);
        assert_eq!(find(None, 65), 120, "nobody came");
        assert_eq!(find(Some(119), 119), 180, "that was it");
        assert_eq!(find(Some(118), 121), 120, "that was another");
        assert_eq!(NextTick::default().find(&[], None, (at(1), late)), None);
    }

    #[test]
    fn the_earliest_of_several_counts() {
        let all = [ticks("f", "@every 1m"), ticks("f", "@every 50s")];
        let mut next = NextTick::default();
        let late = Duration::from_secs(2);
        assert_eq!(next.find(&all, None, (at(10), late)), Some(at(50)));
        assert_eq!(next.find(&all[..1], None, (at(10), late)), Some(at(60)));
    }

    #[test]
    fn starts_that_vary_are_planned_for_with_care() {
        let mut start = StartTime::default();
        assert_eq!((start.mean(), start.cautious()), (None, None));
        (0..40).for_each(|_| start.note(Duration::from_millis(300)));
        assert!(start.cautious().unwrap() < Duration::from_millis(310));
        for millis in [300, 500, 250, 450, 300, 520] {
            start.note(Duration::from_millis(millis));
        }
        assert!(start.cautious().unwrap() > Duration::from_millis(520), "{start:?}");
    }
}
