//! A connection that keeps its seat up to date: when something was read, and since when nothing
//! can be written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Occupied, Seat};

/// What a connection of HTTP/2 begins with, as far as it takes to tell it from others.
const PREFACE: &[u8] = b"PRI ";

/// A connection with its seat, which is free again when the connection is gone.
#[derive(Debug)]
pub(crate) struct Seated<I> {
    io: I,
    occupied: Occupied,
    begun: bool,
}

impl<I> Seated<I> {
    pub(crate) const fn new(io: I, occupied: Occupied) -> Self {
        Self { io, occupied, begun: false }
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
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if let Some(read @ [_, ..]) = buffer.filled().get(before..) {
            if !self.begun {
                self.begun = true;
                if read.starts_with(PREFACE) {
                    self.seat().speaks_http2();
                }
            }
            self.seat().note_read(read.len());
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
