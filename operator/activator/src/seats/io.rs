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
}

impl<I> Seated<I> {
    pub(crate) const fn new(io: I, occupied: Occupied) -> Self {
        Self { io, occupied, put_back: Bytes::new() }
    }

    /// Has `bytes` read again. What was put back before must have been read.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.put_back = bytes;
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
        if !self.put_back.is_empty() {
            let again = self.put_back.len().min(buffer.remaining());
            buffer.put_slice(&self.put_back.split_to(again));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
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
