//! `cargo xtask cluster`: a real single-node Kubernetes of this machine's own.
//! Must not touch another cluster, nor any file outside its root folder that it doesn't undo.

mod daemons;
mod down;
mod images;
mod layout;
mod lock;
mod network;
mod pki;
mod processes;
mod settings;
mod status;
mod system;
mod up;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use self::layout::Layout;
use crate::folders;
use crate::tools::{self, catalog};

/// Arguments of `cargo xtask cluster`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    root: RootArgument,
}

/// Which local cluster is meant.
#[derive(Debug, Args)]
pub struct RootArgument {
    /// Folder of the local cluster's state, logs and sockets
    /// [default: ~/.local/state/rouse/cluster]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Builds what is missing, starts what doesn't run, waits until the cluster serves
    Up,
    /// Ends the cluster and takes its traces off the machine; its state stays
    Down {
        /// Delete the state too
        #[arg(long)]
        purge: bool,
    },
    /// Shows the parts and how they are
    Status,
}

/// A local cluster, up or not.
#[derive(Debug)]
pub struct Local {
    layout: Layout,
}

/// Runs `cargo xtask cluster`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let local = arguments.root.local()?;
    match arguments.action {
        Action::Up => {
            local.up()?;
            status::describe(&local.layout)
        }
        Action::Down { purge } => local.down(purge),
        Action::Status => status::status(&local.layout),
    }
}

impl RootArgument {
    /// The cluster in the folder that was given, or in the usual one.
    pub fn local(&self) -> Result<Local> {
        let layout = match &self.root {
            Some(root) => Layout::new(root)?,
            None => Layout::new(&folders::cluster()?)?,
        };
        Ok(Local { layout })
    }

    /// The folder that was given.
    pub fn given(&self) -> Option<&Path> {
        self.root.as_deref()
    }
}

impl Local {
    /// Starts what doesn't run and waits until the cluster serves.
    pub fn up(&self) -> Result<()> {
        up::up(&self.layout)
    }

    /// Ends the cluster; with `purge` deletes its state too.
    pub fn down(&self, purge: bool) -> Result<()> {
        down::down(&self.layout, purge)
    }

    /// Whether a part of it runs.
    pub fn runs(&self) -> bool {
        daemons::NAMES.iter().any(|name| processes::running(&self.layout, name).is_some())
    }

    /// Imports image archives.
    pub fn load(&self, archives: &[PathBuf]) -> Result<()> {
        if !self.runs() {
            let root = self.layout.root().display();
            bail!("there is no cluster up in {root}: `cargo xtask cluster up`");
        }
        images::import(&self.layout, archives)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// The API server's audit log: one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }
}

/// Where the cluster's own `kubectl` is.
pub fn kubectl_path() -> Result<PathBuf> {
    tools::path(&catalog::KUBERNETES, "kubectl")
}

/// The cluster's own `kubectl`, or the user's where no local cluster was ever built.
pub fn kubectl_program() -> Result<PathBuf> {
    let built = kubectl_path()?;
    Ok(if built.is_file() { built } else { "kubectl".into() })
}

/// `kubectl`, talking to the cluster and to no other.
fn kubectl(layout: &Layout) -> Result<Command> {
    kubectl_for(&layout.kubeconfig())
}

/// `kubectl`, talking to the cluster that `kubeconfig` names and to no other.
pub fn kubectl_for(kubeconfig: &Path) -> Result<Command> {
    let mut kubectl = Command::new(kubectl_program()?);
    kubectl.env_remove("KUBECONFIG").arg("--kubeconfig").arg(kubeconfig);
    // What clusters offer is remembered apart from the user's own notes.
    kubectl.arg("--cache-dir").arg(folders::cache()?.join("kubectl"));
    Ok(kubectl)
}
