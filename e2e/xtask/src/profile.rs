//! `cargo xtask profile`: how often each branch of `rouse` is taken while it works, kept in the workspace
//! for the optimiser. Must not decide what is built with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::hollow::Programs;
use crate::programs::{self, Profile};
use crate::{branches, command, folders, term};

/// Arguments of `cargo xtask profile`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only of the command line, with all that it can do
    #[arg(long, conflicts_with = "image")]
    command_line: bool,
    /// Only of what the image has
    #[arg(long)]
    image: bool,
}

/// What it is looked at in, by what is built: what most of its work is like.
const REQUESTS: [&str; 3] = ["proxy", "--quick", "--only=small,large,open-loop"];
const EVENTS: [&str; 2] = ["events", "--quick"];
const DEV: [&str; 2] = ["dev", "--starts=3"];

/// Runs `cargo xtask profile`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let merge = find_merge()?;
    let bench = programs::build_one(Profile::Tested, "rouse-e2e", "bench")?;
    let bench = |load: &[&str]| {
        let mut bench = Command::new(&bench);
        bench.args(load);
        bench
    };
    if !arguments.command_line {
        let counting = Counting::build(Profile::Dist)?;
        let programs = Programs::around(&counting.rouse)?.with_nginx()?.with_servers()?;
        for load in [&REQUESTS[..], &EVENTS] {
            let mut bench = bench(load);
            programs.tell(&mut bench);
            counting.look(bench);
        }
        counting.keep(&merge)?;
    }
    if !arguments.image {
        let counting = Counting::build(Profile::CommandLine)?;
        let mut bench = bench(&DEV);
        bench.env("ROUSE_BENCH_ROUSE", &counting.rouse);
        counting.look(bench);
        counting.keep(&merge)?;
    }
    Ok(())
}

/// A program that counts, and what it has counted.
struct Counting {
    rouse: PathBuf,
    counts: PathBuf,
    kept: PathBuf,
}

impl Counting {
    fn build(profile: Profile) -> Result<Self> {
        let kept = profile.branches().context("it is built by no profile")?;
        let folder = folders::target().join("profile");
        let counts = folder.join("counts");
        match std::fs::remove_dir_all(&counts) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => std::fs::create_dir_all(&counts)?,
        }
        let rouse = programs::build_counting(profile, &folder, &counts)?;
        Ok(Self { rouse, counts, kept })
    }

    /// Has it work. A program that counts reaches no bar.
    fn look(&self, mut bench: Command) {
        // A file for each process, which holds at any moment what was counted: processes are killed.
        bench.env("LLVM_PROFILE_FILE", self.counts.join("%p%c.profraw"));
        if let Err(error) = command::run(&mut bench) {
            term::note(format!("as was to be expected: {error:#}"));
        }
    }

    /// Writes what all its processes counted.
    fn keep(&self, merge: &Path) -> Result<()> {
        let files = std::fs::read_dir(&self.counts)?.map(|entry| Ok(entry?.path()));
        let files: Vec<PathBuf> = files.collect::<std::io::Result<_>>()?;
        ensure!(!files.is_empty(), "nothing was counted: see above what the benchmark says");
        let all = self.counts.with_file_name("all.profdata");
        command::run(Command::new(merge).args(["merge", "--output"]).arg(&all).args(&files))?;
        branches::keep(&all, &self.kept)?;
        term::note(format!("wrote {}", self.kept.display()));
        Ok(())
    }
}

/// The program that sums counts up: of the compiler's own LLVM, which alone is sure to read them.
fn find_merge() -> Result<PathBuf> {
    const NAME: &str = "llvm-profdata";
    let version = programs::about_compiler("LLVM version")?;
    let version = major(&version);
    let sysroot = command::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib");
    let own = libraries.join(programs::target()?).join("bin").join(NAME);
    let is_own = |path: &PathBuf| {
        let said = command::output(Command::new(path).arg("--version"));
        said.is_ok_and(|said| said.contains(&format!("version {version}.")))
    };
    let found = [Some(own), command::find(NAME)].into_iter().flatten().find(is_own);
    found.with_context(|| {
        format!("no {NAME} of LLVM {version}: get it by `rustup component add llvm-tools`")
    })
}

/// The first part of a version, by which formats change.
fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_of_a_version_is_what_matters() {
        assert_eq!(major("22.1.2"), "22");
    }
}
