//! The kinds of failures: for each the status, the end of its type, its title, who has to do
//! something about it, and when to ask again. Pure.

use std::time::Duration;

use http::{StatusCode, StatusCode as S};

use super::Source;

/// When to ask again after a full queue or a missing owner: both change within moments.
const SOON: Duration = Duration::from_secs(1);

/// When to ask again after a start that failed: the kubelet itself waits about as long before it
/// tries again.
const AFTER_FAILED_START: Duration = Duration::from_secs(10);

/// What decides an answer.
pub(super) struct Class {
    pub status: StatusCode,
    /// End of the type.
    pub name: &'static str,
    pub title: &'static str,
    pub source: Source,
    pub retry_after: Option<Duration>,
}

impl Class {
    const fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        source: Source,
    ) -> Self {
        Self { status, name, title, source, retry_after: None }
    }

    const fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }
}

pub(super) const BAD_REQUEST: Class =
    Class::new(S::BAD_REQUEST, "bad-request", "The request is malformed", Source::Client);
pub(super) const HEADERS_TOO_LARGE: Class = Class::new(
    S::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers-too-large",
    "The request's headers are too large",
    Source::Client,
);
pub(super) const TARGET_TOO_LONG: Class = Class::new(
    S::URI_TOO_LONG,
    "target-too-long",
    "The request's path and query are too long",
    Source::Client,
);
pub(super) const BODY_TOO_LARGE: Class = Class::new(
    S::PAYLOAD_TOO_LARGE,
    "body-too-large",
    "The request's body is too large",
    Source::Client,
);
pub(super) const BODY_STALLED: Class = Class::new(
    S::REQUEST_TIMEOUT,
    "body-stalled",
    "The request's body did not come",
    Source::Client,
);
pub(super) const NOT_FOUND: Class =
    Class::new(S::NOT_FOUND, "not-found", "No Function answers here", Source::Client);
pub(super) const BARE_NAME: Class = Class::new(
    S::MISDIRECTED_REQUEST,
    "bare-name",
    "The host does not tell a namespace",
    Source::Client,
);
pub(super) const METHOD_NOT_ALLOWED: Class = Class::new(
    S::METHOD_NOT_ALLOWED,
    "method-not-allowed",
    "The method is not allowed here",
    Source::Client,
);
pub(super) const DELETED: Class =
    Class::new(S::NOT_FOUND, "function-deleted", "The Function was deleted", Source::Client);
pub(super) const QUEUE_FULL: Class =
    Class::new(S::SERVICE_UNAVAILABLE, "queue-full", "The queue is full", Source::Function)
        .after(SOON);
pub(super) const ACTIVATOR_FULL: Class = Class::new(
    S::SERVICE_UNAVAILABLE,
    "activator-full",
    "Too many requests wait",
    Source::Platform,
)
.after(SOON);
pub(super) const START_FAILED: Class = Class::new(
    S::SERVICE_UNAVAILABLE,
    "start-failed",
    "The Function can't start",
    Source::Function,
)
.after(AFTER_FAILED_START);
pub(super) const NO_OWNER: Class =
    Class::new(S::SERVICE_UNAVAILABLE, "no-owner", "Nobody owns the Function", Source::Platform)
        .after(SOON);
pub(super) const ACTIVATION_TIMEOUT: Class = Class::new(
    S::GATEWAY_TIMEOUT,
    "activation-timeout",
    "No pod was free in time",
    Source::Function,
);
pub(super) const ANSWER_TIMEOUT: Class = Class::new(
    S::GATEWAY_TIMEOUT,
    "answer-timeout",
    "The Function did not answer in time",
    Source::Function,
);
pub(super) const NOT_CONNECTED: Class = Class::new(
    S::BAD_GATEWAY,
    "not-connected",
    "The Function accepts no connection",
    Source::Function,
);
pub(super) const STREAM_REFUSED: Class = Class::new(
    S::SERVICE_UNAVAILABLE,
    "stream-refused",
    "The Function takes no more requests",
    Source::Function,
)
.after(SOON);
pub(super) const POD_BROKE: Class =
    Class::new(S::BAD_GATEWAY, "pod-broke", "The Function broke off", Source::Function);
pub(super) const PEER_UNREACHABLE: Class = Class::new(
    S::SERVICE_UNAVAILABLE,
    "peer-unreachable",
    "The owner of the Function can't be reached",
    Source::Platform,
)
.after(SOON);
pub(super) const PEER_BROKE: Class = Class::new(
    S::BAD_GATEWAY,
    "peer-broke",
    "The owner of the Function broke off",
    Source::Platform,
);
pub(super) const SOURCE_AWAY: Class =
    Class::new(S::SERVICE_UNAVAILABLE, "source-away", "Nobody takes events now", Source::Platform)
        .after(SOON);
pub(super) const NOT_OWNER: Class =
    Class::new(S::MISDIRECTED_REQUEST, "not-owner", "Not the owner", Source::Platform);
pub(super) const NOT_A_PEER: Class =
    Class::new(S::UNAUTHORIZED, "not-a-peer", "The caller is not known", Source::Client);
