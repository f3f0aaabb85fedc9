//! The images that Functions given as source run in: what is in each, and how it is made of packages
//! and of the vendors' clients. Must not know how an image is written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{debian, java, node};
use crate::packages::{self, PIP};
use crate::{builds, command, digest, folders, term, whole};

/// Where the sources of the images are, below the checkout.
const SOURCES: &str = "operator/runtimes";
/// Where clients lie in an image.
const CLIENTS: &str = "var/runtime";
/// Part of the stamp: changed with what this file does.
const EDITION: &str = "1";

/// The variables of an image, with their values.
pub type Variables = &'static [(&'static str, &'static str)];

/// A runtime.
pub struct Runtime {
    /// Its name in `spec.source.runtime`.
    pub name: &'static str,
    pub description: &'static str,
    /// What is set in the image.
    pub variables: Variables,
    /// Bytes that its archive may have.
    pub limit: u64,
    /// What its packages depend on and don't need where they run.
    without: &'static [&'static str],
    /// Links: from where, to what.
    links: &'static [(&'static str, &'static str)],
    /// Adds the clients.
    finish: fn(&Path, &Path) -> Result<()>,
}

const PATH: (&str, &str) = ("PATH", "/usr/local/bin:/usr/bin:/bin");
const LANGUAGE: (&str, &str) = ("LANG", "C.UTF-8");
/// Where programs may write what they write at home.
const HOME: (&str, &str) = ("HOME", "/tmp");

/// All that there are.
pub const RUNTIMES: [Runtime; 5] = [
    Runtime {
        name: "python3.11",
        description: "Python 3.11 with the clients of AWS and Google, for Functions of Rouse",
        variables: &[
            PATH,
            HOME,
            LANGUAGE,
            ("PYTHONPATH", "/var/runtime:/opt/python"),
            ("PYTHONUNBUFFERED", "1"),
        ],
        limit: 70_000_000,
        without: &["openssl", "readline-common"],
        links: &[("usr/bin/python3", "python3.11"), ("usr/bin/python", "python3.11")],
        finish: python,
    },
    Runtime {
        name: "node18",
        description: "Node.js 18 with the clients of AWS and Google, for Functions of Rouse",
        variables: &[
            PATH,
            HOME,
            LANGUAGE,
            ("NODE_PATH", "/var/runtime/node_modules:/opt/nodejs/node_modules"),
        ],
        limit: 60_000_000,
        without: &["openssl"],
        links: &[],
        finish: node::finish,
    },
    Runtime {
        name: "provided",
        description: "A C library for programs that are brought along, for Functions of Rouse",
        variables: &[PATH, HOME, LANGUAGE],
        limit: 15_000_000,
        without: &["debianutils", "openssl"],
        links: &[("usr/bin/sh", "dash")],
        finish: |_, _| Ok(()),
    },
    Runtime {
        name: "shell",
        description: "Bash and the tools of scripts, for Functions of Rouse",
        variables: &[PATH, HOME, LANGUAGE],
        limit: 30_000_000,
        without: &["debianutils", "openssl", "readline-common"],
        links: &[("usr/bin/sh", "dash"), ("usr/bin/awk", "gawk")],
        finish: shell,
    },
    Runtime {
        name: "java17",
        description: "Java 17 with the client of AWS, for Functions of Rouse",
        variables: &[
            ("PATH", "/usr/lib/jvm/java/bin:/usr/local/bin:/usr/bin:/bin"),
            HOME,
            LANGUAGE,
            ("JAVA_HOME", "/usr/lib/jvm/java"),
        ],
        limit: 110_000_000,
        without: java::WITHOUT,
        links: &[],
        finish: java::finish,
    },
];

impl Runtime {
    /// Its tree of files in the cache, made unless it is there.
    pub fn tree(&self) -> Result<PathBuf> {
        let sources = sources(self.name);
        let list = fs::read_to_string(sources.join("packages.txt"))?;
        let names: Vec<&str> = list.split_whitespace().collect();
        let packages = debian::closure(&names, self.without)?;
        let mut stamp = format!("{EDITION} {packages:?} {:?}", self.links).into_bytes();
        stamp.extend(builds::content(&sources)?);
        let name = format!("{}-{}", self.name, digest::short(&stamp));
        let tree = folders::cache()?.join("runtimes").join(name);
        if tree.is_dir() {
            return Ok(tree);
        }
        term::note(format!("Making the runtime {} of {} packages", self.name, packages.len()));
        let log = whole::log(&format!("runtime-{}", self.name))?;
        whole::make(&tree, |root| {
            debian::extract(&packages, root, &log)?;
            self.furnish(root)?;
            (self.finish)(root, &log)
                .with_context(|| format!("adding the clients of {}", self.name))
        })?;
        Ok(tree)
    }

    /// What scripts of packages would do, and the folders of the code and of the clients.
    fn furnish(&self, root: &Path) -> Result<()> {
        debian::trust(root)?;
        for (path, target) in self.links {
            let path = root.join(path);
            if !path.is_symlink() {
                symlink(target, path)?;
            }
        }
        fs::create_dir_all(root.join(CLIENTS))?;
        // Of whoever the pod's processes are: Functions choose their user.
        let code = root.join("var/task");
        fs::create_dir_all(&code)?;
        fs::set_permissions(&code, fs::Permissions::from_mode(0o1777))?;
        Ok(())
    }
}

fn sources(runtime: &str) -> PathBuf {
    folders::workspace().join(SOURCES).join(runtime)
}

/// Installs the clients for Python for the image's own Python, whatever this machine's is, and
/// compiles all that is imported: the image's user could not write it down.
fn python(root: &Path, log: &Path) -> Result<()> {
    packages::require(&[PIP])?;
    let clients = root.join(CLIENTS);
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--no-compile", "--no-deps"]);
    pip.args(["--require-hashes", "--only-binary=:all:", "--implementation=cp"]);
    pip.args(["--python-version=3.11", "--abi=cp311", "--abi=abi3", "--abi=none"]);
    for tag in ["manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34"] {
        pip.arg(format!("--platform={tag}_{}", std::env::consts::ARCH));
    }
    pip.arg("--target").arg(&clients).arg("--requirement");
    command::logged(pip.arg(sources("python3.11").join("requirements.txt")), log)?;
    // Programs that begin with the path of this machine's Python, and the digests of them.
    let programs = clients.join("bin");
    if programs.exists() {
        fs::remove_dir_all(programs)?;
    }
    for entry in clients.read_dir()? {
        let record = entry?.path().join("RECORD");
        if record.exists() {
            fs::remove_file(record)?;
        }
    }
    for folder in ["usr/lib/python3.11", CLIENTS] {
        let mut compile = own_program(root, "usr/bin/python3.11")?;
        compile.env("PYTHONHOME", root.join("usr")).env("PYTHONHASHSEED", "0");
        compile.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]);
        compile.arg("-s").arg(root).args(["-p", "/"]).arg(root.join(folder));
        command::logged(&mut compile, log)?;
    }
    Ok(())
}

/// A program of the tree, run with the libraries that are there.
fn own_program(root: &Path, program: &str) -> Result<Command> {
    let libraries = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let is_loader = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux-"))
    };
    let mut files = libraries.read_dir()?.flatten().map(|entry| entry.path());
    let loader = files.find(is_loader).context("the tree has no C library")?;
    let mut own = Command::new(loader);
    own.arg("--library-path").arg(libraries).arg(root.join(program));
    Ok(own)
}

fn shell(root: &Path, _: &Path) -> Result<()> {
    fs::copy(sources("shell").join("bootstrap"), root.join(CLIENTS).join("bootstrap"))?;
    Ok(())
}
