//! A control plane without nodes: etcd, an API server, the controllers of Deployments and
//! `ReplicaSet`s, and Rouse's own release binary, all on loopback addresses and in a folder of the
//! run's own. A [`Node`](node::Node) stands in for scheduler and kubelet: its pods are tasks of this
//! process. All of it ends with the value that started it, also when the run is killed.
//!
//! It must not touch any cluster, address or folder that it did not make itself.

pub mod activator;
pub mod code;
mod control_plane;
pub mod counting;
mod credentials;
mod install;
pub mod metrics;
pub mod minio;
pub mod nats;
pub mod node;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod source;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use rouse_core::function::names::LABEL_FUNCTION;
use rouse_crds::v1alpha1::{Function, Trigger};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};

use self::activator::{Activator, Controller};
use self::control_plane::ControlPlane;
use self::programs::Programs;
use crate::scope::condition;
use crate::wait;

/// Namespace of the Functions.
pub const NAMESPACE: &str = "bench";
/// Suffix of the hosts that Triggers of [`NAMESPACE`] may claim.
pub const HOST_SUFFIX: &str = "bench.example";
/// How long each part may take to come up on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A control plane without nodes that runs as long as this value lives.
pub struct Hollow {
    /// A client with all rights.
    pub client: Client,
    /// The addresses that are this run's.
    pub block: Arc<Block>,
    programs: Programs,
    control_plane: ControlPlane,
    folder: Folder,
    activators: AtomicU16,
}

impl Hollow {
    /// Starts the control plane and installs Rouse's kinds, roles and policies.
    pub async fn start(programs: Programs) -> anyhow::Result<Self> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = Folder::make()?;
        let block = Arc::new(Block::claim().await?);
        let control_plane = ControlPlane::start(&programs, &folder.0, &block).await?;
        let client = control_plane.client().await?;
        install::install(&client).await.context("installing Rouse")?;
        let hollow =
            Self { client, block, programs, control_plane, folder, activators: AtomicU16::new(0) };
        hollow
            .apply::<Namespace>(&json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
            }))
            .await?;
        Ok(hollow)
    }

    /// Starts the controller and waits until it leads.
    pub async fn start_controller(&self) -> anyhow::Result<Controller> {
        Controller::start(self).await
    }

    /// Starts one more activator and waits until it is ready.
    pub async fn start_activator(&self) -> anyhow::Result<Activator> {
        self.start_activator_of(&self.programs.rouse).await
    }

    /// Starts one more activator whose program is `rouse`, and waits until it is ready.
    pub async fn start_activator_of(&self, rouse: &Path) -> anyhow::Result<Activator> {
        let number = self.activators.fetch_add(1, Ordering::Relaxed);
        Activator::start(self, rouse, number).await
    }

    /// The programs of the run.
    pub const fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The folder of the run, deleted in the end.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// The Functions.
    pub fn functions(&self) -> Api<Function> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The Triggers.
    pub fn triggers(&self) -> Api<Trigger> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Applies the Function `name` with this spec.
    pub async fn apply_function(&self, name: &str, spec: Value) -> anyhow::Result<Function> {
        self.apply(&custom("Function", name, &spec)).await
    }

    /// Applies the Trigger `name` with this spec.
    pub async fn apply_trigger(&self, name: &str, spec: Value) -> anyhow::Result<Trigger> {
        self.apply(&custom("Trigger", name, &spec)).await
    }

    /// Waits until `replicas` pods of the Function `name` answer.
    pub async fn serving(&self, name: &str, replicas: u32) -> anyhow::Result<Function> {
        let seen = wait::object(&self.functions(), name, PATIENCE, |function| {
            let status = function.and_then(|function| function.status.as_ref());
            status
                .is_some_and(|status| status.latest_ready.is_some() && status.replicas >= replicas)
        })
        .await?;
        seen.context("the Function is there")
    }

    /// Waits until the Function `name` is ready, which it may be without a pod.
    pub async fn known(&self, name: &str) -> anyhow::Result<Function> {
        let seen = wait::object(&self.functions(), name, PATIENCE, |function| {
            function.is_some_and(|function| condition(function, "Ready") == Some("True"))
        })
        .await?;
        seen.context("the Function is there")
    }

    /// Waits until the Function `name` has no pod.
    pub async fn asleep(&self, name: &str) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let selector = format!("{LABEL_FUNCTION}={name}");
        wait::list(&pods, &selector, PATIENCE, <[Pod]>::is_empty).await.map(drop)
    }

    /// The address of a pod of the Function `name`.
    pub async fn pod_ip(&self, name: &str) -> anyhow::Result<IpAddr> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let params = ListParams::default().labels(&format!("{LABEL_FUNCTION}={name}"));
        let pods = pods.list(&params).await?;
        let ip = pods.items.into_iter().find_map(|pod| pod.status?.pod_ip);
        Ok(ip.with_context(|| format!("{name} has a pod with an address"))?.parse()?)
    }

    async fn apply<K>(&self, object: &Value) -> anyhow::Result<K>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + ScopeOf,
    {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply("hollow").force();
        let applied = K::api(&self.client).patch(name, &params, &Patch::Apply(object)).await;
        applied.with_context(|| format!("applying {} {name}", K::kind(&())))
    }
}

/// Where the objects of a kind that this module applies live.
trait ScopeOf: Sized {
    fn api(client: &Client) -> Api<Self>;
}

impl ScopeOf for Namespace {
    fn api(client: &Client) -> Api<Self> {
        Api::all(client.clone())
    }
}

impl ScopeOf for Function {
    fn api(client: &Client) -> Api<Self> {
        Api::namespaced(client.clone(), NAMESPACE)
    }
}

impl ScopeOf for Trigger {
    fn api(client: &Client) -> Api<Self> {
        Api::namespaced(client.clone(), NAMESPACE)
    }
}

fn custom(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "rouse.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })
}

/// Waits until somebody listens at `address`.
async fn listens(address: SocketAddr, whose: &str) -> anyhow::Result<()> {
    let mut looks = interval(Duration::from_millis(20));
    let looking = async {
        while TcpStream::connect(address).await.is_err() {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, looking).await.with_context(|| format!("{whose} does not listen"))
}

/// A folder that is deleted with this value.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        // Sockets live in it, whose paths may have 107 bytes at most.
        let path = std::env::temp_dir().join(format!("rouse-hollow-{}", std::process::id()));
        std::fs::create_dir(&path)
            .with_context(|| format!("making the run's folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os(KEEP).is_none() {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }
}

/// Set to anything, it leaves the folder with its logs for whoever looks for the cause of a failure.
const KEEP: &str = "ROUSE_HOLLOW_KEEP";

/// Loopback addresses that no other run uses: `127.N.0.0/16`.
#[derive(Debug)]
pub struct Block {
    second: u8,
    /// Holds the block: who can listen here has it.
    _claim: TcpListener,
    next: AtomicU16,
}

/// The port whose owner has the block.
const CLAIM_PORT: u16 = 61_999;
/// Pods get addresses below this third number, activators above.
const OWN: u8 = 250;

impl Block {
    async fn claim() -> anyhow::Result<Self> {
        for second in 64..=127 {
            let address = SocketAddr::from((Ipv4Addr::new(127, second, OWN, 254), CLAIM_PORT));
            if let Ok(claim) = TcpListener::bind(address).await {
                return Ok(Self { second, _claim: claim, next: AtomicU16::new(0) });
            }
        }
        anyhow::bail!("no block of loopback addresses is free: 64 runs at once?")
    }

    /// An address for a pod. It comes again only after 62,500 others.
    pub fn pod(&self) -> Ipv4Addr {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % 62_500;
        let [high, low] = [next / 250, next % 250].map(|part| part.to_le_bytes()[0]);
        Ipv4Addr::new(127, self.second, high, low + 1)
    }

    /// The address of a part of the control plane or of an activator.
    pub const fn own(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, OWN, number)
    }
}
