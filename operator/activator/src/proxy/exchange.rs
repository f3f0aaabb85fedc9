//! One request on its way: who owns its Function, here or elsewhere, followed until it has its
//! answer. Ownership may move while it waits; nothing is lost by that, and nothing sent twice.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use rouse_core::function::Timeouts;
use rouse_core::membership::Member;
use tokio::time::{Instant, sleep, timeout_at};

use super::Inner;
use super::receive::{Received, Upgrade};
use crate::access_log::{AccessRecord, Via};
use crate::admission::StartFailure;
use crate::body::{RequestBody, ResponseBody};
use crate::buffer::{Buffer, Held, ShareTaken};
use crate::exemplar::Caller;
use crate::forward::{Outcome, Passage};
use crate::function::{FunctionHandle, Owner};
use crate::headers;
use crate::problem::Failure;
use crate::request_metrics::{Counted, Entry, FunctionSeries, InFlight, RequestMetrics};
use crate::told::Told;
use crate::upstream::SentOn;

/// First pause before an owner that could not be reached is tried again; each is twice as long as
/// the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What is known of a request apart from itself.
pub(super) struct Exchange {
    pub handle: Arc<FunctionHandle>,
    pub series: Arc<FunctionSeries>,
    pub timeouts: Timeouts,
    pub entry: Entry,
    pub arrived: Instant,
    /// Until when it may wait for a slot.
    pub deadline: Instant,
    /// Told once the request may no longer be passed on elsewhere.
    pub sent_on: Option<SentOn>,
    /// Its place in the counts, which goes with the answer.
    pub in_flight: Option<InFlight>,
    /// The change of protocol that the client asks for.
    pub upgrade: Option<Upgrade>,
    /// Memory that it takes while it waits.
    pub held_bytes: u64,
    /// Whether the client's connection takes short answers whole, read or not.
    pub buffers_short: bool,
    /// What is logged of it.
    pub record: Option<Arc<AccessRecord>>,
    /// Where it came from, if its trace is recorded; looked for when it has waited.
    pub caller: Option<Caller>,
    /// What is told of it that is not in it.
    pub told: Told,
    /// That of its answer; none while its client may still leave before.
    pub status: Option<StatusCode>,
}

/// A request is counted when it has its answer's head, or when its client has left before.
impl Drop for Exchange {
    fn drop(&mut self) {
        self.series.note_end(self.entry, self.status);
    }
}

impl Exchange {
    pub fn new(
        handle: Arc<FunctionHandle>,
        metrics: &Arc<RequestMetrics>,
        entry: Entry,
        arrived: Instant,
    ) -> Self {
        let timeouts = handle.timeouts();
        let series = Arc::clone(handle.series(metrics));
        Self {
            timeouts,
            entry,
            arrived,
            deadline: arrived + timeouts.activation,
            sent_on: None,
            in_flight: Some(series.begin()),
            upgrade: None,
            held_bytes: 0,
            buffers_short: false,
            record: None,
            caller: None,
            told: Told::default(),
            status: None,
            series,
            handle,
        }
    }

    /// Takes a place among those that wait, with as much memory as the request holds meanwhile.
    /// `retry_after` is for one that finds no room.
    pub fn begin_waiting(
        &self,
        buffer: &Arc<Buffer>,
        retry_after: impl FnOnce() -> Option<Duration>,
    ) -> Result<InQueue, Failure> {
        let share = self.handle.share(buffer, &self.series);
        match share.hold(self.held_bytes) {
            Ok(held) => Ok(InQueue { _counted: self.series.begin_waiting(), _held: held }),
            Err(ShareTaken) => Err(Failure::ActivatorFull {
                function: self.handle.key.clone(),
                retry_after: retry_after().unwrap_or_else(|| buffer.retry_after()),
            }),
        }
    }

    /// What is said when a pod was waited for in vain, for the sake of `delay` where that is known.
    pub fn activation_timeout(&self, delay: Option<Arc<StartFailure>>) -> Failure {
        Failure::ActivationTimeout {
            function: self.handle.key.clone(),
            limit: self.timeouts.activation,
            delay,
        }
    }
}

impl Exchange {
    /// Notes for the log which pod answers since `at`; for that of the activator which passed the
    /// request on it is told with the answer.
    pub fn note_pod(&self, pod: &Arc<str>, at: Instant, answer: &mut HeaderMap) {
        let wait = at.saturating_duration_since(self.arrived);
        if let Some(record) = &self.record {
            record.note_pod(pod, wait);
        } else if self.entry == Entry::peer && self.handle.rules().access_log {
            let told = format!("{pod} {}", wait.as_millis());
            answer.insert(headers::SERVED_BY, headers::header_value(&told));
        }
    }

    /// Notes that the request went straight to a pod of a Function that another activator owns.
    pub fn note_straight(&self) {
        if let Some(record) = &self.record {
            record.note_via(Via::Straight);
        }
    }

    /// Notes for the log what the owner tells of the pod that answers.
    pub fn note_told_pod(&self, answer: &HeaderMap) {
        let Some(record) = &self.record else { return };
        record.note_via(Via::Owner);
        let told = answer.get(headers::SERVED_BY).and_then(|told| told.to_str().ok());
        if let Some((pod, wait)) = told.and_then(|told| told.split_once(' ')) {
            let wait = wait.parse().map_or(Duration::ZERO, Duration::from_millis);
            record.note_pod(&pod.into(), wait);
        }
    }
}

/// A place among those that wait.
#[derive(Debug)]
pub(crate) struct InQueue {
    _counted: Counted,
    _held: Held,
}

/// What became of one attempt.
pub(super) enum Turn {
    /// The request has its answer.
    Answered(Response<ResponseBody>),
    /// It was not sent, and why: ask again where the membership says.
    Again(Box<Request<RequestBody>>, Failure),
}

/// Pauses that grow.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    /// How long to wait this time.
    pub fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

impl Inner {
    /// Follows the owner of the Function until the request has its answer.
    pub(super) async fn drive(
        &self,
        exchange: &mut Exchange,
        received: Received,
    ) -> Result<Response<ResponseBody>, Failure> {
        let mut request = received.request;
        exchange.held_bytes = received.held_bytes;
        exchange.upgrade = received.upgrade;
        exchange.buffers_short = received.http1;
        // Followed only by a request that has to wait for another.
        let mut followed = None;
        let mut pause = Pause::default();
        loop {
            let owner = exchange.handle.owner();
            let turn = match &owner {
                Owner::Here(gate) => self.serve(gate, request, exchange).await?,
                // Whoever passed it on looks again; passing it on further might go in circles.
                _ if exchange.entry == Entry::peer => return Err(Failure::NotOwner),
                Owner::Peer(member) => {
                    match self.serve_straight(request, exchange).await? {
                        ControlFlow::Break(response) => return Ok(response),
                        ControlFlow::Continue(request) => {
                            exchange.handle.shortcut().note_miss(&exchange.handle.uid);
                            // In boxes, as is the waiting: every request would have to keep room.
                            Box::pin(self.forward(member, request, exchange)).await?
                        }
                    }
                }
                Owner::Nobody => Turn::Again(request, no_owner(exchange)),
            };
            let (unsent, why) = match turn {
                Turn::Answered(response) => return Ok(response),
                Turn::Again(_, _) if exchange.entry == Entry::peer => {
                    return Err(Failure::NotOwner);
                }
                Turn::Again(unsent, why) => (unsent, why),
            };
            request = unsent;
            let _waiting = exchange.begin_waiting(&self.buffer, || None)?;
            let next = followed.get_or_insert_with(|| exchange.handle.watch_owner());
            let change = async {
                tokio::select! {
                    // The sender lives in the handle that this request holds.
                    _ = next.wait_for(|next| !next.is(&owner)) => {}
                    () = pause_for(&why, &mut pause) => {}
                }
            };
            Box::pin(timeout_at(exchange.deadline, change)).await.map_err(|_elapsed| why)?;
        }
    }

    /// Passes the request to the activator that owns the Function.
    async fn forward(
        &self,
        member: &Member,
        mut request: Box<Request<RequestBody>>,
        exchange: &mut Exchange,
    ) -> Result<Turn, Failure> {
        exchange.told.tell(request.headers_mut());
        let function = || exchange.handle.key.clone();
        let passage = Passage {
            member,
            handle: &exchange.handle,
            arrived: exchange.arrived,
            deadline: exchange.deadline,
            answer_limit: exchange.timeouts.first_byte,
            upgrade: exchange.upgrade.as_ref().map(|upgrade| &upgrade.protocol),
        };
        let waiting = exchange.begin_waiting(&self.buffer, || None)?;
        let outcome = self.forwarder.forward(&passage, *request, waiting).await;
        let peer = || member.name.clone();
        match outcome {
            Outcome::Answered(answer) => {
                self.respond_forwarded(*answer, exchange).map(Turn::Answered)
            }
            Outcome::Unsent { request, error } => {
                let failure =
                    Failure::PeerUnreachable { function: function(), peer: peer(), error };
                Ok(Turn::Again(request, failure))
            }
            Outcome::Late => Err(exchange.activation_timeout(None)),
            Outcome::Broken { error } => {
                Err(Failure::PeerBroke { function: function(), peer: peer(), error })
            }
        }
    }
}

/// What is said when an owner was waited for in vain.
pub(super) fn no_owner(exchange: &Exchange) -> Failure {
    Failure::NoOwner(exchange.handle.key.clone())
}

/// Ends when it is time to try again even though the membership stands as it did. Where there is
/// nobody to try that is never.
async fn pause_for(why: &Failure, pause: &mut Pause) {
    match why {
        Failure::PeerUnreachable { .. } => sleep(pause.next()).await,
        _ => std::future::pending().await,
    }
}
