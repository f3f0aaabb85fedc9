//! The phase in which a request goes to the pod whose slot it has. What was certainly not sent goes
//! to another pod; what may have been is never sent again.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::{CONNECTION, UPGRADE};
use rouse_crds::v1alpha1::Protocol;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Inner;
use super::admit::{Denied, admit};
use super::exchange::{Exchange, Pause, Turn, no_owner};
use super::respond::Granted;
use crate::admission::{Gate, Permit};
use crate::body::RequestBody;
use crate::headers;
use crate::problem::Failure;
use crate::upstream::{ConnectError, Destination, Reply, SendError};

/// What became of sending.
enum Sent {
    Replied(Permit, Reply),
    Unsent { permit: Permit, request: Request<RequestBody>, error: ConnectError },
}

impl Inner {
    /// Serves a request whose Function this activator owns.
    pub(super) async fn serve(
        &self,
        gate: &Arc<Gate>,
        mut request: Request<RequestBody>,
        exchange: &mut Exchange,
    ) -> Result<Turn, Failure> {
        let mut failed = None;
        let mut failure = None;
        let mut pause = Pause::default();
        loop {
            let avoided: Option<Arc<str>> =
                failed.as_ref().map(|permit: &Permit| Arc::clone(&permit.pod().uid));
            let permit = match admit(gate, exchange, failed.take()).await {
                Ok(permit) => permit,
                Err(Denied::Moved) => return Ok(Turn::Again(request, no_owner(exchange))),
                Err(Denied::Failed(denied)) => return Err(choose(denied, failure)),
            };
            if avoided.is_some_and(|uid| uid == permit.pod().uid) {
                let next = Instant::now() + pause.next();
                sleep_until(next.min(exchange.deadline)).await;
            }
            let at = Instant::now();
            match self.send(permit, request, exchange).await? {
                Sent::Replied(permit, reply) => {
                    let response = self.respond(reply, Granted::new(permit, at), exchange)?;
                    return Ok(Turn::Answered(response));
                }
                Sent::Unsent { permit, request: again, error } => {
                    let why = Failure::NotConnected {
                        function: exchange.handle.key.clone(),
                        pod: Arc::clone(&permit.pod().name),
                        error: error.to_string(),
                    };
                    if Instant::now() >= exchange.deadline {
                        return Err(why);
                    }
                    failure = Some(why);
                    failed = Some(permit);
                    request = again;
                }
            }
        }
    }

    async fn send(
        &self,
        permit: Permit,
        mut request: Request<RequestBody>,
        exchange: &Exchange,
    ) -> Result<Sent, Failure> {
        match &exchange.upgrade {
            // Only HTTP/1.1 changes protocols; to others it is a request like any.
            Some(upgrade) if permit.pod().protocol == Protocol::Http1 => {
                headers::restore_upgrade(request.headers_mut(), upgrade.protocol.clone());
            }
            _ => {
                request.headers_mut().remove(CONNECTION);
                request.headers_mut().remove(UPGRADE);
            }
        }
        let limit = exchange.timeouts.first_byte;
        let to = Destination {
            pod: permit.pod(),
            limited: permit.is_limited(),
            sent_on: exchange.sent_on.as_ref(),
            permit: &permit,
        };
        let sending = self.upstream.send(&to, request);
        let pod = || Arc::clone(&permit.pod().name);
        let function = exchange.handle.key.clone();
        match timeout_at(Instant::now() + limit, sending).await {
            Ok(Ok(reply)) => Ok(Sent::Replied(permit, reply)),
            Ok(Err(SendError::Unsent(unsent))) => {
                Ok(Sent::Unsent { permit, request: unsent.request, error: unsent.error })
            }
            // Whoever passed it on looks again, if it is still there.
            Ok(Err(SendError::Withdrawn)) => Err(Failure::NotOwner),
            Ok(Err(SendError::Broken(error))) if error.is_user() => {
                Err(Failure::BadRequest("the request's body broke off"))
            }
            Ok(Err(SendError::Broken(error))) => {
                Err(Failure::PodBroke { function, pod: pod(), error: describe(&error) })
            }
            Err(_elapsed) => {
                let field = limiting_field(limit, exchange.timeouts.request);
                Err(Failure::AnswerTimeout { function, pod: pod(), limit, field })
            }
        }
    }
}

/// A pod that accepts no connection tells more than the wait for another.
fn choose(denied: Failure, earlier: Option<Failure>) -> Failure {
    match denied {
        Failure::ActivationTimeout { .. } => earlier.unwrap_or(denied),
        _ => denied,
    }
}

fn limiting_field(first_byte: Duration, request: Duration) -> &'static str {
    if first_byte < request { "spec.timeouts.firstByte" } else { "spec.timeouts.request" }
}

/// An error with what caused it.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
