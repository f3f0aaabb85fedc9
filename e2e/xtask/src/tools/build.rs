//! Builds the programs of the catalog into the cache, and shows how far it is.
//! Must not run them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::Instant;

use super::catalog::{OLDEST_GO, Recipe, Source};
use crate::{command, folders, term};

/// Builds at once: one links or downloads while the other compiles. More only fill the memory.
const BUILDS_AT_ONCE: usize = 2;
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
    let advice = format!(
        "The cluster's programs are built with Go {}.{} or newer; get it from https://go.dev/dl/ \
         and have `go` in PATH. (Or give a cluster that you have by --kubeconfig.)",
        OLDEST_GO.0, OLDEST_GO.1
    );
    let said = command::output(Command::new("go").args(["env", "GOVERSION"]))
        .map_err(|error| anyhow!("{advice}\n{error:#}"))?;
    match parse_go_version(&said) {
        Some(version) if version >= OLDEST_GO => Ok(()),
        _ => bail!("{advice}\nThis machine has {said}."),
    }
}

/// `go1.26.8` and `go1.27rc1` as (1, 26) and (1, 27).
fn parse_go_version(said: &str) -> Option<(u32, u32)> {
    let (major, rest) = said.strip_prefix("go")?.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn build_all(recipes: &[&'static Recipe], cache: &Path, minutes: f64) -> Result<()> {
    let waiting = Mutex::new(recipes.iter().copied());
    let next = || waiting.lock().ok().and_then(|mut waiting| waiting.next());
    let (sender, events) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..BUILDS_AT_ONCE.min(recipes.len()) {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some(recipe) = next() {
                    // The receiver outlives the senders: it is read until the last is gone.
                    let _ = sender.send((recipe.name, None));
                    let log = cache.join("log").join(format!("{}.log", recipe.name));
                    let outcome = build(recipe, cache, &log);
                    // After a failure nobody begins another part.
                    while outcome.is_err() && next().is_some() {}
                    let _ = sender.send((recipe.name, Some(outcome)));
                }
            });
        }
        drop(sender);
        watch(&events, minutes)
    })
}

/// A part that is begun, or how it ended.
type Event = (&'static str, Option<Result<()>>);

/// Prints what the builders do until the last is done; gives the first failure. `minutes` is the
/// estimate for all.
fn watch(events: &mpsc::Receiver<Event>, minutes: f64) -> Result<()> {
    let started = Instant::now();
    let mut running: BTreeMap<&str, Instant> = BTreeMap::new();
    let mut failure = Ok(());
    loop {
        match events.recv_timeout(PROGRESS_EVERY) {
            Ok((name, None)) => {
                running.insert(name, Instant::now());
            }
            Ok((name, Some(outcome))) => {
                let took = running.remove(name).map(|since| since.elapsed()).unwrap_or_default();
                let word = if outcome.is_ok() { "built" } else { "FAILED" };
                let (now, took) = (term::clock(started.elapsed()), term::clock(took));
                term::note(format!("  {now}  {word} {name} in {took}"));
                failure = failure.and(outcome.with_context(|| format!("could not build {name}")));
            }
            Err(RecvTimeoutError::Timeout) => {
                let names: Vec<_> = running.keys().copied().collect();
                let now = term::clock(started.elapsed());
                let names = names.join(" and ");
                term::note(format!("  {now} of about {minutes:.0}:00  building {names}"));
            }
            Err(RecvTimeoutError::Disconnected) => return failure,
        }
    }
}

/// Builds one part beside its final folder and moves it there whole, so that a folder that is
/// there is complete.
fn build(recipe: &Recipe, cache: &Path, log: &Path) -> Result<()> {
    let folder = recipe.folder(cache);
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    std::fs::create_dir_all(&unfinished)?;
    std::fs::write(log, "")?;
    let module = module_folder(recipe, &unfinished, log)?;
    let mut go = go_command(recipe, &module);
    go.args(["build", "-trimpath", "-buildvcs=false"]);
    go.arg(format!("-ldflags={}", recipe.linker_flags()));
    if !recipe.tags.is_empty() {
        go.args(["-tags", recipe.tags]);
    }
    // With a slash at its end it is a folder, and the programs have the names of their packages.
    let output = unfinished.join(if recipe.packages.is_empty() { recipe.name } else { "" });
    command::logged(go.arg("-o").arg(output).args(recipe.targets()), log).context(
        "If a module could not be fetched, check the network and the settings GOPROXY and \
         GOSUMDB, then run the same command again: what was built is kept",
    )?;
    if recipe.packages.is_empty() {
        for link in recipe.links.iter().filter(|link| **link != recipe.name) {
            std::os::unix::fs::symlink(recipe.name, unfinished.join(link))?;
        }
    }
    let throw_away = unfinished.join("module");
    if throw_away.exists() {
        std::fs::remove_dir_all(throw_away)?;
    }
    match std::fs::rename(&unfinished, &folder) {
        // Another run was quicker and built the same.
        Err(_) if folder.is_dir() => Ok(std::fs::remove_dir_all(&unfinished)?),
        outcome => Ok(outcome?),
    }
}

/// The folder to build in: the checkout's, or that of a module made to require the public one.
fn module_folder(recipe: &Recipe, unfinished: &Path, log: &Path) -> Result<PathBuf> {
    let module = match recipe.source {
        Source::Checkout(folder) => return Ok(folders::workspace().join(folder)),
        Source::Module(module) => module,
    };
    let folder = unfinished.join("module");
    std::fs::create_dir_all(&folder)?;
    let (major, minor) = OLDEST_GO;
    let text = format!("module rouse.dev/e2e/{}\n\ngo {major}.{minor}\n", recipe.name);
    std::fs::write(folder.join("go.mod"), text)?;
    let wanted = format!("{module}@{}", recipe.version);
    command::logged(go_command(recipe, &folder).args(["get", &wanted]), log)?;
    Ok(folder)
}

/// Go with the settings that make a build depend on the recipe alone.
fn go_command(recipe: &Recipe, folder: &Path) -> Command {
    let mode = match recipe.source {
        Source::Checkout(_) => "-mod=readonly",
        Source::Module(_) => "-mod=mod",
    };
    let mut go = Command::new("go");
    go.current_dir(folder)
        .env("CGO_ENABLED", if recipe.cgo { "1" } else { "0" })
        .env("GOFLAGS", mode)
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
        assert_eq!(parse_go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(parse_go_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(parse_go_version("devel"), None);
        assert!(parse_go_version("go1.9").unwrap() < OLDEST_GO);
    }
}
