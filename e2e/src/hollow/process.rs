//! A program that runs as long as a value lives, with what the kernel knows of it. It is killed
//! when the value is dropped, and by the kernel when this process ends without that.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a program may take to end after it was asked.
const END_PATIENCE: Duration = Duration::from_mins(1);
/// Lines of its log that tell why a program ended.
const TAIL: usize = 15;

/// What comes before a command that is to end with whoever starts it, however that ends: the kernel sees
/// to it. The thread that starts it must live as long as the process, as a runtime's own threads do.
pub const BOUND: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "--"];

/// A command that ends with this process.
pub fn bound_command(program: &Path) -> Command {
    let [setpriv, arguments @ ..] = BOUND;
    let mut command = Command::new(setpriv);
    command.args(arguments).arg(program).kill_on_drop(true);
    command
}

/// The id of a process that has not been waited for.
pub fn id_of(child: &Child) -> anyhow::Result<Pid> {
    let raw = child.id().context("it has ended")?;
    Pid::from_raw(i32::try_from(raw)?).context("a process has a number")
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    pid: Pid,
}

impl Process {
    /// Starts `program` with its output in `NAME.log` of `folder`. A second of the same name goes
    /// on in the same log.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &OsStr)],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = bound_command(program);
        command.args(arguments).envs(environment.iter().copied()).current_dir(folder);
        Self::run(name, command, folder)
    }

    /// Starts a [`bound_command`], as [`Self::start`] does.
    pub fn run(name: &str, mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let pid = id_of(&child).with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), log, child, pid })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Asks it to end and waits until it did; kills one that does not listen.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        if timeout(END_PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
            bail!("{} had to be killed", self.name);
        }
        Ok(())
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("killing {}", self.name))
    }

    /// Kills it and the processes that it started, all at once, and waits until it is gone.
    pub async fn kill_all(&mut self) -> anyhow::Result<()> {
        let pid = self.pid.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let killed = self.kill().await;
        for child in children.split_whitespace() {
            let child = child.parse().ok().and_then(Pid::from_raw);
            // One that ended by itself need not be killed.
            let _ = child.map(|child| kill_process(child, Signal::KILL));
        }
        killed
    }

    /// Fails, with the end of its log, if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        bail!("{} ended ({status}):\n{}", self.name, self.tail())
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    /// What the kernel counts of it.
    pub fn figures(&self) -> anyhow::Result<Figures> {
        Figures::of(self.pid.as_raw_nonzero().get())
    }
}

/// What the kernel counts of processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Processor time since their start, in user mode and in the kernel.
    pub cpu: Duration,
    /// Memory that they hold, in bytes.
    pub resident: u64,
}

impl Figures {
    /// Those of one process.
    pub fn of(pid: i32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let ticks = ticks(&stat).context("reading a process's time")?;
        let resident = resident(&status).context("reading a process's memory")?;
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Self { cpu: Duration::from_millis(ticks * 1000 / per_second), resident })
    }

    /// Of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu.saturating_add(other.cpu), resident: self.resident + other.resident }
    }
}

/// The fields `utime` and `stime`. The name before them, in parentheses, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_read_whatever_the_program_is_called() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 1 0 777 100 200";
        assert_eq!(ticks(stat), Some(200));
        assert_eq!(resident("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12 * 1024));
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(Figures::of(own).unwrap().resident > 0);
    }
}
