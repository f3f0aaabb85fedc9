//! Triggers that call with the messages of NATS.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::source::{SecretKey, SourceTls};

/// The messages of a stream of `JetStream`, or of a subject. Of a stream none is lost: it is
/// acknowledged once the Function is done with it. What is published to a subject while nobody
/// listens is lost, as always in NATS.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.jetStream) != has(self.subject)")
    .message("exactly one of nats.jetStream and nats.subject is needed"))]
pub struct NatsTrigger {
    /// Where the servers are.
    #[serde(flatten)]
    pub server: NatsServer,
    /// Messages of a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jet_stream: Option<JetStreamSource>,
    /// Messages of a subject, which no stream needs to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<NatsSubject>,
}

/// Servers of NATS, and how to log in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NatsServer {
    /// Servers of one cluster, from 1 to 8, such as `nats://nats.shop.svc:4222`, or `tls://` for a
    /// connection that is encrypted from its start. Default port: 4222.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 300)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new(
        "self.all(s, s.matches('^(nats|tls)://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?$'))")
        .message("each server must be nats://HOST:PORT or tls://HOST:PORT, without user, password or path: those belong into Secrets"))]
    pub servers: Vec<String>,
    /// How to log in. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<NatsCredentials>,
    /// Certificates. With it, or with `tls://`, a connection is encrypted or not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SourceTls>,
}

/// How to log in to NATS: one way of four.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.file), has(self.nkey), has(self.token), has(self.user)].filter(set, set).size() == 1")
    .message("nats credentials need exactly one of file, nkey, token, user"))]
#[x_kube(validation = Rule::new("has(self.user) == has(self.password)")
    .message("nats credentials: user and password belong together"))]
pub struct NatsCredentials {
    /// A credentials file, as `nsc` writes it (`.creds`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<SecretKey>,
    /// The seed of an nkey, which begins with `SU`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nkey: Option<SecretKey>,
    /// A token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretKey>,
    /// A user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<SecretKey>,
    /// The password of `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKey>,
}

/// Messages of a stream.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JetStreamSource {
    /// Name of the stream. It must be there: Rouse makes none.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[-_A-Za-z0-9]+$')")
        .message("nats.jetStream.stream must be a name of letters, digits, '-' and '_'"))]
    pub stream: String,
    /// Name of the durable consumer, which keeps how far the Trigger is. One that is not there is
    /// made; one that is there is used as it is. Default: `rouse-` and a name of the Trigger's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[-_A-Za-z0-9]+$')")
        .message("nats.jetStream.consumer must be a name of letters, digits, '-' and '_'"))]
    pub consumer: Option<String>,
    /// Subjects of the stream that are taken, at most 16, such as `orders.*.paid`. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(s, s.matches('^[^ .*>\\t]+([.][^ .*>\\t]+|[.][*])*([.]>)?$') || s.matches('^([*]|>)([.][^ .*>\\t]+|[.][*])*([.]>)?$'))")
        .message("each subject must be names between dots, '*' for one of them, '>' for the rest"))]
    pub subjects: Vec<String>,
    /// Where a consumer that is made begins: `earliest`, `latest`, or a time such as
    /// `2026-11-01T00:00:00Z`. Default: `latest`, what comes from then on.
    #[serde(default = "default_start")]
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self in ['earliest', 'latest'] || self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$')")
        .message("start must be earliest, latest, or a time such as 2026-11-01T00:00:00Z"))]
    pub start: String,
    /// How long a consumer that is made waits for a sign of life of what it handed out, from 5s to
    /// 1h. Rouse gives it while a Function wakes or works, however long that takes. Default: 30s.
    #[serde(default = "default_ack_wait")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('1h')")
        .message("nats.jetStream.ackWait must be between 5s and 1h"))]
    pub ack_wait: String,
}

fn default_start() -> String {
    "latest".into()
}

fn default_ack_wait() -> String {
    "30s".into()
}

/// Messages of a subject.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NatsSubject {
    /// The subject, such as `orders.*.paid`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[^ .*>\\t]+([.][^ .*>\\t]+|[.][*])*([.]>)?$') || self.matches('^([*]|>)([.][^ .*>\\t]+|[.][*])*([.]>)?$')")
        .message("nats.subject.name must be names between dots, '*' for one of them, '>' for the rest"))]
    pub name: String,
    /// Queue group: each message goes to one member of it. Default: a group of the Trigger's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^ \t.*>]+$"))]
    pub queue: Option<String>,
}

/// A stream that keeps dead letters.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NatsDeadLetters {
    /// Where the servers are.
    #[serde(flatten)]
    pub server: NatsServer,
    /// Stream that keeps them. It must be there: a letter is stored when it has said so.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[-_A-Za-z0-9]+$"))]
    pub stream: String,
    /// Subject of that stream to which they are published, without `*` and `>`.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^ .*>\t]+([.][^ .*>\t]+)*$"))]
    pub subject: String,
}
