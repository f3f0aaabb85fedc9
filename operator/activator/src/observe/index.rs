//! What is known of the cluster, in one place: synchronous, owned by one task, told of everything
//! in order. It notes what changed; it does no IO and decides nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use rouse_core::function::FunctionKey;
use rouse_core::membership::Membership;
use rouse_core::report::Routed;
use rouse_core::trigger::{HttpClaim, TriggerKey};
use rouse_crds::v1alpha1::Learned;
use tokio::time::Instant;

use super::Observation;
use super::objects::{
    DeploymentSeen, FunctionSeen, PodSeen, Settings, SourcePodSeen, Ticks, TriggerSeen,
};
use super::ticks::AllTicks;

/// A Function with settings that are in force.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionView {
    /// Namespace and name.
    pub key: FunctionKey,
    /// UID of the object.
    pub uid: Arc<str>,
    /// What the last valid spec asks for.
    pub settings: Settings,
    /// The newest revision that has ever answered, by the status.
    pub latest_ready: Option<Arc<str>>,
    /// The newest revision, by the status.
    pub latest_created: Option<Arc<str>>,
    /// What an owner learned of it, by the status.
    pub learned: Option<Arc<Learned>>,
}

/// A pod, and when the steps of its start were seen on this clock. A step that was not seen, since
/// the pod was there before, is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// The pod.
    pub seen: PodSeen,
    /// It was there.
    pub created: Option<Instant>,
    /// It had a node.
    pub scheduled: Option<Instant>,
    /// It had an address.
    pub addressed: Option<Instant>,
    /// It began to fail as it fails now.
    pub failing: Option<Instant>,
}

/// All that the owner of a Function needs to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The Function.
    pub function: Arc<FunctionView>,
    /// Its Deployments, one for each revision that has one.
    pub deployments: Vec<Arc<DeploymentSeen>>,
    /// Its pods.
    pub pods: Vec<Arc<PodView>>,
    /// When the clock calls it.
    pub ticks: Vec<Arc<Ticks>>,
    /// Version of the membership under which it is owned.
    pub membership: u64,
}

/// What changed since it was last asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// UIDs of Functions that came, went, or changed in themselves or in their children.
    pub functions: HashSet<Arc<str>>,
    /// Whether routes may be others.
    pub routes: bool,
    /// Whether the membership is another.
    pub membership: bool,
}

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct Index {
    functions: HashMap<Arc<str>, Arc<FunctionView>>,
    uids: HashMap<FunctionKey, Arc<str>>,
    claims: BTreeMap<TriggerKey, Option<HttpClaim>>,
    ticks: AllTicks,
    children: HashMap<Arc<str>, Children>,
    /// Pods that run sources, by their UIDs.
    sources: BTreeMap<Arc<str>, SourcePodSeen>,
    memory: Memory,
    membership: Arc<Membership>,
    listed: Listed,
    known_functions: KnownTo,
    known_triggers: KnownTo,
    changes: Changes,
}

#[derive(Debug, Default)]
struct Children {
    deployments: BTreeMap<Arc<str>, Arc<DeploymentSeen>>,
    pods: BTreeMap<Arc<str>, Arc<PodView>>,
}

/// What pods of all Deployments take, one of each.
#[derive(Debug, Default)]
struct Memory {
    bytes: u64,
    count: u64,
}

#[derive(Debug, Default)]
struct Listed {
    functions: Listing<Arc<str>>,
    triggers: Listing<TriggerKey>,
    deployments: Listing<Arc<str>>,
    pods: Listing<Arc<str>>,
    sources: Listing<Arc<str>>,
    membership: Listing<()>,
}

/// Whether the objects of a kind have been listed wholly, and what a new list has had so far.
#[derive(Debug)]
struct Listing<K> {
    complete: bool,
    so_far: Option<HashSet<K>>,
}

impl<K> Default for Listing<K> {
    fn default() -> Self {
        Self { complete: false, so_far: None }
    }
}

/// Up to which version all objects of a kind are known. A list is in the order of names: what it
/// brings counts when it is complete, and a watch brings versions in their order.
#[derive(Clone, Copy, Debug, Default)]
struct KnownTo {
    version: u64,
    listing: u64,
}

impl KnownTo {
    fn note<T>(&mut self, event: &Event<T>, version: impl Fn(&T) -> u64) {
        match event {
            Event::Init => self.listing = 0,
            Event::InitApply(object) => self.listing = self.listing.max(version(object)),
            Event::InitDone => self.version = self.version.max(self.listing),
            Event::Apply(object) | Event::Delete(object) => {
                self.version = self.version.max(version(object));
            }
        }
    }
}

/// What an event says of one kind of objects.
enum Told<T, K> {
    /// The object is there, with whether it was just listed and not seen to change.
    There(T, bool),
    Gone(T),
    /// The list is complete: what is not in it is gone.
    Only(HashSet<K>),
    Nothing,
}

impl<K: Eq + Hash> Listing<K> {
    fn take<T>(&mut self, event: Event<T>, key: impl Fn(&T) -> K) -> Told<T, K> {
        match event {
            Event::Init => {
                self.so_far = Some(HashSet::new());
                Told::Nothing
            }
            Event::InitApply(object) => {
                self.so_far.get_or_insert_default().insert(key(&object));
                Told::There(object, true)
            }
            Event::InitDone => {
                self.complete = true;
                Told::Only(self.so_far.take().unwrap_or_default())
            }
            Event::Apply(object) => Told::There(object, false),
            Event::Delete(object) => Told::Gone(object),
        }
    }
}

impl Index {
    /// Takes in what happened.
    pub fn apply(&mut self, observation: Observation, now: Instant) {
        match observation {
            Observation::Function(event) => self.apply_function(event),
            Observation::Trigger(event) => self.apply_trigger(event),
            Observation::Deployment(event) => self.apply_deployment(event),
            Observation::Pod(event) => self.apply_pod(event, now),
            Observation::SourcePod(event) => self.apply_source_pod(event),
            Observation::Membership(event) => self.apply_membership(event),
        }
    }

    /// Whether everything has been listed once. A membership that does not exist yet counts.
    pub const fn is_synced(&self) -> bool {
        let listed = &self.listed;
        listed.functions.complete
            && listed.triggers.complete
            && listed.deployments.complete
            && listed.pods.complete
            && listed.membership.complete
    }

    /// The Functions and Triggers that are known.
    pub const fn known(&self) -> Routed {
        Routed { functions: self.known_functions.version, triggers: self.known_triggers.version }
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// The Function with this UID.
    pub fn function(&self, uid: &str) -> Option<&Arc<FunctionView>> {
        self.functions.get(uid)
    }

    /// All Functions.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<FunctionView>> {
        self.functions.values()
    }

    /// What all Triggers ask for.
    pub fn claims(&self) -> Vec<HttpClaim> {
        self.claims.values().flatten().cloned().collect()
    }

    /// Where the sources of `namespace` take events; none while no pod does.
    pub fn doors(&self, namespace: &str) -> Option<SocketAddr> {
        let mut pods = self.sources.values().filter(|pod| *pod.namespace == *namespace);
        pods.find_map(|pod| pod.doors)
    }

    /// The membership; empty before there was one.
    pub const fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// Pods that the Function with this UID is told to have.
    pub fn pods_asked(&self, uid: &str) -> u32 {
        let deployments = self.children.get(uid).map(|children| children.deployments.values());
        deployments.into_iter().flatten().map(|deployment| deployment.replicas).sum()
    }

    /// Mean of the memory that pods take, in bytes.
    pub const fn usual_memory(&self) -> u64 {
        match self.memory.bytes.checked_div(self.memory.count) {
            Some(mean) => mean,
            None => 0,
        }
    }

    /// All that the owner of the Function with this UID needs to know.
    pub fn observed(&self, uid: &str) -> Option<Observed> {
        let children = self.children.get(uid);
        Some(Observed {
            ticks: self.ticks.of(&self.functions.get(uid)?.key),
            function: Arc::clone(self.functions.get(uid)?),
            deployments: children
                .map_or_else(Vec::new, |c| c.deployments.values().cloned().collect()),
            pods: children.map_or_else(Vec::new, |c| c.pods.values().cloned().collect()),
            membership: self.membership.version,
        })
    }

    fn apply_function(&mut self, event: Event<FunctionSeen>) {
        self.known_functions.note(&event, |function| function.version);
        match self.listed.functions.take(event, |function| Arc::clone(&function.uid)) {
            Told::There(function, _) => self.put_function(function),
            Told::Gone(function) => self.remove_function(&function.uid),
            Told::Only(listed) => {
                let gone = self.functions.keys().filter(|uid| !listed.contains(*uid));
                for uid in gone.cloned().collect::<Vec<_>>() {
                    self.remove_function(&uid);
                }
                self.changes.routes = true;
            }
            Told::Nothing => {}
        }
    }

    fn put_function(&mut self, seen: FunctionSeen) {
        let former = self.functions.get(&seen.uid);
        let settings = seen.settings.or_else(|| former.map(|former| former.settings.clone()));
        let Some(settings) = settings else { return };
        let public = settings.public;
        let view = FunctionView {
            key: seen.key,
            uid: seen.uid,
            settings,
            latest_ready: seen.latest_ready,
            latest_created: seen.latest_created,
            learned: seen.learned,
        };
        if former.is_some_and(|former| **former == view) {
            return;
        }
        self.changes.routes |= former.is_none_or(|former| former.settings.public != public);
        self.changes.functions.insert(Arc::clone(&view.uid));
        self.uids.insert(view.key.clone(), Arc::clone(&view.uid));
        self.functions.insert(Arc::clone(&view.uid), Arc::new(view));
    }

    fn remove_function(&mut self, uid: &Arc<str>) {
        if let Some(gone) = self.functions.remove(uid) {
            // A namesake may have come before this one was seen to go.
            if self.uids.get(&gone.key) == Some(uid) {
                self.uids.remove(&gone.key);
            }
            self.changes.routes = true;
            self.changes.functions.insert(Arc::clone(uid));
        }
    }

    fn apply_trigger(&mut self, event: Event<TriggerSeen>) {
        self.known_triggers.note(&event, |trigger| trigger.version);
        match self.listed.triggers.take(event, |trigger| trigger.key.clone()) {
            Told::There(TriggerSeen { key, claim, ticks, .. }, _) => {
                let changed = self.ticks.put(&key, ticks);
                self.note_ticks(&changed);
                let former = self.claims.get(&key);
                self.changes.routes |= former != Some(&claim);
                self.claims.insert(key, claim);
            }
            Told::Gone(trigger) => {
                self.changes.routes |= self.claims.remove(&trigger.key).is_some();
                let changed = self.ticks.put(&trigger.key, None);
                self.note_ticks(&changed);
            }
            Told::Only(listed) => {
                self.claims.retain(|key, _| listed.contains(key));
                let changed = self.ticks.retain(|key| listed.contains(key));
                self.note_ticks(&changed);
                self.changes.routes = true;
            }
            Told::Nothing => {}
        }
    }

    /// The clock calls these Functions at other times.
    fn note_ticks(&mut self, functions: &[FunctionKey]) {
        let uids = functions.iter().filter_map(|function| self.uids.get(function).cloned());
        self.changes.functions.extend(uids);
    }

    fn apply_deployment(&mut self, event: Event<DeploymentSeen>) {
        match self.listed.deployments.take(event, |deployment| Arc::clone(&deployment.uid)) {
            Told::There(deployment, _) => {
                let function = Arc::clone(&deployment.function_uid);
                let children = self.children.entry(Arc::clone(&function)).or_default();
                let deployment = Arc::new(deployment);
                self.memory.add(&deployment);
                let former = children
                    .deployments
                    .insert(Arc::clone(&deployment.uid), Arc::clone(&deployment));
                self.memory.remove(former.as_ref());
                if former.is_none_or(|former| former != deployment) {
                    self.changes.functions.insert(function);
                }
            }
            Told::Gone(deployment) => self.prune(&deployment.function_uid, |children, memory| {
                let gone = children.deployments.remove(&deployment.uid);
                memory.remove(gone.as_ref());
                gone.is_some()
            }),
            Told::Only(listed) => self.prune_all(|children, memory| {
                let gone = children.deployments.extract_if(.., |uid, _| !listed.contains(uid));
                gone.inspect(|(_, gone)| memory.remove(Some(gone))).count() > 0
            }),
            Told::Nothing => {}
        }
    }

    fn apply_pod(&mut self, event: Event<PodSeen>, now: Instant) {
        match self.listed.pods.take(event, |pod| Arc::clone(&pod.uid)) {
            Told::There(pod, found) => {
                let function = Arc::clone(&pod.function_uid);
                let children = self.children.entry(Arc::clone(&function)).or_default();
                let former = children.pods.get(&pod.uid);
                if former.is_some_and(|former| former.seen == pod) {
                    return;
                }
                let view = PodView::next(former.map(AsRef::as_ref), pod, found, now);
                children.pods.insert(Arc::clone(&view.seen.uid), Arc::new(view));
                self.changes.functions.insert(function);
            }
            Told::Gone(pod) => {
                self.prune(&pod.function_uid, |children, _| {
                    children.pods.remove(&pod.uid).is_some()
                });
            }
            Told::Only(listed) => self.prune_all(|children, _| {
                let before = children.pods.len();
                children.pods.retain(|uid, _| listed.contains(uid));
                children.pods.len() < before
            }),
            Told::Nothing => {}
        }
    }

    fn apply_source_pod(&mut self, event: Event<SourcePodSeen>) {
        match self.listed.sources.take(event, |pod| Arc::clone(&pod.uid)) {
            Told::There(pod, _) => {
                let former = self.sources.insert(Arc::clone(&pod.uid), pod.clone());
                self.changes.routes |= former.and_then(|former| former.doors) != pod.doors;
            }
            Told::Gone(pod) => self.changes.routes |= self.sources.remove(&pod.uid).is_some(),
            Told::Only(listed) => {
                let before = self.sources.len();
                self.sources.retain(|uid, _| listed.contains(uid));
                self.changes.routes |= self.sources.len() < before;
            }
            Told::Nothing => {}
        }
    }

    fn apply_membership(&mut self, event: Event<Membership>) {
        if let Told::There(membership, _) = self.listed.membership.take(event, |_| ())
            && *self.membership != membership
        {
            self.membership = Arc::new(membership);
            self.changes.membership = true;
        }
        // One that is gone stands until there is another: without a leader nobody moves.
    }

    fn prune(
        &mut self,
        function: &Arc<str>,
        remove: impl FnOnce(&mut Children, &mut Memory) -> bool,
    ) {
        let Some(children) = self.children.get_mut(function) else { return };
        if remove(children, &mut self.memory) {
            self.changes.functions.insert(Arc::clone(function));
        }
        if children.is_empty() {
            self.children.remove(function);
        }
    }

    fn prune_all(&mut self, mut remove: impl FnMut(&mut Children, &mut Memory) -> bool) {
        let (changed, memory) = (&mut self.changes.functions, &mut self.memory);
        self.children.retain(|function, children| {
            if remove(children, memory) {
                changed.insert(Arc::clone(function));
            }
            !children.is_empty()
        });
    }
}

impl Memory {
    fn add(&mut self, deployment: &DeploymentSeen) {
        self.bytes = self.bytes.saturating_add(deployment.memory);
        self.count += 1;
    }

    fn remove(&mut self, deployment: Option<&Arc<DeploymentSeen>>) {
        if let Some(deployment) = deployment {
            self.bytes = self.bytes.saturating_sub(deployment.memory);
            self.count = self.count.saturating_sub(1);
        }
    }
}

impl Children {
    fn is_empty(&self) -> bool {
        self.deployments.is_empty() && self.pods.is_empty()
    }
}

impl PodView {
    /// The view of a pod that was last seen as `former`; `found` says that it was there before
    /// anybody looked.
    fn next(former: Option<&Self>, seen: PodSeen, found: bool, now: Instant) -> Self {
        let fresh = (!(found && former.is_none())).then_some(now);
        let step = |is: bool, was: Option<(bool, Option<Instant>)>| match was {
            Some((true, at)) => at,
            _ if is => fresh,
            _ => None,
        };
        let cause = |pod: &PodSeen| pod.failure.as_ref().map(|failure| failure.cause);
        let failing = match former {
            _ if seen.failure.is_none() => None,
            Some(former) if cause(&former.seen) == cause(&seen) => former.failing,
            _ => Some(now),
        };
        let addressed = |pod: &PodSeen| pod.address.is_some();
        Self {
            created: step(true, former.map(|former| (true, former.created))),
            scheduled: step(seen.scheduled, former.map(|f| (f.seen.scheduled, f.scheduled))),
            addressed: step(addressed(&seen), former.map(|f| (addressed(&f.seen), f.addressed))),
            failing,
            seen,
        }
    }
}

#[cfg(test)]
mod tests;
