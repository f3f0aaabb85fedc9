//! HTTP/2: requests that would be two things once they are told in HTTP/1.1.

use super::Ports;
use super::frames::{
    Client, DATA, END_HEADERS, END_STREAM, HEADERS, STATUS_200, STATUS_400, field, frame, get, head,
};

/// What becomes of a request with `fields`.
async fn answer(ports: &Ports, fields: &[u8], body: Option<&[u8]>) -> (Option<u8>, Vec<String>) {
    let mut client = Client::open(ports.cluster).await;
    let end = if body.is_none() { END_STREAM } else { 0 };
    client.send(&frame(HEADERS, END_HEADERS | end, 1, fields)).await;
    if let Some(body) = body {
        client.send(&frame(DATA, END_STREAM, 1, body)).await;
    }
    let answer = client.answered(1).await;
    // The same connection or the next serves what is as it should be.
    client.send(&get(3, "f.shop", "/fair")).await;
    client.answered(3).await;
    let reached = ports.take_reached().into_iter().filter(|target| target != "/fair").collect();
    (answer, reached)
}

#[tokio::test]
async fn fields_that_would_be_something_else_in_http1_are_refused() {
    let ports = Ports::open().await;
    let good = || head("POST", "f.shop", "/case");
    let more = |name: &str, value: &str| [good(), field(name, value)].concat();
    let pseudo = |fields: &[(&str, &str)]| -> Vec<u8> {
        fields.iter().flat_map(|(name, value)| field(name, value)).collect()
    };
    let (method, scheme) = ((":method", "GET"), (":scheme", "http"));
    let (host, path) = ((":authority", "f.shop"), (":path", "/case"));
    for (name, fields) in [
        ("a name in capitals", more("X-A", "b")),
        ("a name with a blank", more("x a", "b")),
        ("a name with a colon", more("x:a", "b")),
        ("a name with a line end", more("x\r\ny", "b")),
        ("no name", more("", "b")),
        ("a value with a line end", more("x", "a\r\ny: b")),
        ("a value with a line feed", more("x", "a\nb")),
        ("a value with a NUL", more("x", "a\0b")),
        ("a coding", more("transfer-encoding", "chunked")),
        ("a connection", more("connection", "close")),
        ("a connection of old", more("proxy-connection", "keep-alive")),
        ("keeping alive", more("keep-alive", "timeout=5")),
        ("a change of protocol", more("upgrade", "websocket")),
        ("a TE of more than trailers", more("te", "gzip")),
        ("a pseudo field behind another", more(":path", "/hidden")),
        ("an unknown pseudo field", pseudo(&[method, scheme, host, path, (":x", "y")])),
        ("one of answers", pseudo(&[method, scheme, host, path, (":status", "200")])),
        ("two paths", pseudo(&[method, scheme, host, path, (":path", "/hidden")])),
        ("two methods", pseudo(&[method, (":method", "POST"), scheme, host, path])),
        ("no path", pseudo(&[method, scheme, host])),
        ("an empty path", pseudo(&[method, scheme, host, (":path", "")])),
        ("a path with a blank", pseudo(&[method, scheme, host, (":path", "/case HTTP/1.1")])),
        ("a path with a line end", pseudo(&[method, scheme, host, (":path", "/\r\nx: y")])),
        ("no method", pseudo(&[scheme, host, path])),
        ("a method with a blank", pseudo(&[(":method", "GET /hidden"), scheme, host, path])),
        ("no scheme", pseudo(&[method, host, path])),
        ("a host with a path", pseudo(&[method, scheme, (":authority", "f.shop/hidden"), path])),
        ("a host with a blank", pseudo(&[method, scheme, (":authority", "f.shop x"), path])),
        ("a host with a user", pseudo(&[method, scheme, (":authority", "u@f.shop"), path])),
        ("no host", pseudo(&[method, scheme, path])),
        ("another host", more("host", "g.shop")),
        ("a second host", [more("host", "f.shop"), field("host", "g.shop")].concat()),
        ("an empty host", more("host", "")),
        ("two lengths", [more("content-length", "0"), field("content-length", "5")].concat()),
        ("a length with a sign", more("content-length", "+0")),
        ("a length that nothing follows", more("content-length", "5")),
    ] {
        let (answer, reached) = answer(&ports, &fields, None).await;
        assert!(matches!(answer, None | Some(STATUS_400)), "{name}: {answer:x?}");
        assert!(reached.is_empty(), "{name}: {reached:?}");
    }
    for (name, length, body) in [("too short", "5", "abc"), ("too long", "2", "abc")] {
        let fields = more("content-length", length);
        let (answer, _) = answer(&ports, &fields, Some(body.as_bytes())).await;
        assert!(matches!(answer, None | Some(STATUS_400)), "{name}: {answer:x?}");
    }
    let (answer, reached) = answer(&ports, &good(), Some(b"abc")).await;
    assert_eq!((answer, reached), (Some(STATUS_200), vec!["/case".to_owned()]));
    ports.serves().await;
    ports.close().await;
}

#[tokio::test]
async fn a_tunnel_is_not_to_be_had() {
    let ports = Ports::open().await;
    for fields in [
        [field(":method", "CONNECT"), field(":authority", "f.shop:80")].concat(),
        [head("CONNECT", "f.shop", "/case"), field(":protocol", "websocket")].concat(),
    ] {
        let (answer, reached) = answer(&ports, &fields, None).await;
        assert_ne!(answer, Some(STATUS_200));
        assert!(reached.is_empty(), "{reached:?}");
    }
    ports.serves().await;
    ports.close().await;
}

#[tokio::test]
async fn headers_have_limits() {
    let ports = Ports::open().await;
    for value in [40_000, 70_000, 300_000] {
        let mut client = Client::open(ports.cluster).await;
        let mut block = head("GET", "f.shop", "/case");
        block.extend(field("x", &"y".repeat(value)));
        let mut rest = block.chunks(16_000).peekable();
        let mut flags = END_STREAM;
        let mut kind = HEADERS;
        while let Some(part) = rest.next() {
            if rest.peek().is_none() {
                flags |= END_HEADERS;
            }
            client.send(&frame(kind, flags, 1, part)).await;
            (kind, flags) = (super::frames::CONTINUATION, 0);
        }
        assert_ne!(client.answered(1).await, Some(STATUS_200), "{value}");
        assert!(ports.take_reached().is_empty());
    }
    ports.serves().await;
    ports.close().await;
}
