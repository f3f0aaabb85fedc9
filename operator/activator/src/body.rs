//! The bodies that pass through: of requests to a pod or a peer, of answers to the client. What a
//! request holds (its slot, its connection, its place in the counts) lives in the body of its
//! answer and is given back when that ends, fails or is dropped. Nothing here reads ahead.

mod answer;
mod client;
mod go;
mod kept;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use answer::AnswerBody;
pub(crate) use answer::{Clock, FITS_BUFFERS, Hold, Source};
pub use client::ClientBody;
pub(crate) use client::{Verdict, Wrong};
pub(crate) use go::{Asked, Go, Word};
pub(crate) use kept::{Keeper, keep};
pub use kept::{KeptBody, ResumedBody};
pub(crate) use stream::{PeerBody, give_word, pump};

use crate::access_log::AccessRecord;
use crate::seats::Active;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection to the client, the pod or the peer failed.
    #[error("passing on a body")]
    Connection(#[from] hyper::Error),
    /// The pod's connection failed, or ended before its answer.
    #[error("passing on an answer: {0}")]
    Answer(#[from] std::io::Error),
    /// The stream to or from a peer failed.
    #[error("passing on a body between activators")]
    Stream(#[from] h2::Error),
    /// The request's body is larger than `bodyLimit`.
    #[error("the request's body is larger than spec.bodyLimit")]
    TooLarge,
    /// The request's body stood still.
    #[error("the request's body stood still")]
    Stalled,
    /// The answer took longer than `timeouts.request`.
    #[error("the answer took longer than timeouts.request")]
    RequestTimeout,
    /// The answer stood still for longer than `timeouts.idle`.
    #[error("the answer stood still for longer than timeouts.idle")]
    IdleTimeout,
    /// The request was passed on elsewhere, or given up.
    #[error("the request was withdrawn")]
    Withdrawn,
}

/// Who passes a request on did not say in time that it may be sent: it may be passed on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawn;

/// How long that word may take: it holds a slot meanwhile. Between activators that live it takes less
/// than a millisecond.
const GO_PATIENCE: Duration = Duration::from_secs(1);

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// As the client sends it.
    Client(ClientBody),
    /// As another activator passes it on.
    Peer(PeerBody),
    /// Of another activator's request for another protocol.
    Asked(Asked),
    /// Of this activator's request for another protocol.
    Go(Go),
    /// One that may have to go elsewhere.
    Kept(KeptBody),
    /// One that goes elsewhere.
    Resumed(ResumedBody),
}

impl RequestBody {
    /// Bytes that are held of it in memory while nobody reads it.
    pub(crate) fn read_ahead(&self) -> u64 {
        match self {
            // An activator that passes a request on reads its body only once it was sent on; what
            // was sent to a pod before holds little.
            Self::Empty
            | Self::Peer(_)
            | Self::Asked(_)
            | Self::Go(_)
            | Self::Kept(_)
            | Self::Resumed(_) => 0,
            Self::Client(body) => body.read_ahead(),
        }
    }

    /// Returns once the request can't be passed on elsewhere any more. Comes before its first byte
    /// goes to a pod: without it, an activator that passed it on could take it for unsent.
    pub(crate) async fn confirmed(&mut self) -> Result<(), Withdrawn> {
        match self {
            // What was sent before was confirmed before.
            Self::Empty | Self::Client(_) | Self::Go(_) | Self::Kept(_) | Self::Resumed(_) => {
                Ok(())
            }
            Self::Peer(body) => in_time(body.confirmed()).await,
            Self::Asked(body) => in_time(body.confirmed()).await,
        }
    }

    /// Holds the body of a client to `limit` bytes and to pauses of at most `pause`.
    pub(crate) fn watch(&mut self, limit: Option<u64>, pause: Option<Duration>) -> Option<Verdict> {
        match self {
            Self::Client(body) => body.watch(limit, pause),
            Self::Empty
            | Self::Peer(_)
            | Self::Go(_)
            | Self::Asked(_)
            // What goes elsewhere is watched as it was before.
            | Self::Kept(_)
            | Self::Resumed(_) => None,
        }
    }
}

async fn in_time(confirmed: impl Future<Output = Result<(), Withdrawn>>) -> Result<(), Withdrawn> {
    timeout(GO_PATIENCE, confirmed).await.unwrap_or(Err(Withdrawn))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => Pin::new(body).poll_frame(cx),
            Self::Peer(body) => Pin::new(body).poll_frame(cx),
            Self::Asked(body) => body.poll_frame(cx),
            Self::Go(body) => body.poll_frame(cx),
            Self::Kept(body) => Pin::new(body).poll_frame(cx),
            Self::Resumed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_end_stream(),
            Self::Peer(body) => body.is_end_stream(),
            Self::Asked(body) => body.is_end(),
            Self::Go(_) => false,
            Self::Kept(body) => body.is_end_stream(),
            Self::Resumed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
            Self::Peer(body) => body.size_hint(),
            Self::Asked(body) if body.is_end() => SizeHint::with_exact(0),
            Self::Asked(_) | Self::Go(_) => SizeHint::default(),
            Self::Kept(body) => body.size_hint(),
            Self::Resumed(body) => body.size_hint(),
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
    /// The place among the requests that the server waits for when it leaves.
    busy: Option<TaskTrackerToken>,
    /// The place among the requests of its connection.
    connection: Option<Active>,
    /// What is logged when it has ended.
    log: Option<Arc<AccessRecord>>,
}

#[derive(Debug)]
enum Kind {
    /// Text of our own.
    Text(Option<Bytes>),
    /// A stream of our own.
    Own(UnsyncBoxBody<Bytes, BodyError>),
    /// What a pod or a peer answers.
    Answer(AnswerBody),
}

impl ResponseBody {
    /// No body.
    pub const fn empty() -> Self {
        Self::of(Kind::Text(None))
    }

    /// A body of `text`.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self::of(Kind::Text(Some(text.into()).filter(|text| !text.is_empty())))
    }

    /// A body that streams what `body` gives.
    pub const fn stream(body: UnsyncBoxBody<Bytes, BodyError>) -> Self {
        Self::of(Kind::Own(body))
    }

    /// The same body, which keeps `busy` for as long as it lives.
    pub(crate) fn holding(mut self, busy: TaskTrackerToken) -> Self {
        self.busy = Some(busy);
        self
    }

    /// The same body, which keeps its connection busy for as long as it lives.
    pub(crate) fn on(mut self, connection: Active) -> Self {
        self.connection = Some(connection);
        self
    }

    /// The same body, whose bytes are counted and whose end is logged.
    pub(crate) fn logged(mut self, log: Arc<AccessRecord>) -> Self {
        self.log = Some(log);
        self
    }

    const fn of(kind: Kind) -> Self {
        Self { kind, busy: None, connection: None, log: None }
    }
}

impl From<AnswerBody> for ResponseBody {
    fn from(body: AnswerBody) -> Self {
        Self::of(Kind::Answer(body))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { kind, log, .. } = self.get_mut();
        let frame = match kind {
            Kind::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Own(body) => Pin::new(body).poll_frame(cx),
            Kind::Answer(body) => Pin::new(body).poll_frame(cx),
        };
        if let (Some(log), Poll::Ready(Some(Ok(frame)))) = (log, &frame) {
            log.note_bytes(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_none(),
            Kind::Own(body) => body.is_end_stream(),
            Kind::Answer(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Kind::Own(body) => body.size_hint(),
            Kind::Answer(body) => body.size_hint(),
        }
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(tokio::task::AbortHandle);

impl AbortOnDrop {
    /// Runs `future` until it is done or this is dropped.
    pub(crate) fn spawn(future: BoxFuture<'static, ()>) -> Self {
        Self(tokio::spawn(future).abort_handle())
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
