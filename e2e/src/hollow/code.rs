//! Pods on the hollow node that are processes: the real `rouse-shim` with what the pod's template
//! says, or for an image the sample Function, behind the pod's address. Its ports are any that are
//! free; what comes to the pod's own is passed on to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Container as Spec;
use rouse_core::function::names::CONTROL_PORT;
use rouse_core::function::runtime::HANDLER;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Hollow;
use super::node::{Container, Workload};
use super::process::{BOUND, bound_command, id_of};

/// How often a program is asked whether it listens: much more often than anybody asks the pod.
const LOOK: Duration = Duration::from_millis(1);

/// The programs of pods.
#[derive(Clone, Debug)]
struct Programs {
    shim: PathBuf,
    hello: PathBuf,
}

/// Runs a process in each pod.
pub fn workload(hollow: &Hollow) -> anyhow::Result<Workload> {
    let programs = hollow.programs();
    let programs = Programs { shim: programs.get("rouse-shim")?, hello: programs.get("hello")? };
    let folder = hollow.folder().to_owned();
    Ok(Arc::new(move |container| {
        let programs = programs.clone();
        let folder = folder.join(&container.pod);
        Box::pin(async move {
            if let Err(error) = run(&programs, &folder, container).await {
                eprintln!("a pod with source: {error:#}");
            }
        })
    }))
}

async fn run(programs: &Programs, folder: &Path, container: Container) -> anyhow::Result<()> {
    let Container { spec: own, listener, mut stopping, .. } = container;
    let address = listener.local_addr()?;
    // Nobody knows the address yet, and an open port would say that the code is up.
    drop(listener);
    if !own.env.iter().flatten().any(|variable| variable.name == "ROUSE_CODE_DIGEST") {
        return run_image(&programs.hello, &own, address, stopping).await;
    }
    let mut child = start(&programs.shim, folder, &own)?;
    let output = child.stdout.take().context("the shim's output")?;
    let mut lines = BufReader::new(output).lines();
    let mut doors = JoinSet::new();
    let mut is_asked = false;
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { break };
                let said: Value = serde_json::from_str(&line).unwrap_or_default();
                for (word, port) in [("controlPort", CONTROL_PORT), ("port", address.port())] {
                    let Some(inner) = said[word].as_u64().and_then(|n| u16::try_from(n).ok()) else { continue };
                    let door = TcpListener::bind(SocketAddr::new(address.ip(), port)).await?;
                    doors.spawn(pass_on(door, inner));
                }
            }
            () = async { drop(stopping.wait_for(|stop| *stop).await) }, if !is_asked => {
                is_asked = true;
                kill_process(id_of(&child)?, Signal::TERM).context("asking the shim to end")?;
            }
        }
    }
    child.wait().await.map(drop).context("waiting for the shim's end")
}

/// The program listens at a port of its own, and the pod's opens when that does.
async fn run_image(
    hello: &Path,
    own: &Spec,
    address: SocketAddr,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
    let mut child = program(hello, own).env("PORT", free.port().to_string()).spawn()?;
    while TcpStream::connect(free).await.is_err() {
        sleep(LOOK).await;
    }
    let door = TcpListener::bind(address).await?;
    tokio::select! {
        () = pass_on(door, free.port()) => {}
        () = async { drop(stopping.wait_for(|stop| *stop).await) } => {}
    }
    child.kill().await.context("ending the program")
}

fn start(shim: &Path, folder: &Path, own: &Spec) -> anyhow::Result<Child> {
    std::fs::create_dir_all(folder)?;
    let mut command = program(shim, own);
    // As a kubelet puts it in.
    let mut named = own.env.iter().flatten().filter(|it| it.name == "ROUSE_HANDLER");
    let handler = named.find_map(|variable| variable.value.clone()).unwrap_or_default();
    let words = own.args.iter().flatten().map(|word| word.replace(HANDLER, &handler));
    // Of a container that is killed the kernel ends all processes.
    command.args(BOUND).args(words);
    command.env("ROUSE_CODE_FOLDER", folder.join("task")).env("TMPDIR", folder);
    command.env("ROUSE_CONTROL_PORT", "0").env("PORT", "0");
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

/// A program with the environment that the pod's template gives it.
fn program(path: &Path, own: &Spec) -> Command {
    let mut command = bound_command(path);
    for variable in own.env.iter().flatten() {
        command.env(&variable.name, variable.value.as_deref().unwrap_or_default());
    }
    command
}

async fn pass_on(door: TcpListener, inner: u16) {
    let mut under_way = JoinSet::new();
    while let Ok((mut outer, _)) = door.accept().await {
        under_way.spawn(async move {
            let inner = SocketAddr::from((Ipv4Addr::LOCALHOST, inner));
            if let Ok(mut inner) = TcpStream::connect(inner).await {
                // Either may close as it likes.
                drop(copy_bidirectional(&mut outer, &mut inner).await);
            }
        });
    }
}
