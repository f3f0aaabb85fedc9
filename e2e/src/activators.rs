//! The activators of the cluster under test: where each is, taking one away, and killing one.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::cluster::{Cluster, NAMESPACE};
use crate::hollow::metrics::Metrics;
use crate::process::{self, Frozen};
use crate::scope::PATIENCE;
use crate::steady::{Share, Way};
use crate::wait;

/// Their label.
pub const LABEL: &str = "app.kubernetes.io/name=rouse,app.kubernetes.io/component=activator";

/// Port at which an activator tells its metrics.
const ADMIN: u16 = 9090;

/// The pods of Rouse's namespace.
pub fn pods(cluster: &Cluster) -> Api<Pod> {
    Api::namespaced(cluster.client.clone(), NAMESPACE)
}

/// Whether a pod is ready, and nobody takes it away.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Their UIDs.
pub fn uids(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect()
}

/// Whether there are two, both ready, and none with the UID `gone`.
pub fn are_two(pods: &[Pod], gone: Option<&str>) -> bool {
    pods.len() == 2
        && pods.iter().all(is_ready)
        && gone.is_none_or(|gone| !uids(pods).contains(gone))
}

/// Waits until there are two, both ready.
pub async fn two(cluster: &Cluster) -> anyhow::Result<Vec<Pod>> {
    wait::list(&pods(cluster), LABEL, PATIENCE, |pods| are_two(pods, None)).await
}

/// Where callers in the cluster reach it, past the Service.
pub fn address(pod: &Pod) -> anyhow::Result<SocketAddr> {
    let ports = pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|c| &c.ports);
    let port = ports.flatten().find(|port| port.name.as_deref() == Some("http"));
    let port = u16::try_from(port.context("an activator has a port")?.container_port)?;
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
    Ok((ip.context("an activator has an address")?.parse::<IpAddr>()?, port).into())
}

/// What one counts itself.
pub async fn metrics(pod: &Pod) -> anyhow::Result<Metrics> {
    Metrics::fetch(SocketAddr::new(address(pod)?.ip(), ADMIN)).await
}

/// Where all of them are reached.
pub fn addresses(pods: &[Pod]) -> anyhow::Result<Vec<SocketAddr>> {
    pods.iter().map(address).collect()
}

/// `connections` connections for `host` with `rate` requests a second together: every other one
/// leads to the Service, and the rest to each activator by turns.
pub fn mixed_shares(cluster: &Cluster, host: &str, connections: usize, rate: f64) -> Vec<Share> {
    #[allow(clippy::cast_precision_loss, reason = "a few dozen")]
    let every = std::time::Duration::from_secs_f64(connections as f64 / rate);
    let way = |number: usize| match number % 2 {
        0 => Way::Service(cluster.activator),
        _ => Way::Direct(number / 2),
    };
    (0..connections).map(|n| Share { way: way(n), host: host.to_owned(), every }).collect()
}

/// Takes one away as a drain of its node does: its pod is told to go.
pub async fn delete(cluster: &Cluster, pod: &Pod) -> anyhow::Result<()> {
    let name = pod.metadata.name.as_deref().context("a pod has a name")?;
    pods(cluster).delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// Kills the container of an activator, as running out of memory does; says when. The node must be
/// this machine.
pub fn kill(pod: &Pod) -> anyhow::Result<Instant> {
    let pid = process(pod)?;
    let now = Instant::now();
    kill_process(pid, Signal::KILL).context("killing an activator")?;
    Ok(now)
}

/// Has an activator stand still. The node must be this machine.
pub fn freeze(pod: &Pod) -> anyhow::Result<Frozen> {
    Frozen::freeze(process(pod)?)
}

/// The process that runs in the pod.
fn process(pod: &Pod) -> anyhow::Result<Pid> {
    let uid = pod.metadata.uid.as_deref().context("a pod has a UID")?;
    process::with_variable(&format!("POD_UID={uid}"))
}
