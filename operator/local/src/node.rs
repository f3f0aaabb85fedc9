//! A kubelet in small: runs the pods of the local API as processes of this machine, tells of them in
//! their status, and ends them. Nothing that it starts outlives this process.

mod backoff;
mod ending;
mod expand;
mod launch;
mod memory;
mod place;
mod pod;
mod ports;
mod process;
mod status;
mod variables;
mod volumes;
mod writes;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use rouse_core::function::names::LABEL_FUNCTION;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::logs::Logs;
use launch::Machine;
use pod::{Kubelet, PodTask};
use process::Keeper;

pub use launch::{ANNOTATION_COMMAND, ANNOTATION_FOLDER, ANNOTATION_PACKAGES};
pub use process::MOST_FILES;
pub use status::ADDRESS;

/// Name of the only node, which is not there as an object.
pub const NODE: &str = "local";

/// How long containers have to end once this process does: nobody calls them any more.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a node must be told.
#[derive(Clone)]
pub struct NodeConfig {
    /// The API.
    pub client: Client,
    /// This program, which becomes what keeps a container by the name of a role.
    pub program: PathBuf,
    /// The name of that role.
    pub role: String,
    /// Where the folders of pods go.
    pub folder: PathBuf,
    /// The kubeconfig for pods of Rouse's own.
    pub kubeconfig: PathBuf,
    /// Where programs are looked for.
    pub path: OsString,
    /// Where lines go.
    pub logs: Logs,
}

/// The node.
pub struct Node {
    kubelet: Arc<Kubelet>,
    running: HashMap<String, Running>,
    tasks: JoinSet<String>,
    /// Pods that a list has named so far.
    listed: HashSet<String>,
}

/// A pod that runs.
#[derive(Debug)]
struct Running {
    /// The grace, once it is told to go.
    stop: watch::Sender<Option<Duration>>,
}

impl Node {
    /// One without pods.
    pub fn new(config: NodeConfig) -> Self {
        let NodeConfig { client, program, role, folder, kubeconfig, path, logs } = config;
        let machine = Machine { path, rouse: program.clone() };
        let keeper = Keeper { program, role };
        let ports = Arc::default();
        let kubelet =
            Arc::new(Kubelet { client, keeper, machine, folder, kubeconfig, logs, ports });
        let (running, listed) = (HashMap::new(), HashSet::new());
        Self { kubelet, running, tasks: JoinSet::new(), listed }
    }

    /// Whether this machine has what runs images.
    pub fn runs_images(&self) -> bool {
        self.kubelet.machine.runner().is_some()
    }

    /// Runs pods until `shutdown` is done, then ends them all.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let pods = Api::<Pod>::all(self.kubelet.client.clone());
        let mut events = Box::pin(watcher(pods, watcher::Config::default()).default_backoff());
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(event)) => self.see(event),
                    Ok(None) => break,
                    Err(error) => tracing::warn!(%error, "watching pods failed, going on"),
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Ok(uid) = ended {
                        self.running.remove(&uid);
                    }
                }
                () = &mut shutdown => break,
            }
        }
        for pod in self.running.values() {
            shorten(&pod.stop, FAREWELL);
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn see(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.take(pod);
            }
            Event::InitDone => {
                for (uid, pod) in &self.running {
                    if !self.listed.contains(uid) {
                        shorten(&pod.stop, Duration::ZERO);
                    }
                }
            }
            Event::Apply(pod) => self.take(pod),
            Event::Delete(pod) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                if let Some(running) = self.running.get(&uid) {
                    shorten(&running.stop, Duration::ZERO);
                }
            }
        }
    }

    /// Begins with a pod that is new here, and tells one that is to go.
    fn take(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if node.is_some_and(|node| node != NODE) {
            return;
        }
        let going = pod.metadata.deletion_timestamp.is_some();
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
        let grace = going.then(|| Duration::from_secs(u64::try_from(grace).unwrap_or_default()));
        if let Some(running) = self.running.get(&uid) {
            if let Some(grace) = grace {
                shorten(&running.stop, grace);
            }
            return;
        }
        let function = pod.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_FUNCTION));
        let function = function.cloned().unwrap_or_default();
        let (stop, stopped) = watch::channel(grace);
        let task = PodTask::new(&self.kubelet, pod, &function, stopped);
        self.running.insert(uid.clone(), Running { stop });
        self.tasks.spawn(async move {
            task.run().await;
            uid
        });
    }
}

/// Tells a pod to go within `grace`, unless it has less already.
fn shorten(stop: &watch::Sender<Option<Duration>>, grace: Duration) {
    stop.send_if_modified(|now| {
        let shorter = now.is_none_or(|now| grace < now);
        if shorter {
            *now = Some(grace);
        }
        shorter
    });
}
