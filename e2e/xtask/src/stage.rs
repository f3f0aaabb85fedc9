//! The cluster that a chore was told to use, with Rouse in it: the local one, or a given one.
//! Must not touch any other.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::cluster::{Local, RootArgument};
use crate::{helm, image, oci, term};

/// Which cluster to use.
#[derive(Debug, Args)]
pub struct StageArguments {
    /// Use this cluster, into which the images were loaded, instead of a local one
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    root: RootArgument,
}

/// A cluster, up or not yet.
#[derive(Debug)]
pub struct Stage {
    kubeconfig: PathBuf,
    /// None for a given cluster.
    local: Option<Local>,
    /// The local cluster's folder if it is not the usual one.
    root: Option<PathBuf>,
    /// Whether it was up before this chore.
    was_up: bool,
}

impl Stage {
    /// Finds the cluster and changes nothing.
    pub fn open(arguments: &StageArguments) -> Result<Self> {
        if let Some(kubeconfig) = &arguments.kubeconfig {
            let kubeconfig = std::path::absolute(kubeconfig)?;
            return Ok(Self { kubeconfig, local: None, root: None, was_up: true });
        }
        let local = arguments.root.local()?;
        let was_up = local.runs();
        let root = arguments.root.given().map(Path::to_owned);
        Ok(Self { kubeconfig: local.kubeconfig(), local: Some(local), root, was_up })
    }

    /// Starts the local cluster, unless one was given.
    pub fn up(&self) -> Result<()> {
        self.local.as_ref().map_or(Ok(()), Local::up)
    }

    /// Brings images to the cluster; for a given one says how the user does it.
    pub fn load(&self, archives: &[PathBuf]) -> Result<()> {
        image::hand_over(archives, self.local.as_ref())
    }

    /// Installs the chart, or brings it up to date, with the images that were loaded, the
    /// operator's first.
    pub fn install(&self, archives: &[PathBuf]) -> Result<()> {
        let operator = archives.first().context("there is no image of the operator")?;
        let (_, digest) = oci::identify(operator)?;
        helm::install(&self.kubeconfig, &digest)
    }

    /// Ends the local cluster if it was started by this chore.
    pub fn close(&self) -> Result<()> {
        match &self.local {
            Some(local) if !self.was_up => local.down(true),
            _ => Ok(()),
        }
    }

    /// Says that the cluster stays, and how to end it.
    pub fn leave(&self) {
        if self.local.is_some() {
            term::note(format!("The cluster stays up. `{}` ends it.", self.removal()));
        }
    }

    /// The command that ends the local cluster and deletes it.
    pub fn removal(&self) -> String {
        let root = self.root.as_ref().map(|root| format!(" --root {}", root.display()));
        format!("cargo xtask cluster down --purge{}", root.unwrap_or_default())
    }

    /// Whether it is the local cluster, on which nobody else depends.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Tells a program of the crate `rouse-e2e` which cluster to use.
    pub fn tell(&self, program: &mut Command) {
        program.env("ROUSE_E2E_KUBECONFIG", &self.kubeconfig);
        match &self.local {
            Some(local) => program.env("ROUSE_E2E_AUDIT_LOG", local.audit_log()),
            None => program.env_remove("ROUSE_E2E_AUDIT_LOG"),
        };
    }
}
