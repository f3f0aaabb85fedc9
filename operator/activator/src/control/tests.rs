//! The control side without a cluster: observations come from the test, two activators share one
//! plant.

mod handover;
mod spread;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::BoxStream;
use http_body_util::BodyExt;
use kube::runtime::watcher::Event;
use rouse_core::function::FunctionKey;
use rouse_core::handover::ReleaseLine;
use rouse_core::membership::{Member, Membership};
use rouse_core::report::Routed;
use rouse_core::routing::{Listener, Route};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::*;
use crate::admission::{Admission, Gate, Refusal};
use crate::function::{FunctionHandle, Owner};
use crate::observe::objects::{DeploymentSeen, FunctionSeen};
use crate::release::{AskPeer, Released, Rest};
use crate::scaler::tests::plant::{Behaviour, Plant, UID, settings};

/// By which activators ask one another for Functions.
#[derive(Clone, Default)]
struct Network {
    members: Arc<Mutex<HashMap<String, mpsc::Sender<Asked>>>>,
    /// Answers end after their first line.
    break_off: Arc<AtomicBool>,
    /// What the activators route by, and so what they own.
    routes: Arc<Mutex<HashMap<String, SharedTable>>>,
    /// Streams of those that are cut off say nothing.
    cut: watch::Sender<Vec<String>>,
}

impl Network {
    fn join(&self, name: &str, asked: mpsc::Sender<Asked>) {
        self.members.lock().unwrap().insert(name.into(), asked);
    }

    /// Nobody hears of this one any more.
    fn cut_off(&self, name: &str) {
        self.members.lock().unwrap().remove(name);
        self.cut.send_modify(|cut| cut.push(name.into()));
    }

    fn asker(&self) -> Arc<AskPeer> {
        let network = self.clone();
        Arc::new(move |member: Member, release| {
            let network = network.clone();
            let asked = network.members.lock().unwrap().get(&member.name).cloned();
            async move {
                let Some(asked) = asked else {
                    sleep(Duration::from_secs(2)).await;
                    return Released::Silent;
                };
                sleep(Duration::from_millis(1)).await;
                let released = read(crate::release::respond(hand_over(asked, release).await)).await;
                match released {
                    Released::Gave { estate, .. } if network.break_off.load(Ordering::SeqCst) => {
                        Released::Gave { estate, rest: None }
                    }
                    released => released,
                }
            }
            .boxed()
        })
    }
}

/// What the lines of an answer say.
async fn read(response: http::Response<crate::body::ResponseBody>) -> Released {
    let frames = response.into_body().into_data_stream();
    let mut lines = frames
        .flat_map(|frame| {
            let text = String::from_utf8(frame.unwrap().to_vec()).unwrap();
            let lines: Vec<ReleaseLine> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            futures::stream::iter(lines)
        })
        .boxed();
    match lines.next().await {
        Some(ReleaseLine::Estate(estate)) => Released::Gave { estate, rest: Some(Rest(lines)) },
        _ => Released::Refused,
    }
}

struct Activator {
    routes: SharedTable,
    synced: watch::Receiver<bool>,
    reports: Reports,
    observations: mpsc::UnboundedSender<Observation>,
}

impl Activator {
    fn start(name: &str, plant: &Plant, network: &Network) -> Self {
        Self::start_where((name, plant, network), PodCaps::default())
    }

    /// One where the administrator bounds the pods of namespaces.
    fn start_where((name, plant, network): (&str, &Plant, &Network), caps: PodCaps) -> Self {
        let reports = Reports::default();
        let world = World {
            neighbours: Arc::new(Neighbours::new(name, network.asker())),
            instances: Arc::new(plant.clone()),
            reports: reports.clone(),
            metrics: ControlMetrics::register(&mut Registry::default()),
            connect: network.connector(),
            namespaces: Namespaces::new(caps),
            community: Arc::default(),
        };
        let hosts = HostPolicy {
            cluster_domain: "cluster.local".into(),
            public_domain: None,
            suffixes: [("shop".into(), vec!["example.com".into()])].into(),
        };
        let director = Director::new(Ownership::new(world), reports.clone(), hosts);
        network.join(name, director.releases.0.clone());
        let (observations, receiver) = mpsc::unbounded_channel();
        network.routes.lock().unwrap().insert(name.into(), Arc::clone(&director.routes));
        let activator = Self {
            routes: Arc::clone(&director.routes),
            synced: director.synced.subscribe(),
            reports,
            observations,
        };
        let stream: BoxStream<'static, Observation> =
            futures::stream::unfold(receiver, |mut receiver| async move {
                Some((receiver.recv().await?, receiver))
            })
            .boxed();
        tokio::spawn(director.run(stream));
        activator
    }

    fn tell(&self, observation: Observation) {
        self.observations.send(observation).unwrap();
    }

    fn list_all(&self) {
        self.tell(Observation::Function(Event::InitDone));
        self.tell(Observation::Trigger(Event::InitDone));
        self.tell(Observation::Deployment(Event::InitDone));
        self.tell(Observation::Pod(Event::InitDone));
        self.tell(Observation::Membership(Event::InitDone));
    }

    fn handle(&self) -> Option<Arc<FunctionHandle>> {
        match self.routes.load().find(Listener::Cluster, "f.shop", "/", None) {
            Route::Found(handle) => Some(Arc::clone(handle)),
            _ => None,
        }
    }

    fn owner(&self) -> Owner {
        self.handle().expect("a route").owner()
    }

    fn gate(&self) -> Arc<Gate> {
        match self.owner() {
            Owner::Here(gate) => gate,
            other => panic!("{other:?}"),
        }
    }
}

fn membership(version: u64, members: &[&str]) -> Observation {
    let member = |name: &&str| Member {
        uid: (*name).into(),
        name: (*name).into(),
        peer: format!("{name}:8082"),
    };
    let members = members.iter().map(member).collect();
    Observation::Membership(Event::Apply(Membership { version, members, ..Membership::default() }))
}

/// Two activators that see what the plant tells, and the plant with a sleeping Function.
async fn two_activators() -> (Plant, Activator, Activator) {
    let (plant, mut told) = Plant::new(settings(0, 0, 10));
    let network = Network::default();
    let a = Activator::start("a", &plant, &network);
    let b = Activator::start("b", &plant, &network);
    let senders = [a.observations.clone(), b.observations.clone()];
    tokio::spawn(async move {
        while let Some(observation) = told.recv().await {
            for sender in &senders {
                drop(sender.send(copy(&observation)));
            }
        }
    });
    a.list_all();
    b.list_all();
    plant.create("r1", Behaviour::Starts);
    plant.status(Some("r1"), "r1");
    sleep(Duration::from_millis(50)).await;
    (plant, a, b)
}

fn copy(observation: &Observation) -> Observation {
    match observation {
        Observation::Function(event) => Observation::Function(event.clone()),
        Observation::Trigger(event) => Observation::Trigger(event.clone()),
        Observation::Deployment(event) => Observation::Deployment(event.clone()),
        Observation::Pod(event) => Observation::Pod(event.clone()),
        Observation::SourcePod(event) => Observation::SourcePod(event.clone()),
        Observation::Membership(event) => Observation::Membership(event.clone()),
    }
}

#[tokio::test(start_paused = true)]
async fn pods_of_functions_that_others_own_count_for_the_namespace() {
    let (plant, mut told) = Plant::new(settings(0, 0, 10));
    let caps = PodCaps([("shop".to_owned(), 3)].into());
    let a = Activator::start_where(("a", &plant, &Network::default()), caps);
    let sender = a.observations.clone();
    tokio::spawn(async move {
        while let Some(observation) = told.recv().await {
            drop(sender.send(observation));
        }
    });
    let name = |uid: &str| FunctionKey::new("shop", uid);
    let other = FunctionSeen { key: name("g"), uid: "g".into(), ..function() };
    let pods = |replicas| DeploymentSeen { replicas, ..foreign("g") };
    a.tell(Observation::Function(Event::InitApply(other)));
    a.tell(Observation::Deployment(Event::InitApply(pods(3))));
    a.tell(membership(1, &["a"]));
    a.list_all();
    plant.create("r1", Behaviour::Starts);
    plant.status(Some("r1"), "r1");
    sleep(Duration::from_millis(50)).await;
    let refused = call([&a, &a], Duration::from_millis(1)).await.unwrap_err();
    assert!(
        matches!(&refused, Refusal::StartFailed(f) if f.reason == "NamespaceFull"),
        "{refused:?}"
    );
    a.tell(Observation::Deployment(Event::Apply(pods(2))));
    sleep(Duration::from_millis(50)).await;
    call([&a, &a], Duration::from_millis(1)).await.unwrap();
}

/// The Deployment of another Function.
fn foreign(function: &str) -> DeploymentSeen {
    DeploymentSeen {
        uid: format!("d-{function}").into(),
        namespace: "shop".into(),
        name: format!("{function}-r1").into(),
        function_uid: function.into(),
        revision: "r1".into(),
        replicas: 0,
        version: 1,
        memory: 1 << 27,
        code: None,
        failure: None,
    }
}

/// Calls the Function as the request side does: wherever it is owned, and again where it moved.
async fn call(activators: [&Activator; 2], service: Duration) -> Result<(), Refusal> {
    loop {
        let gate = activators.iter().find_map(|activator| match activator.owner() {
            Owner::Here(gate) => Some(gate),
            _ => None,
        });
        let Some(gate) = gate else {
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        let permit = match gate.admit(1) {
            Admission::Granted(permit) => Ok(permit),
            Admission::Queued(waiting) => waiting.await,
            Admission::Refused(refusal) => Err(refusal),
        };
        match permit {
            Ok(permit) => {
                permit.note_first_byte(None);
                sleep(service).await;
                return Ok(());
            }
            Err(Refusal::Moved) => {}
            Err(refusal) => return Err(refusal),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_routed_or_owned_before_everything_was_listed() {
    let (plant, _told) = Plant::new(settings(0, 0, 10));
    let a = Activator::start("a", &plant, &Network::default());
    a.tell(Observation::Function(Event::InitApply(function())));
    a.tell(membership(1, &["a"]));
    sleep(Duration::from_secs(1)).await;
    assert!(a.handle().is_none() && !*a.synced.borrow());
    assert_eq!(a.reports.routed(), Routed::default());
    a.list_all();
    sleep(Duration::from_secs(1)).await;
    assert!(*a.synced.borrow());
    assert_eq!(a.reports.routed(), Routed { functions: 1, triggers: 0 });
    assert!(matches!(a.owner(), Owner::Here(_)));
}

fn function() -> FunctionSeen {
    FunctionSeen {
        key: rouse_core::function::FunctionKey::new("shop", UID),
        uid: UID.into(),
        version: 1,
        settings: Some(settings(0, 0, 10)),
        latest_ready: None,
        latest_created: None,
        learned: None,
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_membership_requests_wait_for_one() {
    let (_plant, a, b) = two_activators().await;
    assert!(*a.synced.borrow());
    assert!(matches!(a.owner(), Owner::Nobody));
    let call = call([&a, &b], Duration::ZERO);
    let come = async {
        sleep(Duration::from_secs(3)).await;
        a.tell(membership(1, &["a", "b"]));
        b.tell(membership(1, &["a", "b"]));
    };
    let (served, ()) = tokio::join!(call, come);
    assert_eq!(served, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn one_owns_and_the_other_knows_whom_to_ask() {
    let (_plant, a, b) = two_activators().await;
    for activator in [&a, &b] {
        activator.tell(membership(1, &["a", "b"]));
    }
    sleep(Duration::from_millis(10)).await;
    match (a.owner(), b.owner()) {
        (Owner::Here(_), Owner::Peer(peer)) => assert_eq!(peer.uid, "a"),
        (Owner::Peer(peer), Owner::Here(_)) => assert_eq!(peer.uid, "b"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_moves_while_it_wakes_loses_no_request_and_is_woken_once() {
    let (plant, a, b) = two_activators().await;
    a.tell(membership(1, &["a"]));
    b.tell(membership(1, &["a"]));
    sleep(Duration::from_millis(10)).await;
    let first = call([&a, &b], Duration::from_secs(1));
    let moves = async {
        sleep(Duration::from_millis(100)).await;
        // The new owner learns of it a moment later than the former.
        a.tell(membership(2, &["b"]));
        sleep(Duration::from_millis(20)).await;
        b.tell(membership(2, &["b"]));
    };
    let (served, ()) = tokio::join!(first, moves);
    assert_eq!(served, Ok(()));
    assert_eq!(plant.scales(), [("r1".into(), 1)]);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(a.reports.latest(UID), None, "the former owner says that it is no more");
    assert_eq!(b.reports.latest(UID).unwrap().membership, 2);
    assert_eq!(b.reports.latest(UID).unwrap().serving.as_deref(), Some("r1"));
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_keeps_what_runs_and_puts_it_to_sleep_in_time() {
    let (plant, a, b) = two_activators().await;
    for activator in [&a, &b] {
        activator.tell(membership(1, &["a"]));
    }
    sleep(Duration::from_millis(10)).await;
    call([&a, &b], Duration::from_millis(10)).await.unwrap();
    sleep(Duration::from_secs(8)).await;
    for activator in [&a, &b] {
        activator.tell(membership(2, &["b"]));
    }
    sleep(Duration::from_secs(8)).await;
    assert_eq!(plant.replicas(), 1, "what a new owner finds counts as busy");
    let begun = Instant::now();
    call([&a, &b], Duration::ZERO).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(20));
    sleep(Duration::from_secs(12)).await;
    assert_eq!(plant.replicas(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_function_turns_those_who_wait_away_and_has_no_route() {
    let (plant, a, b) = two_activators().await;
    for activator in [&a, &b] {
        activator.tell(membership(1, &["a"]));
    }
    plant.behave("r1", Behaviour::Room(0));
    sleep(Duration::from_millis(10)).await;
    let (here, there) = (a.handle().unwrap(), b.handle().unwrap());
    let waits = call([&a, &b], Duration::ZERO);
    let deletes = async {
        sleep(Duration::from_secs(1)).await;
        for activator in [&a, &b] {
            activator.tell(Observation::Function(Event::Delete(function())));
        }
    };
    let (answer, ()) = tokio::join!(waits, deletes);
    assert_eq!(answer, Err(Refusal::Gone));
    sleep(Duration::from_millis(10)).await;
    assert!(a.handle().is_none() && b.handle().is_none());
    for handle in [here, there] {
        let Owner::Here(gate) = handle.owner() else { panic!("nobody answers for it") };
        assert!(matches!(gate.admit(1), Admission::Refused(Refusal::Gone)));
    }
    assert_eq!(a.reports.latest(UID), None);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_breaks_off_is_replaced_and_nobody_notices() {
    let (plant, a, b) = two_activators().await;
    for activator in [&a, &b] {
        activator.tell(membership(1, &["a"]));
    }
    sleep(Duration::from_millis(10)).await;
    plant.break_off();
    assert_eq!(call([&a, &b], Duration::ZERO).await, Ok(()));
    assert_eq!(plant.scales(), [("r1".into(), 1)]);
    assert!(a.reports.latest(UID).is_some());
}

#[tokio::test(start_paused = true)]
async fn triggers_make_routes() {
    use rouse_core::trigger::{HttpClaim, TriggerKey};

    use crate::observe::objects::TriggerSeen;
    let (_plant, a, _b) = two_activators().await;
    let key = TriggerKey { namespace: "shop".into(), name: "t".into() };
    let claim = HttpClaim {
        is_door: false,
        trigger: key.clone(),
        created: None,
        uid: "t".into(),
        function: rouse_core::function::FunctionKey::new("shop", UID),
        hosts: vec!["f.example.com".into()],
        paths: vec!["/".into()],
        methods: vec![],
    };
    let find = |host| match a.routes.load().find(Listener::Cluster, host, "/", None) {
        Route::Found(handle) => Some(handle.uid.to_string()),
        _ => None,
    };
    a.tell(Observation::Trigger(Event::Apply(TriggerSeen {
        key: key.clone(),
        version: 1,
        claim: Some(claim),
        ticks: None,
    })));
    sleep(Duration::from_millis(10)).await;
    assert_eq!(find("f.example.com").as_deref(), Some(UID));
    assert_eq!(a.reports.routed().triggers, 1);
    a.tell(Observation::Trigger(Event::Delete(TriggerSeen {
        key,
        version: 2,
        claim: None,
        ticks: None,
    })));
    sleep(Duration::from_millis(10)).await;
    assert_eq!(find("f.example.com"), None);
    assert_eq!(a.reports.routed().triggers, 2);
}

/// The controller tells the world that a Function can be called as soon as this is told.
#[tokio::test(start_paused = true)]
async fn what_is_told_of_routes_is_in_force() {
    let (_plant, a, _b) = two_activators().await;
    for version in 100..200 {
        let name = format!("f{version}");
        let key = FunctionKey::new("shop", &name);
        let uid = name.as_str().into();
        let seen = FunctionSeen { key, uid, version, ..function() };
        a.tell(Observation::Function(Event::Apply(seen)));
        while a.reports.routed().functions < version {
            tokio::task::yield_now().await;
        }
        let host = format!("{name}.shop");
        let routes = a.routes.load();
        assert!(matches!(routes.find(Listener::Cluster, &host, "/", None), Route::Found(_)));
    }
}

/// Ten thousand sleeping Functions: tables are built in a part of the time, tasks are small and
/// hold no timer, and nothing is written.
#[tokio::test(start_paused = true)]
async fn ten_thousand_sleeping_functions_are_affordable() {
    let (plant, _told) = Plant::new(settings(0, 0, 10));
    let a = Activator::start("a", &plant, &Network::default());
    a.tell(membership(1, &["a"]));
    a.list_all();
    for i in 0..10_000 {
        let uid: Arc<str> = format!("f{i}").into();
        let key = rouse_core::function::FunctionKey::new("shop", &uid);
        let created = Some(Arc::from("r1"));
        let function =
            FunctionSeen { key, uid: Arc::clone(&uid), latest_created: created, ..function() };
        a.tell(Observation::Function(Event::Apply(function)));
        a.tell(Observation::Deployment(Event::Apply(foreign(&uid))));
    }
    sleep(Duration::from_mins(1)).await;
    let routes = a.routes.load();
    assert!(matches!(routes.find(Listener::Cluster, "f9999.shop", "/", None), Route::Found(_)));
    assert_eq!(plant.scales(), []);
}
