//! Connections of clients: HTTP/1.1 and HTTP/2 with prior knowledge on one port, and changes of
//! protocol. One of HTTP/1.1 that rests between two requests has neither parser nor buffers.

mod first_words;
mod plain;

use std::cell::Cell;
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rouse_core::routing::Listener;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use self::first_words::{FirstWords, Spoken};
use super::Shared;
use super::drain::Phase;
use super::linger::Lent;
use super::presence::Presence;
use crate::body::{ClientBody, RequestBody, ResponseBody};
use crate::headers::{ClientFacts, Origin};
use crate::problem::EndsConnection;
use crate::seats::{Leave, MOST_STREAMS, Order, Seat, Seated};

/// What makes connections out of streams.
pub(super) struct Builders {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

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

impl Builders {
    /// Settings of all connections.
    pub fn new() -> Self {
        let mut http1 = http1::Builder::new();
        // Their seats tell connections when their time is over: without a timer for each request.
        http1.header_read_timeout(None).max_buf_size(BUFFER);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(MOST_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADER_LIST);
        Self { http1, http2 }
    }
}

/// What the requests of one connection share.
struct Connection {
    shared: Arc<Shared>,
    listener: Listener,
    facts: Arc<ClientFacts>,
    presence: Presence,
    seat: Arc<Seat>,
}

/// What tells a connection what is to become of it.
struct Orders {
    phase: watch::Receiver<Phase>,
    leave: Leave,
}

/// Serves one connection until it ends.
pub(super) async fn serve<I>(
    shared: &Arc<Shared>,
    mut io: Seated<I>,
    presence: Presence,
    caller: (Listener, Origin),
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connection, mut orders) = begin(shared, &io, presence, caller);
    // In boxes: a connection that rests keeps room for no protocol.
    match Box::pin(plain::serve(&connection, &mut io, &mut orders)).await {
        plain::End::Gone => {}
        plain::End::Odd(answered) => {
            Box::pin(serve_any(&connection, io, &mut orders, answered)).await;
        }
    }
}

fn begin<I>(
    shared: &Arc<Shared>,
    io: &Seated<I>,
    presence: Presence,
    (listener, origin): (Listener, Origin),
) -> (Arc<Connection>, Orders) {
    let connection = Connection {
        shared: Arc::clone(shared),
        listener,
        facts: Arc::new(ClientFacts::new(origin)),
        presence,
        seat: Arc::clone(io.seat()),
    };
    let leave = Leave::new(&connection.seat);
    (Arc::new(connection), Orders { phase: shared.phase.subscribe(), leave })
}

/// Serves whatever the client speaks. The first request has been `answered` already where there is
/// an answer.
async fn serve_any<I>(
    connection: &Arc<Connection>,
    mut io: Seated<I>,
    orders: &mut Orders,
    mut answered: Option<Box<Response<ResponseBody>>>,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    loop {
        let spoken = match &answered {
            Some(_) => Some(Spoken::Http1),
            None => hear(&mut io, orders).await,
        };
        match spoken {
            None => return,
            Some(Spoken::Http1) => {
                let serving = serve_http1(connection, io, orders, answered.take());
                match Box::pin(serving).await {
                    Some(rested) => io = rested,
                    None => return,
                }
            }
            Some(Spoken::Http2) => {
                connection.seat.speaks_http2();
                return Box::pin(serve_http2(connection, io, orders)).await;
            }
        }
    }
}

/// Waits for the first bytes of what the client says next. None where it has left, or has to.
async fn hear<I>(io: &mut Seated<I>, orders: &mut Orders) -> Option<Spoken>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut words = FirstWords::default();
    loop {
        if *orders.phase.borrow_and_update() >= Phase::Closing {
            // There is nothing to wait for: a client that takes nothing is not told.
            drop(io.shutdown().now_or_never());
            return None;
        }
        tokio::select! {
            heard = words.hear(io) => match heard {
                Ok(spoken) => {
                    io.put_back(words.take());
                    return spoken;
                }
                Err(error) => {
                    tracing::debug!(%error, "connection of a client");
                    return None;
                }
            },
            _ = orders.phase.changed() => {}
            _ = orders.leave.order() => return None,
        }
    }
}

/// Serves requests of HTTP/1.1. Gives the connection back when it is to rest, between two of them.
/// The first has been `answered` already where there is an answer.
async fn serve_http1<I>(
    connection: &Arc<Connection>,
    io: Seated<I>,
    orders: &mut Orders,
    answered: Option<Box<Response<ResponseBody>>>,
) -> Option<Seated<I>>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let own = Arc::clone(connection);
    let mut told = answered.is_some() && *orders.phase.borrow() >= Phase::Closing;
    let answered = Cell::new(answered);
    let service = service_fn(move |request| match answered.take() {
        Some(response) => ready(Ok(*response)).boxed(),
        None => answer(Arc::clone(&own), request),
    });
    let http1 = &connection.shared.clients.http1;
    let mut serving = http1.serve_connection(TokioIo::new(io), service).with_upgrades();
    let seat = &connection.seat;
    loop {
        let phase = *orders.phase.borrow_and_update();
        if phase == Phase::Ended {
            return None;
        }
        // That no more requests are taken is said with an answer, and otherwise only by closing.
        if phase >= Phase::Closing && !told {
            told = true;
            Pin::new(&mut serving).graceful_shutdown();
        }
        let served = poll_fn(|cx| match Pin::new(&mut serving).poll(cx) {
            Poll::Pending if !told && seat.is_to_rest() => Poll::Ready(None),
            polled => polled.map(Some),
        });
        tokio::select! {
            served = served => match served {
                Some(served) => {
                    note_end(served);
                    return None;
                }
                None => break,
            },
            _ = orders.phase.changed() => {}
            order = orders.leave.order() => match order {
                // What was begun is finished.
                Order::Finish => {
                    told = true;
                    Pin::new(&mut serving).graceful_shutdown();
                }
                Order::Go => return None,
            }
        }
    }
    let parts = serving.into_parts()?;
    let mut io = parts.io.into_inner();
    seat.let_rest(false);
    if !parts.read_buf.is_empty() {
        // The beginning of the next request came with the one before.
        seat.note_read(parts.read_buf.len());
        io.put_back(parts.read_buf);
    }
    Some(io)
}

async fn serve_http2<I>(connection: &Arc<Connection>, io: Seated<I>, orders: &mut Orders)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let own = Arc::clone(connection);
    let service = service_fn(move |request| answer(Arc::clone(&own), request));
    let http2 = &connection.shared.clients.http2;
    let (io, back) = Lent::new(io);
    let mut serving = Box::pin(http2.serve_connection(TokioIo::new(io), service));
    let mut told = false;
    let served = loop {
        let phase = *orders.phase.borrow_and_update();
        if phase == Phase::Ended {
            return;
        }
        // It can be said that no more requests will be taken without losing any.
        if phase >= Phase::Leaving && !told {
            told = true;
            serving.as_mut().graceful_shutdown();
        }
        tokio::select! {
            served = serving.as_mut() => break served,
            _ = orders.phase.changed() => {}
            order = orders.leave.order() => match order {
                // What was begun is finished.
                Order::Finish => serving.as_mut().graceful_shutdown(),
                Order::Go => return,
            }
        }
    };
    drop(serving);
    if served.is_ok() {
        // A client says that it has read, or is still there, until it has heard the last word.
        back.linger().await;
    }
    note_end(served);
}

fn note_end(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "connection of a client");
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
        let busy = connection.shared.requests.token();
        let active = connection.seat.begin();
        let http1 = version < Version::HTTP_2;
        let waits_for_word = request.headers().contains_key(EXPECT);
        let Connection { shared, listener, facts, presence, seat } = &*connection;
        seat.let_rest(goes_on(&request));
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
        if response.headers().contains_key(CONNECTION) {
            seat.let_rest(false);
        }
        Ok(active.until_end_of(response).map(|body| body.holding(busy)))
    }
    .boxed()
}

/// Whether a connection of HTTP/1.1 is as it was before `request` once that has its answer, for all
/// that the client says: no body follows the head, and it closes nothing.
fn goes_on(request: &Request<Incoming>) -> bool {
    let keeps = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
    request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && request.headers().get_all(CONNECTION).iter().all(keeps)
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

#[cfg(test)]
pub(super) mod tests;
