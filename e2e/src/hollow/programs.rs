//! Where the programs of a hollow run are. `cargo xtask` builds them and tells by one variable.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Names a folder with a link to each program.
const VARIABLE: &str = "ROUSE_E2E_PROGRAMS";

/// The programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The API server's store.
    pub etcd: PathBuf,
    /// The API server.
    pub api_server: PathBuf,
    /// The controllers of Deployments and `ReplicaSet`s.
    pub controller_manager: PathBuf,
    /// The release build of Rouse.
    pub rouse: PathBuf,
    folder: PathBuf,
}

impl Programs {
    /// The programs that `cargo xtask` tells of.
    pub fn from_environment() -> anyhow::Result<Self> {
        let folder = folder_from_environment()?;
        let at = |name: &str| find(&folder, name);
        Ok(Self {
            etcd: at("etcd")?,
            api_server: at("kube-apiserver")?,
            controller_manager: at("kube-controller-manager")?,
            rouse: at("rouse")?,
            folder,
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Another program of the folder.
    pub fn get(&self, name: &str) -> anyhow::Result<PathBuf> {
        find(&self.folder, name)
    }
}

/// The folder that `cargo xtask` tells of, whatever is in it.
pub fn folder_from_environment() -> anyhow::Result<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from).with_context(|| {
        format!("{VARIABLE} must name a folder with the programs; `cargo xtask` sets it")
    })
}

/// A program of the folder.
pub(super) fn find(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    anyhow::ensure!(path.is_file(), "there is no {}", path.display());
    Ok(path)
}
