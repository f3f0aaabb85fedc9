//! The `rouse` binary: parses the command line and hands over to a role.

mod admin;
#[cfg(feature = "count-allocations")]
mod allocations;
mod args;
mod exposition;
mod files;
mod lease;
mod memory;
mod otlp;
mod output;
mod role;
mod shutdown;
mod telemetry;

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    role::run(args::Cli::parse()).await
}
