//! Gives dead letters to another Function.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use rouse_core::delivery::{Outcome, Target};
use rouse_core::event::{CloudEvent, to_binary};
use rouse_core::function::FunctionKey;
use rouse_peer::Call;
use tokio::sync::watch;

use crate::runner::Bury;

/// Gives dead letters to another Function: one is stored when it has answered 2xx.
pub struct ToFunction {
    /// Calls it.
    pub caller: Arc<dyn Call>,
    /// The Function.
    pub function: FunctionKey,
    /// What it allows, and with it how long a call may take.
    pub target: watch::Receiver<Option<Target>>,
}

impl Bury for ToFunction {
    fn bury(&self, letter: CloudEvent) -> BoxFuture<'static, bool> {
        match to_binary(&letter) {
            Ok(message) => {
                let limit = self.target.borrow().unwrap_or(Target::NONE).limit;
                let call = self.caller.call(&self.function, message, limit);
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
