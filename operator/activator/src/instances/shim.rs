//! Speaks to the control port of a pod with source (`rouse-shim`): brings code, and asks how it goes.
//! Each call is one request; who calls decides whether to try again. What a pod says is not trusted:
//! it is bounded, and told to nobody but its own Function's callers and status.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::CallError;
use crate::readiness::CONNECT_TIMEOUT;

/// How long an answer may take. Code is unpacked before it comes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that an answer may have.
const MOST: usize = 64 << 10;

/// What a pod with source has come to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ShimState {
    /// In one word.
    pub phase: Phase,
    /// Why, where it is no good.
    #[serde(default)]
    pub message: String,
}

/// What a pod with source has come to, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Phase {
    /// Nobody has brought the code yet.
    WaitingForCode,
    /// The code could not be fetched yet.
    FetchFailed,
    /// The code can't be run, whoever brings it.
    CodeRefused,
    /// The language process does not come up. It is tried again.
    InitFailed,
    /// It starts, serves or ends.
    #[serde(other)]
    Other,
}

/// What the pod says that listens at `control`.
pub async fn fetch_state(control: SocketAddr) -> Result<ShimState, CallError> {
    let (status, body) = call(control, Method::GET, "/state", Bytes::new()).await?;
    if status != StatusCode::OK {
        return Err(CallError(format!("GET /state: {status}")));
    }
    serde_json::from_slice(&body).map_err(|error| CallError(format!("GET /state: {error}")))
}

/// Brings `code` to the pod that listens at `control`. What is wrong with the code the pod tells by
/// its state.
pub async fn push_code(control: SocketAddr, code: Bytes) -> Result<(), CallError> {
    let (status, body) = call(control, Method::PUT, "/code", code).await?;
    if status.is_success() {
        return Ok(());
    }
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let detail = document.get("detail").and_then(|detail| detail.as_str()).unwrap_or("no word");
    Err(CallError(format!("{status}: {detail}")))
}

async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), CallError> {
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connecting.map_err(|_| silent())?.map_err(failed)?;
    // The request is written whole; waiting for more would only hold it up.
    stream.set_nodelay(true).map_err(failed)?;
    let answered = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::builder().method(method).uri(path);
        let request = request.header(HOST, address.to_string()).body(Full::new(body))?;
        let answer = sender.send_request(request).await?;
        let (status, body) = (answer.status(), Limited::new(answer.into_body(), MOST));
        Ok::<_, tower::BoxError>((status, body.collect().await?.to_bytes()))
    };
    timeout(ANSWER_TIMEOUT, answered).await.map_err(|_| silent())?.map_err(failed)
}

fn silent() -> CallError {
    CallError("no answer in time".into())
}

fn failed(error: impl std::fmt::Display) -> CallError {
    CallError(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::Response;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;

    /// A pod that answers everything so; gives its address and what it is asked.
    async fn pod(
        status: u16,
        answer: impl Into<Bytes>,
    ) -> (SocketAddr, tokio::task::JoinHandle<(Method, String, Bytes)>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, answer) = (listener.local_addr().unwrap(), answer.into());
        let asked = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (sender, mut asked) = tokio::sync::mpsc::channel(1);
            let service = service_fn(move |request: Request<Incoming>| {
                let (sender, answer) = (sender.clone(), answer.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    sender.send((head.method, head.uri.to_string(), body)).await.unwrap();
                    let answer = Response::builder().status(status).body(Full::new(answer));
                    Ok::<_, Infallible>(answer.unwrap())
                }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            asked.recv().await.unwrap()
        });
        (address, asked)
    }

    #[tokio::test]
    async fn code_is_put_and_the_pods_words_come_back() {
        let (address, asked) = pod(200, "{}").await;
        push_code(address, Bytes::from_static(b"code")).await.unwrap();
        let (method, path, body) = asked.await.unwrap();
        assert_eq!((method, &*path, &body[..]), (Method::PUT, "/code", &b"code"[..]));
        let (address, _asked) = pod(422, r#"{"detail": "the code has the SHA-256 00"}"#).await;
        let error = push_code(address, Bytes::new()).await.unwrap_err();
        assert_eq!(error.0, "422 Unprocessable Entity: the code has the SHA-256 00");
    }

    #[tokio::test]
    async fn what_is_no_state_is_an_error_however_long_it_is() {
        let (address, _asked) = pod(200, r#"{"phase": "CodeRefused", "message": "no zip"}"#).await;
        let state = fetch_state(address).await.unwrap();
        assert_eq!((state.phase, &*state.message), (Phase::CodeRefused, "no zip"));
        for (status, answer) in
            [(404, "{}".to_owned()), (200, "hello".into()), (200, "x".repeat(MOST + 1))]
        {
            let (address, _asked) = pod(status, answer).await;
            fetch_state(address).await.unwrap_err();
        }
        let nobody = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
        fetch_state(nobody).await.unwrap_err();
    }

    #[test]
    fn states_are_read_also_those_of_other_versions() {
        let read = |text| serde_json::from_str::<ShimState>(text).unwrap();
        let state = read(r#"{"phase":"InitFailed","message":"no module","starts":3,"new":[]}"#);
        assert_eq!((state.phase, &*state.message), (Phase::InitFailed, "no module"));
        assert_eq!(read(r#"{"phase":"Ready"}"#).phase, Phase::Other);
        assert_eq!(read(r#"{"phase":"Thawing"}"#).phase, Phase::Other);
    }
}
