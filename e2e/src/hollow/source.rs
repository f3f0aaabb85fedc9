//! `rouse source` for the Functions' namespace: the release binary with an account's rights, as the
//! controller and a kubelet would have it run.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use rouse_core::function::names::{LABEL_MANAGED_BY, MANAGED_BY};
use rouse_core::resident::{DOORS_PORT, LABEL_COMPONENT, Resident};
use serde_json::json;
use tokio::net::TcpListener;

use super::process::{Figures, Process};
use super::{Hollow, NAMESPACE};

/// Name of the pod, its account and its rights.
const NAME: &str = Resident::Source.name();
/// How long its token lasts: longer than any run.
const TOKEN_SECONDS: u32 = 6 * 3600;
/// Number of its address in the run's block, and its ports.
const ADDRESS: u8 = 251;
const DOORS: u16 = 8083;
const ADMIN: u16 = 9090;

/// The process, killed with this.
#[derive(Debug)]
pub struct Source {
    program: PathBuf,
    arguments: Vec<String>,
    kubeconfig: PathBuf,
    folder: PathBuf,
    process: Option<Process>,
}

impl Source {
    /// What it takes to run it, with Functions called at `activator`. It does not run yet.
    pub async fn prepare(hollow: &Hollow, activator: SocketAddr) -> anyhow::Result<Self> {
        let kubeconfig = hollow.folder().join("source.kubeconfig");
        std::fs::write(&kubeconfig, hollow.control_plane.kubeconfig_of(&token(hollow).await?))?;
        let address = hollow.ground.block.own(ADDRESS);
        make_pod(hollow, address).await?;
        // Loopback is one address for all runs of this machine.
        let letters = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let arguments = vec![
            "source".to_owned(),
            format!("--namespace={NAMESPACE}"),
            format!("--activator-host={activator}"),
            format!("--doors-addr={address}:{DOORS}"),
            format!("--admin-addr={address}:{ADMIN}"),
            format!("--letters-port={letters}"),
            format!("--secrets={}", secrets(hollow).display()),
            "--allow-address=127.0.0.0/8".to_owned(),
            "--log=text".to_owned(),
        ];
        let (program, folder) = (hollow.programs.rouse.clone(), hollow.folder().to_owned());
        Ok(Self { program, arguments, kubeconfig, folder, process: None })
    }

    /// Starts it, as after a crash where it ran before.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let environment = [("KUBECONFIG", self.kubeconfig.as_os_str())];
        let Self { program, arguments, folder, .. } = self;
        let started = Process::start("source", program, arguments, &environment, folder)?;
        self.process = Some(started);
        Ok(())
    }

    /// Asks it to end, which it does once all is noted that is done.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.end().await,
            None => Ok(()),
        }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// What the kernel counts of it.
    pub fn figures(&self) -> anyhow::Result<Figures> {
        self.process.as_ref().context("the source runs")?.figures()
    }

    /// Fails, with the end of its log, if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::check)
    }
}

/// Puts a key of a Secret where the source finds it, as a kubelet does.
pub fn write_secret(hollow: &Hollow, name: &str, key: &str, value: &str) -> anyhow::Result<()> {
    let folder = secrets(hollow).join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join(key), value)?)
}

fn secrets(hollow: &Hollow) -> PathBuf {
    hollow.folder().join("secrets")
}

/// Says where the source takes events, as a kubelet does.
async fn make_pod(hollow: &Hollow, address: Ipv4Addr) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(hollow.client.clone(), NAMESPACE);
    let pod = json!({
        "metadata": {"name": NAME, "labels": {
            LABEL_COMPONENT: Resident::Source.component(), LABEL_MANAGED_BY: MANAGED_BY,
        }},
        "spec": {"nodeName": "hollow", "serviceAccountName": NAME, "containers": [{
            "name": Resident::Source.component(), "image": "rouse",
            "ports": [{"name": DOORS_PORT, "containerPort": DOORS}],
        }]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let status = json!({"status": {"phase": "Running", "podIP": address.to_string()}});
    pods.patch_status(NAME, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// A token of an account that may do what the controller would let it.
async fn token(hollow: &Hollow) -> anyhow::Result<String> {
    let params = PatchParams::apply("hollow").force();
    let accounts: Api<ServiceAccount> = Api::namespaced(hollow.client.clone(), NAMESPACE);
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME},
    });
    accounts.patch(NAME, &params, &Patch::Apply(account)).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(hollow.client.clone(), NAMESPACE);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": NAME},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME,
        },
        "subjects": [
            {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE},
        ],
    });
    bindings.patch(NAME, &params, &Patch::Apply(binding)).await?;
    let wanted: TokenRequest = serde_json::from_value(json!({
        "spec": {"audiences": [], "expirationSeconds": TOKEN_SECONDS},
    }))?;
    let made = accounts.create_token_request(NAME, &PostParams::default(), &wanted).await?;
    made.status.and_then(|status| status.token).context("no token was made")
}
