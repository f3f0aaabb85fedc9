//! The body of a plain answer: so many bytes, read on the connection as they are asked for.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::io::AsyncReadExt;

use super::{Plain, Rest};
use crate::pod::Pod;
use crate::upstream::Shard;

/// Bytes that are read at a time.
const CHUNK: u64 = 32 * 1024;

/// The body, with the connection that it comes on. Dropped before its end it closes that, so that
/// the pod learns that nobody wants its answer any more.
pub(crate) struct PlainBody {
    pod: Arc<Pod>,
    shard: Shard,
    connection: Plain,
    rest: Rest,
    /// Memory for what is read next.
    buffer: BytesMut,
}

impl PlainBody {
    pub(in crate::upstream) fn new(
        pod: Arc<Pod>,
        shard: Shard,
        connection: Plain,
        rest: Rest,
    ) -> Self {
        Self { pod, shard, connection, rest, buffer: BytesMut::new() }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { connection, rest, buffer, .. } = self;
        if !rest.first.is_empty() {
            let first = std::mem::take(&mut rest.first);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if rest.left == 0 {
            return Poll::Ready(None);
        }
        buffer.reserve(usize::try_from(rest.left.min(CHUNK)).unwrap_or_default());
        let read = ready!(pin!(connection.stream.read_buf(buffer)).poll(cx));
        Poll::Ready(Some(read.and_then(|read| {
            let read = u64::try_from(read).unwrap_or_default();
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut data = buffer.split().freeze();
            if read > rest.left {
                rest.reusable = false;
                data.truncate(usize::try_from(rest.left).unwrap_or_default());
            }
            rest.left = rest.left.saturating_sub(read);
            Ok(Frame::data(data))
        })))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.rest.first.is_empty() && self.rest.left == 0
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let first = u64::try_from(self.rest.first.len()).unwrap_or_default();
        SizeHint::with_exact(first.saturating_add(self.rest.left))
    }

    /// Lets the connection serve others, if the answer was read to its end and nothing beyond it.
    pub(crate) fn give_back(self) {
        if !self.rest.reusable || !self.is_end_stream() {
            return;
        }
        let Self { pod, shard, connection, .. } = self;
        pod.connections.of(shard).put_plain(connection);
    }
}

impl fmt::Debug for PlainBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainBody")
            .field("pod", &self.pod.uid)
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}
