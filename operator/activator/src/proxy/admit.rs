//! The phase in which a request gets a slot of a pod, at once or after a wait.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::exchange::Exchange;
use crate::admission::{Admission, Gate, Permit, Refusal};
use crate::problem::Failure;

/// Why a request has no slot.
pub(super) enum Denied {
    /// Another activator owns the Function now.
    Moved,
    /// The request fails.
    Failed(Failure),
}

/// Asks `gate` for a slot until the deadline. `failed` is the slot of a pod that accepts no
/// connection: it stays taken while others are looked at, so that the least loaded of them is
/// found, and is given back before waiting.
pub(super) async fn admit(
    gate: &Arc<Gate>,
    exchange: &Exchange,
    failed: Option<Permit>,
) -> Result<Permit, Denied> {
    let admission = gate.admit(exchange.head_bytes);
    drop(failed);
    match admission {
        Admission::Granted(permit) => Ok(permit),
        Admission::Refused(refusal) => Err(denied(refusal, exchange)),
        Admission::Queued(waiting) => {
            let _counted = exchange.series.begin_waiting();
            match timeout_at(exchange.deadline, waiting).await {
                Ok(Ok(permit)) => {
                    if let Some(since) = permit.waited_since() {
                        exchange.series.note_wait(Instant::now() - since);
                    }
                    Ok(permit)
                }
                Ok(Err(refusal)) => Err(denied(refusal, exchange)),
                Err(_elapsed) => Err(Denied::Failed(exchange.activation_timeout())),
            }
        }
    }
}

fn denied(refusal: Refusal, exchange: &Exchange) -> Denied {
    let function = exchange.handle.key.clone();
    Denied::Failed(match refusal {
        Refusal::Moved => return Denied::Moved,
        Refusal::TooManyWaiting(_) | Refusal::TooManyBytes(_) => {
            Failure::QueueFull { function, refusal }
        }
        Refusal::StartFailed(failure) => Failure::StartFailed { function, failure },
        Refusal::Gone => Failure::Deleted(function),
    })
}
