//! The kind `Function`: an HTTP workload that sleeps until it is called.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::code::FunctionSource;
use super::container::{EnvFromSource, EnvVar, Resources};
use super::history::ScaleDecision;
use super::learned::Learned;
use super::scaling::{Buffer, Concurrency, Scaling, Timeouts};
use super::usage::Usage;

/// A container image, or code in one of several languages, that answers HTTP requests and sleeps, with
/// no pod at all, while there are none. Called at `http://NAME.NAMESPACE` inside the cluster.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "rouse.dev",
    version = "v1alpha1",
    kind = "Function",
    plural = "functions",
    namespaced,
    shortname = "fn",
    category = "rouse",
    derive = "PartialEq",
    status = "FunctionStatus",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.conditions[?(@.type=='Active')].status"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(name = "Runtime", type_ = "string", json_path = ".spec.source.runtime", priority = 1),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.latestReady", priority = 1),
    validation = Rule::new(
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && !self.metadata.name.contains('---')")
        .message("metadata.name becomes a host name: at most 40 of a-z, 0-9 and '-', from a letter to a letter or digit, without '---'"),
    validation = Rule::new("has(self.spec.image) != has(self.spec.source)")
        .message("a Function needs exactly one of spec.image (a container image) and spec.source (code)"),
    validation = Rule::new("!has(self.spec.source) || self.spec.protocol == 'http1'")
        .message("code speaks HTTP/1.1 only: leave spec.protocol out, or give an image instead of spec.source"),
    validation = Rule::new("!has(self.spec.source) || self.spec.port != 8079")
        .message("port 8079 of a Function with spec.source is Rouse's own: set another spec.port"),
    validation = Rule::new("!has(self.spec.source) || !has(self.spec.env) || self.spec.env.all(e, !e.name.startsWith('ROUSE_'))")
        .message("variables whose names begin with ROUSE_ are Rouse's own in a Function with spec.source: give them other names")
)]
#[serde(rename_all = "camelCase")]
pub struct FunctionSpec {
    /// Container image to run, for example `registry.example/thumbnails:1.4`. Exactly one of `image`
    /// and `source` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^\s]+$"))]
    pub image: Option<String>,
    /// Code to run, instead of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<FunctionSource>,
    /// Port on which the container listens, from 1 to 65535; also given to it as `$PORT`.
    /// Default: 8080.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Protocol that the container speaks on its port. Default: http1.
    #[serde(default)]
    pub protocol: Protocol,
    /// Environment variables of the container, at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(e, e.name != 'PORT')")
        .message("the variable PORT is set by Rouse: set spec.port instead"))]
    pub env: Vec<EnvVar>,
    /// Secrets and ConfigMaps whose keys become environment variables, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub env_from: Vec<EnvFromSource>,
    /// Replaces the image's entry point, at most 64 words; with `source` the command that starts the
    /// code, such as `[node, server.js]`. Default: the image's own, or the runtime's for the contract.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub command: Vec<String>,
    /// Arguments of the entry point, at most 256; with `source` they follow the command. Default: the
    /// image's own, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 8192)))]
    pub args: Vec<String>,
    /// What the container asks of its node and may not exceed. Default: nothing asked, no limit.
    #[serde(default)]
    pub resources: Resources,
    /// Any fields of a pod template (`metadata`, `spec`), for what this API has no field. Rouse
    /// lays its own labels, port and identity over it; the container named `function` is the
    /// Function's own. Default: empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub template: BTreeMap<String, serde_json::Value>,
    /// How many requests a pod serves at once.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// How many pods run, and when they go.
    #[serde(default)]
    pub scaling: Scaling,
    /// How long each part of a request may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What may wait while no pod has room.
    #[serde(default)]
    pub buffer: Buffer,
    /// Largest body of a request, as a quantity of bytes such as `10Mi`; a larger one is answered with
    /// 413. Default: 0, no limit.
    #[serde(default = "default_body_limit")]
    #[schemars(length(max = 16), regex(pattern = r"^(0|[1-9][0-9]{0,11}(k|M|G|Ki|Mi|Gi)?)$"))]
    pub body_limit: String,
    /// Whether the activators log every request: method, path without its query, status, bytes,
    /// duration, wait, pod, via (`owner` or `straight`, if another activator owns it) and trace id.
    /// Default: false.
    #[serde(default)]
    pub access_log: bool,
    /// When a pod that has started can serve. Default: as soon as its port accepts a connection.
    #[serde(default)]
    pub readiness: Readiness,
    /// Who may call the Function by its hosts. Default: `ClusterLocal`, callers in the cluster.
    #[serde(default)]
    pub exposure: Exposure,
}

const fn default_port() -> u16 {
    8080
}

fn default_body_limit() -> String {
    "0".into()
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true
    })
}

/// A protocol between the activator and the container.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, with upgrades such as `WebSocket`.
    #[default]
    Http1,
    /// HTTP/2 without TLS and with prior knowledge, as gRPC servers speak it.
    H2c,
}

/// When a pod that has started can serve.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Path that must answer with a status from 200 to 399, for example `/healthz`. Default: none,
    /// an accepted connection is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub http: Option<String>,
}

/// Who may call a Function by its hosts.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema,
)]
pub enum Exposure {
    /// Callers inside the cluster only; the public port answers 404.
    #[default]
    ClusterLocal,
    /// Callers inside the cluster and through the public port.
    Public,
}

/// What Rouse observed of a Function. Written by the controller alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FunctionStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the spec is in force and the Function can be called, at every activator (a sleeping
    /// Function is ready). `Active`: pods answer. `Reconciling`: a change is on its way. `Stalled`:
    /// somebody must change something.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where callers inside the cluster reach the Function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where callers outside reach it; only with `exposure: Public` and a public domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// The revision made from the newest spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_created: Option<String>,
    /// The newest revision that has answered; it takes the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ready: Option<String>,
    /// Pods that can serve.
    #[serde(default)]
    pub replicas: u32,
    /// Pods that the scaler asked for.
    #[serde(default)]
    pub desired_replicas: u32,
    /// The last time that a request woke the Function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activation: Option<Activation>,
    /// The last times, oldest first, at most 10. `rouse cold` prints them and what they were made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub activations: Vec<Activation>,
    /// The last changes of the number of pods, oldest first, at most 16. `rouse why` explains them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub decisions: Vec<ScaleDecision>,
    /// What the Function used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What last kept a pod of the Function from serving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// What `scaling.idle.policy: Learned` goes by; only with that. Refreshed when the number of pods
    /// changes, and else every 10 minutes at most, if there is enough that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Learned>,
}

/// One waking of a Function, phase by phase. Each phase is counted in milliseconds since the
/// request arrived, and absent where it was not seen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Activation {
    /// When the request that woke the Function arrived.
    pub requested_at: Time,
    /// The revision that was woken.
    pub revision: String,
    /// The API server had acknowledged the new scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled_millis: Option<u32>,
    /// The pod was there as an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_millis: Option<u32>,
    /// The pod had a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_millis: Option<u32>,
    /// The pod's address was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressed_millis: Option<u32>,
    /// The container answered the activator's asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening_millis: Option<u32>,
    /// The first byte of the answer went back to the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_millis: Option<u32>,
}

/// Why a pod of a Function could not serve.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When it was seen.
    pub time: Time,
    /// The revision whose pod it was.
    pub revision: String,
    /// One word, such as `ImagePullFailed` or `ContainerCrashed`.
    pub reason: String,
    /// What happened and what can be done.
    pub message: String,
}
