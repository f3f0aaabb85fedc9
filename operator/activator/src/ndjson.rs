//! Answers that are streams of lines of JSON. What a line says is the business of who makes it.

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde::Serialize;

use crate::body::{BodyError, ResponseBody};

/// An answer of these lines, each item one or more of them.
pub(crate) fn respond(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response<ResponseBody> {
    let frames = lines.map(|lines| Ok::<_, BodyError>(Frame::data(lines)));
    let mut response = Response::new(ResponseBody::stream(StreamBody::new(frames).boxed_unsync()));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
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
