//! The heads of a plain exchange: how a request is written, and what is understood of an answer.
//! Whatever could be read in two ways is not plain. Pure.

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;

use super::Rest;
use crate::told::Told;

/// Headers that an answer may have.
const MOST_FIELDS: usize = 32;

/// Headers that say how a request is framed, or that its connection is to be used otherwise.
static FRAMING: [HeaderName; 6] =
    [CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE];

/// What a request is written as, with what is `told` beside it, if it is plain: a GET for a path,
/// without a body.
pub(in crate::upstream) fn write<B: Body>(request: &Request<B>, told: &Told) -> Option<Vec<u8>> {
    let target = request.uri().path_and_query()?.as_str();
    let plain = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.uri().authority().is_none()
        && target.starts_with('/')
        && request.body().is_end_stream();
    if !plain || request.headers().keys().any(|name| FRAMING.contains(name)) {
        return None;
    }
    // "GET ", " HTTP/1.1" and two ends of lines; ": " and an end of line for each header.
    let fields = request.headers().iter();
    let length = fields.fold(17 + target.len(), |sum, (n, v)| sum + n.as_str().len() + v.len() + 4);
    let mut head = Vec::with_capacity(length + told.room(request.headers()));
    head.put_slice(b"GET ");
    head.put_slice(target.as_bytes());
    head.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        head.put_slice(name.as_str().as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    told.write(request.headers(), &mut head);
    head.put_slice(b"\r\n");
    Some(head)
}

/// What was read of an answer.
pub(super) enum Parsed {
    /// Not all of its head.
    Partial,
    /// A head that is not plain, or none.
    Odd,
    /// A plain head, and what came with it.
    Whole(Response<Rest>),
}

pub(super) fn parse(read: &Bytes) -> Parsed {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut head, read, &mut fields) {
        Ok(httparse::Status::Complete(end)) => {
            understand(read, &head, end).map_or(Parsed::Odd, Parsed::Whole)
        }
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Odd,
    }
}

fn understand(
    read: &Bytes,
    head: &httparse::Response<'_, '_>,
    end: usize,
) -> Option<Response<Rest>> {
    let status = StatusCode::from_u16(head.code?).ok()?;
    if head.version != Some(1) || !(200..600).contains(&status.as_u16()) {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    let mut length = None;
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if name == CONTENT_LENGTH {
            let told = parse_length(field.value)?;
            if length.replace(told).is_some() {
                return None;
            }
        }
        let ends = name == CONNECTION && !field.value.eq_ignore_ascii_case(b"keep-alive");
        if ends || name == TRANSFER_ENCODING || name == UPGRADE {
            return None;
        }
        let value = HeaderValue::from_maybe_shared(read.slice_ref(field.value)).ok()?;
        headers.append(name, value);
    }
    // These have no body, whatever they say (RFC 9112, 6.3).
    let length = match status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => 0,
        _ => length?,
    };
    let mut first = read.slice(end..);
    let came = u64::try_from(first.len()).ok()?;
    // More than the answer: nobody can tell what it belongs to.
    let reusable = came <= length;
    if !reusable {
        first.truncate(usize::try_from(length).ok()?);
    }
    let mut answer = Response::new(Rest { first, left: length.saturating_sub(came), reusable });
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Some(answer)
}

/// Digits only: a sign, a list or a space would be read in more than one way.
fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::RequestBody;

    fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<RequestBody> {
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(RequestBody::Empty).unwrap()
    }

    #[test]
    fn a_plain_request_is_written_as_it_is() {
        let request = request("GET", "/a%20b?c=%2f", &[("host", "f.shop"), ("x-a", "1\u{e9}")]);
        let head = write(&request, &Told::default()).unwrap();
        let text = "GET /a%20b?c=%2f HTTP/1.1\r\nhost: f.shop\r\nx-a: 1\u{e9}\r\n\r\n";
        assert_eq!(head, text.as_bytes());
        assert_eq!(head.len(), head.capacity());
    }

    fn written(method: &str, uri: &str, fields: &[(&str, &str)]) -> Option<Vec<u8>> {
        write(&request(method, uri, fields), &Told::default())
    }

    #[test]
    fn whatever_frames_a_request_otherwise_is_not_plain() {
        for (method, uri) in [
            ("POST", "/"),
            ("HEAD", "/"),
            ("CONNECT", "/"),
            ("GET", "http://f.shop/"),
            ("GET", "*"),
        ] {
            assert_eq!(written(method, uri, &[]), None, "{method} {uri}");
        }
        for name in ["connection", "content-length", "expect", "te", "transfer-encoding", "upgrade"]
        {
            assert_eq!(written("GET", "/", &[(name, "0")]), None, "{name}");
        }
    }

    fn parsed(text: &'static str) -> Parsed {
        parse(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_plain_answer_is_understood() {
        let text = "HTTP/1.1 201 Made\r\nX-A: 1\r\nx-a: 2\r\nConnection: Keep-Alive\r\n\
                    Content-Length: 7\r\n\r\nHel";
        let Parsed::Whole(answer) = parsed(text) else { panic!("not plain") };
        assert_eq!(answer.status(), 201);
        let all: Vec<_> = answer.headers().get_all("x-a").iter().collect();
        assert_eq!(all, ["1", "2"]);
        let Rest { first, left, reusable } = answer.into_body();
        assert_eq!((&*first, left, reusable), (&b"Hel"[..], 4, true));
    }

    #[test]
    fn an_answer_without_a_body_by_its_status_has_none() {
        for text in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
        ] {
            let Parsed::Whole(answer) = parsed(text) else { panic!("not plain: {text}") };
            let Rest { first, left, reusable } = answer.into_body();
            assert_eq!((&*first, left, reusable), (&b""[..], 0, true));
        }
    }

    #[test]
    fn what_comes_beyond_an_answer_is_no_part_of_it_and_spoils_the_connection() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\nok",
        ] {
            let Parsed::Whole(answer) = parsed(text) else { panic!("not plain: {text}") };
            let length = if answer.status() == 200 { 2 } else { 0 };
            let Rest { first, left, reusable } = answer.into_body();
            assert_eq!((first.len(), left, reusable), (length, 0, false));
        }
    }

    #[test]
    fn a_head_that_has_not_ended_is_waited_for() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        for end in 0..text.len() {
            assert!(matches!(parsed(&text[..end]), Parsed::Partial), "{end}");
        }
    }

    #[test]
    fn whatever_is_odd_is_left_to_others() {
        for fields in [
            "",
            "content-length: 2\r\ncontent-length: 2\r\n",
            "content-length: 2, 2\r\n",
            "content-length: +2\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 2\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\n",
            "content-length: 2\r\nconnection: close\r\n",
            "content-length: 2\r\nconnection: keep-alive, x-a\r\n",
            "content-length: 2\r\nupgrade: h2c\r\n",
            "content-length: 2\r\n x-folded: 1\r\n",
            "content-length : 2\r\n",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\nok");
            assert!(matches!(parse(&text.into()), Parsed::Odd), "{fields:?}");
        }
        for line in
            ["HTTP/1.0 200 OK", "HTTP/1.1 100 Continue", "HTTP/1.1 101 Go", "HTTP/1.1 600 X"]
        {
            let text = format!("{line}\r\ncontent-length: 2\r\n\r\nok");
            assert!(matches!(parse(&text.into()), Parsed::Odd), "{line}");
        }
        let many = "x-a: 1\r\n".repeat(MOST_FIELDS);
        let text = format!("HTTP/1.1 200 OK\r\n{many}content-length: 2\r\n\r\nok");
        assert!(matches!(parse(&text.into()), Parsed::Odd), "many fields");
        assert!(matches!(parsed("SSH-2.0-server\r\n"), Parsed::Odd));
    }
}
