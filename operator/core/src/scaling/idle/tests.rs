use proptest::prelude::*;

use super::economy::Economy;
use super::population::Population;
use super::*;

fn stakes() -> Stakes {
    Stakes::new(Economy::Balanced, 1.0, 1.0)
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A Function that was idle so long each time.
fn learned(idle: impl IntoIterator<Item = f64>) -> (Learner, Moment) {
    let mut learner = Learner::default();
    let mut now = Moment::ZERO;
    for idle in idle {
        let since = now;
        now += seconds(idle);
        learner.note(since, now);
        learner.plan(stakes(), &Outlook::default());
    }
    learner.stakes = None;
    learner.plan(stakes(), &Outlook::default());
    (learner, now)
}

fn warm_after(learner: &Learner, idle: f64) -> bool {
    learner.warm.at(seconds(idle)).warm
}

#[test]
fn who_knows_nothing_keeps_to_the_usual_time() {
    let mut learner = Learner::default();
    learner.plan(stakes(), &Outlook::default());
    assert!(warm_after(&learner, 0.0) && warm_after(&learner, 590.0));
    assert!(!warm_after(&learner, 660.0) && !warm_after(&learner, 7200.0));
}

#[test]
fn a_period_makes_narrow_stretches() {
    let (learner, _) = learned([300.0; 40]);
    assert!(warm_after(&learner, 1.0) && warm_after(&learner, 300.0));
    assert!(!warm_after(&learner, 60.0) && !warm_after(&learner, 250.0));
    let (hourly, _) = learned([3600.0; 20]);
    assert!(warm_after(&hourly, 3600.0));
    assert!(!warm_after(&hourly, 300.0) && !warm_after(&hourly, 3000.0));
}

#[test]
fn who_is_called_once_in_hours_is_not_waited_for() {
    let (learner, _) = learned((0..30).map(|i| 4000.0 * 1.2_f64.powi(i % 9)));
    assert!(!warm_after(&learner, 60.0) && !warm_after(&learner, 590.0));
}

#[test]
fn others_teach_the_one_of_which_nothing_is_known() {
    let mut population = Population::default();
    for i in 0..400 {
        let time = IdleTime::new(seconds(30.0 + f64::from(i % 40)), Ended::Called);
        population.learn(Lesson { time, scheduled: false });
    }
    let prior = population.prior();
    let mut learner = Learner::default();
    learner.plan(stakes(), &Outlook { prior: Some(&prior), ..Outlook::default() });
    assert!(warm_after(&learner, 50.0));
    let mut scheduled = Learner::default();
    let outlook =
        Outlook { prior: Some(&prior), expected: Some(seconds(9e4)), ..Outlook::default() };
    scheduled.plan(stakes(), &outlook);
    assert!(!warm_after(&scheduled, 50.0), "its next call is known, and no others are");
}

#[test]
fn a_known_request_finds_a_pod_and_is_not_waited_for_long() {
    let mut learner = Learner { stakes: Some(stakes()), ..Learner::default() };
    let outlook = |at: f64| Outlook {
        expected: Some(seconds(at)),
        lead: Some(seconds(3.0)),
        ..Outlook::default()
    };
    let at = |learner: &Learner, now: f64| {
        let verdict = learner.verdict(seconds(0.0), seconds(now), &outlook(100.0));
        (verdict.warm, verdict.scheduled, verdict.until.map(|until| until.as_secs_f64()))
    };
    learner.warm = WarmTimes::plan(
        &learned((0..30).map(|_| 80_000.0)).0.history,
        None,
        true,
        stakes(),
        seconds(3.0),
    );
    assert_eq!(at(&learner, 50.0), (false, false, Some(97.0)));
    assert_eq!(at(&learner, 97.0), (true, true, Some(103.0)));
    assert!(!at(&learner, 103.1).0, "it did not come");
    let soon = learner.verdict(seconds(80.0), seconds(85.0), &outlook(100.0));
    assert!(soon.warm, "leaving is not worth it");
}

#[test]
fn known_requests_teach_that_no_others_come() {
    let mut learner = Learner::default();
    let mut now = Moment::ZERO;
    for _ in 0..30 {
        let expected = now + seconds(300.0);
        learner.expect(&Outlook { expected: Some(expected), ..Outlook::default() });
        learner.note(now, expected);
        now = expected;
    }
    assert!(learner.history.times().all(|time| time.ended() == Ended::Known));
    learner.plan(stakes(), &Outlook { expected: Some(now), ..Outlook::default() });
    assert!(!warm_after(&learner, 60.0) && !warm_after(&learner, 300.0));
}

proptest! {
    #[test]
    fn whatever_was_learned_the_plan_is_sound(
        idle in prop::collection::vec(0.0..200_000.0_f64, 0..200), asked in 0.0..300_000.0_f64,
    ) {
        let (learner, _) = learned(idle);
        let habit = learner.warm.at(seconds(asked));
        prop_assert!(habit.until.is_none_or(|until| until > seconds(asked)));
        prop_assert!(!habit.warm || habit.until.is_some(), "nothing is kept for ever");
        prop_assert!(warm_after(&learner, 0.0), "the pod does not go with the request");
        let mut stretch = learner.warm.at(Duration::ZERO);
        let mut stretches = 0;
        while let Some(until) = stretch.until {
            let next = learner.warm.at(until);
            prop_assert!(next.warm != stretch.warm || next.until.is_none());
            if !next.warm && let Some(woken) = next.until {
                prop_assert!(woken.saturating_sub(until) >= WORTH_LEAVING, "it does not flap");
            }
            stretch = next;
            stretches += 1;
        }
        prop_assert!(stretches < 600);
    }

    #[test]
    fn who_knows_little_of_itself_takes_no_more_memory_than_with_the_fixed_time(
        own in prop::collection::vec(2.0..200_000.0_f64, 0..3),
        others in prop::collection::vec((2.0..200_000.0_f64, 1..200_usize), 0..8),
    ) {
        let mut population = Population::default();
        for (idle, count) in others {
            let time = IdleTime::new(seconds(idle), Ended::Called);
            (0..count).for_each(|_| population.learn(Lesson { time, scheduled: false }));
        }
        let prior = population.prior();
        let (mut learner, _) = learned(own.iter().copied());
        learner.stakes = None;
        learner.plan(stakes(), &Outlook { prior: Some(&prior), ..Outlook::default() });
        let lasting = || own.iter().copied().chain([f64::INFINITY]);
        let needs: f64 = lasting().map(|idle| learner.warm.within(idle)).sum();
        let fixed: f64 = lasting().map(|idle| idle.min(600.0)).sum();
        // Idle times are kept to a thousandth.
        prop_assert!(needs <= 1.001 * fixed, "{needs} s instead of {fixed} s");
    }

    #[test]
    fn a_history_from_before_gives_the_same_plan(
        idle in prop::collection::vec(2.0..100_000.0_f64, 0..140),
    ) {
        let (learner, _) = learned(idle);
        let bytes = learner.history().to_bytes();
        let mut resumed = Learner::resume(History::from_bytes(&bytes).unwrap());
        resumed.plan(stakes(), &Outlook::default());
        prop_assert_eq!(resumed.warm, learner.warm);
    }
}
