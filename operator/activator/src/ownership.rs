//! Who owns each Function, and the tasks of those that this activator owns. It is told of changes
//! by the one task that owns the index; it starts and ends tasks, and does no other IO.

use std::collections::HashMap;
use std::sync::Arc;

use rouse_core::membership::{Member, Membership};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::admission::{Gate, Refusal};
use crate::function::{FunctionHandle, Owner};
use crate::instances::Instances;
use crate::observe::index::{FunctionView, Index, Observed};
use crate::reports::Reports;
use crate::scaler::metrics::ControlMetrics;
use crate::scaler::{self, Task};

/// What all tasks share.
#[derive(Debug)]
pub struct World<I> {
    /// Where pods live.
    pub instances: Arc<I>,
    /// Where reports go.
    pub reports: Reports,
    /// What is counted.
    pub metrics: ControlMetrics,
}

/// Who owns each Function.
#[derive(Debug)]
pub struct Ownership<I> {
    /// UID of this activator's pod.
    me: Arc<str>,
    world: World<I>,
    entries: HashMap<Arc<str>, Entry>,
    members: HashMap<String, Arc<Member>>,
    tasks: JoinSet<()>,
    running: HashMap<Id, Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    handle: Arc<FunctionHandle>,
    held: Option<Held>,
}

/// A Function that this activator owns. Its task ends when this is dropped.
#[derive(Debug)]
struct Held {
    gate: Arc<Gate>,
    observed: watch::Sender<Arc<Observed>>,
    task: Id,
}

impl<I: Instances> Ownership<I> {
    /// An activator whose pod has the UID `me`, and which owns nothing yet.
    pub fn new(me: &str, world: World<I>) -> Self {
        Self {
            me: me.into(),
            world,
            entries: HashMap::new(),
            members: HashMap::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// The handle of the Function with this UID.
    pub fn handle(&self, uid: &str) -> Option<Arc<FunctionHandle>> {
        self.entries.get(uid).map(|entry| Arc::clone(&entry.handle))
    }

    /// Takes in another membership.
    pub fn set_membership(&mut self, index: &Index) {
        let members = &index.membership().members;
        self.members =
            members.iter().map(|member| (member.uid.clone(), Arc::new(member.clone()))).collect();
        let uids: Vec<Arc<str>> = self.entries.keys().cloned().collect();
        for uid in uids {
            self.update(&uid, index);
        }
        let Membership { version, members, .. } = &**index.membership();
        tracing::info!(version, members = members.len(), owned = self.running.len(), "membership");
    }

    /// Takes in that the Function with this UID, or something of it, came, went or changed.
    pub fn update(&mut self, uid: &Arc<str>, index: &Index) {
        let Some(view) = index.function(uid) else {
            self.remove(uid);
            return;
        };
        let entry = self.entries.entry(Arc::clone(uid)).or_insert_with(|| Entry::new(view));
        let timeouts = view.settings.timeouts;
        if entry.handle.timeouts() != timeouts {
            entry.handle.set_timeouts(timeouts);
        }
        let owner = index.membership().owner(uid).map(|member| member.uid.as_str());
        match owner {
            Some(owner) if *owner == *self.me => self.hold(uid, index),
            Some(owner) => {
                let peer = self.members.get(owner).map(Arc::clone);
                self.give_up(uid, peer.map_or(Owner::Nobody, Owner::Peer));
            }
            None => self.give_up(uid, Owner::Nobody),
        }
    }

    /// Returns when a task has ended that should not have, after another has taken its place.
    pub async fn mend(&mut self, index: &Index) {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(Ok((id, ()))) => {
                    self.running.remove(&id);
                    self.count();
                }
                Some(Err(error)) => {
                    self.replace(&error, index);
                    return;
                }
                None => std::future::pending().await,
            }
        }
    }

    fn hold(&mut self, uid: &Arc<str>, index: &Index) {
        let (Some(entry), Some(observed)) = (self.entries.get_mut(uid), index.observed(uid)) else {
            return;
        };
        let observed = Arc::new(observed);
        if let Some(held) = &entry.held {
            held.observed.send_replace(observed);
            return;
        }
        let gate = Gate::new(observed.function.settings.bounds);
        let (sender, receiver) = watch::channel(Arc::clone(&observed));
        let task = Task {
            gate: Arc::clone(&gate),
            observed: receiver,
            instances: Arc::clone(&self.world.instances),
            reports: self.world.reports.clone(),
            metrics: self.world.metrics.of(&observed.function.key),
        };
        let task = self.tasks.spawn(scaler::run(task)).id();
        self.running.insert(task, Arc::clone(uid));
        entry.held = Some(Held { gate: Arc::clone(&gate), observed: sender, task });
        entry.handle.set_owner(Owner::Here(gate));
        self.count();
    }

    /// Leaves the Function to `owner`. The handle comes first, so that those who wait and are
    /// turned away find the new owner.
    fn give_up(&mut self, uid: &str, owner: Owner) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if entry.held.is_none() && is_same(&entry.handle.owner(), &owner) {
            return;
        }
        entry.handle.set_owner(owner);
        if let Some(held) = entry.held.take() {
            held.gate.shut(Refusal::Moved);
        }
    }

    fn remove(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else { return };
        match entry.held {
            Some(held) => held.gate.shut(Refusal::Gone),
            None => entry.handle.set_owner(Owner::Here(gone())),
        }
    }

    fn replace(&mut self, error: &JoinError, index: &Index) {
        let Some(uid) = self.running.remove(&error.id()) else { return };
        tracing::error!(function = %uid, %error, "the task of a Function broke off, beginning anew");
        let Some(entry) = self.entries.get_mut(&uid) else { return };
        let Some(held) = entry.held.take_if(|held| held.task == error.id()) else { return };
        self.hold(&uid, index);
        held.gate.shut(Refusal::Moved);
    }

    fn count(&self) {
        let owned = i64::try_from(self.running.len()).unwrap_or(i64::MAX);
        self.world.metrics.owned.set(owned);
    }
}

impl Entry {
    fn new(view: &FunctionView) -> Self {
        let (key, uid) = (view.key.clone(), Arc::clone(&view.uid));
        let handle = FunctionHandle::new(key, uid, view.settings.timeouts);
        Self { handle: Arc::new(handle), held: None }
    }
}

fn is_same(one: &Owner, other: &Owner) -> bool {
    match (one, other) {
        (Owner::Nobody, Owner::Nobody) => true,
        (Owner::Peer(one), Owner::Peer(other)) => one == other,
        _ => false,
    }
}

/// A gate that tells whoever still holds the handle of a deleted Function.
fn gone() -> Arc<Gate> {
    use rouse_core::function::{BufferBounds, Concurrency};
    let bounds = crate::admission::Bounds {
        concurrency: Concurrency { target: std::num::NonZeroU32::MIN, limit: None },
        buffer: BufferBounds { requests: 0, bytes: 0 },
    };
    let gate = Gate::new(bounds);
    gate.shut(Refusal::Gone);
    gate
}
