//! Connections to pods, and sending a request over one. A connection belongs to one pod for good:
//! it is kept with the pod, never by address, and goes with it.

mod dial;
mod kept;
mod line;
mod plain;
mod pool;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rouse_crds::v1alpha1::Protocol;
use tokio::time::{Instant, timeout};

pub use dial::{Dialer, Stream};
use kept::{Kept, is_refused};
pub(crate) use line::Turn;
use line::{Ending, Line};
pub(crate) use plain::PlainBody;
pub(crate) use pool::Lease;
pub use pool::{Connections, Shard};
use pool::{Http1, Pool};

use crate::admission::Permit;

use crate::body::RequestBody;
use crate::headers;
use crate::pod::Pod;
use crate::request_metrics::{Counted, RequestMetrics, Target};
use crate::told::Told;

/// How long a connection may take to be made. Within a cluster it takes less than a millisecond;
/// a lost packet costs a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection may take from the last byte of an answer until it can serve another
/// request. Longer than that means that the request's body is still on its way.
const ENDING: Duration = Duration::from_millis(10);

/// How often an HTTP/2 connection in use asks whether the pod is still there.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// How long the answer to that may take.
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of an answer that are read ahead on a connection of HTTP/1.1, and most that its head may
/// have: a caller that reads slowly costs no more.
const READ_AHEAD: usize = 64 * 1024;

/// Bytes of an answer that may be on their way on one HTTP/2 stream.
const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes of all answers that may be on their way on one HTTP/2 connection.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody accepts.
    #[error("connecting: {0}")]
    Io(#[from] io::Error),
    /// Nobody answers.
    #[error("connecting: no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// The pod is going.
    #[error("connecting: the pod is stopping")]
    Stopping,
    /// The other side accepts and then does not speak the protocol, or is just closing.
    #[error("opening an HTTP connection: {0}")]
    Handshake(hyper::Error),
    /// The other side says that it did not look at the request: it has too many, or is closing.
    #[error("it refused the request's stream: {0}")]
    Refused(hyper::Error),
}

/// A request that was certainly not sent, and why.
#[derive(Debug)]
pub struct Unsent {
    /// The request as it was given.
    pub request: Box<Request<RequestBody>>,
    /// Why it was not sent.
    pub error: ConnectError,
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum SendError {
    /// It was certainly not sent: it may go elsewhere.
    Unsent(Box<Unsent>),
    /// It may have been sent: it must not be sent again.
    Broken(BrokenOff),
    /// It was not sent: who passed it on does not stand by it any more.
    Withdrawn,
}

/// What broke off.
#[derive(Debug, thiserror::Error)]
pub enum BrokenOff {
    /// An exchange that was left to `hyper`.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// A plain one.
    #[error("waiting for the answer: {0}")]
    Io(#[from] io::Error),
}

impl BrokenOff {
    /// Whether it is the request that broke off, not the connection.
    pub fn is_of_request(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_user())
    }
}

/// The head of a pod's answer.
#[derive(Debug)]
pub struct Reply {
    /// The answer.
    pub(crate) response: Response<PodBody>,
    /// The connection, where it can serve another request after this one.
    pub(crate) lease: Option<Lease>,
    /// When the request was given to the connection.
    pub sent: Instant,
}

/// The body of a pod's answer.
#[derive(Debug)]
pub(crate) enum PodBody {
    /// Of any answer.
    Http(Incoming),
    /// Of a plain one. It gives its connection back itself.
    Plain(Box<PlainBody>),
}

/// Says to who passed a request on that it is about to be sent.
pub type SentOn = Arc<dyn Fn() + Send + Sync>;

/// Where a request goes.
pub struct Destination<'a> {
    /// The pod.
    pub pod: &'a Arc<Pod>,
    /// Whether the pod serves so many requests at once and no more. Such a pod gets no more
    /// connections either, whichever threads its requests are on: it may serve one connection after
    /// another.
    pub limited: bool,
    /// Told just before the request is given to a connection.
    pub sent_on: Option<&'a SentOn>,
    /// The slot that it has there.
    pub permit: &'a Permit,
    /// What the pod is told of the request that is not in it.
    pub(crate) told: &'a Told,
}

impl Destination<'_> {
    /// Makes sure that the request can't be passed on elsewhere any more.
    async fn commit(&self, request: &mut Request<RequestBody>) -> Result<(), SendError> {
        if let Some(sent_on) = self.sent_on {
            sent_on();
        }
        request.body_mut().confirmed().await.map_err(|_withdrawn| {
            self.permit.note_unsent();
            SendError::Withdrawn
        })
    }
}

/// Sends requests to pods.
#[derive(Clone, Debug)]
pub struct Upstream {
    dialer: Dialer,
    metrics: Arc<RequestMetrics>,
    shard: Shard,
}

/// What is done seldom, such as connecting, is done in boxes: every request would have to keep room
/// for it.
impl Upstream {
    /// Sends by connections that `dialer` makes, and keeps them in the part `shard` of each pod's.
    pub const fn new(dialer: Dialer, metrics: Arc<RequestMetrics>, shard: Shard) -> Self {
        Self { dialer, metrics, shard }
    }

    /// Sends `request` in the pod's protocol and waits for the head of the answer.
    pub async fn send(
        &self,
        to: &Destination<'_>,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Reply, SendError> {
        match to.pod.protocol {
            Protocol::Http1 => {
                headers::speak_http1(&mut *request);
                self.send_http1(to, request).await
            }
            Protocol::H2c => {
                to.told.tell(request.headers_mut());
                headers::speak_http2(&mut *request);
                Box::pin(self.send_http2(to, request)).await
            }
        }
    }

    async fn send_http1(
        &self,
        to: &Destination<'_>,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Reply, SendError> {
        // The slots of a limited pod hang on its connections; see `line`.
        if !to.limited
            && to.pod.connections.is_plain()
            && let Some(head) = plain::write(&request, to.told)
        {
            return self.send_plain(to, request, &head).await;
        }
        to.told.tell(request.headers_mut());
        let shard = if to.limited { self.shard.first() } else { self.shard };
        let pool = to.pod.connections.of(shard);
        loop {
            let (mut connection, pooled) = match take_idle(pool, to.limited).await {
                Some(connection) => (connection, true),
                None => match Box::pin(self.connect_http1(to.pod, to.limited)).await {
                    Ok(connection) => (connection, false),
                    Err(error) => return Err(unsent(request, error)),
                },
            };
            to.commit(&mut request).await?;
            if let Some(line) = &connection.line {
                to.permit.use_line(line.begin());
            }
            let sent = Instant::now();
            match connection.sender.try_send_request(*request).await {
                Ok(response) => {
                    if response.body().size_hint().exact().is_none() {
                        to.pod.connections.note_odd();
                    }
                    let response = response.map(PodBody::Http);
                    let lease = Some(Lease::new(Arc::clone(to.pod), shard, connection));
                    return Ok(Reply { response, lease, sent });
                }
                Err(mut failed) => match connection.unsent(failed.take_message()) {
                    // The pod closed a connection that stood idle, which is its right.
                    Some(again) if pooled => request = Box::new(again),
                    Some(again) => {
                        let error = ConnectError::Handshake(failed.into_error());
                        return Err(unsent(Box::new(again), error));
                    }
                    None => return Err(SendError::Broken(failed.into_error().into())),
                },
            }
        }
    }

    async fn send_http2(
        &self,
        to: &Destination<'_>,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Reply, SendError> {
        let pool = to.pod.connections.of(self.shard);
        loop {
            let (mut sender, shared) = match pool.shared() {
                Some(sender) => (sender, true),
                None => match Box::pin(self.connect_http2(to.pod, pool)).await {
                    Ok(sender) => (sender, false),
                    Err(error) => return Err(unsent(request, error)),
                },
            };
            to.commit(&mut request).await?;
            let sent = Instant::now();
            let (kept, sending) = Kept::of(*request);
            match sender.try_send_request(sending).await {
                Ok(response) => {
                    let response = response.map(PodBody::Http);
                    return Ok(Reply { response, lease: None, sent });
                }
                Err(mut failed) => match failed.take_message() {
                    Some(again) => {
                        pool.forget_shared();
                        if !shared {
                            let error = ConnectError::Handshake(failed.into_error());
                            return Err(unsent(Box::new(again), error));
                        }
                        request = Box::new(again);
                    }
                    None => return Err(refused_or_broken(kept, failed.into_error())),
                },
            }
        }
    }

    async fn connect_http1(&self, pod: &Pod, limited: bool) -> Result<Http1, ConnectError> {
        let mut stream = self.dial(pod).await?;
        let line = limited.then(Arc::<Line>::default);
        if let Some(line) = &line {
            stream = Box::new(Ending::new(stream, line));
        }
        let counted = self.metrics.begin_upstream(Target::pod);
        handshake(stream, line, counted).await.map_err(ConnectError::Handshake)
    }

    /// Makes the one connection that all requests to the pod share, once at a time.
    async fn connect_http2(
        &self,
        pod: &Pod,
        pool: &Pool,
    ) -> Result<http2::SendRequest<RequestBody>, ConnectError> {
        let _turn = pool.connecting.lock().await;
        if let Some(sender) = pool.shared() {
            return Ok(sender);
        }
        let stream = self.dial(pod).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ConnectError::Handshake)?;
        let counted = self.metrics.begin_upstream(Target::pod);
        tokio::spawn(async move {
            let _counted = counted;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to a pod");
            }
        });
        pool.share(sender.clone());
        Ok(sender)
    }

    async fn dial(&self, pod: &Pod) -> Result<Stream, ConnectError> {
        let dialled = timeout(CONNECT_TIMEOUT, self.dialer.dial(pod.address)).await;
        let stream = match dialled {
            // Who answers now may be another that has its address.
            Ok(Ok(_)) if pod.connections.is_closed() => return Err(ConnectError::Stopping),
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Err(ConnectError::Io(error)),
            Err(_elapsed) => Err(ConnectError::Timeout),
        };
        self.metrics.note_connect_failure(Target::pod);
        stream
    }
}

/// Gives a connection to `hyper`.
async fn handshake(
    stream: Stream,
    line: Option<Arc<Line>>,
    counted: Counted,
) -> hyper::Result<Http1> {
    let (sender, connection) =
        http1::Builder::new().max_buf_size(READ_AHEAD).handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        let _counted = counted;
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a pod");
        }
    });
    Ok(Http1 { sender, line })
}

/// A connection that can serve a request now. A pod that is limited has one more often than it
/// seems: the connection of the answer before, which another thread may not have seen the end of.
async fn take_idle(pool: &Pool, limited: bool) -> Option<Http1> {
    let idle = pool.take_idle();
    if idle.is_some() || !limited {
        return idle;
    }
    let mut ending = pool.take_ending()?;
    let ready = Box::pin(timeout(ENDING, ending.sender.ready())).await;
    matches!(ready, Ok(Ok(()))).then_some(ending)
}

/// A stream that the other side never looked at may go elsewhere, if its request is still whole.
fn refused_or_broken(kept: Kept, error: hyper::Error) -> SendError {
    match kept.take_back().filter(|_| is_refused(&error)) {
        Some(request) => unsent(Box::new(request), ConnectError::Refused(error)),
        None => SendError::Broken(error.into()),
    }
}

fn unsent(request: Box<Request<RequestBody>>, error: ConnectError) -> SendError {
    SendError::Unsent(Box::new(Unsent { request, error }))
}
