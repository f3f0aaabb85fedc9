//! What was decided on a Function, and why: part of its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// One change of the number of pods, with what it was made from. `rouse why` prints them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDecision {
    /// When it was made.
    pub time: Time,
    /// Pods before.
    pub from: u32,
    /// Pods since.
    pub to: u32,
    /// Why, in one word, such as `Load`, `StableWindow` or `Asleep`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Most requests in flight and waiting at one moment since the decision before.
    #[serde(default)]
    pub peak: u32,
    /// Requests that pods were serving.
    #[serde(default)]
    pub in_flight: u32,
    /// Requests that waited.
    #[serde(default)]
    pub waiting: u32,
    /// Requests that one pod was counted for.
    #[serde(default)]
    pub per_pod: u32,
    /// Pods that took requests.
    #[serde(default)]
    pub ready: u32,
}
