//! Gives dead letters to another Function.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rouse_core::delivery::Outcome;
use rouse_core::event::{CloudEvent, to_binary};
use rouse_core::function::FunctionKey;
use rouse_peer::Call;

use crate::runner::Bury;

/// Gives dead letters to another Function: one is stored when it has answered 2xx.
pub struct ToFunction {
    /// Calls it.
    pub caller: Arc<dyn Call>,
    /// The Function.
    pub function: FunctionKey,
    /// How long a call may take.
    pub limit: Duration,
}

impl Bury for ToFunction {
    fn bury(&self, letter: CloudEvent) -> BoxFuture<'static, bool> {
        match to_binary(&letter) {
            Ok(message) => {
                let call = self.caller.call(&self.function, message, self.limit);
                call.map(|outcome| outcome == Outcome::Done).boxed()
            }
            Err(error) => {
                let (id, error) = (letter.id, rouse_peer::chain(&error));
                tracing::warn!(id, error, "a dead letter is no valid event");
                std::future::ready(false).boxed()
            }
        }
    }
}
