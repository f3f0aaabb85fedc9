//! Messages of streams of NATS.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::message::PublishMessage;
use futures::{StreamExt, TryStreamExt, stream};
use rouse_e2e::hollow::Hollow;
use rouse_e2e::hollow::nats::NatsServer;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::consumer::{Consumer, Post, Target};
use super::origin::{self, Origin, Rows, filling, name, until};
use super::stage::AT_ONCE;

/// Name of whoever reads a stream.
const CONSUMER: &str = "reader";
/// Messages that are published and not stored yet.
const UNSTORED: usize = 256;
/// How long the server may take to say that it stored one.
const STORED: Duration = Duration::from_secs(1);

/// A server of NATS.
pub struct Nats {
    server: NatsServer,
    context: Context,
}

impl Origin for Nats {
    type Sender = Sender;

    const NAME: &'static str = "nats";
    const TITLE: &'static str = "NATS JetStream, 256 B";
    const EVENTS: usize = 30_000;
    const ENOUGH: Option<f64> = Some(5000.0);

    async fn start(hollow: &Hollow, _: SocketAddr, _: Rows) -> anyhow::Result<Self> {
        let server = NatsServer::start(&hollow.ground).await?;
        let context = server.connect().await?;
        Ok(Self { server, context })
    }

    async fn make(&self, place: &str) -> anyhow::Result<()> {
        self.server.stream(&self.context, place).await
    }

    fn trigger(&self, place: &str) -> (&'static str, Value) {
        let stream = json!({
            "stream": place, "consumer": CONSUMER, "start": "earliest", "ackWait": "5s",
        });
        ("nats", json!({"servers": [self.server.url()], "jetStream": stream}))
    }

    async fn sender(&self) -> anyhow::Result<Sender> {
        Ok(Sender { context: self.server.connect().await? })
    }

    async fn fill(&self, place: &str, numbers: Range<usize>) -> anyhow::Result<()> {
        let store = |number| async move {
            anyhow::Ok(self.context.publish(subject(place), body(number).into()).await?.await?)
        };
        let stored = stream::iter(numbers).map(store).buffer_unordered(UNSTORED);
        stored.try_for_each(|_| async { Ok(()) }).await.context("filling the stream")
    }

    fn consume(&self, place: &str, _: usize, target: Target) -> Consumer {
        let (context, place) = (self.context.clone(), place.to_owned());
        Consumer::start(consume(context, place, Post::new(target)))
    }

    async fn acknowledged(&self, place: &str) -> anyhow::Result<()> {
        until("all is acknowledged", async || {
            let found = self.context.get_consumer_from_stream(CONSUMER, place).await;
            let mut found: PullConsumer = found?;
            let info = found.info().await?;
            Ok(info.num_pending == 0 && info.num_ack_pending == 0)
        })
        .await
    }

    fn row(&self, _: usize) -> Option<usize> {
        None
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        self.server.restart().await
    }
}

/// Publishes messages.
pub struct Sender {
    context: Context,
}

impl origin::Sender for Sender {
    async fn store(&mut self, place: &str, number: usize) -> anyhow::Result<()> {
        let message = PublishMessage::build().message_id(number.to_string());
        let message = message.payload(body(number).into());
        let sent = async { self.context.send_publish(subject(place), message).await?.await };
        timeout(STORED, sent).await??;
        Ok(())
    }
}

fn subject(place: &str) -> String {
    format!("{place}.a")
}

fn body(number: usize) -> String {
    json!({"event": name(number), "fill": filling()}).to_string()
}

async fn consume(context: Context, place: String, post: Post) -> anyhow::Result<()> {
    let config = Config { durable_name: Some(CONSUMER.to_owned()), ..Config::default() };
    let stream = context.get_stream(place).await?;
    let consumer: PullConsumer = stream.get_or_create_consumer(CONSUMER, config).await?;
    let messages = consumer.stream().max_messages_per_batch(AT_ONCE * 2).messages().await?;
    let delivered = messages.map(|message| {
        let post = post.clone();
        async move {
            let deliver = async move {
                let message = message?;
                let id = message.info().map_err(anyhow::Error::from_boxed)?.stream_sequence;
                post.send(id.to_string(), message.payload.clone()).await?;
                message.ack().await.map_err(anyhow::Error::from_boxed)
            };
            tokio::spawn(deliver).await?
        }
    });
    delivered.buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await
}
