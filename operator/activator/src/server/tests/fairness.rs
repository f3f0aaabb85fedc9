//! What the Functions of one activator do to one another: nothing.

use std::time::Duration;

use futures::FutureExt;
use http::Request;
use http_body_util::BodyExt;
use rouse_core::function::BufferBounds;
use rouse_core::routing::Listener;
use rouse_crds::v1alpha1::Protocol;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::rig::{self, Rig, World, get, http2_over, read, text};

const SERVICE: Duration = Duration::from_millis(8);

/// Calls `g` in small bursts, which its only pod takes one at a time; answers how long each call
/// took, from the shortest to the longest.
async fn call_other(rig: &Rig) -> Vec<Duration> {
    let mut calls = JoinSet::new();
    for burst in 0..100 {
        for _ in 0..=(burst % 5) {
            let mut sender = rig.http1().await;
            calls.spawn(async move {
                let begun = Instant::now();
                let request = Request::get("/").header("host", "g.shop").body(rig::empty());
                let response = sender.send_request(request.unwrap()).await.unwrap();
                assert_eq!(response.status(), 200, "g has its share");
                assert_eq!(read(response).await, "g");
                begun.elapsed()
            });
        }
        sleep(Duration::from_millis(30)).await;
    }
    let mut took = calls.join_all().await;
    took.sort_unstable();
    took
}

/// Calls `f`, which has no pod, with as many requests as a hundred callers can make.
async fn flood(rig: &Rig) -> JoinSet<()> {
    let mut flood = JoinSet::new();
    for _ in 0..10 {
        let sender = http2_over(rig.connect(Listener::Cluster)).await;
        for _ in 0..10 {
            let mut sender = sender.clone();
            flood.spawn(async move {
                loop {
                    let request = Request::get("http://f.shop/").body(rig::empty()).unwrap();
                    let response = sender.send_request(request).await.unwrap();
                    assert_eq!(response.status(), 503);
                    drop(response.into_body().collect().await);
                    sleep(Duration::from_millis(5)).await;
                }
            });
        }
    }
    flood
}

/// An activator in which 60 requests may wait, with a second Function, `g`, that has a pod.
fn two_functions() -> Rig {
    let rig = Rig::with_buffer(World::default(), BufferBounds { requests: 60, bytes: 1 << 20 });
    rig.own();
    let gate = rig.second_function("g");
    gate.configure(rig::bounds(1, 100));
    rig::serve_pod(&rig.world, rig::address(1), Protocol::Http1, |_| {
        async {
            sleep(SERVICE).await;
            text("g")
        }
        .boxed()
    });
    gate.open(&rig::pod("pod-of-g", rig::address(1), Protocol::Http1));
    rig
}

#[tokio::test(start_paused = true)]
async fn the_flood_of_one_function_leaves_anothers_calls_as_fast() {
    let alone = call_other(&two_functions()).await;
    let rig = two_functions();
    let flood = flood(&rig).await;
    rig.waiting(20).await;
    let beside = call_other(&rig).await;
    assert_eq!(rig.load().waiting, 20, "the flood has a third of the buffer, and no more");
    let p99 = |took: &[Duration]| took[took.len() * 99 / 100];
    assert!(p99(&alone) >= 4 * SERVICE, "calls do wait: {:?}", p99(&alone));
    let ratio = p99(&beside).as_secs_f64() / p99(&alone).as_secs_f64();
    assert!(ratio <= 1.1, "p99 {:?} beside the flood, {:?} alone", p99(&beside), p99(&alone));
    drop(flood);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_activator_that_is_full_says_so_where_the_request_came_in() {
    let few = BufferBounds { requests: 3, bytes: 1 << 20 };
    let world = World::default();
    let far = Rig::new(world.clone());
    far.own();
    for forwards in [true, false] {
        let rig = Rig::with_buffer(world.clone(), few);
        if forwards {
            rig.give_to(&far.join("far", rig::address(100)));
        } else {
            rig.own();
        }
        let mut sender = rig.http1().await;
        let waiting = tokio::spawn(async move { sender.send_request(get("/")).await });
        rig::eventually("it waits", || rig.metric("rouse_requests_queued{") == Some(1.0)).await;
        let response = rig.send(get("/")).await;
        assert_eq!(response.status(), 503);
        let after = response.headers()["retry-after"].to_str().unwrap().to_owned();
        assert!((1..=3).contains(&after.parse::<u64>().unwrap()), "{after}");
        assert!(read(response).await.contains("problems/activator-full\""));
        waiting.abort();
        rig.at_rest().await;
    }
}

fn held(rig: &Rig) -> f64 {
    rig.metric("rouse_buffered_bytes{").unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn what_was_read_of_a_body_counts_as_held() {
    for (head, body, from, to) in [
        ("GET / HTTP/1.1\r\nhost: f.shop\r\n\r\n", 0, 4096.0, 4200.0),
        ("POST / HTTP/1.1\r\nhost: f.shop\r\ncontent-length: 6000\r\n\r\n", 6000, 10096.0, 10296.0),
    ] {
        let rig = Rig::owner();
        let mut client = rig.connect(Listener::Cluster);
        client.write_all(&[head.as_bytes(), &vec![b'x'; body]].concat()).await.unwrap();
        rig.waiting(1).await;
        assert!((from..to).contains(&held(&rig)), "{}", held(&rig));
        rig.hello(1);
        rig.at_rest().await;
        assert!(held(&rig).abs() < 0.5);
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_on_http2_count_as_far_as_they_may_come() {
    let rig = Rig::owner();
    let http2 = http2_over(rig.connect(Listener::Cluster)).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let (mut sender, (upload, body)) = (http2.clone(), rig::channel());
        let request = Request::post("http://f.shop/").body(body).unwrap();
        answers.push(tokio::spawn(async move {
            let _open = upload;
            sender.send_request(request).await
        }));
    }
    rig.waiting(3).await;
    // A stream's window each.
    assert!((768.0..800.0).contains(&(held(&rig) / 1024.0)), "{}", held(&rig));
    for answer in answers {
        answer.abort();
    }
    rig.at_rest().await;
}
