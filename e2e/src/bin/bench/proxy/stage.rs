//! What is measured: Functions with a pod each, ten thousand hosts that lead to them, and nginx with
//! the same.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use rouse_e2e::hollow::activator::{Activator, Controller};
use rouse_e2e::hollow::node::Node;
use rouse_e2e::hollow::programs::Programs;
use rouse_e2e::hollow::{HOST_SUFFIX, Hollow, PATIENCE};
use rouse_e2e::http::Caller;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use super::nginx::Nginx;
use super::upstream::Upstream;

/// Functions that the hosts lead to.
const FUNCTIONS: usize = 10;
/// Hosts in the table.
const HOSTS: usize = 10_000;
/// Hosts that a Trigger may have.
const HOSTS_OF_TRIGGER: usize = 16;
/// Hosts that a load calls, from all over the table.
const CALLED: usize = 100;
/// Objects that are applied at once.
const AT_ONCE: usize = 8;
/// Port of a Function's container.
const PORT: u16 = 8080;

/// A host and the Function that it leads to.
#[derive(Clone, Debug)]
pub struct Host {
    /// The host.
    pub name: String,
    /// Name of the Function.
    pub function: String,
}

/// All that runs. What calls is dropped before what is called.
pub struct Stage {
    /// nginx.
    pub nginx: Nginx,
    /// The pods.
    pub upstream: Upstream,
    /// Where the pod of the first Function listens, to be called without a proxy.
    pub direct: SocketAddr,
    /// Hosts that loads call.
    pub called: Vec<String>,
    /// Names of the Functions.
    pub functions: Vec<String>,
    _controller: Controller,
    /// Runs the pods.
    pub node: Node,
    /// The control plane.
    pub hollow: Hollow,
}

impl Stage {
    /// Starts everything but an activator: each measurement has its own.
    pub async fn set(programs: Programs) -> anyhow::Result<(Self, Activator)> {
        let hollow = Hollow::start(programs).await.context("starting a control plane")?;
        eprintln!("the control plane is up; its logs are in {}", hollow.folder().display());
        let upstream = Upstream::start()?;
        let node = Node::start(&hollow, upstream.workload());
        let controller = hollow.start_controller().await?;
        let activator = hollow.start_activator().await?;
        let names: Vec<String> = (0..FUNCTIONS).map(|i| format!("f{i}")).collect();
        for name in &names {
            hollow.apply_function(name, warm(&json!({}))).await?;
        }
        let hosts = hosts(&names);
        apply_triggers(&hollow, &hosts).await?;
        for name in &names {
            hollow.serving(name, 1).await?;
        }
        let pods = pods(&hollow, &names).await?;
        let (_, direct) = pods.first().cloned().context("there is a pod")?;
        let called: Vec<String> =
            hosts.iter().step_by(HOSTS / CALLED).map(|host| host.name.clone()).collect();
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let nginx = Nginx::start(&hollow, workers, &hosts, &pods).await?;
        let stage = Self {
            nginx,
            upstream,
            direct,
            called,
            _controller: controller,
            functions: names,
            node,
            hollow,
        };
        stage.reached(activator.http).await?;
        stage.reached(stage.nginx.address).await?;
        eprintln!("{HOSTS} hosts lead to {FUNCTIONS} Functions");
        Ok((stage, activator))
    }

    /// Puts a fresh process in the activator's place.
    pub async fn renew(&self, activator: &mut Activator) -> anyhow::Result<()> {
        activator.kill().await?;
        activator.restart().await?;
        activator.ready().await?;
        self.reached(activator.http).await
    }

    /// Waits until every host that loads call is answered at `target`.
    pub async fn reached(&self, target: SocketAddr) -> anyhow::Result<()> {
        answered(target, &self.called).await
    }
}

/// Waits until each of `hosts` is answered at `target`.
pub async fn answered(target: SocketAddr, hosts: &[String]) -> anyhow::Result<()> {
    let caller = Caller::new(target);
    let mut pauses = interval(Duration::from_millis(50));
    let answering = async {
        for host in hosts {
            while caller.get(host, "/").await?.status != 200 {
                pauses.tick().await;
            }
        }
        anyhow::Ok(())
    };
    let answered = timeout(PATIENCE, answering).await;
    answered.with_context(|| format!("not all hosts are answered at {target}"))?
}

/// The spec of a Function with one pod that always runs and takes what comes, with `more` in it.
pub fn warm(more: &Value) -> Value {
    let mut spec = json!({
        "image": "hollow", "port": PORT,
        "concurrency": {"target": 10_000},
        "scaling": {"min": 1, "max": 1},
        "exposure": "Public",
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}

fn hosts(functions: &[String]) -> Vec<Host> {
    (0..HOSTS)
        .map(|i| {
            // Those that are called are a hundred apart: they shall lead to all Functions.
            let function = functions[(i / HOSTS_OF_TRIGGER) % functions.len()].clone();
            Host { name: format!("h{i}.{HOST_SUFFIX}"), function }
        })
        .collect()
}

async fn apply_triggers(hollow: &Hollow, hosts: &[Host]) -> anyhow::Result<()> {
    stream::iter(hosts.chunks(HOSTS_OF_TRIGGER).enumerate())
        .map(|(i, hosts)| async move {
            let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
            let function = hosts.first().map(|host| host.function.as_str());
            let spec = json!({"function": function, "http": {"hosts": names}});
            hollow.apply_trigger(&format!("t{i}"), spec).await.map(drop)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// The Functions with the address of the pod of each.
async fn pods(hollow: &Hollow, functions: &[String]) -> anyhow::Result<Vec<(String, SocketAddr)>> {
    let mut found = Vec::new();
    for function in functions {
        found.push((function.clone(), SocketAddr::new(hollow.pod_ip(function).await?, PORT)));
    }
    Ok(found)
}
