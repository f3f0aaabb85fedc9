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
pub mod ground;
mod install;
pub mod metrics;
pub mod minio;
pub mod nats;
pub mod node;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod source;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use rouse_core::function::names::LABEL_FUNCTION;
use rouse_crds::v1alpha1::{Function, Trigger};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use self::activator::{Activator, Controller};
use self::control_plane::ControlPlane;
use self::ground::Ground;
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
    programs: Programs,
    control_plane: ControlPlane,
    /// What it stands on.
    pub ground: Ground,
    activators: AtomicU16,
}

impl Hollow {
    /// Starts the control plane and installs Rouse's kinds, roles and policies.
    pub async fn start(programs: Programs) -> anyhow::Result<Self> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let ground = Ground::claim(programs.folder().to_owned()).await?;
        let control_plane = ControlPlane::start(&programs, ground.folder(), &ground.block).await?;
        let client = control_plane.client().await?;
        install::install(&client).await.context("installing Rouse")?;
        let hollow =
            Self { client, programs, control_plane, ground, activators: AtomicU16::new(0) };
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
        self.ground.folder()
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
