//! Writing a plain answer: what there is of it goes out in one piece, and what does not fit waits
//! for the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::head::Written;
use crate::body::{BodyError, FITS_BUFFERS, ResponseBody};

/// An answer of which some is not written yet.
pub(super) struct Answer {
    /// The head, and all of a short body that has come.
    out: Vec<u8>,
    written: usize,
    /// What has come of a long body.
    frame: Bytes,
    /// Dropped when all of it has come, with all that the request holds: a short answer frees its
    /// slot whether or not the client takes it.
    body: Option<ResponseBody>,
    /// Bytes of the body that are still to come.
    left: u64,
    short: bool,
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("writing an answer: {0}")]
    Write(#[from] io::Error),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("an answer has not the length that it told")]
    Length,
}

impl Answer {
    pub fn new(Written { head, length }: Written, body: ResponseBody) -> Self {
        Self {
            out: head,
            written: 0,
            frame: Bytes::new(),
            body: Some(body).filter(|_| length > 0),
            left: length,
            short: length <= FITS_BUFFERS,
        }
    }

    /// Writes as much as there is and the client takes, until it is all.
    pub fn poll_write<I: AsyncWrite + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let fetched = self.fetch(cx);
            if self.has_some() {
                let wrote = self.poll_some(io, cx);
                // What came before it broke off is told, as far as the client takes it.
                fetched?;
                ready!(wrote)?;
                continue;
            }
            fetched?;
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            return if self.body.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
    }

    /// Takes what there is of the body, as far as there is room for it.
    fn fetch(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        while let Some(body) = &mut self.body
            && self.frame.is_empty()
        {
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else { return Ok(()) };
            let frame = frame.ok_or(Broken::Length)??;
            // Where the length was told there is no place for trailers.
            let Ok(data) = frame.into_data() else { continue };
            self.left = self.left.checked_sub(data.len() as u64).ok_or(Broken::Length)?;
            if self.left == 0 {
                self.body = None;
            }
            if self.short {
                self.out.extend_from_slice(&data);
            } else {
                self.frame = data;
            }
        }
        Ok(())
    }

    fn has_some(&self) -> bool {
        self.written < self.out.len() || !self.frame.is_empty()
    }

    fn poll_some<I: AsyncWrite + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let head = self.out.get(self.written..).unwrap_or_default();
        let io = Pin::new(io);
        let count = ready!(match (head.is_empty(), self.frame.is_empty()) {
            (false, false) => {
                io.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(&self.frame)])
            }
            (false, true) => io.poll_write(cx, head),
            (true, _) => io.poll_write(cx, &self.frame),
        })?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_head = count.min(head.len());
        self.written += of_head;
        self.frame.advance(count - of_head);
        Poll::Ready(Ok(()))
    }
}
