//! Stands in for scheduler, kubelet and containers: gives each pod of a Function an address of its
//! own, runs it as a task, tells of it in its status, and ends it as a kubelet does: asked first,
//! killed when its grace is over, then deleted. What a pod answers is the caller's business.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use rouse_core::function::names::{CONTAINER, LABEL_FUNCTION, LABEL_FUNCTION_UID};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::ground::Block;
use super::{Hollow, NAMESPACE};

/// Name of the only node, which is not there as an object.
const NODE: &str = "hollow";
/// Pause before a write that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Tries for each write.
const TRIES: u32 = 10;

/// A container that begins to run.
#[derive(Debug)]
pub struct Container {
    /// Name of its pod.
    pub pod: String,
    /// UID of its pod.
    pub uid: String,
    /// Name of the Function.
    pub function: String,
    /// How often it was started before.
    pub restarts: u32,
    /// What its pod says of it.
    pub spec: Spec,
    /// Its port, open.
    pub listener: TcpListener,
    /// True once it is asked to end. A container that then ends before its grace is over is not
    /// killed.
    pub stopping: watch::Receiver<bool>,
}

/// What containers do: the future is the container's process, and is dropped when it is killed.
pub type Workload = Arc<dyn Fn(Container) -> BoxFuture<'static, ()> + Send + Sync>;

/// The node. Its pods are gone with it.
pub struct Node {
    running: Running,
    release: watch::Sender<bool>,
    watching: JoinHandle<()>,
}

/// What runs, by the name of the pod.
type Running = Arc<Mutex<HashMap<String, Handle>>>;

struct Handle {
    /// Seconds of grace once it was told to go.
    stop: watch::Sender<Option<u64>>,
    crash: mpsc::Sender<()>,
    function: String,
}

impl Node {
    /// Runs the pods of all Functions but those whose name begins with `held-`, which stay pending
    /// until they are released.
    pub fn start(hollow: &Hollow, workload: Workload) -> Self {
        let running = Running::default();
        let (release, released) = watch::channel(false);
        let kubelet = Kubelet {
            pods: Api::namespaced(hollow.client.clone(), NAMESPACE),
            block: Arc::clone(&hollow.ground.block),
            workload,
            released,
        };
        let watching = tokio::spawn(follow(Arc::new(kubelet), Arc::clone(&running)));
        Self { running, release, watching }
    }

    /// Lets the pods run that were held.
    pub fn release(&self) {
        self.release.send_replace(true);
    }

    /// Names of the pods of `function` that run.
    pub fn pods(&self, function: &str) -> Vec<String> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .iter()
            .filter(|(_, handle)| handle.function == function && handle.stop.borrow().is_none())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Kills the container of a pod without a warning; it is started again in the same pod, at the
    /// same address.
    pub fn crash(&self, pod: &str) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = running.get(pod) {
            // One that is being killed already need not be killed again.
            let _ = handle.crash.try_send(());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

struct Kubelet {
    pods: Api<Pod>,
    block: Arc<Block>,
    workload: Workload,
    released: watch::Receiver<bool>,
}

/// Begins with pods that come and tells those that are to go. Owns the tasks of all pods.
async fn follow(kubelet: Arc<Kubelet>, running: Running) {
    let config = watcher::Config::default().labels(LABEL_FUNCTION_UID);
    let mut events = Box::pin(watcher(kubelet.pods.clone(), config).default_backoff());
    let mut tasks = JoinSet::new();
    loop {
        let event = events.try_next().await;
        while tasks.try_join_next().is_some() {}
        match event {
            Ok(Some(Event::Apply(pod) | Event::InitApply(pod))) => {
                see(&kubelet, &running, &mut tasks, pod);
            }
            Ok(Some(Event::Delete(pod))) => {
                let name = pod.metadata.name.unwrap_or_default();
                let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(handle) = running.remove(&name) {
                    handle.stop.send_replace(Some(0));
                }
            }
            Ok(Some(Event::Init | Event::InitDone)) | Err(_) => {}
            Ok(None) => return,
        }
    }
}

fn see(kubelet: &Arc<Kubelet>, running: &Running, tasks: &mut JoinSet<()>, pod: Pod) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let going = pod.metadata.deletion_timestamp.is_some();
    let mut all = running.lock().unwrap_or_else(PoisonError::into_inner);
    match all.get(&name) {
        Some(handle) if going => {
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
            handle.stop.send_replace(Some(u64::try_from(grace).unwrap_or_default()));
        }
        Some(_) => {}
        None if going => {
            // Nothing of it runs here.
            let kubelet = Arc::clone(kubelet);
            tasks.spawn(async move { kubelet.remove(&pod).await });
        }
        None => {
            let (stop, stopped) = watch::channel(None);
            let (crash, crashes) = mpsc::channel(1);
            let labels = pod.metadata.labels.as_ref();
            let function = labels.and_then(|labels| labels.get(LABEL_FUNCTION)).cloned();
            let function = function.unwrap_or_default();
            all.insert(name, Handle { stop, crash, function: function.clone() });
            let task = PodTask { kubelet: Arc::clone(kubelet), pod, function, stopped, crashes };
            tasks.spawn(async move {
                if let Err(error) = task.run().await {
                    eprintln!("the hollow node: {error:#}");
                }
            });
        }
    }
}

struct PodTask {
    kubelet: Arc<Kubelet>,
    pod: Pod,
    function: String,
    stopped: watch::Receiver<Option<u64>>,
    crashes: mpsc::Receiver<()>,
}

/// Why a container no longer runs.
enum End {
    /// It was told to go, and did or was killed.
    Stopped,
    /// It ended or was killed, and is to run again.
    Crashed,
}

impl PodTask {
    async fn run(mut self) -> anyhow::Result<()> {
        let held = self.function.starts_with("held-");
        let kubelet = Arc::clone(&self.kubelet);
        let mut stopped = self.stopped.clone();
        let started = async {
            kubelet.bind(&self.pod).await?;
            if held {
                // An error is the node's end.
                drop(kubelet.released.clone().wait_for(|released| *released).await);
            }
            anyhow::Ok(())
        };
        let begins = tokio::select! {
            started = started => started.map(|()| true)?,
            () = told(&mut stopped) => false,
        };
        if !begins {
            kubelet.remove(&self.pod).await;
            return Ok(());
        }
        let port = port_of(&self.pod).context("a pod of a Function has a port")?;
        let address = SocketAddr::new(IpAddr::V4(kubelet.block.pod()), port);
        let mut restarts = 0;
        while matches!(self.run_container(address, restarts).await?, End::Crashed) {
            restarts += 1;
        }
        kubelet.remove(&self.pod).await;
        Ok(())
    }

    async fn run_container(&mut self, address: SocketAddr, restarts: u32) -> anyhow::Result<End> {
        let listener = listen(address).await?;
        let (ask, stopping) = watch::channel(false);
        let container = Container {
            pod: self.pod.metadata.name.clone().unwrap_or_default(),
            uid: self.pod.metadata.uid.clone().unwrap_or_default(),
            function: self.function.clone(),
            restarts,
            spec: own(&self.pod).cloned().context("a pod of a Function has its container")?,
            listener,
            stopping,
        };
        // A task of its own: it shall not wait for what this one says to the API server.
        let mut process = AbortOnDrop(tokio::spawn((self.kubelet.workload)(container)));
        let Self { kubelet, pod, stopped, crashes, .. } = self;
        tokio::select! {
            // The status is written beside what else may happen.
            () = async {
                kubelet.say(pod, address, restarts).await;
                std::future::pending::<()>().await;
            } => {}
            _ = &mut process.0 => return Ok(End::Crashed),
            Some(()) = crashes.recv() => return Ok(End::Crashed),
            () = told(stopped) => {}
        }
        let grace = stopped.borrow().unwrap_or_default();
        ask.send_replace(true);
        // Killed when the grace is over, by the drop; one that was forced has none.
        let forced = async { drop(stopped.wait_for(|grace| *grace == Some(0)).await) };
        tokio::select! {
            _ = timeout(Duration::from_secs(grace), &mut process.0) => {}
            () = forced => {}
        }
        Ok(End::Stopped)
    }
}

/// Returns when the pod is told to go, also by the end of the node.
async fn told(stopped: &mut watch::Receiver<Option<u64>>) {
    drop(stopped.wait_for(Option::is_some).await);
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens a pod's port. After a crash the former container's task may need a moment to be gone.
async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let mut last = None;
    for _ in 0..TRIES {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
        sleep(RETRY / 4).await;
    }
    Err(last.context("never tried")?).with_context(|| format!("opening {address}"))
}

impl Kubelet {
    async fn bind(&self, pod: &Pod) -> anyhow::Result<()> {
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            return Ok(());
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        let params = PostParams::default();
        let bound = self.pods.create_subresource::<_, Value>("binding", name, &params, &binding);
        match bound.await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other.map(drop).with_context(|| format!("binding {name}")),
        }
    }

    /// Says in the pod's status that its container runs.
    async fn say(&self, pod: &Pod, address: SocketAddr, restarts: u32) {
        let ip = address.ip().to_string();
        let last = if restarts > 0 { json!({"terminated": {"exitCode": 137}}) } else { json!({}) };
        let status = json!({"status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True"},
                {"type": "ContainersReady", "status": "True"},
            ],
            "containerStatuses": [{
                "name": CONTAINER, "image": "hollow", "imageID": "", "ready": true,
                "started": true, "restartCount": restarts, "state": {"running": {}},
                "lastState": last,
            }],
        }});
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        for _ in 0..TRIES {
            let patch = Patch::Merge(&status);
            match self.pods.patch_status(name, &PatchParams::default(), &patch).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 404 => return,
                Err(error) => eprintln!("the hollow node: the status of {name}: {error}"),
            }
            sleep(RETRY).await;
        }
    }

    /// Deletes a pod whose container is gone.
    async fn remove(&self, pod: &Pod) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        for _ in 0..TRIES {
            match self.pods.delete(name, &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                Err(error) => eprintln!("the hollow node: deleting {name}: {error}"),
            }
            sleep(RETRY).await;
        }
    }
}

fn own(pod: &Pod) -> Option<&Spec> {
    pod.spec.as_ref()?.containers.iter().find(|own| own.name == CONTAINER)
}

fn port_of(pod: &Pod) -> Option<u16> {
    u16::try_from(own(pod)?.ports.as_ref()?.first()?.container_port).ok()
}
