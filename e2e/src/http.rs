//! Calls through the activator, as a caller in or outside the cluster makes them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HOST, HeaderMap};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::{Instant, timeout};

/// How long an answer may take before a test gives up.
const PATIENCE: Duration = Duration::from_mins(2);

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Time from the call to the first byte.
    pub first_byte: Duration,
    /// Time from the call to the last byte.
    pub took: Duration,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }

    /// The problem that the body tells of.
    pub fn problem(&self) -> anyhow::Result<Value> {
        anyhow::ensure!(
            self.header("content-type") == Some("application/problem+json"),
            "not a problem: {self:?}"
        );
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// A caller that keeps its connections.
#[derive(Clone)]
pub struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

impl Caller {
    /// A caller of the activator at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).build(connector), address }
    }

    /// Sends a GET for `path` of `host` and reads the answer.
    pub async fn get(&self, host: &str, path: &str) -> anyhow::Result<Answer> {
        let request = Request::get(format!("http://{}{path}", self.address))
            .header(HOST, host)
            .body(Full::default())?;
        self.send(request).await
    }

    /// Sends a request and reads the answer.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let begun = Instant::now();
        let what = format!("{} {}", request.method(), request.uri());
        let exchange = async {
            let response = self.client.request(request).await?;
            let first_byte = begun.elapsed();
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
                first_byte,
                took: begun.elapsed(),
            })
        };
        timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("{what}: no answer within {PATIENCE:?}"))?
            .with_context(|| what)
    }
}
