//! Streams of lines of JSON. What a line says is the business of who makes it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::{BodyError, ResponseBody};

/// An answer of these lines, each item one or more of them.
pub(crate) fn respond(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response<ResponseBody> {
    let frames = lines.map(|lines| Ok::<_, BodyError>(Frame::data(lines)));
    let mut response = Response::new(ResponseBody::stream(StreamBody::new(frames).boxed_unsync()));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Longest line: some ten thousand pods.
const MOST_BYTES: usize = 1 << 20;

/// The lines that arrive in `parts`, up to the first that is none.
pub(crate) fn decode<T, E>(
    parts: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
) -> impl Stream<Item = T> + Send
where
    T: DeserializeOwned + Send,
    E: Send + 'static,
{
    futures::stream::unfold((parts, BytesMut::new()), async |(mut parts, mut read)| {
        loop {
            if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let line = read.split_to(end);
                read.advance(1);
                return Some((serde_json::from_slice(&line).ok()?, (parts, read)));
            }
            read.extend_from_slice(&parts.next().await?.ok()?);
            if read.len() > MOST_BYTES {
                return None;
            }
        }
    })
}

/// A line for each value. One that has no form in JSON is left out.
pub(crate) fn encode<T: Serialize>(values: impl IntoIterator<Item = T>) -> Bytes {
    let mut bytes = BytesMut::new().writer();
    for value in values {
        let before = bytes.get_ref().len();
        if let Err(error) = serde_json::to_writer(&mut bytes, &value) {
            tracing::error!(%error, "encoding a line failed");
            bytes.get_mut().truncate(before);
            continue;
        }
        bytes.get_mut().put_u8(b'\n');
    }
    bytes.into_inner().freeze()
}
