//! What requests count. The handles of a Function are made when it is first called and go with its
//! last request after it was deleted; nothing is looked up per request.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use rouse_core::function::FunctionKey;
use rouse_core::routing::Listener;

use crate::seats::Farewell;

/// Upper bounds, in seconds, of the classes of waiting times: from a slot that is nearly free to
/// the longest activation.
const WAIT_BOUNDS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Entry {
    /// The port for callers in the cluster.
    cluster,
    /// The port for callers outside.
    public,
    /// The port for other activators.
    peer,
}

impl From<Listener> for Entry {
    fn from(listener: Listener) -> Self {
        match listener {
            Listener::Cluster => Self::cluster,
            Listener::Public => Self::public,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum CodeClass {
    /// A status, by its first digit.
    Status(u8),
    /// The client left before it had one.
    Gone,
}

impl CodeClass {
    const COUNT: usize = 6;

    const fn index(self) -> usize {
        match self {
            Self::Status(digit) => digit as usize,
            Self::Gone => 0,
        }
    }
}

impl From<StatusCode> for CodeClass {
    fn from(status: StatusCode) -> Self {
        Self::Status(u8::try_from(status.as_u16() / 100).unwrap_or(5).clamp(1, 5))
    }
}

impl EncodeLabelValue for CodeClass {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder,
    ) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::Status(1) => "1xx",
            Self::Status(2) => "2xx",
            Self::Status(3) => "3xx",
            Self::Status(4) => "4xx",
            Self::Status(_) => "5xx",
            Self::Gone => "gone",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionLabels {
    namespace: Arc<str>,
    function: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    namespace: Arc<str>,
    function: Arc<str>,
    code_class: CodeClass,
    listener: Entry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabels {
    problem: &'static str,
    listener: Entry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FarewellLabels {
    reason: Farewell,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForwardLabels {
    outcome: Forwarded,
}

/// What became of an attempt to pass a request to the owner of its Function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Forwarded {
    /// The owner answered.
    answered,
    /// It could not be reached or would not have it; tried again.
    unsent,
    /// It broke off after it had sent the request on.
    broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectLabels {
    target: Target,
}

/// What a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Target {
    /// A pod of a Function.
    pod,
    /// Another activator.
    peer,
}

/// The counts of all requests.
#[derive(Debug)]
pub struct RequestMetrics {
    requests: Family<RequestLabels, Counter>,
    in_flight: Family<FunctionLabels, Gauge>,
    queued: Family<FunctionLabels, Gauge>,
    queue_wait: Family<FunctionLabels, Histogram, fn() -> Histogram>,
    activated: Family<FunctionLabels, Counter>,
    problems: Family<ProblemLabels, Counter>,
    forwarded: Family<ForwardLabels, Counter>,
    connect_failures: Family<ConnectLabels, Counter>,
    connections: Gauge,
    farewells: Family<FarewellLabels, Counter>,
    functions: Mutex<HashMap<FunctionKey, Weak<FunctionSeries>>>,
}

impl RequestMetrics {
    /// Metrics that `registry`, which must have no prefix, shows with the prefix `rouse_`.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Arc::new(Self {
            requests: Family::default(),
            in_flight: Family::default(),
            queued: Family::default(),
            queue_wait: Family::new_with_constructor(|| Histogram::new(WAIT_BOUNDS)),
            activated: Family::default(),
            problems: Family::default(),
            forwarded: Family::default(),
            connect_failures: Family::default(),
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
        let help = "How long requests waited for a pod that had no slot at once, in seconds";
        registry.register("queue_wait_seconds", help, m.queue_wait.clone());
        let help = "Requests that waited for a pod to come up";
        registry.register("activated_requests", help, m.activated.clone());
        let help = "Answers of the activator's own that are problems, by the end of their type";
        registry.register("problems", help, m.problems.clone());
        let help = "Attempts to pass a request to the activator that owns its Function";
        registry.register("forwards", help, m.forwarded.clone());
        let help = "Connections to pods and to other activators that could not be made";
        registry.register("upstream_connect_failures", help, m.connect_failures.clone());
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
            queue_wait: self.queue_wait.get_or_create_owned(&labels),
            activated: self.activated.get_or_create_owned(&labels),
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
        self.forwarded.get_or_create(&ForwardLabels { outcome }).inc();
    }

    pub(crate) fn note_connect_failure(&self, target: Target) {
        self.connect_failures.get_or_create(&ConnectLabels { target }).inc();
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
        self.queue_wait.remove(&series.labels);
        self.activated.remove(&series.labels);
        for listener in [Entry::cluster, Entry::public, Entry::peer] {
            for index in 0..CodeClass::COUNT {
                self.requests.remove(&series.request_labels(listener, index));
            }
        }
    }
}

/// The counts of one Function.
#[derive(Debug)]
pub struct FunctionSeries {
    key: FunctionKey,
    labels: FunctionLabels,
    metrics: Arc<RequestMetrics>,
    /// By entry and class, each made with the first request of its kind.
    requests: [[OnceLock<Counter<u64, AtomicU64>>; CodeClass::COUNT]; 3],
    in_flight: Gauge,
    queued: Gauge,
    queue_wait: Histogram,
    activated: Counter,
}

impl FunctionSeries {
    /// Counts a request in flight for as long as the answer lives.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        InFlight { _counted: Counted::new(&self.in_flight), _series: Arc::clone(self) }
    }

    /// Counts a request that waits for as long as the answer lives.
    pub(crate) fn begin_waiting(&self) -> Counted {
        Counted::new(&self.queued)
    }

    pub(crate) fn note_wait(&self, wait: Duration) {
        self.queue_wait.observe(wait.as_secs_f64());
    }

    pub(crate) fn note_activated(&self) {
        self.activated.inc();
    }

    /// Counts the end of a request: by its status, or none where the client left before it.
    pub(crate) fn note_end(&self, entry: Entry, status: Option<StatusCode>) {
        let index = status.map_or(CodeClass::Gone, CodeClass::from).index();
        if let Some(counter) = self.requests.get(entry as usize).and_then(|row| row.get(index)) {
            let make = || {
                let labels = self.request_labels(entry, index);
                self.metrics.requests.get_or_create_owned(&labels)
            };
            counter.get_or_init(make).inc();
        }
    }

    fn request_labels(&self, listener: Entry, index: usize) -> RequestLabels {
        let code_class = match u8::try_from(index) {
            Ok(digit) if digit > 0 => CodeClass::Status(digit),
            _ => CodeClass::Gone,
        };
        RequestLabels {
            namespace: Arc::clone(&self.labels.namespace),
            function: Arc::clone(&self.labels.function),
            code_class,
            listener,
        }
    }
}

impl Drop for FunctionSeries {
    fn drop(&mut self) {
        let metrics = Arc::clone(&self.metrics);
        metrics.forget(self);
    }
}

/// One more in a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One request in flight. It keeps the counts of its Function, also of one that was deleted.
#[derive(Debug)]
pub(crate) struct InFlight {
    _counted: Counted,
    _series: Arc<FunctionSeries>,
}
