//! What requests count. The handles of a Function are made when it is first called and go with its
//! last request after it was deleted; nothing is looked up per request but for a problem.

mod labels;
mod series;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rouse_core::function::FunctionKey;

pub use self::labels::{Entry, Forwarded, Target};
pub use self::series::FunctionSeries;
pub(crate) use self::series::{Counted, InFlight};

use self::labels::{
    CodeClass, FarewellLabels, ForwardLabels, FunctionLabels, ProblemLabels, RequestLabels,
    TargetLabels,
};
use crate::exemplar::TracedHistogram;
use crate::seats::Farewell;

/// Upper bounds, in seconds, of the classes of waiting times: from a slot that is nearly free to
/// the longest activation.
const WAIT_BOUNDS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The counts of all requests.
#[derive(Debug)]
pub struct RequestMetrics {
    requests: Family<RequestLabels, Counter>,
    in_flight: Family<FunctionLabels, Gauge>,
    queued: Family<FunctionLabels, Gauge>,
    buffered: Family<FunctionLabels, Gauge>,
    queue_wait: Family<FunctionLabels, TracedHistogram, fn() -> TracedHistogram>,
    activated: Family<FunctionLabels, Counter>,
    retried: Family<FunctionLabels, Counter>,
    ejected: Family<FunctionLabels, Counter>,
    problems: Family<ProblemLabels, Counter>,
    straight: Counter,
    /// By [`Forwarded`].
    forwarded: [Counter; Forwarded::ALL.len()],
    /// By [`Target`].
    connect_failures: [Counter; Target::ALL.len()],
    /// By [`Target`].
    upstream_connections: [Gauge; Target::ALL.len()],
    connections: Gauge,
    farewells: Family<FarewellLabels, Counter>,
    functions: Mutex<HashMap<FunctionKey, Weak<FunctionSeries>>>,
}

impl RequestMetrics {
    /// Metrics that `registry`, which must have no prefix, shows with the prefix `rouse_`.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let forwarded = Family::<ForwardLabels, Counter>::default();
        let connect_failures = Family::<TargetLabels, Counter>::default();
        let upstream_connections = Family::<TargetLabels, Gauge>::default();
        let metrics = Arc::new(Self {
            requests: Family::default(),
            in_flight: Family::default(),
            queued: Family::default(),
            buffered: Family::default(),
            queue_wait: Family::new_with_constructor(|| {
                TracedHistogram::new(WAIT_BOUNDS.into_iter())
            }),
            activated: Family::default(),
            retried: Family::default(),
            ejected: Family::default(),
            problems: Family::default(),
            straight: Counter::default(),
            forwarded: Forwarded::ALL
                .map(|outcome| forwarded.get_or_create_owned(&ForwardLabels { outcome })),
            connect_failures: Target::ALL
                .map(|target| connect_failures.get_or_create_owned(&TargetLabels { target })),
            upstream_connections: Target::ALL
                .map(|target| upstream_connections.get_or_create_owned(&TargetLabels { target })),
            connections: Gauge::default(),
            farewells: Family::default(),
            functions: Mutex::default(),
        });
        let m = &metrics;
        let registry = registry.sub_registry_with_prefix("rouse");
        let help = "Requests that came for a Function, by class of the answer's status";
        registry.register("requests", help, m.requests.clone());
        let help = "Requests that are not answered to their end yet, waiting ones too";
        registry.register("requests_in_flight", help, m.in_flight.clone());
        let help = "Requests that wait for a pod or for an owner";
        registry.register("requests_queued", help, m.queued.clone());
        let help = "Memory that waiting requests hold: heads, and what was read of bodies";
        registry.register("buffered_bytes", help, m.buffered.clone());
        let help = "How long requests waited for a pod that had no slot at once";
        registry.register("queue_wait_seconds", help, m.queue_wait.clone());
        let help = "Requests that waited for a pod to come up";
        registry.register("activated_requests", help, m.activated.clone());
        let help = "Times that a request which no pod took was tried again";
        registry.register("retries", help, m.retried.clone());
        let help = "Times that a pod which failed was passed over for a while";
        registry.register("ejections", help, m.ejected.clone());
        let help = "Answers of the activator's own that are problems, by the end of their type";
        registry.register("problems", help, m.problems.clone());
        let help = "Attempts to pass a request to the activator that owns its Function";
        registry.register("forwards", help, forwarded);
        let help = "Requests whose Function another activator owns that went straight to a pod";
        registry.register("straight_requests", help, m.straight.clone());
        let help = "Connections to pods and to other activators";
        registry.register("upstream_connections", help, upstream_connections);
        let help = "Connections to pods and to other activators that could not be made";
        registry.register("upstream_connect_failures", help, connect_failures);
        let help = "Connections from clients and other activators";
        registry.register("downstream_connections", help, m.connections.clone());
        let help = "Connections that were closed or not let in for what they did or did not do";
        registry.register("downstream_dismissals", help, m.farewells.clone());
        metrics
    }

    /// The counts of the Function `key`, shared by all who ask while somebody holds them.
    pub fn function(self: &Arc<Self>, key: &FunctionKey) -> Arc<FunctionSeries> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = functions.get(key).and_then(Weak::upgrade) {
            return series;
        }
        let labels = FunctionLabels {
            namespace: Arc::clone(&key.namespace),
            function: Arc::clone(&key.name),
        };
        let series = Arc::new(FunctionSeries {
            in_flight: self.in_flight.get_or_create_owned(&labels),
            queued: self.queued.get_or_create_owned(&labels),
            buffered: self.buffered.get_or_create_owned(&labels),
            queue_wait: self.queue_wait.get_or_create_owned(&labels),
            activated: self.activated.get_or_create_owned(&labels),
            retried: self.retried.get_or_create_owned(&labels),
            ejected: self.ejected.get_or_create_owned(&labels),
            requests: Default::default(),
            labels,
            key: key.clone(),
            metrics: Arc::clone(self),
        });
        functions.insert(key.clone(), Arc::downgrade(&series));
        series
    }

    pub(crate) fn note_problem(&self, problem: &'static str, listener: Entry) {
        self.problems.get_or_create(&ProblemLabels { problem, listener }).inc();
    }

    pub(crate) fn note_forward(&self, outcome: Forwarded) {
        self.forwarded[outcome as usize].inc();
    }

    pub(crate) fn note_straight(&self) {
        self.straight.inc();
    }

    pub(crate) fn note_connect_failure(&self, target: Target) {
        self.connect_failures[target as usize].inc();
    }

    /// Counts a connection to `target` for as long as the answer lives.
    pub(crate) fn begin_upstream(&self, target: Target) -> Counted {
        Counted::new(&self.upstream_connections[target as usize])
    }

    pub(crate) fn note_farewell(&self, reason: Farewell) {
        self.farewells.get_or_create(&FarewellLabels { reason }).inc();
    }

    pub(crate) fn begin_connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    fn forget(&self, series: &FunctionSeries) {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        // A Function that was made again under the same name has series of its own by now.
        let own = |weak: &Weak<FunctionSeries>| std::ptr::eq(weak.as_ptr(), series);
        if !functions.get(&series.key).is_some_and(own) {
            return;
        }
        functions.remove(&series.key);
        self.in_flight.remove(&series.labels);
        self.queued.remove(&series.labels);
        self.buffered.remove(&series.labels);
        self.queue_wait.remove(&series.labels);
        self.activated.remove(&series.labels);
        self.retried.remove(&series.labels);
        self.ejected.remove(&series.labels);
        for listener in [Entry::cluster, Entry::public, Entry::peer] {
            for index in 0..CodeClass::COUNT {
                self.requests.remove(&series.request_labels(listener, index));
            }
        }
    }
}

#[cfg(test)]
mod tests;
