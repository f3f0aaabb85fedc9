//! Keeps a task for each pod that prints, forgets what Functions leave, and stands between the keeper
//! before and the one after.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use rouse_core::function::names::LABEL_FUNCTION;
use rouse_core::resident::Resident;
use rouse_crds::v1alpha1::Function;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::follow::{Means, follow};
use crate::heir::{dismiss, take_over};
use crate::metrics::Metrics;
use crate::pods::{other_keeper, printing};
use crate::serve::Desk;
use crate::store::Store;

/// Seconds for which one watch call lasts. A connection that died without a word is noticed that
/// long after.
const WATCH_SECONDS: u32 = 60;
/// How long a keeper that is to go waits for the next one, which has to be scheduled and started.
const PATIENCE: Duration = Duration::from_secs(40);
/// Pause between two looks at whether a next one is to be expected.
const LOOK: Duration = Duration::from_secs(1);

/// A keeper, and what it is given.
pub struct Keeper {
    /// A client that may list and watch pods and Functions of the namespace.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// UID of the own pod.
    pub uid: Arc<str>,
    /// Where lines are kept.
    pub store: Store,
    /// Where to count.
    pub metrics: Metrics,
    /// Turns true when what the keeper before had was taken over, and all pods are followed.
    pub ready: watch::Sender<bool>,
}

/// Where a keeper is asked.
pub struct Listeners {
    /// By people, who come by way of the API server.
    pub people: TcpListener,
    /// By the next keeper. It is at the same port as that of the one before.
    pub heir: TcpListener,
}

impl Keeper {
    /// Keeps lines until `shutdown` turns true, and then until another keeper has them or none comes.
    pub async fn run(self, listeners: Listeners, shutdown: watch::Receiver<bool>) {
        let Self { client, namespace, uid, store, metrics, ready } = self;
        let store = Arc::new(store);
        let (taken, is_taken) = watch::channel(false);
        let desk = Desk { store: Arc::clone(&store), uid: Arc::clone(&uid), taken };
        let (leaving, over) = watch::channel(false);
        let (people, heir) = (desk.clone(), desk);
        let answer_people = move |request| people.clone().answer(request);
        let answer_heir = move |request| heir.clone().hand_over(request);
        let port = listeners.heir.local_addr().map(|address| address.port()).unwrap_or_default();
        let others = Others { client: client.clone(), namespace: namespace.clone(), uid, port };
        let work = async {
            let leave = until_taken(&others, &store, shutdown, is_taken);
            let following = Following::new(Arc::clone(&store), metrics);
            following.run(&others, &ready, leave).await;
            leaving.send_replace(true);
        };
        tokio::join!(
            work,
            rouse_listen::serve(listeners.people, answer_people, over.clone()),
            rouse_listen::serve(listeners.heir, answer_heir, over),
        );
    }
}

/// The other keepers of the namespace: one that goes, or one that comes.
struct Others {
    client: Client,
    namespace: String,
    /// UID of the own pod.
    uid: Arc<str>,
    /// Where they are asked.
    port: u16,
}

impl Others {
    async fn all(&self) -> Vec<(SocketAddr, String)> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = pods.list(&ListParams::default().labels(Resident::Keeper.selector())).await;
        let found = list.inspect_err(|error| tracing::warn!(%error, "listing other keepers"));
        let pods = found.map(|list| list.items).unwrap_or_default();
        let others = pods.iter().filter_map(|pod| other_keeper(pod, &self.uid));
        others.map(|(ip, uid)| (SocketAddr::new(ip, self.port), uid)).collect()
    }

    /// Takes over what they have. One that is gone meanwhile took it along.
    async fn take_over(&self, store: &Arc<Store>) {
        for (address, uid) in self.all().await {
            if let Err(error) = take_over(store, (address, &uid)).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, uid, "what another keeper has could not be taken over");
            }
        }
    }

    /// Tells them that they may go.
    async fn dismiss(&self) {
        for (address, uid) in self.all().await {
            if let Err(error) = dismiss(address, &uid).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, uid, "another keeper could not be told that it may go");
            }
        }
    }

    /// Whether another keeper may come: while the namespace has Functions, and this one has rights in it.
    async fn may_come(&self) -> bool {
        let functions: Api<Function> = Api::namespaced(self.client.clone(), &self.namespace);
        match functions.list_metadata(&ListParams::default().limit(1)).await {
            Ok(list) => !list.items.is_empty(),
            Err(kube::Error::Api(status)) => !matches!(status.code, 401 | 403 | 404),
            Err(_) => true,
        }
    }
}

/// Waits until the process shall stop and another keeper has what this one has, or none is to come.
async fn until_taken(
    others: &Others,
    store: &Store,
    mut shutdown: watch::Receiver<bool>,
    mut taken: watch::Receiver<bool>,
) {
    // Whoever says so lives as long as the process.
    let _ = shutdown.wait_for(|stop| *stop).await;
    let wait = async {
        while !store.functions().is_empty() && others.may_come().await {
            if timeout(LOOK, taken.wait_for(|taken| *taken)).await.is_ok() {
                return;
            }
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        tracing::warn!("no other keeper came: what is kept goes with this one");
    }
}

/// The pods that are followed, by their UIDs.
struct Following {
    means: Means,
    gone: HashMap<String, watch::Sender<bool>>,
    tasks: JoinSet<()>,
    functions: watch::Sender<Option<BTreeSet<String>>>,
    /// What a list of pods, or of Functions, has named so far.
    listed: (BTreeSet<String>, BTreeSet<String>),
    pods_known: bool,
}

impl Following {
    fn new(store: Arc<Store>, metrics: Metrics) -> Self {
        let functions = watch::Sender::new(None);
        Self {
            means: Means { store, functions: functions.subscribe(), metrics },
            gone: HashMap::new(),
            tasks: JoinSet::new(),
            functions,
            listed: (BTreeSet::new(), BTreeSet::new()),
            pods_known: false,
        }
    }

    /// Follows pods until `leave` is done.
    async fn run(mut self, others: &Others, ready: &watch::Sender<bool>, leave: impl Future) {
        others.take_over(&self.means.store).await;
        let mut leave = pin!(leave);
        let mut pods = watch_pods(others);
        let mut functions = watch_functions(others);
        loop {
            tokio::select! {
                _ = &mut leave => return,
                Some(event) = pods.next() => self.take_pod(event),
                Some(event) = functions.next() => self.take_function(event),
                Some(_) = self.tasks.join_next() => {}
            }
            if self.pods_known && self.functions.borrow().is_some() && !*ready.borrow() {
                // What a pod said that was gone before it was followed here, the other one has.
                others.take_over(&self.means.store).await;
                others.dismiss().await;
                ready.send_replace(true);
            }
        }
    }

    fn take_pod(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.0.clear(),
            Event::InitApply(pod) => {
                self.listed.0.extend(pod.uid());
                self.see(&pod);
            }
            Event::Apply(pod) => self.see(&pod),
            Event::Delete(pod) => {
                if let Some(gone) = pod.uid().and_then(|uid| self.gone.remove(&uid)) {
                    gone.send_replace(true);
                }
            }
            Event::InitDone => {
                let there = &self.listed.0;
                for (_, gone) in self.gone.extract_if(|uid, _| !there.contains(uid)) {
                    gone.send_replace(true);
                }
                self.pods_known = true;
            }
        }
    }

    fn see(&mut self, pod: &Pod) {
        let Some(pod) = printing(pod) else { return };
        if !self.gone.contains_key(&pod.uid) {
            let gone = watch::Sender::new(false);
            let following = follow(pod.clone(), self.means.clone(), gone.subscribe());
            self.tasks.spawn(following);
            self.gone.insert(pod.uid, gone);
        }
    }

    fn take_function(&mut self, event: Event<PartialObjectMeta<Function>>) {
        let edit = |all: &mut Option<BTreeSet<String>>, name: String, is_there: bool| {
            if let Some(all) = all {
                if is_there {
                    all.insert(name)
                } else {
                    all.remove(&name)
                };
            }
        };
        match event {
            Event::Init => self.listed.1.clear(),
            Event::InitApply(function) => drop(self.listed.1.insert(function.name_any())),
            Event::Apply(function) => {
                self.functions.send_modify(|all| edit(all, function.name_any(), true));
            }
            Event::Delete(function) => {
                self.functions.send_modify(|all| edit(all, function.name_any(), false));
                self.forget(&function.name_any());
            }
            Event::InitDone => {
                let there = std::mem::take(&mut self.listed.1);
                for function in self.means.store.functions() {
                    if !there.contains(&function) {
                        self.forget(&function);
                    }
                }
                self.functions.send_replace(Some(there));
            }
        }
    }

    fn forget(&self, function: &str) {
        if let Err(error) = self.means.store.remove(function) {
            tracing::warn!(%error, function, "forgetting what is kept");
        }
    }
}

fn watch_pods(of: &Others) -> BoxStream<'static, Event<Pod>> {
    let api: Api<Pod> = Api::namespaced(of.client.clone(), &of.namespace);
    let config = watcher::Config::default().labels(LABEL_FUNCTION).timeout(WATCH_SECONDS);
    events(watcher(api, config).default_backoff())
}

fn watch_functions(of: &Others) -> BoxStream<'static, Event<PartialObjectMeta<Function>>> {
    let api: Api<PartialObjectMeta<Function>> = Api::namespaced(of.client.clone(), &of.namespace);
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    events(watcher(api, config).default_backoff())
}

/// What breaks a watch off is logged, and it is begun again.
fn events<K: Send + 'static>(
    watch: impl futures::Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
) -> BoxStream<'static, Event<K>> {
    let events = watch.filter_map(|event| {
        let event = event.inspect_err(|error| tracing::warn!(%error, "a watch broke off"));
        std::future::ready(event.ok())
    });
    events.boxed()
}
