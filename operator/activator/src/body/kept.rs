//! The body of a request that may have to go elsewhere: what was read of it is kept until it is
//! certain that the request was taken.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{BodyError, RequestBody};

/// Bytes of a body that are kept. A request whose pod takes more of it is not sent elsewhere.
const MOST_KEPT: usize = 64 * 1024;

/// A part of a body.
#[derive(Clone, Debug)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Part {
    fn of(frame: &Frame<Bytes>) -> Option<Self> {
        let data = frame.data_ref().cloned().map(Self::Data);
        data.or_else(|| frame.trailers_ref().cloned().map(Self::Trailers))
    }

    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(trailers) => {
                trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
            }
        }
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

/// A body that begins with parts which were read before.
#[derive(Debug)]
pub struct ResumedBody {
    parts: VecDeque<Part>,
    rest: Box<RequestBody>,
}

impl Body for ResumedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.parts.pop_front() {
            Some(part) => Poll::Ready(Some(Ok(part.into_frame()))),
            None => Pin::new(&mut *self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let data = |part: &Part| match part {
            Part::Data(data) => data.len() as u64,
            Part::Trailers(_) => 0,
        };
        let kept: u64 = self.parts.iter().map(data).sum();
        let mut hint = SizeHint::new();
        hint.set_lower(kept.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(kept.saturating_add(upper));
        }
        hint
    }
}

/// A body of which what is read is kept.
#[derive(Debug)]
pub struct KeptBody(Arc<Mutex<Kept>>);

/// Gets the body back, as long as that is possible. Once this is dropped nothing is kept any more.
#[derive(Debug)]
pub(crate) struct Keeper(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// What was not read yet; none once the body was taken back.
    rest: Option<RequestBody>,
    /// What was read; none where that is no longer kept.
    read: Option<Vec<Part>>,
    bytes: usize,
}

/// A body in the place of `body`, and what gets it back.
pub(crate) fn keep(body: RequestBody) -> (RequestBody, Keeper) {
    let kept = Kept { rest: Some(body), read: Some(Vec::new()), bytes: 0 };
    let kept = Arc::new(Mutex::new(kept));
    (RequestBody::Kept(KeptBody(Arc::clone(&kept))), Keeper(kept))
}

impl Keeper {
    /// The whole body; none where too much of it was read.
    pub fn take_back(&self) -> Option<RequestBody> {
        let mut kept = lock(&self.0);
        let parts = kept.read.take()?;
        let rest = kept.rest.take()?;
        if parts.is_empty() {
            return Some(rest);
        }
        Some(RequestBody::Resumed(ResumedBody { parts: parts.into(), rest: Box::new(rest) }))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        lock(&self.0).read = None;
    }
}

impl Kept {
    fn note(&mut self, frame: &Frame<Bytes>) {
        let Some(read) = &mut self.read else { return };
        if let Some(part) = Part::of(frame) {
            self.bytes += part.len();
            read.push(part);
        }
        if self.bytes > MOST_KEPT {
            self.read = None;
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body for KeptBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut kept = lock(&self.0);
        let Some(rest) = &mut kept.rest else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(rest).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => kept.note(frame),
            // A body that broke off can't be read again.
            Some(Err(_)) => kept.read = None,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).rest.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    fn parts(texts: &[&'static str]) -> RequestBody {
        let parts = texts.iter().map(|text| Part::Data(Bytes::from_static(text.as_bytes())));
        let rest = Box::new(RequestBody::Empty);
        RequestBody::Resumed(ResumedBody { parts: parts.collect(), rest })
    }

    fn read(body: RequestBody) -> Bytes {
        body.collect().now_or_never().unwrap().unwrap().to_bytes()
    }

    #[test]
    fn a_body_comes_back_whole_however_much_was_read() {
        for read_before in 0..=3 {
            let (mut body, keeper) = keep(parts(&["one ", "two ", "three"]));
            assert_eq!(body.size_hint().exact(), Some(13));
            for _ in 0..read_before {
                body.frame().now_or_never().unwrap().unwrap().unwrap();
            }
            let back = keeper.take_back().unwrap();
            assert_eq!(back.size_hint().exact(), Some(13));
            assert!(body.frame().now_or_never().unwrap().is_none());
            assert_eq!(read(back), "one two three");
            assert!(keeper.take_back().is_none());
        }
    }

    #[test]
    fn no_more_is_kept_than_may_be_and_nothing_once_nobody_asks() {
        static LONG: [u8; MOST_KEPT] = [b'x'; MOST_KEPT];
        let long = str::from_utf8(&LONG).unwrap();
        let (mut body, keeper) = keep(parts(&[long, "y", "z"]));
        for _ in 0..2 {
            body.frame().now_or_never().unwrap().unwrap().unwrap();
        }
        assert!(keeper.take_back().is_none());
        assert_eq!(read(body), "z");
        let (mut body, keeper) = keep(parts(&["one"]));
        drop(keeper);
        body.frame().now_or_never().unwrap().unwrap().unwrap();
        let RequestBody::Kept(KeptBody(kept)) = body else { panic!("it is kept") };
        assert!(lock(&kept).read.is_none());
    }
}
