//! Answers that come: what reaches the pod, what comes back, which connection is used.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use http::Request;
use rouse_core::routing::Listener;
use rouse_crds::v1alpha1::Protocol;
use tokio::time::Instant;

use super::rig::{self, Rig, get, http1_over, post, read, text};
use crate::body::RequestBody;
use crate::headers::{ClientFacts, Origin};
use crate::pod::{Pod, Start};
use crate::server::client;
use crate::server::presence::Presence;

/// A pod that writes down the requests that reach it, head only.
fn recording(rig: &Rig, protocol: Protocol) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    rig.pod(1, protocol, move |request| {
        let mut lines: Vec<String> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        let target = request.uri().to_string();
        lines.insert(0, format!("{} {target} {:?}", request.method(), request.version()));
        record.lock().unwrap().push(lines.join("\n"));
        async { text("Hello") }.boxed()
    });
    seen
}

#[tokio::test(start_paused = true)]
async fn a_request_reaches_the_pod_as_it_was_sent_and_nothing_forged_does() {
    let rig = Rig::owner();
    let seen = recording(&rig, Protocol::Http1);
    let request = Request::builder()
        .method("POST")
        .uri("/a%2Fb/../c?x=%20&y")
        .header("host", "F.shop:80")
        .header("authorization", "Bearer mine")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("x-rouse-function-uid", "forged")
        .header("x-rouse-peer-token", "forged")
        .header("x-forwarded-for", "198.51.100.1")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .body(rig::full("body"))
        .unwrap();
    assert_eq!(read(rig.send(request).await).await, "Hello");
    insta::assert_snapshot!(seen.lock().unwrap()[0]);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_outside_is_not_believed_who_it_is() {
    let rig = Rig::owner();
    let seen = recording(&rig, Protocol::Http1);
    let mut sender = http1_over(rig.connect(Listener::Public)).await;
    let request = Request::builder()
        .uri("/")
        .header("host", "f.shop.fn.example.org")
        .header("x-forwarded-for", "198.51.100.1")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "forged")
        .header("forwarded", "for=198.51.100.1")
        .header("rouse-event", "lambda")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .body(rig::empty())
        .unwrap();
    assert_eq!(read(sender.send_request(request).await.unwrap()).await, "Hello");
    insta::assert_snapshot!(seen.lock().unwrap()[0]);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_cannot_say_what_only_activators_say() {
    let rig = Rig::owner();
    rig.pod(1, Protocol::Http1, |_| {
        async {
            let mut response = text("Hello");
            let headers = response.headers_mut();
            headers.insert("x-rouse-unsent", "not-owner".parse().unwrap());
            headers.insert("connection", "x-own".parse().unwrap());
            headers.insert("x-own", "1".parse().unwrap());
            headers.insert("x-kept", "1".parse().unwrap());
            response
        }
        .boxed()
    });
    let response = rig.send(get("/")).await;
    assert!(!response.headers().contains_key("x-rouse-unsent"));
    assert!(!response.headers().contains_key("x-own"));
    assert_eq!(response.headers()["x-kept"], "1");
    assert_eq!(read(response).await, "Hello");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn connections_to_a_pod_are_used_again_until_they_stood_idle_for_long() {
    let rig = Rig::owner();
    rig.hello(1);
    for _ in 0..3 {
        assert_eq!(rig.get("/").await, (200, "Hello".into()));
        rig::settle().await;
    }
    assert_eq!(rig.world.dials(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(rig.get("/").await, (200, "Hello".into()));
    assert_eq!(rig.world.dials(), 2);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_pod_closed_costs_no_request() {
    let rig = Rig::owner();
    rig.pod(1, Protocol::Http1, |_| {
        async {
            let mut response = text("Hello");
            response.headers_mut().insert("connection", "close".parse().unwrap());
            response
        }
        .boxed()
    });
    for _ in 0..3 {
        assert_eq!(rig.get("/").await, (200, "Hello".into()));
    }
    assert_eq!(rig.world.dials(), 3);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_never_gets_a_request_on_the_connection_of_its_predecessor() {
    let rig = Rig::owner();
    let old = rig.hello(1);
    assert_eq!(rig.get("/").await, (200, "Hello".into()));
    rig.gate.retire(&old.uid);
    rig::serve_pod(&rig.world, rig::address(1), Protocol::Http1, |_| {
        async { text("I am new") }.boxed()
    });
    rig.gate.open(&rig::pod("another", rig::address(1), Protocol::Http1));
    assert_eq!(rig.get("/").await, (200, "I am new".into()));
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_refuses_connections_is_passed_by() {
    let rig = Rig::owner();
    let refusing = rig::pod("refusing", rig::address(9), Protocol::Http1);
    rig.gate.open(&refusing);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    rig.pod(1, Protocol::Http1, move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        rig::echo(request)
    });
    for _ in 0..3 {
        let response = rig.send(post("/", rig::full("whole"))).await;
        assert_eq!(read(response).await, "whole", "the body is not spent on the pod that refuses");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert!(rig.metric("rouse_upstream_connect_failures_total{target=\"pod\"}").unwrap() >= 1.0);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn the_only_pod_is_tried_until_it_accepts() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let rig = Rig::owner();
        rig.gate.configure(rig::bounds(1, 10));
        rig.gate.open(&rig::pod("late", rig::address(1), protocol));
        let world = rig.world.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            rig::serve_pod(&world, rig::address(1), protocol, |_| async { text("late") }.boxed());
        });
        assert_eq!(rig.get("/").await, (200, "late".into()));
        rig.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_waited_for_tells_what_the_wait_was_made_of() {
    let rig = Rig::owner();
    rig::serve_pod(&rig.world, rig::address(1), Protocol::Http1, |_| {
        async {
            let mut response = text("Hello");
            response.headers_mut().insert("server-timing", "db;dur=1".parse().unwrap());
            response
        }
        .boxed()
    });
    let mut sender = rig.http1().await;
    let answer = tokio::spawn(async move { sender.send_request(get("/")).await.unwrap() });
    rig.waiting(1).await;
    tokio::time::advance(Duration::from_millis(250)).await;
    let pod = rig::pod("pod", rig::address(1), Protocol::Http1);
    let pod = Arc::into_inner(pod).unwrap();
    let start = Start { listening: Some(Instant::now()), ..Start::default() };
    rig.gate.open(&Arc::new(Pod { start, ..pod }));
    let response = answer.await.unwrap();
    let timings: Vec<_> = response.headers().get_all("server-timing").iter().collect();
    assert_eq!(timings[0], "db;dur=1");
    assert_eq!(
        timings[1],
        "rouse-wait;dur=250.0, rouse-listen;dur=250.0, rouse-send;dur=250.0, rouse-first-byte;dur=250.0"
    );
    assert_eq!(read(response).await, "Hello");
    assert!(rig.load().activation.unwrap().first_byte.is_some());
    assert_eq!(rig.metric("rouse_activated_requests_total{"), Some(1.0));
    let at_once = rig.send(get("/")).await;
    assert_eq!(at_once.headers().get_all("server-timing").iter().count(), 1);
    drop(at_once);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_and_the_counts_go_with_the_function() {
    let rig = Rig::owner();
    rig.hello(1);
    assert_eq!(rig.get("/").await.0, 200);
    assert_eq!(rig.get("/").await.0, 200);
    rig.at_rest().await;
    let series = "rouse_requests_total{namespace=\"shop\",function=\"f\",code_class=\"2xx\",listener=\"cluster\"}";
    assert_eq!(rig.metric(series), Some(2.0));
    rig.set_table(rouse_core::routing::RouteTable::default());
    let Rig { shared, handle, registry, .. } = rig;
    assert_eq!(Arc::strong_count(&handle), 1, "a deleted Function is held by nobody");
    drop(handle);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(!text.contains("function=\"f\""), "{text}");
    drop(shared);
}

/// A future is moved into a box with each request, and a request that waits takes as much memory.
#[tokio::test]
async fn a_request_on_its_way_takes_little_room() {
    let rig = Rig::owner();
    let client = "192.0.2.7:4711".parse().unwrap();
    let facts = Arc::new(ClientFacts::new(Origin { client, believed: true, secure: false }));
    let request = Request::new(RequestBody::Empty);
    let handled = rig.shared.proxy.handle(request, Listener::Cluster, &facts);
    let size = size_of_val(&handled);
    assert!(size <= 4608, "{size} bytes");
}

/// An idle connection keeps its future, and no buffer.
#[tokio::test]
async fn a_connection_takes_little_room() {
    let rig = Rig::owner();
    let origin =
        Origin { client: "192.0.2.7:4711".parse().unwrap(), believed: true, secure: false };
    let (_near, far) = tokio::io::duplex(1);
    let caller = (Listener::Cluster, origin);
    let served = client::serve(&rig.shared, rig.seat(far), Presence::unknown(), caller);
    let size = size_of_val(&served);
    assert!(size <= 768, "{size} bytes");
}
