//! How a connection hears that it has to go, and how much time it has for it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::Seat;

/// How long a connection that was told to finish may take to say so and to hear of it, before it is
/// looked at again.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a connection that has to go is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Take no new requests.
    Finish,
    /// End.
    Go,
}

/// Tells a connection when it has to go.
#[derive(Debug)]
pub(crate) struct Leave {
    seat: Arc<Seat>,
    /// Runs once it was told to finish.
    last_words: Option<Pin<Box<Sleep>>>,
}

impl Leave {
    pub(crate) fn new(seat: &Arc<Seat>) -> Self {
        Self { seat: Arc::clone(seat), last_words: None }
    }

    /// Waits for what is to be done next.
    pub(crate) async fn order(&mut self) -> Order {
        let Some(last_words) = &mut self.last_words else {
            while self.seat.farewell().is_none() {
                self.seat.told.notified().await;
            }
            if self.seat.goes_at_once() {
                return Order::Go;
            }
            self.last_words = Some(Box::pin(sleep(LAST_WORDS)));
            return Order::Finish;
        };
        loop {
            tokio::select! {
                () = last_words.as_mut() => {
                    last_words.as_mut().reset(Instant::now() + LAST_WORDS);
                    if !self.seat.is_busy() {
                        return Order::Go;
                    }
                }
                () = self.seat.told.notified() => {}
            }
            if self.seat.is_cut() {
                return Order::Go;
            }
        }
    }
}
