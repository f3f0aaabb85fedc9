//! How events reach a Function at least once: when each is sent, sent again, acknowledged to its
//! source, or given up. Pure.
//!
//! A source puts events in and carries out the [`Action`]s that come out. Nothing is acknowledged
//! before the Function said that it is done with it, or the dead letter is stored; all that is
//! known here may be lost at any moment, for the source then brings again what was not
//! acknowledged. Events with the same key are sent one after the other, in the order in which they
//! came.
//!
//! A delivery of several events that fails as a whole is split, until what fails stands alone.
//! Splitting is no attempt: the companions of a bad event are not given up for it.

mod answer;
mod backoff;
mod machine;
mod settings;
mod target;

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

pub use backoff::Backoff;
pub use machine::Machine;
pub use settings::{Heir, Settings};
pub use target::Target;

use crate::scaling::Moment;

/// What holds for all events of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How often an event is sent before it is given up.
    pub attempts: NonZeroU32,
    /// How long it waits in between.
    pub backoff: Backoff,
    /// Age at which it is given up; none where it never grows too old.
    pub max_age: Option<Duration>,
    /// Events that are sent together at most.
    pub batch: NonZeroUsize,
    /// How long the source waits for an acknowledgement before it brings an event again; none where
    /// it waits as long as it is connected.
    pub patience: Option<Duration>,
    /// What the source can acknowledge.
    pub acks: Acks,
    /// What becomes of events that are given up.
    pub given_up: GivenUp,
}

/// What a source can acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Each event for itself.
    Each,
    /// A position in a stream: all events up to it.
    UpTo,
}

/// What becomes of events that are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// They are stored as dead letters, and only then acknowledged.
    Stored,
    /// They are told of and acknowledged.
    Dropped,
    /// None is given up: it is sent again for ever.
    Never,
}

/// An event of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<B> {
    /// What the Function knows it by; the same whenever the source brings it again.
    pub id: Arc<str>,
    /// Events of the same key are delivered in order; none where order means nothing.
    pub key: Option<Arc<str>>,
    /// When it came to be.
    pub since: Moment,
    /// What it says.
    pub body: B,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<B> {
    /// Send these to the Function, in this order, and tell the machine the outcome.
    Deliver {
        /// Number of the delivery.
        delivery: u64,
        /// One, or as many as [`Policy::batch`].
        events: Vec<Arc<Event<B>>>,
        /// How often the first of them will have been sent, counting from 1; splitting a delivery
        /// does not count.
        attempt: u32,
    },
    /// Ask the source for more patience with these.
    Extend(Vec<Arc<Event<B>>>),
    /// Acknowledge these, whose order is that of the source: where it can only be told a position,
    /// the last of them is the position.
    Acknowledge(Vec<Arc<Event<B>>>),
    /// Store a dead letter, and tell the machine whether it is stored.
    Store(Farewell<B>),
    /// Tell that an event was given up and is stored nowhere.
    Drop(Farewell<B>),
}

/// An event that is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell<B> {
    /// The event.
    pub event: Arc<Event<B>>,
    /// Why.
    pub reason: Reason,
    /// How often it was sent.
    pub attempts: u32,
}

/// Why an event is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// All attempts failed.
    Attempts,
    /// It is, or would be at the next attempt, too old.
    Age,
    /// The Function said that it will never take it.
    Rejected,
}

impl Reason {
    /// One word for dead letters, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Age => "age",
            Self::Rejected => "rejected",
        }
    }
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The Function is done with all events.
    Done,
    /// It is done with all but these, by their ids.
    Partly(BTreeSet<Arc<str>>),
    /// It failed, or nobody knows.
    Failed,
    /// It will never take them.
    Rejected,
    /// It did not try, and asks to come back after this.
    Busy(Duration),
}

impl Outcome {
    /// What an answer with this status means. Whoever says when to come back is believed; a status
    /// that may have to do with the way to the Function does not reject the event.
    pub const fn of(status: u16, retry_after: Option<Duration>) -> Self {
        match (status, retry_after) {
            (200..=299, _) => Self::Done,
            (429 | 503, Some(after)) => Self::Busy(after),
            (404 | 408 | 409 | 421 | 425 | 429, _) => Self::Failed,
            (400..=499, _) => Self::Rejected,
            _ => Self::Failed,
        }
    }
}

/// What to do now, and when to ask again if nothing happens before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<B> {
    /// In this order.
    pub actions: Vec<Action<B>>,
    /// None while only an outcome or a new event changes anything.
    pub again_at: Option<Moment>,
}

/// The seed of a Trigger's [`Machine`]. The digits of a UID are chance enough to spread the waits of
/// Triggers.
pub fn seed_of(uid: &str) -> u64 {
    uid.bytes().fold(0, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte))
}

#[cfg(test)]
mod tests;
