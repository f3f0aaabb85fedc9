//! How many pods a Function gets: a pure policy over what its owner has seen.
//!
//! Up at once, on the load that is there; down only when the load was lower for the whole stable
//! window; to zero only after the idle time without a single request.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::function::{Concurrency, ScalingBounds, ValidatedFunction};

/// A moment on the owner's monotonic clock, counted from an origin that only the owner knows.
pub type Moment = Duration;

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Requests per pod.
    pub concurrency: Concurrency,
    /// Pods.
    pub scaling: ScalingBounds,
}

impl Policy {
    /// The policy of `function`.
    pub const fn of(function: &ValidatedFunction) -> Self {
        Self { concurrency: function.concurrency, scaling: function.scaling }
    }

    /// Requests that one pod is counted for.
    pub fn per_pod(&self) -> u32 {
        self.concurrency.limit.unwrap_or(self.concurrency.target).get()
    }
}

/// What the owner has seen since it last decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Most requests that were in flight and waiting at one moment since the last decision.
    pub peak: u32,
    /// Requests in flight and waiting now.
    pub load: u32,
    /// When the last of them left, if there are none.
    pub idle_since: Option<Moment>,
}

/// What the policy remembers between decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Pods that the load asked for, by moment; falling, so that the front is the window's most.
    window: VecDeque<(Moment, u32)>,
    /// When a request was last there.
    last_busy: Option<Moment>,
}

impl State {
    /// The state of a Function that a new owner finds with pods: it counts as busy now, so that a
    /// change of owner never sends it to sleep early.
    pub fn found_running(now: Moment, replicas: u32) -> Self {
        Self { window: VecDeque::from([(now, replicas)]), last_busy: Some(now) }
    }
}

/// Why there are as many pods as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Reason {
    /// The load asks for them.
    Load,
    /// The load asks for more than `scaling.max`.
    Max,
    /// The load is lower, but not for long enough.
    StableWindow,
    /// No request is there, but the idle time is not over.
    Idle,
    /// The idle time is over.
    Asleep,
    /// `scaling.min` asks for them.
    Min,
}

/// How many pods there shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Pods.
    pub desired: u32,
    /// Why.
    pub reason: Reason,
    /// When to ask again, if nothing happens before; none while only an arrival changes anything.
    pub again_at: Option<Moment>,
}

/// Decides from what was `seen` up to `now`. `state` is what the last call left.
pub fn decide(policy: &Policy, seen: Seen, state: &mut State, now: Moment) -> Decision {
    let bounds = &policy.scaling;
    let wanted = seen.peak.max(seen.load).div_ceil(policy.per_pod());
    if wanted > 0 {
        let ended = seen.idle_since.filter(|_| seen.load == 0);
        state.last_busy = state.last_busy.max(Some(ended.map_or(now, |ended| ended.min(now))));
    }
    remember(state, now, wanted, bounds.stable_window);
    let highest = state.window.front().map_or(wanted, |&(_, pods)| pods);
    let idle_at = state.last_busy.map(|busy| busy + bounds.idle_after);
    let awake = idle_at.is_some_and(|at| now < at);
    let (desired, reason) = if wanted > bounds.max {
        (bounds.max, Reason::Max)
    } else if wanted > 0 && wanted >= highest {
        (wanted, Reason::Load)
    } else if awake && highest > wanted.max(1) {
        (highest, Reason::StableWindow)
    } else if wanted > 0 {
        (wanted, Reason::Load)
    } else if awake {
        (1, Reason::Idle)
    } else {
        (0, Reason::Asleep)
    };
    let (desired, reason) = if desired < bounds.min {
        (bounds.min, Reason::Min)
    } else {
        (desired.min(bounds.max), reason)
    };
    Decision { desired, reason, again_at: next_moment(state, bounds, desired, now) }
}

/// Keeps the most pods of the window at the front (a monotonic queue).
fn remember(state: &mut State, now: Moment, wanted: u32, window: Duration) {
    while state.window.back().is_some_and(|&(_, pods)| pods <= wanted) {
        state.window.pop_back();
    }
    state.window.push_back((now, wanted));
    while state.window.len() > 1 && state.window.front().is_some_and(|&(at, _)| at + window <= now)
    {
        state.window.pop_front();
    }
}

/// The next moment at which the answer may be another without an arrival.
fn next_moment(state: &State, bounds: &ScalingBounds, desired: u32, now: Moment) -> Option<Moment> {
    if desired <= bounds.min {
        return None;
    }
    let window_ends = state.window.front().map(|&(at, _)| at + bounds.stable_window);
    let idle_ends = state.last_busy.map(|busy| busy + bounds.idle_after);
    [window_ends, idle_ends].into_iter().flatten().filter(|at| *at > now).min()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn policy(target: u32, limit: u32, min: u32, max: u32) -> Policy {
        Policy {
            concurrency: Concurrency {
                target: NonZeroU32::new(target).unwrap(),
                limit: NonZeroU32::new(limit),
            },
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

    fn load(load: u32) -> Seen {
        Seen { peak: load, load, idle_since: None }
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
        let seen = Seen { peak: 1, load: 0, idle_since: Some(at(57)) };
        let decision = decide(&p, seen, &mut state, at(60));
        assert_eq!((decision.desired, decision.reason), (1, Reason::Load));
        let at_rest = Seen { peak: 0, load: 0, idle_since: Some(at(57)) };
        assert_eq!(decide(&p, at_rest, &mut state, at(116)).desired, 1);
        assert_eq!(decide(&p, at_rest, &mut state, at(117)).desired, 0);
    }

    #[test]
    fn a_function_at_rest_asks_for_nothing_and_needs_no_timer() {
        let mut state = State::default();
        let decision = decide(&policy(80, 0, 0, 10), load(0), &mut state, at(500));
        assert_eq!(decision, Decision { desired: 0, reason: Reason::Asleep, again_at: None });
        let decision = decide(&policy(80, 0, 2, 10), load(0), &mut State::default(), at(500));
        assert_eq!(decision, Decision { desired: 2, reason: Reason::Min, again_at: None });
    }

    #[test]
    fn a_new_owner_keeps_what_it_finds_until_the_windows_are_over() {
        let mut state = State::found_running(at(100), 3);
        let p = policy(80, 0, 0, 10);
        assert_eq!(decide(&p, load(0), &mut state, at(100)).desired, 3);
        assert_eq!(decide(&p, load(0), &mut state, at(130)).desired, 1);
        assert_eq!(decide(&p, load(0), &mut state, at(160)).desired, 0);
    }

    proptest! {
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
    }
}
