use std::num::NonZeroU32;

use prometheus_client::encoding::text::encode;
use rouse_core::function::{BufferBounds, Concurrency};
use rouse_crds::v1alpha1::Protocol;
use tokio::time::advance;

use super::*;
use crate::admission::{Admission, Bounds, Permit};
use crate::pod::{Pod, Start};

const MIB: u64 = 1 << 20;

struct Scene {
    registry: Registry,
    meters: Meters,
    key: FunctionKey,
    uid: Arc<str>,
    gate: Arc<Gate>,
    process: Process,
}

impl Scene {
    fn new() -> Self {
        let mut registry = Registry::default();
        let concurrency = Concurrency { target: NonZeroU32::MIN, limit: None };
        let buffer = BufferBounds { requests: 9, bytes: 9999 };
        Self {
            meters: Meters::register(&mut registry),
            registry,
            key: FunctionKey::new("shop", "f"),
            uid: "f-1".into(),
            gate: Gate::new(Bounds { concurrency, buffer }),
            process: Process::new("pod", 1),
        }
    }

    fn open(&self, uid: &str, mib: u64) {
        self.gate.open(&Arc::new(Pod {
            uid: uid.into(),
            name: uid.into(),
            revision: "r".into(),
            address: ([10, 0, 0, 1], 80).into(),
            protocol: Protocol::Http1,
            memory: mib * MIB,
            start: Start::default(),
            connections: crate::upstream::Connections::default(),
        }));
        drop(self.meters.watch(&self.key, &self.uid, &self.gate));
    }

    fn begin(&self) -> Permit {
        match self.gate.admit(1) {
            Admission::Granted(permit) => permit,
            other => panic!("a slot was free: {other:?}"),
        }
    }

    fn gather(&self) -> Option<rouse_core::usage::Count> {
        let mut reports = self.meters.gather(&self.process, false);
        assert!(reports.len() <= 1);
        reports.pop().map(|mut report| report.counts.pop().unwrap())
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }
}

async fn pass(micros: u64) {
    advance(Duration::from_micros(micros)).await;
}

#[tokio::test(start_paused = true)]
async fn requests_at_once_share_their_pod_and_each_is_rounded_up() {
    let scene = Scene::new();
    scene.open("a", 100);
    let first = scene.begin();
    pass(10_000).await;
    let second = scene.begin();
    pass(4_500).await;
    drop(second);
    drop(first);
    let count = scene.gather().unwrap();
    // 15 ms and 5 ms; the pod was busy for 14.5 ms, and half a millisecond is shared by two and
    // then half by one.
    assert_eq!((count.sums.requests, count.sums.billed_millis), (2, 20));
    assert_eq!(count.sums.billed_mib_millis, 1_525);
    assert_eq!(scene.gather(), None, "nothing more was used");
}

#[tokio::test(start_paused = true)]
async fn a_long_request_counts_while_it_runs() {
    let scene = Scene::new();
    scene.open("a", 1);
    let long = scene.begin();
    pass(5_000_000).await;
    let count = scene.gather().unwrap();
    assert_eq!((count.sums.requests, count.sums.billed_millis), (0, 5000));
    assert!(count.active);
    pass(1_000_000).await;
    drop(long);
    let count = scene.gather().unwrap();
    assert_eq!((count.sums.requests, count.sums.billed_mib_millis), (1, 6000));
    assert!(!count.active, "it rests");
    assert_eq!(scene.gather(), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_no_request() {
    let scene = Scene::new();
    scene.open("a", 1);
    let unsent = scene.begin();
    unsent.note_unsent();
    drop(unsent);
    drop(scene.begin());
    assert_eq!(scene.gather().unwrap().sums.requests, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_leaves_what_it_was_used_for_even_if_its_gate_goes_too() {
    let mut scene = Scene::new();
    scene.open("a", 8);
    let request = scene.begin();
    scene.gate.retire("a");
    pass(2_000).await;
    drop(request);
    let gone = scene.gate;
    let bounds = Scene::new().gate;
    scene.gate = bounds;
    drop(gone);
    assert_eq!(scene.gather().unwrap().sums.billed_mib_millis, 16);
}

#[tokio::test(start_paused = true)]
async fn pods_are_warm_from_when_they_are_told_until_they_are_not() {
    let scene = Scene::new();
    let meter = scene.meters.watch(&scene.key, &scene.uid, &scene.gate);
    let revision: Arc<str> = "r".into();
    pass(1_000_000).await;
    meter.keep_warm([(&revision, 10 * MIB), (&revision, 30 * MIB)].into_iter());
    pass(2_000_000).await;
    meter.keep_warm([(&revision, 10 * MIB)].into_iter());
    pass(1_000_000).await;
    let count = scene.gather().unwrap();
    assert_eq!((count.sums.pod_millis, count.sums.pod_mib_millis), (5000, 90_000));
    meter.keep_warm(std::iter::empty());
    pass(9_000_000).await;
    let count = scene.gather().unwrap();
    assert_eq!((count.sums.pod_millis, count.active), (5000, false));
}

#[tokio::test(start_paused = true)]
async fn metrics_go_with_the_function_and_with_a_revision_that_rests() {
    let scene = Scene::new();
    scene.open("a", 1024);
    let request = scene.begin();
    pass(1_000_000).await;
    drop(request);
    let first = scene.gather().unwrap();
    let labels = r#"{namespace="shop",function="f",revision="r"}"#;
    let metrics = scene.metrics();
    assert!(metrics.contains(&format!("rouse_usage_requests_total{labels} 1")), "{metrics}");
    assert!(metrics.contains(&format!("rouse_usage_billed_gb_seconds_total{labels} 1.0")));
    assert!(!first.active);
    pass(3_601_000_000).await;
    assert_eq!(scene.gather(), None);
    assert!(!scene.metrics().contains("revision="));
    drop(scene.begin());
    let again = scene.gather().unwrap();
    assert_ne!(again.number, first.number, "a count that is over does not come back");
    scene.meters.forget(&scene.uid);
    assert!(!scene.metrics().contains("revision="));
}
