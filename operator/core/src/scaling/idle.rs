//! How long the last pod of a Function without requests stays, and when it comes back before the
//! next request: after a fixed time, or as the Function's own idle times teach. Pure.
//!
//! Keeping a pod for the next second is right while the chance that a request comes in that second
//! is worth more than the memory. That gives not one timeout but stretches of idle time in which
//! the Function is warm; waking ahead of a habit falls out of it. A request that was known
//! beforehand (a schedule) teaches nothing about the others but that none came until then.

pub mod economy;
pub mod history;
pub mod population;
mod warm;

use std::time::Duration;

use serde::Serialize;

use super::Moment;
use economy::Stakes;
use history::{Ended, History, IdleTime};
use population::Prior;
pub use warm::WarmTimes;

/// Idle times up to this teach nothing: no pod comes or goes within them.
pub const LINGER: Duration = Duration::from_secs(2);
/// A pod goes only if it would be away for longer. Below, one that goes and one that comes cost
/// more than one that stays.
pub const WORTH_LEAVING: Duration = Duration::from_secs(30);
/// A request counts as the one that was known beforehand if it comes at most so much earlier.
const EARLY: Duration = Duration::from_secs(1);
/// What is planned for a Function that was never seen to start.
pub const USUAL_START: Duration = Duration::from_secs(1);
/// A Function teaches others by its first idle times: later it knows itself, and a busy one would
/// drown all others.
const TEACHES: u32 = 16;

/// How a Function without requests is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// For `scaling.idle.after`.
    Fixed,
    /// As its idle times teach.
    Learned(Stakes),
}

/// What is known of the time ahead, and of other Functions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outlook<'a> {
    /// The next request that is known beforehand.
    pub expected: Option<Moment>,
    /// How long a start takes; none where none was measured.
    pub start: Option<Duration>,
    /// How long a pod has a request, from before; none where none was measured.
    pub service: Option<Duration>,
    /// What the idle times of others teach.
    pub prior: Option<&'a Prior>,
}

/// What one Function has learned. Small: its history is at most 256 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learner {
    history: History,
    warm: WarmTimes,
    /// Idle times that came since the warm times were planned.
    since_plan: u32,
    /// For which stakes they were planned.
    stakes: Option<Stakes>,
    /// When the request that was known beforehand should come.
    expected: Option<Moment>,
}

/// An idle time that others may learn from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Lesson {
    /// The idle time.
    pub time: IdleTime,
    /// Whether it comes from a Function with a schedule: these are a population of their own.
    pub scheduled: bool,
}

/// What to do with the last pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the pod shall be there.
    pub warm: bool,
    /// Whether it is there for a request that was known beforehand.
    pub scheduled: bool,
    /// Whether the pod had gone before.
    pub woken: bool,
    /// When the answer changes if no request comes.
    pub until: Option<Moment>,
}

impl Learner {
    /// One that goes on with a `history` from before.
    pub fn resume(history: History) -> Self {
        Self { history, ..Self::default() }
    }

    /// What is kept when the process ends.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Takes in that a request came at `now`, after the Function was without any since `since`.
    pub fn note(&mut self, since: Moment, now: Moment) -> Option<Lesson> {
        let idle = now.saturating_sub(since);
        let known = self.expected.is_some_and(|at| now + EARLY >= at);
        if idle < LINGER {
            return None;
        }
        let ended = if known { Ended::Known } else { Ended::Called };
        let time = IdleTime::new(idle, ended);
        self.history.push(time);
        self.since_plan = self.since_plan.saturating_add(1);
        let lesson = Lesson { time, scheduled: self.expected.is_some() };
        (self.history.noted() <= TEACHES).then_some(lesson)
    }

    /// Takes in what is known of the time ahead.
    pub fn expect(&mut self, outlook: &Outlook<'_>) {
        self.expected = outlook.expected;
    }

    /// Plans for the idle time that begins, if enough was learned since the last plan.
    pub fn plan(&mut self, stakes: Stakes, outlook: &Outlook<'_>) {
        let news = self.since_plan.saturating_mul(20) >= self.history.len();
        if self.stakes == Some(stakes) && (self.since_plan == 0 || !news) {
            return;
        }
        let lead = outlook.start.unwrap_or(USUAL_START);
        let scheduled = outlook.expected.is_some();
        self.warm = WarmTimes::plan(&self.history, outlook.prior, scheduled, stakes, lead);
        self.since_plan = 0;
        self.stakes = Some(stakes);
    }

    /// Whether the pod shall be there at `now`, when the last request was over at `since`.
    pub fn verdict(&self, since: Moment, now: Moment, outlook: &Outlook<'_>) -> Verdict {
        let habit = self.warm.at(now.saturating_sub(since));
        let ends = habit.until.map(|until| since + until);
        let left = self.warm.left_before(now.saturating_sub(since));
        let woken = left > Duration::ZERO;
        let by_habit = Verdict { warm: habit.warm, scheduled: false, woken, until: ends };
        let Some(expected) = outlook.expected else { return by_habit };
        let wake = expected.saturating_sub(outlook.start.unwrap_or(USUAL_START));
        let due = now >= wake && now <= expected + late(outlook);
        if due {
            let until = Some(expected + late(outlook));
            return Verdict { warm: true, scheduled: true, until, ..by_habit };
        }
        if now > wake {
            return by_habit;
        }
        let bridged = !habit.warm && wake.saturating_sub(since + left) < WORTH_LEAVING;
        let until = if bridged { wake } else { ends.map_or(wake, |ends| ends.min(wake)) };
        Verdict { warm: habit.warm || bridged, scheduled: bridged, woken, until: Some(until) }
    }
}

/// How late a request may come that was known beforehand, before it is no longer waited for.
fn late(outlook: &Outlook<'_>) -> Duration {
    outlook.start.unwrap_or(USUAL_START).max(LINGER)
}

#[cfg(test)]
mod tests;
