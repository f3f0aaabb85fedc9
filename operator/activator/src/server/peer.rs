//! Connections of other activators and of the controller, over TLS. Callers prove themselves with
//! each request; this activator proves its key to whoever asks.
//!
//! HTTP/2 is spoken by the `h2` library itself, so that `100 Continue` can be said at the moment a
//! request is sent on (see `forward`).

use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rouse_core::handover::RELEASE_PATH;
use rouse_core::peer::IDENTITY_PATH;
use rouse_core::report::REPORTS_PATH;
use rouse_core::spread::SPREAD_PATH;
use rouse_peer::{Identity, Protocol, ServerKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::client::leave;
use super::drain::Phase;
use super::linger::Lent;
use super::tls;
use crate::body::{Asked, PeerBody, RequestBody, ResponseBody, pump};
use crate::headers;
use crate::pings::silent;
use crate::problem::{self, Failure};
use crate::release::ReleaseTo;
use crate::request_metrics::Entry;
use crate::seats::{Active, Leave, Occupied, Order, Seat, Seated};
use crate::upstream::SentOn;

/// How long a connection of HTTP/2 may take to begin.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers that a request may have: those of a client, and what activators add.
const MOST_HEADERS: usize = 128;

/// Requests that one other activator may pass on at once: those that wait for it among them.
const STREAMS: u32 = 100_000;

/// Requests of another activator that its clients may give up at a time.
const MOST_RESET_STREAMS: usize = 10_000;

/// Bytes of the question for a Function.
const MOST_QUESTION: usize = 16 * 1024;

/// Bytes that the headers of a request may have: those of a client, and what activators add.
const HEADER_LIST: u32 = 128 * 1024;

/// Bytes that are read ahead on a connection of HTTP/1.1, and most that a head may have.
const BUFFER: usize = 128 * 1024;

/// Bytes of one request's body that may be on their way.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes of all requests' bodies on a connection that may be on their way.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Who called on the port for peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Another activator.
    Activator,
    /// A controller.
    Controller,
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerDenied {
    /// It is none of Rouse's own.
    Unknown,
    /// It can't be told now.
    Unavailable,
}

/// Tells by its token who a caller is.
pub type CheckPeer = dyn Fn(String) -> BoxFuture<'static, Result<Peer, PeerDenied>> + Send + Sync;

/// Answers with a stream of reports.
pub type Reports = dyn Fn() -> Response<ResponseBody> + Send + Sync;

/// What the port for peers needs of the rest of the activator.
#[derive(Clone)]
pub struct PeerService {
    /// Tells by its token who a caller is. It should answer at once for one that it knows.
    pub check: Arc<CheckPeer>,
    /// Answers `GET /v1/reports`.
    pub reports: Arc<Reports>,
    /// The last lines of each stream of reports, where the server leaves in order.
    pub last_words: Arc<dyn Fn() -> Bytes + Send + Sync>,
    /// Answers `POST /v1/release`.
    pub release: Arc<ReleaseTo>,
    /// The key of this activator.
    pub key: ServerKey,
    /// What proves that the key is its own.
    pub identity: Identity,
}

impl fmt::Debug for PeerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerService")
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve<I>(shared: &Arc<Shared>, io: I, seat: Occupied)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (io, back) = Lent::new(io);
    let Some(io) = tls::greet(&shared.peers.key.acceptor(), io, &seat).await else { return };
    let protocol = Protocol::of(io.get_ref().1);
    let io = Seated::new(io, seat);
    let seat = Arc::clone(io.seat());
    let served = match protocol {
        Protocol::Http1 => serve_http1(shared, io, &seat).await,
        Protocol::Http2 => {
            seat.speaks_http2();
            serve_http2(shared, io, &seat).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error, "connection of a peer");
    }
    // Answers that it has not read yet would be lost with what it still says.
    back.linger().await;
}

async fn serve_http1<I>(shared: &Arc<Shared>, io: I, seat: &Arc<Seat>) -> Result<(), String>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request: Request<hyper::body::Incoming>| async {
        let version = request.version();
        let active = seat.begin();
        let request = request.map(|body| RequestBody::Asked(Asked::new(body)));
        let mut response = answer(shared, request, None).await;
        leave(&mut response, version, *shared.phase.borrow());
        Ok::<_, Infallible>(active.until_end_of(response))
    });
    let serving = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let mut leaving = Leave::new(seat);
    let mut phase = shared.phase.subscribe();
    loop {
        match *phase.borrow_and_update() {
            Phase::Ended => return Ok(()),
            Phase::Closing => serving.as_mut().graceful_shutdown(),
            _ => {}
        }
        tokio::select! {
            served = serving.as_mut() => return served.map_err(|error| error.to_string()),
            order = leaving.order() => match order {
                Order::Finish => serving.as_mut().graceful_shutdown(),
                Order::Go => return Ok(()),
            },
            _ = phase.changed() => {}
        }
    }
}

async fn serve_http2<I>(shared: &Arc<Shared>, io: I, seat: &Arc<Seat>) -> Result<(), String>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_reset_streams(MOST_RESET_STREAMS)
        .max_pending_accept_reset_streams(MOST_RESET_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake::<_, Bytes>(io);
    let connection = timeout(HEAD_TIMEOUT, handshake).await.map_err(|error| error.to_string())?;
    let mut connection = connection.map_err(|error| error.to_string())?;
    let mut phase = shared.phase.subscribe();
    let mut silence = pin!(silent(connection.ping_pong()));
    let mut streams = JoinSet::new();
    let (mut used, mut told) = (false, false);
    let mut leaving = Leave::new(seat);
    loop {
        let now = *phase.borrow_and_update();
        // A new connection serves the request that it was made for.
        if !told && (now >= Phase::Closing || (now >= Phase::Leaving && used)) {
            told = true;
            connection.graceful_shutdown();
        }
        if now == Phase::Ended {
            return Ok(());
        }
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    used = true;
                    let active = seat.begin();
                    streams.spawn(serve_stream(Arc::clone(shared), request, respond, active));
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(()),
            },
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            // What it is waited for holds slots that others could have.
            () = &mut silence => return Err("it does not answer any more".into()),
            order = leaving.order() => match order {
                Order::Finish => connection.graceful_shutdown(),
                Order::Go => return Ok(()),
            },
            _ = phase.changed() => {}
        }
    }
}

async fn serve_stream(
    shared: Arc<Shared>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    _active: Active,
) {
    let respond = Arc::new(Mutex::new(respond));
    let teller = Arc::clone(&respond);
    let sent_on: SentOn = Arc::new(move || {
        let mut interim = Response::new(());
        *interim.status_mut() = StatusCode::CONTINUE;
        // A stream that is gone needs not be told.
        drop(lock(&teller).send_informational(interim));
    });
    let request = request.map(|body| RequestBody::Peer(PeerBody::new(body)));
    let given_up = std::future::poll_fn(|cx| lock(&respond).poll_reset(cx));
    let response = tokio::select! {
        response = answer(&shared, request, Some(sent_on)) => response,
        _ = given_up => return,
    };
    let (parts, body) = response.into_parts();
    let mut head = Response::from_parts(parts, ());
    *head.version_mut() = Version::HTTP_2;
    let sent = lock(&respond).send_response(head, body.is_end_stream());
    let pumped = match sent {
        Ok(stream) if !body.is_end_stream() => pump(body, stream).await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = pumped {
        tracing::debug!(%error, "answering an activator");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers a request of whoever proves to be a peer.
async fn answer(
    shared: &Arc<Shared>,
    request: Request<RequestBody>,
    sent_on: Option<SentOn>,
) -> Response<ResponseBody> {
    let forwarded = request.headers().contains_key(headers::FUNCTION_UID);
    let asks_for = |path| *request.method() == Method::GET && request.uri().path() == path;
    if !forwarded && asks_for(IDENTITY_PATH) {
        return identify(shared);
    }
    let peer = match token(request.headers()) {
        Some(token) => (shared.peers.check)(token).await,
        None => Err(PeerDenied::Unknown),
    };
    let failure = match peer {
        Ok(Peer::Activator) if forwarded => {
            let busy = shared.requests.token();
            let response = shared.proxy.handle_forwarded(request, sent_on).await;
            return response.map(|body| body.holding(busy));
        }
        Ok(Peer::Activator) if is_post(&request, RELEASE_PATH) => {
            let busy = shared.requests.token();
            return release(shared, request).await.map(|body| body.holding(busy));
        }
        Ok(Peer::Activator) if is_post(&request, SPREAD_PATH) => {
            let response = shared.proxy.handle_follower(request.into_body()).await;
            return response.map(|body| until_closing(shared, body));
        }
        Ok(_) if asks_for(REPORTS_PATH) => {
            return (shared.peers.reports)().map(|body| until_closing(shared, body));
        }
        Ok(_) | Err(PeerDenied::Unknown) => Failure::NotAPeer,
        Err(PeerDenied::Unavailable) => Failure::NotOwner,
    };
    shared.proxy.metrics().note_problem(failure.name(), Entry::peer);
    problem::respond(&failure)
}

fn is_post<B>(request: &Request<B>, path: &str) -> bool {
    *request.method() == Method::POST && request.uri().path() == path
}

async fn release(shared: &Arc<Shared>, request: Request<RequestBody>) -> Response<ResponseBody> {
    let body = Limited::new(request.into_body(), MOST_QUESTION).collect().await;
    let asked = body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
    match asked {
        Some(asked) => crate::release::respond((shared.peers.release)(asked).await),
        None => problem::respond(&Failure::BadRequest("the release does not parse")),
    }
}

/// Shows what proves the key. Whoever asks does not know yet whom he talks to, and says nothing of
/// himself.
fn identify(shared: &Shared) -> Response<ResponseBody> {
    let Some(token) = shared.peers.identity.token() else {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return response;
    };
    Response::new(ResponseBody::text(token))
}

/// Streams have no end of their own: nobody waits for them when the server leaves.
fn until_closing(shared: &Shared, body: ResponseBody) -> ResponseBody {
    let mut phase = shared.phase.subscribe();
    let closing = async move {
        // The sender lives as long as the connection; without it there is nobody to report to.
        drop(phase.wait_for(|phase| *phase >= Phase::Closing).await);
    };
    let last_words = Arc::clone(&shared.peers.last_words);
    let last = futures::stream::once(async move { Ok(last_words()) });
    let lines = body.into_data_stream().take_until(closing.boxed()).chain(last);
    let frames = lines.map_ok(Frame::data);
    ResponseBody::stream(StreamBody::new(frames).boxed_unsync())
}

/// The token by which a caller proves itself: activators pass the client's own authorization on.
fn token(headers: &HeaderMap) -> Option<String> {
    let own = headers.get(headers::PEER_TOKEN).and_then(|value| value.to_str().ok());
    let bearer = headers.get(AUTHORIZATION).map(HeaderValue::to_str);
    let bearer = bearer.and_then(Result::ok).and_then(|value| value.strip_prefix("Bearer "));
    own.or(bearer).map(str::to_owned)
}
