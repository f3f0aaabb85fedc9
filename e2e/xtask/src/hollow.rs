//! What a run on a control plane without nodes needs: the programs, gathered in one folder, and the
//! system packages. Must not start any of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::programs::{self, Profile};
use crate::tools::catalog;
use crate::{command, files, folders, packages, tools};

/// Names the folder of the programs to the crate `rouse-e2e`.
const VARIABLE: &str = "ROUSE_E2E_PROGRAMS";

/// The programs of a run.
#[derive(Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds and gathers what every run needs, and `rouse`.
    pub fn gather(profile: Profile) -> Result<Self> {
        Self::around(&programs::build_one(profile, "rouse", "rouse")?)
    }

    /// Gathers what samples run beside: the servers, and the program of an image that was built.
    pub fn for_samples(profile: Profile) -> Result<Self> {
        let gathered = Self::none()?.with_servers()?;
        gathered.link("pictures", &programs::path_of(profile, "pictures")?)?;
        Ok(gathered)
    }

    fn none() -> Result<Self> {
        packages::require(&[packages::SETPRIV])?;
        let gathered = Self { folder: folders::target().join("hollow") };
        std::fs::create_dir_all(&gathered.folder)?;
        Ok(gathered)
    }

    /// Gathers what every run needs around a build of `rouse`.
    pub fn around(rouse: &Path) -> Result<Self> {
        tools::ensure(&[&catalog::KUBERNETES, &catalog::ETCD])?;
        let gathered = Self::none()?;
        for (recipe, program) in [
            (&catalog::ETCD, "etcd"),
            (&catalog::KUBERNETES, "kube-apiserver"),
            (&catalog::KUBERNETES, "kube-controller-manager"),
        ] {
            gathered.link(program, &tools::path(recipe, program)?)?;
        }
        // A copy: a build while the run goes on would change it.
        gathered.copy("rouse", rouse)?;
        Ok(gathered)
    }

    /// Adds the servers whose events are brought.
    pub fn with_servers(self) -> Result<Self> {
        tools::ensure(&[&catalog::NATS, &catalog::MINIO])?;
        packages::require(&[packages::POSTGRES])?;
        self.link("nats-server", &tools::path(&catalog::NATS, "nats-server")?)?;
        self.link("minio", &tools::path(&catalog::MINIO, "minio")?)?;
        self.link("postgresql", &packages::postgres()?)?;
        Ok(self)
    }

    /// Adds the shim, and the sample Function as what code is started by.
    pub fn with_code(self, profile: Profile) -> Result<Self> {
        let named = [("rouse-shim", "rouse-shim"), ("rouse-hello", "hello")];
        for ((_, name), program) in named.iter().zip(programs::build(profile, &named)?) {
            self.copy(name, &program)?;
        }
        Ok(self)
    }

    /// Adds what is measured beside Rouse, what measures, and the build that counts allocations.
    pub fn with_yardstick(self) -> Result<Self> {
        // The build that counts allocations stands where the other stood, and was copied from.
        self.copy("rouse-counting", &programs::build_rouse_with("count-allocations")?)?;
        self.with_nginx()
    }

    /// Adds what is measured beside Rouse, and what measures.
    pub fn with_nginx(self) -> Result<Self> {
        packages::require(&[packages::NGINX, packages::WRK])?;
        self.link("nginx", &packages::nginx()?)?;
        self.link("wrk", &command::find("wrk").context("wrk is missing")?)?;
        Ok(self)
    }

    /// Tells a program of the crate `rouse-e2e` where they are.
    pub fn tell(&self, program: &mut Command) {
        program.env(VARIABLE, &self.folder);
    }

    fn link(&self, name: &str, program: &Path) -> Result<()> {
        let link = self.folder.join(name);
        files::remove(&link)?;
        Ok(std::os::unix::fs::symlink(program, link)?)
    }

    fn copy(&self, name: &str, program: &Path) -> Result<()> {
        let copy = self.folder.join(name);
        // A run that goes on keeps the file that it has.
        files::remove(&copy)?;
        std::fs::copy(program, copy)?;
        Ok(())
    }
}
