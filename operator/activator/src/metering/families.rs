//! What Functions use, as metrics by Function and revision.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rouse_core::function::FunctionKey;
use rouse_core::usage::Used;

type Seconds = Family<UsageLabels, Counter<f64, AtomicU64>>;

/// Bytes of a GB, as memory is sold.
const GB: f64 = 1_073_741_824.0;

#[derive(Debug)]
pub(super) struct Families {
    requests: Family<UsageLabels, Counter>,
    billed: Seconds,
    billed_gb: Seconds,
    pods: Seconds,
    pods_gb: Seconds,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UsageLabels {
    namespace: Arc<str>,
    function: Arc<str>,
    revision: Arc<str>,
}

impl UsageLabels {
    fn of(key: &FunctionKey, revision: &Arc<str>) -> Self {
        Self {
            namespace: Arc::clone(&key.namespace),
            function: Arc::clone(&key.name),
            revision: Arc::clone(revision),
        }
    }
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            requests: Family::default(),
            billed: Family::default(),
            billed_gb: Family::default(),
            pods: Family::default(),
            pods_gb: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("rouse_usage");
        let help = "Requests that pods have served for this activator";
        registry.register("requests", help, families.requests.clone());
        let help = "Time of these requests in pods, each rounded up to a millisecond";
        registry.register("billed_seconds", help, families.billed.clone());
        let help = "That time, shared among the requests in a pod, times the pod's memory";
        registry.register("billed_gb_seconds", help, families.billed_gb.clone());
        let help = "Time of pods that an owned Function kept warm, busy or idle";
        registry.register("pod_seconds", help, families.pods.clone());
        let help = "That time, times the pods' memory";
        registry.register("pod_gb_seconds", help, families.pods_gb.clone());
        families
    }

    /// Counts what more was used.
    #[allow(clippy::cast_precision_loss, reason = "a metric need not be that exact")]
    pub(super) fn add(&self, key: &FunctionKey, revision: &Arc<str>, more: &Used) {
        let labels = UsageLabels::of(key, revision);
        let seconds = |nanos: u128| nanos as f64 / 1e9;
        self.requests.get_or_create(&labels).inc_by(more.requests);
        self.billed.get_or_create(&labels).inc_by(seconds(more.billed_nanos));
        self.billed_gb.get_or_create(&labels).inc_by(seconds(more.billed_byte_nanos) / GB);
        self.pods.get_or_create(&labels).inc_by(seconds(more.pod_nanos));
        self.pods_gb.get_or_create(&labels).inc_by(seconds(more.pod_byte_nanos) / GB);
    }

    /// Shows the revisions no more.
    pub(super) fn forget(&self, key: &FunctionKey, revisions: impl IntoIterator<Item = Arc<str>>) {
        for revision in revisions {
            let labels = UsageLabels::of(key, &revision);
            self.requests.remove(&labels);
            self.billed.remove(&labels);
            self.billed_gb.remove(&labels);
            self.pods.remove(&labels);
            self.pods_gb.remove(&labels);
        }
    }
}
