//! What the tasks of the controller share: stores to read, clients to write with, and the channel
//! that asks for reconciles.

use std::sync::Arc;

use futures::Stream;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Client;
use kube::runtime::reflector::{ObjectRef, Store};
use rouse_crds::v1alpha1::{Function, Trigger};
use rouse_peer::Connector;
use tokio::sync::{mpsc, watch};

use crate::events::Announcer;
use crate::index::Index;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::objects::{Deployment, Record, Service};
use crate::reports::Reports;
use crate::residents::Residents;
use crate::run::Config;

/// Requests to reconcile that may wait on their way to the controller's queue, which drops
/// duplicates; a full channel makes watches and reports wait, and loses nothing.
pub(crate) const REQUESTS: usize = 1024;

/// What the tasks share.
pub(crate) struct Context {
    pub config: Config,
    /// Writes only while this process leads.
    pub client: Client,
    /// Makes connections to activators.
    pub connector: Connector,
    pub functions: Store<Function>,
    /// Turns true when `functions` is complete. The store's own signal wakes one waiter only, and
    /// that is kube's controller.
    pub functions_ready: watch::Sender<bool>,
    pub children: Children,
    pub residents: Residents,
    pub triggers: Index<Trigger>,
    pub pods: Index<Pod>,
    pub memberships: Index<ConfigMap>,
    pub reports: Reports,
    pub memory: Memory,
    pub announcer: Announcer,
    pub metrics: Metrics,
    pub requests: Requests,
    /// Changes when the verdicts on Triggers may have changed.
    pub claims: watch::Sender<u64>,
    /// Changes when the membership may have to.
    pub membership_seen: watch::Sender<u64>,
}

/// The children of all Functions.
#[derive(Default)]
pub(crate) struct Children {
    pub deployments: Index<Deployment>,
    pub records: Index<Record>,
    pub services: Index<Service>,
}

impl Children {
    /// Waits until all that there is has been seen: deciding earlier would create it again.
    pub async fn ready(&self) {
        self.deployments.ready().await;
        self.records.ready().await;
        self.services.ready().await;
    }
}

/// Where to ask for a reconcile of a Function.
#[derive(Clone)]
pub(crate) struct Requests {
    sender: mpsc::Sender<ObjectRef<Function>>,
    metrics: Metrics,
}

impl Requests {
    /// Where to ask, and what was asked.
    pub fn new(metrics: Metrics) -> (Self, impl Stream<Item = ObjectRef<Function>> + Send) {
        let (sender, mut asked) = mpsc::channel(REQUESTS);
        let queue = metrics.queue.clone();
        let asked = futures::stream::poll_fn(move |cx| {
            asked.poll_recv(cx).map(|request| {
                queue.dec();
                request
            })
        });
        (Self { sender, metrics }, asked)
    }

    pub async fn send(&self, namespace: &str, name: &str) {
        let request = ObjectRef::new(name).within(namespace);
        self.metrics.queue.inc();
        // It fails only when the controller is gone, and then nothing matters any more.
        let _ = self.sender.send(request).await;
    }
}

/// Says that something changed.
pub(crate) fn bump(sender: &watch::Sender<u64>) {
    sender.send_modify(|count| *count = count.wrapping_add(1));
}

/// The context as tasks hold it.
pub(crate) type Shared = Arc<Context>;
