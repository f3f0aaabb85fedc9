//! What a pod is never sent: more than its limit, as the pod counts, where requests that nobody wants
//! any more are in it until it has noticed; and what was meant for another that had its address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::rig::{self, Rig, get};

/// How long the pod takes to notice that nobody wants an answer.
const NOTICES: Duration = Duration::from_secs(5);

/// A pod that does not answer its first request, and counts what it has at once.
fn slow_pod(rig: &Rig) -> Arc<AtomicU32> {
    let (running, most) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let (seen, first) = (Arc::clone(&most), Arc::new(AtomicU32::new(1)));
    rig.world.listen(rig::address(1), move |mut io| {
        let (running, most, first) = (running.clone(), most.clone(), first.clone());
        tokio::spawn(async move {
            let mut head = [0; 1024];
            while io.read(&mut head).await.is_ok_and(|read| read > 0) {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if first.swap(0, Ordering::SeqCst) == 1 {
                    while io.read(&mut head).await.is_ok_and(|read| read > 0) {}
                    sleep(NOTICES).await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
                drop(io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await);
            }
        });
    });
    rig.gate.configure(rig::bounds(1, 100));
    rig.gate.open(&rig::pod("pod-1", rig::address(1), Protocol::Http1));
    seen
}

#[tokio::test(start_paused = true)]
async fn a_limited_pod_gets_nothing_new_before_it_is_done_with_what_was_given_up() {
    let rig = Rig::owner();
    let most = slow_pod(&rig);
    let mut sender = rig.http1().await;
    let first = tokio::spawn(async move { drop(sender.send_request(get("/")).await) });
    rig.in_flight(1).await;
    sleep(Duration::from_secs(1)).await;
    let left = Instant::now();
    first.abort();
    let (status, _) = rig.get("/").await;
    assert_eq!((status, left.elapsed()), (200, NOTICES));
    for _ in 0..3 {
        assert_eq!(rig.get("/").await.0, 200);
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
    rig.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_passes_to_another_pod_gets_nothing_of_the_former_one() {
    let rig = Rig::owner();
    // The dial takes as long as it takes the pod to go, and another to have its address.
    let (dialled, goes) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, waits) = (Arc::clone(&dialled), Arc::clone(&goes));
    let calls = Arc::<AtomicU32>::default();
    let counted = Arc::clone(&calls);
    rig.world.listen_slowly(rig::address(1), async move {
        told.notify_one();
        waits.notified().await;
    });
    rig.world.listen(rig::address(1), move |io| {
        counted.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let mut io = io;
            let mut head = [0; 1024];
            assert_eq!(io.read(&mut head).await.unwrap(), 0, "another pod gets no byte of it");
        });
    });
    rig.gate.open(&rig::pod("former", rig::address(1), Protocol::Http1));
    let mut sender = rig.http1().await;
    let answer = tokio::spawn(async move { sender.send_request(get("/")).await.unwrap() });
    dialled.notified().await;
    rig.gate.retire("former");
    goes.notify_one();
    sleep(Duration::from_millis(10)).await;
    rig.hello(2);
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    rig.at_rest().await;
}
