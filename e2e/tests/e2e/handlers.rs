//! Code that people have, deployed as they would: a hello and a handler with several files, vendored
//! dependencies, bytes for an answer and cookies, for each contract. What they answer is what counts;
//! the traps of the contracts are tested beside `rouse-shim`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use rouse_core::resident::Resident;
use rouse_crds::v1alpha1::Function;
use rouse_e2e::activators::is_ready;
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope};
use rouse_e2e::wait;
use serde_json::json;
use tokio::time::{interval, timeout};

use crate::flow::Objects;
use crate::sources::Nats;

/// The beginning of every picture.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Code as its user deploys it.
pub struct Code<'c> {
    /// Where it is, seen from `e2e`.
    pub folder: String,
    /// What `rouse deploy` is told beside that.
    pub more: Vec<&'c str>,
    /// What stands in the user's environment.
    pub variables: Vec<(&'c str, &'c str)>,
}

impl Code<'_> {
    /// A folder below `e2e/handlers`, by which all can be told.
    fn at(folder: &str) -> Self {
        Self { folder: format!("handlers/{folder}"), more: Vec::new(), variables: Vec::new() }
    }

    fn deploy(&self, scope: &Scope, name: &str) -> anyhow::Result<()> {
        scope.deploy(name, &self.folder, &self.more, &self.variables)
    }

    /// Deploys it; to a GET it says what is expected.
    pub async fn says(&self, scope: &Scope, path: &str, expected: &str) -> anyhow::Result<()> {
        self.deploy(scope, "hello")?;
        let answer = Caller::new(scope.cluster.activator).get(&scope.host("hello"), path).await?;
        ensure!(answer.status == 200 && answer.body == expected, "{answer:?}");
        Ok(())
    }

    /// Deploys it: twice the same archive comes of it, and the handler answers with a picture, gives and
    /// takes cookies, and takes bytes that are no text.
    pub async fn draws_labels(&self, scope: &Scope) -> anyhow::Result<()> {
        self.deploy(scope, "labels")?;
        let before = scope.function("labels", PATIENCE, |_| true).await?;
        self.deploy(scope, "labels")?;
        let after = scope.function("labels", PATIENCE, |_| true).await?;
        let generations = (before.metadata.generation, after.metadata.generation);
        ensure!(generations.0 == generations.1, "the same folder made another archive");

        let caller = Caller::new(scope.cluster.activator);
        let get = |cookie: &str| {
            let request =
                Request::get(format!("http://{}/label?text=parcel", scope.cluster.activator));
            let request = request.header(HOST, scope.host("labels")).header(COOKIE, cookie);
            request.body(Full::default())
        };
        let first = caller.send(get("other=1")?).await?;
        drawn(&first, "1")?;
        let second = caller.send(get("seen=1; other=1")?).await?;
        drawn(&second, "2")?;

        let bytes: Vec<u8> = (0..=255).collect();
        let request = Request::post(format!("http://{}/echo", scope.cluster.activator))
            .header(HOST, scope.host("labels"))
            .header(CONTENT_TYPE, "image/x-odd")
            .body(Full::new(Bytes::from(bytes.clone())))?;
        let echo = caller.send(request).await?;
        ensure!(echo.status == 200 && echo.body == bytes, "{echo:?}");
        ensure!(echo.header("content-type") == Some("image/x-odd"), "{echo:?}");
        Ok(())
    }
}

async fn hello(folder: &'static str, path: &'static str, expected: &'static str) {
    Scope::run(&folder.replace('/', "-"), async |scope| {
        Code::at(folder).says(&scope, path, expected).await
    })
    .await;
}

async fn labels(folder: &'static str) {
    Scope::run(&folder.replace('/', "-"), async |scope| {
        Code::at(folder).draws_labels(&scope).await
    })
    .await;
}

/// Whether an answer is a picture, with two cookies that say how many there were.
fn drawn(answer: &Answer, seen: &str) -> anyhow::Result<()> {
    ensure!(answer.status == 200 && answer.body.starts_with(PNG), "{answer:?}");
    ensure!(answer.header("content-type") == Some("image/png"), "{answer:?}");
    let cookies = answer.headers.get_all(SET_COOKIE).iter().filter_map(|it| it.to_str().ok());
    let cookies: BTreeSet<&str> = cookies.filter_map(|it| it.split(';').next()).collect();
    let expected = format!("seen={seen}");
    ensure!(cookies == BTreeSet::from([expected.as_str(), "shop=rouse"]), "{cookies:?}");
    Ok(())
}

macro_rules! hellos {
    ($($name:ident: $folder:literal $path:literal $said:literal;)*) => {$(
        #[tokio::test]
        #[ignore = "needs a cluster: cargo xtask test"]
        async fn $name() {
            hello($folder, $path, $said).await;
        }
    )*};
}

hellos! {
    hello_of_lambda_in_python: "hello/lambda-python" "/" "hello from Python";
    hello_of_lambda_in_node: "hello/lambda-node" "/" "hello from Node.js";
    hello_of_lambda_in_bash: "hello/lambda-shell" "/" "hello from Bash";
    hello_of_functions_in_python: "hello/functions-python" "/" "hello from Python";
    hello_of_functions_in_node: "hello/functions-node" "/" "hello from Node.js";
    hello_of_http: "hello/http-python" "/" "hello from Python";
    hello_of_azure: "hello/azure-python" "/api/hello" "hello from Python";
}

macro_rules! labels {
    ($($name:ident: $folder:literal;)*) => {$(
        #[tokio::test]
        #[ignore = "needs a cluster: cargo xtask test"]
        async fn $name() {
            labels($folder).await;
        }
    )*};
}

labels! {
    labels_of_lambda_in_python: "labels/lambda-python";
    labels_of_lambda_in_node: "labels/lambda-node";
    labels_of_functions_in_python: "labels/functions-python";
    labels_of_functions_in_node: "labels/functions-node";
    labels_of_http: "labels/http-node";
}

/// An event of an order, as its sender writes it.
async fn order(scope: &Scope, name: &str, data: &str) -> anyhow::Result<Answer> {
    let request = Request::post(format!("http://{}/", scope.cluster.activator))
        .header(HOST, scope.host(name))
        .header("ce-specversion", "1.0")
        .header("ce-id", "order-7")
        .header("ce-source", "/shop")
        .header("ce-type", "shop.ordered")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::copy_from_slice(data.as_bytes())))?;
    Caller::new(scope.cluster.activator).send(request).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn cloud_events_are_taken_and_a_label_is_drawn() {
    Scope::run("cloudevents", async |scope| {
        scope.deploy("hello", "handlers/hello/cloudevents-node", &[], &[])?;
        let answer = order(&scope, "hello", "{}").await?;
        ensure!(answer.status == 200 && answer.body == "took order-7", "{answer:?}");
        scope.deploy(
            "labels",
            "handlers/labels/cloudevents-python",
            &["--contract", "CloudEvents", "--handler", "server.py"],
            &[],
        )?;
        let answer = order(&scope, "labels", r#"{"label": "parcel"}"#).await?;
        ensure!(answer.status == 200 && answer.body.starts_with(PNG), "{answer:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_custom_handler_of_azure_draws_a_label() {
    Scope::run("azure", async |scope| {
        scope.deploy("labels", "handlers/labels/azure-node", &[], &[])?;
        let request = Request::get(format!("http://{}/api/label?text=x", scope.cluster.activator))
            .header(HOST, scope.host("labels"))
            .header(COOKIE, "seen=4")
            .body(Full::default())?;
        let answer = Caller::new(scope.cluster.activator).send(request).await?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(answer.header("content-type") == Some("image/svg+xml"), "{answer:?}");
        ensure!(
            answer.header("set-cookie").context("a cookie")?.starts_with("seen=5"),
            "{answer:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_an_app_of_azure_sends_to_a_queue_comes_back_to_it_and_the_clock_calls_it_too() {
    Scope::run("azure-app", async |scope| {
        let nats = Nats::start(&scope).await?;
        nats.keep("orders", "orders").await?;
        scope.deploy("shop", "handlers/orders/azure-node", &[], &[])?;
        scope.trigger_is("shop-take", "True", "Connected").await?;
        let request = Request::post(format!("http://{}/api/orders", scope.cluster.activator))
            .header(HOST, scope.host("shop"))
            .body(Full::new(Bytes::from_static(br#"{"orders": ["hat", "coat"]}"#)))?;
        let caller = Caller::new(scope.cluster.activator);
        let answer = caller.send(request).await?;
        ensure!(answer.status == 202, "{answer:?}");
        let mut looks = interval(Duration::from_millis(200));
        let mut last = serde_json::Value::Null;
        let all_done = async {
            loop {
                looks.tick().await;
                let seen = caller.get(&scope.host("shop"), "/api/seen").await?;
                last = serde_json::from_slice(&seen.body).unwrap_or_default();
                // A queue promises no order.
                let taken: BTreeSet<&str> = last["taken"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|it| it.as_str())
                    .collect();
                if taken == BTreeSet::from(["coat", "hat"]) && last["ticks"].as_u64() > Some(0) {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(PATIENCE, all_done).await.with_context(|| format!("it saw only {last}"))?
    })
    .await;
}

/// Code that does not fit into the object: a hello in Bash, and beside it bytes that nothing shortens.
fn large() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let answer = r#"{"statusCode": 200, "body": "hello from a bucket"}"#;
    let handler = format!("handler() {{ echo '{answer}'; }}\n");
    std::fs::write(folder.path().join("hello.sh"), handler)?;
    let mut dice = fastrand::Rng::with_seed(7);
    let noise = std::iter::repeat_with(|| dice.u8(..)).take(900 << 10);
    std::fs::write(folder.path().join("noise"), noise.collect::<Vec<_>>())?;
    Ok(folder)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn code_that_is_large_is_fetched_from_a_bucket() {
    Scope::run("bucket", async |scope| {
        let folder = large()?;
        let folder = folder.path().to_str().context("a path is text")?;
        let error = scope.deploy("hello", folder, &[], &[]).unwrap_err().to_string();
        ensure!(error.contains("--bucket"), "{error}");
        let (endpoint, keys) = {
            let objects = Objects::start(&scope).await?;
            let secret = ["--bucket", "s3://pictures/code"];
            let error = scope.deploy("hello", folder, &secret, &[]).unwrap_err().to_string();
            ensure!(error.contains("AWS_ACCESS_KEY_ID"), "{error}");
            objects.publish().await?
        };
        let bucket = ["--bucket", "s3://pictures/code", "--endpoint", &endpoint];
        scope.deploy("hello", folder, &bucket, &keys)?;
        let answer = Caller::new(scope.cluster.activator).get(&scope.host("hello"), "/").await?;
        ensure!(answer.status == 200 && answer.body == "hello from a bucket", "{answer:?}");
        Ok(())
    })
    .await;
}

/// Sends a request that has an id, of which the handler prints something.
async fn print(scope: &Scope, id: &str, text: &str) -> anyhow::Result<()> {
    let request = Request::get(format!("http://{}/?text={text}", scope.cluster.activator))
        .header(HOST, scope.host("labels"))
        .header("x-request-id", id);
    let request = request.body(Full::default())?;
    let answer = Caller::new(scope.cluster.activator).send(request).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// What `rouse logs` says of a request, once `wanted` is in it.
async fn printed(scope: &Scope, id: &str, wanted: &str) -> anyhow::Result<String> {
    let mut logs = scope.program()?;
    logs.args(["logs", "labels", "--request", id, "-n", &scope.namespace]);
    // The kubelet writes lines down a moment after they were printed.
    let mut looks = interval(Duration::from_millis(100));
    let mut last = String::new();
    let found = async {
        loop {
            looks.tick().await;
            let said = logs.output()?;
            last = String::from_utf8(said.stdout)?;
            if last.contains(wanted) {
                return anyhow::Ok(());
            }
            last += &String::from_utf8_lossy(&said.stderr);
        }
    };
    let found = timeout(PATIENCE, found).await;
    found.with_context(|| format!("the line is not found, but: {last}"))??;
    Ok(last)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_a_request_printed_is_found_by_its_id() {
    Scope::run("printed", async |scope| {
        scope.deploy("labels", "handlers/labels/lambda-node", &[], &[])?;
        print(&scope, "request-1", "one").await?;
        print(&scope, "request-2", "two").await?;
        let said = printed(&scope, "request-2", "label 1 for two").await?;
        ensure!(!said.contains("for one"), "{said}");
        Ok(())
    })
    .await;
}

/// The keeper of the namespace, once there is one that is ready, and is not `former`.
pub async fn keeper(scope: &Scope, former: Option<&str>) -> anyhow::Result<String> {
    let mut name = None;
    let selector = Resident::Keeper.selector();
    wait::list(&scope.api::<Pod>(), selector, PATIENCE, |pods| {
        let mut pods = pods.iter().filter(|pod| is_ready(pod));
        name = pods.find_map(|pod| pod.metadata.name.clone().filter(|it| Some(&**it) != former));
        name.is_some()
    })
    .await?;
    name.context("the keeper has a name")
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_a_request_printed_is_found_when_its_pod_is_gone_and_the_keeper_was_replaced() {
    Scope::run("kept", async |scope| {
        scope.deploy("labels", "handlers/labels/lambda-node", &[], &[])?;
        let first = keeper(&scope, None).await?;
        let pods = scope.api::<Pod>();

        // A pod that is deleted right after its answer.
        print(&scope, "request-1", "one").await?;
        for pod in scope.pods("labels", PATIENCE, |pods| !pods.is_empty()).await? {
            let name = pod.metadata.name.context("a pod has a name")?;
            pods.delete(&name, &DeleteParams::default()).await?;
            wait::object(&pods, &name, PATIENCE, |pod| pod.is_none()).await?;
        }
        printed(&scope, "request-1", "label 1 for one").await?;

        // One that is scaled away.
        print(&scope, "request-2", "two").await?;
        let soon = json!({"spec": {"scaling": {"idle": {"after": "1s"}, "stableWindow": "1s"}}});
        let functions = scope.api::<Function>();
        functions.patch("labels", &PatchParams::default(), &Patch::Merge(soon)).await?;
        scope.asleep("labels", PATIENCE).await?;
        let said = printed(&scope, "request-2", "for two").await?;
        ensure!(said.lines().count() == said.matches("request-2").count(), "{said}");
        ensure!(said.matches("for two").count() == 1, "told once: {said}");

        // The keeper goes in order, as when its node is drained: the next one has all.
        pods.delete(&first, &DeleteParams::default()).await?;
        keeper(&scope, Some(&first)).await?;
        printed(&scope, "request-1", "label 1 for one").await?;
        printed(&scope, "request-2", "for two").await?;
        Ok(())
    })
    .await;
}
