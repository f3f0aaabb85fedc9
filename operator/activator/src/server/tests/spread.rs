//! Two activators, one of which follows the other over a real stream and sends straight to the pods
//! of its Function.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rouse_core::function::FunctionKey;
use rouse_core::membership::Member;
use rouse_core::spread::{LEASE, VALID};
use rouse_crds::v1alpha1::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::protocols::{tunnelling, upgrading};
use super::rig::{self, Rig, channel, data, get, read, text};
use crate::admission::{Gate, Refusal};
use crate::forward::{PeerDialer, Streams};
use crate::observe::index::{FunctionView, Observed, PodView};
use crate::observe::objects::PodSeen;
use crate::proxy::ProxyConfig;
use crate::scaler::tests::plant::settings;
use crate::spread::follow::{self, Follow};

/// `near` follows `far`.
struct Pair {
    near: Rig,
    far: Rig,
    member: Member,
    gate: Arc<Gate>,
    observed: watch::Sender<Arc<Observed>>,
    task: AbortHandle,
}

/// Pods 1 and 2 exist.
fn pair() -> Pair {
    let (near, far, member) = rig::pair();
    near.handle.shortcut().allow(true);
    let gate = Gate::new(rig::bounds(0, 100));
    gate.shut(Refusal::Moved);
    let (observed, seen) = watch::channel(Arc::new(observe(&[1, 2])));
    let ProxyConfig { token_file, dialer, connector, .. } = near.config.clone();
    let streams = Arc::new(Streams::new(token_file, PeerDialer::new(dialer, connector)));
    let follow = Follow {
        handle: Arc::clone(&near.handle),
        gate: Arc::clone(&gate),
        owner: Arc::new(member.clone()),
        me: "uid-near".into(),
        observed: seen,
        connect: Arc::new(move |member, subscribe| {
            Arc::clone(&streams).open(member, subscribe).boxed()
        }),
    };
    let task = tokio::spawn(follow::run(follow)).abort_handle();
    Pair { near, far, member, gate, observed, task }
}

fn observe(pods: &[u8]) -> Observed {
    let pod = |last: &u8| {
        let uid: Arc<str> = format!("pod-{last}").into();
        let seen = PodSeen {
            memory: 64 << 20,
            uid: Arc::clone(&uid),
            namespace: "shop".into(),
            name: uid,
            function_uid: "uid-f".into(),
            revision: "r".into(),
            made: Timestamp::from_second(1).ok(),
            scheduled: true,
            address: Some(rig::address(*last)),
            protocol: Protocol::Http1,
            code: None,
            control_port: 8079,
            going: false,
            ready: true,
            running: true,
            exits: 0,
            failure: None,
            deletion_cost: 0,
            claim: None,
        };
        let (created, scheduled, addressed, failing) = (None, None, None, None);
        Arc::new(PodView { seen, created, scheduled, addressed, failing })
    };
    let function = FunctionView {
        key: FunctionKey::new("shop", "f"),
        uid: "uid-f".into(),
        settings: settings(0, 0, 4),
        latest_ready: None,
        latest_created: None,
        learned: None,
    };
    let pods = pods.iter().map(pod).collect();
    Observed {
        function: Arc::new(function),
        deployments: Vec::new(),
        pods,
        ticks: Vec::new(),
        membership: 1,
    }
}

impl Pair {
    fn straight(&self) -> u32 {
        let count = self.near.metric("rouse_straight_requests_total").unwrap();
        format!("{count}").parse().unwrap()
    }

    /// Lets the streams say what there is to say.
    async fn settle(&self) {
        sleep(Duration::from_millis(50)).await;
        self.far.gate.tell_followers(None);
        sleep(Duration::from_millis(50)).await;
    }

    async fn at_rest(&self) {
        self.near.at_rest().await;
        self.far.at_rest().await;
        assert_eq!(self.gate.load().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_warm_function_is_sent_to_without_its_owner() {
    let pair = pair();
    pair.far.hello(1);
    pair.settle().await;
    for _ in 0..10 {
        assert_eq!(pair.near.get("/").await, (200, "Hello".into()));
    }
    assert_eq!(pair.straight(), 10);
    assert_eq!(pair.near.metric("rouse_forwards_total{outcome=\"answered\"}"), Some(0.0));
    assert_eq!(pair.far.metric("rouse_requests_total"), None, "the owner had none of them");
    sleep(Duration::from_secs(1)).await;
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn the_owner_counts_what_is_in_flight_elsewhere_and_waits_for_it() {
    let pair = pair();
    let (answer, body) = channel();
    let body = std::sync::Mutex::new(Some(body));
    pair.far.pod(1, Protocol::Http1, move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { http::Response::new(body) }.boxed()
    });
    pair.settle().await;
    let response = pair.near.send(get("/")).await;
    pair.far.gate.close("pod-1");
    let pod = || pair.far.gate.load().pods[0].clone();
    assert!(pod().awaited, "nobody has been told yet");
    sleep(Duration::from_secs(1)).await;
    pair.far.gate.tell_followers(None);
    sleep(Duration::from_millis(100)).await;
    assert_eq!((pod().awaited, pod().in_flight), (false, 1));
    assert!(pair.near.handle.shortcut().admit().is_none());
    answer.send(data("done")).await.unwrap();
    drop(answer);
    assert_eq!(read(response).await, "done");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pod().in_flight, 0);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_left_http_counts_as_a_request() {
    let pair = pair();
    pair.far.pod(1, Protocol::Http1, tunnelling);
    pair.settle().await;
    let mut response = pair.near.send(upgrading()).await;
    assert_eq!(response.status(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut echoed = [0; 2];
    io.write_all(b"hi").await.unwrap();
    io.read_exact(&mut echoed).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert_eq!((pair.straight(), pair.far.gate.load().in_flight), (1, 1));
    drop(io);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pair.far.gate.load().in_flight, 0);
    pair.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_does_not_take_goes_to_the_owner() {
    let pair = pair();
    pair.far.hello(1);
    pair.settle().await;
    pair.far.hello(2);
    pair.near.world.refuse(rig::address(1));
    for _ in 0..5 {
        assert_eq!(pair.near.get("/").await, (200, "Hello".into()));
    }
    let forwards = pair.near.metric("rouse_forwards_total{outcome=\"answered\"}");
    assert_eq!(
        (forwards, pair.straight()),
        (Some(1.0), 4),
        "the other pod is in the table by then"
    );
    sleep(Duration::from_secs(1)).await;
    pair.at_rest().await;
}

/// The owner's word is not enough: its watch may be behind.
#[tokio::test(start_paused = true)]
async fn an_address_that_passed_to_another_pod_gets_nothing_of_the_former_one() {
    let pair = pair();
    let served = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&served);
    pair.far.pod(1, Protocol::Http1, move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { text("Hello") }.boxed()
    });
    pair.settle().await;
    pair.near.get("/").await;
    assert_eq!(pair.straight(), 1);
    pair.observed.send_replace(Arc::new(observe(&[2])));
    sleep(Duration::from_millis(1)).await;
    assert!(pair.near.handle.shortcut().admit().is_none(), "its pod is gone");
    assert!(pair.gate.load().pods.is_empty());
    assert_eq!(served.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_forgotten_and_who_hears_nothing_stops() {
    let pair = pair();
    pair.far.hello(1);
    pair.settle().await;
    pair.near.get("/").await;
    pair.far.gate.close("pod-1");
    // Its process is killed: no word, and the owner can't know what it sends.
    pair.task.abort();
    sleep(Duration::from_millis(10)).await;
    assert!(pair.near.handle.shortcut().admit().is_none());
    let awaited = || pair.far.gate.load().pods[0].awaited;
    sleep(VALID).await;
    pair.far.gate.expire_followers();
    assert!(awaited());
    sleep(LEASE.saturating_sub(VALID)).await;
    pair.far.gate.expire_followers();
    assert!(!awaited());
}

#[tokio::test(start_paused = true)]
async fn who_follows_no_owner_sends_nothing_straight() {
    let pair = pair();
    pair.far.hello(1);
    pair.settle().await;
    pair.near.get("/").await;
    // It owns the Function no longer: its followers part with it at once.
    pair.far.gate.shut(Refusal::Moved);
    sleep(Duration::from_millis(10)).await;
    assert!(pair.near.handle.shortcut().admit().is_none());
    assert_eq!(pair.member.uid, "uid-far");
}

#[tokio::test(start_paused = true)]
async fn shares_bound_what_is_sent_straight_and_the_rest_is_passed_on() {
    let pair = pair();
    pair.far.pod(1, Protocol::Http1, |_| {
        async {
            sleep(Duration::from_secs(5)).await;
            text("Hello")
        }
        .boxed()
    });
    pair.settle().await;
    pair.far.gate.tell_followers(std::num::NonZeroU32::new(10));
    sleep(Duration::from_millis(50)).await;
    let answers = futures::future::join_all((0..20).map(|_| pair.near.get("/"))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
    assert!((5..=10).contains(&pair.straight()), "{}", pair.straight());
    sleep(Duration::from_secs(1)).await;
    pair.at_rest().await;
}
