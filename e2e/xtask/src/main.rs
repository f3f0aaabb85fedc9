//! The chores of Rouse: `cargo xtask --help` lists them. Owns the command line and nothing else.

mod bench;
mod branches;
mod builds;
mod cluster;
mod command;
mod contracts;
mod demo;
mod digest;
mod files;
mod folders;
mod generate;
mod handlers;
mod helm;
mod hollow;
mod image;
mod install;
mod oci;
mod packages;
mod profile;
mod programs;
mod stage;
mod suite;
mod term;
mod tools;
mod whole;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of Rouse
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// The whole product from nothing: a cluster, Rouse on it, a Function that sleeps and wakes
    Demo(demo::Arguments),
    /// A real single-node Kubernetes on this machine
    Cluster(cluster::Arguments),
    /// The operator's image and the sample Function's, as OCI archives
    Image(image::Arguments),
    /// The command line on your path, as `rouse` and `kubectl rouse`
    Install(install::Arguments),
    /// All checks and tests, with the end-to-end tests on a real cluster
    Test(suite::Arguments),
    /// Benchmarks, with their bars
    Bench(bench::Arguments),
    /// What must hold for a while, disturbed by a seed: `events`
    Soak(bench::SoakArguments),
    /// Has `rouse` do its work and notes which branches it takes, for its optimised builds
    Profile(profile::Arguments),
    /// Writes the checked-in files that are made from others
    Generate(generate::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Cluster(arguments) => cluster::run(&arguments),
        Chore::Image(arguments) => image::run(&arguments),
        Chore::Install(arguments) => install::run(&arguments),
        Chore::Profile(arguments) => profile::run(&arguments),
        Chore::Generate(arguments) => generate::run(&arguments),
        Chore::Demo(arguments) => demo::run(&arguments),
        Chore::Bench(arguments) => bench::run(&arguments),
        Chore::Soak(arguments) => bench::soak(&arguments),
        Chore::Test(arguments) => return suite::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            term::note(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
