//! Reading the membership from the API server's store at the right moment: after who asks has asked.
//! All who ask while a read is under way share the next.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rouse_core::membership::Membership;

use crate::instances::{CallError, Instances};

/// What a read brought.
type Outcome = Result<Arc<Membership>, CallError>;

/// Reads of the membership that are never older than the question.
#[derive(Debug)]
pub struct Fresh<I> {
    instances: Arc<I>,
    /// The number of the next who asks.
    tickets: AtomicU64,
    /// Whoever reads holds this.
    turn: tokio::sync::Mutex<()>,
    /// The last read, and below which number it began after the question.
    last: Mutex<Option<(u64, Outcome)>>,
}

impl<I: Instances> Fresh<I> {
    /// Reads from where `instances` live.
    pub fn new(instances: Arc<I>) -> Self {
        Self {
            instances,
            tickets: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// The membership as it was at some moment after this call.
    pub async fn fetch(&self) -> Outcome {
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst);
        let _turn = self.turn.lock().await;
        if let Some((covers, outcome)) = &*self.last()
            && ticket < *covers
        {
            return outcome.clone();
        }
        let covers = self.tickets.load(Ordering::SeqCst);
        let outcome = self.instances.fetch_membership().await.map(Arc::new);
        *self.last() = Some((covers, outcome.clone()));
        outcome
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<(u64, Outcome)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
