//! What the first idle times of all Functions teach about one of which little is known.
//!
//! Functions with a schedule are a population of their own: what calls them besides is rare.

use std::sync::Arc;
use std::time::Duration;

use super::Lesson;
use super::history::{Ended, OCTAVES};
use crate::scaling::Moment;

/// Parts of a doubling that are told apart.
const PARTS: f64 = 8.0;
const CELLS: usize = 16 * 8;
/// How often what was taught is summed up.
const SUMMED_UP: Duration = Duration::from_mins(1);
/// Lessons after which old ones count half: some hundred Functions.
const MOST: f64 = 4096.0;

/// Counts of idle times by length.
#[derive(Clone, Debug, PartialEq)]
struct Counts {
    called: [f32; CELLS],
    known: [f32; CELLS],
    all: f32,
}

/// The idle times that taught.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Population {
    called: Counts,
    scheduled: Counts,
}

/// What follows for a Function of which little is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Prior {
    called: Table,
    scheduled: Table,
}

/// A population, and what follows from it, summed up once a minute.
#[derive(Clone, Debug, Default)]
pub struct Taught {
    population: Population,
    summed_up: Option<(Moment, Arc<Prior>)>,
}

/// By idle time: calls that came then, and idle times that lasted so long.
#[derive(Clone, Debug, PartialEq)]
struct Table([(f32, f32); CELLS]);

impl Default for Counts {
    fn default() -> Self {
        Self { called: [0.0; CELLS], known: [0.0; CELLS], all: 0.0 }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small number, never negative; the last cell takes what is longer"
)]
fn cell(doublings: f64) -> usize {
    ((doublings.clamp(0.0, OCTAVES) * PARTS) as usize).min(CELLS - 1)
}

impl Counts {
    fn learn(&mut self, lesson: Lesson) {
        let cells = match lesson.time.ended() {
            Ended::Called => &mut self.called,
            Ended::Known => &mut self.known,
        };
        cells[cell(lesson.time.doublings())] += 1.0;
        self.all += 1.0;
        if f64::from(self.all) > MOST {
            for count in self.called.iter_mut().chain(&mut self.known).chain([&mut self.all]) {
                *count /= 2.0;
            }
        }
    }

    fn table(&self) -> Table {
        let called = |cell: usize| self.called[cell.min(CELLS - 1)];
        let mut lasting = self.all;
        let mut table = [(0.0, 0.0); CELLS];
        for (cell, entry) in table.iter_mut().enumerate() {
            let around = called(cell.saturating_sub(1)) + called(cell + 1);
            *entry = (called(cell) / 2.0 + around / 4.0, lasting.max(0.0));
            lasting -= self.called[cell] + self.known[cell];
        }
        Table(table)
    }
}

impl Population {
    /// Takes in one more.
    pub fn learn(&mut self, lesson: Lesson) {
        if lesson.scheduled { &mut self.scheduled } else { &mut self.called }.learn(lesson);
    }

    /// What all of them teach.
    pub fn prior(&self) -> Prior {
        Prior { called: self.called.table(), scheduled: self.scheduled.table() }
    }
}

impl Taught {
    /// Takes in one more.
    pub fn learn(&mut self, lesson: Lesson) {
        self.population.learn(lesson);
    }

    /// What all of them teach, as of a minute ago at most.
    pub fn prior(&mut self, now: Moment) -> Arc<Prior> {
        match &self.summed_up {
            Some((at, prior)) if now < *at + SUMMED_UP => Arc::clone(prior),
            _ => {
                let prior = Arc::new(self.population.prior());
                self.summed_up = Some((now, Arc::clone(&prior)));
                prior
            }
        }
    }
}

impl Prior {
    /// Calls that came at an idle time, per second, and idle times that lasted so long.
    /// `seconds` is how long a doubling is there.
    pub(super) fn at(&self, scheduled: bool, doublings: f64, second: f64) -> (f64, f64) {
        let table = if scheduled { &self.scheduled } else { &self.called };
        let (calls, lasting) = table.0[cell(doublings)];
        // A cell is 2^(1/8) wide: it ends 9 % after it begins.
        let begins = (doublings * PARTS).floor() / PARTS;
        let width = second * begins.exp2() * (PARTS.recip().exp2() - 1.0);
        (f64::from(calls) / width, f64::from(lasting))
    }
}
