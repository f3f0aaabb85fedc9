//! `cargo xtask image`: the static programs and the images that hold them.
//! Must not know how a cluster is run.

mod debian;
mod java;
mod node;
mod runtimes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use self::runtimes::RUNTIMES;
use crate::cluster::{Local, RootArgument};
use crate::oci::{self, Archive, Image};
use crate::packages::{self, POSTGRES};
use crate::programs::{self, Profile};
use crate::tools::{
    self,
    catalog::{GRPC, MINIO, NATS, Recipe},
};
use crate::{command, folders, term};

/// Bytes that the operator's archive may have.
const LIMIT: u64 = 20_000_000;
/// The server that tests talk to, whatever its version.
const POSTGRES_IMAGE: &str = "rouse.dev/postgres:test";
/// The runtime that tests run code in, and no release has.
const CODE_IMAGE: &str = "rouse.dev/code:test";
/// Entry point of the runtimes' images.
const SHIM: &str = "/usr/local/bin/rouse-shim";
const SHELL: &str = "/bin/sh";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Arguments of `cargo xtask image`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Import the images into the local cluster, which must be up
    #[arg(long)]
    load: bool,
    /// Only those that Functions given as source run in
    #[arg(long)]
    runtimes: bool,
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

const PICTURES: Content = Content {
    package: "rouse-pictures",
    program: "pictures",
    entry: "/usr/local/bin/pictures",
    description: "The Functions of the sample flow of Rouse",
    limit: LIMIT,
};

/// Runs `cargo xtask image`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut archives = Vec::new();
    if !arguments.runtimes {
        archives = build(Profile::Dist)?;
    }
    archives.extend(build_runtimes(Profile::Small)?);
    if arguments.load {
        arguments.root.local()?.load(&archives)?;
        term::note("Imported into the local cluster.");
    }
    Ok(())
}

/// Builds all images; gives the paths of their archives.
pub fn build(profile: Profile) -> Result<Vec<PathBuf>> {
    let contents = [&OPERATOR, &HELLO, &PICTURES];
    let named = contents.map(|content| (content.package, content.program));
    let programs = programs::build(profile, &named)?;
    let mut archives = Vec::new();
    for (content, program) in contents.into_iter().zip(programs) {
        let name = format!("rouse.dev/{}:v{VERSION}", content.program);
        let labels = labels(content.program, content.description);
        let image = Image { name, program, entry: content.entry, labels, ..Image::default() };
        archives.push(write(&image, content.program, content.limit)?);
    }
    Ok(archives)
}

/// Builds the images that Functions given as source run in, with the shim as `profile` makes it; gives
/// the paths of their archives.
pub fn build_runtimes(profile: Profile) -> Result<Vec<PathBuf>> {
    let shim = programs::build_one(profile, "rouse-shim", "rouse-shim")?;
    let mut archives = Vec::new();
    for runtime in &RUNTIMES {
        let title = format!("runtime-{}", runtime.name);
        let variable = |(name, value): &(&str, &str)| format!("{name}={value}");
        let image = Image {
            name: format!("rouse.dev/{title}:v{VERSION}"),
            program: shim.clone(),
            entry: SHIM,
            tree: Some(runtime.tree()?),
            variables: runtime.variables.iter().map(variable).collect(),
            labels: labels(&title, runtime.description),
            ..Image::default()
        };
        archives.push(write(&image, &title, runtime.limit)?);
    }
    Ok(archives)
}

/// Writes the archive of an image, and tells of it.
fn write(image: &Image, title: &str, limit: u64) -> Result<PathBuf> {
    let path = folders::target().join("image").join(format!("{title}.tar"));
    let archive = oci::write(image, &path)?;
    check_size(title, limit, &archive)?;
    term::result(format!("{}  {}", image.name, archive.digest));
    let megabytes = archive.size.div_ceil(100_000);
    let (whole, tenth) = (megabytes / 10, megabytes % 10);
    term::result(format!("  {}  {whole}.{tenth} MB", path.display()));
    Ok(path)
}

/// Builds the images of servers that tests talk to and no release has; gives the paths of their
/// archives.
pub fn build_servers() -> Result<Vec<PathBuf>> {
    tools::ensure(&[&NATS, &MINIO])?;
    let nats = tool(&NATS, "nats-server", "nats-server", "/nats-server")?;
    Ok(vec![nats, tool(&MINIO, "minio", "minio", "/minio")?, build_postgres()?])
}

/// Builds the image of a runtime that tests run code in: the shim, and the sample Function as what
/// code is started by. Gives the path of its archive.
pub fn build_code(profile: Profile) -> Result<PathBuf> {
    let shim = programs::build_one(profile, "rouse-shim", "rouse-shim")?;
    let hello = programs::path_of(profile, HELLO.program)?;
    let path = folders::target().join("image").join("code.tar");
    let files = BTreeMap::from([(HELLO.entry.into(), hello)]);
    let name = CODE_IMAGE.into();
    let image = Image { name, program: shim, entry: SHIM, files, ..Image::default() };
    oci::write(&image, &path)?;
    Ok(path)
}

/// Builds the images of the test programs of gRPC's own makers: a Function of one calls a Function of
/// the other. Gives the paths of their archives.
pub fn build_grpc() -> Result<Vec<PathBuf>> {
    tools::ensure(&[&GRPC])?;
    let client = tool(&GRPC, "grpc-interop-client", "client", "/client")?;
    Ok(vec![client, tool(&GRPC, "grpc-interop-server", "server", "/server")?])
}

/// The archive of the image `name` of a program of `recipe`; writes it unless it is there.
fn tool(recipe: &Recipe, name: &str, program: &str, entry: &'static str) -> Result<PathBuf> {
    let program = tools::path(recipe, program)?;
    // In the folder of the program: another version has another folder.
    let path = program.with_extension("tar");
    if !path.is_file() {
        let name = format!("rouse.dev/{name}:{}", recipe.version);
        let image = Image { name, program, entry, ..Image::default() };
        oci::write(&image, &path)?;
    }
    Ok(path)
}

/// Builds the image of a server of PostgreSQL from what is installed on this machine: its programs,
/// the libraries that they need, and a shell, by which they start one another. Tests talk to it, and
/// no release has it.
fn build_postgres() -> Result<PathBuf> {
    const LIBRARIES: [&str; 3] = ["dict_snowball.so", "pgoutput.so", "plpgsql.so"];
    packages::require(&[POSTGRES])?;
    let programs = packages::postgres()?;
    let config = |what| command::output(Command::new(programs.join("pg_config")).arg(what));
    let (version, own, shared) =
        (config("--version")?, config("--pkglibdir")?, config("--sharedir")?);
    let path = folders::cache()?.join("image").join(format!("{}.tar", version.replace(' ', "-")));
    if path.is_file() {
        return Ok(path);
    }
    let mut here: Vec<PathBuf> =
        ["initdb", "postgres", "psql"].map(|program| programs.join(program)).into();
    here.extend(LIBRARIES.map(|library| Path::new(&own).join(library)));
    let mut files = BTreeMap::new();
    for file in here.iter().map(PathBuf::as_path).chain([Path::new(SHELL)]) {
        let needs = command::output(Command::new("ldd").arg(file))?;
        files.extend(libraries(&needs).map(|path| (path.into(), path.into())));
        files.insert(file.to_owned(), file.to_owned());
    }
    gather(Path::new(&shared), &mut files)?;
    let (name, program) = (POSTGRES_IMAGE.into(), SHELL.into());
    let image = Image { name, program, entry: SHELL, files, ..Image::default() };
    oci::write(&image, &path)?;
    Ok(path)
}

/// The paths of the libraries that `ldd` tells of.
fn libraries(needs: &str) -> impl Iterator<Item = &str> {
    needs.split_whitespace().filter(|word| word.starts_with('/'))
}

fn gather(folder: &Path, files: &mut BTreeMap<PathBuf, PathBuf>) -> Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, files)?;
        } else {
            files.insert(path.clone(), path);
        }
    }
    Ok(())
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

fn labels(title: &str, description: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("org.opencontainers.image.description", description.to_owned()),
        ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE").to_owned()),
        ("org.opencontainers.image.title", title.to_owned()),
        ("org.opencontainers.image.url", env!("CARGO_PKG_REPOSITORY").to_owned()),
        ("org.opencontainers.image.version", VERSION.to_owned()),
    ])
}

fn check_size(title: &str, limit: u64, archive: &Archive) -> Result<()> {
    if archive.size > limit {
        let size = archive.size;
        bail!("the image of {title} has {size} bytes and may have {limit}: what made it grow?");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let told =
            "\tlinux-vdso.so.1 (0x1)\n\tlibz.so.1 => /lib/libz.so.1 (0x2)\n\t/lib64/ld.so (0x3)";
        assert_eq!(libraries(told).collect::<Vec<_>>(), ["/lib/libz.so.1", "/lib64/ld.so"]);
    }

    #[test]
    fn a_big_image_is_refused() {
        let archive = |size| Archive { digest: String::new(), size };
        assert!(check_size("rouse", LIMIT, &archive(LIMIT)).is_ok());
        assert!(check_size("rouse", LIMIT, &archive(LIMIT + 1)).is_err());
    }
}
