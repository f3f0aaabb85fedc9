//! The heads of a plain exchange with a client: what is understood of a request, and how an answer
//! is written. Whatever could be read in two ways, or ends the connection, is not plain. Pure.

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes};
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Body;

use crate::body::{FITS_BUFFERS, RequestBody};

/// Headers that a plain request may have; `hyper` reads more.
const MOST_FIELDS: usize = 64;

/// Headers that say how a request is framed, or what is to become of its connection.
static FRAMING: [HeaderName; 5] = [CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE];

/// Bytes of the lines that are put on an answer: its status, its length and the date.
const LINES: usize = 128;

/// The request of which `read` is all: a GET for a path, without a body, after which the connection
/// goes on.
pub(super) fn parse(read: &Bytes) -> Option<Request<RequestBody>> {
    if !read.starts_with(b"GET /") {
        return None;
    }
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let parsed = head.parse_with_uninit_headers(read, &mut fields);
    // What follows belongs to another request, or to nobody knows what.
    if parsed != Ok(httparse::Status::Complete(read.len())) || head.version != Some(1) {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let closes = name == CONNECTION && !field.value.eq_ignore_ascii_case(b"keep-alive");
        if closes || FRAMING.contains(&name) {
            return None;
        }
        let value = HeaderValue::from_maybe_shared(read.slice_ref(field.value)).ok()?;
        headers.append(name, value);
    }
    let mut request = Request::new(RequestBody::Empty);
    *request.uri_mut() = Uri::from_maybe_shared(read.slice_ref(head.path?.as_bytes())).ok()?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Some(request)
}

/// The head of an answer.
pub(super) struct Written {
    pub head: Vec<u8>,
    /// Bytes that its body has.
    pub length: u64,
}

/// What an answer to a plain request is written as, at the time `date`, if it is plain: its length
/// is known, and the connection goes on after it. As `hyper` writes it.
pub(super) fn write<B: Body>(answer: &Response<B>, date: &[u8]) -> Option<Written> {
    let (status, fields) = (answer.status(), answer.headers());
    let odd = |name: &HeaderName| [CONNECTION, TRANSFER_ENCODING, TRAILER, UPGRADE].contains(name);
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !(200..600).contains(&status.as_u16())
        || bodiless
        || answer.version() != Version::HTTP_11
        || !answer.extensions().is_empty()
        || fields.keys().any(odd)
    {
        return None;
    }
    let ended = answer.body().is_end_stream();
    let length = if ended { 0 } else { answer.body().size_hint().exact()? };
    let told = told_length(fields, length)?;
    let room = fields.iter().fold(LINES, |sum, (n, v)| sum + n.as_str().len() + v.len() + 4);
    // A short body follows at once.
    let whole = if length <= FITS_BUFFERS { usize::try_from(length).ok()? } else { 0 };
    let mut head = Vec::with_capacity(room + whole);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_slice(b" ");
    head.put_slice(status.canonical_reason().unwrap_or("<none>").as_bytes());
    head.put_slice(b"\r\n");
    for (name, value) in fields {
        if ended && name == CONTENT_LENGTH {
            continue;
        }
        put(&mut head, name.as_str().as_bytes(), value.as_bytes());
    }
    if ended || !told {
        put(&mut head, CONTENT_LENGTH.as_str().as_bytes(), length.to_string().as_bytes());
    }
    if !fields.contains_key(DATE) {
        put(&mut head, DATE.as_str().as_bytes(), date);
    }
    head.put_slice(b"\r\n");
    Some(Written { head, length })
}

/// Whether the headers tell the length. None where they tell another, or tell it twice.
fn told_length(fields: &HeaderMap, length: u64) -> Option<bool> {
    let mut told = fields.get_all(CONTENT_LENGTH).iter();
    match (told.next(), told.next()) {
        (None, _) => Some(false),
        (Some(value), None) => {
            let agrees = value.to_str().ok()?.parse() == Ok(length);
            agrees.then_some(true)
        }
        (Some(_), Some(_)) => None,
    }
}

fn put(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.put_slice(name);
    head.put_slice(b": ");
    head.put_slice(value);
    head.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::ResponseBody;

    fn parsed(text: &'static str) -> Option<Request<RequestBody>> {
        parse(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_plain_request_is_understood() {
        let text = "GET /a?b=%2f HTTP/1.1\r\nHost: f.shop\r\nx:\r\nX: \t1 \r\n\
                    Connection: Keep-Alive\r\n\r\n";
        let request = parsed(text).unwrap();
        assert_eq!((request.uri().path(), request.uri().query()), ("/a", Some("b=%2f")));
        assert_eq!(request.headers()["host"], "f.shop");
        assert_eq!(request.headers().get_all("x").iter().collect::<Vec<_>>(), ["", "1"]);
    }

    #[test]
    fn whatever_is_odd_is_left_to_others() {
        let plain = "GET / HTTP/1.1\r\nhost: f.shop\r\n\r\n";
        assert!(parsed(plain).is_some());
        for end in 0..plain.len() {
            assert!(parsed(&plain[..end]).is_none(), "{end}");
        }
        for text in [
            "GET / HTTP/1.1\r\nhost: f.shop\r\n\r\nG",
            "GET / HTTP/1.0\r\nhost: f.shop\r\n\r\n",
            "HEAD / HTTP/1.1\r\nhost: f.shop\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nhost: f.shop\r\n\r\n",
            "GET http://f.shop/ HTTP/1.1\r\nhost: f.shop\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            assert!(parsed(text).is_none(), "{text}");
        }
        for field in [
            "connection: close",
            "connection: keep-alive, x",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "expect: 100-continue",
            "te: trailers",
            "upgrade: x",
            "host : f.shop",
        ] {
            let text = format!("GET / HTTP/1.1\r\nhost: f.shop\r\n{field}\r\n\r\n");
            assert!(parse(&text.into()).is_none(), "{field}");
        }
    }

    fn written(status: u16, fields: &[(&str, &str)], text: &'static str) -> Option<String> {
        let mut answer = Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        let answer = answer.body(ResponseBody::text(text)).unwrap();
        let written = write(&answer, b"now")?;
        assert_eq!(written.length, text.len() as u64);
        Some(String::from_utf8(written.head).unwrap())
    }

    #[test]
    fn a_plain_answer_is_written_with_its_length_and_the_date() {
        let head = "HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 2\r\ndate: now\r\n\r\n";
        assert_eq!(written(200, &[("x", "1")], "ok").unwrap(), head);
        let told = [("date", "then"), ("content-length", "2")];
        let head = "HTTP/1.1 404 Not Found\r\ndate: then\r\ncontent-length: 2\r\n\r\n";
        assert_eq!(written(404, &told, "ok").unwrap(), head);
        let head = "HTTP/1.1 599 <none>\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        assert_eq!(written(599, &[("content-length", "0")], "").unwrap(), head);
    }

    #[test]
    fn an_answer_that_ends_the_connection_or_is_framed_otherwise_is_not_plain() {
        for status in [101, 204, 304] {
            assert_eq!(written(status, &[], ""), None, "{status}");
        }
        for field in [
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x"),
            ("upgrade", "x"),
            ("content-length", "3"),
        ] {
            assert_eq!(written(200, &[field], "ok"), None, "{field:?}");
        }
        let twice = [("content-length", "2"), ("content-length", "2")];
        assert_eq!(written(200, &twice, "ok"), None);
    }
}
