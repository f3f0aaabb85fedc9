//! What every protocol on the client's side must do with every protocol on the pod's.

use futures::FutureExt;
use http::header::HeaderMap;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::hostile::floods::{FLAT, alone, memory};
use super::rig::{self, Body, Rig, channel, data, text};

/// Bytes of one part of the large body, and how many there are.
const PART: usize = 64 * 1024;
const PARTS: usize = 16 * 1024;

/// The four pairs: the client's protocol, the pod's.
const PAIRS: [(Protocol, Protocol); 4] = [
    (Protocol::Http1, Protocol::Http1),
    (Protocol::Http1, Protocol::H2c),
    (Protocol::H2c, Protocol::Http1),
    (Protocol::H2c, Protocol::H2c),
];

/// Sends a request on a connection of its own.
async fn send(rig: &Rig, client: Protocol, mut request: Request<Body>) -> Response<Incoming> {
    match client {
        Protocol::Http1 => {
            request.headers_mut().insert("host", rig::HOST.parse().unwrap());
            rig.http1().await.send_request(request).await.unwrap()
        }
        Protocol::H2c => {
            let uri = format!("http://{}{}", rig::HOST, request.uri());
            *request.uri_mut() = uri.parse().unwrap();
            rig.http2().await.send_request(request).await.unwrap()
        }
    }
}

fn post(body: Body) -> Request<Body> {
    Request::post("/").body(body).unwrap()
}

fn trailers(name: &'static str, value: &str) -> Frame<bytes::Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, value.parse().unwrap());
    Frame::trailers(trailers)
}

#[tokio::test(start_paused = true)]
async fn bodies_with_and_without_a_length_arrive_whole() {
    for (client, pod) in PAIRS {
        let rig = Rig::owner();
        rig.pod(1, pod, |request| {
            async {
                let length = request.headers().get("content-length").cloned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                text(format!("{length:?} {}", String::from_utf8_lossy(&body)))
            }
            .boxed()
        });
        let answer = rig::read(send(&rig, client, post(rig::full("whole"))).await).await;
        assert_eq!(answer, "Some(\"5\") whole", "{client:?} {pod:?}");
        let parts = futures::stream::iter([data("in "), data("parts")]);
        let body = BodyExt::boxed(StreamBody::new(parts));
        let answer = rig::read(send(&rig, client, post(body)).await).await;
        assert_eq!(answer, "None in parts", "{client:?} {pod:?}");
        let answer = rig::read(send(&rig, client, post(rig::full(""))).await).await;
        assert!(answer.ends_with(' '), "{client:?} {pod:?} {answer}");
        rig.at_rest().await;
    }
}

/// As gRPC has them: over HTTP/2 on both sides at any time, over HTTP/1.1 where both sides say so.
#[tokio::test(start_paused = true)]
async fn trailers_arrive_both_ways() {
    for (client, pod) in PAIRS {
        let rig = Rig::owner();
        rig.pod(1, pod, |request| {
            async {
                let body = request.into_body().collect().await.unwrap();
                let sum = body.trailers().and_then(|trailers| trailers.get("x-sum").cloned());
                let sum = sum.map_or("none".into(), |sum| sum.to_str().unwrap().to_owned());
                let frames = [data("Hello"), Ok(trailers("grpc-status", &sum))];
                let body = BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)));
                Response::builder().header("trailer", "grpc-status").body(body).unwrap()
            }
            .boxed()
        });
        let frames = futures::stream::iter([data("Hi"), Ok(trailers("x-sum", "7"))]);
        let request = Request::post("/").header("te", "trailers").header("trailer", "x-sum");
        let request = request.body(BodyExt::boxed(StreamBody::new(frames))).unwrap();
        let body = send(&rig, client, request).await.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "7", "{client:?} {pod:?}");
        assert_eq!(body.to_bytes(), "Hello");
        rig.at_rest().await;
    }
}

/// A gRPC server that refuses at once answers with a head alone.
#[tokio::test(start_paused = true)]
async fn an_answer_of_a_head_alone_is_one() {
    for (client, pod) in PAIRS {
        let rig = Rig::owner();
        rig.pod(1, pod, |_| {
            let head = Response::builder().header("grpc-status", "12");
            async { head.body(rig::empty()).unwrap() }.boxed()
        });
        let response = send(&rig, client, post(rig::full("Hi"))).await;
        assert_eq!(response.headers()["grpc-status"], "12", "{client:?} {pod:?}");
        assert_eq!(rig::read(response).await, "");
        rig.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_arrive_one_by_one() {
    for (client, pod) in PAIRS {
        let rig = Rig::owner();
        let (events, body) = channel();
        let body = std::sync::Mutex::new(Some(body));
        rig.pod(1, pod, move |_| {
            let body = body.lock().unwrap().take().unwrap();
            let head = Response::builder().header("content-type", "text/event-stream");
            async { head.body(body).unwrap() }.boxed()
        });
        let response = send(&rig, client, Request::get("/").body(rig::empty()).unwrap()).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            events.send(data(event)).await.unwrap();
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame, event, "{client:?} {pod:?}");
        }
        drop(body);
        // A client that has heard enough ends it at the pod too.
        events.closed().await;
        rig.at_rest().await;
    }
}

/// `hyper` can't send one on to a client. What follows it is the answer, for all.
#[tokio::test(start_paused = true)]
async fn an_answer_in_between_is_left_out() {
    for client in [Protocol::Http1, Protocol::H2c] {
        let rig = Rig::owner();
        rig.world.listen(rig::address(1), |mut io| {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                while io.read(&mut head).await.is_ok_and(|count| count > 0) {
                    let said = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n\
                                 HTTP/1.1 102 Processing\r\n\r\n\
                                 HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHello";
                    io.write_all(said).await.unwrap();
                }
            });
        });
        rig.gate.open(&rig::pod("pod-1", rig::address(1), Protocol::Http1));
        for _ in 0..2 {
            let response = send(&rig, client, Request::get("/").body(rig::empty()).unwrap()).await;
            assert_eq!(response.status(), 200);
            assert!(!response.headers().contains_key("link"));
            assert_eq!(rig::read(response).await, "Hello");
        }
        rig.at_rest().await;
    }
}

/// The frames of a `WebSocket` are bytes like others, of which either side may say the first.
#[tokio::test(start_paused = true)]
async fn a_pod_may_speak_first_after_a_change_of_protocol() {
    let rig = Rig::owner();
    rig.world.listen(rig::address(1), |mut io| {
        tokio::spawn(async move {
            let mut head = [0; 1024];
            let count = io.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..count]).into_owned();
            assert!(head.contains("upgrade: websocket\r\n"), "{head}");
            assert!(head.contains("sec-websocket-key: eA==\r\n"), "{head}");
            let said = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                         upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n\x81\x02hi";
            io.write_all(said).await.unwrap();
            let mut rest = Vec::new();
            io.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"\x88\x00");
        });
    });
    rig.gate.open(&rig::pod("pod-1", rig::address(1), Protocol::Http1));
    let request = Request::get("/")
        .header("host", rig::HOST)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "eA==")
        .header("sec-websocket-version", "13");
    let mut response = rig.send(request.body(rig::empty()).unwrap()).await;
    assert_eq!(response.status(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut frame = [0; 4];
    io.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\x81\x02hi");
    io.write_all(b"\x88\x00").await.unwrap();
    drop(io);
    rig.at_rest().await;
}

/// A body of any size takes no more memory than the buffers of its connections: far less than what
/// has passed when this ends.
#[tokio::test]
async fn large_bodies_take_no_memory() {
    if !alone("server::tests::pairs::large_bodies_take_no_memory") {
        return;
    }
    for (client, pod) in [(Protocol::Http1, Protocol::Http1), (Protocol::H2c, Protocol::H2c)] {
        let rig = Rig::owner();
        rig.pod(1, pod, rig::echo);
        let part = bytes::Bytes::from(vec![b'x'; PART]);
        let parts = futures::stream::iter((0..PARTS).map(move |_| Ok(Frame::data(part.clone()))));
        let response = send(&rig, client, post(BodyExt::boxed(StreamBody::new(parts)))).await;
        let mut body = response.into_body();
        let (mut bytes, mut before, mut most) = (0, None, 0);
        while let Some(frame) = body.frame().await {
            bytes += frame.unwrap().data_ref().map_or(0, bytes::Bytes::len);
            if bytes > 16 << 20 {
                let before = *before.get_or_insert_with(memory);
                most = most.max(memory().saturating_sub(before));
            }
        }
        assert_eq!(bytes, PARTS * PART);
        assert!(most < FLAT, "{client:?} {pod:?}: {most}");
        rig.at_rest().await;
    }
}
