//! HTTP/1.1: messages that two readers may understand in two ways, and such as are too much.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Ports, exchange, exchange_as_peer};

/// What becomes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Answered with that status by the port itself, and the connection closed.
    Refused(u16),
    /// It reaches the pod as one request that nobody can read in two ways.
    Once,
    /// It reaches the pod, whose request breaks off with the body: the client gets that status, or
    /// none.
    BreaksOff,
}

use Fate::{BreaksOff, Once, Refused};

/// The request that is hidden behind another.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: HOST\r\n\r\n";

/// Cases of which each begins with a line and a host.
const SMUGGLING: &[(&str, &str, Fate)] = &[
    // By RFC 9112, 6.3 the coding counts and the connection ends: what follows is no request.
    (
        "both, the length first",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Once,
    ),
    (
        "both, the coding first",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\nHIDDEN",
        Once,
    ),
    ("an unknown coding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\nHIDDEN", Refused(400)),
    ("identity", "transfer-encoding: identity\r\ncontent-length: 5\r\n\r\nHIDDEN", Refused(400)),
    (
        "chunked and then another",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\nHIDDEN",
        Refused(400),
    ),
    (
        "another and then chunked",
        "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused(400),
    ),
    ("chunked twice", "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\nHIDDEN", Refused(400)),
    (
        "two codings in two fields",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused(400),
    ),
    (
        "chunked in two fields",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused(400),
    ),
    (
        "a coding with a parameter",
        "transfer-encoding: chunked;q=0.5\r\n\r\n0\r\n\r\nHIDDEN",
        Refused(400),
    ),
    ("a coding in quotes", "transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\nHIDDEN", Refused(400)),
    (
        "a coding behind a vertical tab",
        "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused(400),
    ),
    ("a coding behind a NUL", "transfer-encoding: \0chunked\r\n\r\n0\r\n\r\nHIDDEN", Refused(400)),
    ("no coding", "transfer-encoding:\r\n\r\n0\r\n\r\nHIDDEN", Refused(400)),
    (
        "a blank before the colon of the coding",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused(400),
    ),
    ("a blank before the colon of the length", "content-length : 5\r\n\r\nHIDDEN", Refused(400)),
    ("a tab before a colon", "x\t: y\r\ncontent-length: 0\r\n\r\nHIDDEN", Refused(400)),
    ("a blank before a name", " content-length: 44\r\n\r\nHIDDEN", Refused(400)),
    ("a folded field", "x: a\r\n b\r\n\r\nHIDDEN", Refused(400)),
    ("a folded coding", "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\nHIDDEN", Refused(400)),
    ("a folded length", "content-length:\r\n\t5\r\n\r\nHIDDEN", Refused(400)),
    ("a field without a colon", "nonsense\r\n\r\nHIDDEN", Refused(400)),
    ("a field without a name", ": y\r\n\r\nHIDDEN", Refused(400)),
    ("a name with a blank", "x y: z\r\n\r\nHIDDEN", Refused(400)),
    ("a name with a NUL", "x\0: z\r\n\r\nHIDDEN", Refused(400)),
    ("a value with a NUL", "x: \0\r\n\r\nHIDDEN", Refused(400)),
    ("a bare CR in a value", "x: a\rcontent-length: 5\r\n\r\nHIDDEN", Refused(400)),
    ("a bare CR at the end of a line", "x: a\r\rcontent-length: 5\r\n\r\nHIDDEN", Refused(400)),
    ("two lengths", "content-length: 5\r\ncontent-length: 44\r\n\r\nHIDDEN", Refused(400)),
    ("a list of lengths", "content-length: 5, 5\r\n\r\nHIDDEN", Refused(400)),
    ("a length with a sign", "content-length: +5\r\n\r\nHIDDEN", Refused(400)),
    ("a length below zero", "content-length: -5\r\n\r\nHIDDEN", Refused(400)),
    ("a hexadecimal length", "content-length: 0x5\r\n\r\nHIDDEN", Refused(400)),
    ("a length with a blank", "content-length: 5 5\r\n\r\nHIDDEN", Refused(400)),
    ("a length with a fraction", "content-length: 5.0\r\n\r\nHIDDEN", Refused(400)),
    ("no length", "content-length: \r\n\r\nHIDDEN", Refused(400)),
    (
        "a length of more than 64 bits",
        "content-length: 18446744073709551616\r\n\r\nHIDDEN",
        Refused(400),
    ),
    (
        "a length of a chunk with a sign",
        "transfer-encoding: chunked\r\n\r\n+5\r\nabcde\r\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a length of a chunk below zero",
        "transfer-encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a length of a chunk with a prefix",
        "transfer-encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a length of a chunk of more than 64 bits",
        "transfer-encoding: chunked\r\n\r\n10000000000000005\r\nabcde\r\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a chunk without a length",
        "transfer-encoding: chunked\r\n\r\n\r\nabcde\r\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a chunk whose length is too small",
        "transfer-encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a bare LF after a length of a chunk",
        "transfer-encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a bare LF in an extension of a chunk",
        "transfer-encoding: chunked\r\n\r\n5;a\nabcde\r\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a bare CR in an extension of a chunk",
        "transfer-encoding: chunked\r\n\r\n5;a\rb\r\nabcde\r\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a chunk that ends with a bare LF",
        "transfer-encoding: chunked\r\n\r\n5\r\nabcde\n0\r\n\r\nHIDDEN",
        BreaksOff,
    ),
    (
        "a trailer with a blank before the colon",
        "transfer-encoding: chunked\r\n\r\n0\r\nx : y\r\n\r\nHIDDEN",
        BreaksOff,
    ),
];

async fn each(ports: &Ports, cases: &[(&str, &str, Fate)]) {
    for (port, host) in ports.for_callers() {
        for (name, rest, fate) in cases {
            let rest = rest.replace("HIDDEN", HIDDEN).replace("HOST", host);
            let request = format!("POST /case HTTP/1.1\r\nhost: {host}\r\n{rest}");
            let answer = exchange(port, request.as_bytes()).await;
            judge(&format!("{name} at {host}"), &answer, &ports.take_reached(), *fate);
        }
    }
}

fn judge(name: &str, answer: &str, reached: &[String], fate: Fate) {
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
    match fate {
        Refused(status) => {
            assert_eq!(statuses, [status.to_string()], "{name}: {answer}");
            assert!(reached.is_empty(), "{name}: {reached:?}");
        }
        Once => {
            assert_eq!(statuses, ["200"], "{name}: {answer}");
            assert_eq!(reached, ["/case"], "{name}");
        }
        BreaksOff => {
            assert!(statuses.iter().all(|s| *s == "400"), "{name}: {answer}");
            assert!(statuses.len() <= 1, "{name}: {answer}");
            assert!(reached.iter().all(|target| target == "/case"), "{name}: {reached:?}");
        }
    }
}

#[tokio::test]
async fn nothing_is_hidden_behind_a_request() {
    let ports = Ports::open().await;
    each(&ports, SMUGGLING).await;
    ports.serves().await;
    ports.close().await;
}

/// As RFC 9112, 2.2 lets it, a bare LF ends a line. What reaches the pod is framed anew, so that
/// nobody behind reads it in another way.
#[tokio::test]
async fn a_bare_line_feed_ends_a_line_and_nothing_else() {
    let ports = Ports::open().await;
    each(
        &ports,
        &[
            ("all lines", "connection: close\n\n", Once),
            (
                "a coding behind one",
                "x: a\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\nHIDDEN",
                Once,
            ),
            (
                "a second length behind one",
                "x: a\ncontent-length: 44\r\ncontent-length: 5\r\n\r\nHIDDEN",
                Refused(400),
            ),
        ],
    )
    .await;
    ports.serves().await;
    ports.close().await;
}

#[tokio::test]
async fn lengths_that_agree_are_one() {
    let ports = Ports::open().await;
    let cases = [
        ("twice", "connection: close\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nabcde", Once),
        ("with zeros", "connection: close\r\ncontent-length: 0005\r\n\r\nabcde", Once),
        (
            "in capitals",
            "connection: close\r\nTRANSFER-ENCODING: ChUnKeD\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            Once,
        ),
    ];
    each(&ports, &cases).await;
    ports.serves().await;
    ports.close().await;
}

#[tokio::test]
async fn lines_and_targets_that_are_none_are_refused() {
    let ports = Ports::open().await;
    let long = "x".repeat(20_000);
    let endless = "x".repeat(70_000);
    for (port, host) in ports.for_callers() {
        for (line, fate) in [
            ("GET  /case HTTP/1.1", Refused(400)),
            ("GET /case  HTTP/1.1", Refused(400)),
            ("GET /case HTTP/1.1 ", Refused(400)),
            ("GET\t/case\tHTTP/1.1", Refused(400)),
            ("GET /case HTTP/1.2", Refused(400)),
            ("GET /case HTTP/2.0", Refused(400)),
            ("GET /case http/1.1", Refused(400)),
            ("GET /case", Refused(400)),
            ("G@T /case HTTP/1.1", Refused(400)),
            ("GET /ca se HTTP/1.1", Refused(400)),
            ("GET /ca\0se HTTP/1.1", Refused(400)),
            ("GET case HTTP/1.1", Refused(400)),
            ("GET ftp://HOST/case HTTP/1.1", Refused(400)),
            ("GET http://other.shop/case HTTP/1.1", Refused(400)),
            ("GET http://HOST:80/case HTTP/1.1", Refused(400)),
            ("GET http://u:p@HOST/case HTTP/1.1", Refused(400)),
            ("GET http:///case HTTP/1.1", Refused(400)),
            ("CONNECT HOST:80 HTTP/1.1", Refused(405)),
            ("GET /LONG HTTP/1.1", Refused(414)),
            ("GET /case?LONG HTTP/1.1", Refused(414)),
            ("GET /ENDLESS HTTP/1.1", Refused(431)),
            ("GET http://HOST/case HTTP/1.1", Once),
            ("GET https://HOST/case HTTP/1.1", Once),
        ] {
            let full =
                line.replace("HOST", host).replace("LONG", &long).replace("ENDLESS", &endless);
            let request = format!("{full}\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            let answer = exchange(port, request.as_bytes()).await;
            judge(&format!("{line} at {host}"), &answer, &ports.take_reached(), fate);
        }
        let request = format!("GET /{long} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = exchange(port, request.as_bytes()).await;
        assert!(answer.contains("content-type: application/problem+json"), "{answer}");
        assert!(answer.contains("problems/target-too-long"), "{answer}");
    }
    ports.serves().await;
    ports.close().await;
}

#[tokio::test]
async fn heads_have_limits() {
    let ports = Ports::open().await;
    for (port, host) in ports.for_callers() {
        for (name, fields, has_document) in [
            ("a long value", format!("x: {}\r\n", "y".repeat(40_000)), true),
            ("a long name", format!("{}: y\r\n", "x".repeat(40_000)), true),
            ("many fields", "x: y\r\n".repeat(98), true),
            ("far too many fields", "x: y\r\n".repeat(1000), false),
            ("no end of a field", "x: y".repeat(50_000), false),
            ("no end of fields", "x: y\r\n".repeat(200_000), false),
        ] {
            let request =
                format!("GET /case HTTP/1.1\r\nhost: {host}\r\n{fields}connection: close\r\n\r\n");
            let answer = exchange(port, request.as_bytes()).await;
            // A connection that is closed with bytes unread may take the answer with it.
            if has_document || !answer.is_empty() {
                judge(name, &answer, &ports.take_reached(), Refused(431));
            }
            assert_eq!(answer.contains("problems/headers-too-large"), has_document, "{name}");
        }
    }
    ports.serves().await;
    ports.close().await;
}

/// The peer port answers nobody who does not prove who he is, whatever he says.
#[tokio::test]
async fn the_port_for_peers_lets_nobody_in() {
    let ports = Ports::open().await;
    for (name, rest, fate) in SMUGGLING {
        let rest = rest.replace("HIDDEN", HIDDEN).replace("HOST", "f.shop");
        let request = format!("POST /case HTTP/1.1\r\nhost: f.shop\r\nconnection: close\r\n{rest}");
        let answer = exchange_as_peer(ports.peer, request.as_bytes()).await;
        let status = if let Refused(400) = fate { "HTTP/1.1 4" } else { "HTTP/1.1 401 " };
        assert!(answer.starts_with(status), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        assert!(ports.take_reached().is_empty(), "{name}");
    }
    ports.serves().await;
    ports.close().await;
}

#[tokio::test]
async fn what_only_activators_say_is_said_by_nobody_else() {
    let ports = Ports::open().await;
    let forged = "x-rouse-function: f.shop\r\nx-rouse-function-uid: uid-f\r\n\
                  x-rouse-peer-token: forged\r\nx-rouse-arrived-ago-ms: 1\r\n";
    for (port, host) in ports.for_callers() {
        let request =
            format!("GET /case HTTP/1.1\r\nhost: {host}\r\n{forged}connection: close\r\n\r\n");
        let answer = exchange(port, request.as_bytes()).await;
        judge("forged", &answer, &ports.take_reached(), Once);
        assert!(!answer.contains("x-rouse"), "{answer}");
        let request = format!("GET /case HTTP/1.1\r\nhost: nobody.shop\r\n{forged}\r\n");
        let answer =
            exchange(port, request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes())
                .await;
        judge("an unknown host", &answer, &ports.take_reached(), Refused(404));
    }
    let request =
        format!("GET /case HTTP/1.1\r\nhost: f.shop\r\n{forged}connection: close\r\n\r\n");
    let answer = exchange_as_peer(ports.peer, request.as_bytes()).await;
    judge("at the peer port", &answer, &ports.take_reached(), Refused(401));
    ports.serves().await;
    ports.close().await;
}

/// Asking to leave HTTP takes nobody past what is checked, and what is sent with it is a request
/// like any.
#[tokio::test]
async fn changes_of_protocol_are_asked_for_in_vain() {
    let ports = Ports::open().await;
    for (port, host) in ports.for_callers() {
        for upgrade in [
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n",
            "connection: upgrade\r\nupgrade: TLS/1.0\r\n",
            "upgrade: websocket\r\n",
        ] {
            let request = format!("GET /case HTTP/1.1\r\nhost: {host}\r\n{upgrade}\r\n");
            let next = format!("GET /next HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            let answer = exchange(port, format!("{request}{next}").as_bytes()).await;
            assert!(!answer.contains("HTTP/1.1 101"), "{upgrade}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{upgrade}: {answer}");
            assert_eq!(ports.take_reached(), ["/case", "/next"], "{upgrade}");
        }
    }
    ports.serves().await;
    ports.close().await;
}

/// Whoever fills a port with connections that say nothing, or never end what they say, goes first.
#[tokio::test]
async fn idle_connections_make_room_for_others() {
    let ports = Ports::with(64, Duration::ZERO).await;
    for (port, host) in ports.for_callers() {
        let begun = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx: ");
        let mut idle = Vec::new();
        for i in 0..640 {
            let mut client = TcpStream::connect(port).await.unwrap();
            if i % 2 == 0 {
                drop(client.write_all(begun.as_bytes()).await);
            }
            idle.push(client);
            if i % 64 == 0 {
                ports.serves().await;
            }
        }
        ports.serves().await;
        let mut open = 0;
        for client in &mut idle {
            let read = timeout(Duration::from_millis(1), client.read(&mut [0])).await;
            open += usize::from(read.is_err());
        }
        assert!(open <= 64, "{open}");
    }
    let evicted = ports.rig.metric("rouse_downstream_dismissals_total{reason=\"evicted\"}");
    assert!(evicted.is_some_and(|count| count >= 1000.0), "{evicted:?}");
    ports.close().await;
}
