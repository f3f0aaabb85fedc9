//! `cargo xtask bench`: brings a cluster with Rouse, or the programs of a control plane without
//! nodes, to the benchmarks of the crate `rouse-e2e`. Must not measure anything itself.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::programs::{self, Profile};
use crate::stage::{Stage, StageArguments};
use crate::{command, hollow, image};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Leave the local cluster up; one that was up before stays up anyway
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    stage: StageArguments,
    /// Name and arguments of the benchmark, as `cold --starts 30 --json`; `help` lists them
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    bench: Vec<OsString>,
}

/// Benchmarks that need no cluster, only a control plane of their own.
const HOLLOW: &[&str] = &["proxy", "exact"];

/// Asks a benchmark for what needs neither.
const MODEL: &str = "--model";

/// Runs `cargo xtask bench`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let name = arguments.bench.first().and_then(|name| name.to_str()).unwrap_or_default();
    if HOLLOW.contains(&name) {
        let mut programs = hollow::Programs::gather(Profile::Dist)?;
        if name == "proxy" {
            programs = programs.with_yardstick()?;
        }
        let mut bench = Command::new(programs::build_one(Profile::Release, "rouse-e2e", "bench")?);
        programs.tell(&mut bench);
        return command::run(bench.args(&arguments.bench));
    }
    if arguments.bench.iter().any(|argument| argument == MODEL) {
        let mut bench = Command::new(programs::build_one(Profile::Release, "rouse-e2e", "bench")?);
        return command::run(bench.args(&arguments.bench));
    }
    on_cluster(arguments)
}

fn on_cluster(arguments: &Arguments) -> Result<()> {
    let stage = Stage::open(&arguments.stage)?;
    let archives = image::build(Profile::Dist)?;
    let program = programs::build_one(Profile::Release, "rouse-e2e", "bench")?;
    stage.up()?;
    stage.load(&archives)?;
    stage.install(&archives)?;
    let mut bench = Command::new(program);
    stage.tell(&mut bench);
    let outcome = command::run(bench.args(&arguments.bench));
    if arguments.keep {
        stage.leave();
    } else {
        stage.close()?;
    }
    outcome
}
