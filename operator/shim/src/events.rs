//! What a contract demands of events before a process sees them. Frameworks are known to take a
//! malformed event or a batch for an event without anything in it, and to say that they are done.

use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use rouse_event::{Message, Unreadable, read_events};

use crate::problem::{Body, Problem, full};
use crate::settings::{Contract, PAYLOAD, Signature};

/// What a request must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// Anything.
    Any,
    /// One CloudEvent.
    One,
    /// One CloudEvent, or one event as before there were CloudEvents.
    OneOrOld,
}

impl Events {
    /// What `contract` demands.
    pub const fn of(contract: Contract) -> Self {
        match contract {
            Contract::CloudEvents | Contract::Functions(Signature::CloudEvent) => Self::One,
            Contract::Functions(Signature::Event) => Self::OneOrOld,
            Contract::Http
            | Contract::Lambda
            | Contract::Azure
            | Contract::Functions(Signature::Http) => Self::Any,
        }
    }

    /// The request, if it is as demanded.
    pub async fn check(self, request: Request<Incoming>) -> Result<Request<Body>, Problem> {
        // Who asks whether events may be sent here (OPTIONS) sends none.
        let unchecked = self == Self::Any || request.method() == Method::OPTIONS;
        if unchecked {
            return Ok(request.map(|body| body.map_err(Into::into).boxed_unsync()));
        }
        if request.method() != Method::POST {
            let method = "events are sent by POST".to_owned();
            return Err(Problem::Nothing(StatusCode::METHOD_NOT_ALLOWED, method));
        }
        let is_event = is_cloud_event(&request);
        let (parts, body) = request.into_parts();
        if !is_event && self == Self::OneOrOld {
            return Ok(Request::from_parts(parts, body.map_err(Into::into).boxed_unsync()));
        }
        let bytes = collect(body).await?;
        let named = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        };
        let headers = parts.headers.iter().map(named).collect();
        let message = Message { headers, body: bytes.to_vec() };
        let events = read_events(&message, Timestamp::now());
        match events.map(|events| events.len()) {
            Ok(1) if !is_batch(&message) => Ok(Request::from_parts(parts, full(bytes))),
            Ok(_) => Err(Problem::Form("send one event at a time, not a batch".into())),
            Err(error @ Unreadable::Format(_)) => Err(Problem::Form(error.to_string())),
            Err(error) => Err(Problem::Unfit(error.to_string())),
        }
    }
}

fn is_cloud_event<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = content_type.unwrap_or_default().to_ascii_lowercase();
    media.starts_with("application/cloudevents")
        || request.headers().keys().any(|name| name.as_str().starts_with("ce-"))
}

fn is_batch(message: &Message) -> bool {
    let content_type = message.header("content-type").unwrap_or_default().to_ascii_lowercase();
    content_type.starts_with("application/cloudevents-batch")
}

/// A body that fits into an event.
pub async fn collect(body: Incoming) -> Result<bytes::Bytes, Problem> {
    match Limited::new(body, PAYLOAD).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::Large(PAYLOAD)),
        Err(error) => Err(Problem::Unfit(format!("reading the request: {error}"))),
    }
}
