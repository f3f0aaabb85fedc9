//! One process of a container: this program again, as what keeps the container's own and ends it with
//! this one, however that ends. Reads what it prints.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::launch::{Launch, passed};
use crate::logs::Writer;

/// Open files that a container may have, all its processes each.
pub const MOST_FILES: u64 = 8192;
/// How long the rest of what was printed is waited for once the process is gone.
const REST: Duration = Duration::from_millis(500);

/// How the program becomes what keeps a container: its arguments before those of the container.
#[derive(Clone, Debug)]
pub struct Keeper {
    /// The program.
    pub program: PathBuf,
    /// The name of the role.
    pub role: String,
}

/// A process that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Closed by the kernel when this process ends; who keeps the container ends at that.
    tether: Option<ChildStdin>,
    pid: u32,
    readers: JoinSet<()>,
    up: watch::Receiver<bool>,
}

impl Process {
    /// Starts what `launch` says in `folder`, or where that says.
    pub fn start(
        keeper: &Keeper,
        launch: &Launch,
        (folder, log): (&Path, &Writer),
    ) -> io::Result<Self> {
        let mut command = Command::new(&keeper.program);
        command.arg(&keeper.role);
        if !launch.shim {
            command.arg("--keep");
        }
        for word in &launch.cleanup {
            command.args(["--after", word]);
        }
        command.args(["--files", &MOST_FILES.to_string(), "--"]).args(&launch.command);
        command.env_clear().envs(passed(launch.is_container())).env("TMPDIR", folder);
        command.envs(launch.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(launch.folder.as_deref().unwrap_or(folder)).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
        let (is_up, up) = watch::channel(false);
        let mut readers = JoinSet::new();
        if let Some(output) = child.stdout.take() {
            readers.spawn(read(output, log.clone(), Some(is_up)));
        }
        if let Some(output) = child.stderr.take() {
            readers.spawn(read(output, log.clone(), None));
        }
        let tether = child.stdin.take();
        Ok(Self { child, tether, pid, readers, up })
    }

    /// Its id.
    pub const fn id(&self) -> u32 {
        self.pid
    }

    /// Turns true once a shim says that it can be asked.
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    /// Waits until it has ended. May be asked again.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Has who keeps it end all of it, as if this process were gone.
    pub fn cut(&mut self) {
        drop(self.tether.take());
    }

    /// Ends it at once.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // Without an id it was waited for, and the number may be another's.
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    /// Reads the rest of what it printed, and ends what it left behind, after it has ended.
    pub async fn finish(mut self) {
        let pid = self.pid;
        // Reading what runs on this machine takes some milliseconds.
        let _ = tokio::task::spawn_blocking(move || rouse_shim::kill_left_behind(pid)).await;
        let rest = async { while self.readers.join_next().await.is_some() {} };
        let _ = timeout(REST, rest).await;
    }
}

async fn read(output: impl AsyncRead + Unpin, log: Writer, mut up: Option<watch::Sender<bool>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if up.is_some()
            && is_asked_at(&line)
            && let Some(up) = up.take()
        {
            up.send_replace(true);
        }
        log.write(&line);
    }
}

/// Whether a shim says that its control port is open.
fn is_asked_at(line: &str) -> bool {
    let said: Value = serde_json::from_str(line).unwrap_or_default();
    said.get("stream").is_some_and(|who| who == "shim") && said.get("controlPort").is_some()
}
