//! The supervisor on an API server in memory and a paused clock: what it runs, and what it writes.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use rouse_core::delivery::Outcome;
use rouse_core::event::Message;
use rouse_core::function::FunctionKey;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::address::Policy;
use crate::credentials::Secrets;

type Answer = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>;

/// An API server with one namespace, and a Function that takes all.
#[derive(Clone, Default)]
struct World(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    triggers: Vec<Value>,
    watches: Vec<UnboundedSender<Bytes>>,
    /// What was written of `status.source`.
    written: Vec<Value>,
    /// Ids of the events that the Function got.
    got: Vec<String>,
}

impl Call for World {
    fn call(&self, _: &FunctionKey, message: Message, _: Duration) -> BoxFuture<'static, Outcome> {
        let id = message.header("ce-id").unwrap_or_default().to_owned();
        self.with(|state| state.got.push(id));
        std::future::ready(Outcome::Done).boxed()
    }
}

impl World {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn client(&self) -> Client {
        let world = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let world = world.clone();
            async move { Ok::<_, Infallible>(world.answer(request).await) }
        });
        Client::new(service, "shop")
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let path = request.uri().path().to_owned();
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        if *request.method() == Method::PATCH {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut body: Value = serde_json::from_slice(&body).unwrap();
            self.with(|state| state.written.push(body["status"]["source"].clone()));
            body["spec"] = trigger("any", 1)["spec"].take();
            return full(&body);
        }
        let is_triggers = path.ends_with("/triggers");
        if is_watch {
            let (sender, lines) = unbounded();
            if is_triggers {
                self.with(|state| state.watches.push(sender));
            } else {
                // Nothing happens to Functions, and the watch stays open.
                std::mem::forget(sender);
            }
            let frames = lines.map(|line| Ok::<_, Infallible>(Frame::data(line)));
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        let items = if is_triggers {
            self.with(|state| state.triggers.clone())
        } else {
            vec![json!({
                "metadata": {"namespace": "shop", "name": "f", "uid": "f"}, "spec": {"image": "i"},
            })]
        };
        full(&json!({
            "kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items,
        }))
    }

    /// Tells that a Trigger is there, or another.
    fn apply(&self, trigger: &Value) {
        let mut line = json!({"type": "MODIFIED", "object": trigger}).to_string();
        line.push('\n');
        self.with(|state| {
            for watch in &state.watches {
                let _ = watch.unbounded_send(line.clone().into());
            }
        });
    }

    fn written(&self) -> Vec<Value> {
        self.with(|state| std::mem::take(&mut state.written))
    }
}

fn full(body: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync())
}

/// A Trigger that takes events at `/NAME`, from who knows the key `NAME`.
fn trigger(name: &str, generation: i64) -> Value {
    json!({
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Trigger",
        "metadata": {
            "namespace": "shop", "name": name, "uid": name, "generation": generation,
            "resourceVersion": (generation + 1).to_string(),
        },
        "spec": {"function": "f", "cloudEvents": {
            "host": "in.example.com", "path": format!("/{name}"),
            "token": {"name": "tokens", "key": name},
        }},
    })
}

struct Rig {
    world: World,
    means: Means,
    secrets: PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.secrets);
    }
}

impl Rig {
    fn start(test: &str, triggers: &[Value]) -> Self {
        let folder = format!("rouse-supervisor-{test}-{}", std::process::id());
        let secrets = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(secrets.join("tokens")).unwrap();
        let world = World::default();
        world.with(|state| state.triggers = triggers.to_vec());
        let means = Means::new(Secrets::below(&secrets), Policy::default());
        let supervisor = Supervisor {
            client: world.client(),
            namespace: "shop".into(),
            caller: Arc::new(world.clone()),
            means: means.clone(),
            metrics: Metrics::default(),
            ready: watch::Sender::new(false),
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(supervisor.run(stopped));
        Self { world, means, secrets, stop, task }
    }

    fn write_token(&self, name: &str) {
        std::fs::write(Path::new(&self.secrets).join("tokens").join(name), "token").unwrap();
    }

    async fn send(&self, trigger: &str, id: &str) -> StatusCode {
        let request = Request::post(format!("/{trigger}"))
            .header("host", "in.example.com")
            .header("authorization", "Bearer token")
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/s")
            .header("ce-type", "t");
        let request = request.body(Full::new(Bytes::from("{}"))).unwrap();
        self.means.doors().answer(request).await.status()
    }
}

#[tokio::test(start_paused = true)]
async fn how_a_source_goes_is_told_when_it_changes_and_not_more_often_than_bearable() {
    let rig = Rig::start("status", &[trigger("a", 1)]);
    sleep(Duration::from_secs(5)).await;
    let written = rig.world.written();
    let [first] = &written[..] else { panic!("{written:?}") };
    assert_eq!(first["connected"], false);
    assert_eq!(first["observedGeneration"], 1);
    assert_eq!(first["lastError"]["reason"], "SecretMissing");
    sleep(Duration::from_mins(1)).await;
    assert_eq!(rig.world.written(), [Value::Null; 0], "nothing changed");
    rig.write_token("a");
    sleep(Duration::from_mins(1)).await;
    let written = rig.world.written();
    let [second] = &written[..] else { panic!("{written:?}") };
    assert_eq!(second["connected"], true);
    for id in 0..50 {
        assert_eq!(rig.send("a", &id.to_string()).await, 200);
        sleep(Duration::from_millis(500)).await;
    }
    sleep(Duration::from_secs(20)).await;
    let written = rig.world.written();
    assert!((1..=4).contains(&written.len()), "{written:?}");
    assert_eq!(written.last().unwrap()["delivered"], 50);
}

#[tokio::test(start_paused = true)]
async fn an_edit_starts_its_own_source_anew_and_no_other() {
    let rig = Rig::start("edit", &[trigger("a", 1), trigger("b", 1)]);
    for name in ["a", "b"] {
        rig.write_token(name);
    }
    sleep(Duration::from_secs(30)).await;
    for name in ["a", "b"] {
        assert_eq!(rig.send(name, name).await, 200);
    }
    rig.world.apply(&trigger("b", 2));
    sleep(Duration::from_secs(1)).await;
    for name in ["a", "b"] {
        assert_eq!(rig.send(name, name).await, 200);
    }
    let got = rig.world.with(|state| state.got.clone());
    assert_eq!(got, ["a", "b", "b"], "only one has forgotten what was done");
    let mut gone = trigger("a", 2);
    gone["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    rig.world.apply(&gone);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.send("a", "1").await, 503, "it leaves");
    assert_eq!(rig.send("b", "1").await, 200);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_early_waits_for_its_source() {
    let rig = Rig::start("early", &[trigger("a", 1)]);
    rig.write_token("a");
    assert_eq!(rig.send("a", "1").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_is_over_soon() {
    let mut rig = Rig::start("end", &[trigger("a", 1)]);
    sleep(Duration::from_secs(5)).await;
    rig.stop.send_replace(true);
    timeout(FAREWELL, &mut rig.task).await.unwrap().unwrap();
    assert_eq!(rig.send("a", "1").await, 503);
}
