//! What the requests of one Function count: handles that are made when it is first called.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use rouse_core::function::FunctionKey;

use super::RequestMetrics;
use super::labels::{CodeClass, Entry, FunctionLabels, RequestLabels};
use crate::exemplar::{TraceId, TracedHistogram, observe};

/// The counts of one Function.
#[derive(Debug)]
pub struct FunctionSeries {
    pub(super) key: FunctionKey,
    pub(super) labels: FunctionLabels,
    pub(super) metrics: Arc<RequestMetrics>,
    /// By entry and class, each made with the first request of its kind.
    pub(super) requests: [[OnceLock<Counter<u64, AtomicU64>>; CodeClass::COUNT]; 3],
    pub(super) in_flight: Gauge,
    pub(super) queued: Gauge,
    pub(super) buffered: Gauge,
    pub(super) queue_wait: TracedHistogram,
    pub(super) activated: Counter,
    pub(super) retried: Counter,
    pub(super) ejected: Counter,
}

impl FunctionSeries {
    /// Counts a request in flight for as long as the answer lives.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight(Arc::clone(self))
    }

    /// Counts a request that waits for as long as the answer lives.
    pub(crate) fn begin_waiting(&self) -> Counted {
        Counted::new(&self.queued)
    }

    /// The bytes that waiting requests hold.
    pub(crate) const fn buffered(&self) -> &Gauge {
        &self.buffered
    }

    pub(crate) fn note_wait(&self, wait: Duration, trace: Option<TraceId>) {
        observe(&self.queue_wait, wait.as_secs_f64(), trace);
    }

    pub(crate) fn note_activated(&self) {
        self.activated.inc();
    }

    pub(crate) fn note_retry(&self) {
        self.retried.inc();
    }

    pub(crate) fn note_ejection(&self) {
        self.ejected.inc();
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

    pub(super) fn request_labels(&self, listener: Entry, index: usize) -> RequestLabels {
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
    pub(super) fn new(gauge: &Gauge) -> Self {
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
pub(crate) struct InFlight(Arc<FunctionSeries>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}
