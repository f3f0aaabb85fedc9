//! The vendors' clients that the shim is tested with: installs them, with pinned versions, below the
//! cache. Must not run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, Need, PIP};
use crate::{command, digest, folders, term, whole};

/// Where the sources are, below the checkout: those of handlers, and those of which the runtimes'
/// images are made, too.
const HANDLERS: &str = "e2e/contracts";
const RUNTIMES: &str = "operator/runtimes";

/// One language.
struct Language {
    name: &'static str,
    /// Files and folders of which its build is made: a folder of those above, below it a folder, and
    /// what of it. What is not named is read by the tests.
    sources: &'static [(&'static str, &'static str, &'static [&'static str])],
    build: fn(&Path, &Path) -> Result<()>,
}

const LANGUAGES: [Language; 5] = [
    Language {
        name: "python",
        sources: &[(RUNTIMES, "python3.11", &["requirements.txt"])],
        build: python,
    },
    Language {
        name: "node",
        sources: &[(RUNTIMES, "node18", &["package.json", "package-lock.json"])],
        build: node,
    },
    Language {
        name: "go",
        sources: &[(HANDLERS, "go", &["go.mod", "go.sum", "lambda", "functions"])],
        build: go,
    },
    Language {
        name: "rust",
        sources: &[(HANDLERS, "rust", &["Cargo.toml", "Cargo.lock", "src"])],
        build: rust,
    },
    Language {
        name: "java",
        sources: &[(RUNTIMES, "java17", &["pom.xml"]), (HANDLERS, "java", &["src"])],
        build: java,
    },
];

/// What the languages need of the system.
const NEEDS: [Need; 8] = [
    PIP,
    needed("npm", "npm", || command::find("npm").is_some()),
    needed("mvn", "maven", || command::find("mvn").is_some()),
    // The client for Node.js compiles libcurl, and the library of AWS for C++.
    needed("cmake", "cmake", || command::find("cmake").is_some()),
    needed("g++", "g++", || command::find("g++").is_some()),
    needed("autoreconf", "autoconf", || command::find("autoreconf").is_some()),
    needed("automake", "automake", || command::find("automake").is_some()),
    needed("libtool", "libtool", || command::find("libtoolize").is_some()),
];

const fn needed(what: &'static str, debian: &'static str, present: fn() -> bool) -> Need {
    Need { what, why: "installs clients of vendors for the tests of contracts", debian, present }
}

/// Installs what the cache lacks, and tells a test where each language is.
pub fn tell(test: &mut Command) -> Result<()> {
    for language in &LANGUAGES {
        let variable = format!("ROUSE_CONTRACTS_{}", language.name.to_uppercase());
        test.env(variable, ensure(language)?);
    }
    Ok(())
}

/// Where the clients of a language are; installs them unless they are there.
pub fn folder(name: &str) -> Result<PathBuf> {
    let language = LANGUAGES.iter().find(|language| language.name == name);
    ensure(language.with_context(|| format!("{name} is none of the languages"))?)
}

/// A handler of Lambda in Go: the client that adds least of those that many have.
pub fn go_handler() -> Result<PathBuf> {
    Ok(folder("go")?.join("bin/lambda"))
}

fn ensure(language: &Language) -> Result<PathBuf> {
    let cache = folders::cache()?.join("contracts");
    let folder = cache.join(format!("{}-{}", language.name, stamp(language)?));
    if folder.is_dir() {
        return Ok(folder);
    }
    packages::require(&NEEDS)?;
    term::note(format!("Installing the clients for {}, once", language.name));
    let log = whole::log(&format!("contracts-{}", language.name))?;
    whole::make(&folder, |unfinished| {
        for source in language.paths() {
            let mut copy = Command::new("cp");
            command::run(copy.arg("-r").arg(source).arg(unfinished))?;
        }
        (language.build)(unfinished, &log)
            .with_context(|| format!("could not install the clients for {}", language.name))
    })?;
    Ok(folder)
}

impl Language {
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.sources.iter().flat_map(|(above, folder, names)| {
            let folder = folders::workspace().join(above).join(folder);
            names.iter().map(move |name| folder.join(name))
        })
    }
}

/// What tells this build from others: all its sources.
fn stamp(language: &Language) -> Result<String> {
    let mut all = Vec::new();
    for source in language.paths() {
        read(&source, &mut all)?;
    }
    Ok(digest::short(&all))
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

fn python(folder: &Path, log: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.current_dir(folder).args(["-m", "pip", "install", "--quiet", "--no-input"]);
    pip.args(["--require-hashes", "--only-binary=:all:"]);
    command::logged(pip.args(["--target", "site", "--requirement", "requirements.txt"]), log)
}

fn node(folder: &Path, log: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.current_dir(folder).args(["ci", "--no-audit", "--no-fund"]);
    // Headers that came with Node.js spare fetching them.
    let program = command::output(Command::new("node").args(["--print", "process.execPath"]))?;
    let prefix = Path::new(program.trim()).ancestors().nth(2).map(Path::to_owned);
    if let Some(prefix) = prefix.filter(|prefix| prefix.join("include/node/node.h").is_file()) {
        npm.arg(format!("--nodedir={}", prefix.display()));
    }
    command::logged(&mut npm, log)
}

fn go(folder: &Path, log: &Path) -> Result<()> {
    let go = || {
        let mut go = Command::new("go");
        go.current_dir(folder).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
        go
    };
    for program in ["lambda", "functions"] {
        let output = format!("bin/{program}");
        let package = format!("./{program}");
        let build = ["build", "-trimpath", "-ldflags=-s -w", "-tags=lambda.norpc", "-o"];
        command::logged(go().args(build).args([&output, &package]), log)?;
    }
    // The events that AWS's own client for Go is tested with.
    let client = "github.com/aws/aws-lambda-go";
    let module = command::output(go().args(["list", "-m", "-f", "{{.Dir}}", client]))?;
    let events = Path::new(module.trim()).join("events/testdata");
    let mut copy = Command::new("cp");
    command::run(copy.arg("-r").arg(events).arg(folder.join("events")))
}

fn rust(folder: &Path, log: &Path) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(folder).env_remove("RUSTFLAGS").env("CARGO_TARGET_DIR", "build");
    command::logged(cargo.args(["build", "--release", "--locked"]), log)?;
    fs::copy(folder.join("build/release/bootstrap"), folder.join("bootstrap"))?;
    fs::remove_dir_all(folder.join("build"))?;
    Ok(())
}

fn java(folder: &Path, log: &Path) -> Result<()> {
    let mut maven = Command::new("mvn");
    maven.current_dir(folder).args(["--batch-mode", "--quiet", "--strict-checksums", "package"]);
    let copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
    command::logged(maven.args([copy, "-DoutputDirectory=target/jars"]), log)
}
