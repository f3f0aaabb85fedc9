//! What a Function used: part of its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What a Function used: the time of its requests and of its pods, and the memory that went with
/// it. Refreshed once a minute at most, and only when it changed. `rouse usage` prints it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// When counting began.
    pub since: Time,
    /// Up to when is counted here; what came later is added within about a minute.
    pub updated_at: Time,
    /// All since counting began.
    #[serde(default)]
    pub total: UsageSums,
    /// The revisions that were used last, latest first, at most 10. Others are in the total only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub revisions: Vec<RevisionUsage>,
    /// The last days on which something was used, latest first, at most 32; days of UTC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub days: Vec<DayUsage>,
    /// How often an activator that carried requests or kept pods of this Function ended without its
    /// last word, as in a crash. Each time at most 10 seconds of what it counted are missing here.
    #[serde(default)]
    pub gaps: u32,
    /// The books: how much of what each activator counted since it started is in these sums, so that
    /// nothing is counted twice. Of no use to readers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub marks: Vec<UsageMark>,
}

/// Sums of what was used.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UsageSums {
    /// Requests that pods have served.
    #[serde(default)]
    pub requests: u64,
    /// Their time in pods in milliseconds, each request's rounded up. Running ones count up to now.
    #[serde(default)]
    pub billed_millis: u64,
    /// Their time, shared among the requests that a pod serves at once, times the pod's memory, in
    /// MiB times milliseconds: 1,024,000 of these are a GB-second.
    #[serde(default)]
    pub billed_mib_millis: u64,
    /// Time that pods were kept warm, busy or idle, in milliseconds of one pod.
    #[serde(default)]
    pub pod_millis: u64,
    /// That time, times the pods' memory, in MiB times milliseconds.
    #[serde(default)]
    pub pod_mib_millis: u64,
}

/// What one revision used.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RevisionUsage {
    /// The revision.
    #[schemars(length(max = 63))]
    pub revision: String,
    /// What it used.
    #[serde(default)]
    pub sums: UsageSums,
}

/// What was used on one day.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DayUsage {
    /// The day, as `2026-11-23`, of UTC.
    #[schemars(length(max = 10))]
    pub day: String,
    /// What was used.
    #[serde(default)]
    pub sums: UsageSums,
}

/// How much of a count is in the sums.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UsageMark {
    /// The process of an activator that counts: UID of its pod, and when it started.
    #[schemars(length(max = 63))]
    pub process: String,
    /// Number of the count in that process. Each is of one revision and only ever grows.
    pub count: u64,
    /// Requests or pods were there when it was last heard of.
    #[serde(default)]
    pub active: bool,
    /// What of it is in the sums.
    #[serde(default)]
    pub sums: UsageSums,
}
