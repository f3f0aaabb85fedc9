//! What the tasks of owned Functions count.

use std::fmt::Debug;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rouse_core::function::FunctionKey;
use rouse_core::function::start_failure::Cause;
use rouse_core::handover::Answer;
use rouse_core::report::FunctionReport;
use rouse_core::scaling::{Decision, Reason};
use rouse_crds::v1alpha1::Activation;

use crate::admission::Gate;
use crate::exemplar::{Caller, TracedHistogram, observe};
use crate::instances::{CallError, PodRef, ScaleError, Scaled};
use crate::metering::{Meter, Meters};
use crate::observe::index::FunctionView;
use crate::spans::{Spans, Waking};

/// Bounds of the phases of an activation, in seconds.
const PHASE_BUCKETS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

type Phases = Family<PhaseLabel, TracedHistogram, fn() -> TracedHistogram>;

/// The families of all Functions.
#[derive(Clone, Debug)]
pub struct ControlMetrics {
    desired: Family<FunctionLabels, Gauge>,
    ready: Family<FunctionLabels, Gauge>,
    decisions: Family<ReasonLabel, Counter>,
    scale_writes: Family<OutcomeLabel, Counter>,
    start_failures: Family<CauseLabel, Counter>,
    replacements: Family<OutcomeLabel, Counter>,
    takeovers: Family<TakeoverLabel, Counter>,
    phases: Phases,
    spans: Option<Spans>,
    /// What Functions use.
    pub meters: Meters,
    /// Functions that this activator owns.
    pub owned: Gauge,
    /// Functions of others that are sent to straight.
    pub followed: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionLabels {
    namespace: Arc<str>,
    function: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: DebugLabel<Reason>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    reason: DebugLabel<Cause>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: DebugLabel<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TakeoverLabel {
    outcome: &'static str,
}

/// What became of a scale write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    Written,
    Missing,
    Refused,
    Unavailable,
}

/// A closed enum as the value of a label: the name of the variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct DebugLabel<T>(T);

impl<T: Debug> EncodeLabelValue for DebugLabel<T> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        use std::fmt::Write;
        write!(encoder, "{:?}", self.0)
    }
}

impl ControlMetrics {
    /// Makes all families known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let phases: fn() -> TracedHistogram = || TracedHistogram::new(PHASE_BUCKETS.into_iter());
        let metrics = Self {
            desired: Family::default(),
            ready: Family::default(),
            decisions: Family::default(),
            scale_writes: Family::default(),
            start_failures: Family::default(),
            replacements: Family::default(),
            takeovers: Family::default(),
            phases: Family::new_with_constructor(phases),
            spans: None,
            meters: Meters::register(registry),
            owned: Gauge::default(),
            followed: Gauge::default(),
        };
        registry.register(
            "rouse_function_desired_pods",
            "Pods that an owned Function was last told to have",
            metrics.desired.clone(),
        );
        registry.register(
            "rouse_function_ready_pods",
            "Pods of an owned Function that answer",
            metrics.ready.clone(),
        );
        registry.register(
            "rouse_scale_decisions",
            "Decisions that changed the number of pods, by reason",
            metrics.decisions.clone(),
        );
        registry.register(
            "rouse_scale_writes",
            "Writes of a Deployment's scale, by outcome",
            metrics.scale_writes.clone(),
        );
        registry.register(
            "rouse_start_failures",
            "Starts that could not succeed, by reason",
            metrics.start_failures.clone(),
        );
        registry.register(
            "rouse_pod_replacements",
            "Deletions of pods that kept failing while others served, by outcome",
            metrics.replacements.clone(),
        );
        registry.register(
            "rouse_takeovers",
            "Former owners of Functions with a hard limit that were asked for what they had, by \
             outcome: pods of those that are silent are replaced",
            metrics.takeovers.clone(),
        );
        registry.register(
            "rouse_activation_seconds",
            "Time from the request that woke a Function to each phase of its pod's start",
            metrics.phases.clone(),
        );
        metrics.register_functions(registry);
        metrics
    }

    fn register_functions(&self, registry: &mut Registry) {
        registry.register(
            "rouse_owned_functions",
            "Functions that this activator owns",
            self.owned.clone(),
        );
        registry.register(
            "rouse_followed_functions",
            "Functions of other activators whose requests go straight to their pods",
            self.followed.clone(),
        );
    }

    /// Tells wakings as spans, too.
    #[must_use]
    pub fn with_spans(self, spans: Spans) -> Self {
        Self { spans: Some(spans), ..self }
    }

    /// The part of one Function. Its own families go with it.
    pub fn of(&self, key: &FunctionKey) -> ScalerMetrics {
        let labels = FunctionLabels {
            namespace: Arc::clone(&key.namespace),
            function: Arc::clone(&key.name),
        };
        ScalerMetrics { all: self.clone(), labels, desired: None, meter: None }
    }
}

/// What the task of one Function counts.
#[derive(Debug)]
pub struct ScalerMetrics {
    all: ControlMetrics,
    labels: FunctionLabels,
    desired: Option<u32>,
    /// What the Function uses, once it had a pod.
    meter: Option<Arc<Meter>>,
}

impl ScalerMetrics {
    /// A decision was made.
    pub fn decided(&mut self, decision: &Decision) {
        if self.desired.replace(decision.desired).unwrap_or_default() != decision.desired {
            let reason = DebugLabel(decision.reason);
            self.all.decisions.get_or_create(&ReasonLabel { reason }).inc();
            tracing::debug!(
                namespace = %self.labels.namespace,
                function = %self.labels.function,
                desired = decision.desired,
                reason = ?decision.reason,
                "scaling",
            );
        }
    }

    /// These pods are warm: the revision and the memory of each.
    pub fn keep_warm<'a>(
        &mut self,
        function: &FunctionView,
        gate: &Arc<Gate>,
        pods: impl Iterator<Item = (&'a Arc<str>, u64)>,
    ) {
        let mut pods = pods.peekable();
        if self.meter.is_none() && pods.peek().is_some() {
            self.meter = Some(self.all.meters.watch(&function.key, &function.uid, gate));
        }
        if let Some(meter) = &self.meter {
            meter.keep_warm(pods);
        }
    }

    /// A scale was written, or not.
    pub fn scale_written(&self, result: &Result<Scaled, ScaleError>) {
        let outcome = DebugLabel(match result {
            Ok(_) => Outcome::Written,
            Err(ScaleError::Missing) => Outcome::Missing,
            Err(ScaleError::Refused(_)) => Outcome::Refused,
            Err(ScaleError::Unavailable { .. }) => Outcome::Unavailable,
        });
        self.all.scale_writes.get_or_create(&OutcomeLabel { outcome }).inc();
        if let Err(error) = result {
            tracing::warn!(
                namespace = %self.labels.namespace,
                function = %self.labels.function,
                %error,
                "writing the scale failed, trying again later",
            );
        }
    }

    /// A failing pod was deleted, or not.
    pub fn replaced(&self, pod: &PodRef, result: &Result<(), CallError>) {
        let (outcome, error) = match result {
            Ok(()) => (Outcome::Written, None),
            Err(error) => (Outcome::Unavailable, Some(error)),
        };
        self.all.replacements.get_or_create(&OutcomeLabel { outcome: DebugLabel(outcome) }).inc();
        tracing::warn!(
            namespace = %pod.namespace,
            pod = %pod.name,
            error = error.map(tracing::field::display),
            "a pod kept failing while others served: replacing it",
        );
    }

    /// A former owner was asked for what it has.
    pub fn asked_for(&self, answer: &Answer) {
        let outcome = match answer {
            Answer::Gave(_) => "gave",
            Answer::Refused => "refused",
            Answer::Silent => "silent",
        };
        self.all.takeovers.get_or_create(&TakeoverLabel { outcome }).inc();
    }

    /// A start can't succeed.
    pub fn start_failed(&self, cause: Cause) {
        let reason = DebugLabel(cause);
        self.all.start_failures.get_or_create(&CauseLabel { reason }).inc();
    }

    /// A Function was woken, by a request of `caller` if somebody records its trace.
    pub fn activated(&self, activation: &Activation, caller: Option<Caller>) {
        let trace = caller.map(|caller| caller.trace);
        let phases = [
            ("scaled", activation.scaled_millis),
            ("created", activation.created_millis),
            ("scheduled", activation.scheduled_millis),
            ("addressed", activation.addressed_millis),
            ("listening", activation.listening_millis),
            ("first_byte", activation.first_byte_millis),
        ];
        for (phase, millis) in phases {
            if let Some(millis) = millis {
                let seconds = f64::from(millis) / 1000.0;
                observe(&self.all.phases.get_or_create(&PhaseLabel { phase }), seconds, trace);
            }
        }
        let (Some(spans), Some(caller)) = (&self.all.spans, caller) else { return };
        spans.tell(|| {
            let FunctionLabels { namespace, function } = &self.labels;
            let key = FunctionKey { namespace: namespace.clone(), name: function.clone() };
            Waking { key, caller, activation: activation.clone() }
        });
    }

    /// The controller is told this.
    pub fn report(&self, report: &FunctionReport) {
        let sum = |count: fn(&rouse_core::report::RevisionReport) -> u32| -> i64 {
            report.revisions.values().map(|revision| i64::from(count(revision))).sum()
        };
        self.all.desired.get_or_create(&self.labels).set(sum(|revision| revision.desired));
        self.all.ready.get_or_create(&self.labels).set(sum(|revision| revision.ready));
    }
}

impl Drop for ScalerMetrics {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            meter.keep_warm(std::iter::empty());
        }
        self.all.desired.remove(&self.labels);
        self.all.ready.remove(&self.labels);
    }
}
