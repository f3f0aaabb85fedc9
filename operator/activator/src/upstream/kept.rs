//! A request on HTTP/2 that can be had back when its stream is refused. What refuses a stream says
//! that it did not look at it (RFC 9113, 8.7): so it may go elsewhere as if it had not been sent.

use std::error::Error;

use h2::Reason;
use http::{Request, request};
use http_body::Body;

use crate::body::{Keeper, RequestBody, keep};

/// A request as it was, while a copy is on its way.
pub(super) struct Kept {
    head: request::Parts,
    /// None where it has no body.
    body: Option<Keeper>,
}

impl Kept {
    /// Keeps `request`; the second is what to send.
    pub fn of(request: Request<RequestBody>) -> (Self, Request<RequestBody>) {
        let (head, body) = request.into_parts();
        let copy = head.clone();
        if body.is_end_stream() {
            return (Self { head: copy, body: None }, Request::from_parts(head, body));
        }
        let (body, keeper) = keep(body);
        (Self { head: copy, body: Some(keeper) }, Request::from_parts(head, body))
    }

    /// The request, if too much of its body was not read yet.
    pub fn take_back(self) -> Option<Request<RequestBody>> {
        let body = match self.body {
            Some(keeper) => keeper.take_back()?,
            None => RequestBody::Empty,
        };
        Some(Request::from_parts(self.head, body))
    }
}

/// Whether the other side says that it did not look at the stream: it refused it, or it closes the
/// connection and takes no stream as new as this one.
pub(super) fn is_refused(error: &hyper::Error) -> bool {
    let stream = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    stream.is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}
