//! The connection that a permit's request is on, where its slot must outlast the request: a pod with
//! a hard limit goes on with what was given up until it notices.

use std::sync::{Arc, Mutex, PoisonError};

use super::Gate;
use crate::upstream::Turn;

/// The connection, if there is one.
#[derive(Debug, Default)]
pub(super) struct UsedLine(Mutex<Option<Turn>>);

impl UsedLine {
    pub fn set(&self, turn: Turn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
    }

    pub fn take(&mut self) -> Option<Turn> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Gate {
    /// Sends nothing more to a pod, since nobody knows how long it goes on with what was given up.
    /// The task has it replaced.
    pub(super) fn give_up(self: &Arc<Self>, pod: &str) {
        self.change_claims(|claims| claims.lose(pod));
    }
}
