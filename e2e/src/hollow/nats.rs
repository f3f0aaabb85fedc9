//! A real server of NATS at an address of the run's own, which keeps its streams when it is killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::{self, stream};

use super::ground::Ground;
use super::listens;
use super::process::Process;

/// Number of its address in the run's block.
const ADDRESS: u8 = 249;

/// The server, killed with this.
#[derive(Debug)]
pub struct NatsServer {
    /// Where it listens.
    pub address: SocketAddr,
    program: PathBuf,
    folder: PathBuf,
    process: Process,
}

impl NatsServer {
    /// Starts it and waits until it listens.
    pub async fn start(ground: &Ground) -> anyhow::Result<Self> {
        let address = SocketAddr::from((ground.block.own(ADDRESS), 4222));
        let program = ground.program("nats-server")?;
        let folder = ground.folder().to_owned();
        let process = spawn(&program, &folder, address)?;
        listens(address, "NATS").await?;
        Ok(Self { address, program, folder, process })
    }

    /// Kills it, as a node's failure would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Starts it again after it was killed, with the streams that it had.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.program, &self.folder, self.address)?;
        listens(self.address, "NATS").await
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// A client that connects again whatever happens.
    pub async fn connect(&self) -> anyhow::Result<jetstream::Context> {
        let options = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .reconnect_delay_callback(|_| Duration::from_millis(50));
        let client = options.connect(self.url()).await.context("connecting to the server")?;
        Ok(jetstream::new(client))
    }

    /// Makes a stream `name` with all subjects `name.*`.
    pub async fn stream(&self, context: &jetstream::Context, name: &str) -> anyhow::Result<()> {
        let subjects = vec![format!("{name}.*")];
        let config = stream::Config { name: name.to_owned(), subjects, ..Default::default() };
        context.create_stream(config).await.map(drop).context("making a stream")
    }
}

fn spawn(program: &Path, folder: &Path, address: SocketAddr) -> anyhow::Result<Process> {
    let store = folder.join("nats");
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let arguments = ["--addr", &ip, "--port", &port, "--jetstream", "--store_dir"];
    let arguments = arguments.into_iter().map(str::to_owned);
    let arguments = arguments.chain([store.display().to_string()]);
    Process::start("nats-server", program, arguments, &[], folder)
}
