//! Connections of clients: HTTP/1.1 and HTTP/2 with prior knowledge on one port, and changes of
//! protocol.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rouse_core::routing::Listener;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::Shared;
use super::drain::Phase;
use super::presence::Presence;
use crate::body::{ClientBody, RequestBody, ResponseBody};
use crate::headers::{ClientFacts, Origin};
use crate::problem::EndsConnection;
use crate::seats::{Leave, MOST_STREAMS, Order, Seat, Seated};

/// What makes connections out of streams.
pub(super) type Builder = auto::Builder<TokioExecutor>;

/// Bytes that are read ahead on a connection of HTTP/1.1, and most that a head may have.
const BUFFER: usize = 64 * 1024;

/// Bytes of one request's body that may be on their way.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes of all requests' bodies on a connection that may be on their way.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Bytes of one answer that wait for a client of HTTP/2 to take them.
const SEND_BUFFER: usize = 64 * 1024;

/// Bytes that the headers of a request may have on HTTP/2.
const HEADER_LIST: u32 = 64 * 1024;

/// How often a connection of HTTP/2 asks whether the client is still there, and how long the answer
/// may take.
const PING: Duration = Duration::from_secs(20);

/// Settings of all connections.
pub(super) fn builder() -> Builder {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Their seats tell connections when their time is over: without a timer for each request.
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST);
    builder
}

/// What the requests of one connection share.
struct Connection {
    shared: Arc<Shared>,
    listener: Listener,
    facts: ClientFacts,
    presence: Presence,
    seat: Arc<Seat>,
    /// Whether a request has come.
    used: AtomicBool,
    /// Whether the client speaks HTTP/2.
    http2: AtomicBool,
    /// A first request has come.
    first: Notify,
}

/// Serves one connection until it ends.
pub(super) async fn serve<I>(
    shared: &Arc<Shared>,
    io: Seated<I>,
    presence: Presence,
    (listener, origin): (Listener, Origin),
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = Arc::new(Connection {
        shared: Arc::clone(shared),
        listener,
        facts: ClientFacts::new(origin),
        presence,
        seat: Arc::clone(io.seat()),
        used: AtomicBool::new(false),
        http2: AtomicBool::new(false),
        first: Notify::new(),
    });
    let own = Arc::clone(&connection);
    let service = service_fn(move |request| answer(Arc::clone(&own), request));
    let serving = shared.clients.serve_connection_with_upgrades(TokioIo::new(io), service);
    let mut serving = pin!(serving);
    let mut phase = shared.phase.subscribe();
    let mut told = false;
    let mut leaving = Leave::new(&connection.seat);
    loop {
        let now = *phase.borrow_and_update();
        let http2 = connection.http2.load(Ordering::Relaxed);
        if !told && (now >= Phase::Closing || (now >= Phase::Leaving && http2)) {
            // HTTP/2 can say that no more requests will be taken without losing any; HTTP/1.1 says
            // it with an answer, and otherwise only by closing.
            told = true;
            serving.as_mut().graceful_shutdown();
        }
        if now == Phase::Ended {
            return;
        }
        let unused = !connection.used.load(Ordering::Relaxed);
        tokio::select! {
            served = serving.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(%error, "connection of a client");
                }
                return;
            }
            _ = phase.changed() => {}
            () = connection.first.notified(), if unused => {}
            order = leaving.order() => match order {
                // What was begun is finished.
                Order::Finish => serving.as_mut().graceful_shutdown(),
                Order::Go => return,
            }
        }
    }
}

/// The client left before its request had an answer.
#[derive(Debug, thiserror::Error)]
#[error("the client left")]
struct Left;

/// Boxed: a connection would keep room for the future for all its life.
fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> BoxFuture<'static, Result<Response<ResponseBody>, Left>> {
    async move {
        let version = request.version();
        if !connection.used.swap(true, Ordering::Relaxed) {
            connection.http2.store(version == Version::HTTP_2, Ordering::Relaxed);
            connection.first.notify_one();
        }
        let busy = connection.shared.requests.token();
        let active = connection.seat.begin();
        let http1 = version < Version::HTTP_2;
        let waits_for_word = request.headers().contains_key(EXPECT);
        let Connection { shared, listener, facts, presence, seat, .. } = &*connection;
        let read_ahead = read_ahead(seat, http1);
        let request = request.map(|body| {
            let body = ClientBody::new(body, http1 && !waits_for_word);
            RequestBody::Client(body.read_ahead_by(read_ahead))
        });
        let mut unanswered = Unanswered(Some(seat).filter(|_| !http1));
        // A body that is not read hides from the server that its client leaves.
        let hides = http1 && !request.body().is_end_stream();
        let handled = shared.proxy.handle(request, *listener, facts);
        let mut response = if hides {
            tokio::select! {
                biased;
                response = handled => response,
                () = presence.lost(shared.proxy.tick()) => return Err(Left),
            }
        } else {
            handled.await
        };
        unanswered.end();
        leave(&mut response, version, *shared.phase.borrow());
        Ok(active.until_end_of(response).map(|body| body.holding(busy)))
    }
    .boxed()
}

/// Bytes that a connection holds, or may come to hold, of the body of a request that has just come.
fn read_ahead(seat: &Seat, http1: bool) -> u32 {
    if http1 {
        // With the head, which is read in one piece with what follows it.
        let most = u32::try_from(BUFFER).unwrap_or(u32::MAX);
        return match seat.read_since_idle() {
            // It was read with the request before it.
            0 => most,
            read => read.min(most),
        };
    }
    // It comes as far as the windows let it, of which all streams have one together.
    STREAM_WINDOW.min(CONNECTION_WINDOW / seat.requests().max(1))
}

/// A request on HTTP/2, where a client can give up one after the other on the same connection.
struct Unanswered<'s>(Option<&'s Arc<Seat>>);

impl Unanswered<'_> {
    fn end(&mut self) {
        if let Some(seat) = self.0.take() {
            seat.note_answered();
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.0 {
            seat.note_given_up();
        }
    }
}

/// Tells a client of HTTP/1.1 to use another connection for its next request, where this one is to
/// end: since the server leaves, or nobody can tell what follows the request.
pub(super) fn leave<B>(response: &mut Response<B>, version: Version, phase: Phase) {
    let ends = response.extensions_mut().remove::<EndsConnection>().is_some();
    let closes = response.status() != StatusCode::SWITCHING_PROTOCOLS && version < Version::HTTP_2;
    if closes && (ends || phase >= Phase::Leaving) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}
