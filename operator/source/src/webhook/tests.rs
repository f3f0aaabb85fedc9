//! Webhooks by a real client over a real connection, to a Function that is a script.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rouse_core::delivery::{Outcome, Settings, Target};
use rouse_core::function::FunctionKey;
use rouse_core::trigger::TriggerKey;
use rouse_crds::v1alpha1::Delivery;
use rouse_peer::Call;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::{Metrics, Outlook, Wires, Work};

/// From GitHub's docs: what it sends for the secret below.
const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const SECRET: &str = "It's a Secret to Everybody";
const BODY: &str = "Hello, World!";

/// Each call waits for its outcome, in the order of calls; without one it is done.
#[derive(Default)]
struct Function {
    called: Mutex<Vec<Message>>,
    outcomes: Mutex<VecDeque<oneshot::Receiver<Outcome>>>,
}

impl Function {
    fn expect(&self) -> oneshot::Sender<Outcome> {
        let (sender, outcome) = oneshot::channel();
        self.outcomes.lock().unwrap().push_back(outcome);
        sender
    }

    fn header(&self, name: &str) -> Vec<String> {
        let called = self.called.lock().unwrap();
        let headers = called.iter().flat_map(|message| message.headers.iter());
        headers.filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect()
    }
}

struct Caller(Arc<Function>);

impl Call for Caller {
    fn call(&self, _: &FunctionKey, message: Message, _: Duration) -> BoxFuture<'static, Outcome> {
        self.0.called.lock().unwrap().push(message);
        let outcome = self.0.outcomes.lock().unwrap().pop_front();
        async move {
            match outcome {
                Some(outcome) => outcome.await.unwrap(),
                None => Outcome::Done,
            }
        }
        .boxed()
    }
}

struct World {
    function: Arc<Function>,
    intake: Arc<Intake>,
    address: String,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: watch::Sender<bool>,
    _kept: (watch::Sender<Option<Target>>, Hung),
    tasks: Vec<JoinHandle<()>>,
    folder: std::path::PathBuf,
}

impl World {
    async fn new(name: &str, scheme: Scheme, kind: Kind, patience: Duration) -> Self {
        let folder =
            std::env::temp_dir().join(format!("rouse-webhook-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("hook")).unwrap();
        std::fs::write(folder.join("hook/key"), format!("{SECRET}\n")).unwrap();
        let settings = WebhookSettings {
            scheme,
            secret: SecretKey { name: "hook".into(), key: "key".into() },
            kind,
            patience,
            body_limit: 1 << 10,
            source: "/namespaces/shop/triggers/hook".into(),
        };
        let (source, door) = open(settings, Secrets::below(&folder));
        let (function, intake) = (Arc::new(Function::default()), source.intake.clone());
        let delivery = serde_json::json!({"attempts": 1, "backoff": "100ms..100ms"});
        let delivery: Delivery = serde_json::from_value(delivery).unwrap();
        let work = Work {
            key: TriggerKey { namespace: "shop".into(), name: "hook".into() },
            uid: "u".into(),
            function: FunctionKey::new("shop", "f"),
            filter: None,
            settings: Settings::of("shop", &delivery).unwrap(),
        };
        let target = Target { in_flight: 8, limit: Duration::from_secs(30) };
        let (target_sender, target) = watch::channel(Some(target));
        let wires = Wires {
            caller: Arc::new(Caller(function.clone())),
            target,
            bury: None,
            outlook: watch::Sender::new(Outlook::default()),
            metrics: Metrics::default().of("hook"),
            clock: Arc::new(jiff::Timestamp::now),
        };
        let (stop, stopped) = watch::channel(false);
        let doors = Doors::default();
        let hung = doors.hang("hooks.example.com", "/in", door);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tasks = vec![
            tokio::spawn(crate::run(source, work, wires, stopped.clone())),
            tokio::spawn(serve(listener, doors, stopped)),
        ];
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let kept = (target_sender, hung);
        Self { function, intake, address, client, stop, _kept: kept, tasks, folder }
    }

    fn send(
        &self,
        headers: &[(&str, &str)],
        body: &str,
    ) -> impl Future<Output = (StatusCode, String)> + use<> {
        let mut request = Request::post(format!("http://{}/in", self.address));
        request = request.header("host", "Hooks.example.com:443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let answer = self.client.request(request);
        async move {
            let (head, body) = answer.await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (head.status, String::from_utf8(body.to_vec()).unwrap())
        }
    }

    /// A delivery of GitHub.
    fn github(&self, id: &str) -> impl Future<Output = u16> + use<> {
        let headers = [
            ("x-hub-signature-256", SIGNATURE),
            ("x-github-delivery", id),
            ("x-github-event", "push"),
            ("content-type", "text/plain"),
        ];
        self.send(&headers, BODY).map(|(status, _)| status.as_u16())
    }

    async fn end(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.unwrap();
        }
        let (under_way, _, waiting) = self.intake.counts();
        assert_eq!((under_way, waiting), (0, 0), "everything is given back");
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_delivery_is_answered_when_the_function_is_done_and_not_done_twice() {
    let world = World::new("done", Scheme::GitHub, Kind::github(), LONG).await;
    let outcome = world.function.expect();
    let (first, second) = (tokio::spawn(world.github("1")), tokio::spawn(world.github("1")));
    while world.function.called.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!first.is_finished() && !second.is_finished());
    outcome.send(Outcome::Done).unwrap();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (200, 200));
    assert_eq!(world.github("1").await, 200);
    assert_eq!(world.github("2").await, 200);
    assert_eq!(world.function.header("ce-id"), ["1", "2"], "each delivery once");
    assert_eq!(world.function.header("ce-type"), ["com.github.push", "com.github.push"]);
    assert_eq!(world.function.called.lock().unwrap()[0].body, BODY.as_bytes());
    assert_eq!(world.intake.counts(), (0, 2, 0));
    world.end().await;
}

#[tokio::test]
async fn who_does_not_know_the_secret_reaches_nothing() {
    let world = World::new("denied", Scheme::GitHub, Kind::github(), LONG).await;
    assert_eq!(world.github("1").await, 200);
    // Also not what was done before.
    let wrong = [("x-hub-signature-256", SIGNATURE), ("x-github-delivery", "1")];
    assert_eq!(world.send(&wrong, "Hello, World?").await.0, 401);
    assert_eq!(world.send(&wrong[1..], BODY).await.0, 401);
    let large = "x".repeat(1025);
    assert_eq!(world.send(&wrong, &large).await.0, 413);
    std::fs::write(world.folder.join("hook/key"), "changed").unwrap();
    assert_eq!(world.github("2").await, 401, "a changed Secret holds at once");
    std::fs::remove_file(world.folder.join("hook/key")).unwrap();
    assert_eq!(world.github("2").await, 503);
    assert_eq!(world.function.header("ce-id"), ["1"]);
    let other = Request::post(format!("http://{}/other", world.address));
    let other = other.body(Full::default()).unwrap();
    assert_eq!(world.client.request(other).await.unwrap().status(), 503);
    let got =
        Request::get(format!("http://{}/in", world.address)).header("host", "hooks.example.com");
    let got = world.client.request(got.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!((got.status().as_u16(), &got.headers()["allow"]), (405, &"POST".parse().unwrap()));
    world.end().await;
}

#[tokio::test]
async fn what_is_given_up_is_told_and_may_come_again() {
    let world = World::new("given-up", Scheme::GitHub, Kind::github(), LONG).await;
    world.function.expect().send(Outcome::Rejected).unwrap();
    assert_eq!(world.github("1").await, 502);
    assert_eq!(world.intake.counts().1, 0, "it is forgotten");
    assert_eq!(world.github("1").await, 200);
    assert_eq!(world.function.header("ce-id"), ["1", "1"]);
    world.end().await;
}

#[tokio::test]
async fn who_loses_patience_hears_later_what_became_of_it() {
    let patience = Duration::from_millis(100);
    let world = World::new("patience", Scheme::GitHub, Kind::github(), patience).await;
    let outcome = world.function.expect();
    assert_eq!(world.github("1").await, 504);
    assert_eq!(world.github("1").await, 504, "it joins");
    outcome.send(Outcome::Done).unwrap();
    while world.intake.counts().0 > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.github("1").await, 200);
    assert_eq!(world.function.header("ce-id"), ["1"]);
    world.end().await;
}

#[tokio::test]
async fn cloudevents_come_one_by_one_and_in_batches() {
    let world = World::new("events", Scheme::Bearer, Kind::CloudEvents, LONG).await;
    let token = ("authorization", "Bearer It's a Secret to Everybody");
    let one = [
        token,
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/a"),
        ("ce-type", "b"),
        ("content-type", "text/plain"),
    ];
    assert_eq!(world.send(&one, "hi").await.0, 200);
    assert_eq!(world.send(&one[1..], "hi").await.0, 401);
    let (status, text) = world.send(&one[..4], "hi").await;
    assert_eq!((status.as_u16(), text.as_str()), (400, "the event has no type"));
    let event = |id| serde_json::json!({"specversion": "1.0", "id": id, "source": "/a", "type": "b", "data": 1});
    let batch = serde_json::json!([event("1"), event("2"), event("3")]).to_string();
    let kind = [token, ("content-type", "application/cloudevents-batch+json")];
    assert_eq!(world.send(&kind, &batch).await.0, 200);
    let mut ids = world.function.header("ce-id");
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2", "3"], "what was done is not done again");
    // One of a batch that is given up is all of it: what is done is known when it comes again.
    world.function.expect().send(Outcome::Rejected).unwrap();
    let batch = serde_json::json!([event("4"), event("1")]).to_string();
    assert_eq!(world.send(&kind, &batch).await.0, 502);
    let mixed = serde_json::json!([event("5"), {"specversion": "1.0"}]).to_string();
    let (status, text) = world.send(&kind, &mixed).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("event 1 of the batch"), "{text}");
    assert!(!world.function.header("ce-id").contains(&"5".to_owned()), "all or none are taken");
    world.end().await;
}

#[test]
fn settings_come_from_the_trigger() {
    let secret = serde_json::json!({"name": "hook", "key": "key"});
    let hook = serde_json::json!({"host": "a.b", "sender": "GitLab", "secret": secret});
    let settings =
        WebhookSettings::of_webhook(&serde_json::from_value(hook).unwrap(), "/own").unwrap();
    assert_eq!((settings.scheme, settings.kind), (Scheme::GitLab, Kind::gitlab()));
    assert_eq!(settings.patience, Duration::from_secs(9));
    assert_eq!(settings.secret, SecretKey { name: "hook".into(), key: "key".into() });
    let events = serde_json::json!({"host": "a.b", "token": secret});
    let settings =
        WebhookSettings::of_cloud_events(&serde_json::from_value(events).unwrap(), "/own");
    assert_eq!((settings.scheme, settings.kind), (Scheme::Bearer, Kind::CloudEvents));
}
