//! A real server of S3 (MinIO) at an address of the run's own, which keeps its objects when it is
//! killed, and tells of them by HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::ground::Ground;
use super::listens;
use super::process::{Process, bound_command};

/// Number of its address in the run's block.
const ADDRESS: u8 = 247;
/// The access key of its administrator.
pub const USER: &str = "rouse";
/// Its secret.
pub const PASSWORD: &str = "not-a-secret";
/// Its region.
pub const REGION: &str = "us-east-1";

/// Somebody whom the server tells of objects.
#[derive(Clone, Debug)]
pub struct Listener {
    /// By which name buckets say that he is told, in capitals.
    pub name: &'static str,
    /// Where he is.
    pub url: String,
    /// What the server shows him.
    pub token: &'static str,
}

/// The server, killed with this.
#[derive(Debug)]
pub struct MinioServer {
    /// Where it listens.
    pub address: SocketAddr,
    program: PathBuf,
    folder: PathBuf,
    listeners: Vec<Listener>,
    process: Process,
}

impl MinioServer {
    /// Starts it and waits until it listens.
    pub async fn start(ground: &Ground, listeners: Vec<Listener>) -> anyhow::Result<Self> {
        let address = SocketAddr::from((ground.block.own(ADDRESS), 9000));
        let program = ground.program("minio")?;
        let folder = ground.folder().to_owned();
        let process = spawn(&program, &folder, address, &listeners)?;
        listens(address, "MinIO").await?;
        Ok(Self { address, program, folder, listeners, process })
    }

    /// Kills it, as a node's failure would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Starts it again after it was killed, with the objects that it had.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.program, &self.folder, self.address, &self.listeners)?;
        listens(self.address, "MinIO").await
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn spawn(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    listeners: &[Listener],
) -> anyhow::Result<Process> {
    let mut command = bound_command(program);
    command.arg("server").arg(folder.join("drive")).arg("--certs-dir").arg(folder.join("certs"));
    command.args(["--quiet", "--address", &address.to_string()]);
    command.env("HOME", folder).envs([
        ("MINIO_ROOT_USER", USER),
        ("MINIO_ROOT_PASSWORD", PASSWORD),
        ("MINIO_BROWSER", "off"),
        ("MINIO_UPDATE", "off"),
        ("MINIO_SITE_REGION", REGION),
    ]);
    for Listener { name, url, token } in listeners {
        command.env(format!("MINIO_NOTIFY_WEBHOOK_ENABLE_{name}"), "on");
        command.env(format!("MINIO_NOTIFY_WEBHOOK_ENDPOINT_{name}"), url);
        command.env(format!("MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_{name}"), token);
    }
    Process::run("minio", command, folder)
}
