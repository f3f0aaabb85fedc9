//! Requests of which a process has got nothing, so that the next one can have them. Must not take one
//! for unsent of which a single byte may have been read.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper_util::client::legacy;
use tokio::sync::oneshot;

use crate::problem::{Body, Error};

/// A body that goes back to who kept the request, if nothing of it was read.
pub struct Lent {
    /// There until this is dropped.
    body: Option<Body>,
    /// There until something is read.
    back: Option<oneshot::Sender<Body>>,
}

/// What is kept of a request that is sent.
pub struct Kept {
    parts: Parts,
    body: oneshot::Receiver<Body>,
}

/// A request to send, and what is kept of it.
pub fn lend(request: Request<Body>) -> (Request<Lent>, Kept) {
    let (parts, body) = request.into_parts();
    let (sender, receiver) = oneshot::channel();
    let kept = Kept { parts: parts.clone(), body: receiver };
    (Request::from_parts(parts, Lent { body: Some(body), back: Some(sender) }), kept)
}

impl Kept {
    /// The request as it was, if `error` says that nothing of it was sent.
    pub fn back(mut self, error: &legacy::Error) -> Option<Request<Body>> {
        if !is_unsent(error) {
            return None;
        }
        let body = self.body.try_recv().ok()?;
        Some(Request::from_parts(self.parts, body))
    }
}

/// Whether nothing was sent because there was nobody to send it to, as when the process has just
/// gone: its port refuses, or a connection was found closed before it was written to.
fn is_unsent(error: &legacy::Error) -> bool {
    let connects = error.is_connect();
    let mut causes = std::iter::successors(error.source(), |cause| (**cause).source());
    causes.any(|cause| {
        let kind = cause.downcast_ref().map(io::Error::kind);
        let gone = [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset];
        cause.downcast_ref().is_some_and(hyper::Error::is_canceled)
            || (connects && kind.is_some_and(|kind| gone.contains(&kind)))
    })
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.back = None;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        Pin::new(body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(back), Some(body)) = (self.back.take(), self.body.take()) {
            // Nobody may want it.
            let _ = back.send(body);
        }
    }
}
