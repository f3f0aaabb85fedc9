//! HTTP/2: requests that would be two things once they are told in HTTP/1.1, and clients that go on
//! where the port has said its last word.

use std::net::SocketAddr;

use tokio::io::Interest;

use super::Ports;
use super::frames::{
    Client, DATA, END_HEADERS, END_STREAM, HEADERS, PING, STATUS_200, STATUS_400, field, frame,
    get, head,
};

/// What becomes of a request with `fields`.
async fn answer(
    ports: &Ports,
    (port, host): (SocketAddr, &str),
    fields: &[u8],
    body: Option<&[u8]>,
) -> (Option<u8>, Vec<String>) {
    let mut client = Client::open(port).await;
    let end = if body.is_none() { END_STREAM } else { 0 };
    client.send(&frame(HEADERS, END_HEADERS | end, 1, fields)).await;
    if let Some(body) = body {
        client.send(&frame(DATA, END_STREAM, 1, body)).await;
    }
    let answer = client.answered(1).await;
    // The same connection or the next serves what is as it should be.
    client.send(&get(3, host, "/fair")).await;
    client.answered(3).await;
    let reached = ports.take_reached().into_iter().filter(|target| target != "/fair").collect();
    (answer, reached)
}

#[tokio::test]
async fn fields_that_would_be_something_else_in_http1_are_refused() {
    let ports = Ports::open().await;
    for (port, host) in ports.for_callers() {
        refuse_each(&ports, port, host).await;
    }
    ports.serves().await;
    ports.close().await;
}

async fn refuse_each(ports: &Ports, port: SocketAddr, name: &str) {
    let good = || head("POST", name, "/case");
    let more = |name: &str, value: &str| [good(), field(name, value)].concat();
    let pseudo = |fields: &[(&str, &str)]| -> Vec<u8> {
        fields.iter().flat_map(|(name, value)| field(name, value)).collect()
    };
    let (method, scheme) = ((":method", "GET"), (":scheme", "http"));
    let (host, path) = ((":authority", name), (":path", "/case"));
    for (case, fields) in [
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
        ("a second host", [more("host", name), field("host", "g.shop")].concat()),
        ("an empty host", more("host", "")),
        ("two lengths", [more("content-length", "0"), field("content-length", "5")].concat()),
        ("a length with a sign", more("content-length", "+0")),
        ("a length that nothing follows", more("content-length", "5")),
    ] {
        let (answer, reached) = answer(ports, (port, name), &fields, None).await;
        assert!(matches!(answer, None | Some(STATUS_400)), "{case}: {answer:x?}");
        assert!(reached.is_empty(), "{case}: {reached:?}");
    }
    for (case, length, body) in [("too short", "5", "abc"), ("too long", "2", "abc")] {
        let fields = more("content-length", length);
        let (answer, _) = answer(ports, (port, name), &fields, Some(body.as_bytes())).await;
        assert!(matches!(answer, None | Some(STATUS_400)), "{case}: {answer:x?}");
    }
    let (answer, reached) = answer(ports, (port, name), &good(), Some(b"abc")).await;
    assert_eq!((answer, reached), (Some(STATUS_200), vec!["/case".to_owned()]));
}

#[tokio::test]
async fn a_tunnel_is_not_to_be_had() {
    let ports = Ports::open().await;
    for (port, host) in ports.for_callers() {
        for fields in [
            [field(":method", "CONNECT"), field(":authority", &format!("{host}:80"))].concat(),
            [head("CONNECT", host, "/case"), field(":protocol", "websocket")].concat(),
        ] {
            let (answer, reached) = answer(&ports, (port, host), &fields, None).await;
            assert_ne!(answer, Some(STATUS_200));
            assert!(reached.is_empty(), "{reached:?}");
        }
    }
    ports.serves().await;
    ports.close().await;
}

#[tokio::test]
async fn headers_have_limits() {
    let ports = Ports::open().await;
    let [cluster, public] = ports.for_callers();
    let sizes = [40_000, 70_000, 300_000];
    for ((port, host), value) in sizes.map(|size| [(cluster, size), (public, size)]).concat() {
        let mut client = Client::open(port).await;
        let mut block = head("GET", host, "/case");
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

/// A client that acknowledges what it reads, or asks whether the port is there, may do so until it
/// has heard the last word: writing to a connection that is gone would lose it what it has not read.
#[tokio::test]
async fn who_still_writes_when_the_port_has_said_its_last_word_is_read() {
    const ACKNOWLEDGED: u8 = 1;
    let mut ports = Ports::open().await;
    let mut client = Client::open(ports.cluster).await;
    client.send(&get(1, "f.shop", "/fair")).await;
    assert_eq!(client.answered(1).await, Some(STATUS_200));
    ports.leave();
    // It is asked whether it has heard, and makes its last request.
    let asked = client.until(PING, 0).await.unwrap();
    let last = [get(3, "f.shop", "/fair"), frame(PING, ACKNOWLEDGED, 0, &asked.payload)];
    client.send(&last.concat()).await;
    while !client.io.ready(Interest::READABLE).await.unwrap().is_read_closed() {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        assert!(client.send(&frame(PING, 0, 0, &[0; 8])).await, "it is read on");
    }
    assert_eq!(client.answered(3).await, Some(STATUS_200));
    drop(client);
    ports.take_reached();
    ports.close().await;
}
