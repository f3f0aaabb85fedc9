//! A connection that keeps its seat up to date: when something was read, and since when nothing
//! can be written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Occupied, Seat};

/// A connection with its seat, which is free again when the connection is gone.
#[derive(Debug)]
pub(crate) struct Seated<I> {
    io: I,
    occupied: Occupied,
    /// What was read and is to be read again.
    put_back: Bytes,
    /// Bytes of it that were put back last.
    last: usize,
}

impl<I> Seated<I> {
    pub(crate) const fn new(io: I, occupied: Occupied) -> Self {
        Self { io, occupied, put_back: Bytes::new(), last: 0 }
    }

    /// Has `bytes` read again, before what was put back earlier and not read yet.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.last = bytes.len();
        self.put_back = if self.put_back.is_empty() {
            bytes
        } else {
            [bytes, std::mem::take(&mut self.put_back)].concat().into()
        };
    }

    /// Reads again what fits into `buffer`. Answers whether it is to go out as it is: each piece comes
    /// as it came first, or with what follows where it was the last.
    fn read_again(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let alone = self.last > 0;
        let most = if alone { self.last } else { self.put_back.len() };
        let again = most.min(buffer.remaining());
        buffer.put_slice(&self.put_back.split_to(again));
        self.last = self.last.saturating_sub(again);
        alone || buffer.remaining() == 0
    }

    pub(crate) const fn seat(&self) -> &Arc<Seat> {
        self.occupied.seat()
    }

    fn note_write<T>(&self, polled: &Poll<io::Result<T>>) {
        self.seat().note_written(polled.is_pending());
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Seated<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.put_back.is_empty() && self.read_again(buffer) {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buffer) {
            // What was read again has come.
            Poll::Pending if before > 0 => {}
            polled => ready!(polled)?,
        }
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.seat().note_read(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Seated<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.note_write(&flushed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
