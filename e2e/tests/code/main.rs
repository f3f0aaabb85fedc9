//! Functions with source on a control plane without nodes: the real API server, the real controller,
//! activator and shim. What is in the code's folder the sample program tells.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use std::time::Duration;

use anyhow::Context;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use rouse_crds::v1alpha1::Function;
use rouse_e2e::hollow::activator::Activator;
use rouse_e2e::hollow::node::Node;
use rouse_e2e::hollow::programs::Programs;
use rouse_e2e::hollow::{Hollow, NAMESPACE, PATIENCE, code};
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{condition, find_condition, hello_code};
use rouse_e2e::{process, wait};
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

/// Within which a caller must know why its request can't be served.
const PROMPT: Duration = Duration::from_secs(10);

struct Stage {
    hollow: Hollow,
    activator: Activator,
    node: Node,
}

fn spec(source: &Value, env: &Value) -> Value {
    hello_code(source, &json!({"env": env}))
}

fn files(text: &str) -> Value {
    json!({"files": {"app.txt": text}})
}

impl Stage {
    async fn get(&self, name: &str, path: &str) -> anyhow::Result<Answer> {
        Caller::new(self.activator.http).get(&format!("{name}.{NAMESPACE}"), path).await
    }

    async fn until(&self, name: &str, is_so: impl Fn(&Function) -> bool) -> anyhow::Result<()> {
        let seen = |function: Option<&Function>| function.is_some_and(&is_so);
        wait::object(&self.hollow.functions(), name, PATIENCE, seen).await.map(drop)
    }

    /// Applies it and waits until its newest revision has answered, or has never been called.
    async fn apply(&self, name: &str, spec: Value) -> anyhow::Result<()> {
        let applied = self.hollow.apply_function(name, spec).await?;
        self.until(name, |function| {
            let status = function.status.clone().unwrap_or_default();
            let ready = condition(function, "Ready") == Some("True");
            let proven =
                status.latest_ready.is_none() || status.latest_ready == status.latest_created;
            ready && proven && status.observed_generation == applied.metadata.generation
        })
        .await
    }

    /// The caller and the status hear the reason and these words.
    async fn refused(&self, name: &str, reason: &str, words: &str) -> anyhow::Result<()> {
        let answer = self.get(name, "/").await?;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.took < PROMPT, "the caller waited {:?}", answer.took);
        let problem = answer.problem()?;
        assert_eq!(problem["reason"], reason, "{problem}");
        assert!(problem["detail"].as_str().unwrap_or_default().contains(words), "{problem}");
        self.until(name, |function| {
            find_condition(function, "Ready").is_some_and(|ready| {
                ready.status == "False" && ready.reason == reason && ready.message.contains(words)
            })
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the programs of a control plane: cargo xtask test"]
async fn code_runs_changes_and_says_what_is_wrong_with_it() {
    let programs = Programs::from_environment().unwrap();
    let hollow = Hollow::start(programs).await.unwrap();
    let _controller = hollow.start_controller().await.unwrap();
    let activator = hollow.start_activator().await.unwrap();
    let node = Node::start(&hollow, code::workload(&hollow).unwrap());
    let stage = Stage { hollow, activator, node };
    rules(&stage).await.unwrap();
    tell(&stage).await.unwrap();
    leave_nothing(&stage).await.unwrap();
}

/// What the API server itself says to each fixture, without keeping any.
async fn rules(stage: &Stage) -> anyhow::Result<()> {
    let refused: Vec<Value> =
        serde_saphyr::from_str(include_str!("../../../crds/tests/fixtures/refused.yaml"))?;
    let accepted: Vec<Value> =
        serde_saphyr::from_str(include_str!("../../../crds/tests/fixtures/accepted.yaml"))?;
    assert!(refused.len() >= 40 && accepted.len() >= 15);
    let cases = refused.iter().map(|case| (&case["object"], case["message"].as_str()));
    for (object, message) in cases.chain(accepted.iter().map(|object| (object, None))) {
        let kind = object["kind"].as_str().expect("a fixture has a kind");
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("rouse.dev", "v1alpha1", kind));
        let client = stage.hollow.client.clone();
        let api: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &kind);
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let said = api.create(&params, &serde_json::from_value(object.clone())?).await;
        match (said, message) {
            (Ok(_), None) => {}
            (Err(kube::Error::Api(said)), Some(message)) if said.message.contains(message) => {}
            (said, message) => panic!("{object}: {said:?} instead of {message:?}"),
        }
    }
    Ok(())
}

async fn tell(stage: &Stage) -> anyhow::Result<()> {
    let none = json!([]);
    stage.apply("app", spec(&files("first"), &none)).await?;
    let answer = stage.get("app", "/file/app.txt").await?;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"first"[..]));
    let timing = answer.header("server-timing").unwrap_or_default();
    assert!(timing.contains("rouse-listen"), "{timing}");
    stage.until("app", |f| f.status.as_ref().is_some_and(|s| s.latest_ready.is_some())).await?;
    stage.apply("app", spec(&files("second"), &none)).await?;
    assert_eq!(&stage.get("app", "/file/app.txt").await?.body[..], b"second");
    // Asleep, so that the code has to come once more.
    stage.until("app", |f| f.status.as_ref().is_some_and(|s| s.desired_replicas == 0)).await?;
    assert_eq!(&stage.get("app", "/file/app.txt").await?.body[..], b"second");
    stage.apply("app", spec(&files("first"), &none)).await?;
    assert_eq!(&stage.get("app", "/file/app.txt").await?.body[..], b"first");

    let bad = json!({"archive": {"inline": "bm90IGFuIGFyY2hpdmU="}});
    stage.apply("kind", spec(&bad, &none)).await?;
    stage.refused("kind", "CodeRefused", "no zip, no tar in gzip").await?;
    let exits = json!([{"name": "HELLO_EXIT_CODE", "value": "3"}]);
    stage.apply("exits", spec(&files("x"), &exits)).await?;
    stage.refused("exits", "InitFailed", "as HELLO_EXIT_CODE says").await?;

    stage.hollow.apply_function("app", spec(&files("first"), &exits)).await?;
    stage
        .until("app", |f| find_condition(f, "Ready").is_some_and(|c| c.reason == "InitFailed"))
        .await?;
    assert_eq!(&stage.get("app", "/file/app.txt").await?.body[..], b"first", "the old one serves");
    Ok(())
}

/// However a pod ends, its processes end with it: it is scaled away, or killed.
async fn leave_nothing(stage: &Stage) -> anyhow::Result<()> {
    let value = format!("of the test {}", std::process::id());
    let mark = format!("HELLO_MARK={value}");
    let env = json!([{"name": "HELLO_MARK", "value": value}]);
    let running = async || {
        assert_eq!(stage.get("marked", "/").await?.status, 200);
        let all = process::all_with_variable(&mark)?;
        assert_eq!(all.len(), 2, "the shim and what it runs: {all:?}");
        anyhow::Ok(all)
    };
    stage.apply("marked", spec(&files("x"), &env)).await?;
    running().await?;
    stage.hollow.asleep("marked").await?;
    assert!(process::all_with_variable(&mark)?.is_empty());

    let former = running().await?;
    for pod in stage.node.pods("marked") {
        stage.node.crash(&pod);
    }
    let mut looks = interval(Duration::from_millis(10));
    let gone = async {
        while process::all_with_variable(&mark)?.iter().any(|pid| former.contains(pid)) {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, gone).await.context("a process outlived its container")?
}
