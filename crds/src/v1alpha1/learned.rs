//! What was learned of a Function: part of its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What `scaling.idle.policy: Learned` goes by. It is kept here so that nothing is forgotten when an
/// activator ends or another takes over.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    /// The last 128 idle times of 2 s and more, as base64 of a form of Rouse's own that begins with
    /// its version; what another version of Rouse wrote and this one can't read is left unheeded.
    #[schemars(length(max = 512))]
    pub idle_times: String,
    /// When the last request was over, if there was none when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Time>,
}
