//! How many pods a Function gets: a pure policy over what its owner has seen.
//!
//! Up at once, on the load that is there; down only when the load was lower for the whole stable
//! window; to zero only after the idle time without a single request, which is fixed or learned.

pub mod allowance;
mod decision;
mod demand;
pub mod idle;

use std::collections::VecDeque;
use std::time::Duration;

use allowance::Allowance;
pub use decision::{Decision, Inputs, Reason};
pub use demand::Traffic;
use demand::{Demand, LOOK, Room};
use idle::{Idle, Learner, Lesson, Outlook, Verdict};

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
    /// When the last pods go.
    pub idle: Idle,
}

impl Policy {
    /// The policy of `function`.
    pub const fn of(function: &ValidatedFunction) -> Self {
        Self { concurrency: function.concurrency, scaling: function.scaling, idle: function.idle }
    }

    /// The same, for pods that need `memory` each where the mean of all is `usual`.
    #[must_use]
    pub fn weighed(self, memory: f64, usual: f64) -> Self {
        match self.idle {
            Idle::Fixed => self,
            Idle::Learned(stakes) => {
                Self { idle: Idle::Learned(stakes.weighed(memory, usual)), ..self }
            }
        }
    }

    /// How long a pod without requests stays, where nothing else is known.
    fn usual_idle(&self) -> Duration {
        match self.idle {
            Idle::Fixed => self.scaling.idle_after,
            Idle::Learned(stakes) => stakes.first_time(),
        }
    }

    /// Requests that one pod is counted for.
    pub fn per_pod(&self) -> u32 {
        self.concurrency.limit.unwrap_or(self.concurrency.target).get()
    }
}

/// What the owner has seen since it last decided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// Most requests that were in flight and waiting at one moment since the last decision.
    pub peak: u32,
    /// Requests in flight and waiting now.
    pub load: u32,
    /// Of these, those that wait.
    pub waiting: u32,
    /// Pods that serve.
    pub ready: u32,
    /// Pods on their way.
    pub starting: u32,
    /// When the last of them left, if there are none.
    pub idle_since: Option<Moment>,
    /// The longest time without a request that ended since the last decision.
    pub rest: Option<Rest>,
    /// What went through.
    pub traffic: Traffic,
    /// What it may have of the pods of its namespace; none where nobody bounds these.
    pub allowance: Option<Allowance>,
    /// What is known of the time ahead.
    pub outlook: Outlook<'a>,
}

/// A time without a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// When the last request left.
    pub since: Moment,
    /// When the next one came.
    pub until: Moment,
}

/// What the policy remembers between decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// What the load asks for.
    demand: Demand,
    /// Pods that the load asked for, by moment; falling, so that the front is the window's most.
    window: VecDeque<(Moment, u32)>,
    /// When a request was last there.
    last_busy: Option<Moment>,
    /// When the last request left that a former owner had, until one comes here.
    inherited: Option<Moment>,
    /// Whether the last pod went so that others may have one.
    made_room: bool,
    /// What the idle times taught, if the policy is to learn; in a box, since most don't.
    learner: Option<Box<Learner>>,
    /// What others may learn of it.
    lesson: Option<Lesson>,
}

impl State {
    /// The state of a Function that a new owner finds with pods: it counts as busy now, so that a
    /// change of owner never sends it to sleep early.
    pub fn found_running(now: Moment, replicas: u32) -> Self {
        Self { window: VecDeque::from([(now, replicas)]), last_busy: Some(now), ..Self::default() }
    }

    /// The state of a Function that a new owner finds asleep: its last request left at `since`.
    pub fn found_asleep(since: Moment) -> Self {
        Self { last_busy: Some(since), inherited: Some(since), ..Self::default() }
    }

    /// Goes on with what was learned before.
    #[must_use]
    pub fn with_learner(self, learner: Learner) -> Self {
        Self { learner: Some(Box::new(learner)), ..self }
    }

    /// When a request was last there.
    pub const fn last_busy(&self) -> Option<Moment> {
        self.last_busy
    }

    /// What was learned; none under a policy that does not learn.
    pub fn learner(&self) -> Option<&Learner> {
        self.learner.as_deref()
    }

    /// How long a pod has a request, as far as it was measured.
    pub fn service(&self) -> Option<Duration> {
        self.demand.service()
    }

    /// What the last decision taught that others may learn from. Asked once.
    pub fn take_lesson(&mut self) -> Option<Lesson> {
        self.lesson.take()
    }
}

/// Decides from what was `seen` up to `now`. `state` is what the last call left.
pub fn decide(policy: &Policy, seen: Seen<'_>, state: &mut State, now: Moment) -> Decision {
    let bounds = &policy.scaling;
    let patience = seen.allowance.map_or(1.0, Allowance::patience);
    let window = bounds.stable_window.mul_f64(patience);
    learn(policy, &seen, state, now);
    let room = state.demand.follow(policy, &seen, now);
    let wanted = pods_for(policy, &seen, &room);
    // Who gets no pod is not waited for when there is one.
    if wanted > 0 && most(policy, &seen) > 0 {
        let ended = seen.idle_since.filter(|_| seen.load == 0);
        state.last_busy = state.last_busy.max(Some(ended.map_or(now, |ended| ended.min(now))));
    }
    remember(state, now, wanted, window);
    let highest = state.window.front().map_or(wanted, |&(_, pods)| pods);
    let (rest, rest_until) = decide_rest(policy, &seen, state, now);
    state.made_room = wanted == 0 && rest == Reason::MadeRoom;
    let surplus = highest > wanted.max(1) && rest.keeps_a_pod();
    let wish = if wanted > 0 && wanted >= highest {
        (wanted, Reason::Load)
    } else if surplus {
        (highest, Reason::StableWindow)
    } else if wanted > 0 {
        (wanted, Reason::Load)
    } else {
        (u32::from(rest.keeps_a_pod()), rest)
    };
    let (desired, reason) = bound(policy, &seen, wanted, wish);
    let inputs = Inputs { wanted, window: highest, ..inputs(policy, &seen, (state, &room), now) };
    // Some shall wait for the pods that there are: that has to go as expected.
    let lacking = seen.waiting > 0 && seen.load > desired.saturating_mul(policy.per_pod());
    let look = (lacking && desired < most(policy, &seen)).then(|| now + LOOK);
    let window_ends = state.window.front().map(|&(at, _)| at + window);
    let ends = (window_ends, rest_until);
    let again_at = next_moment(bounds, desired, ends, now).into_iter().chain(look).min();
    Decision { desired, reason, again_at, inputs }
}

/// The load above which a decision may be another, so that it is worth to ask at once.
pub fn alarm(policy: &Policy, decision: &Decision) -> u32 {
    if decision.desired >= policy.scaling.max {
        return u32::MAX;
    }
    let (load, taken) = (decision.inputs.load, decision.desired.saturating_mul(policy.per_pod()));
    // Not with every request of a queue that is meant to wait.
    if load <= taken { taken } else { load.saturating_add(load / 4) }
}

/// Pods with the slots that the load needs, and one for any load at all.
fn pods_for(policy: &Policy, seen: &Seen<'_>, room: &Room) -> u32 {
    if seen.peak.max(seen.load) == 0 {
        return 0;
    }
    let pods = (room.slots / f64::from(policy.per_pod())).ceil();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let pods = pods as u32;
    pods.max(1)
}

/// Keeps a wish within what the user and the namespace allow.
fn bound(
    policy: &Policy,
    seen: &Seen<'_>,
    wanted: u32,
    (desired, reason): (u32, Reason),
) -> (u32, Reason) {
    let ScalingBounds { min, max, .. } = policy.scaling;
    let most = most(policy, seen);
    if desired.max(min) <= most {
        return if desired < min { (min, Reason::Min) } else { (desired, reason) };
    }
    match (most < max, wanted > most) {
        (true, _) => (most, Reason::NamespaceMax),
        (false, true) => (most, Reason::Max),
        (false, false) => (most, reason),
    }
}

/// The most pods that there may be. Requests in a pod keep it, whatever the namespace has left.
fn most(policy: &Policy, seen: &Seen<'_>) -> u32 {
    let allowed = seen.allowance.map_or(u32::MAX, |allowance| allowance.pods);
    let held = u32::from(seen.load > seen.waiting);
    allowed.max(held).min(policy.scaling.max)
}

/// What is told of what was seen.
fn inputs(policy: &Policy, seen: &Seen<'_>, (state, room): (&State, &Room), now: Moment) -> Inputs {
    let idle = state.last_busy.filter(|_| seen.load == 0);
    Inputs {
        load: seen.load,
        peak: seen.peak.max(seen.load),
        waiting: seen.waiting,
        rate: room.rate,
        per_pod: policy.per_pod(),
        ready: seen.ready,
        starting: seen.starting,
        service: room.service,
        start: seen.outlook.start,
        slots: room.slots,
        idle: idle.map(|since| now.saturating_sub(since)),
        expected_in: seen.outlook.expected.map(|at| at.saturating_sub(now)),
        ..Inputs::default()
    }
}

/// Whether the last pod stays or comes, if no request is there, and until when.
fn decide_rest(
    policy: &Policy,
    seen: &Seen<'_>,
    state: &State,
    now: Moment,
) -> (Reason, Option<Moment>) {
    let verdict = match (state.last_busy, &state.learner) {
        (Some(since), Some(learner)) => learner.verdict(since, now, &seen.outlook),
        (since, None) => {
            let ends = since.map(|since| since + policy.scaling.idle_after);
            Verdict::fixed(ends, now).until_expected(now, &seen.outlook)
        }
        (None, Some(_)) => Verdict::fixed(None, now).until_expected(now, &seen.outlook),
    };
    let among = (seen.allowance, state);
    let (verdict, made_room) = allowance::hurry(verdict, policy, among, now);
    let reason = match verdict {
        _ if made_room => Reason::MadeRoom,
        Verdict { warm: false, .. } => Reason::Asleep,
        Verdict { scheduled: true, .. } => Reason::Schedule,
        Verdict { woken: true, .. } => Reason::Habit,
        Verdict { .. } => Reason::Idle,
    };
    (reason, verdict.until)
}

/// Takes in that an idle time has ended, and plans for the one that begins.
fn learn(policy: &Policy, seen: &Seen<'_>, state: &mut State, now: Moment) {
    let came = seen.peak.max(seen.load) > 0;
    let inherited = if came { state.inherited.take() } else { None };
    let Idle::Learned(stakes) = policy.idle else {
        state.learner = None;
        return;
    };
    let learner = state.learner.get_or_insert_default();
    let inherited = inherited.map(|since| Rest { since, until: now });
    if let Some(Rest { since, until }) = seen.rest.or(inherited) {
        state.lesson = learner.note(since, until).or(state.lesson);
    }
    learner.expect(&seen.outlook);
    if (came && seen.load == 0) || learner.lacks_plan(stakes) {
        learner.plan(stakes, &seen.outlook);
    }
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

/// The next moment at which the answer may be another without an arrival: when the stable window or
/// the rest ends.
fn next_moment(
    bounds: &ScalingBounds,
    desired: u32,
    (window_ends, rest_until): (Option<Moment>, Option<Moment>),
    now: Moment,
) -> Option<Moment> {
    if bounds.min > 0 && desired <= bounds.min {
        return None;
    }
    let window_ends = window_ends.filter(|_| desired > bounds.min);
    [window_ends, rest_until].into_iter().flatten().filter(|at| *at > now).min()
}

#[cfg(test)]
mod tests;
