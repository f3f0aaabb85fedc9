//! Loads that tell policies apart, run in the model plant: a step, a burst, a steady load.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;

use super::chance::Chance;
use super::plant::{self, Plant, Run, Scaler, View};
use super::scalers::{Rouse, Tick};
use crate::function::{Concurrency, ScalingBounds};
use crate::scaling::idle::Idle;
use crate::scaling::{Moment, Policy};

/// When the load changes.
const CHANGE: f64 = 90.0;
/// What comes in so long has to be answered in time, from a moment on, to call it recovered.
const RECOVERED: f64 = 5.0;
/// The grid on which that moment is looked for.
const GRID: f64 = 0.02;
const ENDS: Duration = Duration::from_mins(4);

/// Whose policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Whose {
    /// That of Rouse.
    Rouse,
    /// On a tick, by the mean of a minute.
    Tick,
    /// The same, with a panic window of six seconds.
    TickPanic,
}

impl Whose {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rouse, Self::Tick, Self::TickPanic];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rouse => "rouse",
            Self::Tick => "tick-2s-60s",
            Self::TickPanic => "tick-2s-60s+panic-6s",
        }
    }
}

/// How a policy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// From the change of the load until 99 of 100 requests are answered within twice as long as
    /// by a warm pod, and stay so; seconds.
    pub recovered: f64,
    /// Requests that took longer than that, in per cent.
    pub late_percent: f64,
    /// 99 of 100 requests took no longer, in milliseconds.
    pub p99_millis: f64,
    /// Pods that were started.
    pub started: u32,
    /// Most pods at once, over those at the end.
    pub overshoot: f64,
    /// How often the number of pods turned from rising to falling or back.
    pub turns: u32,
    /// Time of pods, all together, in seconds.
    pub pod_seconds: f64,
}

/// What a case is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// How long a start takes.
    pub start: Duration,
    /// How long a pod has a request.
    pub service: Duration,
    /// `concurrency.limit`.
    pub limit: u32,
    /// `scaling.min` and `scaling.max`.
    pub bounds: (u32, u32),
}

impl Case {
    fn policy(&self) -> Policy {
        let (min, max) = self.bounds;
        let idle_after = Duration::from_mins(1);
        let stable_window = Duration::from_secs(30);
        let limit = NonZeroU32::new(self.limit).unwrap_or(NonZeroU32::MIN);
        Policy {
            concurrency: Concurrency { target: limit, limit: Some(limit) },
            scaling: ScalingBounds { min, max, idle_after, stable_window },
            idle: Idle::Fixed,
        }
    }

    fn plant(&self, ends: Moment) -> Plant {
        let Self { start, service, limit, bounds: (pods, _) } = *self;
        Plant { start, service, slots: limit, pods, ends }
    }
}

/// Requests that come evenly once a second, and from a moment on by chance `rate` a second.
pub fn load_step(case: &Case, rate: f64, whose: Whose, seed: u64) -> Figures {
    let mut arrivals: Vec<Moment> =
        (0..90_u32).map(|second| Duration::from_millis(u64::from(second) * 1000 + 500)).collect();
    let mut chance = Chance::new(seed, 1);
    let mut at = CHANGE;
    while at < ENDS.as_secs_f64() {
        at += chance.pause(1.0 / rate);
        arrivals.push(Duration::from_secs_f64(at));
    }
    let (min, max) = case.bounds;
    // A tick has no part in when the load changes.
    let phase = Duration::from_secs_f64(chance.share() * 2.0);
    let tick = |panic| Tick::new(case.limit, max, panic, (min, phase));
    let run = match whose {
        Whose::Rouse => {
            let mut rouse = Rouse::new(case.policy(), Some(case.start), None);
            plant::run(case.plant(ENDS), &arrivals, &mut rouse, seed)
        }
        Whose::Tick => plant::run(case.plant(ENDS), &arrivals, &mut tick(false), seed),
        Whose::TickPanic => plant::run(case.plant(ENDS), &arrivals, &mut tick(true), seed),
    };
    figures(&run, case.service.mul_f64(2.0))
}

/// `count` requests at once, at zero: by the policy of Rouse, which may or may not know from before
/// how long a request takes.
pub fn burst(case: &Case, count: u32, knows: bool, seed: u64) -> Figures {
    let mut rouse = Rouse::new(case.policy(), Some(case.start), knows.then_some(case.service));
    figures_of_burst(case, count, &mut rouse, seed)
}

/// The fewest pods with which 99 of 100 of `count` requests at zero are answered within `time`.
pub fn fewest_pods(case: &Case, count: u32, time: Duration, seed: u64) -> Option<u32> {
    (1..=case.bounds.1).find(|pods| {
        let run = figures_of_burst(case, count, &mut Always(*pods), seed);
        run.p99_millis <= time.as_secs_f64() * 1000.0
    })
}

fn figures_of_burst(case: &Case, count: u32, scaler: &mut dyn Scaler, seed: u64) -> Figures {
    let arrivals = vec![Duration::from_secs(1); usize::try_from(count).unwrap_or_default()];
    let run = plant::run(case.plant(Duration::from_secs(30)), &arrivals, scaler, seed);
    figures(&run, case.start + case.service.mul_f64(2.0))
}

/// A number of pods from the first request on.
struct Always(u32);

impl Scaler for Always {
    fn decide(&mut self, view: &View, _: Moment) -> (u32, Option<Moment>) {
        (if view.traffic.arrived > 0 { self.0 } else { 0 }, None)
    }

    fn alarm(&self) -> u32 {
        0
    }
}

fn figures(run: &Run, in_time: Duration) -> Figures {
    let since = |from: f64| {
        let from = Duration::from_secs_f64(from);
        run.requests.partition_point(|(at, _)| *at < from)
    };
    let steps = (0..3000_u32).map(|step| f64::from(step) * GRID);
    let recovered = steps.into_iter().find(|after| {
        let (from, to) = (since(CHANGE + after), since(CHANGE + after + RECOVERED));
        let times = run.requests.get(from..to).unwrap_or_default();
        let late = times.iter().filter(|(_, took)| *took > in_time).count();
        late * 100 <= times.len()
    });
    let mut times: Vec<Duration> = run.requests.iter().map(|(_, took)| *took).collect();
    let late = times.iter().filter(|took| **took > in_time).count();
    times.sort_unstable();
    let p99 = times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1)));
    Figures {
        recovered: recovered.unwrap_or(f64::INFINITY),
        late_percent: 100.0 * float(late) / float(times.len().max(1)),
        p99_millis: p99.map_or(0.0, |p99| p99.min(&ENDS).as_secs_f64() * 1000.0),
        started: run.started,
        overshoot: f64::from(run.most) / f64::from(run.last.max(1)),
        turns: run.turns,
        pod_seconds: run.pod_time.as_secs_f64(),
    }
}

/// For each figure the median of several runs.
pub fn median(runs: &[Figures]) -> Figures {
    let middle = |figure: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let count = |figure: fn(&Figures) -> u32| {
        let mut values: Vec<u32> = runs.iter().map(figure).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Figures {
        recovered: middle(|run| run.recovered),
        late_percent: middle(|run| run.late_percent),
        p99_millis: middle(|run| run.p99_millis),
        started: count(|run| run.started),
        overshoot: middle(|run| run.overshoot),
        turns: count(|run| run.turns),
        pod_seconds: middle(|run| run.pod_seconds),
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(number: usize) -> f64 {
    number as f64
}
