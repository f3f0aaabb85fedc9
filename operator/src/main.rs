//! The `rouse` binary: parses the command line and hands over to a role.

mod admin;
#[cfg(feature = "count-allocations")]
mod allocations;
mod args;
mod cluster;
mod exit;
mod exposition;
mod files;
mod https;
mod lease;
mod memory;
mod otlp;
mod output;
mod progress;
mod role;
mod shutdown;
mod telemetry;

use std::process::ExitCode;

use anyhow::Context;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    // What keeps a process of `rouse dev` needs no more than that.
    #[cfg(feature = "dev")]
    if let Some(code) = role::shim::of(std::env::args()) {
        return code;
    }
    work().unwrap_or_else(|error| exit::tell(&error))
}

fn work() -> anyhow::Result<ExitCode> {
    if role::completion::answer_kubectl(std::env::args())? {
        return Ok(ExitCode::SUCCESS);
    }
    let cli = args::Cli::read();
    let (mut one, mut many) = (Builder::new_current_thread(), Builder::new_multi_thread());
    let runtime = match cli.role.threads() {
        Some(1) => &mut one,
        Some(threads) => many.worker_threads(threads),
        None => &mut many,
    };
    let runtime = runtime.enable_all().build().context("starting the threads")?;
    runtime.block_on(role::run(cli)).map(|()| ExitCode::SUCCESS)
}
