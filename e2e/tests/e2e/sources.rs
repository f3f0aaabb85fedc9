//! Functions that are called with the events of a server.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream::{self, consumer::PullConsumer, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{AttachParams, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rouse_crds::v1alpha1::Trigger;
use rouse_e2e::cluster::NATS_IMAGE;
use rouse_e2e::http::Caller;
use rouse_e2e::scope::{PATIENCE, Scope, condition, hello};
use rouse_e2e::wait;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

/// Labels of the pods that run sources.
pub const SOURCES: &str = "app.kubernetes.io/component=source";
/// The kubelet brings a Secret that was made later with its next look at the pod.
const SECRET_PATIENCE: Duration = Duration::from_mins(3);

/// A server of NATS in the test's namespace, as `nats://nats.NAMESPACE:4222`.
pub struct Nats {
    context: jetstream::Context,
    url: String,
}

impl Nats {
    pub async fn start(scope: &Scope) -> anyhow::Result<Self> {
        let container = json!({
            "image": NATS_IMAGE,
            "args": ["--jetstream", "--store_dir", "/data", "--pid", "/data/nats.pid"],
        });
        // So that it is not the first process, which nothing in its pod could kill.
        let more = json!({"shareProcessNamespace": true});
        let address = scope.serve("nats", 4222, (container, more)).await?;
        let client = async_nats::connect(format!("nats://{address}")).await?;
        let url = format!("nats://nats.{}:4222", scope.namespace);
        Ok(Self { context: jetstream::new(client), url })
    }

    /// Has the Service lead to this port of the server's pod.
    async fn lead_to(&self, scope: &Scope, port: u16) -> anyhow::Result<()> {
        let change = json!({"spec": {"ports": [{"port": 4222, "targetPort": port}]}});
        let services = scope.api::<Service>();
        services.patch("nats", &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }

    async fn stream(&self, name: &str) -> anyhow::Result<()> {
        self.keep(name, &format!("{name}.*")).await
    }

    /// Makes a stream that keeps a subject.
    pub async fn keep(&self, name: &str, subject: &str) -> anyhow::Result<()> {
        let subjects = vec![subject.to_owned()];
        let config = stream::Config { name: name.into(), subjects, ..Default::default() };
        self.context.create_stream(config).await.map(drop).context("making a stream")
    }

    async fn publish(&self, count: u32) -> anyhow::Result<()> {
        for number in 0..count {
            let stored = self.context.publish("S.a", number.to_string().into()).await?;
            stored.await?;
        }
        Ok(())
    }

    async fn consumer(&self) -> anyhow::Result<jetstream::consumer::Info> {
        let found = self.context.get_consumer_from_stream("rouse", "S").await;
        let mut consumer: PullConsumer = found.context("looking for the consumer")?;
        Ok(consumer.info().await?.clone())
    }

    /// Waits until the consumer makes `is_so` true.
    async fn until(
        &self,
        mut is_so: impl FnMut(&jetstream::consumer::Info) -> bool,
    ) -> anyhow::Result<()> {
        let mut looks = interval(Duration::from_millis(100));
        let mut last = None;
        let looked = timeout(PATIENCE, async {
            loop {
                looks.tick().await;
                if let Ok(info) = self.consumer().await
                    && is_so(last.insert(info))
                {
                    return;
                }
            }
        });
        looked.await.with_context(|| format!("the consumer was not as expected: {last:?}"))
    }

    /// All that was published is done with.
    async fn all_done(&self, count: u64) -> anyhow::Result<()> {
        self.until(|info| info.ack_floor.stream_sequence == count && info.num_pending == 0).await
    }

    fn trigger(&self, function: &str, delivery: &Value) -> Value {
        json!({
            "function": function,
            "nats": {
                "servers": [self.url],
                "jetStream": {
                    "stream": "S", "consumer": "rouse", "start": "earliest", "ackWait": "5s",
                },
            },
            "delivery": delivery,
        })
    }
}

fn env(name: &str, value: &str) -> Value {
    json!({"env": [{"name": name, "value": value}]})
}

/// A Function that stays awake, so that its pod can be asked what it got.
pub async fn warm(scope: &Scope, name: &str) -> anyhow::Result<()> {
    scope.apply_function(name, hello(&json!({"scaling": {"min": 1, "max": 1}}))).await?;
    scope.function(name, PATIENCE, |f| condition(f, "Active") == Some("True")).await.map(drop)
}

/// Kills the pods that run sources, without a warning.
pub async fn kill_sources(scope: &Scope) -> anyhow::Result<()> {
    let pods = scope.api::<Pod>();
    for pod in pods.list(&ListParams::default().labels(SOURCES)).await? {
        let kill = DeleteParams::default().grace_period(0);
        pods.delete(&pod.metadata.name.unwrap_or_default(), &kill).await?;
    }
    Ok(())
}

/// The ids of the events that the pod of `function` got.
pub async fn events(scope: &Scope, function: &str) -> anyhow::Result<Vec<String>> {
    let answer = Caller::new(scope.cluster.activator).get(&scope.host(function), "/events").await?;
    let text = String::from_utf8(answer.body.to_vec())?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_message_wakes_a_sleeping_function_and_is_acknowledged_when_it_is_done() {
    Scope::run("source-wake", async |scope| {
        let nats = Nats::start(&scope).await?;
        nats.stream("S").await?;
        // It listens so late that the server would hand the message out again, thrice.
        scope.apply_function("hello", hello(&env("HELLO_DELAY_MILLIS", "16000"))).await?;
        scope.asleep("hello", PATIENCE).await?;
        scope.apply_trigger("t", nats.trigger("hello", &json!({}))).await?;
        scope.trigger_is("t", "True", "Connected").await?;
        scope.asleep("hello", PATIENCE).await?;
        nats.publish(1).await?;
        nats.until(|info| info.num_ack_pending == 1).await?;
        scope.pods("hello", PATIENCE, |pods| !pods.is_empty()).await?;
        let waking = nats.consumer().await?;
        assert_eq!(waking.ack_floor.stream_sequence, 0, "it is not acknowledged: {waking:?}");
        nats.all_done(1).await?;
        let done = nats.consumer().await?;
        assert_eq!(done.delivered.consumer_sequence, 1, "it was handed out once: {done:?}");
        scope.asleep("hello", PATIENCE).await?;
        wait::object(&scope.api::<Trigger>(), "t", PATIENCE, |trigger| {
            let source = trigger.and_then(|trigger| trigger.status.as_ref()?.source.as_ref());
            source.is_some_and(|source| source.delivered == 1 && source.lag == Some(0))
        })
        .await?;

        // With the last Trigger all goes that was there for its sake.
        scope.api::<Trigger>().delete("t", &DeleteParams::default()).await?;
        let deployments = scope.api::<Deployment>();
        wait::object(&deployments, "rouse-source", PATIENCE, |it| it.is_none()).await?;
        wait::list(&scope.api::<Pod>(), SOURCES, PATIENCE, <[Pod]>::is_empty).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn no_more_is_taken_than_the_function_may_run_and_a_killed_source_loses_nothing() {
    const EVENTS: u32 = 60;
    Scope::run("source-kill", async |scope| {
        let nats = Nats::start(&scope).await?;
        nats.stream("S").await?;
        let more = json!({
            "scaling": {"min": 1, "max": 1},
            "concurrency": {"limit": 2},
            "env": [{"name": "HELLO_EVENTS_MILLIS", "value": "200"}],
        });
        scope.apply_function("hello", hello(&more)).await?;
        scope.function("hello", PATIENCE, |f| condition(f, "Active") == Some("True")).await?;
        scope.apply_trigger("t", nats.trigger("hello", &json!({}))).await?;
        scope.trigger_is("t", "True", "Connected").await?;
        nats.publish(EVENTS).await?;
        nats.until(|info| info.ack_floor.stream_sequence >= 5).await?;
        kill_sources(&scope).await?;
        let mut most = 0;
        nats.until(|info| {
            most = most.max(info.num_ack_pending);
            info.ack_floor.stream_sequence == u64::from(EVENTS)
        })
        .await?;
        // What the killed one had is its own until the server takes it back.
        ensure!(most <= 4, "{most} messages were out at once");
        let got: BTreeSet<String> = events(&scope, "hello").await?.into_iter().collect();
        let wanted = (1..=EVENTS).map(|number| format!("S:{number}")).collect();
        assert_eq!(got, wanted);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_is_given_up_is_kept_and_a_server_that_is_killed_is_told_of() {
    Scope::run("source-letters", async |scope| {
        let nats = Nats::start(&scope).await?;
        nats.stream("S").await?;
        nats.stream("D").await?;
        scope.apply_function("hello", hello(&env("HELLO_EVENTS_STATUS", "500"))).await?;
        let letters = json!({"servers": [nats.url], "stream": "D", "subject": "D.a"});
        let delivery = json!({
            "attempts": 2, "backoff": "100ms..100ms", "deadLetter": {"nats": letters},
        });
        scope.apply_trigger("t", nats.trigger("hello", &delivery)).await?;
        scope.trigger_is("t", "True", "Connected").await?;
        nats.publish(1).await?;
        nats.all_done(1).await?;
        let kept = nats.context.get_stream("D").await?.get_raw_message(1).await?;
        let kept: Value = serde_json::from_slice(&kept.payload)?;
        assert_eq!((&kept["id"], &kept["rousereason"]), (&json!("S:1"), &json!("attempts")));
        look_after_letters(&scope).await?;

        // It would be back within a second, and nobody be told: no way leads to it for a while.
        nats.lead_to(&scope, 9).await?;
        let kill = ["/nats-server", "--signal", "stop=/data/nats.pid"];
        let kill = scope.api::<Pod>().exec("nats", kill, &AttachParams::default()).await?;
        // The container may be gone before it is told how its process ended.
        let _ = kill.join().await;
        scope.trigger_is("t", "False", "ServerAway").await?;
        nats.lead_to(&scope, 4222).await?;
        scope.trigger_is("t", "True", "Connected").await?;
        Ok(())
    })
    .await;
}

/// One letter of the Trigger `t` is there, which the Function `hello` gave up.
async fn look_after_letters(scope: &Scope) -> anyhow::Result<()> {
    let listed = scope.ask(&["dlq", "list"])?;
    assert_eq!((&listed[0]["number"], &listed[0]["id"]), (&json!(1), &json!("S:1")), "{listed}");
    let shown = scope.ask(&["dlq", "show", "t", "1"])?;
    assert_eq!((&shown["rouseattempts"], &shown["data"]), (&json!("2"), &json!(0)), "{shown}");
    let refused = scope.ask(&["dlq", "redrive", "t", "1"]).expect_err("the Function still fails");
    ensure!(format!("{refused}").contains("1 of 1 letters were not taken"), "{refused}");
    ensure!(scope.ask(&["dlq", "list", "t"])? != json!([]), "the letter stays");

    warm(scope, "hello").await?;
    let mut looks = interval(Duration::from_millis(500));
    // Until the pod of the new revision has the traffic, the former one refuses.
    while let Err(refused) = scope.ask(&["dlq", "redrive", "t", "1"]) {
        ensure!(format!("{refused}").contains("not taken"), "{refused}");
        looks.tick().await;
    }
    assert_eq!(scope.ask(&["dlq", "list", "t"])?, json!([]));
    assert_eq!(events(scope, "hello").await?, ["S:1"], "with its id");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_secret_that_is_missing_stops_one_trigger_and_no_other() {
    Scope::run("source-secret", async |scope| {
        let nats = Nats::start(&scope).await?;
        warm(&scope, "hello").await?;
        let subject = |secret: Option<&str>, name: &str| {
            let mut nats = json!({"servers": [nats.url], "subject": {"name": name}});
            if let Some(secret) = secret {
                nats["credentials"] = json!({"token": {"name": secret, "key": "token"}});
            }
            json!({"function": "hello", "nats": nats})
        };
        scope.apply_trigger("good", subject(None, "good")).await?;
        scope.apply_trigger("bad", subject(Some("later"), "bad")).await?;
        scope.trigger_is("bad", "False", "SecretMissing").await?;
        scope.trigger_is("good", "True", "Connected").await?;
        let pods = pods_of(&scope).await?;
        nats.context.client().publish("good", "1".into()).await?;
        let mut looks = interval(Duration::from_millis(100));
        while events(&scope, "hello").await?.is_empty() {
            looks.tick().await;
        }
        // An edit of one restarts nothing, and says that it runs as it is written now.
        scope.apply_trigger("good", subject(None, "better")).await?;
        scope.trigger_is("good", "True", "Connected").await?;
        let secret = json!({"metadata": {"name": "later"}, "stringData": {"token": "t"}});
        let secrets = scope.api::<Secret>();
        secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
        wait::object(&scope.api::<Trigger>(), "bad", SECRET_PATIENCE, |trigger| {
            let status = trigger.and_then(|trigger| trigger.status.as_ref());
            let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
            conditions.any(|c| c.type_ == "Ready" && c.status == "True")
        })
        .await?;
        assert_eq!(pods_of(&scope).await?, pods, "no pod was started anew");
        let forbidden = json!({"function": "hello", "nats": {
            "servers": ["nats://169.254.169.254:80"], "subject": {"name": "a"},
        }});
        scope.apply_trigger("forbidden", forbidden).await?;
        scope.trigger_is("forbidden", "False", "AddressForbidden").await
    })
    .await;
}

/// The UIDs of the pods that run sources.
async fn pods_of(scope: &Scope) -> anyhow::Result<Vec<String>> {
    let pods = scope.api::<Pod>().list(&ListParams::default().labels(SOURCES)).await?;
    Ok(pods.into_iter().filter_map(|pod| pod.metadata.uid).collect())
}
