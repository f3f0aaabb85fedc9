//! The phase in which a request goes to the pod whose slot it has. What was certainly not sent goes
//! to another pod; what may have been is never sent again.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{Request, Response};
use rouse_crds::v1alpha1::Protocol;
use tokio::time::Instant;

use super::Inner;
use super::admit::{Denied, admit};
use super::exchange::{Exchange, Turn, no_owner};
use crate::admission::{Fault, Gate, Permit};
use crate::body::{RequestBody, ResponseBody};
use crate::headers;
use crate::problem::Failure;
use crate::upstream::{ConnectError, Destination, Reply, SendError, SentOn, Unsent};

/// Times that pods may refuse one request before it is given up.
const MOST_REFUSALS: u32 = 3;

/// What became of sending.
enum Sent {
    Replied(Permit, Reply),
    Unsent { permit: Permit, unsent: Unsent },
}

impl Inner {
    /// Serves a request whose Function this activator owns.
    pub(super) async fn serve(
        &self,
        gate: &Arc<Gate>,
        mut request: Box<Request<RequestBody>>,
        exchange: &mut Exchange,
    ) -> Result<Turn, Failure> {
        let mut failed = None;
        let mut failure = None;
        let mut refusals = 0;
        loop {
            let admitted =
                admit(gate, &self.buffer, request.headers(), exchange, failed.take()).await;
            let permit = match admitted {
                Ok(permit) => permit,
                Err(Denied::Moved) => return Ok(Turn::Again(request, no_owner(exchange))),
                Err(Denied::Failed(denied)) => return Err(choose(denied, failure)),
            };
            let (permit, unsent) = match self.send(permit, request, exchange).await? {
                Sent::Replied(permit, reply) => {
                    let response = self.respond(reply, permit, exchange)?;
                    return Ok(Turn::Answered(response));
                }
                Sent::Unsent { permit, unsent } => (permit, unsent),
            };
            permit.note_unsent();
            let refused = matches!(unsent.error, ConnectError::Refused(_));
            let why = Failure::not_sent(&exchange.handle.key, &permit.pod().name, &unsent.error);
            refusals += u32::from(refused);
            let given_up = refused && (refusals > MOST_REFUSALS || !gate.may_retry());
            if given_up || Instant::now() >= exchange.deadline {
                return Err(why);
            }
            exchange.series.note_retry();
            failure = Some(why);
            failed = Some(permit);
            request = unsent.request;
        }
    }

    /// Sends a request whose Function another activator owns straight to a pod, where there is a
    /// slot for it. Gives it back where no pod took it: it goes to the owner.
    pub(super) async fn serve_straight(
        &self,
        request: Box<Request<RequestBody>>,
        exchange: &mut Exchange,
    ) -> Result<ControlFlow<Response<ResponseBody>, Box<Request<RequestBody>>>, Failure> {
        let Some(permit) = exchange.handle.shortcut().admit() else {
            return Ok(ControlFlow::Continue(request));
        };
        match self.send(permit, request, exchange).await? {
            Sent::Replied(permit, reply) => {
                self.metrics.note_straight();
                exchange.note_straight();
                self.respond(reply, permit, exchange).map(ControlFlow::Break)
            }
            Sent::Unsent { permit, unsent } => {
                permit.note_unsent();
                exchange.series.note_retry();
                Ok(ControlFlow::Continue(unsent.request))
            }
        }
    }

    async fn send(
        &self,
        permit: Permit,
        mut request: Box<Request<RequestBody>>,
        exchange: &Exchange,
    ) -> Result<Sent, Failure> {
        match &exchange.upgrade {
            // Only HTTP/1.1 changes protocols; to others it is a request like any.
            Some(upgrade) if permit.pod().protocol == Protocol::Http1 => {
                headers::restore_upgrade(request.headers_mut(), upgrade.protocol.clone());
            }
            None => {}
            Some(_) => {
                request.headers_mut().remove(CONNECTION);
                request.headers_mut().remove(UPGRADE);
            }
        }
        let limit = exchange.timeouts.first_byte;
        let reached = permit.is_trial().then(|| on_reaching(&permit, exchange.sent_on.clone()));
        let sent_on = reached.as_ref().or(exchange.sent_on.as_ref());
        let pod = permit.pod();
        let limited = permit.is_limited();
        let told = &exchange.told;
        let to = Destination { pod, limited, sent_on, permit: &permit, told };
        let (name, function) = (|| Arc::clone(&pod.name), || exchange.handle.key.clone());
        let note_fault = |fault| {
            if permit.note_fault(fault) {
                exchange.series.note_ejection();
            }
        };
        let answered = {
            let sending = pin!(self.upstream.send(&to, request));
            self.tick.timeout(permit.granted_at(), limit, sending).await
        };
        match answered {
            Ok(Ok(reply)) => Ok(Sent::Replied(permit, reply)),
            Ok(Err(SendError::Unsent(unsent))) => {
                // Whoever refuses is there.
                if !matches!(unsent.error, ConnectError::Refused(_)) {
                    note_fault(Fault::Unreached);
                }
                Ok(Sent::Unsent { permit, unsent: *unsent })
            }
            // Whoever passed it on looks again, if it is still there.
            Ok(Err(SendError::Withdrawn)) => Err(Failure::NotOwner),
            Ok(Err(SendError::Broken(error))) if error.is_of_request() => {
                Err(Failure::BadRequest("the request's body broke off"))
            }
            Ok(Err(SendError::Broken(error))) => {
                note_fault(Fault::Broken);
                Err(Failure::PodBroke {
                    function: function(),
                    pod: name(),
                    error: describe(&error),
                })
            }
            Err(_elapsed) => {
                let field = limiting_field(limit, exchange.timeouts.request);
                Err(Failure::AnswerTimeout { function: function(), pod: name(), limit, field })
            }
        }
    }
}

/// Tells the gate that a suspect pod could be reached after all, and whoever else wants to know.
fn on_reaching(permit: &Permit, sent_on: Option<SentOn>) -> SentOn {
    let reached = permit.reached();
    Arc::new(move || {
        reached();
        if let Some(sent_on) = &sent_on {
            sent_on();
        }
    })
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
