//! The body of a client's request. One that nobody reads to its end is still taken off the
//! connection for a moment: a connection that is closed with bytes unread takes the answer with it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::BodyError;

/// Bytes that are taken off a connection after its request was answered.
const LINGER_BYTES: usize = 1 << 20;

/// How long they may take.
const LINGER: Duration = Duration::from_secs(2);

/// A body as a client sends it.
#[derive(Debug)]
pub struct ClientBody {
    /// None once it was read to its end.
    incoming: Option<Incoming>,
    lingers: bool,
}

impl ClientBody {
    /// `lingers` where the rest of the body is on its way whether or not somebody reads it: not on
    /// HTTP/2, and not where the client waits to be told to go on.
    pub(crate) fn new(incoming: Incoming, lingers: bool) -> Self {
        Self { incoming: Some(incoming).filter(|body| !body.is_end_stream()), lingers }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        let over = !matches!(frame, Some(Ok(_))) || incoming.is_end_stream();
        if over {
            self.incoming = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let Some(rest) = self.incoming.take().filter(|_| self.lingers) else { return };
        if let Ok(runtime) = Handle::try_current() {
            // Bounded, and over at once if the client has gone; nothing depends on its end.
            runtime.spawn(timeout(LINGER, discard(rest)));
        }
    }
}

async fn discard(mut rest: Incoming) {
    let mut taken = 0;
    while taken < LINGER_BYTES
        && let Some(Ok(frame)) = rest.frame().await
    {
        taken += frame.data_ref().map_or(0, Bytes::len);
    }
}
