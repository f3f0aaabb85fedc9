//! Triggers that call when objects of a bucket come or go.

use kube::KubeSchema;
use schemars::Schema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::nats::NatsTrigger;
use super::source::{SecretKey, SourceTls};
use super::webhook::Entrance;

/// Objects of a bucket that come or go. The bucket is listed every `interval`; with `notifications`
/// the server tells at once, and the list finds what it failed to tell. A version of an object (its
/// key, entity tag, size and time) has one id, whichever way and how often it is found. Between two
/// lists only notifications tell of what is written over or removed again, and a removal is told
/// only of an object that was known. Memory does not grow with the objects, but for some hundred
/// bytes for every 400 of them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Trigger {
    /// The server, such as `https://s3.eu-central-1.amazonaws.com` or `http://minio.shop.svc:9000`.
    #[schemars(length(min = 8, max = 300))]
    #[x_kube(validation = Rule::new(
        "self.matches('^https?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?/?$')")
        .message("s3.endpoint must be https://HOST:PORT or http://HOST:PORT, without user, path or query"))]
    pub endpoint: String,
    /// Region that requests are signed for. Default: `us-east-1`, which is right for most servers
    /// that are not of AWS.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[-a-z0-9]+$"))]
    pub region: String,
    /// Name of the bucket.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][-.a-z0-9]*[a-z0-9]$') && !self.contains('..')")
        .message("s3.bucket must have 3 to 63 lower-case letters, digits, '-' and '.'"))]
    pub bucket: String,
    /// How the keys of the objects begin, such as `uploads/`. Default: anyhow.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub prefix: String,
    /// How the keys of the objects end, such as `.jpg`. Default: anyhow.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub suffix: String,
    /// What is told. Default: `[Created]`.
    #[serde(default = "default_events")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub events: Vec<S3Event>,
    /// Which objects are told of at first: `earliest` for those that are there already, `latest` for
    /// those that come from then on. Default: `latest`.
    #[serde(default)]
    pub start: S3Start,
    /// How often the bucket is listed, from 5s to 24h. Each list costs one or two requests for every
    /// thousand objects below `prefix`. Default: 5m.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('24h')")
        .message("s3.interval must be between 5s and 24h"))]
    pub interval: String,
    /// How the server tells of objects, in the shape of S3, as MinIO and Ceph do: by HTTP, to `host`
    /// and `path` with a `token`, or through NATS (`nats`). Default: not at all, the list finds all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<S3Notifications>,
    /// Bucket of the same server in which Rouse keeps, below `.rouse/` and the Trigger's UID, which
    /// objects were told of: some hundred bytes for each, written ten seconds late at most. The access
    /// key must be allowed to read, write and remove objects there; nothing else needs more than to
    /// list. It may be removed once the Trigger is. Default: `bucket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][-.a-z0-9]*[a-z0-9]$') && !self.contains('..')")
        .message("s3.ledgerBucket must have 3 to 63 lower-case letters, digits, '-' and '.'"))]
    pub ledger_bucket: Option<String>,
    /// Access key. Default: none, the bucket is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<S3Credentials>,
    /// Certificates, for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SourceTls>,
}

fn default_region() -> String {
    "us-east-1".into()
}

fn default_events() -> Vec<S3Event> {
    vec![S3Event::Created]
}

fn default_interval() -> String {
    "5m".into()
}

/// How a server tells of objects: it sends to a host and path, or publishes in NATS.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = without_default_path)]
#[x_kube(validation = Rule::new("has(self.nats) ? !(has(self.host) || has(self.path) || has(self.token)) : has(self.host) && has(self.token)")
    .message("s3.notifications needs exactly one of host and nats: host (with token, maybe path) where the server sends them by HTTP, nats where it publishes them"))]
pub struct S3Notifications {
    /// Where it sends them by HTTP. It is answered when the Function is done.
    #[serde(flatten)]
    pub http: Option<Entrance>,
    /// Where it publishes them. A message of a stream (`jetStream`) is acknowledged when the Function
    /// is done with the object, or the object is no news; of those of a `subject` some may be lost,
    /// and the list finds what they told of. While nothing is heard the lists go on, and the
    /// Trigger's conditions say why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<Box<NatsTrigger>>,
}

/// The API server would set a path beside `nats` too, where it means nothing.
fn without_default_path(schema: &mut Schema) {
    if let Some(Value::Object(path)) = schema.pointer_mut("/properties/path") {
        path.remove("default");
    }
}

/// An access key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Credentials {
    /// Its id.
    pub access_key_id: SecretKey,
    /// Its secret.
    pub secret_access_key: SecretKey,
    /// Token of a session. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretKey>,
}

/// What became of an object.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, schemars::JsonSchema,
)]
pub enum S3Event {
    /// It was written, or written anew.
    Created,
    /// It was removed.
    Removed,
}

/// Which objects are told of at first.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum S3Start {
    /// Those that are there already.
    Earliest,
    /// Those that come from then on.
    #[default]
    Latest,
}
