//! The steps that need a cluster: images, both ways to install, the end-to-end tests.
//! Must not touch a cluster but the local one and the one that was given.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::report::Report;
use super::{Arguments, cargo};
use crate::cluster::{self, Local};
use crate::{command, folders, helm, image, term};

/// End-to-end tests at once. They mostly wait, but each starts pods.
const TESTS_AT_ONCE: &str = "4";
/// The tests that prove an installation to work.
const SMOKE: &str = "asleep";
const MANIFEST: &str = "manifests/install.yaml";

/// Runs them, and ends the local cluster if it was started here and nobody wants to keep it.
pub fn run(report: &mut Report, arguments: &Arguments) -> Result<()> {
    let archives = report.step("images", |_| image::build())?;
    if let Some(kubeconfig) = &arguments.kubeconfig {
        let kubeconfig = std::path::absolute(kubeconfig)?;
        image::hand_over(&archives, None)?;
        return tested(report, &kubeconfig, |report| {
            chart(report, &Tested { kubeconfig: &kubeconfig, audit_log: None }, arguments)
        });
    }
    let local = arguments.root.local()?;
    let was_up = local.runs();
    report.step("cluster", |_| local.up())?;
    let outcome = on_local(report, arguments, &local, &archives);
    if outcome.is_err() {
        term::note("The cluster stays up for a look; `cargo xtask cluster down --purge` ends it.");
    } else if !was_up && !arguments.keep {
        report.step("cluster down", |_| local.down(true))?;
    }
    outcome
}

/// The cluster under test.
struct Tested<'a> {
    kubeconfig: &'a Path,
    audit_log: Option<PathBuf>,
}

fn on_local(
    report: &mut Report,
    arguments: &Arguments,
    local: &Local,
    archives: &[PathBuf],
) -> Result<()> {
    report.step("images into the cluster", |_| local.load(archives))?;
    let kubeconfig = local.kubeconfig();
    let cluster = Tested { kubeconfig: &kubeconfig, audit_log: Some(local.audit_log()) };
    tested(report, &kubeconfig, |report| {
        if arguments.filter.is_none() {
            manifest(report, &cluster)?;
        }
        chart(report, &cluster, arguments)
    })
}

/// Installs by the chart and runs the end-to-end tests; those that restart the operator come last
/// and alone.
fn chart(report: &mut Report, cluster: &Tested<'_>, arguments: &Arguments) -> Result<()> {
    report.step("installation by the chart", |_| helm::install(cluster.kubeconfig))?;
    let filter = arguments.filter.as_deref().unwrap_or_default();
    report.step("end-to-end tests", |report| {
        report.tests(end_to_end(cluster, "e2e", filter).args(["--test-threads", TESTS_AT_ONCE]))
    })?;
    report.step("end-to-end tests that restart the operator", |report| {
        report.tests(end_to_end(cluster, "disruption", filter).args(["--test-threads", "1"]))
    })
}

/// Installs by `kubectl apply`, shows that it works and that doing it again changes nothing, and
/// takes it away. Only on local clusters: the definitions go too, and with them all Functions.
fn manifest(report: &mut Report, cluster: &Tested<'_>) -> Result<()> {
    helm::uninstall(cluster.kubeconfig)?;
    let kubectl = || -> Result<Command> {
        let mut kubectl = cluster::kubectl_for(cluster.kubeconfig)?;
        kubectl.current_dir(folders::workspace());
        Ok(kubectl)
    };
    report.step("installation by kubectl", |_| {
        command::output(kubectl()?.args(["apply", "--filename", MANIFEST]))?;
        for name in ["rouse-controller", "rouse-activator"] {
            let mut rollout = kubectl()?;
            rollout.args(["--namespace", helm::NAMESPACE, "rollout", "status", "--timeout=180s"]);
            command::output(rollout.arg(format!("deployment/{name}")))?;
        }
        Ok(())
    })?;
    report
        .step("a Function on it", |report| report.tests(&mut end_to_end(cluster, "e2e", SMOKE)))?;
    report.step("the same again, and removal", |_| {
        let again = command::output(kubectl()?.args(["apply", "--filename", MANIFEST]))?;
        let changed: Vec<&str> =
            again.lines().filter(|line| !line.ends_with(" unchanged")).collect();
        anyhow::ensure!(changed.is_empty(), "applying again changed:\n{}", changed.join("\n"));
        command::output(kubectl()?.args(["delete", "--wait", "--filename", MANIFEST])).map(drop)
    })
}

/// The end-to-end tests of one program. The whole workspace is named, as in the other steps, so
/// that cargo chooses the same features and builds nothing twice.
fn end_to_end(cluster: &Tested<'_>, program: &str, filter: &str) -> Command {
    let mut tests = cargo();
    tests.args(["test", "--quiet", "--workspace", "--no-fail-fast", "--test", program]);
    tests.args(["--", "--ignored"]);
    if !filter.is_empty() {
        tests.arg(filter);
    }
    tests.env("ROUSE_E2E_KUBECONFIG", cluster.kubeconfig);
    match &cluster.audit_log {
        Some(log) => tests.env("ROUSE_E2E_AUDIT_LOG", log),
        None => tests.env_remove("ROUSE_E2E_AUDIT_LOG"),
    };
    tests
}

/// Runs steps, and when one fails shows what the cluster has to say.
fn tested(
    report: &mut Report,
    kubeconfig: &Path,
    steps: impl FnOnce(&mut Report) -> Result<()>,
) -> Result<()> {
    let outcome = steps(report);
    if outcome.is_err() {
        for question in [
            &["get", "pods", "--all-namespaces", "--output", "wide"][..],
            &["get", "events", "--namespace", helm::NAMESPACE],
            &["logs", "--namespace", helm::NAMESPACE, "--selector", "app.kubernetes.io/name=rouse"],
        ] {
            let answer = cluster::kubectl_for(kubeconfig)
                .and_then(|mut kubectl| command::output(kubectl.args(question)));
            term::note(format!("\n-- kubectl {}", question.join(" ")));
            match answer {
                Ok(text) => term::note(text),
                Err(error) => term::note(format!("{error:#}")),
            }
        }
    }
    outcome
}
