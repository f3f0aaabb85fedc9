//! Room that the load asks for: how many requests there must be slots for at once, so that none
//! waits for long. Pure.
//!
//! What counts is work, not requests: two hundred that take a tenth of a second each are served by
//! twenty slots within a second, and a pod that would be up after that is of no use. So requests
//! that are there, and those that came of late, are counted by how long they take, as measured
//! (Little's law), against the time that a request may wait. A margin of two roots (square-root
//! staffing) for what goes on coming keeps waiting rare at any size; more slots than requests were
//! there at once are never asked for.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Moment, Policy, Seen};

/// A request may wait for so many times as long as it takes, within these bounds.
const PATIENCE: f64 = 10.0;
const PATIENCE_BOUNDS: (f64, f64) = (0.1, 1.0);
/// The margin: so many roots of the mean.
const MARGIN: f64 = 2.0;
/// Pods that are asked for at once for requests of which it is not known how long they take: with a
/// hard limit, and with a soft target, where too few pods get too much at once.
const UNPROVEN: (u32, u32) = (3, 10);
/// Once pods have had the first of them for so long, each is taken to need a slot of its own.
const PROOF: Duration = Duration::from_millis(300);
/// Requests in flight for so many times as long as usual say that the usual is over.
const STALLED: f64 = 2.0;
/// The measured time follows the last so many requests.
const MEMORY: f64 = 100.0;
/// Shortest distance of two marks of arrivals, and how long they are kept: for twice the longest
/// patience.
const MARK: Duration = Duration::from_millis(10);
const MARKS: Duration = Duration::from_secs(2);
/// While requests wait, the demand is looked at as often.
pub const LOOK: Duration = Duration::from_millis(50);

/// Counts of the requests of a Function. All but `age` only grow, so that those of several
/// activators add up and it does not matter when they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Requests that came.
    pub arrived: u64,
    /// Requests that pods were done with.
    pub served: u64,
    /// How long pods had these, all together.
    pub served_time: Duration,
    /// How long pods have had those that they have now, all together.
    pub age: Duration,
}

/// What the demand remembers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    last: Traffic,
    /// How long a pod has a request, in seconds, and how many requests say so.
    service: f64,
    weight: f64,
    /// Since when pods have had requests, before the first was done.
    tried_since: Option<Moment>,
    /// Requests that had come, and most at once since the mark before, by moment.
    marks: VecDeque<Mark>,
    /// Requests that had come before the first mark.
    base: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark {
    at: Moment,
    arrived: u64,
    peak: u32,
}

/// What there must be room for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Requests at once.
    pub slots: f64,
    /// Requests per second that came of late.
    pub rate: f64,
    /// How long a pod has a request.
    pub service: Option<Duration>,
}

impl Demand {
    /// How long a pod has a request, as far as it was measured.
    pub fn service(&self) -> Option<Duration> {
        (self.weight > 0.0).then(|| Duration::from_secs_f64(self.service.max(0.0)))
    }

    /// Takes in what was `seen` and says what room it needs.
    pub fn follow(&mut self, policy: &Policy, seen: &Seen<'_>, now: Moment) -> Room {
        self.mark(seen, now);
        self.measure(seen);
        let service = self.service_now(seen);
        let patience = service.map_or(PATIENCE_BOUNDS.1, |service| {
            (service * PATIENCE).clamp(PATIENCE_BOUNDS.0, PATIENCE_BOUNDS.1)
        });
        let came = self.came(now, 0.0, patience);
        let recent = self.marks.iter().filter(|mark| mark.at + MARKS > now);
        let most = recent.map(|mark| mark.peak).max().unwrap_or_default();
        let slots = match service {
            Some(service) => {
                let before = self.came(now, patience, patience).min(came);
                demand(policy, seen, (service, patience), (came, before)).min(most.into())
            }
            None => self.unproven(policy, seen, now).min(most.into()),
        };
        let told = service.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        if seen.load == 0 && seen.peak == 0 {
            // Nothing is kept for a Function at rest.
            self.marks = VecDeque::new();
            self.base = seen.traffic.arrived;
        }
        Room { slots, rate: came / patience, service: told }
    }

    fn measure(&mut self, seen: &Seen<'_>) {
        let Traffic { served, served_time, .. } = seen.traffic;
        if self.weight <= 0.0
            && let Some(known) = seen.outlook.service
        {
            (self.service, self.weight) = (known.as_secs_f64(), 1.0);
        }
        let news = float(served.saturating_sub(self.last.served));
        if news > 0.0 {
            let took = served_time.saturating_sub(self.last.served_time).as_secs_f64();
            let weight = self.weight.min(MEMORY);
            self.service = (self.service * weight + took) / (weight + news);
            self.weight = weight + news;
        }
        self.last = seen.traffic;
    }

    fn mark(&mut self, seen: &Seen<'_>, now: Moment) {
        if seen.traffic.arrived < self.last.arrived {
            // Whoever counted with us left: what it counted is no part of it any more.
            let less = self.last.arrived - seen.traffic.arrived;
            self.base = self.base.saturating_sub(less);
            for mark in &mut self.marks {
                mark.arrived = mark.arrived.saturating_sub(less);
            }
        }
        let mark = Mark { at: now, arrived: seen.traffic.arrived, peak: seen.peak.max(seen.load) };
        match self.marks.back_mut().filter(|last| now < last.at + MARK) {
            Some(last) => {
                last.arrived = mark.arrived;
                last.peak = last.peak.max(mark.peak);
            }
            None => self.marks.push_back(mark),
        }
        while self.marks.get(1).is_some_and(|next| next.at + MARKS <= now) {
            self.base = self.marks.pop_front().map_or(self.base, |gone| gone.arrived);
        }
    }

    /// How long a pod has a request, going by those that it has now if they take much longer.
    fn service_now(&self, seen: &Seen<'_>) -> Option<f64> {
        if self.weight <= 0.0 {
            return None;
        }
        let age = mean_age(seen);
        Some(if age > STALLED * self.service { age } else { self.service })
    }

    /// Slots for requests of which nobody knows how long they take: a few pods, and more as they
    /// are seen to take long.
    fn unproven(&mut self, policy: &Policy, seen: &Seen<'_>, now: Moment) -> f64 {
        let held = seen.load > seen.waiting;
        let since = if held { *self.tried_since.get_or_insert(now) } else { now };
        let all = f64::from(seen.peak.max(seen.load));
        if now.saturating_sub(since) >= PROOF {
            return all;
        }
        let (hard, soft) = UNPROVEN;
        let few = if policy.concurrency.limit.is_some() { hard } else { soft };
        all.min(f64::from(few) * f64::from(policy.per_pod()))
    }

    /// Requests that came within `length` up to `ago` before now, in seconds. Between two marks they
    /// count as having come evenly, so that it does not matter how often one looks.
    fn came(&self, now: Moment, ago: f64, length: f64) -> f64 {
        let arrived = |ago: f64| {
            let Some(at) = now.checked_sub(Duration::from_secs_f64(ago)) else {
                return float(self.base);
            };
            let next = self.marks.partition_point(|mark| mark.at <= at);
            let Some(from) = next.checked_sub(1).and_then(|last| self.marks.get(last)) else {
                return float(self.base);
            };
            let Some(to) = self.marks.get(next) else { return float(from.arrived) };
            let part = at.saturating_sub(from.at).div_duration_f64(to.at.saturating_sub(from.at));
            float(from.arrived) + part * float(to.arrived.saturating_sub(from.arrived))
        };
        (arrived(ago) - arrived(ago + length)).max(0.0)
    }
}

/// Slots for requests that take `service` each and may wait for `patience`, of which so many `came`
/// in the time of patience, and so many in each of the two last.
fn demand(
    policy: &Policy,
    seen: &Seen<'_>,
    (service, patience): (f64, f64),
    (came, lasting): (f64, f64),
) -> f64 {
    let share = (service / patience).min(1.0);
    let start = seen.outlook.start.unwrap_or_default().as_secs_f64();
    let load = f64::from(seen.load);
    // Those that the pods that serve will be done with, before another could help.
    let absorbed = if seen.waiting > 0 && service > 0.0 {
        f64::from(seen.ready) * f64::from(policy.per_pod()) * start / service
    } else {
        0.0
    };
    let held = f64::from(seen.load.saturating_sub(seen.waiting)) * share;
    let mean = if seen.waiting > 0 {
        // More will have come until a pod that is started now is up, and go on coming.
        let coming = lasting / patience * start;
        // Not sooner than a pod takes to start: those for a backlog go as soon as it is over.
        let in_time = (service / patience.max(start)).min(share);
        let left = (load + coming - absorbed).max(0.0) * in_time;
        (came * share).max(lasting * share + left).max(held)
    } else {
        (came * share).max(held)
    };
    // A burst that is over by then needs no room for chance; what goes on coming does.
    mean + MARGIN * (lasting * share).max(held).min(mean).sqrt()
}

/// How long pods have had the requests that they have, in seconds.
fn mean_age(seen: &Seen<'_>) -> f64 {
    let held = seen.load.saturating_sub(seen.waiting);
    if held == 0 { 0.0 } else { seen.traffic.age.as_secs_f64() / f64::from(held) }
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
