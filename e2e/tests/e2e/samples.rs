//! The samples as they stand in `manifests/samples`, on the cluster and in `rouse dev`: they answer alike
//! in both. Those of brokers and databases wait for servers, see `flow.rs`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper::Request;
use hyper::header::HOST;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use rouse_e2e::hollow::process::bound_command;
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope};
use serde_json::Value;
use sha2::Sha256;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Samples that need nothing but Rouse.
const SAMPLES: [&str; 7] = [
    include_str!("../../../manifests/samples/hello.yaml"),
    include_str!("../../../manifests/samples/hello-bash.yaml"),
    include_str!("../../../manifests/samples/hello-node.yaml"),
    include_str!("../../../manifests/samples/hello-python.yaml"),
    include_str!("../../../manifests/samples/schedule.yaml"),
    include_str!("../../../manifests/samples/webhook.yaml"),
    include_str!("../../../manifests/samples/websocket.yaml"),
];
/// Functions that are called with a GET.
const CALLED: [&str; 6] = ["hello", "hello-bash", "hello-node", "hello-python", "ticks", "echo"];
/// What runs here instead of an image.
const COMMAND: &str = "rouse.dev/dev-command";
const HOOKS: &str = "hooks.demo.example.com";
const SECRET: &str = "change-me";
/// A minute until the tick, and a cold start on a busy machine.
const TICK: Duration = Duration::from_mins(2);

/// Where the samples run: the cluster, or `rouse dev`.
struct Place {
    caller: Caller,
    address: SocketAddr,
    /// Where a Trigger's hosts are called.
    public: SocketAddr,
    /// What comes after a Function's name in its host.
    suffix: String,
    /// What the command line asks, and about which namespace.
    kubeconfig: PathBuf,
    namespace: String,
}

impl Place {
    async fn get(&self, name: &str) -> anyhow::Result<Answer> {
        let mut tries = interval(Duration::from_millis(100));
        let asking = async {
            loop {
                tries.tick().await;
                // It does not listen yet, or does not know the Function.
                if let Ok(answer) = self.caller.get(&format!("{name}.{}", self.suffix), "/").await
                    && answer.status == 200
                {
                    return answer;
                }
            }
        };
        timeout(PATIENCE, asking).await.with_context(|| format!("{name} does not answer"))
    }

    /// What comes back through a WebSocket.
    async fn say(&self, text: &str) -> anyhow::Result<String> {
        let request = format!("ws://echo.{}/", self.suffix).into_client_request()?;
        let stream = TcpStream::connect(self.address).await?;
        let (mut socket, _) = timeout(PATIENCE, client_async(request, stream)).await??;
        socket.send(Message::text(text)).await?;
        let back = timeout(PATIENCE, socket.next()).await?.context("it was closed")??;
        socket.close(None).await?;
        Ok(back.into_text()?.to_string())
    }

    /// Sends a delivery as GitHub does, until the door is open.
    async fn deliver(&self, id: &str, signature: &str, body: &'static str) -> anyhow::Result<u16> {
        let mut tries = interval(Duration::from_millis(100));
        let caller = Caller::new(self.public);
        let delivering = async {
            loop {
                tries.tick().await;
                let request = Request::post(format!("http://{}/github", self.public))
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

    /// Waits until a Function has printed something.
    async fn printed(&self, name: &str, wanted: &str, patience: Duration) -> anyhow::Result<()> {
        let mut looks = interval(Duration::from_millis(250));
        let program =
            std::env::var_os("ROUSE_E2E_PROGRAM").context("`cargo xtask test` names it")?;
        let mut logs = Command::new(program);
        logs.env("KUBECONFIG", &self.kubeconfig).args(["logs", name, "-n", &self.namespace]);
        let mut last = String::new();
        let looking = async {
            loop {
                looks.tick().await;
                let said = logs.output().await?;
                last = String::from_utf8_lossy(&said.stdout).into_owned();
                if last.contains(wanted) {
                    return anyhow::Ok(());
                }
                last += &String::from_utf8_lossy(&said.stderr);
            }
        };
        let looked = timeout(patience, looking).await;
        looked.with_context(|| format!("{name} did not print `{wanted}`, but: {last}"))?
    }
}

/// All objects of the samples, in a namespace of the cluster.
async fn apply(scope: &Scope) -> anyhow::Result<()> {
    for text in SAMPLES {
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document)?;
            let text = |name: &str| object[name].as_str().context("an object has a kind");
            let (group, version) = text("apiVersion")?.split_once('/').unwrap_or(("", "v1"));
            let kind = GroupVersionKind::gvk(group, version, text("kind")?);
            let name = object["metadata"]["name"].as_str().context("an object has a name")?;
            let resource = ApiResource::from_gvk(&kind);
            let client = scope.cluster.client.clone();
            let api: Api<DynamicObject> = Api::namespaced_with(client, &scope.namespace, &resource);
            let params = PatchParams::apply("e2e").force();
            api.patch(name, &params, &Patch::Apply(&object)).await?;
        }
    }
    Ok(())
}

/// `rouse dev` with the samples; ends with this value.
struct Dev {
    _child: Child,
    _folder: TempDir,
    place: Place,
}

impl Dev {
    fn start(scope: &Scope) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let rouse = PathBuf::from(scope.program()?.get_program());
        // The images were built of what is beside it.
        let hello = rouse.with_file_name("hello");
        ensure!(hello.exists(), "there is no {}", hello.display());
        let annotation = format!(
            "  name: hello\n  annotations: {{{COMMAND}: '[\"{}\"]'}}\nspec:\n  image:",
            hello.display()
        );
        for (number, text) in SAMPLES.iter().enumerate() {
            let text = text.replace("  name: hello\nspec:\n  image:", &annotation);
            std::fs::write(folder.path().join(format!("{number}.yaml")), text)?;
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = bound_command(&rouse)
            .arg("dev")
            .arg(folder.path())
            .args(["--port", &free.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting `rouse dev`")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free));
        let place = Place {
            caller: Caller::new(address),
            address,
            public: address,
            suffix: "default.localhost".to_owned(),
            kubeconfig: folder.path().join(".rouse/kubeconfig"),
            namespace: "default".to_owned(),
        };
        Ok(Self { _child: child, _folder: folder, place })
    }
}

fn signature(body: &str) -> anyhow::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    mac.update(body.as_bytes());
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

/// What a place answers to everything that can be asked of it.
async fn answers(place: &Place) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for name in CALLED {
        let answer = place.get(name).await?;
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(&answer.body);
        // The sample image says in which pod it runs.
        let body = if name == "hello" { "".into() } else { body };
        all.insert(name.to_owned(), format!("{} {kind} {body}", answer.status));
    }
    all.insert("a WebSocket".to_owned(), place.say("is anybody there?").await?);
    let body = r#"{"action":"opened"}"#;
    let right = place.deliver("1", &signature(body)?, body).await?;
    let again = place.deliver("1", &signature(body)?, body).await?;
    let wrong = place.deliver("2", "sha256=00", body).await?;
    all.insert("deliveries".to_owned(), format!("{right} {again} {wrong}"));
    place.printed("issues", "an issue was opened", PATIENCE).await?;
    place.printed("ticks", "tick ", TICK).await?;
    Ok(all)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn samples_answer_alike_on_the_cluster_and_in_rouse_dev() {
    Scope::run("samples", async |scope| {
        let dev = Dev::start(&scope)?;
        apply(&scope).await?;
        let there = Place {
            caller: Caller::new(scope.cluster.activator),
            address: scope.cluster.activator,
            public: scope.cluster.public,
            suffix: scope.namespace.clone(),
            kubeconfig: std::env::var_os("ROUSE_E2E_KUBECONFIG").context("a kubeconfig")?.into(),
            namespace: scope.namespace.clone(),
        };
        let (here, there) = tokio::try_join!(answers(&dev.place), answers(&there))?;
        assert_eq!(here, there);
        assert_eq!(there["hello-python"], "200 OK text/plain Hello from Python!\n");
        assert_eq!(there["a WebSocket"], "is anybody there?");
        assert_eq!(there["deliveries"], "200 200 401");
        Ok(())
    })
    .await;
}
