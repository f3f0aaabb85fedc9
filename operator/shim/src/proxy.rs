//! Passes requests to a process that listens on a port, both ways as they come, and holds them to
//! their time. Must not look into them, but for what a contract refuses.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

use crate::events::Events;
use crate::port::{FIRST_LOOK, LONGEST_LOOK, PortTongue, Target};
use crate::problem::{Body, Error, Problem};
use crate::process;
use crate::supervisor::{Tongue, World};
use crate::unsent::lend;

/// Passes requests on.
pub struct Proxy {
    world: Arc<World>,
    tongue: Arc<PortTongue>,
    events: Events,
}

impl Proxy {
    /// One that passes requests to the process of `tongue`, if they are as `events` wants them.
    pub const fn new(world: Arc<World>, tongue: Arc<PortTongue>, events: Events) -> Self {
        Self { world, tongue, events }
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let checked = self.events.check(request).await;
        let outcome = match checked {
            Ok(request) => self.exchange(request).await,
            Err(problem) => Err(problem),
        };
        outcome.unwrap_or_else(|problem| problem.response())
    }

    /// Passes on a request that is fit. One of which nothing was sent, because the process has gone or
    /// takes no connection, waits for the next process, or for the same to take one again.
    pub async fn exchange(&self, mut request: Request<Body>) -> Result<Response<Body>, Problem> {
        let deadline = Instant::now() + self.world.settings.times.request;
        let upgrade = request.headers().contains_key(UPGRADE);
        let mut client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
        let id = id_of(request.headers());
        let mut pause = FIRST_LOOK;
        loop {
            let target = self.tongue.target(&self.world, deadline).await?;
            let requests = self.tongue.requests();
            if requests.count() == 0 {
                // What was printed until now is of those before.
                target.handle.output.settle().await;
            }
            let own = requests.begin(Arc::clone(&id));
            address(&mut request, target.port)?;
            let (lent, kept) = lend(request);
            let watch = Watch::over(Arc::clone(&target), deadline, self.patience());
            let error = match timeout_at(deadline, target.client.request(lent)).await {
                Ok(Ok(response)) => {
                    watch.end();
                    return Ok(answered(response, client_side.take(), Rest { own, deadline }));
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(Problem::Late(self.patience().as_millis())),
            };
            watch.end();
            let Some(unsent) = kept.back(&error) else {
                let cause = self.tongue.why_gone(&target, causes(&error)).await;
                return Err(Problem::Gone(cause));
            };
            request = unsent;
            drop(own);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    fn patience(&self) -> Duration {
        self.world.settings.times.request
    }
}

/// Looks after a process that has a request, also when nobody waits for the answer any more: one
/// that has not begun it in time, and says nothing to a question that any server answers, hangs.
struct Watch(tokio::task::AbortHandle);

impl Watch {
    fn over(target: Arc<Target>, deadline: Instant, patience: Duration) -> Self {
        let watch = async move {
            sleep_until(deadline).await;
            if !target.answers().await {
                let why =
                    format!("it did not answer in {patience:?}, nor anything else, and was ended");
                target.handle.replace(why);
            }
        };
        Self(tokio::spawn(watch).abort_handle())
    }

    /// The answer has begun, or never will.
    fn end(self) {
        self.0.abort();
    }
}

/// What holds for the rest of an answer.
struct Rest {
    own: process::Request,
    deadline: Instant,
}

fn answered(
    mut response: Response<Incoming>,
    client_side: Option<OnUpgrade>,
    rest: Rest,
) -> Response<Body> {
    if let Some(client_side) =
        client_side.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS)
    {
        let process_side = hyper::upgrade::on(&mut response);
        let own = rest.own;
        tokio::spawn(async move {
            let (Ok(client), Ok(process)) = tokio::join!(client_side, process_side) else { return };
            let (mut client, mut process) = (TokioIo::new(client), TokioIo::new(process));
            // It ends when either side has gone, which is no failure.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut process).await;
            drop(own);
        });
        return response.map(|_| crate::problem::full(Bytes::new()));
    }
    let Rest { own, deadline } = rest;
    let late = Box::pin(sleep_until(deadline));
    response.map(|body| Timed { body, late, _own: own }.boxed_unsync())
}

/// A body that ends when its time is over, and holds what its request holds until then.
struct Timed {
    body: Incoming,
    late: Pin<Box<Sleep>>,
    _own: process::Request,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.late.as_mut().poll(context));
        Poll::Ready(Some(Err("the time for the answer is over".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The id by which the activator knows a request; none of it leaves one that says nothing.
pub fn id_of(headers: &HeaderMap) -> Arc<str> {
    let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    id.unwrap_or("-").into()
}

/// Sends a request to `port`, whatever host it names.
fn address<B>(request: &mut Request<B>, port: u16) -> Result<(), Problem> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri: Result<Uri, _> = format!("http://127.0.0.1:{port}{path}").parse();
    *request.uri_mut() = uri.map_err(|error| Problem::Unfit(error.to_string()))?;
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// An error with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
