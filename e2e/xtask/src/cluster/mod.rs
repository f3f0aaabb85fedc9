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

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::{Args, Subcommand};

use self::layout::Layout;
use crate::folders;
use crate::tools::{self, catalog};

/// Arguments of `cargo xtask cluster`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Folder of the cluster's state, logs and sockets [default: ~/.local/state/rouse/cluster]
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

/// Runs `cargo xtask cluster`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let layout = match &arguments.root {
        Some(root) => Layout::new(root)?,
        None => Layout::new(&folders::cluster()?)?,
    };
    match arguments.action {
        Action::Up => {
            up::up(&layout)?;
            status::describe(&layout)
        }
        Action::Down { purge } => down::down(&layout, purge),
        Action::Status => status::status(&layout),
    }
}

/// Where the cluster's own `kubectl` is.
fn kubectl_path() -> Result<PathBuf> {
    tools::path(&catalog::KUBERNETES, "kubectl")
}

/// `kubectl`, talking to the cluster and to no other.
fn kubectl(layout: &Layout) -> Result<Command> {
    let mut kubectl = Command::new(kubectl_path()?);
    kubectl.env_remove("KUBECONFIG").arg("--kubeconfig").arg(layout.kubeconfig());
    kubectl.arg("--cache-dir").arg(layout.at("run/kubectl-cache"));
    Ok(kubectl)
}
