//! What a caller hears when the language process has no answer for him: a problem document
//! (RFC 9457), as the activator answers. Must not decide what happened.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::json;

/// A body that is answered.
pub type Body = UnsyncBoxBody<Bytes, Error>;
/// Why a body ends before its end.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The time for it is over.
    #[error("the Function did not answer within {0} ms, and was ended")]
    Late(u128),
    /// The language process went away over it.
    #[error("the Function went away over this request: {0}")]
    Gone(String),
    /// No language process comes up.
    #[error("the Function does not come up: {0}")]
    Init(String),
    /// The pod ends.
    #[error("this pod ends: send the request to another")]
    Ending,
    /// Too many wait.
    #[error("{0} requests wait for this pod already")]
    Full(usize),
    /// The request is more than the contract takes.
    #[error("the request has more than {0} bytes, which is what the contract takes")]
    Large(usize),
    /// The request is none that the contract takes.
    #[error("{0}")]
    Unfit(String),
    /// The request is in a form that the contract does not take.
    #[error("{0}")]
    Form(String),
    /// There is nothing at this path or method.
    #[error("{1}")]
    Nothing(StatusCode, String),
    /// What the Function answered can't be passed on.
    #[error("the Function's answer can't be passed on: {0}")]
    Answer(String),
    /// The code that was brought is not taken.
    #[error("{1}")]
    Code(StatusCode, String),
}

impl Problem {
    /// The status, the last part of the type, and the title.
    fn words(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Late(_) => {
                (StatusCode::GATEWAY_TIMEOUT, "function-late", "Function took too long")
            }
            Self::Gone(_) => (StatusCode::BAD_GATEWAY, "function-gone", "Function went away"),
            Self::Init(_) => (StatusCode::BAD_GATEWAY, "init-failed", "Function does not come up"),
            Self::Ending => (StatusCode::SERVICE_UNAVAILABLE, "pod-ending", "Pod ends"),
            Self::Full(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "pod-full", "Too many requests wait")
            }
            Self::Large(_) => (StatusCode::PAYLOAD_TOO_LARGE, "request-large", "Request too large"),
            Self::Unfit(_) => (StatusCode::BAD_REQUEST, "request-unfit", "Request can't be taken"),
            Self::Form(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "request-form", "Form can't be taken")
            }
            Self::Nothing(status, _) => (*status, "nothing-there", "Nothing there"),
            Self::Answer(_) => (StatusCode::BAD_GATEWAY, "function-answer", "Answer is no answer"),
            Self::Code(status, _) => (*status, "code-refused", "Code is not taken"),
        }
    }

    /// The document.
    pub fn response(&self) -> Response<Body> {
        let (status, kind, title) = self.words();
        let document = json!({
            "type": format!("https://rouse.dev/problems/{kind}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = json_response(status, &document);
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem);
        response
    }
}

/// A JSON document as an answer that nobody keeps.
pub fn json_response(status: StatusCode, document: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(document.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body that is there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
