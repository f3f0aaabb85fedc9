use std::num::NonZeroU32;

use proptest::prelude::*;

use super::idle::economy::{Economy, Stakes};
use super::*;

pub fn policy(target: u32, limit: u32, min: u32, max: u32) -> Policy {
    Policy {
        concurrency: Concurrency {
            target: NonZeroU32::new(target).unwrap(),
            limit: NonZeroU32::new(limit),
        },
        idle: Idle::Fixed,
        scaling: ScalingBounds {
            min,
            max,
            idle_after: Duration::from_mins(1),
            stable_window: Duration::from_secs(30),
        },
    }
}

fn at(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn load(load: u32) -> Seen<'static> {
    // Requests that take long: each needs a slot of its own.
    let outlook = Outlook { service: Some(Duration::from_mins(1)), ..Outlook::default() };
    Seen { peak: load, load, outlook, ..Seen::default() }
}

fn told(decision: &Decision) -> (u32, Reason, Option<Moment>) {
    (decision.desired, decision.reason, decision.again_at)
}

#[test]
fn a_burst_asks_for_all_its_pods_at_once() {
    let mut state = State::default();
    let decision = decide(&policy(80, 5, 0, 10), load(50), &mut state, at(0));
    assert_eq!((decision.desired, decision.reason), (10, Reason::Load));
    let decision = decide(&policy(80, 5, 0, 10), load(51), &mut state, at(0));
    assert_eq!((decision.desired, decision.reason), (10, Reason::Max));
}

#[test]
fn surplus_pods_stay_for_the_stable_window_and_the_last_for_the_idle_time() {
    let p = policy(10, 0, 0, 10);
    let mut state = State::default();
    decide(&p, load(40), &mut state, at(0));
    let mut desired = |now, l| {
        let d = decide(&p, load(l), &mut state, at(now));
        (d.desired, d.reason, d.again_at)
    };
    assert_eq!(desired(10, 10), (4, Reason::StableWindow, Some(at(30))));
    assert_eq!(desired(30, 10), (1, Reason::Load, Some(at(60))));
    assert_eq!(desired(40, 0), (1, Reason::Idle, Some(at(60))));
    assert_eq!(desired(60, 0), (1, Reason::Idle, Some(at(90))));
    assert_eq!(desired(89, 0), (1, Reason::Idle, Some(at(90))));
    assert_eq!(desired(90, 0), (0, Reason::Asleep, None));
}

#[test]
fn the_idle_time_begins_when_the_last_request_left_whenever_that_is_seen() {
    let p = policy(10, 0, 0, 10);
    let mut state = State::default();
    let seen = Seen { peak: 1, idle_since: Some(at(57)), ..Seen::default() };
    let decision = decide(&p, seen, &mut state, at(60));
    assert_eq!((decision.desired, decision.reason), (1, Reason::Load));
    let at_rest = Seen { idle_since: Some(at(57)), ..Seen::default() };
    assert_eq!(decide(&p, at_rest, &mut state, at(116)).desired, 1);
    assert_eq!(decide(&p, at_rest, &mut state, at(117)).desired, 0);
}

#[test]
fn a_function_at_rest_asks_for_nothing_and_needs_no_timer() {
    let mut state = State::default();
    let decision = decide(&policy(80, 0, 0, 10), load(0), &mut state, at(500));
    assert_eq!(told(&decision), (0, Reason::Asleep, None));
    let decision = decide(&policy(80, 0, 2, 10), load(0), &mut State::default(), at(500));
    assert_eq!(told(&decision), (2, Reason::Min, None));
}

#[test]
fn a_new_owner_keeps_what_it_finds_until_the_windows_are_over() {
    let mut state = State::found_running(at(100), 3);
    let p = policy(80, 0, 0, 10);
    assert_eq!(decide(&p, load(0), &mut state, at(100)).desired, 3);
    assert_eq!(decide(&p, load(0), &mut state, at(130)).desired, 1);
    assert_eq!(decide(&p, load(0), &mut state, at(160)).desired, 0);
}

#[test]
fn a_request_that_is_known_finds_a_pod_under_a_fixed_time_too() {
    let p = policy(10, 0, 0, 10);
    let mut state = State::default();
    let mut told_at = |now, expected| {
        let expected = Some(at(expected));
        let outlook = Outlook { expected, lead: Some(at(3)), ..Outlook::default() };
        told(&decide(&p, Seen { outlook, ..Seen::default() }, &mut state, at(now)))
    };
    assert_eq!(told_at(10, 300), (0, Reason::Asleep, Some(at(297))));
    assert_eq!(told_at(297, 300), (1, Reason::Schedule, Some(at(303))));
    assert_eq!(told_at(302, 300), (1, Reason::Schedule, Some(at(303))));
    assert_eq!(told_at(303, 600), (0, Reason::Asleep, Some(at(597))));
}

#[test]
fn a_fixed_time_goes_on_beside_the_schedule() {
    let p = policy(10, 0, 0, 10);
    let mut state = State::default();
    decide(&p, load(1), &mut state, at(0));
    let outlook = Outlook { expected: Some(at(100)), lead: Some(at(3)), ..Outlook::default() };
    let mut told_at = |now| {
        let decision = decide(&p, Seen { outlook, ..Seen::default() }, &mut state, at(now));
        (decision.desired, decision.reason)
    };
    assert_eq!(told_at(59), (1, Reason::Idle));
    assert_eq!(told_at(60), (0, Reason::Asleep));
    assert_eq!(told_at(97), (1, Reason::Schedule));
}

proptest! {
    #[test]
    fn whoever_is_known_to_come_finds_a_pod(
        pauses in prop::collection::vec(0u64..5000, 1..40), lead in 1u64..30, tick in 40u64..4000,
    ) {
        let p = policy(10, 0, 0, 5);
        let mut state = State::default();
        let mut now = at(0);
        for pause in pauses {
            now += Duration::from_millis(pause * 10);
            // The next that is not over yet.
            let number = now.saturating_sub(at(lead.max(2))).as_secs() / tick + 1;
            let expected = at(number * tick);
            let outlook =
                Outlook { expected: Some(expected), lead: Some(at(lead)), ..Outlook::default() };
            let d = decide(&p, Seen { outlook, ..Seen::default() }, &mut state, now);
            let due = now + at(lead) >= expected;
            prop_assert_eq!(d.desired, u32::from(due), "{:?} {:?}", d, expected);
            prop_assert!(d.again_at.is_some_and(|again| again > now));
            prop_assert!(due || d.again_at.is_some_and(|again| again + at(lead) <= expected));
        }
    }

    #[test]
    fn the_answer_keeps_its_promises(
        steps in prop::collection::vec((0u64..40, 0u32..400), 1..60),
        limit in 0u32..20, min in 0u32..3, extra in 0u32..20,
    ) {
        let p = policy(10, limit, min, (min + extra).max(1));
        let mut state = State::default();
        let mut now = at(0);
        let mut last_busy = None;
        for (pause, l) in steps {
            now += Duration::from_secs(pause);
            let d = decide(&p, load(l), &mut state, now);
            let needed = l.div_ceil(p.per_pod()).clamp(min, p.scaling.max);
            prop_assert!(d.desired >= needed, "the load always has its pods");
            prop_assert!(d.desired >= min && d.desired <= p.scaling.max);
            prop_assert!(d.again_at.is_none_or(|at| at > now), "no timer in the past");
            if l > 0 { last_busy = Some(now); }
            let awake = last_busy.is_some_and(|busy| now < busy + p.scaling.idle_after);
            prop_assert_eq!(d.desired > min || min > 0, (awake && p.scaling.max > 0) || min > 0);
            if d.desired > min { prop_assert!(d.again_at.is_some(), "surplus always has a timer"); }
        }
    }

    #[test]
    fn what_is_learned_never_takes_a_pod_from_a_request(
        steps in prop::collection::vec((0u64..20_000, 0u32..40, 0u64..4000), 1..80),
        min in 0u32..2,
    ) {
        let stakes = Stakes::new(Economy::Balanced, 1.0, 1.0);
        let p = Policy { idle: Idle::Learned(stakes), ..policy(10, 0, min, 5) };
        let mut state = State::default();
        let mut now = at(0);
        for (pause, l, ahead) in steps {
            now += Duration::from_millis(pause * pause / 100);
            // The next call is known, or none is.
            let expected = (ahead > 2000).then(|| now + Duration::from_secs(ahead));
            let outlook = Outlook { expected, ..load(l).outlook };
            let seen = Seen { outlook, ..load(l) };
            let d = decide(&p, seen, &mut state, now);
            prop_assert!(d.desired >= l.div_ceil(p.per_pod()).clamp(min, 5), "{:?}", d);
            prop_assert!(d.desired <= 5);
            prop_assert!(d.again_at.is_none_or(|at| at > now), "no timer in the past");
            let again = decide(&p, seen, &mut state, now);
            prop_assert_eq!(again.desired, d.desired, "nothing has happened");
        }
    }
}
