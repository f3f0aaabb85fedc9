//! `rouse dev`: a folder of Functions on one machine. The controller, the activator and the sources are
//! those of a cluster; their API server is in this process's memory, and their node runs processes.

mod apply;
pub mod args;
mod figures;
mod files;
mod news;
mod objects;
mod roles;
mod screen;
mod state;
mod yaml;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use rouse_local::api::{Addresses, Api, ApiOptions};
use rouse_local::logs::Logs;
use rouse_local::node::{Node, NodeConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use self::apply::{Applied, Change};
use self::args::DevArgs;
use self::files::Found;
use self::objects::{Kind, Mistake, Read};
use self::roles::Roles;
use self::state::State;
use super::{activator, controller};
use crate::args::LogFormat;
use crate::shutdown::Shutdown;
use crate::telemetry;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Starts the log: for people, and of what goes wrong, unless something else was asked for.
pub fn log(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let plain = (format, filter) == (LogFormat::Json, "info");
    let (format, filter) = if plain { (LogFormat::Text, "warn") } else { (format, filter) };
    telemetry::init(format, filter)
}

/// Runs the Functions until the process shall stop, and leaves nothing behind.
pub async fn run(args: DevArgs, shutdown: Shutdown) -> anyhow::Result<()> {
    let found = Found::look(&args.folder)?;
    let read = Read::of(&found, &args.namespace);
    refuse(&read.mistakes)?;
    let port = roles::check_port(args.port)?;
    let state = State::open(args.state.clone(), &args.folder)?;
    let api = Api::start(ApiOptions::default()).context("starting the API")?;
    let logs = Logs::default();
    api.set_logs(Arc::new(logs.clone()));
    let client = api.client(&args.namespace);
    // What carries the others ends after them.
    let (end, ended) = watch::channel(false);
    let mut ground = JoinSet::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("opening the API")?;
    let addresses = Addresses {
        api: listener.local_addr().context("opening the API")?,
        functions: (Ipv4Addr::LOCALHOST, port).into(),
    };
    let kubeconfig = state.write("kubeconfig", &api.kubeconfig(addresses, &args.namespace))?;
    let (serving, stop) = (api.clone(), stopped(ended.clone()));
    ground.spawn(async move { serving.serve(listener, stop).await.map_err(anyhow::Error::from) });
    let node = node(&client, &state, logs.clone())?;
    let runs_images = node.runs_images();
    ground.spawn(async move {
        node.run(stopped(ended)).await;
        Ok(())
    });
    let roles = Roles::prepare(&api, &state, port).await?;
    let introducing = ground.spawn(roles.introduce());
    let (lines, said) = mpsc::channel(screen::WAITING);
    let admin = roles.admin;
    let shown = Shown { port, kubeconfig, runs_images, shutdown: shutdown.clone(), lines };
    let mut desk = Desk { applied: Applied::new(client.clone()), args, found, shown };
    let Roles { controller, activator, .. } = roles;
    let work = async {
        tokio::try_join!(
            Box::pin(controller::run_with(client.clone(), *controller, shutdown.clone())),
            Box::pin(activator::run_with(client.clone(), *activator, shutdown.clone())),
        )
    };
    let outcome = tokio::select! {
        done = work => done.map(drop),
        failed = desk.run(read) => failed,
        failed = screen::show(client.clone(), &logs, admin, said) => failed,
    };
    end.send_replace(true);
    // It may wait for an activator that never came up.
    introducing.abort();
    while ground.join_next().await.is_some() {}
    outcome
}

fn node(client: &Client, state: &State, logs: Logs) -> anyhow::Result<Node> {
    let config = NodeConfig {
        client: client.clone(),
        program: std::env::current_exe().context("finding this program")?,
        role: super::shim::ROLE.to_owned(),
        folder: state.pods(),
        kubeconfig: state.kubeconfig(),
        path: std::env::var_os("PATH").unwrap_or_default(),
        logs,
    };
    Ok(Node::new(config))
}

async fn stopped(mut flag: watch::Receiver<bool>) {
    // Who would set it is gone: then everything is.
    drop(flag.wait_for(|stop| *stop).await);
}

/// Fails with all mistakes, one a line.
fn refuse(mistakes: &[Mistake]) -> anyhow::Result<()> {
    if mistakes.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
    bail!("nothing was started, as some files are not right:\n  {}", lines.join("\n  "))
}

/// What is told of where things are.
struct Shown {
    port: u16,
    kubeconfig: PathBuf,
    /// Whether there is what runs images.
    runs_images: bool,
    shutdown: Shutdown,
    /// To whom prints.
    lines: mpsc::Sender<String>,
}

impl Shown {
    async fn say(&self, line: impl Into<String>) {
        // Who prints is there as long as this is.
        let _ = self.lines.send(line.into()).await;
    }
}

/// Keeps the API at what the files say.
struct Desk {
    applied: Applied,
    args: DevArgs,
    found: Found,
    shown: Shown,
}

impl Desk {
    /// Applies what was read first, then what changes, until the process shall stop.
    async fn run(&mut self, read: Read) -> anyhow::Result<()> {
        for line in &read.left_out {
            self.shown.say(line.as_str()).await;
        }
        let change = self.applied.apply(read.objects).await?;
        refuse(&change.mistakes)?;
        self.applied.until_known().await;
        self.introduce().await;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = self.found.clone();
        while !*self.shown.shutdown.borrow() {
            looks.tick().await;
            let found = look(&self.args.folder).await;
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the folder can't be read");
                    continue;
                }
            };
            // Editors write in several steps: what changes is read once it no longer does.
            let settled = found == last;
            last = found;
            if settled && last != self.found {
                self.found = last.clone();
                self.reload().await?;
            }
        }
        // Who carries requests says when they are over.
        std::future::pending().await
    }

    /// Reads the files again. What is wrong stays as it was.
    async fn reload(&mut self) -> anyhow::Result<()> {
        let (found, namespace) = (self.found.clone(), self.args.namespace.clone());
        let read = tokio::task::spawn_blocking(move || Read::of(&found, &namespace)).await?;
        if !read.mistakes.is_empty() {
            for mistake in &read.mistakes {
                self.shown.say(mistake.to_string()).await;
            }
            self.shown.say("the files are not right, and all stays as it was").await;
            return Ok(());
        }
        let Change { applied, deleted, mistakes } = self.applied.apply(read.objects).await?;
        for mistake in &mistakes {
            self.shown.say(mistake.to_string()).await;
        }
        for key in applied.iter().filter(|key| key.kind != Kind::Namespace) {
            self.shown.say(format!("{key} has changed")).await;
        }
        for key in &deleted {
            self.shown.say(format!("{key} is gone")).await;
        }
        Ok(())
    }

    /// Says what there is, and how it is called.
    async fn introduce(&self) {
        let Shown { port, kubeconfig, runs_images, .. } = &self.shown;
        let all = self.applied.objects().iter();
        let functions: Vec<_> = all.filter(|(key, _)| key.kind == Kind::Function).collect();
        for (key, object) in &functions {
            let (name, namespace) = (&key.name, &key.namespace);
            // Who calls it is told what to do.
            let note =
                if *runs_images || !object.is_image() { "" } else { "  (needs podman or docker)" };
            let url = format!("http://{name}.{namespace}.localhost:{port}/");
            self.shown.say(format!("{name}  {url}{note}")).await;
        }
        if functions.is_empty() {
            let folder = self.args.folder.display();
            self.shown.say(format!("there is no Function in {folder} yet")).await;
        }
        let kubeconfig = kubeconfig.display();
        self.shown.say(format!("kubeconfig  export KUBECONFIG={kubeconfig}")).await;
        self.shown.say("they sleep until they are called; Ctrl-C ends it all").await;
    }
}

async fn look(folder: &Path) -> anyhow::Result<Found> {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || Found::look(&folder)).await?
}
