//! The vendors' clients that the shim is tested with: installs them, with pinned versions, below the
//! cache. Must not run them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::builds::{self, Build};
use crate::command;
use crate::packages::{JAVAC, MAVEN, Need, PIP};

/// What the client for Node.js needs of the system: it compiles libcurl, and the library of AWS for C++.
const FOR_NODE: [Need; 7] = [
    needed("python3", "python3", || command::find("python3").is_some()),
    needed("npm", "npm", || command::find("npm").is_some()),
    needed("cmake", "cmake", || command::find("cmake").is_some()),
    needed("g++", "g++", || command::find("g++").is_some()),
    needed("autoreconf", "autoconf", || command::find("autoreconf").is_some()),
    needed("automake", "automake", || command::find("automake").is_some()),
    needed("libtool", "libtool", || command::find("libtoolize").is_some()),
];

const fn needed(what: &'static str, debian: &'static str, present: fn() -> bool) -> Need {
    Need { what, why: "installs clients of vendors for the tests of contracts", debian, present }
}

/// By the names of their languages. Of `operator/runtimes` the images of runtimes are made, too. What is
/// not named of `e2e/contracts` is read by the tests.
const LANGUAGES: [(&str, Build); 5] = [
    (
        "python",
        Build {
            name: "contracts/python",
            what: "the clients for Python",
            sources: &[("operator/runtimes/python3.11", &["requirements.txt"])],
            needs: &[PIP],
            make: python,
        },
    ),
    (
        "node",
        Build {
            name: "contracts/node",
            what: "the clients for Node.js",
            sources: &[("operator/runtimes/node18", &["package.json", "package-lock.json"])],
            needs: &FOR_NODE,
            make: node,
        },
    ),
    (
        "go",
        Build {
            name: "contracts/go",
            what: "the clients for Go",
            sources: &[("e2e/contracts/go", &["go.mod", "go.sum", "lambda", "functions"])],
            needs: &[],
            make: go,
        },
    ),
    (
        "rust",
        Build {
            name: "contracts/rust",
            what: "the client for Rust",
            sources: &[("e2e/contracts/rust", &["Cargo.toml", "Cargo.lock", "src"])],
            needs: &[],
            make: rust,
        },
    ),
    (
        "java",
        Build {
            name: "contracts/java",
            what: "the client for Java",
            sources: &[
                ("operator/runtimes/java17", &["pom.xml"]),
                ("e2e/contracts/java", &["src"]),
            ],
            needs: &[MAVEN, JAVAC],
            make: java,
        },
    ),
];

/// Installs what the cache lacks, and tells a test where each language is.
pub fn tell(test: &mut Command) -> Result<()> {
    for (language, build) in &LANGUAGES {
        test.env(format!("ROUSE_CONTRACTS_{}", language.to_uppercase()), build.ensure()?);
    }
    Ok(())
}

/// Where the clients of a language are; installs them unless they are there.
pub fn folder(name: &str) -> Result<PathBuf> {
    let language = LANGUAGES.iter().find(|(language, _)| *language == name);
    language.with_context(|| format!("{name} is none of the languages"))?.1.ensure()
}

/// A handler of Lambda in Go: the client that adds least of those that many have.
pub fn go_handler() -> Result<PathBuf> {
    Ok(folder("go")?.join("bin/lambda"))
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
    for program in ["lambda", "functions"] {
        builds::go_build(folder, &format!("./{program}"), &format!("bin/{program}"), log)?;
    }
    // The events that AWS's own client for Go is tested with.
    let client = "github.com/aws/aws-lambda-go";
    let module =
        command::output(builds::go(folder).args(["list", "-m", "-f", "{{.Dir}}", client]))?;
    let events = Path::new(module.trim()).join("events/testdata");
    let mut copy = Command::new("cp");
    command::run(copy.arg("-r").arg(events).arg(folder.join("events")))
}

fn rust(folder: &Path, log: &Path) -> Result<()> {
    let target = folder.join("build");
    builds::cargo_build(folder, &target, &folder.join("bootstrap"), log)?;
    std::fs::remove_dir_all(target)?;
    Ok(())
}

fn java(folder: &Path, log: &Path) -> Result<()> {
    let copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
    builds::maven(folder, &[copy, "-DoutputDirectory=target/jars"], log)
}
