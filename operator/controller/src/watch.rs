//! The watches: each fills a store and asks for a reconcile of whom a change concerns. They read,
//! and write nothing.

use std::collections::HashSet;
use std::fmt::Debug;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, Resource, ResourceExt};
use rouse_core::function::code::seal;
use rouse_core::function::names::{LABEL_FUNCTION_UID, MEMBERSHIP_CONFIG_MAP};
use rouse_core::resident::RESIDENTS;
use rouse_core::source::SourceHealth;
use rouse_crds::v1alpha1::{Function, Trigger};
use serde::de::DeserializeOwned;

use crate::context::{Context, Shared, bump};
use crate::error::chain;
use crate::index::{Index, ObjectKey, controlling_function};
use crate::objects::{Child, Deployment, Kind, Record, Service};
use crate::residents::Residents;
use crate::status::own_trigger_status;

/// Objects that may have code in them in one piece of a list: a megabyte each, for a moment.
const PAGE: u32 = 50;

/// Annotation in which `kubectl apply` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Labels of the activators' pods.
const ACTIVATORS: &str = "app.kubernetes.io/name=rouse,app.kubernetes.io/component=activator";

/// The Functions as the controller's queue reads them, and `store` as it is filled on the way.
pub(crate) fn watch_functions(
    context: Shared,
    store: Writer<Function>,
) -> impl Stream<Item = Result<Function, watcher::Error>> + Send + 'static {
    let api: Api<Function> = Api::all(context.client.clone());
    let after = context.clone();
    let events = watcher(api, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .modify(slim_function)
        .inspect(move |event| match event {
            Ok(event) => note_function(&context, event),
            Err(error) => {
                context.metrics.watch_broke("Function");
                tracing::warn!(kind = "Function", error = chain(error), "watch broke off");
            }
        });
    reflector(store, events)
        .inspect(move |event| {
            if matches!(event, Ok(Event::InitDone)) {
                forget_the_gone(&after);
                after.functions_ready.send_replace(true);
            }
        })
        .applied_objects()
}

/// What is not needed of Functions, of which there may be thousands.
pub(crate) fn slim_function(function: &mut Function) {
    function.managed_fields_mut().clear();
    if let Some(source) = &mut function.spec.source {
        seal(source);
    }
    let annotations = function.metadata.annotations.as_mut();
    // It repeats the spec, its code too.
    annotations.and_then(|all| all.remove(LAST_APPLIED));
}

/// Forgets Functions that went while no watch was there to tell.
fn forget_the_gone(context: &Context) {
    let functions = context.functions.state();
    let uids = functions.iter().filter_map(|function| function.metadata.uid.as_deref());
    let there: HashSet<&str> = uids.collect();
    context.memory.retain(|uid| there.contains(uid));
    context.reports.retain(|uid| there.contains(uid));
}

/// What follows for others from a change of a Function, before the store knows of it.
fn note_function(context: &Context, event: &Event<Function>) {
    match event {
        Event::Apply(function) | Event::InitApply(function) => {
            let key = reflector::ObjectRef::from_obj(function);
            let known = context.functions.get(&key);
            let generation = |function: &Function| function.metadata.generation;
            if known.as_deref().and_then(generation) != generation(function) {
                bump(&context.claims);
            }
        }
        Event::Delete(function) => {
            let uid = function.metadata.uid.as_deref().unwrap_or_default();
            context.memory.forget(uid);
            context.reports.forget(uid);
            bump(&context.claims);
        }
        Event::Init => {}
        Event::InitDone => bump(&context.claims),
    }
}

/// Watches the Deployments of Functions.
pub(crate) async fn watch_deployments(context: Shared) {
    let api: Api<Deployment> = Api::all(context.client.clone());
    watch_children(&context, api, owned(), &context.children.deployments, |_| ()).await;
}

/// Watches the `ControllerRevision`s of Functions.
pub(crate) async fn watch_records(context: Shared) {
    let api: Api<Record> = Api::all(context.client.clone());
    watch_children(&context, api, owned().page_size(PAGE), &context.children.records, |_| ()).await;
}

fn owned() -> watcher::Config {
    watcher::Config::default().labels(LABEL_FUNCTION_UID)
}

/// Watches all Services, for one of somebody else may have the name of a Function; of those nothing
/// but the name is kept.
pub(crate) async fn watch_services(context: Shared) {
    let api: Api<Service> = Api::all(context.client.clone());
    let slim = |service: &mut Service| {
        if controlling_function(&service.metadata).is_none() {
            service.spec.clear();
            service.metadata.annotations = None;
            service.metadata.labels = None;
        }
    };
    let config = watcher::Config::default();
    watch_children(&context, api, config, &context.children.services, slim).await;
}

async fn watch_children<K: Kind>(
    context: &Context,
    api: Api<Child<K>>,
    config: watcher::Config,
    index: &Index<Child<K>>,
    slim: impl Fn(&mut Child<K>),
) {
    let mut events = follow(context, api, config, K::KIND.as_str());
    while let Some(mut event) = events.next().await {
        if let Event::Apply(child) | Event::InitApply(child) = &mut event {
            slim(child);
        }
        let mut concerned: Vec<_> =
            index.take(event).iter().filter_map(|child| concerned_function(child)).collect();
        concerned.sort_unstable();
        concerned.dedup();
        for (namespace, name) in concerned {
            context.requests.send(&namespace, &name).await;
        }
    }
}

/// The Function that a child concerns: its owner, or for a Service of somebody else the Function
/// of the same name.
fn concerned_function<K: Kind>(child: &Child<K>) -> Option<(String, String)> {
    let namespace = child.metadata.namespace.clone()?;
    let name = match controlling_function(&child.metadata) {
        Some(owner) => owner.name.clone(),
        None => child.metadata.name.clone()?,
    };
    Some((namespace, name))
}

/// Watches what Rouse runs in namespaces of tenants, of one kind.
pub(crate) async fn watch_residents<K: Kind>(
    context: Shared,
    index: impl Fn(&Residents) -> &Index<Child<K>>,
) {
    let api: Api<Child<K>> = Api::all(context.client.clone());
    let config = watcher::Config::default().labels(RESIDENTS);
    let mut events = follow(&context, api, config, K::KIND.as_str());
    while let Some(event) = events.next().await {
        index(&context.residents).take(event);
        bump(&context.claims);
    }
}

/// Watches the Triggers.
pub(crate) async fn watch_triggers(context: Shared) {
    let api: Api<Trigger> = Api::all(context.client.clone());
    let mut events = follow(&context, api, watcher::Config::default(), "Trigger");
    while let Some(event) = events.next().await {
        let is_news = is_news(&context, &event);
        context.triggers.take(event);
        if is_news {
            bump(&context.claims);
        }
    }
}

/// Whether more changed than what others write of the status.
fn is_news(context: &Context, event: &Event<Trigger>) -> bool {
    let Event::Apply(trigger) = event else { return true };
    let matters = |trigger: &Trigger| {
        let source = trigger.status.as_ref().and_then(|status| status.source.as_ref());
        let (status, health) = (own_trigger_status(trigger), source.map(SourceHealth::of));
        (trigger.metadata.generation, trigger.metadata.deletion_timestamp.clone(), status, health)
    };
    let known = context.triggers.get(&ObjectKey::of(&trigger.metadata));
    known.is_none_or(|known| {
        known.metadata.uid != trigger.metadata.uid || matters(&known) != matters(trigger)
    })
}

/// Watches the activators' pods.
pub(crate) async fn watch_activators(context: Shared) {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &context.config.namespace);
    let config = watcher::Config::default().labels(ACTIVATORS);
    let mut events = follow(&context, api, config, "Pod");
    while let Some(event) = events.next().await {
        context.pods.take(event);
        bump(&context.membership_seen);
    }
}

/// Watches the membership as it is published.
pub(crate) async fn watch_membership(context: Shared) {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.config.namespace);
    let config =
        watcher::Config::default().fields(&format!("metadata.name={MEMBERSHIP_CONFIG_MAP}"));
    let mut events = follow(&context, api, config, "ConfigMap");
    while let Some(event) = events.next().await {
        context.memberships.take(event);
        bump(&context.membership_seen);
    }
}

/// The events of a watch that never ends; what breaks it is logged and tried again.
fn follow<K>(
    context: &Context,
    api: Api<K>,
    config: watcher::Config,
    kind: &'static str,
) -> impl Stream<Item = Event<K>> + Unpin + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let metrics = context.metrics.clone();
    let events = watcher(api, config)
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .filter_map(move |event| {
            let event = event
                .inspect_err(|error| {
                    metrics.watch_broke(kind);
                    tracing::warn!(kind, error = chain(error), "watch broke off");
                })
                .ok();
            std::future::ready(event)
        });
    Box::pin(events)
}
