//! Plain exchanges with a client: requests of HTTP/1.1 without a body that come in one piece, and
//! answers of a known length. The connection's own task reads and writes them, by a buffer that all
//! connections of its thread share, so that one that waits has none. What is not plain beyond doubt
//! is `hyper`'s: it gets the connection with all that was read, and with the answer where there is
//! one already, and keeps it.

mod answer;
mod date;
mod head;

use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use self::answer::{Answer, Broken};
use super::{Connection, Orders, leave};
use crate::body::{RequestBody, ResponseBody};
use crate::reading;
use crate::seats::{Order, Seated};
use crate::server::drain::Phase;

/// How plain exchanges end.
pub(super) enum End {
    /// The connection is to be closed.
    Gone,
    /// `hyper` has to go on: what was read is put back. The answer to it is known where the request
    /// was plain, and its answer is not.
    Odd(Option<Box<Response<ResponseBody>>>),
}

/// What comes next on a connection.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Heard {
    Plain(Request<RequestBody>, Bytes),
    Odd(Bytes),
    Gone,
}

/// Serves a connection for as long as all that comes is plain.
pub(super) async fn serve<I>(
    connection: &Connection,
    io: &mut Seated<I>,
    orders: &mut Orders,
) -> End
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let last = AtomicBool::new(false);
    let mut serving = pin!(exchange_all(connection, io, &last));
    loop {
        let phase = *orders.phase.borrow_and_update();
        if phase == Phase::Ended {
            return End::Gone;
        }
        if phase >= Phase::Closing {
            last.store(true, Ordering::Relaxed);
        }
        match unless_told(orders, serving.as_mut()).await {
            ControlFlow::Break(end) => return end,
            ControlFlow::Continue(None) => {}
            // What was begun is finished.
            ControlFlow::Continue(Some(Order::Finish)) => last.store(true, Ordering::Relaxed),
            ControlFlow::Continue(Some(Order::Go)) => return End::Gone,
        }
    }
}

/// The end of `serving`, unless an order or another phase comes before. Asking for these takes locks,
/// so it is done only when one of them has called, and not with each piece that is read or written.
async fn unless_told<T>(
    Orders { phase, leave }: &mut Orders,
    mut serving: Pin<&mut impl Future<Output = T>>,
) -> ControlFlow<T, Option<Order>> {
    let told = pin!(async {
        tokio::select! {
            _ = phase.changed() => None,
            order = leave.order() => Some(order),
        }
    });
    // It polls what has called and nothing else, and misses no call.
    let mut told = FuturesUnordered::from_iter([told]);
    poll_fn(|cx| {
        if let Poll::Ready(end) = serving.as_mut().poll(cx) {
            return Poll::Ready(ControlFlow::Break(end));
        }
        told.poll_next_unpin(cx).map(|order| ControlFlow::Continue(order.flatten()))
    })
    .await
}

/// One exchange after the other, until one is the `last`.
async fn exchange_all<I>(connection: &Connection, io: &mut Seated<I>, last: &AtomicBool) -> End
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    loop {
        let heard = poll_fn(|cx| {
            // There is nothing to wait for: what has come by now is not begun.
            if last.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(Heard::Gone));
            }
            poll_head(io, cx)
        });
        let (request, read) = match heard.await {
            Ok(Heard::Plain(request, read)) => (request, read),
            Ok(Heard::Odd(read)) => {
                io.put_back(read);
                return End::Odd(None);
            }
            Ok(Heard::Gone) => {
                // A client that takes nothing is not told.
                drop(io.shutdown().now_or_never());
                return End::Gone;
            }
            Err(error) => return gone(&error),
        };
        let mut ahead = Ahead::default();
        let Some(mut response) = respond(connection, io, &mut ahead, request).await else {
            return End::Gone;
        };
        if last.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let Some(written) = date::with_date(|date| head::write(&response, date)) else {
            io.put_back([read, ahead.0].concat().into());
            return End::Odd(Some(Box::new(response)));
        };
        drop(read);
        let mut answer = Answer::new(written, response.into_body());
        let sent = poll_fn(|cx| match answer.poll_write(io, cx) {
            Poll::Pending => ahead.poll_gone(io, cx).map(|error| Err(Broken::Write(error))),
            sent @ Poll::Ready(_) => sent,
        });
        if let Err(error) = sent.await {
            return gone(&error);
        }
        if !ahead.0.is_empty() {
            // The beginning of the next request came with the one before.
            connection.seat.note_read(ahead.0.len());
            io.put_back(ahead.0);
        }
    }
}

fn gone(error: &dyn std::error::Error) -> End {
    tracing::debug!(%error, "connection of a client");
    End::Gone
}

/// The answer to a request; none where its client leaves before.
async fn respond<I>(
    connection: &Connection,
    io: &mut Seated<I>,
    ahead: &mut Ahead,
    request: Request<RequestBody>,
) -> Option<Response<ResponseBody>>
where
    I: AsyncRead + Unpin,
{
    let Connection { shared, listener, facts, seat, .. } = connection;
    let busy = shared.requests.token();
    let active = seat.begin();
    let mut response = {
        // In a box: a connection would keep room for the future for all its life.
        let mut handled = Box::pin(shared.proxy.handle(request, *listener, facts));
        let answered = poll_fn(|cx| {
            if ahead.poll_gone(io, cx).is_ready() {
                return Poll::Ready(None);
            }
            handled.as_mut().poll(cx).map(Some)
        });
        answered.await?
    };
    leave(&mut response, Version::HTTP_11, *shared.phase.borrow());
    Some(active.until_end_of(response).map(|body| body.holding(busy)))
}

/// Waits for the head of a request.
fn poll_head<I>(io: &mut Seated<I>, cx: &mut Context<'_>) -> Poll<io::Result<Heard>>
where
    I: AsyncRead + Unpin,
{
    let read = ready!(reading::poll_some(io, reading::MOST, cx))?;
    Poll::Ready(Ok(match head::parse(&read) {
        Some(request) => Heard::Plain(request, read),
        None if read.is_empty() => Heard::Gone,
        None => Heard::Odd(read),
    }))
}

/// What a client says before it has its answer, which belongs to its next request. As long as it
/// says nothing it is heard whether it leaves.
#[derive(Default)]
struct Ahead(Bytes);

impl Ahead {
    /// Ends when the client has left.
    fn poll_gone<I>(&mut self, io: &mut Seated<I>, cx: &mut Context<'_>) -> Poll<io::Error>
    where
        I: AsyncRead + Unpin,
    {
        if !self.0.is_empty() {
            return Poll::Pending;
        }
        match ready!(reading::poll_some(io, reading::MOST, cx)) {
            Ok(read) if read.is_empty() => Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.0 = read;
                Poll::Pending
            }
            Err(error) => Poll::Ready(error),
        }
    }
}
