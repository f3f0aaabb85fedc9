//! Who owns each Function, and the tasks of those that this activator owns. It is told of changes
//! by the one task that owns the index; it starts and ends tasks, and does no other IO.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rouse_core::handover::{Estate, Release};
use rouse_core::membership::{Member, Membership};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::admission::{Gate, Refusal};
use crate::community::Community;
use crate::function::{FunctionHandle, Owner};
use crate::instances::Instances;
use crate::namespaces::{Namespaces, Seat};
use crate::observe::index::{FunctionView, Index, Observed};
use crate::release::fresh::Fresh;
use crate::release::neighbours::Neighbours;
use crate::release::{Handed, Step};
use crate::reports::Reports;
use crate::scaler::metrics::ControlMetrics;
use crate::scaler::{self, Task};
use crate::spread::follow::{self, Follow};
use crate::spread::{Connect, MOST_WISHES, Wish, Wishes};

/// What all tasks share.
pub struct World<I> {
    /// Where pods live.
    pub instances: Arc<I>,
    /// Where reports go.
    pub reports: Reports,
    /// What is counted.
    pub metrics: ControlMetrics,
    /// The other activators.
    pub neighbours: Arc<Neighbours>,
    /// Opens streams to owners that are followed.
    pub connect: Arc<Connect>,
    /// Namespaces whose pods are bounded.
    pub namespaces: Namespaces,
    /// What Functions teach one another.
    pub community: Arc<Community>,
}

/// Who owns each Function.
pub struct Ownership<I> {
    /// UID of this activator's pod.
    me: Arc<str>,
    world: World<I>,
    fresh: Arc<Fresh<I>>,
    entries: HashMap<Arc<str>, Entry>,
    members: HashMap<String, Arc<Member>>,
    tasks: JoinSet<()>,
    running: HashMap<Id, Arc<str>>,
    wishes: (Wishes, mpsc::Receiver<Wish>),
    following: JoinSet<()>,
    followed: HashMap<Id, Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    handle: Arc<FunctionHandle>,
    held: Option<Held>,
    /// The gate of a Function that is owned elsewhere by now, with claims that nobody has asked for
    /// yet: they stay here until then.
    kept: Option<Arc<Gate>>,
    /// Who owns it by a membership that has not been seen here, as it said itself, and the version.
    heir: Option<(u64, Arc<Member>)>,
    /// UID of the activator that was given it last.
    gave_to: Option<Arc<str>>,
    /// UIDs of those that may have had it before and were not asked, where there was nothing to ask
    /// for.
    unheard: Vec<Arc<str>>,
    followed: Option<Followed>,
}

/// A Function that this activator owns. Its task ends when this is dropped.
#[derive(Debug)]
struct Held {
    gate: Arc<Gate>,
    observed: watch::Sender<Arc<Observed>>,
    task: Id,
}

/// A Function of another activator that is sent to straight. Its task ends when this is dropped.
#[derive(Debug)]
struct Followed {
    gate: Arc<Gate>,
    observed: watch::Sender<Arc<Observed>>,
    task: AbortHandle,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<I: Instances> Ownership<I> {
    /// An activator that owns nothing yet.
    pub fn new(world: World<I>) -> Self {
        Self {
            me: Arc::clone(world.neighbours.me()),
            fresh: Arc::new(Fresh::new(Arc::clone(&world.instances))),
            world,
            entries: HashMap::new(),
            members: HashMap::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            wishes: mpsc::channel(MOST_WISHES),
            following: JoinSet::new(),
            followed: HashMap::new(),
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
        self.world.neighbours.learn(index.membership());
        let uids: Vec<Arc<str>> = self.entries.keys().cloned().collect();
        let version = index.membership().version;
        for uid in uids {
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.heir = entry.heir.take().filter(|(known, _)| *known > version);
            }
            self.update(&uid, index);
        }
        let Membership { version, members, .. } = &**index.membership();
        tracing::info!(version, members = members.len(), owned = self.running.len(), "membership");
    }

    /// Takes in what Functions are told to have, whoever owns them: before any of them decides.
    pub fn survey(&mut self, uids: &HashSet<Arc<str>>, index: &Index) {
        self.world.community.set_usual_memory(index.usual_memory());
        for uid in uids {
            let function = index.function(uid);
            if let Some(namespace) =
                function.and_then(|function| self.world.namespaces.of(&function.key.namespace))
            {
                namespace.see(uid, index.pods_asked(uid));
            }
        }
    }

    /// Takes in that the Function with this UID, or something of it, came, went or changed.
    pub fn update(&mut self, uid: &Arc<str>, index: &Index) {
        let Some(view) = index.function(uid) else {
            self.remove(uid);
            return;
        };
        let wishes = &self.wishes.0;
        let entry = self.entries.entry(Arc::clone(uid)).or_insert_with(|| Entry::new(view, wishes));
        let timeouts = view.settings.timeouts;
        if entry.handle.timeouts() != timeouts {
            entry.handle.set_timeouts(timeouts);
        }
        entry.handle.set_rules(view.settings.rules);
        let limited = view.settings.bounds.concurrency.limit.is_some();
        entry.handle.shortcut().allow(!limited);
        if let Some(followed) = &entry.followed
            && let Some(observed) = index.observed(uid)
        {
            followed.observed.send_replace(Arc::new(observed));
        }
        if let Some((_, heir)) = &entry.heir {
            let heir = Owner::Peer(Arc::clone(heir));
            return self.give_up(uid, heir, index);
        }
        let owner = index.membership().owner(uid).map(|member| member.uid.as_str());
        match owner {
            Some(owner) if *owner == *self.me => self.hold(uid, index),
            Some(owner) => {
                let peer = self.members.get(owner).map(Arc::clone);
                self.give_up(uid, peer.map_or(Owner::Nobody, Owner::Peer), index);
            }
            None => self.give_up(uid, Owner::Nobody, index),
        }
    }

    /// Gives the Function to an activator that says that it owns it. Who is `patient` gets what is on
    /// its way to here, too.
    pub fn release(&mut self, release: Release, patient: bool, index: &Index) -> Step {
        let Release { function, version, to } = release;
        let known = index.membership();
        let owner = known.owner(&function).map(|member| &member.uid);
        let is_asking = self.entries.get(&function).is_some_and(Entry::is_asking);
        // Who is behind and would have to wait may be waited for itself.
        let behind = is_asking && known.version > version;
        if behind || (known.version >= version && owner != Some(&to.uid)) {
            return Step::Now(Handed::Refused { version: known.version });
        }
        let to = Arc::new(to);
        let others = self.entries.get_mut(&function).map(|entry| {
            if known.version < version {
                entry.heir = Some((version, Arc::clone(&to)));
            }
            entry.others()
        });
        self.give_up(&function, Owner::Peer(Arc::clone(&to)), index);
        let Some(entry) = self.entries.get_mut(&function) else {
            return Step::Now(Handed::Gave { estate: Estate::default(), gate: None });
        };
        if patient && let Some(gate) = entry.kept.as_ref().filter(|gate| gate.is_asking()) {
            return Step::Later(Arc::clone(gate));
        }
        let gate = entry.kept.take();
        let mut estate = gate.as_ref().map_or_else(Estate::default, Gate::hand_over);
        entry.unheard.clear();
        entry.gave_to = Some(Arc::from(to.uid.as_str()));
        estate.unheard.extend(others.into_iter().flatten());
        estate.unheard.retain(|uid| *uid != self.me && **uid != *to.uid);
        estate.unheard.sort();
        estate.unheard.dedup();
        estate.addresses = self.world.neighbours.addresses(&estate.unheard);
        Step::Now(Handed::Gave { estate, gate })
    }

    /// Hears of tasks that have ended and of Functions that are to be sent to straight. Returns when
    /// a task has ended that should not have, after another has taken its place.
    pub async fn mend(&mut self, index: &Index) {
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => match ended {
                    Ok((id, ())) => {
                        self.running.remove(&id);
                        self.count();
                    }
                    Err(error) => {
                        self.replace(&error, index);
                        return;
                    }
                },
                Some(ended) = self.following.join_next_with_id() => {
                    self.unfollow(ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                Some(uid) = self.wishes.1.recv() => self.follow(&uid, index, None),
                else => std::future::pending().await,
            }
        }
    }

    /// Follows the owner of the Function, if another has it: `gate` has what was sent before.
    fn follow(&mut self, uid: &Arc<str>, index: &Index, gate: Option<Arc<Gate>>) {
        let (Some(entry), Some(observed)) = (self.entries.get_mut(uid), index.observed(uid)) else {
            return;
        };
        let Owner::Peer(owner) = entry.handle.owner() else {
            return entry.handle.shortcut().close();
        };
        if entry.followed.is_some() {
            return;
        }
        let gate = gate.unwrap_or_else(|| Gate::new(observed.function.settings.bounds));
        gate.shut(Refusal::Moved);
        drop(self.world.metrics.meters.watch(&observed.function.key, uid, &gate));
        let (sender, receiver) = watch::channel(Arc::new(observed));
        let follow = Follow {
            handle: Arc::clone(&entry.handle),
            gate: Arc::clone(&gate),
            owner,
            me: Arc::clone(&self.me),
            observed: receiver,
            connect: Arc::clone(&self.world.connect),
        };
        let task = self.following.spawn(follow::run(follow));
        self.followed.insert(task.id(), Arc::clone(uid));
        entry.followed = Some(Followed { gate, observed: sender, task });
        self.count();
    }

    /// Forgets a task that followed.
    fn unfollow(&mut self, task: Id) {
        let uid = self.followed.remove(&task);
        if let Some(entry) = uid.and_then(|uid| self.entries.get_mut(&uid))
            && entry.followed.as_ref().is_some_and(|followed| followed.task.id() == task)
        {
            entry.followed = None;
            entry.handle.shortcut().close();
        }
        self.count();
    }

    fn hold(&mut self, uid: &Arc<str>, index: &Index) {
        let (Some(entry), Some(observed)) = (self.entries.get_mut(uid), index.observed(uid)) else {
            return;
        };
        let observed = Arc::new(observed);
        let neighbours = &self.world.neighbours;
        let bounds = observed.function.settings.bounds;
        let limited = bounds.concurrency.limit.is_some();
        if let Some(held) = &entry.held {
            if limited {
                held.gate.require_claims(|| neighbours.new_claim());
            }
            held.observed.send_replace(observed);
            return;
        }
        entry.handle.shortcut().close();
        let followed = entry.followed.take().map(|followed| Arc::clone(&followed.gate));
        let gate = entry.kept.take().or(followed).unwrap_or_else(|| Gate::new(bounds));
        gate.reopen();
        retire_gone(&gate, &observed);
        if limited {
            gate.require_claims(|| neighbours.new_claim());
        }
        let (sender, receiver) = watch::channel(Arc::clone(&observed));
        let task = Task {
            gate: Arc::clone(&gate),
            observed: receiver,
            instances: Arc::clone(&self.world.instances),
            reports: self.world.reports.clone(),
            metrics: self.world.metrics.of(&observed.function.key),
            neighbours: Arc::clone(neighbours),
            fresh: Arc::clone(&self.fresh),
            predecessors: predecessors(index.membership(), uid, entry, &self.me),
            others: index.membership().members.len() > 1 || !index.membership().previous.is_empty(),
            seat: self
                .world
                .namespaces
                .of(&observed.function.key.namespace)
                .map(|namespace| Seat::new(namespace, uid)),
            community: Arc::clone(&self.world.community),
        };
        entry.unheard.clear();
        let task = self.tasks.spawn(scaler::run(task)).id();
        self.running.insert(task, Arc::clone(uid));
        entry.held = Some(Held { gate: Arc::clone(&gate), observed: sender, task });
        entry.handle.set_owner(Owner::Here(gate));
        self.count();
    }

    /// Leaves the Function to `owner`. The handle comes first, so that those who wait and are
    /// turned away find the new owner.
    fn give_up(&mut self, uid: &Arc<str>, owner: Owner, index: &Index) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if entry.held.is_none() && is_same(&entry.handle.owner(), &owner) {
            return;
        }
        entry.handle.set_owner(owner);
        entry.handle.shortcut().close();
        let followed = entry.followed.take().map(|followed| Arc::clone(&followed.gate));
        if let Some(gate) = entry.leave().or(followed) {
            // The next owner must know what is in flight.
            self.follow(uid, index, Some(gate));
        }
    }

    fn remove(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else { return };
        if let Some(namespace) = self.world.namespaces.of(&entry.handle.key.namespace) {
            namespace.forget(uid);
        }
        self.world.metrics.meters.forget(uid);
        self.world.reports.forget_usage(uid);
        match entry.held {
            Some(held) => held.gate.shut(Refusal::Gone),
            None => entry.handle.set_owner(Owner::Here(gone())),
        }
    }

    fn replace(&mut self, error: &JoinError, index: &Index) {
        let Some(uid) = self.running.remove(&error.id()) else { return };
        tracing::error!(function = %uid, %error, "the task of a Function broke off, beginning anew");
        let Some(entry) = self.entries.get_mut(&uid) else { return };
        if entry.held.as_ref().is_some_and(|held| held.task == error.id()) {
            // Its requests stay counted.
            let left = entry.leave();
            entry.kept = entry.kept.take().or(left);
            self.hold(&uid, index);
        }
    }

    fn count(&self) {
        let count = |tasks: &HashMap<Id, Arc<str>>| i64::try_from(tasks.len()).unwrap_or(i64::MAX);
        self.world.metrics.owned.set(count(&self.running));
        self.world.metrics.followed.set(count(&self.followed));
    }
}

impl Entry {
    fn new(view: &FunctionView, wishes: &Wishes) -> Self {
        let (key, uid) = (view.key.clone(), Arc::clone(&view.uid));
        let handle = FunctionHandle::new(key, uid, view.settings.timeouts);
        handle.set_rules(view.settings.rules);
        handle.shortcut().send_wishes_to(wishes);
        Self {
            handle: Arc::new(handle),
            held: None,
            kept: None,
            heir: None,
            gave_to: None,
            unheard: Vec::new(),
            followed: None,
        }
    }

    /// Whether another was asked for the Function and has not answered.
    fn is_asking(&self) -> bool {
        let held = self.held.as_ref().map(|held| &held.gate);
        held.or(self.kept.as_ref()).is_some_and(|gate| gate.is_asking())
    }

    /// UIDs of those that may have something of the Function, where this activator has nothing or
    /// does not know all: whom it gave it to, and who owns it or owned it before, as far as it knows.
    fn others(&self) -> Vec<Arc<str>> {
        let has_gate = self.held.is_some() || self.kept.is_some();
        let elsewhere = self.gave_to.iter().cloned().chain(self.known_owner());
        elsewhere.filter(|_| !has_gate).chain(self.unheard.iter().cloned()).collect()
    }

    /// UID of the activator that owns it as far as is known here, if that is another.
    fn known_owner(&self) -> Option<Arc<str>> {
        match self.handle.owner() {
            Owner::Peer(member) => Some(Arc::from(member.uid.as_str())),
            Owner::Here(_) | Owner::Nobody => None,
        }
    }

    /// Owns the Function no longer. Who waits is turned away to ask where the handle says. Answers
    /// with the gate where requests are left that nobody will ask for.
    fn leave(&mut self) -> Option<Arc<Gate>> {
        let held = self.held.take()?;
        held.gate.shut(Refusal::Moved);
        if held.gate.has_claims() {
            self.kept = Some(held.gate);
            return None;
        }
        self.unheard = held.gate.unheard();
        (held.gate.own_in_flight() > 0).then_some(held.gate)
    }
}

/// Forgets pods that went while another owned the Function, but for what they still serve.
fn retire_gone(gate: &Arc<Gate>, observed: &Observed) {
    let there =
        |uid: &str| observed.pods.iter().any(|pod| &*pod.seen.uid == uid && !pod.seen.going);
    for pod in gate.load().pods.iter().filter(|pod| !there(&pod.uid)) {
        gate.retire(&pod.uid);
    }
}

/// UIDs of the activators that may have owned the Function before: the last that was known here, the
/// one that did by the membership before this one, and those that this activator knows of since it
/// had the Function last.
fn predecessors(membership: &Membership, uid: &str, entry: &Entry, me: &Arc<str>) -> Vec<Arc<str>> {
    let known = entry.known_owner().into_iter();
    let former = membership.former_owner(uid).map(|member| Arc::from(member.uid.as_str()));
    let earlier = entry.gave_to.iter().chain(&entry.unheard).cloned();
    let mut all: Vec<Arc<str>> = known.chain(former).chain(earlier).collect();
    all.retain(|member| *member != *me);
    all.sort();
    all.dedup();
    all
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
