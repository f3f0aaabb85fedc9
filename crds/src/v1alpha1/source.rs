//! What sources of events share: keys of Secrets, TLS, and what is told of how they go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A key of a Secret in the Trigger's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret, in the Trigger's namespace.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Key within the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// How the server is known, and how the source makes itself known to it. A certificate is always
/// checked: there is no way to turn that off.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.certificate) == has(self.key)")
    .message("tls.certificate and tls.key belong together: set both or none"))]
pub struct SourceTls {
    /// Certificates of the authorities that may sign the server's, in PEM. Default: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKey>,
    /// Certificate that is shown to the server, in PEM, such as the key `tls.crt` of a Secret of
    /// cert-manager. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SecretKey>,
    /// Private key of `certificate`, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretKey>,
}

/// How a source goes. Written ten seconds late at most, and not at all while nothing changes; the
/// numbers begin anew when the namespace's source pod does.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The generation of the spec that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether the server is there; with notifications through NATS, whether both servers are.
    #[serde(default)]
    pub connected: bool,
    /// What the server has and the Function is not done with: events, or bytes of a log where
    /// events can't be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// How far the source is, in the server's words: a sequence, or a position in its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Deliveries that are under way.
    #[serde(default)]
    pub in_flight: u64,
    /// Events that the Function took.
    #[serde(default)]
    pub delivered: u64,
    /// Events that were sent again.
    #[serde(default)]
    pub retried: u64,
    /// Events that were stored as dead letters.
    #[serde(default)]
    pub dead_lettered: u64,
    /// What kept the source from its work last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<SourceError>,
}

/// What kept a source from its work.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceError {
    /// One word, such as `ServerAway`, `AccessDenied`, `SourceMissing` or `SecretMissing`.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// When.
    pub time: Time,
}
