//! The way to a port that a pod of Rouse's opens in a namespace of tenants on its loopback address: it
//! leads through the API server, which says who may take it (`pods/portforward`).

use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rouse_core::resident::Resident;
use tokio::time::timeout;

use super::forward::{Forward, is_ready};
use crate::cluster::Cluster;
use crate::exit::Failure;

/// What lets one take it.
const RIGHT: &str =
    "the role `edit` there, or `list` on pods with `get` and `create` on pods/portforward";

/// How long the pod may take to answer by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to a pod.
pub(super) struct Way {
    forward: Forward<Empty<Bytes>>,
    resident: Resident,
}

impl Way {
    /// The way to `port` of the pod that `resident` has in `namespace`; none while no such pod runs.
    pub async fn reach(
        cluster: &Cluster,
        namespace: &str,
        (resident, port): (Resident, u16),
    ) -> anyhow::Result<Option<Self>> {
        let place = format!("namespace {namespace}");
        let refused = |error, verb| cluster.refused_in(error, verb, &place, RIGHT);
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let list = pods.list(&ListParams::default().labels(resident.selector())).await;
        let list = list.map_err(|error| refused(error, "list pods"))?;
        let running = list.items.iter().filter(|pod| is_running(pod));
        // One that has just come may have to take over from one that is about to go.
        let Some(pod) = running.max_by_key(|pod| is_ready(pod)) else { return Ok(None) };
        let forward = Forward::open(&pods, (&pod.name_any(), port), refused).await?;
        Ok(Some(Self { forward, resident }))
    }

    /// Asks the pod. What it asks of nobody else is answered soon; a POST waits for a Function.
    pub async fn ask(&mut self, method: Method, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        if method == Method::POST {
            return self.exchange(method, path).await;
        }
        let silent = format!(
            "the {} pod did not answer within {PATIENCE:?}: see how it is, and what it logs",
            self.resident.component()
        );
        let answer = timeout(PATIENCE, self.exchange(method, path)).await;
        answer.map_err(|_| Failure::TooLate(silent))?
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let broke = format!(
            "asking the {} pod: the connection broke off; try again, and see whether the pod is of \
             this version of Rouse",
            self.resident.component()
        );
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.body(Empty::new()).context("writing the question")?;
        let sender = &mut self.forward.sender;
        sender.ready().await.with_context(|| broke.clone())?;
        let answer = sender.send_request(request).await.with_context(|| broke.clone())?;
        let status = answer.status();
        let body = answer.into_body().collect().await.context(broke)?.to_bytes();
        Ok((status, body))
    }
}

/// Whether it runs. That it is ready, the kubelet says a second late.
fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && phase == Some("Running")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_pod_that_runs_and_stays_is_asked() {
        let pod = |phase: &str, leaves: Option<&str>| {
            let pod = json!({
                "metadata": {"deletionTimestamp": leaves},
                "status": {"phase": phase},
            });
            is_running(&serde_json::from_value(pod).unwrap())
        };
        assert!(pod("Running", None));
        assert!(!pod("Pending", None));
        assert!(!pod("Running", Some("2026-11-01T00:00:00Z")));
    }
}
