//! Triggers that others call with events: webhooks, and `CloudEvents` over HTTP.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::source::SecretKey;

/// Deliveries of a webhook whose signature is right. The sender hears 2xx only when the Function is
/// done with it, or its dead letter is stored; else it sends again, with the same id.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WebhookTrigger {
    /// Where the sender sends.
    #[serde(flatten)]
    pub at: Address,
    /// Who sends, and therefore how a delivery is signed and named.
    pub sender: WebhookSender,
    /// What deliveries are signed with; the same as is entered at the sender. Who does not know it
    /// gets 401.
    pub secret: SecretKey,
    /// How long a sender waits for an answer, from 1s to 5m. After it the sender hears 504, while the
    /// delivery goes on. Default: 9s, as GitHub waits 10s.
    #[serde(default = "default_patience")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('5m')")
        .message("webhook.patience must be between 1s and 5m"))]
    pub patience: String,
}

fn default_patience() -> String {
    "9s".into()
}

/// Who sends a webhook.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
pub enum WebhookSender {
    /// GitHub: `X-Hub-Signature-256`, `X-GitHub-Delivery`.
    GitHub,
    /// GitLab: `webhook-signature`, or `X-Gitlab-Token`; `Idempotency-Key`.
    GitLab,
}

/// `CloudEvents` over HTTP in binary, structured and batched mode. The sender hears 2xx only when
/// the Function is done with them, or their dead letters are stored.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CloudEventsTrigger {
    /// Where the sender sends, and what it shows.
    #[serde(flatten)]
    pub at: Entrance,
}

/// A host and path, and what whoever calls it must show.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Entrance {
    /// Where the sender sends.
    #[serde(flatten)]
    pub at: Address,
    /// Token that the sender shows (`Authorization: Bearer TOKEN`); who does not gets 401.
    pub token: SecretKey,
}

/// A host and path that are called.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Host name that senders use, in lower case and without port, such as `hooks.example.com`. The
    /// administrator says which a namespace may use, as for `http`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(
        "self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$') && !self.matches('^[0-9.]+$')")
        .message("host must be a full DNS name in lower case, without scheme, port, path or wildcard"))]
    pub host: String,
    /// Path that senders use, such as `/github`. Default: `/`.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^(/[A-Za-z0-9._~!$&()*+,;=:@%-]*)+$') && !self.contains('//') && !self.matches('(^|/)[.][.]?(/|$)')")
        .message("path must start with '/', without '//', '.', '..', query or fragment"))]
    pub path: String,
}

fn default_path() -> String {
    "/".into()
}
