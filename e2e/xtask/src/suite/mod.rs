//! `cargo xtask test`: every check, in the order from cheap to dear. The first failure ends it.
//! Must not know how a cluster is run.

mod cluster;
mod report;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use self::report::Report;
use crate::packages::{self, POSTGRES};
use crate::programs::{Profile, cargo};
use crate::stage::StageArguments;
use crate::tools::{
    self,
    catalog::{H2SPEC, KUBERNETES, MINIO, NATS},
};
use crate::{command, contracts, generate, hollow};

/// Clients of vendors at once: they start interpreters and virtual machines, and measure nothing.
const CLIENTS_AT_ONCE: &str = "2";

/// Arguments of `cargo xtask test`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only what needs no cluster
    #[arg(long, conflicts_with_all = ["kubeconfig", "keep", "filter"])]
    fast: bool,
    /// Only the contracts with the vendors' clients
    #[arg(long, conflicts_with_all = ["fast", "kubeconfig", "keep", "filter"])]
    contracts: bool,
    /// Leave the local cluster up; one that was up before stays up anyway
    #[arg(long)]
    keep: bool,
    /// Only the end-to-end tests whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    #[command(flatten)]
    stage: StageArguments,
}

/// Runs `cargo xtask test`. The last line that it prints has the numbers of tests.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut report = Report::start();
    let outcome = all(&mut report, arguments);
    report.finish(&outcome);
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all(report: &mut Report, arguments: &Arguments) -> Result<()> {
    if arguments.contracts {
        return clients(report);
    }
    if arguments.filter.is_none() {
        without_cluster(report)?;
    }
    if arguments.fast {
        return Ok(());
    }
    if arguments.filter.is_none() {
        conformance(report)?;
        local_api(report)?;
        servers(report)?;
        clients(report)?;
        disturbed(report)?;
    }
    cluster::run(report, arguments)
}

fn without_cluster(report: &mut Report) -> Result<()> {
    report.step("format", |_| command::run(cargo().args(["fmt", "--all", "--check"])))?;
    report.step("clippy", |_| {
        let mut clippy = cargo();
        clippy.args(["clippy", "--workspace", "--all-targets"]);
        command::run(clippy.args(["--", "--deny", "warnings"]))
    })?;
    // What the workspace as a whole is never built like: without the sources of servers elsewhere.
    report.step("clippy of what README's first command builds", |_| {
        let mut clippy = cargo();
        clippy.args(["clippy", "--no-default-features", "--features=rouse/default"]);
        clippy.args(["--package=rouse", "--package=rouse-source"]);
        command::run(clippy.args(["--", "--deny", "warnings"]))
    })?;
    report.step("generated files", |_| generate::check())?;
    report
        .step("unit, property and scenario tests", |report| {
            report.tests(cargo().args(["test", "--workspace", "--no-fail-fast", "--", "--quiet"]))
        })
        .map(drop)
}

/// Runs h2spec against a server of the activator that listens.
fn conformance(report: &mut Report) -> Result<()> {
    let step = "HTTP/2 by its specification (h2spec)";
    report
        .step(step, |report| {
            tools::ensure(&[&H2SPEC])?;
            let mut test = cargo();
            test.env("ROUSE_H2SPEC", tools::path(&H2SPEC, "h2spec")?);
            test.args(["test", "--workspace", "--lib", "--"]);
            report.tests(test.args(["--ignored", "server::tests::conformance"]))
        })
        .map(drop)
}

/// Asks the Kubernetes API in memory by `kubectl`.
fn local_api(report: &mut Report) -> Result<()> {
    report
        .step("the API in memory by kubectl", |report| {
            tools::ensure(&[&KUBERNETES])?;
            let mut test = cargo();
            test.env("ROUSE_KUBECTL", tools::path(&KUBERNETES, "kubectl")?);
            test.args(["test", "--workspace", "--lib", "--"]);
            report.tests(test.args(["--ignored", "api::tests::kubectl"]))
        })
        .map(drop)
}

/// Runs sources against the servers that they are for.
fn servers(report: &mut Report) -> Result<()> {
    report
        .step("sources against real servers", |report| {
            tools::ensure(&[&NATS, &MINIO])?;
            packages::require(&[POSTGRES])?;
            let mut test = cargo();
            test.env("ROUSE_NATS_SERVER", tools::path(&NATS, "nats-server")?);
            test.env("ROUSE_MINIO", tools::path(&MINIO, "minio")?);
            test.env("ROUSE_POSTGRES", packages::postgres()?);
            test.args(["test", "--workspace", "--lib", "--test", "shim", "--"]);
            report.tests(test.args(["--ignored", "nats::", "postgres::", "s3::"]))
        })
        .map(drop)
}

/// Runs the shim with the clients of vendors whose contracts it speaks.
fn clients(report: &mut Report) -> Result<()> {
    report
        .step("contracts with the vendors' clients", |report| {
            let mut test = cargo();
            contracts::tell(&mut test)?;
            test.args(["test", "--workspace", "--test", "vendors", "--", "--ignored"]);
            report.tests(test.args(["--test-threads", CLIENTS_AT_ONCE]))
        })
        .map(drop)
}

/// Disturbs real processes: looks at how many requests a pod has at once, and whether events are lost.
fn disturbed(report: &mut Report) -> Result<()> {
    let programs = report.step("a control plane without nodes", |_| {
        hollow::Programs::gather(Profile::Tested)?.with_servers()?.with_code(Profile::Tested)
    })?;
    let test = |report: &mut Report, name: &str| {
        let mut test = cargo();
        test.args(["test", "--workspace", "--test", name, "--", "--ignored"]);
        programs.tell(&mut test);
        report.tests(&mut test)
    };
    report.step("Functions from source", |report| test(report, "code"))?;
    report.step("a hard limit of one, disturbed", |report| test(report, "exact"))?;
    report.step("events, while all parts are killed", |report| test(report, "soak")).map(drop)
}
