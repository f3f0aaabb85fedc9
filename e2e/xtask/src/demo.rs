//! `cargo xtask demo`: from nothing to a Function that sleeps and wakes, in one command.
//! Must not show the Function itself: the program `demo` of the crate `rouse-e2e` does.

use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use tokio::time::Instant;

use crate::cluster::kubectl_path;
use crate::programs::{self, Profile};
use crate::stage::{Stage, StageArguments};
use crate::{command, folders, helm, image, term};

/// Namespace of the program's Function.
const NAMESPACE: &str = "rouse-demo";
/// Minutes for one core to compile the operator from nothing, as measured on two.
const CORE_MINUTES_TO_COMPILE: usize = 12;

/// Arguments of `cargo xtask demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    stage: StageArguments,
}

/// Runs `cargo xtask demo`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let stage = Stage::open(&arguments.stage)?;
    let mut steps = Steps { started: Instant::now(), done: 0 };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let minutes = CORE_MINUTES_TO_COMPILE.div_ceil(cores);
    let images = format!("Compile Rouse and write its images (the first time about {minutes} min)");
    let archives = steps.step(&images, || image::build(Profile::Tested))?;
    let show = steps
        .step("Compile the caller", || programs::build_one(Profile::Tested, "rouse-e2e", "demo"))?;
    steps.step("Start a Kubernetes of its own", || stage.up())?;
    steps.step("Install Rouse by its chart", || {
        stage.load(&archives)?;
        stage.install(&archives)
    })?;
    steps.step("A Function sleeps, wakes, scales and sleeps", || {
        let mut demo = Command::new(show);
        stage.tell(&mut demo);
        command::run(&mut demo)
    })?;
    next_steps(&stage)
}

/// Numbers the steps and tells the time.
struct Steps {
    started: Instant,
    done: usize,
}

/// How many steps there are.
const STEPS: usize = 5;

impl Steps {
    fn step<T>(&mut self, title: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        self.done += 1;
        let now = term::clock(self.started.elapsed());
        term::note(format!("\n[{}/{STEPS}]  {now}  {title}", self.done));
        run().with_context(|| format!("step {} of the demo failed: {title}", self.done))
    }
}

/// What one can do now, and how to take it all away.
fn next_steps(stage: &Stage) -> Result<()> {
    let built = kubectl_path()?;
    let kubectl = if built.is_file() { built.display().to_string() } else { "kubectl".to_owned() };
    let kubeconfig = stage.kubeconfig().display();
    term::result(format!(
        "
Go on yourself:
  export KUBECONFIG={kubeconfig}
  alias kubectl={kubectl}
  kubectl get functions,triggers,pods --namespace {NAMESPACE}
  kubectl explain function.spec
  kubectl edit function hello --namespace {NAMESPACE}

Take it away:"
    ));
    if stage.is_local() {
        term::result(format!(
            "  {}   # the cluster with all that is in it
  rm -r {} {}   # what was built",
            stage.removal(),
            folders::cache()?.display(),
            folders::target().display()
        ));
    } else {
        let (namespace, release) = (helm::NAMESPACE, helm::RELEASE);
        term::result(format!(
            "  kubectl delete namespace {NAMESPACE}
  helm uninstall {release} --namespace {namespace}
  kubectl delete crd functions.rouse.dev triggers.rouse.dev"
        ));
    }
    Ok(())
}
