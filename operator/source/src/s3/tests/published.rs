//! Notifications that the server publishes, through a real server of NATS.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use rouse_core::trigger::TriggerKey;

use super::stage::{BUCKET, Minio, Recorder, Setup};
use super::{listed, survives};
use crate::credentials::Secrets;
use crate::nats::tests::stage::Broker;
use crate::nats::{Connections, Login, Messages, Nats, Server, Settings, Start, Stream};
use crate::s3::{Hearer, Notifications};
use crate::stage::{loopback, until};

const SUBJECT: &str = "s.objects";

/// What hears as `settings` say.
pub fn hear(settings: Settings, secrets: &Secrets) -> Notifications {
    let hearer = Hearer {
        key: TriggerKey { namespace: "shop".into(), name: "t".into() },
        uid: "u".into(),
        source: format!("/s3/{BUCKET}"),
    };
    let connections = Connections::new(secrets.clone(), loopback());
    Notifications::through(Nats::new(settings, connections), hearer)
}

/// A server of S3 that publishes what becomes of its objects.
async fn publisher(broker: &Broker, is_kept: bool) -> Minio {
    let address = broker.url().trim_start_matches("nats://").to_owned();
    let kept = if is_kept { "on" } else { "off" };
    let minio = Minio::start_with(vec![
        ("MINIO_NOTIFY_NATS_ENABLE_ROUSE", "on".into()),
        ("MINIO_NOTIFY_NATS_ADDRESS_ROUSE", address),
        ("MINIO_NOTIFY_NATS_SUBJECT_ROUSE", SUBJECT.into()),
        ("MINIO_NOTIFY_NATS_JETSTREAM_ROUSE", kept.into()),
    ])
    .await;
    minio.client().notify_by("nats").await;
    minio
}

/// The stream `S`, by a consumer that waits two seconds for a sign of life.
pub fn stream(broker: &Broker) -> Settings {
    let stream = Stream {
        name: "S".into(),
        consumer: "rouse-t".into(),
        subjects: vec![SUBJECT.into()],
        start: Start::Latest,
        ack_wait: Duration::from_secs(2),
    };
    of(broker, Messages::Stream(stream))
}

fn subject(broker: &Broker) -> Settings {
    of(broker, Messages::Subject { subject: SUBJECT.into(), group: "rouse-t".into() })
}

fn of(broker: &Broker, messages: Messages) -> Settings {
    let server = Server { urls: vec![broker.url()], login: Login::Nobody, tls: None };
    Settings { server, messages }
}

/// Waits until all that is in the stream is answered for.
async fn answered(context: &Context) {
    let consumer: PullConsumer = context.get_consumer_from_stream("rouse-t", "S").await.unwrap();
    until(async || {
        let now = consumer.get_info().await.unwrap();
        now.num_pending == 0 && now.num_ack_pending == 0
    })
    .await;
}

#[tokio::test]
#[ignore = "needs the servers that cargo xtask test builds"]
async fn a_message_of_a_stream_is_acknowledged_when_the_function_is_done() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream().await;
    let minio = publisher(&broker, true).await;
    let client = minio.client();
    let mut failing = Recorder::new(1);
    failing.fails = 10;
    let mut setup = Setup::new(&minio);
    setup.settings.scope.prefix = "in/".into();
    setup.through = Some(stream(&broker));
    let mut source = setup.start(&failing);
    source.connects().await;
    listed(&mut source).await;
    client.put_all((0..5).map(|number| format!("in/{number}"))).await;
    client.put("out/of-scope", "x").await;
    // It is called over and over, for longer than the server waits for a sign of life.
    until(async || failing.calls.load(Ordering::Relaxed) > 300).await;
    let consumer: PullConsumer = context.get_consumer_from_stream("rouse-t", "S").await.unwrap();
    let now = consumer.get_info().await.unwrap();
    assert_eq!((now.num_ack_pending, now.num_redelivered), (5, 0), "{now:?}");
    drop(source);
    let function = Recorder::new(1);
    let mut source = setup.start(&function);
    listed(&mut source).await;
    let expected: Vec<_> = (0..5).map(|number| format!("created in/{number}")).collect();
    until(async || function.told().len() >= 5).await;
    answered(&context).await;
    assert_eq!(function.news(), expected, "each once");
    // There is no list any more that would find these.
    client.remove("in/0").await;
    client.put("in/5", "x").await;
    until(async || function.told().len() >= 7).await;
    answered(&context).await;
    assert_eq!(function.told().len(), 7);
}

#[tokio::test]
#[ignore = "needs the servers that cargo xtask test builds"]
async fn lists_go_on_when_nothing_is_heard() {
    let mut broker = Broker::start(&[]).await;
    let minio = publisher(&broker, false).await;
    let client = minio.client();
    let function = Recorder::new(1);
    let mut setup = Setup::new(&minio);
    setup.through = Some(subject(&broker));
    let mut source = setup.start(&function);
    source.connects().await;
    listed(&mut source).await;
    client.put("heard", "x").await;
    function.hears(&["created heard"]).await;
    source.stop().await;

    setup.settings.interval = Duration::from_millis(200);
    let mut source = setup.start(&function);
    source.connects().await;
    broker.kill();
    source.says("ServerAway").await;
    let message = source.outlook.borrow().trouble.clone().unwrap().message;
    assert!(message.starts_with("no notifications are heard, lists go on: "), "{message}");
    client.put("listed", "x").await;
    until(async || function.told().len() >= 2).await;
    broker.restart().await;
    source.connects().await;
    source.stop().await;

    setup.through = Some(stream(&broker));
    let mut source = setup.start(&function);
    source.says("SourceMissing").await;
    client.put("listed too", "x").await;
    let expected = ["created heard", "created listed", "created listed too"];
    until(async || function.told().len() >= expected.len()).await;
    drop(broker.stream().await);
    source.connects().await;
    assert_eq!(function.news(), expected);
}

#[tokio::test]
#[ignore = "needs the servers that cargo xtask test builds"]
async fn nothing_is_lost_when_the_servers_and_the_source_are_killed() {
    let mut broker = Broker::start(&[]).await;
    let context = broker.stream().await;
    let minio = publisher(&broker, true).await;
    let stream = stream(&broker);
    let tell = |setup: &mut Setup<'_>| setup.through = Some(stream.clone());
    let disturb = async || broker.restart().await;
    let _running = survives(minio, tell, (1, disturb)).await;
    answered(&context).await;
}
