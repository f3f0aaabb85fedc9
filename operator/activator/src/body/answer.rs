//! The body of a pod's or a peer's answer, and what the request holds until it ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{AbortOnDrop, BodyError, PeerBody};
use crate::admission::Permit;
use crate::request_metrics::InFlight;
use crate::upstream::{Lease, PodBody};

/// Answers of at most this many bytes fit into the buffers of an HTTP/1.1 connection, so that a
/// client that stops reading can't keep their slot.
pub(crate) const FITS_BUFFERS: u64 = 16 * 1024;

/// Where an answer comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A pod.
    Pod(PodBody),
    /// Another activator.
    Peer(PeerBody),
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Pod(PodBody::Http(body)) => {
                Pin::new(body).poll_frame(cx).map_err(BodyError::from)
            }
            Self::Pod(PodBody::Plain(body)) => body.poll_frame(cx).map_err(BodyError::from),
            Self::Peer(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Pod(PodBody::Http(body)) => body.is_end_stream(),
            Self::Pod(PodBody::Plain(body)) => body.is_end_stream(),
            Self::Peer(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Pod(PodBody::Http(body)) => body.size_hint(),
            Self::Pod(PodBody::Plain(body)) => body.size_hint(),
            Self::Peer(body) => body.size_hint(),
        }
    }
}

/// What a request holds until its answer ends. The order of the fields is the order in which they
/// are given back.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// The passing on of the rest of the request's body.
    #[expect(dead_code, reason = "held for its drop")]
    pub upload: Option<AbortOnDrop>,
    /// The connection to the pod, which serves others once the answer has ended.
    pub lease: Option<Lease>,
    /// The slot of the pod.
    pub permit: Option<Permit>,
    /// The place in the counts.
    #[expect(dead_code, reason = "held for its drop")]
    pub in_flight: Option<InFlight>,
}

/// How long an answer may take.
#[derive(Debug)]
pub(crate) struct Clock {
    /// When it must have ended.
    pub deadline: Instant,
    /// How long it may stand still.
    pub idle: Option<Duration>,
    /// Whether the client's connection takes short answers whole, read or not.
    pub buffers_short: bool,
}

/// The body of a pod's or a peer's answer. In a box: it is handed on many times.
#[derive(Debug)]
pub struct AnswerBody(Box<Inner>);

#[derive(Debug)]
struct Inner {
    serving: Held,
    clock: Option<Clock>,
    /// Since when there has been nothing to read.
    still_since: Option<Instant>,
    /// Made when the source is waited for first; many answers never wait.
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
    /// Ends the answer at its deadline even if nobody asks for its frames: a client that stops
    /// reading must not keep a slot.
    _reaper: Option<AbortOnDrop>,
}

/// What is being served, until its end.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is in the body's box")]
enum Held {
    Own(Option<Serving>),
    /// With the reaper.
    Shared(Arc<Mutex<Option<Serving>>>),
}

impl Held {
    fn with<T>(&mut self, look: impl FnOnce(&mut Option<Serving>) -> T) -> T {
        match self {
            Self::Own(serving) => look(serving),
            Self::Shared(serving) => look(&mut lock(serving)),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let of = |serving: &Option<Serving>| {
            serving.as_ref().map_or_else(SizeHint::default, |serving| serving.source.size_hint())
        };
        match self {
            Self::Own(serving) => of(serving),
            Self::Shared(serving) => of(&lock(serving)),
        }
    }
}

#[derive(Debug)]
struct Serving {
    source: Source,
    hold: Hold,
}

impl Serving {
    /// Gives back all that the request holds. The connection serves others only after an answer
    /// that was read to its end.
    fn end(mut self, complete: bool) {
        let lease = self.hold.lease.take();
        if !complete {
            return;
        }
        if let Some(lease) = lease {
            lease.give_back();
        }
        if let Source::Pod(PodBody::Plain(body)) = self.source {
            body.give_back();
        }
    }
}

impl AnswerBody {
    /// A body that reads `source` and keeps `hold` until it ends. Without a clock it may take as
    /// long as it will.
    pub(crate) fn new(source: Source, hold: Hold, clock: Option<Clock>) -> Self {
        let ended = source.is_end_stream();
        let size = source.size_hint().exact();
        let serving = Serving { source, hold };
        if ended {
            serving.end(true);
            return Self::of(Held::Own(None), None, None);
        }
        let may_stand = clock
            .as_ref()
            .filter(|clock| !clock.buffers_short || size.is_none_or(|size| size > FITS_BUFFERS));
        let Some(Clock { deadline, .. }) = may_stand else {
            return Self::of(Held::Own(Some(serving)), clock, None);
        };
        let serving = Arc::new(Mutex::new(Some(serving)));
        let reaper = spawn_reaper(&serving, *deadline);
        Self::of(Held::Shared(serving), clock, Some(reaper))
    }

    fn of(serving: Held, clock: Option<Clock>, reaper: Option<AbortOnDrop>) -> Self {
        let ended = matches!(serving, Held::Own(None));
        let (still_since, timer) = (None, None);
        Self(Box::new(Inner { serving, clock, still_since, timer, ended, _reaper: reaper }))
    }
}

impl Inner {
    fn end(&mut self, complete: bool) {
        self.ended = true;
        if let Some(serving) = self.serving.with(Option::take) {
            serving.end(complete);
        }
    }

    /// Whether the answer takes too long; asked when there is nothing to read.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(clock) = &self.clock else { return Poll::Pending };
        let idle = match clock.idle {
            Some(idle) => {
                let since = *self.still_since.get_or_insert_with(Instant::now);
                Some(since + idle).filter(|at| *at < clock.deadline)
            }
            None => None,
        };
        let at = idle.unwrap_or(clock.deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).map(|()| {
            if idle.is_some() { BodyError::IdleTimeout } else { BodyError::RequestTimeout }
        })
    }
}

fn lock(serving: &Mutex<Option<Serving>>) -> MutexGuard<'_, Option<Serving>> {
    serving.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn_reaper(serving: &Arc<Mutex<Option<Serving>>>, deadline: Instant) -> AbortOnDrop {
    let serving = Arc::downgrade(serving);
    let reap = async move {
        sleep_until(deadline).await;
        if let Some(serving) = serving.upgrade() {
            let overdue = lock(&serving).take();
            drop(overdue);
        }
    };
    AbortOnDrop::spawn(reap.boxed())
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self.get_mut().0;
        if this.ended {
            return Poll::Ready(None);
        }
        let (polled, over) = this.serving.with(|serving| match serving {
            Some(Serving { source, .. }) => (source.poll_frame(cx), source.is_end_stream()),
            None => (Poll::Ready(Some(Err(BodyError::RequestTimeout))), false),
        });
        match polled {
            Poll::Ready(frame) => {
                this.still_since = None;
                match &frame {
                    Some(Ok(frame)) if over || frame.is_trailers() => this.end(true),
                    Some(Ok(_)) => {}
                    Some(Err(_)) => this.end(false),
                    None => this.end(true),
                }
                Poll::Ready(frame)
            }
            Poll::Pending => this.poll_clock(cx).map(|error| {
                this.end(false);
                Some(Err(error))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.ended { SizeHint::with_exact(0) } else { self.0.serving.size_hint() }
    }
}
