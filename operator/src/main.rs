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

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::runtime::Builder;

fn main() -> anyhow::Result<ExitCode> {
    // What keeps a process of `rouse dev` needs no more than that.
    role::shim::of(std::env::args()).map_or_else(work, Ok)
}

fn work() -> anyhow::Result<ExitCode> {
    let cli = args::Cli::parse();
    let mut runtime = Builder::new_multi_thread();
    if let Some(threads) = cli.role.threads() {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build().context("starting the threads")?;
    runtime.block_on(role::run(cli)).map(|()| ExitCode::SUCCESS)
}
