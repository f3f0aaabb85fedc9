//! Keeps the sources of one namespace: a task for each Trigger, which starts, stops and starts anew
//! what its Trigger asks for. An edit of one Trigger concerns no other.

mod functions;
mod keeper;
mod status;
mod triggers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll, StreamExt, select_all};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rouse_core::delivery::Heir;
use rouse_core::source::ValidatedSource;
use rouse_crds::v1alpha1::{Function, Trigger};
use rouse_peer::{Call, chain};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::kinds::{Means, Owner};
use crate::metrics::Metrics;
use functions::Functions;
use keeper::{Assignment, Keeper, Shared};
use triggers::{Change, Triggers, Wanted};

/// Seconds for which one watch call lasts. A connection that died without a word is noticed that
/// long after.
const WATCH_SECONDS: u32 = 60;
/// Objects in one piece of a list: Functions with code have a megabyte each, for a moment.
const PAGE: u32 = 20;
/// How long sources may take to end once the process shall stop: a little longer than a runner takes.
const FAREWELL: Duration = Duration::from_secs(28);

/// What the supervisor is told.
pub struct Supervisor {
    /// A client that may read Functions and Triggers of the namespace, and write the status of
    /// Triggers.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// Calls Functions.
    pub caller: Arc<dyn Call>,
    /// What sources are made of.
    pub means: Means,
    /// Where to count.
    pub metrics: Metrics,
    /// Turns true when all Functions and Triggers are known, and the sources run.
    pub ready: watch::Sender<bool>,
}

/// Something that happened in the namespace.
enum Seen {
    Function(Box<Event<Function>>),
    Trigger(Box<Event<Trigger>>),
}

impl Supervisor {
    /// Runs the sources until `shutdown` turns true, and what they have under way has ended.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let Self { client, namespace, caller, means, metrics, ready } = self;
        let mut seen = watch_namespace(&client, &namespace);
        let mut functions = Functions::default();
        let mut triggers = Triggers::default();
        let shared = Arc::new(Shared { client, caller, means, metrics });
        let mut posts = Posts { shared, by_name: BTreeMap::new(), tasks: JoinSet::new() };
        loop {
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(ended) = posts.tasks.join_next() => posts.note(ended),
                event = seen.next() => match event {
                    Some(Seen::Function(event)) => functions.take(*event),
                    Some(Seen::Trigger(event)) => posts.assign(triggers.take(*event), &mut functions),
                    // Watches never end.
                    None => break,
                },
            }
            ready.send_replace(functions.are_listed() && triggers.are_listed());
        }
        drop(posts.by_name);
        let ended = async { while posts.tasks.join_next().await.is_some() {} };
        if timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("sources took too long to end; what they had comes again");
        }
    }
}

/// The tasks of all Triggers.
struct Posts {
    shared: Arc<Shared>,
    /// By the name of its Trigger, what each is told. One that is dropped ends.
    by_name: BTreeMap<String, watch::Sender<Arc<Assignment>>>,
    tasks: JoinSet<String>,
}

impl Posts {
    /// Carries out changes of what shall run.
    fn assign(&mut self, changes: Vec<Change>, functions: &mut Functions) {
        for (name, wanted) in changes {
            let Some(wanted) = wanted else {
                self.by_name.remove(&name);
                self.shared.answer_for(&name, None);
                continue;
            };
            let assignment = Arc::new(assignment(wanted, functions));
            self.shared.answer_for(&name, Some(&assignment));
            match self.by_name.get(&name) {
                Some(post) => drop(post.send_replace(assignment)),
                None => self.begin(name, assignment),
            }
        }
    }

    fn begin(&mut self, name: String, assignment: Arc<Assignment>) {
        let (post, assignments) = watch::channel(assignment);
        let keeper = Keeper::new(self.shared.clone(), assignments);
        let of = name.clone();
        self.tasks.spawn(async move {
            keeper.run().await;
            of
        });
        self.by_name.insert(name, post);
    }

    /// A task is over: its Trigger is gone, unless another came of that name meanwhile.
    fn note(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(name) if !self.by_name.contains_key(&name) => self.shared.metrics.forget(&name),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the task of a Trigger failed"),
        }
    }
}

impl Shared {
    /// Answers people for the dead letters of a Trigger from now on; none: not any more.
    fn answer_for(&self, trigger: &str, assignment: Option<&Assignment>) {
        let owner = assignment.map(|assignment| Owner {
            source: assignment.wanted.source.clone(),
            target: assignment.target.clone(),
            caller: self.caller.clone(),
        });
        self.means.brokers().answer_for(trigger, owner);
    }
}

fn assignment(wanted: Arc<Wanted>, functions: &mut Functions) -> Assignment {
    let ValidatedSource { function, settings, .. } = &*wanted.source;
    let heir = settings.dead_letter.as_ref().and_then(Heir::function);
    let heir = heir.map(|heir| functions.follow(&heir.name));
    Assignment { target: functions.follow(&function.name), heir, wanted }
}

fn watch_namespace(client: &Client, namespace: &str) -> SelectAll<BoxStream<'static, Seen>> {
    let functions = Api::<Function>::namespaced(client.clone(), namespace);
    let triggers = Api::<Trigger>::namespaced(client.clone(), namespace);
    select_all([
        follow(functions).map(|event| Seen::Function(Box::new(event))).boxed(),
        follow(triggers).map(|event| Seen::Trigger(Box::new(event))).boxed(),
    ])
}

/// The events of a watch that never ends; what breaks it is logged and tried again.
fn follow<K>(api: Api<K>) -> BoxStream<'static, Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
    watcher(api, config)
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .filter_map(|event| {
            let told = event.inspect_err(|error| {
                let kind = K::kind(&());
                tracing::warn!(%kind, error = chain(error), "a watch broke off");
            });
            std::future::ready(told.ok())
        })
        .boxed()
}

#[cfg(test)]
mod tests;
