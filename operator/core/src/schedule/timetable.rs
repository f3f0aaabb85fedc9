//! Which ticks of a schedule are due, and how far they are settled.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::Schedule;

/// Ticks of a schedule that may run at once; later ones wait for them.
const MOST_RUNNING: usize = 100;

/// What holds for the ticks of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What becomes of a tick while an earlier one is not done.
    pub overlap: Overlap,
    /// How late a tick may start; none where it is never too late.
    pub deadline: Option<Duration>,
    /// Whether of several ticks that are due only the latest starts.
    pub latest_only: bool,
}

/// What becomes of a tick while an earlier one is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// It starts beside it.
    Allow,
    /// It is skipped.
    Forbid,
    /// It starts in its stead.
    Replace,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Ticks to start, in order.
    pub start: Vec<Timestamp>,
    /// Ticks that were started earlier and have to end.
    pub replaced: Vec<Timestamp>,
    /// Ticks that are not started at all.
    pub skipped: u64,
}

/// The ticks of one schedule. It may be lost and made again from [`Timetable::settled`].
#[derive(Clone, Debug)]
pub struct Timetable {
    schedule: Schedule,
    rules: Rules,
    /// All ticks up to here were looked at.
    seen: Timestamp,
    /// Those that were started and are not done.
    running: BTreeSet<Timestamp>,
}

impl Timetable {
    /// The timetable of a schedule whose ticks up to `settled` are.
    pub const fn new(schedule: Schedule, rules: Rules, settled: Timestamp) -> Self {
        Self { schedule, rules, seen: settled, running: BTreeSet::new() }
    }

    /// When the next tick is due.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.schedule.next(self.seen)
    }

    /// What to do at `now`. A clock that goes back brings no tick again.
    pub fn take_due(&mut self, now: Timestamp) -> Due {
        let mut due = Due::default();
        let only_one = self.rules.latest_only || self.rules.overlap != Overlap::Allow;
        let room = MOST_RUNNING.saturating_sub(self.running.len());
        if self.rules.overlap == Overlap::Allow && room == 0 {
            return due;
        }
        while (only_one || due.start.len() < room)
            && let Some(tick) = self.next_at().filter(|tick| *tick <= now)
        {
            self.seen = tick;
            let late = now.duration_since(tick).unsigned_abs();
            if self.rules.deadline.is_some_and(|deadline| late > deadline) {
                due.skipped += 1;
            } else {
                if only_one {
                    due.skipped += u64::from(due.start.pop().is_some());
                }
                due.start.push(tick);
            }
        }
        if !self.running.is_empty() && !due.start.is_empty() {
            match self.rules.overlap {
                Overlap::Allow => {}
                Overlap::Forbid => due.skipped += due.start.drain(..).count() as u64,
                Overlap::Replace => due.replaced.extend(std::mem::take(&mut self.running)),
            }
        }
        self.running.extend(&due.start);
        due
    }

    /// A tick that was started is done, or given up.
    pub fn settle(&mut self, tick: Timestamp) {
        self.running.remove(&tick);
    }

    /// The time up to which all ticks are settled.
    pub fn settled(&self) -> Timestamp {
        let before_first = self
            .running
            .first()
            .map(|first| first.checked_sub(Duration::from_nanos(1)).unwrap_or(Timestamp::MIN));
        before_first.unwrap_or(self.seen).min(self.seen)
    }
}
