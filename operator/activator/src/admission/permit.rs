//! What a gate gives to requests: a permit for a slot, or a place in the queue. Dropping either
//! gives it back, whatever became of the request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::health::Fault;
use super::line::UsedLine;
use super::state::{Answer, Ended, Taken};
use super::{Gate, Refusal};
use crate::exemplar::Caller;
use crate::pod::Pod;
use crate::upstream::Turn;

/// A request's place among those that came to a gate.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub(super) ticket: u64,
    /// When it began to wait, if it did.
    pub(super) since: Option<Instant>,
}

/// The right to send one request to one pod. Its slot is free again when this is dropped, so it
/// belongs with the body of the answer.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    place: Place,
    taken: Taken,
    line: UsedLine,
}

impl Permit {
    pub(super) fn new(gate: &Arc<Gate>, place: Place, taken: Taken) -> Self {
        Self { gate: Arc::clone(gate), place, taken, line: UsedLine::default() }
    }

    /// Says on which connection the request goes out: the slot is free once the pod is done there.
    pub(crate) fn use_line(&self, turn: Turn) {
        self.line.set(turn);
    }

    /// The pod.
    pub const fn pod(&self) -> &Arc<Pod> {
        &self.taken.pod
    }

    /// Whether the pod serves a number of requests at once and never more.
    pub const fn is_limited(&self) -> bool {
        self.taken.limited
    }

    /// When the request got the slot.
    pub const fn granted_at(&self) -> Instant {
        self.taken.begun
    }

    /// Says that the pod certainly did not get the request.
    pub fn note_unsent(&self) {
        self.taken.unsent.store(true, Ordering::Relaxed);
    }

    /// When the request began to wait; none where it had a slot at once.
    pub const fn waited_since(&self) -> Option<Instant> {
        self.place.since
    }

    /// The request's place, by which it may ask for another slot.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Whether the pod is suspect, so that it helps to know early that it can be reached.
    pub fn is_trial(&self) -> bool {
        self.taken.trying.load(Ordering::Relaxed)
    }

    /// What says that the pod was reached. It holds no slot.
    pub fn reached(&self) -> impl Fn() + Send + Sync + 'static {
        let (gate, pod) = (Arc::clone(&self.gate), Arc::clone(&self.taken.pod));
        move || gate.note_reached(&pod)
    }

    /// Says that the request failed for the pod's sake. Answers whether the pod is ejected for it.
    pub fn note_fault(&self, fault: Fault) -> bool {
        // Its trial is over: the pod may be tried again before this permit is given back.
        let trial = self.taken.trying.swap(false, Ordering::Relaxed);
        self.gate.note_fault(&self.taken.pod, fault, trial)
    }

    /// Says that the first byte of the answer is on its way, to `caller` if its trace is recorded.
    pub fn note_first_byte(&self, caller: Option<Caller>) {
        if self.taken.proves {
            self.gate.note_answered(&self.taken.pod);
        }
        if self.place.since.is_some() {
            self.gate.note_first_byte(caller);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let ended = Ended {
            trial: self.taken.trying.load(Ordering::Relaxed),
            since: self.taken.begun,
            sent: !self.taken.unsent.load(Ordering::Relaxed),
        };
        match self.line.take() {
            None => self.gate.release(&self.taken.pod, ended),
            Some(turn) => {
                let (gate, pod) = (Arc::clone(&self.gate), Arc::clone(&self.taken.pod));
                turn.free(Box::new(move |done| {
                    if !done {
                        gate.give_up(&pod.uid);
                    }
                    gate.release(&pod, ended);
                }));
            }
        }
    }
}

/// A place in the queue. Dropping it gives the place back.
#[derive(Debug)]
pub struct Waiting {
    gate: Arc<Gate>,
    ticket: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    pub(super) fn new(gate: &Arc<Gate>, ticket: u64, answer: oneshot::Receiver<Answer>) -> Self {
        Self { gate: Arc::clone(gate), ticket, answer }
    }
}

impl Future for Waiting {
    type Output = Result<Permit, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A gate answers every waiter before it forgets it; a lost answer means it was shut.
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answer.unwrap_or(Err(Refusal::Gone)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.leave(self.ticket);
    }
}
