//! What the owner of a Function takes over of what was learned before, and when it tells what it
//! learned itself. Pure, but for a line in the log.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rouse_core::scaling::idle::history::History;
use rouse_core::scaling::idle::{Idle, Learner};
use rouse_core::scaling::{Moment, State};
use rouse_crds::v1alpha1::Learned;
use tokio::time::Instant;

use super::activation::Clocks;
use crate::observe::index::FunctionView;

/// Shortest pause between two times at which only what was learned is told: it is a write of status.
const PAUSE: Duration = Duration::from_mins(10);
/// Idle times are not told apart beyond this.
const LONGEST: Duration = Duration::from_hours(48);

/// How long ago the Function went idle, if a former owner said so.
pub fn idle_for(function: &FunctionView, wall: Timestamp) -> Option<Duration> {
    let Idle::Learned(_) = function.settings.policy.idle else { return None };
    let since = function.learned.as_ref()?.idle_since.as_ref()?;
    Some(Duration::try_from(wall.duration_since(since.0)).unwrap_or_default().min(LONGEST))
}

/// The state that goes on with what a former owner learned. What can't be read is left unheeded.
pub fn resume(function: &FunctionView, state: State) -> State {
    let Idle::Learned(_) = function.settings.policy.idle else { return state };
    let Some(learned) = &function.learned else { return state };
    match History::from_text(&learned.idle_times) {
        Ok(history) => state.with_learner(Learner::resume(history)),
        Err(error) => {
            tracing::warn!(function = %function.key, %error, "what was learned is left unheeded");
            state
        }
    }
}

/// What is told of what was learned: as it was when the number of pods changed last, or ten minutes
/// after that, so that it rides along with writes that happen anyway.
#[derive(Debug, Default)]
pub struct Memory {
    /// In a box, since most Functions don't learn.
    told: Option<Box<Told>>,
}

#[derive(Debug)]
struct Told {
    learned: Learned,
    at: Instant,
    /// Idle times that there were.
    noted: u32,
}

impl Memory {
    /// Takes in a decision; `changed` says whether the number of pods is another.
    pub fn note(&mut self, state: &State, origin: Instant, changed: bool, clocks: &Clocks) {
        let Some(history) = state.learner().map(Learner::history) else {
            self.told = None;
            return;
        };
        let due = self.told.as_ref().map_or(!history.is_empty(), |told| {
            told.noted != history.noted() && clocks.instant >= told.at + PAUSE
        });
        if !(changed || due) {
            return;
        }
        let idle_since = state.last_busy().map(|busy: Moment| origin + busy);
        let idle_since = idle_since.filter(|busy| *busy < clocks.instant);
        let learned = Learned {
            idle_times: history.to_text(),
            idle_since: idle_since.map(|busy| Time(clocks.wall_of(busy))),
        };
        self.told = Some(Box::new(Told { learned, at: clocks.instant, noted: history.noted() }));
    }

    /// What is told.
    pub fn told(&self) -> Option<&Learned> {
        self.told.as_ref().map(|told| &told.learned)
    }
}
