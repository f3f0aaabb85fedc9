//! Pods of a Kubernetes cluster. Each call is one request with a timeout; who calls decides whether
//! to try again.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use rouse_core::function::code::Code;
use rouse_core::function::names::{
    ANNOTATION_CLAIM, ANNOTATION_DELETION_COST, MANAGER_ACTIVATOR, MEMBERSHIP_CONFIG_MAP,
};
use rouse_core::membership::Membership;
use serde_json::json;
use tokio::time::timeout;

use super::client::describe;
use super::codes::Codes;
use super::shim::{self, ShimState};
use super::{
    CallError, Claimed, CostError, DeploymentRef, Instances, PodRef, Question, RecordRef,
    ScaleError, Scaled,
};
use crate::observe::objects::membership_of;
use crate::readiness;

/// How long a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a claim is tried on a pod that others change at the same time: the kubelet writes a
/// handful of times while a pod starts.
const MOST_CLAIM_TRIES: usize = 10;

/// The pods of a cluster.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    memberships: Api<ConfigMap>,
    codes: Arc<Codes>,
}

impl Kubernetes {
    /// The pods of the cluster that `client` speaks to. It must not retry by itself. Rouse itself
    /// runs in `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        let memberships = Api::namespaced(client.clone(), namespace);
        Self { memberships, client, codes: Arc::default() }
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn read_code(&self, record: &RecordRef) -> Result<Bytes, CallError> {
        let api = Api::<ControllerRevision>::namespaced(self.client.clone(), &record.namespace);
        let found = timeout(WRITE_TIMEOUT, api.get(&record.name)).await;
        let found = found.map_err(|_| no_answer())?;
        let found = found.map_err(|error| CallError(describe(&error)))?;
        let code = Code::of_record(&found.data.0);
        let code = code.ok_or_else(|| CallError("it keeps no code".into()))?;
        Ok(code.bytes.into())
    }

    /// Sets the claim over the version of the pod that was read. None where it changed since.
    async fn try_claim(
        &self,
        pod: &PodRef,
        uid: &str,
        claim: &str,
    ) -> Result<Option<Claimed>, kube::Error> {
        let api = self.pods(&pod.namespace);
        let Some(found) = api.get_metadata_opt(&pod.name).await? else {
            return Ok(Some(Claimed::Gone));
        };
        if found.metadata.uid.as_deref() != Some(uid) {
            return Ok(Some(Claimed::Gone));
        }
        if let Some(standing) = claim_of(&found) {
            let ours = standing == claim;
            return Ok(Some(if ours { Claimed::Ours } else { Claimed::Others(standing.into()) }));
        }
        let patch = Patch::Merge(json!({"metadata": {
            "uid": uid,
            "resourceVersion": found.metadata.resource_version,
            "annotations": {ANNOTATION_CLAIM: claim},
        }}));
        match api.patch_metadata(&pod.name, &ours(), &patch).await {
            Ok(_) => Ok(Some(Claimed::Ours)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(Claimed::Gone)),
            Err(error) => Err(error),
        }
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
        let written = timeout(WRITE_TIMEOUT, api.patch_scale(&deployment.name, &ours(), &patch))
            .await
            .map_err(|_| unavailable(&"no answer in time"))?
            .map_err(scale_error)?;
        let version = written.metadata.resource_version;
        Ok(Scaled { version: version.and_then(|v| v.parse().ok()).unwrap_or_default() })
    }

    async fn apply_deletion_cost(&self, pod: &PodRef, cost: i32) -> Result<(), CostError> {
        let api = self.pods(&pod.namespace);
        let annotations = json!({ANNOTATION_DELETION_COST: cost.to_string()});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        match timeout(WRITE_TIMEOUT, api.patch_metadata(&pod.name, &ours(), &patch)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(CostError(describe(&error))),
            Err(_) => Err(CostError("no answer in time".into())),
        }
    }

    async fn apply_claim(
        &self,
        pod: &PodRef,
        uid: &str,
        claim: &str,
    ) -> Result<Claimed, CallError> {
        let trying = async {
            for _ in 0..MOST_CLAIM_TRIES {
                let tried = self.try_claim(pod, uid, claim).await;
                if let Some(claimed) = tried.map_err(|error| CallError(describe(&error)))? {
                    return Ok(claimed);
                }
            }
            Err(CallError("it changes too often".into()))
        };
        timeout(WRITE_TIMEOUT, trying).await.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn delete_pod(&self, pod: &PodRef, uid: &str) -> Result<(), CallError> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api = self.pods(&pod.namespace);
        match timeout(WRITE_TIMEOUT, api.delete(&pod.name, &params)).await {
            Ok(Ok(_)) => Ok(()),
            // Gone, or another of the same name by now.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
            Ok(Err(error)) => Err(CallError(describe(&error))),
            Err(_) => Err(no_answer()),
        }
    }

    async fn fetch_membership(&self) -> Result<Membership, CallError> {
        // Without a version in the request the API server asks its store.
        let fetched = timeout(WRITE_TIMEOUT, self.memberships.get(MEMBERSHIP_CONFIG_MAP)).await;
        let found = fetched.map_err(|_| no_answer())?;
        let found = found.map_err(|error| CallError(describe(&error)))?;
        membership_of(&found).ok_or_else(|| CallError("the membership does not parse".into()))
    }

    async fn fetch_readiness(&self, question: &Question) -> bool {
        readiness::fetch_readiness(question).await
    }

    async fn fetch_code(&self, record: &RecordRef) -> Result<Bytes, CallError> {
        self.codes.get(record, || self.read_code(record)).await
    }

    async fn push_code(&self, control: SocketAddr, code: Bytes) -> Result<(), CallError> {
        shim::push_code(control, code).await
    }

    async fn fetch_state(&self, control: SocketAddr) -> Result<ShimState, CallError> {
        shim::fetch_state(control).await
    }
}

fn ours() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER_ACTIVATOR.into()), ..PatchParams::default() }
}

fn claim_of(pod: &PartialObjectMeta<Pod>) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(ANNOTATION_CLAIM).map(String::as_str)
}

fn no_answer() -> CallError {
    CallError("no answer in time".into())
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
