//! Watches everything that the activator must know of the cluster. It turns objects into
//! observations and hands them on in order; it decides nothing and keeps nothing.

mod backoff;
pub mod index;
pub mod objects;
pub(crate) mod ticks;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use rouse_core::function::names::{LABEL_FUNCTION_UID, MEMBERSHIP_CONFIG_MAP};
use rouse_core::membership::Membership;
use rouse_core::resident::Resident;
use rouse_crds::v1alpha1::{Function, Trigger};
use serde::de::DeserializeOwned;

use backoff::WatchBackoff;
use objects::{DeploymentSeen, FunctionSeen, PodSeen, SourcePodSeen, TriggerSeen};

use crate::instances::client::describe;

/// Seconds for which one watch call lasts. A connection that died without a word is noticed that
/// long after.
const WATCH_SECONDS: u32 = 60;

/// Functions in one piece of a list: those with code have a megabyte each, for a moment.
const PAGE: u32 = 50;

/// Something that happened in the cluster.
#[derive(Debug)]
pub enum Observation {
    /// To a Function.
    Function(Event<FunctionSeen>),
    /// To a Trigger.
    Trigger(Event<TriggerSeen>),
    /// To a Deployment of a Function.
    Deployment(Event<DeploymentSeen>),
    /// To a pod of a Function.
    Pod(Event<PodSeen>),
    /// To a pod that runs sources.
    SourcePod(Event<SourcePodSeen>),
    /// To the membership of activators.
    Membership(Event<Membership>),
}

/// Follows the cluster. Errors are logged and the watches begin anew, with pauses that grow.
pub fn watch_cluster(client: &Client, namespace: &str) -> BoxStream<'static, Observation> {
    let all = Config::default().timeout(WATCH_SECONDS);
    let ours = all.clone().labels(LABEL_FUNCTION_UID);
    let one = all.clone().fields(&format!("metadata.name={MEMBERSHIP_CONFIG_MAP}"));
    let functions = Api::<Function>::all(client.clone());
    let triggers = Api::<Trigger>::all(client.clone());
    let deployments = Api::<Deployment>::all(client.clone());
    let pods = Api::<Pod>::all(client.clone());
    let sources = all.clone().labels(Resident::Source.selector());
    let membership = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    stream::select_all([
        watch(pods.clone(), ours.clone(), PodSeen::of).map(Observation::Pod).boxed(),
        watch(pods, sources, SourcePodSeen::of).map(Observation::SourcePod).boxed(),
        watch(deployments, ours, DeploymentSeen::of).map(Observation::Deployment).boxed(),
        watch(functions, all.clone().page_size(PAGE), FunctionSeen::of)
            .map(Observation::Function)
            .boxed(),
        watch(triggers, all, TriggerSeen::of).map(Observation::Trigger).boxed(),
        watch(membership, one, objects::membership_of).map(Observation::Membership).boxed(),
    ])
    .boxed()
}

/// Follows the objects of one kind, as `view` sees them.
fn watch<K, T>(
    api: Api<K>,
    config: Config,
    view: fn(&K) -> Option<T>,
) -> impl Stream<Item = Event<T>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    T: Send + 'static,
{
    let kind = K::kind(&());
    watcher(api, config).backoff(WatchBackoff::default()).filter_map(move |event| {
        let seen = event
            .map_err(|error| log_failure(&kind, &error))
            .ok()
            .and_then(|event| convert(&event, view));
        std::future::ready(seen)
    })
}

fn log_failure(kind: &str, error: &watcher::Error) {
    tracing::warn!(kind, error = describe(error), "watching failed, going on");
}

fn convert<K, T>(event: &Event<K>, view: fn(&K) -> Option<T>) -> Option<Event<T>> {
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(view(object)?),
        Event::Apply(object) => Event::Apply(view(object)?),
        Event::Delete(object) => Event::Delete(view(object)?),
    })
}
