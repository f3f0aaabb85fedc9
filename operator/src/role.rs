//! Starts a role: the parts of the process around the library that does the work.

mod activator;
pub mod command;
pub mod completion;
mod controller;
pub mod deploy;
#[cfg(feature = "dev")]
pub mod dev;
pub mod dlq;
mod forward;
mod init;
pub mod inspect;
mod invoke;
mod keeper;
mod list;
pub mod logs;
mod loopback;
mod rollback;
mod settle;
#[cfg(feature = "dev")]
pub mod shim;
mod simulate;
mod source;
mod status;

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::args::{Cli, Role};
use crate::shutdown::Shutdown;
use crate::{files, shutdown, telemetry};

/// Owner of the fields that `rouse dev` writes.
const MANAGER_DEV: &str = "rouse-dev";

/// Runs the role that the command line names, until it ends or the process shall stop.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { log, log_filter, role } = cli;
    // What a process has that stays.
    let stay = || -> anyhow::Result<Shutdown> {
        provide_tls()?;
        telemetry::init(log, &log_filter)?;
        files::raise_bound();
        shutdown::listen()
    };
    match role {
        Role::Controller(args) => controller::run(*args, stay()?).await,
        Role::Activator(args) => Box::pin(activator::run(*args, stay()?)).await,
        Role::Source(args) => source::run(*args, stay()?).await,
        Role::Keeper(args) => keeper::run(args, stay()?).await,
        Role::Simulate(args) => simulate::run(args).await,
        #[cfg(feature = "dev")]
        Role::Dev(args) => {
            provide_tls()?;
            let lines = dev::log(log, &log_filter)?;
            files::raise_bound();
            Box::pin(dev::run(*args, lines, shutdown::listen()?)).await
        }
        Role::Command(command) => {
            provide_tls()?;
            Box::pin(command::run(&command)).await
        }
        Role::Dlq(errand) => {
            provide_tls()?;
            Box::pin(dlq::run(&errand)).await
        }
        Role::Deploy(args) => {
            provide_tls()?;
            Box::pin(deploy::run(&args)).await
        }
        Role::Logs(args) => {
            provide_tls()?;
            Box::pin(logs::run(&args)).await
        }
        Role::Inspect(question) => {
            provide_tls()?;
            inspect::run(&question).await
        }
    }
}

/// A client with the rights of this process's account.
async fn own_client() -> anyhow::Result<kube::Client> {
    let kube = kube::Config::infer().await.context("finding the API server")?;
    kube::Client::try_from(kube).context("making a client")
}

/// Opens a port.
async fn open(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("opening the {name} port {address}"))
}

fn provide_tls() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider was installed before"))
}
