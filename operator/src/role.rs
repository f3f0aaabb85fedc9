//! Starts a role: the parts of the process around the library that does the work.

mod activator;
mod controller;
pub mod dlq;
pub mod inspect;
mod simulate;
mod source;

use crate::args::{Cli, Role};
use crate::{files, shutdown, telemetry};

/// Runs the role that the command line names, until it ends or the process shall stop.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    if let Role::Simulate(args) = &cli.role {
        return simulate::run(args);
    }
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider was installed before"))?;
    match &cli.role {
        Role::Inspect(question) => return inspect::run(question).await,
        Role::Dlq(errand) => return Box::pin(dlq::run(errand)).await,
        _ => {}
    }
    telemetry::init(cli.log, &cli.log_filter)?;
    files::raise_bound();
    let shutdown = shutdown::listen()?;
    match cli.role {
        Role::Controller(args) => controller::run(*args, shutdown).await,
        Role::Activator(args) => Box::pin(activator::run(*args, shutdown)).await,
        Role::Source(args) => source::run(*args, shutdown).await,
        Role::Simulate(args) => simulate::run(&args),
        Role::Dlq(errand) => Box::pin(dlq::run(&errand)).await,
        Role::Inspect(question) => inspect::run(&question).await,
    }
}
