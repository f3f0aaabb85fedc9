//! Helm, apart from the user's own: its own cache and settings, and only clusters that it is given.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::tools::{self, catalog};
use crate::{command, folders};

/// Namespace of the release that the chores install.
pub const NAMESPACE: &str = "rouse-system";
/// Name of that release.
pub const RELEASE: &str = "rouse";
/// Settings for the demo and the tests.
const VALUES: &str = "e2e/values.yaml";
/// How long an installation may take until all pods are ready.
const PATIENCE: &str = "180s";

/// `helm` in the checkout, without a cluster.
pub fn command() -> Result<Command> {
    let own = folders::cache()?.join("helm");
    let mut helm = Command::new(tools::path(&catalog::HELM, "helm")?);
    helm.current_dir(folders::workspace())
        .env("HELM_CACHE_HOME", own.join("cache"))
        .env("HELM_CONFIG_HOME", own.join("config"))
        .env("HELM_DATA_HOME", own.join("data"))
        .env_remove("KUBECONFIG");
    Ok(helm)
}

/// Installs or upgrades the chart with the demo's settings and waits until its pods are ready.
/// `image` is the digest of the operator's image: its tag stays the same from build to build, and
/// without another digest on the pods those of the former build would stay.
pub fn install(kubeconfig: &Path, image: &str) -> Result<()> {
    tools::ensure(&[&catalog::HELM])?;
    let mut helm = command()?;
    helm.arg("--kubeconfig").arg(kubeconfig);
    helm.args(["upgrade", "--install", RELEASE, "charts/rouse"]);
    helm.args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", PATIENCE]);
    for role in ["controller", "activator"] {
        helm.arg("--set-string").arg(format!("{role}.podAnnotations.image-digest={image}"));
    }
    command::output(helm.args(["--values", VALUES])).map(drop)
}

/// Removes the release, if it is there, and waits until its objects are gone.
pub fn uninstall(kubeconfig: &Path) -> Result<()> {
    tools::ensure(&[&catalog::HELM])?;
    let mut helm = command()?;
    helm.arg("--kubeconfig").arg(kubeconfig);
    helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE]);
    command::output(helm.args(["--ignore-not-found", "--wait", "--timeout", PATIENCE])).map(drop)
}
