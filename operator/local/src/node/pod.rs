//! The life of one pod here: it is placed, its container is started and started again, what becomes
//! of it is told, and in the end it is asked to go, killed if it must be, and deleted.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Client;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::NODE;
use super::backoff::Backoff;
use super::ending::{BY_SIGNAL, end_of};
use super::launch::{self, ANNOTATION_PACKAGES, EnvFile, Launch, Machine, Refused};
use super::memory;
use super::place::{count_ports, own_container, patch, place};
use super::ports::{Given, NoPort, Ports};
use super::process::{Keeper, Process};
use super::status::{ADDRESS, State, Story};
use super::variables::{Reader, VariableError};
use super::volumes::{self, VolumeError};
use super::writes::Writes;
use crate::logs::{Logs, Writer};

/// How long a program has until its pod's address is told though nothing listens there: who asks then
/// finds out himself, and says so.
const UNTOLD: Duration = Duration::from_millis(250);
const LOOK: Duration = Duration::from_millis(1);
/// Pause before what can't be started is looked at again: somebody may have mended it.
const MENDING: Duration = Duration::from_secs(2);
/// How often the memory of a container is looked at.
const WEIGHING: Duration = Duration::from_millis(250);
/// How long who keeps a container has to end all of it once its grace is over.
const LAST: Duration = Duration::from_secs(1);
/// How often the Secrets of a pod that reads them as files are written anew.
const REFRESH: Duration = Duration::from_secs(5);

/// What all pods here share.
pub struct Kubelet {
    pub client: Client,
    pub keeper: Keeper,
    pub machine: Machine,
    pub folder: PathBuf,
    pub kubeconfig: PathBuf,
    pub logs: Logs,
    pub ports: Arc<Ports>,
}

/// Why a container can't be started.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Variable(#[from] VariableError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Program(#[from] Refused),
    #[error("starting {0:?}: {1}")]
    Start(String, #[source] io::Error),
    #[error("writing into the folder of a pod: {0}")]
    Folder(#[source] io::Error),
}

impl Unfit {
    /// The word that kubelets have for it.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Variable(_) | Self::Volume(_) => "CreateContainerConfigError",
            Self::Program(_) | Self::Start(..) | Self::Folder(_) => "CreateContainerError",
        }
    }
}

/// How a container came to its end.
enum Outcome {
    /// By itself, or because it took too much memory.
    Ended { status: io::Result<ExitStatus>, too_large: bool },
    /// The pod was told to go, and it went.
    Stopped,
}

/// One pod.
pub struct PodTask {
    kubelet: Arc<Kubelet>,
    pod: Pod,
    namespace: String,
    name: String,
    function: String,
    writes: Writes,
    /// The grace, once it is told to go.
    stop: watch::Receiver<Option<Duration>>,
}

/// A container that was started.
struct Started {
    process: Process,
    launch: Launch,
    log: Writer,
}

impl PodTask {
    /// The task of `pod`, of that Function.
    pub fn new(
        kubelet: &Arc<Kubelet>,
        pod: Pod,
        function: &str,
        stop: watch::Receiver<Option<Duration>>,
    ) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let function = function.to_owned();
        let writes = Writes::of(&kubelet.client, &pod);
        Self { kubelet: Arc::clone(kubelet), pod, namespace, name, function, writes, stop }
    }

    /// Lives until the pod is gone.
    pub async fn run(mut self) {
        if self.stop.borrow().is_none() {
            self.live().await;
        }
        // It may never have been made.
        let _ = tokio::fs::remove_dir_all(self.folder()).await;
        self.writes.remove().await;
        self.kubelet.logs.forget(&self.namespace, &self.name);
    }

    async fn live(&mut self) {
        let Some(own) = own_container(&self.pod).cloned() else { return };
        let now = Timestamp::now();
        let mut story = Story {
            container: own.name.clone(),
            image: own.image.clone().unwrap_or_default(),
            placed: now,
            state: State::Waiting { reason: "ContainerCreating", message: String::new() },
            last: None,
            restarts: 0,
            turned: now,
        };
        // One more, for what a shim starts.
        let Ok(given) = self.kubelet.ports.take(count_ports(&own) + 1) else {
            let message = NoPort.to_string();
            story.turn(State::Waiting { reason: "CreateContainerError", message }, now);
            self.writes.say(&story).await;
            told(&mut self.stop).await;
            return;
        };
        let placed = place(&own, &given.numbers);
        self.keep(&placed, &given, story).await;
    }

    /// Starts the container again and again.
    async fn keep(&mut self, own: &Container, given: &Given, mut story: Story) {
        let mut backoff = Backoff::default();
        let mut is_placed = false;
        loop {
            let (begun, since) = (Timestamp::now(), Instant::now());
            let started = self.start(own, given, story.restarts).await;
            if !is_placed && !self.writes.place(&patch(&self.pod, own, NODE)).await {
                return;
            }
            is_placed = true;
            let pause = match started {
                Err(unfit) => {
                    let (reason, message) = (unfit.reason(), unfit.to_string());
                    story.turn(State::Waiting { reason, message }, Timestamp::now());
                    MENDING
                }
                Ok(started) => {
                    let log = started.log.clone();
                    let outcome = self.follow(started, own, &mut story).await;
                    let Outcome::Ended { status, too_large } = outcome else { return };
                    let killed = !too_large && is_killed(&status);
                    story.last = Some(end_of(status, too_large, &log, begun));
                    let pause = backoff.after(since.elapsed(), killed);
                    if pause.is_zero() {
                        story.restarts += 1;
                    } else {
                        let message = format!("it is started again in {} s", pause.as_secs());
                        let state = State::Waiting { reason: "CrashLoopBackOff", message };
                        story.turn(state, Timestamp::now());
                    }
                    pause
                }
            };
            // Where it goes on at once, who sends is told before the next process runs.
            self.writes.say(&story).await;
            if pause.is_zero() {
                continue;
            }
            if timeout(pause, told(&mut self.stop)).await.is_ok() {
                return;
            }
            if story.last.is_some() {
                story.restarts += 1;
            }
        }
    }

    async fn start(&self, own: &Container, given: &Given, restarts: u32) -> Result<Started, Unfit> {
        let folder = self.folder().join(restarts.to_string());
        let code = folder.join("task");
        std::fs::create_dir_all(&code).map_err(Unfit::Folder)?;
        let reader = Reader::new(&self.kubelet.client, &self.namespace, &self.pod, own);
        let mut variables = reader.read().await?;
        let has_code = launch::has_code(&self.pod);
        if has_code {
            let annotations = self.pod.metadata.annotations.as_ref();
            if let Some(packages) = annotations.and_then(|all| all.get(ANNOTATION_PACKAGES)) {
                // Node looks for packages in the folders above the code too.
                match symlink(packages, folder.join("node_modules")) {
                    // From the try before.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    made => made.map_err(Unfit::Folder)?,
                }
            }
            // Frameworks that ask for it would listen for everybody; what the Function says wins.
            variables.insert(0, ("HOST".to_owned(), ADDRESS.to_owned()));
        }
        let mut tell = |name: &str, value: String| variables.push((name.to_owned(), value));
        if has_code {
            tell("ROUSE_ADDRESS", ADDRESS.to_owned());
            tell("ROUSE_CODE_FOLDER", code.display().to_string());
            if let Some(port) = given.numbers.last() {
                tell("ROUSE_PROCESS_PORT", port.to_string());
            }
        }
        if self.function.is_empty() {
            let secrets = folder.join("secrets");
            volumes::write(&self.kubelet.client, &self.pod, &secrets).await?;
            tell("ROUSE_SECRETS", secrets.display().to_string());
            tell("KUBECONFIG", self.kubelet.kubeconfig.display().to_string());
        }
        let launch = launch::decide(&self.pod, own, variables, &self.kubelet.machine, &folder)?;
        self.spawn(launch, (folder, restarts))
    }

    fn spawn(&self, launch: Launch, (folder, restarts): (PathBuf, u32)) -> Result<Started, Unfit> {
        if let Some(EnvFile { file, text }) = &launch.file {
            write_secret(file, text).map_err(Unfit::Folder)?;
        }
        let log = self.kubelet.logs.begin(&self.namespace, &self.name, &self.function);
        // Its arguments may have secrets in them.
        let program = || launch.command.first().cloned().unwrap_or_default();
        let started = Process::start(&self.kubelet.keeper, &launch, (&folder, &log));
        let process = started.map_err(|error| Unfit::Start(program(), error))?;
        if let Some(before) = restarts.checked_sub(1) {
            // What the one before wrote goes with it, as in a container.
            let _ = std::fs::remove_dir_all(self.folder().join(before.to_string()));
        }
        Ok(Started { process, launch, log })
    }

    /// Follows a container to its end.
    async fn follow(&mut self, started: Started, own: &Container, story: &mut Story) -> Outcome {
        let Started { mut process, launch, log } = started;
        let most = memory::limit(own);
        let mut weighing = ticks(WEIGHING);
        let mut refresh = ticks(REFRESH);
        let reads_secrets = self.function.is_empty();
        let (up, port) = (process.up(), own.ports.iter().flatten().next());
        let port = port.and_then(|port| u16::try_from(port.container_port).ok());
        let mut addressable = std::pin::pin!(addressable(launch.shim, up, port));
        let (mut is_told, mut too_large) = (false, false);
        let outcome = loop {
            let mut stop = self.stop.clone();
            tokio::select! {
                status = process.ended() => break Outcome::Ended { status, too_large },
                () = told(&mut stop) => {
                    self.end(&mut process).await;
                    break Outcome::Stopped;
                }
                () = &mut addressable, if !is_told => {
                    is_told = true;
                    let now = Timestamp::now();
                    story.turn(State::Running(now), now);
                    self.writes.say(story).await;
                }
                _ = weighing.tick() => {
                    if !too_large && memory::held_by(process.id()) > most {
                        too_large = true;
                        log.write(&format!(
                            "the container took more than its {} MiB of memory and is ended \
                             (OOMKilled): raise spec.resources.limits.memory",
                            most >> 20
                        ));
                        process.kill();
                    }
                }
                _ = refresh.tick(), if reads_secrets => {
                    let secrets = self.folder().join(story.restarts.to_string()).join("secrets");
                    // What can't be read now is as it was.
                    drop(volumes::write(&self.kubelet.client, &self.pod, &secrets).await);
                }
            }
        };
        process.finish().await;
        if let Outcome::Ended { status: Ok(status), .. } = &outcome
            && let Some(advice) = launch.advice(status.code())
        {
            log.write(&advice);
        }
        clean_up(&launch).await;
        outcome
    }

    /// Ends a container: asks, waits for its grace, and kills.
    async fn end(&mut self, process: &mut Process) {
        process.terminate();
        loop {
            let grace = self.stop.borrow_and_update().unwrap_or_default();
            tokio::select! {
                _ = process.ended() => return,
                () = sleep(grace) => break,
                // A shorter one.
                Ok(()) = self.stop.changed() => {}
            }
        }
        // It knows what belongs to it also where no kernel tells this process.
        process.cut();
        if timeout(LAST, process.ended()).await.is_err() {
            process.kill();
            // The kernel has the last word.
            let _ = process.ended().await;
        }
    }

    fn folder(&self) -> PathBuf {
        self.kubelet.folder.join(self.pod.metadata.uid.as_deref().unwrap_or("pod"))
    }
}

/// Whether somebody ended it that it can't refuse.
fn is_killed(status: &io::Result<ExitStatus>) -> bool {
    let Ok(status) = status else { return false };
    let kill = Signal::KILL.as_raw();
    // Who keeps a program ends as shells do after it.
    status.signal() == Some(kill) || status.code() == Some(BY_SIGNAL + kill)
}

/// Returns when the pod is told to go, also by the end of the node.
async fn told(stop: &mut watch::Receiver<Option<Duration>>) {
    drop(stop.wait_for(Option::is_some).await);
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

/// Waits until the container can be asked, or for long enough.
async fn addressable(shim: bool, mut up: watch::Receiver<bool>, port: Option<u16>) {
    let asked = async {
        if shim {
            if up.wait_for(|up| *up).await.is_err() {
                // The process is gone, which is seen elsewhere.
                std::future::pending::<()>().await;
            }
        } else if let Some(port) = port {
            while TcpStream::connect((ADDRESS, port)).await.is_err() {
                sleep(LOOK).await;
            }
        }
    };
    // It is told anyway.
    let _ = timeout(UNTOLD, asked).await;
}

/// Writes a file that only the user can read.
fn write_secret(file: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?
        .write_all(text.as_bytes())
}

/// Runs what takes away the rest.
async fn clean_up(launch: &Launch) {
    let Some((program, arguments)) = launch.cleanup.split_first() else { return };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null());
    command.env_clear().envs(launch::passed(launch.is_container()));
    if let Err(error) = command.output().await {
        tracing::warn!(program, %error, "taking a container away failed");
    }
}
