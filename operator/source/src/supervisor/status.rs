//! Tells in the status of a Trigger how its source goes: the only writer of `status.source`, under a
//! field manager of its own, and only of what changed.

use std::future::pending;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rouse_core::trigger::TriggerKey;
use rouse_crds::v1alpha1::{SourceError, SourceStatus, Trigger};
use rouse_peer::chain;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::triggers::Wanted;
use crate::metrics::TriggerMetrics;
use crate::runner::Outlook;

/// Field manager of the progress of sources, apart from that of the conditions.
const MANAGER: &str = "rouse-source";
/// Least time between two writes for one Trigger and spec.
const PACE: Duration = Duration::from_secs(10);
/// What is kept of an error's text: a status is no log.
const MOST_TEXT: usize = 1024;

/// Tells how a source goes.
pub(super) struct Teller {
    api: Api<Trigger>,
    key: TriggerKey,
    uid: String,
    generation: i64,
    metrics: TriggerMetrics,
    last_error: Option<SourceError>,
    written: Option<SourceStatus>,
}

impl Teller {
    pub fn new(client: &Client, wanted: &Wanted, metrics: TriggerMetrics) -> Self {
        let key = wanted.source.key.clone();
        Self {
            api: Api::namespaced(client.clone(), &key.namespace),
            key,
            uid: wanted.source.uid.to_string(),
            generation: wanted.generation,
            metrics,
            last_error: None,
            written: None,
        }
    }

    /// Never ends.
    pub async fn run(mut self, mut outlook: watch::Receiver<Outlook>) {
        // Until the server is there, or something is wrong, there is nothing to tell.
        let known = |outlook: &Outlook| outlook.progress.connected || outlook.trouble.is_some();
        if outlook.wait_for(known).await.is_err() {
            return pending().await;
        }
        loop {
            let now = outlook.borrow_and_update().clone();
            let status = self.status(&now);
            if self.written.as_ref() != Some(&status) && self.write(&status).await {
                self.written = Some(status);
            }
            // The counts change without a word.
            sleep(PACE).await;
        }
    }

    fn status(&mut self, outlook: &Outlook) -> SourceStatus {
        let Outlook { progress, trouble } = outlook;
        if let Some(trouble) = trouble {
            let message: String = trouble.message.chars().take(MOST_TEXT).collect();
            let known = self.last_error.as_ref();
            let is_known = |e: &SourceError| e.reason == trouble.reason && e.message == message;
            if !known.is_some_and(is_known) {
                let (reason, time) = (trouble.reason.to_owned(), Time(Timestamp::now()));
                self.last_error = Some(SourceError { reason, message, time });
            }
        }
        let metrics = &self.metrics;
        SourceStatus {
            observed_generation: Some(self.generation),
            connected: progress.connected,
            lag: progress.lag,
            checkpoint: progress.checkpoint.clone(),
            in_flight: metrics.in_flight.get().try_into().unwrap_or_default(),
            delivered: metrics.delivered.get(),
            retried: metrics.retried.get(),
            dead_lettered: metrics.dead_lettered.get(),
            last_error: self.last_error.clone(),
        }
    }

    /// Writes `status` to the very Trigger that it is of; whether it is written. It will be tried
    /// again, so a failure is told only.
    async fn write(&self, status: &SourceStatus) -> bool {
        let body = json!({
            "apiVersion": "rouse.dev/v1alpha1",
            "kind": "Trigger",
            "metadata": {
                "name": self.key.name,
                "namespace": self.key.namespace,
                "uid": self.uid,
            },
            "status": {"source": status},
        });
        let params = PatchParams::apply(MANAGER).force();
        let written = self.api.patch_status(&self.key.name, &params, &Patch::Apply(&body)).await;
        if let Err(error) = &written {
            let (trigger, error) = (&self.key, chain(error));
            tracing::info!(%trigger, error, "how a source goes is not written");
        }
        written.is_ok()
    }
}
