//! Optimised builds of the workspace's programs, all with the same flags, so that they share what is
//! compiled. Must not know what becomes of a program.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{branches, command, folders};

/// How programs are optimised: the profiles of `Cargo.toml`.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// For what is tested, and for what tests and measures.
    Tested,
    /// As it is handed out; what is measured is built like that too.
    Dist,
    /// As `rouse-shim` is handed out, and measured.
    Small,
    /// As the command line is handed out, and measured.
    CommandLine,
}

impl Profile {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tested => "tested",
            Self::Dist => "dist",
            Self::Small => "small",
            Self::CommandLine => "command-line",
        }
    }

    /// Where it is kept how often each branch of `rouse` is taken, packed, for those that are built by
    /// it.
    pub fn branches(self) -> Option<PathBuf> {
        let file = match self {
            Self::Tested | Self::Small => return None,
            Self::Dist => "rouse.profdata.gz",
            Self::CommandLine => "command-line.profdata.gz",
        };
        Some(folders::workspace().join("operator").join(file))
    }

    /// What `rouse` has in it.
    const fn features(self) -> &'static [&'static str] {
        match self {
            Self::Tested | Self::Dist | Self::Small => {
                &["--no-default-features", "--features=rouse/cluster"]
            }
            Self::CommandLine => &["--features=rouse/full"],
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
    build_with(profile, programs, None)
}

/// Builds `rouse` as images have it, but with a feature more; gives its path, where the next build
/// without the feature puts its own.
pub fn build_rouse_with(feature: &str) -> Result<PathBuf> {
    one(build_with(Profile::Dist, &[(ROUSE, ROUSE)], Some(feature))?)
}

/// The same as [`build`], with a feature of `rouse` more.
fn build_with(
    profile: Profile,
    programs: &[(&str, &str)],
    feature: Option<&str>,
) -> Result<Vec<PathBuf>> {
    let target = target()?;
    // Elsewhere there is nothing to link with that would be the program's own.
    let mut flags = if cfg!(target_os = "linux") { STATIC_FLAGS.to_owned() } else { String::new() };
    if let Some(kept) = profile.branches() {
        let branches = branches::unpack(&kept, &folders::target().join("branches"))?;
        let _ = write!(flags, " -C profile-use={} {NO_VALUES}", branches.display());
    }
    let mut cargo = cargo_build(profile, &target, &flags);
    for (package, program) in programs {
        cargo.args(["--package", package, "--bin", program]);
    }
    if programs.iter().any(|(package, _)| *package == ROUSE) {
        cargo.args(profile.features());
    }
    cargo.args(feature.map(|feature| format!("--features=rouse/{feature}")));
    command::run(&mut cargo)?;
    let folder = folder(profile, &target);
    Ok(programs.iter().map(|(_, program)| folder.join(program)).collect())
}

/// Builds `rouse` as it is handed out, but so that it counts how often each branch is taken, into
/// `counts`; gives its path, in a folder of its own.
pub fn build_counting(profile: Profile, folder: &Path, counts: &Path) -> Result<PathBuf> {
    let target = target()?;
    // Counters that may be anywhere can be in a file, where they outlive the process.
    let flags = format!(
        "{STATIC_FLAGS} -C profile-generate={} -C llvm-args=-runtime-counter-relocation {NO_VALUES}",
        counts.display()
    );
    let mut cargo = cargo_build(profile, &target, &flags);
    cargo.args(["--package", ROUSE, "--bin", ROUSE]).args(profile.features());
    cargo.arg("--target-dir").arg(folder);
    command::run(&mut cargo)?;
    Ok(folder.join(target).join(profile.as_str()).join(ROUSE))
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

/// The package of the operator, and its program.
pub const ROUSE: &str = "rouse";

/// A static program, which asks the kernel itself for random bytes: finding the C library's
/// function at run time is not possible in one. What is adjusted to its place when it is loaded is told
/// in a bit for each word instead of 24 bytes, which takes glibc 2.36 or later (2022). Code that is
/// run most by a profile lies together, and so does what is hardly run.
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs \
                            -C link-arg=-Wl,-z,keep-text-section-prefix \
                            --cfg getrandom_backend=\"linux_getrandom\"";

/// A profile has branches only: values, as sizes that are copied, can't be counted in a file, which would
/// count as cut off without them.
const NO_VALUES: &str = "-C llvm-args=-disable-vp";

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
