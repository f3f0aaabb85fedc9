//! Requests that wait: for a pod, for an owner; and those that stop waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use rouse_core::function::Timeouts;
use rouse_core::routing::Listener;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::rig::{self, Rig, get, post, read, text};
use crate::admission::{Gate, Refusal};
use crate::function::Owner;
use crate::server::presence::Watched;
use crate::server::{client, origin};

/// How soon a client that leaves must be gone from the queue.
const GONE_WITHIN: Duration = Duration::from_millis(100);

/// A pod that counts the requests that reach it.
fn counting(rig: &Rig) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    rig.pod(1, Protocol::Http1, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { text("Hello") }.boxed()
    });
    calls
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_the_queue_is_never_forwarded() {
    for head in [
        "GET / HTTP/1.1\r\nhost: f.shop\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: f.shop\r\ncontent-length: 4\r\n\r\nbody",
    ] {
        let rig = Rig::owner();
        let mut client = rig.connect(Listener::Cluster);
        client.write_all(head.as_bytes()).await.unwrap();
        rig.waiting(1).await;
        let left = Instant::now();
        drop(client);
        rig.waiting(0).await;
        assert!(left.elapsed() <= GONE_WITHIN, "{:?}", left.elapsed());
        let calls = counting(&rig);
        rig.at_rest().await;
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        let gone = "rouse_requests_total{namespace=\"shop\",function=\"f\",code_class=\"gone\"";
        assert_eq!(rig.metric(gone), Some(1.0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_leaves_the_queue() {
    let rig = Rig::owner();
    let mut sender = rig.http2().await;
    let request = http::Request::get("http://f.shop/").body(rig::empty()).unwrap();
    let answer = tokio::spawn(async move { sender.send_request(request).await });
    rig.waiting(1).await;
    let left = Instant::now();
    answer.abort();
    rig.waiting(0).await;
    assert!(left.elapsed() <= GONE_WITHIN, "{:?}", left.elapsed());
    let calls = counting(&rig);
    rig.at_rest().await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_stays_with_its_client_while_the_request_waits() {
    let rig = Rig::owner();
    let mut client = rig.connect(Listener::Cluster);
    let length = 1 << 20;
    let head = format!("POST / HTTP/1.1\r\nhost: f.shop\r\ncontent-length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(client);
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        while count.load(Ordering::SeqCst) < length {
            writer.write_all(&[b'x'; 4096]).await.unwrap();
            count.fetch_add(4096, Ordering::SeqCst);
        }
        std::future::pending::<()>().await;
    });
    rig.waiting(1).await;
    rig::settle().await;
    // What the connection itself holds, and a little that was read with the head.
    assert!(written.load(Ordering::SeqCst) <= 128 * 1024, "{written:?}");
    rig.pod(1, Protocol::Http1, |request| {
        async move {
            let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap();
            text(body.to_bytes().len().to_string())
        }
        .boxed()
    });
    let mut answer = vec![0; 1024];
    let count = reader.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.ends_with("\r\n\r\n1048576"), "{answer}");
    drop(reader);
    rig.in_flight(0).await;
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_an_owner_and_follow_it() {
    let mut rig = Rig::new(rig::World::default());
    let mut sender = rig.http1().await;
    let body = rig::full("whole");
    let answer = tokio::spawn(async move { sender.send_request(post("/", body)).await.unwrap() });
    rig::eventually("it waits for an owner", || rig.metric("rouse_requests_queued{") == Some(1.0))
        .await;
    rig.own();
    rig.waiting(1).await;
    rig.gate.shut(Refusal::Moved);
    rig::settle().await;
    rig.own_anew();
    rig.waiting(1).await;
    rig.pod(1, Protocol::Http1, rig::echo);
    assert_eq!(read(answer.await.unwrap()).await, "whole");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_moves_before_it_says_so_is_followed_too() {
    let rig = Rig::owner();
    let shut = Gate::new(rig::bounds(0, 1));
    shut.shut(Refusal::Moved);
    rig.handle.set_owner(Owner::Here(shut));
    let mut sender = rig.http1().await;
    let answer = tokio::spawn(async move { sender.send_request(get("/")).await.unwrap() });
    rig::settle().await;
    rig.hello(1);
    rig.own();
    assert_eq!(read(answer.await.unwrap()).await, "Hello");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn every_wait_has_an_end() {
    let timeouts = Timeouts { activation: Duration::from_secs(7), ..rig::timeouts() };
    let nobody = Rig::new(rig::World::default());
    let no_pod = Rig::owner();
    let refusing = Rig::owner();
    refusing.gate.open(&rig::pod("refusing", rig::address(1), Protocol::Http1));
    for (rig, status, kind) in [
        (nobody, 503, "no-owner"),
        (no_pod, 504, "activation-timeout"),
        (refusing, 502, "not-connected"),
    ] {
        rig.handle.set_timeouts(timeouts);
        let begun = Instant::now();
        let (got, problem) = rig.get("/").await;
        assert_eq!(got, status, "{problem}");
        assert!(problem.contains(&format!("problems/{kind}\"")), "{problem}");
        assert_eq!(begun.elapsed(), timeouts.activation);
        rig.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_answer_in_time_is_said_to_be_late() {
    let (short, long) = (Duration::from_secs(3), Duration::from_secs(9));
    for (request, named) in [(long, "spec.timeouts.firstByte"), (short, "spec.timeouts.request")] {
        for protocol in [Protocol::Http1, Protocol::H2c] {
            let rig = Rig::owner();
            rig.handle.set_timeouts(Timeouts { first_byte: short, request, ..rig::timeouts() });
            rig.pod(1, protocol, |_| std::future::pending().boxed());
            let begun = Instant::now();
            let (status, problem) = rig.get("/").await;
            assert_eq!(status, 504);
            assert!(problem.contains(named), "{problem}");
            assert_eq!(begun.elapsed(), short);
            rig.at_rest().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_run_is_not_sent_again() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let rig = Rig::owner();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let (world, at) = (rig.world.clone(), rig::address(1));
        // Reads the head and goes.
        world.listen(at, move |mut io| {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                match protocol {
                    Protocol::Http1 => drop(io.read(&mut [0; 4096]).await),
                    Protocol::H2c => {
                        let mut connection = h2::server::handshake(io).await.unwrap();
                        drop(connection.accept().await.unwrap().unwrap());
                        connection.abrupt_shutdown(h2::Reason::INTERNAL_ERROR);
                        drop(connection.accept().await);
                    }
                }
                counted.fetch_add(1, Ordering::SeqCst);
            });
        });
        rig.gate.open(&rig::pod("broken", at, protocol));
        let (status, problem) = rig.get("/").await;
        assert_eq!(status, 502, "{problem}");
        assert!(problem.contains("problems/pod-broke\""), "{problem}");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        rig.at_rest().await;
    }
}

/// Over a real socket: it is the socket that tells, and at once; timers add what the clock says.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_behind_an_unread_body_leaves_the_queue() {
    for more in ["", "expect: 100-continue\r\n"] {
        let rig = Rig::owner();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (served, from) = listener.accept().await.unwrap();
        let (io, presence) = Watched::new(served);
        let io = rig.seat(io);
        let shared = Arc::clone(&rig.shared);
        let serving = tokio::spawn(async move {
            let caller = (Listener::Cluster, origin(&shared, Listener::Cluster, from, false));
            client::serve(&shared, io, presence, caller).await;
        });
        let head = "POST / HTTP/1.1\r\nhost: f.shop\r\ncontent-length: 10000000\r\n";
        client.write_all(format!("{head}{more}\r\n").as_bytes()).await.unwrap();
        rig.waiting(1).await;
        if more.is_empty() {
            client.write_all(&[b'x'; 16_000]).await.unwrap();
        }
        drop(client);
        sleep(GONE_WITHIN).await;
        assert_eq!(rig.load().waiting, 0, "{more}");
        serving.await.unwrap();
        let calls = counting(&rig);
        rig.at_rest().await;
        assert_eq!(calls.load(Ordering::SeqCst), 0);
    }
}
