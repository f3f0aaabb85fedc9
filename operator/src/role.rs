//! Starts a role: the parts of the process around the library that does the work.

mod activator;
mod controller;
mod simulate;

use crate::args::{Cli, Role};
use crate::{files, shutdown, telemetry};

/// Runs the role that the command line names, until it ends or the process shall stop.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    if let Role::Simulate(args) = &cli.role {
        return simulate::run(args);
    }
    telemetry::init(cli.log, &cli.log_filter)?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider was installed before"))?;
    files::raise_bound();
    let shutdown = shutdown::listen()?;
    match cli.role {
        Role::Controller(args) => controller::run(*args, shutdown).await,
        Role::Activator(args) => activator::run(*args, shutdown).await,
        Role::Simulate(args) => simulate::run(&args),
    }
}
