//! The source against a real server, which `cargo xtask test` builds.

mod office;
pub mod stage;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Config;
use jiff::Timestamp;
use rouse_core::delivery::Target;
use rouse_core::simulation::chance::Chance;
use rouse_crds::v1alpha1::{SecretKey, SourceTls};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::stage::{Broker, Setup, connections, make_stream};
use super::{Letters, LettersTo, Login, Messages, Start};
use crate::ToFunction;
use crate::runner::Bury;
use crate::stage::{Function, Grave, until};

async fn publish(context: &async_nats::jetstream::Context, bodies: std::ops::Range<u32>) {
    for body in bodies {
        let stored = context.publish("s.a", body.to_string().into()).await.unwrap();
        stored.await.unwrap();
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// The consumer, as the server sees it.
async fn consumer(context: &async_nats::jetstream::Context) -> PullConsumer {
    context.get_consumer_from_stream("rouse-t", "S").await.unwrap()
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn nothing_is_lost_when_the_server_and_the_source_are_killed() {
    const EVENTS: u32 = 1500;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut broker = Broker::start(&[]).await;
    drop(broker.stream().await);
    let mut function = Function::new(seed);
    (function.takes, function.fails) = (Duration::from_millis(5), 2);
    let setup = Setup::new(&broker);
    let url = broker.url();
    let publisher = tokio::spawn(async move {
        let client = async_nats::connect(url).await.unwrap();
        let context = async_nats::jetstream::new(client);
        for body in 0..EVENTS {
            // Its id keeps a message that is published again from being stored twice.
            let id = body.to_string();
            loop {
                let message = async_nats::jetstream::message::PublishMessage::build();
                let message = message.message_id(&id).payload(id.clone().into());
                let sent = async { context.send_publish("s.a", message).await?.await };
                if matches!(timeout(Duration::from_secs(1), sent).await, Ok(Ok(_))) {
                    break;
                }
            }
            sleep(Duration::from_millis(3)).await;
        }
    });
    let mut chance = Chance::new(seed, 2);
    let mut source = setup.start(&function);
    while !publisher.is_finished() {
        sleep(Duration::from_millis(chance.number() % 1000)).await;
        if chance.below(2) == 0 {
            broker.restart().await;
        } else {
            drop(source);
            source = setup.start(&function);
        }
    }
    publisher.await.unwrap();
    until(async || function.count() == EVENTS as usize).await;
    let context = broker.context().await;
    let consumer = consumer(&context).await;
    until(async || {
        let info = consumer.get_info().await.unwrap();
        info.num_pending == 0 && info.num_ack_pending == 0
    })
    .await;
    for (body, ids) in &function.seen.lock().unwrap().ids {
        assert!(ids.iter().all(|id| *id == ids[0]), "seed {seed}: {body}: {ids:?}");
    }
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn what_takes_longer_than_the_server_waits_is_not_handed_out_again() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream().await;
    let mut function = Function::new(1);
    function.takes = Duration::from_secs(4);
    let mut setup = Setup::new(&broker);
    setup.stream().ack_wait = Duration::from_secs(1);
    let _source = setup.start(&function);
    publish(&context, 0..5).await;
    until(async || function.count() == 5).await;
    assert_eq!(function.bodies().len(), 5);
    let info = consumer(&context).await.get_info().await.unwrap();
    assert_eq!((info.num_redelivered, info.delivered.consumer_sequence), (0, 5));
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn a_consumer_begins_where_it_was_told_to() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream().await;
    publish(&context, 0..3).await;
    sleep(Duration::from_millis(20)).await;
    let middle = Timestamp::now();
    publish(&context, 3..5).await;
    let starts = [(Start::Earliest, 0), (Start::At(middle), 3), (Start::Latest, 5)];
    for (number, (start, first)) in starts.into_iter().enumerate() {
        let function = Function::new(1);
        let mut setup = Setup::new(&broker);
        setup.play.in_flight = 1;
        (setup.stream().start, setup.stream().consumer) = (start, format!("c{number}"));
        let mut source = setup.start(&function);
        source.connects().await;
        let last = 6 + u32::try_from(number).unwrap();
        publish(&context, last - 1..last).await;
        until(async || function.bodies().contains(&(last - 1).to_string())).await;
        // What later rounds publish is no matter of this one; one at a time, order is kept.
        let first = if start == Start::Latest { last - 1 } else { first };
        assert_eq!(function.bodies(), numbers(first..last), "{start:?}");
    }
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn batches_keep_the_order_of_the_stream() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream().await;
    publish(&context, 0..100).await;
    let function = Function::new(1);
    let mut setup = Setup::new(&broker);
    (setup.play.batch, setup.play.in_flight) = (10, 1);
    let mut source = setup.start(&function);
    source.lags(0).await;
    let bodies = function.bodies();
    assert!(bodies.len() < 30, "{}", bodies.len());
    let messages = bodies.iter().flat_map(|body| {
        let mut event: serde_json::Value = serde_json::from_str(body).unwrap();
        let records: Vec<serde_json::Value> =
            serde_json::from_value(event["Records"].take()).unwrap();
        records.into_iter().map(|record| {
            assert_eq!(record["eventSource"], "aws:sqs");
            record["body"].as_str().unwrap().to_owned()
        })
    });
    assert_eq!(messages.collect::<Vec<_>>(), numbers(0..100));
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn what_is_wrong_is_told_and_mended() {
    let mut broker = Broker::start(&[]).await;
    let function = Function::new(1);
    let setup = Setup::new(&broker);
    let mut source = setup.start(&function);
    source.says("SourceMissing").await;
    let context = broker.context().await;
    make_stream(&context).await;
    publish(&context, 0..1).await;
    source.connects().await;
    until(async || function.count() == 1).await;
    broker.kill();
    source.says("ServerAway").await;
    broker.restart().await;
    source.connects().await;
    let context = broker.context().await;
    context.delete_consumer_from_stream("rouse-t", "S").await.unwrap();
    source.says("PositionLost").await;
    let config =
        Config { durable_name: Some("bounded".into()), max_deliver: 3, ..Config::default() };
    context.create_consumer_on_stream(config, "S").await.unwrap();
    let mut setup = Setup::new(&broker);
    setup.stream().consumer = "bounded".into();
    setup.start(&function).says("SourceInvalid").await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn nobody_gets_in_without_the_password() {
    let broker = Broker::start(&["--user", "rouse", "--pass", "secret"]).await;
    let key = |key: &str| SecretKey { name: "nats".into(), key: key.into() };
    let function = Function::new(1);
    let mut setup = Setup::new(&broker);
    setup.start(&function).says("AccessDenied").await;
    setup.settings.server.login = Login::User { user: key("user"), password: key("password") };
    let mut source = setup.start(&function);
    source.says("SecretMissing").await;
    let folder = setup.secrets.join("nats");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("user"), "rouse").unwrap();
    std::fs::write(folder.join("password"), "wrong").unwrap();
    source.says("AccessDenied").await;
    std::fs::write(folder.join("password"), "secret\n").unwrap();
    source.says("SourceMissing").await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn one_connection_serves_all_until_it_breaks() {
    let mut broker = Broker::start(&[]).await;
    let setup = Setup::new(&broker);
    let (connections, server) = (connections(&setup.secrets), &setup.settings.server);
    let mut one = connections.open(server).await.unwrap();
    let other = connections.open(server).await.unwrap();
    let id = |client: &async_nats::Client| client.server_info().client_id;
    assert_eq!(id(&one.client), id(&other.client));
    broker.restart().await;
    assert_eq!(one.breaks(|_| false).await.reason(), "ServerAway");
    assert!(!other.is_open());
    let mut next = connections.open(server).await;
    until(async || {
        next = connections.open(server).await;
        next.is_ok()
    })
    .await;
    assert!(next.unwrap().is_open(), "the first to come connects anew");
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn what_is_denied_to_one_is_no_business_of_the_others() {
    let folder = std::env::temp_dir().join(format!("rouse-nats-rights-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("nats.conf");
    let rights = "{ publish: \">\", subscribe: { deny: \"secret\" } }";
    std::fs::write(
        &file,
        format!(
            "authorization {{ default_permissions: {rights}, users: [{{ user: a, password: b }}] }}"
        ),
    )
    .unwrap();
    let file: &'static str = Box::leak(file.to_str().unwrap().into());
    let broker = Broker::start(&["--config", file]).await;
    let mut setup = Setup::new(&broker);
    let key = |key: &str| SecretKey { name: "nats".into(), key: key.into() };
    let secrets = setup.secrets.join("nats");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("user"), "a").unwrap();
    std::fs::write(secrets.join("password"), "b").unwrap();
    setup.settings.server.login = Login::User { user: key("user"), password: key("password") };
    let shared = connections(&setup.secrets);
    let subject = |name: &str| Messages::Subject { subject: name.into(), group: "g".into() };
    let function = Function::new(1);
    setup.settings.messages = subject("open");
    let mut open = setup.start_on(&function, shared.clone());
    open.connects().await;
    setup.settings.messages = subject("secret");
    setup.start_on(&function, shared).says("AccessDenied").await;
    let told = open.outlook.borrow().clone();
    assert!(told.progress.connected && told.trouble.is_none(), "{told:?}");
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn the_certificate_must_be_of_the_name_that_was_given() {
    let folder = std::env::temp_dir().join(format!("rouse-nats-tls-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("tls")).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("tls/tls.crt"), folder.join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let text = |path: &std::path::Path| -> &'static str {
        Box::leak(path.to_str().unwrap().to_owned().into_boxed_str())
    };
    let arguments = ["--tls", "--tlscert", text(&certificate), "--tlskey", text(&key)];
    let broker = Broker::start(&arguments).await;
    let mut server = Setup::new(&broker).settings.server;
    let connections = connections(&folder);
    let is_away =
        |failure: Option<crate::Failure>| failure.is_some_and(|f| f.reason() == "ServerAway");
    assert!(is_away(connections.open(&server).await.err()), "nobody signed it");
    let ca = SecretKey { name: "tls".into(), key: "tls.crt".into() };
    server.tls = Some(SourceTls { ca: Some(ca), ..SourceTls::default() });
    assert!(is_away(connections.open(&server).await.err()), "it is not of an address");
    server.urls = vec![broker.url().replace("127.0.0.1", "localhost")];
    let open = connections.open(&server).await;
    assert!(open.is_ok(), "{:?}", open.err());
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn an_address_that_is_forbidden_is_not_connected_to() {
    let broker = Broker::start(&[]).await;
    let setup = Setup::new(&broker);
    let secrets = crate::credentials::Secrets::below(&setup.secrets);
    let connections = super::Connections::new(secrets, Arc::default());
    setup.start_on(&Function::new(1), connections).says("AddressForbidden").await;
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn the_lag_is_what_the_function_is_not_done_with() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream().await;
    publish(&context, 0..20).await;
    let mut function = Function::new(1);
    function.takes = Duration::from_millis(500);
    let mut setup = Setup::new(&broker);
    setup.play.in_flight = 4;
    let mut source = setup.start(&function);
    source.lags(20).await;
    source.lags(0).await;
    assert_eq!(function.count(), 20);
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn a_large_message_comes_through_and_what_fails_is_buried() {
    let broker = Broker::start(&[]).await;
    let context = broker.stream().await;
    let large = "x".repeat(1 << 20);
    for _ in 0..20 {
        context.publish("s.b", large.clone().into()).await.unwrap().await.unwrap();
    }
    let function = Function::new(1);
    let setup = Setup::new(&broker);
    let source = setup.start(&function);
    until(async || function.bodies().len() == 20).await;
    drop(source);
    publish(&context, 0..3).await;
    let mut function = Function::new(1);
    function.fails = 10;
    let (mut setup, grave) = (Setup::new(&broker), Grave::default());
    setup.play.delivery = serde_json::json!({
        "attempts": 2, "backoff": "10ms..10ms", "deadLetter": {"function": "g"},
    });
    setup.play.grave = Some(Arc::new(grave.clone()));
    let mut source = setup.start(&function);
    until(async || grave.0.lock().unwrap().len() == 3).await;
    source.lags(0).await;
    let letters = grave.0.lock().unwrap();
    assert!(letters.iter().all(|letter| letter.extensions["rouseattempts"] == "2"));
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn a_subject_is_shared_by_a_queue_group_and_delivered_with_retries() {
    let broker = Broker::start(&[]).await;
    let mut function = Function::new(1);
    function.fails = 3;
    let mut setup = Setup::new(&broker);
    setup.settings.messages = Messages::Subject { subject: "s.*".into(), group: "g".into() };
    let (mut one, mut two) = (setup.start(&function), setup.start(&function));
    one.connects().await;
    two.connects().await;
    let client = async_nats::connect(broker.url()).await.unwrap();
    for number in 0..100 {
        client.publish("s.a", number.to_string().into()).await.unwrap();
    }
    client.flush().await.unwrap();
    until(async || function.count() == 100).await;
    assert_eq!(function.bodies().len(), 100, "each to one member");
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn what_is_given_up_is_stored_once_in_a_stream_or_given_to_a_function() {
    let mut broker = Broker::start(&[]).await;
    let context = broker.stream().await;
    publish(&context, 0..3).await;
    let mut function = Function::new(1);
    function.fails = 10;
    let mut setup = Setup::new(&broker);
    setup.play.delivery = serde_json::json!({
        "attempts": 2, "backoff": "10ms..10ms", "deadLetter": {"function": "g"},
    });
    let to = LettersTo {
        server: setup.settings.server.clone(),
        stream: "D".into(),
        subject: "dead".into(),
        trigger: "shop/t".into(),
    };
    let letters = Arc::new(Letters::spawn(to, connections(&setup.secrets)));
    setup.play.grave = Some(letters.clone());
    let mut source = setup.start(&function);
    source.lags(3).await;
    // As long as there is no stream nothing is stored, and nothing acknowledged.
    let letter = rouse_core::event::CloudEvent {
        id: "7".into(),
        source: "/test".into(),
        kind: "test".into(),
        time: Timestamp::UNIX_EPOCH,
        subject: None,
        extensions: [("rousereason".to_owned(), "age".to_owned())].into(),
        data: rouse_core::event::Data::Json(7.into()),
    };
    assert!(!letters.bury(letter.clone()).await);
    let (name, subjects) = ("D".to_owned(), vec!["dead".to_owned()]);
    let config = async_nats::jetstream::stream::Config { name, subjects, ..Default::default() };
    let stream = context.create_stream(config).await.unwrap();
    source.lags(0).await;
    assert_eq!(stream.get_info().await.unwrap().state.messages, 3);
    broker.restart().await;
    until(async || letters.bury(letter.clone()).await).await;
    assert!(letters.bury(letter.clone()).await);
    let stream = broker.context().await.get_stream("D").await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.messages, 4, "the second is the same");
    let stored = stream.get_raw_message(1).await.unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored.payload).unwrap();
    assert_eq!(
        (&stored["rousereason"], &stored["rouseattempts"]),
        (&"attempts".into(), &"2".into())
    );
    let heir = Function::new(1);
    let function = rouse_core::function::FunctionKey::new("shop", "g");
    let target = watch::Sender::new(Some(Target { in_flight: 1, limit: Duration::from_secs(1) }));
    let target = target.subscribe();
    assert!(ToFunction { caller: Arc::new(heir.clone()), function, target }.bury(letter).await);
    assert_eq!(heir.bodies(), ["7"]);
}
