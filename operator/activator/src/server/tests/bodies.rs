//! What an answer holds while it streams, and that it gives it back however it ends.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use rouse_core::function::Timeouts;
use rouse_core::routing::Listener;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::rig::{self, Rig, channel, data, get, http2_over};

/// A pod that answers `first` and then what `rest` gives.
fn pod_of(rig: &Rig, protocol: Protocol, body: rig::Body) {
    let body = std::sync::Mutex::new(Some(body));
    rig.pod(1, protocol, move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { http::Response::new(body) }.boxed()
    });
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_frees_the_slot_and_the_pod() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        for client in [Protocol::Http1, Protocol::H2c] {
            let rig = Rig::owner();
            let (answer, body) = channel();
            pod_of(&rig, protocol, body);
            answer.send(data("one")).await.unwrap();
            let response = match client {
                Protocol::Http1 => rig.send(get("/")).await,
                Protocol::H2c => {
                    let request = Request::get("http://f.shop/").body(rig::empty()).unwrap();
                    rig.http2().await.send_request(request).await.unwrap()
                }
            };
            rig.in_flight(1).await;
            drop(response);
            answer.closed().await;
            rig.at_rest().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let rig = Rig::owner();
        let (answer, body) = channel();
        pod_of(&rig, protocol, body);
        answer.send(data("one")).await.unwrap();
        let response = rig.send(get("/")).await;
        let mut body: Incoming = response.into_body();
        assert!(body.frame().await.unwrap().is_ok());
        answer.send(Err(io::Error::other("the pod fails"))).await.unwrap();
        assert!(body.frame().await.unwrap().is_err());
        rig.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_too_long_is_cut_off() {
    let rig = Rig::owner();
    let (answer, body) = channel();
    pod_of(&rig, Protocol::Http1, body);
    answer.send(data("one")).await.unwrap();
    let begun = Instant::now();
    let response = rig.send(get("/")).await;
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(begun.elapsed(), rig::timeouts().request);
    answer.closed().await;
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stands_still_is_cut_off() {
    let rig = Rig::owner();
    let idle = Some(Duration::from_secs(5));
    rig.handle.set_timeouts(Timeouts { idle, ..rig::timeouts() });
    let (answer, body) = channel();
    pod_of(&rig, Protocol::Http1, body);
    tokio::spawn(async move {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            answer.send(data("more")).await.unwrap();
        }
        answer.closed().await;
    });
    let begun = Instant::now();
    let response = rig.send(get("/")).await;
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(begun.elapsed(), Duration::from_secs(17));
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_cannot_keep_a_slot() {
    for client in [Protocol::Http1, Protocol::H2c] {
        let rig = Rig::owner();
        let endless =
            futures::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 8192]))));
        pod_of(&rig, Protocol::Http1, BodyExt::boxed(StreamBody::new(endless)));
        let mut io = rig.connect(Listener::Cluster);
        let _kept: Box<dyn std::any::Any> = match client {
            Protocol::Http1 => {
                io.write_all(b"GET / HTTP/1.1\r\nhost: f.shop\r\n\r\n").await.unwrap();
                io.read_exact(&mut [0; 100]).await.unwrap();
                Box::new(io)
            }
            Protocol::H2c => {
                let request = Request::get("http://f.shop/").body(rig::empty()).unwrap();
                let mut sender = http2_over(io).await;
                Box::new((sender.send_request(request).await.unwrap(), sender))
            }
        };
        rig.in_flight(1).await;
        tokio::time::sleep(rig::timeouts().request).await;
        rig.in_flight(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_body_frees_its_slot_with_its_head() {
    for status in [204, 304] {
        let rig = Rig::owner();
        rig.pod(1, Protocol::Http1, move |_| {
            let response = http::Response::builder().status(status).body(rig::empty()).unwrap();
            async { response }.boxed()
        });
        let response = rig.send(get("/")).await;
        assert_eq!(response.status(), status);
        assert_eq!(rig.load().in_flight, 0);
        rig.at_rest().await;
    }
}
