//! A cluster for tests, on the paused clock: Deployments, the controllers that make and kill their
//! pods, a kubelet, watches that lag, and callers who notice when a request is cut off.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use jiff::Timestamp;
use kube::runtime::watcher::Event;
use prometheus_client::registry::Registry;
use rouse_core::function::names::CONTROL_PORT;
use rouse_core::function::start_failure::{Cause, StartFailure};
use rouse_core::function::{
    BufferBounds, Concurrency, FunctionKey, RequestRules, ScalingBounds, Timeouts,
};
use rouse_core::handover::ClaimId;
use rouse_core::membership::{Member, Membership};
use rouse_core::scaling::Policy;
use rouse_core::scaling::allowance::PodCaps;
use rouse_core::scaling::idle::Idle;
use rouse_crds::v1alpha1::{Learned, Protocol};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, timeout};

use crate::admission::{Admission, Bounds, Gate, Refusal};
use crate::community::Community;
use crate::instances::shim::{Phase, ShimState};
use crate::instances::{
    CallError, Claimed, CostError, DeploymentRef, Instances, PodRef, Question, RecordRef,
    ScaleError, Scaled,
};
use crate::namespaces::{Namespace, Namespaces, Seat};
use crate::observe::Observation;
use crate::observe::index::{Index, Observed};
use crate::observe::objects::{CodeWay, DeploymentSeen, FunctionSeen, PodSeen, Settings};
use crate::release::Released;
use crate::release::fresh::Fresh;
use crate::release::neighbours::Neighbours;
use crate::reports::Reports;
use crate::scaler::metrics::{ControlMetrics, ScalerMetrics};
use crate::scaler::{Task, run};

pub const UID: &str = "f";
/// A write takes that long each way.
const WRITE: Duration = Duration::from_millis(3);
/// What is written is seen that much later.
const WATCH_LAG: Duration = Duration::from_millis(2);
/// The controllers take that long to act.
const CONTROLLERS: Duration = Duration::from_millis(12);
/// The steps of a start: a node, an address, an open port, the kubelet's word.
const SCHEDULED: Duration = Duration::from_millis(8);
const NETWORK: Duration = Duration::from_millis(252);
const OPENING_PORT: Duration = Duration::from_millis(15);
const KUBELET: Duration = Duration::from_millis(625);
/// The shim of a pod with source takes that long until it listens.
const SHIM: Duration = Duration::from_millis(5);
/// A pod that was told to stop is gone so long after.
const GONE: Duration = Duration::from_millis(150);

/// What becomes of a revision's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Starts,
    BadImage,
    Crashes,
    /// No node has room for more than so many of its pods.
    Room(usize),
    /// They run and nothing in them listens.
    Silent,
    /// They have source, and become that once it was pushed to them.
    Source(Phase),
}

#[derive(Debug)]
struct FakeDeployment {
    replicas: u32,
    version: u64,
    behaviour: Behaviour,
}

#[derive(Clone, Debug)]
struct FakePod {
    seen: PodSeen,
    listens: bool,
    serving: u32,
    /// What its shim says; none where it has none, or is not up.
    shim: Option<Phase>,
}

#[derive(Default)]
struct State {
    version: u64,
    made: u32,
    latest_ready: Option<Arc<str>>,
    latest_created: Option<Arc<str>>,
    learned: Option<Arc<Learned>>,
    settings: Option<Settings>,
    deployments: BTreeMap<String, FakeDeployment>,
    pods: BTreeMap<Arc<str>, FakePod>,
    scales: Vec<(String, u32)>,
    fail_scales: VecDeque<ScaleError>,
    /// Reads of code, by the record.
    read: Vec<String>,
    /// Code that came to pods: which pod, and what.
    pushed: Vec<(String, Bytes)>,
    /// Until when nobody finds a record.
    no_records_until: Option<Instant>,
    break_off: bool,
    membership: Membership,
    /// Requests that were under way in a pod when the controllers told it to stop.
    cut: u32,
    /// Requests that were sent to a pod that did not listen or was stopping.
    astray: u32,
    most_serving: BTreeMap<Arc<str>, u32>,
}

/// The cluster.
#[derive(Clone)]
pub struct Plant {
    state: Arc<Mutex<State>>,
    watch: mpsc::UnboundedSender<Observation>,
    /// The Function's namespace, where its pods are bounded.
    pub namespace: Option<Arc<Namespace>>,
    pub community: Arc<Community>,
}

/// A cluster, a Function, and its task.
pub struct World {
    pub plant: Plant,
    pub gate: Arc<Gate>,
    pub reports: Reports,
    pub observed: watch::Receiver<Arc<Observed>>,
    pub running: AbortHandle,
}

pub fn settings(limit: u32, min: u32, max: u32) -> Settings {
    let concurrency = Concurrency { target: 10.try_into().unwrap(), limit: limit.try_into().ok() };
    Settings {
        policy: Policy {
            concurrency,
            idle: Idle::Fixed,
            scaling: ScalingBounds {
                min,
                max,
                idle_after: Duration::from_secs(10),
                stable_window: Duration::from_secs(6),
            },
        },
        bounds: Bounds { concurrency, buffer: BufferBounds { requests: 1000, bytes: 1 << 20 } },
        timeouts: Timeouts {
            activation: Duration::from_mins(1),
            request: Duration::from_mins(5),
            first_byte: Duration::from_mins(5),
            idle: None,
        },
        rules: RequestRules::default(),
        readiness_path: None,
        public: false,
    }
}

impl World {
    /// A sleeping Function whose revision `r1` has been ready before.
    pub async fn new(settings: Settings) -> Self {
        Self::without_deployment(settings).await.deployed().await
    }

    /// The same, where a former owner learned something.
    pub async fn inheriting(settings: Settings, learned: Learned) -> Self {
        Self::of(Plant::inheriting(settings, learned)).await.deployed().await
    }

    /// The same, where the namespace may have so many pods.
    pub async fn capped(settings: Settings, pods: u32) -> Self {
        let (mut plant, events) = Plant::new(settings);
        let caps = PodCaps([("shop".to_owned(), pods)].into());
        plant.namespace = Namespaces::new(caps).of(&"shop".into()).map(Arc::clone);
        Self::of((plant, events)).await.deployed().await
    }

    async fn deployed(self) -> Self {
        self.plant.create("r1", Behaviour::Starts);
        self.plant.status(Some("r1"), "r1");
        sleep(Duration::from_millis(10)).await;
        self
    }

    pub async fn without_deployment(settings: Settings) -> Self {
        Self::of(Plant::new(settings)).await
    }

    async fn of((plant, mut events): (Plant, mpsc::UnboundedReceiver<Observation>)) -> Self {
        let mut index = Index::default();
        index.apply(events.recv().await.unwrap(), Instant::now());
        let (sender, observed) = watch::channel(Arc::new(index.observed(UID).unwrap()));
        let namespace = plant.namespace.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                sleep(WATCH_LAG).await;
                index.apply(event, Instant::now());
                while let Ok(event) = events.try_recv() {
                    index.apply(event, Instant::now());
                }
                if let Some(namespace) = &namespace {
                    namespace.see(&UID.into(), index.pods_asked(UID));
                }
                sender.send_replace(Arc::new(index.observed(UID).unwrap()));
            }
        });
        let gate = Gate::new(settings_bounds(&plant));
        let reports = Reports::default();
        let metrics = ControlMetrics::register(&mut Registry::default());
        let running = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let mut world = Self { plant, gate, reports, observed, running };
        let task = world.task(metrics.of(&FunctionKey::new("shop", UID)));
        world.running = tokio::spawn(run(task)).abort_handle();
        world
    }

    /// A task of the Function, with nobody beside it.
    pub fn task(&self, metrics: ScalerMetrics) -> Task<Plant> {
        let instances = Arc::new(self.plant.clone());
        Task {
            gate: Arc::clone(&self.gate),
            observed: self.observed.clone(),
            instances: Arc::clone(&instances),
            reports: self.reports.clone(),
            metrics,
            neighbours: Arc::new(alone()),
            fresh: Arc::new(Fresh::new(instances)),
            predecessors: Vec::new(),
            others: false,
            seat: self.plant.seat(),
            community: Arc::clone(&self.plant.community),
        }
    }

    /// Calls the Function with a request that takes `service` once a pod has it; the answer is the
    /// revision that served it, and how long it waited.
    pub async fn call(&self, service: Duration) -> Result<(Arc<str>, Duration), Refusal> {
        call(Arc::clone(&self.gate), self.plant.clone(), service).await
    }

    pub fn spawn_call(
        &self,
        service: Duration,
    ) -> JoinHandle<Result<(Arc<str>, Duration), Refusal>> {
        tokio::spawn(call(Arc::clone(&self.gate), self.plant.clone(), service))
    }

    /// The latest report.
    pub fn report(&self) -> rouse_core::report::FunctionReport {
        self.reports.latest(UID).expect("a report")
    }

    /// Waits until `condition` holds, for a minute at most.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let reached = async {
            while !condition(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_mins(1), reached).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    pub async fn until_asleep(&self) {
        self.until("asleep", |world| world.plant.replicas() == 0 && world.plant.pods() == 0).await;
    }
}

/// An activator that nobody answers.
fn alone() -> Neighbours {
    let silence = |_, _| futures::future::ready(Released::Silent).boxed();
    Neighbours::new("alone", Arc::new(silence))
}

fn settings_bounds(plant: &Plant) -> Bounds {
    plant.lock().settings.as_ref().unwrap().bounds
}

pub async fn call(
    gate: Arc<Gate>,
    plant: Plant,
    service: Duration,
) -> Result<(Arc<str>, Duration), Refusal> {
    let begun = Instant::now();
    let permit = match gate.admit(100) {
        Admission::Granted(permit) => permit,
        Admission::Queued(waiting) => timeout(Duration::from_mins(1), waiting)
            .await
            .unwrap_or_else(|_| panic!("a request waited for a minute"))?,
        Admission::Refused(refusal) => return Err(refusal),
    };
    let waited = begun.elapsed();
    let uid = Arc::clone(&permit.pod().uid);
    plant.begin(&uid);
    permit.note_first_byte(None);
    sleep(service).await;
    plant.end(&uid);
    Ok((Arc::clone(&permit.pod().revision), waited))
}

impl Plant {
    /// A cluster that tells of a Function without a Deployment.
    pub fn new(settings: Settings) -> (Self, mpsc::UnboundedReceiver<Observation>) {
        Self::of(State { settings: Some(settings), ..State::default() })
    }

    /// The same, where a former owner learned something.
    pub fn inheriting(
        settings: Settings,
        learned: Learned,
    ) -> (Self, mpsc::UnboundedReceiver<Observation>) {
        let learned = Some(Arc::new(learned));
        Self::of(State { settings: Some(settings), learned, ..State::default() })
    }

    fn of(state: State) -> (Self, mpsc::UnboundedReceiver<Observation>) {
        let (watch, told) = mpsc::unbounded_channel();
        let (namespace, community) = (None, Arc::default());
        let plant = Self { state: Arc::new(Mutex::new(state)), watch, namespace, community };
        plant.tell_function();
        (plant, told)
    }

    /// Another Function of the namespace has so many pods.
    pub fn see_other(&self, pods: u32) {
        let namespace = self.namespace.as_ref().expect("a namespace with a cap");
        namespace.see(&"other".into(), pods);
    }

    fn seat(&self) -> Option<Seat> {
        self.namespace.as_ref().map(|namespace| Seat::new(namespace, &UID.into()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn begin(&self, uid: &Arc<str>) {
        let mut state = self.lock();
        let serving = match state.pods.get_mut(uid) {
            Some(pod) if pod.listens && !pod.seen.going => {
                pod.serving += 1;
                pod.serving
            }
            _ => {
                state.astray += 1;
                return;
            }
        };
        let most = state.most_serving.entry(Arc::clone(uid)).or_default();
        *most = serving.max(*most);
    }

    pub fn end(&self, uid: &str) {
        if let Some(pod) = self.lock().pods.get_mut(uid) {
            pod.serving = pod.serving.saturating_sub(1);
        }
    }

    /// The controller makes the Deployment of a revision, at zero.
    pub fn create(&self, revision: &str, behaviour: Behaviour) {
        let mut state = self.lock();
        let version = state.next_version();
        let deployment = FakeDeployment { replicas: 0, version, behaviour };
        state.deployments.insert(revision.into(), deployment);
        drop(state);
        self.tell_deployment(revision);
    }

    /// The controller writes the status.
    pub fn status(&self, latest_ready: Option<&str>, latest_created: &str) {
        let mut state = self.lock();
        state.latest_ready = latest_ready.map(Into::into);
        state.latest_created = Some(latest_created.into());
        drop(state);
        self.tell_function();
    }

    pub fn behave(&self, revision: &str, behaviour: Behaviour) {
        let mut state = self.lock();
        state.deployments.get_mut(revision).unwrap().behaviour = behaviour;
        let pods: Vec<Arc<str>> = state.of(revision).map(|pod| Arc::clone(&pod.seen.uid)).collect();
        drop(state);
        for pod in pods {
            self.spawn_kubelet(pod, behaviour);
        }
    }

    /// Somebody else scales the Deployment.
    pub fn scale_by_hand(&self, revision: &str, replicas: u32) {
        self.set_replicas(revision, replicas);
    }

    pub fn fail_scales(&self, errors: impl IntoIterator<Item = ScaleError>) {
        self.lock().fail_scales.extend(errors);
    }

    /// Records of code come later only.
    pub fn hide_records(&self, time: Duration) {
        self.lock().no_records_until = Some(Instant::now() + time);
    }

    /// The records that were read, and what came to which pods.
    pub fn supplied(&self) -> (Vec<String>, Vec<(String, Bytes)>) {
        let state = self.lock();
        (state.read.clone(), state.pushed.clone())
    }

    /// The code of all pods comes up after all.
    pub fn mend_code(&self) {
        let pods: Vec<Arc<str>> = self.lock().pods.keys().cloned().collect();
        for uid in pods {
            self.change(&uid, |pod| {
                pod.shim = Some(Phase::Other);
                pod.listens = true;
            });
        }
    }

    /// The next write breaks its task off.
    pub fn break_off(&self) {
        self.lock().break_off = true;
    }

    /// What reads of the membership tell from now on; answers with the members of before.
    pub fn set_membership(&self, now: &Membership) -> Vec<Member> {
        std::mem::replace(&mut self.lock().membership, now.clone()).members
    }

    /// A node goes, and a pod with it.
    pub fn kill_one(&self) {
        let victim = self.lock().pods.values().find(|pod| !pod.seen.going).cloned();
        if let Some(victim) = victim {
            // Nobody promised anything to its requests.
            self.lock().pods.get_mut(&victim.seen.uid).unwrap().serving = 0;
            self.stop(&victim.seen.uid);
            self.spawn_controllers(victim.seen.revision.to_string());
        }
    }

    /// The container of a pod ends, and starts anew.
    pub fn restart_one(&self) {
        let Some(uid) = self.lock().pods.keys().next().cloned() else { return };
        self.change(&uid, |pod| {
            pod.seen.exits += 1;
            pod.listens = false;
        });
        let plant = self.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(400)).await;
            plant.change(&uid, |pod| pod.listens = true);
        });
    }

    pub fn scales(&self) -> Vec<(String, u32)> {
        self.lock().scales.clone()
    }

    /// Pods that all Deployments together are told to have.
    pub fn replicas(&self) -> u32 {
        self.lock().deployments.values().map(|deployment| deployment.replicas).sum()
    }

    pub fn replicas_of(&self, revision: &str) -> u32 {
        self.lock().deployments[revision].replicas
    }

    pub fn pods(&self) -> usize {
        self.lock().pods.len()
    }

    pub fn cut(&self) -> (u32, u32) {
        let state = self.lock();
        (state.cut, state.astray)
    }

    /// Most requests at once, of each pod that ever had one.
    pub fn most_serving(&self) -> Vec<u32> {
        self.lock().most_serving.values().copied().collect()
    }

    fn set_replicas(&self, revision: &str, replicas: u32) -> Option<u64> {
        let mut state = self.lock();
        let version = state.next_version();
        let deployment = state.deployments.get_mut(revision)?;
        deployment.replicas = replicas;
        deployment.version = version;
        drop(state);
        self.tell_deployment(revision);
        self.spawn_controllers(revision.to_owned());
        Some(version)
    }

    fn spawn_controllers(&self, revision: String) {
        let plant = self.clone();
        tokio::spawn(async move {
            sleep(CONTROLLERS).await;
            plant.reconcile(&revision);
        });
    }

    /// What the controllers of Deployments and `ReplicaSet`s do.
    fn reconcile(&self, revision: &str) {
        let state = self.lock();
        let Some(deployment) = state.deployments.get(revision) else { return };
        let (replicas, behaviour) = (deployment.replicas as usize, deployment.behaviour);
        let mut pods: Vec<PodSeen> =
            state.of(revision).filter(|pod| !pod.seen.going).map(|pod| pod.seen.clone()).collect();
        drop(state);
        for _ in pods.len()..replicas {
            self.make(revision, behaviour);
        }
        pods.sort_by_key(|pod| (pod.ready, pod.deletion_cost, std::cmp::Reverse(pod.made)));
        for pod in pods.iter().take(pods.len().saturating_sub(replicas)) {
            let mut state = self.lock();
            state.cut += state.pods[&pod.uid].serving;
            drop(state);
            self.stop(&pod.uid);
        }
    }

    fn make(&self, revision: &str, behaviour: Behaviour) {
        let mut state = self.lock();
        state.made += 1;
        let uid: Arc<str> = format!("{revision}-{:04}", state.made).into();
        let seen = PodSeen {
            memory: 64 << 20,
            uid: Arc::clone(&uid),
            namespace: "shop".into(),
            name: Arc::clone(&uid),
            function_uid: UID.into(),
            revision: revision.into(),
            made: Timestamp::from_second(state.made.into()).ok(),
            scheduled: false,
            address: None,
            protocol: Protocol::Http1,
            code: code_of(behaviour),
            control_port: CONTROL_PORT,
            going: false,
            ready: false,
            running: false,
            exits: 0,
            failure: None,
            deletion_cost: 0,
            claim: None,
        };
        let pod = FakePod { seen, listens: false, serving: 0, shim: None };
        state.pods.insert(Arc::clone(&uid), pod);
        drop(state);
        self.tell_pod(&uid);
        self.spawn_kubelet(uid, behaviour);
    }

    fn spawn_kubelet(&self, uid: Arc<str>, behaviour: Behaviour) {
        let plant = self.clone();
        tokio::spawn(async move {
            sleep(SCHEDULED).await;
            while let Behaviour::Room(most) = behaviour {
                let scheduled = plant.lock().pods.values().filter(|pod| pod.seen.scheduled).count();
                if scheduled < most {
                    break;
                }
                plant.change(&uid, |pod| pod.seen.failure = Some(failure(Cause::Unschedulable)));
                sleep(Duration::from_millis(100)).await;
            }
            plant.change(&uid, |pod| {
                pod.seen.scheduled = true;
                pod.seen.failure = None;
            });
            let cause = match behaviour {
                Behaviour::BadImage => Cause::ImagePullFailed,
                Behaviour::Crashes => Cause::ContainerCrashed,
                Behaviour::Starts | Behaviour::Room(_) => return plant.start(uid).await,
                Behaviour::Source(_) => {
                    sleep(NETWORK).await;
                    plant.change(&uid, |pod| {
                        pod.seen.address = address(&uid);
                        pod.seen.running = true;
                    });
                    sleep(SHIM).await;
                    return plant.change(&uid, |pod| pod.shim = Some(Phase::WaitingForCode));
                }
                Behaviour::Silent => {
                    sleep(NETWORK).await;
                    return plant.change(&uid, |pod| {
                        pod.seen.address = address(&uid);
                        pod.seen.running = true;
                    });
                }
            };
            sleep(NETWORK).await;
            plant.change(&uid, |pod| {
                pod.seen.address = address(&uid);
                pod.seen.failure = Some(failure(cause));
            });
        });
    }

    async fn start(&self, uid: Arc<str>) {
        sleep(NETWORK).await;
        self.change(&uid, |pod| {
            pod.seen.address = address(&uid);
            pod.seen.running = true;
            pod.seen.failure = None;
        });
        sleep(OPENING_PORT).await;
        // No two are equally fast.
        let number = address(&uid).map_or(0, |address| address.port() % 8);
        sleep(Duration::from_millis(5) * number.into()).await;
        self.change(&uid, |pod| pod.listens = true);
        sleep(KUBELET).await;
        self.change(&uid, |pod| pod.seen.ready = true);
    }

    fn stop(&self, uid: &Arc<str>) {
        self.change(uid, |pod| pod.seen.going = true);
        let (plant, uid) = (self.clone(), Arc::clone(uid));
        tokio::spawn(async move {
            sleep(GONE).await;
            if let Some(pod) = plant.lock().pods.remove(&uid) {
                drop(plant.watch.send(Observation::Pod(Event::Delete(pod.seen))));
            }
        });
    }

    fn change(&self, uid: &Arc<str>, change: impl FnOnce(&mut FakePod)) {
        if let Some(pod) = self.lock().pods.get_mut(uid) {
            change(pod);
        }
        self.tell_pod(uid);
    }

    fn tell_pod(&self, uid: &Arc<str>) {
        if let Some(pod) = self.lock().pods.get(uid) {
            drop(self.watch.send(Observation::Pod(Event::Apply(pod.seen.clone()))));
        }
    }

    fn tell_deployment(&self, revision: &str) {
        let state = self.lock();
        let Some(deployment) = state.deployments.get(revision) else { return };
        let seen = DeploymentSeen {
            uid: format!("d-{revision}").into(),
            namespace: "shop".into(),
            name: format!("{UID}-{revision}").into(),
            function_uid: UID.into(),
            revision: revision.into(),
            replicas: deployment.replicas,
            version: deployment.version,
            memory: 1 << 27,
            code: code_of(deployment.behaviour),
            failure: None,
        };
        drop(self.watch.send(Observation::Deployment(Event::Apply(seen))));
    }

    fn tell_function(&self) {
        let state = self.lock();
        let seen = FunctionSeen {
            key: FunctionKey::new("shop", UID),
            uid: UID.into(),
            version: state.version,
            settings: state.settings.clone(),
            latest_ready: state.latest_ready.clone(),
            latest_created: state.latest_created.clone(),
            learned: state.learned.clone(),
        };
        drop(self.watch.send(Observation::Function(Event::Apply(seen))));
    }
}

impl State {
    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The pod whose control port that is.
    fn at(&mut self, control: SocketAddr) -> Option<&mut FakePod> {
        assert_eq!(control.port(), CONTROL_PORT);
        let ip = |pod: &FakePod| pod.seen.address.map(|address| address.ip());
        self.pods.values_mut().find(|pod| ip(pod) == Some(control.ip()))
    }

    fn of<'a>(&'a self, revision: &'a str) -> impl Iterator<Item = &'a FakePod> {
        self.pods.values().filter(move |pod| &*pod.seen.revision == revision)
    }
}

fn code_of(behaviour: Behaviour) -> Option<CodeWay> {
    matches!(behaviour, Behaviour::Source(_)).then_some(CodeWay::Pushed)
}

fn failure(cause: Cause) -> StartFailure {
    StartFailure::new(cause, &format!("it is {cause}"))
}

fn address(uid: &str) -> Option<SocketAddr> {
    let number: u16 = uid.rsplit('-').next()?.parse().ok()?;
    let [high, low] = number.to_be_bytes();
    Some(([10, 1, high, low], 10_000 + number).into())
}

impl Instances for Plant {
    async fn apply_scale(
        &self,
        deployment: &DeploymentRef,
        replicas: u32,
    ) -> Result<Scaled, ScaleError> {
        sleep(WRITE).await;
        let break_off = std::mem::take(&mut self.lock().break_off);
        assert!(!break_off, "as the test asked for");
        let revision = deployment.name.strip_prefix("f-").unwrap().to_owned();
        let planned = self.lock().fail_scales.pop_front();
        if let Some(error) = planned {
            return Err(error);
        }
        self.lock().scales.push((revision.clone(), replicas));
        let version = self.set_replicas(&revision, replicas).ok_or(ScaleError::Missing)?;
        sleep(WRITE).await;
        Ok(Scaled { version })
    }

    async fn apply_deletion_cost(&self, pod: &PodRef, cost: i32) -> Result<(), CostError> {
        sleep(WRITE).await;
        self.change(&pod.name, |pod| pod.seen.deletion_cost = cost);
        Ok(())
    }

    async fn apply_claim(
        &self,
        pod: &PodRef,
        _uid: &str,
        claim: &str,
    ) -> Result<Claimed, CallError> {
        sleep(WRITE).await;
        let standing = {
            let mut state = self.lock();
            let Some(found) = state.pods.get_mut(&pod.name) else { return Ok(Claimed::Gone) };
            let ours = || ClaimId::from(Arc::<str>::from(claim));
            found.seen.claim.get_or_insert_with(ours).clone()
        };
        self.tell_pod(&pod.name);
        sleep(WRITE).await;
        let ours = standing.as_str() == claim;
        Ok(if ours { Claimed::Ours } else { Claimed::Others(standing.as_str().into()) })
    }

    async fn delete_pod(&self, pod: &PodRef, _uid: &str) -> Result<(), CallError> {
        sleep(WRITE).await;
        let revision = self.lock().pods.get(&pod.name).map(|pod| pod.seen.revision.to_string());
        if let Some(revision) = revision {
            self.stop(&pod.name);
            self.spawn_controllers(revision);
        }
        Ok(())
    }

    async fn fetch_membership(&self) -> Result<Membership, CallError> {
        sleep(WRITE).await;
        Ok(self.lock().membership.clone())
    }

    async fn fetch_readiness(&self, question: &Question) -> bool {
        let state = self.lock();
        let asked = state.pods.values().find(|pod| pod.seen.address == Some(question.address));
        asked.is_some_and(|pod| pod.listens)
    }

    async fn fetch_code(&self, record: &RecordRef) -> Result<Bytes, CallError> {
        assert_eq!((&*record.namespace, &*record.function), ("shop", UID));
        sleep(2 * WRITE).await;
        let mut state = self.lock();
        state.read.push(record.name.to_string());
        match state.no_records_until.filter(|until| Instant::now() < *until) {
            Some(_) => Err(CallError("not found".into())),
            None => Ok(record.name.to_string().into()),
        }
    }

    async fn push_code(&self, control: SocketAddr, code: Bytes) -> Result<(), CallError> {
        sleep(WRITE).await;
        let (uid, becomes) = {
            let mut state = self.lock();
            let pod = state.at(control);
            let pod = pod.ok_or_else(|| CallError("nobody is there".into()))?;
            let (uid, revision) = (Arc::clone(&pod.seen.uid), pod.seen.revision.to_string());
            pod.shim = Some(Phase::Other);
            state.pushed.push((uid.to_string(), code));
            (uid, state.deployments[&revision].behaviour)
        };
        let plant = self.clone();
        tokio::spawn(async move {
            sleep(OPENING_PORT).await;
            let Behaviour::Source(phase) = becomes else { return };
            plant.change(&uid, |pod| {
                pod.shim = Some(phase);
                pod.listens = phase == Phase::Other;
            });
        });
        Ok(())
    }

    async fn fetch_state(&self, control: SocketAddr) -> Result<ShimState, CallError> {
        let mut state = self.lock();
        let phase = state.at(control).and_then(|pod| pod.shim);
        let phase = phase.ok_or_else(|| CallError("nobody is there".into()))?;
        Ok(ShimState { phase, message: "as the shim says".into() })
    }
}

/// Calls again and again until that moment; the answer is the longest wait but the first.
pub async fn call_until(gate: Arc<Gate>, plant: Plant, end: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    let mut first = true;
    while Instant::now() < end {
        let served = call(Arc::clone(&gate), plant.clone(), Duration::from_millis(80)).await;
        let (_, waited) = served.expect("no request fails");
        if !std::mem::take(&mut first) {
            longest = longest.max(waited);
        }
        sleep(Duration::from_millis(3)).await;
    }
    longest
}
