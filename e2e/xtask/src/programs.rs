//! Optimised builds of the workspace's programs, all with the same flags, so that they share what is
//! compiled. Must not know what becomes of a program.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{command, folders};

/// How programs are optimised: the profiles of `Cargo.toml`.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// For what is tested, and for what tests and measures.
    Tested,
    /// As it is handed out; what is measured is built like that too.
    Dist,
    /// As `rouse-shim` and the command line are handed out, and measured.
    Small,
}

impl Profile {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tested => "tested",
            Self::Dist => "dist",
            Self::Small => "small",
        }
    }
}

/// Cargo in the checkout, as a person starts it. What the cargo that runs this program tells it of its own
/// package stays here: there are build scripts that look at it, and what they are for would be built
/// anew after each change between the two.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(folders::workspace());
    for (name, _) in std::env::vars_os() {
        let told =
            name.to_str().is_some_and(|name| OF_PACKAGE.iter().any(|of| name.starts_with(of)));
        if told {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// How the names of variables begin by which cargo tells a program of its package.
const OF_PACKAGE: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// Builds static programs, each told by its package and name; gives their paths in the same order.
pub fn build(profile: Profile, programs: &[(&str, &str)]) -> Result<Vec<PathBuf>> {
    let has_rouse = programs.iter().any(|(package, _)| *package == ROUSE);
    build_as(profile, programs, if has_rouse { &CLUSTER } else { &[] })
}

/// Builds `rouse` as images have it, but with a feature more; gives its path, where the next build
/// without the feature puts its own.
pub fn build_with(feature: &str) -> Result<PathBuf> {
    let more = format!("--features=rouse/{feature}");
    one(build_as(Profile::Dist, &[(ROUSE, ROUSE)], &[CLUSTER[0], CLUSTER[1], &more])?)
}

/// Builds the command line as it is handed out, with all that there is; gives its path.
pub fn build_command_line() -> Result<PathBuf> {
    one(build_as(Profile::Small, &[(ROUSE, ROUSE)], &["--features=rouse/full"])?)
}

fn build_as(
    profile: Profile,
    programs: &[(&str, &str)],
    features: &[&str],
) -> Result<Vec<PathBuf>> {
    let target = target()?;
    // Elsewhere there is nothing to link with that would be the program's own.
    let mut flags = if cfg!(target_os = "linux") { STATIC_FLAGS.to_owned() } else { String::new() };
    if matches!(profile, Profile::Dist) {
        let _ = write!(flags, " -C profile-use={}", branches().display());
    }
    let mut cargo = cargo_build(profile, &target, &flags);
    for (package, program) in programs {
        cargo.args(["--package", package, "--bin", program]);
    }
    command::run(cargo.args(features))?;
    let folder = folder(profile, &target);
    Ok(programs.iter().map(|(_, program)| folder.join(program)).collect())
}

/// Builds `rouse` as it is handed out, but so that it counts how often each branch is taken, into
/// `counts`; gives its path, in a folder of its own.
pub fn build_counting(folder: &Path, counts: &Path) -> Result<PathBuf> {
    let target = target()?;
    // Counters that may be anywhere can be in a file, where they outlive the process.
    let flags = format!(
        "{STATIC_FLAGS} -C profile-generate={} -C llvm-args=-runtime-counter-relocation",
        counts.display()
    );
    let mut cargo = cargo_build(Profile::Dist, &target, &flags);
    cargo.args(["--package", ROUSE, "--bin", "rouse"]).args(CLUSTER);
    cargo.arg("--target-dir").arg(folder);
    command::run(&mut cargo)?;
    Ok(folder.join(target).join(Profile::Dist.as_str()).join("rouse"))
}

/// Where it is kept how often each branch of `rouse` is taken, which `cargo xtask profile` writes.
pub fn branches() -> PathBuf {
    folders::workspace().join("operator/rouse.profdata")
}

fn cargo_build(profile: Profile, target: &str, flags: &str) -> Command {
    let mut cargo = cargo();
    // These would replace the flags, which make the program static.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.env(flags_variable(target), flags);
    // With an explicit target the flags don't reach build scripts and procedural macros, which
    // can't be static.
    cargo.args(["build", "--profile", profile.as_str(), "--target", target]);
    cargo
}

/// Where the static build of a program is, once it was built.
pub fn path_of(profile: Profile, program: &str) -> Result<PathBuf> {
    Ok(folder(profile, &target()?).join(program))
}

/// Where programs that are built for `target` are put.
fn folder(profile: Profile, target: &str) -> PathBuf {
    folders::target().join(target).join(profile.as_str())
}

/// Builds one static program; gives its path.
pub fn build_one(profile: Profile, package: &str, program: &str) -> Result<PathBuf> {
    one(build(profile, &[(package, program)])?)
}

fn one(built: Vec<PathBuf>) -> Result<PathBuf> {
    built.into_iter().next().context("one program was asked for")
}

/// The package of the operator, its program, and what its image has of it.
const ROUSE: &str = "rouse";
const CLUSTER: [&str; 2] = ["--no-default-features", "--features=rouse/cluster"];

/// A static program, which asks the kernel itself for random bytes: finding the C library's
/// function at run time is not possible in one. What is adjusted to its place when it is loaded is told
/// in a bit for each word instead of 24 bytes, which takes glibc 2.36 or later (2022).
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs \
                            --cfg getrandom_backend=\"linux_getrandom\"";

/// What is built for: this machine.
pub fn target() -> Result<String> {
    about_compiler("host")
}

/// What the compiler says of itself by this name.
pub fn about_compiler(name: &str) -> Result<String> {
    let told = command::output(Command::new("rustc").arg("-vV"))?;
    let found = said(&told, name).with_context(|| format!("`rustc -vV` names no {name}"))?;
    Ok(found.to_owned())
}

fn said<'a>(told: &'a str, name: &str) -> Option<&'a str> {
    told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The variable that gives a target's flags to cargo.
fn flags_variable(target: &str) -> String {
    format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_and_its_flags() {
        let told = "rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        assert_eq!(said(told, "host"), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(said(told, "LLVM version"), Some("22.1.2"));
        assert_eq!(said("rustc 1.95.0\n", "LLVM version"), None);
        let variable = flags_variable("x86_64-unknown-linux-gnu");
        assert_eq!(variable, "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS");
    }
}
