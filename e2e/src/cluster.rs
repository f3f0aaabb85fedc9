//! The cluster under test: the one that `ROUSE_E2E_KUBECONFIG` names, or the one in the memory of a
//! `rouse dev` of the test's own; never another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Service;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

/// Namespace that Rouse runs in.
pub const NAMESPACE: &str = "rouse-system";
/// Image of the sample Function, as `cargo xtask image` names it.
pub const HELLO_IMAGE: &str = "rouse.dev/hello:v0.1.0";
/// Image of a server of NATS that the tests talk to; it is in no release.
pub const NATS_IMAGE: &str = "rouse.dev/nats-server:v2.15.2";
/// Images of the client and the server that gRPC's own makers test with.
pub const GRPC_IMAGES: [&str; 2] =
    ["rouse.dev/grpc-interop-client:v1.84.0", "rouse.dev/grpc-interop-server:v1.84.0"];
/// Image of a server of PostgreSQL, in the same way as that of NATS.
pub const POSTGRES_IMAGE: &str = "rouse.dev/postgres:test";
/// Image of a server of S3, in the same way.
pub const MINIO_IMAGE: &str = "rouse.dev/minio:v0.0.0-20260212201848-7aac2a2c5b7c";
/// How long it may take from a pod's readiness until its Service leads to it.
const REACHED_WITHIN: Duration = Duration::from_secs(30);
const KUBECONFIG: &str = "ROUSE_E2E_KUBECONFIG";
const AUDIT_LOG: &str = "ROUSE_E2E_AUDIT_LOG";

/// A cluster with Rouse in it.
#[derive(Clone)]
pub struct Cluster {
    /// A client with all rights.
    pub client: Client,
    config: Config,
    /// Who asks by the command line names it.
    pub kubeconfig: PathBuf,
    /// Where callers in the cluster reach the activators.
    pub activator: SocketAddr,
    /// Where callers from outside do.
    pub public: SocketAddr,
}

impl Cluster {
    /// Connects to the cluster under test and finds its activators.
    pub async fn connect() -> anyhow::Result<Self> {
        let path = std::env::var_os(KUBECONFIG).with_context(|| {
            format!("{KUBECONFIG} must name a kubeconfig; `cargo xtask test` sets it")
        })?;
        let (client, config) = connect(Path::new(&path)).await?;
        let activator = service_address(&client, "rouse-activator").await?;
        let public = service_address(&client, "rouse-activator-public").await?;
        Ok(Self { client, config, kubeconfig: path.into(), activator, public })
    }

    /// Connects to a `rouse dev` that wrote this kubeconfig and listens at `address`.
    pub async fn of_dev(kubeconfig: PathBuf, address: SocketAddr) -> anyhow::Result<Self> {
        let (client, config) = connect(&kubeconfig).await?;
        Ok(Self { client, config, kubeconfig, activator: address, public: address })
    }

    /// A client that may do what the ServiceAccount `name` of Rouse may do.
    pub fn as_role(&self, name: &str) -> anyhow::Result<Client> {
        self.as_account(NAMESPACE, name)
    }

    /// A client that may do what the ServiceAccount `name` of `namespace` may do.
    pub fn as_account(&self, namespace: &str, name: &str) -> anyhow::Result<Client> {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:{name}"));
        config.auth_info.impersonate_groups = Some(vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".into(),
        ]);
        Ok(Client::try_from(config)?)
    }

    /// The file in which the API server writes what it was asked, if the cluster has one.
    pub fn audit_log() -> Option<PathBuf> {
        std::env::var_os(AUDIT_LOG).map(PathBuf::from)
    }
}

async fn connect(kubeconfig: &Path) -> anyhow::Result<(Client, Config)> {
    // The second test of a process finds the provider installed.
    drop(rustls::crypto::ring::default_provider().install_default());
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok((Client::try_from(config.clone())?, config))
}

async fn service_address(client: &Client, name: &str) -> anyhow::Result<SocketAddr> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let service = services
        .get(name)
        .await
        .with_context(|| format!("Rouse must be installed: reading the Service {name}"))?;
    let spec = service.spec.unwrap_or_default();
    let (Some(ip), Some(ports)) = (spec.cluster_ip, spec.ports) else {
        bail!("the Service {name} has no address");
    };
    let port = ports.first().map_or(80, |port| port.port);
    let address = SocketAddr::new(ip.parse()?, u16::try_from(port)?);
    reach(address).await.with_context(|| format!("reaching the Service {name}"))?;
    Ok(address)
}

/// Waits until somebody accepts connections there: a node learns of a Service's pods a moment
/// after they are ready.
async fn reach(address: SocketAddr) -> anyhow::Result<()> {
    let mut pauses = interval(Duration::from_millis(100));
    let reached = async {
        while TcpStream::connect(address).await.is_err() {
            pauses.tick().await;
        }
    };
    timeout(REACHED_WITHIN, reached).await.with_context(|| format!("nobody answers at {address}"))
}
