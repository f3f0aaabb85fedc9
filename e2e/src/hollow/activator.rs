//! Rouse's own processes: the release binary, run as the chart runs it, with a pod object that says
//! what a kubelet would say of it, and tokens of the role's ServiceAccount.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rouse_core::function::runtime::HANDLER;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::metrics::Metrics;
use super::process::{Figures, Process};
use super::{HOST_SUFFIX, Hollow, NAMESPACE as FUNCTIONS, PATIENCE};
use crate::cluster::NAMESPACE;
use crate::http::Caller;

/// How often an activator is asked whether it is ready, and how long the answer may take.
const PROBE_EVERY: Duration = Duration::from_millis(200);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the tokens last: longer than any run.
const TOKEN_SECONDS: u32 = 6 * 3600;
/// Audience of the tokens by which activators and controllers know each other.
const PEER_AUDIENCE: &str = "rouse.dev/peer";
/// Activators that can run at once: so many have addresses.
const MOST_AT_ONCE: u16 = 200;
/// Ports of an activator, on an address of its own.
const HTTP: u16 = 8080;
const PUBLIC: u16 = 8081;
const PEER: u16 = 8082;
const ADMIN: u16 = 9090;

/// The controller.
#[derive(Debug)]
pub struct Controller {
    role: Role,
}

impl Controller {
    pub(super) async fn start(hollow: &Hollow) -> anyhow::Result<Self> {
        let address = hollow.ground.block.own(252);
        let pod = make_pod(hollow, "controller", "rouse-controller-0", address).await?;
        let mut command = Command::new(hollow, &hollow.programs.rouse, "controller", pod).await?;
        command.argument("--admin-addr", SocketAddr::from((address, ADMIN)));
        command.argument("--peer-port", PEER);
        if let Ok(hello) = hollow.programs.get("hello") {
            command.argument("--runtimes", runtimes(&hello));
        }
        let mut role = Role::start(command)?;
        let metrics = SocketAddr::from((address, ADMIN));
        role.wait_until(|| async {
            let text = Metrics::fetch(metrics).await?;
            anyhow::ensure!(text.sum("rouse_controller_leader", &[]) > 0.0, "it does not lead");
            Ok(())
        })
        .await?;
        Ok(Self { role })
    }

    /// Starts it again if it has ended, as a kubelet does: one that loses the lead ends.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        if self.role.process.check().is_err() {
            self.role.process = self.role.command.spawn()?;
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.role.process.signal(signal)
    }

    /// What the kernel counts of it.
    pub fn figures(&self) -> anyhow::Result<Figures> {
        self.role.process.figures()
    }
}

/// An activator.
#[derive(Debug)]
pub struct Activator {
    /// Where callers in the cluster reach it.
    pub http: SocketAddr,
    /// Where callers from outside do.
    pub public: SocketAddr,
    /// Where it shows its metrics.
    pub admin: SocketAddr,
    role: Role,
    probing: Probing,
}

/// Asks on until it is dropped.
#[derive(Debug)]
struct Probing(JoinHandle<()>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Activator {
    pub(super) async fn start(hollow: &Hollow, rouse: &Path, number: u16) -> anyhow::Result<Self> {
        let address = hollow.ground.block.own(u8::try_from(number % MOST_AT_ONCE + 1)?);
        let name = format!("rouse-activator-{number}");
        let pod = make_pod(hollow, "activator", &name, address).await?;
        let mut command = Command::new(hollow, rouse, "activator", pod).await?;
        let at = |port| SocketAddr::from((address, port));
        for (flag, port) in [
            ("--http-addr", HTTP),
            ("--public-addr", PUBLIC),
            ("--peer-addr", PEER),
            ("--admin-addr", ADMIN),
        ] {
            command.argument(flag, at(port));
        }
        let probing = Probing(tokio::spawn(probe(command.pod.clone(), at(ADMIN))));
        let role = Role::start(command)?;
        let (http, public, admin) = (at(HTTP), at(PUBLIC), at(ADMIN));
        let mut activator = Self { http, public, admin, role, probing };
        activator.ready().await?;
        Ok(activator)
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let admin = self.admin;
        self.role
            .wait_until(|| async move {
                anyhow::ensure!(is_ready(admin).await, "it does not say that it is ready");
                Ok(())
            })
            .await
    }

    /// Name of its pod.
    pub fn name(&self) -> &str {
        &self.role.command.pod.name
    }

    /// UID of its pod.
    pub fn uid(&self) -> &str {
        &self.role.command.pod.uid
    }

    /// What the kernel counts of it.
    pub fn figures(&self) -> anyhow::Result<Figures> {
        self.role.process.figures()
    }

    /// What it counts itself.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        Metrics::fetch(self.admin).await
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.role.process.check()
    }

    /// Sends it a signal: `STOP` freezes it, `CONT` lets it go on.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.role.process.signal(signal)
    }

    /// Kills it as a node's failure would, and says in its pod's status that its container ended.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.role.process.kill().await?;
        self.role.command.pod.say(&json!({"terminated": {"exitCode": 137}}), false).await
    }

    /// Starts it again in the same pod after it was killed, as a kubelet does. It need not be ready
    /// yet.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.role.process = self.role.command.spawn()?;
        self.role.command.pod.say(&json!({"running": {}}), false).await
    }

    /// Takes it away as a Deployment does: its pod is told to go, then it is asked to end.
    pub async fn retire(self) -> anyhow::Result<()> {
        let Self { role, probing, .. } = self;
        let pod = &role.command.pod;
        pod.api.delete(&pod.name, &DeleteParams::default()).await?;
        role.process.end().await?;
        drop(probing);
        let now = DeleteParams::default().grace_period(0);
        pod.api.delete(&pod.name, &now).await?;
        Ok(())
    }
}

/// A running role.
#[derive(Debug)]
struct Role {
    command: Command,
    process: Process,
}

impl Role {
    fn start(command: Command) -> anyhow::Result<Self> {
        Ok(Self { process: command.spawn()?, command })
    }

    async fn wait_until<F: Future<Output = anyhow::Result<()>>>(
        &mut self,
        ask: impl Fn() -> F,
    ) -> anyhow::Result<()> {
        let mut pauses = interval(PROBE_EVERY / 4);
        let mut last = None;
        let asking = async {
            while let Err(error) = ask().await {
                self.process.check()?;
                last = Some(error);
                pauses.tick().await;
            }
            anyhow::Ok(())
        };
        if let Ok(asked) = timeout(PATIENCE, asking).await {
            return asked;
        }
        let (name, tail) = (&self.command.pod.name, self.process.tail());
        anyhow::bail!("{name} does not serve ({last:?}):\n{tail}")
    }
}

/// How to start a role.
#[derive(Debug)]
struct Command {
    program: PathBuf,
    arguments: Vec<String>,
    kubeconfig: PathBuf,
    folder: PathBuf,
    pod: PodObject,
}

impl Command {
    async fn new(
        hollow: &Hollow,
        program: &Path,
        role: &str,
        pod: PodObject,
    ) -> anyhow::Result<Self> {
        let folder = hollow.folder().to_owned();
        let account = format!("rouse-{role}");
        let token = pod.token(&hollow.client, &account, None).await?;
        let kubeconfig = folder.join(format!("{}.kubeconfig", pod.name));
        std::fs::write(&kubeconfig, hollow.control_plane.kubeconfig_of(&token))?;
        let peer_token = folder.join(format!("{}.token", pod.name));
        let token = pod.token(&hollow.client, &account, Some(PEER_AUDIENCE)).await?;
        std::fs::write(&peer_token, token)?;
        let mut command = Self {
            program: program.to_owned(),
            arguments: vec![role.to_owned()],
            kubeconfig,
            folder,
            pod,
        };
        command.argument("--namespace", NAMESPACE);
        command.argument("--host-suffix", format!("{FUNCTIONS}={HOST_SUFFIX}"));
        command.argument("--peer-token-file", peer_token.display());
        command.argument("--log", "text");
        Ok(command)
    }

    fn argument(&mut self, flag: &str, value: impl std::fmt::Display) {
        self.arguments.push(format!("{flag}={value}"));
    }

    fn spawn(&self) -> anyhow::Result<Process> {
        let environment = [
            ("KUBECONFIG", self.kubeconfig.as_os_str()),
            ("POD_NAME", OsStr::new(&self.pod.name)),
            ("POD_UID", OsStr::new(&self.pod.uid)),
            ("POD_IP", OsStr::new(&self.pod.ip)),
        ];
        let Self { program, arguments, folder, pod, .. } = self;
        Process::start(&pod.name, program, arguments, &environment, folder)
    }
}

/// The pod object of a role.
#[derive(Clone, Debug)]
struct PodObject {
    api: Api<Pod>,
    name: String,
    uid: String,
    ip: String,
    /// What its status says last.
    ready: Arc<AtomicBool>,
}

impl PodObject {
    /// A token of a ServiceAccount that is bound to this pod, as a kubelet asks for.
    async fn token(
        &self,
        client: &Client,
        account: &str,
        audience: Option<&str>,
    ) -> anyhow::Result<String> {
        let wanted: TokenRequest = serde_json::from_value(json!({
            "spec": {
                "audiences": audience.into_iter().collect::<Vec<_>>(),
                "expirationSeconds": TOKEN_SECONDS,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid,
                },
            },
        }))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
        let made = accounts.create_token_request(account, &PostParams::default(), &wanted).await;
        let made = made.with_context(|| format!("asking for a token of {account}"))?;
        made.status.and_then(|status| status.token).context("no token was made")
    }

    /// Says in its status what its container does.
    async fn say(&self, state: &Value, ready: bool) -> anyhow::Result<()> {
        let status = json!({"status": {
            "phase": "Running",
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "conditions": [condition(ready)],
            "containerStatuses": [{
                "name": "rouse", "image": "rouse", "imageID": "", "ready": ready,
                "restartCount": 0, "state": state,
            }],
        }});
        self.ready.store(ready, Ordering::Relaxed);
        let params = PatchParams::default();
        let patched = self.api.patch_status(&self.name, &params, &Patch::Merge(status)).await;
        patched.map(drop).with_context(|| format!("writing the status of {}", self.name))
    }
}

/// What code runs in: the sample program, and the languages of this machine.
fn runtimes(hello: &Path) -> Value {
    let of = |command: &[&str]| json!({"image": "hollow", "command": command});
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../operator/runtimes/shell/bootstrap");
    let mut shell = of(&["bash", HANDLER]);
    shell["commands"] = json!({"Lambda": ["bash", client]});
    json!({
        "hello": {"image": "hollow", "command": [hello]},
        "python3.11": of(&["python3", HANDLER]),
        "node18": of(&["node", HANDLER]),
        "shell": shell,
    })
}

fn condition(ready: bool) -> Value {
    json!({"type": "Ready", "status": if ready { "True" } else { "False" }})
}

async fn make_pod(
    hollow: &Hollow,
    role: &str,
    name: &str,
    address: Ipv4Addr,
) -> anyhow::Result<PodObject> {
    let api: Api<Pod> = Api::namespaced(hollow.client.clone(), NAMESPACE);
    let wanted = json!({
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/name": "rouse",
            "app.kubernetes.io/component": role,
            "app.kubernetes.io/part-of": "rouse",
        }},
        "spec": {
            "nodeName": "hollow",
            "serviceAccountName": format!("rouse-{role}"),
            // The namespace demands what the chart gives.
            "securityContext": {
                "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{"name": "rouse", "image": "rouse", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            }}],
        },
    });
    let made = api.create(&PostParams::default(), &serde_json::from_value(wanted)?).await;
    let made = made.with_context(|| format!("making the pod {name}"))?;
    let uid = made.metadata.uid.context("a pod has a UID")?;
    let ready = Arc::new(AtomicBool::new(false));
    let pod = PodObject { api, name: name.to_owned(), uid, ip: address.to_string(), ready };
    pod.say(&json!({"running": {}}), false).await?;
    Ok(pod)
}

/// Asks an activator whether it is ready, again and again, and says so in its pod's status.
async fn probe(pod: PodObject, admin: SocketAddr) {
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ready = is_ready(admin).await;
        if ready == pod.ready.load(Ordering::Relaxed) {
            continue;
        }
        // Conditions are merged by their type, other than by a plain merge.
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition(ready)]}}));
        if pod.api.patch_status(&pod.name, &PatchParams::default(), &patch).await.is_ok() {
            pod.ready.store(ready, Ordering::Relaxed);
        }
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let asked = timeout(PROBE_TIMEOUT, async { Caller::new(admin).get("admin", "/readyz").await });
    matches!(asked.await, Ok(Ok(answer)) if answer.status == 200)
}
