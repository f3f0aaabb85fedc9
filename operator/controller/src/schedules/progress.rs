//! How far a schedule is, as its Trigger's status keeps it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rouse_core::schedule::ValidatedSchedule;
use rouse_crds::v1alpha1::{ScheduleStatus, Trigger};
use serde_json::json;
use tokio::time::Instant;

use crate::context::Context;
use crate::error::{Error, chain};

/// Field manager of the progress, apart from that of the conditions: two writers of one object
/// that own different fields of it.
const MANAGER: &str = "rouse-schedule";
/// Least time between two writes for one Trigger: what is not written is sent again by the next
/// leader.
const PACE: Duration = Duration::from_secs(10);
/// Least time between two writes for any Triggers, on average: twenty a second.
const PACE_OF_ALL: Duration = Duration::from_millis(50);

/// What is known of the progress, and what of it is written.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// All ticks up to here are settled.
    pub settled: Timestamp,
    /// The last tick that the Function took.
    pub delivered: Option<Timestamp>,
    written: Option<Timestamp>,
    /// When the last write began.
    begun: Option<Instant>,
    writing: bool,
}

impl Progress {
    /// The progress of `schedule` as `trigger` tells it at `now`. A schedule that is new begins when
    /// its Trigger was made, and one that was changed begins now.
    pub fn of(trigger: &Trigger, schedule: &ValidatedSchedule, now: Timestamp) -> Self {
        let status = trigger.status.as_ref().and_then(|status| status.schedule.as_ref());
        let known = status.filter(|status| status.pattern == schedule.pattern);
        let is_first = status.is_none() && trigger.metadata.generation == Some(1);
        let written = known.map(|status| status.settled_until.0);
        Self {
            settled: written.unwrap_or(if is_first { schedule.made } else { now }),
            delivered: status.and_then(|status| Some(status.last_delivered.as_ref()?.0)),
            written,
            begun: None,
            writing: false,
        }
    }

    /// When it is to be written; none while nothing is new, or a write is under way. `count`
    /// schedules share what the API server can be asked for.
    pub fn due(&self, count: usize) -> Option<Instant> {
        let pace = PACE.max(PACE_OF_ALL.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)));
        let is_new = self.written != Some(self.settled) && !self.writing;
        is_new.then(|| self.begun.map_or_else(Instant::now, |begun| begun + pace))
    }

    /// A write of what is known now begins.
    pub fn begin(&mut self) {
        self.writing = true;
        self.begun = Some(Instant::now());
    }

    /// A write of `settled` came to its end.
    pub fn end(&mut self, settled: Timestamp, written: bool) {
        self.writing = false;
        if written {
            self.written = Some(settled);
        }
    }
}

/// Writes `progress` to the very Trigger that `schedule` is of; whether it is written. It will be
/// tried again, so a failure is told only.
pub(crate) async fn write(
    context: &Context,
    schedule: &ValidatedSchedule,
    progress: &Progress,
) -> bool {
    let key = &schedule.key;
    let status = ScheduleStatus {
        pattern: schedule.pattern.clone(),
        settled_until: Time(progress.settled),
        last_delivered: progress.delivered.map(Time),
    };
    let body = json!({
        "apiVersion": "rouse.dev/v1alpha1",
        "kind": "Trigger",
        "metadata": {"name": key.name, "namespace": key.namespace, "uid": schedule.uid},
        "status": {"schedule": status},
    });
    let api: Api<Trigger> = Api::namespaced(context.client.clone(), &key.namespace);
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(&key.name, &params, &Patch::Apply(&body)).await {
        Ok(written) => {
            context.triggers.assume(written);
            context.metrics.wrote("Status", "apply");
            true
        }
        Err(error) => {
            let error = chain(&Error::Status(error));
            tracing::info!(trigger = %key, error, "progress of a schedule not written");
            false
        }
    }
}
