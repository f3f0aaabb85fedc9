use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use rouse_core::function::{BufferBounds, Concurrency};
use rouse_core::handover::{ClaimId, Claims};
use rouse_core::membership::Membership;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::fresh::Fresh;
use super::*;
use crate::admission::{Admission, Bounds, Permit, Refusal};
use crate::instances::shim::ShimState;
use crate::instances::{
    CallError, Claimed, CostError, DeploymentRef, Instances, PodRef, Question, RecordRef,
    ScaleError, Scaled,
};
use crate::pod::{Pod, Start};
use crate::upstream::Connections;

fn id(text: &str) -> ClaimId {
    ClaimId::from(Arc::<str>::from(text))
}

fn pod(uid: &str) -> Arc<Pod> {
    Arc::new(Pod {
        uid: uid.into(),
        name: uid.into(),
        revision: "r".into(),
        address: ([10, 0, 0, 1], 8080).into(),
        protocol: rouse_crds::v1alpha1::Protocol::Http1,
        memory: 64 << 20,
        start: Start::default(),
        connections: Connections::default(),
    })
}

/// A gate with a limit, and claims under `claim`.
fn gate(limit: u32, claim: &str) -> Arc<Gate> {
    let concurrency = Concurrency { target: 10.try_into().unwrap(), limit: limit.try_into().ok() };
    let buffer = BufferBounds { requests: 10, bytes: 1000 };
    let gate = Gate::new(Bounds { concurrency, buffer });
    gate.require_claims(|| id(claim));
    gate
}

/// Opens a pod whose claim is held.
fn hold(gate: &Arc<Gate>, uid: &str) {
    gate.with_claims(|claims| {
        let own = claims.id().clone();
        claims.begin(&uid.into());
        claims.settle(&uid.into(), &own)
    });
    gate.open(&pod(uid));
}

fn admit(gate: &Arc<Gate>) -> Permit {
    match gate.admit(1) {
        Admission::Granted(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn waits(gate: &Arc<Gate>) -> bool {
    matches!(gate.admit(1), Admission::Queued(_))
}

fn give(gate: &Arc<Gate>) -> Handed {
    Handed::Gave { estate: gate.hand_over(), gate: Some(Arc::clone(gate)) }
}

async fn line(telling: &mut Telling) -> Option<String> {
    telling.next().await.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap().replace('\n', " "))
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_its_claim_gets_nothing() {
    let gate = gate(1, "a/1/1");
    gate.open(&pod("p"));
    assert!(waits(&gate));
    hold(&gate, "p");
    let permit = admit(&gate);
    assert!(waits(&gate));
    drop(permit);
    drop(admit(&gate));
    gate.with_claims(|claims| claims.lose("p"));
    assert!(waits(&gate));
}

#[tokio::test(start_paused = true)]
async fn who_gives_admits_nobody_more_and_counts_down() {
    let gate = gate(2, "a/1/1");
    hold(&gate, "p");
    hold(&gate, "idle");
    gate.close("idle");
    let (first, second) = (admit(&gate), admit(&gate));
    let Admission::Queued(waiting) = gate.admit(1) else { panic!("it is full") };
    let mut telling = Telling::new(give(&gate));
    assert_eq!(waiting.await.unwrap_err(), Refusal::Moved);
    assert!(matches!(gate.admit(1), Admission::Refused(Refusal::Moved)));
    let estate = r#"{"estate":{"pods":[{"pod":"idle","inFlight":0},{"pod":"p","inFlight":2}]}} "#;
    assert_eq!(line(&mut telling).await.as_deref(), Some(estate));
    assert_eq!(line(&mut telling).await.as_deref(), Some("\"heartbeat\" "));
    drop(first);
    let one = r#"{"count":{"pod":"p","inFlight":1}} "#;
    assert_eq!(line(&mut telling).await.as_deref(), Some(one));
    drop(second);
    let none = "{\"count\":{\"pod\":\"p\",\"inFlight\":0}} \"done\" ";
    assert_eq!(line(&mut telling).await.as_deref(), Some(none));
    assert_eq!(line(&mut telling).await, None);
    assert_eq!(gate.hand_over(), Estate::default(), "nothing is given twice");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_comes_to_the_gate_whoever_owns_the_function_by_then() {
    let heir = gate(1, "b/1/1");
    heir.with_claims(|claims| claims.ask(&"a".into()));
    heir.shut(Refusal::Moved);
    assert!(heir.is_asking() && heir.has_claims());
    let pods = vec![PodCount { pod: "p".into(), in_flight: 0 }];
    let estate = Estate { pods: pods.clone(), ..Estate::default() };
    let told = heir.fell();
    drop(Released::Gave { estate, rest: None }.take_in(&heir, "a"));
    told.await;
    assert!(!heir.is_asking());
    assert_eq!(heir.hand_over().pods, pods);
}

#[tokio::test(start_paused = true)]
async fn the_heir_waits_for_the_requests_of_the_giver() {
    let giver = gate(1, "a/1/1");
    hold(&giver, "p");
    let permit = admit(&giver);
    let heir = gate(1, "b/1/1");
    let Handed::Gave { estate, .. } = give(&giver) else { panic!("it has it") };
    let counts = heir.with_claims(|claims: &mut Claims| claims.inherit(&estate)).unwrap();
    let (lines, told) = mpsc::channel(8);
    let told = stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) });
    Rest::follow(Some(Rest(told.boxed())), Arc::clone(&heir), counts);
    heir.open(&pod("p"));
    let Admission::Queued(waiting) = heir.admit(1) else { panic!("the giver's request is there") };
    assert_eq!(heir.take_load().in_flight, 1);
    drop(permit);
    let done = PodCount { pod: "p".into(), in_flight: giver.remaining("p").unwrap() };
    lines.send(ReleaseLine::Count(done)).await.unwrap();
    waiting.await.unwrap();
    drop(lines);
    sleep(Duration::from_secs(1)).await;
    assert!(heir.may_send_to("p"), "an end that is told of is none too early");
}

#[tokio::test(start_paused = true)]
async fn a_giver_that_breaks_off_takes_its_busy_pods_along_and_no_others() {
    let estate = Estate {
        pods: vec![
            PodCount { pod: "busy".into(), in_flight: 1 },
            PodCount { pod: "idle".into(), in_flight: 0 },
        ],
        ..Estate::default()
    };
    let heir = gate(1, "b/1/1");
    let counts = heir.with_claims(|claims| claims.inherit(&estate)).unwrap();
    assert!(heir.may_send_to("busy"));
    Rest::follow(None, Arc::clone(&heir), counts);
    heir.changed().await;
    assert!(!heir.may_send_to("busy") && heir.may_send_to("idle"));
    // And who is given this gate's claims is not told that nothing runs there.
    assert_eq!(heir.hand_over().pods, [PodCount { pod: "idle".into(), in_flight: 0 }]);
}

#[tokio::test(start_paused = true)]
async fn what_is_passed_on_while_it_counts_down_counts_on() {
    let heir = gate(1, "b/1/1");
    let estate =
        Estate { pods: vec![PodCount { pod: "p".into(), in_flight: 1 }], ..Estate::default() };
    heir.with_claims(|claims| claims.inherit(&estate));
    let mut telling = Telling::new(give(&heir));
    line(&mut telling).await;
    heir.change_claims(|claims| claims.lose("p"));
    assert_eq!(line(&mut telling).await, None, "it breaks off, without a word of an end");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_lines_of_json() {
    let response = respond(Handed::Refused { version: 7 });
    assert_eq!(response.headers()[CONTENT_TYPE], "application/x-ndjson");
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "{\"refused\":{\"version\":7}}\n");
}

/// Counts reads, which take a while.
#[derive(Debug, Default)]
struct Reads(AtomicU32);

impl Instances for Reads {
    async fn apply_scale(&self, _: &DeploymentRef, _: u32) -> Result<Scaled, ScaleError> {
        Err(ScaleError::Missing)
    }

    async fn apply_deletion_cost(&self, _: &PodRef, _: i32) -> Result<(), CostError> {
        Ok(())
    }

    async fn apply_claim(&self, _: &PodRef, _: &str, _: &str) -> Result<Claimed, CallError> {
        Ok(Claimed::Gone)
    }

    async fn delete_pod(&self, _: &PodRef, _: &str) -> Result<(), CallError> {
        Ok(())
    }

    async fn fetch_membership(&self) -> Result<Membership, CallError> {
        let version = u64::from(self.0.fetch_add(1, Ordering::SeqCst)) + 1;
        sleep(Duration::from_millis(10)).await;
        Ok(Membership { version, ..Membership::default() })
    }

    async fn fetch_readiness(&self, _: &Question) -> bool {
        false
    }

    async fn fetch_code(&self, _: &RecordRef) -> Result<Bytes, CallError> {
        Ok(Bytes::new())
    }

    async fn push_code(&self, _: SocketAddr, _: Bytes) -> Result<(), CallError> {
        Ok(())
    }

    async fn fetch_state(&self, _: SocketAddr) -> Result<ShimState, CallError> {
        Err(CallError("nobody is there".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_during_a_read_shares_the_next() {
    let fresh = Fresh::new(Arc::new(Reads::default()));
    let late = async {
        sleep(Duration::from_millis(5)).await;
        let (one, other) = tokio::join!(fresh.fetch(), fresh.fetch());
        (one.unwrap().version, other.unwrap().version)
    };
    let (first, late) = tokio::join!(fresh.fetch(), late);
    assert_eq!((first.unwrap().version, late), (1, (2, 2)));
    assert_eq!(fresh.fetch().await.unwrap().version, 3);
}
