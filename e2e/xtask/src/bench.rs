//! `cargo xtask bench`: brings a cluster with Rouse, or the programs of a control plane without
//! nodes, to the benchmarks of the crate `rouse-e2e`. Must not measure anything itself.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::programs::{self, Profile, ROUSE};
use crate::stage::{Stage, StageArguments};
use crate::{command, contracts, hollow, image};

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

/// What a benchmark needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    /// A cluster with Rouse in it.
    cluster: bool,
    /// The programs of a control plane without nodes.
    hollow: bool,
}

/// What `bench` needs: its name, then its arguments.
fn needs(bench: &[OsString]) -> Needs {
    let name = bench.first().and_then(|name| name.to_str()).unwrap_or_default();
    let chosen = |option: &str| bench.iter().any(|argument| argument == option);
    match name {
        "source" | "proxy" | "exact" | "events" | "soak-events" => {
            Needs { cluster: false, hollow: true }
        }
        "scaling" => {
            let all = !["--model", "--sleeping", "--cluster"].into_iter().any(chosen);
            Needs { cluster: all || chosen("--cluster"), hollow: all || chosen("--sleeping") }
        }
        "dev" => Needs { cluster: false, hollow: false },
        _ => Needs { cluster: true, hollow: false },
    }
}

/// Arguments of `cargo xtask soak`.
#[derive(Debug, Args)]
pub struct SoakArguments {
    /// What goes on for a while, with its arguments, as `events --seconds 60 --seed 7`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    soak: Vec<OsString>,
}

/// Runs `cargo xtask soak`.
pub fn soak(arguments: &SoakArguments) -> Result<()> {
    let [name, rest @ ..] = arguments.soak.as_slice() else { bail!("name a soak: events") };
    ensure!(name == "events", "there is no soak {}: there is `events`", name.display());
    let programs = hollow::Programs::gather(Profile::Dist)?.with_servers()?;
    let mut bench = Command::new(programs::build_one(Profile::Tested, "rouse-e2e", "bench")?);
    bench.arg("soak-events").args(rest);
    programs.tell(&mut bench);
    command::run(&mut bench)
}

/// Runs `cargo xtask bench`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let needs = needs(&arguments.bench);
    let mut programs = None;
    if needs.hollow {
        let gathered = hollow::Programs::gather(Profile::Dist)?;
        let name = arguments.bench.first().and_then(|name| name.to_str()).unwrap_or_default();
        programs = Some(match name {
            "proxy" => gathered.with_yardstick()?,
            "events" | "soak-events" => gathered.with_servers()?,
            "source" => gathered.with_code(Profile::Dist)?,
            _ => gathered,
        });
    }
    let mut bench = Command::new(programs::build_one(Profile::Tested, "rouse-e2e", "bench")?);
    bench.args(&arguments.bench);
    if let Some(programs) = &programs {
        programs.tell(&mut bench);
    }
    if arguments.bench.first().is_some_and(|name| name == "source") {
        source(&mut bench)?;
    }
    if arguments.bench.first().is_some_and(|name| name == "dev") {
        let rouse = programs::build_one(Profile::CommandLine, ROUSE, ROUSE)?;
        bench.env("ROUSE_BENCH_ROUSE", rouse);
    }
    if needs.cluster { on_cluster(arguments, bench) } else { command::run(&mut bench) }
}

/// Tells where the shim is, and what it runs.
fn source(bench: &mut Command) -> Result<()> {
    let shim = programs::build_one(Profile::Small, "rouse-shim", "rouse-shim")?;
    let hello = programs::build_one(Profile::Dist, "rouse-hello", "hello")?;
    bench.env("ROUSE_BENCH_SHIM", shim).env("ROUSE_BENCH_HELLO", hello);
    bench.env("ROUSE_BENCH_LAMBDA", contracts::go_handler()?);
    Ok(())
}

fn on_cluster(arguments: &Arguments, mut bench: Command) -> Result<()> {
    let stage = Stage::open(&arguments.stage)?;
    let archives = image::build(Profile::Dist)?;
    stage.up()?;
    stage.load(&archives)?;
    stage.install(&archives)?;
    stage.tell(&mut bench);
    let outcome = command::run(&mut bench);
    if arguments.keep {
        stage.leave();
    } else {
        stage.close()?;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_needs_what_is_chosen_of_it_or_everything() {
        let of = |line: &str| {
            let Needs { cluster, hollow } =
                needs(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
            (cluster, hollow)
        };
        assert_eq!(of("cold --starts 3"), (true, false));
        assert_eq!(of("exact"), (false, true));
        assert_eq!(of("dev --starts 3"), (false, false));
        assert_eq!(of("events --quick"), (false, true));
        assert_eq!(of("scaling --seeds 3"), (true, true));
        assert_eq!(of("scaling --model"), (false, false));
        assert_eq!(of("scaling --sleeping --model"), (false, true));
        assert_eq!(of("scaling --cluster --rounds 3"), (true, false));
    }
}
