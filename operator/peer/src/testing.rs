//! For tests: an API server that knows only tokens, and activators that prove themselves by them.
//! What it panics at is a mistake of the test.
#![allow(clippy::expect_used, clippy::missing_panics_doc, missing_docs, reason = "for tests")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use kube::Client;
use kube::client::Body;
use rouse_core::peer::{Fingerprint, IDENTITY_PATH};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{ClientStream, Identity, Protocol, ServerKey, ServerStream};

pub const NAMESPACE: &str = "rouse-system";
const ACTIVATOR: &str = "system:serviceaccount:rouse-system:rouse-activator";

/// An API server: it makes tokens and says whose they are.
#[derive(Clone, Default)]
pub struct Tokens(Arc<State>);

#[derive(Default)]
struct State {
    reviews: AtomicUsize,
    requests: Mutex<Vec<Value>>,
    away: AtomicBool,
}

impl Tokens {
    pub fn client(&self) -> Client {
        let tokens = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let tokens = tokens.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                if tokens.0.away.load(Ordering::SeqCst) {
                    return Err("the API server is away".into());
                }
                let asked: Value = serde_json::from_slice(&body)?;
                let answer = if parts.uri.path().ends_with("/tokenreviews") {
                    tokens.0.reviews.fetch_add(1, Ordering::SeqCst);
                    reviewed(&asked)
                } else {
                    tokens.requests().push(json!([parts.uri.path(), asked["spec"]]));
                    granted(&asked)
                };
                Ok::<_, tower::BoxError>(Response::new(Full::new(Bytes::from(answer.to_string()))))
            }
        });
        Client::new(service, "default")
    }

    /// Lets the API server fail from now on, or answer again.
    pub fn set_away(&self, away: bool) {
        self.0.away.store(away, Ordering::SeqCst);
    }

    /// How often it was asked whose a token is.
    pub fn reviews(&self) -> usize {
        self.0.reviews.load(Ordering::SeqCst)
    }

    /// The requests for tokens: paths and specs.
    pub fn take_requests(&self) -> Vec<Value> {
        std::mem::take(&mut *self.requests())
    }

    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<Value>> {
        self.0.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token that the API server takes for one of `account`, bound to the pod `uid`.
pub fn token(account: &str, uid: &str, audience: &str) -> String {
    json!([account, uid, audience]).to_string()
}

/// The token by which the activator `uid` proves `key`.
pub fn proof(uid: &str, key: Fingerprint) -> String {
    token(ACTIVATOR, uid, &key.audience())
}

/// What an API server answers to the question whose a token is. All that starts otherwise than
/// `[` has expired.
pub fn reviewed(asked: &Value) -> Value {
    let token = asked["spec"]["token"].as_str().unwrap_or_default();
    let [account, uid, audience]: [String; 3] = serde_json::from_str(token).unwrap_or_default();
    let status = if asked["spec"]["audiences"] == json!([audience]) {
        json!({
            "authenticated": true,
            "audiences": [audience],
            "user": {
                "username": account,
                "extra": {"authentication.kubernetes.io/pod-uid": [uid]},
            },
        })
    } else {
        json!({"authenticated": false, "error": "the token is expired or of another audience"})
    };
    json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": asked["spec"], "status": status,
    })
}

fn granted(asked: &Value) -> Value {
    let spec = &asked["spec"];
    let [uid, audience] = ["/boundObjectRef/uid", "/audiences/0"]
        .map(|path| spec.pointer(path).and_then(Value::as_str).unwrap_or_default());
    json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec,
        "status": {
            "token": token(ACTIVATOR, uid, audience),
            "expirationTimestamp": "2100-01-01T00:00:00Z",
        },
    })
}

/// The identity of an activator whose token is what it is told that it is.
pub fn identity() -> (impl Fn(Option<String>), Identity) {
    Identity::told()
}

/// Lets a caller in, as an activator that shows `token`. None once that was all that it came for;
/// else its connection, and the first head if it speaks HTTP/1.1.
pub async fn welcome<I>(
    key: &ServerKey,
    token: Option<&str>,
    io: I,
) -> Option<(ServerStream<I>, String)>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (mut stream, protocol) = key.accept(io).await.ok()?;
    if protocol == Protocol::Http2 {
        return Some((stream, String::new()));
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_lowercase();
    if !head.starts_with(&format!("get {IDENTITY_PATH} ")) {
        return Some((stream, head));
    }
    for secret in ["authorization", "token"] {
        assert!(!head.contains(secret), "nothing is told before the proof: {head}");
    }
    let status = if token.is_some() { "200 OK" } else { "503 Service Unavailable" };
    let token = token.unwrap_or_default();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{token}", token.len());
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()?;
    None
}

/// Opens TLS to whoever is there, as callers do that ask for no proof.
pub async fn handshake<I>(io: I, protocol: Protocol) -> io::Result<(ClientStream<I>, Fingerprint)>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let tls = crate::tls::ClientTls::new().map_err(io::Error::other)?;
    tls.handshake(io, protocol).await
}
