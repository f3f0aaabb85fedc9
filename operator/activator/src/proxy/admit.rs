//! The phase in which a request gets a slot of a pod, at once or after a wait.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::exchange::Exchange;
use crate::admission::{Admission, Gate, Permit, Refusal};
use crate::buffer::Buffer;
use crate::problem::Failure;

/// Why a request has no slot.
pub(super) enum Denied {
    /// Another activator owns the Function now.
    Moved,
    /// The request fails.
    Failed(Failure),
}

/// Asks `gate` for a slot until the deadline. `failed` is the slot of a pod that did not take the
/// request: it stays taken while others are looked at, so that the least loaded of them is found.
pub(super) async fn admit(
    gate: &Arc<Gate>,
    buffer: &Arc<Buffer>,
    headers: &HeaderMap,
    exchange: &mut Exchange,
    failed: Option<Permit>,
) -> Result<Permit, Denied> {
    let admission = match failed {
        None => gate.admit(exchange.held_bytes),
        Some(failed) => gate.admit_again(failed.place(), exchange.held_bytes),
    };
    match admission {
        Admission::Granted(permit) => Ok(permit),
        Admission::Refused(refusal) => Err(denied(refusal, exchange)),
        Admission::Queued(waiting) => {
            let _place = exchange
                .begin_waiting(buffer, || Some(gate.retry_after()))
                .map_err(Denied::Failed)?;
            match Box::pin(timeout_at(exchange.deadline, waiting)).await {
                Ok(Ok(permit)) => {
                    if let Some(since) = permit.waited_since() {
                        exchange.caller = exchange.told.caller(headers);
                        let trace = exchange.caller.map(|caller| caller.trace);
                        exchange.series.note_wait(Instant::now() - since, trace);
                    }
                    Ok(permit)
                }
                Ok(Err(refusal)) => Err(denied(refusal, exchange)),
                Err(_elapsed) => Err(Denied::Failed(exchange.activation_timeout(gate.delay()))),
            }
        }
    }
}

fn denied(refusal: Refusal, exchange: &Exchange) -> Denied {
    let function = exchange.handle.key.clone();
    Denied::Failed(match refusal {
        Refusal::Moved => return Denied::Moved,
        Refusal::Full { full, retry_after } => Failure::QueueFull { function, full, retry_after },
        Refusal::StartFailed(failure) => Failure::StartFailed { function, failure },
        Refusal::Gone => Failure::Deleted(function),
    })
}
