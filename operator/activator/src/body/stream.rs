//! Bodies over a stream of HTTP/2 between activators, which is spoken by the `h2` library itself:
//! only there can the owner say in between that it is about to send a request on.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body, Frame, SizeHint};

use super::{BodyError, Withdrawn};

/// The word that a request may be sent on, where it has a body: an empty frame would tell nothing.
const WORD: &[u8] = b"!";

/// A body that comes in on a stream.
#[derive(Debug)]
pub struct PeerBody {
    stream: RecvStream,
    /// What came with the word that the request may be sent on.
    early: Option<Bytes>,
    confirmed: bool,
    data_done: bool,
}

impl PeerBody {
    pub(crate) const fn new(stream: RecvStream) -> Self {
        Self { stream, early: None, confirmed: false, data_done: false }
    }

    /// Waits for the word that the request will not be passed on elsewhere: a byte before the body,
    /// or the end of the stream where there is none. Fails where neither comes.
    pub(super) async fn confirmed(&mut self) -> Result<(), Withdrawn> {
        if self.confirmed {
            return Ok(());
        }
        match poll_fn(|cx| self.stream.poll_data(cx)).await {
            Some(Ok(mut data)) => {
                let size = data.len();
                self.stream.flow_control().release_capacity(size).map_err(|_| Withdrawn)?;
                data.advance(size.min(WORD.len()));
                self.early = Some(data).filter(|data| !data.is_empty());
            }
            Some(Err(_)) => return Err(Withdrawn),
            None => self.data_done = true,
        }
        self.confirmed = true;
        Ok(())
    }
}

impl Body for PeerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(data) = this.early.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if !this.data_done {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The sender may send as much again: whoever asks for a frame has use for it.
                    this.stream.flow_control().release_capacity(data.len())?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => this.data_done = true,
            }
        }
        match ready!(this.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.early.is_none() && self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// Says on `stream` that the request may be sent on, and whether it has no body.
pub(crate) fn give_word(stream: &mut SendStream<Bytes>, empty: bool) -> Result<(), h2::Error> {
    let word = if empty { Bytes::new() } else { Bytes::from_static(WORD) };
    stream.send_data(word, empty)
}

/// Sends `body` on `stream`, no faster than the other side takes it. When `body` fails the stream
/// is reset, so that the other side sees a broken body and not a short one.
pub(crate) async fn pump<B>(body: B, mut stream: SendStream<Bytes>) -> Result<(), h2::Error>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(reset) => Poll::Ready(Err(reset.map_or_else(|e| e, h2::Error::from))),
            Poll::Pending => body.as_mut().poll_frame(cx).map(Ok),
        })
        .await?;
        match frame {
            None => return stream.send_data(Bytes::new(), true),
            Some(Err(_)) => {
                stream.send_reset(Reason::CANCEL);
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    send_data(&mut stream, data, last).await?;
                    if last {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return stream.send_trailers(trailers);
                    }
                }
            },
        }
    }
}

async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
) -> Result<(), h2::Error> {
    if data.is_empty() {
        return if last { stream.send_data(data, true) } else { Ok(()) };
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = if stream.capacity() > 0 {
            stream.capacity()
        } else {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                // The stream is closed: the other side has no use for the rest.
                None => return Err(Reason::CANCEL.into()),
            }
        };
        let part = data.split_to(capacity.min(data.len()));
        stream.send_data(part, last && data.is_empty())?;
    }
    Ok(())
}
