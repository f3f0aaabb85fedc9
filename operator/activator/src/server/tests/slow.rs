//! Clients that take their time, and bodies that are too large: each has its bound, and says so.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rouse_core::function::{RequestRules, Timeouts};
use rouse_core::routing::Listener;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::rig::{self, Rig, address, channel, data, get, http2_over, post, read, text};

/// A pod that reads what it is sent and says how much that was.
fn counting(rig: &Rig) {
    rig.pod(1, Protocol::Http1, |request| {
        async move {
            let read = request.into_body().collect().await;
            text(read.map_or("broken".into(), |body| body.to_bytes().len().to_string()))
        }
        .boxed()
    });
}

fn limited(rig: &Rig, limit: u64) {
    rig.handle.set_rules(RequestRules { body_limit: Some(limit), access_log: false });
}

#[tokio::test(start_paused = true)]
async fn a_body_that_says_that_it_is_too_large_reaches_no_pod() {
    let rig = Rig::owner();
    limited(&rig, 10);
    let response = rig.send(post("/", rig::full("eleven byte"))).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let problem = read(response).await;
    assert!(
        problem.contains("problems/body-too-large\"") && problem.contains("10 bytes"),
        "{problem}"
    );
    assert_eq!(rig.load().peak, 0, "it has not even waited for one");
    counting(&rig);
    let response = rig.send(post("/", rig::full("ten  bytes"))).await;
    assert_eq!(read(response).await, "10");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_turns_out_too_large_is_broken_off() {
    for client in [Protocol::Http1, Protocol::H2c] {
        for protocol in [Protocol::Http1, Protocol::H2c] {
            let rig = Rig::owner();
            limited(&rig, 10);
            rig.pod(1, protocol, |request| {
                async move {
                    assert!(request.into_body().collect().await.is_err(), "it must not look whole");
                    text("")
                }
                .boxed()
            });
            let (upload, body) = channel();
            upload.send(data("ten  bytes")).await.unwrap();
            let response = match client {
                Protocol::Http1 => {
                    let mut sender = rig.http1().await;
                    tokio::spawn(async move { sender.send_request(post("/", body)).await })
                }
                Protocol::H2c => {
                    let mut sender = rig.http2().await;
                    let request = Request::post("http://f.shop/").body(body).unwrap();
                    tokio::spawn(async move { sender.send_request(request).await })
                }
            };
            rig.in_flight(1).await;
            upload.send(data("!")).await.unwrap();
            let response = response.await.unwrap().unwrap();
            assert_eq!(response.status(), 413, "{client:?} {protocol:?}");
            rig.at_rest().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stands_still_is_broken_off() {
    let limits = [(None, 60), (Some(Duration::from_secs(5)), 5)];
    let ports = [(Listener::Cluster, "f.shop"), (Listener::Public, "f.shop.fn.example.org")];
    for ((idle, limit), (port, host)) in
        limits.map(|limit| ports.map(|port| (limit, port))).concat()
    {
        let rig = Rig::owner();
        rig.handle.set_timeouts(Timeouts { idle, ..rig::timeouts() });
        counting(&rig);
        let mut client = rig.connect(port);
        let head = format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 100\r\n\r\nbegun");
        client.write_all(head.as_bytes()).await.unwrap();
        // As long as something comes it may take its time.
        for _ in 0..3 {
            sleep(Duration::from_millis(limit * 1000 - 10)).await;
            client.write_all(b".").await.unwrap();
        }
        let still = Instant::now();
        let mut answer = vec![0; 1024];
        let count = client.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("problems/body-stalled\""), "{answer}");
        assert_eq!(still.elapsed().as_secs(), limit);
        rig.at_rest().await;
    }
}

/// Wherever the body came in, it is broken off there, and the answer says why.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_passed_on_is_held_to_the_same() {
    let owner = Rig::owner();
    counting(&owner);
    let near = Rig::new(owner.world.clone());
    near.give_to(&owner.join("owner", address(9)));
    limited(&near, 10);
    for (more, status) in [(true, 413), (false, 408)] {
        let (upload, body) = channel();
        upload.send(data("ten  bytes")).await.unwrap();
        let mut sender = near.http1().await;
        let response = tokio::spawn(async move { sender.send_request(post("/", body)).await });
        owner.in_flight(1).await;
        if more {
            upload.send(data("!")).await.unwrap();
        }
        assert_eq!(response.await.unwrap().unwrap().status(), status);
        owner.at_rest().await;
        near.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_stands_still_is_closed() {
    let rig = Rig::owner();
    let idle = Some(Duration::from_secs(8));
    rig.handle.set_timeouts(Timeouts { idle, ..rig::timeouts() });
    rig.pod(1, Protocol::Http1, super::protocols::tunnelling);
    let mut response = rig.send(super::protocols::upgrading()).await;
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut io = hyper_util::rt::TokioIo::new(upgraded);
    let mut word = [0; 5];
    for _ in 0..5 {
        sleep(Duration::from_secs(6)).await;
        io.write_all(b"hello").await.unwrap();
        io.read_exact(&mut word).await.unwrap();
    }
    let still = Instant::now();
    assert_eq!(io.read(&mut word).await.unwrap(), 0);
    assert!((8..=10).contains(&still.elapsed().as_secs()), "{:?}", still.elapsed());
    rig.at_rest().await;
}

/// Both sides of a stream of HTTP/2 may be silent for as long as they like.
#[tokio::test(start_paused = true)]
async fn a_stream_may_stand_still() {
    let rig = Rig::owner();
    rig.pod(1, Protocol::H2c, rig::echo);
    let (upload, body) = channel();
    upload.send(data("one")).await.unwrap();
    let request = Request::post("http://f.shop/").body(body).unwrap();
    let response = rig.http2().await.send_request(request).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    sleep(Duration::from_mins(4)).await;
    upload.send(data("two")).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    drop(upload);
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
    rig.at_rest().await;
}

/// The pod's port is asked by nobody while heads come byte by byte.
#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_cut_off() {
    let rig = Rig::owner();
    for listener in [Listener::Cluster, Listener::Public] {
        let mut client = rig.connect(listener);
        let begun = Instant::now();
        let mut head =
            b"GET / HTTP/1.1\r\nhost: f.shop\r\nx: ".iter().chain(std::iter::repeat(&b'y'));
        while client.write_all(&[*head.next().unwrap()]).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
        assert!((28..=33).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }
    assert_eq!(rig.load().peak, 0);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn connections_that_stand_idle_are_closed_in_time() {
    let rig = Rig::owner();
    rig.hello(1);
    let member = rig.join("a", address(9));
    let peer: std::net::SocketAddr = member.peer.parse().unwrap();
    let silent =
        [rig.connect(Listener::Cluster), rig.connect(Listener::Public), rig.world.dial(peer)];
    for mut client in silent {
        let begun = Instant::now();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
        assert!(begun.elapsed() <= Duration::from_secs(32), "{:?}", begun.elapsed());
    }
    let begun = Instant::now();
    let mut http1 = rig.http1().await;
    drop(read(http1.send_request(get("/")).await.unwrap()).await);
    while !http1.is_closed() {
        sleep(Duration::from_secs(1)).await;
    }
    assert!((118..=123).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let begun = Instant::now();
    let mut http2 = rig.http2().await;
    let request = Request::get("http://f.shop/").body(rig::empty()).unwrap();
    drop(read(http2.send_request(request).await.unwrap()).await);
    while !http2.is_closed() {
        sleep(Duration::from_secs(1)).await;
    }
    assert!((118..=130).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_client_takes_nothing_is_cut_off() {
    let http1 = b"GET / HTTP/1.1\r\nhost: f.shop\r\n\r\n".to_vec();
    // One of HTTP/2 is found out before, by the pings that it does not answer.
    for (greedy, patience) in [(http1, 58), (super::hostile::frames::greedy("f.shop"), 18)] {
        let rig = Rig::owner();
        rig.pod(1, Protocol::Http1, move |_| {
            let part = Bytes::from_static(&[b'x'; 8192]);
            let parts = futures::stream::repeat_with(move || Ok(Frame::data(part.clone())));
            async { http::Response::new(BodyExt::boxed(StreamBody::new(parts))) }.boxed()
        });
        let mut client = rig.connect(Listener::Cluster);
        client.write_all(&greedy).await.unwrap();
        rig.in_flight(1).await;
        sleep(Duration::from_secs(patience)).await;
        rig.in_flight(1).await;
        sleep(Duration::from_secs(62 - patience)).await;
        assert_eq!(rig.load().in_flight, 0, "long before the request's own time is over");
        drop(client);
        rig.at_rest().await;
    }
}

/// Events that come now and then are no idleness.
#[tokio::test(start_paused = true)]
async fn an_idle_stream_keeps_its_connection() {
    let rig = Rig::owner();
    let (answer, body) = channel();
    let body = std::sync::Mutex::new(Some(body));
    rig.pod(1, Protocol::Http1, move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { http::Response::new(body) }.boxed()
    });
    let mut sender = http2_over(rig.connect(Listener::Cluster)).await;
    let request = Request::get("http://f.shop/").body(rig::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let mut body = response.into_body();
    for _ in 0..4 {
        sleep(Duration::from_mins(1)).await;
        answer.send(data("event")).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "event");
    }
    drop(answer);
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
    rig.at_rest().await;
}
