//! The least that a language process of AWS Lambda can be called by: what is measured against.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::caller::EVENT;

/// A Runtime API for one process.
pub struct RuntimeApi {
    /// Host and port, for the process.
    pub address: String,
    events: mpsc::Sender<Bytes>,
    answers: mpsc::Receiver<Bytes>,
}

impl RuntimeApi {
    /// Opens it on a port of loopback.
    pub async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (events, next) = mpsc::channel(1);
        let (answered, answers) = mpsc::channel(1);
        let next = Arc::new(Mutex::new(next));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (next, answered) = (Arc::clone(&next), answered.clone());
                let service =
                    service_fn(move |request| answer(request, Arc::clone(&next), answered.clone()));
                let connection = http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, events, answers })
    }

    /// The milliseconds of each of some calls.
    pub async fn round(&mut self, calls: usize) -> anyhow::Result<Vec<f64>> {
        let mut millis = Vec::with_capacity(calls);
        for _ in 0..calls {
            let began = Instant::now();
            self.events.send(Bytes::from_static(EVENT.as_bytes())).await?;
            let answer = self.answers.recv().await.context("the process is gone")?;
            millis.push(began.elapsed().as_secs_f64() * 1000.0);
            ensure!(!answer.is_empty(), "the answer is empty");
        }
        Ok(millis)
    }
}

async fn answer(
    request: Request<Incoming>,
    next: Arc<Mutex<mpsc::Receiver<Bytes>>>,
    answered: mpsc::Sender<Bytes>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        let event = next.lock().await.recv().await.unwrap_or_default();
        let mut response = Response::new(Full::new(event));
        for (name, value) in [
            ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
            ("lambda-runtime-deadline-ms", "9999999999999"),
            ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:local:0:function:bench"),
            ("lambda-runtime-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"),
        ] {
            let value = hyper::header::HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        return Ok(response);
    }
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    // Nobody waits once the benchmark is over.
    let _ = answered.send(body.unwrap_or_default()).await;
    let mut response = Response::new(Full::new(Bytes::from_static(b"{\"status\":\"OK\"}")));
    *response.status_mut() = hyper::StatusCode::ACCEPTED;
    Ok(response)
}
