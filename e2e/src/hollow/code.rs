//! Pods with source on the hollow node: the real `rouse-shim` with what the pod's template says, behind
//! the pod's address. Its ports are any that are free; what comes to the pod's own is passed on to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use kube::Api;
use rouse_core::function::names::{CONTAINER, CONTROL_PORT};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::task::JoinSet;

use super::node::{Container, Workload};
use super::process::bound_command;
use super::{Hollow, NAMESPACE};

/// Runs the shim in each pod.
pub fn workload(hollow: &Hollow) -> anyhow::Result<Workload> {
    let shim = hollow.programs().get("rouse-shim")?;
    let pods: Api<Pod> = Api::namespaced(hollow.client.clone(), NAMESPACE);
    let folder = hollow.folder().to_owned();
    Ok(Arc::new(move |container| {
        let (pods, shim) = (pods.clone(), shim.clone());
        let folder = folder.join(&container.pod);
        Box::pin(async move {
            if let Err(error) = run(&pods, &shim, &folder, container).await {
                eprintln!("a pod with source: {error:#}");
            }
        })
    }))
}

async fn run(
    pods: &Api<Pod>,
    shim: &std::path::Path,
    folder: &std::path::Path,
    container: Container,
) -> anyhow::Result<()> {
    let Container { pod, listener, mut stopping, .. } = container;
    let address = listener.local_addr()?;
    // Nobody knows the address yet, and an open port would say that the code is up.
    drop(listener);
    let spec = pods.get(&pod).await?.spec.context("a pod has a spec")?;
    let own = spec.containers.into_iter().find(|own| own.name == CONTAINER);
    let mut child = start(shim, folder, &own.context("a pod of a Function has its container")?)?;
    let output = child.stdout.take().context("the shim's output")?;
    let mut lines = BufReader::new(output).lines();
    let mut doors = JoinSet::new();
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
            () = async { drop(stopping.wait_for(|stop| *stop).await) } => break,
        }
    }
    child.kill().await.context("ending the shim")
}

fn start(shim: &std::path::Path, folder: &std::path::Path, own: &Spec) -> anyhow::Result<Child> {
    std::fs::create_dir_all(folder)?;
    let mut command = bound_command(shim);
    command.args(own.args.iter().flatten());
    for variable in own.env.iter().flatten() {
        command.env(&variable.name, variable.value.as_deref().unwrap_or_default());
    }
    command.env("ROUSE_CODE_FOLDER", folder.join("task")).env("TMPDIR", folder);
    command.env("ROUSE_CONTROL_PORT", "0").env("PORT", "0");
    Ok(command.stdout(Stdio::piped()).spawn()?)
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
