//! Handlers of the end-to-end tests that run compiled: builds them as their users would, into folders
//! that are deployed. Must not deploy them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::builds::{self, Build};
use crate::packages::{JAVAC, MAVEN};

/// Where the sources are, below the checkout.
const HANDLERS: &str = "e2e/handlers";
/// What is deployed, below the folder of a handler.
const OUT: &str = "out";

const GO: [(&str, &str); 3] =
    [("hello/lambda-go", "."), ("hello/functions-go", "./cmd"), ("labels/lambda-go", ".")];
const RUST: [&str; 2] = ["hello/lambda-rust", "labels/lambda-rust"];
const JAVA: [&str; 2] = ["hello/lambda-java", "labels/lambda-java"];

/// By the names of their languages.
const BUILDS: [(&str, Build); 3] = [
    (
        "GO",
        Build {
            name: "handlers/go",
            what: "the tests' handlers in Go",
            sources: &[(HANDLERS, &[GO[0].0, GO[1].0, GO[2].0])],
            needs: &[],
            make: go,
        },
    ),
    (
        "RUST",
        Build {
            name: "handlers/rust",
            what: "the tests' handlers in Rust",
            sources: &[(HANDLERS, &RUST)],
            needs: &[],
            make: rust,
        },
    ),
    (
        "JAVA",
        Build {
            name: "handlers/java",
            what: "the tests' handlers in Java",
            sources: &[(HANDLERS, &JAVA)],
            needs: &[MAVEN, JAVAC],
            make: java,
        },
    ),
];

/// Builds what the cache lacks.
pub fn build() -> Result<()> {
    BUILDS.iter().try_for_each(|(_, build)| build.ensure().map(drop))
}

/// Tells a test where those of each language are, after [`build`].
pub fn tell(test: &mut Command) -> Result<()> {
    for (language, build) in &BUILDS {
        test.env(format!("ROUSE_E2E_HANDLERS_{language}"), build.ensure()?);
    }
    Ok(())
}

fn go(folder: &Path, log: &Path) -> Result<()> {
    let output = format!("{OUT}/bootstrap");
    GO.iter().try_for_each(|(handler, package)| {
        builds::go_build(&folder.join(handler), package, &output, log)
    })
}

fn rust(folder: &Path, log: &Path) -> Result<()> {
    // They share what both are made of.
    let target = folder.join("build");
    for handler in RUST.map(|handler| folder.join(handler)) {
        builds::cargo_build(&handler, &target, &handler.join(OUT).join("bootstrap"), log)?;
    }
    fs::remove_dir_all(target)?;
    Ok(())
}

/// Their projects say themselves where what is deployed comes to lie.
fn java(folder: &Path, log: &Path) -> Result<()> {
    JAVA.iter().try_for_each(|handler| builds::maven(&folder.join(handler), &[], log))
}
