//! Looking after the dead letters of a real stream.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use rouse_core::delivery::Target;
use rouse_core::event::{CloudEvent, Data};
use rouse_core::letter::Letters as Found;
use rouse_core::source::ValidatedSource;
use rouse_core::trigger::TriggerKey;
use rouse_crds::v1alpha1::NatsDeadLetters;
use serde_json::json;
use tokio::sync::watch;

use super::super::{Connections, Letters, LettersTo};
use super::stage::{Broker, connections};
use crate::kinds::Owner;
use crate::office::Office;
use crate::runner::Bury;
use crate::stage::Function;

/// An office, a server with a stream `D` for all letters, and a Function that gets them.
struct Stage {
    broker: Broker,
    connections: Connections,
    office: Office,
    function: Function,
    // Dropped, there is no Function any more.
    target: watch::Sender<Option<Target>>,
}

impl Stage {
    async fn build() -> Self {
        let broker = Broker::start(&[]).await;
        let context = broker.context().await;
        let (name, subjects) = ("D".to_owned(), vec!["dead".to_owned()]);
        let config = async_nats::jetstream::stream::Config { name, subjects, ..Default::default() };
        context.create_stream(config).await.unwrap();
        let connections = connections(std::path::Path::new("none"));
        let limit = Duration::from_secs(5);
        Self {
            office: Office::new(connections.clone()),
            broker,
            connections,
            function: Function::new(1),
            target: watch::Sender::new(Some(Target { in_flight: 1, limit })),
        }
    }

    fn nats(&self) -> serde_json::Value {
        json!({"servers": [self.broker.url()], "stream": "D", "subject": "dead"})
    }

    /// Opens the office for a Trigger of the namespace `shop`.
    fn open(&self, trigger: &str, delivery: &serde_json::Value) {
        let trigger = serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Trigger",
            "metadata": {"namespace": "shop", "name": trigger, "uid": "u"},
            "spec": {"function": "f", "delivery": delivery, "nats": {
                "servers": ["nats://n"], "jetStream": {"stream": "S"},
            }},
        }))
        .unwrap();
        let owner = Owner {
            source: Arc::new(ValidatedSource::of(&trigger).unwrap().unwrap()),
            target: self.target.subscribe(),
            caller: Arc::new(self.function.clone()),
        };
        self.office.set(&owner.source.key.name.clone(), Some(owner));
    }

    /// Stores a letter as the source of the Trigger `namespace/name` does.
    async fn store(&self, namespace: &str, name: &str, id: &str) {
        let letters: NatsDeadLetters = serde_json::from_value(self.nats()).unwrap();
        let key = TriggerKey { namespace: namespace.into(), name: name.into() };
        let store = Letters::spawn(LettersTo::of(&letters, &key), self.connections.clone());
        let own = [("rousereason", "attempts"), ("rouseattempts", "5"), ("tenant", "a")];
        let letter = CloudEvent {
            id: id.into(),
            source: "/nats/S".into(),
            kind: "order.paid".into(),
            time: "2026-11-01T00:00:00Z".parse().unwrap(),
            subject: None,
            extensions: own.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            data: Data::Bytes {
                content_type: "text/plain".into(),
                bytes: format!("body {id}").into(),
            },
        };
        assert!(store.bury(letter).await);
    }

    async fn ask(&self, method: &str, path: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(format!("/v1/triggers/{path}"));
        let answer = self.office.answer(request.body(()).unwrap()).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn list(&self, path: &str) -> (Vec<u64>, Option<u64>) {
        let (status, body) = self.ask("GET", path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let found: Found = serde_json::from_str(&body).unwrap();
        (found.letters.iter().map(|letter| letter.number).collect(), found.next)
    }
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn a_letter_is_removed_only_once_the_function_has_taken_it() {
    let mut stage = Stage::build().await;
    stage.open("t", &json!({"deadLetter": {"nats": stage.nats()}}));
    for (namespace, name, id) in
        [("shop", "t", "1"), ("shop", "other", "1"), ("fair", "t", "1"), ("shop", "t", "2")]
    {
        stage.store(namespace, name, id).await;
    }
    assert_eq!(stage.list("t/letters").await, (vec![1, 4], None));
    assert_eq!(stage.list("t/letters?limit=1").await, (vec![1], Some(2)));
    assert_eq!(stage.list("t/letters?from=2&limit=1").await, (vec![4], Some(5)));
    let (_, shown) = stage.ask("GET", "t/letters/1").await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["rousereason"], &shown["data"]), (&json!("attempts"), &json!("body 1")));
    for others in ["t/letters/2", "t/letters/3", "t/letters/9"] {
        assert_eq!(stage.ask("GET", others).await.0, StatusCode::NOT_FOUND);
        assert_eq!(stage.ask("DELETE", others).await.0, StatusCode::NOT_FOUND);
    }

    stage.function.fails = 10;
    stage.open("t", &json!({"deadLetter": {"nats": stage.nats()}}));
    let (status, text) = stage.ask("POST", "t/letters/1/redrive").await;
    assert_eq!(status, StatusCode::FAILED_DEPENDENCY);
    assert!(text.starts_with("the Function f did not take it"), "{text}");
    assert_eq!(stage.list("t/letters").await.0, [1, 4], "it stays");

    stage.function.fails = 0;
    stage.open("t", &json!({"deadLetter": {"nats": stage.nats()}}));
    assert_eq!(stage.ask("POST", "t/letters/1/redrive").await.0, StatusCode::OK);
    assert_eq!(stage.list("t/letters").await.0, [4]);
    {
        let seen = stage.function.seen.lock().unwrap();
        assert_eq!(seen.ids["body 1"], ["1"], "its id is the same");
        let has = |name: &str| seen.headers.iter().any(|(other, _)| other == name);
        assert!(has("ce-tenant") && !has("ce-rousereason"), "{:?}", seen.headers);
    }
    assert_eq!(stage.ask("POST", "t/letters/1/redrive").await.0, StatusCode::NOT_FOUND);
    assert_eq!(stage.ask("DELETE", "t/letters/4").await.0, StatusCode::OK);
    assert!(stage.list("t/letters").await.0.is_empty());
    assert_eq!(stage.function.bodies(), ["body 1"], "what is purged is sent to nobody");
}

#[tokio::test]
#[ignore = "needs the server that cargo xtask test builds"]
async fn what_keeps_a_letter_from_its_function_is_told() {
    let mut stage = Stage::build().await;
    assert_eq!(stage.ask("GET", "t/letters").await.0, StatusCode::NOT_FOUND);
    stage.open("t", &json!({"deadLetter": {"function": "g"}}));
    let (status, text) = stage.ask("GET", "t/letters").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(text.contains("no stream keeps dead letters of a Trigger t"), "{text}");
    stage.open("t", &json!({"deadLetter": {"nats": stage.nats()}}));
    stage.store("shop", "t", "1").await;
    stage.target.send_replace(None);
    let (_, text) = stage.ask("POST", "t/letters/1/redrive").await;
    assert!(text.contains("no valid Function f"), "{text}");
    let mut gone = stage.nats();
    gone["stream"] = json!("GONE");
    stage.open("t", &json!({"deadLetter": {"nats": gone}}));
    let (status, text) = stage.ask("GET", "t/letters").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.contains("there is no stream of NATS GONE"), "{text}");
    stage.broker.kill();
    let (_, text) = stage.ask("GET", "t/letters").await;
    assert!(text.contains("NATS"), "{text}");
    assert_eq!(stage.ask("PUT", "t/letters").await.0, StatusCode::NOT_FOUND);
    stage.office.set("t", None);
    assert_eq!(stage.ask("GET", "t/letters").await.0, StatusCode::NOT_FOUND);
}
