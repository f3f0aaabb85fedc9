//! A language process and all that comes of it: started in a group of its own, with a mark in its
//! environment by which its offspring is found again. Must not know what it speaks.

mod hunt;
mod output;
mod reaper;
mod requests;

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::process::set_child_subreaper;
use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::log::Log;
use crate::settings::OWN;

pub use hunt::kill_left_behind;
pub use output::Output;
pub use reaper::{Exit, Reaper};
pub use requests::{Request, Requests};

/// The mark of a process and its offspring.
const MARK: &str = "ROUSE_PROCESS";

/// How a process is started.
#[derive(Debug)]
pub struct Start<'a> {
    /// Program and arguments.
    pub command: &'a [String],
    /// Variables beside those of the pod.
    pub variables: Vec<(String, String)>,
    /// Where it runs.
    pub folder: &'a Path,
    /// Unique among all that this shim starts.
    pub mark: String,
}

/// A process that was started.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    mark: String,
    reaper: Arc<Reaper>,
    /// What it prints, and of which requests.
    pub output: Arc<Output>,
    exit: oneshot::Receiver<Exit>,
    ended: Option<Exit>,
}

impl Running {
    /// Starts a process.
    pub fn start(
        start: Start<'_>,
        reaper: &Arc<Reaper>,
        log: &Log,
        requests: &Arc<Requests>,
    ) -> io::Result<Self> {
        let Start { command, variables, folder, mark } = start;
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_own(name.as_encoded_bytes())) {
            command.env_remove(name);
        }
        command.envs(variables).env(MARK, &mark);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (child, exit) = reaper.spawn(&mut command)?;
        let output = Output::of(child.stdout, child.stderr, log, requests)?;
        let reaper = Arc::clone(reaper);
        Ok(Self { pid: child.pid, mark, reaper, output, exit, ended: None })
    }

    /// The process's id.
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until it ends. May be asked again.
    pub async fn ended(&mut self) -> Exit {
        if let Some(exit) = self.ended {
            return exit;
        }
        let exit = (&mut self.exit).await.unwrap_or(Exit::Unknown);
        self.ended = Some(exit);
        exit
    }

    /// Sends a signal to it and its group.
    pub fn signal(&self, signal: Signal) {
        self.reaper.signal(self.pid, signal);
    }

    /// Ends it at once, and whatever it left behind; what was printed last is still read.
    pub async fn kill(&mut self) -> Exit {
        self.signal(Signal::KILL);
        let exit = self.ended().await;
        hunt::kill_marked(&self.mark);
        self.output.finish().await;
        exit
    }

    /// Asks it to end, and ends it when `patience` is over.
    pub async fn terminate(&mut self, patience: Duration) -> Exit {
        self.signal(Signal::TERM);
        // Whether it obeyed or not, what it left behind is to go.
        let _ = timeout(patience, self.ended()).await;
        self.kill().await
    }
}

/// Makes this process the parent of those whose own is gone, where the kernel can.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    let _ = set_child_subreaper(Some(Pid::INIT));
}

/// Whether a variable is the shim's own business.
pub fn is_own(name: &[u8]) -> bool {
    name.starts_with(OWN.as_bytes())
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::KILL);
            hunt::kill_marked(&self.mark);
        }
    }
}
