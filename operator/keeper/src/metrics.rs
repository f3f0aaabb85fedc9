//! What a keeper counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a keeper counts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Pods whose lines are fetched.
    pub(crate) pods: Gauge,
    /// Bytes of lines that were kept.
    pub(crate) bytes: Counter,
    /// Bytes of lines that were printed faster than they were fetched.
    pub(crate) missed: Counter,
    /// Times that lines could not be written.
    pub(crate) failures: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("rouse_keeper");
        registry.register("pods", "Pods whose lines are fetched", metrics.pods.clone());
        registry.register("bytes", "Bytes of lines that were kept", metrics.bytes.clone());
        registry.register(
            "missed_bytes",
            "Bytes of lines that were printed faster than they were fetched",
            metrics.missed.clone(),
        );
        registry.register(
            "failures",
            "Times that lines could not be written",
            metrics.failures.clone(),
        );
        metrics
    }
}
