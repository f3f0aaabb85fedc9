//! Replays a trace with one pod for each Function: how many requests find it cold, and how long it
//! was warm in vain.
//!
//! The method is that of "Serverless in the Wild": requests take no time, and a start is over when
//! its request is answered. What a policy sees is the past, and of schedules the next call.

use std::iter::Peekable;
use std::num::NonZeroU32;
use std::time::Duration;

use super::rivals::{Keeper, Rival};
use super::trace::{CallTimes, Trace, TracedFunction};
use crate::function::{Concurrency, ScalingBounds};
use crate::scaling::idle::economy::{Economy, Stakes};
use crate::scaling::idle::population::{Prior, Taught};
use crate::scaling::idle::{Idle, Outlook};
use crate::scaling::{self, Moment, Policy, Rest, Seen, State};

/// How long before a request that is known or likely a pod is woken.
pub const LEAD: Duration = Duration::from_secs(5);
/// When a schedule's next call comes that is not in the trace any more.
const BEYOND: Duration = Duration::from_hours(24);
/// Memory is counted in MB, waste in GB.
const MB_A_GB: f64 = 1024.0;

/// A policy by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Named {
    /// A fixed idle time, by the policy of Rouse.
    Fixed(&'static str, Duration),
    /// As Knative: a minute's window, looked at every 2 seconds.
    Knative,
    /// The hybrid histogram of "Serverless in the Wild".
    Hybrid,
    /// The learned policy of Rouse.
    Learned(Economy),
    /// The same, told when timers will call.
    Scheduled(Economy),
}

impl Named {
    /// All that are compared, the one they are measured against first.
    pub const fn all(economy: Economy) -> [Self; 6] {
        [
            Self::Fixed("fixed-10m", Duration::from_mins(10)),
            Self::Fixed("fixed-1m", Duration::from_mins(1)),
            Self::Knative,
            Self::Hybrid,
            Self::Learned(economy),
            Self::Scheduled(economy),
        ]
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed(name, _) => name,
            Self::Knative => "knative",
            Self::Hybrid => "hybrid",
            Self::Learned(_) => "rouse",
            Self::Scheduled(_) => "rouse+schedules",
        }
    }
}

/// What became of one Function.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Requests.
    pub calls: u64,
    /// Those that found no pod.
    pub cold: u64,
    /// Memory that was warm without a request, in GB-seconds.
    pub waste: f64,
}

/// Replays `trace` under a policy: the outcome of each Function.
pub fn replay(trace: &Trace, named: Named, seed: u64) -> Vec<Outcome> {
    match named {
        Named::Knative => replay_rival(trace, seed, Rival::Knative),
        Named::Hybrid => replay_rival(trace, seed, Rival::Hybrid),
        Named::Fixed(..) | Named::Learned(_) | Named::Scheduled(_) => {
            replay_ours(trace, seed, named)
        }
    }
}

fn replay_rival(trace: &Trace, seed: u64, rival: Rival) -> Vec<Outcome> {
    let ends = f64::from(trace.minutes) * 60.0;
    let run = |(index, function): (usize, &TracedFunction)| {
        let mut keeper = Keeper::new(rival);
        let mut outcome = Outcome::default();
        let mut last = None;
        let gigabytes = function.memory / MB_A_GB;
        for time in CallTimes::new(function, seed, index) {
            let warm = last.is_some_and(|last| {
                outcome.waste += keeper.wasted(last, time) * gigabytes;
                keeper.is_warm(last, time)
            });
            outcome.calls += 1;
            outcome.cold += u64::from(!warm);
            keeper.note(last.map(|last| time - last));
            last = Some(time);
        }
        outcome.waste += last.map_or(0.0, |last| keeper.wasted(last, ends) * gigabytes);
        outcome
    };
    trace.functions.iter().enumerate().map(run).collect()
}

/// Minute by minute, so that Functions learn of one another in time.
fn replay_ours(trace: &Trace, seed: u64, named: Named) -> Vec<Outcome> {
    let usual = trace.usual_memory();
    let functions = trace.functions.iter().enumerate();
    let mut runs: Vec<Run<CallTimes<'_>>> = functions
        .map(|(index, function)| {
            let times = CallTimes::new(function, seed, index).peekable();
            Run::new(function, times, named, usual)
        })
        .collect();
    let mut taught = Taught::default();
    for minute in 1..=trace.minutes {
        let prior = taught.prior(Duration::from_mins((minute - 1).into()));
        for run in &mut runs {
            while let Some(time) = run.times.next_if(|time| *time < f64::from(minute) * 60.0) {
                run.call(Duration::from_secs_f64(time), &prior);
                if let Some(lesson) = run.state.take_lesson() {
                    taught.learn(lesson);
                }
            }
        }
    }
    let ends = Duration::from_mins(trace.minutes.into());
    let prior = taught.prior(ends);
    runs.into_iter().map(|run| run.finish(ends, &prior)).collect()
}

/// Replays one Function alone, which is called at `times`, in seconds, under a policy of Rouse.
/// Where it is `scheduled`, the policy is told of the next call.
pub fn replay_alone(
    times: impl Iterator<Item = f64>,
    scheduled: bool,
    named: Named,
    ends: Moment,
) -> Outcome {
    let alone = TracedFunction {
        name: String::new(),
        timer: scheduled,
        memory: MB_A_GB,
        calls: Vec::new(),
    };
    let mut run = Run::new(&alone, times.peekable(), named, MB_A_GB);
    let prior = Taught::default().prior(Moment::ZERO);
    while let Some(time) = run.times.next_if(|time| *time < ends.as_secs_f64()) {
        run.call(Duration::from_secs_f64(time), &prior);
    }
    run.finish(ends, &prior)
}

/// One Function under a policy of Rouse.
struct Run<I: Iterator<Item = f64>> {
    times: Peekable<I>,
    scheduled: bool,
    gigabytes: f64,
    policy: Policy,
    state: State,
    warm: bool,
    /// Up to when its pod is accounted for.
    until: Moment,
    again_at: Option<Moment>,
    expected: Option<Moment>,
    last: Option<Moment>,
    outcome: Outcome,
}

impl<I: Iterator<Item = f64>> Run<I> {
    fn new(function: &TracedFunction, times: Peekable<I>, named: Named, usual: f64) -> Self {
        let (idle, after) = match named {
            Named::Learned(economy) | Named::Scheduled(economy) => {
                (Idle::Learned(Stakes::usual(economy)), Duration::ZERO)
            }
            Named::Fixed(_, after) => (Idle::Fixed, after),
            Named::Knative | Named::Hybrid => (Idle::Fixed, Duration::ZERO),
        };
        let concurrency = Concurrency { target: NonZeroU32::MIN, limit: None };
        let scaling =
            ScalingBounds { min: 0, max: 1, idle_after: after, stable_window: Duration::ZERO };
        Self {
            times,
            scheduled: function.timer && matches!(named, Named::Scheduled(_)),
            gigabytes: function.memory / MB_A_GB,
            policy: Policy { concurrency, scaling, idle }.weighed(function.memory, usual),
            state: State::default(),
            warm: false,
            until: Moment::ZERO,
            again_at: None,
            expected: None,
            last: None,
            outcome: Outcome::default(),
        }
    }

    fn call(&mut self, now: Moment, prior: &Prior) {
        self.rest_until(now, prior);
        self.outcome.calls += 1;
        self.outcome.cold += u64::from(!self.warm);
        let next = self.times.peek().map(|time| Duration::from_secs_f64(*time));
        // A schedule goes on after the trace.
        self.expected = self.scheduled.then(|| next.unwrap_or(now + BEYOND));
        let rest = self.last.replace(now).map(|since| Rest { since, until: now });
        self.decide((1, rest), now, prior);
    }

    /// Lets the time pass up to `now` without a request.
    fn rest_until(&mut self, now: Moment, prior: &Prior) {
        while let Some(at) = self.again_at.filter(|at| *at < now) {
            self.account(at);
            self.decide((0, None), at, prior);
        }
        self.account(now);
    }

    fn account(&mut self, now: Moment) {
        if self.warm {
            let warm = now.saturating_sub(self.until);
            self.outcome.waste += warm.as_secs_f64() * self.gigabytes;
        }
        self.until = now;
    }

    fn decide(&mut self, (peak, rest): (u32, Option<Rest>), now: Moment, prior: &Prior) {
        let outlook = Outlook {
            expected: self.expected,
            start: Some(LEAD),
            lead: Some(LEAD),
            prior: Some(prior),
            ..Outlook::default()
        };
        let seen = Seen { peak, rest, outlook, ..Seen::default() };
        let decision = scaling::decide(&self.policy, seen, &mut self.state, now);
        self.warm = decision.desired > 0;
        self.again_at = decision.again_at;
    }

    fn finish(mut self, ends: Moment, prior: &Prior) -> Outcome {
        self.rest_until(ends, prior);
        self.outcome
    }
}

#[cfg(test)]
mod tests;
