//! The parts of Kubernetes that a cluster without nodes needs: etcd, the API server, and the
//! controllers of Deployments and `ReplicaSet`s.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::{Instant, sleep};

use super::PATIENCE;
use super::credentials::{ADMIN_TOKEN, Credentials, kubeconfig};
use super::ground::Block;
use super::process::Process;
use super::programs::Programs;
use crate::process::free_port;

/// How often the API server is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// The running parts, and how to reach them.
pub struct ControlPlane {
    url: String,
    kubeconfig: PathBuf,
    credentials: Credentials,
    // Dropped in this order: who calls goes before who is called.
    _controllers: Process,
    _api_server: Process,
    _etcd: Process,
}

impl ControlPlane {
    /// Starts the parts below `folder` and waits until the API server is ready.
    pub async fn start(programs: &Programs, folder: &Path, block: &Block) -> anyhow::Result<Self> {
        let address = block.own(253);
        let credentials = Credentials::issue(folder, address)?;
        // The address is this run's own, so nobody takes the port in between.
        let port = free_port(address)?;
        let url = format!("https://{address}:{port}");
        let kubeconfig_path = folder.join("admin.kubeconfig");
        let text = kubeconfig(&url, &credentials.authority, ADMIN_TOKEN);
        std::fs::write(&kubeconfig_path, text)?;
        let mut etcd = start_etcd(programs, folder)?;
        let flags = api_server_flags(folder, &credentials, &address.to_string(), port);
        let mut api_server =
            Process::start("kube-apiserver", &programs.api_server, flags, &[], folder)?;
        let client = client(&kubeconfig_path).await?;
        let begun = Instant::now();
        while let Err(error) = client.request_text(ready_request()?).await {
            etcd.check()?;
            api_server.check()?;
            if begun.elapsed() > PATIENCE {
                bail!("the API server is not ready: {error}\n{}", api_server.tail());
            }
            sleep(ASK_EVERY).await;
        }
        let controllers = start_controllers(programs, folder, &kubeconfig_path)?;
        Ok(Self {
            url,
            kubeconfig: kubeconfig_path,
            credentials,
            _controllers: controllers,
            _api_server: api_server,
            _etcd: etcd,
        })
    }

    /// A client with all rights.
    pub async fn client(&self) -> anyhow::Result<Client> {
        client(&self.kubeconfig).await
    }

    /// A kubeconfig for whoever has `token`.
    pub fn kubeconfig_of(&self, token: &str) -> String {
        kubeconfig(&self.url, &self.credentials.authority, token)
    }
}

fn ready_request() -> anyhow::Result<hyper::Request<Vec<u8>>> {
    Ok(hyper::Request::get("/readyz").body(Vec::new())?)
}

async fn client(path: &Path) -> anyhow::Result<Client> {
    let read = Kubeconfig::read_from(path)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn start_etcd(programs: &Programs, folder: &Path) -> anyhow::Result<Process> {
    let socket = |name: &str| format!("unix://{}", folder.join(name).display());
    let flags = [
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={}", socket("etcd.sock")),
        format!("--advertise-client-urls={}", socket("etcd.sock")),
        format!("--listen-peer-urls={}", socket("peer.sock")),
        // A single member never uses it, but it has to name a host.
        "--initial-advertise-peer-urls=http://localhost:2380".to_owned(),
        "--unsafe-no-fsync".to_owned(),
    ];
    Process::start("etcd", &programs.etcd, flags, &[], folder)
}

fn api_server_flags(
    folder: &Path,
    credentials: &Credentials,
    address: &str,
    port: u16,
) -> Vec<String> {
    vec![
        format!("--etcd-servers=unix://{}", folder.join("etcd.sock").display()),
        format!("--bind-address={address}"),
        format!("--secure-port={port}"),
        // Loopback addresses can't be endpoints, and nobody needs the Service.
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // Nobody makes the account `default` that pods would get.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--token-auth-file={}", credentials.tokens.display()),
        format!("--tls-cert-file={}", credentials.certificate.display()),
        format!("--tls-private-key-file={}", credentials.key.display()),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", credentials.accounts_public.display()),
        format!("--service-account-signing-key-file={}", credentials.accounts_key.display()),
    ]
}

fn start_controllers(
    programs: &Programs,
    folder: &Path,
    kubeconfig: &Path,
) -> anyhow::Result<Process> {
    let flags = [
        format!("--kubeconfig={}", kubeconfig.display()),
        "--controllers=deployment-controller,replicaset-controller".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        // The defaults, 20 requests a second, would measure themselves.
        "--kube-api-qps=2000".to_owned(),
        "--kube-api-burst=4000".to_owned(),
    ];
    Process::start("controllers", &programs.controller_manager, flags, &[], folder)
}
