//! The body of a client's request. It may be no larger than the Function takes and may not stand
//! still for ever. One that nobody reads to its end is still taken off the connection for a moment:
//! a connection that is closed with bytes unread takes the answer with it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

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
    /// Bytes that the connection holds of it while nobody reads it.
    read_ahead: u32,
    watch: Option<Watch>,
}

/// What a body is held to.
#[derive(Debug)]
struct Watch {
    /// Bytes that may still come.
    left: u64,
    /// How long it may stand still.
    pause: Option<Duration>,
    /// Since when nothing came that was asked for.
    still_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    verdict: Verdict,
}

/// Why a body was broken off here, where it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<AtomicU8>);

/// What was wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is larger than it may be.
    TooLarge,
    /// It stood still.
    Stalled,
}

impl Verdict {
    pub(crate) fn get(&self) -> Option<Wrong> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(Wrong::TooLarge),
            2 => Some(Wrong::Stalled),
            _ => None,
        }
    }

    fn set(&self, wrong: Wrong) -> BodyError {
        let (code, error) = match wrong {
            Wrong::TooLarge => (1, BodyError::TooLarge),
            Wrong::Stalled => (2, BodyError::Stalled),
        };
        self.0.store(code, Ordering::Relaxed);
        error
    }
}

impl ClientBody {
    /// `lingers` where the rest of the body is on its way whether or not somebody reads it: not on
    /// HTTP/2, and not where the client waits to be told to go on.
    pub(crate) fn new(incoming: Incoming, lingers: bool) -> Self {
        let incoming = Some(incoming).filter(|body| !body.is_end_stream());
        Self { incoming, lingers, read_ahead: 0, watch: None }
    }

    /// The same body, of which the connection holds up to so many bytes while nobody reads it.
    pub(crate) const fn read_ahead_by(mut self, bytes: u32) -> Self {
        self.read_ahead = bytes;
        self
    }

    /// Bytes that the connection holds of it while nobody reads it.
    pub(crate) fn read_ahead(&self) -> u64 {
        self.incoming.as_ref().map_or(0, |_| self.read_ahead.into())
    }

    /// Breaks the body off when it has more than `limit` bytes, or when nothing comes for `pause`.
    pub(crate) fn watch(&mut self, limit: Option<u64>, pause: Option<Duration>) -> Option<Verdict> {
        if self.incoming.is_none() || (limit.is_none() && pause.is_none()) {
            return None;
        }
        let verdict = Verdict::default();
        self.watch = Some(Watch {
            left: limit.unwrap_or(u64::MAX),
            pause,
            still_since: None,
            timer: None,
            verdict: verdict.clone(),
        });
        Some(verdict)
    }
}

impl Watch {
    fn take(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        self.still_since = None;
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.verdict.set(Wrong::TooLarge)),
        }
    }

    /// Asked when nothing comes.
    fn poll_still(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(pause) = self.pause else { return Poll::Pending };
        let at = *self.still_since.get_or_insert_with(Instant::now) + pause;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).map(|()| self.verdict.set(Wrong::Stalled))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { incoming, watch, .. } = &mut *self;
        let Some(body) = incoming else { return Poll::Ready(None) };
        let frame = match (Pin::new(&mut *body).poll_frame(cx), watch) {
            (Poll::Ready(frame), None) => frame.map(|frame| frame.map_err(BodyError::from)),
            (Poll::Ready(frame), Some(watch)) => frame.map(|frame| {
                let frame = frame?;
                watch.take(&frame).map(|()| frame)
            }),
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(watch)) => match watch.poll_still(cx) {
                Poll::Ready(error) => Some(Err(error)),
                Poll::Pending => return Poll::Pending,
            },
        };
        let over = !matches!(frame, Some(Ok(_))) || body.is_end_stream();
        if over {
            *incoming = None;
        }
        Poll::Ready(frame)
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
