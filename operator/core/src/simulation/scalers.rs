//! Policies for the plant: that of Rouse, as the activator asks it, and one that decides on a tick,
//! as is usual, for comparison.

use std::collections::VecDeque;
use std::time::Duration;

use super::plant::{Scaler, View};
use crate::scaling::idle::Outlook;
use crate::scaling::{self, Moment, Policy, Seen, State};

/// How often a Function that is called is looked at, if nothing calls for it.
const SAMPLE: Duration = Duration::from_secs(1);
/// A start is taken to last as long as those before: how much the newest counts.
const NEWEST: f64 = 0.3;

/// The policy of Rouse.
#[derive(Debug)]
pub struct Rouse {
    policy: Policy,
    state: State,
    start: Option<Duration>,
    service: Option<Duration>,
    alarm: u32,
}

impl Rouse {
    /// One that knows from before how long a start and a request take, or does not.
    pub fn new(policy: Policy, start: Option<Duration>, service: Option<Duration>) -> Self {
        Self { policy, state: State::default(), start, service, alarm: 0 }
    }
}

impl Scaler for Rouse {
    fn decide(&mut self, view: &View, now: Moment) -> (u32, Option<Moment>) {
        let load = view.in_flight + view.waiting;
        let outlook = Outlook { start: self.start, service: self.service, ..Outlook::default() };
        let seen = Seen {
            peak: view.peak,
            load,
            waiting: view.waiting,
            ready: view.ready,
            starting: view.starting,
            idle_since: view.idle_since,
            rest: None,
            traffic: view.traffic,
            allowance: None,
            outlook,
        };
        let decision = scaling::decide(&self.policy, seen, &mut self.state, now);
        self.alarm = scaling::alarm(&self.policy, &decision);
        let sample = (view.peak > 0).then_some(now + SAMPLE);
        (decision.desired, decision.again_at.into_iter().chain(sample).min())
    }

    fn alarm(&self) -> u32 {
        self.alarm
    }

    fn started(&mut self, took: Duration) {
        let before = self.start.unwrap_or(took);
        self.start = Some(before.mul_f64(1.0 - NEWEST) + took.mul_f64(NEWEST));
    }
}

/// A policy as Knative's: on a tick of 2 s, by the mean concurrency of the last 60 s against 70 % of
/// a pod's slots; from zero at once. With `panic` it also heeds the mean of the last 6 s, while
/// that asks for twice the pods that there are, and for 60 s after.
#[derive(Debug)]
pub struct Tick {
    target: f64,
    max: u32,
    panic: bool,
    next: Moment,
    load: u32,
    /// Concurrency by moment; each counts until the next.
    samples: VecDeque<(Moment, u32)>,
    panicking: Option<(Moment, u32)>,
    pods: u32,
}

const TICK: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_mins(1);
const PANIC_WINDOW: Duration = Duration::from_secs(6);
const UTILISATION: f64 = 0.7;
/// How often the concurrency is read between ticks.
const READING: Duration = Duration::from_millis(100);

impl Tick {
    /// One whose first tick is at `phase`.
    pub fn new(slots: u32, max: u32, panic: bool, (pods, phase): (u32, Duration)) -> Self {
        Self {
            target: f64::from(slots) * UTILISATION,
            max,
            panic,
            next: phase,
            load: 0,
            samples: VecDeque::new(),
            panicking: None,
            pods,
        }
    }

    fn mean(&self, now: Moment, window: Duration) -> f64 {
        let since = now.saturating_sub(window);
        let mut sum = 0.0;
        let mut until = now;
        for &(at, load) in self.samples.iter().rev() {
            let from = at.max(since);
            sum += until.saturating_sub(from).as_secs_f64() * f64::from(load);
            until = from;
            if at <= since {
                break;
            }
        }
        sum / window.min(now).as_secs_f64().max(1e-3)
    }

    fn wants(&self, now: Moment, window: Duration) -> u32 {
        let pods = (self.mean(now, window) / self.target).ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let pods = pods as u32;
        pods
    }

    fn tick(&mut self, now: Moment, ready: u32) {
        let stable = self.wants(now, WINDOW);
        let urgent = if self.panic { self.wants(now, PANIC_WINDOW) } else { 0 };
        if urgent >= 2 * ready.max(1) {
            let most = self.panicking.map_or(0, |(_, most)| most);
            self.panicking = Some((now + WINDOW, most));
        }
        self.panicking = self.panicking.filter(|(ends, _)| now < *ends);
        self.pods = match &mut self.panicking {
            Some((_, most)) => {
                *most = (*most).max(stable).max(urgent).max(ready);
                *most
            }
            None => stable.max(ready / 2),
        };
        self.pods = self.pods.min(self.max);
    }
}

impl Scaler for Tick {
    fn decide(&mut self, view: &View, now: Moment) -> (u32, Option<Moment>) {
        self.load = view.in_flight + view.waiting;
        self.samples.push_back((now, self.load));
        while self.samples.get(1).is_some_and(|&(at, _)| at + WINDOW < now) {
            self.samples.pop_front();
        }
        if self.pods == 0 && self.load > 0 {
            self.pods = 1;
        }
        if now >= self.next {
            self.tick(now, view.ready);
            self.next += TICK;
        }
        (self.pods, Some(self.next.min(now + READING)))
    }

    fn alarm(&self) -> u32 {
        if self.pods == 0 { 0 } else { u32::MAX }
    }
}
