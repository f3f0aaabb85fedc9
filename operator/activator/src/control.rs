//! The control side of the activator: one task that follows the cluster, keeps the table of routes
//! and the owners of Functions up to date, and runs the tasks of those that are owned here. It
//! carries no request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::{Stream, StreamExt};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use rouse_core::handover::{Estate, Release};
use rouse_core::report::ReportLine;
use rouse_core::scaling::allowance::PodCaps;
use rouse_core::trigger::HostPolicy;
use rouse_core::usage::Process;
use rouse_peer::{Connector, IdentityConfig, IdentityKeeper, ProofMetrics, ServerKey, TlsError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::forward::{PeerDialer, Releases, Streams};
use crate::instances::Instances;
use crate::instances::kubernetes::Kubernetes;
use crate::metering::Meters;
use crate::namespaces::Namespaces;
use crate::ndjson::encode;
use crate::observe::index::Index;
use crate::observe::{Observation, watch_cluster};
use crate::ownership::{Ownership, World};
use crate::peer_auth::PeerAuth;
use crate::release::neighbours::Neighbours;
use crate::release::{Handed, Step};
use crate::reports::Reports;
use crate::scaler::metrics::ControlMetrics;
use crate::server::PeerService;
use crate::spans::Spans;
use crate::table::{SharedTable, build_table};
use crate::upstream::Dialer;

/// Observations that are taken in before anything is made of them, at most.
const BATCH: usize = 1000;
/// The building of tables may take this part of the time, as one over it.
const REBUILD_SHARE: u32 = 10;

/// Questions of other activators that wait, at most; more of them wait in their connections.
const MOST_ASKED: usize = 256;

/// A question of another activator.
struct Asked {
    release: Release,
    /// Whether the answer may wait for what is on its way.
    patient: bool,
    answer: oneshot::Sender<Step>,
}

/// How long a question may wait for an answer to another that this activator has asked itself: half
/// as long as who asks waits for the first word.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the control side must be told.
pub struct ControlConfig {
    /// The API server. It must not retry by itself: see `instances::client`.
    pub client: kube::Client,
    /// Namespace that Rouse runs in.
    pub namespace: String,
    /// Name of this activator's pod.
    pub pod_name: String,
    /// UID of this activator's pod, by which the membership names it.
    pub uid: String,
    /// What the administrator says about hosts.
    pub hosts: HostPolicy,
    /// What the administrator says about pods.
    pub pod_caps: PodCaps,
    /// Where wakings are told as spans.
    pub spans: Spans,
    /// File with the token by which this activator proves itself to others.
    pub token_file: PathBuf,
}

/// What the request side needs of the control side.
#[derive(Clone)]
pub struct ControlHandles {
    /// The routes in force; empty until `synced`.
    pub routes: SharedTable,
    /// Whether everything has been listed, so that an unknown host is really unknown. It is true
    /// before there is a membership: requests then wait for one.
    pub synced: watch::Receiver<bool>,
    /// What the port for peers answers with.
    pub peers: PeerService,
    /// Makes connections to other activators.
    pub connector: Connector,
}

/// Why there is no control side.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The control side, to be run.
pub struct Control {
    client: kube::Client,
    namespace: String,
    director: Director<Kubernetes>,
    identity: IdentityKeeper,
    metering: Metering,
}

/// What tells the controller what was used.
struct Metering {
    meters: Meters,
    reports: Reports,
    process: Process,
}

/// What keeps the table and the owners up to date.
struct Director<I> {
    /// What other activators ask for.
    releases: (mpsc::Sender<Asked>, mpsc::Receiver<Asked>),
    index: Index,
    ownership: Ownership<I>,
    hosts: HostPolicy,
    routes: SharedTable,
    reports: Reports,
    synced: watch::Sender<bool>,
    routes_are_stale: bool,
    /// When the table may be built again.
    rebuild_at: Instant,
}

impl Control {
    /// Builds the control side and what the request side needs of it. Nothing runs yet.
    pub fn new(
        config: ControlConfig,
        registry: &mut Registry,
    ) -> Result<(Self, ControlHandles), ControlError> {
        let ControlConfig { client, namespace, pod_name, uid, hosts, pod_caps, spans, token_file } =
            config;
        let reports = Reports::default();
        let auth = PeerAuth::new(client.clone(), &namespace);
        let proofs = ProofMetrics::register(registry.sub_registry_with_prefix("rouse"));
        let connector = Connector::new(client.clone(), &namespace, proofs)?;
        let dialer = PeerDialer::new(Dialer::tcp(), connector.clone());
        let asking = Arc::new(Releases::new(token_file.clone(), dialer.clone()));
        let ask = move |member, release| Arc::clone(&asking).ask(member, release);
        let streams = Arc::new(Streams::new(token_file, dialer));
        let connect = move |member, subscribe| Arc::clone(&streams).open(member, subscribe).boxed();
        let world = World {
            neighbours: Arc::new(Neighbours::new(&uid, Arc::new(ask))),
            instances: Arc::new(Kubernetes::new(client.clone(), &namespace)),
            reports: reports.clone(),
            metrics: ControlMetrics::register(registry).with_spans(spans),
            connect: Arc::new(connect),
            namespaces: Namespaces::new(pod_caps),
            community: Arc::default(),
        };
        let meters = world.metrics.meters.clone();
        let process = Process::new(&uid, Timestamp::now().as_second());
        reports.introduce(process.clone());
        let director = Director::new(Ownership::new(world), reports.clone(), hosts);
        let key = ServerKey::generate()?;
        let identity = IdentityConfig {
            namespace: namespace.clone(),
            pod_name,
            pod_uid: uid,
            key: key.fingerprint(),
        };
        let identity = IdentityKeeper::new(client.clone(), identity);
        let asked = director.releases.0.clone();
        let handles = ControlHandles {
            routes: Arc::clone(&director.routes),
            synced: director.synced.subscribe(),
            peers: PeerService {
                check: Arc::new(move |token| {
                    let auth = auth.clone();
                    async move { auth.check(&token).await }.boxed()
                }),
                reports: {
                    let reports = reports.clone();
                    Arc::new(move || reports.respond())
                },
                last_words: {
                    let (meters, process) = (meters.clone(), process.clone());
                    Arc::new(move || last_words(&meters, &process))
                },
                release: Arc::new(move |release| hand_over(asked.clone(), release).boxed()),
                key,
                identity: identity.identity(),
            },
            connector,
        };
        let metering = Metering { meters, reports, process };
        Ok((Self { client, namespace, director, identity, metering }, handles))
    }

    /// Follows the cluster for as long as it is polled: also while the process drains, for it must
    /// know until its last request who owns what.
    pub async fn run(self) {
        let Self { client, namespace, director, identity, metering } = self;
        let Metering { meters, reports, process } = metering;
        tokio::select! {
            () = director.run(watch_cluster(&client, &namespace)) => {}
            () = identity.run() => {}
            () = meters.run(&reports, &process) => {}
        }
    }
}

/// All that was used, and that nothing comes after it.
fn last_words(meters: &Meters, process: &Process) -> Bytes {
    let used = meters.gather(process, true).into_iter();
    let used = used.map(|report| ReportLine::Usage(Box::new(report)));
    encode(used.chain([ReportLine::Farewell(process.clone())]))
}

/// Has the task that knows who owns what give a Function away.
async fn hand_over(asked: mpsc::Sender<Asked>, release: Release) -> Handed {
    let patient_until = Instant::now() + PATIENCE;
    loop {
        let (answer, step) = oneshot::channel();
        let patient = Instant::now() < patient_until;
        // Without that task nothing is owned here.
        drop(asked.send(Asked { release: release.clone(), patient, answer }).await);
        match step.await {
            Ok(Step::Now(handed)) => return handed,
            // Late or not, it is asked again.
            Ok(Step::Later(gate)) => drop(timeout_at(patient_until, gate.fell()).await),
            Err(_) => return Handed::Gave { estate: Estate::default(), gate: None },
        }
    }
}

impl<I: Instances> Director<I> {
    fn new(ownership: Ownership<I>, reports: Reports, hosts: HostPolicy) -> Self {
        Self {
            releases: mpsc::channel(MOST_ASKED),
            index: Index::default(),
            ownership,
            hosts,
            routes: SharedTable::default(),
            reports,
            synced: watch::Sender::new(false),
            routes_are_stale: false,
            rebuild_at: Instant::now(),
        }
    }

    async fn run(mut self, mut observations: impl Stream<Item = Observation> + Unpin) {
        loop {
            tokio::select! {
                observation = observations.next() => {
                    let Some(observation) = observation else { return };
                    self.take_in(observation, &mut observations);
                }
                Some(Asked { release, patient, answer }) = self.releases.1.recv() => {
                    // Who has left meanwhile has lost it: nobody else may have it either.
                    drop(answer.send(self.ownership.release(release, patient, &self.index)));
                }
                () = self.ownership.mend(&self.index) => {}
                () = sleep_until(self.rebuild_at), if self.routes_are_stale => {}
            }
            self.settle();
        }
    }

    /// Takes in an observation and those that are there already.
    fn take_in(
        &mut self,
        first: Observation,
        rest: &mut (impl Stream<Item = Observation> + Unpin),
    ) {
        self.index.apply(first, Instant::now());
        for _ in 1..BATCH {
            let Some(Some(next)) = rest.next().now_or_never() else { return };
            self.index.apply(next, Instant::now());
        }
    }

    /// Makes what is known come into force. Before everything was listed that is nothing: half of
    /// the pods, or of the Functions, would be taken for all.
    fn settle(&mut self) {
        if !self.index.is_synced() {
            return;
        }
        let changes = self.index.take_changes();
        self.ownership.survey(&changes.functions, &self.index);
        for uid in &changes.functions {
            self.ownership.update(uid, &self.index);
        }
        if changes.membership {
            self.ownership.set_membership(&self.index);
        }
        self.routes_are_stale |= changes.routes;
        self.rebuild_routes();
        if !self.routes_are_stale {
            self.reports.route(self.index.known());
        }
        if !*self.synced.borrow() && !self.routes_are_stale {
            tracing::info!(functions = self.index.functions().count(), "synced");
            self.synced.send_replace(true);
        }
    }

    /// Builds the table if it is time to: at once when little happens, and in a tenth of the time
    /// when Functions come by the thousand.
    fn rebuild_routes(&mut self) {
        let begun = Instant::now();
        if !self.routes_are_stale || begun < self.rebuild_at {
            return;
        }
        let table = build_table(&self.index, &self.hosts, |uid| self.ownership.handle(uid));
        self.routes.store(Arc::new(table));
        self.routes_are_stale = false;
        let took: Duration = begun.elapsed();
        self.rebuild_at = begun + took * REBUILD_SHARE;
    }
}

#[cfg(test)]
mod tests;
