//! Every failure of a request, and the one function that turns a failure into an answer: a problem
//! document (RFC 9457) that says what happened, where, and what mends it.

mod class;
mod words;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use rouse_core::function::FunctionKey;
use rouse_crds::v1alpha1::HttpMethod;
use serde::Serialize;

use self::class::Class;
use self::words::{allow, cause_of_delay, not_found, seconds};
use crate::admission::{Full, StartFailure};
use crate::body::ResponseBody;
use crate::headers;
use crate::upstream::ConnectError;

/// What the types of problems start with.
const TYPES: &str = "https://rouse.dev/problems/";

/// Who has to do something about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client: its request can't be served as it is.
    Client,
    /// Rouse or the cluster.
    Platform,
    /// The Function: its pods, its settings.
    Function,
}

/// Why a request gets no answer from its Function.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The request is no proper HTTP request for a proxy.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The headers are larger or more than may be.
    #[error(
        "the request's headers have {bytes} bytes in {count} fields; {max_bytes} bytes in {max_count} fields are accepted"
    )]
    HeadersTooLarge {
        /// Bytes of names and values.
        bytes: usize,
        /// Fields.
        count: usize,
        /// Bytes that are accepted.
        max_bytes: usize,
        /// Fields that are accepted.
        max_count: usize,
    },
    /// The path and query are longer than may be.
    #[error("the request's path and query have {bytes} bytes; {max_bytes} are accepted")]
    TargetTooLong {
        /// Bytes of both.
        bytes: usize,
        /// Bytes that are accepted.
        max_bytes: usize,
    },
    /// The body is larger than the Function takes.
    #[error(
        "the request's body has more than {limit} bytes, the most that the Function {function} takes: raise spec.bodyLimit if it shall take more"
    )]
    BodyTooLarge {
        /// The Function.
        function: FunctionKey,
        /// `spec.bodyLimit`.
        limit: u64,
    },
    /// The client stopped sending the body.
    #[error("the request's body stood still for {}: send it without such pauses", seconds(*.0))]
    BodyStalled(Duration),
    /// Nothing answers to that host and path on that port.
    #[error("{}", not_found(host, path, *.public))]
    NotFound {
        /// Host of the request.
        host: String,
        /// Path of the request.
        path: String,
        /// Whether it came in on the public port.
        public: bool,
    },
    /// The host is a bare name.
    #[error(
        "the host {name:?} does not tell a namespace: call {name}.NAMESPACE or {name}.NAMESPACE.svc.{domain}, with the namespace of the Function for NAMESPACE"
    )]
    BareName {
        /// The name.
        name: String,
        /// Domain of the cluster.
        domain: String,
    },
    /// The Trigger does not name that method.
    #[error("this host and path take {} only: use one of them, or add the method to spec.http.methods of the Trigger", allow(.0))]
    MethodNotAllowed(Vec<HttpMethod>),
    /// The method changes what a connection is for.
    #[error("CONNECT asks for a tunnel, which functions do not offer: use another method")]
    Connect,
    /// The Function was deleted while the request waited.
    #[error("the Function {0} was deleted while the request waited")]
    Deleted(FunctionKey),
    /// The queue is full.
    #[error(
        "{full} for the Function {function}: ask again later, or raise spec.buffer or spec.scaling.max"
    )]
    QueueFull {
        /// The Function.
        function: FunctionKey,
        /// What is full.
        full: Full,
        /// When to ask again.
        retry_after: Duration,
    },
    /// The activator holds as many waiting requests as it may.
    #[error(
        "the activator holds nearly as many waiting requests as it may, and those of the Function {function} have their share: ask again later, or raise activator.buffer in the values of Rouse's chart"
    )]
    ActivatorFull {
        /// The Function.
        function: FunctionKey,
        /// When to ask again.
        retry_after: Duration,
    },
    /// A pod can't be started.
    #[error("the Function {function} can't start: {}", .failure.message)]
    StartFailed {
        /// The Function.
        function: FunctionKey,
        /// Why.
        failure: Arc<StartFailure>,
    },
    /// Nobody owns the Function.
    #[error(
        "no activator owned the Function {0} for as long as timeouts.activation allows: see whether pods of rouse-controller are running"
    )]
    NoOwner(FunctionKey),
    /// No pod had a slot in time.
    #[error("the request waited for a free slot in a pod of the Function {function} for {} (timeouts.activation): {}", seconds(*.limit), cause_of_delay(delay.as_deref()))]
    ActivationTimeout {
        /// The Function.
        function: FunctionKey,
        /// `timeouts.activation`.
        limit: Duration,
        /// What kept its pods from opening, where that is known.
        delay: Option<Arc<StartFailure>>,
    },
    /// The pods that had a slot accept no connection.
    #[error(
        "the Function {function} has a pod that accepts no connection ({pod}: {error}): see whether its container listens on spec.port"
    )]
    NotConnected {
        /// The Function.
        function: FunctionKey,
        /// The last pod that was tried.
        pod: Arc<str>,
        /// What happened.
        error: String,
    },
    /// The pods refuse the request's stream.
    #[error(
        "the Function {function} takes no more requests now (pod {pod}: {error}): ask again later, or lower spec.concurrency so that its pods get fewer at once"
    )]
    StreamRefused {
        /// The Function.
        function: FunctionKey,
        /// The last pod that was tried.
        pod: Arc<str>,
        /// What it said.
        error: String,
    },
    /// The pod broke off before it answered.
    #[error(
        "pod {pod} of the Function {function} broke off before it answered ({error}); the request may have run and was not sent again: see the pod's log"
    )]
    PodBroke {
        /// The Function.
        function: FunctionKey,
        /// The pod.
        pod: Arc<str>,
        /// What happened.
        error: String,
    },
    /// The pod had not begun to answer in time.
    #[error("pod {pod} of the Function {function} had not begun to answer within {} ({field}): see the pod's log, or raise that timeout", seconds(*.limit))]
    AnswerTimeout {
        /// The Function.
        function: FunctionKey,
        /// The pod.
        pod: Arc<str>,
        /// The timeout.
        limit: Duration,
        /// Its field.
        field: &'static str,
    },
    /// The owner could not be reached in time.
    #[error(
        "the activator {peer}, which owns the Function {function}, could not be reached ({error}): see whether its pod is running and whether a NetworkPolicy is in the way"
    )]
    PeerUnreachable {
        /// The Function.
        function: FunctionKey,
        /// Name of the activator's pod.
        peer: String,
        /// What happened.
        error: String,
    },
    /// The owner broke off after it had sent the request on.
    #[error(
        "the activator {peer} broke off before the Function {function} answered ({error}); the request may have run and was not sent again"
    )]
    PeerBroke {
        /// The Function.
        function: FunctionKey,
        /// Name of the activator's pod.
        peer: String,
        /// What happened.
        error: String,
    },
    /// The pod that runs the sources of a namespace does not take an event.
    #[error(
        "the pod that runs the sources of the Trigger's namespace takes no events now ({error}): send again, and see the Deployment rouse-source in that namespace if it stays so"
    )]
    SourceAway {
        /// What happened.
        error: String,
    },
    /// To another activator: this one can't send the request on now.
    #[error(
        "this activator does not own the Function or does not know it: ask where the membership says"
    )]
    NotOwner,
    /// To another activator: it did not prove that it is one.
    #[error(
        "this port is for Rouse's own pods, which prove themselves by a token: call the Service rouse-activator instead"
    )]
    NotAPeer,
}

impl Failure {
    /// Of a request of `function` that `pod` did not take.
    pub(crate) fn not_sent(function: &FunctionKey, pod: &Arc<str>, error: &ConnectError) -> Self {
        let (function, pod) = (function.clone(), Arc::clone(pod));
        let text = error.to_string();
        match error {
            ConnectError::Refused(_) => Self::StreamRefused { function, pod, error: text },
            _ => Self::NotConnected { function, pod, error: text },
        }
    }

    const fn class(&self) -> Class {
        match self {
            Self::BadRequest(_) => class::BAD_REQUEST,
            Self::HeadersTooLarge { .. } => class::HEADERS_TOO_LARGE,
            Self::TargetTooLong { .. } => class::TARGET_TOO_LONG,
            Self::BodyTooLarge { .. } => class::BODY_TOO_LARGE,
            Self::BodyStalled(_) => class::BODY_STALLED,
            Self::NotFound { .. } => class::NOT_FOUND,
            Self::BareName { .. } => class::BARE_NAME,
            Self::MethodNotAllowed(_) | Self::Connect => class::METHOD_NOT_ALLOWED,
            Self::Deleted(_) => class::DELETED,
            Self::QueueFull { .. } => class::QUEUE_FULL,
            Self::ActivatorFull { .. } => class::ACTIVATOR_FULL,
            Self::StartFailed { .. } => class::START_FAILED,
            Self::NoOwner(_) => class::NO_OWNER,
            Self::ActivationTimeout { .. } => class::ACTIVATION_TIMEOUT,
            Self::AnswerTimeout { .. } => class::ANSWER_TIMEOUT,
            Self::NotConnected { .. } => class::NOT_CONNECTED,
            Self::StreamRefused { .. } => class::STREAM_REFUSED,
            Self::PodBroke { .. } => class::POD_BROKE,
            Self::PeerUnreachable { .. } => class::PEER_UNREACHABLE,
            Self::PeerBroke { .. } => class::PEER_BROKE,
            Self::SourceAway { .. } => class::SOURCE_AWAY,
            Self::NotOwner => class::NOT_OWNER,
            Self::NotAPeer => class::NOT_A_PEER,
        }
    }

    /// One word for metrics: the end of the problem's type.
    pub const fn name(&self) -> &'static str {
        self.class().name
    }

    /// Who has to do something about it.
    pub const fn source(&self) -> Source {
        self.class().source
    }

    /// Whether the same request may succeed if it is made again later.
    pub const fn retryable(&self) -> bool {
        self.class().retry_after.is_some()
    }

    /// One more word where the type alone does not tell the cause.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::StartFailed { failure, .. }
            | Self::ActivationTimeout { delay: Some(failure), .. } => Some(failure.reason),
            _ => None,
        }
    }

    /// When to ask again, where that helps.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. } | Self::ActivatorFull { retry_after, .. } => {
                Some(*retry_after)
            }
            _ => self.class().retry_after,
        }
    }
}

/// The document.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// On an answer: the request can't be told from what follows it, so that the connection ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndsConnection;

/// The answer that tells of `failure`.
pub fn respond(failure: &Failure) -> Response<ResponseBody> {
    let class = failure.class();
    let document = Document {
        r#type: format!("{TYPES}{}", class.name),
        title: class.title,
        status: class.status.as_u16(),
        detail: failure.to_string(),
        reason: failure.reason(),
    };
    let text = serde_json::to_vec(&document).unwrap_or_default();
    let mut response = Response::new(ResponseBody::text(text));
    *response.status_mut() = class.status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = failure.retry_after() {
        fields.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
    }
    match failure {
        Failure::MethodNotAllowed(methods) => {
            fields.insert(ALLOW, headers::header_value(&allow(methods)));
        }
        Failure::Connect => {
            let all = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";
            fields.insert(ALLOW, HeaderValue::from_static(all));
        }
        Failure::BadRequest(_) => {
            response.extensions_mut().insert(EndsConnection);
        }
        Failure::NotOwner => {
            fields.insert(headers::UNSENT, HeaderValue::from_static("not-owner"));
        }
        Failure::NotAPeer => {
            fields.insert(headers::UNSENT, HeaderValue::from_static("not-a-peer"));
        }
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests;
