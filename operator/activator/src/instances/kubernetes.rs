//! Pods of a Kubernetes cluster. Each call is one request with a timeout; who calls decides whether
//! to try again.

use std::fmt::Display;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rouse_core::function::names::{ANNOTATION_DELETION_COST, MANAGER_ACTIVATOR};
use serde_json::json;
use tokio::time::timeout;

use k8s_openapi::api::apps::v1::Deployment;

use super::client::describe;
use super::{CostError, DeploymentRef, Instances, PodRef, Question, ScaleError, Scaled};
use crate::readiness;

/// How long a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The pods of a cluster.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
}

impl Kubernetes {
    /// The pods of the cluster that `client` speaks to. It must not retry by itself.
    pub const fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Instances for Kubernetes {
    async fn apply_scale(
        &self,
        deployment: &DeploymentRef,
        replicas: u32,
    ) -> Result<Scaled, ScaleError> {
        let api = Api::<Deployment>::namespaced(self.client.clone(), &deployment.namespace);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let params =
            PatchParams { field_manager: Some(MANAGER_ACTIVATOR.into()), ..PatchParams::default() };
        let written = timeout(WRITE_TIMEOUT, api.patch_scale(&deployment.name, &params, &patch))
            .await
            .map_err(|_| unavailable(&"no answer in time"))?
            .map_err(scale_error)?;
        let version = written.metadata.resource_version;
        Ok(Scaled { version: version.and_then(|v| v.parse().ok()).unwrap_or_default() })
    }

    async fn apply_deletion_cost(&self, pod: &PodRef, cost: i32) -> Result<(), CostError> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace);
        let annotations = json!({ANNOTATION_DELETION_COST: cost.to_string()});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let params =
            PatchParams { field_manager: Some(MANAGER_ACTIVATOR.into()), ..PatchParams::default() };
        match timeout(WRITE_TIMEOUT, api.patch_metadata(&pod.name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(CostError(describe(&error))),
            Err(_) => Err(CostError("no answer in time".into())),
        }
    }

    async fn fetch_readiness(&self, question: &Question) -> bool {
        readiness::fetch_readiness(question).await
    }
}

fn unavailable(message: &dyn Display) -> ScaleError {
    ScaleError::Unavailable { message: message.to_string(), retry_after: None }
}

fn scale_error(error: kube::Error) -> ScaleError {
    let kube::Error::Api(status) = error else { return unavailable(&describe(&error)) };
    match status.code {
        404 => ScaleError::Missing,
        400 | 403 | 422 => ScaleError::Refused(status.message.clone()),
        _ => {
            let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            ScaleError::Unavailable {
                message: status.message.clone(),
                retry_after: (seconds > 0).then(|| Duration::from_secs(seconds.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests;
