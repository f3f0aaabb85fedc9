//! The plain exchange: a request without a body, whose answer has a known length, on a connection
//! that nobody else looks at. The request's own task writes it and reads the answer, so that no
//! other has to be woken. What is not plain beyond doubt is `hyper`'s: [`Replay`] hands it a
//! connection on which the request was sent already.

mod body;
mod head;
mod replay;
mod send;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

pub(crate) use self::body::PlainBody;
pub(super) use self::head::write;
pub(super) use self::replay::Replay;

use self::head::Parsed;
use super::Stream;
use crate::reading;
use crate::request_metrics::Counted;

/// Bytes that are read at a time of what begins with a head.
const ROOM: usize = 4 * 1024;

/// Bytes of an answer in which its head must end; `hyper` takes longer ones.
const MOST_HEAD: usize = 16 * 1024;

/// A connection to a pod. Dropped it is closed.
pub(crate) struct Plain {
    stream: Stream,
    counted: Counted,
}

/// Why a request has no plain answer. Its connection serves no other request as it is.
pub(super) enum NoAnswer {
    /// It has one that is not plain, of which this was read.
    Odd(Bytes),
    /// The connection took no byte of the request.
    Unsent(io::Error),
    /// It may have reached the pod.
    Broken(io::Error),
}

/// The body of an answer, as far as it is known with the head.
#[derive(Debug)]
pub(super) struct Rest {
    /// What came with the head; never more than there is.
    pub first: Bytes,
    /// Bytes that are still to come after it.
    pub left: u64,
    /// Whether the connection can serve another request afterwards.
    pub reusable: bool,
}

impl Plain {
    pub fn new(stream: Stream, counted: Counted) -> Self {
        Self { stream, counted }
    }

    /// Whether the pod keeps the connection open and says nothing unasked.
    pub async fn is_alive(&mut self) -> bool {
        poll_fn(|cx| {
            let mut byte = [0];
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte));
            Poll::Ready(read.is_pending())
        })
        .await
    }

    /// The connection for `hyper`, on which a request was sent and `read` came.
    pub fn replay(self, read: Bytes) -> (Replay, Counted) {
        (Replay::new(self.stream, read), self.counted)
    }

    /// Sends a request, of which `head` is all, and waits for the head of the answer, whose body is
    /// on the connection.
    pub async fn ask(&mut self, head: &[u8]) -> Result<Response<Rest>, NoAnswer> {
        let mut unwritten = head;
        while !unwritten.is_empty() {
            let error = match self.stream.write(unwritten).await {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    unwritten = unwritten.get(written..).unwrap_or_default();
                    continue;
                }
                Err(error) => error,
            };
            let untouched = unwritten.len() == head.len();
            return Err(if untouched { NoAnswer::Unsent(error) } else { NoAnswer::Broken(error) });
        }
        self.stream.flush().await.map_err(NoAnswer::Broken)?;
        let mut before = Bytes::new();
        loop {
            let reading = poll_fn(|cx| reading::poll_some(&mut self.stream, ROOM, cx));
            let mut read = reading.await.map_err(NoAnswer::Broken)?;
            if read.is_empty() {
                return Err(NoAnswer::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            if !before.is_empty() {
                read = [before, read].concat().into();
            }
            match head::parse(&read) {
                Parsed::Whole(answer) => return Ok(answer),
                Parsed::Partial if read.len() < MOST_HEAD => before = read,
                Parsed::Partial | Parsed::Odd => return Err(NoAnswer::Odd(read)),
            }
        }
    }
}
