//! Builds the programs of the catalog into the cache, and shows how far it is.
//! Must not run them.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::Instant;

use super::catalog::{OLDEST_GO, Recipe};
use crate::{command, folders, term, whole};

/// How often a line tells that the build goes on.
const PROGRESS_EVERY: Duration = Duration::from_secs(20);

/// Builds whatever of `recipes` the cache lacks.
pub fn ensure(recipes: &[&'static Recipe]) -> Result<()> {
    let cache = folders::cache()?;
    let missing: Vec<_> =
        recipes.iter().copied().filter(|recipe| !recipe.folder(&cache).is_dir()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    check_go()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let minutes: f64 = missing.iter().map(|recipe| recipe.minutes(cores)).sum();
    let minutes = minutes.ceil();
    let names: Vec<_> =
        missing.iter().map(|recipe| format!("{} {}", recipe.name, recipe.version)).collect();
    term::note(format!(
        "Building from Go modules, once, about {minutes} min on {cores} idle cores: {}",
        names.join(", ")
    ));
    std::fs::create_dir_all(cache.join("log"))?;
    build_all(&missing, &cache, minutes)?;
    term::note(format!("Built all; kept in {}", cache.join("tools").display()));
    Ok(())
}

fn check_go() -> Result<()> {
    let (major, minor, patch) = OLDEST_GO;
    let advice = format!(
        "Programs of the tests and the cluster are built with Go {major}.{minor}.{patch} or newer; get it from \
         https://go.dev/dl/ and have `go` in PATH."
    );
    let said = command::output(Command::new("go").args(["env", "GOVERSION"]))
        .map_err(|error| anyhow!("{advice}\n{error:#}"))?;
    match parse_go_version(&said) {
        Some(version) if version >= OLDEST_GO => Ok(()),
        _ => bail!("{advice}\nThis machine has {said}."),
    }
}

/// `go1.26.8` and `go1.27rc1` as (1, 26, 8) and (1, 27, 0).
fn parse_go_version(said: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = said.strip_prefix("go")?.split('.').map(|number| {
        let end = number.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(number.len());
        number.get(..end).and_then(|digits| digits.parse::<u32>().ok())
    });
    Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

/// Builds one part after the other. Each keeps all cores busy, and two at once would compile
/// twice what they share.
fn build_all(recipes: &[&'static Recipe], cache: &Path, minutes: f64) -> Result<()> {
    let started = Instant::now();
    for recipe in recipes {
        let name = recipe.name;
        let (done, waiting) = mpsc::channel::<()>();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(move || {
                while waiting.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
                    let now = term::clock(started.elapsed());
                    term::note(format!("  {now} of about {minutes:.0}:00  building {name}"));
                }
            });
            let outcome = build(recipe, cache, &cache.join("log").join(format!("{name}.log")));
            // The other end sees that this one is gone and stops.
            drop(done);
            outcome
        });
        outcome.with_context(|| format!("could not build {name}"))?;
        term::note(format!("  {}  built {name}", term::clock(started.elapsed())));
    }
    Ok(())
}

/// Builds one part.
fn build(recipe: &Recipe, cache: &Path, log: &Path) -> Result<()> {
    let folder = recipe.folder(cache);
    std::fs::write(log, "")?;
    let mut go = go_command(recipe);
    go.args(["build", "-trimpath", "-buildvcs=false"]);
    go.arg(format!("-ldflags={}", recipe.linker_flags()));
    if !recipe.tags.is_empty() {
        go.args(["-tags", recipe.tags]);
    }
    whole::make(&folder, |unfinished| {
        // With a slash at its end it is a folder, and the programs have the names of their packages.
        let output = unfinished.join("");
        command::logged(go.arg("-o").arg(output).args(recipe.packages), log).context(
            "If a module could not be fetched, check the network and the settings GOPROXY and \
             GOSUMDB, then run the same command again: what was built is kept",
        )?;
        if let Some(program) = recipe.packages.first().and_then(|package| program_name(package)) {
            for link in recipe.links {
                std::os::unix::fs::symlink(program, unfinished.join(link))?;
            }
        }
        Ok(())
    })
}

/// The name that Go gives the program of a package: the last element that is no major version.
fn program_name(package: &str) -> Option<&str> {
    let is_version = |element: &&str| {
        let number = element.strip_prefix('v').unwrap_or_default();
        !number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit())
    };
    package.rsplit('/').find(|element| !is_version(element))
}

/// Go with the settings that make a build depend on the recipe alone.
fn go_command(recipe: &Recipe) -> Command {
    let mut go = Command::new("go");
    go.current_dir(folders::workspace().join(recipe.module))
        .env("CGO_ENABLED", if recipe.cgo { "1" } else { "0" })
        .env("GOFLAGS", "-mod=readonly")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off");
    for variable in ["GOOS", "GOARCH", "GOEXPERIMENT"] {
        go.env_remove(variable);
    }
    go
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions() {
        assert_eq!(parse_go_version("go1.26.8"), Some((1, 26, 8)));
        assert_eq!(parse_go_version("go1.27rc1"), Some((1, 27, 0)));
        assert_eq!(parse_go_version("devel"), None);
        assert!(parse_go_version("go1.26.5").unwrap() < OLDEST_GO);
        assert!(parse_go_version("go1.9").unwrap() < OLDEST_GO);
    }

    #[test]
    fn programs_are_named_as_go_names_them() {
        assert_eq!(program_name("./kubernetes"), Some("kubernetes"));
        assert_eq!(program_name("go.etcd.io/etcd/server/v3"), Some("server"));
    }
}
