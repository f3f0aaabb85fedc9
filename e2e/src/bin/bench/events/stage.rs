//! What events go through: a server of NATS, `rouse source`, an activator, and a Function that notes
//! what it gets, all on a control plane without nodes.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::PublishMessage;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rouse_core::function::names::LABEL_FUNCTION;
use rouse_e2e::hollow::activator::{Activator, Controller};
use rouse_e2e::hollow::nats::NatsServer;
use rouse_e2e::hollow::node::Node;
use rouse_e2e::hollow::programs::Programs;
use rouse_e2e::hollow::source::Source;
use rouse_e2e::hollow::{Hollow, NAMESPACE, PATIENCE};
use rouse_e2e::wait;
use serde_json::json;
use tokio::time::{interval, timeout};

use super::consumer::Target;
use super::function::Seen;

/// Events that the Function may run at once, and so those that are under way.
pub const AT_ONCE: usize = 100;
/// Name of the Triggers' consumers at the server.
pub const CONSUMER: &str = "rouse";
/// Bytes of an event's data, about.
const BYTES: usize = 256;
/// Messages that are published and not stored yet.
const UNSTORED: usize = 256;

/// All that runs. Who calls is dropped before who is called.
pub struct Stage {
    /// The source. It does not run until it is started.
    pub source: Source,
    /// A client of the server.
    pub context: Context,
    /// The server.
    pub nats: NatsServer,
    /// The activator.
    pub activator: Activator,
    _controller: Controller,
    /// Runs the pods.
    pub node: Node,
    /// What the Functions saw.
    pub seen: Seen,
    /// The control plane.
    pub hollow: Hollow,
}

impl Stage {
    /// Starts everything but the source. Each event takes the Function so long.
    pub async fn set(takes: Duration) -> anyhow::Result<Self> {
        let hollow = Hollow::start(Programs::from_environment()?).await?;
        eprintln!("the control plane is up; its logs are in {}", hollow.folder().display());
        let seen = Seen::new(takes);
        let node = Node::start(&hollow, seen.workload());
        let controller = hollow.start_controller().await?;
        let activator = hollow.start_activator().await?;
        let nats = NatsServer::start(&hollow).await?;
        let context = nats.connect().await?;
        let source = Source::prepare(&hollow, activator.http).await?;
        Ok(Self { source, context, nats, activator, _controller: controller, node, seen, hollow })
    }

    /// Makes a Function that is always warm.
    pub async fn warm(&self, name: &str) -> anyhow::Result<()> {
        let spec = json!({
            "image": "hollow", "port": 8080,
            "concurrency": {"target": AT_ONCE}, "scaling": {"min": 1, "max": 1},
        });
        self.hollow.apply_function(name, spec).await?;
        self.hollow.serving(name, 1).await.map(drop)
    }

    /// Makes a Function that sleeps soon after each request.
    pub async fn sleeper(&self, name: &str) -> anyhow::Result<()> {
        let spec = json!({
            "image": "hollow", "port": 8080, "concurrency": {"target": AT_ONCE},
            "scaling": {"max": 1, "idle": {"after": "1s"}, "stableWindow": "1s"},
        });
        self.hollow.apply_function(name, spec).await?;
        self.hollow.known(name).await.map(drop)
    }

    /// Waits until the Function has no pod.
    pub async fn asleep(&self, name: &str) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.hollow.client.clone(), NAMESPACE);
        let selector = format!("{LABEL_FUNCTION}={name}");
        wait::list(&pods, &selector, PATIENCE, <[Pod]>::is_empty).await.map(drop)
    }

    /// Makes a stream, and a Trigger that leads its messages to the Function.
    pub async fn lead(&self, stream: &str, function: &str) -> anyhow::Result<()> {
        self.nats.stream(&self.context, stream).await?;
        let spec = json!({
            "function": function,
            "nats": {"servers": [self.nats.url()], "jetStream": {
                "stream": stream, "consumer": CONSUMER, "start": "earliest", "ackWait": "5s",
            }},
            "delivery": {"attempts": 1000, "backoff": "100ms..1s"},
        });
        self.hollow.apply_trigger(&format!("to-{function}"), spec).await.map(drop)
    }

    /// The Function, as whoever calls it in the cluster reaches it.
    pub fn target(&self, function: &str) -> Target {
        Target { address: self.activator.http, host: format!("{function}.{NAMESPACE}") }
    }

    /// Stores events with these numbers.
    pub async fn fill(&self, name: &str, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
        let store = |number| async move {
            let subject = format!("{name}.a");
            anyhow::Ok(self.context.publish(subject, body(number).into()).await?.await?)
        };
        let stored = stream::iter(numbers).map(store).buffer_unordered(UNSTORED);
        stored.try_for_each(|_| async { Ok(()) }).await.context("filling the stream")
    }

    /// Waits until `consumer` has acknowledged all that the stream has.
    pub async fn acknowledged(&self, stream: &str, consumer: &str) -> anyhow::Result<()> {
        let mut looks = interval(Duration::from_millis(50));
        let mut last = None;
        let looking = async {
            loop {
                looks.tick().await;
                let found = self.context.get_consumer_from_stream(consumer, stream).await;
                let Ok(mut found): Result<PullConsumer, _> = found else { continue };
                let Ok(info) = found.info().await else { continue };
                if last.insert(info.clone()).num_pending == 0 && info.num_ack_pending == 0 {
                    return;
                }
            }
        };
        let looked = timeout(PATIENCE, looking).await;
        looked.with_context(|| format!("not all is acknowledged: {last:?}"))
    }
}

/// Stores one event, once, however often it takes to be told that it is stored.
pub async fn store(context: &Context, stream: &str, number: usize) {
    loop {
        let message = PublishMessage::build().message_id(number.to_string());
        let message = message.payload(body(number).into());
        let sent = async { context.send_publish(format!("{stream}.a"), message).await?.await };
        if matches!(timeout(Duration::from_secs(1), sent).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// The data of an event, from which it is known.
pub fn body(number: usize) -> String {
    format!("{{\"n\":{number},\"fill\":\"{}\"}}", "x".repeat(BYTES))
}
