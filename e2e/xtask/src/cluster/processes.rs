//! Starts the cluster's daemons, finds them again and ends them.
//! Must not know what they are, and never signals a process that it can't prove to be its own.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::layout::Layout;
use crate::{digest, files};

/// How long a daemon may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a process is looked at while it ends.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A program that runs as long as the cluster is up.
#[derive(Debug)]
pub struct Daemon {
    /// Name of its log and of its record.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// All its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Contents of the files that it reads at its start: another content asks for a restart.
    pub settings: String,
}

/// What a daemon is doing.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum State {
    /// It runs as it should.
    Running(Pid),
    /// It runs with other arguments or settings than it should.
    Outdated(Pid),
    /// It was never started or has ended.
    Down,
}

/// The record that is kept of a started daemon: enough to know it again.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    pid: i32,
    /// Clock ticks between the machine's start and the process's: with the number it is unique.
    started: u64,
    /// Of arguments and settings.
    digest: String,
}

impl Daemon {
    fn digest(&self) -> String {
        let told = (&self.program, &self.arguments, &self.environment, &self.settings);
        digest::short(format!("{told:?}").as_bytes())
    }

    /// Whether it runs, judged by its record.
    pub fn state(&self, layout: &Layout) -> State {
        match recorded(layout, self.name) {
            Some((pid, digest)) if digest == self.digest() => State::Running(pid),
            Some((pid, _)) => State::Outdated(pid),
            None => State::Down,
        }
    }

    /// Starts it in a session of its own, so that it outlives the terminal.
    pub fn start(&self, layout: &Layout) -> Result<()> {
        let log = File::options().create(true).append(true).open(layout.log(self.name))?;
        let child = Command::new("setsid")
            .arg(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(layout.root())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("could not start {}", self.program.display()))?;
        let pid = i32::try_from(child.id())?;
        let started = start_time(pid).with_context(|| format!("{} ended at once", self.name))?;
        let record = format!("{pid} {started} {}\n", self.digest());
        std::fs::write(record_path(layout, self.name), record)?;
        Ok(())
    }
}

/// The process of a part that was started below this root, if it still runs.
pub fn running(layout: &Layout, name: &str) -> Option<Pid> {
    recorded(layout, name).map(|(pid, _)| pid)
}

/// Ends a part: asks first, kills when it doesn't listen.
pub fn stop(layout: &Layout, name: &str) -> Result<()> {
    if let Some(pid) = running(layout, name) {
        end(pid).with_context(|| format!("could not end {name}"))?;
    }
    Ok(files::remove(&record_path(layout, name))?)
}

/// Ends all processes, of whatever program, that have `mark` as an argument. Their children, which
/// they would leave behind, are killed.
pub fn end_marked(mark: &str) -> Result<()> {
    let all = all_processes();
    let is_marked = |pid: i32| arguments(pid).iter().any(|argument| argument == mark);
    let marked: Vec<i32> = all.iter().copied().filter(|pid| is_marked(*pid)).collect();
    let is_child = |pid: i32| parent(pid).is_some_and(|parent| marked.contains(&parent));
    for pid in all.into_iter().filter(|pid| is_child(*pid)).filter_map(Pid::from_raw) {
        signal(pid, &[Signal::KILL])?;
    }
    marked.into_iter().filter_map(Pid::from_raw).try_for_each(end)
}

fn end(pid: Pid) -> Result<()> {
    signal(pid, &[Signal::TERM, Signal::KILL])
}

/// Sends one signal after the other until the process is gone.
fn signal(pid: Pid, signals: &[Signal]) -> Result<()> {
    let raw = pid.as_raw_nonzero().get();
    let Some(started) = start_time(raw) else { return Ok(()) };
    for signal in signals {
        // It may end between the look and the signal; another signal's failure shows below.
        let _ = kill_process(pid, *signal);
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if start_time(raw) != Some(started) {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    bail!("process {raw} doesn't end, not even when killed");
}

/// The recorded process if it is the very one that was started: same start time, and the root
/// folder among its arguments.
fn recorded(layout: &Layout, name: &str) -> Option<(Pid, String)> {
    let text = std::fs::read_to_string(record_path(layout, name)).ok()?;
    let record = parse_record(&text)?;
    let root = layout.root().to_string_lossy();
    let ours = start_time(record.pid) == Some(record.started)
        && arguments(record.pid).iter().any(|argument| argument.contains(&*root));
    ours.then_some((Pid::from_raw(record.pid)?, record.digest))
}

fn record_path(layout: &Layout, name: &str) -> PathBuf {
    layout.at("run").join(name)
}

fn parse_record(text: &str) -> Option<Record> {
    let mut words = text.split_whitespace();
    Some(Record {
        pid: words.next()?.parse().ok()?,
        started: words.next()?.parse().ok()?,
        digest: words.next()?.to_owned(),
    })
}

/// Start time of a process that runs; none for one that is gone or only waits to be reaped.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_start_time(&stat)
}

/// The process that started this one, or took it over.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    fields(&stat)?.nth(1)?.parse().ok()
}

/// The 22nd field, unless the third says that the process is dead.
fn parse_start_time(stat: &str) -> Option<u64> {
    let mut fields = fields(stat)?;
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The fields from the third on. The second is the program's name in parentheses and may hold
/// anything, so counting starts behind its end.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace())
}

fn all_processes() -> Vec<i32> {
    let Ok(entries) = Path::new("/proc").read_dir() else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn arguments(pid: i32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_of_living_processes_only() {
        let fields = "1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 100 200";
        assert_eq!(parse_start_time(&format!("42 (a) b) S {fields}")), Some(777));
        assert_eq!(parse_start_time(&format!("42 (sh) Z {fields}")), None);
        assert_eq!(parse_start_time(""), None);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(own).is_some());
        assert_eq!(parent(own), i32::try_from(std::os::unix::process::parent_id()).ok());
    }

    #[test]
    fn records_that_make_no_sense_are_no_records() {
        assert_eq!(parse_record("12 34"), None);
        let record = Record { pid: 12, started: 34, digest: "ab".to_owned() };
        assert_eq!(parse_record("12 34 ab\n"), Some(record));
    }

    #[test]
    fn a_daemon_is_found_again_outdated_by_other_settings_and_ended() {
        let root = std::env::temp_dir().join(format!("xtask-processes-{}", std::process::id()));
        let layout = Layout::new(&root).unwrap();
        for folder in ["run", "log"] {
            std::fs::create_dir_all(layout.at(folder)).unwrap();
        }
        let mut daemon = Daemon {
            name: "sleeper",
            program: "/usr/bin/tail".into(),
            arguments: vec!["-f".into(), layout.log("sleeper").into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            settings: String::new(),
        };
        assert_eq!(daemon.state(&layout), State::Down);
        daemon.start(&layout).unwrap();
        let state = daemon.state(&layout);
        daemon.settings = "changed".to_owned();
        let changed = daemon.state(&layout);
        stop(&layout, "sleeper").unwrap();
        let ended = daemon.state(&layout);
        std::fs::remove_dir_all(&root).unwrap();
        assert!(matches!(state, State::Running(_)), "{state:?}");
        assert!(matches!(changed, State::Outdated(_)), "{changed:?}");
        assert_eq!(ended, State::Down);
    }

    #[test]
    fn another_process_with_a_recorded_number_is_left_alone() {
        let root = std::env::temp_dir().join(format!("xtask-foreign-{}", std::process::id()));
        let layout = Layout::new(&root).unwrap();
        std::fs::create_dir_all(layout.at("run")).unwrap();
        let own = std::process::id();
        let started = start_time(i32::try_from(own).unwrap()).unwrap();
        std::fs::write(layout.at("run/etcd"), format!("{own} {started} x")).unwrap();
        let found = running(&layout, "etcd");
        stop(&layout, "etcd").unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, None);
    }
}
