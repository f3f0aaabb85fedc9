//! Starts the tasks of the controller and waits for the first that should not have ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::Client;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{Controller, controller};
use rouse_core::function::runtime::Runtimes;
use rouse_core::membership::Membership;
use rouse_core::resident::{PodTemplate, Resident};
use rouse_core::trigger::HostPolicy;
use rouse_crds::v1alpha1::Function;
use rouse_peer::{Activators, Connector, TlsError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::context::{Children, Context, Requests, Shared};
use crate::events::Announcer;
use crate::fence::{Fence, fenced};
use crate::index::Index;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::reports::{Reports, collector};
use crate::residents::{self, Residents};
use crate::schedules::{self, Outside};
use crate::{members, reconcile_function, reconcile_trigger, watch as watches};

/// Functions that are reconciled at once: each holds at most one request to the API server.
const CONCURRENT: u16 = 16;
/// How long what is under way may take once the process shall stop.
const DRAIN: Duration = Duration::from_secs(5);

/// What the controller is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace that Rouse runs in.
    pub namespace: String,
    /// Name of this process's pod, for events.
    pub pod_name: String,
    /// Host of the activators' Service.
    pub activator_host: String,
    /// What the administrator says about hosts.
    pub host_policy: HostPolicy,
    /// File with the token by which this process proves itself to activators.
    pub peer_token_file: PathBuf,
    /// Port on which activators listen for their peers.
    pub peer_port: u16,
    /// What the chart says of the pods that Rouse runs in namespaces of tenants, as far as there shall be
    /// any.
    pub residents: BTreeMap<Resident, PodTemplate>,
    /// What the chart says of what code is run in.
    pub runtimes: Runtimes,
}

/// Why the controller ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no TLS to activators.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A task that never ends did.
    #[error("the task {0} ended")]
    Ended(&'static str),
    /// A task panicked.
    #[error("a task failed")]
    Failed(#[source] tokio::task::JoinError),
}

/// Runs the controller until `shutdown` turns true. Whoever calls it leads, and `fence` says for
/// how long that is certain; when the future is dropped, everything stops.
pub async fn run(
    config: Config,
    client: Client,
    fence: Fence,
    metrics: Metrics,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let told = shutdown.clone();
    let client = fenced(client, fence);
    let connector = Connector::new(client.clone(), &config.namespace, metrics.proofs.clone())?;
    let (parts, mut tasks) = start(config, (client, connector), metrics, shutdown.clone());
    let Parts { context, membership } = parts;
    let outside = Outside {
        caller: Arc::new(Activators::new(&context.config.activator_host)),
        clock: Arc::new(Timestamp::now),
    };
    tasks.spawn(schedules::run(context.clone(), outside).map(|()| "schedules"));
    tasks.spawn(collector::run(context, membership).map(|()| "reports"));
    let ended = tokio::select! {
        biased;
        () = stopped(shutdown) => None,
        ended = tasks.join_next() => ended,
    };
    match ended {
        None => {
            drain(tasks).await;
            Ok(())
        }
        // It may have seen first that the process shall stop.
        Some(Ok(CONTROLLER)) if *told.borrow() => {
            tasks.shutdown().await;
            Ok(())
        }
        Some(Ok(name)) => Err(RunError::Ended(name)),
        Some(Err(error)) => Err(RunError::Failed(error)),
    }
}

/// Name of the task that ends by itself when the process shall stop.
const CONTROLLER: &str = "functions";

/// What tests reach into.
pub(crate) struct Parts {
    pub context: Shared,
    pub membership: watch::Receiver<Membership>,
}

/// Starts all tasks but those that reach beyond the API server.
pub(crate) fn start(
    config: Config,
    (client, connector): (Client, Connector),
    metrics: Metrics,
    shutdown: watch::Receiver<bool>,
) -> (Parts, JoinSet<&'static str>) {
    let (published, membership) = watch::channel(Membership::default());
    let (requests, asked) = Requests::new(metrics.clone());
    let store = Writer::<Function>::default();
    let context = Arc::new(Context {
        announcer: Announcer::new(client.clone(), &config.pod_name),
        config,
        client,
        connector,
        functions: store.as_reader(),
        functions_ready: watch::Sender::new(false),
        children: Children::default(),
        residents: Residents::default(),
        triggers: Index::default(),
        pods: Index::default(),
        memberships: Index::default(),
        reports: Reports::new(membership.clone()),
        memory: Memory::default(),
        metrics,
        requests,
        claims: watch::Sender::new(0),
        membership_seen: watch::Sender::new(0),
    });
    let mut tasks = JoinSet::new();
    let c = || context.clone();
    tasks.spawn(watches::watch_deployments(c()).map(|()| "watch of Deployments"));
    tasks.spawn(watches::watch_records(c()).map(|()| "watch of ControllerRevisions"));
    tasks.spawn(watches::watch_services(c()).map(|()| "watch of Services"));
    tasks.spawn(watches::watch_triggers(c()).map(|()| "watch of Triggers"));
    tasks.spawn(watches::watch_activators(c()).map(|()| "watch of activators"));
    tasks.spawn(watches::watch_membership(c()).map(|()| "watch of the membership"));
    let deployments = watches::watch_residents(c(), |residents| &residents.deployments);
    tasks.spawn(deployments.map(|()| "watch of Deployments of residents"));
    let accounts = watches::watch_residents(c(), |residents| &residents.accounts);
    tasks.spawn(accounts.map(|()| "watch of ServiceAccounts of residents"));
    let bindings = watches::watch_residents(c(), |residents| &residents.bindings);
    tasks.spawn(bindings.map(|()| "watch of RoleBindings of residents"));
    tasks.spawn(residents::run(c()).map(|()| "residents"));
    tasks.spawn(members::run(c(), published).map(|()| "membership"));
    tasks.spawn(reconcile_trigger::run(c()).map(|()| "triggers"));
    let functions = watches::watch_functions(c(), store);
    let controller = Controller::for_stream(functions, context.functions.clone())
        .with_config(controller::Config::default().concurrency(CONCURRENT))
        .reconcile_on(asked)
        .graceful_shutdown_on(stopped(shutdown))
        .run(reconcile_function::reconcile, reconcile_function::on_error, c())
        // Errors were logged by `on_error`; a Function that is gone is none.
        .for_each(|_| std::future::ready(()));
    tasks.spawn(controller.map(|()| CONTROLLER));
    (Parts { context, membership }, tasks)
}

/// Waits for the reconciles that are under way, and ends everything else.
async fn drain(mut tasks: JoinSet<&'static str>) {
    let reconciles = async {
        while let Some(ended) = tasks.join_next().await {
            if matches!(ended, Ok(CONTROLLER)) {
                return;
            }
        }
    };
    if tokio::time::timeout(DRAIN, reconciles).await.is_err() {
        tracing::warn!("reconciles took too long to end");
    }
    tasks.shutdown().await;
}

/// Waits until the process shall stop, or nobody is left to say so.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
