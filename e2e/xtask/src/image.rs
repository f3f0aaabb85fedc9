//! `cargo xtask image`: the static programs and the images that hold them.
//! Must not know how a cluster is run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::cluster::{Local, RootArgument};
use crate::oci::{self, Archive, Image};
use crate::programs::{self, Profile};
use crate::tools::{self, catalog::NATS};
use crate::{folders, term};

/// Bytes that the operator's archive may have.
const LIMIT: u64 = 20_000_000;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Arguments of `cargo xtask image`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Import the images into the local cluster, which must be up
    #[arg(long)]
    load: bool,
    #[command(flatten)]
    root: RootArgument,
}

/// A program of the workspace that gets an image.
struct Content {
    package: &'static str,
    program: &'static str,
    entry: &'static str,
    description: &'static str,
    limit: u64,
}

const OPERATOR: Content = Content {
    package: "rouse",
    program: "rouse",
    entry: "/usr/local/bin/rouse",
    description: "Functions and triggers that sleep until they are called",
    limit: LIMIT,
};

const HELLO: Content = Content {
    package: "rouse-hello",
    program: "hello",
    entry: "/usr/local/bin/hello",
    description: "The sample Function of Rouse",
    limit: LIMIT,
};

/// Runs `cargo xtask image`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let archives = build(Profile::Dist)?;
    if arguments.load {
        arguments.root.local()?.load(&archives)?;
        term::note("Imported into the local cluster.");
    }
    Ok(())
}

/// Builds all images; gives the paths of their archives.
pub fn build(profile: Profile) -> Result<Vec<PathBuf>> {
    let contents = [&OPERATOR, &HELLO];
    let named = contents.map(|content| (content.package, content.program));
    let programs = programs::build(profile, &named)?;
    let folder = folders::target().join("image");
    let mut archives = Vec::new();
    for (content, program) in contents.into_iter().zip(programs) {
        let path = folder.join(format!("{}.tar", content.program));
        let name = format!("rouse.dev/{}:v{VERSION}", content.program);
        let entry = content.entry;
        let image = Image { name, program, entry, labels: labels(content) };
        let archive = oci::write(&image, &path)?;
        check_size(content, &archive)?;
        term::result(format!("{}  {}", image.name, archive.digest));
        let megabytes = archive.size.div_ceil(100_000);
        let (whole, tenth) = (megabytes / 10, megabytes % 10);
        term::result(format!("  {}  {whole}.{tenth} MB", path.display()));
        archives.push(path);
    }
    Ok(archives)
}

/// Builds the image of a server of NATS, which tests talk to and no release has; gives the path of
/// its archive.
pub fn build_nats() -> Result<PathBuf> {
    tools::ensure(&[&NATS])?;
    let program = tools::path(&NATS, "nats-server")?;
    // In the folder of the program: another version has another folder.
    let path = program.with_file_name("image.tar");
    if !path.is_file() {
        let name = format!("rouse.dev/{}:{}", NATS.name, NATS.version);
        let image = Image { name, program, entry: "/nats-server", labels: BTreeMap::new() };
        oci::write(&image, &path)?;
    }
    Ok(path)
}

/// Imports the archives where the local cluster is meant; elsewhere says what to do.
pub fn hand_over(archives: &[PathBuf], local: Option<&Local>) -> Result<()> {
    if let Some(local) = local {
        return local.load(archives);
    }
    term::note("The images must be in your cluster already; for kind and k3d:");
    for archive in archives {
        term::note(format!("  kind load image-archive {}", archive.display()));
        term::note(format!("  k3d image import {}", archive.display()));
    }
    Ok(())
}

fn labels(content: &Content) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("org.opencontainers.image.description", content.description.to_owned()),
        ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE").to_owned()),
        ("org.opencontainers.image.title", content.program.to_owned()),
        ("org.opencontainers.image.url", env!("CARGO_PKG_REPOSITORY").to_owned()),
        ("org.opencontainers.image.version", VERSION.to_owned()),
    ])
}

fn check_size(content: &Content, archive: &Archive) -> Result<()> {
    if archive.size > content.limit {
        bail!(
            "the image of {} has {} bytes and may have {}: what made it grow?",
            content.program,
            archive.size,
            content.limit
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_big_image_is_refused() {
        let archive = |size| Archive { digest: String::new(), size };
        assert!(check_size(&OPERATOR, &archive(LIMIT)).is_ok());
        assert!(check_size(&OPERATOR, &archive(LIMIT + 1)).is_err());
    }
}
