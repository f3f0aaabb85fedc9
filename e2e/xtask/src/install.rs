//! `cargo xtask install`: the command line, under the names by which it is called.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result};
use clap::Args;

use crate::programs::{self, Profile, ROUSE};
use crate::{files, term};

/// Other names: with these kubectl finds it, and has its own command line completed.
const OTHER_NAMES: [&str; 2] = ["kubectl-rouse", "kubectl_complete-rouse"];

/// Arguments of `cargo xtask install`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder that gets it; default: where `cargo install` puts programs
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

/// Builds the command line and puts it where programs are found.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = match &arguments.to {
        Some(folder) => folder.clone(),
        None => programs_of_cargo()?,
    };
    term::note("Building what is handed out, once: about 15 min on 2 idle cores");
    let built = programs::build_one(Profile::CommandLine, ROUSE, ROUSE)?;
    let at = |name: &str| folder.join(name);
    let cannot = || format!("installing in {}", folder.display());
    fs::create_dir_all(&folder).with_context(cannot)?;
    // One that runs can't be written to, but another can take its place.
    let new = at(".rouse.new");
    fs::copy(&built, &new).with_context(cannot)?;
    fs::rename(&new, at("rouse")).with_context(cannot)?;
    for name in OTHER_NAMES {
        files::remove(&at(name)).with_context(cannot)?;
        symlink("rouse", at(name)).with_context(cannot)?;
    }
    term::result(at("rouse").display());
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|other| other == folder) {
        term::note(format!(
            "{} is not on your PATH: add it, or give another by --to",
            folder.display()
        ));
    }
    Ok(())
}

fn programs_of_cargo() -> Result<PathBuf> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => env::home_dir().context("neither CARGO_HOME nor HOME is set")?.join(".cargo"),
    };
    Ok(home.join("bin"))
}
