//! `rouse dev`: a folder of Functions on one machine. The controller, the activator and the sources are
//! those of a cluster; their API server is in this process's memory, and their node runs processes.

mod apply;
pub mod args;
mod desk;
mod figures;
mod files;
mod news;
mod objects;
mod roles;
mod screen;
mod state;
mod yaml;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use kube::Client;
use rouse_local::api::{Addresses, Api, ApiOptions};
use rouse_local::logs::Logs;
use rouse_local::node::{Node, NodeConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::apply::Applied;
use self::args::DevArgs;
use self::desk::{Desk, Shown};
use self::files::Found;
use self::objects::{Mistake, Read, is_label};
use self::roles::Roles;
use self::screen::LogLines;
use self::state::State;
use super::{activator, controller};
use crate::args::LogFormat;
use crate::shutdown::{self, Shutdown};
use crate::telemetry;

/// Starts the log: for people, and of what goes wrong, unless something else was asked for. Gives the
/// lines that are to be shown.
pub fn log(format: LogFormat, filter: &str) -> anyhow::Result<LogLines> {
    let plain = (format, filter) == (LogFormat::Json, "info");
    let (format, filter) = if plain { (LogFormat::Text, "warn") } else { (format, filter) };
    let (writer, lines) = screen::log();
    telemetry::init_to(format, filter, writer)?;
    Ok(lines)
}

/// Runs the Functions until the process shall stop, and leaves nothing behind.
pub async fn run(args: DevArgs, log: LogLines, shutdown: Shutdown) -> anyhow::Result<()> {
    let (found, read) = read(&args)?;
    let http = roles::open_port(args.port).await?;
    let at = http.local_addr().context("asking for the port's number")?;
    let state = State::open(args.state.clone(), &args.folder)?;
    let api = Api::start(ApiOptions::default()).context("starting the API")?;
    let logs = Logs::default();
    api.set_logs(Arc::new(logs.clone()));
    let client = api.client(&args.namespace);
    // What carries the others ends after them.
    let (end, ended) = watch::channel(false);
    let mut ground = JoinSet::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("opening the API")?;
    let addresses =
        Addresses { api: listener.local_addr().context("opening the API")?, functions: at };
    let kubeconfig = state.write("kubeconfig", &api.kubeconfig(addresses, &args.namespace))?;
    let (serving, stop) = (api.clone(), stopped(ended.clone()));
    ground.spawn(async move { serving.serve(listener, stop).await.map_err(anyhow::Error::from) });
    let node = node(&client, &state, logs.clone())?;
    let runs_images = node.runs_images();
    ground.spawn(async move {
        node.run(stopped(ended)).await;
        Ok(())
    });
    let roles = Roles::prepare(&api, &state, http).await?;
    let introducing = ground.spawn(roles.introduce());
    let (lines, said) = mpsc::channel(screen::WAITING);
    let admin = roles.admin;
    let shown =
        Shown { port: at.port(), kubeconfig, runs_images, shutdown: shutdown.clone(), lines };
    let mut desk = Desk::new(Applied::new(client.clone()), args, found, shown);
    let Roles { controller, activator, ports, .. } = roles;
    let work = async {
        tokio::try_join!(
            Box::pin(controller::run_with(client.clone(), *controller, shutdown.clone())),
            Box::pin(activator::run_with(client.clone(), *activator, ports, shutdown.clone())),
        )
    };
    let all = async {
        let outcome = tokio::select! {
            done = work => done.map(drop),
            failed = desk.run(read) => failed,
            failed = screen::show(client.clone(), (&logs, admin), (said, log)) => failed,
        };
        end.send_replace(true);
        // It may wait for an activator that never came up.
        introducing.abort();
        while ground.join_next().await.is_some() {}
        outcome
    };
    tokio::select! {
        outcome = all => outcome,
        // What keeps processes ends them when nobody holds its tether.
        asked = shutdown::again(shutdown.clone()) => asked,
    }
}

/// Reads what is there in the beginning, all of which has to be right.
fn read(args: &DevArgs) -> anyhow::Result<(Found, Read)> {
    let namespace = &args.namespace;
    ensure!(is_label(namespace), "--namespace {namespace:?} is no name: {}", objects::NAME);
    let found = Found::look(&args.folder)?;
    let read = Read::of(&found, namespace, &BTreeSet::new());
    refuse(&read.mistakes)?;
    Ok((found, read))
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
