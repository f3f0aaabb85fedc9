//! What follows from a plan that is being carried out: what the gate tells callers, what the
//! controller is told, and when to decide again. Part of the state; no IO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rouse_core::function::start_failure::{Cause, StartFailure};
use rouse_core::function::switch::{Plan, RevisionSeen};
use rouse_core::report::FunctionReport;
use rouse_core::scaling::{Decision, Reason};
use rouse_crds::v1alpha1::LastError;
use tokio::time::Instant;

use super::Scaler;
use super::crowding::Delay;
use crate::admission::{self, Load};
use crate::namespaces::Seat;
use crate::scaler::activation::{Clocks, build_activation};
use crate::scaler::pods::Silence;
use crate::scaler::reporting::{Reported, build_report};

/// How long a soft target holds requests back for pods that were asked for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Shortest and longest pause between two looks at the load of a Function that is called.
const SAMPLE_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// How often a Function that the clock calls is looked at: the clock on the wall may be set.
const CLOCK_LOOK: Duration = Duration::from_mins(10);

impl Scaler {
    /// Turns requests away while the serving revision can't start, and lets them hope otherwise.
    pub(super) fn settle_failure(
        &mut self,
        plan: &Plan,
        seen: &BTreeMap<Arc<str>, RevisionSeen>,
        clocks: &Clocks,
    ) {
        let now = clocks.instant;
        self.note_error(plan, seen, clocks);
        let open = self.pods.open_count() > 0;
        let failure = plan.serving.as_ref().filter(|_| !open).and_then(|serving| {
            if let Some(full) = self.crowded_out.as_deref() {
                return Some(full);
            }
            let hopeful = self.pods.of(serving).any(|(_, pod)| pod.failure(now).is_none());
            if hopeful { None } else { self.failures(serving, now).next() }
        });
        match failure {
            Some(failure) => {
                if !self.failing {
                    self.gate.end_activation();
                }
                self.gate.fail(Arc::new(admission::StartFailure {
                    reason: failure.cause.as_str(),
                    message: failure.message.clone(),
                }));
                self.failing = true;
            }
            None if self.failing => {
                self.gate.hope();
                self.failing = false;
            }
            None => {}
        }
    }

    /// Tells the gate when containers of the serving revision run and do not answer, or when more pods
    /// may not come, for those who wait for them in vain.
    pub(super) fn settle_delay(&mut self, plan: &Plan, decision: &Decision) {
        let served = self.pods.open_count() > 0;
        let silent = plan
            .serving
            .as_ref()
            .filter(|_| !served)
            .and_then(|serving| self.pods.of(serving).find_map(|(_, pod)| pod.silence()));
        let full = (decision.reason == Reason::NamespaceMax).then_some(Delay::Namespace);
        let delay = silent.map(Delay::Silent).or(full);
        if self.delay != delay {
            self.delay = delay;
            let path = self.observed.function.settings.readiness_path.as_deref();
            let told = delay.and_then(|delay| match delay {
                Delay::Silent(Silence::Port(port)) => Some(not_listening(port, path)),
                Delay::Silent(Silence::Code) => Some(not_up()),
                Delay::Namespace => self.seat.as_ref().map(namespace_full),
            });
            self.gate.set_delay(told.map(Arc::new));
        }
    }

    /// Keeps the last error for the report. One of the same revision and cause stays as it was
    /// first told; one that is over goes when a pod of its revision serves.
    pub(super) fn note_error(
        &mut self,
        plan: &Plan,
        seen: &BTreeMap<Arc<str>, RevisionSeen>,
        clocks: &Clocks,
    ) {
        let current = [plan.serving.as_ref(), plan.candidate.as_ref()];
        let full = plan.serving.as_ref().zip(self.crowded_out.as_deref().cloned());
        let failing = full.or_else(|| {
            current.into_iter().flatten().find_map(|revision| {
                self.failures(revision, clocks.instant)
                    .next()
                    .map(|failure| (revision, failure.clone()))
            })
        });
        if let Some((revision, failure)) = failing {
            let same = self.last_error.as_ref().is_some_and(|last| {
                last.reason == failure.cause.as_str() && *last.revision == **revision
            });
            if !same {
                self.metrics.start_failed(failure.cause);
                self.last_error = Some(last_error(revision, &failure, clocks.wall));
            }
        } else if let Some(last) = &self.last_error {
            let revision = &*last.revision;
            let current = current.into_iter().flatten().any(|r| **r == *revision);
            let serves = seen.get(revision).is_some_and(|seen| seen.answering > 0);
            // There is room again: what happens now, the next request tells.
            let over = last.reason == Cause::NamespaceFull.as_str();
            if serves || !current || over {
                self.last_error = None;
            }
        }
    }

    /// Holds a burst back for the pods that are on their way, but not for those that can't come;
    /// answers how long.
    pub(super) fn expect_pods(&mut self, plan: &Plan, now: Instant) -> Option<Instant> {
        let until = plan.serving.as_ref().and_then(|serving| {
            let open = self.pods.of(serving).filter(|(_, pod)| pod.is_open()).count();
            let lacking = usize::try_from(plan.pods_of(serving)).is_ok_and(|wanted| open < wanted);
            let possible = self.failures(serving, now).next().is_none();
            let raised = self.replicas.get(serving)?.raised_at()?;
            Some(raised + PATIENCE).filter(|ends| *ends > now && lacking && possible)
        });
        if self.expecting != until.is_some() {
            self.expecting = until.is_some();
            self.gate.expect_pods(self.expecting);
        }
        until
    }

    pub(super) fn note_activation(&mut self, load: &Load, clocks: &Clocks) {
        let Some(mark) = &load.activation else { return };
        let busy = load.in_flight > 0 || load.waiting > 0;
        if mark.first_byte.is_none() {
            let nobody_waits_for_it = !busy && (self.pods.open_count() > 0 || self.is_asleep());
            if nobody_waits_for_it {
                self.gate.end_activation();
            }
            return;
        }
        let woken = self
            .pods
            .iter()
            .filter_map(|(_, pod)| Some((pod, pod.start()?)))
            .filter(|(_, start)| start.listening.is_some_and(|at| at >= mark.arrived))
            .min_by_key(|(_, start)| start.listening);
        let activation = woken.and_then(|(pod, start)| {
            build_activation(mark, &pod.view().seen.revision, start, clocks)
        });
        if let Some(activation) = activation {
            self.metrics.activated(&activation, mark.caller);
            self.history.woken(activation.clone());
            self.last_activation = Some(Box::new(activation));
        }
        self.gate.end_activation();
    }

    fn is_asleep(&self) -> bool {
        self.replicas.values().all(|replicas| replicas.known() == 0)
    }

    /// When to decide again if nothing happens. A Function asleep has no such moment.
    pub(super) fn next_moment(
        &self,
        load: &Load,
        decision: &Decision,
        targets: &BTreeMap<Arc<str>, u32>,
        now: Instant,
    ) -> Option<Instant> {
        let busy = self.active || load.in_flight > 0 || load.waiting > 0;
        let (shortest, longest) = SAMPLE_PAUSES;
        let scaling = &self.observed.function.settings.policy.scaling;
        // Within the idle time, so that its end is not seen late.
        let pause = (scaling.stable_window / 10).clamp(shortest, longest).min(scaling.idle_after);
        let writes = self.replicas.iter().map(|(revision, replicas)| {
            let target = targets.get(revision).copied().unwrap_or_default();
            replicas.wake_at(target, now)
        });
        let graces = self.pods.iter().map(|(_, pod)| pod.failure_counts_at());
        [
            decision.again_at.map(|moment| self.origin + moment),
            busy.then(|| now + pause),
            self.pods.reprieve_at(now),
            (!self.observed.ticks.is_empty()).then(|| now + CLOCK_LOOK),
            Some(self.others_known_at),
        ]
        .into_iter()
        .chain(writes)
        .chain(graces)
        .flatten()
        .filter(|at| *at > now)
        .min()
    }

    pub(super) fn report(
        &self,
        plan: &Plan,
        targets: &BTreeMap<Arc<str>, u32>,
        load: &Load,
    ) -> FunctionReport {
        let reported = Reported {
            observed: &self.observed,
            plan,
            targets,
            pods: &self.pods,
            load,
            last_activation: self.last_activation.as_deref(),
            last_error: self.last_error.as_ref(),
            learned: self.memory.told(),
            history: &self.history,
        };
        let report = build_report(&reported);
        self.metrics.report(&report);
        report
    }
}

fn namespace_full(seat: &Seat) -> admission::StartFailure {
    let reason = Cause::NamespaceFull.as_str();
    admission::StartFailure { reason, message: seat.describe_full() }
}

fn not_listening(port: u16, path: Option<&str>) -> admission::StartFailure {
    let message = match path {
        None => format!(
            "the container runs but nothing listens on port {port} of the Function: see whether it \
             listens on that port ($PORT, spec.port) and not on localhost alone"
        ),
        Some(path) => format!(
            "the container runs but {path:?} on port {port} of the Function (spec.readiness) has \
             not answered with success: see its log"
        ),
    };
    let reason = if path.is_none() { "NotListening" } else { "NotReady" };
    admission::StartFailure { reason, message }
}

fn not_up() -> admission::StartFailure {
    let message =
        "the code has started and takes no request yet: see its log, let it do less as it \
                   starts, or raise timeouts.activation"
            .to_owned();
    admission::StartFailure { reason: "NotUp", message }
}

fn last_error(revision: &str, failure: &StartFailure, wall: Timestamp) -> LastError {
    LastError {
        time: Time(wall),
        revision: revision.to_owned(),
        reason: failure.cause.as_str().to_owned(),
        message: failure.message.clone(),
    }
}
