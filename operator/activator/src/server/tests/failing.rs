//! Pods that fail: what was certainly not sent goes elsewhere, and whoever fails is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{self, Rig, World, get, post, read, text};

/// Kinds of frames of HTTP/2 (RFC 9113, 6).
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// How a pod says that it did not look at a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refuses {
    /// `RST_STREAM` with `REFUSED_STREAM`.
    TheStream,
    /// `GOAWAY`, with a last stream before it.
    ByGoing,
}

impl Refuses {
    fn frame(self, stream: [u8; 4]) -> Vec<u8> {
        match self {
            Self::TheStream => [&[0, 0, 4, 3, 0], &stream[..], &[0, 0, 0, 7]].concat(),
            Self::ByGoing => [&[0, 0, 8, 7, 0][..], &[0; 12]].concat(),
        }
    }
}

/// What listens at `last` reads heads of requests and refuses each; counts them.
fn refusing(world: &World, last: u8, refuses: Refuses) -> Arc<AtomicUsize> {
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heads);
    world.listen(rig::address(last), move |mut io| {
        let counted = Arc::clone(&counted);
        tokio::spawn(async move {
            io.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
            io.read_exact(&mut [0; 24]).await.unwrap();
            let mut head = [0; 9];
            while io.read_exact(&mut head).await.is_ok() {
                let [a, b, c, kind, flags, stream @ ..] = head;
                io.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize])
                    .await
                    .unwrap();
                match kind {
                    SETTINGS if flags == 0 => {
                        io.write_all(&[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0]).await.unwrap();
                    }
                    HEADERS => {
                        counted.fetch_add(1, Ordering::SeqCst);
                        io.write_all(&refuses.frame(stream)).await.unwrap();
                    }
                    _ => {}
                }
            }
        });
    });
    heads
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_goes_to_another_pod_with_its_body() {
    for refuses in [Refuses::TheStream, Refuses::ByGoing] {
        let rig = Rig::owner();
        let heads = refusing(&rig.world, 9, refuses);
        rig.gate.open(&rig::pod("refusing", rig::address(9), Protocol::H2c));
        rig.pod(1, Protocol::H2c, rig::echo);
        let response = rig.send(post("/", rig::full("whole"))).await;
        assert_eq!(response.status(), 200);
        assert_eq!(read(response).await, "whole");
        assert_eq!(heads.load(Ordering::SeqCst), 1);
        assert_eq!(rig.metric("rouse_retries_total{"), Some(1.0));
        assert_eq!(rig.metric("rouse_ejections_total{"), Some(0.0), "whoever refuses is there");
        rig.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_that_all_refuse_are_not_asked_for_ever() {
    let rig = Rig::owner();
    let heads = refusing(&rig.world, 9, Refuses::TheStream);
    rig.gate.open(&rig::pod("refusing", rig::address(9), Protocol::H2c));
    let response = rig.send(get("/")).await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert!(read(response).await.contains("problems/stream-refused\""));
    assert_eq!(heads.load(Ordering::SeqCst), 4);
    let mut answers = Vec::new();
    for _ in 0..100 {
        answers.push(rig.get("/").await.0);
    }
    assert!(answers.iter().all(|status| *status == 503));
    let asked = heads.load(Ordering::SeqCst) - 4;
    assert!(asked <= 100 + 10 + 25, "a share of the requests is tried again: {asked}");
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_dead_is_not_hammered_and_serves_all_once_it_is_back() {
    let rig = Rig::owner();
    rig.gate.open(&rig::pod("dead", rig::address(1), Protocol::Http1));
    let mut answers = Vec::new();
    for _ in 0..50 {
        let mut sender = rig.http1().await;
        answers.push(tokio::spawn(async move { sender.send_request(get("/")).await.unwrap() }));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let dials = rig.world.dials();
    assert!((50..=50 + 100).contains(&dials), "50 at once, then one every 250 ms: {dials}");
    rig::serve_pod(&rig.world, rig::address(1), Protocol::Http1, |_| {
        async { text("Hello") }.boxed()
    });
    for answer in answers {
        assert_eq!(read(answer.await.unwrap()).await, "Hello");
    }
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_breaks_off_again_and_again_is_ejected() {
    let rig = Rig::owner();
    rig.world.listen(rig::address(9), |mut io| {
        tokio::spawn(async move { drop(io.read(&mut [0; 4096]).await) });
    });
    rig.gate.open(&rig::pod("breaking", rig::address(9), Protocol::Http1));
    rig.hello(1);
    let mut broken = 0;
    for _ in 0..50 {
        broken += u32::from(rig.get("/").await.0 == 502);
    }
    assert_eq!(broken, 3);
    assert_eq!(rig.metric("rouse_ejections_total{"), Some(1.0));
    rig.at_rest().await;
}
