//! What somebody would write without Rouse: a consumer by the same client library that posts each
//! message to the Function and acknowledges it after 2xx, with as many under way at once.

use std::net::SocketAddr;

use anyhow::Context as _;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::{Context, Message};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinHandle;

/// Its name at the server.
pub const NAME: &str = "plain";

type Http = Client<HttpConnector, Full<Bytes>>;

/// A consumer that runs, and ends with this.
pub struct Consumer(JoinHandle<anyhow::Result<()>>);

impl Drop for Consumer {
    fn drop(&mut self) {
        self.0.abort();
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

impl Consumer {
    /// Consumes `stream` with `at_once` messages under way.
    pub fn start(context: Context, stream: &str, target: Target, at_once: usize) -> Self {
        let stream = stream.to_owned();
        Self(tokio::spawn(async move { consume(&context, &stream, &target, at_once).await }))
    }
}

async fn consume(
    context: &Context,
    stream: &str,
    target: &Target,
    at_once: usize,
) -> anyhow::Result<()> {
    let config = Config { durable_name: Some(NAME.to_owned()), ..Config::default() };
    let stream = context.get_stream(stream).await?;
    let consumer: PullConsumer = stream.get_or_create_consumer(NAME, config).await?;
    let messages = consumer.stream().max_messages_per_batch(at_once * 2).messages().await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http: Http = Client::builder(TokioExecutor::new()).build(connector);
    messages
        .map(|message| {
            let (http, target) = (http.clone(), target.clone());
            async move { tokio::spawn(deliver(http, target, message?)).await? }
        })
        .buffer_unordered(at_once)
        .for_each(|delivered: anyhow::Result<()>| async {
            if let Err(error) = delivered {
                eprintln!("the plain consumer: {error:#}");
            }
        })
        .await;
    Ok(())
}

async fn deliver(http: Http, target: Target, message: Message) -> anyhow::Result<()> {
    let id = message.info().map_err(anyhow::Error::from_boxed)?.stream_sequence;
    let request = Request::post(format!("http://{}/", target.address))
        .header("host", &target.host)
        .header("ce-specversion", "1.0")
        .header("ce-id", id)
        .header("ce-source", "/plain")
        .header("ce-type", "plain")
        .header("content-type", "application/json")
        .body(Full::new(message.payload.clone()))?;
    let status = http.request(request).await.context("posting")?.status();
    anyhow::ensure!(status.is_success(), "the Function said {status}");
    message.ack().await.map_err(anyhow::Error::from_boxed)
}
