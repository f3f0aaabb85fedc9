//! The controller's metrics. Labels come from closed sets; nothing here names a Function.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use rouse_peer::ProofMetrics;

/// From a reconcile that only compares to one that waits for a slow API server, in seconds.
const DURATIONS: [f64; 10] = [0.000_1, 0.000_5, 0.002, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0, 20.0];

/// Handles to all metrics of the controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Reconcile, Counter>,
    durations: Family<ByKind, Histogram>,
    writes: Family<Write, Counter>,
    watch_errors: Family<ByKind, Counter>,
    report_lines: Family<ByKind, Counter>,
    report_streams: Gauge,
    members: Gauge,
    schedules: Gauge,
    ticks: Family<Tick, Counter>,
    pub(crate) queue: Gauge,
    pub(crate) proofs: ProofMetrics,
    leader: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tick {
    outcome: &'static str,
}

impl Metrics {
    /// Registers the metrics with `registry`, under names that begin with `rouse_controller_`.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("rouse_controller");
        let histogram: fn() -> Histogram = || Histogram::new(DURATIONS);
        let metrics = Self {
            reconciles: Family::default(),
            durations: Family::new_with_constructor(histogram),
            writes: Family::default(),
            watch_errors: Family::default(),
            report_lines: Family::default(),
            report_streams: Gauge::default(),
            members: Gauge::default(),
            schedules: Gauge::default(),
            ticks: Family::default(),
            queue: Gauge::default(),
            proofs: ProofMetrics::register(registry),
            leader: Gauge::default(),
        };
        let m = &metrics;
        registry.register("reconciles", "Reconciles by kind and outcome", m.reconciles.clone());
        registry.register_with_unit(
            "reconcile",
            "Time that a reconcile took",
            Unit::Seconds,
            m.durations.clone(),
        );
        registry.register("writes", "Writes that the API server accepted", m.writes.clone());
        registry.register("watch_errors", "Watches that broke off", m.watch_errors.clone());
        registry.register("report_lines", "Lines of activators' reports", m.report_lines.clone());
        registry.register("report_streams", "Activators that report", m.report_streams.clone());
        registry.register("members", "Activators in the membership", m.members.clone());
        registry.register("schedules", "Schedules that are kept", m.schedules.clone());
        registry.register("ticks", "Ticks of schedules by what became of them", m.ticks.clone());
        registry.register("queue", "Requests to reconcile that wait", m.queue.clone());
        registry.register("leader", "1 while this process leads", m.leader.clone());
        metrics
    }

    /// Says whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(crate) fn reconciled(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        self.reconciles.get_or_create(&Reconcile { kind, outcome }).inc();
        self.durations.get_or_create(&ByKind { kind }).observe(took.as_secs_f64());
    }

    pub(crate) fn wrote(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&Write { kind, verb }).inc();
    }

    pub(crate) fn watch_broke(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&ByKind { kind }).inc();
    }

    pub(crate) fn report_line(&self, kind: &'static str) {
        self.report_lines.get_or_create(&ByKind { kind }).inc();
    }

    pub(crate) fn report_stream(&self, change: i64) {
        self.report_streams.inc_by(change);
    }

    pub(crate) fn set_members(&self, count: usize) {
        self.members.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_schedules(&self, count: usize) {
        self.schedules.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn ticks(&self, outcome: &'static str, count: u64) {
        if count > 0 {
            self.ticks.get_or_create(&Tick { outcome }).inc_by(count);
        }
    }
}
