//! How much of a Function may run, how long it stays, and what may wait for it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many requests a pod serves at once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// Requests in flight per pod that the scaler aims at; a soft bound, from 1 to 10000.
    /// Default: 80, or less where `limit` or what a pod with `contract: Lambda` takes is lower.
    #[serde(default = "default_target")]
    #[schemars(range(min = 1, max = 10000))]
    pub target: u32,
    /// Requests in flight that a pod never exceeds, from 1 to 10000; 0 means no bound. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub limit: u32,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { target: default_target(), limit: 0 }
    }
}

const fn default_target() -> u32 {
    80
}

/// How many pods run, and when they go.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max")
    .message("scaling.min must not be greater than scaling.max").field_path(".min"))]
pub struct Scaling {
    /// Pods that always run, from 0 to 1000. Default: 0, the Function may sleep.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub min: u32,
    /// Pods that may run at most, from 1 to 1000. Default: 100.
    #[serde(default = "default_max")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
    /// When the last pods go.
    #[serde(default)]
    pub idle: Idle,
    /// How long the load must be lower before surplus pods go, for example `30s`;
    /// at most 1h. Default: 30s.
    #[serde(default = "default_stable_window")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')")
        .message("scaling.stableWindow must be at most 1h"))]
    pub stable_window: String,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min: 0,
            max: default_max(),
            idle: Idle::default(),
            stable_window: default_stable_window(),
        }
    }
}

const fn default_max() -> u32 {
    100
}

fn default_stable_window() -> String {
    "30s".into()
}

/// When a Function without requests goes to sleep, and when it is woken before the next request. One
/// with a Trigger that has a `schedule` is woken before each tick, as long before as its starts take,
/// whatever is said here.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.policy == 'Learned' || self.economy == 'Balanced'")
    .message("scaling.idle.economy needs scaling.idle.policy Learned").field_path(".economy"))]
pub struct Idle {
    /// What decides when the last pod goes. `Fixed`: the time `after`. `Learned`: how long the
    /// Function was without requests before. The pod stays while a request is likely enough to be
    /// worth its memory, goes at once where none is, and comes back before one that is likely: a
    /// Function that is called every hour sleeps in between and is warm when it is called. Until it
    /// was called a few times, a fixed time of 10 minutes stands in (`Cheap`: 5 minutes, `Warm`: an
    /// hour). Default: Fixed.
    #[serde(default)]
    pub policy: IdlePolicy,
    /// How dear the memory of a pod is held against cold starts; only with policy `Learned`. Each
    /// level needs about the memory of the fixed time that it names where requests come without any
    /// pattern: `Cheap` 5m, `Balanced` 15m, `Warm` 1h. Default: Balanced.
    #[serde(default)]
    pub economy: Economy,
    /// How long after its last request the Function sleeps, from 1s to 168h; policy `Learned` ignores
    /// it. Default: 60s.
    #[serde(default = "default_idle_after")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')")
        .message("scaling.idle.after must be between 1s and 168h"))]
    pub after: String,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            policy: IdlePolicy::default(),
            economy: Economy::default(),
            after: default_idle_after(),
        }
    }
}

/// What decides when the last pod of a Function goes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdlePolicy {
    /// The time `after`.
    #[default]
    Fixed,
    /// How long the Function was without requests before.
    Learned,
}

/// How dear the memory of a pod is held against cold starts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Economy {
    /// As much memory as a fixed time of 5 minutes.
    Cheap,
    /// As much as 15 minutes.
    #[default]
    Balanced,
    /// As much as an hour.
    Warm,
}

fn default_idle_after() -> String {
    "60s".into()
}

/// How long each part of a request may take. `0s` switches a timeout off where that is allowed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.firstByte) <= duration(self.request)")
    .message("timeouts.firstByte must not be longer than timeouts.request").field_path(".firstByte"))]
pub struct Timeouts {
    /// How long a request may wait for a pod, from 1s to 30m; after it 504. Default: 60s.
    #[serde(default = "default_activation")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('30m')")
        .message("timeouts.activation must be between 1s and 30m"))]
    pub activation: String,
    /// How long a request may take from the moment a pod has it to the last byte of its answer,
    /// from 1s to 24h; a pod that is told to stop gets as long. Default: 300s.
    #[serde(default = "default_request")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')")
        .message("timeouts.request must be between 1s and 24h"))]
    pub request: String,
    /// How long a pod may take to the first byte of its answer; after it 504. Default: 0s, as long
    /// as `request`.
    #[serde(default = "default_off")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    pub first_byte: String,
    /// How long an answer, the body of a request, or a connection that changed to another protocol
    /// may stand still between two bytes before it is cut off, at most 24h; a body that does is
    /// answered with 408. Default: 0s, an answer as long as `request`, a body for 60s unless it is a
    /// stream of HTTP/2 without a length.
    #[serde(default = "default_off")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')")
        .message("timeouts.idle must be at most 24h"))]
    pub idle: String,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            activation: default_activation(),
            request: default_request(),
            first_byte: default_off(),
            idle: default_off(),
        }
    }
}

fn default_activation() -> String {
    "60s".into()
}

fn default_request() -> String {
    "300s".into()
}

fn default_off() -> String {
    "0s".into()
}

/// What may wait for a Function while no pod has room; beyond it callers get 503 at once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Buffer {
    /// Requests that may wait, from 1 to 100000. An activator bounds those of all its Functions
    /// together as well, and gives none more than a third. Default: 1000.
    #[serde(default = "default_buffer_requests")]
    #[schemars(range(min = 1, max = 100_000))]
    pub requests: u32,
    /// Memory that the waiting requests may hold, as a quantity of bytes such as `64Mi`: their
    /// heads, and what came with them of their bodies. The rest of a body stays with the client.
    /// Default: 64Mi.
    #[serde(default = "default_buffer_bytes")]
    #[schemars(length(max = 16), regex(pattern = r"^[1-9][0-9]{0,11}(k|M|G|Ki|Mi|Gi)?$"))]
    pub bytes: String,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { requests: default_buffer_requests(), bytes: default_buffer_bytes() }
    }
}

const fn default_buffer_requests() -> u32 {
    1000
}

fn default_buffer_bytes() -> String {
    "64Mi".into()
}
