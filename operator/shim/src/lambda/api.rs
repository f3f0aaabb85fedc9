//! The Runtime API, as language processes of AWS Lambda ask it: on a port of loopback for each
//! process, so that nothing hangs on connections, of which some clients open dozens.
//!
//! Some clients end when an answer of theirs is refused. So an answer that comes too late or is too
//! large is taken, and thrown away; who waits for it is told otherwise.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::line::{Failure, Outcome};
use super::tongue::{Given, LambdaTongue};
use crate::settings::PAYLOAD;

/// Pieces of a stream that wait for the caller.
const PIECES: usize = 4;
/// What an error may have; a stack trace is in it.
const LONGEST_ERROR: usize = 256 << 10;
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

/// Serves the language process until it is dropped; its connections end with it.
pub async fn serve(listener: TcpListener, tongue: Arc<LambdaTongue>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let tongue = Arc::clone(&tongue);
        let service = service_fn(move |request| {
            let tongue = Arc::clone(&tongue);
            async move { Ok::<_, Infallible>(answer(tongue, request).await) }
        });
        connections.spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // The process goes away when it likes.
            drop(connection.await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(tongue: Arc<LambdaTongue>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_matches('/').split('/');
    let (version, rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
    match (request.method(), version, rest.as_slice()) {
        (&Method::GET, "2018-06-01", ["runtime", "invocation", "next"]) => next(&tongue).await,
        (&Method::POST, "2018-06-01", ["runtime", "invocation", id, _]) if !is_id(id) => {
            let wrong = "this is not the id of an invocation";
            refused(StatusCode::BAD_REQUEST, "InvalidRequestID", wrong)
        }
        (&Method::POST, "2018-06-01", ["runtime", "invocation", id, "response"]) => {
            responded(&tongue, id, request).await
        }
        (&Method::POST, "2018-06-01", ["runtime", "invocation", id, "error"]) => {
            failed(&tongue, id, request).await
        }
        (&Method::POST, "2018-06-01", ["runtime", "init", "error"]) => {
            let (failure, _) = failure_of(request).await;
            tongue.refuse(failure.words());
            accepted()
        }
        // What clients ask who want to be told of the pod's end by SIGTERM. There are no extensions.
        (&Method::POST, "2020-01-01", ["extension", "register"]) => registered(&tongue),
        (&Method::GET, "2020-01-01", ["extension", "event", "next"]) => {
            std::future::pending().await
        }
        (&Method::PUT, _, ["logs" | "telemetry"]) => accepted(),
        _ => refused(StatusCode::NOT_FOUND, "NotFound", "there is nothing at this path"),
    }
}

async fn next(tongue: &Arc<LambdaTongue>) -> Response<Full<Bytes>> {
    let Some((given, event)) = tongue.take().await else {
        return refused(StatusCode::GONE, "Ending", "the pod ends");
    };
    let names = &tongue.world.settings.names;
    let Given { id, attempt, trace, deadline } = given;
    let left = deadline.saturating_duration_since(Instant::now());
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + left;
    let function = format!("arn:aws:lambda:local:000000000000:function:{}", names.function);
    let mut response = Response::new(Full::new(event));
    for (name, value) in [
        ("content-type", "application/json"),
        ("lambda-runtime-aws-request-id", &id),
        ("lambda-runtime-invocation-id", &attempt),
        ("lambda-runtime-deadline-ms", &at.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", &function),
        ("lambda-runtime-trace-id", &trace),
    ] {
        // All of them are of plain letters.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Who waits for the answer of an invocation; nobody does any more if it comes too late.
fn waiting(
    tongue: &LambdaTongue,
    id: &str,
    headers: &HeaderMap,
) -> Option<oneshot::Sender<Outcome>> {
    tongue.answered(id, text(headers, "lambda-runtime-invocation-id"))
}

async fn responded(
    tongue: &LambdaTongue,
    id: &str,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let reply = waiting(tongue, id, request.headers());
    let (parts, body) = request.into_parts();
    let Some(reply) = reply else {
        read(body, 0).await;
        return accepted();
    };
    if text(&parts.headers, "lambda-runtime-function-response-mode") == Some("streaming") {
        stream(&parts.headers, body, reply).await;
        tongue.over(id, false);
        return accepted();
    }
    let outcome = match read(body, PAYLOAD).await {
        Read::Whole(bytes, _) => Outcome::Answer(bytes),
        Read::Large => Outcome::Failed(Failure::of(
            "Function.ResponseSizeTooLarge",
            &format!(
                "the handler's result has more than {PAYLOAD} bytes, which is what it may have"
            ),
        )),
        Read::Broken(error) => Outcome::Gone(format!("the handler broke off its result: {error}")),
    };
    // Who waited may have left.
    let _ = reply.send(outcome);
    tongue.over(id, false);
    accepted()
}

async fn failed(
    tongue: &LambdaTongue,
    id: &str,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let reply = waiting(tongue, id, request.headers());
    let (failure, whole) = failure_of(request).await;
    if let Some(reply) = reply {
        let outcome = if whole {
            Outcome::Failed(failure)
        } else {
            Outcome::Gone("the handler broke off the description of its failure".into())
        };
        let _ = reply.send(outcome);
        tongue.over(id, true);
    }
    accepted()
}

/// Passes a stream on piece by piece. It is read to its end even if nobody wants it any more: a
/// client that can't send it would end.
async fn stream(headers: &HeaderMap, mut body: Incoming, reply: oneshot::Sender<Outcome>) {
    let content_type = text(headers, CONTENT_TYPE.as_str()).unwrap_or("application/octet-stream");
    let (sender, pieces) = mpsc::channel(PIECES);
    let _ = reply.send(Outcome::Stream { content_type: content_type.to_owned(), pieces });
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(frame)) => match frame.trailers_ref().and_then(|it| text(it, ERROR_TYPE)) {
                Some(kind) => Err(format!("the handler failed in its stream: {kind}")),
                None => continue,
            },
            Err(error) => Err(format!("the handler broke off its stream: {error}")),
        };
        let is_last = piece.is_err();
        // Who read may have left.
        let _ = sender.send(piece).await;
        if is_last {
            return;
        }
    }
}

/// What is read of a body.
enum Read {
    Whole(Bytes, HeaderMap),
    Large,
    Broken(hyper::Error),
}

/// Reads a body to its end and keeps it, if it has at most `most` bytes.
async fn read(mut body: Incoming, most: usize) -> Read {
    let mut whole = BytesMut::new();
    let mut trailers = HeaderMap::new();
    let mut is_large = false;
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(bytes)) if is_large || whole.len() + bytes.len() > most => {
                is_large = true;
                whole = BytesMut::new();
            }
            Ok(Ok(bytes)) => whole.extend_from_slice(&bytes),
            Ok(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
            Err(error) => return Read::Broken(error),
        }
    }
    if is_large { Read::Large } else { Read::Whole(whole.freeze(), trailers) }
}

/// The failure that a request tells, and whether it came whole. The kind stands in a header with
/// some clients, in the document with others.
async fn failure_of(request: Request<Incoming>) -> (Failure, bool) {
    let (parts, body) = request.into_parts();
    let (document, trailers, whole) = match read(body, LONGEST_ERROR).await {
        Read::Whole(bytes, trailers) => (bytes, trailers, true),
        Read::Large => (Bytes::new(), HeaderMap::new(), true),
        Read::Broken(_) => (Bytes::new(), HeaderMap::new(), false),
    };
    let said = serde_json::from_slice::<Value>(&document).ok();
    let said = said.and_then(|said| Some(said.get("errorType")?.as_str()?.to_owned()));
    let kind = text(&parts.headers, ERROR_TYPE).or_else(|| text(&trailers, ERROR_TYPE));
    let kind = kind.map(ToOwned::to_owned).or(said).unwrap_or_else(|| "Unhandled".into());
    let empty = document.is_empty() && !trailers.contains_key(ERROR_BODY);
    let failure = if empty {
        Failure::of(&kind, "the handler failed and did not say why")
    } else {
        Failure { kind, document }
    };
    (failure, whole)
}

impl Failure {
    /// One that the handler did not tell itself.
    pub fn of(kind: &str, message: &str) -> Self {
        let document = json!({"errorType": kind, "errorMessage": message}).to_string().into();
        Self { kind: kind.to_owned(), document }
    }

    /// The kind and the message, for people.
    pub fn words(&self) -> String {
        let said = serde_json::from_slice::<Value>(&self.document).unwrap_or_default();
        let message = said.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
        format!("{}: {message}", self.kind)
    }
}

fn registered(tongue: &LambdaTongue) -> Response<Full<Bytes>> {
    let settings = &tongue.world.settings;
    let document = json!({
        "functionName": settings.names.function,
        "functionVersion": "$LATEST",
        "handler": settings.handler,
    });
    let mut response = document_response(StatusCode::OK, &document);
    if let Ok(id) = HeaderValue::from_str(&super::front::new_id()) {
        response.headers_mut().insert("lambda-extension-identifier", id);
    }
    response
}

fn accepted() -> Response<Full<Bytes>> {
    document_response(StatusCode::ACCEPTED, &json!({"status": "OK"}))
}

fn refused(status: StatusCode, kind: &str, message: &str) -> Response<Full<Bytes>> {
    document_response(status, &json!({"errorType": kind, "errorMessage": message}))
}

fn document_response(status: StatusCode, document: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(document.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a text has the form of the ids that are given here.
fn is_id(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}
