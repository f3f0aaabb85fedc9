//! `cargo xtask profile`: how often each branch of `rouse` is taken while it carries requests, kept in
//! the workspace for the optimiser. Must not decide what is built with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::hollow::Programs;
use crate::programs::{self, Profile};
use crate::{command, folders, term};

/// The parts of `bench proxy` in which it is looked at: what most requests are like.
const LOADS: &str = "--only=small,large,open-loop";

/// Runs `cargo xtask profile`.
pub fn run() -> Result<()> {
    let merge = find_merge()?;
    let folder = folders::target().join("profile");
    let counts = folder.join("counts");
    match std::fs::remove_dir_all(&counts) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => std::fs::create_dir_all(&counts)?,
    }
    let counting = programs::build_counting(&folder, &counts)?;
    let programs = Programs::around(&counting)?.with_nginx()?;
    let mut bench = Command::new(programs::build_one(Profile::Tested, "rouse-e2e", "bench")?);
    bench.args(["proxy", "--quick", LOADS]);
    // A file for each process, which holds at any moment what was counted: processes are killed.
    bench.env("LLVM_PROFILE_FILE", counts.join("%p%c.profraw"));
    programs.tell(&mut bench);
    // A program that counts reaches no bar.
    if let Err(error) = command::run(&mut bench) {
        term::note(format!("as was to be expected: {error:#}"));
    }
    let files = std::fs::read_dir(&counts)?.map(|entry| Ok(entry?.path()));
    let files: Vec<PathBuf> = files.collect::<std::io::Result<_>>()?;
    ensure!(!files.is_empty(), "nothing was counted: see above what bench proxy says");
    let kept = programs::branches();
    command::run(
        Command::new(merge).args(["merge", "--sparse", "--output"]).arg(&kept).args(&files),
    )?;
    term::note(format!("wrote {}", kept.display()));
    Ok(())
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
