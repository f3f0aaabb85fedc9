//! What somebody would write without Rouse: a task that reads a server by the same client library, and
//! posts each event to the Function, with as many under way at once.

use std::future::Future;
use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinHandle;

/// A consumer that runs, and ends with this.
pub struct Consumer(JoinHandle<()>);

impl Drop for Consumer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Consumer {
    /// Consumes until it ends, or fails.
    pub fn start(consume: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            if let Err(error) = consume.await {
                eprintln!("the plain consumer: {error:#}");
            }
        }))
    }

    /// One that has nothing to do.
    pub fn idle() -> Self {
        Self::start(async { Ok(()) })
    }
}

/// To whom it posts.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where.
    pub address: SocketAddr,
    /// As which host.
    pub host: String,
}

/// Posts events. Cheap to clone.
#[derive(Clone)]
pub struct Post {
    http: Client<HttpConnector, Full<Bytes>>,
    target: Target,
}

impl Post {
    /// Posts to `target`.
    pub fn new(target: Target) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { http: Client::builder(TokioExecutor::new()).build(connector), target }
    }

    /// Posts one; it is done when the Function said 2xx.
    pub async fn send(&self, id: String, data: Bytes) -> anyhow::Result<()> {
        let Self { http, target } = self;
        let request = Request::post(format!("http://{}/", target.address))
            .header("host", &target.host)
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/plain")
            .header("ce-type", "plain")
            .header("content-type", "application/json")
            .body(Full::new(data))?;
        let status = http.request(request).await.context("posting")?.status();
        anyhow::ensure!(status.is_success(), "the Function said {status}");
        Ok(())
    }
}
