//! The images that the cluster itself runs: built here, imported into its containerd.
//! Must not know how the daemons are started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::layout::Layout;
use super::settings;
use crate::oci::{self, Image};
use crate::tools::{self, catalog};
use crate::{command, folders};

/// Image of the first process of every pod.
pub const PAUSE: &str = "rouse.dev/pause:v1";
const PAUSE_SOURCE: &str = "e2e/cluster/pause.c";

/// Image of the cluster's DNS server.
pub fn coredns() -> String {
    format!("rouse.dev/coredns:{}", catalog::COREDNS_VERSION)
}

/// Writes the archives of both images, unless they are there; gives their paths.
pub fn build() -> Result<Vec<PathBuf>> {
    let dns = tools::path(&catalog::COREDNS, "coredns")?;
    // In the folder of the program: another version has another folder.
    let dns_archive = dns.with_file_name("image.tar");
    if !dns_archive.is_file() {
        write(coredns(), dns, "/coredns", &dns_archive)?;
    }
    let folder = folders::cache()?.join("pause");
    let archive = folder.join("image.tar");
    let source = folders::workspace().join(PAUSE_SOURCE);
    if !archive.is_file() || is_older(&archive, &source)? {
        std::fs::create_dir_all(&folder)?;
        let program = folder.join("pause");
        let mut compiler = Command::new("cc");
        compiler.args(["-static", "-Os", "-s", "-Wall", "-Werror", "-o"]).arg(&program).arg(source);
        command::output(&mut compiler).context("could not build the pods' first program")?;
        write(PAUSE.to_owned(), program, "/pause", &archive)?;
    }
    Ok(vec![archive, dns_archive])
}

fn write(name: String, program: PathBuf, entry: &'static str, archive: &Path) -> Result<()> {
    oci::write(&Image { name, program, entry, ..Image::default() }, archive)?;
    Ok(())
}

fn is_older(product: &Path, source: &Path) -> Result<bool> {
    Ok(product.metadata()?.modified()? < source.metadata()?.modified()?)
}

/// Imports archives into the cluster's containerd, but those that it has already.
pub fn import(layout: &Layout, archives: &[PathBuf]) -> Result<()> {
    let known = command::output(ctr(layout)?.args(["images", "list"]))?;
    for archive in archives {
        let (name, digest) = oci::identify(archive)?;
        let is_known = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == Some(&name) && words.any(|word| word == digest)
        };
        if known.lines().any(is_known) {
            continue;
        }
        let mut ctr = ctr(layout)?;
        // Containerd's own import unpacks for its default store only; ctr's for any.
        ctr.args(["images", "import", "--local", "--snapshotter", snapshotter(layout)?]);
        command::output(ctr.arg(archive))
            .with_context(|| format!("could not import {}", archive.display()))?;
    }
    Ok(())
}

/// `ctr`, talking to the cluster's containerd.
pub fn ctr(layout: &Layout) -> Result<Command> {
    let mut ctr = Command::new(tools::path(&catalog::CONTAINERD, "ctr")?);
    ctr.args(settings::ctr_arguments(layout));
    Ok(ctr)
}

/// Containerd's store of layers: overlayfs doesn't work on top of itself, which is what a
/// container's own root folder is.
pub fn snapshotter(layout: &Layout) -> Result<&'static str> {
    const OVERLAYFS: i64 = 0x794c_7630;
    let Some(existing) = layout.root().ancestors().find(|folder| folder.is_dir()) else {
        bail!("no folder above {} exists", layout.root().display());
    };
    let system = rustix::fs::statfs(existing)?;
    Ok(if system.f_type == OVERLAYFS { "native" } else { "overlayfs" })
}
