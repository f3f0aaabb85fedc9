//! Events that senders bring: passed on to the pod that runs the sources of their namespace. Nothing
//! is woken. An event that comes while that pod starts or is replaced is held for a moment, as many
//! senders try once only (GitHub's webhooks do); then its sender hears 503, and may send again.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::uri::{Scheme, Uri};
use http::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tower::Service;

use super::receive::Received;
use super::respond::with_version;
use crate::body::{AnswerBody, Hold, RequestBody, ResponseBody, Source};
use crate::headers;
use crate::problem::Failure;
use crate::upstream::PodBody;

/// How long an event waits for a pod. GitHub gives a delivery up after ten seconds, of which starting
/// to listen, the source and the Function need some.
const HELD: Duration = Duration::from_secs(5);
/// How long an event waits for a pod that runs to listen.
const REFUSED: Duration = Duration::from_secs(2);
/// How many events wait at once, on one thread.
const HELD_MOST: usize = 256;
/// How often it is looked whether what is waited for is there: the table tells nobody that it changed.
const LOOK: Duration = Duration::from_millis(20);
/// How long one try to connect to the pod may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the body of an event may stand still.
const PAUSE: Duration = Duration::from_mins(1);
/// How long the pod may take to begin its answer: a little longer than a sender may wait there.
const ANSWER: Duration = Duration::from_secs(330);

/// Passes events on.
#[derive(Debug)]
pub(super) struct Doors {
    client: Client<Patient, RequestBody>,
    held: Semaphore,
}

impl Doors {
    /// No connection is made yet.
    pub fn new() -> Self {
        let client = rouse_peer::plain_client_by(Patient(rouse_peer::plain_connector(CONNECT)));
        Self { client, held: Semaphore::new(HELD_MOST) }
    }

    /// The answer of the pod that `find` knows of.
    pub async fn pass(
        &self,
        received: Received,
        find: impl Fn(&Request<RequestBody>) -> Option<SocketAddr>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let mut request = *received.request;
        let pod = self.wait(|| find(&request)).await.ok_or_else(|| away("no such pod runs"))?;
        // The pod bounds the body by itself.
        let _ = request.body_mut().watch(None, Some(PAUSE));
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(pod.to_string());
        let uri = uri.path_and_query(headers::path_and_query(request.uri())).build();
        *request.uri_mut() = uri.map_err(|error| away(&error.to_string()))?;
        let answer = timeout(ANSWER, self.client.request(request)).await;
        let answer = answer.map_err(|_elapsed| away("it did not answer in time"))?;
        let mut answer = answer.map_err(|error| away(&rouse_peer::chain(&error)))?;
        headers::sanitise_response(answer.headers_mut());
        let body = |body| {
            let pod = Source::Pod(PodBody::Http(body));
            AnswerBody::new(pod, Hold::default(), None).into()
        };
        Ok(with_version(answer.map(body)))
    }

    /// The pod, as soon as there is one. None if that lasts, or if too many wait.
    async fn wait(&self, find: impl Fn() -> Option<SocketAddr>) -> Option<SocketAddr> {
        if let Some(pod) = find() {
            return Some(pod);
        }
        let _held = self.held.try_acquire().ok()?;
        let until = Instant::now() + HELD;
        while Instant::now() < until {
            sleep(LOOK).await;
            if let Some(pod) = find() {
                return Some(pod);
            }
        }
        None
    }
}

fn away(error: &str) -> Failure {
    Failure::SourceAway { error: error.to_owned() }
}

/// Connects, and tries again while nobody listens: a container that is up needs a moment until it does.
#[derive(Clone, Debug)]
struct Patient(HttpConnector);

impl Service<Uri> for Patient {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, pod: Uri) -> Self::Future {
        let mut connector = self.0.clone();
        Box::pin(async move {
            let until = Instant::now() + REFUSED;
            loop {
                match connector.call(pod.clone()).await {
                    Err(error) if is_refused(&error) && Instant::now() < until => sleep(LOOK).await,
                    tried => return tried,
                }
            }
        })
    }
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        None => error.source().is_some_and(is_refused),
    }
}
