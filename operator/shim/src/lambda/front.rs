//! Requests as invocations: a request becomes an event and waits for its outcome, which becomes an
//! answer. Events that a source sends come as they are.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use rouse_event::EVENT_HEADER;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::answer::answer_of;
use super::event::event_of;
use super::line::{Failure, Invocation, Line, Outcome};
use super::prelude::{self, Prelude, Read};
use crate::events::collect;
use crate::problem::{Body, Error, Problem, full, json_response};
use crate::proxy::id_of;
use crate::settings::PAYLOAD;
use crate::supervisor::World;

/// As Lambda marks the result of a handler that failed.
const FUNCTION_ERROR: &str = "x-amz-function-error";

/// Answers requests by invocations.
pub struct Front {
    world: Arc<World>,
    line: Arc<Line>,
}

impl Front {
    /// One that puts invocations into `line`.
    pub const fn new(world: Arc<World>, line: Arc<Line>) -> Self {
        Self { world, line }
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let raw = request.headers().contains_key(EVENT_HEADER);
        let answered = match self.invoke(request, raw).await {
            Ok((Outcome::Answer(result), _)) if raw => {
                Ok(with_type(full(result), "application/json"))
            }
            Ok((Outcome::Answer(result), _)) => answer_of(result)
                .map(|answer| answer.into_response().map(full))
                .map_err(|malformed| Problem::Answer(malformed.to_string())),
            Ok((Outcome::Stream { content_type, pieces }, _)) => {
                streamed(&content_type, pieces).await
            }
            Ok((Outcome::Failed(failure), id)) => Ok(self.failed(&failure, &id, raw)),
            Ok((Outcome::Gone(why), _)) => Err(Problem::Gone(why)),
            Err(problem) => Err(problem),
        };
        answered.unwrap_or_else(|problem| problem.response())
    }

    async fn invoke(
        &self,
        request: Request<Incoming>,
        raw: bool,
    ) -> Result<(Outcome, Arc<str>), Problem> {
        let settings = &self.world.settings;
        let deadline = Instant::now() + settings.times.request;
        let (parts, body) = request.into_parts();
        let body = collect(body).await?;
        let id = new_id();
        let request_id = match id_of(&parts.headers) {
            unnamed if &*unnamed == "-" => id.as_str().into(),
            named => named,
        };
        let event = match (raw, body.is_empty()) {
            (true, true) => Bytes::from_static(b"{}"),
            (true, false) => body,
            (false, _) => {
                let function = &settings.names.function;
                let event = event_of(&parts, &body, function, &request_id, Timestamp::now());
                event.map_err(|error| Problem::Unfit(error.to_string()))?.into()
            }
        };
        if event.len() > PAYLOAD {
            return Err(Problem::Large(PAYLOAD));
        }
        let (reply, outcome) = oneshot::channel();
        let trace = trace_of(&parts.headers);
        let invocation = Invocation {
            id: id.into(),
            request_id: Arc::clone(&request_id),
            trace,
            event,
            deadline,
            reply,
        };
        self.line.push(invocation)?;
        tokio::select! {
            biased;
            outcome = timeout_at(deadline, outcome) => match outcome {
                Ok(Ok(outcome)) => Ok((outcome, request_id)),
                Ok(Err(_)) => Err(Problem::Gone("it took the event along".into())),
                Err(_) => Err(Problem::Late(settings.times.request.as_millis())),
            },
            message = self.world.board.until_failed() => Err(Problem::Init(message)),
        }
    }

    /// What a caller hears of a failure: a source all of it, anybody else that there was one, as
    /// Lambda has it. The log has all of it.
    fn failed(&self, failure: &Failure, request_id: &str, raw: bool) -> Response<Body> {
        let fields = json!({"requestId": request_id, "why": failure.words()});
        self.world.log.note("the handler failed", fields);
        let mut response = if raw {
            let mut response = with_type(full(failure.document.clone()), "application/json");
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        } else {
            let message = json!({"message": "Internal Server Error"});
            json_response(StatusCode::BAD_GATEWAY, &message)
        };
        let unhandled = HeaderValue::from_static("Unhandled");
        response.headers_mut().insert(FUNCTION_ERROR, unhandled);
        response
    }
}

fn with_type(body: Body, content_type: &str) -> Response<Body> {
    let mut response = Response::new(body);
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// The answer that a stream is, from the moment in which its head is known.
async fn streamed(
    content_type: &str,
    mut pieces: mpsc::Receiver<Result<Bytes, String>>,
) -> Result<Response<Body>, Problem> {
    if content_type != prelude::CONTENT_TYPE {
        return Ok(with_type(Pieces { first: None, rest: pieces }.boxed_unsync(), content_type));
    }
    let mut prelude = Prelude::default();
    loop {
        let piece = match pieces.recv().await {
            Some(Ok(piece)) => piece,
            Some(Err(why)) => return Err(Problem::Gone(why)),
            None => return Err(Problem::Answer("the stream ended before its head".into())),
        };
        match prelude.take(&piece).map_err(|error| Problem::Answer(error.to_string()))? {
            Read::More(more) => prelude = more,
            Read::Whole { status, headers, rest } => {
                let first = Some(rest).filter(|rest| !rest.is_empty());
                let mut response = Response::new(Pieces { first, rest: pieces }.boxed_unsync());
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                return Ok(response);
            }
        }
    }
}

/// A body of pieces as they come.
struct Pieces {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Result<Bytes, String>>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let next = self.rest.poll_recv(context);
        next.map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(Into::into)))
    }
}

/// A random UUID. Only its being unique counts: whoever can ask for invocations has the pod.
pub fn new_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    let high = (random() & !0xf000) | 0x4000;
    let low = (random() & !(0b11 << 62)) | (0b10 << 62);
    let hex = format!("{high:016x}{low:016x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// The trace of a request in the form of X-Ray, or a new one that is not sampled.
fn trace_of(headers: &HeaderMap) -> String {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let mut parts = given.unwrap_or_default().split('-');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("00"), Some(trace), Some(span), Some(flags)) if trace.len() == 32 => {
            let (time, rest) = trace.split_at_checked(8).unwrap_or_default();
            let sampled = u8::from(flags.ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']));
            format!("Root=1-{time}-{rest};Parent={span};Sampled={sampled}")
        }
        _ => {
            let random = new_id().replace('-', "");
            let (time, rest) = random.split_at_checked(8).unwrap_or_default();
            format!("Root=1-{time}-{rest};Sampled=0")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        let (one, other) = (new_id(), new_id());
        assert_ne!(one, other);
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'4');
    }

    #[test]
    fn traces_are_translated() {
        let value = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("traceparent"),
            HeaderValue::from_static(value),
        )]);
        assert_eq!(
            trace_of(&headers),
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
        );
        let other = trace_of(&HeaderMap::new());
        assert!(other.starts_with("Root=1-") && other.ends_with(";Sampled=0"), "{other}");
    }
}
