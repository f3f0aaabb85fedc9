//! What languages' own tools build of sources in the checkout, once: each build is kept in the cache by
//! the digest of its sources. Must not know what is built, and must not run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, Need};
use crate::{command, digest, folders, programs, term, whole};

/// A build.
pub struct Build {
    /// A folder of the cache, and its name in there.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Files and folders of which it is made: a folder of the checkout, and what of it. They come to lie
    /// in the build as they do in that folder.
    pub sources: &'static [(&'static str, &'static [&'static str])],
    /// What it needs of the system.
    pub needs: &'static [Need],
    /// Makes the rest in a folder that has the sources, with this log.
    pub make: fn(&Path, &Path) -> Result<()>,
}

impl Build {
    /// Where it is; makes it unless it is there.
    pub fn ensure(&self) -> Result<PathBuf> {
        let folder = folders::cache()?.join(format!("{}-{}", self.name, self.stamp()?));
        if folder.is_dir() {
            return Ok(folder);
        }
        packages::require(self.needs)?;
        term::note(format!("Building {}, once", self.what));
        let log = whole::log(&self.name.replace('/', "-"))?;
        whole::make(&folder, |unfinished| {
            for (from, names) in self.sources {
                let mut copy = Command::new("cp");
                copy.current_dir(folders::workspace().join(from)).args(["-r", "--parents"]);
                command::run(copy.args(*names).arg(unfinished))?;
            }
            (self.make)(unfinished, &log).with_context(|| format!("could not build {}", self.what))
        })?;
        Ok(folder)
    }

    /// What tells this build from others: all its sources.
    fn stamp(&self) -> Result<String> {
        let mut all = Vec::new();
        for (from, names) in self.sources {
            for name in *names {
                read(&folders::workspace().join(from).join(name), &mut all)?;
            }
        }
        Ok(digest::short(&all))
    }
}

/// What all files of a folder hold, in the order of their names.
pub fn content(folder: &Path) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    read(folder, &mut all)?;
    Ok(all)
}

fn read(path: &Path, all: &mut Vec<u8>) -> Result<()> {
    if path.is_dir() {
        let mut entries = path.read_dir()?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        return entries.iter().try_for_each(|entry| read(&entry.path(), all));
    }
    let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    all.extend(content);
    Ok(())
}

/// Go for the module in a folder, for programs that need no library.
pub fn go(folder: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(folder).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    go
}

/// Builds a package of the module in a folder into the file `output` below it.
pub fn go_build(folder: &Path, package: &str, output: &str, log: &Path) -> Result<()> {
    let build = ["build", "-trimpath", "-ldflags=-s -w", "-tags=lambda.norpc", "-o"];
    command::logged(go(folder).args(build).args([output, package]), log)
}

/// Builds the program `bootstrap` of the package in a folder, with `target` for what is between, into the
/// file `output`.
pub fn cargo_build(folder: &Path, target: &Path, output: &Path, log: &Path) -> Result<()> {
    let mut cargo = programs::cargo();
    cargo.current_dir(folder).env_remove("RUSTFLAGS").env("CARGO_TARGET_DIR", target);
    command::logged(cargo.args(["build", "--release", "--locked"]), log)?;
    fs::create_dir_all(output.parent().context("a file is in a folder")?)?;
    fs::copy(target.join("release/bootstrap"), output)?;
    Ok(())
}

/// Has Maven build the project in a folder, and whatever else `goals` name.
pub fn maven(folder: &Path, goals: &[&str], log: &Path) -> Result<()> {
    let mut maven = Command::new("mvn");
    maven.current_dir(folder).args(["--batch-mode", "--quiet", "--strict-checksums", "package"]);
    command::logged(maven.args(goals), log)
}
