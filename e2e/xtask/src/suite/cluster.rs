//! The steps that need a cluster: images, both ways to install, the end-to-end tests.
//! Must not touch a cluster but the one that the stage holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::Arguments;
use super::report::Report;
use crate::cluster::{kubectl_for, kubectl_program};
use crate::programs::{Profile, cargo};
use crate::stage::Stage;
use crate::tools::{self, catalog::GRPC};
use crate::{command, contracts, folders, handlers, helm, hollow, image, term};

/// End-to-end tests at once. They mostly wait, but each starts pods.
const TESTS_AT_ONCE: &str = "4";
/// The test that proves an installation to work.
const SMOKE: &str = "a_function_sleeps_wakes_on_a_request_and_sleeps_again";
const MANIFEST: &str = "manifests/install.yaml";
/// What changes when an object is changed: its generation, or of kinds that have none its version.
const STATES: &str = "go-template={{range .items}}{{.kind}} {{.metadata.name}} \
    {{or .metadata.generation .metadata.resourceVersion}}\n{{end}}";

/// Runs them, and ends the local cluster if it was started here and nobody wants to keep it.
pub fn run(report: &mut Report, arguments: &Arguments) -> Result<()> {
    let stage = Stage::open(&arguments.stage)?;
    let archives = report.step("images", |_| image::build(Profile::Tested))?;
    let mut others = report.step("servers for sources", |_| image::build_servers())?;
    others.extend(report.step("programs of gRPC's makers", |_| image::build_grpc())?);
    others.push(report.step("a runtime of tests", |_| image::build_code(Profile::Tested))?);
    others.extend(report.step("runtimes", |_| image::build_runtimes(Profile::Tested))?);
    report.step("handlers that run compiled", |_| handlers::build())?;
    report.step("cluster", |_| stage.up())?;
    report.step("images into the cluster", |_| stage.load(&[&archives[..], &others].concat()))?;
    let filter = arguments.filter.as_deref();
    let outcome = steps(report, &stage, &archives, filter);
    if outcome.is_err() {
        show(stage.kubeconfig());
        stage.leave();
    } else if arguments.keep {
        stage.leave();
    } else {
        report.step("cluster down", |_| stage.close())?;
    }
    outcome
}

fn steps(
    report: &mut Report,
    stage: &Stage,
    archives: &[PathBuf],
    filter: Option<&str>,
) -> Result<()> {
    // Only on local clusters: the definitions go too, and with them all Functions.
    if stage.is_local() && filter.is_none() {
        manifest(report, stage)?;
    }
    report.step("installation by the chart", |_| stage.install(archives))?;
    let text = filter.unwrap_or_default();
    let side_by_side = report.step("end-to-end tests", |report| {
        report.tests(end_to_end(stage, "e2e", text)?.args(["--test-threads", TESTS_AT_ONCE]))
    })?;
    let alone = report.step("end-to-end tests that restart the operator", |report| {
        report.tests(end_to_end(stage, "disruption", text)?.args(["--test-threads", "1"]))
    })?;
    ensure!(side_by_side + alone > 0, "no end-to-end test has {text:?} in its name");
    Ok(())
}

/// Installs by `kubectl apply`, shows that it works and that doing it again changes nothing, and
/// takes it away.
fn manifest(report: &mut Report, stage: &Stage) -> Result<()> {
    helm::uninstall(stage.kubeconfig())?;
    let kubectl = |arguments: &[&str]| -> Result<String> {
        let mut kubectl = kubectl_for(stage.kubeconfig())?;
        command::output(kubectl.current_dir(folders::workspace()).args(arguments))
    };
    report.step("installation by kubectl", |_| {
        kubectl(&["apply", "--filename", MANIFEST])?;
        for deployment in ["deployment/rouse-controller", "deployment/rouse-activator"] {
            let rollout = ["rollout", "status", "--timeout", "180s", deployment];
            kubectl(&[&["--namespace", helm::NAMESPACE][..], &rollout].concat())?;
        }
        Ok(())
    })?;
    report.step("a Function on it", |report| {
        let passed = report.tests(&mut end_to_end(stage, "e2e", SMOKE)?)?;
        ensure!(passed == 1, "{passed} tests are called {SMOKE}, which should be one");
        Ok(())
    })?;
    report.step("the same again, and removal", |_| {
        // Not what kubectl calls configured: of some kinds it says so without a change.
        let versions = || kubectl(&["get", "--filename", MANIFEST, "--output", STATES]);
        let before = versions()?;
        kubectl(&["apply", "--filename", MANIFEST])?;
        let after = versions()?;
        let changed: Vec<_> =
            after.lines().filter(|line| !before.lines().any(|known| known == *line)).collect();
        ensure!(changed.is_empty(), "applying again changed:\n{}", changed.join("\n"));
        kubectl(&["delete", "--wait", "--filename", MANIFEST]).map(drop)
    })
}

/// The end-to-end tests of one program. The whole workspace is named, as in the other steps, so
/// that cargo chooses the same features and builds nothing twice.
fn end_to_end(stage: &Stage, program: &str, filter: &str) -> Result<Command> {
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast", "--test", program, "--", "--ignored"]);
    if !filter.is_empty() {
        tests.arg(filter);
    }
    stage.tell(&mut tests);
    tests.env("ROUSE_E2E_PROGRAM", command_line()?);
    tests.env("ROUSE_E2E_KUBECTL", kubectl_program()?);
    tests.env("ROUSE_E2E_GRPC_CLIENT", tools::path(&GRPC, "client")?);
    handlers::tell(&mut tests)?;
    // Samples run in `rouse dev` too, beside servers on this machine and with packages of Python.
    hollow::Programs::for_samples(Profile::Tested)?.tell(&mut tests);
    tests.env("ROUSE_CONTRACTS_PYTHON", contracts::folder("python")?);
    Ok(tests)
}

/// The program by which users ask, and run folders. The one in the image has no `rouse dev`; this one is
/// built for its own tests, which are named so that nothing is built twice.
fn command_line() -> Result<PathBuf> {
    command::run(cargo().args(["test", "--workspace", "--no-run", "--quiet", "--test", "dev"]))?;
    Ok(folders::target().join("debug/rouse"))
}

/// Prints what the cluster has to say after a failure.
fn show(kubeconfig: &Path) {
    for question in [
        &["get", "pods", "--all-namespaces", "--output", "wide"][..],
        &["get", "events", "--namespace", helm::NAMESPACE],
        &["logs", "--namespace", helm::NAMESPACE, "--selector", "app.kubernetes.io/name=rouse"],
    ] {
        let ask = |mut kubectl: Command| command::output(kubectl.args(question));
        let answer = kubectl_for(kubeconfig).and_then(ask);
        term::note(format!("\n-- kubectl {}", question.join(" ")));
        term::note(answer.unwrap_or_else(|error| format!("{error:#}")));
    }
}
