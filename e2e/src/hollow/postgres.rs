//! A real server of PostgreSQL at an address of the run's own, which keeps its data when it is killed.
//! It lets in whoever comes as its superuser, so nothing but the run may reach its address. Where the
//! run is root it runs as nobody, as the server refuses to be root.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{interval, timeout};

use super::PATIENCE;
use super::ground::Ground;
use super::process::{Process, bound_command};

/// Number of its address in the run's block.
const ADDRESS: u8 = 248;
/// Number of the user and group `nobody`.
const NOBODY: u32 = 65_534;
/// How often it is looked at while it starts.
const LOOK: Duration = Duration::from_millis(20);

/// The server, killed with this.
#[derive(Debug)]
pub struct PostgresServer {
    /// Where it listens.
    pub address: SocketAddr,
    program: PathBuf,
    folder: PathBuf,
    process: Process,
}

impl PostgresServer {
    /// Makes a database that tells of changes, starts the server and waits until it listens.
    pub async fn start(ground: &Ground) -> anyhow::Result<Self> {
        let address = SocketAddr::from((ground.block.own(ADDRESS), 5432));
        // Nobody may not go through every folder that a link stands in.
        let program = |name: &str| -> anyhow::Result<PathBuf> {
            let program = ground.program(&format!("postgresql/{name}"))?;
            Ok(std::fs::canonicalize(program)?)
        };
        let folder = ground.folder().join("postgres");
        std::fs::create_dir(&folder)?;
        if is_root() {
            chown(&folder, Some(NOBODY), Some(NOBODY))?;
        }
        let mut initdb = humble(&program("initdb")?, &folder);
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        let made = initdb.arg("--no-locale").arg(data(&folder)).output().await?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let program = program("postgres")?;
        let process = spawn(&program, &folder, address)?;
        let mut server = Self { address, program, folder, process };
        server.comes_up().await?;
        Ok(server)
    }

    /// Kills all its processes at once, as a node's failure would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill_all().await
    }

    /// Starts it again after it was killed, with the data that it had.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.program, &self.folder, self.address)?;
        self.comes_up().await
    }

    /// Waits until it listens. It does not start while a process of the former one lives.
    async fn comes_up(&mut self) -> anyhow::Result<()> {
        let mut looks = interval(LOOK);
        let coming = async {
            while TcpStream::connect(self.address).await.is_err() {
                if self.process.check().is_err() {
                    self.process = spawn(&self.program, &self.folder, self.address)?;
                }
                looks.tick().await;
            }
            anyhow::Ok(())
        };
        let came = timeout(PATIENCE, coming).await;
        came.with_context(|| format!("PostgreSQL does not listen: {}", self.process.tail()))?
    }
}

fn spawn(program: &Path, folder: &Path, address: SocketAddr) -> anyhow::Result<Process> {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let mut command = humble(program, folder);
    command.arg("-D").arg(data(folder)).args(["-h", &ip, "-p", &port]);
    let sockets = format!("unix_socket_directories={}", folder.display());
    // What the kernel has survives the kills of a run.
    for option in ["wal_level=logical", "fsync=off", "autovacuum=off", &sockets] {
        command.args(["-c", option]);
    }
    Process::run("postgres", command, folder)
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// A command that is not root's.
fn humble(program: &Path, folder: &Path) -> Command {
    let mut command = bound_command(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir(folder);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
