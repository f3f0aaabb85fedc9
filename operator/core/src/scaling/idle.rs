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
pub const EARLY: Duration = Duration::from_secs(1);
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
    /// How long before a request that is known or likely a pod is woken, so that it is up in time;
    /// none where no start was measured.
    pub lead: Option<Duration>,
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

impl Outlook<'_> {
    fn lead(&self) -> Duration {
        self.lead.unwrap_or(USUAL_START)
    }

    /// How late a request may come that was known beforehand, before it is no longer waited for.
    pub fn late(&self) -> Duration {
        self.lead().max(LINGER)
    }
}

impl Verdict {
    /// What a fixed time says, where the last request was over so long before `ends`.
    pub fn fixed(ends: Option<Moment>, now: Moment) -> Self {
        let warm = ends.is_some_and(|ends| now < ends);
        Self { warm, scheduled: false, woken: false, until: ends.filter(|_| warm) }
    }

    /// The same, but that a pod is up when the request comes that is known beforehand.
    #[must_use]
    pub fn until_expected(self, now: Moment, outlook: &Outlook<'_>) -> Self {
        let Some(expected) = outlook.expected else { return self };
        let (wake, given_up) = (expected.saturating_sub(outlook.lead()), expected + outlook.late());
        if now >= given_up {
            return self;
        }
        if now >= wake {
            return Self { warm: true, scheduled: true, until: Some(given_up), ..self };
        }
        Self { until: Some(self.until.map_or(wake, |until| until.min(wake))), ..self }
    }
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

    /// Takes in that a request came at `until`, after the Function was without any since `since`.
    pub fn note(&mut self, since: Moment, until: Moment) -> Option<Lesson> {
        let idle = until.saturating_sub(since);
        let known = self.expected.is_some_and(|at| until + EARLY >= at);
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

    /// Whether nothing was planned yet, or for other stakes.
    pub fn lacks_plan(&self, stakes: Stakes) -> bool {
        self.stakes != Some(stakes)
    }

    /// Plans for the idle time that begins, if enough was learned since the last plan.
    pub fn plan(&mut self, stakes: Stakes, outlook: &Outlook<'_>) {
        let news = self.since_plan.saturating_mul(20) >= self.history.len();
        if !self.lacks_plan(stakes) && (self.since_plan == 0 || !news) {
            return;
        }
        let scheduled = outlook.expected.is_some();
        self.warm =
            WarmTimes::plan(&self.history, outlook.prior, scheduled, stakes, outlook.lead());
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
        let wake = outlook.expected.map(|expected| expected.saturating_sub(outlook.lead()));
        let bridged = wake.filter(|wake| {
            now < *wake && !habit.warm && wake.saturating_sub(since + left) < WORTH_LEAVING
        });
        match bridged {
            Some(wake) => Verdict { warm: true, scheduled: true, woken, until: Some(wake) },
            None => by_habit.until_expected(now, outlook),
        }
    }
}

#[cfg(test)]
mod tests;
