//! The same bytes of a client, read plainly and by `hyper`: the client gets the same answers, byte by
//! byte, and the pod the same requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures::FutureExt;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use rouse_core::routing::Listener;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::rig::{self, Rig, data, empty, full, text};

/// Requests that are tried by their own, and joined by chance.
const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "GET /a?b=%20 HTTP/1.1\r\nHost: f.shop\r\nAccept: */*\r\nX-A: 1\r\nx-a: 2\r\nempty:\r\n\r\n",
    "GET /large HTTP/1.1\r\nhost: f.shop\r\nconnection: Keep-Alive\r\n\r\n",
    "GET /chunked HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "GET /nothing HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "GET /unchanged HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "GET /empty HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "GET /closes HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "GET /fails HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "GET /a HTTP/1.1\r\nhost: f.shop.fn.example.org\r\ncookie: a=1\r\ncookie: b=2\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\nx-forwarded-for: 9.9.9.9\r\nx-rouse-function: g.shop\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: nobody\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\nhost: g.shop\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.0\r\nhost: f.shop\r\n\r\n",
    "GET / HTTP/1.0\r\nhost: f.shop\r\nconnection: keep-alive\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\nconnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\nconnection: x-a\r\nx-a: 1\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\nte: trailers\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\ncontent-length: 3\r\n\r\nabc",
    "GET / HTTP/1.1\r\nhost: f.shop\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "GET / HTTP/1.1\nhost: f.shop\n\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\nx: a\r\n b\r\n\r\n",
    "GET / HTTP/1.1\r\nhost : f.shop\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: f.shop\r\nx: \x01\r\n\r\n",
    "GET /\u{e9} HTTP/1.1\r\nhost: f.shop\r\nx: \u{e9}\r\n\r\n",
    "GET /#a HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "GET //f.shop/a HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "GET http://f.shop/a HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "HEAD / HTTP/1.1\r\nhost: f.shop\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: f.shop\r\ncontent-length: 2\r\n\r\nok",
    "OPTIONS * HTTP/1.1\r\nhost: f.shop\r\n\r\n",
];

/// How bytes are sent.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    /// So many at a time.
    Of(usize),
    /// One request after the other, each as soon as the one before was sent.
    AtOnce,
    /// One request after the other, each when the one before was answered.
    Waiting,
}

fn answer(path: &str) -> Response<rig::Body> {
    let mut response = match path {
        "/large" => text("x".repeat(100_000)),
        "/chunked" => {
            let frames = futures::stream::iter([data("Hel"), data("lo")]);
            Response::new(BodyExt::boxed(StreamBody::new(frames)))
        }
        "/nothing" | "/unchanged" | "/empty" | "/closes" => Response::new(empty()),
        "/fails" => Response::new(full("oh")),
        _ => text("Hello"),
    };
    *response.status_mut() = match path {
        "/nothing" => StatusCode::NO_CONTENT,
        "/unchanged" => StatusCode::NOT_MODIFIED,
        "/fails" => StatusCode::from_u16(599).unwrap(),
        _ => StatusCode::OK,
    };
    if path == "/closes" {
        response.headers_mut().insert("connection", "close".parse().unwrap());
    }
    response.headers_mut().append("x-b", "1".parse().unwrap());
    response.headers_mut().append("x-b", "2".parse().unwrap());
    response
}

/// What the client hears and what the pod is asked when `requests` are sent.
async fn tried(
    requests: &[Bytes],
    pieces: Pieces,
    listener: Listener,
    plainly: bool,
) -> (String, Vec<String>) {
    let rig = Rig::owner();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&asked);
    rig.pod(1, Protocol::Http1, move |request| {
        let seen = Arc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes);
            let mut fields = head.headers;
            for random in ["traceparent", "x-request-id"] {
                assert_eq!(fields.get_all(random).iter().count(), 1);
                fields.remove(random);
            }
            let asked = format!("{} {} {fields:?} {body:?}", head.method, head.uri);
            seen.lock().unwrap().push(asked);
            answer(head.uri.path())
        }
        .boxed()
    });
    let (mut near, mut sending) = tokio::io::split(if plainly {
        rig.connect(listener)
    } else {
        rig.connect_to_hyper(listener)
    });
    let mut heard = Vec::new();
    let sent: Vec<Bytes> = match pieces {
        Pieces::Of(count) => requests.concat().chunks(count).map(Bytes::copy_from_slice).collect(),
        Pieces::AtOnce | Pieces::Waiting => requests.to_vec(),
    };
    for piece in sent {
        // The port may have closed by now.
        drop(sending.write_all(&piece).await);
        if !matches!(pieces, Pieces::AtOnce) {
            listen(&mut near, &mut heard, Duration::from_millis(1)).await;
        }
    }
    listen(&mut near, &mut heard, Duration::from_secs(5)).await;
    drop((near, sending));
    rig.at_rest().await;
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    (without_dates(&heard), asked)
}

/// Takes what comes until nothing does.
async fn listen(near: &mut (impl AsyncReadExt + Unpin), heard: &mut Vec<u8>, patience: Duration) {
    while let Ok(Ok(1..)) = timeout(patience, near.read_buf(heard)).await {}
}

fn without_dates(heard: &[u8]) -> String {
    let text = String::from_utf8_lossy(heard);
    let lines = text.split("\r\n").map(|line| line.split_once("date: ").map_or(line, |_| "date"));
    lines.collect::<Vec<_>>().join("\r\n")
}

async fn check(requests: &[Bytes], pieces: Pieces, listener: Listener) {
    let plain = tried(requests, pieces, listener, true).await;
    let other = tried(requests, pieces, listener, false).await;
    assert_eq!(plain, other, "{pieces:?} {listener:?} {requests:?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_a_client_says_is_understood_in_one_way() {
    for request in REQUESTS.iter().map(|request| Bytes::from_static(request.as_bytes())) {
        for pieces in [Pieces::Of(7), Pieces::AtOnce, Pieces::Waiting] {
            for listener in [Listener::Cluster, Listener::Public] {
                let plain = Bytes::from_static(REQUESTS[0].as_bytes());
                check(&[plain.clone(), request.clone(), plain], pieces, listener).await;
                check(std::slice::from_ref(&request), pieces, listener).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn by_chance_nothing_else_is_found() {
    let seed = 20_261_124;
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    for _ in 0..400 {
        let mut requests: Vec<Vec<u8>> = (0..rng.usize(1..4))
            .map(|_| REQUESTS[rng.usize(..REQUESTS.len())].as_bytes().to_vec())
            .collect();
        for request in &mut requests {
            for _ in 0..rng.usize(0..3) {
                let at = rng.usize(..request.len());
                match rng.u8(0..3) {
                    0 => drop(request.remove(at)),
                    1 => request[at] = b"\0\t\r\n :,\x7f\xff0aA"[rng.usize(..12)],
                    _ => request.insert(at, rng.u8(..)),
                }
            }
        }
        let requests: Vec<Bytes> = requests.into_iter().map(Bytes::from).collect();
        let pieces = match rng.u8(0..3) {
            0 => Pieces::Of(rng.usize(1..200)),
            1 => Pieces::AtOnce,
            _ => Pieces::Waiting,
        };
        check(&requests, pieces, Listener::Cluster).await;
    }
}
