//! The samples as they stand in `manifests/samples`, on the cluster and in `rouse dev`: they answer alike
//! in both. Those of brokers and databases wait for servers, see `flow.rs`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::Request;
use hyper::header::HOST;
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Said, Scope};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::dev::{Dev, apply, samples};
use crate::doors::signature;

/// The folders of samples that need no server.
const FOLDERS: [&str; 2] = [".", "with-packages"];
/// Functions that are called with a GET.
const CALLED: [&str; 7] =
    ["hello", "hello-bash", "hello-lambda", "hello-node", "hello-python", "ticks", "echo"];
const HOOKS: &str = "hooks.demo.example.com";
const SECRET: &str = "change-me";
/// A minute until the tick, and a cold start on a busy machine.
const TICK: Duration = Duration::from_mins(2);

async fn get(scope: &Scope, name: &str) -> anyhow::Result<Answer> {
    let caller = Caller::new(scope.cluster.activator);
    let mut tries = interval(Duration::from_millis(100));
    let mut last = None;
    let asking = async {
        loop {
            tries.tick().await;
            // It may not know the Function yet.
            let answer = caller.get(&scope.host(name), "/").await?;
            if answer.status == 200 {
                return anyhow::Ok(answer);
            }
            last = Some(answer);
        }
    };
    let asked = timeout(PATIENCE, asking).await;
    asked.with_context(|| format!("{name} does not answer, but: {last:?}"))?
}

/// What comes back through a WebSocket.
async fn say(scope: &Scope, text: &str) -> anyhow::Result<String> {
    let request = format!("ws://{}/", scope.host("echo")).into_client_request()?;
    let stream = TcpStream::connect(scope.cluster.activator).await?;
    let (mut socket, _) = timeout(PATIENCE, client_async(request, stream)).await??;
    socket.send(Message::text(text)).await?;
    let back = timeout(PATIENCE, socket.next()).await?.context("it was closed")??;
    socket.close(None).await?;
    Ok(back.into_text()?.to_string())
}

/// Sends a delivery as GitHub does, until the door is open.
async fn deliver(
    scope: &Scope,
    id: &str,
    signature: &str,
    body: &'static str,
) -> anyhow::Result<u16> {
    let public = scope.cluster.public;
    let mut tries = interval(Duration::from_millis(100));
    let caller = Caller::new(public);
    let delivering = async {
        loop {
            tries.tick().await;
            let request = Request::post(format!("http://{public}/github"))
                .header(HOST, HOOKS)
                .header("x-github-event", "issues")
                .header("x-github-delivery", id)
                .header("x-hub-signature-256", signature)
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from_static(body.as_bytes())))?;
            let answer = caller.send(request).await?;
            if ![404, 503].contains(&answer.status.as_u16()) {
                return anyhow::Ok(answer.status.as_u16());
            }
        }
    };
    timeout(PATIENCE, delivering).await.context("nobody takes a delivery")?
}

/// The samples in a folder of `rouse dev`.
fn copied() -> anyhow::Result<TempDir> {
    let copy = tempfile::tempdir()?;
    for folder in FOLDERS {
        for entry in std::fs::read_dir(samples().join(folder))? {
            let path = entry?.path();
            if path.is_file() {
                std::fs::copy(&path, copy.path().join(path.file_name().context("a name")?))?;
            }
        }
    }
    // It leaves out what was not copied here.
    std::fs::remove_file(copy.path().join(".rouseignore"))?;
    Ok(copy)
}

/// A `PATH` on which Python is one that has AWS's client, as after `pip install awslambdaric`.
fn path_with_packages(folder: &Path) -> anyhow::Result<String> {
    let contracts = std::env::var("ROUSE_CONTRACTS_PYTHON");
    let contracts =
        contracts.context("ROUSE_CONTRACTS_PYTHON: `cargo xtask test` says where packages are")?;
    let asked = Said::of(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]));
    let python = asked?.ends_with(0)?.out;
    let text = format!("#!/bin/sh\nPYTHONPATH={contracts}/site exec {} \"$@\"\n", python.trim());
    let script = folder.join("python3");
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default()))
}

/// What is answered to everything that can be asked.
async fn answers(scope: &Scope) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for name in CALLED {
        let answer = get(scope, name).await?;
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(&answer.body);
        all.insert(name.to_owned(), format!("{} {kind} {body}", answer.status));
    }
    all.insert("a WebSocket".to_owned(), say(scope, "is anybody there?").await?);
    let body = r#"{"action":"opened"}"#;
    let right = deliver(scope, "1", &signature(SECRET, body)?, body).await?;
    let again = deliver(scope, "1", &signature(SECRET, body)?, body).await?;
    let wrong = deliver(scope, "2", "sha256=00", body).await?;
    all.insert("deliveries".to_owned(), format!("{right} {again} {wrong}"));
    scope.printed("issues", "an issue was opened", PATIENCE).await?;
    scope.printed("ticks", "tick ", TICK).await?;
    Ok(all)
}

/// What the samples answer in `rouse dev`.
async fn in_rouse_dev() -> anyhow::Result<BTreeMap<String, String>> {
    let programs = tempfile::tempdir()?;
    let path = path_with_packages(programs.path())?;
    let dev = Dev::start(copied()?, &[("PATH", path.as_ref())]).await?;
    answers(&dev.scope).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn samples_answer_alike_on_the_cluster_and_in_rouse_dev() {
    Scope::run("samples", async |scope| {
        for folder in FOLDERS {
            apply(&scope, &samples().join(folder)).await?;
        }
        let (here, there) = tokio::try_join!(in_rouse_dev(), answers(&scope))?;
        assert_eq!(here, there);
        assert_eq!(there["hello"], "200 OK  Hello, world!\n");
        assert_eq!(there["hello-lambda"], "200 OK text/plain Hello, world!\n");
        assert_eq!(there["hello-python"], "200 OK text/plain Hello from Python!\n");
        assert_eq!(there["a WebSocket"], "is anybody there?");
        assert_eq!(there["deliveries"], "200 200 401");
        Ok(())
    })
    .await;
}
