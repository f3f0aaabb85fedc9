//! Invocations that wait for a language process, and language processes that wait for an invocation.
//! First come, first served, on both sides. Must not know how either came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::problem::Problem;

/// Invocations that may wait. The activator sends no more than the pod is said to serve at once.
const WAITING: usize = 1000;

/// What a handler is called with.
#[derive(Debug)]
pub struct Invocation {
    /// Unique among all attempts, in the form of a UUID.
    pub id: Arc<str>,
    /// The id of the request that it came from.
    pub request_id: Arc<str>,
    /// In the form of X-Ray.
    pub trace: String,
    /// The event, a JSON document.
    pub event: Bytes,
    /// When its time is over.
    pub deadline: Instant,
    /// Who waits for what becomes of it.
    pub reply: oneshot::Sender<Outcome>,
}

/// What became of an invocation.
#[derive(Debug)]
pub enum Outcome {
    /// The handler gave this.
    Answer(Bytes),
    /// The handler gives this, bit by bit.
    Stream {
        /// The type of what comes.
        content_type: String,
        /// What comes; an error where the handler broke off.
        pieces: mpsc::Receiver<Result<Bytes, String>>,
    },
    /// The handler failed, and said this.
    Failed(Failure),
    /// Nobody will answer.
    Gone(String),
}

/// What a handler says of its failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind: `Runtime.ExitError`, `ValueError`.
    pub kind: String,
    /// The document as it came.
    pub document: Bytes,
}

/// The line.
#[derive(Debug, Default)]
pub struct Line(Mutex<Both>);

#[derive(Debug, Default)]
struct Both {
    invocations: VecDeque<Invocation>,
    askers: VecDeque<oneshot::Sender<Invocation>>,
}

impl Both {
    /// Gives an invocation to whoever has asked longest, or back if nobody asks. Where somebody asks,
    /// no invocation waits.
    fn offer(&mut self, mut invocation: Invocation) -> Option<Invocation> {
        while let Some(asker) = self.askers.pop_front() {
            match asker.send(invocation) {
                Ok(()) => return None,
                // Its process is gone.
                Err(back) => invocation = back,
            }
        }
        Some(invocation)
    }
}

impl Line {
    /// Gives an invocation to whoever has asked longest, or lets it wait.
    pub fn push(&self, invocation: Invocation) -> Result<(), Problem> {
        let mut both = self.both();
        let Some(invocation) = both.offer(invocation) else { return Ok(()) };
        both.invocations.retain(|waiting| !waiting.reply.is_closed());
        if both.invocations.len() >= WAITING {
            return Err(Problem::Full(WAITING));
        }
        both.invocations.push_back(invocation);
        Ok(())
    }

    /// The next invocation, as soon as there is one for which somebody still waits.
    pub async fn next(&self) -> Option<Held<'_>> {
        let receiver = {
            let mut both = self.both();
            while let Some(invocation) = both.invocations.pop_front() {
                if !invocation.reply.is_closed() {
                    return Some(Held { line: self, invocation: Some(invocation) });
                }
            }
            let (asker, receiver) = oneshot::channel();
            both.askers.retain(|asker| !asker.is_closed());
            both.askers.push_back(asker);
            receiver
        };
        let mut asking = Asking { line: self, receiver };
        let invocation = (&mut asking.receiver).await.ok()?;
        Some(Held { line: self, invocation: Some(invocation) })
    }

    /// Takes back what was in the hand of an asker that went away, to the front.
    fn back(&self, invocation: Invocation) {
        let mut both = self.both();
        if let Some(invocation) = both.offer(invocation) {
            both.invocations.push_front(invocation);
        }
    }

    fn both(&self) -> MutexGuard<'_, Both> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An asker that may go away with an invocation in its hand; then that goes back to the front.
struct Asking<'a> {
    line: &'a Line,
    receiver: oneshot::Receiver<Invocation>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(invocation) = self.receiver.try_recv() {
            self.line.back(invocation);
        }
    }
}

/// An invocation that is about to be given to a process. If that goes away before, it goes back.
#[derive(Debug)]
pub struct Held<'a> {
    line: &'a Line,
    invocation: Option<Invocation>,
}

impl Held<'_> {
    /// The invocation, if somebody still waits for it.
    pub fn take(mut self) -> Option<Invocation> {
        self.invocation.take().filter(|invocation| !invocation.reply.is_closed())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(invocation) = self.invocation.take() {
            self.line.back(invocation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(id: &str) -> (Invocation, oneshot::Receiver<Outcome>) {
        let (reply, receiver) = oneshot::channel();
        let id: Arc<str> = id.into();
        let invocation = Invocation {
            request_id: Arc::clone(&id),
            id,
            trace: String::new(),
            event: Bytes::new(),
            deadline: Instant::now(),
            reply,
        };
        (invocation, receiver)
    }

    async fn next(line: &Line) -> String {
        line.next().await.unwrap().take().unwrap().id.to_string()
    }

    #[tokio::test]
    async fn both_sides_are_served_in_the_order_in_which_they_came() {
        let line = Line::default();
        let (first, _one) = invocation("1");
        let (second, _two) = invocation("2");
        line.push(first).unwrap();
        line.push(second).unwrap();
        assert_eq!(next(&line).await, "1");
        assert_eq!(next(&line).await, "2");
    }

    #[tokio::test]
    async fn nobody_gets_what_nobody_waits_for() {
        let line = Line::default();
        let (first, receiver) = invocation("1");
        let (second, _two) = invocation("2");
        line.push(first).unwrap();
        line.push(second).unwrap();
        drop(receiver);
        assert_eq!(next(&line).await, "2");
    }

    #[tokio::test]
    async fn an_asker_that_goes_away_loses_nothing() {
        let line = Line::default();
        let mut asking = Box::pin(line.next());
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(
                asking.as_mut().poll(context).is_pending()
            ))
            .await
        );
        let (only, _one) = invocation("1");
        line.push(only).unwrap();
        drop(asking);
        drop(line.next().await.unwrap());
        assert_eq!(next(&line).await, "1");
    }

    #[tokio::test]
    async fn the_line_is_bounded() {
        let line = Line::default();
        let mut receivers = Vec::new();
        for _ in 0..WAITING {
            let (waiting, receiver) = invocation("w");
            line.push(waiting).unwrap();
            receivers.push(receiver);
        }
        let (one_more, _receiver) = invocation("x");
        assert_eq!(line.push(one_more), Err(Problem::Full(WAITING)));
        receivers.clear();
        let (fits, _receiver) = invocation("y");
        line.push(fits).unwrap();
    }
}
