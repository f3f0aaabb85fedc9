//! Requests that are turned away, each with a document that says why.

use std::sync::Arc;

use http::Request;
use rouse_core::routing::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::rig::{self, Rig, get, http1_over};
use crate::admission::{Refusal, StartFailure};

/// Sends `request` as it stands and reads the whole answer.
async fn raw(rig: &Rig, listener: Listener, request: &str) -> String {
    let mut client = rig.connect(listener);
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64 * 1024];
    let count = client.read(&mut answer).await.unwrap();
    answer.truncate(count);
    String::from_utf8(answer).unwrap()
}

async fn cluster(rig: &Rig, request: &str) -> String {
    raw(rig, Listener::Cluster, request).await
}

#[tokio::test(start_paused = true)]
async fn a_request_that_says_two_things_is_refused() {
    let rig = Rig::owner();
    rig.hello(1);
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: f.shop\r\nhost: f.shop\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: f.shop\r\nhost: g.shop\r\n\r\n",
        "GET http://g.shop/ HTTP/1.1\r\nhost: f.shop\r\n\r\n",
        "GET http://user@f.shop/ HTTP/1.1\r\nhost: f.shop\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: f.shop/x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user@f.shop\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: f.shop:x\r\n\r\n",
    ] {
        let answer = cluster(&rig, request).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{request} {answer}"
        );
    }
    let mut request = Request::get("http://f.shop/").body(rig::empty()).unwrap();
    request.headers_mut().insert("host", "g.shop".parse().unwrap());
    let response = rig.http2().await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 400);
    let answer = cluster(&rig, "GET http://F.shop/ HTTP/1.1\r\nhost: f.SHOP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_nobody_has_is_not_found() {
    let rig = Rig::owner();
    rig.hello(1);
    for (listener, host, status) in [
        (Listener::Cluster, "g.shop", 404),
        (Listener::Cluster, "f", 421),
        (Listener::Public, "f", 404),
        (Listener::Public, "f.shop", 404),
        (Listener::Public, "f.shop.svc.cluster.local", 404),
        (Listener::Public, "f.shop.fn.example.org", 200),
        (Listener::Public, "api.example.com", 404),
    ] {
        let mut sender = http1_over(rig.connect(listener)).await;
        let request = Request::get("/").header("host", host).body(rig::empty()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{listener:?} {host}");
    }
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn methods_that_are_not_offered_are_refused_with_those_that_are() {
    let rig = Rig::owner();
    rig.hello(1);
    let answer = cluster(&rig, "PUT /v1 HTTP/1.1\r\nhost: api.example.com\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("\r\nallow: GET\r\n"), "{answer}");
    let answer = cluster(&rig, "CONNECT f.shop:80 HTTP/1.1\r\nhost: f.shop:80\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let answer = cluster(&rig, "BREW / HTTP/1.1\r\nhost: f.shop\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "a method of the user's own: {answer}");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn headers_have_a_limit() {
    let rig = Rig::owner();
    rig.hello(1);
    let long = "x".repeat(40 * 1024);
    let answer =
        cluster(&rig, &format!("GET / HTTP/1.1\r\nhost: f.shop\r\nx: {long}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(answer.contains("problems/headers-too-large"), "{answer}");
    let many = "x: y\r\n".repeat(97);
    let answer = cluster(&rig, &format!("GET / HTTP/1.1\r\nhost: f.shop\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let far_too_many = "x: y\r\n".repeat(500);
    let answer =
        cluster(&rig, &format!("GET / HTTP/1.1\r\nhost: f.shop\r\n{far_too_many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut request = Request::get("http://f.shop/").body(rig::empty()).unwrap();
    request.headers_mut().insert("x", long.parse().unwrap());
    let response = rig.http2().await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 431);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_turns_away_at_once_and_harms_nobody() {
    let rig = Rig::owner();
    rig.gate.configure(rig::bounds(0, 1));
    let mut sender = rig.http1().await;
    let waiting = tokio::spawn(async move { sender.send_request(get("/")).await.unwrap() });
    rig.waiting(1).await;
    let response = rig.send(get("/")).await;
    assert_eq!(response.status(), 503);
    let after: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&after), "{after}");
    assert!(rig::read(response).await.contains("problems/queue-full\""));
    rig.hello(1);
    assert_eq!(rig::read(waiting.await.unwrap()).await, "Hello");
    let problems = "rouse_problems_total{problem=\"queue-full\",listener=\"cluster\"}";
    assert_eq!(rig.metric(problems), Some(1.0));
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_and_a_deletion_answer_those_who_wait() {
    let rig = Rig::owner();
    let mut sender = rig.http1().await;
    let waiting = tokio::spawn(async move { sender.send_request(get("/")).await.unwrap() });
    rig.waiting(1).await;
    let message = "the image can't be pulled: no such tag".into();
    rig.gate.fail(Arc::new(StartFailure { reason: "ImagePullFailed", message }));
    let response = waiting.await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "10");
    let problem: serde_json::Value = serde_json::from_str(&rig::read(response).await).unwrap();
    assert_eq!(problem["reason"], "ImagePullFailed");
    assert!(problem["detail"].as_str().unwrap().contains("no such tag"), "{problem}");
    rig.gate.shut(Refusal::Gone);
    let (status, problem) = rig.get("/").await;
    assert_eq!(status, 404);
    assert!(problem.contains("problems/function-deleted\""), "{problem}");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_read_by_a_client_that_is_still_sending() {
    let rig = Rig::owner();
    rig.gate.shut(Refusal::Gone);
    let length = 512 * 1024;
    let mut sender = rig.http1().await;
    for _ in 0..2 {
        // The connection is of use even after a body that nobody wanted.
        sender.ready().await.unwrap();
        let body = rig::full(vec![b'x'; length]);
        let response = sender.send_request(rig::post("/", body)).await.unwrap();
        assert_eq!(response.status(), 404);
        drop(rig::read(response).await);
    }
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_that_nobody_wants_ends_the_connection() {
    let rig = Rig::owner();
    rig.gate.shut(Refusal::Gone);
    let mut client = rig.connect(Listener::Cluster);
    let head = "POST / HTTP/1.1\r\nhost: f.shop\r\ncontent-length: 100000000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 1024];
    let count = client.read(&mut answer).await.unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 404 "));
    let begun = Instant::now();
    let mut sent = 0;
    while client.write_all(&[b'x'; 8192]).await.is_ok() {
        sent += 8192;
    }
    assert!((1 << 20..2 << 20).contains(&sent), "{sent}");
    assert_eq!(begun.elapsed().as_secs(), 0);
    rig.at_rest().await;
}
