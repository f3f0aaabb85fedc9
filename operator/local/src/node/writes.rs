//! What is written of one pod: where it stands, what became of it, and that it is gone. A write that
//! fails is tried again for a while.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::sleep;

use super::status::Story;

/// Pause before a write that failed is tried again, and how often it is tried.
const RETRY: Duration = Duration::from_millis(200);
const TRIES: u32 = 10;

/// Writes of one pod.
pub struct Writes {
    api: Api<Pod>,
    name: String,
    uid: Option<String>,
}

impl Writes {
    /// Those of `pod`.
    pub fn of(client: &Client, pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let api = Api::namespaced(client.clone(), namespace);
        Self { api, name: meta.name.clone().unwrap_or_default(), uid: meta.uid.clone() }
    }

    /// Says where it stands; tells whether it is still there.
    pub async fn place(&self, patch: &Value) -> bool {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.until_written("placing", || self.api.patch(&self.name, &params, &patch)).await
    }

    /// Says what became of it.
    pub async fn say(&self, story: &Story) -> bool {
        let (params, patch) = (PatchParams::default(), Patch::Merge(story.render()));
        let write = || self.api.patch_status(&self.name, &params, &patch);
        self.until_written("telling of", write).await
    }

    /// Deletes it, once its container is gone.
    pub async fn remove(&self) -> bool {
        let preconditions = Preconditions { uid: self.uid.clone(), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        self.until_written("deleting", || self.api.delete(&self.name, &params)).await
    }

    async fn until_written<T, F>(&self, doing: &str, write: impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        for _ in 0..TRIES {
            match write().await {
                Ok(_) => return true,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return false,
                Err(error) => tracing::warn!(pod = self.name, %error, "{doing} a pod failed"),
            }
            sleep(RETRY).await;
        }
        false
    }
}
