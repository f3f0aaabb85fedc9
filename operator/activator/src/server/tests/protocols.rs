//! HTTP/1.1 and HTTP/2 on both sides, and what only one of them has.

use std::io;
use std::sync::Arc;

use futures::FutureExt;
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rouse_core::routing::Listener;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{self, Rig, channel, data, get, post, read, text};

fn trailers(name: &'static str) -> Frame<bytes::Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, "0".parse().unwrap());
    Frame::trailers(trailers)
}

/// Answers with the host, the target and the protocol that reached the pod.
#[allow(clippy::needless_pass_by_value, reason = "the signature is that of a handler")]
fn mirror(request: Request<hyper::body::Incoming>) -> rig::Answer {
    let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
    let authority = request.uri().authority().map(ToString::to_string);
    let target = request.uri().path_and_query().map(ToString::to_string);
    let version = request.version();
    async move { text(format!("{host:?} {authority:?} {target:?} {version:?}")) }.boxed()
}

#[tokio::test(start_paused = true)]
async fn host_and_path_survive_every_change_of_protocol() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let rig = Rig::owner();
        rig.pod(1, protocol, mirror);
        let expected = match protocol {
            Protocol::Http1 => r#"Some("f.shop:81") None Some("/a%20b?c") HTTP/1.1"#,
            Protocol::H2c => r#"None Some("f.shop:81") Some("/a%20b?c") HTTP/2.0"#,
        };
        let http1 = Request::get("/a%20b?c").header("host", "f.shop:81").body(rig::empty());
        let response = rig.http1().await.send_request(http1.unwrap()).await.unwrap();
        assert_eq!(read(response).await, expected);
        let absolute = Request::get("http://f.shop:81/a%20b?c").header("host", "f.shop:81");
        let absolute = absolute.body(rig::empty()).unwrap();
        let response = rig.http1().await.send_request(absolute).await.unwrap();
        assert_eq!(read(response).await, expected);
        let http2 = Request::get("http://f.shop:81/a%20b?c").body(rig::empty()).unwrap();
        let response = rig.http2().await.send_request(http2).await.unwrap();
        assert_eq!(read(response).await, expected);
        rig.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_both_ways_over_http2() {
    let rig = Rig::owner();
    rig.pod(1, Protocol::H2c, |request| {
        async move {
            assert_eq!(request.headers()["te"], "trailers");
            let body = request.into_body().collect().await.unwrap();
            let sum = body.trailers().unwrap()["x-sum"].clone();
            assert_eq!(sum, "0");
            let frames = [data("Hello"), Ok(trailers("grpc-status"))];
            let stream = futures::stream::iter(frames);
            Response::new(BodyExt::boxed(http_body_util::StreamBody::new(stream)))
        }
        .boxed()
    });
    let frames = futures::stream::iter([data("Hi"), Ok(trailers("x-sum"))]);
    let body = BodyExt::boxed(http_body_util::StreamBody::new(frames));
    let request = Request::post("http://f.shop/").header("te", "trailers").body(body).unwrap();
    let response = rig.http2().await.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "Hello");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_over_http1_where_both_sides_know_them() {
    let rig = Rig::owner();
    rig.pod(1, Protocol::Http1, |_| {
        async move {
            let frames = futures::stream::iter([data("Hello"), Ok(trailers("x-sum"))]);
            let body = BodyExt::boxed(http_body_util::StreamBody::new(frames));
            Response::builder().header("trailer", "x-sum").body(body).unwrap()
        }
        .boxed()
    });
    let mut request = get("/");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let response = rig.send(request).await;
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "0");
    // The connection to the pod has ended its answer well and serves the next.
    rig::settle().await;
    assert_eq!(rig.get("/").await.0, 200);
    assert_eq!(rig.world.dials(), 1);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn the_head_alone_keeps_the_length_of_the_whole() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let rig = Rig::owner();
        rig.pod(1, protocol, |request| {
            assert_eq!(request.method(), "HEAD");
            async { Response::builder().header("content-length", "42").body(rig::empty()).unwrap() }
                .boxed()
        });
        for _ in 0..2 {
            let head = Request::head("/").header("host", rig::HOST).body(rig::empty()).unwrap();
            let response = rig.http1().await.send_request(head).await.unwrap();
            assert_eq!(response.headers()["content-length"], "42");
            assert_eq!(read(response).await, "");
        }
        let head = Request::head("http://f.shop/").body(rig::empty()).unwrap();
        let response = rig.http2().await.send_request(head).await.unwrap();
        assert_eq!(response.headers()["content-length"], "42");
        assert_eq!(read(response).await, "");
        rig.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_go_on_only_once_a_pod_has_its_request() {
    let rig = Rig::owner();
    let mut client = rig.connect(Listener::Cluster);
    let head =
        b"POST / HTTP/1.1\r\nhost: f.shop\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head).await.unwrap();
    rig.waiting(1).await;
    let mut read = vec![0; 1024];
    assert!(client.read(&mut read).now_or_never().is_none(), "nothing is said while it waits");
    rig.pod(1, Protocol::Http1, |request| {
        assert!(!request.headers().contains_key("expect"));
        async { text(request.into_body().collect().await.unwrap().to_bytes()) }.boxed()
    });
    let count = client.read(&mut read).await.unwrap();
    assert_eq!(&read[..count], b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    let count = client.read(&mut read).await.unwrap();
    let answer = String::from_utf8_lossy(&read[..count]);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("body"), "{answer}");
    drop(client);
    rig.at_rest().await;
}

/// A pod that changes to the protocol `echo` and sends back what it reads.
pub fn tunnelling(mut request: Request<hyper::body::Incoming>) -> rig::Answer {
    assert_eq!(request.headers()["upgrade"], "echo");
    assert_eq!(request.headers()["connection"], "upgrade");
    tokio::spawn(async move {
        let mut io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        let mut read = [0; 64];
        while let Ok(count @ 1..) = io.read(&mut read).await {
            io.write_all(&read[..count]).await.unwrap();
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .header("sec-websocket-accept", "x")
        .body(rig::empty())
        .unwrap();
    async { response }.boxed()
}

pub fn upgrading() -> Request<rig::Body> {
    let request = Request::get("/").header("host", rig::HOST);
    request.header("connection", "Upgrade").header("upgrade", "echo").body(rig::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_leaves_http_keeps_its_slot_until_it_closes() {
    let rig = Rig::owner();
    rig.pod(1, Protocol::Http1, tunnelling);
    let mut response = rig.send(upgrading()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "echo");
    assert_eq!(response.headers()["sec-websocket-accept"], "x");
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut read = [0; 5];
    for word in [b"hello", b"again"] {
        io.write_all(word).await.unwrap();
        io.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, word);
    }
    rig.in_flight(1).await;
    drop(io);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_leaves_http_ends_with_the_time_of_its_request() {
    let rig = Rig::owner();
    rig.pod(1, Protocol::Http1, tunnelling);
    let mut response = rig.send(upgrading()).await;
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let begun = tokio::time::Instant::now();
    assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), rig::timeouts().request);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_may_decline_to_change_the_protocol() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let rig = Rig::owner();
        rig.hello(1);
        rig.gate.retire("pod-1");
        rig.pod(1, protocol, |_| async { text("stay") }.boxed());
        let response = rig.send(upgrading()).await;
        assert_eq!((response.status().as_u16(), read(response).await), (200, "stay".into()));
        rig.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_one_connection_of_http2() {
    let rig = Rig::owner();
    rig.pod(1, Protocol::H2c, rig::echo);
    let sender = rig.http2().await;
    let calls = (0..50).map(|i| {
        let mut sender = sender.clone();
        async move {
            let request = Request::post("http://f.shop/").body(rig::full(format!("{i}"))).unwrap();
            assert_eq!(read(sender.send_request(request).await.unwrap()).await, format!("{i}"));
        }
    });
    futures::future::join_all(calls).await;
    assert_eq!(rig.world.dials(), 1);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn bodies_stream_both_ways_at_once() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let rig = Arc::new(Rig::owner());
        rig.pod(1, protocol, rig::echo);
        let (upload, body) = channel();
        upload.send(data("one")).await.unwrap();
        let response = rig.send(post("/", body)).await;
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        upload.send(data("two")).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
        drop(upload);
        assert!(body.frame().await.is_none());
        rig.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_reaches_the_pod_as_broken() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let rig = Rig::owner();
        let (seen, mut saw) = tokio::sync::mpsc::channel(1);
        rig.pod(1, protocol, move |request| {
            let seen = seen.clone();
            async move {
                let read = request.into_body().collect().await;
                seen.send(read.is_err()).await.unwrap();
                text("")
            }
            .boxed()
        });
        let (upload, body) = channel();
        let mut sender = rig.http1().await;
        let answer = tokio::spawn(async move { sender.send_request(post("/", body)).await });
        upload.send(data("one")).await.unwrap();
        rig.in_flight(1).await;
        upload.send(Err(io::Error::other("the client fails"))).await.unwrap();
        assert!(saw.recv().await.unwrap(), "a short body must not look whole");
        assert!(answer.await.unwrap().is_err());
        rig.at_rest().await;
    }
}
