//! The bodies of requests that ask for another protocol, between activators. They have none, but
//! their end is the word that the request may be sent on, and will not be passed on elsewhere.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::oneshot;

use super::{BodyError, Withdrawn};

const ASKED: u8 = 0;
const GIVEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Whether the word was given; it is given once, or withdrawn for good.
#[derive(Clone, Debug)]
pub(crate) struct Word(Arc<AtomicU8>);

impl Word {
    /// A word that is not given yet, and the body that ends with it.
    pub(crate) fn new() -> (Self, Go, oneshot::Sender<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(AtomicU8::new(ASKED))), Go(receiver), sender)
    }

    /// Gives it, unless it was withdrawn.
    pub(crate) fn give(&self) -> bool {
        self.settle(GIVEN)
    }

    /// Withdraws it, unless it was given.
    pub(crate) fn withdraw(&self) -> bool {
        self.settle(WITHDRAWN)
    }

    fn settle(&self, to: u8) -> bool {
        self.0.compare_exchange(ASKED, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// A body without a byte that ends when the word is given.
#[derive(Debug)]
pub struct Go(oneshot::Receiver<()>);

impl Go {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.0.poll_unpin(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(None),
            // Nobody gives it any more: the connection is closed.
            Poll::Ready(Err(_)) => Poll::Ready(Some(Err(BodyError::Withdrawn))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The other end of it: asking for the body makes `hyper` say that the request is about to be sent
/// on.
#[derive(Debug)]
pub struct Asked(Option<Incoming>);

impl Asked {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self(Some(incoming).filter(|body| !body.is_end_stream()))
    }

    pub(super) async fn confirmed(&mut self) -> Result<(), Withdrawn> {
        let Some(incoming) = &mut self.0 else { return Ok(()) };
        if incoming.frame().await.is_some() {
            return Err(Withdrawn);
        }
        self.0 = None;
        Ok(())
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.0 else { return Poll::Ready(None) };
        Pin::new(incoming).poll_frame(cx).map_err(BodyError::from)
    }

    pub(super) const fn is_end(&self) -> bool {
        self.0.is_none()
    }
}
