//! The duties of the first process of a pod: every process that ends is waited for, whoever started
//! it; the ends of those that were started here are told. Nobody else waits for processes.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::process::{ChildStderr, ChildStdout, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Nobody knows.
    Unknown,
}

impl Exit {
    fn of(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(9) => f.write_str("was killed by signal 9, as when memory is short"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::Unknown => f.write_str("ended"),
        }
    }
}

/// A process that was started, with its ends of the pipes.
#[derive(Debug)]
pub struct Child {
    /// Its id, and that of its group.
    pub pid: Pid,
    /// What it prints.
    pub stdout: Option<ChildStdout>,
    /// What it complains.
    pub stderr: Option<ChildStderr>,
}

/// Who waits for processes.
#[derive(Debug, Default)]
pub struct Reaper {
    /// Who is told of the end of those that were started here. An id that is in it is not used for
    /// another process yet.
    waiting: Mutex<HashMap<Pid, oneshot::Sender<Exit>>>,
}

impl Reaper {
    /// Starts a process; its end is told by the receiver.
    pub fn spawn(&self, command: &mut Command) -> io::Result<(Child, oneshot::Receiver<Exit>)> {
        // One that ends at once is not waited for before it is known.
        let mut waiting = self.waiting();
        #[allow(clippy::zombie_processes, reason = "all processes are waited for below")]
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let (sender, exit) = oneshot::channel();
        waiting.insert(pid, sender);
        drop(waiting);
        Ok((Child { pid, stdout: child.stdout.take(), stderr: child.stderr.take() }, exit))
    }

    /// Sends a signal to the group of a process that was started here and has not ended.
    pub fn signal(&self, pid: Pid, signal: Signal) {
        let waiting = self.waiting();
        if waiting.contains_key(&pid) {
            // It may be gone already.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Waits for processes until it is dropped.
    pub async fn run(&self) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        loop {
            self.reap();
            if children.recv().await.is_none() {
                return Ok(());
            }
        }
    }

    fn reap(&self) {
        let mut waiting = self.waiting();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(teller) = waiting.remove(&pid) {
                // Nobody may want to know.
                let _ = teller.send(Exit::of(status));
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<Exit>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
