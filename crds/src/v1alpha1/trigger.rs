//! The kind `Trigger`: what calls a Function.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::delivery::Delivery;
use super::nats::NatsTrigger;
use super::postgres::PostgresTrigger;
use super::s3::S3Trigger;
use super::schedule::{ScheduleStatus, ScheduleTrigger};
use super::source::SourceStatus;
use super::webhook::{CloudEventsTrigger, WebhookTrigger};

/// What calls a Function of the same namespace: requests to hosts and paths, the clock, or events
/// of a broker, a bucket, a database or a sender.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "rouse.dev",
    version = "v1alpha1",
    kind = "Trigger",
    plural = "triggers",
    namespaced,
    shortname = "trg",
    category = "rouse",
    derive = "PartialEq",
    status = "TriggerStatus",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Function", type_ = "string", json_path = ".spec.function"),
    printcolumn(name = "Hosts", type_ = "string", json_path = ".spec.http.hosts"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule.cron"),
    printcolumn(name = "Delivered", type_ = "date", json_path = ".status.schedule.lastDelivered", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name must have at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.http), has(self.schedule), has(self.nats), has(self.s3), has(self.postgres), has(self.webhook), has(self.cloudEvents)].filter(set, set).size() == 1")
    .message("a Trigger needs exactly one source: set one of spec.http, schedule, nats, s3, postgres, webhook, cloudEvents"))]
#[x_kube(validation = Rule::new("!has(self.http) || !has(self.delivery)")
    .message("spec.delivery is for events: a request that comes by spec.http is answered to its caller"))]
#[x_kube(validation = Rule::new("!has(self.delivery) || !has(self.delivery.deadLetter) || !has(self.delivery.deadLetter.__function__) || self.delivery.deadLetter.__function__ != self.__function__")
    .message("spec.delivery.deadLetter.function must be another Function than spec.function"))]
#[x_kube(validation = Rule::new("!has(self.filter) || !(has(self.http) || has(self.schedule))")
    .message("spec.filter is for events: not for requests (spec.http) and ticks (spec.schedule)"))]
#[x_kube(validation = Rule::new("!has(self.schedule) || !has(self.delivery) || !has(self.delivery.batch)")
    .message("spec.delivery.batch is not for ticks (spec.schedule): each is sent alone"))]
#[x_kube(validation = Rule::new("!has(self.schedule) || !has(self.delivery) || !has(self.delivery.deadLetter) || !has(self.delivery.deadLetter.nats)")
    .message("spec.delivery.deadLetter.nats is not for ticks (spec.schedule): name a Function"))]
pub struct TriggerSpec {
    /// Name of the Function to call, in the Trigger's namespace.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub function: String,
    /// Calls the Function with the requests that come for these hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTrigger>,
    /// Calls the Function by the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleTrigger>,
    /// Calls the Function with messages of NATS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsTrigger>,
    /// Calls the Function when objects of a bucket come or go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Trigger>,
    /// Calls the Function with the changes of a PostgreSQL database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresTrigger>,
    /// Calls the Function with the deliveries of a webhook of GitHub or GitLab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTrigger>,
    /// Calls the Function with the `CloudEvents` that are sent to a host and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_events: Option<CloudEventsTrigger>,
    /// Which events the Function gets: an expression in CEL of at most 1024 bytes over the attributes
    /// (`event`) and JSON data (`data`) of an event, such as
    /// `event.type == 'dev.rouse.s3.created' && data.size > 0`. What it keeps back wakes nothing and
    /// is acknowledged; what lacks a field that it names is kept back too; what is too large to be
    /// looked at is delivered. Not for `http` and `schedule`. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub filter: Option<String>,
    /// How events reach the Function; not for `http`. Default: all its fields' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
}

/// Requests by host, path and method.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpTrigger {
    /// Host names that callers use, from 1 to 16, in lower case and without port, for example
    /// `thumbs.example.com`. The administrator says which a namespace may use.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new(
        "self.all(h, h.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$'))")
        .message("each host must be a full DNS name in lower case, without scheme, port, path or wildcard"))]
    #[x_kube(validation = Rule::new("self.all(h, !h.matches('^[0-9.]+$'))")
        .message("a host must be a name, not an IP address"))]
    pub hosts: Vec<String>,
    /// Paths that the Function answers, at most 16; each stands for itself and all below it
    /// (`/v1` for `/v1` and `/v1/a`, not `/v10`). The longest that fits wins. Default: `/`, all.
    #[serde(default = "default_paths")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^(/[A-Za-z0-9._~!$&()*+,;=:@%-]*)+$') && !p.contains('//') && !p.matches('(^|/)[.][.]?(/|$)'))")
        .message("each path must start with '/', without '//', '.', '..', query or fragment"))]
    pub paths: Vec<String>,
    /// Methods that the Function answers; others get 405. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Vec<HttpMethod>,
}

fn default_paths() -> Vec<String> {
    vec!["/".into()]
}

/// A method of HTTP that a Trigger can name.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, schemars::JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names are those of the methods")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    Connect,
}

/// What Rouse observed of a Trigger. Written by the controller alone, but for `source`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TriggerStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: requests for all hosts reach the Function, at every activator, or the schedule is
    /// kept, or the source is connected. `Reconciling`: the Function, an activator, the source or its
    /// server is awaited. `Stalled`: somebody must change something, here or elsewhere.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How far the schedule is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// How the source goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStatus>,
}
